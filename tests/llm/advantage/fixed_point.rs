//! On the enumerable language, with every string a proposal: e is the expectation, and the advantages have mean 0.

use candle_core::{DType, Device};
use pistar::llm::internals::tensor::tape::LeafGradients;
use pistar::llm::internals::train::step::Step;
use pistar::llm::language::{Language, normal_rewards, walk};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::{AdvantageScorer, ScalarHead};
use pistar::llm::model::network::Reduction;
use pistar::llm::text::batch::TextBatch;
use pistar::llm::train::{Learner, Settings};
use pistar::loss::{Batch, Bound, Given, InputKind, Objective, Proposals};

const MARGIN: f64 = 2.5;

/// Two prompts of all strings of up to two of three symbols, what π_φ says of each, and how often one is preferred
/// to another.
struct World {
    language: Language,
    policy: Vec<Vec<f64>>,
    rewards: Vec<Vec<f64>>,
}

impl World {
    fn new() -> Self {
        let language = Language::with_prompts(3, 2, 2).unwrap();
        let architecture = language.architecture(16, 1);
        let model = Decoder::random(architecture, 0.6, 5, DType::F64, &Device::Cpu).unwrap();
        let policy = walk(&model, &language).unwrap().log().to_vec();
        let mut reward = normal_rewards(3, 1.0);
        // Offsets between prompts, which an advantage does not have.
        let rewards = (0..2).map(|x| {
            let row = 0..language.responses();
            row.map(|y| 3.0 * x as f64 + reward(x, &language.completion(y)))
                .collect()
        });
        Self {
            rewards: rewards.collect(),
            language,
            policy,
        }
    }

    fn strings(&self) -> usize {
        self.language.responses()
    }

    /// Every ordered pair of different strings, with the probability that the first is preferred.
    fn pairs(&self) -> Vec<(usize, usize, usize, f64)> {
        let n = self.strings();
        let mut all = Vec::new();
        for x in 0..2 {
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let gap = self.rewards[x][i] - self.rewards[x][j];
                if i != j {
                    let preferred = 1.0 / (1.0 + (-gap).exp());
                    all.push((x, i, j, preferred / (n * (n - 1)) as f64));
                }
            }
        }
        all
    }

    fn expectation(&self, x: usize, scores: &[f64]) -> f64 {
        let each = self.policy[x].iter().zip(scores);
        each.map(|(log, r)| log.exp() * r).sum()
    }

    /// Every string is a proposal once: the mean over K of them is the expectation under a uniform π′.
    fn text(&self) -> TextBatch {
        let n = self.strings();
        let mut text = TextBatch::default();
        for x in 0..2 {
            text.sequences.extend(self.language.sequences(x).unwrap());
        }
        text.log_reference = vec![0.0; 2 * n];
        for (x, i, j, weight) in self.pairs() {
            let place = |y: usize| (x * n + y) as u32;
            text.slots[0].push(place(i));
            text.slots[1].push(place(j));
            text.weight.push(weight);
            text.sizes.push(n);
            for y in 0..n {
                text.proposals.push(place(y));
                text.proposal_laws[0].push(self.policy[x][y]);
                text.proposal_laws[1].push(-(n as f64).ln());
            }
        }
        for of in [&mut text.label, &mut text.margin] {
            of.resize(text.weight.len(), 0.0);
        }
        text.label.fill(1.0);
        text
    }

    /// The same with a table in place of networks.
    fn batch(&self, scores: &[Vec<f64>], expected: &[f64]) -> Batch {
        let text = self.text();
        let flat = scores.concat();
        let pick = |of: &[u32]| -> Vec<f64> { of.iter().map(|&s| flat[s as usize]).collect() };
        let prompts = text.slots[0].iter();
        Batch {
            log_policy: [pick(&text.slots[0]), pick(&text.slots[1])],
            baseline: prompts
                .map(|&s| expected[s as usize / self.strings()])
                .collect(),
            proposals: Proposals {
                score: pick(&text.proposals),
                log_policy: text.proposal_laws[0].clone(),
                log_proposal: text.proposal_laws[1].clone(),
            },
            sizes: text.sizes.clone(),
            weight: text.weight.clone(),
            ..Batch::default()
        }
    }

    /// The gradient of the table's loss with respect to r and e.
    fn slopes(
        &self,
        loss: &Bound,
        scores: &[Vec<f64>],
        expected: &[f64],
    ) -> (Vec<Vec<f64>>, Vec<f64>) {
        let (n, text) = (self.strings(), self.text());
        let found = loss.on_tape(&self.batch(scores, expected)).unwrap();
        let mut flat = vec![0.0; 2 * n];
        let places = [&text.slots[0], &text.slots[1], &text.proposals];
        for (places, leaf) in places.into_iter().zip([0, 1, 3]) {
            let each = places.iter().zip(&found.gradient[leaf]);
            each.for_each(|(&s, g)| flat[s as usize] += g);
        }
        let mut of_expected = vec![0.0; 2];
        let each = text.slots[0].iter().zip(&found.gradient[2]);
        each.for_each(|(&s, g)| of_expected[s as usize / n] += g);
        (flat.chunks(n).map(<[f64]>::to_vec).collect(), of_expected)
    }

    /// The scores of mean 0 under π_φ that minimise eq. 6, by their own gradient: that of the free scores, less its
    /// sum in proportion to π_φ.
    fn centred(&self) -> Vec<Vec<f64>> {
        let n = self.strings();
        let mut scores = vec![vec![0.0; n]; 2];
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for _ in 0..40_000 {
            let mut slope = vec![vec![0.0; n]; 2];
            let means = [0, 1].map(|x| self.expectation(x, &scores[x]));
            for (x, i, j, weight) in self.pairs() {
                let a = |y: usize| scores[x][y] - means[x];
                let ranking = sigmoid(a(j) - a(i));
                slope[x][i] += weight * (sigmoid(a(i) - MARGIN) - ranking);
                slope[x][j] += weight * (ranking - sigmoid(-MARGIN - a(j)));
            }
            for x in 0..2 {
                let total: f64 = slope[x].iter().sum();
                for y in 0..n {
                    scores[x][y] -= 4.0 * (slope[x][y] - self.policy[x][y].exp() * total);
                }
            }
        }
        for (x, row) in scores.iter_mut().enumerate() {
            let mean = self.expectation(x, row);
            row.iter_mut().for_each(|r| *r -= mean);
        }
        scores
    }
}

