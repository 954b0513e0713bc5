//! Completions that the policy writes itself: drawn phase by phase, learned from, and kept.
//!
//! ```text
//! prompts → phase: completions, scores, preferences, ln π_old, ln π_ref → file → steps of the phase → next phase
//! ```
//!
//! What a phase drew is written whole before its first step, and never drawn again: a run that goes on reads it.

mod check;
mod demonstrations;
mod draw;
mod feed;
mod gae;
mod phases;
mod rewarding;
mod row;
mod running;

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};

use super::enums::{Annotator, OldNumbers, ReferenceSource};
use super::settings::Settings;
use super::source::{Networks, Source};
use crate::error::{Error, Result};
use crate::llm::sample::generate::{Prompt, Sampling};
use crate::llm::sample::reward::Weighted;
use crate::llm::text::data::Ordering;
use crate::llm::text::example::Example;
use crate::llm::text::objective::TextObjective;
use crate::llm::text::tokenizer::Tokenizer;
use crate::loss::{Column, InputKind};
use crate::observer::Observer;
use crate::random::{Purpose, Stream};

use demonstrations::Demonstration;
pub(in crate::llm) use demonstrations::read as demonstrations;
pub(in crate::llm) use feed::Feed;
pub use gae::Gae;
pub use phases::Phases;
use rewarding::Rewarding;
pub(super) use row::FOLDER;
use row::{Phase, Row};
use running::Running;

/// What a row must have to be learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preference {
    /// Nothing.
    None,
    /// Pairs of unlike texts, which that annotator labels.
    Labelled(Annotator),
    /// A completion above a reward.
    Above,
}

/// Source of examples that the policy writes.
pub struct Rollouts {
    prompts: Vec<Prompt>,
    /// What somebody else wrote to each prompt; none where there is no second source.
    demonstrations: Vec<Demonstration>,
    tokenizer: Tokenizer,
    /// Tokens that end a completion.
    ends: Vec<u32>,
    reward: Weighted,
    sampling: Sampling,
    phases: Phases,
    feed: Feed,
    preference: Preference,
    /// Prompts in a step.
    batch: usize,
    per_epoch: u64,
    shuffle: bool,
    seed: u64,
    redraws: u64,
    replay: u64,
    micro_batch: usize,
    /// Sequences that are generated at once.
    generation_batch: usize,
    beta: f64,
    /// Rewards of completions to what the objective takes.
    rewarding: Rewarding,
    /// ln π_old is that of the training forward.
    recompute: bool,
    /// Numbers are stored token by token.
    tokens: bool,
    /// State of the rewards after the phase that was drawn last, and which that was.
    last: Option<(u64, Running, Option<f64>)>,
    /// Losses take ln π at the sampling temperature.
    tempered: bool,
    /// The run's folder; without one, phases are in memory alone.
    dir: Option<PathBuf>,
    /// Past phases that are learned from too, and the one that is going on, with their numbers.
    pool: VecDeque<(u64, Phase)>,
}

