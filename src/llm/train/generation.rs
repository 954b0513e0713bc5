//! Evaluation by what the policy writes: rewards, and the distance from the reference.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::completions;
use super::evaluation::Evaluation;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::file::write_whole;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::inference;
use crate::llm::model::network::Reduction;
use crate::llm::model::sequence::Sequence;
use crate::llm::sample::generate::{Generated, Prompt, Sampling, generate};
use crate::llm::sample::reward::{Specification, Weighted};
use crate::llm::text::objective::TextObjective;
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::Observer;

const SCORES: &str = "objective/scores";
const KL: &str = "objective/kl";
const ENTROPY: &str = "objective/entropy";
const REGULARISED: &str = "objective/rlhf_reward";
const LENGTH: &str = "completions/mean_length";
const CUT: &str = "completions/clipped_ratio";

/// Folder of what was written at evaluations, in a run's.
pub(super) const FOLDER: &str = "evaluations";

/// Completions of the same prompts with the same random streams every time.
pub(super) struct Generation {
    tokenizer: Tokenizer,
    prompts: Vec<Prompt>,
    reward: Option<Weighted>,
    sampling: Sampling,
    seed: u64,
    micro_batch: usize,
    /// Sequences that are generated at once.
    batch: usize,
    beta: f64,
    names: Vec<String>,
    /// The run's folder.
    dir: PathBuf,
    /// Reference model that KL is measured against.
    pub reference: Option<Decoder>,
}

impl Generation {
    /// Completions of the prompts, judged by the reward, if the settings ask for any; loads what the
    /// reward needs.
    pub fn new(
        settings: &Settings,
        objective: &TextObjective,
        tokenizer: &Path,
        prompts: Vec<Prompt>,
        reward: Option<&Specification>,
        dir: &Path,
    ) -> Result<Option<Self>> {
        if settings.eval_prompts.is_none() {
            return Ok(None);
        }
        let tokenizer = Tokenizer::load(tokenizer)?;
        let build = |reward: &Specification| reward.build(&settings.resources()?);
        let reward = reward.map(build).transpose()?;
        Ok(Some(Self {
            tokenizer,
            prompts,
            reward,
            sampling: sampling(settings),
            seed: settings.eval_seed,
            micro_batch: settings.micro_batch_tokens,
            batch: settings.generation_batch,
            beta: objective.beta(),
            names: names(settings, objective),
            dir: dir.to_path_buf(),
            reference: None,
        }))
    }

    /// True if a reference is needed.
    pub fn wants_reference(&self) -> bool {
        self.names.iter().any(|name| name == KL)
    }

    /// Keeps what was written after `step` steps, to be read: a line a completion.
    fn keep(
        &self,
        step: u64,
        texts: &[String],
        found: &[Generated],
        scores: Option<&[f64]>,
    ) -> Result<()> {
        let samples = self.sampling.samples;
        let lines = (texts.iter().zip(found).enumerate()).map(|(i, (text, one))| {
            let mut row = json!({
                "prompt": self.prompts[i / samples].text, "completion": text,
                "tokens": one.tokens.len(), "ended": one.ended,
            });
            if let Some(scores) = scores {
                row["score"] = scores[i].into();
            }
            format!("{row}\n")
        });
        let folder = self.dir.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        let lines: String = lines.collect();
        write_whole(
            &folder.join(format!("step-{step:06}.jsonl")),
            lines.as_bytes(),
        )
    }

    /// The mean of `ln π/π_ref` over completions drawn from π: an estimate of KL(π‖π_ref), the
    /// texts cut where they are cut.
    fn kl(&self, found: &[Generated]) -> Result<Option<f64>> {
        let Some(reference) = self.reference.as_ref().filter(|_| self.wants_reference()) else {
            return Ok(None);
        };
        let mut sequences = Vec::with_capacity(found.len());
        for (i, one) in found.iter().enumerate() {
            let prompt = &self.prompts[i / self.sampling.samples].tokens;
            sequences.push(Sequence::new(
                [prompt, &one.tokens[..]].concat(),
                prompt.len(),
            )?);
        }
        let theirs = inference::numbers(reference, Reduction::Sum, &sequences, self.micro_batch)?;
        let ratios = found
            .iter()
            .zip(&theirs.sequences)
            .map(|(one, log)| one.log_prob - log);
        Ok(Some(mean(&ratios.collect::<Vec<_>>())))
    }
}

