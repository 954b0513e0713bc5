//! Checks of invariance: changes of the problem that leave the limit unchanged.

use super::bandit;
use super::fixed_point::tolerance;
use super::{Area, Check, Outcome};
use crate::bandit::{Beta, PairLaw, Policy, Problem, Prompt, Simplex};
use crate::error::Result;
use crate::loss::InputKind;
use crate::solve::general::limit::Limit;
use crate::solve::general::population::{Population, apart, with_laws};
use crate::solve::general::subject::Subject;

pub(super) fn checks(subject: &Subject) -> Result<Vec<Check>> {
    let problem = bandit::default()?;
    let Some(here) = limit(subject, &problem)? else {
        let (property, says) = ("the limit", "there is none that could change");
        let check = Check::new(Area::Invariance, property, Outcome::Skipped, says);
        return Ok(vec![check]);
    };
    let mut checks = Vec::new();
    let mut check = |property, other: Option<Policy>, good: &str, bad: &str| {
        let moved = other.map_or(f64::NAN, |other| apart(&here, &other));
        let (outcome, says) = if moved.is_nan() {
            (Outcome::Differs, "there is no limit then")
        } else if moved <= 10.0 * tolerance(subject) {
            (Outcome::Ok, good)
        } else {
            (Outcome::Differs, bad)
        };
        checks.push(Check::new(Area::Invariance, property, outcome, says).with(moved));
    };

    let shifted = problem.map_prompts(|_, p| p.reward.iter_mut().for_each(|r| *r += 3.0));
    check(
        "rewards + 3",
        limit(subject, &shifted)?,
        "only differences of rewards count",
        "the level of the rewards moves the limit",
    );

    let doubled = problem.map_prompts(|_, p| p.reward.iter_mut().for_each(|r| *r *= 2.0));
    let doubled = doubled.at(Beta::new("beta", 2.0 * problem.beta())?);
    check(
        "rewards and β × 2",
        limit(subject, &doubled)?,
        "only R/β counts, as for π*",
        "the unit of reward moves the limit: it is not a function of R/β",
    );

    check(
        "an arm split in two",
        limit(subject, &split(&problem)?)?.map(|p| merged(&p)),
        "two halves keep the probability of the whole",
        "two halves do not keep the probability of the whole",
    );

    if subject.loss.inputs() != InputKind::Lists {
        let (first, second) = problem.prompts()[0].law.marginals();
        let exchanged = with_laws(&problem, |_| [second.clone(), first.clone()]);
        check(
            "laws of y and y′ exchanged",
            limit(subject, &exchanged)?,
            "which of the two a response comes from does not count",
            "which of the two a response comes from moves the limit",
        );
    }
    Ok(checks)
}

fn limit(subject: &Subject, problem: &Problem) -> Result<Option<Policy>> {
    let population = Population::new(subject, problem)?;
    let limit = population.limit(&population.start())?;
    Ok(limit.filter(Limit::exists).map(|l| l.policy))
}

/// The first arm as two that share its reference and behaviour probability.
fn split(problem: &Problem) -> Result<Problem> {
    let prompts = (problem.prompts().iter())
        .map(|prompt| {
            let halves = |law: &[f64]| -> Vec<f64> {
                let mut law = law.to_vec();
                law[0] /= 2.0;
                law.insert(0, law[0]);
                law
            };
            let mut reward = prompt.reward.clone();
            reward.insert(0, reward[0]);
            let reference: Vec<f64> = prompt.log_reference.iter().map(|l| l.exp()).collect();
            let reference = Simplex::new("reference", halves(&reference))?;
            let (first, second) = prompt.law.marginals();
            let law = PairLaw::Product {
                first: halves(&first),
                second: halves(&second),
            };
            Prompt::new("prompt", prompt.weight, &reward, &reference, &law)
        })
        .collect::<Result<_>>()?;
    Problem::new(Beta::new("beta", problem.beta())?, prompts)
}

/// The policy of a [`split`] problem on the arms of the whole.
fn merged(policy: &Policy) -> Policy {
    let row = |log: &Vec<f64>| {
        let mut row = vec![(log[0].exp() + log[1].exp()).ln()];
        row.extend(&log[2..]);
        row
    };
    Policy::from_log(policy.log().iter().map(row).collect())
}
