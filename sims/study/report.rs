//! Report on a study's results, against what the paper says.

use std::collections::BTreeMap;

use crate::stats::t_interval;
use anyhow::{Result, ensure};

use super::copg::best_beta;
use crate::rows::study::{Row, rates};
use crate::sims::report::{markdown, number};

/// Half the width of the 95 % interval of a mean, by Student's t.
pub(super) fn half(values: &[f64]) -> Option<f64> {
    t_interval(values, 0.95).map(|[low, high]| 0.5 * (high - low))
}

/// KL divergences, in nats, within which the fronts are compared.
const BUDGETS: [f64; 3] = [5.0, 10.0, 20.0];

/// Rewards and KL of one trial along training.
pub(super) type Path = Vec<(u64, f64, f64)>;

/// The trials of an objective by seed.
fn trials(rows: &[Row], part: &str, objective: &str, beta: f64) -> BTreeMap<u64, Path> {
    let mut found: BTreeMap<u64, Path> = BTreeMap::new();
    let wanted = |r: &&Row| r.part == part && r.objective == objective && r.beta == beta;
    for row in rows.iter().filter(wanted) {
        let path = found.entry(row.seed).or_default();
        path.push((row.step, row.reward, row.kl));
    }
    found
}

/// A statement, the difference that decides it by seed, and whether it should be above 0.
#[derive(Clone)]
pub(super) struct Claim {
    pub words: String,
    pub differences: Vec<f64>,
    pub above: bool,
}

impl Claim {
    fn cells(&self) -> Vec<String> {
        let n = self.differences.len().max(1) as f64;
        let mean = self.differences.iter().sum::<f64>() / n;
        let sign = if self.above { 1.0 } else { -1.0 };
        let (verdict, shown) = match half(&self.differences) {
            None => ("one seed", number(mean)),
            Some(half) => {
                let verdict = match () {
                    () if sign * mean > half => "agrees",
                    () if sign * mean < -half => "does not",
                    () => "undecided",
                };
                (verdict, format!("{} ± {}", number(mean), number(half)))
            }
        };
        vec![self.words.clone(), shown, verdict.into()]
    }
}

/// The lines of statements.
pub(super) fn cells(claims: &[Claim]) -> Vec<Vec<String>> {
    claims.iter().map(Claim::cells).collect()
}

