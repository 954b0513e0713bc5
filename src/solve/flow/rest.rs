//! What a rest (a stationary point) of a flow is.

use super::{Course, Motion, follow};
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
