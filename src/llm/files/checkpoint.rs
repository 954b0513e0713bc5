//! Checkpoints of a run: their names, which there are, and their tensors.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::file::{discard, names};
use crate::llm::files::finite::{broken, refusal};

/// Begins the names of checkpoints, followed by the number of steps done.
pub const CHECKPOINT: &str = "checkpoint-";

/// A checkpoint's last file: one without it is not complete.
pub const STATE: &str = "trainer_state.json";

/// Writes tensors to a file of a folder that nobody sees yet, one after the other.
///
/// # Errors
/// A number that is not finite, or a file that cannot be written.
pub fn write_tensors(path: &Path, tensors: &HashMap<String, Tensor>) -> Result<()> {
    // In the order of names, so that the same one is named each time.
    for (name, tensor) in tensors.iter().collect::<BTreeMap<_, _>>() {
        let broken = broken(tensor)?;
        if broken > 0 {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            return Err(refusal(
                &format!("{file}: {name}"),
                broken,
                tensor.elem_count(),
            ));
        }
    }
    // candle's own file can be read by its owner only.
    let usual = File::create(path).and_then(|f| f.metadata());
    let usual = usual.map_err(Error::io(path, "create"))?.permissions();
    let failed = |e: candle_core::Error| Error::io(path, "write to")(std::io::Error::other(e));
    candle_core::safetensors::save(tensors, path).map_err(failed)?;
    fs::set_permissions(path, usual).map_err(Error::io(path, "write to"))
}

/// Path of the checkpoint after that many steps.
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
        let path = run.join(&name);
        if let Some(steps) = steps(&name)
            && path.join(STATE).is_file()
        {
            found.push((steps, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes all checkpoints of a run.
///
/// # Errors
/// If one cannot be removed.
pub fn remove_all(run: &Path) -> Result<()> {
    list(run)?.iter().try_for_each(|(_, path)| discard(path))
}

/// Removes the unfinished parts that a killed process left of these files and folders of a run, and of its checkpoints.
///
/// # Errors
/// If it cannot be removed.
pub fn clean(run: &Path, files: &[&str], folders: &[&str]) -> Result<()> {
    crate::file::clean(run, |name, folder| {
        if folder {
            steps(name).is_some() || folders.contains(&name)
        } else {
            files.contains(&name)
        }
    })
}

/// After how many steps a checkpoint of that name is.
pub fn steps(name: &str) -> Option<u64> {
    let steps: u64 = name.strip_prefix(CHECKPOINT)?.parse().ok()?;
    // Written as pistar writes it: no sign, no zeros before it.
    (name == format!("{CHECKPOINT}{steps}")).then_some(steps)
}
