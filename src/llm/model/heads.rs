//! Heads that give one number: rewards and values.

use std::path::Path;
use std::rc::Rc;

use candle_core::{DType, Device, Tensor};
use ndarray_rand::rand_distr::{Distribution, StandardNormal};

use super::decoder::Decoder;
use super::network::{Network, Output, ValueRows, Values};
use super::sequence::{Packed, Predictions, Sequence};
use super::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::llm::tensor::ops;
use crate::llm::tensor::parameters::{Id, Parameters};
use crate::llm::tensor::tape::{Node, Tape};
use crate::random::{Purpose, Stream};

/// Index of the stream of a head's weights, after those of all tensors of a decoder.
const STREAM: u64 = 1 << 32;

/// A linear map of a hidden state to one number. Its weights are kept with the decoder's, as
/// further parameters, so that one optimiser and one checkpoint have them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarHead {
    /// `score.weight` `[1, width]`: transformers' `…ForSequenceClassification` of one label.
    Reward,
    /// `v_head.summary.weight` `[1, width]` and `v_head.summary.bias` `[1]`: TRL's value head.
    Value,
    /// `expected.weight` `[1, width]` and `expected.bias` `[1]`: e(x) of an Advantage Model, which has it beside a reward
    /// head.
    Expected,
}

impl ScalarHead {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Reward, Self::Value, Self::Expected];

    /// The names of its tensors: weight, and bias if it has one.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Reward => &["score.weight"],
            Self::Value => &["v_head.summary.weight", "v_head.summary.bias"],
            Self::Expected => &["expected.weight", "expected.bias"],
        }
    }

    /// Its folder inside that of an adapter, if PEFT has no place for it there.
    pub(in crate::llm) fn folder(self) -> Option<&'static str> {
        match self {
            Self::Reward => None,
            Self::Value => Some("value_head"),
            Self::Expected => Some("expected_head"),
        }
    }

    /// Whether a decoder has it.
    pub fn is_on(self, decoder: &Decoder) -> bool {
        decoder.parameters().find(self.names()[0]).is_some()
    }

    /// The head that a decoder has; of an Advantage Model that of its reward.
    pub fn of(decoder: &Decoder) -> Option<Self> {
        Self::all_of(decoder).next()
    }

    /// All heads that a decoder has.
    pub(in crate::llm) fn all_of(decoder: &Decoder) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|head| head.is_on(decoder))
    }

    /// Gives a decoder this head, its weight normal with the standard deviation of the
    /// configuration (0.02 without one), its bias 0. The same seed gives the same weight.
    ///
    /// # Errors
    /// A decoder that has a head already, or a failing device.
    pub fn add(self, decoder: &mut Decoder, seed: u64) -> Result<()> {
        let width = decoder.sizes().width;
        let deviation = decoder.config().map_or(0.02, |c| c.deviation);
        // Two heads of one body begin apart.
        let index = STREAM + u64::from(self == Self::Expected);
        let mut stream = Stream::new(seed, Purpose::Start, index);
        let weight: Vec<f64> = (0..width)
            .map(|_| -> f64 { StandardNormal.sample(stream.rng()) })
            .map(|z| deviation * z)
            .collect();
        self.put(decoder, |_, shape| match shape {
            [_] => Ok(Tensor::new(&[0.0], &Device::Cpu)?),
            shape => Ok(Tensor::from_slice(&weight, shape, &Device::Cpu)?),
        })
    }

    /// Gives a decoder this head with the weights in a folder.
    ///
    /// # Errors
    /// A folder that does not hold them, or a decoder that has a head already.
    pub fn load(self, decoder: &mut Decoder, dir: impl AsRef<Path>) -> Result<()> {
        let mut checkpoint = Checkpoint::open(dir.as_ref())?;
        self.put(decoder, |name, shape| checkpoint.take(name, shape))
    }

    /// Gives the head that a decoder has the weights in a folder.
    ///
    /// # Errors
    /// A folder that does not hold them, or a decoder without this head.
    pub(in crate::llm) fn restore(
        self,
        decoder: &mut Decoder,
        dir: impl AsRef<Path>,
    ) -> Result<()> {
        let mut checkpoint = Checkpoint::open(dir.as_ref())?;
        let width = decoder.sizes().width;
        for name in self.names() {
            let tensor = checkpoint.take(name, &Self::shape(name, width))?;
            decoder.parameters_mut().set(name, &tensor)?;
        }
        Ok(())
    }

    /// The shape of a tensor of a head.
    fn shape(name: &str, width: usize) -> Vec<usize> {
        if name.ends_with("bias") {
            vec![1]
        } else {
            vec![1, width]
        }
    }

    /// Gives a decoder this head with that weight, or changes the one it has.
    pub(in crate::llm) fn set(self, decoder: &mut Decoder, weight: &Tensor) -> Result<()> {
        if self.is_on(decoder) {
            decoder.parameters_mut().set(self.names()[0], weight)
        } else {
            self.put(decoder, |_, _| Ok(weight.clone()))
        }
    }

    fn put(
        self,
        decoder: &mut Decoder,
        mut tensor: impl FnMut(&str, &[usize]) -> Result<Tensor>,
    ) -> Result<()> {
        let beside = |head: &Self| self == Self::Expected && *head == Self::Reward;
        if let Some(head) = Self::all_of(decoder).find(|head| !beside(head)) {
            let problem = "the model has a scalar head already";
            return Err(Error::invalid(head.names()[0], problem, "one is enough"));
        }
        let width = decoder.sizes().width;
        for name in self.names() {
            let tensor = tensor(name, &Self::shape(name, width))?;
            decoder.parameters_mut().add(*name, &tensor)?;
        }
        Ok(())
    }

    /// `h · w + b` of those rows of hidden states: `[N, width]` → `[M]`. Of bf16 and f16 states and
    /// weights it is computed in f32, and is f32: a score has more digits than they.
    ///
    /// # Errors
    /// A decoder without this head, or a row that is not there.
    pub fn values(
        self,
        tape: &Tape,
        parameters: &Parameters,
        hidden: &Node,
        rows: &Rc<[u32]>,
    ) -> Result<Node> {
        let node = |name: &&str| -> Result<Node> {
            let id: Option<Id> = parameters.find(name);
            let id = id.ok_or_else(|| {
                Error::invalid(*name, "the model has no such head", "add it or load it")
            })?;
            wide(tape, &parameters.node(tape, id))
        };
        let weights: Vec<Node> = self.names().iter().map(node).collect::<Result<_>>()?;
        let hidden = wide(tape, &ops::rows(tape, hidden, rows)?)?;
        let column = ops::linear(tape, &hidden, &weights[0], weights.get(1))?;
        let flat = column.value().squeeze(1)?;
        Ok(tape.record(flat, &[&column], || {
            let column = column.target();
            Box::new(move |gradient, sums| sums.add_shared(&column, &gradient.unsqueeze(1)?))
        }))
    }
}

