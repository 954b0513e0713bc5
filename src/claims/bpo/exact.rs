//! The losses and their phases, solved exactly.

use super::{
    Finding, distance, dot, on_population, policy_of, random_problems, random_table, reward, toy,
    win_rate,
};
use crate::backend::nd::sigmoid;
use crate::bandit::{Beta, Comparisons, Evidence, PairLaw, Policy, Problem, Prompt, population};
use crate::error::{Error, Result};
use crate::loss::Objective;
use crate::magnitude::larger;
use crate::sim::Optimizer;
use crate::sim::phases::{Config, Ensemble, Pairs, Reference, run};
use crate::solve::bpo::{Inner, phase_problem, phases, static_equivalent};
use crate::solve::{fixed_point, minimise};

/// The loss as printed: a function of the product of two probability ratios.
fn printed(inner: Inner, ratio: f64, beta: f64) -> f64 {
    match inner {
        Inner::Dpo => -sigmoid(beta * ratio.ln()).ln(),
        Inner::Ipo => (ratio.ln() - 1.0 / (2.0 * beta)).powi(2),
        Inner::Slic => (1.0 - beta * ratio.ln()).max(0.0),
    }
}

pub(super) fn inner_losses() -> Result<Finding> {
    let problems = random_problems(100, 41)?;
    let mut error = 0.0f64;
    for (i, problem) in problems.iter().enumerate() {
        let policy = Policy::softmax(&random_table(problem, 2.0, i as u64));
        for inner in Inner::ALL {
            let mut sum = 0.0;
            for (prompt, p) in problem.prompts().iter().zip(policy.probabilities()) {
                let q: Vec<f64> = prompt.log_reference.iter().map(|l| l.exp()).collect();
                let (k, table) = (prompt.arms(), prompt.law.table());
                for w in 0..k {
                    for l in 0..k {
                        let pairs = table[w * k + l] + table[l * k + w];
                        let wins = sigmoid(prompt.reward[w] - prompt.reward[l]);
                        let ratio = p[w] / p[l] * (q[l] / q[w]);
                        // A response against itself counts in both orders and wins half.
                        sum += prompt.weight * pairs * wins * printed(inner, ratio, problem.beta());
                    }
                }
            }
            let value = on_population(problem, inner, policy.log())?.value;
            error = larger(error, (value - sum).abs() / (1.0 + sum.abs()));
        }
    }
    Ok(Finding::holds(
        error < 1e-12,
        format!(
            "{} random problems, losses written as printed, largest difference {error:.1e}",
            problems.len()
        ),
    ))
}

pub(super) fn penalty() -> Result<Finding> {
    let problems = random_problems(100, 42)?;
    let mut smallest = f64::INFINITY;
    for problem in &problems {
        let at = |scale: f64| -> Result<f64> {
            let other = problem.at(Beta::new("beta", scale * problem.beta())?);
            Ok(problem.kl(&other.optimum().policy, &problem.reference()))
        };
        for scale in [0.25, 0.5, 1.0, 2.0] {
            smallest = smallest.min(1.0 - at(2.0 * scale)? / at(scale)?);
        }
    }
    Ok(Finding::holds(
        smallest > 0.0,
        format!(
            "{} random problems, β doubled four times: KL(π*‖π_ref) falls each time, by {:.0e} of itself or more",
            problems.len(),
            smallest
        ),
    ))
}

pub(super) fn dpo_optimum() -> Result<Finding> {
    let problems = random_problems(200, 43)?;
    let (mut gradient, mut off, mut tried) = (0.0f64, 0.0f64, 0);
    for (i, problem) in problems.iter().enumerate() {
        let optimum = problem.optimum().policy;
        let at = on_population(problem, Inner::Dpo, optimum.log())?;
        gradient = (at.gradient.iter().flatten()).fold(gradient, |m, g| m.max(g.abs()));
        // A numeric minimiser knows nothing of π*.
        if i % 20 == 0 {
            let shape: Vec<usize> = problem.prompts().iter().map(Prompt::arms).collect();
            let unflatten = |flat: &[f64]| -> Vec<Vec<f64>> {
                let mut rest = flat.iter().copied();
                (shape.iter())
                    .map(|&k| rest.by_ref().take(k).collect())
                    .collect()
            };
            let evidence = Evidence::population(problem);
            let loss = |flat: &[f64]| match population::evaluate(
                problem,
                &evidence,
                Objective::DPO,
                &unflatten(flat),
            ) {
                Ok(at) => (at.value, at.gradient.concat()),
                Err(_) => (f64::MAX, vec![0.0; flat.len()]),
            };
            let found = minimise::smooth(loss, &random_table(problem, 1.0, i as u64).concat())?;
            let found = Policy::softmax(&unflatten(&found.point));
            off = larger(
                off,
                distance(&found.probabilities(), &optimum.probabilities()),
            );
            tried += 1;
        }
    }
    Ok(Finding::holds(
        gradient < 1e-13 && off < 1e-5,
        format!(
            "{} random problems, gradient at π* {gradient:.1e}; a numeric minimiser from {tried} random starts ends within {off:.1e}",
            problems.len()
        ),
    ))
}

