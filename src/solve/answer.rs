//! An answer, and the door it leaves by.

use super::{FLOWS_CAP, Rest, larger};
use crate::bandit::{Evidence, Policy, Problem, Prompt, PromptEvidence, View};
use crate::error::{Error, Result};
use crate::loss::Objective;

/// How far from one the probabilities of a prompt may sum, per arm.
const SUM_TOLERANCE: f64 = 1e-12;

/// Fixed point of an objective: where it converges, with the evidence for it.
#[derive(Debug, Clone)]
pub struct FixedPoint {
    /// The limit; absent where there is none, or where it depends on the optimiser.
    pub policy: Option<Policy>,
    /// `J(π*) − J` at the limit; absent where the problem gives no rewards.
    pub regret: Option<f64>,
    /// Method by which it was found.
    pub method: String,
    /// Largest entry of the expected update there, in the units of the objective's gradient with
    /// respect to the logits (or scores), the prompt's share of the examples included.
    pub residual: Option<f64>,
    /// True if no other point is a limit. For limits of gradient flow that have no closed form this was tried from
    /// other starts, not proved.
    pub unique: bool,
    /// Stability of the limit under gradient flow; of several prompts', the weakest.
    pub rest: Rest,
    /// Expected largest error of ln π (or of a score or value), by comparison of two tolerances, where the limit
    /// depends on the path and the path was followed numerically.
    pub error: Option<f64>,
    /// Remarks: what stays free, what diverges, what was assumed.
    pub notes: Vec<String>,
    /// The value V(x) found beside the policy, for objectives that have one (DRO).
    pub value: Option<Vec<f64>>,
    /// The scores found, for objectives that train a table of them and not a policy.
    pub table: Option<Vec<Vec<f64>>>,
}

/// The answer for one prompt.
#[derive(Debug, Clone)]
pub struct Part {
    /// ln π over the kept arms.
    pub log_policy: Option<Vec<f64>>,
    /// Method by which it was found.
    pub method: &'static str,
    /// Largest entry of this prompt's expected update, per unit of its mass.
    pub residual: f64,
    /// True if no other point is a limit.
    pub unique: bool,
    /// Stability of the limit under gradient flow.
    pub rest: Rest,
    /// The error of ln π, where it was found along a path.
    pub error: Option<f64>,
    /// Remark on it.
    pub note: Option<String>,
}

impl Part {
    /// No limit.
    pub(super) fn none(method: &'static str, note: impl Into<String>) -> Self {
        Self {
            log_policy: None,
            method,
            residual: 0.0,
            unique: false,
            rest: Rest::None,
            error: None,
            note: Some(note.into()),
        }
    }

    /// A prompt that no example has.
    fn untouched(prompt: &Prompt) -> Self {
        Self {
            log_policy: Some(prompt.log_reference.clone()),
            method: "untouched",
            residual: 0.0,
            unique: false,
            rest: Rest::Neutral,
            error: None,
            note: Some("no example has it, so it stays at the reference".into()),
        }
    }
}

impl FixedPoint {
    /// The answer, if it is one: every prompt's probabilities sum to one, and no number that is shown
    /// is NaN. The regret is filled in.
    ///
    /// # Errors
    /// [`Error::Unsound`].
    pub(super) fn sound(mut self, problem: &Problem) -> Result<Self> {
        let fail = |prompt: usize, what: String| Err(Error::Unsound { prompt, what });
        for (x, log) in self.policy.iter().flat_map(|p| p.log().iter().enumerate()) {
            let sum: f64 = log.iter().map(|l| l.exp()).sum();
            let right = (sum - 1.0).abs() <= SUM_TOLERANCE * log.len().max(1) as f64;
            if !right || log.iter().any(|l| l.is_nan()) {
                return fail(x, format!("its policy sums to {sum}"));
            }
        }
        let values = self.value.iter().map(|v| v.iter().enumerate());
        for (x, value) in values.flatten() {
            if !value.is_finite() {
                return fail(x, format!("its value is {value}"));
            }
        }
        for (x, row) in self.table.iter().flat_map(|t| t.iter().enumerate()) {
            if row.iter().any(|score| score.is_nan()) {
                return fail(x, "a score is NaN".into());
            }
        }
        if self.residual.is_some_and(|r| !r.is_finite()) {
            return fail(0, "its residual is no number".into());
        }
        self.regret = (self.policy.as_ref())
            .filter(|_| problem.knows_rewards())
            .map(|policy| problem.regret(policy));
        Ok(self)
    }
}

