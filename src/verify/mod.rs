//! Certificates: what must hold of a loss, checked by running it.
//!
//! The checks run the loss's own generic code on exact populations, and compare it with what was
//! derived on paper ([`solve`](crate::solve)): the fixed point, the expected update in closed form,
//! the value at the reference. [`sabotage`] tests the checks themselves.

pub mod claims;
mod sabotage;

pub use sabotage::{Sabotage, sabotage};

use crate::bandit::population::{Batch, Cotangents, Evaluation, Feed, evaluate_with, on_tape};
use crate::bandit::{Evidence, Problem, Shape, random_problem};
use crate::error::Result;
use crate::loss::{Kind, Objective};
use crate::random::{Purpose, Stream};
use crate::solve::{fixed_point, update};

/// One property, checked.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// What must hold.
    pub property: &'static str,
    /// The largest violation seen.
    pub error: f64,
    /// The largest allowed.
    pub bound: f64,
}

impl Certificate {
    /// Whether it held. A violation that is not a number counts as one.
    pub fn holds(&self) -> bool {
        self.error <= self.bound
    }
}

/// Certifies a registered objective as it is.
///
/// # Errors
/// If the loss or a solver fails.
pub fn certify(objective: Objective) -> Result<Vec<Certificate>> {
    let kind = objective.spec().inputs;
    certify_with(objective, |problem, batch| {
        on_tape(kind, batch, |inputs| objective.loss(inputs, problem.beta()))
    })
}

/// Problems the certificates run on: contextual, on- and off-policy, hot and cold.
fn problems() -> Result<Vec<Problem>> {
    let shape = |prompts, arms, beta, reward_scale| Shape {
        prompts,
        arms,
        beta,
        reward_scale,
    };
    let shapes = [
        shape(1, 3, 0.5, 1.0),
        shape(2, 4, 0.2, 1.0),
        shape(3, 2, 2.0, 3.0),
    ];
    (shapes.into_iter().zip(40..))
        .map(|(shape, seed)| random_problem(shape, seed))
        .collect()
}

