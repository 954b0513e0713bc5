//! The training loop: bugs that trainers really had, each excluded for every objective.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use pistar::llm::internals::tensor::parameters::Parameters;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::{AdvantageScorer, ScalarHead, Scorer};
use pistar::llm::model::sequence::Sequence;
use pistar::llm::text::example::{Beside, Example, Response, Stored};
use pistar::llm::text::objective::TextObjective;
use pistar::llm::train::reference::{Cache, FILE, Reference};
use pistar::llm::train::{Batches, Learner, Model, Settings, TokenReduction, Trainer, precompute};
use pistar::loss::{Column, Given, InputKind, Objective};
use pistar::observer::Silent;
use pistar::random::{Purpose, Stream};

use crate::smoke::tiny;

/// Settings of a short run: three steps over eight examples.
pub fn settings(objective: &str) -> Settings {
    let mut numbers = Given::new();
    for number in Objective::from_name(objective).map_or(&[][..], Objective::numbers) {
        let needed = match number.name {
            "beta" => 0.3,
            "margin" => 2.0,
            "baseline" => 0.3,
            _ => continue,
        };
        numbers = numbers.with(number.name, needed);
    }
    Settings {
        objective: Some(objective.into()),
        numbers,
        lr: Some(0.1),
        steps: Some(3),
        batch: 8,
        ..Settings::default()
    }
}

/// Eight examples of ragged lengths.
pub fn examples(kind: InputKind) -> Vec<Example> {
    let mut stream = Stream::new(5, Purpose::Problem, 0);
    (0..8)
        .map(|row| {
            let count = match kind {
                InputKind::LabelledPairs => 2,
                InputKind::Singles | InputKind::Rated => 1,
                _ => 2 + stream.below(3) as usize,
            };
            let prompt: Vec<u32> = (0..1 + stream.below(3)).map(|_| stream.below(11)).collect();
            let response = |stream: &mut Stream| {
                let mut tokens = prompt.clone();
                tokens.extend((0..1 + stream.below(4)).map(|_| stream.below(11)));
                let reward = match kind {
                    InputKind::Rated => f64::from(row % 2 == 0),
                    _ => stream.uniform(),
                };
                Response::new(Sequence::new(tokens, prompt.len()).unwrap(), reward)
            };
            let responses = (0..count).map(|_| response(&mut stream)).collect();
            Example {
                row,
                responses,
                beside: Beside::default(),
            }
        })
        .collect()
}

/// The same with what the objective reads besides: proposals of ragged numbers.
pub fn examples_of(objective: &TextObjective) -> Vec<Example> {
    let mut all = examples(objective.kind());
    if !objective.reads(Column::Proposals) {
        return all;
    }
    let mut stream = Stream::new(6, Purpose::Problem, 0);
    for example in &mut all {
        let prompt = example.responses[0].sequence.prompt().to_vec();
        let count = 1 + stream.below(3) as usize;
        for _ in 0..count {
            let mut tokens = prompt.clone();
            tokens.extend((0..1 + stream.below(4)).map(|_| stream.below(11)));
            let sequence = Sequence::new(tokens, prompt.len()).unwrap();
            example.responses.push(Response {
                stored: Some(Stored {
                    old: -2.0 * stream.uniform(),
                    reference: -2.0 * stream.uniform(),
                    tokens: None,
                }),
                ..Response::new(sequence, 0.0)
            });
        }
        example.beside.proposals = count;
    }
    all
}

fn decoder(seed: u64, dtype: DType) -> Decoder {
    Decoder::random(tiny(), 0.3, seed, dtype, &Device::Cpu).unwrap()
}

fn scorer(head: ScalarHead, seed: u64) -> Box<dyn Model> {
    let mut decoder = decoder(seed, DType::F64);
    head.add(&mut decoder, seed).unwrap();
    Box::new(Scorer { decoder, head })
}

/// An Advantage Model.
pub fn two_heads(seed: u64) -> AdvantageScorer {
    let mut decoder = decoder(seed, DType::F64);
    ScalarHead::Reward.add(&mut decoder, seed).unwrap();
    ScalarHead::Expected.add(&mut decoder, seed).unwrap();
    AdvantageScorer(decoder)
}

