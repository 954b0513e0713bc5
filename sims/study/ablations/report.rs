//! Report on the ablations, against what the paper says.

use std::collections::BTreeMap;
use std::path::Path;

use crate::loss::Objective;
use crate::observer::Observer;
use anyhow::{Context, Result};

use super::super::report::{Claim, cells, half};
use super::{NETWORKS, PER, network, rates, tau};
use crate::llm::train::{ValueNetwork, ValuePer};
use crate::rows::study_ablations::{Row, Setting, best, last, paper, read_rows, settings};
use crate::sims::report::{markdown, number};

pub fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    text(&read_rows(dir, observer)?)
}

/// Win rates at the best checkpoint, by seed.
type Wins = BTreeMap<u64, f64>;

fn text(rows: &[Row]) -> Result<String> {
    let wins = |setting: Setting| -> Result<Wins> {
        let best = best(rows, &setting).into_iter();
        let wins: Wins = best.map(|(seed, row)| (seed, row.win)).collect();
        (!wins.is_empty())
            .then_some(wins)
            .with_context(|| format!("rows.csv: none of {setting:?}; run the study to its end"))
    };
    let ends = |setting: &Setting| -> Wins {
        let last = last(rows, setting).into_iter();
        last.map(|(seed, row)| (seed, row.win)).collect()
    };
    let found = Found {
        both: each(paper::FACTORS, |factor| wins(rates(factor, factor)))?,
        alone: each(paper::FACTORS, |factor| wins(rates(1.0, factor)))?,
        dro: each(paper::TAUS, |beta| wins(tau(Objective::DRO_V, beta)))?,
        kto: each(paper::TAUS, |beta| wins(tau(Objective::KTO, beta)))?,
        networks: each(NETWORKS, |value| each(PER, |per| wins(network(value, per))))?,
        ends: each(NETWORKS, |value| {
            each(PER, |per| Ok(ends(&network(value, per))))
        })?,
    };
    let header = ["statement", "difference, 95 % interval over seeds", "here"];
    Ok(format!(
        "## Win rate against the initial model, at the best checkpoint\n\n{}\n{}\n{}\n## What the paper says\n\n{}\n\
         ## All settings, at the best checkpoint\n\n{}",
        found.rates(),
        found.taus(),
        found.table_of_networks(),
        markdown(&header, &cells(&found.claims())),
        all(rows),
    ))
}

fn each<X, Y, const N: usize>(of: [X; N], f: impl FnMut(X) -> Result<Y>) -> Result<Vec<Y>> {
    of.into_iter().map(f).collect()
}

/// The win rates of every ablation, in the order of the paper's tables.
struct Found {
    both: Vec<Wins>,
    alone: Vec<Wins>,
    dro: Vec<Wins>,
    kto: Vec<Wins>,
    networks: Vec<Vec<Wins>>,
    /// The same at the last checkpoint.
    ends: Vec<Vec<Wins>>,
}

impl Found {
    fn rates(&self) -> String {
        let head = paper::FACTORS.map(|factor| format!("×{factor}"));
        pivot(
            "learning rate of",
            &head,
            &[
                ("policy and V", &self.both, &paper::BOTH),
                ("V alone", &self.alone, &paper::ALONE),
            ],
        )
    }

    fn taus(&self) -> String {
        let head = paper::TAUS.map(|tau| format!("τ = {tau}"));
        pivot(
            "τ of",
            &head,
            &[
                ("DRO-V", &self.dro, &paper::DRO),
                ("KTO", &self.kto, &paper::KTO),
            ],
        )
    }

    fn table_of_networks(&self) -> String {
        let per = PER.map(|per| format!("a value per {}", per.name()));
        let header = [
            "network of V",
            &per[0],
            &per[1],
            &per[2],
            "the paper: one value",
            "several",
        ];
        let lines = NETWORKS.iter().zip(&self.networks).map(|(value, wins)| {
            let [one, several] = match value {
                ValueNetwork::Separate => paper::SEPARATE,
                _ => paper::SHARED,
            };
            let own = wins.iter().map(shown);
            let all = [value.name().to_string()].into_iter().chain(own);
            all.chain([number(one), number(several)]).collect()
        });
        markdown(&header, &lines.collect::<Vec<_>>())
    }

