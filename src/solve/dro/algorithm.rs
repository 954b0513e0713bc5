//! DRO's Algorithm 1, whose two updates are not the gradient of one loss unless its ℓ₂ coefficient is
//! right.

use super::value_of;
use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence};
use crate::error::{Error, Result};
use crate::loss::{Baseline, InputKind};
use crate::solve::answer::few_flows;
use crate::solve::flow::{Motion, Settled, centre, ends_elsewhere, fade, settle};
use crate::solve::graph::arm_list;
use crate::solve::log_softmax;
use crate::solve::policy_gradient::{FLOW_CAP, Field, Local};
use crate::solve::{FixedPoint, Part, Rest, assemble, larger, largest};

/// The limit of Algorithm 1 as printed: [`algorithm_1`] with an ℓ₂ coefficient of ½, λ = 1.
///
/// Dividing eq. 8 by τ leaves τ/2 there, so the printed line is right at τ = 1 only: below, it is
/// biased; above, it has in general no limit.
///
/// # Errors
/// As [`algorithm_1`].
pub fn algorithm_1_as_printed(problem: &Problem, evidence: &Evidence) -> Result<FixedPoint> {
    algorithm_1(problem, evidence, 1.0)
}

/// The limit of Algorithm 1 with `λ/2` before its ℓ₂ term, for a table of logits and one of values
/// at one learning rate:
///
/// `θ̇ = E_μ̄[(R − V − λu) ∇ln π]`, `V̇ = E_μ̄[R − τu] − V`.
///
/// * It rests where `μ̄ (R − V − λu) = π S'`, S' the sum of the left side, and `V = E_μ̄[R − τu]`; for
///   λ = τ that is (π\*, V\*) where responses show every arm.
/// * Otherwise found by joint flow from the reference and its value `E_μ̄ R` (so that the answer does not depend
///   on a constant in the rewards), Newton polish. Other starts, V = 0 among them, are tried.
/// * Where responses show not every arm, rests are a continuum, and the joint flow's end is given with
///   its error.
/// * Whether the rest attracts is read off the eigenvalues of the joint Jacobian (up to 64 coordinates),
///   or found by pushing it.
/// * Where `τ(1 − μ̄_k) > λ` for an arm k, policies far enough on it run off: with all others at
///   log-ratios of about −x the value follows to `τ(1 − μ̄_k) x` and pushes them at that less λx. Then
///   `unique` is false even if the reference comes to rest. As printed this begins at
///   `τ = 1/(1 − min μ̄)`; with λ = τ it never happens.
/// * No limit: `policy` is absent and a note says why (the flow runs off to infinity, or the point it
///   came to repels).
/// * Residual: the largest entry of both updates, ρ included.
///
/// # Errors
/// An ℓ₂ coefficient that is not positive and finite, or more than 20,000 arms.
pub fn algorithm_1(problem: &Problem, evidence: &Evidence, lambda: f64) -> Result<FixedPoint> {
    if !(lambda > 0.0 && lambda.is_finite()) {
        return Err(Error::invalid(
            "lambda",
            format!("the ℓ₂ coefficient is {lambda}"),
            "give a number greater than 0: 1 as printed, τ as it should be",
        ));
    }
    joint(problem, evidence, lambda, 1.0)
}

/// The limit of DRO-V (eq. 4), for a table of logits and one of values at one learning rate: that of
/// [`algorithm_1`] with λ = τ whose policy moves τ times as fast. Where responses show every arm both
/// end at (π\*, V\*); where not, at different members of one continuum.
///
/// # Errors
/// As [`algorithm_1`].
pub fn joint_regression(problem: &Problem, evidence: &Evidence) -> Result<FixedPoint> {
    joint(problem, evidence, problem.beta(), problem.beta())
}

fn joint(problem: &Problem, evidence: &Evidence, lambda: f64, pace: f64) -> Result<FixedPoint> {
    let view = evidence.of(InputKind::Singles)?;
    if lambda != problem.beta() {
        few_flows(problem, problem.prompts().len())?;
    }
    // A prompt without examples keeps its first value, of no response.
    let mut values = vec![0.0; problem.prompts().len()];
    let mut point = assemble(problem, view, |x, prompt, share| {
        let pair = Pair {
            prompt,
            share,
            tau: problem.beta(),
            lambda,
            pace,
        };
        let (part, value) = pair.limit(x)?;
        values[x] = value;
        Ok(part)
    })?;
    point.value = point.policy.is_some().then_some(values);
    point.sound(problem)
}

/// The joint motion of a prompt's logits and, last, its value.
struct Pair<'a> {
    prompt: &'a Prompt,
    share: &'a PromptEvidence,
    tau: f64,
    lambda: f64,
    /// How many times as fast as the algorithm's the policy moves.
    pace: f64,
}

struct At {
    value: f64,
    logits: Local,
    update: Vec<f64>,
}

