//! Every objective holds its certificates, every spoiled form of it fails one, and every gradient
//! agrees with forward mode, detaches included.

use pistar::backend::Backend;
use pistar::backend::dual::Dual;
use pistar::backend::mutant::Fault;
use pistar::backend::nd::Tape;
use pistar::bandit::population::{Feed, evaluate_with};

use pistar::bandit::{Evidence, Shape, random_problem};
use pistar::loss::{Batch, Objective, on_tape};
use pistar::random::{Purpose, Stream};
use pistar::verify::{certify, sabotage};

#[test]
fn every_objective_holds_its_certificates() {
    let mut broken = Vec::new();
    for objective in Objective::ALL {
        let all = certify(objective).unwrap().into_iter();
        broken.extend(all.filter(|c| !c.holds()).map(|c| (objective.name(), c)));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_spoiled_form_is_caught() {
    let (mut caught, mut same, mut wrong) = (0, 0, Vec::new());
    for objective in Objective::ALL {
        let result = sabotage(objective).unwrap();
        println!(
            "{}: {} operations, {} spoiled forms caught, {} the same function",
            objective.name(),
            result.operations,
            result.caught,
            result.equivalent.len()
        );
        let name = objective.name();
        let missed = result.missed.iter().map(|&form| (name, "missed", form));
        let unlisted = (result.equivalent.iter().copied())
            .filter(|&(n, fault)| !harmless(objective, n, fault))
            .map(|form| (name, "the same function", form));
        wrong.extend(missed.chain(unlisted));
        caught += result.caught;
        same += result.equivalent.len();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{caught} spoiled forms caught, {same} that are the same function, 0 missed");
}

/// The spoiled forms that change nothing, and why.
fn harmless(objective: Objective, n: usize, fault: Fault) -> bool {
    use Objective as O;
    match fault {
        // The sign of what is squared next, or a product or variance that is symmetric in it; or of
        // a number that is 0.
        Fault::Negate => matches!(
            (objective, n),
            (O::CopgSquared, 6)
                | (O::CopgCompleted, 6 | 8)
                | (O::Ipo | O::IpoCopg | O::IpoGpo, 3)
                | (O::DroV | O::DroConstant, 3)
                | (O::DroFixed, 4)
                | (O::DroVEliminated, 2 | 6)
                | (O::DroAlgorithm1 | O::DroAlgorithm1Corrected, 3 | 10)
                | (O::KtoNoKl, 1)
        ),
        Fault::Double => (objective, n) == (O::KtoNoKl, 1),
        Fault::Detach => match objective {
            // Below a detach, or on a constant.
            O::PgZero | O::PgValue | O::PgSoftValue => n < 4,
            O::Rloo => n < 8,
            O::CopgCompleted => matches!(n, 8 | 9),
            O::DroAlgorithm1 | O::DroAlgorithm1Corrected => matches!(n, 0 | 6..=8),
            O::Kto | O::KtoPerPrompt | O::KtoNoKl => n == 8,
            // The mean of a group: the deviations from it sum to 0.
            O::DroVEliminated => matches!(n, 3..=5),
            // ln P* is a constant; of `Σ P ln P/P*` the gradient of the logarithm has mean 0.
            O::Copr | O::CoprSft => matches!(n, 0 | 1 | 8..=13 | 15),
            O::CoprForward | O::CoprForwardMean => matches!(n, 0 | 1 | 8..=14),
            _ => false,
        },
        Fault::KeepGradient => false,
    }
}

#[test]
fn gradients_equal_forward_mode_derivatives() {
    for objective in Objective::ALL {
        let problem = random_problem(
            Shape {
                prompts: 2,
                arms: 4,
                beta: 0.7,
                reward_scale: 1.5,
            },
            11,
        )
        .unwrap();
        let population = Evidence::population(&problem);
        let feed = Feed::of(objective);
        let kind = feed.inputs;
        let mut stream = Stream::new(5, Purpose::Start, 0);
        let logits: Vec<Vec<f64>> = (problem.prompts().iter())
            .map(|p| {
                (0..p.arms())
                    .map(|_| 2.0 * stream.uniform() - 1.0)
                    .collect()
            })
            .collect();
        let mut batches = 0;
        evaluate_with(&problem, &population, &feed, &logits, |batch: &Batch| {
            batches += 1;
            let reverse = on_tape(kind, batch, |inputs| {
                objective.loss(inputs, problem.parameters())
            })?;
            // One random direction of every trained number of the batch.
            let directions: Vec<Vec<f64>> = (reverse.gradient.iter())
                .map(|g| g.iter().map(|_| 2.0 * stream.uniform() - 1.0).collect())
                .collect();
            let tape = Tape::new();
            let mut next = directions.iter();
            let (inputs, _) = batch.inputs(
                kind,
                |v| {
                    Dual::new(
                        tape.constant(v.to_vec()),
                        tape.constant(next.next().unwrap().clone()),
                    )
                },
                |v| Dual::still(tape.constant(v.to_vec())),
            )?;
            let forward = objective.loss(&inputs, problem.parameters())?;
            let along: f64 = (forward.tangent.to_vec()?.iter().zip(&batch.weight))
                .map(|(t, w)| t * w)
                .sum();
            let dotted: f64 = (reverse
                .gradient
                .iter()
                .flatten()
                .zip(directions.iter().flatten()))
            .map(|(g, d)| g * d)
            .sum();
            assert!(
                (along - dotted).abs() < 1e-13,
                "{}: {along} {dotted}",
                objective.name()
            );
            Ok(reverse)
        })
        .unwrap();
        assert!(batches > 0);
    }
}

/// The gradient of the tangent is the Hessian-vector product.
#[test]
fn tangents_differentiate_to_hessian_products() {
    let tape = Tape::new();
    let (x, v) = (vec![0.3, -1.2, 0.0, 2.0], vec![1.0, -0.5, 2.0, 0.7]);
    let leaf = tape.leaf(x.clone());
    let moving = Dual::new(leaf.clone(), tape.constant(v.clone())).unwrap();
    // f = Σ softplus(−2x)², f'' by hand.
    let out = moving
        .affine(-2.0, 0.0)
        .unwrap()
        .softplus()
        .unwrap()
        .square()
        .unwrap();
    let product = &tape.backward(&out.tangent, &[1.0; 4], &[&leaf]).unwrap()[0];
    for ((&x, &v), got) in x.iter().zip(&v).zip(product) {
        let (f, s) = (
            pistar::backend::nd::softplus(-2.0 * x),
            pistar::backend::nd::sigmoid(-2.0 * x),
        );
        let second = 8.0 * (s * s + f * s * (1.0 - s));
        assert!((got - second * v).abs() < 1e-13);
    }
}
