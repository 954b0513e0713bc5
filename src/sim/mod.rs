//! Sampled training on bandits: datasets, minibatches, SGD and Adam, many seeds at once.
//!
//! Two ideas make it fast while the losses stay generic. A minibatch on a bandit is a multiset, so
//! the distinct (x, y, y′, label) tuples are evaluated once and weighted by their counts. And seeds
//! are rows: one tape evaluates the tuples of a whole block of seeds.

mod batches;
pub mod folder;
mod learner;
pub(crate) mod log_linear;
pub mod multitask;
mod optimizer;
pub mod phases;
mod plan;
mod recording;
pub(crate) mod share;
mod trained;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

pub use optimizer::Optimizer;
pub use trained::{Gradient, Parameters, Trained, tables};

use crate::bandit::Problem;
use crate::error::{Error, Result};
use crate::loss::{InputKind, Objective, Table};
use crate::observer::Work;
use batches::{Data, Tuples};
use learner::Learner;

/// Settings of a sampled training run.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Objectives, all trained on the same data in the same order.
    pub objectives: Vec<Objective>,
    /// Number of seeds.
    pub seeds: usize,
    /// Seed (the key) of all random streams; runs of another key are independent.
    pub key: u64,
    /// Pairs in each seed's dataset.
    pub samples: usize,
    /// Pairs in a minibatch.
    pub batch: usize,
    /// Passes over the dataset.
    pub epochs: usize,
    /// True to drop a last, smaller minibatch.
    pub drop_last: bool,
    /// Optimizer.
    pub optimizer: Optimizer,
    /// Worker threads; the rows do not depend on it.
    pub threads: usize,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Objective trained.
    pub objective: Objective,
    /// Seed, from 0.
    pub seed: usize,
    /// Epochs done; 0 is the untrained policy.
    pub epoch: usize,
    /// `J(π*) − J(π)`.
    pub regret: f64,
}

/// Most seeds that share a tape: beyond it the arrays fall out of the fastest cache.
const BLOCK: usize = 32;

impl Config {
    /// Steps of each training run.
    pub fn steps(&self) -> usize {
        self.epochs * self.steps_per_epoch()
    }

    fn steps_per_epoch(&self) -> usize {
        if self.drop_last {
            self.samples / self.batch
        } else {
            self.samples.div_ceil(self.batch)
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// What does not, and what would.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("seeds", self.seeds),
            ("samples", self.samples),
            ("batch", self.batch),
            ("threads", self.threads),
            ("objectives", self.objectives.len()),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, n)| *n == 0) {
            return Err(Error::invalid(name, "it is 0", "ask for at least one"));
        }
        let most = [
            ("seeds", self.seeds, 1_000_000),
            ("samples", self.samples, 100_000_000),
            ("epochs", self.epochs, 1_000_000_000),
            ("threads", self.threads, 1024),
        ];
        if let Some((name, n, most)) = most.into_iter().find(|(_, n, most)| n > most) {
            let problem = format!("{n} is more than can be run");
            return Err(Error::invalid(name, problem, format!("use at most {most}")));
        }
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = self.objectives.iter().find(|&&o| !seen.insert(o)) {
            let problem = format!("{} is named twice", twice.name());
            return Err(Error::invalid("objective", problem, "name each once"));
        }
        if let Some(unfit) = self.objectives.iter().find(|o| !trainable(**o)) {
            let all = Objective::ALL.into_iter().filter(|&o| trainable(o));
            let names: Vec<_> = all.map(Objective::name).collect();
            return Err(Error::invalid(
                "objective",
                format!("{} is not trained by sampling pairs", unfit.name()),
                format!("use one of {}", names.join(", ")),
            ));
        }
        if self.steps_per_epoch() == 0 {
            return Err(Error::invalid(
                "batch",
                format!(
                    "{} is more than the {} samples and the last batch is dropped",
                    self.batch, self.samples
                ),
                "use a smaller batch, or keep the last one",
            ));
        }
        self.optimizer.check()
    }
}

/// True if sampled pairs are all an objective needs: no value to learn beside the policy, no ratings, lists or
/// centring.
pub fn trainable(objective: Objective) -> bool {
    let spec = objective.spec();
    let pairs = !matches!(spec.inputs, InputKind::Rated | InputKind::Lists);
    pairs && spec.self_pairs && spec.value.is_none() && spec.table != Table::CentredScores
}

/// Makes the policies of a block of seeds that an objective is to train.
pub type Make<'a> = dyn Fn(Objective, Range<usize>) -> Result<Box<dyn Trained + 'a>> + Sync + 'a;

