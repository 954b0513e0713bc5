//! The rows a training run leaves behind, read back for a figure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::table::{Cell, read_numbered, table};
use crate::observer::Observer;

/// Learning rates that one run may have: a figure has a panel for each.
pub const MOST_RATES: usize = 30;

table! {
    /// A line of `rows.csv`.
    pub struct Row {
        lr: Rate,
        objective: String,
        seed: u64,
        epoch: u64,
        regret: f64,
    }
}

table! {
    /// A line of `limits.csv`.
    pub struct Limit {
        objective: String,
        regret: Option<f64>,
    }
}

/// A learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(pub f64);

impl Cell for Rate {
    const KIND: &'static str = "a positive number";
    fn write(&self) -> String {
        self.0.write()
    }
    fn read(text: &str) -> Option<Self> {
        f64::read(text).filter(|v| *v > 0.0).map(Self)
    }
}

/// The regrets of one objective at one learning rate: by epoch, then by seed.
pub type Curve = BTreeMap<u64, BTreeMap<u64, f64>>;

/// All curves at one learning rate, by objective.
pub struct Sweep {
    /// The learning rate.
    pub lr: f64,
    /// The curves by the objective's name.
    pub curves: BTreeMap<String, Curve>,
}

/// Reads `rows.csv`: one [`Sweep`] per learning rate, in ascending order, at least one.
///
/// A last line that an interruption cut off is left out, and the observer is told.
pub fn read_rows(path: &Path, observer: &dyn Observer) -> Result<Vec<Sweep>> {
    gather(&path.display().to_string(), read_numbered(path, observer)?)
}

/// Reads `limits.csv`: the exact limit of each objective's regret, where one is known.
pub fn read_limits(path: &Path, observer: &dyn Observer) -> Result<BTreeMap<String, f64>> {
    let rows: Vec<(_, Limit)> = read_numbered(path, observer)?;
    let known = rows
        .into_iter()
        .filter_map(|(_, row)| Some((row.objective, row.regret?)));
    Ok(known.collect())
}

fn gather(file: &str, rows: Vec<(usize, Row)>) -> Result<Vec<Sweep>> {
    // Keyed by the bits of the learning rate, which is positive: their order is its order.
    let mut sweeps: BTreeMap<u64, Sweep> = BTreeMap::new();
    for (line, row) in rows {
        let Row {
            lr: Rate(lr),
            objective,
            seed,
            epoch,
            regret,
        } = row;
        let sweep = sweeps.entry(lr.to_bits()).or_insert_with(|| Sweep {
            lr,
            curves: BTreeMap::new(),
        });
        let curve = sweep.curves.entry(objective.clone()).or_default();
        match curve.entry(epoch).or_default().entry(seed) {
            Entry::Vacant(slot) => slot.insert(regret),
            Entry::Occupied(_) => bail!(
                "{file} line {line}: epoch {epoch} of seed {seed} of {objective} at lr {lr} \
                 was given before"
            ),
        };
    }
    ensure!(!sweeps.is_empty(), "{file} holds no complete row to draw");
    Ok(sweeps.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::table::{Record, parse};

    fn sweeps(lines: &str) -> Result<Vec<Sweep>> {
        gather(
            "rows.csv",
            parse("rows.csv", &format!("{}\n{lines}", Row::header()))?,
        )
    }

    #[test]
    fn rows_group_by_rate_objective_and_epoch() {
        let sweeps = sweeps("0.01,ipo,0,0,0.3\n0.001,ipo,0,0,0.2\n0.001,ipo,1,0,0.4\n")
            .expect("well formed");
        assert_eq!(
            sweeps.iter().map(|s| s.lr).collect::<Vec<_>>(),
            [0.001, 0.01]
        );
        let at_start = &sweeps[0].curves["ipo"][&0];
        assert_eq!(at_start.values().copied().collect::<Vec<_>>(), [0.2, 0.4]);
    }

    #[test]
    fn a_malformed_row_is_named() {
        for (row, names) in [
            ("0.1,ipo,0,0,NaN", "line 2: regret: `NaN`"),
            ("0.1,ipo,0,-1,0.2", "line 2: epoch: `-1`"),
            ("0.1,ipo,x,0,0.2", "line 2: seed: `x`"),
            ("0,ipo,0,0,0.2", "line 2: lr: `0`"),
            ("0.1,,0,0,0.2", "line 2: objective: ``"),
            ("0.1,ipo,0,0", "line 2: expected 5 fields, found 4"),
            ("0.1,ipo,0,0,1\n0.1,ipo,0,0,1", "line 3: epoch 0 of seed 0"),
        ] {
            let message =
                sweeps(&format!("{row}\n")).map_or_else(|e| e.to_string(), |_| "none".into());
            assert!(message.contains(names), "{row}: {message}");
        }
    }
}
