//! Models' folders: what is written is what was read, and what is wrong is named.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use pistar::error::Result;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::saving::Saving;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::{Expected, folder, models, numbers};

fn load(dir: impl AsRef<Path>) -> Result<Decoder> {
    Decoder::load(dir, DType::F32, &Device::Cpu)
}

/// Names in a folder, sorted.
fn names(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = files
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// All tensors in the safetensors files of a folder.
fn tensors(dir: &Path) -> Tensors {
    let mut all = Tensors::new();
    for name in names(dir).iter().filter(|n| n.ends_with(".safetensors")) {
        let bytes = fs::read(dir.join(name)).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            assert!(all.insert(name, tensor).is_none());
        }
    }
    all
}

fn write(path: &Path, tensors: &Tensors) {
    let views = (tensors.iter()).map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

/// A copy of a fixture, to spoil.
fn copy(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in names(&folder(name)) {
        fs::copy(folder(name).join(&file), dir.path().join(&file)).unwrap();
    }
    dir
}

fn edit_config(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join("config.json");
    let mut fields = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut fields);
    fs::write(path, fields.to_string()).unwrap();
}

fn assert_says(error: impl ToString, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn what_is_saved_is_what_transformers_wrote() {
    for name in models() {
        let dir = tempfile::tempdir().unwrap();
        // Mistral's fixture is bf16.
        let dtype = (name == "mistral").then_some(DType::BF16);
        let saving = Saving {
            dtype,
            ..Saving::default()
        };
        load(folder(name))
            .unwrap()
            .save(dir.path(), &saving)
            .unwrap();
        assert!(tensors(dir.path()) == tensors(&folder(name)), "{name}");
        let config = |dir: &Path| -> Value {
            serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap()
        };
        assert_eq!(config(dir.path()), config(&folder(name)), "{name}");
        assert_eq!(names(dir.path()), ["config.json", "model.safetensors"]);
    }
}

#[test]
fn shards_hold_the_same_model_and_saving_again_leaves_no_older_file() {
    for name in models() {
        let dir = tempfile::tempdir().unwrap();
        let model = load(folder(name)).unwrap();
        let wanted = numbers(&model.logits(&Expected::of(name).packed()).unwrap());
        let same = |dir: &Path| {
            let found = load(dir)
                .unwrap()
                .logits(&Expected::of(name).packed())
                .unwrap();
            assert!(numbers(&found) == wanted, "{name}");
        };
        let sharded = |shard| Saving {
            shard,
            ..Saving::default()
        };
        model.save(dir.path(), &sharded(6_000)).unwrap();
        let many = names(dir.path());
        assert!(
            many.len() > 4 && !many.contains(&"model.safetensors".into()),
            "{many:?}"
        );
        for file in many.iter().filter(|n| n.ends_with(".safetensors")) {
            let size = fs::metadata(dir.path().join(file)).unwrap().len();
            // A larger tensor is a shard of its own.
            let largest = (model.parameters().iter())
                .map(|p| 3 * 4 * p.tensor.elem_count() as u64)
                .max()
                .unwrap_or(0);
            let alone = fs::read(dir.path().join(file)).unwrap();
            let length = u64::from_le_bytes(alone[..8].try_into().unwrap()) as usize;
            let header = String::from_utf8_lossy(&alone[8..8 + length]);
            let limit = match header.matches("data_offsets").count() {
                1 => largest,
                _ => 6_000,
            };
            assert!(size < limit + 2_000, "{file} has {size} bytes");
        }
        same(dir.path());
        model.save(dir.path(), &sharded(9_000)).unwrap();
        assert!(names(dir.path()).len() < many.len());
        same(dir.path());
        model.save(dir.path(), &Saving::default()).unwrap();
        assert_eq!(names(dir.path()), ["config.json", "model.safetensors"]);
        same(dir.path());
        model.save(dir.path(), &sharded(6_000)).unwrap();
        assert_eq!(names(dir.path()), many);
        same(dir.path());
    }
}

#[test]
fn precision_is_kept_or_converted() {
    let dir = tempfile::tempdir().unwrap();
    let double = Decoder::load(folder("llama"), DType::F64, &Device::Cpu).unwrap();
    double.save(dir.path(), &Saving::default()).unwrap();
    assert!(
        tensors(dir.path())
            .values()
            .all(|(dtype, ..)| *dtype == Dtype::F64)
    );
    let single = load(dir.path()).unwrap();
    for (a, b) in single.parameters().iter().zip(double.parameters().iter()) {
        assert_eq!(numbers(&a.tensor), numbers(&b.tensor), "{}", a.name);
    }
    let dtype = Some(DType::BF16);
    single
        .save(
            dir.path(),
            &Saving {
                dtype,
                ..Saving::default()
            },
        )
        .unwrap();
    let rounded = load(dir.path()).unwrap();
    for (a, b) in rounded.parameters().iter().zip(single.parameters().iter()) {
        let nearest = b.tensor.to_dtype(DType::BF16).unwrap();
        assert_eq!(numbers(&a.tensor), numbers(&nearest), "{}", a.name);
    }
    let config: Value =
        serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["torch_dtype"], "bfloat16");
    let half: HashMap<String, Tensor> = (single.parameters().iter())
        .map(|p| (p.name.clone(), p.tensor.to_dtype(DType::F16).unwrap()))
        .collect();
    candle_core::safetensors::save(&half, dir.path().join("model.safetensors")).unwrap();
    for p in load(dir.path()).unwrap().parameters().iter() {
        assert_eq!(numbers(&p.tensor), numbers(&half[&p.name]), "{}", p.name);
    }
}

