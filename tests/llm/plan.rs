//! `pistar plan` against what `pistar train` then takes, and what it says.

use std::fs;

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::families::Family;
use pistar::llm::model::saving::Saving;
use serde_json::{Value, json};

use crate::place::Place;

/// Steps of both, and threads of both.
const STEPS: &str = "2";
const THREADS: &str = "2";

/// A Llama with grouped heads, or a GPT-2, whose tokenizer knows only the first of its words.
fn place(model: &str, tied: bool) -> Place {
    let place = Place::new(2);
    let config = match model {
        "llama" => json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"],
            "vocab_size": 3000, "hidden_size": 256, "intermediate_size": 688,
            "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "hidden_act": "silu",
            "initializer_range": 0.02, "tie_word_embeddings": tied,
        }),
        "gpt2" => json!({
            "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 3000,
            "n_embd": 256, "n_layer": 4, "n_head": 8, "n_positions": 512,
            "initializer_range": 0.02, "tie_word_embeddings": tied,
            "bos_token_id": 1, "eos_token_id": 2,
        }),
        other => larger(other),
    };
    fs::write(place.at("config.json"), config.to_string()).unwrap();
    let path = place.at("config.json");
    let decoder = Decoder::from_config(path, 1, DType::F32, &Device::Cpu).unwrap();
    fs::create_dir(place.at("big")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(place.at("model").join(name), place.at("big").join(name)).unwrap();
    }
    decoder.save(place.at("big"), &Saving::default()).unwrap();
    // Ragged: prompts of 40 to 47 tokens, completions of 100 to 180.
    let words = |count: usize| " w1".repeat(count);
    let lines = (0..4).map(|row| {
        let line = json!({
            "prompt": words(40 + 2 * row), "chosen": words(180 - 10 * row),
            "rejected": words(100 + 9 * row), "completion": words(170 - 5 * row),
            "reward": row as f64, "label": row % 2 == 0,
        });
        format!("{line}\n")
    });
    fs::write(place.at("rows.jsonl"), lines.collect::<String>()).unwrap();
    place
}

/// A family's sample four times as wide, with more words and longer sequences.
fn larger(name: &str) -> Value {
    let family = Family::ALL.iter().find(|f| f.name == name).unwrap();
    let mut fields = family.sample().unwrap().fields;
    for (name, value) in fields.iter_mut() {
        let Some(number) = value.as_u64() else {
            continue;
        };
        *value = match name.as_str() {
            "vocab_size" => 3000.into(),
            "max_position_embeddings" | "n_positions" | "seq_length" => 512.into(),
            "hidden_size"
            | "n_embd"
            | "intermediate_size"
            | "ffn_dim"
            | "word_embed_proj_dim"
            | "sliding_window" => (4 * number).into(),
            _ => continue,
        };
    }
    fields.into()
}

fn command(place: &Place, args: &[&str]) -> std::process::Output {
    let mut command = place.command(args);
    command.env("RAYON_NUM_THREADS", THREADS);
    command.output().unwrap()
}

