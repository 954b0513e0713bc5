//! Columns, rows and what is left out, by expressions.

use std::fs;

use pistar::Result;
use pistar::llm::internals::text::data::file::JsonLines;
use pistar::llm::text::data::{Form, Format, Reading, RowRules, Source};
use pistar::loss::InputKind;
use pistar::observer::Silent;
use serde_json::{Map, Value, json};

use crate::data::{file, says};
use crate::texts::spaces;

fn columns(columns: &[(&str, &str)]) -> Reading {
    let pair = |(name, source): &(&str, &str)| ((*name).into(), (*source).into());
    Reading {
        columns: columns.iter().map(pair).collect(),
        ..Reading::default()
    }
}

/// All rows that become of a file of these.
fn rows(reading: &Reading, rows: &[Value]) -> Result<Vec<Value>> {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    let (_folder, path) = file(lines.join("\n"));
    let table = JsonLines::read(&path, reading, &Silent)?;
    (0..table.len())
        .map(|row| table.row(row).map(Value::Object))
        .collect()
}

/// The one that becomes of one row.
fn one(made: &[(&str, &str)], row: Value) -> Result<Value> {
    let made = rows(&columns(made), &[row])?;
    assert_eq!(made.len(), 1);
    Ok(made[0].clone())
}

#[test]
fn expressions_give_columns() {
    let row = json!({
        "question": "what?", "answer": {"text": "this", "parts": ["a", "b"], "good": true},
        "1st try": "x", "scores": [1, 2.5, true], "json": "{\"deep\": [1, 0.5]}",
        "judge": "### A:\nfirst\n### B:\nsecond\n### B:\nthird", "big": 9007199254740993_i64
    });
    for (expression, value) in [
        ("question", json!("what?")),
        ("answer.text", json!("this")),
        ("answer.parts[1]", json!("b")),
        ("answer.parts[-1]", json!("b")),
        ("row['1st try']", json!("x")),
        ("'Q: ' ~ question ~ '\\nA:'", json!("Q: what?\nA:")),
        ("'constant'", json!("constant")),
        ("none", json!(null)),
        ("answer.good", json!(true)),
        ("1 if answer.good else 0", json!(1)),
        ("scores | mean", json!(1.5)),
        ("big", json!(9007199254740993_i64)),
        ("0.1", json!(0.1)),
        ("(json | fromjson).deep", json!([1, 0.5])),
        (
            "judge | after('### A:\\n') | before('\\n### B')",
            json!("first"),
        ),
        ("judge | after_last('### B:\\n')", json!("third")),
        (
            "judge | before_last('\\n### B:')",
            json!("### A:\nfirst\n### B:\nsecond"),
        ),
        ("judge | capture('B:\\\\n(\\\\w+)')", json!("second")),
        ("judge | capture('f\\\\w+')", json!("first")),
        ("question is matching('^wh')", json!(true)),
        ("question.upper()", json!("WHAT?")),
        ("row.absent | default('d')", json!("d")),
        ("'abc defg\\nh' | pieces(5)", json!(["abc ", "defg\n", "h"])),
        ("'ééé' | pieces(2)", json!(["éé", "é"])),
        ("answer.parts | map('upper') | list", json!(["A", "B"])),
        ("file", json!("data.jsonl")),
        ("number", json!(1)),
    ] {
        let made = one(&[("prompt", expression)], row.clone()).unwrap();
        assert_eq!(
            made,
            json!({"prompt": value, "scores": [1, 2.5, true]}),
            "{expression}"
        );
    }
}

