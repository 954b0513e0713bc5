//! Parts that kernels share: shapes, inputs, outputs, gradients.

use candle_core::{DType, Device, Shape, Tensor};

use super::float::Float;
use super::matmul::Mode;
use super::memory::unwritten;
use super::slice::modify;
use crate::error::{Error, Result};
use crate::llm::tensor::tape::{Gradients, Node, Target};

/// Runs a kernel in the precision of `$x` if it is on the CPU in f32 or f64, else the twin.
macro_rules! on_cpu {
    ($x:expr, $kernel:ident :: $name:ident, $twin:expr, $arguments:tt) => {
        match $crate::llm::tensor::ops::kernel::precision($x) {
            Some(candle_core::DType::F32) => $kernel::$name::<f32> $arguments,
            Some(_) => $kernel::$name::<f64> $arguments,
            None => $twin $arguments,
        }
    };
}
pub(super) use on_cpu;

/// The precision that a kernel has to have.
pub fn precision(x: &Node) -> Option<DType> {
    let x = x.value();
    (x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)).then_some(x.dtype())
}

/// An error unless an operation's lengths agree.
///
/// # Errors
/// They do not.
pub fn same(operation: &'static str, left: usize, right: usize) -> Result<()> {
    if left == right {
        Ok(())
    } else {
        Err(Error::Shape {
            operation,
            left,
            right,
        })
    }
}

/// How many runs of `length` numbers the rows of `x` consist of, all rows together.
///
/// # Errors
/// Rows that do not.
pub fn runs(operation: &'static str, x: &Tensor, length: usize) -> Result<usize> {
    let (n, width) = x.dims2()?;
    let each = width.checked_div(length).unwrap_or(0);
    same(operation, width, each * length)?;
    Ok(n * each)
}

/// An error unless two tensors have one shape.
///
/// # Errors
/// They have not.
pub fn same_shape(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() == b.dims() {
        Ok(())
    } else {
        Err(Error::Backend {
            backend: "ops",
            message: format!("shapes {:?} and {:?} differ", a.dims(), b.dims()),
        })
    }
}

/// An error unless every index is below `rows`.
///
/// # Errors
/// One is not.
pub fn below(operation: &'static str, indices: &[u32], rows: usize) -> Result<()> {
    match indices.iter().find(|&&i| i as usize >= rows) {
        None => Ok(()),
        Some(i) => Err(Error::invalid(
            operation,
            format!("index {i} of {rows} rows"),
            "give indices below the number of rows",
        )),
    }
}

/// 1/τ of a temperature τ, at most 1e30, which f32 holds: beyond, all but the largest logits have probability 0 anyway.
///
/// # Errors
/// A temperature that is not positive.
pub fn inverse(operation: &'static str, temperature: f64) -> Result<f64> {
    if temperature > 0.0 && temperature.is_finite() {
        Ok(temperature.recip().min(1e30))
    } else {
        let problem = format!("temperature {temperature}");
        Err(Error::invalid(operation, problem, "give a positive number"))
    }
}

/// A tensor on the CPU.
///
/// # Errors
/// A shape of another size.
pub fn tensor<T: Float>(numbers: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(numbers, shape.into(), &Device::Cpu)?)
}

/// Adds to the gradient of `node`, if it is wanted, what `f` writes to or adds to the memory it is
/// given: that of the gradient so far, or fresh memory whose content is anything.
///
/// # Safety
/// In [`Mode::Write`] `f` writes every number before it reads it.
///
/// # Errors
/// A gradient so far of another precision.
pub unsafe fn accumulate<T: Float>(
    sums: &mut Gradients,
    node: &Target,
    f: impl FnOnce(&mut [T], Mode),
) -> Result<()> {
    if !node.wanted() {
        return Ok(());
    }
    match sums.take(node) {
        Some(sum) => {
            modify(&sum, |sum| f(sum, Mode::Add))?;
            sums.add(node, sum)
        }
        None => {
            let shape = node.shape();
            // SAFETY: `f` writes first.
            let mut fresh = unsafe { unwritten(shape.elem_count()) };
            f(&mut fresh, Mode::Write);
            sums.add(node, tensor(fresh, shape)?)
        }
    }
}
