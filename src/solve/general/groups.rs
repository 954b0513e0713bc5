//! Group losses on populations: the exact expectation over groups of k independent responses.

use super::engine::{Run, random, reverse};
use super::population::furnished;
use super::subject::{Candidate, parameters};
use crate::bandit::population::Feed;

use crate::bandit::{Evidence, Problem, Prompt, PromptEvidence, Shape, random_problem};
use crate::error::{Error, Result};
use crate::loss::{Batch, Given, InputKind};
use crate::random::{Purpose, Stream};

/// The sizes of groups that are tried.
pub(crate) const SIZES: [usize; 3] = [2, 4, 8];

/// Most different groups of a prompt that are enumerated.
const CAP: usize = 2_000;

/// How far directions of the expected update at two sizes may differ and count as the same.
const SAME_DIRECTION: f64 = 1e-9;

/// The number of multisets of `k` out of `arms`, `C(arms + k − 1, k)`.
pub(crate) fn multisets(arms: usize, k: usize) -> f64 {
    (1..=k)
        .map(|i| (arms + i - 1) as f64 / i as f64)
        .product::<f64>()
        .round()
}

/// Why groups of `k` cannot be enumerated, if they cannot.
pub(crate) fn too_many(problem: &Problem, k: usize) -> Option<String> {
    let arms = problem.prompts().iter().map(Prompt::arms).max()?;
    let count = multisets(arms, k);
    (count > CAP as f64).then(|| {
        format!("{arms} arms have {count} groups of {k}, and {CAP} are enumerated at most")
    })
}

/// Feeds every group of `k` responses that are independent draws of the prompt's mean law, with its
/// probability: the multisets of arms with multinomial weights, each as one group in the order of
/// the arms.
pub(crate) fn examples(
    prompt: &Prompt,
    share: &PromptEvidence,
    log_policy: &[f64],
    k: usize,
    mut visit: impl FnMut(&Batch, &[usize]) -> Result<()>,
) -> Result<()> {
    let law = share.mean_law();
    let shown: Vec<usize> = (0..law.len()).filter(|&a| law[a] > 0.0).collect();
    if shown.is_empty() || multisets(shown.len(), k) > CAP as f64 {
        return Err(Error::invalid(
            "groups",
            format!("{} arms have more than {CAP} groups of {k}", shown.len()),
            "report on a problem of fewer arms",
        ));
    }
    let (mut batch, mut arms) = (Batch::default(), Vec::new());
    let mut group = vec![0; k];
    loop {
        let mut weight = share.mass;
        let mut repeats = 0;
        for (i, &s) in group.iter().enumerate() {
            repeats = if i > 0 && group[i - 1] == s {
                repeats + 1
            } else {
                1
            };
            // k!/Πnₐ! · Πμₐ^nₐ, factor by factor.
            weight *= (i + 1) as f64 / f64::from(repeats) * law[shown[s]];
            let a = shown[s];
            batch.log_policy[0].push(log_policy[a]);
            batch.log_reference[0].push(prompt.log_reference[a]);
            batch.log_old[0].push(law[a].ln());
            batch.reward[0].push(share.reward[a]);
            arms.push(a);
        }
        batch.sizes.push(k);
        batch.weight.push(weight);
        // The next non-decreasing sequence.
        let Some(i) = (0..k).rev().find(|&i| group[i] + 1 < shown.len()) else {
            break;
        };
        let next = group[i] + 1;
        group[i..].fill(next);
    }
    visit(&batch, &arms)
}

/// The expected gradient with respect to a table, one prompt after the other.
fn gradient(
    loss: &Candidate,
    problem: &Problem,
    feed: &Feed,
    table: &[Vec<f64>],
    k: usize,
) -> Result<Vec<f64>> {
    let evidence = Evidence::population(problem);
    let view = evidence.of(InputKind::Singles)?;
    let bound = loss.at(&problem.given())?;
    let mut all = Vec::new();
    for ((prompt, share), row) in problem.prompts().iter().zip(&view.prompts).zip(table) {
        let trained = feed.trained(prompt, row);
        let mut sum = vec![0.0; prompt.arms()];
        examples(prompt, share, &trained, k, |batch, arms| {
            let run = reverse(&bound, batch)?;
            for (&a, g) in arms.iter().zip(&run.gradient[0]) {
                sum[a] += g;
            }
            Ok(())
        })?;
        feed.through(prompt, &trained, &mut sum);
        all.extend(sum);
    }
    Ok(all)
}

