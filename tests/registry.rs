//! A loss is said once: in its file, by a line of the registry, and by what its solver's file knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pistar::backend::Backend;
use pistar::backend::nd::Tape;
use pistar::loss::{
    Batch, Column, Columns, Given, InputKind, Inputs, Loss, Numbers, Objective, Spec, Temperature,
    register,
};
use pistar::{Error, Result};

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

/// A source without its comments and what comes with its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    let line = |line: &str| line.split("//").next().unwrap().to_string() + "\n";
    text.lines().map(line).collect()
}

/// Losses of the files of `src/loss`, as `module::Type`.
fn written() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for path in sources("src/loss") {
        let module = path.file_stem().unwrap().to_str().unwrap().to_string();
        for part in code(&path).split("impl Loss for ").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_alphanumeric()).collect();
            all.insert(format!("{module}::{name}"));
        }
    }
    all
}

/// A loss without its line is no objective, and this tells which it is.
#[test]
fn every_loss_has_its_line() {
    let registry = fs::read_to_string(sources_of("src/loss/registry.rs")).unwrap();
    let (_, list) = registry.split_once("\nregistry! {").unwrap();
    let (list, _) = list.split_once("\n}\n").unwrap();
    let has_line = |list: &str, loss: &String| {
        let lines = list
            .lines()
            .filter(|line| !line.trim_start().starts_with("///"));
        let rest = lines.filter_map(|line| line.split_once(&format!("super::{loss}")));
        rest.map(|(_, rest)| rest)
            .any(|rest| rest.starts_with([':', ',']))
    };
    let written = written();
    assert!(written.len() >= 20, "{written:?}");
    let forgotten: Vec<_> = written.iter().filter(|l| !has_line(list, l)).collect();
    assert!(
        forgotten.is_empty(),
        "no line in the registry: {forgotten:?}"
    );
    // A line that is taken out is missed.
    for loss in &written {
        let without: String = (list.lines())
            .filter(|line| !line.contains(&format!("super::{loss}")))
            .map(|line| line.to_string() + "\n")
            .collect();
        assert!(!has_line(&without, loss), "{loss}");
    }
}

