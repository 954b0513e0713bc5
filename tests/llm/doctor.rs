//! `pistar doctor`: that it looks at everything, passes what is right, and fails what is not.

use std::any::Any;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use candle_core::{DType, Device, Tensor};
use pistar::llm::internals::tensor::ops::{
    Activation, Attention, Operation, REGISTRY, Shapes, activation, attention, gated, layer_norm,
    linear, logits, rms_norm, rope, rows,
};
use pistar::llm::internals::tools::doctor::evaluate::{Results, Sample, trained};
use pistar::llm::internals::tools::doctor::operations::{calls, check, judge};
use pistar::llm::internals::tools::doctor::place::Place;
use pistar::llm::internals::tools::doctor::precision::Precision;
use pistar::llm::internals::tools::doctor::report::Verdict;
use pistar::llm::model::families::Family;
use pistar::random::{Purpose, Stream};
use serde_json::Value;

/// The facts of a call, if it is of that type.
fn facts<T: Operation>(call: &dyn Operation) -> Option<&T> {
    let call: &dyn Any = call;
    call.downcast_ref()
}

#[test]
fn no_operation_is_forgotten() {
    // A folder of `ops` is an operation; it is in the registry, and every function of it has a case.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/llm/tensor/ops");
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let folders: BTreeSet<String> = folders
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let registered = REGISTRY.iter().map(|entry| entry.folder.to_string());
    assert_eq!(registered.collect::<BTreeSet<_>>(), folders);
    assert_eq!(folders.len(), REGISTRY.len());
    let shapes = Shapes::draw(|n| n as usize / 2);
    for entry in &REGISTRY {
        let cases = (entry.cases)(&shapes);
        let looked_at: BTreeSet<&str> = cases.iter().map(|(_, call)| call.function()).collect();
        let functions: BTreeSet<&str> = entry.functions.iter().copied().collect();
        assert_eq!(looked_at, functions, "{}", entry.folder);
    }
    let calls = calls(0);
    let names: BTreeSet<&str> = calls.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), calls.len(), "a name is there twice");
    let has = |f: &dyn Fn(&dyn Operation) -> bool| calls.iter().any(|(_, call)| f(&**call));
    for f in [
        Activation::Relu,
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
    ] {
        assert!(has(&|c| facts::<gated::Call>(c).is_some_and(|c| c.f == f)));
        assert!(has(
            &|c| facts::<activation::Call>(c).is_some_and(|c| c.f == f)
        ));
    }
    for with in [false, true] {
        assert!(has(
            &|c| facts::<linear::Call>(c).is_some_and(|c| c.bias == with)
        ));
        for at in [false, true] {
            let tempered =
                |c: &logits::token_log_probs::Call| c.bias == with && (c.temperature != 1.0) == at;
            assert!(has(&|c| facts(c).is_some_and(tempered)));
        }
        assert!(has(&|c| {
            facts::<logits::cross_entropy::Call>(c).is_some_and(|c| c.0.bias == with)
        }));
        assert!(has(&|c| {
            facts::<logits::logit_difference::Call>(c).is_some_and(|c| c.0.bias == with)
        }));
        let of = f64::from(u8::from(with));
        assert!(has(
            &|c| facts::<rms_norm::Call>(c).is_some_and(|c| c.offset == of)
        ));
        assert!(has(
            &|c| facts::<rms_norm::Call>(c).is_some_and(|c| (c.runs > 1) == with)
        ));
        assert!(has(
            &|c| facts::<layer_norm::Call>(c).is_some_and(|c| (c.runs > 1) == with)
        ));
        for part in [false, true] {
            assert!(has(&|c| facts::<rope::Call>(c).is_some_and(|c| {
                c.interleaved == with && (c.turned < c.head_dim) == part
            })));
        }
        let attention = |f: fn(&Attention) -> bool| {
            has(&|c| facts::<attention::Call>(c).is_some_and(|c| f(&c.form) == with))
        };
        assert!(attention(|form| form.window.is_some()));
        assert!(attention(|form| form.slopes.is_some()));
        assert!(attention(|form| form.heads > form.kv_heads));
    }
    assert!(has(&|c| facts::<rows::Call>(c).is_some_and(|c| {
        c.table && c.picks.iter().collect::<BTreeSet<_>>().len() < c.picks.len()
    })));
    for (_, call) in &calls {
        let of_attention = facts::<attention::Call>(&**call).map(|c| &c.starts);
        let of_rope = facts::<rope::Call>(&**call).map(|c| &c.starts);
        for starts in of_attention.into_iter().chain(of_rope) {
            let lengths: BTreeSet<usize> = starts.spans().map(|span| span.length()).collect();
            assert!(lengths.len() > 2 && lengths.contains(&1));
        }
        assert_eq!(call.bounds().len(), 1 + trained(&**call).len());
        assert!(call.cost()[0].numbers > 0.0);
    }
}

