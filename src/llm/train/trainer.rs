//! A run's networks and data, and one step of it.

use candle_core::Device;

use super::batches::Batches;
use super::engine::Engine;
use super::ensemble::Ensemble;
use super::enums::ValuePer;
use super::evaluation::Evaluation;
use super::failure;
use super::folder::Folder;
use super::learner::{Learner, Model};
use super::lesson::Lesson;
use super::optimizer_in_backward::Stop;
use super::settings::Settings;
use super::source::Networks;
use super::state::State;
use crate::error::{Error, Result};
use crate::llm::model::inference;
use crate::llm::model::network::Network;
use crate::llm::model::sequence::Sequence;
use crate::llm::tensor::tape::LeafGradients;
use crate::llm::text::batch::TextBatch;
use crate::llm::text::example::Example;
use crate::llm::train::reference::Reference;
use crate::llm::train::schedule::Schedule;
use crate::llm::train::step::{Outcome, Step};
use crate::loss::{Batch, InputKind};
use crate::observer::Observer;

/// A run: networks, data, and how far it is.
pub struct Trainer<'a> {
    pub(super) device: Device,
    pub(super) settings: &'a Settings,
    schedule: Schedule,
    pub(super) plan: Batches<'a>,
    /// What is evaluated without being trained on.
    pub(super) held_out: Option<Batches<'a>>,
    /// What steps learn from beside their objective.
    pub(super) lesson: Lesson<'a>,
    /// What else is evaluated.
    pub(super) evaluations: Vec<Box<dyn Evaluation + 'a>>,
    /// What is minimised in the objective's place.
    pub(super) reference: Reference,
    /// The policy, or the network of scores.
    pub policy: Learner,
    /// The adapters that are trained in the policy's place, and make it.
    pub(super) ensemble: Option<Ensemble>,
    /// The separate value network.
    pub value: Option<Learner>,
    /// State of the run.
    pub state: State,
}

/// Outcome of a training step.
#[derive(Debug, Clone)]
pub struct Stepped {
    /// The loss: the weighted sum over the step's examples.
    pub loss: f64,
    /// The gradient's norm before clipping.
    pub norm: f64,
    /// Gradient norm of the separate value network, or 0.
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
    pub(super) fn is_finite(&self) -> bool {
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
        plan: Batches<'a>,
        policy: Box<dyn Model>,
        value: Option<Box<dyn Model>>,
        reference: Reference,
    ) -> Result<Self> {
        let lr = settings.lr.unwrap_or_default();
        let value_lr = settings.value_lr.unwrap_or(lr);
        let value = value.map(|model| Learner::new(model, settings, value_lr));
        Ok(Self {
            device: settings.device()?,
            settings,
            schedule: Schedule::new(settings.schedule, settings.warmup, plan.steps())?,
            plan,
            held_out: None,
            lesson: Lesson::default(),
            evaluations: Vec::new(),
            reference,
            policy: Learner::new(policy, settings, lr)?,
            ensemble: None,
            value: value.transpose()?,
            state: State::default(),
        })
    }

    /// The same where the policy is what several networks make, which are trained: the members of an ensemble, given
    /// in order.
    ///
    /// # Errors
    /// Members of other layers than the policy's; constants of the optimiser that are out of range.
    pub fn made_of(mut self, members: Vec<Box<dyn Model>>) -> Result<Self> {
        let (settings, lr) = (self.settings, self.policy.lr());
        let ensemble = Ensemble::new(members, settings, lr)?;
        self.policy = Learner::made(self.policy.model, settings, lr);
        ensemble.merge_into(self.policy.model.parameters())?;
        self.ensemble = Some(ensemble);
        Ok(self)
    }

    /// The same, with what every step learns from and is bound by beside its objective.
    #[must_use]
    pub fn beside_which(mut self, lesson: Lesson<'a>) -> Self {
        self.lesson = lesson;
        self
    }

    /// The same, with an evaluation split of its own [plan](Batches::held_out) and what else is to be
    /// evaluated.
    #[must_use]
    pub fn evaluating(
        mut self,
        held_out: Option<Batches<'a>>,
        evaluations: Vec<Box<dyn Evaluation + 'a>>,
    ) -> Self {
        self.held_out = held_out;
        self.evaluations = evaluations;
        self
    }

