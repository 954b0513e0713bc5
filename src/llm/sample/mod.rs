//! Sampling from a model, and scoring what it samples: generation, log-probabilities, rewards, evaluation.

pub mod evaluate;
pub mod generate;
pub mod logprobs;
pub mod reward;
pub mod selection;
