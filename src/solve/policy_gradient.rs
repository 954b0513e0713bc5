//! Policy gradient with a baseline on fixed laws: a field, not the gradient of a loss.
//!
//! The expected update of a prompt's logits is
//! `F_a = m_a (R_β(a) − b) − π_a S`, `S = Σ_c m_c (R_β(c) − b)`, `m = μ₁ + μ₂`.

use super::answer::{by_prompt, few_flows};
use super::exact::{Exact, Known, Start};
use super::flow::{
    Course, Motion, Settled, around, centre, ends_elsewhere, fade, follow, low_rank, settle,
};
use super::graph::arm_list;
use super::update::{Place, scaled};
use super::{FixedPoint, Part, Rest, largest, log_softmax};
use crate::backend::nd::sigmoid;
use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence, log_sum_exp};
use crate::error::{Error, Result};
use crate::loss::{Baseline, Given, Objective};

/// How a limit was found that no closed form gives. Whether it is the only one was tried from
/// other starts, not proved.
const FLOW: &str = "gradient flow from the reference, Newton polish";

/// What is said where the flow from the reference comes to no rest: it may go round for ever, or be too
/// slow to be followed to its end.
pub(super) const UNRESTED: &str =
    "no limit found: gradient flow from the reference came to no rest";

/// Most arms for which gradient flow is followed.
pub const FLOW_CAP: usize = 20_000;

/// The field of the baseline that the loss itself says.
struct Surrogate(Objective);

pub(super) const EXACT: &Known = &[
    (Objective::PG_ZERO, &Surrogate(Objective::PG_ZERO)),
    (Objective::PG_VALUE, &Surrogate(Objective::PG_VALUE)),
    (
        Objective::PG_SOFT_VALUE,
        &Surrogate(Objective::PG_SOFT_VALUE),
    ),
    (Objective::PG, &Surrogate(Objective::PG)),
];

impl Surrogate {
    fn baseline(&self, given: &Given) -> Result<Baseline> {
        let bound = self.0.bind(given)?;
        Ok(bound.baseline().cloned().unwrap_or(Baseline::Given(0.0)))
    }
}

impl Exact for Surrogate {
    fn fixed_point(
        &self,
        objective: Objective,
        problem: &Problem,
        evidence: &Evidence,
    ) -> Result<FixedPoint> {
        let baseline = self.baseline(&problem.given())?;
        // Each of its prompts takes a flow.
        if baseline == Baseline::Value {
            few_flows(problem, problem.prompts().len())?;
        }
        by_prompt(objective, problem, evidence, |x, prompt, share| {
            limit(x, prompt, share, problem.beta(), &baseline)
        })
    }

    fn gradient(&self, place: Place<'_>, table: &[f64]) -> Result<Vec<f64>> {
        let own = Given::from(place.beta);
        let baseline = self.baseline(place.given.unwrap_or(&own))?;
        let log_policy = log_softmax(table);
        let Place {
            x,
            prompt,
            share,
            beta,
            ..
        } = place;
        let update = update(x, prompt, share, beta, &baseline, &log_policy)?;
        Ok(scaled(-1.0, update))
    }

    fn at_reference(&self, _: &Start<'_>) -> Option<f64> {
        None
    }
}

