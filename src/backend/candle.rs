//! The tensor backend: candle, f32 and f64, on any device.
//!
//! Only operations whose gradient candle gets right are used, and every slope at a kink is pinned
//! by a test that compares it with [`nd`](super::nd).

use std::rc::Rc;

use candle_core::{DType, Device, Tensor, Var};

use super::{Backend, Segments, same_length, within};
use crate::error::{Error, Result};

/// A flat f32 or f64 tensor.
///
/// Arrays that meet in an operation must have the same precision and device; nothing is promoted.
#[derive(Debug, Clone)]
pub struct Array(Tensor);

impl Array {
    /// A view of a `[N]` tensor; gradients flow through to what it was computed from.
    ///
    /// # Errors
    /// A tensor of another rank, or of another precision than f32 and f64.
    pub fn new(tensor: Tensor) -> Result<Self> {
        if tensor.rank() == 1 && matches!(tensor.dtype(), DType::F32 | DType::F64) {
            return Ok(Self(tensor));
        }
        let (shape, dtype) = (tensor.dims(), tensor.dtype().as_str());
        Err(failure(format!(
            "a loss takes flat f32 or f64 tensors, not {shape:?} of {dtype}"
        )))
    }

    /// The tensor itself.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    fn len(&self) -> usize {
        self.0.elem_count()
    }
}

/// A variable: gradients are taken with respect to it.
///
/// # Errors
/// A precision other than f32 and f64, or a failing device.
pub fn leaf(values: &[f64], dtype: DType, device: &Device) -> Result<Array> {
    let numbers = constant(values, dtype, device)?;
    wrap(Var::from_tensor(&numbers.0).map(Var::into_inner))
}

/// A constant.
///
/// # Errors
/// A precision other than f32 and f64, or a failing device.
pub fn constant(values: &[f64], dtype: DType, device: &Device) -> Result<Array> {
    // Rounded on the host: half the transfer, and not every device has f64.
    let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu)
        .and_then(|t| t.to_dtype(dtype))
        .and_then(|t| t.to_device(device));
    Array::new(tensor.map_err(failure)?)
}

/// The gradients of `Σᵢ weights[i] · output[i]` with respect to each of `leaves`, on the host; zeros
/// for a leaf that `output` does not depend on.
///
/// # Errors
/// If `weights` is not as long as `output`, or one of `leaves` is not a variable (candle keeps no
/// gradient of what is computed on the way).
pub fn backward(output: &Array, weights: &[f64], leaves: &[&Array]) -> Result<Vec<Vec<f64>>> {
    same_length("backward", output.len(), weights.len())?;
    if let Some(i) = leaves.iter().position(|leaf| !leaf.0.is_variable()) {
        return Err(failure(format!("leaf {i} is not a variable")));
    }
    let weighted = output.mul(&output.constant(weights)?)?;
    let gradients = (weighted.0.sum_all().and_then(|loss| loss.backward())).map_err(failure)?;
    (leaves.iter())
        .map(|leaf| match gradients.get(&leaf.0) {
            Some(gradient) => Array(gradient.clone()).to_vec(),
            None => Ok(vec![0.0; leaf.len()]),
        })
        .collect()
}

impl Backend for Array {
    fn constant(&self, values: &[f64]) -> Result<Self> {
        constant(values, self.0.dtype(), self.0.device())
    }

    fn to_vec(&self) -> Result<Vec<f64>> {
        (self.0.to_device(&Device::Cpu))
            .and_then(|t| t.to_dtype(DType::F64)?.to_vec1())
            .map_err(failure)
    }

    fn add(&self, other: &Self) -> Result<Self> {
        same_length("add", self.len(), other.len())?;
        wrap(self.0.add(&other.0))
    }

    fn sub(&self, other: &Self) -> Result<Self> {
        same_length("sub", self.len(), other.len())?;
        wrap(self.0.sub(&other.0))
    }

    fn mul(&self, other: &Self) -> Result<Self> {
        same_length("mul", self.len(), other.len())?;
        wrap(self.0.mul(&other.0))
    }

    fn div(&self, other: &Self) -> Result<Self> {
        same_length("div", self.len(), other.len())?;
        // The slope is −a/b² by a square of b, which an f32 holds for |b| from 1e-19 to 1e19.
        wrap(self.0.div(&other.0))
    }

