//! Values as Python's `str` and `repr` write them.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::bounds::{DEPTH, LARGEST, large, wrong};

/// As `str` writes it.
///
/// # Errors
/// If it is too long.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    match (value.as_str(), value.kind()) {
        (Some(string), _) => text.push_str(string),
        (_, ValueKind::Undefined) => {}
        _ => put(value, DEPTH, &mut text)?,
    }
    Ok(text)
}

/// As `repr` writes it.
fn put(value: &Value, levels: usize, text: &mut String) -> Result<(), Error> {
    if text.len() as u64 > LARGEST {
        return Err(large());
    }
    let deeper = || (levels.checked_sub(1)).ok_or_else(|| wrong("what it prints is too deep"));
    if let Some(string) = value.as_str() {
        quote(string, text);
        return Ok(());
    }
    match value.kind() {
        ValueKind::Undefined => text.push_str("Undefined"),
        ValueKind::None => text.push_str("None"),
        ValueKind::Bool => text.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => text.push_str(&number(value)),
        ValueKind::Seq | ValueKind::Iterable => {
            let levels = deeper()?;
            let brackets = if value.is_tuple() {
                ['(', ')']
            } else {
                ['[', ']']
            };
            text.push(brackets[0]);
            let mut count = 0;
            for entry in value.try_iter()? {
                if count > 0 {
                    text.push_str(", ");
                }
                put(&entry, levels, text)?;
                count += 1;
            }
            if value.is_tuple() && count == 1 {
                text.push(',');
            }
            text.push(brackets[1]);
        }
        ValueKind::Map => {
            let levels = deeper()?;
            text.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                if i > 0 {
                    text.push_str(", ");
                }
                put(&key, levels, text)?;
                text.push_str(": ");
                put(&value.get_item(&key)?, levels, text)?;
            }
            text.push('}');
        }
        _ => text.push_str(&value.to_string()),
    }
    Ok(())
}

/// A number: an integer's digits, or the shortest text that is this float.
pub(super) fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(x) if !value.is_integer() => float(x),
        _ => value.to_string(),
    }
}

fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.into();
    }
    let shortest = format!("{x:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = x.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn quote(string: &str, text: &mut String) {
    let mark = if string.contains('\'') && !string.contains('"') {
        '"'
    } else {
        '\''
    };
    text.push(mark);
    for c in string.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c == mark => text.extend(['\\', c]),
            c if printable(c) => text.push(c),
            c => text.push_str(&match u32::from(c) {
                code @ ..=0xff => format!("\\x{code:02x}"),
                code @ ..=0xffff => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    text.push(mark);
}

/// Whether Python thinks that it can be seen. Rust escapes the same, and marks that join the letter
/// before them where there is none.
fn printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let after = ['a', c].iter().collect::<String>();
    after.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_those_of_python() {
        // repr(x) of Python 3.11
        for (x, said) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (9_007_199_254_740_993.0, "9007199254740992.0"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(&Value::from(x)), said);
        }
        let list = Value::from(vec![
            Value::from("it's"),
            Value::from("\"it's\"\n\u{a0}\u{e9}e\u{301}\u{200b}\u{1f642}\u{7f}\u{e000}\u{10ffff}"),
            Value::from(true),
            Value::from(()),
            Value::from(u64::MAX),
        ]);
        assert_eq!(
            text(&list).unwrap(),
            "[\"it's\", '\"it\\'s\"\\n\\xa0\u{e9}e\u{301}\\u200b\u{1f642}\\x7f\\ue000\\U0010ffff', \
             True, None, 18446744073709551615]"
        );
    }
}