fn bound(numbers: &[(&str, f64)]) -> Bound {
    let given = Given::new().with("margin", MARGIN);
    let given = numbers
        .iter()
        .fold(given, |all, (name, number)| all.with(*name, *number));
    Objective::ADVANTAGE_MODEL_SAMPLED.bind(&given).unwrap()
}

/// Whatever N is: at the centred scores, on any level, with e their expectation, nothing moves.
#[test]
fn the_centred_scores_and_their_expectation_are_at_rest() {
    let world = World::new();
    let centred = world.centred();
    let levels = [1.7, -0.4];
    let scores: Vec<Vec<f64>> = (centred.iter().zip(levels))
        .map(|(row, level)| row.iter().map(|a| a + level).collect())
        .collect();
    let worst = |loss: &Bound, expected: &[f64]| {
        let (of_scores, of_expected) = world.slopes(loss, &scores, expected);
        let all = of_scores.into_iter().flatten().chain(of_expected);
        all.fold(0.0, |most: f64, g| most.max(g.abs()))
    };
    for weight in [0.0, 1.0, 7.0, f64::INFINITY] {
        let loss = bound(&[("policy_weight", weight)]);
        assert!(worst(&loss, &levels) < 1e-9, "{weight}");
        assert!(worst(&loss, &[1.6, -0.4]) > 1e-2, "{weight}");
        // Its value is that of the centred form, whatever N is.
        let batch = world.batch(&scores, &levels);
        let found = loss.on_tape(&batch).unwrap();
        let value = found.value;
        let on_tensors = loss.on_device(&batch, &Device::Cpu).unwrap();
        assert!((value - on_tensors.value).abs() < 1e-12);
        let both = found.gradient.iter().zip(&on_tensors.gradient);
        for (one, other) in both.flat_map(|(one, other)| one.iter().zip(other)) {
            assert!((one - other).abs() < 1e-12, "{one} {other}");
        }
        let of_centred = Objective::ADVANTAGE_MODEL_CENTRED;
        let of_centred = of_centred
            .bind(&Given::new().with("margin", MARGIN))
            .unwrap();
        let alone = of_centred.on_tape(&world.batch(&centred, &[0.0; 2]));
        let variance: f64 = (0..2)
            .map(|x| {
                let squares: Vec<f64> = centred[x].iter().map(|a| a * a).collect();
                0.5 * 0.5 * world.expectation(x, &squares)
            })
            .sum();
        // Of each prompt the weights sum to 1/2: of two preferences of a pair one happens.
        let want = alone.unwrap().value + variance;
        assert!((value - want).abs() < 1e-9, "{weight}: {value} {want}");
    }
    // With e held in eq. 8 as it stands, the level of r is pushed; with a slope through e, e is.
    let held = bound(&[("policy_weight", f64::INFINITY), ("through_scores", 0.0)]);
    let (of_scores, _) = world.slopes(&held, &scores, &levels);
    let pushed: f64 = of_scores[0].iter().sum();
    assert!(pushed.abs() > 1e-3, "{pushed}");
    let moved = bound(&[("policy_weight", f64::INFINITY), ("through_expected", 1.0)]);
    let (_, of_expected) = world.slopes(&moved, &scores, &levels);
    assert!(of_expected[0].abs() > 1e-3, "{of_expected:?}");
}

