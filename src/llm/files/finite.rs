//! Checks that numbers are finite: before weights are written, and when they are read.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};

/// Number of non-finite entries of a little-endian buffer; of integers none.
pub fn not_finite(bytes: &[u8], dtype: DType) -> usize {
    fn count<const N: usize>(bytes: &[u8], broken: impl Fn([u8; N]) -> bool) -> usize {
        let (numbers, _) = bytes.as_chunks::<N>();
        numbers.iter().filter(|b| broken(**b)).count()
    }
    // The exponent's bits are all ones in infinities and NaN alone.
    let half = |mask: u16| move |b| u16::from_le_bytes(b) & mask == mask;
    match dtype {
        DType::F64 => count(bytes, |b| !f64::from_le_bytes(b).is_finite()),
        DType::F32 => count(bytes, |b| !f32::from_le_bytes(b).is_finite()),
        DType::BF16 => count(bytes, half(0x7f80)),
        DType::F16 => count(bytes, half(0x7c00)),
        _ => 0,
    }
}

/// Number of non-finite entries of a tensor.
///
/// # Errors
/// A failing device.
pub fn broken(tensor: &Tensor) -> Result<usize> {
    let flat = tensor.flatten_all()?.to_device(&Device::Cpu)?;
    Ok(match flat.dtype() {
        DType::F64 => {
            let all = flat.to_vec1::<f64>()?;
            all.iter().filter(|x| !x.is_finite()).count()
        }
        DType::F32 | DType::BF16 | DType::F16 => {
            let all = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            all.iter().filter(|x| !x.is_finite()).count()
        }
        _ => 0,
    })
}

/// The error about weights that are not written because of such numbers.
pub fn refusal(place: &str, broken: usize, of: usize) -> Error {
    Error::invalid(
        place,
        format!("{broken} of its {of} numbers are not finite, and it is not written"),
        "if training made them so: train anew with a lower lr, or go on from an earlier checkpoint \
         as the --model of a new run",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_precision_knows_what_is_not_finite() {
        let all = [1.0, f64::NAN, -0.0, f64::INFINITY, -f64::INFINITY, 3e4];
        for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
            let tensor = Tensor::new(&all, &Device::Cpu).unwrap();
            let tensor = tensor.to_dtype(dtype).unwrap();
            assert_eq!(broken(&tensor).unwrap(), 3, "{dtype:?}");
            let map = std::collections::HashMap::from([("a".to_string(), tensor)]);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a");
            candle_core::safetensors::save(&map, &path).unwrap();
            let bytes = std::fs::read(path).unwrap();
            let bytes = &bytes[bytes.len() - 6 * dtype.size_in_bytes()..];
            assert_eq!(not_finite(bytes, dtype), 3, "{dtype:?}");
        }
        assert_eq!(not_finite(&[0xff; 8], DType::U32), 0);
    }
}
