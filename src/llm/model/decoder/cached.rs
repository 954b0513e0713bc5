//! A forward of tokens that continue sequences, whose attention is someone else's.

use std::cell::RefCell;
use std::rc::Rc;

use candle_core::Tensor;

use super::Decoder;
use super::on_tape::{Fed, OnTape};
use crate::error::Result;
use crate::llm::model::graph::{Instruction, Op, Reader};
use crate::llm::tensor::ops::{self, Attention, Rope};
use crate::llm::tensor::tape::{Node, Tape};

/// Tokens that continue sequences, those of one sequence next to each other.
pub(in crate::llm) struct New {
    pub tokens: Rc<[u32]>,
    /// The index of each in its sequence.
    pub positions: Rc<[u32]>,
    /// The rows whose hidden states are wanted.
    pub wanted: Rc<[u32]>,
}

/// An attention of the graph, by its slot: queries `[N, heads · D]`, keys and values `[N, kv_heads · D]`, rotated, to
/// `[N, heads · D]`.
pub(in crate::llm) type Attend<'a> =
    dyn FnMut(usize, &Attention, [&Tensor; 3]) -> Result<Tensor> + 'a;

/// Values as on a tape, but for attention.
struct Cached<'c, 't, 'm, 'a> {
    on_tape: OnTape<'t, 'm>,
    attend: RefCell<&'c mut Attend<'a>>,
}

impl<'m> Reader<'m> for Cached<'_, '_, 'm, '_> {
    type Value = Node;

    fn apply(&self, instruction: &'m Instruction, inputs: &[&Node]) -> Result<Node> {
        match (&instruction.op, inputs) {
            (Op::Attention { form, slot }, [q, k, v]) => {
                let attend = &mut **self.attend.borrow_mut();
                let qkv = [q.value(), k.value(), v.value()];
                Ok(Node::constant(attend(*slot, form, qkv)?))
            }
            _ => self.on_tape.apply(instruction, inputs),
        }
    }
}

impl Decoder {
    /// What heads read, of the wanted rows: `[M, width]`. The tokens are below the vocabulary, their positions below
    /// the context.
    ///
    /// # Errors
    /// Those of `attend`, or a failing device.
    pub(in crate::llm) fn cached(&self, new: &New, attend: &mut Attend) -> Result<Tensor> {
        let tape = &Tape::idle();
        let longest = new.positions.iter().max().map_or(0, |&p| p as usize + 1);
        let rows = &Tensor::from_slice(
            &new.positions,
            new.positions.len(),
            self.parameters.device(),
        )?;
        // Each token's own row, so that all look like one sequence.
        let own = |table: Rope| -> Result<Rope> {
            Ok(Rope {
                cos: table.cos.index_select(rows, 0)?,
                sin: table.sin.index_select(rows, 0)?,
                ..table
            })
        };
        let tables = self.tables(longest)?.into_iter().map(own);
        let fed = Fed {
            tokens: new.tokens.clone(),
            positions: new.positions.clone(),
            starts: vec![0, new.tokens.len()].into(),
            tables: tables.collect::<Result<_>>()?,
        };
        let reader = Cached {
            on_tape: OnTape {
                tape,
                model: self,
                fed: Rc::new(fed),
            },
            attend: RefCell::new(attend),
        };
        let x = self.graph.body(&reader)?;
        let x = ops::rows(tape, &x, &new.wanted)?;
        Ok(self.graph.tail(&reader, x)?.value().clone())
    }
}
