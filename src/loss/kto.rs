//! Kahneman–Tversky optimisation (KTO), DRO's baseline.

use super::{InputKind, Inputs, Kind, Loss, Rated, Rating, Spec};
use crate::backend::Backend;
use crate::error::Result;

crate::numbers! {
    /// Numbers of KTO.
    pub struct Weighted {
        /// β, the temperature of the KL penalty
        beta in above(0.0) = 0.1;
        /// Weight of KTO's desirable examples
        desirable_weight in above(0.0) = 1.0;
        /// Weight of KTO's undesirable examples
        undesirable_weight in above(0.0) = 1.0;
    }
}

/// KTO on rated responses: with `s = σ(β(u − z₀))`,
///
/// `λ_D (1 − s)` for a desirable response, `λ_U s` for an undesirable one
///
/// * Shapes: `[B]` each, returns `[B]`. `desirable` is 1 or 0 (or a probability between);
///   `anchor` is z₀, an estimate of KL(π‖π_ref) not below 0, shared by the batch.
/// * Detached: z₀.
/// * Numbers: β, and the weights λ_D and λ_U, both 1 unless given.
/// * Source: Ethayarajh et al. 2024; DRO, section 4.1 (baseline).
/// * Fixed point: undesirable arms lose all probability; on the others `μ s(1 − s)/π` is constant.
///   It does not depend on the size of rewards: [`solve::kto`](crate::solve::kto).
pub struct Kto {
    name: &'static str,
    aliases: &'static [&'static str],
    formula: &'static str,
    source: &'static str,
    fixed_point: &'static str,
    rating: Rating,
}

impl Kto {
    /// One threshold for all prompts.
    pub const POOLED: Self = Self {
        name: "kto",
        aliases: &[],
        formula: "λ_D(1 − σ(β(u − z₀))) or λ_U σ(β(u − z₀))",
        source: "Ethayarajh et al. 2024; DRO, section 4.1",
        fixed_point: "undesirable arms at 0, blind to the size of rewards",
        rating: Rating {
            per_prompt: false,
            kl: true,
        },
    };
    /// A threshold per prompt.
    pub const PER_PROMPT: Self = Self {
        name: "kto-per-prompt",
        formula: "kto, desirable above the mean reward of the prompt",
        source: "DRO, section 4.1 (variant)",
        fixed_point: "as kto",
        rating: Rating {
            per_prompt: true,
            kl: true,
        },
        ..Self::POOLED
    };
    /// z₀ = 0.
    pub const NO_KL: Self = Self {
        name: "kto-no-kl",
        aliases: &["apo-zero-unpaired"],
        formula: "kto with z₀ = 0",
        source: "DRO, section 4.1 (variant)",
        fixed_point: "as kto",
        rating: Rating {
            per_prompt: false,
            kl: false,
        },
    };
}

impl Loss for Kto {
    type Numbers = Weighted;

    fn spec(&self) -> Spec {
        let labels = "the labels of the data say what is desirable";
        Spec {
            aliases: self.aliases,
            formula: self.formula,
            kind: Kind::Boundary,
            source: self.source,
            fixed_point: self.fixed_point,
            rating: self.rating,
            bandits_only: self.rating.per_prompt.then_some(labels),
            ..Spec::new(self.name, InputKind::Rated)
        }
    }

    fn loss<X: Backend>(&self, n: &Weighted, inputs: &Inputs<X>) -> Result<X> {
        let Rated {
            response,
            desirable,
            anchor,
        } = inputs.rated()?;
        let x = (response.log_ratio()?.sub(&anchor.detach()?)?).affine(n.beta, 0.0)?;
        let lost = desirable
            .mul(&x.neg()?.sigmoid()?)?
            .affine(n.desirable_weight, 0.0)?;
        let kept = (desirable.affine(-1.0, 1.0)?)
            .mul(&x.sigmoid()?)?
            .affine(n.undesirable_weight, 0.0)?;
        lost.add(&kept)
    }
}
