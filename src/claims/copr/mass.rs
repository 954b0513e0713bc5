//! The mass of the ranked responses: what is known of it, and what moves it.

use super::super::{Finding, toy};
use super::cases::{apart, cases, log_softmax, logits};
use crate::bandit::{PairLaw, Policy, Prompt, Simplex, kl};
use crate::error::Result;
use crate::magnitude::{larger, largest};
use crate::random::{Purpose, Stream};
use crate::solve::copr::{
    Divergence, Motion, Target, fixed_point, lower_bound, motion, with_likelihood,
};

pub(super) fn bound() -> Result<Finding> {
    let mut stream = Stream::new(51, Purpose::Start, 0);
    let (mut least, mut equality, mut loose) = (f64::INFINITY, 0.0f64, 0.0f64);
    let cases = cases(600, 51, true)?;
    for case in &cases {
        let p = 0.01 + 0.98 * stream.uniform();
        let gamma = stream.uniform() / p;
        let optimum = case.with_mass(p);
        let proportional = case.with_mass(gamma * p);
        // Any other odds off the ranked responses.
        let mut other = logits(&mut stream, optimum.len(), 2.0);
        case.target
            .arms
            .iter()
            .for_each(|&a| other[a] = f64::NEG_INFINITY);
        let mut other: Vec<f64> = (log_softmax(&other).iter())
            .map(|l| l + (-gamma * p).ln_1p())
            .collect();
        case.target
            .arms
            .iter()
            .for_each(|&a| other[a] = proportional[a]);
        let bound = lower_bound(p, gamma)?;
        least = least.min(kl(&other, &optimum) - bound);
        loose = larger(loose, kl(&other, &optimum) - bound);
        equality = larger(equality, (kl(&proportional, &optimum) - bound).abs());
    }
    let evidence = format!(
        "{} random policies: gaps from {least:.1e} to {loose:.1}; proportional to π* off the ranking, the \
         gap is {equality:.1e} at most",
        cases.len()
    );
    Ok(Finding::holds(least > -1e-12 && equality < 1e-12, evidence))
}

pub(super) fn riskier() -> Result<Finding> {
    let ends =
        |p: f64| -> Result<(f64, f64)> { Ok((lower_bound(p, 0.0)?, lower_bound(p, 1.0 / p)?)) };
    let (mut above, mut below, mut steps) = (true, true, true);
    for i in 1..100 {
        let p = f64::from(i) / 100.0;
        let (down, up) = ends(p)?;
        if p > 0.5 {
            above &= down > up;
            // Equal steps to either side, as far as γ can rise.
            for share in [0.1, 0.5, 0.9] {
                let by = share * (1.0 / p - 1.0);
                steps &= lower_bound(p, 1.0 + by)? > lower_bound(p, 1.0 - by)?;
            }
        } else if p < 0.5 {
            below &= down < up;
        }
    }
    let evidence = format!(
        "99 values of p: the bound at γ = 0 is above that at γ = 1/p for every p > 1/2 ({above}) and below \
         it for every p < 1/2 ({below}); at equal steps from 1, p > 1/2, the rise costs more ({steps})"
    );
    let (high, low) = (ends(0.95)?, ends(0.1)?);
    Ok(Finding::holds_if(above, below && steps, evidence)
        .measure("p = .95, γ to 0", high.0)
        .measure("p = .95, γ to 1/p", high.1)
        .measure("p = .1, γ to 0", low.0)
        .measure("p = .1, γ to 1/p", low.1)
        .measure("p = .95, γ = 1.04", lower_bound(0.95, 1.04)?)
        .measure("p = .95, γ = 0.96", lower_bound(0.95, 0.96)?))
}

/// Where gradient flow of eq. 7 from `start` ends: a gradient that sums to zero over the ranked responses
/// keeps the mean of their logits, so they end at `ln P* + c` with that mean, and all others stay.
fn end_of_fit(start: &[f64], target: &Target) -> Vec<f64> {
    let count = target.arms.len() as f64;
    let at_start = target.arms.iter().map(|&a| start[a]).sum::<f64>() / count;
    let at_end = target.log.iter().sum::<f64>() / count;
    let mut end = start.to_vec();
    (target.arms.iter().zip(&target.log)).for_each(|(&a, l)| end[a] = l - at_end + at_start);
    log_softmax(&end)
}

