//! Completions of a step to the examples that an objective takes.

use std::sync::Arc;

use super::row::{Completion, Each, Row};
use crate::error::Result;
use crate::llm::text::example::{Beside, Example, OfTokens, Response, Stored};
use crate::llm::text::objective::TextObjective;
use crate::llm::train::enums::{Advantage, LengthWeight};
use crate::llm::train::settings::Settings;
use crate::loss::InputKind;

/// What becomes of completions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feed {
    /// Kind of examples that the objective takes.
    pub kind: InputKind,
    /// What is taken off rewards of single responses.
    pub advantage: Advantage,
    /// Weight of single responses by their length.
    pub length_weight: LengthWeight,
    /// Of objectives token by token: every completion is an example of its own, with advantages of its tokens, not
    /// one of a group.
    pub per_response: bool,
    /// Every completion above that reward, in place of the best one.
    pub above: Option<f64>,
    /// Most tokens of a completion.
    pub max_new_tokens: usize,
}

/// Added to a standard deviation that is divided by (TRL's).
const LEAST: f64 = 1e-4;

impl Feed {
    /// What is taken off rewards, and how lengths weigh, where nobody says it.
    pub fn defaults(objective: &TextObjective) -> (Advantage, LengthWeight) {
        match (objective.takes_advantages(), objective.has_critic()) {
            (true, true) => (Advantage::Reward, LengthWeight::Tokens),
            (true, false) => (Advantage::GroupNormalised, LengthWeight::Tokens),
            (false, _) => (Advantage::Reward, LengthWeight::Sum),
        }
    }

    /// That of an objective and of settings.
    pub fn new(settings: &Settings, objective: &TextObjective) -> Self {
        let (advantage, length_weight) = Self::defaults(objective);
        Self {
            kind: objective.kind(),
            advantage: settings.advantage.unwrap_or(advantage),
            length_weight: settings.length_weight.unwrap_or(length_weight),
            per_response: objective.takes_advantages(),
            above: settings.above,
            max_new_tokens: settings.max_new_tokens,
        }
    }

    /// The examples of a step, whose rows come with the tokens of their prompts.
    ///
    /// - labelled [pairs](Row::pairs), the preferred one first;
    /// - scored pairs: all completions of a prompt, which make as many as there are; with a demonstration, that and
    ///   each completion;
    /// - groups: all completions of a prompt, with the demonstration;
    /// - single responses: each, with its advantage as reward;
    /// - rated ones: each, desirable above the mean reward of the step;
    /// - token by token: groups, or each completion with the advantages of its tokens: a critic's, or its own for all;
    /// - lists (SFT): the best of each prompt, of several the first, or all above a reward.
    ///
    /// # Errors
    /// Completions that do not make such examples.
    pub fn examples(&self, step: &[(&[u32], &Row)]) -> Result<Vec<Example>> {
        let mut examples = Vec::new();
        let mut push = |responses: Vec<Response>, weight: f64| {
            let row = examples.len() as u64;
            let beside = Beside {
                weight,
                ..Beside::default()
            };
            examples.push(Example {
                row,
                responses,
                beside,
            });
        };
        let step_rewards = || step.iter().flat_map(|(_, row)| rewards_of(row));
        let [mean, deviation] = moments(step_rewards());
        let tokens = |c: &Completion| c.tokens.len() as f64;
        let lengths = step.iter().flat_map(|(_, row)| row.all());
        let [mean_length, _] = moments(lengths.map(tokens));
        for (prompt, row) in step {
            let response = |c: &Completion, reward: f64| -> Result<Response> {
                Ok(Response {
                    stored: Some(Stored {
                        old: c.old,
                        reference: c.reference.unwrap_or(0.0),
                        tokens: c
                            .each
                            .as_ref()
                            .map(|each| Arc::new(of_tokens(c, each, reward))),
                    }),
                    ..Response::new(Row::sequence(prompt, &c.tokens)?, reward)
                })
            };
            let scored = |c: &Completion| response(c, c.reward);
            match self.kind {
                InputKind::LabelledPairs => {
                    for (pair, &first) in row.pairs().into_iter().zip(&row.preferred) {
                        let first = usize::from(first.min(1));
                        push(vec![scored(pair[first])?, scored(pair[1 - first])?], 1.0);
                    }
                }
                InputKind::ScoredPairs if row.demonstration.is_some() => {
                    for [theirs, own] in row.pairs() {
                        push(vec![scored(theirs)?, scored(own)?], 1.0);
                    }
                }
                InputKind::ScoredPairs | InputKind::Groups => {
                    push(row.all().map(scored).collect::<Result<_>>()?, 1.0);
                }
                InputKind::Tokens if !self.per_response => {
                    push(row.all().map(scored).collect::<Result<_>>()?, 1.0);
                }
                InputKind::Singles | InputKind::Tokens => {
                    for (i, c) in row.all().enumerate() {
                        let reward = match self.advantage {
                            Advantage::BatchMean => c.reward - mean,
                            Advantage::BatchNormalised => (c.reward - mean) / (deviation + LEAST),
                            of_group => within(of_group, row, i),
                        };
                        let weight = match self.length_weight {
                            LengthWeight::Sum => 1.0,
                            LengthWeight::Response => 1.0 / tokens(c),
                            LengthWeight::Tokens => 1.0 / mean_length,
                            LengthWeight::Constant => 1.0 / self.max_new_tokens as f64,
                        };
                        push(vec![response(c, reward)?], weight);
                    }
                }
                InputKind::Rated => {
                    for c in row.all() {
                        let desirable = f64::from(c.reward > mean);
                        push(vec![response(c, desirable)?], 1.0);
                    }
                }
                InputKind::Lists => {
                    for c in self.kept(row) {
                        push(vec![scored(c)?], 1.0);
                    }
                }
            }
        }
        Ok(examples)
    }

