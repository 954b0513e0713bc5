//! `pistar aggregate` on rliable's own matrices, and on files that are none.

use serde_json::{Value, json};

use super::cli::Place;

/// Rows of a matrix of runs × tasks.
fn rows(algorithm: &str, matrix: &Value) -> String {
    let mut lines = String::new();
    for (seed, run) in matrix.as_array().unwrap().iter().enumerate() {
        for (task, score) in run.as_array().unwrap().iter().enumerate() {
            let row = json!({"algorithm": algorithm, "task": format!("t{task}"), "seed": seed,
                "score": score, "steps": 100});
            lines += &format!("{row}\n");
        }
    }
    lines
}

#[test]
fn aggregates_are_rliables() {
    let known: Value = serde_json::from_str(include_str!("fixtures/rliable.json")).unwrap();
    let place = Place::new();
    let text = rows("x", &known["x"]) + "\n" + &rows("y", &known["y"]);
    place.write("scores.jsonl", text);
    let told: Value =
        serde_json::from_str(&place.ok(&["aggregate", "scores.jsonl", "--json"])).unwrap();
    for (i, name) in ["x", "y"].into_iter().enumerate() {
        let (ours, theirs) = (&told["aggregates"][i], &known[format!("of_{name}")]);
        assert_eq!(ours["algorithm"], name);
        for aggregate in ["mean", "median", "iqm", "optimality_gap"] {
            let of = |v: &Value, field: &str| v[aggregate][field].as_f64().unwrap();
            assert!(
                (of(ours, "value") - of(theirs, "value")).abs() < 1e-12,
                "{aggregate}"
            );
            // How far the bounds may be from rliable's is tested where they are found (`stats`).
            assert!(of(ours, "low") < of(ours, "value") && of(ours, "value") < of(ours, "high"));
        }
    }
    let ours = &told["improvement"][0]["probability"]["value"];
    let theirs = &known["probability_of_improvement"]["value"];
    assert!((ours.as_f64().unwrap() - theirs.as_f64().unwrap()).abs() < 1e-12);
    let table = place.ok(&["aggregate", "scores.jsonl"]);
    assert!(
        table.contains("iqm") && table.contains("P(x > y)"),
        "{table}"
    );
}

#[test]
fn what_is_no_matrix_is_refused() {
    let place = Place::new();
    let whole = r#"{"task": 1, "seed": 0, "score": 0.5}"#;
    let other = r#"{"task": 2, "seed": 1, "score": 0.5}"#;
    for (text, words) in [
        (String::new(), "no rows"),
        (format!("{whole}\n{whole}\n"), "bad.jsonl:2"),
        (format!("{whole}\n{other}\n"), "no score on task"),
        (r#"{"task": 1, "seed": 0}"#.into(), "score"),
        (
            r#"{"task": 1, "seed": 0, "score": "high"}"#.into(),
            "bad.jsonl:1",
        ),
    ] {
        place.write("bad.jsonl", &text);
        let output = place.run(&["aggregate", "bad.jsonl"], "");
        assert_eq!(output.status.code(), Some(2), "{text}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words), "{said}");
    }
    let output = place.run(&["aggregate", "-", "--level", "1"], whole);
    assert_eq!(output.status.code(), Some(2));
}
