//! Distance of a model's predictions from those of another model, its teacher.

use candle_core::Tensor;

use super::Decoder;
use crate::error::Result;
use crate::llm::model::sequence::{Predictions, Sequence};
use crate::llm::tensor::ops::{self, Teacher};
use crate::llm::tensor::tape::{Node, Tape};

/// Distance between two predictions of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Distance {
    /// `Σ q (−ln p)` with `p = softmax(z/T)` and `q` the teacher's: its gradient is that of KL(q‖p) (LwF).
    CrossEntropy {
        /// T
        temperature: f64,
    },
    /// `‖z − z′‖²` of the logits (DER++).
    Logits,
}

impl Decoder {
    /// What the logits of every token of the completions are made of, `[M, D]`, to teach another model.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden), or a model without output head.
    pub fn teacher(&self, sequences: &[&Sequence]) -> Result<Teacher> {
        let predictions = Predictions::new(sequences);
        let tape = Tape::idle();
        let hidden = self.hidden(&tape, &predictions.packed)?;
        Ok(Teacher {
            hidden: ops::rows(&tape, &hidden, &predictions.rows)?
                .value()
                .clone(),
            head: self.head_tensor()?,
            bias: self.head_bias(),
        })
    }

    /// Its distance from a teacher at every token of the completions, end to end, `[M]`.
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden), or a teacher of other tokens.
    pub fn distances<'a>(
        &'a self,
        tape: &Tape<'a>,
        sequences: &[&Sequence],
        teacher: &Teacher,
        distance: Distance,
    ) -> Result<Node> {
        let predictions = Predictions::new(sequences);
        let hidden = self.hidden(tape, &predictions.packed)?;
        let hidden = ops::rows(tape, &hidden, &predictions.rows)?;
        let head = self.head(tape)?;
        let bias = self.graph.linear(self.graph.head).bias;
        let bias = bias.map(|bias| self.node(tape, bias));
        match distance {
            Distance::Logits => ops::logit_difference(tape, &hidden, &head, bias.as_ref(), teacher),
            Distance::CrossEntropy { temperature } => {
                let by = 1.0 / temperature;
                let hidden = ops::scale(tape, &hidden, by)?;
                let bias = bias.map(|bias| ops::scale(tape, &bias, by)).transpose()?;
                let scaled = |x: &Tensor| -> Result<Tensor> { Ok((x * by)?) };
                let teacher = Teacher {
                    hidden: scaled(&teacher.hidden)?,
                    head: teacher.head.clone(),
                    bias: teacher.bias.as_ref().map(scaled).transpose()?,
                };
                ops::cross_entropy(tape, &hidden, &head, bias.as_ref(), &teacher)
            }
        }
    }
}
