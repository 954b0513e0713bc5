//! Where a loss converges, from which data, and how sure that is.

use super::population::{Limit, Population, apart, toy, with_laws};
use super::{Area, Check, Loss, Outcome, Subject};
use crate::bandit::{Evidence, Problem, Shape, kl, random_problem};
use crate::error::Result;
use crate::loss::{InputKind, Kind, Objective};
use crate::solve::fixed_point;
use crate::verify::{Certificate, certify};

/// KL to π* up to which a limit counts as π*.
const REACHED: f64 = 1e-9;
/// How far two routes to the same limit may end apart, in probability.
pub(super) const SAME: f64 = 1e-6;
/// The same for a simplex search on kinks.
pub(super) const SAME_KINKED: f64 = 1e-3;

/// Where a loss converges on CoPG's bandit.
#[derive(Debug, Clone)]
pub struct LimitRow {
    /// Where the responses come from.
    pub responses: &'static str,
    /// The limit, from the reference.
    pub policy: Vec<f64>,
    /// `J(π*) − J`.
    pub regret: f64,
    /// KL to π*.
    pub from_optimum: f64,
    /// KL to π_ref.
    pub from_reference: f64,
    /// Whether it came to rest there.
    pub rests: bool,
}

pub(super) fn tolerance<L: Loss>(subject: &Subject<'_, L>) -> f64 {
    match subject.kind {
        Kind::Kinked => SAME_KINKED,
        _ => SAME,
    }
}

pub(super) fn checks<L: Loss>(subject: &Subject<'_, L>) -> Result<(Vec<LimitRow>, Vec<Check>)> {
    let rows = rows(subject)?;
    let mut checks = vec![reaches(&rows)];
    checks.push(elsewhere(subject)?);
    checks.push(rests(&rows));
    checks.push(one_limit(subject)?);
    if let Some(objective) = subject.loss.registered() {
        checks.push(solver(subject, objective)?);
        checks.push(derivation(objective));
    }
    Ok((rows, checks))
}

fn rows<L: Loss>(subject: &Subject<'_, L>) -> Result<Vec<LimitRow>> {
    let problem = toy()?;
    let reference: Vec<f64> = problem.reference().probabilities().concat();
    let (first, second) = problem.prompts()[0].law.marginals();
    let mean: Vec<f64> = first
        .iter()
        .zip(&second)
        .map(|(p, q)| (p + q) / 2.0)
        .collect();
    let one = |law: &Vec<f64>| with_laws(&problem, |_| [law.clone(), law.clone()]);
    let of = |problem: &Problem| Population::new(subject, problem);
    let situations = if subject.loss.inputs() == InputKind::Lists {
        vec![("a ranked list of all arms", of(&problem)?)]
    } else {
        vec![
            ("on policy", of(&problem)?.on_policy()),
            ("from π_ref", of(&one(&reference))?),
            ("off policy, one law", of(&one(&mean))?),
            ("off policy, two laws", of(&problem)?),
        ]
    };
    let mut rows = Vec::new();
    for (responses, population) in situations {
        if let Some(limit) = population.limit(&population.start())? {
            rows.push(row(responses, &problem, &limit));
        }
    }
    Ok(rows)
}

fn row(responses: &'static str, problem: &Problem, limit: &Limit) -> LimitRow {
    let log = &limit.policy.log()[0];
    LimitRow {
        responses,
        policy: log.iter().map(|l| l.exp()).collect(),
        regret: problem.regret(&limit.policy),
        from_optimum: kl(log, &problem.optimum().policy.log()[0]),
        from_reference: kl(log, &problem.prompts()[0].log_reference),
        rests: limit.still,
    }
}

