//! A folder taken for a run.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::events::Events;
use super::folder::{CONFIG, FILES, Folder, LOCK, MANIFEST, METRICS, MODEL, Manifest, known};
use super::inputs::Inputs;
use super::machine::Record;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::file;
use crate::llm::checkpoint;

/// How often, and after how long, a folder that is taken is looked at again.
const LOOKS: usize = 5;
const LOOK: Duration = Duration::from_millis(10);

/// A folder that no other process writes to meanwhile.
pub struct Claimed {
    pub(super) dir: PathBuf,
    /// Whether it was made, and nothing is in it yet.
    new: bool,
    /// Released by the system when the process ends, however it ends.
    pub(super) lock: File,
}

impl Claimed {
    /// Claims a folder, made if it is not there.
    ///
    /// # Errors
    /// A folder that cannot be written, or that another process trains in.
    pub fn new(dir: &Path) -> Result<Self> {
        Self::free_of_others(dir)?.map_err(|process| {
            Error::invalid(
                dir.display().to_string(),
                format!("process {process} is training there"),
                "wait for its end, or choose another --out",
            )
        })
    }

    /// The same, or the process that trains there.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn free_of_others(dir: &Path) -> Result<std::result::Result<Self, String>> {
        let new = !dir.exists();
        fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        let path = dir.join(LOCK);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(&path).map_err(Error::io(&path, "create"))?;
        let mut locked = lock.try_lock();
        for _ in 0..LOOKS {
            // `pistar runs` holds it for a moment, to see whether anyone does.
            if let Err(TryLockError::WouldBlock) = locked {
                std::thread::sleep(LOOK);
                locked = lock.try_lock();
            }
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let process = fs::read_to_string(&path).unwrap_or_default();
                return Ok(Err(process.trim().into()));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&path, "lock")(e)),
        }
        (lock.set_len(0))
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(Error::io(&path, "write to"))?;
        checkpoint::clean(dir)?;
        Ok(Ok(Self {
            dir: dir.into(),
            new,
            lock,
        }))
    }

    /// The settings of the run that was begun in it, if one was.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn settings(&self) -> Result<Option<Settings>> {
        let path = self.dir.join(CONFIG);
        if !path.exists() {
            return Ok(None);
        }
        let text = file::read(&path)?;
        Settings::parse(&text, &path.display().to_string()).map(Some)
    }

    /// The manifest of the run that was begun in it, if one was.
    ///
    /// # Errors
    /// If it is broken.
    pub fn manifest(&self) -> Result<Option<Manifest>> {
        Manifest::of(&self.dir)
    }

    /// Refuses to call a run complete that was one of other inputs, or whose model is gone.
    ///
    /// # Errors
    /// Which inputs differ; no model; a folder of another version's format.
    pub fn complete(&self, manifest: &Manifest, inputs: &Inputs) -> Result<()> {
        known(&self.dir.join(MANIFEST), manifest.format)?;
        inputs.same(&manifest.inputs)?;
        let model = self.dir.join(MODEL);
        if model.is_dir() {
            return Ok(());
        }
        Err(Error::invalid(
            model.display().to_string(),
            "the run is complete, and its model is not there",
            "put it back, or train it again with --overwrite",
        ))
    }

    /// Refuses a folder in which the run would write over what is no run's.
    ///
    /// # Errors
    /// No run was begun in it, and it has a file or folder with a name that a run uses.
    pub fn free(&self) -> Result<()> {
        let mut names: Vec<PathBuf> = FILES.map(Into::into).into();
        names.extend(
            checkpoint::list(&self.dir)?
                .into_iter()
                .map(|(_, path)| path),
        );
        match names
            .into_iter()
            .map(|n| self.dir.join(n))
            .find(|n| n.exists())
        {
            None => Ok(()),
            Some(_) if self.dir.join(CONFIG).exists() => Ok(()),
            Some(name) => Err(Error::invalid(
                name.display().to_string(),
                "a run would write there, and it is no run's (there is no config.toml beside it)",
                "choose another --out",
            )),
        }
    }

    /// Refuses what is read from where the run writes.
    ///
    /// # Errors
    /// A folder that is, or is in, the run's `model` or one of its checkpoints.
    pub fn apart(&self, place: &str, read: &Path) -> Result<()> {
        let real = |path: &Path| path.canonicalize().ok();
        let (Some(own), Some(path)) = (real(&self.dir), real(read)) else {
            return Ok(());
        };
        let name = (path.strip_prefix(own).ok())
            .and_then(|rest| rest.components().next())
            .map(|first| first.as_os_str().to_string_lossy().into_owned());
        match name.is_some_and(|n| n == MODEL || n.starts_with(checkpoint::CHECKPOINT)) {
            false => Ok(()),
            true => Err(Error::invalid(
                format!("{place}: {}", read.display()),
                "the run itself would write there",
                "choose another --out",
            )),
        }
    }

    /// Removes the run that was begun in it, if one was, but for the reference's numbers, which say
    /// what they are of.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn clear(&self) -> Result<()> {
        if !self.dir.join(CONFIG).exists() {
            return Ok(());
        }
        checkpoint::prune(&self.dir, 0)?;
        // The settings last: with them goes the sign that the rest is a run's.
        for name in FILES.into_iter().chain([CONFIG]) {
            checkpoint::discard(&self.dir.join(name))?;
        }
        Ok(())
    }

    /// Begins a run, or goes on with one whose rows had that many bytes at the checkpoint after so
    /// many steps: later ones are forgotten.
    ///
    /// # Errors
    /// Rows of fewer bytes, or files that cannot be written.
    pub fn go_on(
        mut self,
        settings: &Settings,
        manifest: Manifest,
        checkpoint: Option<(u64, u64)>,
    ) -> Result<Folder> {
        let bytes = checkpoint.map_or(0, |(_, bytes)| bytes);
        let path = self.dir.join(METRICS);
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true);
        self.new = false;
        let config = self.dir.join(CONFIG);
        checkpoint::write_file(&config, settings.to_toml()?.as_bytes())?;
        let rows = options.open(&path).map_err(Error::io(&path, "create"))?;
        let length = rows.metadata().map_err(Error::io(&path, "read"))?.len();
        if length < bytes {
            return Err(Error::invalid(
                path.display().to_string(),
                format!("it has {length} bytes, and had {bytes} at the checkpoint"),
                "put the rows back, or start the run anew with --overwrite",
            ));
        }
        rows.set_len(bytes).map_err(Error::io(&path, "write to"))?;
        let events = Events::open(&self.dir, checkpoint.map(|(steps, _)| steps))?;
        let record = Record::begin(&self.dir, &settings.device)?;
        Folder::open(self, rows, bytes, events, record, manifest)
    }
}

/// A folder that was made for a run that did not begin goes again.
impl Drop for Claimed {
    fn drop(&mut self) {
        if self.new {
            // If anything else is in it by now, it stays.
            let _ = fs::remove_file(self.dir.join(LOCK));
            let _ = fs::remove_dir(&self.dir);
        }
    }
}
