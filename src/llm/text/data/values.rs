//! Values of a row's columns, by name and type.

use serde_json::{Map, Value};

use super::aside::are_text;
use crate::llm::text::chat::Message;
use crate::magnitude::{RANGE, is_in_range};
use crate::text::exact;

/// Fault of a row, and its remedy.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The fault.
    pub problem: String,
    /// The remedy.
    pub remedy: String,
}

/// Result of reading a row: a value, or why there is none.
pub type Parsed<T> = Result<T, Fault>;

/// A [`Fault`].
pub(super) fn fault<T>(problem: impl Into<String>, remedy: impl Into<String>) -> Parsed<T> {
    Err(Fault {
        problem: problem.into(),
        remedy: remedy.into(),
    })
}

/// `a` and `b`; `a` or `b` for names of the same.
pub(super) fn quoted(names: &[&str], between: &str) -> String {
    let each = names
        .iter()
        .map(|name| format!("`{}`", name.replace('|', "` or `")));
    each.collect::<Vec<_>>().join(between)
}

/// Columns by name.
pub(super) struct Columns<'a>(pub &'a Map<String, Value>);

impl Columns<'_> {
    fn names<'n>(&self, names: &'n str) -> Vec<(&'n str, &Value)> {
        (names.split('|'))
            .filter_map(|name| Some((name, self.0.get(name)?)))
            .filter(|(_, value)| !value.is_null())
            .collect()
    }

    /// Those of a set that the row has not.
    pub fn missing(&self, set: &[&'static str]) -> Vec<&'static str> {
        let absent = |names: &&'static str| self.names(names).is_empty();
        set.iter().copied().filter(absent).collect()
    }

    /// True if the column, or one of those names of the same, is there.
    pub fn has(&self, name: &str) -> bool {
        !self.names(name).is_empty()
    }

    /// Names of the columns that are there.
    pub fn names_there(&self) -> impl Iterator<Item = &str> {
        let there = self.0.iter().filter(|(_, value)| !value.is_null());
        there.map(|(name, _)| name.as_str())
    }

    /// A column's value, if it is there.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The one column of these names.
    fn get<'n>(&self, names: &'n str) -> Parsed<(&'n str, &Value)> {
        match self.names(names)[..] {
            [one] => Ok(one),
            [] => fault(
                format!("column {} is missing", quoted(&[names], "")),
                "give it",
            ),
            [(a, _), (b, _), ..] => fault(
                format!("columns `{a}` and `{b}` mean the same"),
                "leave one of them out",
            ),
        }
    }

    /// A string, or a conversation.
    pub fn said<'n>(&self, names: &'n str) -> Parsed<(&'n str, Said)> {
        let (name, value) = self.get(names)?;
        Ok((name, said(name, value)?))
    }

    /// Names of all columns that are there.
    pub fn listed(&self) -> String {
        listed(self.names_there())
    }

    /// A finite number; `true` is 1 and `false` 0.
    pub fn number(&self, names: &str) -> Parsed<f64> {
        let (name, value) = self.get(names)?;
        number(name, value)
    }

    /// 1 or 0, or a probability between.
    pub fn label(&self, name: &str) -> Parsed<f64> {
        let (name, value) = self.get(name)?;
        match (value, value.as_f64()) {
            (Value::Bool(label), _) => Ok(f64::from(u8::from(*label))),
            (_, Some(label)) if (0.0..=1.0).contains(&label) => Ok(label),
            _ => fault(
                format!("`{name}` is {value}"),
                "give true or 1 for desirable, false or 0 for undesirable, or a probability",
            ),
        }
    }

    /// `completions` with their numbers, two or more.
    pub fn list(&self, names: &str) -> Parsed<Vec<Spoken>> {
        let (texts, completions) = entries(self.get("completions")?)?;
        let (name, numbers) = entries(self.get(names)?)?;
        if completions.len() != numbers.len() {
            return fault(
                format!(
                    "`{texts}` has {} entries and `{name}` {}",
                    completions.len(),
                    numbers.len()
                ),
                "give one number for each completion",
            );
        }
        if completions.len() < 2 {
            let problem = format!("`{texts}` has {} entries", completions.len());
            return fault(problem, "give two or more");
        }
        (completions.iter().zip(numbers).enumerate())
            .map(|(i, (text, reward))| {
                let column = format!("{texts}[{i}]");
                Ok(Spoken {
                    said: said(&column, text)?,
                    column,
                    reward: number(&format!("{name}[{i}]"), reward)?,
                })
            })
            .collect()
    }

    /// `completions` in increasing order of their numbers times `sign`; ties are refused.
    pub fn ascending(&self, names: &str, sign: f64) -> Parsed<Vec<Spoken>> {
        let mut list = self.list(names)?;
        list.sort_by(|a, b| (sign * a.reward).total_cmp(&(sign * b.reward)));
        if let Some(tie) = list.windows(2).find(|w| w[0].reward == w[1].reward) {
            let (name, _) = self.get(names)?;
            return fault(
                format!("`{name}` has a tie at {}", tie[0].reward),
                "an order is needed: break the tie or leave one of the completions out",
            );
        }
        Ok(list)
    }

    /// The one of `completions` whose number times `sign` is the greatest. Ties of others do not matter.
    pub fn best(&self, names: &str, sign: f64) -> Parsed<Spoken> {
        let mut list = self.list(names)?;
        list.sort_by(|a, b| (sign * a.reward).total_cmp(&(sign * b.reward)));
        let (best, second) = (list.pop(), list.pop());
        match (best, second) {
            (Some(best), Some(second)) if best.reward == second.reward => {
                let (name, _) = self.get(names)?;
                fault(
                    format!("`{name}` has a tie of the best at {}", best.reward),
                    "one of them is to be imitated: break the tie or leave one of the completions out",
                )
            }
            (Some(best), _) => Ok(best),
            (None, _) => fault("`completions` has no entries", "give two or more"),
        }
    }

    /// `completions` from worst to best by their `ranks`, 0 or 1 for the best.
    pub fn ranked(&self) -> Parsed<Vec<Spoken>> {
        let list = self.ascending("ranks", -1.0)?;
        are_ranks(list.iter().rev())?;
        Ok(list)
    }

    /// The first of `completions` by their `ranks`, 0 or 1. Ties of others do not matter.
    pub fn first_ranked(&self) -> Parsed<Spoken> {
        let best = self.best("ranks", -1.0)?;
        let others = self.list("ranks")?;
        let others = others.iter().filter(|c| c.column != best.column);
        are_ranks(std::iter::once(&best).chain(others))?;
        Ok(best)
    }
}

