//! Data that all trials of a study share: prompts and completions of the reference, scored.

use std::path::Path;

use crate::llm::model::decoder::Decoder;
use crate::llm::model::identity::Identity;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::model::sequence::Sequence;
use crate::llm::sample::generate::{Generated, Sampling, generate};
use crate::llm::sample::reward::{Candidate, Resources, Reward, Specification, Weighted};
use crate::llm::text::tokenizer::Tokenizer;
use crate::llm::train::reference::Cache;
use crate::observer::Silent;
use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device};
use serde_json::{Map, Value, json};

use super::rule::rule;
use super::{Request, tiny};

/// Tokens of a prompt after BOS, and most of a completion.
pub const PROMPT: usize = 15;
/// See [`PROMPT`].
pub const COMPLETION: usize = 48;
/// Completions that are made at once.
const BATCH: usize = 64;

/// Streams of samples: their seeds are the key and one of these.
#[derive(Clone, Copy)]
pub enum Draw {
    Prompts = 0,
    Completions = 1,
    Evaluation = 2,
    /// What a policy's completions are held against.
    Against = 3,
}

/// A completion of the reference and its reward.
#[derive(Debug, Clone)]
pub struct Scored {
    /// Prompt and completion.
    pub sequence: Sequence,
    /// Its reward.
    pub reward: f64,
}

/// A model, and what it says to prompts of its own.
pub struct World {
    /// Folder of the model; an adapter is merged, and all is trained.
    pub model: ModelFolder,
    /// Hashes of all that its rows depend on: the model's folder, and what the reward reads.
    pub inputs: Identity,
    /// Two completions of each prompt.
    pub pairs: Vec<[Scored; 2]>,
    /// The reference's log-probabilities of all completions.
    pub cache: Cache,
    /// Prompts that nothing is trained on.
    pub held: Vec<Vec<u32>>,
    /// Seed of all random streams.
    pub key: u64,
    /// The token that prompts begin with.
    pub bos: u32,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// A model of stories may begin the next one instead of ending this one.
    ends: Vec<u32>,
    reward: Specification,
}

impl World {
    /// That of a request, with so many prompts to train on and to hold out.
    ///
    /// # Errors
    /// A model or a reward that cannot be used.
    pub fn of(request: &Request, dir: &Path, count: usize, held: usize) -> Result<Self> {
        let mut world = Self::open(request, dir)?;
        world.fill(count, held)?;
        Ok(world)
    }

    /// The rule's parts, as a study's config says them.
    pub fn rule_parts(&self) -> Vec<Value> {
        let parts = self.reward.0.iter();
        parts.map(|p| json!([p.weight, p.rule])).collect()
    }

    /// The model and the reward of a request, without prompts.
    ///
    /// # Errors
    /// A model or a reward that cannot be used.
    pub fn open(request: &Request, dir: &Path) -> Result<Self> {
        let model = ModelFolder::find(tiny::model(request, dir)?)?;
        let reward = rule(&request.reward)?;
        let mut inputs = Identity::default();
        inputs.network("model", &model)?;
        inputs.texts("model", &model)?;
        for uncovered in reward.identify(&mut inputs, "reward", &request.depends)? {
            request.observer.tell(&uncovered);
        }
        let tokenizer = model.tokenizer()?;
        let bos = tokenizer.bos().with_context(|| {
            format!(
                "{}: its tokenizer names no BOS token, with which prompts begin",
                model.folder.display()
            )
        })?;
        let context = model.config()?.sizes().context;
        ensure!(
            context >= 1 + PROMPT + COMPLETION,
            "{}: its context of {context} tokens is too short; the study needs {}",
            model.folder.display(),
            1 + PROMPT + COMPLETION
        );
        Ok(Self {
            model,
            inputs,
            pairs: Vec::new(),
            cache: Cache::new(String::new(), Path::new("memory")),
            held: Vec::new(),
            key: request.key,
            bos,
            ends: tokenizer.ends().iter().copied().chain([bos]).collect(),
            tokenizer,
            reward,
        })
    }

    /// Draws `count` prompts to train on and `held` others, and two completions of the former.
    fn fill(&mut self, count: usize, held: usize) -> Result<()> {
        let decoder = self.decoder()?;
        let mut prompts = self.prompts(&decoder, count + held)?;
        self.held = prompts.split_off(count);
        let drawn = self.sample(&decoder, &prompts, Draw::Completions)?;
        let rewards = self.rewards(&mut self.rule()?, &prompts, &drawn)?;
        for (i, prompt) in prompts.iter().enumerate() {
            let scored = |j: usize| -> Result<Scored> {
                Ok(Scored {
                    sequence: sequence(prompt, &drawn[j])?,
                    reward: rewards[j],
                })
            };
            self.pairs.push([scored(2 * i)?, scored(2 * i + 1)?]);
        }
        for some in self.pairs.chunks(BATCH) {
            let sequences: Vec<_> = some.iter().flatten().map(|s| s.sequence.clone()).collect();
            self.cache.fill(&decoder, &sequences, usize::MAX)?;
        }
        Ok(())
    }

