//! A folder taken for a run.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::events::Events;
use super::folder::{CONFIG, FILES, FOLDERS, Folder, LOCK, MANIFEST, METRICS, MODEL, Manifest};
use super::inputs::Inputs;
use super::machine::Record;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::file::{self, Made};
use crate::llm::{files::checkpoint, train::reference};

/// How often, and after how long, a folder that is taken is looked at again.
const LOOKS: usize = 5;
const LOOK: Duration = Duration::from_millis(10);

/// Most bytes of a lock, which holds the number of a process.
const MOST: u64 = 24;

/// A folder that no other process writes to meanwhile. Of what was in it nothing has been touched.
pub struct Claimed {
    pub(super) dir: PathBuf,
    /// Which folder that was, whatever stands there later.
    folder: Option<Id>,
    /// Whether a run was begun in it.
    begun: bool,
    /// Whether the lock was made, and no run is in the folder yet.
    new: bool,
    /// Released by the system when the process ends, however it ends.
    pub(super) lock: File,
    /// Goes last, when the lock is no longer in it.
    made: Made,
}

/// What tells a file from others, whatever its name.
type Id = (u64, u64);

fn id(metadata: &Metadata) -> Option<Id> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        None
    }
}

/// Takes the lock, made if it is not there; says whether it was. Or says which process has it.
fn locked(path: &Path) -> Result<std::result::Result<(File, bool), String>> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut looks = 0;
    loop {
        let new = path.symlink_metadata().is_err();
        let lock = file::own(path, options)?;
        match lock.try_lock() {
            Ok(()) => {}
            // `pistar runs` holds it for a moment, to see whether anyone does.
            Err(TryLockError::WouldBlock) if looks < LOOKS => {
                looks += 1;
                std::thread::sleep(LOOK);
                continue;
            }
            Err(TryLockError::WouldBlock) => {
                let process = fs::read_to_string(path).unwrap_or_default();
                return Ok(Err(process.trim().into()));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(path, "lock")(e)),
        }
        // One who was refused meanwhile may have taken it away.
        let here = path.symlink_metadata().ok().map(|m| id(&m));
        if here == lock.metadata().ok().map(|m| id(&m)) {
            return Ok(Ok((lock, new)));
        }
    }
}

/// Writes this process's number into a lock.
fn sign(lock: &mut File, path: &Path) -> Result<()> {
    let mut text = Vec::new();
    (Read::by_ref(lock).take(MOST + 1).read_to_end(&mut text)).map_err(Error::io(path, "read"))?;
    let number = text.trim_ascii();
    if text.len() as u64 > MOST || !number.iter().all(u8::is_ascii_digit) {
        return Err(foreign(path));
    }
    (lock.set_len(0))
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(Error::io(path, "write to"))
}

fn foreign(path: &Path) -> Error {
    Error::invalid(
        path.display().to_string(),
        "a run would write there, and it is no run's",
        "choose another --out",
    )
}

/// Whether a run was begun in a folder: it has its settings, and the lock or the manifest that come with
/// them.
fn is_run(dir: &Path) -> bool {
    let config = dir.join(CONFIG);
    let file = |path: &Path| path.symlink_metadata().is_ok_and(|m| m.is_file());
    // Settings of something else, or that a person wrote, have no objective, or stand alone; what is
    // wrong with them otherwise is told when they are read.
    let other = || {
        let text = file::read(&config);
        let read = text.and_then(|text| Settings::parse(&text, CONFIG));
        read.is_ok_and(|settings| settings.objective.is_none())
    };
    file(&config) && (file(&dir.join(LOCK)) || file(&dir.join(MANIFEST))) && !other()
}

/// Refuses a folder in which a run would write over what is no run's. Another process may be beginning
/// one there: of what it writes its settings are the first, after the lock.
fn look(dir: &Path) -> Result<()> {
    if is_run(dir) {
        return Ok(());
    }
    match free(dir) {
        Err(error) if !is_run(dir) => Err(error),
        _ => Ok(()),
    }
}

/// Refuses a folder that has a name of a run's.
fn free(dir: &Path) -> Result<()> {
    let lock = dir.join(LOCK);
    let mut names = [&FILES[..], &[CONFIG]].concat();
    if !lock.exists() {
        names.push(reference::FILE);
    }
    let mut names: Vec<PathBuf> = names.iter().map(|n| dir.join(n)).collect();
    names.extend(checkpoint::list(dir)?.into_iter().map(|(_, path)| path));
    // A link is one, wherever it leads.
    (names.iter())
        .find(|n| n.symlink_metadata().is_ok())
        .map_or(Ok(()), |name| Err(foreign(name)))
}

