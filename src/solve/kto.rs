//! Kahneman–Tversky Optimization on rewards split into thumbs up and down.
//!
//! With labels, `λ_D = λ_U = 1`, `s_a = σ(β(u_a − z₀))` and `z₀ = max(0, E_ρ KL(π‖π_ref))`, which
//! couples the prompts and carries no gradient, the loss `E[1 − σ(±β(u − z₀))]` is linear in s:
//! with `κ_a = μ̄_a (2q_a − 1)`, q the probability of a thumb up, it is `−Σ κ s` up to a constant.
//! Its gradient flow on logits is `θ̇_a = ρ (g_a − π_a Σ g)`, `g_a = β κ_a s_a (1 − s_a)`.

use std::ops::Range;

use super::flow::{Motion, centre, follow, low_rank};
use super::policy_gradient::FLOW_CAP;
use super::{FixedPoint, largest, log_softmax, worse};
use crate::backend::nd::sigmoid;
use crate::bandit::population::threshold;
use crate::bandit::{Evidence, Policy, Problem, kl, log_sum_exp};
use crate::error::{Error, Result};

/// What a reward must exceed, strictly, for its response to count as desirable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Split {
    /// `E_ρ E_μ̄ R`, the mean over all prompts (the DRO paper's minibatch mean, batch → ∞).
    Pooled,
    /// `E_μ̄[R|x]`, the prompt's own mean.
    PerPrompt,
    /// A given number.
    Threshold(f64),
}

/// What stands for z₀.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KlTerm {
    /// `max(0, E_ρ KL(π‖π_ref))`.
    Exact,
    /// 0.
    Zero,
}

/// How rewards become thumbs, and what the reference point is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The split into desirable and undesirable.
    pub split: Split,
    /// z₀.
    pub kl: KlTerm,
}

impl Default for Options {
    /// The pooled mean and the exact KL.
    fn default() -> Self {
        Self {
            split: Split::Pooled,
            kl: KlTerm::Exact,
        }
    }
}

/// Whether each arm is desirable: its reward exceeds the threshold.
///
/// A reward equal to the threshold counts as undesirable (the DRO paper's "greater or less" leaves
/// it open); arms that no response shows get a label too, which nothing uses.
pub fn desirable(evidence: &Evidence, split: Split) -> Vec<Vec<bool>> {
    let pooled = threshold(evidence);
    (evidence.prompts.iter())
        .map(|share| {
            let threshold = match split {
                Split::Pooled => pooled,
                Split::PerPrompt => share.mean_reward(),
                Split::Threshold(t) => t,
            };
            share.reward.iter().map(|&r| r > threshold).collect()
        })
        .collect()
}

/// What the estimate of the KL from mismatched pairs (a prompt with responses to other prompts)
/// comes to on a bandit whose responses all come from μ̄: `E_μ̄[u]`, before it is clamped at 0.
///
/// That is the KL only where μ̄ = π; at π = π_ref both are 0, and `E_μ̄[u]` may be negative. Arms
/// without mass count nothing.
pub fn mismatched_kl(law: &[f64], log_policy: &[f64], log_reference: &[f64]) -> f64 {
    (law.iter().zip(log_policy.iter().zip(log_reference)))
        .filter(|(mass, _)| **mass > 0.0)
        .map(|(mass, (l, reference))| mass * (l - reference))
        .sum()
}

/// KTO's limit on rewards split as `options` say: [`fixed_point_of`] with κ = ±μ̄.
///
/// # Errors
/// A threshold that is no number; otherwise as [`fixed_point_of`].
pub fn fixed_point(problem: &Problem, evidence: &Evidence, options: Options) -> Result<FixedPoint> {
    if let Split::Threshold(t) = options.split
        && t.is_nan()
    {
        return Err(Error::invalid(
            "threshold",
            "it is NaN",
            "give the number that desirable rewards exceed",
        ));
    }
    let pulls: Vec<Vec<f64>> = (desirable(evidence, options.split).iter())
        .zip(&evidence.prompts)
        .map(|(labels, share)| {
            (labels.iter().zip(share.mean_law()))
                .map(|(&good, mass)| if good { mass } else { -mass })
                .collect()
        })
        .collect();
    fixed_point_of(problem, evidence, &pulls, options.kl)
}

