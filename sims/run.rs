//! A run of an exact sweep: work in parallel, tables written whole, one manifest.

use std::path::Path;

use crate::observer::Observer;
use crate::rows::table::{Record, write};
use crate::sim::folder::Folder;
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde_json::Value;

use super::Request;

/// A run under way.
pub struct Run<'a> {
    name: &'static str,
    folder: Folder,
    pool: rayon::ThreadPool,
    observer: &'a dyn Observer,
}

impl<'a> Run<'a> {
    /// Starts the sim `name` in `dir`; `config` is everything that its tables depend on.
    ///
    /// # Errors
    /// A folder that cannot be written or holds another run, or a number of threads that cannot be.
    pub fn start(
        name: &'static str,
        request: &Request<'a>,
        dir: &Path,
        config: Value,
    ) -> Result<Self> {
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
            observer: request.observer,
        })
    }

    /// Works on every item, in parallel, and tells the observer; the answers come in the order of the
    /// items whatever the number of threads.
    ///
    /// # Errors
    /// That of the first item that fails.
    pub fn map<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let progress = self.observer.begin(self.name, items.len() as u64);
        let all: Vec<Result<R>> = self.pool.install(|| {
            let each = items.par_iter().map(|item| {
                let done = work(item);
                progress.advance(1);
                done
            });
            each.collect()
        });
        drop(progress);
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
