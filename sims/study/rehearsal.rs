//! PPO on the scores of a reward model or of an Advantage Model, with selective rehearsal or without, and what it
//! forgets: the Advantage Model's section 4.3 in small.
//!
//! Four classes of prompts; the policy learns on three, whose pairs a rule labels with a sharpness of their own, and is
//! watched on the fourth, where it was made good at something that no reward looks at.

mod judge;
mod report;
mod scorers;
mod tasks;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::llm::model::heads::{ScalarHead, TokenValues};
use crate::llm::sample::generate::Prompt;
use crate::llm::text::example::Example;
use crate::llm::train::reference::Reference;
use crate::llm::train::schedule::Shape;
use crate::llm::train::{
    Batches, Lesson, Model, ReferenceSource, Rollouts, Settings, Share, Trainer,
};
use crate::loss::Given;
use crate::observer::{Silent, Work};
use anyhow::{Context, Result};
use serde_json::{Map, json};

use super::run::{Job, Run};
use super::world::{COMPLETION, PROMPT, World};
use super::{Request, Study};
use crate::rows::study_rehearsal::{
    AM, DEFAULT_CLUSTERS, REJECTION, RM, RM_MA, RM_OFFSETS, Row, SCORERS, SR, Setting,
};
use judge::Judge;
use scorers::{CHOSEN_FROM, Examination, Kind, MARGIN};
use tasks::{DRAWN, OFFSETS, SCALES, SKILL_EPOCHS, SKILL_LR, Sizes, TRAINED, Tasks};

pub const STUDY: Study = Study {
    name: "rehearsal",
    about: "PPO on reward and Advantage Models, and selective rehearsal: what each gains and forgets",
    run,
    report: report::report,
    ablations: None,
    full: true,
};

const SIZES: Sizes = Sizes {
    survey: 2048,
    prompts: 640,
    held: 128,
    forget: 768,
    best_of: 8,
    rounds: 16,
    written: 128,
    every: 4,
};
const SEEDS: u64 = 4;
const LR: f64 = 2e-4;
const BETA: f64 = 0.02;
/// The paper's γ.
const GAMMA: f64 = 0.01;
/// Other ones, of the full study.
const GAMMAS: [f64; 2] = [0.001, 0.1];
/// The paper's Figure 6 in small.
const CLUSTERS: [u64; 4] = [1, 2, 4, 8];
/// Examples that are rehearsed in all, whatever the clusters, and in a step.
const KEPT: usize = 128;
/// See [`KEPT`].
const REHEARSED: usize = 16;
/// Steps of PPO on a round.
const STEPS: u64 = 4;
/// Completions of which rejection sampling keeps the best, prompts in a step of it, and passes over a round.
const BEST_OF: usize = 4;
/// See [`BEST_OF`].
const BATCH: usize = 32;
/// See [`BEST_OF`].
const PASSES: u64 = 2;
/// Its learning rate.
const REJECTION_LR: f64 = 2e-4;
/// Version of what `config` says.
const FORMAT: u32 = 1;

/// A method without rehearsal.
fn plain(method: &str) -> Setting {
    Setting {
        method: method.into(),
        clusters: 0,
        gamma: 0.0,
    }
}

/// PPO on advantages with selective rehearsal.
fn rehearsing(clusters: u64, gamma: f64) -> Setting {
    Setting {
        method: SR.into(),
        clusters,
        gamma,
    }
}

/// All settings: the methods, then what rehearsal is varied by.
fn sweep(full: bool) -> Vec<Setting> {
    let mut all = [RM, RM_MA, RM_OFFSETS, AM].map(plain).to_vec();
    all.push(rehearsing(DEFAULT_CLUSTERS, GAMMA));
    all.push(plain(REJECTION));
    let others = CLUSTERS.into_iter().filter(|&c| c != DEFAULT_CLUSTERS);
    all.extend(others.map(|c| rehearsing(c, GAMMA)));
    if full {
        all.extend(GAMMAS.map(|gamma| rehearsing(DEFAULT_CLUSTERS, gamma)));
    }
    all
}

