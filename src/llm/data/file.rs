//! A file of JSON lines, read by row.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Longest line, in bytes.
const LONGEST: u64 = 1 << 30;

/// What some editors put before a file in UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Files beyond this many bytes are opened under a progress bar.
const SHOWN: u64 = 1 << 26;

/// A file of JSON lines: one object a line, blank lines allowed. In memory are 8 bytes a row; the
/// rows stay in the file.
#[derive(Debug)]
pub struct JsonLines {
    file: File,
    origin: String,
    /// Where each row's line begins.
    starts: Vec<u64>,
    end: u64,
    changed: Option<SystemTime>,
    hash: String,
    /// Whether row i is not simply line i + 1.
    blanks: bool,
}

impl JsonLines {
    /// Finds the rows, in one pass.
    ///
    /// # Errors
    /// A file that cannot be read, is compressed, is no regular file, or has no rows.
    pub fn open(path: &Path) -> Result<Self> {
        let origin = path.display().to_string();
        let fail = |problem: &str, remedy: &str| Err(Error::invalid(&origin, problem, remedy));
        let file = File::open(path).map_err(Error::io(path, "read"))?;
        let metadata = file.metadata().map_err(Error::io(path, "read"))?;
        if metadata.is_dir() {
            return fail("it is a directory", "name a file in it");
        }
        if !metadata.is_file() {
            let problem = "it is no regular file, and rows are read out of order";
            return fail(problem, "write it to a file first");
        }
        let mut lines = Self {
            file,
            origin: origin.clone(),
            starts: Vec::new(),
            end: 0,
            changed: metadata.modified().ok(),
            hash: String::new(),
            blanks: false,
        };
        match lines.head().map_err(Error::io(path, "read"))? {
            [0x1f, 0x8b, ..] => return fail("it is compressed", "decompress it: gunzip -k FILE"),
            [b'P', b'A', b'R', b'1'] => {
                return fail("it is a parquet file", "rewrite it as JSON lines");
            }
            _ => {}
        }
        let bar = match metadata.len() {
            length if length > SHOWN => progress_bar("indexing", length),
            _ => ProgressBar::hidden(),
        };
        lines.index(&bar)?;
        bar.finish_and_clear();
        if lines.starts.is_empty() {
            return fail("it has no rows", "give one JSON object a line");
        }
        if u32::try_from(lines.starts.len()).is_err() {
            return fail("it has more than 2³² rows", "split it");
        }
        Ok(lines)
    }

    fn head(&self) -> std::io::Result<[u8; 4]> {
        let mut head = [0; 4];
        match read_at(&self.file, &mut head, 0) {
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(head),
        }
    }

    /// Finds where rows begin, and the hash of all bytes.
    fn index(&mut self, bar: &ProgressBar) -> Result<()> {
        let mut hash = Sha256::new();
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        let (mut offset, mut start, mut blank, mut line) = (0, 0, true, 1);
        loop {
            let bytes = match reader.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                bytes => bytes.map_err(Error::io(&self.origin, "read"))?,
            };
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            for piece in bytes.split_inclusive(|&b| b == b'\n') {
                let content = match piece.strip_prefix(MARK) {
                    Some(rest) if offset == 0 => rest,
                    _ => piece,
                };
                if blank && !content.trim_ascii().is_empty() {
                    blank = false;
                    self.starts.push(start);
                    self.blanks |= self.starts.len() != line;
                }
                offset += piece.len() as u64;
                if piece.ends_with(b"\n") {
                    (start, blank) = (offset, true);
                    line += 1;
                } else if offset - start > LONGEST {
                    return Err(Error::invalid(
                        format!("{}:{line}", self.origin),
                        "the line is longer than 1 GiB",
                        "give one JSON object a line",
                    ));
                }
            }
            let read = bytes.len();
            reader.consume(read);
            bar.inc(read as u64);
        }
        self.end = offset;
        self.hash = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(())
    }

    /// Number of rows.
    #[allow(clippy::len_without_is_empty)] // There is at least one.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// SHA-256 of the file's bytes, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The file, as messages call it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The row's line number, from 1. Where there are blank lines this reads the file up to it.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn line(&self, row: usize) -> Result<u64> {
        if !self.blanks {
            return Ok(row as u64 + 1);
        }
        let (mut line, mut offset) = (1, 0);
        let mut buffer = vec![0; 1 << 20];
        while offset < self.starts[row] {
            let part = (self.starts[row] - offset).min(buffer.len() as u64);
            let part = &mut buffer[..part as usize];
            read_at(&self.file, part, offset).map_err(Error::io(&self.origin, "read"))?;
            line += part.iter().filter(|&&b| b == b'\n').count() as u64;
            offset += part.len() as u64;
        }
        Ok(line)
    }

    /// An error at that row: `FILE:LINE: problem; remedy`.
    pub fn fault(
        &self,
        row: usize,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        match self.line(row) {
            Ok(line) => Error::invalid(format!("{}:{line}", self.origin), problem, remedy),
            Err(error) => error,
        }
    }

    /// The row's columns.
    ///
    /// # Errors
    /// Broken UTF-8, no JSON, no object, or a file that was changed since it was opened.
    pub fn row(&self, row: usize) -> Result<Map<String, Value>> {
        self.unchanged()?;
        let start = self.starts[row];
        let end = self.starts.get(row + 1).copied().unwrap_or(self.end);
        let mut bytes = vec![0; (end - start) as usize];
        read_at(&self.file, &mut bytes, start).map_err(Error::io(&self.origin, "read"))?;
        let bytes = match bytes.strip_prefix(MARK) {
            Some(rest) if start == 0 => rest,
            _ => &bytes[..],
        };
        let bytes = bytes.trim_ascii();
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let problem = format!("byte {} of the line is not UTF-8", e.valid_up_to() + 1);
            self.fault(row, problem, "save the file as UTF-8")
        })?;
        match serde_json::from_str(text) {
            Ok(Value::Object(columns)) => Ok(columns),
            _ if text.starts_with('[') => Err(self.fault(
                row,
                "it is a JSON array",
                "give one object a line: jq -c '.[]' FILE",
            )),
            Ok(_) => Err(self.fault(row, "it is no JSON object", "give one object a line")),
            Err(error) => {
                let said = error.to_string();
                let said = said.split(" at line ").next().unwrap_or_default();
                let problem = format!("not JSON at column {}: {said}", error.column());
                let number = text.contains("NaN") || text.contains("Infinity");
                let remedy = match number {
                    true => "give one object a line; JSON has no NaN and no Infinity",
                    false => "give one object a line",
                };
                Err(self.fault(row, problem, remedy))
            }
        }
    }

    fn unchanged(&self) -> Result<()> {
        let now = (self.file.metadata()).map_err(Error::io(&self.origin, "read"))?;
        if now.len() == self.end && now.modified().ok() == self.changed {
            return Ok(());
        }
        Err(Error::invalid(
            &self.origin,
            "it was changed since it was opened",
            "leave it alone while it is in use",
        ))
    }
}

/// A bar of `length` steps on stderr, hidden where that is no terminal.
pub fn progress_bar(name: &'static str, length: u64) -> ProgressBar {
    let style = "{msg} {wide_bar} {percent}% {eta} left";
    let bar = ProgressBar::new(length).with_message(name);
    bar.with_style(ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar()))
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
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