/// Whether so many flows may be followed.
pub(super) fn few_flows(problem: &Problem, flows: usize) -> Result<()> {
    if flows <= FLOWS_CAP {
        return Ok(());
    }
    Err(Error::TooMany {
        what: "gradient flow, prompt after prompt,",
        cap: FLOWS_CAP,
        prompts: problem.prompts().len(),
    })
}

/// Whether a prompt has no more arms than a solver takes.
pub(super) fn few_arms(what: &'static str, cap: usize, x: usize, prompt: &Prompt) -> Result<()> {
    if prompt.arms() <= cap {
        return Ok(());
    }
    Err(Error::TooLarge {
        what,
        cap,
        prompt: x,
        arms: prompt.arms(),
    })
}

/// Solves an objective prompt by prompt and joins the answers.
pub(super) fn by_prompt(
    objective: Objective,
    problem: &Problem,
    evidence: &Evidence,
    solve: impl FnMut(usize, &Prompt, &PromptEvidence) -> Result<Part>,
) -> Result<FixedPoint> {
    assemble(problem, evidence.of(objective.spec().inputs)?, solve)
}

/// Solves prompt by prompt and joins the answers.
pub(super) fn assemble(
    problem: &Problem,
    view: &View,
    mut solve: impl FnMut(usize, &Prompt, &PromptEvidence) -> Result<Part>,
) -> Result<FixedPoint> {
    let mut rows = Some(Vec::with_capacity(problem.prompts().len()));
    let mut methods: Vec<&'static str> = Vec::new();
    let (mut residual, mut unique, mut notes) = (0.0f64, true, Vec::new());
    let (mut rest, mut error) = (Rest::Stable, None);
    let mut flows = 0;
    for (x, (prompt, share)) in problem.prompts().iter().zip(&view.prompts).enumerate() {
        let part = if share.mass > 0.0 {
            solve(x, prompt, share)?
        } else {
            Part::untouched(prompt)
        };
        let flowed = ["gradient flow", "joint flow"];
        flows += usize::from(flowed.iter().any(|by| part.method.starts_with(by)));
        few_flows(problem, flows)?;
        if !methods.contains(&part.method) {
            methods.push(part.method);
        }
        residual = larger(residual, share.mass * part.residual);
        unique &= part.unique;
        rest = rest.weaker(part.rest);
        error = (part.error.into_iter().chain(error)).reduce(larger);
        notes.extend(part.note.map(|note| format!("prompt {x}: {note}")));
        match (&mut rows, part.log_policy) {
            (Some(rows), Some(row)) => rows.push(row),
            (rows, _) => *rows = None,
        }
    }
    let policy = rows.map(Policy::from_log);
    FixedPoint {
        regret: None,
        residual: policy.as_ref().map(|_| residual),
        policy,
        method: methods.join("; "),
        unique,
        rest,
        error,
        notes,
        value: None,
        table: None,
    }
    .sound(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandit::{Shape, random_problem};
    use crate::loss::InputKind;

    fn problem() -> Problem {
        let shape = Shape {
            prompts: 3,
            arms: 2,
            beta: 1.0,
            reward_scale: 1.0,
        };
        let problem = random_problem(shape, 3).unwrap();
        problem.map_prompts(|x, prompt| prompt.weight = [0.5, 0.2, 0.3][x])
    }

    fn part(x: usize, log_policy: Option<Vec<f64>>) -> Part {
        Part {
            log_policy,
            method: ["a", "b", "a"][x],
            residual: [1.0, 4.0, 2.0][x],
            unique: true,
            rest: [Rest::Stable, Rest::Boundary, Rest::Stable][x],
            error: [None, Some(1e-9), Some(1e-6)][x],
            note: None,
        }
    }

    /// The documented unit of a residual: the largest entry of the expected update, in which each
    /// prompt has its share.
    #[test]
    fn parts_are_joined_by_their_mass() {
        let problem = problem();
        let evidence = Evidence::population(&problem);
        let view = evidence.of(InputKind::Singles).unwrap();
        let half = 0.5f64.ln();
        let joined = assemble(&problem, view, |x, _, _| Ok(part(x, Some(vec![half; 2])))).unwrap();
        assert_eq!(joined.residual, Some(0.8));
        assert_eq!((joined.rest, joined.error), (Rest::Boundary, Some(1e-6)));
        assert_eq!(joined.method, "a; b");
        assert!(joined.unique);
        let one_of_many = assemble(&problem, view, |x, _, _| {
            Ok(Part {
                unique: x != 1,
                ..part(x, Some(vec![half; 2]))
            })
        });
        assert!(!one_of_many.unwrap().unique);
        let one = assemble(&problem, view, |x, _, _| {
            Ok(part(x, (x != 1).then(|| vec![half; 2])))
        });
        let one = one.unwrap();
        assert!(one.policy.is_none() && one.residual.is_none() && one.regret.is_none());
    }

    /// A prompt that no example has is left at the reference, and flows are counted: as many as the cap
    /// are followed, one more is refused.
    #[test]
    fn flows_are_few() {
        for (prompts, refused) in [(FLOWS_CAP, false), (FLOWS_CAP + 1, true)] {
            let shape = Shape {
                prompts,
                arms: 2,
                beta: 1.0,
                reward_scale: 1.0,
            };
            let problem = random_problem(shape, 3).unwrap();
            let evidence = Evidence::population(&problem);
            let view = evidence.of(InputKind::Singles).unwrap();
            let half = 0.5f64.ln();
            let flowed = assemble(&problem, view, |_, _, _| {
                Ok(Part {
                    method: "gradient flow, followed",
                    ..part(0, Some(vec![half; 2]))
                })
            });
            assert_eq!(matches!(flowed, Err(Error::TooMany { .. })), refused);
        }
        let problem = super::tests::problem();
        let evidence = Evidence::population(&problem);
        let mut view = evidence.of(InputKind::Singles).unwrap().clone();
        view.prompts[1].mass = 0.0;
        let half = 0.5f64.ln();
        let left = assemble(&problem, &view, |x, _, _| Ok(part(x, Some(vec![half; 2])))).unwrap();
        assert_eq!(
            left.policy.unwrap().log()[1],
            problem.prompts()[1].log_reference
        );
        assert!(left.method.contains("untouched") && !left.unique);
    }

    #[test]
    fn what_is_no_simplex_stays_inside() {
        let problem = problem();
        let evidence = Evidence::population(&problem);
        let view = evidence.of(InputKind::Singles).unwrap();
        for row in [
            [0.0, 0.0],
            [f64::NAN, 0.0],
            [0.0, -20.0],
            [f64::NEG_INFINITY; 2],
        ] {
            let answer = assemble(&problem, view, |x, _, _| Ok(part(x, Some(row.to_vec()))));
            assert!(
                matches!(answer, Err(Error::Unsound { prompt: 0, .. })),
                "{row:?}"
            );
        }
    }

    /// The sum of two may be off by 2e-12.
    #[test]
    fn rounding_is_no_fault() {
        let problem = problem();
        let evidence = Evidence::population(&problem);
        let view = evidence.of(InputKind::Singles).unwrap();
        for (off, sound) in [(1.5e-12, true), (3e-12, false)] {
            let row = vec![0.5f64.ln(), (0.5f64 + off).ln()];
            let answer = assemble(&problem, view, |x, _, _| Ok(part(x, Some(row.clone()))));
            assert_eq!(answer.is_ok(), sound, "{off}");
        }
    }

    #[test]
    fn no_number_that_is_shown_is_nan() {
        let problem = problem();
        let evidence = Evidence::population(&problem);
        let view = evidence.of(InputKind::Singles).unwrap();
        let half = 0.5f64.ln();
        let right =
            || assemble(&problem, view, |x, _, _| Ok(part(x, Some(vec![half; 2])))).unwrap();
        let with = |change: &dyn Fn(&mut FixedPoint)| {
            let mut answer = right();
            change(&mut answer);
            answer.sound(&problem)
        };
        assert!(with(&|a| a.value = Some(vec![1.0, -2.0, 0.0])).is_ok());
        assert!(with(&|a| a.table = Some(vec![vec![f64::NEG_INFINITY, 0.0]])).is_ok());
        let refused: [&dyn Fn(&mut FixedPoint); 4] = [
            &|a| a.value = Some(vec![0.0, f64::NAN, 0.0]),
            &|a| a.value = Some(vec![0.0, f64::INFINITY, 0.0]),
            &|a| a.table = Some(vec![vec![0.0, f64::NAN]]),
            &|a| a.residual = Some(f64::INFINITY),
        ];
        for change in refused {
            assert!(matches!(with(change), Err(Error::Unsound { .. })));
        }
    }
}
