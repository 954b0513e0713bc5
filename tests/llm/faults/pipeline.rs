//! A pipeline whose every part can be exchanged.

use candle_core::{DType, Device};
use pistar::Result;
use pistar::bandit::Evidence;
use pistar::llm::internals::model::inference::numbers;
use pistar::llm::internals::tensor::tape::Tape;
use pistar::llm::internals::train::step::Step;
use pistar::llm::language::{
    Bandit, Language, Population, Trained, Training, total_variation, walk,
};
use pistar::llm::model::architecture::Architecture;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::network::{Network, Output, Reduction};
use pistar::llm::model::sequence::{Packed, Predictions, Sequence};
use pistar::llm::text::batch::TextBatch;
use pistar::loss::Objective;
use pistar::solve::fixed_point;

use crate::language::bandit;

pub type Forward<'a> = dyn for<'m> Fn(&'m Decoder, &Tape<'m>, &[&Sequence]) -> Result<Output> + 'a;
pub type Parts<'a> = dyn Fn(TextBatch) -> Vec<TextBatch> + 'a;

/// A pipeline, part by part; the healthy one by default.
pub struct Pipeline<'a> {
    pub objective: Objective,
    /// From sequences to the numbers of their tokens.
    pub forward: &'a Forward<'a>,
    /// From those to the number of a sequence.
    pub reduction: Reduction,
    /// Changes the batch, once.
    pub text: &'a dyn Fn(&mut TextBatch),
    /// Whether the reference moves along.
    pub live: bool,
    /// What is accumulated.
    pub parts: &'a Parts<'a>,
    pub micro_batch: usize,
    /// Changes the model.
    pub architecture: &'a dyn Fn(&mut Architecture),
}

impl Pipeline<'_> {
    pub fn of(objective: Objective) -> Self {
        Self {
            objective,
            forward: &|model, tape, sequences| model.forward(tape, sequences),
            reduction: Reduction::Sum,
            text: &|_| {},
            live: false,
            parts: &|text| vec![text],
            micro_batch: usize::MAX,
            architecture: &|_| {},
        }
    }

    /// How far from the objective's fixed point it ends.
    pub fn distance(&self) -> f64 {
        let language = Language::with_prompts(3, 2, 2).unwrap();
        let mut architecture = language.architecture(32, 1);
        (self.architecture)(&mut architecture);
        let model = Decoder::random(architecture, 0.15, 1, DType::F64, &Device::Cpu).unwrap();
        let bandit: Bandit = bandit(2, &model);
        let evidence = Evidence::population(bandit.problem());
        let want = fixed_point(self.objective, bandit.problem(), &evidence).unwrap();
        let population = Population::new(&bandit, &evidence, self.objective).unwrap();
        let kind = self.objective.spec().inputs;
        let network = Faulty {
            model: &model,
            forward: self.forward,
        };
        let reference = |text: &TextBatch| -> Vec<f64> {
            let all = &text.sequences;
            numbers(&network, self.reduction, all, usize::MAX)
                .unwrap()
                .sequences
        };
        let mut text = population.text().clone();
        text.log_reference = reference(&text);
        (self.text)(&mut text);
        let step = Step {
            kind,
            policy: &network,
            value: None,
            reduction: self.reduction,
            micro_batch: self.micro_batch,
        };
        let training = Training {
            steps: 400,
            lr: 3e-3,
            value_lr: 0.0,
            micro_batch: self.micro_batch,
        };
        let trained = Trained {
            network: &network,
            parameters: model.parameters(),
        };
        let bound = self.objective.bind(&bandit.problem().given()).unwrap();
        let loss = |batch: &_| bound.on_tape(batch);
        let result = training.descend(trained, None, |_, gradients, none| {
            let mut text = text.clone();
            if self.live {
                text.log_reference = reference(&text);
            }
            for part in (self.parts)(text) {
                step.run(&part, loss, gradients, none)?;
            }
            Ok(())
        });
        result.unwrap();
        total_variation(&walk(&model, &language).unwrap(), &want.policy.unwrap())
    }
}

/// A model behind a faulty forward pass.
pub struct Faulty<'a> {
    model: &'a Decoder,
    forward: &'a Forward<'a>,
}

impl Network for Faulty<'_> {
    fn leaves(&self) -> usize {
        self.model.parameters().len()
    }

    fn forward<'a>(&'a self, tape: &Tape<'a>, sequences: &[&Sequence]) -> Result<Output> {
        (self.forward)(self.model, tape, sequences)
    }
}

/// One sequence as the faulty pipeline sees it: what is fed, and the rows that count with their
/// targets.
pub struct Seen {
    pub fed: Vec<u32>,
    pub counted: Vec<(usize, u32)>,
}

impl Seen {
    /// As it should be: the row before each completion token predicts it.
    pub fn right(s: &Sequence) -> Self {
        let (tokens, prompt) = (s.tokens(), s.prompt().len());
        Self {
            fed: tokens[..tokens.len() - 1].to_vec(),
            counted: (prompt..tokens.len()).map(|i| (i - 1, tokens[i])).collect(),
        }
    }
}

/// Sequences end to end, each whole.
pub fn laid(seen: &[Seen]) -> Predictions {
    let packed = Packed::new(seen.iter().map(|s| s.fed.as_slice()));
    let (mut rows, mut targets, mut starts) = (Vec::new(), Vec::new(), vec![0]);
    for (s, start) in seen.iter().zip(packed.starts.iter()) {
        rows.extend(s.counted.iter().map(|(row, _)| (start + row) as u32));
        targets.extend(s.counted.iter().map(|(_, target)| *target));
        starts.push(rows.len());
    }
    Predictions {
        packed,
        rows: rows.into(),
        targets: targets.into(),
        starts: starts.into(),
    }
}

pub fn run<'m>(model: &'m Decoder, tape: &Tape<'m>, seen: Vec<Seen>) -> Result<Output> {
    let predictions = laid(&seen);
    let pieces = model.log_probs(tape, &predictions)?;
    Ok(Output {
        pieces,
        starts: predictions.starts,
        values: None,
    })
}

/// Says of a closure that it is a forward pass.
pub fn forward<F>(f: F) -> F
where
    F: for<'m> Fn(&'m Decoder, &Tape<'m>, &[&Sequence]) -> Result<Output>,
{
    f
}

/// A forward pass that sees every sequence so.
pub fn seen_as(
    see: impl Fn(&Sequence) -> Seen,
) -> impl for<'m> Fn(&'m Decoder, &Tape<'m>, &[&Sequence]) -> Result<Output> {
    move |model, tape, sequences| {
        let seen = sequences.iter().map(|s| see(s)).collect();
        run(model, tape, seen)
    }
}
