//! Several files of a folder, each whole; none is in its place before all are written.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::made::Made;
use super::part::{create_part, part};
use super::write::sync_folder;
use crate::error::{Error, Result};

/// Files of a folder, written beside their places (`.NAME.part`) and moved there together at the
/// end. What has not been moved is removed when this is dropped, and so is a folder that was made
/// for it.
pub struct Staged {
    dir: PathBuf,
    made: Made,
    files: Vec<(PathBuf, PathBuf)>,
}

impl Staged {
    /// A stage in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Self {
            dir: dir.into(),
            made: Made::new(dir)?,
            files: Vec::new(),
        })
    }

    /// Writes a file, down to the disk.
    ///
    /// # Errors
    /// If that fails, for instance because the disk is full.
    pub fn write(
        &mut self,
        name: impl AsRef<Path>,
        write: impl FnOnce(&mut Sink) -> Result<()>,
    ) -> Result<()> {
        let place = self.dir.join(name);
        let part = part(&place);
        let file = create_part(&part).map_err(Error::io(&place, "create"))?;
        self.files.push((part, place.clone()));
        let file = BufWriter::with_capacity(1 << 20, file);
        let mut sink = Sink { file, place };
        write(&mut sink)?;
        let Sink { file, place } = sink;
        (file.into_inner())
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(Error::io(&place, "write to"))
    }

    /// Writes a file's bytes.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn bytes(&mut self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        self.write(name, |file| file.put(bytes))
    }

    /// Moves all files to their places, in the order in which they were written.
    ///
    /// # Errors
    /// A folder in the place of one, before any is moved; or if one cannot be moved.
    pub fn finish(mut self) -> Result<()> {
        if let Some((_, place)) = self.files.iter().find(|(_, place)| place.is_dir()) {
            let reason = std::io::ErrorKind::IsADirectory.into();
            return Err(Error::io(place, "write to")(reason));
        }
        for (part, place) in &self.files {
            fs::rename(part, place).map_err(Error::io(place, "write to"))?;
        }
        self.files.clear();
        self.made.stay();
        sync_folder(&self.dir)
    }
}

/// A file being written.
pub struct Sink {
    file: BufWriter<File>,
    place: PathBuf,
}

impl Sink {
    /// Adds bytes.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        (self.file.write_all(bytes)).map_err(Error::io(&self.place, "write to"))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (part, _) in &self.files {
            let _ = fs::remove_file(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_seen_before_the_end_and_all_after() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "old").unwrap();
        let mut staged = Staged::new(dir.path()).unwrap();
        staged.bytes("a", b"new").unwrap();
        staged.bytes("b", b"too").unwrap();
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"old");
        assert!(!dir.path().join("b").exists());
        staged.finish().unwrap();
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["a", "b"]);
    }

    #[test]
    fn a_folder_in_the_place_of_one_moves_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        let mut staged = Staged::new(dir.path()).unwrap();
        for name in ["a", "b", "c"] {
            staged.bytes(name, b"new").unwrap();
        }
        let error = staged.finish().unwrap_err().to_string();
        assert!(error.contains("b: cannot write to"), "{error}");
        assert_eq!(names(dir.path()), ["b"]);
    }

    #[test]
    fn a_full_disk_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let mut staged = Staged::new(&new).unwrap();
        staged.bytes("a", b"whole").unwrap();
        let error = staged
            .write("b", |file| {
                file.put(b"half").unwrap();
                Err(Error::io(new.join("b"), "write to")(full()))
            })
            .unwrap_err();
        assert!(error.to_string().contains("no storage space"), "{error}");
        drop(staged);
        assert!(!new.exists());
        fs::create_dir(&new).unwrap();
        fs::write(new.join("mine"), "").unwrap();
        let mut staged = Staged::new(&new).unwrap();
        staged.bytes("a", b"whole").unwrap();
        drop(staged);
        assert_eq!(names(&new), ["mine"]);
    }
}
