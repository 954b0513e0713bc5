//! Rank responses to align with human feedback (RRHF): probabilities in the order of the ranking.

use std::rc::Rc;

use super::copr::best;
use super::{Group, InputKind, Inputs, Kind, Loss, Response, Spec};
use crate::backend::{Backend, Segments};
use crate::error::Result;

crate::numbers! {
    /// Numbers of RRHF.
    pub struct Ranked {
        /// Weight of the likelihood of the best response
        sft_weight in from(0.0) = 1.0;
    }
}

/// RRHF on ranked lists:
///
/// `Σ_{i<j} max(0, p_i − p_j) − w ln π(y_J)`, responses from worst to best, `p = ln π(y)/|y|`
///
/// * Shapes: `[N]` responses in B lists, returns `[B]`. |y| counts tokens, on a bandit 1: p is the mean of a response's
///   tokens, the likelihood their sum, as in the paper. Trained on text with `token_reduction = mean` it is the mean there
///   too, as in the code. Detached: nothing. Where two
///   responses are equally likely their hinge has slope 0, as in the code.
/// * Source: Yuan et al. 2023, eq. 2 to 4, with a weight on the last; code: `GanjinZero/RRHF`.
/// * Fixed point: all probability on the best response. Without the likelihood every policy in the order of the ranking
///   is one, a cone of logits: [`solve::ranking`](crate::solve::ranking).
pub struct Rrhf;

impl Loss for Rrhf {
    type Numbers = Ranked;

    fn spec(&self) -> Spec {
        Spec {
            formula: "Σ max(0, p_worse − p_better) − w ln π(best), p = ln π/|y|",
            kind: Kind::Kinked,
            source: "Yuan et al. 2023, eq. 2 to 4",
            fixed_point: "the best arm; without likelihood, π in the order of the ranking",
            ..Spec::new("rrhf", InputKind::Lists)
        }
    }

    fn loss<X: Backend>(&self, n: &Ranked, inputs: &Inputs<X>) -> Result<X> {
        let Group { responses, groups } = inputs.group()?;
        let p = per_token(responses)?;
        let pairs = Pairs::of(groups)?;
        let gap = p.select(&pairs.worse)?.sub(&p.select(&pairs.better)?)?;
        let ranking = gap.relu()?.segment_sum(&pairs.lists)?;
        ranking.sub(&best(responses, groups)?.affine(n.sft_weight, 0.0)?)
    }
}

/// The mean over a response's tokens of their log-probabilities.
pub(super) fn per_token<X: Backend>(responses: &Response<X>) -> Result<X> {
    responses.log_policy().div(responses.tokens()?)
}

/// Every pair of a list once.
struct Pairs {
    worse: Vec<u32>,
    better: Vec<u32>,
    /// Which pairs are a list's.
    lists: Rc<Segments>,
}

impl Pairs {
    fn of(groups: &Segments) -> Result<Self> {
        let (mut worse, mut better, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        for g in 0..groups.groups() {
            let range = groups.range(g);
            let before = worse.len();
            for j in range.clone() {
                for i in range.start..j {
                    worse.push(i as u32);
                    better.push(j as u32);
                }
            }
            if groups.size(g) == 1 {
                // A list of one has no pair; one with itself is 0 and has no slope.
                worse.push(range.start as u32);
                better.push(range.start as u32);
            }
            sizes.push(worse.len() - before);
        }
        Ok(Self {
            worse,
            better,
            lists: Rc::new(Segments::new(&sizes)?),
        })
    }
}
