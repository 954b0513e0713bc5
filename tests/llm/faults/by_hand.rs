//! A decoder's forward pass spelled out once more, with positions and attention to choose from.

use std::rc::Rc;

use candle_core::{Device, Tensor};
use pistar::Result;
use pistar::llm::internals::tensor::ops::{self, Attention, Rope, Starts};
use pistar::llm::internals::tensor::tape::{Node, Tape};
use pistar::llm::model::architecture::Positions;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::network::Output;
use pistar::llm::model::sequence::Sequence;

use super::pipeline::{Seen, laid};

/// Where sequences begin for positions, and where for attention.
pub struct Borders {
    pub positions: fn(&Starts) -> Starts,
    pub attention: fn(&Starts) -> Starts,
}

pub fn as_they_are(starts: &Starts) -> Starts {
    starts.clone()
}

/// All sequences as one.
pub fn merged(starts: &Starts) -> Starts {
    vec![0, starts[starts.len() - 1]].into()
}

/// What [`Decoder`]'s own forward pass gives for a Llama without biases, if the borders are as they
/// are; a prompt is fed with each of its completions.
pub fn forward(
    model: &Decoder,
    tape: &Tape,
    sequences: &[&Sequence],
    borders: &Borders,
) -> Result<Output> {
    let a = model.architecture().unwrap();
    let weight = |name: &str| -> Node {
        let id = model.parameters().find(name).unwrap();
        model.parameters().node(tape, id)
    };
    let seen: Vec<Seen> = sequences.iter().map(|s| Seen::right(s)).collect();
    let predictions = laid(&seen);
    let starts = &predictions.packed.starts;
    let positions = (borders.positions)(starts);
    let attended = (borders.attention)(starts);
    let embedding = weight("model.embed_tokens.weight");
    let mut x = ops::embedding(tape, &embedding, &predictions.packed.tokens)?;
    let rope = match &a.positions {
        Positions::Rotary { frequencies, .. } => Some(table(frequencies, a.context)?),
        Positions::Learned => {
            let of = |w: &[usize]| 0..(w[1] - w[0]) as u32;
            let of: Rc<[u32]> = positions.windows(2).flat_map(of).collect();
            let p = ops::embedding(tape, &weight("model.embed_positions.weight"), &of)?;
            x = ops::add(tape, &x, &p)?;
            None
        }
        other => panic!("a new variant: {other:?}"),
    };
    let norm = |x: &Node, name: &str| ops::rms_norm(tape, x, &weight(name), a.epsilon, 0.0);
    let linear = |x: &Node, name: &str| ops::linear(tape, x, &weight(name), None);
    for layer in 0..a.layers {
        let at = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let h = norm(&x, &at("input_layernorm"))?;
        let mut q = linear(&h, &at("self_attn.q_proj"))?;
        let mut k = linear(&h, &at("self_attn.k_proj"))?;
        let v = linear(&h, &at("self_attn.v_proj"))?;
        if let Some(rope) = &rope {
            q = ops::rope(tape, &q, a.heads, rope, &positions)?;
            k = ops::rope(tape, &k, a.kv_heads, rope, &positions)?;
        }
        let form = Attention {
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            scale: (a.head_dim as f64).sqrt().recip(),
            window: None,
            slopes: None,
        };
        let mixed = ops::attention(tape, [&q, &k, &v], &form, &attended)?;
        x = ops::add(tape, &x, &linear(&mixed, &at("self_attn.o_proj"))?)?;
        let h = norm(&x, &at("post_attention_layernorm"))?;
        let gate = linear(&h, &at("mlp.gate_proj"))?;
        let inner = ops::gated(tape, &gate, &linear(&h, &at("mlp.up_proj"))?, a.activation)?;
        x = ops::add(tape, &x, &linear(&inner, &at("mlp.down_proj"))?)?;
    }
    let hidden = norm(&x, "model.norm.weight")?;
    Ok(Output {
        pieces: model.log_probs_of(tape, &hidden, &predictions)?,
        starts: predictions.starts,
        values: None,
    })
}

fn table(frequencies: &[f64], context: usize) -> Result<Rope> {
    let table = |f: fn(f64) -> f64| -> Result<Tensor> {
        let numbers = (0..context).flat_map(|t| frequencies.iter().map(move |w| f(t as f64 * w)));
        let shape = (context, frequencies.len());
        Ok(Tensor::from_iter(numbers, &Device::Cpu)?.reshape(shape)?)
    };
    Ok(Rope {
        cos: table(f64::cos)?,
        sin: table(f64::sin)?,
        interleaved: false,
    })
}