    /// One step: gradient, update, metrics. Where the loss or its gradient is not finite, the
    /// weights stay as they were and the batch is saved in `folder`. With `optimizer_in_backward`
    /// that holds of a loss; a gradient that is not finite is found when the weights have changed.
    ///
    /// A step waits for a device where it reads from it, which is, and nowhere else:
    /// - the numbers of each part's responses, from the policy (of an example that is alone beyond
    ///   `micro_batch_tokens`, of each piece; again for values that the policy shares), from the
    ///   separate value network, and from a reference that is live;
    /// - for KTO's z₀, the numbers of the mismatched responses, from the policy and a live reference;
    /// - the norm of the gradient, one number of each network, once all of it is there.
    ///
    /// # Errors
    /// Those of [`gradient`](Self::gradient); a loss or gradient that is not finite; with
    /// `optimizer_in_backward` a step of several parts.
    pub fn step(&mut self, folder: Option<&Folder>) -> Result<Stepped> {
        let factor = self.schedule.factor(self.state.steps);
        let stepped = if self.settings.optimizer_in_backward {
            self.step_at_once(factor, folder)?
        } else {
            self.step_by_norm(factor, folder)?
        };
        if let Reference::Average(average) = &mut self.reference {
            average.follow(self.policy.model.parameters())?;
        }
        for hook in &mut self.lesson.hooks {
            hook.stepped(&stepped, &self.policy)?;
        }
        self.measure(&stepped, factor);
        self.state.num_tokens += stepped.text.tokens() as u64;
        self.state.steps += 1;
        Ok(stepped)
    }

    /// The next step's batch and gradient, and then the update.
    fn step_by_norm(&mut self, factor: f64, folder: Option<&Folder>) -> Result<Stepped> {
        let stepped = self.gradient()?;
        if !stepped.is_finite() {
            return Err(self.stopped(&stepped, folder, Stop::BeforeUpdate));
        }
        match &mut self.ensemble {
            None => self.policy.update(stepped.norm, factor)?,
            Some(ensemble) => {
                let policy = self.policy.model.parameters();
                ensemble.update(factor, policy)?;
            }
        }
        if let Some(value) = &mut self.value {
            value.update(stepped.value_norm, factor)?;
        }
        Ok(stepped)
    }

    /// The gradient of the next step's loss, left with the learners: batch, what couples its
    /// examples, then part by part the reference's numbers and the gradient.
    ///
    /// # Errors
    /// Those of data, networks and loss.
    pub fn gradient(&mut self) -> Result<Stepped> {
        let (text, examples) = self.batch(&self.plan, self.state.steps)?;
        let (mut loss, mut batch) = (0.0, Batch::default());
        for mut part in self.plan.parts(&text, &examples) {
            self.refer(&mut part)?;
            let outcome = self.push(None, &part)?;
            loss += outcome.loss;
            batch.append(outcome.batch);
        }
        self.beside()?;
        Ok(Stepped {
            loss,
            norm: match &self.ensemble {
                None => self.policy.norm()?,
                Some(ensemble) => ensemble.norm()?,
            },
            value_norm: self.value.as_ref().map_or(Ok(0.0), Learner::norm)?,
            batch,
            text,
            examples,
        })
    }

    /// A batch of a plan, with what couples its examples: z₀, or one value for all of them.
    pub(super) fn batch(&self, plan: &Batches, done: u64) -> Result<(TextBatch, Vec<Example>)> {
        let (mut text, examples) = plan.batch(done)?;
        if plan.objective().anchored() {
            let anchor = self.anchor(plan, &text)?;
            text.held.fill(anchor);
        }
        text.mean_value = self.settings.value_per == ValuePer::Batch;
        Ok((text, examples))
    }

    /// What a batch of the evaluation split comes to, with no gradient: its loss, the numbers that
    /// the loss saw, and the examples.
    pub(super) fn look(&self, plan: &Batches, done: u64) -> Result<(f64, Batch, Vec<Example>)> {
        let objective = plan.objective();
        let (text, examples) = self.batch(plan, done)?;
        let step = Step {
            kind: objective.kind(),
            policy: &*self.policy.model,
            value: (self.value.as_ref()).map(|v| &*v.model as &dyn Network),
            reduction: objective.reduction(),
            micro_batch: plan.micro_batch(),
        };
        let of = |batch: &Batch| {
            Engine::of(self.settings.loss_backend, &self.device).run(objective, batch)
        };
        let (mut loss, mut batch) = (0.0, Batch::default());
        for mut part in plan.parts(&text, &examples) {
            self.refer_to(plan, &mut part)?;
            let outcome = step.evaluate(&part, of)?;
            loss += outcome.loss;
            batch.append(outcome.batch);
        }
        Ok((loss, batch, examples))
    }

    /// Adds a part's gradient to those of the learners: of the run's plan, or of another. Of an ensemble the loss, and
    /// the numbers that it saw, are the members' means.
    pub(super) fn push(&mut self, other: Option<&Batches>, part: &TextBatch) -> Result<Outcome> {
        let mut ensemble = self.ensemble.take();
        let outcome = match &mut ensemble {
            None => self.push_to(None, other, part),
            Some(ensemble) => ensemble.mean(|member| self.push_to(Some(member), other, part)),
        };
        self.ensemble = ensemble;
        outcome
    }

