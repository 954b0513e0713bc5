//! A share of every step that keeps the policy's predictions near those of a teacher, token by token.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::batches::Batches;
use super::learner::Learner;
use super::step::{Sink, like};
use crate::error::{Error, Result};
use crate::llm::files::checkpoint;
use crate::llm::model::decoder::{Decoder, Distance};
use crate::llm::model::inference::parts;
use crate::llm::model::sequence::Sequence;
use crate::llm::tensor::ops::Teacher;
use crate::llm::tensor::tape::Tape;
use crate::llm::text::example::Example;

/// What a step learns from a teacher: `weight · 1/M Σ distance` over the M tokens of some rows' best responses. A
/// cross-entropy at temperature T is taken T² times, as its gradient falls with T².
pub struct Distillation<'a> {
    /// Its name among metrics: the mean distance is `NAME/loss`.
    pub name: String,
    /// Batches of the likelihood of the rows' best responses.
    pub plan: Batches<'a>,
    /// Whose predictions are kept.
    pub teaching: Teaching,
    /// How far others are from them.
    pub distance: Distance,
    /// Weight.
    pub weight: f64,
}

/// Source of a teacher's predictions.
#[non_exhaustive]
pub enum Teaching {
    /// A model.
    Live(Box<Decoder>),
    /// Predictions that were stored.
    Stored(Predicted),
}

/// Stored predictions of all tokens of the best responses of some rows. Logits of V tokens are stored without loss as
/// the D numbers of a hidden state each, and one output head for all of them.
pub struct Predicted {
    hidden: HashMap<u64, Tensor>,
    head: Tensor,
    bias: Option<Tensor>,
}

const HEAD: &str = "head";
const BIAS: &str = "bias";

impl Predicted {
    /// What a model predicts of the first response of examples.
    ///
    /// # Errors
    /// Those of the model.
    pub fn of(model: &Decoder, examples: &[Example], budget: usize) -> Result<Self> {
        let sequences: Vec<Sequence> = (examples.iter())
            .filter_map(|e| e.responses.first())
            .map(|r| r.sequence.clone())
            .collect();
        let mut hidden = HashMap::new();
        let mut rows = examples.iter().map(|e| e.row);
        for part in parts(&sequences, budget) {
            let teacher = model.teacher(&part)?;
            let mut from = 0;
            for (sequence, row) in part.iter().zip(&mut rows) {
                let count = sequence.completion().len();
                let own = teacher.hidden.narrow(0, from, count)?;
                hidden.insert(row, own.copy()?);
                from += count;
            }
        }
        Ok(Self {
            hidden,
            head: model.head_tensor()?.copy()?,
            bias: model.head_bias().map(|bias| bias.copy()).transpose()?,
        })
    }

    /// Bytes of its numbers, and those of the logits that they stand for.
    pub fn bytes(&self) -> [usize; 2] {
        let of = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        let rows: usize = self.hidden.values().map(|h| h.elem_count()).sum();
        let width = self.head.dims().last().copied().unwrap_or(1).max(1);
        let vocabulary = self.head.dims().first().copied().unwrap_or(0);
        let stored = self.hidden.values().map(of).sum::<usize>()
            + of(&self.head)
            + self.bias.as_ref().map_or(0, of);
        let logits = rows / width * vocabulary * self.head.dtype().size_in_bytes();
        [stored, logits]
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let rows = self.hidden.iter();
        let mut all: HashMap<String, Tensor> =
            rows.map(|(row, t)| (row.to_string(), t.clone())).collect();
        all.insert(HEAD.into(), self.head.clone());
        all.extend(self.bias.clone().map(|bias| (BIAS.into(), bias)));
        checkpoint::write_tensors(path, &all)
    }

    /// Reads it from a file.
    ///
    /// # Errors
    /// A file that is not as it was written.
    pub fn read(path: &Path, device: &Device) -> Result<Self> {
        let broken = |message: String| Error::Format {
            origin: path.display().to_string(),
            message,
            remedy: "begin the sequence of tasks anew".into(),
        };
        let all = candle_core::safetensors::load(path, device);
        let mut all = all.map_err(|e| broken(e.to_string()))?;
        let head = all
            .remove(HEAD)
            .ok_or_else(|| broken("it has no head".into()))?;
        let bias = all.remove(BIAS);
        let hidden = all.into_iter().map(|(name, tensor)| {
            let row = name
                .parse()
                .map_err(|_| broken(format!("`{name}` is no row")))?;
            Ok((row, tensor))
        });
        Ok(Self {
            hidden: hidden.collect::<Result<_>>()?,
            head,
            bias,
        })
    }

    fn teacher(&self, rows: &[u64]) -> Result<Teacher> {
        let of = |row: &u64| {
            self.hidden.get(row).ok_or_else(|| {
                Error::invalid(
                    "stored predictions",
                    format!("they lack row {row}"),
                    "begin the sequence of tasks anew",
                )
            })
        };
        let hidden: Vec<&Tensor> = rows.iter().map(of).collect::<Result<_>>()?;
        Ok(Teacher {
            hidden: Tensor::cat(&hidden, 0)?,
            head: self.head.clone(),
            bias: self.bias.clone(),
        })
    }
}

impl Distillation<'_> {
    /// Adds a step's gradient to a learner's, and gives the mean distance of a token.
    ///
    /// # Errors
    /// Those of the rows and of the models.
    pub(super) fn push(&self, done: u64, learner: &mut Learner) -> Result<f64> {
        let (text, examples) = self.plan.batch(done)?;
        let count: f64 = text.sequences.iter().map(Sequence::weight).sum();
        let factor = match self.distance {
            Distance::CrossEntropy { temperature } => temperature * temperature,
            Distance::Logits => 1.0,
        };
        let mut rows = examples.iter().map(|e| e.row);
        let mut sum = 0.0;
        for part in parts(&text.sequences, self.plan.micro_batch()) {
            let rows: Vec<u64> = rows.by_ref().take(part.len()).collect();
            let teacher = match &self.teaching {
                Teaching::Live(model) => model.teacher(&part)?,
                Teaching::Stored(predicted) => predicted.teacher(&rows)?,
            };
            let model = &*learner.model;
            let tape = Tape::recording(model.leaves());
            let each = model
                .decoder()
                .distances(&tape, &part, &teacher, self.distance)?;
            let weights: Vec<f64> = part.iter().flat_map(|s| s.each_weight()).collect();
            let found: Vec<f64> = each.value().to_dtype(DType::F64)?.to_vec1()?;
            sum += weights.iter().zip(&found).map(|(w, d)| w * d).sum::<f64>();
            let scale = self.weight * factor / count;
            let seeds: Vec<f64> = weights.iter().map(|w| w * scale).collect();
            let seeds = vec![(each.clone(), like(&each, &seeds)?)];
            Sink::Sum(&mut learner.gradients).take(tape, seeds)?;
        }
        Ok(sum / count)
    }
}
