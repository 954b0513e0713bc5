//! Training in bf16 with f32 master weights.
//!
//! A bf16 number has 8 significant bits: rounding to it moves a number by at most `u = 2⁻⁸` of its
//! size, and a number stays what it was when less than `2⁻⁹` of its size is added to it (half a unit
//! in its last place is between these two).

use candle_core::{DType, Device, Tensor};
use pistar::llm::internals::tensor::optimizer::{AdamW, Config};
use pistar::llm::internals::tensor::parameters::Parameters;
use pistar::llm::internals::tensor::tape::{LeafGradients, Tape};
use pistar::llm::internals::train::step::Step;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::{ScalarHead, Scorer};
use pistar::llm::model::network::{Network, Reduction};
use pistar::llm::model::sequence::{Packed, Sequence};
use pistar::llm::text::example::{Example, in_parts};
use pistar::llm::text::objective::TextObjective;
use pistar::llm::train::reference::{Cache, Reference};
use pistar::llm::train::schedule::Shape;
use pistar::llm::train::{Batches, Model, Settings, Trainer, precompute};
use pistar::observer::Silent;
use pistar::random::{Purpose, Stream};

use crate::fixtures::{largest, numbers};
use crate::smoke::tiny;
use crate::train::{examples, settings};

const UNIT: f64 = 1.0 / 256.0;

/// A random model in bf16, with a head if one is asked for.
fn coarse(seed: u64, head: Option<ScalarHead>) -> Decoder {
    let mut model = Decoder::random(tiny(), 0.3, seed, DType::BF16, &Device::Cpu).unwrap();
    if let Some(head) = head {
        head.add(&mut model, seed).unwrap();
    }
    model
}

/// The same numbers in f32, each moved by up to `u` of its size if a key is given.
fn fine(seed: u64, head: Option<ScalarHead>, shaken: Option<u64>) -> Decoder {
    let from = coarse(seed, head);
    let mut model = Decoder::random(tiny(), 0.3, seed, DType::F32, &Device::Cpu).unwrap();
    if let Some(head) = head {
        head.add(&mut model, seed).unwrap();
    }
    for (index, parameter) in from.parameters().iter().enumerate() {
        let mut values = numbers(&parameter.tensor);
        if let Some(key) = shaken {
            let mut stream = Stream::new(key, Purpose::Noise, seed << 32 | index as u64);
            (values.iter_mut()).for_each(|x| *x *= 1.0 + UNIT * (2.0 * stream.uniform() - 1.0));
        }
        let shape = parameter.tensor.dims();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        model
            .parameters_mut()
            .set(&parameter.name, &tensor)
            .unwrap();
    }
    model
}

/// Loss, norms and log-probabilities of a step.
type Step3 = [Vec<f64>; 3];

/// Which numbers a run is made of.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Coarse,
    Fine,
    Shaken(u64),
}

impl Kind {
    fn model(self, seed: u64, head: Option<ScalarHead>) -> Decoder {
        match self {
            Self::Coarse => coarse(seed, head),
            Self::Fine => fine(seed, head, None),
            Self::Shaken(key) => fine(seed, head, Some(key)),
        }
    }

    fn network(self, seed: u64, head: Option<ScalarHead>) -> Box<dyn Model> {
        let decoder = self.model(seed, head);
        match head {
            None => Box::new(decoder),
            Some(head) => Box::new(Scorer { decoder, head }),
        }
    }

    fn trainer<'a>(
        self,
        settings: &'a Settings,
        examples: &'a Vec<Example>,
        reference: u64,
    ) -> Trainer<'a> {
        let objective = settings.objective().unwrap();
        let reference = if objective.reference() {
            Reference::Live(Box::new(self.model(reference, None)))
        } else {
            Reference::None
        };
        let head = objective.scores().then_some(ScalarHead::Reward);
        let value = (objective.value()).then(|| self.network(3, Some(ScalarHead::Value)));
        let plan = Batches::new(settings, 32, examples).unwrap();
        Trainer::new(settings, plan, self.network(1, head), value, reference).unwrap()
    }

    /// Loss, gradient's norms and log-probabilities of every step.
    fn trace(self, settings: &Settings) -> Vec<Step3> {
        let examples = examples(settings.objective().unwrap().kind());
        let mut trainer = self.trainer(settings, &examples, 2);
        (0..settings.steps.unwrap())
            .map(|_| {
                let step = trainer.step(None).unwrap();
                let log_policy = step.batch.log_policy.concat();
                [
                    vec![step.loss],
                    vec![step.norm, step.value_norm],
                    log_policy,
                ]
            })
            .collect()
    }
}

