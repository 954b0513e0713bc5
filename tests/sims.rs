//! The exact sweeps: what they write, and that their numbers are those of the solvers.

use std::collections::BTreeMap;

use pistar::bandit::{Evidence, Problem};
use pistar::loss::Objective;
use pistar::solve::fixed_point;

use super::cli::Place;

/// Each sim with settings that make it small, and its tables.
const SMALL: &[(&str, &[&str], &[&str])] = &[
    ("ipo-bias", &["--samples=20"], &["rows.csv", "rankings.csv"]),
    (
        "coverage",
        &["--samples=50", "--seeds=3"],
        &["rows.csv", "sampled.csv", "skipped.csv"],
    ),
    (
        "reward-noise",
        &["--samples=200", "--seeds=3"],
        &["rows.csv", "limits.csv", "skipped.csv"],
    ),
    (
        "dro-value-error",
        &["--samples=2"],
        &["rows.csv", "counts.csv"],
    ),
    ("copr-bound", &[], &["rows.csv", "motion.csv"]),
    (
        "copr-continual",
        &["--seeds=1"],
        &["rows.csv", "metrics.csv"],
    ),
    (
        "bpo-phases",
        &["--seeds=1"],
        &["rows.csv", "static.csv", "trained.csv"],
    ),
    (
        "am-calibration",
        &["--seeds=2"],
        &["rows.csv", "categories.csv"],
    ),
    ("am-hacking", &["--seeds=2"], &["rows.csv", "clusters.csv"]),
];

/// Columns of names.
const NAMES: [&str; 5] = ["objective", "method", "model", "inner", "reference"];

fn small(name: &str) -> &'static [&'static str] {
    SMALL.iter().find(|s| s.0 == name).unwrap().1
}

fn run(place: &Place, name: &str, out: &str, more: &[&str]) -> String {
    let to = format!("--out={out}");
    place.ok(&[&["sim", name, &to], small(name), more].concat())
}

/// The lines of a table, by the names of its columns.
fn table(content: &str) -> Vec<BTreeMap<&str, &str>> {
    let mut lines = content.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &'_ str| -> Vec<String> { line.split(',').map(str::to_owned).collect() };
    lines
        .filter(|line| !line.contains('"'))
        .map(|line| {
            assert_eq!(row(line).len(), columns.len(), "{line}");
            columns.iter().copied().zip(line.split(',')).collect()
        })
        .collect()
}

fn number(row: &BTreeMap<&str, &str>, column: &str) -> f64 {
    row[column]
        .parse()
        .unwrap_or_else(|_| panic!("{column}: {row:?}"))
}

/// Every sim is listed, runs, has a figure, and has a section of the report.
#[test]
fn the_same_bytes_on_any_number_of_threads() {
    let place = Place::new();
    for (name, _, tables) in SMALL {
        let said = run(&place, name, "one", &["--threads=1", "--overwrite"]);
        assert!(said.contains(&format!("figure: one/{name}.svg")), "{said}");
        run(&place, name, "two", &["--threads=2", "--overwrite"]);
        for file in [*tables, &[&format!("{name}.svg")]].concat() {
            let one = place.read(&format!("one/{file}"));
            assert_eq!(one, place.read(&format!("two/{file}")), "{name}: {file}");
            assert!(
                one.lines().count() > 1 || file == "skipped.csv",
                "{name}: {file}"
            );
        }
        let manifest: serde_json::Value =
            serde_json::from_str(&place.read("one/manifest.json")).unwrap();
        assert_eq!(manifest["sim"], *name);
        assert_eq!(manifest["status"], "complete");
        assert!(manifest.get("train_s").is_none(), "nothing was trained");
        assert!(manifest["config"].is_object());
    }
}

/// A table with a bad cell is refused by name, and a figure is drawn again from good ones.
#[test]
fn bad_rows_are_named() {
    let place = Place::new();
    for (name, _, tables) in SMALL {
        run(&place, name, name, &["--no-figure"]);
        let figure = ["figure", name, &format!("--from={name}"), "--out=fig"];
        place.ok(&figure);
        assert!(place.read("fig.svg").contains("<svg"));
        for file in *tables {
            if *file == "skipped.csv" {
                continue;
            }
            let path = format!("{name}/{file}");
            let good = place.read(&path);
            let (header, _) = good.split_once('\n').unwrap();
            let columns: Vec<_> = header.split(',').collect();
            let numeric = columns.iter().position(|c| !NAMES.contains(c));
            let second = good.lines().nth(1).unwrap();
            let mut cells: Vec<_> = second.split(',').collect();
            let at = numeric.unwrap();
            cells[at] = "x1";
            for (bad, says) in [
                (
                    format!("{header}\n{}\n", cells.join(",")),
                    format!("line 2: {}: `x1`", columns[at]),
                ),
                (format!("{header}\n{second},0\n"), "line 2: expected".into()),
                (
                    format!("nonsense\n{second}\n"),
                    "line 1: expected the header".into(),
                ),
                (String::new(), "is empty".into()),
            ] {
                place.write(&path, bad);
                place.refuses(&figure, &[file, &says]);
            }
            place.write(&path, good);
        }
        place.ok(&figure);
    }
}

