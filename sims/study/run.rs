//! Trials on all cores, each kept when it is done, so that a study goes on where it was stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::file::{PART, only, write_whole};
use crate::observer::Observer;
use crate::rows::scores::{Judged, Score, scores};
use crate::rows::table::{read_whole, write};
use crate::sim::folder::{Folder, Manifest, another};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::Request;
use crate::observer::Work;
use crate::rows::table::Record;

/// A training run of a study.
pub trait Job: Sync {
    /// What all trials of the study share.
    type World: Sync;
    /// Its judgements on the way.
    type Row: Record;

    /// Names its file.
    fn name(&self) -> String;

    /// Steps of it.
    ///
    /// # Errors
    /// Settings that do not suit the world.
    fn steps(&self, world: &Self::World) -> Result<u64>;

    /// Trains and judges; `work` advances by steps.
    ///
    /// # Errors
    /// Those of the library, among them a loss that is not finite.
    fn run(&self, world: &Self::World, work: &dyn Work) -> Result<Vec<Self::Row>>;
}

/// Where the rows of finished trials are kept.
const TRIALS: &str = "trials";

/// A study under way.
pub struct Run<'a> {
    dir: PathBuf,
    threads: usize,
    folder: Folder,
    observer: &'a dyn Observer,
}

impl<'a> Run<'a> {
    /// Starts the study `name` in `dir`, or goes on with it; `config` is everything that its rows
    /// depend on.
    ///
    /// # Errors
    /// A folder that cannot be written or holds another study.
    pub fn start(name: &str, request: &Request<'a>, dir: &Path, config: Value) -> Result<Self> {
        let kept = dir.join(TRIALS);
        if let (true, Some(other)) = (kept.exists(), another(dir, name, &config)) {
            ensure!(
                Manifest::read(dir).is_ok(),
                "{}: a study would write there, and no study's manifest.json is in the folder; move it \
                 away, or choose another --out",
                kept.display()
            );
            ensure!(
                request.overwrite,
                "{}: it holds the trials of another study ({other}); choose another --out, or pass \
                 --overwrite to replace them",
                kept.display()
            );
            // Only what a study writes there.
            only(&kept, |name, kind| {
                kind.is_file() && name.trim_end_matches(PART).ends_with(".csv")
            })?;
            fs::remove_dir_all(&kept)
                .with_context(|| format!("{}: cannot remove", kept.display()))?;
        }
        let folder = Folder::open(dir, name, config, request.threads, request.overwrite)?;
        fs::create_dir_all(&kept).with_context(|| format!("{}: cannot create", kept.display()))?;
        Ok(Self {
            dir: dir.into(),
            threads: request.threads,
            folder,
            observer: request.observer,
        })
    }

    /// The rows of all trials, in their order; those that are not there yet are run, one a thread.
    ///
    /// # Errors
    /// That of the first trial that fails.
    pub fn trials<J: Job>(
        &self,
        title: &str,
        world: &J::World,
        trials: &[J],
    ) -> Result<Vec<J::Row>> {
        let place = |trial: &J| self.dir.join(TRIALS).join(trial.name() + ".csv");
        let left: Vec<&J> = trials.iter().filter(|t| !place(t).exists()).collect();
        let mut steps = 0;
        for trial in &left {
            steps += trial.steps(world)?;
        }
        let progress = self.observer.begin(title, steps);
        progress.advance(0);
        let (next, stop, failed) = (
            AtomicUsize::new(0),
            AtomicBool::new(false),
            Mutex::new(None),
        );
        let work = || {
            while !stop.load(Ordering::Relaxed)
                && let Some(trial) = left.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let done = trial
                    .run(world, &*progress)
                    .and_then(|rows| Ok(write_whole(&place(trial), write(&rows).as_bytes())?));
                if let Err(error) = done {
                    stop.store(true, Ordering::Relaxed);
                    let error = error.context(trial.name());
                    // A poisoned lock means that another thread has failed worse.
                    let _ = failed.lock().map(|mut first| {
                        first.get_or_insert(error);
                    });
                }
            }
        };
        // Trials on threads of their own: one that waited in a shared pool would begin another.
        let pools = (0..self.threads.min(left.len()).max(1))
            .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
            .collect::<Result<Vec<_>, _>>()
            .context("--threads: use fewer")?;
        std::thread::scope(|scope| {
            for pool in &pools {
                scope.spawn(|| pool.install(work));
            }
        });
        drop(progress);
        if let Some(error) = failed
            .into_inner()
            .map_err(|_| anyhow!("a trial panicked"))?
        {
            return Err(error);
        }
        let mut rows = Vec::new();
        for trial in trials {
            rows.extend(read_whole::<J::Row>(&place(trial), self.observer)?);
        }
        Ok(rows)
    }

    /// Writes rows beside those of the trials.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write<R: Record>(&self, name: &str, rows: &[R]) -> Result<()> {
        Ok(self.folder.write(name, &write(rows))?)
    }

    /// Writes all rows, and the runs' scores for `aggregate`, and closes the study.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn finish<R: Record + Judged>(self, rows: &[R]) -> Result<()> {
        self.folder.write("rows.csv", &write(rows))?;
        let lines = scores(rows)
            .iter()
            .map(Score::line)
            .collect::<serde_json::Result<String>>();
        self.folder.write("scores.jsonl", &lines?)?;
        Ok(self.folder.finish(None)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observer::Silent;

    fn start(dir: &Path, setting: u64, overwrite: bool) -> Result<()> {
        let request = Request {
            observer: &Silent,
            depends: Vec::new(),
            threads: 1,
            overwrite,
            model: None,
            reward: Vec::new(),
            lr: None,
            seeds: None,
            prompts: None,
            full: false,
            key: 0,
        };
        Run::start("dro", &request, dir, json!({ "setting": setting })).map(drop)
    }

    #[test]
    fn only_trials_of_a_study_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // Of others: there is no study.
        fs::create_dir(at(TRIALS)).unwrap();
        fs::write(at("trials/mine.csv"), "mine").unwrap();
        for overwrite in [false, true] {
            assert!(start(dir.path(), 1, overwrite).is_err());
            assert_eq!(fs::read(at("trials/mine.csv")).unwrap(), b"mine");
        }
        fs::remove_dir_all(at(TRIALS)).unwrap();
        start(dir.path(), 1, false).unwrap();
        for name in ["trials/a.csv", "trials/.b.csv.part"] {
            fs::write(at(name), "of a trial").unwrap();
        }
        start(dir.path(), 1, false).unwrap();
        assert!(at("trials/a.csv").exists());
        assert!(start(dir.path(), 2, false).is_err());
        fs::write(at("trials/thesis.txt"), "mine").unwrap();
        let error = start(dir.path(), 2, true).unwrap_err().to_string();
        assert!(error.contains("thesis.txt"), "{error}");
        assert!(at("trials/a.csv").exists() && at("trials/thesis.txt").exists());
        fs::remove_file(at("trials/thesis.txt")).unwrap();
        start(dir.path(), 2, true).unwrap();
        assert_eq!(fs::read_dir(at(TRIALS)).unwrap().count(), 0);
    }
}
