//! PPO's clipped surrogate on one prompt, in exact expectation (Schulman et al. 2017):
//!
//! `L(π) = E_{y ~ π_old} min(r A, clip(r, 1 − ε, 1 + ε) A)`, `r = π(y)/π_old(y)`.
//!
//! At π = π_old its gradient is the policy gradient, and a constant added to A changes nothing. Away
//! from there it does: what is above the baseline is held back at `r = 1 + ε` but not at `1 − ε`, and
//! what is below it the other way round. With all A > 0 every rise is capped; with all A < 0 none
//! is, and the surrogate's maximiser puts all mass that it can gain on one response.
//!
//! Responses of the two behaviour laws are drawn from their mean, with mass 2 like those of a policy gradient: the
//! population loss is `−2L`, with `A = R − β ln[π_old/π_ref] − b`.

use super::answer::by_prompt;
use super::exact::{Exact, Known, Start};
use super::update::{Place, through_softmax};
use super::{FixedPoint, Part, Rest};
use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence};
use crate::error::Result;
use crate::loss::ppo::Clip;
use crate::loss::{Given, Numbers, Objective};

/// Mass of single responses: both laws'.
const MASS: f64 = 2.0;

/// How near to a corner, relative to it, a probability is on it: it went through a logarithm.
const CORNER: f64 = 1e-12;

/// Probability that is left over by rounding.
const ROUNDING: f64 = 1e-14;

struct Clipped;

pub(super) const EXACT: &Known = &[(Objective::PPO_CLIP, &Clipped)];

impl Exact for Clipped {
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        let numbers = Clip::read(&problem.given())?;
        by_prompt(objective, problem, evidence, |_, prompt, share| {
            Ok(fixed_point(prompt, share, &numbers))
        })
    }

    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        let own = Given::from(place.beta);
        let n = Clip::read(place.given.unwrap_or(&own))?;
        let (policy, _) = place.policy(table);
        let mut h = vec![0.0; policy.len()];
        for seen in responses(place.prompt, place.share, &n) {
            let ratio = policy[seen.arm] / seen.old;
            if active(ratio, seen.advantage, n.epsilon) {
                h[seen.arm] -= MASS * seen.share * ratio * seen.advantage;
            }
        }
        Ok(through_softmax(&policy, h))
    }

    fn at_reference(&self, start: &Start<'_>) -> Option<f64> {
        let n = Clip::read(&start.problem.given()).ok()?;
        let value = |prompt: &Prompt, share: &PromptEvidence| -> f64 {
            (responses(prompt, share, &n).iter())
                .map(|seen| {
                    let ratio = prompt.log_reference[seen.arm].exp() / seen.old;
                    -MASS * seen.share * clipped(ratio, seen.advantage, n.epsilon)
                })
                .sum()
        };
        Some(start.mean(value))
    }
}

/// A response with its advantage.
struct Seen {
    arm: usize,
    old: f64,
    advantage: f64,
    /// Its share of the prompt's responses.
    share: f64,
}

fn responses(prompt: &Prompt, share: &PromptEvidence, n: &Clip) -> Vec<Seen> {
    let law = share.mean_law();
    (share.shown().into_iter())
        .map(|(arm, reward, share)| {
            let arm = arm as usize;
            let penalty = n.beta * (law[arm].ln() - prompt.log_reference[arm]);
            Seen {
                arm,
                old: law[arm],
                advantage: reward - penalty - n.baseline,
                share,
            }
        })
        .collect()
}