/// Options that a sim would ignore are refused; so are runs over another run's rows.
#[test]
fn what_a_sim_would_ignore_is_refused() {
    let place = Place::new();
    for (name, _, _) in SMALL {
        for option in [
            "--lr=0.1",
            "--epochs=3",
            "--sgd",
            "--batch=5",
            "--drop-last",
        ] {
            let flag = option.split('=').next().unwrap();
            place.refuses(
                &["sim", name, "--out=x", option],
                &[flag, name, "no such option"],
            );
        }
        place.refuses(&["sim", name, "--out=x", "--samples=0"], &["--samples"]);
        place.refuses(&["sim", name, "--out=x", "--threads=0"], &["threads"]);
        run(&place, name, name, &["--no-figure"]);
        let out = format!("--out={name}");
        let other = [&["sim", name, &out, "--key=1"], small(name)].concat();
        // Nothing of the bound is random: another key is the same run.
        if *name != "copr-bound" {
            place.refuses(&other, &["rows.csv", "--overwrite"]);
        }
    }
    place.refuses(&["sim", "ipo-bias", "--seeds=3"], &["--seeds", "--samples"]);
    place.refuses(
        &["sim", "coverage", "--objective=ipo,ipo"],
        &["--objective", "ipo", "twice"],
    );
}

/// The map's cells are IPO's exact limits, mirror images of each other, and rank rightly on the
/// diagonal, where the laws are equal.
#[test]
fn the_map_of_ipo_is_exact() {
    let place = Place::new();
    run(&place, "ipo-bias", "map", &["--no-figure"]);
    let content = place.read("map/rows.csv");
    let cells = table(&content);
    let at: BTreeMap<(String, String), &BTreeMap<&str, &str>> = (cells.iter())
        .map(|c| ((c["first"].to_owned(), c["second"].to_owned()), c))
        .collect();
    let mut wrong = 0;
    for cell in cells.iter().step_by(7) {
        let (s, t) = (number(cell, "first"), number(cell, "second"));
        let mirror = at[&(cell["second"].to_owned(), cell["first"].to_owned())];
        assert!((number(cell, "regret") - number(mirror, "regret")).abs() < 1e-12);
        if s == t {
            assert_eq!((cell["best"], cell["inverted"]), ("0", "0"));
        }
        wrong += u32::from(cell["best"] != "0");
        let (p, q) = ([0.08, 0.02, 0.72, 0.18], [0.02, 0.32, 0.02, 0.64]);
        let law = |t: f64| -> Vec<f64> { (0..4).map(|a| (1.0 - t) * p[a] + t * q[a]).collect() };
        let file = serde_json::json!({"beta": 0.5, "prompts": [
            {"reward": [2.8, 2.4, 0.7, -2.5], "behavior": [law(s), law(t)]}]});
        let problem = Problem::from_json(&file.to_string()).unwrap();
        let point = fixed_point(Objective::IPO, &problem, &Evidence::population(&problem)).unwrap();
        assert!((point.regret.unwrap() - number(cell, "regret")).abs() < 1e-12);
        let policy = point.policy.unwrap().probabilities();
        let best = (0..4)
            .max_by(|&a, &b| policy[0][a].total_cmp(&policy[0][b]))
            .unwrap();
        assert_eq!(best.to_string(), cell["best"]);
    }
    assert!(wrong > 10, "the map has a region that is ranked wrongly");
}

