//! A further share of every step: likelihood of given responses, beside the objective.

use super::batches::Batches;
use super::examples::Examples;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::text::objective::{TextObjective, TokenReduction};
use crate::loss::{Given, Objective};

/// What a step learns from beside its objective, and its weight:
/// `γ · 1/|b| Σ −ln π(y|x)` over `b`, some of the rows (selective rehearsal, Advantage Model, eq. 9).
pub struct Rehearsal<'a> {
    /// Batches of the rows, shuffled anew in each pass over them.
    pub plan: Batches<'a>,
    /// γ
    pub weight: f64,
}

impl<'a> Rehearsal<'a> {
    /// That of settings, on rows that were read; it takes as many steps as the run.
    ///
    /// # Errors
    /// No rows, or a batch beyond them.
    pub fn new(settings: &Settings, context: usize, rows: &'a dyn Examples) -> Result<Self> {
        let objective = objective()?;
        let own = Settings {
            batch: settings.rehearse_batch.min(rows.count().max(1)),
            accumulation: 1,
            steps: Some(1),
            drop_last: true,
            length_buckets: None,
            optimizer_in_backward: false,
            prompts: None,
            ..settings.clone()
        };
        Ok(Self {
            plan: Batches::of(objective, &own, context, rows)?,
            weight: settings.rehearse_weight,
        })
    }
}

/// The likelihood of whole responses.
fn objective() -> Result<TextObjective> {
    let likelihood = |o: &Objective| o.spec().best_only && o.spec().per_token;
    let found = Objective::own().find(likelihood).ok_or_else(|| {
        let remedy = "this is a bug of pistar";
        Error::invalid("rehearse", "there is no likelihood", remedy)
    })?;
    TextObjective::of(found, &Given::new(), Some(TokenReduction::Sum))
}
