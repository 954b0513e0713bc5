//! Training on an exact expectation, by the step that language models are trained with.

use super::Population;
use crate::error::Result;
use crate::llm::network::{Network, Reduction};
use crate::llm::parameters::Parameters;
use crate::llm::step::{Outcome, Step, numbers};
use crate::llm::tape::LeafGradients;
use candle_core::{DType, Tensor};

/// How a network is trained on a [`Population`]: Adam, its learning rate falling along half a
/// cosine to zero.
#[derive(Debug, Clone, Copy)]
pub struct Training {
    /// Number of steps.
    pub steps: usize,
    /// First learning rate.
    pub lr: f64,
    /// Most tokens that are run at once.
    pub micro_batch: usize,
}

impl Training {
    /// Trains `policy`, and `value` if the objective has one. `watch` is told the outcome of each
    /// step, before the step is taken.
    ///
    /// # Errors
    /// Those of the loss and of the networks.
    pub fn run<P: Network, V: Network>(
        &self,
        population: &mut Population,
        (policy, of_policy): (&P, &Parameters),
        value: Option<(&V, &Parameters)>,
        mut watch: impl FnMut(usize, &Outcome) -> Result<()>,
    ) -> Result<()> {
        let objective = population.objective();
        let parameters = population.bandit().problem().parameters();
        let step = Step {
            kind: objective.spec().inputs,
            policy,
            value: value.map(|(network, _)| network as &dyn Network),
            reduction: Reduction::Sum,
            micro_batch: self.micro_batch,
        };
        let mut adam = Adam::new(of_policy);
        let mut adam_of_value = value.map(|(_, parameters)| Adam::new(parameters));
        for index in 0..self.steps {
            if population.holds() && value.is_none() {
                let text = population.text();
                let now = numbers(policy, step.reduction, &text.sequences, self.micro_batch)?;
                population.hold(&now.sequences)?;
            }
            let mut gradients = LeafGradients::new(policy.leaves());
            let mut of_value = LeafGradients::new(value.map_or(0, |(network, _)| network.leaves()));
            let loss = |inputs: &_| objective.loss(inputs, parameters);
            let outcome = step.run(population.text(), loss, &mut gradients, &mut of_value)?;
            watch(index, &outcome)?;
            let done = index as f64 / self.steps as f64;
            let lr = self.lr * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
            adam.step(of_policy, &gradients, lr)?;
            if let (Some(adam), Some((_, parameters))) = (&mut adam_of_value, value) {
                adam.step(parameters, &of_value, lr)?;
            }
        }
        Ok(())
    }
}

/// Stand-in until the optimizer is there.
struct Adam {
    steps: i32,
    moments: Vec<[Vec<f64>; 2]>,
}

impl Adam {
    fn new(parameters: &Parameters) -> Self {
        let moments = |p: &crate::llm::parameters::Parameter| {
            let n = p.tensor.elem_count();
            [vec![0.0; n], vec![0.0; n]]
        };
        Self {
            steps: 0,
            moments: parameters.iter().map(moments).collect(),
        }
    }

    fn step(&mut self, parameters: &Parameters, gradients: &LeafGradients, lr: f64) -> Result<()> {
        let (b1, b2) = (0.9f64, 0.999f64);
        self.steps += 1;
        let rate = lr / (1.0 - b1.powi(self.steps));
        let scale = (1.0 - b2.powi(self.steps)).sqrt();
        for (leaf, (p, [m, v])) in parameters.iter().zip(&mut self.moments).enumerate() {
            let Some(g) = gradients.get(leaf) else {
                continue;
            };
            let g: Vec<f64> = g.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
            let mut t: Vec<f64> = p.tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
            for (((t, g), m), v) in t.iter_mut().zip(&g).zip(m).zip(v) {
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *t -= rate * *m / (v.sqrt() / scale + 1e-8);
            }
            let t = Tensor::from_vec(t, p.tensor.shape(), p.tensor.device())?;
            p.tensor.slice_set(&t.to_dtype(p.tensor.dtype())?, 0, 0)?;
        }
        Ok(())
    }
}
