//! Lines to a file that is there whole or not at all, or to standard output.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use pistar::llm::staged::Staged;
use pistar::{Error, Result};

/// Refuses a place that cannot be written to, before any work is done.
pub fn check(out: &Path) -> Result<()> {
    if out == Path::new("-") {
        return Ok(());
    }
    if out.is_dir() {
        let place = out.display().to_string();
        return Err(Error::invalid(
            place,
            "it is a directory",
            "name a file in it",
        ));
    }
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Only folders that are there: a typing mistake makes none.
    std::fs::metadata(folder).map_err(Error::io(folder, "write to"))?;
    Ok(())
}

/// Writes what `lines` gives, a line each: `-` is standard output, and what is no regular file is
/// written to as it is.
pub fn write<T: serde::Serialize>(
    out: &Path,
    lines: impl IntoIterator<Item = T>,
) -> anyhow::Result<()> {
    let mut lines = lines.into_iter().map(|line| {
        let mut bytes = serde_json::to_vec(&line).context("cannot write a line as JSON")?;
        bytes.push(b'\n');
        anyhow::Ok(bytes)
    });
    if out == Path::new("-") {
        let mut to = BufWriter::new(io::stdout().lock());
        let failed = "standard output: cannot write";
        lines.try_for_each(|line| to.write_all(&line?).context(failed))?;
        return to.flush().context(failed);
    }
    check(out)?;
    if out.exists() && !out.is_file() {
        // A device or a named pipe has no place to be moved to.
        let failed = || Error::io(out, "write to");
        let mut to = BufWriter::new(File::create(out).map_err(failed())?);
        for line in lines {
            to.write_all(&line?).map_err(failed())?;
        }
        return Ok(to.flush().map_err(failed())?);
    }
    let name = out.file_name().and_then(|name| name.to_str());
    let (Some(name), Some(folder)) = (name, out.parent()) else {
        let problem = format!("it is `{}`", out.display());
        return Err(Error::invalid("--out", problem, "name a file").into());
    };
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let mut staged = Staged::new(folder)?;
    let mut failure = None;
    staged.write(name, |to| {
        for line in lines {
            match line {
                Ok(line) => to.put(&line)?,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        Ok(())
    })?;
    match failure {
        Some(error) => Err(error),
        None => Ok(staged.finish()?),
    }
}
