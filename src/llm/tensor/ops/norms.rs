//! What both norms share.

use candle_core::{Result as Candle, Tensor};

use super::composed::product;
use super::memory::rows_per_task;
use super::needs::{Form, Needs, count};

/// `1/√(square + ε)`
pub fn root(square: &Tensor, epsilon: f64) -> Candle<Tensor> {
    (square + epsilon)?.sqrt()?.recip()
}

/// The mean of each row's products with `w`: `[N, D]`, `[D]` → `[N, 1]`.
pub fn mean_with(x: &Tensor, w: &Tensor) -> Candle<Tensor> {
    let width = w.elem_count();
    product(x, &(w.reshape((width, 1))? / width as f64)?)
}

/// Memory that a norm of n runs needs while it runs. Kernels: a task's runs have their own sums of each of the
/// `weights`' gradients. Composed: in the backward x̂, dy, and the difference of two products; in the forward, what is
/// centred too if it is.
pub fn needs(form: &Form, n: usize, width: usize, weights: usize, centred: bool) -> Needs {
    if form.fused {
        return Needs {
            backward: form.of(n.div_ceil(rows_per_task(width)), weights * width),
            ..Needs::default()
        };
    }
    let (all, wide, widened) = (count(n, width), form.wide(), form.widened());
    let copies = 1 + u64::from(widened > 0) + u64::from(centred);
    Needs {
        forward: copies * wide * all,
        before: (4 * wide + widened) * all,
        backward: (2 * wide + 2 * widened) * all,
    }
}
