//! Which single setting would make a run fit, and how much more would.

use serde::Serialize;

use super::run::{Reference, Run};
use super::setup::Budget;
use crate::error::Result;
use crate::llm::lora::{AdapterConfig, Target};
use crate::llm::train::Precision;

/// Another value of one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The setting as a flag.
    pub setting: String,
    /// What it costs.
    pub cost: String,
    /// Bytes of tensors at most with it.
    pub peak_bytes: u64,
    /// Whether the run then fits.
    pub fits: bool,
}

/// Rank of the adapter that is proposed.
const RANK: usize = 16;

impl Budget {
    /// The single settings that take less memory, in the order of what they cost: `room` is what
    /// tensors may take.
    ///
    /// # Errors
    /// As [`outcome`](Self::outcome).
    pub fn changes(&self, room: u64) -> Result<Vec<Change>> {
        let now = self.outcome()?.bytes();
        let mut changes = Vec::new();
        for (setting, cost, run) in self.candidates(&self.run, room)? {
            let peak_bytes = self.with(&run)?.bytes();
            if peak_bytes < now {
                changes.push(Change {
                    setting,
                    cost,
                    peak_bytes,
                    fits: peak_bytes <= room,
                });
            }
        }
        Ok(changes)
    }

    /// The fewest settings together, each the next in the order of cost, that make the run fit.
    ///
    /// # Errors
    /// As [`outcome`](Self::outcome).
    pub fn together(&self, room: u64) -> Result<Option<Change>> {
        let (mut run, mut settings, mut costs) = (self.run.clone(), Vec::new(), Vec::new());
        let mut peak_bytes = self.with(&run)?.bytes();
        for kind in Kind::ALL {
            let Some((setting, cost, next)) = self.candidate(kind, &run, room)? else {
                continue;
            };
            let bytes = self.with(&next)?.bytes();
            if bytes >= peak_bytes {
                continue;
            }
            // The pieces are chosen last: of all that fit, the largest.
            if kind != Kind::Pieces || bytes <= room {
                (run, peak_bytes) = (next, bytes);
                settings.push(setting);
                costs.push(cost);
            }
            if peak_bytes <= room {
                break;
            }
            if kind != Kind::Pieces
                && let Some((setting, cost, next)) = self.candidate(Kind::Pieces, &run, room)?
                && let bytes = self.with(&next)?.bytes()
                && bytes <= room
            {
                peak_bytes = bytes;
                settings.push(setting);
                costs.push(cost);
                break;
            }
        }
        Ok((peak_bytes <= room && settings.len() > 1).then(|| Change {
            setting: settings.join(" "),
            cost: costs.join("; "),
            peak_bytes,
            fits: true,
        }))
    }

    /// The largest `micro_batch_tokens` at which a run fits, if there is one: that of the whole step
    /// if all of it does.
    ///
    /// # Errors
    /// As [`outcome`](Self::outcome).
    pub fn largest_pieces(&self, run: &Run, room: u64) -> Result<Option<usize>> {
        let [step, example] = self.tokens();
        let fits = |tokens: usize| -> Result<bool> {
            let micro_batch = tokens;
            let run = Run {
                micro_batch,
                ..run.clone()
            };
            Ok(self.with(&run)?.bytes() <= room)
        };
        if fits(step)? {
            return Ok(Some(step));
        }
        // Steps without data are of examples that are alike: whole ones count.
        let unit = match self.of_data {
            true => 1,
            false => example.max(1),
        };
        let (mut low, mut high) = (0, step.div_ceil(unit));
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match fits(middle * unit)? {
                true => low = middle,
                false => high = middle,
            }
        }
        if low > 0 {
            return Ok(Some(low * unit));
        }
        // Less than an example: its responses one by one.
        let longest = self.steps.iter().flat_map(|s| s.examples.iter().flatten());
        let longest = longest.map(|r| r.tokens).max().unwrap_or(1);
        Ok((longest < example && fits(longest)?).then_some(longest))
    }

    fn candidates(&self, run: &Run, room: u64) -> Result<Vec<(String, String, Run)>> {
        let all = Kind::ALL
            .iter()
            .map(|kind| self.candidate(*kind, run, room));
        Ok(all
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    }

    /// A run with another value of one setting, if it has another.
    fn candidate(&self, kind: Kind, run: &Run, room: u64) -> Result<Option<(String, String, Run)>> {
        let mut next = run.clone();
        let (setting, cost) = match kind {
            Kind::Reference => {
                if run.reference != Reference::Live || run.adapter.is_some() {
                    return Ok(None);
                }
                next.reference = Reference::Numbers;
                let cost = "nothing: its numbers are computed once, and a step is faster";
                ("--reference precomputed".into(), cost)
            }
            Kind::Pieces => {
                let [_, example] = self.tokens();
                let least = example.min(run.micro_batch);
                let tokens = self.largest_pieces(run, room)?.unwrap_or(least);
                if tokens >= run.micro_batch {
                    return Ok(None);
                }
                next.micro_batch = tokens;
                let cost = "no number changes but for rounding; smaller matrix products";
                (format!("--micro-batch-tokens {tokens}"), cost)
            }
            Kind::Recompute => {
                if run.recompute {
                    return Ok(None);
                }
                next.recompute = true;
                let cost = "the blocks' forward is run twice: a third more arithmetic";
                ("--recompute".into(), cost)
            }
            Kind::InBackward => {
                if run.in_backward {
                    return Ok(None);
                }
                let [step, _] = self.tokens();
                let several = step > run.micro_batch;
                next.in_backward = true;
                if several {
                    return Ok(None);
                }
                let cost = "no clipping, and a step is one part";
                ("--optimizer-in-backward --clip 0".into(), cost)
            }
            Kind::Precision => {
                next.precision = match run.precision {
                    Precision::F64 => Precision::F32,
                    Precision::F32 => Precision::Bf16,
                    Precision::Bf16 => return Ok(None),
                };
                let cost = match next.precision {
                    Precision::Bf16 => "8 bits of precision in the network; the optimiser has f32",
                    _ => "24 bits of precision instead of 53",
                };
                (format!("--dtype {}", name(next.precision)), cost)
            }
            Kind::Adapter => {
                if run.adapter.is_some() {
                    return Ok(None);
                }
                let alpha = 2.0 * RANK as f64;
                next.adapter = Some(AdapterConfig::new(RANK, alpha, Target::AllLinear));
                let cost = "an adapter is trained, not all weights";
                (format!("--lora-rank {RANK}"), cost)
            }
        };
        Ok(Some((setting, cost.into(), next)))
    }
}

fn name(precision: Precision) -> &'static str {
    precision.dtype().as_str()
}

/// What may be changed, in the order of what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reference,
    Pieces,
    Recompute,
    InBackward,
    Precision,
    Adapter,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Reference,
        Self::Pieces,
        Self::Recompute,
        Self::InBackward,
        Self::Precision,
        Self::Adapter,
    ];
}
