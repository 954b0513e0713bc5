//! A batch's loss and its gradient: numbers first, cotangents second.
//!
//! Networks turn sequences into numbers; a loss sees numbers only, in f64 on the host; its
//! cotangents go back through the networks. What does not fit into memory at once is run twice:
//! once for the numbers, and again in micro-batches for the gradients. No loss can tell.

mod sink;

pub use sink::Sink;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::llm::model::inference::{Numbers, numbers, parts, read, weights};
use crate::llm::model::network::{Network, Output, Reduction, ValueRows, Values};
use crate::llm::model::sequence::Sequence;
use crate::llm::tensor::tape::{LeafGradients, Node, Tape};
use crate::llm::text::batch::TextBatch;
use crate::loss::{Batch, Cotangents, InputKind};

/// Forward and backward pass of a batch: the networks, and how their numbers are made.
pub struct Step<'a> {
    /// Kind of examples that the loss takes.
    pub kind: InputKind,
    /// Network that gives each sequence its trained number.
    pub policy: &'a dyn Network,
    /// Network of values, if that is trained too and not shared. One whose pieces are tokens reads the responses,
    /// another their prompts.
    pub value: Option<&'a dyn Network>,
    /// Reduction of the tokens' numbers of a sequence to its one number.
    pub reduction: Reduction,
    /// Most tokens that are run at once.
    pub micro_batch: usize,
}

/// Outcome of a training step: loss, and the numbers that it was computed from.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Weighted sum of the losses.
    pub loss: f64,
    /// The numbers the loss saw.
    pub batch: Batch,
    /// True if gradients were pushed back.
    pub pushed: bool,
}

impl Step<'_> {
    /// Adds the gradient of `Σᵢ weightᵢ lossᵢ` to `policy` and `value`.
    ///
    /// # Errors
    /// Those of the loss and of the networks.
    pub fn run(
        &self,
        text: &TextBatch,
        loss: impl Fn(&Batch) -> Result<Cotangents>,
        policy: &mut LeafGradients,
        value: &mut LeafGradients,
    ) -> Result<Outcome> {
        self.run_into(text, loss, Sink::Sum(policy), Sink::Sum(value))
    }

    /// Pushes the gradient of `Σᵢ weightᵢ lossᵢ` to where it goes. Where a gradient is used at once,
    /// nothing is pushed if the loss or a cotangent is not finite.
    ///
    /// # Errors
    /// Those of the loss, of the networks and of what takes gradients; a batch of several parts
    /// where gradients are used at once.
    pub fn run_into(
        &self,
        text: &TextBatch,
        loss: impl Fn(&Batch) -> Result<Cotangents>,
        mut policy: Sink,
        mut value: Sink,
    ) -> Result<Outcome> {
        let mut runs = Runs::new(
            self.policy,
            self.reduction,
            &text.sequences,
            self.micro_batch,
        )?;
        let mut value_runs = match self.value {
            Some(network) => Some(Runs::new(
                network,
                Reduction::Mean,
                read_by(network, text).0,
                self.micro_batch,
            )?),
            None => None,
        };
        let of_value = value_runs.as_ref().map(|runs| &runs.numbers);
        let batch = self.batch(text, &runs.numbers, of_value);
        let cotangents = loss(&batch)?;
        let loss = cotangents.value;
        if policy.is_eager() || value.is_eager() {
            runs.check_whole()?;
            value_runs.iter().try_for_each(Runs::check_whole)?;
            let mut all = cotangents.gradient.iter().flatten();
            if !loss.is_finite() || !all.all(|g| g.is_finite()) {
                let pushed = false;
                return Ok(Outcome {
                    loss,
                    batch,
                    pushed,
                });
            }
        }
        let places = text.slots.iter().filter(|s| !s.is_empty()).count();
        let pushed = if self.kind == InputKind::Tokens {
            Pushed::Tokens(of_tokens(text, &batch, &cotangents.gradient[0]))
        } else {
            let mut of_sequences = vec![0.0; text.sequences.len()];
            for (slots, gradient) in text.slots.iter().zip(&cotangents.gradient) {
                (slots.iter().zip(gradient)).for_each(|(&s, g)| of_sequences[s as usize] += g);
            }
            // Those of proposals come last, after that of e.
            let proposed = cotangents.gradient.get(places + 1).into_iter().flatten();
            (text.proposals.iter().zip(proposed)).for_each(|(&s, g)| of_sequences[s as usize] += g);
            Pushed::Sequences(of_sequences)
        };
        // After the places comes the gradient of the number held against them.
        let mut held = cotangents.gradient.get(places).cloned().unwrap_or_default();
        if text.mean_value {
            // Of a mean: a share of all.
            to_mean(&mut held);
        }
        let sum = |of: &[u32], count: usize| {
            let mut sums = vec![0.0; count];
            (of.iter().zip(&held)).for_each(|(&i, g)| sums[i as usize] += g);
            sums
        };
        let none = Pushed::Sequences(Vec::new());
        let count = runs.numbers.values.len();
        let of_values = match (&mut value_runs, self.kind) {
            (None, _) if count == 0 => none,
            (None, InputKind::Tokens) => Pushed::Tokens(of_tokens(text, &batch, &held)),
            (None, _) => Pushed::Sequences(sum(&text.slots[0], count)),
            (Some(runs), kind) => {
                let (sequences, of) = read_by(runs.network, text);
                let pushed = match kind {
                    InputKind::Tokens => Pushed::Tokens(of_tokens(text, &batch, &held)),
                    _ => Pushed::Sequences(sum(of, sequences.len())),
                };
                runs.push_into(&pushed, &none, &mut value)?;
                none
            }
        };
        runs.push_into(&pushed, &of_values, &mut policy)?;
        Ok(Outcome {
            loss,
            batch,
            pushed: true,
        })
    }

    /// The numbers that the loss sees.
    fn batch(&self, text: &TextBatch, policy: &Numbers, of_value: Option<&Numbers>) -> Batch {
        if self.kind == InputKind::Tokens {
            let values = of_value.map_or(&policy.token_values, |value| &value.pieces);
            return text.token_numbers(&policy.pieces, &text.token_reference, values);
        }
        let mut baseline = match (self.value.zip(of_value), policy.values.as_slice()) {
            (Some((network, value)), _) => pick(read_by(network, text).1, &value.sequences),
            (None, []) => text.held.clone(),
            (None, values) => pick(&text.slots[0], values),
        };
        if text.mean_value {
            to_mean(&mut baseline);
        }
        let mut batch = text.numbers(self.kind, &policy.sequences, baseline);
        if matches!(self.reduction, Reduction::Mean) {
            // What is their mean already is not divided by the tokens again.
            batch.tokens.iter_mut().for_each(Vec::clear);
        }
        batch
    }

    /// `Σᵢ weightᵢ lossᵢ` without its gradient.
    ///
    /// # Errors
    /// Those of the loss and of the networks.
    pub fn evaluate(
        &self,
        text: &TextBatch,
        loss: impl Fn(&Batch) -> Result<Cotangents>,
    ) -> Result<Outcome> {
        let policy = numbers(
            self.policy,
            self.reduction,
            &text.sequences,
            self.micro_batch,
        )?;
        let of_value = |value| {
            let (sequences, _) = read_by(value, text);
            numbers(value, Reduction::Mean, sequences, self.micro_batch)
        };
        let of_value = self.value.map(of_value).transpose()?;
        let batch = self.batch(text, &policy, of_value.as_ref());
        let loss = loss(&batch)?.value;
        let pushed = false;
        Ok(Outcome {
            loss,
            batch,
            pushed,
        })
    }
}

