//! Files that a path or pattern names.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::file::folder_of;

/// The file of that path; or, where its last part has a `*` or a `?`, all that match, in the order
/// of their names.
///
/// # Errors
/// No file that matches.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let Some(pattern) = name.filter(|name| name.contains(['*', '?']) && !path.exists()) else {
        return Ok(vec![path.into()]);
    };
    let folder = folder_of(path);
    let failed = || Error::io(folder, "read");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        let matching = matches(
            &pattern.chars().collect::<Vec<_>>(),
            &name.to_string_lossy().chars().collect::<Vec<_>>(),
        );
        let file = path.with_file_name(&name);
        if matching && file.is_file() {
            found.push(file);
        }
    }
    found.sort();
    if found.is_empty() {
        Err(Error::invalid(
            path.display().to_string(),
            "no file matches",
            "name a file, or several: FOLDER/*.jsonl",
        ))
    } else {
        Ok(found)
    }
}

/// Whether a name is what the pattern says: `*` is any text, `?` any character.
fn matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), None) => matches(rest, name),
        (Some(('*', rest)), Some((_, after))) => matches(rest, name) || matches(pattern, after),
        (Some((p, rest)), Some((n, after))) => (p == n || *p == '?') && matches(rest, after),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn stars_and_question_marks() {
        let matches = |pattern: &str, name: &str| {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            super::matches(&chars(pattern), &chars(name))
        };
        for name in ["rt-polarity.pos", "rt-polarity.neg", "rt-polarity."] {
            assert!(matches("rt-polarity.*", name));
        }
        assert!(matches("*-?.parquet", "train-00-1.parquet"));
        assert!(!matches("*-?.parquet", "train-00-.parquet"));
        assert!(!matches("a*b", "ab.c"));
        assert!(matches("**", ""));
    }
}
