//! Results that appear whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::Error;
use crate::file::Staged;
use crate::file::{folder_of, is_device};

use super::output::print;

/// An error unless a file can be put there (`-` is standard output): asked before the work is done.
pub fn check(out: &Path) -> anyhow::Result<()> {
    if out == Path::new("-") || in_place(out) {
        return Ok(());
    }
    let (folder, _) = place(out)?;
    // Only folders that are there: a typing mistake makes none.
    fs::metadata(folder).map_err(Error::io(folder, "write to"))?;
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        let may = access(folder, Access::WRITE_OK | Access::EXEC_OK);
        may.map_err(|e| Error::io(folder, "write to")(e.into()))?;
    }
    Ok(())
}

/// Writes a text: to a file that is there whole or not at all, to a device or a pipe, or for `-` to
/// standard output.
pub fn write(out: &Path, text: &str) -> anyhow::Result<()> {
    if out == Path::new("-") {
        return print(text);
    }
    lines(out, |put| put(text.as_bytes()))
}

/// Has `write` put bytes to a file that is there whole or not at all, or as they come to a device or a
/// pipe. A link to a file is replaced itself: what it leads to stays as it was.
pub fn lines(
    out: &Path,
    write: impl FnOnce(&mut dyn FnMut(&[u8]) -> crate::Result<()>) -> crate::Result<()>,
) -> anyhow::Result<()> {
    if in_place(out) {
        // It has no place to be moved to.
        let failed = || Error::io(out, "write to");
        let file = OpenOptions::new().write(true).open(out).map_err(failed())?;
        empty(&file).map_err(failed())?;
        let mut file = BufWriter::new(file);
        write(&mut |bytes| file.write_all(bytes).map_err(failed()))?;
        return Ok(file.flush().map_err(failed())?);
    }
    let (folder, name) = place(out)?;
    let mut staged = Staged::new(folder)?;
    staged.write(name, |file| write(&mut |bytes| file.put(bytes)))?;
    Ok(staged.finish()?)
}

/// Whether something is a device, a pipe, or standard output by another name.
fn in_place(out: &Path) -> bool {
    fs::metadata(out).is_ok_and(|found| !found.is_dir() && (!found.is_file() || is_device(out)))
}

/// As a shell's `>` does it.
fn empty(file: &File) -> std::io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)
    } else {
        Ok(())
    }
}

/// The folder and the name of a file.
fn place(out: &Path) -> anyhow::Result<(&Path, &OsStr)> {
    let (Some(name), false) = (out.file_name(), out.is_dir()) else {
        let problem = format!("it is `{}`", out.display());
        return Err(Error::invalid("--out", problem, "name a file").into());
    };
    Ok((folder_of(out), name))
}
