//! Names under which files are written before they are moved to their places.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Longest name of a file, in bytes, on the usual file systems.
const LONGEST: usize = 255;

/// Ending of such names.
pub const PART: &str = ".part";

/// The folder that a file is in, `.` of a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Temporary path, `.NAME.part` beside it, of a file that is moved to `path` when it is complete. A name for which
/// that would be too long is cut, and told from others by its hash.
pub fn part(path: &Path) -> PathBuf {
    part_for(path, "")
}

/// The same with a word before the ending, for what else has to do with `path`: `.NAME.old.part`.
pub fn part_for(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let end = format!("{what}{PART}");
    let mut part = OsString::from(".");
    if 1 + name.len() + end.len() <= LONGEST {
        part.push(name);
    } else {
        let hash = format!("~{:016x}", hash(name.as_encoded_bytes()));
        let most = LONGEST - 1 - hash.len() - end.len();
        let mut kept = String::new();
        for c in name.to_string_lossy().chars() {
            if kept.len() + c.len_utf8() > most {
                break;
            }
            kept.push(c);
        }
        part.push(kept + &hash);
    }
    part.push(end);
    path.with_file_name(part)
}

/// Creates the file at such a place. What a killed process left there is removed; nothing is
/// written through a link, and a folder stays.
///
/// # Errors
/// If it cannot be created.
pub fn create_part(part: &Path) -> io::Result<File> {
    let create = || OpenOptions::new().write(true).create_new(true).open(part);
    match create() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(part)?;
            create()
        }
        created => created,
    }
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_here() {
        for (path, folder) in [
            ("a", "."),
            ("a/b", "a"),
            ("/a", "/"),
            ("../a", ".."),
            ("/", "."),
        ] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder));
        }
    }

    #[test]
    fn names_of_every_length_have_parts_of_their_own() {
        assert_eq!(part(Path::new("a/b.json")), Path::new("a/.b.json.part"));
        assert_eq!(part_for(Path::new("b"), ".old"), Path::new(".b.old.part"));
        let dir = tempfile::tempdir().unwrap();
        for name in ["x".repeat(250), "é".repeat(125), "x".repeat(255)] {
            let parts: Vec<PathBuf> = ["", "y"]
                .map(|end| part(&dir.path().join(format!("{}{end}", &name[2..]))))
                .into();
            assert_ne!(parts[0], parts[1]);
            for part in parts {
                assert!(part.file_name().unwrap().len() <= LONGEST);
                drop(create_part(&part).unwrap());
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link_and_a_folder_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("precious"), "mine").unwrap();
        std::os::unix::fs::symlink(at("precious"), at(".a.part")).unwrap();
        drop(create_part(&part(&at("a"))).unwrap());
        assert_eq!(fs::read(at("precious")).unwrap(), b"mine");
        fs::create_dir(at(".b.part")).unwrap();
        assert!(create_part(&part(&at("b"))).is_err());
        assert!(at(".b.part").is_dir());
    }
}
