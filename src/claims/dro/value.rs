//! The value: its best, its error, and one for all prompts.

use super::super::{Finding, random_problems, toy};
use super::row::{Row, apart, mean, one_law, points, shares, worse};
use crate::bandit::{Evidence, Policy, Problem, population};
use crate::error::Result;
use crate::loss::Objective;
use crate::solve::{dro, minimise};

pub(super) fn best_value() -> Result<Finding> {
    let problems = random_problems(200, 11)?;
    let (mut error, mut rise) = (0.0f64, f64::INFINITY);
    for (key, problem) in problems.iter().enumerate() {
        let tau = problem.beta();
        for ((prompt, share), (logits, _)) in shares(problem)?
            .iter()
            .zip(points(problem, key as u64, 3.0))
        {
            let row = Row::new(prompt, &logits);
            let value = row.value(tau);
            error = worse(error, value - dro::value_of(prompt, share, tau, &row.log));
            // The loss is a parabola in V: its minimum from three points.
            let [below, at, above] = [-1.0, 0.0, 1.0].map(|by| row.loss(tau, value + by));
            let vertex = 0.5 * (below - above) / (below + above - 2.0 * at);
            error = worse(error, vertex / (1.0 + at));
            rise = rise.min(below.min(above) - at);
        }
    }
    Ok(Finding::holds(
        error < 1e-12 && rise > 0.0,
        format!(
            "{} random problems, largest error {error:.1e}",
            problems.len()
        ),
    ))
}

/// `½ Var_law` of a number per arm, from pairs: a quarter of `E (f − f′)²`.
fn half_variance(law: &[f64], of: &[f64]) -> f64 {
    let from = |v: &f64| {
        let squares: Vec<f64> = of.iter().map(|w| (v - w).powi(2)).collect();
        mean(law, &squares)
    };
    0.25 * mean(law, &of.iter().map(from).collect::<Vec<_>>())
}

pub(super) fn eliminated() -> Result<Finding> {
    let problems = random_problems(200, 12)?;
    let (mut variance, mut copg, mut matching) = (0.0f64, 0.0f64, 0.0f64);
    for (key, problem) in problems.iter().enumerate() {
        let tau = problem.beta();
        let logits: Vec<Vec<f64>> = points(problem, key as u64, 2.0)
            .into_iter()
            .map(|(logits, _)| logits)
            .collect();
        let same = one_law(problem);
        let at = population::evaluate(
            &same,
            &Evidence::population(&same),
            Objective::COPG,
            &logits,
        )?;
        let square = population::evaluate(
            problem,
            &Evidence::population(problem),
            Objective::COPG_SQUARED,
            &logits,
        )?;
        let (mut want, mut want_square) = (0.0, 0.0);
        for (x, prompt) in problem.prompts().iter().enumerate() {
            let row = Row::new(prompt, &logits[x]);
            let f = row.regularised(tau);
            let value = row.value(tau);
            let least = row.loss(tau, value);
            variance = worse(
                variance,
                (least - half_variance(&row.law, &f)) / (1.0 + least),
            );
            // L_CoPG = Var(r)/τ − (2/τ) L, and so its gradient; the crate minimises −L_CoPG.
            want -= prompt.weight * 2.0 / tau * (half_variance(&row.law, &prompt.reward) - least);
            let slope: Vec<f64> = (row.slope(tau, value).iter())
                .map(|s| prompt.weight * 2.0 / tau * s)
                .collect();
            copg = worse(copg, apart(&at.gradient[x], &slope));
            let (first, second) = prompt.law.marginals();
            let gap = mean(&first, &f) - mean(&second, &f);
            let halves = half_variance(&first, &f) + half_variance(&second, &f);
            want_square += prompt.weight * (2.0 * halves + gap * gap);
        }
        copg = worse(copg, (at.value - want) / (1.0 + want.abs()));
        matching = worse(matching, (square.value - want_square) / (1.0 + want_square));
    }
    // Its minimiser, numerically.
    let mut error = 0.0f64;
    let singles: Vec<&Problem> = problems.iter().filter(|p| p.prompts().len() == 1).collect();
    for (key, problem) in singles.iter().enumerate() {
        let (prompt, tau) = (&problem.prompts()[0], problem.beta());
        let loss = |at: &[f64]| {
            let row = Row::new(prompt, at);
            let value = row.value(tau);
            (row.loss(tau, value), row.slope(tau, value))
        };
        let start = points(problem, key as u64, 2.0).remove(0).0;
        let found = Policy::softmax(&[minimise::smooth(loss, &start)?.point]).probabilities();
        error = worse(
            error,
            apart(&found[0], &problem.optimum().policy.probabilities()[0]),
        );
    }
    let identities = worse(variance, worse(copg, matching));
    Ok(Finding::holds(
        error < 1e-5 && identities < 1e-10,
        format!(
            "a numeric minimiser on {} random problems comes within {error:.1e}; on {} the half \
             variance is right to {variance:.1e}, CoPG's relation to {copg:.1e}, that of two laws to \
             {matching:.1e}",
            singles.len(),
            problems.len()
        ),
    ))
}

