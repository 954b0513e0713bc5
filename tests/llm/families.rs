//! Every family trains, and configurations that we cannot honour are refused by name.

use candle_core::{DType, Device, Tensor};
use pistar::llm::config::Config;
use pistar::llm::decoder::Decoder;
use pistar::llm::heads::{PolicyWithValue, ScalarHead, Scorer};
use pistar::llm::network::Network;
use pistar::llm::sequence::Sequence;
use pistar::llm::tape::{LeafGradients, Tape};
use pistar::random::{Purpose, Stream};
use serde_json::{Value, json};

use crate::fixtures::{self, Expected, MODELS, folder, numbers};

/// A number of a network that weighs every piece differently, and its gradient if asked for.
fn weighed(network: &dyn Network, sequences: &[Sequence], gradient: bool) -> (f64, LeafGradients) {
    let mut leaves = LeafGradients::new(network.leaves());
    let tape = match gradient {
        true => Tape::recording(network.leaves()),
        false => Tape::idle(),
    };
    let sequences: Vec<_> = sequences.iter().collect();
    let output = network.forward(&tape, &sequences).unwrap();
    let mut total = 0.0;
    let mut seeds = Vec::new();
    for node in std::iter::once(output.pieces).chain(output.values) {
        let pieces = numbers(node.value());
        let weights: Vec<f64> = (0..pieces.len())
            .map(|i| (i as f64 * 0.7).sin() + 0.3)
            .collect();
        total += pieces.iter().zip(&weights).map(|(p, w)| p * w).sum::<f64>();
        let weights = Tensor::new(weights, &Device::Cpu).unwrap();
        seeds.push((
            node.clone(),
            weights.to_dtype(node.value().dtype()).unwrap(),
        ));
    }
    if gradient {
        tape.backward(seeds, &mut leaves).unwrap();
    }
    (total, leaves)
}

/// Every tensor's gradient is there and not 0, and a sample of its entries is the slope of central
/// differences.
fn check<N: Network>(what: &str, network: &mut N, decoder: fn(&mut N) -> &mut Decoder) {
    let sequences = Expected::of("llama").sequences();
    let (_, gradients) = weighed(network, &sequences, true);
    let h = 1e-5;
    let count = decoder(network).parameters().len();
    let mut stream = Stream::new(1, Purpose::Order, 0);
    let mut checked = 0;
    for index in 0..count {
        let parameter = decoder(network).parameters().iter().nth(index).unwrap();
        let (name, tensor) = (parameter.name.clone(), parameter.tensor.clone());
        let gradient = gradients.get(index);
        let gradient = numbers(gradient.unwrap_or_else(|| panic!("{what}: {name} has none")));
        let original = numbers(&tensor);
        let size = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        if what.starts_with("gpt2") && name.ends_with("k_proj.bias") {
            // It adds the same to all scores of a query, which softmax does not see. (Rotary
            // embedding turns it differently at each position.)
            assert!(size < 1e-12, "{what}: {name} has gradient {size}");
            continue;
        }
        assert!(size > 1e-6, "{what}: {name}'s gradient is at most {size}");
        // A token or position that stands nowhere has none in an embedding that is no head.
        let share = gradient.iter().filter(|g| **g != 0.0).count() as f64 / gradient.len() as f64;
        let enough = if name.contains("embed_") { 0.1 } else { 0.9 };
        assert!(
            share > enough,
            "{what}: only {share} of {name}'s gradient is not 0"
        );
        for _ in 0..4 {
            let entry = stream.below(original.len() as u32) as usize;
            let mut at = |shift: f64| {
                let mut moved = original.clone();
                moved[entry] += shift;
                let moved = Tensor::from_vec(moved, tensor.dims(), &Device::Cpu).unwrap();
                let parameters = decoder(network).parameters_mut();
                parameters.set(&name, &moved).unwrap();
                weighed(network, &sequences, false).0
            };
            let slope = (at(h) - at(-h)) / (2.0 * h);
            at(0.0);
            let error = (slope - gradient[entry]).abs() / slope.abs().max(1.0);
            assert!(
                error < 1e-7,
                "{what}: {name}[{entry}]: {} for {slope}",
                gradient[entry]
            );
            checked += 1;
        }
    }
    println!("{what}: {checked} entries of {count} tensors");
    assert!(checked >= 4 * (count - 2));
}

#[test]
fn every_tensor_of_every_family_has_the_gradient_of_finite_differences() {
    for name in MODELS {
        let mut model = Decoder::load(folder(name), DType::F64, &Device::Cpu).unwrap();
        check(name, &mut model, |m| m);
    }
}

