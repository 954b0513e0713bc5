//! SHA-256 of files, and of JSON whatever the order of its keys.

use std::io::Read;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::file::{self, json};

/// The hash in hexadecimal.
pub fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 of a file's bytes.
///
/// # Errors
/// If it cannot be read.
pub fn of_bytes(path: &Path) -> Result<String> {
    let mut file = file::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(Error::io(path, "read"))?;
        if read == 0 {
            return Ok(hex(hash));
        }
        hash.update(&buffer[..read]);
    }
}

/// The text of a value in JSON with sorted keys and without blanks.
pub fn canonical(value: Value) -> String {
    json::sorted(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_have_no_order() {
        let [a, b] = [
            r#"{"b": [{"y": 1, "x": 2.5}], "a": null}"#,
            r#"{"a":null,"b":[{"x":2.5,"y":1}]}"#,
        ]
        .map(|text| canonical(serde_json::from_str(text).unwrap()));
        assert_eq!(a, b);
        assert_eq!(a, r#"{"a":null,"b":[{"x":2.5,"y":1}]}"#);
        assert_ne!(canonical(json!([1, 2])), canonical(json!([2, 1])));
    }
}
