//! Preference ranking optimisation (PRO): the best response against all others, then the second best against those
//! below it, and so on.

use std::rc::Rc;

use super::copr::best;
use super::rrhf::per_token;
use super::{Group, InputKind, Inputs, Loss, Spec};
use crate::backend::{Backend, Segments};
use crate::error::Result;

crate::numbers! {
    /// Numbers of PRO.
    pub struct Contrast {
        /// Factor of the advantages
        advantage_scale in above(0.0) = 1.0;
        /// Weight of the likelihood of the best response
        sft_weight in from(0.0) = 0.05;
    }
}

/// PRO on ranked lists:
///
/// `Σ_k [ln(e^{p_k T_k} + Σ_{i<k} e^{p_i T_ki}) − p_k T_k] − s (J − 1)² ln π(y_J)`, responses from worst to best, k from
/// the second up, `p = ln π(y)/|y|`, `T_ki = c (A_k − A_i)`, `T_k = max_i T_ki`
///
/// * Shapes: `[N]` responses in B lists, returns `[B]`. |y| counts tokens, on a bandit 1: p is the mean of a response's
///   tokens, the likelihood their sum. The reward of a response is its advantage A in the list, which the ranking sets
///   ([`solve::copr::linear_advantage`](crate::solve::copr::linear_advantage)); it rises along the list, so the largest
///   difference is that to the worst response. The authors have scores of a reward model for A, and c = 1. Detached: nothing.
/// * The paper divides p by temperatures that are the reciprocals of these differences, the code multiplies by the
///   differences: the same. The code's ε = 1e-10 within the logarithm is left out.
/// * Source: Song et al. 2023, eq. 5 to 8; code: `AlibabaResearch/DAMO-ConvAI`, `PRO`.
/// * Fixed point: all probability on the best response, on the way to which those below it vanish in order, each by a
///   power of the one above: [`solve::ranking`](crate::solve::ranking).
pub struct Pro;

impl Loss for Pro {
    type Numbers = Contrast;

    fn spec(&self) -> Spec {
        Spec {
            formula: "Σ_k [ln(e^{p_k T_k} + Σ_{worse} e^{p_i T_ki}) − p_k T_k] − s(J − 1)² ln π(best), p = ln π/|y|",
            source: "Song et al. 2023, eq. 5 to 8",
            fixed_point: "the best arm",
            ..Spec::new("pro", InputKind::Lists)
        }
    }

    fn loss<X: Backend>(&self, n: &Contrast, inputs: &Inputs<X>) -> Result<X> {
        let Group { responses, groups } = inputs.group()?;
        let contests = Contests::of(groups)?;
        let advantage = responses.reward()?;
        let above = advantage.select(&contests.winner)?;
        let temperature = above.sub(&advantage.select(&contests.against)?)?;
        let scaled = (per_token(responses)?.select(&contests.member)?)
            .mul(&temperature.affine(n.advantage_scale, 0.0)?)?;
        let won = scaled
            .log_softmax(&contests.each)?
            .select(&contests.first)?;
        let contrast = won.segment_sum(&contests.lists)?;
        let weights: Vec<f64> = (0..groups.groups())
            .map(|g| n.sft_weight * (groups.size(g) as f64 - 1.0).powi(2))
            .collect();
        let best = best(responses, groups)?;
        contrast.add(&best.mul(&best.constant(&weights)?)?)?.neg()
    }
}

/// Each response but the worst of a list against those below it: the places of a contest's members, the winner first.
struct Contests {
    member: Vec<u32>,
    /// The winner of the contest that a member is in.
    winner: Vec<u32>,
    /// Whose advantage a member's temperature is the winner's difference to: its own, and of the winner the worst one's.
    against: Vec<u32>,
    /// Which members are a contest.
    each: Rc<Segments>,
    /// The winners among the members.
    first: Vec<u32>,
    /// Which contests are a list's.
    lists: Rc<Segments>,
}

impl Contests {
    fn of(groups: &Segments) -> Result<Self> {
        let (mut member, mut winner, mut against) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sizes, mut first, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        for g in 0..groups.groups() {
            let range = groups.range(g);
            let (worst, before) = (range.start as u32, sizes.len());
            // A list of one has one contest, which nobody loses: it is 0 and has no slope.
            let from = if groups.size(g) == 1 {
                worst
            } else {
                worst + 1
            };
            for k in from..range.end as u32 {
                first.push(member.len() as u32);
                sizes.push((k - worst) as usize + 1);
                member.push(k);
                winner.push(k);
                against.push(worst);
                for i in worst..k {
                    member.push(i);
                    winner.push(k);
                    against.push(i);
                }
            }
            lists.push(sizes.len() - before);
        }
        Ok(Self {
            member,
            winner,
            against,
            each: Rc::new(Segments::new(&sizes)?),
            first,
            lists: Rc::new(Segments::new(&lists)?),
        })
    }
}
