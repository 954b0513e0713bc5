//! Settings declared once: from one list come a struct, its defaults, and what files, flags and pages
//! are made of.

mod numbers;
mod values;

use std::path::PathBuf;

use super::named::Name;
pub use numbers::Apart;
pub use values::{Setting, Single};

/// A setting as a person meets it.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in a file.
    pub name: &'static str,
    /// What it is or does.
    pub help: &'static str,
    /// The group it is shown in.
    pub heading: Option<&'static str>,
    /// How it is given on the command line.
    pub flag: Flag,
    /// What stands for the value in help, if not the field's name.
    pub value_name: Option<&'static str>,
    /// What a value of it is.
    pub kind: Kind,
    /// Whether it takes several values.
    pub list: bool,
    /// The default in text, where there is one.
    pub default: fn() -> Option<String>,
    /// Whether its flag may be followed by a number below 0.
    pub negative: bool,
    /// The value of a flag that is given without one.
    pub missing: Option<&'static str>,
    /// What separates several values in one flag.
    pub delimiter: Option<char>,
}

/// How a setting is given on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flag {
    /// By `--` and the field's name, with - for _.
    Own,
    /// By `--` and this name.
    Called(&'static str),
    /// As the argument without a flag.
    Positional,
    /// By `--` and the name of a number that an objective has.
    Numbers,
    /// Not at all.
    None,
}

/// What a value of a setting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// True by a flag without a value.
    Switch,
    /// `true` or `false`.
    Truth,
    /// A number.
    Number,
    /// A whole number, not below 0.
    Whole,
    /// Text.
    Text,
    /// Text, in whose flag `\n` is a line's end, `\t` a tab and `\\` a backslash.
    Escaped,
    /// The path of a file or folder.
    Path,
    /// One of these.
    OneOf(&'static [Name]),
    /// Names with a text each.
    Assignments,
    /// Names with a number each.
    Numbers,
    /// A table of a file.
    Table,
}

/// A value given for a setting.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Given {
    /// A truth value.
    Truth(bool),
    /// A number.
    Number(f64),
    /// A whole number.
    Whole(u64),
    /// Text, or the name of a variant.
    Text(String),
    /// A path.
    Path(PathBuf),
    /// A name and its text.
    Assignment(String, String),
    /// A name and its number.
    Named(String, f64),
}

/// Settings whose fields can be read off and set by name.
pub trait Fields: Default + 'static {
    /// All fields, in the order of help.
    const FIELDS: &'static [Field];

    /// Gives a field the values in place of what it holds. A name that is no field's changes nothing; values of
    /// another kind are left out.
    fn lay(&mut self, name: &str, given: Vec<Given>);
}

impl Field {
    /// A field by its name, docs and type, under no heading.
    pub(in crate::llm) const fn new<T: Setting>(
        name: &'static str,
        docs: &'static str,
        default: fn() -> Option<String>,
    ) -> Self {
        Self {
            name: plain(name),
            help: docs.trim_ascii(),
            heading: None,
            flag: Flag::Own,
            value_name: None,
            kind: T::KIND,
            list: T::LIST,
            default,
            negative: false,
            missing: None,
            delimiter: None,
        }
    }

    /// Its flag without the `--`, if it has one.
    pub fn long(&self) -> Option<String> {
        match self.flag {
            Flag::Own => Some(self.name.replace('_', "-")),
            Flag::Called(name) => Some(name.into()),
            Flag::Positional | Flag::Numbers | Flag::None => None,
        }
    }
}

/// A group's fields are shown under this heading.
pub(in crate::llm) const fn heading(field: Field, heading: &'static str) -> Field {
    Field {
        heading: Some(heading),
        ..field
    }
}

/// A group's fields have no heading and are given in this way.
pub(in crate::llm) const fn given(field: Field, flag: Flag) -> Field {
    Field { flag, ..field }
}

/// A group's fields are those of that name among others.
///
/// # Panics
/// While compiling, where there is none.
pub(in crate::llm) const fn of(field: Field, others: &'static [Field]) -> Field {
    let mut i = 0;
    while !same(field.name, others[i].name) {
        i += 1;
    }
    others[i]
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// An identifier without `r#`.
pub(in crate::llm) const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Declares settings, field by field in groups: docs (which are the help), type, default, and what a
/// [`Field`] has else. A group's head says where its fields are shown; attributes of serde stand
/// in brackets.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $settings:ident {
            $( $group:ident($of:expr) { $(
                $(#[doc = $doc:literal])+
                $([$attribute:meta])*
                $field:ident: $type:ty = $default:expr $(, $option:ident: $how:expr)*;
            )* } )*
        }
    ) => {
        $(#[$meta])*
        pub struct $settings { $( $(
            $(#[doc = $doc])+
            #[serde(skip_serializing_if = "crate::llm::files::settings::Setting::absent")]
            $(#[$attribute])*
            pub $field: $type,
        )* )* }

        impl Default for $settings {
            fn default() -> Self {
                Self { $( $( $field: $default, )* )* }
            }
        }

        impl $crate::llm::files::settings::Fields for $settings {
            const FIELDS: &'static [$crate::llm::files::settings::Field] = {
                use $crate::llm::files::settings::{Field, Setting};
                &[ $( $( $crate::llm::files::settings::$group(
                    Field {
                        $($option: $how,)*
                        ..Field::new::<$type>(
                            stringify!($field),
                            concat!($($doc),+),
                            || { let default: $type = $default; Setting::text(&default) },
                        )
                    },
                    $of,
                ), )* )* ]
            };

            fn lay(&mut self, name: &str, given: Vec<$crate::llm::files::settings::Given>) {
                use $crate::llm::files::settings::{Setting, plain};
                $( $( if name == plain(stringify!($field)) {
                    return Setting::lay(&mut self.$field, given);
                } )* )*
            }
        }
    };
}
pub(in crate::llm) use settings;
