//! Parameters and gradients of a network as vectors that methods of continual learning compute with.

use candle_core::{DType, Tensor};

use super::learner::Learner;
use crate::continual::hooks::{Vectors, project};
use crate::error::{Error, Result};
use crate::llm::tensor::parameters::Parameters;
use crate::llm::tensor::tape::LeafGradients;

/// A tensor of each trained parameter, in their order.
#[derive(Debug)]
pub struct Leaves(pub Vec<Tensor>);

impl Leaves {
    /// A copy of the trained parameters.
    ///
    /// # Errors
    /// A failing device.
    pub fn of(parameters: &Parameters) -> Result<Self> {
        let trained = parameters.iter().filter(|p| p.trainable);
        let copies = trained.map(|p| Ok(p.tensor.copy()?));
        Ok(Self(copies.collect::<Result<_>>()?))
    }

    /// The trained parameters themselves: to be read.
    pub fn view(parameters: &Parameters) -> Self {
        let trained = parameters.iter().filter(|p| p.trainable);
        Self(trained.map(|p| p.tensor.clone()).collect())
    }

    /// Gradients of the trained parameters; zeros where nothing has arrived.
    ///
    /// # Errors
    /// A failing device.
    pub fn gradients(parameters: &Parameters, gradients: &LeafGradients) -> Result<Self> {
        let trained = (parameters.iter().enumerate()).filter(|(_, p)| p.trainable);
        let of = trained.map(|(leaf, p)| match gradients.get(leaf) {
            Some(gradient) => Ok(gradient.clone()),
            None => Ok(p.tensor.zeros_like()?),
        });
        Ok(Self(of.collect::<Result<_>>()?))
    }

    /// Puts gradients in the place of those that are there.
    pub fn put(self, parameters: &Parameters, gradients: &mut LeafGradients) {
        let trained = (parameters.iter().enumerate()).filter(|(_, p)| p.trainable);
        for ((leaf, _), gradient) in trained.zip(self.0) {
            gradients.change(leaf, |_| gradient);
        }
    }

    /// Names of the trained parameters, in the same order.
    pub fn names(parameters: &Parameters) -> impl Iterator<Item = &str> {
        let trained = parameters.iter().filter(|p| p.trainable);
        trained.map(|p| p.name.as_str())
    }

    fn each(&mut self, other: &Self, f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) -> Result<()> {
        self.like(other)?;
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = f(own, other)?;
        }
        Ok(())
    }

    fn like(&self, other: &Self) -> Result<()> {
        if self.0.len() == other.0.len() {
            return Ok(());
        }
        Err(Error::Shape {
            operation: "leaves",
            left: self.0.len(),
            right: other.0.len(),
        })
    }
}

impl Vectors for Leaves {
    fn zeros_like(&self) -> Result<Self> {
        let zeros = self.0.iter().map(|t| Ok(t.zeros_like()?));
        Ok(Self(zeros.collect::<Result<_>>()?))
    }

    fn copied(&self) -> Result<Self> {
        let copies = self.0.iter().map(|t| Ok(t.copy()?));
        Ok(Self(copies.collect::<Result<_>>()?))
    }

    fn scale(&mut self, s: f64) -> Result<()> {
        for own in &mut self.0 {
            *own = (&*own * s)?;
        }
        Ok(())
    }

    fn add(&mut self, s: f64, other: &Self) -> Result<()> {
        self.each(other, |own, other| {
            let other = other.to_dtype(own.dtype())?;
            Ok((own + (other * s)?)?)
        })
    }

    fn add_product(&mut self, s: f64, a: &Self, b: &Self) -> Result<()> {
        self.like(a)?;
        self.like(b)?;
        for (own, (a, b)) in self.0.iter_mut().zip(a.0.iter().zip(&b.0)) {
            let [a, b] = [a.to_dtype(own.dtype())?, b.to_dtype(own.dtype())?];
            *own = (&*own + ((a * b)? * s)?)?;
        }
        Ok(())
    }

    fn add_absolute(&mut self, s: f64, a: &Self) -> Result<()> {
        self.each(a, |own, a| {
            let a = a.to_dtype(own.dtype())?;
            Ok((own + (a.abs()? * s)?)?)
        })
    }

    fn dot(&self, other: &Self) -> Result<f64> {
        self.like(other)?;
        let mut sum = 0.0;
        for (a, b) in self.0.iter().zip(&other.0) {
            let product = (a * b.to_dtype(a.dtype())?)?;
            sum += product
                .to_dtype(DType::F64)?
                .sum_all()?
                .to_scalar::<f64>()?;
        }
        Ok(sum)
    }
}

impl Learner {
    /// [`project`]s its gradient against another's; true where it had to.
    pub(super) fn project(&mut self, reference: &LeafGradients) -> Result<bool> {
        let parameters = self.model.parameters();
        let reference = Leaves::gradients(parameters, reference)?;
        let mut own = Leaves::gradients(parameters, &self.gradients)?;
        let turned = project(&mut own, &reference)?;
        if turned {
            own.put(parameters, &mut self.gradients);
        }
        Ok(turned)
    }
}
