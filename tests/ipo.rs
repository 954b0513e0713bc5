//! IPO (identity preference optimisation): weighted least squares on the comparison graph, its
//! three scalings, and what CoPG's section 5 says it maximises.

use pistar::backend::nd::sigmoid;
use pistar::bandit::population::evaluate;
use pistar::bandit::{Beta, Evidence, PairLaw, Policy, Problem};
use pistar::loss::Objective;
use pistar::solve::fixed_point;
use proptest::prelude::*;

use super::common::numeric::minimiser;
use super::common::strategies::{self as any_, connected, fit, settings, table, weight};
use super::common::{apart, distance, gradient_size, toy};

const REGRESSIONS: &str = "tests/regressions/ipo.txt";
const SCALINGS: [Objective; 3] = [Objective::IPO, Objective::IPO_COPG, Objective::IPO_GPO];

/// u = v/β reaches some hundreds, and log-probabilities carry its rounding.
const EXACT: f64 = 1e-11;

fn solve(objective: Objective, problem: &Problem) -> Policy {
    let found = fixed_point(objective, problem, &Evidence::population(problem)).unwrap();
    found.policy.unwrap()
}

fn halved(problem: &Problem) -> Problem {
    problem.at(Beta::new("beta", problem.beta() / 2.0).unwrap())
}

/// `π ∝ π_ref e^{P/β}` with `P(y) = E_{y′~μ₂} σ(R(y) − R(y′))`: the paper's reading of IPO.
fn papers_formula(problem: &Problem) -> Policy {
    let logits: Vec<Vec<f64>> = (problem.prompts().iter())
        .map(|prompt| {
            let second = prompt.law.marginals().1;
            (prompt.reward.iter().zip(&prompt.log_reference))
                .map(|(r, l)| {
                    let wins = second
                        .iter()
                        .zip(&prompt.reward)
                        .map(|(q, other)| q * sigmoid(r - other));
                    l + wins.sum::<f64>() / problem.beta()
                })
                .collect()
        })
        .collect();
    Policy::softmax(&logits)
}

/// With three arms and two laws the paper's formula is another policy (golden: .42417 and .42318).
#[test]
fn the_papers_formula_is_not_the_limit_in_general() {
    let off = apart(&solve(Objective::IPO, &toy()), &papers_formula(&toy()));
    assert!(off > 9e-4, "{off}");
}

