//! The gradient's length, and clipping by it.

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{CHUNK, PIECE, pieces};
use crate::error::Result;
use crate::llm::tensor::ops::float::{Float, Stored};
use crate::llm::tensor::ops::simd::{sum, vectorised};
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::parameters::Parameters;
use crate::llm::tensor::tape::LeafGradients;

/// Numbers whose squares a device adds up in f32 before f64 takes over.
const ROW: usize = 1 << 12;

/// `√Σg²` over all parameters.
///
/// On the CPU it is summed in f64, in the same order for any number of threads. On a device squares
/// are summed in f32 over rows of 4,096 numbers and in f64 beyond, and one number is read, once.
///
/// # Errors
/// A failing device.
pub fn gradient_norm(parameters: &Parameters, gradients: &LeafGradients) -> Result<f64> {
    let mut squares = Squares::new(parameters.len());
    for (index, _, gradient) in super::updates(parameters, gradients) {
        squares.add(index, gradient)?;
    }
    squares.norm()
}

/// Factor that scales gradients of that norm down to `max` at most: `min(1, max / (norm + 1e-6))`, as PyTorch's
/// `clip_grad_norm_`.
pub fn clip(norm: f64, max: f64) -> f64 {
    (max / (norm + 1e-6)).min(1.0)
}

/// [`gradient_norm`] of gradients that come one by one, in whatever order: the same to the bit.
#[derive(Debug)]
pub struct Squares(Vec<Option<Square>>);

/// `Σg²` of a parameter, in f64.
#[derive(Debug)]
enum Square {
    Here(f64),
    /// Not read yet.
    There(Tensor),
}

impl Squares {
    /// None yet, of that many leaves.
    pub fn new(leaves: usize) -> Self {
        Self((0..leaves).map(|_| None).collect())
    }

    /// Takes note of a leaf's gradient, in the place of an earlier one. Waits for no device.
    ///
    /// # Errors
    /// A failing device.
    pub fn add(&mut self, leaf: usize, gradient: &Tensor) -> Result<()> {
        self.0[leaf] = Some(square(gradient)?);
        Ok(())
    }

    /// `√Σg²` of what was noted, in the order of leaves.
    ///
    /// # Errors
    /// A failing device.
    pub fn norm(&self) -> Result<f64> {
        let (mut here, mut there) = (0.0, Vec::new());
        for square in self.0.iter().flatten() {
            match square {
                Square::Here(square) => here += square,
                Square::There(square) => there.push(square),
            }
        }
        if !there.is_empty() {
            here += Tensor::stack(&there, 0)?.sum_all()?.to_scalar::<f64>()?;
        }
        Ok(here.sqrt())
    }
}

fn square(gradient: &Tensor) -> Result<Square> {
    let gradient = gradient.contiguous()?;
    Ok(match (gradient.device().is_cpu(), gradient.dtype()) {
        (true, DType::F32) => Square::Here(of_floats::<f32>(&Slice::new(&gradient)?)),
        (true, DType::F64) => Square::Here(of_floats::<f64>(&Slice::new(&gradient)?)),
        (true, DType::BF16) => Square::Here(of_coarse::<bf16>(&gradient, bf16::to_f32)?),
        (true, DType::F16) => Square::Here(of_coarse::<f16>(&gradient, f16::to_f32)?),
        _ => Square::There(composed(&gradient, PIECE)?),
    })
}

fn of_floats<T: Float>(numbers: &[T]) -> f64 {
    chunks(numbers, |numbers| {
        vectorised(
            #[inline(always)]
            || sum(numbers, numbers, |x, _| x.wide() * x.wide()),
        )
    })
}

fn of_coarse<T: Stored>(gradient: &Tensor, wide: impl Fn(T) -> f32 + Sync + Send) -> Result<f64> {
    let numbers = Slice::<T>::new(gradient)?;
    Ok(chunks(&numbers, |numbers| {
        let wide: Vec<f32> = numbers.iter().map(|&x| wide(x)).collect();
        vectorised(
            #[inline(always)]
            || sum(&wide, &wide, |x, _| x.wide() * x.wide()),
        )
    }))
}

