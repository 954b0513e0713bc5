//! Generalised advantage estimation: rewards and values of tokens to advantages and returns.

/// Estimator of advantages (Schulman et al. 2016).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gae {
    /// γ, what a reward a token later is worth.
    pub discount: f64,
    /// λ, how far a value is trusted less than what follows: 0 is temporal differences, 1 returns.
    pub lambda: f64,
}

impl Gae {
    /// A and R̂ of the tokens of one completion, from their rewards and the values of the prefixes that they follow:
    ///
    /// `δₜ = rₜ + γVₜ₊₁ − Vₜ`, `Aₜ = Σₗ (γλ)ˡ δₜ₊ₗ`, `R̂ₜ = Aₜ + Vₜ`
    ///
    /// After the last token nothing follows: V is 0 there, whether the completion ended or was cut.
    pub fn of(self, rewards: &[f64], values: &[f64]) -> [Vec<f64>; 2] {
        let mut advantages = vec![0.0; rewards.len()];
        let (mut next, mut so_far) = (0.0, 0.0);
        for t in (0..rewards.len()).rev() {
            let difference = rewards[t] + self.discount * next - values[t];
            so_far = difference + self.discount * self.lambda * so_far;
            advantages[t] = so_far;
            next = values[t];
        }
        let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
        [advantages, returns]
    }
}

/// Added to a variance that is divided by (TRL's).
const LEAST: f64 = 1e-8;

/// Shifts and scales numbers so that their mean is 0 and their variance (with n − 1) 1; a single one becomes 0.
pub fn whiten<'a>(all: impl Iterator<Item = &'a mut f64>) {
    let mut all: Vec<&mut f64> = all.collect();
    let count = all.len() as f64;
    let mean = all.iter().map(|x| **x).sum::<f64>() / count;
    let squares: f64 = all.iter().map(|x| (**x - mean).powi(2)).sum();
    let variance = if all.len() > 1 {
        squares / (count - 1.0)
    } else {
        0.0
    };
    let scale = (variance + LEAST).sqrt().recip();
    all.iter_mut().for_each(|x| **x = (**x - mean) * scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    const REWARDS: [f64; 4] = [0.5, -1.0, 0.25, 2.0];
    const VALUES: [f64; 4] = [0.3, 0.1, -0.7, 1.5];

    fn near(a: &[f64], b: &[f64]) {
        let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        assert!(
            a.len() == b.len() && off.fold(0.0, f64::max) < 1e-12,
            "{a:?} {b:?}"
        );
    }

    /// With λ = 1 they are the discounted sums of what follows, less the value.
    #[test]
    fn lambda_one_is_returns() {
        for discount in [1.0, 0.9] {
            let gae = Gae {
                discount,
                lambda: 1.0,
            };
            let follows = |t: usize| -> f64 {
                (REWARDS[t..].iter().enumerate())
                    .map(|(l, r)| discount.powi(l as i32) * r)
                    .sum()
            };
            let returns: Vec<f64> = (0..4).map(follows).collect();
            let [advantages, found] = gae.of(&REWARDS, &VALUES);
            near(&found, &returns);
            let wanted: Vec<f64> = returns.iter().zip(VALUES).map(|(r, v)| r - v).collect();
            near(&advantages, &wanted);
        }
    }

    #[test]
    fn lambda_zero_is_temporal_differences() {
        let gae = Gae {
            discount: 0.9,
            lambda: 0.0,
        };
        let [advantages, returns] = gae.of(&REWARDS, &VALUES);
        near(
            &advantages,
            &[
                0.5 + 0.9 * 0.1 - 0.3,
                -1.0 - 0.9 * 0.7 - 0.1,
                0.25 + 0.9 * 1.5 + 0.7,
                2.0 - 1.5,
            ],
        );
        near(&returns, &[0.59, -1.63, 1.6, 2.0]);
    }

    /// Between them: the definition's sum, written out.
    #[test]
    fn between_they_are_the_sum_of_the_definition() {
        let (discount, lambda) = (0.8, 0.6);
        let next = |t: usize| VALUES.get(t + 1).copied().unwrap_or(0.0);
        let delta = |t: usize| REWARDS[t] + discount * next(t) - VALUES[t];
        let sum = |t: usize| -> f64 {
            (t..4)
                .map(|s| (discount * lambda).powi((s - t) as i32) * delta(s))
                .sum()
        };
        let wanted: Vec<f64> = (0..4).map(sum).collect();
        near(&Gae { discount, lambda }.of(&REWARDS, &VALUES)[0], &wanted);
        assert_eq!(Gae { discount, lambda }.of(&[], &[])[0], [0.0; 0]);
    }

    #[test]
    fn whitened_numbers_have_mean_zero_and_variance_one() {
        let mut all = [1.0, 2.0, 6.0, -3.0, 0.5];
        whiten(all.iter_mut());
        let mean = all.iter().sum::<f64>() / 5.0;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4.0;
        assert!(
            mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-8,
            "{all:?}"
        );
        let mut one = [3.0];
        whiten(one.iter_mut());
        assert_eq!(one, [0.0]);
    }
}
