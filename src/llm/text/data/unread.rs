//! Columns that a file has and nothing reads, and how they are told.

use std::collections::{BTreeMap, BTreeSet};

use super::reading::Reading;
use crate::error::{Error, Result};

/// Names that are shown of many.
const SHOWN: usize = 20;

/// Columns, and fields of messages, that nothing read, and in how many rows each is.
pub type Unread = BTreeMap<String, u64>;

/// Counts those of one more row.
pub(super) fn add(all: &mut Unread, row: BTreeSet<String>) {
    for name in row {
        *all.entry(name).or_default() += 1;
    }
}

/// Refuses a column that a mapping makes and that nothing reads in any of so many rows.
///
/// # Errors
/// The first of those.
pub(super) fn refuse(unread: &Unread, reading: &Reading, kind: &str, rows: u64) -> Result<()> {
    let idle = |name: &&String| unread.get(&format!("`{name}`")) == Some(&rows);
    match reading.columns.iter().map(|(name, _)| name).find(idle) {
        None => Ok(()),
        Some(name) => Err(Error::invalid(
            format!("columns.{name}"),
            format!("it is made and not read: {kind} are read from other columns"),
            "leave it out, or name an objective that reads it",
        )),
    }
}

/// `not read: a, b`, if there is anything.
pub fn line(unread: &Unread) -> Option<String> {
    let names: Vec<&str> = unread.keys().map(String::as_str).collect();
    match names.len() {
        0 => None,
        count if count > SHOWN => {
            let names = names[..SHOWN].join(", ");
            Some(format!("not read: {names}, … ({count} in all)"))
        }
        _ => Some(format!("not read: {}", names.join(", "))),
    }
}