    /// What the paper's Figures 3 to 5 say.
    fn claims(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        let mut above = |words: String, differences: Vec<f64>| {
            claims.push(Claim {
                words,
                differences,
                above: true,
            });
        };
        let [separate, shared] = [0, 1].map(|i| &self.networks[i]);
        for (i, per) in PER.iter().enumerate() {
            let words = format!(
                "a separate network wins more often than a shared one, a value per {}",
                per.name()
            );
            above(words, minus(&separate[i], &shared[i]));
            let words = "… at the last checkpoint".into();
            above(words, minus(&self.ends[0][i], &self.ends[1][i]));
        }
        let of = |per: ValuePer| {
            let at = PER.iter().position(|p| *p == per).unwrap_or_default();
            &separate[at]
        };
        for per in [ValuePer::Prompt, ValuePer::Token] {
            let words = format!(
                "a separate network with a value per {} wins more often than with one per batch",
                per.name()
            );
            above(words, minus(of(per), of(ValuePer::Batch)));
        }
        let best_of = |taus: &[f64; 3], wins: &[Wins]| -> usize {
            let mean = |i: &usize| wins[*i].values().sum::<f64>() / wins[*i].len() as f64;
            let order = |a: &usize, b: &usize| mean(a).total_cmp(&mean(b));
            (0..taus.len()).max_by(order).unwrap_or_default()
        };
        for (name, wins, taus) in [
            ("DRO-V", &self.dro, paper::DRO),
            ("KTO", &self.kto, paper::KTO),
        ] {
            let order = |a: &usize, b: &usize| taus[*a].total_cmp(&taus[*b]);
            let theirs = (0..taus.len()).max_by(order).unwrap_or_default();
            for other in (0..taus.len()).filter(|&i| i != theirs) {
                let [best, other_tau] = [theirs, other].map(|i| paper::TAUS[i]);
                let words = format!("{name} wins more often at τ = {best} than at {other_tau}");
                above(words, minus(&wins[theirs], &wins[other]));
            }
        }
        let (ours, theirs) = (
            best_of(&paper::TAUS, &self.dro),
            best_of(&paper::TAUS, &self.kto),
        );
        let words = format!(
            "DRO-V at its best τ of the three, {}, wins more often than KTO at its own, {}",
            paper::TAUS[ours],
            paper::TAUS[theirs]
        );
        above(words, minus(&self.dro[ours], &self.kto[theirs]));
        let range = |wins: &[Wins]| -> Wins {
            let of = |seed: &u64| {
                let all = || wins.iter().filter_map(|wins| wins.get(seed).copied());
                all().fold(f64::MIN, f64::max) - all().fold(f64::MAX, f64::min)
            };
            wins[0].keys().map(|seed| (*seed, of(seed))).collect()
        };
        above(
            "both rates change the win rate by more (most less least) than V's alone".into(),
            minus(&range(&self.both), &range(&self.alone)),
        );
        above(
            "V at five times the policy's rate wins more often than at a tenth".into(),
            minus(&self.alone[3], &self.alone[0]),
        );
        claims
    }
}

/// Differences, seed by seed: the same order of the data, and the same random numbers of samples.
fn minus(a: &Wins, b: &Wins) -> Vec<f64> {
    let both = a.iter().filter_map(|(seed, a)| Some((a, b.get(seed)?)));
    both.map(|(a, b)| a - b).collect()
}

/// Mean and half the 95 % interval.
fn shown(wins: &Wins) -> String {
    mean_and_half(&wins.values().copied().collect::<Vec<_>>())
}

fn mean_and_half(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    number(mean) + &half(values).map_or(String::new(), |h| format!(" ± {}", number(h)))
}

/// A table of win rates, each line above the paper's.
fn pivot(corner: &str, head: &[String], lines: &[(&str, &Vec<Wins>, &[f64])]) -> String {
    let header: Vec<&str> = [corner]
        .into_iter()
        .chain(head.iter().map(String::as_str))
        .collect();
    let mut all = Vec::new();
    for (name, wins, theirs) in lines {
        let line = |name: String, cells: Vec<String>| [vec![name], cells].concat();
        all.push(line((*name).into(), wins.iter().map(shown).collect()));
        let theirs = theirs.iter().map(|&win| number(win)).collect();
        all.push(line("… in the paper".into(), theirs));
    }
    markdown(&header, &all)
}

