//! `pistar train`

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::bars::Bars;
use crate::llm::files::checkpoint::CHECKPOINT;
use crate::llm::train::sweep::{Axis, Sweep};
use crate::llm::train::{CONFIG, Ended, Settings, config_reference, train_until};
use crate::loss::{Objective, Spec};

use super::{Found, Stopped, flags::Flags, output, stop};

#[derive(clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  pistar train sft --model llama --data demos.jsonl --epochs 3 --out runs/sft
  pistar train dpo --model runs/sft/model --data pairs.jsonl --lora-rank 16 \\
      --lr 1e-4
  pistar train --config runs/dpo/config.toml --seed 1 --out runs/dpo-1
  pistar train --resume --out runs/dpo
  pistar train dpo --model llama --data pairs.jsonl \\
      --sweep beta=0.03,0.1,0.3 --seeds 3
  pistar train rloo --model llama --prompts prompts.jsonl --reward model:judge

Every flag is also a field of --config, with _ for -; flags win over the file,
the file over the defaults. The run's folder gets config.toml (runs the same
again), manifest.json, metrics.jsonl, checkpoint-N/ and, at the end, model/. A
run that was killed goes on with --resume as if nothing had happened, to the
last bit; Ctrl-C saves the step and ends with status 130. docs/train.md says
more, docs/online.md what --prompts and --reward do, docs/config.md has every
field, docs/runs.md the run's folder and sweeps."
)]
pub struct Args {
    #[command(flatten)]
    settings: Flags<Settings>,
    /// List the objectives
    #[arg(long)]
    list: bool,
    /// Print docs/config.md
    #[arg(long, hide = true)]
    config_reference: bool,
    /// Settings as TOML
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    config: Option<PathBuf>,
    /// Train one run for every value of a field, such as beta=0.03,0.1; of several, for every
    /// combination
    #[arg(long = "sweep", value_name = "FIELD=VALUES", help_heading = "Sweep")]
    sweep: Vec<String>,
    /// Train every run with so many seeds, counted from --seed
    #[arg(long, value_name = "COUNT", help_heading = "Sweep")]
    seeds: Option<u64>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.list {
        let rows: Vec<_> = (Objective::known().into_iter())
            .filter(|objective| objective.spec().bandits_only.is_none())
            .map(|objective| {
                let Spec {
                    name,
                    inputs,
                    formula,
                    own_responses_only,
                    ..
                } = objective.spec();
                let inputs = match own_responses_only {
                    Some(_) => format!("{}, with --prompts", inputs.name()),
                    None => inputs.name().into(),
                };
                vec![name.into(), inputs, formula.into()]
            })
            .collect();
        return output::print(&output::columns(&rows));
    }
    if args.config_reference {
        return output::print(&config_reference());
    }
    let settings = merged(&args.settings, file(args).as_deref())?;
    if settings.sweep.is_some() || args.seeds.is_some() || !args.sweep.is_empty() {
        let axes = args.sweep.iter().map(|text| Axis::parse(text));
        let axes = axes.collect::<Result<Vec<_>, _>>()?;
        return sweep(&Sweep::new(&settings, axes, args.seeds)?);
    }
    let stop = stop::asked("after this step, which is saved")?;
    let dir = match train_until(settings, &stop, &Bars::new())? {
        Ended::Complete(dir) | Ended::Before(dir) => dir,
        Ended::Interrupted { dir, steps } => return Err(interrupted(&dir, steps).into()),
    };
    output::print(&format!(
        "model: {}\nmetrics: {}\n",
        dir.join("model").display(),
        dir.join("metrics.jsonl").display()
    ))
}

/// The flags over the fields of a file, if there is one, and these over the defaults.
pub fn merged(flags: &Flags<Settings>, file: Option<&Path>) -> anyhow::Result<Settings> {
    let under = match file {
        Some(path) => Settings::parse(&crate::file::read(path)?, &path.display().to_string())?,
        None => Settings::default(),
    };
    Ok(flags.over(under))
}

/// Trains all runs of a sweep that are left.
fn sweep(sweep: &Sweep) -> anyhow::Result<()> {
    let stop = stop::asked("after this step, which is saved")?;
    let outcome = sweep.run(&stop, &Bars::new())?;
    let (dir, count) = (sweep.dir.display(), sweep.members().len());
    let complete = outcome.before + outcome.complete;
    let mut said = format!("{complete} of {count} runs are complete");
    for (number, what) in [
        (outcome.before, "were before"),
        (outcome.elsewhere.len(), "are trained by other processes"),
        (outcome.failed.len(), "failed"),
    ] {
        if number > 0 {
            said += &format!(", {number} {what}");
        }
    }
    if stop.load(Ordering::Relaxed) && complete < count {
        return Err(Stopped(format!("{said}; go on with the same command")).into());
    }
    if let Some((first, _)) = outcome.failed.first() {
        let failed: Vec<&str> = outcome
            .failed
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let said = format!(
            "{said}: {}; {dir}/{first}/machine.json has why",
            failed.join(" and ")
        );
        return Err(Found(said).into());
    }
    output::print(&format!("{said}\ncompare them: pistar runs {dir}\n"))
}

/// What is to be done about it.
fn interrupted(dir: &Path, steps: u64) -> Stopped {
    let dir = dir.display();
    Stopped(match steps {
        0 => format!(
            "stopped before the first step; begin again with\n  pistar train --resume --out {dir}"
        ),
        _ => format!(
            "stopped after step {steps}, which {dir}/{CHECKPOINT}{steps} has; go on with\n  \
             pistar train --resume --out {dir}"
        ),
    })
}

/// The file that the flags are laid over: the one that was named, or that of the run which goes on.
fn file(args: &Args) -> Option<PathBuf> {
    let flags = args.settings.settings();
    if args.config.is_some() || flags.objective.is_some() {
        return args.config.clone();
    }
    let checkpoint = flags.resume.as_deref()?;
    let run = match &flags.out {
        Some(out) => out,
        None => checkpoint.parent().filter(|p| *p != Path::new(""))?,
    };
    Some(run.join(CONFIG)).filter(|file| file.exists())
}
