//! JSON as Python's `json.dumps` writes it.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::bounds::{LARGEST, large};
use super::python;

/// Its options.
pub(super) struct Style {
    /// Indentation of a level; without it all is on one line.
    pub indent: Option<String>,
    /// Between entries, and between key and value.
    pub separators: [String; 2],
    /// True to escape characters beyond ASCII.
    pub ascii: bool,
    /// True to sort keys.
    pub sorted: bool,
}

/// A value in JSON; `/` and `<` as they are.
pub(super) fn write(value: &Value, style: &Style) -> Result<String, Error> {
    let mut text = String::new();
    put(value, style, 0, &mut text)?;
    Ok(text)
}

fn put(value: &Value, style: &Style, level: usize, text: &mut String) -> Result<(), Error> {
    if text.len() as u64 > LARGEST {
        return Err(large());
    }
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => text.push_str(&number(value)),
        ValueKind::String => string(value.as_str().unwrap_or_default(), style.ascii, text),
        ValueKind::Seq | ValueKind::Iterable => {
            let entries: Vec<Value> = value.try_iter()?.collect();
            list(['[', ']'], entries.len(), style, level, text, |i, text| {
                put(&entries[i], style, level + 1, text)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sorted {
                keys.sort();
            }
            list(['{', '}'], keys.len(), style, level, text, |i, text| {
                string(&key(&keys[i]), style.ascii, text);
                text.push_str(&style.separators[1]);
                put(&value.get_item(&keys[i])?, style, level + 1, text)
            })?;
        }
        kind => {
            let problem = format!("{kind} cannot be written as JSON");
            return Err(Error::new(ErrorKind::InvalidOperation, problem));
        }
    }
    Ok(())
}

fn list(
    brackets: [char; 2],
    count: usize,
    style: &Style,
    level: usize,
    text: &mut String,
    mut entry: impl FnMut(usize, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |level: usize, text: &mut String| {
        if let Some(indent) = &style.indent {
            text.push('\n');
            (0..level).for_each(|_| text.push_str(indent));
        }
    };
    text.push(brackets[0]);
    for i in 0..count {
        if i > 0 {
            text.push_str(&style.separators[0]);
        }
        line(level + 1, text);
        entry(i, text)?;
    }
    if count > 0 {
        line(level, text);
    }
    text.push(brackets[1]);
    Ok(())
}

/// A number; Python writes those that JSON has not, too.
fn number(value: &Value) -> String {
    let text = python::number(value);
    match text.as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        _ => text,
    }
}

/// A key as text.
fn key(value: &Value) -> String {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => text.into(),
        (_, ValueKind::None) => "null".into(),
        (_, ValueKind::Bool) => value.is_true().to_string(),
        (_, ValueKind::Number) => number(value),
        _ => value.to_string(),
    }
}

fn string(value: &str, ascii: bool, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            c if c < ' ' || (ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => text.push(c),
        }
    }
    text.push('"');
}
