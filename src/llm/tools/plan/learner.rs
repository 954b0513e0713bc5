//! Memory of training a network beside its weights and activations: masters, moments, gradients.

use super::composed;
use super::ledger::{Held, Kind, Ledger, Phase};
use super::network::Network;
use super::ops::Form;
use super::run::Run;
use super::tape::{Leaves, Node, Tape};

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
            gradients: Leaves::new(network.weights.len(), kind),
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
    pub fn push(&mut self, ledger: &Ledger, tape: Tape, seeds: &[Node], several: bool) {
        if self.in_backward && !several {
            let kind = self.kind;
            return tape.consume(seeds, kind, &mut |leaf, gradient| {
                self.step(ledger, leaf);
                drop(gradient);
            });
        }
        if self.form.size < 4 {
            let (gradients, state) = (&mut self.gradients, &self.state);
            return tape.consume(seeds, self.kind, &mut |leaf, gradient| {
                let count = state[leaf].as_ref().map_or(0, |state| state.count);
                gradients.add(ledger, leaf, gradient, 4 * count);
            });
        }
        tape.backward(seeds, &mut self.gradients);
    }

    /// Norm, and the optimiser's pass over all that has a gradient.
    pub fn update(&mut self, ledger: &Ledger) {
        ledger.enter(Phase::Optimiser);
        for leaf in 0..self.state.len() {
            if let (Some(state), true) = (&self.state[leaf], self.gradients.has(leaf)) {
                let bytes = self.needs(composed::norm_of_gradient, state.count);
                needs(ledger, "gradient norm", bytes);
            }
        }
        for leaf in 0..self.state.len() {
            if self.gradients.has(leaf) {
                self.step(ledger, leaf);
            }
        }
        self.gradients.clear();
    }

    fn step(&mut self, ledger: &Ledger, leaf: usize) {
        if let Some(mut state) = self.state[leaf].take() {
            self.moments(ledger, &mut state);
            needs(ledger, "adamw", self.needs(composed::adamw, state.count));
            self.state[leaf] = Some(state);
        }
    }
}

fn needs(ledger: &Ledger, operation: &'static str, bytes: u64) {
    ledger.operation(operation, None);
    ledger.transient(operation, bytes);
    drop(ledger.take(Kind::Transients, bytes));
}
