//! How files become rows: what a person says of them.

use std::path::PathBuf;

use serde::Serialize;

use super::format::Format;
use crate::error::{Error, Result};
use crate::llm::files::settings::{Flag, Kind, settings};

settings! {
    /// How a file is cut into rows, and what their columns are made of. The flags of every command
    /// that reads rows.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct Reading {
        heading("Data") {
            /// Format of the file [default: jsonl or json, by its first byte; gzip and parquet by theirs]
            format: Option<Format> = None, value_name: Some("WHAT");
            /// Column made by an expression over the file's: prompt=question, reward='scores|mean'; may be repeated
            columns: Vec<(String, String)> = Vec::new(), flag: Flag::Called("column"), value_name: Some("NAME=EXPR");
            /// Expression that gives a list: each of its entries makes one row, instead of one in all
            rows: Option<String> = None, value_name: Some("EXPR");
            /// Expression that keeps a row: rows for which it is false are left out
            r#where: Option<String> = None, value_name: Some("EXPR");
            /// Marker that ends the prompt within chosen and rejected: the prompt ends after the last of these in
            /// what both begin with, such as '\n\nAssistant:'
            implicit_prompt: Option<String> = None, value_name: Some("TEXT"), kind: Kind::Escaped;
            /// Chat template for conversations: a Jinja file, or `chatml` or `turns` [default: the model's own]
            chat_template: Option<PathBuf> = None, value_name: Some("FILE|NAME");
            /// Date that a template is told where it asks for today's
            chat_date: Option<String> = None, value_name: Some("YYYY-MM-DD");
        }
    }
}

impl Reading {
    /// Whether rows are anything else than the file's own.
    pub(super) fn maps(&self) -> bool {
        !self.columns.is_empty() || self.rows.is_some() || self.r#where.is_some()
    }

    /// What the rows depend on, besides the files' bytes and a chat template.
    pub(super) fn fingerprint(&self) -> Result<String> {
        serde_json::to_string(&(
            self.format,
            &self.columns,
            &self.rows,
            &self.r#where,
            &self.implicit_prompt,
        ))
        .map_err(|e| Error::invalid("columns", e.to_string(), "give text"))
    }
}
