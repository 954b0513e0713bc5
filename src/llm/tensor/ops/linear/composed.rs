//! [`linear`](super::linear) composed.

use crate::error::Result;
use crate::llm::tensor::ops::composed::{product, sum_rows};
use crate::llm::tensor::ops::kernel::same;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: `dx = dy W`, `dW = dyᵀ x`, `db = Σ dy`. `x` is kept only if W is trained, W only if
/// `x` wants a gradient. In bf16 sums are f32 and each product is rounded once; adding the bias
/// rounds once more.
pub fn linear(tape: &Tape, x: &Node, weight: &Node, bias: Option<&Node>) -> Result<Node> {
    let (_, i) = x.value().dims2()?;
    let (o, inner) = weight.value().dims2()?;
    same("linear", i, inner)?;
    let value = x.value().contiguous()?;
    let w = weight.value().contiguous()?;
    let mut out = product(&value, &w.t()?)?;
    if let Some(bias) = bias {
        same("linear", o, bias.value().dims1()?)?;
        out = out.broadcast_add(bias.value())?;
    }
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    Ok(tape.record(out, &inputs, || {
        let value = weight.wanted().then_some(value);
        let w = x.wanted().then_some(w);
        let bias = bias.filter(|b| b.wanted()).map(Node::target);
        let (x, weight) = (x.target(), weight.target());
        Box::new(move |gradient, sums| {
            let dy = gradient.contiguous()?;
            if let Some(w) = w {
                sums.add(&x, product(&dy, &w)?)?;
            }
            if let Some(value) = value {
                sums.add(&weight, product(&dy.t()?, &value)?)?;
            }
            match bias {
                Some(bias) => sums.add(&bias, sum_rows(&dy)?),
                None => Ok(()),
            }
        })
    }))
}
