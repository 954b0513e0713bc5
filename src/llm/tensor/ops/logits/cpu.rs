//! Logits on the CPU, those of a few rows at a time, and the gradients of what they are made of.

use std::ops::Range;

use candle_core::Tensor;

use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::{accumulate, same, tensor};
use crate::llm::tensor::ops::matmul::{Matrix, Mode, Output, Threads, matmul};
use crate::llm::tensor::ops::memory::{TASK, parts, repeat, rows_per_task, unwritten};
use crate::llm::tensor::ops::simd::add;
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::tape::{Node, Tape};

/// Logits of one chunk of rows.
pub const CHUNK: usize = 1 << 22;

/// Up to so many logits are kept for the backward; beyond, it makes them again.
pub const KEPT: usize = 1 << 25;

/// `h Wᵀ + b`: `[M, D]`, `[V, D]`, `[V]` → `[M, V]`, made when asked for.
pub struct Logits {
    hidden: Tensor,
    head: Tensor,
    bias: Option<Tensor>,
    /// M, D, V
    shape: [usize; 3],
}

impl Logits {
    /// # Errors
    /// Shapes that do not fit.
    pub fn new(
        operation: &'static str,
        [hidden, head]: [&Tensor; 2],
        bias: Option<&Tensor>,
    ) -> Result<Self> {
        let (m, width) = hidden.dims2()?;
        let (vocabulary, inner) = head.dims2()?;
        same(operation, width, inner)?;
        if let Some(bias) = bias {
            same(operation, vocabulary, bias.dims1()?)?;
        }
        Ok(Self {
            hidden: hidden.contiguous()?,
            head: head.contiguous()?,
            bias: bias.map(Tensor::contiguous).transpose()?,
            shape: [m, width, vocabulary],
        })
    }

    /// V
    pub fn vocabulary(&self) -> usize {
        self.shape[2]
    }

    /// Writes every number of those rows.
    ///
    /// # Errors
    /// Numbers of another precision.
    pub fn write<T: Float>(&self, rows: Range<usize>, out: &mut [T]) -> Result<()> {
        match &self.bias {
            None => self.product(rows, out, Mode::Write),
            Some(bias) => {
                repeat(&Slice::new(bias)?, out);
                self.product(rows, out, Mode::Add)
            }
        }
    }

    /// `h Wᵀ` of those rows.
    ///
    /// # Errors
    /// Numbers of another precision.
    pub fn product<T: Float>(&self, rows: Range<usize>, out: &mut [T], mode: Mode) -> Result<()> {
        let [_, width, vocabulary] = self.shape;
        let (h, w) = (Slice::<T>::new(&self.hidden)?, Slice::new(&self.head)?);
        let h = Matrix::new(&h[rows.start * width..], rows.len(), width);
        let w = Matrix::new(&w, vocabulary, width);
        let out = Output::new(out, rows.len(), vocabulary);
        matmul(out, h, w.t(), mode, Threads::All);
        Ok(())
    }
}

/// Rows of a chunk of at most so many logits.
pub fn each_chunk(most: usize, vocabulary: usize) -> usize {
    (most / vocabulary.max(1)).max(1)
}

/// A number made of each row of logits.
pub trait OfRows<T> {
    /// Numbers of each row that are kept for the backward; the last of them is the result.
    const EACH: usize;

    /// Those numbers of some rows, whose logits it turns into what the backward needs.
    ///
    /// # Errors
    /// Numbers of another precision.
    fn forward(&self, rows: Range<usize>, logits: &mut [T], results: &mut [T]) -> Result<()>;

    /// Turns what the forward left into the gradient of the logits.
    fn backward(&self, rows: Range<usize>, numbers: &mut [T], results: &[T], dy: &[T]);
}