/// Problems of one prompt with so many arms, of moderate laws.
fn small(count: usize, key: u64) -> Result<Vec<Problem>> {
    let problems = random_problems(12 * count as u64, key)?;
    let moderate = |p: &Problem| {
        let (first, second) = p.prompts()[0].law.marginals();
        let rare = first.iter().zip(&second).any(|(p, q)| p + q <= 0.04);
        p.prompts().len() == 1 && !rare
    };
    Ok(problems.into_iter().filter(moderate).take(count).collect())
}

pub(super) fn one_minimum() -> Result<Finding> {
    let problems = small(16, 13)?;
    let single = |above: f64| -> Result<usize> {
        let mut alone = 0;
        for problem in &problems {
            let (prompt, share) = &shares(problem)?[0];
            let value = problem.optimum().value[0] + above;
            let found = dro::minima(0, prompt, share, problem.beta(), value, (8, 1))?;
            alone += usize::from(found.len() == 1);
        }
        Ok(alone)
    };
    let below = single(0.0)?
        .min(single(-0.3)?)
        .min(single(-1.0)?)
        .min(single(-4.0)?);
    let (near, one, far) = (single(0.3)?, single(1.0)?, single(4.0)?);
    // Two arms alike in everything, V above V*.
    let twins = Problem::from_json(
        r#"{"beta": 1.0, "prompts": [{"reward": [1.0, 1.0, 0.0], "reference": [0.3, 0.3, 0.4],
            "behavior": [[0.1, 0.1, 0.8]]}]}"#,
    )?;
    let (prompt, share) = &shares(&twins)?[0];
    let found = dro::minima(
        0,
        prompt,
        share,
        1.0,
        twins.optimum().value[0] + 1.2,
        (16, 1),
    )?;
    let tie = match found.as_slice() {
        [a, b, ..] => b.loss - a.loss,
        _ => f64::INFINITY,
    };
    let count = problems.len();
    Ok(Finding::holds_if(
        below == count,
        far < count && tie < 1e-12,
        format!(
            "{count} random problems from 9 starts each: one minimum on at least {below} at or below \
             V*, on {near} at V* + 0.3, on {one} at V* + 1, on {far} at V* + 4"
        ),
    )
    .measure("two equal arms at V* + 1.2: gap of the two lowest minima", tie))
}