fn sources_of(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// No loss is named where all are meant: not as a constant, not by its name. Losses, their solvers, methods and claims of
/// the papers are about some of them; a machine is checked with one.
#[test]
fn no_loss_is_named_outside_its_file() {
    let names: Vec<&str> = Objective::ALL.iter().map(|o| o.name()).collect();
    let about = [
        "src/loss/",
        "src/solve/",
        "src/claims/",
        "src/continual/",
        "src/sim/multitask/",
    ];
    let examples = ["src/llm/tools/doctor/model.rs"];
    let (mut seen, mut found) = (0, Vec::new());
    for path in sources("src") {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = path.strip_prefix(root).unwrap().display().to_string();
        if about.iter().any(|room| file.starts_with(room)) || examples.contains(&file.as_str()) {
            continue;
        }
        seen += 1;
        for line in code(&path).lines() {
            let constant = line.split("Objective::").skip(1).any(|rest| {
                let word: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
                    .collect();
                word.len() > 1 && word != "ALL"
            });
            let literal = names
                .iter()
                .any(|name| line.contains(&format!("\"{name}\"")));
            if constant || literal {
                found.push(format!("{file}: {}", line.trim()));
            }
        }
    }
    assert!(seen > 200, "{seen}");
    assert!(found.is_empty(), "{found:#?}");
}

struct Named(&'static str, &'static [&'static str]);

impl Loss for Named {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec {
            aliases: self.1,
            ..Spec::new(self.0, InputKind::LabelledPairs)
        }
    }
    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        inputs.pair()?.difference()?.affine(-n.beta, 0.0)
    }
}

#[test]
fn names_are_taken_once() {
    let refused = |loss: &'static Named, says: &str| {
        let error = register(loss).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(&Named("dpo", &[]), "dpo has that name");
    refused(&Named("own", &["hinge"]), "slic has that name");
    refused(&Named("Own", &[]), "no name for a command line");
    refused(&Named("own loss", &[]), "no name for a command line");
    refused(&Named("", &[]), "no name for a command line");
    refused(&Named("9-own", &[]), "no name for a command line");
}

pistar::numbers! {
    struct Nothing {
        /// A number that there is none of
        nothing in within(3.0, 1.0) = 2.0;
    }
}

pistar::numbers! {
    struct Outside {
        /// A number whose default it may not be
        outside in from(1.0) = 0.5;
    }
}

/// A loss with such numbers.
struct With<N>(std::marker::PhantomData<fn() -> N>);

impl<N: Numbers> Loss for With<N> {
    type Numbers = N;
    fn spec(&self) -> Spec {
        Spec::new("with-numbers", InputKind::LabelledPairs)
    }
    fn loss<X: Backend>(&self, _: &N, inputs: &Inputs<X>) -> Result<X> {
        inputs.pair()?.difference()?.neg()
    }
}

#[test]
fn a_number_has_a_range_and_its_default_is_in_it() {
    let nothing = register(&With::<Nothing>(std::marker::PhantomData)).unwrap_err();
    assert_eq!(
        nothing.to_string(),
        "objective `with-numbers`: number `nothing`: its range, a finite number from 3 up, below 1, has nothing in \
         it; give it another range"
    );
    let outside = register(&With::<Outside>(std::marker::PhantomData)).unwrap_err();
    assert_eq!(
        outside.to_string(),
        "objective `with-numbers`: number `outside`: its default is 0.5; give a finite number from 1 up"
    );
    assert!(Objective::from_name("with-numbers").is_err());
}

#[test]
fn other_names_and_spellings_are_the_same_objective() {
    for (typed, meant) in [
        ("sigmoid", "dpo"),
        ("SIGMOID", "dpo"),
        ("hinge", "slic"),
        ("apo_zero_unpaired", "kto-no-kl"),
        ("apo-zero-unpaired", "kto-no-kl"),
        ("Reward_Model", "reward-model"),
        ("DRO-V", "dro-v"),
    ] {
        assert_eq!(Objective::from_name(typed).unwrap().name(), meant);
    }
    let error = Objective::from_name("sigmoidal").unwrap_err().to_string();
    assert!(error.contains("`sigmoidal` is not registered"), "{error}");
    let mut all = BTreeSet::new();
    for objective in Objective::ALL {
        let spec = objective.spec();
        for name in std::iter::once(&spec.name).chain(spec.aliases) {
            assert!(all.insert(*name), "{name} is two objectives'");
        }
    }
}

#[test]
fn every_entry_is_whole() {
    for objective in Objective::ALL {
        let spec = objective.spec();
        for text in [spec.formula, spec.source, spec.fixed_point] {
            assert!(!text.is_empty(), "{}", spec.name);
        }
        for number in objective.numbers() {
            let name = format!("{}: {}", spec.name, number.name);
            assert!(
                number.help.len() > 5 && !number.help.ends_with('.'),
                "{name}"
            );
            assert!(number.range.holds(number.range.example()), "{name}");
            assert!(
                number.default.is_none_or(|d| number.range.holds(d)),
                "{name}"
            );
            assert!(!number.range.holds(f64::NAN), "{name}");
        }
    }
}

/// A number that must be given, is out of its range, or has no use, is an error that names it and the remedy.
#[test]
fn numbers_are_refused_by_name() {
    let says = |result: Result<()>, parts: &[&str]| {
        let error = result.unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
    };
    let bind = |objective: Objective, given: Given| objective.bind(&given).map(|_| ());
    says(
        bind(Objective::ADVANTAGE_MODEL, Given::new()),
        &["margin: it is missing", "give margin: m, "],
    );
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        says(
            bind(Objective::DPO, wrong.into()),
            &["beta: it is ", "a finite number above 0"],
        );
    }
    let unused = |objective: Objective, name: &str, value: f64| {
        objective.refuse_others(&Given::new().with(name, value))
    };
    says(
        unused(Objective::DPO, "desirable_weight", 2.0),
        &["`dpo` has no use for it", "kto, kto-per-prompt, kto-no-kl"],
    );
    says(
        unused(Objective::DPO, "gama", 2.0),
        &["gama: `dpo` has no use for it", "no objective has a number"],
    );
    // What it would be anyway does no harm.
    unused(Objective::DPO, "desirable_weight", 1.0).unwrap();
    unused(Objective::SFT, "beta", 0.1).unwrap();
}

