//! What is read from files.

use std::path::PathBuf;

use pistar::Result;
use pistar::llm::data::{Form, Settings, Source};
use pistar::llm::example::Example;
use pistar::loss::InputKind;
use tempfile::TempDir;

use crate::texts::{shared, spaces};

/// A file of those bytes, in a folder that lives as long as it is held.
pub fn file(bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// All examples of a file for a model that takes 64 tokens.
pub fn read(form: impl Into<Form>, bytes: impl AsRef<[u8]>) -> Result<Vec<Example>> {
    let (_folder, path) = file(bytes);
    let source = Source::open(&path, form, shared(spaces()), 64, Settings::default())?;
    (0..source.len()).map(|row| source.example(row)).collect()
}

#[test]
fn a_labelled_pair_has_the_preferred_one_first() {
    let text = r#"{"prompt": "at", "chosen": " a", "rejected": " me"}"#;
    let pairs = read(InputKind::LabelledPairs, text).unwrap();
    let tokens: Vec<_> = (pairs[0].responses.iter())
        .map(|r| (r.sequence.prompt(), r.sequence.completion()))
        .collect();
    // BOS, ▁a, t; then ▁a, or ▁, me; EOS.
    assert_eq!(tokens[0], (&[1, 31, 24][..], &[31, 2][..]));
    assert_eq!(tokens[1], (&[1, 31, 24][..], &[4, 34, 2][..]));
}
