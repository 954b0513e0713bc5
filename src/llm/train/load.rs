//! Loading of a run's parts: read first, then trained.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::average::Average;
use super::batches::Batches;
use super::checkpoints::{VALUE, prune};
use super::ensemble;
use super::enums::{ReferenceSource, ValueNetwork};
use super::evaluation::Evaluation;
use super::examples::Examples;
use super::folder::{COMPLETE, FORMAT, Folder, MODEL, Manifest, RUNNING};
use super::generation::Generation;
use super::inputs::{Inputs, Prompted};
use super::learner::Model;
use super::lesson::Lesson;
use super::lock::Claimed;
use super::networks::{Role, new_adapter};
use super::precompute::precompute_until;
use super::rollouts::{Rollouts, demonstrations};
use super::run_loop::Ended;
use super::settings::Settings;
use super::share::Share;
use super::sources::Sources;
use super::split::Rows;
use super::state::Saved;
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::llm::files::checkpoint;
use crate::llm::model::decoder::Decoder;
use crate::llm::model::identity::Identity;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::text::objective::TextObjective;
use crate::llm::text::tokenizer::Tokenizer;
use crate::llm::train::reference::{self, Cache, Reference};
use crate::loss::InputKind;
use crate::observer::Observer;

/// A checkpoint to go on from.
pub(super) struct Checkpoint {
    dir: PathBuf,
    saved: Saved,
    /// Those after it, which the run will write again.
    later: Vec<PathBuf>,
}

impl Checkpoint {
    /// The one of that name, or the last one, if there is any.
    pub fn choose(run: &Path, named: Option<PathBuf>) -> Result<Option<Self>> {
        let mut all = checkpoint::list(run)?;
        let mut later = Vec::new();
        while let (Some(named), Some((_, last))) = (&named, all.last())
            && last.file_name() != named.file_name()
        {
            later.extend(all.pop().map(|(_, path)| path));
        }
        let Some((_, dir)) = all.pop() else {
            return Ok(None);
        };
        let saved = Saved::read(&dir)?;
        Ok(Some(Self { dir, saved, later }))
    }
}

/// What a run learns from, and is evaluated on.
struct Plans<'a> {
    trained: Batches<'a>,
    held_out: Option<Batches<'a>>,
    lesson: Lesson<'a>,
}

/// What a run is made of, before anything is written.
pub(super) struct Run<'a> {
    settings: &'a Settings,
    objective: TextObjective,
    role: Role,
    policy: Decoder,
    /// Whether the adapter that is trained is the one of the model as given.
    goes_on: bool,
    /// The model as given, where the policy is not that any more.
    start: Option<Decoder>,
    value: Option<Decoder>,
    /// Of an ensemble, what is trained in the policy's place.
    members: Vec<Decoder>,
    /// A reference that is another model.
    other: Option<Decoder>,
    cache: Option<Cache>,
    generation: Option<Generation>,
    /// Where the policy writes its data itself.
    rollouts: Option<Rollouts>,
    checkpoint: Option<Checkpoint>,
    inputs: Identity,
    /// Whether there is a reference.
    referred: bool,
}