/// The sequences that a network of values reads, and which of them each example's is.
fn read_by<'t>(network: &dyn Network, text: &'t TextBatch) -> (&'t [Sequence], &'t [u32]) {
    if network.has_token_pieces() {
        (&text.sequences, &text.slots[0])
    } else {
        (&text.prompts, &text.prompt)
    }
}

fn pick(of: &[u32], values: &[f64]) -> Vec<f64> {
    of.iter().map(|&i| values[i as usize]).collect()
}

/// Makes each number the mean of all.
fn to_mean(numbers: &mut [f64]) {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    numbers.fill(mean);
}

/// Cotangents of what a network gave.
enum Pushed {
    /// Of the one number of each sequence.
    Sequences(Vec<f64>),
    /// Of each predicted token of each sequence.
    Tokens(Vec<Vec<f64>>),
}

/// Cotangents of all tokens of each sequence, from those of the tokens that count; a sequence that stands at several
/// places gets them all.
fn of_tokens(text: &TextBatch, batch: &Batch, gradient: &[f64]) -> Vec<Vec<f64>> {
    let zeros = |s: &Sequence| vec![0.0; s.completion().len()];
    let mut all: Vec<Vec<f64>> = text.sequences.iter().map(zeros).collect();
    let mut rest = gradient;
    for (&s, &length) in text.slots[0].iter().zip(&batch.lengths) {
        let (own, later) = rest.split_at(length);
        rest = later;
        let s = s as usize;
        let counted = all[s].iter_mut().zip(text.sequences[s].counted());
        let counted = counted.filter(|(_, counts)| *counts);
        counted.zip(own).for_each(|((to, _), g)| *to += g);
    }
    all
}

/// A network's runs on a batch: numbers first, cotangents second. Where all fitted into one run it
/// was recorded, else every part is run again.
pub struct Runs<'a> {
    network: &'a dyn Network,
    reduction: Reduction,
    parts: Vec<Vec<&'a Sequence>>,
    recorded: Option<(Tape<'a>, Output)>,
    numbers: Numbers,
}

