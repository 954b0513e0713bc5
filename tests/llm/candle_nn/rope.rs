//! Rotary position embedding, which candle-nn does in three layouts.

use candle_core::{DType, Device, Result as Candle, Tensor};
use candle_nn::rotary_emb as nn;
use pistar::llm::internals::tensor::ops::{Rope, Starts};

use super::{Theirs, agree, agree_in_value, each_sequence, ragged};
use crate::ops::by;
use crate::ops::twins::{Case, Dice};

const HEADS: usize = 3;
const HALF: usize = 8;

/// Cosines and sines of 64 positions.
pub fn table(dtype: DType) -> [Tensor; 2] {
    [f64::cos, f64::sin].map(|f| {
        let angles = (0..64).flat_map(|t| (0..HALF).map(move |i| (t, i)));
        let numbers: Vec<f64> = angles
            .map(|(t, i)| f(f64::from(t) * 10_000f64.powf(-(i as f64) / HALF as f64)))
            .collect();
        let table = Tensor::from_vec(numbers, (64, HALF), &Device::Cpu).unwrap();
        table.to_dtype(dtype).unwrap()
    })
}

/// Ours, of numbers `[N, heads · D]` packed.
pub fn turned(interleaved: bool) -> Case {
    let starts: Starts = ragged().1.into();
    Case {
        inputs: vec![Dice::new(8).tensor(&[48, HEADS * 2 * HALF])],
        op: Box::new(move |way, tape, x| {
            let dtype = x[0].value().dtype();
            let [cos, sin] = table(if dtype == DType::BF16 {
                DType::F32
            } else {
                dtype
            });
            let table = Rope {
                cos,
                sin,
                interleaved,
            };
            by!(way, rope(tape, &x[0], HEADS, &table, &starts))
        }),
    }
}

type Turn = fn(&Tensor, &Tensor, &Tensor) -> Candle<Tensor>;

/// Theirs of each sequence.
fn by_heads(turn: Turn) -> impl Fn(&[Tensor]) -> Candle<Tensor> {
    move |t| {
        let [cos, sin] = table(t[0].dtype());
        each_sequence(&[&t[0]], &[HEADS], |x| turn(&x[0], &cos, &sin))
    }
}

/// Theirs of the pack as it lies, with the angles of each token's own position.
pub fn packed(t: &[Tensor]) -> Candle<Tensor> {
    let positions = ragged().0.into_iter().flat_map(|length| 0..length as u32);
    let positions = Tensor::from_iter(positions, &Device::Cpu)?;
    let [cos, sin] = table(t[0].dtype()).map(|t| t.index_select(&positions, 0));
    let (n, width) = t[0].dims2()?;
    let x = t[0].reshape((1, n, HEADS, 2 * HALF))?;
    nn::rope_thd(&x, &cos?, &sin?)?.reshape((n, width))
}

#[test]
fn rope_with_a_gradient() {
    for (interleaved, turn) in [(false, nn::rope_slow as Turn), (true, nn::rope_i_slow)] {
        agree(&turned(interleaved), &by_heads(turn), [1e-15, 3e-7]);
    }
}

#[test]
fn fused_rope() {
    let bounds = [(DType::F64, 1e-15), (DType::F32, 3e-7)];
    let (halves, neighbours) = (by_heads(nn::rope), by_heads(nn::rope_i));
    let all: [(bool, Theirs); 3] = [(false, &halves), (true, &neighbours), (false, &packed)];
    for (interleaved, theirs) in all {
        agree_in_value(&turned(interleaved), theirs, &bounds);
    }
}
