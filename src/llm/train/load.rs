//! What a run is made of: read first, then trained.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::choices::{ReferenceSource, ValueNetwork};
use super::claim::Claimed;
use super::folder::{MODEL, Manifest, RUNNING};
use super::learner::Model;
use super::networks::Role;
use super::plan::Plan;
use super::precompute::precompute;
use super::settings::Settings;
use super::state::Saved;
use super::{Trainer, VALUE};
use crate::error::{Error, Result};
use crate::llm::checkpoint;
use crate::llm::data::{Form, Source};
use crate::llm::decoder::Decoder;
use crate::llm::objective::TextObjective;
use crate::llm::reference::{self, Cache, Reference, fingerprint};
use crate::llm::tokenizer::Tokenizer;

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

/// What a run is made of, before anything is written.
pub(super) struct Run<'a> {
    settings: &'a Settings,
    objective: TextObjective,
    role: Role,
    policy: Decoder,
    /// The model as given, where the policy is not that any more.
    start: Option<Decoder>,
    value: Option<Decoder>,
    /// A reference that is another model.
    other: Option<Decoder>,
    cache: Option<Cache>,
    checkpoint: Option<Checkpoint>,
    /// SHA-256 of the model as given, and of the reference.
    model: String,
    reference: Option<String>,
}

impl<'a> Run<'a> {
    /// Reads everything and writes nothing.
    pub fn load(
        settings: &'a Settings,
        dir: &Path,
        checkpoint: Option<Checkpoint>,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(Self, Source)> {
        let needed = |path: &'a Option<PathBuf>, name: &str, what: &str| {
            path.as_deref()
                .ok_or_else(|| Error::invalid(name, "it is missing", format!("give {what}")))
        };
        let objective = settings.objective()?;
        let folder = needed(
            &settings.model,
            "model",
            "the folder of the model to start from",
        )?;
        let file = needed(
            &settings.data,
            "data",
            "a file of examples, one JSON object a line",
        )?;
        let role = Role::of(&objective, settings);
        let (dtype, device) = (settings.dtype.dtype(), settings.device()?);
        let tokenizer = Tokenizer::load(folder)?;
        let start = role.decoder(folder, dtype, &device)?;
        let architecture = start.architecture();
        tokenizer.fits(architecture.vocabulary)?;
        let mut source = Source::read(
            file,
            &settings.reading(),
            Form::from(objective.registered()),
            Arc::new(tokenizer),
            architecture.context,
            settings.rows(),
        )?;
        tell(&source.survey()?.to_string());
        let model = fingerprint(start.parameters())?;
        if let Some(checkpoint) = &checkpoint {
            (checkpoint.saved).same(settings, source.hash(), &model)?;
        }
        let other = match &settings.reference {
            ReferenceSource::Model(dir) if objective.reference() => {
                let other = Decoder::load(dir, dtype, &device)?;
                like(&other, &start, dir)?;
                Some(other)
            }
            _ => None,
        };
        let reference = match (&other, objective.reference()) {
            (Some(other), _) => Some(fingerprint(other.parameters())?),
            (None, true) => Some(model.clone()),
            (None, false) => None,
        };
        let cache = match &reference {
            Some(model) if settings.reference != ReferenceSource::Live => {
                Some(Cache::open(model.clone(), &dir.join(reference::FILE))?)
            }
            _ => None,
        };
        let at = checkpoint.as_ref().map(|c| c.dir.as_path());
        let lora = settings.lora_rank > 0;
        let made = |role: Role, decoder: Decoder, at: Option<&Path>| -> Result<_> {
            match at {
                None => Ok((role.start(decoder, folder, settings)?, None)),
                Some(at) if lora => Ok((role.adapted(decoder, at, settings)?, None)),
                Some(at) => Ok((role.restored(at, settings)?, Some(decoder))),
            }
        };
        let value = match objective.value() && settings.value == ValueNetwork::Separate {
            true => {
                let decoder = Role::Value.decoder(folder, dtype, &device)?;
                let at = at.map(|at| at.join(VALUE));
                Some(made(Role::Value, decoder, at.as_deref())?.0)
            }
            false => None,
        };
        let (policy, start) = made(role, start, at)?;
        let computed = cache.as_ref().is_some_and(|cache| !cache.is_empty());
        let wanted = reference.is_some() && other.is_none() && !computed;
        let run = Self {
            settings,
            objective,
            role,
            policy,
            start: start.filter(|_| wanted),
            value,
            other,
            cache,
            checkpoint,
            model,
            reference,
        };
        Ok((run, source))
    }

    /// Trains to the end.
    pub fn train(
        mut self,
        source: &Source,
        claimed: Claimed,
        tell: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let settings = self.settings;
        let plan = Plan::new(settings, self.policy.architecture().context, source)?;
        let manifest = Manifest {
            objective: self.objective.name().into(),
            token_reduction: settings.token_reduction,
            version: env!("CARGO_PKG_VERSION").into(),
            status: RUNNING.into(),
            model: self.model.clone(),
            reference: self.reference.clone(),
            data: source.hash().into(),
            examples: source.len(),
            steps: plan.steps(),
        };
        let bytes = match &self.checkpoint {
            Some(Checkpoint { saved, later, .. }) => {
                tell(&format!("going on after step {}", saved.state.steps));
                later
                    .iter()
                    .try_for_each(|later| checkpoint::discard(later))?;
                saved.metrics_bytes
            }
            None => {
                claimed.clear()?;
                0
            }
        };
        let mut folder = claimed.go_on(settings, manifest, bytes)?;
        let reference = self.reference(&plan)?;
        let policy = self.role.network(self.policy);
        tell(&trained(&*policy));
        let value = self.value.map(|decoder| Role::Value.network(decoder));
        let mut trainer = Trainer::new(settings, plan, policy, value, reference)?;
        if let Some(Checkpoint { dir, saved, .. }) = self.checkpoint {
            trainer.restore(&dir, saved.state)?;
        }
        trainer.run(&mut folder)?;
        checkpoint::write_folder(&folder.dir().join(MODEL), |dir| trainer.save_models(dir))?;
        folder.finish()
    }

    /// What the policy is held against. An adapter's reference is the base that it is on.
    fn reference(&mut self, plan: &Plan) -> Result<Reference> {
        if self.reference.is_none() {
            return Ok(Reference::None);
        }
        let base = match self.settings.lora_rank {
            0 => None,
            _ => Some(self.policy.base()?),
        };
        let (start, other) = (self.start.take(), self.other.take());
        let Some(mut cache) = self.cache.take() else {
            let model = match base.or(start) {
                Some(model) => model,
                None => self.policy.copy()?,
            };
            return Ok(Reference::Live(Box::new(model)));
        };
        // A run that has checkpoints has all numbers, or says which file lacks one.
        if self.checkpoint.is_none() || cache.is_empty() {
            let model = other.as_ref().or(base.as_ref()).or(start.as_ref());
            precompute(plan, model.unwrap_or(&self.policy), &mut cache)?;
        }
        Ok(Reference::Cached(cache))
    }
}

/// Refuses a reference that speaks other tokens.
fn like(other: &Decoder, start: &Decoder, dir: &Path) -> Result<()> {
    let (theirs, ours) = (other.architecture(), start.architecture());
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
