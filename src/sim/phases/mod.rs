//! BPO by sampling (Xu et al. 2024, Algorithm 1): training in phases on pairs of the policy's own.
//!
//! Of T updates, each phase has K = T/F. At its start the behaviour policy becomes the policy; all pairs of the
//! phase are drawn from it, labelled once by the Bradley–Terry model and used once, so a run spends T × batch
//! labels whatever F. F = 1 is offline training, F = T on-policy. [`Pairs::Expected`] has all pairs with their
//! probabilities in the place of drawn ones: trained to its end, a phase is then [the solved
//! one](crate::solve::bpo::phases).
//!
//! Algorithm 1's loop is read as `t < T`, and its store of pairs as emptied in every phase
//! (M = K × batch); read otherwise there would be a phase after the last, or pairs of an older
//! policy than the reference.
//!
//! Of an ensemble (section 4) each member has its own loss on the same pairs and its own optimiser. The policy,
//! which writes the pairs, is the reference and is judged, is the [merged](crate::solve::bpo::merge) one, of
//! the mean of the members' logits: on a table that is the mean of the products `B A`. The paper merges
//! adapters of a language model and leaves unsaid their rank, scale and targets, and whether members see the
//! same pairs and the merged reference; here they do.

mod annotator;
mod judge;
mod members;

use rayon::prelude::*;

use super::{Optimizer, Trained};
use crate::bandit::{Policy, Problem, Prompt};
use crate::error::{Error, Result};
use crate::solve::bpo::{Inner, phase_problem};
use annotator::{Annotator, add_gradient};
use judge::Judge;
use members::Tables;

/// Reference policy of the loss's log-ratios.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reference {
    /// The behaviour policy of the phase: BPO.
    Behaviour,
    /// The policy at the start throughout: online training without BPO, the control.
    Static,
    /// An average of past logits, `θ′ ← τθ + (1 − τ)θ′` after every update (eq. 6).
    Average {
        /// τ: 0 is [`Static`](Self::Static); 1 is the policy itself, so with one update a phase
        /// [`Behaviour`](Self::Behaviour).
        tau: f64,
    },
    /// A policy that is given, throughout.
    Given(Policy),
    /// The policy of an on-policy run (F = T) of BPO with DPO, throughout: the paper's "golden" reference. That run
    /// comes before, of every seed, with the same optimiser and number of updates; its pairs are its own, and its
    /// labels are not counted.
    Golden,
}

/// Pairs of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// So many that are drawn and labelled.
    Drawn(usize),
    /// All, weighted with their probabilities: the expectation of the others, which costs no label.
    Expected,
}

/// Members that are trained side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ensemble {
    /// L.
    pub members: usize,
    /// Rank r of the change `B A` of its logits that a table is trained by, at most the number of arms; every
    /// member draws an A of its own, and B begins at 0. None: a logit of every arm, in which members of one
    /// seed do not differ.
    pub rank: Option<usize>,
}

impl Default for Ensemble {
    /// One member, with a logit of every arm.
    fn default() -> Self {
        Self {
            members: 1,
            rank: None,
        }
    }
}

/// Settings of a run of BPO.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The loss.
    pub inner: Inner,
    /// Its reference.
    pub reference: Reference,
    /// T, optimiser steps in all.
    pub updates: usize,
    /// F, a divisor of T.
    pub phases: usize,
    /// Pairs of an update.
    pub pairs: Pairs,
    /// What is trained.
    pub ensemble: Ensemble,
    /// Updates between rows; the first and the last policy always get one.
    pub every: usize,
    /// Optimizer; its moments outlive a phase.
    pub optimizer: Optimizer,
    /// Number of seeds.
    pub seeds: usize,
    /// Seed (the key) of all random streams.
    pub key: u64,
    /// Worker threads; the rows do not depend on it.
    pub threads: usize,
}

/// One measurement of one seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Seed, from 0.
    pub seed: usize,
    /// Updates done.
    pub update: usize,
    /// Labels spent: the annotation budget so far.
    pub labels: usize,
    /// `J(π*) − J(π)` with the problem's β and initial reference.
    pub regret: f64,
    /// `E_π[R]`, the true reward.
    pub reward: f64,
    /// Probability that a response of π is preferred to one of the initial reference.
    pub win_rate: f64,
}

impl Config {
    /// Updates of a phase, K.
    fn length(&self) -> usize {
        self.updates / self.phases
    }

