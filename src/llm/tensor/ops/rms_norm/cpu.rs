//! [`rms_norm`](super::rms_norm) on the CPU.

use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::{runs, tensor};
use crate::llm::tensor::ops::memory::{add_up, parts2, rows_per_task, unwritten};
use crate::llm::tensor::ops::simd::{map, sum};
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward, with `r = 1/√(mean x² + ε)` and `g = dy (w + offset)`:
/// `dx = r (g − x r² mean(g x))`, `dw = Σ dy x r`.
pub fn rms_norm<T: Float>(
    tape: &Tape,
    x: &Node,
    weight: &Node,
    epsilon: f64,
    offset: f64,
) -> Result<Node> {
    let width = weight.value().dims1()?;
    let n = runs("rms_norm", x.value(), width)?;
    let value = x.value().contiguous()?;
    let weights: Vec<T> = {
        let w = weight.value().contiguous()?;
        let w = Slice::<T>::new(&w)?;
        w.iter().map(|&w| w + T::of(offset)).collect()
    };
    let each = rows_per_task(width);
    // SAFETY: the loop below writes every number of both.
    let (mut out, mut roots) = unsafe { (unwritten::<T>(n * width), unwritten::<T>(n)) };
    {
        let x = Slice::<T>::new(&value)?;
        let epsilon = T::of(epsilon);
        parts2(
            [&mut out, &mut roots],
            [each * width, each],
            #[inline(always)]
            |i, out, roots| {
                for (row, root) in roots.iter_mut().enumerate() {
                    let x = &x[(i * each + row) * width..][..width];
                    *root = forward(&mut out[row * width..][..width], x, &weights, epsilon);
                }
            },
        );
    }
    Ok(tape.record(tensor(out, value.shape())?, &[x, weight], || {
        let (node, weight) = (x.target(), weight.target());
        Box::new(move |gradient, sums| {
            let gradient = gradient.contiguous()?;
            let (x, dy) = (Slice::<T>::new(&value)?, Slice::<T>::new(&gradient)?);
            // SAFETY: the loop below writes every number.
            let mut dx = unsafe { unwritten::<T>(n * width) };
            let mut dw = vec![T::zero(); n.div_ceil(each) * width];
            parts2(
                [&mut dx, &mut dw],
                [each * width, width],
                #[inline(always)]
                |i, dx, dw| {
                    for row in 0..dx.len() / width {
                        let at = (i * each + row) * width;
                        let (x, dy) = (&x[at..][..width], &dy[at..][..width]);
                        let dx = &mut dx[row * width..][..width];
                        backward(dx, dw, x, dy, &weights, roots[i * each + row]);
                    }
                },
            );
            sums.add(&node, tensor(dx, value.shape())?)?;
            sums.add(&weight, tensor(add_up(&dw, width), width)?)
        })
    }))
}

/// A row; gives r.
#[inline(always)]
pub fn forward<T: Float>(out: &mut [T], x: &[T], w: &[T], epsilon: T) -> T {
    let square = sum(x, x, |x, y| x * y) / T::of(x.len() as f64);
    let r = T::one() / (square + epsilon).sqrt();
    map(out, x, w, |x, w| x * r * w);
    r
}

#[inline(always)]
fn backward<T: Float>(dx: &mut [T], dw: &mut [T], x: &[T], dy: &[T], w: &[T], r: T) {
    let n = dx.len();
    let (dw, x, dy) = (&mut dw[..n], &x[..n], &dy[..n]);
    map(dx, dy, w, |dy, w| dy * w);
    let pull = r * r * sum(dx, x, |g, x| g * x) / T::of(n as f64);
    for i in 0..n {
        dx[i] = r * (dx[i] - x[i] * pull);
        dw[i] += dy[i] * x[i] * r;
    }
}