proptest! {
    #![proptest_config(settings(REGRESSIONS, 64))]

    /// The expected update vanishes at the answer, which is unique iff the graph is connected.
    #[test]
    fn the_gradient_vanishes_at_the_fixed_point(problem in any_::any_kind()) {
        let population = Evidence::population(&problem);
        for objective in SCALINGS {
            let found = fixed_point(objective, &problem, &population).unwrap();
            let size = gradient_size(&problem, &population, objective, found.policy.unwrap().log());
            prop_assert!(size < 10.0 * EXACT, "{}: {size}", objective.name());
            prop_assert!(found.residual.unwrap() < 10.0 * EXACT);
            prop_assert_eq!(found.unique, connected(&problem));
        }
    }

    /// The population loss is above its minimum by Σ w_ab (Δu − Δu_limit)², exactly.
    #[test]
    fn the_loss_is_larger_elsewhere(problem in any_::any_kind(), at in table(4.0)) {
        let population = Evidence::population(&problem);
        let logits = fit(&problem, &at);
        let value = |t: &[Vec<f64>]| evaluate(&problem, &population, Objective::IPO, t).unwrap().value;
        let best = solve(Objective::IPO, &problem);
        let mut expected = 0.0;
        for ((prompt, l), best) in problem.prompts().iter().zip(&logits).zip(best.log()) {
            for a in 0..prompt.arms() {
                for b in 0..a {
                    let gap = (l[a] - l[b]) - (best[a] - best[b]);
                    expected += prompt.weight * weight(prompt, a, b) * gap * gap;
                }
            }
        }
        let excess = value(&logits) - value(best.log());
        let scale = 1.0 + expected + value(best.log());
        prop_assert!((excess - expected).abs() < 1e-12 * scale, "{excess} {expected}");
    }

    /// A minimiser that knows nothing of the algebra ends there. (Half the digits: see copg.)
    #[test]
    fn a_numeric_minimiser_agrees(problem in any_::mild(), start in table(3.0)) {
        let population = Evidence::population(&problem);
        let start = fit(&problem, &start);
        let table = minimiser(&problem, &population, Objective::IPO, &start);
        let off = apart(&Policy::softmax(&table), &solve(Objective::IPO, &problem));
        prop_assert!(off < 1e-6, "{off}");
    }

    /// With equal laws, or two arms, the limit is the paper's formula.
    #[test]
    fn the_papers_formula_needs_equal_laws(problem in prop_oneof![any_::same_laws(), any_::two_arms()]) {
        let off = apart(&solve(Objective::IPO, &problem), &papers_formula(&problem));
        prop_assert!(off < EXACT, "{off}");
    }

    /// With equal laws a better arm never gets a smaller log-ratio.
    #[test]
    fn equal_laws_never_invert_arms(problem in any_::same_laws()) {
        let policy = solve(Objective::IPO, &problem);
        let prompt = &problem.prompts()[0];
        let u = |a: usize| policy.log()[0][a] - prompt.log_reference[a];
        for a in 0..prompt.arms() {
            for b in 0..prompt.arms() {
                if prompt.reward[a] >= prompt.reward[b] {
                    prop_assert!(u(a) - u(b) > -EXACT, "{a} {b}");
                }
            }
        }
    }

    /// The first two scalings share a limit, which the third has at twice the temperature.
    #[test]
    fn the_scalings_share_their_limit(problem in any_::any_kind()) {
        let azar = solve(Objective::IPO, &problem);
        prop_assert!(apart(&azar, &solve(Objective::IPO_COPG, &problem)) < EXACT);
        let gpo = solve(Objective::IPO_GPO, &problem);
        prop_assert!(apart(&gpo, &solve(Objective::IPO, &halved(&problem))) < EXACT);
    }

    /// Everywhere, IPO-CoPG has β² the gradient of IPO, and GPO's has that of IPO at β/2.
    #[test]
    fn the_scalings_differ_by_beta_squared(problem in any_::any_kind(), at in table(4.0)) {
        let logits = fit(&problem, &at);
        let gradient = |problem: &Problem, objective: Objective| {
            evaluate(problem, &Evidence::population(problem), objective, &logits).unwrap().gradient
        };
        let beta = problem.beta();
        let times = |rows: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            rows.iter().map(|row| row.iter().map(|g| beta * beta * g).collect()).collect()
        };
        let azar = times(gradient(&problem, Objective::IPO));
        // Entries are up to 2β²·8, β ≤ 5.
        prop_assert!(distance(&gradient(&problem, Objective::IPO_COPG), &azar) < 1e-12);
        let azar = times(gradient(&halved(&problem), Objective::IPO));
        prop_assert!(distance(&gradient(&problem, Objective::IPO_GPO), &azar) < 1e-12);
    }

    /// Two laws written out as a table of pairs give the same limit.
    #[test]
    fn a_product_table_is_the_product(problem in any_::gaps()) {
        let tabled = any_::with_laws(&problem, |x, prompt| {
            let k = prompt.arms();
            let table: Vec<Vec<f64>> =
                (0..k).map(|y| (0..k).map(|z| prompt.law.probability(y, z)).collect()).collect();
            PairLaw::joint(&format!("pairs {x}"), &table).unwrap()
        });
        for objective in [Objective::IPO, Objective::COPG, Objective::DPO] {
            let off = apart(&solve(objective, &problem), &solve(objective, &tabled));
            prop_assert!(off < EXACT, "{}: {off}", objective.name());
        }
    }

    /// On a dataset the limit solves the normal equations of the counts:
    /// `Σ_b n_ab (u_a − u_b) = Σ_b (wins_ab − losses_ab)/2β`, with Σ u = 0 kept on each component.
    #[test]
    fn a_dataset_gives_the_least_squares_of_its_counts(
        problem in any_::mild(),
        clashes in any_::clashes(3),
    ) {
        let prompt = &problem.prompts()[0];
        let k = prompt.arms();
        let wins = any_::returned(&clashes, k);
        let evidence = Evidence::from_dataset(&problem, &any_::labelled(&problem, &wins));
        let found = fixed_point(Objective::IPO, &problem, &evidence).unwrap();
        prop_assert!(found.unique);
        let policy = found.policy.unwrap();
        let u: Vec<f64> =
            policy.log()[0].iter().zip(&prompt.log_reference).map(|(l, r)| l - r).collect();
        for a in 0..k {
            let mut off = 0.0;
            for b in (0..k).filter(|&b| b != a) {
                let (won, lost) = (f64::from(wins[a][b]), f64::from(wins[b][a]));
                off += (won + lost) * (u[a] - u[b]) - (won - lost) / (2.0 * problem.beta());
            }
            prop_assert!(off.abs() < 1e-10, "{off}");
        }
        prop_assert!(gradient_size(&problem, &evidence, Objective::IPO, policy.log()) < EXACT);
    }
}