/// bf16 and f16 numbers as f32; their gradient is rounded.
fn wide(tape: &Tape, x: &Node) -> Result<Node> {
    let dtype = x.value().dtype();
    if !matches!(dtype, DType::BF16 | DType::F16) {
        return Ok(x.clone());
    }
    let value = x.value().to_dtype(DType::F32)?;
    Ok(tape.record(value, &[x], || {
        let x = x.target();
        Box::new(move |gradient, sums| sums.add(&x, gradient.to_dtype(dtype)?))
    }))
}

/// A network of its own that scores sequences: one piece each. A reward head reads the last token
/// that is not the padding of the model's configuration, as `transformers` does; another head reads
/// the last token of the prompt, and of the completion nothing.
#[derive(Debug)]
pub struct Scorer {
    /// The decoder, whose output head, if it has one, is not used.
    pub decoder: Decoder,
    /// Its scalar head.
    pub head: ScalarHead,
}

impl Scorer {
    /// Tokens of a sequence that the head reads: those up to the token where it is.
    pub fn read<'a>(&self, sequence: &'a Sequence) -> &'a [u32] {
        match self.head {
            ScalarHead::Reward => self.decoder.unpadded(sequence.tokens()),
            ScalarHead::Value | ScalarHead::Expected => sequence.prompt(),
        }
    }
}

impl Decoder {
    /// Tokens without the padding after them, as the model's configuration has it; at least one.
    pub(in crate::llm) fn unpadded<'a>(&self, tokens: &'a [u32]) -> &'a [u32] {
        let padding = self.config().and_then(|config| config.padding);
        let read = |&token: &u32| Some(token as usize) != padding;
        let last = tokens.iter().rposition(read).unwrap_or(0);
        tokens.get(..=last).unwrap_or(tokens)
    }

    /// Makes sure that a reward head which is to be trained reads `end`, the token after completions:
    /// where the configuration pads with it, `transformers` would read the token before. The padding
    /// is `other` then, or none, which `transformers` refuses to make batches of.
    pub fn read_end(&mut self, end: Option<u32>, other: Option<u32>) {
        let rows = self.sizes().vocabulary;
        let Some(config) = self.config_mut() else {
            return;
        };
        let same = |padding: usize| end.is_some_and(|end| end as usize == padding);
        if config.padding.is_some_and(same) {
            let other = other.filter(|&id| (id as usize) < rows && !same(id as usize));
            config.padding = other.map(|id| id as usize);
            config.fields.insert("pad_token_id".into(), other.into());
        }
    }
}