/// A trainer whose policy and reference are random models of those seeds.
pub fn trainer<'a>(
    settings: &'a Settings,
    examples: &'a Vec<Example>,
    seeds: [u64; 2],
) -> Trainer<'a> {
    trainer_of(settings.objective().unwrap(), settings, examples, seeds)
}

/// The same of an objective that need not be registered.
pub fn trainer_of<'a>(
    objective: TextObjective,
    settings: &'a Settings,
    examples: &'a Vec<Example>,
    [policy, reference]: [u64; 2],
) -> Trainer<'a> {
    let reference = if objective.reference() {
        Reference::Live(Box::new(decoder(reference, DType::F64)))
    } else {
        Reference::None
    };
    let policy: Box<dyn Model> = if objective.expects() {
        Box::new(two_heads(policy))
    } else if objective.scores() {
        scorer(ScalarHead::Reward, policy)
    } else {
        Box::new(decoder(policy, DType::F64))
    };
    let value = objective.value().then(|| scorer(ScalarHead::Value, 3));
    let plan = Batches::of(objective, settings, 32, examples).unwrap();
    Trainer::new(settings, plan, policy, value, reference).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    flat.to_vec1().unwrap()
}

pub fn weights(parameters: &Parameters) -> Vec<f64> {
    parameters.iter().flat_map(|p| numbers(&p.tensor)).collect()
}

/// Copies of all tensors of the policy and the value network.
fn tensors(trainer: &Trainer) -> Vec<Tensor> {
    let learners = std::iter::once(&trainer.policy).chain(&trainer.value);
    let parameters = learners.flat_map(|l| l.model.parameters().iter());
    parameters.map(|p| p.tensor.copy().unwrap()).collect()
}

/// The gradient that a learner was left with, 0 where none arrived.
fn gradient(learner: &mut Learner) -> Vec<f64> {
    let each = learner.model.parameters().iter().enumerate();
    let all = each.flat_map(|(i, p)| match learner.gradients.get(i) {
        Some(gradient) => numbers(gradient),
        None => vec![0.0; p.tensor.elem_count()],
    });
    let all = all.collect();
    learner.gradients.clear();
    all
}

/// Loss and gradient of the first step, the value network's after the policy's.
fn first(settings: &Settings, examples: &Vec<Example>, seeds: [u64; 2]) -> (f64, Vec<f64>) {
    let mut trainer = trainer(settings, examples, seeds);
    let loss = trainer.gradient().unwrap().loss;
    let mut all = gradient(&mut trainer.policy);
    if let Some(value) = &mut trainer.value {
        all.extend(gradient(value));
    }
    (loss, all)
}

fn close(a: &[f64], b: &[f64], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let size = a.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-12 * size, "{what}: {a} {b}");
    }
}

fn reductions(objective: &str) -> Vec<Option<TokenReduction>> {
    let objective = settings(objective).objective().unwrap();
    if objective.scores() {
        vec![None]
    } else {
        vec![Some(TokenReduction::Sum), Some(TokenReduction::Mean), None]
    }
}

#[test]
fn weights_and_metrics_do_not_know_the_pieces() {
    for name in TextObjective::names() {
        for token_reduction in reductions(name) {
            let run = |batch, accumulation, micro_batch_tokens| {
                let settings = Settings {
                    token_reduction,
                    batch,
                    accumulation,
                    micro_batch_tokens,
                    // Small steps where the gradient is small: what is compared is not rounding.
                    adam_epsilon: 1.0,
                    ..settings(name)
                }
                .resolve()
                .unwrap();
                let examples = examples_of(&settings.objective().unwrap());
                let mut trainer = trainer(&settings, &examples, [1, 2]);
                for _ in 0..3 {
                    trainer.step(None).unwrap();
                }
                let value = trainer
                    .value
                    .as_ref()
                    .map(|v| weights(v.model.parameters()));
                let metrics: BTreeMap<String, f64> = trainer.state.meter.take();
                (weights(trainer.policy.model.parameters()), value, metrics)
            };
            let one = run(8, 1, usize::MAX);
            for (batch, accumulation, tokens) in [
                (1, 8, usize::MAX),
                (2, 4, 30),
                (4, 2, 12),
                (8, 1, 7),
                (8, 1, 1),
            ] {
                let what = format!("{name} {batch}×{accumulation} {tokens}");
                let other = run(batch, accumulation, tokens);
                close(&one.0, &other.0, &what);
                close(
                    &one.1.clone().unwrap_or_default(),
                    &other.1.unwrap_or_default(),
                    &what,
                );
                assert!(one.2.keys().eq(other.2.keys()), "{what}");
                let metrics = |of: &BTreeMap<String, f64>| of.values().copied().collect::<Vec<_>>();
                close(&metrics(&one.2), &metrics(&other.2), &what);
            }
        }
    }
}

