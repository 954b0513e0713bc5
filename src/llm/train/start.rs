//! From settings to a run, new or gone on with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{COMPLETE, Claimed, Folder, MODEL, Manifest, RUNNING};
use super::learner::Model;
use super::networks::Role;
use super::plan::Plan;
use super::settings::{ReferenceSource, Settings, ValueNetwork};
use super::state::Saved;
use super::{Trainer, VALUE, precompute};
use crate::error::{Error, Result};
use crate::llm::checkpoint;
use crate::llm::data::{Form, Source};
use crate::llm::decoder::Decoder;
use crate::llm::objective::TextObjective;
use crate::llm::reference::{self, Cache, Reference, fingerprint};
use crate::llm::tokenizer::Tokenizer;

/// Trains by those settings, from the first step or from a checkpoint, to the end. Says what a
/// person may want to know through `tell`. Returns the run's folder.
///
/// # Errors
/// Settings, model, data or folder that cannot be used, or those of [`Trainer::run`].
pub fn train(settings: Settings, tell: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let (settings, from) = place(settings)?;
    let dir = settings.out.clone().unwrap_or_default();
    let claimed = Claimed::new(&dir)?;
    let begun = claimed.settings()?;
    let resume = settings.resume.is_some();
    if begun.is_some() && !resume && !settings.overwrite {
        return Err(Error::invalid(
            dir.display().to_string(),
            "there is a run in it already",
            "pass --resume to go on with it, --overwrite to replace it, or choose another --out",
        ));
    }
    let settings = settings.resolve()?;
    if let (true, Some(begun)) = (resume, &begun) {
        settings.same(begun)?;
        if claimed.manifest().is_ok_and(|m| m.status == COMPLETE) && from.is_none() {
            tell("the run is complete already");
            return Ok(dir);
        }
    }
    let checkpoint = match resume {
        true => choose(&dir, from)?,
        false => None,
    };
    Run::load(&settings, tell)?.train(claimed, checkpoint.as_deref(), tell)?;
    Ok(dir)
}

/// Where the run is, and the checkpoint that was asked for by name.
fn place(mut settings: Settings) -> Result<(Settings, Option<PathBuf>)> {
    let named = settings.resume.clone().filter(|r| r != Path::new("latest"));
    if let Some(checkpoint) = &named {
        let run = checkpoint.parent().map(Path::to_path_buf);
        let is_one = checkpoint.join(checkpoint::STATE).is_file();
        let fail = |problem: &str| {
            let place = format!("resume: {}", checkpoint.display());
            let remedy = "name a checkpoint-N of the run, or none for the last one";
            Err(Error::invalid(place, problem, remedy))
        };
        let real = |path: &Option<PathBuf>| path.as_ref().and_then(|p| p.canonicalize().ok());
        match &settings.out {
            _ if !is_one => return fail("it is no complete checkpoint"),
            None => settings.out = run,
            Some(_) if real(&settings.out) == real(&run) => {}
            Some(_) => return fail("it is not in the run's folder (--out)"),
        }
    }
    if settings.out.is_none() {
        let Some(name) = &settings.objective else {
            settings.objective()?;
            return Ok((settings, named));
        };
        settings.out = Some(Path::new("out").join(name));
    }
    Ok((settings, named))
}

/// The checkpoint to go on from, without any newer ones.
fn choose(dir: &Path, named: Option<PathBuf>) -> Result<Option<PathBuf>> {
    let mut all = checkpoint::list(dir)?;
    if let Some(named) = named {
        while let Some((_, last)) = all.last()
            && last.file_name() != named.file_name()
        {
            checkpoint::discard(last)?;
            all.pop();
        }
    }
    Ok(all.pop().map(|(_, path)| path))
}

/// What a run is made of, as given.
struct Run<'a> {
    settings: &'a Settings,
    objective: TextObjective,
    role: Role,
    folder: &'a Path,
    start: Decoder,
    value: Option<Decoder>,
    /// A reference that is another model.
    other: Option<Decoder>,
    source: Source,
}