impl Pair<'_> {
    fn limit(&self, x: usize) -> Result<(Part, f64)> {
        let n = self.prompt.arms();
        let unseen = self.share.unseen();
        if self.lambda == self.tau && unseen.is_empty() {
            return Ok(self.optimum());
        }
        if n > FLOW_CAP {
            return Err(Error::TooLarge {
                what: "DRO's joint flow",
                cap: FLOW_CAP,
                prompt: x,
                arms: n,
            });
        }
        Ok(self.flow(&unseen))
    }

    /// (π*, V*) of the rewards seen.
    fn optimum(&self) -> (Part, f64) {
        let mut seen = self.prompt.clone();
        seen.reward.clone_from(&self.share.reward);
        let (value, log_policy) = seen.optimum(self.tau);
        let mut point = log_policy.clone();
        point.push(value);
        let part = Part {
            residual: largest(self.local(&point).update),
            log_policy: Some(log_policy),
            method: "closed form",
            unique: true,
            rest: Rest::Stable,
            error: None,
            note: None,
        };
        (part, value)
    }

    fn flow(&self, unseen: &[usize]) -> (Part, f64) {
        let n = self.prompt.arms();
        let start = self.start(0.0, |_| 0.0);
        let Settled { end, rest, error } = settle(self, start, unseen.is_empty(), |point| {
            let (mut log_policy, value) = split(point);
            let reference = &self.prompt.log_reference;
            fade(&mut log_policy, reference, unseen).then(|| {
                log_policy.push(value);
                log_policy
            })
        });
        let none = |note: &str| Part::none("joint flow from the reference", note);
        if end.decided {
            let (value, top) = (end.point[n], most_likely(&end.point[..n]));
            let note = format!(
                "no limit: the flow runs off, V → {}∞ and the policy onto arm {}",
                if value > 0.0 { "+" } else { "−" },
                self.prompt.kept()[top]
            );
            return (none(&note), f64::NAN);
        }
        if !end.rests {
            return (none("no limit found: the flow came to no rest"), f64::NAN);
        }
        if rest == Rest::Repelling {
            return (
                none("no limit: the point at which the updates vanish repels"),
                f64::NAN,
            );
        }
        let (log_policy, value) = split(&end.point);
        let rarest = (self.share.responses.iter()).fold(1.0, |least: f64, m| least.min(m / 2.0));
        let escapes = n > 1 && self.tau * (1.0 - rarest) > self.lambda;
        let elsewhere = rest != Rest::Neutral && !escapes && self.another_end(&end.point);
        let note = if !unseen.is_empty() {
            let what = match rest {
                Rest::Boundary => "their probability goes to 0",
                Rest::Neutral => "the limit depends on the path",
                _ => "what the others leave is theirs",
            };
            Some(format!(
                "no response ever shows arms {}: {what}; shown is the limit of the joint gradient flow of \
                 logits and value, at one learning rate, from the reference and its value E[R]",
                arm_list(unseen, self.prompt.kept())
            ))
        } else if escapes {
            Some("the flow from policies far enough on a rare arm runs off to infinity; shown is its limit from the reference and its value".into())
        } else if elsewhere {
            Some("the flow from other starts ends elsewhere; shown is its limit from the reference and its value".into())
        } else {
            None
        };
        let part = Part {
            log_policy: Some(log_policy),
            method: if error.is_none() {
                "joint flow from the reference, Newton polish"
            } else {
                "joint flow of logits and value from the reference"
            },
            residual: end.size,
            unique: rest != Rest::Neutral && !elsewhere && !escapes,
            rest,
            error,
            note,
        };
        (part, value)
    }

    /// The reference moved by `by`, and its value moved by `aside`.
    fn start(&self, aside: f64, by: impl FnMut(&f64) -> f64) -> Vec<f64> {
        let reference = &self.prompt.log_reference;
        let mut point: Vec<f64> = (reference.iter().map(by))
            .zip(reference)
            .map(|(d, l)| l + d)
            .collect();
        point.push(value_of(self.prompt, self.share, self.tau, reference) + aside);
        point
    }

    /// Whether the flow from some other start ends at another rest, or at none.
    fn another_end(&self, point: &[f64]) -> bool {
        let reference = &self.prompt.log_reference;
        let zero = -value_of(self.prompt, self.share, self.tau, reference);
        let start = |i: u64, draw: &mut dyn FnMut() -> f64| {
            let mut draw = || 2.0 * i as f64 * draw();
            let aside = if i == 0 { zero } else { self.tau * draw() };
            self.start(aside, |_| draw())
        };
        ends_elsewhere(self, &split(point).0, start, |point| split(point).0)
    }

    /// The logits move by `pace` times half of policy gradient's field at temperature λ with baseline V.
    fn field<T>(&self, value: f64, then: impl FnOnce(&Field) -> T) -> T {
        let baseline = Baseline::Given(value);
        then(&Field::given(
            self.prompt,
            self.share,
            self.lambda,
            &baseline,
        ))
    }

    /// `∂θ̇/∂V = pace (π − μ̄)` and `∂V̇/∂θ = τ(π − μ̄)`.
    fn coupling(&self, at: &At) -> (Vec<f64>, Vec<f64>) {
        let apart: Vec<f64> = (at.logits.policy.iter().zip(&self.share.responses))
            .map(|(p, m)| p - m / 2.0)
            .collect();
        let scaled = |by: f64| apart.iter().map(|c| by * c).collect();
        (scaled(self.pace), scaled(self.tau))
    }
}