/// CoPG is exact at every coverage, and without noise on nearly every dataset; with noise it is
/// not, and IPO never is.
#[test]
fn sweeps_say_what_the_theory_says() {
    let place = Place::new();
    run(&place, "coverage", "coverage", &["--no-figure"]);
    run(&place, "reward-noise", "noise", &["--no-figure"]);
    let regrets = |file: &str, objective: &str, noise: Option<f64>| -> Vec<f64> {
        let content = place.read(file);
        let rows = table(&content).into_iter().filter(|r| {
            r["objective"] == objective && noise.is_none_or(|n| number(r, "noise") == n)
        });
        rows.map(|r| number(&r, "regret")).collect()
    };
    let all = |values: &[f64], holds: fn(f64) -> bool| {
        assert!(
            !values.is_empty() && values.iter().all(|v| holds(*v)),
            "{values:?}"
        );
    };
    for exact in ["copg", "dpo", "rloo", "pg-soft-value"] {
        all(&regrets("coverage/rows.csv", exact, None), |r| r < 1e-12);
    }
    all(&regrets("coverage/rows.csv", "ipo", None), |r| r > 0.1);
    all(&regrets("noise/rows.csv", "copg", Some(0.0)), |r| r < 1e-12);
    all(&regrets("noise/rows.csv", "copg", Some(1.0)), |r| r > 1e-7);
    let ipo = regrets("noise/limits.csv", "ipo", None);
    assert!((ipo[0] - 0.152_530_660_343).abs() < 1e-9, "{ipo:?}");
}

/// An objective whose inputs the problem lacks is named, with what it lacks.
#[test]
fn objectives_without_their_inputs_are_named() {
    let place = Place::new();
    let bare = r#"{"beta": 1, "prompts": [{"reward": [1, 0], "behavior": [[0.5, 0.5]]}]}"#;
    place.write("bare.json", bare);
    let lists = [
        "sim",
        "reward-noise",
        "--problem=bare.json",
        "--samples=50",
        "--seeds=1",
    ];
    place.ok(&[
        &lists[..],
        &["--objective=copg,copr,dro-fixed", "--out=run"],
    ]
    .concat());
    let skipped = place.read("run/skipped.csv");
    assert!(skipped.contains("dro-fixed,"), "{skipped}");
    assert!(skipped.contains("value"), "{skipped}");
    assert!(!skipped.contains("copg,"), "{skipped}");
}