/// What `f` makes of every row: `[M]`, on so many logits at a time and with up to so many kept.
///
/// Backward, from `dlogits`: `dh = dlogits W`, `dW = dlogitsᵀ h`, `db = Σ dlogits`.
///
/// # Errors
/// Shapes that do not fit.
pub fn of_rows<T: Float, F: OfRows<T> + 'static>(
    tape: &Tape,
    operation: &'static str,
    [hidden, head]: [&Node; 2],
    bias: Option<&Node>,
    f: F,
    [chunk, kept]: [usize; 2],
) -> Result<Node> {
    let values = [hidden.value(), head.value()];
    let logits = Logits::new(operation, values, bias.map(Node::value))?;
    let [m, width, vocabulary] = logits.shape;
    let mut inputs = vec![hidden, head];
    inputs.extend(bias);
    let each = each_chunk(chunk, vocabulary);
    let chunks = move || {
        (0..m)
            .step_by(each)
            .map(move |from| from..m.min(from + each))
    };
    let keep = tape.wants(&inputs) && m * vocabulary <= kept;
    let mut results = Vec::with_capacity(m);
    let (mut kept, mut last) = (Vec::new(), None);
    for rows in chunks() {
        let chunk = Chunk::new(&logits, &f, rows, last.take())?;
        results.extend(
            chunk
                .results
                .chunks_exact(F::EACH)
                .map(|of| of[F::EACH - 1]),
        );
        if keep {
            kept.push(chunk)
        } else {
            last = Some(chunk)
        }
    }
    drop(last);
    Ok(tape.record(tensor(results, m)?, &inputs, || {
        let (hidden, head) = (hidden.target(), head.target());
        let bias = bias.map(Node::target);
        Box::new(move |gradient, sums| {
            let gradient = gradient.contiguous()?;
            let dy = Slice::<T>::new(&gradient)?;
            let (h, w) = (Slice::new(&logits.hidden)?, Slice::new(&logits.head)?);
            let w = Matrix::new(&w, vocabulary, width);
            // SAFETY: each chunk writes its rows.
            let mut dh = unsafe { unwritten::<T>(m * width) };
            let (mut kept, mut last) = (kept.into_iter(), None);
            for rows in chunks() {
                let mut chunk = match kept.next() {
                    Some(chunk) => chunk,
                    None => Chunk::new(&logits, &f, rows.clone(), last.take())?,
                };
                let dy = &dy[rows.clone()];
                f.backward(rows.clone(), &mut chunk.numbers, &chunk.results, dy);
                let n = rows.len();
                let part = rows.start * width..rows.end * width;
                let dlogits = Matrix::new(&chunk.numbers, n, vocabulary);
                if hidden.wanted() {
                    let out = Output::new(&mut dh[part.clone()], n, width);
                    matmul(out, dlogits, w, Mode::Write, Threads::All);
                }
                let h = Matrix::new(&h[part], n, width);
                // SAFETY: the product writes every number.
                unsafe {
                    accumulate(sums, &head, |dw, mode| {
                        let out = Output::new(dw, vocabulary, width);
                        matmul(out, dlogits.t(), h, mode, Threads::All);
                    })?;
                    if let Some(bias) = &bias {
                        accumulate(sums, bias, |db, mode| add_rows(&chunk.numbers, db, mode))?;
                    }
                }
                last = Some(chunk);
            }
            if hidden.wanted() {
                sums.add(&hidden, tensor(dh, (m, width))?)
            } else {
                Ok(())
            }
        })
    }))
}

/// What the backward needs of some rows, and of each its results.
struct Chunk<T> {
    numbers: Vec<T>,
    results: Vec<T>,
}

impl<T: Float> Chunk<T> {
    /// In the memory of `last`, if there is one.
    fn new<F: OfRows<T>>(
        logits: &Logits,
        f: &F,
        rows: Range<usize>,
        last: Option<Self>,
    ) -> Result<Self> {
        let (n, vocabulary) = (rows.len(), logits.vocabulary());
        let mut numbers = match last {
            // Chunks are of one size; the last may be smaller.
            Some(mut last) => {
                last.numbers.truncate(n * vocabulary);
                last.numbers
            }
            // SAFETY: every number is written.
            None => unsafe { unwritten(n * vocabulary) },
        };
        logits.write(rows.clone(), &mut numbers)?;
        let mut results = vec![T::zero(); F::EACH * n];
        f.forward(rows, &mut numbers, &mut results)?;
        Ok(Self { numbers, results })
    }
}

/// `sum = Σ rows`, or `sum += Σ rows`, a part of the columns at a time.
fn add_rows<T: Float>(rows: &[T], sum: &mut [T], mode: Mode) {
    let width = sum.len();
    parts(
        sum,
        TASK,
        #[inline(always)]
        |i, sum| {
            if mode == Mode::Write {
                sum.fill(T::zero());
            }
            let mut at = i * TASK;
            while at < rows.len() {
                add(sum, &rows[at..]);
                at += width;
            }
        },
    );
}

/// Each row of so many numbers times its factor and `by`.
pub fn scale_rows<T: Float>(numbers: &mut [T], width: usize, factors: &[T], by: T) {
    let each = rows_per_task(width);
    parts(
        numbers,
        each * width,
        #[inline(always)]
        |i, numbers| {
            for row in 0..numbers.len() / width {
                let factor = factors[i * each + row] * by;
                for x in &mut numbers[row * width..][..width] {
                    *x *= factor;
                }
            }
        },
    );
}
