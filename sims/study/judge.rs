//! Judgement of a policy by its completions of held-out prompts, held against the initial model's.

use std::cmp::Ordering;

use crate::llm::model::decoder::Decoder;
use crate::llm::model::sequence::Sequence;
use crate::llm::sample::reward::Weighted;
use anyhow::Result;

use super::world::{Draw, World, sequence};

/// What a policy is judged by: the initial model, and the rewards of its completions of the held-out prompts, drawn
/// with numbers of their own.
pub struct Judge<'a> {
    world: &'a World,
    initial: Decoder,
    rule: Weighted,
    rewards: Vec<f64>,
}

/// Numbers of the policy's completions, one of each held-out prompt.
pub struct Judged {
    /// The rule's reward.
    pub rewards: Vec<f64>,
    /// 1 where that is greater than the initial model's, ½ where it is the same, else 0.
    pub wins: Vec<f64>,
    /// `ln π/π₀`, in nats: an estimate of the KL divergence.
    pub kl: Vec<f64>,
    /// Sum over the completion's tokens of the entropy of the next token, in nats.
    pub entropy: Vec<f64>,
    /// Tokens.
    pub tokens: Vec<f64>,
}

impl<'a> Judge<'a> {
    /// The judge of a world.
    ///
    /// # Errors
    /// Those of the model and of the rule.
    pub fn new(world: &'a World) -> Result<Self> {
        let (initial, mut rule) = (world.decoder()?, world.rule()?);
        let drawn = world.sample(&initial, &world.held, Draw::Against)?;
        let rewards = world.rewards(&mut rule, &world.held, &drawn)?;
        Ok(Self {
            world,
            initial,
            rule,
            rewards,
        })
    }

    /// Judges a policy, always with the same random numbers.
    ///
    /// # Errors
    /// Those of the model and of the rule.
    pub fn of(&mut self, policy: &Decoder) -> Result<Judged> {
        let (world, held) = (self.world, &self.world.held);
        let drawn = world.sample(policy, held, Draw::Evaluation)?;
        let rewards = world.rewards(&mut self.rule, held, &drawn)?;
        let sequences: Vec<Sequence> = (held.iter().zip(&drawn))
            .map(|(prompt, drawn)| sequence(prompt, drawn))
            .collect::<Result<_>>()?;
        let initial = (self.initial).sums(&sequences.iter().collect::<Vec<_>>())?;
        let wins = rewards.iter().zip(&self.rewards);
        let wins = wins.map(|(ours, theirs)| match ours.total_cmp(theirs) {
            Ordering::Greater => 1.0,
            Ordering::Equal => 0.5,
            Ordering::Less => 0.0,
        });
        Ok(Judged {
            wins: wins.collect(),
            rewards,
            kl: (drawn.iter().zip(&initial))
                .map(|(d, r)| d.log_prob - r)
                .collect(),
            entropy: drawn.iter().map(|d| d.entropy).collect(),
            tokens: drawn.iter().map(|d| d.tokens.len() as f64).collect(),
        })
    }
}

/// The mean of some numbers.
pub fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}