/// The same pairs, won always by the better response.
fn noiseless(problem: &Problem) -> Evidence {
    Evidence::population(problem).map_pairs(|share| {
        let reward = &share.reward;
        if let Some(pairs) = &mut share.comparisons {
            let mut edges = pairs.edges(reward);
            for e in &mut edges {
                let (weight, gap) = (e.weight(), reward[e.a as usize] - reward[e.b as usize]);
                if gap != 0.0 {
                    e.wins = if gap > 0.0 { weight } else { 0.0 };
                    e.losses = weight - e.wins;
                }
            }
            *pairs = Comparisons::Listed {
                edges,
                bradley_terry: false,
            };
        }
    })
}

/// `ln π_ref + t·(rank of the reward)/β`: every better arm has a margin of at least t/β.
fn ranked(problem: &Problem, t: f64) -> Vec<Vec<f64>> {
    (problem.prompts().iter())
        .map(|prompt| {
            (prompt.reward.iter().zip(&prompt.log_reference))
                .map(|(r, l)| {
                    let rank = prompt.reward.iter().filter(|other| *other < r).count();
                    l + t * rank as f64 / problem.beta()
                })
                .collect()
        })
        .collect()
}

pub(super) fn losses_bound_the_distance() -> Result<Finding> {
    let problems = random_problems(100, 44)?;
    let (far, farther) = (200.0, 400.0);
    let (mut noisy, mut ipo, mut dpo, mut slic) = (true, true, 0.0f64, 0.0f64);
    for problem in &problems {
        let sure = noiseless(problem);
        let loss = |evidence: &Evidence, inner: Inner, t: f64| -> Result<f64> {
            let table = ranked(problem, t);
            Ok(population::evaluate(problem, evidence, inner.objective(), &table)?.value)
        };
        let population = Evidence::population(problem);
        for inner in Inner::ALL {
            noisy &= loss(&population, inner, farther)? > loss(&population, inner, 0.0)?;
        }
        ipo &= loss(&sure, Inner::Ipo, farther)? > loss(&sure, Inner::Ipo, 0.0)?;
        // Only pairs of a response with itself still cost something.
        let selves: f64 = (problem.prompts().iter())
            .map(|p| p.weight * p.law.table().iter().step_by(p.arms() + 1).sum::<f64>())
            .sum();
        dpo = larger(
            dpo,
            loss(&sure, Inner::Dpo, far)? - selves * std::f64::consts::LN_2,
        );
        slic = larger(slic, (loss(&sure, Inner::Slic, far)? - selves).abs());
        slic = larger(slic, (loss(&sure, Inner::Slic, 1.0 + 1e-9)? - selves).abs());
    }
    let without = dpo.abs() < 1e-12 && slic < 1e-12;
    Ok(Finding::holds_if(
        noisy && ipo,
        without,
        format!(
            "{} random problems: with Bradley–Terry labels each loss is larger far out than at the reference; noiseless, DPO far out is within {dpo:.0e} of its infimum and SLiC within {slic:.0e} from margins of 1/β on; IPO still grows",
            problems.len()
        ),
    ))
}

