//! Reward models and Advantage Models, trained on labelled pairs of the initial policy's completions, and what they
//! score.

use std::sync::Mutex;

use crate::llm::model::decoder::Decoder;
use crate::llm::model::heads::{AdvantageScorer, ScalarHead, Scorer as RewardScorer};
use crate::llm::model::network::Network;
use crate::llm::sample::reward::calibration::{Calibration, Group, Pair};
use crate::llm::sample::reward::{Candidate, Reward, ScoredTexts, Scores, Weighted};
use crate::llm::sample::selection::{Chosen, embeddings, select};
use crate::llm::text::data::RowRules;
use crate::llm::text::example::{Beside, Example, Response, Stored};
use crate::llm::train::reference::Reference;
use crate::llm::train::schedule::Shape;
use crate::llm::train::{Batches, Model, Settings, Trainer};
use crate::loss::Given;
use crate::observer::{Observer, Silent, Work};
use crate::random::{Purpose, Stream};
use crate::stats::Bootstrap;
use anyhow::{Context, Result, anyhow};
use serde_json::Map;

use super::super::classes::{Class, first_word};
use super::super::run::Job;
use super::super::world::{candidates, sequence};
use super::tasks::{DRAWN, Draw, OFFSETS, SCALES, Tasks};
use crate::rows::study_rehearsal::ScorerRow;

/// m, the paper's.
pub const MARGIN: f64 = 2.5;
/// Bins of the calibration error.
const BINS: usize = 10;
/// The rate in one pass over the pairs, whose shape is the paper's but for its end: a warm-up of 10 %, a cosine.
pub const LR: f64 = 1e-3;
/// Pairs in a step.
pub const BATCH: usize = 16;
/// Tokens that are scored at once.
const TOKENS: usize = 8192;
/// Completions of each prompt that rehearsal chooses from.
pub const CHOSEN_FROM: usize = 2;

/// What gives PPO its rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A reward model.
    Reward,
    /// An Advantage Model.
    Advantage,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Reward, Self::Advantage];

    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reward => "reward model",
            Self::Advantage => "advantage model",
        }
    }
}

/// A scorer of one kind and seed: trained when it is first asked for, and kept.
pub type Scorer = Mutex<Option<Trained>>;

/// A scorer that was trained, with its scores of the first completions of every prompt once they were asked for.
pub struct Trained {
    model: Decoder,
    scores: Option<Vec<f64>>,
}

impl Tasks {
    /// What a scorer makes of a completion, as a reward; with `offset` that of the prompt's class is added.
    ///
    /// # Errors
    /// Those of the training.
    pub fn scorer(&self, kind: Kind, seed: u64, offset: bool) -> Result<Weighted> {
        let scores = self.with(kind, seed, |trained| self.scores(kind, &trained.model))?;
        let mut parts: Vec<(String, f64, Box<dyn Reward>)> =
            vec![(kind.name().into(), 1.0, Box::new(scores))];
        if offset {
            let words = self.classes.iter().map(|c| c.word.clone());
            let offsets = Offsets(words.zip(OFFSETS).collect());
            parts.push(("offset".into(), 1.0, Box::new(offsets)));
        }
        Ok(Weighted::new(parts))
    }

    /// A copy of the network of a scorer.
    ///
    /// # Errors
    /// Those of the training.
    #[cfg(test)]
    pub fn trained(&self, kind: Kind, seed: u64) -> Result<Decoder> {
        self.with(kind, seed, |trained| Ok(trained.model.copy()?))
    }

    /// Runs something with the scorer of that kind and seed, which is trained if it was not yet.
    fn with<X>(
        &self,
        kind: Kind,
        seed: u64,
        use_it: impl FnOnce(&mut Trained) -> Result<X>,
    ) -> Result<X> {
        let of_seed = self.scorers.get(seed as usize);
        let scorer = of_seed.map(|both| &both[kind as usize]);
        let scorer = scorer.with_context(|| format!("seed {seed}: there is no scorer of it"))?;
        let mut scorer = scorer.lock().map_err(|_| anyhow!("a trial panicked"))?;
        if scorer.is_none() {
            let model = self.train(kind, seed)?;
            *scorer = Some(Trained {
                model,
                scores: None,
            });
        }
        match scorer.as_mut() {
            Some(trained) => use_it(trained),
            None => Err(anyhow!("this is a bug of pistar")),
        }
    }

    /// How scorers read texts.
    fn read(&self) -> Result<ScoredTexts> {
        let lengths = RowRules {
            allow_empty: true,
            ..RowRules::default()
        };
        let context = self.initial()?.sizes().context;
        Ok(ScoredTexts::new(
            self.world.model.tokenizer()?,
            context,
            lengths,
        )?)
    }

