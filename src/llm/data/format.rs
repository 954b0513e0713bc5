//! What a file's rows are.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::digits;
use super::values::{Fault, Parsed, fault};
use crate::file::json;

/// How a file is cut into rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON lines: one object a line
    Jsonl,
    /// One JSON array of objects
    Json,
    /// Plain text, a row a line: column `text`
    Lines,
    /// Plain text, blank lines between rows
    Paragraphs,
    /// Plain text, all of it one row
    Document,
}

impl Format {
    /// The columns of a row's bytes. Of plain text there is one, `text`, without the end of its last
    /// line.
    pub(super) fn columns(self, bytes: &[u8]) -> Parsed<Map<String, Value>> {
        let bytes = match self {
            Self::Jsonl => bytes.trim_ascii(),
            // The comma before the next element.
            Self::Json => {
                let bytes = bytes.trim_ascii();
                bytes.strip_suffix(b",").unwrap_or(bytes).trim_ascii()
            }
            _ => bytes,
        };
        let text = std::str::from_utf8(bytes).or_else(|e| {
            let whole = match self {
                Self::Jsonl | Self::Lines => "line",
                _ => "row",
            };
            let problem = format!("byte {} of the {whole} is not UTF-8", e.valid_up_to() + 1);
            fault(problem, "save the file as UTF-8")
        })?;
        match self {
            Self::Jsonl | Self::Json => self.json(text),
            _ => {
                let text = match self {
                    // Blank lines may follow.
                    Self::Lines => text.lines().next().unwrap_or_default(),
                    Self::Paragraphs => text.trim_end(),
                    _ => text,
                };
                Ok(Map::from_iter([("text".into(), text.into())]))
            }
        }
    }

    fn json(self, text: &str) -> Parsed<Map<String, Value>> {
        let right = match self {
            Self::Json => "give a list of objects",
            _ => "give one object a line",
        };
        let error = match json::value(text) {
            Ok(Value::Object(columns)) => return digits::kept(text, &columns).map(|()| columns),
            Ok(Value::Array(_)) => {
                let remedy = match self {
                    Self::Json => right,
                    _ => "give one object a line: jq -c '.[]' FILE",
                };
                return fault("it is a JSON array", remedy);
            }
            Ok(_) => return fault("it is no JSON object", right),
            Err(error) => error,
        };
        if self == Self::Jsonl && text.starts_with('[') {
            let remedy = "give one object a line: jq -c '.[]' FILE";
            return fault("it is a JSON array", remedy);
        }
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        if error.is_data() {
            return fault(said, "give every key once");
        }
        let problem = match error.line() {
            1 => format!("not JSON at column {}: {said}", error.column()),
            line => format!(
                "not JSON at its line {line}, column {}: {said}",
                error.column()
            ),
        };
        let number = text.contains("NaN") || text.contains("Infinity");
        let prose = !text.starts_with('{');
        let remedy = match (number, prose) {
            (true, _) => format!("{right}; JSON has no NaN and no Infinity"),
            (_, true) => {
                format!("{right}; of plain text, say format: lines, paragraphs or document")
            }
            _ => right.into(),
        };
        Err(Fault { problem, remedy })
    }
}
