//! What is read from files, and what is said of those that cannot be.

use std::path::PathBuf;

use pistar::Result;
use pistar::llm::internals::text::data::file::JsonLines;
use pistar::llm::text::data::{Form, RowRules, Source};
use pistar::llm::text::example::{Example, collate};
use pistar::loss::{InputKind, Objective};
use pistar::observer::Silent;
use tempfile::TempDir;

use crate::texts::spaces;

/// A file of those bytes, in a folder that lives as long as it is held.
pub fn file(bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// All examples of a file for a model that takes 64 tokens.
pub fn read(form: impl Into<Form>, bytes: impl AsRef<[u8]>) -> Result<Vec<Example>> {
    let (_folder, path) = file(bytes);
    let source = Source::open(&path, form, spaces().load(), 64, RowRules::default())?;
    (0..source.len()).map(|row| source.example(row)).collect()
}

/// A message must hold all of these.
#[track_caller]
pub fn says<T>(result: Result<T>, parts: &[&str]) {
    let Err(error) = result else {
        panic!("no error, where one should say {parts:?}")
    };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// Rewards and completions' lengths without EOS, of the only example.
fn only(form: impl Into<Form>, text: &str) -> Vec<(f64, usize)> {
    let examples = read(form, text).unwrap();
    assert_eq!(examples.len(), 1);
    (examples[0].responses.iter())
        .map(|r| (r.reward, r.sequence.completion().len() - 1))
        .collect()
}

#[test]
fn a_labelled_pair_has_the_preferred_one_first() {
    let text = r#"{"prompt": "at", "chosen": " a", "rejected": " me"}"#;
    let pairs = read(InputKind::LabelledPairs, text).unwrap();
    let tokens: Vec<_> = (pairs[0].responses.iter())
        .map(|r| (r.sequence.prompt(), r.sequence.completion()))
        .collect();
    // BOS, ▁a, t; then ▁a, or ▁, me; EOS.
    assert_eq!(tokens[0], (&[1, 31, 24][..], &[31, 2][..]));
    assert_eq!(tokens[1], (&[1, 31, 24][..], &[4, 34, 2][..]));
    let scored = r#"{"prompt": "at", "completions": [" me", " a"], "scores": [-1, 0]}"#;
    assert_eq!(read(InputKind::LabelledPairs, scored).unwrap(), pairs);
}

#[test]
fn swapping_chosen_and_rejected_swaps_the_responses() {
    let pair = |chosen: &str, rejected: &str| {
        let text = format!(r#"{{"prompt": "at", "chosen": "{chosen}", "rejected": "{rejected}"}}"#);
        read(InputKind::LabelledPairs, text).unwrap().remove(0)
    };
    let (one, mut other) = (pair(" time to", " me"), pair(" me", " time to"));
    assert_ne!(one, other);
    other.responses.reverse();
    assert_eq!(one, other);
}

#[test]
fn each_form_reads_its_columns() {
    use InputKind::{Groups, LabelledPairs, Lists, Rated, ScoredPairs, Singles};
    // Completions of one, two and three tokens tell which is which.
    let pair = r#"{"prompt": "p", "chosen": " b", "rejected": "b", "margin": 3}"#;
    assert_eq!(only(LabelledPairs, pair), [(0.0, 2), (0.0, 1)]);
    let scored = r#"{"prompt": "p", "completions": ["b", "bb", "bbb"], "scores": [0.5, 2, -1]}"#;
    assert_eq!(only(ScoredPairs, scored), [(0.5, 1), (2.0, 2), (-1.0, 3)]);
    assert_eq!(only(Groups, scored), [(0.5, 1), (2.0, 2), (-1.0, 3)]);
    let rewards = &scored.replace("scores", "rewards");
    assert_eq!(only(Groups, rewards), [(0.5, 1), (2.0, 2), (-1.0, 3)]);
    for [chosen, rejected] in [
        ["chosen_score", "rejected_score"],
        ["score_chosen", "score_rejected"],
    ] {
        let pair = format!(
            r#"{{"prompt": "p", "chosen": "b", "rejected": "bb", "{chosen}": 8.5, "{rejected}": 9}}"#
        );
        assert_eq!(only(ScoredPairs, &pair), [(8.5, 1), (9.0, 2)]);
    }
    let single = r#"{"prompt": "p", "completion": "bb", "reward": -3e-2}"#;
    assert_eq!(only(Singles, single), [(-0.03, 2)]);
    assert_eq!(
        only(Singles, &single.replace("reward", "score")),
        [(-0.03, 2)]
    );
    for (label, number) in [
        ("true", 1.0),
        ("false", 0.0),
        ("1", 1.0),
        ("0", 0.0),
        ("0.0", 0.0),
    ] {
        let rated = format!(r#"{{"prompt": "p", "completion": "b", "label": {label}}}"#);
        assert_eq!(only(Rated, &rated), [(number, 1)]);
    }
    // From worst to best, with the linear advantage (2j − J − 1)/J.
    let list = [(-2.0 / 3.0, 3), (0.0, 1), (2.0 / 3.0, 2)];
    assert_eq!(only(Lists, scored), list);
    for ranks in ["[1, 0, 2]", "[2, 1, 3]", "[3, 1, 9]"] {
        let ranked = scored
            .replace("scores", "ranks")
            .replace("[0.5, 2, -1]", ranks);
        assert_eq!(only(Lists, &ranked), list);
        assert_eq!(only(Form::Demonstration, &ranked), [(0.0, 2)]);
    }
    assert_eq!(only(Lists, pair), [(-0.5, 1), (0.5, 2)]);
    let completion = r#"{"prompt": "p", "completion": "bbb"}"#;
    assert_eq!(only(Form::Demonstration, completion), [(0.0, 3)]);
    assert_eq!(only(Form::Demonstration, pair), [(0.0, 2)]);
    assert_eq!(only(Form::Demonstration, scored), [(0.0, 2)]);
}

#[test]
fn zero_is_a_reward_and_false_a_label() {
    let text = r#"{"prompt": "p", "completion": "b", "reward": 0}"#;
    assert_eq!(only(InputKind::Singles, text), [(0.0, 1)]);
    let text = r#"{"prompt": "p", "completion": "b", "label": false}"#;
    let examples = read(InputKind::Rated, text).unwrap();
    assert_eq!(
        collate(InputKind::Rated, &examples, |_, _| 0.0).desirable,
        [0.0]
    );
    let text = r#"{"prompt": "p", "completions": ["b", "bb"], "scores": [0, 0]}"#;
    assert_eq!(only(InputKind::ScoredPairs, text), [(0.0, 1), (0.0, 2)]);
}

#[test]
fn a_row_of_scored_responses_is_all_its_pairs_and_weighs_as_much_as_any_row() {
    let text = r#"{"prompt": "p", "completions": ["b", "bb", "bbb"], "scores": [0, 1, 2]}
        {"prompt": "p", "completions": ["b", "bb"], "scores": [7, 8]}"#;
    let examples = read(InputKind::ScoredPairs, text).unwrap();
    let batch = collate(InputKind::ScoredPairs, &examples, |_, index| index as f64);
    assert_eq!(batch.slots, [vec![0, 0, 1, 3], vec![1, 2, 2, 4]]);
    assert_eq!(
        batch.reward,
        [vec![0.0, 0.0, 1.0, 7.0], vec![1.0, 2.0, 2.0, 8.0]]
    );
    assert_eq!(batch.log_reference, [0.0, 1.0, 2.0, 0.0, 1.0]);
    let sixth = 1.0 / 6.0;
    assert_eq!(batch.weight, [sixth, sixth, sixth, 0.5]);
    assert_eq!(batch.sequences.len(), 5);
}

#[test]
fn rows_are_read_by_position() {
    let rows: Vec<String> = (0..40)
        .map(|i| format!(r#"{{"row": {i}, "é": "{}"}}"#, "x".repeat(i)))
        .collect();
    for between in ["\n", "\r\n", "\n\n  \n", "\r\n\t\r\n"] {
        for (before, after) in [
            ("", ""),
            ("", between),
            (between, between),
            ("\u{feff}", ""),
        ] {
            let (_folder, path) = file(format!("{before}{}{after}", rows.join(between)));
            let lines = JsonLines::open(&path).unwrap();
            assert_eq!(lines.len(), 40);
            for row in [39, 0, 17, 3, 17] {
                assert_eq!(lines.row(row).unwrap()["row"], row);
                let text = std::fs::read_to_string(&path).unwrap();
                let at = 1 + text.lines().position(|l| l.contains(&rows[row])).unwrap();
                assert_eq!(lines.line(row).unwrap(), at as u64);
            }
        }
    }
}

#[test]
fn the_hash_is_that_of_the_bytes() {
    // printf '{}\n' | sha256sum
    let known = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356";
    let (_folder, path) = file("{}\n");
    assert_eq!(JsonLines::open(&path).unwrap().hash(), known);
    let (_folder, path) = file("{} \n");
    assert_ne!(JsonLines::open(&path).unwrap().hash(), known);
}

#[test]
fn files_that_are_no_json_lines() {
    let open = |bytes: &[u8]| {
        let (_folder, path) = file(bytes);
        JsonLines::open(&path)
    };
    says(
        open(b""),
        &["data.jsonl", "no rows", "one JSON object a line"],
    );
    says(open(b" \n\n\t\n"), &["no rows"]);
    says(
        open(b"\x1f\x8b\x08\0rest"),
        &["data.jsonl", "cut short", "fetch it again"],
    );
    says(open(b"PAR1\0\0"), &["parquet"]);
    let folder = tempfile::tempdir().unwrap();
    says(JsonLines::open(folder.path()), &["directory"]);
    says(
        JsonLines::open(&folder.path().join("none.jsonl")),
        &["none.jsonl", "cannot read"],
    );
}

#[test]
fn a_bad_row_is_named_by_file_and_line() {
    let good = r#"{"prompt": "p", "chosen": "b", "rejected": "bb"}"#;
    let pair = |bad: &[u8]| {
        let bytes = [good.as_bytes(), b"\n\n", bad, b"\n", good.as_bytes()].concat();
        read(InputKind::LabelledPairs, bytes)
    };
    let at = "data.jsonl:3: ";
    says(
        pair(b"{\"prompt\": \"p\xff\"}"),
        &[at, "byte 14", "not UTF-8", "save the file as UTF-8"],
    );
    says(
        pair(b"{\"prompt\": \"p\", }"),
        &[at, "not JSON at column 17", "one object a line"],
    );
    says(
        pair(br#"{"prompt": "\ud800"}"#),
        &[at, "not JSON", "hex escape"],
    );
    says(pair(b"[1, 2]"), &[at, "JSON array", "jq"]);
    says(pair(b"3"), &[at, "no JSON object"]);
    says(
        pair(br#"{"prompt": "p", "chosen": "b"}"#),
        &[
            at,
            "column `rejected` is missing",
            "labelled pairs are read from `prompt`, `chosen`, `rejected`",
        ],
    );
    says(
        pair(br#"{"prompt": "p", "chosen": "b", "rejected": null}"#),
        &[at, "column `rejected` is missing"],
    );
    says(
        pair(br#"{"chosen": "b", "rejected": "bb"}"#),
        &[at, "column `prompt` is missing"],
    );
    says(
        pair(br#"{"prompt": 3, "chosen": "b", "rejected": "c"}"#),
        &[at, "`prompt` is a number", "give a string"],
    );
    says(
        pair(br#"{"prompt": [{"role": "user", "content": "p"}], "chosen": "b", "rejected": "c"}"#),
        &[at, "no chat template", "--chat-template"],
    );
}

#[test]
fn columns_of_another_kind_are_recognised() {
    let rated = r#"{"prompt": "p", "completion": "b", "label": true}"#;
    says(
        read(InputKind::LabelledPairs, rated),
        &[
            "data.jsonl:1",
            "`chosen` and `rejected` are missing",
            "rated responses (kto, kto-no-kl)",
        ],
    );
    let pair = r#"{"prompt": "p", "chosen": "b", "rejected": "c"}"#;
    says(
        read(Objective::KTO, pair),
        &["labelled pairs (dpo, ", "rated responses are read from"],
    );
    says(
        read(Objective::COPG, pair),
        &["`chosen_score` or `score_chosen`", "labelled pairs"],
    );
    says(
        read(Objective::PG_ZERO, r#"{"prompt": "p"}"#),
        &["`completion` and `reward` or `score` are missing"],
    );
}

#[test]
fn numbers_that_are_none() {
    use InputKind::{Groups, LabelledPairs, Lists, Rated, Singles};
    let single = |reward: &str| {
        read(
            Singles,
            format!(r#"{{"prompt": "p", "completion": "b", "reward": {reward}}}"#),
        )
    };
    says(
        single("NaN"),
        &["data.jsonl:1", "not JSON at column", "no NaN"],
    );
    says(single("-Infinity"), &["not JSON", "no Infinity"]);
    says(single("1e999"), &["not JSON", "out of range"]);
    says(single("\"1\""), &["`reward` is a string", "finite number"]);
    says(
        single("1, \"score\": 2"),
        &["`reward` and `score` mean the same"],
    );
    says(
        read(Rated, r#"{"prompt": "p", "completion": "b", "label": 1.5}"#),
        &["`label` is 1.5", "true or 1", "or a probability"],
    );
    let list = |kind: InputKind, completions: &str, column: &str, numbers: &str| {
        let text =
            format!(r#"{{"prompt": "p", "completions": {completions}, "{column}": {numbers}}}"#);
        read(kind, text)
    };
    says(
        list(Groups, "[]", "scores", "[]"),
        &["`completions` has 0 entries", "two or more"],
    );
    says(
        list(Groups, r#"["b"]"#, "scores", "[1]"),
        &["`completions` has 1 entries"],
    );
    says(
        list(Groups, r#"["b", "c"]"#, "rewards", "[1]"),
        &["`completions` has 2 entries and `rewards` 1"],
    );
    says(
        list(Groups, r#"["b", 4]"#, "scores", "[1, 2]"),
        &["`completions[1]` is a number"],
    );
    says(
        list(Groups, r#"["b", "c"]"#, "scores", "[1, null]"),
        &["`scores[1]` is null"],
    );
    says(
        list(Groups, r#""b""#, "scores", "[1, 2]"),
        &["`completions` is a string", "give a list"],
    );
    says(
        list(Groups, r#"["b", ""]"#, "scores", "[1, 2]"),
        &["`completions[1]` is empty"],
    );
    let three = r#"["b", "c", "d"]"#;
    says(
        list(Lists, three, "ranks", "[1, 2, 1]"),
        &["`ranks` has a tie at 1", "break the tie"],
    );
    // Of a demonstration only the best counts.
    for (column, numbers) in [("ranks", "[2, 1, 2]"), ("scores", "[0, 1, 0]")] {
        let text = format!(r#"{{"prompt": "p", "completions": {three}, "{column}": {numbers}}}"#);
        let best = read(Form::Demonstration, text).unwrap().remove(0);
        assert_eq!(best.responses[0].sequence.completion().len(), 2);
    }
    let demonstration = |column: &str, numbers: &str| {
        let text = format!(r#"{{"prompt": "p", "completions": {three}, "{column}": {numbers}}}"#);
        read(Form::Demonstration, text)
    };
    says(
        demonstration("ranks", "[1, 1, 2]"),
        &["`ranks` has a tie of the best at 1"],
    );
    says(
        demonstration("scores", "[3, 3, 2]"),
        &["`scores` has a tie of the best at 3"],
    );
    says(
        demonstration("ranks", "[1, 2.5, 2]"),
        &["`ranks` are 1, 2.5, 2"],
    );
    says(
        list(Lists, three, "scores", "[0.5, 0.5, 1]"),
        &["`scores` has a tie at 0.5"],
    );
    says(
        list(Lists, three, "scores", "[0, -0.0, 1]"),
        &["`scores` has a tie at"],
    );
    says(
        list(Lists, three, "ranks", "[2, 3, 4]"),
        &["`ranks` are 2, 3, 4", "0 or 1 for the best"],
    );
    says(
        list(Lists, three, "ranks", "[1, 1.5, 2]"),
        &["`ranks` are 1, 1.5, 2"],
    );
    says(
        list(LabelledPairs, three, "scores", "[1, 2, 3]"),
        &["`completions` has 3 entries", "has two"],
    );
    says(
        list(LabelledPairs, r#"["b", "c"]"#, "scores", "[1, 1]"),
        &["tie at 1"],
    );
}

#[test]
fn an_empty_completion_is_refused() {
    let text =
        "{\"prompt\": \"p\", \"completion\": \"b\"}\n{\"prompt\": \"p\", \"completion\": \"\"}";
    says(
        read(Form::Demonstration, text),
        &[
            "data.jsonl:2",
            "`completion` is empty",
            "only token would be EOS",
            "allow_empty",
        ],
    );
    let pair = r#"{"prompt": "p", "chosen": "b", "rejected": ""}"#;
    says(
        read(InputKind::LabelledPairs, pair),
        &["data.jsonl:1", "`rejected` is empty"],
    );
}

#[test]
fn a_file_that_changes_in_use_is_noticed() {
    let (_folder, path) = file("{\"row\": 0}\n{\"row\": 1}\n");
    let lines = JsonLines::open(&path).unwrap();
    lines.row(1).unwrap();
    std::fs::write(&path, "{\"row\": 0}\n{\"row\": 10}\n").unwrap();
    says(lines.row(1), &["data.jsonl", "changed since it was opened"]);
}

#[test]
fn a_survey_finds_the_first_bad_row_and_counts() {
    let good = r#"{"prompt": "p", "completion": "bb"}"#;
    let mut rows = vec![good; 3000];
    let open = |rows: &[&str]| {
        let (folder, path) = file(rows.join("\n"));
        let settings = RowRules::default();
        let source = Source::open(&path, Form::Demonstration, spaces().load(), 64, settings);
        (folder, source.unwrap())
    };
    let (_folder, mut source) = open(&rows);
    assert!(source.report().is_none());
    let report = source.survey(&Silent).unwrap();
    assert_eq!(
        (report.rows, report.responses, report.longest),
        (3000, 3000, 6)
    );
    // BOS, ▁, p; b, b, EOS.
    assert_eq!(
        (report.prompt_tokens, report.completion_tokens),
        (9000, 9000)
    );
    assert_eq!(
        (report.prompts_cut, report.completions_cut, report.apart),
        (0, 0, 0)
    );
    (rows[2700], rows[2000]) = ("{}", "[]");
    says(
        open(&rows).1.survey(&Silent),
        &["data.jsonl:2001", "JSON array"],
    );
}

#[test]
fn examples_come_in_the_order_asked_for() {
    let rows: Vec<String> = (1..20)
        .map(|i| format!(r#"{{"prompt": "p", "completion": "{}"}}"#, "b".repeat(i)))
        .collect();
    let (_folder, path) = file(rows.join("\n"));
    let settings = RowRules::default();
    let source = Source::open(&path, Form::Demonstration, spaces().load(), 64, settings).unwrap();
    let examples = source.examples(&[7, 2, 7]).unwrap();
    assert_eq!(
        examples.iter().map(|e| e.row).collect::<Vec<_>>(),
        [7, 2, 7]
    );
    assert_eq!(
        examples.iter().map(Example::tokens).collect::<Vec<_>>(),
        [12, 7, 12]
    );
}