/// ln π and V.
fn split(point: &[f64]) -> (Vec<f64>, f64) {
    let (logits, value) = point.split_at(point.len() - 1);
    (log_softmax(logits), value[0])
}

fn most_likely(log_policy: &[f64]) -> usize {
    (1..log_policy.len()).fold(0, |top, a| {
        if log_policy[a] > log_policy[top] {
            a
        } else {
            top
        }
    })
}

impl Motion for Pair<'_> {
    type Local = At;

    fn local(&self, point: &[f64]) -> At {
        let (log_policy, value) = split(point);
        let logits = self.field(value, |field| field.local(&log_policy));
        let mut update: Vec<f64> = (logits.update.iter())
            .map(|f| 0.5 * self.pace * f)
            .collect();
        update.push(value_of(self.prompt, self.share, self.tau, &log_policy) - value);
        At {
            value,
            logits,
            update,
        }
    }

    fn update<'a>(&self, at: &'a At) -> &'a [f64] {
        &at.update
    }

    fn step(&self, at: &At, h: f64) -> Option<Vec<f64>> {
        let (column, row) = self.coupling(at);
        // θ̇ is s/2 of the field, s the pace, and (I/h − sJ/2)⁻¹ = 2/s (2I/(sh) − J)⁻¹.
        let k = 2.0 / (self.pace * h);
        let levers: Vec<f64> = column.iter().map(|c| 2.0 / self.pace * c).collect();
        let (free, lever) = self.field(at.value, |field| {
            let free = field.solve(&at.logits, k, &at.logits.update)?;
            Some((free, field.solve(&at.logits, k, &levers)?))
        })?;
        let along = |x: &[f64]| -> f64 { row.iter().zip(x).map(|(r, x)| r * x).sum() };
        let own = at.update.last()?;
        let change = (own + along(&free)) / (1.0 / h + 1.0 - along(&lever));
        let mut step: Vec<f64> = (free.iter().zip(&lever))
            .map(|(x, y)| x + change * y)
            .collect();
        step.push(change);
        step.iter().all(|v| v.is_finite()).then_some(step)
    }

    /// Logits of mean 0 and not normalised: where the flow runs off, all of them then move, and steps
    /// stay long.
    fn settle(&self, mut point: Vec<f64>) -> Vec<f64> {
        self.centre(&mut point);
        point
    }

    fn centre(&self, difference: &mut [f64]) {
        let n = difference.len() - 1;
        centre(&mut difference[..n]);
    }

    fn scale(&self, point: &[f64]) -> f64 {
        let (log_policy, value) = split(point);
        let seen = self.field(value, |field| field.scale(&log_policy));
        let top = largest(
            (self.share.reward.iter().zip(&self.share.responses))
                .filter(|(_, m)| **m > 0.0)
                .map(|(r, _)| r - value),
        );
        larger(self.pace * seen, top) + self.tau
    }

    /// A flow that runs off does so exponentially, so a distance far beyond every number of the
    /// problem is soon reached.
    fn decided(&self, point: &[f64], _at: &At) -> bool {
        let n = self.prompt.arms();
        let start = self.start(0.0, |_| 0.0);
        let reach = 1e8
            * (1.0 + self.tau + self.lambda)
            * (1.0 + largest(start.iter().copied()) + self.scale(&start));
        (point[n] - start[n]).abs() > reach
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandit::{Shape, random_problem};
    use crate::solve::flow::tests::implicit_error;

    #[test]
    fn steps_are_linearly_implicit() {
        let shape = Shape {
            prompts: 1,
            arms: 4,
            beta: 0.7,
            reward_scale: 1.0,
        };
        let problem = random_problem(shape, 6).unwrap();
        let evidence = Evidence::population(&problem);
        let pair = Pair {
            prompt: &problem.prompts()[0],
            share: &evidence.of(InputKind::Singles).unwrap().prompts[0],
            tau: 0.7,
            lambda: 1.3,
            pace: 2.5,
        };
        let point: Vec<f64> = (0..5).map(|a| (a as f64 * 0.7).sin()).collect();
        let error = implicit_error(&pair, &point, 3.0);
        assert!(error < 1e-7, "{error}");
    }
}
