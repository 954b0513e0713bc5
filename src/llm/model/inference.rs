//! Inference: the numbers that a network gives sequences.

use std::ops::Range;

use candle_core::DType;

use super::decoder::Decoder;
use super::network::{Network, Output, Reduction, ValueRows, Values};
use super::sequence::{Packed, Sequence};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// The numbers of sequences.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// One of each sequence.
    pub sequences: Vec<f64>,
    /// The value of each sequence, if the network shares a head.
    pub values: Vec<f64>,
    /// Values of each token of each sequence, if the network shares a head that is read there.
    pub token_values: Vec<Vec<f64>>,
    /// Pieces of each sequence: the log-probability of each predicted token.
    pub pieces: Vec<Vec<f64>>,
}

/// Numbers only: what each sequence gets from a network.
///
/// # Errors
/// Those of the network.
pub fn numbers(
    network: &dyn Network,
    reduction: Reduction,
    sequences: &[Sequence],
    micro_batch: usize,
) -> Result<Numbers> {
    let mut numbers = Numbers::default();
    for part in parts(sequences, micro_batch) {
        let output = network.forward(&Tape::idle(), &part)?;
        read(network, &part, &output, reduction, &mut numbers)?;
    }
    Ok(numbers)
}

/// The mean over its tokens of the last hidden state of each text, `[width]` each.
///
/// # Errors
/// Those of the model.
pub(in crate::llm) fn mean_hidden(
    model: &Decoder,
    texts: &[&[u32]],
    budget: usize,
) -> Result<Vec<Vec<f64>>> {
    let mut means = Vec::with_capacity(texts.len());
    for some in cut(texts.iter().map(|text| text.len()), budget) {
        let packed = Packed::new(texts[some].iter().copied());
        let hidden = model.hidden(&Tape::idle(), &packed)?;
        let hidden = hidden.value().to_dtype(DType::F64)?.to_vec2::<f64>()?;
        for span in packed.sequences.iter() {
            let mut mean = vec![0.0; hidden.first().map_or(0, Vec::len)];
            for row in span.rows() {
                let row = &hidden[row];
                mean.iter_mut().zip(row).for_each(|(m, x)| *m += x);
            }
            mean.iter_mut().for_each(|m| *m /= span.length() as f64);
            means.push(mean);
        }
    }
    Ok(means)
}

/// Consecutive sequences of at most `budget` tokens together, at least one in each part.
pub(in crate::llm) fn parts(sequences: &[Sequence], budget: usize) -> Vec<Vec<&Sequence>> {
    let lengths = sequences.iter().map(|sequence| sequence.tokens().len());
    let parts = cut(lengths, budget).into_iter();
    parts.map(|part| sequences[part].iter().collect()).collect()
}

/// Consecutive items, of so many tokens each, in parts of at most `budget`; one beyond that is alone.
pub(in crate::llm) fn cut(
    lengths: impl IntoIterator<Item = usize>,
    budget: usize,
) -> Vec<Range<usize>> {
    let mut parts: Vec<(usize, Range<usize>)> = Vec::new();
    for (i, tokens) in lengths.into_iter().enumerate() {
        match parts.last_mut() {
            Some((sum, part)) if sum.saturating_add(tokens) <= budget => {
                *sum += tokens;
                part.end = i + 1;
            }
            _ => parts.push((tokens, i..i + 1)),
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// What the pieces that a network gives of a sequence weigh, unless each weighs 1.
pub(in crate::llm) fn weights<'a>(
    network: &dyn Network,
    sequence: &'a Sequence,
) -> Option<&'a [f64]> {
    sequence.weights().filter(|_| network.has_token_pieces())
}

/// Adds what a run gave to the numbers.
pub(in crate::llm) fn read(
    network: &dyn Network,
    part: &[&Sequence],
    output: &Output,
    reduction: Reduction,
    numbers: &mut Numbers,
) -> Result<()> {
    let pieces = host(&output.pieces)?;
    let starts = output.starts.windows(2);
    for (w, sequence) in starts.zip(part) {
        let pieces = &pieces[w[0]..w[1]];
        numbers.pieces.push(pieces.to_vec());
        numbers.sequences.push(match weights(network, sequence) {
            Some(_) => sequence.sum(pieces) * reduction.scale(sequence.weight()),
            None => pieces.iter().sum::<f64>() * reduction.scale(pieces.len() as f64),
        });
    }
    if let Some(Values { node, rows }) = &output.values {
        let values = host(node)?;
        match rows {
            ValueRows::Prompt => numbers.values.extend(values),
            ValueRows::Completion => {
                let starts = output.starts.windows(2);
                for (w, sequence) in starts.zip(part) {
                    let each = values[w[0]..w[1]].to_vec();
                    let scale = Reduction::Mean.scale(sequence.weight());
                    numbers.values.push(sequence.sum(&each) * scale);
                    numbers.token_values.push(each);
                }
            }
        }
    }
    Ok(())
}

fn host(node: &Node) -> Result<Vec<f64>> {
    Ok(node.value().to_dtype(DType::F64)?.to_vec1()?)
}
