//! What a model says, and what that is worth: generation, log-probabilities, rewards, evaluation.

pub mod evaluate;
pub mod generate;
pub mod logprobs;
pub mod reward;
