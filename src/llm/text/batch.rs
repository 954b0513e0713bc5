//! Examples over token sequences.

use std::sync::Arc;

use super::example::{OfTokens, Response, Stored};
use crate::llm::model::sequence::Sequence;
use crate::loss::{Batch, InputKind, Proposals};

/// Weighted examples over distinct sequences. An example names its sequences by index, so that one
/// that stands in many examples is run once.
#[derive(Debug, Clone, Default)]
pub struct TextBatch {
    /// The sequences.
    pub sequences: Vec<Sequence>,
    /// The reference's number of each.
    pub log_reference: Vec<f64>,
    /// The reference's numbers of the tokens of each, for a loss that takes tokens.
    pub token_reference: Vec<Vec<f64>>,
    /// What was stored of the tokens of each, if it was.
    pub stored: Vec<Arc<OfTokens>>,
    /// True if the reference's numbers came with the responses.
    pub recalled: bool,
    /// The sequence at each place: of the first (or only) and second response of each example; of
    /// groups and lists, of all members in order, in the first.
    pub slots: [Vec<u32>; 2],
    /// ln π_old at each place; empty where that is the policy's own.
    pub log_old: [Vec<f64>; 2],
    /// The reward at each place; in ranked lists, the advantage.
    pub reward: [Vec<f64>; 2],
    /// Input of a value network: sequences with distinct prompts, of which it sees the prompts.
    pub prompts: Vec<Sequence>,
    /// The prompt of each example, where there is a value network.
    pub prompt: Vec<u32>,
    /// True if each response is held against the mean of the batch's values in place of its own.
    pub mean_value: bool,
    /// Baselines of single responses or z₀ of rated ones, where no network gives them.
    pub held: Vec<f64>,
    /// 1 or 0 for rated responses.
    pub desirable: Vec<f64>,
    /// The sequences that are proposals beside pairs, those of all pairs in order.
    pub proposals: Vec<u32>,
    /// ln π_φ of each, and ln π′ of the policy that wrote it.
    pub proposal_laws: [Vec<f64>; 2],
    /// Sizes of groups and lists; numbers of proposals beside pairs.
    pub sizes: Vec<usize>,
    /// Margin of each pair for a reward model: by how much the preferred response is to score above the other.
    pub margin: Vec<f64>,
    /// Probability that the first of each pair is the better one.
    pub label: Vec<f64>,
    /// Weight of each example; they need not sum to 1.
    pub weight: Vec<f64>,
}

impl TextBatch {
    /// Adds proposals to the last pair, of which the first is that sequence.
    pub(super) fn propose(&mut self, first: u32, proposals: &[Response]) {
        if proposals.is_empty() {
            return;
        }
        self.sizes.push(proposals.len());
        for (index, Response { stored, .. }) in (first..).zip(proposals) {
            let stored = stored.as_ref();
            self.proposals.push(index);
            let [policy, proposal] = &mut self.proposal_laws;
            policy.push(stored.map_or(0.0, |Stored { reference, .. }| *reference));
            proposal.push(stored.map_or(0.0, |Stored { old, .. }| *old));
        }
    }

    /// The numbers a loss sees, given those of the networks.
    pub fn numbers(&self, kind: InputKind, policy: &[f64], baseline: Vec<f64>) -> Batch {
        let mut batch = Batch {
            baseline,
            desirable: self.desirable.clone(),
            margin: self.margin.clone(),
            label: self.label.clone(),
            sizes: self.sizes.clone(),
            weight: self.weight.clone(),
            proposals: Proposals {
                score: self.proposals.iter().map(|&s| policy[s as usize]).collect(),
                log_policy: self.proposal_laws[0].clone(),
                log_proposal: self.proposal_laws[1].clone(),
            },
            ..Batch::default()
        };
        for place in 0..kind.slots() {
            let pick = |of: &[f64]| self.slots[place].iter().map(|&s| of[s as usize]).collect();
            batch.log_policy[place] = pick(policy);
            batch.log_reference[place] = pick(&self.log_reference);
            batch.reward[place] = self.reward[place].clone();
            batch.log_old[place] = self.log_old[place].clone();
            // The mean of what weighs nothing is 0, and not 0/0.
            let tokens = |&s: &u32| match self.sequences[s as usize].weight() {
                0.0 => 1.0,
                weight => weight,
            };
            batch.tokens[place] = self.slots[place].iter().map(tokens).collect();
        }
        batch
    }

    /// The numbers a token by token loss sees, given those of the tokens of each sequence by the policy, the reference
    /// (or else what was stored) and a critic; tokens that weigh nothing are left out.
    pub fn token_numbers(
        &self,
        policy: &[Vec<f64>],
        reference: &[Vec<f64>],
        values: &[Vec<f64>],
    ) -> Batch {
        let mut batch = Batch {
            reward: self.reward.clone(),
            sizes: self.sizes.clone(),
            weight: self.weight.clone(),
            ..Batch::default()
        };
        for &s in &self.slots[0] {
            let s = s as usize;
            let counted = || self.sequences[s].counted();
            let kept = |of: &[f64]| -> Vec<f64> {
                let all = of.iter().zip(counted());
                all.filter(|(_, counts)| *counts).map(|(x, _)| *x).collect()
            };
            batch.log_policy[0].extend(kept(&policy[s]));
            let stored = self.stored.get(s);
            let given = reference.get(s).or(stored.map(|stored| &stored.reference));
            if let Some(reference) = given {
                batch.log_reference[0].extend(kept(reference));
            }
            if let Some(values) = values.get(s) {
                batch.baseline.extend(kept(values));
            }
            if let Some(stored) = stored {
                batch.log_old[0].extend(kept(&stored.old));
                batch.advantage.extend(kept(&stored.advantage));
                batch.old_value.extend(kept(&stored.old_value));
                batch.target.extend(kept(&stored.target));
            }
            batch
                .lengths
                .push(counted().filter(|counts| *counts).count());
        }
        batch
    }

    /// Tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(|s| s.tokens().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `a` the middle token is read and not trained on; its places are those of the tokens that count.
    #[test]
    fn tokens_that_weigh_nothing_are_left_out() {
        let a = Sequence::new(vec![1, 5, 6, 7], 1).unwrap();
        let a = a.weighted(vec![2.0, 0.0, 1.0]).unwrap();
        let b = Sequence::new(vec![1, 8, 9], 1).unwrap();
        let text = TextBatch {
            sequences: vec![a, b],
            // A sequence that stands at two places is there twice.
            slots: [vec![1, 0, 1], Vec::new()],
            ..TextBatch::default()
        };
        let policy = [vec![-1.0, -2.0, -3.0], vec![-4.0, -5.0]];
        let reference = [vec![-0.1, -0.2, -0.3], vec![-0.4, -0.5]];
        let batch = text.token_numbers(&policy, &reference, &[]);
        assert_eq!(batch.lengths, [2, 2, 2]);
        let want = [-4.0, -5.0, -1.0, -3.0, -4.0, -5.0];
        assert_eq!(batch.log_policy[0], want);
        assert_eq!(batch.log_reference[0], want.map(|x| x / 10.0));
        let alone = text.token_numbers(&policy, &[], &[]);
        assert!(alone.log_reference[0].is_empty());
    }
}