#[test]
fn tokenizer_and_generation_settings_come_along() {
    let from = copy("llama");
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        fs::copy(folder("tokenizer").join(name), from.path().join(name)).unwrap();
    }
    let to = tempfile::tempdir().unwrap();
    let new = to.path().join("deep/er");
    load(from.path())
        .unwrap()
        .save(&new, &Saving::default())
        .unwrap();
    let found = names(&new);
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        assert!(found.contains(&name.into()), "{found:?}");
        assert_eq!(
            fs::read(new.join(name)).unwrap(),
            fs::read(from.path().join(name)).unwrap()
        );
    }
    let again = load(&new).unwrap();
    again.save(&new, &Saving::default()).unwrap();
    assert_eq!(names(&new), found);
}

#[test]
fn names_without_prefix_and_old_buffers_are_read() {
    let dir = copy("gpt2");
    let mut old = Tensors::new();
    for (name, tensor) in tensors(&folder("gpt2")) {
        old.insert(name.strip_prefix("transformer.").unwrap().into(), tensor);
    }
    for layer in 0..2 {
        let mask = (Dtype::U8, vec![1, 1, 32, 32], vec![1; 1024]);
        old.insert(format!("h.{layer}.attn.bias"), mask);
        let number = (Dtype::F32, vec![], vec![0; 4]);
        old.insert(format!("h.{layer}.attn.masked_bias"), number);
    }
    // A repeated tied head is the embedding's own.
    old.insert("lm_head.weight".into(), old["wte.weight"].clone());
    write(&dir.path().join("model.safetensors"), &old);
    let [logits, _] = Expected::of("gpt2").errors(&load(dir.path()).unwrap());
    assert!(logits < 1e-5);
    old.get_mut("lm_head.weight").unwrap().2[3] ^= 1;
    write(&dir.path().join("model.safetensors"), &old);
    let error = load(dir.path()).unwrap_err();
    assert_says(error, &["lm_head.weight", "tie_word_embeddings"]);

    let dir = copy("llama");
    let mut old = Tensors::new();
    for (name, tensor) in tensors(&folder("llama")) {
        old.insert(name.strip_prefix("model.").unwrap_or(&name).into(), tensor);
    }
    let frequencies = (Dtype::F32, vec![2], vec![0; 8]);
    old.insert("layers.0.self_attn.rotary_emb.inv_freq".into(), frequencies);
    write(&dir.path().join("model.safetensors"), &old);
    let [logits, _] = Expected::of("llama").errors(&load(dir.path()).unwrap());
    assert!(logits < 1e-5);
}

#[test]
fn a_truncated_file_is_named_wherever_it_ends() {
    let dir = copy("llama");
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 5, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = load(dir.path()).unwrap_err();
        let found = format!("it has {length} bytes");
        assert_says(error, &["model.safetensors", &found, "not whole"]);
    }
    fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
    assert_says(load(dir.path()).unwrap_err(), &["model.safetensors"]);
    fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert_says(load(dir.path()).unwrap_err(), &["model.safetensors"]);
}

