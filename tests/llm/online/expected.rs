//! Expected updates on completions that a policy writes, against the sum over all strings.

use candle_core::{DType, Device};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::heads::{ScalarHead, TokenValues};
use pistar::llm::model::network::Network;
use pistar::llm::model::sequence::Sequence;
use pistar::llm::sample::generate::Prompt;
use pistar::llm::sample::reward::{Candidate, Reward, Weighted};
use pistar::llm::text::example::{Beside, Example, Response, Stored};
use pistar::llm::text::objective::TextObjective;
use pistar::llm::text::tokenizer::Tokenizer;
use pistar::llm::train::reference::Reference;
use pistar::llm::train::{
    Advantage, Annotator, Batches, LengthWeight, Model, ReferenceSource, Rollouts, Settings,
    Trainer, ValuePer,
};
use pistar::loss::InputKind;
use pistar::observer::{Observer, Silent};
use pistar::random::{Purpose, Stream};

use crate::place::Place;
use crate::train::settings;

/// Words of the language; with `<unk>`, `<s>` and `</s>` there are 6 tokens, and 31 strings of at most 2.
const WORDS: u32 = 3;
const MOST: usize = 2;
const PHASES: u64 = 60;
const ROWS: usize = 150;

/// Any number, told by the text.
fn reward(text: &str) -> f64 {
    let sum: u32 = text.bytes().map(u32::from).sum();
    f64::from(sum % 13) / 6.0
}

struct ByText;

impl Reward for ByText {
    fn name(&self) -> String {
        "text".into()
    }

    fn score(&mut self, rows: &[Candidate], _: &dyn Observer) -> pistar::Result<Vec<f64>> {
        Ok(rows.iter().map(|row| reward(row.completion)).collect())
    }
}

pub struct World {
    place: Place,
    tokenizer: Tokenizer,
    pub prompt: Prompt,
}

impl World {
    pub fn new() -> Self {
        let place = Place::new(1);
        place.model_of("model", 1, WORDS);
        place.model_of("other", 2, WORDS);
        let tokenizer = Tokenizer::load(place.at("model")).unwrap();
        let prompt = Prompt::new("w0 w2", &tokenizer, 64).unwrap();
        Self {
            place,
            tokenizer,
            prompt,
        }
    }

    pub fn model(&self, name: &str, temperature: f64) -> Decoder {
        let mut model = Decoder::load(self.place.at(name), DType::F64, &Device::Cpu).unwrap();
        model.set_temperature(temperature);
        model
    }

    /// Every string with its probability when it is drawn at a temperature, and its reward.
    pub fn strings(&self, temperature: f64) -> Vec<(Sequence, f64, f64)> {
        let ends = self.tokenizer.ends();
        let mut all: Vec<Vec<u32>> = Vec::new();
        for a in 0..WORDS + 3 {
            if ends.contains(&a) {
                all.push(vec![a]);
            } else {
                all.extend((0..WORDS + 3).map(|b| vec![a, b]));
            }
        }
        let model = self.model("model", temperature);
        let string = |tokens: Vec<u32>| {
            let ended = ends.contains(tokens.last().unwrap());
            let words = &tokens[..tokens.len() - usize::from(ended)];
            let before = self.tokenizer.decode(&self.prompt.tokens).unwrap();
            let whole = [&self.prompt.tokens[..], words].concat();
            let text = self.tokenizer.decode(&whole).unwrap();
            let reward = reward(text.strip_prefix(&before).unwrap());
            let sequence = super::audit::sequence(&self.prompt.tokens, &tokens);
            let probability = model.sums(&[&sequence]).unwrap()[0].exp();
            (sequence, probability, reward)
        };
        let found: Vec<_> = all.into_iter().map(string).collect();
        let total: f64 = found.iter().map(|(_, p, _)| p).sum();
        assert!((total - 1.0).abs() < 1e-12, "{total}");
        found
    }
}

