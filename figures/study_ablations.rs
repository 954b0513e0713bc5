//! The figure of `study dro --ablations`: win rates over learning rates, over τ, along training by the network of V,
//! and against KL.

use std::path::Path;

use anyhow::{Result, ensure};
use plotters::prelude::RGBColor;

use super::axes::Axis;
use super::chart::{Chart, Layer};
use super::palette::look;
use super::sheet::Sheet;
use super::study::spread;
use crate::observer::Observer;
use crate::rows::spread::Point;
use crate::rows::study_ablations::{Row, Setting, best, curve, paper, point, read_rows, settings};

/// Draws the rows of a folder.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let rows = read_rows(rows_dir, observer)?;
    ensure!(
        !rows.is_empty(),
        "{}: rows.csv has no rows",
        rows_dir.display()
    );
    let all = settings(&rows);
    // The first is the one that the others change.
    let base = &all[0];
    let mut seeds: Vec<u64> = rows.iter().map(|r| r.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let sheet = Sheet {
        title: "DRO-V’s ablations on a language model’s single completions".into(),
        caption: format!(
            "Win rate against the initial model by one completion of each of {} held-out prompts, over {} seeds. Above: \
             at each trial’s best checkpoint, which other prompts choose, over learning rates (shares of the study’s) \
             and over τ; dashed: the paper’s, of T5-L on UltraFeedback. Below left: along training, with V by a network \
             of its own (separate) or a head on the policy (shared), and a value per prompt, batch or token. Right: the \
             best checkpoints of all trials against their KL from the initial model. Shaded: 95 % band of the mean over \
             seeds (± 1.96 sd/√n).",
            rows[0].prompts,
            seeds.len(),
        ),
        rows: vec![
            vec![rates(&rows, &all, base), taus(&rows, &all, base)],
            vec![networks(&rows, &all, base), front(&rows, &all, base)],
        ],
        height: 300.0,
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

/// Settings that differ from the first at most in that.
fn like<'a>(
    all: &'a [Setting],
    base: &Setting,
    change: impl Fn(&mut Setting, &Setting),
) -> Vec<&'a Setting> {
    let same = |s: &&Setting| {
        let mut changed = base.clone();
        change(&mut changed, s);
        changed == **s
    };
    all.iter().filter(same).collect()
}

/// A line of win rates and the paper's, named at its right end.
struct Line<'a> {
    name: &'a str,
    points: Vec<Point>,
    paper: Vec<(f64, f64)>,
}

/// Lines over a logarithmic axis.
fn lines(title: &str, x_label: &str, lines: Vec<Line>) -> Chart {
    let x = || lines.iter().flat_map(|l| l.points.iter().map(|p| p.0));
    let x_axis = Axis::log(
        x().fold(f64::MAX, f64::min) / 1.3,
        x().fold(0.0, f64::max) * 1.3,
    );
    let y = lines.iter().flat_map(|line| {
        let half = |p: &Point| p.2.unwrap_or(0.0);
        let points = line.points.iter();
        let ends = points.flat_map(move |p| [p.1 - half(p), p.1 + half(p)]);
        ends.chain(line.paper.iter().map(|p| p.1))
    });
    let (low, high) = spread(y.collect::<Vec<_>>().into_iter());
    let mut chart = Chart::new(
        title,
        (x_axis, x_label),
        (Axis::linear(low, high), "win rate"),
    );
    for (i, line) in lines.into_iter().enumerate() {
        let look = look(i, line.name);
        chart.add(Layer::Dashed(look.color, line.paper));
        chart.series(&look, &line.points);
        if let Some(&(_, end, _)) = line.points.last() {
            chart.label(look.color, line.name, end);
        }
    }
    chart
}

