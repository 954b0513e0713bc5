//! Report on what each method gains and forgets, against what the paper says.

use std::path::Path;

use crate::observer::Observer;
use anyhow::{Result, ensure};

use super::super::report::half;
use crate::rows::study_rehearsal::{FORGET, MAIN, Row, Setting, paths, read_rows, settings};
use crate::sims::report::{markdown, number};

pub fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let (rows, _scorers) = read_rows(dir, observer)?;
    ensure!(
        !rows.is_empty(),
        "rows.csv: it has no rows; run the study to its end"
    );
    Ok(table(&rows))
}

fn shown(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    number(mean) + &half(values).map_or(String::new(), |h| format!(" ± {}", number(h)))
}

fn ends(rows: &[Row], setting: &Setting, set: &str, of: impl Fn(&Row) -> f64) -> Vec<f64> {
    let found = paths(rows, setting, set);
    found.values().filter_map(|p| p.last()).map(|r| of(r)).collect()
}

fn table(rows: &[Row]) -> String {
    let mut lines = Vec::new();
    for setting in settings(rows) {
        let of = |set: &str, f: &dyn Fn(&Row) -> f64| shown(&ends(rows, &setting, set, f));
        lines.push(vec![
            format!("{} c={} γ={}", setting.method, setting.clusters, setting.gamma),
            of(MAIN, &|r| r.win),
            of(MAIN, &|r| r.lose),
            of(MAIN, &|r| r.reward),
            of(MAIN, &|r| r.score.unwrap_or(f64::NAN)),
            of(MAIN, &|r| r.kl),
            of(FORGET, &|r| r.win),
            of(FORGET, &|r| r.lose),
            of(FORGET, &|r| r.reward),
            of(FORGET, &|r| r.kl),
            of(MAIN, &|r| r.nll),
        ]);
    }
    markdown(
        &["method", "main win", "lose", "reward", "score", "KL", "forget win", "lose", "reward", "KL", "NLL of D_R"],
        &lines,
    )
}