/// KTO's limit for any pulls `κ_a = μ̄_a (2q_a − 1)`, q the probability of a thumb up: that of
/// gradient flow from the reference.
///
/// * With D = {κ > 0} not empty, every other arm goes to probability 0 (as t^{−1/β} where κ < 0), and
///   on D `κ s (1 − s)/π` is one number: for β ≤ 1 a nested root, of Σπ = 1 for each prompt and of
///   `z₀ = E_ρ KL` over all. Which of its rewards are larger does not matter. (At β = 1 an arm of D
///   may go to 0 too.) Given z₀ the policy is one; z₀ need not be, from β ≈ 0.6 on where κ and π_ref
///   disagree strongly. Then the joint flow from the reference chooses and `unique` is false. (Several
///   z₀ are looked for on a grid.)
/// * With D empty the interior rest repels for β < 1 and the policy ends on one arm, any of which
///   attracts. Joint flow from the reference says which; arms with κ = 0 (never shown) win over
///   those with κ < 0, the likeliest under the reference first.
///   Arms that nothing tells apart share.
/// * For β > 1 nothing is established. Every arm of D attracts once it has taken nearly all
///   probability, so limits are many; shown is the flow's from the reference, and `unique` is false
///   unless every D holds one arm, which wins at any temperature.
/// * Residual: the largest entry of the expected update.
///
/// # Errors
/// Pulls that do not fit the problem or are not finite, or more than 20,000 arms where a flow has to
/// be followed.
pub fn fixed_point_of(
    problem: &Problem,
    evidence: &Evidence,
    pulls: &[Vec<f64>],
    kl: KlTerm,
) -> Result<FixedPoint> {
    check(problem, pulls)?;
    let field = Field::new(problem, evidence, pulls, kl);
    let (beta, mut notes) = (field.beta, Vec::new());
    let mut method = "nested root of Σπ = 1 and z₀ = KL";
    let mut unique = true;
    for block in &field.blocks {
        let fate = block.fate(beta);
        unique &= fate.unique;
        notes.extend((fate.note).map(|note| format!("prompt {}: {note}", block.index)));
    }
    let flows = (field.blocks.iter()).any(|b| b.fate(beta).support.is_none());
    if flows {
        field.small_enough()?;
    }
    let rows = if beta > 1.0 && flows {
        method = "joint gradient flow from the reference, Newton polish";
        notes.push(
            "for β > 1 no limit is established: shown is gradient flow's from the reference".into(),
        );
        field.hot()
    } else {
        let limits = if flows {
            method =
                "joint gradient flow from the reference to find the arms that win, nested root";
            let (limits, undecided) = field.winners();
            notes.extend(undecided.iter().map(|x| {
                format!(
                    "prompt {x}: gradient flow from the reference rests between arms, a point that \
                     others leave"
                )
            }));
            limits
        } else {
            field.blocks.iter().map(|b| field.won(b, &[])).collect()
        };
        let roots = field.reference_points(&limits);
        let z = match roots.as_slice() {
            [z] => *z,
            several => {
                unique = false;
                method = "nested roots of Σπ = 1 and z₀ = KL, joint gradient flow to choose";
                notes.push(format!(
                    "{} values of z₀ = KL attract; shown is the one that gradient flow from the \
                     reference comes to",
                    several.len()
                ));
                field.reached(several)?
            }
        };
        field.rows(&limits, z)
    };
    if field.blocks.len() < problem.prompts().len() {
        unique = false;
        notes.push("prompts without examples stay at the reference".into());
    }
    let residual = largest(field.local(&rows.concat()).update);
    let mut all: Vec<Vec<f64>> = (problem.prompts().iter())
        .map(|p| p.log_reference.clone())
        .collect();
    for (block, row) in field.blocks.iter().zip(rows) {
        all[block.index] = row;
    }
    let policy = Policy::from_log(all);
    Ok(FixedPoint {
        regret: Some(problem.regret(&policy)),
        policy: Some(policy),
        method: method.into(),
        residual: Some(residual),
        unique,
        notes,
        value: None,
        table: None,
    })
}

