//! What a rest (a stationary point) of a flow is.

use super::{Course, Motion, follow};
use crate::bandit::log_sum_exp;
use crate::random::{Purpose, Stream};
use crate::solve::worse;

/// What a point at which the expected update vanishes is to the flow around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rest {
    /// Every policy near it comes back to it.
    Stable,
    /// One of a continuum of rests: policies near it stay near it, and end elsewhere.
    Neutral,
    /// At the boundary of the simplex: some arm's probability goes to 0, and its logit to −∞.
    Boundary,
    /// Some policies near it leave it.
    Repelling,
    /// The flow comes to no rest.
    None,
}

impl Rest {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Neutral => "neutral",
            Self::Boundary => "boundary",
            Self::Repelling => "repelling",
            Self::None => "none",
        }
    }

    /// Of two prompts' rests, or two parts of one, the one that says less of where a flow ends.
    pub fn weaker(self, other: Self) -> Self {
        if self.rank() >= other.rank() {
            self
        } else {
            other
        }
    }

    /// What the limit is of an objective that is strictly convex within each connected component of the
    /// comparison graph, and knows nothing of their masses.
    pub(in crate::solve) fn of_components(components: &[Vec<usize>]) -> Self {
        if components.len() == 1 {
            Self::Stable
        } else {
            Self::Neutral
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Stable => 0,
            Self::Boundary => 1,
            Self::Neutral => 2,
            Self::Repelling => 3,
            Self::None => 4,
        }
    }
}

/// How far below its reference ln π of an arm that no example holds may have fallen at the end of a
/// flow before it counts as gone: it goes as 1/t.
const FADED: f64 = -14.0;

/// Takes out of a policy at the end of a flow the arms, among those that no example holds, that the
/// flow is emptying. Whether there were any.
pub(crate) fn fade(log_policy: &mut [f64], reference: &[f64], unseen: &[usize]) -> bool {
    let gone: Vec<usize> = (unseen.iter().copied())
        .filter(|&a| log_policy[a] - reference[a] < FADED)
        .collect();
    gone.iter().for_each(|&a| log_policy[a] = f64::NEG_INFINITY);
    if !gone.is_empty() {
        let normaliser = log_sum_exp(log_policy);
        log_policy.iter_mut().for_each(|l| *l -= normaliser);
    }
    !gone.is_empty()
}

/// How far a rest is pushed, in each coordinate at most.
const PUSH: f64 = 1e-3;

/// Coordinates up to which the flow from a pushed point is followed closely.
const CLOSE: usize = 1_000;

/// What an interior rest is, by its definition: pushed a little aside in a random direction, the flow
/// returns, ends beside it, or leaves.
pub(crate) fn rest_of(motion: &impl Motion, point: &[f64]) -> Rest {
    let mut stream = Stream::new(0, Purpose::Start, 90);
    let pushed: Vec<f64> = (point.iter())
        .map(|p| p + PUSH * (2.0 * stream.uniform() - 1.0))
        .collect();
    let away = |from: &[f64]| {
        let mut gap: Vec<f64> = from.iter().zip(point).map(|(a, b)| a - b).collect();
        motion.centre(&mut gap);
        gap.into_iter().map(f64::abs).fold(0.0, worse)
    };
    // Long steps are Newton's, which come to repelling rests too: they must be held by the error.
    let course = if point.len() <= CLOSE {
        Course::Path
    } else {
        Course::Basin
    };
    let before = away(&pushed);
    let end = follow(motion, pushed, course);
    let after = away(&end.point);
    if end.decided || !(after <= 10.0 * before) {
        Rest::Repelling
    } else if after <= 1e-3 * before {
        Rest::Stable
    } else {
        Rest::Neutral
    }
}
