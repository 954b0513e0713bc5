//! Limit of a loss on a population.

use super::journey::{Flow, Journey, distance};
use super::population::{Population, apart};
use crate::bandit::Policy;
use crate::error::Result;
use crate::loss::Kind;
use crate::solve::flow::Rest;
use crate::solve::minimise;

/// How close two searches by value must end, in probability, to have found the same minimum.
const FOUND: f64 = 1e-3;

/// Most rounds in which the law of responses is set to the policy found, where that law is frozen.
const ROUNDS: usize = 12;

/// Where a loss ends from a start.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    pub policy: Policy,
    pub table: Vec<Vec<f64>>,
    /// The class of the rest there; none if it comes to none.
    pub rest: Rest,
    /// True if the loss falls for ever on the way.
    pub unbounded: bool,
    /// The way in which logits run off, one row per prompt, the largest number of each row 0 and
    /// the size of the smallest of all 1.
    pub direction: Option<Vec<Vec<f64>>>,
    /// True if it was pushed off a rest that repels.
    pub pushed: bool,
    /// Remark on it.
    pub note: Option<String>,
}

impl Limit {
    /// True if there is a limit: a rest, if only at the boundary.
    pub fn exists(&self) -> bool {
        self.rest != Rest::None && !self.unbounded
    }
}

