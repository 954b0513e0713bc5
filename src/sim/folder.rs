//! The folder of a run: `rows.csv`, other tables, and `manifest.json`.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::file;
use crate::file::{Made, json, own, write_whole};

/// What ran, and how it ended.
const MANIFEST: &str = "manifest.json";

/// The status of a run that came to its end.
const COMPLETE: &str = "complete";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Names of the settings in which the run of a folder differs from one of that configuration; none if it is the same.
pub fn another(dir: &Path, sim: &str, config: &Value) -> Option<String> {
    let manifest = match Manifest::read(dir) {
        Ok(manifest) => manifest,
        Err(_) => return Some("its manifest.json cannot be read".into()),
    };
    let mut differ = Vec::new();
    for (name, old, new) in [
        ("sim", manifest.sim.as_str(), sim),
        ("version", manifest.version.as_str(), VERSION),
    ] {
        if old != new {
            differ.push(name.into());
        }
    }
    differences("", &manifest.config, config, &mut differ);
    (!differ.is_empty()).then(|| match differ.as_slice() {
        [one] => format!("`{one}` differs"),
        several => format!("`{}` differ", several.join("`, `")),
    })
}

/// The names of fields that two values do not have in common, those of objects under `name.field`.
fn differences(head: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let head = if head.is_empty() {
                name.clone()
            } else {
                format!("{head}.{name}")
            };
            match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) => differences(&head, old, new, found),
                _ => found.push(head),
            }
        }
    } else if old != new {
        found.push(head.into());
    }
}

/// Record of a run: its configuration, and how it ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the sim.
    pub sim: String,
    /// Version of pistar.
    pub version: String,
    /// `running` (or interrupted), or `complete`.
    pub status: String,
    /// Everything the rows depend on.
    pub config: Value,
    /// Worker threads; the rows do not depend on it.
    pub threads: usize,
    /// Seconds of training; none where nothing was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_s: Option<f64>,
    /// Seconds in all.
    pub wall_s: f64,
}

/// A run's folder, open for writing.
pub struct Folder {
    dir: PathBuf,
    manifest: Manifest,
    rows: Option<BufWriter<File>>,
    started: Instant,
}

impl Folder {
    /// Starts a run in `dir` whose tables will be written whole. Rows of an earlier run of the very same
    /// configuration are replaced; rows of any other are kept safe unless `overwrite`, and what is no
    /// run's always.
    ///
    /// # Errors
    /// A folder that cannot be written, that holds another run, or that holds files of a run's names
    /// without a run's manifest.
    pub fn open(
        dir: &Path,
        sim: &str,
        config: Value,
        threads: usize,
        overwrite: bool,
    ) -> Result<Self> {
        let mut made = Made::new(dir)?;
        let rows_path = dir.join("rows.csv");
        let known = Manifest::read(dir).is_ok();
        let there = |path: &Path| path.symlink_metadata().is_ok();
        for path in [dir.join(MANIFEST), rows_path.clone()] {
            if !known && there(&path) {
                return Err(Error::invalid(
                    path.display().to_string(),
                    "the run would write there, and no run's manifest.json is in the folder",
                    "move it away, or choose another --out",
                ));
            }
        }
        if let (true, Some(other)) = (there(&rows_path) && !overwrite, another(dir, sim, &config)) {
            return Err(Error::invalid(
                rows_path.display().to_string(),
                format!("it holds the rows of another run ({other})"),
                "choose another --out, or pass --overwrite to replace them",
            ));
        }
        let manifest = Manifest {
            sim: sim.into(),
            version: VERSION.into(),
            status: "running".into(),
            config: json::sorted(config),
            threads,
            train_s: None,
            wall_s: 0.0,
        };
        manifest.write(dir)?;
        made.stay();
        Ok(Self {
            dir: dir.into(),
            manifest,
            rows: None,
            started: Instant::now(),
        })
    }

    /// [`open`](Self::open), with `rows.csv` begun: its lines come as they are found.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn create(
        dir: &Path,
        sim: &str,
        config: Value,
        threads: usize,
        header: &str,
        overwrite: bool,
    ) -> Result<Self> {
        let mut folder = Self::open(dir, sim, config, threads, overwrite)?;
        folder.append(&[header.to_string()])?;
        Ok(folder)
    }

    /// Adds whole lines to `rows.csv`, which reach the disk before this returns.
    ///
    /// # Errors
    /// If the disk is full or gone.
    pub fn append(&mut self, lines: &[String]) -> Result<()> {
        let path = self.dir.join("rows.csv");
        let rows = match &mut self.rows {
            Some(rows) => rows,
            none => {
                let mut options = OpenOptions::new();
                let file = own(&path, options.write(true).create(true).truncate(true))?;
                none.insert(BufWriter::new(file))
            }
        };
        let mut text = lines.join("\n");
        text.push('\n');
        (rows.write_all(text.as_bytes()))
            .and_then(|()| rows.flush())
            .and_then(|()| rows.get_ref().sync_data())
            .map_err(Error::io(&path, "write to"))
    }

    /// Writes another file of the run whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, contents: &str) -> Result<()> {
        write_whole(&self.dir.join(name), contents.as_bytes())
    }

    /// Closes the run, with the seconds of it that went into training, if any did.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn finish(mut self, train_s: Option<f64>) -> Result<()> {
        self.manifest.status = COMPLETE.into();
        self.manifest.train_s = train_s;
        self.manifest.wall_s = self.started.elapsed().as_secs_f64();
        self.manifest.write(&self.dir)
    }
}

impl Manifest {
    /// Reads the manifest of a run's folder.
    ///
    /// # Errors
    /// If it is missing or broken.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        json::read(&path, "run the sim again")
    }

    /// Refuses the folder of a run that did not end, whose tables lack rows. A folder of tables without
    /// a manifest is nobody's run.
    ///
    /// # Errors
    /// A manifest that is broken, or that does not say `complete`: how many rows there are, and whose.
    pub fn ended(dir: &Path) -> Result<()> {
        let path = dir.join(MANIFEST);
        if !path.exists() {
            return Ok(());
        }
        let manifest = Self::read(dir)?;
        if manifest.status == COMPLETE {
            return Ok(());
        }
        let rows = match file::bytes(&dir.join("rows.csv")) {
            // The header is no row.
            Ok(rows) => rows.split(|&b| b == b'\n').count().saturating_sub(2),
            Err(_) => 0,
        };
        Err(Error::invalid(
            format!("{}: status", path.display()),
            format!(
                "it is `{}`: {} did not end (or goes on), and of its rows {rows} are there",
                manifest.status, manifest.sim
            ),
            format!("let it end (`pistar sim {}`)", manifest.sim),
        ))
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Format {
            origin: "manifest.json".into(),
            message: e.to_string(),
            remedy: "use finite numbers".into(),
        })?;
        write_whole(&dir.join(MANIFEST), (text + "\n").as_bytes())
    }
}
