//! Checks of a loss's limit: where it converges, from which data, and how sure that is.

use super::bandit::{self, Data};
use super::reference;
use super::rows::LimitRow;
use super::{Area, Check, Outcome};
use crate::bandit::{Evidence, Problem, Shape, random_problem};
use crate::error::Result;
use crate::loss::{Kind, Objective};
use crate::magnitude::larger;
use crate::solve::flow::Rest;
use crate::solve::general::population::{Population, apart};
use crate::solve::general::subject::Subject;
use crate::solve::{exact, fixed_point};
use crate::verify::{Certificate, certify, reached};

/// KL to π* up to which a limit counts as π*.
const REACHED: f64 = 1e-9;
/// How far two routes to the same limit may end apart, in probability.
pub(super) const SAME: f64 = 1e-6;
/// The same for a simplex search on kinks.
pub(super) const SAME_KINKED: f64 = 1e-3;

pub(super) fn tolerance(subject: &Subject) -> f64 {
    match subject.kind {
        Kind::Kinked => SAME_KINKED,
        _ => SAME,
    }
}

pub(super) fn checks(
    subject: &Subject,
    problem: &Problem,
    rows: &[LimitRow],
) -> Result<Vec<Check>> {
    let mut checks = vec![reaches(rows)];
    checks.push(elsewhere(subject)?);
    checks.push(rests(rows));
    checks.push(one_limit(subject, problem)?);
    checks.push(reference::check(subject, problem)?);
    let objective = subject.loss.objective;
    if exact(objective).is_some() {
        checks.push(solver(subject, objective)?);
        checks.push(derivation(objective));
    }
    Ok(checks)
}

/// Names, joined; of more than two the first and how many more.
fn names(rows: &[&LimitRow]) -> String {
    match rows {
        [] => String::new(),
        [one] => one.responses.clone(),
        [one, two] => format!("{} and {}", one.responses, two.responses),
        [one, more @ ..] => format!("{} and {} more", one.responses, more.len()),
    }
}

fn reaches(rows: &[LimitRow]) -> Check {
    let property = "reaches π*";
    let rows: Vec<&LimitRow> = (rows.iter())
        .filter(|r| r.data == Data::Population)
        .collect();
    if rows.iter().all(|r| r.lost()) {
        let says = "the loss is not finite at the start, so it leads nowhere";
        return Check::new(Area::FixedPoint, property, Outcome::Fault, says);
    }
    let worst = (rows.iter().filter_map(|r| r.regret)).fold(0.0, f64::max);
    let reached = |r: &&LimitRow| r.from_optimum.is_some_and(|kl| kl <= REACHED);
    let (there, not): (Vec<&LimitRow>, Vec<_>) = rows.into_iter().partition(reached);
    let (biased, none): (Vec<&LimitRow>, Vec<_>) = not.iter().partition(|r| r.regret.is_some());
    let no_limit = if none.is_empty() {
        String::new()
    } else {
        format!("; no limit {}", names(&none))
    };
    let (outcome, says) = if not.is_empty() {
        (Outcome::Ok, "from every kind of data".to_string())
    } else if biased.is_empty() && there.is_empty() {
        (
            Outcome::Differs,
            "it has no limit on any data tried".to_string(),
        )
    } else if there.is_empty() {
        let says = format!("regret at worst; biased wherever it has a limit{no_limit}");
        (Outcome::Differs, says)
    } else if biased.is_empty() {
        let says = format!("regret at worst; reached {}{no_limit}", names(&there));
        (Outcome::Differs, says)
    } else {
        let says = format!(
            "regret at worst; reached {}; biased {}{no_limit}",
            names(&there),
            names(&biased)
        );
        (Outcome::Differs, says)
    };
    Check::new(Area::FixedPoint, property, outcome, says).with(worst)
}

/// Random contextual bandits with two laws, and nothing else given.
fn bandits() -> Result<Vec<Problem>> {
    let shape = |prompts, arms, beta| Shape {
        prompts,
        arms,
        beta,
        reward_scale: 1.0,
    };
    let shapes = [shape(1, 4, 1.0), shape(2, 3, 0.4), shape(3, 2, 0.7)];
    (shapes.into_iter().zip(60..))
        .map(|(shape, seed)| {
            let problem = random_problem(shape, seed)?;
            Ok(problem.map_prompts(|_, prompt| {
                (prompt.value, prompt.ranking, prompt.centre) = (None, None, None);
            }))
        })
        .collect()
}

fn elsewhere(subject: &Subject) -> Result<Check> {
    let property = "reaches π* on random bandits";
    let (mut worst, mut lost, mut count) = (0.0f64, 0, 0);
    for problem in bandits()? {
        let population = Population::new(subject, &problem)?;
        match population.limit(&population.start())? {
            Some(limit) if limit.exists() => {
                worst = worst.max(problem.regret(&limit.policy) / problem.beta());
            }
            _ => lost += 1,
        }
        count += 1;
    }
    let (outcome, says) = match (worst <= REACHED, lost) {
        (true, 0) => (Outcome::Ok, format!("{count} with off-policy laws")),
        (_, 0) => {
            let says = format!("largest KL to π* of {count}, two off-policy laws each");
            (Outcome::Differs, says)
        }
        _ => {
            let says =
                format!("on {lost} of {count} it comes to no rest; largest KL of the others");
            (Outcome::Differs, says)
        }
    };
    Ok(Check::new(Area::FixedPoint, property, outcome, says).with(worst))
}

