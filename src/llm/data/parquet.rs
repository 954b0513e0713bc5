//! Rows of a parquet file as JSON.

use std::fs::File;
use std::io::{Read, Seek};

use indicatif::ProgressBar;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use super::spool::Spool;
use crate::error::{Error, Result};
use crate::llm::hash::hex;
use crate::llm::quiet;

/// The rows as JSON lines in a temporary file, and the hash of the file as it is.
pub(super) fn unpack(mut file: File, origin: &str, bar: &ProgressBar) -> Result<(File, String)> {
    let hash = hash(&mut file, bar).map_err(Error::io(origin, "read"))?;
    // The reader panics on some files that are broken inside.
    quiet::catch(|| rows(file, origin))
        .unwrap_or_else(|| {
            let inside = ParquetError::General("its levels do not fit its schema".into());
            Err(broken(&inside, origin))
        })
        .map(|rows| (rows, hash))
}

fn rows(file: File, origin: &str) -> Result<File> {
    let reader = SerializedFileReader::new(file).map_err(|e| broken(&e, origin))?;
    readable(reader.metadata(), origin)?;
    let mut spool = Spool::new()?;
    let rows = reader.get_row_iter(None).map_err(|e| broken(&e, origin))?;
    for (index, row) in rows.enumerate() {
        let row = row.map_err(|e| broken(&e, origin))?;
        let columns = columns(&row).map_err(|problem| {
            let place = format!("{origin}: row {}", index + 1);
            Error::invalid(place, problem, "correct the row, or leave it out")
        })?;
        let failed = |e: serde_json::Error| Error::io("row", "write")(e.into());
        let mut line = serde_json::to_vec(&columns).map_err(failed)?;
        line.push(b'\n');
        spool.put(&line)?;
    }
    spool.finish()
}

fn hash(file: &mut File, bar: &ProgressBar) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    file.rewind()?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hash)),
            read => hash.update(&buffer[..read]),
        }
        bar.tick();
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
            );
            if !known {
                return Err(Error::invalid(
                    format!("{origin}: column `{}`", column.column_path().string()),
                    format!("it is compressed with {codec}"),
                    "rewrite it with snappy, gzip, lz4 or none, in Python: \
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

fn columns(row: &Row) -> std::result::Result<Map<String, Value>, String> {
    row.get_column_iter()
        .map(|(name, field)| match json(field) {
            Ok(value) => Ok((name.clone(), value)),
            Err(problem) => Err(format!("`{name}` {problem}")),
        })
        .collect()
}

/// A field as JSON. Bytes that are no text have none, and neither have dates as numbers: those are
/// `null` and text.
fn json(field: &Field) -> std::result::Result<Value, String> {
    let number = |x: f64| match Number::from_f64(x) {
        Some(number) => Ok(Value::Number(number)),
        None => Err(format!("is {x}, and numbers must be finite")),
    };
    Ok(match field {
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
        Field::Float16(x) => number(f64::from(*x))?,
        // The shortest text that is this number, not its binary digits in f64: 0.1 stays 0.1.
        Field::Float(x) => number(x.to_string().parse().unwrap_or(f64::from(*x)))?,
        Field::Double(x) => number(*x)?,
        Field::Decimal(_) => match field.to_string().parse::<f64>() {
            Ok(x) => number(x)?,
            Err(_) => Value::String(field.to_string()),
        },
        Field::Str(text) => Value::String(text.clone()),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.into()),
            Err(_) => Value::Null,
        },
        Field::Group(row) => Value::Object(columns(row)?),
        Field::ListInternal(list) => {
            let entries = list.elements().iter().map(json);
            Value::Array(entries.collect::<std::result::Result<_, _>>()?)
        }
        Field::MapInternal(map) => {
            let mut entries = Map::new();
            for (key, value) in map.entries() {
                let key = match json(key)? {
                    Value::String(key) => key,
                    key => key.to_string(),
                };
                entries.insert(key, json(value)?);
            }
            Value::Object(entries)
        }
        other => Value::String(other.to_string()),
    })
}
