//! PPO's clipped surrogate on one prompt, in exact expectation (Schulman et al. 2017):
//!
//! `L(π) = E_{y ~ π_old} min(r A, clip(r, 1 − ε, 1 + ε) A)`, `r = π(y)/π_old(y)`.
//!
//! At π = π_old its gradient is the policy gradient, and a constant added to A changes nothing. Away
//! from there it does: what is above the baseline is held back at `r = 1 + ε` but not at `1 − ε`, and
//! what is below it the other way round. With all A > 0 every rise is capped; with all A < 0 none
//! is, and the surrogate's maximiser puts all mass that it can gain on one response.

/// True if the surrogate has a slope at this ratio (on the edge of the clip it has the inner one).
pub fn active(ratio: f64, advantage: f64, epsilon: f64) -> bool {
    let past_above = advantage > 0.0 && ratio > 1.0 + epsilon;
    let past_below = advantage < 0.0 && ratio < 1.0 - epsilon;
    !past_above && !past_below
}

/// The surrogate at π.
pub fn surrogate(log_policy: &[f64], log_old: &[f64], advantage: &[f64], epsilon: f64) -> f64 {
    (log_policy.iter().zip(log_old).zip(advantage))
        .map(|((l, old), &a)| {
            let ratio = (l - old).exp();
            old.exp() * (ratio * a).min(ratio.clamp(1.0 - epsilon, 1.0 + epsilon) * a)
        })
        .sum()
}

/// Its gradient in ln π(y), each response on its own: `π(y) A(y)` where it is [`active`], else 0.
pub fn cotangent(log_policy: &[f64], log_old: &[f64], advantage: &[f64], epsilon: f64) -> Vec<f64> {
    (log_policy.iter().zip(log_old).zip(advantage))
        .map(|((l, old), &a)| {
            if active((l - old).exp(), a, epsilon) {
                l.exp() * a
            } else {
                0.0
            }
        })
        .collect()
}

/// Its gradient in tabular logits: `g(y) − π(y) Σ g`, g the [`cotangent`].
pub fn gradient(log_policy: &[f64], log_old: &[f64], advantage: &[f64], epsilon: f64) -> Vec<f64> {
    let each = cotangent(log_policy, log_old, advantage, epsilon);
    let sum: f64 = each.iter().sum();
    (each.iter().zip(log_policy))
        .map(|(g, l)| g - l.exp() * sum)
        .collect()
}

/// The largest value of the surrogate over all policies, and one that has it.
///
/// The surrogate is a concave function of each π(y) with one corner, so mass is handed out along
/// the steepest pieces first. Where A has both signs and `(1 + ε) π_old(A > 0) ≤ 1` the value is
/// `E_{π_old}[A] + ε E_{π_old}|A|`, and any policy past the clip on all sides has it.
pub fn maximum(old: &[f64], advantage: &[f64], epsilon: f64) -> (f64, Vec<f64>) {
    // (slope, capacity, response); beyond its corner a positive one is flat, before it a negative.
    let mut pieces: Vec<(f64, f64, usize)> = Vec::new();
    for (y, (&p, &a)) in old.iter().zip(advantage).enumerate() {
        if a > 0.0 {
            pieces.push((a, (1.0 + epsilon) * p, y));
            pieces.push((0.0, f64::INFINITY, y));
        } else {
            pieces.push((0.0, (1.0 - epsilon) * p, y));
            pieces.push((a, f64::INFINITY, y));
        }
    }
    // Equal slopes: finite pieces first, so that flat mass goes to its own response if it can.
    pieces.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.total_cmp(&y.1)));
    let (mut left, mut policy) = (1.0f64, vec![0.0; old.len()]);
    for (_, capacity, y) in pieces {
        let given = capacity.min(left);
        policy[y] += given;
        left -= given;
    }
    let log = |p: &[f64]| -> Vec<f64> { p.iter().map(|p| p.ln()).collect() };
    (
        surrogate(&log(&policy), &log(old), advantage, epsilon),
        policy,
    )
}
