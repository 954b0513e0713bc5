//! Files that are not a command's own are as they were when it ends, whether it refuses a folder or
//! works in it.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::Place;

const TRAIN: [&str; 8] = [
    "dpo",
    "--model",
    "model",
    "--data",
    "data.jsonl",
    "--steps",
    "2",
    "--checkpoint-every=1",
];

/// All that is below a folder: bytes of files, `/` for folders, where links lead.
fn all(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return found;
    };
    for entry in entries {
        let (path, kind) = entry.map(|e| (e.path(), e.file_type().unwrap())).unwrap();
        let what = if kind.is_dir() {
            found.extend(all(&path));
            b"/".to_vec()
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().into()
        } else if kind.is_file() {
            fs::read(&path).unwrap()
        } else {
            b"|".to_vec()
        };
        found.insert(path, what);
    }
    found
}

/// Puts something into the folder `u`: a name that ends with `/` is a folder, `a -> b` a link, `a |` a
/// named pipe, `a = b` a file with that text.
fn put(place: &Place, what: &str) {
    fs::create_dir_all(place.at("u")).unwrap();
    let at = |name: &str| place.at(&format!("u/{}", name.trim()));
    if let Some((name, text)) = what.split_once(" = ") {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), text).unwrap();
    } else if let Some((name, to)) = what.split_once(" -> ") {
        symlink(to, at(name)).unwrap();
    } else if let Some(name) = what.strip_suffix(" |") {
        assert!(
            Command::new("mkfifo")
                .arg(at(name))
                .status()
                .unwrap()
                .success()
        );
    } else {
        fs::create_dir_all(at(what)).unwrap();
    }
}

const PRECIOUS: [&str; 4] = [
    ".cache.part/deep = mine",
    ".notes.part = mine",
    ".model.old.part = a file, as no run's folder is",
    "notes = mine",
];