    fn scores(&self, kind: Kind, model: &Decoder) -> Result<Scores> {
        let network: Box<dyn Network> = match kind {
            Kind::Reward => Box::new(RewardScorer {
                decoder: model.copy()?,
                head: ScalarHead::Reward,
            }),
            Kind::Advantage => Box::new(AdvantageScorer(model.copy()?)),
        };
        Ok(Scores::of(network, self.read()?, TOKENS))
    }

    /// The labelled pairs of all trained prompts: P(first ≻ second) = σ(s(R₁ − R₂)) with s of the class.
    fn pairs(&self, seed: u64) -> Result<Vec<Example>> {
        let prompts = self.prompts();
        let texts = self.world.texts(&prompts, &self.drawn)?;
        let (read, fields) = (self.read()?, Map::new());
        let rows = candidates(&texts, &fields);
        let mut labels = Stream::new(seed, Purpose::Labels, 0);
        let mut examples = Vec::new();
        for (index, rows) in rows.chunks(DRAWN).enumerate() {
            let at = index * DRAWN;
            let scale = SCALES[index / self.sizes.prompts];
            let first = is_first(
                &mut labels,
                scale * (self.rewards[at] - self.rewards[at + 1]),
            );
            let mut responses = Vec::with_capacity(DRAWN);
            for (row, drawn) in rows.iter().zip(&self.drawn[at..]) {
                let mut response = Response::new(read.sequence(row)?, 0.0);
                // They were drawn from the policy that expectations are of: their ratios are 1.
                response.stored = Some(Stored {
                    old: drawn.log_prob,
                    reference: drawn.log_prob,
                    tokens: None,
                });
                responses.push(response);
            }
            if !first {
                responses.swap(0, 1);
            }
            examples.push(Example {
                row: index as u64,
                responses,
                beside: Beside {
                    proposals: DRAWN - 2,
                    ..Beside::default()
                },
            });
        }
        Ok(examples)
    }

    /// A scorer before its first step is the initial policy's body with new heads.
    fn train(&self, kind: Kind, seed: u64) -> Result<Decoder> {
        let mut examples = self.pairs(seed)?;
        let mut decoder = self.initial()?;
        ScalarHead::Reward.add(&mut decoder, seed)?;
        let tokenizer = &self.world.tokenizer;
        decoder.read_end(tokenizer.eos(), tokenizer.pad());
        let context = decoder.sizes().context;
        let (objective, network): (_, Box<dyn Model>) = match kind {
            Kind::Reward => {
                for example in &mut examples {
                    example.responses.truncate(2);
                    example.beside.proposals = 0;
                }
                let head = ScalarHead::Reward;
                ("reward-model", Box::new(RewardScorer { decoder, head }))
            }
            Kind::Advantage => {
                ScalarHead::Expected.add(&mut decoder, seed)?;
                ("advantage-model", Box::new(AdvantageScorer(decoder)))
            }
        };
        let numbers = match kind {
            Kind::Reward => Given::new(),
            Kind::Advantage => Given::new().with("margin", MARGIN),
        };
        let settings = Settings {
            objective: Some(objective.into()),
            numbers,
            lr: Some(LR),
            schedule: Shape::Cosine,
            warmup: 0.1,
            batch: BATCH.min(examples.len()),
            seed,
            ..Settings::default()
        }
        .resolve()?;
        let plan = Batches::new(&settings, context, &examples)?;
        let steps = plan.steps();
        let mut trainer = Trainer::new(&settings, plan, network, None, Reference::None)?;
        for _ in 0..steps {
            trainer.step(None)?;
        }
        Ok(trainer.policy.model.decoder().copy()?)
    }

    /// What is rehearsed: of `clusters` clusters of the prompts the completions with the best advantages, `kept` in
    /// all.
    ///
    /// # Errors
    /// Those of the training; more clusters than prompts.
    pub fn rehearsed(&self, seed: u64, clusters: usize, kept: usize) -> Result<Vec<Example>> {
        let prompts = self.prompts();
        let scores = self.with(Kind::Advantage, seed, |trained| match &trained.scores {
            Some(scores) => Ok(scores.clone()),
            None => {
                let found = self.first_scores(&trained.model, &prompts)?;
                trained.scores = Some(found.clone());
                Ok(found)
            }
        })?;
        let tokens: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let points = embeddings(&self.initial()?, &tokens, TOKENS)?;
        let numbered = scores.iter().enumerate();
        let numbers: Vec<(usize, f64)> = numbered.map(|(i, &s)| (i / CHOSEN_FROM, s)).collect();
        let chosen = select(&points, &numbers, clusters, kept / clusters, seed)?;
        let example = |(row, chosen): (usize, &Chosen)| -> Result<Example> {
            let (prompt, sample) = (chosen.example / CHOSEN_FROM, chosen.example % CHOSEN_FROM);
            let drawn = &self.drawn[prompt * DRAWN + sample];
            let sequence = sequence(&prompts[prompt], drawn)?;
            Ok(Example {
                row: row as u64,
                responses: vec![Response::new(sequence, 0.0)],
                beside: Beside::default(),
            })
        };
        chosen.iter().enumerate().map(example).collect()
    }

