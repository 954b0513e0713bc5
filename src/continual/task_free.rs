//! What task-free continual learning (TFCL) carries along: it sees losses and examples, and not where tasks begin.

use super::estimates::estimate;
use super::examples::Example;
use super::hooks::{Accumulation, Hardest, Importance, Plateau, Pull};
use super::method::Weights;
use super::plan::Plan;
use super::sequence::Sequence;
use crate::error::Result;
use crate::sim::Parameters;

pub(super) struct TaskFree {
    pub plateau: Plateau,
    /// None before the first plateau.
    pub pull: Option<Pull<Vec<f64>>>,
    importance: Option<Importance<Vec<f64>>>,
    hardest: Hardest<Example>,
}

impl TaskFree {
    /// Before any example; there is room for so many hard ones.
    pub fn new(plan: &Plan, room: usize) -> Result<Self> {
        Ok(Self {
            plateau: Plateau::new(plan.plateau)?,
            pull: None,
            importance: None,
            hardest: Hardest::new(room),
        })
    }

    /// The hard examples.
    pub fn examples(&self) -> impl Iterator<Item = &Example> {
        self.hardest.kept.iter().map(|(_, example)| example)
    }

    /// The hard examples, all weighing alike.
    pub fn replayed(&self) -> Vec<Example> {
        let share = 1.0 / self.hardest.kept.len() as f64;
        self.examples()
            .map(|e| Example {
                weight: share,
                ..e.clone()
            })
            .collect()
    }

    /// At a plateau: of the hard examples and those at hand the hardest are kept, the importance takes in an
    /// estimate on them, and the pull is to the parameters as they are. `numbers` are ln π of every arm.
    pub fn settle(
        &mut self,
        sequence: &Sequence,
        strength: f64,
        parameters: &mut dyn Parameters,
        at_hand: &[Example],
        numbers: &[f64],
    ) -> Result<()> {
        let new = (at_hand.iter())
            .filter(|e| self.examples().all(|kept| kept.prompt != e.prompt))
            .cloned()
            .collect::<Vec<_>>();
        self.hardest.renew(new, |e| {
            let first = sequence.logits.rows()[e.prompt].start;
            let best = e.arms.last().map_or(0.0, |best| numbers[first + best]);
            Ok::<_, crate::error::Error>(-best)
        })?;
        let on_them = estimate(Weights::Outputs, sequence, parameters, &self.replayed())?;
        let mut importance = match self.importance.take() {
            Some(importance) => importance,
            None => Importance::new(Accumulation::Mean, &on_them)?,
        };
        importance.take(&on_them)?;
        let anchor = parameters.vector().clone();
        self.pull = Some(Pull::new(
            strength,
            anchor,
            Some(importance.weights.clone()),
        )?);
        self.importance = Some(importance);
        Ok(())
    }
}
