//! What has a value of its own in dro-v: the loss is that of the definition, and the gradient that of the loss.

use candle_core::{DType, Device, Tensor};
use pistar::llm::internals::tensor::tape::Tape;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::{PolicyWithValue, ScalarHead, Scorer, TokenValues};
use pistar::llm::model::network::{Network, Node, ValueRows};
use pistar::llm::model::sequence::Sequence;
use pistar::llm::text::example::{Beside, Example, Response};
use pistar::llm::train::reference::Reference;
use pistar::llm::train::{
    Batches, Learner, Model, Settings, Stepped, Trainer, ValueNetwork, ValuePer,
};
use pistar::random::{Purpose, Stream};

use crate::smoke::tiny;
use crate::train::settings as settings_of;

const BETA: f64 = 0.3;
const PER: [ValuePer; 3] = [ValuePer::Prompt, ValuePer::Batch, ValuePer::Token];
const NETWORKS: [ValueNetwork; 2] = [ValueNetwork::Separate, ValueNetwork::Shared];

/// Ragged ones: two of a prompt, one with weights, one of a single token, one whose tokens weigh nothing.
fn examples() -> Vec<Example> {
    type Row<'a> = (&'a [u32], &'a [u32], &'a [f64], f64);
    let rows: [Row; 5] = [
        (&[1, 5, 6], &[7, 8, 2], &[1.0, 1.0, 1.0], 0.7),
        (&[1, 5, 6], &[9, 2], &[1.0, 1.0], -0.4),
        (&[3], &[4, 4, 10, 2], &[2.0, 0.0, 0.5, 1.0], 1.3),
        (&[2, 9], &[5], &[1.0], 0.1),
        (&[8, 1], &[6, 3], &[0.0, 0.0], -1.1),
    ];
    let example = |(row, (prompt, completion, weights, reward)): (usize, Row)| {
        let tokens = [prompt, completion].concat();
        let sequence = Sequence::new(tokens, prompt.len()).unwrap();
        let sequence = sequence.weighted(weights.to_vec()).unwrap();
        Example {
            row: row as u64,
            responses: vec![Response::new(sequence, reward)],
            beside: Beside::default(),
        }
    };
    rows.into_iter().enumerate().map(example).collect()
}

fn settings(value: ValueNetwork, value_per: ValuePer) -> Settings {
    Settings {
        value,
        value_per,
        batch: 5,
        steps: Some(1),
        shuffle: false,
        ..settings_of("dro-v")
    }
}

fn decoder(seed: u64, head: bool) -> Decoder {
    let mut decoder = Decoder::random(tiny(), 0.4, seed, DType::F64, &Device::Cpu).unwrap();
    if head {
        ScalarHead::Value.add(&mut decoder, seed).unwrap();
    }
    decoder
}

/// Policy, network of V (the same where it is shared) and reference.
fn networks(value: ValueNetwork) -> [Decoder; 3] {
    let shared = value == ValueNetwork::Shared;
    let policy = decoder(1, shared);
    let of_value = if shared {
        policy.copy().unwrap()
    } else {
        decoder(3, true)
    };
    [policy, of_value, decoder(2, false)]
}

fn trainer<'a>(settings: &'a Settings, examples: &'a Vec<Example>) -> Trainer<'a> {
    let [policy, of_value, reference] = networks(settings.value);
    let rows = settings.value_per.rows();
    let separate: Box<dyn Model> = match rows {
        ValueRows::Completion => Box::new(TokenValues(of_value)),
        ValueRows::Prompt => Box::new(Scorer {
            decoder: of_value,
            head: ScalarHead::Value,
        }),
    };
    let (policy, value): (Box<dyn Model>, _) = match settings.value {
        ValueNetwork::Shared => (Box::new(PolicyWithValue(policy, rows)), None),
        _ => (Box::new(policy), Some(separate)),
    };
    let plan = Batches::new(settings, 32, examples).unwrap();
    Trainer::new(
        settings,
        plan,
        policy,
        value,
        Reference::Live(Box::new(reference)),
    )
    .unwrap()
}

fn numbers(node: &Node) -> Vec<f64> {
    node.value().to_vec1().unwrap()
}

