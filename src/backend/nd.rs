//! The reference backend: ndarray, f64, reverse-mode gradients on a tape.
//!
//! Cost of a backward pass: a small constant times the forward pass, whatever the number of arms.

use std::cell::RefCell;
use std::rc::Rc;

use ndarray::{Array1, Zip};

use super::{Backend, Segments, same_length, within};
use crate::error::Result;

/// How a node was made from earlier ones.
enum Op {
    Leaf,
    Constant,
    Add(usize, usize),
    Sub(usize, usize),
    Mul(usize, usize),
    Div(usize, usize),
    Max(usize, usize),
    Affine(usize, f64),
    Softplus(usize),
    Exp(usize),
    Ln(usize),
    Sqrt(usize),
    Sigmoid(usize),
    Relu(usize),
    SegmentSum(usize, Rc<Segments>),
    Spread(usize, Rc<Segments>),
    Select(usize, Rc<[u32]>),
}

struct Node {
    op: Op,
    value: Array1<f64>,
    /// Whether a leaf lies below; nodes without one are skipped in the backward pass.
    active: bool,
}

/// A recording of operations, in the order they were made.
#[derive(Clone, Default)]
pub struct Tape(Rc<RefCell<Vec<Node>>>);

/// An array on a [`Tape`].
#[derive(Clone)]
pub struct Var {
    tape: Tape,
    id: usize,
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&self, op: Op, value: Array1<f64>, active: bool) -> Var {
        let mut nodes = self.0.borrow_mut();
        nodes.push(Node { op, value, active });
        Var {
            tape: self.clone(),
            id: nodes.len() - 1,
        }
    }

    /// A variable: gradients are taken with respect to it.
    pub fn leaf(&self, values: impl Into<Array1<f64>>) -> Var {
        self.push(Op::Leaf, values.into(), true)
    }

    /// A constant.
    pub fn constant(&self, values: impl Into<Array1<f64>>) -> Var {
        self.push(Op::Constant, values.into(), false)
    }

    /// The number of recorded arrays, to [`rewind`](Self::rewind) to.
    pub fn mark(&self) -> usize {
        self.0.borrow().len()
    }

    /// Forgets everything recorded after `mark`. Variables made since must not be used again.
    pub fn rewind(&self, mark: usize) {
        self.0.borrow_mut().truncate(mark);
    }

    /// The gradients of `Σᵢ weights[i] · output[i]` with respect to each of `leaves`.
    ///
    /// # Errors
    /// If `weights` is not as long as `output`.
    pub fn backward(
        &self,
        output: &Var,
        weights: &[f64],
        leaves: &[&Var],
    ) -> Result<Vec<Array1<f64>>> {
        let nodes = self.0.borrow();
        same_length("backward", nodes[output.id].value.len(), weights.len())?;
        let mut cotangent: Vec<Option<Array1<f64>>> = Vec::with_capacity(output.id + 1);
        cotangent.resize_with(output.id + 1, || None);
        cotangent[output.id] = Some(Array1::from(weights.to_vec()));
        for id in (0..=output.id).rev() {
            let node = &nodes[id];
            if !node.active || matches!(node.op, Op::Leaf) {
                continue;
            }
            let Some(g) = cotangent[id].take() else {
                continue;
            };
            let mut send = |to: usize, what: Array1<f64>| match &mut cotangent[to] {
                Some(sum) => *sum += &what,
                empty => *empty = Some(what),
            };
            let active = |id: usize| nodes[id].active;
            let value = |id: usize| &nodes[id].value;
            match &node.op {
                Op::Leaf | Op::Constant => {}
                &Op::Add(a, b) => match (active(a), active(b)) {
                    (true, true) => {
                        send(a, g.clone());
                        send(b, g);
                    }
                    (true, false) => send(a, g),
                    (false, _) => send(b, g),
                },
                &Op::Sub(a, b) => {
                    if active(b) {
                        send(b, -&g);
                    }
                    if active(a) {
                        send(a, g);
                    }
                }
                &Op::Mul(a, b) => {
                    if active(a) {
                        send(a, &g * value(b));
                    }
                    if active(b) {
                        send(b, g * value(a));
                    }
                }
                &Op::Div(a, b) => {
                    if active(a) {
                        send(a, &g / value(b));
                    }
                    if active(b) {
                        send(b, -(g * &node.value) / value(b));
                    }
                }
                &Op::Max(a, b) => {
                    let (x, y) = (value(a), value(b));
                    let mine = |first: bool| {
                        let mut g = g.clone();
                        Zip::from(&mut g).and(x).and(y).for_each(|g, &x, &y| {
                            if (x > y || x.is_nan()) != first {
                                *g = 0.0;
                            }
                        });
                        g
                    };
                    if active(a) {
                        send(a, mine(true));
                    }
                    if active(b) {
                        send(b, mine(false));
                    }
                }
                &Op::Affine(a, scale) => send(a, g * scale),
                &Op::Softplus(a) => {
                    let mut g = g;
                    Zip::from(&mut g)
                        .and(value(a))
                        .for_each(|g, &x| *g *= sigmoid(x));
                    send(a, g);
                }
                &Op::Exp(a) => send(a, g * &node.value),
                &Op::Ln(a) => send(a, g / value(a)),
                &Op::Sqrt(a) => {
                    let mut g = g;
                    Zip::from(&mut g).and(&node.value).for_each(|g, &root| {
                        *g = if root == 0.0 { 0.0 } else { *g / (2.0 * root) }
                    });
                    send(a, g);
                }
                &Op::Sigmoid(a) => {
                    let mut g = g;
                    Zip::from(&mut g)
                        .and(&node.value)
                        .for_each(|g, &s| *g *= s * (1.0 - s));
                    send(a, g);
                }
                &Op::Relu(a) => {
                    let mut g = g;
                    Zip::from(&mut g).and(value(a)).for_each(|g, &x| {
                        if x <= 0.0 {
                            *g = 0.0;
                        }
                    });
                    send(a, g);
                }
                Op::SegmentSum(a, segments) => send(*a, spread(&g, segments)),
                Op::Spread(a, segments) => send(*a, segment_sum(&g, segments)),
                Op::Select(a, indices) => {
                    let mut back = Array1::zeros(nodes[*a].value.len());
                    for (&i, g) in indices.iter().zip(&g) {
                        back[i as usize] += g;
                    }
                    send(*a, back);
                }
            }
        }
        Ok(leaves
            .iter()
            .map(|leaf| {
                // A leaf can be asked for once only: its gradient is moved out.
                (cotangent.get_mut(leaf.id).and_then(Option::take))
                    .unwrap_or_else(|| Array1::zeros(nodes[leaf.id].value.len()))
            })
            .collect())
    }
}

