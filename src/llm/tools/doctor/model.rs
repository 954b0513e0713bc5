//! Whole models against f64: log-probabilities, every parameter's gradient, steps of AdamW.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::evaluate::{distance, normal, numbers};
use super::place::Place;
use super::precision::Precision;
use super::report::{Part, Row, Verdict};
use super::{Section, shapes};
use crate::error::Result;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::families::Family;
use crate::llm::model::graph::{Declared, Graph, Purpose as Role, Sizes};
use crate::llm::model::network::{Network, Reduction};
use crate::llm::model::sequence::{Predictions, Sequence};
use crate::llm::tensor::ops::Bound;
use crate::llm::tensor::optimizer::{AdamW, Config};
use crate::llm::tensor::tape::{LeafGradients, Tape};
use crate::llm::text::batch::TextBatch;
use crate::llm::train::step::{Outcome, Step};
use crate::loss::{Batch, Cotangents, InputKind, Objective};
use crate::observer::Observer;
use crate::random::{Purpose, Stream};

const BETA: f64 = 0.1;
const LR: f64 = 1e-3;
const STEPS: usize = 5;

/// The rows of a small model of each family in every precision.
pub fn parts(
    device: &Device,
    precisions: &[Precision],
    seed: u64,
    observer: &dyn Observer,
) -> Vec<Part> {
    let work = observer.begin("", (precisions.len() * Family::ALL.len()) as u64);
    let mut parts = Vec::new();
    for &precision in precisions {
        for family in Family::ALL {
            let name = format!("{family} in {}", precision.name());
            work.note(format_args!("{name}"));
            let found = precision.within(|| {
                let trial = Trial::new(family.sample()?.graph, precision.dtype(), seed)?;
                trial.rows(device, precision)
            });
            let rows = found.unwrap_or_else(|error| vec![Row::failed("the model", &error)]);
            parts.push(Part::new(Section::Model, name, rows));
            work.advance(1);
        }
    }
    parts
}

/// The gradient that softmax does not let through: it does not change when all scores of a query
/// do. Rotary embedding turns a key's bias differently at each position.
fn vanishes(model: &Decoder, name: &str) -> bool {
    model.graph().rotations.is_empty() && name.ends_with("k_proj.bias")
}

/// A model and a batch of pairs.
struct Trial {
    graph: Arc<Graph>,
    /// In f64 on the CPU; every number is one of the precision's.
    weights: HashMap<String, Tensor>,
    text: TextBatch,
    seed: u64,
}

/// What a batch gave.
struct Pass {
    outcome: Outcome,
    gradients: LeafGradients,
}

impl Pass {
    fn log_probs(&self) -> Vec<f64> {
        self.outcome.batch.log_policy.concat()
    }
}

impl Trial {
    fn new(graph: Arc<Graph>, dtype: DType, seed: u64) -> Result<Self> {
        let mut stream = Stream::new(seed, Purpose::Doctor, 1 << 33);
        let mut weights = HashMap::new();
        let width = graph.sizes.width as f64;
        let mut source = |weight: &Declared| -> Result<Tensor> {
            let shape = &weight.shape;
            let tensor = match weight.purpose {
                Role::Bias | Role::Shift => normal(&mut stream, shape, 0.1)?,
                Role::Scale { .. } => (normal(&mut stream, shape, 0.1)? + 1.0)?,
                _ => normal(&mut stream, shape, width.sqrt().recip())?,
            };
            let rounded = tensor.to_dtype(dtype)?.to_dtype(DType::F64)?;
            weights.insert(weight.name.clone(), rounded.clone());
            Ok(rounded)
        };
        Decoder::build(graph.clone(), true, DType::F64, &Device::Cpu, &mut source)?;
        Ok(Self {
            text: pairs(graph.sizes, 4, seed)?,
            graph,
            weights,
            seed,
        })
    }

    fn model(&self, place: &Place) -> Result<Decoder> {
        let graph = self.graph.clone();
        Decoder::build(graph, true, place.dtype, &place.device, &mut |weight| {
            self.weights.get(&weight.name).cloned().ok_or_else(|| {
                let remedy = "the model asks for other weights the second time";
                crate::Error::invalid(&weight.name, "it was not drawn", remedy)
            })
        })
    }

    fn pass(&self, model: &Decoder) -> Result<Pass> {
        let mut gradients = LeafGradients::new(model.leaves());
        let step = step(model);
        let none = &mut LeafGradients::new(0);
        let outcome = step.run(&self.text, dpo, &mut gradients, none)?;
        Ok(Pass { outcome, gradients })
    }

