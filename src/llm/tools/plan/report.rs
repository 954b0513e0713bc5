//! The report of `pistar plan`, for a person or a script.

use serde::Serialize;

use super::advice::Change;
use super::ledger::{Bytes, Kind, Largest, Moment, Phase};
use super::setup::Budget;
use crate::error::Result;
use crate::llm::tensor::memory;

/// Bytes that CUDA, its libraries and their workspaces take on a GPU before the first tensor:
/// assumed, not measured.
const CONTEXT: u64 = 768 << 20;

/// The memory that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Bytes.
    pub bytes: u64,
    /// Source of the figure: a flag, or the machine.
    pub source: String,
}

/// The most of a part of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhasePeak {
    /// The part.
    pub phase: Phase,
    /// The most that tensors take in it.
    pub bytes: u64,
}

/// A run's memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// True if it fits.
    pub fits: bool,
    /// Memory that there is.
    pub memory: Memory,
    /// The most that tensors take at once: what `machine.json` calls `peak_tensor_bytes`.
    pub peak_tensor_bytes: u64,
    /// Memory of the process beside tensors, in bytes: program, tokenizer, data; on a GPU, CUDA itself.
    pub process_bytes: u64,
    /// Both together.
    pub total_bytes: u64,
    /// Moment at which tensors take most.
    pub at: Moment,
    /// Tensors at that moment, by purpose.
    pub at_peak: Bytes,
    /// The most in each part of a run.
    pub phases: Vec<PhasePeak>,
    /// Activations that the backward finds, in bytes.
    pub activations_kept: u64,
    /// Part of them that each block keeps.
    pub activations_per_block: u64,
    /// Blocks.
    pub blocks: usize,
    /// Operation that needs most while it runs.
    pub largest_transient: Option<Largest>,
    /// Numbers of the model.
    pub parameters: u64,
    /// Those that are trained.
    pub trained: u64,
    /// Tokens of the largest step.
    pub step_tokens: usize,
    /// Parts that it is run in.
    pub parts: usize,
    /// Most tokens that are run at once, a prompt counted for each of its responses.
    pub tokens_at_once: usize,
    /// Sequences in a part.
    pub sequences: usize,
    /// Tokens of the longest.
    pub longest: usize,
    /// True if lengths are those of data.
    pub of_data: bool,
    /// The largest `micro_batch_tokens` that fits.
    pub largest_micro_batch_tokens: Option<usize>,
    /// Single settings that take less, in the order of what they cost; none if it fits.
    pub changes: Vec<Change>,
    /// Settings that fit together, where no single one does.
    pub together: Option<Change>,
}

impl Report {
    /// The report on a run, in that memory.
    ///
    /// # Errors
    /// Those of [`Budget::outcome`].
    pub fn new(budget: &Budget, memory: Memory) -> Result<Self> {
        let (run, outcome) = (&budget.run, budget.outcome()?);
        let process_bytes = if run.machine.cpu {
            memory::resident()
                .unwrap_or(0)
                .saturating_sub(memory::live())
        } else {
            CONTEXT
        };
        let room = memory.bytes.saturating_sub(process_bytes);
        let (bytes, at, at_peak) = match outcome.peak() {
            Some(peak) => (peak.bytes, peak.at.clone(), peak.of.clone()),
            None => unreachable!("loading takes memory"),
        };
        let fits = bytes <= room;
        let changes = if fits {
            Vec::new()
        } else {
            budget.changes(room)?
        };
        let alone = changes.iter().any(|change| change.fits);
        let together = if fits || alone {
            None
        } else {
            budget.together(room)?
        };
        let (parts, _) = budget.parts(run.micro_batch);
        Ok(Self {
            fits,
            memory,
            peak_tensor_bytes: bytes,
            process_bytes,
            total_bytes: bytes.saturating_add(process_bytes),
            at,
            at_peak,
            phases: (outcome.phases.iter())
                .map(|(&phase, peak)| PhasePeak {
                    phase,
                    bytes: peak.bytes,
                })
                .collect(),
            activations_kept: outcome.kept,
            activations_per_block: outcome.kept_per_block,
            blocks: run.config.sizes().layers,
            largest_transient: outcome.largest,
            parameters: outcome.parameters,
            trained: outcome.trained,
            step_tokens: budget.tokens()[0],
            parts,
            tokens_at_once: outcome.tokens,
            sequences: outcome.sequences,
            longest: outcome.longest,
            of_data: budget.of_data,
            largest_micro_batch_tokens: budget.largest_pieces(run, room)?,
            changes,
            together,
        })
    }

    /// Lines of a table: what it is, its bytes at the peak, a remark.
    pub fn rows(&self) -> Vec<[String; 3]> {
        let mut rows = Vec::new();
        let mut row = |name: &str, bytes: u64, remark: String| {
            rows.push([name.to_string(), self.size(bytes), remark]);
        };
        for (kind, name) in NAMES {
            let bytes = self.at_peak.get(&kind).copied().unwrap_or(0);
            let largest = self.largest_transient.as_ref();
            let remark = match kind {
                Kind::Activations => format!(
                    "the backward finds {}: {} blocks keep {} each",
                    self.size(self.activations_kept),
                    self.blocks,
                    self.size(self.activations_per_block),
                ),
                Kind::Transients => largest.map_or(String::new(), |largest| {
                    let bytes = self.size(largest.bytes);
                    format!("{} needs {bytes} while it runs", largest.operation)
                }),
                _ => String::new(),
            };
            let says = matches!(kind, Kind::Activations | Kind::Transients);
            if says || !self.size(bytes).starts_with("0.00") {
                row(name, bytes, remark);
            }
        }
        let at = match self.at.block {
            Some(block) => format!("block {block}: {}", self.at.operation),
            None => self.at.operation.to_string(),
        };
        let when = format!("in the {}, {at}", self.at.phase.name());
        row("tensors at most", self.peak_tensor_bytes, when);
        let process = match self.process_bytes {
            0 => "unknown here",
            CONTEXT => "CUDA and its libraries: assumed, not measured",
            _ => "program, tokenizer, data",
        };
        row("process", self.process_bytes, process.into());
        let of = format!(
            "of {} ({})",
            self.size(self.memory.bytes),
            self.memory.source
        );
        row("total", self.total_bytes, of);
        rows
    }

    /// The most of each part of the run, in a line.
    pub fn course(&self) -> String {
        let each = self.phases.iter();
        let each = each.map(|p| format!("{} {}", p.phase.name(), self.size(p.bytes)));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Bytes for people, all of a report in one unit.
    pub fn size(&self, bytes: u64) -> String {
        let most = self.total_bytes.max(1);
        let (unit, name) = match most {
            _ if most >= 4 << 30 => (30, "GiB"),
            _ => (20, "MiB"),
        };
        format!("{:.2} {name}", bytes as f64 / f64::from(1u32 << unit))
    }
}

/// What tensors are, in the order of tables.
const NAMES: [(Kind, &str); 11] = [
    (Kind::Weights, "weights"),
    (Kind::Masters, "master weights"),
    (Kind::Moments, "moments"),
    (Kind::Gradients, "gradients"),
    (Kind::Reference, "reference"),
    (Kind::ValueNetwork, "value network"),
    (Kind::Generator, "generator's weights"),
    (Kind::Cache, "keys and values"),
    (Kind::Activations, "activations"),
    (Kind::Transients, "transients"),
    (Kind::Workspaces, "workspaces"),
];
