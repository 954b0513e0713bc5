//! A study of a few completions on the tiny storyteller.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use crate::llm::model::heads::AdvantageScorer;
use crate::llm::sample::reward::{Resources, Reward, Specification};
use crate::observer::Silent;
use crate::rows::study_rehearsal::{FORGET, MAIN, METHODS, read_rows};
use crate::rows::table::write;

use super::super::world::candidates;
use super::*;

const SMALL: Sizes = Sizes {
    survey: 128,
    prompts: 12,
    held: 6,
    forget: 8,
    best_of: 4,
    rounds: 2,
    written: 8,
    every: 1,
};

fn request(model: Option<PathBuf>, threads: usize) -> Request<'static> {
    Request {
        observer: &Silent,
        model,
        reward: Vec::new(),
        depends: Vec::new(),
        lr: Some(1e-3),
        seeds: Some(2),
        full: false,
        prompts: None,
        key: 3,
        threads,
        overwrite: false,
    }
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = fs::read_dir(dir.join("trials")).unwrap();
    let mut found: BTreeMap<String, Vec<u8>> = all
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    for name in ["rows.csv", SCORERS] {
        found.insert(name.into(), fs::read(dir.join(name)).unwrap());
    }
    found
}

/// Each setting is there once, its trials have files of their own, and it can be trained.
#[test]
fn every_method_of_the_paper_can_be_trained() {
    for full in [false, true] {
        let mut names = BTreeSet::new();
        let all = sweep(full);
        for method in METHODS {
            assert!(all.iter().any(|s| s.method == method), "{method}");
        }
        for setting in all {
            let trial = Trial {
                setting: setting.clone(),
                seed: 0,
                lr: 1e-4,
            };
            assert!(names.insert(trial.name()), "{setting:?}");
            let settings = trial.settings(SIZES).unwrap();
            // As many completions for all.
            let steps = settings.steps.unwrap() / settings.phase_epochs;
            let completions = settings.completions.unwrap() * settings.batch;
            let written = SIZES.rounds as usize * SIZES.written;
            assert_eq!(steps as usize * completions, written, "{setting:?}");
            assert_eq!(settings.rehearse.is_some(), setting.clusters > 0);
            assert_eq!(settings.normalise_rewards, setting.method == RM_MA);
            if setting.clusters > 0 {
                assert_eq!(settings.rehearse_weight, setting.gamma);
            }
        }
    }
}

#[test]
fn a_study_goes_on_to_the_same_bytes_and_its_rows_are_what_they_say() {
    let place = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| place.path().join(name));
    study(&request(None, 2), &first, SMALL).unwrap();
    let whole = files(&first);
    let model = first.join("model");

    // Trials that are not there are run again, and no others: what one of those says is taken.
    let [gone, kept] = ["am-ppo-c0-gamma0-seed1.csv", "rm-ppo-c0-gamma0-seed0.csv"];
    let trial = |name: &str| first.join("trials").join(name);
    fs::remove_file(trial(gone)).unwrap();
    fs::remove_file(trial("advantage-model-seed0.csv")).unwrap();
    let lines: Vec<&str> = std::str::from_utf8(&whole[kept]).unwrap().lines().collect();
    fs::write(trial(kept), lines[..lines.len() - 1].join("\n") + "\n").unwrap();
    study(&request(Some(model.clone()), 2), &first, SMALL).unwrap();
    let shorter = files(&first);
    assert!(shorter[gone] == whole[gone] && shorter[SCORERS] == whole[SCORERS]);
    let rows = |files: &BTreeMap<String, Vec<u8>>| {
        files["rows.csv"].iter().filter(|b| **b == b'\n').count()
    };
    assert_eq!(rows(&shorter) + 1, rows(&whole));
    fs::write(trial(kept), &whole[kept]).unwrap();
    study(&request(Some(model.clone()), 1), &first, SMALL).unwrap();
    assert!(files(&first) == whole);

    // Another folder, other threads.
    study(&request(Some(model.clone()), 1), &second, SMALL).unwrap();
    assert!(files(&second)["rows.csv"] == whole["rows.csv"]);

    let (rows, scorers) = read_rows(&first, &Silent).unwrap();
    let settings = sweep(false);
    let judgements = 1 + (SMALL.rounds / SMALL.every) as usize;
    assert_eq!(rows.len(), 2 * settings.len() * judgements * (2 + TRAINED));
    assert_eq!(scorers.len(), 2 * Kind::ALL.len() * (1 + TRAINED));
    for row in &rows {
        assert!(row.win + row.lose <= 1.0 + 1e-12, "{row:?}");
        if row.written == 0 {
            // The initial policy against itself, by the same random numbers.
            assert_eq!((row.win, row.lose), (0.0, 0.0), "{row:?}");
            assert!(row.kl.abs() < 1e-3, "{row:?}");
        }
        assert_eq!(row.score.is_none(), row.set == FORGET, "{row:?}");
    }
    // The main set is its classes.
    for main in rows.iter().filter(|r| r.set == MAIN) {
        let same = |r: &&Row| {
            r.setting() == main.setting() && r.seed == main.seed && r.written == main.written
        };
        let classes = rows.iter().filter(same).filter(|r| r.set.contains(": "));
        let wins: Vec<f64> = classes.map(|r| r.win).collect();
        let mean = wins.iter().sum::<f64>() / wins.len() as f64;
        assert!(wins.len() == TRAINED && (mean - main.win).abs() < 1e-12);
    }
    let moved = |r: &&Row| r.written > 0 && r.set == MAIN;
    assert!(rows.iter().filter(moved).all(|r| r.kl != 0.0));
    let text = report::report(&first, &Silent).unwrap();
    for method in METHODS {
        assert!(text.contains(method), "{method}");
    }
    fs::write(first.join("rows.csv"), write::<Row>(&[])).unwrap();
    let error = report::report(&first, &Silent).unwrap_err().to_string();
    assert!(error.contains("no complete row"), "{error}");
}