/// A column that a loss does not read is not made: of a batch that has all of them, only as many arrays as it reads.
#[test]
fn columns_that_a_loss_does_not_read_are_not_made() {
    let wanted = |objective: Objective| -> &[Column] {
        use Column::{LogReference, Margin, Reward};
        match objective.name() {
            "sft" => &[],
            "rrhf" => &[Column::Tokens],
            "pro" => &[Reward, Column::Tokens],
            "reward-model" => &[Margin],
            "advantage-model" | "advantage-model-distinct" | "advantage-model-centred" => &[],
            "dpo" | "ipo" | "ipo-copg" | "ipo-gpo" | "slic" | "squared-hinge" => &[LogReference],
            "kto" | "kto-per-prompt" | "kto-no-kl" => &[LogReference],
            "ppo-clip" => &[LogReference, Column::LogOld, Reward],
            _ => &[LogReference, Reward],
        }
    };
    for objective in Objective::ALL {
        let bound = objective
            .bind(&objective.with_examples(Given::new()))
            .unwrap();
        let (kind, columns) = (objective.spec().inputs, bound.columns().unwrap());
        let read: Vec<Column> = (Column::ALL.into_iter())
            .filter(|&c| columns.has(c))
            .collect();
        assert_eq!(read, wanted(objective), "{objective:?}");
        let both = || [vec![-1.0; 2], vec![-2.0; 2]];
        let batch = Batch {
            log_policy: both(),
            log_reference: both(),
            log_old: both(),
            reward: both(),
            tokens: both(),
            baseline: vec![0.1; 2],
            desirable: vec![1.0, 0.0],
            label: vec![0.9; 2],
            margin: vec![0.2; 2],
            sizes: vec![2],
            weight: if kind.is_ragged() {
                vec![1.0]
            } else {
                vec![0.5; 2]
            },
            ..Batch::default()
        };
        let tape = Tape::new();
        let made = |columns: Columns| {
            let mut arrays = 0;
            let (inputs, _) = batch
                .inputs(
                    kind,
                    columns,
                    |v| Ok(tape.leaf(v.to_vec())),
                    |v| {
                        arrays += 1;
                        Ok(tape.constant(v.to_vec()))
                    },
                )
                .unwrap();
            bound.loss(&inputs).unwrap();
            arrays
        };
        let pair = [Column::Label, Column::Margin];
        let slots = |column: &Column| {
            if pair.contains(column) {
                1
            } else {
                kind.slots()
            }
        };
        let rated = usize::from(kind == InputKind::Rated);
        let few = read.iter().map(slots).sum::<usize>() + rated;
        assert_eq!(made(columns), few, "{objective:?}");
        assert!(made(Columns::ALL) > few, "{objective:?}");
    }
}

/// Reading a column for some inputs only is an error, not a wrong number.
#[test]
fn what_is_read_must_be_read_always() {
    struct Fickle;
    impl Loss for Fickle {
        type Numbers = Temperature;
        fn spec(&self) -> Spec {
            Spec::new("fickle", InputKind::LabelledPairs)
        }
        fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
            let pair = inputs.pair()?;
            if pair.first.log_policy().to_vec()?[0] > -0.05 {
                return pair.first.reward()?.affine(n.beta, 0.0);
            }
            pair.difference()
        }
    }
    let bound = Objective::of(&Fickle).bind(&1.0.into()).unwrap();
    let batch = |at: f64| Batch {
        log_policy: [vec![at], vec![-1.0]],
        log_reference: [vec![-1.0], vec![-1.0]],
        reward: [vec![1.0], vec![0.0]],
        weight: vec![1.0],
        ..Batch::default()
    };
    bound.on_tape(&batch(-1.0)).unwrap();
    let error: Error = bound.on_tape(&batch(0.0)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("read what its kind of examples has, and always")
    );
}

/// Which losses couple the examples of a batch is found out, and is none of these.
#[test]
fn coupled_losses_are_found_out() {
    struct Centred;
    impl Loss for Centred {
        type Numbers = Temperature;
        fn spec(&self) -> Spec {
            Spec::new("centred", InputKind::LabelledPairs)
        }
        fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
            let d = inputs.pair()?.difference()?;
            d.sub(&d.mean()?)?.affine(n.beta, 0.0)?.square()
        }
    }
    for objective in Objective::ALL {
        let bound = objective
            .bind(&objective.with_examples(Given::new()))
            .unwrap();
        assert!(!bound.is_coupled().unwrap(), "{objective:?}");
    }
    let centred = Objective::of(&Centred).bind(&1.0.into()).unwrap();
    assert!(centred.is_coupled().unwrap());
}
