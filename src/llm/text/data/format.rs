//! Formats of data files.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::digits;
use super::values::{Fault, Parsed, fault};
use crate::file::json;
use crate::llm::files::named::named;

named! {
    /// Format of a file: how it is cut into rows.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[non_exhaustive]
    pub enum Format {
        /// JSON lines: one object a line
        Jsonl = "jsonl",
        /// One JSON array of objects
        Json = "json",
        /// Plain text, a row a line: column `text`
        Lines = "lines",
        /// Plain text, blank lines between rows
        Paragraphs = "paragraphs",
        /// Plain text, all of it one row
        Document = "document",
    }
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

    /// What a file is that is none of these, by its first bytes or its name, and how it becomes one.
    pub(super) fn foreign(path: &Path, head: [u8; 4], said: bool) -> Option<[String; 2]> {
        let file = path.display();
        let made = |what: &str, how: String| Some([format!("it is {what}"), how]);
        let python = |code: &str| format!("convert it: python3 -c \"{code}\"");
        let unpack = |with: &str| format!("unpack it: {with} {file}");
        match &head {
            b"ARRO" | b"FEA1" => made(
                "an Arrow (feather) file",
                python(&format!(
                    "from pyarrow import feather as f, parquet as p; \
                     p.write_table(f.read_table('{file}'), '{file}.parquet')"
                )),
            ),
            [0xff, 0xff, 0xff, 0xff] => made(
                "an Arrow stream, as `datasets` keeps them",
                python(&format!(
                    "from datasets import Dataset; \
                     Dataset.from_file('{file}').to_parquet('{file}.parquet')"
                )),
            ),
            [b'O', b'R', b'C', _] => made(
                "an ORC file",
                python(&format!(
                    "from pyarrow import orc, parquet as p; \
                     p.write_table(orc.read_table('{file}'), '{file}.parquet')"
                )),
            ),
            b"Obj\x01" => made("an Avro file", "convert it to JSON lines or parquet".into()),
            b"SQLi" => made("an SQLite database", "export a table as JSON lines".into()),
            b"PK\x03\x04" => made("a zip archive (or a spreadsheet)", unpack("unzip")),
            [0x28, 0xb5, 0x2f, 0xfd] => made("packed with zstd", unpack("zstd -d")),
            [b'B', b'Z', b'h', _] => made("packed with bzip2", unpack("bunzip2")),
            [0xfd, b'7', b'z', b'X'] => made("packed with xz", unpack("unxz")),
            _ => {
                let extension = path.extension()?.to_str()?.to_lowercase();
                let table = ["csv", "tsv"].contains(&extension.as_str());
                let object = [b'{', b'['].contains(head.trim_ascii_start().first()?);
                if said || !table || object {
                    return None;
                }
                let tab = match extension.as_str() {
                    "tsv" => ", delimiter='\\t'",
                    _ => "",
                };
                made(
                    &format!("a {} file", extension.to_uppercase()),
                    python(&format!(
                        "import csv, json; [print(json.dumps(r)) for r in \
                         csv.DictReader(open('{file}', newline=''){tab})]"
                    )) + &format!(" > {}", path.with_extension("jsonl").display()),
                )
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
