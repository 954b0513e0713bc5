//! What a person names as a model: a model's folder, an adapter's, a run's, for every command alike;
//! adapters that are trained further, and merged.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::model_folder::ModelFolder;
use pistar::llm::model::saving::Saving;
use pistar::llm::model::sequence::Packed;
use pistar::llm::text::objective::TextObjective;
use serde_json::Value;

use crate::fixtures::{largest, numbers};
use crate::place::Place;
use crate::runs::needed;

const DATA: [&str; 6] = ["--data", "data.jsonl", "--lr", "1e-2", "--batch", "3"];

/// A place with `run`, which trained an adapter of rank 2 on `model`.
fn with_adapter() -> Place {
    let place = Place::new(9);
    let new = [
        "dpo",
        "--model",
        "model",
        "--lora-rank",
        "2",
        "--steps",
        "4",
        "--checkpoint-every",
        "2",
    ];
    place.train(&[&new[..], &DATA, &["--out", "run"]].concat());
    place
}

fn said(place: &Place, args: &[&str]) -> String {
    let output = place.run(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command says that must refuse.
fn refused(place: &Place, args: &[&str], parts: &[&str]) {
    let output = place.run(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    for part in parts {
        assert!(error.contains(part), "{args:?}: {error} lacks {part}");
    }
}

fn logits(dir: &Path) -> Vec<f64> {
    let found = ModelFolder::find(dir).unwrap();
    let model = found.decoder(DType::F32, &Device::Cpu).unwrap();
    let tokens: Vec<Vec<u32>> = vec![vec![1, 5, 9, 3, 20, 30], vec![1, 31, 4]];
    let packed = Packed::new(tokens.iter().map(Vec::as_slice));
    numbers(&model.logits(&packed).unwrap())
}

#[test]
fn every_command_takes_a_model_an_adapter_and_a_run() {
    let place = with_adapter();
    place.train(
        &[
            &[
                "reward-model",
                "--model",
                "model",
                "--lora-rank",
                "2",
                "--steps",
                "2",
            ],
            &DATA[..],
            &["--out", "rm"],
        ]
        .concat(),
    );
    let commands = |name: &str| -> Vec<Vec<String>> {
        let reward = name.replace("run", "rm");
        let rewards = ["model", "rm", "rm/model"];
        let reward = if rewards.contains(&reward.as_str()) {
            reward
        } else {
            "rm/checkpoint-2".into()
        };
        [
            format!("generate --model {name} --prompt w1 --max-new-tokens 4"),
            format!("generate --model model --adapter {name} --prompt w1 --max-new-tokens 4"),
            format!("generate --model {name},base=model --prompt w1 --max-new-tokens 4"),
            format!("logprobs --model {name} --data data.jsonl"),
            format!("data check data.jsonl --model {name} --objective dpo"),
            format!("plan dpo --model {name} --data data.jsonl --memory 1GB"),
            format!("plan dpo --model model --reference {name} --data data.jsonl --memory 1GB"),
            format!("train dpo --model {name} --data data.jsonl --steps 1 --overwrite --out on"),
            format!("train dpo --model model --reference {name} --data data.jsonl --steps 1 --overwrite --out from"),
            format!("evaluate --model {name} --reference {name} --against {name} --prompts data.jsonl --limit 2 --reward length:words --max-new-tokens 3 --json"),
            format!("score --data data.jsonl --replace --reward model:{reward}"),
            format!("score --data data.jsonl --replace --reward length,tokenizer={name}:tokens"),
        ]
        .iter()
        .map(|line| line.split(' ').map(String::from).collect())
        .collect()
    };
    let run = |name: &str| -> Vec<String> {
        let each = commands(name).into_iter().map(|args| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let timed = ["train", "plan"].contains(&args[0]);
            let text = said(&place, &args).replace(name, "NAME");
            if timed { String::new() } else { text }
        });
        each.collect()
    };
    let of_run = run("run");
    assert_eq!(run("run/model"), of_run);
    assert_eq!(run("run/checkpoint-4"), of_run);
    // And it is the adapter that answers, not its base.
    let answers = |name: &str| {
        said(
            &place,
            &["logprobs", "--model", name, "--data", "data.jsonl"],
        )
    };
    assert_ne!(answers("run"), answers("model"));
    // A run of all weights is named in the same way.
    place.train(
        &[
            &["sft", "--model", "model", "--steps", "2"],
            &DATA[..],
            &["--out", "full"],
        ]
        .concat(),
    );
    assert_eq!(answers("full"), answers("full/model"));
}

#[test]
fn an_adapter_is_trained_further_from_where_it_is() {
    let place = with_adapter();
    for name in TextObjective::names() {
        let out = format!("on/{name}");
        let start = [
            &[
                name,
                "--model",
                "run",
                "--steps",
                "4",
                "--checkpoint-every",
                "2",
                "--keep",
                "0",
            ],
            &DATA[..],
            needed(name),
            &["--out", &out],
        ]
        .concat();
        place.train(&start);
        // It is held against what was given: every log-ratio is 0 at first.
        let rows = place.rows(&out);
        if let Some(ratio) = rows[0].get("log_ratio") {
            assert_eq!(ratio.as_f64(), Some(0.0), "{name}");
        }
        let config: Value =
            serde_json::from_str(&place.read(&format!("{out}/model/adapter_config.json"))).unwrap();
        assert_eq!(
            (config["r"].as_u64(), config["lora_alpha"].as_f64()),
            (Some(2), Some(4.0)),
            "{name}"
        );
        assert!(
            place
                .read(&format!("{out}/config.toml"))
                .contains("lora_rank = 2")
        );
        assert_ne!(
            place.files(&format!("{out}/model")),
            place.files("run/model"),
            "{name}"
        );
        // Gone on with from a checkpoint it ends in the same bytes.
        let whole = place.lasting(&out);
        let manifest = place.at(&format!("{out}/manifest.json"));
        let text = fs::read_to_string(&manifest)
            .unwrap()
            .replace("\"complete\"", "\"running\"");
        fs::write(&manifest, text).unwrap();
        for gone in ["model", "checkpoint-4"] {
            fs::remove_dir_all(place.at(&format!("{out}/{gone}"))).unwrap();
        }
        place.train(&["--resume", "--out", &out]);
        assert_eq!(place.rows(&out), rows, "{name}");
        assert!(place.lasting(&out) == whole, "{name}");
    }
}

#[test]
fn the_reference_of_an_adapter_that_goes_on_is_the_adapter_as_it_was() {
    let place = with_adapter();
    for reference in ["precomputed", "live", "run", "copy/model"] {
        let _ = fs::create_dir_all(place.at("copy/model"));
        for (name, bytes) in place.files("run/model") {
            fs::write(place.at("copy/model").join(name), bytes).unwrap();
        }
        let more = [
            "dpo",
            "--model",
            "run",
            "--reference",
            reference,
            "--steps",
            "3",
            "--overwrite",
            "--out",
            "on",
        ];
        place.train(&[&more[..], &DATA].concat());
        let rows = place.rows("on");
        assert_eq!(rows[0]["log_ratio"].as_f64(), Some(0.0), "{reference}");
        let first = rows[0]["loss"].as_f64().unwrap();
        assert!(
            (first - std::f64::consts::LN_2).abs() < 1e-12,
            "{reference}: {first}"
        );
        assert_ne!(rows[2]["log_ratio"].as_f64(), Some(0.0), "{reference}");
    }
    let more = [
        "dpo",
        "--model",
        "run",
        "--reference",
        "model",
        "--steps",
        "1",
        "--out",
        "base",
    ];
    place.train(&[&more[..], &DATA].concat());
    assert_ne!(place.rows("base")[0]["log_ratio"].as_f64(), Some(0.0));
}

#[test]
fn another_adapter_than_the_models_is_refused_by_name() {
    let place = with_adapter();
    for (flag, value, has) in [
        ("--lora-rank", "4", "rank 2"),
        ("--lora-alpha", "1", "4"),
        ("--lora-targets", "q_proj", "other layers"),
    ] {
        let args = [
            &["train", "dpo", "--model", "run", flag, value, "--out", "no"],
            &DATA[..],
        ]
        .concat();
        let field = flag[2..].replace('-', "_");
        refused(&place, &args, &[&field, has, "pistar merge run/model"]);
        let plan = [
            &[
                "plan", "dpo", "--model", "run", flag, value, "--memory", "1GB",
            ],
            &DATA[..2],
        ]
        .concat();
        refused(&place, &plan, &[&field]);
        assert!(!place.at("no/config.toml").exists());
    }
    let all = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj";
    let same = [
        "dpo",
        "--model",
        "run",
        "--lora-rank",
        "2",
        "--lora-targets",
        all,
        "--steps",
        "1",
        "--out",
        "yes",
    ];
    place.train(&[&same[..], &DATA].concat());
    // What the run itself would write is not where it may begin.
    let own = [
        &[
            "train",
            "dpo",
            "--model",
            "run",
            "--overwrite",
            "--out",
            "run",
        ],
        &DATA[..],
    ]
    .concat();
    refused(&place, &own, &["the run itself would write there"]);
}

#[test]
fn a_base_is_found_where_it_is_or_asked_for() {
    let place = with_adapter();
    let generate = |name: &str| ["generate", "--model", name, "--prompt", "w1"].map(String::from);
    let says = |name: &str, parts: &[&str]| {
        let args = generate(name);
        refused(&place, &args.each_ref().map(String::as_str), parts);
    };
    let works = |name: &str| {
        let args = generate(name);
        said(&place, &args.each_ref().map(String::as_str))
    };
    let answer = works("run");
    // Moved together, `model` lies beside the folder that the adapter is in.
    let deep = place.at("moved/deep");
    fs::create_dir_all(&deep).unwrap();
    for (from, to) in [("model", "moved/model"), ("run", "moved/deep/run")] {
        fs::rename(place.at(from), place.at(to)).unwrap();
    }
    assert_eq!(works("moved/deep/run"), answer);
    fs::rename(place.at("moved/model"), place.at("elsewhere")).unwrap();
    says(
        "moved/deep/run",
        &[
            "base_model_name_or_path",
            "`model` is no folder here",
            ",base=DIR",
        ],
    );
    assert_eq!(works("moved/deep/run,base=elsewhere"), answer);
    says(
        "moved/deep/run,base=nowhere",
        &["nowhere", "there is no such folder"],
    );
    says("elsewhere,base=elsewhere", &["it is no adapter"]);
    let config = place.at("moved/deep/run/model/adapter_config.json");
    let text = fs::read_to_string(&config).unwrap();
    let named = |name: &str| fs::write(&config, text.replace("\"model\"", name)).unwrap();
    named("null");
    says(
        "moved/deep/run",
        &["base_model_name_or_path", "it is missing", ",base=DIR"],
    );
    named("\"some-org/A.Model-1b\"");
    says(
        "moved/deep/run",
        &["hf download some-org/A.Model-1b", ",base=DIR"],
    );
    // A base that is a run's folder is that run's model; one that is an adapter is none.
    let more = [
        "sft",
        "--model",
        "elsewhere",
        "--steps",
        "1",
        "--lora-rank",
        "2",
        "--out",
        "low",
    ];
    place.train(&[&more[..], &DATA].concat());
    named("\"low\"");
    says(
        "moved/deep/run",
        &["it is an adapter", "pistar merge low/model"],
    );
    let more = [
        "sft",
        "--model",
        "elsewhere",
        "--steps",
        "1",
        "--lr",
        "0",
        "--out",
        "full",
    ];
    place.train(&[&more[..], &DATA[..2]].concat());
    named("\"full\"");
    assert_eq!(works("moved/deep/run"), answer);
}

#[test]
fn what_is_no_model_is_told_with_what_to_do() {
    let place = with_adapter();
    fs::create_dir(place.at("empty")).unwrap();
    fs::create_dir(place.at("both")).unwrap();
    for from in ["model", "run/model"] {
        for (name, bytes) in place.files(from) {
            fs::write(place.at("both").join(name), bytes).unwrap();
        }
    }
    fs::remove_dir_all(place.at("run/model")).unwrap();
    let cases: [(&str, &[&str]); 6] = [
        (
            "some-org/A.Model-1b",
            &[
                "there is no such folder",
                "hf download some-org/A.Model-1b --local-dir models/A.Model-1b",
            ],
        ),
        ("a/b/c", &["there is no such folder", "name a folder"]),
        ("empty", &["it holds neither a model nor a finished run"]),
        ("data.jsonl", &["it is a file"]),
        ("both", &["both a model and an adapter"]),
        ("run", &["did not come to an end", "run/checkpoint-4"]),
    ];
    for (name, parts) in cases {
        for command in [
            vec!["generate", "--model", name, "--prompt", "w1"],
            vec!["logprobs", "--model", name, "--data", "data.jsonl"],
            vec!["data", "check", "data.jsonl", "--model", name],
            vec!["plan", "dpo", "--model", name, "--memory", "1GB"],
            vec![
                "evaluate",
                "--model",
                name,
                "--prompts",
                "data.jsonl",
                "--reward",
                "length:words",
            ],
            vec![
                "train",
                "dpo",
                "--model",
                name,
                "--data",
                "data.jsonl",
                "--out",
                "no",
            ],
            vec![
                "train",
                "dpo",
                "--model",
                "model",
                "--reference",
                name,
                "--data",
                "data.jsonl",
                "--out",
                "no",
            ],
            vec!["merge", name, "--out", "no"],
        ] {
            refused(&place, &command, parts);
            assert!(!place.at("no/config.toml").exists() && !place.at("no/config.json").exists());
        }
    }
}

/// The precision of a model's weights, as its file says.
fn stored(place: &Place, dir: &str) -> String {
    let bytes = fs::read(place.at(dir).join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    format!("{:?}", tensors.tensor("lm_head.weight").unwrap().dtype())
}

#[test]
fn merged_answers_as_base_and_adapter_do() {
    // A half's rounding of a weight, of which a logit sums some.
    for (dtype, name, bound) in [
        (DType::F32, "F32", 1e-4),
        (DType::BF16, "BF16", 0.2),
        (DType::F16, "F16", 0.02),
        (DType::F64, "F64", 1e-4),
    ] {
        let place = Place::new(9);
        let base = Decoder::load(place.at("model"), DType::F32, &Device::Cpu).unwrap();
        let saving = Saving {
            dtype: Some(dtype),
            ..Saving::default()
        };
        base.save(place.at("base"), &saving).unwrap();
        let kept = r#"{"temperature": 0.7}"#;
        fs::write(place.at("base/generation_config.json"), kept).unwrap();
        fs::write(place.at("base/chat_template.jinja"), "{{ messages }}").unwrap();
        let more = [
            "sft",
            "--model",
            "base",
            "--lora-rank",
            "2",
            "--steps",
            "3",
            "--out",
            "run",
        ];
        place.train(&[&more[..], &DATA].concat());
        said(&place, &["merge", "run", "--out", "merged"]);
        assert_eq!(stored(&place, "merged"), name);
        let (apart, merged) = (logits(&place.at("run")), logits(&place.at("merged")));
        let (error, moved) = (
            largest(&apart, &merged),
            largest(&logits(&place.at("base")), &apart),
        );
        assert!(
            error < bound && moved > 2.0 * error,
            "{name}: {error} of {moved}"
        );
        let of = |dir: &str, file: &str| fs::read(place.at(dir).join(file)).unwrap();
        for file in [
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
            "chat_template.jinja",
        ] {
            assert_eq!(of("merged", file), of("base", file), "{file}");
        }
        let config =
            |dir: &str| -> Value { serde_json::from_slice(&of(dir, "config.json")).unwrap() };
        assert_eq!(config("merged"), config("base"));
    }
}

#[test]
fn a_merged_reward_or_value_model_keeps_its_head() {
    let place = Place::new(9);
    let lora = ["--model", "model", "--lora-rank", "2", "--steps", "3"];
    place.train(&[&["reward-model"], &lora[..], &DATA, &["--out", "rm"]].concat());
    place.train(
        &[
            &["dro-v", "--value", "shared"],
            &lora[..],
            &DATA,
            &["--out", "dv"],
        ]
        .concat(),
    );
    for run in ["rm", "dv"] {
        said(&place, &["merge", run, "--out", &format!("{run}-whole")]);
    }
    let scores = |name: &str| -> Vec<f64> {
        let reward = format!("model:{name}");
        let text = said(
            &place,
            &[
                "score",
                "--data",
                "data.jsonl",
                "--replace",
                "--reward",
                &reward,
            ],
        );
        let row = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
        text.lines()
            .map(|line| {
                row(line)["reward"]
                    .as_f64()
                    .or(row(line)["score"].as_f64())
                    .unwrap()
            })
            .collect()
    };
    let error = largest(&scores("rm"), &scores("rm-whole"));
    assert!(error < 1e-4, "{error}");
    let bytes = fs::read(place.at("dv-whole/model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(tensors.tensor("v_head.summary.weight").is_ok());
    // Training goes on from either.
    for from in ["dv", "dv-whole"] {
        let out = format!("on-{from}");
        let more = [
            "dro-v", "--value", "shared", "--model", from, "--steps", "1", "--out", &out,
        ];
        place.train(&[&more[..], &DATA].concat());
    }
    let first = |out: &str| place.rows(out)[0]["loss"].as_f64().unwrap();
    assert!((first("on-dv") - first("on-dv-whole")).abs() < 1e-4);
}

#[test]
fn what_merging_would_destroy_is_left_alone() {
    let place = with_adapter();
    let merge = |out: &str, more: &[&str]| -> Vec<String> {
        let args = [&["merge", "run", "--out", out], more].concat();
        args.into_iter().map(String::from).collect()
    };
    let refuses = |out: &str, more: &[&str], part: &str| {
        let args = merge(out, more);
        let before = place.files(out);
        refused(
            &place,
            &args.iter().map(String::as_str).collect::<Vec<_>>(),
            &["--out", part],
        );
        assert!(place.files(out) == before, "{out}");
    };
    said(&place, &["merge", "run", "--out", "whole"]);
    refuses("whole", &[], "--overwrite");
    let first = place.files("whole");
    said(&place, &["merge", "run", "--out", "whole", "--overwrite"]);
    assert!(place.files("whole") == first);
    fs::write(place.at("whole/notes.txt"), "mine").unwrap();
    refuses("whole", &["--overwrite"], "notes.txt");
    refuses("model", &["--overwrite"], "is read from there");
    refuses("run", &["--overwrite"], "not of a model");
    refused(
        &place,
        &["merge", "run", "--out", "data.jsonl", "--overwrite"],
        &["--out"],
    );
    refused(
        &place,
        &["merge", "model", "--out", "no"],
        &["no adapter to merge"],
    );
    assert!(!place.at("no").exists());
}