fn check(problem: &Problem, pulls: &[Vec<f64>]) -> Result<()> {
    let fits = pulls.len() == problem.prompts().len()
        && (problem.prompts().iter().zip(pulls)).all(|(p, row)| p.arms() == row.len());
    if fits && pulls.iter().flatten().all(|k| k.is_finite()) {
        return Ok(());
    }
    Err(Error::invalid(
        "pulls",
        "there is not one finite number for each prompt and arm",
        "give κ = μ̄(2q − 1), q the probability of a thumb up",
    ))
}

/// A logarithm of a probability below which, at the end of a flow, an arm counts as gone.
const FADED: f64 = -14.0;

/// One prompt: its place in the joint table and the numbers of its arms.
#[derive(Debug, Clone)]
struct Block {
    index: usize,
    mass: f64,
    span: Range<usize>,
    /// ln π_ref.
    reference: Vec<f64>,
    /// κ.
    pull: Vec<f64>,
    /// Reference probability of the arms left out.
    lost: f64,
    /// Groups of arms that nothing tells apart; gradient flow keeps them level.
    twins: Vec<Vec<usize>>,
}

/// What is known of a prompt's limit before any flow.
struct Fate {
    /// The arms that may keep probability; none where only a flow tells.
    support: Option<Vec<usize>>,
    unique: bool,
    note: Option<String>,
}

/// What a prompt's limit is, given z₀.
enum Limit {
    /// On these arms, `κ s (1 − s)/π` is one number.
    Balanced(Vec<usize>),
    /// Equal shares of these arms, relative to the reference.
    Shared(Vec<usize>),
    /// ln π itself.
    Held(Vec<f64>),
}

impl Block {
    fn fate(&self, beta: f64) -> Fate {
        let arms = || 0..self.pull.len();
        let good: Vec<usize> = arms().filter(|&a| self.pull[a] > 0.0).collect();
        let open: Vec<usize> = arms().filter(|&a| self.pull[a] == 0.0).collect();
        let known = |support: Vec<usize>, unique: bool, note: Option<String>| Fate {
            support: Some(support),
            unique,
            note,
        };
        if self.pull.len() == 1 || good.len() == 1 {
            let winner = good.first().copied().unwrap_or(0);
            return known(vec![winner], true, None);
        }
        if !good.is_empty() {
            return Fate {
                support: (beta <= 1.0).then_some(good),
                unique: beta <= 1.0,
                note: None,
            };
        }
        if !open.is_empty() {
            let top = (open.iter()).fold(f64::NEG_INFINITY, |t, &a| t.max(self.reference[a]));
            let alone = open.len() == 1;
            let first = open.into_iter().filter(|&a| self.reference[a] == top);
            let note = "no arm is desirable: the likeliest of those never shown wins";
            return known(first.collect(), alone, Some(note.into()));
        }
        Fate {
            support: None,
            unique: false,
            note: Some(if beta < 1.0 {
                "no arm is desirable: any arm attracts, and which wins depends on the start".into()
            } else {
                "no arm is desirable".into()
            }),
        }
    }

    /// The arms that nothing tells from `arm`, itself included.
    fn alike(&self, arm: usize) -> Vec<usize> {
        let group = self.twins.iter().find(|group| group.contains(&arm));
        group.cloned().unwrap_or_else(|| vec![arm])
    }

    /// The row of a limit at z₀.
    fn row(&self, limit: &Limit, beta: f64, z: f64) -> Vec<f64> {
        let mut row = vec![f64::NEG_INFINITY; self.pull.len()];
        match limit {
            Limit::Held(row) => return row.clone(),
            Limit::Shared(arms) => arms.iter().for_each(|&a| row[a] = self.reference[a]),
            Limit::Balanced(arms) if arms.len() == 1 => row[arms[0]] = 0.0,
            Limit::Balanced(arms) => {
                let pick = |of: &[f64]| -> Vec<f64> { arms.iter().map(|&a| of[a]).collect() };
                let found = balanced(&pick(&self.pull), &pick(&self.reference), beta, z);
                arms.iter().zip(found).for_each(|(&a, l)| row[a] = l);
            }
        }
        log_softmax(&row)
    }
}

/// The flow's field over all prompts with examples.
#[derive(Debug, Clone)]
struct Field {
    beta: f64,
    blocks: Vec<Block>,
    /// Whether z₀ is the exact KL and not 0.
    exact: bool,
    /// How nearly all of the probability one arm must have before it counts as the winner.
    nearly: f64,
}

