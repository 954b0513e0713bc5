//! Sizes that no model has: work is bounded, and no sum wraps (overflow panics in this build).

use std::fs;
use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use pistar::llm::internals::files::json::{self, Object};
use pistar::llm::internals::tools::plan::{Machine, Piece, Reference, Response, Role, Run};
use pistar::llm::model::architecture::most;
use pistar::llm::model::config::Config;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::lora::{AdapterConfig, Target};
use pistar::llm::model::network::ValueRows;
use pistar::llm::sample::generate::Draw;
use pistar::llm::train::Precision;
use pistar::random::{Purpose, Stream};
use serde_json::{Value, json};

use crate::fixtures::{folder, models};

/// Of these every number of a configuration is made.
fn extremes() -> Vec<Value> {
    let counts = [
        0,
        1,
        2,
        3,
        64,
        most::HEADS as u64,
        most::RANK as u64,
        most::WIDTH as u64,
        most::INNER as u64,
        most::VOCABULARY as u64,
        most::CONTEXT as u64,
        1 << 31,
        (1 << 31) - 1,
        1_000_000_000,
        u32::MAX.into(),
        1 << 53,
        1 << 63,
        u64::MAX,
    ];
    let others = [
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(1e-300),
        json!(-0.0),
    ];
    counts.into_iter().map(Value::from).chain(others).collect()
}

/// The fields of a configuration that are numbers.
fn numbers(config: &Object) -> Vec<String> {
    let all = config.iter().filter(|(_, value)| value.is_number());
    all.map(|(name, _)| name.clone()).collect()
}

/// What a run on that model takes, if the configuration is one.
fn take(config: &Config, stream: &mut Stream) -> u64 {
    let mut one_of = |count: u32| stream.below(count);
    let context = config.sizes().context;
    let tokens = [2, 300.min(context), context][one_of(3) as usize].max(2);
    // The most that a step is planned with.
    let count = ((1 << 34) / tokens).min([1, 3, 16][one_of(3) as usize]);
    let response = |i| Response {
        tokens,
        prompt: 1,
        shares: i % 2 == 1,
    };
    let piece = Piece {
        responses: (0..count.max(1)).map(response).collect(),
    };
    let rows = [ValueRows::Prompt, ValueRows::Completion][one_of(2) as usize];
    let rank = [1, 16, most::RANK][one_of(3) as usize];
    let draw = Draw {
        sequences: [1, 64, 1_000_000_000][one_of(3) as usize],
        samples: [1, 4, 1_000_000][one_of(3) as usize],
        prompt: 1,
        longest: tokens,
    };
    let run = Run {
        config: config.clone(),
        role: [Role::Policy, Role::PolicyWithValue(rows), Role::Score][one_of(3) as usize],
        value: (one_of(2) == 0).then_some(rows),
        reference: [Reference::None, Reference::Numbers, Reference::Live][one_of(3) as usize]
            .clone(),
        precision: [Precision::Bf16, Precision::F32, Precision::F64][one_of(3) as usize],
        adapter: (one_of(2) == 0).then(|| AdapterConfig::new(rank, 1.0, Target::AllLinear)),
        members: 1,
        goes_on: one_of(2) == 0,
        recompute: one_of(2) == 0,
        in_backward: one_of(2) == 0,
        micro_batch: [1, 4096, usize::MAX][one_of(3) as usize],
        one_step: one_of(2) == 0,
        draws: (one_of(2) == 0).then_some(draw).into_iter().collect(),
        evaluates_kl: one_of(2) == 0,
        machine: Machine::new(one_of(2) == 0),
    };
    let outcome = run.take(&[piece], &[]).unwrap();
    let entries = config
        .family
        .names
        .layout(&config.graph, run.role != Role::Score);
    let product = |shape: &Vec<usize>| shape.iter().map(|&n| n as u128).product::<u128>();
    let shapes = entries
        .iter()
        .flat_map(|entry| &entry.parts)
        .map(|(_, shape)| product(shape));
    let numbers: u128 = shapes.sum();
    let size = run.precision.dtype().size_in_bytes() as u128;
    assert!(u128::from(outcome.parameters) >= numbers);
    assert!(u128::from(outcome.bytes()) >= (numbers * size).min(u64::MAX.into()));
    outcome.bytes()
}

