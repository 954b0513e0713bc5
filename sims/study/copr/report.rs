//! Report of `study copr`: the paper's Tables 2 to 4 in small, and its statements.

use std::path::Path;

use crate::continual::Method;
use crate::observer::Observer;
use crate::rows::study_copr::{METHODS, ORDERS, REPLAY, Row, ends, methods, read_rows};
use crate::sims::report::{markdown, number};
use anyhow::{Result, ensure};

use super::super::report::{Claim, cells, half};
use super::grid;

/// A metric of a row.
type Metric = fn(&Row) -> Option<f64>;

const NAMES: [&str; 4] = ["AA", "AIA", "BWT", "FM"];
const OF: [Metric; 4] = [|r| r.aa, |r| r.aia, |r| r.bwt, |r| r.fm];

/// Rivals that keep no data or some, of the paper's lower block.
const CONTINUAL: [Method; 7] = [
    Method::SFT_L2,
    Method::SFT_EWC,
    Method::SFT_MAS,
    Method::SFT_AGEM,
    Method::SFT_LWF,
    Method::SFT_TFCL,
    Method::SFT_DER,
];

/// The report on a folder's rows.
///
/// # Errors
/// Rows that are missing.
pub fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let rows = read_rows(dir, observer)?;
    let all = ends(&rows, METHODS);
    ensure!(
        !all.is_empty(),
        "rows.csv: no method at its best setting; run the study to its end"
    );
    let line = |first: Vec<String>, own: &[&&Row]| -> Vec<String> {
        let each = OF.iter().map(|of| {
            let values: Vec<f64> = own.iter().filter_map(|r| of(r)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            format!("{mean:.3}") + &half(&values).map_or(String::new(), |h| format!(" ± {h:.3}"))
        });
        first.into_iter().chain(each).collect()
    };
    let mut lines = Vec::new();
    for method in methods(&rows, METHODS) {
        let own: Vec<&&Row> = all.iter().filter(|r| r.method == method).collect();
        lines.push(line(vec![method.into(), own[0].setting.clone()], &own));
    }
    let header = [&["method", "setting"][..], &NAMES].concat();
    let mut text = String::from(
        "Accuracy is the share of held-out prompts where the policy's text scores more than the initial model's, ties half \
         (the initial model has ½). Mean over seeds ± half of the 95 % interval.\n\n",
    );
    text += &markdown(&header, &lines);
    for (part, what) in [(ORDERS, "order"), (REPLAY, "replay")] {
        let mut lines = Vec::new();
        let found = ends(&rows, part);
        for method in grid::VARIED {
            let normal = all.iter().filter(|r| r.method == method);
            let others = found.iter().filter(|r| r.method == method);
            let both: Vec<&&Row> = normal.chain(others).collect();
            let name = |r: &Row| match part {
                ORDERS => r.order.clone(),
                _ => number(r.replay),
            };
            let mut names: Vec<String> = both.iter().map(|r| name(r)).collect();
            names.sort();
            names.dedup();
            for one in names {
                let own: Vec<&&Row> = both.iter().copied().filter(|r| name(r) == one).collect();
                lines.push(line(vec![method.into(), one], &own));
            }
        }
        text += &format!(
            "\n{}",
            markdown(&[&["method", what][..], &NAMES].concat(), &lines)
        );
    }
    let header = ["statement", "difference, 95 % interval over seeds", "here"];
    text += &format!(
        "\n{}",
        markdown(
            &header,
            &cells(&claims(&all, &ends(&rows, ORDERS), &ends(&rows, REPLAY)))
        )
    );
    Ok(text)
}

fn claims(all: &[&Row], orders: &[&Row], replay: &[&Row]) -> Vec<Claim> {
    let value = |method: &str, seed: u64, of: Metric| {
        let own = all.iter().find(|r| r.method == method && r.seed == seed);
        own.and_then(|r| of(r))
    };
    let mut seeds: Vec<u64> = all.iter().map(|r| r.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let [aa, aia, bwt, _] = OF;
    let mut claims = Vec::new();
    let mut state = |words: &str, above: bool, difference: &dyn Fn(u64) -> Option<f64>| {
        claims.push(Claim {
            words: words.into(),
            differences: seeds.iter().filter_map(|&seed| difference(seed)).collect(),
            above,
        });
    };
    let less =
        |a: &str, b: &str, of: Metric, seed: u64| Some(value(a, seed, of)? - value(b, seed, of)?);
    state("SFT task after task forgets (BWT)", false, &|s| {
        value(Method::SFT.name, s, bwt)
    });
    state(
        "SFT on all tasks is better than task after task (AA)",
        true,
        &|s| less(Method::SFT_ALL.name, Method::SFT.name, aa, s),
    );
    state(
        "COPR forgets less than without constraints (BWT)",
        true,
        &|s| less(Method::COPR.name, Method::COPR_NO_CONSTRAINTS.name, bwt, s),
    );
    for (ablation, words) in [
        (
            Method::COPR_NO_FIT.name,
            "COPR is better than without its fit (AA)",
        ),
        (
            Method::COPR_NO_CONSTRAINTS.name,
            "COPR is better than without its constraints (AA)",
        ),
        (
            Method::COPR_NO_LIKELIHOOD.name,
            "COPR is better than without its likelihood (AA)",
        ),
        (
            Method::COPR_FIXED.name,
            "COPR is better than with λ ≡ 1 (AA)",
        ),
    ] {
        state(words, true, &|s| less(Method::COPR.name, ablation, aa, s));
    }
    for (name, of) in [("AA", aa), ("AIA", aia)] {
        let best = |s: u64| {
            let each = CONTINUAL.iter().filter_map(|m| value(m.name, s, of));
            each.fold(f64::NEG_INFINITY, f64::max)
        };
        state(
            &format!("COPR is better than every regularised or replaying SFT ({name})"),
            true,
            &|s| Some(value(Method::COPR.name, s, of)? - best(s)),
        );
    }
    for rival in [
        Method::SPIN,
        Method::COH,
        Method::PRO,
        Method::RRHF,
        Method::DPO,
    ] {
        let rival = rival.name;
        state(&format!("COPR is better than {rival} (AA)"), true, &|s| {
            less(Method::COPR.name, rival, aa, s)
        });
    }
    state(
        "retraining on all data (iterated RLHF) is an upper bound (AA)",
        true,
        &|s| {
            let each = all
                .iter()
                .filter(|r| r.seed == s && r.method != Method::RLHF.name)
                .filter_map(|r| r.aa);
            Some(value(Method::RLHF.name, s, aa)? - each.fold(f64::NEG_INFINITY, f64::max))
        },
    );
    let spread = |found: &[&Row], seed: u64| {
        let others = found
            .iter()
            .filter(|r| r.method == Method::COPR.name && r.seed == seed);
        let each: Vec<f64> = others
            .filter_map(|r| r.aa)
            .chain(value(Method::COPR.name, seed, aa))
            .collect();
        let (low, high) = each
            .iter()
            .fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        Some(high - low - 0.05)
    };
    state(
        "COPR's AA differs by less than .05 over orders",
        false,
        &|s| spread(orders, s),
    );
    state(
        "COPR's AA differs by less than .05 over shares of replay",
        false,
        &|s| spread(replay, s),
    );
    claims
}