#[test]
fn so_have_scalar_heads_and_what_is_below_them() {
    for name in MODELS {
        for head in ScalarHead::ALL {
            let mut decoder = Decoder::load_body(folder(name), DType::F64, &Device::Cpu).unwrap();
            head.add(&mut decoder, 1).unwrap();
            let mut scorer = Scorer { decoder, head };
            check(&format!("{name} {head:?}"), &mut scorer, |s| &mut s.decoder);
        }
        let mut decoder = Decoder::load(folder(name), DType::F64, &Device::Cpu).unwrap();
        ScalarHead::Value.add(&mut decoder, 1).unwrap();
        let mut shared = PolicyWithValue(decoder);
        check(&format!("{name} shared"), &mut shared, |s| &mut s.0);
    }
}

#[test]
fn a_random_model_follows_its_configuration() {
    for name in MODELS {
        let path = folder(name).join("config.json");
        let make = |seed| Decoder::from_config(&path, seed, DType::F64, &Device::Cpu).unwrap();
        let (model, again, other) = (make(1), make(1), make(2));
        let config = Config::read(&path).unwrap();
        let mut matrices: Vec<f64> = Vec::new();
        let mut residual: Vec<f64> = Vec::new();
        for ((p, q), r) in (model.parameters().iter().zip(again.parameters().iter()))
            .zip(other.parameters().iter())
        {
            let values = numbers(&p.tensor);
            assert_eq!(values, numbers(&q.tensor), "{name}: {}", p.name);
            if p.tensor.rank() == 1 {
                let zero = p.name.ends_with("bias") || name == "gemma";
                let identity = if zero { 0.0 } else { 1.0 };
                assert!(values.iter().all(|&x| x == identity), "{name}: {}", p.name);
                continue;
            }
            assert_ne!(values, numbers(&r.tensor), "{name}: {}", p.name);
            match p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight") {
                true => residual.extend(values),
                false => matrices.extend(values.iter().filter(|x| **x != 0.0)),
            }
        }
        let deviation = |x: &[f64]| (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
        let smaller = if name == "gpt2" { 0.5 } else { 1.0 };
        for (values, wanted) in [(matrices, 0.02), (residual, 0.02 * smaller)] {
            // Standard error of a deviation from n draws: 1/√(2n) of it.
            let error = (deviation(&values) / wanted - 1.0).abs();
            let sigma = (2.0 * values.len() as f64).sqrt().recip();
            assert!(
                error < 4.0 * sigma,
                "{name}: off by {} standard errors",
                error / sigma
            );
        }
        // transformers begins the padding token's embedding at 0.
        let first = numbers(&model.parameters().iter().next().unwrap().tensor);
        let zeros = first
            .chunks(16)
            .filter(|row| row.iter().all(|&x| x == 0.0))
            .count();
        assert_eq!(zeros, usize::from(config.padding.is_some()), "{name}");
        assert_eq!(config.padding.is_some(), name == "gemma");
    }
}

#[test]
fn reward_models_score_as_in_transformers() {
    #[derive(serde::Deserialize)]
    struct Scores {
        sequences: Vec<Vec<u32>>,
        scores: Vec<f64>,
    }
    let expected: Scores = fixtures::json("reward/expected.json");
    let dir = folder("reward");
    let mut decoder = Decoder::load_body(&dir, DType::F32, &Device::Cpu).unwrap();
    let head = ScalarHead::Reward;
    head.load(&mut decoder, &dir).unwrap();
    let scores = |decoder, sequences: &[Vec<u32>]| {
        let scorer = Scorer { decoder, head };
        let sequences: Vec<_> = (sequences.iter())
            .map(|tokens| Sequence::new(tokens.clone(), 1).unwrap())
            .collect();
        let sequences: Vec<_> = sequences.iter().collect();
        let output = scorer.forward(&Tape::idle(), &sequences).unwrap();
        (numbers(output.pieces.value()), scorer.decoder)
    };
    let (found, decoder) = scores(decoder, &expected.sequences);
    assert!(fixtures::largest(&found, &expected.scores) < 1e-5);
    // Saved and loaded again, and a score depends on nothing but its own sequence.
    let dir = tempfile::tempdir().unwrap();
    decoder.save(dir.path(), &Default::default()).unwrap();
    let config = Config::read(dir.path().join("config.json")).unwrap();
    assert_eq!(
        config.fields["architectures"],
        json!(["LlamaForSequenceClassification"])
    );
    let mut again = Decoder::load_body(dir.path(), DType::F32, &Device::Cpu).unwrap();
    head.load(&mut again, dir.path()).unwrap();
    let (alone, _) = scores(again, &expected.sequences[2..3]);
    assert!((alone[0] - found[2]).abs() < 1e-6);
}