    /// Examples that a prompt makes, and the responses of each, where none is left out: of so many completions, with a
    /// demonstration beside them or without.
    pub fn shape(&self, completions: usize, demonstration: bool) -> [usize; 2] {
        let all = completions.saturating_add(usize::from(demonstration));
        match self.kind {
            InputKind::LabelledPairs | InputKind::ScoredPairs if demonstration => [completions, 2],
            InputKind::LabelledPairs => [completions / 2, 2],
            InputKind::Tokens if self.per_response => [all, 1],
            InputKind::ScoredPairs | InputKind::Groups | InputKind::Tokens => [1, all],
            InputKind::Singles | InputKind::Rated => [all, 1],
            InputKind::Lists => [1, 1],
        }
    }

    /// The completions of a row that SFT learns from.
    pub fn kept<'a>(&self, row: &'a Row) -> Vec<&'a Completion> {
        if let Some(least) = self.above {
            return row.all().filter(|c| c.score > least).collect();
        }
        let better = |best: &'a Completion, c: &'a Completion| {
            if c.reward > best.reward { c } else { best }
        };
        row.all().reduce(better).into_iter().collect()
    }
}

/// Stored numbers of the tokens of a completion, with their advantages: a critic's, or `reward` for all.
fn of_tokens(c: &Completion, each: &Each, reward: f64) -> OfTokens {
    let [advantage, target] = match &c.estimated {
        Some(estimated) => estimated.clone(),
        None => [vec![reward; each.old.len()], Vec::new()],
    };
    OfTokens {
        old: each.old.clone(),
        reference: each.reference.clone(),
        advantage,
        old_value: each.value.clone(),
        target,
    }
}

/// The rewards of what was written to a prompt.
fn rewards_of(row: &Row) -> impl Iterator<Item = f64> {
    row.all().map(|c| c.reward)
}

/// The reward of one of a row's completions within its group.
fn within(advantage: Advantage, row: &Row, i: usize) -> f64 {
    let all: Vec<f64> = rewards_of(row).collect();
    let (score, count) = (all[i], all.len() as f64);
    let [mean, deviation] = moments(rewards_of(row));
    match advantage {
        Advantage::LeaveOneOut => {
            let others: f64 = rewards_of(row).sum::<f64>() - score;
            score - others / (count - 1.0)
        }
        Advantage::GroupMean => score - mean,
        Advantage::GroupNormalised => (score - mean) / (deviation + LEAST),
        Advantage::Reward | Advantage::BatchMean | Advantage::BatchNormalised => score,
    }
}

