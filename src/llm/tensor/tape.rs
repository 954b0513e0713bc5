//! Reverse mode over candle tensors (and over their bytes, where memory is planned): every operation brings its own backward.
//!
//! candle's own graph loses gradients without a word in its fused operations, allocates a zero
//! tensor for every gradient and keeps all activations until the end (`docs/adr/0006`). Here a
//! gradient is moved, not added to zeros; an activation dies as soon as its backward has run; and
//! cotangents are given for any node.

mod carried;
mod gradients;
mod node;

use std::cell::{Cell, RefCell};

use candle_core::Tensor;

pub use carried::Carried;
pub use gradients::{Gradients, LeafGradients};
pub use node::{Node, Target};

use crate::error::Result;

/// Turns the gradient of an operation's output into those of its inputs.
pub type Backward<'a, X = Tensor> = Box<dyn FnOnce(X, &mut Gradients<X>) -> Result<()> + 'a>;

/// The operations done so far. Their backwards may borrow what lives for `'a`.
pub struct Tape<'a, X = Tensor> {
    mode: Mode,
    leaves: usize,
    next: Cell<usize>,
    steps: RefCell<Vec<Step<'a, X>>>,
    /// The leaves that an operation so far has used.
    used: RefCell<Vec<bool>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Numbers only.
    Idle,
    /// Numbers only, but the leaves that are used are noted.
    Watching,
    Recording,
}

struct Step<'a, X> {
    slot: usize,
    backward: Backward<'a, X>,
    /// The leaves that no earlier operation used: after this one's backward their gradient is final.
    final_for: Vec<usize>,
}

