//! JSON whose objects have every key once.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};

/// A JSON value, read in one pass.
///
/// # Errors
/// A syntax error, something behind the value, or an object that has a key twice.
pub fn value(text: &str) -> serde_json::Result<Value> {
    Ok(serde_json::from_str::<Distinct>(text)?.0)
}

/// A value of any type.
///
/// # Errors
/// A syntax error, a value that does not fit the type, or an object that has a key twice, also where
/// the type does not look.
pub fn from_str<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    let value = serde_json::from_str(text)?;
    keys(text)?;
    Ok(value)
}

/// Checks that no object of a JSON text has a key twice.
///
/// # Errors
/// A syntax error, or the first key that comes again.
pub fn keys(text: &str) -> serde_json::Result<()> {
    serde_json::from_str::<Keys>(text).map(|_| ())
}

/// A value of any type from a text that came from `origin`; errors name the field.
///
/// # Errors
/// As [`from_str`].
pub fn parse<T: DeserializeOwned>(text: &str, origin: &str, remedy: &str) -> Result<T> {
    let fail = |field: String, error: &serde_json::Error| {
        // A key that could not be read has no name.
        let field = field.trim_end_matches('?').trim_end_matches('.');
        let at = if field.is_empty() {
            String::new()
        } else {
            format!("{field}: ")
        };
        let early = if error.is_eof() {
            "the JSON ends too early: "
        } else {
            ""
        };
        Error::Format {
            origin: origin.into(),
            message: format!("{at}{early}{}", said(error)),
            remedy: remedy.into(),
        }
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|e| fail(e.path().to_string(), e.inner()))?;
    reader.end().map_err(|e| fail(".".into(), &e))?;
    keys(text).map_err(|e| fail(".".into(), &e))?;
    Ok(value)
}

/// A value whose objects have their keys in order, at every depth: what is read keeps the order of
/// the file, and what is written or compared as text is not to depend on it.
pub fn sorted(mut value: Value) -> Value {
    value.sort_all_objects();
    value
}

/// A row as a line without its end: columns in the order of their names, and what they hold, such
/// as conversations, in the order in which it came.
///
/// # Errors
/// None that is known of.
pub fn row(mut columns: Map<String, Value>) -> serde_json::Result<String> {
    columns.sort_keys();
    serde_json::to_string(&columns)
}

/// [`from_str`] of a line of a file: `place` names it, and errors name the column.
///
/// # Errors
/// As [`from_str`].
pub fn line<T: DeserializeOwned>(text: &str, place: &str, remedy: &str) -> Result<T> {
    from_str(text).map_err(|e| Error::Format {
        origin: place.into(),
        message: said(&e).replace(" at line 1 column ", " at column "),
        remedy: remedy.into(),
    })
}

/// [`parse`] of a file.
///
/// # Errors
/// A file that cannot be read or is not UTF-8; and as [`from_str`].
pub fn read<T: DeserializeOwned>(path: &Path, remedy: &str) -> Result<T> {
    parse(&super::read(path)?, &path.display().to_string(), remedy)
}

/// What is wrong, without names of Rust's types, which mean nothing in a data file.
fn said(error: &serde_json::Error) -> String {
    error
        .to_string()
        .replace("expected f64", "expected a number")
        .replace("expected u64", "expected a whole number")
        .replace("expected usize", "expected a whole number")
}

/// The message of an object that has a key twice.
fn twice<E: serde::de::Error>(key: &str) -> E {
    E::custom(format_args!("the key `{key}` is there twice"))
}

/// A value that was read with every key once.
struct Distinct(Value);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(Self)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> std::result::Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Distinct(value)) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(twice(&key));
            }
            let Distinct(value) = map.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// Looks at keys, and keeps nothing.
struct Keys;

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Keys).map(|()| Self)
    }
}

impl<'de> Visitor<'de> for Keys {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key_seed(Key)? {
            if seen.contains(&key) {
                return Err(twice(&key));
            }
            seen.insert(key);
            map.next_value::<Self>()?;
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Self::Value, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = std::borrow::Cow<'de, str>;

            fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
                to.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> std::result::Result<Self::Value, E> {
                Ok(key.into())
            }

            fn visit_str<E>(self, key: &str) -> std::result::Result<Self::Value, E> {
                Ok(key.to_owned().into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const TWICE: [&str; 5] = [
        r#"{"a": 1, "a": 1}"#,
        r#"{"x": {"a": 1, "b": [], "a": 2}}"#,
        r#"[1, {"b": [{"a": null, "a": null}]}]"#,
        r#"{"a": "x", "\u0061": "y"}"#,
        "{\"x\": 1,\n\"a\": 2, \"a\": 3}",
    ];

    #[test]
    fn a_key_twice_is_refused_at_every_depth() {
        for text in TWICE {
            let refused = [
                value(text).map(|_| ()),
                keys(text),
                from_str::<Value>(text).map(|_| ()),
                // Even where nobody looks.
                from_str::<serde::de::IgnoredAny>(text).map(|_| ()),
            ];
            for result in refused {
                let error = result.unwrap_err().to_string();
                assert!(
                    error.contains("the key `a` is there twice at line"),
                    "{error}"
                );
            }
        }
        let error = parse::<Value>(TWICE[4], "f.json", "mend it")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("f.json: the key `a` is there twice at line 2 column"),
            "{error}"
        );
    }

    #[test]
    fn a_path_ends_with_the_last_name_that_was_read() {
        type Nested = BTreeMap<String, Vec<BTreeMap<String, u8>>>;
        for (text, said) in [
            ("{a: 1}", "f.json: key must be"),
            (r#"{"a": [],}"#, "f.json: trailing comma"),
            (r#"{"a": [{"b": 1,}]}"#, "f.json: a[0]: trailing comma"),
            (r#"{"a": [{b: 1}]}"#, "f.json: a[0]: key must be"),
        ] {
            let error = parse::<Nested>(text, "f.json", "mend it").unwrap_err();
            assert!(error.to_string().starts_with(said), "{error}");
        }
    }

    #[test]
    fn keys_keep_their_order_until_they_are_sorted() {
        let text = r#"{"z":1,"a":{"y":[{"d":1,"c":2}],"b":3}}"#;
        let read = value(text).unwrap();
        assert_eq!(read.to_string(), text);
        let columns = read.as_object().unwrap().clone();
        let by_name = r#"{"a":{"y":[{"d":1,"c":2}],"b":3},"z":1}"#;
        assert_eq!(row(columns).unwrap(), by_name);
        let all = r#"{"a":{"b":3,"y":[{"c":2,"d":1}]},"z":1}"#;
        assert_eq!(sorted(read).to_string(), all);
    }

    #[test]
    fn values_are_those_of_serde_json() {
        for text in [
            r#"{"z": [1, -2, 1.5, 1e400, 0.1, 18446744073709551615], "a": {"z": null, "b": true}}"#,
            r#"["\u0041\n", "", {}, [], [[]], -0.0, 123456789012345678901234567890]"#,
            "3",
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "1 2",
        ] {
            let expected = serde_json::from_str::<Value>(text);
            match (value(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => {
                    assert_eq!(found.to_string(), expected.to_string(), "{text}");
                }
                (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
            }
        }
    }
}