/// The flow's limit for one prompt.
///
/// * `b = E_ν[R_β]` for any law ν, π included, when the laws cover the arms: π*.
/// * `b = E_π[R_β]` when they leave out one arm: π* all the same. With `u = ln π/π*`, the update is
///   `F = −β H u`, `H = Σ_a m_a (e_a − π)(e_a − π)ᵀ`: `‖u‖²` falls (constants aside) until u is the
///   same on all arms with `m_a > 0` and equal to its mean under π, so on the arm left out, too.
/// * A number `b ≤ V*` (of the covered arms): the unique stationary point,
///   `π_a = (m_a β/S)·W(S π_ref(a) e^{(R(a) − b)/β}/(m_a β))` with S ≥ 0 such that `Σ π = 1`.
/// * Otherwise: gradient flow from the reference, polished by Newton; other starts are tried to see
///   whether it is the only limit.
///
/// # Errors
/// A baseline law that does not fit the problem, or flow over more than 20,000 arms.
pub fn limit(
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
    baseline: &Baseline,
) -> Result<Part> {
    let field = Field::new(x, prompt, share, beta, baseline)?;
    let uncovered = share.unseen();
    let covered_note = |what: &str| {
        let arms = arm_list(&uncovered, prompt.kept());
        format!("no response ever shows arms {arms}: {what}")
    };
    let unknown = |a: &&usize| share.reward[**a].is_nan();
    if let (Baseline::Value | Baseline::SoftValue, Some(&a)) =
        (baseline, uncovered.iter().find(unknown))
    {
        return Err(Error::invalid(
            format!("prompts[{x}].reward"),
            format!(
                "arm {} was never logged with a reward, and the baseline is an expectation over all arms",
                prompt.kept()[a]
            ),
            "give the problem rewards, or choose pg-zero",
        ));
    }
    let optimal = match baseline {
        Baseline::SoftValue => uncovered.len() <= 1,
        Baseline::SoftValueUnder(_) => uncovered.is_empty(),
        _ => false,
    };
    // Whose rewards the baseline takes for arms that a log does not hold.
    let lent = share.seen.is_some() && !matches!(baseline, Baseline::Given(_));
    const LENT: &str = "the baseline takes the problem's rewards for them";
    match baseline {
        _ if optimal => {
            let (_, log_policy) = seen(prompt, share).optimum(beta);
            let mut said = vec!["the baseline brings them to π*"];
            said.extend(lent.then_some(LENT));
            Ok(Part {
                residual: largest(field.update(&log_policy)),
                log_policy: Some(log_policy),
                method: "closed form",
                unique: true,
                rest: Rest::Stable,
                error: None,
                note: (!uncovered.is_empty()).then(|| covered_note(&said.join("; "))),
            })
        }
        Baseline::Given(b) if field.reach() >= *b => {
            let log_policy = frozen(&field, *b);
            Ok(Part {
                residual: largest(field.update(&log_policy)),
                log_policy: Some(log_policy),
                method: "root of Σπ = 1 over Lambert's W",
                unique: true,
                rest: if uncovered.is_empty() {
                    Rest::Stable
                } else {
                    Rest::Boundary
                },
                error: None,
                note: (!uncovered.is_empty()).then(|| covered_note("their probability goes to 0")),
            })
        }
        _ if prompt.arms() > FLOW_CAP => Err(Error::TooLarge {
            what: "gradient flow",
            cap: FLOW_CAP,
            prompt: x,
            arms: prompt.arms(),
        }),
        _ => {
            let start = prompt.log_reference.clone();
            let Settled { end, rest, error } =
                settle(&field, start, uncovered.is_empty(), |point| {
                    let mut point = point.to_vec();
                    fade(&mut point, &prompt.log_reference, &uncovered).then_some(point)
                });
            let (log_policy, rests) = (end.point, end.rests);
            if !rests {
                return Ok(Part::none("gradient flow from the reference", UNRESTED));
            }
            let residual = largest(field.update(&log_policy));
            let mut unique = rest != Rest::Neutral;
            let mut said: Vec<&str> = Vec::new();
            if !uncovered.is_empty() {
                said.push(match rest {
                    Rest::Boundary => "their probability goes to 0",
                    Rest::Neutral => "the limit depends on the path",
                    _ => "what the others leave is theirs",
                });
                said.extend(lent.then_some(LENT));
            }
            if unique && field.another_limit(&log_policy) {
                unique = false;
                said.push("gradient flow from other starts ends elsewhere");
            }
            let note = (!said.is_empty()).then(|| {
                let what = format!("{}; shown is its limit from the reference", said.join("; "));
                if uncovered.is_empty() {
                    what
                } else {
                    covered_note(&what)
                }
            });
            Ok(Part {
                residual,
                log_policy: Some(log_policy),
                method: FLOW,
                unique,
                rest,
                error,
                note,
            })
        }
    }
}

/// `F`, the expected update of one prompt's logits at a normalised `ln π`.
///
/// # Errors
/// A baseline law that does not fit the problem.
pub fn update(
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
    baseline: &Baseline,
    log_policy: &[f64],
) -> Result<Vec<f64>> {
    let field = Field::new(x, prompt, share, beta, baseline)?;
    Ok(field.update(log_policy))
}

