//! `pistar loss`

use std::path::PathBuf;

use pistar::bandit::{Evidence, population};
use pistar::loss::{Kind, Objective};
use serde_json::json;

use super::{input, output};

#[derive(clap::Args)]
#[command(after_help = "\
Example:
  echo '{\"logits\": [[0.3, -0.2, 0.1]]}' | pistar loss toy.json --objective dpo --logits - --json

Pairs are y ~ first law, y′ ~ second law, with Bradley–Terry labels, pairs of an arm with itself
included; single responses come from both laws (mass 2), groups for rloo from their mean. For
reward-model the table is one of scores, and the gradient is with respect to them. Policy gradients
and rloo are update fields: their gradient is the negated expected update, and they have no value.")]
pub struct Args {
    /// Problem file, JSON or TOML (`-` reads standard input)
    problem: PathBuf,
    /// The objective (`pistar objectives` lists them)
    #[arg(long, value_name = "NAME", value_parser = input::objective)]
    objective: Objective,
    /// Logits of the policy, {"logits": [[…]]}: one list per prompt (`-` reads standard input)
    #[arg(long, value_name = "FILE")]
    logits: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    input::only_one_stdin(&args.problem, Some(&args.logits))?;
    let problem = input::problem(&args.problem)?;
    let logits = input::logits(&args.logits, &problem)?;
    let evidence = Evidence::population(&problem);
    let result = population::evaluate(&problem, &evidence, args.objective, &logits)?;
    let gradient = problem.restore(&result.gradient, 0.0);
    let has_value = args.objective.spec().kind != Kind::Field;
    let name = args.objective.name();
    if args.json {
        let mut answer = json!({ "objective": name, "gradient": gradient });
        if has_value {
            answer["value"] = output::nullable(result.value);
        }
        return output::json(&answer);
    }
    let mut text = if has_value {
        format!("{name}: {}\n", result.value)
    } else {
        format!("{name}: an update field, which has no value\n")
    };
    text += "gradient\n";
    for (x, row) in gradient.iter().enumerate() {
        text += &format!("  prompt {x}  {}\n", output::list(row, 12));
    }
    output::print(&text)
}
