//! Files opened for reading, and what must not be read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::part::folder_of;
use crate::error::{Error, Result};

/// Most bytes that are taken from a pipe, which may have no end.
const PIPE: u64 = 1 << 30;

/// Opens a file, or a pipe that a shell hands over (`/dev/stdin`, `/dev/fd/63`). Nothing else is
/// opened: a named pipe may wait for ever for its writer, and a device have no end.
///
/// # Errors
/// What is not there, is a directory, a named pipe, a socket or a device, or may not be read.
pub fn open(path: &Path) -> Result<File> {
    let metadata = fs::metadata(path).map_err(Error::io(path, "read"))?;
    let kind = metadata.file_type();
    if kind.is_file() || (!kind.is_dir() && handed(path, &metadata)) {
        return File::open(path).map_err(Error::io(path, "read"));
    }
    let remedy = if kind.is_dir() {
        "name a file in it"
    } else {
        "write it to a file first, and name that"
    };
    Err(Error::invalid(
        path.display().to_string(),
        format!("it is {}", kind_of(&metadata)),
        remedy,
    ))
}

/// All bytes of what [`open`] opens.
///
/// # Errors
/// As [`open`]; a pipe that gives more than 1 GiB.
pub fn bytes(path: &Path) -> Result<Vec<u8>> {
    let file = open(path)?;
    let regular = file.metadata().is_ok_and(|m| m.is_file());
    let place = path.display().to_string();
    if regular {
        let mut bytes = Vec::new();
        let mut file = file;
        file.read_to_end(&mut bytes)
            .map_err(Error::io(path, "read"))?;
        return Ok(bytes);
    }
    bounded(file, &place)
}

/// All bytes of a pipe.
///
/// # Errors
/// If it cannot be read, or gives more than 1 GiB.
pub fn bounded(pipe: impl Read, place: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    (pipe.take(PIPE + 1).read_to_end(&mut bytes)).map_err(Error::io(place, "read"))?;
    if bytes.len() as u64 > PIPE {
        return Err(Error::invalid(
            place,
            format!("it gives more than {PIPE} bytes"),
            "write what is meant to a file first, and name that",
        ));
    }
    Ok(bytes)
}

/// Whether something is a pipe, or else, of another process's making that this one was given.
#[cfg(unix)]
fn handed(path: &Path, metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let fd = |place: &Path| {
        let numbered = place.parent().is_some_and(|p| p.ends_with("fd"));
        (place.starts_with("/dev") || place.starts_with("/proc"))
            && (numbered || place.ends_with("stdin"))
    };
    metadata.file_type().is_fifo() && fd(path)
}

#[cfg(not(unix))]
fn handed(_: &Path, _: &fs::Metadata) -> bool {
    false
}

/// Name of something that is no regular file (a folder, a pipe, a socket, ...).
pub fn kind_of(metadata: &fs::Metadata) -> &'static str {
    let kind = metadata.file_type();
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else {
        "no regular file"
    }
}

/// True if a name stands for something that is open already, or for a device: written to where it is, never replaced.
pub fn is_device(path: &Path) -> bool {
    (folder_of(path).canonicalize()).is_ok_and(|f| f == Path::new("/dev") || f.starts_with("/proc"))
}

/// Opens a file of pistar's own in a folder of the user's, to be added to or begun anew; never
/// through a link.
///
/// # Errors
/// What is there and is no regular file, or a file that cannot be opened.
pub fn own(path: &Path, options: &fs::OpenOptions) -> Result<File> {
    match path.symlink_metadata() {
        Ok(found) if !found.is_file() => Err(Error::invalid(
            path.display().to_string(),
            format!("it is {}, and no file of pistar's", kind_of(&found)),
            "move it away, or choose another folder",
        )),
        _ => nofollow(options, path).map_err(Error::io(path, "open")),
    }
}

#[cfg(all(unix, feature = "llm"))]
fn nofollow(options: &fs::OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = options.clone();
    // As the look before may be out of date; and never waiting for the other end of a pipe.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    options.custom_flags(flags.bits() as i32).open(path)
}

#[cfg(not(all(unix, feature = "llm")))]
fn nofollow(options: &fs::OpenOptions, path: &Path) -> io::Result<File> {
    options.open(path)
}
