//! Judges of `pistar evaluate`: what they are asked, what becomes of their words, and what is refused.

use std::collections::HashMap;
use std::fs;

use candle_core::{DType, Device};
use pistar::llm::sample::evaluate::judge::{Causal, Pair, Template, labels};
use pistar::llm::sample::evaluate::load;
use pistar::observer::Silent;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{lines, place, refuses, runs, write};

const PROMPTS: [&str; 5] = ["a", "tim", "b a", "ab", "me"];

/// Of each prompt, ours and theirs.
const OURS: [&[&str]; 5] = [
    &["b", "abab"],
    &["abcdef"],
    &["ti", "b", "me"],
    &["xyz"],
    &["q"],
];
const THEIRS: [&[&str]; 5] = [&["ba"], &["ab", "x"], &["abcd"], &["zyx"], &["qqqq", "qq"]];

/// A judge that sees the first longer by one than it is, and lengths that differ by one as the same.
/// Columns come in the order of their names: a, b, prompt.
const SWAYED: &str = r#"command:awk -F'"' '{
    d = length($4) + 1 - length($8); w = d > 1 ? "a" : d < -1 ? "b" : "tie"
    print "{\"winner\": \"" w "\"}" }'"#;

/// One that gives the lengths as they are.
const LENGTHS: &str =
    r#"command:awk -F'"' '{ print "{\"a\": " length($4) ", \"b\": " length($8) "}" }'"#;

fn completions(place: &TempDir, name: &str, of: [&[&str]; 5]) {
    let rows = PROMPTS.iter().zip(of).flat_map(|(prompt, texts)| {
        texts
            .iter()
            .map(move |text| json!({"prompt": prompt, "completion": text}))
    });
    write(place, name, &rows.collect::<Vec<_>>());
}

fn entrants() -> TempDir {
    let place = place(&PROMPTS.map(|prompt| json!({"prompt": prompt})));
    completions(&place, "ours.jsonl", OURS);
    completions(&place, "theirs.jsonl", THEIRS);
    place
}

const EVALUATE: [&str; 5] = ["evaluate", "--prompts", "rows.jsonl", "--resamples", "200"];
const OURS_FIRST: [&str; 4] = ["--completions", "ours.jsonl", "--against", "theirs.jsonl"];
const THEIRS_FIRST: [&str; 4] = ["--completions", "theirs.jsonl", "--against", "ours.jsonl"];

/// What evaluation says, and the pairs that it wrote.
fn judged(place: &TempDir, more: &[&[&str]]) -> (Value, Vec<Value>) {
    let out = ["--json", "--judge-out", "judged.jsonl"];
    let printed = runs(place, &[&EVALUATE[..], &out, &more.concat()].concat());
    let pairs = fs::read_to_string(place.path().join("judged.jsonl")).unwrap();
    (serde_json::from_str(&printed).unwrap(), lines(&pairs))
}

fn close(found: &Value, expected: f64) {
    let value = found["value"].as_f64().unwrap();
    assert!((value - expected).abs() < 1e-12, "{found} {expected}");
}

/// How a completion fares, given how by the judge's own rule, first shown first and then second.
fn outcome(orders: [&str; 2]) -> &str {
    match orders {
        ["win", "win"] => "win",
        ["lose", "lose"] => "lose",
        _ => "tie",
    }
}

/// Whether the first of two numbers is the greater.
fn word(ours: f64, theirs: f64) -> &'static str {
    match ours.total_cmp(&theirs) {
        std::cmp::Ordering::Greater => "win",
        std::cmp::Ordering::Equal => "tie",
        std::cmp::Ordering::Less => "lose",
    }
}

