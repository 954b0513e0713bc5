//! Named numbers of a loss, such as β: one list gives the struct that the loss reads, and what flags, files, docs
//! and refusals are made of.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::text::exact;

/// A number of a loss, as a person meets it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// Its name: `gamma` is `--gamma` on the command line and `gamma` in the table `[numbers]` of a file.
    pub name: &'static str,
    /// What it is or does.
    pub help: &'static str,
    /// Its value where nobody gives one; without, it must be given.
    pub default: Option<f64>,
    /// What it may be.
    pub range: Range,
}

impl Number {
    /// Its name on the command line, without the hyphens before it.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// What a number may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    low: f64,
    high: f64,
    /// Whether the ends are left out.
    open: [bool; 2],
    infinite: bool,
}

/// Any finite number.
pub const fn any() -> Range {
    Range {
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
        open: [true, true],
        infinite: false,
    }
}

/// A finite number above `low`.
pub const fn above(low: f64) -> Range {
    Range { low, ..any() }
}

/// A finite number from `low` up.
pub const fn from(low: f64) -> Range {
    Range {
        open: [false, true],
        ..above(low)
    }
}

/// A number from `low` up, infinity (`inf`) included.
pub const fn from_to_infinity(low: f64) -> Range {
    Range {
        infinite: true,
        ..from(low)
    }
}

/// A number from `low` up that is less than `high`.
pub const fn within(low: f64, high: f64) -> Range {
    Range { high, ..from(low) }
}

/// A number from 0 to 1, both included.
pub const fn share() -> Range {
    Range {
        open: [false, false],
        ..within(0.0, 1.0)
    }
}

impl Range {
    /// A number that it holds, neither at an end nor near one.
    pub fn example(&self) -> f64 {
        match (self.low.is_infinite(), self.high.is_infinite()) {
            (true, true) => 0.5,
            (false, true) => self.low + 2.5,
            (true, false) => self.high - 2.5,
            (false, false) => 0.5 * (self.low + self.high),
        }
    }

    /// Whether there is no number in it.
    pub fn is_empty(&self) -> bool {
        !self.holds(self.example())
    }

    /// Whether it holds a number.
    pub fn holds(&self, number: f64) -> bool {
        let [low, high] = self.open;
        let above = number > self.low || (!low && number == self.low);
        let below = number < self.high || (!high && number == self.high);
        if number.is_infinite() {
            return self.infinite && number > 0.0;
        }
        above && below
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (low, [open, open_above]) = (exact(self.low), self.open);
        let low = if self.low.is_infinite() {
            "a finite number".into()
        } else if open {
            format!("a finite number above {low}")
        } else if self.infinite {
            format!("a number from {low} up, or inf")
        } else {
            format!("a finite number from {low} up")
        };
        if self.high.is_infinite() {
            write!(f, "{low}")
        } else if open_above {
            write!(f, "{low}, below {}", exact(self.high))
        } else {
            write!(f, "{low}, at most {}", exact(self.high))
        }
    }
}

/// The numbers that were given, by name: those of flags and files, and those of a problem (its `beta` and `margin`).
/// Those that a loss does not have are not looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given(BTreeMap<String, f64>);

impl Given {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and another, in place of one of the same name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, number: f64) -> Self {
        self.0.insert(name.into(), number);
        self
    }

    /// These and others, in place of those of the same names.
    #[must_use]
    pub fn over(mut self, others: &Self) -> Self {
        self.0
            .extend(others.iter().map(|(n, x)| (n.to_string(), x)));
        self
    }

    /// The number of that name, if it was given.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, &number)| (name.as_str(), number))
    }

    /// The value of a number: what was given, or its default.
    ///
    /// # Errors
    /// One that must be given and is not, or is out of its range.
    pub fn value(&self, number: &Number) -> Result<f64> {
        let Number { name, help, .. } = number;
        let Some(value) = self.get(name).or(number.default) else {
            let remedy = format!("give {name}: {help}");
            let problem = "it is missing, and the objective needs it";
            return Err(Error::invalid(*name, problem, remedy));
        };
        if number.range.holds(value) {
            return Ok(value);
        }
        let problem = format!("it is {}", exact(value));
        Err(Error::invalid(
            *name,
            problem,
            format!("give {}", number.range),
        ))
    }
}

impl From<f64> for Given {
    /// β and nothing else.
    fn from(beta: f64) -> Self {
        Self::new().with("beta", beta)
    }
}

impl From<&Given> for Given {
    fn from(given: &Given) -> Self {
        given.clone()
    }
}

/// The numbers of a loss, made by [`numbers!`](crate::numbers).
pub trait Numbers: Sync + Send + 'static + Sized {
    /// The list of them.
    const ALL: &'static [Number];

    /// The numbers from those that were given.
    ///
    /// # Errors
    /// One that must be given and is not, or is out of its range.
    fn read(given: &Given) -> Result<Self>;

    /// Their values, in the order of the list.
    fn values(&self) -> Vec<f64>;
}

/// No numbers.
impl Numbers for () {
    const ALL: &'static [Number] = &[];

    fn read(_: &Given) -> Result<Self> {
        Ok(())
    }

    fn values(&self) -> Vec<f64> {
        Vec::new()
    }
}

/// Declares the numbers of a loss: of each its docs (which are the help of its flag), its name, its range and, unless
/// it must be given, its default.
///
/// ```
/// pistar::numbers! {
///     /// Numbers of SimPO.
///     pub struct SimPo {
///         /// β, the temperature
///         beta in above(0.0) = 2.0;
///         /// γ, by how much the preferred response is to be ahead
///         gamma in from(0.0) = 0.5;
///     }
/// }
/// ```
///
/// Ranges are [`any`], [`above`], [`from`], [`from_to_infinity`] and [`within`].
#[macro_export]
macro_rules! numbers {
    (
        $(#[$meta:meta])*
        $public:vis struct $numbers:ident {
            $( $(#[doc = $help:literal])+ $name:ident in $range:ident($($bound:expr),*) $(= $default:expr)?; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        $public struct $numbers {
            $( $(#[doc = $help])+ pub $name: f64, )*
        }

        impl $crate::loss::Numbers for $numbers {
            const ALL: &'static [$crate::loss::Number] = &[$(
                $crate::loss::Number {
                    name: stringify!($name),
                    help: concat!($($help),+).trim_ascii(),
                    default: { let none: Option<f64> = None; $(let none = { let _ = none; Some($default) };)? none },
                    range: $crate::loss::numbers::$range($($bound),*),
                },
            )*];

            fn read(given: &$crate::loss::Given) -> $crate::Result<Self> {
                let mut all = <Self as $crate::loss::Numbers>::ALL.iter();
                Ok(Self { $( $name: given.value(all.next().unwrap_or(&$crate::loss::numbers::LOST))?, )* })
            }

            fn values(&self) -> Vec<f64> {
                vec![$( self.$name, )*]
            }
        }
    };
}

/// What stands where a list has no further number, which the macro rules out.
#[doc(hidden)]
pub const LOST: Number = Number {
    name: "number",
    help: "",
    default: None,
    range: any(),
};

numbers! {
    /// The temperature alone.
    pub struct Temperature {
        /// β, the temperature of the KL penalty
        beta in above(0.0) = 0.1;
    }
}
