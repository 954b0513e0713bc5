//! COPR's constrained optimum: a transformer under a constraint ends where the exact half says.

use candle_core::{DType, Device};
use pistar::llm::language::{Language, walk};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::text::example::{Beside, Example, Response, Stored};
use pistar::llm::text::objective::{TextObjective, TokenReduction};
use pistar::llm::train::reference::Reference;
use pistar::llm::train::schedule::Shape;
use pistar::llm::train::{Ascent, Batches, Lesson, Part, Role, Settings, Share, Trainer};
use pistar::loss::Given;
use pistar::solve::copr::{Divergence, compromise, linear_advantages};

const BETA: f64 = 0.5;

fn transformer(language: &Language, seed: u64) -> Decoder {
    let architecture = language.architecture(32, 1);
    Decoder::random(architecture, 0.15, seed, DType::F64, &Device::Cpu).unwrap()
}

/// A list of all responses to the one prompt, with their advantages and a stored reference.
fn list(language: &Language, advantage: &[f64], reference: &[f64]) -> Vec<Example> {
    let sequences = language.sequences(0).unwrap();
    let each = sequences.into_iter().zip(advantage.iter().zip(reference));
    let responses = each.map(|(sequence, (advantage, reference))| Response {
        sequence,
        reward: *advantage,
        stored: Some(Stored {
            old: 0.0,
            reference: *reference,
            tokens: None,
        }),
    });
    vec![Example {
        row: 0,
        responses: responses.collect(),
        beside: Beside::default(),
    }]
}

/// `ln P*`, with `P* ∝ π_ref e^{A/β}`.
fn target(reference: &[f64], advantage: &[f64]) -> Vec<f64> {
    let tilted: Vec<f64> = (reference.iter().zip(advantage))
        .map(|(r, a)| r + a / BETA)
        .collect();
    let total: f64 = tilted.iter().map(|x| x.exp()).sum();
    tilted.iter().map(|x| x - total.ln()).collect()
}

fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn variation(p: &[f64], q: &[f64]) -> f64 {
    let each = p.iter().zip(q).map(|(p, q)| (p.exp() - q.exp()).abs());
    each.sum::<f64>() / 2.0
}

#[test]
fn a_transformer_under_copr_reaches_the_constrained_optimum() {
    let language = Language::with_prompts(2, 2, 1).unwrap();
    let start = transformer(&language, 1);
    let log = |model: &Decoder| walk(model, &language).unwrap().log()[0].clone();
    let (now, before) = (log(&start), log(&transformer(&language, 7)));
    let count = now.len();
    let advantage = |by: usize| {
        let rewards: Vec<f64> = (0..count).map(|i| ((by * i + 2) % count) as f64).collect();
        linear_advantages(&rewards)
    };
    let [old, new] = [3, 5].map(advantage);
    let [old_target, new_target] = [target(&before, &old), target(&now, &new)];
    // The threshold is what the old fit is when the new task begins.
    let threshold = kl(&now, &old_target);
    assert!(kl(&new_target, &old_target) > 1.2 * threshold, "it binds");
    let at = |lambda: f64| {
        let parts = [(1.0, &new_target[..]), (lambda, &old_target[..])];
        compromise(&parts, Divergence::Reverse)
    };
    let (mut low, mut high) = (0.0, 1e3);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if kl(&at(middle), &old_target) > threshold {
            low = middle;
        } else {
            high = middle;
        }
    }
    let wanted = at(high);
    assert!((kl(&wanted, &old_target) - threshold).abs() < 1e-9);

    let settings = Settings {
        objective: Some("copr".into()),
        numbers: Given::from(BETA),
        token_reduction: Some(TokenReduction::Sum),
        batch: 1,
        steps: Some(2500),
        lr: Some(3e-3),
        schedule: Shape::Cosine,
        clip: 0.0,
        ..Settings::default()
    };
    let settings = settings.resolve().unwrap();
    let objective = || {
        let given = Given::from(BETA);
        TextObjective::new("copr", &given, Some(TokenReduction::Sum)).unwrap()
    };
    let (rows, kept) = (list(&language, &new, &now), list(&language, &old, &before));
    let train = |rate: f64, bounded: bool| {
        let mut lesson = Lesson {
            ascent: Ascent {
                start: 1.0,
                rate,
                cap: 1e3,
                decay: 0.0,
                from_zero: false,
            },
            ..Lesson::default()
        };
        if bounded {
            let role = Role::Bounded;
            let part = Part {
                settings: &settings,
                context: 32,
                batch: 1,
            };
            let share = Share::new("old", objective(), &kept, part, role);
            lesson.shares.push(share.unwrap());
        }
        let plan = Batches::of(objective(), &settings, 32, &rows).unwrap();
        let policy = Box::new(transformer(&language, 1));
        let stored = Reference::Stored(None);
        let mut trainer = Trainer::new(&settings, plan, policy, None, stored)
            .unwrap()
            .beside_which(lesson);
        for _ in 0..2500 {
            trainer.step(None).unwrap();
        }
        let multipliers = trainer.state.constraints.map(|c| c.multipliers[0]);
        (log(trainer.policy.model.decoder()), multipliers)
    };
    let (found, multiplier) = train(0.05, true);
    let multiplier = multiplier.unwrap();
    println!(
        "distance {:.1e}, multiplier {multiplier:.4} of {high:.4}",
        variation(&found, &wanted)
    );
    assert!(variation(&found, &wanted) < 1e-3);
    assert!(
        (multiplier / high - 1.0).abs() < 0.02,
        "{multiplier} {high}"
    );
    // Without the constraint it is at the new target, and with a multiplier that stays at 1 between.
    let (free, _) = train(0.05, false);
    assert!(variation(&free, &new_target) < 1e-3);
    let (held, _) = train(0.0, true);
    assert!(variation(&held, &at(1.0)) < 1e-3);
    for other in [&free, &held] {
        assert!(variation(other, &wanted) > 1e-2);
    }
}
