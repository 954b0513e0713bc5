//! What an exact expectation costs.

use std::time::Instant;

use candle_core::{DType, Device};
use pistar::bandit::Evidence;
use pistar::llm::language::{Bandit, Language, Population, Training, normal_rewards};
use pistar::llm::model::decoder::Decoder;
use pistar::loss::Objective;

use super::laws;

/// `cargo test --release --test llm costs -- --ignored --nocapture`
#[test]
#[ignore = "prints a table: on demand"]
fn costs_of_a_step() {
    println!("V L     K  objective  examples  ms");
    for (symbols, length) in [(3, 2), (3, 3), (3, 4), (3, 5), (4, 5)] {
        let language = Language::with_prompts(symbols, length, 2).unwrap();
        let architecture = language.architecture(32, 2);
        let model = Decoder::random(architecture, 0.15, 1, DType::F64, &Device::Cpu).unwrap();
        let arms = language.responses();
        let bandit = Bandit::around(&model, language, 0.5, normal_rewards(3, 1.0), laws).unwrap();
        let evidence = Evidence::population(bandit.problem());
        for objective in [Objective::DPO, Objective::PG_ZERO] {
            let mut population = Population::new(&bandit, &evidence, objective).unwrap();
            let examples = population.text().weight.len();
            let training = Training {
                steps: 3,
                lr: 1e-3,
                value_lr: 0.0,
                micro_batch: 1 << 14,
            };
            let started = Instant::now();
            (training.run(&mut population, (&model).into(), None, |_, _| Ok(()))).unwrap();
            let each = started.elapsed().as_secs_f64() / 3.0 * 1e3;
            let name = objective.name();
            println!("{symbols} {length} {arms:5}  {name:9}  {examples:8}  {each:.0}");
        }
    }
}
