//! Ranked responses of a task, and the rows that methods make of them.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::file::json::row;
use crate::llm::text::data::table::Table;
use crate::random::{Purpose, Stream};

/// A prompt with its responses, from worst to best.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The prompt, text or a conversation.
    pub prompt: Value,
    /// The responses.
    pub completions: Vec<Value>,
    /// Their scores, or ranks turned round.
    pub scores: Vec<f64>,
}

/// Reads the rows of a file.
///
/// # Errors
/// A row without ranked responses.
pub fn read(path: &Path) -> Result<Vec<Ranked>> {
    let table = Table::open(path)?;
    (0..table.len())
        .map(|at| {
            let columns = table.row(at)?;
            Ranked::of(&columns).map_err(|[problem, remedy]| table.fault(at, problem, remedy))
        })
        .collect()
}

impl Ranked {
    /// Those of a row's columns.
    fn of(columns: &Map<String, Value>) -> std::result::Result<Self, [String; 2]> {
        let fail = |problem: &str| {
            let remedy =
                "give prompt and completions with scores or ranks, or prompt, chosen and rejected";
            Err([problem.to_string(), remedy.to_string()])
        };
        let Some(prompt) = columns.get("prompt").cloned() else {
            return fail("it has no prompt");
        };
        if let (Some(chosen), Some(rejected)) = (columns.get("chosen"), columns.get("rejected")) {
            return Ok(Self {
                prompt,
                completions: vec![rejected.clone(), chosen.clone()],
                scores: vec![0.0, 1.0],
            });
        }
        let list = |name: &str| columns.get(name).and_then(Value::as_array);
        let Some(completions) = list("completions") else {
            return fail("it has no completions");
        };
        let (numbers, sign) = match (list("scores"), list("ranks")) {
            (Some(scores), _) => (scores, 1.0),
            (None, Some(ranks)) => (ranks, -1.0),
            (None, None) => return fail("it has neither scores nor ranks"),
        };
        let numbers = numbers.iter().map(|n| n.as_f64().map(|x| sign * x));
        let Some(numbers) = numbers.collect::<Option<Vec<f64>>>() else {
            return fail("a score or rank is no number");
        };
        if numbers.len() != completions.len() || numbers.len() < 2 {
            return fail("its completions, two or more, have not as many scores or ranks");
        }
        Ok(Self::sorted(prompt, completions.clone(), &numbers))
    }

    /// Puts responses in order.
    pub fn sorted(prompt: Value, completions: Vec<Value>, scores: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        Self {
            prompt,
            completions: order.iter().map(|&i| completions[i].clone()).collect(),
            scores: order.iter().map(|&i| scores[i]).collect(),
        }
    }

    /// The best response.
    pub fn best(&self) -> &Value {
        self.completions.last().unwrap_or(&Value::Null)
    }

    /// The row of the whole list.
    fn list(&self) -> Value {
        json!({"prompt": self.prompt, "completions": self.completions, "scores": self.scores})
    }

    /// A row for each two responses of different rank, the better one chosen.
    fn pairs(&self) -> Vec<Value> {
        let (completions, scores) = (&self.completions, &self.scores);
        let pairs =
            (0..completions.len()).flat_map(|i| (i + 1..completions.len()).map(move |j| (i, j)));
        let pairs = pairs.filter(|&(i, j)| scores[i] < scores[j]);
        pairs
            .map(|(i, j)| pair(&self.prompt, &completions[j], &completions[i]))
            .collect()
    }
}

fn pair(prompt: &Value, chosen: &Value, rejected: &Value) -> Value {
    json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
}

/// What rows are made of ranked responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The lists themselves.
    Lists,
    /// Their pairs.
    Pairs,
    /// The best response against one that the policy writes.
    Drawn,
    /// The best and the worst response after words that say which it is (chain of hindsight).
    Marked,
}

/// Words after a prompt that ask for a good or a bad response.
pub const MARKS: [&str; 2] = [" Good:", " Bad:"];

/// The rows of a form, as JSON lines; `drawn` has a response of the policy to each prompt.
///
/// # Errors
/// A prompt that cannot be marked.
pub fn rows(all: &[&Ranked], form: Form, drawn: &[Value]) -> Result<String> {
    let mut made = Vec::new();
    for (i, ranked) in all.iter().enumerate() {
        match form {
            Form::Lists => made.push(ranked.list()),
            Form::Pairs => made.extend(ranked.pairs()),
            Form::Drawn => {
                let own = drawn.get(i).filter(|own| *own != ranked.best());
                made.extend(own.map(|own| pair(&ranked.prompt, ranked.best(), own)));
            }
            Form::Marked => {
                let ends = [
                    ranked.best(),
                    ranked.completions.first().unwrap_or(&Value::Null),
                ];
                for (mark, completion) in MARKS.iter().zip(ends) {
                    let prompt = marked(&ranked.prompt, mark)?;
                    made.push(json!({"prompt": prompt, "completion": completion}));
                }
            }
        }
    }
    let mut text = String::new();
    for value in made {
        let Value::Object(columns) = value else {
            continue;
        };
        text += &row(columns).map_err(|e| Error::io("row", "write")(e.into()))?;
        text.push('\n');
    }
    Ok(text)
}

