//! `pistar evaluate`

use std::path::{Path, PathBuf};

use super::bars::Bars;
use crate::Error;
use crate::llm::sample::evaluate::judge::{Judged, duels};
use crate::llm::sample::evaluate::{
    Entrant, EvaluationSettings, Loaded, Prompts, Report, WinRate, evaluate, generated, load, read,
    rewarded, win_rate,
};
use crate::llm::sample::generate::Sampling;
use crate::llm::sample::reward::{Resources, Weighted};
use crate::llm::text::data::Reading;
use crate::llm::train::limits::{RESAMPLES, count};
use crate::stats::{Bootstrap, Estimate, Mean};
use crate::text::number;
use serde_json::{Map, Value, json};

use super::scores::ScoreFlags;
use super::{atomic, flags::Flags, judge, output, rewards};

const AFTER: &str = "\
Examples:
  pistar evaluate --model runs/dpo --reference models/llama \\
      --prompts prompts.jsonl \\
      --reward model:runs/rm/model --samples 4
  pistar evaluate --model runs/copg --against runs/dpo --against demos.jsonl \\
      --prompts prompts.jsonl --reward 'lexicon:words.tsv' --json
  pistar evaluate --completions out.jsonl --prompts test.jsonl \\
      --reward 'exact,marker=####:answer'
  pistar evaluate --model runs/dpo --against prompts.jsonl --samples 1 \\
      --prompts prompts.jsonl --judge 'command:python3 judge.py'

Reports mean reward, KL to the reference, entropy, length, share ended by EOS,
and win rates: each with a 95 % interval that takes prompts, not completions,
as independent. --against takes rows with the same prompts (`completion`,
`completions` or `chosen`), a model's folder, or a run's; given several times
it makes a table of everyone against everyone. --judge has every pair of
completions judged in both orders: won or lost if both say so, else a tie.
";

