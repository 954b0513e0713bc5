//! Going through a graph.

use super::{Graph, Instruction, Section};
use crate::error::Result;

/// Something that goes through a graph: what a value is to it, and what an operation gives.
pub trait Reader<'m> {
    /// A value: a node of a tape, bytes, nothing.
    type Value: Clone;

    /// The result of an operation on its inputs.
    ///
    /// # Errors
    /// Those of the operation.
    fn apply(&self, instruction: &'m Instruction, inputs: &[&Self::Value]) -> Result<Self::Value>;

    /// The result of a block: a tape may run it again later.
    ///
    /// # Errors
    /// Those of its operations.
    fn block(&self, _index: usize, block: &'m Section, x: Self::Value) -> Result<Self::Value> {
        block.walk(self, Some(x))
    }
}

impl Section {
    /// The last instruction's result. A value is let go with the last instruction that reads it.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn walk<'m, R: Reader<'m> + ?Sized>(
        &'m self,
        reader: &R,
        x: Option<R::Value>,
    ) -> Result<R::Value> {
        let mut values = vec![x];
        for instruction in &self.instructions {
            let inputs: Vec<&R::Value> = (instruction.inputs.iter())
                .filter_map(|&i| values[i].as_ref())
                .collect();
            let result = reader.apply(instruction, &inputs)?;
            for &gone in &instruction.last_of {
                values[gone] = None;
            }
            values.push(Some(result));
        }
        Ok(values
            .pop()
            .flatten()
            .expect("a section gives its last instruction's result"))
    }
}

impl Graph {
    /// What the last block gives.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn body<'m, R: Reader<'m>>(&'m self, reader: &R) -> Result<R::Value> {
        let x = self.stem.walk(reader, None)?;
        (self.blocks.iter().enumerate())
            .try_fold(x, |x, (index, block)| reader.block(index, block, x))
    }

    /// What heads read, of some rows of the last block.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn tail<'m, R: Reader<'m>>(&'m self, reader: &R, x: R::Value) -> Result<R::Value> {
        if self.tail.instructions.is_empty() {
            Ok(x)
        } else {
            self.tail.walk(reader, Some(x))
        }
    }

    /// What heads read.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn walk<'m, R: Reader<'m>>(&'m self, reader: &R) -> Result<R::Value> {
        let x = self.body(reader)?;
        self.tail(reader, x)
    }
}
