//! Flags by which an evaluation writes a row for `aggregate`.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::rows::scores::{Name, Score};

use super::atomic;

#[derive(clap::Args)]
pub struct ScoreFlags {
    /// Add a row for `pistar aggregate` to this file: the judge's share of wins over the first --against, or else the
    /// win rate over it, or else the mean reward
    #[arg(
        long,
        value_name = "FILE",
        requires_all = ["algorithm", "task"],
        help_heading = "Aggregation"
    )]
    scores: Option<PathBuf>,
    /// The row's algorithm
    #[arg(
        long,
        value_name = "NAME",
        requires = "scores",
        help_heading = "Aggregation"
    )]
    algorithm: Option<String>,
    /// The row's task
    #[arg(
        long,
        value_name = "NAME",
        requires = "scores",
        help_heading = "Aggregation"
    )]
    task: Option<String>,
    /// The row's seed: which of the algorithm's runs on the task it is
    #[arg(
        long,
        value_name = "SEED",
        requires = "scores",
        default_value = "0",
        help_heading = "Aggregation"
    )]
    run_seed: String,
}

impl ScoreFlags {
    /// Refuses a file that cannot be written, before anything is computed.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(path) = &self.scores {
            if path == Path::new("-") {
                let remedy = "name a file for the row";
                let problem = "the report goes to standard output";
                return Err(Error::invalid("--scores", problem, remedy).into());
            }
            atomic::check(path)?;
            before(path)?;
        }
        Ok(())
    }

    /// Adds the row, if one is wanted: the first of these numbers that there is.
    ///
    /// # Errors
    /// A file that cannot be written, no number, or one that JSON cannot hold.
    pub fn write(&self, found: &[(&str, Option<f64>)]) -> anyhow::Result<()> {
        let Some(path) = &self.scores else {
            return Ok(());
        };
        let first = found.iter().find_map(|(of, score)| Some((*of, (*score)?)));
        let (of, score) = first.ok_or_else(|| {
            let remedy = "give a reward, or something to win against";
            Error::invalid("--scores", "there is no score to write", remedy)
        })?;
        let name = |name: &Option<String>| Name(name.clone().unwrap_or_default());
        let row = Score {
            algorithm: name(&self.algorithm),
            task: name(&self.task),
            seed: Name(self.run_seed.clone()),
            score,
            of: Some(of.into()),
        };
        let mut text = before(path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text += &row.line()?;
        atomic::write(path, &text)
    }
}

/// The rows that are there already.
fn before(path: &Path) -> anyhow::Result<String> {
    if path.exists() {
        Ok(crate::file::read(path)?)
    } else {
        Ok(String::new())
    }
}
