//! A training step of a Llama, timed: what `benches/peers/run_llm.py` compares with PyTorch.
//!
//! ```sh
//! cargo run --release --example llm_step -- --model DIR --batches FILE --objective dpo --json FILE
//! ```

use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use clap::Parser;
use pistar::backend::Backend;
use pistar::backend::nd::Var;
use pistar::llm::batch::TextBatch;
use pistar::llm::decoder::Decoder;
use pistar::llm::network::{Network, Reduction};
use pistar::llm::optimizer::{AdamW, Config, clip, gradient_norm};
use pistar::llm::sequence::Sequence;
use pistar::llm::step::Step;
use pistar::llm::tape::LeafGradients;
use pistar::loss::{InputKind, Inputs, Objective, Parameters};
use serde::Deserialize;

const BETA: f64 = 0.1;
const LR: f64 = 1e-4;
const CLIP: f64 = 1.0;

#[derive(Parser)]
struct Options {
    /// A model folder.
    #[arg(long)]
    model: String,
    /// A file of batches.
    #[arg(long)]
    batches: String,
    /// dpo or sft.
    #[arg(long)]
    objective: String,
    /// Threads.
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

#[derive(Deserialize)]
struct Batch {
    sequences: Vec<Vec<u32>>,
    prompts: Vec<usize>,
    #[serde(default)]
    log_reference: Vec<f64>,
}

impl Batch {
    /// The first half of the sequences chosen, the second rejected; or all of them, each weighted
    /// by one over the number of predicted tokens.
    fn text(&self, objective: &str) -> Result<TextBatch> {
        let sequences = (self.sequences.iter().zip(&self.prompts))
            .map(|(tokens, &prompt)| Sequence::new(tokens.clone(), prompt))
            .collect::<pistar::Result<Vec<_>>>()?;
        let count = sequences.len() as u32;
        let predicted: usize = sequences.iter().map(|s| s.completion().len()).sum();
        let (slots, weight) = match objective {
            "dpo" => (
                [(0..count / 2).collect(), (count / 2..count).collect()],
                2.0 / f64::from(count),
            ),
            "sft" => ([(0..count).collect(), Vec::new()], 1.0 / predicted as f64),
            other => bail!("--objective {other}: give dpo or sft"),
        };
        let places = slots.each_ref().map(Vec::len);
        Ok(TextBatch {
            log_reference: match self.log_reference.is_empty() {
                true => vec![0.0; sequences.len()],
                false => self.log_reference.clone(),
            },
            sequences,
            reward: places.map(|n| vec![0.0; n]),
            held: vec![0.0; places[0]],
            weight: vec![weight; places[0]],
            slots,
            ..TextBatch::default()
        })
    }
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
    let text = std::fs::read_to_string(&o.batches).with_context(|| o.batches.clone())?;
    let batches: Vec<Batch> = serde_json::from_str(&text)?;
    let batches = (batches.iter().map(|b| b.text(&o.objective))).collect::<Result<Vec<_>>>()?;
    let kind = match o.objective.as_str() {
        "dpo" => InputKind::LabelledPairs,
        _ => InputKind::Singles,
    };
    let step = Step {
        kind,
        policy: &model,
        value: None,
        reduction: Reduction::Sum,
        micro_batch: usize::MAX,
    };
    let parameters = Parameters {
        beta: BETA,
        margin: None,
    };
    let mut optimizer = AdamW::new(model.parameters(), Config::default())?;
    let mut gradients = LeafGradients::new(model.leaves());
    let (mut ms, mut losses, mut norms) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..o.warm_up + o.steps {
        let batch = &batches[index % batches.len()];
        let begin = Instant::now();
        let loss = |inputs: &Inputs<Var>| match inputs {
            Inputs::Single { response, .. } => response.log_policy.affine(-1.0, 0.0),
            pair => Objective::Dpo.loss(pair, parameters),
        };
        let none = &mut LeafGradients::new(0);
        let outcome = step.run(batch, loss, &mut gradients, none)?;
        let norm = gradient_norm(model.parameters(), &gradients)?;
        optimizer.step(model.parameters(), &gradients, LR, clip(norm, CLIP))?;
        gradients.clear();
        ms.push(1e3 * begin.elapsed().as_secs_f64());
        losses.push(outcome.loss);
        norms.push(norm);
    }
    let report = serde_json::json!({
        "implementation": "pistar",
        "version": env!("CARGO_PKG_VERSION"),
        "ms": ms[o.warm_up..],
        "losses": losses,
        "norms": norms,
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