impl<'a> Run<'a> {
    /// Reads everything and writes nothing.
    fn load(settings: &'a Settings, tell: &mut dyn FnMut(&str)) -> Result<Self> {
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
        let mut source = Source::open(
            file,
            Form::from(objective.registered()),
            Arc::new(tokenizer),
            architecture.context,
            settings.rows(),
        )?;
        tell(&source.survey()?.to_string());
        let value = match objective.value() && settings.value == ValueNetwork::Separate {
            true => Some(Role::Value.decoder(folder, dtype, &device)?),
            false => None,
        };
        let other = match &settings.reference {
            ReferenceSource::Model(dir) if objective.reference() => {
                let other = Decoder::load(dir, dtype, &device)?;
                like(&other, &start, dir)?;
                Some(other)
            }
            _ => None,
        };
        Ok(Self {
            settings,
            objective,
            role,
            folder,
            start,
            value,
            other,
            source,
        })
    }

    /// Trains to the end.
    fn train(
        self,
        claimed: Claimed,
        checkpoint: Option<&Path>,
        tell: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let (settings, role) = (self.settings, self.role);
        let plan = Plan::new(settings, self.start.architecture().context, &self.source)?;
        let manifest = self.manifest(&plan)?;
        let saved = checkpoint.map(Saved::read).transpose()?;
        let mut folder = match &saved {
            Some(saved) => {
                saved.same(settings, &manifest.data, &manifest.model)?;
                tell(&format!("going on after step {}", saved.state.steps));
                claimed.go_on(settings, manifest, saved.metrics_bytes)?
            }
            None => {
                claimed.clear()?;
                claimed.go_on(settings, manifest, 0)?
            }
        };
        let reference = self.reference(&plan, &folder, saved.is_some())?;
        let made = |role: Role, decoder, at: Option<PathBuf>| match at {
            Some(checkpoint) => role.resume(decoder, &checkpoint, settings),
            None => role.start(decoder, self.folder, settings),
        };
        let policy = made(role, self.start, checkpoint.map(Path::to_path_buf))?;
        let reference = match reference {
            Some(reference) => reference,
            // The reference of an adapter is what it was put on.
            None => Reference::Live(Box::new(policy.base()?)),
        };
        let value = match self.value {
            Some(decoder) => {
                let decoder = made(Role::Value, decoder, checkpoint.map(|c| c.join(VALUE)))?;
                Some(Role::Value.network(decoder))
            }
            None => None,
        };
        let policy = role.network(policy);
        tell(&trained(&*policy));
        let mut trainer = Trainer::new(settings, plan, policy, value, reference)?;
        if let (Some(dir), Some(saved)) = (checkpoint, saved) {
            trainer.restore(dir, saved.state)?;
        }
        trainer.run(&mut folder)?;
        checkpoint::write_folder(&folder.dir().join(MODEL), |dir| trainer.save_models(dir))?;
        folder.finish()
    }

    fn manifest(&self, plan: &Plan) -> Result<Manifest> {
        let model = fingerprint(self.start.parameters())?;
        let reference = match (&self.other, self.objective.reference()) {
            (Some(other), _) => Some(fingerprint(other.parameters())?),
            (None, true) => Some(model.clone()),
            (None, false) => None,
        };
        Ok(Manifest {
            objective: self.objective.name().into(),
            token_reduction: self.settings.token_reduction,
            version: env!("CARGO_PKG_VERSION").into(),
            status: RUNNING.into(),
            model,
            reference,
            data: self.source.hash().into(),
            examples: self.source.len(),
            steps: plan.steps(),
        })
    }

    /// The reference, unless it is the base of an adapter that is still to come.
    fn reference(&self, plan: &Plan, folder: &Folder, resumed: bool) -> Result<Option<Reference>> {
        let live = self.settings.reference == ReferenceSource::Live;
        match folder.manifest().reference.clone() {
            None => Ok(Some(Reference::None)),
            Some(_) if live && self.settings.lora_rank > 0 => Ok(None),
            Some(_) if live => Ok(Some(Reference::Live(Box::new(self.start.copy()?)))),
            Some(model) => {
                let path = folder.dir().join(reference::FILE);
                let mut cache = Cache::open(model, &path)?;
                // A run that has checkpoints has all numbers, or says which file lacks one.
                if !resumed || cache.is_empty() {
                    precompute(plan, self.other.as_ref().unwrap_or(&self.start), &mut cache)?;
                }
                Ok(Some(Reference::Cached(cache)))
            }
        }
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
