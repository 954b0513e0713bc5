//! Rest (a stationary point) of a flow, and its stability.

use nalgebra::{DMatrix, DVector, Schur};

use super::{Course, End, Motion, follow, trace};
use crate::bandit::log_sum_exp;
use crate::random::{Purpose, Stream};
use crate::solve::larger;

/// Stability of a rest, that is of a stationary point: one at which the expected update vanishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rest {
    /// Every policy near it comes back to it.
    Stable,
    /// One of a continuum of rests: policies near it stay near it, and end elsewhere.
    Neutral,
    /// Boundary of the simplex: some arm's probability goes to 0, and its logit to −∞.
    Boundary,
    /// Some policies near it leave it.
    Repelling,
    /// The flow comes to no rest.
    None,
}

impl Rest {
    /// Name of the class, in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Neutral => "neutral",
            Self::Boundary => "boundary",
            Self::Repelling => "repelling",
            Self::None => "none",
        }
    }

    /// The weaker of two rests, of two prompts or of two parts of one: the one that says less of where a flow ends.
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

/// Takes the arms that no example holds out of a policy at the end of a flow that is emptying them
/// (one, and so all). Whether it is.
pub(crate) fn fade(log_policy: &mut [f64], reference: &[f64], unseen: &[usize]) -> bool {
    let emptied = unseen.iter().any(|&a| log_policy[a] - reference[a] < FADED);
    if emptied {
        unseen
            .iter()
            .for_each(|&a| log_policy[a] = f64::NEG_INFINITY);
        let normaliser = log_sum_exp(log_policy);
        log_policy.iter_mut().for_each(|l| *l -= normaliser);
    }
    emptied
}

/// Where a flow ends that leaves some arms without examples.
pub(crate) struct Settled {
    /// The end.
    pub end: End,
    /// Stability of the rest: boundary where the arms without examples were emptied.
    pub rest: Rest,
    /// The error of a coordinate, where the end depends on the path.
    pub error: Option<f64>,
}

/// Follows a flow to rest. `emptied` gives the point without the arms that no example holds, if the
/// flow is emptying them: what is left then settles alone. Where it leaves them some probability and
/// the rest is one of a continuum, the end depends on the path; where every arm has examples
/// (`covered`), it does not.
pub(crate) fn settle(
    motion: &impl Motion,
    start: Vec<f64>,
    covered: bool,
    emptied: impl Fn(&[f64]) -> Option<Vec<f64>>,
) -> Settled {
    let end = follow(motion, start.clone(), Course::Basin);
    if let Some(point) = emptied(&end.point).filter(|_| !end.decided) {
        let end = follow(motion, point, Course::Basin);
        let (rest, error) = (Rest::Boundary, None);
        return Settled { end, rest, error };
    }
    if !end.rests {
        let (rest, error) = (Rest::None, None);
        return Settled { end, rest, error };
    }
    let rest = rest_of(motion, &end.point);
    if covered || rest != Rest::Neutral {
        let error = None;
        return Settled { end, rest, error };
    }
    let (traced, error) = trace(motion, start);
    // A flow too slow to be followed closely may have stopped on its way; what was reached by long
    // steps is then the rest, and the way it came its error.
    if !traced.rests {
        let mut gap: Vec<f64> = (end.point.iter().zip(&traced.point))
            .map(|(a, b)| a - b)
            .collect();
        motion.centre(&mut gap);
        let error = Some(gap.into_iter().map(f64::abs).fold(error, larger));
        return Settled { end, rest, error };
    }
    let (end, error) = (traced, Some(error));
    Settled { end, rest, error }
}

/// Random starts, besides the reference, from which a second limit is looked for; fewer where
/// each takes long.
fn starts(arms: usize) -> u64 {
    if arms <= 1_000 { 12 } else { 3 }
}

/// Whether the flow from some other start runs off, or comes to rest at another policy. `start` makes
/// the i-th start from a source of numbers between −1 and 1; `policy` gives ln π at a point. A start
/// that has not arrived is no second limit.
pub(crate) fn ends_elsewhere(
    motion: &impl Motion,
    log_policy: &[f64],
    start: impl Fn(u64, &mut dyn FnMut() -> f64) -> Vec<f64>,
    policy: impl Fn(&[f64]) -> Vec<f64>,
) -> bool {
    (0..starts(log_policy.len())).any(|i| {
        let mut stream = Stream::new(0, Purpose::Start, i);
        let from = start(i, &mut || signed(&mut stream));
        let end = follow(motion, from, Course::Basin);
        let apart = (policy(&end.point).iter().zip(log_policy))
            .map(|(a, b)| (a.exp() - b.exp()).abs())
            .fold(0.0, larger);
        end.decided || end.rests && apart > 1e-6
    })
}

