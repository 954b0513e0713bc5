//! Continual optimal policy regularisation (COPR): fits the distribution that a ranking implies.

use std::rc::Rc;

use super::Response;
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
pub fn copr<X: Backend>(responses: &Response<X>, lists: &Rc<Segments>, beta: f64) -> Result<X> {
    let (policy, target) = distributions(responses, lists, beta)?;
    divergence(&policy, &target, lists)
}

/// The fit as COPR's code snippet computes it, `KL(P*‖P_θ)` (PyTorch's `kl_div` takes the target
/// second), summed over the list, or, as its default reduction has it, the mean:
///
/// `Σ_j P*(y_j) ln [P*(y_j)/P_θ(y_j)]`, over J if `mean`
///
/// * Shapes: as [`copr`]. Detached: nothing.
/// * Source: COPR, section 3.2.1 (code); PyTorch's documentation of `kl_div`.
/// * Fixed point: that of [`copr`] for one list a prompt; where lists conflict this one mixes
///   distributions arithmetically, the other geometrically.
pub fn copr_forward<X: Backend>(
    responses: &Response<X>,
    lists: &Rc<Segments>,
    beta: f64,
    mean: bool,
) -> Result<X> {
    let (policy, target) = distributions(responses, lists, beta)?;
    let sum = divergence(&target, &policy, lists)?;
    if !mean {
        return Ok(sum);
    }
    let each: Vec<f64> = (0..lists.groups())
        .map(|g| 1.0 / lists.size(g) as f64)
        .collect();
    sum.mul(&sum.constant(&each)?)
}

/// The likelihood of the best response, negated:
///
/// `−ln π(y_J)`
///
/// * Shapes: `[N]` responses in B lists from worst to best, returns `[B]`. Detached: nothing.
/// * Source: COPR, appendix A.2 (supervised fine-tuning on the top-ranked response).
/// * Fixed point: all probability on the best response.
pub fn sft<X: Backend>(responses: &Response<X>, lists: &Rc<Segments>) -> Result<X> {
    let mut best = vec![0.0; lists.members()];
    (0..lists.groups()).for_each(|g| best[lists.range(g).end - 1] = 1.0);
    let picked = (responses.log_policy).mul(&responses.log_policy.constant(&best)?)?;
    picked.segment_sum(lists)?.neg()
}

/// COPR's fit with its likelihood term: [`copr`] + [`sft`].
///
/// * Fixed point: with every arm ranked, `π ∝ P*` off the best arm, which gets more than P* gives
///   it; with a partial list the list gets all probability, [`solve::copr`](crate::solve::copr).
pub fn copr_sft<X: Backend>(responses: &Response<X>, lists: &Rc<Segments>, beta: f64) -> Result<X> {
    copr(responses, lists, beta)?.add(&sft(responses, lists)?)
}

/// ln P_θ and ln P*.
fn distributions<X: Backend>(
    responses: &Response<X>,
    lists: &Rc<Segments>,
    beta: f64,
) -> Result<(X, X)> {
    let tilted = (responses.log_reference).add(&responses.reward.affine(1.0 / beta, 0.0)?)?;
    Ok((
        responses.log_policy.log_softmax(lists)?,
        tilted.log_softmax(lists)?,
    ))
}

/// `KL(p‖q)` per list, from ln p and ln q.
fn divergence<X: Backend>(p: &X, q: &X, lists: &Rc<Segments>) -> Result<X> {
    p.exp()?.mul(&p.sub(q)?)?.segment_sum(lists)
}
