//! The examples of a prompt, each with its probability.

use super::{Batch, CHUNK, Feed};
use crate::backend::nd::sigmoid;
use crate::bandit::evidence::{Comparisons, PromptEvidence, Threshold, pair_weight};
use crate::bandit::problem::Prompt;
use crate::error::Result;
use crate::loss::{Column, InputKind};

/// The linear advantage of the response of rank `j` among `len`, the worst having rank 1 (COPR,
/// eq. 16): `(2j − J − 1)/J`.
///
/// They run from `−(J−1)/J` to `(J−1)/J` in steps of `2/J`, and their plain mean over Y is zero; the
/// mean under a policy is not. A single response has 0.
pub fn linear_advantage(j: usize, len: usize) -> f64 {
    (2.0 * j as f64 - len as f64 - 1.0) / len as f64
}

/// The examples of one prompt.
pub(super) struct Rows<'a> {
    pub prompt: &'a Prompt,
    pub evidence: &'a PromptEvidence,
    pub feed: &'a Feed,
    pub log_policy: &'a [f64],
    pub held: f64,
    pub threshold: Threshold,
    /// ln of the mean behaviour law, where the loss reads it.
    pub log_old: Vec<f64>,
}

/// A batch being filled: its numbers, and the arms behind each slot.
struct Filling<'a, V> {
    rows: &'a Rows<'a>,
    batch: Batch,
    arms: [Vec<u32>; 2],
    visit: V,
}

impl<V: FnMut(&Batch, &[Vec<u32>; 2]) -> Result<()>> Filling<'_, V> {
    fn response(&mut self, slot: usize, arm: u32, reward: f64) {
        let a = arm as usize;
        let reads = |column| self.rows.feed.columns.has(column);
        self.batch.log_policy[slot].push(self.rows.log_policy[a]);
        if reads(Column::LogReference) {
            self.batch.log_reference[slot].push(self.rows.prompt.log_reference[a]);
        }
        if reads(Column::Reward) {
            self.batch.reward[slot].push(reward);
        }
        if reads(Column::LogOld) {
            self.batch.log_old[slot].push(self.rows.log_old[a]);
        }
        self.arms[slot].push(arm);
    }

    fn example(&mut self, weight: f64) -> Result<()> {
        self.batch.weight.push(self.rows.evidence.mass * weight);
        if self.batch.len() == CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            (self.visit)(&self.batch, &self.arms)?;
            self.batch.clear();
            self.arms.iter_mut().for_each(Vec::clear);
        }
        Ok(())
    }

    fn single(&mut self, a: u32, reward: f64, weight: f64) -> Result<()> {
        self.response(0, a, reward);
        self.batch.baseline.push(self.rows.held);
        let desirable = f64::from(u8::from(self.rows.threshold.exceeded_by(reward)));
        self.batch.desirable.push(desirable);
        self.example(weight)
    }

    fn pair(&mut self, a: u32, b: u32, weight: f64) -> Result<()> {
        if weight == 0.0 || (a == b && !self.rows.feed.self_pairs) {
            return Ok(());
        }
        let reward = &self.rows.evidence.reward;
        let rewards = [reward[a as usize], reward[b as usize]];
        self.rewarded(a, b, rewards, weight)
    }

    fn rewarded(&mut self, a: u32, b: u32, rewards: [f64; 2], weight: f64) -> Result<()> {
        let [first, second] = rewards;
        self.response(0, a, first);
        if self.rows.feed.inputs.is_groups() {
            self.response(0, b, second);
            self.batch.sizes.push(2);
        } else {
            self.response(1, b, second);
        }
        self.example(weight)
    }

    fn list(&mut self, arms: &[u32], weight: f64) -> Result<()> {
        for (i, &arm) in arms.iter().enumerate() {
            self.response(0, arm, linear_advantage(i + 1, arms.len()));
        }
        self.batch.sizes.push(arms.len());
        self.example(weight)
    }
}

impl Rows<'_> {
    /// Feeds every example with its probability, in batches of at most [`CHUNK`]; `visit` gets the
    /// batch and the arms behind each slot.
    pub(super) fn stream(
        &self,
        visit: impl FnMut(&Batch, &[Vec<u32>; 2]) -> Result<()>,
    ) -> Result<()> {
        let mut fill = Filling {
            rows: self,
            batch: Batch::default(),
            arms: [Vec::new(), Vec::new()],
            visit,
        };
        match self.feed.inputs {
            InputKind::Singles | InputKind::Rated => {
                let both = self.feed.inputs == InputKind::Singles && self.feed.value.is_none();
                let mass = if both { 2.0 } else { 1.0 };
                for (a, reward, part) in self.evidence.shown() {
                    fill.single(a, reward, mass * part)?;
                }
            }
            InputKind::Lists => {
                for (list, part) in &self.evidence.lists {
                    fill.list(list, *part)?;
                }
            }
            InputKind::Groups | InputKind::Tokens | InputKind::ScoredPairs => {
                match self.evidence.compared() {
                    Comparisons::Product { first, second } => {
                        pairs(first, second, |a, b, w| fill.pair(a, b, w))?;
                    }
                    Comparisons::Listed { edges, .. } => match &self.evidence.differences {
                        None => {
                            for e in edges {
                                fill.pair(e.a, e.b, e.weight())?;
                            }
                        }
                        // These losses see rewards by their differences, and linearly but for a
                        // constant: an edge's mean stands for its examples.
                        Some(differences) => {
                            for (e, &difference) in edges.iter().zip(differences) {
                                fill.rewarded(e.a, e.b, [difference, 0.0], e.weight())?;
                            }
                        }
                    },
                }
            }
            InputKind::LabelledPairs => {
                let mut both = |a: u32, b: u32, wins: f64, losses: f64| {
                    fill.pair(a, b, wins)?;
                    fill.pair(b, a, losses)
                };
                match self.evidence.compared() {
                    Comparisons::Product { first, second } => pairs(first, second, |a, b, w| {
                        let gap =
                            self.evidence.reward[a as usize] - self.evidence.reward[b as usize];
                        both(a, b, w * sigmoid(gap), w * sigmoid(-gap))
                    })?,
                    Comparisons::Listed { edges, .. } => {
                        for e in edges {
                            both(e.a, e.b, e.wins, e.losses)?;
                        }
                    }
                }
            }
        }
        fill.flush()
    }
}

/// Every unordered pair of two product laws, once.
fn pairs(
    first: &[f64],
    second: &[f64],
    mut push: impl FnMut(u32, u32, f64) -> Result<()>,
) -> Result<()> {
    for a in 0..first.len() {
        for b in a..first.len() {
            push(a as u32, b as u32, pair_weight(first, second, a, b))?;
        }
    }
    Ok(())
}
