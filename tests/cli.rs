//! The command, run as users run it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pistar::loss::Objective;
use pistar::solve::bpo::Inner;
use serde_json::{Value, json};
use tempfile::TempDir;

/// J* of the toy, and the regrets of IPO and of policy gradient with a value baseline.
const OPTIMUM: f64 = 2.125_199_964_050_038;
const IPO: f64 = 0.152_530_660_343;
const PG_VALUE: f64 = 0.014_817_426_243;
const RATIOS: &str = r#"{"logits": [[0.3, -0.2, 0.1]]}"#;

/// A folder to run in, with `toy.json` and `toy.toml` as `problem new` prints them.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        let new = place.ok(&["problem", "new"]);
        place.write("toy.json", &new);
        let toml = place.ok(&["problem", "new", "--toml"]);
        place.write("toy.toml", &toml);
        place
    }

    pub fn at(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.at(name), contents).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pistar"));
        command.args(args).current_dir(self.0.path());
        command
    }

    pub fn run(&self, args: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut child = (self.command(args))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that fails early does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_ref());
        child.wait_with_output().unwrap()
    }

    /// Runs what must succeed, silently on stderr, and returns what it prints.
    fn ok_from(&self, args: &[&str], input: impl AsRef<[u8]>) -> String {
        let output = self.run(args, input);
        let err = text(&output.stderr);
        assert!(output.status.success(), "{args:?}: {err}");
        assert_eq!(err, "", "{args:?}");
        text(&output.stdout)
    }

    pub fn ok(&self, args: &[&str]) -> String {
        self.ok_from(args, "")
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// What is wrong with how the command refuses; the message must hold every one of `says`.
    fn refusal(&self, args: &[&str], input: impl AsRef<[u8]>, says: &[&str]) -> Result<(), String> {
        let output = self.run(args, input);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let fail = |what: String| Err(format!("{args:?}: {what}; stderr: {err}"));
        if output.status.code() != Some(2) {
            return fail(format!("{}, not exit code 2", output.status));
        }
        if !out.is_empty() {
            return fail(format!("stdout: {out}"));
        }
        if !err.starts_with("error: ") || err.matches("error: ").count() != 1 {
            return fail("not one `error:` message".into());
        }
        if err.contains("panicked") {
            return fail("a panic".into());
        }
        if err.matches("(os error").count() > 1 {
            return fail("the system's word twice".into());
        }
        let missing: Vec<_> = says.iter().filter(|s| !err.contains(**s)).collect();
        if !missing.is_empty() {
            return fail(format!("lacks {missing:?}"));
        }
        Ok(())
    }

    fn refuses_from(&self, args: &[&str], input: impl AsRef<[u8]>, says: &[&str]) {
        self.refusal(args, input, says).unwrap();
    }

    pub fn refuses(&self, args: &[&str], says: &[&str]) {
        self.refuses_from(args, "", says);
    }

    /// A short training run of the sim into a folder.
    fn sim(&self, out: &str, more: &[&str]) -> String {
        self.ok(&sim(out, more))
    }
}

const SHORT: [&str; 10] = [
    "sim",
    "copg-toy",
    "--no-figure",
    "--lr=0.01",
    "--objective=copg,ipo",
    "--seeds=5",
    "--epochs=3",
    "--samples=600",
    "--batch=64",
    "--out",
];

fn sim<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    // Of a flag given again, the test's own wins.
    let flag = |arg: &str| arg.split('=').next().unwrap_or_default().to_string();
    let again: Vec<_> = more.iter().map(|m| flag(m)).collect();
    let mut args: Vec<_> = (SHORT.into_iter())
        .filter(|arg| !again.contains(&flag(arg)))
        .collect();
    args.push(out);
    args.extend(more);
    args
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn num(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn near(value: &Value, want: f64, tolerance: f64) {
    let have = num(value);
    assert!((have - want).abs() <= tolerance, "{have} is not {want}");
}

/// All complaints of a table at once.
fn none(complaints: impl IntoIterator<Item = Result<(), String>>) {
    let all: Vec<_> = complaints.into_iter().filter_map(Result::err).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// Checks that rows are whole; returns how many, and whether the last one was cut off.
fn rows(content: &str) -> (usize, bool) {
    let whole = content.rfind('\n').map_or(0, |at| at + 1);
    let mut lines = content[..whole].lines();
    if let Some(header) = lines.next() {
        assert_eq!(header, "lr,objective,seed,epoch,regret");
    }
    let count = lines
        .inspect(|line| {
            let fields: Vec<_> = line.split(',').collect();
            assert_eq!(fields.len(), 5, "{line}");
            assert!(fields[4].parse::<f64>().unwrap().is_finite(), "{line}");
        })
        .count();
    (count, whole < content.len())
}

// What works.

#[test]
fn solve_knows_the_toy() {
    let place = Place::new();
    let answer = place.json(&["solve", "toy.json", "--json"]);
    assert_eq!(answer["beta"], 0.5);
    near(&answer["optimum"]["objective"], OPTIMUM, 1e-14);
    near(&answer["optimum"]["value"][0], OPTIMUM, 1e-14);
    let points = answer["fixed_points"].as_object().unwrap();
    // But for the policy gradient whose baseline is to be given.
    assert_eq!(points.len(), Objective::ALL.len() - 1 + Inner::ALL.len());
    let why = answer["skipped"]["pg"].as_str().unwrap();
    assert!(why.contains("baseline: it is missing"), "{why}");
    for (name, regret) in [
        ("copg", 0.0),
        ("dpo", 0.0),
        ("rloo", 0.0),
        ("ipo", IPO),
        ("ipo-copg", IPO),
        ("pg-value", PG_VALUE),
        ("pg-soft-value", 0.0),
    ] {
        near(&points[name]["regret"], regret, 1e-12);
    }
    for (name, point) in points {
        let policy = point["policy"][0].as_array().unwrap();
        let logs = point["log_policy"][0].as_array().unwrap();
        let sum: f64 = policy.iter().map(num).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{name}");
        for (p, l) in policy.iter().zip(logs) {
            near(p, l.as_f64().map_or(0.0, f64::exp), 1e-12);
        }
        assert!(num(&point["residual"]) < 1e-12, "{name}");
        assert_eq!(point["unique"], true, "{name}");
        assert!(!point["method"].as_str().unwrap().is_empty(), "{name}");
    }
}

#[test]
fn solve_is_readable() {
    let place = Place::new();
    let shown = place.ok(&["solve", "toy.json"]);
    assert!(
        shown.starts_with("1 prompt, 3 arms, β = 0.5; fixed points on the population\n"),
        "{shown}"
    );
    for line in [
        "J* = 2.1252",
        "ipo                        0.15253",
        "pg-value                   0.014817",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let log = place.ok(&["solve", "toy.json", "--log", "--objective", "copg"]);
    assert!(
        log.contains("ln π\n") && log.contains("copg       -0.34901"),
        "{log}"
    );
}

#[test]
fn standard_input_and_toml_give_the_same() {
    let place = Place::new();
    let args = ["solve", "toy.json", "--json"];
    let answer = place.ok(&args);
    assert_eq!(
        place.ok_from(&["solve", "-", "--json"], place.read("toy.json")),
        answer
    );
    assert_eq!(place.ok(&["solve", "toy.toml", "--json"]), answer);
    assert_eq!(
        place.ok_from(&["solve", "-", "--json"], place.read("toy.toml")),
        answer
    );
    let minimal = r#"{"beta": 0.5, "margin": 2.5, "prompts": [{"reward": [2.5, 2, 1],
        "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]], "value": 1.7, "ranking": [2, 1, 0]}]}"#;
    assert_eq!(place.ok_from(&["solve", "-", "--json"], minimal), answer);
    let windows = place.read("toy.toml").replace('\n', "\r\n");
    assert_eq!(place.ok_from(&["solve", "-", "--json"], windows), answer);
}

#[test]
fn json_numbers_are_read_exactly() {
    // Seventeen digits, where a fast parser is off by one unit in the last place.
    let (json, toml) = (
        r#"{"beta": 1, "prompts": [{"reward": [-1.4700223856517873, 1.4018792127406245],
            "behavior": [[0.5, 0.5]]}]}"#,
        "beta = 1\n[[prompts]]\nreward = [-1.4700223856517873, 1.4018792127406245]\n\
         behavior = [[0.5, 0.5]]\n",
    );
    let place = Place::new();
    for problem in [json, toml] {
        let args = ["problem", "draw", "-", "--kind", "singles", "--samples=40"];
        let drawn = place.ok_from(&args, problem);
        for reward in ["-1.4700223856517873}", "1.4018792127406245}"] {
            assert!(drawn.contains(reward), "{problem}: {drawn}");
        }
    }
}

