//! Files and folders that are there whole or not at all, whenever the power goes.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::file::{PART, folder_of, part, part_for, sync_folder};
use crate::llm::files::finite::{broken, refusal};

pub use crate::file::write_whole as write_file;

/// Before the ending of what is being replaced, and of what is being removed.
const OLD: &str = ".old";
const GONE: &str = ".gone";

/// Begins the names of checkpoints, followed by the number of steps done.
pub const CHECKPOINT: &str = "checkpoint-";

/// A checkpoint's last file: one without it is not complete.
pub const STATE: &str = "trainer_state.json";

/// Has `write` fill a folder beside its place, has all of it reach the disk, and moves it there, in
/// place of an older one.
///
/// # Errors
/// Those of `write`, or if the folder cannot be written; then nothing is left behind.
pub fn write_folder(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let part = part(path);
    let io = |action| Error::io(path, action);
    remove(&part)?;
    // Only the last folder: one that has gone does not come back.
    let filled = (fs::create_dir(&part).map_err(io("create")))
        .and_then(|()| write(&part).map_err(|e| e.in_file(&path.display().to_string())))
        .and_then(|()| sync_all(&part).map_err(io("write to")));
    if let Err(error) = filled {
        let _ = fs::remove_dir_all(&part);
        return Err(error);
    }
    if path.symlink_metadata().is_ok() {
        let old = part_for(path, OLD);
        remove(&old)?;
        fs::rename(path, &old).map_err(io("replace"))?;
        fs::rename(&part, path).map_err(io("write to"))?;
        remove(&old)?;
    } else {
        fs::rename(&part, path).map_err(io("write to"))?;
    }
    sync_folder(folder_of(path))
}

/// Writes tensors to a file of a folder that nobody sees yet, one after the other.
///
/// # Errors
/// A number that is not finite, or a file that cannot be written.
pub fn write_tensors(path: &Path, tensors: &HashMap<String, Tensor>) -> Result<()> {
    // In the order of names, so that the same one is named each time.
    for (name, tensor) in tensors.iter().collect::<BTreeMap<_, _>>() {
        let broken = broken(tensor)?;
        if broken > 0 {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            return Err(refusal(
                &format!("{file}: {name}"),
                broken,
                tensor.elem_count(),
            ));
        }
    }
    // candle's own file can be read by its owner only.
    let usual = File::create(path).and_then(|f| f.metadata());
    let usual = usual.map_err(Error::io(path, "create"))?.permissions();
    let failed = |e: candle_core::Error| Error::io(path, "write to")(std::io::Error::other(e));
    candle_core::safetensors::save(tensors, path).map_err(failed)?;
    fs::set_permissions(path, usual).map_err(Error::io(path, "write to"))
}

/// Path of the checkpoint after that many steps.
pub fn path(run: &Path, steps: u64) -> PathBuf {
    run.join(format!("{CHECKPOINT}{steps}"))
}

/// The complete checkpoints of a run, oldest first.
///
/// # Errors
/// If the folder cannot be read.
pub fn list(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for name in names(run)? {
        let path = run.join(&name);
        if let Some(steps) = steps(&name)
            && path.join(STATE).is_file()
        {
            found.push((steps, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes all checkpoints but the newest `keep`.
///
/// # Errors
/// If one cannot be removed.
pub fn prune(run: &Path, keep: usize) -> Result<()> {
    let all = list(run)?;
    for (_, path) in &all[..all.len().saturating_sub(keep)] {
        discard(path)?;
    }
    Ok(())
}

/// Removes a file or a folder, if it is there; what is a checkpoint is none from the first moment
/// on.
///
/// # Errors
/// If it cannot be removed.
pub fn discard(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let gone = part_for(path, GONE);
    remove(&gone)?;
    fs::rename(path, &gone).map_err(Error::io(path, "remove"))?;
    remove(&gone)
}

/// Removes what a killed process was writing or removing in a run's folder: of the files and folders
/// (checkpoints among them) that a run has, what has the names that are given to such, and is a file
/// or a folder as they are.
///
/// # Errors
/// If it cannot be removed.
pub fn clean(run: &Path, files: &[&str], folders: &[&str]) -> Result<()> {
    for name in names(run)? {
        let Some(of) = name.strip_prefix('.').and_then(|n| n.strip_suffix(PART)) else {
            continue;
        };
        let of = [OLD, GONE]
            .iter()
            .find_map(|w| of.strip_suffix(w))
            .unwrap_or(of);
        let path = run.join(&name);
        let kind = path.symlink_metadata().map_err(Error::io(&path, "read"))?;
        let folder = steps(of).is_some() || folders.contains(&of);
        if (folder && kind.is_dir()) || (files.contains(&of) && kind.is_file()) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// After how many steps a checkpoint of that name is.
pub fn steps(name: &str) -> Option<u64> {
    let steps: u64 = name.strip_prefix(CHECKPOINT)?.parse().ok()?;
    // Written as pistar writes it: no sign, no zeros before it.
    (name == format!("{CHECKPOINT}{steps}")).then_some(steps)
}

fn names(run: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(run).map_err(Error::io(run, "read"))?;
    let name = |entry: std::io::Result<fs::DirEntry>| -> Result<_> {
        let entry = entry.map_err(Error::io(run, "read"))?;
        Ok(entry.file_name().into_string().ok())
    };
    entries
        .filter_map(|entry| name(entry).transpose())
        .collect()
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Err(_) => return Ok(()),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.map_err(Error::io(path, "remove"))
}

fn sync_all(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?
        } else {
            File::open(path)?.sync_all()?
        }
    }
    // Only Unix opens folders.
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}