#[test]
fn every_name_has_its_own_gradient() {
    let all: Vec<_> = TextObjective::names()
        .map(|name| {
            let settings = settings(name).resolve().unwrap();
            let objective = settings.objective().unwrap();
            // These seeds give KTO a z₀ that is not 0.
            let found = first(&settings, &examples_of(&objective), [2, 1]);
            (name, objective.kind(), found)
        })
        .collect();
    // The same number with the square completed.
    let same = [["copg", "copg-completed"]];
    for (i, (a, kind, (_, one))) in all.iter().enumerate() {
        assert!(one.iter().any(|g| *g != 0.0), "{a}");
        for (b, _, (_, other)) in all[..i].iter().filter(|(_, k, _)| k == kind) {
            let size = one.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            let differs = (one.len() != other.len())
                || (one.iter().zip(other)).any(|(a, b)| (a - b).abs() > 1e-3 * size);
            assert_eq!(differs, !same.contains(&[*b, *a]), "{b} {a}");
        }
    }
}

/// What each loss is where every log-ratio is 0, if that does not depend on the data; β = 0.3.
fn at_the_reference(name: &str) -> Option<f64> {
    let beta: f64 = 0.3;
    match name {
        "dpo" => Some(2f64.ln()),
        "ipo" => Some((0.5 / beta).powi(2)),
        "ipo-copg" => Some(0.25),
        "ipo-gpo" | "slic" => Some(1.0),
        "copg" | "copg-completed" => Some(0.0),
        "kto" | "kto-no-kl" => Some(0.5),
        _ => None,
    }
}

#[test]
fn at_the_first_step_every_log_ratio_is_zero() {
    for name in TextObjective::names() {
        for token_reduction in [TokenReduction::Sum, TokenReduction::Mean] {
            for micro_batch_tokens in [usize::MAX, 20, 1] {
                let settings = Settings {
                    micro_batch_tokens,
                    ..settings(name)
                };
                let objective = settings.objective().unwrap();
                if !objective.reference() {
                    continue;
                }
                let settings = Settings {
                    token_reduction: Some(token_reduction),
                    ..settings
                };
                let examples = examples_of(&objective);
                let live = Reference::Live(Box::new(decoder(1, DType::F32)));
                let dir = tempfile::tempdir().unwrap();
                let mut cache = Cache::new("the same".into(), &dir.path().join(FILE));
                let plan = || Batches::new(&settings, 32, &examples).unwrap();
                precompute(&plan(), &decoder(1, DType::F32), &mut cache, &Silent).unwrap();
                for reference in [live, Reference::Cached(cache)] {
                    let policy = Box::new(decoder(1, DType::F32));
                    let value = objective.value().then(|| scorer(ScalarHead::Value, 3));
                    let mut trainer =
                        Trainer::new(&settings, plan(), policy, value, reference).unwrap();
                    let step = trainer.gradient().unwrap();
                    assert_eq!(step.batch.log_policy, step.batch.log_reference, "{name}");
                    assert!(step.batch.log_policy[0].iter().all(|l| *l < 0.0), "{name}");
                    if let Some(loss) = at_the_reference(name) {
                        assert!((step.loss - loss).abs() < 1e-15, "{name}: {}", step.loss);
                    }
                    if name == "dpo" {
                        assert_eq!(step.loss, 2f64.ln());
                    }
                }
            }
        }
    }
}

