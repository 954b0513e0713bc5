//! The figure of `study rehearsal`: wins less losses on the main and the forget set along training and against each
//! other, the likelihood of what is rehearsed, and rehearsal over its number of clusters.

use std::path::Path;

use anyhow::{Result, ensure};

use super::axes::Axis;
use super::chart::Chart;
use super::legend::Look;
use super::palette::look;
use super::sheet::Sheet;
use super::study::spread;
use crate::observer::Observer;
use crate::rows::spread::{Point, Spread};
use crate::rows::study_rehearsal::{
    FORGET, MAIN, METHODS, Row, SR, Setting, curve, default_of, paths, read_rows, swept,
};

/// Draws the rows of a folder.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let (rows, _) = read_rows(rows_dir, observer)?;
    ensure!(
        !rows.is_empty(),
        "{}: rows.csv has no rows",
        rows_dir.display()
    );
    let methods: Vec<(Setting, Look)> = (METHODS.iter().enumerate())
        .filter_map(|(i, method)| Some((default_of(&rows, method)?, look(i, *method))))
        .collect();
    let mut seeds: Vec<u64> = rows.iter().map(|r| r.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let prompts = |set: &str| rows.iter().find(|r| r.set == set).map_or(0, |r| r.prompts);
    let sheet = Sheet {
        title: "PPO on reward and Advantage Models, and selective rehearsal".into(),
        caption: format!(
            "One completion of each of {} held-out prompts of the classes that are trained on (main), and of {} of the \
             class that is not (forget), drawn with the random numbers of the initial policy’s: the share that has a \
             greater reward than it, less the share that has a smaller one. NLL: −ln π of a token of what AM-PPO-SR \
             rehearses. Right below: AM-PPO-SR at the end over the number of clusters c that the same number of examples is \
             chosen from. Means over {} seeds; shaded: their 95 % band (± 1.96 sd/√n).",
            prompts(MAIN),
            prompts(FORGET),
            seeds.len(),
        ),
        rows: vec![
            vec![
                along(&rows, &methods, MAIN, "main: wins less losses", net),
                along(&rows, &methods, FORGET, "forget: wins less losses", net),
                against(&rows, &methods),
            ],
            vec![
                along(
                    &rows,
                    &methods,
                    MAIN,
                    "NLL of what is rehearsed, nats",
                    |r| r.nll,
                ),
                clusters_along(&rows),
                clusters_at_the_end(&rows),
            ],
        ],
        height: 300.0,
        legend: methods.into_iter().map(|(_, look)| look).collect(),
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

fn net(row: &Row) -> f64 {
    row.win - row.lose
}

fn written(rows: &[Row]) -> Axis {
    Axis::linear(
        0.0,
        rows.iter().map(|r| r.written as f64).fold(1.0, f64::max),
    )
}

/// The axis that holds all points with their bands.
fn fitting(points: &[Point]) -> Axis {
    let ends = points.iter().flat_map(|p| {
        let half = p.2.unwrap_or(0.0);
        [p.1 - half, p.1 + half]
    });
    let (low, high) = spread(ends.collect::<Vec<_>>().into_iter());
    Axis::linear(low, high)
}

fn along(
    rows: &[Row],
    methods: &[(Setting, Look)],
    set: &str,
    title: &str,
    of: fn(&Row) -> f64,
) -> Chart {
    let curves: Vec<(&Look, Vec<Point>)> = (methods.iter())
        .map(|(setting, look)| (look, curve(rows, setting, set, of)))
        .collect();
    let all: Vec<Point> = curves.iter().flat_map(|(_, c)| c.clone()).collect();
    let mut chart = Chart::new(
        title,
        (written(rows), "completions written"),
        (fitting(&all), ""),
    );
    for (look, points) in &curves {
        chart.series(look, points);
    }
    chart
}

/// The forget set over the main one, along training.
fn against(rows: &[Row], methods: &[(Setting, Look)]) -> Chart {
    let path = |setting: &Setting| -> Vec<Point> {
        let main = curve(rows, setting, MAIN, net);
        let forget = curve(rows, setting, FORGET, net);
        let both = main.iter().zip(&forget);
        both.map(|(main, forget)| (main.1, forget.1, None))
            .collect()
    };
    let all: Vec<(&Look, Vec<Point>)> = (methods.iter())
        .map(|(setting, look)| (look, path(setting)))
        .collect();
    let points: Vec<Point> = all.iter().flat_map(|(_, p)| p.clone()).collect();
    let (low, high) = spread(points.iter().map(|p| p.0));
    let mut chart = Chart::new(
        "forget against main",
        (Axis::linear(low, high), "main: wins less losses"),
        (fitting(&points), "forget"),
    );
    for (look, points) in &all {
        chart.series(look, points);
    }
    chart
}

/// The reward on the main set along training, by the number of clusters (Figure 6).
fn clusters_along(rows: &[Row]) -> Chart {
    let curves: Vec<(u64, Vec<Point>)> = (swept(rows).into_iter())
        .map(|s| (s.clusters, curve(rows, &s, MAIN, |r| r.reward)))
        .collect();
    let all: Vec<Point> = curves.iter().flat_map(|(_, c)| c.clone()).collect();
    let mut chart = Chart::new(
        format!("{SR} over c: reward, main"),
        (written(rows), "completions written"),
        (fitting(&all), ""),
    );
    for (i, (clusters, points)) in curves.iter().enumerate() {
        let look = look(i, "");
        chart.series(&look, points);
        if let Some(&(_, end, _)) = points.last() {
            chart.label(look.color, format!("c = {clusters}"), end);
        }
    }
    chart
}

/// Wins less losses at the end over the number of clusters.
fn clusters_at_the_end(rows: &[Row]) -> Chart {
    let points = |set: &str| -> Vec<Point> {
        let of = |s: Setting| {
            let found = paths(rows, &s, set);
            let ends = found.values().filter_map(|path| path.last());
            let spread = Spread::of(ends.map(|row| net(row)))?;
            Some((s.clusters as f64, spread.mean, spread.half()))
        };
        swept(rows).into_iter().filter_map(of).collect()
    };
    let drawn: Vec<(&str, Vec<Point>)> = [MAIN, FORGET].map(|set| (set, points(set))).to_vec();
    let all: Vec<Point> = drawn.iter().flat_map(|(_, p)| p.clone()).collect();
    let most = all.iter().map(|p| p.0).fold(1.0, f64::max);
    let mut chart = Chart::new(
        "at the end, over c: wins less losses",
        (Axis::log(0.8, 1.25 * most), "clusters c"),
        (fitting(&all), ""),
    );
    for (i, (set, points)) in drawn.iter().enumerate() {
        let look = look(i + 6, *set);
        chart.series(&look, points);
        if let Some(&(_, end, _)) = points.last() {
            chart.label(look.color, *set, end);
        }
    }
    chart
}