/// Its numbers at a point.
struct At {
    update: Vec<f64>,
    policy: Vec<f64>,
    log_ratio: Vec<f64>,
    /// g.
    push: Vec<f64>,
    /// ∂g/∂u.
    bend: Vec<f64>,
    z: f64,
}

impl Field {
    fn new(problem: &Problem, evidence: &Evidence, pulls: &[Vec<f64>], kl: KlTerm) -> Self {
        let mut end = 0;
        let blocks = (problem.prompts().iter().zip(&evidence.prompts).enumerate())
            .filter(|(_, (_, share))| share.mass > 0.0)
            .map(|(index, (prompt, share))| {
                let span = end..end + prompt.arms();
                end = span.end;
                Block {
                    index,
                    mass: share.mass,
                    span,
                    reference: prompt.log_reference.clone(),
                    pull: pulls[index].clone(),
                    lost: 0.0,
                    twins: twins(&pulls[index], &prompt.log_reference),
                }
            })
            .collect();
        Self {
            beta: problem.beta(),
            blocks,
            exact: kl == KlTerm::Exact,
            nearly: f64::INFINITY,
        }
    }

    fn arms(&self) -> usize {
        self.blocks.last().map_or(0, |b| b.span.end)
    }

    fn reference(&self) -> Vec<f64> {
        self.blocks
            .iter()
            .flat_map(|b| b.reference.clone())
            .collect()
    }

