//! Entries of the registry: name, formula, inputs, kind, source and fixed point of each objective.

use super::Objective;

/// Kind of examples that an objective takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputKind {
    /// Pairs with rewards; no labels.
    ScoredPairs,
    /// Pairs with a label that says which is preferred.
    LabelledPairs,
    /// Single responses with rewards.
    Singles,
    /// Groups of responses with rewards.
    Groups,
    /// Single responses that are desirable or not.
    Rated,
    /// Ranked lists of responses.
    Lists,
}

/// Meaning of a table, the trained numbers of a tabular model: one number per prompt and arm (response).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Table {
    /// Logits of a policy.
    Logits,
    /// Scores (a reward model).
    Scores,
    /// Scores of which the mean under a given policy is subtracted (an advantage).
    CentredScores,
}

impl InputKind {
    /// Name of the kind, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScoredPairs => "scored pairs",
            Self::LabelledPairs => "labelled pairs",
            Self::Singles => "single responses",
            Self::Groups => "groups of responses",
            Self::Rated => "rated responses",
            Self::Lists => "ranked lists",
        }
    }
}

/// Kind of function that an objective is, which decides how it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A smooth loss.
    Smooth,
    /// A piecewise linear loss, whose optimum lies on kinks.
    Kinked,
    /// An update field; the loss value means nothing.
    Field,
    /// A batch-coupled loss whose optimum lies on the boundary of the simplex.
    Boundary,
}

impl Kind {
    /// Name of the kind, in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smooth => "smooth",
            Self::Kinked => "kinked",
            Self::Field => "field",
            Self::Boundary => "boundary",
        }
    }
}

/// Entry of an objective in the registry.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Its name on the command line and in files.
    pub name: &'static str,
    /// Per-example loss.
    pub formula: &'static str,
    /// Kind of examples that it takes.
    pub inputs: InputKind,
    /// Kind of function that it is.
    pub kind: Kind,
    /// The publication, with equation or section.
    pub source: &'static str,
    /// Limit of its population form, in words.
    pub fixed_point: &'static str,
}

impl Objective {
    /// Its entry.
    pub fn spec(self) -> Spec {
        use InputKind::{Groups, LabelledPairs, Lists, Rated, ScoredPairs, Singles};
        use Kind::{Boundary, Field, Kinked, Smooth};
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
                "π* if the behaviour distribution covers the reference",
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
                "π* if the behaviour distributions cover the reference",
            ),
            Self::DroV => spec(
                "dro-v",
                "½(R − V − βu)²",
                Singles,
                Smooth,
                "DRO, eq. 4",
                "π* and V* if the behaviour distributions cover the reference",
            ),
            Self::DroVEliminated => spec(
                "dro-v-eliminated",
                "½ variance of R_β over a group",
                Groups,
                Smooth,
                "DRO, section 3.2",
                "π* if the behaviour distributions cover the reference",
            ),
            Self::DroFixed => spec(
                "dro-fixed",
                "½(R − ⟦V⟧ − βu)²",
                Singles,
                Smooth,
                "DRO, eq. 5",
                "pg with b = V: π* only if V = V*",
            ),
            Self::DroConstant => spec(
                "dro-constant",
                "½(R − c − βu)², one c",
                Singles,
                Smooth,
                "DRO, section 3.2",
                "π* if V* is the same for all prompts",
            ),
            Self::DroAlgorithm1 => spec(
                "dro-algorithm-1",
                "−⟦R − V⟧ ln π + ½u² + ½(⟦R_β⟧ − V)²",
                Singles,
                Field,
                "DRO, Algorithm 1 as printed",
                "π* only if β = 1; none attracting in general for β > 1",
            ),
            Self::DroAlgorithm1Corrected => spec(
                "dro-algorithm-1-corrected",
                "−⟦R − V⟧ ln π + ½βu² + ½(⟦R_β⟧ − V)²",
                Singles,
                Field,
                "DRO, eq. 7 and 8",
                "π* and V* if the behaviour distributions cover the reference",
            ),
            Self::Kto => spec(
                "kto",
                "λ_D(1 − σ(β(u − z₀))) or λ_U σ(β(u − z₀))",
                Rated,
                Boundary,
                "Ethayarajh et al. 2024; DRO, section 4.1",
                "undesirable arms at 0, blind to the size of rewards",
            ),
            Self::KtoPerPrompt => spec(
                "kto-per-prompt",
                "kto, desirable above the mean reward of the prompt",
                Rated,
                Boundary,
                "DRO, section 4.1 (variant)",
                "as kto",
            ),
            Self::KtoNoKl => spec(
                "kto-no-kl",
                "kto with z₀ = 0",
                Rated,
                Boundary,
                "DRO, section 4.1 (variant)",
                "as kto",
            ),
            Self::Copr => spec(
                "copr",
                "KL(P_θ‖P*) on the list",
                Lists,
                Smooth,
                "COPR, eq. 7",
                "π_ref e^{A/β} on the list, from the reference",
            ),
            Self::CoprForward => spec(
                "copr-forward",
                "KL(P*‖P_θ) on the list",
                Lists,
                Smooth,
                "COPR, section 3.2.1 (code), summed",
                "that of copr",
            ),
            Self::CoprForwardMean => spec(
                "copr-forward-mean",
                "KL(P*‖P_θ)/J on the list",
                Lists,
                Smooth,
                "COPR, section 3.2.1 (code), PyTorch's mean",
                "that of copr",
            ),
            Self::CoprSft => spec(
                "copr-sft",
                "KL(P_θ‖P*) − ln π(best)",
                Lists,
                Smooth,
                "COPR, eq. 7 and appendix A.2",
                "more than P* on the best arm, none off the list",
            ),
            Self::Sft => spec(
                "sft",
                "−ln π(best)",
                Lists,
                Smooth,
                "COPR, appendix A.2",
                "the best arm",
            ),
            Self::AdvantageModel => spec(
                "advantage-model",
                "−ln σ(a⁺ − a⁻) − ln σ(m − a⁺) − ln σ(m + a⁻)",
                LabelledPairs,
                Smooth,
                "Advantage Model, eq. 6",
                "unique, |a| < m, gaps shrunk",
            ),
            Self::AdvantageModelDistinct => spec(
                "advantage-model-distinct",
                "advantage-model without self pairs",
                LabelledPairs,
                Smooth,
                "Advantage Model, eq. 6",
                "unique, |a| < m, gaps shrunk",
            ),
            Self::AdvantageModelCentred => spec(
                "advantage-model-centred",
                "advantage-model of a − E_φ[a]",
                LabelledPairs,
                Smooth,
                "Advantage Model, eq. 5 and 6",
                "unique; |a| < m can fail",
            ),
        }
    }
}