impl Claimed {
    /// Claims a folder, made if it is not there.
    ///
    /// # Errors
    /// A folder that cannot be written, that another process trains in, or in which a run would write
    /// over what is no run's.
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
    /// A folder that cannot be written, or in which a run would write over what is no run's.
    pub fn free_of_others(dir: &Path) -> Result<std::result::Result<Self, String>> {
        let made = Made::new(dir)?;
        look(dir)?;
        let path = dir.join(LOCK);
        let (lock, new) = match locked(&path)? {
            Ok(locked) => locked,
            Err(process) => return Ok(Err(process)),
        };
        let folder = fs::metadata(dir).map_err(Error::io(dir, "read"))?;
        let mut claimed = Self {
            dir: dir.into(),
            folder: id(&folder),
            begun: is_run(dir),
            new,
            lock,
            made,
        };
        sign(&mut claimed.lock, &path)?;
        Ok(Ok(claimed))
    }

    /// An error unless the folder is where it was.
    ///
    /// # Errors
    /// It has gone, or another stands in its place.
    pub fn still(&self) -> Result<()> {
        let gone = |problem: &str| {
            let remedy = "put it back, and go on with --resume";
            Err(Error::invalid(
                self.dir.display().to_string(),
                problem,
                remedy,
            ))
        };
        match fs::metadata(&self.dir) {
            Ok(there) if there.is_dir() && id(&there) == self.folder => Ok(()),
            Ok(_) => {
                gone("the run's folder was moved away, and something else stands in its place")
            }
            Err(_) => gone("the run's folder has gone, or was moved away"),
        }
    }

    /// Removes what a killed run was writing there, if a run was begun there.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn clean(&self) -> Result<()> {
        if !self.begun {
            return Ok(());
        }
        let (folders, files): (Vec<&str>, Vec<&str>) =
            FILES.iter().partition(|n| FOLDERS.contains(n));
        let files = [&files[..], &[CONFIG, reference::FILE]].concat();
        checkpoint::clean(&self.dir, &files, &folders)
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
        manifest.holds(&self.dir, inputs)?;
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
        if name.is_some_and(|n| n == MODEL || n.starts_with(checkpoint::CHECKPOINT)) {
            Err(Error::invalid(
                format!("{place}: {}", read.display()),
                "the run itself would write there",
                "choose another --out",
            ))
        } else {
            Ok(())
        }
    }

    /// Removes the run that was begun in it, if one was, but for the reference's numbers, which say
    /// what they are of.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn clear(&self) -> Result<()> {
        if !self.begun {
            return Ok(());
        }
        checkpoint::remove_all(&self.dir)?;
        // The settings last: with them goes the sign that the rest is a run's.
        for name in FILES.into_iter().chain([CONFIG]) {
            crate::file::discard(&self.dir.join(name))?;
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
        self.still()?;
        self.clean()?;
        self.new = false;
        self.made.stay();
        let config = self.dir.join(CONFIG);
        crate::file::write_whole(&config, settings.to_toml()?.as_bytes())?;
        let rows = file::own(&path, options)?;
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

/// A lock that was made for a run that did not begin goes again.
impl Drop for Claimed {
    fn drop(&mut self) {
        let path = self.dir.join(LOCK);
        let here = path.symlink_metadata().ok().and_then(|m| id(&m));
        if self.new && here == self.lock.metadata().ok().and_then(|m| id(&m)) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One process begins a run while another looks whether it may: at whatever moment, it is a run's.
    #[test]
    fn a_run_that_is_being_begun_is_a_run() {
        let root = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let dir = root.path().join(round.to_string());
            let claimed = Claimed::new(&dir).unwrap();
            std::thread::scope(|scope| {
                let looks = scope.spawn(|| {
                    while !dir.join(METRICS).exists() {
                        look(&dir).unwrap();
                    }
                });
                crate::file::write_whole(&dir.join(CONFIG), b"objective = \"dpo\"\n").unwrap();
                for name in [MANIFEST, METRICS] {
                    fs::write(dir.join(name), "").unwrap();
                }
                looks.join().unwrap();
            });
            drop(claimed);
        }
    }
}
