use std::rc::Rc;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::llm::tensor::ops::{self, Activation};

fn numbers(shape: &[usize], seed: f64) -> Tensor {
    let count = shape.iter().product::<usize>();
    let numbers = (0..count).map(|i| (seed * (i + 1) as f64).sin());
    Tensor::from_iter(numbers, &Device::Cpu)
        .and_then(|t| t.reshape(shape))
        .unwrap()
}

/// Weights of two layers, which share one, and a table.
fn leaves() -> Vec<Tensor> {
    [[4, 4], [4, 4], [5, 4]]
        .iter()
        .zip([0.3, 0.7, 1.1])
        .map(|(shape, seed)| numbers(shape, seed))
        .collect()
}

type Layer = fn(&Tape, &[Node], &Node) -> Result<Node>;

fn layer(tape: &Tape, w: &[Node], x: &Node) -> Result<Node> {
    let y = ops::linear(tape, x, &w[0], None)?;
    let y = ops::activation(tape, &y, Activation::Silu)?;
    let y = ops::linear(tape, &y, &w[1], None)?;
    ops::add(tape, x, &y)
}

/// Three layers on rows of a table, all by `w[0]` and `w[1]`.
fn network<'a>(tape: &Tape<'a>, values: &'a [Tensor], again: bool, layer: Layer) -> Node {
    let nodes = |tape: &Tape| -> Vec<Node> {
        let leaves = values.iter().enumerate();
        leaves.map(|(i, t)| tape.leaf(i, t.clone())).collect()
    };
    let ids: Rc<[u32]> = [0, 3, 1, 3].into();
    let mut x = ops::embedding(tape, &nodes(tape)[2], &ids).unwrap();
    for _ in 0..3 {
        let run = move |tape: &Tape<'a>, x: &Node| layer(tape, &nodes(tape), x);
        x = if again {
            tape.again(&x, run).unwrap()
        } else {
            run(tape, &x).unwrap()
        };
    }
    x
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn gradients(again: bool, layer: Layer) -> (Vec<f64>, Vec<Vec<f64>>) {
    let values = leaves();
    let mut leaves = LeafGradients::new(3);
    let tape = Tape::recording(3);
    let y = network(&tape, &values, again, layer);
    let value = flat(y.value());
    tape.backward([(y, numbers(&[4, 4], 0.9))], &mut leaves)
        .unwrap();
    let all = (0..3).map(|i| leaves.get(i).map(flat).unwrap_or_default());
    (value, all.collect())
}

#[test]
fn what_is_run_again_gives_the_same_numbers() {
    assert_eq!(gradients(true, layer), gradients(false, layer));
    // A layer in a layer.
    let nested: Layer = |tape, w, x| {
        let w = w.to_vec();
        tape.again(x, move |tape, x| {
            let again: Vec<Node> = (w.iter().enumerate())
                .map(|(i, node)| tape.leaf(i, node.value().clone()))
                .collect();
            layer(tape, &again, x)
        })
    };
    assert_eq!(gradients(true, nested), gradients(false, layer));
}

#[test]
fn what_is_run_again_and_reads_no_leaf_still_passes_gradients_on() {
    let half: Layer = |tape, _, x| ops::scale(tape, x, 0.5);
    let (_, found) = gradients(true, half);
    assert_eq!(found, gradients(false, half).1);
    assert!(found[0].is_empty() && found[1].is_empty());
    assert!(found[2].iter().any(|&g| g != 0.0));
}

#[test]
fn what_is_run_again_is_not_kept() {
    let values = leaves();
    let kept = |again: bool| {
        let tape = Tape::recording(3);
        network(&tape, &values, again, layer);
        tape.steps.into_inner().len()
    };
    assert_eq!((kept(true), kept(false)), (4, 1 + 3 * 4));
}

/// A leaf that has been handed out may be changed: nothing looks at it any more.
#[test]
fn consumed_gradients_are_final() {
    for again in [false, true] {
        let (_, wanted) = gradients(again, layer);
        let values = leaves();
        let tape = Tape::recording(3);
        let y = network(&tape, &values, again, layer);
        let mut order = Vec::new();
        (tape.consume([(y, numbers(&[4, 4], 0.9))], &mut |leaf, gradient| {
            order.push(leaf);
            assert_eq!(flat(&gradient), wanted[leaf]);
            let nan = (&values[leaf] * f64::NAN)?;
            Ok(values[leaf].slice_set(&nan, 0, 0)?)
        }))
        .unwrap();
        order[..2].sort_unstable();
        assert_eq!(order, [0, 1, 2]);
    }
}

#[test]
fn a_gradient_is_handed_out_as_early_as_it_is_final() {
    let values: Vec<Tensor> = (0..3)
        .map(|i| numbers(&[4, 4], 0.4 + f64::from(i)))
        .collect();
    let tape = Tape::recording(3);
    let mut x = Node::constant(numbers(&[2, 4], 0.8));
    for (i, w) in values.iter().enumerate() {
        x = ops::linear(&tape, &x, &tape.leaf(i, w.clone()), None).unwrap();
    }
    let mut order = Vec::new();
    tape.consume([(x, numbers(&[2, 4], 0.6))], &mut |leaf, _| {
        order.push(leaf);
        Ok(())
    })
    .unwrap();
    assert_eq!(order, [2, 1, 0]);
}

/// In bf16, 1 + 2⁻⁹ is 1.
#[test]
fn sums_of_half_precision_are_kept_in_f32() {
    let half = |x: f32| Tensor::new(&[x], &Device::Cpu).and_then(|t| t.to_dtype(DType::BF16));
    let mut leaves = LeafGradients::new(1);
    leaves.add(0, half(1.0).unwrap()).unwrap();
    assert_eq!(leaves.get(0).unwrap().dtype(), DType::BF16);
    for _ in 0..4 {
        leaves.add(0, half(1.0 / 512.0).unwrap()).unwrap();
    }
    let sum: Vec<f32> = leaves.get(0).unwrap().to_vec1().unwrap();
    assert_eq!(sum, [1.0 + 4.0 / 512.0]);
}
