//! The Advantage Model with two heads: loss and gradient are those of eq. 6 to 8, and what it is saved as scores so.

mod fixed_point;
mod runs;

use pistar::llm::internals::model::inference::numbers;
use pistar::llm::model::heads::{AdvantageScorer, ScalarHead, Scorer};
use pistar::llm::model::network::Reduction;
use pistar::llm::model::sequence::Sequence;
use pistar::llm::text::example::Example;
use pistar::llm::train::Settings;
use pistar::loss::Given;

use crate::train::{examples_of, settings as settings_of, trainer, two_heads};

const NAME: &str = "advantage-model";
const MARGIN: f64 = 1.4;
const COEFFICIENT: f64 = 0.7;

/// The numbers that are varied here.
#[derive(Debug, Clone, Copy)]
struct Case {
    policy_weight: f64,
    through_scores: f64,
    through_expected: f64,
    ratio_cap: f64,
}

const CASES: [Case; 4] = [
    Case {
        policy_weight: 1.0,
        through_scores: 1.0,
        through_expected: 0.0,
        ratio_cap: f64::INFINITY,
    },
    Case {
        policy_weight: 2.5,
        through_scores: 0.3,
        through_expected: 0.6,
        ratio_cap: 1.2,
    },
    Case {
        policy_weight: f64::INFINITY,
        through_scores: 1.0,
        through_expected: 0.5,
        ratio_cap: f64::INFINITY,
    },
    Case {
        policy_weight: 0.0,
        through_scores: 1.0,
        through_expected: 1.0,
        ratio_cap: f64::INFINITY,
    },
];

fn settings(case: Case, micro_batch_tokens: usize) -> Settings {
    let numbers = Given::new()
        .with("margin", MARGIN)
        .with("expected_coefficient", COEFFICIENT)
        .with("policy_weight", case.policy_weight)
        .with("through_scores", case.through_scores)
        .with("through_expected", case.through_expected)
        .with("ratio_cap", case.ratio_cap);
    let settings = Settings {
        numbers,
        micro_batch_tokens,
        ..settings_of(NAME)
    };
    settings.resolve().unwrap()
}

fn examples(settings: &Settings) -> Vec<Example> {
    examples_of(&settings.objective().unwrap())
}

/// A way to get the definition wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// None.
    Right,
    /// The ratio is π′/π_φ.
    UpsideDown,
    /// e is read at the last token of the preferred response.
    EndOfResponse,
    /// e is added.
    Sign,
    /// The sum reads the scored response, as eq. 8 is printed.
    Printed,
    /// e has the weight of the proposals, and they that of e.
    Weights,
}

/// r of all responses and e of the prompt, of one example.
struct Read {
    scores: Vec<f64>,
    expected: f64,
}

