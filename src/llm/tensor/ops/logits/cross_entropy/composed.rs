//! [`cross_entropy`](super::cross_entropy) composed.

use candle_core::{D, Result as Candle, Tensor};

use super::super::Teacher;
use super::super::composed::{LOGITS, Logits, Targets, log_sum_exp, pull};
use crate::error::Result;
use crate::llm::tensor::ops::composed::wide;

use crate::llm::tensor::tape::{Node, Tape};

/// Backward, with `p = softmax(h Wᵀ + b)` and `q` the teacher's: `dlogits = dy (p − q)`. What is kept: h, W, b, the
/// teacher's, and of each row two numbers in f32 by which both's logits are shifted.
///
/// The result is f32 (f64 in f64). As in `token_log_probs` logits are rounded less that of a
/// probable token, which is summed in f32: the teacher's most probable one, for which its logits are made once before.
pub fn cross_entropy(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
) -> Result<Node> {
    cross_entropy_within(tape, hidden, head, bias, teacher, LOGITS)
}

/// [`cross_entropy`] on at most so many logits at once, half of them the teacher's.
pub fn cross_entropy_within(
    tape: &Tape,
    hidden: &Node,
    head: &Node,
    bias: Option<&Node>,
    teacher: &Teacher,
    most: usize,
) -> Result<Node> {
    const NAME: &str = "cross_entropy";
    let values = [hidden.value(), head.value()];
    teacher.check(NAME, values)?;
    let m = hidden.value().dims2()?.0;
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    let logits = Logits::new(NAME, values, bias.map(Node::value), most / 2)?;
    let theirs = [&teacher.hidden, &teacher.head];
    let theirs = Logits::new(NAME, theirs, teacher.bias.as_ref(), most / 2)?;
    let tokens = tops(&theirs)?;
    let [of_ours, of_theirs] = [
        logits.of_tokens(&tokens, most)?,
        theirs.of_tokens(&tokens, most)?,
    ];
    let [shifted, shifted_theirs] = [logits.less(&of_ours)?, theirs.less(&of_theirs)?];
    let [mut each, mut totals, mut moments] = [const { Vec::new() }; 3];
    for part in logits.parts() {
        // The teacher's largest is about 0.
        let weights = wide(&theirs.part(&shifted_theirs, part.clone())?)?.exp()?;
        let of_part = wide(&logits.part(&shifted, part)?)?;
        moments.push((&weights * &of_part)?.sum_keepdim(1)?);
        totals.push(weights.sum_keepdim(1)?);
        drop(weights);
        let top = of_part.max_keepdim(1)?;
        let sum = of_part.broadcast_sub(&top)?.exp()?.sum_keepdim(1)?;
        each.push((top + sum.log()?)?);
    }
    let lse = log_sum_exp(&each)?;
    let [total, moment] = [totals, moments].map(|all| Tensor::cat(&all, 1)?.sum_keepdim(1));
    let (total, moment) = (total?, moment?);
    let out = (&lse - (moment / &total)?)?.reshape(m)?;
    Ok(tape.record(out, &inputs, || {
        let to = Targets::new([hidden, head], bias);
        Box::new(move |gradient, sums| {
            let dy = gradient.reshape((m, 1))?.to_dtype(lse.dtype())?;
            let shifted = logits.less(&(of_ours + &lse)?)?;
            let shifted_theirs = theirs.less(&(of_theirs + total.log()?)?)?;
            pull(&logits, to, &dy, sums, |part| {
                let q = theirs.part(&shifted_theirs, part.clone())?.exp()?;
                logits.part(&shifted, part)?.exp()? - q
            })
        })
    }))
}

/// The token of each row's largest logit, up to rounding: `[M]`.
fn tops(logits: &Logits) -> Candle<Tensor> {
    let m = logits.hidden.dim(0)?;
    let zero = Tensor::zeros((m, 1), logits.dtype(), logits.hidden.device())?;
    let shifted = logits.less(&wide(&zero)?)?;
    let (mut largest, mut tokens) = (Vec::new(), Vec::new());
    for part in logits.parts() {
        let of_part = logits.part(&shifted, part.clone())?;
        let token = of_part.argmax_keepdim(D::Minus1)?;
        largest.push(of_part.gather(&token, 1)?);
        let before = Tensor::full(part.start as u32, (m, 1), token.device())?;
        tokens.push((token + before)?);
    }
    let best = Tensor::cat(&largest, 1)?.argmax_keepdim(D::Minus1)?;
    Tensor::cat(&tokens, 1)?.gather(&best, 1)?.reshape(m)
}