    /// The tokens that end a completion.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// Tokens that the tokenizer cannot join.
    pub fn text(&self, tokens: &[u32]) -> Result<String> {
        Ok(self.tokenizer.decode_text(tokens)?)
    }

    /// The model that trials start from.
    ///
    /// # Errors
    /// If it cannot be read again.
    pub fn decoder(&self) -> Result<Decoder> {
        Ok(self.model.decoder(DType::F32, &Device::Cpu)?.merge()?)
    }

    /// Openings that the model writes itself; those that it ends are left out.
    ///
    /// # Errors
    /// Those of the model; one that ends most of them.
    pub fn prompts(&self, decoder: &Decoder, count: usize) -> Result<Vec<Vec<u32>>> {
        let starts = vec![vec![self.bos]; count + count / 4 + BATCH];
        let drawn = self.sample(decoder, &starts, Draw::Prompts)?;
        let whole = drawn.into_iter().filter(|d| !d.ended);
        let prompts: Vec<Vec<u32>> = whole
            .take(count)
            .map(|d| [vec![self.bos], d.tokens].concat())
            .collect();
        ensure!(
            prompts.len() == count,
            "{}: it ends most texts within {PROMPT} tokens; the study needs longer ones",
            self.model.folder.display()
        );
        Ok(prompts)
    }

    /// Completions of each prompt, at temperature 1.
    ///
    /// # Errors
    /// Those of the model.
    pub fn sample(
        &self,
        decoder: &Decoder,
        prompts: &[Vec<u32>],
        draw: Draw,
    ) -> Result<Vec<Generated>> {
        let (samples, max_new_tokens) = match draw {
            Draw::Prompts => (1, PROMPT),
            Draw::Completions => (2, COMPLETION),
            Draw::Evaluation | Draw::Against => (1, COMPLETION),
        };
        let seed = self.key.wrapping_mul(4).wrapping_add(draw as u64);
        self.generate(decoder, prompts, [samples, max_new_tokens], seed)
    }

    /// So many completions of each prompt, of at most so many tokens, at temperature 1.
    ///
    /// # Errors
    /// Those of the model.
    pub fn generate(
        &self,
        decoder: &Decoder,
        prompts: &[Vec<u32>],
        [samples, max_new_tokens]: [usize; 2],
        seed: u64,
    ) -> Result<Vec<Generated>> {
        let sampling = Sampling {
            max_new_tokens,
            samples,
            ..Sampling::default()
        };
        Ok(generate(
            decoder, &self.ends, prompts, &sampling, seed, BATCH, &Silent,
        )?)
    }

    /// The rule, with what it reads from files in memory.
    ///
    /// # Errors
    /// A rule that cannot be used.
    pub fn rule(&self) -> Result<Weighted> {
        Ok(self.reward.build(&Resources::default())?)
    }

    /// The rule's scores of completions, as many of each prompt.
    ///
    /// # Errors
    /// Those of the rule.
    pub fn rewards(
        &self,
        rule: &mut Weighted,
        prompts: &[Vec<u32>],
        drawn: &[Generated],
    ) -> Result<Vec<f64>> {
        let texts = self.texts(prompts, drawn)?;
        Ok(rule.score(&candidates(&texts, &Map::new()), &Silent)?)
    }

    /// Prompt and completion of each in text, as many completions of each prompt.
    ///
    /// # Errors
    /// Tokens that the tokenizer cannot join.
    pub fn texts(&self, prompts: &[Vec<u32>], drawn: &[Generated]) -> Result<Vec<[String; 2]>> {
        let samples = drawn.len() / prompts.len().max(1);
        let text = |(i, drawn): (usize, &Generated)| -> Result<[String; 2]> {
            let end = drawn.tokens.len() - usize::from(drawn.ended);
            Ok([
                self.text(&prompts[i / samples])?,
                self.text(&drawn.tokens[..end])?,
            ])
        };
        drawn.iter().enumerate().map(text).collect()
    }
}

/// Texts of prompt and completion as rewards take them.
pub fn candidates<'a>(
    texts: &'a [[String; 2]],
    fields: &'a Map<String, Value>,
) -> Vec<Candidate<'a>> {
    let candidate = |(index, [prompt, completion]): (usize, &'a [String; 2])| Candidate {
        prompt,
        completion,
        index,
        fields,
    };
    texts.iter().enumerate().map(candidate).collect()
}

/// Prompt and completion in one.
///
/// # Errors
/// A completion without a token.
pub fn sequence(prompt: &[u32], drawn: &Generated) -> Result<Sequence> {
    Ok(Sequence::new(
        [prompt, &drawn.tokens].concat(),
        prompt.len(),
    )?)
}
