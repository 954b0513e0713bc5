//! The operations composed of candle's, whose graph gives the gradient: the twin of the others, for
//! tests and for `pistar doctor`.
//!
//! Only candle operations that have a gradient, and the right one, are used (no fused softmax,
//! norm, rotary embedding or attention).

use candle_core::{Result as Candle, Tensor, Var};

pub use super::activation::plain::activation;
pub use super::attention::plain::attention;
pub use super::gated::plain::gated;
pub use super::layer_norm::plain::layer_norm;
pub use super::linear::plain::linear;
pub use super::logits::cross_entropy::plain::cross_entropy;
pub use super::logits::logit_difference::plain::logit_difference;
pub use super::logits::token_log_probs::plain::token_log_probs;
pub use super::rms_norm::plain::rms_norm;
pub use super::rope::plain::rope;
pub use super::rows::plain::rows;
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape, Target};

/// `f` of the inputs; its gradient is candle's.
pub(super) fn by_graph(
    tape: &Tape,
    inputs: &[&Node],
    f: impl FnOnce(&[Tensor]) -> Candle<Tensor>,
) -> Result<Node> {
    if !tape.wants(inputs) {
        let values: Vec<Tensor> = inputs.iter().map(|n| n.value().clone()).collect();
        return Ok(Node::constant(f(&values)?));
    }
    let leaves: Vec<Tensor> = (inputs.iter())
        .map(|n| Var::from_tensor(&n.value().detach()).map(Var::into_inner))
        .collect::<Candle<_>>()?;
    let output = f(&leaves)?;
    let value = output.detach();
    Ok(tape.record(value, inputs, || {
        let inputs: Vec<Target> = inputs.iter().map(|n| n.target()).collect();
        Box::new(move |gradient, sums| {
            let store = (output * gradient)?.sum_all()?.backward()?;
            for (node, leaf) in inputs.iter().zip(&leaves) {
                if let Some(gradient) = store.get(leaf) {
                    sums.add_shared(node, gradient)?;
                }
            }
            Ok(())
        })
    }))
}