/// The prompt with the rewards that were seen.
fn seen(prompt: &Prompt, share: &PromptEvidence) -> Prompt {
    let mut prompt = prompt.clone();
    prompt.reward.clone_from(&share.reward);
    prompt
}

pub(super) struct Field<'a> {
    prompt: &'a Prompt,
    share: &'a PromptEvidence,
    beta: f64,
    baseline: &'a Baseline,
    x: usize,
}

impl Motion for Field<'_> {
    type Local = Local;

    fn local(&self, point: &[f64]) -> Local {
        Field::local(self, point)
    }

    fn update<'a>(&self, at: &'a Local) -> &'a [f64] {
        &at.update
    }

    fn step(&self, at: &Local, h: f64) -> Option<Vec<f64>> {
        self.solve(at, 1.0 / h, &at.update)
    }

    fn settle(&self, point: Vec<f64>) -> Vec<f64> {
        log_softmax(&point)
    }

    fn centre(&self, difference: &mut [f64]) {
        centre(difference);
    }

    fn scale(&self, point: &[f64]) -> f64 {
        Field::scale(self, point)
    }
}

/// The field and what its Jacobian is made of.
pub(super) struct Local {
    /// F.
    pub update: Vec<f64>,
    /// π.
    pub policy: Vec<f64>,
    /// S.
    pub sum: f64,
    /// ∂b/∂θ.
    slope: Vec<f64>,
}

impl<'a> Field<'a> {
    pub(super) fn new(
        x: usize,
        prompt: &'a Prompt,
        share: &'a PromptEvidence,
        beta: f64,
        baseline: &'a Baseline,
    ) -> Result<Self> {
        if let Baseline::SoftValueUnder(laws) = baseline {
            Baseline::law(laws, x, prompt.arms())?;
        }
        Ok(Self {
            prompt,
            share,
            beta,
            baseline,
            x,
        })
    }

    /// The field under a number as the baseline.
    pub(super) fn given(
        prompt: &'a Prompt,
        share: &'a PromptEvidence,
        beta: f64,
        baseline: &'a Baseline,
    ) -> Self {
        Self {
            prompt,
            share,
            beta,
            baseline,
            x: 0,
        }
    }

    fn responses(&self) -> &[f64] {
        &self.share.responses
    }

    /// The baseline; its law was checked when the field was made.
    fn baseline_at(&self, log_policy: &[f64]) -> f64 {
        let (reference, reward) = (&self.prompt.log_reference, &self.share.reward);
        (self.baseline)
            .at(self.x, log_policy, reference, reward, self.beta)
            .unwrap_or(f64::NAN)
    }

    /// `β ln Σ π_ref e^{R/β}` over the arms that responses show.
    fn reach(&self) -> f64 {
        let shown = || (0..self.prompt.arms()).filter(|&a| self.responses()[a] > 0.0);
        let top = shown().fold(f64::NEG_INFINITY, |top, a| top.max(self.share.reward[a]));
        let covered: Vec<f64> = shown()
            .map(|a| self.prompt.log_reference[a] + (self.share.reward[a] - top) / self.beta)
            .collect();
        top + self.beta * log_sum_exp(&covered)
    }

    pub(super) fn local(&self, log_policy: &[f64]) -> Local {
        let policy: Vec<f64> = log_policy.iter().map(|l| l.exp()).collect();
        let reward = &self.share.reward;
        let regularised: Vec<f64> = (reward
            .iter()
            .zip(log_policy)
            .zip(&self.prompt.log_reference))
        .map(|((r, l), reference)| r - self.beta * (l - reference))
        .collect();
        let b = self.baseline_at(log_policy);
        let weighed = |of: &[f64]| -> Vec<f64> {
            (policy.iter().zip(of))
                .map(|(&p, v)| if p > 0.0 { p * (v - b) } else { 0.0 })
                .collect()
        };
        let slope = match self.baseline {
            Baseline::Given(_) => vec![0.0; policy.len()],
            Baseline::Value => weighed(reward),
            Baseline::SoftValue => weighed(&regularised),
            Baseline::SoftValueUnder(laws) => laws[self.x]
                .iter()
                .zip(&policy)
                .map(|(q, p)| self.beta * (p - q))
                .collect(),
        };
        let pushes: Vec<f64> = (self.responses().iter().zip(&regularised))
            .map(|(&m, r)| if m > 0.0 { m * (r - b) } else { 0.0 })
            .collect();
        let sum: f64 = pushes.iter().sum();
        let update = pushes
            .iter()
            .zip(&policy)
            .map(|(f, p)| f - p * sum)
            .collect();
        Local {
            update,
            policy,
            sum,
            slope,
        }
    }