    /// Whether a flow may be followed.
    fn small_enough(&self) -> Result<()> {
        if self.arms() <= FLOW_CAP {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: "KTO's flow, over all prompts together,",
            cap: FLOW_CAP,
            prompt: 0,
            arms: self.arms(),
        })
    }

    /// The rows of limits at z₀.
    fn rows(&self, limits: &[Limit], z: f64) -> Vec<Vec<f64>> {
        (self.blocks.iter().zip(limits))
            .map(|(b, limit)| b.row(limit, self.beta, z))
            .collect()
    }

    /// The z₀ that are the KL of the rows they make, of those that attract: where the KL falls through
    /// z₀ as z₀ grows. They are looked for on a grid, finer near 0; there is at least one.
    fn reference_points(&self, limits: &[Limit]) -> Vec<f64> {
        if !self.exact {
            return vec![0.0];
        }
        if !(limits.iter()).any(|l| matches!(l, Limit::Balanced(arms) if arms.len() > 1)) {
            return vec![self.z_of(&self.rows(limits, 0.0))];
        }
        let gap = |z: f64| self.z_of(&self.rows(limits, z)) - z;
        // No policy is further from the reference than all mass on its rarest arm.
        let most: f64 = (self.blocks.iter())
            .map(|b| b.mass * b.reference.iter().fold(0.0f64, |m, l| m.max(-l)))
            .sum();
        let cells = if self.arms() <= 1_000 { 256 } else { 32 };
        let at = |i: u32| (1.0 + most) * (f64::from(i) / f64::from(cells)).powi(2);
        let (mut roots, mut before) = (Vec::new(), gap(0.0));
        if before <= 0.0 {
            roots.push(0.0);
        }
        for i in 1..=cells {
            let here = gap(at(i));
            if before > 0.0 && here <= 0.0 {
                roots.push(crossing(gap, at(i - 1), at(i)));
            }
            before = here;
        }
        roots
    }

    /// Which of several z₀ gradient flow from the reference comes to.
    fn reached(&self, roots: &[f64]) -> Result<f64> {
        self.small_enough()?;
        let end = self.local(&follow(self, self.reference()).point).z;
        let nearest = |best: f64, &z: &f64| {
            if (z - end).abs() < (best - end).abs() {
                z
            } else {
                best
            }
        };
        Ok(roots.iter().fold(f64::INFINITY, nearest))
    }

    /// β ≤ 1 with prompts that no desirable arm settles: the flow is followed until each has a
    /// winner. Returns the prompts where it comes to rest without one, too.
    fn winners(&self) -> (Vec<Limit>, Vec<usize>) {
        let mut field = self.clone();
        let mut point = self.reference();
        let mut decided = false;
        for nearly in [1e-3, 1e-6, 1e-9] {
            field.nearly = nearly;
            let end = follow(&field, point);
            point = end.point;
            // z₀ still moves on its way to the limit; the winners must win there, too.
            let limits: Vec<Limit> = self.blocks.iter().map(|b| self.won(b, &point)).collect();
            let ends = self.reference_points(&limits);
            decided = end.decided && ends.iter().all(|&z| field.settles(&point, z));
            if decided || !end.decided {
                break;
            }
        }
        let undecided = if decided {
            Vec::new()
        } else {
            let z = self.local(&point).z;
            (self.blocks.iter())
                .filter(|b| b.fate(self.beta).support.is_none() && !field.wins(b, &point, z))
                .map(|b| b.index)
                .collect()
        };
        let limit = |b: &Block| {
            if undecided.contains(&b.index) {
                let row = &point[b.span.clone()];
                let kept = (row.iter()).map(|&l| if l > FADED { l } else { f64::NEG_INFINITY });
                Limit::Held(log_softmax(&kept.collect::<Vec<_>>()))
            } else {
                self.won(b, &point)
            }
        };
        (self.blocks.iter().map(limit).collect(), undecided)
    }

    fn won(&self, block: &Block, point: &[f64]) -> Limit {
        match block.fate(self.beta).support {
            Some(support) if support.iter().all(|&a| block.pull[a] > 0.0) => {
                Limit::Balanced(support)
            }
            Some(support) => Limit::Shared(support),
            None => Limit::Shared(block.alike(likeliest(&point[block.span.clone()]))),
        }
    }

    fn z_of(&self, rows: &[Vec<f64>]) -> f64 {
        let each = self.blocks.iter().zip(rows);
        if self.exact {
            each.map(|(b, row)| b.mass * kl(row, &b.reference)).sum()
        } else {
            0.0
        }
    }

    /// Whether every prompt that is left to the flow has a winner at z₀.
    fn settles(&self, point: &[f64], z: f64) -> bool {
        (self.blocks.iter())
            .filter(|b| b.fate(self.beta).support.is_none())
            .all(|b| self.wins(b, point, z))
    }

    /// Whether one arm of a prompt has nearly everything and all others are falling: `g_a/π_a`, which
    /// for β < 1 rises as an arm falls, exceeds its mean for each of them.
    fn wins(&self, block: &Block, point: &[f64], z: f64) -> bool {
        let row = &point[block.span.clone()];
        let winners = block.alike(likeliest(row));
        let u = |a: usize| row[a] - block.reference[a];
        let rate = |a: usize| {
            let v = self.beta * (u(a) - z);
            block.pull[a].abs().ln() + log_slope(v) - row[a]
        };
        let rates: Vec<f64> = (0..row.len()).map(rate).collect();
        let terms: Vec<f64> = row.iter().zip(&rates).map(|(l, r)| l + r).collect();
        let mean = log_sum_exp(&terms);
        let taken: f64 = winners.iter().map(|&a| row[a].exp()).sum();
        taken > 1.0 - self.nearly
            && (0..row.len()).all(|a| winners.contains(&a) || rates[a] > mean && u(a) < z)
    }

    /// β > 1: the flow's limit, with the arms that it empties left out at the end.
    fn hot(&self) -> Vec<Vec<f64>> {
        let point = follow(self, self.reference()).point;
        let mut end = 0;
        let mut supports = Vec::new();
        let mut start = Vec::new();
        let blocks = (self.blocks.iter())
            .map(|b| {
                let row = &point[b.span.clone()];
                let support: Vec<usize> = match b.fate(self.beta).support {
                    Some(support) => support,
                    None => {
                        let any_good = b.pull.iter().any(|&k| k > 0.0);
                        let mut allowed: Vec<usize> = (0..row.len())
                            .filter(|&a| b.pull[a] > 0.0 || !any_good)
                            .collect();
                        let top = (allowed.iter().copied())
                            .reduce(|top, a| if row[a] > row[top] { a } else { top });
                        allowed.retain(|&a| row[a] > FADED || Some(a) == top);
                        allowed
                    }
                };
                let pick = |of: &[f64]| -> Vec<f64> { support.iter().map(|&a| of[a]).collect() };
                let span = end..end + support.len();
                end = span.end;
                start.extend(pick(row));
                let block = Block {
                    index: b.index,
                    mass: b.mass,
                    span,
                    reference: pick(&b.reference),
                    pull: pick(&b.pull),
                    twins: twins(&pick(&b.pull), &pick(&b.reference)),
                    lost: 1.0 - pick(&b.reference).iter().map(|l| l.exp()).sum::<f64>(),
                };
                supports.push(support);
                block
            })
            .collect();
        let reduced = Self { blocks, ..*self };
        let rest = follow(&reduced, start).point;
        (self.blocks.iter().zip(&reduced.blocks).zip(&supports))
            .map(|((whole, part), support)| {
                let mut row = vec![f64::NEG_INFINITY; whole.pull.len()];
                let found = &rest[part.span.clone()];
                support.iter().zip(found).for_each(|(&a, &l)| row[a] = l);
                row
            })
            .collect()
    }
}