/// V of tokens: the head at the last of them.
fn value(decoder: &Decoder, tokens: &[u32]) -> f64 {
    let network = Scorer {
        decoder: decoder.copy().unwrap(),
        head: ScalarHead::Value,
    };
    // What follows is not read.
    let sequence = Sequence::new([tokens, &[0]].concat(), tokens.len()).unwrap();
    numbers(&network.forward(&Tape::idle(), &[&sequence]).unwrap().pieces)[0]
}

fn log_prob(decoder: &Decoder, sequence: &Sequence) -> f64 {
    let output = decoder.forward(&Tape::idle(), &[sequence]).unwrap();
    sequence.sum(&numbers(&output.pieces))
}

/// `1/B Σ ½(R − V − βu)²` by V's definition, one sequence at a time.
fn defined([policy, of_value, reference]: &[Decoder; 3], per: ValuePer) -> f64 {
    let examples = examples();
    let sequences = || examples.iter().map(|e| &e.responses[0].sequence);
    let mut values: Vec<f64> = match per {
        ValuePer::Token => sequences()
            .map(|s| {
                let weights = s
                    .weights()
                    .map_or(vec![1.0; s.completion().len()], <[f64]>::to_vec);
                let prefix = |t: usize| &s.tokens()[..s.prompt().len() + t];
                let sum: f64 = (weights.iter().enumerate())
                    .map(|(t, w)| w * value(of_value, prefix(t)))
                    .sum();
                if s.weight() == 0.0 {
                    0.0
                } else {
                    sum / s.weight()
                }
            })
            .collect(),
        _ => sequences().map(|s| value(of_value, s.prompt())).collect(),
    };
    let count = values.len() as f64;
    if per == ValuePer::Batch {
        let mean = values.iter().sum::<f64>() / count;
        values.fill(mean);
    }
    let each = examples.iter().zip(values).map(|(example, value)| {
        let response = &example.responses[0];
        let ratio = log_prob(policy, &response.sequence) - log_prob(reference, &response.sequence);
        0.5 * (response.reward - value - BETA * ratio).powi(2)
    });
    each.sum::<f64>() / count
}

fn gradients(learner: &Learner) -> Vec<Vec<f64>> {
    let each = learner.model.parameters().iter().enumerate();
    each.map(|(leaf, p)| match learner.gradients.get(leaf) {
        Some(gradient) => gradient.flatten_all().unwrap().to_vec1().unwrap(),
        None => vec![0.0; p.tensor.elem_count()],
    })
    .collect()
}

/// The gradient of a step: the loss, and what each learner gets.
fn stepped(settings: &Settings) -> (Stepped, Vec<Vec<Vec<f64>>>) {
    let examples = examples();
    let mut trainer = trainer(settings, &examples);
    let stepped = trainer.gradient().unwrap();
    let all = std::iter::once(&trainer.policy).chain(&trainer.value);
    (stepped, all.map(gradients).collect())
}

#[test]
fn loss_and_gradient_are_those_of_the_definition() {
    const STEP: f64 = 1e-5;
    for value in NETWORKS {
        let mut losses = Vec::new();
        for per in PER {
            let settings = settings(value, per).resolve().unwrap();
            let (found, gradients) = stepped(&settings);
            let given = networks(value);
            let loss = defined(&given, per);
            assert!(
                (found.loss - loss).abs() < 1e-12,
                "{value:?} {per:?}: {} {loss}",
                found.loss
            );
            losses.push(loss);
            let mut stream = Stream::new(7, Purpose::Problem, 0);
            let mut told = 0;
            for (network, gradients) in gradients.iter().enumerate() {
                for (leaf, gradient) in gradients.iter().enumerate() {
                    let entry = stream.below(gradient.len() as u32) as usize;
                    let moved = |by: f64| -> f64 {
                        let mut networks = networks(value);
                        let parameter = given[network].parameters().iter().nth(leaf).unwrap();
                        let flat = parameter.tensor.flatten_all().unwrap();
                        let mut all: Vec<f64> = flat.to_vec1().unwrap();
                        all[entry] += by;
                        let tensor =
                            Tensor::from_vec(all, parameter.tensor.shape(), &Device::Cpu).unwrap();
                        // A shared network is both.
                        let shared = value == ValueNetwork::Shared;
                        for at in [network, 1]
                            .into_iter()
                            .filter(|&at| at == network || shared)
                        {
                            let parameters = networks[at].parameters_mut();
                            parameters.set(&parameter.name, &tensor).unwrap();
                        }
                        defined(&networks, per)
                    };
                    let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                    let exact = gradient[entry];
                    assert!(
                        (slope - exact).abs() < 1e-8 + 1e-6 * exact.abs(),
                        "{value:?} {per:?}: {slope} {exact}"
                    );
                    told += usize::from(exact.abs() > 1e-6);
                }
            }
            assert!(told > 12, "{told} gradients that are not 0");
        }
        // The three are three.
        assert!(
            losses.windows(2).all(|l| (l[0] - l[1]).abs() > 1e-4),
            "{losses:?}"
        );
    }
}

