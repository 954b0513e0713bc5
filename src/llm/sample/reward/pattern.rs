//! Regular expressions.

use fancy_regex::Regex;
use serde::{Deserialize, Serialize};

use super::{Candidate, Reward};
use crate::error::{Error, Result};
use crate::observer::Observer;

/// Settings of [`Pattern`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternSettings {
    /// The expression, in `fancy-regex`'s syntax: Rust's with look-around and back-references.
    pub pattern: String,
    /// True to count matches; else the reward is 1 if there is one.
    #[serde(default)]
    pub count: bool,
    /// Most matches that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u32>,
}

/// 1 where a regular expression matches somewhere in the completion, else 0; with `count`, the number
/// of matches that do not overlap, at most `cap`.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    count: bool,
    cap: u32,
}

impl Pattern {
    /// The reward of those settings.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub fn new(settings: &PatternSettings) -> Result<Self> {
        let PatternSettings {
            pattern,
            count,
            cap,
        } = settings;
        let regex = Regex::new(pattern).map_err(|e| {
            let remedy = "write \\ before a character that is meant as it is, such as \\( or \\.";
            Error::invalid(format!("regex `{pattern}`"), e.to_string(), remedy)
        })?;
        if cap.is_some() && !count {
            let remedy = "set count = true too, or leave it out";
            return Err(Error::invalid("cap", "only counts have one", remedy));
        }
        let (count, cap) = (*count, cap.unwrap_or(u32::MAX));
        Ok(Self { regex, count, cap })
    }

    fn one(&self, text: &str) -> std::result::Result<f64, fancy_regex::Error> {
        if !self.count {
            return Ok(f64::from(u8::from(self.regex.is_match(text)?)));
        }
        let mut found = 0;
        for each in self.regex.find_iter(text).take(self.cap as usize) {
            each?;
            found += 1;
        }
        Ok(f64::from(found))
    }
}

impl Reward for Pattern {
    fn name(&self) -> String {
        "regex".into()
    }

    fn score(&mut self, rows: &[Candidate], _: &dyn Observer) -> Result<Vec<f64>> {
        let score = |row: &Candidate| {
            self.one(row.completion).map_err(|e| {
                let remedy = "make it simpler: it takes too many steps on this completion";
                row.fault(format!("regex `{}`: {e}", self.regex.as_str()), remedy)
            })
        };
        rows.iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(pattern: &str, count: bool, cap: Option<u32>, text: &str) -> f64 {
        let pattern = pattern.into();
        let settings = PatternSettings {
            pattern,
            count,
            cap,
        };
        Pattern::new(&settings).unwrap().one(text).unwrap()
    }

    #[test]
    fn matches_and_counts() {
        assert_eq!(score(r"\bhap+y\b", false, None, "so happy, happy"), 1.0);
        assert_eq!(score(r"\bhap+y\b", true, None, "so happy, happy"), 2.0);
        assert_eq!(score("a", true, Some(2), "aaaa"), 2.0);
        assert_eq!(score("^(a+)$", false, None, "ab"), 0.0);
        assert_eq!(score("(?i)YES", false, None, "yes"), 1.0);
        assert_eq!(score("", true, None, "ab"), 3.0);
    }

    #[test]
    fn a_syntax_error_says_what_is_wrong() {
        let settings = PatternSettings {
            pattern: "(open".into(),
            count: false,
            cap: None,
        };
        let error = Pattern::new(&settings).unwrap_err().to_string();
        assert!(error.contains("regex `(open`"), "{error}");
    }
}
