//! Tables of a sequence: accuracies, and what they come to.

use std::fmt::Write;
use std::path::Path;

use super::course::After;
use super::tasks::Tasks;
use crate::continual::Metrics;
use crate::error::Result;
use crate::file::write_whole;

/// Table of all accuracies: `after` (tasks learned), `step` (of the task being learned; of its end the last one), `task`,
/// `accuracy`.
pub const ACCURACY: &str = "accuracy.csv";
/// Table of AA, AIA, BWT and FM after each task.
pub const METRICS: &str = "metrics.csv";

/// Writes both, from what was found before the first task, and after each so far.
///
/// # Errors
/// If they cannot be written.
pub(super) fn write(dir: &Path, tasks: &Tasks, start: &[f64], after: &[After]) -> Result<()> {
    let mut accuracy = String::from("learning,step,end,task,accuracy\n");
    let mut rows = |learning: usize, step: Option<u64>, end: bool, each: &[f64]| {
        for (task, value) in tasks.task.iter().zip(each) {
            let step = step.map_or(String::new(), |step| step.to_string());
            let _ = writeln!(accuracy, "{learning},{step},{end},{},{value}", task.name);
        }
    };
    rows(0, None, true, start);
    for (k, found) in after.iter().enumerate() {
        for (step, each) in &found.history {
            rows(k + 1, Some(*step), false, each);
        }
        rows(k + 1, None, true, &found.accuracy);
    }
    write_whole(&dir.join(ACCURACY), accuracy.as_bytes())?;
    let matrix: Vec<Vec<f64>> = after.iter().map(|found| found.accuracy.clone()).collect();
    let all = Metrics::of(&matrix);
    let mut text = String::from("learned,task,aa,aia,bwt,fm\n");
    let of = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for k in 0..matrix.len() {
        let (name, aa) = (&tasks.task[k].name, all.average_accuracy[k]);
        let aia = all.average_incremental_accuracy[k];
        let [bwt, fm] = [all.backward_transfer[k], all.forgetting[k]].map(of);
        let _ = writeln!(text, "{},{name},{aa},{aia},{bwt},{fm}", k + 1);
    }
    write_whole(&dir.join(METRICS), text.as_bytes())
}
