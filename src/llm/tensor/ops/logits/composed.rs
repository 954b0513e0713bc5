//! Logits composed, those of a part of the vocabulary at a time, and the gradients of what they are made of.
//!
//! A part is all rows by some of the vocabulary, not the other way round: then each row of dW is
//! made by one product, summed in f32 and rounded once, and no `[V, D]` in f32 is needed.

use std::ops::Range;

use candle_core::{DType, Result as Candle, Tensor};

use crate::error::Result;
use crate::llm::tensor::ops::add::composed::add_in_place;
use crate::llm::tensor::ops::composed::{augmented, columns, product, wide, with_ones};
use crate::llm::tensor::ops::kernel::same;
use crate::llm::tensor::tape::{Gradients, Node, Target};

/// Most logits at once: 64 MiB in bf16, and a few times that in f32.
pub const LOGITS: usize = 1 << 25;

/// `h Wᵀ + b`: `[M, D]`, `[V, D]`, `[V]` → `[M, V]`, made when asked for.
pub struct Logits {
    pub hidden: Tensor,
    pub head: Tensor,
    bias: Option<Bias>,
    /// Rows of W in a part.
    pub each: usize,
}

/// b, and columns `[V, 1]` that it is the sum of.
struct Bias {
    all: Tensor,
    columns: Vec<Tensor>,
}

/// h with columns.
pub struct Shifted {
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

/// How many rows of a vocabulary make, by M rows, at most so many logits.
pub fn rows_of_a_part(m: usize, vocabulary: usize, most: usize) -> usize {
    let each = most / m.max(1);
    // A multiple of 8, which tensor cores like.
    let each = if each > 8 { each / 8 * 8 } else { each };
    each.clamp(1, vocabulary.max(1))
}

impl Logits {
    /// At most so many at once.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn new(
        operation: &'static str,
        [hidden, head]: [&Tensor; 2],
        bias: Option<&Tensor>,
        most: usize,
    ) -> Result<Self> {
        let (vocabulary, inner) = head.dims2()?;
        same(operation, hidden.dims2()?.1, inner)?;
        if let Some(bias) = bias {
            same(operation, vocabulary, bias.dims1()?)?;
        }
        Ok(Self {
            hidden: hidden.contiguous()?,
            head: head.contiguous()?,
            bias: bias
                .map(|bias| Bias::new(bias, hidden.dtype()))
                .transpose()?,
            each: rows_of_a_part(hidden.dim(0)?, head.dim(0)?, most),
        })
    }

    pub fn dtype(&self) -> DType {
        self.hidden.dtype()
    }

    pub fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (vocabulary, each) = (self.head.dims()[0], self.each);
        (0..vocabulary)
            .step_by(each)
            .map(move |from| from..vocabulary.min(from + each))
    }

    /// The logit of each row's token, summed in the precision of statistics: `[M]` → `[M, 1]`.
    pub fn of_tokens(&self, tokens: &Tensor, most: usize) -> Candle<Tensor> {
        let (m, width) = self.hidden.dims2()?;
        let each = (most / width.max(1)).max(1);
        let parts = (0..m).step_by(each).map(|from| {
            let size = each.min(m - from);
            let h = wide(&self.hidden.narrow(0, from, size)?)?;
            let w = self.head.index_select(&tokens.narrow(0, from, size)?, 0)?;
            (h * wide(&w)?)?.sum_keepdim(1)
        });
        let parts = parts.collect::<Candle<Vec<_>>>()?;
        let logits = Tensor::cat(&parts, 0)?;
        match &self.bias {
            Some(bias) => logits + wide(&bias.all.index_select(tokens, 0)?)?.unsqueeze(1)?,
            None => Ok(logits),
        }
    }

    /// h such that logits come out less a number of each row.
    pub fn less(&self, number: &Tensor) -> Candle<Shifted> {
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

    /// Logits of a part, less what `shifted` takes off.
    pub fn part(&self, shifted: &Shifted, part: Range<usize>) -> Candle<Tensor> {
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
        product(&shifted.hidden, &w.t()?)
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

/// What a backward gives gradients to: h, W, b.
pub struct Targets {
    hidden: Target,
    head: Target,
    bias: Option<Target>,
}

impl Targets {
    pub fn new([hidden, head]: [&Node; 2], bias: Option<&Node>) -> Self {
        Self {
            hidden: hidden.target(),
            head: head.target(),
            bias: bias.filter(|b| b.wanted()).map(Node::target),
        }
    }
}

/// `ln Σ exp` of rows, from that of each part's: `[M, 1]`.
pub fn log_sum_exp(each: &[Tensor]) -> Candle<Tensor> {
    match each {
        [only] => Ok(only.clone()),
        _ => {
            let all = Tensor::cat(each, 1)?;
            all.log_sum_exp(1)?.reshape((all.dim(0)?, 1))
        }
    }
}

/// Adds the gradients of h, W and b, given those of logits, a part at a time: each row's `of(part)` times its `factor`,
/// `[M, 1]` in the precision of statistics. `dh = dlogits W`, `dW = dlogitsᵀ h`, `db = Σ dlogits`.
pub fn pull(
    logits: &Logits,
    to: Targets,
    factor: &Tensor,
    sums: &mut Gradients,
    of: impl Fn(Range<usize>) -> Candle<Tensor>,
) -> Result<()> {
    let dtype = logits.dtype();
    let h = wide(&logits.hidden)?
        .broadcast_mul(factor)?
        .to_dtype(dtype)?;
    let of_bias = match &to.bias {
        Some(_) => Some(Tensor::cat(&columns(factor, dtype)?, 1)?),
        None => None,
    };
    let mut db = Vec::new();
    let mut dh: Option<Tensor> = None;
    let mut dw = sums.take(&to.head);
    let fresh = dw.is_none();
    for part in logits.parts() {
        let of = of(part.clone())?;
        if to.hidden.wanted() {
            let w = logits.head.narrow(0, part.start, part.len())?;
            let part = wide(&product(&of, &w)?)?;
            dh = Some(match dh {
                None => part,
                Some(sum) => (sum + part)?,
            });
        }
        if to.head.wanted() {
            let rows = product(&of.t()?, &h)?;
            dw = Some(logits.placed(dw, rows, part, fresh)?);
        }
        if let Some(of_bias) = &of_bias {
            db.push(
                wide(&product(&of.t()?, of_bias)?)?
                    .sum(1)?
                    .to_dtype(dtype)?,
            );
        }
    }
    if let Some(dw) = dw {
        sums.add(&to.head, dw)?;
    }
    if let Some(bias) = to.bias {
        sums.add(&bias, Tensor::cat(&db, 0)?)?;
    }
    match dh {
        Some(dh) => sums.add(&to.hidden, dh.broadcast_mul(factor)?.to_dtype(dtype)?),
        None => Ok(()),
    }
}
