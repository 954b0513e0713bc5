//! Reward models.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Candidate, Resources, Reward};
use crate::error::{Error, Result};
use crate::llm::model::heads::{AdvantageScorer, ScalarHead, Scorer};
use crate::llm::model::inference;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::model::network::{Network, Reduction};
use crate::llm::model::sequence::Sequence;
use crate::llm::text::data::columns::{self, Completion};
use crate::llm::text::data::tokenise::{RowRules, Tokeniser};
use crate::llm::text::data::values::Fault;
use crate::llm::text::example::Beside;
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::Observer;

/// Rows that are scored before the progress bar moves.
const BLOCK: usize = 64;

/// Settings of [`Scores`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// Folder of a body and a reward head, of an adapter with one, or of the run of either.
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
    /// Of an Advantage Model r(x, y) in place of a(x, y) = r(x, y) − e(x).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
}

/// The scores of a reward model, as `pistar train reward-model` (or `advantage-model-distinct`) saves
/// it: the number of its head at the last token of `BOS prompt completion EOS`; of an Advantage Model with two heads
/// less that of the other at the last token of the prompt.
pub struct Scores {
    network: Box<dyn Network>,
    rows: ScoredTexts,
    micro_batch: usize,
}

/// Rows of prompt and completion to the sequences that a reward model reads: `BOS prompt completion EOS`.
pub struct ScoredTexts(Tokeniser);

impl ScoredTexts {
    /// For a model that takes `context` tokens.
    ///
    /// # Errors
    /// A tokenizer without EOS, or lengths that leave no room.
    pub fn new(tokenizer: Tokenizer, context: usize, lengths: RowRules) -> Result<Self> {
        Ok(Self(Tokeniser::new(Arc::new(tokenizer), context, lengths)?))
    }

    /// The sequence of a row.
    ///
    /// # Errors
    /// A row that has no tokens or too many.
    pub fn sequence(&self, row: &Candidate) -> Result<Sequence> {
        let text = columns::TextRow {
            prompt: Some(row.prompt.to_owned()),
            completions: vec![Completion {
                column: "completion".into(),
                text: row.completion.to_owned(),
                reward: 0.0,
                weights: None,
                stored: None,
            }],
            rendered: false,
            beside: Beside::default(),
        };
        let made = self.0.example(row.index as u64, &text);
        let (mut example, _) = made.map_err(|Fault { problem, remedy }| {
            row.fault(problem, remedy.replace("set ", "set the reward's "))
        })?;
        Ok(example.responses.swap_remove(0).sequence)
    }
}

impl ModelSettings {
    /// Where the model is.
    ///
    /// # Errors
    /// As [`ModelFolder::find`].
    pub(in crate::llm::sample) fn find(&self) -> Result<ModelFolder> {
        match &self.base {
            Some(base) => ModelFolder::on(base, &self.folder),
            None => ModelFolder::find(&self.folder),
        }
    }
}

impl Scores {
    /// The model in a folder.
    ///
    /// # Errors
    /// A folder that holds no model with a reward head, or no tokenizer.
    pub fn load(settings: &ModelSettings, resources: &Resources) -> Result<Self> {
        let found = settings.find()?;
        let mut decoder = found.body(resources.dtype, &resources.device)?;
        // An adapter brings its reward head along.
        if !ScalarHead::Reward.is_on(&decoder) {
            let Some(dir) = found.holding(ScalarHead::Reward)? else {
                let place = found.folder.display().to_string();
                let problem = "it has no reward head (score.weight)";
                let remedy = "name a run of `pistar train reward-model`, its model/, or a \
                              …ForSequenceClassification of one label";
                return Err(Error::invalid(place, problem, remedy));
            };
            ScalarHead::Reward.load(&mut decoder, dir)?;
        }
        let expected = found.holding(ScalarHead::Expected)?;
        if settings.raw && expected.is_none() {
            let problem = format!(
                "`{}` has one head ({}), whose number is the score",
                found.folder.display(),
                ScalarHead::Reward.names()[0]
            );
            return Err(Error::invalid("raw", problem, "leave it out"));
        }
        let tokenizer = found.tokenizer()?;
        tokenizer.fits(decoder.sizes().vocabulary)?;
        let lengths = RowRules {
            max_length: settings.max_length,
            max_prompt_length: settings.max_prompt_length,
            allow_empty: true,
            strict_boundaries: false,
        };
        let context = decoder.sizes().context;
        let network: Box<dyn Network> = match expected.filter(|_| !settings.raw) {
            None => Box::new(Scorer {
                decoder,
                head: ScalarHead::Reward,
            }),
            Some(dir) => {
                ScalarHead::Expected.load(&mut decoder, dir)?;
                Box::new(AdvantageScorer(decoder))
            }
        };
        Ok(Self {
            rows: ScoredTexts::new(tokenizer, context, lengths)?,
            network,
            micro_batch: resources.batch_tokens.max(1),
        })
    }

    /// Those of a network in memory, run on at most so many tokens at once: a [`Scorer`] or an [`AdvantageScorer`].
    pub fn of(network: Box<dyn Network>, rows: ScoredTexts, micro_batch: usize) -> Self {
        Self {
            network,
            rows,
            micro_batch,
        }
    }
}

impl Reward for Scores {
    fn name(&self) -> String {
        "model".into()
    }

    fn score(&mut self, rows: &[Candidate], observer: &dyn Observer) -> Result<Vec<f64>> {
        let work = observer.begin("reward model", rows.len() as u64);
        let mut scores = Vec::with_capacity(rows.len());
        for block in rows.chunks(BLOCK) {
            let sequences: Vec<_> = block
                .iter()
                .map(|r| self.rows.sequence(r))
                .collect::<Result<_>>()?;
            let numbers =
                inference::numbers(&*self.network, Reduction::Sum, &sequences, self.micro_batch)?;
            if numbers.values.is_empty() {
                scores.extend(numbers.sequences);
            } else {
                let each = numbers.sequences.iter().zip(&numbers.values);
                scores.extend(each.map(|(score, expected)| score - expected));
            }
            work.advance(block.len() as u64);
        }
        Ok(scores)
    }
}