impl<'a> Run<'a> {
    /// Reads everything that is left to read and writes nothing.
    pub fn load(
        settings: &'a Settings,
        inputs: Inputs,
        dir: &Path,
        checkpoint: Option<Checkpoint>,
        observer: &dyn Observer,
    ) -> Result<(Self, Sources)> {
        if let Some(Checkpoint { dir, saved, .. }) = &checkpoint {
            settings.same(&saved.settings)?;
            inputs.same(&saved.inputs)?;
            Saved::sound(dir)?;
        }
        let Inputs {
            given,
            objective,
            mut sources,
            evaluation,
            rollouts,
            identity,
            reference,
            specials,
        } = inputs;
        let given = &given;
        let role = Role::of(&objective, settings);
        let (dtype, device) = (settings.dtype.dtype(), settings.device()?);
        let start = role.decoder(given, dtype, &device)?;
        sources.survey(observer)?;
        let tokens = given.tokenizer_folder();
        let Prompted { prompts, reward } = evaluation;
        let generation =
            Generation::new(settings, &objective, tokens, prompts, reward.as_ref(), dir)?;
        let rollouts = match rollouts.reward {
            None => None,
            Some(reward) => {
                let reward = reward.build(&settings.resources()?)?;
                let tokenizer = Tokenizer::load(tokens)?;
                let prompts = rollouts.prompts;
                let context = start.sizes().context;
                let theirs = if settings.demonstrations {
                    demonstrations(settings, &prompts, &tokenizer, context, observer)?
                } else {
                    Vec::new()
                };
                let rollouts =
                    Rollouts::new(settings, &objective, prompts, tokenizer, reward, Some(dir))?;
                Some(rollouts.beside(theirs))
            }
        };
        let other = match &settings.reference {
            ReferenceSource::Model(dir) if objective.reference() => {
                let other = ModelFolder::find(dir)?.decoder(dtype, &device)?;
                like(&other, &start, dir)?;
                Some(other)
            }
            _ => None,
        };
        let referred = reference.is_some();
        let live = settings.reference == ReferenceSource::Live
            || objective.kind() == InputKind::Tokens
            || rollouts.is_some();
        let cache = (reference.filter(|_| !live))
            .map(|numbers| Cache::open(numbers, &dir.join(reference::FILE)))
            .transpose()?;
        let at = checkpoint.as_ref().map(|c| c.dir.as_path());
        let lora = settings.lora_rank > 0;
        let made = |role: Role, decoder: Decoder, at: Option<&Path>| -> Result<_> {
            match at {
                None => Ok((role.start(decoder, given, settings, specials)?, None)),
                Some(at) if lora => {
                    // The base is there to the end; an adapter that was given is not.
                    let as_given = given.adapter().map(|_| decoder.frozen()).transpose()?;
                    Ok((role.adapted(decoder, at, given, settings)?, as_given))
                }
                Some(at) => Ok((role.restored(at, settings)?, Some(decoder))),
            }
        };
        let value = if objective.value() && settings.value == ValueNetwork::Separate {
            let decoder = Role::value(settings).decoder(given, dtype, &device)?;
            let at = at.map(|at| at.join(VALUE));
            Some(made(Role::value(settings), decoder, at.as_deref())?.0)
        } else {
            None
        };
        let members = match new_adapter(settings).filter(|_| settings.members > 1) {
            Some(each) => ensemble::decoders(&start, &each, settings, at)?,
            None => Vec::new(),
        };
        let (policy, start) = made(role, start, at)?;
        let computed = cache.as_ref().is_some_and(|cache| !cache.is_empty());
        let live = generation.as_ref().is_some_and(Generation::wants_reference);
        let moves = matches!(
            settings.reference,
            ReferenceSource::Behaviour | ReferenceSource::Ema(_)
        );
        let wanted = referred && other.is_none() && (!(computed || moves) || live);
        let run = Self {
            settings,
            objective,
            role,
            policy,
            goes_on: given.adapter().is_some(),
            start: start.filter(|_| wanted),
            value,
            members,
            other,
            cache,
            generation,
            rollouts,
            checkpoint,
            inputs: identity,
            referred,
        };
        Ok((run, sources))
    }

