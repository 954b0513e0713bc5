//! One training run of a study, and how its policy does on the way.

use crate::llm::model::decoder::Decoder;
use crate::llm::model::heads::{ScalarHead, Scorer, TokenValues};
use crate::llm::model::network::ValueRows;
use crate::llm::model::sequence::Sequence;
use crate::llm::sample::reward::Weighted;
use crate::llm::text::example::{Beside, Example, Response};
use crate::llm::train::reference::Reference;
use crate::llm::train::{Batches, Model, Settings, Trainer};
use crate::loss::{InputKind, Objective};
use crate::observer::Work;
use anyhow::Result;
use candle_core::{DType, Device};

use super::run::Job;
use super::world::{Draw, Scored, World, sequence};
use crate::rows::study::Row;

/// Pairs in a step, or half the single responses in one.
pub const BATCH: usize = 64;
pub(super) const EPOCHS: f64 = 2.0;
/// Share of all steps in which the rate rises.
pub(super) const WARMUP: f64 = 0.1;

/// A setting and a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Part of the study: `sweep`, or `best` for the best β of the sweep again, on new seeds.
    pub part: &'static str,
    /// Objective that is minimised.
    pub objective: Objective,
    /// Its β.
    pub beta: f64,
    /// Seed of the order of the data.
    pub seed: u64,
    /// Learning rate.
    pub lr: f64,
    /// Held-out prompts that the policy is judged on.
    pub prompts: usize,
    /// Steps between two judgements.
    pub every: u64,
}

impl Job for Trial {
    type World = World;
    type Row = Row;

    fn name(&self) -> String {
        let (part, objective) = (self.part, self.objective.name());
        format!("{part}-{objective}-beta{}-seed{}", self.beta, self.seed)
    }

    fn steps(&self, world: &World) -> Result<u64> {
        let settings = self.settings()?;
        Ok(Batches::new(&settings, usize::MAX, &examples(self.objective, world))?.steps())
    }

    fn run(&self, world: &World, work: &dyn Work) -> Result<Vec<Row>> {
        let load = || world.decoder();
        let (policy, reference) = (load()?, load()?);
        let mut rule = world.rule()?;
        let settings = self.settings()?;
        let examples = examples(self.objective, world);
        let plan = Batches::new(&settings, policy.sizes().context, &examples)?;
        let steps = plan.steps();
        let value = if plan.objective().value() {
            Some(value(world, self.seed, ValueRows::Prompt)?)
        } else {
            None
        };
        let mut trainer = Trainer::new(
            &settings,
            plan,
            Box::new(policy),
            value,
            self.reference(world)?,
        )?;
        let mut judge = |trainer: &Trainer, step| {
            let policy = trainer.policy.model.decoder();
            self.judge(world, &mut rule, [policy, &reference], step)
        };
        let mut rows = vec![judge(&trainer, 0)?];
        for step in 1..=steps {
            trainer.step(None)?;
            if step.is_multiple_of(self.every) || step == steps {
                rows.push(judge(&trainer, step)?);
            }
            work.advance(1);
        }
        Ok(rows)
    }
}

impl Trial {
    fn settings(&self) -> Result<Settings> {
        let singles = matches!(
            self.objective.spec().inputs,
            InputKind::Singles | InputKind::Rated
        );
        let settings = Settings {
            objective: Some(self.objective.name().into()),
            numbers: self.beta.into(),
            lr: Some(self.lr),
            warmup: WARMUP,
            batch: if singles { 2 * BATCH } else { BATCH },
            epochs: EPOCHS,
            seed: self.seed,
            ..Settings::default()
        };
        Ok(settings.resolve()?)
    }

    fn reference(&self, world: &World) -> Result<Reference> {
        // KTO's z₀ is of mismatched completions, which nobody has computed before.
        Ok(match self.objective.spec().inputs {
            InputKind::Rated => Reference::Live(Box::new(world.decoder()?)),
            _ => Reference::Cached(world.cache.clone()),
        })
    }

    /// Reward, KL and the like of one completion of each held-out prompt; the same random numbers
    /// at every step.
    fn judge(
        &self,
        world: &World,
        rule: &mut Weighted,
        [policy, reference]: [&Decoder; 2],
        step: u64,
    ) -> Result<Row> {
        let prompts = &world.held[..self.prompts];
        let drawn = world.sample(policy, prompts, Draw::Evaluation)?;
        let rewards = world.rewards(rule, prompts, &drawn)?;
        let sequences: Vec<Sequence> = (prompts.iter().zip(&drawn))
            .map(|(prompt, drawn)| sequence(prompt, drawn))
            .collect::<Result<_>>()?;
        let of_reference = reference.sums(&sequences.iter().collect::<Vec<_>>())?;
        let mean =
            |numbers: &mut dyn Iterator<Item = f64>| numbers.sum::<f64>() / drawn.len() as f64;
        Ok(Row {
            part: self.part.into(),
            objective: self.objective.name().into(),
            beta: self.beta,
            seed: self.seed,
            step,
            prompts: drawn.len() as u64,
            reward: mean(&mut rewards.iter().copied()),
            kl: mean(&mut drawn.iter().zip(&of_reference).map(|(d, r)| d.log_prob - r)),
            entropy: mean(&mut drawn.iter().map(|d| d.entropy)),
            tokens: mean(&mut drawn.iter().map(|d| d.tokens.len() as f64)),
        })
    }
}

/// A separate value network that is read at those rows, before its first step.
pub(super) fn value(world: &World, seed: u64, rows: ValueRows) -> Result<Box<dyn Model>> {
    let mut decoder = (world.model.body(DType::F32, &Device::Cpu)?).merge()?;
    let head = ScalarHead::Value;
    head.add(&mut decoder, seed)?;
    Ok(match rows {
        ValueRows::Prompt => Box::new(Scorer { decoder, head }),
        ValueRows::Completion => Box::new(TokenValues(decoder)),
    })
}

/// The world's pairs as the objective takes them. Pairs with equal rewards have no preference, and
/// are left out for every objective on pairs, so that all see the same. A single response is
/// desirable if its reward is above the mean.
fn examples(objective: Objective, world: &World) -> Vec<Example> {
    let all = || world.pairs.iter().flatten();
    let mean = all().map(|s| s.reward).sum::<f64>() / all().count() as f64;
    let response = |scored: &Scored, reward: f64| Response::new(scored.sequence.clone(), reward);
    let example = |(row, responses): (usize, Vec<Response>)| Example {
        row: row as u64,
        responses,
        beside: Beside::default(),
    };
    let pairs = world.pairs.iter().filter(|[a, b]| a.reward != b.reward);
    match objective.spec().inputs {
        InputKind::LabelledPairs => (pairs.map(|[a, b]| {
            if a.reward > b.reward {
                vec![response(a, 0.0), response(b, 0.0)]
            } else {
                vec![response(b, 0.0), response(a, 0.0)]
            }
        }))
        .enumerate()
        .map(example)
        .collect(),
        InputKind::Rated => all()
            .map(|s| vec![response(s, f64::from(s.reward > mean))])
            .enumerate()
            .map(example)
            .collect(),
        InputKind::Singles => all()
            .map(|s| vec![response(s, s.reward)])
            .enumerate()
            .map(example)
            .collect(),
        _ => pairs
            .map(|[a, b]| vec![response(a, a.reward), response(b, b.reward)])
            .enumerate()
            .map(example)
            .collect(),
    }
}
