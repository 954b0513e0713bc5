//! What a setting may be: one value, perhaps one, several, or names with a text each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Given, Kind};
use crate::llm::files::named::Named;
use crate::text;

/// One value of a setting.
pub trait Single: Sized {
    /// What it is.
    const KIND: Kind;
    /// The value that was given, if it is of this kind.
    fn of(given: Given) -> Option<Self>;
    /// The value as a person would give it.
    fn text(&self) -> String;
}

/// The type of a field: one value, perhaps one, or several.
pub trait Setting {
    /// What one value is.
    const KIND: Kind;
    /// Whether there may be several.
    const LIST: bool = false;
    /// Takes the values that were given.
    fn lay(&mut self, given: Vec<Given>);
    /// The value in text, if there is one.
    fn text(&self) -> Option<String> {
        None
    }
    /// Whether it is left out of a file.
    fn absent(&self) -> bool {
        false
    }
}

impl<T: Single> Setting for T {
    const KIND: Kind = T::KIND;

    fn lay(&mut self, given: Vec<Given>) {
        if let Some(value) = given.into_iter().filter_map(T::of).next_back() {
            *self = value;
        }
    }

    fn text(&self) -> Option<String> {
        Some(Single::text(self))
    }
}

impl<T: Single> Setting for Option<T> {
    const KIND: Kind = T::KIND;

    fn lay(&mut self, given: Vec<Given>) {
        *self = given.into_iter().filter_map(T::of).next_back();
    }

    fn absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Single> Setting for Vec<T> {
    const KIND: Kind = T::KIND;
    const LIST: bool = true;

    fn lay(&mut self, given: Vec<Given>) {
        *self = given.into_iter().filter_map(T::of).collect();
    }
}

/// What is given comes to what is there, entry by entry.
impl Setting for BTreeMap<String, String> {
    const KIND: Kind = Kind::Assignments;
    const LIST: bool = true;

    fn lay(&mut self, given: Vec<Given>) {
        self.extend(given.into_iter().filter_map(<(String, String)>::of));
    }

    fn absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Named> Single for T {
    const KIND: Kind = Kind::OneOf(T::NAMES);

    fn of(given: Given) -> Option<Self> {
        T::parse(&String::of(given)?)
    }

    fn text(&self) -> String {
        self.name().into()
    }
}

/// Types that are a value as it was given.
macro_rules! singles {
    ($($type:ty: $kind:ident, $given:pat => $value:expr, $self:ident => $text:expr;)+) => {$(
        impl Single for $type {
            const KIND: Kind = Kind::$kind;

            fn of(given: Given) -> Option<Self> {
                match given {
                    $given => $value,
                    _ => None,
                }
            }

            fn text(&self) -> String {
                let $self = self;
                $text
            }
        }
    )+};
}
singles! {
    bool: Switch, Given::Truth(x) => Some(x), x => x.to_string();
    f64: Number, Given::Number(x) => Some(x), x => text::exact(*x);
    u64: Whole, Given::Whole(x) => Some(x), x => x.to_string();
    usize: Whole, Given::Whole(x) => x.try_into().ok(), x => x.to_string();
    String: Text, Given::Text(x) => Some(x), x => x.clone();
    PathBuf: Path, Given::Path(x) => Some(x), x => x.display().to_string();
    (String, String): Assignments, Given::Assignment(a, b) => Some((a, b)), x => format!("{}={}", x.0, x.1);
    toml::Table: Table, Given::Truth(_) => None, x => x.to_string();
}