    fn max(&self, other: &Self) -> Result<Self> {
        same_length("max", self.len(), other.len())?;
        // candle's own halves the slope at ties.
        let (x, y) = (&self.0, &other.0);
        let first = x.gt(y).and_then(|above| above.add(&x.ne(x)?));
        wrap(first.and_then(|first| first.where_cond(x, y)))
    }

    fn affine(&self, scale: f64, shift: f64) -> Result<Self> {
        wrap(self.0.affine(scale, shift))
    }

    fn softplus(&self) -> Result<Self> {
        wrap(softplus(&self.0))
    }

    fn exp(&self) -> Result<Self> {
        wrap(self.0.exp())
    }

    fn ln(&self) -> Result<Self> {
        wrap(self.0.log())
    }

    fn sqrt(&self) -> Result<Self> {
        // candle's own slope at 0 is infinite, and 0 · ∞ is NaN however it is masked afterwards.
        let x = &self.0;
        wrap((|| {
            let root = x.ne(0.0)?.where_cond(x, &x.ones_like()?)?.sqrt()?;
            x.ne(0.0)?.where_cond(&root, &x.zeros_like()?)
        })())
    }

    fn sigmoid(&self) -> Result<Self> {
        wrap(sigmoid(&self.0))
    }

    fn relu(&self) -> Result<Self> {
        // candle's own has slope 1 at 0; a product with a mask would make NaN of −∞.
        let x = &self.0;
        wrap(
            x.le(0.0)
                .and_then(|off| off.where_cond(&x.zeros_like()?, x)),
        )
    }

    fn step(&self) -> Result<Self> {
        let x = self.0.detach();
        wrap(x.gt(0.0).and_then(|on| on.to_dtype(x.dtype())))
    }

    fn detach(&self) -> Result<Self> {
        Ok(Self(self.0.detach()))
    }

    fn segment_sum(&self, segments: &Rc<Segments>) -> Result<Self> {
        same_length("segment_sum", self.len(), segments.members())?;
        let x = &self.0;
        wrap(owner(segments, x.device()).and_then(|owner| {
            Tensor::zeros(segments.groups(), x.dtype(), x.device())?.index_add(
                &owner,
                &x.contiguous()?,
                0,
            )
        }))
    }

    fn spread(&self, segments: &Rc<Segments>) -> Result<Self> {
        same_length("spread", self.len(), segments.groups())?;
        let x = &self.0;
        wrap(owner(segments, x.device()).and_then(|owner| x.contiguous()?.index_select(&owner, 0)))
    }

    fn select(&self, indices: &[u32]) -> Result<Self> {
        within(indices, self.len())?;
        let x = &self.0;
        wrap(
            Tensor::from_slice(indices, indices.len(), x.device())
                .and_then(|at| x.contiguous()?.index_select(&at, 0)),
        )
    }
}

/// `max(x, 0) + ln(1 + e^{−|x|})`.
///
/// The slope at 0 is ½ because candle gives both `relu` and `|x|` slope 1 there: 1 − ½. candle has
/// no `ln_1p`: what rounding `u = 1 + e` lost is added back, `ln(1 + e) ≈ ln u + (e − (u − 1))/u`,
/// and needs no gradient, since that of `ln u` is accurate.
fn softplus(x: &Tensor) -> candle_core::Result<Tensor> {
    let e = x.abs()?.neg()?.exp()?;
    let u = (&e + 1.0)?;
    let lost = {
        let (e, u) = (e.detach(), u.detach());
        ((e - (&u - 1.0)?)? / u)?
    };
    (x.relu()? + u.log()?)? + lost
}

/// `1/(1 + e)` where x ≥ 0, else `e/(1 + e)`, with `e = e^{−|x|}`: no overflow, forward or backward.
fn sigmoid(x: &Tensor) -> candle_core::Result<Tensor> {
    let e = x.abs()?.neg()?.exp()?;
    let top = x.ge(0.0)?.where_cond(&e.ones_like()?, &e)?;
    top / (e + 1.0)?
}

fn owner(segments: &Segments, device: &Device) -> candle_core::Result<Tensor> {
    Tensor::from_slice(segments.owner(), segments.members(), device)
}

fn wrap(result: candle_core::Result<Tensor>) -> Result<Array> {
    result.map(Array).map_err(failure)
}

fn failure(message: impl ToString) -> Error {
    Error::Backend {
        backend: "candle",
        message: message.to_string(),
    }
}
