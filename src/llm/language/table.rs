//! Tables behind the interface of networks: the tabular bandit, and values of prompts.

use candle_core::{DType, Device, Tensor};

use super::Language;
use crate::bandit::log_sum_exp;
use crate::error::{Error, Result};
use crate::llm::model::network::{Network, Output};
use crate::llm::model::sequence::Sequence;
use crate::llm::tensor::parameters::{Id, Parameters};
use crate::llm::tensor::tape::Tape;

/// Meaning of a table's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// A logit of every response: a policy, `ln π = logit − ln Σ e^logit`.
    Logits,
    /// A score of every response.
    Scores,
    /// A value of every prompt.
    Values,
    /// One value of all prompts.
    Value,
}

/// A table with one number per response, per prompt or in all, that is trained as a network is. It
/// looks responses up; it shares nothing between them.
#[derive(Debug)]
pub struct Table {
    language: Language,
    cells: Cells,
    parameters: Parameters,
    numbers: Id,
}

impl Table {
    /// A table in f64 that begins with those numbers, prompts end to end.
    ///
    /// # Errors
    /// Not as many numbers as cells.
    pub fn new(language: &Language, cells: Cells, numbers: &[f64]) -> Result<Self> {
        let prompts = language.prompts().len();
        let wanted = match cells {
            Cells::Logits | Cells::Scores => prompts * language.responses(),
            Cells::Values => prompts,
            Cells::Value => 1,
        };
        if numbers.len() != wanted {
            let problem = format!("it has {} numbers", numbers.len());
            let remedy = format!("give {wanted}");
            return Err(Error::invalid("table", problem, remedy));
        }
        let mut parameters = Parameters::new(DType::F64, &Device::Cpu);
        let tensor = Tensor::from_slice(numbers, numbers.len(), &Device::Cpu)?;
        let numbers = parameters.add("table", &tensor)?;
        Ok(Self {
            language: language.clone(),
            cells,
            parameters,
            numbers,
        })
    }

    /// Its numbers as a parameter.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Its numbers.
    ///
    /// # Errors
    /// None on a CPU.
    pub fn numbers(&self) -> Result<Vec<f64>> {
        let node = self.parameters.node(&Tape::idle(), self.numbers);
        Ok(node.value().to_vec1()?)
    }

    /// The cell of a sequence.
    fn cell(&self, sequence: &Sequence) -> Result<usize> {
        let unknown = |what| Error::invalid("sequence", what, "use the language's own");
        let x = (self.language.prompts().iter())
            .position(|p| p == sequence.prompt())
            .ok_or_else(|| unknown("its prompt is not one of the language"))?;
        match self.cells {
            Cells::Value => Ok(0),
            Cells::Values => Ok(x),
            Cells::Logits | Cells::Scores => {
                let arm = self.language.arm(sequence.completion());
                let arm = arm.ok_or_else(|| unknown("its completion is not a response"))?;
                Ok(x * self.language.responses() + arm)
            }
        }
    }
}

impl Network for Table {
    fn leaves(&self) -> usize {
        self.parameters.len()
    }

    fn has_token_pieces(&self) -> bool {
        false
    }

    fn forward<'a>(&'a self, tape: &Tape<'a>, sequences: &[&Sequence]) -> Result<Output> {
        let table = self.parameters.node(tape, self.numbers);
        let mut numbers: Vec<f64> = table.value().to_vec1()?;
        let arms = self.language.responses();
        if self.cells == Cells::Logits {
            for row in numbers.chunks_mut(arms) {
                let total = log_sum_exp(row);
                row.iter_mut().for_each(|l| *l -= total);
            }
        }
        let cells: Vec<usize> = sequences
            .iter()
            .map(|s| self.cell(s))
            .collect::<Result<_>>()?;
        let seen: Vec<f64> = cells.iter().map(|&c| numbers[c]).collect();
        let seen = Tensor::from_vec(seen, cells.len(), &Device::Cpu)?;
        let starts: Vec<usize> = (0..=cells.len()).collect();
        let logits = self.cells == Cells::Logits;
        let pieces = tape.record(seen, &[&table], || {
            let table = table.target();
            Box::new(move |gradient, sums| {
                let gradient: Vec<f64> = gradient.to_vec1()?;
                let mut of_cells = vec![0.0; numbers.len()];
                (cells.iter().zip(&gradient)).for_each(|(&c, g)| of_cells[c] += g);
                if logits {
                    // ∂ ln π(a)/∂ logit(b) = [a = b] − π(b).
                    for (of_row, log) in of_cells.chunks_mut(arms).zip(numbers.chunks(arms)) {
                        let sum: f64 = of_row.iter().sum();
                        (of_row.iter_mut().zip(log)).for_each(|(g, l)| *g -= sum * l.exp());
                    }
                }
                let count = of_cells.len();
                sums.add(&table, Tensor::from_vec(of_cells, count, &Device::Cpu)?)
            })
        });
        Ok(Output {
            pieces,
            starts: starts.into(),
            values: None,
        })
    }
}
