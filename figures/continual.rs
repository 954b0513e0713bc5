//! A sequence of tasks: accuracy on each after each, along the way, and what is forgotten.

use std::path::Path;

use anyhow::Result;

use super::axes::{Axis, SOFT};
use super::chart::{Chart, Layer};
use super::map::Map;
use super::palette::look;
use super::sheet::Sheet;
use crate::continual::metrics::forgetting;
use crate::llm::continual::ACCURACY;
use crate::observer::Observer;
use crate::rows::continual::{Course, read_course};

/// Draws the tables of a sequence's folder.
pub fn draw(rows_dir: &Path, out_stem: &Path, observer: &dyn Observer) -> Result<()> {
    let course = read_course(&rows_dir.join(ACCURACY), observer)?;
    let looks: Vec<_> = (course.tasks.iter().enumerate())
        .map(|(i, task)| look(i, task.as_str()))
        .collect();
    let sheet = Sheet {
        title: "A sequence of tasks, learned one after the other".into(),
        caption: format!(
            "Left: accuracy on each task (across) after each (upwards); a task is learned on the diagonal, what lies to its \
             right was not yet. Middle: the same along the way, from the model that the sequence starts from (0). Right: \
             by how much each old task is below its best so far{}.",
            if course.matrix.len() < 2 {
                ", once there are two"
            } else {
                ""
            }
        ),
        rows: vec![vec![matrix(&course), along(&course), lost(&course)]],
        height: 300.0,
        legend: looks,
        ..Sheet::default()
    };
    sheet.save(out_stem)
}

fn matrix(course: &Course) -> Chart {
    let (across, up) = (course.tasks.len(), course.matrix.len());
    let edges = |count: usize| (0..=count).map(|i| i as f64 + 0.5).collect();
    let axis = |count: usize| Axis::whole(0.5, count as f64 + 0.5);
    let mut chart = Chart::new("accuracy", (axis(across), "task"), (axis(up), "after task"));
    let rows = || course.matrix.iter();
    chart.add(Layer::Map(Map {
        x: edges(across),
        y: edges(up),
        values: rows()
            .map(|row| row.iter().map(|v| Some(*v)).collect())
            .collect(),
        scale: Axis::linear(0.0, 1.0),
        label: "accuracy".into(),
        texts: rows()
            .map(|row| row.iter().map(|v| format!("{v:.2}")).collect())
            .collect(),
    }));
    chart
}

fn along(course: &Course) -> Chart {
    let learned = course.matrix.len().max(1) as f64;
    let time = Axis::linear(0.0, learned);
    let mut chart = Chart::new(
        "along the way",
        (time, "tasks learned"),
        (Axis::linear(0.0, 1.0), "accuracy"),
    );
    for k in 1..course.matrix.len() {
        chart.add(Layer::Dashed(SOFT, vec![(k as f64, 0.0), (k as f64, 1.0)]));
    }
    for (i, (task, points)) in course.tasks.iter().zip(&course.curves).enumerate() {
        chart.add(Layer::Line {
            look: look(i, task.as_str()),
            points: points.clone(),
            marked: points.len() < 30,
        });
    }
    chart
}

/// Of each old task, the best accuracy since it was learned less that of now.
fn lost(course: &Course) -> Chart {
    let a = &course.matrix;
    let of = |j: usize, k: usize| {
        let best = (j..k).map(|i| a[i][j]).fold(f64::NEG_INFINITY, f64::max);
        best - a[k][j]
    };
    let mut curves = Vec::new();
    for j in 0..a.len().saturating_sub(1) {
        let points: Vec<(f64, f64)> = (j + 1..a.len())
            .map(|k| ((k + 1) as f64, of(j, k)))
            .collect();
        curves.push(points);
    }
    let mean: Vec<(f64, f64)> = (1..a.len())
        .filter_map(|k| Some(((k + 1) as f64, forgetting(a, k)?)))
        .collect();
    let all = curves.iter().flatten().chain(&mean).map(|p| p.1);
    let (low, high) = all.fold((0.0, 0.1), |(low, high): (f64, f64), v| {
        (low.min(v), high.max(v))
    });
    let room = 0.05 * (high - low);
    let y = Axis::linear(low - room, high + room);
    let x = Axis::linear(1.0, a.len().max(2) as f64 + 0.1);
    let mut chart = Chart::new("forgetting", (x, "tasks learned"), (y, "below its best"));
    chart.add(Layer::Dashed(SOFT, vec![(x.lo, 0.0), (x.hi, 0.0)]));
    chart.add(Layer::Dashed(super::axes::INK, mean.clone()));
    if let Some((_, last)) = mean.last() {
        chart.label(super::axes::INK, "mean (FM)", *last);
    }
    for (i, points) in curves.into_iter().enumerate() {
        chart.add(Layer::Line {
            look: look(i, course.tasks[i].as_str()),
            points,
            marked: true,
        });
    }
    chart
}
