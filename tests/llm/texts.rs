//! Small tokenizers for tests: byte-level as GPT-2's, and with a space before every text as Llama's.

use std::path::Path;
use std::sync::Arc;

use pistar::llm::text::tokenizer::Tokenizer;
use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// A tokenizer's file and its special tokens.
#[derive(Clone)]
pub struct Words {
    pub file: Value,
    pub bos: Option<&'static str>,
    pub begins: bool,
    pub eos: Option<&'static str>,
}

impl Words {
    /// Writes it into a model's folder.
    pub fn save(&self, folder: &Path) {
        let mut file = self.file.clone();
        if let (true, Some(bos)) = (self.begins, self.bos) {
            let added = file["added_tokens"].as_array().unwrap();
            let id = &added.iter().find(|t| t["content"] == bos).unwrap()["id"];
            file["post_processor"] = json!({
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": bos, "type_id": 0}},
                           {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                         {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}}
            });
        }
        let special = json!({"bos_token": self.bos, "eos_token": self.eos});
        std::fs::write(folder.join("tokenizer.json"), file.to_string()).unwrap();
        std::fs::write(folder.join("tokenizer_config.json"), special.to_string()).unwrap();
    }

    /// As a source takes it.
    pub fn load(&self) -> Arc<Tokenizer> {
        let folder = tempfile::tempdir().unwrap();
        self.save(folder.path());
        Arc::new(Tokenizer::load(folder.path()).unwrap())
    }

    /// Tokens of a text, with nothing added.
    pub fn ids(&self, text: &str) -> Vec<u32> {
        self.load().encode(text).unwrap()
    }
}

fn special(ids: &[(u32, &str)]) -> Value {
    (ids.iter())
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect()
}

/// Vocabulary of pieces and of what merges make of them.
fn vocabulary(pieces: Vec<String>, merges: &[[&str; 2]]) -> Value {
    let merged = merges.iter().map(|pair| pair.concat());
    (pieces.into_iter().chain(merged).enumerate())
        .map(|(id, piece)| (piece, json!(id)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Byte-level pairs in the manner of GPT-2: `<eos>` 0 and `<bos>` 1, the bytes in the order of their
/// characters, then ` y`, ` n`, `ye`, `no`. It names no BOS.
pub fn bytes() -> Words {
    let merges = [["Ġ", "y"], ["Ġ", "n"], ["y", "e"], ["n", "o"]];
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut pieces = vec!["<eos>".to_string(), "<bos>".to_string()];
    pieces.extend(alphabet.iter().map(char::to_string));
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                            "use_regex": true});
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": special(&[(0, "<eos>"), (1, "<bos>")]), "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                  "byte_fallback": false, "vocab": vocabulary(pieces, &merges), "merges": merges}
    });
    Words {
        file,
        bos: None,
        begins: false,
        eos: Some("<eos>"),
    }
}

/// Pairs in the manner of Llama's first tokenizer: `<unk>` 0, `<s>` 1, `</s>` 2, newline 3, `▁` 4,
/// then the letters from `a` at 5 to `z` at 30, `▁a` 31, `ti` 32, `tim` 33, `me` 34. A `▁` stands
/// for a space and before every text.
pub fn spaces() -> Words {
    let merges = [["▁", "a"], ["t", "i"], ["ti", "m"], ["m", "e"]];
    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>", "\n", "▁"].map(String::from).into();
    pieces.extend(('a'..='z').map(String::from));
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": special(&[(0, "<unk>"), (1, "<s>"), (2, "</s>")]),
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
                  "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
                  "byte_fallback": false, "vocab": vocabulary(pieces, &merges), "merges": merges}
    });
    Words {
        file,
        bos: Some("<s>"),
        begins: true,
        eos: Some("</s>"),
    }
}