/// The same in f32, but for the weights, which are rounded to bf16 wherever the networks are run; the
/// steps are taken by what they are rounded from. And `u Σ |g w|` over all weights, at each step.
fn rounded_trace(settings: &Settings) -> (Vec<Step3>, Vec<f64>) {
    let examples = examples(settings.objective().unwrap().kind());
    let mut trainer = Kind::Fine.trainer(settings, &examples, 2);
    let tensors: Vec<Tensor> = (std::iter::once(&trainer.policy).chain(&trainer.value))
        .flat_map(|l| l.model.parameters().iter().map(|p| p.tensor.clone()))
        .collect();
    let set = |values: &[Tensor]| {
        for (tensor, values) in tensors.iter().zip(values) {
            tensor.slice_set(values, 0, 0).unwrap();
        }
    };
    let mut slopes = Vec::new();
    let trace = (0..settings.steps.unwrap())
        .map(|_| {
            let masters: Vec<Tensor> = tensors.iter().map(|t| t.copy().unwrap()).collect();
            let coarse = |t: &Tensor| t.to_dtype(DType::BF16)?.to_dtype(DType::F32);
            let rounded: Vec<Tensor> = masters.iter().map(|t| coarse(t).unwrap()).collect();
            set(&rounded);
            let step = trainer.gradient().unwrap();
            let mut slope = 0.0;
            for learner in std::iter::once(&trainer.policy).chain(&trainer.value) {
                for (leaf, p) in learner.model.parameters().iter().enumerate() {
                    if let Some(gradient) = learner.gradients.get(leaf) {
                        let both = numbers(gradient).into_iter().zip(numbers(&p.tensor));
                        slope += both.map(|(g, w)| (g * w).abs()).sum::<f64>();
                    }
                }
            }
            slopes.push(UNIT * slope);
            set(&masters);
            trainer.policy.update(step.norm, 1.0).unwrap();
            if let Some(value) = &mut trainer.value {
                value.update(step.value_norm, 1.0).unwrap();
            }
            trainer.state.steps += 1;
            let log_policy = step.batch.log_policy.concat();
            [
                vec![step.loss],
                vec![step.norm, step.value_norm],
                log_policy,
            ]
        })
        .collect();
    (trace, slopes)
}

/// How far two traces are apart in one of their numbers.
fn far(a: &Step3, b: &Step3, which: usize) -> f64 {
    largest(&a[which], &b[which])
}

