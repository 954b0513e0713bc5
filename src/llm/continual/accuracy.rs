//! Accuracy on the tasks of a sequence, by what the policy writes.

use super::ranked::marked;
use super::tasks::{Accuracy, Task};
use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::sample::generate::{Prompt, Sampling, generate};
use crate::llm::sample::reward::{Resources, Specification, Weighted};
use crate::llm::text::tokenizer::Tokenizer;
use crate::llm::train::{Evaluation, completions};
use crate::observer::Observer;

/// How well a policy knows one task.
pub struct Examination {
    name: String,
    tokenizer: Tokenizer,
    prompts: Vec<Prompt>,
    score: Weighted,
    accuracy: Accuracy,
    writing: Writing,
    /// Scores of the first policy's completions.
    first: Vec<f64>,
}

/// How held-out prompts are completed.
#[derive(Debug, Clone)]
pub struct Writing {
    /// How completions are drawn.
    pub sampling: Sampling,
    /// Seed of the draws: the same at every examination.
    pub seed: u64,
    /// Sequences that are generated at once.
    pub batch: usize,
}

impl Examination {
    /// That of a task, on prompts that were read; `mark` is written behind each, if there is one.
    ///
    /// # Errors
    /// Rewards or prompts that cannot be used.
    pub fn new(
        task: &Task,
        prompts: &[Prompt],
        tokenizer: Tokenizer,
        context: usize,
        mark: Option<&str>,
        writing: &Writing,
        resources: &Resources,
    ) -> Result<Self> {
        let place = format!("task {}", task.name);
        let score = Specification::parse(task.scores()).and_then(|score| score.build(resources));
        let marked = |prompt: &Prompt| -> Result<Prompt> {
            let Some(mark) = mark else {
                return Ok(prompt.clone());
            };
            let text = marked(&prompt.text.clone().into(), mark)?;
            let text = text.as_str().unwrap_or_default();
            let fields = prompt.fields.clone();
            Ok(Prompt {
                fields,
                ..Prompt::new(text, &tokenizer, context)?
            })
        };
        let prompts = prompts.iter().map(marked).collect::<Result<_>>();
        Ok(Self {
            name: task.name.clone(),
            prompts: prompts.map_err(|e| e.in_file(&place))?,
            tokenizer,
            score: score.map_err(|e| e.in_file(&place))?,
            accuracy: task.accuracy,
            writing: writing.clone(),
            first: Vec::new(),
        })
    }

    /// Scores of a policy's completions, one of each prompt.
    ///
    /// # Errors
    /// Those of the model and of the reward.
    pub fn scores(&mut self, policy: &Decoder, observer: &dyn Observer) -> Result<Vec<f64>> {
        let tokens: Vec<Vec<u32>> = self.prompts.iter().map(|p| p.tokens.clone()).collect();
        let ends = self.tokenizer.ends();
        let Writing {
            sampling,
            seed,
            batch,
        } = &self.writing;
        let found = generate(policy, ends, &tokens, sampling, *seed, *batch, observer)?;
        let prompts = &self.prompts;
        let prompt = |i: usize| (i, &prompts[i]);
        let texts = completions::texts(&self.tokenizer, prompt, sampling.samples, &found)?;
        let samples = sampling.samples;
        completions::scores(&mut self.score, prompt, samples, &texts, observer)
    }

    /// Whether scores of the first policy are needed.
    pub fn compares(&self) -> bool {
        self.accuracy == Accuracy::Wins
    }

    /// The same, with the scores that the first policy has.
    #[must_use]
    pub fn against(mut self, first: Vec<f64>) -> Self {
        self.first = first;
        self
    }

    /// The accuracy that scores come to.
    ///
    /// # Errors
    /// A score that is to be in [0, 1] and is not.
    pub fn accuracy(&self, scores: &[f64]) -> Result<f64> {
        let each = scores
            .iter()
            .enumerate()
            .map(|(i, &score)| match self.accuracy {
                Accuracy::Score if (0.0..=1.0).contains(&score) => Ok(score),
                Accuracy::Score => Err(Error::invalid(
                    format!("task {}: score", self.name),
                    format!("one is {score}, and an accuracy is from 0 to 1"),
                    "give accuracy = { between = { low = …, high = … } } or accuracy = \"wins\"",
                )),
                Accuracy::Between { low, high } => {
                    Ok(((score - low) / (high - low)).clamp(0.0, 1.0))
                }
                Accuracy::Wins => Ok(match score.total_cmp(&self.first[i]) {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                }),
            });
        let each = each.collect::<Result<Vec<f64>>>()?;
        Ok(each.iter().sum::<f64>() / each.len() as f64)
    }

    /// The accuracy of a policy.
    ///
    /// # Errors
    /// Those of [`scores`](Self::scores) and [`accuracy`](Self::accuracy).
    pub fn of(&mut self, policy: &Decoder, observer: &dyn Observer) -> Result<f64> {
        let scores = self.scores(policy, observer)?;
        self.accuracy(&scores)
    }
}

/// The examinations of all tasks, in order.
pub struct Examinations(pub Vec<Examination>);

/// Name of a task's accuracy among metrics.
pub fn metric(task: &str) -> String {
    format!("accuracy/{task}")
}

impl Evaluation for Examinations {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|of| metric(&of.name)).collect()
    }

    fn run(
        &mut self,
        policy: &Decoder,
        _step: u64,
        observer: &dyn Observer,
    ) -> Result<Vec<(String, f64)>> {
        (self.0.iter_mut())
            .map(|of| Ok((metric(&of.name), of.of(policy, observer)?)))
            .collect()
    }
}