#[test]
fn equal_calls_are_known() {
    let [calls, same, others] = [0, 0, 1].map(calls);
    for (i, (name, call)) in calls.iter().enumerate() {
        for (j, (_, other)) in same.iter().enumerate() {
            assert_eq!(**call == **other, i == j, "{name}");
        }
    }
    let differ = calls.iter().zip(&others).filter(|(a, b)| *a.1 != *b.1);
    assert!(differ.count() > 10);
}

#[test]
fn what_is_right_passes() {
    for seed in [0, 1] {
        for (index, (name, call)) in calls(seed).iter().enumerate() {
            for precision in [Precision::F64, Precision::F32, Precision::Bf16] {
                let mut stream = Stream::new(seed, Purpose::Doctor, index as u64);
                let (row, same) =
                    check(name, &**call, &Device::Cpu, precision, &mut stream).unwrap();
                assert_eq!(row.verdict, Verdict::Ok, "{row:?}");
                assert!(same, "{name}: other bits when run again");
            }
        }
    }
}

/// What a call gives in f32, and in f64.
fn both(call: &dyn Operation) -> [Results; 2] {
    let mut stream = Stream::new(3, Purpose::Doctor, 9);
    let sample = Sample::draw(call, &mut stream, DType::F32).unwrap();
    let place = Place {
        dtype: DType::F32,
        device: Device::Cpu,
    };
    [sample.on(&place).unwrap(), sample].map(|sample| Results::of(call, &sample).unwrap())
}

