//! Contextual bandits: problems, behaviour laws (distributions of responses), policies, datasets drawn from
//! them, and their exact values (J, regret, KL, V*, population losses). The responses to a prompt are its arms.

mod dataset;
mod evidence;
mod file;
mod law;
mod logistic;
mod policy;
pub mod population;
mod problem;
mod synthetic;
mod value;

pub use dataset::{Dataset, RANKED_PAIRS_CAP, Record};
pub use evidence::{Comparisons, Edge, Evidence, PromptEvidence, Threshold, View};
pub use law::PairLaw;
pub use policy::{Policy, log_softmax, log_sum_exp};
pub use problem::{Beta, Problem, Prompt, Simplex};
pub use synthetic::{Shape, random_problem};
pub use value::{Optimum, kl};
