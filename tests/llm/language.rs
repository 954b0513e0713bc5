//! The enumerable language: a transformer goes where the exact half says.

mod constrained;
mod costs;
mod free;
mod limits;
mod phases;
mod sampled;
mod simulated;
mod taught;

use candle_core::{DType, Device};
use pistar::bandit::population::evaluate;
use pistar::bandit::{Evidence, PairLaw, Prompt, Simplex};
use pistar::llm::internals::model::inference::numbers;
use pistar::llm::internals::tensor::tape::LeafGradients;
use pistar::llm::language::{
    Bandit, Cells, Language, Population, Table, Training, normal_rewards, walk,
};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::network::Reduction;
use pistar::loss::{Column, Given, Objective};

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
        let numbers = Given::new().with("baseline", 0.3);
        problem.with_margin(2.5).unwrap().with_numbers(&numbers)
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
    // What divides by tokens has another expectation here than on arms, which have none.
    for objective in Objective::ALL
        .into_iter()
        .filter(|o| !o.reads(Column::Tokens))
    {
        if objective == Objective::ADVANTAGE_MODEL_CENTRED {
            assert!(Population::new(&bandit, &evidence, objective).is_err());
            continue;
        }
        let want = evaluate(problem, &evidence, objective, &bandit.rows(&start)).unwrap();
        let cells = if objective.spec().trains_scores() {
            Cells::Scores
        } else {
            Cells::Logits
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
