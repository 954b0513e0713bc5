//! How files become rows: what a person says of them.

use std::path::PathBuf;

use serde::Serialize;

use super::format::Format;
use crate::error::{Error, Result};

/// How a file is cut into rows, and what their columns are made of. The flags of every command that
/// reads rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize)]
pub struct Reading {
    /// What the file is [default: jsonl or json, by its first byte; gzip and parquet by theirs]
    #[arg(long, value_name = "WHAT", value_enum, help_heading = "Data")]
    pub format: Option<Format>,
    /// A column by an expression over the file's: prompt=question, reward='scores|mean'; again for
    /// more
    #[arg(
        long = "column",
        value_name = "NAME=EXPR",
        value_parser = assignment,
        help_heading = "Data"
    )]
    pub columns: Vec<(String, String)>,
    /// An expression that gives a list: of each entry one row is made, instead of one in all
    #[arg(long, value_name = "EXPR", help_heading = "Data")]
    pub rows: Option<String>,
    /// Rows for which the expression is false are left out
    #[arg(long, value_name = "EXPR", help_heading = "Data")]
    pub r#where: Option<String>,
    /// Where chosen and rejected hold their prompt: it ends after the last of these in what both
    /// begin with, such as '\n\nAssistant:'
    #[arg(long, value_name = "TEXT", value_parser = unescaped, help_heading = "Data")]
    pub implicit_prompt: Option<String>,
    /// What renders conversations: a Jinja file, or `chatml` or `turns` [default: the model's own]
    #[arg(long, value_name = "FILE|NAME", help_heading = "Data")]
    pub chat_template: Option<PathBuf>,
    /// The day that a template is told where it asks for today's
    #[arg(long, value_name = "YYYY-MM-DD", help_heading = "Data")]
    pub chat_date: Option<String>,
}

/// `NAME=EXPR`.
fn assignment(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, expression)) if !name.trim().is_empty() => {
            Ok((name.trim().into(), expression.trim().into()))
        }
        _ => Err("give NAME=EXPR, such as prompt=question".into()),
    }
}

/// A flag's text, in which `\n` is a line's end, `\t` a tab and `\\` a backslash.
fn unescaped(text: &str) -> std::result::Result<String, String> {
    let (mut found, mut rest) = (String::new(), text.chars());
    while let Some(c) = rest.next() {
        found.push(match c {
            '\\' => match rest.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('\\') => '\\',
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("\\{other} is none of \\n, \\t and \\\\"));
                }
            },
            c => c,
        });
    }
    Ok(found)
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
