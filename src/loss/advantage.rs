//! The Advantage Model (AM).

use super::{InputKind, Inputs, Loss, Spec, Table};
use crate::backend::Backend;
use crate::error::Result;

crate::numbers! {
    /// Numbers of the Advantage Model.
    pub struct Bounds {
        /// m, the margin of the Advantage Model that every score keeps within
        margin in above(0.0);
    }
}

/// The Advantage Model's loss: ranking, and a margin that both scores keep within:
///
/// `−ln σ(a⁺ − a⁻) − ln σ(m − a⁺) − ln σ(m + a⁻)`
///
/// * Shapes: scores `[B]` of the preferred and of the rejected response, returns `[B]`. m > 0.
/// * Detached: nothing. Finite for every finite score.
/// * Source: Advantage Model, eq. 6.
/// * Fixed point: strictly convex, so unique; |a| < m, gaps shrunk against those of the rewards.
///   Pairs of a response with itself matter. [`solve::advantage`](crate::solve::advantage).
pub struct AdvantageModel {
    name: &'static str,
    formula: &'static str,
    source: &'static str,
    fixed_point: &'static str,
    table: Table,
    self_pairs: bool,
}

impl AdvantageModel {
    /// Of all pairs.
    pub const SELF_PAIRS: Self = Self {
        name: "advantage-model",
        formula: "−ln σ(a⁺ − a⁻) − ln σ(m − a⁺) − ln σ(m + a⁻)",
        source: "Advantage Model, eq. 6",
        fixed_point: "unique, |a| < m, gaps shrunk",
        table: Table::Scores,
        self_pairs: true,
    };
    /// Without pairs of a response with itself.
    pub const DISTINCT: Self = Self {
        name: "advantage-model-distinct",
        formula: "advantage-model without self pairs",
        self_pairs: false,
        ..Self::SELF_PAIRS
    };
    /// Of scores with mean zero under a given policy.
    pub const CENTRED: Self = Self {
        name: "advantage-model-centred",
        formula: "advantage-model of a − E_φ[a]",
        source: "Advantage Model, eq. 5 and 6",
        fixed_point: "unique; |a| < m can fail",
        table: Table::CentredScores,
        ..Self::SELF_PAIRS
    };
}

impl Loss for AdvantageModel {
    type Numbers = Bounds;

    fn spec(&self) -> Spec {
        let all = "it takes expectations over all responses";
        Spec {
            formula: self.formula,
            source: self.source,
            fixed_point: self.fixed_point,
            table: self.table,
            self_pairs: self.self_pairs,
            bandits_only: self.self_pairs.then_some(all),
            ..Spec::new(self.name, InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Bounds, inputs: &Inputs<X>) -> Result<X> {
        let pair = inputs.pair()?;
        let (preferred, rejected) = (pair.first.log_policy(), pair.second.log_policy());
        let ranking = rejected.sub(preferred)?.softplus()?;
        let above = preferred.affine(1.0, -n.margin)?.softplus()?;
        let below = rejected.affine(-1.0, -n.margin)?.softplus()?;
        ranking.add(&above)?.add(&below)
    }
}
