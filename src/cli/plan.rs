//! `pistar plan`

use std::path::PathBuf;

use super::bars::Bars;
use crate::Error;
use crate::llm::tools::plan::{Budget, Change, Lengths, Machine, Memory, Report, machine};
use crate::llm::train::Settings;

use super::{Found, flags::Flags, output, train};

#[derive(clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  pistar plan dpo --model llama --data pairs.jsonl --memory 16GB
  pistar plan dpo --model Llama-2-7b --gpu h200 --dtype bf16 --sequence 2048
  pistar plan --config runs/dpo/config.toml --json | jq .fits

Takes the settings of `pistar train`, all of them, and says what the run takes
before it starts: the most bytes at once, what they are for and when it is; if
they are too many, which single setting would make it fit; if not, the largest
micro_batch_tokens that would. Of the model's folder only config.json is read.
Lengths come from the data if they are given (then the tokenizer is read too),
else from --sequence, else from max_length or the context. Exit code 0 if it
fits, 1 if not, 2 for a bad input. docs/plan.md says what is counted, and how
it was checked."
)]
pub struct Args {
    #[command(flatten)]
    settings: Flags<Settings>,
    /// Settings as TOML
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    config: Option<PathBuf>,
    /// Memory that there is, with its unit: 141GB, 139GiB [default: this machine's]
    #[arg(long, value_name = "BYTES", help_heading = "Plan")]
    memory: Option<String>,
    /// A GPU by name, for its memory: h200, h100-80, a100-40 and others; means --device cuda
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "memory",
        help_heading = "Plan"
    )]
    gpu: Option<String>,
    /// Tokens of every response with its prompt, instead of those of data
    #[arg(long, value_name = "TOKENS", help_heading = "Plan")]
    sequence: Option<usize>,
    /// Tokens of every prompt, where there are no data [default: what takes most]
    #[arg(long, value_name = "TOKENS", help_heading = "Plan")]
    prompt: Option<usize>,
    /// Responses of an example, where there are no data and an example may have any number
    /// [default: 2]
    #[arg(long, value_name = "COUNT", help_heading = "Plan")]
    responses: Option<usize>,
    /// Print a JSON object, all in bytes
    #[arg(long, help_heading = "Plan")]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut settings = train::merged(&args.settings, args.config.as_deref())?;
    if args.gpu.is_some() && !args.settings.has("device") {
        settings.device = "cuda".into();
    }
    let settings = settings.resolve()?;
    let machine = Machine::named(&settings.device)?;
    if args.gpu.is_some() && machine.cpu {
        let remedy = "leave one of them out: --gpu means --device cuda";
        return Err(Error::invalid("device", "it is cpu, and --gpu is given", remedy).into());
    }
    let memory = there(args, &settings.device)?;
    let lengths = Lengths {
        sequence: args.sequence,
        prompt: args.prompt,
        responses: args.responses,
    };
    let budget = Budget::new(&settings, machine, lengths, &Bars::new())?;
    let report = Report::new(&budget, memory)?;
    if args.json {
        output::json(&serde_json::to_value(&report)?)?
    } else {
        output::print(&text(&settings, &report))?
    }
    if report.fits {
        Ok(())
    } else {
        Err(Found(format!(
            "it does not fit: {} of {}",
            report.size(report.total_bytes),
            report.size(report.memory.bytes)
        ))
        .into())
    }
}

/// The memory that there is.
fn there(args: &Args, device: &str) -> anyhow::Result<Memory> {
    let of = |bytes: u64, source: String| Memory { bytes, source };
    if let Some(text) = &args.memory {
        return Ok(of(machine::parse("memory", text)?, "--memory".into()));
    }
    if let Some(name) = &args.gpu {
        return Ok(of(machine::gpu(name)?, format!("--gpu {name}")));
    }
    match Machine::memory(device) {
        Some(bytes) => Ok(of(bytes, "this machine".into())),
        None => {
            let problem = "it is not known how much the device has";
            let remedy = "give --memory 80GB, or --gpu with its name";
            Err(Error::invalid("memory", problem, remedy).into())
        }
    }
}

fn text(settings: &Settings, report: &Report) -> String {
    let objective = settings.objective.as_deref().unwrap_or_default();
    let mut text = format!(
        "{objective}: {} parameters, {} of them trained, {} on {}\n",
        report.parameters,
        report.trained,
        settings.dtype.dtype().as_str(),
        settings.device,
    );
    let lengths = if report.of_data {
        "the largest step of the data"
    } else {
        "a step"
    };
    text += &format!(
        "{lengths} has {} tokens, run in {}; at most {} at once, the longest response {}\n\n",
        report.step_tokens,
        match report.parts {
            1 => "one part".into(),
            parts => format!("{parts} parts"),
        },
        report.tokens_at_once,
        report.longest,
    );
    let rows: Vec<Vec<String>> = right(&report.rows());
    text += &output::columns(&rows);
    text += &format!("\nat most: {}\n", report.course());
    if let Some(tokens) = report.largest_micro_batch_tokens {
        let all = if tokens >= report.step_tokens {
            " (a whole step)"
        } else {
            ""
        };
        text += &format!("largest that fits: --micro-batch-tokens {tokens}{all}\n");
    }
    if report.fits {
        let little = report.total_bytes > report.memory.bytes / 10 * 9;
        return text
            + if little {
                "it fits, with less than a tenth to spare\n"
            } else {
                "it fits\n"
            };
    }
    let list = |text: &mut String, head: &str, changes: &[&Change]| {
        if changes.is_empty() {
            return;
        }
        *text += &format!("\n{head}:\n");
        let rows: Vec<Vec<String>> = (changes.iter())
            .map(|c| {
                vec![
                    format!("  {}", c.setting),
                    report.size(c.peak_bytes),
                    c.cost.clone(),
                ]
            })
            .collect();
        *text += &output::columns(&rows);
    };
    let (enough, less): (Vec<&Change>, Vec<&Change>) = report.changes.iter().partition(|c| c.fits);
    list(
        &mut text,
        "each of these alone would make it fit (tensors at most, cost)",
        &enough,
    );
    list(
        &mut text,
        "these alone would take less, but not little enough",
        &less,
    );
    let together: Vec<&Change> = report.together.iter().collect();
    list(&mut text, "together these would make it fit", &together);
    if enough.is_empty() && together.is_empty() {
        text += "\nno setting makes it fit, and no shorter examples: take a smaller model, or more memory\n";
    }
    text
}

/// The rows with numbers flush right.
fn right(rows: &[[String; 3]]) -> Vec<Vec<String>> {
    let width = rows.iter().map(|row| row[1].len()).max().unwrap_or(0);
    let each = rows
        .iter()
        .map(|[name, size, remark]| vec![name.clone(), format!("{size:>width$}"), remark.clone()]);
    each.collect()
}
