//! Linear layers, embeddings, norms, nonlinearities and log-probabilities.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, Module, RmsNorm, loss, ops as nn};
use pistar::llm::internals::tensor::ops::Activation;

use super::{EPSILON, agree, agree_in_value, differentiated};
use crate::fixtures::{largest, numbers};
use crate::ops::by;
use crate::ops::twins::{Case, Dice, Way, run};

#[test]
fn linear() {
    let mut dice = Dice::new(1);
    let (x, w, b) = (
        dice.tensor(&[37, 50]),
        dice.tensor(&[41, 50]),
        dice.tensor(&[41]),
    );
    for inputs in [vec![x.clone(), w.clone()], vec![x, w, b]] {
        let case = Case {
            inputs,
            op: Box::new(|way, tape, x| by!(way, linear(tape, &x[0], &x[1], x.get(2)))),
        };
        let theirs = |t: &[Tensor]| Linear::new(t[1].clone(), t.get(2).cloned()).forward(&t[0]);
        agree(&case, &theirs, [2e-15, 1e-6]);
    }
}

#[test]
fn embedding() {
    let mut dice = Dice::new(2);
    let ids = dice.indices(70, 23);
    let index = Tensor::from_slice(&ids, ids.len(), &Device::Cpu).unwrap();
    let case = Case {
        inputs: vec![dice.tensor(&[23, 17])],
        op: Box::new(move |way, tape, x| by!(way, embedding, rows(tape, &x[0], &ids))),
    };
    let theirs = |t: &[Tensor]| Embedding::new(t[0].clone(), 17).forward(&index);
    agree(&case, &theirs, [1e-15, 3e-7]);
}

/// `[N, heads · D]` and `[D]`.
fn rms_norm(heads: usize) -> Case {
    let mut dice = Dice::new(3);
    Case {
        inputs: vec![dice.tensor(&[40, heads * 33]), dice.tensor(&[33])],
        op: Box::new(|way, tape, x| by!(way, rms_norm(tape, &x[0], &x[1], EPSILON, 0.0))),
    }
}

/// `[N, heads · D]`, `[D]` and `[D]`.
fn layer_norm(heads: usize) -> Case {
    let mut dice = Dice::new(4);
    let (x, w, b) = (&[40, heads * 33], &[33], &[33]);
    Case {
        inputs: vec![dice.tensor(x), dice.tensor(w), dice.tensor(b)],
        op: Box::new(|way, tape, x| by!(way, layer_norm(tape, &x[0], &x[1], &x[2], EPSILON))),
    }
}

#[test]
fn norms_with_a_gradient() {
    let epsilon = EPSILON as f32;
    let bounds = [1e-15, 5e-7];
    let slow = |t: &[Tensor]| nn::rms_norm_slow(&t[0], &t[1], epsilon);
    agree(&rms_norm(1), &slow, bounds);
    let layer = |t: &[Tensor]| RmsNorm::new(t[1].clone(), EPSILON).forward_diff(&t[0]);
    agree(&rms_norm(1), &layer, bounds);
    let heads = |t: &[Tensor]| {
        let x = t[0].reshape((40, 3, 33))?;
        RmsNorm::new(t[1].clone(), EPSILON)
            .forward_diff(&x)?
            .reshape((40, 99))
    };
    agree(&rms_norm(3), &heads, bounds);

    let slow = |t: &[Tensor]| nn::layer_norm_slow(&t[0], &t[1], &t[2], epsilon);
    agree(&layer_norm(1), &slow, bounds);
    // The layer takes the graph's way where its input is not contiguous.
    let layer = |t: &[Tensor]| {
        let x = t[0].t()?.contiguous()?.t()?;
        LayerNorm::new(t[1].clone(), t[2].clone(), EPSILON).forward(&x)
    };
    agree(&layer_norm(1), &layer, bounds);
}

#[test]
fn fused_norms() {
    let (epsilon, single) = (EPSILON as f32, [(DType::F32, 5e-7)]);
    let fused = |t: &[Tensor]| nn::rms_norm(&t[0], &t[1], epsilon);
    agree_in_value(&rms_norm(1), &fused, &single);
    let fused = |t: &[Tensor]| nn::layer_norm(&t[0], &t[1], &t[2], epsilon);
    agree_in_value(&layer_norm(1), &fused, &single);
}

/// A nonlinearity of numbers that are far from 0 too, or the product of another with one.
fn pointwise(f: Activation, gated: bool) -> Case {
    let mut dice = Dice::new(5);
    let mut wide = || dice.tensor(&[30, 20]).affine(3.0, 0.0).unwrap();
    Case {
        inputs: (0..1 + usize::from(gated)).map(|_| wide()).collect(),
        op: Box::new(move |way, tape, x| match x {
            [gate, up] => by!(way, gated(tape, gate, up, f)),
            _ => by!(way, activation(tape, &x[0], f)),
        }),
    }
}

