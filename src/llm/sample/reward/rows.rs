//! Rows of a file with their completions, to be scored and written again.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Candidate, Scored};
use crate::error::{Error, Result};
use crate::llm::text::data::Reading;
use crate::llm::text::data::table::Table;
use crate::observer::Observer;

/// Place of a completion in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// `completion`.
    Completion,
    /// `completions[i]`.
    Completions(usize),
    /// `chosen`.
    Chosen,
    /// `rejected`.
    Rejected,
}

/// Names under which trainers read scores; a row that has one is not given another.
const SCORES: [&str; 8] = [
    "score",
    "reward",
    "scores",
    "rewards",
    "chosen_score",
    "score_chosen",
    "rejected_score",
    "score_rejected",
];

/// The rows of a file, and every completion in them.
#[derive(Debug)]
pub struct Rows {
    origin: String,
    rows: Vec<Map<String, Value>>,
    slots: Vec<(usize, Slot)>,
}

impl Rows {
    /// The rows of a file, as `reading` says, with `prompt` and `completion`, `completions`, or
    /// `chosen` and `rejected`, all texts.
    ///
    /// # Errors
    /// A file that cannot be read, or a row without these columns.
    pub fn open(path: &Path, reading: &Reading, observer: &dyn Observer) -> Result<Self> {
        let file = Table::read(path, reading, observer)?;
        let work = observer.begin("reading", file.len() as u64);
        let mut rows = Vec::with_capacity(file.len());
        let mut slots = Vec::new();
        for index in 0..file.len() {
            let row = file.whole(index)?;
            let found =
                slots_of(&row).map_err(|(problem, remedy)| file.fault(index, problem, remedy))?;
            slots.extend(found.into_iter().map(|slot| (index, slot)));
            rows.push(row);
            work.advance(1);
        }
        drop(work);
        let origin = file.origin().to_owned();
        Ok(Self {
            origin,
            rows,
            slots,
        })
    }

    /// The file, as messages call it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The rows' columns.
    pub fn columns(&self) -> &[Map<String, Value>] {
        &self.rows
    }

    /// Row of each completion, and its place there.
    pub fn slots(&self) -> &[(usize, Slot)] {
        &self.slots
    }

    /// Every completion, in the file's order.
    pub fn views(&self) -> Vec<Candidate<'_>> {
        let view = |&(index, slot): &(usize, Slot)| {
            let fields = &self.rows[index];
            let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
            let completion = match slot {
                Slot::Completion => text("completion"),
                Slot::Chosen => text("chosen"),
                Slot::Rejected => text("rejected"),
                Slot::Completions(i) => (fields.get("completions"))
                    .and_then(|list| list.get(i)?.as_str())
                    .unwrap_or_default(),
            };
            Candidate {
                prompt: text("prompt"),
                completion,
                index,
                fields,
            }
        };
        self.slots.iter().map(view).collect()
    }

    /// Refuses rows that have scores already.
    ///
    /// # Errors
    /// The first of them.
    pub fn unscored(&self) -> Result<()> {
        let has =
            |row: &Map<String, Value>| SCORES.into_iter().find(|name| row.contains_key(*name));
        let found = self.rows.iter().enumerate();
        match found.filter_map(|(i, row)| Some((i, has(row)?))).next() {
            None => Ok(()),
            Some((i, name)) => Err(Error::invalid(
                format!("{}: row {}", self.origin, i + 1),
                format!("it has a `{name}` already"),
                "pass --replace to score it anew",
            )),
        }
    }

    /// Adds the scores, those of old are dropped: `score` beside a `completion`, `scores` beside
    /// `completions`, `chosen_score` and `rejected_score` beside a pair. Of a sum of several rewards,
    /// `score_parts` has each by name.
    pub fn scored(mut self, scored: &Scored) -> Vec<Map<String, Value>> {
        for row in &mut self.rows {
            SCORES.iter().for_each(|name| drop(row.remove(*name)));
            row.remove("score_parts");
        }
        for (i, &(index, slot)) in self.slots.iter().enumerate() {
            let row = &mut self.rows[index];
            put(row, slot, scored.total[i]);
            if scored.parts.len() > 1 {
                let parts = row.entry("score_parts").or_insert_with(|| json!({}));
                for (name, scores) in &scored.parts {
                    if let Some(parts) = parts.as_object_mut() {
                        let part = parts.entry(name.as_str()).or_insert_with(|| json!({}));
                        if let Some(part) = part.as_object_mut() {
                            put(part, slot, scores[i]);
                        }
                        parts.sort_keys();
                    }
                }
            }
        }
        self.rows
    }
}