#[test]
#[cfg(unix)]
fn a_program_is_counted_exactly_and_exchange_exchanges_wins_and_losses() {
    let place = entrants();
    let (found, pairs) = judged(&place, &[&OURS_FIRST, &["--judge", SWAYED]]);
    // The judge's rule, on every pair.
    let (mut means, mut expected) = ([0.0; 5], Vec::new());
    for ((ours, theirs), prompt) in OURS.iter().zip(THEIRS).zip(PROMPTS) {
        let weight = 0.2 / (ours.len() * theirs.len()) as f64;
        for one in *ours {
            for other in theirs {
                let (a, b) = (one.len() as f64, other.len() as f64);
                let seen = |longer: f64| {
                    if longer.abs() > 1.0 {
                        word(longer, 0.0)
                    } else {
                        "tie"
                    }
                };
                let orders = [seen(a + 1.0 - b), seen(a - (b + 1.0))];
                let is = ["win", "tie", "lose"].map(|w| outcome(orders) == w);
                let agrees = orders[0] == orders[1];
                for (mean, is) in means.iter_mut().zip([&is[..], &[agrees]].concat()) {
                    *mean += weight * f64::from(u8::from(is));
                }
                let first = |w| ["lose", "tie", "win"].iter().position(|x| *x == w).unwrap();
                means[4] += weight * 0.25 * (first(orders[0]) + 2 - first(orders[1])) as f64;
                expected.push(json!({
                    "prompt": prompt, "name": "ours.jsonl", "against": "theirs.jsonl",
                    "completion": one, "opponent": other, "orders": orders,
                    "outcome": outcome(orders)
                }));
            }
        }
    }
    assert_eq!(pairs, expected);
    let shares = &found["judged"][0];
    assert_eq!(shares["pairs"], 10);
    let names = ["win", "tie", "lose", "agreement", "first"];
    for (name, mean) in names.into_iter().zip(means) {
        close(&shares[name], mean);
        assert_eq!(shares[name]["clusters"], 5);
    }
    // All three occur, and so do ties on which the orders agree and do not.
    assert!(
        means[..3].iter().all(|m| *m > 0.0) && means[3] > means[0] + means[2],
        "{means:?}"
    );
    assert!(means[3] < 1.0 && means[4] > 0.5, "{means:?}");

    let (back, _) = judged(&place, &[&THEIRS_FIRST, &["--judge", SWAYED]]);
    let back = &back["judged"][0];
    // Intervals too.
    for (one, other) in [("win", "lose"), ("lose", "win"), ("tie", "tie")] {
        assert_eq!(shares[one], back[other]);
    }
    assert_eq!(shares["agreement"], back["agreement"]);
    assert_eq!(shares["first"], back["first"]);

    let table = runs(
        &place,
        &[&EVALUATE[..], &OURS_FIRST, &["--judge", SWAYED]].concat(),
    );
    for part in [
        "judged by command",
        "ours.jsonl",
        "agreement",
        "shown first",
    ] {
        assert!(table.contains(part), "{table}");
    }
}

