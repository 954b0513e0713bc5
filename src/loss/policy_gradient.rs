//! Policy gradient with a baseline, applied to responses of any law.

use super::{Baseline, InputKind, Inputs, Kind, Loss, Single, Spec, Temperature};
use crate::backend::Backend;
use crate::error::Result;

/// A surrogate whose gradient is the negated policy-gradient update:
///
/// `−⟦R_β(y) − b⟧ ln π(y)`, with ⟦·⟧ detached
///
/// * Shapes: `[B]` each, returns `[B]`. Its value means nothing; its gradient is the field.
/// * Detached: the whole weight, the baseline included.
/// * Source: CoPG, section 5 (∇ℓ_PG sums this over both responses of a pair).
/// * Fixed point: depends on the baseline. π* for `b = E_ν[R_β]` under any law ν, π included,
///   when μ₁ + μ₂ covers π_ref; elsewhere for `b = 0` and for `b = E_π[R]`:
///   [`solve::policy_gradient`](mod@crate::solve::policy_gradient).
pub struct PolicyGradient {
    name: &'static str,
    formula: &'static str,
    source: &'static str,
    fixed_point: &'static str,
    baseline: Baseline,
}

/// The reason why a baseline that is an expectation is not one on text.
const EXPECTATION: &str = "its baseline is an expectation under the policy";

impl PolicyGradient {
    /// b = 0.
    pub const ZERO: Self = Self {
        name: "pg-zero",
        formula: "−⟦R_β(y)⟧ ln π(y)",
        source: "CoPG, section 5",
        fixed_point: "π = (mβ/S)·W(S π_ref e^{R/β}/mβ), biased",
        baseline: Baseline::Given(0.0),
    };
    /// b = E_π\[R\].
    pub const VALUE: Self = Self {
        name: "pg-value",
        formula: "−⟦R_β(y) − E_π[R]⟧ ln π(y)",
        source: "CoPG, section 5",
        fixed_point: "biased; may have several attractors",
        baseline: Baseline::Value,
    };
    /// b = E_π\[R_β\].
    pub const SOFT_VALUE: Self = Self {
        name: "pg-soft-value",
        formula: "−⟦R_β(y) − E_π[R_β]⟧ ln π(y)",
        source: "CoPG, section 2",
        fixed_point: "π* if the behaviour distributions cover the reference",
        baseline: Baseline::SoftValue,
    };
}

impl Loss for PolicyGradient {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        let given = matches!(self.baseline, Baseline::Given(_));
        Spec {
            formula: self.formula,
            kind: Kind::Field,
            source: self.source,
            fixed_point: self.fixed_point,
            bandits_only: if given { None } else { Some(EXPECTATION) },
            ..Spec::new(self.name, InputKind::Singles)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        surrogate(inputs.single()?, n.beta)
    }

    fn baseline(&self, _: &Temperature) -> Option<Baseline> {
        Some(self.baseline.clone())
    }
}

crate::numbers! {
    /// Numbers of the policy gradient with a given baseline.
    pub struct WithBaseline {
        /// β, the temperature of the KL penalty
        beta in above(0.0) = 0.1;
        /// b, the baseline: a number, such as the mean reward
        baseline in any();
    }
}

/// [`PolicyGradient`] with a given number as its baseline, the same for every prompt.
///
/// * Source: Williams 1992; CoPG, section 5.
/// * Fixed point: as that of b = 0 with rewards R − b.
pub struct GivenBaseline;

impl Loss for GivenBaseline {
    type Numbers = WithBaseline;

    fn spec(&self) -> Spec {
        Spec {
            formula: "−⟦R_β(y) − b⟧ ln π(y)",
            kind: Kind::Field,
            source: "CoPG, section 5",
            fixed_point: "that of pg-zero with rewards R − b, biased",
            ..Spec::new("pg", InputKind::Singles)
        }
    }

    fn loss<X: Backend>(&self, n: &WithBaseline, inputs: &Inputs<X>) -> Result<X> {
        surrogate(inputs.single()?, n.beta)
    }

    fn baseline(&self, n: &WithBaseline) -> Option<Baseline> {
        Some(Baseline::Given(n.baseline))
    }
}

fn surrogate<X: Backend>(single: &Single<X>, beta: f64) -> Result<X> {
    let regularised = single.response.regularised_reward(beta)?;
    let weight = regularised.sub(&single.baseline)?.detach()?;
    weight.mul(single.response.log_policy())?.neg()
}
