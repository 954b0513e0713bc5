//! The equations of KTO's fixed point, solved by bracketing.

use crate::backend::nd::sigmoid;
use crate::bandit::log_sum_exp;
use crate::solve::log_softmax;

/// `ln σ(v)(1 − σ(v))`.
pub(super) fn log_slope(v: f64) -> f64 {
    -v.abs() - 2.0 * (-v.abs()).exp().ln_1p()
}

/// ln π with `κ s (1 − s)/π` one number e^ℓ, for κ > 0 and β ≤ 1.
///
/// With `v = β(u − z)` each arm solves `ln s(1 − s) − v/β = t`, `t = ℓ + z − ln κ/π_ref`, whose left
/// side is concave and falls in v; ℓ is such that Σπ = 1.
pub(super) fn balanced(pull: &[f64], reference: &[f64], beta: f64, z: f64) -> Vec<f64> {
    let leads: Vec<f64> = (pull.iter().zip(reference))
        .map(|(k, l)| k.ln() - l)
        .collect();
    let at = |level: f64| -> (Vec<f64>, f64, f64) {
        let mut slopes = Vec::with_capacity(leads.len());
        let row: Vec<f64> = (leads.iter().zip(reference))
            .map(|(lead, l)| {
                let v = bend(level + z - lead, beta);
                slopes.push(-1.0 / (1.0 - beta * (1.0 - 2.0 * sigmoid(v))));
                l + z + v / beta
            })
            .collect();
        let excess = log_sum_exp(&row);
        let slope = (row.iter().zip(&slopes))
            .map(|(l, s)| {
                if *l == f64::NEG_INFINITY {
                    0.0
                } else {
                    (l - excess).exp() * s
                }
            })
            .sum();
        (row, excess, slope)
    };
    let middle = leads.iter().copied().fold(f64::NEG_INFINITY, f64::max) - z - 2.0;
    let (mut low, mut high, mut reach) = (middle - 1.0, middle + 1.0, 1.0);
    while at(low).1 < 0.0 {
        reach *= 2.0;
        (low, high) = (low - reach, low);
    }
    while at(high).1 > 0.0 {
        reach *= 2.0;
        (low, high) = (high, high + reach);
    }
    let mut level = 0.5 * (low + high);
    for _ in 0..200 {
        let (row, excess, slope) = at(level);
        if excess > 0.0 {
            low = level;
        } else {
            high = level;
        }
        let newton = level - excess / slope;
        let next = if newton > low && newton < high {
            newton
        } else {
            0.5 * (low + high)
        };
        if (next - level).abs() <= 2e-16 * level.abs().max(1.0) {
            return log_softmax(&row);
        }
        level = next;
    }
    log_softmax(&at(level).0)
}

/// The root v of `ln σ(v)(1 − σ(v)) − v/β = t` for β ≤ 1; −∞ where there is none (β = 1, t ≥ 0).
pub(super) fn bend(t: f64, beta: f64) -> f64 {
    if beta == 1.0 {
        // −2 ln(1 + eᵛ) = t.
        let x = -t / 2.0;
        return if x <= 0.0 {
            f64::NEG_INFINITY
        } else if x > 30.0 {
            x
        } else {
            x.exp_m1().ln()
        };
    }
    // The left side is at most −|v| − v/β: its root bounds ours from the right, and from there
    // Newton descends without overshooting.
    let mut v = if t < 0.0 {
        -t / (1.0 + 1.0 / beta)
    } else {
        t / (1.0 - 1.0 / beta)
    };
    for _ in 0..400 {
        let gap = log_slope(v) - v / beta - t;
        let next = v - gap / (1.0 - 2.0 * sigmoid(v) - 1.0 / beta);
        if next.is_nan() || (next - v).abs() <= 1e-16 * v.abs().max(1e-3) || next > v {
            break;
        }
        v = next;
    }
    v
}

/// Where a function that is not negative at `low` and not positive at `high` crosses zero: secants
/// inside a bracket (Illinois), halved when they dawdle.
pub(super) fn crossing(f: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let (mut at_low, mut at_high) = (f(low), f(high));
    let mut last = 0;
    for round in 0..200 {
        if at_low == 0.0 {
            return low;
        }
        let secant = (low * at_high - high * at_low) / (at_high - at_low);
        let next = if round % 3 < 2 && secant > low && secant < high {
            secant
        } else {
            0.5 * (low + high)
        };
        if high - low <= 4e-16 * high || next <= low || next >= high {
            return next;
        }
        let value = f(next);
        if value == 0.0 {
            return next;
        }
        if value > 0.0 {
            (low, at_low) = (next, value);
            if last == 1 {
                at_high /= 2.0;
            }
            last = 1;
        } else {
            (high, at_high) = (next, value);
            if last == -1 {
                at_low /= 2.0;
            }
            last = -1;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_solves_its_equation() {
        for beta in [1e-3, 0.3, 0.9, 0.999, 1.0] {
            for t in [-1e4, -30.0, -1.0, -1e-6, 1e-9, 1.0, 40.0] {
                let v = bend(t, beta);
                if v == f64::NEG_INFINITY {
                    assert!(beta == 1.0 && t >= 0.0);
                    continue;
                }
                let gap = log_slope(v) - v / beta - t;
                let slope = 1.0 / beta - 1.0 + 2.0 * sigmoid(v);
                let rounding = 4e-16 * (v.abs() / beta + t.abs() + 1.0) / slope;
                assert!(
                    (gap / slope).abs() <= rounding.max(1e-15),
                    "{beta} {t}: {v} {gap}"
                );
            }
        }
    }

    #[test]
    fn crossings_are_found() {
        let root = crossing(|x| 2.0 - x * x, 0.0, 5.0);
        assert!((root - 2f64.sqrt()).abs() < 1e-15, "{root}");
        let root = crossing(|x| (1.0 - x).powi(9), 0.0, 100.0);
        assert!((root - 1.0).abs() < 1e-2, "{root}");
        assert_eq!(crossing(|x| -x, 0.0, 5.0), 0.0);
    }
}
