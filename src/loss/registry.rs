//! The one list of objectives: it drives the command line, the solvers, the certificates, the
//! tests and the docs.

use super::{Inputs, copg, dpo, ipo, margin, policy_gradient, reward_model, rloo, slic};
use crate::backend::Backend;
use crate::error::{Error, Result};

/// The baseline of a policy gradient.
#[derive(Debug, Clone, PartialEq)]
pub enum Baseline {
    /// A given number, the same for every prompt.
    Given(f64),
    /// E_π\[R\].
    Value,
    /// E_π\[R_β\], which is J.
    SoftValue,
    /// E_ν\[R_β\] for a given law ν, one per prompt.
    SoftValueUnder(Vec<Vec<f64>>),
}

impl Baseline {
    /// The baseline of prompt `x` at a policy, from one number per arm.
    ///
    /// # Errors
    /// A given law that is missing, has another number of arms, or is no distribution.
    pub fn at(
        &self,
        x: usize,
        log_policy: &[f64],
        log_reference: &[f64],
        reward: &[f64],
        beta: f64,
    ) -> Result<f64> {
        let arms = 0..log_policy.len();
        // An arm without probability counts nothing, however large its log-ratio.
        let mean = |law: &dyn Fn(usize) -> f64, of: &dyn Fn(usize) -> f64| -> f64 {
            arms.clone()
                .map(|a| (law(a), a))
                .filter(|(p, _)| *p > 0.0)
                .map(|(p, a)| p * of(a))
                .sum()
        };
        let policy = |a: usize| log_policy[a].exp();
        let regularised = |a: usize| reward[a] - beta * (log_policy[a] - log_reference[a]);
        Ok(match self {
            Self::Given(b) => *b,
            Self::Value => mean(&policy, &|a| reward[a]),
            Self::SoftValue => mean(&policy, &regularised),
            Self::SoftValueUnder(laws) => {
                let law = Self::law(laws, x, log_policy.len())?;
                mean(&|a| law[a], &regularised)
            }
        })
    }

    /// The given law of prompt `x`, checked.
    pub(crate) fn law(laws: &[Vec<f64>], x: usize, arms: usize) -> Result<&[f64]> {
        let law = laws.get(x).map_or(&[][..], Vec::as_slice);
        let sum: f64 = law.iter().sum();
        if law.len() == arms && law.iter().all(|p| *p >= 0.0) && (sum - 1.0).abs() <= 1e-9 {
            return Ok(law);
        }
        Err(Error::invalid(
            format!("baseline law of prompt {x}"),
            format!(
                "it has {} arms and sums to {sum}, the prompt has {arms} arms",
                law.len()
            ),
            "give one probability per kept arm of every prompt",
        ))
    }
}

/// A registered objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Objective {
    /// [`copg::copg`]
    Copg,
    /// [`copg::copg_completed`]
    CopgCompleted,
    /// [`copg::copg_squared`]
    CopgSquared,
    /// [`rloo::rloo`]
    Rloo,
    /// [`dpo::dpo`]
    Dpo,
    /// [`reward_model::reward_model`]
    RewardModel,
    /// [`ipo::ipo`]
    Ipo,
    /// [`ipo::ipo_copg`]
    IpoCopg,
    /// [`ipo::ipo_gpo`]
    IpoGpo,
    /// [`slic::slic`]
    Slic,
    /// [`policy_gradient::policy_gradient`] with b = 0
    PgZero,
    /// [`policy_gradient::policy_gradient`] with b = E_π\[R\]
    PgValue,
    /// [`policy_gradient::policy_gradient`] with b = E_π\[R_β\]
    PgSoftValue,
}

/// What an objective is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// Pairs with rewards; no labels.
    ScoredPairs,
    /// Pairs with a label that says which is preferred.
    LabelledPairs,
    /// Single responses with rewards.
    Singles,
    /// Groups of responses with rewards.
    Groups,
}