    fn rows(&self, device: &Device, precision: Precision) -> Result<Vec<Row>> {
        let reference = self.model(&Place::reference())?;
        let wanted = self.pass(&reference)?;
        let place = Place {
            dtype: precision.dtype(),
            device: device.clone(),
        };
        let mut model = self.model(&place)?;
        let found = self.pass(&model)?;
        let mut rows = Vec::new();
        let [value, gradient] = self.bounds(precision);
        if device.is_cpu() && precision == Precision::F64 {
            rows.push(self.differences(&model, &found)?);
        } else {
            let error = distance(&found.log_probs(), &wanted.log_probs());
            rows.push(Row::error("log-probabilities", error, value));
            rows.push(compare(&model, &found, &wanted, gradient)?);
        }
        rows.push(reached(&model, &found)?);
        model.set_recompute(true);
        rows.push(self.recomputed(&model, &found)?);
        model.set_recompute(false);
        if !(device.is_cpu() && precision == Precision::F64) {
            let name = format!("{STEPS} steps of AdamW");
            rows.push(
                self.trace(&name, &model, &reference, [value, gradient])
                    .unwrap_or_else(|error| Row::failed(name, &error)),
            );
        }
        Ok(rows)
    }

    /// Bounds of the log-probabilities and of gradients.
    fn bounds(&self, precision: Precision) -> [f64; 2] {
        let sequences: Vec<&Sequence> = self.text.sequences.iter().collect();
        let calls = shapes::calls(&self.graph, &Predictions::new(&sequences));
        let (mut values, mut all) = (Vec::new(), Vec::new());
        for times in &calls {
            let bounds: Vec<f64> = (times.call.bounds().iter())
                .map(|b| b.at(precision.units()))
                .collect();
            let back = bounds[1..].iter().copied().fold(0.0, f64::max);
            values.extend(std::iter::repeat_n(bounds[0], times.count));
            all.extend(std::iter::repeat_n(back, times.count));
        }
        all.extend(&values);
        [values, all].map(Bound::together)
    }

    /// Central differences of the loss along each parameter's gradient and a random direction.
    fn differences(&self, model: &Decoder, found: &Pass) -> Result<Row> {
        // Half of u's digits: truncation h² and rounding u/h are both of the order of h².
        let h = Precision::F64.units().stored.cbrt();
        let mut stream = Stream::new(self.seed, Purpose::Doctor, 1 << 34);
        let mut worst = (0.0, String::new());
        for (index, parameter) in model.parameters().iter().enumerate() {
            let Some(gradient) = found.gradients.get(index) else {
                continue;
            };
            if vanishes(model, &parameter.name) {
                continue;
            }
            let size = gradient.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>()?;
            let random = normal(&mut stream, gradient.dims(), 1.0)?;
            let length = random.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>()?;
            let direction = ((gradient / size)? + (random / length)?)?;
            let slope = (gradient * &direction)?.sum_all()?.to_scalar::<f64>()?;
            let loss = |step: f64| -> Result<f64> {
                let mut moved = self.model(&Place::reference())?;
                let there = (&parameter.tensor + (&direction * step)?)?;
                moved.parameters_mut().set(&parameter.name, &there)?;
                Ok(self::step(&moved).evaluate(&self.text, dpo)?.loss)
            };
            let error = ((loss(h)? - loss(-h)?) / (2.0 * h) - slope).abs() / size;
            if error > worst.0 || error.is_nan() {
                worst = (error, parameter.name.clone());
            }
        }
        let row = Row::error("gradients, differences", worst.0, h);
        Ok(row.remark(short(&worst.1)))
    }

