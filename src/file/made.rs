//! Folders that are made for something that may yet be refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A folder, with those above it, of which the ones that had to be made go again with this if nothing
/// is in them, unless they are to [stay](Self::stay).
pub struct Made {
    /// The deepest first.
    folders: Vec<PathBuf>,
}

impl Made {
    /// Makes a folder if it is not there, and those that it is in.
    ///
    /// # Errors
    /// If one cannot be made.
    pub fn new(dir: &Path) -> Result<Self> {
        let mut folders = Vec::new();
        for folder in dir.ancestors().filter(|f| !f.as_os_str().is_empty()) {
            if folder.symlink_metadata().is_ok() {
                break;
            }
            folders.push(folder.to_path_buf());
        }
        // Those that were made go again if one cannot be.
        let made = Self { folders };
        fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        Ok(made)
    }

    /// Keeps the folders that were made.
    pub fn stay(&mut self) {
        self.folders.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for folder in &self.folders {
            // Which fails, as it should, if something is in it by now.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Refuses a folder that holds anything but what `ours` says is one's own; there may be no such
/// folder.
///
/// # Errors
/// The first thing that is of others, or a folder that cannot be read.
pub fn only(dir: &Path, ours: impl Fn(&str, fs::FileType) -> bool) -> Result<()> {
    if dir.symlink_metadata().is_err() {
        return Ok(());
    }
    let failed = || Error::io(dir, "read");
    for entry in fs::read_dir(dir).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let kind = entry.file_type().map_err(failed())?;
        if !entry
            .file_name()
            .to_str()
            .is_some_and(|name| ours(name, kind))
        {
            return Err(Error::invalid(
                entry.path().display().to_string(),
                "it is in a folder that would be replaced, and is none of pistar's files",
                "move it away, or choose another --out",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_in_vain_goes_again_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        drop(Made::new(&deep).unwrap());
        assert!(!dir.path().join("a").exists());
        fs::create_dir(dir.path().join("a")).unwrap();
        drop(Made::new(&deep).unwrap());
        assert!(dir.path().join("a").exists() && !dir.path().join("a/b").exists());
        let made = Made::new(&deep).unwrap();
        fs::write(dir.path().join("a/b/mine"), "").unwrap();
        drop(made);
        assert!(dir.path().join("a/b/mine").exists() && !deep.exists());
        let mut made = Made::new(&deep).unwrap();
        made.stay();
        drop(made);
        assert!(deep.exists());
        let file = dir.path().join("a/b/mine");
        assert!(Made::new(&file.join("x")).is_err());
        assert!(file.is_file());
        let error = only(&dir.path().join("a/b"), |name, kind| {
            name == "c" && kind.is_dir()
        });
        assert!(error.unwrap_err().to_string().contains("mine"));
    }
}
