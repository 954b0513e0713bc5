//! [`gated`](super::gated) on the CPU.

use crate::error::Result;
use crate::llm::tensor::ops::Activation;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::{same_shape, tensor};
use crate::llm::tensor::ops::memory::{TASK, parts2, unwritten};
use crate::llm::tensor::ops::pointwise::{Function, Gelu, GeluTanh, Relu, Silu, zip};
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: `dgate = dy up f′(gate)`, `dup = dy f(gate)`.
pub fn gated<T: Float>(tape: &Tape, gate: &Node, up: &Node, f: Activation) -> Result<Node> {
    match f {
        Activation::Relu => gate_by::<T, Relu>(tape, gate, up),
        Activation::Silu => gate_by::<T, Silu>(tape, gate, up),
        Activation::Gelu => gate_by::<T, Gelu>(tape, gate, up),
        Activation::GeluTanh => gate_by::<T, GeluTanh>(tape, gate, up),
    }
}

fn gate_by<T: Float, F: Function<T>>(tape: &Tape, gate: &Node, up: &Node) -> Result<Node> {
    same_shape(gate.value(), up.value())?;
    let (g, u) = (gate.value().contiguous()?, up.value().contiguous()?);
    let shape = g.shape().clone();
    let out = zip::<T>(
        &g,
        &u,
        #[inline(always)]
        |g, u| F::at(g).0 * u,
    )?;
    Ok(tape.record(tensor(out, shape.clone())?, &[gate, up], || {
        let (gate, up) = (gate.target(), up.target());
        Box::new(move |gradient, sums| {
            let gradient = gradient.contiguous()?;
            let dy = Slice::<T>::new(&gradient)?;
            let (g, u) = (Slice::<T>::new(&g)?, Slice::<T>::new(&u)?);
            // SAFETY: the loop below writes every number of both.
            let mut dg = unsafe { unwritten::<T>(g.len()) };
            let mut du = unsafe { unwritten::<T>(g.len()) };
            parts2(
                [&mut dg, &mut du],
                [TASK; 2],
                #[inline(always)]
                |i, dg, du| {
                    let n = dg.len();
                    let (du, at) = (&mut du[..n], i * TASK..i * TASK + n);
                    let (g, u, dy) = (&g[at.clone()], &u[at.clone()], &dy[at]);
                    for i in 0..n {
                        let (value, slope) = F::at(g[i]);
                        dg[i] = dy[i] * u[i] * slope;
                        du[i] = dy[i] * value;
                    }
                },
            );
            sums.add(&gate, tensor(dg, shape.clone())?)?;
            sums.add(&up, tensor(du, shape)?)
        })
    }))
}
