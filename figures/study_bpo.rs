//! The figure of `study bpo`: reward and KL along training, and reward against KL, one row an objective.

use std::path::Path;

use anyhow::{Result, ensure};

use super::axes::Axis;
use super::chart::Chart;
use super::legend::Look;
use super::palette::look;
use super::sheet::Sheet;
use super::study::spread;
use crate::observer::Observer;
use crate::rows::spread::Point;
use crate::rows::study_bpo::{Row, Setting, curve, objectives, read_rows, settings};

/// Draws the rows of a folder.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let rows = read_rows(rows_dir, observer)?;
    ensure!(
        !rows.is_empty(),
        "{}: rows.csv has no rows",
        rows_dir.display()
    );
    let all: Vec<Setting> = settings(&rows, &rows[0].objective);
    let looks: Vec<Look> = (all.iter().enumerate())
        .map(|(i, setting)| look(i, name(setting)))
        .collect();
    let (low, high) = spread(rows.iter().map(|r| r.reward));
    let reward = Axis::linear(low, high);
    let kl = Axis::linear(0.0, 1.03 * rows.iter().map(|r| r.kl).fold(0.1, f64::max));
    let steps = Axis::linear(0.0, rows.iter().map(|r| r.step as f64).fold(1.0, f64::max));
    let row = |objective: &String| -> Vec<Chart> {
        let mut along = Chart::new(
            format!("{objective}: reward"),
            (steps, "steps"),
            (reward, "reward"),
        );
        let mut far = Chart::new(
            "distance from the initial model",
            (steps, "steps"),
            (kl, "KL, nats"),
        );
        let mut front = Chart::new("reward against KL", (kl, "KL, nats"), (reward, "reward"));
        for (setting, look) in all.iter().zip(&looks) {
            let of = |f: &dyn Fn(&Row) -> f64| curve(&rows, objective, setting, f);
            let (rewards, distances) = (of(&|r| r.reward), of(&|r| r.kl));
            let path: Vec<Point> = (distances.iter().zip(&rewards))
                .map(|(kl, reward)| (kl.1, reward.1, None))
                .collect();
            along.series(look, &rewards);
            far.series(look, &distances);
            front.series(look, &path);
        }
        vec![along, far, front]
    };
    let mut seeds: Vec<u64> = rows.iter().map(|r| r.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let sheet = Sheet {
        title: "BPO: preferences on what the policy writes, in F phases".into(),
        caption: format!(
            "Mean reward, and KL from the initial model π₀, of one completion of each of {} held-out prompts, at temperature 1, over {} \
             seeds. “behaviour” is BPO: the reference is the policy that wrote the phase’s completions; “initial” is \
             π₀; “golden” the end of BPO at F = T, given from the start. Shaded: 95 % band of the mean over seeds (± \
             1.96 sd/√n).",
            rows[0].prompts,
            seeds.len(),
        ),
        rows: objectives(&rows).iter().map(row).collect(),
        height: 300.0,
        legend: looks,
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

fn name((reference, phases): &Setting) -> String {
    match phases {
        1 => "F = 1, offline".into(),
        _ => format!("F = {phases}, {reference}"),
    }
}
