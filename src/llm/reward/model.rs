//! Reward models.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Resources, Reward, Row};
use crate::error::{Error, Result};
use crate::llm::data::columns::{self, Completion};
use crate::llm::data::file::progress_bar;
use crate::llm::data::tokenise::{Settings as Lengths, Tokeniser};
use crate::llm::data::values::Fault;
use crate::llm::decoder::Decoder;
use crate::llm::heads::{ScalarHead, Scorer};
use crate::llm::lora::AdapterConfig;
use crate::llm::network::Reduction;
use crate::llm::sequence::Sequence;
use crate::llm::step;
use crate::llm::tokenizer::Tokenizer;
use crate::llm::weights::Checkpoint;

/// Rows that are scored before the progress bar moves.
const BLOCK: usize = 64;

/// Settings of [`Scores`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Folder of a body and a reward head, or of an adapter with one.
    pub folder: PathBuf,
    /// The base of an adapter, if it is not where the adapter says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// Most tokens of prompt and completion: longer completions lose their end. Without it, they are
    /// errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Most tokens of a prompt: longer ones lose their beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prompt_length: Option<usize>,
}

/// The scores of a reward model, as `pistar train reward-model` (or `advantage-model-distinct`) saves
/// it: the number of its head at the last token of `BOS prompt completion EOS`.
pub struct Scores {
    network: Scorer,
    tokeniser: Tokeniser,
    micro_batch: usize,
}

impl Scores {
    /// The model in a folder.
    ///
    /// # Errors
    /// A folder that holds no model with a reward head, or no tokenizer.
    pub fn load(settings: &Settings, resources: &Resources) -> Result<Self> {
        let dir = &settings.folder;
        let (decoder, companions) = match dir.join("adapter_config.json").exists() {
            true => adapted(settings, resources)?,
            false => {
                let place = dir.display().to_string();
                if !dir.is_dir() {
                    let problem = "there is no such folder";
                    return Err(Error::invalid(
                        place,
                        problem,
                        "name that of a reward model",
                    ));
                }
                if !Checkpoint::open(dir)?.has(ScalarHead::Reward.names()[0]) {
                    let problem = "it has no reward head (score.weight)";
                    let remedy = "name the model/ that `pistar train reward-model` saved, or a \
                                  …ForSequenceClassification of one label";
                    return Err(Error::invalid(place, problem, remedy));
                }
                let mut decoder = Decoder::load_body(dir, resources.dtype, &resources.device)?;
                ScalarHead::Reward.load(&mut decoder, dir)?;
                (decoder, dir.clone())
            }
        };
        let tokenizer = match dir.join("tokenizer.json").exists() {
            true => Tokenizer::load(dir)?,
            false => Tokenizer::load(companions)?,
        };
        tokenizer.fits(decoder.architecture().vocabulary)?;
        let lengths = Lengths {
            max_length: settings.max_length,
            max_prompt_length: settings.max_prompt_length,
            allow_empty: true,
            strict_boundaries: false,
        };
        let context = decoder.architecture().context;
        Ok(Self {
            tokeniser: Tokeniser::new(Arc::new(tokenizer), context, lengths)?,
            network: Scorer {
                decoder,
                head: ScalarHead::Reward,
            },
            micro_batch: resources.batch_tokens.max(1),
        })
    }

    fn sequence(&self, row: &Row) -> Result<Sequence> {
        let text = columns::Row {
            prompt: Some(row.prompt.to_owned()),
            completions: vec![Completion {
                column: "completion".into(),
                text: row.completion.to_owned(),
                reward: 0.0,
                weights: None,
            }],
            rendered: false,
            margin: 0.0,
        };
        let made = self.tokeniser.example(row.index as u64, &text);
        let (mut example, _) = made.map_err(|Fault { problem, remedy }| {
            row.fault(problem, remedy.replace("set ", "set the reward's "))
        })?;
        Ok(example.responses.swap_remove(0).sequence)
    }
}

/// An adapter on its base, which is frozen.
fn adapted(settings: &Settings, resources: &Resources) -> Result<(Decoder, PathBuf)> {
    let dir = &settings.folder;
    let config = AdapterConfig::read(&dir.join("adapter_config.json"))?;
    let place = dir.display().to_string();
    let base = (settings.base.clone()).or_else(|| config.base.as_ref().map(PathBuf::from));
    let Some(base) = base else {
        let problem = "the adapter does not say what its base is";
        return Err(Error::invalid(
            place,
            problem,
            "name it: model,base=DIR:ADAPTER",
        ));
    };
    if !Path::new(&base).is_dir() {
        let problem = format!("its base `{}` is no folder here", base.display());
        return Err(Error::invalid(
            place,
            problem,
            "name it: model,base=DIR:ADAPTER",
        ));
    }
    let mut decoder = Decoder::load_body(&base, resources.dtype, &resources.device)?;
    decoder.load_adapter(dir)?;
    if ScalarHead::of(&decoder) != Some(ScalarHead::Reward) {
        let problem = "the adapter has no reward head (score.weight)";
        let remedy = "name the model/ that `pistar train reward-model` saved";
        return Err(Error::invalid(place, problem, remedy));
    }
    Ok((decoder, base))
}

impl Reward for Scores {
    fn name(&self) -> String {
        "model".into()
    }

    fn score(&mut self, rows: &[Row]) -> Result<Vec<f64>> {
        let bar = progress_bar("reward model", rows.len() as u64);
        let mut scores = Vec::with_capacity(rows.len());
        for block in rows.chunks(BLOCK) {
            let sequences: Vec<_> = block
                .iter()
                .map(|r| self.sequence(r))
                .collect::<Result<_>>()?;
            let numbers =
                step::numbers(&self.network, Reduction::Sum, &sequences, self.micro_batch)?;
            scores.extend(numbers.sequences);
            bar.inc(block.len() as u64);
        }
        bar.finish_and_clear();
        Ok(scores)
    }
}
