//! A sweep: runs over a grid of settings, each in a folder of its own.
//!
//! Several processes may work on the same sweep: each trains what no other one does.

mod grid;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use toml::{Table, Value};

pub use grid::{Axis, Member, members};

use super::folder::{CONFIG, Manifest};
use super::inputs::Inputs;
use super::lesson::Lesson;
use super::lock::Claimed;
use super::run_loop::Ended;
use super::settings::Settings;
use super::start::train_in;
use crate::error::{Error, Result};
use crate::observer::{Observer, Silent};

/// Name of the file that runs the same sweep again.
pub const SWEEP: &str = "sweep.toml";

/// The runs of a sweep, checked.
#[derive(Debug)]
pub struct Sweep {
    /// Its folder.
    pub dir: PathBuf,
    members: Vec<Member>,
    file: String,
}

/// Outcome of the runs of a sweep.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Runs that were complete before.
    pub before: usize,
    /// Runs that this process brought to their end.
    pub complete: usize,
    /// Runs that other processes train.
    pub elsewhere: Vec<String>,
    /// Runs that failed, and why.
    pub failed: Vec<(String, Error)>,
    /// The run that was stopped, and its folder.
    pub interrupted: Option<PathBuf>,
}

impl Sweep {
    /// Checks all runs before any is begun: the flags' axes and those of the settings' `[sweep]`
    /// table, of which the flags' win.
    ///
    /// # Errors
    /// A field or value that cannot be, a file that is not there, or a run in one of the folders
    /// that has other settings or had other inputs.
    pub fn new(base: &Settings, mut axes: Vec<Axis>, mut seeds: Option<u64>) -> Result<Self> {
        if let Some(table) = &base.sweep {
            let (more, counted) = Axis::of_table(table)?;
            seeds = seeds.or(counted);
            let new = |axis: &Axis| axes.iter().all(|other| other.field() != axis.field());
            let more: Vec<Axis> = more.into_iter().filter(new).collect();
            axes.extend(more);
        }
        if seeds == Some(0) {
            return Err(Error::invalid("seeds", "it is 0", "give 1 or more"));
        }
        if base.overwrite {
            let remedy = "remove the folders of the runs that are to be replaced";
            return Err(Error::invalid(
                "overwrite",
                "a sweep replaces no run",
                remedy,
            ));
        }
        if base
            .resume
            .as_deref()
            .is_some_and(|r| r != Path::new("latest"))
        {
            let remedy = "leave it out: every run of a sweep goes on by itself";
            return Err(Error::invalid("resume", "it names one run", remedy));
        }
        let dir = base.out.clone().unwrap_or_else(|| {
            let name = base.objective.as_deref().unwrap_or("sweep");
            Path::new("out").join(name)
        });
        if dir.join(CONFIG).exists() {
            return Err(Error::invalid(
                dir.display().to_string(),
                "there is a run in it",
                "choose another --out for the sweep",
            ));
        }
        let members = members(base, &axes, seeds)?;
        let mut sweep = Self {
            dir,
            members,
            file: file(base, &axes, seeds)?,
        };
        sweep.check()?;
        Ok(sweep)
    }

    /// The runs.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    fn check(&mut self) -> Result<()> {
        for Member { name, settings } in &mut self.members {
            let dir = self.dir.join(&*name);
            settings.out = Some(dir.clone());
            settings.resume = Some("latest".into());
            let named = |error: Error| error.in_file(&format!("sweep: {name}"));
            let resolved = settings.clone().resolve().map_err(named)?;
            for (place, file) in [
                ("model", &resolved.model),
                ("data", &resolved.data),
                ("eval_data", &resolved.eval_data),
            ] {
                // A pattern names files by itself.
                let pattern = |file: &Path| file.to_string_lossy().contains('*');
                let missing = |file: &&PathBuf| !file.exists() && !pattern(file);
                if let Some(file) = file.as_ref().filter(missing) {
                    let place = format!("{place}: {}", file.display());
                    let missing = Error::invalid(place, "it is not there", "check the path");
                    return Err(named(missing));
                }
            }
            let config = dir.join(CONFIG);
            if config.exists() {
                let text = crate::file::read(&config)?;
                let begun = Settings::parse(&text, &config.display().to_string())?;
                resolved.same(&begun).map_err(named)?;
            }
            // None is trained on other inputs than those that are there already.
            if let Some(manifest) = Manifest::of(&dir)? {
                let inputs = Inputs::read(&resolved, &Silent).map_err(named)?;
                manifest.holds(&dir, &inputs).map_err(named)?;
            }
        }
        Ok(())
    }

    /// Trains every run that is not complete and that no other process trains. One that fails does
    /// not stop the others. Once `stop` is set, the run that is being trained is saved and no other
    /// begun.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn run(&self, stop: &AtomicBool, observer: &dyn Observer) -> Result<Outcome> {
        self.write()?;
        let mut outcome = Outcome::default();
        for (i, Member { name, settings }) in self.members.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let head = format!("[{}/{}] {name}", i + 1, self.members.len());
            let dir = self.dir.join(name);
            let claimed = match Claimed::free_of_others(&dir) {
                Ok(Ok(claimed)) => claimed,
                Err(error) => {
                    observer.tell(&format!("{head}: {error}"));
                    outcome.failed.push((name.clone(), error));
                    continue;
                }
                Ok(Err(process)) => {
                    observer.tell(&format!("{head}: process {process} trains it"));
                    outcome.elsewhere.push(name.clone());
                    continue;
                }
            };
            observer.tell(&head);
            match train_in(
                claimed,
                settings.clone(),
                None,
                Lesson::default(),
                stop,
                observer,
            ) {
                Ok(Ended::Complete(_)) => outcome.complete += 1,
                Ok(Ended::Before(_)) => outcome.before += 1,
                Ok(Ended::Interrupted { dir, .. }) => outcome.interrupted = Some(dir),
                Err(error) => {
                    observer.tell(&format!("{head}: {error}"));
                    outcome.failed.push((name.clone(), error));
                }
            }
        }
        Ok(outcome)
    }

    /// Writes what runs the same sweep again.
    fn write(&self) -> Result<()> {
        std::fs::create_dir_all(&self.dir).map_err(Error::io(&self.dir, "create"))?;
        let path = self.dir.join(SWEEP);
        let there = || std::fs::read_to_string(&path).is_ok_and(|text| text == self.file);
        if there() {
            return Ok(());
        }
        // Processes that begin at the same time write it one after the other, where folders can be
        // opened and locked; the lock ends with the handle.
        let folder = std::fs::File::open(&self.dir).ok();
        let _locked = folder.as_ref().map(|folder| folder.lock());
        if there() {
            return Ok(());
        }
        match crate::file::write_whole(&path, self.file.as_bytes()) {
            // Elsewhere another one may have.
            Err(error) if !there() => Err(error),
            _ => Ok(()),
        }
    }
}

/// The settings that all runs share, and a `[sweep]` table.
fn file(base: &Settings, axes: &[Axis], seeds: Option<u64>) -> Result<String> {
    let mut table = Table::new();
    if let Some(seeds) = seeds {
        table.insert("seeds".into(), Value::Integer(seeds as i64));
    }
    for axis in axes {
        table.insert(axis.field().into(), axis.values());
    }
    let sweep = Table::from_iter([("sweep".to_string(), Value::Table(table))]);
    let failed = |e: toml::ser::Error| Error::invalid("sweep", e.to_string(), "use other values");
    Ok(base.to_toml()? + "\n" + &toml::to_string(&sweep).map_err(failed)?)
}