    /// The same for one learner: the policy, or a member of the ensemble.
    fn push_to(
        &mut self,
        member: Option<&mut Learner>,
        other: Option<&Batches>,
        part: &TextBatch,
    ) -> Result<Outcome> {
        let plan = other.unwrap_or(&self.plan);
        let objective = plan.objective();
        let none = &mut LeafGradients::new(0);
        let (value, of_value) = match &mut self.value {
            // Only the objective has a use for it.
            Some(value) if other.is_none() => {
                (Some(&*value.model as &dyn Network), &mut value.gradients)
            }
            _ => (None, none),
        };
        let learner = member.unwrap_or(&mut self.policy);
        let step = Step {
            kind: objective.kind(),
            policy: &*learner.model,
            value,
            reduction: objective.reduction(),
            micro_batch: plan.micro_batch(),
        };
        let engine = Engine::of(self.settings.loss_backend, &self.device);
        let loss = |batch: &Batch| engine.run(objective, batch);
        step.run(part, loss, &mut learner.gradients, of_value)
    }

    /// Has the next step's examples be there, as [`Source::prepare`](super::Source::prepare), and counts what was
    /// written for them.
    ///
    /// # Errors
    /// Those of generation and rewards, and of files.
    pub fn prepare(&mut self, observer: &dyn Observer) -> Result<()> {
        let done = self.state.steps;
        let networks = Networks {
            policy: &self.policy,
            value: self.value.as_ref(),
            reference: &self.reference,
        };
        let found = self.plan.prepare(done, &networks, observer)?;
        for (name, value) in found {
            self.state.meter.mean(&name, value);
        }
        Ok(())
    }

    /// Gives a part of the run's plan the reference's numbers, unless they came with it and stay.
    pub(super) fn refer(&self, part: &mut TextBatch) -> Result<()> {
        if part.recalled && matches!(self.reference, Reference::Stored(_)) {
            return Ok(());
        }
        self.refer_anew(&self.plan, part)
    }

    /// The same of another plan, whose responses keep the numbers that came with them.
    pub(super) fn refer_to(&self, plan: &Batches, part: &mut TextBatch) -> Result<()> {
        if part.recalled {
            return Ok(());
        }
        self.refer_anew(plan, part)
    }

    fn refer_anew(&self, plan: &Batches, part: &mut TextBatch) -> Result<()> {
        let objective = plan.objective();
        if objective.kind() == InputKind::Tokens {
            let micro_batch = plan.micro_batch();
            part.token_reference = self.reference.tokens(&part.sequences, micro_batch)?;
        } else if objective.reference() {
            part.log_reference = self.log_reference(plan, &part.sequences)?;
        } else {
            part.log_reference = vec![0.0; part.sequences.len()];
        }
        Ok(())
    }

    fn log_reference(&self, plan: &Batches, sequences: &[Sequence]) -> Result<Vec<f64>> {
        let reduction = plan.objective().reduction();
        (self.reference).numbers(sequences, reduction, plan.micro_batch())
    }

    /// KTO's z₀: the mean log-ratio of mismatched completions, but not below 0.
    fn anchor(&self, plan: &Batches, text: &TextBatch) -> Result<f64> {
        let sequences = plan.mismatched(text)?;
        let reduction = self.plan.objective().reduction();
        let policy = &*self.policy.model;
        let policy = inference::numbers(policy, reduction, &sequences, self.plan.micro_batch())?;
        let reference = self.log_reference(plan, &sequences)?;
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

    /// A parameter of a network that is trained which is not finite, if one is.
    fn broken(&self) -> Result<Option<&str>> {
        let members = self.ensemble.iter().flat_map(Ensemble::each);
        for learner in std::iter::once(&self.policy)
            .chain(members)
            .chain(&self.value)
        {
            if let Some(name) = learner.broken()? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Saves the batch that the run stops at, and forgets its gradient.
    pub(super) fn stopped(
        &mut self,
        stepped: &Stepped,
        folder: Option<&Folder>,
        stop: Stop,
    ) -> Error {
        self.policy.gradients.clear();
        if let Some(ensemble) = &mut self.ensemble {
            ensemble.clear();
        }
        if let Some(value) = &mut self.value {
            value.gradients.clear();
        }
        let norms = match (&self.value, stop) {
            (_, Stop::BeforeGradient) => "which has no gradient".into(),
            (None, _) => format!("the norm of its gradient {}", stepped.norm),
            (Some(_), _) => format!(
                "the norms of its gradients {} and {}",
                stepped.norm, stepped.value_norm
            ),
        };
        let saved = folder.map(|folder| {
            let lines = failure::lines(stepped)?;
            folder.nan_batch(&lines)
        });
        let batch = match saved {
            Some(Ok(path)) => format!("its batch is in {}", path.display()),
            Some(Err(error)) => return error,
            None => "look at its batch".into(),
        };
        let broken = self.broken();
        match broken.and_then(|name| stop.remedy(name, folder)) {
            Err(error) => error,
            Ok(remedy) => Error::invalid(
                format!("step {}", self.state.steps + 1),
                format!("the loss is {}, {norms}", stepped.loss),
                format!("{batch}; {remedy}"),
            ),
        }
    }
}
