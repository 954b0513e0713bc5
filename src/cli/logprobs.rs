//! `pistar logprobs`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bars::Bars;
use crate::Error;
use crate::llm::model::decoder::Decoder;
use crate::llm::sample::evaluate::{Loaded, load};
use crate::llm::sample::logprobs::log_probs;
use crate::llm::text::data::{Form, Reading, RowRules, Source};
use crate::observer::Observer;
use anyhow::Context;

use super::{atomic, compute::Compute, flags::Flags};

#[derive(clap::Args)]
#[command(after_help = "\
Example:
  pistar logprobs --model models/llama --data rows.jsonl | jq '.sum / .count'

A row is {\"prompt\": …, \"completion\": …}, one a line, or {\"text\": …}, all of
which is predicted. Answers come in the order of the rows, one JSON line each:
{\"sum\": …, \"count\": …}, the sum of ln π over the completion's tokens and their
number, EOS included. docs/data.md says how text becomes tokens. All rows are
read before the first answer, so that a bad one shows at once.")]
pub struct Args {
    /// Folder of a model, of an adapter (LoRA), or of a run
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Rows: JSON lines, a JSON array, parquet or text, gzip or not; or FOLDER/*.jsonl
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    reading: Flags<Reading>,
    /// Write answers here; a file is there whole or not at all (`-` is standard output)
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
    /// Most tokens that are run at once, but for a longer row alone
    #[arg(long, value_name = "TOKENS", default_value_t = 8192)]
    batch_tokens: usize,
    /// Most tokens of prompt and completion: longer completions lose their end, and EOS
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Most tokens of a prompt: longer ones lose their beginning
    #[arg(long, value_name = "TOKENS")]
    max_prompt_length: Option<usize>,
    /// Take completions without text, whose only token is EOS
    #[arg(long)]
    allow_empty: bool,
    /// Refuse prompts whose tokens change when the completion follows
    #[arg(long)]
    strict_boundaries: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    atomic::check(&args.out)?;
    let device = args.compute.device()?;
    let Loaded {
        model, tokenizer, ..
    } = load(&args.model, args.compute.dtype(), &device)?;
    let settings = RowRules {
        max_length: args.max_length,
        max_prompt_length: args.max_prompt_length,
        allow_empty: args.allow_empty,
        strict_boundaries: args.strict_boundaries,
    };
    let context = model.sizes().context;
    let tokenizer = Arc::new(tokenizer);
    let mut source = Source::read(
        &args.data,
        &args.reading.settings(),
        Form::Demonstration,
        tokenizer,
        context,
        settings,
        &Bars::new(),
    )?;
    for note in source.survey(&Bars::new())?.notes() {
        tell!("{note}");
    }
    let batch = args.batch_tokens;
    if args.out == Path::new("-") {
        // A line is there as soon as its batch is done; a pipe that closes ends the run.
        let mut out = io::stdout().lock();
        return answers(&model, &source, batch, |line| {
            out.write_all(line).context("standard output: cannot write")
        });
    }
    atomic::lines(&args.out, |put| answers(&model, &source, batch, put))
}

/// One line a row.
fn answers<E: From<Error>>(
    model: &Decoder,
    source: &Source,
    batch_tokens: usize,
    mut put: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let bars = Bars::new();
    let work = bars.begin("log-probabilities", source.len() as u64);
    log_probs(model, source, batch_tokens, |row| -> Result<(), E> {
        let failed = |e: serde_json::Error| Error::io("answer", "write")(e.into());
        let mut line = serde_json::to_vec(&row).map_err(failed)?;
        line.push(b'\n');
        put(&line)?;
        work.advance(1);
        Ok(())
    })?;
    Ok(())
}
