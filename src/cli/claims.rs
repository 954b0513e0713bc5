//! `pistar claims`

use crate::claims::{Checked, Measure, Paper, Verdict, all, check};
use serde_json::{Value, json};

use super::{Found, input, output};

/// Columns of the verdict at the left.
const MARGIN: usize = 10;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pistar claims --paper copg
  pistar claims --json | jq '.[] | select(.verdict == \"misprint\") | .place'

Every verdict is found anew from numbers computed now, and compared with the
one on record. Exit code 1 if any differs.

  holds      true as stated
  holds if   true under a condition that the statement lacks
  misprint   the printed line contradicts the paper's own neighbouring equations
  refuted    false as stated; the remark says what stands nevertheless")]
pub struct Args {
    /// Only this paper (repeatable): copg, dro, copr, bpo or advantage-model
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = input::paper)]
    paper: Vec<Paper>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut claims = all();
    claims.retain(|c| args.paper.is_empty() || args.paper.contains(&c.paper));
    let checked = check(&claims)?;
    if args.json {
        output::json(&checked.iter().map(entry).collect())?;
    } else {
        output::print(&page(&checked))?;
    }
    let differ: Vec<String> = (checked.iter().filter(|c| !c.agrees()))
        .map(|c| {
            let (name, recorded) = (c.claim.name, c.claim.verdict.name());
            let (found, evidence) = (found(c), &c.finding.evidence);
            format!("{name}: {recorded} on record, found {found} ({evidence})")
        })
        .collect();
    if differ.is_empty() {
        return Ok(());
    }
    let what = format!("{} of {} verdicts differ", differ.len(), checked.len());
    Err(Found(format!("{what}\n{}", differ.join("\n"))).into())
}

fn found(checked: &Checked) -> &'static str {
    checked.finding.verdict.map_or("no verdict", Verdict::name)
}

fn entry(checked: &Checked) -> Value {
    let (claim, finding) = (&checked.claim, &checked.finding);
    let measure = |m: &Measure| {
        json!({
            "name": m.name,
            "value": output::nullable(m.value),
            "printed": m.printed,
        })
    };
    json!({
        "name": claim.name,
        "paper": claim.paper.name(),
        "place": claim.place,
        "statement": claim.statement,
        "verdict": claim.verdict.name(),
        "remark": claim.remark,
        "found": finding.verdict.map(Verdict::name),
        "agrees": checked.agrees(),
        "evidence": finding.evidence,
        "measures": finding.measures.iter().map(measure).collect::<Vec<_>>(),
    })
}

fn page(checked: &[Checked]) -> String {
    let mut text = String::new();
    for paper in Paper::ALL {
        let mut of_paper = checked.iter().filter(|c| c.claim.paper == paper).peekable();
        if of_paper.peek().is_some() {
            text += &format!("{}\n\n", paper.title());
        }
        for checked in of_paper {
            text += &block(checked);
            text.push('\n');
        }
    }
    text + &summary(checked)
}

/// The verdict at the left, and beside it place, statement, remark and evidence.
fn block(checked: &Checked) -> String {
    let (claim, finding) = (&checked.claim, &checked.finding);
    let head = format!("{}  [{}]", claim.place, claim.name);
    let verdict = claim.verdict.name();
    let gap = MARGIN.saturating_sub(verdict.len());
    let mut text = format!("{verdict}{}", output::wrap(&head, gap, MARGIN));
    text += &output::wrap(&format!("{}.", claim.statement), MARGIN, MARGIN);
    if !claim.remark.is_empty() {
        text += &output::wrap(&format!("→ {}", claim.remark), MARGIN, MARGIN + 2);
    }
    text += &output::wrap(&format!("· {}", finding.evidence), MARGIN, MARGIN + 2);
    if !finding.measures.is_empty() {
        let measure = |m: &Measure| {
            let value = format!("{} {}", m.name, output::number(m.value));
            match m.printed {
                Some(printed) => format!("{value} (printed {printed})"),
                None => value,
            }
        };
        let measures: Vec<String> = finding.measures.iter().map(measure).collect();
        text += &output::wrap(&format!("· {}", measures.join("; ")), MARGIN, MARGIN + 2);
    }
    if !checked.agrees() {
        text += &output::wrap(&format!("! found now: {}", found(checked)), MARGIN, MARGIN);
    }
    text
}

fn summary(checked: &[Checked]) -> String {
    let counts: Vec<String> = (Verdict::ALL.into_iter())
        .map(|verdict| {
            let count = checked
                .iter()
                .filter(|c| c.claim.verdict == verdict)
                .count();
            format!("{count} {}", verdict.name())
        })
        .collect();
    let differ = checked.iter().filter(|c| !c.agrees()).count();
    let outcome = match differ {
        0 => "every verdict found again".to_string(),
        n => format!("{n} found otherwise"),
    };
    let (count, counts) = (checked.len(), counts.join(", "));
    format!("{count} claims: {counts}; {outcome}\n")
}