#[test]
fn token_reduction_is_of_policy_and_reference_alike() {
    for name in TextObjective::names() {
        let sums = settings(name);
        let objective = sums.objective().unwrap();
        if !objective.reference() {
            continue;
        }
        let means = Settings {
            token_reduction: Some(TokenReduction::Mean),
            ..sums.clone()
        };
        let examples = examples_of(&objective);
        let sums = trainer(&sums, &examples, [1, 2]).gradient().unwrap();
        let means = trainer(&means, &examples, [1, 2]).gradient().unwrap();
        for (place, slots) in sums.text.slots.iter().enumerate() {
            for (i, &slot) in slots.iter().enumerate() {
                let count = sums.text.sequences[slot as usize].completion().len() as f64;
                for of in [0, 1] {
                    let number = |batch: &pistar::loss::Batch| {
                        [&batch.log_policy, &batch.log_reference][of][place][i]
                    };
                    let (sum, mean) = (number(&sums.batch), number(&means.batch));
                    assert!((sum / count - mean).abs() < 1e-13, "{name}");
                }
            }
        }
    }
}

#[test]
fn sft_is_the_mean_over_the_tokens_of_the_step() {
    let settings = settings("sft").resolve().unwrap();
    assert_eq!(settings.token_reduction, Some(TokenReduction::Batch));
    let examples = examples(InputKind::Lists);
    let best: Vec<&Sequence> = (examples.iter())
        .map(|e| &e.responses.last().unwrap().sequence)
        .collect();
    let sums = decoder(1, DType::F64).sums(&best).unwrap();
    let tokens: usize = best.iter().map(|s| s.completion().len()).sum();
    let loss = trainer(&settings, &examples, [1, 2])
        .gradient()
        .unwrap()
        .loss;
    assert!((loss + sums.iter().sum::<f64>() / tokens as f64).abs() < 1e-13);
}

#[test]
fn another_example_adds_its_own_gradient_and_nothing_else() {
    for name in TextObjective::names() {
        let settings = settings(name);
        let objective = settings.objective().unwrap();
        // Those two couple the examples of a batch by definition: by z₀, and by their tokens.
        if objective.anchored() || objective.token_reduction() == TokenReduction::Batch {
            continue;
        }
        let all = examples_of(&objective);
        let (seven, last) = (all[..7].to_vec(), all[7..].to_vec());
        let settings = Settings {
            shuffle: false,
            ..settings
        };
        let of = |examples: &Vec<Example>| {
            let settings = Settings {
                batch: examples.len(),
                ..settings.clone()
            };
            first(&settings, examples, [1, 2])
        };
        let (whole, seven, last) = (of(&all), of(&seven), of(&last));
        let sum = |a: f64, b: f64| (7.0 * a + b) / 8.0;
        assert!((whole.0 - sum(seven.0, last.0)).abs() < 1e-12, "{name}");
        let sums: Vec<f64> = (seven.1.iter().zip(&last.1))
            .map(|(a, b)| sum(*a, *b))
            .collect();
        close(&whole.1, &sums, name);
    }
}

#[test]
fn pairs_know_which_response_is_which_and_only_that() {
    for name in TextObjective::names() {
        let settings = settings(name);
        let objective = settings.objective().unwrap();
        let pairs = [InputKind::ScoredPairs, InputKind::LabelledPairs];
        if !pairs.contains(&objective.kind()) {
            continue;
        }
        let examples = examples_of(&objective);
        let mut swapped = examples.clone();
        for example in &mut swapped {
            let compared = example.responses.len() - example.beside.proposals;
            example.responses[..compared].reverse();
        }
        let (a, b) = (
            first(&settings, &examples, [1, 2]),
            first(&settings, &swapped, [1, 2]),
        );
        if objective.kind() == InputKind::ScoredPairs {
            assert!((a.0 - b.0).abs() < 1e-12, "{name}");
            close(&a.1, &b.1, name);
            continue;
        }
        assert!((a.0 - b.0).abs() > 1e-3, "{name}");
        if objective.reference() {
            // At the reference, a preference one way is the opposite of the other.
            let (a, b) = (
                first(&settings, &examples, [1, 1]),
                first(&settings, &swapped, [1, 1]),
            );
            let negated: Vec<f64> = b.1.iter().map(|g| -g).collect();
            close(&a.1, &negated, name);
        }
    }
}

