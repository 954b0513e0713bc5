//! [`token_log_probs`](super::token_log_probs) composed.

use std::ops::Range;
use std::rc::Rc;

use candle_core::{Device, Result as Candle, Tensor};

use super::super::composed::{LOGITS, Logits, Shifted, Targets, log_sum_exp, pull};
use crate::error::Result;
use crate::llm::tensor::ops::composed::{NONE, wide};
use crate::llm::tensor::ops::kernel::{below, inverse, same};
use crate::llm::tensor::tape::{Node, Tape};

/// Backward, with `p = softmax((h Wᵀ + b) / τ)`: `dlogits = dy (onehot − p) / τ`. What is kept: h, W, b, and of each
/// row `ln Σ exp` and the target's logit in f32.
///
/// The result is f32 (f64 in f64) and never positive. A logit in bf16 would be off by up to 2⁻⁸ of
/// itself, and GPT-2's are near −100. So what is rounded is each logit less the target's, which is
/// summed in f32 and taken off inside the product: a token's log-probability is off by at most 2⁻⁸
/// of the mean, under p, of |logit − the target's| / τ, which is near the log-probability itself.
pub fn token_log_probs(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    targets: &Rc<[u32]>,
    temperature: f64,
) -> Result<Node> {
    token_log_probs_within(tape, hidden, head, bias, targets, temperature, LOGITS)
}

/// [`token_log_probs`] on at most so many logits at once.
pub fn token_log_probs_within(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    targets: &Rc<[u32]>,
    temperature: f64,
    most: usize,
) -> Result<Node> {
    let m = hidden.value().dims2()?.0;
    let vocabulary = head.value().dims2()?.0;
    same("token_log_probs", m, targets.len())?;
    below("token_log_probs", targets, vocabulary)?;
    let inverse = inverse("token_log_probs", temperature)?;
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    let values = [hidden.value(), head.value()];
    let logits = Logits::new("token_log_probs", values, bias.map(Node::value), most)?;
    let device = logits.hidden.device();
    let places = Places::new(targets, vocabulary, logits.each, device)?;
    let of_targets = logits.of_tokens(&Tensor::from_slice(targets, m, device)?, most)?;
    let shifted = logits.less(&of_targets)?;
    let zero = Tensor::zeros((m, 1), logits.dtype(), device)?;
    let each = (logits.parts())
        .map(|part| {
            let logits = places.exact(&logits, &shifted, part, &zero)?;
            let logits = by(wide(&logits)?, inverse)?;
            let top = logits.max_keepdim(1)?;
            let total = logits.broadcast_sub(&top)?.exp()?.sum_keepdim(1)?;
            top + total.log()?
        })
        .collect::<Candle<Vec<_>>>()?;
    let lse = log_sum_exp(&each)?;
    let out = lse.neg()?.reshape(m)?;
    Ok(tape.record(out, &inputs, || {
        let to = Targets::new([hidden, head], bias);
        Box::new(move |gradient, sums| {
            let dtype = logits.dtype();
            let dy = gradient.reshape((m, 1))?.to_dtype(lse.dtype())?;
            let shifted = logits.less(&(of_targets + by(lse.clone(), inverse.recip())?)?)?;
            // p − 1 of each target, before it is rounded.
            let less = (lse.neg()?.exp()? - 1.0)?.to_dtype(dtype)?;
            let zero = less.zeros_like()?;
            let minus_dy = by(dy.neg()?, inverse)?;
            pull(&logits, to, &minus_dy, sums, |part| {
                let of_part = places.exact(&logits, &shifted, part.clone(), &zero)?;
                let p = exponentials(of_part, inverse)?;
                p.scatter_set(&places.of(part)?, &less, 1)?;
                Ok(p)
            })
        })
    }))
}

/// `factor · x` in the precision of statistics; at temperature 1 `x` itself.
fn by(x: Tensor, factor: f64) -> Candle<Tensor> {
    if factor == 1.0 { Ok(x) } else { x * factor }
}

/// `exp(factor · x)`, of which only the result is rounded to the precision of `x`.
fn exponentials(x: Tensor, factor: f64) -> Candle<Tensor> {
    if factor == 1.0 {
        x.exp()
    } else {
        (wide(&x)? * factor)?.exp()?.to_dtype(x.dtype())
    }
}

/// The place of each row's target in each part of the vocabulary, or none: `[parts, M, 1]`.
struct Places {
    places: Tensor,
    /// Rows of a part.
    each: usize,
}

impl Places {
    fn new(targets: &[u32], vocabulary: usize, each: usize, device: &Device) -> Candle<Self> {
        let parts = vocabulary.div_ceil(each);
        let place = |from: usize, target: u32| match (target as usize).checked_sub(from) {
            Some(place) if place < each => place as u32,
            _ => NONE,
        };
        let places: Vec<u32> = (0..parts)
            .flat_map(|part| {
                targets
                    .iter()
                    .map(move |&target| place(part * each, target))
            })
            .collect();
        let places = Tensor::from_vec(places, (parts, targets.len(), 1), device)?;
        Ok(Self { places, each })
    }

    fn of(&self, part: Range<usize>) -> Candle<Tensor> {
        self.places.get(part.start / self.each)
    }

    /// Logits of a part, less what `shifted` takes off; those of targets there are `of_targets`.
    fn exact(
        &self,
        logits: &Logits,
        shifted: &Shifted,
        part: Range<usize>,
        of_targets: &Tensor,
    ) -> Candle<Tensor> {
        let logits = logits.part(shifted, part.clone())?;
        logits.scatter_set(&self.of(part)?, of_targets, 1)?;
        Ok(logits)
    }
}
