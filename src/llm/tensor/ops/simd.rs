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
pub const LANES: usize = 32;

// Loops below run over indices: the library's iterators are not always inlined, and then cost more
// than the numbers. What is left behind the last whole vectors is copied to some of its own, since one by one it would
// cost more than all before it.

/// Half of the lanes, which shorter vectors fill too.
const HALF: usize = LANES / 2;

/// Up to so many numbers, and `filler` behind them.
#[inline(always)]
fn padded<T: Float>(rest: &[T], filler: T) -> [T; LANES] {
    let mut lanes = [filler; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// `Σᵢ f(aᵢ, bᵢ)`
#[inline(always)]
pub fn sum<T: Float, S: Float>(a: &[T], b: &[T], f: impl Fn(T, T) -> S) -> S {
    let n = a.len();
    let b = &b[..n];
    let mut sums = [S::zero(); LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        let (a, b) = (&a[i..i + LANES], &b[i..i + LANES]);
        for lane in 0..LANES {
            sums[lane] += f(a[lane], b[lane]);
        }
        i += LANES;
    }
    if n - i == HALF {
        let (a, b) = (&a[i..i + HALF], &b[i..i + HALF]);
        for lane in 0..HALF {
            sums[lane] += f(a[lane], b[lane]);
        }
    } else if i < n {
        let rest = n - i;
        let (a, b) = (padded(&a[i..], T::zero()), padded(&b[i..], T::zero()));
        for lane in 0..LANES {
            let term = f(a[lane], b[lane]);
            sums[lane] += if lane < rest { term } else { S::zero() };
        }
    }
    fold(
        sums,
        #[inline(always)]
        |x, y| x + y,
    )
}

/// The largest of `x` and `least`, NaN apart.
#[inline(always)]
pub fn max<T: Float>(x: &[T], least: T) -> T {
    let n = x.len();
    let mut tops = [least; LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        let x = &x[i..i + LANES];
        for lane in 0..LANES {
            tops[lane] = larger(x[lane], tops[lane]);
        }
        i += LANES;
    }
    if n - i == HALF {
        let x = &x[i..i + HALF];
        for lane in 0..HALF {
            tops[lane] = larger(x[lane], tops[lane]);
        }
    } else if i < n {
        let x = padded(&x[i..], least);
        for lane in 0..LANES {
            tops[lane] = larger(x[lane], tops[lane]);
        }
    }
    fold(tops, larger)
}

#[inline(always)]
fn larger<T: Float>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// `xᵢ ← exp(scale · xᵢ − shift)`; gives their sum.
#[inline(always)]
pub fn exponentials<T: Float>(x: &mut [T], scale: T, shift: T) -> T {
    exponentials_of(
        x,
        #[inline(always)]
        |x| scale * x - shift,
    )
}

/// `xᵢ ← exp(f(xᵢ))`; gives their sum.
#[inline(always)]
pub fn exponentials_of<T: Float>(x: &mut [T], f: impl Fn(T) -> T) -> T {
    let n = x.len();
    let mut sums = [T::zero(); LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        let x = &mut x[i..i + LANES];
        for lane in 0..LANES {
            x[lane] = f(x[lane]).exp();
            sums[lane] += x[lane];
        }
        i += LANES;
    }
    if n - i == HALF {
        let x = &mut x[i..i + HALF];
        for lane in 0..HALF {
            x[lane] = f(x[lane]).exp();
            sums[lane] += x[lane];
        }
    } else if i < n {
        let rest = n - i;
        let mut lanes = padded(&x[i..], T::zero());
        for lane in 0..LANES {
            lanes[lane] = f(lanes[lane]).exp();
            sums[lane] += if lane < rest { lanes[lane] } else { T::zero() };
        }
        x[i..].copy_from_slice(&lanes[..rest]);
    }
    fold(
        sums,
        #[inline(always)]
        |x, y| x + y,
    )
}

/// `outᵢ ← f(aᵢ, bᵢ)`
#[inline(always)]
pub fn map<T: Float>(out: &mut [T], a: &[T], b: &[T], f: impl Fn(T, T) -> T) {
    let n = out.len();
    let (a, b) = (&a[..n], &b[..n]);
    for i in 0..n {
        out[i] = f(a[i], b[i]);
    }
}

/// `sumᵢ ← sumᵢ + xᵢ`
#[inline(always)]
pub fn add<T: Float>(sum: &mut [T], x: &[T]) {
    let n = sum.len();
    let x = &x[..n];
    for i in 0..n {
        sum[i] += x[i];
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A sum of lanes, each of every 32nd number.
    fn interleaved(numbers: impl Iterator<Item = f32>) -> f32 {
        let mut lanes = [0.0; LANES];
        for (i, x) in numbers.enumerate() {
            lanes[i % LANES] += x;
        }
        fold(lanes, |x, y| x + y)
    }

    #[test]
    fn whatever_is_left_behind_whole_vectors() {
        for n in 1..100 {
            let numbers = |seed: f32| (0..n).map(move |i| (seed * i as f32).sin() * 3.0);
            let (a, b): (Vec<f32>, Vec<f32>) = (numbers(1.7).collect(), numbers(0.9).collect());
            let found = vectorised(
                #[inline(always)]
                || {
                    sum(
                        &a,
                        &b,
                        #[inline(always)]
                        |x, y| x - y * y + 0.5,
                    )
                },
            );
            assert_eq!(
                found,
                interleaved(a.iter().zip(&b).map(|(x, y)| x - y * y + 0.5)),
                "{n}"
            );
            let top = vectorised(
                #[inline(always)]
                || max(&a, -9.0),
            );
            assert_eq!(top, a.iter().copied().fold(f32::MIN, f32::max), "{n}");
            let mut each = a.clone();
            let total = vectorised(
                #[inline(always)]
                || exponentials(&mut each, 0.5, 1.0),
            );
            let one = |x: &f32| Float::exp(0.5 * x - 1.0);
            assert_eq!(each, a.iter().map(one).collect::<Vec<_>>(), "{n}");
            assert_eq!(total, interleaved(a.iter().map(one)), "{n}");
        }
    }
}
