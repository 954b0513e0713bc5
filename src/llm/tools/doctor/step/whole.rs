//! A whole step: its time, and its memory beside what was predicted.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::size::Size;
use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::network::{Network, Output};
use crate::llm::model::sequence::{Predictions, Sequence};
use crate::llm::tensor::device;
use crate::llm::tensor::memory;
use crate::llm::tensor::optimizer::{AdamW, Config, clip, gradient_norm};
use crate::llm::tensor::tape::{LeafGradients, Node, Tape};
use crate::llm::text::batch::TextBatch;
use crate::llm::tools::doctor::model::{dpo, step};
use crate::llm::tools::doctor::place::Place;
use crate::llm::tools::doctor::timing::{Effort, Pool, seconds};
use crate::llm::tools::plan::{self, Machine, Phase};
use crate::llm::train::Precision;

/// Times and memory of whole training steps.
pub struct Whole {
    /// Median seconds of forward and backward with the loss between them.
    pub pass: f64,
    /// Median seconds of the gradient's norm.
    pub norm: f64,
    /// Median seconds of AdamW.
    pub update: f64,
    /// Median seconds of all three.
    pub all: f64,
    /// Parameters of the model.
    pub parameters: usize,
    /// Most bytes at once, after the first step; none if nobody counts.
    pub bytes: Option<u64>,
}

/// Steps of a model with random weights.
///
/// # Errors
/// A failing device, or a loss that is not finite.
pub fn steps(
    size: &Size,
    text: &TextBatch,
    pool: &mut Pool,
    place: &Place,
    effort: Effort,
) -> Result<Whole> {
    let device = &place.device;
    let before = held(device)?.map(|(now, _)| now);
    let model = random(size, pool, place)?;
    let mut optimizer = AdamW::new(model.parameters(), Config::default())?;
    let mut gradients = LeafGradients::new(model.leaves());
    let medians = effort.medians(|round| {
        if round == 1 {
            // Now there are moments too.
            reset(device)?;
        }
        device.synchronize()?;
        let begin = Instant::now();
        let (pass, outcome) = seconds(device, || {
            let none = &mut LeafGradients::new(0);
            step(&model).run(text, dpo, &mut gradients, none)
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
    })?;
    let [pass, norm, update, all] = medians;
    let after = held(device)?.map(|(_, peak)| peak);
    let elements = model.parameters().iter().map(|p| p.tensor.elem_count());
    Ok(Whole {
        pass,
        norm,
        update,
        all,
        parameters: elements.sum(),
        bytes: after
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before)),
    })
}

/// Bytes of tensors now, and most of them at once.
fn held(device: &Device) -> Result<Option<(u64, u64)>> {
    Ok(if device.is_cpu() {
        memory::peak().map(|peak| (memory::live(), peak))
    } else {
        device::memory_used(device)?.map(|used| (used.now, used.peak))
    })
}

fn reset(device: &Device) -> Result<()> {
    if device.is_cpu() {
        memory::reset_peak()
    } else {
        device::reset_peak(device)?
    }
    Ok(())
}

/// The most bytes of a step as `pistar plan` predicts them.
///
/// # Errors
/// Those of the prediction.
pub fn predicted(size: &Size, place: &Place) -> Result<u64> {
    let run = plan::Run {
        members: 1,
        goes_on: false,
        config: size.config.clone(),
        role: plan::Role::Policy,
        value: None,
        reference: plan::Reference::None,
        precision: match place.dtype {
            DType::BF16 => Precision::Bf16,
            DType::F64 => Precision::F64,
            _ => Precision::F32,
        },
        adapter: None,
        recompute: false,
        in_backward: false,
        micro_batch: usize::MAX,
        one_step: false,
        draws: Vec::new(),
        evaluates_kl: false,
        machine: Machine::new(place.device.is_cpu()),
    };
    let outcome = run.take(&[size.piece()], &[])?;
    let phases = [Phase::Forward, Phase::Backward, Phase::Optimiser];
    let most = (phases.iter()).filter_map(|phase| Some(outcome.phases.get(phase)?.bytes));
    Ok(most.max().unwrap_or(0))
}

/// Seconds of all that happens on the host between forward and backward, and of the way there and
/// back: a step of a network that costs nothing.
///
/// # Errors
/// A failing device.
pub fn loss(text: &TextBatch, predicted: usize, place: &Place, effort: Effort) -> Result<f64> {
    let dtype = match place.dtype {
        DType::BF16 => DType::F32,
        other => other,
    };
    let pieces = Tensor::from_vec(vec![-1f64; predicted], predicted, &Device::Cpu)?;
    let fixed = Fixed {
        pieces: pieces.to_dtype(dtype)?.to_device(&place.device)?,
    };
    let [median] = effort.medians(|_| {
        let [mut policy, mut value] = [(); 2].map(|()| LeafGradients::new(0));
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
fn random(size: &Size, pool: &mut Pool, place: &Place) -> Result<Decoder> {
    let host = Place {
        dtype: DType::F32,
        device: Device::Cpu,
    };
    let graph = size.config.graph.clone();
    Decoder::build(graph, true, place.dtype, &place.device, &mut |weight| {
        let shape = &weight.shape;
        match *shape.as_slice() {
            [_] => Ok((pool.tensor(shape, 0.1, &host)? + 1.0)?),
            [.., inner] => pool.tensor(shape, (inner as f64).sqrt().recip(), &host),
            [] => pool.tensor(shape, 1.0, &host),
        }
    })
}
