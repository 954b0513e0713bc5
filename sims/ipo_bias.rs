//! IPO's bias as a map over behaviour distributions (CoPG, section 5; BPO, eq. 3).
//!
//! Claim: IPO does not converge to π*. True, and where it converges depends on who was compared
//! with whom. On a bandit of four arms, regret over a slice of the space of pairs of laws, and the
//! part of it where IPO ranks a worse arm first. The rewards and the two corners were found by a
//! search over random problems for a wide margin between the first two arms: they show what can
//! happen, and the second table how often it does.
//!
//! Why: the best arm meets arms that are nearly as good and wins a little, the second meets arms
//! that it always beats. Under equal laws both meet the same arms, and no pair was ever inverted.

use std::path::Path;

use crate::bandit::{Evidence, PairLaw, Problem, Shape, Simplex, random_problem};
use crate::loss::Objective;
use crate::observer::Observer;
use crate::rows::ipo_bias::{Cell, Ranking};
use crate::rows::spread::frequency;
use crate::rows::table::read;
use crate::solve::fixed_point;
use anyhow::{Context, Result};
use serde_json::json;

use super::report::{markdown, number};
use super::run::Run;
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "ipo-bias",
    about: "IPO's bias as a map over behaviour distributions, and where it ranks a worse arm first",
    run: simulate,
    report,
};

const REWARD: [f64; 4] = [2.8, 2.4, 0.7, -2.5];
/// The laws at the two ends of the slice.
const ENDS: [[f64; 4]; 2] = [[0.08, 0.02, 0.72, 0.18], [0.02, 0.32, 0.02, 0.64]];
const BETA: f64 = 0.5;
/// Cells along each side of the map.
const CELLS: u64 = 60;
/// Numbers of arms of the random problems, their count for each, and the least mass of any arm.
const ARMS: [usize; 7] = [2, 3, 4, 5, 6, 8, 12];
const PROBLEMS: u64 = 4000;
const FLOOR: f64 = 0.01;
/// Scores closer than this are not called inverted.
const ROUNDING: f64 = 1e-10;

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &["samples"])?;
    let problems = request.samples.map_or(PROBLEMS, |n| n as u64);
    anyhow::ensure!(problems > 0, "--samples: it is 0; ask for at least one");
    let config = json!({
        "reward": REWARD, "laws": ENDS, "beta": BETA, "cells": CELLS,
        "arms": ARMS, "problems": problems, "least_mass": FLOOR, "key": request.key,
    });
    let run = Run::start(SIM.name, request, dir, config)?;

    let places: Vec<(u64, u64)> = (0..CELLS * CELLS).map(|i| (i % CELLS, i / CELLS)).collect();
    let map = run.map(&places, |&(i, j)| {
        let middle = |i: u64| (i as f64 + 0.5) / CELLS as f64;
        let (first, second) = (middle(i), middle(j));
        let ipo = solve(&slice(first, second)?)?;
        Ok(Cell {
            first,
            second,
            regret: ipo.regret,
            best: ipo.best as u64,
            inverted: ipo.inverted,
        })
    })?;
    run.write("rows.csv", &map)?;

    let groups: Vec<(usize, bool)> = ARMS.iter().flat_map(|&k| [(k, false), (k, true)]).collect();
    let rankings = run.map(&groups, |&(arms, equal_laws)| {
        let (mut wrong_best, mut inverted) = (0, 0);
        for i in 0..problems {
            let problem = random(arms, equal_laws, request.key, i)?;
            let ipo = solve(&problem)?;
            wrong_best += u64::from(problem.prompts()[0].reward[ipo.best] < ipo.most);
            inverted += u64::from(ipo.inverted > 0);
        }
        Ok(Ranking {
            arms: arms as u64,
            equal_laws,
            problems,
            wrong_best,
            inverted,
        })
    })?;
    run.write("rankings.csv", &rankings)?;
    run.finish()
}

/// The four-armed bandit, each law so far from P to Q.
fn slice(first: f64, second: f64) -> Result<Problem> {
    let law = |t: f64| -> Vec<f64> {
        let [p, q] = ENDS;
        p.iter()
            .zip(q)
            .map(|(p, q)| (1.0 - t) * p + t * q)
            .collect()
    };
    let file = json!({"beta": BETA, "prompts": [
        {"reward": REWARD, "behavior": [law(first), law(second)]}
    ]});
    Ok(Problem::from_json(&file.to_string())?)
}