#[test]
fn a_reward_of_zero_is_a_reward() {
    // Contrasts see differences of rewards only: 0 must count like any other number.
    for name in [
        "copg",
        "copg-completed",
        "copg-squared",
        "rloo",
        "dro-v-eliminated",
    ] {
        let settings = settings(name);
        let kind = settings.objective().unwrap().kind();
        let mut examples = examples(kind);
        for (i, response) in (examples.iter_mut())
            .flat_map(|e| &mut e.responses)
            .enumerate()
        {
            response.reward = f64::from(i as u32 % 2);
        }
        let mut shifted = examples.clone();
        let responses = shifted.iter_mut().flat_map(|e| &mut e.responses);
        responses.for_each(|r| r.reward += 5.0);
        let (a, b) = (
            first(&settings, &examples, [1, 2]),
            first(&settings, &shifted, [1, 2]),
        );
        close(&a.1, &b.1, name);
    }
    // A baseline b is a reward that is b less: at reward 0, the gradient is that of −b.
    let mut examples = examples(InputKind::Singles);
    examples
        .iter_mut()
        .for_each(|e| e.responses[0].reward = 0.0);
    let with_baseline = first(&settings("pg"), &examples, [1, 2]);
    examples
        .iter_mut()
        .for_each(|e| e.responses[0].reward = -0.3);
    let without = first(&settings("pg-zero"), &examples, [1, 2]);
    close(&with_baseline.1, &without.1, "pg");
}

#[test]
fn kto_weighs_its_examples_and_holds_an_estimate_of_the_divergence_against_them() {
    let settings = Settings {
        shuffle: false,
        ..settings("kto")
    };
    let examples = examples(InputKind::Rated);
    let step = trainer(&settings, &examples, [2, 1]).gradient().unwrap();
    let sequence = |i: usize| &examples[i % 8].responses[0].sequence;
    let mismatched: Vec<Sequence> = (0..8)
        .map(|i| {
            let tokens = [sequence(i).prompt(), sequence(i + 1).completion()].concat();
            Sequence::new(tokens, sequence(i).prompt().len()).unwrap()
        })
        .collect();
    let all: Vec<&Sequence> = mismatched.iter().collect();
    let sums = |seed| decoder(seed, DType::F64).sums(&all).unwrap();
    let mean = (sums(2).iter().zip(sums(1)))
        .map(|(p, r)| p - r)
        .sum::<f64>()
        / 8.0;
    assert!(mean > 0.1, "the example shows nothing: {mean}");
    assert!(step.batch.baseline.iter().all(|z| (z - mean).abs() < 1e-12));
    // The other way round it is negative, and held at 0.
    let other = trainer(&settings, &examples, [1, 2]).gradient().unwrap();
    assert!(other.batch.baseline.iter().all(|z| *z == 0.0));

    let weighted = Settings {
        numbers: (settings.numbers.clone())
            .with("desirable_weight", 2.0)
            .with("undesirable_weight", 0.5),
        ..settings.clone()
    };
    // Each example's loss is between 0 and its weight: what the weights do shows in the sum.
    let one = trainer(&settings, &examples, [1, 2]).gradient().unwrap();
    let step = trainer(&weighted, &examples, [1, 2]).gradient().unwrap();
    let kto = settings.objective().unwrap();
    let mut wanted = 0.0;
    for (weight, only) in [(2.0, 1.0), (0.5, 0.0)] {
        let mut batch = one.batch.clone();
        let those = batch.weight.iter_mut().zip(&batch.desirable);
        those.for_each(|(w, &d)| *w *= if d == only { weight } else { 0.0 });
        wanted += kto.cotangents(&batch).unwrap().value;
    }
    assert!((step.loss - wanted).abs() < 1e-12, "{} {wanted}", step.loss);
    assert!((step.loss - one.loss).abs() > 1e-3);

    for batch in [1, 7] {
        let alone = Settings {
            batch,
            ..settings.clone()
        };
        let error = Batches::new(&alone, 32, &examples)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("batch") && error.contains("without z₀"),
            "{error}"
        );
        let whole = Settings {
            drop_last: true,
            ..alone
        };
        assert_eq!(Batches::new(&whole, 32, &examples).is_ok(), batch == 7);
    }
}