#[test]
fn no_piece_can_be_told_and_gradients_that_are_used_at_once_are_the_same() {
    for value in NETWORKS {
        for per in PER {
            let whole = settings(value, per).resolve().unwrap();
            let (first, gradients) = stepped(&whole);
            for micro_batch_tokens in [1, 6, 11] {
                let settings = Settings {
                    micro_batch_tokens,
                    ..whole.clone()
                };
                let (other, of_pieces) = stepped(&settings);
                let what = format!("{value:?} {per:?} {micro_batch_tokens}");
                assert!((first.loss - other.loss).abs() < 1e-13, "{what}");
                for (a, b) in first.batch.baseline.iter().zip(&other.batch.baseline) {
                    assert!((a - b).abs() < 1e-13, "{what}");
                }
                let flat = |of: &[Vec<Vec<f64>>]| -> Vec<f64> {
                    of.iter().flatten().flatten().copied().collect()
                };
                for (a, b) in flat(&gradients).iter().zip(flat(&of_pieces)) {
                    assert!((a - b).abs() < 1e-12, "{what}: {a} {b}");
                }
            }
            let after = |optimizer_in_backward: bool| -> Vec<f64> {
                let settings = Settings {
                    optimizer_in_backward,
                    clip: 0.0,
                    ..settings(value, per)
                };
                let settings = settings.resolve().unwrap();
                let examples = examples();
                let mut trainer = trainer(&settings, &examples);
                trainer.step(None).unwrap();
                let all = std::iter::once(&trainer.policy).chain(&trainer.value);
                all.flat_map(|l| crate::train::weights(l.model.parameters()))
                    .collect()
            };
            assert_eq!(after(false), after(true), "{value:?} {per:?}");
        }
    }
}

/// A loss with one V for all is that of a constant: V's mean is all that it knows of V.
#[test]
fn every_response_of_a_batch_is_held_against_one_number() {
    let of = |per| {
        let (found, _) = stepped(&settings(ValueNetwork::Separate, per).resolve().unwrap());
        found.batch.baseline
    };
    let (own, one) = (of(ValuePer::Prompt), of(ValuePer::Batch));
    let mean = own.iter().sum::<f64>() / own.len() as f64;
    assert!(own.iter().any(|v| (v - mean).abs() > 1e-3));
    assert_eq!(one.len(), own.len());
    assert!(one.iter().all(|v| (v - mean).abs() < 1e-14));
}

#[test]
fn a_value_that_has_no_use_is_refused_by_name() {
    let error = |settings: Settings| settings.resolve().unwrap_err().to_string();
    for per in [ValuePer::Batch, ValuePer::Token] {
        for objective in ["dpo", "sft", "kto", "reward-model"] {
            let error = error(Settings {
                value_per: per,
                ..settings_of(objective)
            });
            assert!(
                error.contains("value_per") && error.contains("only dro-v"),
                "{error}"
            );
        }
    }
    let alone = |accumulation| Settings {
        batch: 1,
        accumulation,
        ..settings(ValueNetwork::Separate, ValuePer::Batch)
    };
    let error = error(alone(1));
    assert!(
        error.contains("value_per") && error.contains("batch of 2"),
        "{error}"
    );
    assert!(alone(2).resolve().is_ok());
}
