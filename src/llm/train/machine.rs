//! Record of where and when a run ran: what may differ between two runs of the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::folder::{ANEW, json};
use crate::error::Result;
use crate::file;
use crate::llm::{tensor::device, tensor::memory};

/// Name of the file.
pub const MACHINE: &str = "machine.json";

/// A process that trained the run, or a part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Version of pistar.
    pub version: String,
    /// Command line.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: String,
    /// Number of the process.
    pub process: u32,
    /// Name of the machine.
    pub host: Option<String>,
    /// Operating system, with its version.
    pub os: String,
    /// Name of the processor.
    pub cpu: String,
    /// Cores that the process may use.
    pub cores: usize,
    /// Threads that compute.
    pub threads: usize,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// Device of tensors.
    pub device: String,
    /// Start, in UTC.
    pub started: String,
    /// End, in UTC; none while it runs, or if it was killed.
    pub ended: Option<String>,
    /// `complete`, `interrupted`, or what went wrong.
    pub outcome: Option<String>,
    /// Most bytes that tensors had at once while it trained: on the CPU, those of blocks of 64 KiB
    /// and more. What `pistar plan` foresees.
    #[serde(default)]
    pub peak_tensor_bytes: Option<u64>,
    /// Most bytes of the process that were in the machine's memory at once.
    #[serde(default)]
    pub peak_resident_bytes: Option<u64>,
}

/// The file.
pub(super) struct Record {
    path: PathBuf,
    processes: Vec<Process>,
}

impl Record {
    /// Adds this process to those of the folder.
    pub fn begin(dir: &Path, on: &str) -> Result<Self> {
        let path = dir.join(MACHINE);
        let mut processes: Vec<Process> = match fs::read_to_string(&path) {
            // Nothing depends on it: what cannot be read begins anew.
            Ok(text) => serde_json::from_str(&text).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        processes.push(Process::here(on));
        // Of several runs of a process, each has its own.
        memory::reset_peak();
        device::device(on).and_then(|d| device::reset_peak(&d))?;
        let record = Self { path, processes };
        record.write()?;
        Ok(record)
    }

    /// Says how this process ended.
    pub fn end(&mut self, outcome: &str) -> Result<()> {
        if let Some(process) = self.processes.last_mut() {
            process.ended = Some(now());
            process.outcome = Some(outcome.into());
            process.peak_tensor_bytes = match process.device.as_str() {
                "cpu" => memory::peak(),
                name => {
                    let used = device::device(name).and_then(|d| device::memory_used(&d));
                    used.ok().flatten().map(|used| used.peak)
                }
            };
            process.peak_resident_bytes = memory::peak_resident();
        }
        self.write()
    }

    fn write(&self) -> Result<()> {
        let text = json(&self.path, serde_json::to_string_pretty(&self.processes))? + "\n";
        crate::file::write_whole(&self.path, text.as_bytes())
    }
}

impl Process {
    fn here(device: &str) -> Self {
        let said = |path: &str| -> Option<String> {
            let text = fs::read_to_string(path).ok()?;
            Some(text.trim().to_string()).filter(|t| !t.is_empty())
        };
        let value = |path: &str, name: &str, by: char| -> Option<String> {
            let text = fs::read_to_string(path).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(by)?.1.trim().trim_matches('"').to_string())
        };
        let system = value("/etc/os-release", "PRETTY_NAME", '=');
        let kernel = said("/proc/sys/kernel/osrelease");
        let os = [Some(std::env::consts::OS.to_string()), kernel, system];
        let memory = value("/proc/meminfo", "MemTotal", ':');
        let kilobytes = memory.and_then(|m| m.split_whitespace().next()?.parse::<u64>().ok());
        let directory = std::env::current_dir().unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            command: std::env::args_os()
                .map(|a| a.to_string_lossy().into_owned())
                .collect(),
            directory: directory.display().to_string(),
            process: std::process::id(),
            host: said("/proc/sys/kernel/hostname"),
            os: os.into_iter().flatten().collect::<Vec<_>>().join(", "),
            cpu: value("/proc/cpuinfo", "model name", ':')
                .unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            memory_bytes: kilobytes.map(|k| k * 1024),
            device: device.into(),
            started: now(),
            ended: None,
            outcome: None,
            peak_tensor_bytes: None,
            peak_resident_bytes: None,
        }
    }

    /// Those of a run, in their order; none if there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn all(dir: &Path) -> Result<Vec<Self>> {
        let path = dir.join(MACHINE);
        if !path.exists() {
            return Ok(Vec::new());
        }
        file::json::read(&path, ANEW)
    }
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    utc(since.unwrap_or_default().as_secs())
}

/// Seconds since 1970 as RFC 3339 has them. Days to dates: H. Hinnant, `civil_from_days`.
fn utc(seconds: u64) -> String {
    let (days, seconds) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }
}