#[test]
fn a_learning_rate_of_zero_changes_nothing_and_decay_only_matrices() {
    for name in TextObjective::names() {
        let run = |lr, weight_decay| {
            let settings = Settings {
                lr: Some(lr),
                weight_decay,
                ..settings(name)
            }
            .resolve()
            .unwrap();
            let examples = examples_of(&settings.objective().unwrap());
            let mut trainer = trainer(&settings, &examples, [1, 2]);
            let before = tensors(&trainer);
            trainer.step(None).unwrap();
            let after = tensors(&trainer);
            (before, after)
        };
        let (before, after) = run(0.0, 0.5);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(numbers(before), numbers(after), "{name}");
        }
        let (before, plain) = run(0.1, 0.0);
        let (_, decayed) = run(0.1, 0.5);
        for ((before, plain), decayed) in before.iter().zip(&plain).zip(&decayed) {
            // The output head of a network of scores gets no gradient, and so no step.
            if before.dims().len() < 2 || numbers(plain) == numbers(before) {
                assert_eq!(numbers(plain), numbers(decayed), "{name}");
                continue;
            }
            let each = numbers(before).into_iter().zip(numbers(plain));
            for ((before, plain), decayed) in each.zip(numbers(decayed)) {
                assert!(
                    (plain - decayed - 0.1 * 0.5 * before).abs() < 1e-15,
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_step_that_is_not_finite_is_not_taken() {
    for name in TextObjective::names() {
        let settings = settings(name).resolve().unwrap();
        let examples = examples_of(&settings.objective().unwrap());
        let mut trainer = trainer(&settings, &examples, [1, 2]);
        let embedding = &trainer
            .policy
            .model
            .parameters()
            .iter()
            .next()
            .unwrap()
            .tensor;
        let row = Tensor::full(f64::INFINITY, (1, embedding.dims()[1]), &Device::Cpu).unwrap();
        embedding.slice_set(&row, 0, 3).unwrap();
        let before = weights(trainer.policy.model.parameters());
        let value = |t: &Trainer| t.value.as_ref().map(|v| weights(v.model.parameters()));
        let value_before = value(&trainer);
        let error = trainer.step(None).err().unwrap().to_string();
        assert!(error.contains("step 1: the loss is NaN"), "{name}: {error}");
        // Which were broken before it.
        assert!(
            error.contains("made model.embed_tokens.weight not finite"),
            "{error}"
        );
        assert_eq!(weights(trainer.policy.model.parameters()), before, "{name}");
        assert_eq!(value(&trainer), value_before, "{name}");
        assert_eq!(trainer.state.steps, 0);
    }
}

#[test]
fn what_cannot_be_trained_on_text_is_refused_by_name() {
    let error = |settings: Settings| settings.resolve().unwrap_err().to_string();
    for name in [
        "pg-value",
        "dro-constant",
        "kto-per-prompt",
        "advantage-model-centred",
    ] {
        let error = error(settings(name));
        assert!(
            error.contains(name) && error.contains("cannot be trained on text"),
            "{error}"
        );
        assert!(error.contains("use one of copg, copg-completed"), "{error}");
    }
    assert!(error(settings("dop")).contains("`dop` is not known"));
    assert!(error(Settings::default()).contains("objective: it is missing"));
    let base = || settings("dpo");
    for (place, bad) in [
        (
            "beta",
            Settings {
                numbers: 0.0.into(),
                ..base()
            },
        ),
        (
            "beta",
            Settings {
                numbers: f64::NAN.into(),
                ..base()
            },
        ),
        (
            "margin",
            Settings {
                numbers: Given::new().with("margin", 1.0),
                ..base()
            },
        ),
        (
            "baseline",
            Settings {
                numbers: Given::new().with("baseline", 1.0),
                ..base()
            },
        ),
        (
            "margin",
            Settings {
                numbers: Given::new(),
                ..settings("advantage-model-distinct")
            },
        ),
        (
            "baseline",
            Settings {
                numbers: Given::new(),
                ..settings("pg")
            },
        ),
        (
            "desirable_weight",
            Settings {
                numbers: Given::new().with("desirable_weight", 2.0),
                ..base()
            },
        ),
        (
            "token_reduction",
            Settings {
                token_reduction: Some(TokenReduction::Batch),
                ..base()
            },
        ),
        (
            "lr",
            Settings {
                lr: Some(-1.0),
                ..base()
            },
        ),
        (
            "clip",
            Settings {
                clip: f64::INFINITY,
                ..base()
            },
        ),
        (
            "epochs",
            Settings {
                epochs: 0.0,
                ..base()
            },
        ),
        (
            "steps",
            Settings {
                steps: Some(0),
                ..base()
            },
        ),
        ("batch", Settings { batch: 0, ..base() }),
        (
            "accumulation",
            Settings {
                accumulation: 0,
                ..base()
            },
        ),
        (
            "micro_batch_tokens",
            Settings {
                micro_batch_tokens: 0,
                ..base()
            },
        ),
        (
            "log_every",
            Settings {
                log_every: 0,
                ..base()
            },
        ),
        (
            "warmup",
            Settings {
                warmup: 1.5,
                ..base()
            },
        ),
        (
            "value_lr",
            Settings {
                value_lr: Some(0.1),
                ..base()
            },
        ),
        (
            "lora_alpha",
            Settings {
                lora_alpha: Some(4.0),
                ..base()
            },
        ),
    ] {
        let error = error(bad);
        assert!(error.starts_with(place), "{place}: {error}");
    }
}

#[test]
fn metrics_are_what_their_names_say() {
    let metrics = |name: &str, examples: &Vec<Example>| {
        let settings = Settings {
            shuffle: false,
            ..settings(name)
        };
        let mut trainer = trainer(&settings, examples, [1, 2]);
        let step = trainer.step(None).unwrap();
        let metrics = trainer.state.meter.take();
        assert!((metrics["loss"] - step.loss).abs() < 1e-15 && metrics["grad_norm"] == step.norm);
        metrics
    };
    let sum = |seed: u64, example: &Example, index: usize| {
        let sequence = &example.responses[index].sequence;
        decoder(seed, DType::F64).sums(&[sequence]).unwrap()[0]
    };
    let reward = |e: &Example, index: usize| 0.3 * (sum(1, e, index) - sum(2, e, index));
    let mean = |of: &dyn Fn(&Example) -> f64, examples: &[Example]| {
        examples.iter().map(of).sum::<f64>() / examples.len() as f64
    };
    // Which response is chosen, and which rejected.
    type Pick = fn(&Example) -> [usize; 2];
    let greater: Pick = |e| {
        if e.responses[0].reward >= e.responses[1].reward {
            [0, 1]
        } else {
            [1, 0]
        }
    };
    let cases: [(&str, InputKind, Pick); 3] = [
        ("dpo", InputKind::LabelledPairs, |_| [0, 1]),
        ("copg", InputKind::LabelledPairs, greater),
        ("copr", InputKind::Lists, |e| [e.responses.len() - 1, 0]),
    ];
    for (name, kind, pick) in cases {
        let examples = examples(kind);
        let metrics = metrics(name, &examples);
        let of = |which: usize| mean(&|e| reward(e, pick(e)[which]), &examples);
        let logps = |which: usize| mean(&|e| sum(1, e, pick(e)[which]), &examples);
        let wins = |e: &Example| f64::from(reward(e, pick(e)[0]) > reward(e, pick(e)[1]));
        for (metric, value) in [
            ("rewards/chosen", of(0)),
            ("rewards/rejected", of(1)),
            ("rewards/margins", of(0) - of(1)),
            ("rewards/accuracies", mean(&wins, &examples)),
            ("logps/chosen", logps(0)),
            ("logps/rejected", logps(1)),
        ] {
            let own = metrics[metric];
            assert!(
                (own - value).abs() < 1e-12,
                "{name} {metric}: {own} {value}"
            );
        }
    }
    let rated = examples(InputKind::Rated);
    let metrics = metrics("kto", &rated);
    let (good, bad): (Vec<_>, Vec<_>) = rated
        .iter()
        .cloned()
        .partition(|e| e.responses[0].reward == 1.0);
    assert!((metrics["rewards/chosen"] - mean(&|e| reward(e, 0), &good)).abs() < 1e-12);
    assert!((metrics["rewards/rejected"] - mean(&|e| reward(e, 0), &bad)).abs() < 1e-12);
    assert!((metrics["log_ratio"] - mean(&|e| reward(e, 0) / 0.3, &rated)).abs() < 1e-12);
}
