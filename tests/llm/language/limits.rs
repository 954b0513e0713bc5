//! Trained on an objective's exact expectation, a transformer reaches its exact fixed point.

use candle_core::{DType, Device};
use pistar::bandit::population::{Feed, policy_of};
use pistar::bandit::{Evidence, Policy};
use pistar::llm::language::{
    Bandit, Cells, Language, Population, Table, Trained, Training, scores, total_variation, walk,
};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::{ScalarHead, Scorer};
use pistar::loss::{Column, Kind, Objective, Value};
use pistar::solve::fixed_point;

use super::free::on_a_face_of_kto;
use super::{bandit, transformer, valued};

/// How long it takes: limits on kinks and at the boundary are approached slowly.
pub fn training(objective: Objective) -> Training {
    let slow = [Objective::COPR_SFT, Objective::SFT].contains(&objective);
    let steps = match objective.spec().kind {
        Kind::Smooth | Kind::Field if !slow => 400,
        Kind::Smooth | Kind::Field | Kind::Boundary => 1000,
        Kind::Kinked => 1600,
        other => panic!("a new variant: {other:?}"),
    };
    Training {
        steps,
        lr: 3e-3,
        value_lr: 0.05,
        micro_batch: usize::MAX,
    }
}

/// A transformer whose last hidden state is a score.
fn scorer(language: &Language) -> Scorer {
    let head = ScalarHead::Reward;
    let mut decoder = transformer(language, 2);
    head.add(&mut decoder, 1).unwrap();
    Scorer { decoder, head }
}

/// What training on an objective's exact expectation makes of a transformer, and of a table of
/// values where there is one: the exact policy, for scores that which is optimal for them.
pub fn trained(
    bandit: &Bandit,
    evidence: &Evidence,
    objective: Objective,
    training: Training,
) -> Policy {
    let language = bandit.language();
    let mut population = Population::new(bandit, evidence, objective).unwrap();
    let mut run = |policy: Trained, values: Option<Trained>| {
        (training.run(&mut population, policy, values, |_, _| Ok(()))).unwrap();
    };
    if objective.spec().trains_scores() {
        let scorer = scorer(language);
        run((&scorer).into(), None);
        let scores = scores(&scorer, language).unwrap();
        let feed = Feed::of(population.loss()).unwrap();
        return policy_of(bandit.problem(), &feed, &scores);
    }
    let model = transformer(language, 2);
    let zeros = vec![0.0; language.prompts().len()];
    let values = match objective.spec().value {
        Some(Value::Own) => Some(Table::new(language, Cells::Values, &zeros).unwrap()),
        Some(Value::Constant) => Some(Table::new(language, Cells::Value, &[0.0]).unwrap()),
        Some(Value::Given) | None => None,
        Some(other) => panic!("a new variant: {other:?}"),
    };
    run((&model).into(), values.as_ref().map(Trained::from));
    walk(&model, language).unwrap()
}

/// The distance of what was learned from the objective's exact fixed point.
fn distance(bandit: &Bandit, objective: Objective, training: Training) -> f64 {
    let bandit = &if objective.spec().value == Some(Value::Given) {
        valued(bandit)
    } else {
        bandit.clone()
    };
    let evidence = Evidence::population(bandit.problem());
    let want = fixed_point(objective, bandit.problem(), &evidence).unwrap();
    let name = objective.name();
    assert!(want.unique, "{name}");
    let want = want.policy.unwrap();
    let moved = total_variation(&bandit.problem().reference(), &want);
    assert!(moved > 0.05, "{name}: the reference is its fixed point");
    let got = trained(bandit, &evidence, objective, training);
    let distance = total_variation(&got, &want);
    println!("{name:26} from {moved:.3} to {distance:.1e}");
    distance
}

