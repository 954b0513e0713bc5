//! The decoder-only transformer.

use candle_core::{DType, Device, Tensor};
use ndarray_rand::rand_distr::{Distribution, StandardNormal};

use super::architecture::{Architecture, Norm, Positions};
use super::ops::{self, Attention, Rope, Starts};
use super::parameters::{Id, Parameters};
use super::sequence::{Packed, Predictions, Sequence};
use super::tape::{Node, Tape};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// `x Wᵀ + b`.
#[derive(Debug, Clone, Copy)]
struct Linear {
    weight: Id,
    bias: Option<Id>,
}

#[derive(Debug, Clone, Copy)]
struct NormWeights {
    weight: Id,
    bias: Option<Id>,
}

#[derive(Debug, Clone)]
struct Block {
    attention_norm: NormWeights,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    mlp_norm: NormWeights,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

/// A decoder with its weights.
#[derive(Debug, Clone)]
pub struct Decoder {
    architecture: Architecture,
    parameters: Parameters,
    embedding: Id,
    positions: Option<Id>,
    blocks: Vec<Block>,
    norm: NormWeights,
    head: Id,
    rope: Option<Rope>,
}

/// Where weights come from: a name and a shape to numbers.
pub type Source<'a> = dyn FnMut(&str, &[usize]) -> Result<Tensor> + 'a;

impl Decoder {
    /// A decoder whose weights come from `source`, under Llama's names.
    ///
    /// # Errors
    /// Those of `source`, or a failing device.
    pub fn new(
        architecture: Architecture,
        dtype: DType,
        device: &Device,
        source: &mut Source,
    ) -> Result<Self> {
        let a = &architecture;
        let mut parameters = Parameters::new(dtype, device);
        let mut get = |name: String, shape: &[usize]| -> Result<Id> {
            let tensor = source(&name, shape)?;
            if tensor.dims() != shape {
                let problem = format!("its shape is {:?}", tensor.dims());
                return Err(Error::invalid(
                    name,
                    problem,
                    format!("the configuration asks for {shape:?}"),
                ));
            }
            parameters.add(name, &tensor)
        };
        let embedding = get("model.embed_tokens.weight".into(), &[a.vocabulary, a.width])?;
        let positions = match a.positions {
            Positions::Learned => Some(get(
                "model.embed_positions.weight".into(),
                &[a.context, a.width],
            )?),
            Positions::Rotary { .. } => None,
        };
        let mut blocks = Vec::with_capacity(a.layers);
        for layer in 0..a.layers {
            let at = |part: &str| format!("model.layers.{layer}.{part}");
            let mut linear = |part: &str, [i, o]: [usize; 2], bias: bool| -> Result<Linear> {
                let weight = get(at(&format!("{part}.weight")), &[o, i])?;
                let bias = match bias {
                    true => Some(get(at(&format!("{part}.bias")), &[o])?),
                    false => None,
                };
                Ok(Linear { weight, bias })
            };
            let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
            let query = linear("self_attn.q_proj", [a.width, q], a.qkv_bias)?;
            let key = linear("self_attn.k_proj", [a.width, kv], a.qkv_bias)?;
            let value = linear("self_attn.v_proj", [a.width, kv], a.qkv_bias)?;
            let output = linear("self_attn.o_proj", [q, a.width], a.output_bias)?;
            let gate = match a.gated {
                true => Some(linear(
                    "mlp.gate_proj",
                    [a.width, a.intermediate],
                    a.mlp_bias,
                )?),
                false => None,
            };
            let up = linear("mlp.up_proj", [a.width, a.intermediate], a.mlp_bias)?;
            let down = linear("mlp.down_proj", [a.intermediate, a.width], a.mlp_bias)?;
            let mut norm = |part: &str| norm(a, &mut get, at(part));
            blocks.push(Block {
                attention_norm: norm("input_layernorm")?,
                query,
                key,
                value,
                output,
                mlp_norm: norm("post_attention_layernorm")?,
                gate,
                up,
                down,
            });
        }
        let norm = norm(a, &mut get, "model.norm".into())?;
        let head = match a.tied {
            true => embedding,
            false => get("lm_head.weight".into(), &[a.vocabulary, a.width])?,
        };
        let rope = rope(a, dtype, device)?;
        Ok(Self {
            architecture,
            parameters,
            embedding,
            positions,
            blocks,
            norm,
            head,
            rope,
        })
    }

