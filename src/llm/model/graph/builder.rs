//! Writing a graph down.

use super::{
    Declared, Graph, Instruction, Linear, LinearWeights, Norm, Op, Place, Purpose, Rotation,
    Section, Sizes, Weight,
};
use crate::llm::tensor::ops::{Activation, Attention};

/// A value of the section that is being written.
#[derive(Debug, Clone, Copy)]
pub struct Value {
    index: usize,
    /// Numbers of a row.
    pub width: usize,
}

/// A graph that is being written: weights are declared in the order of files, and operations on them follow.
#[derive(Debug)]
pub struct Builder {
    weights: Vec<Declared>,
    linears: Vec<LinearWeights>,
    rotations: Vec<Rotation>,
    attentions: usize,
    place: Place,
    section: Section,
    stem: Section,
    blocks: Vec<Section>,
    embedding: Option<Weight>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            weights: Vec::new(),
            linears: Vec::new(),
            rotations: Vec::new(),
            attentions: 0,
            place: Place::Stem,
            section: Section::default(),
            stem: Section::default(),
            blocks: Vec::new(),
            embedding: None,
        }
    }
}

impl Builder {
    fn declare(&mut self, name: &str, shape: &[usize], purpose: Purpose) -> Weight {
        self.weights.push(Declared {
            name: self.place.path(name),
            shape: shape.into(),
            purpose,
            place: self.place,
        });
        Weight(self.weights.len() - 1)
    }

    /// A linear layer of I inputs and O outputs.
    pub fn linear(&mut self, name: &str, shape: [usize; 2], bias: bool) -> Linear {
        self.matrix(name, shape, bias, Purpose::Matrix)
    }

