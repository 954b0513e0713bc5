//! Sources of examples.

use std::borrow::Cow;

use crate::error::Result;
use crate::llm::text::data::Source;
use crate::llm::text::example::Example;

/// Source of examples.
pub trait Examples {
    /// Number of examples.
    fn count(&self) -> usize;

    /// Those at some rows.
    ///
    /// # Errors
    /// A row that cannot be used.
    fn at(&self, rows: &[u32]) -> Result<Vec<Example>>;

    /// Tokens of each, where they are known before it is read.
    fn lengths(&self) -> Option<Cow<'_, [u32]>>;
}

impl Examples for Source {
    fn count(&self) -> usize {
        self.len()
    }

    fn at(&self, rows: &[u32]) -> Result<Vec<Example>> {
        self.examples(rows)
    }

    fn lengths(&self) -> Option<Cow<'_, [u32]>> {
        Self::lengths(self).map(Cow::Borrowed)
    }
}

/// Examples in memory.
impl Examples for Vec<Example> {
    fn count(&self) -> usize {
        self.len()
    }

    fn at(&self, rows: &[u32]) -> Result<Vec<Example>> {
        Ok(rows.iter().map(|&r| self[r as usize].clone()).collect())
    }

    fn lengths(&self) -> Option<Cow<'_, [u32]>> {
        Some(self.iter().map(|e| e.tokens() as u32).collect())
    }
}
