//! A training step of a Llama, timed: what `benches/peers/run_llm.py` and `run_gpu.py` compare with
//! PyTorch.
//!
//! ```sh
//! cargo run --release --example llm_step -- --model DIR --batches FILE --objective dpo --json FILE
//! ```
//!
//! Exit status 3: the device's memory does not suffice.

mod batch;
mod model;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use clap::Parser;
use pistar::backend::Backend;
use pistar::llm::internals::tensor::device::{device, memory_used, reset_peak};
use pistar::llm::internals::tensor::optimizer::{AdamW, Config, Squares, clip, gradient_norm};
use pistar::llm::internals::tensor::tape::LeafGradients;
use pistar::llm::internals::train::step::{Sink, Step};
use pistar::llm::model::network::{Network, Reduction};
use pistar::loss::{Batch, InputKind, Objective, on_tape};

const BETA: f64 = 0.1;
const CLIP: f64 = 1.0;
const OUT_OF_MEMORY: u8 = 3;

#[derive(Parser)]
struct Options {
    /// A model folder; without model.safetensors: random weights.
    #[arg(long)]
    model: String,
    /// A file of batches.
    #[arg(long)]
    batches: String,
    /// dpo or sft.
    #[arg(long)]
    objective: String,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// f32, f64 or bf16.
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Run blocks again in the backward.
    #[arg(long)]
    recompute: bool,
    /// Use each gradient as soon as it is final; no clipping.
    #[arg(long)]
    optimizer_in_backward: bool,
    /// Most tokens run at once; beyond, everything is run twice.
    #[arg(long)]
    micro_batch_tokens: Option<usize>,
    /// Learning rate.
    #[arg(long, default_value_t = 1e-4)]
    lr: f64,
    /// Threads of the CPU.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Steps that do not count.
    #[arg(long, default_value_t = 2)]
    warm_up: usize,
    /// Steps that count.
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// Where the numbers go.
    #[arg(long)]
    json: String,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads);
    let done = (pool.build().map_err(Into::into)).and_then(|pool| pool.install(|| run(&options)));
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    let said = format!("{error:#}");
    eprintln!("llm_step: {said}");
    let said = said.to_lowercase();
    if ["out of memory", "out_of_memory"]
        .iter()
        .any(|m| said.contains(m))
    {
        OUT_OF_MEMORY.into()
    } else {
        2.into()
    }
}

fn run(o: &Options) -> Result<()> {
    let dtype = match o.dtype.as_str() {
        "f32" => DType::F32,
        "f64" => DType::F64,
        "bf16" => DType::BF16,
        other => bail!("--dtype {other}: give f32, f64 or bf16"),
    };
    let start = resident("VmRSS")?;
    let device = device(&o.device)?;
    let mut model = model::load(&o.model, dtype, &device)?;
    model.set_recompute(o.recompute);
    let batches = batch::read(&o.batches, &o.objective)?;
    let step = Step {
        kind: match o.objective.as_str() {
            "dpo" => InputKind::LabelledPairs,
            _ => InputKind::Singles,
        },
        policy: &model,
        value: None,
        reduction: Reduction::Sum,
        micro_batch: o.micro_batch_tokens.unwrap_or(usize::MAX),
    };
    let dpo = Objective::DPO.bind(&BETA.into())?;
    let loss = |batch: &Batch| match step.kind {
        InputKind::Singles => on_tape(step.kind, batch, |inputs| {
            inputs.single()?.response.log_policy().neg()
        }),
        _ => dpo.on_tape(batch),
    };
    let mut optimizer = AdamW::new(model.parameters(), Config::default())?;
    let mut gradients = LeafGradients::new(model.leaves());
    let mut no_value = LeafGradients::new(0);
    reset_peak(&device)?;
    let (mut ms, mut losses, mut norms) = (Vec::new(), Vec::new(), Vec::new());
    for batch in batches.iter().cycle().take(o.warm_up + o.steps) {
        let begin = Instant::now();
        let none = Sink::Sum(&mut no_value);
        let (outcome, norm) = if o.optimizer_in_backward {
            let mut squares = Squares::new(model.leaves());
            let mut update = |leaf, gradient: Tensor| {
                squares.add(leaf, &gradient)?;
                optimizer.step_one(model.parameters(), leaf, &gradient, o.lr)
            };
            let outcome = step.run_into(batch, loss, Sink::Each(&mut update), none)?;
            (outcome, squares.norm()?)
        } else {
            let outcome = step.run_into(batch, loss, Sink::Sum(&mut gradients), none)?;
            let norm = gradient_norm(model.parameters(), &gradients)?;
            optimizer.step(model.parameters(), &gradients, o.lr, clip(norm, CLIP))?;
            gradients.clear();
            (outcome, norm)
        };
        // A GPU works on after it was asked: the step ends when it has.
        device.synchronize()?;
        ms.push(1e3 * begin.elapsed().as_secs_f64());
        losses.push(outcome.loss);
        norms.push(norm);
    }
    let used = memory_used(&device)?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let report = serde_json::json!({
        "implementation": "pistar",
        "version": env!("CARGO_PKG_VERSION"),
        "ms": ms[o.warm_up..],
        "losses": losses,
        "norms": norms,
        "start_mb": start,
        "peak_mb": resident("VmHWM")?,
        "device_peak_mb": used.map(|used| mb(used.peak)),
        "device_reserved_mb": used.map(|used| mb(used.reserved_peak)),
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
