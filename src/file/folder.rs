//! Folders that are there whole or not at all, whenever the power goes.

use std::fs::{self, File};
use std::path::Path;

use super::part::{PART, folder_of, part, part_for};
use super::write::sync_folder;
use crate::error::{Error, Result};

/// Before the ending of what is being replaced, and of what is being removed.
const OLD: &str = ".old";
const GONE: &str = ".gone";

/// Has `write` fill a folder beside its place, has all of it reach the disk, and moves it there, in
/// place of an older one.
///
/// # Errors
/// Those of `write`, or if the folder cannot be written; then nothing is left behind.
pub fn write_folder(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (part, old) = (part(path), part_for(path, OLD));
    let io = |action| Error::io(path, action);
    restore(path, &old)?;
    remove(&part)?;
    // Only the last folder: one that has gone does not come back.
    let written = (fs::create_dir(&part).map_err(io("create")))
        .and_then(|()| write(&part).map_err(|e| e.in_file(&path.display().to_string())))
        .and_then(|()| sync_all(&part).map_err(io("write to")))
        .and_then(|()| put(&part, path, &old));
    if written.is_err() {
        let _ = fs::remove_dir_all(&part);
    }
    written.and_then(|()| sync_folder(folder_of(path)))
}

/// Moves a folder to its place; what is there is moved away to `old` first, and back if that fails.
fn put(part: &Path, path: &Path, old: &Path) -> Result<()> {
    let io = |action| Error::io(path, action);
    if path.symlink_metadata().is_err() {
        return fs::rename(part, path).map_err(io("write to"));
    }
    // A file of that name is not ours, and the move says so.
    if is_folder(old) {
        remove(old)?;
    }
    fs::rename(path, old).map_err(io("replace"))?;
    if let Err(reason) = fs::rename(part, path) {
        // The error that matters is the first one.
        let _ = fs::rename(old, path);
        return Err(io("write to")(reason));
    }
    remove(old)
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// Puts back a folder that was moved away to be replaced, where a process was killed before anything took its place.
fn restore(path: &Path, old: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() && is_folder(old) {
        fs::rename(old, path).map_err(Error::io(path, "restore"))?;
    }
    Ok(())
}

/// Removes a file or a folder, if it is there; it is not in its place from the first moment
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

/// Removes what a killed process left in a folder, `.NAME.part`, `.NAME.old.part` and `.NAME.gone.part`, of the entries
/// that `ours` takes by name and by whether they are folders; what was being replaced, and has not been, is put back.
///
/// # Errors
/// If one cannot be removed or put back.
pub fn clean(dir: &Path, ours: impl Fn(&str, bool) -> bool) -> Result<()> {
    for name in names(dir)? {
        let Some(of) = name.strip_prefix('.').and_then(|n| n.strip_suffix(PART)) else {
            continue;
        };
        let of = [OLD, GONE]
            .iter()
            .find_map(|w| of.strip_suffix(w))
            .unwrap_or(of);
        let path = dir.join(&name);
        let kind = path.symlink_metadata().map_err(Error::io(&path, "read"))?;
        if (kind.is_dir() || kind.is_file()) && ours(of, kind.is_dir()) {
            let place = dir.join(of);
            if path == part_for(&place, OLD) {
                restore(&place, &path)?;
            }
            remove(&path)?;
        }
    }
    Ok(())
}

/// The names in a folder that are text.
///
/// # Errors
/// If it cannot be read.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).map_err(Error::io(dir, "read"))?;
    let name = |entry: std::io::Result<fs::DirEntry>| -> Result<_> {
        let entry = entry.map_err(Error::io(dir, "read"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_where_the_old_one_would_go_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = || write_folder(&at("run"), |_| Ok(()));
        fs::write(at(".run.old.part"), "mine").unwrap();
        write().unwrap();
        assert!(write().is_err());
        assert_eq!(files(dir.path()), [".run.old.part", "run"]);
        assert_eq!(fs::read(at(".run.old.part")).unwrap(), b"mine");
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut all = names(dir).unwrap();
        all.sort();
        all
    }

    #[test]
    fn a_kill_between_the_two_moves_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // The old one has been moved away, the new one is whole, and nothing is in place.
        let killed = || {
            for (name, text) in [(".run.old.part", "old"), (".run.part", "new")] {
                fs::create_dir(at(name)).unwrap();
                fs::write(at(name).join("file"), text).unwrap();
            }
        };
        killed();
        clean(dir.path(), |name, folder| name == "run" && folder).unwrap();
        assert_eq!(files(dir.path()), ["run"]);
        assert_eq!(fs::read(at("run/file")).unwrap(), b"old");
        fs::remove_dir_all(at("run")).unwrap();
        // A writer that fails then leaves the old one, one that does not leaves the new one alone.
        for (ends, left) in [(false, "old"), (true, "newer")] {
            let _ = fs::remove_dir_all(at("run"));
            killed();
            let written = write_folder(&at("run"), |part| {
                fs::write(part.join("file"), "newer").unwrap();
                let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
                if ends {
                    Ok(())
                } else {
                    Err(Error::io(part, "write to")(full))
                }
            });
            assert_eq!(written.is_ok(), ends);
            assert_eq!(files(dir.path()), ["run"]);
            assert_eq!(fs::read(at("run/file")).unwrap(), left.as_bytes());
        }
    }
}