    /// Trains to the end, or until `stop` is set.
    pub fn train<'r>(
        mut self,
        sources: &'r Sources,
        claimed: Claimed,
        lesson: Lesson<'r>,
        stop: &AtomicBool,
        observer: &dyn Observer,
    ) -> Result<Ended> {
        let settings = self.settings;
        let context = self.policy.sizes().context;
        let (trained, held) = sources.parts(settings)?;
        let prompts = self.rollouts.as_ref().map_or(0, Rollouts::prompts);
        let plan = match (&trained, self.rollouts.take()) {
            (_, Some(rollouts)) => {
                observer.tell(&rollouts.to_string());
                Batches::fed(self.objective.clone(), settings, context, rollouts)?
            }
            (Some(trained), None) => Batches::new(settings, context, trained)?,
            (None, None) => {
                let remedy = "give data, or prompts and a reward";
                return Err(Error::invalid("data", "it is missing", remedy));
            }
        };
        let held_out = (held.as_ref())
            .map(|held| Batches::held_out(settings, context, held))
            .transpose()?;
        let manifest = Manifest {
            objective: self.objective.name().into(),
            token_reduction: settings.token_reduction,
            version: env!("CARGO_PKG_VERSION").into(),
            seed: settings.seed,
            status: RUNNING.into(),
            format: FORMAT,
            inputs: self.inputs.clone(),
            examples: trained.as_ref().map_or(prompts, Rows::count),
            eval_examples: held.as_ref().map(Rows::count),
            steps: plan.steps(),
            best: None,
        };
        let checkpoint = match &self.checkpoint {
            Some(Checkpoint { saved, later, .. }) => {
                observer.tell(&format!("going on after step {}", saved.state.steps));
                later
                    .iter()
                    .try_for_each(|later| crate::file::discard(later))?;
                Some((saved.state.steps, saved.metrics_bytes))
            }
            None => {
                claimed.clear()?;
                None
            }
        };
        let rehearsed = (sources.rehearsal.as_ref())
            .filter(|_| settings.rehearses())
            .map(|of| Rows::all(of));
        let mut lesson = lesson;
        if let Some(rows) = &rehearsed {
            (lesson.shares).push(Share::rehearsal(settings, context, rows)?);
        }
        let mut folder = claimed.go_on(settings, manifest, checkpoint)?;
        let dir = folder.dir().to_path_buf();
        let plans = Plans {
            trained: plan,
            held_out,
            lesson,
        };
        let ended = self.course(&mut folder, plans, stop, observer);
        let closed = folder.close(&match &ended {
            Ok(None) => COMPLETE.to_string(),
            Ok(Some(_)) => "interrupted".into(),
            Err(error) => format!("failed: {error}"),
        });
        match ended? {
            None => closed.map(|()| Ended::Complete(dir)),
            Some(steps) => closed.map(|()| Ended::Interrupted { dir, steps }),
        }
    }

    /// All steps; says after how many it was interrupted, if it was.
    fn course(
        mut self,
        folder: &mut Folder,
        plans: Plans,
        stop: &AtomicBool,
        observer: &dyn Observer,
    ) -> Result<Option<u64>> {
        let settings = self.settings;
        let Plans {
            trained: plan,
            held_out,
            mut lesson,
        } = plans;
        let shares = lesson.shares.iter().map(|share| &share.all);
        let shares = shares.filter(|plan| plan.objective().reference());
        let plans: Vec<&Batches> = (std::iter::once(&plan).chain(&held_out))
            .chain(shares)
            .collect();
        let done = (self.checkpoint.as_ref()).map_or(0, |c| c.saved.state.steps);
        let Some(reference) = self.reference(&plans, stop, observer)? else {
            return Ok(Some(done));
        };
        let temperature = self.temperature();
        let generation = self.generation.map(|g| Box::new(g) as Box<dyn Evaluation>);
        let evaluations = generation.into_iter().chain(lesson.evaluations.drain(..));
        let trained_as = |role: Role, mut decoder: Decoder| {
            decoder.set_recompute(settings.recompute);
            decoder.set_temperature(temperature);
            role.network(decoder)
        };
        let policy = trained_as(self.role, self.policy);
        observer.tell(&trained(&*policy));
        let value = (self.value).map(|decoder| trained_as(Role::value(settings), decoder));
        let members: Vec<_> = (self.members.into_iter())
            .map(|decoder| trained_as(self.role, decoder))
            .collect();
        let mut trainer = Trainer::new(settings, plan, policy, value, reference)?
            .evaluating(held_out, evaluations.collect())
            .beside_which(lesson);
        if !members.is_empty() {
            trainer = trainer.made_of(members)?;
        }
        if let Some(Checkpoint { dir, saved, .. }) = self.checkpoint {
            trainer.restore(&dir, saved.state)?;
        }
        if !trainer.run(folder, stop, observer)? {
            return Ok(Some(trainer.state.steps));
        }
        folder.still()?;
        crate::file::write_folder(&folder.dir().join(MODEL), |dir| trainer.save_models(dir))?;
        prune(folder.dir(), settings.keep, &trainer.state, None)?;
        folder.finish(trainer.state.best.clone())?;
        Ok(None)
    }

    /// What the policy is held against. A new adapter's reference is the base that it is on; that of
    /// one which is trained further is the two as they were given. None if the run was stopped before
    /// it was there.
    fn reference(
        &mut self,
        plans: &[&Batches],
        stop: &AtomicBool,
        observer: &dyn Observer,
    ) -> Result<Option<Reference>> {
        if !self.referred {
            return Ok(Some(Reference::None));
        }
        let base = match (self.settings.lora_rank, self.goes_on) {
            (0, _) => None,
            (_, false) => Some(self.policy.base()?),
            (_, true) if self.checkpoint.is_none() => Some(self.policy.frozen()?),
            (_, true) => self.start.take(),
        };
        if let Some(generation) = self.generation.as_mut().filter(|g| g.wants_reference()) {
            // A model of its own: the one that is trained moves away from it.
            let as_given = match (&self.other, &base, &self.start) {
                (Some(other), _, _) => other.copy()?,
                (None, Some(base), _) => base.frozen()?,
                (None, None, Some(start)) => start.copy()?,
                (None, None, None) => self.policy.copy()?,
            };
            generation.reference = Some(as_given);
        }
        if let Some(rate) = self.settings.reference.rate()? {
            let mut average = Average::new(&self.policy, rate)?;
            average.model.set_temperature(self.temperature());
            return Ok(Some(Reference::Average(Box::new(average))));
        }
        if self.settings.reference == ReferenceSource::Behaviour {
            return Ok(Some(Reference::Stored(None)));
        }
        let (start, other) = (self.start.take(), self.other.take());
        let Some(mut cache) = self.cache.take() else {
            let mut model = match other.or(base).or(start) {
                Some(model) => model,
                None => self.policy.copy()?,
            };
            model.set_temperature(self.temperature());
            let model = Box::new(model);
            // z₀'s responses are others than those that are written.
            let stored = self.settings.prompts.is_some() && !self.objective.anchored();
            let live = self.settings.reference == ReferenceSource::Live;
            return Ok(Some(if stored && !live {
                Reference::Stored(Some(model))
            } else {
                Reference::Live(model)
            }));
        };
        // A run that has checkpoints has all numbers, or says which file lacks one.
        if self.checkpoint.is_none() || cache.is_empty() {
            let model = other.as_ref().or(base.as_ref()).or(start.as_ref());
            let model = model.unwrap_or(&self.policy);
            for plan in plans {
                if !precompute_until(plan, model, &mut cache, stop, observer)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(Reference::Cached(cache)))
    }
}

impl Run<'_> {
    /// The temperature at which losses take log-probabilities: that of what the policy writes, where they are to.
    fn temperature(&self) -> f64 {
        if self.objective.tempered() && self.settings.prompts.is_some() {
            self.settings.temperature
        } else {
            1.0
        }
    }
}

/// Refuses a reference that speaks other tokens.
fn like(other: &Decoder, start: &Decoder, dir: &Path) -> Result<()> {
    let (theirs, ours) = (other.sizes(), start.sizes());
    if theirs.vocabulary == ours.vocabulary && theirs.context >= ours.context {
        return Ok(());
    }
    Err(Error::invalid(
        format!("reference: {}", dir.display()),
        format!(
            "it has {} tokens and a context of {}",
            theirs.vocabulary, theirs.context
        ),
        format!(
            "the model has {} and {}: name a reference of the same tokenizer",
            ours.vocabulary, ours.context
        ),
    ))
}

fn trained(model: &dyn Model) -> String {
    let count = |trained: bool| -> usize {
        (model.parameters().iter())
            .filter(|p| p.trainable || !trained)
            .map(|p| p.tensor.elem_count())
            .sum()
    };
    format!("training {} of {} parameters", count(true), count(false))
}