/// Trains tables by every objective on every seed. `rows` gets the measurements block by block, always in
/// the order of seed, objective, epoch; `work` advances by epochs (`seeds × epochs` in all), from any
/// thread.
///
/// # Errors
/// A configuration that makes no sense, or an error of `rows`, which also stops the training.
pub fn run(
    problem: &Problem,
    config: &Config,
    rows: impl FnMut(&[Row]) -> Result<()>,
    work: &dyn Work,
) -> Result<()> {
    train(problem, config, None, rows, work)
}

/// [`run`] with other policies than tables: the same data, minibatches and losses.
///
/// # Errors
/// As [`run`], and those of `make` and of what it makes.
pub fn run_with<'a>(
    problem: &'a Problem,
    config: &Config,
    make: &Make<'a>,
    rows: impl FnMut(&[Row]) -> Result<()>,
    work: &dyn Work,
) -> Result<()> {
    train(problem, config, Some(make), rows, work)
}

fn train<'a>(
    problem: &'a Problem,
    config: &Config,
    make: Option<&Make<'a>>,
    mut rows: impl FnMut(&[Row]) -> Result<()>,
    work: &dyn Work,
) -> Result<()> {
    config.check()?;
    // A batch beyond the dataset is the dataset.
    let config = &Config {
        batch: config.batch.min(config.samples),
        ..config.clone()
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.threads)
        .build()
        .map_err(|e| Error::invalid("threads", e.to_string(), "use fewer threads"))?;
    let size = config.seeds.div_ceil(config.threads).min(BLOCK);
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let stop = &stop;
    pool.in_place_scope(|scope| {
        for (index, start) in (0..config.seeds).step_by(size).enumerate() {
            let sender = sender.clone();
            let seeds = start..(start + size).min(config.seeds);
            scope.spawn(move |_| {
                let result = train_block(problem, config, make, seeds, work, stop);
                // The receiver is gone only after an error, when nobody wants the rows.
                let _ = sender.send((index, result));
            });
        }
        drop(sender);
        // Blocks end in any order and are handed on in theirs.
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (index, result) in receiver {
            waiting.insert(index, result);
            while let Some(result) = waiting.remove(&next) {
                next += 1;
                let handed_on = result.and_then(|block| {
                    rows(&block)?;
                    finite(&block, config)
                });
                if let Err(error) = handed_on {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(())
    })
}

/// A run that left the numbers is stopped where it was, with what it did on disk.
fn finite(rows: &[Row], config: &Config) -> Result<()> {
    match rows.iter().find(|row| !row.regret.is_finite()) {
        None => Ok(()),
        Some(row) => Err(Error::invalid(
            "learning rate",
            format!(
                "{} diverged at {:e} (regret {} after epoch {} of seed {})",
                row.objective.name(),
                config.optimizer.lr(),
                row.regret,
                row.epoch,
                row.seed
            ),
            "use a smaller one",
        )),
    }
}

fn train_block<'a>(
    problem: &'a Problem,
    config: &Config,
    make: Option<&Make<'a>>,
    seeds: Range<usize>,
    work: &dyn Work,
    stop: &AtomicBool,
) -> Result<Vec<Row>> {
    let tuples = Tuples::new(problem, config.batch);
    let mut data: Vec<Data> = (seeds.clone())
        .map(|seed| Data::draw(problem, &tuples, config, seed as u64))
        .collect();
    let mut learners = (config.objectives.iter())
        .map(|&objective| Learner::new(problem, objective, &tuples, seeds.clone(), config, make))
        .collect::<Result<Vec<_>>>()?;
    let mut regrets: Vec<Vec<Vec<f64>>> = (learners.iter())
        .map(|learner| Ok(vec![learner.regrets()?]))
        .collect::<Result<_>>()?;
    for _ in 0..config.epochs {
        if stop.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        data.iter_mut().for_each(Data::shuffle);
        for step in 0..config.steps_per_epoch() {
            let start = step * config.batch;
            let end = (start + config.batch).min(config.samples);
            for d in &mut data {
                d.count(start..end);
            }
            for learner in &mut learners {
                learner.step(&data, start..end)?;
            }
        }
        for (regrets, learner) in regrets.iter_mut().zip(&learners) {
            regrets.push(learner.regrets()?);
        }
        work.advance(seeds.len() as u64);
    }
    let mut rows = Vec::with_capacity(seeds.len() * learners.len() * (config.epochs + 1));
    for (at, seed) in seeds.enumerate() {
        for (&objective, regrets) in config.objectives.iter().zip(&regrets) {
            for (epoch, regrets) in regrets.iter().enumerate() {
                rows.push(Row {
                    objective,
                    seed,
                    epoch,
                    regret: regrets[at],
                });
            }
        }
    }
    Ok(rows)
}
