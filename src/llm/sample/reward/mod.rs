//! Rewards: what says how good a completion is, be it a rule, a model or a program.
//!
//! ```text
//! flags, TOML → Specification → Weighted → Reward × several
//! ```

pub mod calibration;
mod command;
mod exact;
mod identify;
mod length;
mod lexicon;
mod model;
mod pattern;
mod process;
mod rows;
mod specification;
mod units;
mod weighted;
mod words;

use std::time::Duration;

use candle_core::{DType, Device};
use serde_json::{Map, Value};

pub(in crate::llm::sample) use command::Question;
pub use command::{Command, CommandSettings, Line, seconds_of};
pub use exact::Exact;
pub use length::{Length, LengthSettings, Unit};
pub use lexicon::{Lexicon, LexiconSettings, Measure as LexiconMeasure};
pub use model::{ModelSettings, ScoredTexts, Scores};
pub use pattern::{Pattern, PatternSettings};
pub use rows::{Rows, Slot, grouped};
pub use specification::{Part, Rule, Specification};
pub use units::words;
pub use weighted::{Scored, Weighted};
pub use words::{Measure as WordsMeasure, Words, WordsSettings};

use crate::error::{Error, Result};
use crate::observer::Observer;

/// A completion to be scored.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The prompt, as the model was given it.
    pub prompt: &'a str,
    /// The completion to be scored, without EOS.
    pub completion: &'a str,
    /// Row of the data, from 0, for messages.
    pub index: usize,
    /// The row's columns as they were read, among them what a right answer is.
    pub fields: &'a Map<String, Value>,
}

impl Candidate<'_> {
    /// An error about this row.
    pub fn fault(&self, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::invalid(format!("row {}", self.index + 1), problem, remedy)
    }
}

/// A number for every completion, the higher the better.
pub trait Reward {
    /// Name in reports.
    fn name(&self) -> String;

    /// The scores of those rows, in their order. What takes long tells the observer.
    ///
    /// # Errors
    /// Rows that it cannot score, or a model or program that fails. [`Weighted`] refuses numbers
    /// that are not finite or beyond 1e100 in size.
    fn score(&mut self, rows: &[Candidate], observer: &dyn Observer) -> Result<Vec<f64>>;
}

/// Resources that rewards run on.
#[derive(Debug, Clone)]
pub struct Resources {
    /// Device of reward models.
    pub device: Device,
    /// Precision of their weights and activations.
    pub dtype: DType,
    /// Most tokens that they are run on at once, but for a longer row alone.
    pub batch_tokens: usize,
    /// Time limit of a command: for its first answer, from one answer to the next, and from the last one to its end.
    pub timeout: Duration,
}

impl Default for Resources {
    /// The CPU, f32, 8192 tokens, 60 seconds.
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            dtype: DType::F32,
            batch_tokens: 8192,
            timeout: Duration::from_secs(60),
        }
    }
}
