//! Training on an exact expectation, by the step that language models are trained with.

use super::{Population, Table};
use crate::error::Result;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::heads::Scorer;
use crate::llm::model::inference::numbers;
use crate::llm::model::network::{Network, Reduction};
use crate::llm::tensor::optimizer::{AdamW, Config};
use crate::llm::tensor::parameters::Parameters;
use crate::llm::tensor::tape::LeafGradients;
use crate::llm::train::schedule::{Schedule, Shape};
use crate::llm::train::step::{Outcome, Step};

/// A network, and the parameters that steps change.
#[derive(Clone, Copy)]
pub struct Trained<'a> {
    /// Network that turns sequences into numbers.
    pub network: &'a dyn Network,
    /// Its parameters; it has as many leaves.
    pub parameters: &'a Parameters,
}

impl<'a> From<&'a Decoder> for Trained<'a> {
    fn from(network: &'a Decoder) -> Self {
        let parameters = network.parameters();
        Self {
            network,
            parameters,
        }
    }
}

impl<'a> From<&'a Scorer> for Trained<'a> {
    fn from(network: &'a Scorer) -> Self {
        let parameters = network.decoder.parameters();
        Self {
            network,
            parameters,
        }
    }
}

impl<'a> From<&'a Table> for Trained<'a> {
    fn from(network: &'a Table) -> Self {
        let parameters = network.parameters();
        Self {
            network,
            parameters,
        }
    }
}

/// Settings of training a network: Adam, its learning rate falling along half a cosine to zero.
#[derive(Debug, Clone, Copy)]
pub struct Training {
    /// Number of steps.
    pub steps: usize,
    /// First learning rate.
    pub lr: f64,
    /// First learning rate of values. A table's moves by no more than the rate in a step, so it
    /// takes a larger one than a transformer's.
    pub value_lr: f64,
    /// Most tokens that are run at once.
    pub micro_batch: usize,
}

impl Training {
    /// Trains `policy` on an exact expectation, and `value` if the objective has one; without it,
    /// V is what minimises the loss under the policy of the moment. `watch` gets the outcome of each
    /// step before the step is taken.
    ///
    /// # Errors
    /// Those of the loss, of the networks and of `watch`.
    pub fn run(
        &self,
        population: &mut Population,
        policy: Trained,
        value: Option<Trained>,
        mut watch: impl FnMut(usize, &Outcome) -> Result<()>,
    ) -> Result<()> {
        self.descend(policy, value, |index, of_policy, of_value| {
            let outcome = self.gradient(population, policy, value, of_policy, of_value)?;
            watch(index, &outcome)
        })
    }

    /// Adds an exact expectation's gradient to those of the networks.
    ///
    /// # Errors
    /// Those of the loss and of the networks.
    pub fn gradient(
        &self,
        population: &mut Population,
        policy: Trained,
        value: Option<Trained>,
        of_policy: &mut LeafGradients,
        of_value: &mut LeafGradients,
    ) -> Result<Outcome> {
        let objective = population.objective();
        let step = Step {
            kind: objective.spec().inputs,
            policy: policy.network,
            value: value.map(|v| v.network),
            reduction: Reduction::Sum,
            micro_batch: self.micro_batch,
        };
        if population.holds() && value.is_none() {
            let sequences = &population.text().sequences;
            let now = numbers(step.policy, step.reduction, sequences, self.micro_batch)?;
            population.hold(&now.sequences)?;
        }
        let loss = |batch: &_| population.loss().on_tape(batch);
        step.run(population.text(), loss, of_policy, of_value)
    }

    /// The optimiser's loop alone: `gradient` adds to the gradients of `policy` and of `value` at
    /// each step.
    ///
    /// # Errors
    /// Those of `gradient` and of the optimiser.
    pub fn descend(
        &self,
        policy: Trained,
        value: Option<Trained>,
        mut gradient: impl FnMut(usize, &mut LeafGradients, &mut LeafGradients) -> Result<()>,
    ) -> Result<()> {
        let config = Config {
            weight_decay: 0.0,
            ..Config::default()
        };
        let mut adam = AdamW::new(policy.parameters, config)?;
        let mut value = match value {
            Some(value) => Some((value, AdamW::new(value.parameters, config)?)),
            None => None,
        };
        let schedule = Schedule::new(Shape::Cosine, 0.0, self.steps as u64)?;
        for index in 0..self.steps {
            let mut of_policy = LeafGradients::new(policy.network.leaves());
            let leaves = value.as_ref().map_or(0, |(v, _)| v.network.leaves());
            let mut of_value = LeafGradients::new(leaves);
            gradient(index, &mut of_policy, &mut of_value)?;
            let fall = schedule.factor(index as u64);
            adam.step(policy.parameters, &of_policy, self.lr * fall, 1.0)?;
            if let Some((value, adam)) = &mut value {
                adam.step(value.parameters, &of_value, self.value_lr * fall, 1.0)?;
            }
        }
        Ok(())
    }
}