#[test]
fn a_column_that_is_not_there_is_named_with_those_that_are() {
    let row = json!({"question": "q", "answer": {"text": "t"}});
    let tell = |expression: &str| one(&[("prompt", expression)], row.clone());
    says(
        tell("qestion"),
        &[
            "data.jsonl:1",
            "column `qestion` is missing, which `columns.prompt = qestion` reads",
            "the row has `answer`, `question`",
        ],
    );
    says(
        tell("answer.txt"),
        &["`columns.prompt = answer.txt` has no value", "`question`"],
    );
    says(tell("answer.txt.more"), &["has no value", "undefined"]);
    says(tell("question | after('x')"), &["\"x\" is not in the text"]);
    says(tell("question | capture('z(')"), &["z("]);
    says(tell("1 / 0"), &["has no value"]);
    says(tell("[] | mean"), &["no mean"]);
    // Only the second row lacks it.
    let second = rows(
        &columns(&[("prompt", "question")]),
        &[row.clone(), json!({"answer": 1})],
    );
    says(second, &["data.jsonl:2", "the row has `answer`"]);
    says(
        tell("quest ion"),
        &["columns.prompt = quest ion", "syntax error"],
    );
    says(tell("question |"), &["syntax error"]);
    says(tell("question | nonsense"), &["nonsense"]);
    says(
        one(&[("promt", "question")], row.clone()),
        &["columns.promt", "no objective reads", "`prompt`"],
    );
}

#[test]
fn unmapped_columns_stay_and_mapped_ones_win() {
    let row = json!({"prompt": "old", "chosen": "c", "rejected": "r", "other": 1});
    let made = one(&[("prompt", "'new ' ~ prompt"), ("rejected", "none")], row).unwrap();
    assert_eq!(
        made,
        json!({"prompt": "new old", "chosen": "c", "rejected": null})
    );
}

#[test]
fn a_row_becomes_several() {
    let reading = Reading {
        rows: Some("row.values() | select('mapping')".into()),
        ..columns(&[
            ("prompt", "q"),
            ("completion", "said ~ index"),
            ("label", "right"),
        ])
    };
    let data = [
        json!({"q": "one", "a": {"said": "x", "right": true}, "b": {"said": "y", "right": false}}),
        json!({"q": "two"}),
        json!({"q": "three", "c": {"said": "z", "right": false}}),
    ];
    let row =
        |q: &str, said: &str, right: bool| json!({"prompt": q, "completion": said, "label": right});
    let all = [
        row("one", "x0", true),
        row("one", "y1", false),
        row("three", "z0", false),
    ];
    assert_eq!(rows(&reading, &data).unwrap(), all);
    let some = Reading {
        r#where: Some("not right".into()),
        ..reading.clone()
    };
    assert_eq!(rows(&some, &data).unwrap(), all[1..]);
    let none = Reading {
        r#where: Some("right and not right".into()),
        ..reading.clone()
    };
    says(
        rows(&none, &data),
        &["no row is left", "3 were left out by `where`"],
    );
    let wrong = Reading {
        rows: Some("q".into()),
        ..reading
    };
    says(
        rows(&wrong, &data),
        &["data.jsonl:1", "`rows = q` is no list, but string"],
    );
}

#[test]
fn errors_after_a_mapping_name_the_row_of_the_file() {
    let reading = Reading {
        rows: Some("list".into()),
        ..columns(&[("prompt", "'p'"), ("completion", "item")])
    };
    let (_folder, path) = file("{\"list\": [\"a\", \"b\"]}\n\n{\"list\": [\"c\", 4]}\n");
    let settings = RowRules::default();
    let mut source = Source::read(
        &path,
        &reading,
        Form::Demonstration,
        spaces().load(),
        64,
        settings,
        &Silent,
    )
    .unwrap();
    assert_eq!(source.len(), 4);
    says(
        source.survey(&Silent),
        &["data.jsonl:3", "`completion` is a number"],
    );
}

