//! Path of a gradient flow from a start: to a stationary point (a rest) and its stability, or away to infinity.

use std::cell::Cell;

use crate::magnitude::largest;
use crate::random::{Purpose, Stream};
use crate::solve::flow::{Course, End, Frame, Motion, Numeric, Rest, follow, rest_of};

/// The sizes of the update, of what it was at the start, at which a journey is looked at: to a rest
/// each leg is a thousandth of the one before, and where logits run off all are equal.
const LEGS: [f64; 3] = [1e-5, 1e-8, 1e-11];

/// Most steps of a leg.
const STEPS: u32 = 2_000;

/// The same where the whole path is followed to rounding.
const LONG: u32 = 8_000;

/// Logits further from the start than this have run off.
const FAR: f64 = 1e7;

/// How far a repelling rest is left by a push, how far the path is then followed closely, and how
/// many repelling rests are left.
const PUSH: f64 = 1e-2;
const CLEAR: f64 = 0.3;
const PUSHES: u64 = 3;

/// Where a journey ended.
#[derive(Debug, Clone)]
pub(crate) struct Journey {
    pub point: Vec<f64>,
    /// The class of the rest there; none if it comes to none.
    pub rest: Rest,
    /// The way in which logits run off: to the boundary, or without end.
    pub direction: Option<Vec<f64>>,
    /// True if the rest is one of many and the path to it was not followed to rounding.
    pub rough: bool,
    /// The repelling rest that it was pushed off, and where it ends when pushed the other way.
    pub left: Option<(Vec<f64>, Box<Journey>)>,
}

/// A motion that is watched: stopped where the update has become small, far away, or after many
/// steps.
struct Watched<'a, F> {
    motion: Numeric<F>,
    sizes: &'a [usize],
    from: Vec<f64>,
    small: f64,
    far: f64,
    steps: Cell<u32>,
}

impl<F: Fn(&[f64]) -> Option<Vec<f64>>> Motion for Watched<'_, F> {
    type Local = <Numeric<F> as Motion>::Local;

    fn local(&self, point: &[f64]) -> Self::Local {
        self.motion.local(point)
    }

    fn nearby(&self, at: &Self::Local, point: &[f64]) -> Self::Local {
        self.motion.nearby(at, point)
    }

    fn update<'a>(&self, at: &'a Self::Local) -> &'a [f64] {
        self.motion.update(at)
    }

    fn step(&self, at: &Self::Local, h: f64) -> Option<Vec<f64>> {
        self.motion.step(at, h)
    }

    fn settle(&self, point: Vec<f64>) -> Vec<f64> {
        self.motion.settle(point)
    }

    /// Policies do not see what all numbers of a prompt have in common, be they logits or scores.
    fn centre(&self, difference: &mut [f64]) {
        centre(self.sizes, difference);
    }

    fn scale(&self, point: &[f64]) -> f64 {
        self.motion.scale(point)
    }

    fn decided(&self, point: &[f64], at: &Self::Local) -> bool {
        let left = self.steps.get();
        self.steps.set(left.saturating_sub(1));
        left == 0
            || largest(self.update(at)) <= self.small
            || distance(self.sizes, &self.from, point) > self.far
    }
}

fn centre(sizes: &[usize], values: &mut [f64]) {
    let mut rest = values;
    for &size in sizes {
        let (block, tail) = rest.split_at_mut(size);
        crate::solve::flow::centre(block);
        rest = tail;
    }
}

fn difference(sizes: &[usize], from: &[f64], to: &[f64]) -> Vec<f64> {
    let mut gap: Vec<f64> = to.iter().zip(from).map(|(t, f)| t - f).collect();
    centre(sizes, &mut gap);
    gap
}

/// How far two tables are apart, each prompt's mean taken out.
pub(crate) fn distance(sizes: &[usize], from: &[f64], to: &[f64]) -> f64 {
    largest(difference(sizes, from, to))
}

/// A field to be followed.
pub(crate) struct Flow<'a> {
    pub field: &'a dyn Fn(&[f64]) -> Option<Vec<f64>>,
    pub frame: Frame,
    pub sizes: &'a [usize],
}

/// How a leg ended.
enum Leg {
    /// The update vanishes there.
    Rest(Vec<f64>),
    /// It shrinks while logits run off, this way.
    RunsOff(Vec<f64>, Vec<f64>),
    /// It came to no rest.
    Away(Vec<f64>),
}