/// Mean, and the standard deviation with n − 1 (0 of one number).
pub fn moments(numbers: impl Iterator<Item = f64>) -> [f64; 2] {
    let all: Vec<f64> = numbers.collect();
    let count = all.len() as f64;
    let mean = all.iter().sum::<f64>() / count;
    let squares: f64 = all.iter().map(|x| (x - mean).powi(2)).sum();
    let deviation = if all.len() > 1 {
        (squares / (count - 1.0)).sqrt()
    } else {
        0.0
    };
    [mean, deviation]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scores: &[f64]) -> Row {
        let completions = (scores.iter().enumerate()).map(|(i, &score)| Completion {
            text: String::new(),
            tokens: vec![7; i + 1],
            ended: true,
            score,
            reward: score,
            old: -(i as f64),
            reference: Some(-1.0 - i as f64),
            ..Completion::default()
        });
        Row {
            index: 0,
            prompt: String::new(),
            completions: completions.collect(),
            demonstration: None,
            preferred: vec![1, 0],
        }
    }

    fn feed(kind: InputKind) -> Feed {
        Feed {
            kind,
            advantage: Advantage::Reward,
            length_weight: LengthWeight::Sum,
            per_response: false,
            above: None,
            max_new_tokens: 8,
        }
    }

    fn rewards(examples: &[Example]) -> Vec<Vec<f64>> {
        let of = |e: &Example| e.responses.iter().map(|r| r.reward).collect();
        examples.iter().map(of).collect()
    }

    #[test]
    fn each_kind_has_its_examples() {
        let rows = [row(&[1.0, 2.0, 5.0, 0.0]), row(&[0.0, 0.0, 3.0, 3.0])];
        let step: Vec<(&[u32], &Row)> = rows.iter().map(|row| (&[1, 2][..], row)).collect();
        let found = |kind| rewards(&feed(kind).examples(&step).unwrap());
        let pairs = vec![
            vec![2.0, 1.0],
            vec![5.0, 0.0],
            vec![0.0, 0.0],
            vec![3.0, 3.0],
        ];
        assert_eq!(found(InputKind::LabelledPairs), pairs);
        let groups = vec![vec![1.0, 2.0, 5.0, 0.0], vec![0.0, 0.0, 3.0, 3.0]];
        assert_eq!(found(InputKind::Groups), groups);
        assert_eq!(found(InputKind::ScoredPairs), groups);
        let singles: Vec<Vec<f64>> = groups.concat().into_iter().map(|r| vec![r]).collect();
        assert_eq!(found(InputKind::Singles), singles);
        // The mean is 14/8.
        let desirable = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0].map(|r| vec![r]);
        assert_eq!(found(InputKind::Rated), desirable);
        assert_eq!(found(InputKind::Lists), [[5.0], [3.0]]);
        let above = Feed {
            above: Some(1.0),
            ..feed(InputKind::Lists)
        };
        let kept = rewards(&above.examples(&step).unwrap());
        assert_eq!(kept, [[2.0], [5.0], [3.0], [3.0]]);
        assert_eq!(found(InputKind::Tokens), groups);
        // Numbers and tokens are those of the completion.
        let examples = feed(InputKind::LabelledPairs).examples(&step).unwrap();
        let preferred = &examples[0].responses[0];
        assert_eq!(preferred.sequence.tokens(), [1, 2, 7, 7]);
        let stored = preferred.stored.clone().unwrap();
        assert_eq!([stored.old, stored.reference], [-1.0, -2.0]);
    }

    #[test]
    fn a_demonstration_joins_and_makes_a_pair_with_each() {
        let theirs = Completion {
            tokens: vec![8],
            ..row(&[3.0]).completions[0].clone()
        };
        let row = Row {
            demonstration: Some(theirs),
            ..row(&[1.0, 5.0])
        };
        let step: Vec<(&[u32], &Row)> = vec![(&[1][..], &row)];
        let examples = |kind| feed(kind).examples(&step).unwrap();
        let found = |kind| rewards(&examples(kind));
        // It is first in a pair, and the second pair prefers it, the first not.
        assert_eq!(found(InputKind::LabelledPairs), [[1.0, 3.0], [3.0, 5.0]]);
        assert_eq!(found(InputKind::ScoredPairs), [[3.0, 1.0], [3.0, 5.0]]);
        assert_eq!(found(InputKind::Groups), [[3.0, 1.0, 5.0]]);
        assert_eq!(found(InputKind::Singles), [[3.0], [1.0], [5.0]]);
        assert_eq!(found(InputKind::Rated), [[0.0], [0.0], [1.0]]);
        assert_eq!(found(InputKind::Lists), [[5.0]]);
        let first = &examples(InputKind::ScoredPairs)[1].responses[0];
        assert_eq!(first.sequence.tokens(), [1, 8]);
        let feed = Feed {
            advantage: Advantage::LeaveOneOut,
            ..feed(InputKind::Singles)
        };
        let found = rewards(&feed.examples(&step).unwrap());
        assert_eq!(found, [[0.0], [-3.0], [3.0]]);
    }

    #[test]
    fn the_shape_of_a_step_is_that_of_its_examples() {
        for demonstration in [None, Some(row(&[3.0]).completions[0].clone())] {
            for kind in [
                InputKind::LabelledPairs,
                InputKind::ScoredPairs,
                InputKind::Groups,
                InputKind::Singles,
                InputKind::Rated,
                InputKind::Lists,
            ] {
                let row = Row {
                    demonstration: demonstration.clone(),
                    preferred: vec![0; 4],
                    ..row(&[1.0, 2.0, 5.0, 0.0])
                };
                let examples = feed(kind).examples(&[(&[1], &row)]).unwrap();
                let found = [examples.len(), examples[0].responses.len()];
                assert_eq!(found, feed(kind).shape(4, demonstration.is_some()));
            }
        }
    }

    #[test]
    fn advantages_by_their_definitions() {
        let rows = [row(&[1.0, 2.0, 6.0]), row(&[4.0, 4.0, 4.0])];
        let step: Vec<(&[u32], &Row)> = rows.iter().map(|row| (&[1][..], row)).collect();
        let found = |advantage| -> Vec<f64> {
            let feed = Feed {
                advantage,
                ..feed(InputKind::Singles)
            };
            rewards(&feed.examples(&step).unwrap()).concat()
        };
        let near = |a: Vec<f64>, b: [f64; 6]| {
            let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f64::max) < 1e-12, "{a:?} {b:?}");
        };
        near(
            found(Advantage::LeaveOneOut),
            [-3.0, -1.5, 4.5, 0.0, 0.0, 0.0],
        );
        near(
            found(Advantage::GroupMean),
            [-2.0, -1.0, 3.0, 0.0, 0.0, 0.0],
        );
        let sd = 7f64.sqrt() + 1e-4;
        near(
            found(Advantage::GroupNormalised),
            [-2.0 / sd, -1.0 / sd, 3.0 / sd, 0.0, 0.0, 0.0],
        );
        near(
            found(Advantage::BatchMean),
            [-2.5, -1.5, 2.5, 0.5, 0.5, 0.5],
        );
        let sd = (15.5f64 / 5.0).sqrt() + 1e-4;
        near(
            found(Advantage::BatchNormalised),
            [-2.5, -1.5, 2.5, 0.5, 0.5, 0.5].map(|a| a / sd),
        );
    }

    #[test]
    fn lengths_weigh_as_they_are_named() {
        let rows = [row(&[1.0, 2.0, 6.0])];
        let step: Vec<(&[u32], &Row)> = rows.iter().map(|row| (&[1][..], row)).collect();
        let found = |length_weight| -> Vec<f64> {
            let feed = Feed {
                length_weight,
                ..feed(InputKind::Singles)
            };
            let examples = feed.examples(&step).unwrap();
            examples.iter().map(|e| e.beside.weight).collect()
        };
        assert_eq!(found(LengthWeight::Sum), [1.0; 3]);
        assert_eq!(found(LengthWeight::Response), [1.0, 0.5, 1.0 / 3.0]);
        assert_eq!(found(LengthWeight::Tokens), [0.5; 3]);
        assert_eq!(found(LengthWeight::Constant), [0.125; 3]);
    }
}
