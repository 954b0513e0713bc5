//! The gradient flow of all prompts together, and where each prompt's part of it ends.

use std::ops::Range;

use super::KlTerm;
use super::roots::{balanced, crossing, log_slope};
use crate::backend::nd::sigmoid;
use crate::bandit::{Problem, View, kl, log_sum_exp};
use crate::error::{Error, Result};
use crate::solve::flow::{Course, Motion, Rest, centre, follow, low_rank, rest_of};
use crate::solve::policy_gradient::FLOW_CAP;
use crate::solve::{larger, largest, log_softmax};

/// A logarithm of a probability below which, at the end of a flow, an arm counts as gone.
pub(super) const FADED: f64 = -14.0;

/// Most arms, of all prompts together, for which the z₀ that are the KL of their rows are looked for:
/// every candidate is a nested root over all arms.
pub(super) const ROOTS_CAP: usize = 50_000;

/// One prompt: its place in the joint table and the numbers of its arms.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) index: usize,
    pub(super) mass: f64,
    pub(super) span: Range<usize>,
    /// ln π_ref.
    pub(super) reference: Vec<f64>,
    /// κ.
    pub(super) pull: Vec<f64>,
    /// Reference probability of the arms left out.
    pub(super) lost: f64,
    /// Groups of arms that nothing tells apart; gradient flow keeps them level.
    pub(super) twins: Vec<Vec<usize>>,
}

/// What is known of a prompt's limit before any flow.
pub(super) struct Fate {
    /// The arms that may keep probability; none where only a flow tells.
    pub(super) support: Option<Vec<usize>>,
    pub(super) unique: bool,
    pub(super) note: Option<String>,
}

/// What a prompt's limit is, given z₀.
pub(super) enum Limit {
    /// On these arms, `κ s (1 − s)/π` is one number.
    Balanced(Vec<usize>),
    /// Equal shares of these arms, relative to the reference.
    Shared(Vec<usize>),
    /// ln π itself.
    Held(Vec<f64>),
}

