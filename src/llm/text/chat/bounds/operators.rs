//! Operators, filters and methods whose result is not bounded by what they are given, bounded.

use std::cell::Cell;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, functions};
use minijinja_contrib::pycompat;

use super::rewrite::{ADD, CONCATENATE, DICT, ENTERED, MACRO, MANY, MULTIPLY, SLICE, TOP, WHOLE};
use super::values::{Dict, List};
use super::{ENTRY, LARGEST, charge, large, weigh, wrong};
use crate::llm::text::chat::python;

/// Namespaces of a rendering; one may hold the next, and all are dropped at once.
const NAMESPACES: usize = 2000;

/// What formats may ask for: characters of a field, entries of a group.
const WIDTH: usize = 10_000;

type Made<T = Value> = Result<T, Error>;

thread_local! {
    static SPACES: Cell<usize> = const { Cell::new(0) };
}

/// Begins a rendering on this thread.
pub(in crate::llm::text::chat) fn begin() {
    super::begin();
    SPACES.set(NAMESPACES);
}

/// Puts them into an environment, over those of the engine.
pub(in crate::llm::text::chat) fn add(environment: &mut Environment) {
    environment.add_filter(WHOLE, |value: Value| whole(value, 1));
    environment.add_filter(MANY, |value: Value| whole(value, 8));
    environment.add_filter(TOP, |value: Value| -> Made {
        let value = owned(value)?;
        let entries = match value.kind() {
            ValueKind::String => value.as_str().map_or(0, str::len) as u64 / ENTRY,
            ValueKind::Seq | ValueKind::Map => value.len().unwrap_or(0) as u64,
            _ => 0,
        };
        charge(entries * ENTRY)?;
        Ok(value)
    });
    environment.add_filter(ENTERED, |value: Value| -> Made {
        charge(value.as_str().map_or(0, str::len) as u64)?;
        owned(value)
    });
    environment.add_filter(DICT, |value: Value| -> Made { dict(&value) });
    environment.add_filter(MACRO, |value: Value| -> Made {
        charge(1 << 12)?;
        Ok(value)
    });
    environment.add_filter(ADD, add_values);
    environment.add_filter(MULTIPLY, multiply);
    environment.add_filter(CONCATENATE, |a: Value, b: Value| -> Made {
        joined(&[python::text(&a)?, python::text(&b)?], "")
    });
    environment.add_filter(SLICE, slice);
    environment.add_filter("string", |value: Value| python::text(&value));
    environment.add_filter("pprint", |value: Value| python::text(&value));
    environment.add_filter("list", |value: Value| List::of(entries(&value)?));
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter(
        "replace",
        |s: Value, old: Value, new: Value, count: Option<i64>| {
            replace(
                &python::text(&s)?,
                &python::text(&old)?,
                &python::text(&new)?,
                count,
            )
        },
    );
    environment.add_filter("sum", sum);
    environment.add_filter(
        "batch",
        |value: Value, count: usize, fill: Option<Value>| {
            groups(&value, count, fill.as_ref(), true)
        },
    );
    environment.add_filter(
        "slice",
        |value: Value, count: usize, fill: Option<Value>| {
            groups(&value, count, fill.as_ref(), false)
        },
    );
    environment.add_filter(
        "format",
        |state: &mut State, format: Value, args: Rest<ValueOrKwargs>| -> Made {
            let args = args.into_values();
            fields(&format, &args)?;
            let all: Vec<Value> = std::iter::once(format).chain(args).collect();
            Value::from_function(filters::format).call(state, &all)
        },
    );
    for name in [
        "in",
        "eq",
        "equalto",
        "==",
        "ne",
        "!=",
        "lt",
        "lessthan",
        "<",
        "le",
        "<=",
        "gt",
        "greaterthan",
        ">",
        "ge",
        ">=",
    ] {
        environment.add_test(name, move |a: Value, b: Value| compare(name, &a, &b));
    }
    environment.add_function("namespace", |defaults: Option<ValueOrKwargs>| -> Made {
        let left = SPACES.get().checked_sub(1);
        SPACES.set(left.unwrap_or(0));
        if left.is_none() {
            return Err(wrong(format!("it makes more than {NAMESPACES} namespaces")));
        }
        functions::namespace(defaults)
    });
    environment.add_function("dict", |value: Option<Value>, more: Kwargs| -> Made {
        dict(&functions::dict(value, more)?)
    });
    environment.set_unknown_method_callback(method);
}