/// Activations: from f32 on the same rounded weights, bf16 goes no further than a few times as far as
/// f32 goes from itself when every weight is moved, at random, by up to `u` of its size before the
/// first step.
///
/// That is what rounding does: an operation whose result is rounded is the exact one on weights
/// that were moved by up to `u`. But there are several roundings for each weight, of the activations
/// before and after it, forwards and backwards, which are independent and so add in squares: 9 of
/// them make a factor of 3, and one more unit stands for the largest of a few draws.
///
/// Weights: their own roundings are not independent. A weight that begins as a bf16 number and is
/// moved by lr is rounded the same way as its neighbours: all moves may come out too long, or all too
/// short. By a weight's rounding, `u |w|` at most, a loss changes by `u Σ |g w|` at most, to first
/// order. Losses of bf16 and of f32 throughout are no further apart than that.
#[test]
fn traces_stay_near_those_of_f32() {
    const FACTOR: f64 = 4.0;
    let mut too_far = Vec::new();
    for name in ["sft", "dpo", "ipo", "kto", "copg", "dro-v"] {
        let settings = Settings {
            lr: Some(3e-3),
            steps: Some(24),
            schedule: Shape::Constant,
            ..settings(name)
        };
        let settings = settings.resolve().unwrap();
        let exact = Kind::Fine.trace(&settings);
        let found = Kind::Coarse.trace(&settings);
        let (rounded, slopes) = rounded_trace(&settings);
        let shaken: Vec<_> = (0..6)
            .map(|key| Kind::Shaken(key).trace(&settings))
            .collect();
        let mut check = |what: &str, ratios: Vec<f64>, most: f64| {
            let (step, worst) = (ratios.iter().copied().enumerate())
                .fold((0, 0.0), |a, b| if b.1 > a.1 { b } else { a });
            println!("{name:5} {what:22} {worst:.2} of {most}, at step {step}");
            if ratios.iter().any(|r| r.is_nan()) || worst > most {
                too_far.push(format!("{name} {what}: {worst:.2} at step {step}"));
            }
        };
        for (which, what) in ["loss", "norm", "log-probabilities"].iter().enumerate() {
            // The farthest so far: a difference may pass through 0.
            let mut scale = 0.0f64;
            let ratios = (0..exact.len()).map(|step| {
                let each = shaken.iter().map(|s| far(&s[step], &exact[step], which));
                scale = each.fold(scale, f64::max);
                far(&found[step], &rounded[step], which) / scale
            });
            check(what, ratios.collect(), FACTOR);
        }
        let mut scale = 0.0f64;
        let ratios = (0..exact.len()).map(|step| {
            scale = scale.max(slopes[step]);
            far(&found[step], &exact[step], 0) / scale
        });
        check("loss, f32 throughout", ratios.collect(), 1.0);
        // And training went somewhere.
        let moved = far(&exact[0], &exact[23], 2);
        assert!(moved > 0.5, "{name}: {moved}");
    }
    assert!(too_far.is_empty(), "{too_far:?}");
}

/// Of the same weights, a token's log-probability is off by at most twice what a logit is off by, and
/// a logit by `√R u` of the largest one, where `R = 70` roundings, independent of each other, lie
/// between a token and a logit (two blocks with two norms, attention and MLP each).
#[test]
fn log_probabilities_are_off_by_their_roundings() {
    let (coarse, fine) = (coarse(1, None), fine(1, None, None));
    let mut stream = Stream::new(2, Purpose::Problem, 0);
    let mut worst = 0.0f64;
    for _ in 0..20 {
        let tokens: Vec<u32> = (0..12).map(|_| stream.below(11)).collect();
        let sequence = Sequence::new(tokens.clone(), 1).unwrap();
        let logits = numbers(&fine.logits(&Packed::new([tokens.as_slice()])).unwrap());
        let top = logits.iter().fold(0.0f64, |top, z| top.max(z.abs()));
        let each = |model: &Decoder| {
            let output = model.forward(&Tape::idle(), &[&sequence]).unwrap();
            // Whatever the weights are, log-probabilities are f32.
            assert_eq!(output.pieces.value().dtype(), DType::F32);
            numbers(output.pieces.value())
        };
        let bound = 2.0 * 70.0f64.sqrt() * UNIT * top;
        worst = worst.max(largest(&each(&coarse), &each(&fine)) / bound);
    }
    println!("at most {worst:.2} of the bound");
    assert!(worst < 1.0, "{worst}");
    assert!(worst > 0.01, "the bound says nothing");
}

/// The policy is run as its reference is: at step 0 all log-ratios are exactly 0, whether the
/// reference's numbers come from memory or from a file, and in any micro-batches.
#[test]
fn at_the_first_step_every_log_ratio_is_0() {
    let place = tempfile::TempDir::new().unwrap();
    for name in TextObjective::names() {
        for micro_batch_tokens in [8192, 40] {
            let settings = Settings {
                micro_batch_tokens,
                ..settings(name)
            };
            let settings = settings.resolve().unwrap();
            let objective = settings.objective().unwrap();
            if !objective.reference() {
                continue;
            }
            let examples = examples(objective.kind());
            let live = Kind::Coarse
                .trainer(&settings, &examples, 1)
                .gradient()
                .unwrap();
            let plan = Batches::new(&settings, 32, &examples).unwrap();
            let mut cache = Cache::new("model".into(), &place.path().join("numbers"));
            let reference = coarse(1, None);
            precompute(&plan, &reference, &mut cache, &Silent).unwrap();
            let value =
                (objective.value()).then(|| Kind::Coarse.network(3, Some(ScalarHead::Value)));
            let policy = Kind::Coarse.network(1, None);
            let cached = Trainer::new(&settings, plan, policy, value, Reference::Cached(cache));
            let cached = cached.unwrap().gradient().unwrap();
            for batch in [live.batch, cached.batch] {
                assert_eq!(batch.log_policy, batch.log_reference, "{name}");
                assert!(batch.log_policy[0].iter().all(|&l| l < 0.0));
            }
            if name == "dpo" {
                // A loss of f64s: ln 2 but for the rounding of a mean.
                assert!((live.loss - 2.0f64.ln()).abs() < 1e-15);
            }
        }
    }
}

