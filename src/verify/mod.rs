//! Certificates: what must hold of a loss, checked by running it.
//!
//! The checks run the loss's own generic code on exact populations, and compare it with what was
//! derived on paper ([`solve`]): the fixed point, the expected update in closed form,
//! the value at the reference. [`sabotage`] tests the checks themselves.

pub mod report;
mod sabotage;

use std::cell::RefCell;

pub use sabotage::{Sabotage, sabotage};

use crate::bandit::population::{Evaluation, Feed, evaluate_with};

use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence, Shape, random_problem};
use crate::error::{Error, Result};
use crate::loss::{Batch, Bound, Cotangents, Given, Kind, Objective, Value};
use crate::magnitude::{larger, largest};
use crate::random::{Purpose, Stream};
use crate::solve::{self, exact, fixed_point, update};

/// One property, checked.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The property, in words.
    pub property: &'static str,
    /// The largest violation seen.
    pub error: f64,
    /// The largest allowed.
    pub bound: f64,
}

impl Certificate {
    /// True if the property held. A violation that is not a number counts as one.
    pub fn holds(&self) -> bool {
        self.error <= self.bound
    }
}

/// Certifies a registered objective as it is.
///
/// # Errors
/// If the loss or a solver fails.
pub fn certify(objective: Objective) -> Result<Vec<Certificate>> {
    let binder = Binder::new(objective);
    certify_with(objective, |problem, batch| {
        binder.at(problem)?.on_tape(batch)
    })
}

/// A loss that is bound to one problem's numbers after the other's; what must be given and is not is an example.
struct Binder {
    objective: Objective,
    last: RefCell<Option<(Given, Bound)>>,
}

impl Binder {
    fn new(objective: Objective) -> Self {
        Self {
            objective,
            last: RefCell::default(),
        }
    }

