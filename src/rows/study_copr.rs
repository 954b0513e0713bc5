//! The rows that `study copr` leaves behind, and what is read from them.

use std::path::Path;

use anyhow::Result;

use super::scores::Judged;
use super::table::{distinct, read, table};
use crate::observer::Observer;

table! {
    /// Accuracy on a task along a sequence: while a task is learned, or at its end.
    pub struct Row {
        /// [`TUNING`], [`METHODS`], [`ORDERS`] or [`REPLAY`].
        part: String,
        method: String,
        /// What the method's own numbers are, as flags; `-` of one without.
        setting: String,
        /// Tasks in the order in which they are learned.
        order: String,
        /// Share of each task's prompts that is kept.
        replay: f64,
        seed: u64,
        /// Number of the task being learned, 0 before the first.
        learning: u64,
        /// Its step; none at its end.
        step: Option<f64>,
        end: bool,
        /// The task that is measured.
        task: String,
        accuracy: f64,
        /// At the end of a task, the sequence's metrics so far.
        aa: Option<f64>,
        aia: Option<f64>,
        bwt: Option<f64>,
        fm: Option<f64>,
    }
}

/// Settings tried on seeds of their own.
pub const TUNING: &str = "tuning";
/// Every method at its best setting.
pub const METHODS: &str = "methods";
/// Orders of the tasks.
pub const ORDERS: &str = "orders";
/// Shares of prompts that are kept.
pub const REPLAY: &str = "replay";

impl Row {
    /// True of one row of a trial: at the end of the last task, of that.
    pub fn is_last(&self) -> bool {
        let mut order = self.order.split(' ');
        let tasks = order.clone().count();
        self.end && self.learning as usize == tasks && order.next_back() == Some(&self.task)
    }
}

impl Judged for Row {
    fn run(&self) -> Option<(String, u64)> {
        let compared = self.part == METHODS && self.is_last();
        compared.then(|| (self.method.clone(), self.seed))
    }

    fn rank(&self) -> f64 {
        0.0
    }

    fn score(&self) -> (f64, &'static str) {
        (
            self.aa.unwrap_or(f64::NAN),
            "average accuracy after the last task",
        )
    }
}

/// Reads `rows.csv` of a folder.
///
/// # Errors
/// A file that is missing or broken.
pub fn read_rows(dir: &Path, observer: &dyn Observer) -> Result<Vec<Row>> {
    read(&dir.join("rows.csv"), observer)
}

/// Trials of a part at the end of their sequence: one row each.
pub fn ends<'a>(rows: &'a [Row], part: &str) -> Vec<&'a Row> {
    let own = rows.iter().filter(|r| r.part == part);
    own.filter(|r| r.is_last()).collect()
}

/// Methods of a part, in the order of the rows.
pub fn methods<'a>(rows: &'a [Row], part: &str) -> Vec<&'a str> {
    let own = rows.iter().filter(|r| r.part == part);
    distinct(own.map(|r| r.method.as_str()))
}

/// The setting of a method with the highest mean average accuracy while tuning, of equals the first; none that was not
/// tuned.
pub fn best_setting<'a>(rows: &'a [Row], method: &str) -> Option<&'a str> {
    let all = ends(rows, TUNING);
    let own: Vec<&&Row> = all.iter().filter(|r| r.method == method).collect();
    let mean = |setting: &str| {
        let found = own.iter().filter(|r| r.setting == setting);
        let values: Vec<f64> = found.filter_map(|r| r.aa).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let settings = distinct(own.iter().map(|r| r.setting.as_str()));
    let mut best: Option<(&str, f64)> = None;
    for setting in settings {
        let value = mean(setting);
        if best.is_none_or(|(_, most)| value > most) {
            best = Some((setting, value));
        }
    }
    best.map(|(setting, _)| setting)
}
