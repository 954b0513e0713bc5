//! Small tokenizers for tests: byte-level as GPT-2's, and with a space before every text as Llama's.

use std::sync::Arc;

use pistar::llm::data::Encode;
use pistar::{Error, Result};
use serde_json::{Value, json};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// A tokenizer and its special tokens.
pub struct Words {
    pub tokenizer: Tokenizer,
    pub bos: Option<u32>,
    pub begins: bool,
    pub eos: Option<u32>,
}

impl Encode for Words {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self.tokenizer.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(Error::invalid("text", error.to_string(), "give another")),
        }
    }
    fn bos(&self) -> Option<u32> {
        self.bos
    }
    fn begins_with_bos(&self) -> bool {
        self.begins
    }
    fn eos(&self) -> Option<u32> {
        self.eos
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

/// Byte-level pairs in the manner of GPT-2: `<eos>` is 0, the bytes in the order of their characters
/// follow, then ` y`, ` n`, `ye`, `no`. No BOS.
pub fn bytes() -> Words {
    let merges = [["Ġ", "y"], ["Ġ", "n"], ["y", "e"], ["n", "o"]];
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut pieces = vec!["<eos>".to_string()];
    pieces.extend(alphabet.iter().map(char::to_string));
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                            "use_regex": true});
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": special(&[(0, "<eos>")]), "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                  "byte_fallback": false, "vocab": vocabulary(pieces, &merges), "merges": merges}
    });
    Words {
        tokenizer: file.to_string().parse().unwrap(),
        bos: None,
        begins: false,
        eos: Some(0),
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
        tokenizer: file.to_string().parse().unwrap(),
        bos: Some(1),
        begins: true,
        eos: Some(2),
    }
}

/// As a source takes it.
pub fn shared(words: Words) -> Arc<dyn Encode> {
    Arc::new(words)
}
