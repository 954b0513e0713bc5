//! Targets of COPR's fit: optimal policies, sampling distributions, and the printed code.

use std::io::Cursor;

use super::super::{Finding, random_problems, toy};
use super::cases::{apart, cases, log_softmax, logits};
use crate::bandit::{Dataset, Evidence, kl, population};
use crate::error::Result;
use crate::loss::Objective;
use crate::magnitude::{larger, largest};
use crate::random::{Purpose, Stream};
use crate::solve::copr::{Divergence, Target, linear_advantage, restrict, sampling_distribution};
use crate::solve::{fixed_point, minimise};

pub(super) fn dpo_gap() -> Result<Finding> {
    let problem = toy()?;
    let mut lines = String::new();
    for (first, second) in [(0, 1), (0, 2), (1, 2)] {
        lines += &format!(
            "{{\"prompt\": 0, \"first\": {first}, \"second\": {second}, \"label\": true}}\n"
        );
    }
    let ranked = Dataset::read(Cursor::new(lines), "ranking", &problem)?;
    let certain = fixed_point(
        Objective::DPO,
        &problem,
        &Evidence::from_dataset(&problem, &ranked),
    )?;
    let top = (certain.policy.as_ref()).map_or(f64::NAN, |p| p.probabilities()[0][0]);
    let (mut error, mut gradient) = (0.0f64, 0.0f64);
    let problems = random_problems(48, 31)?;
    for problem in &problems {
        let population = Evidence::population(problem);
        let found = fixed_point(Objective::DPO, problem, &population)?;
        let optimum = problem.optimum().policy;
        let at = population::evaluate(problem, &population, Objective::DPO, optimum.log())?;
        gradient = larger(gradient, largest(at.gradient.concat()));
        for (got, want) in found
            .policy
            .iter()
            .flat_map(|p| p.log().iter().zip(optimum.log()))
        {
            error = larger(error, apart(got, want));
        }
        if found.policy.is_none() {
            error = f64::INFINITY;
        }
    }
    let evidence = format!(
        "a strict ranking of three arms ends with probability {top} on the best; on {} Bradley–Terry \
         populations the limit is π* within {error:.1e}, where the \
         loss has gradient {gradient:.1e}",
        problems.len()
    );
    Ok(Finding::holds_if(
        top == 1.0,
        error < 1e-9 && gradient < 1e-12,
        evidence,
    ))
}

pub(super) fn joint() -> Result<Finding> {
    let mut stream = Stream::new(32, Purpose::Start, 0);
    let (tasks, count) = (3usize, 30);
    let (mut own, mut shared, mut from_eq3) = (0.0f64, 0.0f64, f64::INFINITY);
    for _ in 0..count {
        let beta = 0.3 + stream.uniform();
        let start = log_softmax(&logits(&mut stream, 4, 1.0));
        let rewards: Vec<Vec<f64>> = (0..tasks).map(|_| logits(&mut stream, 4, 0.75)).collect();
        // Eq. 3: each task's optimum starts from the one before.
        let mut optima: Vec<Vec<f64>> = Vec::new();
        for reward in &rewards {
            let before = optima.last().unwrap_or(&start);
            optima.push(sampling_distribution(before, reward, beta));
        }
        // Eq. 4 on one shared prompt, by numbers.
        let descend = |targets: &[Target], from: &[f64]| -> Result<Vec<f64>> {
            let f = |theta: &[f64]| {
                let log = log_softmax(theta);
                let mut value = 0.0;
                let mut gradient = vec![0.0; theta.len()];
                for target in targets {
                    value += target.divergence(&log, Divergence::Reverse);
                    let each = target.gradient(&log, Divergence::Reverse);
                    gradient.iter_mut().zip(each).for_each(|(g, e)| *g += e);
                }
                (value, gradient)
            };
            Ok(log_softmax(&minimise::smooth(f, from)?.point))
        };
        let targets: Vec<Target> = (optima.iter())
            .map(|log| Target {
                arms: (0..4).collect(),
                log: log.clone(),
            })
            .collect();
        let from = logits(&mut stream, 4, 0.5);
        let found = descend(&targets, &from)?;
        let weighted: Vec<f64> = (0..4)
            .map(|a| {
                let sum = (rewards.iter().enumerate())
                    .map(|(s, r)| (tasks - s) as f64 / tasks as f64 * r[a]);
                sum.sum()
            })
            .collect();
        shared = larger(
            shared,
            apart(&found, &sampling_distribution(&start, &weighted, beta)),
        );
        from_eq3 = from_eq3.min(apart(&found, &optima[tasks - 1]));
        // Prompts of their own: each is fitted alone.
        for target in &targets {
            let found = descend(std::slice::from_ref(target), &from)?;
            own = larger(own, apart(&found, &target.log));
        }
    }
    let evidence = format!(
        "{count} random sequences of {tasks} tasks, minimised numerically: own prompts give each \
         optimum within {own:.1e}; a shared prompt gives the weights (t − s + 1)/t within {shared:.1e} \
         and is off eq. 3 by at least {from_eq3:.2}"
    );
    Ok(Finding::holds_if(
        own < 1e-6,
        shared < 1e-6 && from_eq3 > 1e-3,
        evidence,
    ))
}

