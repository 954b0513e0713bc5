//! Metrics of clipped ratios, token by token, under TRL's names.

use super::metrics::Meter;
use crate::llm::text::objective::TextObjective;
use crate::loss::Batch;

impl Meter {
    /// Adds those of a step's tokens: how far the policy has gone from the one that wrote them, what the clip cuts, and
    /// the two parts of the loss, each as a mean over tokens.
    pub(super) fn measure_ratios(&mut self, objective: &TextObjective, batch: &Batch) {
        let number = |name: &str| objective.numbers().get(name);
        let epsilon = number("epsilon").unwrap_or(f64::INFINITY);
        let tokens = batch.log_policy[0].len();
        let ratios: Vec<f64> = (batch.log_policy[0].iter().zip(&batch.log_old[0]))
            .map(|(own, old)| (own - old).exp())
            .collect();
        if ratios.len() != tokens || batch.advantage.len() != tokens {
            return;
        }
        for (i, (ratio, advantage)) in ratios.iter().zip(&batch.advantage).enumerate() {
            let apart = batch.log_policy[0][i] - batch.log_old[0][i];
            let clipped = ratio.clamp(1.0 - epsilon, 1.0 + epsilon) * advantage;
            self.mean("policy/approxkl_avg", 0.5 * apart * apart);
            self.mean(
                "policy/clipfrac_avg",
                f64::from(clipped < ratio * advantage),
            );
            self.mean("loss/policy_avg", -clipped.min(ratio * advantage));
            self.mean("val/ratio", *ratio);
        }
        let mean = ratios.iter().sum::<f64>() / tokens as f64;
        let squares: f64 = ratios.iter().map(|r| (r - mean).powi(2)).sum();
        self.mean("val/ratio_var", squares / tokens as f64);
        let clip = number("value_clip").unwrap_or(f64::INFINITY);
        let values = batch
            .baseline
            .iter()
            .zip(&batch.old_value)
            .zip(&batch.target);
        for ((value, old), target) in values {
            let own = (value - target).powi(2);
            let clipped = (old + (value - old).clamp(-clip, clip) - target).powi(2);
            self.mean("loss/value_avg", 0.5 * own.max(clipped));
            self.mean("val/clipfrac_avg", f64::from(clipped > own));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Given;

    #[test]
    fn they_are_what_their_names_say() {
        let given = Given::new().with("epsilon", 0.2).with("value_clip", 0.5);
        let objective = TextObjective::of_own_responses("ppo", &given, None).unwrap();
        let two = 2f64.ln();
        let batch = Batch {
            log_policy: [vec![-1.0, -1.0 + two, -1.0 - two], Vec::new()],
            log_old: [vec![-1.0; 3], Vec::new()],
            // A rise is clipped where it is wanted, a fall where it is not.
            advantage: vec![2.0, 1.0, 1.0],
            baseline: vec![0.0, 2.0, 1.0],
            old_value: vec![0.0, 1.0, 1.0],
            target: vec![1.0, 1.0, 3.0],
            ..Batch::default()
        };
        let mut meter = Meter::default();
        meter.measure_ratios(&objective, &batch);
        let found = meter.take();
        let near = |name: &str, wanted: f64| {
            assert!(
                (found[name] - wanted).abs() < 1e-12,
                "{name}: {}",
                found[name]
            );
        };
        near("policy/approxkl_avg", two * two / 3.0);
        near("policy/clipfrac_avg", 1.0 / 3.0);
        near("loss/policy_avg", -(2.0 + 1.2 + 0.5) / 3.0);
        near("val/ratio", 3.5 / 3.0);
        near(
            "val/ratio_var",
            (1.0f64 + 4.0 + 0.25) / 3.0 - (3.5f64 / 3.0).powi(2),
        );
        // ½·1, ½·max(1, ½²), ½·4
        near("loss/value_avg", (0.5 + 0.5 + 2.0) / 3.0);
        near("val/clipfrac_avg", 0.0);
    }
}
