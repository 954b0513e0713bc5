//! Named parameters.

use candle_core::{DType, Device, Tensor};

use super::tape::{Node, Tape};
use crate::error::{Error, Result};

/// Which parameter.
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
    /// Its name in files.
    pub name: String,
    /// Its numbers, changed in place by optimisers.
    pub tensor: Tensor,
    /// Whether it is trained.
    pub trainable: bool,
}

/// All parameters of a network, in the order in which they were made.
#[derive(Debug, Clone)]
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
        let tensor = (tensor.to_dtype(self.dtype)?)
            .to_device(&self.device)?
            .copy()?;
        let trainable = true;
        self.list.push(Parameter {
            name,
            tensor,
            trainable,
        });
        Ok(Id(self.list.len() - 1))
    }

    /// A parameter on a tape: a leaf if it is trained.
    pub fn node(&self, tape: &Tape, id: Id) -> Node {
        let Parameter {
            tensor, trainable, ..
        } = &self.list[id.0];
        match trainable {
            true => tape.leaf(id.0, tensor.clone()),
            false => Node::constant(tensor.clone()),
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

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Their precision.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where they are.
    pub fn device(&self) -> &Device {
        &self.device
    }
}