/// The verdict on results of which the output with that index is spoiled.
fn spoiled(
    call: &dyn Operation,
    [found, wanted]: &[Results; 2],
    output: usize,
    spoil: &dyn Fn(&Tensor) -> Tensor,
) -> Verdict {
    let mut found = found.clone();
    match output {
        0 => found.value = spoil(&found.value),
        i => found.gradients[i - 1] = spoil(&found.gradients[i - 1]),
    }
    let row = judge("it", call, &found, wanted, Precision::F32).unwrap();
    row.verdict
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn like(tensor: &Tensor, numbers: Vec<f32>) -> Tensor {
    Tensor::from_vec(numbers, tensor.shape(), &Device::Cpu).unwrap()
}

#[test]
fn what_is_wrong_fails_in_every_output_of_every_operation() {
    let with = |f: fn(&mut Vec<f32>)| {
        move |tensor: &Tensor| {
            let mut all = numbers(tensor);
            f(&mut all);
            like(tensor, all)
        }
    };
    for (name, call) in &calls(0) {
        let call = &**call;
        let results = both(call);
        for output in 0..=trained(call).len() {
            let fails = |what: &str, spoil: &dyn Fn(&Tensor) -> Tensor| {
                let verdict = spoiled(call, &results, output, spoil);
                assert_eq!(verdict, Verdict::Fail, "{name}, output {output}: {what}");
            };
            assert_eq!(spoiled(call, &results, output, &Tensor::clone), Verdict::Ok);
            fails("a NaN", &with(|all| all[0] = f32::NAN));
            fails("an infinity", &with(|all| all[0] = f32::INFINITY));
            fails("negated", &|t| t.neg().unwrap());
            fails("a thousandth too much", &|t| (t * 1.001).unwrap());
            fails("zeros", &|t| t.zeros_like().unwrap());
            fails(
                "the last tenth is not written",
                &with(|all| {
                    let from = all.len() * 9 / 10;
                    all[from..].fill(0.0);
                }),
            );
            fails(
                "in TF32",
                &with(|all| {
                    // The lowest 13 bits go.
                    for x in all.iter_mut() {
                        *x = f32::from_bits(x.to_bits() & !0x1fff);
                    }
                }),
            );
            fails("another shape", &|t| t.unsqueeze(0).unwrap());
        }
    }
}

#[test]
fn bounds_follow_the_precision() {
    for (name, call) in &calls(0) {
        for bound in call.bounds() {
            let of = |p: Precision| bound.at(p.units());
            let [f64, f32] = [Precision::F64, Precision::F32].map(of);
            let [tf32, bf16] = [Precision::Tf32, Precision::Bf16].map(of);
            assert!(f64 <= f32 && f32 <= tf32 && f32 <= bf16, "{name}");
            // As many roundings, each 2²⁹ times as large.
            assert_eq!(f64 * 2f64.powi(29), f32);
            assert!(bf16 < 0.05 && f32 < 1e-4, "{name}: {bf16} {f32}");
        }
    }
    // One rounding: half of the distance between 1 and the next number.
    for precision in [Precision::F64, Precision::F32, Precision::Bf16] {
        let u = precision.units().stored;
        let there = |x: f64| -> f64 {
            let x = Tensor::new(x, &Device::Cpu).unwrap();
            let x = x.to_dtype(precision.dtype()).unwrap();
            x.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
        };
        assert_eq!(there(1.0 + u), 1.0);
        assert_eq!(there(1.0 + 2.0 * u), 1.0 + 2.0 * u);
    }
}

fn doctor(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pistar"));
    command.arg("doctor").args(arguments);
    command.output().unwrap()
}

#[test]
fn a_step_is_measured_stage_by_stage() {
    let output = doctor(&[
        "--only",
        "step,ceilings",
        "--quick",
        "--dtype",
        "f32",
        "--json",
    ]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["machine"]["processor"].is_string());
    let parts = report["sections"].as_array().unwrap();
    let section = |part: &Value| part["section"].as_str().unwrap().to_string();
    let names: Vec<String> = parts.iter().map(section).collect();
    assert_eq!(names, ["ceilings", "step"]);
    let rows = parts[1]["rows"].as_array().unwrap();
    let row = |name: &str| {
        let found = rows.iter().find(|r| r["name"] == name);
        found.unwrap_or_else(|| panic!("{name} in {rows:?}"))
    };
    let value = |row: &Value, of: &str| row[of]["value"].as_f64().unwrap();
    // 4 layers of width 192, heads of 32: 6 and 2; a vocabulary of 4000.
    let matrices: u64 = 4 * (192 * 192 * 2 + 192 * 64 * 2 + 3 * 192 * 512);
    let (tokens, predicted) = (8 * 63, 8 * 48);
    let pairs = 8 * 63 * 64 / 2;
    let flops = 6 * (matrices * tokens + 192 * 4000 * predicted) + 3 * 4 * 4 * 192 * pairs;
    assert_eq!(row("products")["flops_per_step"], flops as f64);
    let whole = row("whole step");
    assert_eq!(whole["parameters"], 2 * 192 * 4000 + matrices + 9 * 192);
    assert_eq!(whole["tokens"], tokens);
    let speed = value(row("tokens"), "found");
    let seconds = value(whole, "found");
    assert!((speed * seconds / tokens as f64 - 1.0).abs() < 1e-9);
    let end = rows
        .iter()
        .position(|r| r["name"] == "sum of the stages")
        .unwrap();
    let sum: f64 = rows[..end].iter().map(|r| value(r, "found")).sum();
    assert!((sum / value(&rows[end], "found") - 1.0).abs() < 1e-9);
    assert!(rows[..end].iter().all(|r| value(r, "found") > 0.0));
    let next = rows.last().unwrap();
    let above = |r: &Value| value(r, "found") - r["bound"]["value"].as_f64().unwrap_or(0.0);
    let most = (rows[..end].iter()).max_by(|a, b| above(a).total_cmp(&above(b)));
    let named = next["found"].as_str().unwrap();
    assert!(
        named == "in no stage" || named == most.unwrap()["name"],
        "{next}"
    );
}

#[test]
fn whole_models_agree_with_f64() {
    let output = doctor(&["--only", "model", "--dtype", "f32", "--json", "--seed", "5"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let parts = report["sections"].as_array().unwrap();
    assert_eq!(parts.len(), Family::ALL.len());
    for part in parts {
        let rows = part["rows"].as_array().unwrap();
        let names: Vec<&str> = rows.iter().map(|r| r["name"].as_str().unwrap()).collect();
        let wanted = [
            "log-probabilities",
            "gradients",
            "parameters reached",
            "recomputation",
            "5 steps of AdamW",
        ];
        assert_eq!(names, wanted);
        assert!(rows.iter().all(|r| r["verdict"] == "ok"));
        let losses = &rows[4]["losses"]["f64"].as_array().unwrap();
        assert_eq!(losses.len(), 6);
        assert!(losses[5].as_f64() < losses[0].as_f64());
    }
}

#[test]
fn bad_input_is_refused() {
    for (arguments, parts) in [
        (&["--only", "speed"][..], &["'speed'", "operations"][..]),
        (&["--dtype", "f16"], &["'f16'", "bf16"]),
        (&["--dtype", "tf32"], &["tf32", "CUDA", "f32"]),
        (&["--device", "gpu"], &["`gpu`", "cpu, cuda or cuda:N"]),
        (&["--seed", "-1"], &["-1"]),
    ] {
        let output = doctor(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        for part in parts {
            assert!(said.contains(part), "{arguments:?}: {said}");
        }
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_table_is_readable() {
    let output = doctor(&["--only", "machine,operations", "--dtype", "f32"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().all(|l| l.chars().count() <= 100), "{text}");
    let verdicts: Vec<usize> = (lines.iter()).filter_map(|l| l.find("  ok")).collect();
    assert_eq!(verdicts.len(), calls(0).len() + 1, "{text}");
    assert!(verdicts.iter().all(|&at| at == verdicts[0]), "{text}");
}
