//! The order in which rows are visited.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// Order and size of batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordering {
    /// Rows of a batch.
    pub batch: usize,
    /// Seed of the shuffle.
    #[serde(default)]
    pub seed: u64,
    /// Leaves out the rows that fill no batch; others each epoch.
    #[serde(default)]
    pub drop_last: bool,
    /// Sorts rows by length within windows of that many batches, so that rows of a batch have
    /// similar lengths.
    #[serde(default)]
    pub bucket: Option<usize>,
}

/// The batches of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    rows: Vec<u32>,
    batch: usize,
}

impl Ordering {
    /// Checks the numbers, for that many rows.
    ///
    /// # Errors
    /// A batch or a window of nothing, or no batch at all.
    pub fn check(&self, rows: usize) -> Result<()> {
        let fail = |field: &str, value: usize, remedy: String| {
            Err(Error::invalid(field, format!("it is {value}"), remedy))
        };
        if self.batch == 0 {
            return fail("batch", 0, "give 1 or more".into());
        }
        if self.bucket == Some(0) {
            return fail("bucket", 0, "give a number of batches, 1 or more".into());
        }
        if self.drop_last && self.batch > rows {
            let remedy = format!("give at most {rows}, the rows there are, or leave out drop_last");
            return fail("batch", self.batch, remedy);
        }
        Ok(())
    }

    /// Epoch of an epoch over that many rows.
    pub fn count(&self, rows: usize) -> usize {
        if self.drop_last {
            rows / self.batch
        } else {
            rows.div_ceil(self.batch)
        }
    }

    /// The batches of epoch number `epoch`: every row once, in an order that depends on nothing but
    /// seed and epoch, and the lengths of all rows if they are bucketed.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), or buckets without lengths.
    pub fn batches(&self, epoch: u64, rows: usize, lengths: Option<&[u32]>) -> Result<Epoch> {
        self.check(rows)?;
        let mut stream = Stream::new(self.seed, Purpose::Order, epoch);
        let mut rows: Vec<u32> = (0..rows as u32).collect();
        stream.shuffle(&mut rows);
        let whole = rows.len() - rows.len() % self.batch;
        if self.drop_last {
            rows.truncate(whole);
        }
        if let Some(window) = self.bucket {
            let Some(lengths) = lengths.filter(|l| l.len() >= rows.len()) else {
                let problem = "the lengths of rows are not known";
                return Err(Error::invalid("bucket", problem, "survey the data first"));
            };
            // The rows that fill no batch stay the last one, whatever their lengths.
            for window in rows[..whole].chunks_mut(window.saturating_mul(self.batch)) {
                window.sort_by_key(|&row| lengths[row as usize]);
                let mut batches: Vec<&[u32]> = window.chunks(self.batch).collect();
                stream.shuffle(&mut batches);
                let shuffled = batches.concat();
                window.copy_from_slice(&shuffled);
            }
        }
        let batch = self.batch;
        Ok(Epoch { rows, batch })
    }
}

impl Epoch {
    /// Number of batches.
    pub fn len(&self) -> usize {
        self.rows.len().div_ceil(self.batch)
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows of one; none beyond the last.
    pub fn get(&self, index: usize) -> &[u32] {
        self.rows.chunks(self.batch).nth(index).unwrap_or_default()
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.rows.chunks(self.batch)
    }
}