/// The new sims' numbers are those of the theory: eq. 6 bounds every minimum and V ≤ V* has one;
/// a small γ is worse than a large one only for p > ½; phases of DPO are static DPO; the margin
/// costs calibration on the population and a plain reward model has no error there.
#[test]
fn sweeps_of_the_other_papers_say_so_too() {
    let place = Place::new();
    let tables = |name: &str, file: &str| {
        if !place.at(name).exists() {
            run(&place, name, name, &["--no-figure"]);
        }
        place.read(&format!("{name}/{file}"))
    };
    let minima = tables("dro-value-error", "rows.csv");
    let minima = table(&minima);
    for m in &minima {
        let [error, sharper, bound] = ["error", "sharper", "bound"].map(|c| number(m, c));
        assert!(error <= sharper + 1e-7 && sharper <= bound + 1e-7, "{m:?}");
        assert!(number(m, "offset") > 0.0 || m["rank"] == "0", "{m:?}");
    }
    assert!(minima.iter().any(|m| m["rank"] == "1"));

    let bound = tables("copr-bound", "rows.csv");
    for p in ["0.1", "0.3", "0.7", "0.95"] {
        let of: Vec<f64> = (table(&bound).iter().filter(|r| r["p"] == p))
            .map(|r| number(r, "divergence"))
            .collect();
        let (none, all) = (of[0], of[of.len() - 1]);
        assert_eq!(
            none > all,
            number(&BTreeMap::from([("p", p)]), "p") > 0.5,
            "{p}"
        );
    }

    let (exact, fixed) = (
        tables("bpo-phases", "rows.csv"),
        tables("bpo-phases", "static.csv"),
    );
    let dpo: Vec<f64> = (table(&exact).iter().filter(|r| r["inner"] == "bpo-dpo"))
        .map(|r| number(r, "regret"))
        .collect();
    for (a, b) in dpo.iter().zip(table(&fixed)) {
        assert!((a - number(&b, "regret")).abs() < 1e-12, "{b:?}");
        assert!((a - number(&b, "stepwise")).abs() < 1e-12, "{b:?}");
    }
    assert!(dpo[0] < 1e-14 && dpo.windows(2).all(|w| w[1] > w[0]));

    // With one phase no reference moves but an average: the policies are those of the initial one.
    let sampled = tables("bpo-phases", "trained.csv");
    let of = |reference: &str, phases: &str| -> Vec<String> {
        (table(&sampled).iter())
            .filter(|r| r["reference"] == reference && r["phases"] == phases)
            .map(|r| r["regret"].to_string())
            .collect()
    };
    assert_eq!(of("behaviour", "1"), of("static", "1"));
    for reference in [
        "golden",
        "ema:0.05",
        "ema:0.01",
        "ema:0.001",
        "ensemble:5",
        "ensemble:1",
    ] {
        assert_eq!(of(reference, "400").len(), 3, "{reference}");
        assert_ne!(of(reference, "400"), of("behaviour", "400"), "{reference}");
        assert_ne!(of(reference, "400"), of("static", "400"), "{reference}");
    }

    let errors = tables("am-calibration", "rows.csv");
    for row in table(&errors).iter().filter(|r| r["labels"] == "0") {
        let error = number(row, "error");
        match row["model"] {
            "reward model" => assert!(error < 1e-3, "{row:?}"),
            _ => assert!(error > 1e-3, "{row:?}"),
        }
    }

    let kept = tables("copr-continual", "rows.csv");
    let manifest: serde_json::Value =
        serde_json::from_str(&place.read("copr-continual/manifest.json")).unwrap();
    let methods = manifest["config"]["methods"].as_array().unwrap();
    let settings = |name: &str| {
        let method = methods.iter().find(|m| m["name"] == name);
        method.unwrap()["settings"].as_str().unwrap().to_owned()
    };
    for method in pistar::continual::Method::ALL {
        let named = settings(method.name);
        let tuned = method
            .settings
            .iter()
            .all(|of| named.contains(of.setting.name()));
        assert!(tuned || named == "as it comes", "{}: {named}", method.name);
    }
    assert_eq!(settings("copr, as printed"), "as it comes");
    let of = |method: &str| -> Vec<f64> {
        let lines = kept
            .lines()
            .filter_map(|l| l.strip_prefix(&format!("{method},")));
        lines
            .map(|l| l.rsplit(',').next().unwrap().parse().unwrap())
            .collect()
    };
    let (copr, printed) = (of("copr"), of("\"copr, as printed\""));
    assert_eq!((copr.len(), printed.len()), (6, 6));
    assert_ne!(copr, printed);
    let diagonal = table(&kept).into_iter().filter(|r| r["after"] == r["task"]);
    let first: Vec<f64> = (diagonal.filter(|r| r["task"] == "0"))
        .map(|r| number(&r, "accuracy"))
        .collect();
    assert!(
        first.iter().all(|a| *a > 0.6),
        "the first task is learned: {first:?}"
    );
}

/// Every sequence is learned in each order, with the settings that are given; what cannot be run is refused by name.
#[test]
fn continual_learning_in_several_orders() {
    let place = Place::new();
    let more = [
        "--orders=2",
        "--replay=0.1",
        "--alpha=0.5",
        "--beta=0.25",
        "--no-figure",
    ];
    run(&place, "copr-continual", "orders", &more);
    let content = place.read("orders/metrics.csv");
    let of = |method: &str| -> Vec<(String, f64)> {
        let rows = table(&content)
            .into_iter()
            .filter(|r| r["method"] == method);
        rows.map(|r| (r["order"].to_owned(), number(&r, "average")))
            .collect()
    };
    for method in pistar::continual::Method::ALL {
        let rows = of(method.name);
        let orders: Vec<&str> = rows.iter().map(|r| r.0.as_str()).collect();
        assert_eq!(orders, ["0", "1"], "{}", method.name);
    }
    let copr = of("copr");
    assert_ne!(copr[0].1, copr[1].1);
    let manifest = place.read("orders/manifest.json");
    assert!(
        manifest.contains("but multiplier_rate=0.5, but beta=0.25"),
        "{manifest}"
    );
    assert!(manifest.contains("\"replay\": 0.1"), "{manifest}");
    let refuses = |option: &str, says: &str| {
        place.refuses(
            &["sim", "copr-continual", "--seeds=1", "--out=x", option],
            &[says],
        );
    };
    refuses("--orders=7", "--orders: 7");
    refuses("--orders=0", "--orders: 0");
    refuses("--replay=1.5", "replay: it is 1.5");
    refuses("--alpha=-1", "multiplier rate: it is -1");
    refuses("--beta=0", "beta: it is 0");
    place.refuses(
        &["sim", "copr-continual", "--tune", "--orders=2", "--out=x"],
        &["--orders", "no such option"],
    );
    place.refuses(
        &["sim", "copr-bound", "--tune", "--out=x"],
        &["--tune", "no such option"],
    );
}