    /// Labels spent in so many updates.
    fn labels(&self, updates: usize) -> usize {
        match self.pairs {
            Pairs::Drawn(n) => updates * n,
            Pairs::Expected => 0,
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// What does not, and what would.
    pub fn check(&self) -> Result<()> {
        let batch = match self.pairs {
            Pairs::Drawn(n) => n,
            Pairs::Expected => 1,
        };
        let counts = [
            ("updates", self.updates, 1_000_000_000),
            ("phases", self.phases, 1_000_000_000),
            ("batch", batch, 100_000_000),
            ("members", self.ensemble.members, 1000),
            ("rank", self.ensemble.rank.unwrap_or(1), 20_000),
            ("every", self.every, 1_000_000_000),
            ("seeds", self.seeds, 1_000_000),
            ("threads", self.threads, 1024),
        ];
        for (name, n, most) in counts {
            if !(1..=most).contains(&n) {
                let problem = format!("it is {n}");
                return Err(Error::invalid(
                    name,
                    problem,
                    format!("ask for 1 to {most}"),
                ));
            }
        }
        if !self.updates.is_multiple_of(self.phases) {
            return Err(Error::invalid(
                "phases",
                format!(
                    "{} updates cannot be shared by {} phases equally",
                    self.updates, self.phases
                ),
                "use a number of phases that divides the number of updates",
            ));
        }
        if let Reference::Average { tau } = self.reference
            && !(0.0..=1.0).contains(&tau)
        {
            let problem = format!("it is {tau}");
            return Err(Error::invalid("tau", problem, "give a number from 0 to 1"));
        }
        self.optimizer.check()
    }
}

/// Makes the members of a seed, each with as many numbers as the problem has arms, all at the reference.
pub type Make<'a> = dyn Fn(usize) -> Result<Box<dyn Trained + 'a>> + Sync + 'a;

/// Trains tables, every seed, and returns the rows in the order of seed, update.
///
/// # Errors
/// A configuration that makes no sense, more than 20,000 arms, or a run that diverges.
pub fn run(problem: &Problem, config: &Config) -> Result<Vec<Row>> {
    measured(problem, config, &tables(problem, config)?)
}

/// [`run`] with other policies than tables: pairs from the same random streams, the same losses.
///
/// # Errors
/// As [`run`], a rank, and those of `make` and of what it makes.
pub fn run_with(problem: &Problem, config: &Config, make: &Make) -> Result<Vec<Row>> {
    unranked(config)?;
    measured(problem, config, make)
}

/// The policies of every seed after each phase, of tables.
///
/// # Errors
/// As [`run`].
pub fn policies(problem: &Problem, config: &Config) -> Result<Vec<Vec<Policy>>> {
    phase_by_phase(problem, config, &tables(problem, config)?)
}

/// [`policies`] of others than tables.
///
/// # Errors
/// As [`run_with`].
pub fn policies_with(problem: &Problem, config: &Config, make: &Make) -> Result<Vec<Vec<Policy>>> {
    unranked(config)?;
    phase_by_phase(problem, config, make)
}

fn unranked(config: &Config) -> Result<()> {
    match config.ensemble.rank {
        None => Ok(()),
        Some(rank) => Err(Error::invalid(
            "rank",
            format!("it is {rank}, and what is trained is no table"),
            "leave it out",
        )),
    }
}

fn tables<'a>(
    problem: &'a Problem,
    config: &'a Config,
) -> Result<impl Fn(usize) -> Result<Box<dyn Trained + 'a>> + Sync + 'a> {
    let most = problem.prompts().iter().map(Prompt::arms).max();
    let most = most.unwrap_or(0);
    if let Some(rank) = config.ensemble.rank.filter(|&rank| rank > most) {
        return Err(Error::invalid(
            "rank",
            format!("{rank} is more than the {most} arms of any prompt"),
            format!("use at most {most}"),
        ));
    }
    Ok(|seed| Ok(Box::new(Tables::new(problem, config, seed)) as Box<dyn Trained>))
}

fn measured(problem: &Problem, config: &Config, make: &Make) -> Result<Vec<Row>> {
    let judge = Judge::new(problem)?;
    let each = seeds(config, |seed| {
        let mut rows = Vec::new();
        Run::new(problem, config, make, seed).train(|done, policy| {
            if done.is_multiple_of(config.every) || done == config.updates {
                let row = judge.row(policy, seed, done, config.labels(done));
                finite(config, row.regret, seed, done)?;
                rows.push(row);
            }
            Ok(())
        })?;
        Ok(rows)
    })?;
    Ok(each.concat())
}

fn phase_by_phase(problem: &Problem, config: &Config, make: &Make) -> Result<Vec<Vec<Policy>>> {
    seeds(config, |seed| {
        let mut all = Vec::with_capacity(config.phases);
        Run::new(problem, config, make, seed).train(|done, policy| {
            if done > 0 && done.is_multiple_of(config.length()) {
                finite(config, problem.regret(policy), seed, done)?;
                all.push(policy.clone());
            }
            Ok(())
        })?;
        Ok(all)
    })
}

/// What `work` makes of every seed, in their order.
fn seeds<R: Send>(
    config: &Config,
    work: impl Fn(usize) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    config.check()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.threads)
        .build()
        .map_err(|e| Error::invalid("threads", e.to_string(), "use fewer threads"))?;
    let all: Vec<Result<R>> =
        pool.install(|| (0..config.seeds).into_par_iter().map(work).collect());
    all.into_iter().collect()
}

