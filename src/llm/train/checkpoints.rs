//! Checkpoints: written, counted, and the best one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::enums::Better;
use super::folder::Folder;
use super::reference::Reference;
use super::settings::Settings;
use super::state::{Saved, State};
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::llm::files::checkpoint;

/// Where a checkpoint has the separate value network.
pub(super) const VALUE: &str = "value";

/// The best score that an evaluation gave so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The metric's name.
    #[serde(rename = "best_metric_name")]
    pub metric: String,
    /// Its value.
    #[serde(rename = "best_metric")]
    pub value: f64,
    /// Steps done then.
    #[serde(rename = "best_global_step")]
    pub step: u64,
}

impl State {
    /// Whether an evaluation is the best so far by `keep_best`; then it is remembered. An equal one
    /// is not better, nor is one that is no number.
    pub(super) fn is_best(&mut self, settings: &Settings, found: &BTreeMap<String, f64>) -> bool {
        let Some((metric, better)) = settings.best() else {
            return false;
        };
        let Some(&value) = found.get(metric).filter(|v| !v.is_nan()) else {
            return false;
        };
        let beats = |old: &Best| match better {
            Better::Min => value < old.value,
            Better::Max => value > old.value,
        };
        // The start is no result.
        if self.steps == 0 || !self.best.as_ref().is_none_or(beats) {
            return false;
        }
        self.best = Some(Best {
            metric: metric.into(),
            value,
            step: self.steps,
        });
        true
    }
}

impl Settings {
    /// The metric that the best checkpoint is told by, and which direction is better.
    pub(super) fn best(&self) -> Option<(&str, Better)> {
        let metric = self.keep_best.as_deref()?;
        Some((metric, self.keep_best_mode.or(Better::of(metric))?))
    }
}

impl Trainer<'_> {
    /// Writes a checkpoint, and then removes older ones: all that were written because the run was
    /// interrupted, and of the others all but the newest and the best. What is left never depends
    /// on interruptions.
    pub(super) fn checkpoint(&self, folder: &mut Folder, interrupted: bool) -> Result<()> {
        let steps = self.state.steps;
        let saved = Saved {
            state: self.state.clone(),
            interrupted,
            epoch: self.plan.epochs(steps),
            metrics_bytes: folder.sync()?,
            inputs: folder.manifest().inputs.clone(),
            settings: self.settings.clone(),
        };
        crate::file::write_folder(&checkpoint::path(folder.dir(), steps), |dir| {
            let companions = self.settings.model.as_deref();
            self.policy.save(dir, companions)?;
            if let Some(ensemble) = &self.ensemble {
                ensemble.save(dir)?;
            }
            if let Some(value) = &self.value {
                value.save(&value_folder(dir)?, companions)?;
            }
            if let Reference::Average(average) = &self.reference {
                average.save(dir)?;
            }
            for hook in &self.lesson.hooks {
                hook.save(dir, &self.policy)?;
            }
            saved.write(dir)
        })?;
        prune(folder.dir(), self.settings.keep, &self.state, Some(steps))
    }

    /// Takes up what a checkpoint has besides the networks.
    ///
    /// # Errors
    /// A file that is missing or broken.
    pub(super) fn restore(&mut self, dir: &Path, state: State) -> Result<()> {
        match &mut self.ensemble {
            None => self.policy.restore(dir)?,
            Some(ensemble) => ensemble.restore(dir)?,
        }
        if let Some(value) = &mut self.value {
            value.restore(&dir.join(VALUE))?;
        }
        if let Reference::Average(average) = &mut self.reference {
            average.restore(dir)?;
        }
        for hook in &mut self.lesson.hooks {
            hook.restore(dir, &self.policy)?;
        }
        self.state = state;
        Ok(())
    }

    /// Writes the networks to a folder that is there.
    pub(super) fn save_models(&self, dir: &Path) -> Result<()> {
        let companions = self.settings.model.as_deref();
        self.policy.model.save(dir, companions)?;
        for hook in &self.lesson.hooks {
            hook.save(dir, &self.policy)?;
        }
        match &self.value {
            Some(value) => value.model.save(&value_folder(dir)?, companions),
            None => Ok(()),
        }
    }
}

/// Removes checkpoints but for the newest `keep` (0: all), the best one, and the `newest`, just
/// written. Those of interruptions do not count, and go.
pub(super) fn prune(run: &Path, keep: usize, state: &State, newest: Option<u64>) -> Result<()> {
    let mut regular = Vec::new();
    for (steps, path) in checkpoint::list(run)? {
        if Some(steps) != newest && Saved::read(&path)?.interrupted {
            crate::file::discard(&path)?
        } else {
            regular.push((steps, path))
        }
    }
    if keep == 0 {
        return Ok(());
    }
    let newest = regular.iter().rev().take(keep).map(|(steps, _)| *steps);
    let mut kept: BTreeSet<u64> = newest.collect();
    kept.extend(state.best.as_ref().map(|best| best.step));
    let mut gone = regular.iter().filter(|(steps, _)| !kept.contains(steps));
    gone.try_for_each(|(_, path)| crate::file::discard(path))
}

fn value_folder(dir: &Path) -> Result<PathBuf> {
    let dir = dir.join(VALUE);
    fs::create_dir(&dir).map_err(Error::io(&dir, "create"))?;
    Ok(dir)
}
