//! The reference's numbers: computed once, the same as if they were computed every time, and
//! believed only if they are as they were written.

use std::fs;

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::network::Reduction;
use pistar::llm::model::sequence::Sequence;
use pistar::llm::train::reference::{Cache, FILE, Reference};
use pistar::llm::train::{Batches, Trainer, precompute};
use pistar::loss::InputKind;
use pistar::observer::Silent;

use crate::place::Place;
use crate::smoke::tiny;
use crate::train::{examples, settings};

fn decoder(seed: u64) -> Decoder {
    Decoder::random(tiny(), 0.3, seed, DType::F32, &Device::Cpu).unwrap()
}

fn sequences() -> Vec<Sequence> {
    let sequence = |tokens: &[u32], prompt| Sequence::new(tokens.into(), prompt).unwrap();
    vec![
        sequence(&[1, 5, 7, 3], 1),
        sequence(&[1, 5, 7, 3], 2),
        sequence(&[1, 2, 9, 4, 8, 0], 3),
    ]
}

fn cache(dir: &tempfile::TempDir) -> Cache {
    let path = dir.path().join(FILE);
    let mut cache = Cache::open("one".into(), &path).unwrap();
    cache.fill(&decoder(1), &sequences(), 100).unwrap();
    cache.save().unwrap();
    cache
}

#[test]
fn numbers_come_back_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    assert_eq!(cache.len(), 3);
    let again = Cache::open("one".into(), &dir.path().join(FILE)).unwrap();
    assert_eq!(cache, again);
    let live = Reference::Live(Box::new(decoder(1)));
    let cached = Reference::Cached(again);
    for reduction in [Reduction::Sum, Reduction::Mean] {
        let of = |reference: &Reference| reference.numbers(&sequences(), reduction, 100).unwrap();
        assert_eq!(of(&live), of(&cached));
        assert_ne!(of(&cached)[0], of(&cached)[1]);
    }
    let other = Sequence::new(vec![1, 5, 7, 4], 1).unwrap();
    let error = cached.numbers(&[other], Reduction::Sum, 100).unwrap_err();
    assert!(error.to_string().contains("lacks a response"), "{error}");
}

/// What a token weighs is not mistaken for further tokens: 0.0 has the bits of two tokens 0.
#[test]
fn weights_are_no_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let longer = Sequence::new(vec![1, 5, 7, 0, 0], 2).unwrap();
    let masked = Sequence::new(vec![1, 5, 7], 2).unwrap();
    let masked = masked.weighted(vec![0.0]).unwrap();
    let mut cache = Cache::open("one".into(), &dir.path().join(FILE)).unwrap();
    cache.fill(&decoder(1), &[longer, masked], 100).unwrap();
    assert_eq!(cache.len(), 2);
}

#[test]
fn numbers_of_another_model_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    cache(&dir);
    let other = Cache::open("two".into(), &dir.path().join(FILE)).unwrap();
    assert!(other.is_empty());
}

#[test]
fn a_changed_byte_anywhere_changes_no_number_unnoticed() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    let path = dir.path().join(FILE);
    let bytes = fs::read(&path).unwrap();
    let mut caught = 0;
    for i in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[i] ^= 1;
        fs::write(&path, &changed).unwrap();
        match Cache::open("one".into(), &path) {
            Err(error) => {
                let error = error.to_string();
                assert!(
                    error.contains(FILE) && error.contains("delete it"),
                    "{error}"
                );
                caught += 1;
            }
            Ok(other) => assert!(other.is_empty() || other == cache, "byte {i}"),
        }
    }
    // Keys and sums of three sequences are 72 bytes at the end.
    assert!(caught >= 72, "{caught}");
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(Cache::open("one".into(), &path).is_err(), "{length} bytes");
    }
}

#[test]
fn a_cache_is_what_the_loss_is_made_of() {
    let settings = settings("dpo").resolve().unwrap();
    let examples = examples(InputKind::LabelledPairs);
    let plan = || Batches::new(&settings, 32, &examples).unwrap();
    let loss = |reference| {
        let policy = Box::new(decoder(1));
        let mut trainer = Trainer::new(&settings, plan(), policy, None, reference).unwrap();
        trainer.step(None).unwrap().loss
    };
    // The numbers of another model under this one's name.
    let wrong = |network: &Decoder| {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = Cache::new("one".into(), &dir.path().join(FILE));
        precompute(&plan(), network, &mut cache, &Silent).unwrap();
        Reference::Cached(cache)
    };
    assert_eq!(loss(wrong(&decoder(1))), 2f64.ln());
    let other = loss(wrong(&decoder(2)));
    assert_eq!(other, loss(Reference::Live(Box::new(decoder(2)))));
    assert!((other - 2f64.ln()).abs() > 1e-3);
}

#[test]
fn a_run_refuses_a_changed_cache() {
    let place = Place::new(8);
    let all = |more: &[&'static str]| {
        let all = [
            "dpo",
            "--model",
            "model",
            "--data",
            "data.jsonl",
            "--lr",
            "1e-2",
        ];
        [&all, more].concat()
    };
    place.train(&all(&["--out", "run"]));
    let path = place.at("run/reference.safetensors");
    let bytes = fs::read(&path).unwrap();
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&path, &changed).unwrap();
    let error = place.refused(&all(&["--out", "run", "--overwrite"]));
    assert!(error.contains("not those that were written"), "{error}");
    assert!(error.contains("run/reference.safetensors"), "{error}");

    // Nothing was lost by the attempt.
    assert!(place.at("run/model").exists());
    fs::write(&path, &bytes).unwrap();

    // Numbers of other data are not found, and so computed.
    place.data("data.jsonl", 8, 2);
    place.train(&all(&["--out", "run", "--overwrite"]));
    assert_eq!(place.rows("run")[0]["loss"].as_f64(), Some(2f64.ln()));
}