    /// Whether running blocks again in the backward changes a bit.
    fn recomputed(&self, model: &Decoder, found: &Pass) -> Result<Row> {
        let again = self.pass(model)?;
        let same = |other: &Pass| -> Result<bool> {
            for index in 0..model.leaves() {
                let pair = (found.gradients.get(index), other.gradients.get(index));
                if let (Some(a), Some(b)) = pair
                    && numbers(a)? != numbers(b)?
                {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let same = same(&again)?;
        let says = if same { "same bits" } else { "other bits" };
        let mut row = Row::says("recomputation", says);
        row.verdict = match (same, model.parameters().device().is_cpu()) {
            (true, _) => Verdict::Ok,
            (false, true) => Verdict::Fail,
            (false, false) => Verdict::Note,
        };
        Ok(row.detail("same_bits", same))
    }

    /// Losses of a few steps of AdamW. What a loss may differ by is what its log-probabilities may,
    /// once through the operations and once through the weights, which are rounded after each
    /// step, plus the gradient's error times the way that the loss has gone.
    fn trace(
        &self,
        name: &str,
        model: &Decoder,
        reference: &Decoder,
        [value, gradient]: [f64; 2],
    ) -> Result<Row> {
        let losses = |model: &Decoder| -> Result<Vec<f64>> {
            let mut optimizer = AdamW::new(model.parameters(), Config::default())?;
            let mut losses = Vec::new();
            for _ in 0..STEPS {
                let Pass { outcome, gradients } = self.pass(model)?;
                losses.push(outcome.loss);
                optimizer.step(model.parameters(), &gradients, LR, 1.0)?;
            }
            losses.push(step(model).evaluate(&self.text, dpo)?.loss);
            Ok(losses)
        };
        let size = self.size(reference)?;
        let (wanted, found) = (losses(reference)?, losses(model)?);
        let way: f64 = wanted.windows(2).map(|w| (w[1] - w[0]).abs()).sum();
        let bound = 2.0 * value * size + gradient * way;
        let error = (wanted.iter().zip(&found))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, |m: f64, x| if x.is_nan() { x } else { m.max(x) });
        let row = Row::error(name, error, bound);
        let went = format!("loss {:.3} to {:.3}", wanted[0], wanted[STEPS]);
        Ok(row
            .remark(went)
            .detail("losses", json!({"f64": wanted, "found": found})))
    }

    /// What a relative error of 1 in every token's log-probability comes to in the loss, whose
    /// slope is at most β: of independent errors `β √Σ weight² Σ (ln π)²`, with `ln π` over all
    /// tokens of a pair.
    fn size(&self, model: &Decoder) -> Result<f64> {
        let sequences: Vec<&Sequence> = self.text.sequences.iter().collect();
        let output = model.forward(&Tape::idle(), &sequences)?;
        let tokens = numbers(output.pieces.value())?;
        let mut squares = 0.0;
        for place in &self.text.slots {
            for (&sequence, weight) in place.iter().zip(&self.text.weight) {
                let at = sequence as usize;
                let own = &tokens[output.starts[at]..output.starts[at + 1]];
                squares += weight * weight * own.iter().map(|x| x * x).sum::<f64>();
            }
        }
        Ok(BETA * squares.sqrt())
    }
}

/// The worst parameter's gradient.
fn compare(model: &Decoder, found: &Pass, wanted: &Pass, bound: f64) -> Result<Row> {
    let mut worst = (0.0, String::new());
    let mut all = serde_json::Map::new();
    for (index, parameter) in model.parameters().iter().enumerate() {
        if vanishes(model, &parameter.name) {
            continue;
        }
        let pair = (found.gradients.get(index), wanted.gradients.get(index));
        let error = match pair {
            (Some(found), Some(wanted)) => distance(&numbers(found)?, &numbers(wanted)?),
            _ => f64::NAN,
        };
        all.insert(parameter.name.clone(), error.into());
        if error.is_nan() || error > worst.0 {
            worst = (error, parameter.name.clone());
        }
        if error.is_nan() {
            break;
        }
    }
    let row = Row::error("gradients", worst.0, bound);
    Ok(row.remark(short(&worst.1)).detail("parameters", all))
}

/// A parameter's name without what all begin with.
fn short(name: &str) -> &str {
    name.strip_prefix("model.").unwrap_or(name)
}

/// How many parameters have a gradient that is finite and not zero.
fn reached(model: &Decoder, found: &Pass) -> Result<Row> {
    let (mut reached, mut expected, mut missing) = (0, 0, Vec::new());
    for (index, parameter) in model.parameters().iter().enumerate() {
        if vanishes(model, &parameter.name) {
            continue;
        }
        expected += 1;
        let norm = match found.gradients.get(index) {
            Some(gradient) => numbers(gradient)?.iter().map(|x| x * x).sum::<f64>(),
            None => 0.0,
        };
        if norm.is_finite() && norm > 0.0 {
            reached += 1
        } else {
            missing.push(parameter.name.as_str())
        }
    }
    let row = Row::count("parameters reached", reached, expected);
    Ok(row.remark(missing.join(", ")))
}

/// DPO.
pub(super) fn dpo(batch: &Batch) -> Result<Cotangents> {
    Objective::DPO.bind(&BETA.into())?.on_tape(batch)
}

/// A whole batch of pairs at once.
pub(super) fn step(policy: &dyn Network) -> Step<'_> {
    Step {
        kind: InputKind::LabelledPairs,
        policy,
        value: None,
        reduction: Reduction::Sum,
        micro_batch: usize::MAX,
    }
}

/// Random pairs of ragged sequences, one of them as short as can be; half of them chosen. The
/// reference is a model of the size of ours.
fn pairs(a: Sizes, count: usize, seed: u64) -> Result<TextBatch> {
    let mut stream = Stream::new(seed, Purpose::Doctor, 1 << 35);
    let mut sequences = Vec::new();
    for index in 0..2 * count {
        let most = (a.context / 2) as u32;
        let [prompt, completion] = match index {
            0 => [1, 1],
            _ => [(); 2].map(|()| 1 + stream.below(most - 1) as usize),
        };
        let tokens = (0..prompt + completion).map(|_| stream.below(a.vocabulary as u32));
        sequences.push(Sequence::new(tokens.collect(), prompt)?);
    }
    Ok(batch(sequences, a.vocabulary, &mut stream))
}

/// The first half of the sequences is chosen, the second rejected.
pub(super) fn batch(sequences: Vec<Sequence>, vocabulary: usize, stream: &mut Stream) -> TextBatch {
    let count = sequences.len() as u32 / 2;
    let each = (vocabulary as f64).ln();
    TextBatch {
        log_reference: (sequences.iter())
            .map(|s| s.completion().len() as f64 * (-each - stream.uniform()))
            .collect(),
        sequences,
        slots: [(0..count).collect(), (count..2 * count).collect()],
        reward: [(); 2].map(|()| vec![0.0; count as usize]),
        held: vec![0.0; count as usize],
        weight: vec![1.0 / f64::from(count); count as usize],
        ..TextBatch::default()
    }
}