fn run(request: &Request, dir: &Path) -> Result<()> {
    let prompts = match request.prompts {
        Some(all) => all.div_ceil(TRAINED),
        None => SIZES.prompts,
    };
    study(request, dir, Sizes { prompts, ..SIZES })
}

fn study(request: &Request, dir: &Path, sizes: Sizes) -> Result<()> {
    let seeds = request.seeds.unwrap_or(SEEDS);
    let lr = request.lr.unwrap_or(LR);
    let world = World::open(request, dir)?;
    let sweep = sweep(request.full);
    let skill: Vec<_> = (Tasks::skill_rule().0.iter())
        .map(|p| json!([p.weight, p.rule]))
        .collect();
    let config = json!({
        "format": FORMAT, "inputs": world.inputs, "reward": world.rule_parts(), "key": request.key,
        "sizes": sizes, "seeds": seeds, "lr": lr, "beta": BETA, "margin": MARGIN, "scales": SCALES,
        "offsets": OFFSETS, "drawn": DRAWN, "scorer": [scorers::LR, scorers::BATCH], "skill": [SKILL_LR, SKILL_EPOCHS], "lexicon": skill,
        "rehearsed": [KEPT, REHEARSED, CHOSEN_FROM], "steps": STEPS, "rejection": [BEST_OF, BATCH, PASSES], "rejection_lr": REJECTION_LR,
        "settings": sweep, "tokens": [PROMPT, COMPLETION],
    });
    let run = Run::start(STUDY.name, request, dir, config)?;
    let tasks = Tasks::new(world, sizes, seeds)?;
    let mut trials = Vec::new();
    let mut examinations = Vec::new();
    for seed in 0..seeds {
        examinations.extend(Kind::ALL.map(|kind| Examination { kind, seed }));
        trials.extend(sweep.iter().map(|setting| Trial {
            setting: setting.clone(),
            seed,
            lr,
        }));
    }
    let scorers = run.trials("scorers", &tasks, &examinations)?;
    run.write(SCORERS, &scorers)?;
    let rows = run.trials("rehearsal", &tasks, &trials)?;
    run.finish(&rows)
}

/// A setting and a seed.
struct Trial {
    setting: Setting,
    seed: u64,
    lr: f64,
}

impl Trial {
    fn is(&self, method: &str) -> bool {
        self.setting.method == method
    }

    fn settings(&self, sizes: Sizes) -> Result<Settings> {
        let own = Settings {
            prompts: Some("openings of the model's own".into()),
            // A scorer of the study's own scores them.
            reward: vec!["length".into()],
            reference: ReferenceSource::Precomputed,
            max_new_tokens: COMPLETION,
            schedule: Shape::Constant,
            seed: self.seed,
            ..Settings::default()
        };
        if self.is(REJECTION) {
            let rounds = sizes.rounds / sizes.every;
            let prompts = sizes.every * sizes.written as u64 / BEST_OF as u64;
            let batch = BATCH.min(prompts as usize);
            let pass = prompts / batch as u64;
            return Ok(Settings {
                objective: Some("sft".into()),
                completions: Some(BEST_OF),
                phases: Some(rounds),
                phase_epochs: PASSES,
                batch,
                steps: Some(rounds * pass * PASSES),
                lr: Some(REJECTION_LR),
                ..own
            }
            .resolve()?);
        }
        let rehearses = self.setting.clusters > 0;
        let settings = Settings {
            objective: Some("ppo".into()),
            numbers: Given::new().with("beta", BETA),
            phases: Some(sizes.rounds),
            batch: sizes.written / STEPS as usize,
            steps: Some(sizes.rounds * STEPS),
            lr: Some(self.lr),
            normalise_rewards: self.is(RM_MA),
            rehearse: rehearses.then(|| "chosen from what the initial policy wrote".into()),
            ..own
        };
        Ok(if rehearses {
            Settings {
                rehearse_weight: self.setting.gamma,
                rehearse_batch: REHEARSED,
                ..settings
            }
        } else {
            settings
        }
        .resolve()?)
    }