pub(super) fn slic_ranks() -> Result<Finding> {
    let problems = random_problems(200, 45)?;
    let count = |sure: bool| -> Result<(usize, usize)> {
        let (mut tied, mut pairs) = (0, 0);
        for problem in &problems {
            let evidence = if sure {
                noiseless(problem)
            } else {
                Evidence::population(problem)
            };
            let point = fixed_point(Objective::SLIC, problem, &evidence)?;
            for (prompt, row) in problem.prompts().iter().zip(policy_of(&point)?.log()) {
                let z: Vec<f64> = (row.iter().zip(&prompt.log_reference))
                    .map(|(l, r)| problem.beta() * (l - r))
                    .collect();
                for a in 0..prompt.arms() {
                    for b in (0..prompt.arms()).filter(|&b| prompt.reward[a] > prompt.reward[b]) {
                        pairs += 1;
                        tied += usize::from(z[a] - z[b] < 0.5);
                    }
                }
            }
        }
        Ok((tied, pairs))
    };
    let ((sure, pairs), (noisy, _)) = (count(true)?, count(false)?);
    let share = noisy as f64 / pairs as f64;
    Ok(Finding::holds_if(
        sure == 0,
        noisy > 0,
        format!(
            "{} random problems, {pairs} pairs of arms: {sure} not separated with noiseless labels, {noisy} with Bradley–Terry labels",
            problems.len()
        ),
    )
    .measure("share of pairs not separated", share))
}

pub(super) fn offline() -> Result<Finding> {
    let problems = random_problems(60, 46)?;
    let mut error = 0.0f64;
    for problem in &problems {
        let own = problem.map_prompts(|_, prompt| {
            let law: Vec<f64> = prompt.log_reference.iter().map(|l| l.exp()).collect();
            let (first, second) = (law.clone(), law);
            prompt.law = PairLaw::Product { first, second };
        });
        let evidence = Evidence::population(&own);
        for inner in Inner::ALL {
            let offline = fixed_point(inner.objective(), &own, &evidence)?;
            let one = phases(problem, inner, 1)?;
            error = larger(
                error,
                distance(
                    &policy_of(&offline)?.probabilities(),
                    &policy_of(&one[0])?.probabilities(),
                ),
            );
        }
    }
    let sampled = |reference| {
        let config = Config {
            inner: Inner::Dpo,
            reference,
            updates: 40,
            phases: 1,
            pairs: Pairs::Drawn(16),
            ensemble: Ensemble::default(),
            every: 10,
            optimizer: Optimizer::adam(1e-2),
            seeds: 2,
            key: 46,
            threads: 1,
        };
        run(&toy()?, &config)
    };
    let same = sampled(Reference::Behaviour)? == sampled(Reference::Static)?;
    Ok(Finding::holds(
        error < 1e-12 && same,
        format!(
            "{} random problems, three losses, largest difference {error:.1e}; sampled runs {}",
            problems.len(),
            if same { "agree to the bit" } else { "differ" }
        ),
    ))
}

pub(super) fn dpo_phases() -> Result<Finding> {
    let problems = random_problems(200, 47)?;
    let (mut error, count) = (0.0f64, 6);
    for problem in &problems {
        // Phase after phase by the solver that knows nothing of phases.
        let mut last = problem.reference();
        for k in 1..=count {
            let phase = phase_problem(problem, &last)?;
            let point = fixed_point(Objective::DPO, &phase, &Evidence::population(&phase))?;
            last = policy_of(&point)?.clone();
            let still = static_equivalent(problem, k)?.optimum().policy;
            error = larger(
                error,
                distance(&last.probabilities(), &still.probabilities()),
            );
        }
    }
    Ok(Finding::holds(
        error < 1e-12,
        format!(
            "{} random problems, {count} phases, largest difference {error:.1e}",
            problems.len()
        ),
    ))
}

/// The two arms of the largest rewards, best first.
pub(super) fn best_two(reward: &[f64]) -> (usize, usize) {
    let mut order: Vec<usize> = (0..reward.len()).collect();
    order.sort_by(|&a, &b| reward[b].total_cmp(&reward[a]));
    (order[0], order[1])
}

pub(super) fn instability() -> Result<Finding> {
    let problems = random_problems(100, 48)?;
    let (mut error, mut least) = (0.0f64, f64::INFINITY);
    for problem in &problems {
        let points = phases(problem, Inner::Dpo, 20)?;
        let odds = |k: usize, x: usize| -> Result<f64> {
            let prompt = &problem.prompts()[x];
            let (first, second) = best_two(&prompt.reward);
            let log = &policy_of(&points[k])?.log()[x];
            Ok(log[first] - log[second])
        };
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let (first, second) = best_two(&prompt.reward);
            let want = (prompt.reward[first] - prompt.reward[second]) / problem.beta();
            for k in [1, 10, 19] {
                let gain = odds(k, x)? - odds(k - 1, x)?;
                error = larger(error, (gain - want).abs() / (1.0 + want));
                least = least.min(gain);
            }
        }
    }
    let toy = toy()?;
    let last = phases(&toy, Inner::Dpo, 20)?;
    let best = policy_of(&last[19])?.probabilities()[0][0];
    Ok(Finding::holds(
        error < 1e-11 && least > 0.0 && best > 1.0 - 1e-8,
        format!(
            "{} random problems: the best arm's log-odds never stop growing, by (R₁−R₂)/β a phase to {error:.1e}; on the toy 1 − π(best) is {:.0e} after 20 phases",
            problems.len(),
            1.0 - best
        ),
    ))
}