/// A value whose every byte is looked at so many times.
fn whole(value: Value, times: u64) -> Made {
    let value = owned(value)?;
    let bytes = weigh(&value)?.bytes.saturating_mul(times);
    if bytes > LARGEST {
        return Err(large());
    }
    charge(bytes)?;
    Ok(value)
}

/// A list of the engine as one of ours.
fn owned(value: Value) -> Made {
    let ours = value.downcast_object_ref::<List>().is_some() || value.is_tuple();
    let list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if ours || !list {
        return Ok(value);
    }
    List::of(entries(&value)?)
}

/// The entries of a list, the keys of an object, the characters of a text.
fn entries(value: &Value) -> Made<Vec<Value>> {
    if let Some(list) = value.downcast_object_ref::<List>() {
        charge(list.entries().len() as u64 * ENTRY)?;
        return Ok(list.entries().to_vec());
    }
    let mut all = Vec::new();
    for entry in value.try_iter()? {
        charge(ENTRY)?;
        all.push(entry);
        if all.len() as u64 * ENTRY > LARGEST {
            return Err(large());
        }
    }
    Ok(all)
}

fn dict(value: &Value) -> Made {
    let pair = |key: Value| Ok((key.clone(), value.get_item(&key)?));
    Dict::of(value.try_iter()?.map(pair).collect::<Made<Vec<_>>>()?)
}

fn joined(parts: &[String], separator: &str) -> Made {
    let gaps = parts.len().saturating_sub(1) as u64;
    let bytes = parts.iter().map(|part| part.len() as u64).sum::<u64>();
    let bytes = bytes.saturating_add(gaps.saturating_mul(separator.len() as u64));
    if bytes > LARGEST {
        return Err(large());
    }
    charge(bytes)?;
    Ok(parts.join(separator).into())
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// A whole number; truth is one, as in Python.
fn whole_number(value: &Value) -> Option<i128> {
    let number = value.kind() == ValueKind::Bool || value.is_integer();
    number.then(|| i128::try_from(value.clone()).ok()).flatten()
}

fn real(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        _ => None,
    }
}

fn integer(number: i128) -> Value {
    i64::try_from(number).map_or_else(|_| number.into(), Value::from)
}

fn unfit(operator: &str, a: &Value, b: &Value) -> Error {
    wrong(format!("{} {operator} {} is nothing", a.kind(), b.kind()))
}

fn add_values(a: Value, b: Value) -> Made {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        return joined(&[a.into(), b.into()], "");
    }
    if is_list(&a) && is_list(&b) {
        let mut all = entries(&a)?;
        all.extend(entries(&b)?);
        return List::of(all);
    }
    if let (Some(x), Some(y)) = (whole_number(&a), whole_number(&b)) {
        return x
            .checked_add(y)
            .map(integer)
            .ok_or_else(|| wrong("a sum has too many digits"));
    }
    match (real(&a), real(&b)) {
        (Some(x), Some(y)) => Ok((x + y).into()),
        _ => Err(unfit("+", &a, &b)),
    }
}

fn multiply(a: Value, b: Value) -> Made {
    let repeated = [(&a, &b), (&b, &a)]
        .into_iter()
        .find(|(x, _)| x.as_str().is_some() || is_list(x));
    if let Some((value, times)) = repeated {
        let times = whole_number(times).ok_or_else(|| unfit("*", &a, &b))?;
        let times = u64::try_from(times.max(0)).unwrap_or(u64::MAX);
        let bytes = weigh(value)?.bytes.saturating_mul(times);
        if bytes > LARGEST || times > LARGEST {
            return Err(large());
        }
        charge(bytes)?;
        let times = times as usize;
        return match value.as_str() {
            Some(text) => Ok(text.repeat(times).into()),
            None => {
                let list = entries(value)?;
                let times = if list.is_empty() { 0 } else { times };
                let all = std::iter::repeat_n(list, times);
                List::of(all.flatten().collect())
            }
        };
    }
    if let (Some(x), Some(y)) = (whole_number(&a), whole_number(&b)) {
        return x
            .checked_mul(y)
            .map(integer)
            .ok_or_else(|| wrong("a product has too many digits"));
    }
    match (real(&a), real(&b)) {
        (Some(x), Some(y)) => Ok((x * y).into()),
        _ => Err(unfit("*", &a, &b)),
    }
}

