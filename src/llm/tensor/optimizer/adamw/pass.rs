//! One step of one parameter.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{Config, Moments};
use crate::error::{Error, Result};
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::simd::vectorised;
use crate::llm::tensor::ops::slice::{Slice, modify};
use crate::llm::tensor::optimizer::{CHUNK, pieces};

/// The factors of one step.
pub struct Pass {
    pub keep: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub rate: f64,
    pub root: f64,
    pub epsilon: f64,
}

impl Pass {
    pub fn new(config: &Config, rank: usize, step: u32, lr: f64) -> Self {
        let decay = if config.decay_vectors || rank >= 2 {
            config.weight_decay
        } else {
            0.0
        };
        let step = f64::from(step);
        Self {
            keep: 1.0 - lr * decay,
            beta1: config.beta1,
            beta2: config.beta2,
            rate: lr / (1.0 - config.beta1.powf(step)),
            root: (1.0 - config.beta2.powf(step)).sqrt().recip(),
            epsilon: config.epsilon,
        }
    }

    /// One pass over the numbers.
    pub fn fused<T: Float>(
        &self,
        theta: &Tensor,
        gradient: &Tensor,
        moments: &Moments,
        scale: f64,
    ) -> Result<()> {
        let n = T::of;
        let (keep, scale, rate) = (n(self.keep), n(scale), n(self.rate));
        let (root, epsilon) = (n(self.root), n(self.epsilon));
        let (new1, new2) = (n(1.0 - self.beta1), n(1.0 - self.beta2));
        let old2 = n(self.beta2);
        let each = |p: &mut [T], m: &mut [T], v: &mut [T], g: &[T]| {
            vectorised(
                #[inline(always)]
                || {
                    let n = p.len();
                    let (m, v, g) = (&mut m[..n], &mut v[..n], &g[..n]);
                    for i in 0..n {
                        let g = g[i] * scale;
                        m[i] += (g - m[i]) * new1;
                        v[i] = v[i] * old2 + g * g * new2;
                        p[i] = p[i] * keep - rate * m[i] / (v[i].sqrt() * root + epsilon);
                    }
                },
            );
        };
        let g = Slice::<T>::new(gradient)?;
        modify(theta, |p: &mut [T]| {
            modify(&moments.first, |m: &mut [T]| {
                modify(&moments.second, |v: &mut [T]| {
                    if p.len() <= CHUNK {
                        each(p, m, v, &g)
                    } else {
                        (p.par_chunks_mut(CHUNK))
                            .zip(m.par_chunks_mut(CHUNK))
                            .zip(v.par_chunks_mut(CHUNK))
                            .zip(g.par_chunks(CHUNK))
                            .for_each(|(((p, m), v), g)| each(p, m, v, g))
                    }
                })
            })
        })??
    }

    /// The same of a device's operations, on so many numbers at once, with the weights rounded from
    /// their masters where there are any.
    pub fn composed(
        &self,
        theta: &Tensor,
        gradient: &Tensor,
        moments: &Moments,
        scale: f64,
        piece: usize,
    ) -> Result<()> {
        let master = moments.master.as_ref().unwrap_or(theta);
        let [theta, p, m, v] = [theta, master, &moments.first, &moments.second].map(flat);
        let (theta, p, m, v) = (theta?, p?, m?, v?);
        let gradient = gradient.flatten_all()?;
        for range in pieces(theta.elem_count(), piece) {
            let part = |t: &Tensor| t.narrow(0, range.start, range.len());
            let mut g = part(&gradient)?.to_dtype(p.dtype())?;
            if scale != 1.0 {
                g = (g * scale)?;
            }
            let first = ((part(&m)? * self.beta1)? + (&g * (1.0 - self.beta1))?)?;
            m.slice_set(&first, 0, range.start)?;
            let second = ((part(&v)? * self.beta2)? + (g.sqr()? * (1.0 - self.beta2))?)?;
            drop(g);
            v.slice_set(&second, 0, range.start)?;
            let root = second.sqrt()?.affine(self.root, self.epsilon)?;
            drop(second);
            let change = ((first * self.rate)? / root)?;
            let moved = ((part(&p)? * self.keep)? - change)?;
            if moments.master.is_some() {
                p.slice_set(&moved, 0, range.start)?;
            }
            theta.slice_set(&moved.to_dtype(theta.dtype())?, 0, range.start)?;
        }
        Ok(())
    }
}

/// A tensor's numbers in one row, in the same memory.
fn flat(tensor: &Tensor) -> Result<Tensor> {
    if !tensor.is_contiguous() {
        let message = "a parameter that is not contiguous cannot be changed in place".into();
        let backend = "optimiser";
        return Err(Error::Backend { backend, message });
    }
    Ok(tensor.flatten_all()?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn fused_and_composed_agree() {
        let numbers = |seed: f64| -> Tensor {
            let numbers = (0..70).map(|i| (seed * f64::from(i)).sin());
            Tensor::from_iter(numbers, &Device::Cpu).unwrap()
        };
        let moments = || Moments {
            steps: 0,
            first: numbers(0.3),
            second: numbers(0.7).sqr().unwrap(),
            master: None,
        };
        let (a, b) = (moments(), moments());
        let (x, y) = (numbers(1.1), numbers(1.1));
        for step in 1..5 {
            let pass = Pass::new(&Config::default(), 1, step, 0.1);
            let gradient = numbers(f64::from(step));
            pass.fused::<f64>(&x, &gradient, &a, 0.5).unwrap();
            let piece = [16, 70, 1 << 24, 7][step as usize - 1];
            pass.composed(&y, &gradient, &b, 0.5, piece).unwrap();
        }
        for (fused, composed) in [(x, y), (a.first, b.first), (a.second, b.second)] {
            let far = (fused - composed)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap();
            assert!(far.to_scalar::<f64>().unwrap() < 1e-14);
        }
    }
}