pub(super) fn definition() -> Result<Finding> {
    let cases = cases(96, 33, false)?;
    let mut error = 0.0f64;
    let mut sets = 0;
    for case in &cases {
        let (k, optimum) = (case.prompt.arms(), case.prompt.optimum(case.beta).1);
        for bits in 1u32..1 << k {
            let arms: Vec<usize> = (0..k).filter(|&a| bits >> a & 1 == 1).collect();
            let pick = |v: &[f64]| -> Vec<f64> { arms.iter().map(|&a| v[a]).collect() };
            let got = sampling_distribution(
                &pick(&case.prompt.log_reference),
                &pick(&case.prompt.reward),
                case.beta,
            );
            error = larger(error, apart(&got, &restrict(&optimum, &arms)));
            sets += 1;
        }
    }
    let evidence = format!("{sets} sets of responses, largest difference {error:.1e}");
    Ok(Finding::holds(error < 1e-12, evidence))
}

pub(super) fn proposition() -> Result<Finding> {
    let mut stream = Stream::new(34, Purpose::Start, 0);
    let (mut families, mut wrong) = (0, 0);
    let mut proper = Vec::new();
    for n in 2..=4usize {
        let optimum = log_softmax(&logits(&mut stream, n, 1.0));
        let sets: Vec<Vec<usize>> = (0u32..1 << n)
            .map(|bits| (0..n).filter(|&a| bits >> a & 1 == 1).collect())
            .filter(|set: &Vec<usize>| set.len() > 1)
            .collect();
        let of = |chosen: &[&Vec<usize>]| determines(&optimum, chosen, 1e-12);
        for bits in 0u32..1 << sets.len() {
            let family: Vec<&Vec<usize>> = (sets.iter().enumerate())
                .filter(|(i, _)| bits >> i & 1 == 1)
                .map(|(_, set)| set)
                .collect();
            wrong += usize::from(of(&family) != connected(n, &family));
            families += 1;
        }
        let all: Vec<&Vec<usize>> = sets.iter().filter(|set| set.len() < n).collect();
        proper.push(of(&all));
    }
    let evidence = format!(
        "all {families} families of subsets of 2, 3 and 4 responses: π* is determined exactly where \
         the family connects them ({wrong} exceptions); the proper subsets determine it for n = 2, 3, \
         4: {proper:?}"
    );
    Ok(Finding::holds_if(
        wrong == 0 && proper[1] && proper[2],
        !proper[0],
        evidence,
    ))
}

/// Whether no other policy has the optimum's sampling distributions on these sets: tries to tilt the
/// optimum by every split of the responses, and looks for one the sets do not notice.
fn determines(log_optimum: &[f64], family: &[&Vec<usize>], tolerance: f64) -> bool {
    let n = log_optimum.len();
    (1u32..(1 << n) - 1).all(|side| {
        let tilted: Vec<f64> = (log_optimum.iter().enumerate())
            .map(|(a, l)| l + f64::from(side >> a & 1))
            .collect();
        let tilted = log_softmax(&tilted);
        (family.iter())
            .any(|set| kl(&restrict(&tilted, set), &restrict(log_optimum, set)) > tolerance)
    })
}

fn connected(n: usize, family: &[&Vec<usize>]) -> bool {
    let mut reached = vec![false; n];
    reached[0] = true;
    for _ in 0..n {
        for set in family {
            if set.iter().any(|&a| reached[a]) {
                set.iter().for_each(|&a| reached[a] = true);
            }
        }
    }
    reached.iter().all(|&r| r)
}

/// PyTorch's `kl_div(input, target)`: pointwise `target (ln target − input)`, summed.
fn kl_div(input: &[f64], log_target: &[f64]) -> f64 {
    let each = input.iter().zip(log_target);
    each.map(|(i, t)| t.exp() * (t - i)).sum()
}

