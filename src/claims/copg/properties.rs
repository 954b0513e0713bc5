//! The three properties, Algorithm 1, and what a step does.

use super::super::{Finding, random_problems, toy};
use super::at::{At, gap, logits, objective, pairs};
use crate::bandit::{Evidence, PairLaw, Policy, Problem, population};
use crate::error::Result;
use crate::loss::{Batch, Objective};
use crate::magnitude::larger;
use crate::solve::flow::{Course, Frame, Numeric, follow};

fn said(count: usize, error: f64) -> String {
    format!("{count} random problems, largest difference {error:.1e}")
}

/// One law for both responses of every prompt.
fn with_law(problem: &Problem, law: impl Fn(usize) -> Vec<f64>) -> Problem {
    problem.map_prompts(|x, prompt| {
        let (first, second) = (law(x), law(x));
        prompt.law = PairLaw::Product { first, second };
    })
}

pub(super) fn proportional() -> Result<Finding> {
    let (mut regularised, mut plain, mut turned) = (0.0f64, 0.0f64, 0);
    let problems = random_problems(200, 1)?;
    for (key, problem) in problems.iter().enumerate() {
        for at in At::every(problem, &logits(problem, key as u64, 4.0)) {
            let k = at.pi.len();
            let have = &pairs(&at, &at.prompt.reward, problem.beta(), false)?.gradient[0];
            let rewards = at.regularised(problem.beta());
            for (i, step) in have.iter().enumerate() {
                let (a, b) = (i / k, i % k);
                let difference = at.prompt.reward[a] - at.prompt.reward[b];
                regularised = larger(regularised, (step - (rewards[a] - rewards[b])).abs());
                plain = larger(plain, (step - difference).abs());
                turned += usize::from(step * difference < 0.0);
            }
        }
    }
    // On the toy, with the first arm far above where its reward puts it.
    let problem = toy()?;
    let at = At::new(&problem.prompts()[0], &[10.0, 0.0, 0.0]);
    let step = pairs(&at, &at.prompt.reward, problem.beta(), false)?.gradient[0][1];
    let evidence = format!(
        "{} random problems: the step is ΔR_β to {regularised:.1e}, and turned against ΔR on {turned} \
         pairs of arms",
        problems.len()
    );
    let finding = Finding::holds_if(regularised < 1e-11, plain > 0.1 && step < 0.0, evidence);
    Ok(finding.measure("toy, Δu = 10 and ΔR = 0.5: step on the better arm", step))
}

pub(super) fn algorithm() -> Result<Finding> {
    let problem = toy()?;
    let evidence = Evidence::population(&problem);
    let gradient = |problem: &Problem, at: &[f64]| -> Result<Vec<f64>> {
        let at = population::evaluate(problem, &evidence, Objective::COPG_SQUARED, &[at.to_vec()])?;
        Ok(at.gradient.concat())
    };
    // As corrected: plain steps down the square.
    let mut theta = problem.reference().log()[0].clone();
    for _ in 0..4_000 {
        let g = gradient(&problem, &theta)?;
        theta.iter_mut().zip(g).for_each(|(t, g)| *t -= 0.5 * g);
    }
    let regret = problem.regret(&Policy::softmax(&[theta]));
    // As printed: the derivative of g, on two problems that differ in their rewards.
    let flipped = problem.map_prompts(|_, prompt| prompt.reward.reverse());
    let flipped_evidence = Evidence::population(&flipped);
    let matrix = |problem: &Problem, evidence: &Evidence| -> Result<Vec<f64>> {
        let point = [0.3, -0.2, 0.1];
        let mut all = Vec::new();
        for j in 0..3 {
            let at = |h: f64| {
                let mut moved = point.to_vec();
                moved[j] += h;
                let which = Objective::COPG_SQUARED;
                population::evaluate(problem, evidence, which, &[moved])
            };
            let (ahead, behind) = (at(0.5)?.gradient.concat(), at(-0.5)?.gradient.concat());
            all.extend(ahead.iter().zip(&behind).map(|(a, b)| a - b));
        }
        Ok(all)
    };
    let (one, other) = (
        matrix(&problem, &evidence)?,
        matrix(&flipped, &flipped_evidence)?,
    );
    let blind = gap(&one, &other);
    let best = |p: &Problem| p.optimum().policy;
    let differ = problem.kl(&best(&problem), &best(&flipped)) > 0.1;
    let text = format!(
        "toy: θ − ηg ends at regret {regret:.1e}; ∇g is 3 × 3 and the same for rewards in reverse \
         ({blind:.1e})"
    );
    Ok(Finding::misprint(
        regret < 1e-12,
        blind < 1e-12 && differ,
        text,
    ))
}

