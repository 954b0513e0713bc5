//! Completions of all prompts, by one model or from one file, with their scores.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Compared, EvaluationSettings, Prompts};
use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::sequence::Sequence;
use crate::llm::sample::generate::{self, completion_text, prompt_tokens};
use crate::llm::sample::reward::{Candidate, Rows, Slot, Weighted};
use crate::llm::text::data::Reading;
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::Observer;

/// A completion of a prompt, and what is known of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completion {
    /// Index of its prompt.
    pub prompt: usize,
    /// Its text, without EOS.
    pub text: String,
    /// Number of its tokens, EOS included.
    pub tokens: Option<f64>,
    /// True if it ended with EOS, not at a limit on its length.
    pub ended: Option<bool>,
    /// Sum over its positions of the entropy of the model's next token, in nats.
    pub entropy: Option<f64>,
    /// Difference between policy and reference on it.
    pub compared: Option<Compared>,
}

/// Completions of all prompts with their scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrant {
    /// Name in reports.
    pub name: String,
    /// Prompt by prompt, one or more each.
    pub completions: Vec<Completion>,
    /// The score of each; none where there are no rewards.
    pub scores: Vec<f64>,
    /// The parts of the scores, if they have several: name, and one of each completion.
    pub parts: Vec<(String, Vec<f64>)>,
}

impl Entrant {
    /// Index of each completion's prompt.
    pub fn prompts(&self) -> Vec<usize> {
        self.completions.iter().map(|c| c.prompt).collect()
    }

    /// Rows that `--against`, `pistar score` and `pistar train` read: the prompt's columns, and over
    /// them completion, score, and what else is known.
    pub fn rows(&self, prompts: &Prompts) -> Vec<Map<String, Value>> {
        let row = |(i, completion): (usize, &Completion)| {
            let mut row = prompts.all[completion.prompt].fields.clone();
            for other in [
                "completions",
                "scores",
                "chosen",
                "rejected",
                "label",
                "reward",
            ] {
                row.remove(other);
            }
            let prompt = prompts.all[completion.prompt].text.as_str();
            row.insert("prompt".into(), prompt.into());
            row.insert("completion".into(), completion.text.as_str().into());
            if let Some(score) = self.scores.get(i) {
                row.insert("score".into(), (*score).into());
            }
            if let Some(tokens) = completion.tokens {
                row.insert("tokens".into(), (tokens as u64).into());
            }
            if let Some(ended) = completion.ended {
                row.insert("ended".into(), ended.into());
            }
            if let Some(entropy) = completion.entropy {
                row.insert("entropy".into(), entropy.into());
            }
            if let Some(compared) = &completion.compared {
                row.insert("log_ratio".into(), compared.log_ratio().into());
            }
            row
        };
        let mut rows: Vec<_> = self.completions.iter().enumerate().map(row).collect();
        if self.parts.len() > 1 {
            for (i, row) in rows.iter_mut().enumerate() {
                let parts = self
                    .parts
                    .iter()
                    .map(|(name, of)| (name.clone(), of[i].into()));
                let mut parts: Map<String, Value> = parts.collect();
                parts.sort_keys();
                row.insert("score_parts".into(), parts.into());
            }
        }
        rows
    }
}

