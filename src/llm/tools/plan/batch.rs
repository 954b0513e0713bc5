//! Batches by their lengths: what goes through networks at once.

use std::ops::Range;

use crate::llm::model::inference::cut;
use crate::llm::model::sequence::{self, Fed, Sequence};
use crate::llm::tensor::ops::Starts;
use crate::llm::text::example::Example;

/// A response's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// Tokens of prompt and completion together.
    pub tokens: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// True if its prompt is that of the response before it: where both are run at once, it is run once.
    pub shares: bool,
}

/// Sequences that lie end to end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Piece {
    /// Their lengths.
    pub responses: Vec<Response>,
}

impl Piece {
    /// Tokens of all of them.
    pub fn tokens(&self) -> usize {
        self.responses.iter().map(|r| r.tokens).sum()
    }

    /// How they lie, if so many tokens are fed of each.
    pub fn laid(&self, tokens: impl Fn(&Response) -> usize) -> Starts {
        let fed = self.responses.iter().map(|response| Fed {
            tokens: tokens(response),
            prompt: response.prompt,
            shares: response.shares,
        });
        sequence::lay(&fed.collect::<Vec<_>>()).0
    }

    /// Sequences of at most so many tokens together, at least one in each, as
    /// [`train::step`](crate::llm::train::step) cuts them.
    pub fn cut(&self, budget: usize) -> Vec<Self> {
        let pieces = cut(self.responses.iter().map(|r| r.tokens), budget);
        let piece = |some: Range<usize>| Self {
            responses: self.responses[some].to_vec(),
        };
        pieces.into_iter().map(piece).collect()
    }
}

/// The examples of a step, each by its responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepShape {
    /// The responses of each.
    pub examples: Vec<Vec<Response>>,
    /// True if the examples are coupled: the step is one part, whatever is run at once.
    pub coupled: bool,
}

impl StepShape {
    /// A batch of so many examples of so many responses to one prompt, all of those tokens.
    pub fn uniform(examples: usize, responses: usize, [tokens, prompt]: [usize; 2]) -> Self {
        let response = |i| Response {
            tokens,
            prompt,
            shares: i > 0,
        };
        Self {
            examples: vec![(0..responses).map(response).collect(); examples],
            coupled: false,
        }
    }

    /// The same with no response of more tokens: a prompt that is longer leaves one for a completion.
    pub fn cut(&self, most: usize) -> Self {
        let cut = |response: &Response| {
            let tokens = response.tokens.min(most);
            let prompt = response.prompt.min(tokens.saturating_sub(1));
            Response {
                tokens,
                prompt,
                ..*response
            }
        };
        let each = |example: &Vec<Response>| example.iter().map(cut).collect();
        Self {
            examples: self.examples.iter().map(each).collect(),
            coupled: self.coupled,
        }
    }

    /// The lengths of examples.
    pub fn of<'e>(examples: &'e [Example]) -> Self {
        let mut before: Option<&Sequence> = None;
        let mut lengths = |example: &'e Example| {
            (example.responses.iter())
                .map(|response| {
                    let sequence = &response.sequence;
                    let before = before.replace(sequence);
                    Response {
                        tokens: sequence.tokens().len(),
                        prompt: sequence.prompt().len(),
                        shares: before.is_some_and(|before| before.prompt() == sequence.prompt()),
                    }
                })
                .collect()
        };
        Self {
            examples: examples.iter().map(&mut lengths).collect(),
            coupled: false,
        }
    }

    /// The same of examples that are coupled, or are not.
    #[must_use]
    pub fn coupled(self, coupled: bool) -> Self {
        Self { coupled, ..self }
    }

    /// Whole examples of at most so many tokens together, at least one in each, as a run's plan
    /// cuts a step; all of them where they are coupled.
    pub fn parts(&self, budget: usize) -> Vec<Piece> {
        let budget = if self.coupled { usize::MAX } else { budget };
        let tokens = |example: &Vec<Response>| example.iter().map(|r| r.tokens).sum();
        let part = |some: Range<usize>| Piece {
            responses: self.examples[some].concat(),
        };
        let parts = cut(self.examples.iter().map(tokens), budget);
        parts.into_iter().map(part).collect()
    }
}