    /// What the policy learns from.
    fn kind(&self) -> Kind {
        if self.is(AM) || self.is(SR) {
            Kind::Advantage
        } else {
            Kind::Reward
        }
    }

    fn trainer<'a>(
        &self,
        tasks: &Tasks,
        settings: &'a Settings,
        rehearsed: &'a Vec<Example>,
    ) -> Result<Trainer<'a>> {
        let objective = settings.objective()?;
        let world = &tasks.world;
        let prompt = |tokens: &Vec<u32>| -> Result<Prompt> {
            Ok(Prompt {
                text: world.text(tokens)?,
                tokens: tokens.clone(),
                fields: Map::new(),
            })
        };
        let prompts = tasks.prompts().iter().map(prompt).collect::<Result<_>>()?;
        let reward = tasks.scorer(self.kind(), self.seed, self.is(RM_OFFSETS))?;
        let tokenizer = world.model.tokenizer()?;
        let rollouts = Rollouts::new(settings, &objective, prompts, tokenizer, reward, None)?;
        let rollouts = rollouts.ending_at(world.ends().to_vec());
        let policy = tasks.initial()?;
        let context = policy.sizes().context;
        let value: Option<Box<dyn Model>> = if objective.has_critic() {
            let mut decoder = tasks.initial()?;
            ScalarHead::Value.add(&mut decoder, self.seed)?;
            Some(Box::new(TokenValues(decoder)))
        } else {
            None
        };
        let reference = if objective.reference() {
            Reference::Stored(Some(Box::new(tasks.initial()?)))
        } else {
            Reference::None
        };
        let mut lesson = Lesson::default();
        if self.setting.clusters > 0 {
            let rehearsal = Share::rehearsal(settings, context, rehearsed)?;
            lesson.shares.push(rehearsal);
        }
        let plan = Batches::fed(objective, settings, context, rollouts)?;
        let trainer = Trainer::new(settings, plan, Box::new(policy), value, reference)?;
        Ok(trainer.beside_which(lesson))
    }
}

impl Job for Trial {
    type World = Tasks;
    type Row = Row;

    fn name(&self) -> String {
        let Setting {
            method,
            clusters,
            gamma,
        } = &self.setting;
        let method = method
            .to_lowercase()
            .replace([',', '/'], "")
            .replace(' ', "-");
        format!("{method}-c{clusters}-gamma{gamma}-seed{}", self.seed)
    }

    fn steps(&self, tasks: &Tasks) -> Result<u64> {
        let steps = self.settings(tasks.sizes)?.steps;
        steps.context("a trial without a number of steps")
    }

    fn run(&self, tasks: &Tasks, work: &dyn Work) -> Result<Vec<Row>> {
        let sizes = tasks.sizes;
        let settings = self.settings(sizes)?;
        let watched = tasks.rehearsed(self.seed, DEFAULT_CLUSTERS as usize, KEPT)?;
        let rehearsed = match self.setting.clusters {
            0 | DEFAULT_CLUSTERS => watched.clone(),
            clusters => tasks.rehearsed(self.seed, clusters as usize, KEPT)?,
        };
        let scorer = tasks.scorer(self.kind(), self.seed, false)?;
        let mut judge = Judge::new(tasks, scorer, &watched)?;
        let mut trainer = self.trainer(tasks, &settings, &rehearsed)?;
        let mut judged = |trainer: &Trainer, written: u64| {
            let policy = trainer.policy.model.decoder();
            judge.rows(policy, &self.setting, self.seed, written)
        };
        let steps = self.steps(tasks)?;
        let every = steps * sizes.every / sizes.rounds;
        let mut rows = judged(&trainer, 0)?;
        for step in 1..=steps {
            trainer.prepare(&Silent)?;
            trainer.step(None)?;
            work.advance(1);
            if step.is_multiple_of(every) {
                let written = step / every * sizes.every * sizes.written as u64;
                rows.extend(judged(&trainer, written)?);
            }
        }
        Ok(rows)
    }
}
