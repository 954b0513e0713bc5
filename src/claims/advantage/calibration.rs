//! Whether the scores are calibrated, rank as the rewards do and keep their scale.

use super::super::{Finding, random_problems, toy};
use super::{MARGIN, scores};
use crate::bandit::{PairLaw, Problem};
use crate::error::Result;
use crate::sim::multitask::{Labels, MultiTask, TASKS, calibration, moments};
use crate::solve::advantage::Form;
use crate::solve::calibration as calibrated;

/// Two arms under uniform laws, `gap` apart.
fn two_arms(gap: f64) -> Result<Problem> {
    Problem::from_json(&format!(
        r#"{{"beta": 1, "prompts": [{{"reward": [{gap}, 0], "behavior": [[0.5, 0.5]]}}]}}"#
    ))
}

pub(super) fn well_calibrated() -> Result<Finding> {
    let problem = toy()?;
    let at = |margin| -> Result<f64> {
        calibrated::error(&problem, &scores(&problem, margin, Form::SelfPairs)?)
    };
    let (narrow, middle, wide) = (at(2.5)?, at(5.0)?, at(10.0)?);
    let gap = |truth: f64| -> Result<f64> {
        let table = scores(&two_arms(truth)?, MARGIN, Form::Distinct)?;
        Ok(table[0][0] - table[0][1])
    };
    let (near, far) = (gap(2.5)?, gap(20.0)?);
    let shrinks = near < 2.5 && far <= 2.0 * MARGIN / 3.0 + 1e-9;
    Ok(Finding::holds_if(
        wide < 1e-3 && wide < middle && middle < narrow,
        narrow > 0.05 && shrinks,
        format!(
            "toy population, E|σ(δ) − p| {narrow:.4} at m = 2.5, {middle:.4} at 5, {wide:.0e} at 10; two arms at m = 2.5: a true gap of 2.5 becomes {near:.2}, one of 20 {far:.2}"
        ),
    )
    .measure("calibration error, m = 2.5", narrow)
    .measure("calibration error, m = 5", middle)
    .measure("calibration error, m = 10", wide))
}

pub(super) fn better_calibrated() -> Result<Finding> {
    let mean = |labels: usize| -> Result<[f64; 3]> {
        let study = Labels {
            labels,
            arms: 8,
            scale: 1.5,
            margin: MARGIN,
            seeds: 100,
        };
        let rows = calibration(&study)?;
        let of = |model: &str| {
            let own = rows.iter().filter(|row| row.model == model);
            own.map(|row| row.error).sum::<f64>() / study.seeds as f64
        };
        Ok([of("advantage"), of("reward"), of("reward, prior")])
    };
    let (few, some, many) = (mean(30)?, mean(100)?, mean(10_000)?);
    Ok(Finding::holds_if(
        few[0] < few[1],
        some[0] > some[1] && many[0] > 3.0 * many[1],
        format!(
            "100 bandits of 8 arms, advantage/reward model: {:.3}/{:.3} at 30 labels, {:.3}/{:.3} at 100, {:.3}/{:.3} at 10,000; with a normal prior the reward model has {:.3} at 30",
            few[0], few[1], some[0], some[1], many[0], many[1], few[2]
        ),
    )
    .measure("advantage model, 30 labels", few[0])
    .measure("reward model, 30 labels", few[1])
    .measure("reward model with a prior, 30 labels", few[2])
    .measure("advantage model, 10,000 labels", many[0])
    .measure("reward model, 10,000 labels", many[1]))
}

pub(super) fn ranking_preserved() -> Result<Finding> {
    let problems = random_problems(1200, 510)?;
    let (mut uniform, mut pairs, mut wrong, mut prompts, mut tops) = (0, 0, 0, 0, 0);
    for problem in &problems {
        let even = problem.map_prompts(|_, prompt| {
            let law = vec![1.0 / prompt.arms() as f64; prompt.arms()];
            prompt.law = PairLaw::Product {
                first: law.clone(),
                second: law,
            };
        });
        let table = scores(&even, MARGIN, Form::SelfPairs)?;
        uniform += usize::from(calibrated::inversion(&even, &table).is_some());
        let table = scores(problem, MARGIN, Form::SelfPairs)?;
        for (prompt, row) in problem.prompts().iter().zip(&table) {
            let (r, arms) = (&prompt.reward, prompt.arms());
            let ordered = (0..arms).flat_map(|i| (0..arms).map(move |j| (i, j)));
            for (i, j) in ordered.filter(|&(i, j)| r[i] > r[j]) {
                pairs += 1;
                wrong += usize::from(row[j] > row[i]);
            }
            let best = |v: &[f64]| (0..arms).max_by(|&i, &j| v[i].total_cmp(&v[j]));
            prompts += 1;
            tops += usize::from(best(r) != best(row));
        }
    }
    let share = |part: usize, of: usize| 100.0 * part as f64 / of as f64;
    let (wrong, tops) = (share(wrong, pairs), share(tops, prompts));
    Ok(Finding::holds_if(
        uniform == 0,
        wrong > 0.0,
        format!(
            "{} random problems at m = 2.5: none inverted under uniform laws; under random laws {wrong:.2} % of pairs and {tops:.2} % of best arms",
            problems.len()
        ),
    )
    .measure("inverted pairs, %", wrong)
    .measure("wrong best arm, %", tops))
}

pub(super) fn stable_scales() -> Result<Finding> {
    let worlds = 10;
    let (mut held, mut example) = (0, [0.0; 4]);
    for seed in 0..worlds {
        let tasks = MultiTask::draw(&TASKS, 8, 0.1, 0.1, seed)?;
        let rows = moments(&tasks, None, MARGIN, seed)?;
        let range = |model: &str, of: fn(&calibrated::Moments) -> f64| -> f64 {
            let all = rows.iter().filter(|row| row.model == model);
            let values: Vec<f64> = all.map(|row| of(&row.moments)).collect();
            let fold =
                |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap_or(f64::NAN);
            fold(f64::max) - fold(f64::min)
        };
        let mean: fn(&calibrated::Moments) -> f64 = |m| m.mean;
        let spread: fn(&calibrated::Moments) -> f64 = |m| m.spread;
        let seen = [
            range("advantage", mean),
            range("true reward", mean),
            range("advantage", spread),
            range("true reward", spread),
        ];
        held += u64::from(seen[0] < seen[1] && seen[2] < seen[3]);
        (example.iter_mut().zip(seen)).for_each(|(e, s)| *e += s / worlds as f64);
    }
    Ok(Finding::holds(
        held == worlds,
        format!(
            "{worlds} worlds of four tasks: means {:.2} apart against {:.2} for the rewards, standard deviations {:.2} against {:.2}",
            example[0], example[1], example[2], example[3]
        ),
    ))
}
