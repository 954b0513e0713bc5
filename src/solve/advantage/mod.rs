//! The Advantage Model: the table of scores that minimises its loss, and the policy they lead to.
//!
//! The loss (Peng et al. 2023, eq. 6) of a pair with winner w and loser l is
//!
//! `−ln σ(a_w − a_l) − ln σ(m − a_w) − ln σ(m + a_l)`,
//!
//! a ranking loss and a bound of each side by the margin m. Over a free table a(x, y) it is
//! strictly convex in the scores of the arms that are compared at all, and has a unique finite
//! minimum, whatever the labels: a direction in which it does not grow would need no winner to rise,
//! no loser to fall and no loser to rise above its winner. At the minimum `|a| < m`: at the largest
//! score, were it m or more, the pulls down are at least half of all its comparisons and the pulls up
//! less. With the scores centred under a law π_φ (the mean-zero condition of eq. 5 as a constraint)
//! the bound need not hold.
//!
//! Unlike a reward model's, the minimum is not the reward: gaps shrink, and the common level is
//! fixed by who wins and loses how often.

mod elimination;
pub mod estimator;
mod exact;
mod newton;
mod pulls;
mod shift;

use super::{CUBIC_CAP, FixedPoint, Part, Rest, assemble, largest, tilt};
use crate::bandit::{Edge, Evidence, Problem, Prompt, PromptEvidence};
use crate::error::{Error, Result};
use crate::loss::InputKind;
pub(super) use exact::EXACT;
use pulls::{Ground, Pulls};

/// Form of the loss: the pairs that count, and whether the scores are centred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Every pair, also those of a response with itself (which bound its score from both sides).
    SelfPairs,
    /// Pairs of different responses only.
    Distinct,
    /// Every pair, and `Σ_y π_φ(y|x) a(x, y) = 0` with π_φ = [`Prompt::centre`].
    Centred,
}

/// The scores that minimise the Advantage Model's loss, and the optimal policy of the
/// KL-regularised problem with them as rewards, `∝ π_ref e^{a/β}`; its regret is the true reward's.
///
/// `table` holds the scores (one row per prompt, over the arms kept). Arms that are never compared
/// stay at 0, where gradient flow starts; in the centred form they take up together what centres the
/// others, as that flow shares it out. The residual is the
/// largest entry of the loss's gradient in the scores, for the centred form of its projection onto
/// the constraint. A label less likely than 1e-308 counts as impossible, and in the centred form
/// pulls that small do not count either.
///
/// # Errors
/// A margin that is not positive and finite, no pairs, or more than 2,000 arms.
pub fn fixed_point(
    problem: &Problem,
    evidence: &Evidence,
    margin: f64,
    form: Form,
) -> Result<FixedPoint> {
    if !(margin > 0.0 && margin <= 1e100) {
        return Err(Error::invalid(
            "margin",
            format!("it is {margin}"),
            "give a number greater than 0",
        ));
    }
    solve(problem, evidence, form, Ground::Margin(margin))
}

/// The Bradley–Terry reward model (eq. 1) with a penalty `½ λ Σ_y r(x, y)²` per prompt: finite
/// also where the labels are separable, and of mean zero over each component of the comparisons.
///
/// # Errors
/// A penalty that is not positive and finite, no pairs, or more than 2,000 arms.
pub fn ridge_reward_model(
    problem: &Problem,
    evidence: &Evidence,
    penalty: f64,
) -> Result<FixedPoint> {
    if !(penalty > 0.0 && penalty.is_finite()) {
        return Err(Error::invalid(
            "penalty",
            format!("it is {penalty}"),
            "give a number greater than 0",
        ));
    }
    solve(problem, evidence, Form::Distinct, Ground::Ridge(penalty))
}

fn solve(problem: &Problem, evidence: &Evidence, form: Form, ground: Ground) -> Result<FixedPoint> {
    let mut table: Vec<Vec<f64>> = problem
        .prompts()
        .iter()
        .map(|p| vec![0.0; p.arms()])
        .collect();
    let view = evidence.of(InputKind::LabelledPairs)?;
    let mut found = assemble(problem, view, |x, prompt, share| {
        let (scores, part) = prompt_scores(x, prompt, share, problem.beta(), form, ground)?;
        table[x] = scores;
        Ok(part)
    })?;
    found.table = found.policy.is_some().then_some(table);
    found.sound(problem)
}

/// What gradient flow from scores of 0 leaves the arms `free` that are never compared, where scores are
/// centred under `c`. With t the table before centring, `a = t − c·t`, and g the pulls at a, the flow is
/// `ṫ = −g + c Σg`: with Γ = ∫Σg, free arms end at `c_f Γ − m`, `m = c·t`. The sum of the others'
/// scores, and the mean of all, 0, give both numbers:
///
/// `−c(F) Γ − |C| m = Σ_C a`, `Σ_F c² Γ − c(F) m = −Σ_C c a`.
fn take_up(c: &[f64], free: &[usize], scores: &mut [f64]) {
    let (mut sum, mut mean, mut count) = (0.0, 0.0, 0.0f64);
    for a in (0..scores.len()).filter(|a| !free.contains(a)) {
        (sum, mean, count) = (sum + scores[a], mean + c[a] * scores[a], count + 1.0);
    }
    let mass: f64 = free.iter().map(|&a| c[a]).sum();
    let squares: f64 = free.iter().map(|&a| c[a] * c[a]).sum();
    if count == 0.0 {
        return;
    }
    let gamma = -(mean + mass * sum / count) / (squares + mass * mass / count);
    let shift = -(sum + mass * gamma) / count;
    free.iter().for_each(|&a| scores[a] = c[a] * gamma - shift);
}