impl Rollouts {
    /// Those of [resolved](Settings::resolve) settings, on prompts and with a reward that were read; phases are kept
    /// in the run's folder, if there is one.
    ///
    /// # Errors
    /// No prompt, or phases that do not suit the number of steps.
    pub fn new(
        settings: &Settings,
        objective: &TextObjective,
        prompts: Vec<Prompt>,
        tokenizer: Tokenizer,
        reward: Weighted,
        dir: Option<&Path>,
    ) -> Result<Self> {
        if prompts.is_empty() {
            return Err(Error::invalid(
                "prompts",
                "there are none",
                "give a file with one or more",
            ));
        }
        let behaviour = settings.reference == ReferenceSource::Behaviour;
        let reads_old = objective.reads(Column::LogOld);
        let tokens = objective.kind() == InputKind::Tokens;
        let recompute = settings.old == OldNumbers::Recomputed;
        // The sampler's numbers are those of temperature 1.
        let apart = objective.tempered() && settings.temperature != 1.0;
        Ok(Self {
            phases: Phases::of_run(settings, prompts.len())?,
            per_epoch: Phases::per_epoch(settings, prompts.len()),
            batch: settings.rows_of_a_step(),
            feed: Feed::new(settings, objective),
            preference: match (objective.kind(), settings.above) {
                (InputKind::LabelledPairs, _) => Preference::Labelled(settings.annotator),
                (_, Some(_)) => Preference::Above,
                _ => Preference::None,
            },
            sampling: Sampling {
                temperature: settings.temperature,
                max_new_tokens: settings.max_new_tokens,
                samples: settings.completions.unwrap_or(1),
                ..Sampling::default()
            },
            prompts,
            demonstrations: Vec::new(),
            ends: tokenizer.ends().to_vec(),
            tokenizer,
            reward,
            shuffle: settings.shuffle,
            seed: settings.seed,
            redraws: settings.redraws,
            replay: settings.replay as u64,
            micro_batch: settings.micro_batch_tokens,
            generation_batch: settings.generation_batch,
            beta: objective.beta(),
            recompute: recompute && (reads_old || behaviour || apart || tokens),
            tokens,
            last: None,
            rewarding: Rewarding {
                normalise: settings.normalise_rewards,
                missing_eos_penalty: settings.missing_eos_penalty,
                estimator: objective.has_critic().then_some(Gae {
                    discount: settings.discount,
                    lambda: settings.gae_lambda,
                }),
                whiten: settings.whiten_advantages,
                penalised: objective.takes_advantages(),
                kl_target: settings.kl_target,
            },
            tempered: objective.tempered(),
            dir: dir.map(Path::to_path_buf),
            pool: VecDeque::new(),
        })
    }

    /// The same with a second source: what somebody else wrote to each prompt.
    #[must_use]
    pub(super) fn beside(mut self, demonstrations: Vec<Demonstration>) -> Self {
        // The sampler did not write them.
        self.recompute |= !demonstrations.is_empty();
        self.demonstrations = demonstrations;
        self
    }

    /// The same where other tokens end a completion than the tokenizer says.
    #[must_use]
    pub fn ending_at(mut self, ends: Vec<u32>) -> Self {
        self.ends = ends;
        self
    }

    /// Its phases.
    pub fn phases(&self) -> Phases {
        self.phases
    }

    /// Number of prompts.
    pub fn prompts(&self) -> usize {
        self.prompts.len()
    }

    /// The prompts of a phase, without replacement in each pass over them.
    fn indices(&self, phase: u64) -> Result<Vec<usize>> {
        let (count, batch) = (self.prompts.len() as u64, self.batch as u64);
        let from = self.phases.passes_before(phase) * batch;
        let to = from + self.phases.pass(phase) * batch;
        let mut epoch: Option<(u64, Vec<usize>)> = None;
        (from..to)
            .map(|row| {
                let (of, at) = (row / count, (row % count) as usize);
                if epoch.as_ref().is_none_or(|(last, _)| *last != of) {
                    epoch = Some((of, self.order(of)?));
                }
                Ok(epoch.as_ref().map_or(0, |(_, order)| order[at]))
            })
            .collect()
    }

    /// The prompts in the order of a pass over all.
    fn order(&self, epoch: u64) -> Result<Vec<usize>> {
        let count = self.prompts.len();
        if !self.shuffle {
            return Ok((0..count).collect());
        }
        let ordering = Ordering {
            batch: count,
            seed: self.seed,
            drop_last: false,
            bucket: None,
        };
        let order = ordering.batches(epoch, count, None)?;
        Ok(order.iter().flatten().map(|&row| row as usize).collect())
    }

