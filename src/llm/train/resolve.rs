//! Settings that suit their objective.

use super::choices::{ReferenceSource, ValueNetwork};
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::objective::{Numbers, TextObjective};
use crate::llm::schedule::Schedule;
use crate::loss::Parameters;

impl Settings {
    /// The objective with its numbers.
    ///
    /// # Errors
    /// None, one that cannot be trained on text, or numbers that do not suit it.
    pub fn objective(&self) -> Result<TextObjective> {
        let Some(name) = &self.objective else {
            let known: Vec<_> = TextObjective::names().collect();
            let remedy = format!("name one of {}", known.join(", "));
            return Err(Error::invalid("objective", "it is missing", remedy));
        };
        let numbers = Numbers {
            parameters: Parameters {
                beta: self.beta,
                margin: self.margin,
            },
            baseline: self.baseline,
            weights: [self.desirable_weight, self.undesirable_weight],
            token_reduction: self.token_reduction,
        };
        TextObjective::new(name, numbers)
    }

    /// With the defaults that depend on the objective filled in, so that `config.toml` says them.
    ///
    /// # Errors
    /// Those of [`objective`](Self::objective), or a number that is out of range or has no use.
    pub fn resolve(mut self) -> Result<Self> {
        let objective = self.objective()?;
        let lr = match objective.reference() {
            true => 1e-6,
            false => 2e-5,
        };
        self.lr.get_or_insert(lr);
        if !objective.scores() {
            self.token_reduction
                .get_or_insert(objective.token_reduction());
        }
        if objective.value() && self.value == ValueNetwork::Separate {
            self.value_lr = self.value_lr.or(self.lr);
        }
        if self.lora_rank > 0 {
            self.lora_alpha.get_or_insert(2.0 * self.lora_rank as f64);
        }
        self.check(&objective)?;
        Ok(self)
    }

    fn check(&self, objective: &TextObjective) -> Result<()> {
        let finite = |place: &str, number: Option<f64>| match number {
            Some(n) if !n.is_finite() || n < 0.0 => Err(Error::invalid(
                place,
                format!("it is {n}"),
                "give a finite number, at least 0",
            )),
            _ => Ok(()),
        };
        let positive = |place: &str, number: u64| match number {
            0 => Err(Error::invalid(place, "it is 0", "give 1 or more")),
            _ => Ok(()),
        };
        let useless = |place: &str, given: bool, remedy: &str| match given {
            true => Err(Error::invalid(place, "nothing has a use for it", remedy)),
            false => Ok(()),
        };
        finite("lr", self.lr)?;
        finite("value_lr", self.value_lr)?;
        finite("clip", Some(self.clip))?;
        finite("epochs", Some(self.epochs))?;
        positive("epochs", self.epochs.ceil() as u64)?;
        positive("steps", self.steps.unwrap_or(1))?;
        positive("batch", self.batch as u64)?;
        positive("accumulation", self.accumulation as u64)?;
        positive("micro_batch_tokens", self.micro_batch_tokens as u64)?;
        positive("length_buckets", self.length_buckets.unwrap_or(1) as u64)?;
        positive("log_every", self.log_every)?;
        Schedule::new(self.schedule, self.warmup, 1)?;
        let (alone, another) = (
            self.value == ValueNetwork::Shared,
            matches!(self.reference, ReferenceSource::Model(_)),
        );
        let only_value = "only dro-v has a value network";
        useless("value", alone && !objective.value(), only_value)?;
        let separate = objective.value() && !alone;
        let only_separate = "only dro-v with a separate value network has one";
        useless(
            "value_lr",
            self.value_lr.is_some() && !separate,
            only_separate,
        )?;
        let no_reference = "the objective looks at no reference; leave it out";
        useless("reference", another && !objective.reference(), no_reference)?;
        let full = self.lora_rank == 0;
        let only_lora = "give a lora_rank too, or leave it out";
        useless("lora_alpha", full && self.lora_alpha.is_some(), only_lora)?;
        useless(
            "lora_targets",
            full && !self.lora_targets.is_empty(),
            only_lora,
        )
    }
}