    fn at(&self, problem: &Problem) -> Result<Bound> {
        let given = self.objective.with_examples(problem.given());
        let mut last = self.last.borrow_mut();
        if let Some((before, bound)) = &*last
            && *before == given
        {
            return Ok(bound.clone());
        }
        let bound = self.objective.bind(&given)?;
        *last = Some((given, bound.clone()));
        Ok(bound)
    }
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
    let (spec, known) = (objective.spec(), exact(objective));
    let kind = spec.kind;
    let (mut stationary, mut formula, mut at_reference, mut lower, mut potential) =
        (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (index, problem) in problems()?.into_iter().enumerate() {
        let problem = problem.with_numbers(&objective.with_examples(problem.given()));
        let feed = Feed::of(&Binder::new(objective).at(&problem)?)?;
        let evidence = Evidence::population(&problem);
        let trains_value = spec.value == Some(Value::Own);
        let mut run = |at: &Point| -> Result<Evaluation> {
            let problem = at.problem(&problem);
            evaluate_with(&problem, &evidence, &feed, &at.table, |batch| {
                engine(&problem, batch)
            })
        };
        let mut stream = Stream::new(index as u64, Purpose::Start, 1);
        let mut random = || -> Point {
            let mut number = || 3.0 * stream.uniform() - 1.5;
            let mut row = |arms| (0..arms).map(|_| number()).collect();
            let table = problem.prompts().iter().map(|p| row(p.arms())).collect();
            let values = trains_value.then(|| row(problem.prompts().len()));
            Point { table, values }
        };

        // The gradient vanishes at the fixed point (on kinks it jumps across zero instead).
        let answer = answer(objective, &problem, &evidence)?;
        let there = answer.as_ref().map(&mut run).transpose()?;
        if let (Some(there), true) = (&there, kind != Kind::Kinked) {
            stationary = larger(stationary, size(&there.gradient));
            if let (true, Some(of_value)) = (trains_value, &there.value_gradient) {
                stationary = larger(stationary, size(std::slice::from_ref(of_value)));
            }
        }

        let start = Point::reference(objective, &problem);
        let at_start = run(&start)?;

        // The gradient is the one derived on paper, at points in general position.
        for _ in 0..2 {
            let at = random();
            let here = run(&at)?;
            let held = here.value_at.as_deref();
            let derived =
                update::expected(objective, &at.problem(&problem), &evidence, &at.table, held)?;
            let scale = 1.0 + size(&derived.table);
            formula = larger(formula, distance(&here.gradient, &derived.table) / scale);
            if let Some(of_value) = &here.value_gradient {
                let (found, derived) = (vec![of_value.clone()], vec![derived.held]);
                formula = larger(formula, distance(&found, &derived) / (1.0 + size(&derived)));
            }
            if let (Some(there), Kind::Smooth | Kind::Kinked) = (&there, kind) {
                // Everywhere else the loss is larger.
                lower = larger(lower, (there.value - here.value) / (1.0 + here.value.abs()));
            }
            if kind == Kind::Smooth {
                let error = potential_error(&mut run, &at, &start, &here, &at_start)?;
                potential = larger(potential, error);
            }
        }

        // At the reference every margin is 0, and the loss is what its formula says there.
        let start = solve::Start {
            problem: &problem,
            view: evidence.of(spec.inputs)?,
        };
        if let Some(want) = known.and_then(|known| known.at_reference(&start)) {
            let error = (at_start.value - want).abs() / (1.0 + want.abs());
            at_reference = larger(at_reference, error);
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
    if matches!(kind, Kind::Smooth | Kind::Kinked) {
        certificates.push(certificate("the loss is larger elsewhere", lower, 1e-12));
    }
    if kind != Kind::Field {
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

/// What is trained: a table, and for DRO a value beside it.
struct Point {
    table: Vec<Vec<f64>>,
    values: Option<Vec<f64>>,
}

impl Point {
    /// π = π_ref, or all scores 0, and the problem's own values.
    fn reference(objective: Objective, problem: &Problem) -> Self {
        let zeros = || {
            (problem.prompts().iter())
                .map(|p| vec![0.0; p.arms()])
                .collect()
        };
        Self {
            table: if objective.spec().trains_scores() {
                zeros()
            } else {
                problem.reference().log().to_vec()
            },
            values: problem.prompts().iter().map(|p| p.value).collect(),
        }
    }

    /// The problem with the point's values.
    fn problem(&self, problem: &Problem) -> Problem {
        match &self.values {
            Some(values) => problem.map_prompts(|x, prompt| prompt.value = Some(values[x])),
            None => problem.clone(),
        }
    }

    /// `(1 − t) self + t other`
    fn towards(&self, other: &Self, t: f64) -> Self {
        let mix = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + t * (b - a)).collect();
        Self {
            table: (self.table.iter().zip(&other.table))
                .map(|(a, b)| mix(a, b))
                .collect(),
            values: (self.values.as_ref().zip(other.values.as_ref())).map(|(a, b)| mix(a, b)),
        }
    }
}

/// ln π of an arm whose probability is 0 in the limit: so small that its share of every gradient
/// and loss is below rounding, at the temperatures of [`problems`].
const NOWHERE: f64 = -400.0;

/// The fixed point as what is trained, if there is one.
fn answer(objective: Objective, problem: &Problem, evidence: &Evidence) -> Result<Option<Point>> {
    let limit = fixed_point(objective, problem, evidence)?;
    let values = match objective.spec().value {
        Some(Value::Own) => limit.value,
        _ => None,
    };
    if let Some(table) = limit.table {
        return Ok(Some(Point { table, values }));
    }
    // On kinks there may be no single limit; the loss is then compared with the reference's.
    let policy = match (limit.policy, objective.spec().kind) {
        (Some(policy), _) => policy,
        (None, Kind::Kinked) => problem.reference(),
        (None, _) => return Ok(None),
    };
    let mut table = reached(objective, problem, evidence, policy.log())?;
    if objective.spec().trains_scores() {
        // The scores of which the policy is the optimum: β ln π/π_ref.
        for (row, prompt) in table.iter_mut().zip(problem.prompts()) {
            let reference = prompt.log_reference.iter();
            row.iter_mut()
                .zip(reference)
                .for_each(|(l, r)| *l = problem.beta() * (*l - r));
        }
    }
    Ok(Some(Point { table, values }))
}

/// A policy as logits, all finite: arms that vanish are so far off that it does not matter any more where they are.
fn reached(
    objective: Objective,
    problem: &Problem,
    evidence: &Evidence,
    log: &[Vec<f64>],
) -> Result<Vec<Vec<f64>>> {
    let (given, known) = (problem.given(), exact(objective));
    let view = evidence.of(objective.spec().inputs)?;
    let prompts = problem.prompts().iter().zip(&view.prompts).enumerate();
    let row = |((x, (prompt, share)), row): ((usize, (&Prompt, &PromptEvidence)), &Vec<f64>)| {
        let place = update::Place {
            given: Some(&given),
            ..update::Place::new(x, prompt, share, problem.beta())
        };
        let known = known.filter(|_| row.contains(&f64::NEG_INFINITY));
        let way = known.and_then(|known| known.approach(place));
        way.unwrap_or_else(|| row.iter().map(|l| l.max(NOWHERE)).collect())
    };
    Ok(prompts.zip(log).map(row).collect())
}

/// How far the gradient along a straight line is from the difference of the loss at its ends
/// (Simpson's rule, in pieces as small as the slope asks for: it may have corners).
fn potential_error(
    run: &mut impl FnMut(&Point) -> Result<Evaluation>,
    from: &Point,
    to: &Point,
    at_from: &Evaluation,
    at_to: &Evaluation,
) -> Result<f64> {
    const PIECES: usize = 16;
    let dot = |g: &[f64], a: &[f64], b: &[f64]| -> f64 {
        g.iter()
            .zip(a.iter().zip(b))
            .map(|(g, (a, b))| g * (b - a))
            .sum()
    };
    let along = |at: &Evaluation| -> f64 {
        let rows = at.gradient.iter().zip(from.table.iter().zip(&to.table));
        let table: f64 = rows.map(|(g, (a, b))| dot(g, a, b)).sum();
        match (&at.value_gradient, &from.values, &to.values) {
            (Some(g), Some(a), Some(b)) => table + dot(g, a, b),
            _ => table,
        }
    };
    let mut slope = |t: f64| Ok::<_, Error>(along(&run(&from.towards(to, t))?));
    let scale = 1.0 + at_from.value.abs();
    let mut integral = 0.0;
    let mut left = along(at_from);
    for i in 0..PIECES {
        let (a, b) = (i as f64 / PIECES as f64, (i + 1) as f64 / PIECES as f64);
        let right = if i + 1 == PIECES {
            along(at_to)
        } else {
            slope(b)?
        };
        let middle = slope(0.5 * (a + b))?;
        integral += simpson(&mut slope, [a, b], [left, middle, right], scale, DEPTH)?;
        left = right;
    }
    Ok((integral - (at_to.value - at_from.value)).abs() / scale)
}

/// Most halvings of a piece.
const DEPTH: usize = 40;

/// The integral of a function over a piece, from its values at the ends and between: halved until two halves say what
/// the whole does, to 1e-11 of `scale` for each unit of length (1e-13 where they are short).
fn simpson(
    of: &mut impl FnMut(f64) -> Result<f64>,
    [a, b]: [f64; 2],
    [fa, fm, fb]: [f64; 3],
    scale: f64,
    depth: usize,
) -> Result<f64> {
    let (m, sixth) = (0.5 * (a + b), (b - a) / 6.0);
    let whole = sixth * (fa + 4.0 * fm + fb);
    let (fl, fr) = (of(0.5 * (a + m))?, of(0.5 * (m + b))?);
    let halves = 0.5 * sixth * (fa + 4.0 * fl + 2.0 * fm + 4.0 * fr + fb);
    let close = (halves - whole).abs() <= 1e-11 * scale * (b - a).max(1e-2);
    if close || depth == 0 || !halves.is_finite() {
        return Ok(halves + (halves - whole) / 15.0);
    }
    let left = simpson(of, [a, m], [fa, fl, fm], scale, depth - 1)?;
    Ok(left + simpson(of, [m, b], [fm, fr, fb], scale, depth - 1)?)
}

fn size(table: &[Vec<f64>]) -> f64 {
    largest(table.iter().flatten())
}

fn distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let gap = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a - b).collect();
    size(&a.iter().zip(b).map(gap).collect::<Vec<Vec<f64>>>())
}