/// Completions of a model, and their tokens.
///
/// # Errors
/// Those of [`generate`](generate::generate), a prompt with its `FILE:` before it.
pub fn generated(
    model: &Decoder,
    tokenizer: &Tokenizer,
    prompts: &Prompts,
    settings: &EvaluationSettings,
    observer: &dyn Observer,
) -> Result<(Vec<Completion>, Vec<Sequence>)> {
    let context = model.sizes().context;
    let mut tokens = Vec::with_capacity(prompts.all.len());
    for prompt in &prompts.all {
        let place = || format!("{}: row {}", prompts.origin, prompt.row + 1);
        let given = prompt_tokens(tokenizer, &prompt.text).map_err(|e| e.in_file(&place()))?;
        if given.len() >= context {
            let problem = format!("the prompt has {} tokens", given.len());
            let remedy = format!("the model takes {context}, and one at least is generated");
            return Err(Error::invalid(place(), problem, remedy));
        }
        tokens.push(given);
    }
    let EvaluationSettings {
        sampling,
        seed,
        batch,
        ..
    } = settings;
    let all = generate::generate(
        model,
        tokenizer.ends(),
        &tokens,
        sampling,
        *seed,
        *batch,
        observer,
    )?;
    let (mut completions, mut sequences) = (Vec::new(), Vec::new());
    for (index, generated) in all.into_iter().enumerate() {
        let prompt = index / sampling.samples;
        let given = &tokens[prompt];
        let text = completion_text(tokenizer, given, &generated.tokens, generated.ended)?;
        completions.push(Completion {
            prompt,
            text,
            tokens: Some(generated.tokens.len() as f64),
            ended: Some(generated.ended),
            entropy: Some(generated.entropy),
            compared: None,
        });
        let whole = [given.as_slice(), &generated.tokens].concat();
        sequences.push(Sequence::new(whole, given.len())?);
    }
    Ok((completions, sequences))
}

/// The completions that a file has of the prompts: `completion`, `completions` or `chosen`. Other
/// prompts of the file are left out.
///
/// # Errors
/// A file that cannot be read, or a prompt that it has no completion of.
pub fn read(path: &Path, prompts: &Prompts, observer: &dyn Observer) -> Result<Vec<Completion>> {
    let rows = Rows::open(path, &Reading::default(), observer)?;
    let mut completions = Vec::new();
    for (view, (row, slot)) in rows.views().into_iter().zip(rows.slots()) {
        let Some(prompt) = prompts
            .find(view.prompt)
            .filter(|_| *slot != Slot::Rejected)
        else {
            continue;
        };
        let columns = &rows.columns()[*row];
        let own = |name: &str| columns.get(name).filter(|_| *slot == Slot::Completion);
        completions.push(Completion {
            prompt,
            text: view.completion.to_owned(),
            tokens: own("tokens").and_then(Value::as_f64),
            ended: own("ended").and_then(Value::as_bool),
            entropy: own("entropy").and_then(Value::as_f64),
            compared: None,
        });
    }
    completions.sort_by_key(|c| c.prompt);
    let mut has = vec![false; prompts.all.len()];
    completions.iter().for_each(|c| has[c.prompt] = true);
    let missing = has.iter().filter(|h| !**h).count();
    match has.iter().position(|h| !h) {
        None => Ok(completions),
        Some(first) => Err(Error::invalid(
            rows.origin(),
            format!(
                "it has no completion of {missing} of the {} prompts, the first in row {} of {}",
                prompts.all.len(),
                prompts.all[first].row + 1,
                prompts.origin
            ),
            "give one or more of every prompt, its text the same to the letter",
        )),
    }
}

/// Completions with their scores; without scores, if the rewards are none.
///
/// # Errors
/// Those of the rewards.
pub fn rewarded(
    name: &str,
    completions: Vec<Completion>,
    prompts: &Prompts,
    rewards: &mut Weighted,
    observer: &dyn Observer,
) -> Result<Entrant> {
    let rows: Vec<Candidate> = (completions.iter())
        .map(|completion| {
            let prompt = &prompts.all[completion.prompt];
            Candidate {
                prompt: &prompt.text,
                completion: &completion.text,
                index: prompt.row,
                fields: &prompt.fields,
            }
        })
        .collect();
    let scored = (rewards.scored(&rows, observer)).map_err(|e| e.in_file(&prompts.origin))?;
    Ok(Entrant {
        name: name.into(),
        scores: if scored.parts.is_empty() {
            Vec::new()
        } else {
            scored.total
        },
        parts: scored.parts,
        completions,
    })
}