/// The points of settings over one of their numbers, in ascending order.
fn over(rows: &[Row], of: Vec<&Setting>, x: fn(&Setting) -> f64) -> Vec<Point> {
    let points = of
        .into_iter()
        .filter_map(|s| point(rows, s, x(s), |row| row.win));
    let mut points: Vec<Point> = points.collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn beside<const N: usize>(x: [f64; N], y: [f64; N]) -> Vec<(f64, f64)> {
    x.into_iter().zip(y).collect()
}

fn rates(rows: &[Row], all: &[Setting], base: &Setting) -> Chart {
    let both = like(all, base, |to, s| {
        to.lr = s.lr;
        to.value_lr = Some(s.lr);
    });
    let alone = like(all, base, |to, s| to.value_lr = s.value_lr);
    let drawn = vec![
        Line {
            name: "both rates",
            points: over(rows, both, |s| s.lr),
            paper: beside(paper::FACTORS, paper::BOTH),
        },
        Line {
            name: "V’s alone",
            points: over(rows, alone, |s| s.value_lr.unwrap_or(0.0)),
            paper: beside(paper::FACTORS, paper::ALONE),
        },
    ];
    lines(
        "learning rates of policy and V",
        "share of the study’s rate",
        drawn,
    )
}

fn taus(rows: &[Row], all: &[Setting], base: &Setting) -> Chart {
    let own = like(all, base, |to, s| to.beta = s.beta);
    let others = all.iter().filter(|s| s.objective != base.objective);
    let drawn = vec![
        Line {
            name: "DRO-V",
            points: over(rows, own, |s| s.beta),
            paper: beside(paper::TAUS, paper::DRO),
        },
        Line {
            name: "KTO",
            points: over(rows, others.collect(), |s| s.beta),
            paper: beside(paper::TAUS, paper::KTO),
        },
    ];
    lines("regularisation", "τ", drawn)
}

fn networks(rows: &[Row], all: &[Setting], base: &Setting) -> Chart {
    let shown = like(all, base, |to, s| {
        to.value.clone_from(&s.value);
        to.value_per.clone_from(&s.value_per);
        if s.value != base.value {
            to.value_lr = None;
        }
    });
    let shown = shown.into_iter().filter(|s| s.objective == base.objective);
    let curves: Vec<(&Setting, Vec<Point>)> = shown.map(|s| (s, curve(rows, s))).collect();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let (low, high) = spread(points().map(|p| p.1));
    let steps = Axis::linear(0.0, points().map(|p| p.0).fold(1.0, f64::max));
    let mut chart = Chart::new(
        "network of V, and what has a value",
        (steps, "steps"),
        (Axis::linear(low, high), "win rate"),
    );
    for (i, (setting, points)) in curves.iter().enumerate() {
        let look = look(i, "");
        chart.series(&look, points);
        if let Some(&(_, end, _)) = points.last() {
            let words = format!("{}, {}", setting.value, setting.value_per);
            chart.label(look.color, words, end);
        }
    }
    chart
}

fn front(rows: &[Row], all: &[Setting], base: &Setting) -> Chart {
    let found: Vec<(&Setting, Vec<(f64, f64)>)> = (all.iter())
        .map(|s| (s, best(rows, s).values().map(|r| (r.kl, r.win)).collect()))
        .collect();
    let points = || found.iter().flat_map(|(_, points)| points);
    let kl = Axis::linear(0.0, 1.03 * points().map(|p| p.0).fold(0.1, f64::max));
    let (low, high) = spread(points().map(|p| p.1));
    let mut chart = Chart::new(
        "win rate against KL",
        (kl, "KL, nats"),
        (Axis::linear(low, high), "win rate"),
    );
    let group = |s: &Setting| match (s.objective == base.objective, s.value == base.value) {
        (true, true) => 0,
        (false, _) => 1,
        (true, false) => 2,
    };
    for (i, name) in ["separate V", "KTO", "shared V"].into_iter().enumerate() {
        let look = look(i, name);
        let of = found.iter().filter(|(s, _)| group(s) == i);
        let dots: Vec<(f64, f64)> = of.flat_map(|(_, points)| points.clone()).collect();
        named(&mut chart, look.color, name, &dots);
        chart.add(Layer::Points(look, dots));
    }
    chart
}

/// Names points at the height of the farthest.
fn named(chart: &mut Chart, color: RGBColor, name: &str, points: &[(f64, f64)]) {
    let farthest = points.iter().max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some(&(_, height)) = farthest {
        chart.label(color, name, height);
    }
}
