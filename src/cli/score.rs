//! `pistar score`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::bars::Bars;
use crate::Error;
use crate::llm::sample::reward::calibration::{Calibration, Group, Pair};
use crate::llm::sample::reward::{Rows, Scored, Slot, grouped};
use crate::llm::text::data::Reading;
use crate::stats::{Bootstrap, clustered};
use crate::text::number;

use super::{atomic, flags::Flags, output, rewards};

/// Help text's end.
const AFTER: &str = "\
Examples:
  pistar score --reward 'regex:(?i)\\bhappy\\b' --data rows.jsonl \\
      --out scored.jsonl
  pistar score --reward model:runs/rm/model --data rows.jsonl --group \\
      --out groups.jsonl
  pistar score --reward 'command:python3 tests.py' --reward-timeout 10 \\
      --data rows.jsonl
  pistar score --reward model:runs/am/model --data pairs.jsonl --report \\
      --margin 2.5

Rows have `prompt` and `completion` (which get `score`), `completions`
(`scores`), or `chosen` and `rejected` (`chosen_score`, `rejected_score`): what
copg, rloo, dro-v and others train on. With --group, all rows of a prompt
become one.
";

#[derive(clap::Args)]
#[command(after_help = format!("{AFTER}\n{}", rewards::KINDS))]
pub struct Args {
    #[command(flatten)]
    rewards: rewards::Flags,
    /// Rows: JSON lines, JSON or parquet, packed or not
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    reading: Flags<Reading>,
    /// Write scored rows here; a file is there whole or not at all [default: standard output, or nowhere with
    /// --report]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Make one row of all rows of a prompt: prompt, completions, scores
    #[arg(long)]
    group: bool,
    /// Leave out prompts with fewer completions than this
    #[arg(long, value_name = "N", default_value_t = 1, requires = "group")]
    least: usize,
    /// Score rows anew that have a score
    #[arg(long)]
    replace: bool,
    /// Report on labelled pairs (chosen, rejected, maybe category): accuracy, calibration, margin, spread
    #[arg(long)]
    report: bool,
    /// Bins of the calibration error
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        requires = "report",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    bins: u32,
    /// m of an Advantage Model: tells the share of scores beyond it
    #[arg(long, value_name = "M", requires = "report")]
    margin: Option<f64>,
    /// Print the report as JSON
    #[arg(long, requires = "report")]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let specification = args.rewards.specification()?;
    let resources = args.rewards.resources()?;
    if args.report && args.out.as_deref() == Some(Path::new("-")) {
        let remedy = "name a file for the rows";
        return Err(Error::invalid("--out", "the report goes to standard output", remedy).into());
    }
    let out = match (&args.out, args.report) {
        (Some(out), _) => Some(out.as_path()),
        (None, true) => None,
        (None, false) => Some(Path::new("-")),
    };
    out.map_or(Ok(()), atomic::check)?;
    let rows = Rows::open(&args.data, &args.reading.settings(), &Bars::new())?;
    if out.is_some() && !args.replace {
        rows.unscored()?;
    }
    if args.report {
        labelled(&rows)?;
    }
    let mut rewards = specification.build(&resources)?;
    let scored =
        (rewards.scored(&rows.views(), &Bars::new())).map_err(|e| e.in_file(rows.origin()))?;
    if args.report {
        report(args, &rows, &scored)?;
    } else {
        summary(&rows, &scored);
    }
    let Some(out) = out else { return Ok(()) };
    let mut lines = rows.scored(&scored);
    if args.group {
        lines = grouped(lines, args.least);
        let size = |row: &serde_json::Map<_, serde_json::Value>| {
            row.get("completions")
                .and_then(|c| c.as_array())
                .map_or(0, Vec::len)
        };
        let alone = lines.iter().filter(|row| size(row) < 2).count();
        if alone > 0 {
            tell!(
                "{alone} of {} prompts have one completion only, which cannot be compared: --least 2 \
                 leaves them out",
                lines.len()
            );
        }
    }
    let mut text = String::new();
    for line in lines {
        text += &crate::file::json::row(line)?;
        text.push('\n');
    }
    atomic::write(out, &text)
}

/// Prompts by number, one for each completion.
fn prompts(rows: &Rows) -> Vec<usize> {
    let mut known: HashMap<String, usize> = HashMap::new();
    let number = |row: crate::llm::sample::reward::Candidate| {
        let next = known.len();
        *known.entry(row.prompt.to_owned()).or_insert(next)
    };
    rows.views().into_iter().map(number).collect()
}