fn put(object: &mut Map<String, Value>, slot: Slot, score: f64) {
    let name = match slot {
        Slot::Completion => "score",
        Slot::Chosen => "chosen_score",
        Slot::Rejected => "rejected_score",
        Slot::Completions(_) => {
            let list = object.entry("scores").or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(score.into());
            }
            return;
        }
    };
    object.insert(name.into(), score.into());
}

/// The completions of a row, or what is wrong with it.
fn slots_of(row: &Map<String, Value>) -> std::result::Result<Vec<Slot>, (String, &'static str)> {
    let has = |name: &str| row.get(name).is_some_and(|v| !v.is_null());
    let text = |name: &str| match row.get(name) {
        Some(Value::String(_)) => Ok(()),
        None | Some(Value::Null) => Err((format!("column `{name}` is missing"), "give it")),
        Some(_) => {
            let remedy = "give a string; --column NAME=EXPR takes one out of a conversation";
            Err((format!("`{name}` is no text"), remedy))
        }
    };
    text("prompt")?;
    if has("completion") {
        text("completion")?;
        return Ok(vec![Slot::Completion]);
    }
    if let Some(list) = row.get("completions").filter(|v| !v.is_null()) {
        let texts = list.as_array().filter(|l| l.iter().all(Value::is_string));
        let count = texts.map_or(0, Vec::len);
        return match count {
            0 => Err((
                "`completions` is no list of texts".into(),
                "give one or more strings",
            )),
            count => Ok((0..count).map(Slot::Completions).collect()),
        };
    }
    if has("chosen") || has("rejected") {
        text("chosen")?;
        text("rejected")?;
        return Ok(vec![Slot::Chosen, Slot::Rejected]);
    }
    let remedy = "give `completion`, `completions`, or `chosen` and `rejected`";
    Err(("it has no completion".into(), remedy))
}

/// The columns that its rows share, its completions, their scores.
type Group = (Map<String, Value>, Vec<Value>, Vec<Value>);