#[test]
fn a_list_of_temperatures_gives_a_list_of_answers() {
    let place = Place::new();
    let args = [
        "solve",
        "toy.json",
        "--objective=ipo",
        "--json",
        "--beta=0.25,0.5,1",
    ];
    let answers = place.json(&args);
    let betas: Vec<_> = (answers.as_array().unwrap().iter())
        .map(|a| num(&a["beta"]))
        .collect();
    assert_eq!(betas, [0.25, 0.5, 1.0]);
    near(&answers[1]["fixed_points"]["ipo"]["regret"], IPO, 1e-12);
    // At β/2, IPO is where IPO in GPO's form is at β.
    let gpo = place.json(&["solve", "toy.json", "--objective=ipo-gpo", "--json"]);
    assert_eq!(
        gpo["fixed_points"]["ipo-gpo"]["policy"],
        answers[0]["fixed_points"]["ipo"]["policy"]
    );

    let many: Vec<_> = (1..=300)
        .map(|i| (f64::from(i) / 100.0).to_string())
        .collect();
    let list = format!("--beta={}", many.join(","));
    let answers = place.json(&["solve", "toy.json", "--objective=ipo,dpo", "--json", &list]);
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 300);
    for answer in answers {
        assert!(num(&answer["fixed_points"]["ipo"]["regret"]) >= 0.0);
        near(&answer["fixed_points"]["dpo"]["regret"], 0.0, 1e-12);
    }
}

/// Every pair of the toy as often as its laws have it, in 200 lines.
fn exact_pairs(label: impl Fn(usize, usize) -> String) -> String {
    let mut lines = String::new();
    for (y, p) in [20, 40, 140].into_iter().enumerate() {
        for (z, q) in [1, 1, 18].into_iter().enumerate() {
            for _ in 0..p * q / 20 {
                lines += &format!(
                    "{{\"prompt\": 0, \"first\": {y}, \"second\": {z}{}}}\n",
                    label(y, z)
                );
            }
        }
    }
    lines
}

#[test]
fn a_dataset_that_repeats_the_laws_solves_like_the_population() {
    let place = Place::new();
    let reward = [2.5, 2.0, 1.0];
    let probability = |y: usize, z: usize| 1.0 / (1.0 + f64::exp(reward[z] - reward[y]));
    for (name, label) in [("plain.jsonl", false), ("labelled.jsonl", true)] {
        let lines = exact_pairs(|y, z| {
            if label {
                format!(", \"label\": {}", probability(y, z))
            } else {
                String::new()
            }
        });
        assert_eq!(lines.lines().count(), 200);
        place.write(name, lines);
        let answer = place.json(&["solve", "toy.json", "--data", name, "--json"]);
        let points = &answer["fixed_points"];
        near(&points["ipo"]["regret"], IPO, 1e-11);
        near(&points["pg-value"]["regret"], PG_VALUE, 1e-11);
        near(&points["dpo"]["regret"], 0.0, 1e-11);
    }
    let shown = place.ok(&["solve", "toy.json", "--data", "plain.jsonl"]);
    assert!(
        shown.contains("fixed points on 200 logged examples"),
        "{shown}"
    );
    let piped = place.ok_from(
        &["solve", "toy.json", "--data", "-", "--json"],
        place.read("plain.jsonl"),
    );
    assert_eq!(
        piped,
        place.ok(&["solve", "toy.json", "--data", "plain.jsonl", "--json"])
    );
}

#[test]
fn drawn_data_solves() {
    let place = Place::new();
    for (kind, objective) in [
        ("pairs", "copg"),
        ("preferences", "dpo"),
        ("rankings", "ipo"),
        ("singles", "pg-zero"),
    ] {
        let args = [
            "problem",
            "draw",
            "toy.json",
            "--samples=300",
            "--kind",
            kind,
        ];
        let data = place.ok(&args);
        assert_eq!(data.lines().count(), 300, "{kind}");
        assert_eq!(
            place.ok(&args),
            data,
            "{kind}: the same seed, the same data"
        );
        let other: Vec<_> = args.into_iter().chain(["--seed=1"]).collect();
        assert_ne!(place.ok(&other), data, "{kind}");
        place.write("data.jsonl", &data);
        let args = [
            "solve",
            "toy.json",
            "--data=data.jsonl",
            "--json",
            "--objective",
        ];
        let args: Vec<_> = args.into_iter().chain([objective]).collect();
        let point = &place.json(&args)["fixed_points"][objective];
        assert!(num(&point["regret"]) >= -1e-12, "{kind}: {point}");
    }
    // A population without comparisons leaves the others out and says why.
    let singles = place.ok(&["problem", "draw", "toy.json", "--kind=singles"]);
    let answer: Value =
        serde_json::from_str(&place.ok_from(&["solve", "toy.json", "--data=-", "--json"], singles))
            .unwrap();
    assert!(answer["fixed_points"]["pg-zero"].is_object());
    assert!(answer["fixed_points"]["dpo"].is_null());
    let why = answer["skipped"]["dpo"].as_str().unwrap();
    assert!(why.contains("single responses"), "{why}");
}

