//! What a step learns from and is bound by beside its objective: shares, constraints, projections, teachers, penalties.

use candle_core::{DType, Device, Tensor};
use pistar::continual::Weights;
use pistar::continual::hooks::{Pull, Vectors};
use pistar::llm::continual::estimate;
use pistar::llm::model::decoder::{Decoder, Distance};
use pistar::llm::model::sequence::{Packed, Sequence};
use pistar::llm::text::example::{Example, Stored};
use pistar::llm::text::objective::TextObjective;
use pistar::llm::train::reference::Reference;
use pistar::llm::train::{
    Ascent, Batches, Distillation, Hook, Learner, Leaves, Lesson, Part, Predicted, Role, Settings,
    Share, Teaching, TokenReduction, Trainer,
};
use pistar::loss::{Given, InputKind};
use pistar::observer::Silent;

use crate::smoke::tiny;
use crate::train::{examples, settings, weights};

fn model(seed: u64) -> Decoder {
    Decoder::random(tiny(), 0.3, seed, DType::F64, &Device::Cpu).unwrap()
}

/// Lists with ranks for rewards, as COPR takes them, and numbers of another policy stored with them.
fn lists(stored: bool) -> Vec<Example> {
    let mut all = examples(InputKind::Lists);
    if stored {
        let other = model(9);
        for response in all.iter_mut().flat_map(|e| &mut e.responses) {
            response.stored = Some(Stored {
                old: 0.0,
                reference: other.sums(&[&response.sequence]).unwrap()[0],
                tokens: None,
            });
        }
    }
    all
}

fn objective(name: &str) -> TextObjective {
    let given = match name {
        "sft" => Given::new(),
        _ => Given::new().with("beta", 0.3),
    };
    TextObjective::new(name, &given, Some(TokenReduction::Sum)).unwrap()
}

fn settings_of(name: &str) -> Settings {
    let settings = Settings {
        token_reduction: Some(TokenReduction::Sum),
        batch: 4,
        micro_batch_tokens: 30,
        clip: 0.0,
        ..settings(name)
    };
    settings.resolve().unwrap()
}

fn trainer<'a>(settings: &'a Settings, rows: &'a Vec<Example>, lesson: Lesson<'a>) -> Trainer<'a> {
    let reference = Reference::Live(Box::new(model(1)));
    held_against(reference, settings, rows, lesson)
}

fn held_against<'a>(
    reference: Reference,
    settings: &'a Settings,
    rows: &'a Vec<Example>,
    lesson: Lesson<'a>,
) -> Trainer<'a> {
    let objective = objective(settings.objective.as_deref().unwrap());
    let plan = Batches::of(objective, settings, 32, rows);
    Trainer::new(settings, plan.unwrap(), Box::new(model(2)), None, reference)
        .unwrap()
        .beside_which(lesson)
}

fn flat(learner: &Learner) -> Vec<f64> {
    let all = Leaves::gradients(learner.model.parameters(), &learner.gradients).unwrap();
    let one = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    all.0.iter().flat_map(one).collect()
}

/// The gradient of the first step.
fn gradient(settings: &Settings, rows: &Vec<Example>, lesson: Lesson) -> Vec<f64> {
    let mut trainer = trainer(settings, rows, lesson);
    trainer.gradient().unwrap();
    flat(&trainer.policy)
}

fn share<'a>(
    name: &str,
    settings: &Settings,
    rows: &'a Vec<Example>,
    batch: usize,
    role: Role,
) -> Share<'a> {
    let part = Part {
        settings,
        context: 32,
        batch,
    };
    Share::new("old", objective(name), rows, part, role).unwrap()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    let size = b.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    worst.fold(0.0, f64::max) / size
}

fn mixed(parts: &[(f64, &[f64])]) -> Vec<f64> {
    (0..parts[0].1.len())
        .map(|k| parts.iter().map(|(w, g)| w * g[k]).sum())
        .collect()
}

