//! A decoder from named weights.

use candle_core::{DType, Device, Tensor};

use super::rope::Rotary;
use super::{Block, Decoder, Linear, NormWeights};
use crate::error::{Error, Result};
use crate::llm::model::architecture::{Architecture, Norm, Positions};
use crate::llm::tensor::parameters::{Id, Parameters};

/// Source of weights: a name and a shape to numbers.
pub type Source<'a> = dyn FnMut(&str, &[usize]) -> Result<Tensor> + 'a;

impl Decoder {
    /// A decoder whose weights come from `source`, under Llama's names whatever the family.
    ///
    /// # Errors
    /// Those of `source`, a shape that is not the one asked for, or a failing device.
    pub fn new(
        architecture: Architecture,
        dtype: DType,
        device: &Device,
        source: &mut Source,
    ) -> Result<Self> {
        Self::build(architecture, true, dtype, device, source)
    }

    /// [`new`](Self::new), with an output head or without.
    pub(crate) fn build(
        architecture: Architecture,
        with_head: bool,
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
                let bias = if bias {
                    Some(get(at(&format!("{part}.bias")), &[o])?)
                } else {
                    None
                };
                let lora = None;
                Ok(Linear { weight, bias, lora })
            };
            let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
            let query = linear("self_attn.q_proj", [a.width, q], a.qkv_bias)?;
            let key = linear("self_attn.k_proj", [a.width, kv], a.qkv_bias)?;
            let value = linear("self_attn.v_proj", [a.width, kv], a.qkv_bias)?;
            let output = linear("self_attn.o_proj", [q, a.width], a.output_bias)?;
            let gate = if a.gated {
                Some(linear(
                    "mlp.gate_proj",
                    [a.width, a.intermediate],
                    a.mlp_bias,
                )?)
            } else {
                None
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
        let head = match (with_head, a.tied) {
            (false, _) => None,
            (true, true) => Some(embedding),
            (true, false) => Some(get("lm_head.weight".into(), &[a.vocabulary, a.width])?),
        };
        let head = head.map(|weight| Linear {
            weight,
            bias: None,
            lora: None,
        });
        let rope = match &a.positions {
            Positions::Learned => None,
            Positions::Rotary {
                frequencies,
                factor,
            } => Some(Rotary {
                frequencies: frequencies.clone(),
                factor: *factor,
                context: a.context,
                dtype,
                device: device.clone(),
                table: Default::default(),
            }),
        };
        Ok(Self {
            architecture,
            parameters,
            embedding,
            positions,
            blocks,
            norm,
            head,
            rope,
            config: None,
            origin: None,
            adapter: None,
            recompute: false,
        })
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