/// A number between −1 and 1.
fn signed(stream: &mut Stream) -> f64 {
    2.0 * stream.uniform() - 1.0
}

/// A start around the reference, each logit moved by up to `spread`.
pub(crate) fn around<'a>(
    reference: impl IntoIterator<Item = &'a f64>,
    spread: f64,
    draw: &mut dyn FnMut() -> f64,
) -> Vec<f64> {
    reference.into_iter().map(|l| l + spread * draw()).collect()
}

/// Coordinates up to which a rest is judged by the eigenvalues of the Jacobian.
const SPECTRUM_CAP: usize = 64;

/// What an interior rest is to the flow around it.
pub(crate) fn rest_of(motion: &impl Motion, point: &[f64]) -> Rest {
    let by_eigenvalues = if point.len() <= SPECTRUM_CAP {
        spectral(motion, point)
    } else {
        None
    };
    by_eigenvalues.unwrap_or_else(|| pushed(motion, point))
}

/// By the real parts of the eigenvalues of the Jacobian, taken from central differences in the
/// directions that `settle` does not ignore; one that differences cannot tell from 0 counts as 0.
fn spectral(motion: &impl Motion, point: &[f64]) -> Option<Rest> {
    const REACH: f64 = 1e-5;
    const ZERO: f64 = 1e-8;
    let n = point.len();
    let (mut jacobian, mut rank) = (DMatrix::zeros(n, n), 0.0);
    for j in 0..n {
        let mut along = vec![0.0; n];
        along[j] = 1.0;
        motion.centre(&mut along);
        rank += along[j];
        let moved = |by: f64| {
            let to = point.iter().zip(&along).map(|(p, d)| p + by * d).collect();
            let at = motion.local(&motion.settle(to));
            motion.update(&at).to_vec()
        };
        // Times 2·REACH, which no sign depends on.
        let mut column: Vec<f64> = (moved(REACH).iter().zip(moved(-REACH)))
            .map(|(a, b)| a - b)
            .collect();
        motion.centre(&mut column);
        jacobian.set_column(j, &DVector::from_vec(column));
    }
    if jacobian.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let zero = ZERO * jacobian.amax();
    let values = Schur::try_new(jacobian, f64::EPSILON, 10_000)?.complex_eigenvalues();
    let idle = n - rank.round() as usize;
    let still = values.iter().filter(|l| l.re.abs() <= zero).count();
    Some(if values.iter().any(|l| l.re > zero) {
        Rest::Repelling
    } else if still > idle {
        Rest::Neutral
    } else {
        Rest::Stable
    })
}

