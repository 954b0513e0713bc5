//! DRO with one value for all prompts.

use std::ops::Range;

use super::value_of;
use crate::bandit::{Evidence, Policy, Problem, Prompt, PromptEvidence, View};
use crate::error::{Error, Result};
use crate::loss::{Baseline, InputKind};
use crate::solve::flow::{Motion, around, centre, ends_elsewhere, fade, settle};
use crate::solve::graph::arm_list;
use crate::solve::log_softmax;
use crate::solve::policy_gradient::{FLOW_CAP, Field, Local, UNRESTED};
use crate::solve::{FixedPoint, Rest, larger, largest};

/// The limit of `L(π, c)` over policies and one number c for all prompts (section 3.2, second
/// remark): `c = E_ρ V^{π_c}` and, prompt by prompt, π_c is the limit under the fixed value c.
///
/// * It is π\* where V\* is the same for every prompt; elsewhere it is biased, and c lies between the
///   least and the largest V\*.
/// * Found by gradient flow from the reference, all prompts together, of `π ↦ min_c L(π, c)`: c stays
///   at its optimum for the policy, as the paper's `V_c^π` does. Newton polishes.
/// * Residual: the largest entry of the gradient of L with respect to the logits, c at its optimum.
///
/// # Errors
/// More than 20,000 arms in all prompts together.
pub fn constant(problem: &Problem, evidence: &Evidence) -> Result<FixedPoint> {
    let view = evidence.of(InputKind::Singles)?;
    let joint = Joint::new(problem, view);
    let arms = joint.arms();
    if arms > FLOW_CAP {
        return Err(Error::TooLarge {
            what: "DRO's constant value, over all prompts together,",
            cap: FLOW_CAP,
            prompt: 0,
            arms,
        });
    }
    let covered = joint.uncovered().is_empty();
    let optima: Vec<(f64, Vec<f64>)> = (joint.blocks.iter())
        .filter(|_| covered)
        .map(|b| {
            let mut prompt = b.prompt.clone();
            prompt.reward.clone_from(&b.share.reward);
            prompt.optimum(joint.beta)
        })
        .collect();
    let (low, high) = optima.iter().fold((f64::MAX, f64::MIN), |(l, h), (v, _)| {
        (l.min(*v), h.max(*v))
    });
    let (point, method, mut unique, mut rest, mut error, rests);
    if covered && high - low <= 1e-14 * (joint.beta + high.abs().max(low.abs())) {
        // Theorem 1: the loss is zero at (π*, V*) and nowhere else.
        point = optima.into_iter().flat_map(|(_, log)| log).collect();
        (method, unique) = ("closed form, V* being constant", true);
        (rest, error, rests) = (Rest::Stable, None, true);
    } else {
        let reference = (joint.blocks.iter())
            .flat_map(|b| b.prompt.log_reference.iter().copied())
            .collect();
        let settled = settle(&joint, reference, covered, |point| joint.emptied(point));
        (point, rest, error) = (settled.end.point, settled.rest, settled.error);
        rests = settled.end.rests;
        (method, unique) = (
            "joint gradient flow from the reference, Newton polish",
            covered,
        );
    }
    let at = joint.local(&point);
    let mut notes = joint.uncovered();
    if joint.blocks.len() < problem.prompts().len() {
        unique = false;
        rest = rest.weaker(Rest::Neutral);
        notes.push("prompts without examples stay at the reference".into());
    }
    if !rests {
        (unique, rest, error, notes) = (false, Rest::None, None, vec![UNRESTED.into()]);
    } else if unique && method.starts_with("joint") && joint.another_limit(&point) {
        unique = false;
        notes.push("gradient flow from other starts ends elsewhere".into());
    }
    let mut rows: Vec<Vec<f64>> = (problem.prompts().iter())
        .map(|p| p.log_reference.clone())
        .collect();
    for block in &joint.blocks {
        rows[block.index] = point[block.span.clone()].to_vec();
    }
    let policy = rests.then(|| Policy::from_log(rows));
    let residual = largest(at.update.iter().copied()) * joint.beta / 2.0;
    FixedPoint {
        regret: None,
        residual: policy.as_ref().map(|_| residual),
        policy,
        method: method.into(),
        unique,
        rest,
        error,
        notes,
        value: rests.then(|| vec![at.value; problem.prompts().len()]),
        table: None,
    }
    .sound(problem)
}

/// One prompt's place in the joint table of logits.
struct Block<'a> {
    index: usize,
    prompt: &'a Prompt,
    share: &'a PromptEvidence,
    span: Range<usize>,
}

/// The field `ρ(x) F(x)` of all prompts with examples, F being policy gradient's with baseline
/// `c = Σ ρ V^π`: the negated gradient of the loss, times 2/β.
struct Joint<'a> {
    beta: f64,
    blocks: Vec<Block<'a>>,
}

struct At {
    value: f64,
    parts: Vec<Local>,
    update: Vec<f64>,
}

impl<'a> Joint<'a> {
    fn new(problem: &'a Problem, view: &'a View) -> Self {
        let mut end = 0;
        let blocks = (problem.prompts().iter().zip(&view.prompts).enumerate())
            .filter(|(_, (_, share))| share.mass > 0.0)
            .map(|(index, (prompt, share))| {
                let span = end..end + prompt.arms();
                end = span.end;
                Block {
                    index,
                    prompt,
                    share,
                    span,
                }
            })
            .collect();
        Self {
            beta: problem.beta(),
            blocks,
        }
    }

