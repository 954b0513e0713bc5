//! Rows of a parquet file as JSON.

use std::fs::File;
use std::io::{Read, Seek};

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::FileReader;
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use super::file::ODD;
use super::format::Format;
use super::index::{longest, too_long};
use super::spool::Spool;
use crate::error::{Error, Result};
use crate::llm::files::hash::hex;
use crate::llm::files::quiet;
use crate::observer::Work;

mod pages;

use pages::Pages;

/// The rows as JSON lines in a temporary file, and the hash of the file as it is.
pub(super) fn unpack(mut file: File, origin: &str, work: &dyn Work) -> Result<(File, String)> {
    let hash = hash(&mut file, work).map_err(Error::io(origin, "read"))?;
    // The reader panics on some files that are broken inside.
    quiet::catch(|| rows(file, origin))
        .unwrap_or_else(|| {
            let inside = ParquetError::General("its levels do not fit its schema".into());
            Err(broken(&inside, origin))
        })
        .map(|rows| (rows, hash))
}

fn rows(file: File, origin: &str) -> Result<File> {
    let reader = Pages::new(file).map_err(|e| broken(&e, origin))?;
    readable(reader.metadata(), origin)?;
    let mut spool = Spool::new()?;
    let rows = reader.get_row_iter(None).map_err(|e| broken(&e, origin))?;
    for (index, row) in rows.enumerate() {
        let row = row.map_err(|e| broken(&e, origin))?;
        let failed = |e: serde_json::Error| Error::io("row", "write")(e.into());
        let mut line = serde_json::to_vec(&columns(&row)).map_err(failed)?;
        if line.len() as u64 > longest(Format::Jsonl) {
            let place = format!("{origin}: row {}", index + 1);
            let [problem, remedy] = too_long(Format::Jsonl);
            return Err(Error::invalid(place, problem, remedy));
        }
        line.push(b'\n');
        spool.put(&line)?;
    }
    spool.finish()
}

fn hash(file: &mut File, work: &dyn Work) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    file.rewind()?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hash)),
            read => hash.update(&buffer[..read]),
        }
        work.advance(0);
    }
}

/// Refuses what is compressed in a way that this build cannot undo, by name.
fn readable(metadata: &ParquetMetaData, origin: &str) -> Result<()> {
    for group in metadata.row_groups() {
        for column in group.columns() {
            let codec = column.compression();
            let known = matches!(
                codec,
                Compression::UNCOMPRESSED
                    | Compression::SNAPPY
                    | Compression::GZIP(_)
                    | Compression::LZ4
                    | Compression::LZ4_RAW
            ) || pages::reads(codec);
            if !known {
                return Err(Error::invalid(
                    format!("{origin}: column `{}`", column.column_path().string()),
                    format!("it is compressed with {codec}"),
                    "rewrite it with zstd, snappy, gzip, lz4, brotli or none, in Python: \
                     t = pyarrow.parquet.read_table(FILE); \
                     pyarrow.parquet.write_table(t, OTHER, compression='snappy')",
                ));
            }
        }
    }
    Ok(())
}

fn broken(error: &ParquetError, origin: &str) -> Error {
    Error::Format {
        origin: origin.into(),
        message: format!("it is no whole parquet file ({error})"),
        remedy: "fetch it again".into(),
    }
}

/// The columns, and under [`ODD`] the names of those that hold a number which is not finite.
fn columns(row: &Row) -> Map<String, Value> {
    let mut columns = Map::new();
    let mut odd = Vec::new();
    for (name, field) in row.get_column_iter() {
        let mut is_odd = false;
        columns.insert(name.clone(), json(field, &mut is_odd));
        if is_odd {
            odd.push(Value::from(name.as_str()));
        }
    }
    if !odd.is_empty() {
        columns.insert(ODD.into(), odd.into());
    }
    columns
}

/// A field as JSON. What JSON has not is `null`: bytes that are no text, and numbers that are not finite.
/// Dates are text.
fn json(field: &Field, odd: &mut bool) -> Value {
    let mut number = |x: f64| {
        *odd |= !x.is_finite();
        // Where a number is needed, a null is refused.
        Number::from_f64(x).map_or(Value::Null, Value::Number)
    };
    match field {
        Field::Null => Value::Null,
        Field::Bool(b) => Value::Bool(*b),
        Field::Byte(n) => Value::from(*n),
        Field::Short(n) => Value::from(*n),
        Field::Int(n) => Value::from(*n),
        Field::Long(n) => Value::from(*n),
        Field::UByte(n) => Value::from(*n),
        Field::UShort(n) => Value::from(*n),
        Field::UInt(n) => Value::from(*n),
        Field::ULong(n) => Value::from(*n),
        Field::Float16(x) => number(f64::from(*x)),
        // The shortest text that is this number, not its binary digits in f64: 0.1 stays 0.1.
        Field::Float(x) => number(x.to_string().parse().unwrap_or(f64::from(*x))),
        Field::Double(x) => number(*x),
        Field::Decimal(_) => match field.to_string().parse::<f64>() {
            Ok(x) => number(x),
            Err(_) => Value::String(field.to_string()),
        },
        Field::Str(text) => Value::String(text.clone()),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.into()),
            Err(_) => Value::Null,
        },
        Field::Group(row) => {
            let fields = row.get_column_iter();
            Value::Object(
                fields
                    .map(|(name, field)| (name.clone(), json(field, odd)))
                    .collect(),
            )
        }
        Field::ListInternal(list) => Value::Array(
            list.elements()
                .iter()
                .map(|entry| json(entry, odd))
                .collect(),
        ),
        Field::MapInternal(map) => {
            let mut entries = Map::new();
            for (key, value) in map.entries() {
                let key = match json(key, odd) {
                    Value::String(key) => key,
                    key => key.to_string(),
                };
                entries.insert(key, json(value, odd));
            }
            Value::Object(entries)
        }
        other => Value::String(other.to_string()),
    }
}