#[test]
fn no_number_of_a_configuration_makes_a_plan_wrap_or_hang() {
    let extremes = extremes();
    let (start, mut taken, mut refused) = (Instant::now(), 0, 0);
    for (index, name) in models().iter().enumerate() {
        let whole = json::read(&folder(name).join("config.json")).unwrap();
        let names = numbers(&whole);
        for mutant in 0..120 {
            let mut stream = Stream::new(mutant, Purpose::Problem, index as u64);
            let mut config = whole.clone();
            for _ in 0..1 + stream.below(3) {
                let field = &names[stream.below(names.len() as u32) as usize];
                let value = &extremes[stream.below(extremes.len() as u32) as usize];
                // Ten thousand blocks are walked once, below.
                let layers = ["num_hidden_layers", "n_layer"].contains(&field.as_str());
                if !layers || value.as_u64() != Some(most::LAYERS as u64) {
                    config.insert(field.clone(), value.clone());
                }
            }
            match Config::new(config) {
                Err(error) => {
                    assert!(error.to_string().len() < 400, "{error}");
                    refused += 1;
                }
                Ok(config) => {
                    take(&config, &mut stream);
                    taken += 1;
                }
            }
        }
    }
    println!("{taken} planned, {refused} refused, {:?}", start.elapsed());
    assert!(taken > 100 && refused > 100, "{taken} {refused}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn the_largest_model_of_all_is_planned() {
    let mut config = json::read(&folder("llama").join("config.json")).unwrap();
    for (field, value) in [
        ("hidden_size", most::WIDTH),
        ("intermediate_size", most::INNER),
        ("vocab_size", most::VOCABULARY),
        ("num_attention_heads", 8192),
        ("num_key_value_heads", 8192),
        ("head_dim", most::INNER / 8192),
        ("max_position_embeddings", most::CONTEXT),
        ("num_hidden_layers", 50),
    ] {
        config.insert(field.into(), value.into());
    }
    let config = Config::new(config).unwrap();
    let bytes: Vec<u64> = (0..20)
        .map(|seed| take(&config, &mut Stream::new(seed, Purpose::Problem, 99)))
        .collect();
    assert!(bytes.iter().all(|&bytes| bytes > 1 << 45), "{bytes:?}");
}

#[test]
fn what_no_model_has_is_refused_by_name_before_anything_is_listed() {
    let start = Instant::now();
    for (model, field, value) in [
        ("llama", "num_hidden_layers", 1_000_000_000_u64),
        ("llama", "num_hidden_layers", 10_001),
        ("gpt2", "n_layer", 1_000_000_000),
        ("llama", "num_attention_heads", 1 << 30),
        ("llama", "num_key_value_heads", 1 << 30),
        ("llama", "head_dim", 1 << 30),
        ("llama", "hidden_size", (1 << 31) - 1),
        ("llama", "vocab_size", (1 << 31) - 1),
        ("llama", "intermediate_size", 1 << 40),
        ("llama", "max_position_embeddings", u64::MAX),
        ("mistral", "sliding_window", u64::MAX),
        ("gpt2", "n_embd", 1 << 31),
        ("gpt2", "n_inner", 1 << 31),
        ("gpt2", "n_positions", 1 << 40),
    ] {
        let mut config = json::read(&folder(model).join("config.json")).unwrap();
        config.insert(field.into(), value.into());
        let error = Config::new(config).unwrap_err().to_string();
        assert!(
            error.contains(field) && error.contains(&value.to_string()),
            "{error}"
        );
        assert!(error.contains("from 1 to"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// The fixture llama with other weights.
fn with_weights(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let config = folder("llama").join("config.json");
    fs::copy(config, dir.path().join("config.json")).unwrap();
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    Decoder::load(dir.path(), DType::F32, &Device::Cpu)
        .unwrap_err()
        .to_string()
}

fn header(header: &str, data: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn sizes_in_weights_are_held_against_the_file() {
    let one = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(
            r#"{{"model.embed_tokens.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#
        )
    };
    let two = |a: [u64; 2], b: [u64; 2]| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[{},{}]}},"b":{{"dtype":"F32","shape":[2],"data_offsets":[{},{}]}}}}"#,
            a[0], a[1], b[0], b[1]
        )
    };
    let max = u64::MAX;
    let many = format!("[{}1]", "2,".repeat(80));
    let mut files = vec![
        header(&one("U8", &format!("[{max}]"), 0, max), 0),
        header(&one("F32", &format!("[{max}]"), 0, max), 0),
        header(&one("U8", &format!("[{}]", max - 200), 0, max - 200), 64),
        header(&one("F32", &format!("[{max},{max}]"), 0, 8), 8),
        header(&one("F32", &many, 0, 8), 8),
        header(&one("F32", "[2]", 8, 0), 8),
        header(&one("F32", "[2]", max, 8), 8),
        header(&one("F32", "[2]", 0, 8), 4),
        header(&one("F32", "[2]", 0, 8), 80),
        header(&one("F32", "[0,16]", 0, 0), 0),
        header(&one("F32", "[]", 0, 4), 4),
        header(&two([0, 8], [4, 12]), 12),
        header(&two([0, 8], [0, 8]), 8),
        header(&two([0, 8], [16, 24]), 24),
    ];
    for length in [1 << 63, max, max - 7, 100_000_001, 99_999_999] {
        files.push([&u64::to_le_bytes(length)[..], b"{}"].concat());
    }
    for (index, bytes) in files.iter().enumerate() {
        let error = with_weights(bytes);
        assert!(
            error.contains("model.safetensors") && error.len() < 600,
            "{index}: {error}"
        );
    }
}

#[test]
fn an_index_of_very_many_shards_is_read_no_further_than_the_first_that_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(
        folder("llama").join("config.json"),
        dir.path().join("config.json"),
    )
    .unwrap();
    let shards: Object = (0..100_000)
        .map(|i| (format!("t{i}"), json!(format!("{i:06}.safetensors"))))
        .collect();
    let index = json!({"weight_map": shards}).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let start = Instant::now();
    let error = Decoder::load(dir.path(), DType::F32, &Device::Cpu)
        .unwrap_err()
        .to_string();
    assert!(error.contains("000000.safetensors is missing"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
}
