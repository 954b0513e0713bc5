//! Plain numbers, the inputs they make on any backend, and a loss run on them.

use std::borrow::Cow;
use std::rc::Rc;

use super::{Column, Columns, Group, InputKind, Inputs, Pair, Rated, Response, Single, Tokens};
use crate::backend::nd::{Tape, Var};
use crate::backend::{Backend, Segments};
use crate::error::Result;

/// Plain numbers of a batch: one or two responses per example, or a group of them.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The trained numbers of the first (or only) and second response of each example; of groups
    /// and lists, of all their responses in order, in the first; of tokens, of all their tokens.
    pub log_policy: [Vec<f64>; 2],
    /// ln π_ref.
    pub log_reference: [Vec<f64>; 2],
    /// ln π_old of the policy that wrote the responses; empty where that is the trained one.
    pub log_old: [Vec<f64>; 2],
    /// Rewards, one per response; in ranked lists, advantages.
    pub reward: [Vec<f64>; 2],
    /// Tokens of each response; empty where each has one.
    pub tokens: [Vec<f64>; 2],
    /// Baselines or values of single responses, z₀ of rated ones, V at each token, e of the prompts of pairs.
    pub baseline: Vec<f64>,
    /// Proposals beside pairs; there are as many to each as `sizes` say.
    pub proposals: Proposals,
    /// Advantage of each token.
    pub advantage: Vec<f64>,
    /// V at each token as it was when the responses were written.
    pub old_value: Vec<f64>,
    /// What V at each token is to come to.
    pub target: Vec<f64>,
    /// 1 or 0 for rated responses, or a probability.
    pub desirable: Vec<f64>,
    /// Probability that the first of a pair is the better one; empty where all are 1.
    pub label: Vec<f64>,
    /// Margin that a pair's scores are to differ by; empty where all are 0.
    pub margin: Vec<f64>,
    /// Tokens of each response of token by token groups, which say where it ends; empty where each has one.
    pub lengths: Vec<usize>,
    /// Sizes of groups and lists; numbers of proposals beside pairs.
    pub sizes: Vec<usize>,
    /// Weight of each example in the sum; they need not sum to 1.
    pub weight: Vec<f64>,
}

/// Numbers of proposals, those of all pairs in order.
#[derive(Debug, Clone, Default)]
pub struct Proposals {
    /// The trained numbers.
    pub score: Vec<f64>,
    /// ln π_φ(y|x), of the policy that the expectation is under.
    pub log_policy: Vec<f64>,
    /// ln π′(y|x), of the policy that wrote them.
    pub log_proposal: Vec<f64>,
}

impl Proposals {
    fn numbers(&mut self) -> [&mut Vec<f64>; 3] {
        [
            &mut self.score,
            &mut self.log_policy,
            &mut self.log_proposal,
        ]
    }
}