#[test]
fn a_value_reads_the_prompt_only() {
    let mut decoder = Decoder::load(folder("llama"), DType::F64, &Device::Cpu).unwrap();
    ScalarHead::Value.add(&mut decoder, 3).unwrap();
    let values = |model: &PolicyWithValue, tokens: &[u32]| {
        let sequence = Sequence::new(tokens.to_vec(), 3).unwrap();
        let output = model.forward(&Tape::idle(), &[&sequence]).unwrap();
        numbers(output.values.unwrap().value())[0]
    };
    let shared = PolicyWithValue(decoder);
    let value = values(&shared, &[1, 5, 6, 7, 8]);
    assert_eq!(value, values(&shared, &[1, 5, 6, 9]));
    assert_ne!(value, values(&shared, &[1, 5, 7, 7, 8]));
    let apart = Scorer {
        decoder: shared.0,
        head: ScalarHead::Value,
    };
    let sequence = Sequence::new(vec![1, 5, 6, 7, 8], 3).unwrap();
    let output = apart.forward(&Tape::idle(), &[&sequence]).unwrap();
    assert!((numbers(output.pieces.value())[0] - value).abs() < 1e-14);
    // Saved beside the language model, which stays one.
    let dir = tempfile::tempdir().unwrap();
    apart.decoder.save(dir.path(), &Default::default()).unwrap();
    let mut again = Decoder::load(dir.path(), DType::F64, &Device::Cpu).unwrap();
    ScalarHead::Value.load(&mut again, dir.path()).unwrap();
    assert_eq!(values(&PolicyWithValue(again), &[1, 5, 6, 7, 8]), value);
}

/// A configuration of a fixture with one field changed.
fn config(name: &str, field: &str, value: Value) -> Result<Config, String> {
    let mut fields = Config::read(folder(name).join("config.json"))
        .unwrap()
        .fields;
    fields.insert(field.into(), value);
    Config::new(fields).map_err(|e| e.to_string())
}

#[test]
fn what_would_change_the_arithmetic_is_refused_by_name() {
    let cases = [
        (
            "llama",
            "model_type",
            json!("mamba"),
            "llama, mistral, qwen2, gemma, gpt2",
        ),
        (
            "llama",
            "model_type",
            json!("qwen3"),
            "llama, mistral, qwen2, gemma, gpt2",
        ),
        ("llama", "hidden_act", json!("relu"), "silu"),
        ("llama", "pretraining_tp", json!(2), "1"),
        ("llama", "partial_rotary_factor", json!(0.5), "1"),
        ("llama", "logit_scale", json!(0.0625), "not known for llama"),
        ("llama", "final_logit_softcapping", json!(30.0), "not known"),
        ("llama", "attention_multiplier", json!(0.1), "not known"),
        ("llama", "sliding_window", json!(64), "null"),
        (
            "llama",
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "full_attention",
        ),
        (
            "llama",
            "quantization_config",
            json!({"bits": 4}),
            "plain weights",
        ),
        (
            "llama",
            "rope_scaling",
            json!({"rope_type": "yarn", "factor": 2.0}),
            "llama3",
        ),
        (
            "llama",
            "rope_scaling",
            json!({"rope_type": "longrope", "factor": 2.0}),
            "llama3",
        ),
        (
            "llama",
            "rope_scaling",
            json!({"type": "linear"}),
            "missing",
        ),
        (
            "llama",
            "rope_scaling",
            json!({"type": "linear", "factor": 2.0, "mystery": 1}),
            "not known",
        ),
        (
            "llama",
            "rope_parameters",
            json!({"full_attention": {}}),
            "not known",
        ),
        ("llama", "num_key_value_heads", json!(3), "divide"),
        ("llama", "head_dim", json!(5), "even"),
        ("llama", "hidden_size", json!("16"), "whole number"),
        ("llama", "num_hidden_layers", json!(0), "above 0"),
        ("llama", "rms_norm_eps", json!(-1.0), "not below 0"),
        ("llama", "tie_word_embeddings", json!("no"), "true or false"),
        ("llama", "is_encoder_decoder", json!(true), "false"),
        ("mistral", "attention_bias", json!(true), "false"),
        (
            "mistral",
            "layer_types",
            json!(["full_attention", "full_attention"]),
            "sliding_window",
        ),
        ("qwen2", "attention_bias", json!(false), "true"),
        (
            "qwen2",
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "2 times",
        ),
        ("gemma", "hidden_act", json!("silu_and_mul"), "gelu"),
        (
            "gemma",
            "hidden_activation",
            json!("relu"),
            "gelu_pytorch_tanh",
        ),
        ("gemma", "use_bidirectional_attention", json!(true), "false"),
        ("gpt2", "activation_function", json!("relu"), "gelu_new"),
        (
            "gpt2",
            "scale_attn_by_inverse_layer_idx",
            json!(true),
            "false",
        ),
        ("gpt2", "scale_attn_weights", json!(false), "true"),
        ("gpt2", "reorder_and_upcast_attn", json!(true), "false"),
        ("gpt2", "n_embd", json!(18), "n_head"),
        ("gpt2", "rope_theta", json!(1e4), "not known for gpt2"),
    ];
    for (name, field, value, remedy) in cases {
        let error = config(name, field, value.clone()).expect_err(field);
        let leaf = field.rsplit('.').next().unwrap();
        assert!(
            error.contains(leaf) && error.contains(remedy),
            "{field} = {value}: {error}"
        );
    }
}