/// `(g + λ g′)/(1 + λ)`, where the old share has the references that were stored with it, and the thresholds are its
/// losses over all rows before the first step.
#[test]
fn a_constraint_weighs_its_gradient_by_its_multiplier() {
    let (settings, rows, old) = (settings_of("copr"), lists(false), lists(true));
    let lesson = |role, start| Lesson {
        shares: vec![share("copr", &settings, &old, 4, role)],
        ascent: Ascent {
            start,
            rate: 2.0,
            cap: 50.0,
            decay: 0.0,
            from_zero: false,
        },
        ..Lesson::default()
    };
    let own = gradient(&settings, &rows, Lesson::default());
    let theirs = gradient(&settings, &old, Lesson::default());
    // Their stored numbers, and not the run's reference, which the batch of a run without them has.
    let added = Role::Added { weight: 0.7 };
    let sum = gradient(&settings, &rows, lesson(added, 1.0));
    let of_share: Vec<f64> = sum.iter().zip(&own).map(|(s, o)| (s - o) / 0.7).collect();
    assert!(apart(&of_share, &theirs) > 1e-2, "the run's reference");
    let mut stored = held_against(Reference::Stored(None), &settings, &old, Lesson::default());
    stored.gradient().unwrap();
    let theirs = flat(&stored.policy);
    assert!(apart(&of_share, &theirs) < 1e-9);
    for lambda in [0.5, 3.0] {
        let found = gradient(&settings, &rows, lesson(Role::Bounded, lambda));
        let scale = 1.0 / (1.0 + lambda);
        let wanted = mixed(&[(scale, &own), (lambda * scale, &theirs)]);
        assert!(apart(&found, &wanted) < 1e-9);
        for wrong in [mixed(&[(1.0, &own), (lambda, &theirs)]), own.clone()] {
            assert!(apart(&found, &wrong) > 1e-2);
        }
    }
    let mut trainer = trainer(&settings, &rows, lesson(Role::Bounded, 0.5));
    let mut lambda = 0.5;
    for step in 0..3 {
        trainer.step(None).unwrap();
        let constraints = trainer.state.constraints.clone().unwrap();
        let metrics = trainer.state.meter.take();
        if step == 0 {
            // Eight rows in two batches of four, at the weights before the first step.
            let halves = [0, 1].map(|done| {
                let plan = &share("copr", &settings, &old, 4, Role::Bounded).plan;
                let (text, _) = plan.batch(done).unwrap();
                loss_of(
                    &text.sequences,
                    &text.log_reference,
                    &text.sizes,
                    &text.reward[0],
                )
            });
            let mean = (halves[0] + halves[1]) / 2.0;
            assert!((constraints.thresholds[0] - mean).abs() < 1e-9, "{mean}");
        }
        assert!((metrics["old/multiplier"] - lambda).abs() < 1e-12);
        lambda *= (2.0 * lambda * metrics["old/constraint"]).exp();
        assert!((constraints.multipliers[0] - lambda).abs() < 1e-9);
    }
    assert!((lambda - 0.5).abs() > 1e-3, "it moves");
}

/// The mean of KL(P_θ‖P*) over lists, by hand, of the policy that runs start from; β = 0.3.
fn loss_of(sequences: &[Sequence], reference: &[f64], sizes: &[usize], advantage: &[f64]) -> f64 {
    let policy = model(2);
    let log: Vec<f64> = sequences
        .iter()
        .map(|s| policy.sums(&[s]).unwrap()[0])
        .collect();
    let normal = |all: &[f64]| -> Vec<f64> {
        let total: f64 = all.iter().map(|x| x.exp()).sum();
        all.iter().map(|x| x - total.ln()).collect()
    };
    let (mut first, mut sum) = (0, 0.0);
    for &size in sizes {
        let here = first..first + size;
        first = here.end;
        let p = normal(&log[here.clone()]);
        let tilted = here.map(|i| reference[i] + advantage[i] / 0.3);
        let q = normal(&tilted.collect::<Vec<_>>());
        sum += p
            .iter()
            .zip(&q)
            .map(|(p, q)| p.exp() * (p - q))
            .sum::<f64>();
    }
    sum / sizes.len() as f64
}

/// A-GEM: the nearest gradient along which the memory's loss does not rise.
#[test]
fn a_step_against_the_memory_is_projected_and_another_is_not() {
    let (settings, rows) = (settings_of("sft"), lists(false));
    let own = gradient(&settings, &rows, Lesson::default());
    let mut turned = 0;
    for seed in 0..6 {
        // Other responses as the best ones.
        let mut old = lists(false);
        for example in &mut old {
            let count = example.responses.len();
            example.responses.rotate_left((1 + seed) % count);
            if seed > 2 {
                let sequence = &mut example.responses.last_mut().unwrap().sequence;
                let mut tokens = sequence.tokens().to_vec();
                tokens.iter_mut().for_each(|t| *t = (*t + seed as u32) % 11);
                *sequence = Sequence::new(tokens, sequence.prompt().len()).unwrap();
            }
        }
        let theirs = gradient(&settings, &old, Lesson::default());
        let along: f64 = own.iter().zip(&theirs).map(|(a, b)| a * b).sum();
        let square: f64 = theirs.iter().map(|g| g * g).sum();
        let memory = share("sft", &settings, &old, 4, Role::Projected);
        let found = gradient(
            &settings,
            &rows,
            Lesson {
                shares: vec![memory],
                ..Lesson::default()
            },
        );
        let wanted = if along < 0.0 {
            turned += 1;
            mixed(&[(1.0, &own), (-along / square, &theirs)])
        } else {
            own.clone()
        };
        assert!(apart(&found, &wanted) < 1e-9, "{seed}");
        let left: f64 = found.iter().zip(&theirs).map(|(a, b)| a * b).sum();
        assert!(left > -1e-9 * square, "{seed}: {left}");
    }
    println!("{turned} of 6 were projected");
}