impl Population<'_> {
    /// Limit from a start: the end of gradient flow, or where kinks hold it the lowest point that a search by value
    /// finds. None where the loss is not finite at the start.
    ///
    /// # Errors
    /// If a search fails.
    pub fn limit(&self, start: &[Vec<f64>]) -> Result<Option<Limit>> {
        self.limit_and_face(start, false)
    }

    /// [`limit`](Self::limit), and of a lowest point whether it is one of many.
    pub fn limit_and_face(&self, start: &[Vec<f64>], face: bool) -> Result<Option<Limit>> {
        if self.evaluate(start).is_err() {
            return Ok(None);
        }
        let flowed = self.flowed(start);
        if self.subject.kind != Kind::Kinked || self.samples_itself() {
            // A flow that kinks hold goes to and fro for ever.
            if self.subject.kind == Kind::Kinked && flowed.rest == Rest::None && !flowed.unbounded {
                return self.held_by_kinks(start, face).map(Some);
            }
            return Ok(Some(flowed));
        }
        let found = self.lowest(start, face)?;
        let value = |limit: &Limit| self.evaluate(&limit.table).map_or(f64::MAX, |at| at.value);
        let (smooth, by_value) = (value(&flowed), value(&found));
        let as_low = smooth <= by_value + 1e-9 * (1.0 + by_value.abs());
        Ok(Some(if flowed.unbounded || (flowed.exists() && as_low) {
            flowed
        } else {
            found
        }))
    }

    /// The end of gradient flow.
    fn flowed(&self, start: &[Vec<f64>]) -> Limit {
        let field = |flat: &[f64]| -> Option<Vec<f64>> {
            let at = self.evaluate(&self.table(flat)).ok()?;
            Some(at.gradient.iter().map(|g| -g).collect())
        };
        let sizes = self.sizes();
        let flow = Flow {
            field: &field,
            frame: self.frame(),
            sizes: &sizes,
        };
        let start = start.concat();
        let mut journey = flow.journey(&start);
        if self.samples_itself() && journey.rest == Rest::Boundary && !self.feed.scores() {
            // An arm's update is small there if only because it is rarely drawn, and its rest may be
            // at ln π = −R/β: in units of its probability that is seen.
            let drawn = |flat: &[f64]| -> Option<Vec<f64>> {
                let policy = self.policy(flat).probabilities().concat();
                let force = field(flat)?.into_iter().zip(policy);
                Some(force.map(|(f, p)| f / p).collect())
            };
            let flow = Flow {
                field: &drawn,
                frame: self.frame(),
                sizes: &sizes,
            };
            let other = flow.journey(&start);
            let here = self.policy(&journey.point);
            let same = apart(&here, &self.policy(&other.point)) <= 1e-6;
            if same && other.rest == Rest::Stable && other.left.is_none() {
                journey = other;
            }
        }
        let left = journey.left.take();
        let rough = journey.rough;
        let mut limit = self.arrived(journey);
        if rough {
            limit.note = Some("one of many rests, which one to about 1e-3".to_string());
        }
        if let Some((from, other)) = left {
            let other = self.arrived(*other);
            limit.pushed = true;
            limit.note = Some(self.repelled(&start, &from, &limit, &other));
        }
        limit
    }

    fn repelled(&self, start: &[f64], from: &[f64], limit: &Limit, other: &Limit) -> String {
        let sizes = self.sizes();
        let what = if distance(&sizes, start, from) < 1e-9 {
            "the start, π_ref, is a rest that repels".to_string()
        } else {
            format!("{} is a rest that repels", shown(&self.policy(from)))
        };
        let both = limit.exists() && other.exists();
        let then = if both && apart(&limit.policy, &other.policy) < 1e-6 {
            "pushed off it either way it comes here".to_string()
        } else if other.unbounded {
            "pushed off it the other way the loss falls for ever".to_string()
        } else if other.exists() {
            format!("pushed off it the other way: {}", shown(&other.policy))
        } else {
            "pushed off it the other way it comes to no rest".to_string()
        };
        format!("{what}; {then}")
    }

    fn arrived(&self, journey: Journey) -> Limit {
        let way = journey.direction;
        let unbounded = way
            .as_ref()
            .is_some_and(|way| self.falls_for_ever(&journey.point, way));
        Limit {
            policy: self.policy(&journey.point),
            table: self.table(&journey.point),
            rest: if unbounded { Rest::None } else { journey.rest },
            unbounded,
            direction: way.map(|way| self.direction(&way)),
            pushed: false,
            note: None,
        }
    }

    /// Whether the value falls along a ray by as much in each decade of its length as in the one
    /// before: where it has a bound, what is left of the fall shrinks. A field has no value.
    fn falls_for_ever(&self, from: &[f64], way: &[f64]) -> bool {
        if self.subject.kind == Kind::Field {
            return false;
        }
        let longest = way.iter().fold(f64::MIN_POSITIVE, |m, w| m.max(w.abs()));
        let along = |length: f64| {
            let point: Vec<f64> = (from.iter().zip(way))
                .map(|(f, w)| f + length * w / longest)
                .collect();
            self.evaluate(&self.table(&point)).map(|at| at.value)
        };
        let values: Result<Vec<f64>> = [1e2, 1e3, 1e4, 1e5].into_iter().map(along).collect();
        let Ok([a, b, c, d]) = values.map(|v| [v[0], v[1], v[2], v[3]]) else {
            return false;
        };
        let (first, second, third) = (a - b, b - c, c - d);
        third > 1e-6 * (1.0 + a.abs()) && second >= 0.5 * first && third >= 0.5 * second
    }

    fn direction(&self, way: &[f64]) -> Vec<Vec<f64>> {
        let mut rows = self.table(way);
        for row in &mut rows {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|w| *w -= top);
        }
        let most = rows
            .iter()
            .flatten()
            .fold(f64::MIN_POSITIVE, |m, w| m.max(-w));
        (rows.iter_mut().flatten()).for_each(|w| *w = *w / most + 0.0);
        rows
    }

    /// The lowest point that a search by value finds; with `face` whether others are as low.
    fn lowest(&self, start: &[Vec<f64>], face: bool) -> Result<Limit> {
        let found = self.simplex(start)?;
        let mut limit = Limit {
            policy: self.policy(&found),
            table: self.table(&found),
            rest: Rest::Stable,
            unbounded: false,
            direction: None,
            pushed: false,
            note: None,
        };
        let sizes = self.sizes();
        let start = start.concat();
        if distance(&sizes, &start, &found) > 50.0 {
            let way: Vec<f64> = found.iter().zip(&start).map(|(f, s)| f - s).collect();
            limit.unbounded = self.falls_for_ever(&found, &way);
            limit.rest = if limit.unbounded {
                Rest::None
            } else {
                Rest::Boundary
            };
            limit.direction = Some(self.direction(&way));
            return Ok(limit);
        }
        // Another point as low: the minimum is a face.
        for key in (0..2).filter(|_| face) {
            let other = self.simplex(&self.elsewhere(20 + key))?;
            let value = |flat: &[f64]| {
                self.evaluate(&self.table(flat))
                    .map_or(f64::MAX, |at| at.value)
            };
            let (here, there) = (value(&found), value(&other));
            let as_low = there <= here + 1e-9 * (1.0 + here.abs());
            if as_low && apart(&limit.policy, &self.policy(&other)) > FOUND {
                limit.rest = Rest::Neutral;
                limit.note = Some("a face of lowest points, of which this is one".into());
                break;
            }
        }
        Ok(limit)
    }

    /// On policy with kinks: where the lowest point under responses from a policy is that policy.
    fn held_by_kinks(&self, start: &[Vec<f64>], face: bool) -> Result<Limit> {
        let mut table = start.to_vec();
        for _ in 0..ROUNDS {
            let next = self.frozen(&table).lowest(&table, false)?;
            if !next.exists() {
                return Ok(next);
            }
            let same = apart(&next.policy, &self.policy(&table.concat())) <= FOUND;
            table = next.table.clone();
            if same {
                let says = "held by kinks: the lowest point under responses from itself";
                let found = self.frozen(&table).lowest(&table, face)?;
                let note = found
                    .note
                    .iter()
                    .fold(says.to_string(), |a, b| a + "; " + b);
                return Ok(Limit {
                    note: Some(note),
                    ..found
                });
            }
        }
        Ok(Limit {
            policy: self.policy(&table.concat()),
            table,
            rest: Rest::None,
            unbounded: false,
            direction: None,
            pushed: false,
            note: Some(format!(
                "not found: kinks hold the flow, and in {ROUNDS} rounds no policy is the lowest point \
                 under responses from itself"
            )),
        })
    }

    /// The simplex search, the first number of each prompt held.
    fn simplex(&self, start: &[Vec<f64>]) -> Result<Vec<f64>> {
        let whole = |free: &[f64]| -> Vec<Vec<f64>> {
            let mut rest = free.iter();
            let mut row = |row: &Vec<f64>| {
                let moved = (&mut rest).take(row.len() - 1).copied();
                std::iter::once(row[0])
                    .chain(moved.collect::<Vec<_>>())
                    .collect()
            };
            start.iter().map(&mut row).collect()
        };
        let free: Vec<f64> = start.iter().flat_map(|row| row[1..].to_vec()).collect();
        if free.is_empty() {
            return Ok(start.concat());
        }
        let loss = |free: &[f64]| self.evaluate(&whole(free)).map_or(f64::MAX, |at| at.value);
        let found = minimise::kinked(loss, &free, 1.0)?;
        Ok(whole(&found.point).concat())
    }
}

/// A policy for people, one prompt after the other.
pub(crate) fn shown(policy: &Policy) -> String {
    let row = |row: &Vec<f64>| {
        let numbers: Vec<String> = row.iter().map(|p| format!("{p:.3}")).collect();
        format!("({})", numbers.join(", "))
    };
    let rows: Vec<String> = policy.probabilities().iter().map(row).collect();
    rows.join(" ")
}
