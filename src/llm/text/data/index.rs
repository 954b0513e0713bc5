//! Index of a file's rows: the byte at which each begins.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Seek};
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::file::read_at;
use super::format::Format;
use crate::error::{Error, Result};
use crate::file::MARK;
use crate::llm::files::hash::hex;
use crate::observer::Work;

mod array;
mod text;

/// Most bytes of a row. A document is one row, and is mostly cut into others; any other is held in memory
/// several times while it is read.
pub(super) fn longest(format: Format) -> u64 {
    match format {
        Format::Document => 1 << 30,
        _ => 1 << 26,
    }
}

/// What is wrong with a longer one, and what would be right.
pub(super) fn too_long(format: Format) -> [&'static str; 2] {
    match format {
        Format::Document => ["it is longer than 1 GiB", "split it"],
        Format::Jsonl | Format::Json => [
            "it is longer than 64 MiB, the most that a row may have",
            "leave it out, or split it; give one JSON object a line",
        ],
        Format::Lines | Format::Paragraphs => [
            "it is longer than 64 MiB, the most that a row may have",
            "leave it out, or split it; of one long text, say format: document",
        ],
    }
}

/// Where rows begin, found in one pass.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub starts: Vec<u64>,
    /// End of the last row.
    pub end: u64,
    /// SHA-256 of all bytes.
    pub hash: String,
    /// True if row i is simply line i + 1.
    pub plain: bool,
}

/// Finds rows, fed with the file piece by piece.
pub(super) trait Scan {
    /// How many rows have begun.
    fn rows(&self) -> usize;

    /// A piece, at that offset.
    fn piece(&mut self, bytes: &[u8], offset: u64) -> Scanned;

    /// The end of the file.
    fn finish(self: Box<Self>, end: u64) -> std::result::Result<Index, Wrong>;

    /// Where the last row begins.
    fn last(&self) -> u64;
}

type Scanned = std::result::Result<(), Wrong>;

/// What is wrong with a file, and at which byte.
pub(super) struct Wrong {
    offset: u64,
    problem: String,
    remedy: &'static str,
}

impl Index {
    /// Finds the rows of a file in that format, and the hash of all bytes.
    pub fn build(file: &File, format: Format, origin: &str, work: &dyn Work) -> Result<Self> {
        let mut scan = scan(format);
        let failed = || Error::io(origin, "read");
        let wrong = |Wrong {
                         offset,
                         problem,
                         remedy,
                     }: Wrong| match line(file, offset) {
            Ok(line) => Error::invalid(format!("{origin}:{line}"), problem, remedy),
            Err(error) => failed()(error),
        };
        let mut hash = Sha256::new();
        let mut from = file;
        from.rewind().map_err(failed())?;
        let mut reader = BufReader::with_capacity(1 << 20, from);
        let mut offset = 0;
        loop {
            let bytes = match reader.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                bytes => bytes.map_err(failed())?,
            };
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            let skip = if bytes.starts_with(MARK) && offset == 0 {
                MARK.len()
            } else {
                0
            };
            scan.piece(&bytes[skip..], skip as u64 + offset)
                .map_err(wrong)?;
            let read = bytes.len();
            offset += read as u64;
            reader.consume(read);
            work.advance(read as u64);
            if offset.saturating_sub(scan.last()) > longest(format) {
                let [problem, remedy] = too_long(format);
                return Err(wrong(Wrong {
                    offset: scan.last(),
                    problem: problem.into(),
                    remedy,
                }));
            }
        }
        let mut index = scan.finish(offset).map_err(wrong)?;
        index.hash = hex(hash);
        Ok(index)
    }

    /// The bytes of a row, and what lies between it and the next.
    pub fn range(&self, row: usize) -> Range<u64> {
        self.starts[row]..self.starts.get(row + 1).copied().unwrap_or(self.end)
    }
}

/// What finds the rows of a file in that format.
pub(super) fn scan(format: Format) -> Box<dyn Scan> {
    match format {
        Format::Json => Box::new(array::Array::default()),
        Format::Jsonl | Format::Lines => Box::new(text::Lines::new()),
        Format::Paragraphs => Box::new(text::Paragraphs::default()),
        Format::Document => Box::new(text::Document::default()),
    }
}

/// The line that a byte is on, from 1.
pub(super) fn line(file: &File, offset: u64) -> std::io::Result<u64> {
    let (mut line, mut at) = (1, 0);
    let mut buffer = vec![0; 1 << 20];
    while at < offset {
        let part = (offset - at).min(buffer.len() as u64);
        let part = &mut buffer[..part as usize];
        read_at(file, part, at)?;
        line += part.iter().filter(|&&b| b == b'\n').count() as u64;
        at += part.len() as u64;
    }
    Ok(line)
}

/// What the first byte of a text says that is no space, if there is one.
pub(super) fn of_text(text: &[u8]) -> Option<Format> {
    match text.trim_ascii_start().first()? {
        b'[' => Some(Format::Json),
        _ => Some(Format::Jsonl),
    }
}

/// A JSON array if its first byte that is no space says so, else JSON lines.
pub(super) fn looks_like(mut file: &File) -> std::io::Result<Format> {
    file.rewind()?;
    let mut reader = BufReader::new(file);
    let mut first = true;
    loop {
        let bytes = reader.fill_buf()?;
        let text = match bytes.strip_prefix(MARK) {
            Some(rest) if first => rest,
            _ => bytes,
        };
        first = false;
        match of_text(text) {
            Some(format) => return Ok(format),
            None if bytes.is_empty() => return Ok(Format::Jsonl),
            None => {}
        }
        let read = bytes.len();
        reader.consume(read);
    }
}