    /// Advantages of the first completions of each prompt.
    fn first_scores(&self, model: &Decoder, prompts: &[Vec<u32>]) -> Result<Vec<f64>> {
        let first: Vec<_> = (self.drawn.chunks(DRAWN))
            .flat_map(|drawn| drawn[..CHOSEN_FROM].to_vec())
            .collect();
        let texts = self.world.texts(prompts, &first)?;
        let mut scores = self.scores(Kind::Advantage, model)?;
        Ok(scores.score(&candidates(&texts, &Map::new()), &Silent)?)
    }
}

fn is_first(labels: &mut Stream, logit: f64) -> bool {
    labels.uniform() < 1.0 / (1.0 + (-logit).exp())
}

/// A number of the class that a prompt is of.
struct Offsets(Vec<(String, f64)>);

impl Reward for Offsets {
    fn name(&self) -> String {
        "offset".into()
    }

    fn score(&mut self, rows: &[Candidate], _: &dyn Observer) -> crate::Result<Vec<f64>> {
        let offset = |row: &Candidate| {
            let word = first_word(row.prompt);
            let class = self.0.iter().find(|(of, _)| of == word);
            class.map_or(0.0, |(_, offset)| *offset)
        };
        Ok(rows.iter().map(offset).collect())
    }
}

/// The examination of a scorer on pairs of held-out prompts.
pub struct Examination {
    /// What it is of.
    pub kind: Kind,
    /// Seed of its labels and of its training.
    pub seed: u64,
}

impl Job for Examination {
    type World = Tasks;
    type Row = ScorerRow;

    fn name(&self) -> String {
        format!("{}-seed{}", self.kind.name().replace(' ', "-"), self.seed)
    }

    fn steps(&self, _: &Tasks) -> Result<u64> {
        Ok(1)
    }

    fn run(&self, tasks: &Tasks, work: &dyn Work) -> Result<Vec<ScorerRow>> {
        let prompts = tasks.held();
        let drawn = tasks.generate(&tasks.initial()?, &prompts, 2, Draw::Pairs)?;
        let rewards = (tasks.world).rewards(&mut tasks.world.rule()?, &prompts, &drawn)?;
        let texts = tasks.world.texts(&prompts, &drawn)?;
        let fields = Map::new();
        let mut scorer = tasks.scorer(self.kind, self.seed, false)?;
        let scores = scorer.score(&candidates(&texts, &fields), &Silent)?;
        let mut labels = Stream::new(self.seed, Purpose::Labels, 1);
        let mut pairs = Vec::new();
        for prompt in 0..prompts.len() {
            let (class, at) = (prompt / tasks.sizes.held, 2 * prompt);
            let logit = SCALES[class] * (rewards[at] - rewards[at + 1]);
            let mut each = [scores[at], scores[at + 1]];
            if !is_first(&mut labels, logit) {
                each.reverse();
            }
            pairs.push(Pair {
                category: Some(tasks.classes[class].word.clone()),
                prompt,
                chosen: each[0],
                rejected: each[1],
            });
        }
        let bootstrap = Bootstrap::default();
        let found = Calibration::new(&pairs, BINS, Some(MARGIN), &bootstrap)?;
        let row = |class: &str, group: &Group| ScorerRow {
            scorer: self.kind.name().into(),
            seed: self.seed,
            class: class.into(),
            pairs: group.pairs as u64,
            accuracy: group.accuracy.map_or(f64::NAN, |a| a.value),
            ece: group.ece,
            mean: group.rewards.mean,
            sd: group.rewards.sd,
            beyond: group.beyond.unwrap_or(0.0),
        };
        let mut rows = vec![row(ScorerRow::ALL, &found.all)];
        let of_class = |c: &Class| Some(row(&c.word, found.categories.get(&c.word)?));
        rows.extend(tasks.classes.iter().filter_map(of_class));
        work.advance(1);
        Ok(rows)
    }
}