/// A table of the best β and one of statements, the first objective against the others.
///
/// # Errors
/// Rows that are not there.
pub fn text(rows: &[Row], objectives: &[&str]) -> Result<String> {
    let mut best = BTreeMap::new();
    for &name in objectives {
        let beta = best_beta(rows, name);
        let found = beta.map(|beta| (beta, trials(rows, "best", name, beta)));
        ensure!(
            found.as_ref().is_some_and(|(_, t)| !t.is_empty()),
            "rows.csv: none of {name} at its best β; run the study to its end"
        );
        best.extend(found.map(|found| (name, found)));
    }
    let end = |path: &Path| path.last().copied().unwrap_or_default();
    let mut lines = Vec::new();
    for &name in objectives {
        let (beta, paths) = &best[name];
        let column = |of: &dyn Fn(&Path) -> f64| {
            let values: Vec<f64> = paths.values().map(of).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let half = half(&values).map_or(String::new(), |h| format!(" ± {}", number(h)));
            number(mean) + &half
        };
        lines.push(vec![
            name.to_string(),
            number(*beta),
            column(&|p| p.first().copied().unwrap_or_default().1),
            column(&|p| end(p).1),
            column(&|p| end(p).2),
        ]);
    }
    let header = [
        "objective",
        "best β",
        "reward at the start",
        "at the end",
        "KL at the end",
    ];
    let table = markdown(&header, &lines);
    let mut claims = Vec::new();
    for &name in objectives {
        let gains = best[name].1.values().map(|p| end(p).1 - p[0].1);
        claims.push(Claim {
            words: format!("{name} raises the reward"),
            differences: gains.collect(),
            above: true,
        });
    }
    let first = objectives[0];
    // The same seeds: the same order of the data, and the same random numbers of samples.
    let paired = |other: &str, of: &dyn Fn(&Path) -> f64| -> Vec<f64> {
        let (ours, theirs) = (&best[first].1, &best[other].1);
        let both = ours
            .iter()
            .filter_map(|(seed, p)| Some((p, theirs.get(seed)?)));
        both.map(|(p, q)| of(p) - of(q)).collect()
    };
    let budget = (best.values())
        .map(|(_, paths)| paths.values().map(|p| end(p).2).sum::<f64>() / paths.len() as f64)
        .fold(f64::INFINITY, f64::min);
    for &other in &objectives[1..] {
        let mut claim = |words: String, differences: Vec<f64>, above: bool| {
            claims.push(Claim {
                words,
                differences,
                above,
            });
        };
        claim(
            format!("{first} ends higher than {other}, each at its best β"),
            paired(other, &|p| end(p).1),
            true,
        );
        claim(
            "… and is ahead half-way".into(),
            paired(other, &|p| p[p.len() / 2].1),
            true,
        );
        claim(
            format!("… has a higher reward at a KL of {}", number(budget)),
            paired(other, &|p| at(p, budget)),
            true,
        );
        claim(
            format!("… and ends at a lower KL than {other}"),
            paired(other, &|p| end(p).2),
            false,
        );
    }
    // The fronts: what the sweep reaches within a KL, whatever β and step.
    let reached = |name: &str, seed: u64, kl: f64| -> f64 {
        let within =
            |r: &&Row| r.part == "sweep" && r.objective == name && r.seed == seed && r.kl <= kl;
        let rewards = rows.iter().filter(within).map(|r| r.reward);
        rewards.fold(f64::MIN, f64::max)
    };
    let mut seeds: Vec<u64> = (rows.iter().filter(|r| r.part == "sweep"))
        .map(|r| r.seed)
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    for &other in &objectives[1..] {
        for kl in BUDGETS {
            let gap = |&seed: &u64| reached(first, seed, kl) - reached(other, seed, kl);
            claims.push(Claim {
                words: format!(
                    "{first} gets a higher reward than {other} within a KL of {kl}, over all β"
                ),
                differences: seeds.iter().map(gap).collect(),
                above: true,
            });
        }
    }
    for &name in objectives {
        let ends = rates(rows, "sweep", name);
        let (Some(low), Some(high)) = (ends.first(), ends.last()) else {
            continue;
        };
        let best = best[name].0;
        let against = |beta: f64| -> Vec<f64> {
            let (best, other) = (
                trials(rows, "sweep", name, best),
                trials(rows, "sweep", name, beta),
            );
            let both = best
                .iter()
                .filter_map(|(seed, p)| Some((p, other.get(seed)?)));
            both.map(|(p, q)| end(q).1 - end(p).1).collect()
        };
        for (beta, words) in [
            (low.0, "drops at its smallest β"),
            (high.0, "gains less at its greatest β"),
        ] {
            if beta != best {
                let words = format!("{name} {words}, {beta}");
                claims.push(Claim {
                    words,
                    differences: against(beta),
                    above: false,
                });
            }
        }
    }
    let cells = cells(&claims);
    let header = ["statement", "difference, 95 % interval over seeds", "here"];
    Ok(format!("{table}\n{}", markdown(&header, &cells)))
}

/// The reward where the path first reaches that KL, between judgements on a straight line; at its
/// end where it never does.
pub(super) fn at(path: &Path, kl: f64) -> f64 {
    let crossing = path.windows(2).find(|w| w[1].2 >= kl);
    match crossing {
        None => path.last().copied().unwrap_or_default().1,
        Some(w) if w[1].2 == w[0].2 => w[1].1,
        Some(w) => w[0].1 + (w[1].1 - w[0].1) * ((kl - w[0].2) / (w[1].2 - w[0].2)).clamp(0.0, 1.0),
    }
}
