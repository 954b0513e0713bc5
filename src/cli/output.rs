//! Printing to standard output, which may be a pipe that closes early.

use std::io::{ErrorKind, Write, stdout};

use anyhow::Context;

pub use crate::text::{exact, number, wrap};

/// Prints text as it is.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    (out.write_all(text.as_bytes()))
        .and_then(|()| out.flush())
        .context("standard output: cannot write")
}

/// Prints a JSON value on one line, keys in order.
pub fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{}\n", crate::file::json::sorted(value.clone())))
}

/// True if the reader went away, as `head` does: nothing to complain about.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let closed = |e: &std::io::Error| e.kind() == ErrorKind::BrokenPipe;
    error
        .chain()
        .any(|cause| cause.downcast_ref().is_some_and(closed))
}

/// Lines up columns, two spaces apart; numbers of columns may differ.
pub fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(i) {
                Some(w) => *w = (*w).max(width),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Numbers for people, in brackets, the tail of a long list left out.
pub fn list(values: &[f64], most: usize) -> String {
    let mut shown: Vec<String> = values.iter().take(most).map(|&v| number(v)).collect();
    if values.len() > most {
        shown.push(format!("… {} in all", values.len()));
    }
    format!("[{}]", shown.join(", "))
}

/// A JSON number, or null where JSON has none (infinities and NaN).
pub fn nullable(x: f64) -> serde_json::Value {
    serde_json::Number::from_f64(x).map_or(serde_json::Value::Null, serde_json::Value::Number)
}
