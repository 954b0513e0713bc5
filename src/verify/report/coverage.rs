//! Arms that are shown rarely or never.

use super::bandit;
use super::fixed_point::tolerance;
use super::{Area, Check, Outcome};
use crate::bandit::Problem;
use crate::error::Result;
use crate::loss::InputKind;
use crate::solve::general::population::{Population, apart, with_laws};
use crate::solve::general::subject::Subject;
use crate::text::number;

pub(super) fn checks(subject: &Subject) -> Result<Vec<Check>> {
    let never = never(subject)?;
    if subject.loss.inputs() == InputKind::Lists {
        return Ok(vec![never]);
    }
    Ok(vec![never, rarely(subject)?])
}

/// The toy with its best arm shown with probability `share` by either law.
fn best_arm_shown(share: f64) -> Result<Problem> {
    Ok(with_laws(&bandit::default()?, |_| {
        let law = |second: f64| {
            vec![
                share,
                second * (1.0 - share),
                (1.0 - second) * (1.0 - share),
            ]
        };
        [law(2.0 / 9.0), law(1.0 / 19.0)]
    }))
}

fn never(subject: &Subject) -> Result<Check> {
    let property = "best arm never shown";
    let mut problem = best_arm_shown(0.0)?;
    problem = problem.map_prompts(|_, prompt| prompt.ranking = Some(vec![2, 1]));
    let population = Population::new(subject, &problem)?;
    let none = |says: &str| Check::new(Area::Coverage, property, Outcome::Differs, says);
    let limit = match population.limit(&population.start())? {
        Some(limit) if limit.exists() => limit,
        Some(limit) if limit.unbounded => return Ok(none("then the loss falls without bound")),
        Some(_) => return Ok(none("then it comes to no rest")),
        None => return Ok(none("the loss is not finite there")),
    };
    let mut moved = 0.0f64;
    for key in 0..3 {
        if let Some(other) = population.limit(&population.elsewhere(key))? {
            moved = moved.max(apart(&limit.policy, &other.policy));
        }
    }
    let log = &limit.policy.log()[0];
    let (share, regret) = (log[0].exp(), problem.regret(&limit.policy));
    let optimum = problem.optimum().policy.log()[0][0].exp();
    // What the others have among themselves.
    let star = problem.prompts()[0].optimum(problem.beta()).1;
    let within = (log[1] - log[2]) - (star[1] - star[2]);
    let fate = if share < 1e-4 {
        "its probability goes to 0".to_string()
    } else if share > 1.0 - 1e-4 {
        "it takes all probability".to_string()
    } else if moved > 10.0 * tolerance(subject) {
        format!(
            "it keeps what its start gives it, {} from the reference",
            number(share)
        )
    } else {
        format!("it ends at {} from any start", number(share))
    };
    let rest = if within.abs() < 10.0 * tolerance(subject) {
        "; the others are as in π*"
    } else {
        ""
    };
    let outcome = if (share - optimum).abs() <= 10.0 * tolerance(subject) {
        Outcome::Ok
    } else {
        Outcome::Differs
    };
    let says = format!("regret; {fate} ({} in π*){rest}", number(optimum));
    Ok(Check::new(Area::Coverage, property, outcome, says).with(regret))
}

fn rarely(subject: &Subject) -> Result<Check> {
    let property = "best arm shown rarely";
    let mut regrets = Vec::new();
    for share in [1e-1, 1e-2, 1e-3, 1e-4] {
        let problem = best_arm_shown(share)?;
        let population = Population::new(subject, &problem)?;
        match population.limit(&population.start())? {
            Some(limit) if limit.exists() => regrets.push(problem.regret(&limit.policy)),
            _ => {
                let says = format!("no limit was found with 1 response in {:.0}", 1.0 / share);
                return Ok(Check::new(Area::Coverage, property, Outcome::Differs, says));
            }
        }
    }
    let worst = regrets.iter().copied().fold(0.0, f64::max);
    let (low, high) =
        (regrets.iter()).fold((f64::INFINITY, 0.0f64), |(l, h), &r| (l.min(r), h.max(r)));
    let listed: Vec<String> = regrets.iter().map(|&r| number(r)).collect();
    let (outcome, says) = if worst < 1e-9 {
        (
            Outcome::Ok,
            "no regret with 1 response in 10, 100, 1,000 or 10,000".to_string(),
        )
    } else if high - low <= 10.0 * tolerance(subject) {
        (
            Outcome::Ok,
            "the limit does not depend on how often".to_string(),
        )
    } else {
        let says = format!(
            "regret at worst; {} with 1 response in 10, 100, 1,000, 10,000",
            listed.join(", ")
        );
        (Outcome::Differs, says)
    };
    Ok(Check::new(Area::Coverage, property, outcome, says).with(worst))
}
