//! Contrastive policy gradient.

use super::{Claim, Finding, Paper, Verdict, random_problems, toy};
use crate::bandit::{Evidence, population};
use crate::error::Result;
use crate::loss::Objective;
use crate::solve::fixed_point;

pub(super) const CLAIMS: &[Claim] = &[
    Claim {
        name: "copg/completed-square",
        paper: Paper::Copg,
        place: "eq. 5 and 15",
        statement: "The contrast of two weighted log-likelihoods is the completed square divided by β",
        verdict: Verdict::Holds,
        remark: "",
        check: completed_square,
    },
    Claim {
        name: "copg/ipo-biased",
        paper: Paper::Copg,
        place: "section 5",
        statement: "On the toy bandit IPO keeps a regret that more data does not remove",
        verdict: Verdict::Holds,
        remark: "",
        check: ipo_biased,
    },
];

fn completed_square() -> Result<Finding> {
    let problems = random_problems(200, 1)?;
    let mut error = 0.0f64;
    for problem in &problems {
        let evidence = Evidence::population(problem);
        let at = |o| population::evaluate(problem, &evidence, o, problem.optimum().policy.log());
        let (a, b) = (at(Objective::Copg)?, at(Objective::CopgCompleted)?);
        error = error.max((a.value - b.value).abs() / (1.0 + a.value.abs()));
    }
    Ok(Finding::holds(
        error < 1e-12,
        format!(
            "{} random problems, largest difference {error:.1e}",
            problems.len()
        ),
    ))
}

fn ipo_biased() -> Result<Finding> {
    let problem = toy()?;
    let point = fixed_point(Objective::Ipo, &problem, &Evidence::population(&problem))?;
    let regret = point.regret.unwrap_or(f64::NAN);
    Ok(Finding::holds(regret > 0.1, "the exact limit").measure("regret", regret))
}