impl Block {
    pub(super) fn fate(&self, beta: f64) -> Fate {
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
    pub(super) fn alike(&self, arm: usize) -> Vec<usize> {
        // A group is in the order of the arms.
        let group = (self.twins.iter()).find(|group| group.binary_search(&arm).is_ok());
        group.cloned().unwrap_or_else(|| vec![arm])
    }

    /// The row of a limit at z₀.
    pub(super) fn row(&self, limit: &Limit, beta: f64, z: f64) -> Vec<f64> {
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
pub(super) struct Field {
    pub(super) beta: f64,
    pub(super) blocks: Vec<Block>,
    /// Whether z₀ is the exact KL and not 0.
    pub(super) exact: bool,
    /// How nearly all of the probability one arm must have before it counts as the winner.
    pub(super) nearly: f64,
}

/// Its numbers at a point.
pub(super) struct At {
    pub(super) update: Vec<f64>,
    pub(super) policy: Vec<f64>,
    pub(super) log_ratio: Vec<f64>,
    /// g.
    pub(super) push: Vec<f64>,
    /// ∂g/∂u.
    pub(super) bend: Vec<f64>,
    pub(super) z: f64,
}

impl Field {
    pub(super) fn new(problem: &Problem, view: &View, pulls: &[Vec<f64>], kl: KlTerm) -> Self {
        let mut end = 0;
        let blocks = (problem.prompts().iter().zip(&view.prompts).enumerate())
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

    pub(super) fn arms(&self) -> usize {
        self.blocks.last().map_or(0, |b| b.span.end)
    }

    pub(super) fn reference(&self) -> Vec<f64> {
        self.blocks
            .iter()
            .flat_map(|b| b.reference.clone())
            .collect()
    }

    /// Whether a flow may be followed.
    pub(super) fn small_enough(&self) -> Result<()> {
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

    /// Whether the z₀ may be looked for.
    pub(super) fn few_enough(&self, limits: &[Limit]) -> Result<()> {
        let shared = (limits.iter()).any(|l| matches!(l, Limit::Balanced(arms) if arms.len() > 1));
        if !self.exact || !shared || self.arms() <= ROOTS_CAP {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: "KTO's search for z₀, over all prompts together,",
            cap: ROOTS_CAP,
            prompt: 0,
            arms: self.arms(),
        })
    }

    /// The rows of limits at z₀.
    pub(super) fn rows(&self, limits: &[Limit], z: f64) -> Vec<Vec<f64>> {
        (self.blocks.iter().zip(limits))
            .map(|(b, limit)| b.row(limit, self.beta, z))
            .collect()
    }

    /// The z₀ that are the KL of the rows they make, of those that attract: where the KL falls through
    /// z₀ as z₀ grows. They are looked for on a grid, finer near 0; there is at least one.
    pub(super) fn reference_points(&self, limits: &[Limit]) -> Vec<f64> {
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
    pub(super) fn reached(&self, roots: &[f64]) -> Result<f64> {
        self.small_enough()?;
        let end = self
            .local(&follow(self, self.reference(), Course::Basin).point)
            .z;
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
    pub(super) fn winners(&self) -> (Vec<Limit>, Vec<usize>) {
        let mut field = self.clone();
        let mut point = self.reference();
        let mut decided = false;
        for nearly in [1e-3, 1e-6, 1e-9] {
            field.nearly = nearly;
            let end = follow(&field, point, Course::Basin);
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
            if undecided.binary_search(&b.index).is_ok() {
                let row = &point[b.span.clone()];
                let kept = (row.iter()).map(|&l| if l > FADED { l } else { f64::NEG_INFINITY });
                Limit::Held(log_softmax(&kept.collect::<Vec<_>>()))
            } else {
                self.won(b, &point)
            }
        };
        (self.blocks.iter().map(limit).collect(), undecided)
    }

    pub(super) fn won(&self, block: &Block, point: &[f64]) -> Limit {
        match block.fate(self.beta).support {
            Some(support) if support.iter().all(|&a| block.pull[a] > 0.0) => {
                Limit::Balanced(support)
            }
            Some(support) => Limit::Shared(support),
            None => Limit::Shared(block.alike(likeliest(&point[block.span.clone()]))),
        }
    }

    pub(super) fn z_of(&self, rows: &[Vec<f64>]) -> f64 {
        let each = self.blocks.iter().zip(rows);
        if self.exact {
            each.map(|(b, row)| b.mass * kl(row, &b.reference)).sum()
        } else {
            0.0
        }
    }

    /// Whether every prompt that is left to the flow has a winner at z₀.
    pub(super) fn settles(&self, point: &[f64], z: f64) -> bool {
        (self.blocks.iter())
            .filter(|b| b.fate(self.beta).support.is_none())
            .all(|b| self.wins(b, point, z))
    }

    /// Whether one arm of a prompt has nearly everything and all others are falling: `g_a/π_a`, which
    /// for β < 1 rises as an arm falls, exceeds its mean for each of them.
    pub(super) fn wins(&self, block: &Block, point: &[f64], z: f64) -> bool {
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
            && (0..row.len())
                .all(|a| winners.binary_search(&a).is_ok() || rates[a] > mean && u(a) < z)
    }

    /// β > 1: the flow's limit, with the arms that it empties left out at the end.
    pub(super) fn hot(&self) -> (Vec<Vec<f64>>, Rest) {
        let point = follow(self, self.reference(), Course::Basin).point;
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
        let rest = follow(&reduced, start, Course::Basin).point;
        let kind = rest_of(&reduced, &rest);
        let rows = (self.blocks.iter().zip(&reduced.blocks).zip(&supports))
            .map(|((whole, part), support)| {
                let mut row = vec![f64::NEG_INFINITY; whole.pull.len()];
                let found = &rest[part.span.clone()];
                support.iter().zip(found).for_each(|(&a, &l)| row[a] = l);
                row
            })
            .collect();
        (rows, kind)
    }
}

/// Groups of two and more arms with the same pull and reference.
pub(super) fn twins(pull: &[f64], reference: &[f64]) -> Vec<Vec<usize>> {
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

pub(super) fn likeliest(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |top, a| if row[a] > row[top] { a } else { top })
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
            .fold(f64::MIN_POSITIVE, larger)
    }

    fn decided(&self, point: &[f64], at: &At) -> bool {
        self.nearly.is_finite() && self.settles(point, at.z)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandit::{Evidence, Shape, random_problem};
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
            let view = evidence.of(crate::loss::InputKind::Rated).unwrap();
            let field = Field::new(&problem, view, &pulls, exact);
            let point: Vec<f64> = (0..12).map(|a| (a as f64 * 0.7).sin()).collect();
            let error = implicit_error(&field, &point, 30.0);
            assert!(error < 1e-7, "{error}");
        }
    }
}