#[test]
fn scorers_score_as_their_saved_folders_do_and_offsets_are_of_the_class() {
    let place = tempfile::tempdir().unwrap();
    let request = request(None, 1);
    let tasks = Tasks::new(World::open(&request, place.path()).unwrap(), SMALL, 1).unwrap();
    let words: BTreeSet<&str> = (tasks.classes.iter())
        .chain([&tasks.forget])
        .map(|c| c.word.as_str())
        .collect();
    assert_eq!(words.len(), 1 + TRAINED);
    let prompts = tasks.prompts();
    let texts = tasks
        .world
        .texts(&prompts, &tasks.drawn[..prompts.len()])
        .unwrap();
    let fields = Map::new();
    let rows = candidates(&texts, &fields);
    let [plain, offset] = [false, true].map(|offset| {
        let mut scorer = tasks.scorer(Kind::Reward, 0, offset).unwrap();
        scorer.score(&rows, &Silent).unwrap()
    });
    for (index, (prompt, _)) in texts.iter().map(|[p, c]| (p, c)).enumerate() {
        let class = index / SMALL.prompts;
        assert!(prompt.trim_start().starts_with(&tasks.classes[class].word));
        assert!((offset[index] - plain[index] - OFFSETS[class]).abs() < 1e-12);
    }
    // As `score --reward model:DIR` reads it.
    let folder = place.path().join("advantage");
    fs::create_dir(&folder).unwrap();
    let model = tasks.trained(Kind::Advantage, 0).unwrap();
    let companions = Some(tasks.world.model.folder.as_path());
    AdvantageScorer(model).save(&folder, companions).unwrap();
    let flag = format!("model:{}", folder.display());
    let mut saved = (Specification::parse(&[flag]).unwrap())
        .build(&Resources::default())
        .unwrap();
    let saved = saved.score(&rows, &Silent).unwrap();
    let mut own = tasks.scorer(Kind::Advantage, 0, false).unwrap();
    let own = own.score(&rows, &Silent).unwrap();
    for (a, b) in saved.iter().zip(&own) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

/// What is rehearsed is, of each cluster, what the Advantage Model scores highest among the first completions of its
/// prompts; with one cluster that of all.
#[test]
fn with_one_cluster_the_best_of_all_are_rehearsed() {
    let place = tempfile::tempdir().unwrap();
    let request = request(None, 1);
    let tasks = Tasks::new(World::open(&request, place.path()).unwrap(), SMALL, 1).unwrap();
    let prompts = tasks.prompts();
    let first: Vec<_> = (tasks.drawn.chunks(DRAWN))
        .flat_map(|drawn| drawn[..CHOSEN_FROM].to_vec())
        .collect();
    let texts = tasks.world.texts(&prompts, &first).unwrap();
    let fields = Map::new();
    let mut scorer = tasks.scorer(Kind::Advantage, 0, false).unwrap();
    let scores = scorer.score(&candidates(&texts, &fields), &Silent).unwrap();
    let mut order: Vec<usize> = (0..first.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let wanted: BTreeSet<Vec<u32>> = (order[..5].iter())
        .map(|&i| [&prompts[i / CHOSEN_FROM][..], &first[i].tokens].concat())
        .collect();
    let found = tasks.rehearsed(0, 1, 5).unwrap();
    let found: BTreeSet<Vec<u32>> = (found.iter())
        .map(|e| e.responses[0].sequence.tokens().to_vec())
        .collect();
    assert_eq!(found, wanted);
    // As many in all from several clusters, unless one has fewer.
    assert!(tasks.rehearsed(0, 2, 6).unwrap().len() <= 6);
    assert!(tasks.rehearsed(0, 1000, 1000).is_err());
}

#[test]
fn a_model_whose_texts_begin_alike_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let request = request(None, 1);
    let world = World::open(&request, place.path()).unwrap();
    let sizes = Sizes { survey: 1, ..SMALL };
    let error = Tasks::new(world, sizes, 1).err().unwrap().to_string();
    assert!(error.contains("different words"), "{error}");
}

#[test]
fn a_rule_that_tells_nothing_apart_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let request = Request {
        reward: vec!["words:xyzzy".into()],
        ..request(None, 1)
    };
    let error = study(&request, place.path(), SMALL)
        .unwrap_err()
        .to_string();
    assert!(error.contains("the same one"), "{error}");
}
