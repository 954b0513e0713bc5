//! Classes of prompts with rewards of their own, and a policy that has a skill to lose.
//!
//! A class is an opening word of the model's own texts. Three are trained on; the fourth, the forget class, is never:
//! there the policy that all trials start from is good at something that no reward looks at.

use crate::llm::model::decoder::Decoder;
use crate::llm::sample::generate::Generated;
use crate::llm::sample::reward::{Resources, Reward, Specification, Weighted};
use crate::llm::text::example::{Beside, Example, Response};
use crate::llm::train::reference::Reference;
use crate::llm::train::schedule::Shape;
use crate::llm::train::{Batches, Settings, Trainer};
use crate::observer::Silent;
use anyhow::{Result, ensure};
use serde_json::Map;

use super::super::classes::{Class, class, seed, words};
use super::super::rule::animals;
use super::super::world::{COMPLETION, World, candidates, sequence};
use super::scorers::{Kind, Scorer};

/// Classes that are trained on.
pub const TRAINED: usize = 3;

/// Factors of the rule's reward in the trained classes: how sharply it labels their pairs.
pub const SCALES: [f64; TRAINED] = [1.0, 2.0, 4.0];

/// Added to the rewards of the trained classes. Pairs share their prompt, so nothing that is learned from labels shows
/// them.
pub const OFFSETS: [f64; TRAINED] = [3.0, 0.0, -3.0];

/// Completions of each prompt by the initial policy: a pair, and a proposal of the Advantage Model.
pub const DRAWN: usize = 3;

/// How much of everything there is.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Sizes {
    /// Openings that are looked at for their first words.
    pub survey: usize,
    /// Prompts of each class, and how many of each are held out.
    pub prompts: usize,
    /// See [`prompts`](Self::prompts).
    pub held: usize,
    /// Held-out prompts of the forget class.
    pub forget: usize,
    /// Completions of a prompt of the forget class, the best of which the skill is learned from.
    pub best_of: usize,
    /// Rounds of completions that a trial writes, and completions in each.
    pub rounds: u64,
    /// See [`rounds`](Self::rounds).
    pub written: usize,
    /// Rounds between two judgements.
    pub every: u64,
}

/// What all trials share.
pub struct Tasks {
    /// The model and the rule.
    pub world: World,
    /// How much there is.
    pub sizes: Sizes,
    /// The policy that trials start from and are held against: the model, after it has learned its best texts of the
    /// forget class.
    initial: Decoder,
    /// The classes that are trained on.
    pub classes: Vec<Class>,
    /// The class that is not.
    pub forget: Class,
    /// Completions of all prompts of the trained classes by the initial policy, [`DRAWN`] of each.
    pub drawn: Vec<Generated>,
    /// The rule's rewards of these.
    pub rewards: Vec<f64>,
    pub(super) scorers: Vec<[Scorer; Kind::ALL.len()]>,
}

/// Streams of samples.
#[derive(Clone, Copy)]
pub enum Draw {
    /// What the skill is learned from.
    Skill,
    /// Completions of prompts that are trained on.
    Completions,
    /// Completions of held-out prompts by the initial policy, in pairs that scorers are judged by.
    Pairs,
    /// Completions of held-out prompts by a policy, and by the initial one.
    Evaluation,
}

impl Draw {
    fn index(self) -> u64 {
        match self {
            Self::Skill => 0,
            Self::Completions => 1,
            Self::Pairs => 2,
            Self::Evaluation => 3,
        }
    }
}