impl Evaluation for Generation {
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn run(
        &mut self,
        policy: &Decoder,
        step: u64,
        observer: &dyn Observer,
    ) -> Result<Vec<(String, f64)>> {
        let tokens: Vec<Vec<u32>> = self.prompts.iter().map(|p| p.tokens.clone()).collect();
        let ends = self.tokenizer.ends();
        let found = generate(
            policy,
            ends,
            &tokens,
            &self.sampling,
            self.seed,
            self.batch,
            observer,
        )?;
        let (prompts, samples) = (&self.prompts, self.sampling.samples);
        let prompt = |i: usize| (i, &prompts[i]);
        let texts = completions::texts(&self.tokenizer, prompt, samples, &found)?;
        let scores = (self.reward.as_mut())
            .map(|reward| completions::scores(reward, prompt, samples, &texts, observer))
            .transpose()?;
        let kl = self.kl(&found)?;
        self.keep(step, &texts, &found, scores.as_deref())?;
        let scores = scores.as_deref().map(mean);
        let over = |of: &dyn Fn(&Generated) -> f64| mean(&found.iter().map(of).collect::<Vec<_>>());
        let all = [
            (SCORES, scores),
            (KL, kl),
            (ENTROPY, Some(over(&|one| one.entropy))),
            (
                REGULARISED,
                scores.zip(kl).map(|(reward, kl)| reward - self.beta * kl),
            ),
            (LENGTH, Some(over(&|one| one.tokens.len() as f64))),
            (CUT, Some(over(&|one| f64::from(!one.ended)))),
        ];
        let told = |(name, value): (&str, Option<f64>)| {
            let asked = self.names.iter().any(|known| known == name);
            value
                .filter(|_| asked)
                .map(|value| (name.to_string(), value))
        };
        Ok(all.into_iter().filter_map(told).collect())
    }
}

/// The names that such an evaluation has by these settings, without `eval_`. Entropy and KL are
/// those of the policy only where texts are drawn from it as it is.
pub(super) fn names(settings: &Settings, objective: &TextObjective) -> Vec<String> {
    if settings.eval_prompts.is_none() {
        return Vec::new();
    }
    let reward = !settings.eval_reward.is_empty();
    let plain = settings.eval_temperature == 1.0;
    let kl = plain && objective.reference();
    let all = [
        (SCORES, reward),
        (KL, kl),
        (ENTROPY, plain),
        (REGULARISED, reward && kl),
        (LENGTH, true),
        (CUT, true),
    ];
    let told = all.into_iter().filter(|(_, told)| *told);
    told.map(|(name, _)| name.to_string()).collect()
}

impl Settings {
    /// True if evaluations measure KL to a reference of their own.
    pub(in crate::llm) fn evaluates_kl(&self, objective: &TextObjective) -> bool {
        names(self, objective).iter().any(|name| name == KL)
    }
}

/// How texts are drawn.
pub(super) fn sampling(settings: &Settings) -> Sampling {
    Sampling {
        temperature: settings.eval_temperature,
        max_new_tokens: settings.eval_max_new_tokens,
        samples: settings.eval_samples,
        ..Sampling::default()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Refuses numbers and rewards that cannot be, before anything is read.
pub(super) fn check(settings: &Settings, objective: &TextObjective) -> Result<()> {
    let useless =
        |place: &str, remedy: &str| Err(Error::invalid(place, "nothing has a use for it", remedy));
    if settings.eval_prompts.is_none() {
        return if settings.eval_reward.is_empty() {
            Ok(())
        } else {
            useless("eval_reward", "give eval_prompts too, or leave it out")
        };
    }
    if objective.scores() {
        return useless(
            "eval_prompts",
            "what gives scores writes no text; leave it out",
        );
    }
    if !settings.eval_reward.is_empty() {
        Specification::parse(&settings.eval_reward).map_err(|e| e.in_file("eval_reward"))?;
    }
    sampling(settings).check().map_err(|e| match e {
        Error::Invalid {
            place,
            problem,
            remedy,
        } => Error::invalid(format!("eval_{place}"), problem, remedy),
        other => other,
    })
}
