//! Survey of a file of data: what training would make of it, before it does.

mod counts;
mod look;

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use super::columns::{Form, TextRow};
use super::dialogue::Dialogue;
use super::reading::Reading;
use super::table::Table;
use super::tokenise::{Notes, RowRules, Tokeniser};
use super::unread::{self, Unread};
use super::values::{Fault, Parsed};
use crate::error::Result;
use crate::llm::text::example::Example;
use crate::llm::text::tokenizer::Tokenizer;
use crate::loss::InputKind;
use crate::observer::Observer;

pub use counts::{Balance, Duplicates, Quantiles, Seen};
pub use look::Look;

/// Rows that are read at once.
const CHUNK: usize = 1024;

/// Rows that are named for each thing that is found.
const NAMED: usize = 5;

/// Findings on a file.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The file, or the pattern of several.
    pub data: String,
    /// Rows in the file, before any mapping.
    pub records: usize,
    /// Rows after it.
    pub rows: usize,
    /// Rows that `where` left out.
    pub left_out: u64,
    /// Examples that objectives of each kind would see.
    pub kinds: Vec<Seen>,
    /// The kind that all below is about: that of the objective asked for, else the first of those
    /// that take most rows.
    pub kind: &'static str,
    /// Number of its rows that training would refuse.
    pub refused: u64,
    /// The first of them.
    pub refusals: Vec<String>,
    /// Responses of the rows that it would take.
    pub responses: u64,
    /// Tokens of prompts, uncut, one number a row.
    pub prompt_tokens: Quantiles,
    /// Tokens of completions, uncut, EOS included.
    pub completion_tokens: Quantiles,
    /// Tokens of both, uncut.
    pub tokens: Quantiles,
    /// Most tokens that the model, or `max_length`, allows.
    pub longest_allowed: usize,
    /// Rows whose prompt loses its beginning.
    pub prompts_cut: u64,
    /// Completions that lose their end, and EOS.
    pub completions_cut: u64,
    /// Tokens of completions that are lost so.
    pub tokens_cut: u64,
    /// Completions in which a token spans the end of the prompt.
    pub apart: u64,
    /// The first such rows.
    pub apart_rows: Vec<String>,
    /// Completions that begin with their whole prompt, which would then be trained on.
    pub repeats_prompt: u64,
    /// The first such rows.
    pub repeats_prompt_rows: Vec<String>,
    /// Rows of which two responses are the same.
    pub same_responses: u64,
    /// The first such rows.
    pub same_response_rows: Vec<String>,
    /// Rows that the file has twice, and prompts.
    pub duplicates: Duplicates,
    /// Labels or rewards.
    pub balance: Option<Balance>,
    /// Columns, and fields of messages, that training would not read, and in how many rows each is.
    pub unread: Unread,
    /// True if a chat template made rows of conversations.
    pub rendered: u64,
    /// One row as the model gets it.
    pub look: Option<Look>,
}

impl Check {
    /// True if training would refuse the file.
    pub fn refuses(&self) -> bool {
        self.refused > 0
    }
}

/// A row read as one kind: as it would be, and uncut.
struct Made {
    text: TextRow,
    full: Example,
    notes: Notes,
    cut: Parsed<Example>,
    unread: BTreeSet<String>,
}

/// A file opened to be surveyed.
pub struct Checker {
    table: Table,
    dialogue: Dialogue,
    tokenizer: Arc<Tokenizer>,
    reading: Reading,
    /// As training has it, and without limits.
    tokeniser: Tokeniser,
    unlimited: Tokeniser,
    longest: usize,
}

impl Checker {
    /// Opens files as training would.
    ///
    /// # Errors
    /// Those of [`Source::read`](super::source::Source::read).
    pub fn open(
        path: &Path,
        reading: &Reading,
        tokenizer: Arc<Tokenizer>,
        context: usize,
        settings: RowRules,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let longest = settings.max_length.unwrap_or(context);
        let tokeniser = Tokeniser::new(tokenizer.clone(), context, settings)?;
        let free = RowRules {
            allow_empty: true,
            ..RowRules::default()
        };
        Ok(Self {
            unlimited: Tokeniser::new(tokenizer.clone(), usize::MAX, free)?,
            tokeniser,
            dialogue: Dialogue::new(tokenizer.clone(), reading)?,
            table: Table::read(path, reading, observer)?,
            reading: reading.clone(),
            tokenizer,
            longest,
        })
    }