pub(super) fn policy_gradient() -> Result<Finding> {
    let mut error = 0.0f64;
    let problems = random_problems(200, 1)?;
    for (key, problem) in problems.iter().enumerate() {
        let logits = logits(problem, key as u64, 2.0);
        let policy = Policy::softmax(&logits).probabilities();
        let own = with_law(problem, |x| policy[x].clone());
        let (_, have) = objective(&own, &logits)?;
        let want: Vec<f64> = (At::every(&own, &logits).into_iter())
            .flat_map(|at| {
                let gradient = at.policy_gradient(problem.beta());
                let scale = 2.0 * at.prompt.weight;
                gradient.into_iter().map(move |g| scale * g)
            })
            .collect();
        error = larger(error, gap(have.iter().flatten(), &want));
    }
    Ok(Finding::holds(error < 1e-12, said(problems.len(), error)))
}

/// RLOO's ascent direction on one group of arms, with respect to ln π of each sample, as the paper
/// writes it: a sum over the samples.
fn rloo_update(at: &At<'_>, beta: f64, group: &[usize]) -> Result<Vec<f64>> {
    let pick = |of: &dyn Fn(usize) -> f64| -> Vec<f64> { group.iter().map(|&a| of(a)).collect() };
    let reference = |a: usize| at.prompt.log_reference[a];
    let batch = Batch {
        log_policy: [pick(&|a| at.u[a] + reference(a)), Vec::new()],
        log_reference: [pick(&reference), Vec::new()],
        reward: [pick(&|a| at.prompt.reward[a]), Vec::new()],
        sizes: vec![group.len()],
        weight: vec![-(group.len() as f64)],
        ..Batch::default()
    };
    let cotangents = Objective::RLOO.bind(&beta.into())?.on_tape(&batch)?;
    Ok(cotangents.gradient.into_iter().flatten().collect())
}

pub(super) fn rloo() -> Result<Finding> {
    let (mut two, mut any) = (0.0f64, 0.0f64);
    let problems = random_problems(100, 1)?;
    for (key, problem) in problems.iter().enumerate() {
        let beta = problem.beta();
        for at in At::every(problem, &logits(problem, key as u64, 2.0)) {
            let rewards = at.regularised(beta);
            let arms = rewards.len();
            for k in 2..6 {
                let group: Vec<usize> = (0..k).map(|j| (key + j * j) % arms).collect();
                let have = rloo_update(&at, beta, &group)?;
                // (1/(k−1)) Σ_l (R_β(y_j) − R_β(y_l)): the pair gradients of eq. 9, added up.
                let want: Vec<f64> = (group.iter())
                    .map(|&j| group.iter().map(|&l| rewards[j] - rewards[l]).sum::<f64>())
                    .map(|sum| sum / (k as f64 - 1.0))
                    .collect();
                let error = gap(&have, &want);
                any = larger(any, error);
                two = if k == 2 { two.max(error) } else { two };
            }
        }
    }
    let finding = Finding::holds(two < 1e-12, said(problems.len(), two));
    Ok(finding.measure("largest difference for k = 3, 4, 5", any))
}

