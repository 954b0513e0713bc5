//! What PPO and rejection sampling maximise, and what PPO on the scores ends with.

use super::super::{Finding, random_problems, toy};
use super::{MARGIN, optimum, random_policy};
use crate::bandit::Evidence;
use crate::error::Result;
use crate::magnitude::larger;
use crate::sim::multitask::{Experiment, VARIANTS, experiment};
use crate::solve;
use crate::solve::advantage::Form;

pub(super) fn ppo_objective() -> Result<Finding> {
    let problems = random_problems(200, 501)?;
    let (mut best, mut identity) = (f64::INFINITY, 0.0f64);
    for (problem, key) in problems.iter().zip(0..) {
        let optimum = problem.optimum();
        let other = random_policy(problem, 2.0, key);
        let short = optimum.objective - problem.objective(&other);
        best = best.min(short);
        identity = larger(identity, (short - problem.regret(&other)).abs());
    }
    Ok(Finding::holds(
        best > 0.0 && identity < 1e-11,
        format!(
            "{} random problems: no other policy reaches π*, each falls short by β KL(π‖π*) to {identity:.0e}",
            problems.len()
        ),
    )
    .measure("smallest shortfall", best))
}

pub(super) fn teacher_forcing() -> Result<Finding> {
    // Accepted responses follow a law p: which policy is best for it, with and without logarithm?
    let problems = random_problems(100, 503)?;
    let (mut log, mut printed) = (f64::INFINITY, f64::INFINITY);
    for (problem, key) in problems.iter().zip(0..) {
        let others = random_policy(problem, 3.0, key);
        for (prompt, other) in problem.prompts().iter().zip(others.log()) {
            let (p, _) = prompt.law.marginals();
            let mean =
                |v: &dyn Fn(usize) -> f64| -> f64 { (0..p.len()).map(|y| p[y] * v(y)).sum() };
            log = log.min(mean(&|y| p[y].ln()) - mean(&|y| other[y]));
            let mode = p.iter().copied().fold(0.0, larger);
            printed = printed.min(mode - mean(&|y| p[y]));
        }
    }
    Ok(Finding::misprint(
        log > 0.0,
        printed > 0.0,
        format!(
            "{} random problems, accepted responses of law p: with the logarithm π = p is better than any other tried by {log:.1e} at least; as printed all mass on the mode is better than π = p, by {printed:.1e} at least",
            problems.len()
        ),
    ))
}

pub(super) fn better_reward() -> Result<Finding> {
    let config = Experiment {
        seeds: 6,
        ..Experiment::default()
    };
    let variants = VARIANTS.map(|v| v.name);
    let named = |name: &str| {
        variants
            .iter()
            .position(|v| *v == name)
            .map(|i| VARIANTS[i])
    };
    let compared: Vec<_> = ["reward", "advantage"]
        .into_iter()
        .filter_map(named)
        .collect();
    let rows = experiment(&config, &compared)?;
    let win = |variant: &str| -> f64 {
        let last = rows.iter().filter(|m| {
            m.variant == variant && m.row.task == "forget" && m.row.round == config.settings.rounds
        });
        last.map(|m| m.row.win).sum::<f64>() / config.seeds as f64
    };
    let (reward, advantage) = (win("reward"), win("advantage"));
    let toy = toy()?;
    let regret = optimum(&toy, MARGIN, Form::SelfPairs)?
        .regret
        .unwrap_or(f64::NAN);
    let own = solve::fixed_point(
        crate::loss::Objective::REWARD_MODEL,
        &toy,
        &Evidence::population(&toy),
    )?;
    let best = own.regret.unwrap_or(f64::NAN);
    Ok(Finding::holds_if(
        advantage > 0.5 && reward < 0.5,
        regret > 0.01 && best < 1e-12,
        format!(
            "{} worlds with shared features, win rate on the forget set {advantage:.3} against {reward:.3}; on the toy bandit the regret is {regret:.4} against {best:.0e}",
            config.seeds
        ),
    )
    .measure("regret of the advantage model on the toy", regret)
    .measure("win rate on the forget set, advantage", advantage)
    .measure("win rate on the forget set, reward", reward))
}