    /// Random weights: matrices normal with that standard deviation, norms at their identity,
    /// biases 0. The same seed gives the same weights.
    ///
    /// # Errors
    /// A failing device.
    pub fn random(
        architecture: Architecture,
        deviation: f64,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let identity = match architecture.norm {
            Norm::Rms { offset } => 1.0 - offset,
            Norm::Layer => 1.0,
        };
        let mut index = 0;
        Self::new(architecture, dtype, device, &mut |name, shape| {
            index += 1;
            let mut stream = Stream::new(seed, Purpose::Start, index);
            let count: usize = shape.iter().product();
            let numbers: Vec<f64> = match shape {
                [_] if name.ends_with("bias") => vec![0.0; count],
                [_] => vec![identity; count],
                _ => (0..count)
                    .map(|_| -> f64 { StandardNormal.sample(stream.rng()) })
                    .map(|z| deviation * z)
                    .collect(),
            };
            Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
        })
    }

    /// What it is made of.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Its weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Its weights, to change what is trained.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The last block's output, normalised: `[N, width]` for N packed tokens.
    ///
    /// # Errors
    /// A token beyond the vocabulary, a sequence beyond the context, or a failing device.
    pub fn hidden(&self, tape: &Tape, packed: &Packed) -> Result<Node> {
        let a = &self.architecture;
        self.check(packed)?;
        let mut x = ops::embedding(tape, &self.node(tape, self.embedding), &packed.tokens)?;
        if a.embedding_scale != 1.0 {
            x = ops::scale(tape, &x, a.embedding_scale)?;
        }
        if let Some(table) = self.positions {
            let positions = (packed.starts.windows(2)).flat_map(|w| 0..(w[1] - w[0]) as u32);
            let positions = positions.collect::<Vec<_>>().into();
            let p = ops::embedding(tape, &self.node(tape, table), &positions)?;
            x = ops::add(tape, &x, &p)?;
        }
        for block in &self.blocks {
            let attended = self.attend(tape, block, &x, &packed.starts)?;
            x = ops::add(tape, &x, &attended)?;
            let mixed = self.mix(tape, block, &x)?;
            x = ops::add(tape, &x, &mixed)?;
        }
        self.normalise(tape, self.norm, &x)
    }

    /// ln π of every token of every completion, end to end, `[M]`; `predictions` says whose they
    /// are.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn log_probs(&self, tape: &Tape, predictions: &Predictions) -> Result<Node> {
        let hidden = self.hidden(tape, &predictions.packed)?;
        let hidden = ops::rows(tape, &hidden, &predictions.rows)?;
        ops::token_log_probs(
            tape,
            &hidden,
            &self.node(tape, self.head),
            &predictions.targets,
        )
    }