/// Weights of one matrix, and a gradient of as many numbers.
fn store(dtype: DType, weights: &[f64]) -> Parameters {
    let mut parameters = Parameters::new(dtype, &Device::Cpu);
    let tensor = Tensor::from_slice(weights, (1, weights.len()), &Device::Cpu).unwrap();
    parameters.add("w", &tensor).unwrap();
    parameters
}

fn gradient(dtype: DType, of: &[f64]) -> LeafGradients {
    let mut gradients = LeafGradients::new(1);
    let tensor = Tensor::from_slice(of, (1, of.len()), &Device::Cpu).unwrap();
    gradients.add(0, tensor.to_dtype(dtype).unwrap()).unwrap();
    gradients
}

/// Under a constant gradient AdamW moves a weight by lr in every step. Here that is too little for
/// any of these weights to be moved by one step.
#[test]
fn steps_too_small_for_bf16_add_up() {
    let (lr, steps) = (1e-4, 400);
    // None is so small that lr would be half a unit in its last place.
    let start: Vec<f64> = (0..40).map(|i| 0.06 + 0.02 * f64::from(i)).collect();
    for dtype in [DType::BF16, DType::F16] {
        let parameters = store(dtype, &start);
        let weights = || numbers(&parameters.iter().next().unwrap().tensor);
        let rounded = weights();
        if dtype == DType::BF16 {
            assert!(rounded.iter().all(|w| lr < w / 512.0));
            let less = Tensor::new(&rounded[..], &Device::Cpu).unwrap();
            let less = (less - lr).unwrap().to_dtype(dtype).unwrap();
            assert_eq!(numbers(&less), rounded, "a step alone is lost");
        }
        let config = Config {
            weight_decay: 0.0,
            ..Config::default()
        };
        let mut optimizer = AdamW::new(&parameters, config).unwrap();
        let ones = gradient(dtype, &vec![1.0; start.len()]);
        for step in 0..steps {
            optimizer.step(&parameters, &ones, lr, 1.0).unwrap();
            if dtype == DType::BF16 && step == 0 {
                assert_eq!(weights(), rounded);
            }
        }
        let unit = if dtype == DType::BF16 {
            UNIT
        } else {
            UNIT / 8.0
        };
        for (now, before) in weights().iter().zip(&rounded) {
            let wanted = before - lr * f64::from(steps);
            // The rounding of the weight, and of f32 at each step.
            let bound = unit * wanted.abs() + 1e-4 * lr * f64::from(steps);
            assert!((now - wanted).abs() <= bound, "{dtype:?}: {now} {wanted}");
            assert!(now < before);
        }
    }
}

/// The same in training: with a rate below half a unit of most weights the loss falls as in f32.
#[test]
fn a_small_rate_trains_as_in_f32() {
    let settings = Settings {
        lr: Some(2e-5),
        steps: Some(120),
        ..settings("sft")
    };
    let settings = settings.resolve().unwrap();
    let weights = numbers(
        &Tensor::cat(
            &(coarse(1, None).parameters().iter())
                .map(|p| p.tensor.flatten_all().unwrap())
                .collect::<Vec<_>>(),
            0,
        )
        .unwrap(),
    );
    let lost = weights.iter().filter(|w| 2e-5 < w.abs() / 512.0).count();
    assert!(lost as f64 > 0.97 * weights.len() as f64);
    let fall = |kind: Kind| {
        let trace = kind.trace(&settings);
        trace[0][0][0] - trace[trace.len() - 1][0][0]
    };
    let (fine, coarse) = (fall(Kind::Fine), fall(Kind::Coarse));
    println!("the loss falls by {coarse:.4}, in f32 by {fine:.4}");
    assert!(fine > 0.01 && coarse > 0.0);
    assert!((coarse / fine - 1.0).abs() < 0.2, "{coarse} {fine}");
}

