//! Exact match of a completion's answer with the right one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Candidate, Reward};
use crate::error::{Error, Result};
use crate::observer::Observer;

/// `right` where the completion's answer equals that of a column of the row, else `wrong`.
///
/// An answer is what follows the last marker, up to the end of the line and without space around it;
/// without a marker in the settings, the whole text. A column that has no marker in it is an answer
/// as it stands; a completion that has none is wrong.
///
/// With `numbers` (the default), answers that are numbers are compared as numbers, digit by digit however
/// many there are: `007`, `+7`, `7.0`, `7.` and `0.7e1` are 7. A currency sign before a number (`$`, `€`,
/// `£`), a final `%` and a final full stop are left away, and so are commas that group digits by three, so
/// that `$1,234.50.` is `1234.5` (but `$5` is not `€5`, nor `5%`); `2,3` and `1 000` are no numbers. All
/// others are compared as text, and an answer without text is wrong, whatever is right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exact {
    /// The column with the right answer.
    pub column: String,
    /// Marker before an answer, such as GSM8K's `####`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
    /// True to compare numbers by value.
    #[serde(default = "yes")]
    pub numbers: bool,
    /// True if `A` and `a` differ.
    #[serde(default = "yes")]
    pub case_sensitive: bool,
    /// Score of a right answer.
    #[serde(default = "one")]
    pub right: f64,
    /// Score of a wrong or missing one.
    #[serde(default)]
    pub wrong: f64,
}

/// 2⁵³, up to which every whole number is one of 64 bits with a point.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

impl Exact {
    /// Settings with the defaults.
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
        if a.is_empty() {
            return false;
        }
        if let (true, Some(a), Some(b)) = (self.numbers, number(a), number(b)) {
            return a.equals(&b);
        }
        if self.case_sensitive {
            a == b
        } else {
            a.to_lowercase() == b.to_lowercase()
        }
    }

    fn truth(&self, row: &Candidate) -> Result<String> {
        let text = match row.fields.get(&self.column) {
            Some(Value::String(text)) => text.clone(),
            // JSON's numbers are read into 64 bits: of more digits some would be lost.
            Some(Value::Number(n))
                if n.is_f64() && n.as_f64().is_some_and(|x| x.abs() >= EXACT) =>
            {
                let problem = format!("`{}` has more digits than a JSON number keeps", self.column);
                return Err(row.fault(problem, "write it as a text, in quotes"));
            }
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

    fn score(&mut self, rows: &[Candidate], _: &dyn Observer) -> Result<Vec<f64>> {
        let score = |row: &Candidate| {
            let truth = self.truth(row)?;
            let said = self.answer(row.completion);
            Ok(if said.is_some_and(|said| self.equal(said, &truth)) {
                self.right
            } else {
                self.wrong
            })
        };
        rows.iter().map(score).collect()
    }
}

/// A number as it is written, in the one way of all that mean the same: its digits from the first that
/// is not 0 to the last one, and where the point stands before them. So numbers of any length are equal
/// exactly where they are.
#[derive(Debug)]
struct Number {
    negative: bool,
    /// Without zeros at either end; none of 0.
    digits: String,
    /// The number is `0.DIGITS · 10^exponent`; 0 of 0.
    exponent: i64,
    /// A currency sign, or `%`.
    unit: Option<char>,
}

impl Number {
    /// Whether it is as large as another, and, where both say of what, of the same.
    fn equals(&self, other: &Self) -> bool {
        let value = |n: &Self| (n.negative, n.exponent);
        let units = self.unit.zip(other.unit);
        value(self) == value(other)
            && self.digits == other.digits
            && units.is_none_or(|(one, another)| one == another)
    }
}

/// The number that a text stands for, if it is nothing else.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    let signed = |text: &'_ str| -> (bool, String) {
        match text.strip_prefix(['-', '\u{2212}']) {
            Some(rest) => (true, rest.into()),
            None => (false, text.strip_prefix('+').unwrap_or(text).into()),
        }
    };
    let (negative, rest) = signed(text);
    let currency = rest.chars().next().filter(|c| "$€£".contains(*c));
    let rest = &rest[currency.map_or(0, char::len_utf8)..];
    let rest = rest.strip_suffix('.').unwrap_or(rest);
    let percent = rest.strip_suffix('%');
    let rest = percent.unwrap_or(rest).trim_end();
    let (mantissa, power) = match rest.split_once(['e', 'E']) {
        None => (rest, 0),
        Some((mantissa, power)) => {
            let (negative, size) = signed(power);
            let size: i64 = all_digits(&size)?.parse().ok().filter(|n| *n < 1 << 40)?;
            (mantissa, if negative { -size } else { size })
        }
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = ungrouped(whole)?;
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if !fraction.is_empty() {
        all_digits(fraction)?;
    }
    let all = format!("{whole}{fraction}");
    let kept = all.trim_start_matches('0');
    let before = (whole.len() + kept.len()) as i64 - all.len() as i64;
    let digits = kept.trim_end_matches('0').to_string();
    let zero = digits.is_empty();
    Some(Number {
        negative: negative && !zero,
        exponent: if zero { 0 } else { before + power },
        digits,
        unit: currency.or(percent.map(|_| '%')),
    })
}

fn all_digits(text: &str) -> Option<&str> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then_some(text)
}