fn chunks<T: Sync>(numbers: &[T], chunk: impl Fn(&[T]) -> f64 + Sync + Send) -> f64 {
    if numbers.len() <= CHUNK {
        return chunk(numbers);
    }
    let sums: Vec<f64> = numbers.par_chunks(CHUNK).map(chunk).collect();
    sums.iter().sum()
}

/// `Σg²` of a contiguous tensor, an f64 that stays on its device.
fn composed(gradient: &Tensor, piece: usize) -> Result<Tensor> {
    let flat = gradient.flatten_all()?;
    let wide = match flat.dtype() {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let mut total = Tensor::zeros((), DType::F64, flat.device())?;
    for range in pieces(flat.elem_count(), piece) {
        let (start, len) = (range.start, range.len());
        let squares = flat.narrow(0, start, len)?.to_dtype(wide)?.sqr()?;
        // A sum to one number is the work of one of a GPU's processors: rows first.
        let (rows, rest) = (len / ROW, len % ROW);
        let mut sums = Vec::new();
        if rows > 0 {
            let whole = squares.narrow(0, 0, rows * ROW)?;
            sums.push(whole.reshape((rows, ROW))?.sum(1)?);
        }
        if rest > 0 {
            sums.push(squares.narrow(0, rows * ROW, rest)?.sum_keepdim(0)?);
        }
        for sums in sums {
            total = (total + sums.to_dtype(DType::F64)?.sum_all()?)?;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_device_finds_what_the_processor_finds() {
        for len in [1, ROW - 1, ROW, 3 * ROW + 17, 40_000] {
            let numbers = (0..len).map(|i| (0.37 * i as f64 + 0.5).sin());
            let exact = Tensor::from_iter(numbers, &Device::Cpu).unwrap();
            for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
                let gradient = exact.to_dtype(dtype).unwrap();
                let Square::Here(here) = square(&gradient).unwrap() else {
                    panic!("the processor has it at once");
                };
                let numbers: Vec<f64> = (gradient.to_dtype(DType::F64).unwrap()).to_vec1().unwrap();
                let wanted: f64 = numbers.iter().map(|x| x * x).sum();
                // A square and a sum of n terms are off by at most 2⁻²⁴ and n − 1 times that.
                let bound = ROW as f64 * 2.0f64.powi(-24);
                let far = |found: f64| (found - wanted).abs() / wanted;
                assert!(far(here) < 1e-13, "{dtype:?} {len}: {here} {wanted}");
                for piece in [10, ROW, 2 * ROW + 5, PIECE] {
                    let there: f64 = composed(&gradient, piece).unwrap().to_scalar().unwrap();
                    let near = if dtype == DType::F64 { 1e-13 } else { bound };
                    assert!(far(there) < near, "{dtype:?} {len} {piece}: {there}");
                }
            }
        }
    }

    #[test]
    fn the_order_of_coming_is_forgotten() {
        let tensor = |x: f64| Tensor::new(&[x, 1.0 / x], &Device::Cpu).unwrap();
        let norm = |order: [usize; 3]| {
            let mut squares = Squares::new(4);
            for leaf in order {
                let gradient = tensor(0.1 + leaf as f64);
                squares.add(leaf, &gradient).unwrap();
            }
            squares.norm().unwrap()
        };
        assert_eq!(norm([0, 1, 3]).to_bits(), norm([3, 1, 0]).to_bits());
        assert_eq!(Squares::new(3).norm().unwrap(), 0.0);
        let there = [tensor(2.0), tensor(3.0)].map(|t| composed(&t, PIECE).unwrap());
        let squares = Squares(there.map(|t| Some(Square::There(t))).into());
        let wanted: f64 = 4.0 + 0.25 + 9.0 + 1.0 / 9.0;
        assert!((squares.norm().unwrap() - wanted.sqrt()).abs() < 1e-15);
    }
}