impl Flow<'_> {
    fn follow(&self, from: &[f64], small: f64, far: f64, steps: u32, course: Course) -> End {
        let watched = Watched {
            motion: Numeric::new(|p: &[f64]| (self.field)(p), self.frame.clone()),
            sizes: self.sizes,
            from: from.to_vec(),
            small,
            far,
            steps: Cell::new(steps),
        };
        follow(&watched, from.to_vec(), course)
    }

    fn legs(&self, start: &[f64], course: Course) -> Leg {
        let first = (self.field)(start).map_or(f64::NAN, |f| largest(&f));
        let scale = first.max(1e-3);
        let mut points = vec![start.to_vec()];
        for part in LEGS {
            let from = &points[points.len() - 1];
            let end = self.follow(from, part * scale, FAR, STEPS, course);
            let short = end.size <= part * scale;
            if !end.decided && end.size <= 1e-9 * scale {
                return Leg::Rest(end.point);
            }
            if !short {
                return Leg::Away(end.point);
            }
            points.push(end.point);
        }
        let leg = |i: usize| distance(self.sizes, &points[i], &points[i + 1]);
        if leg(2) > 0.5 * leg(1) && leg(2) > 1e-2 {
            let way = difference(self.sizes, &points[2], &points[3]);
            return Leg::RunsOff(self.to_the_boundary(&points[3]), way);
        }
        // The last digits.
        let end = self.follow(&points[3], -1.0, 1.0, STEPS, course);
        if distance(self.sizes, &points[3], &end.point) > 1.0 {
            Leg::Away(end.point)
        } else {
            Leg::Rest(end.point)
        }
    }

    /// On along the way that logits run off, until nothing is left of the update: what the others
    /// keep among themselves settles on the way, slower than any power of what is left.
    fn to_the_boundary(&self, from: &[f64]) -> Vec<f64> {
        let floor = 1e-35;
        let unit = |p: &[f64]| {
            let force = (self.field)(p)?;
            let size = largest(&force) + floor;
            Some(force.into_iter().map(|f| f / size).collect())
        };
        let flow = Flow {
            field: &unit,
            frame: self.frame.clone(),
            sizes: self.sizes,
        };
        let end = flow.follow(from, 0.5, FAR, STEPS, Course::Basin).point;
        // Where something else is at rest, its rounding is larger than what is left, and leads astray;
        // it was at rest before.
        let left = |at: &[f64]| (self.field)(at).map_or(f64::INFINITY, |force| largest(&force));
        if left(&end) <= 1e-6 * left(from) {
            end
        } else {
            from.to_vec()
        }
    }

    fn class(&self, point: &[f64]) -> Rest {
        let watched = Watched {
            motion: Numeric::new(|p: &[f64]| (self.field)(p), self.frame.clone()),
            sizes: self.sizes,
            from: point.to_vec(),
            small: -1.0,
            far: 0.1,
            steps: Cell::new(u32::MAX),
        };
        rest_of(&watched, point)
    }

    fn pushed(&self, point: &[f64], key: u64, sign: f64) -> Vec<f64> {
        let mut stream = Stream::new(key, Purpose::Start, 53);
        let mut push = || sign * PUSH * (2.0 * stream.uniform() - 1.0);
        point.iter().map(|p| p + push()).collect()
    }

    /// Follows the flow from a start to where it ends. A rest that repels is told and left by a
    /// small push, one way and the other.
    pub fn journey(&self, start: &[f64]) -> Journey {
        self.go(start, 0)
    }

    fn go(&self, start: &[f64], pushes: u64) -> Journey {
        let ended = |point, rest, direction| Journey {
            point,
            rest,
            direction,
            rough: false,
            left: None,
        };
        match self.legs(start, Course::Basin) {
            Leg::Away(point) => {
                let way = difference(self.sizes, start, &point);
                let ran = largest(&way) > 50.0;
                ended(point, Rest::None, ran.then_some(way))
            }
            Leg::RunsOff(point, way) => ended(point, Rest::Boundary, Some(way)),
            Leg::Rest(point) => match self.class(&point) {
                Rest::Repelling if pushes < PUSHES => {
                    // Long steps are Newton's, which come back to repelling rests: until it is clear
                    // of this one, steps are as short as the path asks for.
                    let way = |sign| {
                        let from = self.pushed(&point, pushes, sign);
                        let clear = self.follow(&from, -1.0, CLEAR, LONG, Course::Path);
                        self.go(&clear.point, pushes + 1)
                    };
                    let (there, other) = (way(1.0), way(-1.0));
                    Journey {
                        left: Some((point, Box::new(other))),
                        ..there
                    }
                }
                // Which of many rests is the end of the whole path.
                Rest::Neutral => match self.legs(start, Course::Path) {
                    Leg::Rest(point) => ended(point, Rest::Neutral, None),
                    _ => Journey {
                        rough: true,
                        ..ended(point, Rest::Neutral, None)
                    },
                },
                rest => ended(point, rest, None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journey(field: &dyn Fn(&[f64]) -> Option<Vec<f64>>, start: &[f64], frame: Frame) -> Journey {
        let flow = Flow {
            field,
            frame,
            sizes: &[start.len()],
        };
        flow.journey(start)
    }

    /// Two logits of which only the difference x moves.
    fn difference_moves(f: impl Fn(f64) -> f64) -> impl Fn(&[f64]) -> Option<Vec<f64>> {
        move |p| {
            let force = f(p[0] - p[1]);
            Some(vec![force, -force])
        }
    }

    #[test]
    fn classes_are_those_of_known_flows() {
        let go = |f: &dyn Fn(f64) -> f64, start: f64| {
            let field = difference_moves(f);
            let frame = Frame::Logits(vec![2]);
            journey(&field, &[start / 2.0, -start / 2.0], frame)
        };
        // A rest at 1, from anywhere.
        let stable = go(&|x| 1.0 - x, -3.0);
        assert_eq!(stable.rest, Rest::Stable);
        assert!((stable.point[0] - 0.5).abs() < 1e-12, "{stable:?}");
        // e^{−x}: x grows like ln t, for ever, and the update vanishes.
        let boundary = go(&|x| (-x).exp(), 0.0);
        assert_eq!(boundary.rest, Rest::Boundary);
        assert!(
            boundary.direction.is_some() && boundary.point[0] > 20.0,
            "{boundary:?}"
        );
        // The same at a low temperature: logits of thousands, and a rest there is none at the boundary.
        assert_eq!(go(&|x| (-x / 500.0).exp(), 0.0).rest, Rest::Boundary);
        assert_eq!(go(&|x| (2_000.0 - x) / 500.0, 0.0).rest, Rest::Stable);
        // A constant force has no rest.
        let none = go(&|_| 0.5, 0.0);
        assert!(
            none.rest == Rest::None && none.direction.is_some(),
            "{none:?}"
        );
        // A cubic is slow, and a rest.
        assert_eq!(go(&|x| -x.powi(3), 1.0).rest, Rest::Stable);
        // x − x³ at 0: told, and left both ways.
        let left = go(&|x| x - x.powi(3), 0.0);
        assert_eq!(left.rest, Rest::Stable);
        let (from, other) = left.left.unwrap();
        assert!(from[0].abs() < 1e-9 && (left.point[0] + other.point[0]).abs() < 1e-9);
        assert!((left.point[0].abs() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn many_rests_are_told_from_one() {
        // ẋ = −x(1 + y), ẏ = x: any point of x = 0 is a rest; x + y + y²/2 says which.
        let field = |p: &[f64]| Some(vec![-p[0] * (1.0 + p[1]), p[0], 0.0]);
        let end = journey(&field, &[1.5, 0.0, 0.0], Frame::Plain);
        assert_eq!(end.rest, Rest::Neutral);
        assert!(!end.rough && (end.point[1] - 1.0).abs() < 1e-11, "{end:?}");
    }

    #[test]
    fn the_ratio_that_two_undominated_arms_keep() {
        // DPO's flow where arms 0 and 1 beat arm 2 with weights 3 and 1, at β = 1: their odds are 3.
        let field = |p: &[f64]| {
            let pull = |w: f64, a: usize| w / (1.0 + (p[a] - p[2]).exp());
            let (a, b) = (pull(3.0, 0), pull(1.0, 1));
            Some(vec![a, b, -a - b])
        };
        for start in [[0.0, 0.0, 0.0], [-1.0, 2.0, 0.5]] {
            let end = journey(&field, &start, Frame::Logits(vec![3]));
            assert_eq!(end.rest, Rest::Boundary);
            let odds = (end.point[0] - end.point[1]).exp();
            assert!((odds - 3.0).abs() < 1e-8, "{odds}");
        }
    }
}