impl Network for Scorer {
    fn leaves(&self) -> usize {
        self.decoder.parameters().len()
    }

    fn has_token_pieces(&self) -> bool {
        false
    }

    fn forward<'a>(&'a self, tape: &Tape<'a>, sequences: &[&Sequence]) -> Result<Output> {
        let packed = Packed::sharing(sequences.iter().map(|s| (self.read(s), s.prompt().len())));
        let last = (packed.sequences.iter())
            .map(|span| span.row(span.length() - 1) as u32)
            .collect();
        let hidden = self.decoder.hidden(tape, &packed)?;
        let parameters = self.decoder.parameters();
        Ok(Output {
            pieces: self.head.values(tape, parameters, &hidden, &last)?,
            starts: (0..=sequences.len()).collect(),
            values: None,
        })
    }
}

/// An Advantage Model: a body with two heads, r at the last token of a sequence as a [`Scorer`] reads it, which is the
/// piece, and e at the last token of its prompt, which is the value.
#[derive(Debug)]
pub struct AdvantageScorer(pub Decoder);

impl Network for AdvantageScorer {
    fn leaves(&self) -> usize {
        self.0.parameters().len()
    }

    fn has_token_pieces(&self) -> bool {
        false
    }

    fn forward<'a>(&'a self, tape: &Tape<'a>, sequences: &[&Sequence]) -> Result<Output> {
        let Self(decoder) = self;
        let read = sequences
            .iter()
            .map(|s| (decoder.unpadded(s.tokens()), s.prompt().len()));
        let packed = Packed::sharing(read);
        let (last, prompt): (Vec<u32>, Vec<u32>) = (packed.sequences.iter().zip(sequences))
            .map(|(span, sequence)| {
                let row = |tokens: usize| span.row(tokens - 1) as u32;
                // Padding may begin within a prompt.
                let prompt = sequence.prompt().len().min(span.length());
                (row(span.length()), row(prompt))
            })
            .unzip();
        let hidden = decoder.hidden(tape, &packed)?;
        let read = |head: ScalarHead, rows: Vec<u32>| {
            head.values(tape, decoder.parameters(), &hidden, &rows.into())
        };
        Ok(Output {
            pieces: read(ScalarHead::Reward, last)?,
            starts: (0..=sequences.len()).collect(),
            values: Some(Values {
                node: read(ScalarHead::Expected, prompt)?,
                rows: ValueRows::Prompt,
            }),
        })
    }
}

/// A network of its own that gives a value at every token of a completion: the pieces are `V(x, y_<t)`, read at the
/// row that predicts the token, and a response's value is their mean.
#[derive(Debug)]
pub struct TokenValues(pub Decoder);

impl Network for TokenValues {
    fn leaves(&self) -> usize {
        self.0.parameters().len()
    }

    fn forward<'a>(&'a self, tape: &Tape<'a>, sequences: &[&Sequence]) -> Result<Output> {
        let Predictions {
            packed,
            rows,
            starts,
            ..
        } = Predictions::new(sequences);
        let hidden = self.0.hidden(tape, &packed)?;
        Ok(Output {
            pieces: ScalarHead::Value.values(tape, self.0.parameters(), &hidden, &rows)?,
            starts,
            values: None,
        })
    }
}

/// A policy that shares its body with a value head, which is read at those rows: the pieces are log-probabilities of
/// completion tokens.
#[derive(Debug)]
pub struct PolicyWithValue(pub Decoder, pub ValueRows);

impl Network for PolicyWithValue {
    fn leaves(&self) -> usize {
        self.0.parameters().len()
    }

    fn forward<'a>(&'a self, tape: &Tape<'a>, sequences: &[&Sequence]) -> Result<Output> {
        let Self(decoder, rows) = self;
        let predictions = Predictions::new(sequences);
        let hidden = decoder.hidden(tape, &predictions.packed)?;
        let read = match rows {
            ValueRows::Completion => predictions.rows.clone(),
            // The row that predicts the first token of a completion is the prompt's last.
            ValueRows::Prompt => {
                let first = &predictions.starts[..sequences.len()];
                first.iter().map(|&i| predictions.rows[i]).collect()
            }
        };
        let node = ScalarHead::Value.values(tape, decoder.parameters(), &hidden, &read)?;
        Ok(Output {
            pieces: decoder.log_probs_of(tape, &hidden, &predictions)?,
            starts: predictions.starts,
            values: Some(Values { node, rows: *rows }),
        })
    }
}
