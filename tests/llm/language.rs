//! The enumerable language: a transformer goes where the exact half says.

use std::time::Instant;

use candle_core::{DType, Device};
use pistar::bandit::{Evidence, PairLaw, Simplex};
use pistar::llm::decoder::Decoder;
use pistar::llm::language::{
    Bandit, Language, Population, Training, normal_rewards, total_variation, walk,
};
use pistar::loss::Objective;
use pistar::solve::fixed_point;

fn model(language: &Language, seed: u64) -> Decoder {
    let env = |k: &str, d: usize| std::env::var(k).map_or(d, |s| s.parse().unwrap());
    let architecture = language.architecture(env("W", 16), env("LAYERS", 1));
    Decoder::random(architecture, 0.4, seed, DType::F64, &Device::Cpu).unwrap()
}

/// Two laws: the reference, and one flatter.
fn laws(_: usize, reference: &[f64]) -> pistar::Result<PairLaw> {
    let total: f64 = reference.iter().map(|p| p.sqrt()).sum();
    let flat = reference.iter().map(|p| p.sqrt() / total).collect();
    let first = Simplex::new("first", reference.to_vec())?;
    Ok(PairLaw::product(first, Simplex::new("second", flat)?))
}

#[test]
fn probabilities_sum_to_one() {
    let language = Language::with_prompts(3, 3, 3).unwrap();
    let policy = walk(&model(&language, 1), &language).unwrap();
    for row in policy.probabilities() {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}

#[test]
fn try_out() {
    let steps: usize = std::env::var("STEPS").map_or(300, |s| s.parse().unwrap());
    let lr: f64 = std::env::var("LR").map_or(1e-2, |s| s.parse().unwrap());
    let length: usize = std::env::var("LEN").map_or(2, |s| s.parse().unwrap());
    let only = std::env::var("ONLY").unwrap_or_default();
    for objective in Objective::ALL {
        if objective.trains_scores() || !objective.name().starts_with(&only) || objective.value().is_some() {
            continue;
        }
        let language = Language::with_prompts(3, length, 2).unwrap();
        let model = model(&language, 1);
        let bandit =
            Bandit::around(&model, language.clone(), 0.5, normal_rewards(3, 1.0), laws).unwrap();
        let bandit = bandit.map(|p| p.map_prompts(|x, p| {
            p.ranking = Some((0..p.arms() as u32).map(|a| (a * 5 + x as u32) % p.arms() as u32).collect());
        })).unwrap();
        let evidence = Evidence::population(bandit.problem());
        let want = fixed_point(objective, bandit.problem(), &evidence).unwrap();
        let mut population = Population::new(&bandit, &evidence, objective).unwrap();
        let started = Instant::now();
        let training = Training {
            steps,
            lr,
            micro_batch: usize::MAX,
        };
        let none = None::<(&Decoder, _)>;
        let mut first = f64::NAN;
        training
            .run(&mut population, (&model, model.parameters()), none, |i, o| {
                if i == 0 { first = o.loss; }
                Ok(())
            })
            .unwrap();
        let got = walk(&model, &language).unwrap();
        let tv = want.policy.as_ref().map(|p| total_variation(&got, p));
        println!(
            "{} {tv:?} unique {} {:?} loss0 {first} regret {:.3e} {:.2?} {:?}",
            objective.name(), want.unique, want.method, bandit.problem().regret(&got),
            started.elapsed(), want.notes
        );
    }
}
