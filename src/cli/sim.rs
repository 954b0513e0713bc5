//! `pistar sim`

use std::path::{Path, PathBuf};

use crate::loss::Objective;
use anyhow::bail;

use super::bars::Bars;
use super::{input, output};
use crate::rows::copg_toy::MOST_RATES;
use crate::sims::{self, Policy};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pistar sim copg-toy --out runs/toy
  pistar sim copg-toy --problem mine.json --objective dpo,slic --lr 1e-2 \\
      --out runs/mine
  pistar sim copg-toy --policy transformer --seeds 3 --out runs/transformer
  pistar sim bpo-phases --policy transformer --seeds 2 --out runs/phases
  pistar sim coverage --objective copg,dpo,ipo --out runs/coverage
  pistar sim am-hacking --clusters 8 --kept 2 --gamma 0.05 --out runs/rehearsal
  pistar sim copr-continual --orders 3 --replay 0.1 --out runs/continual
  pistar sim copr-continual --tune --out runs/tuning

Writes rows.csv, other tables, manifest.json, and the figure as SVG and PNG.
The rows depend on the configuration alone: same seed, same bytes, whatever
--threads. Those of copg-toy are written as blocks of up to 32 seeds finish,
with limits.csv, the exact limits. An option that a sim has no use for is
refused.")]
pub struct Args {
    /// Name of the sim
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List the sims
    #[arg(long)]
    list: bool,
    /// Run it on this problem instead of its own
    #[arg(long, value_name = "FILE")]
    problem: Option<PathBuf>,
    /// Train or solve these objectives instead of its own (repeatable)
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = input::objective)]
    objective: Vec<Objective>,
    /// Policy to train: of a transformer, the responses are spelled out, one string for each arm
    #[arg(long, value_enum, default_value_t)]
    policy: Policy,
    /// Learning rates, one run each (separated by commas) [default: 1e-3,1e-2; 1e-5,1e-4 for transformers]
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    lr: Vec<f64>,
    /// Plain SGD instead of Adam
    #[arg(long)]
    sgd: bool,
    /// Number of independent runs (seeds) [default: the sim's own; 40 for copg-toy, 20 with transformers]
    #[arg(long)]
    seeds: Option<usize>,
    /// Seed of all random streams; another seed gives independent runs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Passes over the dataset [default: 100; 50 for transformers]
    #[arg(long)]
    epochs: Option<usize>,
    /// Pairs in each dataset, or random problems [default: the sim's own; 10000 for copg-toy]
    #[arg(long)]
    samples: Option<usize>,
    /// Pairs in a minibatch [default: 512]
    #[arg(long)]
    batch: Option<usize>,
    /// Drop the last minibatch of an epoch when it is smaller
    #[arg(long)]
    drop_last: bool,
    /// Clusters of prompts for rehearsal, c [default: 4]
    #[arg(long, value_name = "C")]
    clusters: Option<usize>,
    /// Examples that rehearsal keeps in each cluster, k [default: 3]
    #[arg(long, value_name = "K")]
    kept: Option<usize>,
    /// Weight of rehearsal, γ [default: 0.1]
    #[arg(long, allow_negative_numbers = true)]
    gamma: Option<f64>,
    /// Orders in which the tasks of a sequence are learned [default: 1]
    #[arg(long)]
    orders: Option<usize>,
    /// Share of the old examples that is replayed [default: 0.25]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    replay: Option<f64>,
    /// α, the rate of COPR's multipliers [default: tuned]
    #[arg(long, allow_negative_numbers = true)]
    alpha: Option<f64>,
    /// β of every method of continual learning that has one [default: tuned]
    #[arg(long, allow_negative_numbers = true)]
    beta: Option<f64>,
    /// Try the settings of the sim's methods and write tuning.csv, nothing else
    #[arg(long)]
    tune: bool,
    /// Folder to write to [default: out/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the rows of another run in that folder
    #[arg(long)]
    overwrite: bool,
    /// Do not draw the figure
    #[arg(long)]
    no_figure: bool,
    /// Worker threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let Some(name) = args.name.as_deref().filter(|_| !args.list) else {
        let rows: Vec<_> = sims::ALL
            .iter()
            .map(|s| vec![s.name.into(), s.about.into()])
            .collect();
        return output::print(&output::columns(&rows));
    };
    if args.lr.len() > MOST_RATES && !args.no_figure {
        bail!(
            "--lr: {} learning rates are more than the {MOST_RATES} panels of a figure; give fewer, or pass --no-figure",
            args.lr.len()
        );
    }
    let Some(sim) = sims::ALL.iter().find(|s| s.name == name) else {
        let known: Vec<_> = sims::ALL.iter().map(|s| s.name).collect();
        bail!(
            "sim: there is none called `{name}`; use one of {}",
            known.join(", ")
        );
    };
    let some = |list: &[f64]| (!list.is_empty()).then(|| list.to_vec());
    let bars = Bars::new();
    let request = sims::Request {
        observer: &bars,
        policy: args.policy,
        problem: args.problem.as_deref().map(input::problem).transpose()?,
        objectives: (!args.objective.is_empty()).then(|| args.objective.clone()),
        lr: some(&args.lr),
        sgd: args.sgd,
        seeds: args.seeds,
        key: args.seed,
        epochs: args.epochs,
        samples: args.samples,
        batch: args.batch,
        drop_last: args.drop_last,
        clusters: args.clusters,
        kept: args.kept,
        gamma: args.gamma,
        orders: args.orders,
        replay: args.replay,
        alpha: args.alpha,
        beta: args.beta,
        tune: args.tune,
        threads: args.threads.unwrap_or_else(all_cores),
        overwrite: args.overwrite,
    };
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("out").join(name));
    (sim.run)(&request, &out)?;
    if args.tune {
        return output::print(&format!("table: {}\n", out.join("tuning.csv").display()));
    }
    let mut made = format!("rows: {}\n", out.join("rows.csv").display());
    if !args.no_figure
        && let Some(figure) = super::figure::draw(name, &out, &out.join(name), &bars)?
    {
        made += &format!("figure: {}\n", figure.display());
    }
    output::print(&made)
}

pub fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
