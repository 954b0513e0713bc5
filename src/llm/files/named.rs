//! Enums whose variants a person names, in files and on the command line.

/// A variant as a person meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The name, everywhere.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// An enum whose variants a person names.
pub trait Named: Copy + PartialEq + 'static {
    /// All variants, in the order of help.
    const ALL: &'static [Self];
    /// Their names, in the same order.
    const NAMES: &'static [Name];

    /// The variant's name.
    fn name(self) -> &'static str;

    /// The variant of that name.
    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|v| v.name() == name)
    }
}

/// Declares an enum with the name of every variant behind it, which is serde's too; a variant's docs are
/// its help.
macro_rules! named {
    (
        $(#[$meta:meta])*
        pub enum $type:ident {
            $( $(#[doc = $doc:literal])+ $variant:ident = $name:literal, )+
        }
    ) => {
        $(#[$meta])*
        pub enum $type {
            $( $(#[doc = $doc])+ #[serde(rename = $name)] $variant, )+
        }

        impl $type {
            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $name, )+
                }
            }
        }

        impl $crate::llm::files::named::Named for $type {
            const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];
            const NAMES: &'static [$crate::llm::files::named::Name] = &[
                $( $crate::llm::files::named::Name {
                    name: $name,
                    help: concat!($($doc),+).trim_ascii(),
                }, )+
            ];

            fn name(self) -> &'static str {
                self.name()
            }
        }
    };
}
pub(in crate::llm) use named;

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    named! {
        /// Fruit.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        pub enum Fruit {
            /// With a core
            Apple = "apple",
            /// With a stone,
            /// of two kinds
            SourCherry = "sour-cherry",
        }
    }

    #[test]
    fn a_variant_has_one_name_everywhere() {
        for (fruit, known) in Fruit::ALL.iter().zip(Fruit::NAMES) {
            assert_eq!(fruit.name(), known.name);
            assert_eq!(Fruit::parse(known.name), Some(*fruit));
            let text = serde_json::to_string(fruit).unwrap();
            assert_eq!(text, format!("{:?}", known.name));
            assert_eq!(serde_json::from_str::<Fruit>(&text).unwrap(), *fruit);
        }
        assert_eq!(Fruit::ALL.len(), 2);
        assert_eq!(Fruit::NAMES[1].help, "With a stone, of two kinds");
        assert_eq!(Fruit::parse("Apple"), None);
    }
}
