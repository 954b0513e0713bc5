//! [`layer_norm`](super::layer_norm) on the CPU.

use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::{runs, same, tensor};
use crate::llm::tensor::ops::memory::{add_up, parts2, rows_per_task, unwritten};
use crate::llm::tensor::ops::simd::{map, sum};
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward, with `x̂ = (x − mean)/√(variance + ε)`, `r` that root's reciprocal and `g = dy w`:
/// `dx = r (g − mean g − x̂ mean(g x̂))`, `dw = Σ dy x̂`, `db = Σ dy`.
pub fn layer_norm<T: Float>(
    tape: &Tape,
    x: &Node,
    weight: &Node,
    bias: &Node,
    epsilon: f64,
) -> Result<Node> {
    let width = weight.value().dims1()?;
    let n = runs("layer_norm", x.value(), width)?;
    same("layer_norm", width, bias.value().dims1()?)?;
    let value = x.value().contiguous()?;
    let (w, b) = (weight.value().contiguous()?, bias.value().contiguous()?);
    let each = rows_per_task(width);
    // Mean and reciprocal root of each row.
    let mut moments = vec![T::zero(); 2 * n];
    // SAFETY: the loop below writes every number.
    let mut out = unsafe { unwritten::<T>(n * width) };
    {
        let x = Slice::<T>::new(&value)?;
        let (w, b) = (Slice::<T>::new(&w)?, Slice::<T>::new(&b)?);
        let epsilon = T::of(epsilon);
        parts2(
            [&mut out, &mut moments],
            [each * width, 2 * each],
            #[inline(always)]
            |i, out, moments| {
                for (row, moments) in moments.chunks_exact_mut(2).enumerate() {
                    let x = &x[(i * each + row) * width..][..width];
                    let out = &mut out[row * width..][..width];
                    moments.copy_from_slice(&forward(out, x, &w, &b, epsilon));
                }
            },
        );
    }
    Ok(
        tape.record(tensor(out, value.shape())?, &[x, weight, bias], || {
            let (node, weight, bias) = (x.target(), weight.target(), bias.target());
            Box::new(move |gradient, sums| {
                let gradient = gradient.contiguous()?;
                let (x, dy) = (Slice::<T>::new(&value)?, Slice::<T>::new(&gradient)?);
                let w = Slice::<T>::new(&w)?;
                // SAFETY: the loop below writes every number.
                let mut dx = unsafe { unwritten::<T>(n * width) };
                // dw and db of each task's rows.
                let mut dwb = vec![T::zero(); n.div_ceil(each) * 2 * width];
                parts2(
                    [&mut dx, &mut dwb],
                    [each * width, 2 * width],
                    #[inline(always)]
                    |i, dx, dwb| {
                        for row in 0..dx.len() / width {
                            let at = (i * each + row) * width;
                            let (x, dy) = (&x[at..][..width], &dy[at..][..width]);
                            let moments = &moments[2 * (i * each + row)..][..2];
                            let dx = &mut dx[row * width..][..width];
                            backward(dx, dwb, x, dy, &w, [moments[0], moments[1]]);
                        }
                    },
                );
                sums.add(&node, tensor(dx, value.shape())?)?;
                let dwb = add_up(&dwb, 2 * width);
                sums.add(&weight, tensor(dwb[..width].to_vec(), width)?)?;
                sums.add(&bias, tensor(dwb[width..].to_vec(), width)?)
            })
        }),
    )
}

/// A row; gives the mean and r.
#[inline(always)]
pub fn forward<T: Float>(out: &mut [T], x: &[T], w: &[T], b: &[T], epsilon: T) -> [T; 2] {
    let n = x.len();
    let size = T::of(n as f64);
    let mean = sum(x, x, |x, _| x) / size;
    let variance = sum(x, x, |x, _| (x - mean) * (x - mean)) / size;
    let r = T::one() / (variance + epsilon).sqrt();
    let (out, w, b) = (&mut out[..n], &w[..n], &b[..n]);
    for i in 0..n {
        out[i] = (x[i] - mean) * r * w[i] + b[i];
    }
    [mean, r]
}

#[inline(always)]
fn backward<T: Float>(dx: &mut [T], dwb: &mut [T], x: &[T], dy: &[T], w: &[T], [mean, r]: [T; 2]) {
    let n = dx.len();
    let (x, dy) = (&x[..n], &dy[..n]);
    let (dw, db) = dwb.split_at_mut(n);
    let (dw, db) = (&mut dw[..n], &mut db[..n]);
    let size = T::of(n as f64);
    map(dx, dy, w, |dy, w| dy * w);
    let level = sum(dx, x, |g, _| g) / size;
    let pull = sum(dx, x, |g, x| g * ((x - mean) * r)) / size;
    for i in 0..n {
        let unit = (x[i] - mean) * r;
        dx[i] = r * (dx[i] - level - unit * pull);
        dw[i] += dy[i] * unit;
        db[i] += dy[i];
    }
}