fn rests(rows: &[LimitRow]) -> Check {
    let rows: Vec<&LimitRow> = (rows.iter())
        .filter(|r| r.data == Data::Population && !r.lost())
        .collect();
    let some = |of: &dyn Fn(&LimitRow) -> bool| -> Vec<&LimitRow> {
        rows.iter().copied().filter(|r| of(r)).collect()
    };
    let mut says = Vec::new();
    let mut tell = |what: &str, rows: Vec<&LimitRow>| {
        if !rows.is_empty() {
            says.push(format!("{what} ({})", names(&rows)));
        }
    };
    tell("it falls without bound", some(&|r| r.unbounded));
    tell("no rest", some(&|r| r.rest == Rest::None && !r.unbounded));
    tell("a rest that repels", some(&|r| r.rest == Rest::Repelling));
    tell(
        "some arm's probability goes to 0",
        some(&|r| r.rest == Rest::Boundary),
    );
    tell("one of many rests", some(&|r| r.rest == Rest::Neutral));
    tell(
        "only after a push off a rest that repels",
        some(&|r| r.pushed),
    );
    let (outcome, says) = if says.is_empty() {
        let says = "at a stable policy that gives every arm some probability";
        (Outcome::Ok, says.to_string())
    } else {
        (Outcome::Differs, says.join("; "))
    };
    Check::new(Area::FixedPoint, "comes to rest", outcome, says)
}

fn one_limit(subject: &Subject, problem: &Problem) -> Result<Check> {
    const STARTS: u64 = 6;
    let property = "one limit";
    let population = Population::new(subject, problem)?;
    let skipped = |says: &str| {
        let says = says.to_string();
        Check::new(Area::FixedPoint, property, Outcome::Skipped, says)
    };
    let first = match population.limit_and_face(&population.start(), true)? {
        Some(limit) if limit.exists() => limit,
        _ => return Ok(skipped("no limit to compare")),
    };
    let (mut worst, mut lost) = (0.0f64, 0);
    for key in 0..STARTS {
        match population.limit(&population.elsewhere(key))? {
            Some(other) if other.exists() => {
                worst = worst.max(apart(&first.policy, &other.policy));
            }
            _ => lost += 1,
        }
    }
    let (outcome, says) = if lost > 0 {
        let says = format!("from {lost} of {STARTS} random starts it comes to no rest");
        (Outcome::Differs, says)
    } else if worst <= 10.0 * tolerance(subject) {
        (Outcome::Ok, format!("the same from {STARTS} random starts"))
    } else if first.rest == Rest::Neutral && subject.kind == Kind::Kinked {
        let says = "the minimum is a face: which of its points is reached depends on the start";
        (Outcome::Differs, says.to_string())
    } else {
        let says = format!("another from some of {STARTS} random starts: the start decides");
        (Outcome::Differs, says)
    };
    Ok(Check::new(Area::FixedPoint, property, outcome, says).with(worst))
}

/// The registered solver against the numeric limit. On kinks the losses are compared, since a
/// minimum may be a face.
fn solver(subject: &Subject, objective: Objective) -> Result<Check> {
    let property = "exact solver = numeric limit";
    let (mut worst, mut compared) = (0.0f64, 0);
    let mut problems = bandits()?;
    problems.push(bandit::default()?);
    for problem in &problems {
        let population = Population::new(subject, problem)?;
        let evidence = Evidence::population(&population.problem);
        let Ok(exact) = fixed_point(objective, &population.problem, &evidence) else {
            continue;
        };
        let (Some(policy), Some(limit)) = (exact.policy, population.limit(&population.start())?)
        else {
            continue;
        };
        let gap = if subject.kind == Kind::Kinked {
            let reached = reached(objective, &population.problem, &evidence, policy.log())?;
            let (a, b) = (
                population.evaluate(&reached)?.value,
                population.evaluate(&limit.table)?.value,
            );
            (a - b).abs() / (1.0 + b.abs())
        } else if limit.exists() {
            apart(&policy, &limit.policy)
        } else {
            continue;
        };
        worst = if gap <= worst { worst } else { gap };
        compared += 1;
    }
    if compared == 0 {
        let says = "no solver, or no limit to compare it with";
        return Ok(Check::new(
            Area::FixedPoint,
            property,
            Outcome::Skipped,
            says,
        ));
    }
    // Arms that vanish do so slowly, in a flow that is cut off somewhere.
    let bound = if subject.kind == Kind::Boundary {
        SAME_KINKED
    } else {
        SAME
    };
    let (outcome, says) = if worst <= bound {
        (Outcome::Ok, format!("on {compared} bandits"))
    } else {
        (
            Outcome::Fault,
            "the solver and the loss's own code lead to different policies".into(),
        )
    };
    Ok(Check::new(Area::FixedPoint, property, outcome, says).with(worst))
}

fn derivation(objective: Objective) -> Check {
    let property = "as derived on paper";
    let certificates = match certify(objective) {
        Ok(certificates) => certificates,
        Err(error) => {
            let says = error.to_string();
            return Check::new(Area::FixedPoint, property, Outcome::Skipped, says);
        }
    };
    let broken: Vec<_> = (certificates.iter().filter(|c| !c.holds()))
        .map(|c| c.property)
        .collect();
    let worst = certificates
        .iter()
        .map(|c: &Certificate| c.error)
        .fold(0.0, larger);
    let (outcome, says) = if broken.is_empty() {
        (
            Outcome::Ok,
            format!("{} certificates hold", certificates.len()),
        )
    } else {
        (
            Outcome::Fault,
            format!("does not hold: {}", broken.join("; ")),
        )
    };
    Check::new(Area::FixedPoint, property, outcome, says).with(worst)
}
