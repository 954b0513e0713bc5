//! Loops compiled for what the processor has, and sums that its registers hold.

use super::float::Float;

/// Runs `f` compiled for the widest vectors of this processor: `f` and what it calls must be marked
/// `#[inline(always)]`, or they are compiled for the oldest processor.
#[inline(always)]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    struct Inlined<F>(F);
    impl<R, F: FnOnce() -> R> pulp::WithSimd for Inlined<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Inlined(f))
}

/// Interleaved partial sums: the same on every processor.
const LANES: usize = 32;

/// `Σᵢ f(aᵢ, bᵢ)`
#[inline(always)]
pub fn sum<T: Float>(a: &[T], b: &[T], f: impl Fn(T, T) -> T) -> T {
    let mut sums = [T::zero(); LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f(a, b);
        }
    }
    for ((sum, &a), &b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += f(a, b);
    }
    fold(sums, |x, y| x + y)
}

/// The largest of `x`, at least `least`; NaN where there is one is not promised.
#[inline(always)]
pub fn max<T: Float>(x: &[T], least: T) -> T {
    let larger = |a: T, b: T| if a > b { a } else { b };
    let mut tops = [least; LANES];
    let (x, rest) = x.as_chunks::<LANES>();
    for x in x {
        for (top, &x) in tops.iter_mut().zip(x) {
            *top = larger(x, *top);
        }
    }
    for (top, &x) in tops.iter_mut().zip(rest) {
        *top = larger(x, *top);
    }
    fold(tops, larger)
}

/// `xᵢ ← exp(scale · xᵢ − shift)`; gives their sum.
#[inline(always)]
pub fn exponentials<T: Float>(x: &mut [T], scale: T, shift: T) -> T {
    let mut sums = [T::zero(); LANES];
    let (x, rest) = x.as_chunks_mut::<LANES>();
    for x in x {
        for (sum, x) in sums.iter_mut().zip(x) {
            *x = (scale * *x - shift).exp();
            *sum += *x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *x = (scale * *x - shift).exp();
        *sum += *x;
    }
    fold(sums, |x, y| x + y)
}

#[inline(always)]
fn fold<T: Float>(mut lanes: [T; LANES], f: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}
