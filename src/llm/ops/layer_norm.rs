//! [`super::layer_norm`] on the CPU.

use super::float::Float;
use super::kernel::{same, tensor};
use super::memory::{add_up, parts2, rows_per_task, unwritten};
use super::simd::{sum, vectorised};
use super::slice::Slice;
use crate::error::Result;
use crate::llm::tape::{Node, Tape};

/// Backward, with `x̂ = (x − mean)/√(variance + ε)`, `r` that root's reciprocal and `g = dy w`:
/// `dx = r (g − mean g − x̂ mean(g x̂))`, `dw = Σ dy x̂`, `db = Σ dy`.
pub fn layer_norm<T: Float>(
    tape: &Tape,
    x: &Node,
    weight: &Node,
    bias: &Node,
    epsilon: f64,
) -> Result<Node> {
    let (n, width) = x.value().dims2()?;
    same("layer_norm", width, weight.value().dims1()?)?;
    same("layer_norm", width, bias.value().dims1()?)?;
    let value = x.value().contiguous()?;
    let (w, b) = (weight.value().contiguous()?, bias.value().contiguous()?);
    let each = rows_per_task(width);
    let size = T::from_f64(width as f64);
    // Mean and reciprocal root of each row.
    let mut moments = vec![T::zero(); 2 * n];
    // SAFETY: the loop below writes every number.
    let mut out = unsafe { unwritten::<T>(n * width) };
    {
        let x = Slice::<T>::new(&value)?;
        let (w, b) = (Slice::<T>::new(&w)?, Slice::<T>::new(&b)?);
        let epsilon = T::from_f64(epsilon);
        parts2(
            [&mut out, &mut moments],
            [each * width, 2 * each],
            |i, out, moments| {
                let x = x[i * each * width..].chunks_exact(width);
                vectorised(
                    #[inline(always)]
                    || {
                        let rows = out.chunks_exact_mut(width).zip(moments.chunks_exact_mut(2));
                        for ((out, moments), x) in rows.zip(x) {
                            let mean = sum(x, x, |x, _| x) / size;
                            let variance = sum(x, x, |x, _| (x - mean) * (x - mean)) / size;
                            let r = T::one() / (variance + epsilon).sqrt();
                            for ((out, &x), (&w, &b)) in
                                out.iter_mut().zip(x).zip(w.iter().zip(&*b))
                            {
                                *out = (x - mean) * r * w + b;
                            }
                            moments.copy_from_slice(&[mean, r]);
                        }
                    },
                );
            },
        );
    }
    Ok(
        tape.record(tensor(out, (n, width))?, &[x, weight, bias], || {
            let (node, weight, bias) = (x.clone(), weight.clone(), bias.clone());
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
                    |i, dx, dwb| {
                        let from = i * each * width;
                        let rows = x[from..]
                            .chunks_exact(width)
                            .zip(dy[from..].chunks_exact(width));
                        let moments = moments[2 * i * each..].chunks_exact(2);
                        let (dw, db) = dwb.split_at_mut(width);
                        vectorised(
                            #[inline(always)]
                            || {
                                let dx = dx.chunks_exact_mut(width);
                                for ((dx, (x, dy)), moments) in dx.zip(rows).zip(moments) {
                                    let (mean, r) = (moments[0], moments[1]);
                                    let terms = dx.iter_mut().zip(dy).zip(&*w);
                                    terms.for_each(|((g, &dy), &w)| *g = dy * w);
                                    let level = sum(dx, x, |g, _| g) / size;
                                    let pull = sum(dx, x, |g, x| g * ((x - mean) * r)) / size;
                                    let sums = dw.iter_mut().zip(db.iter_mut()).zip(dy);
                                    for ((dx, &x), ((dw, db), &dy)) in
                                        dx.iter_mut().zip(x).zip(sums)
                                    {
                                        let unit = (x - mean) * r;
                                        *dx = r * (*dx - level - unit * pull);
                                        *dw += dy * unit;
                                        *db += dy;
                                    }
                                }
                            },
                        );
                    },
                );
                sums.add(&node, tensor(dx, (n, width))?)?;
                let dwb = add_up(&dwb, 2 * width);
                sums.add(&weight, tensor(dwb[..width].to_vec(), width)?)?;
                sums.add(&bias, tensor(dwb[width..].to_vec(), width)?)
            })
        }),
    )
}
