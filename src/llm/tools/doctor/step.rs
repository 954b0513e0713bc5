//! A training step stage by stage, each against its floor.

mod size;
mod whole;

use candle_core::{DType, Device};

use super::Section;
use super::ceilings::Ceilings;
use super::place::Place;
use super::precision::Precision;
use super::report::{Part, Quantity, Row, Unit, Verdict, three};
use super::shapes::{self, Stage};
use super::timing::{BUSY, Effort, Pool, Timed};
use crate::error::{Error, Result};
use crate::llm::model::sequence::{Predictions, Sequence};
use crate::llm::tools::plan::Machine;
use crate::observer::Observer;
use size::Size;

/// What a stage took and would take at least, in seconds.
struct Measured {
    name: String,
    seconds: f64,
    floor: Option<f64>,
}

/// Every stage, their sum, the whole, tokens a second, the next bottleneck.
pub fn part(
    device: &Device,
    precision: Precision,
    ceilings: &Ceilings,
    quick: bool,
    seed: u64,
    observer: &dyn Observer,
) -> Part {
    let place = Place {
        dtype: precision.dtype(),
        device: device.clone(),
    };
    let of = |size: &Size| {
        format!(
            "DPO in {}, Llama of {} parameters, {} sequences of {} tokens",
            precision.name(),
            size.name,
            size.sequences,
            size.tokens
        )
    };
    let failed = |error| vec![Row::failed("the step", &error)];
    match Size::of(device, quick) {
        Ok(size) => {
            let run = || measure(&size, &place, precision, ceilings, quick, seed, observer);
            let rows = precision.within(run).unwrap_or_else(failed);
            Part::new(Section::Step, of(&size), rows)
        }
        Err(error) => Part::new(Section::Step, "", failed(error)),
    }
}