impl Batch {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.weight.len()
    }

    /// True if it has no example.
    pub fn is_empty(&self) -> bool {
        self.weight.is_empty()
    }

    /// The loss's inputs on any backend, and the leaves whose gradients are wanted: one array per
    /// slot, and after it the baseline, value, e or z₀ where there is one, and then the scores of proposals. Of the
    /// columns beside them those in `columns` are made, and no others.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn inputs<X: Backend>(
        &self,
        kind: InputKind,
        columns: Columns,
        mut leaf: impl FnMut(&[f64]) -> Result<X>,
        mut constant: impl FnMut(&[f64]) -> Result<X>,
    ) -> Result<(Inputs<X>, Vec<X>)> {
        let mut leaves = Vec::new();
        let mut leaf = |numbers: &[f64]| -> Result<X> {
            let array = leaf(numbers)?;
            leaves.push(array.clone());
            Ok(array)
        };
        let inputs = match kind {
            InputKind::ScoredPairs | InputKind::LabelledPairs => {
                let first = self.response(kind, 0, columns, &mut leaf, &mut constant)?;
                let second = self.response(kind, 1, columns, &mut leaf, &mut constant)?;
                let mut pair = Pair::new(first, second);
                for column in [Column::Label, Column::Margin] {
                    if columns.has(column) {
                        pair = pair.with(column, constant(&self.column(column, 0))?);
                    }
                }
                // What nobody gave is not there, as below.
                if columns.has(Column::Expected) && !self.baseline.is_empty() {
                    pair = pair.with(Column::Expected, leaf(&self.baseline)?);
                }
                let of = &self.proposals;
                if columns.has(Column::Proposals) && !of.score.is_empty() {
                    let responses = Response::new(leaf(&of.score)?)
                        .with(Column::LogReference, constant(&of.log_policy)?)
                        .with(Column::LogOld, constant(&of.log_proposal)?);
                    let groups = Rc::new(Segments::new(&self.sizes)?);
                    pair = pair.beside(Group { responses, groups });
                }
                Inputs::Pair(pair)
            }
            InputKind::Singles => Inputs::Single(Single {
                response: self.response(kind, 0, columns, &mut leaf, &mut constant)?,
                baseline: leaf(&self.baseline)?,
            }),
            InputKind::Rated => Inputs::Rated(Rated {
                response: self.response(kind, 0, columns, &mut leaf, &mut constant)?,
                anchor: leaf(&self.baseline)?,
                desirable: constant(&self.desirable)?,
            }),
            InputKind::Groups | InputKind::Lists => Inputs::Group(Group {
                responses: self.response(kind, 0, columns, &mut leaf, &mut constant)?,
                groups: Rc::new(Segments::new(&self.sizes)?),
            }),
            InputKind::Tokens => {
                let tokens = self.response(kind, 0, columns, &mut leaf, &mut constant)?;
                let responses = Rc::new(Segments::new(&self.lengths())?);
                let groups = Rc::new(Segments::new(&self.sizes)?);
                let mut tokens = Tokens::new(tokens, responses, groups);
                for column in Tokens::<X>::COLUMNS {
                    let numbers = self.column(column, 0);
                    // What nobody gave is not there; V is a leaf like the log-probabilities.
                    if !columns.has(column) || numbers.is_empty() {
                        continue;
                    }
                    let array = match column {
                        Column::Value => leaf(&numbers)?,
                        _ => constant(&numbers)?,
                    };
                    tokens = tokens.with(column, array);
                }
                Inputs::Tokens(tokens)
            }
        };
        Ok((inputs, leaves))
    }

    /// A slot's response: of tokens without what responses have.
    fn response<X: Backend>(
        &self,
        kind: InputKind,
        slot: usize,
        columns: Columns,
        leaf: &mut dyn FnMut(&[f64]) -> Result<X>,
        constant: &mut dyn FnMut(&[f64]) -> Result<X>,
    ) -> Result<Response<X>> {
        let mut response = Response::new(leaf(&self.log_policy[slot])?);
        let has: &[Column] = match kind {
            InputKind::Tokens => &[Column::LogReference, Column::LogOld],
            _ => &[
                Column::LogReference,
                Column::LogOld,
                Column::Reward,
                Column::Tokens,
            ],
        };
        for &column in has.iter().filter(|&&column| columns.has(column)) {
            response = response.with(column, constant(&self.column(column, slot))?);
        }
        Ok(response)
    }

    /// Numbers of a column: as they are, or where none are given what that stands for.
    fn column(&self, column: Column, slot: usize) -> Cow<'_, [f64]> {
        fn or(given: &[f64], otherwise: f64, len: usize) -> Cow<'_, [f64]> {
            if given.is_empty() {
                Cow::Owned(vec![otherwise; len])
            } else {
                Cow::Borrowed(given)
            }
        }
        let len = self.log_policy[slot].len();
        match column {
            Column::LogReference => Cow::Borrowed(&self.log_reference[slot]),
            Column::LogOld if self.log_old[slot].is_empty() => {
                Cow::Borrowed(&self.log_policy[slot])
            }
            Column::LogOld => Cow::Borrowed(&self.log_old[slot]),
            Column::Reward => Cow::Borrowed(&self.reward[slot]),
            Column::Tokens => or(&self.tokens[slot], 1.0, len),
            Column::Label => or(&self.label, 1.0, len),
            Column::Margin => or(&self.margin, 0.0, len),
            Column::Advantage => Cow::Borrowed(&self.advantage),
            Column::Value => Cow::Borrowed(&self.baseline),
            Column::OldValue => Cow::Borrowed(&self.old_value),
            Column::Return => Cow::Borrowed(&self.target),
            Column::Expected => Cow::Borrowed(&self.baseline),
            Column::Proposals => Cow::Borrowed(&self.proposals.score),
        }
    }

    /// Tokens of each response of token by token groups.
    fn lengths(&self) -> Cow<'_, [usize]> {
        if self.lengths.is_empty() {
            Cow::Owned(vec![1; self.log_policy[0].len()])
        } else {
            Cow::Borrowed(&self.lengths)
        }
    }

    /// The first example alone.
    pub(super) fn first(&self, kind: InputKind) -> Self {
        let mut batch = self.clone();
        let responses = if kind.is_ragged() { self.sizes[0] } else { 1 };
        let tokens = (self.lengths.iter().take(responses).sum::<usize>()).max(responses);
        for slot in 0..2 {
            for of_tokens in [
                &mut batch.log_policy[slot],
                &mut batch.log_reference[slot],
                &mut batch.log_old[slot],
            ] {
                of_tokens.truncate(tokens);
            }
            batch.reward[slot].truncate(responses);
            batch.tokens[slot].truncate(responses);
        }
        for of_tokens in [
            &mut batch.advantage,
            &mut batch.old_value,
            &mut batch.target,
        ] {
            of_tokens.truncate(tokens);
        }
        batch.baseline.truncate(match kind {
            InputKind::Tokens => tokens,
            _ => 1,
        });
        for of_examples in [
            &mut batch.desirable,
            &mut batch.label,
            &mut batch.margin,
            &mut batch.weight,
        ] {
            of_examples.truncate(1);
        }
        let proposals = batch.sizes.first().copied().unwrap_or_default();
        (batch.proposals.numbers().into_iter()).for_each(|of| of.truncate(proposals));
        batch.lengths.truncate(responses);
        batch.sizes.truncate(1);
        batch
    }

    fn numbers(&mut self) -> [&mut Vec<f64>; 21] {
        let Self {
            log_policy: [a, b],
            log_reference: [c, d],
            log_old: [e, f],
            reward: [g, h],
            tokens: [i, j],
            baseline,
            advantage,
            old_value,
            target,
            desirable,
            label,
            margin,
            weight,
            proposals,
            lengths: _,
            sizes: _,
        } = self;
        let [k, l, m] = proposals.numbers();
        [
            a, b, c, d, e, f, g, h, i, j, k, l, m, baseline, advantage, old_value, target,
            desirable, label, margin, weight,
        ]
    }

    /// Adds the examples of another batch of the same kind after its own.
    pub fn append(&mut self, mut other: Self) {
        for (own, others) in self.numbers().into_iter().zip(other.numbers()) {
            own.append(others);
        }
        self.lengths.append(&mut other.lengths);
        self.sizes.append(&mut other.sizes);
    }

    pub(crate) fn clear(&mut self) {
        self.numbers().into_iter().for_each(Vec::clear);
        self.lengths.clear();
        self.sizes.clear();
    }
}

