//! The facts of an operation, in one place: what it takes and gives, what it costs, how far it may be off, and the
//! memory that it needs.

use std::any::Any;
use std::fmt::Debug;
use std::rc::Rc;

use candle_core::Tensor;

use super::bound::Bound;
use super::cases::Shapes;
use super::cost::Cost;
use super::needs::{Form, Memory};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// An input.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name in messages.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Standard deviation of its random numbers: such that the output's is about 1.
    pub deviation: f64,
    /// Whether the operation is differentiated by it.
    pub trained: bool,
}

impl Input {
    /// One of that name, shape and deviation.
    pub fn new(name: &'static str, shape: &[usize], deviation: f64) -> Self {
        let shape = shape.to_vec();
        Self {
            name,
            shape,
            deviation,
            trained: true,
        }
    }

    /// The same, by which nobody differentiates.
    #[must_use]
    pub fn constant(self) -> Self {
        Self {
            trained: false,
            ..self
        }
    }
}

/// A tensor that an operation reads and that nobody differentiates by.
#[derive(Debug, Clone)]
pub struct Constant {
    /// Its numbers.
    pub tensor: Tensor,
    /// True if it is kept in f32 where tensors have fewer bits.
    pub wide: bool,
}

/// A function of `ops` on given shapes.
pub trait Operation: Same + Debug {
    /// The function's name.
    fn function(&self) -> &'static str;

    /// Inputs, in the order of its arguments: those that it is differentiated by before the constants.
    fn inputs(&self) -> Vec<Input>;

    /// What it reads besides, in the order of its arguments, in f64 on the CPU.
    ///
    /// # Errors
    /// A failing device.
    fn constants(&self) -> Result<Vec<Constant>> {
        Ok(Vec::new())
    }

    /// The output's shape.
    fn output(&self) -> Vec<usize>;

    /// True if the output is f32 where inputs have fewer bits.
    fn gives_wide(&self) -> bool {
        false
    }

    /// The operation as models call it.
    ///
    /// # Errors
    /// Those of the operation.
    fn run(&self, tape: &Tape, x: &[Node], constants: &[Tensor]) -> Result<Node>;

    /// Its twin of candle's operations, whose graph gives the gradient.
    ///
    /// # Errors
    /// Those of candle.
    fn twin(&self, tape: &Tape, x: &[Node], constants: &[Tensor]) -> Result<Node>;

    /// The least cost of forward and backward.
    ///
    /// Backward reads the cotangent and the inputs it needs and writes every gradient. What an
    /// implementation does again (attention's scores, logits) is not counted: a floor is what
    /// cannot be avoided.
    fn cost(&self) -> [Cost; 2];

    /// Error bounds of the value and of each gradient.
    fn bounds(&self) -> Vec<Bound>;

    /// Memory, where gradients of those inputs are wanted.
    fn memory(&self, form: &Form, wanted: &[bool]) -> Memory;
}

/// Equality of operations whose type is not known.
pub trait Same: Any {
    /// True if the other is the same operation on the same shapes.
    fn same(&self, other: &dyn Operation) -> bool;
}

impl<T: Operation + PartialEq> Same for T {
    fn same(&self, other: &dyn Operation) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref() == Some(self)
    }
}

impl PartialEq for dyn Operation {
    fn eq(&self, other: &Self) -> bool {
        self.same(other)
    }
}

/// An operation to examine, with the name that tells it from others of its function.
pub type Case = (&'static str, Rc<dyn Operation>);

/// A folder of operations in the [registry](super::REGISTRY).
pub struct Entry {
    /// Its name.
    pub folder: &'static str,
    /// Its functions.
    pub functions: &'static [&'static str],
    /// Every choice that they have, on shapes that are odd on purpose.
    pub cases: fn(&Shapes) -> Vec<Case>,
}
