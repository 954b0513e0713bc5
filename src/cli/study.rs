//! `pistar study`

use std::path::{Path, PathBuf};

use crate::file::write_whole;
use crate::llm::train::limits::{RATE, number};
use anyhow::bail;

use super::bars::Bars;
use super::{figure, output, sim};
use crate::sims::study::{self, Study};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pistar study copg --model models/stories260K --out runs/copg
  pistar study bpo --model models/stories260K --seeds 3
  pistar study dro --reward 'regex:(?i)dragon' --out runs/dragons
  pistar study dro --ablations --model models/stories260K
  pistar study rehearsal --model models/stories260K

copg and dro: the reference model writes two completions to each of its own
prompts, a rule scores them, and every objective trains offline on those, over
a sweep of β and seeds; then the best β of each again on new seeds. bpo: the
policy writes them itself, in phases, and the reference moves or stays. dro with
--ablations: DRO-V's learning rates, τ and value networks, by win rates.
rehearsal: PPO on the scores of reward models and Advantage Models that it
trains first, with selective rehearsal and without, on three classes of prompts,
and what is forgotten on a fourth.
Writes rows.csv, report.md, manifest.json and the figure as SVG and PNG.
Finished trials are kept: the same command goes on where it was stopped. Same
seed, same bytes, whatever --threads.
Without --model a tiny one is trained into OUT/model first.")]
pub struct Args {
    /// Name of the study
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List the studies
    #[arg(long)]
    list: bool,
    /// Folder of the model, adapter or run that all trials start from
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Reward of a completion, as in `pistar score`; several are added [default: the words of a glad story less those
    /// of a sad one]
    #[arg(long, value_name = "RULE")]
    reward: Vec<String>,
    /// A file that a command among the rewards reads, and that the study therefore depends on
    #[arg(long, value_name = "FILE")]
    depends: Vec<PathBuf>,
    /// Learning rate [default: 2e-4; of bpo: 5e-5]
    #[arg(long)]
    lr: Option<f64>,
    /// Seeds of every setting in the sweep; the best β of each objective gets twice as many [default: 3;
    /// of rehearsal: 4]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: Option<u64>,
    /// Prompts to train on [default: 2048; of ablations: 1024; of rehearsal: 1920]
    #[arg(long, value_parser = clap::value_parser!(u32).range(128..=1_000_000))]
    prompts: Option<u32>,
    /// In place of the study its ablations (dro: learning rates, τ, shared or separate network, one value or several)
    #[arg(long)]
    ablations: bool,
    /// More settings (bpo: three losses, six numbers of phases, three rates of moving averages; rehearsal: other γ)
    #[arg(long)]
    full: bool,
    /// Seed of all random streams
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Trials at once [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Folder to write to [default: out/study-NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace another study in the folder
    #[arg(long)]
    overwrite: bool,
    /// Write the rows only
    #[arg(long)]
    no_figure: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let Some(name) = args.name.as_deref().filter(|_| !args.list) else {
        let line = |study: &Study| format!("{:<10}{}\n", study.name, study.about);
        return output::print(&study::ALL.iter().map(line).collect::<String>());
    };
    let Some(study) = study::ALL.iter().find(|s| s.name == name) else {
        bail!(
            "study: there is none called `{name}`; {}",
            crate::text::suggestion(name, study::ALL.iter().map(|s| s.name))
        );
    };
    let study = match study.ablations {
        Some(ablations) if args.ablations => ablations,
        None if args.ablations => {
            let has = |s: &&Study| s.ablations.is_some();
            let names: Vec<_> = study::ALL.iter().filter(has).map(|s| s.name).collect();
            bail!(
                "--ablations: `{name}` has none; leave it out, or name {}",
                names.join(" or ")
            );
        }
        _ => study,
    };
    let lr = args.lr.unwrap_or(RATE);
    number("--lr", lr, [f64::MIN_POSITIVE, RATE])?;
    if args.full && !study.full {
        bail!("--full: `{name}` has no more settings; leave it out");
    }
    let title = format!("study-{}", study.name);
    let dir = (args.out.clone()).unwrap_or_else(|| Path::new("out").join(&title));
    let bars = Bars::new();
    let request = study::Request {
        observer: &bars,
        model: args.model.clone(),
        reward: args.reward.clone(),
        depends: args.depends.clone(),
        lr: args.lr,
        seeds: args.seeds,
        full: args.full,
        prompts: args.prompts.map(|n| n as usize),
        key: args.seed,
        threads: args.threads.map_or_else(sim::all_cores, usize::from),
        overwrite: args.overwrite,
    };
    (study.run)(&request, &dir)?;
    let text = (study.report)(&dir, &bars)?;
    write_whole(&dir.join("report.md"), text.as_bytes())?;
    output::print(&text)?;
    if !args.no_figure
        && let Some(path) = figure::draw(&title, &dir, &dir.join(&title), &bars)?
    {
        output::print(&format!("figure: {}\n", path.display()))?;
    }
    Ok(())
}
