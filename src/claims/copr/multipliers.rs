//! The Lagrangian: what its multipliers do.

use super::super::Finding;
use super::cases::{apart, cases, log_softmax, logits};
use crate::bandit::kl;
use crate::error::Result;
use crate::magnitude::{larger, largest};
use crate::random::{Purpose, Stream};
use crate::solve::copr::{
    Divergence, Multipliers, Target, blow_up_time, compromise, fixed_point, linear_advantage,
    sampling_distribution,
};
use crate::solve::minimise;

pub(super) fn update() -> Result<Finding> {
    let mut stream = Stream::new(61, Purpose::Start, 0);
    let (mut error, mut positive, count) = (0.0f64, true, 200);
    for _ in 0..count {
        let (start, rate) = (10f64.powf(2.0 * stream.uniform() - 1.0), 0.5);
        let violation = 2.0 * stream.uniform() - 1.0;
        let sigma = start.ln();
        // d/dσ [J_t + e^σ J_C], by differences.
        let lagrangian = |sigma: f64| 0.7 + sigma.exp() * violation;
        let h = 1e-5;
        let slope = (lagrangian(sigma + h) - lagrangian(sigma - h)) / (2.0 * h);
        let mut multipliers = Multipliers::new(1, start, rate, 1e6)?;
        multipliers.ascend(&[violation]);
        let moved = multipliers.values()[0].ln() - sigma;
        error = larger(error, (moved - rate * slope).abs() / (1.0 + start));
        for _ in 0..1000 {
            multipliers.ascend(&[-violation.abs()]);
        }
        positive &= multipliers.values()[0] > 0.0;
    }
    let evidence = format!(
        "{count} multipliers: a step is α times the Lagrangian's slope in ln λ within {error:.1e}; still \
         positive after 1000 steps of a met constraint: {positive}"
    );
    Ok(Finding::holds(error < 1e-8 && positive, evidence))
}

pub(super) fn temperature() -> Result<Finding> {
    let mut stream = Stream::new(62, Purpose::Start, 0);
    let (mut reverse, mut forward) = (0.0f64, 0.0f64);
    let cases = cases(40, 62, false)?;
    for case in &cases {
        let lambda = 5.0 * stream.uniform();
        let old = &case.target.log;
        let len = old.len();
        let mut order: Vec<usize> = (1..=len).collect();
        stream.shuffle(&mut order);
        let advantage: Vec<f64> = order.iter().map(|&j| linear_advantage(j, len)).collect();
        let new = sampling_distribution(old, &advantage, case.beta);
        let targets = [(lambda, old), (1.0, &new)].map(|(weight, log)| {
            let arms = (0..len).collect();
            (
                weight,
                Target {
                    arms,
                    log: log.clone(),
                },
            )
        });
        let minimiser = |which: Divergence| -> Result<Vec<f64>> {
            let f = |theta: &[f64]| {
                let log = log_softmax(theta);
                let (mut value, mut gradient) = (0.0, vec![0.0; len]);
                for (weight, target) in &targets {
                    value += weight * target.divergence(&log, which);
                    let each = target.gradient(&log, which);
                    (gradient.iter_mut().zip(each)).for_each(|(g, e)| *g += weight * e);
                }
                (value, gradient)
            };
            Ok(log_softmax(&minimise::smooth(f, old)?.point))
        };
        let tempered = sampling_distribution(old, &advantage, case.beta * (1.0 + lambda));
        reverse = larger(reverse, apart(&minimiser(Divergence::Reverse)?, &tempered));
        let mixed: Vec<f64> = (old.iter().zip(&new))
            .map(|(p, q)| ((lambda * p.exp() + q.exp()) / (1.0 + lambda)).ln())
            .collect();
        forward = larger(forward, apart(&minimiser(Divergence::Forward)?, &mixed));
    }
    let evidence = format!(
        "{} shared prompts, λ up to 5, minimised numerically: temperature β(1 + λ) within {reverse:.1e}; \
         the code's divergence, arithmetic mixture within {forward:.1e}",
        cases.len()
    );
    Ok(Finding::holds(reverse < 1e-6 && forward < 1e-6, evidence))
}

