//! The operations of devices without kernels of our own: composed of candle's, with backwards
//! written by hand.
//!
//! They run wherever candle does; in bf16 on a CPU too, which is how they are tested. What all keep
//! to:
//!
//! - Inputs and outputs are of the tensors' precision. Statistics, sums over long axes and what
//!   they are made of are f32 where that is bf16 or f16 (`wide`).
//! - Nothing waits for the device: no number is read back. Indices are uploaded once a pack
//!   (`Pack`) or once a call.
//! - Where TF32 is asked for, sums that are products have it too: those over rows, and those of the
//!   gradients of norms.
//! - Matrices are transposed in place: cuBLAS takes a dense matrix either way round (`product`).
//! - A difference that is to be exponentiated is made inside a matrix product (`augmented`): the
//!   product is summed in f32 and rounded to bf16 at the end, so that what is rounded is small where
//!   it matters; and one pass over a large tensor is saved.

use candle_core::{DType, Result as Candle, Tensor};

pub use super::activation::composed::activation;
pub use super::attention::composed::{attention, attention_within};
pub use super::gated::composed::gated;
pub use super::layer_norm::composed::layer_norm;
pub use super::linear::composed::linear;
pub use super::logits::cross_entropy::composed::{cross_entropy, cross_entropy_within};
pub use super::logits::logit_difference::composed::{logit_difference, logit_difference_within};
pub use super::logits::token_log_probs::composed::{token_log_probs, token_log_probs_within};
pub use super::rms_norm::composed::rms_norm;
pub use super::rope::composed::rope;
pub use super::rows::composed::rows;

/// An index that selects zeros.
pub(super) const NONE: u32 = u32::MAX;

/// The precision of statistics.
pub(in crate::llm) fn wider(dtype: DType) -> DType {
    match dtype {
        DType::BF16 | DType::F16 => DType::F32,
        dtype => dtype,
    }
}

/// In the precision of statistics.
pub(super) fn wide(x: &Tensor) -> Candle<Tensor> {
    x.to_dtype(wider(x.dtype()))
}

/// `factor · x`, rounded once: candle rounds a factor to the tensor's precision.
pub(super) fn scaled(x: &Tensor, factor: f64) -> Candle<Tensor> {
    let single = factor as f32;
    let exact = match x.dtype() {
        // bf16 is the upper half of f32.
        DType::BF16 => f64::from(single) == factor && single.to_bits() & 0xffff == 0,
        DType::F16 => false,
        _ => true,
    };
    if exact {
        x * factor
    } else {
        (wide(x)? * factor)?.to_dtype(x.dtype())
    }
}

/// The matrix product, of matrices that a GPU takes as they are. candle's on a CPU takes more, so
/// that only debug builds would tell.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Candle<Tensor> {
    debug_assert!(
        is_dense(a) && is_dense(b),
        "{:?} {:?}",
        a.layout(),
        b.layout()
    );
    a.matmul(b)
}

/// Whether every matrix is dense, by rows or by columns: what candle hands to cuBLAS.
pub(super) fn is_dense(x: &Tensor) -> bool {
    let (dims, stride) = (x.dims(), x.stride());
    match (dims, stride) {
        ([.., rows, columns], [.., down, along]) => {
            let by_rows = (*along == 1 || *columns == 1) && (down == columns || *rows == 1);
            let by_columns = (along == rows || *columns == 1) && (*down == 1 || *rows == 1);
            dims.len() <= 3 && (by_rows || by_columns)
        }
        _ => false,
    }
}

/// The sum of all rows: `[N, D]` → `[D]`, as a product with ones. candle's own sum over the first
/// axis reads with a stride; a product reads in order, and sums bf16 in f32.
pub(super) fn sum_rows(x: &Tensor) -> Candle<Tensor> {
    let (n, width) = x.dims2()?;
    let ones = Tensor::ones((1, n), x.dtype(), x.device())?;
    product(&ones, x)?.reshape(width)
}

/// Columns in the precision `dtype` whose sum is `x`, `[…, 1]`, to 24 bits or, in f64, all. Each
/// holds 8 bits only, which bf16 and TF32 leave alone.
pub(super) fn columns(x: &Tensor, dtype: DType) -> Candle<Vec<Tensor>> {
    let mut rest = x.clone();
    (0..column_count(x.dtype(), dtype))
        .map(|_| {
            let part = rest.to_dtype(coarse(dtype))?;
            rest = (&rest - part.to_dtype(x.dtype())?)?;
            part.to_dtype(dtype)
        })
        .collect()
}

/// How many [`columns`] a number of the precision `of` makes.
pub(super) fn column_count(of: DType, dtype: DType) -> usize {
    if of == coarse(dtype) { 1 } else { 3 }
}

/// The precision of each of [`columns`].
pub(super) fn coarse(dtype: DType) -> DType {
    match dtype {
        DType::F64 | DType::F16 => dtype,
        _ => DType::BF16,
    }
}

/// `[x, columns, 0]` along the last axis. Its product with `[y, 1, 0]ᵀ` ([`with_ones`]) is
/// `x yᵀ + Σ columns`, rounded once. The width is made a multiple of 8, which tensor cores like.
pub(super) fn augmented(x: &Tensor, columns: &[Tensor]) -> Candle<Tensor> {
    let x = x.contiguous()?;
    let axis = x.rank() - 1;
    let mut shape = x.dims().to_vec();
    let used = shape[axis] + columns.iter().map(|c| c.dims()[axis]).sum::<usize>();
    shape[axis] = used.next_multiple_of(8) - used;
    let zeros = (shape[axis] > 0).then(|| Tensor::zeros(shape, x.dtype(), x.device()));
    let zeros = zeros.transpose()?;
    let parts: Vec<&Tensor> = [&x].into_iter().chain(columns).chain(&zeros).collect();
    Tensor::cat(&parts, axis)
}

/// The other side of [`augmented`] with that many columns.
pub(super) fn with_ones(y: &Tensor, columns: usize) -> Candle<Tensor> {
    let mut shape = y.dims().to_vec();
    shape[y.rank() - 1] = columns;
    augmented(y, &[Tensor::ones(shape, y.dtype(), y.device())?])
}
