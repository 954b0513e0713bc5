//! Advice on a run that does not fit: which single setting would make it fit, or which together.

use serde::Serialize;

use super::run::{Reference, Run};
use super::setup::Budget;
use crate::error::Result;
use crate::llm::model::lora::{AdapterConfig, Target};
use crate::llm::sample::generate::Draw;
use crate::llm::train::Precision;

/// Another value of one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The setting as a flag.
    pub setting: String,
    /// Cost of the change, in words.
    pub cost: String,
    /// Bytes of tensors at most with it.
    pub peak_bytes: u64,
    /// True if the run then fits.
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

    /// The settings together that make the run fit and cost least: of all combinations that do, the
    /// one whose dearest setting is cheapest; of those, the one whose second dearest is; and so on
    /// (docs/plan.md has the order). If none does, all that take less together, and the longest
    /// examples that then fit.
    ///
    /// # Errors
    /// As [`outcome`](Self::outcome).
    pub fn together(&self, room: u64) -> Result<Option<Change>> {
        // A set of kinds is a number, the dearest the highest digit: cheaper is smaller.
        for set in 1..1u32 << Kind::ALL.len() {
            let kinds = Kind::ALL.into_iter().enumerate();
            let kinds: Vec<Kind> = (kinds.filter(|(i, _)| set >> i & 1 == 1))
                .map(|(_, kind)| kind)
                .collect();
            if kinds.len() > 1
                && let Some(combined) = self.combined(&kinds, room)?
                && let Some(change) = self.fitting(combined, room)?
            {
                return Ok(Some(change));
            }
        }
        self.shorter(room)
    }

    /// A change that is told, if the run then fits.
    fn fitting(&self, combined: Combined, room: u64) -> Result<Option<Change>> {
        let peak_bytes = self.with(&combined.run)?.bytes();
        Ok((peak_bytes <= room).then(|| Change {
            setting: combined.settings.join(" "),
            cost: combined.costs.join("; "),
            peak_bytes,
            fits: true,
        }))
    }

    /// The run with all of these changed, if each can be and has a use beside the others. Pieces are
    /// chosen last: of all that fit, the largest.
    fn combined(&self, kinds: &[Kind], room: u64) -> Result<Option<Combined>> {
        let has = |kind: Kind| kinds.contains(&kind);
        let idle = [
            // One part is one piece.
            (Kind::Pieces, Kind::InBackward),
            (Kind::Single, Kind::Half),
            // An adapter's reference is its base.
            (Kind::Reference, Kind::Adapter),
        ];
        if idle.iter().any(|&(a, b)| has(a) && has(b)) {
            return Ok(None);
        }
        let mut combined = Combined {
            run: self.run.clone(),
            settings: Vec::new(),
            costs: Vec::new(),
        };
        let last = |kind: &&Kind| **kind == Kind::Pieces;
        let order = (kinds.iter().filter(|kind| !last(kind))).chain(kinds.iter().filter(last));
        for kind in order {
            let Some((setting, cost, run)) = self.candidate(*kind, &combined.run, room)? else {
                return Ok(None);
            };
            combined.run = run;
            combined.settings.push(setting);
            combined.costs.push(cost);
        }
        Ok(Some(combined))
    }

    /// All that takes less, and the longest examples that then fit.
    fn shorter(&self, room: u64) -> Result<Option<Change>> {
        let all = [Kind::Recompute, Kind::Half, Kind::Adapter];
        let mut kinds = Vec::new();
        for kind in all {
            if self.candidate(kind, &self.run, room)?.is_some() {
                kinds.push(kind);
            }
        }
        let Some(mut combined) = self.combined(&kinds, room)? else {
            return Ok(None);
        };
        // No two prompts are cut, and every completion has a token.
        let responses = || self.steps.iter().flat_map(|s| s.examples.iter().flatten());
        let least = if self.of_data {
            responses().map(|r| r.prompt).max().unwrap_or(0) + 1
        } else {
            2
        };
        let longest = responses().map(|r| r.tokens).max().unwrap_or(0);
        let of = |length: usize| Self {
            steps: self.steps.iter().map(|step| step.cut(length)).collect(),
            ..self.clone()
        };
        let run = &combined.run;
        let fits = |length: usize| -> Result<bool> {
            let shorter = of(length);
            let [_, example] = shorter.tokens();
            let micro_batch = if run.in_backward {
                run.micro_batch
            } else {
                example.min(run.micro_batch)
            };
            let run = Run {
                micro_batch,
                ..run.clone()
            };
            Ok(shorter.with(&run)?.bytes() <= room)
        };
        if least >= longest || !fits(least)? {
            return Ok(None);
        }
        let (mut low, mut high) = (least, longest);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle)? {
                low = middle
            } else {
                high = middle
            }
        }
        let shorter = of(low);
        if let (false, Some(tokens)) = (
            run.in_backward,
            shorter.largest_pieces(&combined.run, room)?,
        ) && tokens < combined.run.micro_batch
        {
            combined.run.micro_batch = tokens;
            combined
                .settings
                .push(format!("--micro-batch-tokens {tokens}"));
            combined.costs.push(PIECES.into());
        }
        let flag = if self.sequence {
            "--sequence"
        } else {
            "--max-length"
        };
        combined.settings.push(format!("{flag} {low}"));
        combined
            .costs
            .push("longer examples are cut, or not there".into());
        shorter.fitting(combined, room)
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
        let unit = if self.of_data { 1 } else { example.max(1) };
        let (mut low, mut high) = (0, step.div_ceil(unit));
        if high > 1 && fits(unit)? {
            low = 1;
        } else {
            high = 1;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle * unit)? {
                low = middle
            } else {
                high = middle
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

    /// The most sequences, below so many, at whose generation a run fits; if there are none, those at which
    /// generation is not what takes most, or one.
    fn fewer_sequences(&self, run: &Run, room: u64, most: usize) -> Result<Option<usize>> {
        let bytes = |sequences: usize| -> Result<u64> {
            let draws = at_once(&run.draws, sequences);
            let run = Run {
                draws,
                ..run.clone()
            };
            Ok(self.with(&run)?.bytes())
        };
        if most < 2 {
            return Ok(None);
        }
        let least = bytes(1)?;
        if least >= bytes(most)? {
            return Ok(None);
        }
        let enough = room.max(least);
        let (mut low, mut high) = (1, most);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if bytes(middle)? <= enough {
                low = middle
            } else {
                high = middle
            }
        }
        Ok(Some(low))
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
                if run.in_backward {
                    return Ok(None);
                }
                let least = example.min(run.micro_batch);
                let tokens = self.largest_pieces(run, room)?.unwrap_or(least);
                if tokens >= run.micro_batch {
                    return Ok(None);
                }
                next.micro_batch = tokens;
                let cost = PIECES;
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
            Kind::Draws => {
                let most = run.draws.iter().map(|draw| draw.sequences).max();
                let Some(fewer) = self.fewer_sequences(run, room, most.unwrap_or(0))? else {
                    return Ok(None);
                };
                next.draws = at_once(&run.draws, fewer);
                let cost = "no number changes but for rounding on a GPU; generation takes longer";
                (format!("--generation-batch {fewer}"), cost)
            }
            Kind::InBackward => {
                if run.in_backward {
                    return Ok(None);
                }
                next.in_backward = true;
                let [step, _] = self.tokens();
                let whole = if step > run.micro_batch {
                    format!(" --micro-batch-tokens {step}")
                } else {
                    String::new()
                };
                next.micro_batch = step.max(run.micro_batch);
                let cost = "no clipping, and a step is one part";
                (format!("--optimizer-in-backward --clip 0{whole}"), cost)
            }
            Kind::Single => {
                if run.precision != Precision::F64 {
                    return Ok(None);
                }
                next.precision = Precision::F32;
                let cost = "24 bits of precision instead of 53";
                (dtype(next.precision), cost)
            }
            Kind::Half => {
                if run.precision == Precision::Bf16 {
                    return Ok(None);
                }
                next.precision = Precision::Bf16;
                let cost = if self.tf32 {
                    "8 bits of precision in the network, and --tf32 goes"
                } else {
                    "8 bits of precision in the network; the optimiser has f32"
                };
                (dtype(next.precision), cost)
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

/// The same draws with at most so many sequences at once.
fn at_once(draws: &[Draw], sequences: usize) -> Vec<Draw> {
    let fewer = |draw: &Draw| Draw {
        sequences: draw.sequences.min(sequences),
        ..*draw
    };
    draws.iter().map(fewer).collect()
}

/// What pieces cost.
const PIECES: &str = "no number changes but for rounding; smaller matrix products";

fn dtype(precision: Precision) -> String {
    format!("--dtype {}", precision.dtype().as_str())
}

/// Several changes at once.
struct Combined {
    run: Run,
    settings: Vec<String>,
    costs: Vec<String>,
}

/// What may be changed, in the order of what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reference,
    Draws,
    Pieces,
    Recompute,
    InBackward,
    Single,
    Half,
    Adapter,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Reference,
        Self::Draws,
        Self::Pieces,
        Self::Recompute,
        Self::InBackward,
        Self::Single,
        Self::Half,
        Self::Adapter,
    ];
}

#[cfg(test)]
mod tests;
