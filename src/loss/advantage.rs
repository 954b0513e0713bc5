//! The Advantage Model (AM).

use super::{Group, InputKind, Inputs, Loss, Spec, Table};
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
            on_text: (self.name == Self::SELF_PAIRS.name).then_some(Sampled::NAME),
            ..Spec::new(self.name, InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Bounds, inputs: &Inputs<X>) -> Result<X> {
        let pair = inputs.pair()?;
        bounded(n.margin, pair.first.log_policy(), pair.second.log_policy())
    }
}

/// Eq. 6 of the scores of a preferred and a rejected response.
fn bounded<X: Backend>(margin: f64, preferred: &X, rejected: &X) -> Result<X> {
    let ranking = rejected.sub(preferred)?.softplus()?;
    let above = preferred.affine(1.0, -margin)?.softplus()?;
    let below = rejected.affine(-1.0, -margin)?.softplus()?;
    ranking.add(&above)?.add(&below)
}

crate::numbers! {
    /// Numbers of [`Sampled`].
    pub struct Expectation {
        /// m, the margin of the Advantage Model that every score keeps within
        margin in above(0.0) = 2.5;
        /// N − K, how often π_φ's e counts in the mean that is taken off, where each of K proposals counts once; inf leaves the
        /// proposals to the regression of e
        policy_weight in from_to_infinity(0.0) = 1.0;
        /// Weight of the squared errors of e beside eq. 6
        expected_coefficient in from(0.0) = 1.0;
        /// Share of the gradient of the mean that is taken off which passes to the proposals' scores
        through_scores in share() = 1.0;
        /// Share of eq. 6's gradient that passes to e
        through_expected in share() = 0.0;
        /// The most that a proposal's ratio π_φ/π′ counts for; inf is no bound
        ratio_cap in from_to_infinity(1.0) = f64::INFINITY;
    }
}

/// The Advantage Model with its expectation sampled and learned: eq. 6 of the scores of eq. 8, and the regression of e:
///
/// `−ln σ(a⁺ − a⁻) − ln σ(m − a⁺) − ln σ(m + a⁻) + c/2K Σₖ ρₖ (e − ⟦r(yₖ)⟧)²`, where
/// `a(y) = r(y) − (N−K)/N e − 1/N Σₖ ρₖ r(yₖ)`, `ρₖ = π_φ(yₖ)/π′ₖ(yₖ)` and yₖ is drawn from π′ₖ
///
/// * Shapes: r of the preferred and of the rejected response and e of the prompt `[B]`; r, ln π_φ and ln π′ of proposals
///   `[ΣK]` in B groups of one or more; returns `[B]`. `policy_weight` is N − K. m > 0.
/// * Detached: the target of e, so that the regression does not flatten r. π_φ is a given policy, so ρ has no gradient.
///   Of the mean M that a takes off, the value is that of eq. 8, and the gradient is `through_scores` times that of
///   `1/K Σₖ ρₖ r(yₖ)`, whatever N: e stands for a mean of r, so what it stands for moves with r. `through_scores` = K/N
///   is eq. 8 with e held; then a prompt's level has no place to rest, and r and e drift. `through_expected` adds the
///   slope by e itself, which moves e off E_φ\[r\].
/// * Errors: pairs without proposals. Not finite where a ratio is not.
/// * Source: Advantage Model, eq. 6 to 8; the printed sum reads the scored y where it says yₖ. How e is trained is not
///   printed: the regression is that of eq. 7, reweighted to π_φ.
/// * Fixed point, of proposals that are everything there is: e = E_φ\[r\] and r − e that of
///   [`AdvantageModel::CENTRED`]; the level of r is free.
pub struct Sampled;

impl Sampled {
    const NAME: &'static str = "advantage-model-sampled";
}

impl Loss for Sampled {
    type Numbers = Expectation;

    fn spec(&self) -> Spec {
        Spec {
            formula: "advantage-model of r − (N−K)/N e − 1/N Σ ρr(yₖ) + c/2K Σ ρ(e − ⟦r(yₖ)⟧)²",
            source: "Advantage Model, eq. 6 to 8",
            fixed_point: "e = E_φ[r], r − e that of advantage-model-centred",
            table: Table::CentredScores,
            self_pairs: false,
            text_only: Some(
                "its expectation is a head of a network's: on a bandit, where it is exact, it is \
                 advantage-model-centred",
            ),
            ..Spec::new(Self::NAME, InputKind::LabelledPairs)
        }
    }

    fn loss<X: Backend>(&self, n: &Expectation, inputs: &Inputs<X>) -> Result<X> {
        let pair = inputs.pair()?;
        let expected = pair.expected()?;
        let Group { responses, groups } = pair.proposals()?;
        let score = responses.log_policy();
        let mut ratio = responses
            .log_reference()?
            .sub(responses.log_old()?)?
            .exp()?;
        if n.ratio_cap.is_finite() {
            ratio = ratio.clamp(0.0, n.ratio_cap)?;
        }
        let sizes: Vec<f64> = (0..groups.groups())
            .map(|g| groups.size(g) as f64)
            .collect();
        let each = |of: &dyn Fn(f64) -> f64| -> Result<X> {
            let numbers: Vec<f64> = sizes.iter().map(|&k| of(k)).collect();
            expected.constant(&numbers)
        };
        // (N − K)/N, of which K/N is the rest: no difference of infinities.
        let of_policy = each(&|k| 1.0 / (1.0 + k / n.policy_weight))?;
        let of_proposals = each(&|k| 1.0 / (1.0 + n.policy_weight / k))?;
        let per_proposal = each(&|k| 1.0 / k)?;
        let proposed = ratio.mul(score)?.segment_sum(groups)?.mul(&per_proposal)?;
        let value = (expected.mul(&of_policy)?).add(&proposed.mul(&of_proposals)?)?;
        let mean = (value.detach()?)
            .add(&moving(&proposed)?.affine(n.through_scores, 0.0)?)?
            .add(&(moving(expected)?.mul(&of_policy)?).affine(n.through_expected, 0.0)?)?;
        let a = |score: &X| score.sub(&mean);
        let first = a(pair.first.log_policy())?;
        let second = a(pair.second.log_policy())?;
        let errors = expected.spread(groups)?.sub(&score.detach()?)?.square()?;
        let errors = ratio
            .mul(&errors)?
            .segment_sum(groups)?
            .mul(&per_proposal)?;
        bounded(n.margin, &first, &second)?.add(&errors.affine(0.5 * n.expected_coefficient, 0.0)?)
    }
}

/// 0, with the gradient of x.
fn moving<X: Backend>(x: &X) -> Result<X> {
    x.sub(&x.detach()?)
}