/// Groups of two and more arms with the same pull and reference.
fn twins(pull: &[f64], reference: &[f64]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..pull.len()).collect();
    let compare = |&a: &usize, &b: &usize| {
        (pull[a].total_cmp(&pull[b])).then(reference[a].total_cmp(&reference[b]))
    };
    order.sort_by(compare);
    (order.chunk_by(|a, b| compare(a, b).is_eq()))
        .filter(|group| group.len() > 1)
        .map(<[usize]>::to_vec)
        .collect()
}

fn likeliest(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |top, a| if row[a] > row[top] { a } else { top })
}

/// `ln σ(v)(1 − σ(v))`.
fn log_slope(v: f64) -> f64 {
    -v.abs() - 2.0 * (-v.abs()).exp().ln_1p()
}

/// ln π with `κ s (1 − s)/π` one number e^ℓ, for κ > 0 and β ≤ 1.
///
/// With `v = β(u − z)` each arm solves `ln s(1 − s) − v/β = t`, `t = ℓ + z − ln κ/π_ref`, whose left
/// side is concave and falls in v; ℓ is such that Σπ = 1.
fn balanced(pull: &[f64], reference: &[f64], beta: f64, z: f64) -> Vec<f64> {
    let leads: Vec<f64> = (pull.iter().zip(reference))
        .map(|(k, l)| k.ln() - l)
        .collect();
    let at = |level: f64| -> (Vec<f64>, f64, f64) {
        let mut slopes = Vec::with_capacity(leads.len());
        let row: Vec<f64> = (leads.iter().zip(reference))
            .map(|(lead, l)| {
                let v = bend(level + z - lead, beta);
                slopes.push(-1.0 / (1.0 - beta * (1.0 - 2.0 * sigmoid(v))));
                l + z + v / beta
            })
            .collect();
        let excess = log_sum_exp(&row);
        let slope = (row.iter().zip(&slopes))
            .map(|(l, s)| {
                if *l == f64::NEG_INFINITY {
                    0.0
                } else {
                    (l - excess).exp() * s
                }
            })
            .sum();
        (row, excess, slope)
    };
    let middle = leads.iter().copied().fold(f64::NEG_INFINITY, f64::max) - z - 2.0;
    let (mut low, mut high, mut reach) = (middle - 1.0, middle + 1.0, 1.0);
    while at(low).1 < 0.0 {
        reach *= 2.0;
        (low, high) = (low - reach, low);
    }
    while at(high).1 > 0.0 {
        reach *= 2.0;
        (low, high) = (high, high + reach);
    }
    let mut level = 0.5 * (low + high);
    for _ in 0..200 {
        let (row, excess, slope) = at(level);
        if excess > 0.0 {
            low = level;
        } else {
            high = level;
        }
        let newton = level - excess / slope;
        let next = if newton > low && newton < high {
            newton
        } else {
            0.5 * (low + high)
        };
        if (next - level).abs() <= 2e-16 * level.abs().max(1.0) {
            return log_softmax(&row);
        }
        level = next;
    }
    log_softmax(&at(level).0)
}