impl Tasks {
    /// The classes of a world, and the initial policy.
    ///
    /// # Errors
    /// A model whose openings have too few first words; a rule that tells no completions apart.
    pub fn new(world: World, sizes: Sizes, seeds: u64) -> Result<Self> {
        let base = world.decoder()?;
        let words = words(&world, &base, sizes.survey, 1 + TRAINED)?;
        let mut classes = Vec::new();
        for (index, word) in words.into_iter().enumerate() {
            let held = if index == 0 { sizes.forget } else { sizes.held };
            classes.push(class(&world, &base, index, word, [sizes.prompts, held])?);
        }
        // The commonest opening is the one that the model is most at home with.
        let forget = classes.remove(0);
        let initial = skilled(&world, base, &forget, sizes)?;
        let mut tasks = Self {
            world,
            sizes,
            initial,
            classes,
            forget,
            drawn: Vec::new(),
            rewards: Vec::new(),
            scorers: (0..seeds).map(|_| Default::default()).collect(),
        };
        let prompts = tasks.prompts();
        tasks.drawn = tasks.generate(&tasks.initial, &prompts, DRAWN, Draw::Completions)?;
        let mut rule = tasks.world.rule()?;
        tasks.rewards = tasks.world.rewards(&mut rule, &prompts, &tasks.drawn)?;
        ensure!(
            tasks.rewards.iter().any(|r| *r != tasks.rewards[0]),
            "reward: all {} completions have the same one; give one that tells them apart",
            tasks.rewards.len()
        );
        Ok(tasks)
    }

    /// A copy of the initial policy.
    ///
    /// # Errors
    /// A failing device.
    pub fn initial(&self) -> Result<Decoder> {
        Ok(self.initial.copy()?)
    }

    /// All prompts of the trained classes, class by class.
    pub fn prompts(&self) -> Vec<Vec<u32>> {
        let all = self.classes.iter().flat_map(|c| &c.prompts);
        all.cloned().collect()
    }

    /// All held-out prompts of the trained classes, class by class.
    pub fn held(&self) -> Vec<Vec<u32>> {
        let all = self.classes.iter().flat_map(|c| &c.held);
        all.cloned().collect()
    }

    /// Completions of each prompt.
    ///
    /// # Errors
    /// Those of the model.
    pub fn generate(
        &self,
        policy: &Decoder,
        prompts: &[Vec<u32>],
        samples: usize,
        draw: Draw,
    ) -> Result<Vec<Generated>> {
        let seed = seed(&self.world, draw.index());
        (self.world).generate(policy, prompts, [samples, COMPLETION], seed)
    }

    /// The rule of the forget class.
    ///
    /// # Errors
    /// None that is known.
    pub fn skill() -> Result<Weighted> {
        Ok(animals().build(&Resources::default())?)
    }

    /// Its parts, as the study's config says them.
    pub fn skill_rule() -> Specification {
        animals()
    }
}

/// The learning rate of the skill, and passes over what it is learned from.
pub const SKILL_LR: f64 = 5e-4;
/// See [`SKILL_LR`].
pub const SKILL_EPOCHS: f64 = 3.0;

/// The model after it has learned the best of its own completions in the forget class.
fn skilled(world: &World, model: Decoder, forget: &Class, sizes: Sizes) -> Result<Decoder> {
    let samples = sizes.best_of;
    let seed = seed(world, Draw::Skill.index());
    let drawn = world.generate(&model, &forget.prompts, [samples, COMPLETION], seed)?;
    let texts = world.texts(&forget.prompts, &drawn)?;
    let scores = Tasks::skill()?.score(&candidates(&texts, &Map::new()), &Silent)?;
    let mut examples = Vec::new();
    for (row, prompt) in forget.prompts.iter().enumerate() {
        let of = row * samples..(row + 1) * samples;
        // Of equal ones the first.
        let best = of.rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        if let Some(best) = best.filter(|&best| scores[best] > 0.0) {
            let sequence = sequence(prompt, &drawn[best])?;
            examples.push(Example {
                row: row as u64,
                responses: vec![Response::new(sequence, 0.0)],
                beside: Beside::default(),
            });
        }
    }
    ensure!(
        !examples.is_empty(),
        "{}: none of its texts after `{}` has what the forget class is to be good at",
        world.model.folder.display(),
        forget.word
    );
    let settings = Settings {
        objective: Some("sft".into()),
        lr: Some(SKILL_LR),
        schedule: Shape::Cosine,
        warmup: 0.1,
        batch: 32.min(examples.len()),
        epochs: SKILL_EPOCHS,
        seed: world.key,
        ..Settings::default()
    }
    .resolve()?;
    let plan = Batches::new(&settings, model.sizes().context, &examples)?;
    let steps = plan.steps();
    let mut trainer = Trainer::new(&settings, plan, Box::new(model), None, Reference::None)?;
    for _ in 0..steps {
        trainer.step(None)?;
    }
    Ok(trainer.policy.model.decoder().copy()?)
}