pub(super) fn finite_time() -> Result<Finding> {
    // A constraint that can be met with room: the multiplier settles where it is met exactly.
    let mut settled = 0.0f64;
    let mut largest_multiplier = 0.0f64;
    let cases = cases(24, 63, false)?;
    let mut stream = Stream::new(63, Purpose::Start, 1);
    for case in &cases {
        let old = &case.target.log;
        let new = log_softmax(
            &(old.iter())
                .zip(logits(&mut stream, old.len(), 1.5))
                .map(|(l, d)| l + d)
                .collect::<Vec<_>>(),
        );
        let threshold = 0.3 * kl(&new, old);
        let mut multipliers = Multipliers::new(1, 1.0, 0.5 / threshold, 1e6)?;
        let mut violation = f64::NAN;
        for _ in 0..4000 {
            let lambda = multipliers.values()[0];
            let at = compromise(&[(lambda, old), (1.0, &new)], Divergence::Reverse);
            violation = kl(&at, old) - threshold;
            multipliers.ascend(&[violation]);
        }
        settled = larger(settled, (violation / threshold).abs());
        largest_multiplier = larger(largest_multiplier, multipliers.values()[0]);
    }
    let (rate, start, violation) = (1e-3, 1.0, 0.5);
    let mut stuck = Multipliers::new(1, start, rate, 1e300)?;
    let mut capped = Multipliers::new(1, start, rate, 100.0)?;
    let mut passed = None;
    for step in 1..=3000 {
        stuck.ascend(&[violation]);
        capped.ascend(&[violation]);
        if passed.is_none() && stuck.values()[0] > 1e6 {
            passed = Some(step);
        }
    }
    let when = passed.map_or(f64::NAN, f64::from);
    let evidence = format!(
        "{} constraints with room settle at J_C = 0 within {settled:.1e} of d, λ below \
         {largest_multiplier:.1}; at a constant J_C = .5, α = 1e-3, λ passes 1e6 at step {when}",
        cases.len()
    );
    let predicted = blow_up_time(rate, start, violation).unwrap_or(f64::NAN);
    let blows_up = (when / predicted - 1.0).abs() < 0.01;
    let clipped = capped.values()[0] <= 100.0 * (1.0 + 1e-12);
    Ok(
        Finding::holds_if(settled < 1e-3 && clipped, blows_up, evidence)
            .measure("1/(α λ₀ J_C)", predicted)
            .measure("step at which λ > 1e6", when),
    )
}

pub(super) fn normaliser() -> Result<Finding> {
    let mut stream = Stream::new(64, Purpose::Start, 0);
    let (mut sum, mut moved) = (0.0f64, 0.0f64);
    let cases = cases(40, 64, false)?;
    for case in &cases {
        let lambdas: Vec<f64> = (0..2).map(|_| 5.0 * stream.uniform()).collect();
        let scale = 1.0 + lambdas.iter().sum::<f64>();
        let weights = [1.0, lambdas[0], lambdas[1]];
        sum = larger(
            sum,
            (weights.iter().map(|w| w / scale).sum::<f64>() - 1.0).abs(),
        );
        let logs: Vec<Vec<f64>> = (0..3)
            .map(|_| log_softmax(&logits(&mut stream, case.prompt.arms(), 1.5)))
            .collect();
        let at = |by: f64| {
            let parts: Vec<(f64, &[f64])> = (weights.iter().zip(&logs))
                .map(|(w, l)| (w / by, l.as_slice()))
                .collect();
            compromise(&parts, Divergence::Reverse)
        };
        // The minimiser of the loss is a zero of the gradient of L = loss/Λ, and of nothing else.
        let mut gradient = vec![0.0; case.prompt.arms()];
        for (weight, log) in weights.iter().zip(&logs) {
            let arms = (0..log.len()).collect();
            let target = Target {
                arms,
                log: log.clone(),
            };
            let each = target.gradient(&at(1.0), Divergence::Reverse);
            (gradient.iter_mut().zip(each)).for_each(|(g, e)| *g += weight / scale * e);
        }
        moved = moved
            .max(largest(&gradient))
            .max(apart(&at(1.0), &at(scale)));
    }
    let evidence = format!(
        "{} losses of three tasks: weights sum to one within {sum:.1e}, and the gradient of L vanishes at \
         the minimiser of the undivided loss within {moved:.1e}",
        cases.len()
    );
    Ok(Finding::holds(sum < 1e-14 && moved < 1e-12, evidence))
}

pub(super) fn threshold() -> Result<Finding> {
    let mut stream = Stream::new(65, Purpose::Start, 0);
    let (mut least, mut fitted, mut room) = (f64::INFINITY, 0.0f64, f64::INFINITY);
    let cases = cases(60, 65, false)?;
    for case in &cases {
        // An old task learned part of the way, and to the end.
        let end = fixed_point(&case.prompt, &case.ranking, case.beta, false)?;
        let end = end.log_policy.unwrap_or_default();
        let halfway: Vec<f64> = (end.iter().zip(&case.prompt.log_reference))
            .map(|(e, r)| 0.5 * (e + r))
            .collect();
        let d = |log: &[f64]| case.target.divergence(log, Divergence::Reverse);
        least = least.min(d(&log_softmax(&halfway)));
        fitted = larger(fitted, d(&end));
        // With d = 0 every other policy violates the constraint.
        let elsewhere = log_softmax(&logits(&mut stream, end.len(), 1.5));
        room = room.min(d(&elsewhere) - d(&end));
    }
    let evidence = format!(
        "{} old tasks: d ≥ {least:.1e} when fitted half-way; at most {fitted:.1e} when fitted exactly, and \
         every other policy tried then violates its constraint, by {room:.1e} or more",
        cases.len()
    );
    Ok(Finding::holds_if(
        least > 1e-6,
        fitted < 1e-12 && room > 0.0,
        evidence,
    ))
}
