//! Following a motion `θ̇ = F(θ)` to rest, for updates that no closed form brings to zero.

mod numeric;
mod rest;

use nalgebra::{DMatrix, DVector};

pub(crate) use numeric::{Frame, Numeric};
pub use rest::Rest;
pub(crate) use rest::{Settled, around, ends_elsewhere, fade, rest_of, settle};

use super::{larger, largest};

/// A field, with what one linearly implicit step needs.
pub(crate) trait Motion {
    /// The field at a point, and what its Jacobian is made of.
    type Local;

    /// The field at a point.
    fn local(&self, point: &[f64]) -> Self::Local;

    /// The field at a point within a step from `at`, whose Jacobian may stand for its own.
    fn nearby(&self, _at: &Self::Local, point: &[f64]) -> Self::Local {
        self.local(point)
    }

    /// F there.
    fn update<'a>(&self, at: &'a Self::Local) -> &'a [f64];

    /// `(I/h − J)⁻¹ F`: one linearly implicit step of the flow, Newton's as h → ∞.
    fn step(&self, at: &Self::Local, h: f64) -> Option<Vec<f64>>;

    /// The representative of a point: logits less their normaliser.
    fn settle(&self, point: Vec<f64>) -> Vec<f64>;

    /// Takes out of a difference of points what `settle` ignores: the mean of logits.
    fn centre(&self, difference: &mut [f64]);

    /// The size of the terms that the update is made of, against which it counts as zero.
    fn scale(&self, point: &[f64]) -> f64;

    /// Whether nothing more is to be learned by going on.
    fn decided(&self, _point: &[f64], _at: &Self::Local) -> bool {
        false
    }
}

/// How closely a flow is followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Course {
    /// Closely enough to stay in the basin of attraction: the rest itself is found by Newton's steps.
    Basin,
    /// As closely as arithmetic allows: where the flow ends depends on its whole path.
    Path,
    /// A thousand times less closely: what [`trace`] compares the path with.
    Check,
}

impl Course {
    /// Order of the extrapolation.
    fn order(self) -> usize {
        match self {
            Self::Basin => 3,
            Self::Path | Self::Check => 6,
        }
    }

    /// Error allowed in a coordinate per step, relative to how far it has come.
    fn tolerance(self) -> f64 {
        match self {
            Self::Basin => 1e-4,
            Self::Path => 1e-12,
            Self::Check => 1e-9,
        }
    }
}

/// Where a flow ended.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// The point.
    pub point: Vec<f64>,
    /// Largest entry of the update there.
    pub size: f64,
    /// True if [`Motion::decided`] stopped it.
    pub decided: bool,
    /// True if it came to a stationary point: the update is rounding. A flow that goes round for ever does not.
    pub rests: bool,
}

/// Follows the flow to rest by extrapolated linearly implicit Euler steps (Deuflhard), whose length
/// is held by the error estimate and grows without bound as the motion dies out, so that the last
/// ones are Newton's.
pub(crate) fn follow(motion: &impl Motion, start: Vec<f64>, course: Course) -> End {
    let start = motion.settle(start);
    let mut theta = start.clone();
    let mut at = motion.local(&theta);
    let scale = motion.scale(&theta);
    let (order, tolerance) = (course.order(), course.tolerance());
    let power = 1.0 / order as f64;
    let mut h = 0.01 / scale;
    let mut best = End {
        point: theta.clone(),
        size: largest(motion.update(&at).iter().copied()),
        decided: false,
        rests: false,
    };
    let mut stalled = 0;
    for _ in 0..(MOST_WORK / start.len().max(1)).clamp(500, MOST_STEPS) {
        if motion.decided(&theta, &at) {
            return End {
                size: largest(motion.update(&at).iter().copied()),
                point: theta,
                decided: true,
                rests: false,
            };
        }
        let Some((step, mut spread)) = extrapolated(motion, &theta, &at, h, order) else {
            h /= 4.0;
            if h < f64::MIN_POSITIVE {
                break;
            }
            continue;
        };
        motion.centre(&mut spread);
        // Relative to how far a coordinate has come, which at low temperatures is R/β.
        let error = (spread.iter().zip(&theta).zip(&start))
            .filter(|((_, t), _)| t.is_finite())
            .map(|((d, t), s)| d.abs() / (1.0 + 10.0 * (t - s).abs()))
            .fold(0.0, larger);
        // NaN is refused, too.
        let close = error <= tolerance;
        if !close {
            let shrink = 0.8 * (tolerance / error).powf(power);
            h *= if shrink.is_nan() {
                0.1
            } else {
                shrink.clamp(0.1, 0.8)
            };
            continue;
        }
        theta = motion.settle(add(&theta, &step));
        at = motion.local(&theta);
        let size = largest(motion.update(&at).iter().copied());
        if size < best.size {
            stalled = 0;
            best.size = size;
            best.point.clone_from(&theta);
        } else {
            stalled += 1;
        }
        // Rounding is reached: the update no longer shrinks although the steps are long.
        let rounding = size == 0.0 || (stalled >= 8 && size <= 1e-10 * scale);
        // Beyond it nothing is left of the path but noise, which long steps would add up.
        if rounding || (course != Course::Basin && size <= ROUNDING * scale) {
            best.rests = true;
            break;
        }
        let growth = 0.8 * (tolerance / error.max(1e-300)).powf(power);
        h = (h * growth.clamp(0.3, 4.0)).min(1e14 / scale);
    }
    best
}

