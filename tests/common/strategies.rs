//! Named strategies of random problems. Everything shrinks towards one prompt of two equal arms at β = 1.

use std::io::Cursor;

use pistar::bandit::{Beta, Dataset, PairLaw, Problem, Prompt, Simplex};
use pistar::loss::Given;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;

pub use super::cases::settings;

/// Most arms of a prompt.
pub const ARMS: usize = 5;
/// Most arms of a prompt of [`wide`].
pub const WIDE: usize = 12;
/// Most prompts of a problem.
pub const PROMPTS: usize = 3;

/// Temperatures, log-uniform on 0.05 … 5.
pub fn beta() -> impl Strategy<Value = f64> {
    (-3.0..1.609f64).prop_map(f64::exp)
}

/// Bell-shaped rewards whose standard deviation is up to 3.
pub fn rewards(arms: usize) -> impl Strategy<Value = Vec<f64>> {
    let bell = (-1.0..1.0f64, -1.0..1.0f64, -1.0..1.0f64).prop_map(|(a, b, c)| a + b + c);
    (0.0..3.0f64, vec(bell, arms)).prop_map(|(sd, z)| z.iter().map(|z| sd * z).collect())
}

/// Weights that are all positive, the largest up to e^`skew` times the smallest.
pub fn positive(n: usize, skew: f64) -> impl Strategy<Value = Vec<f64>> {
    vec(0.0..skew, n).prop_map(|x| normalised(&x.iter().map(|x| (-x).exp()).collect::<Vec<_>>()))
}

/// Weights of which about two in five are zero; uniform if all would be.
fn holed(n: usize, skew: f64) -> impl Strategy<Value = Vec<f64>> {
    vec(weighted(0.6, 0.0..skew), n).prop_map(|x| {
        let raw: Vec<f64> = (x.iter()).map(|x| x.map_or(0.0, |x| (-x).exp())).collect();
        let some = raw.iter().any(|&w| w > 0.0);
        normalised(if some {
            &raw
        } else {
            &[1.0; WIDE * WIDE][..raw.len()]
        })
    })
}