#[test]
fn what_changes_nothing_is_accepted() {
    let same = [
        ("llama", "_name_or_path", json!("somewhere")),
        ("llama", "use_cache", json!(false)),
        ("llama", "temperature", json!(0.6)),
        ("llama", "eos_token_id", json!([2, 3])),
        ("llama", "attention_dropout", json!(0.1)),
        ("llama", "partial_rotary_factor", json!(1)),
        (
            "llama",
            "layer_types",
            json!(["full_attention", "full_attention"]),
        ),
        ("llama", "rope_scaling", json!({"rope_type": "default"})),
        (
            "llama",
            "rope_scaling",
            json!({"type": "dynamic", "factor": 2.0}),
        ),
        ("llama", "anything", Value::Null),
        (
            "mistral",
            "layer_types",
            json!(["sliding_attention", "sliding_attention"]),
        ),
        ("qwen2", "sliding_window", json!(8)),
        ("gemma", "hidden_act", json!("gelu_pytorch_tanh")),
        ("gpt2", "n_ctx", json!(32)),
        ("gpt2", "n_inner", json!(64)),
    ];
    for (name, field, value) in same {
        let plain = Config::read(folder(name).join("config.json")).unwrap();
        let changed = config(name, field, value.clone()).unwrap();
        assert_eq!(
            changed.architecture, plain.architecture,
            "{field} = {value}"
        );
        assert_eq!(changed.fields[field], value);
    }
}

#[test]
fn qwen2_slides_where_all_layers_do_or_none() {
    let window = |changes: Value| {
        let mut fields = Config::read(folder("qwen2").join("config.json"))
            .unwrap()
            .fields;
        fields.remove("layer_types");
        fields.insert("sliding_window".into(), json!(8));
        fields.insert("use_sliding_window".into(), json!(true));
        for (name, value) in changes.as_object().unwrap() {
            fields.insert(name.clone(), value.clone());
        }
        Config::new(fields)
            .map(|c| c.architecture.window)
            .map_err(|e| e.to_string())
    };
    assert_eq!(window(json!({"max_window_layers": 2})), Ok(None));
    assert_eq!(window(json!({"max_window_layers": 0})), Ok(Some(8)));
    assert_eq!(
        window(json!({"use_sliding_window": false, "max_window_layers": 0})),
        Ok(None)
    );
    let sliding = json!(["sliding_attention", "sliding_attention"]);
    assert_eq!(window(json!({"layer_types": sliding})), Ok(Some(8)));
    assert!(
        window(json!({"max_window_layers": 1}))
            .unwrap_err()
            .contains("max_window_layers")
    );
    assert!(window(json!({"layer_types": sliding, "sliding_window": null})).is_err());
}

#[test]
fn the_window_bites() {
    // Otherwise parity would say nothing about it.
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(folder("mistral").join(file), dir.path().join(file)).unwrap();
    }
    let fields = config("mistral", "sliding_window", Value::Null)
        .unwrap()
        .fields;
    std::fs::write(
        dir.path().join("config.json"),
        Value::from(fields).to_string(),
    )
    .unwrap();
    let open = Decoder::load(dir.path(), DType::F32, &Device::Cpu).unwrap();
    let [logits, _] = Expected::of("mistral").errors(&open);
    assert!(logits > 0.01, "{logits}");
}