/// Where a flow ends that may end anywhere on a continuum of rests, and the error of a coordinate to
/// be expected: how far it is from the end of the same flow followed less closely.
pub(crate) fn trace(motion: &impl Motion, start: Vec<f64>) -> (End, f64) {
    let rough = follow(motion, start.clone(), Course::Check);
    let end = follow(motion, start, Course::Path);
    let mut gap: Vec<f64> = (end.point.iter().zip(&rough.point))
        .map(|(a, b)| a - b)
        .collect();
    motion.centre(&mut gap);
    let rounding = f64::EPSILON * (1.0 + largest(end.point.iter().copied()));
    (end, largest(gap) + rounding)
}

/// Most steps, refused ones included.
const MOST_STEPS: usize = 20_000;

/// Most steps times coordinates, where that is less.
const MOST_WORK: usize = 20_000_000;

/// An update of this part of the terms that it is made of is rounding.
const ROUNDING: f64 = 4.0 * f64::EPSILON;

/// A step of length `h`, extrapolated from 1, 2, … `order` linearly implicit Euler steps to the same
/// time, and how far the last two columns of the table are apart. None where it leads nowhere.
fn extrapolated<M: Motion>(
    motion: &M,
    theta: &[f64],
    at: &M::Local,
    h: f64,
    order: usize,
) -> Option<(Vec<f64>, Vec<f64>)> {
    let mut table: Vec<Vec<f64>> = Vec::with_capacity(order);
    let mut spread = Vec::new();
    for pieces in 1..=order {
        let piece = h / pieces as f64;
        let mut moved = motion.step(at, piece)?;
        for _ in 1..pieces {
            let here = motion.nearby(at, &motion.settle(add(theta, &moved)));
            moved = add(&moved, &motion.step(&here, piece)?);
        }
        // Aitken and Neville: row `pieces` of the table, from its row before.
        let mut row = vec![moved];
        for column in 1..pieces {
            let ratio = pieces as f64 / (pieces - column) as f64 - 1.0;
            let (fine, coarse) = (&row[column - 1], &table[column - 1]);
            let next = fine.iter().zip(coarse).map(|(f, c)| f + (f - c) / ratio);
            row.push(next.collect());
        }
        if let [.., before, last] = row.as_slice() {
            spread = last.iter().zip(before).map(|(l, b)| l - b).collect();
        }
        table = row;
    }
    let step = table.pop()?;
    step.iter().all(|v| v.is_finite()).then_some((step, spread))
}

/// The sum of two vectors.
pub(crate) fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Takes its mean out of a vector; an arm that is gone (−∞) counts nothing.
pub(crate) fn centre(values: &mut [f64]) {
    let finite = || values.iter().filter(|v| v.is_finite());
    let mean = finite().sum::<f64>() / finite().count().max(1) as f64;
    values.iter_mut().for_each(|v| *v -= mean);
}

/// Up to this many arms the linear systems are dense, beyond it diagonal plus rank two.
pub(super) const DENSE: usize = 64;

