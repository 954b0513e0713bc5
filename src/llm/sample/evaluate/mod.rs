//! Evaluation of models on prompts: reward, KL from the reference, entropy, length, and win rates, by the
//! reward and by a judge.

mod compare;
mod entrant;
pub mod judge;
mod load;
mod prompts;
mod report;

pub use compare::{Compared, compare};
pub use entrant::{Completion, Entrant, generated, read, rewarded};
pub use load::{Loaded, load};
pub use prompts::{Prompt, Prompts};
pub use report::{Report, WinRate, win_rate};

use super::generate::Sampling;
use super::reward::Weighted;
use crate::error::Result;
use crate::llm::model::decoder::Decoder;
use crate::llm::text::tokenizer::Tokenizer;
use crate::observer::Observer;
use crate::stats::Bootstrap;

/// Settings of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationSettings {
    /// Sampling of completions, and their number per prompt.
    pub sampling: Sampling,
    /// Seed of the completions.
    pub seed: u64,
    /// Most sequences that are generated at once.
    pub batch: usize,
    /// Most tokens that policy and reference are run on at once.
    pub batch_tokens: usize,
    /// The intervals.
    pub bootstrap: Bootstrap,
}

impl Default for EvaluationSettings {
    /// The model's own distribution, 16 at once, 95 %.
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            seed: 0,
            batch: 16,
            batch_tokens: 8192,
            bootstrap: Bootstrap::default(),
        }
    }
}

/// Draws completions of the prompts, scores them, and holds them against the reference if there is
/// one. The same seed gives the same report, whatever the number of threads and the batch.
///
/// # Errors
/// Those of [`generate`](super::generate::generate), of the rewards and of the reference.
pub fn evaluate(
    model: &Decoder,
    reference: Option<&Decoder>,
    tokenizer: &Tokenizer,
    prompts: &Prompts,
    rewards: &mut Weighted,
    settings: &EvaluationSettings,
    observer: &dyn Observer,
) -> Result<(Report, Entrant)> {
    let (completions, sequences) = generated(model, tokenizer, prompts, settings, observer)?;
    let mut entrant = rewarded("model", completions, prompts, rewards, observer)?;
    if let Some(reference) = reference {
        let compared = compare(
            model,
            reference,
            &sequences,
            settings.batch_tokens,
            observer,
        )?;
        for (completion, compared) in entrant.completions.iter_mut().zip(compared) {
            completion.compared = Some(compared);
        }
    }
    let report = Report::new(&entrant, &settings.sampling, &settings.bootstrap);
    Ok((report, entrant))
}
