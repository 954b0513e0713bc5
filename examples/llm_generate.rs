//! Greedy generation, timed: what `benches/peers/run_generate.py` compares with transformers.
//!
//! ```sh
//! cargo run --release --example llm_generate -- --model DIR --prompts FILE --batch 16 --json FILE
//! ```

use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use clap::Parser;
use pistar::llm::model::decoder::Decoder;
use pistar::llm::sample::generate::{Sampling, generate};
use pistar::observer::Silent;

#[derive(Parser)]
struct Options {
    /// A model folder.
    #[arg(long)]
    model: String,
    /// A file of prompts in tokens, a JSON list of lists.
    #[arg(long)]
    prompts: String,
    /// Sequences at once.
    #[arg(long)]
    batch: usize,
    /// Tokens of every completion.
    #[arg(long, default_value_t = 128)]
    new: usize,
    /// 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// 1 cuts nothing.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Runs that do not count.
    #[arg(long, default_value_t = 1)]
    warm_up: usize,
    /// Runs that count.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where the numbers go.
    #[arg(long)]
    json: String,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()?;
    pool.install(|| run(&options))
}

fn run(o: &Options) -> Result<()> {
    let start = resident("VmRSS")?;
    let model = Decoder::load(&o.model, DType::F32, &Device::Cpu)?;
    let text = std::fs::read_to_string(&o.prompts).with_context(|| o.prompts.clone())?;
    let prompts: Vec<Vec<u32>> = serde_json::from_str(&text)?;
    let sampling = Sampling {
        temperature: o.temperature,
        top_p: o.top_p,
        max_new_tokens: o.new,
        ..Sampling::default()
    };
    let (mut seconds, mut tokens) = (Vec::new(), Vec::new());
    for _ in 0..o.warm_up + o.runs {
        let begin = Instant::now();
        let all = generate(&model, &[], &prompts, &sampling, 0, o.batch, &Silent)?;
        seconds.push(begin.elapsed().as_secs_f64());
        tokens = all.into_iter().map(|g| g.tokens).collect();
    }
    let report = serde_json::json!({
        "implementation": "pistar",
        "version": env!("CARGO_PKG_VERSION"),
        "seconds": seconds[o.warm_up..],
        "tokens": tokens,
        "start_mb": start,
        "peak_mb": resident("VmHWM")?,
    });
    std::fs::write(&o.json, report.to_string()).with_context(|| o.json.clone())
}

/// A line of this process's memory, in MB.
fn resident(key: &str) -> Result<Option<f64>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key));
    let kb = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kb.map(str::parse::<f64>).transpose()?.map(|kb| kb / 1024.0))
}