impl Var {
    /// The tape it is recorded on.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Overwrites the numbers of a leaf or constant. What was computed from it keeps its numbers,
    /// so [`Tape::rewind`] first.
    ///
    /// # Errors
    /// If the length changes.
    pub fn set(&self, values: &[f64]) -> Result<()> {
        let mut nodes = self.tape.0.borrow_mut();
        let value = &mut nodes[self.id].value;
        same_length("set", value.len(), values.len())?;
        for (v, &new) in value.iter_mut().zip(values) {
            *v = new;
        }
        Ok(())
    }

    /// Looks at the numbers.
    pub fn with<T>(&self, look: impl FnOnce(&Array1<f64>) -> T) -> T {
        look(&self.tape.0.borrow()[self.id].value)
    }

    fn unary(&self, op: Op, f: impl FnOnce(&Array1<f64>) -> Array1<f64>) -> Var {
        let (value, active) = {
            let nodes = self.tape.0.borrow();
            (f(&nodes[self.id].value), nodes[self.id].active)
        };
        self.tape.push(op, value, active)
    }

    fn binary(
        &self,
        name: &'static str,
        other: &Self,
        op: Op,
        f: impl FnOnce(&Array1<f64>, &Array1<f64>) -> Array1<f64>,
    ) -> Result<Var> {
        let (value, active) = {
            let nodes = self.tape.0.borrow();
            let (a, b) = (&nodes[self.id], &nodes[other.id]);
            same_length(name, a.value.len(), b.value.len())?;
            (f(&a.value, &b.value), a.active || b.active)
        };
        Ok(self.tape.push(op, value, active))
    }
}

impl Backend for Var {
    fn constant(&self, values: &[f64]) -> Result<Self> {
        Ok(self.tape.constant(values.to_vec()))
    }