#[test]
fn shards_and_their_index_must_agree() {
    let shard = "model-00002-of-00003.safetensors";
    let dir = copy("llama3");
    fs::remove_file(dir.path().join(shard)).unwrap();
    let error = load(dir.path()).unwrap_err();
    assert_says(error, &["index.json", shard, "missing"]);

    let dir = copy("llama3");
    let whole = fs::read(dir.path().join(shard)).unwrap();
    fs::write(dir.path().join(shard), &whole[..whole.len() - 1]).unwrap();
    assert_says(load(dir.path()).unwrap_err(), &[shard, "not whole"]);

    let index = |dir: &TempDir, change: &dyn Fn(&mut Value)| {
        let path = dir.path().join("model.safetensors.index.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut json["weight_map"]);
        fs::write(path, json.to_string()).unwrap();
        load(dir.path()).unwrap_err()
    };
    let name = "model.norm.weight";
    let dir = copy("llama3");
    let error = index(&dir, &|map| {
        map[name] = json!("../llama3/model-00001-of-00003.safetensors")
    });
    assert_says(error, &["index.json", name, "name a file of the folder"]);
    let error = index(&copy("llama3"), &|map| {
        map.as_object_mut().unwrap().remove(name);
    });
    assert_says(error, &[name, "not listed"]);
    let error = index(&copy("llama3"), &|map| map["extra"] = json!(shard));
    assert_says(error, &[shard, "does not hold extra"]);
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_named() {
    let spoil = |change: &dyn Fn(&mut Tensors)| {
        let dir = copy("llama");
        let mut all = tensors(dir.path());
        change(&mut all);
        write(&dir.path().join("model.safetensors"), &all);
        load(dir.path()).unwrap_err()
    };
    let name = "model.layers.1.self_attn.k_proj.weight";
    let error = spoil(&|all| {
        all.remove(name);
    });
    assert_says(error, &["model.safetensors", name, "[8, 16]"]);
    let error = spoil(&|all| all.get_mut(name).unwrap().1 = vec![16, 8]);
    assert_says(error, &["model.safetensors", name, "[16, 8]", "[8, 16]"]);
    let error = spoil(&|all| {
        let bias = (Dtype::F32, vec![8], vec![0; 32]);
        all.insert("model.layers.1.self_attn.k_proj.bias".into(), bias);
    });
    assert_says(
        error,
        &[
            "model.safetensors",
            "layers.1.self_attn.k_proj.bias",
            "no use",
        ],
    );
    let error = spoil(&|all| all.get_mut(name).unwrap().0 = Dtype::I32);
    assert_says(error, &["model.safetensors", name, "I32", "BF16"]);
    let error = spoil(&|all| {
        let score = (Dtype::F32, vec![1, 16], vec![0; 64]);
        all.insert("score.weight".into(), score);
    });
    assert_says(error, &["model.safetensors", "reward model"]);

    // More layers in the file than in the configuration, and fewer.
    for layers in [1, 3] {
        let dir = copy("gemma");
        edit_config(dir.path(), |c| c["num_hidden_layers"] = json!(layers));
        let wanted = format!("layers.{}.", layers.min(2));
        assert_says(
            load(dir.path()).unwrap_err(),
            &["model.safetensors", wanted.as_str()],
        );
    }
}

#[test]
fn a_folder_without_weights_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    assert_says(load(dir.path()).unwrap_err(), &["config.json"]);
    let adapter = load(folder("lora-llama")).unwrap_err();
    assert_says(adapter, &["lora-llama", "adapter", "base"]);
    fs::copy(
        folder("llama").join("config.json"),
        dir.path().join("config.json"),
    )
    .unwrap();
    assert_says(load(dir.path()).unwrap_err(), &["model.safetensors"]);
    fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    assert_says(
        load(dir.path()).unwrap_err(),
        &["pytorch_model.bin", "save_pretrained"],
    );
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let model = load(folder("llama")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert_says(
        model.save(&file, &Saving::default()).unwrap_err(),
        &["file"],
    );
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let dtype = Some(DType::U8);
    let new = dir.path().join("new");
    let error = model
        .save(
            &new,
            &Saving {
                dtype,
                ..Saving::default()
            },
        )
        .unwrap_err();
    assert_says(error, &["U8", "BF16"]);
    assert_eq!(names(dir.path()), ["file"]);
}
