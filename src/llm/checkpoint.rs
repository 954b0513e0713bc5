//! Files and folders that are there whole or not at all, whenever the power goes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use crate::error::{Error, Result};

/// Ending of names under which something is being written.
const PART: &str = ".part";

/// Begins the names of checkpoints, followed by the number of steps done.
const CHECKPOINT: &str = "checkpoint-";

/// A checkpoint's last file: one without it is not complete.
pub const STATE: &str = "trainer_state.json";

/// Writes a file beside its place, has it reach the disk, and moves it there.
///
/// # Errors
/// If it cannot be written; then nothing is left behind.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let part = part(path);
    let written = fs::write(&part, contents)
        .and_then(|()| sync(&part))
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&part);
    }
    written
        .and_then(|()| sync_parent(path))
        .map_err(Error::io(path, "write to"))
}

/// Has `write` fill a folder beside its place, has all of it reach the disk, and moves it there, in
/// place of an older one.
///
/// # Errors
/// Those of `write`, or if the folder cannot be written; then nothing is left behind.
pub fn write_folder(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let part = part(path);
    let io = |action| Error::io(path, action);
    remove(&part)?;
    let filled = (fs::create_dir_all(&part).map_err(io("create")))
        .and_then(|()| write(&part))
        .and_then(|()| sync_all(&part).map_err(io("write to")));
    if let Err(error) = filled {
        let _ = fs::remove_dir_all(&part);
        return Err(error);
    }
    if path.exists() {
        let old = part_named(path, ".old");
        remove(&old)?;
        fs::rename(path, &old).map_err(io("replace"))?;
        fs::rename(&part, path).map_err(io("write to"))?;
        remove(&old)?;
    } else {
        fs::rename(&part, path).map_err(io("write to"))?;
    }
    sync_parent(path).map_err(io("write to"))
}

/// Writes tensors to a file of a folder that nobody sees yet, one after the other.
///
/// # Errors
/// If it cannot be written.
pub fn write_tensors(path: &Path, tensors: &HashMap<String, Tensor>) -> Result<()> {
    // candle's own file can be read by its owner only.
    let usual = File::create(path).and_then(|f| f.metadata());
    let usual = usual.map_err(Error::io(path, "create"))?.permissions();
    let failed = |e: candle_core::Error| Error::io(path, "write to")(std::io::Error::other(e));
    candle_core::safetensors::save(tensors, path).map_err(failed)?;
    fs::set_permissions(path, usual).map_err(Error::io(path, "write to"))
}

/// Where the checkpoint after that many steps is.
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
        let steps = name.strip_prefix(CHECKPOINT).and_then(|n| n.parse().ok());
        let path = run.join(&name);
        if let Some(steps) = steps
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
    let gone = part_named(path, ".gone");
    remove(&gone)?;
    fs::rename(path, &gone).map_err(Error::io(path, "remove"))?;
    remove(&gone)
}

/// Removes what a killed run was writing.
///
/// # Errors
/// If it cannot be removed.
pub fn clean(run: &Path) -> Result<()> {
    for name in names(run)? {
        if name.starts_with('.') && name.ends_with(PART) {
            remove(&run.join(name))?;
        }
    }
    Ok(())
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

fn part(path: &Path) -> PathBuf {
    part_named(path, "")
}

fn part_named(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{what}{PART}"))
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

fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_all(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync_all(&path)?,
            false => sync(&path)?,
        }
    }
    sync_folder(folder)
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Has the names in a folder reach the disk, where folders can be opened.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    match cfg!(unix) {
        true => sync(folder),
        false => Ok(()),
    }
}
