//! A sequence bandit: strings with rewards, and the table over the same arms.

use super::{Language, walk};
use crate::bandit::{Beta, PairLaw, Policy, Problem, Prompt, Simplex};
use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::llm::model::sequence::Sequence;
use crate::random::{Purpose, Stream};
use ndarray_rand::rand_distr::{Distribution, StandardNormal};

/// A language, and the [`Problem`] whose arm `a` of prompt `x` is response `a` to prompt `x`: its
/// exact J, KL, regret and fixed points are those of the language.
#[derive(Debug, Clone)]
pub struct Bandit {
    language: Language,
    problem: Problem,
}

impl Bandit {
    /// Joins a language and a problem over its responses.
    ///
    /// # Errors
    /// Another number of prompts or arms, or an arm whose reference probability is 0.
    pub fn new(language: Language, problem: Problem) -> Result<Self> {
        let (prompts, arms) = (language.prompts().len(), language.responses());
        let found = problem.prompts().len();
        if found != prompts {
            return Err(Error::invalid(
                "prompts",
                format!("the problem has {found} and the language {prompts}"),
                "give as many",
            ));
        }
        for (x, prompt) in problem.prompts().iter().enumerate() {
            if prompt.arms() != arms {
                return Err(Error::invalid(
                    format!("prompts[{x}]"),
                    format!(
                        "its reference allows {} of {} arms and the language has {arms} responses",
                        prompt.arms(),
                        prompt.given_arms()
                    ),
                    "give every response a reference probability above 0",
                ));
            }
        }
        Ok(Self { language, problem })
    }

    /// The bandit whose reference is the policy of `reference` as it is now, whatever becomes of
    /// it later; prompts have equal weights. `reward` is asked for prompt and completion, `law` for
    /// the prompt's law of pairs, given its reference.
    ///
    /// # Errors
    /// A model that does not fit the language, or rewards and laws that make no [`Problem`].
    pub fn around(
        reference: &Decoder,
        language: Language,
        beta: f64,
        mut reward: impl FnMut(usize, &[u32]) -> f64,
        mut law: impl FnMut(usize, &[f64]) -> Result<PairLaw>,
    ) -> Result<Self> {
        let weight = 1.0 / language.prompts().len() as f64;
        let mut prompts = Vec::new();
        for (x, reference) in walk(reference, &language)?
            .probabilities()
            .into_iter()
            .enumerate()
        {
            let place = format!("prompts[{x}]");
            let rewards: Vec<f64> = (0..language.responses())
                .map(|arm| reward(x, &language.completion(arm)))
                .collect();
            let law = law(x, &reference)?;
            let reference = Simplex::new(&format!("{place}.reference"), reference)?;
            prompts.push(Prompt::new(&place, weight, &rewards, &reference, &law)?);
        }
        Self::new(language, Problem::new(Beta::new("beta", beta)?, prompts)?)
    }

    /// The language.
    pub fn language(&self) -> &Language {
        &self.language
    }

    /// The table.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The same arms with a problem changed.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn map(&self, change: impl FnOnce(&Problem) -> Problem) -> Result<Self> {
        Self::new(self.language.clone(), change(&self.problem))
    }

    /// Every response to every prompt, prompts end to end.
    ///
    /// # Errors
    /// None for a checked language.
    pub fn sequences(&self) -> Result<Vec<Sequence>> {
        let each = (0..self.language.prompts().len()).map(|x| self.language.sequences(x));
        Ok(each.collect::<Result<Vec<_>>>()?.concat())
    }

    /// One number per response, prompts end to end, as one row per prompt.
    pub fn rows(&self, numbers: &[f64]) -> Vec<Vec<f64>> {
        let rows = numbers.chunks(self.language.responses());
        rows.map(<[f64]>::to_vec).collect()
    }
}

/// Seeded normal rewards of that standard deviation, one of each response.
pub fn normal_rewards(seed: u64, scale: f64) -> impl FnMut(usize, &[u32]) -> f64 {
    let mut streams: Vec<Stream> = Vec::new();
    move |x, _| {
        while streams.len() <= x {
            streams.push(Stream::new(seed, Purpose::Problem, streams.len() as u64));
        }
        let z: f64 = StandardNormal.sample(streams[x].rng());
        scale * z
    }
}

/// The largest total variation between two policies over prompts.
pub fn total_variation(p: &Policy, q: &Policy) -> f64 {
    let (p, q) = (p.probabilities(), q.probabilities());
    let row = |(p, q): (&Vec<f64>, &Vec<f64>)| -> f64 {
        p.iter().zip(q).map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0
    };
    p.iter().zip(&q).map(row).fold(0.0, f64::max)
}