/// Error of ln π beyond which scores are not shown.
const UNSETTLED: f64 = 1e-6;

const CLOSED: &str = "no comparison, scores at 0";

fn prompt_scores(
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
    form: Form,
    ground: Ground,
) -> Result<(Vec<f64>, Part)> {
    let arms = prompt.arms();
    if arms > CUBIC_CAP {
        return Err(Error::TooLarge {
            what: "the Advantage Model's Newton solver",
            cap: CUBIC_CAP,
            prompt: x,
            arms,
        });
    }
    let edges: Vec<Edge> = share.compared().edges(&prompt.reward);
    let pulls = Pulls::new(arms, &edges, form != Form::Distinct, ground);
    drop(edges);
    let free: Vec<usize> = (0..arms).filter(|&a| !pulls.compared(a)).collect();
    let normal = (form == Form::Centred).then(|| prompt.centre());
    let reach = match ground {
        Ground::Margin(m) => 10.0 * (1.0 + m),
        Ground::Ridge(_) => 100.0,
    };
    // What is left free takes up the centring, so the others do not feel it.
    let felt = |c: &[f64]| free.iter().all(|&a| c[a] == 0.0);
    let start = vec![0.0; arms];
    let (mut scores, residual, off) = match &normal {
        Some(c) if felt(c) => {
            let found = newton::minimise(&pulls, start, Some(c), reach);
            (found.scores, found.residual, found.off)
        }
        _ => minimum(&pulls, start, reach),
    };
    // An imbalance of a part of the pulls at a score is about that error of the score.
    let error = off * (1.0 + largest(scores.iter().copied())) / beta;
    let found = error <= UNSETTLED;
    if !found {
        let note = format!(
            "no minimum found to rounding: pulls at some scores are lost beside the others (by {off:.0e})"
        );
        let method = "strictly convex, Newton, not converged";
        return Ok((scores, Part::none(method, note)));
    }
    let mut settled = free.is_empty();
    if let Some(c) = normal.as_ref().filter(|c| !felt(c)) {
        take_up(c, &free, &mut scores);
        // One alone is what the mean leaves it.
        settled = free.len() == 1;
    }
    let mut notes = Vec::new();
    if !settled {
        let list = super::graph::arm_list(&free, prompt.kept());
        notes.push(format!("never compared, so their scores are free: {list}"));
    }
    let method = match (ground, form) {
        _ if free.len() == arms => CLOSED,
        (Ground::Ridge(_), _) => "ridge estimate, Newton",
        (_, Form::Centred) => "strictly convex on a hyperplane, Newton",
        _ => "strictly convex, Newton",
    };
    let part = Part {
        log_policy: Some(tilt(prompt, scores.iter().map(|a| a / beta))),
        method,
        residual,
        unique: settled,
        rest: if settled { Rest::Stable } else { Rest::Neutral },
        error: None,
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    };
    Ok((scores, part))
}

/// The free minimum: Newton, and where groups of arms hang together far more strongly than on
/// anything else, their common shifts, until both agree.
fn minimum(pulls: &Pulls, start: Vec<f64>, reach: f64) -> (Vec<f64>, f64, f64) {
    let (mut scores, mut off) = (start, f64::INFINITY);
    for round in 0..30 {
        let found = newton::minimise(pulls, scores.clone(), None, reach);
        let mut moved = found.scores;
        let Some(last) = shift::settle(pulls, &mut moved) else {
            return (moved, found.residual, found.off);
        };
        let size = 1.0 + super::largest(moved.iter().copied());
        let change = super::largest(moved.iter().zip(&scores).map(|(a, b)| a - b));
        scores = moved;
        if round > 0 && change < 1e-12 * size {
            let residual = super::largest(pulls.gradient(&scores).of);
            return (scores, residual, if last < 1e-12 { 0.0 } else { last });
        }
        off = super::larger(last, change / size);
    }
    let residual = super::largest(pulls.gradient(&scores).of);
    (scores, residual, off)
}

/// The loss of a table on one prompt's evidence, per unit of its mass, and its gradient.
///
/// # Errors
/// No pairs.
pub fn loss(
    prompt: &Prompt,
    share: &PromptEvidence,
    margin: f64,
    form: Form,
    scores: &[f64],
) -> Result<(f64, Vec<f64>)> {
    let edges = share.compared().edges(&prompt.reward);
    let pulls = Pulls::new(
        prompt.arms(),
        &edges,
        form != Form::Distinct,
        Ground::Margin(margin),
    );
    // A pair of a response with itself is ranked right half of the time.
    let own: f64 = match form {
        Form::Distinct => 0.0,
        _ => edges.iter().filter(|e| e.a == e.b).map(Edge::weight).sum(),
    };
    let value = pulls.value(scores) + own * std::f64::consts::LN_2;
    Ok((value, pulls.gradient(scores).of))
}
