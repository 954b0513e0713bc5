//! Judges: what says which of two completions of a prompt is the better one, be it a program or a model.
//!
//! ```text
//! flags → JudgeSettings → Judge → Duel × pairs of entrants → Judged (shares, intervals)
//! ```

mod causal;
mod duel;
mod program;
mod scored;
mod settings;
mod shares;
mod template;

pub use causal::{Causal, LABELS, labels};
pub use duel::{Duel, JudgedPair, Outcome, duels};
pub use program::Program;
pub use scored::ByScore;
pub use settings::JudgeSettings;
pub use shares::Judged;
pub use template::{TEMPLATE, Template};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::observer::Observer;

/// Two completions of a prompt, in the order in which a judge is shown them.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The prompt, as the models were given it.
    pub prompt: &'a str,
    /// The completion that is shown first, without EOS.
    pub a: &'a str,
    /// The one that is shown second.
    pub b: &'a str,
    /// Row of the prompt in its file, from 0, for messages.
    pub index: usize,
    /// The row's columns as they were read.
    pub fields: &'a Map<String, Value>,
}

impl Pair<'_> {
    /// An error about this pair.
    fn fault(&self, problem: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::invalid(format!("row {}", self.index + 1), problem, remedy)
    }
}

/// A judge's word on a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The one shown first is better.
    A,
    /// The one shown second is.
    B,
    /// Neither is.
    Tie,
}

impl Verdict {
    /// The one with the greater number; a tie where they are equal.
    pub fn greater(a: f64, b: f64) -> Self {
        if a > b {
            Self::A
        } else if b > a {
            Self::B
        } else {
            Self::Tie
        }
    }
}

/// Says of every pair which completion is better.
pub trait Judge {
    /// Name in reports.
    fn name(&self) -> String;

    /// The verdicts on those pairs, in their order. What takes long tells the observer.
    ///
    /// # Errors
    /// Pairs that it cannot judge, or a model or program that fails.
    fn verdicts(&mut self, pairs: &[Pair], observer: &dyn Observer) -> Result<Vec<Verdict>>;
}
