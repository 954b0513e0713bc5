//! DRO-V's ablations on single rated completions, offline: the paper's Figures 3 to 5 in small.
//!
//! Learning rates of policy and V, τ (of KTO too), and the network of V times what has a value of its own. Rewards
//! have mean 0 and standard deviation 1 over the data; a setting is judged by its win rate against the initial model
//! at the best of its checkpoints, which other prompts choose than those it is told of.

mod report;

use std::path::Path;

use crate::llm::model::heads::{PolicyWithValue, ScalarHead};
use crate::llm::text::example::{Beside, Example, Response};
use crate::llm::train::reference::Reference;
use crate::llm::train::{Batches, Model, Settings, Trainer, ValueNetwork, ValuePer};
use crate::loss::{InputKind, Objective};
use crate::observer::Work;
use anyhow::{Result, ensure};
use serde_json::json;

use super::copg::{EVERY, LR, SEEDS};
use super::judge::{Judge, mean};
use super::run::{Job, Run};
use super::trial::{BATCH, EPOCHS, WARMUP, value};
use super::world::{COMPLETION, PROMPT, World};
use super::{Request, Study};
use crate::rows::study_ablations::{Row, Setting, paper};

pub const STUDY: Study = Study {
    name: "dro-ablations",
    about: "DRO-V's learning rates, τ and value networks on a language model's single completions",
    run,
    report: report::report,
    ablations: None,
    full: false,
};

/// Prompts to train on.
const PROMPTS: usize = 1024;
/// Held-out prompts that choose a trial's checkpoint, and those that it is judged on.
const HELD: [usize; 2] = [128, 256];
/// Version of what `config` says.
const FORMAT: u32 = 1;

/// Networks of V, and what has a value of its own, in the order of tables.
const NETWORKS: [ValueNetwork; 2] = [ValueNetwork::Separate, ValueNetwork::Shared];
const PER: [ValuePer; 3] = [ValuePer::Prompt, ValuePer::Batch, ValuePer::Token];

/// No V.
const NONE: &str = "none";

/// DRO-V at those shares of the study's rate.
fn rates(lr: f64, value_lr: f64) -> Setting {
    Setting {
        lr,
        value_lr: Some(value_lr),
        ..network(ValueNetwork::Separate, ValuePer::Prompt)
    }
}

/// DRO-V with V by that network.
fn network(value: ValueNetwork, per: ValuePer) -> Setting {
    Setting {
        objective: Objective::DRO_V.name().into(),
        beta: 1.0,
        lr: 1.0,
        value_lr: (value == ValueNetwork::Separate).then_some(1.0),
        value: value.name().into(),
        value_per: per.name().into(),
    }
}

/// DRO-V or KTO at that τ.
fn tau(objective: Objective, beta: f64) -> Setting {
    let setting = Setting {
        beta,
        ..rates(1.0, 1.0)
    };
    if objective == Objective::DRO_V {
        return setting;
    }
    Setting {
        objective: objective.name().into(),
        value_lr: None,
        value: NONE.into(),
        value_per: NONE.into(),
        ..setting
    }
}

/// All settings, each once: the first is the one that the others change.
fn sweep() -> Vec<Setting> {
    let both = paper::FACTORS.map(|factor| rates(factor, factor));
    let alone = paper::FACTORS.map(|factor| rates(1.0, factor));
    let taus = [Objective::DRO_V, Objective::KTO].map(|o| paper::TAUS.map(|beta| tau(o, beta)));
    let networks = NETWORKS.map(|value| PER.map(|per| network(value, per)));
    let all = [rates(1.0, 1.0)].into_iter().chain(both).chain(alone);
    let all = all.chain(taus.into_iter().flatten());
    let mut found: Vec<Setting> = Vec::new();
    for setting in all.chain(networks.into_iter().flatten()) {
        if !found.contains(&setting) {
            found.push(setting);
        }
    }
    found
}

/// A setting and a seed.
struct Trial {
    setting: Setting,
    seed: u64,
    /// The study's learning rate.
    lr: f64,
}

/// What a trial trains.
struct Networks {
    policy: Box<dyn Model>,
    /// The separate value network.
    value: Option<Box<dyn Model>>,
}

fn run(request: &Request, dir: &Path) -> Result<()> {
    let count = request.prompts.unwrap_or(PROMPTS);
    let seeds = request.seeds.unwrap_or(SEEDS);
    let lr = request.lr.unwrap_or(LR);
    let world = World::of(request, dir, count, HELD.iter().sum())?;
    let (_, deviation) = moments(&world);
    ensure!(
        deviation > 0.0,
        "reward: all {} completions have the same one; give one that tells them apart",
        2 * count
    );
    let sweep = sweep();
    let config = json!({
        "format": FORMAT, "inputs": world.inputs, "reward": world.rule_parts(), "key": request.key, "prompts": count,
        "held": HELD, "seeds": seeds, "lr": lr, "every": EVERY, "epochs": EPOCHS, "warmup": WARMUP,
        "batch": 2 * BATCH, "settings": sweep, "tokens": [PROMPT, COMPLETION],
    });
    let run = Run::start(STUDY.name, request, dir, config)?;
    let mut trials = Vec::new();
    for seed in 0..seeds {
        trials.extend(sweep.iter().map(|setting| Trial {
            setting: setting.clone(),
            seed,
            lr,
        }));
    }
    let rows = run.trials("ablations", &world, &trials)?;
    run.finish(&rows)
}

/// Mean and standard deviation of the rewards of all completions.
fn moments(world: &World) -> (f64, f64) {
    let rewards: Vec<f64> = world.pairs.iter().flatten().map(|s| s.reward).collect();
    let middle = mean(&rewards);
    let squares: Vec<f64> = rewards.iter().map(|r| (r - middle).powi(2)).collect();
    (middle, mean(&squares).sqrt())
}

