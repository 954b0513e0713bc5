//! Targets of `solve` and `loss` by name: the registered objectives, and BPO's phases of some.

use crate::loss::Objective;
use crate::solve::bpo::Inner;
use crate::text::suggestion;
use crate::{Error, Result};

/// An objective, or phases of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A registered objective.
    Loss(Objective),
    /// BPO with that inner loss.
    Phases(Inner),
}

impl Target {
    /// All of them, in the order of tables.
    pub fn all() -> Vec<Self> {
        let losses = Objective::on_bandits().into_iter().map(Self::Loss);
        losses
            .chain(Inner::ALL.into_iter().map(Self::Phases))
            .collect()
    }

    /// The objective, or that of each phase.
    pub fn objective(self) -> Objective {
        match self {
            Self::Loss(objective) => objective,
            Self::Phases(inner) => inner.objective(),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Loss(objective) => objective.name(),
            Self::Phases(inner) => inner.name(),
        }
    }

    /// The target of that name, for clap.
    pub fn parse(name: &str) -> Result<Self> {
        let all = Self::all();
        if let Ok(objective) = Objective::from_name(name) {
            objective.spec().needs_bandits()?;
            return Ok(Self::Loss(objective));
        }
        (all.iter().copied().find(|t| t.name() == name)).ok_or_else(|| {
            Error::invalid(
                "objective",
                format!("`{name}` is not registered"),
                suggestion(name, all.iter().map(|t| t.name())),
            )
        })
    }
}