fn finite(config: &Config, regret: f64, seed: usize, done: usize) -> Result<()> {
    if regret.is_finite() {
        return Ok(());
    }
    Err(Error::invalid(
        "learning rate",
        format!(
            "{} diverged at {:e} (regret {regret} after update {done} of seed {seed})",
            config.inner.name(),
            config.optimizer.lr()
        ),
        "use a smaller one",
    ))
}

/// Algorithm 1 on one seed.
struct Run<'a, 'm> {
    problem: &'a Problem,
    config: &'a Config,
    make: &'a Make<'m>,
    seed: usize,
    /// Index of its random streams.
    stream: u64,
}

impl<'a, 'm> Run<'a, 'm> {
    fn new(problem: &'a Problem, config: &'a Config, make: &'a Make<'m>, seed: usize) -> Self {
        Self {
            problem,
            config,
            make,
            seed,
            stream: seed as u64,
        }
    }

    /// Gives `watch` the policy at the start, after every phase, and at the updates that get a row; returns the last.
    fn train(&self, mut watch: impl FnMut(usize, &Policy) -> Result<()>) -> Result<Policy> {
        let Self {
            problem, config, ..
        } = *self;
        let mut members = (self.make)(self.seed)?;
        let mut policy = self.merged(&*members)?;
        let mut reference = match &config.reference {
            Reference::Given(given) => {
                phase_problem(problem, given)?;
                given.log().to_vec()
            }
            Reference::Golden => self.golden()?.log().to_vec(),
            Reference::Behaviour | Reference::Static | Reference::Average { .. } => {
                policy.log().to_vec()
            }
        };
        let arms: usize = reference.iter().map(Vec::len).sum();
        let mut annotator = Annotator::new(problem, config, self.stream);
        watch(0, &policy)?;
        for update in 0..config.updates {
            if update.is_multiple_of(config.length()) {
                annotator.follow(&policy);
                if config.reference == Reference::Behaviour {
                    reference.clone_from_slice(policy.log());
                }
            }
            let pairs = annotator.batch();
            members.step(&mut |log, gradient| {
                let members = log.chunks_exact(arms).zip(gradient.chunks_exact_mut(arms));
                for (log, gradient) in members {
                    add_gradient(problem, config.inner, &pairs, log, &reference, gradient)?;
                }
                Ok(())
            })?;
            let done = update + 1;
            let average = match config.reference {
                Reference::Average { tau } => Some(tau),
                _ => None,
            };
            let seen = done.is_multiple_of(config.every) || done == config.updates;
            if average.is_some() || seen || done.is_multiple_of(config.length()) {
                policy = self.merged(&*members)?;
                watch(done, &policy)?;
            }
            if let Some(tau) = average {
                follow(&mut reference, &policy, tau);
            }
        }
        Ok(policy)
    }

    /// The policy of the mean of the members' logits.
    fn merged(&self, trained: &dyn Trained) -> Result<Policy> {
        let table = trained.table()?;
        let arms: usize = self.problem.prompts().iter().map(Prompt::arms).sum();
        let members = self.config.ensemble.members;
        if table.len() != members * arms {
            return Err(Error::invalid(
                "members",
                format!(
                    "{} numbers were made of {members} and {arms} arms",
                    table.len()
                ),
                "make as many policies of the problem's arms as the ensemble has members",
            ));
        }
        let mut each = table.chunks_exact(arms);
        let mut mean = each.next().map_or(Vec::new(), <[f64]>::to_vec);
        for member in each {
            mean.iter_mut().zip(member).for_each(|(m, l)| *m += l);
        }
        let count = members as f64;
        mean.iter_mut().for_each(|m| *m /= count);
        let mut rest = mean.as_slice();
        let rows = self.problem.prompts().iter().map(|prompt| {
            let (head, tail) = rest.split_at(prompt.arms());
            rest = tail;
            head.to_vec()
        });
        Ok(Policy::softmax(&rows.collect::<Vec<_>>()))
    }

    /// The golden reference of this seed.
    fn golden(&self) -> Result<Policy> {
        let config = Config {
            inner: Inner::Dpo,
            reference: Reference::Behaviour,
            phases: self.config.updates,
            ..self.config.clone()
        };
        let run = Run {
            config: &config,
            // Seeds count from 0: no other run has these streams.
            stream: u64::MAX - self.seed as u64,
            ..*self
        };
        run.train(|_, _| Ok(()))
    }
}

/// `θ′ ← τθ + (1 − τ)θ′`; τ = 0 and 1 leave and take the numbers as they are.
fn follow(reference: &mut [Vec<f64>], policy: &Policy, tau: f64) {
    if tau == 1.0 {
        reference.clone_from_slice(policy.log());
        return;
    }
    for (r, p) in (reference.iter_mut().flatten()).zip(policy.log().iter().flatten()) {
        *r += tau * (p - *r);
    }
}