pub(super) fn printed_code() -> Result<Finding> {
    let mut stream = Stream::new(35, Purpose::Start, 0);
    let (mut repaired, mut forward, mut off) = (0.0f64, 0.0f64, 0.0f64);
    let problems: Vec<_> = (random_problems(96, 35)?.iter())
        .map(|problem| {
            problem.map_prompts(|_, prompt| {
                let mut ranking: Vec<u32> = (0..prompt.arms() as u32).collect();
                stream.shuffle(&mut ranking);
                prompt.ranking = Some(ranking);
            })
        })
        .collect();
    let loss = |problem, theta: &[Vec<f64>], objective| {
        let evidence = Evidence::population(problem);
        population::evaluate(problem, &evidence, objective, theta).map(|e| e.value)
    };
    for problem in &problems {
        let theta: Vec<Vec<f64>> = (problem.prompts().iter())
            .map(|p| logits(&mut stream, p.arms(), 1.5))
            .collect();
        let (mut printed, mut swapped) = (0.0, 0.0);
        for (prompt, row) in problem.prompts().iter().zip(&theta) {
            let ranking = prompt.ranking.as_deref().unwrap_or_default();
            let target = Target::ranked(prompt, ranking, problem.beta())?;
            let policy = restrict(row, &target.arms);
            printed += prompt.weight * kl_div(&policy, &target.log) / policy.len() as f64;
            swapped += prompt.weight * kl_div(&target.log, &policy);
        }
        let eq7 = loss(problem, &theta, Objective::COPR)?;
        let scale = 1.0 + eq7.abs();
        repaired = larger(repaired, (swapped - eq7).abs() / scale);
        forward = forward
            .max((printed - loss(problem, &theta, Objective::COPR_FORWARD_MEAN)?).abs() / scale);
        off = larger(off, (printed - eq7).abs() / scale);
    }
    let toy = toy()?.map_prompts(|_, p| p.ranking = Some(vec![2, 1, 0]));
    let at = [vec![0.3, -0.2, 0.1]];
    let evidence = format!(
        "{} random problems: swapped and summed it is eq. 7 within {repaired:.1e}; as printed it is \
         KL(P*‖P_θ)/J within {forward:.1e}, and off eq. 7 by up to {off:.2}",
        problems.len()
    );
    let finding = Finding::misprint(repaired < 1e-12, off > 0.1 && forward < 1e-12, evidence);
    Ok(finding
        .measure("eq. 7 on the toy bandit", loss(&toy, &at, Objective::COPR)?)
        .measure(
            "KL(P*‖P_θ) there",
            loss(&toy, &at, Objective::COPR_FORWARD)?,
        )
        .measure(
            "as printed there",
            loss(&toy, &at, Objective::COPR_FORWARD_MEAN)?,
        ))
}

pub(super) fn batched() -> Result<Finding> {
    let mut stream = Stream::new(36, Purpose::Start, 0);
    let cases = cases(60, 36, true)?;
    let (mut alone, mut value, mut outside, mut pairs) = (0.0f64, 0.0f64, 0.0f64, 0);
    for pair in cases.chunks_exact(2) {
        let rows = [0, 1].map(|i| logits(&mut stream, pair[i].prompt.arms(), 1.0));
        // The printed lines' sum over a tensor: all its elements.
        let printed = |batch: &[(Vec<f64>, Vec<f64>)]| -> f64 {
            let policy: Vec<f64> = batch.iter().flat_map(|b| b.0.clone()).collect();
            let target: Vec<f64> = batch.iter().flat_map(|b| b.1.clone()).collect();
            kl_div(&log_softmax(&policy), &log_softmax(&target))
        };
        let part = |i: usize, rows: &[Vec<f64>; 2]| -> (Vec<f64>, Vec<f64>) {
            let case = &pair[i];
            let log_policy = log_softmax(&rows[i]);
            let policy = case.target.arms.iter().map(|&a| log_policy[a]).collect();
            // P_ref e^{Adv/β}, not normalised.
            let target = (case.target.arms.iter().enumerate())
                .map(|(j, &a)| {
                    let len = case.target.arms.len();
                    let advantage = linear_advantage(j + 1, len);
                    case.prompt.log_reference[a] + advantage / case.beta
                })
                .collect();
            (policy, target)
        };
        let together = |rows: &[Vec<f64>; 2]| -> f64 { printed(&[part(0, rows), part(1, rows)]) };
        let mut mean = 0.0;
        for i in 0..2 {
            let log = log_softmax(&rows[i]);
            let own = pair[i].target.divergence(&log, Divergence::Forward);
            alone = larger(alone, (printed(&[part(i, &rows)]) - own).abs());
            mean += own / 2.0;
        }
        value = larger(value, (together(&rows) - mean).abs());
        // A logit off the first prompt's ranking should not matter.
        if let Some(a) = (0..rows[0].len()).find(|a| !pair[0].target.arms.contains(a)) {
            let mut moved = rows.clone();
            moved[0][a] += 1.0;
            outside = larger(outside, (together(&moved) - together(&rows)).abs());
        }
        pairs += 1;
    }
    let evidence = format!(
        "{pairs} pairs of prompts, summed divergences: one at a time each is its own within \
         {alone:.1e}; batched, off the mean by up to {value:.2}, and a logit off a ranking changes it \
         by up to {outside:.2}"
    );
    Ok(Finding::holds_if(
        alone < 1e-12,
        value > 0.1 && outside > 0.01,
        evidence,
    ))
}