/// `pistar plan --json`, and its exit code.
fn plan(place: &Place, args: &[&str]) -> (Value, i32) {
    let output = command(place, &[&["plan"], args, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap();
    assert!(code < 2, "{args:?}: {said}");
    (serde_json::from_slice(&output.stdout).unwrap(), code)
}

/// Runs both; the plan must foresee what tensors take within 3 %.
fn foreseen(place: &Place, args: &[&str]) {
    foreseen_on(place, args, ["rows.jsonl", "2"], 0.03);
}

/// The same on other rows, in batches of so many, within that share.
fn foreseen_on(place: &Place, args: &[&str], [data, batch]: [&str; 2], within: f64) {
    foreseen_of(
        place,
        &[args, &["--data", data, "--batch", batch]].concat(),
        within,
    );
}

/// The same with all settings of the data among the arguments; gives the plan's report.
fn foreseen_of(place: &Place, args: &[&str], within: f64) -> Value {
    let args = [args, &["--model", "big", "--steps", STEPS]].concat();
    let train = ["--out", "run", "--overwrite", "--checkpoint-every", "0"];
    let output = command(place, &[&["train"], &args[..], &train].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    let machine: Value = serde_json::from_str(&place.read("run/machine.json")).unwrap();
    let measured = machine[0]["peak_tensor_bytes"].as_f64().unwrap();
    assert!(machine[0]["peak_resident_bytes"].as_f64().unwrap() > measured);
    let (report, code) = plan(place, &[&args[..], &["--memory", "8GB"]].concat());
    assert_eq!(code, 0);
    let foreseen = report["peak_tensor_bytes"].as_f64().unwrap();
    let far = foreseen / measured - 1.0;
    println!(
        "{:60} measured {:7.1} MiB, foreseen {:7.1} MiB: {:+.2} %",
        args[..args.len() - 4].join(" "),
        measured / 1048576.0,
        foreseen / 1048576.0,
        100.0 * far
    );
    assert!(
        far.abs() < within,
        "{args:?}: measured {measured}, foreseen {foreseen}: {report}"
    );
    let parts: f64 = (report["at_peak"].as_object().unwrap().values())
        .map(|bytes| bytes.as_f64().unwrap())
        .sum();
    assert_eq!(parts, foreseen, "{args:?}: the table's lines are the whole");
    report
}

#[test]
fn a_llama_is_foreseen() {
    let place = place("llama", false);
    for args in [
        &["sft"][..],
        &["dpo"],
        &["dpo", "--reference", "live"],
        // A pair at a time, and less than a pair.
        &["dpo", "--micro-batch-tokens", "400"],
        &["dpo", "--micro-batch-tokens", "150", "--dtype", "f64"],
    ] {
        foreseen(&place, args);
    }
}

#[test]
fn every_family_is_foreseen() {
    for family in Family::ALL {
        let place = place(family.name, false);
        for args in [
            &["dpo"][..],
            &["sft", "--recompute"],
            &["dpo", "--dtype", "bf16"],
        ] {
            foreseen(&place, args);
        }
    }
}

#[test]
fn recomputation_and_bf16_are_foreseen() {
    let place = place("llama", false);
    let at_once = ["--optimizer-in-backward", "--clip", "0"];
    for args in [
        &["dpo", "--recompute"][..],
        &["dpo", "--dtype", "bf16"],
        &["dpo", "--dtype", "bf16", "--micro-batch-tokens", "400"],
        &[&["sft", "--dtype", "bf16", "--recompute"], &at_once[..]].concat(),
    ] {
        foreseen(&place, args);
    }
}

/// Attention takes sequences of like length together: the longest are few here.
#[test]
fn lengths_that_differ_much_are_foreseen() {
    let place = place("llama", false);
    let lines = [440, 30, 100, 60, 25, 110, 50, 20].map(|count| {
        let line = json!({"prompt": " w1 w1", "completion": " w1".repeat(count)});
        format!("{line}\n")
    });
    fs::write(place.at("uneven.jsonl"), lines.concat()).unwrap();
    // In bf16 on a CPU it is some 4 % too low, for a reason not found: a tenth is what is promised.
    for (dtype, within) in [("f32", 0.03), ("bf16", 0.1)] {
        let args = ["sft", "--recompute", "--dtype", dtype];
        foreseen_on(&place, &args, ["uneven.jsonl", "8"], within);
    }
}

#[test]
fn adapters_value_networks_and_heads_are_foreseen() {
    let place = place("llama", true);
    for args in [
        &["dpo", "--lora-rank", "64"][..],
        &[
            "dpo",
            "--lora-rank",
            "64",
            "--lora-targets",
            "q_proj,v_proj",
            "--reference",
            "live",
        ],
        &["dro-v"],
        &["dro-v", "--value", "shared"],
        &["dro-v", "--value-per", "token"],
        &["dro-v", "--value", "shared", "--value-per", "token"],
        &["dro-v", "--value-per", "batch"],
        // Coupled: one part, a response at a time.
        &[
            "dro-v",
            "--value-per",
            "batch",
            "--micro-batch-tokens",
            "150",
        ],
        &["reward-model"],
    ] {
        foreseen(&place, args);
    }
}

/// Prompts that the policy completes: the generator's weights, keys and values, beside what a step takes.
#[test]
fn completions_that_are_written_are_foreseen() {
    let place = place("llama", false);
    let prompts = (0..8).map(|row| format!("{}\n", json!({"prompt": " w1".repeat(40 + row % 3)})));
    fs::write(place.at("prompts.jsonl"), prompts.collect::<String>()).unwrap();
    let online = [
        "--prompts",
        "prompts.jsonl",
        "--reward",
        "length:characters",
        "--max-new-tokens",
        "60",
        "--micro-batch-tokens",
        "250",
        "--batch",
        "4",
    ];
    let generation = "generation";
    for (args, phase) in [
        (&["rloo", "--lora-rank", "8"][..], generation),
        (
            &["rloo", "--lora-rank", "8", "--generation-batch", "3"],
            generation,
        ),
        (
            &[
                "sft",
                "--lora-rank",
                "8",
                "--dtype",
                "f64",
                "--completions",
                "2",
            ],
            generation,
        ),
        (&["dpo", "--dtype", "bf16"], "backward"),
        (&["grpo", "--completions", "3"], "backward"),
    ] {
        let args = [args, &online[..]].concat();
        let report = foreseen_of(&place, &args, 0.03);
        assert_eq!(report["at"]["phase"], phase, "{args:?}");
    }
    // At an evaluation, with a reference of its own.
    let evaluated = [
        "dpo",
        "--eval-prompts",
        "prompts.jsonl",
        "--eval-every",
        "1",
        "--eval-max-new-tokens",
        "60",
        "--lora-rank",
        "8",
        "--micro-batch-tokens",
        "250",
    ];
    foreseen(&place, &evaluated);
}

/// What is rehearsed beside the objective's own data.
#[test]
fn rehearsal_is_foreseen() {
    let place = place("llama", false);
    let rows = (0..8).map(|row| {
        let line = json!({"prompt": " w1 w1", "completion": " w1".repeat(300 + row)});
        format!("{line}\n")
    });
    fs::write(place.at("rehearsed.jsonl"), rows.collect::<String>()).unwrap();
    let rehearse = ["--rehearse", "rehearsed.jsonl", "--rehearse-batch", "6"];
    for args in [
        &["dpo"][..],
        &["sft", "--recompute"],
        &["dpo", "--dtype", "bf16"],
    ] {
        foreseen(&place, &[args, &rehearse[..]].concat());
    }
}

#[test]
fn a_gpt2_is_foreseen() {
    for tied in [true, false] {
        let place = place("gpt2", tied);
        if !tied {
            foreseen(&place, &["sft", "--dtype", "bf16"]);
        } else {
            foreseen(&place, &["sft"]);
            foreseen(&place, &["dpo", "--lora-rank", "64"]);
            foreseen(
                &place,
                &["kto", "--dtype", "f64", "--micro-batch-tokens", "300"],
            );
        }
    }
}

#[test]
fn without_data_lengths_are_given() {
    let place = place("llama", false);
    // Of the model's folder nothing but the configuration is needed.
    fs::remove_file(place.at("big/model.safetensors")).unwrap();
    fs::remove_file(place.at("big/tokenizer.json")).unwrap();
    let base = ["dpo", "--model", "big", "--memory", "8GB", "--batch", "4"];
    let tokens = |more: &[&str]| {
        let (report, _) = plan(&place, &[&base[..], more].concat());
        let of = |name: &str| report[name].as_u64().unwrap();
        [
            of("step_tokens"),
            of("parts"),
            of("tokens_at_once"),
            of("longest"),
        ]
    };
    assert_eq!(tokens(&[]), [4096, 1, 4096, 512]);
    assert_eq!(tokens(&["--max-length", "300"]), [2400, 1, 2400, 300]);
    let cut = ["--sequence", "100", "--micro-batch-tokens", "450"];
    assert_eq!(tokens(&cut), [800, 2, 400, 100]);
    // Responses that are rehearsed are as long as the others; their file is not read.
    let of = |more: &[&str]| tokens(&[&["--sequence", "100"], more].concat())[2];
    let rehearsed = ["--rehearse", "none.jsonl", "--rehearse-batch", "40"];
    assert_eq!([of(&[]), of(&rehearsed)], [800, 4000]);
    let rehearsed = [&rehearsed[..], &["--rehearse-weight", "0"]].concat();
    assert_eq!(of(&rehearsed), 800);
}

/// The flags of a change, as arguments.
fn flags(change: &Value) -> Vec<String> {
    let flags = change["setting"].as_str().unwrap();
    flags.split(' ').map(Into::into).collect()
}

#[test]
fn what_is_proposed_fits_and_no_more_would() {
    let place = place("llama", false);
    let base = ["dpo", "--model", "big", "--sequence", "256", "--batch", "8"];
    let base = [&base[..], &["--reference", "live"]].concat();
    let with = |more: &[String], memory: u64| {
        let memory = format!("{memory}MB");
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        plan(&place, &[&base[..], &more, &["--memory", &memory]].concat())
    };
    let bytes = |report: &Value| report["peak_tensor_bytes"].as_u64().unwrap();
    let (all, code) = with(&[], 8000);
    assert_eq!((code, all["fits"].as_bool()), (0, Some(true)));
    assert_eq!(all["largest_micro_batch_tokens"], all["step_tokens"]);
    assert_eq!(all["changes"], json!([]));
    // Half of it: it does not fit, and every change is what it says.
    let half = all["total_bytes"].as_u64().unwrap() / 2_000_000;
    let (report, code) = with(&[], half);
    assert_eq!((code, report["fits"].as_bool()), (1, Some(false)));
    let changes = report["changes"].as_array().unwrap();
    assert!(changes.iter().any(|change| change["fits"] == true));
    for change in changes {
        let (other, code) = with(&flags(change), half);
        assert_eq!(
            bytes(&other),
            change["peak_bytes"].as_u64().unwrap(),
            "{change}"
        );
        assert_eq!(change["fits"].as_bool().unwrap(), code == 0, "{change}");
    }
    // One pair more is too much.
    let most = report["largest_micro_batch_tokens"].as_u64().unwrap();
    let pieces = |tokens: u64| ["--micro-batch-tokens".to_string(), tokens.to_string()];
    assert_eq!(most % 512, 0);
    assert_eq!(with(&pieces(most), half).1, 0);
    assert_eq!(with(&pieces(most + 512), half).1, 1);
    // Less and less memory: where no single change is enough any more, several are.
    let (mut little, mut report, mut code) = (half, report, code);
    loop {
        let fitting = report["changes"].as_array().unwrap().iter();
        let fitting = fitting.filter(|change| change["fits"] == true);
        let Some(least) = fitting.map(|c| c["peak_bytes"].as_u64().unwrap()).min() else {
            break;
        };
        little = (least + report["process_bytes"].as_u64().unwrap()) / 1_000_000 - 1;
        (report, code) = with(&[], little);
    }
    assert_eq!(code, 1);
    let together = &report["together"];
    let (other, code) = with(&flags(together), little);
    assert_eq!(
        (code, bytes(&other)),
        (0, together["peak_bytes"].as_u64().unwrap())
    );
}

#[test]
fn bad_inputs_say_what_would_be_right() {
    let place = place("llama", false);
    fs::create_dir(place.at("empty")).unwrap();
    for (args, wanted) in [
        (&["--model", "big", "--memory", "12"][..], "no unit"),
        (
            &["--model", "big", "--memory", "12GB", "--gpu", "h200"],
            "cannot be used with",
        ),
        (&["--model", "big", "--gpu", "h300"], "h200"),
        (
            &["--model", "big", "--gpu", "h200", "--device", "cpu"],
            "--gpu means --device cuda",
        ),
        (&["--model", "big", "--device", "cuda"], "--memory 80GB"),
        (
            &["--model", "big", "--device", "tpu"],
            "cpu, cuda or cuda:N",
        ),
        (&["--model", "empty"], "config.json"),
        (&["--model", "big", "--sequence", "513"], "at most 512"),
        (
            &["--model", "big", "--sequence", "1"],
            "one of the completion",
        ),
        (
            &["--model", "big", "--sequence", "9", "--prompt", "9"],
            "below the sequence's 9",
        ),
        (&["--model", "big", "--responses", "3"], "has two"),
        (&["--sequence", "9"], "folder of the model"),
    ] {
        let output = command(&place, &[&["plan", "dpo"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(wanted), "{args:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}
