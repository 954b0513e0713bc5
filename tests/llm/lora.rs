//! Low-rank adapters: PEFT's numbers and files, frozen bases, merging.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use pistar::llm::internals::tensor::tape::{LeafGradients, Tape};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::ScalarHead;
use pistar::llm::model::lora::{AdapterConfig, Target};
use pistar::llm::model::sequence::Predictions;
use serde_json::{Value, json};

use crate::fixtures::{Expected, folder, largest, models, numbers};

/// Adapters made by peft, and their bases.
const ADAPTERS: [(&str, &str); 7] = [
    ("lora-bloom", "bloom"),
    ("lora-gptj", "gptj"),
    ("lora-llama", "llama"),
    ("lora-all", "qwen2"),
    ("lora-regex", "mistral"),
    ("lora-gpt2", "gpt2"),
    ("lora-head", "llama"),
];

fn load(name: &str, dtype: DType) -> Decoder {
    Decoder::load(folder(name), dtype, &Device::Cpu).unwrap()
}

fn adapted(adapter: &str, base: &str, dtype: DType) -> Decoder {
    let mut model = load(base, dtype);
    model.load_adapter(folder(adapter)).unwrap();
    model
}

fn logits(model: &Decoder) -> Vec<f64> {
    numbers(&model.logits(&Expected::of("llama").packed()).unwrap())
}

fn names(list: &[&str]) -> Target {
    Target::Names(list.iter().map(|&n| n.into()).collect())
}

#[test]
fn peft_s_adapters_have_peft_s_logits() {
    for (adapter, base) in ADAPTERS {
        let model = adapted(adapter, base, DType::F32);
        let [logits, sums] = Expected::of(adapter).errors(&model);
        println!("{adapter:12} logits {logits:.1e}  sums {sums:.1e}");
        assert!(logits < 1e-5 && sums < 1e-4, "{adapter}: {logits} {sums}");
        // And they differ from the base's.
        let [base, _] = Expected::of(adapter).errors(&load(base, DType::F32));
        assert!(base > 0.1, "{adapter}: {base}");
    }
}

#[test]
fn merged_is_unmerged_and_saves_as_a_plain_model() {
    for (adapter, base) in ADAPTERS {
        let model = adapted(adapter, base, DType::F64);
        let apart = logits(&model);
        let merged = model.merge().unwrap();
        assert!(merged.adapter().is_none());
        assert!(merged.parameters().iter().all(|p| p.trainable), "{adapter}");
        let error = largest(&logits(&merged), &apart);
        assert!(error < 1e-12, "{adapter}: {error}");
        let dir = tempfile::tempdir().unwrap();
        merged.save(dir.path(), &Default::default()).unwrap();
        let again = Decoder::load(dir.path(), DType::F64, &Device::Cpu).unwrap();
        assert_eq!(logits(&again), logits(&merged), "{adapter}");
    }
}

