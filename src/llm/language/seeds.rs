//! Transformers in the place of a sim's tables.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::{Bandit, Language, Trained, Training, scores, walk};
use crate::bandit::{Policy, Problem};
use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::heads::{ScalarHead, Scorer};
use crate::llm::model::network::Reduction;
use crate::llm::model::sequence::Sequence;
use crate::llm::tensor::optimizer::{AdamW, Config, sgd};
use crate::llm::tensor::tape::LeafGradients;
use crate::llm::train::step::Runs;
use crate::loss::Objective;
use crate::sim::{self, Gradient, Optimizer};

/// Width of the transformers' residual stream.
pub const WIDTH: usize = 32;

/// Their blocks.
pub const LAYERS: usize = 2;

/// Largest `|ln π − ln π_ref|` of any response at the start.
pub const START: f64 = 1e-6;

/// Rounds of the fit of the start: steps of each, until one is near enough.
const ROUNDS: [usize; 3] = [500, 2_000, 8_000];

/// A bandit over strings with the arms of a problem: the language with as many responses.
///
/// # Errors
/// Prompts that do not all have as many arms, or fewer than two arms.
pub fn spelled(problem: &Problem) -> Result<Bandit> {
    let arms = problem.prompts()[0].arms();
    if let Some(x) = problem.prompts().iter().position(|p| p.arms() != arms) {
        let other = problem.prompts()[x].arms();
        return Err(Error::invalid(
            format!("prompts[{x}]"),
            format!("it has {other} arms and prompt 0 has {arms}; a language has one number"),
            "give every prompt as many, or train tables",
        ));
    }
    if arms < 2 {
        let problem = "it has one arm";
        return Err(Error::invalid("prompts[0]", problem, "give at least two"));
    }
    let (symbols, length) = alphabet(arms);
    let language = Language::with_prompts(symbols, length, problem.prompts().len())?;
    Bandit::new(language, problem.clone())
}

/// V and L of `arms` strings: the shortest with V and L of at least 2 if there are such; else, of up
/// to four strings, those of one symbol; else single symbols, and the empty string.
fn alphabet(arms: usize) -> (u32, usize) {
    let strings = |symbols: usize, length: usize| -> usize {
        (0..=length as u32).map(|l| symbols.saturating_pow(l)).sum()
    };
    let exact = (2..arms)
        .map(|length| {
            let symbols = (2..arms).find(|&v| strings(v, length) >= arms);
            (symbols.unwrap_or(2), length)
        })
        .take_while(|&(_, length)| strings(2, length) <= arms)
        .find(|&(symbols, length)| strings(symbols, length) == arms);
    match exact {
        Some((symbols, length)) => (symbols as u32, length),
        None if arms <= 4 => (1, arms - 1),
        None => (arms as u32 - 1, 1),
    }
}

/// The transformers of a block of seeds, for [`sim::run_with`]; of one seed, for
/// [`continual::run_with`](crate::continual::run_with) and
/// [`multitask::train_with`](crate::sim::multitask::train_with); of the members of one, for
/// [`phases::run_with`](crate::sim::phases::run_with). Each starts from weights of its own
/// seed, at the problem's reference to [`START`]; one of scores at 0, as a table does.
pub struct Seeds<'a> {
    bandit: &'a Bandit,
    sequences: Vec<Sequence>,
    networks: Vec<(Network, Steps)>,
}

enum Network {
    Policy(Decoder),
    Scores(Scorer),
}

enum Steps {
    Adam { adam: Box<AdamW>, lr: f64 },
    Sgd { lr: f64 },
}

impl Network {
    fn trained(&self) -> Trained<'_> {
        match self {
            Self::Policy(decoder) => decoder.into(),
            Self::Scores(scorer) => scorer.into(),
        }
    }
}

impl<'a> Seeds<'a> {
    /// The networks that an objective trains, with those seeds.
    ///
    /// # Errors
    /// A reference that the transformers do not reach, or constants of the optimiser that are out
    /// of range.
    pub fn new(
        bandit: &'a Bandit,
        objective: Objective,
        seeds: Range<usize>,
        optimizer: Optimizer,
    ) -> Result<Self> {
        let network = |seed: usize| {
            let network = if objective.spec().trains_scores() {
                Network::Scores(zero(bandit.language(), seed as u64)?)
            } else {
                Network::Policy(start(bandit, seed as u64)?)
            };
            Ok(network)
        };
        Self::of(
            bandit,
            seeds.map(network).collect::<Result<_>>()?,
            optimizer,
        )
    }

    /// Policies that begin where they are given.
    ///
    /// # Errors
    /// Constants of the optimiser that are out of range.
    pub fn at(bandit: &'a Bandit, starts: Vec<Decoder>, optimizer: Optimizer) -> Result<Self> {
        let networks = starts.into_iter().map(Network::Policy).collect();
        Self::of(bandit, networks, optimizer)
    }

    fn of(bandit: &'a Bandit, networks: Vec<Network>, optimizer: Optimizer) -> Result<Self> {
        let each = networks.into_iter().map(|network| {
            let steps = steps(optimizer, network.trained())?;
            Ok((network, steps))
        });
        Ok(Self {
            bandit,
            sequences: bandit.sequences()?,
            networks: each.collect::<Result<_>>()?,
        })
    }
}

