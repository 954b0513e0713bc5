//! A file of rows, read by number.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::format::Format;
use super::index::{self, Index};
use super::spool::{self, Packing};
use super::values::Parsed;
use crate::error::{Error, Result};
use crate::file::{MARK, kind_of};
use crate::observer::{Observer, Silent, Work};

pub use super::table::Table as JsonLines;

/// An observer hears of the opening of files beyond this many bytes.
const SHOWN: u64 = 1 << 26;

/// Where a parquet file's unpacked row names its columns with numbers that are not finite.
pub(super) const ODD: &str = "\0not finite";

/// Names of such columns.
pub(super) type Odd = Vec<String>;

/// A file's rows. In memory are 8 bytes a row for where it begins; the rows stay in the file, or,
/// of one that is packed (gzip, parquet), in a temporary one that holds it unpacked.
#[derive(Debug)]
pub struct Rows {
    file: File,
    origin: String,
    /// What it was when it was opened; none of a temporary file, which nobody else can change.
    opened: Option<(u64, Option<SystemTime>)>,
    hash: String,
    packing: Packing,
    format: Format,
    index: Index,
}

impl Rows {
    /// Finds the rows, in one pass. Without a format it is what the first bytes say: a JSON array
    /// or JSON lines.
    ///
    /// # Errors
    /// A file that cannot be read, is cut short, is no regular file, or has no rows.
    pub fn open(path: &Path, format: Option<Format>, observer: &dyn Observer) -> Result<Self> {
        let origin = path.display().to_string();
        let fail = |problem: &str, remedy: &str| Err(Error::invalid(&origin, problem, remedy));
        let metadata = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
        if metadata.is_dir() {
            let problem = "it is a directory";
            return fail(problem, "name a file in it, or several: FOLDER/*.jsonl");
        }
        // Before it is opened, as a pipe without a writer would wait for one.
        if !metadata.is_file() {
            let problem = format!(
                "it is {}, and rows are read out of order",
                kind_of(&metadata)
            );
            return fail(&problem, "write it to a file first");
        }
        let file = crate::file::open(path)?;
        let metadata = file.metadata().map_err(Error::io(path, "read"))?;
        let length = metadata.len();
        let observer = if length > SHOWN { observer } else { &Silent };
        let work = observer.begin("indexing", length);
        let head = head(&file).map_err(Error::io(path, "read"))?;
        if let Some([problem, remedy]) = Format::foreign(path, head, format.is_some()) {
            return fail(&problem, &remedy);
        }
        let packing = Packing::of(&head);
        let opened = Some((metadata.len(), metadata.modified().ok()));
        let (file, opened, unpacked) = match packing {
            Packing::None => (file, opened, None),
            Packing::Gzip => {
                let (spool, hash) = spool::gunzip(file, format, &origin, &*work)?;
                (spool, None, Some(hash))
            }
            Packing::Parquet => {
                let (spool, hash) = spool::parquet(file, &origin, &*work)?;
                (spool, None, Some(hash))
            }
        };
        let format = match (packing, format) {
            (Packing::Parquet, Some(Format::Lines | Format::Paragraphs | Format::Document)) => {
                return fail("it is a parquet file, not text", "leave `format` out");
            }
            (Packing::Parquet, _) => Format::Jsonl,
            (_, Some(format)) => format,
            (_, None) => index::looks_like(&file).map_err(Error::io(path, "read"))?,
        };
        let indexing: &dyn Work = match unpacked {
            Some(_) => &Silent,
            None => &*work,
        };
        let index = Index::build(&file, format, &origin, indexing)?;
        drop(work);
        let remedy = match format {
            Format::Jsonl => "give one JSON object a line",
            Format::Json => "give a list of JSON objects",
            _ => "give some text",
        };
        if index.starts.is_empty() {
            return fail("it has no rows", remedy);
        }
        if u32::try_from(index.starts.len()).is_err() {
            return fail("it has more than 2³² rows", "split it");
        }
        Ok(Self {
            file,
            origin,
            opened,
            hash: unpacked.unwrap_or_else(|| index.hash.clone()),
            packing,
            format,
            index,
        })
    }

    /// Rows that were written to a temporary file as JSON lines.
    pub(super) fn spooled(file: File, origin: String) -> Result<Self> {
        let index = Index::build(&file, Format::Jsonl, &origin, &Silent)?;
        Ok(Self {
            file,
            origin,
            opened: None,
            hash: String::new(),
            packing: Packing::None,
            format: Format::Jsonl,
            index,
        })
    }

    /// Number of rows.
    #[allow(clippy::len_without_is_empty)] // There is at least one.
    pub fn len(&self) -> usize {
        self.index.starts.len()
    }

    /// SHA-256 of the file's bytes, as they are on the disk, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The file, as messages call it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The line that the row begins on, from 1; of parquet, its number. Where rows are no lines this
    /// reads the file up to it.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn line(&self, row: usize) -> Result<u64> {
        if self.index.plain {
            Ok(row as u64 + 1)
        } else {
            index::line(&self.file, self.index.starts[row]).map_err(self.failed("read"))
        }
    }

    /// `FILE:LINE`, or what says as much of a file that is not made of lines.
    pub(super) fn place(&self, row: usize) -> Result<String> {
        let line = self.line(row)?;
        Ok(match (self.packing, self.format) {
            (Packing::Parquet, _) => format!("{}: row {line}", self.origin),
            (_, Format::Json) => format!("{}:{line}: element {}", self.origin, row + 1),
            _ => format!("{}:{line}", self.origin),
        })
    }

    /// The row's columns; of plain text one, `text`.
    ///
    /// # Errors
    /// What is wrong with the row (broken UTF-8, no JSON, no object); or a file that can no longer
    /// be read, or was changed since it was opened.
    pub fn row(&self, row: usize) -> Result<Parsed<Map<String, Value>>> {
        Ok(self.row_and_odd(row)?.map(|(columns, _)| columns))
    }

    /// The row's columns, and the names of those that are null, or hold a null, for a number that is not
    /// finite.
    pub(super) fn row_and_odd(&self, row: usize) -> Result<Parsed<(Map<String, Value>, Odd)>> {
        self.unchanged()?;
        let range = self.index.range(row);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        read_at(&self.file, &mut bytes, range.start).map_err(self.failed("read"))?;
        let bytes = match bytes.strip_prefix(MARK) {
            Some(rest) if range.start == 0 => rest,
            _ => &bytes[..],
        };
        Ok(self.format.columns(bytes).map(|mut columns| {
            let odd = match self.packing {
                Packing::Parquet => columns.remove(ODD),
                _ => None,
            };
            let names = odd.iter().filter_map(Value::as_array).flatten();
            let names = names.filter_map(Value::as_str).map(Into::into).collect();
            (columns, names)
        }))
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        Error::io(&self.origin, action)
    }

    fn unchanged(&self) -> Result<()> {
        let Some(opened) = self.opened else {
            return Ok(());
        };
        let now = self.file.metadata().map_err(self.failed("read"))?;
        if (now.len(), now.modified().ok()) == opened {
            return Ok(());
        }
        Err(Error::invalid(
            &self.origin,
            "it was changed since it was opened",
            "leave it alone while it is in use",
        ))
    }
}

/// The first bytes.
fn head(file: &File) -> std::io::Result<[u8; 4]> {
    let mut head = [0; 4];
    match read_at(file, &mut head, 0) {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(head),
    }
}

#[cfg(unix)]
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
        }
    }
    Ok(())
}