#[test]
fn an_excluded_arm_comes_back_as_zero() {
    let place = Place::new();
    let third = 1.0 / 3.0;
    let problem = json!({"beta": 0.5, "prompts": [{
        "reward": [2.5, 9.0, 2.0, 1.0],
        "reference": [third, 0.0, third, third],
        "behavior": [[0.1, 0.0, 0.2, 0.7], [0.05, 0.0, 0.05, 0.9]],
    }]});
    place.write("excluded.json", problem.to_string());
    let answer = place.json(&["solve", "excluded.json", "--json"]);
    near(&answer["optimum"]["objective"], OPTIMUM, 1e-12);
    near(&answer["fixed_points"]["ipo"]["regret"], IPO, 1e-12);
    let tables = (answer["fixed_points"].as_object().unwrap().values())
        .chain(std::iter::once(&answer["optimum"]));
    for table in tables {
        assert_eq!(table["policy"][0].as_array().unwrap().len(), 4);
        assert_eq!(table["policy"][0][1], 0.0);
        assert_eq!(table["log_policy"][0].as_array().unwrap().len(), 4);
        assert!(table["log_policy"][0][1].is_null());
        assert!(table["log_policy"][0][2].is_number());
    }
    let args = [
        "loss",
        "excluded.json",
        "--objective=ipo",
        "--logits=-",
        "--json",
    ];
    let four = place.ok_from(&args, r#"{"logits": [[0.3, 77.0, -0.2, 0.1]]}"#);
    let four: Value = serde_json::from_str(&four).unwrap();
    let args = [
        "loss",
        "toy.json",
        "--objective=ipo",
        "--logits=-",
        "--json",
    ];
    let three: Value = serde_json::from_str(&place.ok_from(&args, RATIOS)).unwrap();
    assert_eq!(four["gradient"][0][1], 0.0);
    near(&four["value"], num(&three["value"]), 1e-14);
    for (a, b) in [(0, 0), (2, 1), (3, 2)] {
        near(
            &four["gradient"][0][a],
            num(&three["gradient"][0][b]),
            1e-14,
        );
    }
    place.refuses_from(
        &["solve", "excluded.json", "--data=-"],
        r#"{"prompt": 0, "first": 0, "second": 1}"#,
        &[
            "standard input:1: second",
            "arm 1 has reference probability 0",
            "drop the line",
        ],
    );
}

#[test]
fn loss_is_the_sum_over_pairs() {
    let place = Place::new();
    place.write("logits.json", RATIOS);
    let loss = |objective: &str| {
        let flag = format!("--objective={objective}");
        place.json(&["loss", "toy.json", &flag, "--logits=logits.json", "--json"])
    };
    // DPO by hand: the reference is uniform, so differences of u are differences of logits.
    let (theta, reward) = ([0.3, -0.2, 0.1], [2.5, 2.0, 1.0]);
    let (first, second) = ([0.1, 0.2, 0.7], [0.05, 0.05, 0.9]);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let value = |theta: [f64; 3]| {
        let mut sum = 0.0;
        for y in 0..3 {
            for z in 0..3 {
                let wins = sigmoid(reward[y] - reward[z]);
                let d = 0.5 * (theta[y] - theta[z]);
                sum -= first[y]
                    * second[z]
                    * (wins * sigmoid(d).ln() + (1.0 - wins) * sigmoid(-d).ln());
            }
        }
        sum
    };
    let dpo = loss("dpo");
    assert_eq!(dpo["objective"], "dpo");
    near(&dpo["value"], value(theta), 1e-14);
    for arm in 0..3 {
        let (mut up, mut down) = (theta, theta);
        up[arm] += 1e-6;
        down[arm] -= 1e-6;
        let slope = (value(up) - value(down)) / 2e-6;
        near(&dpo["gradient"][0][arm], slope, 1e-9);
    }
    for objective in ["pg-zero", "pg-value", "pg-soft-value", "rloo"] {
        let field = loss(objective);
        assert!(field.get("value").is_none(), "{field}");
        let sum: f64 = (0..3).map(|a| num(&field["gradient"][0][a])).sum();
        assert!(sum.abs() < 1e-14, "{field}");
    }
    let args = ["loss", "toy.json", "--objective=rloo", "--logits=-"];
    let shown = place.ok_from(&args, RATIOS);
    assert!(shown.starts_with("rloo: an update field"), "{shown}");
}

#[test]
fn every_objective_is_listed() {
    let place = Place::new();
    let listed = place.json(&["objectives", "--json"]);
    let mut listed = listed.as_array().unwrap().clone();
    // Those on text only are listed, and not solved.
    let all = listed.len();
    listed.retain(|spec| Objective::ON_TEXT.iter().all(|o| spec["name"] != o.name()));
    assert_eq!(all - listed.len(), Objective::ON_TEXT.len());
    let solved = place.json(&["solve", "toy.json", "--baseline=0.5", "--json"]);
    assert_eq!(
        listed.len(),
        solved["fixed_points"].as_object().unwrap().len()
    );
    let shown = place.ok(&["objectives"]);
    for spec in &listed {
        let name = spec["name"].as_str().unwrap();
        assert!(solved["fixed_points"][name].is_object(), "{name}");
        for field in ["name", "formula", "inputs", "kind", "source", "fixed_point"] {
            let value = spec[field].as_str().unwrap();
            assert!(!value.is_empty() && shown.contains(value), "{name} {field}");
        }
    }
}

#[test]
fn random_problems_follow_their_seed() {
    let place = Place::new();
    let args = ["problem", "random", "--prompts=2", "--arms=5", "--seed=4"];
    let problem = place.ok(&args);
    assert_eq!(place.ok(&args), problem);
    let parsed: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(parsed["prompts"].as_array().unwrap().len(), 2);
    let answer: Value =
        serde_json::from_str(&place.ok_from(&["solve", "-", "--json"], &problem)).unwrap();
    near(&answer["fixed_points"]["copg"]["regret"], 0.0, 1e-12);
    assert_eq!(answer["optimum"]["policy"][1].as_array().unwrap().len(), 5);
}

#[test]
fn help_and_version() {
    let place = Place::new();
    assert!(place.ok(&["--version"]).starts_with("pistar "));
    for command in [
        "solve",
        "loss",
        "objectives",
        "problem",
        "sim",
        "figure",
        "reproduce",
    ] {
        assert!(place.ok(&["--help"]).contains(command));
        let help = place.ok(&[command, "--help"]);
        assert!(help.contains("Usage: pistar"), "{help}");
    }
    assert!(place.ok(&["sim", "--list"]).contains("copg-toy"));
}

// Simulations.

#[test]
fn sim_writes_its_folder() {
    let place = Place::new();
    assert_eq!(
        place.sim("out/run", &["--lr=0.001,0.01"]),
        "rows: out/run/rows.csv\n"
    );
    let content = place.read("out/run/rows.csv");
    assert_eq!(rows(&content), (2 * 2 * 5 * 4, false));
    for line in content.lines().filter(|l| l.split(',').nth(3) == Some("0")) {
        let regret: f64 = line.rsplit(',').next().unwrap().parse().unwrap();
        assert!((regret - 0.291_866_630_716_705).abs() < 1e-12, "{line}");
    }
    let limits = place.read("out/run/limits.csv");
    let limits: Vec<_> = limits.lines().collect();
    assert_eq!(limits[..2], ["objective,regret", "copg,0"]);
    let ipo: f64 = limits[2].strip_prefix("ipo,").unwrap().parse().unwrap();
    assert!((ipo - IPO).abs() < 1e-12);
    let manifest: Value = serde_json::from_str(&place.read("out/run/manifest.json")).unwrap();
    assert_eq!(manifest["sim"], "copg-toy");
    assert_eq!(manifest["status"], "complete");
    assert_eq!(manifest["config"]["lr"], json!([0.001, 0.01]));
    assert_eq!(manifest["config"]["objectives"], json!(["copg", "ipo"]));
    assert_eq!(manifest["config"]["problem"]["beta"], 0.5);
    let mut files: Vec<_> = fs::read_dir(place.at("out/run"))
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["limits.csv", "manifest.json", "rows.csv"]);
}