/// The policies that one round of PPO leads to, π_old being the mean behaviour law: maximisers of the surrogate. Where
/// they are a face, the one that [`maximum`] fills is shown. The residual is the most that moving probability from one
/// response to another would gain, per unit of it.
fn fixed_point(prompt: &Prompt, share: &PromptEvidence, n: &Clip) -> Part {
    let mut slopes = vec![Slopes::default(); prompt.arms()];
    for seen in responses(prompt, share, n) {
        slopes[seen.arm].add(seen.share / seen.old * seen.advantage);
    }
    let old = share.mean_law();
    let reference: Vec<f64> = prompt.log_reference.iter().map(|l| l.exp()).collect();
    let (policy, only) = fill(&old, &slopes, n.epsilon, &reference);
    let log_policy: Vec<f64> = policy.iter().map(|p| p.ln()).collect();
    let steps = || (old.iter().zip(&slopes)).zip(log_policy.iter().map(|l| l.exp()));
    let gain = steps().map(|((old, s), p)| s.beside(ends(*old, n.epsilon), p, 1.0));
    let loss = (steps().filter(|(_, p)| *p > 0.0))
        .map(|((old, s), p)| s.beside(ends(*old, n.epsilon), p, -1.0));
    let residual = gain.fold(f64::NEG_INFINITY, f64::max) - loss.fold(f64::INFINITY, f64::min);
    Part {
        method: "steepest pieces of the surrogate first",
        residual: MASS * residual.max(0.0),
        unique: only,
        rest: match (only, policy.contains(&0.0)) {
            (false, _) => Rest::Neutral,
            (true, true) => Rest::Boundary,
            (true, false) => Rest::Stable,
        },
        log_policy: Some(log_policy),
        error: None,
        note: (!only).then(|| {
            "the surrogate's maximisers are a face, not a point: which of them is reached depends on the start; of the \
             steepest pieces that cannot all be filled each response has a like part in the one that is shown"
                .into()
        }),
    }
}

/// True if the surrogate has a slope at this ratio (on the edge of the clip it has the inner one).
pub fn active(ratio: f64, advantage: f64, epsilon: f64) -> bool {
    let past_above = advantage > 0.0 && ratio > 1.0 + epsilon;
    let past_below = advantage < 0.0 && ratio < 1.0 - epsilon;
    !past_above && !past_below
}

/// The surrogate at π.
pub fn surrogate(log_policy: &[f64], log_old: &[f64], advantage: &[f64], epsilon: f64) -> f64 {
    (log_policy.iter().zip(log_old).zip(advantage))
        .map(|((l, old), &a)| old.exp() * clipped((l - old).exp(), a, epsilon))
        .sum()
}

/// `min(r A, clip(r, 1 − ε, 1 + ε) A)`
fn clipped(ratio: f64, advantage: f64, epsilon: f64) -> f64 {
    (ratio * advantage).min(ratio.clamp(1.0 - epsilon, 1.0 + epsilon) * advantage)
}

/// Its gradient in ln π(y), each response on its own: `π(y) A(y)` where it is [`active`], else 0.
pub fn cotangent(log_policy: &[f64], log_old: &[f64], advantage: &[f64], epsilon: f64) -> Vec<f64> {
    (log_policy.iter().zip(log_old).zip(advantage))
        .map(|((l, old), &a)| {
            if active((l - old).exp(), a, epsilon) {
                l.exp() * a
            } else {
                0.0
            }
        })
        .collect()
}

/// Its gradient in tabular logits: `g(y) − π(y) Σ g`, g the [`cotangent`].
pub fn gradient(log_policy: &[f64], log_old: &[f64], advantage: &[f64], epsilon: f64) -> Vec<f64> {
    let each = cotangent(log_policy, log_old, advantage, epsilon);
    let sum: f64 = each.iter().sum();
    (each.iter().zip(log_policy))
        .map(|(g, l)| g - l.exp() * sum)
        .collect()
}

/// The largest value of the surrogate over all policies, and one that has it.
///
/// The surrogate is a concave function of each π(y) with one corner, so mass is handed out along
/// the steepest pieces first. Where A has both signs and `(1 + ε) π_old(A > 0) ≤ 1` the value is
/// `E_{π_old}[A] + ε E_{π_old}|A|`, and any policy past the clip on all sides has it.
pub fn maximum(old: &[f64], advantage: &[f64], epsilon: f64) -> (f64, Vec<f64>) {
    let slopes: Vec<Slopes> = advantage.iter().map(|&a| Slopes::of(a)).collect();
    let (policy, _) = fill(old, &slopes, epsilon, old);
    let log = |p: &[f64]| -> Vec<f64> { p.iter().map(|p| p.ln()).collect() };
    (
        surrogate(&log(&policy), &log(old), advantage, epsilon),
        policy,
    )
}

