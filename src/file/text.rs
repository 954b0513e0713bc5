//! Text in UTF-8, the byte order mark skipped.

use std::io::BufRead;
use std::path::Path;

use crate::error::{Error, Result};

/// The byte order mark, which some editors put before a file in UTF-8.
pub const MARK: &[u8] = "\u{feff}".as_bytes();

const UTF8: &str = "save the file as UTF-8";

/// A file's text.
///
/// # Errors
/// A file that cannot be read, or is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    string(super::bytes(path)?, &path.display().to_string())
}

/// The text of some bytes that came from `origin`, without its mark.
///
/// # Errors
/// The first byte that is not UTF-8, counted from 1 and with its line.
pub fn utf8<'a>(bytes: &'a [u8], origin: &str) -> Result<&'a str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(unmarked(text)),
        Err(error) => {
            let good = error.valid_up_to();
            let line = bytes[..good].iter().filter(|&&b| b == b'\n').count() + 1;
            Err(Error::invalid(
                origin,
                format!("byte {} (on line {line}) is not UTF-8", good + 1),
                UTF8,
            ))
        }
    }
}

/// A text without the mark before it.
pub fn unmarked(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// [`utf8`] of bytes that are not needed further.
///
/// # Errors
/// As [`utf8`].
pub fn string(bytes: Vec<u8>, origin: &str) -> Result<String> {
    match String::from_utf8(bytes) {
        Ok(mut text) => {
            if text.starts_with('\u{feff}') {
                text.drain(..MARK.len());
            }
            Ok(text)
        }
        Err(error) => utf8(error.as_bytes(), origin).map(Into::into),
    }
}

/// The lines of a file as they come, each with its place, `ORIGIN:LINE`; those of white space alone are
/// left out.
pub fn lines<R: BufRead>(
    reader: R,
    origin: &str,
) -> impl Iterator<Item = Result<(String, String)>> + use<R> {
    let origin = origin.to_owned();
    let line = move |(index, bytes): (usize, std::io::Result<Vec<u8>>)| {
        let place = format!("{origin}:{}", index + 1);
        let mut bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return Some(Err(Error::io(&place, "read")(error))),
        };
        if index == 0 && bytes.starts_with(MARK) {
            bytes.drain(..MARK.len());
        }
        if bytes.trim_ascii().is_empty() {
            return None;
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            let byte = e.utf8_error().valid_up_to() + 1;
            let problem = format!("byte {byte} of the line is not UTF-8");
            Error::invalid(&place, problem, UTF8)
        });
        Some(text.map(|text| (place, text)))
    };
    reader.split(b'\n').enumerate().filter_map(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_is_skipped_and_a_broken_byte_named() {
        for (text, expected) in [
            ("\u{feff}ab", "ab"),
            ("ab", "ab"),
            ("", ""),
            ("\u{feff}", ""),
            ("\u{feff}\u{feff}a", "\u{feff}a"),
            ("a\u{feff}", "a\u{feff}"),
        ] {
            assert_eq!(utf8(text.as_bytes(), "f").unwrap(), expected);
            assert_eq!(string(text.into(), "f").unwrap(), expected);
        }
        let all = |bytes: &[u8]| -> Vec<String> {
            let each = lines(bytes, "f").map(|line| match line {
                Ok((place, text)) => format!("{place} {text}"),
                Err(error) => error.to_string(),
            });
            each.collect()
        };
        assert_eq!(
            all("\u{feff}a\n \r\nb\u{feff}".as_bytes()),
            ["f:1 a", "f:3 b\u{feff}"]
        );
        assert!(all(b"a\nab\xff\nc")[1].starts_with("f:2: byte 3 of the line is not UTF-8"));
        let error = string(b"ab\ncd\xff".to_vec(), "f.json")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("f.json: byte 6 (on line 2) is not UTF-8"),
            "{error}"
        );
    }
}
