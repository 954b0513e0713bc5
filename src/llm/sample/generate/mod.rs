//! Text from a model: tokens drawn one after the other.
//!
//! Keys and values of the tokens so far are kept, so that a token costs one row a sequence. A sequence
//! that ends leaves the batch and the next one takes its place; samples of a prompt share its keys
//! and values. Every sample has a random stream of its own, and on the CPU a row's numbers do not
//! depend on the other rows: what is generated depends on neither the batch size nor the number of
//! threads.

mod attention;
mod batch;
mod cache;
mod cut;
mod draw;
mod engine;
mod graph;
mod layers;
mod machine;
mod memory;
mod prompts;
mod sampling;
mod session;
mod tensors;
mod text;

use candle_core::DType;

use crate::error::{Error, Result};
use crate::llm::model::decoder::Decoder;
use crate::observer::{Observer, Work};
use batch::Job;
use machine::Cached;
use tensors::OnDevice;

pub use memory::Draw;
pub use prompts::Prompt;
pub use sampling::{SAMPLES, Sampling};
pub use session::Session;
pub use text::{completion_text, prompt_tokens};

/// Most completions that are made at once: all of them are kept.
const MOST: usize = 100_000_000;

/// A completion.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generated {
    /// Its tokens; EOS included where it ended.
    pub tokens: Vec<u32>,
    /// True if it ended with EOS; else it was cut.
    pub ended: bool,
    /// True if it was cut because the model takes no more tokens, before `max_new_tokens`.
    pub context_full: bool,
    /// `Σ ln π` of its tokens, under the model itself: at temperature 1 and without cuts.
    pub log_prob: f64,
    /// Sum over its positions of the entropy of the model's next token, in nats: its expectation is
    /// the entropy of the completions if they are drawn without cuts at temperature 1.
    pub entropy: f64,
}

/// Completions of every prompt, `sampling.samples` each, prompt by prompt: those of prompt i begin at
/// `i · samples`. `ends` are the tokens that end one (none: only lengths do). At most `batch_size`
/// sequences run at once. Sample j of prompt i has a stream of its own, of `seed`, i and j:
/// what is generated depends on nothing else (on a GPU, up to the rounding of its products).
///
/// A completion ends at one of `ends`, at `max_new_tokens`, or when prompt and completion together
/// have as many tokens as the model takes.
///
/// `observer` hears how many completions are done, and the rate of tokens.
///
/// # Errors
/// A number of `sampling` that makes no sense, a prompt that is empty, has a token beyond the
/// vocabulary or leaves no room for one more; logits that are not finite; a failing device;
/// [`Error::Interrupted`] once the observer's work is [unwanted](Work::is_unwanted).
pub fn generate(
    model: &Decoder,
    ends: &[u32],
    prompts: &[Vec<u32>],
    sampling: &Sampling,
    seed: u64,
    batch_size: usize,
    observer: &dyn Observer,
) -> Result<Vec<Generated>> {
    sampling.check()?;
    if batch_size == 0 {
        return Err(Error::invalid("batch", "it is 0", "give 1 or more"));
    }
    let all = prompts.len().saturating_mul(sampling.samples);
    if all > MOST {
        let problem = format!("{all} completions of {} prompts", prompts.len());
        let remedy = format!("give at most {MOST} at once, and the rest another seed");
        return Err(Error::invalid("samples", problem, remedy));
    }
    let a = model.sizes();
    for (index, prompt) in prompts.iter().enumerate() {
        check(
            &format!("prompts[{index}]"),
            prompt,
            a.vocabulary,
            a.context,
        )?;
    }
    let job = Job {
        ends,
        prompts,
        sampling,
        seed,
        batch_size: batch_size.min(all.max(1)),
        context: a.context,
    };
    let work = observer.begin("generating", all as u64);
    // In the pool, where asking for a second thread costs little.
    let mut result = Ok(Vec::new());
    rayon::scope(|_| {
        result = job.on(model, &*work);
    });
    result
}

impl Job<'_> {
    fn on(&self, model: &Decoder, work: &dyn Work) -> Result<Vec<Generated>> {
        let longest = self.prompts.iter().map(Vec::len).max().unwrap_or(0);
        let longest = longest.saturating_add(self.sampling.max_new_tokens);
        // A prompt whose samples wait is kept too.
        let most = self.batch_size.saturating_add(1);
        let parameters = model.parameters();
        match (parameters.device().is_cpu(), parameters.dtype()) {
            (true, DType::F32) => self.run(Cached::<f32>::new(model, longest)?, work),
            (true, DType::F64) => self.run(Cached::<f64>::new(model, longest)?, work),
            (_, DType::F64) => self.run(OnDevice::<f64>::new(model, [most, longest])?, work),
            _ => self.run(OnDevice::<f32>::new(model, [most, longest])?, work),
        }
    }
}

/// An error unless a prompt can be continued.
fn check(place: &str, prompt: &[u32], vocabulary: usize, context: usize) -> Result<()> {
    if prompt.is_empty() {
        let remedy = "begin it with the BOS token";
        return Err(Error::invalid(place, "it has no token", remedy));
    }
    if let Some(token) = prompt.iter().find(|&&t| t as usize >= vocabulary) {
        let problem = format!("token {token} is not below the vocabulary's {vocabulary}");
        return Err(Error::invalid(
            place,
            problem,
            "use the model's own tokenizer",
        ));
    }
    if prompt.len() >= context {
        let problem = format!("it has {} tokens", prompt.len());
        let remedy = format!(
            "the model takes {context}, of which at least one is for the completion: shorten it"
        );
        return Err(Error::invalid(place, problem, remedy));
    }
    Ok(())
}
