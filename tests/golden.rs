//! Reference numbers to 18 digits, computed independently of this crate in 50-digit arithmetic.

use pistar::bandit::population::evaluate;
use pistar::bandit::{Evidence, Policy, Problem};
use pistar::loss::{Batch, InputKind, Objective};
use pistar::solve::bpo::{self, Inner};
use pistar::solve::fixed_point;

use super::common::distance;
use super::common::golden::{instances, number, row, table};

const LIMIT: f64 = 1e-9;
const GRADIENT: f64 = 1e-10;

#[test]
fn optimum() {
    for (name, instance, problem) in instances() {
        let want = &instance["optimum"];
        let got = problem.optimum();
        assert!(
            distance(&got.policy.probabilities(), &table(&want["pi_star"])) < 1e-14,
            "{name}"
        );
        assert!(
            (got.objective - number(&want["J_star"])).abs() < 1e-14,
            "{name}"
        );
        assert!(
            distance(&[got.value], &[row(&want["V_star"])]) < 1e-14,
            "{name}"
        );
        let reference = problem.reference();
        assert!(
            (problem.objective(&reference) - number(&want["J_ref"])).abs() < 1e-14,
            "{name}"
        );
        assert!(
            (problem.regret(&reference) - number(&want["regret_ref"])).abs() < 1e-14,
            "{name}"
        );
        let test = &instance["at_test_point"]["test_policy"];
        let policy = Policy::softmax(&table(&instance["inputs"]["th"]));
        assert!(
            distance(&policy.probabilities(), &table(&test["pi"])) < 1e-14,
            "{name}"
        );
        assert!(
            (problem.objective(&policy) - number(&test["J"])).abs() < 1e-14,
            "{name}"
        );
        assert!(
            (problem.regret(&policy) - number(&test["regret"])).abs() < 1e-14,
            "{name}"
        );
    }
}

#[test]
fn losses_at_the_test_point() {
    use Objective as O;
    // Where the reference has the quantity to be maximised, ours is its negation.
    let names = [
        (O::COPG, "CoPG", -1.0),
        (O::COPG_COMPLETED, "CoPG", -1.0),
        (O::COPG_SQUARED, "CoPG_sq_Algorithm1", 1.0),
        (O::IPO, "IPO_azar_(d-1/(2b))^2", 1.0),
        (O::IPO_COPG, "IPO_copg_(1/2-b*d)^2", 1.0),
        (O::IPO_GPO, "IPO_gpo_(b*d-1)^2", 1.0),
        (O::DPO, "DPO", 1.0),
        (O::SLIC, "SLiC", 1.0),
        (O::REWARD_MODEL, "BT_RM", 1.0),
        (O::PG_ZERO, "PG_b0", -1.0),
        (O::PG_VALUE, "PG_bER", -1.0),
        (O::PG_SOFT_VALUE, "PG_bERbeta", -1.0),
        (O::DRO_V, "DRO_V", 1.0),
        (O::DRO_FIXED, "DRO_V", 1.0),
        (O::DRO_V_ELIMINATED, "DRO_V_eliminated", 1.0),
        (O::KTO, "KTO_z0exact", 1.0),
        (O::KTO_NO_KL, "KTO_z0zero", 1.0),
        (O::COPR, "COPR_fit_reverse_eq7", 1.0),
        (O::COPR_FORWARD, "COPR_fit_forward_code_sum", 1.0),
        (O::COPR_FORWARD_MEAN, "COPR_fit_forward_code_mean", 1.0),
        (O::SFT, "COPR_sft_top1", 1.0),
        (O::ADVANTAGE_MODEL, "AM_self", 1.0),
        (O::ADVANTAGE_MODEL_DISTINCT, "AM_noself", 1.0),
    ];
    for (name, instance, problem) in instances() {
        let population = Evidence::population(&problem);
        for (objective, key, sign) in names {
            let want = &instance["at_test_point"][key];
            let at = if objective == O::REWARD_MODEL {
                "r"
            } else if objective.spec().trains_scores() {
                "A"
            } else {
                "th"
            };
            let got = evaluate(
                &problem,
                &population,
                objective,
                &table(&instance["inputs"][at]),
            )
            .unwrap();
            let gradient = if want["grad"].is_null() {
                &want["field"]
            } else {
                &want["grad"]
            };
            let signed: Vec<Vec<f64>> = (table(gradient).iter())
                .map(|row| row.iter().map(|g| sign * g).collect())
                .collect();
            assert!(distance(&got.gradient, &signed) < GRADIENT, "{name} {key}");
            if !want["value"].is_null() {
                let value = sign * number(&want["value"]);
                assert!(
                    (got.value - value).abs() < LIMIT,
                    "{name} {key} {}",
                    got.value
                );
            }
        }
    }
}