pub(super) fn ipo_phases() -> Result<Finding> {
    let problems = random_problems(100, 49)?;
    let mut error = 0.0f64;
    for problem in &problems {
        let mut last = problem.reference();
        for _ in 0..4 {
            let phase = phase_problem(problem, &last)?;
            let solved = fixed_point(Objective::IPO, &phase, &Evidence::population(&phase))?;
            let rows: Vec<Vec<f64>> = (problem.prompts().iter().zip(last.log()))
                .map(|(prompt, log)| {
                    let law: Vec<f64> = log.iter().map(|l| l.exp()).collect();
                    (log.iter().zip(&prompt.reward))
                        .map(|(l, r)| {
                            let beats: Vec<f64> = prompt
                                .reward
                                .iter()
                                .map(|other| sigmoid(r - other))
                                .collect();
                            l + dot(&law, &beats) / problem.beta()
                        })
                        .collect()
                })
                .collect();
            let next = Policy::softmax(&rows);
            error = larger(
                error,
                distance(&policy_of(&solved)?.probabilities(), &next.probabilities()),
            );
            last = next;
        }
    }
    let toy = toy()?;
    let points = phases(&toy, Inner::Ipo, 100)?;
    let odds = |k: usize| -> Result<f64> {
        let log = &policy_of(&points[k])?.log()[0];
        Ok(log[0] - log[1])
    };
    let rate = odds(99)? - odds(98)?;
    let want =
        (sigmoid(toy.prompts()[0].reward[0] - toy.prompts()[0].reward[1]) - 0.5) / toy.beta();
    Ok(Finding::holds(
        error < 1e-12 && (rate - want).abs() < 1e-8,
        format!(
            "{} random problems, 4 phases, least squares against the recursion {error:.1e}; rate on the toy after 100 phases {rate:.9}, predicted {want:.9}",
            problems.len()
        ),
    )
    .measure("rate", rate)
    .measure("predicted", want))
}

pub(super) fn more_phases() -> Result<Finding> {
    let problems = random_problems(100, 50)?;
    // Of six phases: the least gain of any one of them, and of all together.
    let (mut step, mut whole) = ([f64::INFINITY; 3], [f64::INFINITY; 3]);
    let lower = |least: &mut [f64; 3], from: &[f64; 3], to: &[f64; 3]| {
        for (least, (from, to)) in least.iter_mut().zip(from.iter().zip(to)) {
            *least = least.min(to - from);
        }
    };
    for problem in &problems {
        let worth = (phases(problem, Inner::Dpo, 6)?.iter())
            .map(|point| {
                let policy = policy_of(point)?;
                let regret = problem.regret(policy);
                Ok([reward(problem, policy), win_rate(problem, policy), regret])
            })
            .collect::<Result<Vec<[f64; 3]>>>()?;
        for pair in worth.windows(2) {
            lower(&mut step, &pair[0], &pair[1]);
        }
        lower(&mut whole, &worth[0], &worth[5]);
    }
    // Where a policy has collapsed already, a phase's gain is rounding.
    let rises = |i: usize| step[i] > -1e-12 && whole[i] > 0.0;
    let toy = toy()?;
    let points = phases(&toy, Inner::Dpo, 5)?;
    let regret = |k: usize| Ok::<f64, Error>(toy.regret(policy_of(&points[k])?));
    Ok(Finding::holds_if(
        rises(0) && rises(1),
        rises(2),
        format!(
            "{} random problems, 6 exact phases of DPO: from the first to the last the reward gains {:.0e} or more, the win rate {:.0e} and the regret {:.0e}; no phase takes any of them back by more than {:.0e}",
            problems.len(),
            whole[0],
            whole[1],
            whole[2],
            step.iter().fold(0.0, |m: f64, s| m.max(-s))
        ),
    )
    .measure("regret on the toy, F = 1", regret(0)?)
    .measure("F = 2", regret(1)?)
    .measure("F = 5", regret(4)?))
}
