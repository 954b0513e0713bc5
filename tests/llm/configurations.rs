//! Configurations: what we cannot honour is refused by name, what changes nothing is accepted.

use candle_core::{DType, Device};
use pistar::llm::internals::tensor::ops::Activation;
use pistar::llm::model::config::Config;
use pistar::llm::model::decoder::Decoder;
use serde_json::{Value, json};

use crate::fixtures::{Expected, folder};

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
            json!("falcon"),
            "llama, mistral, qwen2, gemma, gpt2",
        ),
        ("llama", "hidden_act", json!("relu6"), "silu"),
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
        ("llama", "num_hidden_layers", json!(0), "from 1 to 10000"),
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
            json!("relu6"),
            "gelu_pytorch_tanh",
        ),
        ("gemma", "use_bidirectional_attention", json!(true), "false"),
        ("gpt2", "activation_function", json!("relu6"), "gelu_new"),
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
fn activations_have_their_names() {
    for (name, wanted) in [
        ("relu", Activation::Relu),
        ("silu", Activation::Silu),
        ("gelu", Activation::Gelu),
        ("gelu_new", Activation::GeluTanh),
    ] {
        let read = config("llama", "hidden_act", json!(name)).unwrap();
        assert_eq!(read.architecture().unwrap().activation, wanted);
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
            changed.architecture(),
            plain.architecture(),
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
            .map(|c| c.architecture().unwrap().window)
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
        Config::new(fields).unwrap().architecture().unwrap().clone()
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