    fn arms(&self) -> usize {
        self.blocks.last().map_or(0, |b| b.span.end)
    }

    /// The point without the arms that no response shows, where the flow is emptying some.
    fn emptied(&self, point: &[f64]) -> Option<Vec<f64>> {
        let mut point = point.to_vec();
        let mut any = false;
        for b in &self.blocks {
            let row = &mut point[b.span.clone()];
            any |= fade(row, &b.prompt.log_reference, &b.share.unseen());
        }
        any.then_some(point)
    }

    fn uncovered(&self) -> Vec<String> {
        (self.blocks.iter())
            .filter_map(|b| {
                let unseen = b.share.unseen();
                (!unseen.is_empty()).then(|| {
                    format!(
                        "prompt {}: no response ever shows arms {}: the limit depends on the \
                         path; shown is that of gradient flow from the reference of the loss with c \
                         at its best for the policy",
                        b.index,
                        arm_list(&unseen, b.prompt.kept())
                    )
                })
            })
            .collect()
    }

    fn field<T>(&self, block: &Block, value: f64, then: impl FnOnce(&Field) -> T) -> T {
        let baseline = Baseline::Given(value);
        then(&Field::given(
            block.prompt,
            block.share,
            self.beta,
            &baseline,
        ))
    }

    /// Whether flow from some random start ends elsewhere.
    fn another_limit(&self, point: &[f64]) -> bool {
        let start = |i: u64, draw: &mut dyn FnMut() -> f64| {
            let reference = self.blocks.iter().flat_map(|b| &b.prompt.log_reference);
            around(reference, 1.0 + 2.0 * i as f64, draw)
        };
        ends_elsewhere(self, point, start, <[f64]>::to_vec)
    }
}

impl Motion for Joint<'_> {
    type Local = At;

    fn local(&self, point: &[f64]) -> At {
        let value = (self.blocks.iter())
            .map(|b| b.share.mass * value_of(b.prompt, b.share, self.beta, &point[b.span.clone()]))
            .sum();
        let parts: Vec<Local> = (self.blocks.iter())
            .map(|b| self.field(b, value, |field| field.local(&point[b.span.clone()])))
            .collect();
        let update = (self.blocks.iter().zip(&parts))
            .flat_map(|(b, part)| part.update.iter().map(|f| b.share.mass * f))
            .collect();
        At {
            value,
            parts,
            update,
        }
    }

    fn update<'a>(&self, at: &'a At) -> &'a [f64] {
        &at.update
    }

    /// The Jacobian is a block per prompt plus `b gᵀ`, with `b = ∂F/∂c = ρ(2π − m)` and
    /// `g = ∂c/∂θ = ρβ(π − μ̄)`.
    fn step(&self, at: &At, h: f64) -> Option<Vec<f64>> {
        let n = self.arms();
        let (mut free, mut lever) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let (mut pushed, mut turned) = (0.0, 0.0);
        for (b, part) in self.blocks.iter().zip(&at.parts) {
            let mass = b.share.mass;
            let column: Vec<f64> = (part.policy.iter().zip(&b.share.responses))
                .map(|(p, m)| 2.0 * p - m)
                .collect();
            // (I/h − ρJ)⁻¹ρ = (I/(hρ) − J)⁻¹.
            let k = 1.0 / (h * mass);
            let (x, y) = self.field(b, at.value, |field| {
                let x = field.solve(part, k, &part.update)?;
                Some((x, field.solve(part, k, &column)?))
            })?;
            for (a, c) in column.iter().enumerate() {
                let slope = 0.5 * mass * self.beta * c;
                pushed += slope * x[a];
                turned += slope * y[a];
            }
            free.extend(x);
            lever.extend(y);
        }
        let change = pushed / (1.0 - turned);
        let step: Vec<f64> = (free.iter().zip(&lever))
            .map(|(x, y)| x + change * y)
            .collect();
        step.iter().all(|v| v.is_finite()).then_some(step)
    }

    fn settle(&self, point: Vec<f64>) -> Vec<f64> {
        (self.blocks.iter())
            .flat_map(|b| log_softmax(&point[b.span.clone()]))
            .collect()
    }

    fn centre(&self, difference: &mut [f64]) {
        for b in &self.blocks {
            centre(&mut difference[b.span.clone()]);
        }
    }

    fn scale(&self, point: &[f64]) -> f64 {
        let value = self.local(point).value;
        (self.blocks.iter())
            .map(|b| {
                let size = self.field(b, value, |field| field.scale(&point[b.span.clone()]));
                b.share.mass * size
            })
            .fold(0.0, larger)
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
            prompts: 3,
            arms: 4,
            beta: 0.7,
            reward_scale: 1.0,
        };
        let problem = random_problem(shape, 5).unwrap();
        let evidence = Evidence::population(&problem);
        let joint = Joint::new(&problem, evidence.of(InputKind::Singles).unwrap());
        let point: Vec<f64> = (0..12).map(|a| (a as f64 * 0.7).sin()).collect();
        let error = implicit_error(&joint, &point, 3.0);
        assert!(error < 1e-7, "{error}");
    }
}