/// Slopes of the surrogate in one π(y): `rise + fall` within the clip, `rise` below it, `fall` above.
#[derive(Debug, Clone, Copy, Default)]
struct Slopes {
    /// The positive advantages of the response.
    rise: f64,
    /// The negative ones.
    fall: f64,
}

impl Slopes {
    fn of(advantage: f64) -> Self {
        let mut slopes = Self::default();
        slopes.add(advantage);
        slopes
    }

    fn add(&mut self, advantage: f64) {
        if advantage > 0.0 {
            self.rise += advantage;
        } else {
            self.fall += advantage;
        }
    }

    /// The slope next to a probability, above it (`side` 1) or below (−1); on a corner of the clip that of this side.
    fn beside(self, [low, high]: [f64; 2], probability: f64, side: f64) -> f64 {
        let at = probability * (1.0 + side * CORNER);
        if at < low {
            self.rise
        } else if at <= high {
            self.rise + self.fall
        } else {
            self.fall
        }
    }
}

/// The clip of π_old(y), as probabilities; of ε above 1 the lower end is 0.
fn ends(old: f64, epsilon: f64) -> [f64; 2] {
    [(old - epsilon * old).max(0.0), old + epsilon * old]
}

/// A policy of the largest surrogate, and whether it is the only one: probability is handed out along the steepest
/// pieces first. Of pieces that are equally steep those with an end come first; what is left goes to the others in
/// proportion to `open`.
fn fill(old: &[f64], slopes: &[Slopes], epsilon: f64, open: &[f64]) -> (Vec<f64>, bool) {
    // (slope, capacity, response)
    let mut pieces: Vec<(f64, f64, usize)> = Vec::new();
    for (y, (&old, s)) in old.iter().zip(slopes).enumerate() {
        let [low, high] = if old > 0.0 {
            ends(old, epsilon)
        } else {
            [0.0; 2]
        };
        // Where all advantages have one sign, the piece within the clip goes on beyond one of its ends.
        if s.fall == 0.0 {
            pieces.push((s.rise, high, y));
        } else if s.rise == 0.0 {
            pieces.push((0.0, low, y));
        } else {
            pieces.push((s.rise, low, y));
            pieces.push((s.rise + s.fall, high - low, y));
        }
        pieces.push((s.fall, f64::INFINITY, y));
    }
    pieces.retain(|(_, capacity, _)| *capacity > 0.0);
    pieces.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.total_cmp(&y.1)));
    let (mut left, mut policy, mut only) = (1.0f64, vec![0.0; old.len()], true);
    for level in pieces.chunk_by(|x, y| x.0 == y.0) {
        let ending = level.partition_point(|(_, capacity, _)| capacity.is_finite());
        let (ending, endless) = level.split_at(ending);
        let room: f64 = ending.iter().map(|(_, capacity, _)| capacity).sum();
        let part = (left / room).min(1.0);
        (ending.iter()).for_each(|&(_, capacity, y)| policy[y] += part * capacity);
        left = (left - room).max(0.0);
        if left > ROUNDING && !endless.is_empty() {
            let total: f64 = endless.iter().map(|&(.., y)| open[y]).sum();
            for &(.., y) in endless {
                let share = if total > 0.0 {
                    open[y] / total
                } else {
                    1.0 / endless.len() as f64
                };
                policy[y] += left * share;
            }
            left = 0.0;
        }
        if left <= ROUNDING {
            // What the level's responses got together may be shared otherwise, unless all of them are full or one
            // has it all.
            let full = part == 1.0 && endless.is_empty();
            only = full || level.iter().all(|&(.., y)| y == level[0].2);
            break;
        }
    }
    (policy, only)
}
