//! A graph's operations as nodes of a tape.

use std::rc::Rc;

use super::Decoder;
use crate::error::{Error, Result};
use crate::llm::model::graph::{Instruction, Linear, Norm, Op, Reader, Section, Weight};
use crate::llm::model::lora::{self, Lora};
use crate::llm::tensor::ops::{self, Rope, Starts};
use crate::llm::tensor::tape::{Node, Tape};

/// What goes through a network: packed tokens, and their cosines and sines.
pub(super) struct Fed {
    pub tokens: Rc<[u32]>,
    /// The index of each in its sequence.
    pub positions: Rc<[u32]>,
    pub starts: Starts,
    /// A table for each rotation.
    pub tables: Vec<Rope>,
}

/// Makes nodes of values.
pub(super) struct OnTape<'t, 'm> {
    pub tape: &'t Tape<'m>,
    pub model: &'m Decoder,
    pub fed: Rc<Fed>,
}

impl<'m> Reader<'m> for OnTape<'_, 'm> {
    type Value = Node;

    fn apply(&self, instruction: &'m Instruction, inputs: &[&Node]) -> Result<Node> {
        let (tape, model, fed) = (self.tape, self.model, &*self.fed);
        match (&instruction.op, inputs) {
            (Op::Tokens(table), []) => ops::embedding(tape, &model.node(tape, *table), &fed.tokens),
            (Op::Positions { table, offset: 0 }, []) => {
                ops::embedding(tape, &model.node(tape, *table), &fed.positions)
            }
            (Op::Positions { table, offset }, []) => {
                let rows = fed.positions.iter().map(|p| p + *offset as u32).collect();
                ops::embedding(tape, &model.node(tape, *table), &rows)
            }
            (Op::Scale(factor), [x]) => ops::scale(tape, x, *factor),
            (Op::Linear(layer), [x]) => model.linear(tape, *layer, x),
            (Op::Norm(norm), [x]) => model.normalise(tape, norm, x),
            (Op::Rope { rotation, heads }, [x]) => {
                ops::rope(tape, x, *heads, &fed.tables[*rotation], &fed.starts)
            }
            (Op::Attention { form, .. }, [q, k, v]) => {
                ops::attention(tape, [q, k, v], form, &fed.starts)
            }
            (Op::Gated(f), [gate, up]) => ops::gated(tape, gate, up, *f),
            (Op::Activation(f), [x]) => ops::activation(tape, x, *f),
            (Op::Add, [a, b]) => ops::add(tape, a, b),
            (op, inputs) => Err(Error::Backend {
                backend: "graph",
                message: format!("{op:?} of {} values", inputs.len()),
            }),
        }
    }

    fn block(&self, _index: usize, block: &'m Section, x: Node) -> Result<Node> {
        if !self.model.recompute {
            return block.walk(self, Some(x));
        }
        let (model, fed) = (self.model, self.fed.clone());
        self.tape.again(&x, move |tape, x| {
            let fed = fed.clone();
            block.walk(&OnTape { tape, model, fed }, Some(x.clone()))
        })
    }
}

impl Decoder {
    /// A weight on a tape.
    pub(super) fn node(&self, tape: &Tape, weight: Weight) -> Node {
        self.parameters.node(tape, self.id(weight))
    }

    /// A linear layer, with its adapter.
    fn linear(&self, tape: &Tape, layer: Linear, x: &Node) -> Result<Node> {
        let weights = self.graph.linear(layer);
        let bias = weights.bias.map(|bias| self.node(tape, bias));
        let y = ops::linear(tape, x, &self.node(tape, weights.weight), bias.as_ref())?;
        let Some(Lora { a, b, scaling }) = self.adapters[layer.index()] else {
            return Ok(y);
        };
        let [a, b] = [a, b].map(|id| self.parameters.node(tape, id));
        let inner = ops::linear(tape, x, &a, None)?;
        let outer = ops::linear(tape, &inner, &b, None)?;
        ops::add(tape, &y, &ops::scale(tape, &outer, scaling)?)
    }

    fn normalise(&self, tape: &Tape, norm: &Norm, x: &Node) -> Result<Node> {
        let weight = self.node(tape, norm.weight);
        match norm.bias {
            Some(bias) => ops::layer_norm(tape, x, &weight, &self.node(tape, bias), norm.epsilon),
            None => ops::rms_norm(tape, x, &weight, norm.epsilon, norm.offset),
        }
    }

    /// The output head's weight, adapted if it is.
    pub(super) fn head(&self, tape: &Tape) -> Result<Node> {
        let weights = self.graph.linear(self.graph.head);
        if !self.with_head {
            let problem = "the model has no output head";
            let remedy = "it was loaded as the body of a reward or value network; load a policy";
            return Err(Error::invalid("lm_head.weight", problem, remedy));
        }
        let weight = self.node(tape, weights.weight);
        match self.adapters[self.graph.head.index()] {
            None => Ok(weight),
            Some(Lora { a, b, scaling }) => {
                let [a, b] = [a, b].map(|id| self.parameters.node(tape, id));
                lora::adapted(tape, &weight, &a, &b, scaling)
            }
        }
    }
}
