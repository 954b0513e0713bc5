//! The numbers of a tensor on the CPU as a slice.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, InplaceOp1, Layout, Result as Candle, Storage, StorageRef, Tensor};

use super::float::Stored;
use crate::error::{Error, Result};

/// A contiguous tensor's numbers, locked for reading.
pub struct Slice<'a, T> {
    storage: StorageRef<'a>,
    range: Range<usize>,
    number: PhantomData<T>,
}

impl<'a, T: Stored> Slice<'a, T> {
    /// The numbers of `tensor`, row by row.
    ///
    /// # Errors
    /// A tensor that is elsewhere, of another precision, or not contiguous.
    pub fn new(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let range = range(layout)?;
        match &*storage {
            Storage::Cpu(numbers) => T::cpu_storage_as_slice(numbers)?,
            _ => return Err(elsewhere()),
        };
        Ok(Self {
            storage,
            range,
            number: PhantomData,
        })
    }
}

impl<T: Stored> Deref for Slice<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &*self.storage {
            Storage::Cpu(numbers) => match T::cpu_storage_as_slice(numbers) {
                Ok(numbers) => &numbers[self.range.clone()],
                Err(_) => unreachable!("the precision was checked"),
            },
            _ => unreachable!("the device was checked"),
        }
    }
}

/// Changes a contiguous tensor's numbers in place: every tensor that shares them changes.
///
/// # Errors
/// A tensor that is elsewhere, of another precision, or not contiguous.
pub fn modify<T: Stored, R>(tensor: &Tensor, change: impl FnOnce(&mut [T]) -> R) -> Result<R> {
    let op = Modify {
        change: Cell::new(Some(change)),
        result: Cell::new(None),
        number: PhantomData,
    };
    tensor.inplace_op1(&op)?;
    op.result.into_inner().ok_or_else(elsewhere)
}

struct Modify<T, F, R> {
    change: Cell<Option<F>>,
    result: Cell<Option<R>>,
    number: PhantomData<T>,
}

impl<T: Stored, R, F: FnOnce(&mut [T]) -> R> InplaceOp1 for Modify<T, F, R> {
    fn name(&self) -> &'static str {
        "modify"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Candle<()> {
        let range = range(layout).map_err(candle_core::Error::wrap)?;
        if let Some(change) = self.change.take() {
            let numbers = T::slice_mut(storage)?;
            self.result.set(Some(change(&mut numbers[range])));
        }
        Ok(())
    }
}

fn range(layout: &Layout) -> Result<Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => Err(Error::Backend {
            backend: "candle",
            message: "a tensor that is not contiguous".into(),
        }),
    }
}

fn elsewhere() -> Error {
    Error::Backend {
        backend: "candle",
        message: "a tensor that is not on the CPU".into(),
    }
}
