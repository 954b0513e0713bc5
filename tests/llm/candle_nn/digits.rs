//! How candle-nn rounds: what decides whether its fused forwards may stand under our backwards on a GPU.

use candle_core::{DType, Device, Tensor};
use candle_nn::ops as nn;
use pistar::llm::internals::tensor::tape::{Node, Tape};

use super::{EPSILON, rope};
use crate::ops::by;
use crate::ops::twins::{Case, Dice, Way, all, distance, off, run};

/// How far a layer norm in f32 is from ours in f64 of the same numbers, relative to the largest: theirs fused, ours by our
/// kernel, ours composed.
fn layer_norms(x: &Tensor) -> [f64; 3] {
    let [w, b] = [Tensor::ones, Tensor::zeros].map(|f| f(33, DType::F32, &Device::Cpu).unwrap());
    let inputs = [x.to_dtype(DType::F32).unwrap(), w, b];
    let ours = |way, inputs: &[Tensor]| -> Tensor {
        let x: Vec<Node> = inputs.iter().cloned().map(Node::constant).collect();
        let tape = Tape::idle();
        let y: pistar::Result<Node> = by!(way, layer_norm(&tape, &x[0], &x[1], &x[2], 1e-5));
        y.unwrap().value().clone()
    };
    let wanted = ours(Way::Dispatched, &all(&inputs, DType::F64));
    let theirs = nn::layer_norm(&inputs[0], &inputs[1], &inputs[2], 1e-5).unwrap();
    let [a, b] = [Way::Dispatched, Way::Composed].map(|way| ours(way, &inputs));
    [&theirs, &a, &b].map(|found| distance(found, &wanted))
}

/// Theirs takes the variance as `mean x² − mean²` in f32, on a CPU and on a GPU: a mean of m deviations costs m² roundings,
/// ours m. Of equal numbers theirs may be the root of a negative number.
#[test]
fn the_variance_of_their_fused_layer_norm_cancels() {
    let noise = Dice::new(13).tensor(&[40, 33]);
    let rounding = 2f64.powi(-24);
    for mean in [10.0, 100.0, 1000.0] {
        let [theirs, kernel, composed] = layer_norms(&noise.affine(1.0, mean).unwrap());
        println!("mean {mean}: {theirs:.1e}, ours {kernel:.1e} {composed:.1e}");
        assert!(theirs > mean * mean * rounding, "{theirs:e}");
        assert!(kernel.max(composed) < 2.0 * mean * rounding);
    }
    let equal = Tensor::full(100.1, (4, 33), &Device::Cpu).unwrap();
    let [theirs, kernel, composed] = layer_norms(&equal);
    assert!(theirs.is_infinite() && kernel.max(composed) < 0.01);
}

/// Theirs of f64: refused on a CPU; on a GPU computed in f32.
#[test]
fn their_fused_norms_are_not_for_f64() {
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F64, &Device::Cpu).unwrap();
    let (x, w) = (ones(&[4, 8]), ones(&[8]));
    for refused in [nn::rms_norm(&x, &w, 1e-5), nn::layer_norm(&x, &w, &w, 1e-5)] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("unsupported dtype"), "{error}");
    }
}

/// The norm of what is off, of ours and theirs of bf16 numbers, in units of 2⁻⁸.
fn halves(case: &Case, theirs: &Tensor) -> [f64; 2] {
    let half = all(&case.inputs, DType::BF16);
    let wanted = run(&all(&half, DType::F64), 1, &case.op, Way::Plain, true).0;
    let ours = run(&half, 1, &case.op, Way::Composed, true).0;
    [&ours, theirs].map(|found| 256.0 * off(found, &wanted))
}

/// Of bf16 theirs is within the bound that ours keeps, 1, but further off: cosines, sines and every product are bf16.
#[test]
fn their_fused_rope_rounds_angles_and_products() {
    let case = rope::turned(false);
    let theirs = rope::packed(&all(&case.inputs, DType::BF16)).unwrap();
    let [ours, theirs] = halves(&case, &theirs);
    println!("rope {ours:.2} {theirs:.2}");
    assert!(ours < 0.45 && (0.52..1.0).contains(&theirs));
}

/// A CPU's, of bf16: the fused RMSNorm rounds the root and every product (on a GPU only the result), the slow forms what
/// is normalised and its product with the weight.
#[test]
fn their_norms_of_bf16() {
    let mut dice = Dice::new(14);
    let [x, w, b] = [&[40, 33][..], &[33], &[33]].map(|shape| dice.tensor(shape));
    let epsilon = EPSILON as f32;
    let rms = Case {
        inputs: vec![x.clone(), w.clone()],
        op: Box::new(|way, tape, x| by!(way, rms_norm(tape, &x[0], &x[1], EPSILON, 0.0))),
    };
    let layer = Case {
        inputs: vec![x, w, b],
        op: Box::new(|way, tape, x| by!(way, layer_norm(tape, &x[0], &x[1], &x[2], EPSILON))),
    };
    let half = all(&layer.inputs, DType::BF16);
    let [x, w, b] = [0, 1, 2].map(|i| &half[i]);
    for (name, case, theirs, coarse) in [
        ("fused rms_norm", &rms, nn::rms_norm(x, w, epsilon), true),
        ("rms_norm", &rms, nn::rms_norm_slow(x, w, epsilon), true),
        (
            "fused layer_norm",
            &layer,
            nn::layer_norm(x, w, b, epsilon),
            false,
        ),
        (
            "layer_norm",
            &layer,
            nn::layer_norm_slow(x, w, b, epsilon),
            true,
        ),
    ] {
        let [ours, theirs] = halves(case, &theirs.unwrap());
        println!("{name} {ours:.2} {theirs:.2}");
        assert!(ours < 0.45 && theirs < 1.0, "{name}: {ours} {theirs}");
        assert_eq!(theirs > 1.3 * ours, coarse, "{name}: {ours} {theirs}");
    }
}

/// Their cross-entropy of a truth is `ln σ(x)` and `0 · ln(1 − σ(x))`.
#[test]
fn their_cross_entropy_of_two_is_no_number_from_17_on() {
    let of = |logit: f32| {
        let [logit, target] = [logit, 1.0].map(|x| Tensor::new(&[[x]], &Device::Cpu).unwrap());
        let loss = candle_nn::loss::binary_cross_entropy_with_logit(&logit, &target).unwrap();
        loss.to_scalar::<f32>().unwrap()
    };
    assert!(of(16.0) < 1e-6 && of(17.0).is_nan());
}
