//! candle-nn as a twin from another hand: its layers, attention, initial weights and optimizers against ours, and what of
//! it loses gradients or digits (`docs/adr/0015-candle-nn.md`).

mod attention;
mod digits;
mod initial;
mod layers;
mod lost;
mod optimizers;
mod rope;
mod variables;

use candle_core::{DType, Result as Candle, Tensor, Var};

use crate::ops::twins::{Case, Dice, Way, all, distance, run};

/// Added to mean squares: candle-nn's functions take it in f32, which holds this one.
const EPSILON: f64 = 1.0 / 1024.0;

/// The seed of cotangents.
const COTANGENT: u64 = 11;

/// An operation of candle-nn's on the same inputs.
type Theirs<'a> = &'a dyn Fn(&[Tensor]) -> Candle<Tensor>;

/// Ours by our kernel and composed, against theirs in value and every gradient, relative to the largest number: within
/// the bounds in f64 and f32.
fn agree(case: &Case, theirs: Theirs, bounds: [f64; 2]) {
    for (dtype, bound) in [DType::F64, DType::F32].into_iter().zip(bounds) {
        let inputs = all(&case.inputs, dtype);
        let (value, gradients) = differentiated(&inputs, theirs);
        for way in [Way::Dispatched, Way::Composed] {
            let found = run(&inputs, COTANGENT, &case.op, way, false);
            let far = distance(&found.0, &value);
            println!("{dtype:?} value {far:.1e}");
            assert!(far < bound, "{dtype:?} value: {far:e}");
            for (i, (found, wanted)) in found.1.iter().zip(&gradients).enumerate() {
                let wanted = wanted.as_ref().expect("theirs has a gradient");
                let far = distance(found, wanted);
                println!("{dtype:?} gradient {i} {far:.1e}");
                assert!(far < bound, "{dtype:?} gradient {i}: {far:e}");
            }
        }
    }
}

/// Ours by our kernel and composed, against theirs in value alone, in each precision within its bound.
fn agree_in_value(case: &Case, theirs: Theirs, bounds: &[(DType, f64)]) {
    for &(dtype, bound) in bounds {
        let inputs = all(&case.inputs, dtype);
        let wanted = theirs(&inputs).unwrap();
        for way in [Way::Dispatched, Way::Composed] {
            let (found, _) = run(&inputs, COTANGENT, &case.op, way, false);
            let far = distance(&found, &wanted);
            println!("{dtype:?} value {far:.1e}");
            assert!(far < bound, "{dtype:?} value: {far:e}");
        }
    }
}

/// The value, and of each input the gradient of `Σ cotangent · value` in candle's graph, if there is one.
fn differentiated(inputs: &[Tensor], theirs: Theirs) -> (Tensor, Vec<Option<Tensor>>) {
    let variables: Vec<Var> = (inputs.iter())
        .map(|x| Var::from_tensor(x).unwrap())
        .collect();
    let tensors: Vec<Tensor> = variables.iter().map(|x| x.as_tensor().clone()).collect();
    let value = theirs(&tensors).unwrap();
    let cotangent = Dice::new(COTANGENT).tensor(value.dims());
    let cotangent = cotangent.to_dtype(value.dtype()).unwrap();
    let total = (&value * cotangent).unwrap().sum_all().unwrap();
    let store = total.backward().unwrap();
    let gradients = variables.iter().map(|x| store.get(x).cloned()).collect();
    (value, gradients)
}

/// Lengths of sequences, and where they start.
fn ragged() -> ([usize; 4], Vec<usize>) {
    ([5, 1, 30, 12], vec![0, 5, 6, 36, 48])
}

/// Each sequence of `[N, heads · D]` as `[1, heads, T, D]`, changed, and all packed again.
fn each_sequence(
    x: &[&Tensor],
    heads: &[usize],
    f: impl Fn(&[Tensor]) -> Candle<Tensor>,
) -> Candle<Tensor> {
    let (lengths, starts) = ragged();
    let outputs = lengths.iter().zip(starts).map(|(&length, start)| {
        let parts = x.iter().zip(heads).map(|(x, &heads)| {
            let part = x.narrow(0, start, length)?;
            part.reshape((1, length, heads, ()))?
                .transpose(1, 2)?
                .contiguous()
        });
        let output = f(&parts.collect::<Candle<Vec<_>>>()?)?;
        output.transpose(1, 2)?.reshape((length, ()))
    });
    Tensor::cat(&outputs.collect::<Candle<Vec<_>>>()?, 0)
}