/// One part's gradient stays bf16; those of several are summed in f32, which loses nothing.
#[test]
fn gradients_of_several_parts_are_summed_in_f32() {
    let model = coarse(1, None);
    let dpo = settings("dpo").objective().unwrap();
    let examples = examples(dpo.kind());
    let text = dpo.batch(&examples);
    let step = Step {
        kind: dpo.kind(),
        policy: &model,
        value: None,
        reduction: Reduction::Sum,
        micro_batch: usize::MAX,
    };
    let run = |parts: &[_], sums: &mut LeafGradients| {
        for part in parts {
            let none = &mut LeafGradients::new(0);
            step.run(part, |batch| dpo.cotangents(batch), sums, none)
                .unwrap();
        }
    };
    let all = |sums: &LeafGradients, dtype: DType| -> Vec<Vec<f64>> {
        let each = (0..model.leaves()).map(|leaf| sums.get(leaf).expect("a gradient"));
        each.inspect(|g| assert_eq!(g.dtype(), dtype))
            .map(numbers)
            .collect()
    };
    let mut whole = LeafGradients::new(model.leaves());
    run(std::slice::from_ref(&text), &mut whole);
    all(&whole, DType::BF16);
    let parts = in_parts(&text, &examples, 20, |some| dpo.batch(some));
    assert!(parts.len() > 2);
    let mut sums = LeafGradients::new(model.leaves());
    run(&parts, &mut sums);
    let found = all(&sums, DType::F32);
    let mut wanted: Vec<Vec<f64>> = found.iter().map(|g| vec![0.0; g.len()]).collect();
    let mut sizes = wanted.clone();
    for part in &parts {
        let mut one = LeafGradients::new(model.leaves());
        run(std::slice::from_ref(part), &mut one);
        for (leaf, gradient) in all(&one, DType::BF16).iter().enumerate() {
            for (i, g) in gradient.iter().enumerate() {
                wanted[leaf][i] += g;
                sizes[leaf][i] += g.abs();
            }
        }
    }
    let each = found.iter().flatten().zip(wanted.iter().flatten());
    for ((found, wanted), size) in each.zip(sizes.iter().flatten()) {
        assert!((found - wanted).abs() <= parts.len() as f64 * 2.0f64.powi(-24) * size);
    }
    // Cleared, they are as new.
    sums.clear();
    run(std::slice::from_ref(&text), &mut sums);
    assert_eq!(all(&sums, DType::BF16), all(&whole, DType::BF16));
}

/// Scores and values are f32 too, and their gradient reaches the bf16 head.
#[test]
fn heads_give_f32() {
    let sequence = Sequence::new(vec![1, 5, 7, 3], 2).unwrap();
    for head in ScalarHead::ALL {
        let run = |decoder: Decoder| {
            let network = Scorer { decoder, head };
            let tape = Tape::recording(network.leaves());
            let output = network.forward(&tape, &[&sequence]).unwrap();
            let value = output.pieces.value().clone();
            assert_eq!(value.dtype(), DType::F32);
            let mut sums = LeafGradients::new(network.leaves());
            let seed = value.ones_like().unwrap();
            tape.backward([(output.pieces, seed)], &mut sums).unwrap();
            let id = network.decoder.parameters().find(head.names()[0]).unwrap();
            let gradient = sums.get(id.index()).unwrap();
            assert_eq!(gradient.dtype(), network.decoder.parameters().dtype());
            numbers(gradient)
        };
        let (coarse, fine) = (run(coarse(1, Some(head))), run(fine(1, Some(head), None)));
        // The gradient is the normalised hidden state: see the bound of logits.
        let bound = 70.0f64.sqrt() * UNIT * fine.iter().fold(0.0, |top, g| g.abs().max(top));
        assert!(largest(&coarse, &fine) < bound);
    }
}