pub(super) fn from_fit() -> Result<Finding> {
    // Alone it does not: every γ has a policy of no loss and no gradient.
    let mut rest = 0.0f64;
    let cases = cases(96, 52, true)?;
    for case in &cases {
        for share in [0.001, 0.2, 0.5, 0.8, 0.999] {
            let log = case.with_mass(share);
            rest = larger(rest, case.target.divergence(&log, Divergence::Reverse));
            rest = larger(
                rest,
                largest(case.target.gradient(&log, Divergence::Reverse)),
            );
        }
    }
    let flow = |start: &[f64], target: &Target, p: f64| {
        let how = Motion {
            divergence: Divergence::Reverse,
            likelihood: 0.0,
            step: 0.5,
            steps: 4000,
        };
        motion(start, target, p, how).pop()
    };
    // Gradient flow from two starts that differ in the mass of the ranked responses alone.
    let toy = toy()?;
    let prompt = &toy.prompts()[0];
    let target = Target::ranked(prompt, &[2, 0], toy.beta())?;
    let p = target.mass(&prompt.optimum(toy.beta()).1);
    let (mut ends, mut error) = (Vec::new(), 0.0f64);
    for shift in [-2.0, 2.0] {
        let mut start = prompt.log_reference.clone();
        target.arms.iter().for_each(|&a| start[a] += shift);
        if let Some(end) = flow(&start, &target, p) {
            rest = larger(rest, end.divergence);
            error = larger(error, apart(&end.log_policy, &end_of_fit(&start, &target)));
            ends.push(end.gamma);
        }
    }
    // Given the start it does, through Adv/β: one reference, one list, three temperatures.
    let reference = Simplex::new("reference", vec![0.1, 0.1, 0.1, 0.7])?;
    let law = PairLaw::product(reference.clone(), reference.clone());
    let prompt = Prompt::new("prompt", 1.0, &[0.0, 1.0, 2.0, 0.5], &reference, &law)?;
    let mut gammas = Vec::new();
    for beta in [0.1, 1.0, 10.0] {
        let target = Target::ranked(&prompt, &[0, 1, 2], beta)?;
        let p = target.mass(&prompt.optimum(beta).1);
        let end = end_of_fit(&prompt.log_reference, &target);
        rest = larger(rest, target.divergence(&end, Divergence::Reverse));
        gammas.push(target.mass(&end) / p);
        // At the lowest temperature the flow takes some e^(1/β) steps.
        if let Some(found) = flow(&prompt.log_reference, &target, p).filter(|_| beta >= 1.0) {
            error = larger(error, apart(&found.log_policy, &end));
        }
    }
    let evidence = format!(
        "gradient flow ends where start and Adv/β put it, to {error:.1e}: on the toy bandit, two of three \
         arms ranked, at γ = {:.3} or {:.3} by where it starts; {} rankings with the ranked responses' \
         mass from .001 to .999: loss and gradient at most {rest:.1e}",
        ends[0],
        ends[1],
        cases.len(),
    );
    let differ = ends[1] > 1.5 * ends[0];
    let moved = (gammas[0] - gammas[1])
        .abs()
        .min((gammas[2] - gammas[1]).abs())
        > 0.1;
    let finding = Finding::holds_if(error < 1e-6 && moved, rest < 1e-12 && differ, evidence);
    Ok((finding.measure(
        "reference (.1, .1, .1, .7), first three ranked, β = .1: γ",
        gammas[0],
    ))
    .measure("β = 1: γ", gammas[1])
    .measure("β = 10: γ", gammas[2]))
}

pub(super) fn mitigates() -> Result<Finding> {
    let (mut better, mut worse, mut count) = (true, true, 0);
    let mut mass = f64::INFINITY;
    for case in cases(96, 53, true)? {
        let learned = fixed_point(&case.prompt, &case.ranking, case.beta, true)?;
        let learned = learned.log_policy.unwrap_or_default();
        mass = mass.min(case.target.mass(&learned));
        let optimum = case.with_mass(0.95);
        better &= kl(&learned, &optimum) < kl(&case.with_mass(0.05 * 0.95), &optimum);
        worse &= kl(&learned, &optimum) > kl(&case.with_mass(0.98 * 0.95), &optimum);
        count += 1;
    }
    let evidence = format!(
        "{count} partial rankings: with the term the ranked responses end with mass {mass:.15} or more; at \
         p = .95 that is nearer to π* than γ = .05 in all ({better}), further than γ = .98 in all ({worse})"
    );
    Ok(Finding::holds_if(
        better && (mass - 1.0).abs() < 1e-12,
        worse,
        evidence,
    ))
}

pub(super) fn simultaneous() -> Result<Finding> {
    let mut stream = Stream::new(54, Purpose::Start, 0);
    let (mut gradient, mut least, mut below, mut negative) = (0.0f64, f64::INFINITY, true, true);
    let mut fits = 0.0f64;
    let cases = cases(96, 54, false)?;
    for case in &cases {
        let point = fixed_point(&case.prompt, &case.ranking, case.beta, true)?;
        let log = point.log_policy.unwrap_or_default();
        gradient = larger(gradient, point.residual);
        least = least.min(case.target.divergence(&log, Divergence::Reverse));
        let loss =
            |log: &[f64]| case.target.divergence(log, Divergence::Reverse) - log[case.target.top()];
        let mut optimum = log.clone();
        (case.target.arms.iter().zip(&case.target.log)).for_each(|(&a, l)| optimum[a] = *l);
        below &= loss(&log) < loss(&optimum);
        let elsewhere = log_softmax(&logits(&mut stream, log.len(), 2.0));
        below &= loss(&log) < loss(&elsewhere);
        negative &= log[case.target.arms[0]] < case.target.log[0];
        let faint = with_likelihood(&case.target.log, Divergence::Reverse, 1e-9);
        let apart = faint
            .iter()
            .zip(&case.target.log)
            .map(|(a, b)| (a.exp() - b.exp()).abs());
        fits = apart.fold(fits, larger);
    }
    let toy = toy()?;
    let regret = |sft: bool| -> Result<f64> {
        let point = fixed_point(&toy.prompts()[0], &[2, 1, 0], toy.beta(), sft)?;
        let row = point.log_policy.unwrap_or_default();
        Ok(toy.regret(&Policy::from_log(vec![row])))
    };
    let evidence = format!(
        "{} full rankings: at the minimiser (gradient {gradient:.1e}, below P* and other policies: \
         {below}) the fit's divergence is {least:.1e} or more and c < 0 in all ({negative}); with \
         weight 1e-9 it is within {fits:.1e} of P*",
        cases.len()
    );
    let found = gradient < 1e-12 && below && negative && least > 1e-6;
    Ok(Finding::holds_if(fits < 1e-8, found, evidence)
        .measure("toy regret, fit alone", regret(false)?)
        .measure("toy regret, fit and likelihood", regret(true)?))
}