#[test]
fn what_is_saved_is_what_peft_wrote() {
    let keys = |dir: &Path| {
        let bytes = fs::read(dir.join("adapter_model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut all: Vec<_> = (tensors.tensors().into_iter())
            .filter(|(name, _)| !name.contains("base_layer"))
            .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
            .collect();
        all.sort();
        all
    };
    for (adapter, base) in ADAPTERS {
        let model = adapted(adapter, base, DType::F32);
        let dir = tempfile::tempdir().unwrap();
        model.save_adapter(dir.path()).unwrap();
        assert!(keys(dir.path()) == keys(&folder(adapter)), "{adapter}");
        let read = |dir: &Path| -> Value {
            let text = fs::read(dir.join("adapter_config.json")).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let (ours, theirs) = (read(dir.path()), read(&folder(adapter)));
        for field in [
            "peft_type",
            "r",
            "lora_alpha",
            "lora_dropout",
            "bias",
            "task_type",
            "base_model_name_or_path",
            "use_rslora",
            "fan_in_fan_out",
            "modules_to_save",
        ] {
            let number = |v: &Value| v.as_f64();
            let same = ours[field] == theirs[field]
                || number(&ours[field]).is_some() && number(&ours[field]) == number(&theirs[field]);
            assert!(
                same,
                "{adapter}: {field} is {} for {}",
                ours[field], theirs[field]
            );
        }
        let targets = |config: &Value| -> Vec<Value> {
            let mut list = match &config["target_modules"] {
                Value::Array(list) => list.clone(),
                // We list what a pattern matched.
                _ => vec![
                    json!("model.layers.1.mlp.gate_proj"),
                    json!("model.layers.1.mlp.up_proj"),
                ],
            };
            list.sort_by_key(Value::to_string);
            list
        };
        assert_eq!(targets(&ours), targets(&theirs), "{adapter}");
        let mut again = load(base, DType::F32);
        again.load_adapter(dir.path()).unwrap();
        assert_eq!(logits(&again), logits(&model));
    }
}

#[test]
fn a_new_adapter_changes_nothing_and_trains_alone() {
    for base in models() {
        let mut model = load(base, DType::F64);
        let before = logits(&model);
        let config = AdapterConfig::new(2, 4.0, Target::AllLinear);
        model.add_adapter(config.clone(), 5).unwrap();
        assert_eq!(logits(&model), before);
        let mut twin = load(base, DType::F64);
        twin.add_adapter(config, 5).unwrap();
        for (p, q) in model.parameters().iter().zip(twin.parameters().iter()) {
            let lora = p.name.contains(".lora_");
            assert_eq!(p.trainable, lora, "{}", p.name);
            let values = numbers(&p.tensor);
            assert_eq!(values, numbers(&q.tensor), "{}", p.name);
            if p.name.ends_with("lora_A.weight") {
                let bound = (p.tensor.dims()[1] as f64).sqrt().recip();
                let top = values.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
                assert!(top <= bound && top > 0.5 * bound, "{}: {top}", p.name);
            }
        }
    }
}

#[test]
fn gradients_of_an_adapter_are_those_of_finite_differences() {
    for (adapter, base) in ADAPTERS {
        let mut model = adapted(adapter, base, DType::F64);
        if adapter == "lora-all" {
            // It was made with dropout, and is not trained.
            let error = model.train_adapter().unwrap_err().to_string();
            assert!(
                error.contains("lora_dropout") && error.contains("0.1"),
                "{error}"
            );
            continue;
        }
        model.train_adapter().unwrap();
        let sequences = Expected::of("llama").sequences();
        let predictions = Predictions::new(&sequences.iter().collect::<Vec<_>>());
        let total = |model: &Decoder| -> f64 {
            numbers(
                model
                    .log_probs(&Tape::idle(), &predictions)
                    .unwrap()
                    .value(),
            )
            .iter()
            .sum()
        };
        let tape = Tape::recording(model.parameters().len());
        let mut leaves = LeafGradients::new(model.parameters().len());
        let node = model.log_probs(&tape, &predictions).unwrap();
        let ones = node.value().ones_like().unwrap();
        tape.backward([(node, ones)], &mut leaves).unwrap();
        let h = 1e-5;
        for index in 0..model.parameters().len() {
            let parameter = model.parameters().iter().nth(index).unwrap();
            let (name, dims) = (parameter.name.clone(), parameter.tensor.dims().to_vec());
            let Some(gradient) = leaves.get(index) else {
                assert!(!parameter.trainable, "{adapter}: {name} has no gradient");
                continue;
            };
            assert!(parameter.trainable, "{adapter}: {name} is frozen");
            let (gradient, original) = (numbers(gradient), numbers(&parameter.tensor));
            assert!(gradient.iter().all(|&g| g != 0.0), "{adapter}: {name}");
            for entry in [0, original.len() / 2, original.len() - 1] {
                let mut at = |shift: f64| {
                    let mut moved = original.clone();
                    moved[entry] += shift;
                    let moved = Tensor::from_vec(moved, dims.as_slice(), &Device::Cpu).unwrap();
                    model.parameters_mut().set(&name, &moved).unwrap();
                    total(&model)
                };
                let slope = (at(h) - at(-h)) / (2.0 * h);
                at(0.0);
                let error = (slope - gradient[entry]).abs() / slope.abs().max(1.0);
                assert!(
                    error < 1e-7,
                    "{adapter}: {name}[{entry}]: {} for {slope}",
                    gradient[entry]
                );
            }
        }
    }
}

#[test]
fn the_reference_of_an_adapter_is_its_base() {
    let mut model = load("llama", DType::F64);
    let before = logits(&model);
    assert!(model.base().is_err());
    model.load_adapter(folder("lora-llama")).unwrap();
    assert!(model.parameters().iter().all(|p| !p.trainable));
    // A base that is trained too is no reference.
    model
        .parameters_mut()
        .iter_mut()
        .for_each(|p| p.trainable = true);
    let error = model.base().unwrap_err().to_string();
    assert!(error.contains("model.embed_tokens.weight"), "{error}");
    model.train_adapter().unwrap();
    let base = model.base().unwrap();
    assert!(base.adapter().is_none());
    assert!(base.parameters().iter().all(|p| !p.trainable));
    assert_eq!(logits(&base), before);
    assert_ne!(logits(&model), before);
    // A copy is apart: what is done to one is not seen by the other.
    let copy = model.copy().unwrap();
    let (after, id) = (
        logits(&copy),
        copy.parameters().find("model.norm.weight").unwrap(),
    );
    let tensor = &copy.parameters().get(id).tensor;
    pistar::llm::internals::tensor::ops::add_in_place(tensor, &tensor.ones_like().unwrap())
        .unwrap();
    assert_ne!(logits(&copy), after);
    assert_eq!(logits(&model), after);
}

#[test]
fn a_reward_head_is_trained_and_saved_with_its_adapter() {
    let make = || {
        let mut body = Decoder::load_body(folder("reward"), DType::F64, &Device::Cpu).unwrap();
        ScalarHead::Reward
            .load(&mut body, folder("reward"))
            .unwrap();
        body
    };
    let mut model = make();
    let config = AdapterConfig::new(2, 2.0, names(&["q_proj", "v_proj"]));
    model.add_adapter(config, 1).unwrap();
    let trained: Vec<_> = (model.parameters().iter())
        .filter(|p| p.trainable)
        .map(|p| p.name.clone())
        .collect();
    assert_eq!(trained.len(), 5, "{trained:?}");
    assert!(trained.contains(&"score.weight".into()), "{trained:?}");
    let score = Tensor::full(0.5, (1, 16), &Device::Cpu).unwrap();
    model.parameters_mut().set("score.weight", &score).unwrap();
    let dir = tempfile::tempdir().unwrap();
    model.save_adapter(dir.path()).unwrap();
    let mut again = make();
    again.load_adapter(dir.path()).unwrap();
    let id = again.parameters().find("score.weight").unwrap();
    assert_eq!(numbers(&again.parameters().get(id).tensor), vec![0.5; 16]);
    let merged = again.merge().unwrap();
    let id = merged.parameters().find("score.weight").unwrap();
    assert_eq!(numbers(&merged.parameters().get(id).tensor), vec![0.5; 16]);
}

/// The error of loading an adapter of a fixture with one field changed.
fn spoiled(adapter: &str, base: &str, field: &str, value: Value) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(folder(adapter).join(file), dir.path().join(file)).unwrap();
    }
    let path = dir.path().join("adapter_config.json");
    let mut fields: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    fields[field] = value;
    fs::write(&path, fields.to_string()).unwrap();
    (load(base, DType::F32).load_adapter(dir.path())).map_err(|e| e.to_string())
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let cases = [
        ("peft_type", json!("IA3"), "LORA"),
        ("use_dora", json!(true), "not known"),
        ("bias", json!("lora_only"), "none"),
        ("lora_bias", json!(true), "not known"),
        ("rank_pattern", json!({"q_proj": 8}), "not known"),
        ("alpha_pattern", json!({"q_proj": 8}), "not known"),
        ("layers_to_transform", json!([0]), "not known"),
        ("exclude_modules", json!(["q_proj"]), "not known"),
        ("modules_to_save", json!(["embed_tokens"]), "score"),
        ("init_lora_weights", json!("pissa"), "gaussian"),
        ("target_modules", json!(null), "all-linear"),
        ("target_modules", json!(["embed_tokens"]), "q_proj"),
        ("target_modules", json!("(q_proj"), "regular expression"),
        ("target_modules", json!(["q_proj", "v_proj"]), "down_proj"),
        (
            "target_modules",
            json!(["q_proj", "v_proj", "down_proj", "up_proj"]),
            "up_proj",
        ),
        ("r", json!(4), "[4, 16]"),
        ("r", json!(0), "from 1 to"),
    ];
    for (field, value, remedy) in cases {
        let error = spoiled("lora-llama", "llama", field, value.clone()).expect_err(field);
        assert!(error.contains(remedy), "{field} = {value}: {error}");
    }
    // Same targets in other words; off; harmless.
    let fine = [
        ("target_modules", json!(r".*\.(q_proj|v_proj|down_proj)")),
        ("target_modules", json!(r"(?!.*embed).*\.(q|v|down)_proj")),
        ("lora_dropout", json!(0.3)),
        ("rank_pattern", json!({})),
        ("modules_to_save", json!([])),
        ("base_model_name_or_path", json!(null)),
    ];
    for (field, value) in fine {
        spoiled("lora-llama", "llama", field, value).unwrap();
    }
    // Another base: shapes or paths do not fit.
    assert!(
        spoiled("lora-llama", "gpt2", "r", json!(3))
            .unwrap_err()
            .contains("c_attn")
    );

    let mut model = load("llama", DType::F32);
    let error = |config, model: &mut Decoder| model.add_adapter(config, 1).unwrap_err().to_string();
    let typo = error(
        AdapterConfig::new(1, 1.0, names(&["q_proj", "k_prj"])),
        &mut model,
    );
    assert!(typo.contains("k_prj") && typo.contains("k_proj"), "{typo}");
    let mut dropout = AdapterConfig::new(1, 1.0, Target::AllLinear);
    dropout.dropout = 0.05;
    assert!(error(dropout, &mut model).contains("lora_dropout"));
    model
        .add_adapter(AdapterConfig::new(1, 1.0, Target::AllLinear), 1)
        .unwrap();
    let twice = error(AdapterConfig::new(1, 1.0, Target::AllLinear), &mut model);
    assert!(twice.contains("merge"), "{twice}");
    let dir = tempfile::tempdir().unwrap();
    let whole = model
        .save(dir.path(), &Default::default())
        .unwrap_err()
        .to_string();
    assert!(whole.contains("save_adapter"), "{whole}");

    // A tied output head can be adapted, but not merged.
    let mut tied = load("qwen2", DType::F64);
    tied.add_adapter(AdapterConfig::new(1, 1.0, names(&["lm_head"])), 1)
        .unwrap();
    let error = tied.merge().unwrap_err().to_string();
    assert!(error.contains("embedding"), "{error}");
}
