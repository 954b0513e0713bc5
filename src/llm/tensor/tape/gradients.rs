//! Gradients on their way back, and those of leaves.

use candle_core::{DType, Tensor};

use super::{Carried, Node, Target};
use crate::error::Result;
use crate::llm::tensor::ops::add_in_place;

/// A gradient so far. Several nodes may share one value, which then must not be changed.
pub(super) enum Sum<X> {
    Owned(X),
    Shared(X),
}

impl<X: Carried> Sum<X> {
    /// Whether it may be changed, from first to last number.
    fn is_free(&self) -> bool {
        matches!(self, Self::Owned(value) if value.is_dense())
    }

    fn value(&self) -> &X {
        match self {
            Self::Owned(x) | Self::Shared(x) => x,
        }
    }

    fn into_value(self) -> X {
        match self {
            Self::Owned(x) | Self::Shared(x) => x,
        }
    }

    /// A value that nobody else holds.
    fn into_own(self) -> Result<X> {
        match self {
            Self::Owned(value) => Ok(value),
            Self::Shared(value) => value.copied(),
        }
    }

    /// `self + other`, in the memory of whichever is owned.
    fn plus(self, other: Self, form: &X::Form) -> Result<Self> {
        Ok(Self::Owned(match (self, other) {
            (Self::Owned(sum), other) | (other, Self::Owned(sum)) => {
                sum.accumulate(other.value())?;
                sum
            }
            (Self::Shared(a), Self::Shared(b)) => a.plus(&b, form)?,
        }))
    }
}

/// Gradients on their way back.
pub struct Gradients<X = Tensor> {
    slots: Vec<Option<Sum<X>>>,
}

impl<X: Carried> Gradients<X> {
    /// Those of that many nodes: of leaves what was found before, of others nothing yet.
    pub(super) fn of(leaves: &mut LeafGradients<X>, nodes: usize) -> Self {
        let mut slots: Vec<_> = (leaves.sums.iter_mut())
            .map(|sum| sum.take().map(Sum::Owned))
            .collect();
        slots.resize_with(nodes, || None);
        Self { slots }
    }

    pub(super) fn seed(&mut self, seeds: impl IntoIterator<Item = (Node<X>, X)>) -> Result<()> {
        (seeds.into_iter())
            .try_for_each(|(node, cotangent)| self.add_shared(&node.target(), &cotangent))
    }

    /// Adds a freshly computed tensor, which nobody else holds, to the gradient of a node.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add(&mut self, target: &Target<X>, gradient: X) -> Result<()> {
        self.plus(target, Sum::Owned(gradient))
    }

    /// Adds a tensor that is also used elsewhere to the gradient of a node.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add_shared(&mut self, target: &Target<X>, gradient: &X) -> Result<()> {
        self.plus(target, Sum::Shared(gradient.clone()))
    }

    /// Takes out the gradient of a node so far, to be added to in place and given back to
    /// [`add`](Self::add); `None` where there is none yet, or one that is also used elsewhere.
    pub fn take(&mut self, target: &Target<X>) -> Option<X> {
        let sum = self.slots[target.slot()?].take_if(|sum| sum.is_free())?;
        Some(sum.into_value())
    }

    pub(super) fn take_slot(&mut self, slot: usize) -> Option<X> {
        self.slots[slot].take().map(Sum::into_value)
    }

    /// Hands out a leaf's gradient, if there is one.
    pub(super) fn hand(
        &mut self,
        leaf: usize,
        take: &mut dyn FnMut(usize, X) -> Result<()>,
    ) -> Result<()> {
        match self.slots[leaf].take() {
            Some(sum) => take(leaf, sum.into_own()?),
            None => Ok(()),
        }
    }

    /// The gradients of the first `leaves` nodes, moved to a tape of `nodes`.
    pub(super) fn lend(&mut self, leaves: usize, nodes: usize) -> Self {
        let mut slots: Vec<_> = self.slots[..leaves].iter_mut().map(Option::take).collect();
        slots.resize_with(nodes, || None);
        Self { slots }
    }

    /// Moves what was [lent](Self::lend) back to `home`; gives the gradient of the node after them.
    pub(super) fn give_back(mut self, home: &mut Self, leaves: usize) -> Option<X> {
        for (to, from) in home.slots[..leaves].iter_mut().zip(&mut self.slots) {
            *to = from.take();
        }
        self.take_slot(leaves)
    }

    /// What is left, of leaves.
    pub(super) fn into_leaves(self, leaves: &mut LeafGradients<X>) -> Result<()> {
        for (slot, sum) in self.slots.into_iter().zip(&mut leaves.sums) {
            *sum = slot.map(Sum::into_own).transpose()?;
        }
        Ok(())
    }

    fn plus(&mut self, target: &Target<X>, gradient: Sum<X>) -> Result<()> {
        let Some(slot) = target.slot() else {
            return Ok(());
        };
        gradient.value().fits(target.form())?;
        let sum = match self.slots[slot].take() {
            None => gradient,
            Some(sum) => sum.plus(gradient, target.form())?,
        };
        self.slots[slot] = Some(sum);
        Ok(())
    }
}

/// Gradients accumulated for each leaf; `None` where nothing arrived.
pub struct LeafGradients<X = Tensor> {
    sums: Vec<Option<X>>,
    /// Whether something was added that is coarser than f32.
    coarse: bool,
}

impl<X> LeafGradients<X> {
    /// Empty sums, for that many leaves.
    pub fn new(leaves: usize) -> Self {
        Self {
            sums: (0..leaves).map(|_| None).collect(),
            coarse: false,
        }
    }

    /// The gradient of a leaf.
    pub fn get(&self, leaf: usize) -> Option<&X> {
        self.sums[leaf].as_ref()
    }

    /// True if nothing has arrived.
    pub fn is_empty(&self) -> bool {
        self.sums.iter().all(Option::is_none)
    }

    /// Changes the gradient of a leaf.
    pub fn change(&mut self, leaf: usize, change: impl FnOnce(Option<X>) -> X) {
        self.sums[leaf] = Some(change(self.sums[leaf].take()));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.sums.iter_mut().for_each(|g| *g = None);
        self.coarse = false;
    }
}

impl LeafGradients {
    /// True if bf16 or f16 numbers were [added](Self::add): then others must be too.
    pub fn is_coarse(&self) -> bool {
        self.coarse
    }

    /// Multiplies every gradient.
    ///
    /// # Errors
    /// A failing device.
    pub fn scale(&mut self, by: f64) -> Result<()> {
        for sum in self.sums.iter_mut().flatten() {
            *sum = (&*sum * by)?;
        }
        Ok(())
    }

    /// Adds a tensor that nobody else holds to the gradient of a leaf. Sums of bf16 and f16 numbers
    /// are kept in f32.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add(&mut self, leaf: usize, gradient: Tensor) -> Result<()> {
        let is_coarse = |tensor: &Tensor| matches!(tensor.dtype(), DType::BF16 | DType::F16);
        let wide = |tensor: Tensor| {
            if is_coarse(&tensor) {
                tensor.to_dtype(DType::F32)
            } else {
                Ok(tensor)
            }
        };
        self.coarse |= is_coarse(&gradient);
        self.sums[leaf] = Some(match self.sums[leaf].take() {
            None => gradient,
            Some(sum) => {
                let sum = wide(sum)?;
                add_in_place(&sum, &wide(gradient)?)?;
                sum
            }
        });
        Ok(())
    }
}
