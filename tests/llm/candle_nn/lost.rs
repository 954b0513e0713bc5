//! What gives no gradient and no error, which is why ours have backwards of their own.

use candle_core::{DType, Tensor};
use candle_nn::attention::{AttnMask, flash_attn};
use candle_nn::{LayerNorm, Module, RmsNorm, ops as nn, rotary_emb};

use super::attention::of_a_pack;
use super::{EPSILON, Theirs, differentiated, rope};
use crate::fixtures::numbers;
use crate::ops::twins::{Dice, all};

/// Which inputs have a gradient.
fn found(shapes: &[&[usize]], theirs: Theirs) -> Vec<bool> {
    let mut dice = Dice::new(10);
    let inputs: Vec<Tensor> = shapes.iter().map(|shape| dice.tensor(shape)).collect();
    let (_, gradients) = differentiated(&all(&inputs, DType::F32), theirs);
    gradients.iter().map(Option::is_some).collect()
}

#[test]
fn fused_operations_lose_every_gradient() {
    let epsilon = EPSILON as f32;
    let (x, w): (&[usize], &[usize]) = (&[6, 16], &[16]);
    let none = |shapes: &[&[usize]], theirs: Theirs| {
        assert_eq!(found(shapes, theirs), vec![false; shapes.len()]);
    };
    none(&[x], &|t| nn::softmax_last_dim(&t[0]));
    none(&[x, w], &|t| nn::rms_norm(&t[0], &t[1], epsilon));
    none(&[x, w, w], &|t| {
        nn::layer_norm(&t[0], &t[1], &t[2], epsilon)
    });
    // So do their layers, of an input that is contiguous.
    none(&[x, w], &|t| {
        RmsNorm::new(t[1].clone(), EPSILON).forward(&t[0])
    });
    none(&[x, w, w], &|t| {
        LayerNorm::new(t[1].clone(), t[2].clone(), EPSILON).forward(&t[0])
    });
    let heads: &[usize] = &[1, 2, 5, 16];
    for turn in [rotary_emb::rope, rotary_emb::rope_i, rotary_emb::rope_thd] {
        let [cos, sin] = rope::table(DType::F32);
        none(&[heads], &|t| turn(&t[0], &cos, &sin));
    }
    let causal = AttnMask::causal;
    none(&[heads; 3], &|t| {
        flash_attn::<f32>(&t[0], &t[1], &t[2], 0.25, causal(), None, None)
    });
    none(&[&[48, 64], &[48, 32], &[48, 32]], &|t| {
        of_a_pack(t, true, None, None)
    });
}

#[test]
fn attention_of_a_pack_loses_those_of_queries_and_keys() {
    let gradients = found(&[&[48, 64], &[48, 32], &[48, 32]], &|t| {
        of_a_pack(t, false, None, None)
    });
    assert_eq!(gradients, [false, false, true]);
}

/// Beside a residual the gradient is there, and is the residual's alone.
#[test]
fn beside_a_residual_the_gradient_is_wrong() {
    let mut dice = Dice::new(12);
    let inputs = [dice.tensor(&[6, 16]), dice.tensor(&[16])];
    let inputs = all(&inputs, DType::F32);
    let (value, fused) = differentiated(&inputs, &|t| {
        &t[0] + nn::rms_norm(&t[0], &t[1], EPSILON as f32)?
    });
    let (_, slow) = differentiated(&inputs, &|t| {
        &t[0] + nn::rms_norm_slow(&t[0], &t[1], EPSILON as f32)?
    });
    let cotangent = Dice::new(super::COTANGENT).tensor(value.dims());
    let cotangent = cotangent.to_dtype(DType::F32).unwrap();
    let fused = numbers(fused[0].as_ref().unwrap());
    assert_eq!(fused, numbers(&cotangent));
    assert_ne!(fused, numbers(slow[0].as_ref().unwrap()));
}
