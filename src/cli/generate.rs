//! `pistar generate`

use std::path::PathBuf;

use super::bars::Bars;
use crate::Error;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::sample::evaluate::Loaded;
use crate::llm::sample::generate::{self, Generated, Prompt, Sampling, completion_text};
use crate::llm::text::data::Reading;
use serde::Serialize;

use super::{atomic, compute::Compute, flags::Flags};

#[derive(clap::Args)]
#[command(
    override_usage = "pistar generate [OPTIONS] --model DIR (--prompts FILE | --prompt TEXT)"
)]
#[command(group(clap::ArgGroup::new("text").required(true).args(["prompts", "prompt"])))]
#[command(after_help = "\
Example:
  pistar generate --model models/llama --prompt 'Once upon a time' \\
      --temperature 0.8 --top-p 0.95

Answers are JSON lines in the order of the prompts, the samples of a prompt
together: {\"prompt\", \"completion\", \"tokens\", \"ended\", \"log_prob\", \"entropy\"}.
`tokens` counts EOS, with which a completion that `ended` ends; one that did
not was cut at --max-new-tokens or where the model takes no more. `log_prob` is
the sum of ln π over its tokens and `entropy` that of the next token's entropy,
both of the model itself: at temperature 1, without cuts. The same seed gives
the same completions for any --batch. docs/generate.md says more.")]
pub struct Args {
    /// Folder of a model, of an adapter (LoRA), or of a run
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder of an adapter for it, or of its run: as --model ADAPTER,base=MODEL
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Prompts, texts or conversations: the column `prompt` of JSON lines, JSON or parquet
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    #[command(flatten)]
    reading: Flags<Reading>,
    /// A prompt; may be repeated
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Write answers here; a file is there whole or not at all (`-` is standard output)
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    /// Completions of each prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: usize,
    /// Logits are divided by it; 0: always the most probable token
    #[arg(
        long,
        value_name = "T",
        default_value_t = 1.0,
        allow_hyphen_values = true
    )]
    temperature: f64,
    /// Draw from the K most probable tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the fewest tokens whose probabilities add up to P
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        allow_hyphen_values = true
    )]
    top_p: f64,
    /// Most tokens of a completion, EOS included
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    max_new_tokens: usize,
    /// Tokens before EOS may come
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    min_new_tokens: usize,
    /// Go on after EOS
    #[arg(long)]
    ignore_eos: bool,
    /// Most sequences that run at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Seed of the samples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    compute: Compute,
}

/// A row that `pistar train` and `pistar logprobs` read.
#[derive(Serialize)]
struct Row<'a> {
    prompt: &'a str,
    completion: String,
    tokens: usize,
    ended: bool,
    log_prob: f64,
    entropy: f64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_new_tokens: args.min_new_tokens,
        max_new_tokens: args.max_new_tokens,
        samples: args.samples,
    };
    sampling.check()?;
    atomic::check(&args.out)?;
    let device = args.compute.device()?;
    let found = match &args.adapter {
        Some(adapter) => ModelFolder::on(&args.model, adapter)?,
        None => ModelFolder::find(&args.model)?,
    };
    let Loaded {
        model, tokenizer, ..
    } = Loaded::new(found, args.compute.dtype(), &device)?;
    let context = model.sizes().context;
    let bars = Bars::new();
    let prompts = match &args.prompts {
        Some(path) => Prompt::read(path, &args.reading.settings(), &tokenizer, context, &bars)?.0,
        None => (args.prompt.iter())
            .map(|text| Prompt::new(text, &tokenizer, context))
            .collect::<Result<_, Error>>()?,
    };
    let ends = if args.ignore_eos {
        &[]
    } else {
        tokenizer.ends()
    };
    let tokens: Vec<Vec<u32>> = prompts.iter().map(|p| p.tokens.clone()).collect();
    let (seed, batch) = (args.seed, args.batch);
    let all = generate::generate(&model, ends, &tokens, &sampling, seed, batch, &bars)?;
    note(&all, context);
    let mut text = String::new();
    for (index, generated) in all.iter().enumerate() {
        let prompt = &prompts[index / args.samples];
        let Generated { tokens, ended, .. } = generated;
        let row = Row {
            prompt: &prompt.text,
            completion: completion_text(&tokenizer, &prompt.tokens, tokens, *ended)?,
            tokens: tokens.len(),
            ended: *ended,
            log_prob: generated.log_prob,
            entropy: generated.entropy,
        };
        text += &serde_json::to_string(&row)?;
        text.push('\n');
    }
    atomic::write(&args.out, &text)
}

/// Says what was cut because the model takes no more.
fn note(all: &[Generated], context: usize) {
    let full = all.iter().filter(|g| g.context_full).count();
    if full > 0 {
        tell!(
            "{full} of {} completions were cut where the model takes no more ({context} tokens)",
            all.len()
        );
    }
}
