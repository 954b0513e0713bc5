//! `pistar select`

use std::path::PathBuf;

use crate::Error;
use crate::file::json;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::sample::generate::Prompt;
use crate::llm::sample::selection::{embeddings, select};
use crate::llm::text::data::Reading;
use crate::llm::train::limits::{COUNT, count};
use serde_json::{Map, Value};

use super::bars::Bars;
use super::compute::Compute;
use super::flags::Flags;
use super::{atomic, output};

#[derive(clap::Args)]
#[command(after_help = "\
Example:
  pistar generate --model base --prompts prompts.jsonl --samples 4 \\
      --out drawn.jsonl
  pistar score --reward model:runs/am/model --data drawn.jsonl --group \\
      --out scored.jsonl
  pistar select --model base --data scored.jsonl --clusters 8 --kept 50 \\
      --out kept.jsonl
  pistar train ppo --rehearse kept.jsonl …

Clusters prompts by k-means of their embeddings (the mean of the model's last
hidden state over the prompt's tokens, of length 1), and keeps of each cluster
the completions with the best scores: selective rehearsal's examples. Rows have
`completions` and `scores`, or `completion` and `score`.")]
pub struct Args {
    /// Folder of the model that embeds the prompts
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Rows with scores, as `pistar score` writes them
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    reading: Flags<Reading>,
    /// Clusters of prompts (c)
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    clusters: usize,
    /// Examples that are kept of each cluster (k)
    #[arg(long, value_name = "COUNT")]
    kept: usize,
    /// Write them here, rows that `train sft` and --rehearse read [default: standard output]
    #[arg(
        long,
        value_name = "FILE",
        default_value = "-",
        hide_default_value = true
    )]
    out: PathBuf,
    /// Seed of the clusters and of the order
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    compute: Compute,
    /// Maximum tokens that are run at once
    #[arg(long, value_name = "TOKENS", default_value_t = 8192)]
    batch_tokens: usize,
}

/// A completion with its score.
struct Example {
    prompt: usize,
    completion: Value,
    score: f64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    for (place, found) in [
        ("--clusters", args.clusters),
        ("--kept", args.kept),
        ("--batch-tokens", args.batch_tokens),
    ] {
        count(place, found as u64, COUNT)?;
    }
    atomic::check(&args.out)?;
    let bars = Bars::new();
    let found = ModelFolder::find(&args.model)?;
    let tokenizer = found.tokenizer()?;
    let context = found.config()?.sizes().context;
    let reading = args.reading.settings();
    let (prompts, _) = Prompt::read(&args.data, &reading, &tokenizer, context, &bars)?;
    let mut examples = Vec::new();
    for (row, prompt) in prompts.iter().enumerate() {
        let place = || format!("{}: row {}", args.data.display(), row + 1);
        examples.extend(
            scored(row, &prompt.fields)
                .map_err(|[problem, remedy]| Error::invalid(place(), problem, remedy))?,
        );
    }
    let (dtype, device) = (args.compute.dtype(), args.compute.device()?);
    let model = found.decoder(dtype, &device)?;
    let tokens: Vec<&[u32]> = prompts.iter().map(|p| p.tokens.as_slice()).collect();
    let points = embeddings(&model, &tokens, args.batch_tokens)?;
    let numbers: Vec<(usize, f64)> = examples.iter().map(|e| (e.prompt, e.score)).collect();
    let chosen = select(&points, &numbers, args.clusters, args.kept, args.seed)
        .map_err(|e| e.in_file("--clusters"))?;
    let mut text = String::new();
    for chosen in &chosen {
        let example = &examples[chosen.example];
        let prompt = &prompts[example.prompt];
        let mut row = Map::new();
        let own = prompt.fields.get("prompt").cloned();
        row.insert(
            "prompt".into(),
            own.unwrap_or_else(|| prompt.text.clone().into()),
        );
        row.insert("completion".into(), example.completion.clone());
        row.insert("score".into(), example.score.into());
        row.insert("cluster".into(), chosen.cluster.into());
        text += &json::row(row)?;
        text.push('\n');
    }
    atomic::write(&args.out, &text)?;
    if args.out.as_os_str() != "-" {
        let (out, of) = (args.out.display(), examples.len());
        output::print(&format!("{} of {of} examples: {out}\n", chosen.len()))?;
    }
    Ok(())
}

/// The completions of a row with their scores.
fn scored(row: usize, fields: &Map<String, Value>) -> Result<Vec<Example>, [String; 2]> {
    let remedy =
        || "give completions and scores, or completion and score: `pistar score`".to_string();
    let number = |value: &Value| {
        let found = value.as_f64().filter(|x| x.is_finite());
        found.ok_or_else(|| [format!("a score is {value}"), "give a finite number".into()])
    };
    let example = |completion: &Value, score: &Value| {
        Ok(Example {
            prompt: row,
            completion: completion.clone(),
            score: number(score)?,
        })
    };
    let pair = |[texts, scores]: [&str; 2]| fields.get(texts).zip(fields.get(scores));
    if let Some((completion, score)) = pair(["completion", "score"]) {
        return Ok(vec![example(completion, score)?]);
    }
    match pair(["completions", "scores"]) {
        Some((Value::Array(texts), Value::Array(scores))) if texts.len() == scores.len() => texts
            .iter()
            .zip(scores)
            .map(|(c, s)| example(c, s))
            .collect(),
        Some(_) => Err([
            "`completions` and `scores` are no lists of one length".into(),
            remedy(),
        ]),
        None => Err(["it has no scored completion".into(), remedy()]),
    }
}