#[test]
#[cfg(unix)]
fn a_judge_that_sees_the_order_alone_says_nothing() {
    let place = entrants();
    for (winner, tie, agreement, first) in [
        ("a", 1.0, 0.0, 1.0),
        ("b", 1.0, 0.0, 0.0),
        ("tie", 1.0, 1.0, 0.5),
    ] {
        let judge =
            format!(r#"command:while read -r row; do echo '{{"winner": "{winner}"}}'; done"#);
        let (found, pairs) = judged(&place, &[&OURS_FIRST, &["--judge", &judge]]);
        let shares = &found["judged"][0];
        for (name, value) in [
            ("win", 0.0),
            ("tie", tie),
            ("lose", 0.0),
            ("agreement", agreement),
            ("first", first),
        ] {
            assert_eq!(shares[name]["value"], value, "{winner}: {name}");
        }
        assert!(pairs.iter().all(|pair| pair["outcome"] == "tie"));
    }
}

#[test]
#[cfg(unix)]
fn a_program_is_given_the_columns_and_judges_all_entrants_in_one_run() {
    let place = place(&[json!({"prompt": "p", "a": "own", "answer": 7})]);
    for (name, text) in [("one.jsonl", "x"), ("two.jsonl", "y"), ("three.jsonl", "z")] {
        write(&place, name, &[json!({"prompt": "p", "completion": text})]);
    }
    let judge = r#"command:tee -a asked.txt | sed 's/.*/{"a": 2, "b": 1}/'; echo end >> asked.txt"#;
    let (found, _) = judged(
        &place,
        &[
            &["--completions", "one.jsonl", "--against", "two.jsonl"],
            &["--against", "three.jsonl", "--judge", judge],
        ],
    );
    let names = |of: &Value| [of["name"].clone(), of["against"].clone()];
    let found: Vec<_> = found["judged"]
        .as_array()
        .unwrap()
        .iter()
        .map(names)
        .collect();
    let pairs = [("one", "two"), ("one", "three"), ("two", "three")];
    assert_eq!(
        found,
        pairs.map(|(a, b)| [a, b].map(|n| json!(format!("{n}.jsonl"))))
    );
    let asked = fs::read_to_string(place.path().join("asked.txt")).unwrap();
    let row = |a: &str, b: &str| {
        format!("{{\"a\":\"{a}\",\"answer\":7,\"b\":\"{b}\",\"prompt\":\"p\"}}\n")
    };
    let rows = [("x", "y"), ("x", "z"), ("y", "z")].map(|(a, b)| row(a, b) + &row(b, a));
    assert_eq!(asked, rows.concat() + "end\n");
}

#[test]
#[cfg(unix)]
fn numbers_are_compared_as_rewards_are() {
    let place = entrants();
    let (found, _) = judged(
        &place,
        &[&OURS_FIRST, &["--judge", LENGTHS, "--reward", "length"]],
    );
    let (shares, rate) = (&found["judged"][0], &found["head_to_head"][0]);
    let of = |name: &str| shares[name]["value"].as_f64().unwrap();
    close(&rate["rate"], of("win") + 0.5 * of("tie"));
    close(&rate["ties"], of("tie"));
    assert_eq!((of("agreement"), of("first")), (1.0, 0.5));
    assert_eq!(found["about"]["judge"]["kind"], "command");
}

#[test]
fn a_reward_model_judges_by_its_scores() {
    let place = entrants();
    let score = |data: &str| -> HashMap<(String, String), f64> {
        let args = ["score", "--reward", "model:reward", "--data", data];
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_string();
        lines(&runs(&place, &args))
            .iter()
            .map(|row| {
                (
                    (text(row, "prompt"), text(row, "completion")),
                    row["score"].as_f64().unwrap(),
                )
            })
            .collect()
    };
    let (ours, theirs) = (score("ours.jsonl"), score("theirs.jsonl"));
    let (found, pairs) = judged(&place, &[&OURS_FIRST, &["--judge", "model:reward"]]);
    for pair in &pairs {
        let text = |name: &str| pair[name].as_str().unwrap().to_string();
        let (one, other) = (text("completion"), text("opponent"));
        let expected = word(
            ours[&(text("prompt"), one)],
            theirs[&(text("prompt"), other)],
        );
        assert_eq!(pair["orders"], json!([expected, expected]));
        assert_eq!(pair["outcome"], expected);
    }
    assert_eq!(pairs.len(), 10);
    let of = |word: &str| pairs.iter().filter(|pair| pair["outcome"] == word).count();
    assert!(of("win") > 0 && of("lose") > 0);
    let shares = &found["judged"][0];
    assert_eq!(shares["agreement"]["value"], 1.0);
    // Without rewards nothing is said of any.
    assert!(found["report"]["reward"].is_null() && found["about"]["reward"].is_null());
    assert_eq!(found["head_to_head"], json!([]));
}

/// ln π of a label after a text, from `pistar logprobs`: the label with EOS, less EOS after both.
fn log_probs(place: &TempDir, texts: &[String], label: &str) -> Vec<f64> {
    let rows = texts.iter().flat_map(|text| {
        [
            json!({"prompt": text, "completion": label}),
            json!({"prompt": format!("{text}{label}"), "completion": ""}),
        ]
    });
    write(place, "texts.jsonl", &rows.collect::<Vec<_>>());
    let found = lines(&runs(
        place,
        &[
            "logprobs",
            "--model",
            "model",
            "--data",
            "texts.jsonl",
            "--allow-empty",
            "--dtype",
            "f64",
        ],
    ));
    let sum = |row: &Value| row["sum"].as_f64().unwrap();
    (found.chunks(2))
        .map(|two| sum(&two[0]) - sum(&two[1]))
        .collect()
}

#[test]
fn a_language_model_judges_by_the_log_probabilities_of_labels() {
    let place = entrants();
    fs::write(
        place.path().join("judge.txt"),
        "{prompt}\nx {b}\ny {a}\nz\n",
    )
    .unwrap();
    let text = |prompt: &str, a: &str, b: &str| format!("{prompt}\nx {b}\ny {a}\nz");
    // One token each, or not.
    for both in ["x,y", "tim,xb", "xbc,y"] {
        let found = both.split(',').collect::<Vec<_>>();
        let (one, other) = (found[0], found[1]);
        let (found, pairs) = judged(
            &place,
            &[
                &OURS_FIRST,
                &["--judge", "model:model", "--judge-template", "judge.txt"],
                &["--judge-labels", both, "--dtype", "f64"],
            ],
        );
        let texts = pairs.iter().flat_map(|pair| {
            let of = |name: &str| pair[name].as_str().unwrap();
            let (prompt, ours, theirs) = (of("prompt"), of("completion"), of("opponent"));
            [text(prompt, ours, theirs), text(prompt, theirs, ours)]
        });
        let texts: Vec<String> = texts.collect();
        let [a, b] = [one, other].map(|label| log_probs(&place, &texts, label));
        for (i, pair) in pairs.iter().enumerate() {
            let orders = [word(a[2 * i], b[2 * i]), word(b[2 * i + 1], a[2 * i + 1])];
            assert_eq!(pair["orders"], json!(orders), "{both}");
            assert_eq!(pair["outcome"], outcome(orders));
        }
        assert_eq!(found["about"]["judge"]["labels"], json!([one, other]));

        // The numbers themselves, however many are run at once.
        let template = Template::read(&place.path().join("judge.txt")).unwrap();
        let fields = Map::new();
        let shown: Vec<(&str, &str, &str)> = (pairs.iter())
            .map(|pair| {
                let of = |name: &str| pair[name].as_str().unwrap();
                (of("prompt"), of("completion"), of("opponent"))
            })
            .collect();
        let shown: Vec<Pair> = (shown.iter())
            .map(|&(prompt, a, b)| Pair {
                prompt,
                a,
                b,
                index: 0,
                fields: &fields,
            })
            .collect();
        for batch_tokens in [1, 50, 8192] {
            let model = load(&place.path().join("model"), DType::F64, &Device::Cpu).unwrap();
            let labels = labels(both).unwrap();
            let judge = Causal::new(model, template.clone(), labels, batch_tokens).unwrap();
            let found = judge.log_probs(&shown, &Silent).unwrap();
            for (i, found) in found.iter().enumerate() {
                for (found, expected) in found.iter().zip([a[2 * i], b[2 * i]]) {
                    assert!((found - expected).abs() < 1e-10, "{found} {expected}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_judge_is_refused() {
    let place = entrants();
    fs::write(place.path().join("judge.txt"), "{prompt} {a} {b}:").unwrap();
    fs::write(place.path().join("none.txt"), "{prompt} {a}").unwrap();
    let causal = ["--judge", "model:model", "--judge-template", "judge.txt"];
    let labelled = |labels: &'static str| [&causal[..], &["--judge-labels", labels]].concat();
    for (more, says) in [
        (
            vec!["--judge", "oracle:x"],
            &[
                "`oracle` is no kind of judge",
                "command:COMMAND, model:FOLDER",
            ][..],
        ),
        (
            vec!["--judge", "model:nowhere"],
            &["nowhere", "no such folder"],
        ),
        (
            vec!["--judge", "model:model", "--judge-template", "none.txt"],
            &["none.txt: the template has no {b}", "{prompt}, {a} and {b}"],
        ),
        (
            vec!["--judge", "model:model", "--judge-template", "no.txt"],
            &["no.txt: cannot read"],
        ),
        (
            vec!["--judge", "model:model"],
            &["judge: template and texts are too long", "within 32"],
        ),
        // ` A` and ` B` are a space and an unknown letter here.
        (
            causal.into(),
            &["--judge-labels", "` A` and ` B` begin with the same token"],
        ),
        (
            labelled("xa,xb"),
            &["`xa` and `xb` begin with the same token"],
        ),
        (labelled("x"), &["--judge-labels: `x` is not two labels"]),
        (labelled("x,"), &["--judge-labels", "is empty"]),
        (labelled("x,x"), &["--judge-labels", "both labels are `x`"]),
        (
            vec!["--judge", "model:reward", "--judge-labels", "x,y"],
            &["--judge-labels: a reward model", "leave it out"],
        ),
        (
            vec!["--judge", "command:cat", "--judge-template", "judge.txt"],
            &["--judge-template: a program", "leave it out"],
        ),
        (
            vec![
                "--judge",
                "model,max_length=9:model",
                "--judge-labels",
                "x,y",
            ],
            &["model: it is a language model", "max_length"],
        ),
        (
            vec!["--judge", "command:cat", "--judge-out", "-"],
            &["--judge-out", "name a file"],
        ),
    ] {
        refuses(&place, &[&EVALUATE[..], &OURS_FIRST, &more].concat(), says);
    }
    let alone = ["--completions", "ours.jsonl"];
    refuses(&place, &[&EVALUATE[..], &alone].concat(), &["--reward"]);
    refuses(
        &place,
        &[&EVALUATE[..], &alone, &["--judge", "command:cat"]].concat(),
        &["--against"],
    );
    refuses(
        &place,
        &[
            &EVALUATE[..],
            &OURS_FIRST,
            &["--reward", "length", "--judge-labels", "x,y"],
        ]
        .concat(),
        &["--judge"],
    );
    // A pair that the judge has no room for.
    let long = json!({"prompt": "tim", "completion": "b".repeat(40)});
    let mut rows = lines(&fs::read_to_string(place.path().join("theirs.jsonl")).unwrap());
    rows.push(long);
    write(&place, "theirs.jsonl", &rows);
    refuses(
        &place,
        &[&EVALUATE[..], &OURS_FIRST, &labelled("x,y")].concat(),
        &[
            "rows.jsonl: judge: row 2: template and texts are too long",
            "tokens",
            "shorten",
        ],
    );
    assert!(!place.path().join("judged.jsonl").exists());
}

#[test]
#[cfg(unix)]
fn a_program_that_does_not_judge_is_told_why() {
    let place = entrants();
    let out = ["--judge-out", "judged.jsonl"];
    for (line, says) in [
        (
            r#"echo '{"winner": "a"}'; echo maybe; cat >/dev/null"#,
            &[
                "its answer 2 is no verdict: `maybe`",
                "\"tie\"",
                "standard error",
            ][..],
        ),
        (
            r#"echo '{"winner": "c"}'; cat >/dev/null"#,
            &["its answer 1 names a `winner` that is none"],
        ),
        (
            r#"echo '{"a": 1}'; cat >/dev/null"#,
            &["its answer 1 has neither `winner` nor numbers `a` and `b`"],
        ),
        (
            r#"read -r row; echo '{"winner": "a"}'; echo 'no key' >&2; exit 3"#,
            &["exit status: 3", "1 of 20 rows", "no key"],
        ),
        (
            r#"echo '{"winner": "a"}'; cat >/dev/null"#,
            &["1 of 20 rows answered", "one line a row"],
        ),
    ] {
        let judge = format!("command:{line}");
        let more = ["--judge", judge.as_str()];
        let place_of = ["rows.jsonl: judge: command `"];
        refuses(
            &place,
            &[&EVALUATE[..], &OURS_FIRST, &out, &more].concat(),
            &[&place_of[..], says].concat(),
        );
    }
    let judge = ["--judge", "command,timeout=0.2:sleep 9"];
    refuses(
        &place,
        &[&EVALUATE[..], &OURS_FIRST, &out, &judge].concat(),
        &["no answer within 0.2 seconds", "--reward-timeout"],
    );
    assert!(!place.path().join("judged.jsonl").exists());
}

#[test]
#[cfg(unix)]
fn models_are_judged_without_a_reward() {
    let place = entrants();
    let (found, pairs) = judged(
        &place,
        &[
            &["--model", "model", "--against", "model", "--samples", "2"],
            &[
                "--max-new-tokens",
                "4",
                "--judge",
                LENGTHS,
                "--out",
                "own.jsonl",
            ],
        ],
    );
    assert_eq!(pairs.len(), 20);
    assert!(found["report"]["reward"].is_null());
    let own = lines(&fs::read_to_string(place.path().join("own.jsonl")).unwrap());
    assert!(own.len() == 10 && own.iter().all(|row| row.get("score").is_none()));
    let texts: Vec<&Value> = own.iter().map(|row| &row["completion"]).collect();
    assert!(
        pairs
            .iter()
            .all(|pair| texts.contains(&&pair["completion"]))
    );
}
