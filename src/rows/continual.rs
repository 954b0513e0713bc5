//! Tables of `pistar continual`: accuracies along a sequence of tasks.

use std::path::Path;

use crate::observer::Observer;
use anyhow::Result;

#[cfg(feature = "plot")]
use super::table::distinct;
use super::table::{read, table};

table! {
    /// Accuracy on a task while one is learned, or at its end; at first, of the model that the sequence starts from.
    pub struct Accuracy {
        /// Number of the task being learned, 0 before the first.
        learning: u64,
        /// Its step; none at its end.
        step: Option<f64>,
        /// Whether this is its end.
        end: bool,
        /// The task that is measured.
        task: String,
        accuracy: f64,
    }
}

/// A sequence's accuracies.
#[cfg(feature = "plot")]
pub struct Course {
    /// The tasks, in order.
    pub tasks: Vec<String>,
    /// Of each task learned: the accuracy on each task at its end.
    pub matrix: Vec<Vec<f64>>,
    /// Of each task: accuracy by time, in tasks learned.
    pub curves: Vec<Vec<(f64, f64)>>,
}

/// Reads the table of accuracies.
///
/// # Errors
/// One that is missing, broken or has no rows.
pub fn read_accuracies(table: &Path, observer: &dyn Observer) -> Result<Vec<Accuracy>> {
    read(table, observer)
}

/// When a measurement was made, in tasks learned: at a step of the task being learned, or at its end; `steps` are those of
/// that task.
#[cfg(feature = "plot")]
pub fn time(learning: u64, step: Option<f64>, steps: f64) -> f64 {
    match step {
        Some(step) => learning as f64 - 1.0 + step / steps,
        None => learning as f64,
    }
}

/// Reads the table as a course.
///
/// # Errors
/// A table that is missing, broken or has no rows.
#[cfg(feature = "plot")]
pub fn read_course(table: &Path, observer: &dyn Observer) -> Result<Course> {
    let rows = read_accuracies(table, observer)?;
    let tasks: Vec<String> = (distinct(rows.iter().map(|row| row.task.as_str())).iter())
        .map(|name| name.to_string())
        .collect();
    let learned = rows.iter().map(|row| row.learning).max().unwrap_or(0);
    let steps_of = |k: u64| {
        let steps = rows
            .iter()
            .filter(|r| r.learning == k)
            .filter_map(|r| r.step);
        steps.fold(0.0, f64::max)
    };
    // Where a task is measured along the way, its last step is its end.
    let time = |row: &Accuracy| time(row.learning, row.step, steps_of(row.learning));
    let curve = |task: &String| {
        let own = rows.iter().filter(|row| row.task == *task);
        let mut points: Vec<(f64, f64)> = own.map(|row| (time(row), row.accuracy)).collect();
        points.dedup_by(|a, b| a.0 == b.0);
        points
    };
    let at_end = |k: u64| {
        let own = rows.iter().filter(|row| row.learning == k && row.end);
        own.map(|row| row.accuracy).collect()
    };
    Ok(Course {
        curves: tasks.iter().map(curve).collect(),
        matrix: (1..=learned).map(at_end).collect(),
        tasks,
    })
}
