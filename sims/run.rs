//! A run of an exact sweep: work in parallel, tables written whole, one manifest.

use std::path::Path;

use crate::sim::folder::Folder;
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde_json::Value;

use super::Request;
use super::table::{Record, write};

/// A run under way.
pub struct Run {
    name: &'static str,
    folder: Folder,
    pool: rayon::ThreadPool,
}

impl Run {
    /// Starts the sim `name` in `dir`; `config` is everything that its tables depend on.
    ///
    /// # Errors
    /// A folder that cannot be written or holds another run, or a number of threads that cannot be.
    pub fn start(name: &'static str, request: &Request, dir: &Path, config: Value) -> Result<Self> {
        let threads = request.threads;
        ensure!(
            (1..=1024).contains(&threads),
            "--threads: {threads} cannot be run; use 1 to 1024"
        );
        Ok(Self {
            name,
            folder: Folder::open(dir, name, config, threads, request.overwrite)?,
            pool: rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .context("--threads: use fewer")?,
        })
    }

    /// Works on every item, in parallel, under a progress bar; the answers come in the order of the
    /// items whatever the number of threads.
    ///
    /// # Errors
    /// That of the first item that fails.
    pub fn map<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let bar = progress_bar(self.name, items.len());
        let all: Vec<Result<R>> = self.pool.install(|| {
            let each = items.par_iter().map(|item| {
                let done = work(item);
                bar.inc(1);
                done
            });
            each.collect()
        });
        bar.finish_and_clear();
        all.into_iter().collect()
    }

    /// Writes a table of the run, whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write<T: Record>(&self, file: &str, rows: &[T]) -> Result<()> {
        Ok(self.folder.write(file, &write(rows))?)
    }

    /// Closes the run.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn finish(self) -> Result<()> {
        Ok(self.folder.finish(None)?)
    }
}

/// A bar of `length` steps on stderr, hidden where that is no terminal.
pub fn progress_bar(name: &'static str, length: usize) -> ProgressBar {
    let style = "{msg} {wide_bar} {percent}% {eta} left";
    let bar = ProgressBar::new(length as u64).with_message(name);
    bar.with_style(ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar()))
}
