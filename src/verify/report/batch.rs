//! Checks of a loss against changes of the batch: order of its examples, padding, splitting.

use super::{Area, Check, Outcome};
use crate::error::Result;
use crate::loss::InputKind;
use crate::random::{Purpose, Stream};
use crate::solve::general::engine::{Run, apart, join, pick, random, reverse};
use crate::solve::general::groups;
use crate::solve::general::subject::{Candidate, ROUNDING, asymmetry, parameters};

const EXAMPLES: usize = 18;

pub(super) fn checks(loss: &Candidate) -> Result<Vec<Check>> {
    let kind = loss.inputs();
    let batch = random(kind, EXAMPLES, 31);
    let run = reverse(&loss.at(&parameters(0))?, &batch)?;
    let mut checks = Vec::new();

    // Another order.
    let mut order: Vec<usize> = (0..EXAMPLES).collect();
    Stream::new(31, Purpose::Order, 0).shuffle(&mut order);
    let shuffled = reverse(&loss.at(&parameters(0))?, &pick(&batch, kind, &order))?;
    let gap = apart(
        shuffled.each.iter().copied(),
        order.iter().map(|&i| run.each[i]),
    );
    checks.push(verdict(
        "order of the examples",
        gap,
        "each keeps its loss in any order",
        "the loss of an example depends on its place in the batch",
        Outcome::Fault,
    ));

    // Rows of weight zero.
    let mut padding = random(kind, 5, 32);
    padding.weight.fill(0.0);
    let padded = reverse(&loss.at(&parameters(0))?, &join(batch.clone(), &padding))?;
    let gap = apart(padded.numbers_of(EXAMPLES, &run), run.numbers());
    checks.push(verdict(
        "padding",
        gap,
        "rows of weight 0 change nothing",
        "rows of weight 0 change the others: mask them before they reach it",
        Outcome::Differs,
    ));

    // Two halves.
    let half: Vec<Run> = [(0..9), (9..EXAMPLES)]
        .into_iter()
        .map(|part| {
            let part = pick(&batch, kind, &part.collect::<Vec<_>>());
            reverse(&loss.at(&parameters(0))?, &part)
        })
        .collect::<Result<_>>()?;
    let joined = half.iter().flat_map(|run| run.each.iter().copied());
    let gap = apart(joined, run.each.iter().copied());
    checks.push(verdict(
        "micro-batches",
        gap,
        "two halves give the losses of the whole",
        "its examples are coupled: a mean over micro-batches is another loss, and an expectation \
         over single examples does not exist",
        Outcome::Differs,
    ));

    if kind.is_groups() {
        let gap = groups::order_matters(loss)?;
        checks.push(verdict(
            "order in a group",
            gap,
            "a group has the same loss in any order",
            "the order of a group's responses matters; here each is fed in the order of the arms",
            Outcome::Differs,
        ));
    }
    if kind == InputKind::ScoredPairs {
        let gap = asymmetry(loss)?;
        checks.push(verdict(
            "order of a pair",
            gap,
            "(y, y′) and (y′, y) have the same loss and gradient",
            "the order of a pair matters; here both orders are fed, half each",
            Outcome::Differs,
        ));
    }
    Ok(checks)
}

fn verdict(property: &'static str, gap: f64, good: &str, bad: &str, otherwise: Outcome) -> Check {
    let (outcome, says) = if gap <= ROUNDING {
        (Outcome::Ok, good)
    } else {
        (otherwise, bad)
    };
    Check::new(Area::Batch, property, outcome, says).with(gap)
}
