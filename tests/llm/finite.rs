//! Weights that are not finite are never written, and never read.

use std::fs;

use crate::place::Place;

const DIVERGE: [&str; 10] = [
    "--model=model",
    "--data=data.jsonl",
    "--steps=2",
    "--batch=2",
    // The decay alone goes beyond what f32 holds, in the first update.
    "--lr=1e38",
    "--weight-decay=1000",
    "--schedule=constant",
    "--out=run",
    "--eval-every=0",
    "--eval-rows=2",
];

#[test]
fn what_is_written_as_complete_is_finite() {
    let place = Place::new(6);
    for how in [
        &["dpo"][..],
        &["sft"],
        &["reward-model"],
        &["dro-v"],
        &["dpo", "--dtype=bf16"],
        &["dpo", "--lora-rank=2"],
        &["reward-model", "--lora-rank=2"],
        &["dpo", "--optimizer-in-backward", "--clip=0"],
    ] {
        for (every, steps) in [("1", "2"), ("0", "1")] {
            let every = format!("--checkpoint-every={every}");
            let mut args = [how, &DIVERGE[..], &[&every]].concat();
            let steps = format!("--steps={steps}");
            args.retain(|a| *a != "--steps=2");
            args.push(&steps);
            let said = place.refused(&args);
            assert!(said.contains("safetensors: "), "{how:?}: {said}");
            assert!(
                said.contains("numbers are not finite, and it is not written"),
                "{said}"
            );
            assert!(said.contains("lower lr"), "{said}");
            let mut names: Vec<_> = fs::read_dir(place.at("run"))
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.retain(|n| n.contains("model") || n.contains("checkpoint"));
            assert_eq!(names, [""; 0], "{how:?}");
            assert!(place.read("run/manifest.json").contains("\"running\""));
            fs::remove_dir_all(place.at("run")).unwrap();
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_not_read() {
    let place = Place::new(4);
    let path = place.at("model/model.safetensors");
    let whole = fs::read(&path).unwrap();
    for broken in [f32::NAN, f32::INFINITY, -f32::INFINITY] {
        let mut bytes = whole.clone();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&broken.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        for args in [
            &[
                "train",
                "dpo",
                "--model=model",
                "--data=data.jsonl",
                "--out=run",
            ][..],
            &["generate", "--model=model", "--prompt=w1"],
            &["logprobs", "--model=model", "--data=data.jsonl"],
        ] {
            let output = place.run(args);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains("model/model.safetensors: "), "{said}");
            assert!(
                said.contains("1 of its ") && said.contains("not finite"),
                "{said}"
            );
        }
        assert!(!place.at("run").exists());
    }
}
