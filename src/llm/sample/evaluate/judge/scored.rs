//! Reward models that judge.

use std::collections::HashMap;

use super::{Judge, Pair, Verdict};
use crate::error::Result;
use crate::llm::sample::reward::{Candidate, Scores, Weighted};
use crate::observer::Observer;

/// A reward model as a judge: the completion with the higher score wins. What it says does not depend
/// on the order, and every completion is scored once.
pub struct ByScore(Weighted);

impl ByScore {
    /// The judge of a reward model.
    pub fn new(scores: Scores) -> Self {
        Self(Weighted::new(vec![("model".into(), 1.0, Box::new(scores))]))
    }
}

impl Judge for ByScore {
    fn name(&self) -> String {
        "reward model".into()
    }

    fn verdicts(&mut self, pairs: &[Pair], observer: &dyn Observer) -> Result<Vec<Verdict>> {
        let (distinct, places) = distinct(pairs);
        let scores = self.0.scored(&distinct, observer)?.total;
        Ok((places.iter())
            .map(|&[a, b]| Verdict::greater(scores[a], scores[b]))
            .collect())
    }
}

/// The completions of pairs, each once, and where those of each pair are among them.
fn distinct<'a>(pairs: &[Pair<'a>]) -> (Vec<Candidate<'a>>, Vec<[usize; 2]>) {
    let mut places: HashMap<(usize, &str), usize> = HashMap::new();
    let mut distinct = Vec::new();
    let mut of_pairs = Vec::with_capacity(pairs.len());
    for pair in pairs {
        of_pairs.push([pair.a, pair.b].map(|completion| {
            *places.entry((pair.index, completion)).or_insert_with(|| {
                distinct.push(Candidate {
                    prompt: pair.prompt,
                    completion,
                    index: pair.index,
                    fields: pair.fields,
                });
                distinct.len() - 1
            })
        }));
    }
    (distinct, of_pairs)
}
