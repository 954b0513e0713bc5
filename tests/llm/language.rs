//! The enumerable language: a transformer goes where the exact half says.

use candle_core::{DType, Device};
use pistar::bandit::population::evaluate;
use pistar::bandit::{Evidence, PairLaw, Policy, Prompt, Simplex};
use pistar::llm::decoder::Decoder;
use pistar::llm::language::{
    Bandit, Cells, Language, Population, Table, Trained, Training, normal_rewards, total_variation,
    walk,
};
use pistar::llm::network::Reduction;
use pistar::llm::step::numbers;
use pistar::llm::tape::LeafGradients;
use pistar::loss::{Kind, Objective, Value};
use pistar::solve::fixed_point;

/// A transformer wide enough for any table over a few prompts.
pub fn transformer(language: &Language, layers: usize) -> Decoder {
    let architecture = language.architecture(32, layers);
    Decoder::random(architecture, 0.15, 1, DType::F64, &Device::Cpu).unwrap()
}

/// Pairs of two laws: the reference, and one flatter.
pub fn laws(_: usize, reference: &[f64]) -> pistar::Result<PairLaw> {
    let total: f64 = reference.iter().map(|p| p.sqrt()).sum();
    let flat = reference.iter().map(|p| p.sqrt() / total).collect();
    let first = Simplex::new("first", reference.to_vec())?;
    Ok(PairLaw::product(first, Simplex::new("second", flat)?))
}

/// Strings of at most `length` of three symbols and two prompts, with all that any objective needs:
/// rankings of all arms, values to hold fixed, a margin.
pub fn bandit(length: usize, model: &Decoder) -> Bandit {
    let language = Language::with_prompts(3, length, 2).unwrap();
    let bandit = Bandit::around(model, language, 0.5, normal_rewards(3, 1.0), laws).unwrap();
    let complete = |problem: &pistar::bandit::Problem| {
        let problem = problem.map_prompts(|x, prompt| {
            let arms = prompt.arms();
            let ranking = (0..arms).map(|i| ((7 * i + x) % arms) as u32);
            prompt.ranking = Some(ranking.collect());
        });
        problem.with_margin(2.5).unwrap()
    };
    bandit.map(complete).unwrap()
}

/// The same with a value to hold fixed, below V* so that there is one limit.
fn valued(bandit: &Bandit) -> Bandit {
    let value = bandit.problem().optimum().value;
    let lower = |x: usize, p: &mut Prompt| p.value = Some(value[x] - 0.4);
    bandit.map(|problem| problem.map_prompts(lower)).unwrap()
}

#[test]
fn the_walk_and_the_pipeline_agree() {
    for length in [1, 2, 3] {
        let language = Language::with_prompts(3, length, 3).unwrap();
        let model = transformer(&language, 2);
        let policy = walk(&model, &language).unwrap();
        for (x, row) in policy.log().iter().enumerate() {
            let total: f64 = row.iter().map(|l| l.exp()).sum();
            assert!((total - 1.0).abs() < 1e-12, "{total}");
            let sequences = language.sequences(x).unwrap();
            let fed = numbers(&model, Reduction::Sum, &sequences, 20).unwrap();
            for (a, b) in row.iter().zip(&fed.sequences) {
                assert!((a - b).abs() < 1e-12, "{a} {b}");
            }
        }
    }
}

/// What is learned on a table through text batches is what the exact half evaluates: weights,
/// rewards, labels and places of every objective.
#[test]
fn an_expectation_in_text_is_the_exact_one() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let bandit = bandit(2, &transformer(&language, 1));
    let bandit = valued(&bandit);
    let problem = bandit.problem();
    let evidence = Evidence::population(problem);
    let start: Vec<f64> = (0..26).map(|i| (0.7 * f64::from(i)).sin()).collect();
    for objective in Objective::ALL {
        if objective == Objective::AdvantageModelCentred {
            assert!(Population::new(&bandit, &evidence, objective).is_err());
            continue;
        }
        let want = evaluate(problem, &evidence, objective, &bandit.rows(&start)).unwrap();
        let cells = match objective.trains_scores() {
            true => Cells::Scores,
            false => Cells::Logits,
        };
        let table = Table::new(&language, cells, &start).unwrap();
        let mut population = Population::new(&bandit, &evidence, objective).unwrap();
        for micro_batch in [usize::MAX, 17] {
            let training = Training {
                steps: 0,
                lr: 0.0,
                value_lr: 0.0,
                micro_batch,
            };
            let mut gradient = LeafGradients::new(1);
            let mut none = LeafGradients::new(0);
            let outcome = training
                .gradient(
                    &mut population,
                    (&table).into(),
                    None,
                    &mut gradient,
                    &mut none,
                )
                .unwrap();
            let name = objective.name();
            assert!(
                (outcome.loss - want.value).abs() < 1e-12 * want.value.abs().max(1.0),
                "{name}"
            );
            let gradient: Vec<f64> = gradient.get(0).unwrap().to_vec1().unwrap();
            for (a, b) in gradient.iter().zip(want.gradient.concat()) {
                assert!((a - b).abs() < 1e-12, "{name}: {a} {b}");
            }
        }
    }
}