#[test]
fn trees_are_walked() {
    let leaf = |text: &str, rank: u64| json!({"role": "assistant", "text": text, "rank": rank, "replies": []});
    let tree = json!({"id": 7, "root": {"role": "prompter", "text": "u", "replies": [
        {"role": "assistant", "text": "v", "rank": 1, "replies": [
            {"role": "prompter", "text": "w", "replies": [leaf("x", 0), leaf("y", 1)]},
            {"role": "prompter", "text": "alone", "replies": [leaf("z", 0)]}]},
        leaf("v2", 0)]}});
    let reading = Reading {
        rows: Some("root | walk('replies')".into()),
        r#where: Some("role == 'prompter' and replies | length > 1".into()),
        ..columns(&[
            ("prompt", "path | map(attribute='text') | join('/')"),
            ("completions", "replies | map(attribute='text')"),
            ("ranks", "replies | map(attribute='rank')"),
        ])
    };
    let made = rows(&reading, std::slice::from_ref(&tree)).unwrap();
    // A node's own `text` is a column that demonstrations are read from, and stays.
    let row = |prompt: &str, completions: [&str; 2], ranks: [u64; 2]| {
        let text = prompt.split('/').next_back();
        json!({"prompt": prompt, "completions": completions, "ranks": ranks, "text": text})
    };
    assert_eq!(
        made,
        [
            row("u", ["v", "v2"], [1, 0]),
            row("u/v/w", ["x", "y"], [0, 1])
        ]
    );
    // All nodes, parents first; the path has no children in it.
    let all = Reading {
        rows: Some("root | walk('replies')".into()),
        ..columns(&[("prompt", "path[-1]"), ("completion", "path | length")])
    };
    let made = rows(&all, &[tree]).unwrap();
    let texts: Vec<&Value> = made.iter().map(|row| &row["prompt"]["text"]).collect();
    assert_eq!(texts, ["u", "v", "w", "x", "y", "alone", "z", "v2"]);
    let depths: Vec<&Value> = made.iter().map(|row| &row["completion"]).collect();
    assert_eq!(depths, [1, 2, 3, 4, 4, 3, 4, 2]);
    assert!(
        made.iter()
            .all(|row| row["prompt"].get("replies").is_none())
    );
}

#[test]
fn several_files_are_one_table_and_know_their_names() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("films.pos"), "good\n\nfine\r\n").unwrap();
    fs::write(folder.path().join("films.neg"), "bad").unwrap();
    fs::write(folder.path().join("other"), "no").unwrap();
    let reading = Reading {
        format: Some(Format::Lines),
        ..columns(&[
            ("prompt", "'p'"),
            ("completion", "text"),
            ("label", "file.endswith('.pos')"),
        ])
    };
    let table = JsonLines::read(&folder.path().join("films.*"), &reading, &Silent).unwrap();
    let rows: Vec<Map<String, Value>> = (0..3).map(|row| table.row(row).unwrap()).collect();
    let said = |row: usize| (rows[row]["completion"].clone(), rows[row]["label"].clone());
    assert_eq!(
        [said(0), said(1), said(2)],
        [("bad", false), ("good", true), ("fine", true)].map(|(t, l)| (json!(t), json!(l)))
    );
    assert!(table.place(2).unwrap().ends_with("films.pos:3"));
    says(
        JsonLines::open(&folder.path().join("none.*")),
        &["none.*", "no file matches"],
    );
    // What they are made of is in the hash: their bytes, and the mapping.
    let hash = |reading: &Reading| {
        let table = JsonLines::read(&folder.path().join("films.*"), reading, &Silent).unwrap();
        table.hash().to_string()
    };
    let before = hash(&reading);
    assert_eq!(before, hash(&reading));
    let other = Reading {
        columns: reading.columns[..2].to_vec(),
        ..reading.clone()
    };
    assert_ne!(before, hash(&other));
    fs::write(folder.path().join("films.neg"), "bed").unwrap();
    assert_ne!(before, hash(&reading));
}

#[test]
fn booleans_are_scores() {
    let (_folder, path) =
        file(r#"{"prompt": "p", "completions": ["b", "bb"], "scores": [true, false]}"#);
    let settings = RowRules::default();
    let source = Source::open(&path, InputKind::Groups, spaces().load(), 64, settings).unwrap();
    let rewards: Vec<f64> = source
        .example(0)
        .unwrap()
        .responses
        .iter()
        .map(|r| r.reward)
        .collect();
    assert_eq!(rewards, [1.0, 0.0]);
}
