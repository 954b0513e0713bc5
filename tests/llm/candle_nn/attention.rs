//! Attention: by their softmax, and by their operations for packs.

use candle_core::{D, DType, Device, Result as Candle, Tensor};
use candle_nn::attention::{flash_attn_varlen_cpu, flash_attn_varlen_unfused};
use candle_nn::ops as nn;
use pistar::llm::internals::tensor::ops::{Attention, Starts};

use super::{agree, agree_in_value, each_sequence, ragged};
use crate::ops::by;
use crate::ops::twins::{Case, Dice};

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 16;
/// `1/√16`, which f32 holds.
const SCALE: f64 = 0.25;
/// ALiBi's, which f32 holds.
const SLOPES: [f64; HEADS] = [0.25, 0.0625, 0.015625, 0.00390625];

fn attention(window: Option<usize>, slopes: Option<&[f64]>) -> Case {
    let mut dice = Dice::new(9);
    let [q, k] = [HEADS, KV_HEADS].map(|heads| [48, heads * HEAD_DIM]);
    let starts: Starts = ragged().1.into();
    let form = Attention {
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        scale: SCALE,
        window,
        slopes: slopes.map(Into::into),
    };
    Case {
        inputs: vec![dice.tensor(&q), dice.tensor(&k), dice.tensor(&k)],
        op: Box::new(move |way, tape, x| {
            by!(way, attention(tape, [&x[0], &x[1], &x[2]], &form, &starts))
        }),
    }
}

/// `softmax(scale · q kᵀ + mask) v` of each sequence.
fn by_softmax(t: &[Tensor]) -> Candle<Tensor> {
    each_sequence(&[&t[0], &t[1], &t[2]], &[HEADS, KV_HEADS, KV_HEADS], |x| {
        let length = x[0].dim(2)?;
        let shared = |x: &Tensor| {
            let groups = [x, x].map(|x| x.unsqueeze(2));
            let [a, b] = groups;
            Tensor::cat(&[a?, b?], 2)?.reshape((1, HEADS, length, HEAD_DIM))
        };
        let later = (0..length)
            .flat_map(|i| (0..length).map(move |j| if j > i { f64::NEG_INFINITY } else { 0.0 }));
        let mask = Tensor::from_iter(later, &Device::Cpu)?.reshape((length, length))?;
        let scores = (x[0].matmul(&shared(&x[1])?.t()?)? * SCALE)?;
        let scores = scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?;
        nn::softmax(&scores, D::Minus1)?.matmul(&shared(&x[2])?)
    })
}

#[test]
fn attention_by_softmax() {
    agree(&attention(None, None), &by_softmax, [2e-15, 1e-6]);
}

/// Theirs of the pack as it lies: the window counts the tokens before a token.
pub fn of_a_pack(
    t: &[Tensor],
    fused: bool,
    window: Option<usize>,
    slopes: Option<&[f64]>,
) -> Candle<Tensor> {
    let lengths = ragged().0.map(|length| length as u32);
    let lengths = Tensor::new(&lengths, &Device::Cpu)?;
    let slopes =
        (slopes.map(|s| Tensor::new(s, &Device::Cpu)?.to_dtype(DType::F32))).transpose()?;
    let split = |i: usize, heads| t[i].reshape((48, heads, HEAD_DIM));
    let (q, k, v) = (split(0, HEADS)?, split(1, KV_HEADS)?, split(2, KV_HEADS)?);
    let attend = if fused {
        flash_attn_varlen_cpu
    } else {
        flash_attn_varlen_unfused
    };
    let (before, after) = (window.map(|w| w - 1), window.map(|_| 0));
    let (slopes, scale) = (slopes.as_ref(), SCALE as f32);
    let output = attend(
        &q, &k, &v, slopes, &lengths, &lengths, 30, 30, scale, true, before, after,
    )?;
    output.reshape((48, HEADS * HEAD_DIM))
}

#[test]
fn attention_of_a_pack_with_windows_and_slopes() {
    for window in [None, Some(1), Some(7)] {
        for slopes in [None, Some(&SLOPES[..])] {
            let ours = attention(window, slopes);
            let unfused = |t: &[Tensor]| of_a_pack(t, false, window, slopes);
            agree_in_value(&ours, &unfused, &[(DType::F64, 1e-15), (DType::F32, 5e-7)]);
            let fused = |t: &[Tensor]| of_a_pack(t, true, window, slopes);
            agree_in_value(&ours, &fused, &[(DType::F32, 5e-7)]);
        }
    }
}
