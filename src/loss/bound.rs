//! A loss with its numbers, run on any backend.

use std::sync::{Arc, OnceLock};

use super::{Baseline, Batch, Columns, Cotangents, Given, Inputs, Loss, Numbers, Spec, batch};
use crate::backend::Backend;
use crate::backend::dual::Dual;
use crate::backend::mutant::Mutant;
use crate::backend::nd::{Tape, Var};
use crate::error::{Error, Result};

/// A loss with its numbers.
#[derive(Clone)]
pub struct Bound {
    spec: Spec,
    numbers: Given,
    baseline: Option<Baseline>,
    run: Arc<dyn Run>,
    columns: Arc<OnceLock<Columns>>,
    coupled: Arc<OnceLock<bool>>,
}

/// A loss with its numbers on each backend that there is.
pub trait Run: Send + Sync {
    /// On arrays with reverse mode.
    fn nd(&self, inputs: &Inputs<Var>) -> Result<Var>;
    /// Under forward mode.
    fn dual(&self, inputs: &Inputs<Dual<Var>>) -> Result<Dual<Var>>;
    /// With an operation spoiled.
    fn mutant(&self, inputs: &Inputs<Mutant<Var>>) -> Result<Mutant<Var>>;
    /// On tensors.
    #[cfg(feature = "llm")]
    fn tensors(
        &self,
        inputs: &Inputs<crate::backend::candle::Array>,
    ) -> Result<crate::backend::candle::Array>;
}

/// A loss beside its numbers.
struct With<L: Loss> {
    loss: &'static L,
    numbers: L::Numbers,
}

impl<L: Loss> Run for With<L> {
    fn nd(&self, inputs: &Inputs<Var>) -> Result<Var> {
        self.loss.loss(&self.numbers, inputs)
    }

    fn dual(&self, inputs: &Inputs<Dual<Var>>) -> Result<Dual<Var>> {
        self.loss.loss(&self.numbers, inputs)
    }

    fn mutant(&self, inputs: &Inputs<Mutant<Var>>) -> Result<Mutant<Var>> {
        self.loss.loss(&self.numbers, inputs)
    }

    #[cfg(feature = "llm")]
    fn tensors(
        &self,
        inputs: &Inputs<crate::backend::candle::Array>,
    ) -> Result<crate::backend::candle::Array> {
        self.loss.loss(&self.numbers, inputs)
    }
}

/// A backend that a [`Bound`] loss runs on.
pub trait Runs: Backend {
    /// The loss on inputs of this backend.
    ///
    /// # Errors
    /// Those of the loss.
    fn run(loss: &dyn Run, inputs: &Inputs<Self>) -> Result<Self>;
}

impl Runs for Var {
    fn run(loss: &dyn Run, inputs: &Inputs<Self>) -> Result<Self> {
        loss.nd(inputs)
    }
}

impl Runs for Dual<Var> {
    fn run(loss: &dyn Run, inputs: &Inputs<Self>) -> Result<Self> {
        loss.dual(inputs)
    }
}

impl Runs for Mutant<Var> {
    fn run(loss: &dyn Run, inputs: &Inputs<Self>) -> Result<Self> {
        loss.mutant(inputs)
    }
}

#[cfg(feature = "llm")]
impl Runs for crate::backend::candle::Array {
    fn run(loss: &dyn Run, inputs: &Inputs<Self>) -> Result<Self> {
        loss.tensors(inputs)
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}{:?}", self.spec.name, self.numbers)
    }
}

impl Bound {
    pub(super) fn new<L: Loss>(loss: &'static L, numbers: L::Numbers) -> Self {
        let values = L::Numbers::ALL.iter().zip(numbers.values());
        Self {
            spec: loss.spec(),
            numbers: values.fold(Given::new(), |all, (n, value)| all.with(n.name, value)),
            baseline: loss.baseline(&numbers),
            run: Arc::new(With { loss, numbers }),
            columns: Arc::default(),
            coupled: Arc::default(),
        }
    }

