//! JSON objects of a model's folder.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::file;

/// A JSON object.
pub type Object = Map<String, Value>;

/// The object in a file.
///
/// # Errors
/// A file that cannot be read, is no JSON, holds something else than an object, or has a key twice.
pub fn read(path: &Path) -> Result<Object> {
    let failed = |message: String| Error::Format {
        origin: path.display().to_string(),
        message,
        remedy: "it must hold one JSON object; fetch the file again".into(),
    };
    match file::json::value(&file::read(path)?).map_err(|e| failed(e.to_string()))? {
        Value::Object(object) => Ok(object),
        _ => Err(failed("it is no JSON object".into())),
    }
}

/// The object in a file, or an empty one where there is no such file.
///
/// # Errors
/// As [`read`].
pub fn read_if_there(path: &Path) -> Result<Object> {
    if path.exists() {
        read(path)
    } else {
        Ok(Object::new())
    }
}
