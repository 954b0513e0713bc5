//! The commands of `docs/recipes.md`, as they stand there.

use std::path::Path;
use std::process::Command;

/// Text between ```` ```sh ```` and ```` ``` ````.
fn blocks(page: &str) -> Vec<&str> {
    let after = page.split("```sh\n").skip(1);
    after.filter_map(|part| part.split("```").next()).collect()
}

#[test]
#[cfg(unix)]
fn every_command_of_the_page_trains() {
    let Some(data) = std::env::var_os("PISTAR_DATA") else {
        println!("skipped: PISTAR_DATA does not name a folder that holds the files of recipes.md");
        return;
    };
    let page = include_str!("../../docs/recipes.md");
    let blocks = blocks(page);
    let binary = Path::new(env!("CARGO_BIN_EXE_pistar"));
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let folder = tempfile::tempdir().unwrap();
    let mut ran = 0;
    for block in &blocks[1..] {
        // The last flag wins; two steps of two rows show as much as five of eight.
        let block = block.replace("--steps 5", "--steps 2 --batch 2");
        let script = format!("set -e\n{}{block}", blocks[0]);
        let output = Command::new("sh")
            .args(["-c", &script])
            .env("PATH", &path)
            .env("PISTAR_DATA", std::path::absolute(&data).unwrap())
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}\n{said}");
        for line in block.lines() {
            let Some((_, out)) = line.split_once("--out ") else {
                continue;
            };
            let out = folder.path().join(out.trim());
            let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
            assert_eq!(metrics.lines().count(), 2, "{block}");
            assert!(out.join("model/model.safetensors").exists(), "{block}");
            ran += 1;
        }
    }
    assert_eq!(ran, page.matches("\npistar train").count());
    assert!(ran >= 16, "{ran}");
}
