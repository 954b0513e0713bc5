//! One step of one parameter.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{Config, Moments};
use crate::error::Result;
use crate::llm::ops::float::Float;
use crate::llm::ops::simd::vectorised;
use crate::llm::ops::slice::{Slice, modify};
use crate::llm::optimizer::CHUNK;

/// The factors of one step.
pub struct Pass {
    keep: f64,
    beta1: f64,
    beta2: f64,
    rate: f64,
    root: f64,
    epsilon: f64,
}

impl Pass {
    pub fn new(config: &Config, rank: usize, step: u32, lr: f64) -> Self {
        let decay = match config.decay_vectors || rank >= 2 {
            true => config.weight_decay,
            false => 0.0,
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
                modify(&moments.second, |v: &mut [T]| match p.len() <= CHUNK {
                    true => each(p, m, v, &g),
                    false => (p.par_chunks_mut(CHUNK))
                        .zip(m.par_chunks_mut(CHUNK))
                        .zip(v.par_chunks_mut(CHUNK))
                        .zip(g.par_chunks(CHUNK))
                        .for_each(|(((p, m), v), g)| each(p, m, v, g)),
                })
            })
        })??
    }

    /// The same of candle's operations.
    pub fn composed(
        &self,
        theta: &Tensor,
        gradient: &Tensor,
        moments: &mut Moments,
        scale: f64,
    ) -> Result<()> {
        let g = (gradient * scale)?;
        let first = ((&moments.first * self.beta1)? + (&g * (1.0 - self.beta1))?)?;
        let second = ((&moments.second * self.beta2)? + (g.sqr()? * (1.0 - self.beta2))?)?;
        let root = ((second.sqrt()? * self.root)? + self.epsilon)?;
        let change = ((&first * self.rate)? / root)?;
        theta.slice_set(&((theta * self.keep)? - change)?, 0, 0)?;
        (moments.first, moments.second) = (first, second);
        Ok(())
    }
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
        };
        let (mut a, mut b) = (moments(), moments());
        let (x, y) = (numbers(1.1), numbers(1.1));
        for step in 1..5 {
            let pass = Pass::new(&Config::default(), 1, step, 0.1);
            let gradient = numbers(f64::from(step));
            pass.fused::<f64>(&x, &gradient, &a, 0.5).unwrap();
            pass.composed(&y, &gradient, &mut b, 0.5).unwrap();
        }
        a.steps = 4;
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