fn reaches(rows: &[LimitRow]) -> Check {
    let property = "reaches π*";
    if rows.is_empty() {
        let says = "the loss is not finite at the reference, so it leads nowhere";
        return Check::new(Area::FixedPoint, property, Outcome::Fault, says);
    }
    let worst = rows.iter().map(|r| r.regret).fold(0.0, f64::max);
    let reached = |r: &&LimitRow| r.from_optimum <= REACHED;
    let names = |rows: Vec<&LimitRow>| -> String {
        let names: Vec<_> = rows.iter().map(|r| r.responses).collect();
        names.join(" and ")
    };
    let (there, not): (Vec<_>, Vec<_>) = rows.iter().partition(reached);
    let (outcome, says) = if not.is_empty() {
        (Outcome::Ok, "from every kind of data".to_string())
    } else if there.is_empty() {
        (
            Outcome::Differs,
            "regret at worst; biased from all data tried".to_string(),
        )
    } else {
        let says = format!(
            "regret at worst; reached {}; biased {}",
            names(there),
            names(not)
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

fn elsewhere<L: Loss>(subject: &Subject<'_, L>) -> Result<Check> {
    let property = "reaches π* on random bandits";
    let (mut worst, mut lost, mut count) = (0.0f64, 0, 0);
    for problem in bandits()? {
        let population = Population::new(subject, &problem)?;
        match population.limit(&population.start())? {
            Some(limit) if limit.still => {
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
    let wandering: Vec<_> = rows
        .iter()
        .filter(|r| !r.rests)
        .map(|r| r.responses)
        .collect();
    let zero = rows
        .iter()
        .filter(|r| r.rests)
        .flat_map(|r| &r.policy)
        .any(|p| *p < 1e-5);
    let (outcome, says) = match (wandering.as_slice(), zero) {
        ([], false) => (
            Outcome::Ok,
            "at a policy that gives every arm some probability".into(),
        ),
        ([], true) => {
            let says = "only in the limit of growing margins: some arm's probability goes to 0";
            (Outcome::Differs, says.to_string())
        }
        (names, _) => {
            let says = format!("no rest {}; shown is where it stood", names.join(" and "));
            (Outcome::Differs, says)
        }
    };
    Check::new(Area::FixedPoint, "comes to rest", outcome, says)
}

fn one_limit<L: Loss>(subject: &Subject<'_, L>) -> Result<Check> {
    const STARTS: u64 = 6;
    let property = "one limit";
    let population = Population::new(subject, &toy()?)?;
    let Some(first) = population.limit(&population.start())? else {
        let says = "no limit to compare";
        return Ok(Check::new(
            Area::FixedPoint,
            property,
            Outcome::Skipped,
            says,
        ));
    };
    let mut worst = 0.0f64;
    for key in 0..STARTS {
        if let Some(other) = population.limit(&population.elsewhere(key))? {
            worst = worst.max(apart(&first.policy, &other.policy));
        }
    }
    let (outcome, says) = if worst <= 10.0 * tolerance(subject) {
        (Outcome::Ok, format!("the same from {STARTS} random starts"))
    } else if subject.kind == Kind::Kinked {
        let says = "the minimum is a face: which of its points is reached depends on the start";
        (Outcome::Differs, says.to_string())
    } else {
        let says = format!("another from some of {STARTS} random starts: the path decides");
        (Outcome::Differs, says)
    };
    Ok(Check::new(Area::FixedPoint, property, outcome, says).with(worst))
}

/// The registered solver against the numeric limit. On kinks the losses are compared, since a
/// minimum may be a face.
fn solver<L: Loss>(subject: &Subject<'_, L>, objective: Objective) -> Result<Check> {
    let property = "exact solver = numeric limit";
    let (mut worst, mut compared) = (0.0f64, 0);
    let mut problems = bandits()?;
    problems.push(toy()?);
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
            let (a, b) = (
                population.evaluate(policy.log())?.value,
                population.evaluate(&limit.table)?.value,
            );
            (a - b).abs() / (1.0 + b.abs())
        } else if limit.still {
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
        .fold(0.0, f64::max);
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
