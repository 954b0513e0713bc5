//! `pistar verify`

use std::path::PathBuf;

use crate::Result;
use crate::bandit::{Beta, Problem};
use crate::loss::Objective;
use crate::verify::report::{Outcome, Report, WIDTH, default_problem, report_on};
use rayon::prelude::*;

use super::numbers::NumberFlags;
use super::{Found, input, output};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pistar verify ipo
  pistar verify dpo --problem toy.json --beta 0.1
  pistar verify dpo slic pg-zero --json | jq '.[] | {loss, faults, differences}'

  ok        it has the property
  differs   it does not have the property, such as π* as its limit:
            worth knowing, not wrong
  fault     a wrong gradient, NaN where policy and reference agree, backends
            or solvers that disagree
  skipped   the check does not apply

A limit is a rest (a stationary point) of gradient flow from π_ref: `stable`,
`neutral` (one of many), `boundary` (some arm's probability goes to 0),
`repelling`, or `none`; `unbounded` if the loss falls for ever.

Exit code 1 if there is a fault. A loss of your own takes ten lines of Rust:
examples/own_loss.rs.")]
pub struct Args {
    /// Registered losses (`pistar objectives` lists them)
    #[arg(value_name = "LOSS", value_parser = input::objective, required_unless_present = "all")]
    losses: Vec<Objective>,
    /// Every registered loss
    #[arg(long, conflicts_with = "losses")]
    all: bool,
    /// Limits on a problem of your own, JSON or TOML (`-` reads standard input)
    #[arg(long, value_name = "FILE")]
    problem: Option<PathBuf>,
    /// Limits at this temperature instead of the problem's
    #[arg(
        long,
        value_name = "BETA",
        requires = "problem",
        allow_negative_numbers = true
    )]
    beta: Option<f64>,
    /// Print JSON: a list with one report per loss
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    numbers: NumberFlags,
}

impl Args {
    fn problem(&self) -> Result<Option<Problem>> {
        let Some(path) = &self.problem else {
            return Ok(None);
        };
        let problem = input::problem(path)?;
        Ok(Some(match self.beta {
            Some(beta) => problem.at(Beta::new("--beta", beta)?),
            None => problem,
        }))
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let losses = if args.all {
        Objective::on_bandits()
    } else {
        args.losses.clone()
    };
    let problem = args.problem()?;
    let problem_of_reports = args.numbers.over(default_problem()?, &losses)?;
    let problem = problem.map(|p| args.numbers.over(p, &losses)).transpose()?;
    let one = |loss: &Objective| match &problem {
        Some(problem) => report_on(*loss, problem),
        None => report_on(*loss, &problem_of_reports),
    };
    let reports: Vec<Report> = losses.par_iter().map(one).collect::<Result<_>>()?;
    if args.json {
        output::json(&reports.iter().map(Report::json).collect())?;
    } else {
        let pages: Vec<String> = reports.iter().map(Report::to_string).collect();
        output::print(&pages.join(&format!("\n{}\n\n", "─".repeat(WIDTH))))?;
    }
    let faults: Vec<String> = (reports.iter())
        .flat_map(|r| r.checks.iter().map(move |c| (&r.loss, c)))
        .filter(|(_, c)| c.outcome == Outcome::Fault)
        .map(|(loss, c)| format!("{loss}: {}: {}", c.property, c.says))
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    let many = if faults.len() == 1 { "fault" } else { "faults" };
    Err(Found(format!("{} {many}\n{}", faults.len(), faults.join("\n"))).into())
}
