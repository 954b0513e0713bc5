//! Runs a loss on batches of plain numbers, on each backend.

use crate::backend::Backend;
use crate::backend::dual::Dual;
use crate::backend::nd::{Tape, Var};
use crate::bandit::population::linear_advantage;

use crate::error::{Error, Result};
use crate::loss::{Batch, Bound, InputKind};
use crate::random::{Purpose, Stream};

/// A loss on a batch.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The loss of each example.
    pub each: Vec<f64>,
    /// The gradient of their weighted sum, one list per leaf of [`Batch::inputs`].
    pub gradient: Vec<Vec<f64>>,
}

impl Run {
    /// Every number of it.
    pub fn numbers(&self) -> impl Iterator<Item = f64> + '_ {
        let gradient = self.gradient.iter().flatten();
        self.each.iter().chain(gradient).copied()
    }

    /// The weighted sum.
    pub fn value(&self, batch: &Batch) -> f64 {
        self.each
            .iter()
            .zip(&batch.weight)
            .map(|(v, w)| v * w)
            .sum()
    }
}

impl Run {
    /// The numbers of the first `examples` of a longer run, whose leaves were as long as `of`'s.
    pub(crate) fn numbers_of<'a>(
        &'a self,
        examples: usize,
        of: &'a Self,
    ) -> impl Iterator<Item = f64> + 'a {
        let gradient = (self.gradient.iter().zip(&of.gradient)).flat_map(|(g, o)| &g[..o.len()]);
        self.each[..examples].iter().chain(gradient).copied()
    }
}

/// One loss per example, whatever the loss returned.
fn one_each(each: &[f64], batch: &Batch) -> Result<()> {
    if each.len() == batch.len() {
        return Ok(());
    }
    Err(Error::Shape {
        operation: "a loss, which returns one number per example",
        left: each.len(),
        right: batch.len(),
    })
}

/// On arrays, with reverse mode.
pub(crate) fn reverse(loss: &Bound, batch: &Batch) -> Result<Run> {
    let tape = Tape::new();
    let (inputs, leaves) = batch.inputs(
        loss.spec().inputs,
        loss.columns()?,
        |v| Ok(tape.leaf(v.to_vec())),
        |v| Ok(tape.constant(v.to_vec())),
    )?;
    let each = loss.loss(&inputs)?;
    one_each(&each.to_vec()?, batch)?;
    let leaves: Vec<&Var> = leaves.iter().collect();
    let gradient = tape.backward(&each, &batch.weight, &leaves)?;
    Ok(Run {
        each: each.to_vec()?,
        gradient: gradient.into_iter().map(|g| g.to_vec()).collect(),
    })
}

/// On tensors, in f64 on the CPU.
#[cfg(feature = "llm")]
pub(crate) fn tensors(loss: &Bound, batch: &Batch) -> Result<Run> {
    use crate::backend::candle::{Array, backward, constant, leaf};
    use candle_core::{DType, Device};
    let (inputs, leaves) = batch.inputs(
        loss.spec().inputs,
        loss.columns()?,
        |v| leaf(v, DType::F64, &Device::Cpu),
        |v| constant(v, DType::F64, &Device::Cpu),
    )?;
    let each = loss.loss(&inputs)?;
    one_each(&each.to_vec()?, batch)?;
    let leaves: Vec<&Array> = leaves.iter().collect();
    Ok(Run {
        gradient: backward(&each, &batch.weight, &leaves)?,
        each: each.to_vec()?,
    })
}

/// The derivative of the weighted sum along a direction of the leaves, by forward mode.
pub(crate) fn forward(loss: &Bound, batch: &Batch, direction: &[Vec<f64>]) -> Result<f64> {
    let tape = Tape::new();
    let mut next = direction.iter();
    let (inputs, _) = batch.inputs(
        loss.spec().inputs,
        loss.columns()?,
        |v| {
            let still = vec![0.0; v.len()];
            let along = next.next().unwrap_or(&still).clone();
            Dual::new(tape.constant(v.to_vec()), tape.constant(along))
        },
        |v| Dual::still(tape.constant(v.to_vec())),
    )?;
    let each = loss.loss(&inputs)?;
    let tangent = each.tangent.to_vec()?;
    Ok(tangent.iter().zip(&batch.weight).map(|(t, w)| t * w).sum())
}

