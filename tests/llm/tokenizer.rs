//! Tokens: golden ids of transformers, special tokens, and vocabularies that do not fit.

use pistar::llm::text::tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::{Map, Value, json};

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

/// A folder with a tokenizer of chat templates, of which some tokens are not registered as added.
fn beside(files: &Map<String, Value>, unregistered: &[Value]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut whole: Value = fixtures::json("chat/tokenizer.json");
    let added = whole["added_tokens"].as_array_mut().unwrap();
    added.retain(|token| !unregistered.contains(&token["content"]));
    let write = |name: &str, content: &Value| {
        std::fs::write(dir.path().join(name), content.to_string()).unwrap();
    };
    write("tokenizer.json", &whole);
    files
        .iter()
        .for_each(|(name, content)| write(name, content));
    dir
}

#[test]
fn tokens_that_other_files_know_are_added_as_transformers_adds_them() {
    #[derive(Deserialize)]
    struct Folder {
        files: Map<String, Value>,
        unregistered: Vec<Value>,
        eos: Option<u32>,
        ids: Vec<u32>,
    }
    #[derive(Deserialize)]
    struct Added {
        text: String,
        folders: Vec<Folder>,
    }
    let added: Added = fixtures::json("chat/added.json");
    let bare = beside(&Map::new(), &[]);
    let bare = Tokenizer::load(bare.path()).unwrap();
    for folder in &added.folders {
        let dir = beside(&folder.files, &folder.unregistered);
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        let ids = tokenizer.encode(&added.text).unwrap();
        assert_eq!(ids, folder.ids, "{:?}", folder.files);
        assert_eq!(tokenizer.eos(), folder.eos, "{:?}", folder.files);
        // A model without rows for them is told which they are.
        if tokenizer.vocabulary() > bare.vocabulary() {
            let error = tokenizer.fits(bare.vocabulary()).unwrap_err().to_string();
            assert!(
                error.contains(".json: ") || error.contains("added_tokens.json"),
                "{error}"
            );
            assert!(error.contains("it adds `"), "{error}");
        }
    }
    assert_eq!(added.folders.len(), 10);
}

#[test]
fn a_token_that_would_get_another_number_is_refused() {
    let files = |name: &str, content: Value| Map::from_iter([(name.to_string(), content)]);
    let token = |text: Value| json!({"content": text, "special": true});
    let list = |id: &str, text: &str| json!({"added_tokens_decoder": {id: token(text.into())}});
    for (name, content, parts) in [
        // Beyond the end, on another token, and another number than the vocabulary has.
        (
            "tokenizer_config.json",
            list("305", "<|turn|>"),
            ["`<|turn|>` is token 305", "300"],
        ),
        (
            "tokenizer_config.json",
            list("5", "<|turn|>"),
            ["`<|turn|>` is token 5", "300"],
        ),
        (
            "tokenizer_config.json",
            list("5", "<|im_end|>"),
            ["`<|im_end|>` is token 5", "7"],
        ),
        (
            "added_tokens.json",
            json!({"<|turn|>": 302}),
            ["`<|turn|>` is token 302", "300"],
        ),
        (
            "added_tokens.json",
            json!({"<|turn|>": "x"}),
            ["<|turn|>", "no token's number"],
        ),
        (
            "tokenizer_config.json",
            list("x", "<|turn|>"),
            ["added_tokens_decoder", "`x`"],
        ),
        (
            "tokenizer_config.json",
            json!({"added_tokens_decoder": {"300": token(3.into())}}),
            ["added_tokens_decoder", "no `content`"],
        ),
        (
            "tokenizer_config.json",
            json!({"additional_special_tokens": [3]}),
            ["additional_special_tokens", "3 is no token"],
        ),
    ] {
        let dir = beside(&files(name, content), &[]);
        let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
        for part in [name].iter().chain(&parts) {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

/// What the library panics on is an error that names the file, wherever the file is spoilt.
#[test]
fn a_broken_tokenizer_is_an_error_and_no_panic() {
    let whole = std::fs::read_to_string(folder("tokenizer").join("tokenizer.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Tokenizer::load(dir.path())
    };
    let refused = |text: &str| {
        let error = load(text).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: "), "{error}");
    };
    for end in (0..whole.trim_end().len()).step_by(97) {
        if whole.is_char_boundary(end) {
            refused(&whole[..end]);
        }
    }
    refused(r#"{"decoder":{"type":x}}"#);
    let value: Value = serde_json::from_str(&whole).unwrap();
    for decoder in [json!({"type": "x"}), json!({}), json!([1]), json!(3)] {
        let mut value = value.clone();
        value["decoder"] = decoder;
        refused(&value.to_string());
    }
    // A template of a token that it does not list, at loading or where a text is encoded.
    let mut value = value.clone();
    value["post_processor"] = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [], "special_tokens": {}});
    refused(&value.to_string());
}

/// A file of few bytes does not make gigabytes of a text.
#[test]
fn replacements_that_lengthen_without_end_are_refused() {
    let from = folder("tokenizer").join("tokenizer.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(from).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let load = |part: &str, content: Value| {
        let mut value = whole.clone();
        value[part] = content;
        std::fs::write(dir.path().join("tokenizer.json"), value.to_string()).unwrap();
        Tokenizer::load(dir.path())
    };
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let string = |text: &str| json!({"String": text});
    let all = |part: Value, count: usize, within: &str| json!({"type": "Sequence", within: vec![part; count]});
    let doubled = || replace(string("a"), "aa");
    for (part, content) in [
        ("normalizer", all(doubled(), 40, "normalizers")),
        (
            "normalizer",
            all(all(doubled(), 20, "normalizers"), 2, "normalizers"),
        ),
        ("normalizer", replace(string("a"), &"b".repeat(20_000))),
        (
            "normalizer",
            replace(json!({"Regex": "."}), &"b".repeat(20_000)),
        ),
        ("decoder", all(doubled(), 40, "decoders")),
    ] {
        let error = load(part, content).unwrap_err().to_string();
        for said in ["tokenizer.json: ", part, "times as long"] {
            assert!(error.contains(said), "{error}");
        }
    }
    // Those in use.
    let marks = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"},
        replace(string(" "), "\u{2581}"), replace(json!({"Regex": " {2,}"}), "\u{2581}")]});
    load("normalizer", marks).unwrap();
}
