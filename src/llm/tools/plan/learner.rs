//! Memory of training a network beside its weights and activations: masters, moments, gradients.

use super::ledger::{Held, Kind, Ledger, Phase};
use super::network::Network;
use super::run::Run;
use super::tape::{Leaves, Node, Tape};
use super::update;
use crate::error::Result;
use crate::llm::tensor::ops::Form;

/// A trained parameter.
struct State {
    count: u64,
    /// Masters and moments.
    held: Vec<Held>,
}

/// Gradients and the optimiser's state of a network.
pub struct Learner {
    form: Form,
    /// One a leaf; none of those that are not trained.
    state: Vec<Option<State>>,
    gradients: Leaves,
    kind: Kind,
    in_backward: bool,
}

impl Learner {
    /// A learner as it is from the second step on. Gradients are of that kind; so is all else, if it is not the
    /// policy's.
    pub fn new(ledger: &Ledger, run: &Run, network: &Network, kind: Kind) -> Self {
        let form = run.form();
        let mut learner = Self {
            form,
            state: Vec::new(),
            gradients: Leaves::new(network.weights.len()),
            kind,
            in_backward: run.in_backward,
        };
        for weight in &network.weights {
            let mut state = State {
                count: weight.count,
                held: Vec::new(),
            };
            if !run.one_step && weight.trained {
                learner.moments(ledger, &mut state);
            }
            learner.state.push(weight.trained.then_some(state));
        }
        learner
    }

    fn of(&self, kind: Kind) -> Kind {
        match self.kind {
            Kind::Gradients => kind,
            other => other,
        }
    }

    /// What the first step makes: moments, and of bf16 weights the f32 numbers that they round.
    fn moments(&self, ledger: &Ledger, state: &mut State) {
        if state.held.is_empty() {
            let wide = self.form.wide() * state.count;
            let masters = if self.form.size < 4 { wide } else { 0 };
            state
                .held
                .push(ledger.take(self.of(Kind::Moments), 2 * wide));
            state
                .held
                .push(ledger.take(self.of(Kind::Masters), masters));
        }
    }

    /// On the CPU everything is done in place.
    fn needs(&self, composed: impl Fn(&Form, u64) -> u64, count: u64) -> u64 {
        if self.form.machine.cpu {
            0
        } else {
            composed(&self.form, count)
        }
    }

    /// Pushes cotangents back; `several` if the step has several parts.
    ///
    /// # Errors
    /// Those of operations that run again.
    pub fn push(
        &mut self,
        ledger: &Ledger,
        tape: Tape,
        seeds: Vec<Node>,
        several: bool,
    ) -> Result<()> {
        ledger.enter(Phase::Backward);
        let cotangent = |node: &Node| ledger.take(Kind::Transients, node.value().bytes());
        let seeds: Vec<(Node, Held)> = (seeds.into_iter())
            .map(|node| (node.clone(), cotangent(&node)))
            .collect();
        if self.in_backward && !several {
            return tape.consume(seeds, &mut |leaf, gradient| {
                self.step(ledger, leaf);
                drop(gradient);
                Ok(())
            });
        }
        if self.form.size < 4 {
            let (gradients, state, kind) = (&mut self.gradients, &self.state, self.kind);
            return tape.consume(seeds, &mut |leaf, gradient| {
                let count = state[leaf].as_ref().map_or(0, |state| state.count);
                gradients.change(leaf, |sum| wide_sum(ledger, kind, sum, gradient, 4 * count));
                Ok(())
            });
        }
        tape.backward(seeds, &mut self.gradients)
    }

    /// Norm, and the optimiser's pass over all that has a gradient.
    pub fn update(&mut self, ledger: &Ledger) {
        ledger.enter(Phase::Optimiser);
        for leaf in 0..self.state.len() {
            if let (Some(state), true) = (&self.state[leaf], self.gradients.get(leaf).is_some()) {
                let bytes = self.needs(update::norm_of_gradient, state.count);
                needs(ledger, "gradient norm", bytes);
            }
        }
        for leaf in 0..self.state.len() {
            if self.gradients.get(leaf).is_some() {
                self.step(ledger, leaf);
            }
        }
        self.gradients.clear();
    }

    fn step(&mut self, ledger: &Ledger, leaf: usize) {
        if let Some(mut state) = self.state[leaf].take() {
            self.moments(ledger, &mut state);
            needs(ledger, "adamw", self.needs(update::adamw, state.count));
            self.state[leaf] = Some(state);
        }
    }
}

fn needs(ledger: &Ledger, operation: &'static str, bytes: u64) {
    ledger.enter_block(None);
    ledger.operation(operation);
    ledger.transient(operation, bytes);
    drop(ledger.take(Kind::Transients, bytes));
}

/// A sum so far and a gradient, which over parts of a batch in bf16 is kept in f32, of `wide` bytes.
fn wide_sum(ledger: &Ledger, kind: Kind, sum: Option<Held>, gradient: Held, wide: u64) -> Held {
    match sum {
        None => gradient,
        Some(sum) if sum.bytes() == wide => {
            let more = wide.saturating_sub(gradient.bytes());
            drop(ledger.take(Kind::Transients, more));
            sum
        }
        Some(sum) => {
            let wider = ledger.take(kind, wide);
            drop(sum);
            drop(ledger.take(Kind::Transients, wide));
            wider
        }
    }
}