    /// The size of the terms that the update is made of, against which it counts as zero.
    pub(super) fn scale(&self, log_policy: &[f64]) -> f64 {
        let b = self.baseline_at(log_policy);
        let terms = self
            .responses()
            .iter()
            .zip(&self.share.reward)
            .filter(|(m, _)| **m > 0.0)
            .map(|(m, r)| m * (r - b));
        largest(terms) + self.beta
    }

    pub(super) fn update(&self, log_policy: &[f64]) -> Vec<f64> {
        self.local(log_policy).update
    }

    /// `J = −diag(d) + l₀r₀ᵀ + l₁r₁ᵀ`: `d = βm + Sπ`, `l₀ = m − Mπ`, `r₀ = βπ − ∂b`, `l₁ = π`,
    /// `r₁ = Sπ + βm`, with `M = Σ m`.
    fn parts(&self, at: &Local) -> (Vec<f64>, [Vec<f64>; 2], [Vec<f64>; 2]) {
        let m = self.responses();
        let total: f64 = m.iter().sum();
        let both = |of: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            m.iter().zip(&at.policy).map(|(&m, &p)| of(m, p)).collect()
        };
        let pull = both(&|m, p| self.beta * m + at.sum * p);
        let slope = (at.policy.iter().zip(&at.slope))
            .map(|(p, s)| self.beta * p - s)
            .collect();
        let left = [both(&|m, p| m - total * p), at.policy.clone()];
        (pull.clone(), left, [slope, pull])
    }

    /// Solves `(k I − J) x = f`.
    pub(super) fn solve(&self, at: &Local, k: f64, f: &[f64]) -> Option<Vec<f64>> {
        let (mut diagonal, left, right) = self.parts(at);
        diagonal.iter_mut().for_each(|d| *d += k);
        low_rank(&diagonal, &left, &right, f)
    }

    /// Where gradient flow from `start` comes to rest.
    pub(super) fn flow(&self, start: Vec<f64>) -> Vec<f64> {
        follow(self, start, Course::Basin).point
    }

    /// Whether flow from some random start ends elsewhere than at `log_policy`.
    fn another_limit(&self, log_policy: &[f64]) -> bool {
        // From near the reference to near the corners of the simplex.
        let start = |i: u64, draw: &mut dyn FnMut() -> f64| {
            around(&self.prompt.log_reference, 1.0 + 2.0 * i as f64, draw)
        };
        ends_elsewhere(self, log_policy, start, log_softmax)
    }
}

/// The stationary point under a constant baseline `b` that the covered arms reach:
/// `ln π_a = ln(m_a β) − s + ln ω_a`, where `ω + ln ω = s + ln π_ref(a) + (R(a) − b)/β − ln(m_a β)`
/// and `s = ln S` is such that `Σ π = 1`.
fn frozen(field: &Field, b: f64) -> Vec<f64> {
    let beta = field.beta;
    let arms: Vec<(f64, f64)> = (0..field.prompt.arms())
        .map(|a| {
            let mass = (field.responses()[a] * beta).ln();
            (
                mass,
                field.prompt.log_reference[a] + (field.share.reward[a] - b) / beta,
            )
        })
        .collect();
    // ln π_a and −∂ ln π_a/∂s = ω/(1 + ω). Where S is tiny, ω is too, and π is the tilted reference.
    let at = |s: f64| -> (Vec<f64>, f64, f64) {
        let mut slopes = Vec::with_capacity(arms.len());
        let log_policy: Vec<f64> = (arms.iter())
            .map(|&(mass, tilted)| {
                if mass == f64::NEG_INFINITY {
                    slopes.push(0.0);
                    return mass;
                }
                let log_omega = log_wright_omega(s + tilted - mass);
                slopes.push(sigmoid(log_omega));
                if log_omega < 0.0 {
                    tilted - log_omega.exp()
                } else {
                    mass - s + log_omega
                }
            })
            .collect();
        let excess = log_sum_exp(&log_policy);
        let slope = (log_policy.iter().zip(&slopes))
            .map(|(l, s)| (l - excess).exp() * s)
            .sum();
        (log_policy, excess, slope)
    };
    // ln Σπ falls in s, from (V* − b)/β ≥ 0 at −∞: Newton inside a bracket, halved when it leaves.
    let (mut low, mut high) = (-800.0, 0.0);
    if at(low).1 <= 0.0 {
        return log_softmax(&at(low).0);
    }
    while at(high).1 > 0.0 {
        (low, high) = (high, 2.0 * high + 1.0);
    }
    let mut s = high;
    for _ in 0..200 {
        let (log_policy, excess, slope) = at(s);
        if excess > 0.0 {
            low = s
        } else {
            high = s
        }
        let newton = s + excess / slope;
        let next = if newton > low && newton < high {
            newton
        } else {
            0.5 * (low + high)
        };
        if (next - s).abs() <= 2e-16 * s.abs().max(1.0) {
            return log_softmax(&log_policy);
        }
        s = next;
    }
    log_softmax(&at(s).0)
}