/// Responses of each example.
fn members(batch: &Batch, kind: InputKind) -> Vec<usize> {
    if kind.is_ragged() {
        batch.sizes.clone()
    } else {
        vec![1; batch.len()]
    }
}

/// `n` examples of random numbers in general position, with random weights.
pub(crate) fn random(kind: InputKind, n: usize, key: u64) -> Batch {
    let mut stream = Stream::new(key, Purpose::Start, 4242);
    let mut between = |low: f64, high: f64| low + (high - low) * stream.uniform();
    let mut old = Stream::new(key, Purpose::Start, 4244);
    let mut batch = Batch::default();
    for i in 0..n {
        let size = if kind.is_ragged() { 2 + i % 3 } else { 1 };
        for slot in 0..kind.slots() {
            for j in 0..size {
                let now = between(-4.0, 0.0);
                batch.log_policy[slot].push(now);
                batch.log_reference[slot].push(between(-4.0, 0.0));
                // Near ln π, so that a clipped ratio is seen on both sides of its corners.
                batch.log_old[slot].push(now + 2.0 * old.uniform() - 1.0);
                let reward = match kind {
                    InputKind::Lists => linear_advantage(j + 1, size),
                    _ => between(-2.0, 2.0),
                };
                batch.reward[slot].push(reward);
            }
        }
        batch.sizes.push(size);
        batch.baseline.push(between(0.0, 1.0));
        batch.desirable.push(between(0.0, 2.0).floor());
        batch.weight.push(between(0.1, 1.0) / n as f64);
    }
    batch
}

/// The chosen examples of a batch, in that order.
pub(crate) fn pick(batch: &Batch, kind: InputKind, examples: &[usize]) -> Batch {
    let sizes = members(batch, kind);
    let starts: Vec<usize> = (sizes.iter())
        .scan(0, |at, size| {
            *at += size;
            Some(*at - size)
        })
        .collect();
    let mut picked = Batch::default();
    for &i in examples {
        let range = starts[i]..starts[i] + sizes[i];
        for slot in 0..kind.slots() {
            let copy = |to: &mut Vec<f64>, from: &[f64]| to.extend_from_slice(&from[range.clone()]);
            copy(&mut picked.log_policy[slot], &batch.log_policy[slot]);
            copy(&mut picked.log_reference[slot], &batch.log_reference[slot]);
            copy(&mut picked.log_old[slot], &batch.log_old[slot]);
            copy(&mut picked.reward[slot], &batch.reward[slot]);
        }
        picked.sizes.push(batch.sizes[i]);
        picked.baseline.push(batch.baseline[i]);
        picked.desirable.push(batch.desirable[i]);
        picked.weight.push(batch.weight[i]);
    }
    picked
}

/// One batch after the other.
pub(crate) fn join(mut a: Batch, b: &Batch) -> Batch {
    a.append(b.clone());
    a
}

/// The first and the second response of each pair exchanged.
pub(crate) fn swapped(batch: &Batch) -> Batch {
    let mut batch = batch.clone();
    batch.log_policy.swap(0, 1);
    batch.log_reference.swap(0, 1);
    batch.log_old.swap(0, 1);
    batch.reward.swap(0, 1);
    batch
}

/// A random direction for each leaf of a run.
pub(crate) fn directions(run: &Run, key: u64) -> Vec<Vec<f64>> {
    let mut stream = Stream::new(key, Purpose::Start, 4243);
    let mut row = |len| (0..len).map(|_| 2.0 * stream.uniform() - 1.0).collect();
    run.gradient.iter().map(|g| row(g.len())).collect()
}

/// The largest difference of two lists, relative to the larger of 1 and what they hold. Infinities
/// of one sign agree; NaN does with nothing.
pub(crate) fn apart(a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) -> f64 {
    let mut worst = 0.0f64;
    for (a, b) in a.zip(b) {
        if a == b {
            continue;
        }
        let gap = (a - b).abs() / a.abs().max(b.abs()).max(1.0);
        // Not f64::max, which would hide a NaN.
        worst = if gap <= worst { worst } else { gap };
    }
    worst
}
