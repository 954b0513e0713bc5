//! Fields of a JSON object, of which none is left unread.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

use super::json::Object;
use crate::error::{Error, Result};

/// The fields of an object, and which of them have been read.
pub struct Fields<'a> {
    object: &'a Object,
    prefix: &'static str,
    seen: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    /// The fields of a configuration.
    pub fn new(object: &'a Object) -> Self {
        Self::within("", object)
    }

    /// The fields of an object inside it.
    pub fn within(prefix: &'static str, object: &'a Object) -> Self {
        let seen = RefCell::default();
        Self {
            object,
            prefix,
            seen,
        }
    }

    /// A field, unless it is absent or `null`.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.seen.borrow_mut().insert(name.into());
        self.object.get(name).filter(|v| !v.is_null())
    }

    /// True if the field is there, `null` included.
    pub fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// An error about a field.
    pub fn wrong(&self, name: &str, value: &Value, right: impl Into<String>) -> Error {
        let place = format!("{}{name}", self.prefix);
        Error::invalid(place, format!("it is {value}"), right)
    }

    /// A whole number from 1 to `most`.
    pub fn count(&self, name: &str, most: usize) -> Result<usize> {
        self.count_if_there(name, most)?.ok_or_else(|| {
            let place = format!("{}{name}", self.prefix);
            Error::invalid(place, "it is missing", "give a whole number above 0")
        })
    }

    /// A whole number from 1 to `most`, unless it is absent or `null`.
    pub fn count_if_there(&self, name: &str, most: usize) -> Result<Option<usize>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
        let count = count.filter(|n| (1..=most).contains(n));
        let right = || format!("give a whole number from 1 to {most}");
        Ok(Some(count.ok_or_else(|| self.wrong(name, value, right()))?))
    }

    /// A number that is not negative.
    pub fn number_or(&self, name: &str, default: f64) -> Result<f64> {
        let Some(value) = self.value(name) else {
            return Ok(default);
        };
        (value.as_f64())
            .filter(|x| x.is_finite() && *x >= 0.0)
            .ok_or_else(|| self.wrong(name, value, "give a number, not below 0"))
    }

    /// A number that must be there.
    pub fn number(&self, name: &str) -> Result<f64> {
        match self.value(name) {
            Some(_) => self.number_or(name, 0.0),
            None => {
                let place = format!("{}{name}", self.prefix);
                Err(Error::invalid(place, "it is missing", "give a number"))
            }
        }
    }

    /// A truth value.
    pub fn flag_or(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.value(name) else {
            return Ok(default);
        };
        (value.as_bool()).ok_or_else(|| self.wrong(name, value, "give true or false"))
    }

    /// Text.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let text = value.as_str();
        Ok(Some(
            text.ok_or_else(|| self.wrong(name, value, "give a string"))?,
        ))
    }

    /// A field that would change the arithmetic, at the only value that is supported (absent and
    /// `null` stand for it too).
    pub fn only(&self, name: &str, supported: impl Into<Value>) -> Result<()> {
        let supported = supported.into();
        let same = |value: &Value| match (value.as_f64(), supported.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => *value == supported,
        };
        match self.value(name) {
            Some(value) if !same(value) => {
                let right = format!("it changes the arithmetic, and only {supported} is supported");
                Err(self.wrong(name, value, right))
            }
            _ => Ok(()),
        }
    }

    /// Checks that every field was read, is among the harmless, or says nothing (`null`).
    ///
    /// # Errors
    /// The first that does not.
    pub fn all_known(&self, what: &str, harmless: &[&str]) -> Result<()> {
        let seen = self.seen.borrow();
        let known = |name: &str| seen.contains(name) || harmless.contains(&name);
        match (self.object.iter()).find(|(name, value)| !value.is_null() && !known(name)) {
            None => Ok(()),
            Some((name, value)) => {
                let right = format!(
                    "this field is not known for {what} and might change the arithmetic; remove \
                     it if it does not"
                );
                Err(self.wrong(name, value, right))
            }
        }
    }
}