fn measure(
    size: &Size,
    place: &Place,
    precision: Precision,
    ceilings: &Ceilings,
    quick: bool,
    seed: u64,
    observer: &dyn Observer,
) -> Result<Vec<Row>> {
    let (Some(flops), Some(bandwidth)) = (ceilings.flops(precision), ceilings.bandwidth) else {
        let remedy = "see the section `ceilings`";
        return Err(Error::invalid("step", "no ceiling was measured", remedy));
    };
    let effort = Effort {
        seconds: if quick { 0.05 } else { 0.3 },
        most: 50,
        least: if quick { 1 } else { 3 },
    };
    let text = size.text(seed)?;
    let sequences: Vec<&Sequence> = text.sequences.iter().collect();
    let predictions = Predictions::new(&sequences);
    let tokens = predictions.packed.tokens.len();
    let calls = shapes::calls(&size.config.graph, &predictions);
    let work = observer.begin("", calls.len() as u64 + 2);
    let bytes = place.dtype.size_in_bytes() as f64;
    let mut pool = Pool::new(seed);
    let cache = if place.device.is_cpu() {
        4 * Machine::new(true).last_cache as usize
    } else {
        1 << 28
    };
    // Per stage: seconds and floors, forward and backward.
    let mut stages = Stage::ALL.map(|stage| (stage, [0.0; 2], [0.0; 2]));
    let mut products = 0.0;
    for times in &calls {
        work.note(format_args!("{}", times.stage.name()));
        let timed = Timed::new(&*times.call, &mut pool, place, cache)?;
        let medians = effort.medians(|round| timed.round(round))?;
        let costs = times.call.cost().map(|cost| cost.times(times.count));
        products += costs.iter().map(|c| c.flops).sum::<f64>();
        for (stage, seconds, floors) in &mut stages {
            if *stage == times.stage {
                for pass in 0..2 {
                    seconds[pass] += medians[pass] * times.count as f64;
                    floors[pass] += costs[pass].floor(bytes, flops, bandwidth);
                }
            }
        }
        work.advance(1);
    }
    work.note(format_args!("loss"));
    let host = whole::loss(&text, predictions.targets.len(), place, effort)?;
    work.advance(1);
    work.note(format_args!("whole step"));
    let effort = Effort {
        seconds: if quick { 0.5 } else { 4.0 },
        most: 20,
        least: if quick { 1 } else { 3 },
    };
    let steps = whole::steps(size, &text, &mut pool, place, effort)?;
    let (whole, count) = (steps.all, steps.parameters);
    work.advance(1);
    let per_pass = |pass: usize| {
        let name = ["forward", "backward"][pass];
        let taken = stages
            .iter()
            .filter(move |(_, seconds, _)| seconds[pass] > 0.0);
        taken.map(move |(stage, seconds, floors)| Measured {
            name: format!("{}, {name}", stage.name()),
            seconds: seconds[pass],
            floor: Some(floors[pass]),
        })
    };
    // Weights, gradient and two moments are read, and all but the gradient written; in bf16 there
    // is a copy of the weights in f32.
    let updated = match place.dtype {
        DType::BF16 => 28.0,
        _ => 7.0 * bytes,
    };
    let mut all: Vec<Measured> = per_pass(0).collect();
    all.push(Measured {
        name: "loss, on the host".into(),
        seconds: host,
        floor: None,
    });
    all.extend(per_pass(1));
    for (name, seconds, bytes) in [
        ("gradient norm", steps.norm, bytes),
        ("AdamW", steps.update, updated),
    ] {
        all.push(Measured {
            name: name.into(),
            seconds,
            floor: Some(bytes * count as f64 / bandwidth),
        });
    }
    let sum: f64 = all.iter().map(|m| m.seconds).sum();
    let floor: f64 = all.iter().filter_map(|m| m.floor).sum();
    let mut rows: Vec<Row> = all.iter().map(|measured| row(measured, whole)).collect();
    let quantity = |seconds| Quantity::new(seconds, Unit::Seconds);
    let both = |name: &str, seconds: f64| {
        let mut row = Row::note(name, quantity(seconds));
        row.bound = Some(quantity(floor));
        row.remark(format!("{} × floor", three(seconds / floor)))
    };
    rows.push(both("sum of the stages", sum).detail("share", sum / whole));
    rows.push(
        both("whole step", whole)
            .detail("forward_and_backward", steps.pass)
            .detail("parameters", count)
            .detail("tokens", tokens),
    );
    rows.push(Row::note(
        "tokens",
        Quantity::new(tokens as f64 / whole, Unit::Tokens),
    ));
    let achieved = products / whole;
    let mut speed = Row::note("products", Quantity::new(achieved, Unit::Flops));
    speed.bound = Some(Quantity::new(flops, Unit::Flops));
    let share = 100.0 * achieved / flops;
    rows.push(
        speed
            .remark(if share > BEYOND {
                format!("more than the ceiling, which was found while {BUSY}")
            } else {
                format!("{share:.1} % of the ceiling")
            })
            .detail("flops_per_step", products)
            .detail("share", achieved / flops),
    );
    rows.extend(steps.bytes.map(|bytes| memory(size, place, bytes, quick)));
    all.push(Measured {
        name: "in no stage".into(),
        seconds: (whole - sum).max(0.0),
        floor: None,
    });
    let above = |m: &Measured| m.seconds - m.floor.unwrap_or(0.0);
    if let Some(next) = all.iter().max_by(|a, b| above(a).total_cmp(&above(b))) {
        let shown = quantity(above(next)).shown();
        let share = 100.0 * above(next) / whole;
        rows.push(
            Row::says("next bottleneck", next.name.clone())
                .remark(format!("{shown} above its floor, {share:.0} % of the step")),
        );
    }
    Ok(rows)
}

/// Per cent of a ceiling that are no error of measuring.
const BEYOND: f64 = 105.0;

/// A stage's row.
fn row(measured: &Measured, whole: f64) -> Row {
    let share = measured.seconds / whole;
    let mut row = Row::note(
        measured.name.clone(),
        Quantity::new(measured.seconds, Unit::Seconds),
    );
    let mut remark = format!("{:.1} % of the step", 100.0 * share);
    if let Some(floor) = measured.floor {
        row.bound = Some(Quantity::new(floor, Unit::Seconds));
        // The backward of a sum moves nothing.
        if floor > 0.0 {
            remark = format!("{remark}, {} × floor", three(measured.seconds / floor));
        }
    }
    row.remark(remark).detail("share", share)
}

/// The most bytes at once beside what `pistar plan` says of the same step.
fn memory(size: &Size, place: &Place, measured: u64, quick: bool) -> Row {
    let name = "memory, measured and planned";
    let planned = match whole::predicted(size, place) {
        Ok(planned) => planned,
        Err(error) => return Row::failed(name, &error),
    };
    let quantity = |bytes: u64| Quantity::new(bytes as f64, Unit::Bytes);
    let mut row = Row::note(name, quantity(measured));
    row.bound = Some(quantity(planned));
    let off = planned as f64 / measured as f64 - 1.0;
    row.verdict = match (quick, off.abs() <= 0.1) {
        // Of small models, tensors too small to be counted are a part.
        (true, _) => Verdict::Note,
        (false, true) => Verdict::Ok,
        (false, false) => Verdict::Fail,
    };
    row.remark(format!("planned {:+.1} %", 100.0 * off))
}
