//! Mutation test of the certificates: spoils every operation of a loss in every way and counts what they
//! catch.

use super::{Binder, Certificate, certify_with, problems};
use crate::backend::mutant::{DETACH, Fault, Mutant, Saboteur, Site};
use crate::backend::nd::{Tape, Var};
use crate::bandit::population::{Evaluation, Feed, evaluate_with};

use crate::bandit::{Evidence, Problem};
use crate::error::Result;
use crate::loss::{Batch, Cotangents, Kind, Objective};
use crate::random::{Purpose, Stream};
use std::rc::Rc;

/// Outcome of spoiling each operation of a loss in turn.
#[derive(Debug, Clone)]
pub struct Sabotage {
    /// The loss.
    pub objective: Objective,
    /// Operations it makes, in order.
    pub operations: Vec<Site>,
    /// Spoiled forms of which some certificate failed.
    pub caught: usize,
    /// Forms that are the same function: equal value and gradient wherever tried, such as a sign
    /// under a square or a detach of a constant.
    pub equivalent: Vec<(Site, Fault)>,
    /// Forms that are another function and that every certificate let through.
    pub missed: Vec<(Site, Fault)>,
}

/// Spoils each operation of an objective in each way.
///
/// # Errors
/// If the loss or a solver fails.
pub fn sabotage(objective: Objective) -> Result<Sabotage> {
    let binder = Binder::new(objective);
    let idle = Saboteur::idle();
    let honest = probe(&binder, &idle)?;
    let operations = idle.seen();
    let mut result = Sabotage {
        objective,
        operations: operations.clone(),
        caught: 0,
        equivalent: Vec::new(),
        missed: Vec::new(),
    };
    for &site in &operations {
        // A detach can be dropped; everything else can gain one.
        let unfit = if site.operation == DETACH {
            Fault::Detach
        } else {
            Fault::KeepGradient
        };
        for fault in Fault::ALL.into_iter().filter(|&f| f != unfit) {
            let saboteur = Saboteur::new(site, fault);
            let probed = probe(&binder, &saboteur);
            if probed.is_ok_and(|spoiled| same(objective, &honest, &spoiled)) {
                result.equivalent.push((site, fault));
                continue;
            }
            // A form that fails to run, such as a logarithm of what became negative, is caught too.
            let certificates = certify_with(objective, |problem, batch| {
                spoiled(&binder, problem, batch, &saboteur)
            });
            if certificates.is_ok_and(|all| all.iter().all(Certificate::holds)) {
                result.missed.push((site, fault));
            } else {
                result.caught += 1;
            }
        }
    }
    Ok(result)
}

/// Runs the loss with one operation spoiled.
fn spoiled(
    binder: &Binder,
    problem: &Problem,
    batch: &Batch,
    saboteur: &Rc<Saboteur>,
) -> Result<Cotangents> {
    saboteur.restart();
    let loss = binder.at(problem)?;
    let tape = Tape::new();
    let (inputs, leaves) = batch.inputs(
        loss.spec().inputs,
        loss.columns()?,
        |v| Ok(Mutant::new(tape.leaf(v.to_vec()), saboteur)),
        |v| Ok(Mutant::new(tape.constant(v.to_vec()), saboteur)),
    )?;
    let each = loss.loss(&inputs)?;
    let leaves: Vec<&Var> = leaves.iter().map(Mutant::inner).collect();
    let gradient = tape.backward(each.inner(), &batch.weight, &leaves)?;
    let value = each
        .inner()
        .with(|v| v.iter().zip(&batch.weight).map(|(v, w)| v * w).sum());
    Ok(Cotangents {
        value,
        gradient: gradient.into_iter().map(|g| g.to_vec()).collect(),
    })
}

/// Value and gradient at points in general position.
fn probe(binder: &Binder, saboteur: &Rc<Saboteur>) -> Result<Vec<Evaluation>> {
    let mut all = Vec::new();
    for (index, problem) in problems()?.into_iter().enumerate() {
        let feed = Feed::of(&binder.at(&problem)?)?;
        let evidence = Evidence::population(&problem);
        let mut stream = Stream::new(index as u64, Purpose::Start, 2);
        let row = |arms: usize, stream: &mut Stream| {
            (0..arms).map(|_| 4.0 * stream.uniform() - 2.0).collect()
        };
        for _ in 0..3 {
            let at: Vec<Vec<f64>> = problem
                .prompts()
                .iter()
                .map(|p| row(p.arms(), &mut stream))
                .collect();
            all.push(evaluate_with(&problem, &evidence, &feed, &at, |batch| {
                spoiled(binder, &problem, batch, saboteur)
            })?);
        }
    }
    Ok(all)
}

fn same(objective: Objective, a: &[Evaluation], b: &[Evaluation]) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-13 * (1.0 + a.abs());
    (a.iter().zip(b)).all(|(a, b)| {
        let value = objective.spec().kind == Kind::Field || close(a.value, b.value);
        let gradients = a.gradient.iter().flatten().zip(b.gradient.iter().flatten());
        let held = (a.value_gradient.iter().flatten()).zip(b.value_gradient.iter().flatten());
        value && gradients.chain(held).all(|(a, b)| close(*a, *b))
    })
}
