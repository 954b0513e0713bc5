//! The batch that a run stops at.

use std::path::Path;

use serde::{Serialize, Serializer};

use super::Stepped;
use super::folder::json;
use crate::error::Result;

/// Its name in the run's folder.
pub(super) const FILE: &str = "nan-batch.jsonl";

/// A line of it: an example, and what the networks made of it.
#[derive(Serialize)]
struct Line<'a> {
    row: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Number>,
    responses: Vec<Response<'a>>,
}

#[derive(Serialize)]
struct Response<'a> {
    prompt: &'a [u32],
    completion: &'a [u32],
    reward: Number,
    log_policy: Number,
    log_reference: Number,
}

/// A number, or the text of one that JSON has none for.
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.serialize_str(&self.0.to_string())
        }
    }
}

/// The examples of a step as JSON lines, with the numbers of their responses.
pub(super) fn lines(stepped: &Stepped) -> Result<String> {
    let Stepped {
        batch,
        text,
        examples,
        ..
    } = stepped;
    // What a sequence came to, found through the places that it stands at.
    let mut found = vec![[f64::NAN; 2]; text.sequences.len()];
    for (place, slots) in text.slots.iter().enumerate() {
        let mut at = 0;
        for (i, &slot) in slots.iter().enumerate() {
            // Of a loss on tokens the sum of a response's.
            let tokens = batch.lengths.get(i).copied().unwrap_or(1);
            let sum = |of: &[f64]| of.get(at..at + tokens).map_or(0.0, |of| of.iter().sum());
            found[slot as usize] = [
                sum(&batch.log_policy[place]),
                sum(&batch.log_reference[place]),
            ];
            at += tokens;
        }
    }
    let mut found = found.into_iter();
    let mut lines = String::new();
    for (i, example) in examples.iter().enumerate() {
        let mut responses = Vec::new();
        for (response, [policy, reference]) in example.responses.iter().zip(found.by_ref()) {
            responses.push(Response {
                prompt: response.sequence.prompt(),
                completion: response.sequence.completion(),
                reward: Number(response.reward),
                log_policy: Number(policy),
                log_reference: Number(reference),
            });
        }
        let line = Line {
            row: example.row,
            baseline: batch.baseline.get(i).copied().map(Number),
            responses,
        };
        lines += &json(Path::new(FILE), serde_json::to_string(&line))?;
        lines.push('\n');
    }
    Ok(lines)
}
