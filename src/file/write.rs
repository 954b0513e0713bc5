//! Files that appear whole or not at all, and stay when the power fails.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::part::{create_part, folder_of, part};
use crate::error::{Error, Result};

/// Writes a file beside its place and moves it there, so that nobody ever sees half of it; the file
/// and then the folder are synced to the disk before this returns. A link that stands there is
/// replaced itself: what it leads to stays as it was.
///
/// # Errors
/// If it cannot be written, or a folder has its place; then nothing is left behind.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => {
            let place = path.display().to_string();
            let problem = "a directory stands where the file would be written";
            let remedy = "move it away, or choose another place";
            return Err(Error::invalid(place, problem, remedy));
        }
        _ => {}
    }
    let part = part(path);
    let written = create_part(&part)
        .and_then(|mut file| {
            file.write_all(contents)?;
            // Before the move: or else a power failure could leave the new name with half the text.
            file.sync_all()
        })
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&part);
    }
    written.map_err(Error::io(path, "write to"))?;
    sync_folder(folder_of(path))
}

/// Makes renames in a folder last.
///
/// # Errors
/// If the folder cannot be synced.
pub fn sync_folder(folder: &Path) -> Result<()> {
    // Only Unix opens folders.
    if !cfg!(unix) {
        return Ok(());
    }
    (File::open(folder).and_then(|folder| folder.sync_all())).map_err(Error::io(folder, "write to"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_old_one_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_whole(&path, b"old").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // A folder stands where the file should be: the error names the place, and nothing is left.
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("b/c"), "").unwrap();
        let error = write_whole(&dir.path().join("b"), b"x")
            .unwrap_err()
            .to_string();
        assert!(error.contains("a directory stands"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
