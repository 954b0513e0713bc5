//! Where examples come from.

use crate::error::Result;
use crate::llm::data::{Batches, Ordering, Source};
use crate::llm::example::Example;

/// Where examples come from.
pub trait Examples {
    /// How many there are.
    fn count(&self) -> usize;

    /// Those at some rows.
    ///
    /// # Errors
    /// A row that cannot be used.
    fn at(&self, rows: &[u32]) -> Result<Vec<Example>>;

    /// The batches of an epoch.
    ///
    /// # Errors
    /// An ordering that does not suit the rows.
    fn batches(&self, ordering: &Ordering, epoch: u64) -> Result<Batches>;

    /// Says which data they are.
    fn fingerprint(&self) -> String;
}

impl Examples for Source {
    fn count(&self) -> usize {
        self.len()
    }

    fn at(&self, rows: &[u32]) -> Result<Vec<Example>> {
        self.examples(rows)
    }

    fn batches(&self, ordering: &Ordering, epoch: u64) -> Result<Batches> {
        Self::batches(self, ordering, epoch)
    }

    fn fingerprint(&self) -> String {
        self.hash().into()
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

    fn batches(&self, ordering: &Ordering, epoch: u64) -> Result<Batches> {
        ordering.check(self.len())?;
        let lengths: Vec<u32> = self.iter().map(|e| e.tokens() as u32).collect();
        ordering.batches(epoch, self.len(), Some(&lengths))
    }

    fn fingerprint(&self) -> String {
        "memory".into()
    }
}