#[derive(clap::Args)]
#[command(
    after_help = format!("{AFTER}\n{}\n\n{}", rewards::KINDS, judge::KINDS),
    mut_arg("reward", |arg| arg.required(false).required_unless_present("judge"))
)]
pub struct Args {
    /// Folder of a model, of an adapter, or of a run
    #[arg(long, value_name = "DIR", required_unless_present = "completions")]
    model: Option<PathBuf>,
    /// Folder of the model that KL is measured to
    #[arg(long, value_name = "DIR", conflicts_with = "completions")]
    reference: Option<PathBuf>,
    /// Prompts: JSON lines, JSON or parquet; rewards see their other columns too
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    #[command(flatten)]
    reading: Flags<Reading>,
    /// Evaluate the first N prompts only
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Completions to evaluate instead of a model's
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    completions: Option<PathBuf>,
    /// Completions, model or run to win against; may be repeated
    #[arg(long, value_name = "FILE|DIR")]
    against: Vec<PathBuf>,
    /// Write the completions with their scores here, for --against, `pistar score` or `pistar train`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    rewards: rewards::Flags,
    #[command(flatten)]
    judge: judge::JudgeFlags,
    #[command(flatten)]
    scores: ScoreFlags,
    /// Completions of each prompt
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Sampling")]
    samples: usize,
    /// Logits are divided by it; 0: always the most probable token
    #[arg(
        long,
        value_name = "T",
        default_value_t = 1.0,
        allow_hyphen_values = true,
        help_heading = "Sampling"
    )]
    temperature: f64,
    /// Draw from the K most probable tokens
    #[arg(long, value_name = "K", help_heading = "Sampling")]
    top_k: Option<usize>,
    /// Draw from the fewest tokens whose probabilities add up to P
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        allow_hyphen_values = true,
        help_heading = "Sampling"
    )]
    top_p: f64,
    /// Most tokens of a completion, EOS included
    #[arg(
        long,
        value_name = "TOKENS",
        default_value_t = 128,
        help_heading = "Sampling"
    )]
    max_new_tokens: usize,
    /// Most sequences that are generated at once
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16,
        help_heading = "Sampling"
    )]
    batch: usize,
    /// Seed of completions and resamples; models to win against get the next ones
    #[arg(long, default_value_t = 0, help_heading = "Sampling")]
    seed: u64,
    /// Resamples of the bootstrap intervals
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    resamples: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let bars = Bars::new();
    let resources = args.rewards.resources()?;
    let settings = settings(args)?;
    if args.out.as_deref() == Some(Path::new("-")) {
        let remedy = "name a file for the completions";
        return Err(Error::invalid("--out", "the report goes to standard output", remedy).into());
    }
    args.out.as_deref().map_or(Ok(()), atomic::check)?;
    args.scores.check()?;
    let judge_settings = args.judge.settings()?;
    if args.out.is_some() && args.out == args.judge.judge_out {
        let problem = "it is the file of --out";
        return Err(Error::invalid("--judge-out", problem, "name another").into());
    }
    let ours = match &args.model {
        Some(dir) => Some(load(dir, resources.dtype, &resources.device)?),
        None => None,
    };
    let tokenizer = ours.as_ref().map(|ours| &ours.tokenizer);
    let specification = args.rewards.specification()?;
    let answers = specification.answers();
    let prompts = Prompts::read(
        &args.prompts,
        &args.reading.settings(),
        tokenizer,
        args.limit,
        &answers,
        &bars,
    )?;
    if prompts.repeated > 0 {
        let (count, of) = (prompts.repeated, &prompts.origin);
        tell!("{of}: {count} rows repeat the prompt of another and are left out");
    }
    let mut rewards = specification.build(&resources)?;
    let has_rewards = rewards.parts().next().is_some();
    let mut judge = (judge_settings.as_ref())
        .map(|judge| judge.build(&resources))
        .transpose()?;
    // Files first: what is wrong with them shows before anything is generated.
    let mut files = Vec::new();
    for against in &args.against {
        files.push(if against.is_dir() {
            None
        } else {
            Some(read(against, &prompts, &bars)?)
        });
    }
    let (report, entrant) = subject(args, ours, &resources, &settings, &prompts, &mut rewards)?;
    if let Some(out) = &args.out {
        write(out, entrant.rows(&prompts))?;
    }
    let mut reports = vec![report];
    let mut entrants = vec![entrant];
    for (i, (against, file)) in args.against.iter().zip(files).enumerate() {
        let settings = EvaluationSettings {
            seed: settings.seed.wrapping_add(i as u64 + 1),
            ..settings.clone()
        };
        let name = unused(&entrants, against.display().to_string());
        let completions = match file {
            Some(completions) => completions,
            None => {
                let other = load(against, resources.dtype, &resources.device)?;
                let (model, tokenizer) = (&other.model, &other.tokenizer);
                generated(model, tokenizer, &prompts, &settings, &bars)?.0
            }
        };
        let entrant = rewarded(&name, completions, &prompts, &mut rewards, &bars)?;
        let mut report = Report::new(&entrant, &settings.sampling, &settings.bootstrap);
        // Files do not say how they were drawn.
        report.kl = None;
        reports.push(report);
        entrants.push(entrant);
    }
    let mut judged = Vec::new();
    if let Some(judge) = &mut judge {
        let duels = duels(&entrants, &prompts, judge.as_mut(), &bars)?;
        judged.extend(duels.iter().map(|d| Judged::new(d, &settings.bootstrap)));
        if let Some(out) = &args.judge.judge_out {
            write(out, duels.iter().flat_map(|duel| duel.rows(&prompts)))?;
        }
    }
    let mut wins = Vec::new();
    for (i, one) in entrants.iter().enumerate().filter(|_| has_rewards) {
        for other in &entrants[i + 1..] {
            wins.push(win_rate(one, other, &settings.bootstrap));
        }
    }
    let value = |mean: Option<&Mean>| mean.map(|mean| mean.value);
    args.scores.write(&[
        (
            "judged wins",
            value(judged.first().and_then(|j| j.win.as_ref())),
        ),
        (
            "win rate",
            value(wins.first().and_then(|w| w.rate.as_ref())),
        ),
        (
            "reward",
            value(reports[0].reward.as_ref().filter(|_| has_rewards)),
        ),
    ])?;
    let reward = crate::llm::sample::reward::Reward::name(&rewards);
    if args.json {
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": args.model,
            "reference": args.reference,
            "prompts": args.prompts,
            "completions": args.completions,
            "reward": has_rewards.then_some(&reward),
            "judge": judge_settings,
            "sampling": args.model.as_ref().map(|_| &settings.sampling),
            "seed": settings.seed,
            "level": settings.bootstrap.level,
            "resamples": settings.bootstrap.resamples,
        });
        return output::json(&json!({
            "about": about,
            "report": reports[0],
            "others": &reports[1..],
            "head_to_head": wins,
            "judged": judged,
        }));
    }
    let mut text = page(&reward, &reports, &wins);
    if let Some(judge) = &judge {
        if !wins.is_empty() {
            text.push('\n');
        }
        text += &judge::page(&judge.name(), &judged);
    }
    output::print(&text)
}

/// Writes rows as JSON lines.
fn write(path: &Path, rows: impl IntoIterator<Item = Map<String, Value>>) -> anyhow::Result<()> {
    let mut text = String::new();
    for row in rows {
        text += &crate::file::json::row(row)?;
        text.push('\n');
    }
    atomic::write(path, &text)
}

