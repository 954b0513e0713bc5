//! What a run was computed from is part of what it is: where any of it changes, nothing is gone on
//! with, nothing is called complete, and nothing is written.

use std::fs;

use serde_json::{Value, json};

use crate::place::Place;

const RUN: [&str; 28] = [
    "dpo",
    "--model",
    "model",
    "--reference",
    "other",
    "--data",
    "data.jsonl",
    "--eval-data",
    "held.jsonl",
    "--eval-prompts",
    "prompts.jsonl",
    "--eval-reward",
    "lexicon:words.tsv",
    "--eval-reward",
    "command:sh score.sh",
    "--depends",
    "extra.txt",
    "--eval-max-new-tokens",
    "2",
    "--steps",
    "4",
    "--batch",
    "3",
    "--checkpoint-every",
    "2",
    "--keep",
    "0",
    "--out",
];

/// Every file that such a run reads.
const READ: [&str; 12] = [
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "other/config.json",
    "other/model.safetensors",
    "data.jsonl",
    "held.jsonl",
    "prompts.jsonl",
    "words.tsv",
    "score.sh",
    "extra.txt",
];

fn place() -> Place {
    let place = Place::new(6);
    place.model("other", 2);
    place.data("held.jsonl", 2, 3);
    place.data("prompts.jsonl", 2, 4);
    for (name, text) in [
        ("words.tsv", "w1\t1\nw2\t2\n"),
        ("score.sh", "while read line; do echo 1; done\n"),
        ("extra.txt", "1\n"),
    ] {
        fs::write(place.at(name), text).unwrap();
    }
    place
}

/// The file with another meaning, such as could be read all the same.
fn changed(name: &str, bytes: &[u8]) -> Vec<u8> {
    if name.ends_with(".json") {
        let mut value: Value = serde_json::from_slice(bytes).unwrap();
        value["transformers_version"] = json!(1);
        if name.ends_with("tokenizer.json") {
            value = serde_json::from_slice(bytes).unwrap();
            value["added_tokens"][0]["single_word"] = json!(true);
        }
        return value.to_string().into_bytes();
    }
    if name.ends_with(".safetensors") {
        let mut bytes = bytes.to_vec();
        let last = bytes.len() - 4;
        bytes[last] ^= 1;
        return bytes;
    }
    [
        bytes,
        if name.ends_with(".jsonl") {
            b" \n"
        } else {
            b"w3\t1\n"
        },
    ]
    .concat()
}

/// All files of a run but its lock.
fn files(place: &Place, run: &str) -> impl PartialEq + use<> {
    let mut files = place.files(run);
    files.retain(|name, _| !name.ends_with(".lock"));
    files
}

fn set(place: &Place, file: &str, change: impl Fn(&mut Value)) {
    let mut value: Value = serde_json::from_str(&place.read(file)).unwrap();
    change(&mut value);
    fs::write(place.at(file), value.to_string()).unwrap();
}

#[test]
fn all_that_a_run_reads_is_part_of_it() {
    let place = place();
    let run = |out: &'static str| [&RUN[..], &[out]].concat();
    place.train(&run("ended"));
    place.train(&run("stopped"));
    let sweep = [
        &run("sweep")[..],
        &["--sweep", "beta=0.1,0.5", "--seeds", "1"],
    ]
    .concat();
    place.train(&sweep);
    fs::remove_dir_all(place.at("stopped/checkpoint-4")).unwrap();
    set(&place, "stopped/manifest.json", |m| {
        m["status"] = "running".into()
    });
    // One run of the sweep is not begun.
    fs::remove_dir_all(place.at("sweep/beta=0.5,seed=0")).unwrap();
    let resumed = |out: &'static str| [&run(out)[..], &["--resume"]].concat();
    for name in READ {
        let bytes = fs::read(place.at(name)).unwrap();
        fs::write(place.at(name), changed(name, &bytes)).unwrap();
        for (out, args) in [
            ("ended", resumed("ended")),
            ("stopped", resumed("stopped")),
            ("sweep", sweep.clone()),
        ] {
            let before = files(&place, out);
            let said = place.refused(&args);
            let names = name.replace("other/", "reference/");
            let names = names
                .trim_end_matches(".jsonl")
                .replace("held", "eval_data");
            let names = names.replace("prompts", "eval_prompts");
            assert!(
                said.contains(&names) && said.contains("SHA-256"),
                "{out}, {name}: {said}"
            );
            assert!(before == files(&place, out), "{out}, {name}");
        }
        fs::write(place.at(name), bytes).unwrap();
    }
    // The very same files again, also of another form.
    let config = place.read("model/config.json");
    let config: Value = serde_json::from_str(&config).unwrap();
    fs::write(place.at("model/config.json"), format!("{config:#}\n\n")).unwrap();
    for args in [resumed("ended"), resumed("stopped"), sweep] {
        place.train(&args);
    }
    assert_eq!(place.rows("ended"), place.rows("stopped"));
}