/// Says on standard error what the scores are like.
fn summary(rows: &Rows, scored: &Scored) {
    let prompts = prompts(rows);
    let parts = match scored.parts.len() {
        1 => &[][..],
        _ => scored.parts.as_slice(),
    };
    let total = ("score".to_owned(), scored.total.clone());
    for (name, scores) in std::iter::once(&total).chain(parts) {
        let Some(mean) = clustered(scores, &prompts, &Bootstrap::default()) else {
            continue;
        };
        let interval = match mean.t {
            Some([low, high]) => format!(", 95 % [{}, {}]", number(low), number(high)),
            None => String::new(),
        };
        tell!(
            "{name}: mean {}{interval}, sd {}, {} completions of {} prompts",
            number(mean.value),
            number(mean.sd),
            mean.count,
            mean.clusters
        );
    }
}

/// Refuses data without labels.
fn labelled(rows: &Rows) -> Result<(), Error> {
    let other = |slot: &Slot| !matches!(slot, Slot::Chosen | Slot::Rejected);
    match rows.slots().iter().find(|(_, slot)| other(slot)) {
        None => Ok(()),
        Some((index, _)) => Err(Error::invalid(
            format!("{}: row {}", rows.origin(), index + 1),
            "it is no labelled pair, which --report is about",
            "give rows with `prompt`, `chosen` and `rejected`",
        )),
    }
}

fn report(args: &Args, rows: &Rows, scored: &Scored) -> anyhow::Result<()> {
    let prompts = prompts(rows);
    let category = |row: usize| {
        let value = rows.columns()[row].get("category")?;
        match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    };
    // Of a pair the preferred one comes first.
    let places = (0..scored.total.len()).step_by(2);
    let pairs: Vec<Pair> = places
        .map(|i| Pair {
            category: category(rows.slots()[i].0),
            prompt: prompts[i],
            chosen: scored.total[i],
            rejected: scored.total[i + 1],
        })
        .collect();
    let found = Calibration::new(
        &pairs,
        args.bins as usize,
        args.margin,
        &Bootstrap::default(),
    )?;
    if args.json {
        return output::json(&serde_json::to_value(&found)?);
    }
    output::print(&page(&found, args.margin))
}

fn page(found: &Calibration, margin: Option<f64>) -> String {
    let mut header = vec![
        "category", "pairs", "accuracy", "95 %", "ECE", "margin", "sd", "reward", "sd", "min",
        "max",
    ];
    if margin.is_some() {
        header.push("beyond m");
    }
    let line = |name: &str, group: &Group| {
        let mut cells = vec![name.to_owned(), group.pairs.to_string()];
        let accuracy = group.accuracy.as_ref();
        cells.push(accuracy.map_or("–".into(), |a| number(a.value)));
        let interval = accuracy.and_then(|a| a.t);
        cells.push(interval.map_or("–".into(), |[low, high]| {
            format!("[{}, {}]", number(low), number(high))
        }));
        let (m, r) = (&group.margin, &group.rewards);
        let numbers = [group.ece, m.mean, m.sd, r.mean, r.sd, r.min, r.max];
        cells.extend(numbers.map(number));
        cells.extend(group.beyond.map(number));
        cells
    };
    let mut table = vec![header.into_iter().map(String::from).collect()];
    table.extend(
        found
            .categories
            .iter()
            .map(|(name, group)| line(name, group)),
    );
    table.push(line("all", &found.all));
    let mut text = output::columns(&table);
    if let Some(between) = &found.between {
        text += &format!(
            "\nbetween categories: sd of mean rewards {}, range {}, {:.1} % of the variance; greatest \
             over least sd {}\n",
            number(between.sd_of_means),
            number(between.range_of_means),
            100.0 * between.variance_share,
            between.ratio_of_sds.map_or("–".into(), number)
        );
    }
    let mut bins = vec![
        ["confidence from", "share", "confidence", "accuracy"]
            .map(String::from)
            .into(),
    ];
    bins.extend(
        (found.bins.iter().filter(|bin| bin.share > 0.0)).map(|bin| {
            [bin.from, bin.share, bin.confidence, bin.accuracy]
                .map(number)
                .into()
        }),
    );
    text + "\n" + &output::columns(&bins)
}