/// Rows of the same prompt as one: `prompt`, `completions`, `scores`, and the columns that are the
/// same in all of them. In the order in which prompts first come; prompts with fewer than `least`
/// completions are left out.
pub fn grouped(rows: Vec<Map<String, Value>>, least: usize) -> Vec<Map<String, Value>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for mut row in rows {
        let prompt = row
            .get("prompt")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let next = groups.len();
        let place = *places.entry(prompt.to_owned()).or_insert(next);
        let mut taken = |one: &str, many: &str| match row.remove(one) {
            Some(value) => vec![value],
            None => match row.remove(many) {
                Some(Value::Array(values)) => values,
                _ => Vec::new(),
            },
        };
        let mut texts = taken("completion", "completions");
        let mut scores = taken("score", "scores");
        texts.extend(["chosen", "rejected"].iter().filter_map(|n| row.remove(*n)));
        let of_pair = ["chosen_score", "rejected_score"];
        scores.extend(of_pair.iter().filter_map(|n| row.remove(*n)));
        row.remove("score_parts");
        match groups.get_mut(place) {
            None => groups.push((row, texts, scores)),
            Some((common, all_texts, all_scores)) => {
                common.retain(|name, value| row.get(name) == Some(value));
                all_texts.extend(texts);
                all_scores.extend(scores);
            }
        }
    }
    let full = groups
        .into_iter()
        .filter(|(_, texts, _)| texts.len() >= least);
    full.map(|(mut row, texts, scores)| {
        row.insert("completions".into(), texts.into());
        row.insert("scores".into(), scores.into());
        row
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Silent;

    fn open(lines: &str) -> Result<Rows> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, lines).unwrap();
        Rows::open(&path, &Reading::default(), &Silent)
    }

    fn lines(rows: &[Map<String, Value>]) -> Vec<Value> {
        rows.iter().map(|row| json!(row)).collect()
    }

    const ROWS: &str = r#"{"prompt": "p", "completion": "a", "id": 7, "source": "x"}
{"prompt": "q", "completions": ["b", "c"]}
{"prompt": "p", "chosen": "d", "rejected": "e", "id": 8, "source": "x"}
"#;

    fn some(rows: &Rows, names: &[&str]) -> Scored {
        let total: Vec<f64> = (0..rows.views().len()).map(|i| i as f64).collect();
        let parts = names.iter().map(|n| (n.to_string(), total.clone()));
        Scored {
            parts: parts.collect(),
            total,
        }
    }

    #[test]
    fn every_shape_gets_its_scores() {
        let rows = open(ROWS).unwrap();
        let views = rows.views();
        let seen: Vec<_> = views
            .iter()
            .map(|v| (v.index, v.prompt, v.completion))
            .collect();
        assert_eq!(
            seen,
            [
                (0, "p", "a"),
                (1, "q", "b"),
                (1, "q", "c"),
                (2, "p", "d"),
                (2, "p", "e")
            ]
        );
        let scored = some(&rows, &["one"]);
        let out = rows.scored(&scored);
        assert_eq!(
            lines(&out),
            [
                json!({"prompt": "p", "completion": "a", "id": 7, "source": "x", "score": 0.0}),
                json!({"prompt": "q", "completions": ["b", "c"], "scores": [1.0, 2.0]}),
                json!({"prompt": "p", "chosen": "d", "rejected": "e", "id": 8, "source": "x",
                       "chosen_score": 3.0, "rejected_score": 4.0}),
            ]
        );
        assert_eq!(
            lines(&grouped(out.clone(), 1)),
            [
                json!({"prompt": "p", "completions": ["a", "d", "e"], "scores": [0.0, 3.0, 4.0],
                       "source": "x"}),
                json!({"prompt": "q", "completions": ["b", "c"], "scores": [1.0, 2.0]}),
            ]
        );
        assert_eq!(grouped(out, 3).len(), 1);
    }

    #[test]
    fn parts_stand_beside_the_sum_and_old_scores_go() {
        let rows = open("{\"prompt\": \"p\", \"completion\": \"a\", \"reward\": 9}\n").unwrap();
        let error = rows.unscored().unwrap_err().to_string();
        assert!(
            error.contains("row 1") && error.contains("`reward`"),
            "{error}"
        );
        let scored = some(&rows, &["one", "two"]);
        let parts = json!({"one": {"score": 0.0}, "two": {"score": 0.0}});
        assert_eq!(
            lines(&rows.scored(&scored)),
            [json!({"prompt": "p", "completion": "a", "score": 0.0, "score_parts": parts})]
        );
    }

    #[test]
    fn rows_without_completions_are_named() {
        for (line, expected) in [
            (r#"{"completion": "a"}"#, "column `prompt` is missing"),
            (r#"{"prompt": "p"}"#, "no completion"),
            (r#"{"prompt": "p", "chosen": "a"}"#, "column `rejected`"),
            (r#"{"prompt": "p", "completions": []}"#, "no list of texts"),
            (
                r#"{"prompt": "p", "completions": ["a", 1]}"#,
                "no list of texts",
            ),
            (
                r#"{"prompt": "p", "completion": 1}"#,
                "`completion` is no text",
            ),
        ] {
            let text = format!("{{\"prompt\": \"p\", \"completion\": \"a\"}}\n{line}\n");
            let error = open(&text).unwrap_err().to_string();
            assert!(
                error.contains("rows.jsonl:2") && error.contains(expected),
                "{error}"
            );
        }
    }
}
