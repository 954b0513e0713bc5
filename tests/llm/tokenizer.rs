//! Tokens: golden ids of transformers, special tokens, and vocabularies that do not fit.

use pistar::llm::tokenizer::Tokenizer;
use serde::Deserialize;

use crate::fixtures::{self, folder};

#[derive(Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
    with_bos: Vec<u32>,
    decoded: String,
}

fn tokenizer() -> Tokenizer {
    Tokenizer::load(folder("tokenizer")).unwrap()
}

#[test]
fn ids_are_those_of_transformers_whatever_the_file_says_of_truncation() {
    let tokenizer = tokenizer();
    for golden in fixtures::json::<Vec<Golden>>("tokenizer/expected.json") {
        let text = &golden.text;
        assert_eq!(tokenizer.encode(text).unwrap(), golden.ids, "{text:?}");
        let prompt = tokenizer.encode_prompt(text).unwrap();
        assert_eq!(prompt, golden.with_bos, "{text:?}");
        let decoded = tokenizer.decode(&golden.ids).unwrap();
        assert_eq!(decoded, golden.decoded, "{text:?}");
    }
}

#[test]
fn offsets_are_the_bytes_of_each_token() {
    let text = "the quick fox";
    let (ids, offsets) = tokenizer().encode_with_offsets(text).unwrap();
    assert_eq!(ids, tokenizer().encode(text).unwrap());
    let joined: String = offsets.iter().map(|range| &text[range.clone()]).collect();
    assert_eq!(joined, text);
    for (id, range) in ids.iter().zip(&offsets) {
        assert_eq!(tokenizer().decode(&[*id]).unwrap(), &text[range.clone()]);
    }
}

#[test]
fn special_tokens_come_from_the_files() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.bos(), Some(0));
    assert!(tokenizer.begins_with_bos());
    assert_eq!(tokenizer.eos(), Some(1));
    assert_eq!(tokenizer.ends(), [1, 2]);
    assert_eq!(tokenizer.pad(), Some(1));
    assert_eq!(tokenizer.token("<|end|>"), Some(2));
}

#[test]
fn a_text_that_begins_with_bos_does_not_get_it_twice() {
    let ids = tokenizer().encode_prompt("<s>the").unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 0).count(), 1);
}

#[test]
fn a_vocabulary_beyond_the_embedding_is_refused() {
    let tokenizer = tokenizer();
    let size = tokenizer.vocabulary();
    tokenizer.fits(size).unwrap();
    let error = tokenizer.fits(size - 1).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    assert!(error.contains(&format!("{}", size - 1)), "{error}");
    assert!(error.contains("vocab_size"), "{error}");
}

#[test]
fn a_special_token_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let from = folder("tokenizer").join("tokenizer.json");
    std::fs::copy(from, dir.path().join("tokenizer.json")).unwrap();
    let config = dir.path().join("tokenizer_config.json");
    std::fs::write(&config, r#"{"eos_token": {"content": "<|never|>"}}"#).unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    for part in ["tokenizer_config.json", "eos_token", "<|never|>"] {
        assert!(error.contains(part), "{error}");
    }
    std::fs::write(&config, r#"{"eos_token": null, "bos_token": null}"#).unwrap();
    let none = Tokenizer::load(dir.path()).unwrap();
    assert_eq!((none.bos(), none.eos()), (None, None));
    assert!(!none.begins_with_bos());
    std::fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
}