fn reached(length: usize, objectives: impl Iterator<Item = Objective>) {
    let language = Language::with_prompts(3, length, 2).unwrap();
    let bandit = bandit(length, &transformer(&language, 2));
    let mut missed = Vec::new();
    for objective in objectives {
        let mut training = training(objective);
        if length > 2 {
            training.steps *= 2;
        }
        let distance = distance(&bandit, objective, training);
        if distance >= 1e-3 {
            missed.push((objective.name(), distance));
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// All by which a network reaches one point: everything but a table of scores that is centred, and PPO's surrogate,
/// whose maximisers are a face, anywhere on which the flow stops.
fn all() -> impl Iterator<Item = Objective> {
    let others = [Objective::ADVANTAGE_MODEL_CENTRED, Objective::PPO_CLIP];
    // What divides by tokens has other limits here than on arms, which have none.
    (Objective::ALL.into_iter()).filter(move |o| !others.contains(o) && !o.reads(Column::Tokens))
}

#[test]
fn smooth_objectives_13_responses() {
    reached(2, all().filter(|o| o.spec().kind == Kind::Smooth));
}

#[test]
fn fields_13_responses() {
    reached(2, all().filter(|o| o.spec().kind == Kind::Field));
}

#[test]
fn kinks_and_boundaries_13_responses() {
    let kinds = [Kind::Kinked, Kind::Boundary];
    reached(2, all().filter(|o| kinds.contains(&o.spec().kind)));
}

#[test]
fn copg_and_dpo_40_responses() {
    reached(3, [Objective::COPG, Objective::DPO].into_iter());
}

/// `cargo test --release --test llm every_objective_40 -- --ignored --nocapture`
#[test]
#[ignore = "minutes: on demand"]
fn every_objective_40_responses() {
    // KTO loses desirable responses among so many: see `free`.
    reached(3, all().filter(|o| o.spec().kind != Kind::Boundary));
}

/// `cargo test --release --test llm face_of_kto_40 -- --ignored --nocapture`
#[test]
#[ignore = "a minute: on demand"]
fn the_face_of_kto_40_responses() {
    let language = Language::with_prompts(3, 3, 2).unwrap();
    let bandit = bandit(3, &transformer(&language, 2));
    let evidence = Evidence::population(bandit.problem());
    for objective in all().filter(|o| o.spec().kind == Kind::Boundary) {
        let mut training = training(objective);
        training.steps *= 2;
        let got = trained(&bandit, &evidence, objective, training);
        on_a_face_of_kto(&bandit, objective, &got);
    }
}

/// The tabular bandit stands behind the same interface, and goes to the same place.
#[test]
fn a_table_behind_the_same_interface() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let bandit = bandit(2, &transformer(&language, 1));
    let evidence = Evidence::population(bandit.problem());
    let table = bandit.problem().reference().log().concat();
    let table = Table::new(&language, Cells::Logits, &table).unwrap();
    let mut population = Population::new(&bandit, &evidence, Objective::DPO).unwrap();
    let training = Training {
        lr: 0.1,
        ..training(Objective::DPO)
    };
    (training.run(&mut population, (&table).into(), None, |_, _| Ok(()))).unwrap();
    let got = Policy::softmax(&bandit.rows(&table.numbers().unwrap()));
    let want = fixed_point(Objective::DPO, bandit.problem(), &evidence).unwrap();
    let distance = total_variation(&got, &want.policy.unwrap());
    assert!(distance < 1e-6, "{distance:e}");
}

/// In f32, as language models are trained.
#[test]
fn in_single_precision() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let architecture = language.architecture(32, 2);
    let model = Decoder::random(architecture, 0.15, 1, DType::F32, &Device::Cpu).unwrap();
    let bandit = bandit(2, &model);
    let evidence = Evidence::population(bandit.problem());
    let mut population = Population::new(&bandit, &evidence, Objective::DPO).unwrap();
    let training = training(Objective::DPO);
    (training.run(&mut population, (&model).into(), None, |_, _| Ok(()))).unwrap();
    let want = fixed_point(Objective::DPO, bandit.problem(), &evidence).unwrap();
    let distance = total_variation(&walk(&model, &language).unwrap(), &want.policy.unwrap());
    assert!(distance < 1e-3, "{distance:e}");
}
