//! [`linear`](super::linear) on the CPU.

use crate::error::Result;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::{accumulate, same, tensor};
use crate::llm::tensor::ops::matmul::{Matrix, Mode, Output, Threads, matmul};
use crate::llm::tensor::ops::memory::{repeat, sum_rows, unwritten};
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::tape::{Node, Tape, Target};

/// Backward: `dx = dy W`, `dW = dyᵀ x`, `db = Σ dy`. `x` is kept only if W is trained.
pub fn linear<T: Float>(tape: &Tape, x: &Node, weight: &Node, bias: Option<&Node>) -> Result<Node> {
    let (n, i) = x.value().dims2()?;
    let (o, inner) = weight.value().dims2()?;
    same("linear", i, inner)?;
    let value = x.value().contiguous()?;
    let w = weight.value().contiguous()?;
    // SAFETY: the product writes every number, or is added to the bias, which does.
    let mut out = unsafe { unwritten::<T>(n * o) };
    let mut mode = Mode::Write;
    if let Some(bias) = bias {
        same("linear", o, bias.value().dims1()?)?;
        let bias = bias.value().contiguous()?;
        repeat(&Slice::new(&bias)?, &mut out);
        mode = Mode::Add;
    }
    {
        let (x, w) = (Slice::<T>::new(&value)?, Slice::new(&w)?);
        let (x, w) = (Matrix::new(&x, n, i), Matrix::new(&w, o, i));
        matmul(Output::new(&mut out, n, o), x, w.t(), mode, Threads::All);
    }
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    Ok(tape.record(tensor(out, (n, o))?, &inputs, || {
        let value = weight.wanted().then_some(value);
        let (x, weight, bias) = (x.target(), weight.target(), bias.map(Node::target));
        Box::new(move |gradient, sums| {
            let gradient = gradient.contiguous()?;
            let dy = Slice::<T>::new(&gradient)?;
            let dy = Matrix::new(&dy, n, o);
            let w = Slice::new(&w)?;
            let w = Matrix::new(&w, o, i);
            // SAFETY: products and sums write everything.
            unsafe {
                accumulate(sums, &x, |dx, mode| {
                    matmul(Output::new(dx, n, i), dy, w, mode, Threads::All);
                })?;
                if let Some(value) = value {
                    let x = Slice::new(&value)?;
                    let x = Matrix::new(&x, n, i);
                    accumulate(sums, &weight, |dw, mode| {
                        matmul(Output::new(dw, o, i), dy.t(), x, mode, Threads::All);
                    })?;
                }
            }
            let Some(bias) = bias.filter(Target::wanted) else {
                return Ok(());
            };
            let dy = Slice::<T>::new(&gradient)?;
            sums.add(&bias, tensor(sum_rows(&dy, o), o)?)
        })
    }))
}
