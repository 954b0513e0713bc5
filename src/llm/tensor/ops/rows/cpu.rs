//! [`rows`](super::rows) and [`embedding`](super::embedding) on the CPU.

use std::rc::Rc;

use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::{accumulate, below, tensor};
use crate::llm::tensor::ops::matmul::Mode;
use crate::llm::tensor::ops::memory::{parts, rows_per_task, unwritten};
use crate::llm::tensor::ops::simd::{add, vectorised};
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: row `i` of the gradient is added to row `indices[i]`, in order.
pub fn rows<T: Float>(tape: &Tape, x: &Node, indices: &Rc<[u32]>) -> Result<Node> {
    let (height, width) = x.value().dims2()?;
    below("rows", indices, height)?;
    let value = x.value().contiguous()?;
    // SAFETY: every row is copied into.
    let mut out = unsafe { unwritten::<T>(indices.len() * width) };
    {
        let x = Slice::<T>::new(&value)?;
        let (each, from) = (rows_per_task(width), &indices[..]);
        parts(&mut out, each * width, |i, part| {
            let rows = part.chunks_exact_mut(width);
            for (row, &from) in rows.zip(&from[i * each..]) {
                row.copy_from_slice(&x[from as usize * width..][..width]);
            }
        });
    }
    Ok(tape.record(tensor(out, (indices.len(), width))?, &[x], || {
        let (x, indices) = (x.target(), indices.clone());
        Box::new(move |gradient, sums| {
            let gradient = gradient.contiguous()?;
            let dy = Slice::<T>::new(&gradient)?;
            // SAFETY: zeros are written first.
            unsafe {
                accumulate(sums, &x, |dx, mode| {
                    if mode == Mode::Write {
                        let each = rows_per_task(width) * width;
                        parts(dx, each, |_, part| part.fill(T::zero()));
                    }
                    vectorised(
                        #[inline(always)]
                        || {
                            for (row, &to) in indices.iter().enumerate() {
                                let to = &mut dx[to as usize * width..][..width];
                                add(to, &dy[row * width..][..width]);
                            }
                        },
                    );
                })
            }
        })
    }))
}
