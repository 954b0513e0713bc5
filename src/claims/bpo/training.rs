//! Algorithm 1, averaged references and merged ensembles.

use super::exact::best_two;
use super::{
    Finding, distance, on_population, policy_of, random_problems, random_table, stage, toy,
};
use crate::bandit::{Beta, Policy};
use crate::error::Result;
use crate::magnitude::larger;
use crate::random::{Purpose, Stream};
use crate::sim::Optimizer;
use crate::sim::phases::{Config, Ensemble, Pairs, Reference, Row, run};
use crate::solve::bpo::{Inner, ema, first_update, merge, phase_problem, phases};

/// (T, batch, the F of section 5.2's experiments).
const SETTINGS: [(usize, usize, &[usize]); 2] =
    [(600, 16, &[1, 2, 6, 15, 600]), (150, 64, &[1, 2, 3, 150])];

/// Section 5: updates on TL;DR, and its prompts.
const TLDR: (usize, usize) = (625, 10_000);

pub(super) fn on_policy_proximity() -> Result<Finding> {
    let problems = random_problems(100, 51)?;
    let (mut first, mut second) = (0.0f64, f64::NEG_INFINITY);
    for (i, problem) in problems.iter().enumerate() {
        let behaviour = Policy::softmax(&random_table(problem, 2.0, i as u64));
        for inner in Inner::ALL {
            for beta in [0.1, 1.0, 10.0] {
                let problem = problem.at(Beta::new("beta", beta)?);
                let c = inner.first_step(beta);
                // First update: in units of c it is the same field at any β, whatever the loss.
                let phase = phase_problem(&problem, &behaviour)?;
                let gradient = on_population(&phase, inner, behaviour.log())?.gradient;
                let unit = first_update(&problem, Inner::Dpo, &behaviour)?;
                let mine: Vec<Vec<f64>> = scaled(&gradient, -1.0 / c);
                first = larger(first, distance(&mine, &scaled(&unit, 1.0 / beta)));
                // Second: what the reference adds to the update pulls back along the way come.
                if inner == Inner::Slic {
                    continue; // its pull starts at a margin of 1/β
                }
                let theta: Vec<Vec<f64>> = (behaviour.log().iter().zip(&mine))
                    .map(|(l, g)| l.iter().zip(g).map(|(l, g)| l + g).collect())
                    .collect();
                let moved = Policy::softmax(&theta);
                let against = on_population(&phase, inner, &theta)?.gradient;
                let free =
                    on_population(&stage(&problem, &moved, &behaviour)?, inner, &theta)?.gradient;
                let way = mine.iter().flatten();
                let pull: f64 = (against.iter().flatten().zip(free.iter().flatten()))
                    .zip(way.clone())
                    .map(|((a, f), w)| (f - a) * w)
                    .sum();
                second = larger(second, pull / (c * way.map(|w| w * w).sum::<f64>()));
            }
        }
    }
    Ok(Finding::holds_if(
        second < 0.0,
        first < 1e-13,
        format!(
            "{} random policies, three losses, β = 0.1, 1, 10: the first update of a phase is c·π(2P − 1) to {first:.1e}; at the second DPO and IPO are pulled back, by {:.1e} of the way or more per unit of c",
            problems.len(),
            -second
        ),
    ))
}

fn scaled(table: &[Vec<f64>], by: f64) -> Vec<Vec<f64>> {
    (table.iter())
        .map(|row| row.iter().map(|v| by * v).collect())
        .collect()
}

fn path_gap(a: &[Row], b: &[Row]) -> f64 {
    (a.iter().zip(b)).fold(0.0, |m, (a, b)| (a.reward - b.reward).abs().max(m))
}

