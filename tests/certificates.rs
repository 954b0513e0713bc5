//! Every objective holds its certificates, every spoiled form of it fails one, and every gradient
//! agrees with forward mode, detaches included.

use pistar::backend::Backend;
use pistar::backend::dual::Dual;
use pistar::backend::mutant::Fault;
use pistar::backend::nd::Tape;
use pistar::bandit::population::{Batch, Feed, evaluate_with, on_tape};
use pistar::bandit::{Evidence, Shape, random_problem};
use pistar::loss::Objective;
use pistar::random::{Purpose, Stream};
use pistar::verify::{certify, sabotage};

#[test]
fn every_objective_holds_its_certificates() {
    for objective in Objective::ALL {
        for certificate in certify(objective).unwrap() {
            assert!(certificate.holds(), "{}: {certificate:?}", objective.name());
        }
    }
}

#[test]
fn every_spoiled_form_is_caught() {
    let (mut caught, mut same) = (0, 0);
    for objective in Objective::ALL {
        let result = sabotage(objective).unwrap();
        println!(
            "{}: {} operations, {} spoiled forms caught, {} the same function",
            objective.name(),
            result.operations,
            result.caught,
            result.equivalent.len()
        );
        assert!(result.missed.is_empty(), "{result:?}");
        for &(n, fault) in &result.equivalent {
            assert!(
                harmless(objective, n, fault),
                "{}: {n} {fault:?}",
                objective.name()
            );
        }
        caught += result.caught;
        same += result.equivalent.len();
    }
    println!("{caught} spoiled forms caught, {same} that are the same function, 0 missed");
}

/// The spoiled forms that change nothing, and why.
fn harmless(objective: Objective, n: usize, fault: Fault) -> bool {
    use Objective as O;
    match fault {
        // The sign of what is squared next, or a product that is symmetric in it.
        Fault::Negate => matches!(
            (objective, n),
            (O::CopgSquared, 6)
                | (O::CopgCompleted, 6 | 8)
                | (O::Ipo, 3)
                | (O::IpoCopg, 3)
                | (O::IpoGpo, 3)
        ),
        // Below a detach, or on a constant.
        Fault::Detach => match objective {
            O::PgZero | O::PgValue | O::PgSoftValue => n < 4,
            O::Rloo => n < 8,
            O::CopgCompleted => matches!(n, 8 | 9),
            _ => false,
        },
        Fault::Double | Fault::KeepGradient => false,
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
