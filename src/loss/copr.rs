//! Continual optimal policy regularisation (COPR): fits the distribution that a ranking implies.

use std::rc::Rc;

use super::{Group, InputKind, Inputs, Loss, Response, Spec, Temperature};
use crate::backend::{Backend, Segments};
use crate::error::Result;

/// The fit of COPR's eq. 7 on ranked lists, `KL(P_θ‖P*)`:
///
/// `Σ_j P_θ(y_j) ln [P_θ(y_j)/P*(y_j)]`, with `P_θ ∝ π` and `P* ∝ π_ref e^{A/β}` on the list
///
/// * Shapes: `[N]` responses in B lists, returns `[B]`. The reward of a response is its advantage
///   A in the list ([`solve::copr::linear_advantage`](crate::solve::copr)); the reference is the
///   policy before the task. Detached: nothing.
/// * Source: COPR, eq. 5 to 7.
/// * Fixed point: reached from the reference, `π ∝ π_ref e^{1_Y A/β}`; the probability off the list
///   is set by the start, [`solve::copr`](crate::solve::copr).
pub struct Copr;

impl Loss for Copr {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "KL(P_θ‖P*) on the list",
            source: "COPR, eq. 7",
            fixed_point: "π_ref e^{A/β} on the list, from the reference",
            ..Spec::new("copr", InputKind::Lists)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let lists = inputs.group()?;
        let (policy, target) = distributions(lists, n.beta)?;
        divergence(&policy, &target, &lists.groups)
    }
}

/// The fit as COPR's code snippet computes it, `KL(P*‖P_θ)` (PyTorch's `kl_div` takes the target
/// second), summed over the list, or, as its default reduction has it, the mean:
///
/// `Σ_j P*(y_j) ln [P*(y_j)/P_θ(y_j)]`, over J for the mean
///
/// * Shapes: as [`Copr`]. Detached: nothing.
/// * Source: COPR, section 3.2.1 (code); PyTorch's documentation of `kl_div`.
/// * Fixed point: that of [`Copr`] for one list a prompt; where lists conflict this one mixes
///   distributions arithmetically, the other geometrically.
pub struct Forward {
    name: &'static str,
    formula: &'static str,
    source: &'static str,
    mean: bool,
}

impl Forward {
    /// The sum over the list.
    pub const SUM: Self = Self {
        name: "copr-forward",
        formula: "KL(P*‖P_θ) on the list",
        source: "COPR, section 3.2.1 (code), summed",
        mean: false,
    };
    /// The mean over the list.
    pub const MEAN: Self = Self {
        name: "copr-forward-mean",
        formula: "KL(P*‖P_θ)/J on the list",
        source: "COPR, section 3.2.1 (code), PyTorch's mean",
        mean: true,
    };
}

impl Loss for Forward {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: self.formula,
            source: self.source,
            fixed_point: "that of copr",
            ..Spec::new(self.name, InputKind::Lists)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let lists = inputs.group()?;
        let (policy, target) = distributions(lists, n.beta)?;
        let sum = divergence(&target, &policy, &lists.groups)?;
        if !self.mean {
            return Ok(sum);
        }
        let each: Vec<f64> = (0..lists.groups.groups())
            .map(|g| 1.0 / lists.groups.size(g) as f64)
            .collect();
        sum.mul(&sum.constant(&each)?)
    }
}

/// The likelihood of the best response, negated:
///
/// `−ln π(y_J)`
///
/// * Shapes: `[N]` responses in B lists from worst to best, returns `[B]`. Detached: nothing.
/// * Source: COPR, appendix A.2 (supervised fine-tuning on the top-ranked response).
/// * Fixed point: all probability on the best response.
pub struct Sft;

impl Loss for Sft {
    type Numbers = ();

    fn spec(&self) -> Spec {
        Spec {
            formula: "−ln π(best)",
            source: "COPR, appendix A.2",
            fixed_point: "the best arm",
            best_only: true,
            per_token: true,
            ..Spec::new("sft", InputKind::Lists)
        }
    }

    fn loss<X: Backend>(&self, (): &(), inputs: &Inputs<X>) -> Result<X> {
        let Group { responses, groups } = inputs.group()?;
        best(responses, groups)?.neg()
    }
}

/// ln π of each list's best response, `[B]`.
pub(super) fn best<X: Backend>(responses: &Response<X>, lists: &Rc<Segments>) -> Result<X> {
    let mut best = vec![0.0; lists.members()];
    (0..lists.groups()).for_each(|g| best[lists.range(g).end - 1] = 1.0);
    let log_policy = responses.log_policy();
    let picked = log_policy.mul(&log_policy.constant(&best)?)?;
    picked.segment_sum(lists)
}

/// COPR's fit with its likelihood term: [`Copr`] + [`Sft`].
///
/// * Fixed point: with every arm ranked, `π ∝ P*` off the best arm, which gets more than P* gives
///   it; with a partial list the list gets all probability, [`solve::copr`](crate::solve::copr).
pub struct CoprSft;

impl Loss for CoprSft {
    type Numbers = Temperature;

    fn spec(&self) -> Spec {
        Spec {
            formula: "KL(P_θ‖P*) − ln π(best)",
            source: "COPR, eq. 7 and appendix A.2",
            fixed_point: "more than P* on the best arm, none off the list",
            ..Spec::new("copr-sft", InputKind::Lists)
        }
    }

    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        Copr.loss(n, inputs)?.add(&Sft.loss(&(), inputs)?)
    }
}

/// ln P_θ and ln P*.
fn distributions<X: Backend>(lists: &Group<X>, beta: f64) -> Result<(X, X)> {
    let Group { responses, groups } = lists;
    let tilted = (responses.log_reference()?).add(&responses.reward()?.affine(1.0 / beta, 0.0)?)?;
    Ok((
        responses.log_policy().log_softmax(groups)?,
        tilted.log_softmax(groups)?,
    ))
}

/// `KL(p‖q)` per list, from ln p and ln q.
fn divergence<X: Backend>(p: &X, q: &X, lists: &Rc<Segments>) -> Result<X> {
    p.exp()?.mul(&p.sub(q)?)?.segment_sum(lists)
}
