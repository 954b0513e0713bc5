//! Training: one loop, from batches to weights.

mod choices;
mod claim;
mod examples;
mod failure;
mod folder;
mod learner;
mod load;
mod metrics;
mod networks;
mod overlay;
mod plan;
mod precompute;
mod resolve;
mod settings;
mod start;
mod state;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use super::objective::TokenReduction;
pub use choices::{Precision, ReferenceSource, ValueNetwork};
pub use examples::Examples;
pub use folder::{CONFIG, Folder, METRICS, MODEL, Manifest};
pub use learner::{Learner, Model};
pub use metrics::{Meter, Row};
pub use plan::Plan;
pub use precompute::precompute;
pub use settings::Settings;
pub use start::train;
pub use state::{Saved, State};

use super::batch::TextBatch;
use super::checkpoint;
use super::data::file::progress_bar;
use super::example::Example;
use super::network::Network;
use super::reference::Reference;
use super::schedule::Schedule;
use super::sequence::Sequence;
use super::step::{self, Step};
use super::tape::LeafGradients;
use crate::bandit::population::Batch;
use crate::error::{Error, Result};

/// Where a checkpoint has the separate value network.
const VALUE: &str = "value";

/// A run: networks, data, and how far it is.
pub struct Trainer<'a> {
    settings: &'a Settings,
    schedule: Schedule,
    plan: Plan<'a>,
    reference: Reference,
    /// The policy, or the network of scores.
    pub policy: Learner,
    /// The separate value network.
    pub value: Option<Learner>,
    /// How far it is.
    pub state: State,
}

/// What a step came to.
#[derive(Debug, Clone)]
pub struct Stepped {
    /// The loss: the weighted sum over the step's examples.
    pub loss: f64,
    /// The gradient's norm before clipping.
    pub norm: f64,
    /// That of the separate value network, or 0.
    pub value_norm: f64,
    /// The numbers that the loss saw.
    pub batch: Batch,
    /// The step's batch.
    pub text: TextBatch,
    /// The examples that it was made of.
    pub examples: Vec<Example>,
}

impl Stepped {
    /// Whether loss and gradient are.
    fn is_finite(&self) -> bool {
        [self.loss, self.norm, self.value_norm]
            .iter()
            .all(|n| n.is_finite())
    }
}

impl<'a> Trainer<'a> {
    /// A run before its first step. The settings must have been [resolved](Settings::resolve).
    ///
    /// # Errors
    /// Constants of the optimiser that are out of range.
    pub fn new(
        settings: &'a Settings,
        plan: Plan<'a>,
        policy: Box<dyn Model>,
        value: Option<Box<dyn Model>>,
        reference: Reference,
    ) -> Result<Self> {
        let lr = settings.lr.unwrap_or_default();
        let value_lr = settings.value_lr.unwrap_or(lr);
        let value = value.map(|model| Learner::new(model, settings, value_lr));
        Ok(Self {
            settings,
            schedule: Schedule::new(settings.schedule, settings.warmup, plan.steps())?,
            plan,
            reference,
            policy: Learner::new(policy, settings, lr)?,
            value: value.transpose()?,
            state: State::default(),
        })
    }

