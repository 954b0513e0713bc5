//! `pistar loss`

use std::path::PathBuf;

use crate::Error;
use crate::bandit::{Evidence, Problem, population};
use crate::loss::Kind;
use crate::solve::bpo::{Inner, phase_problem, phases};
use serde_json::json;

use super::numbers::NumberFlags;
use super::target::Target;
use super::{input, output};

#[derive(clap::Args)]
#[command(after_help = "\
Example:
  echo '{\"logits\": [[0.3, -0.2, 0.1]]}' | pistar loss toy.json \\
      --objective dpo --logits - --json

Pairs are y ~ first behaviour law (distribution), y′ ~ second, with
Bradley–Terry labels, pairs of an arm (response) with itself included (not for
advantage-model-distinct). Single responses of policy gradients come from both
laws (mass 2), those of dro and kto and the groups of rloo from their mean.
dro-v and dro-algorithm-1 take V from the prompts' `value`, or without one V =
E[R − βu]. For reward-model and advantage-model the table is one of scores, and
the gradient is with respect to them. Policy gradients, rloo and
dro-algorithm-1 are update fields: their gradient is the negated expected
update, without a value.")]
pub struct Args {
    /// Problem file, JSON or TOML (`-` reads standard input)
    problem: PathBuf,
    /// The objective (`pistar objectives` lists them)
    #[arg(long, value_name = "NAME", value_parser = Target::parse)]
    objective: Target,
    /// The phase of bpo-dpo, bpo-ipo or bpo-slic: the phases before it are solved exactly
    #[arg(long, value_name = "K", default_value_t = 1)]
    phases: usize,
    /// Logits of the policy, {"logits": [[…]]}: one list per prompt (`-` reads standard input)
    #[arg(long, value_name = "FILE")]
    logits: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    numbers: NumberFlags,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    input::only_one_stdin(&args.problem, Some(&args.logits))?;
    let problem = input::problem(&args.problem)?;
    let logits = input::logits(&args.logits, &problem)?;
    let named = args.objective.objective();
    let problem = args.numbers.over(problem, &[named])?;
    let (objective, stage) = match args.objective {
        Target::Loss(objective) => (objective, problem.clone()),
        Target::Phases(inner) => (inner.objective(), stage(&problem, inner, args.phases)?),
    };
    let evidence = Evidence::population(&stage);
    let result = population::evaluate(&stage, &evidence, objective, &logits)?;
    let gradient = problem.restore(&result.gradient, 0.0);
    let has_value = objective.spec().kind != Kind::Field;
    let name = args.objective.name();
    let trained = objective.spec().value.is_some();
    let values = result.value_at.filter(|_| trained);
    let of_values = result.value_gradient.filter(|_| trained);
    if args.json {
        let mut answer = json!({ "objective": name, "gradient": gradient });
        if let (Some(values), Some(gradient)) = (&values, &of_values) {
            answer["values"] = json!(values);
            answer["value_gradient"] = json!(gradient);
        }
        if has_value {
            answer["value"] = output::nullable(result.value);
        }
        return output::json(&answer);
    }
    let mut text = if has_value {
        format!("{name}: {}\n", output::exact(result.value))
    } else {
        format!("{name}: an update field, which has no value\n")
    };
    text += "gradient\n";
    for (x, row) in gradient.iter().enumerate() {
        text += &format!("  prompt {x}  {}\n", output::list(row, 12));
    }
    if let (Some(values), Some(gradient)) = (&values, &of_values) {
        text += &format!("V         {}\n", output::list(values, 12));
        text += &format!("gradient  {}\n", output::list(gradient, 12));
    }
    output::print(&text)
}

/// The problem of phase k: its reference and behaviour are the exact policy after k − 1 phases.
fn stage(problem: &Problem, inner: Inner, k: usize) -> crate::Result<Problem> {
    let before = match k {
        0 => {
            let remedy = "ask for at least one phase";
            return Err(Error::invalid("--phases", "it is 0", remedy));
        }
        1 => None,
        k => phases(problem, inner, k - 1)?.pop().and_then(|p| p.policy),
    };
    phase_problem(problem, &before.unwrap_or_else(|| problem.reference()))
}