/// A weighted loss of a batch and its gradient with respect to each leaf of [`Batch::inputs`]: the log-probabilities or
/// scores and, where there is one, the number held against them.
#[derive(Debug, Clone)]
pub struct Cotangents {
    /// Weighted sum of the per-example losses.
    pub value: f64,
    /// Gradients, in the order of the leaves of [`Batch::inputs`].
    pub gradient: Vec<Vec<f64>>,
}

/// Runs a loss written on [`nd`](crate::backend::nd) over a batch.
///
/// # Errors
/// Those of the loss.
pub fn on_tape(
    kind: InputKind,
    batch: &Batch,
    loss: impl Fn(&Inputs<Var>) -> Result<Var>,
) -> Result<Cotangents> {
    run(kind, Columns::ALL, batch, loss)
}

pub(super) fn run(
    kind: InputKind,
    columns: Columns,
    batch: &Batch,
    loss: impl Fn(&Inputs<Var>) -> Result<Var>,
) -> Result<Cotangents> {
    let tape = Tape::new();
    let (inputs, leaves) = batch.inputs(
        kind,
        columns,
        |v| Ok(tape.leaf(v.to_vec())),
        |v| Ok(tape.constant(v.to_vec())),
    )?;
    let each = loss(&inputs)?;
    let leaves: Vec<&Var> = leaves.iter().collect();
    let gradient = tape.backward(&each, &batch.weight, &leaves)?;
    let value = each.with(|v| v.iter().zip(&batch.weight).map(|(v, w)| v * w).sum());
    Ok(Cotangents {
        value,
        gradient: gradient.into_iter().map(|g| g.to_vec()).collect(),
    })
}

/// Two examples of a kind, of numbers in general position.
pub(super) fn probe(kind: InputKind) -> Batch {
    let mut batch = Batch::default();
    // Roots: sums and differences of few of them do not cancel.
    let mut number = (2..).map(|i| (f64::from(i).sqrt() * 12.9898).fract());
    let mut next = || number.next().unwrap_or(0.5);
    for size in [2, 3] {
        let responses = if kind.is_ragged() { size } else { 1 };
        for slot in 0..kind.slots() {
            for _ in 0..responses {
                batch.log_policy[slot].push(-0.1 - 2.0 * next());
                batch.log_reference[slot].push(-0.1 - 2.0 * next());
                batch.log_old[slot].push(-0.1 - 2.0 * next());
                batch.reward[slot].push(2.0 * next() - 1.0);
                batch.tokens[slot].push(1.0 + (4.0 * next()).floor());
            }
        }
        batch.baseline.push(next());
        batch.desirable.push(f64::from(u8::from(size == 2)));
        batch.label.push(0.6 + 0.3 * next());
        batch.margin.push(next());
        batch.sizes.push(size);
        batch.weight.push(0.2 + next());
    }
    if kind == InputKind::LabelledPairs {
        for _ in 0..batch.sizes.iter().sum() {
            batch.proposals.score.push(2.0 * next() - 1.0);
            batch.proposals.log_policy.push(-0.1 - 2.0 * next());
            batch.proposals.log_proposal.push(-0.1 - 2.0 * next());
        }
    }
    if kind == InputKind::Tokens {
        // Of each token, in place of each example.
        let tokens = batch.log_policy[0].len();
        let mut each = || (0..tokens).map(|_| 2.0 * next() - 1.0).collect();
        let [value, advantage, old_value, target] = [each(), each(), each(), each()];
        batch.baseline = value;
        batch.advantage = advantage;
        batch.old_value = old_value;
        batch.target = target;
    }
    batch
}
