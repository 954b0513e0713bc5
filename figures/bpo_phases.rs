//! BPO's regret against the number of phases, solved exactly and by sampling.

use std::path::Path;

use anyhow::Result;

use super::axes::Axis;
use super::chart::{Chart, Layer};
use super::palette::{PALETTE, look};
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::bpo_phases::{Exact, Static, Trained, trained};
use crate::rows::table::read;

const LOSSES: [&str; 3] = ["bpo-dpo", "bpo-ipo", "bpo-slic"];
const Y: &str = "regret J(π*) − J(π)";

/// Draws `rows.csv`, `static.csv` and `trained.csv` of `rows_dir` into `OUT_STEM.svg` and
/// `OUT_STEM.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let exact: Vec<Exact> = read(&rows_dir.join("rows.csv"), observer)?;
    let fixed: Vec<Static> = read(&rows_dir.join("static.csv"), observer)?;
    let sampled: Vec<Trained> = read(&rows_dir.join("trained.csv"), observer)?;
    let labels = sampled.first().map_or(0, |r| r.labels);
    let mut legend: Vec<_> = LOSSES
        .iter()
        .enumerate()
        .map(|(i, name)| look(i, *name))
        .collect();
    legend.push(look(3, "static DPO at β/F"));
    let sheet = Sheet {
        title: "BPO: more phases go on to the best arm, past π*".into(),
        caption: format!(
            "One bandit of four arms (β = 0.5), regret by J with the initial reference. Left: each phase \
             solved exactly; F phases of DPO are one static DPO at temperature β/F. Right: trained by \
             sampling, {labels} labels in all whatever F, mean over seeds with its 95 % band; dashed: the \
             same training with the initial reference throughout. No number of phases is the end: \
             the policy’s regret passes its least and tends to that of the best arm alone."
        ),
        rows: vec![vec![solved(&exact, &fixed), budget(&sampled)]],
        height: 420.0,
        legend,
        dashed: Some("initial reference throughout".into()),
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

fn solved(exact: &[Exact], fixed: &[Static]) -> Chart {
    let last = exact.iter().map(|r| r.phases).max().unwrap_or(1) as f64;
    let highest = exact.iter().map(|r| r.regret).fold(0.01, f64::max);
    let x = Axis::whole(0.5, last + 0.5);
    let y = Axis::linear(-0.03 * highest, 1.06 * highest);
    let mut chart = Chart::new("exact, phase by phase", (x, "phases F"), (y, Y));
    for (i, name) in LOSSES.iter().enumerate() {
        let rows = exact.iter().filter(|r| r.inner == *name);
        let points: Vec<_> = rows.map(|r| (r.phases as f64, r.regret, None)).collect();
        chart.series(&look(i, *name), &points);
    }
    let mut cold = look(3, "static DPO at β/F");
    cold.thick = 1.0;
    let points = fixed.iter().step_by(3).map(|r| (r.phases as f64, r.regret));
    chart.add(Layer::Points(cold, points.collect()));
    chart
}

fn budget(sampled: &[Trained]) -> Chart {
    let counts = || sampled.iter().map(|r| r.phases as f64);
    let x = Axis::log(
        counts().fold(f64::MAX, f64::min) / 1.2,
        1.2 * counts().fold(1.0, f64::max),
    );
    let highest = sampled.iter().map(|r| r.regret).fold(0.01, f64::max);
    let y = Axis::linear(-0.03 * highest, 1.06 * highest);
    let mut chart = Chart::new("by sampling, one budget of labels", (x, "phases F"), (y, Y));
    for (i, name) in LOSSES.iter().enumerate() {
        let means = |reference| trained(sampled, name, reference, |r| r.regret);
        let control = means("static").into_iter().map(|(k, s)| (k as f64, s.mean));
        chart.add(Layer::Dashed(PALETTE[i], control.collect()));
        let points: Vec<_> = (means("behaviour").into_iter())
            .map(|(k, s)| (k as f64, s.mean, s.half()))
            .collect();
        chart.series(&look(i, *name), &points);
    }
    chart
}
