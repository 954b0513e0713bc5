//! Findings of a survey of the data.

use std::collections::BTreeSet;
use std::fmt;

use super::table::Table;
use super::tokenise::Notes;
use super::unread::{self, Unread};
use crate::error::Result;
use crate::llm::text::example::Example;

/// Rows that are named in warnings.
const NAMED: usize = 5;

/// Counts over all rows.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Report {
    /// Rows.
    pub rows: u64,
    /// Their responses.
    pub responses: u64,
    /// Tokens of prompts, once for each response.
    pub prompt_tokens: u64,
    /// Tokens of completions.
    pub completion_tokens: u64,
    /// Tokens of the longest response with its prompt.
    pub longest: u64,
    /// Rows whose prompt was cut.
    pub prompts_cut: u64,
    /// Completions that were cut.
    pub completions_cut: u64,
    /// Completions tokenised apart from their prompt, as its tokens would have changed.
    pub apart: u64,
    /// Lines of the first such rows.
    pub apart_lines: Vec<u64>,
    /// Rows that `where` left out.
    pub left_out: u64,
    /// Columns, and fields of messages, that rows have and nothing reads.
    #[serde(skip_serializing_if = "Unread::is_empty")]
    pub unread: Unread,
}

impl Report {
    pub(super) fn add(&mut self, example: &Example, notes: Notes, unread: BTreeSet<String>) {
        unread::add(&mut self.unread, unread);
        self.rows += 1;
        self.responses += example.responses.len() as u64;
        for response in &example.responses {
            let sequence = &response.sequence;
            self.prompt_tokens += sequence.prompt().len() as u64;
            self.completion_tokens += sequence.completion().len() as u64;
            self.longest = self.longest.max(sequence.tokens().len() as u64);
        }
        self.prompts_cut += u64::from(notes.prompt_cut);
        self.completions_cut += notes.completions_cut as u64;
        self.apart += notes.apart as u64;
        if notes.apart > 0 && self.apart_lines.len() < NAMED {
            self.apart_lines.push(example.row);
        }
    }

    /// Makes line numbers of the noted rows.
    pub(super) fn locate(&mut self, file: &Table) -> Result<()> {
        for row in &mut self.apart_lines {
            *row = file.line(*row as usize)?;
        }
        Ok(())
    }

    /// Mean number of tokens of a response's prompt.
    pub fn mean_prompt(&self) -> f64 {
        self.prompt_tokens as f64 / self.responses as f64
    }

    /// Mean number of tokens of a completion.
    pub fn mean_completion(&self) -> f64 {
        self.completion_tokens as f64 / self.responses as f64
    }

    /// A line for each thing that was done to rows.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = unread::line(&self.unread).into_iter().collect();
        if self.left_out > 0 {
            notes.push(format!("{} rows were left out by `where`", self.left_out));
        }
        if self.prompts_cut > 0 {
            notes.push(format!("{} prompts lost their beginning", self.prompts_cut));
        }
        if self.completions_cut > 0 {
            let cut = self.completions_cut;
            notes.push(format!("{cut} completions lost their end, and EOS"));
        }
        if self.apart > 0 {
            let lines: Vec<String> = self.apart_lines.iter().map(u64::to_string).collect();
            notes.push(format!(
                "warning: in {} completions a token spans the end of the prompt; they were \
                 tokenised apart (first on lines {})",
                self.apart,
                lines.join(", ")
            ));
        }
        notes
    }
}

/// A line of counts, and the [notes](Report::notes).
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{} rows, {} responses; tokens: prompt {:.1}, completion {:.1} on average, {} at most",
            self.rows,
            self.responses,
            self.mean_prompt(),
            self.mean_completion(),
            self.longest
        )?;
        self.notes()
            .iter()
            .try_for_each(|note| write!(f, "\n{note}"))
    }
}
