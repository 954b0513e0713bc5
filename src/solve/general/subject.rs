//! A loss looked at from outside: what decides how its limits are sought.

use super::engine::{Run, apart, directions, random, reverse, swapped};
use super::groups;
use crate::error::Result;
use crate::loss::{Batch, Bound, Given, InputKind, Kind, Objective, Spec, Value};

/// Batches tried.
pub(crate) const TRIES: u64 = 6;
/// Rounding allowed between two ways to compute the same number.
pub(crate) const ROUNDING: f64 = 1e-12;
/// Error allowed in a difference quotient.
pub(crate) const QUOTIENT: f64 = 1e-6;
/// Examples of a batch on which the order of a pair is tried.
const EXAMPLES: usize = 18;

/// A loss that is looked at from outside, and numbers of it.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub objective: Objective,
    pub numbers: Given,
}

impl Candidate {
    pub fn spec(&self) -> Spec {
        self.objective.spec()
    }

    pub fn inputs(&self) -> InputKind {
        self.spec().inputs
    }

    pub fn kind(&self) -> Kind {
        self.spec().kind
    }

    /// The loss with numbers in place of those of the same names. What must be given and is not is an example.
    pub fn at(&self, numbers: &Given) -> Result<Bound> {
        let given = self.numbers.clone().over(numbers);
        self.objective.bind(&self.objective.with_examples(given))
    }
}

/// A loss, and what was found of it that decides how its limits are sought.
pub(crate) struct Subject {
    pub loss: Candidate,
    /// A field if its gradient turned out not to be the slope of its value; kinked if that jumps.
    pub kind: Kind,
    /// Whether it depends on the order of scored pairs, so that both are fed.
    pub both_orders: bool,
    /// Sizes of groups that have rows of their own.
    pub sizes: Vec<usize>,
    /// The size of groups everywhere else.
    pub size: usize,
}

impl Subject {
    /// What decides, from the largest jump of its slope.
    pub fn new(loss: &Candidate, jump: f64) -> Result<Self> {
        let kind = match loss.kind() {
            Kind::Smooth | Kind::Kinked if hides_a_detach(loss)? => Kind::Field,
            Kind::Smooth | Kind::Kinked if jump > 0.0 => Kind::Kinked,
            Kind::Smooth | Kind::Kinked => Kind::Smooth,
            kind => kind,
        };
        let pairs = loss.inputs() == InputKind::ScoredPairs;
        let sizes = if groups::sizes_agree(loss)? {
            vec![groups::SIZES[0]]
        } else {
            groups::SIZES.to_vec()
        };
        Ok(Self {
            loss: loss.clone(),
            kind,
            both_orders: pairs && order_of_a_pair_matters(loss)?,
            size: sizes[sizes.len() - 1],
            sizes,
        })
    }
}

/// Temperatures and margins of the random batches.
pub(crate) fn parameters(key: u64) -> Given {
    Given::from([0.5, 0.1, 2.0][key as usize % 3]).with("margin", 2.5)
}

/// Whether the gradient is not that of the value.
pub(crate) fn hides_a_detach(loss: &Candidate) -> Result<bool> {
    for key in 0..TRIES {
        let batch = random(loss.inputs(), 24, key);
        let run = reverse(&loss.at(&parameters(key))?, &batch)?;
        let error = slope_error(loss, &batch, &run, key)?;
        if error > QUOTIENT || error.is_nan() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The slope along a direction, from the gradient.
pub(crate) fn dot(run: &Run, along: &[Vec<f64>]) -> f64 {
    let pairs = run.gradient.iter().flatten().zip(along.iter().flatten());
    pairs.map(|(g, d)| g * d).sum()
}

/// The relative error of the gradient along a random direction against central differences of the
/// loss. A kink within the smallest of the steps is all that could disturb every one of them.
pub(crate) fn slope_error(loss: &Candidate, batch: &Batch, run: &Run, key: u64) -> Result<f64> {
    let mut along = directions(run, 100 + key);
    // What a prompt is held against is a given number, unless the loss trains it.
    let trains_value = matches!(loss.spec().value, Some(Value::Own | Value::Constant));
    let trained = loss.inputs().slots() + usize::from(trains_value);
    (along.iter_mut().skip(trained)).for_each(|d| d.iter_mut().for_each(|d| *d = 0.0));
    let wanted = dot(run, &along);
    let at = |h: f64| -> Result<f64> {
        let mut moved = batch.clone();
        let shift = |to: &mut [f64], by: &[f64]| {
            to.iter_mut().zip(by).for_each(|(t, d)| *t += h * d);
        };
        for (to, by) in moved
            .log_policy
            .iter_mut()
            .zip(&along)
            .take(loss.inputs().slots())
        {
            shift(to, by);
        }
        if let (true, Some(of_value)) = (trains_value, along.get(loss.inputs().slots())) {
            shift(&mut moved.baseline, of_value);
        }
        Ok(reverse(&loss.at(&parameters(key))?, &moved)?.value(&moved))
    };
    let mut best = f64::INFINITY;
    for h in [1e-3, 1e-4, 1e-5, 1e-6] {
        let quotient = (at(h)? - at(-h)?) / (2.0 * h);
        best = best.min((quotient - wanted).abs() / (1.0 + wanted.abs()));
    }
    Ok(best)
}

/// Whether the order of scored pairs matters.
pub(crate) fn order_of_a_pair_matters(loss: &Candidate) -> Result<bool> {
    let gap = asymmetry(loss)?;
    Ok(gap > ROUNDING || gap.is_nan())
}

/// How far a loss and its gradients change when the responses of scored pairs change places.
pub(crate) fn asymmetry(loss: &Candidate) -> Result<f64> {
    let batch = random(loss.inputs(), EXAMPLES, 33);
    let run = reverse(&loss.at(&parameters(0))?, &batch)?;
    let mut turned = reverse(&loss.at(&parameters(0))?, &swapped(&batch))?;
    if loss.inputs().slots() == 2 {
        turned.gradient.swap(0, 1);
    }
    Ok(apart(run.numbers(), turned.numbers()))
}
