//! `pistar continual`

use std::path::Path;

use super::bars::Bars;
use crate::continual::Method;
use crate::llm::continual::{ACCURACY, METRICS, Outcome, Settings, run as learn};

use super::{Stopped, flags::Flags, output, stop};

#[derive(clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  pistar continual copr --tasks tasks.toml --model llama --set lr=5e-5
  pistar continual sft+ewc --tasks tasks.toml --model llama --pull 100
  pistar continual copr --tasks tasks.toml --model llama --resume

with tasks.toml:
  [train]                            # fields of `pistar train`
  batch = 64
  schedule = \"constant\"
  [train.numbers]
  beta = 0.5
  [[task]]
  name = \"helpful\"
  data = \"helpful.jsonl\"             # ranked responses
  held_out = \"helpful-test.jsonl\"    # prompts
  score = [\"model:judge\"]
  accuracy = \"wins\"                  # against the model it starts from
  [[task]]
  name = \"short\"
  prompts = \"questions.jsonl\"        # the model writes responses to rank
  reward = [\"length\"]
  held_out = \"questions-test.jsonl\"
  accuracy = { between = { low = 0, high = 200 } }

Learns the tasks one after the other and measures all of them after each:
accuracy.csv, metrics.csv (AA, AIA, BWT, FM), and a folder a task with its rows
and its run. Killed or stopped, it goes on with --resume to the same bytes.
docs/continual.md says what each method does and what the files hold."
)]
pub struct Args {
    #[command(flatten)]
    settings: Flags<Settings>,
    /// List the methods
    #[arg(long)]
    list: bool,
    /// Write the tables only
    #[arg(long)]
    no_figure: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.list {
        let rows: Vec<_> = (Method::ALL.iter())
            .map(|method| vec![method.name.into(), method.about.into()])
            .collect();
        return output::print(&output::columns(&rows));
    }
    let stop = stop::asked("after this step, which is saved")?;
    match learn(&args.settings.settings(), &stop, &Bars::new())? {
        Outcome::Complete(dir) => {
            if !args.no_figure {
                figure(&dir)?;
            }
            output::print(&format!(
                "{}metrics: {}\naccuracies: {}\n",
                table(&dir.join(METRICS))?,
                dir.join(METRICS).display(),
                dir.join(ACCURACY).display()
            ))
        }
        Outcome::Interrupted(dir) => {
            let dir = dir.display();
            let said = format!("stopped; go on with --resume and --out {dir}");
            Err(Stopped(said).into())
        }
    }
}

/// Draws matrix, curves and forgetting into the sequence's folder.
#[cfg(feature = "plot")]
fn figure(dir: &Path) -> anyhow::Result<()> {
    crate::figures::continual::draw(dir, &dir.join("continual"), &Bars::new())
}

#[cfg(not(feature = "plot"))]
#[allow(clippy::unnecessary_wraps)]
fn figure(_: &Path) -> anyhow::Result<()> {
    Ok(())
}

/// The metrics in columns.
fn table(path: &Path) -> anyhow::Result<String> {
    let text = crate::file::read(path)?;
    let short = |cell: &str| match cell.parse::<f64>() {
        Ok(value) if cell.contains('.') => format!("{value:.3}"),
        _ => cell.to_string(),
    };
    let rows: Vec<Vec<String>> = (text.lines())
        .map(|line| line.split(',').map(short).collect())
        .collect();
    Ok(output::columns(&rows))
}