fn read(model: &AdvantageScorer, example: &Example, fault: Fault) -> Read {
    let alone = |head: ScalarHead, sequence: &Sequence| {
        let decoder = model.0.copy().unwrap();
        let network = Scorer { decoder, head };
        let sequences = [sequence.clone()];
        numbers(&network, Reduction::Sum, &sequences, usize::MAX)
            .unwrap()
            .sequences[0]
    };
    let first = &example.responses[0].sequence;
    let asked = match fault {
        // What follows the prompt is not read.
        Fault::EndOfResponse => {
            let tokens = [first.tokens(), &[0]].concat();
            Sequence::new(tokens, first.tokens().len()).unwrap()
        }
        _ => first.clone(),
    };
    Read {
        scores: (example.responses.iter())
            .map(|r| alone(ScalarHead::Reward, &r.sequence))
            .collect(),
        expected: alone(ScalarHead::Expected, &asked),
    }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The loss of an example by its definition; what is detached is taken from `held`.
fn loss(case: Case, example: &Example, now: &Read, held: &Read, fault: Fault) -> f64 {
    let proposals = &example.responses[2..];
    let k = proposals.len() as f64;
    let ratios: Vec<f64> = proposals
        .iter()
        .map(|p| {
            let stored = p.stored.as_ref().unwrap();
            let log = stored.reference - stored.old;
            let ratio = if fault == Fault::UpsideDown {
                (-log).exp()
            } else {
                log.exp()
            };
            ratio.min(case.ratio_cap)
        })
        .collect();
    let sum = |read: &Read, own: f64| -> f64 {
        let scores = read.scores[2..].iter();
        (ratios.iter().zip(scores))
            .map(|(ratio, r)| ratio * if fault == Fault::Printed { own } else { *r })
            .sum()
    };
    let (mut of_policy, mut of_each) = if case.policy_weight.is_infinite() {
        (1.0, 0.0)
    } else {
        let n = case.policy_weight + k;
        (case.policy_weight / n, 1.0 / n)
    };
    if fault == Fault::Weights {
        (of_policy, of_each) = (of_each * k, of_policy / k);
    }
    let sign = if fault == Fault::Sign { -1.0 } else { 1.0 };
    let a = |i: usize| {
        let mean = sign * of_policy * held.expected + of_each * sum(held, held.scores[i]);
        let by_scores = (sum(now, now.scores[i]) - sum(held, held.scores[i])) / k;
        let by_expected = of_policy * (now.expected - held.expected);
        now.scores[i]
            - (mean + case.through_scores * by_scores + case.through_expected * by_expected)
    };
    let errors = ratios.iter().zip(&held.scores[2..]);
    let errors: f64 = errors
        .map(|(ratio, r)| ratio * (now.expected - r).powi(2))
        .sum();
    softplus(a(1) - a(0))
        + softplus(a(0) - MARGIN)
        + softplus(-MARGIN - a(1))
        + 0.5 * COEFFICIENT * errors / k
}

fn mean(case: Case, examples: &[Example], now: &[Read], held: &[Read], fault: Fault) -> f64 {
    let each = examples.iter().zip(now).zip(held);
    each.map(|((example, now), held)| loss(case, example, now, held, fault))
        .sum::<f64>()
        / examples.len() as f64
}

fn read_all(model: &AdvantageScorer, examples: &[Example], fault: Fault) -> Vec<Read> {
    examples.iter().map(|e| read(model, e, fault)).collect()
}

/// Both heads and the body get the slope of the loss, however it is run.
#[test]
fn loss_and_gradient_are_those_of_the_definition() {
    const STEP: f64 = 1e-5;
    for case in CASES {
        for micro_batch in [usize::MAX, 20, 1] {
            let settings = settings(case, micro_batch);
            let examples = examples(&settings);
            let mut trainer = trainer(&settings, &examples, [1, 2]);
            let held = read_all(&two_heads(1), &examples, Fault::Right);
            let found = trainer.gradient().unwrap();
            let want = mean(case, &examples, &held, &held, Fault::Right);
            assert!(
                (found.loss - want).abs() < 1e-12,
                "{case:?} {micro_batch}: {} {want}",
                found.loss
            );
            if micro_batch == 1 {
                continue;
            }
            let learner = &trainer.policy;
            let mut heads = 0;
            for (leaf, parameter) in learner.model.parameters().iter().enumerate() {
                let Some(gradient) = learner.gradients.get(leaf) else {
                    // Scores are not read off it.
                    assert_eq!(parameter.name, "lm_head.weight");
                    continue;
                };
                let gradient: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
                // Of a head all entries matter, of a matrix one in a row of them.
                let entry = (7 * leaf + 3) % gradient.len();
                let moved = |by: f64| {
                    let model = two_heads(1);
                    let own = model.0.parameters().iter().nth(leaf).unwrap();
                    let mut numbers: Vec<f64> =
                        own.tensor.flatten_all().unwrap().to_vec1().unwrap();
                    numbers[entry] += by;
                    let shape = own.tensor.shape().clone();
                    let device = own.tensor.device();
                    let set = candle_core::Tensor::from_vec(numbers, shape, device).unwrap();
                    own.tensor.slice_set(&set, 0, 0).unwrap();
                    let now = read_all(&model, &examples, Fault::Right);
                    mean(case, &examples, &now, &held, Fault::Right)
                };
                let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                assert!(
                    (gradient[entry] - slope).abs() < 1e-7 * (1.0 + slope.abs()),
                    "{case:?} {}: {} {slope}",
                    parameter.name,
                    gradient[entry]
                );
                heads += usize::from(parameter.name.contains("expected") && slope.abs() > 1e-3);
                heads += usize::from(parameter.name.contains("score") && slope.abs() > 1e-3);
            }
            assert!(heads >= 2, "{case:?}: the heads have slopes");
        }
    }
}

/// The examples tell the definition from each way to get it wrong, where that changes anything.
#[test]
fn faults_are_caught() {
    for case in CASES {
        let settings = settings(case, usize::MAX);
        let examples = examples(&settings);
        let found = trainer(&settings, &examples, [1, 2])
            .gradient()
            .unwrap()
            .loss;
        let apart = |fault: Fault| {
            let read = read_all(&two_heads(1), &examples, fault);
            (found - mean(case, &examples, &read, &read, fault)).abs()
        };
        assert!(apart(Fault::Right) < 1e-12);
        // What is right is apart by rounding only.
        for fault in [Fault::UpsideDown, Fault::EndOfResponse] {
            assert!(apart(fault) > 1e-6, "{case:?} {fault:?}: {}", apart(fault));
        }
        // Where e, or the proposals, have no weight, what they are does not matter.
        for (fault, matters) in [
            (Fault::Sign, case.policy_weight > 0.0),
            (Fault::Printed, case.policy_weight.is_finite()),
            (Fault::Weights, true),
        ] {
            assert_eq!(
                apart(fault) > 1e-6,
                matters,
                "{case:?} {fault:?}: {}",
                apart(fault)
            );
        }
    }
}