    /// Reads every row as every kind of objective would, and looks closer at one kind: `form`, or
    /// what takes most rows, or whose columns are there if none does. `show` is the row to show, from 0.
    ///
    /// # Errors
    /// A file that can no longer be read. What is wrong with rows is no error but found.
    pub fn check(&self, form: Option<Form>, show: usize, observer: &dyn Observer) -> Result<Check> {
        let kinds = self.kinds(observer)?;
        let named = form.is_some();
        let form = form.unwrap_or_else(|| {
            let most = kinds.iter().map(|seen| seen.rows).max().unwrap_or_default();
            if most == 0 {
                // No row is taken: what is wrong is told of the kind whose columns are there.
                let columns = self.columns(0).unwrap_or_default();
                let possible = Form::possible(&columns).into_iter().next();
                return possible.unwrap_or(Form::Demonstration);
            }
            let first = (Form::ALL.iter().zip(&kinds)).find(|(_, seen)| seen.rows == most);
            first.map_or(Form::Demonstration, |(form, _)| *form)
        });
        let mut found = self.closer(form, observer)?;
        found.kinds = kinds;
        let taken = found.rows as u64 - found.refused;
        if let (true, true, Err(error)) = (
            named,
            taken > 0,
            unread::refuse(&found.unread, &self.reading, form.name(), taken),
        ) {
            found.refused = found.rows as u64;
            found.refusals.insert(0, error.to_string());
        }
        if show < self.table.len() {
            found.look = self.look(form, show)?;
        }
        Ok(found)
    }

    /// Reads a row as training would.
    fn taken(&self, form: Form, row: usize) -> Parsed<()> {
        let columns = self.columns(row)?;
        let text = form.read(&columns, &self.dialogue)?;
        self.tokeniser.example(row as u64, &text).map(|_| ())
    }

    fn columns(&self, row: usize) -> Parsed<serde_json::Map<String, serde_json::Value>> {
        self.table.row(row).map_err(super::dialogue::as_fault)
    }

    /// How many rows each kind takes, and what is wrong with the first that it does not.
    fn kinds(&self, observer: &dyn Observer) -> Result<Vec<Seen>> {
        let work = observer.begin("reading", (Form::ALL.len() * self.table.len()) as u64);
        let mut kinds = Vec::new();
        for form in Form::ALL {
            let mut seen = Seen::new(form);
            for start in (0..self.table.len()).step_by(CHUNK) {
                let rows = start..self.table.len().min(start + CHUNK);
                let each: Vec<_> = rows
                    .into_par_iter()
                    .map(|row| self.taken(form, row))
                    .collect();
                for (row, taken) in (start..).zip(each) {
                    match taken {
                        Ok(()) => seen.rows += 1,
                        Err(fault) if seen.first_refusal.is_none() => {
                            seen.first_refusal = Some(self.refusal(row, &fault)?);
                        }
                        Err(_) => {}
                    }
                    work.advance(1);
                }
            }
            kinds.push(seen);
        }
        drop(work);
        Ok(kinds)
    }

    fn refusal(&self, row: usize, fault: &Fault) -> Result<String> {
        let place = self.table.place(row)?;
        Ok(match fault.problem.strip_prefix(&format!("{place}: ")) {
            Some(problem) => format!("{place}: {problem}; {}", fault.remedy),
            None => format!("{place}: {}; {}", fault.problem, fault.remedy),
        })
    }

    fn made(&self, form: Form, row: usize) -> Parsed<Made> {
        let columns = self.columns(row)?;
        let text = form.read(&columns, &self.dialogue)?;
        let cut = self.tokeniser.example(row as u64, &text);
        let notes = cut.as_ref().map(|(_, notes)| *notes).unwrap_or_default();
        let full = match (self.unlimited.example(row as u64, &text), &cut) {
            (Ok((full, _)), _) => full,
            // Of what is too long to be tokenised whole, what is left.
            (Err(_), Ok((cut, _))) => cut.clone(),
            (Err(_), Err(fault)) => return Err(fault.clone()),
        };
        Ok(Made {
            unread: form.unread(&columns, &text, &self.dialogue),
            text,
            full,
            notes,
            cut: cut.map(|(example, _)| example),
        })
    }

