//! Where gradient flow comes to rest, for any field: no algebra, only evaluations.

use nalgebra::{DMatrix, DVector};

/// Where a flow came to rest.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    /// The point.
    pub point: Vec<f64>,
    /// Whether the field counts as zero there.
    pub still: bool,
}

/// Error allowed in a coordinate per step: enough to stay in the basin of attraction.
const TOLERANCE: f64 = 3e-3;

/// Follows `θ̇ = F(θ)` by linearly implicit Euler steps, `δ = (I/h − J)⁻¹ F`, with J from central
/// differences. Their length is held by the local error `½h|Jδ|` and by how far F is from linear,
/// and grows without bound as the motion dies out, so that the last steps are Newton's.
///
/// The field may be undefined somewhere (`None`): steps that lead there are shortened.
pub(crate) fn rest(
    field: &impl Fn(&[f64]) -> Option<Vec<f64>>,
    start: &[f64],
    most: usize,
) -> Rest {
    let n = start.len();
    let mut theta = start.to_vec();
    let Some(mut force) = field(&theta) else {
        return Rest {
            point: theta,
            still: false,
        };
    };
    let first = largest(&force);
    let mut h = 0.01 / first.max(1e-3);
    let mut idle = 0;
    for _ in 0..most {
        let size = largest(&force);
        if size <= 1e-15 * first.max(1.0) || idle > 8 {
            break;
        }
        let Some(jacobian) = differences(field, &theta) else {
            break;
        };
        let f = DVector::from_column_slice(&force);
        let mut moved = false;
        for _ in 0..60 {
            let step = (DMatrix::identity(n, n) / h - &jacobian).lu().solve(&f);
            let ahead = step
                .filter(|s| s.iter().all(|v| v.is_finite()))
                .and_then(|step| {
                    let point: Vec<f64> =
                        theta.iter().zip(step.iter()).map(|(t, s)| t + s).collect();
                    field(&point).map(|force| (step, point, force))
                });
            let Some((step, point, next)) = ahead else {
                h /= 8.0;
                continue;
            };
            let bend = &jacobian * &step;
            let curved = (0..n)
                .map(|i| (next[i] - force[i] - bend[i]).abs())
                .fold(0.0, f64::max);
            let error = 0.5 * h * bend.amax().max(curved);
            if error > TOLERANCE {
                h *= (0.8 * (TOLERANCE / error).sqrt()).clamp(0.1, 0.8);
                continue;
            }
            // At rounding level the field no longer shrinks; where margins grow for ever it shrinks
            // slowly all the way.
            let rounding = size < 1e-11 * first.max(1.0);
            let shrinks = largest(&next) < 0.5 * size;
            idle = if shrinks {
                0
            } else {
                idle + usize::from(rounding)
            };
            (theta, force) = (point, next);
            h *= (0.8 * (TOLERANCE / error.max(1e-300)).sqrt()).clamp(1.0, 10.0);
            h = h.min(1e14);
            moved = true;
            break;
        }
        if !moved {
            break;
        }
    }
    Rest {
        point: theta,
        still: largest(&force) <= 1e-9 * first.max(1.0),
    }
}

fn differences(field: &impl Fn(&[f64]) -> Option<Vec<f64>>, at: &[f64]) -> Option<DMatrix<f64>> {
    let n = at.len();
    let mut jacobian = DMatrix::zeros(n, n);
    for j in 0..n {
        let reach = 1e-6 * (1.0 + at[j].abs());
        let shifted = |by: f64| {
            let mut point = at.to_vec();
            point[j] += by;
            field(&point)
        };
        let (ahead, behind) = (shifted(reach)?, shifted(-reach)?);
        for i in 0..n {
            jacobian[(i, j)] = (ahead[i] - behind[i]) / (2.0 * reach);
        }
    }
    Some(jacobian)
}

/// The largest size of an entry; NaN stays visible.
pub(crate) fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m: f64, v| {
        if v.abs() <= m || m.is_nan() {
            m
        } else {
            v.abs()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stiff_field_comes_to_rest_in_its_own_basin() {
        // ẋ = x − x³ from 0.1 goes to 1, not to the unstable 0; ẏ = −1e-4 (y − 3), ż = −1e3 z.
        let field = |p: &[f64]| Some(vec![p[0] - p[0].powi(3), 3e-4 - 1e-4 * p[1], -1e3 * p[2]]);
        let found = rest(&field, &[0.1, 0.0, 1.0], 2_000);
        assert!(found.still, "{found:?}");
        for (have, want) in found.point.iter().zip([1.0, 3.0, 0.0]) {
            assert!((have - want).abs() < 1e-9, "{found:?}");
        }
    }
}
