//! What feeds a run: the examples of each step.

use super::learner::Learner;
use super::reference::Reference;
use crate::error::Result;
use crate::llm::text::example::Example;
use crate::observer::Observer;

/// What a source may ask when it prepares examples.
pub struct Networks<'a> {
    /// The policy as it is now.
    pub policy: &'a Learner,
    /// The separate value network, if there is one.
    pub value: Option<&'a Learner>,
    /// What the policy is held against.
    pub reference: &'a Reference,
}

/// Source of a run's examples: a file, visited in an order, or the policy itself.
pub trait Source {
    /// Steps in all.
    fn steps(&self) -> u64;

    /// Steps of an epoch: of one pass over the rows of a file, or over the prompts.
    fn per_epoch(&self) -> u64;

    /// The first steps, which visit every response that the run will see.
    fn covering(&self) -> u64 {
        self.steps()
    }

    /// The examples of the step after `done` others.
    ///
    /// # Errors
    /// Those of the data.
    fn examples(&self, done: u64) -> Result<Vec<Example>>;

    /// Has the examples of the step after `done` others be there: where a phase begins, the policy writes them. Gives
    /// metrics of what was written, once.
    ///
    /// # Errors
    /// Those of generation and rewards, and of files.
    fn prepare(
        &mut self,
        _done: u64,
        _networks: &Networks,
        _observer: &dyn Observer,
    ) -> Result<Vec<(String, f64)>> {
        Ok(Vec::new())
    }
}