pub(super) fn shared_rates() -> Result<Finding> {
    let problem = toy()?.at(Beta::new("beta", 0.1)?);
    let train = |inner, optimizer| {
        let config = Config {
            inner,
            reference: Reference::Behaviour,
            updates: 50,
            phases: 50,
            pairs: Pairs::Drawn(16),
            ensemble: Ensemble::default(),
            every: 1,
            optimizer,
            seeds: 4,
            key: 52,
            threads: 1,
        };
        run(&problem, &config)
    };
    let gap = |optimizer: Optimizer| -> Result<f64> {
        let dpo = train(Inner::Dpo, optimizer)?;
        Ok(path_gap(&dpo, &train(Inner::Ipo, optimizer)?)
            .max(path_gap(&dpo, &train(Inner::Slic, optimizer)?)))
    };
    let (adam, sgd) = (
        gap(Optimizer::adam(1e-2))?,
        gap(Optimizer::Sgd { lr: 0.02 })?,
    );
    let at = phase_problem(&problem, &problem.reference())?;
    let size = |inner| -> Result<f64> {
        let gradient = on_population(&at, inner, problem.reference().log())?.gradient;
        Ok(distance(&gradient, &scaled(&gradient, 0.0)))
    };
    let ratio = size(Inner::Ipo)? / size(Inner::Dpo)?;
    Ok(Finding::holds_if(
        adam < 1e-5,
        sgd > 1e-2,
        format!(
            "the toy at β = 0.1, K = 1, 50 updates, 4 seeds: mean rewards of the three losses part by {adam:.0e} under Adam, {sgd:.2} under SGD"
        ),
    )
    .measure("IPO's step over DPO's", ratio))
}

/// (updates, annotation phases) of Algorithm 1's loop.
fn count(updates: usize, phases: usize, inclusive: bool) -> (usize, usize) {
    let (interval, end) = (updates / phases, updates + usize::from(inclusive));
    let annotations = (0..end).filter(|t| t.is_multiple_of(interval)).count();
    (end, annotations)
}

pub(super) fn loop_bounds() -> Result<Finding> {
    let (mut half_open, mut inclusive, mut settings) = (true, true, 0);
    for (updates, _, frequencies) in SETTINGS {
        for &phases in frequencies {
            half_open &= count(updates, phases, false) == (updates, phases);
            inclusive &= count(updates, phases, true) == (updates, phases);
            settings += 1;
        }
    }
    let (updates, phases) = count(600, 2, true);
    Ok(Finding::holds_if(
        half_open,
        !inclusive,
        format!(
            "the {settings} settings of section 5.2 counted out; with T = 600 included, F = 2 makes {updates} updates and {phases} phases"
        ),
    ))
}

/// Of Algorithm 1's store of pairs: the share of batches drawn that came from an older policy than
/// the reference, and the updates that found too few pairs, in expectation.
fn store(updates: usize, phases: usize, batch: usize, per_phase: f64) -> (f64, usize) {
    let (mut old, mut new, mut stale, mut short) = (0.0, 0.0, 0.0, 0);
    for t in 0..updates {
        if t.is_multiple_of(updates / phases) {
            old += new;
            new = per_phase;
        }
        let held: f64 = old + new;
        let drawn = held.min(batch as f64);
        short += usize::from(drawn < batch as f64 - 1e-9);
        if held > 0.0 {
            let share = drawn / held;
            stale += share * old;
            (old, new) = (old * (1.0 - share), new * (1.0 - share));
        }
    }
    (stale / (updates * batch) as f64, short)
}

pub(super) fn fresh_pairs() -> Result<Finding> {
    let (mut exact, mut scarce, mut ample) = (true, true, true);
    let mut shown = (0.0, 0);
    for (updates, batch, frequencies) in SETTINGS {
        for &phases in frequencies.iter().filter(|&&f| f > 1) {
            let need = (updates / phases * batch) as f64;
            let fits = store(updates, phases, batch, need);
            exact &= fits.0 < 1e-9 && fits.1 == 0 && updates % phases == 0;
            let (more, less) = (
                store(updates, phases, batch, 1.25 * need),
                store(updates, phases, batch, 0.75 * need),
            );
            ample &= more.0 > 1e-3;
            scarce &= less.1 > 0;
            if (updates, phases) == (600, 6) {
                shown = (more.0, less.1);
            }
        }
    }
    // Where F does not divide T a whole interval leaves a remainder, annotated once more.
    let uneven = count(625, 6, false) != (625, 6);
    Ok(Finding::holds_if(
        exact,
        ample && scarce && uneven,
        format!(
            "section 5.2's settings, the store counted out; at T = 600, F = 6 a quarter more pairs makes {:.0}% of those used stale, a quarter fewer leaves {} updates short; T = 625 with F = 6 makes 7 phases",
            100.0 * shown.0,
            shown.1
        ),
    ))
}