/// By its definition: pushed a little aside in a random direction, the flow returns, ends beside it,
/// or leaves.
fn pushed(motion: &impl Motion, point: &[f64]) -> Rest {
    const PUSH: f64 = 1e-3;
    let mut stream = Stream::new(0, Purpose::Start, 90);
    let aside = around(point, PUSH, &mut || signed(&mut stream));
    let away = |from: &[f64]| {
        let mut gap: Vec<f64> = from.iter().zip(point).map(|(a, b)| a - b).collect();
        motion.centre(&mut gap);
        gap.into_iter().map(f64::abs).fold(0.0, larger)
    };
    let before = away(&aside);
    // Long steps are Newton's, which come back to repelling rests: the error must hold them.
    let end = follow(motion, aside, Course::Check);
    let after = away(&end.point);
    // NaN leaves, too.
    let near = after <= 10.0 * before;
    if end.decided || !near {
        Rest::Repelling
    } else if after <= 1e-2 * before {
        Rest::Stable
    } else {
        Rest::Neutral
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Frame, Numeric};
    use super::*;

    const ALL: [Rest; 5] = [
        Rest::Stable,
        Rest::Boundary,
        Rest::Neutral,
        Rest::Repelling,
        Rest::None,
    ];

    #[test]
    fn the_weaker_of_two_says_less() {
        for (i, a) in ALL.into_iter().enumerate() {
            for (j, b) in ALL.into_iter().enumerate() {
                assert_eq!(a.weaker(b), ALL[i.max(j)]);
            }
        }
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|r| r.name()).collect();
        assert!(names.len() == 5 && names.iter().all(|n| n.len() > 3));
    }

    #[test]
    fn several_components_have_free_masses() {
        assert_eq!(Rest::of_components(&[vec![0, 1]]), Rest::Stable);
        assert_eq!(Rest::of_components(&[vec![0], vec![1]]), Rest::Neutral);
    }

    #[test]
    fn an_arm_that_is_being_emptied_is_gone() {
        let reference = [0.5f64.ln(), 0.25f64.ln(), 0.25f64.ln()];
        // Fallen by 13.9, and by 14.1.
        for (fallen, gone) in [(13.9, false), (14.1, true)] {
            let mut log = [0.3f64.ln(), 0.5f64.ln(), reference[2] - fallen];
            assert_eq!(fade(&mut log, &reference, &[2]), gone);
            assert_eq!(log[2] == f64::NEG_INFINITY, gone);
            let seen: f64 = log[..2].iter().map(|l| l.exp()).sum();
            assert!(!gone || (seen - 1.0).abs() < 1e-15, "{log:?}");
        }
        // An arm with examples may be as rare as it likes.
        assert!(!fade(&mut [0.0, -50.0, -1.0], &reference, &[2]));
    }

    /// ẋ = x − x³, ẏ = −y: rests at ±1 attract and 0 repels, to the eigenvalues and to a push.
    #[test]
    fn both_ways_to_judge_a_rest_agree() {
        let field = |p: &[f64]| Some(vec![p[0] - p[0].powi(3), -p[1]]);
        let motion = Numeric::new(field, Frame::Plain);
        for (x, rest) in [
            (1.0, Rest::Stable),
            (-1.0, Rest::Stable),
            (0.0, Rest::Repelling),
        ] {
            assert_eq!(spectral(&motion, &[x, 0.0]), Some(rest));
            assert_eq!(pushed(&motion, &[x, 0.0]), rest);
        }
        // ẋ = 0, ẏ = −y: every x is a rest.
        let line = Numeric::new(|p: &[f64]| Some(vec![0.0, -p[1]]), Frame::Plain);
        assert_eq!(spectral(&line, &[0.3, 0.0]), Some(Rest::Neutral));
        assert_eq!(pushed(&line, &[0.3, 0.0]), Rest::Neutral);
        // Logits: what all have in common is no direction of its own.
        let pull = |p: &[f64]| Some(vec![p[1] - p[0], p[0] - p[1]]);
        let pair = Numeric::new(pull, Frame::Logits(vec![2]));
        assert_eq!(spectral(&pair, &[0.0, 0.0]), Some(Rest::Stable));
        let broken = Numeric::new(|_: &[f64]| None, Frame::Plain);
        assert_eq!(spectral(&broken, &[0.0]), None);
    }

    /// ẋ = −x + 10⁴x³ returns to 0 from nearer than 0.01 only.
    #[test]
    fn a_push_is_small() {
        let narrow = Numeric::new(
            |p: &[f64]| Some(vec![-p[0] + 1e4 * p[0].powi(3)]),
            Frame::Plain,
        );
        assert_eq!(pushed(&narrow, &[0.0]), Rest::Stable);
    }

    /// ẋ = −x + 10⁸x³ returns from less far than a push goes: up to the cap a rest is what eigenvalues say.
    #[test]
    fn few_coordinates_are_judged_by_eigenvalues() {
        let narrow = |n: usize| {
            let update = |p: &[f64]| Some(p.iter().map(|x| 1e8 * x.powi(3) - x).collect());
            rest_of(&Numeric::new(update, Frame::Plain), &vec![0.0; n])
        };
        assert_eq!(narrow(1), Rest::Stable);
        assert_eq!(narrow(SPECTRUM_CAP), Rest::Stable);
    }

    #[test]
    fn starts_lie_around_the_reference() {
        assert_eq!((starts(1_000), starts(1_001)), (12, 3));
        assert_eq!(around(&[1.0, 2.0], 0.5, &mut || 0.25), [1.125, 2.125]);
        let drawn = std::cell::RefCell::new(Vec::new());
        let still = Numeric::new(|_: &[f64]| Some(vec![0.0]), Frame::Plain);
        let start = |_, draw: &mut dyn FnMut() -> f64| {
            drawn.borrow_mut().extend([draw(), draw(), draw(), draw()]);
            vec![0.0]
        };
        ends_elsewhere(&still, &[0.0], start, <[f64]>::to_vec);
        let drawn = drawn.into_inner();
        assert_eq!(drawn.len(), 4 * 12);
        assert!(drawn.iter().all(|d| (-1.0..=1.0).contains(d)));
        assert!(drawn.iter().any(|&d| d < -0.5) && drawn.iter().any(|&d| d > 0.5));
    }

    #[test]
    fn other_ends_are_found() {
        let policy = |point: &[f64]| crate::bandit::log_softmax(point);
        let start = |i: u64, draw: &mut dyn FnMut() -> f64| around(&[0.5, -0.5], i as f64, draw);
        // The difference d of two logits: one end at d = 1.
        let one = |p: &[f64]| Some(vec![1.0 - p[0] + p[1], p[0] - p[1] - 1.0]);
        let one = Numeric::new(one, Frame::Logits(vec![2]));
        let end = policy(&[0.5, -0.5]);
        assert!(!ends_elsewhere(&one, &end, start, policy));
        // Ends at d = ±1.
        let two = |p: &[f64]| {
            let d = p[0] - p[1];
            Some(vec![d - d.powi(3), d.powi(3) - d])
        };
        let two = Numeric::new(two, Frame::Logits(vec![2]));
        assert!(ends_elsewhere(&two, &end, start, policy));
        // A flow without a rest ends nowhere else.
        let drift = Numeric::new(|_: &[f64]| Some(vec![1.0, -1.0]), Frame::Logits(vec![2]));
        assert!(!ends_elsewhere(&drift, &end, start, policy));
    }

    /// ẋ = −x(1 + y), ẏ = x: a continuum of rests, whose end is given with its error; without one no
    /// error is.
    #[test]
    fn the_end_of_a_path_has_an_error() {
        let path = Numeric::new(
            |p: &[f64]| Some(vec![-p[0] * (1.0 + p[1]), p[0]]),
            Frame::Plain,
        );
        let open = settle(&path, vec![1.5, 0.0], false, |_| None);
        assert!(open.rest == Rest::Neutral && (open.end.point[1] - 1.0).abs() < 1e-11);
        let error = open.error.unwrap();
        assert!(error > 1e-16 && error < 1e-8, "{error}");
        let covered = settle(&path, vec![1.5, 0.0], true, |_| None);
        assert!(covered.error.is_none() && covered.end.rests);
        // Where the path cannot be followed closely, the way between is the error. On it x + y + y²/2 is
        // kept: from (1.5, 0.5) it ends at y = √5.25 − 1.
        let calls = std::cell::Cell::new(0);
        let lost = |p: &[f64]| {
            calls.set(calls.get() + 1);
            (calls.get() < LIMIT.get()).then(|| vec![-p[0] * (1.0 + p[1]), p[0]])
        };
        thread_local!(static LIMIT: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) });
        let lost = Numeric::new(lost, Frame::Plain);
        let from = vec![1.5, 0.5];
        let followed = follow(&lost, from.clone(), Course::Basin);
        rest_of(&lost, &followed.point);
        LIMIT.set(2 * calls.get() + 1);
        let cut = settle(&lost, from, false, |_| None);
        assert!((cut.end.point[1] - (5.25f64.sqrt() - 1.0)).abs() < 1e-3);
        assert!((cut.error.unwrap() - 1.5).abs() < 1e-6, "{:?}", cut.error);
        let point = Numeric::new(|p: &[f64]| Some(vec![1.0 - p[0]]), Frame::Plain);
        let one = settle(&point, vec![0.0], false, |_| None);
        assert!(
            one.rest == Rest::Stable
                && one.error.is_none()
                && (one.end.point[0] - 1.0).abs() < 1e-12
        );
        // What is being emptied is taken out, and the rest settles.
        let emptied = settle(&point, vec![0.0], false, |_| Some(vec![0.5]));
        assert!(emptied.rest == Rest::Boundary && (emptied.end.point[0] - 1.0).abs() < 1e-12);
        let never = Numeric::new(|_: &[f64]| Some(vec![1.0]), Frame::Plain);
        assert_eq!(settle(&never, vec![0.0], true, |_| None).rest, Rest::None);
    }
}
