//! Numbers of a check.

use serde::Serialize;

use crate::llm::text::data::columns::Form;
use crate::llm::text::objective::TextObjective;
use crate::loss::InputKind;
use crate::loss::Objective;

/// Examples that objectives of one kind would see.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// The kind.
    pub kind: &'static str,
    /// Objectives of it that can be trained.
    pub objectives: Vec<&'static str>,
    /// Rows that they would take.
    pub rows: u64,
    /// Fault of the first row that they would refuse.
    pub first_refusal: Option<String>,
}

impl Seen {
    pub(super) fn new(form: Form) -> Self {
        let all = TextObjective::all().filter(|o| Form::from(*o).general() == form);
        Self {
            kind: form.name(),
            objectives: all.map(Objective::name).collect(),
            rows: 0,
            first_refusal: None,
        }
    }
}

/// Quantiles of lengths, by the nearest rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Number of lengths.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The shortest.
    pub min: u32,
    /// The median.
    pub p50: u32,
    /// Nine of ten are no longer.
    pub p90: u32,
    /// 99 of 100 are no longer.
    pub p99: u32,
    /// The longest.
    pub max: u32,
}

impl Quantiles {
    pub(super) fn of(mut lengths: Vec<u32>) -> Self {
        lengths.sort_unstable();
        let count = lengths.len();
        let at = |share: f64| {
            let rank = (share * count as f64).ceil() as usize;
            lengths.get(rank.max(1) - 1).copied().unwrap_or_default()
        };
        let sum: u64 = lengths.iter().map(|&n| u64::from(n)).sum();
        Self {
            count: count as u64,
            mean: sum as f64 / count.max(1) as f64,
            min: at(0.0),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

/// Repetitions in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Duplicates {
    /// Rows with the prompt and the responses of an earlier one.
    pub rows: u64,
    /// The first of them: the earlier row and the later.
    pub first: Vec<[String; 2]>,
    /// Different prompts.
    pub prompts: u64,
    /// Rows whose prompt another row has too.
    pub sharing: u64,
    /// The most rows that one prompt has.
    pub most: u64,
}

impl Duplicates {
    pub(super) fn count(&mut self, prompts: impl Iterator<Item = u64>) {
        for rows in prompts {
            self.prompts += 1;
            self.most = self.most.max(rows);
            if rows > 1 {
                self.sharing += rows;
            }
        }
    }
}

/// Labels or rewards of all responses.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Balance {
    /// Labels of rated responses.
    Labels {
        /// How many are.
        desirable: u64,
        /// How many are not.
        undesirable: u64,
    },
    /// Rewards of scored responses.
    Rewards {
        /// The least.
        min: f64,
        /// Their mean.
        mean: f64,
        /// Their standard deviation.
        deviation: f64,
        /// The greatest.
        max: f64,
    },
}

impl Balance {
    pub(super) fn of(form: Form, rewards: &[f64]) -> Option<Self> {
        if !form.has_rewards() || rewards.is_empty() {
            return None;
        }
        if form == Form::Kind(InputKind::Rated) {
            let desirable = rewards.iter().filter(|&&r| r > 0.0).count() as u64;
            return Some(Self::Labels {
                desirable,
                undesirable: rewards.len() as u64 - desirable,
            });
        }
        let count = rewards.len() as f64;
        let mean = rewards.iter().sum::<f64>() / count;
        let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / count;
        Some(Self::Rewards {
            min: rewards.iter().copied().fold(f64::INFINITY, f64::min),
            mean,
            deviation: variance.sqrt(),
            max: rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let q = Quantiles::of((1..=200).rev().collect());
        assert_eq!((q.min, q.p50, q.p90, q.p99, q.max), (1, 100, 180, 198, 200));
        assert_eq!((q.count, q.mean), (200, 100.5));
        let one = Quantiles::of(vec![7]);
        assert_eq!((one.min, one.p50, one.p99, one.max), (7, 7, 7, 7));
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
    }

    #[test]
    fn prompts_that_several_rows_have() {
        let mut found = Duplicates::default();
        found.count([1, 3, 1, 2].into_iter());
        assert_eq!((found.prompts, found.sharing, found.most), (4, 5, 3));
    }
}
