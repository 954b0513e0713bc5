//! Facts of log-probabilities of tokens.

use std::rc::Rc;

use candle_core::Tensor;

use super::super::composed::LOGITS;
use super::super::cpu::CHUNK;
use super::super::facts::{self, Sizes, inputs};
use super::{plain, token_log_probs};
use crate::error::Result;
use crate::llm::tensor::ops::{Bound, Case, Cost, Form, Input, Memory, Operation, Shapes};
use crate::llm::tensor::tape::{Node, Tape};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// D
    pub width: usize,
    /// V
    pub vocabulary: usize,
    /// Whether there is a b.
    pub bias: bool,
    /// The token at each of M rows.
    pub targets: Rc<[u32]>,
    /// τ
    pub temperature: f64,
}

/// Every choice.
pub fn cases(shapes: &Shapes) -> Vec<Case> {
    let case = |width, vocabulary, bias, targets: &Rc<[u32]>, temperature| -> Rc<dyn Operation> {
        Rc::new(Call {
            width,
            vocabulary,
            bias,
            targets: targets.clone(),
            temperature,
        })
    };
    let (width, few, many) = (shapes.width, &shapes.few, &shapes.many);
    vec![
        ("token_log_probs", case(width, 997, false, few, 1.0)),
        (
            "token_log_probs, in chunks",
            case(48, 8000, false, many, 1.0),
        ),
        (
            "token_log_probs with bias",
            case(width, 997, true, few, 1.0),
        ),
        (
            "token_log_probs with bias, in chunks",
            case(48, 8000, true, many, 1.0),
        ),
        (
            "token_log_probs at a temperature",
            case(width, 997, false, few, 0.6),
        ),
        (
            "token_log_probs with bias at a temperature, in chunks",
            case(48, 8000, true, many, 1.7),
        ),
    ]
}

impl Call {
    fn sizes(&self) -> Sizes {
        Sizes {
            rows: self.targets.len(),
            width: self.width,
            vocabulary: self.vocabulary,
        }
    }
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "token_log_probs"
    }

    fn inputs(&self) -> Vec<Input> {
        // Logits of that size once divided by the temperature.
        let names = ["hidden", "head", "bias"];
        inputs(names, self.sizes(), self.bias, self.temperature)
    }

    fn output(&self) -> Vec<usize> {
        vec![self.targets.len()]
    }

    fn gives_wide(&self) -> bool {
        true
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        let (bias, targets) = (x.get(2), &self.targets);
        token_log_probs(tape, &x[0], &x[1], bias, targets, self.temperature)
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        let (bias, targets) = (x.get(2), &self.targets);
        plain::token_log_probs(tape, &x[0], &x[1], bias, targets, self.temperature)
    }

    fn cost(&self) -> [Cost; 2] {
        let (m, width, vocabulary) = (self.targets.len(), self.width, self.vocabulary);
        let bias = if self.bias { vocabulary } else { 0 };
        let all = (m + vocabulary) * width + bias;
        let product = 2 * m * width * vocabulary;
        [
            Cost::new(product, all + m),
            Cost::new(2 * product, 2 * all + m),
        ]
    }

    /// Log-probabilities are in f32 at least; logits may be rounded to what is stored, and count twice in their
    /// softmax: exponents are of the order of 1, and the mean square of unit-normal logits under it is 2.
    fn bounds(&self) -> Vec<Bound> {
        let new = Bound::new;
        // A sum or a product more.
        let with = usize::from(self.bias) + usize::from(self.temperature != 1.0);
        let (width, vocabulary) = (self.width, self.vocabulary);
        let rows = new(4, 16 + with, &[width, vocabulary, self.targets.len()], 3);
        let mut list = vec![
            new(1, 12 + with, &[width, vocabulary], 1),
            new(4, 16 + with, &[width, vocabulary, vocabulary], 3),
            rows.clone(),
        ];
        list.extend(self.bias.then_some(rows));
        list
    }

    fn memory(&self, form: &Form, wanted: &[bool]) -> Memory {
        memory(form, self.sizes(), self.bias, wanted)
    }
}

/// Memory of log-probabilities of so many tokens.
pub fn memory(form: &Form, of: Sizes, bias: bool, wanted: &[bool]) -> Memory {
    let m = of.rows;
    let (statistics, needs) = if form.fused {
        let (kept, needs) = of.fused(form, wanted, CHUNK, 0);
        (if kept > 0 { kept + form.of(m, 2) } else { 0 }, needs)
    } else {
        // The logarithm of the sum, the target's logit and place, and the columns of a bias.
        let columns = if form.size == 4 { 3 } else { 1 };
        let of_bias = if bias {
            form.of(columns, of.vocabulary)
        } else {
            0
        };
        let needs = of.composed(form, bias, LOGITS);
        (form.statistics(m, 2) + of_bias, needs)
    };
    facts::memory(form, m, bias, statistics, needs)
}
