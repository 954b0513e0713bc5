//! The rows that `study dro --ablations` leaves behind, and what is read from them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::scores::Judged;
use super::spread::{self, Point, Spread};
use super::table::{read, table, unique};
use crate::observer::Observer;

table! {
    /// A judgement of a policy: means over one completion of each held-out prompt.
    pub struct Row {
        objective: String,
        /// τ, the objective's β.
        beta: f64,
        /// Learning rate of the policy, in the study's.
        lr: f64,
        /// Learning rate of a separate value network, in the study's.
        value_lr: Option<f64>,
        /// `separate`, `shared`, or `none` of an objective without V.
        value: String,
        /// `prompt`, `batch`, `token`, or `none`.
        value_per: String,
        seed: u64,
        step: u64,
        /// Win rate against the initial model on the prompts that choose the checkpoint; a tie is half a win.
        choosing: f64,
        /// Win rate on the other held-out prompts, as are all numbers that follow.
        win: f64,
        /// The rule's reward.
        reward: f64,
        /// `ln π/π₀` of the completion, in nats: an estimate of the KL divergence.
        kl: f64,
        /// How many those prompts are.
        prompts: u64,
    }
}

impl Judged for Row {
    fn run(&self) -> Option<(String, u64)> {
        let Self {
            objective,
            beta,
            lr,
            value,
            value_per,
            ..
        } = self;
        // The start is nobody's checkpoint.
        if self.step == 0 {
            return None;
        }
        let value_lr = self.value_lr.map_or("none".into(), |lr| format!("{lr}"));
        let algorithm =
            format!("{objective} β={beta} lr={lr} value-lr={value_lr} {value} {value_per}");
        Some((algorithm, self.seed))
    }

    fn rank(&self) -> f64 {
        self.choosing
    }

    fn score(&self) -> (f64, &'static str) {
        (self.win, "win rate of the best checkpoint")
    }
}

/// Reads `rows.csv` of a folder.
///
/// # Errors
/// A file that is missing or broken.
pub fn read_rows(dir: &Path, observer: &dyn Observer) -> Result<Vec<Row>> {
    read(&dir.join("rows.csv"), observer)
}

/// What an ablation changes: all of a trial but its seed. Fields as in [`Row`].
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Setting {
    pub objective: String,
    pub beta: f64,
    pub lr: f64,
    pub value_lr: Option<f64>,
    pub value: String,
    pub value_per: String,
}

impl Row {
    /// The setting that was judged.
    pub fn setting(&self) -> Setting {
        Setting {
            objective: self.objective.clone(),
            beta: self.beta,
            lr: self.lr,
            value_lr: self.value_lr,
            value: self.value.clone(),
            value_per: self.value_per.clone(),
        }
    }
}

/// The settings, in the order of the rows.
pub fn settings(rows: &[Row]) -> Vec<Setting> {
    unique(rows.iter().map(Row::setting))
}

/// The judgements of a setting by seed, in the order of steps.
pub fn paths<'a>(rows: &'a [Row], setting: &Setting) -> BTreeMap<u64, Vec<&'a Row>> {
    let mut found: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.setting() == *setting) {
        found.entry(row.seed).or_default().push(row);
    }
    found
}

/// The best checkpoint of each seed: the earliest with the most wins among the prompts that choose, the start left
/// out.
pub fn best<'a>(rows: &'a [Row], setting: &Setting) -> BTreeMap<u64, &'a Row> {
    let best = |path: Vec<&'a Row>| {
        let later = path.into_iter().filter(|row| row.step > 0);
        later.reduce(|best, row| {
            if row.choosing > best.choosing {
                row
            } else {
                best
            }
        })
    };
    (paths(rows, setting).into_iter())
        .filter_map(|(seed, path)| Some((seed, best(path)?)))
        .collect()
}

/// The last checkpoint of each seed.
pub fn last<'a>(rows: &'a [Row], setting: &Setting) -> BTreeMap<u64, &'a Row> {
    (paths(rows, setting).into_iter())
        .filter_map(|(seed, path)| Some((seed, path.last().copied()?)))
        .collect()
}

/// A number of the best checkpoints of a setting, at `x`.
#[cfg_attr(not(feature = "plot"), allow(dead_code))] // Figures alone draw them.
pub fn point(rows: &[Row], setting: &Setting, x: f64, of: fn(&Row) -> f64) -> Option<Point> {
    let spread = Spread::of(best(rows, setting).into_values().map(of))?;
    Some((x, spread.mean, spread.half()))
}

/// Win rates along training: means over seeds.
#[cfg_attr(not(feature = "plot"), allow(dead_code))] // Figures alone draw them.
pub fn curve(rows: &[Row], setting: &Setting) -> Vec<Point> {
    let all = paths(rows, setting).into_values().flatten();
    spread::curve(all.map(|row| (row.step as f64, row.win)))
}

/// Win rates of DRO's section 4.1, which the ablations are held against.
pub mod paper {
    /// Figure 3: both learning rates, and V's alone, at these shares of the default.
    pub const FACTORS: [f64; 4] = [0.1, 0.5, 1.0, 5.0];
    /// See [`FACTORS`].
    pub const BOTH: [f64; 4] = [0.737, 0.787, 0.789, 0.784];
    /// See [`FACTORS`].
    pub const ALONE: [f64; 4] = [0.768, 0.780, 0.789, 0.791];
    /// Figure 4: τ of DRO-V and of KTO.
    pub const TAUS: [f64; 3] = [0.1, 1.0, 5.0];
    /// See [`TAUS`].
    pub const DRO: [f64; 3] = [0.705, 0.789, 0.766];
    /// See [`TAUS`].
    pub const KTO: [f64; 3] = [0.635, 0.619, 0.675];
    /// Figure 5: a single value and several ones, by two networks.
    pub const SEPARATE: [f64; 2] = [0.721, 0.766];
    /// The same, by one network.
    pub const SHARED: [f64; 2] = [0.576, 0.555];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seed: u64, step: u64, choosing: f64) -> Row {
        Row {
            objective: "o".into(),
            beta: 1.0,
            lr: 1.0,
            value_lr: None,
            value: "none".into(),
            value_per: "none".into(),
            seed,
            step,
            choosing,
            win: 0.5,
            reward: 0.0,
            kl: 0.0,
            prompts: 2,
        }
    }

    #[test]
    fn the_best_checkpoint_is_the_earliest_of_the_best_after_the_start() {
        let rows = [
            row(0, 0, 0.9),
            row(0, 8, 0.6),
            row(0, 16, 0.7),
            row(0, 24, 0.7),
            row(1, 0, 0.9),
            row(1, 8, 0.4),
            row(1, 16, 0.3),
        ];
        let best = best(&rows, &rows[0].setting());
        let steps: Vec<u64> = best.values().map(|row| row.step).collect();
        assert_eq!(steps, [16, 8]);
    }
}