/// The root v of `ln σ(v)(1 − σ(v)) − v/β = t` for β ≤ 1; −∞ where there is none (β = 1, t ≥ 0).
fn bend(t: f64, beta: f64) -> f64 {
    if beta == 1.0 {
        // −2 ln(1 + eᵛ) = t.
        let x = -t / 2.0;
        return if x <= 0.0 {
            f64::NEG_INFINITY
        } else if x > 30.0 {
            x
        } else {
            x.exp_m1().ln()
        };
    }
    // The left side is at most −|v| − v/β: its root bounds ours from the right, and from there
    // Newton descends without overshooting.
    let mut v = if t < 0.0 {
        -t / (1.0 + 1.0 / beta)
    } else {
        t / (1.0 - 1.0 / beta)
    };
    for _ in 0..400 {
        let gap = log_slope(v) - v / beta - t;
        let next = v - gap / (1.0 - 2.0 * sigmoid(v) - 1.0 / beta);
        if next.is_nan() || (next - v).abs() <= 1e-16 * v.abs().max(1e-3) || next > v {
            break;
        }
        v = next;
    }
    v
}

/// Where a function that is not negative at `low` and not positive at `high` crosses zero: secants
/// inside a bracket (Illinois), halved when they dawdle.
fn crossing(f: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let (mut at_low, mut at_high) = (f(low), f(high));
    let mut last = 0;
    for round in 0..200 {
        if at_low == 0.0 {
            return low;
        }
        let secant = (low * at_high - high * at_low) / (at_high - at_low);
        let next = if round % 3 < 2 && secant > low && secant < high {
            secant
        } else {
            0.5 * (low + high)
        };
        if high - low <= 4e-16 * high || next <= low || next >= high {
            return next;
        }
        let value = f(next);
        if value == 0.0 {
            return next;
        }
        if value > 0.0 {
            (low, at_low) = (next, value);
            if last == 1 {
                at_high /= 2.0;
            }
            last = 1;
        } else {
            (high, at_high) = (next, value);
            if last == -1 {
                at_low /= 2.0;
            }
            last = -1;
        }
    }
    0.5 * (low + high)
}

impl Motion for Field {
    type Local = At;

    fn local(&self, point: &[f64]) -> At {
        let n = self.arms();
        let reference = self.blocks.iter().flat_map(|b| &b.reference);
        let log_ratio: Vec<f64> = point.iter().zip(reference).map(|(l, r)| l - r).collect();
        let policy: Vec<f64> = point.iter().map(|l| l.exp()).collect();
        let z = if self.exact {
            (self.blocks.iter())
                .map(|b| b.mass * (b.lost + kl(&point[b.span.clone()], &b.reference)))
                .sum()
        } else {
            0.0
        };
        let (mut push, mut bend) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut update = Vec::with_capacity(n);
        for b in &self.blocks {
            for (a, pull) in b.span.clone().zip(&b.pull) {
                let v = self.beta * (log_ratio[a] - z);
                let g = self.beta * pull * log_slope(v).exp();
                push.push(g);
                bend.push(self.beta * g * (1.0 - 2.0 * sigmoid(v)));
            }
            let sum: f64 = push[b.span.clone()].iter().sum();
            update.extend(b.span.clone().map(|a| b.mass * (push[a] - policy[a] * sum)));
        }
        At {
            update,
            policy,
            log_ratio,
            push,
            bend,
            z,
        }
    }