#[test]
fn a_folder_that_is_refused_is_as_it_was() {
    let place = Place::new(4);
    fs::write(place.at("target"), "precious").unwrap();
    let settings = "config.toml = objective = \"dpo\"\nbeta = 0.5\n";
    for foreign in [
        &["manifest.json = {}", ".lock -> ../target"][..],
        &["manifest.json = {}", ".lock = 17\n"],
        &["model/weights = mine"],
        &["model -> nowhere"],
        &["metrics.jsonl -> ../target"],
        &["metrics.jsonl -> nowhere"],
        &["machine.json = []"],
        &["checkpoint-3/trainer_state.json = {}"],
        &["reference.safetensors = mine"],
        // Settings that a person wrote beside a model, and those of something else.
        &[settings, "model/weights = mine"],
        &[
            "config.toml = ",
            "model/weights = mine",
            "manifest.json = {}",
        ],
        &["config.toml = ", "model/weights = mine", ".lock = 17\n"],
        &[
            "config.toml = title = \"site\"",
            "manifest.json = {}",
            "model/",
        ],
        &[".lock = precious"],
        &[".lock = 17 18"],
        &[".lock -> ../target"],
        &[".lock -> nowhere"],
        &[".lock |"],
        &[".lock/"],
    ] {
        for how in [&[][..], &["--overwrite"], &["--resume"], &["--seeds=2"]] {
            PRECIOUS
                .iter()
                .chain(foreign)
                .for_each(|what| put(&place, what));
            // Of a sweep each run has a folder.
            let sweep = how == ["--seeds=2"];
            if sweep {
                fs::rename(place.at("u"), place.at("seed=1")).unwrap();
                fs::create_dir(place.at("u")).unwrap();
                fs::rename(place.at("seed=1"), place.at("u/seed=1")).unwrap();
            }
            let before = all(&place.at("u"));
            let output = place.run(&[&["train"], &TRAIN[..], how, &["--out", "u"]].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{foreign:?} {how:?}");
            assert!(sweep || said.contains("u/"), "{foreign:?} {how:?}: {said}");
            if sweep {
                let mut after = all(&place.at("u"));
                after.retain(|path, _| path.starts_with(place.at("u/seed=1")));
                assert!(after == before, "{foreign:?}: {said}");
            } else {
                assert_eq!(output.status.code(), Some(2), "{said}");
                let after = all(&place.at("u"));
                assert!(after == before, "{foreign:?} {how:?}: {said}");
            }
            assert_eq!(place.read("target"), "precious");
            fs::remove_dir_all(place.at("u")).unwrap();
        }
    }
}

#[test]
fn a_run_removes_what_it_left_and_nothing_else() {
    let place = Place::new(4);
    PRECIOUS.iter().for_each(|what| put(&place, what));
    let mine = all(&place.at("u"));
    let train = |how: &[&str]| place.train(&[&TRAIN[..], how, &["--out", "u"]].concat());
    train(&[]);
    let whole = place.lasting("u");
    for how in ["--resume", "--overwrite"] {
        for left in [
            ".checkpoint-1.part/model.safetensors = half",
            ".checkpoint-2.gone.part/",
            ".model.part/",
            ".manifest.json.part = {",
            ".reference.safetensors.part = half",
        ] {
            put(&place, left);
        }
        train(&[how]);
        assert!(place.lasting("u") == whole, "{how}");
    }
    // Of names that a run has, but of another kind.
    for other in [
        ".checkpoint-01.part/",
        ".metrics.jsonl.part/",
        ".checkpoint-2.part = mine",
    ] {
        put(&place, other);
    }
    let before = all(&place.at("u"));
    train(&["--resume"]);
    let after = all(&place.at("u"));
    let differ = |(path, bytes): &(&PathBuf, &Vec<u8>)| {
        after.get(*path) != Some(*bytes) && !path.ends_with(".lock")
    };
    assert_eq!(before.iter().find(differ).map(|(path, _)| path), None);
    assert!(
        mine.iter()
            .all(|(path, bytes)| after.get(path) == Some(bytes))
    );
}

#[test]
fn a_refused_run_leaves_no_folder_that_it_made() {
    let place = Place::new(4);
    let before = all(&place.at(""));
    let bad = |args: &[&str]| {
        let output = place.run(args);
        assert!(!output.status.success(), "{args:?}");
        assert!(all(&place.at("")) == before, "{args:?}");
    };
    for args in [
        &["--model=model", "--data=none.jsonl"][..],
        &["--model=none", "--data=data.jsonl"],
        &["--model=model", "--data=data.jsonl", "--lr=-1"],
        &["--model=model", "--data=data.jsonl", "--reference=none"],
        &["--model=model", "--data=data.jsonl", "--max-length=0"],
    ] {
        bad(&[&["train", "dpo"], args].concat());
        bad(&[&["train", "dpo", "--out=a/b/c"], args].concat());
    }
    let score = ["score", "--data=data.jsonl", "--reward=length", "--out=a/b"];
    bad(&score);
    bad(&["sim", "coverage", "--out=a/b/c", "--rules=none"]);
    bad(&["sim", "reward-noise", "--out=a/b/c", "--samples=0"]);
    bad(&["generate", "--model=none", "--prompt=a", "--out=a"]);
}

#[test]
fn a_folder_that_goes_away_while_a_run_trains_is_an_error_that_says_so() {
    let place = Place::new(4);
    for (replaced, said) in [
        (false, "has gone"),
        (true, "something else stands in its place"),
    ] {
        let args = ["--steps=100000", "--checkpoint-every=100000", "--out=u"];
        let mut command = place.command(&[&["train"], &TRAIN[..], &args].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        // A flag that is given twice counts as given last.
        let child = command.spawn().unwrap();
        let began = Instant::now();
        while fs::metadata(place.at("u/metrics.jsonl")).map_or(0, |m| m.len()) == 0 {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
        if replaced {
            // What takes its place is there before, so that it is never merely gone for long.
            fs::create_dir_all(place.at("other/model")).unwrap();
            fs::write(place.at("other/model/weights"), "mine").unwrap();
        }
        fs::rename(place.at("u"), place.at("moved")).unwrap();
        if replaced {
            fs::rename(place.at("other"), place.at("u")).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(said) && text.contains("--resume"), "{text}");
        assert_eq!(place.at("u").exists(), replaced);
        if replaced {
            assert_eq!(all(&place.at("u")).len(), 2);
        }
        // It goes on once it is put back.
        let _ = fs::remove_dir_all(place.at("u"));
        fs::remove_dir_all(place.at("moved")).unwrap();
    }
}

#[test]
fn what_a_file_is_written_over_is_that_name_alone() {
    let place = Place::new(4);
    fs::write(place.at("target"), "precious").unwrap();
    let rows = "{\"prompt\": \"w1\", \"completion\": \" w2\"}\n";
    fs::write(place.at("rows.jsonl"), rows).unwrap();
    let long = "x".repeat(250);
    let writes: [&[&str]; 4] = [
        &["score", "--data=rows.jsonl", "--reward=length"],
        &[
            "generate",
            "--model=model",
            "--prompt=w1",
            "--max-new-tokens=2",
        ],
        &["logprobs", "--model=model", "--data=rows.jsonl"],
        &[
            "evaluate",
            "--completions=rows.jsonl",
            "--prompts=rows.jsonl",
            "--reward=length",
            "--resamples=10",
        ],
    ];
    for args in writes {
        let run = |out: &OsStr| {
            let mut command = place.command(args);
            command.arg("--out").arg(out).output().unwrap()
        };
        let good = |out: &OsStr| {
            let output = run(out);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{out:?}: {said}");
            fs::read(place.at("").join(out)).unwrap()
        };
        let plain = good(OsStr::new("plain"));
        assert!(plain.starts_with(b"{") && plain.ends_with(b"\n"));
        for name in [long.as_bytes(), b"g-\xff.jsonl", "ü".repeat(125).as_bytes()] {
            assert_eq!(good(OsStr::from_bytes(name)), plain);
            fs::remove_file(place.at("").join(OsStr::from_bytes(name))).unwrap();
        }
        // A link is replaced, not followed; neither is one where the file is written first.
        symlink("target", place.at("link")).unwrap();
        symlink("target", place.at(".new.part")).unwrap();
        for name in ["link", "new"] {
            assert_eq!(good(OsStr::new(name)), plain);
            assert_eq!(place.read("target"), "precious");
            fs::remove_file(place.at(name)).unwrap();
        }
        // A folder stays, wherever it is in the way.
        for folder in ["folder", ".other.part"] {
            fs::create_dir_all(place.at(folder).join("deep")).unwrap();
            let name = folder.trim_start_matches('.').trim_end_matches(".part");
            let output = run(OsStr::new(name));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(name), "{said}");
            assert!(place.at(folder).join("deep").exists());
            fs::remove_dir_all(place.at(folder)).unwrap();
        }
        // What is no file is written to where it is.
        let output = run(OsStr::new("/dev/stdout"));
        assert!(output.stdout.starts_with(&plain), "{args:?}");
    }
    assert!(fs::symlink_metadata("/dev/stdout").unwrap().is_symlink());
}

#[test]
fn sims_write_over_their_own_alone() {
    let place = Place::new(4);
    fs::write(place.at("target"), "precious").unwrap();
    let refuses = |args: &[&str], what: &[&str]| {
        what.iter().for_each(|what| put(&place, what));
        let before = all(&place.at("u"));
        for overwrite in [&[][..], &["--overwrite"]] {
            let output = place.run(&[args, overwrite, &["--out=u"]].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{what:?}: {said}");
            assert!(said.contains("u/"), "{said}");
            assert!(all(&place.at("u")) == before, "{what:?}: {said}");
        }
        assert_eq!(place.read("target"), "precious");
        fs::remove_dir_all(place.at("u")).unwrap();
    };
    let sim = [
        "sim",
        "copg-toy",
        "--seeds=1",
        "--epochs=1",
        "--samples=600",
        "--lr=0.01",
    ];
    for what in [
        &["manifest.json = {\"name\": \"a site\"}"][..],
        &["rows.csv = mine"],
        &["rows.csv -> ../target"],
        &["manifest.json -> ../target"],
    ] {
        refuses(&sim, what);
    }
    // A link in a folder of its own.
    let done = |args: &[&str]| {
        let output = place.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    let all_of = [&sim[..], &["--no-figure", "--out=u"]].concat();
    assert!(done(&all_of).0);
    fs::remove_file(place.at("u/rows.csv")).unwrap();
    put(&place, "rows.csv -> ../target");
    let (good, said) = done(&all_of);
    assert!(
        !good && said.contains("u/rows.csv: it is a symbolic link"),
        "{said}"
    );
    assert_eq!(place.read("target"), "precious");
}