/// The value's gradient, and the two forms of Algorithm 1, whose update is −∇L/τ.
#[test]
fn dro_at_the_test_point() {
    use Objective as O;
    for (name, instance, problem) in instances() {
        let population = Evidence::population(&problem);
        let logits = table(&instance["inputs"]["th"]);
        let want = &instance["at_test_point"]["DRO_V"];
        let of_value = row(&want["gradV"]);
        for (objective, key) in [
            (O::DRO_V, "grad"),
            (O::DRO_ALGORITHM_1, "grad_theta_Algorithm1_as_printed"),
            (O::DRO_ALGORITHM_1_CORRECTED, "grad_theta_over_tau_correct"),
        ] {
            let got = evaluate(&problem, &population, objective, &logits).unwrap();
            let gradient = table(&want[key]);
            assert!(
                distance(&got.gradient, &gradient) < GRADIENT,
                "{name} {key}"
            );
            let found = got.value_gradient.unwrap();
            assert!(
                distance(&[found], std::slice::from_ref(&of_value)) < GRADIENT,
                "{name} {key}"
            );
        }
        let fixed = evaluate(&problem, &population, O::DRO_FIXED, &logits).unwrap();
        assert!(fixed.value_gradient.unwrap().iter().all(|g| *g == 0.0));
        // Without a given value, V follows the policy.
        let free = problem.map_prompts(|_, prompt| prompt.value = None);
        let own = evaluate(&free, &population, O::DRO_V, &logits).unwrap();
        let want = &instance["at_test_point"]["test_policy"]["V_pi_mu"];
        assert!(
            distance(&[own.value_at.unwrap()], &[row(want)]) < GRADIENT,
            "{name}"
        );
        let kto = evaluate(&problem, &population, O::KTO, &logits).unwrap();
        let z0 = number(&instance["at_test_point"]["KTO_z0exact"]["z0"]);
        assert!((kto.value_at.unwrap()[0] - z0).abs() < GRADIENT, "{name}");
    }
}

/// The likelihood term is added to the fit, nothing else.
#[test]
fn copr_sft_is_the_sum_of_its_terms() {
    for (_, instance, problem) in instances() {
        let population = Evidence::population(&problem);
        let logits = table(&instance["inputs"]["th"]);
        let at = |o| evaluate(&problem, &population, o, &logits).unwrap().value;
        let sum = at(Objective::COPR) + at(Objective::SFT);
        assert!((at(Objective::COPR_SFT) - sum).abs() < 1e-14);
    }
}

#[test]
fn rloo_on_the_listed_samples() {
    for (name, instance, problem) in instances() {
        let policy = Policy::softmax(&table(&instance["inputs"]["th"]));
        for (key, k) in [
            ("RLOO_k4_on_samples", 4),
            ("RLOO_k2_on_first_two_samples", 2),
        ] {
            let want = table(&instance["at_test_point"][key]["grad"]);
            for (x, prompt) in problem.prompts().iter().enumerate() {
                let samples: Vec<usize> = (row(&instance["inputs"]["samples"][x]).iter())
                    .take(k)
                    .map(|&a| a as usize)
                    .collect();
                let pick =
                    |table: &[f64]| -> Vec<f64> { samples.iter().map(|&a| table[a]).collect() };
                let batch = Batch {
                    log_policy: [pick(&policy.log()[x]), Vec::new()],
                    log_reference: [pick(&prompt.log_reference), Vec::new()],
                    reward: [pick(&prompt.reward), Vec::new()],
                    sizes: vec![k],
                    weight: vec![1.0],
                    ..Batch::default()
                };
                let rloo = Objective::RLOO.bind(&problem.given()).unwrap();
                let g = &rloo.on_tape(&batch).unwrap().gradient[0];
                let mut gradient = vec![0.0; prompt.arms()];
                for (&a, g) in samples.iter().zip(g) {
                    gradient[a] += g;
                }
                let sum: f64 = gradient.iter().sum();
                for (g, l) in gradient.iter_mut().zip(&policy.log()[x]) {
                    // Ours is the negated mean over the k, theirs the sum.
                    *g = -(k as f64) * (*g - sum * l.exp());
                }
                assert!(
                    distance(&[gradient], &[want[x].clone()]) < GRADIENT,
                    "{name} {key} {x}"
                );
            }
        }
    }
}

