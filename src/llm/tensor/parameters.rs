//! Named parameters.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::tape::{Node, Tape};
use crate::error::{Error, Result};

/// Index of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(usize);

impl Id {
    /// Its index, and its leaf's on a tape.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name: Llama's for every family (`weights::layout` knows those of files).
    pub name: String,
    /// Its numbers, changed in place by optimisers.
    pub tensor: Tensor,
    /// True if it is trained.
    pub trainable: bool,
}

/// All parameters of a network, in the order in which they were made. (No `Clone`: tensors share
/// memory, and a clone would be trained along.)
#[derive(Debug)]
pub struct Parameters {
    list: Vec<Parameter>,
    dtype: DType,
    device: Device,
}

impl Parameters {
    /// None yet.
    pub fn new(dtype: DType, device: &Device) -> Self {
        Self {
            list: Vec::new(),
            dtype,
            device: device.clone(),
        }
    }

    /// Adds a trainable parameter of the store's precision on its device.
    ///
    /// # Errors
    /// A name that is there already, or a failing device.
    pub fn add(&mut self, name: impl Into<String>, tensor: &Tensor) -> Result<Id> {
        let name = name.into();
        if self.list.iter().any(|p| p.name == name) {
            return Err(Error::invalid(name, "it is there twice", "name each once"));
        }
        let tensor = self.own(tensor)?;
        let trainable = true;
        self.list.push(Parameter {
            name,
            tensor,
            trainable,
        });
        Ok(Id(self.list.len() - 1))
    }

    /// Gives a parameter other numbers.
    ///
    /// # Errors
    /// A name that is not there, another shape, or a failing device.
    pub fn set(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let tensor = self.own(tensor)?;
        let Some(parameter) = self.list.iter_mut().find(|p| p.name == name) else {
            let remedy = "use the name of a parameter";
            return Err(Error::invalid(name, "there is no such parameter", remedy));
        };
        if parameter.tensor.dims() != tensor.dims() {
            let problem = format!("its new shape is {:?}", tensor.dims());
            let remedy = format!("the parameter's is {:?}", parameter.tensor.dims());
            return Err(Error::invalid(name, problem, remedy));
        }
        parameter.tensor = tensor;
        Ok(())
    }

    /// A copy of its own, of the store's precision on its device.
    fn own(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor
            .to_dtype(self.dtype)?
            .to_device(&self.device)?
            .copy()?)
    }

    /// The parameters with memory of their own, or frozen: then those that are `shared` share it.
    pub(in crate::llm) fn copied(
        &self,
        frozen: bool,
        shared: impl Fn(&Parameter) -> bool,
    ) -> Result<Self> {
        let list = (self.list.iter())
            .map(|p| {
                let tensor = if frozen && shared(p) {
                    p.tensor.clone()
                } else {
                    p.tensor.copy()?
                };
                Ok(Parameter {
                    name: p.name.clone(),
                    tensor,
                    trainable: p.trainable && !frozen,
                })
            })
            .collect::<Result<_>>()?;
        let (dtype, device) = (self.dtype, self.device.clone());
        Ok(Self {
            list,
            dtype,
            device,
        })
    }

    /// The tensors by name.
    pub(in crate::llm) fn into_tensors(self) -> HashMap<String, Tensor> {
        self.list.into_iter().map(|p| (p.name, p.tensor)).collect()
    }

    /// The parameter of that name.
    pub fn find(&self, name: &str) -> Option<Id> {
        self.list.iter().position(|p| p.name == name).map(Id)
    }

    /// A parameter.
    pub fn get(&self, id: Id) -> &Parameter {
        &self.list[id.0]
    }

    /// A parameter on a tape: a leaf if it is trained.
    pub fn node(&self, tape: &Tape, id: Id) -> Node {
        let Parameter {
            tensor, trainable, ..
        } = &self.list[id.0];
        if *trainable {
            tape.leaf(id.0, tensor.clone())
        } else {
            Node::constant(tensor.clone())
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.list.iter()
    }

    /// All of them, to change what is trained.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Parameter> {
        self.list.iter_mut()
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Their precision.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Device of the parameters.
    pub fn device(&self) -> &Device {
        &self.device
    }
}
