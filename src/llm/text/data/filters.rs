//! Filters that expressions have beside Jinja's own.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use fancy_regex::Regex;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::expression;
use crate::file::json;

/// Adds them to a language.
pub(super) fn add(language: &mut Environment<'static>) {
    language.add_filter("after", |text: String, mark: String| {
        cut(
            &text,
            &mark,
            text.find(&mark).map(|at| at + mark.len()..text.len()),
        )
    });
    language.add_filter("before", |text: String, mark: String| {
        cut(&text, &mark, text.find(&mark).map(|at| 0..at))
    });
    language.add_filter("after_last", |text: String, mark: String| {
        cut(
            &text,
            &mark,
            text.rfind(&mark).map(|at| at + mark.len()..text.len()),
        )
    });
    language.add_filter("before_last", |text: String, mark: String| {
        cut(&text, &mark, text.rfind(&mark).map(|at| 0..at))
    });
    language.add_filter("capture", capture);
    language.add_filter("mean", mean);
    language.add_filter("walk", walk);
    language.add_filter("pieces", pieces);
    language.add_filter("fromjson", |text: String| {
        let parsed = json::value(&text).map_err(|e| wrong(format!("no JSON: {e}")))?;
        Ok::<_, Error>(expression::value(&parsed))
    });
    language.add_test("matching", |text: String, pattern: String| {
        let found = regex(&pattern)?.is_match(&text);
        found.map_err(|e| wrong(e.to_string()))
    });
}

fn wrong(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.into())
}

fn cut(text: &str, mark: &str, range: Option<std::ops::Range<usize>>) -> Result<String, Error> {
    match range {
        Some(range) => Ok(text[range].into()),
        None => Err(wrong(format!("{mark:?} is not in the text"))),
    }
}

/// What a regular expression's first group matches; without groups, all that it matches.
fn capture(text: String, pattern: String) -> Result<String, Error> {
    let found = (regex(&pattern)?.captures(&text)).map_err(|e| wrong(e.to_string()))?;
    (found.and_then(|groups| groups.get(1).or(groups.get(0))))
        .map(|group| group.as_str().into())
        .ok_or_else(|| wrong(format!("{pattern:?} matches nothing")))
}

/// A pattern, parsed once.
fn regex(pattern: &str) -> Result<Arc<Regex>, Error> {
    static PARSED: LazyLock<Mutex<HashMap<String, Arc<Regex>>>> = LazyLock::new(Mutex::default);
    let mut parsed = PARSED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = parsed.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = Regex::new(pattern).map_err(|e| wrong(format!("{pattern:?}: {e}")))?;
    let regex = Arc::new(regex);
    parsed.insert(pattern.into(), regex.clone());
    Ok(regex)
}

/// The arithmetic mean of a list of numbers; `true` is 1 and `false` 0.
fn mean(list: Value) -> Result<f64, Error> {
    let (mut sum, mut count) = (0.0, 0_u64);
    for entry in list.try_iter()? {
        sum += match entry.kind() {
            ValueKind::Bool => f64::from(u8::from(entry.is_true())),
            _ => f64::try_from(entry)?,
        };
        count += 1;
    }
    match count {
        0 => Err(wrong("an empty list has no mean")),
        _ => Ok(sum / count as f64),
    }
}

/// A text cut into pieces of at most so many characters each, at the ends of lines, else between
/// words, else within one. Nothing is left out: the pieces make the text again.
fn pieces(text: String, most: usize) -> Result<Vec<String>, Error> {
    if most == 0 {
        return Err(wrong("pieces of 0 characters are none"));
    }
    let (mut found, mut rest) = (Vec::new(), text.as_str());
    while let Some((limit, _)) = rest.char_indices().nth(most) {
        let here = &rest[..limit];
        let end = (here.rfind('\n').or_else(|| here.rfind(' '))).map_or(limit, |at| at + 1);
        found.push(rest[..end].to_string());
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        found.push(rest.into());
    }
    Ok(found)
}

/// All nodes of a tree, or of a list of trees, each before its children, which it has in a list of
/// that name. Every node gets `path`: the nodes from the root to itself, without their children.
fn walk(tree: Value, children: String) -> Result<Vec<Value>, Error> {
    let mut found = Vec::new();
    let roots = match tree.kind() {
        ValueKind::Map => vec![tree],
        _ => tree.try_iter()?.collect(),
    };
    // Deepest last, so that a tree of any depth can be walked.
    let mut open: Vec<(Value, Vec<Value>)> = Vec::new();
    open.extend(roots.into_iter().rev().map(|root| (root, Vec::new())));
    while let Some((node, mut path)) = open.pop() {
        if node.kind() != ValueKind::Map {
            return Err(wrong(format!("a node of the tree is no object: {node}")));
        }
        let mut fields: Vec<(Value, Value)> = Vec::new();
        for key in node.try_iter()? {
            let value = node.get_item(&key)?;
            fields.push((key, value));
        }
        let bare = fields
            .iter()
            .filter(|(key, _)| key.as_str() != Some(&children));
        path.push(Value::from_pairs(bare.cloned()));
        let below = node.get_attr(&children)?;
        if !below.is_undefined() && !below.is_none() {
            let below: Vec<Value> = below.try_iter()?.collect();
            open.extend(below.into_iter().rev().map(|child| (child, path.clone())));
        }
        fields.push((Value::from("path"), Value::from(path)));
        found.push(Value::from_pairs(fields));
    }
    Ok(found)
}
