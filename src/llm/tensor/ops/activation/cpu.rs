//! [`activation`](super::activation) on the CPU.

use super::Activation;
use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::tensor;
use crate::llm::tensor::ops::pointwise::{Function, Gelu, GeluTanh, Relu, Silu, zip};
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: `dx = dy f′(x)`.
pub fn activation<T: Float>(tape: &Tape, x: &Node, f: Activation) -> Result<Node> {
    match f {
        Activation::Relu => map::<T, Relu>(tape, x),
        Activation::Silu => map::<T, Silu>(tape, x),
        Activation::Gelu => map::<T, Gelu>(tape, x),
        Activation::GeluTanh => map::<T, GeluTanh>(tape, x),
    }
}

fn map<T: Float, F: Function<T>>(tape: &Tape, x: &Node) -> Result<Node> {
    let value = x.value().contiguous()?;
    let shape = value.shape().clone();
    let out = zip::<T>(
        &value,
        &value,
        #[inline(always)]
        |x, _| F::at(x).0,
    )?;
    Ok(tape.record(tensor(out, shape.clone())?, &[x], || {
        let x = x.target();
        Box::new(move |gradient, sums| {
            let dx = zip::<T>(
                &value,
                &gradient,
                #[inline(always)]
                |x, dy| dy * F::at(x).1,
            )?;
            sums.add(&x, tensor(dx, shape)?)
        })
    }))
}
