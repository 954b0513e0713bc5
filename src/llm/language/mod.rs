//! The enumerable language: a sequence bandit whose every response can be listed.
//!
//! It joins the two halves. A transformer's whole distribution over its [`Language`] is found by
//! [`walk`]ing the tree of strings, and a [`Bandit`] is the table over the same arms; so where an
//! objective should take the transformer is exact ([`fixed_point`](crate::solve::fixed_point)), and
//! so are J, KL and regret of where it went. The exact expectation of an objective is a weighted
//! batch of token sequences ([`Population`]) for the very [`Step`](crate::llm::train::step::Step) that language
//! models are trained with: a fault in masking, EOS, packing or accumulation shows as a wrong fixed
//! point.

mod bandit;
mod dataset;
mod measure;
mod population;
mod seeds;
mod strings;
mod table;
mod training;
mod walk;

pub use bandit::{Bandit, normal_rewards, total_variation};
pub use dataset::examples;
pub use measure::{Measure, implicit};
pub use population::Population;
pub use seeds::{LAYERS, START, Seeds, WIDTH, spelled, start};
pub use strings::{Language, MOST_RESPONSES};
pub use table::{Cells, Table};
pub use training::{Trained, Training};
pub use walk::{scores, walk};
