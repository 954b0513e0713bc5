//! Calibration: how well the differences of scores predict which response is preferred.
//!
//! The expectations are exact, over the problem's pairs of *different* responses (a pair of a
//! response with itself is always predicted right) with Bradley–Terry labels of its rewards.

use super::larger;
use crate::backend::nd::sigmoid;
use crate::bandit::{Comparisons, Evidence, Problem};
use crate::error::{Error, Result};
use crate::loss::InputKind;

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Its lower edge; bins are equally wide on [½, 1].
    pub from: f64,
    /// Share of the pairs.
    pub mass: f64,
    /// Mean of σ(|δ|), δ the gap of the scores; 0 in an empty bin.
    pub confidence: f64,
    /// Share of pairs of which the higher-scored response is preferred; 0 in an empty bin.
    pub accuracy: f64,
}

/// Every pair of different arms: (ρ·w, score gap, reward gap).
fn each_pair(problem: &Problem, table: &[Vec<f64>]) -> Result<Vec<(f64, f64, f64)>> {
    if table.len() != problem.prompts().len() {
        return Err(Error::Shape {
            operation: "calibration",
            left: problem.prompts().len(),
            right: table.len(),
        });
    }
    let population = Evidence::population(problem);
    let view = population.of(InputKind::LabelledPairs)?;
    let mut pairs = Vec::new();
    for ((prompt, share), scores) in problem.prompts().iter().zip(&view.prompts).zip(table) {
        if scores.len() != prompt.arms() {
            return Err(Error::Shape {
                operation: "calibration",
                left: prompt.arms(),
                right: scores.len(),
            });
        }
        let edges = (share.comparisons.iter()).flat_map(|c: &Comparisons| c.edges(&prompt.reward));
        for e in edges.filter(|e| e.a != e.b && e.weight() > 0.0) {
            let (a, b) = (e.a as usize, e.b as usize);
            let gap = |v: &[f64]| v[a] - v[b];
            pairs.push((share.mass * e.weight(), gap(scores), gap(&prompt.reward)));
        }
    }
    Ok(pairs)
}

/// The exact calibration error `E|σ(δ) − p|`, p the probability that the first is preferred; 0 where
/// no different responses are ever compared. Infinite scores count as their limit.
///
/// # Errors
/// A table that does not fit the problem.
pub fn error(problem: &Problem, table: &[Vec<f64>]) -> Result<f64> {
    let (mut sum, mut mass) = (0.0, 0.0);
    for (weight, gap, truth) in each_pair(problem, table)? {
        sum += weight * (sigmoid(gap) - sigmoid(truth)).abs();
        mass += weight;
    }
    Ok(if mass > 0.0 { sum / mass } else { 0.0 })
}

/// A reliability diagram: pairs sorted by confidence σ(|δ|) into `bins` equally wide bins on [½, 1].
///
/// # Errors
/// A table that does not fit the problem, or no bin.
pub fn diagram(problem: &Problem, table: &[Vec<f64>], bins: usize) -> Result<Vec<Bin>> {
    reliability(&each_pair(problem, table)?, bins)
}

/// The [`diagram`] of any pairs: each has a weight, the gap δ of its scores (first less second), and
/// the log-odds that the first is preferred: those of the gap of the rewards, infinite for a label.
///
/// # Errors
/// No bin.
pub fn reliability(pairs: &[(f64, f64, f64)], bins: usize) -> Result<Vec<Bin>> {
    if bins == 0 {
        return Err(Error::invalid("bins", "it is 0", "ask for at least one"));
    }
    let total: f64 = pairs.iter().map(|p| p.0).sum();
    let mut sums = vec![(0.0, 0.0, 0.0); bins];
    for &(weight, gap, truth) in pairs {
        let confidence = sigmoid(gap.abs());
        // A tie is right half of the time, whichever is called the higher.
        let accuracy = match gap {
            g if g > 0.0 => sigmoid(truth),
            g if g < 0.0 => sigmoid(-truth),
            _ => 0.5,
        };
        let at = ((2.0 * confidence - 1.0) * bins as f64) as usize;
        let bin = &mut sums[at.min(bins - 1)];
        bin.0 += weight;
        bin.1 += weight * confidence;
        bin.2 += weight * accuracy;
    }
    Ok((sums.into_iter().enumerate())
        .map(|(i, (mass, confidence, accuracy))| {
            let mean = |sum: f64| if mass > 0.0 { sum / mass } else { 0.0 };
            Bin {
                from: 0.5 + 0.5 * i as f64 / bins as f64,
                mass: if total > 0.0 { mass / total } else { 0.0 },
                confidence: mean(confidence),
                accuracy: mean(accuracy),
            }
        })
        .collect())
}

/// The expected calibration error of a diagram: `Σ mass |accuracy − confidence|`. Never above the
/// exact [`error`], since errors of opposite sign in a bin cancel.
pub fn binned_error(diagram: &[Bin]) -> f64 {
    let errors = diagram.iter().filter(|bin| bin.mass > 0.0);
    errors
        .map(|bin| bin.mass * (bin.accuracy - bin.confidence).abs())
        .sum()
}

/// Probability that the preferred of two different responses has the higher score (ties count half).
///
/// # Errors
/// A table that does not fit the problem.
pub fn accuracy(problem: &Problem, table: &[Vec<f64>]) -> Result<f64> {
    Ok(diagram(problem, table, 1)?[0].accuracy)
}

/// Mean and standard deviation of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub spread: f64,
}

/// The moments of the scores of one group of prompts, x by weight and y by `law` (a law for each
/// prompt, such as its behaviour's).
pub fn moments<'a>(rows: impl Iterator<Item = (f64, &'a [f64], Vec<f64>)>) -> Moments {
    let all: Vec<(f64, f64)> = rows
        .flat_map(|(weight, scores, law)| {
            let pairs: Vec<_> = scores
                .iter()
                .zip(law)
                .map(|(&s, p)| (weight * p, s))
                .collect();
            pairs
        })
        .collect();
    let mass: f64 = all.iter().map(|(w, _)| w).sum();
    let mean = all.iter().map(|(w, s)| w * s).sum::<f64>() / mass;
    let variance = all.iter().map(|(w, s)| w * (s - mean).powi(2)).sum::<f64>() / mass;
    Moments {
        mean,
        spread: variance.sqrt(),
    }
}

/// The largest gap of the scores that the reward orders the other way, as (prompt, better arm,
/// worse arm), if any: where the scores rank wrongly.
pub fn inversion(problem: &Problem, table: &[Vec<f64>]) -> Option<(usize, usize, usize)> {
    let mut found = None;
    let mut largest = 0.0;
    for (x, (prompt, scores)) in problem.prompts().iter().zip(table).enumerate() {
        for a in 0..prompt.arms() {
            for b in 0..prompt.arms() {
                let gap = scores[b] - scores[a];
                if prompt.reward[a] > prompt.reward[b] && larger(largest, gap) > largest {
                    (largest, found) = (gap, Some((x, a, b)));
                }
            }
        }
    }
    found
}