/// Projections of the gradient on random directions.
pub fn projected(trainer: &mut Trainer) -> Vec<f64> {
    trainer.gradient().unwrap();
    let learner = &mut trainer.policy;
    let mut found = vec![0.0; 6];
    for (leaf, _) in learner.model.parameters().iter().enumerate() {
        let Some(gradient) = learner.gradients.get(leaf) else {
            continue;
        };
        let numbers: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        for (direction, sum) in found.iter_mut().enumerate() {
            let mut stream = Stream::new(direction as u64, Purpose::Problem, leaf as u64);
            *sum += (numbers.iter())
                .map(|g| g * (stream.uniform() - 0.5))
                .sum::<f64>();
        }
    }
    learner.gradients.clear();
    found
}

/// Whether the reference is the policy that wrote.
fn behaviour(settings: &Settings) -> bool {
    settings.reference == ReferenceSource::Behaviour
}

/// The gradient on all strings, or all pairs or triples of them, by their probabilities.
pub fn exact(
    world: &World,
    settings: &Settings,
    objective: &TextObjective,
    temperature: f64,
) -> Vec<f64> {
    let strings = world.strings(settings.temperature);
    let model = world.model("model", temperature);
    let reference = if behaviour(settings) {
        "model"
    } else {
        "other"
    };
    let reference = world.model(reference, temperature);
    let drawn = settings.annotator == Annotator::BradleyTerry;
    let response = |(sequence, _, reward): &(Sequence, f64, f64)| Response {
        stored: Some(Stored {
            tokens: None,
            old: model.sums(&[sequence]).unwrap()[0],
            reference: reference.sums(&[sequence]).unwrap()[0],
        }),
        ..Response::new(sequence.clone(), *reward)
    };
    let responses: Vec<Response> = strings.iter().map(response).collect();
    let probability = |i: usize| strings[i].1;
    let mut examples: Vec<(Vec<Response>, f64)> = Vec::new();
    let all = 0..strings.len();
    match objective.kind() {
        InputKind::Singles => {
            examples.extend(all.map(|i| (vec![responses[i].clone()], probability(i))));
        }
        kind => {
            for (i, j) in all.clone().flat_map(|i| all.clone().map(move |j| (i, j))) {
                let mut pair = vec![responses[i].clone(), responses[j].clone()];
                let mut weight = probability(i) * probability(j);
                if kind == InputKind::LabelledPairs && drawn {
                    // Both orders come up, each with its own label; equal completions are drawn again.
                    let label = 1.0 / (1.0 + (pair[1].reward - pair[0].reward).exp());
                    weight *= if i == j { 0.0 } else { label };
                } else if kind == InputKind::LabelledPairs {
                    match pair[0].reward.total_cmp(&pair[1].reward) {
                        std::cmp::Ordering::Less => pair.reverse(),
                        std::cmp::Ordering::Equal => weight = 0.0,
                        std::cmp::Ordering::Greater => {}
                    }
                }
                examples.push((pair, weight));
            }
        }
    }
    let total: f64 = examples.iter().map(|(_, weight)| weight).sum();
    let count = examples.len() as f64;
    let examples: Vec<Example> = (examples.into_iter().enumerate())
        .map(|(row, (responses, weight))| Example {
            row: row as u64,
            responses,
            beside: Beside {
                weight: weight / total * count,
                ..Beside::default()
            },
        })
        .collect();
    let settings = Settings {
        batch: examples.len(),
        steps: Some(1),
        ..settings.clone()
    };
    let plan = Batches::of(objective.clone(), &settings, 64, &examples).unwrap();
    let policy = Box::new(world.model("model", temperature));
    let mut trainer = Trainer::new(&settings, plan, policy, None, Reference::Stored(None)).unwrap();
    projected(&mut trainer)
}

fn check(name: &str, completions: usize, temperature: f64) {
    check_with(settings(name), name, completions, temperature);
}

