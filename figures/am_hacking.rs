//! Win rates by task, and how far the policy moves on the forget set, against rounds of PPO; and beside, in a figure of
//! its own, how little the number of clusters matters that rehearsal keeps examples of.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::axes::{Axis, SOFT};
use super::chart::{Chart, Layer};
use super::legend::Look;
use super::palette::look;
use super::sheet::Sheet;
use crate::observer::Observer;
use crate::rows::am_hacking::{ClusterRow, Clusters, FORGET, Hacking, Row};
use crate::rows::spread::{Point, Spread};

/// The variants drawn, and what the legend calls them; the report's table has the others too.
const DRAWN: [(&str, &str); 5] = [
    ("reward", "reward"),
    ("standardised", "reward, standardised per prompt"),
    ("advantage", "Advantage Model"),
    ("advantage + rehearsal", "Advantage Model + rehearsal"),
    ("reward, exact critic", "reward, exact critic"),
];
/// Rounds from one marker to the next.
const MARKED: usize = 10;

/// Draws `rows.csv` of `rows_dir` into `OUT_STEM.svg` and `OUT_STEM.png`, and `clusters.csv`, if it is there, into
/// `OUT_STEM-clusters.svg` and `.png`.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let run = Hacking::read(rows_dir, observer)?;
    let clusters = Clusters::read(rows_dir, observer)?;
    let gamma = clusters.as_ref().and_then(Clusters::settings);
    let gamma = gamma.map_or(String::new(), |(_, gamma)| format!(", γ = {gamma}"));
    let looks: Vec<(&str, Look)> = (DRAWN.iter().enumerate())
        .filter(|(_, (variant, _))| run.variants().contains(variant))
        .map(|(i, &(variant, name))| (variant, look(i, name)))
        .collect();
    let win: fn(&Row) -> f64 = |r| r.win;
    let tasks = run.tasks();
    let mut charts: Vec<Chart> = (tasks.iter())
        .map(|task| {
            let title = match *task {
                "code" => "code: the loudest rewards, style pays",
                "qa" => "qa: quiet rewards, style costs",
                "expert" => "expert: already answered well",
                FORGET => "forget set: as expert, never trained on",
                other => other,
            };
            chart(&run, &looks, task, (title, "win rate"), win, Some(0.5))
        })
        .collect();
    let title = ("forget set: distance moved", "KL(π, π₀)");
    charts.push(chart(&run, &looks, FORGET, title, |r| r.kl, None));
    let title = ("code: the reward that training sees", "mean reward");
    charts.push(chart(&run, &looks, "code", title, |r| r.reward, None));
    let mut rows: Vec<Vec<Chart>> = Vec::new();
    for chart in charts {
        match rows.last_mut() {
            Some(row) if row.len() < 3 => row.push(chart),
            _ => rows.push(vec![chart]),
        }
    }
    let sheet = Sheet {
        title: "Hacking and forgetting: PPO on rewards, and on the Advantage Model’s scores".into(),
        caption: format!(
            "Clipped PPO in exact expectation on one log-linear policy for four tasks in random worlds: \
                  mean over worlds with its 95 % band, by round. Win rate: how often y beats y₀, y from the policy, \
                  y₀ from the initial one, by the true preferences; dashed: ½, no better than before. \
                  The tasks share what they learn about quality and style; style pays in code, whose rewards are \
                  largest, and is a fault elsewhere. One baseline serves all tasks unless the critic is exact \
                  (each prompt’s own mean). Rehearsal adds the log-likelihood of the initial policy’s best \
                  responses{gamma}; standardised: less the prompt’s mean reward, over its spread."
        ),
        rows,
        columns: 3,
        height: 300.0,
        legend: looks.into_iter().map(|(_, look)| look).collect(),
        ..Sheet::default()
    };
    sheet.save(out_stem)?;
    match clusters {
        Some(clusters) => draw_clusters(&clusters, out_stem),
        None => Ok(()),
    }
}

