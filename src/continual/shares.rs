//! What examples are trained on: losses of the registry, on numbers of the sequence's arms.

use super::examples::Example;
use super::sequence::Sequence;
use crate::error::Result;
use crate::loss::{Batch, Given, Objective};
use crate::sim::share::Share;
use crate::solve::copr::Divergence;

/// The loss that fits the sampling distribution in a direction of the divergence.
fn fit_loss(divergence: Divergence) -> Objective {
    match divergence {
        Divergence::Reverse => Objective::COPR,
        Divergence::Forward => Objective::COPR_FORWARD,
    }
}

/// Ranked lists of one task, as a batch and the arms of its responses; `before` is ln π of every arm at the start of
/// the task, the reference.
fn lists(sequence: &Sequence, examples: &[Example], before: &[f64]) -> (Batch, Vec<Vec<u32>>) {
    let mut arms = Vec::new();
    let mut batch = Batch::default();
    for e in examples {
        let first = sequence.logits.rows()[e.prompt].start;
        arms.extend(e.arms.iter().map(|a| (first + a) as u32));
        batch.reward[0].extend(&e.advantage);
        batch.sizes.push(e.arms.len());
        batch.weight.push(e.weight);
    }
    batch.log_reference[0] = arms.iter().map(|&a| before[a as usize]).collect();
    (batch, vec![arms])
}

/// β of the examples of one task.
fn beta(examples: &[Example]) -> Given {
    examples
        .first()
        .map_or(Given::new(), |e| Given::from(e.beta))
}

/// The fit of the sampling distributions of examples (eq. 7), which have the policy `before` for their reference.
pub(super) fn fit(
    sequence: &Sequence,
    divergence: Divergence,
    weight: f64,
    examples: &[Example],
    before: &[f64],
) -> Result<Share> {
    let (batch, slots) = lists(sequence, examples, before);
    let loss = fit_loss(divergence).bind(&beta(examples))?;
    Share::new(loss, weight, batch, slots)
}

/// The likelihood of the best responses, negated.
pub(super) fn likelihood(
    sequence: &Sequence,
    weight: f64,
    examples: &[Example],
    before: &[f64],
) -> Result<Share> {
    let (batch, slots) = lists(sequence, examples, before);
    let loss = Objective::SFT.bind(&Given::new())?;
    Share::new(loss, weight, batch, slots)
}

/// DPO on all pairs of different rank of each example, equally often, the better one always winning, with the policy
/// `before` for its reference.
pub(super) fn preferences(
    sequence: &Sequence,
    weight: f64,
    examples: &[Example],
    before: &[f64],
) -> Result<Share> {
    let mut slots = vec![Vec::new(); 2];
    let mut batch = Batch::default();
    for e in examples {
        let first = sequence.logits.rows()[e.prompt].start;
        let from = slots[0].len();
        for (i, &loser) in e.arms.iter().enumerate() {
            for (j, &winner) in e.arms.iter().enumerate().skip(i + 1) {
                if e.advantage[i] != e.advantage[j] {
                    slots[0].push((first + winner) as u32);
                    slots[1].push((first + loser) as u32);
                }
            }
        }
        let pairs = slots[0].len() - from;
        (batch.weight).extend((0..pairs).map(|_| e.weight / pairs as f64));
    }
    for (slot, arms) in slots.iter().enumerate() {
        batch.log_reference[slot] = arms.iter().map(|&a| before[a as usize]).collect();
    }
    Share::new(Objective::DPO.bind(&beta(examples))?, weight, batch, slots)
}