/// Certifies any code that claims to be `objective`, run by `engine` on batches of the exact
/// population.
///
/// # Errors
/// If the engine or a solver fails.
pub fn certify_with(
    objective: Objective,
    mut engine: impl FnMut(&Problem, &Batch) -> Result<Cotangents>,
) -> Result<Vec<Certificate>> {
    let kind = objective.spec().kind;
    let feed = Feed::of(objective);
    let (mut stationary, mut formula, mut at_reference, mut lower, mut potential) =
        (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (index, problem) in problems()?.into_iter().enumerate() {
        let evidence = Evidence::population(&problem);
        let mut run = |table: &[Vec<f64>]| -> Result<Evaluation> {
            evaluate_with(&problem, &evidence, &feed, table, |batch| {
                engine(&problem, batch)
            })
        };
        let mut stream = Stream::new(index as u64, Purpose::Start, 1);
        let mut random = || -> Vec<Vec<f64>> {
            let mut row = |arms| (0..arms).map(|_| 3.0 * stream.uniform() - 1.5).collect();
            problem.prompts().iter().map(|p| row(p.arms())).collect()
        };

        // The gradient vanishes at the fixed point (on kinks it jumps across zero instead).
        let answer = answer(objective, &problem, &evidence)?;
        let there = run(&answer)?;
        if kind != Kind::Kinked {
            stationary = stationary.max(size(&there.gradient));
        }

        // The gradient is the one derived on paper, at points in general position.
        for _ in 0..2 {
            let at = random();
            let here = run(&at)?;
            let mut derived = Vec::new();
            for (x, (prompt, share)) in problem.prompts().iter().zip(&evidence.prompts).enumerate()
            {
                let row = update::gradient(objective, x, prompt, share, problem.beta(), &at[x])?;
                derived.push(
                    row.into_iter()
                        .map(|g| share.mass * g)
                        .collect::<Vec<f64>>(),
                );
            }
            let scale = 1.0 + size(&derived);
            formula = formula.max(distance(&here.gradient, &derived) / scale);
            if kind != Kind::Field {
                // Everywhere else the loss is larger.
                lower = lower.max((there.value - here.value) / (1.0 + here.value.abs()));
            }
            if kind == Kind::Smooth {
                potential = potential.max(potential_error(&mut run, &at, &answer, &here, &there)?);
            }
        }

        // At the reference every margin is 0, and the loss is what its formula says there.
        if let Some(want) = value_at_reference(objective, &problem, &evidence) {
            let reference = match objective.trains_scores() {
                true => problem
                    .prompts()
                    .iter()
                    .map(|p| vec![0.0; p.arms()])
                    .collect(),
                false => problem.reference().log().to_vec(),
            };
            let error = (run(&reference)?.value - want).abs() / (1.0 + want.abs());
            at_reference = at_reference.max(error);
        }
    }
    let certificate = |property, error, bound| Certificate {
        property,
        error,
        bound,
    };
    let mut certificates = vec![certificate(
        "the gradient is the expected update in closed form",
        formula,
        1e-11,
    )];
    if kind != Kind::Kinked {
        certificates.push(certificate(
            "the gradient vanishes at the fixed point",
            stationary,
            1e-10,
        ));
    }
    if kind != Kind::Field {
        certificates.push(certificate("the loss is larger elsewhere", lower, 1e-12));
        certificates.push(certificate(
            "the loss at the reference is the formula's",
            at_reference,
            1e-12,
        ));
    }
    if kind == Kind::Smooth {
        certificates.push(certificate(
            "the gradient integrates to the loss",
            potential,
            1e-9,
        ));
    }
    Ok(certificates)
}

/// The fixed point as the table that is trained.
fn answer(objective: Objective, problem: &Problem, evidence: &Evidence) -> Result<Vec<Vec<f64>>> {
    let limit = fixed_point(objective, problem, evidence)?.policy;
    let log = limit.map_or_else(|| problem.reference().log().to_vec(), |p| p.log().to_vec());
    if !objective.trains_scores() {
        return Ok(log);
    }
    // The scores of which the policy is the optimum: β ln π/π_ref.
    Ok((log.iter().zip(problem.prompts()))
        .map(|(row, prompt)| {
            let u = row.iter().zip(&prompt.log_reference).map(|(l, r)| l - r);
            u.map(|u| problem.beta() * u).collect()
        })
        .collect())
}

/// The loss where π = π_ref: every log-ratio is 0.
fn value_at_reference(objective: Objective, problem: &Problem, evidence: &Evidence) -> Option<f64> {
    use Objective as O;
    match objective {
        O::Copg | O::CopgCompleted => Some(0.0),
        O::CopgSquared => Some(
            (problem.prompts().iter().zip(&evidence.prompts))
                .flat_map(|(prompt, share)| {
                    let k = prompt.arms();
                    let gap = move |i: usize| prompt.reward[i / k] - prompt.reward[i % k];
                    (0..k * k).map(move |i| {
                        share.mass * prompt.law.probability(i / k, i % k) * gap(i).powi(2)
                    })
                })
                .sum(),
        ),
        O::Dpo | O::RewardModel => Some(std::f64::consts::LN_2),
        O::Ipo => Some(0.25 / (problem.beta() * problem.beta())),
        O::IpoCopg => Some(0.25),
        O::IpoGpo | O::Slic => Some(1.0),
        O::Rloo | O::PgZero | O::PgValue | O::PgSoftValue => None,
    }
}

/// How far the gradient along a straight line is from the difference of the loss at its ends
/// (Simpson's rule on 128 pieces).
fn potential_error(
    run: &mut impl FnMut(&[Vec<f64>]) -> Result<Evaluation>,
    from: &[Vec<f64>],
    to: &[Vec<f64>],
    at_from: &Evaluation,
    at_to: &Evaluation,
) -> Result<f64> {
    const PIECES: usize = 128;
    let along = |gradient: &[Vec<f64>]| -> f64 {
        (gradient.iter().zip(from.iter().zip(to)))
            .flat_map(|(g, (a, b))| g.iter().zip(a.iter().zip(b)).map(|(g, (a, b))| g * (b - a)))
            .sum()
    };
    let mut sum = along(&at_from.gradient) + along(&at_to.gradient);
    for i in 1..PIECES {
        let t = i as f64 / PIECES as f64;
        let point: Vec<Vec<f64>> = (from.iter().zip(to))
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + t * (b - a)).collect())
            .collect();
        let weight = if i % 2 == 1 { 4.0 } else { 2.0 };
        sum += weight * along(&run(&point)?.gradient);
    }
    let integral = sum / (3.0 * PIECES as f64);
    Ok((integral - (at_to.value - at_from.value)).abs() / (1.0 + at_from.value.abs()))
}

fn size(table: &[Vec<f64>]) -> f64 {
    // Not f64::max, which would hide a NaN.
    table.iter().flatten().fold(0.0, |m, v| {
        if v.abs() <= m || m.is_nan() {
            m
        } else {
            v.abs()
        }
    })
}

fn distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let gap = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a - b).collect();
    size(&a.iter().zip(b).map(gap).collect::<Vec<Vec<f64>>>())
}