    fn to_vec(&self) -> Result<Vec<f64>> {
        Ok(self.with(|a| a.to_vec()))
    }

    fn add(&self, other: &Self) -> Result<Self> {
        self.binary("add", other, Op::Add(self.id, other.id), |a, b| a + b)
    }

    fn sub(&self, other: &Self) -> Result<Self> {
        self.binary("sub", other, Op::Sub(self.id, other.id), |a, b| a - b)
    }

    fn mul(&self, other: &Self) -> Result<Self> {
        self.binary("mul", other, Op::Mul(self.id, other.id), |a, b| a * b)
    }

    fn div(&self, other: &Self) -> Result<Self> {
        self.binary("div", other, Op::Div(self.id, other.id), |a, b| a / b)
    }

    fn max(&self, other: &Self) -> Result<Self> {
        self.binary("max", other, Op::Max(self.id, other.id), |a, b| {
            let mut larger = a.clone();
            Zip::from(&mut larger)
                .and(b)
                .for_each(|x, &y| *x = if *x > y || x.is_nan() { *x } else { y });
            larger
        })
    }

    fn affine(&self, scale: f64, shift: f64) -> Result<Self> {
        Ok(self.unary(Op::Affine(self.id, scale), |a| {
            a.mapv(|x| scale * x + shift)
        }))
    }

    fn softplus(&self) -> Result<Self> {
        Ok(self.unary(Op::Softplus(self.id), |a| a.mapv(softplus)))
    }

    fn exp(&self) -> Result<Self> {
        Ok(self.unary(Op::Exp(self.id), |a| a.mapv(f64::exp)))
    }

    fn ln(&self) -> Result<Self> {
        Ok(self.unary(Op::Ln(self.id), |a| a.mapv(f64::ln)))
    }

    fn sqrt(&self) -> Result<Self> {
        Ok(self.unary(Op::Sqrt(self.id), |a| a.mapv(f64::sqrt)))
    }

    fn sigmoid(&self) -> Result<Self> {
        Ok(self.unary(Op::Sigmoid(self.id), |a| a.mapv(sigmoid)))
    }

    fn relu(&self) -> Result<Self> {
        Ok(self.unary(Op::Relu(self.id), |a| {
            a.mapv(|x| if x <= 0.0 { 0.0 } else { x })
        }))
    }

    fn step(&self) -> Result<Self> {
        let value = self.with(|a| a.mapv(|x| f64::from(u8::from(x > 0.0))));
        Ok(self.tape.push(Op::Constant, value, false))
    }

    fn detach(&self) -> Result<Self> {
        Ok(self.tape.constant(self.with(|a| a.clone())))
    }

    fn segment_sum(&self, segments: &Rc<Segments>) -> Result<Self> {
        same_length("segment_sum", self.with(|a| a.len()), segments.members())?;
        let op = Op::SegmentSum(self.id, segments.clone());
        Ok(self.unary(op, |a| segment_sum(a, segments)))
    }

    fn spread(&self, segments: &Rc<Segments>) -> Result<Self> {
        same_length("spread", self.with(|a| a.len()), segments.groups())?;
        let op = Op::Spread(self.id, segments.clone());
        Ok(self.unary(op, |a| spread(a, segments)))
    }

    fn select(&self, indices: &[u32]) -> Result<Self> {
        within(indices, self.with(|a| a.len()))?;
        let op = Op::Select(self.id, indices.into());
        Ok(self.unary(op, |a| indices.iter().map(|&i| a[i as usize]).collect()))
    }
}

/// `ln(1 + eˣ)` without overflow, accurate in both tails.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1/(1 + e⁻ˣ)` without overflow, accurate in both tails.
pub fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    let small = e / (1.0 + e);
    if x >= 0.0 { 1.0 / (1.0 + e) } else { small }
}

fn segment_sum(a: &Array1<f64>, segments: &Segments) -> Array1<f64> {
    (0..segments.groups())
        .map(|g| segments.range(g).map(|i| a[i]).sum::<f64>())
        .collect()
}

fn spread(a: &Array1<f64>, segments: &Segments) -> Array1<f64> {
    segments.owner().iter().map(|&g| a[g as usize]).collect()
}
