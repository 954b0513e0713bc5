//! Direct reward optimisation (DRO): regression of a policy and a value on single responses.

use super::{Group, InputKind, Inputs, Kind, Loss, Single, Spec, Temperature, Value, sizes};
use crate::backend::Backend;
use crate::error::Result;

const COVERED: &str = "π* and V* if the behaviour distributions cover the reference";

/// DRO-V:
///
/// `½ (R − V − βu)²`
///
/// * Shapes: `[B]` each, returns `[B]`. Units: reward². β is the paper's τ.
/// * Detached: nothing; gradients reach the policy and the value. To keep V fixed, detach it.
/// * Source: DRO, eq. 4.
/// * Fixed point, jointly in (π, V): (π*, V*) when the law covers the support of π_ref
///   ([`solve::dro`](crate::solve::dro)). With V frozen at another number than V* the policy is
///   biased: it is that of a policy gradient with baseline V,
///   [`solve::policy_gradient`](mod@crate::solve::policy_gradient).
pub struct Regression {
    name: &'static str,
    formula: &'static str,
    source: &'static str,
    fixed_point: &'static str,
    value: Value,
}

/// The reason why a V of which there is no network is not one on text.
const NO_NETWORK: &str = "its V is not a network's";

impl Regression {
    /// V trained beside the policy (DRO-V).
    pub const TRAINED: Self = Self {
        name: "dro-v",
        formula: "½(R − V − βu)²",
        source: "DRO, eq. 4",
        fixed_point: COVERED,
        value: Value::Own,
    };
    /// V given and detached.
    pub const FIXED: Self = Self {
        name: "dro-fixed",
        formula: "½(R − ⟦V⟧ − βu)²",
        source: "DRO, eq. 5",
        fixed_point: "pg with b = V: π* only if V = V*",
        value: Value::Given,
    };
    /// One V for all prompts.
    pub const CONSTANT: Self = Self {
        name: "dro-constant",
        formula: "½(R − c − βu)², one c",
        source: "DRO, section 3.2",
        fixed_point: "π* if V* is the same for all prompts",
        value: Value::Constant,
    };
}

impl Loss for Regression {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        let trained = self.value == Value::Own;
        Spec {
            formula: self.formula,
            source: self.source,
            fixed_point: self.fixed_point,
            value: Some(self.value),
            bandits_only: if trained { None } else { Some(NO_NETWORK) },
            ..Spec::new(self.name, InputKind::Singles)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let Single { response, baseline } = inputs.single()?;
        // A given V is detached first.
        let regress = |value: &X| {
            (response.regularised_reward(n.beta)?.sub(value)?)
                .square()?
                .affine(0.5, 0.0)
        };
        match self.value {
            Value::Given => regress(&baseline.detach()?),
            _ => regress(baseline),
        }
    }
}

/// DRO with V at its best, `V^π = E_μ[R_β]`, which leaves half a variance; per group of k responses
/// its unbiased estimate
///
/// `Σ_j (R_β(y_j) − mean R_β)² / 2(k − 1)`
///
/// * Shapes: `[N]` responses in B groups of two or more, returns `[B]`. Detached: nothing.
/// * Errors: a group of one response, which has no variance.
/// * Source: DRO, section 3.2, V minimised out.
/// * Fixed point: π* when the law covers the support of π_ref. Its gradient is −β/2 times that of
///   CoPG's L with μ₁ = μ₂ = μ.
pub struct Eliminated;

impl Loss for Eliminated {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "½ variance of R_β over a group",
            source: "DRO, section 3.2",
            fixed_point: "π* if the behaviour distributions cover the reference",
            ..Spec::new("dro-v-eliminated", InputKind::Groups)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let Group { responses, groups } = inputs.group()?;
        let remedy = "a variance needs two or more responses to each prompt";
        let sizes = sizes("dro-v-eliminated", groups, remedy)?;
        let f = responses.regularised_reward(n.beta)?;
        let each: Vec<f64> = sizes.iter().map(|k| 1.0 / k).collect();
        let scale: Vec<f64> = sizes.iter().map(|k| 0.5 / (k - 1.0)).collect();
        let mean = f.segment_sum(groups)?.mul(&f.constant(&each)?)?;
        f.sub(&mean.spread(groups)?)?
            .square()?
            .segment_sum(groups)?
            .mul(&f.constant(&scale)?)
    }
}

/// DRO's Algorithm 1, whose policy and value updates are two halves of one surrogate:
///
/// `−⟦R − V⟧ ln π + (c/2) u² + ½ (⟦R_β⟧ − V)²`, with ⟦·⟧ detached
///
/// c is the coefficient of the squared log-ratio. Dividing the policy gradient of eq. 8 by β leaves
/// c = β; the algorithm prints c = 1.
///
/// * Shapes: `[B]` each, returns `[B]`. Its value means nothing.
/// * Source: DRO, eq. 7 and 8, Algorithm 1.
/// * Fixed point: (π*, V*) for c = β. As printed it is that only for β = 1: biased for β < 1,
///   in general not attracting for β > 1, [`solve::dro`](crate::solve::dro).
pub struct Algorithm1 {
    name: &'static str,
    formula: &'static str,
    source: &'static str,
    fixed_point: &'static str,
    /// c, or β where there is none.
    c: Option<f64>,
}

impl Algorithm1 {
    /// As printed, c = 1.
    pub const PRINTED: Self = Self {
        name: "dro-algorithm-1",
        formula: "−⟦R − V⟧ ln π + ½u² + ½(⟦R_β⟧ − V)²",
        source: "DRO, Algorithm 1 as printed",
        fixed_point: "π* only if β = 1; none attracting in general for β > 1",
        c: Some(1.0),
    };
    /// c = β, as the equations say.
    pub const CORRECTED: Self = Self {
        name: "dro-algorithm-1-corrected",
        formula: "−⟦R − V⟧ ln π + ½βu² + ½(⟦R_β⟧ − V)²",
        source: "DRO, eq. 7 and 8",
        fixed_point: COVERED,
        c: None,
    };
}

impl Loss for Algorithm1 {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: self.formula,
            kind: Kind::Field,
            source: self.source,
            fixed_point: self.fixed_point,
            value: Some(Value::Own),
            bandits_only: Some("it is studied on bandits only"),
            ..Spec::new(self.name, InputKind::Singles)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let Single { response, baseline } = inputs.single()?;
        let c = self.c.unwrap_or(n.beta);
        let advantage = response.reward()?.sub(baseline)?.detach()?;
        let gain = advantage.mul(response.log_policy())?;
        let penalty = response.log_ratio()?.square()?.affine(0.5 * c, 0.0)?;
        let target = response.regularised_reward(n.beta)?.detach()?;
        let fit = target.sub(baseline)?.square()?.affine(0.5, 0.0)?;
        penalty.sub(&gain)?.add(&fit)
    }
}
