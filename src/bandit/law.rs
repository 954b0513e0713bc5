//! Behaviour laws: the distributions that pairs of responses are drawn from.

use super::problem::Simplex;
use crate::error::{Error, Result};

/// A law over ordered pairs (y, y′) of arms.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PairLaw {
    /// y ~ μ₁ and y′ ~ μ₂, independent.
    Product {
        /// μ₁.
        first: Vec<f64>,
        /// μ₂.
        second: Vec<f64>,
    },
    /// Any joint law, as its non-zero entries.
    Joint {
        /// Number of arms.
        arms: usize,
        /// (y, y′, probability).
        entries: Vec<(u32, u32, f64)>,
    },
}

impl PairLaw {
    /// Two product laws.
    pub fn product(first: Simplex, second: Simplex) -> Self {
        Self::Product {
            first: first.into_inner(),
            second: second.into_inner(),
        }
    }

    /// A joint law from its K × K table.
    ///
    /// # Errors
    /// A table that is not square, or whose entries are not a distribution.
    pub fn joint(place: &str, table: &[Vec<f64>]) -> Result<Self> {
        let arms = table.len();
        if let Some(row) = table.iter().position(|row| row.len() != arms) {
            return Err(Error::invalid(
                format!("{place}[{row}]"),
                format!(
                    "it has {} entries and there are {arms} rows",
                    table[row].len()
                ),
                "give a square table: one row and one column per arm",
            ));
        }
        let flat = Simplex::new(place, table.concat())?;
        let entries = (flat.iter().enumerate())
            .filter(|&(_, &p)| p > 0.0)
            .map(|(i, &p)| ((i / arms) as u32, (i % arms) as u32, p))
            .collect();
        Ok(Self::Joint { arms, entries })
    }

    /// No law, of a problem that gives none: no pair has any probability.
    pub(super) fn unknown(arms: usize) -> Self {
        let entries = Vec::new();
        Self::Joint { arms, entries }
    }

    /// True if the problem gives a law.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Joint { entries, .. } if entries.is_empty())
    }

    /// The field of a problem file that gives it.
    pub(super) fn field(&self) -> &'static str {
        match self {
            Self::Product { .. } => "behavior",
            Self::Joint { .. } => "pairs",
        }
    }

    /// Number of arms.
    pub fn arms(&self) -> usize {
        match self {
            Self::Product { first, .. } => first.len(),
            Self::Joint { arms, .. } => *arms,
        }
    }

    /// The marginals of y and y′.
    pub fn marginals(&self) -> (Vec<f64>, Vec<f64>) {
        match self {
            Self::Product { first, second } => (first.clone(), second.clone()),
            Self::Joint { arms, entries } => {
                let (mut first, mut second) = (vec![0.0; *arms], vec![0.0; *arms]);
                for &(y, z, p) in entries {
                    first[y as usize] += p;
                    second[z as usize] += p;
                }
                (first, second)
            }
        }
    }

    /// The probabilities of all ordered pairs, `[y K + y′]`.
    pub fn table(&self) -> Vec<f64> {
        let k = self.arms();
        match self {
            Self::Product { first, second } => (first.iter())
                .flat_map(|p| second.iter().map(move |q| p * q))
                .collect(),
            Self::Joint { entries, .. } => {
                let mut table = vec![0.0; k * k];
                for &(y, z, p) in entries {
                    table[y as usize * k + z as usize] += p;
                }
                table
            }
        }
    }

    /// The probability of the ordered pair (y, y′). Of a joint law this looks through all entries;
    /// who asks for every pair takes the [`table`](Self::table).
    pub fn probability(&self, y: usize, z: usize) -> f64 {
        match self {
            Self::Product { first, second } => first[y] * second[z],
            Self::Joint { entries, .. } => (entries.iter())
                .filter(|&&(a, b, _)| (a as usize, b as usize) == (y, z))
                .map(|e| e.2)
                .sum(),
        }
    }

    /// The law on the kept arms, `position[arm]` being where each went.
    ///
    /// # Errors
    /// The first arm that has mass and was not kept.
    pub(super) fn restrict(&self, position: &[Option<u32>]) -> std::result::Result<Self, usize> {
        let arms = position.iter().flatten().count();
        match self {
            Self::Product { first, second } => {
                let keep = |law: &[f64]| {
                    let mut kept = Vec::with_capacity(arms);
                    for (arm, &p) in law.iter().enumerate() {
                        match position[arm] {
                            Some(_) => kept.push(p),
                            None if p > 0.0 => return Err(arm),
                            None => {}
                        }
                    }
                    Ok(kept)
                };
                Ok(Self::Product {
                    first: keep(first)?,
                    second: keep(second)?,
                })
            }
            Self::Joint { entries, .. } => {
                let at = |arm: u32| position[arm as usize].ok_or(arm as usize);
                let entries = (entries.iter())
                    .map(|&(y, z, p)| Ok((at(y)?, at(z)?, p)))
                    .collect::<std::result::Result<_, usize>>()?;
                Ok(Self::Joint { arms, entries })
            }
        }
    }
}