#[test]
fn published_configurations_are_read() {
    let llama = json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 11008, "max_position_embeddings": 2048, "num_attention_heads": 32,
        "num_hidden_layers": 32, "rms_norm_eps": 1e-6, "torch_dtype": "float16", "use_cache": true,
        "transformers_version": "4.28.1", "vocab_size": 32000, "tie_word_embeddings": false});
    let with = |base: &Value, changes: Value| {
        let mut fields = base.as_object().unwrap().clone();
        fields.extend(changes.as_object().unwrap().clone());
        Config::new(fields).unwrap().architecture
    };
    // Llama 1 and 2, with what conversions left in them.
    let one = with(
        &llama,
        json!({"max_sequence_length": 2048, "pad_token_id": 0}),
    );
    assert_eq!(
        (one.kv_heads, one.head_dim, one.tied, one.window),
        (32, 128, false, None)
    );
    let two = with(
        &llama,
        json!({"_name_or_path": "meta-llama/Llama-2-7b-hf", "pretraining_tp": 1,
        "num_key_value_heads": 32, "rope_scaling": null, "max_position_embeddings": 4096}),
    );
    assert_eq!(two.positions, one.positions);
    // Llama 3.2 and SmolLM2.
    let three = with(
        &llama,
        json!({"attention_bias": false, "attention_dropout": 0.0, "mlp_bias": false,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
        "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072,
        "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-5,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "vocab_size": 128256}),
    );
    assert_eq!((three.kv_heads, three.head_dim, three.tied), (8, 64, true));
    with(
        &llama,
        json!({"is_llama_config": true, "rope_interleaved": false, "rope_theta": 130000,
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}}),
    );
    // Mistral 0.1 and 0.3.
    let mistral = json!({"model_type": "mistral", "num_key_value_heads": 8, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 10000.0});
    let mistral: Value = {
        let mut fields = llama.as_object().unwrap().clone();
        fields.extend(mistral.as_object().unwrap().clone());
        fields.into()
    };
    assert_eq!(
        with(&mistral, json!({"sliding_window": 4096})).window,
        Some(4096)
    );
    let later = json!({"sliding_window": null, "rope_theta": 1000000.0, "attention_dropout": 0.0});
    assert_eq!(with(&mistral, later).window, None);
    // Qwen 2.5.
    let qwen = with(
        &llama,
        json!({"model_type": "qwen2", "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151645, "hidden_size": 3584, "intermediate_size": 18944,
        "max_position_embeddings": 32768, "max_window_layers": 28, "num_attention_heads": 28,
        "num_hidden_layers": 28, "num_key_value_heads": 4, "rope_theta": 1000000.0,
        "sliding_window": 131072, "use_mrope": false, "use_sliding_window": false,
        "vocab_size": 152064}),
    );
    assert_eq!(
        (qwen.window, qwen.qkv_bias, qwen.output_bias),
        (None, true, false)
    );
    // Gemma 2b and 7b.
    for activation in [json!(null), json!("gelu_pytorch_tanh")] {
        let gemma = with(
            &llama,
            json!({"model_type": "gemma", "attention_bias": false,
            "attention_dropout": 0.0, "bos_token_id": 2, "eos_token_id": 1, "head_dim": 256,
            "hidden_act": "gelu", "hidden_activation": activation, "hidden_size": 3072,
            "intermediate_size": 24576, "max_position_embeddings": 8192, "num_attention_heads": 16,
            "num_hidden_layers": 28, "num_key_value_heads": 16, "pad_token_id": 0,
            "rope_scaling": null, "rope_theta": 10000.0, "vocab_size": 256000,
            "tie_word_embeddings": null}),
        );
        assert_eq!(gemma.embedding_scale, f64::from(3072f32.sqrt()));
        assert!(gemma.tied && gemma.gated);
    }
    // GPT-2 and DistilGPT-2.
    let gpt2 = json!({"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256,
        "initializer_range": 0.02, "layer_norm_epsilon": 1e-5, "model_type": "gpt2", "n_ctx": 1024,
        "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
        "summary_activation": null, "summary_first_dropout": 0.1, "summary_proj_to_labels": true,
        "summary_type": "cls_index", "summary_use_proj": true, "vocab_size": 50257,
        "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}});
    assert_eq!(with(&gpt2, json!({})).intermediate, 3072);
    let distilled = json!({"_num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "n_layer": 6});
    assert_eq!(with(&gpt2, distilled).layers, 6);
}
