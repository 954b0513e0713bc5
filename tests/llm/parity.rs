//! The same numbers as transformers.

use candle_core::{DType, Device};
use pistar::llm::internals::files::json::Object;
use pistar::llm::model::architecture::Positions;
use pistar::llm::model::config::Config;
use pistar::llm::model::decoder::Decoder;
use serde::Deserialize;

use crate::fixtures::{self, Expected, folder, largest, models};

#[test]
fn every_family_has_the_logits_and_sums_of_transformers() {
    for name in models() {
        let model = Decoder::load(folder(name), DType::F32, &Device::Cpu).unwrap();
        let [logits, sums] = Expected::of(name).errors(&model);
        println!("{name:14} logits {logits:.1e}  sums {sums:.1e}");
        assert!(logits < 1e-5, "{name}: logits are off by {logits}");
        assert!(sums < 1e-4, "{name}: sums are off by {sums}");
    }
}

#[test]
fn f64_is_the_same_function() {
    for name in models() {
        let model = Decoder::load(folder(name), DType::F64, &Device::Cpu).unwrap();
        let [logits, sums] = Expected::of(name).errors(&model);
        assert!(logits < 1e-5 && sums < 1e-4, "{name}: {logits} {sums}");
    }
}

#[derive(Deserialize)]
struct Frequencies {
    name: String,
    fields: Object,
    frequencies: Vec<f64>,
    factor: f64,
}

#[test]
fn rotary_frequencies_are_those_of_transformers() {
    for case in fixtures::json::<Vec<Frequencies>>("rope.json") {
        let mut fields = case.fields;
        for (name, value) in [
            ("vocab_size", 8),
            ("intermediate_size", 8),
            ("num_hidden_layers", 1),
        ] {
            fields.insert(name.into(), value.into());
        }
        fields.insert("model_type".into(), "llama".into());
        let config = Config::new(fields).unwrap();
        let Positions::Rotary {
            frequencies,
            factor,
        } = config.architecture().unwrap().positions.clone()
        else {
            panic!("{}: no rotary positions", case.name);
        };
        assert_eq!(factor, case.factor, "{}", case.name);
        let relative: Vec<f64> = (frequencies.iter().zip(&case.frequencies))
            .map(|(a, b)| a / f64::from(*b as f32))
            .collect();
        let error = largest(&relative, &vec![1.0; case.frequencies.len()]);
        println!("{:10} {error:.1e}", case.name);
        // One unit in the last place of f32: torch's own powers are no closer.
        assert!(
            error < 1.2e-7,
            "{}: frequencies are off by {error}",
            case.name
        );
    }
}