/// The same of any settings, against what is exact of an objective.
fn check_with(settings: Settings, of: &str, completions: usize, temperature: f64) {
    let world = World::new();
    let settings = Settings {
        prompts: Some("given".into()),
        completions: Some(completions),
        temperature,
        max_new_tokens: MOST,
        batch: ROWS,
        steps: Some(PHASES),
        redraws: 1000,
        seed: 11,
        ..settings
    };
    let objective = settings.objective().unwrap();
    let name = settings.objective.as_deref().unwrap();
    let tempered = if objective.tempered() {
        temperature
    } else {
        1.0
    };
    let reward = Weighted::new(vec![("text".into(), 1.0, Box::new(ByText))]);
    let (prompts, tokenizer) = (
        vec![world.prompt.clone()],
        Tokenizer::load(world.place.at("model")),
    );
    let rollouts = Rollouts::new(
        &settings,
        &objective,
        prompts,
        tokenizer.unwrap(),
        reward,
        None,
    );
    let plan = Batches::fed(objective.clone(), &settings, 64, rollouts.unwrap()).unwrap();
    let policy = Box::new(world.model("model", tempered));
    let other: Option<Box<dyn Network>> = if behaviour(&settings) {
        None
    } else {
        Some(Box::new(world.model("other", tempered)))
    };
    let reference = Reference::Stored(other);
    let value = objective.value().then(|| {
        let mut decoder = world.model("other", 1.0);
        ScalarHead::Value.add(&mut decoder, 3).unwrap();
        Box::new(TokenValues(decoder)) as Box<dyn Model>
    });
    let mut trainer = Trainer::new(&settings, plan, policy, value, reference).unwrap();
    let mut found = Vec::new();
    for _ in 0..PHASES {
        trainer.prepare(&Silent).unwrap();
        found.push(projected(&mut trainer));
        trainer.state.steps += 1;
    }
    let as_of = Settings {
        objective: Some(of.into()),
        numbers: crate::train::settings(of).numbers,
        ..settings.clone()
    };
    let wanted = exact(&world, &as_of, &as_of.objective().unwrap(), tempered);
    let n = PHASES as f64;
    for (direction, wanted) in wanted.iter().enumerate() {
        let all: Vec<f64> = found.iter().map(|f| f[direction]).collect();
        let mean = all.iter().sum::<f64>() / n;
        let squares: f64 = all.iter().map(|x| (x - mean).powi(2)).sum();
        let error = (squares / (n - 1.0) / n).sqrt();
        assert!(
            (mean - wanted).abs() < 4.5 * error,
            "{name}, temperature {temperature}, direction {direction}: {mean} ± {error}, {wanted}"
        );
        // The mean tells 0 from what is wanted somewhere.
        assert!(error > 0.0);
    }
    let strong = wanted.iter().enumerate().any(|(direction, wanted)| {
        let all: Vec<f64> = found.iter().map(|f| f[direction]).collect();
        let mean = all.iter().sum::<f64>() / n;
        let squares: f64 = all.iter().map(|x| (x - mean).powi(2)).sum();
        wanted.abs() > 8.0 * (squares / (n - 1.0) / n).sqrt()
    });
    assert!(strong, "{name}: noise");
}

#[test]
fn of_policy_gradients() {
    check("pg-zero", 1, 1.0);
    check("pg-zero", 3, 0.6);
    check("ppo-clip", 2, 1.0);
}

/// Token by token they are the same, without a critic, and with one that is wrong.
#[test]
fn of_tokens() {
    for (name, temperature) in [("grpo", 0.6), ("ppo", 1.0)] {
        let settings = Settings {
            gae_lambda: 1.0,
            whiten_advantages: false,
            value_per: ValuePer::Token,
            advantage: Some(Advantage::Reward),
            length_weight: Some(LengthWeight::Sum),
            ..settings(name)
        };
        check_with(settings, "pg-zero", 2, temperature);
    }
}

#[test]
fn of_groups_and_scored_pairs() {
    check("rloo", 2, 1.0);
    check("copg", 2, 0.6);
    check("dro-v-eliminated", 2, 1.0);
}

#[test]
fn of_preferences() {
    check("dpo", 2, 1.0);
    check("ipo", 4, 0.6);
}

/// BPO's first step: labels drawn by Bradley–Terry, against the policy that wrote.
#[test]
fn of_a_phases_first_step() {
    for name in ["dpo", "ipo", "slic"] {
        let settings = Settings {
            annotator: Annotator::BradleyTerry,
            reference: ReferenceSource::Behaviour,
            ..settings(name)
        };
        check_with(settings, name, 2, 1.0);
    }
}
