//! JSON objects of a model's folder.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A JSON object.
pub type Object = Map<String, Value>;

/// The object in a file.
///
/// # Errors
/// A file that cannot be read, is no JSON, or holds something else than an object.
pub fn read(path: &Path) -> Result<Object> {
    let bytes = fs::read(path).map_err(Error::io(path, "read"))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Format {
        origin: path.display().to_string(),
        message: e.to_string(),
        remedy: "it must hold one JSON object; fetch the file again".into(),
    })
}

/// The object in a file, or an empty one where there is no such file.
///
/// # Errors
/// As [`read`].
pub fn read_if_there(path: &Path) -> Result<Object> {
    match path.exists() {
        true => read(path),
        false => Ok(Object::new()),
    }
}