/// A prompt with a mark behind it.
///
/// # Errors
/// A conversation: its template ends the prompt.
pub fn marked(prompt: &Value, mark: &str) -> Result<Value> {
    match prompt.as_str() {
        Some(text) => Ok(format!("{text}{mark}").into()),
        None => Err(Error::invalid(
            "prompt",
            "it is a conversation, and the method writes words behind it",
            "give prompts that are text, or another method",
        )),
    }
}

/// Which of a task's rows are kept for replay: a share of them, at least one unless it is 0, in their order.
pub fn kept(share: f64, count: usize, seed: u64, task: usize) -> Vec<usize> {
    let size = (share * count as f64).ceil() as usize;
    let mut order: Vec<usize> = (0..count).collect();
    Stream::new(seed, Purpose::Replay, task as u64).shuffle(&mut order);
    order.truncate(size);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(text: &str) -> Ranked {
        let Value::Object(columns) = serde_json::from_str(text).unwrap() else {
            panic!("{text}");
        };
        Ranked::of(&columns).unwrap()
    }

    #[test]
    fn rows_hold_the_better_one_where_it_belongs() {
        let one = ranked(r#"{"prompt": "p", "completions": ["b", "a", "c"], "ranks": [2, 1, 3]}"#);
        assert_eq!(one.completions, ["c", "b", "a"]);
        let same =
            ranked(r#"{"prompt": "p", "completions": ["b", "a", "c"], "scores": [5, 7, 1]}"#);
        assert_eq!(one.completions, same.completions);
        let pair = ranked(r#"{"prompt": "p", "chosen": "y", "rejected": "n"}"#);
        assert_eq!(pair.completions, ["n", "y"]);
        let tied =
            ranked(r#"{"prompt": "p", "completions": ["b", "a", "c"], "scores": [7, 7, 1]}"#);
        let count = |one: &Ranked, form| rows(&[one], form, &["x".into()]).unwrap().lines().count();
        assert_eq!(
            [count(&one, Form::Pairs), count(&tied, Form::Pairs)],
            [3, 2]
        );
        for line in rows(&[&one], Form::Pairs, &[]).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            assert!(row["chosen"].as_str() < row["rejected"].as_str(), "{line}");
        }
        let drawn = rows(&[&one], Form::Drawn, &["x".into()]).unwrap();
        assert!(drawn.contains(r#""chosen":"a""#) && drawn.contains(r#""rejected":"x""#));
        // A response is not preferred to itself.
        assert!(
            rows(&[&one], Form::Drawn, &["a".into()])
                .unwrap()
                .is_empty()
        );
        let marked = rows(&[&one], Form::Marked, &[]).unwrap();
        let lines: Vec<Value> = marked
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        let wanted = [("p Good:", "a"), ("p Bad:", "c")];
        for (line, (prompt, completion)) in lines.iter().zip(wanted) {
            assert_eq!(
                (&line["prompt"], &line["completion"]),
                (&prompt.into(), &completion.into())
            );
        }
    }

    #[test]
    fn what_is_not_ranked_is_refused() {
        for text in [
            r#"{"completions": ["a"], "scores": [1]}"#,
            r#"{"prompt": "p", "completions": ["a", "b"]}"#,
            r#"{"prompt": "p", "completions": ["a", "b"], "scores": [1]}"#,
            r#"{"prompt": "p", "completions": ["a", "b"], "scores": [1, "x"]}"#,
        ] {
            let Value::Object(columns) = serde_json::from_str(text).unwrap() else {
                panic!("{text}");
            };
            assert!(Ranked::of(&columns).is_err(), "{text}");
        }
        assert!(marked(&json!([{"role": "user", "content": "x"}]), MARKS[0]).is_err());
    }

    #[test]
    fn a_share_is_kept_and_the_choice_is_the_seeds() {
        assert_eq!(kept(0.0, 10, 1, 0), [0usize; 0]);
        assert_eq!(kept(0.01, 10, 1, 0).len(), 1);
        assert_eq!(kept(1.0, 4, 1, 0), [0, 1, 2, 3]);
        let half = kept(0.5, 100, 1, 0);
        assert!(half.len() == 50 && half.is_sorted());
        assert_eq!(half, kept(0.5, 100, 1, 0));
        assert_ne!(half, kept(0.5, 100, 2, 0));
        assert_ne!(half, kept(0.5, 100, 1, 1));
    }
}
