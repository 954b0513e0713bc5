//! [`super::super::token_log_probs`] composed: the logits of a part of the vocabulary at a time.

use std::ops::Range;
use std::rc::Rc;

use candle_core::{DType, Result as Candle, Tensor};

use super::rows::NONE;
use super::{add_in_place, augmented, columns, product, wide, with_ones};
use crate::error::Result;
use crate::llm::tensor::ops::kernel::{below, inverse, same};
use crate::llm::tensor::tape::{Node, Tape};

/// Most logits at once: 64 MiB in bf16, and a few times that in f32.
const LOGITS: usize = 1 << 25;

/// Backward, with `p = softmax((h Wᵀ + b) / τ)`: `dlogits = dy (onehot − p) / τ`, `dh = dlogits W`,
/// `dW = dlogitsᵀ h`, `db = Σ dlogits`. What is kept: h, W, b, and of each row `ln Σ exp` and the target's logit in f32.
///
/// The result is f32 (f64 in f64) and never positive. A logit in bf16 would be off by up to 2⁻⁸ of
/// itself, and GPT-2's are near −100. So what is rounded is each logit less the target's, which is
/// summed in f32 and taken off inside the product: a token's log-probability is off by at most 2⁻⁸
/// of the mean, under p, of |logit − the target's| / τ, which is near the log-probability itself.
///
/// A part is all rows by some of the vocabulary, not the other way round: then each row of dW is
/// made by one product, summed in f32 and rounded once, and no `[V, D]` in f32 is needed.
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
    let (m, width) = hidden.value().dims2()?;
    let (vocabulary, inner) = head.value().dims2()?;
    same("token_log_probs", width, inner)?;
    same("token_log_probs", m, targets.len())?;
    below("token_log_probs", targets, vocabulary)?;
    let inverse = inverse("token_log_probs", temperature)?;
    if let Some(bias) = bias {
        same("token_log_probs", vocabulary, bias.value().dims1()?)?;
    }
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    let values = [hidden.value(), head.value()];
    let layer = Layer::new(values, bias.map(Node::value), targets, most)?;
    let of_targets = layer.of_targets(targets, most)?;
    let shifted = layer.less(&of_targets)?;
    let zero = Tensor::zeros((m, 1), layer.dtype(), layer.hidden.device())?;
    let each = (layer.parts())
        .map(|part| {
            let logits = layer.logits(&shifted, part, &zero)?;
            let logits = by(wide(&logits)?, inverse)?;
            let top = logits.max_keepdim(1)?;
            let total = logits.broadcast_sub(&top)?.exp()?.sum_keepdim(1)?;
            top + total.log()?
        })
        .collect::<Candle<Vec<_>>>()?;
    let lse = match each.as_slice() {
        [only] => only.clone(),
        _ => Tensor::cat(&each, 1)?.log_sum_exp(1)?.reshape((m, 1))?,
    };
    let out = lse.neg()?.reshape(m)?;
    Ok(tape.record(out, &inputs, || {
        let (hidden, head) = (hidden.target(), head.target());
        let bias = bias.filter(|b| b.wanted()).map(Node::target);
        Box::new(move |gradient, sums| {
            let dtype = layer.dtype();
            let dy = gradient.reshape((m, 1))?.to_dtype(lse.dtype())?;
            let shifted = layer.less(&(of_targets + by(lse.clone(), inverse.recip())?)?)?;
            // p − 1 of each target, before it is rounded.
            let less = (lse.neg()?.exp()? - 1.0)?.to_dtype(dtype)?;
            let zero = less.zeros_like()?;
            let minus_dy = by(dy.neg()?, inverse)?;
            let minus_h = wide(&layer.hidden)?
                .broadcast_mul(&minus_dy)?
                .to_dtype(dtype)?;
            let of_bias = match &bias {
                Some(_) => Some(Tensor::cat(&columns(&minus_dy, dtype)?, 1)?),
                None => None,
            };
            let mut db = Vec::new();
            let mut dh: Option<Tensor> = None;
            let mut dw = sums.take(&head);
            let fresh = dw.is_none();
            for part in layer.parts() {
                let logits = layer.logits(&shifted, part.clone(), &zero)?;
                let p = exponentials(logits, inverse)?;
                p.scatter_set(&layer.places(part.clone())?, &less, 1)?;
                if hidden.wanted() {
                    let w = layer.head.narrow(0, part.start, part.len())?;
                    let part = wide(&product(&p, &w)?)?;
                    dh = Some(match dh {
                        None => part,
                        Some(sum) => (sum + part)?,
                    });
                }
                if head.wanted() {
                    let rows = product(&p.t()?, &minus_h)?;
                    dw = Some(layer.placed(dw, rows, part, fresh)?);
                }
                if let Some(of_bias) = &of_bias {
                    db.push(wide(&product(&p.t()?, of_bias)?)?.sum(1)?.to_dtype(dtype)?);
                }
            }
            if let Some(dw) = dw {
                sums.add(&head, dw)?;
            }
            if let Some(bias) = bias {
                sums.add(&bias, Tensor::cat(&db, 0)?)?;
            }
            match dh {
                Some(dh) => sums.add(&hidden, dh.broadcast_mul(&minus_dy)?.to_dtype(dtype)?),
                None => Ok(()),
            }
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

struct Layer {
    hidden: Tensor,
    head: Tensor,
    bias: Option<Bias>,
    /// The place of each row's target in each part of the vocabulary, or none, `[parts, M, 1]`.
    places: Tensor,
    /// Rows of a part.
    each: usize,
}

/// b, and columns `[V, 1]` that it is the sum of.
struct Bias {
    all: Tensor,
    columns: Vec<Tensor>,
}

/// h with columns.
struct Shifted {
    hidden: Tensor,
    columns: usize,
}

impl Bias {
    /// For products in that precision.
    fn new(bias: &Tensor, dtype: DType) -> Candle<Self> {
        let all = bias.contiguous()?;
        let columns = columns(&all.unsqueeze(1)?, dtype)?;
        Ok(Self { all, columns })
    }
}

impl Layer {
    fn new(
        [hidden, head]: [&Tensor; 2],
        bias: Option<&Tensor>,
        targets: &[u32],
        most: usize,
    ) -> Candle<Self> {
        let (m, vocabulary) = (targets.len(), head.dim(0)?);
        let each = most / m.max(1);
        // A multiple of 8, which tensor cores like.
        let each = if each > 8 { each / 8 * 8 } else { each };
        let each = each.clamp(1, vocabulary.max(1));
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
        Ok(Self {
            hidden: hidden.contiguous()?,
            head: head.contiguous()?,
            bias: bias
                .map(|bias| Bias::new(bias, hidden.dtype()))
                .transpose()?,
            places: Tensor::from_vec(places, (parts, m, 1), hidden.device())?,
            each,
        })
    }

    fn dtype(&self) -> DType {
        self.hidden.dtype()
    }

    fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (vocabulary, each) = (self.head.dims()[0], self.each);
        (0..vocabulary)
            .step_by(each)
            .map(move |from| from..vocabulary.min(from + each))
    }

    fn places(&self, part: Range<usize>) -> Candle<Tensor> {
        self.places.get(part.start / self.each)
    }

    /// Each target's logit, summed in the precision of statistics: `[M, 1]`.
    fn of_targets(&self, targets: &[u32], most: usize) -> Candle<Tensor> {
        let (m, width) = self.hidden.dims2()?;
        let targets = Tensor::from_slice(targets, m, self.hidden.device())?;
        let each = (most / width.max(1)).max(1);
        let parts = (0..m).step_by(each).map(|from| {
            let size = each.min(m - from);
            let h = wide(&self.hidden.narrow(0, from, size)?)?;
            let w = self.head.index_select(&targets.narrow(0, from, size)?, 0)?;
            (h * wide(&w)?)?.sum_keepdim(1)
        });
        let parts = parts.collect::<Candle<Vec<_>>>()?;
        let logits = Tensor::cat(&parts, 0)?;
        match &self.bias {
            Some(bias) => logits + wide(&bias.all.index_select(&targets, 0)?)?.unsqueeze(1)?,
            None => Ok(logits),
        }
    }

    /// h such that logits come out less a number of each row.
    fn less(&self, number: &Tensor) -> Candle<Shifted> {
        let mut all = columns(&number.neg()?, self.dtype())?;
        let columns = all.len();
        if let Some(bias) = &self.bias {
            all.extend(vec![all[0].ones_like()?; bias.columns.len()]);
        }
        Ok(Shifted {
            hidden: augmented(&self.hidden, &all)?,
            columns,
        })
    }

    /// Logits of a part, less what `shifted` takes off; those of targets there are `of_targets`.
    fn logits(&self, shifted: &Shifted, part: Range<usize>, of_targets: &Tensor) -> Candle<Tensor> {
        let w = self.head.narrow(0, part.start, part.len())?;
        let w = match &self.bias {
            None => with_ones(&w, shifted.columns)?,
            Some(bias) => {
                let ones = (part.len(), shifted.columns);
                let mut all = vec![Tensor::ones(ones, w.dtype(), w.device())?];
                for column in &bias.columns {
                    all.push(column.narrow(0, part.start, part.len())?);
                }
                augmented(&w, &all)?
            }
        };
        let logits = product(&shifted.hidden, &w.t()?)?;
        logits.scatter_set(&self.places(part)?, of_targets, 1)?;
        Ok(logits)
    }

    /// dW with that part's rows, added to what was there before unless it is fresh.
    fn placed(
        &self,
        dw: Option<Tensor>,
        rows: Tensor,
        part: Range<usize>,
        fresh: bool,
    ) -> Result<Tensor> {
        let dw = match dw {
            Some(dw) => dw,
            None if part.len() == self.head.dims()[0] => return Ok(rows),
            None => self.head.zeros_like()?,
        };
        if fresh {
            dw.slice_set(&rows, 0, part.start)?
        } else {
            add_in_place(&dw.narrow(0, part.start, part.len())?, &rows)?
        }
        Ok(dw)
    }
}
