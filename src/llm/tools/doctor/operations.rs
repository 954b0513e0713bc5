//! Every operation's value and gradients against the CPU in f64.

use candle_core::{DType, Device};
use serde_json::json;

use super::Section;
use super::evaluate::{Results, Sample, distance, numbers};
use super::place::Place;
use super::precision::Precision;
use super::report::{Part, Row, Verdict};
use crate::error::Result;
use crate::llm::tensor::ops::{Case, Operation, REGISTRY, Shapes};
use crate::observer::Observer;
use crate::random::{Purpose, Stream};

/// Every operation with every choice it has, named. The shapes are odd on purpose, and depend on
/// the seed.
pub fn calls(seed: u64) -> Vec<Case> {
    let mut stream = Stream::new(seed, Purpose::Doctor, 0);
    let shapes = Shapes::draw(|n| stream.below(n) as usize);
    (REGISTRY.iter())
        .flat_map(|entry| (entry.cases)(&shapes))
        .collect()
}

/// Examines operations: per precision a row for every call, and one that says how many calls give the same bits when
/// they are run again.
pub fn parts(
    device: &Device,
    precisions: &[Precision],
    seed: u64,
    observer: &dyn Observer,
) -> Vec<Part> {
    let calls = calls(seed);
    let work = observer.begin("", (precisions.len() * calls.len()) as u64);
    let mut parts = Vec::new();
    for &precision in precisions {
        let (mut rows, mut other) = (Vec::new(), Vec::new());
        for (index, (name, call)) in calls.iter().enumerate() {
            work.note(format_args!("{name} in {}", precision.name()));
            let mut stream = Stream::new(seed, Purpose::Doctor, 1 + index as u64);
            let found = precision.within(|| check(name, &**call, device, precision, &mut stream));
            rows.push(match found {
                Ok((row, same)) => {
                    if !same {
                        other.push(*name);
                    }
                    row
                }
                Err(error) => Row::failed(*name, &error),
            });
            work.advance(1);
        }
        let same = calls.len() - other.len();
        let row = Row::count("same bits when run again", same, calls.len());
        let mut row = row.remark(other.join(", "));
        if !device.is_cpu() && !other.is_empty() {
            // Atomic additions of a GPU come in any order.
            row.verdict = Verdict::Note;
        }
        rows.push(row);
        parts.push(Part::new(Section::Operations, precision.name(), rows));
    }
    parts
}

/// A call on a device against f64 on the CPU, on the same numbers; on the CPU in f64 itself against
/// the twin, whose gradient is candle's. Also whether it gives the same bits when run again.
///
/// # Errors
/// Those of the operation.
pub fn check(
    name: &str,
    call: &dyn Operation,
    device: &Device,
    precision: Precision,
    stream: &mut Stream,
) -> Result<(Row, bool)> {
    let reference = Sample::draw(call, stream, precision.dtype())?;
    let here = reference.on(&Place {
        dtype: precision.dtype(),
        device: device.clone(),
    })?;
    let wanted = match precision {
        Precision::F64 => Results::of_twin(call, &reference)?,
        _ => Results::of(call, &reference)?,
    };
    let found = Results::of(call, &here)?;
    let second = Results::of(call, &here)?;
    let mut same = true;
    for ((_, first), (_, second)) in found.named(call).into_iter().zip(second.named(call)) {
        let [first, second] = [numbers(first)?, numbers(second)?];
        same &= first
            .iter()
            .map(|x| x.to_bits())
            .eq(second.iter().map(|x| x.to_bits()));
    }
    let row = judge(name, call, &found, &wanted, precision)?;
    Ok((row.detail("same_bits_again", same), same))
}

/// The row of what was found: the output that is nearest to its bound, or beyond it by most.
///
/// # Errors
/// A failing device.
pub fn judge(
    name: &str,
    call: &dyn Operation,
    found: &Results,
    wanted: &Results,
    precision: Precision,
) -> Result<Row> {
    // A reference in f64 rounds as often as what is held against it.
    let slack = if precision == Precision::F64 {
        2.0
    } else {
        1.0
    };
    let mut worst = (-1.0, String::new(), f64::NAN, 0.0);
    let mut all = serde_json::Map::new();
    let outputs = found.named(call).into_iter().zip(wanted.named(call));
    for (((output, found), (_, wanted)), bound) in outputs.zip(call.bounds()) {
        let bound = slack * bound.at(precision.units());
        let error = if found.dims() == wanted.dims() {
            distance(&numbers(found)?, &numbers(wanted)?)
        } else {
            f64::NAN
        };
        all.insert(output.clone(), json!({"error": error, "bound": bound}));
        // NaN is worse than everything.
        let severity = match (error == 0.0, error.is_nan()) {
            (true, _) => 0.0,
            (_, true) => f64::INFINITY,
            _ => error / bound,
        };
        if severity > worst.0 {
            worst = (severity, output, error, bound);
        }
    }
    let (_, output, error, bound) = worst;
    let mut row = Row::error(name, error, bound)
        .remark(output)
        .detail("outputs", all)
        .detail("operation", call.function());
    if call.gives_wide() && !matches!(found.value.dtype(), DType::F32 | DType::F64) {
        row.verdict = Verdict::Fail;
        row.remark = format!("the value is in {}", found.value.dtype().as_str());
    }
    Ok(row)
}