#[test]
fn limits() {
    use Objective as O;
    let names = [
        (O::COPG, "CoPG"),
        (O::COPG_COMPLETED, "CoPG"),
        (O::COPG_SQUARED, "CoPG"),
        (O::RLOO, "CoPG"),
        (O::DPO, "DPO_BT"),
        (O::REWARD_MODEL, "BT_RM_then_RL"),
        (O::IPO, "IPO"),
        (O::IPO_COPG, "IPO"),
        (O::IPO_GPO, "IPO_gpo_scaling"),
        (O::SLIC, "SLiC"),
        (O::PG_ZERO, "PG_b0"),
        (O::PG_VALUE, "PG_bER"),
        (O::PG_SOFT_VALUE, "PG_bERbeta"),
        (O::DRO_V, "DRO_V_joint"),
        (O::DRO_V_ELIMINATED, "DRO_V_joint"),
        (O::DRO_ALGORITHM_1_CORRECTED, "DRO_V_joint"),
        (O::DRO_FIXED, "DRO_fixed_V"),
        (O::DRO_CONSTANT, "DRO_single_constant_V"),
        (O::DRO_ALGORITHM_1, "DRO_Algorithm1_as_printed"),
        (O::KTO, "KTO"),
        (O::COPR, "COPR_fit_flow_from_ref"),
        (O::COPR_FORWARD, "COPR_fit_flow_from_ref"),
        (O::COPR_FORWARD_MEAN, "COPR_fit_flow_from_ref"),
        (O::COPR_SFT, "COPR_fit_plus_sft"),
    ];
    for (name, instance, problem) in instances() {
        let population = Evidence::population(&problem);
        for (objective, key) in names {
            let want = &instance["limits"][key];
            if want.is_null() {
                // Listed for the toy, where every arm is ranked.
                assert!(objective == O::COPR_SFT && name != "copg_toy");
                continue;
            }
            let got = fixed_point(objective, &problem, &population).unwrap();
            let policy = got.policy.as_ref().unwrap().probabilities();
            assert!(
                distance(&policy, &table(&want["pi"])) < LIMIT,
                "{name} {key}"
            );
            assert!(
                (got.regret.unwrap() - number(&want["regret"])).abs() < LIMIT,
                "{name} {key}"
            );
            assert!(got.residual.unwrap() < 1e-12, "{name} {key} {got:?}");
            // What a partial list leaves out stays where it starts.
            let partial = |p: &pistar::bandit::Prompt| p.ranking.as_ref().unwrap().len() < p.arms();
            let listed = objective.spec().inputs == InputKind::Lists;
            let unique = !(listed && problem.prompts().iter().any(partial));
            assert_eq!(got.unique, unique, "{name} {key}: {:?}", got.notes);
            if let (Some(value), Some(got)) = (want.get("V"), got.value) {
                let want = row(value);
                let each = |x: usize| if want.len() == 1 { want[0] } else { want[x] };
                let apart = got.iter().enumerate().map(|(x, v)| (v - each(x)).abs());
                assert!(apart.fold(0.0, f64::max) < LIMIT, "{name} {key}");
            }
        }
        for (objective, key) in [
            (O::ADVANTAGE_MODEL, "AM_self"),
            (O::ADVANTAGE_MODEL_DISTINCT, "AM_noself"),
            (O::ADVANTAGE_MODEL_CENTRED, "AM_centred"),
        ] {
            let want = &instance["limits"][key];
            let got = fixed_point(objective, &problem, &population).unwrap();
            let scores = got.table.unwrap();
            assert!(
                distance(&scores, &table(&want["a"])) < LIMIT,
                "{name} {key}"
            );
            let regret = number(&want["regret_if_used_as_reward"]);
            assert!((got.regret.unwrap() - regret).abs() < LIMIT, "{name} {key}");
            assert!(got.residual.unwrap() < 1e-12 && got.unique, "{name} {key}");
        }
        for phases in 1..=5 {
            let want = &instance["limits"]["BPO_phases_exact"][phases.to_string()];
            for (inner, key) in [(Inner::Dpo, "DPO"), (Inner::Ipo, "IPO_onpolicy_pairs")] {
                let want = &want[key];
                let got = bpo::phases(&problem, inner, phases).unwrap().pop().unwrap();
                let policy = got.policy.unwrap().probabilities();
                assert!(
                    distance(&policy, &table(&want["pi"])) < LIMIT,
                    "{name} {key} {phases}"
                );
                let regret = number(&want["regret"]);
                assert!(
                    (got.regret.unwrap() - regret).abs() < LIMIT,
                    "{name} {key} {phases}"
                );
            }
        }
        // What the paper says IPO optimises is IPO under μ₂ × μ₂.
        let prompts = (problem.prompts().iter())
            .map(|prompt| {
                let second = prompt.law.marginals().1;
                let mut prompt = prompt.clone();
                prompt.law = pistar::bandit::PairLaw::Product {
                    first: second.clone(),
                    second,
                };
                prompt
            })
            .collect();
        let beta = pistar::bandit::Beta::new("beta", problem.beta()).unwrap();
        let claimed = Problem::new(beta, prompts).unwrap();
        let got = fixed_point(O::IPO, &claimed, &Evidence::population(&claimed)).unwrap();
        let want = &instance["limits"]["IPO_paper_claim_mu2"];
        assert!(
            distance(&got.policy.unwrap().probabilities(), &table(&want["pi"])) < LIMIT,
            "{name}"
        );
    }
}
