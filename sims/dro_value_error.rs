//! Cost of an error in DRO's value (DRO, eq. 5 and 6).
//!
//! Claim: trained under a value V, the policy is off by at most `(2/τ) max |δ(1 − π/μ)|`,
//! `δ = V^π − V`. True at every local minimum; a sharper bound is true too. What goes unsaid: up to
//! V* there is one minimum, above it there may be several, and which one training finds is open.
//!
//! One bandit of four arms, V from below V* to above, every local minimum that random starts find;
//! and on random bandits, how often there are several.

use std::collections::BTreeSet;
use std::path::Path;

use crate::bandit::{Evidence, Problem, Shape, random_problem};
use crate::loss::InputKind;
use crate::observer::Observer;
use crate::rows::dro_value_error::{Count, Minimum};
use crate::rows::spread::frequency;
use crate::rows::table::read;
use crate::solve::dro::{minima, value_error};
use anyhow::Result;
use serde_json::json;

use super::report::{markdown, number};
use super::run::Run;
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "dro-value-error",
    about: "What an error in DRO's value costs: eq. 6, a sharper bound, and several minima above V*",
    run: simulate,
    report,
};

const BANDIT: &str = r#"{"beta": 1.0, "prompts": [{
    "reward": [2.0, 1.0, 0.0, -1.0],
    "behavior": [[0.4, 0.3, 0.2, 0.1]]
}]}"#;
/// V − V*: from −4 to 4 in these steps, shifted by half of one.
const STEP: f64 = 0.1;
const REACH: i64 = 40;
/// On random bandits.
const OFFSETS: [f64; 10] = [-1.0, 0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0];
const PROBLEMS: u64 = 120;
const STARTS: u64 = 16;

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &["samples"])?;
    let problems = request.samples.map_or(PROBLEMS, |n| n as u64);
    anyhow::ensure!(problems > 0, "--samples: it is 0; ask for at least one");
    let problem = Problem::from_json(BANDIT)?;
    let config = json!({
        "problem": serde_json::from_str::<serde_json::Value>(&problem.to_json())?,
        "step": STEP, "reach": REACH, "offsets": OFFSETS, "problems": problems,
        "starts": STARTS, "key": request.key,
    });
    let run = Run::start(SIM.name, request, dir, config)?;

    let offsets: Vec<f64> = (-REACH..REACH).map(|i| (i as f64 + 0.5) * STEP).collect();
    let found = run.map(&offsets, |&offset| local(&problem, offset, request.key))?;
    run.write("rows.csv", &found.concat())?;

    let places: Vec<(f64, u64)> = (OFFSETS.iter())
        .flat_map(|&offset| (0..problems).map(move |i| (offset, i)))
        .collect();
    let each = run.map(&places, |&(offset, i)| {
        let shape = Shape {
            prompts: 1,
            arms: 4,
            beta: 1.0,
            reward_scale: 1.0,
        };
        local(
            &random_problem(shape, request.key.wrapping_mul(1_000_003) + i)?,
            offset,
            i,
        )
    })?;
    let counts: Vec<Count> = (each.chunks(problems as usize).zip(OFFSETS))
        .map(|(found, offset)| {
            let ratio = |side: fn(&Minimum) -> f64| {
                let all = found.iter().flatten().filter(|m| m.error > 1e-9);
                all.map(|m| m.error / side(m)).fold(0.0, f64::max)
            };
            Count {
                offset,
                problems,
                several: found.iter().filter(|all| all.len() > 1).count() as u64,
                tightest: ratio(|m| m.bound),
                sharpest: ratio(|m| m.sharper),
            }
        })
        .collect();
    run.write("counts.csv", &counts)?;
    run.finish()
}

/// Every local minimum of a bandit of one prompt at V = V* + `offset`.
fn local(problem: &Problem, offset: f64, seed: u64) -> Result<Vec<Minimum>> {
    let (prompt, evidence) = (&problem.prompts()[0], Evidence::population(problem));
    let share = &evidence.of(InputKind::Singles)?.prompts[0];
    let beta = problem.beta();
    let value = prompt.optimum(beta).0 + offset;
    let found = minima(0, prompt, share, beta, value, (STARTS, seed))?;
    let measured = found.iter().enumerate().map(|(rank, minimum)| {
        let e = value_error(prompt, share, beta, value, &minimum.log_policy);
        Minimum {
            offset,
            rank: rank as u64,
            delta: e.delta,
            error: e.error,
            bound: e.bound,
            sharper: e.sharper,
        }
    });
    Ok(measured.collect())
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let all: Vec<Minimum> = read(&dir.join("rows.csv"), observer)?;
    let counts: Vec<Count> = read(&dir.join("counts.csv"), observer)?;
    let beyond = all
        .iter()
        .filter(|m| m.error > m.bound * (1.0 + 1e-9) + 1e-9)
        .count();
    let several: BTreeSet<i64> = (all.iter())
        .filter(|m| m.rank > 0)
        .map(|m| (m.offset / STEP).floor() as i64)
        .collect();
    let from = several.first().map(|i| (*i as f64 + 0.5) * STEP);
    let mut text = format!(
        "On one bandit of four arms (τ = 1), {} local minima at {} values: the error `max |ln π/π*|` \
         is above eq. 6 at {beyond} of them. {} On random bandits of four arms (every law uniform on \
         the simplex), by V − V*:\n\n",
        all.len(),
        2 * REACH,
        from.map_or("There is one minimum at every value.".into(), |from| format!(
            "There is one minimum up to V*, and more than one at {} values from V* + {from:.2} on.",
            several.len()
        )),
    );
    let rows: Vec<Vec<String>> = (counts.iter())
        .map(|c| {
            let (p, [low, high]) = frequency(c.several, c.problems);
            vec![
                c.offset.to_string(),
                format!(
                    "{:.1} % ({:.1}–{:.1})",
                    100.0 * p,
                    100.0 * low,
                    100.0 * high
                ),
                number(c.tightest),
                format!("{:.5}", c.sharpest),
            ]
        })
        .collect();
    let header = [
        "V − V*",
        "several minima (95 % interval)",
        "largest error / eq. 6",
        "largest error / sharper bound",
    ];
    text += &markdown(&header, &rows);
    Ok(text)
}
