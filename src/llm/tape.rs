//! Reverse mode over candle tensors: every operation brings its own backward.
//!
//! candle's own graph loses gradients without a word in its fused operations, allocates a zero
//! tensor for every gradient and keeps all activations until the end (`docs/adr/0006`). Here a
//! gradient is moved, not added to zeros; an activation dies as soon as its backward has run; and
//! cotangents are given for any node.

use std::cell::{Cell, RefCell};

use candle_core::Tensor;

use super::ops::add_in_place;
use crate::error::{Error, Result};

/// Turns the gradient of an operation's output into those of its inputs.
pub type Backward = Box<dyn FnOnce(Tensor, &mut Gradients) -> Result<()>>;

/// A tensor on a tape.
#[derive(Debug, Clone)]
pub struct Node {
    value: Tensor,
    slot: Option<usize>,
}

impl Node {
    /// A tensor that nobody differentiates by.
    pub fn constant(value: Tensor) -> Self {
        Self { value, slot: None }
    }

    /// The tensor.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Whether a gradient is wanted.
    pub fn wanted(&self) -> bool {
        self.slot.is_some()
    }
}

/// The operations done so far.
pub struct Tape {
    recording: bool,
    leaves: usize,
    next: Cell<usize>,
    steps: RefCell<Vec<(usize, Backward)>>,
}

impl Tape {
    /// A tape for gradients with respect to `leaves` parameters.
    pub fn recording(leaves: usize) -> Self {
        Self {
            recording: true,
            leaves,
            next: Cell::new(leaves),
            steps: RefCell::default(),
        }
    }

    /// A tape that remembers nothing: numbers only.
    pub fn idle() -> Self {
        Self {
            recording: false,
            ..Self::recording(0)
        }
    }

    /// The parameter with that index, of which there are as many as leaves.
    pub fn leaf(&self, index: usize, value: Tensor) -> Node {
        debug_assert!(!self.recording || index < self.leaves);
        let slot = self.recording.then_some(index);
        Node { value, slot }
    }

    /// The result of an operation on `inputs`. `backward` is made only if a gradient is wanted.
    pub fn record(
        &self,
        value: Tensor,
        inputs: &[&Node],
        backward: impl FnOnce() -> Backward,
    ) -> Node {
        if !self.wants(inputs) {
            return Node::constant(value);
        }
        let slot = self.next.get();
        self.next.set(slot + 1);
        self.steps.borrow_mut().push((slot, backward()));
        let slot = Some(slot);
        Node { value, slot }
    }

    /// Whether an operation on `inputs` will be recorded.
    pub fn wants(&self, inputs: &[&Node]) -> bool {
        self.recording && inputs.iter().any(|n| n.wanted())
    }

    /// Pushes cotangents back to the leaves and adds what arrives there to `leaves` (whose content is lost on an
    /// error).
    ///
    /// # Errors
    /// A cotangent of another shape than its node, or a failing operation.
    pub fn backward(
        self,
        seeds: impl IntoIterator<Item = (Node, Tensor)>,
        leaves: &mut LeafGradients,
    ) -> Result<()> {
        let mut slots: Vec<Option<Sum>> = Vec::new();
        slots.resize_with(self.next.get(), || None);
        for (slot, sum) in slots.iter_mut().zip(&mut leaves.0) {
            *slot = sum.take().map(Sum::Owned);
        }
        let mut gradients = Gradients { slots };
        for (node, cotangent) in seeds {
            gradients.add_shared(&node, &cotangent)?;
        }
        for (slot, backward) in self.steps.into_inner().into_iter().rev() {
            // No gradient: nothing downstream depended on it.
            if let Some(gradient) = gradients.slots[slot].take() {
                backward(gradient.tensor().clone(), &mut gradients)?;
            }
        }
        for (slot, sum) in gradients.slots.into_iter().zip(&mut leaves.0) {
            *sum = match slot {
                Some(Sum::Owned(sum)) => Some(sum),
                Some(Sum::Shared(sum)) => Some(sum.copy()?),
                None => None,
            };
        }
        Ok(())
    }
}

/// A gradient so far. Several nodes may share one tensor, which then must not be changed.
enum Sum {
    Owned(Tensor),
    Shared(Tensor),
}

impl Sum {
    /// Whether it may be changed, from first to last number.
    fn is_free(&self) -> bool {
        matches!(self, Self::Owned(tensor) if tensor.is_contiguous())
    }

    fn tensor(&self) -> &Tensor {
        match self {
            Self::Owned(t) | Self::Shared(t) => t,
        }
    }

    /// `self + other`, in the memory of whichever is owned.
    fn plus(self, other: Self) -> Result<Self> {
        Ok(Self::Owned(match (self, other) {
            (Self::Owned(sum), other) | (other, Self::Owned(sum)) => {
                add_in_place(&sum, other.tensor())?;
                sum
            }
            (Self::Shared(a), Self::Shared(b)) => (a + b)?,
        }))
    }
}

/// Gradients on their way back.
pub struct Gradients {
    slots: Vec<Option<Sum>>,
}

impl Gradients {
    /// Adds a freshly computed tensor, which nobody else holds, to the gradient of `node`.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add(&mut self, node: &Node, gradient: Tensor) -> Result<()> {
        self.plus(node, Sum::Owned(gradient))
    }

    /// Adds a tensor that is also used elsewhere to the gradient of `node`.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add_shared(&mut self, node: &Node, gradient: &Tensor) -> Result<()> {
        self.plus(node, Sum::Shared(gradient.clone()))
    }

    /// Takes out the gradient of `node` so far, to be added to in place and given back to
    /// [`add`](Self::add); `None` where there is none yet, or one that is also used elsewhere.
    pub fn take(&mut self, node: &Node) -> Option<Tensor> {
        match self.slots[node.slot?].take_if(|sum| sum.is_free())? {
            Sum::Owned(tensor) | Sum::Shared(tensor) => Some(tensor),
        }
    }

    fn plus(&mut self, node: &Node, gradient: Sum) -> Result<()> {
        let Some(slot) = node.slot else {
            return Ok(());
        };
        let (given, wanted) = (gradient.tensor().dims(), node.value.dims());
        if given != wanted {
            let message = format!("a gradient of shape {given:?} for a tensor of {wanted:?}");
            let backend = "tape";
            return Err(Error::Backend { backend, message });
        }
        let sum = match self.slots[slot].take() {
            None => gradient,
            Some(sum) => sum.plus(gradient)?,
        };
        self.slots[slot] = Some(sum);
        Ok(())
    }
}

/// What has been accumulated for each leaf; `None` where nothing arrived.
pub struct LeafGradients(Vec<Option<Tensor>>);

impl LeafGradients {
    /// Nothing yet, for that many leaves.
    pub fn new(leaves: usize) -> Self {
        Self((0..leaves).map(|_| None).collect())
    }

    /// The gradient of a leaf.
    pub fn get(&self, leaf: usize) -> Option<&Tensor> {
        self.0[leaf].as_ref()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(|g| *g = None);
    }
}