impl InputKind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScoredPairs => "scored pairs",
            Self::LabelledPairs => "labelled pairs",
            Self::Singles => "single responses",
            Self::Groups => "groups of responses",
        }
    }
}

/// What sort of function an objective is, which decides how it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A smooth loss.
    Smooth,
    /// A piecewise linear loss, whose optimum lies on kinks.
    Kinked,
    /// An update field; the loss value means nothing.
    Field,
}

impl Kind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smooth => "smooth",
            Self::Kinked => "kinked",
            Self::Field => "field",
        }
    }
}

/// What the registry says of an objective.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Its name on the command line and in files.
    pub name: &'static str,
    /// Per-example loss.
    pub formula: &'static str,
    /// What it is fed.
    pub inputs: InputKind,
    /// What sort of function it is.
    pub kind: Kind,
    /// Where it was published.
    pub source: &'static str,
    /// Where its population form converges.
    pub fixed_point: &'static str,
}

impl Objective {
    /// Every objective, in the order of tables.
    pub const ALL: [Self; 13] = [
        Self::Copg,
        Self::CopgCompleted,
        Self::CopgSquared,
        Self::Rloo,
        Self::Dpo,
        Self::RewardModel,
        Self::Ipo,
        Self::IpoCopg,
        Self::IpoGpo,
        Self::Slic,
        Self::PgZero,
        Self::PgValue,
        Self::PgSoftValue,
    ];

    /// Its entry.
    pub fn spec(self) -> Spec {
        use InputKind::{Groups, LabelledPairs, ScoredPairs, Singles};
        use Kind::{Field, Kinked, Smooth};
        let spec = |name, formula, inputs, kind, source, fixed_point| Spec {
            name,
            formula,
            inputs,
            kind,
            source,
            fixed_point,
        };
        let optimum = "π* if the comparison graph is connected";
        let least_squares = "ln π/π_ref = v/β, v the least squares of the comparison graph";
        match self {
            Self::Copg => spec(
                "copg",
                "−(R_{β/2}(y) − R_{β/2}(y′))·(u(y) − u(y′))",
                ScoredPairs,
                Smooth,
                "CoPG, eq. 5, 6",
                optimum,
            ),
            Self::CopgCompleted => spec(
                "copg-completed",
                "[(ΔR − βΔu)² − (ΔR)²] / 2β",
                ScoredPairs,
                Smooth,
                "CoPG, eq. 15 / β",
                optimum,
            ),
            Self::CopgSquared => spec(
                "copg-squared",
                "(R_β(y) − R_β(y′))²",
                ScoredPairs,
                Smooth,
                "CoPG, Algorithm 1",
                optimum,
            ),
            Self::Rloo => spec(
                "rloo",
                "mean_j −⟦R_β(y_j) − mean_{l≠j} R_β(y_l)⟧ ln π(y_j)",
                Groups,
                Field,
                "Kool et al. 2019; CoPG, Property 2",
                "π* if the law covers the reference",
            ),
            Self::Dpo => spec(
                "dpo",
                "−ln σ(βd)",
                LabelledPairs,
                Smooth,
                "Rafailov et al. 2023; BPO, eq. 2",
                "π* under Bradley–Terry labels on a connected graph",
            ),
            Self::RewardModel => spec(
                "reward-model",
                "−ln σ(r(y⁺) − r(y⁻))",
                LabelledPairs,
                Smooth,
                "CoPG, section 6",
                "R up to a shift; its optimal policy is π*",
            ),
            Self::Ipo => spec(
                "ipo",
                "(d − 1/2β)²",
                LabelledPairs,
                Smooth,
                "Azar et al. 2024; BPO, eq. 3",
                least_squares,
            ),
            Self::IpoCopg => spec(
                "ipo-copg",
                "(½ − βd)²",
                LabelledPairs,
                Smooth,
                "CoPG, Property 3",
                least_squares,
            ),
            Self::IpoGpo => spec(
                "ipo-gpo",
                "(βd − 1)²",
                LabelledPairs,
                Smooth,
                "Tang et al. 2024; DRO, section 2",
                "that of ipo at temperature β/2",
            ),
            Self::Slic => spec(
                "slic",
                "max(0, 1 − βd)",
                LabelledPairs,
                Kinked,
                "BPO, eq. 4",
                "βu an integer vector up to a shift",
            ),
            Self::PgZero => spec(
                "pg-zero",
                "−⟦R_β(y)⟧ ln π(y)",
                Singles,
                Field,
                "CoPG, section 5",
                "π = (mβ/S)·W(S π_ref e^{R/β}/mβ), biased",
            ),
            Self::PgValue => spec(
                "pg-value",
                "−⟦R_β(y) − E_π[R]⟧ ln π(y)",
                Singles,
                Field,
                "CoPG, section 5",
                "biased; may have several attractors",
            ),
            Self::PgSoftValue => spec(
                "pg-soft-value",
                "−⟦R_β(y) − E_π[R_β]⟧ ln π(y)",
                Singles,
                Field,
                "CoPG, section 2",
                "π* if the laws cover the reference",
            ),
        }
    }

