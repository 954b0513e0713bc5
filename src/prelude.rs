//! Names that most programs use: `use pistar::prelude::*`.
//!
//! A loss of one's own is a [`Loss`]: a [`Spec`], numbers ([`numbers!`]) and a formula of [`Inputs`]; where it leads is asked of
//! [`fixed_point`] on a [`Problem`], with [`Evidence`] of the population or of a [`Dataset`].
//!
//! ```
//! use pistar::prelude::*;
//!
//! let problem = random_problem(Shape { prompts: 2, arms: 4, beta: 0.5, reward_scale: 1.0 }, 7)?;
//! let dpo = fixed_point(Objective::DPO, &problem, &Evidence::population(&problem))?;
//! assert!(dpo.regret.unwrap() < 1e-9);
//! # Ok::<(), pistar::Error>(())
//! ```

pub use crate::backend::Backend;
pub use crate::bandit::{Dataset, Evidence, Policy, Problem, Shape, random_problem};
pub use crate::error::{Error, Result};
#[cfg(feature = "llm")]
pub use crate::llm::{
    model::decoder::Decoder,
    model::model_folder::ModelFolder,
    sample::generate::{Sampling, generate},
    text::tokenizer::Tokenizer,
    train::{Settings, train},
};
pub use crate::loss::{
    Column, Given, Group, InputKind, Inputs, Kind, Loss, Numbers, Objective, Pair, Rated, Response,
    Single, Spec, Table, Temperature, Tokens, register,
};
pub use crate::numbers;
pub use crate::solve::{FixedPoint, fixed_point};