    /// The rows of the step after `done` others.
    fn rows(&self, done: u64) -> Vec<&Row> {
        let phase = self.phases.of(done);
        let pool: Vec<&Row> = self.pool.iter().flat_map(|(_, p)| &p.rows).collect();
        let (within, steps) = (
            done - self.phases.range(phase).start,
            self.phases.pass(phase),
        );
        let (pass, at) = (within / steps, (within % steps) as usize);
        let mut order: Vec<usize> = (0..pool.len()).collect();
        if pass > 0 || self.replay > 0 {
            // A stream for each pass: there are fewer than 2³² in a phase.
            let index = (phase << 32) | pass;
            Stream::new(self.seed, Purpose::Phases, index).shuffle(&mut order);
        }
        let steps = steps as usize;
        // Where some were left out, steps are smaller, and alike.
        let all = order.len().min(self.batch * steps);
        let (from, to) = (at * all / steps, (at + 1) * all / steps);
        let picked = if from == to {
            &order[from..=from]
        } else {
            &order[from..to]
        };
        picked.iter().map(|&i| pool[i]).collect()
    }
}

impl fmt::Display for Rollouts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (phases, samples) = (self.phases, self.sampling.samples);
        let steps = phases.steps();
        let of = phases.range(0).end;
        write!(
            f,
            "{} prompts, {samples} completions each; {steps} steps",
            self.prompts.len()
        )?;
        match phases.count() {
            1 => write!(f, " in one phase"),
            count if steps == count => write!(f, ", each on its own completions"),
            count => {
                write!(f, " in {count} phases of {of}")?;
                let last = phases.range(count - 1);
                match last.end - last.start {
                    last if last == of => Ok(()),
                    last => write!(f, ", the last of {last}"),
                }
            }
        }
    }
}

impl Source for Rollouts {
    fn steps(&self) -> u64 {
        self.phases.steps()
    }

    fn per_epoch(&self) -> u64 {
        self.per_epoch
    }

    fn examples(&self, done: u64) -> Result<Vec<Example>> {
        let rows = self.rows(done);
        let step: Vec<(&[u32], &Row)> = (rows.into_iter())
            .map(|row| (&self.prompts[row.index].tokens[..], row))
            .collect();
        self.feed.examples(&step)
    }

    fn prepare(
        &mut self,
        done: u64,
        networks: &Networks,
        observer: &dyn Observer,
    ) -> Result<Vec<(String, f64)>> {
        let phase = self.phases.of(done);
        let first = phase.saturating_sub(self.replay);
        self.pool.retain(|(of, _)| (first..=phase).contains(of));
        for of in first..=phase {
            if self.pool.iter().any(|(there, _)| *there == of) {
                continue;
            }
            let read = match &self.dir {
                Some(dir) => Phase::read(dir, of)?,
                None => None,
            };
            let found = match (read, &self.dir) {
                (Some(found), _) => self.fits(found, of)?,
                (None, dir) if of == phase && done == self.phases.range(phase).start => {
                    let dir = dir.clone();
                    let found = self.draw(of, networks, observer)?;
                    if let Some(dir) = dir {
                        found.write(&dir, of)?;
                    }
                    found
                }
                (None, _) => return Err(gone(of)),
            };
            let mut found = found;
            self.rewarding.give(&mut found)?;
            self.pool.push_back((of, found));
        }
        let begins = done == self.phases.range(phase).start;
        let last = self.pool.back().filter(|_| begins);
        Ok(last.map_or(Vec::new(), |(_, phase)| phase.metrics.clone()))
    }
}

impl Rollouts {
    /// A phase that was read, if its rows are of these prompts.
    fn fits(&self, found: Phase, phase: u64) -> Result<Phase> {
        let fits = |row: &Row| {
            let prompt = self.prompts.get(row.index);
            prompt.is_some_and(|prompt| prompt.text == row.prompt)
        };
        if !found.rows.is_empty() && found.rows.iter().all(fits) {
            return Ok(found);
        }
        Err(Error::invalid(
            format!("{FOLDER}: phase {}", phase + 1),
            "its prompts are not those of the run",
            "put it back as it was, or start the run anew with --overwrite",
        ))
    }
}

fn gone(phase: u64) -> Error {
    Error::invalid(
        format!("{FOLDER}: phase {}", phase + 1),
        "what it drew is not there, and the policy that drew it is gone",
        "go on from a checkpoint at the beginning of a phase, or start the run anew with --overwrite",
    )
}
