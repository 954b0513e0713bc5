//! Whether a completion's answer is the right one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Reward, Row};
use crate::error::{Error, Result};

/// `right` where the completion's answer equals that of a column of the row, else `wrong`.
///
/// An answer is what follows the last marker, up to the end of the line and without space around it;
/// without a marker in the settings, the whole text. A column that has no marker in it is an answer
/// as it stands; a completion that has none is wrong.
///
/// With `numbers` (the default), answers that are numbers are compared as numbers: a leading currency
/// sign (`$`, `€`, `£`), a final `%` or full stop, spaces and commas between digits are left away, so
/// that `$1,234.50.` is `1234.5`. All others are compared as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exact {
    /// The column with the right answer.
    pub column: String,
    /// What stands before an answer, such as GSM8K's `####`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
    /// Whether numbers are compared as such.
    #[serde(default = "yes")]
    pub numbers: bool,
    /// Whether `A` and `a` differ.
    #[serde(default = "yes")]
    pub case_sensitive: bool,
    /// Score of a right answer.
    #[serde(default = "one")]
    pub right: f64,
    /// Score of a wrong or missing one.
    #[serde(default)]
    pub wrong: f64,
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

impl Exact {
    /// With the defaults.
    pub fn new(column: impl Into<String>, marker: Option<String>) -> Self {
        Self {
            column: column.into(),
            marker,
            numbers: true,
            case_sensitive: true,
            right: 1.0,
            wrong: 0.0,
        }
    }

    pub(super) fn check(self) -> Result<Self> {
        match self.marker.as_deref().map(str::trim) {
            Some("") => Err(Error::invalid(
                "marker",
                "it is empty",
                "give one such as ####, or leave it out to compare whole texts",
            )),
            _ => Ok(self),
        }
    }

    /// What follows the last marker; none if there is no marker in the text.
    fn answer<'t>(&self, text: &'t str) -> Option<&'t str> {
        let Some(marker) = &self.marker else {
            return Some(text.trim());
        };
        let (_, rest) = text.rsplit_once(marker.as_str())?;
        Some(rest.trim_start().lines().next().unwrap_or("").trim())
    }

    fn equal(&self, a: &str, b: &str) -> bool {
        if let (true, Some(a), Some(b)) = (self.numbers, number(a), number(b)) {
            return a == b;
        }
        match self.case_sensitive {
            true => a == b,
            false => a.to_lowercase() == b.to_lowercase(),
        }
    }

    fn truth(&self, row: &Row) -> Result<String> {
        let text = match row.fields.get(&self.column) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            Some(Value::Null) | None => {
                let mut others: Vec<&str> = row.fields.keys().map(String::as_str).collect();
                others.truncate(20);
                return Err(row.fault(
                    format!("it has no column `{}` to compare with", self.column),
                    format!("name one of {}", others.join(", ")),
                ));
            }
            Some(_) => {
                let problem = format!("`{}` is no text and no number", self.column);
                return Err(row.fault(problem, "name a column with the right answer"));
            }
        };
        Ok(self.answer(&text).unwrap_or(text.trim()).to_owned())
    }
}

impl Reward for Exact {
    fn name(&self) -> String {
        "exact".into()
    }

    fn score(&mut self, rows: &[Row]) -> Result<Vec<f64>> {
        let score = |row: &Row| {
            let truth = self.truth(row)?;
            let said = self.answer(row.completion);
            Ok(match said.is_some_and(|said| self.equal(said, &truth)) {
                true => self.right,
                false => self.wrong,
            })
        };
        rows.iter().map(score).collect()
    }
}

/// The number that a text stands for, if it is nothing else.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let text = text.trim_start_matches(['$', '€', '£']);
    let text = text.trim_end_matches('.').trim_end_matches('%');
    let kept: String = (text.chars())
        .filter(|c| !(*c == ',' || c.is_whitespace()))
        .collect();
    let plain = kept.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && kept
            .chars()
            .all(|c| c.is_ascii_digit() || ".eE+-".contains(c));
    (plain.then(|| format!("{sign}{kept}").parse::<f64>().ok())?).filter(|n| n.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(rule: &mut Exact, truth: Value, completion: &str) -> f64 {
        let fields = [("answer".to_string(), truth)].into_iter().collect();
        let row = Row {
            prompt: "",
            completion,
            index: 0,
            fields: &fields,
        };
        rule.score(&[row]).unwrap()[0]
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        for (a, b) in [
            ("$1,234.50.", 1234.5),
            ("-3", -3.0),
            ("-$3", -3.0),
            ("20%", 20.0),
            ("1 000", 1000.0),
            ("+7", 7.0),
            (".5", 0.5),
        ] {
            assert_eq!(number(a), Some(b), "{a}");
        }
        for text in ["", "inf", "nan", "three", "3 apples", "1/2", "-", "$", "e5"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn the_answer_after_the_last_marker() {
        let mut rule = Exact::new("answer", Some("####".into()));
        let truth = Value::from("He has 5 and 13, so\n#### 18");
        for (completion, expected) in [
            ("so #### 18", 1.0),
            ("#### 17\n#### 18.0\nand so on", 1.0),
            ("#### $18", 1.0),
            ("18", 0.0),
            ("#### 18 apples", 0.0),
            ("####", 0.0),
            ("", 0.0),
        ] {
            assert_eq!(
                score(&mut rule, truth.clone(), completion),
                expected,
                "{completion}"
            );
        }
        assert_eq!(score(&mut rule, Value::from(18), "#### 18"), 1.0);
        rule.numbers = false;
        assert_eq!(score(&mut rule, truth, "#### 18.0"), 0.0);
        let mut text = Exact::new("answer", None);
        assert_eq!(score(&mut text, Value::from("Yes"), " Yes\n"), 1.0);
        assert_eq!(score(&mut text, Value::from("Yes"), "yes"), 0.0);
        text.case_sensitive = false;
        assert_eq!(score(&mut text, Value::from("Yes"), "yes"), 1.0);
    }

    #[test]
    fn a_column_that_is_not_there() {
        let fields = [("solution".to_string(), Value::from("1"))]
            .into_iter()
            .collect();
        let row = Row {
            prompt: "",
            completion: "1",
            index: 4,
            fields: &fields,
        };
        let error = Exact::new("answer", None)
            .score(&[row])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("row 5") && error.contains("`answer`") && error.contains("solution")
        );
    }
}
