//! A tiny storyteller trained on the spot, for studies without a model at hand.

use std::fs;
use std::path::{Path, PathBuf};

use crate::file::only;
use crate::file::write_folder;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::saving::Saving;
use crate::llm::model::sequence::Sequence;
use crate::llm::text::example::{Beside, Example, Response};
use crate::llm::text::tokenizer::Tokenizer;
use crate::llm::train::reference::Reference;
use crate::llm::train::{Batches, Settings, Trainer};
use crate::observer::Observer;
use crate::random::{Purpose, Stream};
use anyhow::{Context, Result};
use candle_core::{DType, Device};
use serde_json::{Map, json};

use super::Request;

/// Its folder, in that of the study.
const MODEL: &str = "model";
/// Stories that it reads, and sentences of each.
const STORIES: u64 = 4096;
const SENTENCES: u32 = 12;
const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];

/// What stands at a place of a sentence: one of these.
const WHO: [&str; 6] = ["tom", "lily", "the dog", "the cat", "the bird", "mom"];
const WHERE: [&str; 5] = [
    "at the park",
    "in the garden",
    "at home",
    "by the tree",
    "on the hill",
];
const DID: [&str; 10] = [
    "played", "ran", "sat", "cried", "smiled", "laughed", "fell", "slept", "jumped", "looked",
];
const FELT: [&str; 10] = [
    "happy", "sad", "tired", "scared", "good", "angry", "proud", "hungry", "bad", "kind",
];
const VERB: [&str; 8] = [
    "saw", "loved", "liked", "found", "lost", "hurt", "helped", "hugged",
];

/// The model of a request, or else the tiny one, which is trained unless the folder has it.
///
/// # Errors
/// A folder that cannot be written.
pub fn model(request: &Request, dir: &Path) -> Result<PathBuf> {
    if let Some(model) = &request.model {
        return Ok(model.clone());
    }
    let place = dir.join(MODEL);
    if !place.exists() || request.overwrite {
        only(&place, |name, kind| kind.is_file() && FILES.contains(&name))?;
        fs::create_dir_all(dir).with_context(|| format!("{}: cannot create", dir.display()))?;
        write_folder(&place, |dir| {
            write_tokenizer(dir)?;
            train(dir, request.key, request.observer)?.save(dir, &Saving::default())
        })?;
    }
    Ok(place)
}

/// What is in the model's folder.
const FILES: [&str; 4] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// One story: tokens of words, a full stop after each sentence.
fn story(stream: &mut Stream) -> String {
    let sentences = 4 + stream.below(SENTENCES - 3);
    let mut one = |of: &[&'static str]| of[stream.below(of.len() as u32) as usize];
    let mut text = String::new();
    for _ in 0..sentences {
        let who = one(&WHO);
        let sentence = match one(&["did", "felt", "verb"]) {
            "did" => format!("{who} {} {} .", one(&DID), one(&WHERE)),
            "felt" => format!("{who} was {} .", one(&FELT)),
            _ => format!("{who} {} {} .", one(&VERB), one(&WHO)),
        };
        text = text + &sentence + " ";
    }
    text.truncate(text.trim_end().len());
    text
}

/// All words, after the special tokens.
fn words() -> Vec<String> {
    let phrases = WHO
        .iter()
        .chain(&WHERE)
        .chain(&DID)
        .chain(&FELT)
        .chain(&VERB);
    let mut words: Vec<String> = phrases
        .flat_map(|p| p.split(' '))
        .chain(["was", "."])
        .map(String::from)
        .collect();
    words.sort();
    words.dedup();
    SPECIAL.iter().map(|s| s.to_string()).chain(words).collect()
}

fn write_tokenizer(dir: &Path) -> crate::Result<()> {
    let vocabulary: Map<_, _> = (words().into_iter().enumerate())
        .map(|(i, word)| (word, json!(i)))
        .collect();
    let special = SPECIAL.iter().enumerate().map(|(id, content)| {
        json!({"id": id, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
    });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": special.collect::<Vec<_>>(),
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": SPECIAL[0]},
    });
    let special = json!({"bos_token": SPECIAL[1], "eos_token": SPECIAL[2]});
    for (name, contents) in [
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", special),
    ] {
        let path = dir.join(name);
        fs::write(&path, contents.to_string()).map_err(crate::Error::io(&path, "write to"))?;
    }
    Ok(())
}

/// A Llama of two blocks that has read the stories, for a folder with a tokenizer.
fn train(dir: &Path, key: u64, observer: &dyn Observer) -> crate::Result<Decoder> {
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": words().len(),
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": false,
        "bos_token_id": 1, "eos_token_id": 2,
    });
    let path = dir.join("config.json");
    fs::write(&path, config.to_string()).map_err(crate::Error::io(&path, "write to"))?;
    let tokenizer = Tokenizer::load(dir)?;
    let mut examples = Vec::new();
    for row in 0..STORIES {
        let mut tokens = vec![1];
        tokens.extend(tokenizer.encode(&story(&mut Stream::new(key, Purpose::Responses, row)))?);
        tokens.push(2);
        let sequence = Sequence::new(tokens, 1)?;
        let responses = vec![Response::new(sequence, 0.0)];
        examples.push(Example {
            row,
            responses,
            beside: Beside::default(),
        });
    }
    let model = Decoder::from_config(&path, key, DType::F32, &Device::Cpu)?;
    let settings = Settings {
        objective: Some("sft".into()),
        lr: Some(3e-3),
        batch: 32,
        epochs: 2.0,
        warmup: 0.1,
        seed: key,
        ..Settings::default()
    }
    .resolve()?;
    let plan = Batches::new(&settings, model.sizes().context, &examples)?;
    let steps = plan.steps();
    let copy = model.copy()?;
    let mut trainer = Trainer::new(&settings, plan, Box::new(copy), None, Reference::None)?;
    let work = observer.begin("tiny model", steps);
    for _ in 0..steps {
        trainer.step(None)?;
        work.advance(1);
    }
    drop(work);
    trainer.policy.model.decoder().copy()
}