/// A line a setting.
fn all(rows: &[Row]) -> String {
    let line = |setting: Setting| -> Vec<String> {
        let best = best(rows, &setting);
        let of = |f: fn(&Row) -> f64| {
            mean_and_half(&best.values().map(|row| f(row)).collect::<Vec<_>>())
        };
        vec![
            setting.objective.clone(),
            setting.beta.to_string(),
            setting.lr.to_string(),
            setting.value_lr.map_or("–".into(), |lr| lr.to_string()),
            setting.value.clone(),
            setting.value_per.clone(),
            of(|row| row.step as f64),
            of(|row| row.win),
            of(|row| row.reward),
            of(|row| row.kl),
        ]
    };
    let header = [
        "objective",
        "τ",
        "lr ×",
        "value lr ×",
        "network of V",
        "a value per",
        "best step",
        "win",
        "reward",
        "KL",
    ];
    let lines: Vec<_> = settings(rows).into_iter().map(line).collect();
    markdown(&header, &lines)
}

#[cfg(test)]
mod tests {
    use super::super::sweep;
    use super::*;

    /// Rows whose win rates are the paper's, but for a spread of a thousandth over seeds.
    fn rows(win: impl Fn(&Setting) -> f64) -> Vec<Row> {
        let mut rows = Vec::new();
        for setting in sweep() {
            for (seed, step) in (0..3).flat_map(|seed| [0, 8].map(|step| (seed, step))) {
                let win = win(&setting) + 1e-3 * seed as f64;
                rows.push(Row {
                    objective: setting.objective.clone(),
                    beta: setting.beta,
                    lr: setting.lr,
                    value_lr: setting.value_lr,
                    value: setting.value.clone(),
                    value_per: setting.value_per.clone(),
                    seed,
                    step,
                    choosing: win,
                    win: if step == 0 { 0.5 } else { win },
                    reward: 0.0,
                    kl: 0.0,
                    prompts: 256,
                });
            }
        }
        rows
    }

    fn of_paper(s: &Setting) -> f64 {
        let at = |of: &[f64], x: f64| of.iter().position(|y| *y == x).unwrap();
        if s.objective == Objective::KTO.name() {
            return paper::KTO[at(&paper::TAUS, s.beta)];
        }
        let several = usize::from(s.value_per != ValuePer::Batch.name());
        match (s.value_lr, s.beta, s.lr) {
            (None, ..) => paper::SHARED[several],
            (_, 1.0, 1.0) if s.value_per != ValuePer::Prompt.name() => paper::SEPARATE[several],
            (Some(lr), 1.0, 1.0) => paper::ALONE[at(&paper::FACTORS, lr)],
            (_, 1.0, lr) => paper::BOTH[at(&paper::FACTORS, lr)],
            (_, beta, _) => paper::DRO[at(&paper::TAUS, beta)],
        }
    }

    #[test]
    fn the_papers_own_numbers_agree_with_it_and_the_opposite_does_not() {
        let statements = |text: &str, verdict: &str| {
            let lines = text.lines().filter(|line| line.ends_with(verdict));
            lines.count()
        };
        let text_of = |sign: f64| text(&rows(|s| 0.5 + sign * (of_paper(s) - 0.5))).unwrap();
        let (theirs, opposite) = (text_of(1.0), text_of(-1.0));
        // Of the opposite DRO-V's best τ is its worst, and ranges are as they were.
        assert_eq!(
            (
                statements(&theirs, "| agrees |"),
                statements(&theirs, "| does not |")
            ),
            (15, 0),
            "{theirs}"
        );
        assert_eq!(statements(&opposite, "| agrees |"), 1, "{opposite}");
        assert!(theirs.contains("| V alone | 0.769"), "{theirs}");
        let missing: Vec<Row> = rows(of_paper)
            .into_iter()
            .filter(|r| r.beta != 5.0)
            .collect();
        let error = text(&missing).unwrap_err().to_string();
        assert!(error.contains("run the study to its end"), "{error}");
    }
}
