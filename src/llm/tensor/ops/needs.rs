//! Memory of an operation, in bytes: what it makes, keeps, and needs while it runs.

use crate::llm::tensor::machine::Machine;

/// Form of computation: kernels, precision and machine.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Bytes of a number.
    pub size: u64,
    /// True for the kernels of the CPU.
    pub fused: bool,
    /// Machine that computes.
    pub machine: Machine,
}

impl Form {
    /// Bytes of a matrix.
    pub fn of(&self, rows: usize, width: usize) -> u64 {
        self.size * count(rows, width)
    }

    /// Bytes of a number in the precision of statistics.
    pub fn wide(&self) -> u64 {
        self.size.max(4)
    }

    /// Bytes of a copy of a number in that precision, if it is another one.
    pub fn widened(&self) -> u64 {
        if self.size < 4 { 4 } else { 0 }
    }

    /// Bytes of a matrix in the precision of statistics.
    pub fn statistics(&self, rows: usize, width: usize) -> u64 {
        self.wide() * count(rows, width)
    }

    /// Bytes that the composed matrix product of operands and result of so many numbers (those of the tensors that they
    /// lie in) takes besides: candle widens all of them on a CPU in bf16.
    pub(in crate::llm) fn product(&self, numbers: [u64; 3]) -> u64 {
        if self.machine.cpu && self.size < 4 {
            numbers
                .into_iter()
                .fold(0, u64::saturating_add)
                .saturating_mul(4)
        } else {
            0
        }
    }

    /// Bytes that the kernels' matrix product of `[rows, inner]` and `[inner, columns]` packs, by gemm 0.19: of a
    /// right-hand side that does not lie as its kernels want it, as much as the last cache holds.
    pub(super) fn packed(&self, [rows, inner, columns]: [usize; 3], transposed: bool) -> u64 {
        // Its kernels take so many rows at once; it packs where this pays.
        let size = self.wide();
        let kernel = 192 / size as usize;
        let least = if transposed { 2 * kernel } else { 128 * kernel };
        if rows <= least {
            return 0;
        }
        let depth = inner.div_ceil(inner.div_ceil(512).max(1));
        let bytes = size * depth as u64 * columns as u64;
        bytes.min(self.machine.last_cache / 16 * 15)
    }
}

/// Numbers of a matrix.
pub(super) fn count(rows: usize, width: usize) -> u64 {
    rows as u64 * width as u64
}

/// Way in which an operation's backward gives an input its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Computed to fresh memory, then added.
    Fresh,
    /// Added to what is there, in its memory.
    InPlace,
    /// The output's gradient itself.
    Shared,
}

/// Memory that an operation needs while it runs, beside what it makes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    /// Bytes in the forward.
    pub forward: u64,
    /// Bytes in the backward, before the gradients of inputs are there.
    pub before: u64,
    /// Bytes in the backward, beside them.
    pub backward: u64,
}

/// Memory of an operation; inputs are known by their index.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The output.
    pub out: u64,
    /// Inputs in the order in which their gradients are made, and how.
    pub gradients: Vec<(usize, How)>,
    /// Inputs whose numbers the backward needs.
    pub keeps: Vec<usize>,
    /// True if it needs the output's numbers.
    pub keeps_output: bool,
    /// Statistics made by the forward that the backward needs besides.
    pub statistics: u64,
    /// True if the gradients of inputs are made before the first is added.
    pub together: bool,
    /// Memory that it needs while it runs.
    pub needs: Needs,
}
