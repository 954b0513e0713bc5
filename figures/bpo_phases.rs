//! BPO's regret against the number of phases, solved exactly and by sampling.

use std::path::Path;

use anyhow::Result;

use super::axes::Axis;
use super::chart::{Chart, Layer};
use super::palette::{PALETTE, look};
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::bpo_phases::{Exact, Static, Trained, references, trained};
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
            "One bandit of four arms (β = 0.5), regret by J with the initial reference. Top left: each phase \
             solved exactly; F phases of DPO are one static DPO at temperature β/F. Top right: trained by \
             sampling, {labels} labels in all whatever F, mean over seeds with its 95 % band; dashed: the \
             same training with the initial reference throughout. No number of phases is the end: \
             the policy’s regret passes its least and tends to that of the best arm alone. Below: the same \
             training of bpo-dpo by its reference: static is the initial policy, golden the end of an on-policy \
             run, ema:τ a moving average of logits, ensemble:L the merged policy of L members (of a table, of rank 2)."
        ),
        rows: vec![
            vec![solved(&exact, &fixed), budget(&sampled)],
            vec![
                by_reference(&sampled, Y, |r| r.regret),
                by_reference(&sampled, "true reward E[R]", |r| r.reward),
            ],
        ],
        height: 400.0,
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

/// The axis of numbers of phases.
fn counts(sampled: &[Trained]) -> Axis {
    let counts = || sampled.iter().map(|r| r.phases as f64);
    Axis::log(
        counts().fold(f64::MAX, f64::min) / 1.2,
        1.2 * counts().fold(1.0, f64::max),
    )
}

/// A number of the policies that one loss leaves, by what they were held against.
fn by_reference(sampled: &[Trained], name: &str, value: fn(&Trained) -> f64) -> Chart {
    let of = |reference| trained(sampled, LOSSES[0], reference, value);
    let all = references(sampled);
    let ends = (all.iter())
        .flat_map(|reference| of(reference))
        .flat_map(|(_, s)| [-1.0, 1.0].map(|side| s.mean + side * s.half().unwrap_or(0.0)));
    let (low, high) = ends.fold((f64::MAX, f64::MIN), |(low, high), end| {
        (end.min(low), end.max(high))
    });
    let room = 0.04 * (high - low).max(1e-3);
    let y = Axis::linear(low - room, high + room);
    let title = format!("{}, by reference", LOSSES[0]);
    let mut chart = Chart::new(title, (counts(sampled), "phases F"), (y, name));
    for (i, reference) in all.iter().enumerate() {
        let points: Vec<_> = (of(reference).into_iter())
            .map(|(k, s)| (k as f64, s.mean, s.half()))
            .collect();
        let look = look(i, *reference);
        if let Some(last) = points.last() {
            chart.label(look.color, *reference, last.1);
        }
        chart.series(&look, &points);
    }
    chart
}

fn budget(sampled: &[Trained]) -> Chart {
    let x = counts(sampled);
    // Of the two that this chart shows.
    let shown = |r: &&Trained| ["behaviour", "static"].contains(&r.reference.as_str());
    let sampled: Vec<Trained> = sampled.iter().filter(shown).cloned().collect();
    let sampled = &sampled[..];
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
