//! [`activation`](super::activation) by candle's graph.

use candle_core::{Result as Candle, Tensor};

use super::Activation;
use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `activation`
pub fn activation(tape: &Tape, x: &Node, f: Activation) -> Result<Node> {
    by_graph(tape, &[x], |t| apply(&t[0], f))
}

/// `f(x)`
pub fn apply(x: &Tensor, f: Activation) -> Candle<Tensor> {
    match f {
        // candle's own has slope 1 at 0.
        Activation::Relu => x * x.gt(0.0)?.to_dtype(x.dtype())?.detach(),
        Activation::Silu => x / (x.neg()?.exp()? + 1.0)?,
        Activation::Gelu => (x * ((x * 0.5f64.sqrt())?.erf()? + 1.0)?)? * 0.5,
        Activation::GeluTanh => {
            let inner = (x + (x.powf(3.0)? * 0.044715)?)?;
            let t = (inner * (2.0 / std::f64::consts::PI).sqrt())?.tanh()?;
            (x * (t + 1.0)?)? * 0.5
        }
    }
}