/// Solves `(D − l₀r₀ᵀ − l₁r₁ᵀ) x = f`, by elimination while it is small; absent where the solution
/// is no number.
pub(super) fn low_rank(
    diagonal: &[f64],
    left: &[Vec<f64>; 2],
    right: &[Vec<f64>; 2],
    f: &[f64],
) -> Option<Vec<f64>> {
    let n = diagonal.len();
    let solution = if n <= DENSE {
        let matrix = DMatrix::from_fn(n, n, |a, c| {
            let low_rank = left[0][a] * right[0][c] + left[1][a] * right[1][c];
            if a == c {
                diagonal[a] - low_rank
            } else {
                -low_rank
            }
        });
        let solved = matrix.lu().solve(&DVector::from_column_slice(f))?;
        solved.as_slice().to_vec()
    } else {
        woodbury(diagonal, left, right, f)?
    };
    solution.iter().all(|v| v.is_finite()).then_some(solution)
}

/// Solves `(D − l₀r₀ᵀ − l₁r₁ᵀ) x = f`.
fn woodbury(
    diagonal: &[f64],
    left: &[Vec<f64>; 2],
    right: &[Vec<f64>; 2],
    f: &[f64],
) -> Option<Vec<f64>> {
    let over = |v: &[f64]| -> Vec<f64> { v.iter().zip(diagonal).map(|(v, d)| v / d).collect() };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let (l0, l1, f) = (over(&left[0]), over(&left[1]), over(f));
    let (a, b) = (1.0 - dot(&right[0], &l0), -dot(&right[0], &l1));
    let (c, d) = (-dot(&right[1], &l0), 1.0 - dot(&right[1], &l1));
    let (p, q) = (dot(&right[0], &f), dot(&right[1], &f));
    let determinant = a * d - b * c;
    if determinant == 0.0 {
        return None;
    }
    let (s, t) = ((p * d - b * q) / determinant, (a * q - p * c) / determinant);
    Some(
        (f.iter().zip(&l0).zip(&l1))
            .map(|((f, x), y)| f + s * x + t * y)
            .collect(),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// How far a step x is from solving `x/h − J x = F`, J being taken from differences of F, in units
    /// of the largest term.
    pub(crate) fn implicit_error(motion: &impl Motion, point: &[f64], h: f64) -> f64 {
        let point = motion.settle(point.to_vec());
        let at = motion.local(&point);
        let step = motion.step(&at, h).unwrap();
        let eps = 1e-5 / largest(step.iter().copied()).max(1.0);
        let moved = |sign: f64| -> Vec<f64> {
            let to = (point.iter().zip(&step)).map(|(t, x)| t + sign * eps * x);
            let at = motion.local(&motion.settle(to.collect()));
            motion.update(&at).to_vec()
        };
        let (ahead, behind) = (moved(1.0), moved(-1.0));
        let update = motion.update(&at);
        let errors = (0..point.len()).map(|a| {
            let along = (ahead[a] - behind[a]) / (2.0 * eps);
            step[a] / h - along - update[a]
        });
        largest(errors) / largest(update.iter().copied())
    }

    #[test]
    fn centring_takes_the_mean_out() {
        let mut values = [1.0, 2.0, 6.0];
        centre(&mut values);
        assert_eq!(values, [-2.0, -1.0, 3.0]);
    }

    #[test]
    fn woodbury_solves_its_system() {
        let d = [2.0, -1.0, 0.5];
        let left = [vec![0.3, -0.2, 0.9], vec![1.0, 0.4, -0.6]];
        let right = [vec![-0.7, 0.8, 0.2], vec![0.1, 0.5, 0.3]];
        let f = [1.0, -2.0, 0.7];
        let x = woodbury(&d, &left, &right, &f).unwrap();
        for a in 0..3 {
            let mut sum = d[a] * x[a];
            for (l, r) in left.iter().zip(&right) {
                sum -= l[a] * r.iter().zip(&x).map(|(r, x)| r * x).sum::<f64>();
            }
            assert!((sum - f[a]).abs() < 1e-14);
        }
        assert!(
            woodbury(
                &[1.0],
                &[vec![1.0], vec![0.0]],
                &[vec![1.0], vec![0.0]],
                &[1.0]
            )
            .is_none()
        );
    }
}
