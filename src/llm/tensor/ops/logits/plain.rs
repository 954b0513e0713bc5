//! Logits by candle's graph.

use candle_core::{D, DType, Result as Candle, Tensor};

/// `h Wᵀ + b`, in f32 of bf16 and f16.
pub fn logits(hidden: &Tensor, head: &Tensor, bias: Option<&Tensor>) -> Candle<Tensor> {
    let logits = hidden.matmul(&head.t()?)?;
    let logits = match bias {
        Some(bias) => logits.broadcast_add(bias)?,
        None => logits,
    };
    match logits.dtype() {
        DType::BF16 | DType::F16 => logits.to_dtype(DType::F32),
        _ => Ok(logits),
    }
}

/// `ln softmax` over the last axis.
pub fn log_softmax(logits: &Tensor) -> Candle<Tensor> {
    let top = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&top)?;
    let total = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    shifted.broadcast_sub(&total)
}