/// Digits without the commas that group them by three; none if commas stand elsewhere, or anything
/// else does.
fn ungrouped(text: &str) -> Option<String> {
    let mut groups = text.split(',');
    let first = groups.next().unwrap_or("");
    let rest: Vec<&str> = groups.collect();
    if rest.is_empty() {
        return (text.is_empty() || all_digits(text).is_some()).then(|| text.into());
    }
    let grouped = (1..=3).contains(&first.len())
        && all_digits(first).is_some()
        && rest.iter().all(|g| g.len() == 3 && all_digits(g).is_some());
    grouped.then(|| format!("{first}{}", rest.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Silent;

    fn score(rule: &mut Exact, truth: Value, completion: &str) -> f64 {
        let fields = [("answer".to_string(), truth)].into_iter().collect();
        let row = Candidate {
            prompt: "",
            completion,
            index: 0,
            fields: &fields,
        };
        rule.score(&[row], &Silent).unwrap()[0]
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let long = "9".repeat(400);
        let (longer, padded) = (format!("{long}1"), format!("0{long}.00"));
        let all: Vec<(usize, &str)> = [
            &[
                "1234.5",
                "$1,234.50.",
                "+1234.5",
                "01234.50",
                "12345e-1",
                "1.2345E+3",
                "1,234.5",
            ][..],
            &["-3", "-$3", "-3.0", "\u{2212}3", " -3 ", "-03."],
            &["20", "20%", "20 %", "20.", "2e1", "0.2e2"],
            &["7", "+7", "007", "7.000", "0.07e2"],
            &["0", "-0", "0.0", ".0", "0e5", "000", "0%"],
            &["0.5", ".5", "+.50", "5e-1"],
            &["9007199254740993", "9,007,199,254,740,993"],
            &["9007199254740992"],
            &["2432902008176640001"],
            &["2432902008176640000", "2.43290200817664e18"],
            &[&long, &padded],
            &[&longer],
            &["0.1"],
            &["0.1000000000000000055511151231257827"],
            &["1e400"],
            &["1e401"],
            &["123"],
            &["1000000", "1,000,000"],
        ]
        .iter()
        .enumerate()
        .flat_map(|(i, these)| these.iter().map(move |text| (i, *text)))
        .collect();
        for (i, a) in &all {
            for (j, b) in &all {
                let same = number(a).unwrap().equals(&number(b).unwrap());
                assert_eq!(same, i == j, "{a} {b}");
            }
        }
        for (a, b) in [("$5", "€5"), ("$5", "5%"), ("£5", "-£5")] {
            assert!(!number(a).unwrap().equals(&number(b).unwrap()), "{a} {b}");
        }
        for text in [
            "",
            "inf",
            "nan",
            "NaN",
            "infinity",
            "three",
            "3 apples",
            "1/2",
            "-",
            "$",
            "e5",
            "5e",
            "1 000",
            "2,3",
            "1, 2, 3",
            "12,34",
            "1,2345",
            ",123",
            "123,",
            "1,,234",
            "1.2.3",
            "1.234,5",
            "--3",
            "$$3",
            "3%%",
            "0x10",
            "1_000",
            "1e99999999999999999999",
            ".",
            "1,234e",
            "\u{664}",
        ] {
            assert!(number(text).is_none(), "{text}");
        }
    }

    #[test]
    fn no_wrong_answer_is_right() {
        let mut rule = Exact::new("answer", None);
        for (truth, completion, expected) in [
            (Value::from("9007199254740992"), "9007199254740993", 0.0),
            (
                serde_json::from_str("9007199254740992").unwrap(),
                "9007199254740993",
                0.0,
            ),
            (Value::from("23"), " 2,3", 0.0),
            (Value::from("123"), " 1, 2, 3", 0.0),
            (Value::from("1234"), " 1,234", 1.0),
            (Value::from("2, 3"), "2, 3", 1.0),
            (Value::from("1 000"), "1 000", 1.0),
            (Value::from("1000"), "1 000", 0.0),
            (Value::from(""), "", 0.0),
            (Value::from(" "), "anything", 0.0),
            (Value::from("nan"), "0", 0.0),
            (Value::from(true), "1", 0.0),
            (Value::from("0.3"), "0.30000000000000004", 0.0),
            (Value::from(0.3), "0.3", 1.0),
            (Value::from("1e400"), "1e401", 0.0),
        ] {
            let found = score(&mut rule, truth.clone(), completion);
            assert_eq!(found, expected, "{truth} {completion}");
        }
        let long: Value = serde_json::from_str("123456789012345678901234567890").unwrap();
        let fields = [("answer".to_string(), long)].into_iter().collect();
        let row = Candidate {
            prompt: "",
            completion: "1",
            index: 0,
            fields: &fields,
        };
        let error = rule.score(&[row], &Silent).unwrap_err().to_string();
        assert!(error.contains("in quotes"), "{error}");
        // A marker with nothing after it says nothing, in a completion and in the column.
        let mut marked = Exact::new("answer", Some("####".into()));
        assert_eq!(score(&mut marked, Value::from("so ####"), "####"), 0.0);
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
        let row = Candidate {
            prompt: "",
            completion: "1",
            index: 4,
            fields: &fields,
        };
        let error = Exact::new("answer", None)
            .score(&[row], &Silent)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("row 5") && error.contains("`answer`") && error.contains("solution")
        );
    }
}