impl<'a> Runs<'a> {
    /// Runs the network for its numbers, on at most `micro_batch` tokens at once.
    ///
    /// # Errors
    /// Those of the network.
    pub fn new(
        network: &'a dyn Network,
        reduction: Reduction,
        sequences: &'a [Sequence],
        micro_batch: usize,
    ) -> Result<Self> {
        let parts = parts(sequences, micro_batch);
        let mut runs = Self {
            network,
            reduction,
            parts,
            recorded: None,
            numbers: Numbers::default(),
        };
        match runs.parts.as_slice() {
            [all] => {
                let (tape, output) = record(network, all)?;
                read(network, all, &output, reduction, &mut runs.numbers)?;
                runs.recorded = Some((tape, output));
            }
            _ => runs.numbers = numbers(network, reduction, sequences, micro_batch)?,
        }
        Ok(runs)
    }

    /// The network's numbers.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// An error unless everything was run at once.
    fn check_whole(&self) -> Result<()> {
        match self.parts.len() {
            0 | 1 => Ok(()),
            count => {
                let tokens = self.parts.iter().flatten().map(|s| s.tokens().len());
                Err(beyond_one_run("the step", tokens.sum(), count))
            }
        }
    }

    /// Pushes the cotangents of sequences and of shared values to the parameters.
    ///
    /// # Errors
    /// Those of the network.
    pub fn push(
        &mut self,
        of_sequences: &[f64],
        of_values: &[f64],
        gradients: &mut LeafGradients,
    ) -> Result<()> {
        let [pushed, of_values] =
            [of_sequences, of_values].map(|all| Pushed::Sequences(all.to_vec()));
        self.push_into(&pushed, &of_values, &mut Sink::Sum(gradients))
    }

    fn push_into(&mut self, pushed: &Pushed, of_values: &Pushed, sink: &mut Sink) -> Result<()> {
        let mut done = 0;
        for part in &self.parts {
            let here = done..done + part.len();
            done = here.end;
            let (tape, output) = match self.recorded.take() {
                Some(recorded) => recorded,
                None => record(self.network, part)?,
            };
            let mut pieces = Vec::new();
            match pushed {
                Pushed::Tokens(all) => pieces.extend(all[here.clone()].iter().flatten()),
                Pushed::Sequences(all) => {
                    let ends = output.starts.windows(2);
                    for ((w, sequence), g) in ends.zip(part).zip(&all[here.clone()]) {
                        let weights = weights(self.network, sequence);
                        pieces.extend(share(*g, self.reduction, w[1] - w[0], weights));
                    }
                }
            }
            let mut seeds = vec![(output.pieces.clone(), like(&output.pieces, &pieces)?)];
            if let Some(Values { node, rows }) = &output.values {
                let of_rows: Vec<f64> = match (of_values, rows) {
                    (Pushed::Tokens(all), _) => all[here].concat(),
                    (Pushed::Sequences(all), ValueRows::Prompt) => all[here].to_vec(),
                    (Pushed::Sequences(all), ValueRows::Completion) => (all[here].iter().zip(part))
                        .flat_map(|(g, sequence)| {
                            let count = sequence.completion().len();
                            share(*g, Reduction::Mean, count, sequence.weights())
                        })
                        .collect(),
                };
                seeds.push((node.clone(), like(node, &of_rows)?));
            }
            // The activations die with the tape.
            drop(output);
            sink.take(tape, seeds)?;
        }
        Ok(())
    }
}

/// Cotangents of the pieces of a sequence, from that of the number which they make.
fn share(g: f64, reduction: Reduction, count: usize, weights: Option<&[f64]>) -> Vec<f64> {
    match weights {
        Some(weights) => {
            let g = g * reduction.scale(weights.iter().sum());
            weights.iter().map(|w| g * w).collect()
        }
        None => vec![g * reduction.scale(count as f64); count],
    }
}

/// What is wrong with a step of several parts whose gradients are used at once.
pub(in crate::llm) fn beyond_one_run(step: &str, tokens: usize, parts: usize) -> Error {
    Error::invalid(
        "micro_batch_tokens",
        format!("{step} has {tokens} tokens and would be run in {parts} parts or more"),
        format!(
            "optimizer_in_backward needs every step in one: give {tokens} or more, or a smaller \
             batch"
        ),
    )
}

fn record<'a>(network: &'a dyn Network, sequences: &[&Sequence]) -> Result<(Tape<'a>, Output)> {
    let tape = Tape::recording(network.leaves());
    let output = network.forward(&tape, sequences)?;
    Ok((tape, output))
}

/// Cotangents of a node, in its precision and on its device.
///
/// # Errors
/// Another number of them than the node has; a failing device.
pub(in crate::llm) fn like(node: &Node, numbers: &[f64]) -> Result<Tensor> {
    let value = node.value();
    if value.elem_count() != numbers.len() {
        return Err(Error::Shape {
            operation: "cotangents",
            left: value.elem_count(),
            right: numbers.len(),
        });
    }
    let tensor = Tensor::from_slice(numbers, numbers.len(), &candle_core::Device::Cpu)?;
    Ok(tensor.to_dtype(value.dtype())?.to_device(value.device())?)
}
