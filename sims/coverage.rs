//! Coverage: what becomes of each objective as the data stop showing the best arm.
//!
//! Claims: off-policy objectives need the behaviour laws to cover the arms, and no more (CoPG,
//! Theorem 1; DRO, Theorem 1). On the population that is right for those whose fixed point is π*,
//! however small the mass; the others have a bias that coverage makes worse or better. With finite
//! data the mass matters to all: an arm that was never drawn cannot be learned.
//!
//! One exception shows what a baseline may hide: that of `pg-soft-value`, `E_π[R_β]`, is an
//! expectation over all arms, so it knows the rewards of arms that were never drawn.
//!
//! CoPG's rewards and temperature; both laws give the best arm the same mass, and share the rest
//! among the other two arms as CoPG's do.

use std::path::Path;

use crate::bandit::{Dataset, Evidence, Problem};
use crate::observer::Observer;
use crate::rows::coverage::{Limit, Sampled, key, read_exact, read_sampled};
use crate::rows::families::{Skipped, ZERO, left_out};
use crate::rows::table::read_numbered;
use anyhow::Result;
use serde_json::json;

use super::limits::{objectives, skipped, solve};
use super::report::{markdown, maybe};
use super::run::Run;
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "coverage",
    about: "Coverage against regret: the behaviour distributions' mass on the best arm goes to nothing",
    run: simulate,
    report,
};

/// Masses on the best arm: from 0.3 on, down to 1e-5.
const MASSES: [f64; 13] = [
    0.3, 0.15, 0.07, 0.03, 0.015, 0.007, 0.003, 1.5e-3, 7e-4, 3e-4, 1e-4, 3e-5, 1e-5,
];
/// The Advantage Model's margin, and the value of DRO where it is held fixed (V* is 2.125).
const MARGIN: f64 = 2.5;
const VALUE: f64 = 1.5;
const SAMPLES: [usize; 2] = [1_000, 10_000];
const SEEDS: usize = 40;

/// The bandit whose laws give the best arm `mass`.
fn bandit(mass: f64) -> Result<Problem> {
    let law = |second: f64| [mass, (1.0 - mass) * second, (1.0 - mass) * (1.0 - second)];
    let file = json!({"beta": 0.5, "margin": MARGIN, "prompts": [{
        "reward": [2.5, 2.0, 1.0], "value": VALUE, "behavior": [law(2.0 / 9.0), law(1.0 / 19.0)],
    }]});
    Ok(Problem::from_json(&file.to_string())?)
}

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &["objective", "samples", "seeds"])?;
    let asked = objectives(request)?;
    let samples = request.samples.map_or(SAMPLES.to_vec(), |n| vec![n]);
    let seeds = request.seeds.unwrap_or(SEEDS) as u64;
    anyhow::ensure!(
        samples.iter().all(|n| (1..=10_000_000).contains(n)) && (1..=100_000).contains(&seeds),
        "--samples or --seeds: it is 0 or more than can be run"
    );
    let names: Vec<_> = asked.iter().map(|o| o.name()).collect();
    let config = json!({
        "objectives": names, "margin": MARGIN, "value": VALUE, "masses": MASSES, "samples": samples, "seeds": seeds,
        "key": request.key,
    });
    let run = Run::start(SIM.name, request, dir, config)?;

    let exact = run.map(&MASSES, |&mass| {
        let problem = bandit(mass)?;
        Ok(solve(&asked, &problem, &Evidence::population(&problem)))
    })?;
    let mut limits = Vec::new();
    for (&mass, solved) in MASSES.iter().zip(&exact) {
        for (objective, answer) in solved {
            limits.extend(answer.as_ref().ok().map(|&regret| Limit {
                objective: objective.name().into(),
                mass,
                regret,
            }));
        }
    }
    run.write("rows.csv", &limits)?;

    // Datasets are for those that are exact on the population at every mass.
    let is_exact = |i: usize| {
        (exact.iter()).all(|solved| matches!(solved[i].1, Ok(Some(regret)) if regret < ZERO))
    };
    let right: Vec<_> = (0..asked.len())
        .filter(|&i| is_exact(i))
        .map(|i| asked[i])
        .collect();
    let mut places = Vec::new();
    for (i, &mass) in MASSES.iter().enumerate() {
        for &n in &samples {
            places.extend((0..seeds).map(|seed| (i as u64, mass, n, seed)));
        }
    }
    let solved = run.map(&places, |&(i, mass, n, seed)| {
        let problem = bandit(mass)?;
        let index = (i << 32 | n as u64) << 20 | seed;
        let data = Dataset::scored(&problem, n, 0.0, request.key, index)?;
        Ok(solve(
            &right,
            &problem,
            &Evidence::from_dataset(&problem, &data),
        ))
    })?;
    let mut sampled = Vec::new();
    for (&(_, mass, n, seed), solved) in places.iter().zip(&solved) {
        for (objective, answer) in solved {
            sampled.extend(answer.as_ref().ok().map(|&regret| Sampled {
                objective: objective.name().into(),
                mass,
                samples: n as u64,
                seed,
                regret,
            }));
        }
    }
    run.write("sampled.csv", &sampled)?;
    run.write("skipped.csv", &skipped(exact.iter().chain(&solved)))?;
    run.finish()
}

/// Masses that the report shows.
const SHOWN: [f64; 5] = [0.3, 0.03, 0.003, 3e-4, 1e-5];

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let exact = read_exact(dir, observer)?;
    let sampled = read_sampled(dir, observer)?;
    let skipped: Vec<(_, Skipped)> = read_numbered(&dir.join("skipped.csv"), observer)?;
    let skipped: Vec<Skipped> = skipped.into_iter().map(|(_, row)| row).collect();
    let right: usize = exact
        .iter()
        .filter(|f| f.is_exact())
        .map(|f| f.names.len())
        .sum();
    let all: usize = exact.iter().map(|f| f.names.len()).sum();
    let mut text = format!(
        "Exact regret on the population as both behaviour laws' mass on the best arm falls \
         (columns). {right} of {all} objectives keep π* however small it is: coverage costs them \
         nothing but time. The others have a bias, which for some the laws decide.\n\n"
    );
    let masses = SHOWN.map(|m| format!("{m}"));
    let header: Vec<&str> = ["objective"]
        .into_iter()
        .chain(masses.iter().map(String::as_str))
        .collect();
    let rows: Vec<Vec<String>> = (exact.iter())
        .map(|family| {
            let cell = |m: &f64| maybe(family.curve.get(&key(*m)).copied().flatten());
            [family.name()]
                .into_iter()
                .chain(SHOWN.iter().map(cell))
                .collect()
        })
        .collect();
    text += &markdown(&header, &rows);
    for means in &sampled {
        text += &format!(
            "\nMean regret of the exact fixed point on datasets of {} pairs, for those right on the \
             population: once the arm is drawn too rarely they miss it. (The baseline of pg-soft-value, \
             an exact `E_π[R_β]`, knows the rewards of arms that were never drawn.)\n\n",
            means.samples
        );
        let rows: Vec<Vec<String>> = (means.curves.iter())
            .map(|(name, points)| {
                let cell =
                    |m: &f64| maybe(points.iter().find(|p| key(p.0) == key(*m)).map(|p| p.1));
                [name.clone()]
                    .into_iter()
                    .chain(SHOWN.iter().map(cell))
                    .collect()
            })
            .collect();
        text += &markdown(&header, &rows);
    }
    Ok(text + &left_out(&skipped))
}
