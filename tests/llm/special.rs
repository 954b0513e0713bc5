//! What is no regular file is refused by name, at once, wherever a file is read.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::Place;

#[test]
fn pipes_devices_sockets_and_folders_are_refused_by_name() {
    let place = Place::new(4);
    let row = "{\"prompt\": \"w1\", \"completion\": \" w2\"}\n";
    fs::write(place.at("rows.jsonl"), row).unwrap();
    let problem = place.run(&["problem", "new"]).stdout;
    fs::write(place.at("p.json"), problem).unwrap();
    let made = Command::new("mkfifo").arg(place.at("pipe")).status();
    assert!(made.unwrap().success());
    let _socket = UnixListener::bind(place.at("socket")).unwrap();
    fs::create_dir(place.at("folder")).unwrap();
    symlink("/dev/zero", place.at("device")).unwrap();
    let train = "train dpo --model=model --data=data.jsonl --steps=1 --out=run";
    for special in ["pipe", "socket", "folder", "device"] {
        let mut commands: Vec<String> = [
            "train dpo --model=model --data=@ --out=run",
            "train --config=@",
            "score --data=rows.jsonl --reward=lexicon:@",
            "score --data=rows.jsonl --reward=model:@",
            "score --data=@ --reward=length",
            "generate --model=model --prompts=@",
            "generate --model=@ --prompt=w1",
            "generate --model=model --adapter=@ --prompt=w1",
            "logprobs --model=model --data=@",
            "evaluate --completions=@ --prompts=rows.jsonl --reward=length",
            "evaluate --completions=rows.jsonl --prompts=@ --reward=length",
            "data check @ --model=model",
            "plan dpo --model=@",
            "solve @",
            "solve p.json --data=@",
            "loss p.json --objective=ipo --logits=@",
            "aggregate @",
            "sim copg-toy --problem=@ --out=run",
        ]
        .map(|line| line.replace('@', special))
        .into();
        for flag in ["eval-data", "eval-prompts", "chat-template"] {
            commands.push(format!("{train} --{flag}={special}"));
        }
        // The files of a model, one after the other.
        for name in [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.safetensors",
        ] {
            let dir = format!("{special}-{name}");
            place.model(&dir, 1);
            fs::remove_file(place.at(&format!("{dir}/{name}"))).unwrap();
            symlink(place.at(special), place.at(&format!("{dir}/{name}"))).unwrap();
            commands.push(format!("generate --model={dir} --prompt=w1"));
        }
        for line in commands {
            let args: Vec<&str> = line.split(' ').collect();
            let mut child = place.command(&args);
            child.stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = child.spawn().unwrap();
            let began = Instant::now();
            while child.try_wait().unwrap().is_none() {
                if began.elapsed() > Duration::from_secs(20) {
                    child.kill().unwrap();
                    panic!("pistar {line} waits");
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "pistar {line}: {said}");
            assert!(said.contains(special), "pistar {line}: {said}");
            assert!(!place.at("run").exists(), "{line}");
        }
    }
    // What a shell hands over is read, where a file may be read in order.
    let mut shell = Command::new("sh");
    let line = "cat p.json | \"$0\" solve /dev/stdin --objective=dpo";
    shell
        .args(["-c", line, env!("CARGO_BIN_EXE_pistar")])
        .current_dir(place.at(""));
    let output = shell.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
