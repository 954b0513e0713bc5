//! Single examples: RLOO (reinforce leave-one-out) is CoPG on all pairs (Property 2), on a sample
//! and in expectation, and IPO is CoPG with rewards ±¼ (Property 3).

use pistar::bandit::population::evaluate;
use pistar::bandit::{Evidence, PairLaw, Policy, Prompt};
use pistar::loss::{Batch, Objective};
use proptest::prelude::*;

use super::common::distance;
use super::common::strategies::{self as any_, fit, settings, table};

const REGRESSIONS: &str = "tests/regressions/rloo.txt";

/// Numbers of k sampled responses: ln π, ln π_ref, R.
fn responses() -> impl Strategy<Value = Vec<(f64, f64, f64)>> {
    proptest::collection::vec((-6.0..0.0f64, -6.0..0.0f64, -3.0..3.0f64), 2..=5)
}

fn columns(samples: &[(f64, f64, f64)]) -> [Vec<f64>; 3] {
    let column = |f: fn(&(f64, f64, f64)) -> f64| samples.iter().map(f).collect();
    [column(|s| s.0), column(|s| s.1), column(|s| s.2)]
}

/// Gradient of one pair's loss with respect to (ln π(y), ln π(y′)).
fn pair_gradient(objective: Objective, pair: [(f64, f64, f64); 2], beta: f64) -> [f64; 2] {
    let columns = |of: fn(&(f64, f64, f64)) -> f64| [vec![of(&pair[0])], vec![of(&pair[1])]];
    let batch = Batch {
        log_policy: columns(|s| s.0),
        log_reference: columns(|s| s.1),
        reward: columns(|s| s.2),
        weight: vec![1.0],
        ..Batch::default()
    };
    let g = objective
        .bind(&beta.into())
        .unwrap()
        .on_tape(&batch)
        .unwrap()
        .gradient;
    [g[0][0], g[1][0]]
}

/// Gradient of RLOO over groups of k with respect to every ln π, weighted by group.
fn rloo_gradient(samples: &[(f64, f64, f64)], k: usize, weights: &[f64], beta: f64) -> Vec<f64> {
    let [p, l, r] = columns(samples);
    let batch = Batch {
        log_policy: [p, Vec::new()],
        log_reference: [l, Vec::new()],
        reward: [r, Vec::new()],
        sizes: vec![k; weights.len()],
        weight: weights.to_vec(),
        ..Batch::default()
    };
    let rloo = Objective::RLOO.bind(&beta.into()).unwrap();
    rloo.on_tape(&batch).unwrap().gradient.remove(0)
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 64))]

    /// Property 2: RLOO_k is the mean of the CoPG gradients of its pairs, halved.
    #[test]
    fn rloo_is_the_mean_of_its_pairs(samples in responses(), beta in any_::beta()) {
        let k = samples.len();
        let got = rloo_gradient(&samples, k, &[1.0], beta);
        let mut want = vec![0.0; k];
        for j in 0..k {
            for l in 0..j {
                let g = pair_gradient(Objective::COPG, [samples[j], samples[l]], beta);
                want[j] += g[0] / (k * (k - 1)) as f64;
                want[l] += g[1] / (k * (k - 1)) as f64;
            }
        }
        prop_assert!(distance(&[got], &[want]) < 1e-12);
    }

    /// Property 2 off-policy: over i.i.d. triples from μ̄, RLOO is half the gradient of
    /// L_CoPG(μ̄, μ̄), and the population form (over pairs) is the same.
    #[test]
    fn rloo_in_expectation(problem in any_::mild(), at in table(2.0)) {
        let logits = fit(&problem, &at);
        let mean = |prompt: &Prompt| -> Vec<f64> {
            let (p, q) = prompt.law.marginals();
            p.iter().zip(&q).map(|(p, q)| (p + q) / 2.0).collect()
        };
        let (prompt, log_policy) = (&problem.prompts()[0], Policy::softmax(&logits).log()[0].clone());
        let (law, k) = (mean(prompt), prompt.arms());
        let (mut samples, mut arms, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for code in 0..k * k * k {
            let triple = [code % k, code / k % k, code / k / k];
            weights.push(triple.iter().map(|&a| law[a]).product());
            for a in triple {
                arms.push(a);
                samples.push((log_policy[a], prompt.log_reference[a], prompt.reward[a]));
            }
        }
        let mut gradient = vec![0.0; k];
        for (g, &a) in rloo_gradient(&samples, 3, &weights, problem.beta()).iter().zip(&arms) {
            gradient[a] += g;
        }
        let sum: f64 = gradient.iter().sum();
        gradient.iter_mut().zip(&log_policy).for_each(|(g, l)| *g -= sum * l.exp());

        let own = any_::with_laws(&problem, |_, p| PairLaw::Product { first: mean(p), second: mean(p) });
        let population = Evidence::population(&own);
        let copg = evaluate(&own, &population, Objective::COPG, &logits).unwrap();
        let rloo = evaluate(&problem, &Evidence::population(&problem), Objective::RLOO, &logits).unwrap();
        let half: Vec<f64> = copg.gradient[0].iter().map(|g| 0.5 * g).collect();
        prop_assert!(distance(&[gradient], std::slice::from_ref(&half)) < 1e-12);
        prop_assert!(distance(&rloo.gradient, &[half]) < 1e-12);
    }

    /// Property 3: rewards ¼ for the preferred and −¼ for the other make CoPG IPO, times 1/2β.
    #[test]
    fn ipo_is_copg_with_quarter_rewards(samples in responses(), beta in any_::beta()) {
        let (mut y, mut z) = (samples[0], samples[1]);
        (y.2, z.2) = (0.25, -0.25);
        let copg = pair_gradient(Objective::COPG, [y, z], beta);
        let ipo = pair_gradient(Objective::IPO_COPG, [y, z], beta).map(|g| g / (2.0 * beta));
        // (Both are about βd, up to 60.)
        prop_assert!(distance(&[copg.to_vec()], &[ipo.to_vec()]) < 1e-12);
    }
}