/// All completions as single ones, their rewards normalised; one is desirable if its reward is above the mean.
fn examples(objective: Objective, world: &World) -> Vec<Example> {
    let (mean, deviation) = moments(world);
    let rated = objective.spec().inputs == InputKind::Rated;
    let all = world.pairs.iter().flatten().zip(0..);
    let example = |(scored, row): (&super::world::Scored, u64)| {
        let normalised = (scored.reward - mean) / deviation;
        let reward = if rated {
            f64::from(normalised > 0.0)
        } else {
            normalised
        };
        Example {
            row,
            responses: vec![Response::new(scored.sequence.clone(), reward)],
            beside: Beside::default(),
        }
    };
    all.map(example).collect()
}

impl Trial {
    fn settings(&self) -> Result<Settings> {
        let Setting {
            objective,
            beta,
            lr,
            value_lr,
            value,
            value_per,
        } = &self.setting;
        let mut settings = Settings {
            objective: Some(objective.clone()),
            numbers: (*beta).into(),
            lr: Some(self.lr * lr),
            value_lr: value_lr.map(|factor| self.lr * factor),
            warmup: WARMUP,
            batch: 2 * BATCH,
            epochs: EPOCHS,
            seed: self.seed,
            ..Settings::default()
        };
        if let Some(&value) = NETWORKS.iter().find(|n| n.name() == value) {
            settings.value = value;
        }
        if let Some(&per) = PER.iter().find(|p| p.name() == value_per) {
            settings.value_per = per;
        }
        Ok(settings.resolve()?)
    }

    /// The networks before their first step.
    fn networks(&self, world: &World, settings: &Settings) -> Result<Networks> {
        let (mut policy, rows) = (world.decoder()?, settings.value_per.rows());
        if !settings.objective()?.value() {
            return Ok(Networks {
                policy: Box::new(policy),
                value: None,
            });
        }
        if settings.value == ValueNetwork::Shared {
            ScalarHead::Value.add(&mut policy, self.seed)?;
            return Ok(Networks {
                policy: Box::new(PolicyWithValue(policy, rows)),
                value: None,
            });
        }
        Ok(Networks {
            policy: Box::new(policy),
            value: Some(value(world, self.seed, rows)?),
        })
    }

    fn judge(&self, judge: &mut Judge, trainer: &Trainer, step: u64) -> Result<Row> {
        let judged = judge.of(trainer.policy.model.decoder())?;
        let (choosing, wins) = judged.wins.split_at(HELD[0]);
        let Setting {
            objective,
            beta,
            lr,
            value_lr,
            value,
            value_per,
        } = self.setting.clone();
        Ok(Row {
            objective,
            beta,
            lr,
            value_lr,
            value,
            value_per,
            seed: self.seed,
            step,
            choosing: mean(choosing),
            win: mean(wins),
            reward: mean(&judged.rewards[HELD[0]..]),
            kl: mean(&judged.kl[HELD[0]..]),
            prompts: wins.len() as u64,
        })
    }
}

impl Job for Trial {
    type World = World;
    type Row = Row;

    fn name(&self) -> String {
        let s = &self.setting;
        let value_lr = s.value_lr.map_or(NONE.into(), |lr| lr.to_string());
        format!(
            "{}-tau{}-lr{}-{value_lr}-{}-{}-seed{}",
            s.objective, s.beta, s.lr, s.value, s.value_per, self.seed
        )
    }

    fn steps(&self, world: &World) -> Result<u64> {
        let settings = self.settings()?;
        let examples = examples(settings.objective()?.registered(), world);
        Ok(Batches::new(&settings, usize::MAX, &examples)?.steps())
    }

    fn run(&self, world: &World, work: &dyn Work) -> Result<Vec<Row>> {
        let settings = self.settings()?;
        let objective = settings.objective()?.registered();
        let examples = examples(objective, world);
        let Networks { policy, value } = self.networks(world, &settings)?;
        let plan = Batches::new(&settings, policy.context(), &examples)?;
        let steps = plan.steps();
        // KTO's z₀ is of mismatched completions, which nobody has computed before.
        let reference = match objective.spec().inputs {
            InputKind::Rated => Reference::Live(Box::new(world.decoder()?)),
            _ => Reference::Cached(world.cache.clone()),
        };
        let mut trainer = Trainer::new(&settings, plan, policy, value, reference)?;
        let mut judge = Judge::new(world)?;
        let mut rows = vec![self.judge(&mut judge, &trainer, 0)?];
        for step in 1..=steps {
            trainer.step(None)?;
            if step.is_multiple_of(EVERY) || step == steps {
                rows.push(self.judge(&mut judge, &trainer, step)?);
            }
            work.advance(1);
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Figure 3 has seven settings, Figure 4 five more and Figure 5 five more; of each pair of trials the files differ.
    #[test]
    fn every_setting_of_the_paper_is_there_once_and_can_be_trained() {
        let all = sweep();
        assert_eq!(all.len(), 17);
        let mut names = BTreeSet::new();
        for setting in all {
            let trial = Trial {
                setting: setting.clone(),
                seed: 0,
                lr: 2e-4,
            };
            assert!(names.insert(trial.name()), "{setting:?}");
            let settings = trial.settings().unwrap();
            assert_eq!(settings.lr, Some(2e-4 * setting.lr));
            assert_eq!(settings.value_lr, setting.value_lr.map(|lr| 2e-4 * lr));
            if setting.value != NONE {
                assert_eq!(settings.value.name(), setting.value);
                assert_eq!(settings.value_per.name(), setting.value_per);
            }
        }
    }
}
