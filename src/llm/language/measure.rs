//! Exact measurements of a policy, beside those that a run on a language model would estimate.

use super::{Bandit, Population, total_variation};
use crate::bandit::{Policy, Prompt};
use crate::llm::train::Meter;
use crate::loss::InputKind;
use crate::random::{Categorical, Stream};

/// Exact numbers of a policy and their estimates from its own samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// `J(π)`.
    pub objective: f64,
    /// `E_ρ KL(π‖π_ref)`.
    pub kl: f64,
    /// `J(π*) − J(π)`.
    pub regret: f64,
    /// The largest total variation from an objective's fixed point, where one was given.
    pub distance: Option<f64>,
    /// Estimates, and their standard errors.
    pub estimates: [(&'static str, [f64; 2]); 4],
}

impl Measure {
    /// Measures a policy, drawing `samples` prompts and responses of its own. The estimators, of
    /// `y ~ π` with `u = ln π(y|x)/π_ref(y|x)`:
    ///
    /// * `objective/kl`, k1: the mean of `u`;
    /// * `objective/kl_k3`: that of `e^{−u} − 1 + u` (never negative, and of a smaller variance where
    ///   the two are close);
    /// * `objective/scores`: the mean reward;
    /// * `objective/rlhf_reward`: the mean of `R − βu`, whose expectation is J.
    pub fn of(
        bandit: &Bandit,
        policy: &Policy,
        fixed_point: Option<&Policy>,
        samples: usize,
        stream: &mut Stream,
    ) -> Self {
        let problem = bandit.problem();
        let weights: Vec<f64> = problem.prompts().iter().map(|p| p.weight).collect();
        let of_prompts = Categorical::new(&weights);
        let laws: Vec<Categorical> = (policy.probabilities().iter())
            .map(|law| Categorical::new(law))
            .collect();
        let mut drawn: [Vec<f64>; 4] = Default::default();
        for _ in 0..samples {
            let x = of_prompts.draw(stream);
            let arm = laws[x].draw(stream);
            let Prompt {
                reward,
                log_reference,
                ..
            } = &problem.prompts()[x];
            let u = policy.log()[x][arm] - log_reference[arm];
            let k3 = (-u).exp_m1() + u;
            let numbers = [u, k3, reward[arm], reward[arm] - problem.beta() * u];
            (drawn.iter_mut().zip(numbers)).for_each(|(all, number)| all.push(number));
        }
        let names = [
            "objective/kl",
            "objective/kl_k3",
            "objective/scores",
            "objective/rlhf_reward",
        ];
        Self {
            objective: problem.objective(policy),
            kl: problem.kl(policy, &problem.reference()),
            regret: problem.regret(policy),
            distance: fixed_point.map(|p| total_variation(policy, p)),
            estimates: std::array::from_fn(|i| (names[i], mean(&drawn[i]))),
        }
    }

    /// Adds it to a row of metrics: exact numbers as `exact/…`, estimates under their names.
    pub fn tell(&self, meter: &mut Meter) {
        meter.last("exact/objective", self.objective);
        meter.last("exact/kl", self.kl);
        meter.last("exact/regret", self.regret);
        if let Some(distance) = self.distance {
            meter.last("exact/distance", distance);
        }
        for (name, [value, _]) in self.estimates {
            meter.last(name, value);
        }
    }
}

/// The mean of some numbers and its standard error.
fn mean(numbers: &[f64]) -> [f64; 2] {
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    let square: f64 = numbers.iter().map(|v| (v - mean).powi(2)).sum();
    [mean, (square / (n * (n - 1.0).max(1.0))).sqrt()]
}

/// The exact `rewards/accuracies` and `rewards/margins` of a policy on an expectation over labelled
/// pairs: how often, and by how much, the implicit reward `βu` of the preferred response is the
/// greater. `None` for other examples.
pub fn implicit(population: &Population, policy: &Policy) -> Option<[f64; 2]> {
    let problem = population.bandit().problem();
    let text = population.text();
    if population.objective().spec().inputs != InputKind::LabelledPairs {
        return None;
    }
    let log = policy.log().concat();
    let reward = |s: u32| problem.beta() * (log[s as usize] - text.log_reference[s as usize]);
    let [mut accuracy, mut margin] = [0.0; 2];
    for ((w, &first), &second) in text.weight.iter().zip(&text.slots[0]).zip(&text.slots[1]) {
        let gap = reward(first) - reward(second);
        accuracy += w * f64::from(u8::from(gap > 0.0));
        margin += w * gap;
    }
    Some([accuracy, margin])
}