fn normalised(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

/// A law that is zero wherever the reference is; uniform over the rest if nothing else is left.
fn within(law: &[f64], reference: &[f64]) -> Vec<f64> {
    let only = |law: &[f64]| -> Vec<f64> {
        let kept = law.iter().zip(reference);
        kept.map(|(l, r)| if *r > 0.0 { *l } else { 0.0 }).collect()
    };
    let masked = only(law);
    let some = masked.iter().any(|&w| w > 0.0);
    normalised(&if some {
        masked
    } else {
        only(&vec![1.0; law.len()])
    })
}

/// One prompt in plain numbers.
#[derive(Debug, Clone)]
pub struct Row {
    pub reward: Vec<f64>,
    pub reference: Vec<f64>,
    pub law: PairLaw,
}

impl Row {
    fn product(reward: Vec<f64>, reference: Vec<f64>, first: Vec<f64>, second: Vec<f64>) -> Self {
        let law = PairLaw::Product { first, second };
        Self {
            reward,
            reference,
            law,
        }
    }

    fn joint(reward: Vec<f64>, reference: Vec<f64>, flat: &[f64]) -> Self {
        let table: Vec<Vec<f64>> = flat.chunks(reward.len()).map(<[f64]>::to_vec).collect();
        let law = PairLaw::joint("pairs", &table).unwrap();
        Self {
            reward,
            reference,
            law,
        }
    }
}

/// A problem of checked rows.
pub fn problem_of(beta: f64, weights: &[f64], rows: &[Row]) -> Problem {
    let prompts = (weights.iter().zip(rows).enumerate())
        .map(|(x, (&weight, row))| {
            let place = format!("prompts[{x}]");
            let reference = Simplex::new(&place, row.reference.clone()).unwrap();
            Prompt::new(&place, weight, &row.reward, &reference, &row.law).unwrap()
        })
        .collect();
    complete(&Problem::new(Beta::new("beta", beta).unwrap(), prompts).unwrap())
}

/// The problem with what some objectives need besides: a value a little below V*, a ranking by
/// reward (without the worst of four arms or more), a margin, a baseline below every V*. None depends on the order of the arms, but the
/// ranking of those whose rewards tie.
pub fn complete(problem: &Problem) -> Problem {
    let beta = problem.beta();
    let values = problem.prompts().iter().map(|p| p.optimum(beta).0);
    let baseline = values.fold(f64::INFINITY, f64::min) - 0.3;
    let numbers = Given::new().with("baseline", baseline);
    let with_numbers = problem.with_margin(2.5).unwrap().with_numbers(&numbers);
    with_numbers.map_prompts(|_, prompt| {
        prompt.value = Some(prompt.optimum(beta).0 - 0.3);
        let mut ranking: Vec<u32> = (0..prompt.arms() as u32).collect();
        ranking.sort_by(|&a, &b| prompt.reward[a as usize].total_cmp(&prompt.reward[b as usize]));
        prompt.ranking = Some(ranking.split_off(usize::from(prompt.arms() > 3)));
    })
}

fn contextual<S: Strategy<Value = Row>>(
    prompts: usize,
    row: impl Fn(usize) -> S + Clone + 'static,
) -> impl Strategy<Value = Problem> {
    let one = move |arms: usize| row(arms);
    let rows = vec((2..=ARMS).prop_flat_map(one), 1..=prompts);
    (beta(), rows, positive(prompts, 2.0))
        .prop_map(|(beta, rows, w)| problem_of(beta, &normalised(&w[..rows.len()]), &rows))
}

fn full_row(arms: usize, skew: f64) -> impl Strategy<Value = Row> {
    let law = || positive(arms, skew);
    (rewards(arms), law(), law(), law())
        .prop_map(|(r, reference, p, q)| Row::product(r, reference, p, q))
}

/// Every arm has reference and behaviour probability, with ratios up to e⁴.
pub fn full() -> impl Strategy<Value = Problem> {
    contextual(PROMPTS, |arms| full_row(arms, 4.0))
}

/// One prompt whose laws are within a factor of e of uniform, so that numeric minimisers and
/// explicit flows arrive quickly.
pub fn mild() -> impl Strategy<Value = Problem> {
    contextual(1, |arms| full_row(arms, 1.0))
}

/// One prompt whose two laws agree.
pub fn same_laws() -> impl Strategy<Value = Problem> {
    contextual(1, |arms| {
        let law = || positive(arms, 4.0);
        (rewards(arms), law(), law())
            .prop_map(|(r, reference, p)| Row::product(r, reference, p.clone(), p))
    })
}

/// Two arms a prompt: all the reward there is to learn is one gap.
pub fn two_arms() -> impl Strategy<Value = Problem> {
    (beta(), full_row(2, 4.0)).prop_map(|(beta, row)| problem_of(beta, &[1.0], &[row]))
}

/// Any of the kinds of evidence: full laws, laws with gaps, joint laws, disconnected graphs.
pub fn any_kind() -> impl Strategy<Value = Problem> {
    prop_oneof![full(), gaps(), joint(), disconnected()]
}

/// Some arms are excluded by the reference, others are missing from a law.
pub fn gaps() -> impl Strategy<Value = Problem> {
    contextual(PROMPTS, |arms| {
        let law = || holed(arms, 4.0);
        (rewards(arms), law(), law(), law()).prop_map(|(r, reference, p, q)| {
            let (p, q) = (within(&p, &reference), within(&q, &reference));
            Row::product(r, reference, p, q)
        })
    })
}

/// Pairs from a joint law with holes (as `pairs` in a problem file).
pub fn joint() -> impl Strategy<Value = Problem> {
    contextual(PROMPTS, |arms| {
        (rewards(arms), positive(arms, 4.0), holed(arms * arms, 3.0))
            .prop_map(|(r, reference, flat)| Row::joint(r, reference, &flat))
    })
}

/// One prompt of three or more arms in two groups that are never compared with each other; within
/// a group every pair is.
pub fn disconnected() -> impl Strategy<Value = Problem> {
    let row = (3..=ARMS).prop_flat_map(|arms| {
        let numbers = (
            rewards(arms),
            positive(arms, 3.0),
            positive(arms * arms, 1.0),
        );
        (numbers, vec(any::<bool>(), arms)).prop_map(|((r, reference, mut flat), mut side)| {
            let arms = r.len();
            (side[0], side[1]) = (false, true);
            for (i, p) in flat.iter_mut().enumerate() {
                if side[i / arms] != side[i % arms] {
                    *p = 0.0;
                }
            }
            Row::joint(r, reference, &normalised(&flat))
        })
    });
    (beta(), row).prop_map(|(beta, row)| problem_of(beta, &[1.0], &[row]))
}

/// Prompts of 2 to 12 arms at temperatures from 1e-3 to 1e3, log-uniform; laws with and without gaps, and
/// joint laws.
pub fn wide() -> impl Strategy<Value = Problem> {
    let row = (2..=WIDE).prop_flat_map(|arms| {
        let law = move || prop_oneof![positive(arms, 4.0), holed(arms, 4.0)];
        let joint = prop_oneof![Just(None), holed(arms * arms, 3.0).prop_map(Some)];
        (rewards(arms), positive(arms, 4.0), law(), law(), joint).prop_map(
            |(r, reference, p, q, joint)| match joint {
                Some(flat) => Row::joint(r, reference, &flat),
                None => Row::product(r, reference, p, q),
            },
        )
    });
    (-3.0..3.0f64, vec(row, 1..=PROMPTS), positive(PROMPTS, 2.0)).prop_map(|(log, rows, w)| {
        problem_of(10f64.powf(log), &normalised(&w[..rows.len()]), &rows)
    })
}

/// Temperatures from 1e-3 to 1e3, rewards to ±1e4, references and laws down to 1e-300.
pub fn extreme() -> impl Strategy<Value = Problem> {
    let row = (2..=ARMS).prop_flat_map(|arms| {
        let law = move || vec(0.0..300.0f64, arms).prop_map(|x| tiny(&x));
        (vec(-1e4..1e4f64, arms), law(), law(), law())
            .prop_map(|(r, reference, p, q)| Row::product(r, reference, p, q))
    });
    (-3.0..3.0f64, vec(row, 1..=2)).prop_map(|(log, rows)| {
        let weights = normalised(&vec![1.0; rows.len()]);
        problem_of(10f64.powf(log), &weights, &rows)
    })
}

/// `10⁻ˣ`, the largest raised so that the sum is one.
fn tiny(x: &[f64]) -> Vec<f64> {
    let low = x.iter().copied().fold(f64::INFINITY, f64::min);
    normalised(
        &x.iter()
            .map(|x| 10f64.powf(low - x).max(1e-300))
            .collect::<Vec<_>>(),
    )
}

/// Numbers in ±`scale` for every arm of any problem; [`fit`] cuts them to size.
pub fn table(scale: f64) -> impl Strategy<Value = Vec<Vec<f64>>> {
    vec(vec(-scale..scale, ARMS), PROMPTS)
}

/// The part of a [`table`] that a problem has prompts and arms for.
pub fn fit(problem: &Problem, table: &[Vec<f64>]) -> Vec<Vec<f64>> {
    (problem.prompts().iter().zip(table))
        .map(|(prompt, row)| row[..prompt.arms()].to_vec())
        .collect()
}

/// The same problem with other laws, one for each prompt.
pub fn with_laws(problem: &Problem, law: impl Fn(usize, &Prompt) -> PairLaw) -> Problem {
    let prompts = (problem.prompts().iter().enumerate())
        .map(|(x, prompt)| {
            let mut changed = prompt.clone();
            changed.law = law(x, prompt);
            changed
        })
        .collect();
    Problem::new(Beta::new("beta", problem.beta()).unwrap(), prompts).unwrap()
}

/// `w_ab` for a ≠ b: how often two arms are compared, in either order.
pub fn weight(prompt: &Prompt, a: usize, b: usize) -> f64 {
    prompt.law.probability(a, b) + prompt.law.probability(b, a)
}

/// The connected components of a prompt's comparison graph, by flood fill.
pub fn islands(prompt: &Prompt) -> Vec<Vec<usize>> {
    let k = prompt.arms();
    let mut island = vec![usize::MAX; k];
    let mut found = Vec::new();
    for start in 0..k {
        if island[start] != usize::MAX {
            continue;
        }
        let (mut stack, mut members) = (vec![start], Vec::new());
        while let Some(a) = stack.pop() {
            if island[a] == usize::MAX {
                island[a] = start;
                members.push(a);
                stack.extend((0..k).filter(|&b| b != a && weight(prompt, a, b) > 0.0));
            }
        }
        members.sort_unstable();
        found.push(members);
    }
    found
}

/// Whether every prompt's comparison graph connects its arms.
pub fn connected(problem: &Problem) -> bool {
    problem.prompts().iter().all(|p| islands(p).len() == 1)
}

/// `clashes[a][b]` pairs of one prompt in which a beat b, as a dataset of labelled pairs.
pub fn labelled(problem: &Problem, clashes: &[Vec<u32>]) -> Dataset {
    let mut lines = String::new();
    for (a, row) in clashes.iter().enumerate() {
        for (b, &n) in row.iter().enumerate().filter(|&(b, _)| b != a) {
            let line =
                format!("{{\"prompt\": 0, \"first\": {a}, \"second\": {b}, \"label\": true}}\n");
            lines += &line.repeat(n as usize);
        }
    }
    Dataset::read(Cursor::new(lines), "clashes", problem).unwrap()
}

/// Counts of who beat whom, up to `most` each, for any number of arms.
pub fn clashes(most: u32) -> impl Strategy<Value = Vec<Vec<u32>>> {
    vec(vec(0..=most, ARMS), ARMS)
}

/// The clashes among the arms of a problem, each arm once beaten by and once beating the next, so
/// that every arm beats its way to every other.
pub fn returned(clashes: &[Vec<u32>], arms: usize) -> Vec<Vec<u32>> {
    let mut square: Vec<Vec<u32>> = clashes[..arms]
        .iter()
        .map(|row| row[..arms].to_vec())
        .collect();
    for a in 1..arms {
        square[a][a - 1] += 1;
        square[a - 1][a] += 1;
    }
    square
}