/// A random problem, every arm of whose laws has some mass.
fn random(arms: usize, equal_laws: bool, key: u64, i: u64) -> Result<Problem> {
    let shape = Shape {
        prompts: 1,
        arms,
        beta: 1.0,
        reward_scale: 1.0,
    };
    let seed = (key.wrapping_mul(1_000_003) + i).wrapping_mul(64) + arms as u64;
    let problem = random_problem(shape, seed)?;
    let (first, second) = problem.prompts()[0].law.marginals();
    let lift = |law: Vec<f64>| {
        let rest = 1.0 - FLOOR * arms as f64;
        Simplex::new("law", law.iter().map(|p| FLOOR + rest * p).collect())
    };
    let (first, second) = (lift(first)?, lift(second)?);
    let second = if equal_laws { first.clone() } else { second };
    let law = PairLaw::product(first, second);
    Ok(problem.map_prompts(|_, prompt| prompt.law = law.clone()))
}

/// IPO's limit as a ranking of arms.
struct Ipo {
    regret: f64,
    /// The arm it raises most, and the largest reward of all.
    best: usize,
    most: f64,
    /// Pairs of arms that it ranks against their rewards.
    inverted: u64,
}

fn solve(problem: &Problem) -> Result<Ipo> {
    let point = fixed_point(Objective::IPO, problem, &Evidence::population(problem))?;
    let policy = point.policy.context("IPO has a limit on connected arms")?;
    let prompt = &problem.prompts()[0];
    let raised: Vec<f64> = (policy.log()[0].iter().zip(&prompt.log_reference))
        .map(|(l, reference)| l - reference)
        .collect();
    let arms = 0..raised.len();
    let most = |of: &[f64]| of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let inverted = arms.clone().map(|a| {
        let worse = arms
            .clone()
            .filter(|&b| prompt.reward[a] > prompt.reward[b] && raised[a] < raised[b] - ROUNDING);
        worse.count() as u64
    });
    Ok(Ipo {
        regret: problem.regret(&policy),
        best: (arms.clone())
            .max_by(|&a, &b| raised[a].total_cmp(&raised[b]))
            .unwrap_or(0),
        most: most(&prompt.reward),
        inverted: inverted.sum(),
    })
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let map: Vec<Cell> = read(&dir.join("rows.csv"), observer)?;
    let rankings: Vec<Ranking> = read(&dir.join("rankings.csv"), observer)?;
    let regret = |pick: fn(f64, f64) -> f64| map.iter().map(|c| c.regret).reduce(pick);
    let share = |of: fn(&Cell) -> bool| {
        100.0 * map.iter().filter(|c| of(c)).count() as f64 / map.len() as f64
    };
    let mut text = format!(
        "On one bandit of four arms (rewards {REWARD:?}, β = {BETA}, uniform reference) IPO's exact \
         limit has a regret of {} to {}, depending on nothing but the laws that the two responses \
         come from; π* has 0. Over {:.1} % of the slice it raises a worse arm most. With equal laws \
         (the diagonal) it never does. The example was searched for; on random problems (normal \
         rewards, laws uniform on the simplex, every arm at least {FLOOR}) it is rarer:\n\n",
        number(regret(f64::min).unwrap_or(f64::NAN)),
        number(regret(f64::max).unwrap_or(f64::NAN)),
        share(|c| c.best != 0),
    );
    let percent = |hits: u64, tries: u64| {
        let (p, [low, high]) = frequency(hits, tries);
        format!(
            "{:.2} % ({:.2}–{:.2})",
            100.0 * p,
            100.0 * low,
            100.0 * high
        )
    };
    let rows: Vec<Vec<String>> = (rankings.iter())
        .map(|r| {
            vec![
                r.arms.to_string(),
                if r.equal_laws { "equal" } else { "different" }.into(),
                r.problems.to_string(),
                percent(r.wrong_best, r.problems),
                percent(r.inverted, r.problems),
            ]
        })
        .collect();
    let header = [
        "arms",
        "laws",
        "problems",
        "wrong best arm (95 % interval)",
        "some pair inverted",
    ];
    text += &markdown(&header, &rows);
    Ok(text)
}
