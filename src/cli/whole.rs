//! Results that appear whole or not at all.

use std::io::Write;
use std::path::Path;

use pistar::Error;
use pistar::llm::staged::Staged;

use super::output::print;

/// An error unless a file can be put there (`-` is standard output): asked before the work is done.
pub fn check(out: &Path) -> anyhow::Result<()> {
    if out == Path::new("-") || (out.exists() && !out.is_dir()) {
        return Ok(());
    }
    let (folder, _) = place(out)?;
    // Only folders that are there: a typing mistake makes none.
    std::fs::metadata(folder).map_err(Error::io(folder, "write to"))?;
    Ok(())
}

/// Writes a text: to a file that is there whole or not at all, to a device or a pipe, or for `-` to
/// standard output.
pub fn write(out: &Path, text: &str) -> anyhow::Result<()> {
    if out == Path::new("-") {
        return print(text);
    }
    if out.exists() && !out.is_file() {
        // A device or a named pipe has no place to be moved to.
        let failed = || Error::io(out, "write to");
        let mut file = std::fs::File::create(out).map_err(failed())?;
        return Ok(file.write_all(text.as_bytes()).map_err(failed())?);
    }
    let (folder, name) = place(out)?;
    let mut staged = Staged::new(folder)?;
    staged.bytes(name, text.as_bytes())?;
    Ok(staged.finish()?)
}

/// The folder and the name of a file.
fn place(out: &Path) -> anyhow::Result<(&Path, &str)> {
    let name = out.file_name().and_then(|name| name.to_str());
    let (Some(name), Some(folder), false) = (name, out.parent(), out.is_dir()) else {
        let problem = format!("it is `{}`", out.display());
        return Err(Error::invalid("--out", problem, "name a file").into());
    };
    Ok(match folder.as_os_str().is_empty() {
        true => (Path::new("."), name),
        false => (folder, name),
    })
}
