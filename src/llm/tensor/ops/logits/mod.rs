//! Operations on logits `h Wᵀ + b` of a whole vocabulary, which are made a part at a time and never kept where they are
//! many.

pub(super) mod composed;
mod cpu;
pub mod cross_entropy;
mod facts;
pub mod logit_difference;
pub(super) mod plain;
mod teacher;
#[cfg(test)]
mod tests;
pub mod token_log_probs;

use super::{Case, Entry, Shapes};

pub use cross_entropy::cross_entropy;
pub use facts::{Compared, Sizes};
pub use logit_difference::logit_difference;
pub use teacher::Teacher;
pub use token_log_probs::token_log_probs;

pub(super) const ENTRY: Entry = Entry {
    folder: "logits",
    functions: &["token_log_probs", "cross_entropy", "logit_difference"],
    cases,
};

fn cases(shapes: &Shapes) -> Vec<Case> {
    let mut all = token_log_probs::cases(shapes);
    all.extend(cross_entropy::Call::cases(shapes));
    all.extend(logit_difference::Call::cases(shapes));
    all
}
