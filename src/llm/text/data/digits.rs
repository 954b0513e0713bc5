//! Integers of which not all digits are kept.

use serde_json::{Map, Value};

use super::values::{Parsed, fault};

/// Refuses a row with an integer of more than 64 bits inside a list or an object, such as the
/// arguments of a call: it would be another number in the text that a template makes of it. (A
/// column that is such a number is one of its nearest kind, as numbers are.)
pub(super) fn kept(text: &str, columns: &Map<String, Value>) -> Parsed<()> {
    let deep = columns.values().filter(|v| v.is_array() || v.is_object());
    let mut rounded = Vec::new();
    deep.for_each(|value| floats(value, &mut rounded));
    if rounded.is_empty() {
        return Ok(());
    }
    match integers(text).find(|digits| digits.parse().is_ok_and(|x: f64| rounded.contains(&x))) {
        None => Ok(()),
        Some(digits) => fault(
            format!("the integer {digits} has more than 64 bits, and would lose digits"),
            "write it as text, or round it and write it with an exponent",
        ),
    }
}

/// Numbers beyond 64 bits, whose digits may not be those that were written.
fn floats(value: &Value, found: &mut Vec<f64>) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let large = number.as_f64().filter(|x| x.abs() >= 9e18);
            found.extend(large);
        }
        Value::Array(list) => list.iter().for_each(|value| floats(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| floats(value, found)),
        _ => {}
    }
}

/// The integers of 19 digits and more in a text in JSON.
fn integers(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let (mut at, mut quoted) = (0, false);
    std::iter::from_fn(move || {
        while let Some(&byte) = bytes.get(at) {
            let begin = at;
            at += 1;
            match byte {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b'-' | b'0'..=b'9' if !quoted => {
                    let rest = &bytes[at..];
                    let other =
                        |b: &u8| !matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                    at += rest.iter().position(other).unwrap_or(rest.len());
                    let number = &text[begin..at];
                    if number.len() >= 19 && !number.contains(['.', 'e', 'E']) {
                        return Some(number);
                    }
                }
                _ => {}
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_integers_that_lose_digits_inside_are_refused() {
        let kept = |text: &str| {
            let columns = crate::file::json::value(text).unwrap();
            kept(text, columns.as_object().unwrap())
        };
        for right in [
            r#"{"id": 123456789012345678901234, "a": [1.5, 6.02e23, 1e20, 1e300]}"#,
            r#"{"a": [18446744073709551615, -9223372036854775808, "123456789012345678901234"]}"#,
            r#"{"a": {"b": "\"", "c": [1e22]}, "d": "10000000000000000000000"}"#,
        ] {
            assert!(kept(right).is_ok(), "{right}");
        }
        for (wrong, digits) in [
            (
                r#"{"a": {"b": [18446744073709551616]}}"#,
                "18446744073709551616",
            ),
            (r#"{"a": [100000000000000000000]}"#, "100000000000000000000"),
            (
                r#"{"a": "\\", "b": [{"c": -9223372036854775809}]}"#,
                "-9223372036854775809",
            ),
        ] {
            let problem = kept(wrong).unwrap_err().problem;
            assert!(problem.contains(digits), "{problem}");
        }
    }
}
