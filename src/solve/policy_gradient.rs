//! Policy gradient with a baseline on fixed laws: a field, not the gradient of a loss.
//!
//! The expected update of a prompt's logits is
//! `F_a = m_a (R_β(a) − b) − π_a S`, `S = Σ_c m_c (R_β(c) − b)`, `m = μ₁ + μ₂`.

use nalgebra::{DMatrix, DVector};

use super::graph::arm_list;
use super::{Part, largest, log_softmax};
use crate::backend::nd::sigmoid;
use crate::bandit::{Prompt, PromptEvidence, log_sum_exp};
use crate::error::{Error, Result};
use crate::loss::Baseline;
use crate::random::{Purpose, Stream};

/// Random starts, besides the reference, from which a second limit is looked for; fewer where
/// each takes long.
fn starts(arms: usize) -> u64 {
    if arms <= 1_000 { 12 } else { 3 }
}

/// How a limit was found that no closed form gives. Whether it is the only one was tried from
/// other starts, not proved.
const FLOW: &str = "gradient flow from the reference, Newton polish";

/// Most arms for which gradient flow is followed.
pub const FLOW_CAP: usize = 20_000;

/// The flow's limit for one prompt.
///
/// * `b = E_ν[R_β]` for any law ν, π included, when the laws cover the arms: π*.
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
    let uncovered: Vec<usize> = (0..prompt.arms())
        .filter(|&a| share.responses[a] == 0.0)
        .collect();
    let covered_note = |what: &str| {
        Some(format!(
            "no response ever shows arms {}: {what}",
            arm_list(&uncovered, prompt.kept())
        ))
    };
    match baseline {
        Baseline::SoftValue | Baseline::SoftValueUnder(_) if uncovered.is_empty() => {
            let (_, log_policy) = seen(prompt, share).optimum(beta);
            Ok(Part {
                residual: largest(field.update(&log_policy)),
                log_policy: Some(log_policy),
                method: "closed form",
                unique: true,
                note: None,
            })
        }
        Baseline::Given(b) if field.reach() >= *b => {
            let log_policy = frozen(&field, *b);
            Ok(Part {
                residual: largest(field.update(&log_policy)),
                log_policy: Some(log_policy),
                method: "root of Σπ = 1 over Lambert's W",
                unique: true,
                note: if uncovered.is_empty() {
                    None
                } else {
                    covered_note("their probability goes to 0")
                },
            })
        }
        _ if prompt.arms() > FLOW_CAP => Err(Error::TooLarge {
            what: "gradient flow",
            cap: FLOW_CAP,
            prompt: x,
            arms: prompt.arms(),
        }),
        _ => {
            let log_policy = log_softmax(&field.flow(prompt.log_reference.clone()));
            let residual = largest(field.update(&log_policy));
            // NaN is no convergence either.
            let converged = residual <= 1e-6 * field.scale(&prompt.log_reference);
            if !converged {
                return Ok(Part {
                    log_policy: Some(log_policy),
                    method: "gradient flow from the reference, not converged",
                    residual,
                    unique: false,
                    note: Some("gradient flow came to no rest; shown is where it stood".into()),
                });
            }
            let mut unique = uncovered.is_empty();
            let mut note = if uncovered.is_empty() {
                None
            } else {
                covered_note(
                    "the limit may depend on the path; shown is gradient flow from the reference",
                )
            };
            if unique && field.another_limit(&log_policy) {
                unique = false;
                note = Some(
                    "gradient flow from other starts ends elsewhere; shown is its limit from the reference".into(),
                );
            }
            Ok(Part {
                residual,
                log_policy: Some(log_policy),
                method: FLOW,
                unique,
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

struct Field<'a> {
    prompt: &'a Prompt,
    share: &'a PromptEvidence,
    beta: f64,
    baseline: &'a Baseline,
    x: usize,
}

/// The field and what its Jacobian is made of.
struct Local {
    update: Vec<f64>,
    policy: Vec<f64>,
    /// S.
    sum: f64,
    /// ∂b/∂θ.
    slope: Vec<f64>,
}

impl<'a> Field<'a> {
    fn new(
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
        let top = self
            .share
            .reward
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let covered: Vec<f64> = (0..self.prompt.arms())
            .filter(|&a| self.responses()[a] > 0.0)
            .map(|a| self.prompt.log_reference[a] + (self.share.reward[a] - top) / self.beta)
            .collect();
        top + self.beta * log_sum_exp(&covered)
    }

    fn local(&self, log_policy: &[f64]) -> Local {
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
    fn scale(&self, log_policy: &[f64]) -> f64 {
        let b = self.baseline_at(log_policy);
        let terms = self
            .responses()
            .iter()
            .zip(&self.share.reward)
            .map(|(m, r)| m * (r - b));
        largest(terms) + self.beta
    }

    fn update(&self, log_policy: &[f64]) -> Vec<f64> {
        self.local(log_policy).update
    }

    /// `(I/h − J)⁻¹ F`: one linearly implicit step of gradient flow, Newton's as h → ∞.
    ///
    /// `J = −diag(βm + Sπ) + (m − Mπ)(βπ − ∂b)ᵀ + π(Sπ + βm)ᵀ` with `M = Σ m`.
    fn step(&self, at: &Local, h: f64) -> Option<Vec<f64>> {
        let n = at.policy.len();
        let m = self.responses();
        let total: f64 = m.iter().sum();
        let diagonal: Vec<f64> = (m.iter().zip(&at.policy))
            .map(|(m, p)| 1.0 / h + self.beta * m + at.sum * p)
            .collect();
        let left: [Vec<f64>; 2] = [
            m.iter()
                .zip(&at.policy)
                .map(|(m, p)| m - total * p)
                .collect(),
            at.policy.clone(),
        ];
        let right: [Vec<f64>; 2] = [
            at.policy
                .iter()
                .zip(&at.slope)
                .map(|(p, s)| self.beta * p - s)
                .collect(),
            m.iter()
                .zip(&at.policy)
                .map(|(m, p)| at.sum * p + self.beta * m)
                .collect(),
        ];
        let solution = if n <= DENSE {
            let matrix = DMatrix::from_fn(n, n, |a, c| {
                let low_rank = left[0][a] * right[0][c] + left[1][a] * right[1][c];
                if a == c {
                    diagonal[a] - low_rank
                } else {
                    -low_rank
                }
            });
            let solved = matrix.lu().solve(&DVector::from_column_slice(&at.update))?;
            solved.as_slice().to_vec()
        } else {
            woodbury(&diagonal, &left, &right, &at.update)?
        };
        solution.iter().all(|v| v.is_finite()).then_some(solution)
    }

    /// Follows `θ̇ = F(θ)` to rest by adaptive linearly implicit steps, whose length grows without
    /// bound as the motion dies out, so that the last ones are Newton's.
    fn flow(&self, start: Vec<f64>) -> Vec<f64> {
        /// Error allowed in a logit per step: enough to stay in the basin of attraction.
        const TOLERANCE: f64 = 1e-4;
        let start = log_softmax(&start);
        let mut theta = start.clone();
        let mut at = self.local(&theta);
        let scale = self.scale(&theta);
        let mut h = 0.01 / scale;
        let mut best = (largest(at.update.iter().copied()), theta.clone());
        let mut stalled = 0;
        for _ in 0..20_000 {
            // One step of h against two of h/2; their difference is the error, and extrapolating
            // them makes the step second order.
            let attempt = || -> Option<(Vec<f64>, f64)> {
                let whole = self.step(&at, h)?;
                let half = self.step(&at, h / 2.0)?;
                let middle = log_softmax(&add(&theta, &half));
                let rest = self.step(&self.local(&middle), h / 2.0)?;
                let fine = add(&half, &rest);
                let spread = (fine.iter().zip(&whole)).map(|(f, w)| f - w);
                let mean = spread.clone().sum::<f64>() / fine.len() as f64;
                // Relative to how far a logit has come, which at low temperatures is R/β.
                let error = (spread.zip(&theta).zip(&start))
                    .map(|((d, t), s)| (d - mean).abs() / (1.0 + 10.0 * (t - s).abs()))
                    .fold(0.0, f64::max);
                let moved: Vec<f64> = fine.iter().zip(&whole).map(|(f, w)| 2.0 * f - w).collect();
                Some((log_softmax(&add(&theta, &moved)), error))
            };
            let Some((moved, error)) = attempt() else {
                h /= 4.0;
                continue;
            };
            if error > TOLERANCE {
                h *= (0.8 * (TOLERANCE / error).sqrt()).max(0.1);
                continue;
            }
            theta = moved;
            at = self.local(&theta);
            let size = largest(at.update.iter().copied());
            if size < best.0 {
                stalled = 0;
                best = (size, theta.clone());
            } else {
                stalled += 1;
            }
            // Rounding is reached: the update no longer shrinks although the steps are long.
            if size == 0.0 || (stalled >= 8 && size <= 1e-10 * scale) {
                break;
            }
            let growth = 0.8 * (TOLERANCE / error.max(1e-300)).sqrt();
            h = (h * growth.clamp(0.3, 4.0)).min(1e14 / scale);
        }
        best.1
    }

    /// Whether flow from some random start ends elsewhere than at `log_policy`.
    fn another_limit(&self, log_policy: &[f64]) -> bool {
        (0..starts(log_policy.len())).any(|i| {
            let mut stream = Stream::new(0, Purpose::Start, i);
            // From near the reference to near the corners of the simplex.
            let spread = 1.0 + 2.0 * i as f64;
            let start = (self.prompt.log_reference.iter())
                .map(|l| l + spread * (2.0 * stream.uniform() - 1.0))
                .collect();
            let end = log_softmax(&self.flow(start));
            // Only a point at rest counts: a start that has not arrived yet is no second limit.
            let update = self.update(&end);
            let rests = largest(update) <= 1e-9 * self.scale(&end);
            let apart = (end.iter().zip(log_policy))
                .map(|(a, b)| (a.exp() - b.exp()).abs())
                .fold(0.0, f64::max);
            rests && apart > 1e-6
        })
    }
}

/// Up to this many arms the linear systems are dense, beyond it diagonal plus rank two.
const DENSE: usize = 64;

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Solves `(D − l₀r₀ᵀ − l₁r₁ᵀ) x = f`.
fn woodbury(
    diagonal: &[f64],
    left: &[Vec<f64>; 2],
    right: &[Vec<f64>; 2],
    f: &[f64],
) -> Option<Vec<f64>> {
    let over = |v: &[f64]| -> Vec<f64> { v.iter().zip(diagonal).map(|(v, d)| v / d).collect() };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let (l0, l1, f) = (over(&left[0]), over(&left[1]), over(f));
    let (a, b) = (1.0 - dot(&right[0], &l0), -dot(&right[0], &l1));
    let (c, d) = (-dot(&right[1], &l0), 1.0 - dot(&right[1], &l1));
    let (p, q) = (dot(&right[0], &f), dot(&right[1], &f));
    let determinant = a * d - b * c;
    if determinant == 0.0 {
        return None;
    }
    let (s, t) = ((p * d - b * q) / determinant, (a * q - p * c) / determinant);
    Some(
        (f.iter().zip(&l0).zip(&l1))
            .map(|((f, x), y)| f + s * x + t * y)
            .collect(),
    )
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

    /// A step solves `(I/h − J) x = F`, J being the derivative of F, for every baseline, densely and
    /// by rank two.
    #[test]
    fn steps_are_linearly_implicit() {
        for arms in [4, DENSE + 6] {
            let shape = Shape {
                prompts: 1,
                arms,
                beta: 0.7,
                reward_scale: 1.0,
            };
            let problem = random_problem(shape, 21).unwrap();
            let share = &Evidence::population(&problem).prompts[0];
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

    #[test]
    fn woodbury_solves_its_system() {
        let d = [2.0, -1.0, 0.5];
        let left = [vec![0.3, -0.2, 0.9], vec![1.0, 0.4, -0.6]];
        let right = [vec![-0.7, 0.8, 0.2], vec![0.1, 0.5, 0.3]];
        let f = [1.0, -2.0, 0.7];
        let x = woodbury(&d, &left, &right, &f).unwrap();
        for a in 0..3 {
            let mut sum = d[a] * x[a];
            for (l, r) in left.iter().zip(&right) {
                sum -= l[a] * r.iter().zip(&x).map(|(r, x)| r * x).sum::<f64>();
            }
            assert!((sum - f[a]).abs() < 1e-14);
        }
        assert!(
            woodbury(
                &[1.0],
                &[vec![1.0], vec![0.0]],
                &[vec![1.0], vec![0.0]],
                &[1.0]
            )
            .is_none()
        );
    }
}
