//! Rows of all files, as they are or as a mapping makes them.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::columns;
use super::file::Rows;
use super::mapping::{Mapping, Place};
use super::paths;
use super::reading::Reading;
use super::spool::Spool;
use super::unread::{self, Unread};
use super::values::Fault;
use crate::error::{Error, Result};
use crate::llm::files::hash::hex;
use crate::observer::{Observer, Silent};

/// Rows that are mapped at once.
const CHUNK: usize = 1024;

/// Rows by number, of one file or several.
#[derive(Debug)]
pub struct Table {
    origin: String,
    files: Vec<Rows>,
    /// How many rows the files before each have.
    before: Vec<usize>,
    count: usize,
    hash: String,
    mapped: Option<Mapped>,
}

/// What a row of the files becomes, how many of that are left out, and the columns that nothing reads.
struct Made {
    rows: Vec<Map<String, Value>>,
    left_out: u64,
    unread: BTreeSet<String>,
}

/// Rows that a mapping made, in a temporary file.
#[derive(Debug)]
struct Mapped {
    rows: Rows,
    /// The files' row that each was made of.
    from: Vec<u32>,
    left_out: u64,
    /// What no expression reads.
    unread: Unread,
}

impl Table {
    /// The rows of a file, or of several by a pattern such as `FOLDER/*.jsonl`, as they are.
    ///
    /// # Errors
    /// A file that cannot be read, is cut short, is no regular file, or has no rows.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path, &Reading::default(), &Silent)
    }

    /// The rows of a file, or of several, as `reading` says. What it maps is mapped now, in one
    /// pass, and kept in a temporary file.
    ///
    /// # Errors
    /// As [`open`](Self::open); an expression that cannot be parsed; a row for which one cannot be
    /// evaluated.
    pub fn read(path: &Path, reading: &Reading, observer: &dyn Observer) -> Result<Self> {
        let mapping = if reading.maps() {
            Some(Mapping::new(reading)?)
        } else {
            None
        };
        let files: Vec<Rows> = (paths::files(path)?.iter())
            .map(|file| Rows::open(file, reading.format, observer))
            .collect::<Result<_>>()?;
        let mut before = Vec::with_capacity(files.len());
        let mut count = 0;
        for file in &files {
            before.push(count);
            count += file.len();
        }
        let hash = hash(&files, reading)?;
        let mut table = Self {
            origin: path.display().to_string(),
            files,
            before,
            count,
            hash,
            mapped: None,
        };
        table.small()?;
        if let Some(mapping) = mapping {
            table.mapped = Some(table.map(&mapping, observer)?);
            table.small()?;
        }
        Ok(table)
    }

    fn small(&self) -> Result<()> {
        match u32::try_from(self.len()) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::invalid(
                &self.origin,
                "it has more than 2³² rows",
                "split it",
            )),
        }
    }

    /// Makes all rows anew.
    fn map(&self, mapping: &Mapping, observer: &dyn Observer) -> Result<Mapped> {
        let work = observer.begin("mapping", self.count as u64);
        let mut spool = Spool::new()?;
        let (mut from, mut left_out, mut unread) = (Vec::new(), 0, Unread::new());
        for start in (0..self.count).step_by(CHUNK) {
            let records = start..self.count.min(start + CHUNK);
            let each: Vec<_> = records
                .into_par_iter()
                .map(|record| self.mapped_record(mapping, record))
                .collect();
            for (record, made) in (start..).zip(each) {
                let Made {
                    rows,
                    left_out: out,
                    unread: idle,
                } = made?;
                left_out += out;
                unread::add(&mut unread, idle);
                for row in rows {
                    let failed = |e: serde_json::Error| Error::io("row", "write")(e.into());
                    let mut line = serde_json::to_vec(&row).map_err(failed)?;
                    line.push(b'\n');
                    spool.put(&line)?;
                    from.push(record as u32);
                }
                work.advance(1);
            }
        }
        drop(work);
        if from.is_empty() {
            return Err(Error::invalid(
                &self.origin,
                format!("no row is left: {left_out} were left out by `where`"),
                "check `rows` and `where`",
            ));
        }
        Ok(Mapped {
            rows: Rows::spooled(spool.finish()?, self.origin.clone())?,
            from,
            left_out,
            unread,
        })
    }

    /// What a row of the files becomes.
    fn mapped_record(&self, mapping: &Mapping, record: usize) -> Result<Made> {
        let (file, row) = self.at(record);
        let columns = file.row_and_odd(row)?;
        let place = Place {
            file: Path::new(file.origin()),
            number: row as u64 + 1,
        };
        let made = columns.and_then(|(columns, odd)| {
            mapping.is_finite(&odd)?;
            let unread = mapping.unread(&columns);
            let (rows, left_out) = mapping.apply(columns, place)?;
            Ok(Made {
                rows,
                left_out,
                unread,
            })
        });
        made.map_err(|Fault { problem, remedy }| self.fault_at(record, problem, remedy))
    }

    /// The file that has a row of all files, and its number there.
    fn at(&self, record: usize) -> (&Rows, usize) {
        let file = self.before.partition_point(|&before| before <= record) - 1;
        (&self.files[file], record - self.before[file])
    }

    /// The row of the files that a row was made of.
    fn record(&self, row: usize) -> usize {
        match &self.mapped {
            Some(mapped) => mapped.from[row] as usize,
            None => row,
        }
    }

    /// The row's columns, and of the file's row that it was made of those that mean nothing to a
    /// trainer: what a right answer is, a category.
    ///
    /// # Errors
    /// As [`row`](Self::row).
    pub fn whole(&self, row: usize) -> Result<Map<String, Value>> {
        let mut columns = self.row(row)?;
        if self.mapped.is_some() {
            let (file, at) = self.at(self.record(row));
            let fault = |Fault { problem, remedy }| self.fault(row, problem, remedy);
            for (name, value) in file.row(at)?.map_err(fault)? {
                // A mapping alone says which of those a row has.
                if columns::known().all(|known| known != name) {
                    columns.entry(name).or_insert(value);
                }
            }
        }
        Ok(columns)
    }

    /// Number of rows.
    #[allow(clippy::len_without_is_empty)] // There is at least one.
    pub fn len(&self) -> usize {
        match &self.mapped {
            Some(mapped) => mapped.from.len(),
            None => self.count,
        }
    }

    /// Number of rows in the files.
    pub fn records(&self) -> usize {
        self.count
    }

    /// Number of rows that `where` left out.
    pub fn left_out(&self) -> u64 {
        self.mapped.as_ref().map_or(0, |mapped| mapped.left_out)
    }

    /// The columns that no expression of a mapping reads; without one, none.
    pub fn unread(&self) -> Unread {
        (self.mapped.as_ref()).map_or_else(Unread::new, |mapped| mapped.unread.clone())
    }

    /// SHA-256 of the file's bytes, in hexadecimal; with a mapping, or of several files, of all that
    /// the rows are made of.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The file, as messages call it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The line that the row, or what it was made of, begins on in its file.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn line(&self, row: usize) -> Result<u64> {
        let (file, row) = self.at(self.record(row));
        file.line(row)
    }

    /// `FILE:LINE` of a row, or of what it was made of.
    ///
    /// # Errors
    /// As [`line`](Self::line).
    pub fn place(&self, row: usize) -> Result<String> {
        let (file, row) = self.at(self.record(row));
        file.place(row)
    }

    /// An error at that row: `FILE:LINE: problem; remedy`.
    pub fn fault(
        &self,
        row: usize,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        self.fault_at(self.record(row), problem, remedy)
    }

    fn fault_at(
        &self,
        record: usize,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        let (file, row) = self.at(record);
        match file.place(row) {
            Ok(place) => Error::invalid(place, problem, remedy),
            Err(error) => error,
        }
    }

    /// The row's columns.
    ///
    /// # Errors
    /// Broken UTF-8, no JSON, no object, or a file that was changed since it was opened.
    pub fn row(&self, row: usize) -> Result<Map<String, Value>> {
        let (file, at) = match &self.mapped {
            Some(mapped) => (&mapped.rows, row),
            None => self.at(row),
        };
        (file.row(at)?).map_err(|Fault { problem, remedy }| self.fault(row, problem, remedy))
    }
}

/// The file's own hash, or that of everything rows are made of.
fn hash(files: &[Rows], reading: &Reading) -> Result<String> {
    if let ([file], false) = (files, reading.maps() || reading.implicit_prompt.is_some()) {
        return Ok(file.hash().into());
    }
    let mut hash = Sha256::new();
    for file in files {
        // The name can be a column.
        let name = Path::new(file.origin()).file_name().unwrap_or_default();
        hash.update(format!("{} {}\n", file.hash(), name.to_string_lossy()));
    }
    hash.update(reading.fingerprint()?);
    Ok(hex(hash))
}
