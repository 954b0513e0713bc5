//! A training step stage by stage, each against its floor.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use indicatif::ProgressBar;

use super::Section;
use super::call::Place;
use super::ceilings::Ceilings;
use super::cost::Cost;
use super::machine;
use super::model::{batch, dpo, rotary, step};
use super::precision::Precision;
use super::report::{Part, Quantity, Row, Unit, three};
use super::shapes::{self, Stage};
use super::timing::{Effort, Pool, Timed, seconds};
use crate::error::{Error, Result};
use crate::llm::architecture::{Architecture, Norm};
use crate::llm::batch::TextBatch;
use crate::llm::decoder::Decoder;
use crate::llm::network::{Network, Output};
use crate::llm::ops::Activation;
use crate::llm::optimizer::{AdamW, Config, clip, gradient_norm};
use crate::llm::sequence::{Predictions, Sequence};
use crate::llm::tape::{LeafGradients, Node, Tape};
use crate::random::{Purpose, Stream};

/// A Llama and a batch.
struct Size {
    name: &'static str,
    architecture: Architecture,
    sequences: usize,
    tokens: usize,
}

impl Size {
    /// One that suits the device.
    fn of(device: &Device, quick: bool) -> Self {
        let (
            name,
            [
                vocabulary,
                width,
                layers,
                heads,
                kv_heads,
                head_dim,
                intermediate,
            ],
        ) = match (device.is_cpu(), quick) {
            (true, true) => ("3M", [4000, 192, 4, 6, 2, 32, 512]),
            (true, false) => ("25M", [16_000, 384, 8, 6, 2, 64, 1024]),
            (false, true) => ("125M", [32_000, 768, 12, 12, 12, 64, 2048]),
            (false, false) => ("1B", [32_000, 2048, 22, 32, 4, 64, 5632]),
        };
        let (sequences, tokens) = match (device.is_cpu(), quick) {
            (true, true) => (8, 64),
            (true, false) => (8, 128),
            (false, true) => (8, 1024),
            (false, false) => (8, 2048),
        };
        let architecture = Architecture {
            vocabulary,
            width,
            layers,
            heads,
            kv_heads,
            head_dim,
            intermediate,
            context: tokens,
            norm: Norm::Rms { offset: 0.0 },
            epsilon: 1e-5,
            activation: Activation::Silu,
            gated: true,
            positions: rotary(head_dim),
            window: None,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            embedding_scale: 1.0,
            tied: false,
        };
        Self {
            name,
            architecture,
            sequences,
            tokens,
        }
    }

    /// Pairs for DPO, a quarter of each sequence its prompt.
    fn text(&self, seed: u64) -> Result<TextBatch> {
        let mut stream = Stream::new(seed, Purpose::Doctor, 1 << 36);
        let vocabulary = self.architecture.vocabulary;
        let sequences = (0..self.sequences)
            .map(|_| {
                let tokens = (0..self.tokens).map(|_| stream.below(vocabulary as u32));
                Sequence::new(tokens.collect(), self.tokens / 4)
            })
            .collect::<Result<_>>()?;
        Ok(batch(sequences, vocabulary, &mut stream))
    }
}

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
    bar: &ProgressBar,
) -> Part {
    let size = Size::of(device, quick);
    let place = Place {
        dtype: precision.dtype(),
        device: device.clone(),
    };
    let rows = precision
        .within(|| measure(&size, &place, precision, ceilings, quick, seed, bar))
        .unwrap_or_else(|error| vec![Row::failed("the step", &error)]);
    let of = format!(
        "DPO in {}, Llama of {} parameters, {} sequences of {} tokens",
        precision.name(),
        size.name,
        size.sequences,
        size.tokens
    );
    Part::new(Section::Step, of, rows)
}

