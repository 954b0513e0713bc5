//! `pistar train`

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use pistar::Error;
use pistar::llm::data::Reading;
use pistar::llm::objective::TextObjective;
use pistar::llm::train::{CONFIG, Settings, train};

use super::output;

#[derive(clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  pistar train sft --model llama --data demos.jsonl --epochs 3 --out runs/sft
  pistar train dpo --model runs/sft/model --data pairs.jsonl --lora-rank 16 --lr 1e-4
  pistar train --config runs/dpo/config.toml --seed 1 --out runs/dpo-1
  pistar train --resume --out runs/dpo

Every flag is also a field of --config, with _ for -; flags win over the file, the file over the
defaults. The run's folder gets config.toml (runs the same again), manifest.json, metrics.jsonl,
checkpoint-N/ and, at the end, model/. A run that was killed goes on with --resume as if nothing had
happened, to the last bit. docs/train.md says more."
)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    reading: Reading,
    /// List the objectives
    #[arg(long)]
    list: bool,
    /// Settings as TOML
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    config: Option<PathBuf>,
}

pub fn run(args: &Args, matches: Option<&ArgMatches>) -> anyhow::Result<()> {
    if args.list {
        let rows: Vec<_> = TextObjective::table()
            .map(|(name, objective)| {
                let spec = objective.spec();
                vec![name.into(), spec.inputs.name().into(), spec.formula.into()]
            })
            .collect();
        return output::print(&output::columns(&rows));
    }
    let given = |name: &str| {
        let source = |m: &ArgMatches| m.value_source(name) == Some(ValueSource::CommandLine);
        matches.is_some_and(source)
    };
    let flags = args.settings.clone().with_reading(args.reading.clone());
    let settings = match file(args) {
        None => flags,
        Some(path) => {
            let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
            let origin = path.display().to_string();
            flags.with_file(&text, &origin, given)?
        }
    };
    let dir = train(settings, &mut |line| eprintln!("{line}"))?;
    output::print(&format!(
        "model: {}\nmetrics: {}\n",
        dir.join("model").display(),
        dir.join("metrics.jsonl").display()
    ))
}

/// The file that the flags are laid over: the one that was named, or that of the run which goes on.
fn file(args: &Args) -> Option<PathBuf> {
    if args.config.is_some() || args.settings.objective.is_some() {
        return args.config.clone();
    }
    let checkpoint = args.settings.resume.as_deref()?;
    let run = match &args.settings.out {
        Some(out) => out,
        None => checkpoint.parent().filter(|p| *p != Path::new(""))?,
    };
    Some(run.join(CONFIG)).filter(|file| file.exists())
}