pub(super) fn whole_phases() -> Result<Finding> {
    let whole = |updates: usize, phases: &[usize]| -> Vec<usize> {
        let divides = phases.iter().filter(|&&f| updates.is_multiple_of(f));
        divides.copied().collect()
    };
    let own = (SETTINGS.iter()).all(|&(updates, _, phases)| whole(updates, phases) == phases);
    let (updates, batch, phases) = SETTINGS[0];
    let (elsewhere, prompts) = TLDR;
    let left = whole(elsewhere, phases);
    Ok(Finding::holds_if(
        own,
        left.len() < phases.len(),
        format!(
            "T = {updates} and {} are multiples of every F of section 5.2; T = {elsewhere} is of {left:?} alone among {phases:?}. {elsewhere} batches of {batch} use {} of {prompts} prompts, {updates} use {}",
            SETTINGS[1].0,
            elsewhere * batch,
            updates * batch
        ),
    ))
}

pub(super) fn ema_static() -> Result<Finding> {
    let problems = random_problems(60, 53)?;
    let (mut fixed, mut copied) = (0.0f64, 0.0f64);
    for problem in &problems {
        let reference = problem.reference().probabilities();
        let optimum = problem.optimum().policy.probabilities();
        for phase in ema(problem, Inner::Dpo, 0.0, 5)? {
            fixed = larger(
                fixed,
                distance(&phase.reference.probabilities(), &reference),
            );
            fixed = larger(
                fixed,
                distance(&policy_of(&phase.answer)?.probabilities(), &optimum),
            );
        }
        for inner in Inner::ALL {
            let moved = phases(problem, inner, 5)?;
            for (a, b) in moved.iter().zip(ema(problem, inner, 1.0, 5)?) {
                let policy = policy_of(a)?.probabilities();
                copied = larger(copied, distance(&policy, &b.reference.probabilities()));
            }
        }
    }
    let sampled = |reference| {
        let config = Config {
            inner: Inner::Dpo,
            reference,
            updates: 40,
            phases: 40,
            pairs: Pairs::Drawn(16),
            ensemble: Ensemble::default(),
            every: 10,
            optimizer: Optimizer::adam(1e-2),
            seeds: 2,
            key: 53,
            threads: 1,
        };
        run(&toy()?, &config)
    };
    let same = sampled(Reference::Average { tau: 0.0 })? == sampled(Reference::Static)?;
    Ok(Finding::holds(
        fixed < 1e-12 && copied < 1e-12 && same,
        format!(
            "{} random problems, 5 phases: reference and optimum stay to {fixed:.1e} at τ = 0, the reference is the policy to {copied:.1e} at τ = 1; sampled runs at τ = 0 {}",
            problems.len(),
            if same { "agree to the bit" } else { "differ" }
        ),
    ))
}

pub(super) fn ema_tiny() -> Result<Finding> {
    let toy = toy()?;
    let optimum = toy.optimum().policy.probabilities();
    let off = |tau: f64| -> Result<f64> {
        let solved = ema(&toy, Inner::Dpo, tau, 625)?;
        let last = policy_of(&solved[624].answer)?.probabilities();
        Ok((last[0].iter().zip(&optimum[0]))
            .map(|(p, q)| (p - q).abs() / 2.0)
            .sum())
    };
    let (five, six, seven) = (off(1e-5)?, off(1e-6)?, off(1e-7)?);
    let large = off(1e-2)?;
    Ok(Finding::holds(
        five < 0.01 && six < five && seven < six && large > 0.1,
        "total variation between the policies after 625 steps and those of τ = 0, on the toy",
    )
    .measure("τ = 1e-5", five)
    .measure("τ = 1e-7", seven)
    .measure("τ = 1e-2, for comparison", large))
}

