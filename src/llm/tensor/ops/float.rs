//! The numbers that kernels are written for.

use candle_core::cpu::erf::{erf_f32, erf_f64};
use candle_core::{CpuStorage, Result as Candle, WithDType};
use half::{bf16, f16};

/// Numbers of a tensor on the CPU, in whatever precision they are kept.
pub trait Stored: WithDType {
    /// A storage's numbers.
    ///
    /// # Errors
    /// Another precision.
    fn slice_mut(storage: &mut CpuStorage) -> Candle<&mut [Self]>;
}

macro_rules! stored {
    ($t:ty, $variant:ident) => {
        impl Stored for $t {
            fn slice_mut(storage: &mut CpuStorage) -> Candle<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(numbers) => Ok(numbers),
                    _ => candle_core::bail!("numbers that are not {}", Self::DTYPE.as_str()),
                }
            }
        }
    };
}
stored!(f32, F32);
stored!(f64, F64);
stored!(bf16, BF16);
stored!(f16, F16);

/// f32 or f64.
pub trait Float: Stored + std::ops::Neg<Output = Self> + Default {
    /// The nearest to x. (The trait's own conversions are not always inlined.)
    fn of(x: f64) -> Self;

    /// The number as f64.
    fn wide(self) -> f64;

    /// √x
    fn sqrt(self) -> Self;

    /// eˣ, to the rounding of the type; below the smallest normal number 0.
    fn exp(self) -> Self;

    /// ln x
    fn ln(self) -> Self;

    /// The error function.
    fn erf(self) -> Self;

    /// `self · a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
}

macro_rules! float {
    ($t:ty, $exp:expr, $erf:expr) => {
        impl Float for $t {
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }

            #[inline(always)]
            fn wide(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }

            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }

            #[inline(always)]
            fn ln(self) -> Self {
                self.ln()
            }

            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }

            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                self.mul_add(a, b)
            }
        }
    };
}
float!(f32, exp, erf_f32);
float!(f64, f64::exp, erf_f64);

/// eˣ without a branch, nor a call where the processor fuses multiplication and addition, so that loops over it vectorise.
///
/// With `n = round(x / ln 2)`, `eˣ = 2ⁿ eʳ` where `|r| ≤ ½ ln 2`: a polynomial there (Cephes'
/// `expf`), and the exponent added to its bits. Within 2 units in the last place.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.33654;
    const HIGHEST: f32 = 88.72283;
    // Adding it leaves the nearest whole number in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    // The low nine bits of SHIFT are 0: what its shift by 23 leaves is n.
    let y = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    let y = if x <= HIGHEST { y } else { x + f32::INFINITY };
    if x < LOWEST { 0.0 } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exp() {
        let mut worst = 0.0f64;
        for i in -873_000..887_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let ulp = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
            worst = worst.max((f64::from(exp(x)) - exact).abs() / ulp);
        }
        assert!(worst < 2.0, "{worst} units in the last place");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(200.0), f32::INFINITY);
        assert!((exp(88.72) / 88.72f32.exp() - 1.0).abs() < 1e-6);
        for nan in [
            f32::NAN,
            -f32::NAN,
            f32::from_bits(0x7f80_0001),
            f32::from_bits(0xffff_ffff),
        ] {
            assert!(exp(nan).is_nan());
        }
        let (lowest, highest) = (-87.33654_f32, 88.72283_f32);
        assert!(exp(lowest).is_normal() && exp(highest).is_finite());
        assert_eq!(
            [exp(lowest.next_down()), exp(highest.next_up())],
            [0.0, f32::INFINITY]
        );
    }
}