/// Logits of every token of a completion, `[tokens][vocabulary]`.
fn logits(model: &Decoder, sequence: &Sequence) -> Vec<Vec<f64>> {
    let all = model.logits(&Packed::new([sequence.tokens()])).unwrap();
    let all: Vec<Vec<f64>> = all.to_vec2().unwrap();
    let from = sequence.prompt().len() - 1;
    all[from..sequence.tokens().len() - 1].to_vec()
}

fn distance(z: &[f64], teacher: &[f64], which: Distance) -> f64 {
    match which {
        Distance::CrossEntropy { temperature } => {
            let log = |z: &[f64]| -> Vec<f64> {
                let total: f64 = z.iter().map(|x| (x / temperature).exp()).sum();
                z.iter().map(|x| x / temperature - total.ln()).collect()
            };
            let (p, q) = (log(z), log(teacher));
            // As the weight of a step has it.
            temperature * temperature * -q.iter().zip(&p).map(|(q, p)| q.exp() * p).sum::<f64>()
        }
        _ => z.iter().zip(teacher).map(|(a, b)| (a - b).powi(2)).sum(),
    }
}

/// Distillation's gradient against differences of what it is to be, computed from logits.
#[test]
fn a_teacher_pulls_by_the_gradient_of_its_distance() {
    let (settings, rows) = (settings_of("sft"), lists(false));
    let best = objective("sft").select(rows.clone());
    let own = gradient(&settings, &rows, Lesson::default());
    let teacher = || model(5);
    for which in [
        Distance::CrossEntropy { temperature: 2.0 },
        Distance::Logits,
    ] {
        let lesson = |teaching| Lesson {
            distillations: vec![Distillation {
                name: "teacher".into(),
                plan: share("sft", &settings, &rows, 8, Role::Projected).plan,
                teaching,
                distance: which,
                weight: 0.4,
            }],
            ..Lesson::default()
        };
        let live = gradient(
            &settings,
            &rows,
            lesson(Teaching::Live(Box::new(teacher()))),
        );
        let stored = Predicted::of(&teacher(), &best, 20).unwrap();
        let [bytes, of_logits] = stored.bytes();
        let tokens: usize = best
            .iter()
            .map(|e| e.responses[0].sequence.completion().len())
            .sum();
        assert_eq!(
            [bytes, of_logits],
            [8 * (tokens * 16 + 11 * 16), 8 * tokens * 11]
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("predicted.safetensors");
        stored.write(&path).unwrap();
        let stored = Predicted::read(&path, &Device::Cpu).unwrap();
        let found = gradient(&settings, &rows, lesson(Teaching::Stored(stored)));
        assert!(apart(&found, &live) < 1e-12);
        let value = |policy: &Decoder| -> f64 {
            let each = best.iter().flat_map(|e| {
                let sequence = &e.responses[0].sequence;
                let all = logits(policy, sequence)
                    .into_iter()
                    .zip(logits(&teacher(), sequence));
                all.map(|(z, t)| distance(&z, &t, which))
                    .collect::<Vec<_>>()
            });
            0.4 * each.sum::<f64>() / tokens as f64
        };
        check_slopes(&value, &mixed(&[(1.0, &found), (-1.0, &own)]), 1e-6);
    }
}

/// Holds a gradient, all parameters end to end, against differences at some places.
fn check_slopes(value: &dyn Fn(&Decoder) -> f64, gradient: &[f64], tolerance: f64) {
    let size = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
    for place in (0..gradient.len()).step_by(gradient.len() / 23) {
        let at = |by: f64| {
            let model = model(2);
            move_one(&model, place, by);
            value(&model)
        };
        let h = 1e-5;
        let slope = (at(h) - at(-h)) / (2.0 * h);
        let found = gradient[place];
        assert!(
            (found - slope).abs() < tolerance * size,
            "{place}: {found} {slope}"
        );
    }
}

/// Moves one parameter of all.
fn move_one(model: &Decoder, place: usize, by: f64) {
    let mut first = 0;
    for parameter in model.parameters().iter() {
        let count = parameter.tensor.elem_count();
        if (first..first + count).contains(&place) {
            let mut numbers = vec![0.0; count];
            numbers[place - first] = by;
            let step = Tensor::from_vec(numbers, parameter.tensor.shape(), &Device::Cpu).unwrap();
            pistar::llm::internals::tensor::ops::add_in_place(&parameter.tensor, &step).unwrap();
            return;
        }
        first += count;
    }
}

/// The squared gradient of each response's ln π, and the size of that of its mean squared logits.
#[test]
fn importance_is_that_of_each_response_alone() {
    let rows = objective("sft").select(lists(false));
    let responses: Vec<&Sequence> = rows[..3].iter().map(|e| &e.responses[0].sequence).collect();
    let policy = model(2);
    for which in [Weights::Fisher, Weights::Outputs] {
        let found = estimate(&policy, &responses, which, &Silent).unwrap();
        let one = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let found: Vec<f64> = found.0.iter().flat_map(one).collect();
        let size = found.iter().fold(0.0, |m: f64, x| m.max(*x));
        for place in (0..found.len()).step_by(found.len() / 17) {
            let slope = |sequence: &Sequence| {
                let value = |by: f64| {
                    let model = model(2);
                    move_one(&model, place, by);
                    match which {
                        Weights::Fisher => model.sums(&[sequence]).unwrap()[0],
                        _ => {
                            let all = logits(&model, sequence);
                            let sum: f64 = all.iter().flatten().map(|z| z * z).sum();
                            sum / all.len() as f64
                        }
                    }
                };
                (value(1e-5) - value(-1e-5)) / 2e-5
            };
            let each = responses.iter().map(|s| match which {
                Weights::Fisher => slope(s).powi(2),
                _ => slope(s).abs(),
            });
            let wanted = each.sum::<f64>() / 3.0;
            assert!((found[place] - wanted).abs() < 1e-6 * size, "{place}");
        }
    }
}

/// A pull that a run has, as a hook.
struct Pulled(Pull<Leaves>);

impl Hook for Pulled {
    fn bend(&mut self, policy: &mut Learner) -> pistar::Result<Vec<(String, f64)>> {
        let parameters = policy.model.parameters();
        let mut all = Leaves::gradients(parameters, &policy.gradients)?;
        self.0.add_gradient(&Leaves::view(parameters), &mut all)?;
        all.put(parameters, &mut policy.gradients);
        Ok(Vec::new())
    }
}

#[test]
fn a_pull_is_the_importance_times_the_distance() {
    let (settings, rows) = (settings_of("sft"), lists(false));
    let own = gradient(&settings, &rows, Lesson::default());
    let [now, anchor, importance] =
        [2, 3, 4].map(|seed| Leaves::of(model(seed).parameters()).unwrap());
    let numbers = |of: &Leaves| -> Vec<f64> {
        let one = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        of.0.iter().flat_map(one).collect()
    };
    let [w, a, o] = [&now, &anchor, &importance].map(numbers);
    assert_eq!(w, weights(model(2).parameters()));
    let pull = Pull::new(1.7, anchor, Some(importance)).unwrap();
    let value: f64 = (0..w.len()).map(|k| o[k] * (w[k] - a[k]).powi(2)).sum();
    assert!((pull.value(&now).unwrap() - 0.85 * value).abs() < 1e-9 * value.abs());
    let lesson = Lesson {
        hooks: vec![Box::new(Pulled(pull))],
        ..Lesson::default()
    };
    let found = gradient(&settings, &rows, lesson);
    let pulled: Vec<f64> = (0..w.len()).map(|k| 1.7 * o[k] * (w[k] - a[k])).collect();
    assert!(apart(&found, &mixed(&[(1.0, &own), (1.0, &pulled)])) < 1e-12);
}

/// Vectors of tensors compute as vectors of numbers do.
#[test]
fn tensors_are_vectors() {
    let of = |seed: u64| Leaves::of(model(seed).parameters()).unwrap();
    let numbers = |of: &Leaves| -> Vec<f64> {
        let one = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        of.0.iter().flat_map(one).collect()
    };
    let (mut tensors, a, b) = (of(1), of(2), of(3));
    let (mut plain, x, y) = (numbers(&tensors), numbers(&a), numbers(&b));
    let close = |tensors: &Leaves, plain: &[f64]| assert!(apart(&numbers(tensors), plain) < 1e-14);
    tensors.add(0.3, &a).unwrap();
    plain.add(0.3, &x).unwrap();
    close(&tensors, &plain);
    tensors.add_product(-2.0, &a, &b).unwrap();
    plain.add_product(-2.0, &x, &y).unwrap();
    close(&tensors, &plain);
    tensors.add_absolute(0.5, &b).unwrap();
    plain.add_absolute(0.5, &y).unwrap();
    tensors.scale(1.5).unwrap();
    plain.scale(1.5).unwrap();
    close(&tensors, &plain);
    let (found, wanted) = (tensors.dot(&a).unwrap(), plain.dot(&x).unwrap());
    assert!((found - wanted).abs() < 1e-12 * wanted.abs());
    let zeros = numbers(&tensors.zeros_like().unwrap());
    assert!(zeros.len() == plain.len() && zeros.iter().all(|x| *x == 0.0));
    assert!(tensors.add(1.0, &Leaves(Vec::new())).is_err());
}
