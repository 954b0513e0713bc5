//! `pistar data`

use std::fmt::Write as _;
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::sync::Arc;

use super::bars::Bars;
use crate::Error;
use crate::llm::model::model_folder::ModelFolder;
use crate::llm::text::data::check::{Balance, Check, Checker, Look, Quantiles};
use crate::llm::text::data::{Form, Reading, RowRules, unread};
use crate::llm::text::objective::TextObjective;
use crate::loss::Objective;
use crate::text::suggestion;
use clap::Subcommand;

use super::{Found, flags::Flags, output};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Report on a file before training: rows, lengths, what is cut, one row with its loss mask
    Check(CheckArgs),
}

#[derive(clap::Args)]
#[command(
    after_help = "\
Examples:
  pistar data check pairs.jsonl --model models/llama --objective dpo
  pistar data check gsm8k.jsonl --model models/llama --column prompt=question \\
      --column \"completion=' ' ~ answer\"

Exits with 1 if training would refuse a row. What is in the loss is shown in
green on a terminal, and between ⟦ and ⟧ elsewhere. docs/data.md says what rows
are read from and what expressions can do.",
    max_term_width = 80
)]
struct CheckArgs {
    /// The file: JSON lines, a JSON array, parquet or text, gzip or not; or FOLDER/*.jsonl
    #[arg(value_name = "FILE")]
    data: PathBuf,
    /// Folder of a model, of an adapter (LoRA), or of a run: config.json and tokenizer.json are read
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Look closer at what this objective would see [default: what takes most rows]
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
    #[command(flatten)]
    reading: Flags<Reading>,
    /// Most tokens of prompt and completion: longer completions lose their end, and EOS
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Most tokens of a prompt: longer ones lose their beginning
    #[arg(long, value_name = "TOKENS")]
    max_prompt_length: Option<usize>,
    /// Take completions without text, whose only token is EOS
    #[arg(long)]
    allow_empty: bool,
    /// Refuse prompts whose tokens change when the completion follows
    #[arg(long)]
    strict_boundaries: bool,
    /// The row to show, from 1
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    show: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let Command::Check(args) = &args.command;
    let form = match &args.objective {
        None => None,
        Some(name) => {
            let found = Objective::from_name(name).ok().map(Objective::on_text);
            let found = found.filter(|o| TextObjective::all().any(|known| known == *o));
            let objective = found.ok_or_else(|| {
                let remedy = suggestion(name, TextObjective::names());
                Error::invalid("--objective", format!("it is `{name}`"), remedy)
            })?;
            Some(Form::from(objective))
        }
    };
    let settings = RowRules {
        max_length: args.max_length,
        max_prompt_length: args.max_prompt_length,
        allow_empty: args.allow_empty,
        strict_boundaries: args.strict_boundaries,
    };
    let found = ModelFolder::find(&args.model)?;
    let tokenizer = Arc::new(found.tokenizer()?);
    let sizes = found.config()?.sizes();
    tokenizer.fits(sizes.vocabulary)?;
    let context = sizes.context;
    let bars = Bars::new();
    let (data, reading) = (&args.data, &args.reading.settings());
    let checker = Checker::open(data, reading, tokenizer, context, settings, &bars)?;
    let check = checker.check(form, args.show as usize - 1, &bars)?;
    if args.json {
        output::json(&serde_json::to_value(&check)?)?
    } else {
        output::print(&page(&check))?
    }
    if check.refuses() {
        Err(Found(format!(
            "training would refuse {} of {} rows as {}",
            check.refused, check.rows, check.kind
        ))
        .into())
    } else {
        Ok(())
    }
}

/// The check for people.
fn page(check: &Check) -> String {
    let mut text = format!("{}: {} rows", check.data, check.rows);
    if check.records as u64 != check.rows as u64 {
        let _ = write!(text, " made of {}", check.records);
    }
    if check.left_out > 0 {
        let _ = write!(text, ", {} left out by `where`", check.left_out);
    }
    if check.rendered > 0 {
        let _ = write!(text, ", {} rendered by the chat template", check.rendered);
    }
    text.push_str("\n\n");
    let rows: Vec<Vec<String>> = (check.kinds.iter())
        .map(|kind| {
            let names = match kind.rows {
                0 => String::new(),
                _ => kind.objectives.join(" "),
            };
            vec![kind.kind.into(), format!("{} rows", kind.rows), names]
        })
        .collect();
    text += &output::columns(&rows);
    let _ = writeln!(text, "\nas {}:", check.kind);
    text += &output::columns(&lengths(check));
    for line in unread::line(&check.unread).into_iter().chain(notes(check)) {
        text += &output::wrap(&line, 0, 4);
    }
    for refusal in &check.refusals {
        text += &output::wrap(&format!("refused: {refusal}"), 0, 4);
    }
    if let Some(look) = &check.look {
        text += &shown(look);
    }
    text
}

