//! Examples over token sequences.

use crate::bandit::population::Batch;
use crate::llm::model::sequence::Sequence;
use crate::loss::InputKind;

/// Weighted examples over distinct sequences. An example names its sequences by index, so that one
/// that stands in many examples is run once.
#[derive(Debug, Clone, Default)]
pub struct TextBatch {
    /// The sequences.
    pub sequences: Vec<Sequence>,
    /// The reference's number of each.
    pub log_reference: Vec<f64>,
    /// The sequence at each place: of the first (or only) and second response of each example; of
    /// groups and lists, of all members in order, in the first.
    pub slots: [Vec<u32>; 2],
    /// The reward at each place; in ranked lists, the advantage.
    pub reward: [Vec<f64>; 2],
    /// What a value network reads: sequences with distinct prompts, of which it sees the prompts.
    pub prompts: Vec<Sequence>,
    /// The prompt of each example, where there is a value network.
    pub prompt: Vec<u32>,
    /// Baselines of single responses or z₀ of rated ones, where no network gives them.
    pub held: Vec<f64>,
    /// 1 or 0 for rated responses.
    pub desirable: Vec<f64>,
    /// Sizes of groups and lists.
    pub sizes: Vec<usize>,
    /// Of pairs for a reward model, by how much the preferred response is to score above the other. A
    /// score has no reference: the loss finds it in the place of the preferred response's. Empty where
    /// there is none.
    pub margin: Vec<f64>,
    /// Weight of each example; they need not sum to 1.
    pub weight: Vec<f64>,
}

impl TextBatch {
    /// The numbers a loss sees, given those of the networks.
    pub fn numbers(&self, kind: InputKind, policy: &[f64], baseline: Vec<f64>) -> Batch {
        let places = match kind {
            InputKind::ScoredPairs | InputKind::LabelledPairs => 2,
            _ => 1,
        };
        let mut batch = Batch {
            baseline,
            desirable: self.desirable.clone(),
            sizes: self.sizes.clone(),
            weight: self.weight.clone(),
            ..Batch::default()
        };
        for place in 0..places {
            let pick = |of: &[f64]| self.slots[place].iter().map(|&s| of[s as usize]).collect();
            batch.log_policy[place] = pick(policy);
            batch.log_reference[place] = pick(&self.log_reference);
            batch.reward[place] = self.reward[place].clone();
        }
        for (held, &margin) in batch.log_reference[0].iter_mut().zip(&self.margin) {
            if margin != 0.0 {
                *held += margin;
            }
        }
        batch
    }

    /// Tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(|s| s.tokens().len()).sum()
    }

    /// Parts of consecutive examples whose sequences have at most `budget` tokens; an example
    /// beyond it is a part of its own. A sequence of examples in several parts is in each.
    pub fn split(&self, kind: InputKind, budget: usize) -> Vec<Self> {
        if self.tokens() <= budget {
            return vec![self.clone()];
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut member = 0;
        for example in 0..self.weight.len() {
            let members = match kind {
                InputKind::Groups | InputKind::Lists => self.sizes[example],
                _ => 1,
            };
            let places = member..member + members;
            member = places.end;
            let tokens = self.tokens_at(places.clone());
            match parts.last_mut() {
                Some(part) if part.tokens + tokens <= budget => {
                    part.tokens += tokens;
                    part.examples.end = example + 1;
                    part.places.end = places.end;
                }
                _ => parts.push(Part {
                    tokens,
                    examples: example..example + 1,
                    places,
                }),
            }
        }
        parts.into_iter().map(|part| self.part(&part)).collect()
    }

    fn tokens_at(&self, places: std::ops::Range<usize>) -> usize {
        let of = |slots: &Vec<u32>| -> usize {
            (slots.get(places.clone()).unwrap_or_default().iter())
                .map(|&s| self.sequences[s as usize].tokens().len())
                .sum()
        };
        self.slots.iter().map(of).sum()
    }

    fn part(&self, part: &Part) -> Self {
        fn cut<T: Clone>(list: &[T], range: &std::ops::Range<usize>) -> Vec<T> {
            list.get(range.clone()).unwrap_or_default().to_vec()
        }
        let (examples, places) = (&part.examples, &part.places);
        let mut slots = [cut(&self.slots[0], places), cut(&self.slots[1], places)];
        let mut prompt = cut(&self.prompt, examples);
        let used = renumber(slots.iter_mut().flatten(), self.sequences.len());
        let prompts = renumber(prompt.iter_mut(), self.prompts.len());
        Self {
            sequences: (used.iter()).map(|&s| self.sequences[s].clone()).collect(),
            log_reference: (used.iter())
                .filter_map(|&s| self.log_reference.get(s).copied())
                .collect(),
            slots,
            reward: [cut(&self.reward[0], places), cut(&self.reward[1], places)],
            prompts: prompts.iter().map(|&p| self.prompts[p].clone()).collect(),
            prompt,
            held: cut(&self.held, examples),
            desirable: cut(&self.desirable, examples),
            sizes: cut(&self.sizes, examples),
            margin: cut(&self.margin, examples),
            weight: cut(&self.weight, examples),
        }
    }
}

struct Part {
    tokens: usize,
    examples: std::ops::Range<usize>,
    places: std::ops::Range<usize>,
}

/// Renumbers indices in the order of their first use; returns the old ones.
fn renumber<'a>(indices: impl Iterator<Item = &'a mut u32>, count: usize) -> Vec<usize> {
    let mut new = vec![None; count];
    let mut used = Vec::new();
    for index in indices {
        let old = *index as usize;
        *index = *new[old].get_or_insert_with(|| {
            used.push(old);
            used.len() as u32 - 1
        });
    }
    used
}
