//! `pistar evaluate --scores`: rows that `pistar aggregate` reads.

use std::fs;

use serde_json::Value;

use crate::place::Place;

fn evaluate<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let all = "evaluate --model model --prompts data.jsonl --reward length:characters --samples 1 --resamples 10 \
               --max-new-tokens 6 --json";
    let mut all: Vec<&str> = all.split_whitespace().collect();
    all.extend(more);
    all
}

#[test]
fn rows_are_added_and_aggregated() {
    let place = Place::new(4);
    place.model("other", 5);
    fs::write(
        place.at("scores.jsonl"),
        "{\"algorithm\":\"a\",\"task\":\"t\",\"seed\":1,\"score\":0.5}",
    )
    .unwrap();
    let row = |algorithm: &'static str, more: &[&'static str]| -> (Value, Value) {
        let scores = [
            "--scores",
            "scores.jsonl",
            "--algorithm",
            algorithm,
            "--task",
            "t",
        ];
        let output = place.run(&evaluate(&[&scores[..], more].concat()));
        assert!(output.status.success(), "{output:?}");
        let report = serde_json::from_slice(&output.stdout).unwrap();
        let text = place.read("scores.jsonl");
        (
            report,
            serde_json::from_str(text.lines().last().unwrap()).unwrap(),
        )
    };
    // The mean reward, the win rate over the first opponent, and a judge's wins, the last that there is.
    let (report, found) = row("b", &[]);
    assert_eq!(found["score"], report["report"]["reward"]["value"]);
    assert_eq!(
        (&found["of"], &found["seed"]),
        (&"reward".into(), &"0".into())
    );
    let (report, found) = row("c", &["--against", "other", "--run-seed", "7"]);
    assert_eq!(found["score"], report["head_to_head"][0]["rate"]["value"]);
    assert_eq!(
        (&found["of"], &found["seed"]),
        (&"win rate".into(), &"7".into())
    );
    let judge = "command:while read -r line; do echo '{\"winner\": \"a\"}'; done";
    let (report, found) = row("d", &["--against", "other", "--judge", judge]);
    assert_eq!(found["score"], report["judged"][0]["win"]["value"]);
    assert_eq!(found["of"], "judged wins");
    // The row that was there, without an end of line, stands before them.
    let text = place.read("scores.jsonl");
    assert_eq!(text.lines().count(), 4, "{text}");
    let output = place.run(&["aggregate", "scores.jsonl", "--resamples", "10", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&Value> = (found["aggregates"].as_array().unwrap().iter())
        .map(|a| &a["algorithm"])
        .collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
}

#[test]
fn rows_that_cannot_be_written_are_refused_at_once() {
    let place = Place::new(4);
    let row = ["--algorithm", "a", "--task", "t"];
    for (more, wanted) in [
        (&["--scores", "x.jsonl"][..], "--algorithm"),
        (&["--task", "t"], "--scores"),
        (&[&["--scores", "-"][..], &row].concat(), "--scores"),
        (&[&["--scores", "none/x.jsonl"][..], &row].concat(), "none"),
    ] {
        let output = place.run(&evaluate(more));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(wanted),
            "{more:?}: {said}"
        );
    }
}
