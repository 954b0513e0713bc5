//! The largest numbers that settings may have.

use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::model::architecture::most;
use crate::llm::sample::generate::SAMPLES;
use crate::magnitude::MAGNITUDE;

/// Most steps, passes, or examples in a batch.
pub const COUNT: u64 = 1_000_000_000;

/// Largest rank of an adapter: beyond it no matrix of a transformer is wider.
pub const RANK: u64 = most::RANK as u64;

/// Most resamples of a bootstrap interval.
pub const RESAMPLES: u64 = 10_000_000;

/// Most runs of a sweep.
pub const RUNS: u64 = 10_000;

/// Largest learning rate: a step of that size is about the largest number that f32 holds.
pub const RATE: f64 = 1e38;

/// A count from 1 to `most`, or an error about what `place` gives.
///
/// # Errors
/// 0, or more than `most`.
pub fn count(place: &str, found: u64, most: u64) -> Result<()> {
    if (1..=most).contains(&found) {
        return Ok(());
    }
    let remedy = if most == u64::MAX {
        "give 1 or more".into()
    } else {
        format!("give 1 or more, at most {most}")
    };
    Err(Error::invalid(place, format!("it is {found}"), remedy))
}

/// A number from `least` to `most`, or an error about what `place` gives.
///
/// # Errors
/// NaN, or a number that is out of the range.
pub fn number(place: &str, found: f64, [least, most]: [f64; 2]) -> Result<()> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let remedy = format!("give a finite number, at least {least} and at most {most:e}");
    let problem = format!("it is {}", crate::text::exact(found));
    Err(Error::invalid(place, problem, remedy))
}

impl Settings {
    /// An error unless every number is in its range, whatever the objective. Of those that say how
    /// often something is done or how much is kept, every one makes sense.
    ///
    /// # Errors
    /// The first that is not.
    pub fn limits(&self) -> Result<()> {
        for (place, found, range) in [
            ("lr", self.lr, [0.0, RATE]),
            ("value_lr", self.value_lr, [0.0, RATE]),
            ("weight_decay", Some(self.weight_decay), [0.0, 1e6]),
            ("adam_beta1", Some(self.adam_beta1), [0.0, 1.0]),
            ("adam_beta2", Some(self.adam_beta2), [0.0, 1.0]),
            ("adam_epsilon", Some(self.adam_epsilon), [0.0, 1.0]),
            ("clip", Some(self.clip), [0.0, MAGNITUDE]),
            ("epochs", Some(self.epochs), [0.0, COUNT as f64]),
            ("warmup", Some(self.warmup), [0.0, COUNT as f64]),
            ("lora_alpha", self.lora_alpha, [0.0, 1e6]),
            (
                "rehearse_weight",
                Some(self.rehearse_weight),
                [0.0, MAGNITUDE],
            ),
            (
                "eval_temperature",
                Some(self.eval_temperature),
                [0.0, MAGNITUDE],
            ),
        ] {
            found.map_or(Ok(()), |found| number(place, found, range))?;
        }
        for (place, found, most) in [
            ("epochs", self.epochs.ceil() as u64, COUNT),
            ("steps", self.steps.unwrap_or(1), COUNT),
            ("batch", self.batch as u64, COUNT),
            ("accumulation", self.accumulation as u64, COUNT),
            (
                "micro_batch_tokens",
                self.micro_batch_tokens as u64,
                u64::MAX,
            ),
            (
                "length_buckets",
                self.length_buckets.unwrap_or(1) as u64,
                COUNT,
            ),
            ("log_every", self.log_every, u64::MAX),
            ("rehearse_batch", self.rehearse_batch as u64, COUNT),
            ("generation_batch", self.generation_batch as u64, COUNT),
            ("lora_rank", self.lora_rank.max(1) as u64, RANK),
            (
                "members",
                self.members as u64,
                RANK / self.lora_rank.max(1) as u64,
            ),
            ("eval_samples", self.eval_samples as u64, SAMPLES as u64),
            (
                "eval_max_new_tokens",
                self.eval_max_new_tokens as u64,
                u64::MAX,
            ),
            ("eval_rows", self.eval_rows.unwrap_or(1) as u64, u64::MAX),
        ] {
            count(place, found, most)?;
        }
        self.adamw().check()
    }
}
