//! Sampling of the next token.

use serde::{Deserialize, Serialize};

use super::cut::{self, Kept};
use super::draw::{draw, draw_of};
use crate::error::{Error, Result};
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::simd::{map, max, sum, vectorised};
use crate::magnitude::MAGNITUDE;
use crate::random::Stream;
use crate::text::exact;

/// Most completions of a prompt.
pub const SAMPLES: usize = 1_000_000;

/// Settings of sampling. Cuts come in the order of `transformers`: temperature, top-k, top-p.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Logits are divided by it; 0 is greedy: always the most probable token, of several the first.
    pub temperature: f64,
    /// Top-k: only the k most probable tokens, and those as probable as the last of them.
    pub top_k: Option<usize>,
    /// Top-p (nucleus sampling): only the fewest most probable tokens whose probabilities add up to it; 1 is all. Of
    /// tokens with one probability, those that come first in the vocabulary.
    pub top_p: f64,
    /// Tokens before EOS may come.
    pub min_new_tokens: usize,
    /// Most tokens of a completion, EOS included.
    pub max_new_tokens: usize,
    /// Completions of each prompt.
    pub samples: usize,
}

impl Default for Sampling {
    /// The model's own distribution, one completion of at most 128 tokens.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            min_new_tokens: 0,
            max_new_tokens: 128,
            samples: 1,
        }
    }
}

impl Sampling {
    /// An error unless every number makes sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<()> {
        let fail = |field: &str, found: String, remedy: &str| {
            Err(Error::invalid(field, format!("it is {found}"), remedy))
        };
        let (t, p) = (self.temperature, self.top_p);
        if !(0.0..=MAGNITUDE).contains(&t) {
            let remedy = "give a number above 0, at most 1e100, or 0 for the most probable token";
            return fail("temperature", exact(t), remedy);
        }
        if !(p > 0.0 && p <= 1.0) {
            let remedy = "give a probability above 0; 1 cuts nothing";
            return fail("top_p", p.to_string(), remedy);
        }
        if self.top_k == Some(0) {
            return fail("top_k", "0".into(), "give 1 or more, or leave it out");
        }
        for (field, value) in [
            ("max_new_tokens", self.max_new_tokens),
            ("samples", self.samples),
        ] {
            if value == 0 {
                return fail(field, "0".into(), "give 1 or more");
            }
        }
        if self.samples > SAMPLES {
            let remedy = format!("give at most {SAMPLES}");
            return fail("samples", self.samples.to_string(), &remedy);
        }
        if self.min_new_tokens > self.max_new_tokens {
            let remedy = format!("give at most max_new_tokens, {}", self.max_new_tokens);
            return fail("min_new_tokens", self.min_new_tokens.to_string(), &remedy);
        }
        Ok(())
    }
}

/// A token, and what the model says of the place it was drawn at, before any cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub token: u32,
    /// ln π of the token.
    pub log_prob: f64,
    /// `−Σ π ln π`
    pub entropy: f64,
}

/// Draws tokens; keeps its memory.
#[derive(Default)]
pub(super) struct Sampler<T> {
    weights: Vec<T>,
    scores: Vec<T>,
    kept: Vec<Kept>,
}

impl<T: Float> Sampler<T> {
    /// A token, none of `forbidden`. One number is taken from the stream, none if greedy.
    ///
    /// # Errors
    /// Logits that are not finite, or if all tokens are forbidden.
    pub fn choose(
        &mut self,
        logits: &[T],
        sampling: &Sampling,
        forbidden: &[u32],
        stream: &mut Stream,
    ) -> Result<Choice> {
        let [lse, entropy] = self.moments(logits)?;
        let token = self.pick(logits, sampling, forbidden, stream)?;
        let log_prob = logits[token].wide() - lse;
        let token = token as u32;
        Ok(Choice {
            token,
            log_prob,
            entropy,
        })
    }

    /// `ln Σ exp` of the logits, and the entropy of their softmax, added up in f64.
    fn moments(&mut self, logits: &[T]) -> Result<[f64; 2]> {
        let weights = &mut self.weights;
        weights.resize(logits.len(), T::zero());
        let [top, total, moment] = vectorised(
            #[inline(always)]
            || {
                let top = max(logits, logits[0]);
                map(
                    weights,
                    logits,
                    logits,
                    #[inline(always)]
                    |l, _| (l - top).exp(),
                );
                let total: f64 = sum(
                    weights,
                    weights,
                    #[inline(always)]
                    |w, _| w.wide(),
                );
                let moment: f64 = sum(
                    weights,
                    logits,
                    #[inline(always)]
                    |w, l| w.wide() * (l - top).wide(),
                );
                [top.wide(), total, moment]
            },
        );
        let log = total.ln();
        if (top + total + moment).is_finite() {
            Ok([top + log, log - moment / total])
        } else {
            Err(Error::invalid(
                "logits",
                "the model gives numbers that are not finite",
                "check its weights, or try --dtype f64",
            ))
        }
    }

    /// The index of a token; `weights` holds the softmax at temperature 1 up to a factor.
    fn pick(
        &mut self,
        logits: &[T],
        sampling: &Sampling,
        forbidden: &[u32],
        stream: &mut Stream,
    ) -> Result<usize> {
        let t = sampling.temperature;
        let scores = if forbidden.is_empty() {
            logits
        } else {
            self.scores.clear();
            self.scores.extend_from_slice(logits);
            for &token in forbidden {
                if let Some(score) = self.scores.get_mut(token as usize) {
                    *score = T::of(f64::NEG_INFINITY);
                }
            }
            &self.scores
        };
        let top_score = vectorised(
            #[inline(always)]
            || max(scores, scores[0]),
        );
        if top_score.wide() == f64::NEG_INFINITY {
            let remedy = "set min_new_tokens to 0";
            return Err(Error::invalid("ends", "every token is an end", remedy));
        }
        if t == 0.0 {
            return Ok(scores.iter().position(|&s| s == top_score).unwrap_or(0));
        }
        if t != 1.0 || !forbidden.is_empty() {
            // Where 1/t is no number of the type, all but the top has weight 0 anyway.
            let by = T::of((1.0 / t).min(1e30));
            let weights = &mut self.weights;
            vectorised(
                #[inline(always)]
                || {
                    map(
                        weights,
                        scores,
                        scores,
                        #[inline(always)]
                        |s, _| ((s - top_score) * by).exp(),
                    );
                },
            );
        }
        let k = sampling.top_k.filter(|&k| k < scores.len());
        if k.is_none() && sampling.top_p == 1.0 {
            return Ok(draw(&self.weights, stream));
        }
        let total = match k {
            Some(k) => cut::most_probable(scores, &self.weights, k, &mut self.kept),
            None => cut::worth_sorting(&self.weights, sampling.top_p, &mut self.kept),
        };
        if sampling.top_p < 1.0 {
            cut::nucleus(&mut self.kept, total, sampling.top_p);
        }
        Ok(draw_of(&self.kept, stream))
    }
}
