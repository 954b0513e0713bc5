//! Continual-learning metrics.

use super::super::Finding;
use crate::continual::metrics::{backward_transfer, forgetting, forgetting_as_printed};
use crate::error::Result;
use crate::magnitude::larger;
use crate::random::{Purpose, Stream};

pub(super) fn range() -> Result<Finding> {
    let mut stream = Stream::new(71, Purpose::Start, 0);
    let (tasks, count) = (5, 400);
    let (mut corrected, mut as_printed, mut bound) = (0.0f64, 0.0f64, f64::INFINITY);
    for _ in 0..count {
        let learned: Vec<Vec<f64>> = (0..tasks)
            .map(|_| (0..tasks).map(|_| stream.uniform()).collect())
            .collect();
        // The accuracies before a task is learned are not defined: fill them in two ways.
        let fill = |with: f64| -> Vec<Vec<f64>> {
            (learned.iter().enumerate())
                .map(|(k, row)| {
                    (row.iter().enumerate())
                        .map(|(j, &a)| if j <= k { a } else { with })
                        .collect()
                })
                .collect()
        };
        let (low, high) = (fill(0.0), fill(1.0));
        for k in 1..tasks {
            let of = |f: fn(&[Vec<f64>], usize) -> Option<f64>| {
                let value = |a: &[Vec<f64>]| f(a, k).unwrap_or(f64::NAN);
                (value(&high) - value(&low)).abs()
            };
            corrected = larger(corrected, of(forgetting));
            as_printed = larger(as_printed, of(forgetting_as_printed));
            if let (Some(f), Some(b)) = (forgetting(&low, k), backward_transfer(&low, k)) {
                bound = bound.min(f + b);
            }
        }
    }
    let first =
        forgetting(&[vec![0.5]], 0).is_none() && backward_transfer(&[vec![0.5]], 0).is_none();
    let evidence = format!(
        "{count} random runs of {tasks} tasks: entries before a task is learned change the printed FM by \
         up to {as_printed:.2} and the corrected one by {corrected:.0}; FM + BWT ≥ {bound:.1e}"
    );
    Ok(Finding::misprint(
        corrected == 0.0 && bound > -1e-12 && first,
        as_printed > 0.01,
        evidence,
    ))
}