#[test]
fn nonlinearities() {
    use candle_nn::Activation as Theirs;
    let bounds = [1e-15, 5e-7];
    let silu = |t: &[Tensor]| nn::silu(&t[0]);
    agree(&pointwise(Activation::Silu, false), &silu, bounds);
    let swiglu = |t: &[Tensor]| nn::swiglu(&Tensor::cat(&[&t[0], &t[1]], D::Minus1)?);
    agree(&pointwise(Activation::Silu, true), &swiglu, bounds);
    let relu = |t: &[Tensor]| Theirs::Relu.forward(&t[0]);
    agree(&pointwise(Activation::Relu, false), &relu, bounds);
    let values = [(DType::F64, bounds[0]), (DType::F32, bounds[1])];
    for (ours, theirs) in [
        (Activation::Gelu, Theirs::Gelu),
        (Activation::GeluTanh, Theirs::NewGelu),
        (Activation::GeluTanh, Theirs::GeluPytorchTanh),
    ] {
        let theirs = |t: &[Tensor]| theirs.forward(&t[0]);
        agree_in_value(&pointwise(ours, false), &theirs, &values);
    }
}

/// The slopes of candle's GELUs have constants of six digits: 0.398942 for `1/√(2π)`, and the like. They are off by up to 2e-7, in f64 too.
#[test]
fn slopes_of_gelu_have_six_digits() {
    use candle_nn::Activation as Theirs;
    let x: Vec<f64> = (-400..=400).map(|i| f64::from(i) / 80.0).collect();
    let input = Tensor::from_slice(&x, x.len(), &Device::Cpu).unwrap();
    let slopes = |ours: Activation, theirs: Theirs| {
        let case = pointwise(ours, false);
        let inputs = [input.clone()];
        let ours = run(&inputs, super::COTANGENT, &case.op, Way::Dispatched, false).1;
        let (_, theirs) = differentiated(&inputs, &|t| theirs.forward(&t[0]));
        let cotangent = numbers(&Dice::new(super::COTANGENT).tensor(input.dims()));
        let by = |t: &Tensor| -> Vec<f64> {
            let slopes = numbers(t).into_iter().zip(&cotangent);
            slopes.map(|(x, c)| x / c).collect()
        };
        (by(&ours[0]), by(theirs[0].as_ref().unwrap()))
    };
    let (ours, theirs) = slopes(Activation::Gelu, Theirs::Gelu);
    let short = (2.0 * std::f64::consts::PI).sqrt().recip() - 0.398942;
    let wanted: Vec<f64> = (ours.iter().zip(&x))
        .map(|(slope, x)| slope - short * x * (-x * x / 2.0).exp())
        .collect();
    assert!(largest(&theirs, &wanted) < 1e-15);
    assert!(largest(&theirs, &ours) > 1.6e-7);
    let (ours, theirs) = slopes(Activation::GeluTanh, Theirs::NewGelu);
    let far = largest(&theirs, &ours);
    assert!((2e-7..3e-7).contains(&far), "{far:e}");
}

#[test]
fn log_probabilities() {
    let mut dice = Dice::new(6);
    let targets = dice.indices(45, 60);
    let index = Tensor::from_slice(&targets, (45, 1), &Device::Cpu).unwrap();
    let mut inputs = vec![dice.tensor(&[45, 25]), dice.tensor(&[60, 25])];
    for bias in [false, true] {
        if bias {
            inputs.push(dice.tensor(&[60]));
        }
        let targets = targets.clone();
        let case = Case {
            inputs: inputs.clone(),
            op: Box::new(move |way, tape, x| {
                by!(
                    way,
                    token_log_probs(tape, &x[0], &x[1], x.get(2), &targets, 1.0)
                )
            }),
        };
        let logits = |t: &[Tensor]| Linear::new(t[1].clone(), t.get(2).cloned()).forward(&t[0]);
        let theirs = |t: &[Tensor]| {
            nn::log_softmax(&logits(t)?, D::Minus1)?
                .gather(&index, 1)?
                .squeeze(1)
        };
        // Logits are up to 20, of which a rounding is 1e-6 in f32.
        agree(&case, &theirs, [5e-15, 3e-6]);
        // Their loss is the mean, its sign turned.
        let loss = loss::cross_entropy(&logits(&inputs).unwrap(), &index.squeeze(1).unwrap());
        let (ours, _) = run(&inputs, super::COTANGENT, &case.op, Way::Dispatched, false);
        let mean = numbers(&ours).iter().sum::<f64>() / -45.0;
        assert!((loss.unwrap().to_scalar::<f64>().unwrap() / mean - 1.0).abs() < 1e-14);
    }
}