/// A transformer with two heads goes there too: with N = K, where e plays no part, to the centred scores, and e on what
/// the body has learned to their expectation.
#[test]
fn a_transformer_learns_the_centred_scores_and_then_their_expectation() {
    const STEPS: usize = 1500;
    let world = World::new();
    let (centred, text) = (world.centred(), world.text());
    let architecture = world.language.architecture(32, 1);
    let mut decoder = Decoder::random(architecture, 0.15, 1, DType::F64, &Device::Cpu).unwrap();
    ScalarHead::Reward.add(&mut decoder, 1).unwrap();
    ScalarHead::Expected.add(&mut decoder, 1).unwrap();
    let settings = Settings {
        weight_decay: 0.0,
        clip: 0.0,
        ..Settings::default()
    };
    let model = Box::new(AdvantageScorer(decoder));
    let mut learner = Learner::new(model, &settings, 1e-2).unwrap();
    let gradient = |learner: &mut Learner, loss: &Bound| -> Batch {
        let Learner {
            model, gradients, ..
        } = learner;
        let step = Step {
            kind: InputKind::LabelledPairs,
            policy: &**model,
            value: None,
            reduction: Reduction::Sum,
            micro_batch: usize::MAX,
        };
        let none = &mut LeafGradients::new(0);
        let outcome = step.run(&text, |b| loss.on_tape(b), gradients, none);
        outcome.unwrap().batch
    };
    let scores = bound(&[("policy_weight", 0.0), ("expected_coefficient", 0.0)]);
    for index in 0..STEPS {
        gradient(&mut learner, &scores);
        let factor = 0.5 * (1.0 + (std::f64::consts::PI * index as f64 / STEPS as f64).cos());
        learner.update(0.0, factor).unwrap();
    }
    // The head alone, on hidden states that stay.
    let regression = bound(&[]);
    for _ in 0..STEPS {
        learner.gradients.clear();
        gradient(&mut learner, &regression);
        for (leaf, parameter) in learner.model.parameters().iter().enumerate() {
            if ScalarHead::Expected
                .names()
                .contains(&parameter.name.as_str())
            {
                let step = (learner.gradients.get(leaf).unwrap() * 0.03).unwrap();
                let moved = (&parameter.tensor - step).unwrap();
                parameter.tensor.slice_set(&moved, 0, 0).unwrap();
            }
        }
    }
    learner.gradients.clear();
    let (batch, n) = (gradient(&mut learner, &regression), world.strings());
    for (x, centred) in centred.iter().enumerate() {
        let first = x * batch.len() / 2;
        let scores = &batch.proposals.score[first * n..(first + 1) * n];
        let (expected, mean) = (batch.baseline[first], world.expectation(x, scores));
        println!("{x}: e {expected}, expectation {mean}");
        assert!((expected - mean).abs() < 1e-4, "{x}: {expected} {mean}");
        for (score, want) in scores.iter().zip(centred) {
            let found = score - expected;
            assert!((found - want).abs() < 1e-2, "{x}: {found} {want}");
        }
    }
}
