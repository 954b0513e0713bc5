//! The one list of objectives: it drives the command line, the solvers, the certificates, the
//! tests and the docs.

use super::{
    Baseline, Inputs, Parameters, Table, Value, advantage, copg, copr, dpo, dro, ipo, kto, margin,
    policy_gradient, reward_model, rloo, slic,
};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::text::suggestion;

/// A registered objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
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
    /// [`dro::dro_v`]
    DroV,
    /// [`dro::dro_v_eliminated`]
    DroVEliminated,
    /// [`dro::dro_v`] with V given and detached
    DroFixed,
    /// [`dro::dro_v`] with one V for all prompts
    DroConstant,
    /// [`dro::dro_algorithm_1`] as printed, c = 1
    DroAlgorithm1,
    /// [`dro::dro_algorithm_1`] with c = β
    DroAlgorithm1Corrected,
    /// [`kto::kto`] with one threshold for all prompts
    Kto,
    /// [`kto::kto`] with a threshold per prompt
    KtoPerPrompt,
    /// [`kto::kto`] with z₀ = 0
    KtoNoKl,
    /// [`copr::copr`]
    Copr,
    /// [`copr::copr_forward`], summed
    CoprForward,
    /// [`copr::copr_forward`], the mean
    CoprForwardMean,
    /// [`copr::copr_sft`]
    CoprSft,
    /// [`copr::sft`]
    Sft,
    /// [`advantage::advantage_model`]
    AdvantageModel,
    /// [`advantage::advantage_model`] without pairs of a response with itself
    AdvantageModelDistinct,
    /// [`advantage::advantage_model`] of scores with mean zero under a given policy
    AdvantageModelCentred,
}

impl Objective {
    /// Every objective, in the order of tables.
    pub const ALL: [Self; 30] = [
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
        Self::DroV,
        Self::DroVEliminated,
        Self::DroFixed,
        Self::DroConstant,
        Self::DroAlgorithm1,
        Self::DroAlgorithm1Corrected,
        Self::Kto,
        Self::KtoPerPrompt,
        Self::KtoNoKl,
        Self::Copr,
        Self::CoprForward,
        Self::CoprForwardMean,
        Self::CoprSft,
        Self::Sft,
        Self::AdvantageModel,
        Self::AdvantageModelDistinct,
        Self::AdvantageModelCentred,
    ];

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
                let known = Self::ALL.iter().map(|o| o.name());
                Error::invalid(
                    "objective",
                    format!("`{name}` is not registered"),
                    suggestion(name, known),
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

    /// The V it takes, if it is a form of DRO that has one.
    pub fn value(self) -> Option<Value> {
        match self {
            Self::DroV | Self::DroAlgorithm1 | Self::DroAlgorithm1Corrected => Some(Value::Own),
            Self::DroFixed => Some(Value::Given),
            Self::DroConstant => Some(Value::Constant),
            _ => None,
        }
    }

    /// Meaning of the numbers it trains.
    pub fn table(self) -> Table {
        match self {
            Self::RewardModel | Self::AdvantageModel | Self::AdvantageModelDistinct => {
                Table::Scores
            }
            Self::AdvantageModelCentred => Table::CentredScores,
            _ => Table::Logits,
        }
    }

    /// True if it trains scores (a reward model) rather than a policy.
    pub fn trains_scores(self) -> bool {
        self.table() != Table::Logits
    }

    /// The per-example loss, `[B]`.
    ///
    /// # Errors
    /// Inputs of another kind than [`Spec::inputs`](super::Spec::inputs), arrays of different lengths, or a missing
    /// parameter.
    pub fn loss<X: Backend>(
        self,
        inputs: &Inputs<X>,
        parameters: impl Into<Parameters>,
    ) -> Result<X> {
        let parameters = parameters.into();
        let beta = parameters.beta;
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
            (Self::DroV | Self::DroConstant, Inputs::Single { response, baseline }) => {
                dro::dro_v(response, baseline, beta)
            }
            (Self::DroFixed, Inputs::Single { response, baseline }) => {
                dro::dro_v(response, &baseline.detach()?, beta)
            }
            (Self::DroAlgorithm1, Inputs::Single { response, baseline }) => {
                dro::dro_algorithm_1(response, baseline, beta, 1.0)
            }
            (Self::DroAlgorithm1Corrected, Inputs::Single { response, baseline }) => {
                dro::dro_algorithm_1(response, baseline, beta, beta)
            }
            (Self::DroVEliminated, Inputs::Group { responses, groups }) => {
                dro::dro_v_eliminated(responses, groups, beta)
            }
            (
                Self::Kto | Self::KtoPerPrompt | Self::KtoNoKl,
                Inputs::Rated {
                    response,
                    desirable,
                    anchor,
                },
            ) => kto::kto(response, desirable, anchor, beta, [1.0, 1.0]),
            (Self::Copr, Inputs::Group { responses, groups }) => {
                copr::copr(responses, groups, beta)
            }
            (Self::CoprForward, Inputs::Group { responses, groups }) => {
                copr::copr_forward(responses, groups, beta, false)
            }
            (Self::CoprForwardMean, Inputs::Group { responses, groups }) => {
                copr::copr_forward(responses, groups, beta, true)
            }
            (Self::CoprSft, Inputs::Group { responses, groups }) => {
                copr::copr_sft(responses, groups, beta)
            }
            (Self::Sft, Inputs::Group { responses, groups }) => copr::sft(responses, groups),
            (
                Self::AdvantageModel | Self::AdvantageModelDistinct | Self::AdvantageModelCentred,
                Inputs::Pair { first, second },
            ) => {
                let margin = parameters.needed_margin()?;
                advantage::advantage_model(&first.log_policy, &second.log_policy, margin)
            }
            _ => Err(Error::Inputs {
                objective: self.name(),
                expected: self.spec().inputs.name(),
                found: inputs.kind(),
            }),
        }
    }
}
