//! The operations composed of candle's, whose graph gives the gradient: the twin of the others, for
//! tests and for `pistar doctor`.
//!
//! Only candle operations that have a gradient, and the right one, are used (no fused softmax,
//! norm, rotary embedding or attention).

use std::rc::Rc;

use candle_core::{D, DType, Result as Candle, Tensor, Var};

use super::{Activation, Attention, Rope, Starts, Teacher};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape, Target};

/// `f` of the inputs; its gradient is candle's.
pub(crate) fn composed(
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

/// `linear`
pub fn linear(tape: &Tape, x: &Node, weight: &Node, bias: Option<&Node>) -> Result<Node> {
    match bias {
        None => composed(tape, &[x, weight], |t| t[0].matmul(&t[1].t()?)),
        Some(bias) => composed(tape, &[x, weight, bias], |t| {
            t[0].matmul(&t[1].t()?)?.broadcast_add(&t[2])
        }),
    }
}

/// `rows`
pub fn rows(tape: &Tape, x: &Node, rows: &Rc<[u32]>) -> Result<Node> {
    let index = Tensor::from_slice(rows, rows.len(), x.value().device())?;
    composed(tape, &[x], |t| t[0].index_select(&index, 0))
}

/// `rms_norm`
pub fn rms_norm(tape: &Tape, x: &Node, weight: &Node, epsilon: f64, offset: f64) -> Result<Node> {
    composed(tape, &[x, weight], |t| {
        let x = t[0].reshape(((), t[1].dim(0)?))?;
        let square = x.sqr()?.mean_keepdim(D::Minus1)?;
        let unit = x.broadcast_div(&(square + epsilon)?.sqrt()?)?;
        unit.broadcast_mul(&(&t[1] + offset)?)?
            .reshape(t[0].shape())
    })
}

/// `layer_norm`
pub fn layer_norm(tape: &Tape, x: &Node, weight: &Node, bias: &Node, epsilon: f64) -> Result<Node> {
    composed(tape, &[x, weight, bias], |t| {
        let x = t[0].reshape(((), t[1].dim(0)?))?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let unit = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
        let out = unit.broadcast_mul(&t[1])?.broadcast_add(&t[2])?;
        out.reshape(t[0].shape())
    })
}

/// `rope`
pub fn rope(tape: &Tape, x: &Node, heads: usize, table: &Rope, starts: &Starts) -> Result<Node> {
    let positions: Vec<u32> = (starts.windows(2))
        .flat_map(|w| 0..(w[1] - w[0]) as u32)
        .collect();
    let positions = Tensor::from_vec(positions, x.value().dim(0)?, x.value().device())?;
    let pick = |t: &Tensor| {
        t.to_dtype(x.value().dtype())?
            .index_select(&positions, 0)?
            .unsqueeze(1)
    };
    let (cos, sin) = (pick(&table.cos)?, pick(&table.sin)?);
    composed(tape, &[x], |t| {
        let (n, width) = t[0].dims2()?;
        let (half, head_dim) = (cos.dim(2)?, width / heads);
        let x = t[0].reshape((n, heads, head_dim))?;
        let (pairs, rest) = (x.narrow(2, 0, 2 * half)?, head_dim - 2 * half);
        let (a, b) = if table.interleaved {
            let pairs = pairs.reshape((n, heads, half, 2))?;
            let side = |i| pairs.narrow(3, i, 1)?.reshape((n, heads, half));
            (side(0)?, side(1)?)
        } else {
            (pairs.narrow(2, 0, half)?, pairs.narrow(2, half, half)?)
        };
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        let mut parts = if table.interleaved {
            let both = [first.unsqueeze(3)?, second.unsqueeze(3)?];
            vec![Tensor::cat(&both, 3)?.reshape((n, heads, 2 * half))?]
        } else {
            vec![first, second]
        };
        if rest > 0 {
            parts.push(x.narrow(2, 2 * half, rest)?);
        }
        Tensor::cat(&parts, 2)?.reshape((n, width))
    })
}

/// `attention`
pub fn attention(
    tape: &Tape,
    [q, k, v]: [&Node; 3],
    form: &Attention,
    starts: &Starts,
) -> Result<Node> {
    composed(tape, &[q, k, v], |t| {
        let outputs = (starts.windows(2))
            .map(|w| {
                let part = |t: &Tensor| t.narrow(0, w[0], w[1] - w[0]);
                attend(&part(&t[0])?, &part(&t[1])?, &part(&t[2])?, form)
            })
            .collect::<Candle<Vec<_>>>()?;
        Tensor::cat(&outputs, 0)
    })
}

/// Attention in one sequence.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, form: &Attention) -> Candle<Tensor> {
    let length = q.dim(0)?;
    let Attention {
        heads,
        kv_heads,
        head_dim,
        ..
    } = *form;
    let split = |t: &Tensor, heads: usize| -> Candle<Tensor> {
        t.reshape((length, heads, head_dim))?
            .transpose(0, 1)?
            .contiguous()
    };
    let shared = |t: &Tensor| -> Candle<Tensor> {
        let group = heads / kv_heads;
        split(t, kv_heads)?
            .unsqueeze(1)?
            .broadcast_as((kv_heads, group, length, head_dim))?
            .reshape((heads, length, head_dim))
    };
    let (q, k, v) = (split(q, heads)?, shared(k)?, shared(v)?);
    let hidden: Vec<f32> = (0..length)
        .flat_map(|i| {
            let first = form.window.map_or(0, |w| (i + 1).saturating_sub(w));
            (0..length).map(move |j| {
                if (first..=i).contains(&j) {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            })
        })
        .collect();
    let hidden = Tensor::from_vec(hidden, (length, length), q.device())?.to_dtype(q.dtype())?;
    let mut scores = (q.matmul(&k.t()?)? * form.scale)?.broadcast_add(&hidden)?;
    if let Some(slopes) = &form.slopes {
        let fall = slopes.iter().flat_map(|slope| {
            (0..length).flat_map(move |i| (0..length).map(move |j| slope * (j as f64 - i as f64)))
        });
        let fall = Tensor::from_iter(fall, q.device())?.reshape((heads, length, length))?;
        scores = (scores + fall.to_dtype(q.dtype())?)?;
    }
    let top = scores.max_keepdim(D::Minus1)?.detach();
    let weights = scores.broadcast_sub(&top)?.exp()?;
    let total = weights.sum_keepdim(D::Minus1)?;
    weights
        .broadcast_div(&total)?
        .matmul(&v)?
        .transpose(0, 1)?
        .reshape((length, heads * head_dim))
}

/// [`super::gated`]
pub fn gated(tape: &Tape, gate: &Node, up: &Node, f: Activation) -> Result<Node> {
    composed(tape, &[gate, up], |t| activate(&t[0], f)? * &t[1])
}

/// [`super::activation`]
pub fn activation(tape: &Tape, x: &Node, f: Activation) -> Result<Node> {
    composed(tape, &[x], |t| activate(&t[0], f))
}

fn activate(x: &Tensor, f: Activation) -> Candle<Tensor> {
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
    composed(tape, &inputs, |t| {
        let logits = logits(&t[0], &t[1], t.get(2))?;
        let logits = if temperature == 1.0 {
            logits
        } else {
            (logits / temperature)?
        };
        log_softmax(&logits)?.gather(&index, 1)?.squeeze(1)
    })
}

/// `cross_entropy`
pub fn cross_entropy(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
) -> Result<Node> {
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    let theirs = logits(&teacher.hidden, &teacher.head, teacher.bias.as_ref())?;
    let q = log_softmax(&theirs)?.exp()?;
    composed(tape, &inputs, |t| {
        let log_probs = log_softmax(&logits(&t[0], &t[1], t.get(2))?)?;
        (&q * log_probs)?.sum(D::Minus1)?.neg()
    })
}

/// `logit_difference`
pub fn logit_difference(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
) -> Result<Node> {
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    let theirs = logits(&teacher.hidden, &teacher.head, teacher.bias.as_ref())?;
    composed(tape, &inputs, |t| {
        let difference = (logits(&t[0], &t[1], t.get(2))? - &theirs)?;
        difference.sqr()?.sum(D::Minus1)
    })
}

/// `h Wᵀ + b`, in f32 of bf16 and f16.
fn logits(hidden: &Tensor, head: &Tensor, bias: Option<&Tensor>) -> Candle<Tensor> {
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

/// Over the last axis.
fn log_softmax(logits: &Tensor) -> Candle<Tensor> {
    let top = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&top)?;
    let total = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    shifted.broadcast_sub(&total)
}
