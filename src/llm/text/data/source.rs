//! A file of examples, as training asks for them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::columns::Form;
use super::dialogue::Dialogue;
use super::order::{Epoch, Ordering};
use super::reading::Reading;
use super::report::Report;
use super::table::Table;
use super::tokenise::{Notes, RowRules, Tokeniser};
use super::unread;
use super::values::Fault;
use crate::error::Result;
use crate::llm::text::example::Example;
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::{Observer, Silent};

/// Rows that are read at once when all are.
const CHUNK: usize = 1024;

/// The examples of a file, or of several.
pub struct Source {
    file: Table,
    form: Form,
    reading: Reading,
    dialogue: Dialogue,
    tokeniser: Tokeniser,
    surveyed: Option<(Report, Vec<u32>)>,
}

impl Source {
    /// Opens a file for a model that takes `context` tokens, its columns as they are. Rows are read
    /// when they are asked for: [`survey`](Self::survey) finds what is wrong before that.
    ///
    /// # Errors
    /// Those of the table and of a tokeniser.
    pub fn open(
        path: &Path,
        form: impl Into<Form>,
        tokenizer: Arc<Tokenizer>,
        context: usize,
        settings: RowRules,
    ) -> Result<Self> {
        Self::read(
            path,
            &Reading::default(),
            form,
            tokenizer,
            context,
            settings,
            &Silent,
        )
    }

    /// [`open`](Self::open), with rows that are made as `reading` says.
    ///
    /// # Errors
    /// Those of the table, of a dialogue and of a tokeniser.
    pub fn read(
        path: &Path,
        reading: &Reading,
        form: impl Into<Form>,
        tokenizer: Arc<Tokenizer>,
        context: usize,
        settings: RowRules,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let tokeniser = Tokeniser::new(tokenizer.clone(), context, settings)?;
        let dialogue = Dialogue::new(tokenizer, reading)?;
        let file = Table::read(path, reading, observer)?;
        Ok(Self {
            tokeniser,
            file,
            form: form.into(),
            reading: reading.clone(),
            dialogue,
            surveyed: None,
        })
    }

    /// Number of rows.
    #[allow(clippy::len_without_is_empty)] // There is at least one.
    pub fn len(&self) -> usize {
        self.file.len()
    }

    /// SHA-256 of the [file](Table::hash).
    pub fn hash(&self) -> &str {
        self.file.hash()
    }

    /// The rows before they are examples.
    pub fn file(&self) -> &Table {
        &self.file
    }

    /// The example at row `row` of the file, from 0.
    ///
    /// # Errors
    /// A row that cannot be used: `FILE:LINE`, the column, and what would be right.
    pub fn example(&self, row: usize) -> Result<Example> {
        Ok(self.noted(row)?.0)
    }

    /// The examples at those rows, in that order.
    ///
    /// # Errors
    /// The first of [`example`](Self::example).
    pub fn examples(&self, rows: &[u32]) -> Result<Vec<Example>> {
        let each: Vec<_> = (rows.par_iter())
            .map(|&row| self.example(row as usize))
            .collect();
        each.into_iter().collect()
    }

    fn noted(&self, row: usize) -> Result<(Example, Notes, BTreeSet<String>)> {
        let columns = self.file.row(row)?;
        let read = || {
            let text = self.form.read(&columns, &self.dialogue)?;
            let (example, notes) = self.tokeniser.example(row as u64, &text)?;
            let unread = self.form.unread(&columns, &text, &self.dialogue);
            Ok((example, notes, unread))
        };
        read().map_err(|Fault { problem, remedy }| self.file.fault(row, problem, remedy))
    }

    /// Reads every row once, in parallel: what is wrong shows before training begins. Keeps the
    /// lengths, 4 bytes a row.
    ///
    /// # Errors
    /// The first row, in the file's order, that cannot be used; a column that the mapping makes and
    /// nothing reads.
    pub fn survey(&mut self, observer: &dyn Observer) -> Result<&Report> {
        let work = observer.begin("reading", self.len() as u64);
        let (mut report, mut lengths) = (Report::default(), Vec::with_capacity(self.len()));
        for start in (0..self.len()).step_by(CHUNK) {
            let rows = start..self.len().min(start + CHUNK);
            let each: Vec<_> = rows.into_par_iter().map(|row| self.noted(row)).collect();
            for noted in each {
                let (example, notes, unread) = noted?;
                report.add(&example, notes, unread);
                lengths.push(example.tokens() as u32);
                work.advance(1);
            }
        }
        drop(work);
        report.locate(&self.file)?;
        report.left_out = self.file.left_out();
        unread::refuse(&report.unread, &self.reading, self.form.name(), report.rows)?;
        report.unread.extend(self.file.unread());
        Ok(&self.surveyed.insert((report, lengths)).0)
    }

    /// Findings of [`survey`](Self::survey), once it was called.
    pub fn report(&self) -> Option<&Report> {
        self.surveyed.as_ref().map(|(report, _)| report)
    }

    /// Tokens of each row's example, once [`survey`](Self::survey) was called.
    pub fn lengths(&self) -> Option<&[u32]> {
        let surveyed = self.surveyed.as_ref();
        surveyed.map(|(_, lengths)| lengths.as_slice())
    }

    /// The batches of an epoch.
    ///
    /// # Errors
    /// Those of [`Ordering::batches`]: [`survey`](Self::survey) finds the lengths for buckets.
    pub fn batches(&self, ordering: &Ordering, epoch: u64) -> Result<Epoch> {
        ordering.batches(epoch, self.len(), self.lengths())
    }
}