/// Whether groups of 2, 4 and 8 have the same expected update but for a constant factor, at random
/// policies on random bandits, so that one size stands for all.
pub(crate) fn sizes_agree(loss: &Candidate) -> Result<bool> {
    if !loss.inputs().is_groups() {
        return Ok(true);
    }
    let feed = Feed::of(&loss.at(&Given::new())?)?;
    let mut factors: [Option<f64>; 2] = [None; 2];
    for key in 0..3 {
        let shape = Shape {
            prompts: 1,
            arms: 3,
            beta: [0.5, 0.2, 1.5][key as usize],
            reward_scale: 1.0,
        };
        let problem = furnished(&random_problem(shape, 80 + key)?, loss.spec().value)?;
        let mut stream = Stream::new(key, Purpose::Start, 52);
        let table: Vec<Vec<f64>> = (problem.prompts().iter())
            .map(|p| {
                (0..p.arms())
                    .map(|_| 3.0 * stream.uniform() - 1.5)
                    .collect()
            })
            .collect();
        let [two, more @ ..] = SIZES;
        let first = gradient(loss, &problem, &feed, &table, two)?;
        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        for (k, known) in more.into_iter().zip(&mut factors) {
            let other = gradient(loss, &problem, &feed, &table, k)?;
            let factor = norm(&other) / norm(&first);
            let gap: Vec<f64> = other
                .iter()
                .zip(&first)
                .map(|(o, f)| o - factor * f)
                .collect();
            let constant =
                known.is_none_or(|before| (before - factor).abs() <= SAME_DIRECTION * factor);
            // NaN counts as a difference.
            if !(constant && norm(&gap) <= SAME_DIRECTION * norm(&other)) {
                return Ok(false);
            }
            *known = Some(factor);
        }
    }
    Ok(true)
}

/// How far the loss of a group changes when its responses change places, gradients included.
pub(crate) fn order_matters(loss: &Candidate) -> Result<f64> {
    let batch = random(loss.inputs(), 12, 34);
    let mut order = Vec::new();
    let mut start = 0;
    for &size in &batch.sizes {
        order.extend((start..start + size).rev());
        start += size;
    }
    let turn = |v: &[f64]| -> Vec<f64> { order.iter().map(|&i| v[i]).collect() };
    let mut turned = batch.clone();
    turned.log_policy[0] = turn(&batch.log_policy[0]);
    turned.log_reference[0] = turn(&batch.log_reference[0]);
    turned.reward[0] = turn(&batch.reward[0]);
    let run = reverse(&loss.at(&parameters(0))?, &batch)?;
    let mut other: Run = reverse(&loss.at(&parameters(0))?, &turned)?;
    other.gradient[0] = turn(&other.gradient[0]);
    Ok(super::engine::apart(run.numbers(), other.numbers()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toy() -> Problem {
        Problem::from_json(
            r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2.0, 1.0], "reference": [0.2, 0.3, 0.5],
                "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn multisets_have_multinomial_weights() {
        let problem = toy();
        let evidence = Evidence::population(&problem);
        let (prompt, share) = (
            &problem.prompts()[0],
            &evidence.of(InputKind::Singles).unwrap().prompts[0],
        );
        let law = share.mean_law();
        for k in [1, 2, 3, 8] {
            let log = prompt.log_reference.clone();
            examples(prompt, share, &log, k, |batch, arms| {
                assert_eq!(batch.len() as f64, multisets(3, k));
                assert!((batch.weight.iter().sum::<f64>() - 1.0).abs() < 1e-14);
                // Each arm's expected share of a group is its probability.
                let mut mean = [0.0; 3];
                for (group, w) in arms.chunks(k).zip(&batch.weight) {
                    group.iter().for_each(|&a| mean[a] += w / k as f64);
                }
                for (m, p) in mean.iter().zip(&law) {
                    assert!((m - p).abs() < 1e-14);
                }
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(multisets(3, 8), 45.0);
    }
}