pub(super) fn ema_collapse() -> Result<Finding> {
    let problems = random_problems(40, 54)?;
    let taus = [5e-2, 1e-2, 5e-3, 1e-3, 1e-4];
    let mut error = 0.0f64;
    for problem in &problems {
        for tau in taus {
            let solved = ema(problem, Inner::Dpo, tau, 8)?;
            for (x, prompt) in problem.prompts().iter().enumerate() {
                let (first, second) = best_two(&prompt.reward);
                let odds = |k: usize| -> Result<f64> {
                    let log = &policy_of(&solved[k].answer)?.log()[x];
                    Ok(log[first] - log[second])
                };
                let want = tau * (prompt.reward[first] - prompt.reward[second]) / problem.beta();
                error = larger(error, (odds(7)? - odds(6)? - want).abs());
            }
        }
    }
    let toy = toy()?;
    let mut least = f64::INFINITY;
    for tau in [5e-2, 1e-2, 5e-3] {
        let steps = (16.0 / tau) as usize;
        let solved = ema(&toy, Inner::Dpo, tau, steps)?;
        least = least.min(policy_of(&solved[steps - 1].answer)?.probabilities()[0][0]);
    }
    Ok(Finding::holds(
        error < 1e-11 && least > 1.0 - 1e-6,
        format!(
            "{} random problems, the paper's five τ: log-odds of the best arm grow by τ(R₁−R₂)/β a step to {error:.1e}; on the toy 1 − π(best) is {:.0e} or less after 16/τ steps",
            problems.len(),
            1.0 - least
        ),
    ))
}

type Matrix = Vec<Vec<f64>>;

fn product(b: &Matrix, a: &Matrix) -> Matrix {
    (b.iter())
        .map(|row| {
            (0..a[0].len())
                .map(|j| row.iter().zip(a).map(|(b, a)| b * a[j]).sum())
                .collect()
        })
        .collect()
}

fn mean(of: &[Matrix]) -> Matrix {
    let n = of.len() as f64;
    let entry = |i: usize, j: usize| of.iter().map(|m| m[i][j]).sum::<f64>() / n;
    (0..of[0].len())
        .map(|i| (0..of[0][0].len()).map(|j| entry(i, j)).collect())
        .collect()
}

pub(super) fn merge_weights() -> Result<Finding> {
    // Five members of rank 2 whose products are tables of logits, 3 prompts by 4 arms.
    let ensembles = 50;
    let (mut products, mut factors) = (0.0f64, f64::INFINITY);
    for i in 0..ensembles {
        let mut stream = Stream::new(i, Purpose::Start, 1);
        let mut matrix = |rows: usize, columns: usize| -> Matrix {
            let mut row = || (0..columns).map(|_| 4.0 * stream.uniform() - 2.0).collect();
            (0..rows).map(|_| row()).collect()
        };
        let (b, a): (Vec<Matrix>, Vec<Matrix>) =
            (0..5).map(|_| (matrix(3, 2), matrix(2, 4))).unzip();
        let deltas: Vec<Matrix> = b.iter().zip(&a).map(|(b, a)| product(b, a)).collect();
        let members: Vec<Policy> = deltas.iter().map(|d| Policy::softmax(d)).collect();
        let merged = merge(&members)?.probabilities();
        let of = |logits: &Matrix| Policy::softmax(logits).probabilities();
        products = larger(products, distance(&of(&mean(&deltas)), &merged));
        factors = factors.min(distance(&of(&product(&mean(&b), &mean(&a))), &merged));
    }
    Ok(Finding::holds_if(
        products < 1e-13,
        factors > 1e-3,
        format!(
            "{ensembles} random ensembles of five: averaged products give the geometric mean of the members' policies to {products:.1e}, averaged factors miss it by {factors:.2} or more"
        ),
    ))
}

pub(super) fn merge_loss() -> Result<Finding> {
    let problems = random_problems(60, 55)?;
    let (mut excess, mut saved) = (f64::NEG_INFINITY, 0.0f64);
    for (i, problem) in problems.iter().enumerate() {
        let members: Vec<Policy> = (0..5)
            .map(|j| Policy::softmax(&random_table(problem, 3.0, 5 * i as u64 + j)))
            .collect();
        let merged = merge(&members)?;
        for inner in Inner::ALL {
            let mut sum = 0.0;
            for member in &members {
                sum += on_population(problem, inner, member.log())?.value / 5.0;
            }
            let gap = on_population(problem, inner, merged.log())?.value - sum;
            excess = larger(excess, gap / (1.0 + sum));
            saved = larger(saved, -gap / (1.0 + sum));
        }
    }
    Ok(Finding::holds(
        excess < 1e-13,
        format!(
            "{} random problems, ensembles of five, three losses: merged less mean at most {excess:.1e}, at best −{saved:.2} of it",
            problems.len()
        ),
    ))
}
