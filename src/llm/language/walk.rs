//! The exact policy of a transformer, by walking the tree of strings.
//!
//! It judges the pipeline, so it shares nothing with it but the model's forward pass: one prefix at a
//! time, alone in its pack, through [`Decoder::logits`]; the last position's log-softmax in f64. No
//! targets, no rows, no masks, no batches. Scores are judged likewise.

use candle_core::DType;

use super::Language;
use crate::bandit::{Policy, log_sum_exp};
use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::heads::{ScalarHead, Scorer};
use crate::llm::model::sequence::Packed;
use crate::llm::tensor::tape::Tape;

/// ln π of every response to every prompt.
///
/// # Errors
/// A language that does not fit the model, or a failing device.
pub fn walk(model: &Decoder, language: &Language) -> Result<Policy> {
    let rows = (language.prompts().iter()).map(|prompt| of_prompt(model, language, prompt));
    Ok(Policy::from_log(rows.collect::<Result<_>>()?))
}

fn of_prompt(model: &Decoder, language: &Language, prompt: &[u32]) -> Result<Vec<f64>> {
    let mut log = Vec::with_capacity(language.responses());
    // Prompts with the strings of one length, in order, and ln of the probability to get there.
    let mut level = vec![(prompt.to_vec(), 0.0)];
    for _ in 0..language.length() {
        let mut longer = Vec::with_capacity(level.len() * language.symbols() as usize);
        for (tokens, so_far) in &level {
            let next = next_token(model, tokens)?;
            log.push(so_far + next[language.boundary() as usize]);
            longer.extend((0..language.symbols()).map(|symbol| {
                let tokens = [tokens.as_slice(), &[symbol]].concat();
                (tokens, so_far + next[symbol as usize])
            }));
        }
        level = longer;
    }
    log.extend(level.into_iter().map(|(_, so_far)| so_far));
    Ok(log)
}

/// ln of the probability of every next token.
fn next_token(model: &Decoder, tokens: &[u32]) -> Result<Vec<f64>> {
    let logits = model.logits(&Packed::new([tokens]))?;
    let last: Vec<f64> = (logits.get(tokens.len() - 1)?.to_dtype(DType::F64)?).to_vec1()?;
    let total = log_sum_exp(&last);
    Ok(last.iter().map(|l| l - total).collect())
}

/// The score that a reward head gives to every response to every prompt: one sequence alone in its
/// pack, the last hidden state times the head's weight, in f64.
///
/// # Errors
/// A language that does not fit the model, another head than a reward head, or a failing device.
pub fn scores(scorer: &Scorer, language: &Language) -> Result<Vec<Vec<f64>>> {
    let [name] = ScalarHead::Reward.names() else {
        unreachable!("a reward head is one weight");
    };
    let all = scorer.decoder.parameters();
    let weight = (all.iter()).find(|p| p.name == *name).ok_or_else(|| {
        let remedy = "add a reward head";
        Error::invalid(*name, "the model has no such head", remedy)
    })?;
    let weight: Vec<f64> = (weight.tensor.to_dtype(DType::F64)?.flatten_all()?).to_vec1()?;
    let score = |prompt: &[u32], arm: usize| -> Result<f64> {
        let tokens = [prompt, &language.completion(arm)].concat();
        let tokens = scorer.decoder.unpadded(&tokens);
        let hidden = (scorer.decoder).hidden(&Tape::idle(), &Packed::new([tokens]))?;
        let last = hidden.value().get(tokens.len() - 1)?;
        let last: Vec<f64> = last.to_dtype(DType::F64)?.to_vec1()?;
        Ok(last.iter().zip(&weight).map(|(h, w)| h * w).sum())
    };
    let row = |prompt: &Vec<u32>| {
        (0..language.responses())
            .map(|a| score(prompt, a))
            .collect()
    };
    language.prompts().iter().map(row).collect()
}
