//! Flags of a judge, and the table of what it says.

use std::path::{Path, PathBuf};

use super::evaluate::interval;
use super::{atomic, output};
use crate::Error;
use crate::llm::sample::evaluate::judge::{JudgeSettings, Judged};
use crate::stats::Mean;
use crate::text::number;

/// Flags of a judge.
#[derive(clap::Args)]
pub struct JudgeFlags {
    /// Judge of every two entrants' completions: command:LINE or model:DIR (see below)
    #[arg(
        long,
        value_name = "JUDGE",
        requires = "against",
        help_heading = "Judge",
        allow_hyphen_values = true
    )]
    judge: Option<String>,
    /// What a language model is shown: a text with {prompt}, {a} and {b}
    #[arg(long, value_name = "FILE", requires = "judge", help_heading = "Judge")]
    judge_template: Option<PathBuf>,
    /// What it may go on with, for {a} and for {b}: of ` A, B` by default, the more probable wins
    #[arg(
        long,
        value_name = "A,B",
        requires = "judge",
        help_heading = "Judge",
        allow_hyphen_values = true
    )]
    judge_labels: Option<String>,
    /// Write the judged pairs here, one a line
    #[arg(long, value_name = "FILE", requires = "judge", help_heading = "Judge")]
    pub judge_out: Option<PathBuf>,
}

/// The kinds, for help texts.
pub const KINDS: &str = "\
Judges, of every pair of completions in both orders:
  command:LINE                any program: JSON lines {\"prompt\", \"a\", \"b\"} in,
                              one {\"winner\": \"a\"}, \"b\" or \"tie\" a line out
  model:DIR                   a language model, by the log-probabilities of two
                              labels after a template; or a reward model, by
                              its scores
docs/evaluate.md says more.";

impl JudgeFlags {
    /// The judge that they name, if they name one, not yet loaded.
    pub fn settings(&self) -> anyhow::Result<Option<JudgeSettings>> {
        if let Some(out) = self.judge_out.as_deref() {
            if out == Path::new("-") {
                let problem = "the report goes to standard output";
                let remedy = "name a file for the judged pairs";
                return Err(Error::invalid("--judge-out", problem, remedy).into());
            }
            atomic::check(out)?;
        }
        let Some(judge) = &self.judge else {
            return Ok(None);
        };
        let (template, labels) = (self.judge_template.clone(), self.judge_labels.as_deref());
        Ok(Some(JudgeSettings::parse(judge, template, labels)?))
    }
}

/// The table of what a judge says.
pub fn page(judge: &str, judged: &[Judged]) -> String {
    let interval_of = |mean: &Option<Mean>| interval(mean.and_then(|m| m.t));
    let value = |mean: &Option<Mean>| mean.map_or("–".into(), |m| number(m.value));
    let name = format!("judged by {judge}");
    let mut table: Vec<Vec<String>> = vec![
        [
            name.as_str(),
            "against",
            "pairs",
            "wins",
            "95 % (t)",
            "ties",
            "95 % (t)",
            "losses",
            "95 % (t)",
            "agreement",
            "shown first",
        ]
        .map(String::from)
        .into(),
    ];
    for one in judged {
        let mut row = vec![one.name.clone(), one.against.clone(), one.pairs.to_string()];
        for share in [&one.win, &one.tie, &one.lose] {
            row.extend([value(share), interval_of(share)]);
        }
        row.extend([value(&one.agreement), value(&one.first)]);
        table.push(row);
    }
    output::columns(&table)
}