    /// `Σ ln π` over each completion's tokens, summed in f64.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn sums(&self, sequences: &[&Sequence]) -> Result<Vec<f64>> {
        let predictions = Predictions::new(sequences);
        let each = self.log_probs(&Tape::idle(), &predictions)?;
        let each: Vec<f64> = each.value().to_dtype(DType::F64)?.to_vec1()?;
        Ok((predictions.starts.windows(2))
            .map(|w| each[w[0]..w[1]].iter().sum())
            .collect())
    }

    /// Logits of every next token: `[N, vocabulary]`.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden).
    pub fn logits(&self, packed: &Packed) -> Result<Tensor> {
        let tape = Tape::idle();
        let hidden = self.hidden(&tape, packed)?;
        let logits = ops::linear(&tape, &hidden, &self.node(&tape, self.head), None)?;
        Ok(logits.value().clone())
    }

    fn attend(&self, tape: &Tape, block: &Block, x: &Node, starts: &Starts) -> Result<Node> {
        let a = &self.architecture;
        let x = self.normalise(tape, block.attention_norm, x)?;
        let mut q = self.linear(tape, block.query, &x)?;
        let mut k = self.linear(tape, block.key, &x)?;
        let v = self.linear(tape, block.value, &x)?;
        if let Some(table) = &self.rope {
            q = ops::rope(tape, &q, a.heads, table, starts)?;
            k = ops::rope(tape, &k, a.kv_heads, table, starts)?;
        }
        let form = Attention {
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            scale: (a.head_dim as f64).sqrt().recip(),
            window: a.window,
        };
        let mixed = ops::attention(tape, [&q, &k, &v], &form, starts)?;
        self.linear(tape, block.output, &mixed)
    }

    fn mix(&self, tape: &Tape, block: &Block, x: &Node) -> Result<Node> {
        let x = self.normalise(tape, block.mlp_norm, x)?;
        let up = self.linear(tape, block.up, &x)?;
        let f = self.architecture.activation;
        let inner = match block.gate {
            Some(gate) => ops::gated(tape, &self.linear(tape, gate, &x)?, &up, f)?,
            None => ops::activation(tape, &up, f)?,
        };
        self.linear(tape, block.down, &inner)
    }

    fn linear(&self, tape: &Tape, linear: Linear, x: &Node) -> Result<Node> {
        let bias = linear.bias.map(|b| self.node(tape, b));
        ops::linear(tape, x, &self.node(tape, linear.weight), bias.as_ref())
    }

    fn normalise(&self, tape: &Tape, norm: NormWeights, x: &Node) -> Result<Node> {
        let weight = self.node(tape, norm.weight);
        let epsilon = self.architecture.epsilon;
        match (self.architecture.norm, norm.bias) {
            (Norm::Layer, Some(bias)) => {
                ops::layer_norm(tape, x, &weight, &self.node(tape, bias), epsilon)
            }
            (Norm::Rms { offset }, _) => ops::rms_norm(tape, x, &weight, epsilon, offset),
            (Norm::Layer, None) => unreachable!("a layer norm is made with its bias"),
        }
    }

    fn node(&self, tape: &Tape, id: Id) -> Node {
        self.parameters.node(tape, id)
    }

    fn check(&self, packed: &Packed) -> Result<()> {
        let a = &self.architecture;
        if let Some(token) = (packed.tokens.iter()).find(|&&t| t as usize >= a.vocabulary) {
            return Err(Error::invalid(
                "tokens",
                format!(
                    "token {token} is not below the vocabulary's {}",
                    a.vocabulary
                ),
                "use the model's own tokenizer",
            ));
        }
        if packed.longest() > a.context {
            return Err(Error::invalid(
                "tokens",
                format!("a sequence has {} tokens", packed.longest()),
                format!("the model takes at most {}", a.context),
            ));
        }
        Ok(())
    }
}

fn norm(
    a: &Architecture,
    get: &mut impl FnMut(String, &[usize]) -> Result<Id>,
    name: String,
) -> Result<NormWeights> {
    Ok(NormWeights {
        weight: get(format!("{name}.weight"), &[a.width])?,
        bias: match a.norm {
            Norm::Layer => Some(get(format!("{name}.bias"), &[a.width])?),
            Norm::Rms { .. } => None,
        },
    })
}

/// Cosines and sines of every position.
fn rope(a: &Architecture, dtype: DType, device: &Device) -> Result<Option<Rope>> {
    let Positions::Rotary {
        frequencies,
        factor,
    } = &a.positions
    else {
        return Ok(None);
    };
    let table = |f: fn(f64) -> f64| -> Result<Tensor> {
        let numbers = (0..a.context)
            .flat_map(|t| (frequencies.iter()).map(move |w| factor * f(t as f64 * w)));
        let shape = (a.context, frequencies.len());
        let table = Tensor::from_iter(numbers, &Device::Cpu)?.reshape(shape)?;
        Ok(table.to_dtype(dtype)?.to_device(device)?)
    };
    Ok(Some(Rope {
        cos: table(f64::cos)?,
        sin: table(f64::sin)?,
    }))
}