/// Refuses numbers that are no ranks, the best one first.
fn are_ranks<'a>(ranks: impl Iterator<Item = &'a Spoken>) -> Parsed<()> {
    let ranks: Vec<f64> = ranks.map(|c| c.reward).collect();
    let first = ranks.first().is_none_or(|&r| r == 0.0 || r == 1.0);
    if first && ranks.iter().all(|r| r.fract() == 0.0) {
        return Ok(());
    }
    let ranks: Vec<String> = ranks.iter().map(f64::to_string).collect();
    fault(
        format!("`ranks` are {}", ranks.join(", ")),
        "give whole numbers, 0 or 1 for the best",
    )
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Text as it is, or messages of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Text(String),
    Messages(Vec<Message>),
}

/// A completion before conversations are rendered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spoken {
    pub column: String,
    pub said: Said,
    pub reward: f64,
}

pub(super) fn said(name: &str, value: &Value) -> Parsed<Said> {
    let messages = match value {
        Value::String(text) => return Ok(Said::Text(text.clone())),
        Value::Array(list) => list
            .iter()
            .map(Message::parse)
            .collect::<Result<Vec<_>, _>>(),
        Value::Object(_) => Message::parse(value).map(|message| vec![message]),
        _ => return fault(format!("`{name}` is {}", kind(value)), "give a string"),
    };
    let messages = messages.or_else(|problem: String| {
        fault(
            format!("`{name}` is {}: {problem}", kind(value)),
            "give a string, or a conversation: [{\"role\": \"user\", \"content\": …}, …]",
        )
    })?;
    are_text(name, &messages)?;
    Ok(Said::Messages(messages))
}

/// Names of a row's columns in their order, the first of many.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.len() {
        0 => "no columns".into(),
        count if count > 20 => format!("{}, … ({count} in all)", quoted(&names[..20], ", ")),
        _ => quoted(&names, ", "),
    }
}

fn number(name: &str, value: &Value) -> Parsed<f64> {
    if let Value::Bool(truth) = value {
        return Ok(f64::from(u8::from(*truth)));
    }
    match value.as_f64() {
        Some(number) if is_in_range(number) => Ok(number),
        Some(number) => fault(
            format!("`{name}` is {}", exact(number)),
            format!("give {RANGE}"),
        ),
        None => fault(
            format!("`{name}` is {}", kind(value)),
            "give a finite number",
        ),
    }
}

fn entries<'n, 'v>((name, value): (&'n str, &'v Value)) -> Parsed<(&'n str, &'v [Value])> {
    match value {
        Value::Array(entries) => Ok((name, entries)),
        _ => fault(format!("`{name}` is {}", kind(value)), "give a list"),
    }
}