    /// A linear layer whose outputs are added to the residual stream.
    pub fn residual(&mut self, name: &str, shape: [usize; 2], bias: bool) -> Linear {
        self.matrix(name, shape, bias, Purpose::Residual)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2], bias: bool, purpose: Purpose) -> Linear {
        let [inputs, outputs] = shape;
        let weight = self.declare(&format!("{name}.weight"), &[outputs, inputs], purpose);
        let bias = bias.then(|| self.declare(&format!("{name}.bias"), &[outputs], Purpose::Bias));
        self.keep(name, weight, bias, shape)
    }

    fn keep(
        &mut self,
        name: &str,
        weight: Weight,
        bias: Option<Weight>,
        shape: [usize; 2],
    ) -> Linear {
        self.linears.push(LinearWeights {
            name: self.place.path(name),
            weight,
            bias,
            shape,
        });
        Linear(self.linears.len() - 1)
    }

    /// A norm of the root mean square, scaled by w + `offset`.
    pub fn rms_norm(&mut self, name: &str, width: usize, epsilon: f64, offset: f64) -> Norm {
        let scale = Purpose::Scale { offset };
        Norm {
            weight: self.declare(&format!("{name}.weight"), &[width], scale),
            bias: None,
            width,
            epsilon,
            offset,
        }
    }

    /// A norm of mean and variance, with a bias.
    pub fn layer_norm(&mut self, name: &str, width: usize, epsilon: f64) -> Norm {
        let norm = self.rms_norm(name, width, epsilon, 0.0);
        Norm {
            bias: Some(self.declare(&format!("{name}.bias"), &[width], Purpose::Shift)),
            ..norm
        }
    }

    /// Rotary angles, to be named in [`rope`](Self::rope).
    pub fn rotation(&mut self, rotation: Rotation) -> usize {
        self.rotations.push(rotation);
        self.rotations.len() - 1
    }

    fn push(&mut self, op: Op, inputs: &[Value], width: usize) -> Value {
        self.section.instructions.push(Instruction {
            op,
            width,
            inputs: inputs.iter().map(|value| value.index).collect(),
            last_of: Vec::new(),
        });
        let index = self.section.instructions.len();
        Value { index, width }
    }

    /// The embedding of tokens, `[rows, width]`, and its rows.
    pub fn tokens(&mut self, name: &str, [rows, width]: [usize; 2]) -> Value {
        let table = self.declare(&format!("{name}.weight"), &[rows, width], Purpose::Tokens);
        self.embedding = Some(table);
        self.push(Op::Tokens(table), &[], width)
    }

    /// The embedding of positions, whose first is in row `offset`, and its rows.
    pub fn positions(&mut self, name: &str, [rows, width]: [usize; 2], offset: usize) -> Value {
        let purpose = Purpose::Positions;
        let table = self.declare(&format!("{name}.weight"), &[rows, width], purpose);
        self.push(Op::Positions { table, offset }, &[], width)
    }

    /// `factor · x`.
    pub fn scale(&mut self, x: Value, factor: f64) -> Value {
        self.push(Op::Scale(factor), &[x], x.width)
    }

    /// `x Wᵀ + b`.
    pub fn project(&mut self, layer: Linear, x: Value) -> Value {
        let [_, outputs] = self.linears[layer.0].shape;
        self.push(Op::Linear(layer), &[x], outputs)
    }

    /// Every run of x normalised.
    pub fn normalise(&mut self, norm: Norm, x: Value) -> Value {
        self.push(Op::Norm(norm), &[x], x.width)
    }

    /// Rotary positions of each of the heads of x.
    pub fn rope(&mut self, rotation: usize, heads: usize, x: Value) -> Value {
        self.push(Op::Rope { rotation, heads }, &[x], x.width)
    }

    /// Causal attention.
    pub fn attention(&mut self, form: Attention, [q, k, v]: [Value; 3]) -> Value {
        let slot = self.attentions;
        self.attentions += 1;
        self.push(Op::Attention { form, slot }, &[q, k, v], q.width)
    }

    /// `f(gate) · up`.
    pub fn gated(&mut self, f: Activation, [gate, up]: [Value; 2]) -> Value {
        self.push(Op::Gated(f), &[gate, up], up.width)
    }

    /// `f(x)`.
    pub fn activation(&mut self, f: Activation, x: Value) -> Value {
        self.push(Op::Activation(f), &[x], x.width)
    }

    /// `a + b`.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.push(Op::Add, &[a, b], a.width)
    }

    /// Blocks, one after the other: `block` writes one.
    pub fn blocks(
        &mut self,
        count: usize,
        x: Value,
        mut block: impl FnMut(&mut Self, Value) -> Value,
    ) -> Value {
        self.stem = self.finished();
        let mut width = x.width;
        for index in 0..count {
            self.place = Place::Block(index);
            width = block(self, Value { index: 0, width }).width;
            let section = self.finished();
            self.blocks.push(section);
        }
        self.place = Place::Tail;
        Value { index: 0, width }
    }

    /// The section that was being written, and for each of its values who reads it last.
    fn finished(&mut self) -> Section {
        let mut section = std::mem::take(&mut self.section);
        let count = section.instructions.len();
        let mut seen = vec![false; count + 1];
        // The last result is the section's.
        seen[count] = true;
        for instruction in section.instructions.iter_mut().rev() {
            for &input in &instruction.inputs {
                if !std::mem::replace(&mut seen[input], true) {
                    instruction.last_of.push(input);
                }
            }
        }
        section
    }

    /// The graph with its output head: the embedding if `sizes.tied`.
    pub fn finish(mut self, sizes: Sizes, bias: bool) -> Graph {
        let tail = self.finished();
        self.place = Place::Head;
        let shape = [sizes.width, sizes.vocabulary];
        let head = match self.embedding.filter(|_| sizes.tied) {
            None => self.linear("lm_head", shape, bias),
            Some(embedding) => {
                let bias =
                    bias.then(|| self.declare("lm_head.bias", &[sizes.vocabulary], Purpose::Bias));
                self.keep("lm_head", embedding, bias, shape)
            }
        };
        Graph {
            sizes,
            weights: self.weights,
            linears: self.linears,
            rotations: self.rotations,
            attentions: self.attentions,
            head,
            plain: None,
            stem: self.stem,
            blocks: self.blocks,
            tail,
        }
    }
}