fn measure(
    size: &Size,
    place: &Place,
    precision: Precision,
    ceilings: &Ceilings,
    quick: bool,
    seed: u64,
    bar: &ProgressBar,
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
    let calls = shapes::calls(&size.architecture, &predictions);
    bar.set_length(calls.len() as u64 + 2);
    let bytes = place.dtype.size_in_bytes() as f64;
    let mut pool = Pool::new(seed);
    let cache = match place.device.is_cpu() {
        true => 4 * machine::last_cache(),
        false => 1 << 28,
    };
    // Per stage: seconds and floors, forward and backward.
    let mut stages = Stage::ALL.map(|stage| (stage, [0.0; 2], [0.0; 2]));
    let mut products = 0.0;
    for times in &calls {
        bar.set_message(times.stage.name());
        let timed = Timed::new(&times.call, &mut pool, place, cache)?;
        let medians = effort.medians(|round| timed.round(round))?;
        let costs = Cost::of(&times.call).map(|cost| cost.times(times.count));
        products += costs.iter().map(|c| c.flops).sum::<f64>();
        for (stage, seconds, floors) in &mut stages {
            if *stage == times.stage {
                for pass in 0..2 {
                    seconds[pass] += medians[pass] * times.count as f64;
                    floors[pass] += costs[pass].floor(bytes, flops, bandwidth);
                }
            }
        }
        bar.inc(1);
    }
    bar.set_message("loss");
    let host = loss(&text, &predictions, place, effort)?;
    bar.inc(1);
    bar.set_message("whole step");
    let model = random(&size.architecture, &mut pool, place)?;
    let count: usize = (model.parameters().iter())
        .map(|p| p.tensor.elem_count())
        .sum();
    let effort = Effort {
        seconds: if quick { 0.5 } else { 4.0 },
        most: 20,
        least: if quick { 1 } else { 3 },
    };
    let [pass, norm, update, whole] = steps(&model, &text, effort)?;
    bar.inc(1);
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
    for (name, seconds, bytes) in [("gradient norm", norm, bytes), ("AdamW", update, updated)] {
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
            .detail("forward_and_backward", pass)
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
            .remark(format!("{share:.1} % of the ceiling"))
            .detail("flops_per_step", products)
            .detail("share", achieved / flops),
    );
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

/// Median seconds of forward and backward, of the gradient's norm, of AdamW, and of all three.
fn steps(model: &Decoder, text: &TextBatch, effort: Effort) -> Result<[f64; 4]> {
    let device = model.parameters().device();
    let mut optimizer = AdamW::new(model.parameters(), Config::default())?;
    let mut gradients = LeafGradients::new(model.leaves());
    effort.medians(|_| {
        device.synchronize()?;
        let begin = Instant::now();
        let (pass, outcome) = seconds(device, || {
            let none = &mut LeafGradients::new(0);
            step(model).run(text, dpo, &mut gradients, none)
        })?;
        let (norm_seconds, norm) =
            seconds(device, || gradient_norm(model.parameters(), &gradients))?;
        let scale = clip(norm, 1.0);
        let (update, ()) = seconds(device, || {
            optimizer.step(model.parameters(), &gradients, 1e-5, scale)
        })?;
        gradients.clear();
        if !outcome.loss.is_finite() {
            let message = format!("the loss is {}", outcome.loss);
            let backend = "step";
            return Err(Error::Backend { backend, message });
        }
        Ok([pass, norm_seconds, update, begin.elapsed().as_secs_f64()])
    })
}

/// Seconds of all that happens on the host between forward and backward, and of the way there and
/// back: a step of a network that costs nothing.
fn loss(text: &TextBatch, predictions: &Predictions, place: &Place, effort: Effort) -> Result<f64> {
    let dtype = match place.dtype {
        DType::BF16 => DType::F32,
        other => other,
    };
    let pieces = vec![-1f64; predictions.targets.len()];
    let pieces = Tensor::from_vec(pieces, predictions.targets.len(), &Device::Cpu)?;
    let fixed = Fixed {
        pieces: pieces.to_dtype(dtype)?.to_device(&place.device)?,
    };
    let [median] = effort.medians(|_| {
        let none = [(); 2].map(|()| LeafGradients::new(0));
        let [mut policy, mut value] = none;
        let run = || step(&fixed).run(text, dpo, &mut policy, &mut value);
        Ok([seconds(&place.device, run)?.0])
    })?;
    Ok(median)
}

/// A network that knows its numbers.
struct Fixed {
    pieces: Tensor,
}

impl Network for Fixed {
    fn leaves(&self) -> usize {
        0
    }

    fn forward<'a>(&'a self, _: &Tape<'a>, sequences: &[&Sequence]) -> Result<Output> {
        Ok(Output {
            pieces: Node::constant(self.pieces.clone()),
            starts: Predictions::new(sequences).starts,
            values: None,
        })
    }
}

/// Random weights, quickly.
fn random(a: &Architecture, pool: &mut Pool, place: &Place) -> Result<Decoder> {
    let host = Place {
        dtype: DType::F32,
        device: Device::Cpu,
    };
    let mut source = |_: &str, shape: &[usize]| match *shape {
        [_] => Ok((pool.tensor(shape, 0.1, &host)? + 1.0)?),
        [.., inner] => pool.tensor(shape, (inner as f64).sqrt().recip(), &host),
        [] => pool.tensor(shape, 1.0, &host),
    };
    Decoder::new(a.clone(), place.dtype, &place.device, &mut source)
}
