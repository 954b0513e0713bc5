//! Packed files, unpacked once into a temporary one that rows can be read from by number.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};

use super::format::Format;
use super::index::{self, Scan};
use crate::error::{Error, Result};
use crate::file::MARK;
use crate::llm::files::hash::hex;
use crate::observer::Work;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Parquet,
}

impl Packing {
    /// The packing that a file's first bytes show.
    pub fn of(head: &[u8; 4]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            b"PAR1" => Self::Parquet,
            _ => Self::None,
        }
    }
}

/// A temporary file without a name: it is gone with the process, however that ends.
pub(super) struct Spool {
    out: BufWriter<File>,
}

impl Spool {
    /// A temporary file in the system's folder for them.
    pub fn new() -> Result<Self> {
        let file = tempfile::tempfile().map_err(failed("create"))?;
        let out = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { out })
    }

    /// Adds bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(failed("write to"))
    }

    /// The file, to be read.
    pub fn finish(self) -> Result<File> {
        (self.out.into_inner())
            .map_err(std::io::IntoInnerError::into_error)
            .map_err(failed("write to"))
    }
}

fn failed(action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    let dir = std::env::temp_dir();
    let place = format!(
        "a temporary file in {} (TMPDIR names another folder)",
        dir.display()
    );
    Error::io(place, action)
}

/// What a compressed file holds, and the hash of the file as it is.
pub(super) fn gunzip(
    file: File,
    format: Option<Format>,
    origin: &str,
    work: &dyn Work,
) -> Result<(File, String)> {
    let mut spool = Spool::new()?;
    let hashing = Hashing {
        file,
        hash: Sha256::new(),
        work,
    };
    let mut rest = BufReader::with_capacity(1 << 20, hashing);
    let mut buffer = vec![0; 1 << 20];
    let mut bound = Bound {
        format,
        scan: None,
        offset: 0,
    };
    loop {
        let mut member = GzDecoder::new(rest);
        loop {
            match member.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    bound.add(&buffer[..read], origin)?;
                    spool.put(&buffer[..read])?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error, origin)),
            }
        }
        rest = member.into_inner();
        if !another(&mut rest, origin)? {
            return Ok((spool.finish()?, hex(rest.into_inner().hash)));
        }
    }
}

/// Whether another member follows. Zeros after a member fill up a block, as on tapes.
fn another(rest: &mut BufReader<Hashing>, origin: &str) -> Result<bool> {
    loop {
        let bytes = match rest.fill_buf() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            bytes => bytes.map_err(Error::io(origin, "read"))?,
        };
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        match bytes.get(zeros) {
            None if bytes.is_empty() => return Ok(false),
            None => rest.consume(zeros),
            Some(0x1f) => {
                rest.consume(zeros);
                return Ok(true);
            }
            Some(_) => {
                return Err(Error::invalid(
                    origin,
                    "bytes that are no gzip follow the last member of the compressed file",
                    "take them off: gunzip -c FILE | gzip > OTHER",
                ));
            }
        }
    }
}

/// Sees that no row is longer than rows may be, while it is unpacked: a small file can hold a row of any
/// size.
struct Bound {
    format: Option<Format>,
    scan: Option<Box<dyn Scan>>,
    offset: u64,
}

impl Bound {
    fn add(&mut self, bytes: &[u8], origin: &str) -> Result<()> {
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        let bytes = match offset {
            0 => bytes.strip_prefix(MARK).unwrap_or(bytes),
            _ => bytes,
        };
        if self.scan.is_none() {
            self.format = self.format.or_else(|| index::of_text(bytes));
            self.scan = self.format.map(index::scan);
        }
        let (Some(scan), Some(format)) = (&mut self.scan, self.format) else {
            return Ok(());
        };
        // What is wrong with rows is told when they are looked for, by line.
        let _ = scan.piece(bytes, self.offset - bytes.len() as u64);
        if self.offset.saturating_sub(scan.last()) > index::longest(format) {
            let place = format!("{origin}: row {}", scan.rows().max(1));
            let [problem, remedy] = index::too_long(format);
            Err(Error::invalid(
                place,
                format!("unpacked, {problem}"),
                remedy,
            ))
        } else {
            Ok(())
        }
    }
}

fn broken(error: std::io::Error, origin: &str) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    let message = match error.kind() {
        UnexpectedEof => "the compressed file is cut short".into(),
        InvalidData | InvalidInput => format!("the compressed file is broken ({error})"),
        _ => return Error::io(origin, "read")(error),
    };
    Error::Format {
        origin: origin.into(),
        message,
        remedy: "fetch it again".into(),
    }
}

/// A file that is hashed as it is read.
struct Hashing<'a> {
    file: File,
    hash: Sha256,
    work: &'a dyn Work,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.work.advance(read as u64);
        Ok(read)
    }
}

#[cfg(feature = "parquet")]
pub(super) use super::parquet::unpack as parquet;

/// Says that this build reads no parquet.
#[cfg(not(feature = "parquet"))]
pub(super) fn parquet(_: File, origin: &str, _: &dyn Work) -> Result<(File, String)> {
    Err(Error::invalid(
        origin,
        "it is a parquet file, and this build reads none",
        "build with --features parquet, or rewrite it as JSON lines",
    ))
}
