//! Selective rehearsal.

use super::super::{Finding, random_problems};
use super::random_policy;
use crate::bandit::{Policy, kl};
use crate::error::Result;
use crate::magnitude::larger;
use crate::sim::multitask::{Experiment, Measured, REHEARSED, VARIANTS, Variant, experiment};

pub(super) fn rehearsal_sign() -> Result<Finding> {
    // One small step of ascent on J + γ·term, from where J alone is stationary.
    let problems = random_problems(100, 513)?;
    let (mut likelihood, mut negative) = (f64::INFINITY, f64::NEG_INFINITY);
    for problem in &problems {
        let optimum = problem.optimum().policy;
        for log in optimum.log() {
            // Rehearse the response that is least likely now.
            let y = (0..log.len())
                .min_by(|&i, &j| log[i].total_cmp(&log[j]))
                .unwrap_or(0);
            let step = |sign: f64| -> f64 {
                let own = |a: usize| if a == y { 1.0 } else { 0.0 };
                let logits = (0..log.len()).map(|a| log[a] + sign * 0.01 * (own(a) - log[a].exp()));
                Policy::softmax(&[logits.collect()]).log()[0][y] - log[y]
            };
            likelihood = likelihood.min(step(1.0));
            negative = larger(negative, step(-1.0));
        }
    }
    Ok(Finding::holds_if(
        likelihood > 0.0,
        negative < 0.0,
        format!(
            "{} random problems, from J's maximum: plus log-likelihood raises ln π of the rehearsed response by {likelihood:.1e} at least, plus NLL lowers it by {:.1e} at least",
            problems.len(),
            -negative
        ),
    ))
}

pub(super) fn rehearsal_as_divergence() -> Result<Finding> {
    let problems = random_problems(100, 514)?;
    let (mut same, mut lowest, mut gained) = (0.0f64, f64::INFINITY, f64::INFINITY);
    for (problem, key) in problems.iter().zip(0..) {
        let policy = random_policy(problem, 2.0, key);
        for (prompt, log) in problem.prompts().iter().zip(policy.log()) {
            let initial = &prompt.log_reference;
            // The NLL of responses of π_init, and its forward divergence from there.
            let nll =
                |log: &[f64]| -> f64 { initial.iter().zip(log).map(|(i, l)| -i.exp() * l).sum() };
            let over = nll(log) - nll(initial);
            same = larger(same, (over - kl(initial, log)).abs());
            lowest = lowest.min(over);
            // The best response alone: a step towards it from π_init lowers its NLL, while a divergence
            // from π_init can only rise.
            let best = (0..initial.len())
                .max_by(|&i, &j| prompt.reward[i].total_cmp(&prompt.reward[j]))
                .unwrap_or(0);
            let mut moved = initial.clone();
            moved[best] += 0.01;
            let moved = Policy::softmax(&[moved]);
            gained = gained.min(moved.log()[0][best] - initial[best]);
        }
    }
    Ok(Finding::holds_if(
        same < 1e-12 && lowest > 0.0,
        gained > 0.0,
        format!(
            "{} random problems: on unselected responses the NLL is KL(π_init‖π) plus a constant to {same:.0e}, least at π_init; with the best response selected it falls on leaving π_init, by {gained:.1e} at least for a hundredth of a logit",
            problems.len()
        ),
    ))
}

/// Numbers of clusters that are tried, of 24 prompts.
const CLUSTERS: [usize; 4] = [1, 2, 4, 8];

/// γ of section 3.2.
const GAMMA: f64 = 0.01;

/// Mean score on the tasks that are trained on, before and after.
fn scores(rows: &[Measured]) -> [f64; 2] {
    let last = rows.iter().map(|m| m.row.round).max().unwrap_or(0);
    [0, last].map(|round| {
        let at = rows
            .iter()
            .filter(|m| m.row.round == round && m.row.task != "forget");
        let all: Vec<f64> = at.map(|m| m.row.score).collect();
        all.iter().sum::<f64>() / all.len() as f64
    })
}

pub(super) fn clusters() -> Result<Finding> {
    let config = Experiment {
        seeds: 6,
        ..Experiment::default()
    };
    let end = |variant: Variant, clusters: usize| -> Result<[f64; 2]> {
        let (_, kept, drawn) = config.rehearsal;
        let rehearsal = (clusters, kept, drawn);
        Ok(scores(&experiment(
            &Experiment {
                rehearsal,
                ..config
            },
            &[variant],
        )?))
    };
    let range = |gamma: f64| -> Result<f64> {
        let ends = CLUSTERS.map(|c| end(REHEARSED.at(gamma), c).map(|[_, after]| after));
        let ends = ends.into_iter().collect::<Result<Vec<f64>>>()?;
        let most = ends.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Ok(most - ends.iter().copied().fold(f64::INFINITY, f64::min))
    };
    let plain = VARIANTS.into_iter().find(|v| v.name == "advantage");
    let [before, after] = end(plain.unwrap_or(REHEARSED), 1)?;
    let (paper, ten) = (range(GAMMA)?, range(10.0 * GAMMA)?);
    let rise = after - before;
    Ok(Finding::holds(
        paper < 0.05 * rise,
        format!(
            "{} worlds, c in {CLUSTERS:?}: final scores on the tasks trained on differ by {paper:.3} at γ = {GAMMA}, and by \
             {ten:.3} at ten times that; training raises them by {rise:.2}",
            config.seeds
        ),
    )
    .measure("range of the final scores over c, γ = 0.01", paper)
    .measure("range of the final scores over c, γ = 0.1", ten)
    .measure("rise of the scores in training", rise))
}
