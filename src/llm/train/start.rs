//! Start of a run, new or gone on with, from its settings.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::enums::ReferenceSource;
use super::folder::COMPLETE;
use super::inputs::Inputs;
use super::lesson::Lesson;
use super::load::{Checkpoint, Run};
use super::lock::Claimed;
use super::run_loop::Ended;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::files::checkpoint;
use crate::llm::model::model_folder::ModelFolder;
use crate::observer::Observer;

/// Trains by those settings, from the first step or from a checkpoint, to the end. Tells
/// `observer` how far it is, and what a person may want to know. Returns the run's folder.
///
/// # Errors
/// Settings, model, data or folder that cannot be used, or those of
/// [`Trainer::run`](super::Trainer::run).
pub fn train(settings: Settings, observer: &dyn Observer) -> Result<PathBuf> {
    match train_until(settings, &AtomicBool::new(false), observer)? {
        Ended::Complete(dir) | Ended::Before(dir) | Ended::Interrupted { dir, .. } => Ok(dir),
    }
}

/// The same, until `stop` is set: then the step that is being done is finished and saved.
///
/// # Errors
/// As [`train`].
pub fn train_until(
    settings: Settings,
    stop: &AtomicBool,
    observer: &dyn Observer,
) -> Result<Ended> {
    train_lesson(settings, Lesson::default(), stop, observer)
}

/// The same with what the run has beside its settings, which must be the same whenever it goes on.
///
/// # Errors
/// As [`train`].
pub fn train_lesson(
    settings: Settings,
    lesson: Lesson,
    stop: &AtomicBool,
    observer: &dyn Observer,
) -> Result<Ended> {
    if settings.sweep.is_some() {
        let remedy = "leave out the table `sweep`, or call `sweep`";
        return Err(Error::invalid(
            "sweep",
            "it is many runs, and this is one",
            remedy,
        ));
    }
    let (settings, from) = place(settings)?;
    let dir = settings.out.clone().unwrap_or_default();
    let claimed = Claimed::new(&dir)?;
    train_in(claimed, settings, from, lesson, stop, observer)
}

/// Trains in a folder that was claimed, from that checkpoint or as the settings say.
pub(super) fn train_in(
    claimed: Claimed,
    settings: Settings,
    from: Option<PathBuf>,
    lesson: Lesson,
    stop: &AtomicBool,
    observer: &dyn Observer,
) -> Result<Ended> {
    let dir = settings.out.clone().unwrap_or_default();
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
    for (place, path) in read(&settings) {
        claimed.apart(place, &path)?;
    }
    // What is cheap to compare goes first: reading takes as long as the data are.
    if let (true, Some(begun)) = (resume, &begun) {
        settings.same(begun)?;
    }
    let inputs = Inputs::read(&settings, observer)?;
    if resume
        && begun.is_some()
        && from.is_none()
        && let Some(manifest) = claimed.manifest()?
        && manifest.status == COMPLETE
    {
        claimed.complete(&manifest, &inputs)?;
        claimed.clean()?;
        observer.tell("the run is complete already");
        return Ok(Ended::Before(dir));
    }
    let checkpoint = if resume {
        Checkpoint::choose(&dir, from)?
    } else {
        None
    };
    let (run, sources) = Run::load(&settings, inputs, &dir, checkpoint, observer)?;
    run.train(&sources, claimed, lesson, stop, observer)
}

/// The folders that the run reads models from.
fn read(settings: &Settings) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let model = settings.model.as_deref().map(|dir| ("model", dir));
    let reference = match &settings.reference {
        ReferenceSource::Model(dir) => Some(("reference", dir.as_path())),
        _ => None,
    };
    let found = |(place, dir): (&'static str, &Path)| {
        let found = ModelFolder::find(dir).ok();
        let folders = match found {
            Some(found) => [found.folder].into_iter().chain(found.base).collect(),
            None => vec![dir.to_path_buf()],
        };
        folders.into_iter().map(move |dir| (place, dir))
    };
    model.into_iter().chain(reference).flat_map(found)
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