/// An adapter that is trained further has files of its own, and a value head beside it.
#[test]
fn an_adapter_that_was_given_is_part_of_the_run() {
    let place = place();
    let run = |model: &'static str, out: &'static str| {
        let run = "dro-v --data data.jsonl --value shared --steps 1 --batch 3 --lora-rank 2";
        let run = run.split(' ').chain(["--model", model, "--out", out]);
        run.collect::<Vec<_>>()
    };
    place.train(&run("model", "first"));
    place.train(&run("first", "second"));
    let head = "first/model/value_head/model.safetensors";
    for name in [
        head,
        "first/model/adapter_model.safetensors",
        "model/model.safetensors",
    ] {
        let bytes = fs::read(place.at(name)).unwrap();
        fs::write(place.at(name), changed(name, &bytes)).unwrap();
        let said = place.refused(&["--out", "second", "--resume"]);
        let file = name.strip_prefix("first/").unwrap_or(name);
        assert!(
            said.contains(file) && said.contains("SHA-256"),
            "{name}: {said}"
        );
        fs::write(place.at(name), bytes).unwrap();
    }
    place.train(&["--out", "second", "--resume"]);
}

#[test]
fn a_complete_run_has_its_model() {
    let place = place();
    let run = [&RUN[..], &["a"]].concat();
    place.train(&run);
    fs::remove_dir_all(place.at("a/model")).unwrap();
    let said = place.refused(&["--out", "a", "--resume"]);
    assert!(
        said.contains("a/model") && said.contains("is not there"),
        "{said}"
    );
}

/// A bit of any file of a checkpoint.
#[test]
fn a_checkpoint_is_as_it_was_written() {
    let place = place();
    let base = [
        "dro-v",
        "--model",
        "model",
        "--data",
        "data.jsonl",
        "--steps",
        "2",
        "--batch",
        "3",
        "--checkpoint-every",
        "1",
        "--keep",
        "0",
        "--out",
        "a",
    ];
    place.train(&base);
    fs::remove_dir_all(place.at("a/checkpoint-2")).unwrap();
    set(&place, "a/manifest.json", |m| {
        m["status"] = "running".into()
    });
    let mut names = 0;
    for (name, bytes) in place.files("a/checkpoint-1") {
        let path = place.at("a/checkpoint-1").join(&name);
        let mut other = bytes.clone();
        let middle = bytes.len() / 2;
        other[middle] ^= 1;
        fs::write(&path, other).unwrap();
        let before = files(&place, "a");
        let said = place.refused(&["--out", "a", "--resume"]);
        assert!(
            said.contains(name.to_str().unwrap()),
            "{}: {said}",
            name.display()
        );
        assert!(before == files(&place, "a"), "{}", name.display());
        if !name.ends_with("trainer_state.json") {
            fs::remove_file(&path).unwrap();
            let said = place.refused(&["--out", "a", "--resume"]);
            assert!(
                said.contains(name.to_str().unwrap()) && said.contains("missing"),
                "{said}"
            );
        }
        fs::write(&path, bytes).unwrap();
        names += 1;
    }
    // Policy, value network, both optimisers' states and the rest.
    assert!(names >= 8, "{names}");
    let state = place.read("a/checkpoint-1/trainer_state.json");
    for field in ["num_tokens", "global_step", "epoch", "metrics_bytes"] {
        set(&place, "a/checkpoint-1/trainer_state.json", |s| {
            s[field] = json!(s[field].as_f64().unwrap() as u64 + 1)
        });
        let said = place.refused(&["--out", "a", "--resume"]);
        assert!(
            said.contains("trainer_state.json") && said.contains("SHA-256"),
            "{said}"
        );
        fs::write(place.at("a/checkpoint-1/trainer_state.json"), &state).unwrap();
    }
    place.train(&["--out", "a", "--resume"]);
}

/// What the first version wrote is shown, and is not gone on with.
#[test]
fn folders_have_a_format() {
    let place = place();
    place.train(&[&RUN[..], &["a"]].concat());
    let first = |m: &mut Value| {
        let m = m.as_object_mut().unwrap();
        let hash = m["inputs"]["data"].clone();
        m.remove("format");
        m.remove("inputs");
        m.insert("data".into(), hash.clone());
        m.insert("model".into(), hash);
    };
    set(&place, "a/manifest.json", first);
    let shown = place.run(&["runs", "a"]);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("complete"));
    let said = place.refused(&["--out", "a", "--resume"]);
    assert!(
        said.contains("a/manifest.json") && said.contains("0.1"),
        "{said}"
    );
    // An unfinished one, by its checkpoint.
    set(&place, "a/manifest.json", |m| {
        m["status"] = "running".into()
    });
    set(&place, "a/checkpoint-4/trainer_state.json", |s| {
        first(s);
        s.as_object_mut().unwrap().remove("sha256");
    });
    let said = place.refused(&["--out", "a", "--resume"]);
    assert!(
        said.contains("trainer_state.json") && said.contains("0.1"),
        "{said}"
    );
    // One of the future.
    set(&place, "a/checkpoint-4/trainer_state.json", |s| {
        s["format"] = json!(99)
    });
    let said = place.refused(&["--out", "a", "--resume"]);
    assert!(said.contains("format 99"), "{said}");
    place.train(&[&RUN[..], &["a", "--overwrite"]].concat());
}

/// The reference's numbers in a run's folder are those of its configuration, too.
#[test]
fn numbers_of_another_configuration_are_not_taken() {
    let place = place();
    let run = [
        "dpo",
        "--model",
        "model",
        "--data",
        "data.jsonl",
        "--steps",
        "1",
        "--batch",
        "3",
        "--out",
        "a",
    ];
    place.train(&run);
    set(&place, "model/config.json", |c| {
        c["rms_norm_eps"] = json!(0.5)
    });
    place.train(&[&run[..], &["--overwrite"]].concat());
    assert_eq!(place.rows("a")[0]["loss"], json!(2f64.ln()));
}