/// The paper's Fig. 6.
fn draw_clusters(run: &Clusters, out_stem: &Path) -> Result<()> {
    let counts = run.counts();
    let looks: Vec<Look> = (counts.iter().enumerate())
        .map(|(i, c)| look(i, format!("c = {c}")))
        .collect();
    let over_rounds = |title: (&str, &str), trained, of: fn(&ClusterRow) -> f64| {
        let curves = (looks.iter().zip(&counts))
            .map(|(look, &c)| (look, means(run.curve(c, trained, of))))
            .collect();
        lines(curves, title, None)
    };
    let kept = run.settings().map_or(String::new(), |(kept, gamma)| {
        format!(" the best {kept} of each cluster, at γ = {gamma};")
    });
    let sheet = Sheet {
        title: "Rehearsal by the number of clusters c that it keeps examples of".into(),
        caption: format!(
            "Clipped PPO on the Advantage Model’s scores with rehearsal, in the worlds of the sim am-hacking. Prompts are grouped into c \
             clusters by their embeddings; rehearsal keeps{kept} so more clusters keep more examples. Mean over \
             worlds of the mean over tasks that are trained on, and of the forget set, with its 95 % band, by round."
        ),
        rows: vec![vec![
            over_rounds(("tasks trained on", "mean score"), true, |r| r.score),
            over_rounds(("tasks trained on", "win rate"), true, |r| r.win),
            over_rounds(("forget set", "win rate"), false, |r| r.win),
        ]],
        columns: 3,
        height: 300.0,
        legend: looks.clone(),
        ..Sheet::default()
    };
    let mut stem = out_stem.as_os_str().to_os_string();
    stem.push("-clusters");
    sheet.save(Path::new(&stem))
}

fn chart(
    run: &Hacking,
    looks: &[(&str, Look)],
    task: &str,
    title: (&str, &str),
    of: fn(&Row) -> f64,
    level: Option<f64>,
) -> Chart {
    let curves = (looks.iter())
        .map(|(variant, look)| (look, curve(run, variant, task, of)))
        .collect();
    lines(curves, title, level)
}

/// Curves over rounds with their bands, and a dashed level.
fn lines(
    curves: Vec<(&Look, Vec<Point>)>,
    (title, name): (&str, &str),
    level: Option<f64>,
) -> Chart {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let edge = |sign: f64| points().map(move |p| p.1 + sign * p.2.unwrap_or(0.0));
    let low = edge(-1.0).chain(level).fold(f64::MAX, f64::min);
    let high = edge(1.0).chain(level).fold(f64::MIN, f64::max);
    let room = 0.05 * (high - low).max(0.01);
    let last = points().map(|p| p.0).fold(1.0, f64::max);
    let y = Axis::linear(if level.is_some() { low - room } else { low }, high + room);
    let mut chart = Chart::new(title, (Axis::whole(0.0, last), "round"), (y, name));
    if let Some(level) = level {
        chart.add(Layer::Dashed(SOFT, vec![(0.0, level), (last, level)]));
    }
    for (look, points) in &curves {
        if points.iter().any(|p| p.2.is_some()) {
            let half = |h: Option<f64>| h.unwrap_or(0.0);
            let edges = (points.iter()).map(|&(x, y, h)| (x, y - half(h), y + half(h)));
            chart.add(Layer::Band(look.color, edges.collect()));
        }
    }
    for (look, points) in &curves {
        let all: Vec<_> = points.iter().map(|&(x, y, _)| (x, y)).collect();
        let marked = all.iter().copied().step_by(MARKED).collect();
        chart.add(Layer::Line {
            look: (*look).clone(),
            points: all,
            marked: false,
        });
        chart.add(Layer::Points((*look).clone(), marked));
    }
    chart
}

/// Round, mean over worlds, half the width of its 95 % band.
fn curve(run: &Hacking, variant: &str, task: &str, of: fn(&Row) -> f64) -> Vec<Point> {
    let mut rounds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for row in run.of(variant, task) {
        rounds.entry(row.round).or_default().push(of(row));
    }
    means(rounds)
}

/// Of every round the mean and half the width of its band.
fn means(rounds: BTreeMap<u64, Vec<f64>>) -> Vec<Point> {
    let point = |(round, values): (u64, Vec<f64>)| {
        Spread::of(values).map(|s| (round as f64, s.mean, s.half()))
    };
    rounds.into_iter().filter_map(point).collect()
}