pub(super) fn rloo_off_policy() -> Result<Finding> {
    let mut error = 0.0f64;
    let problems = random_problems(24, 3)?;
    for (key, problem) in problems.iter().enumerate() {
        let logits = logits(problem, key as u64, 1.5);
        let laws: Vec<Vec<f64>> = (problem.prompts().iter())
            .map(|p| p.law.marginals().0)
            .collect();
        let own = with_law(problem, |x| laws[x].clone());
        let (_, copg) = objective(&own, &logits)?;
        for (x, at) in At::every(&own, &logits).iter().enumerate() {
            let arms = at.pi.len();
            for k in 2..=3usize {
                // Every group of k arms with its probability.
                let mut mean_update = vec![0.0; arms];
                for index in 0..arms.pow(k as u32) {
                    let group: Vec<usize> =
                        (0..k).map(|j| index / arms.pow(j as u32) % arms).collect();
                    let chance: f64 = group.iter().map(|&a| at.first[a]).product();
                    let mut c = vec![0.0; arms];
                    let update = rloo_update(at, problem.beta(), &group)?;
                    group.iter().zip(update).for_each(|(&a, g)| c[a] += g);
                    let along = at.along(&c);
                    mean_update
                        .iter_mut()
                        .zip(along)
                        .for_each(|(m, g)| *m += chance * g);
                }
                let half_k = 0.5 * k as f64 / at.prompt.weight;
                let want: Vec<f64> = copg[x].iter().map(|g| half_k * g).collect();
                error = larger(error, gap(&mean_update, &want));
            }
        }
    }
    // And its limit off policy.
    let problem = toy()?;
    let evidence = Evidence::population(&problem);
    let field = |theta: &[f64]| {
        let at = population::evaluate(&problem, &evidence, Objective::RLOO, &[theta.to_vec()]);
        at.ok()
            .map(|at| at.gradient.concat().iter().map(|g| -g).collect())
    };
    let start = problem.reference().log()[0].clone();
    let motion = Numeric::new(field, Frame::Logits(vec![start.len()]));
    let end = follow(&motion, start, Course::Basin);
    let regret = problem.regret(&Policy::softmax(&[end.point]));
    let finding = Finding::holds(error < 1e-12 && regret < 1e-12, said(problems.len(), error));
    Ok(finding.measure("toy: regret of RLOO's flow off policy", regret))
}

/// `½ − βΔu` and `∇ℓ` along `∇ln π(y)` with rewards ±`r`, for each pair (y, y′) of distinct arms.
fn binary(at: &At<'_>, beta: f64, r: f64) -> Result<Vec<(f64, f64)>> {
    let k = at.pi.len();
    let mut all = Vec::new();
    for y in 0..k {
        for z in (0..k).filter(|&z| z != y) {
            let mut reward = vec![0.0; k];
            (reward[y], reward[z]) = (r, -r);
            let gradient = pairs(at, &reward, beta, false)?.gradient;
            all.push((0.5 - beta * (at.u[y] - at.u[z]), gradient[0][y * k + z]));
        }
    }
    Ok(all)
}

pub(super) fn ipo() -> Result<Finding> {
    let (mut corrected, mut printed) = (0.0f64, f64::INFINITY);
    let problems = random_problems(100, 1)?;
    for (key, problem) in problems.iter().enumerate() {
        let beta = problem.beta();
        let mut apart = 0.0f64;
        for at in At::every(problem, &logits(problem, key as u64, 2.0)) {
            for (miss, gradient) in binary(&at, beta, 0.25)? {
                // −1/(2β) ∇(½ − βΔu)² along ∇ln π(y), against −1/(2β) (½ − βΔu)² itself.
                let slope = -1.0 / (2.0 * beta) * (2.0 * miss * -beta);
                let value = -1.0 / (2.0 * beta) * miss * miss;
                corrected = larger(corrected, (gradient - slope).abs());
                apart = larger(apart, (gradient - value).abs());
            }
        }
        printed = printed.min(apart);
    }
    let finding = Finding::misprint(
        corrected < 1e-12,
        printed > 1e-6,
        said(problems.len(), corrected) + " with the ∇",
    );
    Ok(finding.measure("smallest largest difference without it", printed))
}

pub(super) fn ipo_proof() -> Result<Finding> {
    let (mut corrected, mut printed) = (0.0f64, f64::INFINITY);
    let problems = random_problems(100, 1)?;
    for (key, problem) in problems.iter().enumerate() {
        let mut apart = 0.0f64;
        for at in At::every(problem, &logits(problem, key as u64, 2.0)) {
            let (plus, minus) = (
                binary(&at, problem.beta(), 0.25)?,
                binary(&at, problem.beta(), -0.25)?,
            );
            for ((miss, plus), (_, minus)) in plus.into_iter().zip(minus) {
                corrected = larger(corrected, (plus - miss).abs());
                apart = larger(apart, (minus - miss).abs());
            }
        }
        printed = printed.min(apart);
    }
    let finding = Finding::misprint(
        corrected < 1e-12,
        printed > 1e-6,
        said(problems.len(), corrected) + " from the next line with +¼",
    );
    Ok(finding.measure("with −¼ it is off by", printed))
}
