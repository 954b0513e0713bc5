//! Checks of a loss against changes of the batch: order of its examples, padding, splitting.

use super::engine::{Run, apart, join, pick, random, reverse, slots, swapped};
use super::gradient::{ROUNDING, parameters};
use super::groups;
use super::{Area, Check, Loss, Outcome};
use crate::error::Result;
use crate::loss::InputKind;
use crate::random::{Purpose, Stream};

const EXAMPLES: usize = 18;

pub(super) fn checks<L: Loss>(loss: &L) -> Result<Vec<Check>> {
    let kind = loss.inputs();
    let batch = random(kind, EXAMPLES, 31);
    let run = reverse(loss, &batch, parameters(0))?;
    let mut checks = Vec::new();

    // Another order.
    let mut order: Vec<usize> = (0..EXAMPLES).collect();
    Stream::new(31, Purpose::Order, 0).shuffle(&mut order);
    let shuffled = reverse(loss, &pick(&batch, kind, &order), parameters(0))?;
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
    let padded = reverse(loss, &join(batch.clone(), &padding), parameters(0))?;
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
            reverse(loss, &part, parameters(0))
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

    if kind == InputKind::Groups {
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

/// Whether the order of scored pairs matters.
pub(super) fn order_of_a_pair_matters<L: Loss>(loss: &L) -> Result<bool> {
    let gap = asymmetry(loss)?;
    Ok(gap > ROUNDING || gap.is_nan())
}

fn asymmetry<L: Loss>(loss: &L) -> Result<f64> {
    let batch = random(loss.inputs(), EXAMPLES, 33);
    let run = reverse(loss, &batch, parameters(0))?;
    let mut turned = reverse(loss, &swapped(&batch), parameters(0))?;
    if slots(loss.inputs()) == 2 {
        turned.gradient.swap(0, 1);
    }
    Ok(apart(run.numbers(), turned.numbers()))
}

impl Run {
    /// The numbers of the first `examples` of a longer run, whose leaves were as long as `of`'s.
    fn numbers_of<'a>(&'a self, examples: usize, of: &'a Self) -> impl Iterator<Item = f64> + 'a {
        let gradient = (self.gradient.iter().zip(&of.gradient)).flat_map(|(g, o)| &g[..o.len()]);
        self.each[..examples].iter().chain(gradient).copied()
    }
}

fn verdict(property: &'static str, gap: f64, good: &str, bad: &str, otherwise: Outcome) -> Check {
    let (outcome, says) = if gap <= ROUNDING {
        (Outcome::Ok, good)
    } else {
        (otherwise, bad)
    };
    Check::new(Area::Batch, property, outcome, says).with(gap)
}