fn settings(args: &Args) -> Result<EvaluationSettings, Error> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_new_tokens: 0,
        max_new_tokens: args.max_new_tokens,
        samples: args.samples,
    };
    sampling.check()?;
    count("--resamples", args.resamples as u64, RESAMPLES)?;
    count("--limit", args.limit.unwrap_or(1) as u64, u64::MAX)?;
    Ok(EvaluationSettings {
        sampling,
        seed: args.seed,
        batch: args.batch,
        batch_tokens: args.rewards.batch_tokens,
        bootstrap: Bootstrap {
            seed: args.seed,
            resamples: args.resamples,
            ..Bootstrap::default()
        },
    })
}

/// What is evaluated: a model or a file.
fn subject(
    args: &Args,
    ours: Option<Loaded>,
    resources: &Resources,
    settings: &EvaluationSettings,
    prompts: &Prompts,
    rewards: &mut Weighted,
) -> anyhow::Result<(Report, Entrant)> {
    let bars = Bars::new();
    let place = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
    if let Some(path) = &args.completions {
        let name = place(&args.completions).unwrap_or_default();
        let entrant = rewarded(&name, read(path, prompts, &bars)?, prompts, rewards, &bars)?;
        let mut report = Report::new(&entrant, &settings.sampling, &settings.bootstrap);
        report.kl = None;
        return Ok((report, entrant));
    }
    let Some(ours) = ours else {
        return Err(Error::invalid("--model", "it is missing", "name a model's folder").into());
    };
    let reference = match &args.reference {
        Some(dir) => Some(load(dir, resources.dtype, &resources.device)?.model),
        None => None,
    };
    let (model, tokenizer) = (&ours.model, &ours.tokenizer);
    let (mut report, mut entrant) = evaluate(
        model,
        reference.as_ref(),
        tokenizer,
        prompts,
        rewards,
        settings,
        &bars,
    )?;
    entrant.name = place(&args.model).unwrap_or_default();
    report.name.clone_from(&entrant.name);
    Ok((report, entrant))
}

/// A name that no other entrant has.
fn unused(entrants: &[Entrant], base: String) -> String {
    let (mut name, mut count) = (base.clone(), 1);
    while entrants.iter().any(|e| e.name == name) {
        count += 1;
        name = format!("{base} ({count})");
    }
    name
}

/// An interval, as tables show it.
pub fn interval(bounds: Option<[f64; 2]>) -> String {
    bounds.map_or("–".into(), |[low, high]| {
        format!("[{}, {}]", number(low), number(high))
    })
}

fn page(reward: &str, reports: &[Report], wins: &[WinRate]) -> String {
    let mut text = String::new();
    for report in reports {
        text += &format!(
            "{}: {} completions of {} prompts\n\n",
            report.name, report.completions, report.prompts
        );
        let mut table: Vec<Vec<String>> = vec![
            ["", "mean", "95 % (t)", "95 % (bootstrap)", "sd"]
                .map(String::from)
                .into(),
        ];
        let mut mean = |name: &str, mean: &Option<Mean>| {
            if let Some(m) = mean {
                let (t, b) = (interval(m.t), interval(m.bootstrap));
                table.push(vec![name.into(), number(m.value), t, b, number(m.sd)]);
            }
        };
        mean(&format!("reward {reward}"), &report.reward);
        for (name, part) in &report.parts {
            mean(&format!("  {name}"), &Some(*part));
        }
        match report.kl {
            Some(_) => mean("KL to the reference, k1", &report.kl),
            None => mean("ln π/π_ref", &report.log_ratio),
        }
        mean("KL to the reference, exact by token", &report.kl_exact);
        mean("tokens", &report.length);
        mean("characters", &report.characters);
        mean("ended", &report.ended);
        let mut ratio = |name: &str, e: &Option<Estimate>| {
            if let Some(e) = e {
                let bounds = interval(Some([e.low, e.high]));
                table.push(vec![name.into(), number(e.value), "–".into(), bounds]);
            }
        };
        ratio("KL, exact, nats a token", &report.kl_exact_per_token);
        ratio("entropy, nats a token", &report.entropy);
        text += &output::columns(&table);
        text.push('\n');
    }
    if !wins.is_empty() {
        let mut table: Vec<Vec<String>> = vec![
            [
                "wins of",
                "against",
                "rate",
                "95 % (t)",
                "ties",
                "difference",
                "95 % (t)",
            ]
            .map(String::from)
            .into(),
        ];
        for win in wins {
            let value = |mean: &Option<Mean>| mean.map_or("–".into(), |m| number(m.value));
            let bounds = |mean: &Option<Mean>| interval(mean.and_then(|m| m.t));
            table.push(vec![
                win.name.clone(),
                win.against.clone(),
                value(&win.rate),
                bounds(&win.rate),
                value(&win.ties),
                value(&win.difference),
                bounds(&win.difference),
            ]);
        }
        text += &output::columns(&table);
    }
    text
}