/// The heaviest steps: those that no other is larger than in everything that memory depends on: prompts too if a
/// network reads them alone. Each is reduced to the parts that matter, taken to be as large: the first; the second,
/// which finds a gradient; and the third, which in bf16 finds it in f32.
pub fn heaviest(steps: &[StepShape], budget: usize, prompts_count: bool) -> Vec<Vec<Piece>> {
    let mut parts: Vec<(usize, Piece)> = Vec::new();
    for step in steps {
        let cut = step.parts(budget);
        let count = cut.len().min(3);
        parts.extend(cut.into_iter().map(|part| (count, part)));
    }
    let size = |(count, piece): &(usize, Piece)| {
        let of = |f: fn(&Response) -> usize| piece.responses.iter().map(f);
        let prompts: usize = of(|r| r.prompt).sum();
        let run = piece.laid(|r| r.tokens).tokens();
        let longest = of(|r| r.tokens).max().unwrap_or(0);
        let pieces = piece.cut(budget).len();
        let alone = usize::from(pieces == 1);
        [
            piece.tokens(),
            run,
            piece.tokens() - prompts,
            if prompts_count { prompts } else { 0 },
            longest,
            alone,
            *count,
        ]
    };
    let sizes: Vec<_> = parts.iter().map(size).collect();
    let mut chosen: Vec<usize> = Vec::new();
    let below = |a: &[usize; 7], b: &[usize; 7]| a.iter().zip(b).all(|(a, b)| a <= b);
    for (i, size) in sizes.iter().enumerate() {
        if chosen.iter().any(|&c| below(size, &sizes[c])) {
            continue;
        }
        chosen.retain(|&c| !below(&sizes[c], size));
        chosen.push(i);
    }
    (chosen.into_iter())
        .map(|i| {
            let (count, piece) = &parts[i];
            vec![piece.clone(); *count]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_cut_as_they_are_run() {
        let step = StepShape::uniform(5, 2, [10, 3]);
        let sizes = |budget| -> Vec<usize> {
            let parts = step.parts(budget);
            parts.iter().map(|p| p.responses.len()).collect()
        };
        assert_eq!(sizes(100), [10]);
        assert_eq!(sizes(99), [8, 2]);
        assert_eq!(sizes(1), [2; 5]);
        let cut = step.parts(1)[0].cut(19);
        assert_eq!(cut.len(), 2);
        let coupled = step.coupled(true).parts(1);
        assert_eq!((coupled.len(), coupled[0].cut(19).len()), (1, 10));
    }

    #[test]
    fn of_many_steps_the_heaviest_count() {
        let step = |tokens, prompt| StepShape::uniform(2, 1, [tokens, prompt]);
        let steps = [
            step(10, 2),
            step(20, 15),
            step(20, 2),
            step(19, 2),
            step(20, 2),
        ];
        let heavy = heaviest(&steps, 1000, true);
        let of = |r: Response| [r.tokens, r.prompt];
        let found: Vec<_> = heavy
            .iter()
            .map(|parts| of(parts[0].responses[0]))
            .collect();
        assert_eq!(found, [[20, 15], [20, 2]]);
        assert!(heavy.iter().all(|parts| parts.len() == 1));
        assert!(
            heaviest(&steps, 20, false)
                .iter()
                .all(|parts| parts.len() == 2)
        );
        let four = [StepShape::uniform(4, 1, [20, 2])];
        assert_eq!(heaviest(&four, 20, false)[0].len(), 3);
        // The same tokens are run, but those of one have four times as many keys.
        let [few, many] =
            [[1, 4, 500, 100], [1, 16, 500, 400]].map(|[examples, responses, tokens, prompt]| {
                StepShape::uniform(examples, responses, [tokens, prompt])
            });
        let few = StepShape {
            examples: few
                .examples
                .concat()
                .into_iter()
                .map(|r| vec![Response { shares: false, ..r }])
                .collect(),
            ..few
        };
        let run = |step: &StepShape| step.parts(usize::MAX)[0].laid(|r| r.tokens).tokens();
        assert_eq!([run(&few), run(&many)], [2000; 2]);
        assert_eq!(heaviest(&[few, many], 10_000, false)[0][0].tokens(), 8000);
    }
}
