//! Lists and objects that know their size, and print as Python's do.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, Value};
use serde_json::{Map, Value as Json};

use super::{ENTRY, Weight, charge, weigh};
use crate::llm::text::chat::python;
use crate::llm::text::data::expression;

/// A list.
#[derive(Debug)]
pub(in crate::llm::text::chat) struct List {
    entries: Vec<Value>,
    weight: Weight,
}

impl List {
    /// # Errors
    /// If it is too large or too deep, or work is at its end.
    pub fn of(entries: Vec<Value>) -> Result<Value, Error> {
        let mut weight = Weight::default();
        for entry in &entries {
            weight = weight.and(weigh(entry)?);
        }
        charge(entries.len() as u64 * ENTRY)?;
        let weight = Weight {
            depth: weight.depth.max(1),
            ..weight
        }
        .check()?;
        Ok(Value::from_object(Self { entries, weight }))
    }

    pub fn entries(&self) -> &[Value] {
        &self.entries
    }

    pub fn weight(&self) -> Weight {
        self.weight
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.entries.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.entries.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = Value::from_dyn_object(self.clone());
        f.write_str(&python::text(&value).map_err(|_| fmt::Error)?)
    }
}

/// An object, in the order of its keys.
#[derive(Debug)]
pub(in crate::llm::text::chat) struct Dict {
    entries: Vec<(Value, Value)>,
    places: HashMap<Value, usize>,
    weight: Weight,
}

impl Dict {
    /// # Errors
    /// If it is too large or too deep, or work is at its end.
    pub fn of(pairs: impl IntoIterator<Item = (Value, Value)>) -> Result<Value, Error> {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        let mut places = HashMap::new();
        let mut weight = Weight {
            depth: 1,
            ..Weight::default()
        };
        for (key, value) in pairs {
            charge(16 * ENTRY)?;
            weight = weight.and(weigh(&key)?).and(weigh(&value)?);
            match places.get(&key) {
                Some(&place) => {
                    let place: usize = place;
                    entries[place].1 = value;
                }
                None => {
                    places.insert(key.clone(), entries.len());
                    entries.push((key, value));
                }
            }
        }
        let weight = weight.check()?;
        Ok(Value::from_object(Self {
            entries,
            places,
            weight,
        }))
    }

    pub fn weight(&self) -> Weight {
        self.weight
    }
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.places
            .get(key)
            .map(|&place| self.entries[place].1.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries.iter().map(|(key, _)| key.clone()).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = Value::from_dyn_object(self.clone());
        f.write_str(&python::text(&value).map_err(|_| fmt::Error)?)
    }
}

/// A JSON value for templates.
///
/// # Errors
/// If it is too large or too deep.
pub(in crate::llm::text::chat) fn from_json(json: &Json) -> Result<Value, Error> {
    match json {
        Json::Array(list) => List::of(list.iter().map(from_json).collect::<Result<_, _>>()?),
        Json::Object(fields) => from_fields(fields),
        other => Ok(expression::value(other)),
    }
}

/// A JSON object for templates.
///
/// # Errors
/// If it is too large or too deep.
pub(in crate::llm::text::chat) fn from_fields(fields: &Map<String, Json>) -> Result<Value, Error> {
    let pairs = fields
        .iter()
        .map(|(name, value)| Ok((Value::from(name.as_str()), from_json(value)?)));
    Dict::of(pairs.collect::<Result<Vec<_>, Error>>()?)
}