fn lengths(check: &Check) -> Vec<Vec<String>> {
    let heads = ["tokens", "mean", "min", "50 %", "90 %", "99 %", "max"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    for (name, q) in [
        ("prompt", &check.prompt_tokens),
        ("completion", &check.completion_tokens),
        ("both", &check.tokens),
    ] {
        let Quantiles {
            mean,
            min,
            p50,
            p90,
            p99,
            max,
            ..
        } = q;
        let mut row = vec![name.to_string(), format!("{mean:.1}")];
        row.extend([min, p50, p90, p99, max].map(ToString::to_string));
        rows.push(row);
    }
    rows
}

/// A line for each thing that a person may want to know.
fn notes(check: &Check) -> Vec<String> {
    let mut notes = Vec::new();
    // Of one file, its name is said already.
    let prefix = format!("{}:", check.data);
    let short = |place: &str| -> String {
        match place.strip_prefix(&prefix) {
            Some(line) => format!("line {}", line.trim()),
            None => place.into(),
        }
    };
    let mut note = |count: u64, what: &str, rows: &[String]| {
        if count > 0 {
            let first = if rows.is_empty() {
                String::new()
            } else {
                let rows: Vec<String> = rows.iter().map(|row| short(row)).collect();
                format!(" (first: {})", rows.join(", "))
            };
            notes.push(format!("{count} {what}{first}"));
        }
    };
    let limit = format!(" beyond {} tokens", check.longest_allowed);
    note(check.prompts_cut, "prompts lose their beginning", &[]);
    note(
        check.completions_cut,
        &match check.tokens_cut {
            // Texts that are too long to be tokenised whole are not counted.
            0 => format!("completions{limit} lose their end, EOS with it"),
            cut => format!("completions{limit} lose their end, EOS with it: {cut} tokens in all"),
        },
        &[],
    );
    let apart = "completions in which a token spans the end of the prompt; tokenised apart";
    note(check.apart, apart, &check.apart_rows);
    let repeats =
        "rows of which a completion begins with its whole prompt, which is then trained on";
    note(check.repeats_prompt, repeats, &check.repeats_prompt_rows);
    note(
        check.same_responses,
        "rows of which two responses are the same",
        &check.same_response_rows,
    );
    let twice: Vec<String> = (check.duplicates.first.iter())
        .map(|[earlier, later]| format!("{} as {}", short(later), short(earlier)))
        .collect();
    note(
        check.duplicates.rows,
        "rows that the file has already",
        &twice,
    );
    if check.duplicates.sharing > 0 {
        let d = &check.duplicates;
        notes.push(format!(
            "{} different prompts; {} rows share theirs with others, {} at most",
            d.prompts, d.sharing, d.most
        ));
    }
    match &check.balance {
        Some(Balance::Labels {
            desirable,
            undesirable,
        }) => {
            let mut line = format!("labels: {desirable} desirable, {undesirable} undesirable");
            if *desirable == 0 || *undesirable == 0 {
                line += "; all are the same";
            }
            notes.push(line);
        }
        Some(Balance::Rewards {
            min,
            mean,
            deviation,
            max,
        }) => {
            let [min, mean, deviation, max] =
                [min, mean, deviation, max].map(|&x| output::number(x));
            let mut line =
                format!("rewards: mean {mean}, standard deviation {deviation}, {min} to {max}");
            if min == max {
                line += "; all are the same";
            }
            notes.push(line);
        }
        None => {}
    }
    notes
}

/// Most characters of a text that are shown.
const SHOWN: usize = 1200;

/// A row, what is in the loss marked.
fn shown(look: &Look) -> String {
    let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let [faint, bright, plain] = if colours {
        ["\u{1b}[2m", "\u{1b}[1;32m", "\u{1b}[0m"]
    } else {
        ["", "⟦", "⟧"]
    };
    let end = if colours { plain } else { "" };
    let mut text = format!("\n{}, as the model gets it:\n", look.place);
    for (index, seen) in look.responses.iter().enumerate() {
        let [given, predicted] = seen.tokens;
        let number = match seen.reward {
            Some(reward) => format!(", number {}", output::number(reward)),
            None => String::new(),
        };
        let _ = writeln!(
            text,
            "\n`{}`{number}: {given} tokens given, {predicted} in the loss",
            seen.column
        );
        // All responses have the same prompt.
        let prompt = match index {
            0 => middle(&seen.prompt),
            _ => "…".into(),
        };
        let _ = write!(text, "{faint}{prompt}{end}");
        for part in &seen.parts {
            let said = middle(&part.text);
            let _ = match part.weight {
                0.0 => write!(text, "{faint}{said}{end}"),
                1.0 => write!(text, "{bright}{said}{plain}"),
                weight => write!(text, "{bright}{said}{plain}×{weight}"),
            };
        }
        text.push('\n');
        let quoted = |pieces: &[String]| -> String {
            pieces.iter().map(|piece| format!(" {piece:?}")).collect()
        };
        let _ = write!(
            text,
            "at the boundary:{} |{}",
            quoted(&seen.before),
            quoted(&seen.after)
        );
        let _ = writeln!(
            text,
            "; the last token is {:?}",
            seen.last.as_deref().unwrap_or_default()
        );
    }
    text
}

/// A text without the middle of a long one.
fn middle(text: &str) -> String {
    let count = text.chars().count();
    if count <= SHOWN {
        return text.into();
    }
    let head: String = text.chars().take(SHOWN / 2).collect();
    let tail: String = text.chars().skip(count - SHOWN / 2).collect();
    format!("{head} … {} characters … {tail}", count - SHOWN / 2 * 2)
}