impl<'a, X: Carried + 'a> Tape<'a, X> {
    /// A tape for gradients with respect to `leaves` parameters.
    pub fn recording(leaves: usize) -> Self {
        Self::new(Mode::Recording, leaves)
    }

    /// A tape that remembers nothing: numbers only.
    pub fn idle() -> Self {
        Self::new(Mode::Idle, 0)
    }

    fn new(mode: Mode, leaves: usize) -> Self {
        Self {
            mode,
            leaves,
            next: Cell::new(leaves),
            steps: RefCell::default(),
            used: RefCell::new(vec![false; leaves]),
        }
    }

    /// The parameter with that index, of which there are as many as leaves.
    pub fn leaf(&self, index: usize, value: X) -> Node<X> {
        debug_assert!(self.mode == Mode::Idle || index < self.leaves);
        if self.mode == Mode::Watching {
            self.used.borrow_mut()[index] = true;
        }
        Node::new(value, (self.mode == Mode::Recording).then_some(index))
    }

    /// The result of an operation on `inputs`. `backward` is made only if a gradient is wanted.
    pub fn record(
        &self,
        value: X,
        inputs: &[&Node<X>],
        backward: impl FnOnce() -> Backward<'a, X>,
    ) -> Node<X> {
        if !self.wants(inputs) {
            return Node::constant(value);
        }
        let leaves: Vec<usize> = (inputs.iter())
            .filter_map(|node| node.slot())
            .filter(|&slot| slot < self.leaves)
            .collect();
        self.push(value, &leaves, backward())
    }

    /// True if an operation on `inputs` will be recorded.
    pub fn wants(&self, inputs: &[&Node<X>]) -> bool {
        self.mode == Mode::Recording && inputs.iter().any(|n| n.wanted())
    }

    fn push(&self, value: X, leaves: &[usize], backward: Backward<'a, X>) -> Node<X> {
        let slot = self.next.get();
        self.next.set(slot + 1);
        let mut used = self.used.borrow_mut();
        let mut final_for: Vec<usize> = leaves.iter().copied().filter(|&l| !used[l]).collect();
        final_for.sort_unstable();
        final_for.dedup();
        leaves.iter().for_each(|&leaf| used[leaf] = true);
        self.steps.borrow_mut().push(Step {
            slot,
            backward,
            final_for,
        });
        Node::new(value, Some(slot))
    }

    /// `f(x)`, of which only `x` is remembered: the backward runs `f` again (activation
    /// recomputation). `f` must do the same both times.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn again(
        &self,
        x: &Node<X>,
        f: impl Fn(&Self, &Node<X>) -> Result<Node<X>> + 'a,
    ) -> Result<Node<X>> {
        if self.mode != Mode::Recording {
            return f(self, x);
        }
        let leaves = self.leaves;
        let watching = Self::new(Mode::Watching, leaves);
        let value = f(&watching, &Node::constant(x.value().clone()))?
            .value()
            .clone();
        let used = watching.used.into_inner();
        let mut inside: Vec<usize> = (0..leaves).filter(|&leaf| used[leaf]).collect();
        if inside.is_empty() && !x.wanted() {
            return Ok(Node::constant(value));
        }
        let (x, target) = (x.value().clone(), x.target());
        inside.extend(target.slot().filter(|&slot| slot < leaves));
        let backward = move |gradient: X, sums: &mut Gradients<X>| {
            // x is one leaf more.
            let tape = Self::recording(leaves + 1);
            let x = if target.wanted() {
                tape.leaf(leaves, x)
            } else {
                Node::constant(x)
            };
            let y = f(&tape, &x)?;
            drop(x);
            let y = y.target();
            let mut inner = sums.lend(leaves, tape.next.get());
            inner.add(&y, gradient)?;
            tape.unwind(&mut inner, None)?;
            match inner.give_back(sums, leaves) {
                Some(of_x) => sums.add_shared(&target, &of_x),
                None => Ok(()),
            }
        };
        Ok(self.push(value, &inside, Box::new(backward)))
    }

    /// Pushes cotangents back to the leaves and adds what arrives there to `leaves` (whose content is lost on an
    /// error).
    ///
    /// # Errors
    /// A cotangent of another shape than its node, or a failing operation.
    pub fn backward(
        self,
        seeds: impl IntoIterator<Item = (Node<X>, X)>,
        leaves: &mut LeafGradients<X>,
    ) -> Result<()> {
        let mut gradients = Gradients::of(leaves, self.next.get());
        gradients.seed(seeds)?;
        self.unwind(&mut gradients, None)?;
        gradients.into_leaves(leaves)
    }

    /// Pushes cotangents back and hands out the gradient of every leaf that is reached, with its
    /// index, as soon as it is final. No operation that is still to be undone looks at that leaf:
    /// its numbers may be changed in place.
    ///
    /// # Errors
    /// As [`backward`](Self::backward), or those of `take`.
    pub fn consume(
        self,
        seeds: impl IntoIterator<Item = (Node<X>, X)>,
        take: &mut dyn FnMut(usize, X) -> Result<()>,
    ) -> Result<()> {
        let mut gradients = Gradients::of(&mut LeafGradients::new(self.leaves), self.next.get());
        gradients.seed(seeds)?;
        let leaves = self.leaves;
        self.unwind(&mut gradients, Some(take))?;
        // A seed may have been a leaf itself.
        (0..leaves).try_for_each(|leaf| gradients.hand(leaf, take))
    }

    /// Runs the backwards, from last to first, and hands out gradients of leaves that are final.
    fn unwind(
        self,
        gradients: &mut Gradients<X>,
        mut take: Option<&mut dyn FnMut(usize, X) -> Result<()>>,
    ) -> Result<()> {
        let mut steps = self.steps.into_inner();
        while let Some(step) = steps.pop() {
            let Step {
                slot,
                backward,
                final_for,
            } = step;
            // No gradient: nothing downstream depended on it.
            if let Some(gradient) = gradients.take_slot(slot) {
                backward(gradient, gradients)?;
            }
            if let Some(take) = &mut take {
                (final_for.into_iter()).try_for_each(|leaf| gradients.hand(leaf, take))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
