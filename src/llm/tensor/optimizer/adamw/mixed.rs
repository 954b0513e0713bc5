//! One step of a parameter that is kept coarser than it is trained.

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::Moments;
use super::pass::Pass;
use crate::error::{Error, Result};
use crate::llm::tensor::ops::float::Stored;
use crate::llm::tensor::ops::simd::vectorised;
use crate::llm::tensor::ops::slice::{Slice, modify};
use crate::llm::tensor::optimizer::CHUNK;

/// Numbers that come from f32 by rounding.
pub trait Coarse: Stored {
    /// The nearest to x, of two the even one.
    fn rounded(x: f32) -> Self;

    /// The same number.
    fn wide(self) -> f32;
}

macro_rules! coarse {
    ($t:ty) => {
        impl Coarse for $t {
            #[inline(always)]
            fn rounded(x: f32) -> Self {
                Self::from_f32(x)
            }

            #[inline(always)]
            fn wide(self) -> f32 {
                self.to_f32()
            }
        }
    };
}
coarse!(bf16);
coarse!(f16);

impl Coarse for f32 {
    #[inline(always)]
    fn rounded(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
}

impl Pass {
    /// One pass over the numbers: the gradient is read (as coarse as the weights, or f32), master
    /// and moments change in f32, the weight is written.
    pub fn mixed<W: Coarse>(
        &self,
        theta: &Tensor,
        gradient: &Tensor,
        moments: &Moments,
        scale: f64,
    ) -> Result<()> {
        let Some(master) = &moments.master else {
            let message = "a parameter without its master weight".into();
            let backend = "optimiser";
            return Err(Error::Backend { backend, message });
        };
        match gradient.dtype() {
            DType::F32 => self.pass::<W, f32>(theta, master, gradient, moments, scale as f32),
            _ => self.pass::<W, W>(theta, master, gradient, moments, scale as f32),
        }
    }

    fn pass<W: Coarse, G: Coarse>(
        &self,
        theta: &Tensor,
        master: &Tensor,
        gradient: &Tensor,
        moments: &Moments,
        scale: f32,
    ) -> Result<()> {
        let n = |x: f64| x as f32;
        let (keep, rate, root, epsilon) =
            (n(self.keep), n(self.rate), n(self.root), n(self.epsilon));
        let (new1, new2, old2) = (n(1.0 - self.beta1), n(1.0 - self.beta2), n(self.beta2));
        let each = |w: &mut [W], p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[G]| {
            vectorised(
                #[inline(always)]
                || {
                    let n = w.len();
                    let (p, m, v, g) = (&mut p[..n], &mut m[..n], &mut v[..n], &g[..n]);
                    for i in 0..n {
                        let g = g[i].wide() * scale;
                        m[i] += (g - m[i]) * new1;
                        v[i] = v[i] * old2 + g * g * new2;
                        p[i] = p[i] * keep - rate * m[i] / (v[i].sqrt() * root + epsilon);
                        w[i] = W::rounded(p[i]);
                    }
                },
            );
        };
        let g = Slice::<G>::new(gradient)?;
        modify(theta, |w: &mut [W]| {
            modify(master, |p: &mut [f32]| {
                modify(&moments.first, |m: &mut [f32]| {
                    modify(&moments.second, |v: &mut [f32]| {
                        (w.par_chunks_mut(CHUNK).zip(p.par_chunks_mut(CHUNK)))
                            .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)))
                            .zip(g.par_chunks(CHUNK))
                            .for_each(|(((w, p), (m, v)), g)| each(w, p, m, v, g));
                    })
                })
            })
        })???
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::llm::tensor::optimizer::adamw::Config;

    fn wave(n: usize, frequency: f64) -> Tensor {
        let numbers = (0..n).map(|i| (frequency * i as f64 + 0.2).sin() as f32);
        Tensor::from_iter(numbers, &Device::Cpu).unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f64> {
        tensor.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    /// The master takes the steps that an f32 weight takes on the same gradient, to the bit; the
    /// weight is its rounding; a device's operations come to the same.
    #[test]
    fn a_master_is_an_f32_weight_and_the_weight_its_rounding() {
        let n = 3 * CHUNK + 11;
        for (dtype, bits) in [(DType::BF16, 8), (DType::F16, 11)] {
            for of_gradient in [dtype, DType::F32] {
                let start = wave(n, 0.31).to_dtype(dtype).unwrap();
                let [theta, other] = [&start, &start].map(|t| t.copy().unwrap());
                let fine = start.to_dtype(DType::F32).unwrap();
                let [a, b] = [&theta, &other].map(|t| Moments::new(t).unwrap());
                let of_fine = Moments::new(&fine).unwrap();
                for step in 1..6 {
                    let pass = Pass::new(&Config::default(), 2, step, 1e-3);
                    let gradient = wave(n, f64::from(step)).to_dtype(of_gradient).unwrap();
                    match dtype {
                        DType::BF16 => pass.mixed::<bf16>(&theta, &gradient, &a, 0.5),
                        _ => pass.mixed::<f16>(&theta, &gradient, &a, 0.5),
                    }
                    .unwrap();
                    pass.composed(&other, &gradient, &b, 0.5, CHUNK).unwrap();
                    let gradient = gradient.to_dtype(DType::F32).unwrap();
                    pass.fused::<f32>(&fine, &gradient, &of_fine, 0.5).unwrap();
                }
                let master = a.master.as_ref().unwrap();
                assert_eq!(numbers(master), numbers(&fine));
                assert_eq!(numbers(&a.second), numbers(&of_fine.second));
                let rounded = master.to_dtype(dtype).unwrap();
                assert_eq!(numbers(&theta), numbers(&rounded));
                assert_ne!(numbers(&theta), numbers(&start));
                let unit = 2.0f64.powi(-bits);
                let all = numbers(&theta).into_iter().zip(numbers(master));
                for (weight, master) in all {
                    assert!((weight - master).abs() <= unit * master.abs().max(6.2e-5));
                }
                let composed = b.master.as_ref().unwrap();
                let all = numbers(composed).into_iter().zip(numbers(master));
                for (x, y) in all {
                    // A step moves by about lr; its f32 rounding is what may differ.
                    assert!((x - y).abs() < 5.0 * 2.0f64.powi(-23), "{x} {y}");
                }
                let rounded = composed.to_dtype(dtype).unwrap();
                assert_eq!(numbers(&other), numbers(&rounded));
            }
        }
    }
}
