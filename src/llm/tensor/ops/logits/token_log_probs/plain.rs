//! [`token_log_probs`](super::token_log_probs) by candle's graph.

use std::rc::Rc;

use candle_core::Tensor;

use super::super::plain::{log_softmax, logits};
use crate::error::Result;
use crate::llm::tensor::ops::plain::by_graph;
use crate::llm::tensor::tape::{Node, Tape};

/// `token_log_probs`
pub fn token_log_probs(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    targets: &Rc<[u32]>,
    temperature: f64,
) -> Result<Node> {
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    let index = Tensor::from_slice(targets, (targets.len(), 1), hidden.value().device())?;
    by_graph(tape, &inputs, |t| {
        let logits = logits(&t[0], &t[1], t.get(2))?;
        let logits = if temperature == 1.0 {
            logits
        } else {
            (logits / temperature)?
        };
        log_softmax(&logits)?.gather(&index, 1)?.squeeze(1)
    })
}
