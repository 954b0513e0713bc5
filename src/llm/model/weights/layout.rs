//! Names and layouts of a decoder's parameters in each family's files.

use crate::llm::model::architecture::{Architecture, Norm, Positions};
use crate::llm::model::config::Family;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name there.
    pub name: String,
    /// The parameters it holds, one after the other along the first axis, and their shapes.
    pub parts: Vec<(String, Vec<usize>)>,
    /// True if the file holds the transpose (GPT-2 stores matrices as `[in, out]`).
    pub transposed: bool,
}

impl Entry {
    /// The shape in the file.
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.parts[0].1.clone();
        shape[0] = self.parts.iter().map(|(_, shape)| shape[0]).sum();
        if self.transposed {
            shape.reverse();
        }
        shape
    }
}

/// All tensors of a decoder, in the order in which it asks for them. With `head`, its output head
/// too, unless that is the embedding.
pub fn layout(family: Family, a: &Architecture, head: bool) -> Vec<Entry> {
    let gpt2 = family == Family::Gpt2;
    let mut entries = Entries {
        gpt2,
        list: Vec::new(),
    };
    let matrix = vec![a.vocabulary, a.width];
    entries.add("model.embed_tokens.weight", "wte.weight", &matrix);
    if a.positions == Positions::Learned {
        let table = [a.context, a.width];
        entries.add("model.embed_positions.weight", "wpe.weight", &table);
    }
    for layer in 0..a.layers {
        entries.block(a, layer);
    }
    entries.norm(a, "model.norm", "ln_f");
    if head && !a.tied {
        entries.add("lm_head.weight", "lm_head.weight", &matrix);
    }
    entries.list
}

struct Entries {
    gpt2: bool,
    list: Vec<Entry>,
}

impl Entries {
    /// A tensor by Llama's name, and by GPT-2's.
    fn add(&mut self, llama: &str, gpt2: &str, shape: &[usize]) {
        let name = match (self.gpt2, gpt2) {
            (true, "lm_head.weight") => gpt2.into(),
            (true, _) => format!("transformer.{gpt2}"),
            (false, _) => llama.into(),
        };
        self.list.push(Entry {
            name,
            parts: vec![(llama.into(), shape.into())],
            transposed: false,
        });
    }

    fn norm(&mut self, a: &Architecture, llama: &str, gpt2: &str) {
        let weight = |name: &str| format!("{name}.weight");
        self.add(&weight(llama), &weight(gpt2), &[a.width]);
        if a.norm == Norm::Layer {
            let bias = |name: &str| format!("{name}.bias");
            self.add(&bias(llama), &bias(gpt2), &[a.width]);
        }
    }

    /// Linear layers that a file keeps apart, or, in GPT-2, one after the other under one name.
    fn linear(&mut self, layer: usize, llama: &[(&str, [usize; 2])], gpt2: &str, bias: bool) {
        let at = |part: &str, kind: &str| format!("model.layers.{layer}.{part}.{kind}");
        let weight = |&(part, [i, o]): &(&str, [usize; 2])| (at(part, "weight"), vec![o, i]);
        let shift = |&(part, [_, o]): &(&str, [usize; 2])| (at(part, "bias"), vec![o]);
        if self.gpt2 {
            let name = |kind: &str| format!("transformer.h.{layer}.{gpt2}.{kind}");
            self.list.push(Entry {
                name: name("weight"),
                parts: llama.iter().map(weight).collect(),
                transposed: true,
            });
            if bias {
                self.list.push(Entry {
                    name: name("bias"),
                    parts: llama.iter().map(shift).collect(),
                    transposed: false,
                });
            }
            return;
        }
        for part in llama {
            let (name, shape) = weight(part);
            self.add(&name, "", &shape);
            if bias {
                let (name, shape) = shift(part);
                self.add(&name, "", &shape);
            }
        }
    }

    fn block(&mut self, a: &Architecture, layer: usize) {
        let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        let (inner, width) = (a.intermediate, a.width);
        let norm = |part: &str| format!("model.layers.{layer}.{part}");
        let short = |part: &str| format!("h.{layer}.{part}");
        self.norm(a, &norm("input_layernorm"), &short("ln_1"));
        let qkv = [
            ("self_attn.q_proj", [width, q]),
            ("self_attn.k_proj", [width, kv]),
            ("self_attn.v_proj", [width, kv]),
        ];
        self.linear(layer, &qkv, "attn.c_attn", a.qkv_bias);
        let output = [("self_attn.o_proj", [q, width])];
        self.linear(layer, &output, "attn.c_proj", a.output_bias);
        self.norm(a, &norm("post_attention_layernorm"), &short("ln_2"));
        if a.gated {
            let gate = [("mlp.gate_proj", [width, inner])];
            self.linear(layer, &gate, "mlp.c_gate", a.mlp_bias);
        }
        let up = [("mlp.up_proj", [width, inner])];
        self.linear(layer, &up, "mlp.c_fc", a.mlp_bias);
        let down = [("mlp.down_proj", [inner, width])];
        self.linear(layer, &down, "mlp.c_proj", a.mlp_bias);
    }
}
