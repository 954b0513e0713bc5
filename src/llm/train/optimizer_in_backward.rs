//! A step whose gradients are used as soon as they are final: none is kept.

use super::engine::Engine;
use super::folder::Folder;
use super::trainer::{Stepped, Trainer};
use crate::error::Result;
use crate::llm::files::checkpoint;
use crate::llm::model::network::Network;
use crate::llm::train::step::{Sink, Step, beyond_one_run};
use crate::loss::Batch;

impl Trainer<'_> {
    /// The next step's batch, its gradient and the update in one. Nothing changes if the loss or one
    /// of its cotangents is not finite.
    pub(super) fn step_at_once(&mut self, factor: f64, folder: Option<&Folder>) -> Result<Stepped> {
        let (text, examples) = self.batch(&self.plan, self.state.steps)?;
        let mut parts = self.plan.parts(&text, &examples);
        let [part] = parts.as_mut_slice() else {
            let step = format!("step {}", self.state.steps + 1);
            return Err(beyond_one_run(&step, text.tokens(), parts.len()));
        };
        self.refer(part)?;
        let objective = self.plan.objective();
        let (policy, mut updates) = self.policy.at_once(factor);
        let mut of_value = self.value.as_mut().map(|value| value.at_once(factor));
        let step = Step {
            kind: objective.kind(),
            policy,
            value: (of_value.as_ref()).map(|(network, _)| *network as &dyn Network),
            reduction: objective.reduction(),
            micro_batch: self.plan.micro_batch(),
        };
        let engine = Engine::of(self.settings.loss_backend, &self.device);
        let loss = |batch: &Batch| engine.run(objective, batch);
        let mut no_value = |_, _| Ok(());
        let mut take_value;
        let value = match &mut of_value {
            Some((_, updates)) => {
                take_value = |leaf, gradient| updates.take(leaf, gradient);
                Sink::Each(&mut take_value)
            }
            None => Sink::Each(&mut no_value),
        };
        let mut take = |leaf, gradient| updates.take(leaf, gradient);
        let outcome = step.run_into(part, loss, Sink::Each(&mut take), value)?;
        let norm = updates.norm()?;
        let value_norm = of_value.map_or(Ok(0.0), |(_, updates)| updates.norm())?;
        let stepped = Stepped {
            loss: outcome.loss,
            norm,
            value_norm,
            batch: outcome.batch,
            text,
            examples,
        };
        match (outcome.pushed, stepped.is_finite()) {
            (true, true) => Ok(stepped),
            (false, _) => Err(self.stopped(&stepped, folder, Stop::BeforeGradient)),
            (true, false) => Err(self.stopped(&stepped, folder, Stop::AfterUpdate)),
        }
    }
}

/// When a step was found to be not finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stop {
    /// There is a gradient, and the weights are as they were.
    BeforeUpdate,
    /// There is no gradient yet.
    BeforeGradient,
    /// The gradient has been used.
    AfterUpdate,
}

impl Stop {
    /// Remedy: what is left to go on from. An earlier step may have left weights that are `broken`, which shows in
    /// the numbers of this one.
    pub fn remedy(self, broken: Option<&str>, folder: Option<&Folder>) -> Result<String> {
        let changed = match (self, broken) {
            (Self::AfterUpdate, _) => {
                "with optimizer_in_backward the weights have been changed by it".into()
            }
            (_, Some(name)) => format!("an earlier update has made {name} not finite"),
            (_, None) => {
                return Ok("the weights are those of the step before; a lower lr may help".into());
            }
        };
        let last = match folder {
            Some(folder) => checkpoint::list(folder.dir())?.pop(),
            None => None,
        };
        Ok(match last {
            Some((_, path)) => format!(
                "{changed}, and the last good ones are in {}; a lower lr may help",
                path.display()
            ),
            None => format!("{changed}, and there is no checkpoint: begin anew, with a lower lr"),
        })
    }
}