/// How long it takes: limits on kinks and at the boundary are approached slowly.
fn training(objective: Objective) -> Training {
    let (steps, lr) = match objective.spec().kind {
        Kind::Smooth | Kind::Field => (400, 3e-3),
        Kind::Boundary => (1000, 3e-3),
        Kind::Kinked => (1600, 3e-3),
    };
    let slow = matches!(objective, Objective::CoprSft | Objective::Sft);
    Training {
        steps: if slow { 1000 } else { steps },
        lr,
        value_lr: 0.05,
        micro_batch: usize::MAX,
    }
}

/// Trains a transformer, and a table of values where there is one; its exact policy.
fn trained(bandit: &Bandit, evidence: &Evidence, objective: Objective) -> Policy {
    let language = bandit.language();
    let model = transformer(language, 2);
    let mut population = Population::new(bandit, evidence, objective).unwrap();
    let zeros = vec![0.0; language.prompts().len()];
    let values = match objective.value() {
        Some(Value::Own) => Some(Table::new(language, Cells::Values, &zeros).unwrap()),
        Some(Value::Constant) => Some(Table::new(language, Cells::Value, &[0.0]).unwrap()),
        Some(Value::Given) | None => None,
    };
    let values = values.as_ref().map(Trained::from);
    let training = training(objective);
    (training.run(&mut population, (&model).into(), values, |_, _| Ok(()))).unwrap();
    walk(&model, language).unwrap()
}

/// The distance of what a transformer learned from an objective's exact fixed point.
fn distance(bandit: &Bandit, objective: Objective) -> f64 {
    let held = objective.value() == Some(Value::Given);
    let bandit = &match held {
        true => valued(bandit),
        false => bandit.clone(),
    };
    let evidence = Evidence::population(bandit.problem());
    let want = fixed_point(objective, bandit.problem(), &evidence).unwrap();
    assert!(want.unique, "{}", objective.name());
    let want = want.policy.unwrap();
    let got = trained(bandit, &evidence, objective);
    let moved = total_variation(&bandit.problem().reference(), &want);
    let distance = total_variation(&got, &want);
    println!("{:26} {moved:.3} {distance:.1e}", objective.name());
    assert!(moved > 0.05, "{}: the reference is there", objective.name());
    distance
}

/// Objectives that train a policy, of one kind.
fn of_kind(kind: Kind) -> impl Iterator<Item = Objective> {
    let policies = |o: &Objective| !o.trains_scores();
    (Objective::ALL.into_iter())
        .filter(policies)
        .filter(move |o| o.spec().kind == kind)
}

#[test]
fn smooth_objectives_reach_their_fixed_points() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let bandit = bandit(2, &transformer(&language, 2));
    for objective in of_kind(Kind::Smooth) {
        assert!(distance(&bandit, objective) < 1e-3, "{}", objective.name());
    }
}

#[test]
fn fields_reach_their_fixed_points() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let bandit = bandit(2, &transformer(&language, 2));
    for objective in of_kind(Kind::Field) {
        assert!(distance(&bandit, objective) < 1e-3, "{}", objective.name());
    }
}

#[test]
fn kinks_and_boundaries_are_reached() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let bandit = bandit(2, &transformer(&language, 2));
    for objective in of_kind(Kind::Kinked).chain(of_kind(Kind::Boundary)) {
        assert!(distance(&bandit, objective) < 1e-3, "{}", objective.name());
    }
}
