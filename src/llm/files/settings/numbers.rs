//! Numbers of losses among settings: a table `[numbers]`, whose names the registry knows.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::{Given, Kind, Setting};
use crate::loss::{self, NumberOf, Objective};
use crate::text::suggestion;

/// A number in a file: JSON has no infinity, which is written by name.
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.is_infinite() {
            to.serialize_str(if self.0 > 0.0 { "inf" } else { "-inf" })
        } else {
            to.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number, or inf")
            }

            fn visit_f64<E>(self, x: f64) -> Result<Number, E> {
                Ok(Number(x))
            }

            fn visit_i64<E>(self, x: i64) -> Result<Number, E> {
                Ok(Number(x as f64))
            }

            fn visit_u64<E>(self, x: u64) -> Result<Number, E> {
                Ok(Number(x as f64))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Number, E> {
                match text {
                    "inf" => Ok(Number(f64::INFINITY)),
                    "-inf" => Ok(Number(f64::NEG_INFINITY)),
                    _ => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        from.deserialize_any(Any)
    }
}

impl Serialize for loss::Given {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (name, number) in self.iter() {
            map.serialize_entry(name, &Number(number))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for loss::Given {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let all = BTreeMap::<String, Number>::deserialize(from)?;
        if let Some(unknown) = all.keys().find(|name| !is_number(name)) {
            return Err(D::Error::custom(format!(
                "unknown number `{unknown}`, which no objective has; {}",
                suggestion(unknown, names())
            )));
        }
        Ok((all.into_iter()).fold(Self::new(), |all, (name, x)| all.with(name, x.0)))
    }
}

/// What is given comes to what is there, number by number.
impl Setting for loss::Given {
    const KIND: Kind = Kind::Numbers;
    const LIST: bool = true;

    fn lay(&mut self, given: Vec<Given>) {
        for given in given {
            if let Given::Named(name, number) = given {
                *self = std::mem::take(self).with(name, number);
            }
        }
    }

    fn absent(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// Names of the numbers that objectives have.
fn names() -> impl Iterator<Item = &'static str> {
    let all = NumberOf::all(&Objective::known());
    all.into_iter().map(|of| of.number.name)
}

fn is_number(name: &str) -> bool {
    names().any(|number| number == name)
}

/// The entries of a table of settings without numbers of losses that stand among the others, which are collected
/// apart: a number may stand in the table `[numbers]` or beside it.
pub struct Apart<'a, A> {
    entries: A,
    found: &'a mut loss::Given,
}

impl<'a, A> Apart<'a, A> {
    /// These entries, whose numbers go to `found`.
    pub fn new(entries: A, found: &'a mut loss::Given) -> Self {
        Self { entries, found }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Apart<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        while let Some(key) = self.entries.next_key::<String>()? {
            if !is_number(&key) {
                let key: StringDeserializer<A::Error> = key.into_deserializer();
                return seed.deserialize(key).map(Some);
            }
            let Number(number) = self.entries.next_value()?;
            *self.found = std::mem::take(self.found).with(key, number);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Self::Error> {
        self.entries.next_value_seed(seed)
    }
}