    fn update<'a>(&self, at: &'a At) -> &'a [f64] {
        &at.update
    }

    /// Per prompt `J = diag(γ − πS) − γπᵀ − π(γ − (S + Γ)π)ᵀ` with `γ = ∂g/∂u`, `S = Σg`, `Γ = Σγ`,
    /// times ρ; and over all prompts `b gᵀ` with `b = ∂F/∂z₀ = ρ(πΓ − γ)`, `g = ρ π (u − KL)`.
    fn step(&self, at: &At, h: f64) -> Option<Vec<f64>> {
        let n = self.arms();
        let (mut free, mut lever) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let (mut pushed, mut turned) = (0.0, 0.0);
        for b in &self.blocks {
            let span = b.span.clone();
            let (policy, bend) = (&at.policy[span.clone()], &at.bend[span.clone()]);
            let sum: f64 = at.push[span.clone()].iter().sum();
            let bends: f64 = bend.iter().sum();
            let k = 1.0 / (h * b.mass);
            let both = |of: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
                policy.iter().zip(bend).map(|(&p, &g)| of(p, g)).collect()
            };
            let diagonal = both(&|p, g| k - g + p * sum);
            let left = [both(&|_, g| -g), both(&|p, _| -p)];
            let right = [policy.to_vec(), both(&|p, g| g - (sum + bends) * p)];
            let own: Vec<f64> = at.update[span.clone()].iter().map(|f| f / b.mass).collect();
            let x = low_rank(&diagonal, &left, &right, &own)?;
            if !self.exact {
                free.extend(x);
                continue;
            }
            let column = both(&|p, g| p * bends - g);
            let y = low_rank(&diagonal, &left, &right, &column)?;
            let ratio = &at.log_ratio[span];
            let divergence: f64 = policy.iter().zip(ratio).map(|(p, u)| p * u).sum();
            for (a, (p, u)) in policy.iter().zip(ratio).enumerate() {
                let slope = b.mass * p * (u - divergence);
                pushed += slope * x[a];
                turned += slope * y[a];
            }
            free.extend(x);
            lever.extend(y);
        }
        let step: Vec<f64> = if self.exact {
            let change = pushed / (1.0 - turned);
            (free.iter().zip(&lever))
                .map(|(x, y)| x + change * y)
                .collect()
        } else {
            free
        };
        step.iter().all(|v| v.is_finite()).then_some(step)
    }

    fn settle(&self, mut point: Vec<f64>) -> Vec<f64> {
        for b in &self.blocks {
            let row = &mut point[b.span.clone()];
            // Rounding must not part what the flow keeps level.
            for group in &b.twins {
                let mean = group.iter().map(|&a| row[a]).sum::<f64>() / group.len() as f64;
                group.iter().for_each(|&a| row[a] = mean);
            }
            row.copy_from_slice(&log_softmax(row));
        }
        point
    }

    fn centre(&self, difference: &mut [f64]) {
        for b in &self.blocks {
            centre(&mut difference[b.span.clone()]);
        }
    }

    fn scale(&self, _point: &[f64]) -> f64 {
        (self.blocks.iter())
            .map(|b| b.mass * self.beta * largest(b.pull.iter().copied()) / 4.0)
            .fold(f64::MIN_POSITIVE, worse)
    }

    fn decided(&self, point: &[f64], at: &At) -> bool {
        self.nearly.is_finite() && self.settles(point, at.z)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandit::{Shape, random_problem};
    use crate::solve::flow::tests::implicit_error;

    #[test]
    fn steps_are_linearly_implicit() {
        for (exact, beta) in [
            (KlTerm::Exact, 0.4),
            (KlTerm::Exact, 2.0),
            (KlTerm::Zero, 0.7),
        ] {
            let shape = Shape {
                prompts: 3,
                arms: 4,
                beta,
                reward_scale: 1.0,
            };
            let problem = random_problem(shape, 7).unwrap();
            let evidence = Evidence::population(&problem);
            let pulls: Vec<Vec<f64>> = (0..3)
                .map(|x| (0..4).map(|a| ((x * 4 + a) as f64).cos()).collect())
                .collect();
            let field = Field::new(&problem, &evidence, &pulls, exact);
            let point: Vec<f64> = (0..12).map(|a| (a as f64 * 0.7).sin()).collect();
            let error = implicit_error(&field, &point, 30.0);
            assert!(error < 1e-7, "{error}");
        }
    }

    #[test]
    fn an_arm_solves_its_equation() {
        for beta in [1e-3, 0.3, 0.9, 0.999, 1.0] {
            for t in [-1e4, -30.0, -1.0, -1e-6, 1e-9, 1.0, 40.0] {
                let v = bend(t, beta);
                if v == f64::NEG_INFINITY {
                    assert!(beta == 1.0 && t >= 0.0);
                    continue;
                }
                let gap = log_slope(v) - v / beta - t;
                let slope = 1.0 / beta - 1.0 + 2.0 * sigmoid(v);
                let rounding = 4e-16 * (v.abs() / beta + t.abs() + 1.0) / slope;
                assert!(
                    (gap / slope).abs() <= rounding.max(1e-15),
                    "{beta} {t}: {v} {gap}"
                );
            }
        }
    }

    #[test]
    fn crossings_are_found() {
        let root = crossing(|x| 2.0 - x * x, 0.0, 5.0);
        assert!((root - 2f64.sqrt()).abs() < 1e-15, "{root}");
        let root = crossing(|x| (1.0 - x).powi(9), 0.0, 100.0);
        assert!((root - 1.0).abs() < 1e-2, "{root}");
        assert_eq!(crossing(|x| -x, 0.0, 5.0), 0.0);
    }
}
