//! Every objective holds its certificates, every spoiled form of it fails one, and every gradient
//! agrees with forward mode, detaches included.

use pistar::backend::Backend;
use pistar::backend::dual::Dual;
use pistar::backend::mutant::{Fault, Site};
use pistar::backend::nd::Tape;
use pistar::bandit::population::{Feed, evaluate_with};

use pistar::bandit::{Evidence, Shape, random_problem};
use pistar::loss::{Batch, Cotangents, Objective};
use pistar::random::{Purpose, Stream};
use pistar::verify::{certify, certify_with, sabotage};

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
fn what_is_no_number_is_not_certified() {
    type Spoil = fn(&mut Cotangents);
    let value: Spoil = |c| c.value = f64::NAN;
    let gradient: Spoil = |c| c.gradient[0].fill(f64::NAN);
    let honest: Spoil = |_| ();
    let forms = [(honest, true), (value, false), (gradient, false)];
    for objective in Objective::ALL {
        for (spoil, holds) in forms {
            let all = certify_with(objective, |problem, batch| {
                let given = objective.with_examples(problem.given());
                let mut result = objective.bind(&given)?.on_tape(batch)?;
                spoil(&mut result);
                Ok(result)
            });
            let all = all.is_ok_and(|all| all.iter().all(|c| c.holds()));
            assert_eq!(all, holds, "{}", objective.name());
        }
    }
}

#[test]
fn every_spoiled_form_is_caught() {
    let (mut caught, mut same, mut wrong) = (0, 0, Vec::new());
    for objective in Objective::ALL {
        let result = sabotage(objective).unwrap();
        println!(
            "{}: {} operations, {} spoiled forms caught, {} the same function",
            objective.name(),
            result.operations.len(),
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

/// Spoiled forms that change nothing, and why: losses, the fault, and the operations it is put into.
const HARMLESS: [(&[&str], Fault, &[&str]); 21] = [
    // The sign of what is squared next, or a product or variance that is symmetric in it.
    (&["copg-squared"], Fault::Negate, &["sub 4"]),
    (&["copg-completed"], Fault::Negate, &["sub 4", "sub 5"]),
    (
        &["ipo", "ipo-copg", "ipo-gpo"],
        Fault::Negate,
        &["affine 0"],
    ),
    (&["squared-hinge"], Fault::Negate, &["relu 0"]),
    (
        &["dro-v", "dro-constant", "dro-fixed"],
        Fault::Negate,
        &["sub 2"],
    ),
    (&["dro-v-eliminated"], Fault::Negate, &["sub 1", "sub 2"]),
    (
        &["dro-algorithm-1", "dro-algorithm-1-corrected"],
        Fault::Negate,
        &["sub 1", "sub 4"],
    ),
    // A number that is 0.
    (&["kto-no-kl"], Fault::Negate, &["detach 0"]),
    (&["kto-no-kl"], Fault::Double, &["detach 0"]),
    // Below a detach, or on a constant.
    (
        &["pg-zero", "pg-value", "pg-soft-value", "pg"],
        Fault::Detach,
        &["sub 0", "affine 0", "sub 1", "sub 2"],
    ),
    (
        &["ppo-clip"],
        Fault::Detach,
        &["sub 0", "affine 0", "sub 1", "sub 2"],
    ),
    // What is clipped never has a slope: within the clip and on its edge the ratio itself has it.
    (
        &["ppo-clip"],
        Fault::Detach,
        &[
            "max 0", "affine 1", "affine 2", "max 1", "affine 3", "mul 0", "affine 4",
        ],
    ),
    (
        &["rloo"],
        Fault::Detach,
        &[
            "sub 0",
            "affine 0",
            "sub 1",
            "segment_sum 0",
            "spread 0",
            "mul 0",
            "sub 2",
            "mul 1",
        ],
    ),
    (&["copg-completed"], Fault::Detach, &["sub 5", "mul 1"]),
    (
        &["dro-algorithm-1", "dro-algorithm-1-corrected"],
        Fault::Detach,
        &["sub 0", "sub 2", "affine 1", "sub 3"],
    ),
    (
        &["kto", "kto-per-prompt", "kto-no-kl"],
        Fault::Detach,
        &["affine 3"],
    ),
    // The mean of a group: the deviations from it sum to 0.
    (
        &["dro-v-eliminated"],
        Fault::Detach,
        &["segment_sum 0", "mul 0", "spread 0"],
    ),
    // ln P* is a constant.
    (
        &["copr", "copr-sft", "copr-forward", "copr-forward-mean"],
        Fault::Detach,
        &[
            "affine 0",
            "add 0",
            "sub 2",
            "exp 1",
            "segment_sum 1",
            "ln 1",
            "spread 1",
            "sub 3",
        ],
    ),
    // So is P*; and of `Σ P ln P/P*` the gradient of the logarithm has mean 0.
    (
        &["copr-forward", "copr-forward-mean"],
        Fault::Detach,
        &["exp 2"],
    ),
    (&["copr", "copr-sft"], Fault::Detach, &["sub 4"]),
    // Differences of advantages are constants.
    (
        &["pro"],
        Fault::Detach,
        &["select 0", "select 1", "sub 0", "affine 0"],
    ),
];

fn harmless(objective: Objective, site: Site, fault: Fault) -> bool {
    HARMLESS.iter().any(|(of, known, sites)| {
        of.contains(&objective.name())
            && *known == fault
            && sites.contains(&site.to_string().as_str())
    })
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
        let given = objective.with_examples(problem.given());
        let loss = objective.bind(&given).unwrap();
        let feed = Feed::of(&loss).unwrap();
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
            let reverse = loss.on_tape(batch)?;
            // One random direction of every trained number of the batch.
            let directions: Vec<Vec<f64>> = (reverse.gradient.iter())
                .map(|g| g.iter().map(|_| 2.0 * stream.uniform() - 1.0).collect())
                .collect();
            let tape = Tape::new();
            let mut next = directions.iter();
            let (inputs, _) = batch.inputs(
                kind,
                feed.columns,
                |v| {
                    Dual::new(
                        tape.constant(v.to_vec()),
                        tape.constant(next.next().unwrap().clone()),
                    )
                },
                |v| Dual::still(tape.constant(v.to_vec())),
            )?;
            let forward = loss.loss(&inputs)?;
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