    /// Its entry.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its numbers, all of them.
    pub fn numbers(&self) -> &Given {
        &self.numbers
    }

    /// The baseline that single responses are held against, if it has one.
    pub fn baseline(&self) -> Option<&Baseline> {
        self.baseline.as_ref()
    }

    /// The per-example loss, `[B]`.
    ///
    /// # Errors
    /// Inputs of another kind than its [`Spec::inputs`], or arrays of different lengths.
    pub fn loss<X: Runs>(&self, inputs: &Inputs<X>) -> Result<X> {
        if inputs.are(self.spec.inputs) {
            return X::run(&*self.run, inputs);
        }
        Err(Error::Inputs {
            objective: self.spec.name,
            expected: self.spec.inputs.name(),
            found: inputs.kind(),
        })
    }

    /// The columns that it reads, found out by running it on a few examples.
    ///
    /// # Errors
    /// Those of the loss.
    pub fn columns(&self) -> Result<Columns> {
        if let Some(known) = self.columns.get() {
            return Ok(*known);
        }
        let tape = Tape::new();
        let probe = batch::probe(self.spec.inputs);
        let array = |v: &[f64]| Ok(tape.constant(v.to_vec()));
        let (inputs, _) = probe.inputs(self.spec.inputs, Columns::ALL, array, array)?;
        self.loss(&inputs)?;
        Ok(*self.columns.get_or_init(|| inputs.read()))
    }

    /// True if the loss of an example depends on the others of its batch, found out by running it on a few examples
    /// together and on one alone. A loss that cannot be run on one is coupled.
    ///
    /// # Errors
    /// Those of the loss on the few.
    pub fn is_coupled(&self) -> Result<bool> {
        if let Some(known) = self.coupled.get() {
            return Ok(*known);
        }
        let (kind, all) = (self.spec.inputs, batch::probe(self.spec.inputs));
        let first = all.first(kind);
        let together = self.on_tape(&all)?;
        let alone = self.on_tape(&first);
        let coupled = alone.map_or(true, |alone| {
            let gradients = together.gradient.iter().zip(&alone.gradient);
            let apart = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-12 * (1.0 + b.abs());
            gradients.flat_map(|(a, b)| a.iter().zip(b)).any(apart)
        });
        Ok(*self.coupled.get_or_init(|| coupled))
    }

    /// The weighted loss of a batch and its gradient, on tensors in f64 on a device.
    ///
    /// # Errors
    /// Those of the loss, or of a device that does not have f64.
    #[cfg(feature = "llm")]
    pub fn on_device(&self, batch: &Batch, device: &candle_core::Device) -> Result<Cotangents> {
        use crate::backend::candle::{Array, backward, constant, leaf};
        use candle_core::DType;
        let (inputs, leaves) = batch.inputs(
            self.spec.inputs,
            self.columns()?,
            |v| leaf(v, DType::F64, device),
            |v| constant(v, DType::F64, device),
        )?;
        let each = self.loss(&inputs)?;
        let leaves: Vec<&Array> = leaves.iter().collect();
        let gradient = backward(&each, &batch.weight, &leaves)?;
        let each = each.to_vec()?;
        let weighted = each.iter().zip(&batch.weight);
        Ok(Cotangents {
            value: weighted.map(|(v, w)| v * w).sum(),
            gradient,
        })
    }

    /// Values and gradients on a few fixed examples: two losses that have the same are taken for one.
    ///
    /// # Errors
    /// Those of the loss.
    pub fn fingerprint(&self) -> Result<Vec<f64>> {
        let found = self.on_tape(&batch::probe(self.spec.inputs))?;
        Ok(std::iter::once(found.value)
            .chain(found.gradient.into_iter().flatten())
            .collect())
    }

    /// The weighted loss of a batch and its gradient, on arrays on the host.
    ///
    /// # Errors
    /// Those of the loss.
    pub fn on_tape(&self, batch: &Batch) -> Result<Cotangents> {
        batch::run(self.spec.inputs, self.columns()?, batch, |inputs| {
            self.loss(inputs)
        })
    }
}