impl sim::Trained for Seeds<'_> {
    fn step(&mut self, gradient: &mut Gradient) -> Result<()> {
        let mut runs = Vec::with_capacity(self.networks.len());
        let mut numbers = Vec::with_capacity(self.networks.len() * self.sequences.len());
        for (network, _) in &self.networks {
            let network = network.trained().network;
            let one = Runs::new(network, Reduction::Sum, &self.sequences, usize::MAX)?;
            numbers.extend_from_slice(&one.numbers().sequences);
            runs.push(one);
        }
        let mut cotangents = vec![0.0; numbers.len()];
        gradient(&numbers, &mut cotangents)?;
        let each = cotangents.chunks_exact(self.sequences.len());
        let gradients = (runs.iter_mut().zip(each).zip(&self.networks))
            .map(|((runs, cotangents), (network, _))| {
                let mut sums = LeafGradients::new(network.trained().network.leaves());
                runs.push(cotangents, &[], &mut sums)?;
                Ok(sums)
            })
            .collect::<Result<Vec<_>>>()?;
        drop(runs);
        for ((network, steps), gradients) in self.networks.iter_mut().zip(&gradients) {
            let parameters = network.trained().parameters;
            match steps {
                Steps::Adam { adam, lr } => adam.step(parameters, gradients, *lr, 1.0)?,
                Steps::Sgd { lr } => sgd(parameters, gradients, *lr, 1.0)?,
            }
        }
        Ok(())
    }

    fn table(&self) -> Result<Vec<f64>> {
        let language = self.bandit.language();
        let each = self.networks.iter().map(|(network, _)| {
            Ok(match network {
                Network::Policy(decoder) => walk(decoder, language)?.log().concat(),
                Network::Scores(scorer) => scores(scorer, language)?.concat(),
            })
        });
        Ok(each.collect::<Result<Vec<_>>>()?.concat())
    }
}

fn steps(optimizer: Optimizer, trained: Trained) -> Result<Steps> {
    Ok(match optimizer {
        Optimizer::Sgd { lr } => Steps::Sgd { lr },
        Optimizer::Adam {
            lr,
            beta1,
            beta2,
            eps,
        } => {
            let config = Config {
                beta1,
                beta2,
                epsilon: eps,
                weight_decay: 0.0,
                decay_vectors: false,
            };
            let adam = Box::new(AdamW::new(trained.parameters, config)?);
            Steps::Adam { adam, lr }
        }
    })
}

fn random(language: &Language, seed: u64) -> Result<Decoder> {
    let architecture = language.architecture(WIDTH, LAYERS);
    Decoder::random(architecture, 0.15, seed, DType::F64, &Device::Cpu)
}

/// A transformer whose scores are all 0.
fn zero(language: &Language, seed: u64) -> Result<Scorer> {
    let head = ScalarHead::Reward;
    let mut decoder = random(language, seed)?;
    head.add(&mut decoder, seed)?;
    let zeros = Tensor::zeros((1, WIDTH), DType::F64, &Device::Cpu)?;
    (decoder.parameters_mut()).set(head.names()[0], &zeros)?;
    Ok(Scorer { decoder, head })
}

/// A transformer at the bandit's reference: random weights, fitted by `½ Σ (ln π − ln π_ref)²` over
/// all responses, so that rare ones are as near as frequent ones.
///
/// # Errors
/// A reference that is not reached to [`START`].
pub fn start(bandit: &Bandit, seed: u64) -> Result<Decoder> {
    let (language, reference) = (bandit.language(), bandit.problem().reference());
    let (sequences, wanted) = (bandit.sequences()?, reference.log().concat());
    let mut left = f64::INFINITY;
    for steps in ROUNDS {
        let model = random(language, seed)?;
        let training = Training {
            steps,
            lr: 5e-3,
            value_lr: 0.0,
            micro_batch: usize::MAX,
        };
        training.descend((&model).into(), None, |_, gradients, _| {
            let mut runs = Runs::new(&model, Reduction::Sum, &sequences, usize::MAX)?;
            let now = runs.numbers().sequences.iter();
            let gaps: Vec<f64> = now.zip(&wanted).map(|(l, w)| l - w).collect();
            runs.push(&gaps, &[], gradients)
        })?;
        left = furthest(&walk(&model, language)?, &reference);
        if left <= START {
            return Ok(model);
        }
    }
    Err(Error::invalid(
        "reference",
        format!("a transformer of width {WIDTH} comes no nearer to it than {left:e} in ln π"),
        "give a problem with fewer or likelier arms, or train tables",
    ))
}

fn furthest(p: &Policy, q: &Policy) -> f64 {
    let rows = p.log().iter().zip(q.log());
    rows.flat_map(|(p, q)| p.iter().zip(q))
        .map(|(p, q)| (p - q).abs())
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandit::{Shape, random_problem};

    #[test]
    fn any_number_of_arms_is_spelled() {
        for (arms, want) in [
            (2, (1, 1)),
            (3, (1, 2)),
            (4, (1, 3)),
            (5, (4, 1)),
            (7, (2, 2)),
            (13, (3, 2)),
            (15, (2, 3)),
            (31, (5, 2)), // and 1 + 2 + 4 + 8 + 16: the shorter
            (40, (3, 3)),
            (41, (40, 1)),
            (121, (3, 4)),
        ] {
            assert_eq!(alphabet(arms), want, "{arms}");
            let shape = Shape {
                prompts: 2,
                arms,
                beta: 1.0,
                reward_scale: 1.0,
            };
            let bandit = spelled(&random_problem(shape, 1).unwrap()).unwrap();
            assert_eq!(bandit.language().responses(), arms);
        }
    }

    #[test]
    fn every_seed_starts_at_the_reference() {
        let shape = Shape {
            prompts: 2,
            arms: 7,
            beta: 1.0,
            reward_scale: 1.0,
        };
        let bandit = spelled(&random_problem(shape, 1).unwrap()).unwrap();
        for seed in 0..3 {
            let model = start(&bandit, seed).unwrap();
            let policy = walk(&model, bandit.language()).unwrap();
            assert!(furthest(&policy, &bandit.problem().reference()) <= START);
        }
    }
}
