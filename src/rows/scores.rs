//! Scores of algorithms on tasks, a line of JSON each: written by `evaluate` and studies, read by `aggregate`.

use serde::{Deserialize, Serialize};

/// A name, or a number as one.
#[derive(Serialize, Deserialize, Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[serde(from = "serde_json::Value")]
pub struct Name(pub String);

impl From<serde_json::Value> for Name {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(name) => Self(name),
            other => Self(other.to_string()),
        }
    }
}

/// A score that a run came to.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Score {
    /// The algorithm; none in a file of one.
    #[serde(default)]
    pub algorithm: Name,
    /// What it was asked to do.
    pub task: Name,
    /// The run among those of one algorithm on one task.
    pub seed: Name,
    /// The number.
    pub score: f64,
    /// What it is a number of, for who reads the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

impl Score {
    /// The line, with its end.
    ///
    /// # Errors
    /// A score that JSON has no number for.
    pub fn line(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}