    /// Its registered name.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The objective of that name.
    ///
    /// # Errors
    /// An unknown name: the message lists the known ones.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|o| o.name() == name)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|o| o.name()).collect();
                Error::invalid(
                    "objective",
                    format!("`{name}` is not registered"),
                    format!("use one of {}", known.join(", ")),
                )
            })
    }

    /// The baseline, if it is a policy gradient.
    pub fn baseline(self) -> Option<Baseline> {
        match self {
            Self::PgZero => Some(Baseline::Given(0.0)),
            Self::PgValue => Some(Baseline::Value),
            Self::PgSoftValue => Some(Baseline::SoftValue),
            _ => None,
        }
    }

    /// Whether what it trains is a table of scores rather than a policy.
    pub fn trains_scores(self) -> bool {
        self == Self::RewardModel
    }

    /// The per-example loss, `[B]`.
    ///
    /// # Errors
    /// Inputs of another kind than [`Spec::inputs`], or arrays of different lengths.
    pub fn loss<X: Backend>(self, inputs: &Inputs<X>, beta: f64) -> Result<X> {
        match (self, inputs) {
            (Self::Copg, Inputs::Pair { first, second }) => copg::copg(first, second, beta),
            (Self::CopgCompleted, Inputs::Pair { first, second }) => {
                copg::copg_completed(first, second, beta)
            }
            (Self::CopgSquared, Inputs::Pair { first, second }) => {
                copg::copg_squared(first, second, beta)
            }
            (Self::Dpo, Inputs::Pair { first, second }) => dpo::dpo(&margin(first, second)?, beta),
            (Self::Ipo, Inputs::Pair { first, second }) => ipo::ipo(&margin(first, second)?, beta),
            (Self::IpoCopg, Inputs::Pair { first, second }) => {
                ipo::ipo_copg(&margin(first, second)?, beta)
            }
            (Self::IpoGpo, Inputs::Pair { first, second }) => {
                ipo::ipo_gpo(&margin(first, second)?, beta)
            }
            (Self::Slic, Inputs::Pair { first, second }) => {
                slic::slic(&margin(first, second)?, beta)
            }
            (Self::RewardModel, Inputs::Pair { first, second }) => {
                reward_model::reward_model(&first.log_policy, &second.log_policy)
            }
            (Self::Rloo, Inputs::Group { responses, groups }) => {
                rloo::rloo(responses, groups, beta)
            }
            (
                Self::PgZero | Self::PgValue | Self::PgSoftValue,
                Inputs::Single { response, baseline },
            ) => policy_gradient::policy_gradient(response, baseline, beta),
            _ => Err(Error::Inputs {
                objective: self.name(),
                expected: self.spec().inputs.name(),
                found: inputs.kind(),
            }),
        }
    }
}
