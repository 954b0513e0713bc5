//! Rooms import only rooms that stand before them; the wings of `llm`, `figures` and `sims` are rooms.
//!
//! `cargo test --test all arrows -- --nocapture` prints every arrow with its number of imports.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up.
const ROOMS: [&str; 28] = [
    "text",
    "error",
    "magnitude",
    "random",
    "observer",
    "file",
    "rows",
    "backend",
    "stats",
    "loss",
    "bandit",
    "solve",
    "sim",
    "continual",
    "llm::files",
    "llm::tensor",
    "llm::model",
    "llm::text",
    "llm::sample",
    "llm::train",
    "llm::continual",
    "llm::tools",
    "llm::language",
    "verify",
    "claims",
    "figures",
    "sims",
    "cli",
];

/// What builds on all of them.
const ABOVE: [&str; 3] = ["lib", "main", "prelude"];

#[test]
fn arrows_go_one_way() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = home.join("src");
    // Of `src` and of the folders beside it that are modules of the library too.
    let inside = files(&source).into_iter().map(|path| (path, &*source));
    let beside = ["figures", "sims"].map(|name| files(&home.join(name)));
    let beside = beside.into_iter().flatten().map(|path| (path, home));
    let mut arrows: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut climbs = Vec::new();
    for (path, root) in inside.chain(beside) {
        let module = module(path.strip_prefix(root).unwrap());
        if ABOVE.contains(&module[0].as_str()) || module == ["llm"] {
            continue;
        }
        let room = room(&module);
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = text.lines().map(|l| l.split("//").next().unwrap());
        let text = lines.collect::<Vec<_>>().join(" ");
        for (at, _) in text.match_indices("crate::") {
            for named in rooms(&text[at + "crate::".len()..]) {
                if ROOMS.contains(&named.as_str()) && named != room {
                    *arrows.entry((room.clone(), named)).or_default() += 1;
                }
            }
        }
        // By `super` nothing leaves its room.
        let most = module.len() - room.split("::").count();
        let chain = "super::".repeat(most + 1);
        if text.contains(&chain) {
            climbs.push(path);
        }
    }
    let place = |room: &str| ROOMS.iter().position(|r| *r == room);
    for ((from, to), count) in &arrows {
        println!("{from} -> {to}: {count}");
    }
    println!("{} arrows", arrows.len());
    let up: Vec<_> = arrows
        .keys()
        .filter(|(a, b)| place(a) <= place(b))
        .collect();
    assert!(up.is_empty(), "upward: {up:?}");
    assert!(climbs.is_empty(), "by super: {climbs:?}");
    // Every room is there and has an arrow.
    for room in ROOMS {
        let known = arrows.keys().any(|(a, b)| a == room || b == room);
        assert!(known, "{room}");
    }
}

/// The library compiles without the crates of the feature `cli`, which `cli` and `rows` are part of.
#[test]
fn only_the_command_names_crates_of_the_command() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for path in files(&source) {
        let module = module(path.strip_prefix(&source).unwrap());
        if ["cli", "rows"].contains(&module[0].as_str()) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for name in ["clap::", "anyhow::", "indicatif::"] {
            assert!(!text.contains(name), "{}: {name}", path.display());
        }
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}

/// All Rust files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let below = entries.flat_map(|path| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    });
    below
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

/// Of `llm/text/data/mod.rs`: llm, text, data.
fn module(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let parts = path.iter().map(|part| part.to_str().unwrap().to_owned());
    parts.filter(|part| part != "mod").collect()
}

fn room(module: &[String]) -> String {
    let depth = if module[0] == "llm" { 2 } else { 1 };
    module[..depth].join("::")
}

/// Rooms named by a path, or a group of paths, that begins here.
fn rooms(path: &str) -> Vec<String> {
    if let Some(group) = path.strip_prefix('{') {
        return members(group).into_iter().flat_map(rooms).collect();
    }
    let name: String = path
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    match path[name.len()..].strip_prefix("::") {
        Some(below) if name == "llm" => {
            let wings = rooms(below).into_iter();
            wings.map(|wing| format!("llm::{wing}")).collect()
        }
        _ => vec![name],
    }
}

/// The members of a group whose brace has been opened.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                members.push(group[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    members
}
