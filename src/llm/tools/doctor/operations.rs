//! Every operation's value and gradients against the CPU in f64.

use std::rc::Rc;

use candle_core::{DType, Device};
use serde_json::json;

use super::Section;
use super::bound::Bound;
use super::call::{Call, Compared, Place};
use super::evaluate::{Results, Sample, distance, numbers};
use super::precision::Precision;
use super::report::{Part, Row, Verdict};
use crate::error::Result;
use crate::llm::tensor::ops::{Activation, Attention, Starts};
use crate::observer::Observer;
use crate::random::{Purpose, Stream};

/// Every operation with every choice it has, named. The shapes are odd on purpose, and depend on
/// the seed.
pub fn calls(seed: u64) -> Vec<(&'static str, Call)> {
    let mut stream = Stream::new(seed, Purpose::Doctor, 0);
    let mut below = |n: u32| stream.below(n) as usize;
    // One of length 1, one of a single block's length, one of several blocks'.
    let lengths = [1 + below(60), 1, 150 + below(150), 64, 2 + below(30)];
    let mut starts = vec![0];
    for length in lengths {
        starts.push(starts[starts.len() - 1] + length);
    }
    let starts: Starts = starts.into();
    let mut ids =
        |count: usize, rows: u32| -> Rc<[u32]> { (0..count).map(|_| below(rows) as u32).collect() };
    let repeated = ids(300, 40);
    let picks = ids(120, 170);
    let few = ids(37, 997);
    // So many logits that they come in chunks.
    let many = ids(640, 8000);
    let (rows, width) = (100 + below(100), 65 + below(100));
    let form = |heads, kv_heads, head_dim: usize, window| Attention {
        heads,
        kv_heads,
        head_dim,
        scale: (head_dim as f64).sqrt().recip(),
        window,
        slopes: None,
    };
    // As ALiBi has them: powers of 2^(−8/heads).
    let sloped = |form: Attention| {
        let each = -8.0 / form.heads as f64;
        let slopes = (1..=form.heads).map(|head| (each * head as f64).exp2());
        let slopes = Some(slopes.collect());
        Attention { slopes, ..form }
    };
    let rope = |turned, interleaved| Call::Rope {
        heads: 3,
        head_dim: 16,
        turned,
        interleaved,
        starts: starts.clone(),
    };
    let attention = |form| Call::Attention {
        form,
        starts: starts.clone(),
    };
    let linear = |rows, inputs, outputs, bias| Call::Linear {
        rows,
        inputs,
        outputs,
        bias,
    };
    let gated = |f| Call::Gated { rows, width, f };
    let activation = |f| Call::Activation { rows, width, f };
    let head = |width, vocabulary, bias, targets: &Rc<[u32]>, temperature| Call::TokenLogProbs {
        width,
        vocabulary,
        bias,
        targets: targets.clone(),
        temperature,
    };
    let compared = |rows, widths, vocabulary, bias| Compared {
        rows,
        widths,
        vocabulary,
        bias,
    };
    let [both, both_in_chunks] = [
        compared(37, [width, 51], 997, false),
        compared(640, [48, 40], 8000, true),
    ];
    let rms_norm = |runs, width, offset| Call::RmsNorm {
        rows,
        runs,
        width,
        offset,
    };
    let layer_norm = |runs, width| Call::LayerNorm { rows, runs, width };
    vec![
        ("linear", linear(rows, width, 91, false)),
        ("linear, long sums", linear(256, 1024, 192, false)),
        ("linear with bias", linear(rows, width, 131, true)),
        (
            "embedding, ids repeated",
            Call::Embedding {
                vocabulary: 40,
                width,
                ids: repeated,
            },
        ),
        (
            "rows",
            Call::Rows {
                rows: 170,
                width,
                picks,
            },
        ),
        ("rms_norm", rms_norm(1, width, 0.0)),
        ("rms_norm, offset 1", rms_norm(1, width, 1.0)),
        ("rms_norm of each head", rms_norm(4, 48, 0.0)),
        ("layer_norm", layer_norm(1, width)),
        ("layer_norm of each head", layer_norm(4, 48)),
        ("rope", rope(16, false)),
        ("rope, part of a head", rope(10, false)),
        ("rope, interleaved", rope(16, true)),
        ("rope, part of a head interleaved", rope(12, true)),
        ("attention", attention(form(4, 4, 32, None))),
        ("attention, grouped heads", attention(form(8, 2, 64, None))),
        ("attention, window", attention(form(6, 3, 16, Some(37)))),
        ("attention, slopes", attention(sloped(form(6, 6, 32, None)))),
        (
            "attention, slopes, grouped heads, window",
            attention(sloped(form(6, 2, 24, Some(51)))),
        ),
        ("gated, relu", gated(Activation::Relu)),
        ("gated, silu", gated(Activation::Silu)),
        ("gated, gelu", gated(Activation::Gelu)),
        ("gated, gelu_tanh", gated(Activation::GeluTanh)),
        ("activation, relu", activation(Activation::Relu)),
        ("activation, silu", activation(Activation::Silu)),
        ("activation, gelu", activation(Activation::Gelu)),
        ("activation, gelu_tanh", activation(Activation::GeluTanh)),
        ("add", Call::Add { rows, width }),
        (
            "scale",
            Call::Scale {
                rows,
                width,
                factor: 0.3,
            },
        ),
        ("token_log_probs", head(width, 997, false, &few, 1.0)),
        (
            "token_log_probs, in chunks",
            head(48, 8000, false, &many, 1.0),
        ),
        (
            "token_log_probs with bias",
            head(width, 997, true, &few, 1.0),
        ),
        (
            "token_log_probs with bias, in chunks",
            head(48, 8000, true, &many, 1.0),
        ),
        (
            "token_log_probs at a temperature",
            head(width, 997, false, &few, 0.6),
        ),
        (
            "token_log_probs with bias at a temperature, in chunks",
            head(48, 8000, true, &many, 1.7),
        ),
        ("cross_entropy", Call::CrossEntropy(both)),
        (
            "cross_entropy with bias, in chunks",
            Call::CrossEntropy(both_in_chunks),
        ),
        ("logit_difference", Call::LogitDifference(both)),
        (
            "logit_difference with bias, in chunks",
            Call::LogitDifference(both_in_chunks),
        ),
    ]
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
            let found = precision.within(|| check(name, call, device, precision, &mut stream));
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
    call: &Call,
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
    call: &Call,
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
    for (((output, found), (_, wanted)), bound) in outputs.zip(Bound::of(call)) {
        let bound = slack * bound.at(precision);
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
    let wide = matches!(
        call,
        Call::TokenLogProbs { .. } | Call::CrossEntropy(_) | Call::LogitDifference(_)
    );
    if wide && !matches!(found.value.dtype(), DType::F32 | DType::F64) {
        row.verdict = Verdict::Fail;
        row.remark = format!("the value is in {}", found.value.dtype().as_str());
    }
    Ok(row)
}