    /// All steps that are left, with rows and checkpoints in the run's folder.
    ///
    /// # Errors
    /// Those of [`step`](Self::step), or a folder that cannot be written.
    pub fn run(&mut self, folder: &mut Folder) -> Result<()> {
        let bar = progress_bar("training", self.plan.steps());
        bar.set_position(self.state.steps);
        bar.reset_eta();
        let clock = Instant::now();
        let (mut tokens, mut seconds) = (self.state.num_tokens, 0.0);
        while self.state.steps < self.plan.steps() {
            self.step(Some(folder))?;
            let steps = self.state.steps;
            let last = steps == self.plan.steps();
            let due = |every: u64| every > 0 && (last || steps.is_multiple_of(every));
            if due(self.settings.log_every) {
                let now = clock.elapsed().as_secs_f64();
                let row = Row {
                    step: steps,
                    epoch: self.plan.epochs(steps),
                    metrics: self.state.meter.take(),
                    num_tokens: self.state.num_tokens,
                    seconds: now,
                    tokens_per_second: (self.state.num_tokens - tokens) as f64 / (now - seconds),
                };
                (tokens, seconds) = (row.num_tokens, now);
                folder.row(&row)?;
                bar.set_message(row.to_string());
            }
            bar.set_position(steps);
            if due(self.settings.checkpoint_every) {
                self.checkpoint(folder)?;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// One step: gradient, update, metrics. Where the loss or its gradient is not finite, the
    /// weights stay as they were and the batch is saved in `folder`.
    ///
    /// # Errors
    /// Those of [`gradient`](Self::gradient); or a loss or gradient that is not finite.
    pub fn step(&mut self, folder: Option<&Folder>) -> Result<Stepped> {
        let stepped = self.gradient()?;
        if !stepped.is_finite() {
            return Err(self.stopped(&stepped, folder));
        }
        let factor = self.schedule.factor(self.state.steps);
        self.policy.update(stepped.norm, factor)?;
        if let Some(value) = &mut self.value {
            value.update(stepped.value_norm, factor)?;
        }
        self.measure(&stepped, factor);
        self.state.num_tokens += stepped.text.tokens() as u64;
        self.state.steps += 1;
        Ok(stepped)
    }

    /// The gradient of the next step's loss, left with the learners: batch, what couples its
    /// examples, then part by part the reference's numbers and the gradient.
    ///
    /// # Errors
    /// Those of data, networks and loss.
    pub fn gradient(&mut self) -> Result<Stepped> {
        let (mut text, examples) = self.plan.batch(self.state.steps)?;
        if self.plan.objective().anchored() {
            let anchor = self.anchor(&text)?;
            text.held.fill(anchor);
        }
        let (mut loss, mut batch) = (0.0, Batch::default());
        for mut part in self.plan.parts(&text, &examples) {
            part.log_reference = self.log_reference(&part.sequences)?;
            let outcome = self.push(&part)?;
            loss += outcome.loss;
            batch.append(outcome.batch);
        }
        Ok(Stepped {
            loss,
            norm: self.policy.norm()?,
            value_norm: self.value.as_ref().map_or(Ok(0.0), Learner::norm)?,
            batch,
            text,
            examples,
        })
    }

    /// Adds a part's gradient to those of the learners.
    fn push(&mut self, part: &TextBatch) -> Result<step::Outcome> {
        let objective = self.plan.objective();
        let none = &mut LeafGradients::new(0);
        let (value, of_value) = match &mut self.value {
            Some(value) => (Some(&*value.model as &dyn Network), &mut value.gradients),
            None => (None, none),
        };
        let step = Step {
            kind: objective.kind(),
            policy: &*self.policy.model,
            value,
            reduction: objective.reduction(),
            micro_batch: self.plan.micro_batch(),
        };
        let loss = |inputs: &_| objective.loss(inputs);
        step.run(part, loss, &mut self.policy.gradients, of_value)
    }

    fn log_reference(&self, sequences: &[Sequence]) -> Result<Vec<f64>> {
        let reduction = self.plan.objective().reduction();
        (self.reference).numbers(sequences, reduction, self.plan.micro_batch())
    }

    /// KTO's z₀: the mean log-ratio of mismatched completions, but not below 0.
    fn anchor(&self, text: &TextBatch) -> Result<f64> {
        let sequences = self.plan.mismatched(text)?;
        let reduction = self.plan.objective().reduction();
        let policy = &*self.policy.model;
        let policy = step::numbers(policy, reduction, &sequences, self.plan.micro_batch())?;
        let reference = self.log_reference(&sequences)?;
        let ratios = policy.sequences.iter().zip(&reference).map(|(p, r)| p - r);
        let mean = ratios.sum::<f64>() / sequences.len() as f64;
        // A NaN stays one, which `max` would not let it.
        Ok(if mean < 0.0 { 0.0 } else { mean })
    }

    fn measure(&mut self, stepped: &Stepped, factor: f64) {
        let meter = &mut self.state.meter;
        meter.mean("loss", stepped.loss);
        meter.mean("grad_norm", stepped.norm);
        meter.last("learning_rate", self.policy.lr() * factor);
        if let Some(value) = &self.value {
            meter.mean("value/grad_norm", stepped.value_norm);
            meter.last("value/learning_rate", value.lr() * factor);
        }
        let rows = stepped.examples.len();
        meter.measure(self.plan.objective(), &stepped.batch, rows);
    }

    /// Saves the batch that the run stops at, and forgets its gradient.
    fn stopped(&mut self, stepped: &Stepped, folder: Option<&Folder>) -> Error {
        self.policy.gradients.clear();
        if let Some(value) = &mut self.value {
            value.gradients.clear();
        }
        let norms = match &self.value {
            None => format!("the norm of its gradient {}", stepped.norm),
            Some(_) => format!(
                "the norms of its gradients {} and {}",
                stepped.norm, stepped.value_norm
            ),
        };
        let saved = folder.map(|folder| {
            let lines = failure::lines(stepped)?;
            folder.nan_batch(&lines)
        });
        let remedy = match saved {
            Some(Ok(path)) => format!("its batch is in {}", path.display()),
            Some(Err(error)) => return error,
            None => "look at its batch".into(),
        };
        Error::invalid(
            format!("step {}", self.state.steps + 1),
            format!("the loss is {}, {norms}", stepped.loss),
            format!("{remedy}; the weights are those of the step before; a lower lr may help"),
        )
    }

    /// Takes up what a checkpoint has besides the networks.
    ///
    /// # Errors
    /// A file that is missing or broken.
    fn restore(&mut self, dir: &Path, state: State) -> Result<()> {
        self.policy.restore(dir)?;
        if let Some(value) = &mut self.value {
            value.restore(&dir.join(VALUE))?;
        }
        self.state = state;
        Ok(())
    }

    /// Writes the networks to a folder that is there.
    fn save_models(&self, dir: &Path) -> Result<()> {
        let companions = self.settings.model.as_deref();
        self.policy.model.save(dir, companions)?;
        match &self.value {
            Some(value) => value.model.save(&value_folder(dir)?, companions),
            None => Ok(()),
        }
    }

    /// Writes a checkpoint, and then removes older ones.
    fn checkpoint(&self, folder: &Folder) -> Result<()> {
        let saved = Saved {
            state: self.state.clone(),
            epoch: self.plan.epochs(self.state.steps),
            metrics_bytes: folder.sync()?,
            data: folder.manifest().data.clone(),
            model: folder.manifest().model.clone(),
            settings: self.settings.clone(),
        };
        checkpoint::write_folder(&checkpoint::path(folder.dir(), self.state.steps), |dir| {
            let companions = self.settings.model.as_deref();
            self.policy.save(dir, companions)?;
            if let Some(value) = &self.value {
                value.save(&value_folder(dir)?, companions)?;
            }
            saved.write(dir)
        })?;
        match self.settings.keep {
            0 => Ok(()),
            keep => checkpoint::prune(folder.dir(), keep),
        }
    }
}

fn value_folder(dir: &Path) -> Result<PathBuf> {
    let dir = dir.join(VALUE);
    fs::create_dir(&dir).map_err(Error::io(&dir, "create"))?;
    Ok(dir)
}
