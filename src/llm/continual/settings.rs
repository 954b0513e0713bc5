//! What a sequence of tasks is learned by.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::tasks::Tasks;
use crate::continual::Method;
use crate::continual::hooks::PlateauWindow;
use crate::error::{Error, Result};
use crate::llm::files::settings::{Flag, settings};
use crate::llm::train::Ascent;
use crate::llm::train::limits::{COUNT, count};
use crate::text::suggestion;

settings! {
    /// The flags of `pistar continual`.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Settings {
        given(Flag::Positional) {
            /// Method: `pistar continual --list` names them
            method: Option<String> = None;
        }
        heading("Input and output") {
            /// The sequence of tasks: a TOML file
            tasks: Option<PathBuf> = None, value_name: Some("FILE");
            /// Folder of the model that the sequence starts from
            model: Option<PathBuf> = None, value_name: Some("DIR");
            /// Folder to write to [default: out/continual-METHOD]
            [serde(skip_serializing)] out: Option<PathBuf> = None, value_name: Some("DIR");
            /// Go on with the sequence in the folder
            [serde(skip_serializing)] resume: bool = false;
            /// Replace another sequence in the folder
            [serde(skip_serializing)] overwrite: bool = false;
        }
        heading("Method") {
            /// Share of each task's prompts that is kept for later tasks, at least one prompt unless 0
            replay: f64 = 0.05, value_name: Some("SHARE");
            /// Rows of what is kept in a step, of each old task or of all
            replay_batch: usize = 8, value_name: Some("COUNT");
            /// Weight of what is kept beside the task's own data, where a method replays it
            replay_weight: f64 = 1.0, value_name: Some("WEIGHT");
            /// Strength of the pull at parameters: L2, EWC, MAS, TFCL
            pull: f64 = 1.0, value_name: Some("STRENGTH");
            /// Weight of LwF's distillation
            distillation: f64 = 1.0, value_name: Some("WEIGHT");
            /// Temperature T of the predictions that it keeps
            teacher_temperature: f64 = 2.0, value_name: Some("TEMPERATURE");
            /// Weight of DER++'s distance from stored logits
            matching: f64 = 0.01, value_name: Some("WEIGHT");
            /// Weight of DER++'s likelihood of what is kept
            rehearsal: f64 = 1.0, value_name: Some("WEIGHT");
            /// λ of each constraint of copr at the start of every task
            multiplier_start: f64 = Ascent::default().start, value_name: Some("LAMBDA");
            /// α, the rate at which the logarithms of these multipliers rise; 0 holds them
            multiplier_rate: f64 = Ascent::default().rate, value_name: Some("ALPHA");
            /// Maximum of a multiplier
            multiplier_cap: f64 = Ascent::default().cap, value_name: Some("LAMBDA");
            /// Share of the past in the average of a constraint's violation, which is measured on batches
            multiplier_decay: f64 = Ascent::default().decay, value_name: Some("SHARE");
            /// Losses that tfcl looks at to find whether training has come to rest
            plateau_window: usize = PlateauWindow::default().length, value_name: Some("STEPS");
            /// Mean of these losses below which it may have
            plateau_mean: f64 = PlateauWindow::default().mean, value_name: Some("LOSS");
            /// Their variance below which it may have
            plateau_variance: f64 = PlateauWindow::default().variance, value_name: Some("VARIANCE");
        }
        heading("Training") {
            /// Setting of every task's training, as in `pistar train`, such as lr=1e-4; over those of the file's table
            /// `train`; may be repeated
            set: Vec<String> = Vec::new(), value_name: Some("FIELD=VALUE");
            /// Seed of all random streams
            seed: u64 = 0;
        }
        heading("Accuracy") {
            /// Steps between two measurements of all tasks; 0 for the end of each task only
            every: u64 = 0, value_name: Some("STEPS");
            /// Completions of each held-out prompt
            samples: usize = 1, value_name: Some("COUNT");
            /// Maximum tokens of a completion, EOS included
            max_new_tokens: usize = 128, value_name: Some("TOKENS");
            /// Sampling temperature of these completions; 0 is greedy
            temperature: f64 = 1.0, value_name: Some("TEMPERATURE");
        }
    }
}

impl Settings {
    /// The method.
    ///
    /// # Errors
    /// One that is missing or not known.
    pub fn method(&self) -> Result<Method> {
        let names = || Method::ALL.iter().map(|method| method.name);
        let Some(name) = &self.method else {
            let remedy = format!("name one: {}", names().collect::<Vec<_>>().join(", "));
            return Err(Error::invalid("method", "it is missing", remedy));
        };
        Method::named(name).ok_or_else(|| {
            Error::invalid(
                "method",
                format!("`{name}` is not known"),
                suggestion(name, names()),
            )
        })
    }

    /// How multipliers move.
    pub fn ascent(&self) -> Ascent {
        Ascent {
            start: self.multiplier_start,
            rate: self.multiplier_rate,
            cap: self.multiplier_cap,
            decay: self.multiplier_decay,
            from_zero: false,
        }
    }

    /// # Errors
    /// A number out of range.
    pub fn check(&self) -> Result<()> {
        let fail = |place: &str, value: f64, remedy: &str| {
            Err(Error::invalid(place, format!("it is {value}"), remedy))
        };
        if !(0.0..=1.0).contains(&self.replay) {
            return fail("replay", self.replay, "give a share from 0 to 1");
        }
        for (place, value) in [
            ("replay_weight", self.replay_weight),
            ("pull", self.pull),
            ("distillation", self.distillation),
            ("matching", self.matching),
            ("rehearsal", self.rehearsal),
            ("plateau_variance", self.plateau_variance),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return fail(place, value, "give a finite number, 0 or greater");
            }
        }
        if !(self.teacher_temperature > 0.0 && self.teacher_temperature.is_finite()) {
            let value = self.teacher_temperature;
            return fail("teacher_temperature", value, "give a finite number above 0");
        }
        if self.plateau_mean.is_nan() {
            return fail("plateau_mean", self.plateau_mean, "give a number");
        }
        for (place, value) in [
            ("replay_batch", self.replay_batch),
            ("plateau_window", self.plateau_window),
            ("samples", self.samples),
            ("max_new_tokens", self.max_new_tokens),
        ] {
            count(place, value as u64, COUNT)?;
        }
        self.ascent().check()
    }

    /// The sequence of tasks in its file.
    ///
    /// # Errors
    /// None given, or one that cannot be used.
    pub fn sequence(&self) -> Result<Tasks> {
        match &self.tasks {
            Some(file) => Tasks::read(file),
            None => Err(Error::invalid(
                "tasks",
                "it is missing",
                "give a TOML file with a table [[task]] for each: `pistar continual --help`",
            )),
        }
    }
}