/// `value[start:stop:step]`, as Python has it.
fn slice(value: Value, start: Value, stop: Value, step: Value) -> Made {
    let number = |value: &Value| match value.kind() {
        ValueKind::None => Ok(None),
        _ => match whole_number(value) {
            Some(n) => Ok(Some(n.clamp(i64::MIN.into(), i64::MAX.into()))),
            None => Err(wrong("a slice is by whole numbers")),
        },
    };
    let step = number(&step)?.unwrap_or(1);
    if step == 0 {
        return Err(wrong("a slice has steps of 0"));
    }
    if value.as_str().is_none() && !is_list(&value) {
        return Err(wrong(format!("{} has no slices", value.kind())));
    }
    if value
        .as_str()
        .is_some_and(|text| text.len() as u64 > LARGEST / 4)
    {
        return Err(large());
    }
    let all = match value.as_str() {
        Some(text) => text.chars().map(Entry::Char).collect(),
        None => entries(&value)?
            .into_iter()
            .map(Entry::Value)
            .collect::<Vec<_>>(),
    };
    let length = all.len() as i128;
    let (low, high) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let place = |n: i128| {
        if n < 0 {
            (n + length).max(low)
        } else {
            n.min(high)
        }
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let mut at = number(&start)?.map_or(first, place);
    let stop = number(&stop)?.map_or(last, place);
    let mut kept = Vec::new();
    while if step > 0 { at < stop } else { at > stop } {
        kept.extend(usize::try_from(at).ok().and_then(|at| all.get(at)));
        at += step;
    }
    if value.as_str().is_some() {
        let chars = kept.iter().filter_map(|entry| match entry {
            Entry::Char(c) => Some(c),
            Entry::Value(_) => None,
        });
        return Ok(chars.collect::<String>().into());
    }
    let values = kept.into_iter().filter_map(|entry| match entry {
        Entry::Value(value) => Some(value.clone()),
        Entry::Char(_) => None,
    });
    List::of(values.collect())
}

enum Entry {
    Char(char),
    Value(Value),
}

fn join(value: Value, separator: Option<Value>, options: Kwargs) -> Made {
    let separator = match separator {
        Some(separator) => Some(separator),
        None => options.get::<Option<Value>>("d")?,
    };
    let attribute: Option<String> = options.get("attribute")?;
    options.assert_all_used()?;
    let mut parts = Vec::new();
    let mut bytes = 0;
    for mut entry in entries(&value)? {
        for name in attribute.iter().flat_map(|name| name.split('.')) {
            entry = entry.get_attr(name)?;
        }
        let part = python::text(&entry)?;
        bytes += part.len() as u64;
        if bytes > LARGEST {
            return Err(large());
        }
        parts.push(part);
    }
    let separator = separator.map(|s| python::text(&s)).transpose()?;
    joined(&parts, &separator.unwrap_or_default())
}

/// As Jinja's: lines but the first begin with so many spaces, or with a text.
fn indent(
    value: Value,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Made {
    let width = match width {
        Some(width) => width,
        None => options
            .get::<Option<Value>>("width")?
            .unwrap_or_else(|| 4.into()),
    };
    let first = first.or(options.get("first")?).unwrap_or(false);
    let blank = blank.or(options.get("blank")?).unwrap_or(false);
    options.assert_all_used()?;
    let space = match (width.as_str(), whole_number(&width)) {
        (Some(text), _) => text.to_string(),
        (_, Some(width)) => " ".repeat(limited(width)?),
        _ => return Err(wrong("`indent` takes a number of spaces, or a text")),
    };
    let text = python::text(&value)?;
    let mut lines = Vec::new();
    for (i, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let indented = if i == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        charge((line.len() + space.len()) as u64)?;
        lines.push(if indented {
            format!("{space}{line}")
        } else {
            line.into()
        });
    }
    joined(&lines, "\n")
}

fn replace(text: &str, old: &str, new: &str, count: Option<i64>) -> Made {
    let most = count
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX);
    let found = text.matches(old).count().min(most) as u64;
    let bytes = found
        .saturating_mul(new.len() as u64)
        .saturating_add(text.len() as u64);
    if bytes > LARGEST {
        return Err(large());
    }
    charge(bytes)?;
    Ok(text.replacen(old, new, most).into())
}

fn sum(value: Value, options: Kwargs) -> Made {
    let attribute: Option<String> = options.get("attribute")?;
    let start: Option<Value> = options.get("start")?;
    options.assert_all_used()?;
    let mut total = start.unwrap_or_else(|| 0.into());
    for mut entry in entries(&value)? {
        for name in attribute.iter().flat_map(|name| name.split('.')) {
            entry = entry.get_attr(name)?;
        }
        total = add_values(total, entry)?;
    }
    Ok(total)
}

/// Lists of so many entries, or so many lists; `fill` completes the last ones.
fn groups(value: &Value, count: usize, fill: Option<&Value>, of: bool) -> Made {
    let all = entries(value)?;
    let count = limited(count as i128)?;
    if count == 0 {
        return Err(wrong("groups of 0"));
    }
    let mut made = Vec::new();
    if of {
        for group in all.chunks(count) {
            let mut group = group.to_vec();
            group.resize_with(if fill.is_some() { count } else { group.len() }, || {
                fill.cloned().unwrap_or_default()
            });
            made.push(List::of(group)?);
        }
    } else {
        let (each, more) = (all.len() / count, all.len() % count);
        let mut rest = &all[..];
        for i in 0..count {
            let (group, after) = rest.split_at(each + usize::from(i < more));
            rest = after;
            let mut group = group.to_vec();
            group.extend(fill.filter(|_| more > 0 && i >= more).cloned());
            made.push(List::of(group)?);
        }
    }
    List::of(made)
}

fn limited(n: i128) -> Made<usize> {
    match usize::try_from(n.max(0)) {
        Ok(n) if n <= WIDTH => Ok(n),
        _ => Err(wrong(format!("{n} is more than {WIDTH}"))),
    }
}

/// Refuses a format that asks for wide fields.
fn fields(format: &Value, args: &[Value]) -> Made<()> {
    let text = format.as_str().unwrap_or_default();
    let digits = text.split(|c: char| !c.is_ascii_digit());
    let wide = digits.filter_map(|n| {
        n.parse::<i128>()
            .ok()
            .or((n.len() > 9).then_some(i128::MAX))
    });
    let given = args
        .iter()
        .filter(|_| text.contains(['*', '{']))
        .filter_map(whole_number);
    let starred = text.contains('*')
        || text.matches('{').count() > text.matches('}').count()
        || text.contains("{:{")
        || text.contains(":{");
    wide.chain(given.filter(|_| starred))
        .try_for_each(|n| limited(n).map(|_| ()))
}

fn compare(name: &str, a: &Value, b: &Value) -> Made<bool> {
    charge(weigh(a)?.bytes.saturating_add(weigh(b)?.bytes))?;
    Ok(match name {
        "in" => match (b.as_str(), b.kind()) {
            (Some(text), _) => text.contains(&python::text(a)?),
            (_, ValueKind::Map) => b.get_item(a).is_ok_and(|found| !found.is_undefined()),
            _ => entries(b)?.contains(a),
        },
        "eq" | "equalto" | "==" => a == b,
        "ne" | "!=" => a != b,
        "lt" | "lessthan" | "<" => a < b,
        "le" | "<=" => a <= b,
        "gt" | "greaterthan" | ">" => a > b,
        _ => a >= b,
    })
}

/// Python's methods.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Made {
    match (value.as_str(), name) {
        (Some(text), "replace") => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            replace(text, old, new, count)
        }
        (Some(text), "join") => {
            let (parts,): (Value,) = from_args(args)?;
            let parts = entries(&parts)?;
            let parts: Vec<String> = parts.iter().map(python::text).collect::<Made<_>>()?;
            joined(&parts, text)
        }
        (Some(_), "format") => {
            fields(value, args)?;
            pycompat::unknown_method_callback(state, value, name, args)
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
    .map_err(|error| match error.kind() {
        ErrorKind::UnknownMethod => Error::new(
            ErrorKind::UnknownMethod,
            format!("{} has no method {name}", value.kind()),
        ),
        _ => error,
    })
}
