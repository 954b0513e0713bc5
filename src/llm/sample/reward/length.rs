//! Length of a completion as a reward.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::words;
use super::{Candidate, Reward};
use crate::error::{Error, Result};
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::Observer;

/// Unit of a length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Unit {
    /// Unicode scalar values.
    #[default]
    Characters,
    /// [Words](super::words).
    Words,
    /// Tokens of a tokenizer, without EOS.
    Tokens,
}

/// Settings of [`Length`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LengthSettings {
    /// Unit of the length.
    pub unit: Unit,
    /// Folder of the tokenizer, for tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// The length that is best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
    /// Cost of one unit more (or of one away from the target).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
    /// The length beyond which nothing changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
}

/// Reward of a length n, `n = min(length, cap)`: `n`; with a penalty p, `−p n`; with a target t too, `−p |n − t|` (p
/// is 1 if it is not given).
pub struct Length {
    settings: LengthSettings,
    tokenizer: Option<Tokenizer>,
}

impl Length {
    /// The reward of those settings.
    ///
    /// # Errors
    /// Tokens without a tokenizer, or numbers that are negative or not finite.
    pub fn new(settings: &LengthSettings) -> Result<Self> {
        let LengthSettings {
            unit, tokenizer, ..
        } = settings;
        let numbers = [
            ("target", settings.target),
            ("penalty", settings.penalty),
            ("cap", settings.cap),
        ];
        for (place, number) in numbers {
            if number.is_some_and(|n| !n.is_finite() || n < 0.0) {
                let problem = format!("it is {}", number.unwrap_or_default());
                return Err(Error::invalid(place, problem, "give a number, at least 0"));
            }
        }
        let tokenizer = match (unit, tokenizer) {
            (Unit::Tokens, Some(dir)) => Some(ModelFolder::tokenizer_of(dir)?),
            (Unit::Tokens, None) => {
                let remedy = "name the folder of a model: length,tokenizer=DIR:tokens";
                return Err(Error::invalid("tokenizer", "tokens need one", remedy));
            }
            (_, Some(_)) => {
                let remedy = "count tokens, or leave it out";
                return Err(Error::invalid(
                    "tokenizer",
                    "nothing has a use for it",
                    remedy,
                ));
            }
            _ => None,
        };
        let settings = settings.clone();
        Ok(Self {
            settings,
            tokenizer,
        })
    }

    fn length(&self, text: &str) -> Result<usize> {
        Ok(match (self.settings.unit, &self.tokenizer) {
            (Unit::Tokens, Some(tokenizer)) => tokenizer.encode(text)?.len(),
            (Unit::Words, _) => words(text).count(),
            _ => text.chars().count(),
        })
    }

    fn of(&self, length: usize) -> f64 {
        let s = &self.settings;
        let n = (length as f64).min(s.cap.unwrap_or(f64::INFINITY));
        match (s.target, s.penalty) {
            (None, None) => n,
            (None, Some(p)) => -p * n,
            (Some(t), p) => -p.unwrap_or(1.0) * (n - t).abs(),
        }
    }
}

impl Reward for Length {
    fn name(&self) -> String {
        "length".into()
    }

    fn score(&mut self, rows: &[Candidate], _: &dyn Observer) -> Result<Vec<f64>> {
        let score = |row: &Candidate| Ok(self.of(self.length(row.completion)?));
        rows.iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(settings: LengthSettings, text: &str) -> f64 {
        let length = Length::new(&settings).unwrap();
        length.of(length.length(text).unwrap())
    }

    #[test]
    fn targets_penalties_and_caps() {
        let plain = LengthSettings::default();
        assert_eq!(score(plain.clone(), "añb"), 3.0);
        let words = LengthSettings {
            unit: Unit::Words,
            cap: Some(2.0),
            ..plain.clone()
        };
        assert_eq!(score(words.clone(), "one two three"), 2.0);
        assert_eq!(score(words, "one"), 1.0);
        let short = LengthSettings {
            penalty: Some(0.5),
            ..plain.clone()
        };
        assert_eq!(score(short, "abcd"), -2.0);
        let target = LengthSettings {
            target: Some(3.0),
            ..plain
        };
        assert_eq!(score(target.clone(), "abcde"), -2.0);
        let steep = LengthSettings {
            penalty: Some(2.0),
            ..target
        };
        assert_eq!(score(steep.clone(), "a"), -4.0);
        assert_eq!(score(steep, "abc"), 0.0);
    }
}