/// `ln ω(z)`, where ω is Wright's: `ω + ln ω = z`, so `ω(ln x)` is Lambert's `W(x)`.
pub(super) fn log_wright_omega(z: f64) -> f64 {
    // With y = ln ω: eʸ + y = z, convex and increasing, so Newton from the right never overshoots.
    let mut y = if z > 1.0 { z.ln() } else { z };
    for _ in 0..60 {
        let e = y.exp();
        let next = y - (e + y - z) / (e + 1.0);
        if (next - y).abs() <= 1e-16 * y.abs().max(1e-3) {
            return next;
        }
        y = next;
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandit::{Evidence, Shape, random_problem};
    use crate::loss::InputKind;

    /// A step solves `(I/h − J) x = F`, J being the derivative of F, for every baseline, densely and
    /// by rank two.
    #[test]
    fn steps_are_linearly_implicit() {
        for arms in [4, super::super::flow::DENSE + 6] {
            let shape = Shape {
                prompts: 1,
                arms,
                beta: 0.7,
                reward_scale: 1.0,
            };
            let problem = random_problem(shape, 21).unwrap();
            let population = Evidence::population(&problem);
            let share = &population.of(InputKind::Singles).unwrap().prompts[0];
            let law = random_problem(shape, 22).unwrap().prompts()[0]
                .law
                .marginals()
                .0;
            for baseline in [
                Baseline::Given(0.3),
                Baseline::Value,
                Baseline::SoftValue,
                Baseline::SoftValueUnder(vec![law]),
            ] {
                let field = Field::new(0, &problem.prompts()[0], share, 0.7, &baseline).unwrap();
                let theta: Vec<f64> = (0..arms).map(|a| (a as f64 * 0.7).sin()).collect();
                let (h, eps) = (3.0, 1e-5);
                let x = field.step(&field.local(&log_softmax(&theta)), h).unwrap();
                let moved = |sign: f64| -> Vec<f64> {
                    let at: Vec<f64> = theta
                        .iter()
                        .zip(&x)
                        .map(|(t, x)| t + sign * eps * x)
                        .collect();
                    field.update(&log_softmax(&at))
                };
                let (ahead, behind) = (moved(1.0), moved(-1.0));
                let update = field.update(&log_softmax(&theta));
                for a in 0..arms {
                    let along = (ahead[a] - behind[a]) / (2.0 * eps);
                    let error = x[a] / h - along - update[a];
                    assert!(error.abs() < 1e-8, "{arms} arms, {baseline:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn wright_omega_satisfies_its_equation() {
        for z in [
            -800.0, -50.0, -1.0, -1e-9, 0.0, 0.5, 1.0, 1.5, 3.0, 100.0, 1e7,
        ] {
            let y = log_wright_omega(z);
            // The residual over the slope is the error in y.
            let error = (y.exp() + y - z) / (y.exp() + 1.0);
            assert!(error.abs() <= 4e-16 * y.abs().max(1.0), "{z}: {y}");
        }
        // W(1), the omega constant.
        assert!((log_wright_omega(0.0).exp() - 0.567_143_290_409_783_8).abs() < 1e-15);
    }
}