/// Each of the minima of problems on both sides of V*, with its problem's numbers.
fn visit(
    problems: &[Problem],
    mut with: impl FnMut(&Problem, &Row<'_>, f64, dro::ValueError, f64),
) -> Result<usize> {
    let mut seen = 0;
    for problem in problems {
        let tau = problem.beta();
        let (prompt, share) = &shares(problem)?[0];
        for aside in [-3.0, -1.0, -0.2, 0.2, 1.0, 2.0] {
            let value = problem.optimum().value[0] + tau * aside;
            for minimum in dro::minima(0, prompt, share, tau, value, (3, 5))? {
                let error = dro::value_error(prompt, share, tau, value, &minimum.log_policy);
                let residual = dro::equation_5(prompt, share, tau, value, &minimum.log_policy);
                with(
                    problem,
                    &Row::new(prompt, &minimum.log_policy),
                    value,
                    error,
                    residual,
                );
                seen += 1;
            }
        }
    }
    Ok(seen)
}

pub(super) fn equation_5() -> Result<Finding> {
    let problems = small(24, 14)?;
    let (mut residual, mut factor) = (0.0f64, 0.0f64);
    let seen = visit(&problems, |problem, row, value, _, left| {
        residual = worse(residual, left);
        let tau = problem.beta();
        let delta = row.value(tau) - value;
        for a in 0..row.pi.len() {
            let right = row.prompt.reward[a] - row.pi[a] / row.law[a] * delta - value;
            factor = worse(factor, row.u[a] - right / tau);
        }
    })?;
    // The policies visited are minima: a numeric minimiser finds none lower below V*.
    let mut lower = 0.0f64;
    for problem in &problems {
        let (tau, value) = (problem.beta(), problem.optimum().value[0] - problem.beta());
        let (prompt, share) = &shares(problem)?[0];
        let loss = |at: &[f64]| {
            let row = Row::new(prompt, at);
            (row.loss(tau, value), row.slope(tau, value))
        };
        let found = minimise::smooth(loss, &prompt.log_reference)?;
        let ours = dro::minima(0, prompt, share, tau, value, (1, 1))?;
        let ours = ours.first().map_or(f64::NAN, |m| m.loss);
        lower = worse(lower, (ours - found.value) / (1.0 + ours));
    }
    Ok(Finding::holds(
        worse(residual, factor) < 1e-7 && lower < 1e-9,
        format!(
            "{seen} minima of {} random problems, V from V* − 3τ to V* + 2τ: error {residual:.1e}, \
             with the factor e^(−V/τ) {factor:.1e}",
            problems.len()
        ),
    ))
}

pub(super) fn equation_6() -> Result<Finding> {
    let problems = small(32, 15)?;
    let (mut most, mut total, mut sharper, mut over) = (0.0f64, 0.0, 0.0f64, 0);
    let seen = visit(&problems, |_, _, _, error, _| {
        most = worse(most, error.error / error.bound);
        sharper = worse(sharper, error.error / error.sharper);
        total += error.error / error.bound;
        over += usize::from(error.error > error.bound * (1.0 + 1e-9) + 1e-12);
    })?;
    Ok(Finding::holds(
        over == 0 && sharper < 1.0 + 1e-6,
        format!(
            "{seen} minima of {} random problems, {over} above the bound",
            problems.len()
        ),
    )
    .measure("largest ratio to the bound", most)
    .measure("mean ratio to the bound", total / seen as f64)
    .measure("largest ratio to the sharper bound", sharper))
}

pub(super) fn best_constant() -> Result<Finding> {
    let problems = random_problems(200, 16)?;
    let mut error = 0.0f64;
    for (key, problem) in problems.iter().enumerate() {
        let tau = problem.beta();
        let rows: Vec<(f64, Row)> = (problem
            .prompts()
            .iter()
            .zip(points(problem, key as u64, 3.0)))
        .map(|(p, (logits, _))| (p.weight, Row::new(p, &logits)))
        .collect();
        let best: f64 = rows
            .iter()
            .map(|(weight, row)| weight * row.value(tau))
            .sum();
        let loss = |c: f64| {
            rows.iter()
                .map(|(weight, row)| weight * row.loss(tau, c))
                .sum::<f64>()
        };
        let [below, at, above] = [-1.0, 0.0, 1.0].map(|by| loss(best + by));
        let vertex = 0.5 * (below - above) / (below + above - 2.0 * at);
        error = worse(error, vertex / (1.0 + at));
    }
    Ok(Finding::holds(
        error < 1e-12,
        format!(
            "{} random problems, largest error {error:.1e}",
            problems.len()
        ),
    ))
}

pub(super) fn constant_optimum() -> Result<Finding> {
    let problems: Vec<Problem> = (random_problems(60, 17)?.into_iter())
        .filter(|p| p.prompts().len() > 1)
        .take(8)
        .collect();
    let (mut level, mut bias, mut residual) = (0.0f64, f64::INFINITY, 0.0f64);
    for problem in &problems {
        let best = problem.optimum();
        // The same problem with V* moved to 1 for every prompt, but for one part in 10⁹, so that the
        // limit is found by the flow and not by its formula.
        let moved = problem.map_prompts(|x, prompt| {
            let by = 1.0 - best.value[x] + 1e-9 * x as f64;
            prompt.reward.iter_mut().for_each(|r| *r += by);
        });
        let found = dro::constant(&moved, &Evidence::population(&moved))?;
        level = worse(level, found.regret.unwrap_or(f64::NAN));
        let found = dro::constant(problem, &Evidence::population(problem))?;
        bias = bias.min(found.regret.unwrap_or(f64::NAN));
        residual = worse(residual, found.residual.unwrap_or(f64::NAN));
    }
    let uneven = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [
            {"weight": 0.5, "reward": [2.5, 2.0, 1.0], "behavior": [[0.1, 0.2, 0.7]]},
            {"weight": 0.5, "reward": [0.5, 0.0, -1.0], "behavior": [[0.1, 0.2, 0.7]]}]}"#,
    )?;
    let found = dro::constant(&uneven, &Evidence::population(&uneven))?;
    let policy = found
        .policy
        .as_ref()
        .map_or_else(Vec::new, Policy::probabilities);
    let off = apart(
        &policy.concat(),
        &uneven.optimum().policy.probabilities().concat(),
    );
    let twin = toy()?;
    let alone = dro::constant(&twin, &Evidence::population(&twin))?;
    Ok(Finding::holds(
        level < 1e-12 && bias > 0.0 && residual < 1e-9,
        format!(
            "{} random problems with V* made level: regret at most {level:.1e}; as they are: at least \
             {bias:.1e}",
            problems.len()
        ),
    )
    .measure("V* = 2.13 and 0.13 on two prompts: largest |π − π*|", off)
    .measure("the same: regret", found.regret.unwrap_or(f64::NAN))
    .measure("toy, one prompt: regret", alone.regret.unwrap_or(f64::NAN)))
}
