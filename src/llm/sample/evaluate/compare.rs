//! Policy and reference on the same tokens.

use std::rc::Rc;

use candle_core::DType;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::inference::parts;
use crate::llm::model::sequence::{Predictions, Sequence};
use crate::llm::tensor::tape::Tape;
use crate::observer::Observer;

/// Numbers of logits that are looked at together.
const LOGITS: usize = 1 << 22;

/// Difference between policy and reference on a completion. Of both it is the distribution of the model itself, at
/// temperature 1 and without cuts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Compared {
    /// `ln π(y|x)`: the sum over its tokens.
    pub log_policy: f64,
    /// `ln π_ref(y|x)`.
    pub log_reference: f64,
    /// `Σₜ KL(π(·|y<t) ‖ π_ref(·|y<t))`, each over the whole vocabulary.
    pub divergence: f64,
    /// Number of its tokens.
    pub tokens: usize,
}

impl Compared {
    /// `ln π/π_ref`: its mean over completions of π is KL(π‖π_ref) (the estimator called k1).
    pub fn log_ratio(&self) -> f64 {
        self.log_policy - self.log_reference
    }
}

/// Compares two models on completions. At most `batch_tokens` tokens are run at once, but for a longer
/// sequence alone.
///
/// # Errors
/// Models of unlike vocabularies, those of either model, or numbers that are not finite.
pub fn compare(
    policy: &Decoder,
    reference: &Decoder,
    sequences: &[Sequence],
    batch_tokens: usize,
    observer: &dyn Observer,
) -> Result<Vec<Compared>> {
    let [ours, theirs] = [policy, reference].map(|m| m.sizes().vocabulary);
    if ours != theirs {
        return Err(Error::invalid(
            "reference",
            format!("it has {theirs} tokens and the model {ours}"),
            "name a reference of the same tokenizer",
        ));
    }
    let work = observer.begin("reference", sequences.len() as u64);
    let mut compared = Vec::with_capacity(sequences.len());
    for part in parts(sequences, batch_tokens) {
        compared.extend(batch(policy, reference, &part)?);
        work.advance(part.len() as u64);
    }
    Ok(compared)
}

fn batch(policy: &Decoder, reference: &Decoder, sequences: &[&Sequence]) -> Result<Vec<Compared>> {
    let predictions = Predictions::new(sequences);
    let tape = Tape::idle();
    let [ours, theirs] = [policy, reference].map(|m| m.hidden(&tape, &predictions.packed));
    let (ours, theirs) = (ours?, theirs?);
    let vocabulary = policy.sizes().vocabulary;
    let mut each: Vec<[f64; 3]> = Vec::with_capacity(predictions.rows.len());
    let places = predictions.rows.chunks((LOGITS / vocabulary).max(1));
    let mut targets = predictions.targets.iter();
    for rows in places {
        let rows: Rc<[u32]> = rows.into();
        let host = |model: &Decoder, hidden| -> Result<Vec<f64>> {
            let logits = model.logits_at(hidden, &rows)?;
            Ok(logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
        };
        let (p, r) = (host(policy, &ours)?, host(reference, &theirs)?);
        let targets: Vec<u32> = targets.by_ref().take(rows.len()).copied().collect();
        let positions = p.par_chunks(vocabulary).zip(r.par_chunks(vocabulary));
        let found: Vec<[f64; 3]> = (positions.zip(targets))
            .map(|((p, r), token)| position(p, r, token as usize))
            .collect();
        each.extend(found);
    }
    let sums = predictions.starts.windows(2).map(|w| {
        let sum = |i: usize| each[w[0]..w[1]].iter().map(|e| e[i]).sum::<f64>();
        let compared = Compared {
            log_policy: sum(0),
            log_reference: sum(1),
            divergence: sum(2),
            tokens: w[1] - w[0],
        };
        let finite = compared.log_ratio().is_finite() && compared.divergence.is_finite();
        if finite {
            Ok(compared)
        } else {
            Err(Error::invalid(
                "reference",
                format!(
                    "ln π − ln π_ref of a completion is {}",
                    compared.log_ratio()
                ),
                "check the weights of both models, or try --dtype f64",
            ))
        }
    });
    sums.collect()
}

/// ln π and ln π_ref of a token, and KL(π‖π_ref) at its place.
fn position(policy: &[f64], reference: &[f64], token: usize) -> [f64; 3] {
    let lse = |logits: &[f64]| {
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        top + logits.iter().map(|l| (l - top).exp()).sum::<f64>().ln()
    };
    let (ours, theirs) = (lse(policy), lse(reference));
    let pairs = policy.iter().zip(reference);
    let divergence: f64 = pairs
        .map(|(p, r)| {
            let log = p - ours;
            log.exp() * (log - (r - theirs))
        })
        .sum();
    [policy[token] - ours, reference[token] - theirs, divergence]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_by_its_definition() {
        let (p, r) = ([0.0, 1.0, -2.0], [0.5, 0.5, 3.0]);
        let softmax = |l: &[f64; 3]| {
            let z: f64 = l.iter().map(|x| x.exp()).sum();
            l.map(|x| x.exp() / z)
        };
        let (a, b) = (softmax(&p), softmax(&r));
        let kl: f64 = (0..3).map(|i| a[i] * (a[i] / b[i]).ln()).sum();
        let [log_p, log_r, found] = position(&p, &r, 2);
        assert!((log_p - a[2].ln()).abs() < 1e-14 && (log_r - b[2].ln()).abs() < 1e-14);
        assert!((found - kl).abs() < 1e-14);
        assert_eq!(position(&p, &p, 0)[2], 0.0);
    }
}
