//! Losses of whole distributions: what a policy gave every arm before, and gives now.

use std::ops::Range;

/// A prompt whose policy is held near what it was.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    /// Its arms among all.
    pub arms: Range<usize>,
    /// Share of the loss.
    pub weight: f64,
    /// ln π of its arms at the time.
    pub log_policy: Vec<f64>,
}

/// T of the distillation.
const TEMPERATURE: f64 = 2.0;

/// Adds to `gradient` that of `strength · Σ weight · T² KL(p_old^{1/T} ‖ p^{1/T})`, both made to sum to one, with respect to
/// `numbers`, ln π of every arm; the loss.
///
/// `∂/∂ln π_a = T (p_a^{1/T} − p_old,a^{1/T})`. Source: Hinton et al. 2015; Li and Hoiem 2018, eq. 2.
pub(super) fn distill(
    strength: f64,
    stored: &[Stored],
    numbers: &[f64],
    gradient: &mut [f64],
) -> f64 {
    let mut value = 0.0;
    for kept in stored {
        let scale = strength * kept.weight;
        let old = tempered(&kept.log_policy);
        let now = tempered(&numbers[kept.arms.clone()]);
        for (i, arm) in kept.arms.clone().enumerate() {
            value += scale * TEMPERATURE.powi(2) * old[i].exp() * (old[i] - now[i]);
            gradient[arm] += scale * TEMPERATURE * (now[i].exp() - old[i].exp());
        }
    }
    value
}

/// `ln p^{1/T}`, made to sum to one.
fn tempered(log_policy: &[f64]) -> Vec<f64> {
    let divided: Vec<f64> = log_policy.iter().map(|l| l / TEMPERATURE).collect();
    crate::solve::log_softmax(&divided)
}

/// Adds to `gradient` that of `strength · Σ weight · mean_a (ln π_a − ln π_old,a)²`; the loss.
///
/// Source: Buzzega et al. 2020, eq. 6, with ln π for logits.
pub(super) fn match_outputs(
    strength: f64,
    stored: &[Stored],
    numbers: &[f64],
    gradient: &mut [f64],
) -> f64 {
    let mut value = 0.0;
    for kept in stored {
        let scale = strength * kept.weight / kept.arms.len() as f64;
        for (arm, old) in kept.arms.clone().zip(&kept.log_policy) {
            let gap = numbers[arm] - old;
            value += scale * gap * gap;
            gradient[arm] += 2.0 * scale * gap;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solve::log_softmax;

    const LOGITS: [f64; 5] = [0.3, -1.0, 0.8, 2.0, -0.4];

    fn stored() -> Vec<Stored> {
        let of = |arms: Range<usize>, weight: f64, logits: &[f64]| Stored {
            arms,
            weight,
            log_policy: log_softmax(logits),
        };
        vec![
            of(0..3, 0.4, &[1.0, 0.0, -0.5]),
            of(3..5, 0.6, &[-1.0, 0.5]),
        ]
    }

    fn numbers(logits: &[f64]) -> Vec<f64> {
        [log_softmax(&logits[..3]), log_softmax(&logits[3..])].concat()
    }

    /// The definitions, written out.
    #[test]
    fn values_by_their_definitions() {
        let now = numbers(&LOGITS);
        let (mut kl, mut square) = (0.0, 0.0);
        for kept in stored() {
            let root = |log: &[f64]| -> Vec<f64> {
                let roots: Vec<f64> = log.iter().map(|l| l.exp().sqrt()).collect();
                let sum: f64 = roots.iter().sum();
                roots.iter().map(|r| r / sum).collect()
            };
            let (q, p) = (root(&kept.log_policy), root(&now[kept.arms.clone()]));
            let of: f64 = q.iter().zip(&p).map(|(q, p)| q * (q / p).ln()).sum();
            kl += 1.3 * kept.weight * 4.0 * of;
            let gaps = now[kept.arms.clone()].iter().zip(&kept.log_policy);
            let of: f64 = gaps.map(|(a, b)| (a - b).powi(2)).sum();
            square += 1.3 * kept.weight * of / q.len() as f64;
        }
        let mut gradient = vec![0.0; 5];
        let value = distill(1.3, &stored(), &now, &mut gradient);
        assert!((value - kl).abs() < 1e-14, "{value} {kl}");
        let value = match_outputs(1.3, &stored(), &now, &mut gradient);
        assert!((value - square).abs() < 1e-14, "{value} {square}");
    }

    /// Through the softmax, since only there the numbers are those of a policy.
    #[test]
    fn gradients_by_differences() {
        for loss in [distill, match_outputs] {
            let value = |logits: &[f64]| loss(0.7, &stored(), &numbers(logits), &mut [0.0; 5]);
            let mut gradient = vec![0.0; 5];
            let now = numbers(&LOGITS);
            loss(0.7, &stored(), &now, &mut gradient);
            for (arm, row) in [0..3, 3..5]
                .into_iter()
                .flat_map(|r| r.clone().map(move |a| (a, r.clone())))
            {
                let sum: f64 = gradient[row].iter().sum();
                let slope = gradient[arm] - now[arm].exp() * sum;
                let at = |h: f64| {
                    let mut logits = LOGITS;
                    logits[arm] += h;
                    value(&logits)
                };
                let want = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((slope - want).abs() < 1e-9, "{arm}: {slope} {want}");
            }
        }
    }
}
