//! [`super::rms_norm`] on the CPU.

use super::float::Float;
use super::kernel::{same, tensor};
use super::memory::{add_up, parts2, rows_per_task, unwritten};
use super::simd::{sum, vectorised};
use super::slice::Slice;
use crate::error::Result;
use crate::llm::tape::{Node, Tape};

/// Backward, with `r = 1/√(mean x² + ε)` and `g = dy (w + offset)`:
/// `dx = r (g − x r² mean(g x))`, `dw = Σ dy x r`.
pub fn rms_norm<T: Float>(
    tape: &Tape,
    x: &Node,
    weight: &Node,
    epsilon: f64,
    offset: f64,
) -> Result<Node> {
    let (n, width) = x.value().dims2()?;
    same("rms_norm", width, weight.value().dims1()?)?;
    let value = x.value().contiguous()?;
    let weights: Vec<T> = {
        let w = weight.value().contiguous()?;
        let w = Slice::<T>::new(&w)?;
        w.iter().map(|&w| w + T::from_f64(offset)).collect()
    };
    let each = rows_per_task(width);
    let size = T::from_f64(width as f64);
    // SAFETY: the loop below writes every number of both.
    let (mut out, mut roots) = unsafe { (unwritten::<T>(n * width), unwritten::<T>(n)) };
    {
        let x = Slice::<T>::new(&value)?;
        let epsilon = T::from_f64(epsilon);
        parts2(
            [&mut out, &mut roots],
            [each * width, each],
            |i, out, roots| {
                let x = x[i * each * width..].chunks_exact(width);
                vectorised(
                    #[inline(always)]
                    || {
                        for ((out, root), x) in out.chunks_exact_mut(width).zip(roots).zip(x) {
                            let r = T::one() / (sum(x, x, |x, y| x * y) / size + epsilon).sqrt();
                            for ((out, &x), &w) in out.iter_mut().zip(x).zip(&weights) {
                                *out = x * r * w;
                            }
                            *root = r;
                        }
                    },
                );
            },
        );
    }
    Ok(tape.record(tensor(out, (n, width))?, &[x, weight], || {
        let (node, weight) = (x.clone(), weight.clone());
        Box::new(move |gradient, sums| {
            let gradient = gradient.contiguous()?;
            let (x, dy) = (Slice::<T>::new(&value)?, Slice::<T>::new(&gradient)?);
            // SAFETY: the loop below writes every number.
            let mut dx = unsafe { unwritten::<T>(n * width) };
            let mut dw = vec![T::zero(); n.div_ceil(each) * width];
            parts2([&mut dx, &mut dw], [each * width, width], |i, dx, dw| {
                let from = i * each * width;
                let rows = x[from..]
                    .chunks_exact(width)
                    .zip(dy[from..].chunks_exact(width));
                vectorised(
                    #[inline(always)]
                    || {
                        let dx = dx.chunks_exact_mut(width);
                        for ((dx, (x, dy)), &r) in dx.zip(rows).zip(&roots[i * each..]) {
                            let terms = dx.iter_mut().zip(dy).zip(&weights);
                            terms.for_each(|((g, &dy), &w)| *g = dy * w);
                            let pull = r * r * sum(dx, x, |g, x| g * x) / size;
                            for ((dx, &x), (dw, &dy)) in
                                dx.iter_mut().zip(x).zip(dw.iter_mut().zip(dy))
                            {
                                *dx = r * (*dx - x * pull);
                                *dw += dy * x * r;
                            }
                        }
                    },
                );
            });
            sums.add(&node, tensor(dx, (n, width))?)?;
            sums.add(&weight, tensor(add_up(&dw, width), width)?)
        })
    }))
}