#[test]
fn rows_depend_on_the_configuration_alone() {
    let place = Place::new();
    let two = place.ok(&["problem", "random", "--prompts=2", "--arms=3", "--seed=1"]);
    place.write("two.json", two);
    // 1800 possible tuples are more than a batch.
    let wide = place.ok(&["problem", "random", "--prompts=1", "--arms=30", "--seed=2"]);
    place.write("wide.json", wide);
    let all = "--objective=copg,dpo,ipo,slic,reward-model,rloo,pg-value";
    for (name, problem) in [
        ("toy", "--problem=toy.json"),
        ("two", "--problem=two.json"),
        ("wide", "--problem=wide.json"),
    ] {
        let run = |threads: &str, more: &[&str]| {
            let out = format!("{name}-{threads}-{}", more.concat());
            let threads = format!("--threads={threads}");
            let mut args = vec![problem, all, &threads];
            args.extend(more);
            place.sim(&out, &args);
            place.read(&format!("{out}/rows.csv"))
        };
        let one = run("1", &[]);
        assert_eq!(rows(&one), (7 * 5 * 4, false), "{name}");
        for threads in ["2", "3", "7"] {
            assert!(run(threads, &[]) == one, "{name}: {threads} threads");
        }
        assert!(run("2", &["--key=1"]) != one, "{name}: another key");
    }
    // Seeds are what they are, however many others there are.
    place.sim("six", &["--threads=2", "--seeds=6"]);
    place.sim("five", &["--threads=2"]);
    let six = place.read("six/rows.csv");
    let of_five: Vec<_> = (six.lines())
        .filter(|line| line.split(',').nth(2) != Some("5"))
        .collect();
    assert_eq!(of_five.join("\n") + "\n", place.read("five/rows.csv"));
}

#[test]
fn the_last_batch_is_dropped_on_request() {
    let place = Place::new();
    for (out, flag, steps) in [("kept", None, 20), ("dropped", Some("--drop-last"), 19)] {
        let mut args = vec!["--seeds=1", "--samples=10000", "--batch=512", "--epochs=2"];
        args.extend(flag);
        place.sim(out, &args);
        let manifest: Value =
            serde_json::from_str(&place.read(&format!("{out}/manifest.json"))).unwrap();
        assert_eq!(manifest["config"]["steps"], 2 * steps);
        assert_eq!(manifest["config"]["drop_last"], flag.is_some());
    }
    assert_ne!(place.read("kept/rows.csv"), place.read("dropped/rows.csv"));
}

#[test]
fn another_run_is_kept_safe() {
    let place = Place::new();
    place.sim("run", &[]);
    let files =
        || ["rows.csv", "limits.csv", "manifest.json"].map(|f| place.read(&format!("run/{f}")));
    let before = files();
    for other in [
        "--seeds=2",
        "--key=1",
        "--lr=0.02",
        "--sgd",
        "--objective=ipo",
    ] {
        let says = ["run/rows.csv", "another run", "--out", "--overwrite"];
        place.refuses(&sim("run", &[other]), &says);
        assert_eq!(files(), before, "{other}");
    }
    place.sim("run", &[]);
    assert_eq!(files()[0], before[0]);
    place.sim("run", &["--key=1", "--overwrite"]);
    assert_ne!(files()[0], before[0]);
    assert_eq!(rows(&files()[0]), rows(&before[0]));
}

#[test]
fn a_refused_run_leaves_the_folder_alone() {
    let place = Place::new();
    place.sim("run", &[]);
    let files =
        || ["rows.csv", "limits.csv", "manifest.json"].map(|f| place.read(&format!("run/{f}")));
    let before = files();
    let mut complaints = Vec::new();
    for (n, bad) in [
        "--lr=0",
        "--lr=nan",
        "--seeds=0",
        "--samples=0",
        "--threads=0",
    ]
    .into_iter()
    .enumerate()
    {
        complaints.push(place.refusal(&sim("run", &[bad, "--overwrite"]), "", &[]));
        if files() != before {
            complaints.push(Err(format!("{bad}: the rows of the other run are gone")));
        }
        let fresh = format!("fresh-{n}");
        complaints.push(place.refusal(&sim(&fresh, &[bad]), "", &[]));
        if place.at(&fresh).join("rows.csv").exists() {
            complaints.push(Err(format!("{bad}: rows of a run that never started")));
        }
    }
    none(complaints);
}

#[test]
fn a_run_cut_off_is_replaced() {
    let place = Place::new();
    place.sim("run", &[]);
    let whole = place.read("run/rows.csv");
    let last = whole.trim_end().rfind('\n').unwrap();
    place.write("run/rows.csv", &whole[..usize::midpoint(last, whole.len())]);
    let manifest = place.read("run/manifest.json");
    place.write(
        "run/manifest.json",
        manifest.replace("\"complete\"", "\"running\""),
    );
    if cfg!(feature = "plot") {
        let figure = ["figure", "copg-toy", "--from", "run"];
        place.refuses(&figure, &["run/manifest.json", "did not end", "--partial"]);
        let output = place.run(&[&figure[..], &["--partial"]].concat(), "");
        assert!(output.status.success());
        let warning = text(&output.stderr);
        let line = whole.lines().count();
        assert_eq!(
            warning,
            format!("warning: run/rows.csv line {line} is cut off; leaving it out\n")
        );
    }
    place.sim("run", &[]);
    assert_eq!(place.read("run/rows.csv"), whole);
}

