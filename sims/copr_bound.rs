//! Distance of COPR's policy from π* when its mass on the ranked responses is off (COPR, A.2, Figure 4(a)).
//!
//! Claims: the divergence is at least that of two coins (eq. 24); a smaller γ is worse than a larger
//! one; the likelihood of the best response keeps γ from falling. The first is true. The second
//! holds for p > ½. The third over-corrects: with only some responses ranked, the fit alone leaves γ
//! where the start put it, and with the likelihood all mass goes to the ranked ones, γ = 1/p.

use std::path::Path;

use crate::bandit::Problem;
use crate::observer::Observer;
use crate::rows::copr_bound::{Bound, Moved};
use crate::rows::table::read;
use crate::solve::copr::{Divergence, Motion, Target, curve, lower_bound, motion};
use anyhow::{Context, Result};
use serde_json::json;

use super::report::{markdown, number};
use super::run::Run;
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "copr-bound",
    about: "COPR's bound on the divergence (Figure 4(a)), and where γ goes with and without SFT",
    run: simulate,
    report,
};

/// Masses of π* on the ranked responses.
const MASSES: [f64; 5] = [0.1, 0.3, 0.5, 0.7, 0.95];
const POINTS: usize = 201;
/// Six arms, of which three are ranked.
const BANDIT: &str = r#"{"beta": 0.5, "prompts": [{
    "reward": [1.5, 1.0, 0.5, 1.2, 0.0, -1.0], "ranking": [2, 1, 0],
    "behavior": [[0.2, 0.2, 0.2, 0.2, 0.1, 0.1]]
}]}"#;
const WEIGHTS: [f64; 3] = [0.0, 0.1, 1.0];
const TIME: (f64, usize, usize) = (0.1, 10_000, 20);

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &[])?;
    let problem = Problem::from_json(BANDIT)?;
    let config = json!({
        "p": MASSES, "points": POINTS, "weights": WEIGHTS, "time": TIME,
        "problem": serde_json::from_str::<serde_json::Value>(&problem.to_json())?,
    });
    let run = Run::start(SIM.name, request, dir, config)?;

    let bounds = run.map(&MASSES, |&p| {
        let points = curve(p, POINTS)?.into_iter();
        Ok(points
            .map(|(gamma, divergence)| Bound {
                p,
                gamma,
                divergence,
            })
            .collect::<Vec<_>>())
    })?;
    run.write("rows.csv", &bounds.concat())?;

    let prompt = &problem.prompts()[0];
    let ranking = prompt
        .ranking
        .as_deref()
        .context("the bandit ranks three arms")?;
    let target = Target::ranked(prompt, ranking, problem.beta())?;
    let (_, optimum) = prompt.optimum(problem.beta());
    let p = target.mass(&optimum);
    let (step, steps, every) = TIME;
    let moved = run.map(&WEIGHTS, |&likelihood| {
        let how = Motion {
            divergence: Divergence::Reverse,
            likelihood,
            step,
            steps,
        };
        let moments = motion(&prompt.log_reference, &target, p, how);
        // The first moments one by one, then ever fewer: time is drawn on a logarithmic axis.
        let kept = moments
            .iter()
            .enumerate()
            .filter(|(i, _)| *i < every || i % every == 0);
        Ok(kept
            .map(|(_, m)| Moved {
                likelihood,
                time: m.time,
                gamma: m.gamma,
                most: 1.0 / p,
                fit: m.divergence,
            })
            .collect::<Vec<_>>())
    })?;
    run.write("motion.csv", &moved.concat())?;
    run.finish()
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let bounds: Vec<Bound> = read(&dir.join("rows.csv"), observer)?;
    let moved: Vec<Moved> = read(&dir.join("motion.csv"), observer)?;
    let mut masses: Vec<f64> = bounds.iter().map(|b| b.p).collect();
    masses.dedup();
    let ends = |p: f64| -> Option<[f64; 2]> {
        let mut of = bounds.iter().filter(|b| b.p == p);
        Some([of.next()?.divergence, of.next_back()?.divergence])
    };
    let rows = masses.iter().map(|&p| -> Result<Vec<String>> {
        let [none, all] = ends(p).context("rows.csv: a mass without points")?;
        let halves = [lower_bound(p, 0.9)?, lower_bound(p, 1.1_f64.min(1.0 / p))?];
        Ok([p, none, all, halves[0], halves[1]].map(number).to_vec())
    });
    let mut text = String::from(
        "The least divergence KL(π‖π*) of a policy that is γπ* on the ranked responses, by their mass \
         p under π*. Losing all mass (γ = 0) is worse than gaining all (γ = 1/p) exactly when p > ½.\n\n",
    );
    let header = [
        "p",
        "at γ = 0",
        "at γ = 1/p",
        "at γ = 0.9",
        "at γ = 1.1 (or 1/p)",
    ];
    text += &markdown(&header, &rows.collect::<Result<Vec<_>>>()?);
    text += "\nGradient flow of the fit on a bandit of six arms, three of them ranked:\n\n";
    let mut weights: Vec<f64> = moved.iter().map(|m| m.likelihood).collect();
    weights.dedup();
    let rows: Vec<Vec<String>> = (weights.iter())
        .filter_map(|w| {
            let of: Vec<&Moved> = moved.iter().filter(|m| m.likelihood == *w).collect();
            let (first, last) = (of.first()?, of.last()?);
            Some(
                [*w, first.gamma, last.gamma, last.most, last.fit]
                    .map(number)
                    .to_vec(),
            )
        })
        .collect();
    let header = [
        "weight of SFT",
        "γ at the start",
        "γ at the end",
        "1/p",
        "KL(P_θ‖P*) at the end",
    ];
    Ok(text + &markdown(&header, &rows))
}
