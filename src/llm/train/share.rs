//! A share of every step beside its objective: another objective on examples of its own.

use super::batches::Batches;
use super::examples::Examples;
use super::ordered::Ordered;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::llm::text::objective::{TextObjective, TokenReduction};
use crate::loss::{Given, Objective};

/// What a step learns from beside its objective.
pub struct Share<'a> {
    /// Its name among metrics: its loss is `NAME/loss`.
    pub name: String,
    /// Its objective, and batches of its rows, shuffled anew in each pass over them. Responses that have the
    /// reference's numbers stored keep them; others get the run's reference.
    pub plan: Batches<'a>,
    /// All its rows once, in their order.
    pub all: Batches<'a>,
    /// What becomes of its gradient.
    pub role: Role,
}

/// What becomes of the gradient of a share.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// It is added, times a weight.
    Added {
        /// The weight.
        weight: f64,
    },
    /// Its loss is to stay below what it was at the run's first step: its gradient is added times a multiplier that
    /// grows while it is not (COPR, eq. 10 to 13).
    Bounded,
    /// It is not added; a step that would raise its loss is projected to the nearest one that would not (A-GEM).
    Projected,
}

/// How many rows of a share are in a step, of a run with those settings and a model that takes `context` tokens.
#[derive(Clone, Copy)]
pub struct Part<'s> {
    /// The run's settings.
    pub settings: &'s Settings,
    /// Most tokens of a response with its prompt.
    pub context: usize,
    /// Rows in a step.
    pub batch: usize,
}

impl Part<'_> {
    fn settings(&self, rows: &dyn Examples) -> Settings {
        Settings {
            batch: self.batch.min(rows.count().max(1)),
            accumulation: 1,
            steps: Some(1),
            drop_last: true,
            length_buckets: None,
            optimizer_in_backward: false,
            prompts: None,
            ..self.settings.clone()
        }
    }

    /// Batches of rows, shuffled anew in each pass over them, as many as are asked for.
    ///
    /// # Errors
    /// No rows, or too few for the objective.
    pub fn of<'a>(&self, objective: TextObjective, rows: &'a dyn Examples) -> Result<Batches<'a>> {
        Batches::of(objective, &self.settings(rows), self.context, rows)
    }
}

impl<'a> Share<'a> {
    /// An objective on rows, some of them in every step.
    ///
    /// # Errors
    /// No rows, or too few for the objective.
    pub fn new(
        name: impl Into<String>,
        objective: TextObjective,
        rows: &'a dyn Examples,
        part: Part,
        role: Role,
    ) -> Result<Self> {
        let own = part.settings(rows);
        let all = Ordered::held_out(&objective, &own, rows)?;
        Ok(Self {
            name: name.into(),
            all: Batches::fed(objective.clone(), &own, part.context, all)?,
            plan: part.of(objective, rows)?,
            role,
        })
    }

    /// Selective rehearsal's: `γ · 1/|b| Σ −ln π(y|x)` over `b`, some of the rows (Advantage Model, eq. 9).
    ///
    /// # Errors
    /// No rows.
    pub fn rehearsal(settings: &Settings, context: usize, rows: &'a dyn Examples) -> Result<Self> {
        let role = Role::Added {
            weight: settings.rehearse_weight,
        };
        let part = Part {
            settings,
            context,
            batch: settings.rehearse_batch,
        };
        Self::new(
            "rehearsal",
            likelihood(TokenReduction::Sum)?,
            rows,
            part,
            role,
        )
    }
}

/// The likelihood of responses, of lists that of the best one.
///
/// # Errors
/// None, unless the registry has no likelihood.
pub(in crate::llm) fn likelihood(tokens: TokenReduction) -> Result<TextObjective> {
    let likelihood = |o: &Objective| o.spec().best_only && o.spec().per_token;
    let found = Objective::own().find(likelihood).ok_or_else(|| {
        let remedy = "this is a bug of pistar";
        Error::invalid("likelihood", "there is none among the objectives", remedy)
    })?;
    TextObjective::of(found, &Given::new(), Some(tokens))
}