#[test]
fn a_killed_run_leaves_whole_lines() {
    let place = Place::new();
    // One run that dies among its rows and one before the first of them.
    let long = ["--seeds=1000000", "--batch=200", "--objective=copg"];
    let slow = ["--seeds=1", "--epochs=1000000"];
    for (out, more, enough) in [("long", &long[..], 50_000), ("slow", &slow[..], 31)] {
        let mut child = (place.command(&sim(out, &[more, &["--threads=1"]].concat())))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let rows_csv = place.at(out).join("rows.csv");
        let deadline = Instant::now() + Duration::from_secs(60);
        while fs::metadata(&rows_csv).map_or(0, |m| m.len()) < enough {
            assert!(Instant::now() < deadline, "{out}: no rows");
            assert!(child.try_wait().unwrap().is_none(), "{out}: ended early");
            sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        rows(&fs::read_to_string(&rows_csv).unwrap());
        let manifest = place.read(&format!("{out}/manifest.json"));
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest["status"], "running");
    }
    if cfg!(feature = "plot") {
        let figure = ["figure", "copg-toy", "--from", "long", "--partial"];
        let output = place.run(&figure, "");
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    place.refuses(&sim("long", &[]), &["long/rows.csv", "--overwrite"]);
    place.sim("long", &["--overwrite"]);
    assert_eq!(rows(&place.read("long/rows.csv")), (2 * 5 * 4, false));
}

#[cfg(feature = "plot")]
#[test]
fn figures_are_drawn_from_rows() {
    let place = Place::new();
    let with_figure: Vec<_> = (sim("run", &[]).into_iter())
        .filter(|arg| *arg != "--no-figure")
        .collect();
    assert_eq!(
        place.ok(&with_figure),
        "rows: run/rows.csv\nfigure: run/copg-toy.svg\n"
    );
    let drawn = place.ok(&["figure", "copg-toy", "--from=run", "--out=again/fig"]);
    assert_eq!(drawn, "figure: again/fig.svg\n");
    assert_eq!(place.read("again/fig.svg"), place.read("run/copg-toy.svg"));
    assert!(place.read("again/fig.svg").contains("<svg"));
    let png = fs::read(place.at("again/fig.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
}

#[test]
fn reproduce_reports_every_sim() {
    let place = Place::new();
    let said = place.ok(&["reproduce", "--out=all"]);
    assert!(said.contains("report: all/report.md"), "{said}");
    let report = place.read("all/report.md");
    for sim in place.ok(&["sim", "--list"]).lines() {
        let name = sim.split_whitespace().next().unwrap();
        assert!(report.contains(&format!("## {name}")), "{name}");
        let content = place.read(&format!("all/{name}/rows.csv"));
        assert!(content.lines().count() > 1, "{name}");
    }
    assert!(report.contains("0.152531"), "{report}");
}

// What does not.

#[test]
fn bad_problems_are_refused() {
    let place = Place::new();
    // What stands after {"beta": 1, "prompts": [ … ]}, or the whole file.
    let inner = [
        (
            r#"{"reward": [1, 2], "behavior": [[0.5, 0.6]]}"#,
            &["prompts[0].behavior[0]", "1.1", "must sum to 1"][..],
        ),
        (
            r#"{"reward": [1, 2], "reference": [0.5, 0.500001], "behavior": [[0.5, 0.5]]}"#,
            &["prompts[0].reference", "1.000001", "within 1e-9"],
        ),
        (
            r#"{"reward": [1, 2], "behavior": [[-0.5, 1.5]]}"#,
            &["prompts[0].behavior[0][0]", "-0.5", "between 0 and 1"],
        ),
        (
            r#"{"reward": [1, 2], "behavior": [[0.5, 0.5], [0.5, 0.25, 0.25]]}"#,
            &["prompts[0].behavior[1]", "3 arms", "the prompt 2"],
        ),
        (
            r#"{"reward": [1, 2], "reference": [1], "behavior": [[0.5, 0.5]]}"#,
            &["prompts[0].reference", "reward has 2"],
        ),
        (
            r#"{"reward": [], "behavior": [[]]}"#,
            &["prompts[0].reward", "no arm", "one reward per arm"],
        ),
        (
            r#"{"reward": [1, 2], "reference": [1, 0], "behavior": [[0.5, 0.5]]}"#,
            &[
                "prompts[0].behavior",
                "arm 1 has mass",
                "give the arm a reference probability",
            ],
        ),
        (
            r#"{"reward": [1, 2], "refrence": [0.5, 0.5], "behavior": [[0.5, 0.5]]}"#,
            &["unknown field `refrence`", "`reference`", "line 1"],
        ),
        (
            r#"{"reward": [1, 2]}"#,
            &["prompts[0].behavior", "missing", "`pairs`"],
        ),
        (
            r#"{"reward": [1, 2], "behavior": []}"#,
            &["prompts[0].behavior", "0 laws", "or two"],
        ),
        (
            r#"{"reward": [1, 2], "behavior": [[1, 0]], "pairs": [[1, 0], [0, 0]]}"#,
            &["prompts[0]", "both", "one of them"],
        ),
        (
            r#"{"reward": [1, 2], "pairs": [[0.5, 0.5]]}"#,
            &["prompts[0].pairs[0]", "square"],
        ),
        (
            r#"{"reward": [1, 1e999], "behavior": [[0.5, 0.5]]}"#,
            &["out of range", "line 1"],
        ),
        (
            r#"{"reward": [1, "x"], "behavior": [[0.5, 0.5]]}"#,
            &["\"x\"", "line 1", "problem new"],
        ),
        (
            r#"{"weight": 0.5, "reward": [1, 2], "behavior": [[0.5, 0.5]]}"#,
            &["prompts[].weight", "0.5", "sum to 1"],
        ),
        (
            r#"{"reward": [1], "behavior": [[1]]}, {"weight": 1, "reward": [1], "behavior": [[1]]}"#,
            &["prompts", "1 of 2", "weight"],
        ),
        ("", &["prompts", "at least one prompt"]),
    ];
    let toml = |beta: &str, reward: &str| {
        format!("beta = {beta}\n[[prompts]]\nreward = {reward}\nbehavior = [[0.5, 0.5]]\n")
    };
    let law = r#""prompts": [{"reward": [1, 2], "behavior": [[0.5, 0.5]]}]"#;
    let whole = [
        (
            toml("nan", "[1, 2]"),
            &["beta", "NaN", "greater than 0"][..],
        ),
        (
            toml("1", "[1, nan]"),
            &["prompts[0].reward[1]", "NaN", "finite"],
        ),
        (toml("1", "[1, -inf]"), &["prompts[0].reward[1]", "-inf"]),
        (
            toml("1", "[1, 2") + "\n",
            &["TOML", "line 4", "problem new"],
        ),
        (
            toml("1", "[1, 2]") + "rewards = 3\n",
            &["unknown field `rewards`", "line 5"],
        ),
        (
            format!(r#"{{"beta": 0, {law}}}"#),
            &["beta", "is 0", "greater than 0"],
        ),
        (
            format!(r#"{{"beta": -1.5, {law}}}"#),
            &["beta", "-1.5", "greater than 0"],
        ),
        (
            format!(r#"{{"beta": 1, "beta": 1, {law}}}"#),
            &["duplicate field `beta`"],
        ),
        (
            format!(r#"{{"temperature": 1, {law}}}"#),
            &["unknown field `temperature`", "`beta`"],
        ),
        (format!(r#"{{{law}}}"#), &["missing field `beta`"]),
        (
            format!(r#"{{"beta": 1, {law}"#),
            &["ends too early", "line 1", "problem new"],
        ),
        (
            format!(r#"{{"beta": 1, {law}}}}}"#),
            &["trailing characters"],
        ),
        (String::new(), &["it is empty", "problem new"]),
        ("[]".into(), &["JSON (starting with {) or TOML"]),
        ("hello".into(), &["JSON (starting with {) or TOML"]),
    ];
    let all = inner
        .into_iter()
        .map(|(prompts, says)| (format!(r#"{{"beta": 1, "prompts": [{prompts}]}}"#), says))
        .chain(whole);
    none(all.enumerate().flat_map(|(n, (problem, says))| {
        let name = format!("bad-{n}");
        place.write(&name, &problem);
        let mut file = vec![name.as_str()];
        file.extend(says);
        let mut piped = vec!["standard input"];
        piped.extend(says);
        [
            place.refusal(&["solve", &name], "", &file),
            place.refusal(&["solve", "-", "--json"], &problem, &piped),
        ]
    }));
}

#[test]
fn bad_paths_are_refused() {
    let place = Place::new();
    place.write(
        "latin1.json",
        b"{\"beta\": 1, \"prompts\": [], \"\xe9\": 1}",
    );
    place.write("empty.jsonl", "\n\n");
    fs::create_dir(place.at("folder")).unwrap();
    let new = ["sim", "copg-toy", "--no-figure", "--seeds=1", "--epochs=1"];
    let under_file: Vec<_> = new.into_iter().chain(["--out=toy.json/x"]).collect();
    let at_file: Vec<_> = new.into_iter().chain(["--out=toy.json"]).collect();
    let mut table = vec![
        (
            vec!["solve", "folder"],
            &["folder", "is a directory", "name a file"][..],
        ),
        (
            vec!["solve", "nowhere.json"],
            &["nowhere.json", "cannot read"],
        ),
        (
            vec!["solve", "latin1.json"],
            &["latin1.json", "byte 29", "line 1", "UTF-8"],
        ),
        (
            vec!["solve", "toy.json", "--data=nowhere.jsonl"],
            &["nowhere.jsonl", "cannot read"],
        ),
        (
            vec!["solve", "toy.json", "--data=folder"],
            &["folder", "is a directory"],
        ),
        (
            vec!["solve", "toy.json", "--data=empty.jsonl"],
            &["empty.jsonl", "no example", "\"first\""],
        ),
        (
            vec!["loss", "toy.json", "--objective=dpo", "--logits=nowhere"],
            &["nowhere", "cannot read"],
        ),
        (
            vec!["problem", "draw", "nowhere.json"],
            &["nowhere.json", "cannot read"],
        ),
        (
            vec!["sim", "copg-toy", "--problem=nowhere.json"],
            &["nowhere.json", "cannot read"],
        ),
        (under_file, &["toy.json/x", "cannot create"]),
        (at_file, &["toy.json", "cannot create"]),
        (
            vec!["reproduce", "--out=toy.json/x"],
            &["toy.json/x", "cannot create"],
        ),
    ];
    if cfg!(target_os = "linux") {
        let proc = new.into_iter().chain(["--out=/proc/x"]).collect();
        table.push((proc, &["/proc/x", "cannot create"]));
    }
    if cfg!(feature = "plot") {
        table.push((
            vec!["figure", "copg-toy", "--from=folder"],
            &["folder/rows.csv"],
        ));
        table.push((
            vec!["figure", "copg-toy", "--from=nowhere"],
            &["nowhere/rows.csv"],
        ));
        table.push((vec!["figure", "nope"], &["nope", "copg-toy"]));
    }
    none((table.iter()).map(|(args, says)| place.refusal(args, "", says)));
}

#[test]
fn bad_logits_are_refused() {
    let place = Place::new();
    let args = ["loss", "toy.json", "--objective=dpo", "--logits=-"];
    let table = [
        (
            r#"{"logits": [[1, 2]]}"#,
            &["logits[0]", "2 numbers", "3 arms", "one number per arm"][..],
        ),
        (
            r#"{"logits": [[1, 2, 3], [1, 2, 3]]}"#,
            &["logits", "2 lists", "1 prompt", "one list per prompt"],
        ),
        (r#"{"logits": []}"#, &["logits", "0 lists"]),
        (
            r#"{"logits": [[1, 2, 1e999]]}"#,
            &["out of range", "line 1"],
        ),
        (r#"{"logits": [[1, 2, null]]}"#, &["null", "line 1"]),
        (r#"{"logits": [[1, 2, NaN]]}"#, &["line 1"]),
        (r#"{"logits": [[1, 2, "#, &["ends too early"]),
        (r#"{"logit": [[1, 2, 3]]}"#, &["unknown field `logit`"]),
        ("logits = [[1, 2, 3]]", &["{\"logits\": [[…]]}"]),
        ("", &["ends too early", "{\"logits\": [[…]]}"]),
    ];
    none(table.into_iter().map(|(logits, says)| {
        let says: Vec<_> = std::iter::once("standard input")
            .chain(says.iter().copied())
            .collect();
        place.refusal(&args, logits, &says)
    }));
}

#[test]
fn bad_data_are_refused_with_their_line() {
    let place = Place::new();
    let good = "{\"prompt\": 0, \"first\": 0, \"second\": 1}\n\n";
    let table = [
        (
            r#"{"prompt": 1, "first": 0, "second": 1}"#,
            &["prompt", "no prompt 1", "0 to 0"][..],
        ),
        (
            r#"{"prompt": 0, "first": 0, "second": 3}"#,
            &["second", "no arm 3", "0 to 2"],
        ),
        (
            r#"{"prompt": 0, "arm": 7, "reward": 1}"#,
            &["arm", "no arm 7"],
        ),
        (
            r#"{"prompt": 0, "ranking": [0, 9]}"#,
            &["ranking", "no arm 9"],
        ),
        (
            r#"{"prompt": 0, "ranking": [1, 1]}"#,
            &["ranking", "repeats", "distinct"],
        ),
        (
            r#"{"prompt": 0, "ranking": [1]}"#,
            &["ranking", "fewer than two"],
        ),
        (r#"{"prompt": 0, "first": -1, "second": 1}"#, &["-1"]),
        (
            r#"{"prompt": 0, "first": 0, "seco"#,
            &["EOF", "\"first\": 2"],
        ),
        (
            r#"{"prompt": 0, "first": 0, "second": 1, "label": 1.5}"#,
            &["label", "1.5", "probability"],
        ),
        (
            r#"{"prompt": 0, "first": 0, "second": 1, "label": -0.1}"#,
            &["label", "-0.1", "probability"],
        ),
        (r#"{"prompt": 0, "first": 0}"#, &["do not make one example"]),
        (
            r#"{"prompt": 0, "first": 0, "second": 1, "arm": 0}"#,
            &["do not make one example", "\"ranking\""],
        ),
        (
            r#"{"prompt": 0, "first": 0, "second": 1, "lable": true}"#,
            &["unknown field `lable`", "`label`"],
        ),
        (
            r#"{"prompt": 0, "arm": 0, "reward": 1e999}"#,
            &["out of range"],
        ),
    ];
    let mut complaints: Vec<_> = (table.into_iter())
        .map(|(line, says)| {
            place.write("data.jsonl", format!("{good}{line}\n{good}"));
            let says: Vec<_> = std::iter::once("data.jsonl:3")
                .chain(says.iter().copied())
                .collect();
            place.refusal(&["solve", "toy.json", "--data=data.jsonl"], "", &says)
        })
        .collect();
    let data = ["solve", "toy.json", "--data=-"];
    let bytes = [good.as_bytes(), b"\xff\n"].concat();
    complaints.push(place.refusal(&data, bytes, &["standard input:3", "UTF-8"]));
    complaints.push(place.refusal(&data, "", &["standard input", "no example"]));
    let single = r#"{"prompt": 0, "arm": 0, "reward": 1}"#;
    for objective in ["dpo", "copg", "ipo", "slic", "reward-model"] {
        complaints.push(place.refusal(
            &["solve", "toy.json", "--data=-", "--objective", objective],
            single,
            &["no example of", "log pairs"],
        ));
    }
    none(complaints);
}

#[test]
fn bad_flags_are_refused() {
    let place = Place::new();
    let known = "copg, copg-completed";
    let table = [
        (
            vec!["solve", "toy.json", "--beta=0"],
            &["--beta", "is 0", "greater than 0"][..],
        ),
        (vec!["solve", "toy.json", "--beta=1,-2"], &["--beta", "-2"]),
        (vec!["solve", "toy.json", "--beta=nan"], &["--beta", "NaN"]),
        (vec!["solve", "toy.json", "--beta=inf"], &["--beta", "inf"]),
        (vec!["solve", "toy.json", "--beta=1,x"], &["--beta", "'x'"]),
        (
            vec!["solve", "toy.json", "--objective=dpo,ppoo"],
            &["--objective", "'ppoo'", known],
        ),
        (
            vec!["solve", "toy.json", "--objective=ppo"],
            &["--objective", "'ppo'", "on text only", "ppo-clip"],
        ),
        (
            vec!["loss", "toy.json", "--objective=grpo", "--logits=-"],
            &["--objective", "'grpo'", "on text only"],
        ),
        (
            vec!["loss", "toy.json", "--objective=DOP", "--logits=-"],
            &["--objective", "'DOP'", known],
        ),
        (vec!["loss", "toy.json", "--logits=-"], &["--objective"]),
        (vec!["solve"], &["<PROBLEM>"]),
        (vec!["solv", "toy.json"], &["solv", "solve"]),
        (vec!["solve", "toy.json", "--jsn"], &["--jsn", "--json"]),
        (vec!["sim", "nope"], &["`nope`", "copg-toy"]),
        (sim("x", &["--seeds=0"]), &["seeds", "0", "at least one"]),
        (
            sim("x", &["--samples=0"]),
            &["samples", "0", "at least one"],
        ),
        (
            sim("x", &["--threads=0"]),
            &["threads", "0", "at least one"],
        ),
        (
            sim("x", &["--lr=0"]),
            &["learning rate", "0", "greater than 0"],
        ),
        (sim("x", &["--lr=0.1,-1"]), &["learning rate", "-1"]),
        (sim("x", &["--lr=nan"]), &["learning rate", "NaN"]),
        (sim("x", &["--lr=inf"]), &["learning rate", "inf"]),
        (sim("x", &["--seeds=-1"]), &["--seeds", "-1"]),
        (sim("x", &["--epochs=1.5"]), &["--epochs", "1.5"]),
        (
            sim("x", &["--objective=ppoo"]),
            &["--objective", "'ppoo'", known],
        ),
        (
            sim("x", &["--samples=10", "--batch=20", "--drop-last"]),
            &["batch", "20", "10 samples", "smaller batch"],
        ),
        (
            vec!["problem", "random", "--prompts=0"],
            &["0 prompts", "at least one"],
        ),
        (
            vec!["problem", "random", "--arms=0"],
            &["0 arms", "at least one"],
        ),
        (
            vec!["problem", "random", "--beta=0"],
            &["beta", "greater than 0"],
        ),
        (
            vec!["problem", "random", "--reward-scale=-1"],
            &["reward scale", "-1", "greater than 0"],
        ),
        (
            vec!["problem", "draw", "toy.json", "--kind=triples"],
            &["--kind", "triples", "preferences"],
        ),
    ];
    // A folder of its own for each, so that none meets what another left.
    none(table.into_iter().enumerate().map(|(n, (args, says))| {
        let own = format!("x{n}");
        let args: Vec<_> = (args.into_iter())
            .map(|arg| if arg == "x" { own.as_str() } else { arg })
            .collect();
        place.refusal(&args, "", says)
    }));
}

#[test]
fn a_batch_of_none_is_refused() {
    let place = Place::new();
    place.refuses(&sim("run", &["--batch=0"]), &["batch", "0", "at least one"]);
}

#[cfg(feature = "plot")]
#[test]
fn malformed_rows_are_named() {
    let place = Place::new();
    place.sim("run", &[]);
    let whole = place.read("run/rows.csv");
    let count = whole.lines().count();
    let next = format!("line {}", count + 1);
    let table = [
        (
            format!("{whole}0.01,copg,zero,1,0.3\n"),
            vec![&*next, "seed", "`zero`"],
        ),
        (
            format!("{whole}0.01,copg,9,1\n"),
            vec![&*next, "5 fields", "found 4"],
        ),
        (
            format!("{whole}0.01,copg,9,1,NaN\n"),
            vec![&*next, "regret", "`NaN`"],
        ),
        (format!("{whole}\n"), vec![&*next]),
        (whole.replace("lr,", "rate,"), vec!["line 1", "header"]),
        (String::new(), vec!["is empty"]),
        (
            "lr,objective,seed,epoch,regret\n".into(),
            vec!["no complete row"],
        ),
    ];
    none(table.into_iter().map(|(content, mut says)| {
        place.write("run/rows.csv", content);
        says.push("run/rows.csv");
        place.refusal(&["figure", "copg-toy", "--from=run"], "", &says)
    }));
    place.write("run/rows.csv", &whole);
    fs::remove_file(place.at("run/limits.csv")).unwrap();
    place.refuses(&["figure", "copg-toy", "--from=run"], &["run/limits.csv"]);
}

// Pipes and disks.

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported() {
    let place = Place::new();
    for args in [
        &["problem", "new"][..],
        &["solve", "toy.json"],
        &["objectives"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = place.command(args).stdout(full).output().unwrap();
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {err}");
        assert_eq!(err.matches("error: ").count(), 1, "{args:?}: {err}");
        assert!(err.contains("No space left"), "{args:?}: {err}");
    }
    // A disk that takes no more than so many blocks.
    let mut full = Command::new("sh");
    full.args(["-c", "trap '' XFSZ; ulimit -f 2; exec \"$@\"", "-"]);
    full.arg(env!("CARGO_BIN_EXE_pistar"));
    full.args(sim("run", &[])).current_dir(place.at(""));
    let output = full.output().unwrap();
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    for part in ["error: run/", "cannot write to", "File too large"] {
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn a_reader_may_leave_early() {
    let place = Place::new();
    let big = ["problem", "random", "--prompts=60", "--arms=300"];
    for lines in [0, 1] {
        let mut child = (place.command(&big))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::with_capacity(16, child.stdout.take().unwrap());
        if lines == 1 {
            assert_eq!(reader.fill_buf().unwrap()[0], b'{');
        }
        drop(reader);
        let mut err = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut err).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() && err.is_empty(), "{status}: {err}");
    }
}

// Size.

fn many_arms(place: &Place, name: &str, arms: usize) {
    let reward: Vec<_> = (0..arms).map(|i| (i * 37 % 1000) as f64 / 500.0).collect();
    let law = vec![1.0 / arms as f64; arms];
    let problem = json!({"beta": 0.5, "prompts": [{"reward": reward, "behavior": [law]}]});
    place.write(name, problem.to_string());
}

#[test]
fn what_is_too_large_is_skipped_with_a_note() {
    let place = Place::new();
    many_arms(&place, "some.json", 301);
    let answer = place.json(&["solve", "some.json", "--json"]);
    let solved = answer["fixed_points"].as_object().unwrap().len();
    let skipped = answer["skipped"].as_object().unwrap();
    // Both forms of SLiC are beyond their cap; fields and numbers of twelve others are missing.
    assert_eq!(skipped.len(), 14, "{skipped:?}");
    assert_eq!(
        solved + skipped.len(),
        Objective::ALL.len() + Inner::ALL.len()
    );
    near(&answer["fixed_points"]["dpo"]["regret"], 0.0, 1e-12);
    let why = answer["skipped"]["slic"].as_str().unwrap();
    assert!(why.contains("limited to 300 arms"), "{why}");
    let shown = place.ok(&["solve", "some.json"]);
    assert!(shown.contains("\nslic, bpo-slic: skipped: "), "{shown}");
    assert!(shown.contains("… 301 in all"), "{shown}");
}

#[test]
fn a_hundred_thousand_arms_solve() {
    let place = Place::new();
    many_arms(&place, "huge.json", 100_000);
    let start = Instant::now();
    let args = [
        "solve",
        "huge.json",
        "--json",
        "--objective=copg,rloo,pg-zero,pg-soft-value",
    ];
    let answer = place.json(&args);
    assert!(start.elapsed() < Duration::from_secs(60));
    for name in ["copg", "rloo", "pg-soft-value"] {
        let point = &answer["fixed_points"][name];
        near(&point["regret"], 0.0, 1e-10);
        assert_eq!(point["policy"][0].as_array().unwrap().len(), 100_000);
    }
    for objective in ["slic", "dpo"] {
        let args = ["solve", "huge.json", "--objective", objective];
        let says = ["limited to", "prompt 0 has 100000", "--objective"];
        place.refuses(&args, &says);
    }
}

#[cfg(feature = "llm")]
#[test]
fn a_sim_trains_transformers_on_request() {
    let place = Place::new();
    let small = [
        "sim",
        "copg-toy",
        "--seeds=1",
        "--epochs=1",
        "--samples=400",
        "--no-figure",
    ];
    let with = |more: &[&'static str]| [&small[..], more].concat();
    place.ok(&with(&["--out=table", "--lr=1e-4"]));
    place.ok(&with(&["--out=again", "--lr=1e-4", "--policy=tabular"]));
    place.ok(&with(&[
        "--out=network",
        "--lr=1e-4",
        "--policy=transformer",
    ]));
    assert_eq!(place.read("table/rows.csv"), place.read("again/rows.csv"));
    let manifest = |run: &str| -> Value {
        serde_json::from_str(&place.read(&format!("{run}/manifest.json"))).unwrap()
    };
    let [table, again, network] = ["table", "again", "network"].map(manifest);
    assert_eq!(table["config"], again["config"]);
    assert!(table["config"].get("policy").is_none());
    let policy = &network["config"]["policy"]["transformer"];
    assert_eq!(
        (&policy["symbols"], &policy["length"]),
        (&1.into(), &2.into())
    );
    // The same rows but for the regrets, which begin at the reference's.
    let rows = |run: &str| -> Vec<(String, f64)> {
        let text = place.read(&format!("{run}/rows.csv"));
        let row = |line: &str| {
            let (row, regret) = line.rsplit_once(',').unwrap();
            (row.to_string(), regret.parse().unwrap())
        };
        text.lines().skip(1).map(row).collect()
    };
    let (table, network) = (rows("table"), rows("network"));
    assert_eq!(table.len(), network.len());
    for ((row, regret), (same, other)) in table.iter().zip(&network) {
        assert_eq!(row, same);
        if row.ends_with(",0") {
            assert!((regret - other).abs() < 1e-5, "{row}: {regret} {other}");
        }
    }
    place.refuses(
        &["sim", "ipo-bias", "--policy=transformer"],
        &["--policy: the sim ipo-bias has no such option"],
    );
    place.refuses(
        &["sim", "copg-toy", "--policy=oracle"],
        &["oracle", "tabular"],
    );
}