    fn closer(&self, form: Form, observer: &dyn Observer) -> Result<Check> {
        let mut found = Check {
            data: self.table.origin().into(),
            records: self.table.records(),
            rows: self.table.len(),
            left_out: self.table.left_out(),
            kinds: Vec::new(),
            kind: form.name(),
            refused: 0,
            refusals: Vec::new(),
            responses: 0,
            prompt_tokens: Quantiles::default(),
            completion_tokens: Quantiles::default(),
            tokens: Quantiles::default(),
            longest_allowed: self.longest,
            prompts_cut: 0,
            completions_cut: 0,
            tokens_cut: 0,
            apart: 0,
            apart_rows: Vec::new(),
            repeats_prompt: 0,
            repeats_prompt_rows: Vec::new(),
            same_responses: 0,
            same_response_rows: Vec::new(),
            duplicates: Duplicates::default(),
            balance: None,
            unread: self.table.unread(),
            rendered: 0,
            look: None,
        };
        let mut lengths: [Vec<u32>; 3] = Default::default();
        let mut rewards = Vec::new();
        let (mut rows, mut prompts) = (HashMap::new(), HashMap::new());
        let work = observer.begin("looking closer", self.table.len() as u64);
        for start in (0..self.table.len()).step_by(CHUNK) {
            let chunk = start..self.table.len().min(start + CHUNK);
            let each: Vec<_> = chunk
                .into_par_iter()
                .map(|row| self.made(form, row))
                .collect();
            for (row, made) in (start..).zip(each) {
                work.advance(1);
                let refused = match &made {
                    Err(fault) => Some(fault),
                    Ok(made) => made.cut.as_ref().err(),
                };
                if let Some(fault) = refused {
                    found.refused += 1;
                    if found.refusals.len() < NAMED {
                        found.refusals.push(self.refusal(row, fault)?);
                    }
                }
                let Ok(made) = made else { continue };
                self.measure(&made, &mut found, &mut lengths, &mut rewards);
                unread::add(&mut found.unread, made.unread);
                let name = |count: &mut u64, rows: &mut Vec<String>| -> Result<()> {
                    *count += 1;
                    if rows.len() < NAMED {
                        rows.push(self.table.place(row)?);
                    }
                    Ok(())
                };
                if made.notes.apart > 0 {
                    found.apart += made.notes.apart as u64 - 1;
                    name(&mut found.apart, &mut found.apart_rows)?;
                }
                if repeats(&made.text) {
                    name(&mut found.repeats_prompt, &mut found.repeats_prompt_rows)?;
                }
                if twice(&made.text) {
                    name(&mut found.same_responses, &mut found.same_response_rows)?;
                }
                let prompt = hashed(&made.text.prompt);
                let texts: Vec<&str> = made.text.completions.iter().map(|c| &*c.text).collect();
                *prompts.entry(prompt).or_insert(0_u64) += 1;
                match rows.entry(hashed(&(prompt, texts))) {
                    std::collections::hash_map::Entry::Vacant(entry) => {
                        entry.insert(row);
                    }
                    std::collections::hash_map::Entry::Occupied(entry) => {
                        found.duplicates.rows += 1;
                        if found.duplicates.first.len() < NAMED {
                            let pair = [self.table.place(*entry.get())?, self.table.place(row)?];
                            found.duplicates.first.push(pair);
                        }
                    }
                }
            }
        }
        drop(work);
        found.duplicates.count(prompts.into_values());
        found.balance = Balance::of(form, &rewards);
        let [prompt, completion, both] = lengths.map(Quantiles::of);
        (found.prompt_tokens, found.completion_tokens, found.tokens) = (prompt, completion, both);
        Ok(found)
    }

    fn measure(
        &self,
        made: &Made,
        found: &mut Check,
        lengths: &mut [Vec<u32>; 3],
        rewards: &mut Vec<f64>,
    ) {
        found.rendered += u64::from(made.text.rendered);
        found.prompts_cut += u64::from(made.notes.prompt_cut);
        found.completions_cut += made.notes.completions_cut as u64;
        let prompts = made
            .full
            .responses
            .iter()
            .map(|r| r.sequence.prompt().len() as u32);
        lengths[0].extend(prompts.max());
        for (index, response) in made.full.responses.iter().enumerate() {
            found.responses += 1;
            let sequence = &response.sequence;
            lengths[1].push(sequence.completion().len() as u32);
            lengths[2].push(sequence.tokens().len() as u32);
            rewards.push(response.reward);
            if let Ok(cut) = &made.cut {
                let kept = cut.responses[index].sequence.completion().len();
                found.tokens_cut += (sequence.completion().len() - kept) as u64;
            }
        }
    }

    fn look(&self, form: Form, row: usize) -> Result<Option<Look>> {
        let Ok(made) = self.made(form, row) else {
            return Ok(None);
        };
        let example = made.cut.unwrap_or(made.full);
        let numbered = form.has_rewards() || form == Form::Kind(InputKind::Lists);
        let place = self.table.place(row)?;
        Look::of(place, numbered, &made.text, &example, &self.tokenizer).map(Some)
    }
}

/// Whether a completion begins with its whole prompt. Of a short one that says nothing.
fn repeats(text: &TextRow) -> bool {
    let Some(prompt) = text.prompt.as_deref().map(str::trim) else {
        return false;
    };
    let begins = |completion: &str| completion.trim_start().starts_with(prompt);
    prompt.chars().count() > 20 && text.completions.iter().any(|c| begins(&c.text))
}

fn twice(text: &TextRow) -> bool {
    let mut texts: Vec<&str> = text.completions.iter().map(|c| &*c.text).collect();
    texts.sort_unstable();
    texts.windows(2).any(|pair| pair[0] == pair[1])
}

/// 64 bits, the same in every run.
fn hashed(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Form {
    /// Whether its responses have numbers of their own, and not only an order.
    fn has_rewards(self) -> bool {
        use InputKind::{Groups, Rated, ScoredPairs, Singles};
        matches!(self, Self::Kind(Groups | Rated | ScoredPairs | Singles))
    }
}
