//! Layout of a minibatch: the responses that make up each row of a loss, and each row's weight.

use std::ops::Range;

use super::batches::{Data, Tuple, Tuples};
use crate::loss::InputKind;

/// Rows of a block of seeds, each seed's beside the next one's.
pub(super) struct RowPlan {
    kind: InputKind,
    /// Number of arms of all prompts.
    arms: usize,
    rows_per_seed: usize,
    /// Entries of a slot's array per seed.
    entries_per_seed: usize,
    /// Of each counted tuple, its row and second row; absent when rows are examples.
    of_tuple: Option<Vec<[u32; 2]>>,
    /// (seed, arm) of each entry of each slot's arrays, as `seed · arms + arm`.
    pub slots: Vec<Vec<u32>>,
    /// Weight of each row.
    pub weight: Vec<f64>,
}

const NONE: u32 = u32::MAX;

impl RowPlan {
    pub(super) fn new(kind: InputKind, tuples: &Tuples, seeds: usize, batch: usize) -> Self {
        let arms = tuples.arms();
        let (of_tuple, rows_per_seed, slots) = match &tuples.counted {
            Some(all) => {
                let (of_tuple, members) = distinct_rows(kind, all, arms);
                let entries = members[0].len();
                let rows = if kind.is_groups() {
                    entries / 2
                } else {
                    entries
                };
                let shifted = |slot: &Vec<u32>| -> Vec<u32> {
                    let of_seed = |s: usize| slot.iter().map(move |a| (s * arms) as u32 + a);
                    (0..seeds).flat_map(of_seed).collect()
                };
                (Some(of_tuple), rows, members.iter().map(shifted).collect())
            }
            None => {
                // Slots, entries per example and rows per example.
                let (slots, entries, rows) = match kind {
                    InputKind::ScoredPairs | InputKind::LabelledPairs => (2, 1, 1),
                    InputKind::Singles => (1, 2, 2),
                    InputKind::Groups | InputKind::Tokens => (1, 2, 1),
                    InputKind::Rated | InputKind::Lists => unreachable!("refused by Config::check"),
                };
                (
                    None,
                    batch * rows,
                    vec![vec![0; seeds * batch * entries]; slots],
                )
            }
        };
        let weight = vec![0.0; seeds * rows_per_seed];
        let slots: Vec<Vec<u32>> = slots;
        let entries_per_seed = slots[0].len() / seeds;
        Self {
            kind,
            arms,
            rows_per_seed,
            entries_per_seed,
            of_tuple,
            slots,
            weight,
        }
    }

    /// Whether the rows stay the same from minibatch to minibatch.
    pub(super) fn is_fixed(&self) -> bool {
        self.of_tuple.is_some()
    }

    /// Sets the weights (and, where rows are examples, the arms) for a minibatch.
    pub(super) fn load(&mut self, data: &[Data], batch: Range<usize>) {
        let each = 1.0 / batch.len() as f64;
        self.weight.fill(0.0);
        let seeds = data
            .iter()
            .zip(self.weight.chunks_exact_mut(self.rows_per_seed));
        if let Some(of_tuple) = &self.of_tuple {
            for (data, weight) in seeds {
                for (&count, &[row, second]) in data.counts.iter().zip(of_tuple) {
                    let w = f64::from(count) * each;
                    weight[row as usize] += w;
                    if second != NONE {
                        weight[second as usize] += w;
                    }
                }
            }
            return;
        }
        for (seed, (data, weight)) in seeds.enumerate() {
            let base = (seed * self.arms) as u32;
            for (i, tuple) in data.listed(batch.clone()).enumerate() {
                let (y, z) = ordered(self.kind, tuple);
                if let [first, second] = self.slots.as_mut_slice() {
                    first[seed * self.rows_per_seed + i] = base + y;
                    second[seed * self.rows_per_seed + i] = base + z;
                } else {
                    let slot = &mut self.slots[0];
                    let entry = seed * self.entries_per_seed + 2 * i;
                    slot[entry] = base + y;
                    slot[entry + 1] = base + z;
                }
                if self.kind == InputKind::Singles {
                    weight[2 * i..2 * i + 2].fill(each);
                } else {
                    weight[i] = each;
                }
            }
        }
    }
}

/// The pair as the objective sees it: the preferred response first where there are labels.
fn ordered(kind: InputKind, (y, z, preferred): Tuple) -> (u32, u32) {
    if kind == InputKind::LabelledPairs && !preferred {
        (z, y)
    } else {
        (y, z)
    }
}

/// Rows shared by all tuples that look the same to the objective: the rows of each tuple, and the
/// arms of each row per slot.
fn distinct_rows(kind: InputKind, tuples: &[Tuple], arms: usize) -> (Vec<[u32; 2]>, Vec<Vec<u32>>) {
    if kind == InputKind::Singles {
        let of_tuple = tuples.iter().map(|&(y, z, _)| [y, z]).collect();
        return (of_tuple, vec![(0..arms as u32).collect()]);
    }
    let look: Vec<(u32, u32)> = tuples.iter().map(|&t| ordered(kind, t)).collect();
    let mut rows = look.clone();
    rows.sort_unstable();
    rows.dedup();
    let row = |pair| rows.binary_search(pair).unwrap_or_default() as u32;
    let of_tuple = look.iter().map(|pair| [row(pair), NONE]).collect();
    let members = if kind.is_groups() {
        vec![rows.iter().flat_map(|&(y, z)| [y, z]).collect()]
    } else {
        let (first, second) = rows.into_iter().unzip();
        vec![first, second]
    };
    (of_tuple, members)
}
