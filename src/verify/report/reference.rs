//! Checks of the loss's dependence on π_ref.

use super::fixed_point::tolerance;
use super::{Area, Check, Outcome};
use crate::bandit::{Policy, Problem, log_sum_exp};
use crate::error::Result;
use crate::solve::general::limit::Limit;
use crate::solve::general::population::{Population, apart};
use crate::solve::general::subject::Subject;

/// Whether the limit moves with π_ref, and by as much as π*: by the change of ln π_ref. Off policy,
/// so that the data are the same.
pub(super) fn check(subject: &Subject, problem: &Problem) -> Result<Check> {
    let property = "reference matters";
    let other = problem.map_prompts(|_, prompt| {
        let row = &mut prompt.log_reference;
        // Its probabilities in the opposite order; of a uniform one, unequal ones.
        let uniform = row.iter().all(|l| (l - row[0]).abs() < 1e-12);
        row.reverse();
        if uniform {
            (1..)
                .zip(row.iter_mut())
                .for_each(|(i, l)| *l += f64::from(i).ln());
            let total = log_sum_exp(row);
            row.iter_mut().for_each(|l| *l -= total);
        }
    });
    let limit = |problem: &Problem| -> Result<Option<Limit>> {
        let population = Population::new(subject, problem)?;
        Ok((population.limit(&population.start())?).filter(Limit::exists))
    };
    let (Some(here), Some(there)) = (limit(problem)?, limit(&other)?) else {
        let says = "no limit to compare";
        return Ok(Check::new(
            Area::FixedPoint,
            property,
            Outcome::Skipped,
            says,
        ));
    };
    let rows = here.policy.log().iter().zip(there.policy.log());
    let references = problem.prompts().iter().zip(other.prompts());
    // The limit, were it moved as π* is.
    let moved: Vec<Vec<f64>> = (rows.zip(references))
        .map(|((row, _), (p, q))| {
            let shift = q
                .log_reference
                .iter()
                .zip(&p.log_reference)
                .map(|(q, p)| q - p);
            row.iter().zip(shift).map(|(l, s)| l + s).collect()
        })
        .collect();
    let moved = apart(&there.policy, &Policy::softmax(&moved));
    let still = apart(&here.policy, &there.policy);
    let bound = 10.0 * tolerance(subject);
    let (outcome, says) = if still <= bound {
        (
            Outcome::Differs,
            "no: the limit does not depend on π_ref, as π* does",
        )
    } else if moved <= bound {
        (Outcome::Ok, "another π_ref moves the limit as it moves π*")
    } else {
        (
            Outcome::Differs,
            "another π_ref moves the limit, but not as it moves π*",
        )
    };
    Ok(Check::new(Area::FixedPoint, property, outcome, says).with(still))
}
