//! `pistar solve`

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::bars::Bars;
use crate::bandit::{Beta, Evidence, Policy, Problem};
use crate::observer::Observer;
use crate::solve::bpo::phases;
use crate::solve::{FixedPoint, fixed_point};
use crate::{Error, Result};
use serde_json::{Map, Value, json};

use super::numbers::NumberFlags;
use super::target::Target;
use super::{input, output};
use crate::loss::Objective;

/// Prompts and arms shown to people before the rest is left out.
const SHOWN: usize = 8;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pistar problem new > toy.json
  pistar solve toy.json
  pistar solve toy.json --objective ipo --beta 0.1,0.3,1
  pistar solve toy.json --objective bpo-dpo,bpo-ipo --phases 5
  pistar problem draw toy.json --kind preferences --samples 1000 > data.jsonl
  pistar solve toy.json --data data.jsonl --json

JSON: one object {\"beta\", \"optimum\", \"fixed_points\"}; with several
temperatures, a list of them. In log_policy, null stands for minus infinity. A
fixed point without a policy has none, or one that depends on the path: its
notes say which. \"value\" is DRO's V, \"table\" the scores of what trains scores.
\"skipped\" names objectives beyond a solver's cap, and those that need a field
the problem lacks (`value`, `ranking`, `margin`).")]
pub struct Args {
    /// Problem file, JSON or TOML (`-` reads standard input)
    problem: PathBuf,
    /// Solve for this logged dataset (JSON lines) instead of the population
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Only these objectives (repeatable; `pistar objectives` lists them)
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = Target::parse)]
    objective: Vec<Target>,
    /// Phases of bpo-dpo, bpo-ipo and bpo-slic, each solved exactly
    #[arg(long, value_name = "K", default_value_t = 1)]
    phases: usize,
    /// Temperatures to solve at, instead of the problem's own (separated by commas)
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    beta: Vec<f64>,
    /// Show log-probabilities instead of probabilities (JSON always has both)
    #[arg(long)]
    log: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    numbers: NumberFlags,
}

/// The answers at one temperature.
struct Answer {
    problem: Problem,
    solved: Vec<(Target, FixedPoint)>,
    skipped: Vec<(Target, Error)>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    input::only_one_stdin(&args.problem, args.data.as_deref())?;
    let problem = match &args.data {
        Some(_) => input::logged_problem(&args.problem)?,
        None => input::problem(&args.problem)?,
    };
    let named: Vec<_> = if args.objective.is_empty() {
        Objective::on_bandits()
    } else {
        args.objective.iter().map(|t| t.objective()).collect()
    };
    let problem = args.numbers.over(problem, &named)?;
    let dataset = (args.data.as_ref())
        .map(|path| input::dataset(path, &problem))
        .transpose()?;
    let problems = if args.beta.is_empty() {
        vec![problem]
    } else {
        (args.beta.iter())
            .map(|&beta| Ok(problem.at(Beta::new("--beta", beta)?)))
            .collect::<Result<_>>()?
    };
    let answers = (problems.into_iter())
        .map(|problem| {
            let evidence = match &dataset {
                Some(data) => Evidence::from_dataset(&problem, data),
                None => Evidence::population(&problem),
            };
            solve(problem, &evidence, args)
        })
        .collect::<Result<Vec<_>>>()?;
    if args.json {
        let mut all: Vec<Value> = answers.iter().map(Answer::json).collect();
        return output::json(&if all.len() == 1 {
            all.remove(0)
        } else {
            Value::Array(all)
        });
    }
    let data = dataset.map(|d| d.records().len());
    let texts: Vec<String> = answers.iter().map(|a| a.text(args.log, data)).collect();
    output::print(&texts.join("\n"))
}

/// Objectives that were asked for must succeed; of all, those that cannot are named and skipped.
fn solve(problem: Problem, evidence: &Evidence, args: &Args) -> Result<Answer> {
    let (mut solved, mut skipped) = (Vec::new(), Vec::new());
    let mut seen = std::collections::BTreeSet::new();
    let asked = !args.objective.is_empty();
    let targets = if asked {
        args.objective.clone()
    } else {
        Target::all()
    };
    let at = |target| match target {
        Target::Loss(objective) => fixed_point(objective, &problem, evidence),
        Target::Phases(_) if args.data.is_some() => Err(Error::invalid(
            target.name(),
            "it draws its own pairs, phase by phase",
            "leave it out, or leave out --data",
        )),
        Target::Phases(inner) => {
            let mut all = phases(&problem, inner, args.phases)?;
            all.pop()
                .ok_or_else(|| Error::invalid("--phases", "it is 0", "ask for at least one phase"))
        }
    };
    let targets: Vec<Target> = targets.into_iter().filter(|&t| seen.insert(t)).collect();
    let bars = Bars::new().ticking(Duration::from_millis(200));
    let work = bars.begin("solving", targets.len() as u64);
    for target in targets {
        work.note(format_args!("{}", target.name()));
        let point = at(target);
        work.advance(1);
        match point {
            Ok(point) => solved.push((target, point)),
            Err(error) if !asked => skipped.push((target, error)),
            Err(error) => return Err(error),
        }
    }
    drop(work);
    Ok(Answer {
        problem,
        solved,
        skipped,
    })
}

impl Answer {
    /// A table over all arms of the file; what is not finite becomes null.
    fn restored(&self, table: &[Vec<f64>], fill: f64) -> Value {
        let rows = self.problem.restore(table, fill).into_iter();
        rows.map(|row| row.into_iter().map(output::nullable).collect::<Vec<_>>())
            .collect()
    }

    fn policies(&self, policy: &Policy) -> (Value, Value) {
        (
            self.restored(&policy.probabilities(), 0.0),
            self.restored(policy.log(), f64::NEG_INFINITY),
        )
    }

    fn json(&self) -> Value {
        let optimum = self.problem.knows_rewards().then(|| {
            let optimum = self.problem.optimum();
            let (policy, log_policy) = self.policies(&optimum.policy);
            json!({
                "policy": policy,
                "log_policy": log_policy,
                "value": optimum.value,
                "objective": optimum.objective,
            })
        });
        let mut points = Map::new();
        for (objective, point) in &self.solved {
            let (policy, log_policy) = match &point.policy {
                Some(policy) => self.policies(policy),
                None => (Value::Null, Value::Null),
            };
            let mut entry = json!({
                "policy": policy,
                "log_policy": log_policy,
                "regret": point.regret,
                "method": point.method,
                "residual": point.residual,
                "unique": point.unique,
                "rest": point.rest.name(),
                "error": point.error,
                "notes": point.notes,
            });
            if let Some(value) = &point.value {
                entry["value"] = json!(value);
            }
            if let Some(table) = &point.table {
                entry["table"] = self.restored(table, f64::NAN);
            }
            points.insert(objective.name().into(), entry);
        }
        let mut answer = json!({
            "beta": self.problem.beta(),
            "optimum": optimum,
            "fixed_points": points,
        });
        if !self.skipped.is_empty() {
            let reasons = self
                .skipped
                .iter()
                .map(|(o, e)| (o.name().to_string(), json!(e.to_string())));
            answer["skipped"] = Value::Object(reasons.collect());
        }
        answer
    }

    fn text(&self, log: bool, data: Option<usize>) -> String {
        let problem = &self.problem;
        let optimum = problem.knows_rewards().then(|| problem.optimum());
        let prompts = problem.prompts();
        let arms = prompts.iter().map(|p| p.given_arms()).max().unwrap_or(0);
        let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut text = format!(
            "{}, {}, β = {}; {}\n",
            plural(prompts.len(), "prompt"),
            if prompts.len() == 1 {
                plural(arms, "arm")
            } else {
                format!("up to {}", plural(arms, "arm"))
            },
            output::exact(problem.beta()),
            match data {
                Some(n) => format!("fixed points on {}", plural(n, "logged example")),
                None => "fixed points on the population".into(),
            }
        );
        text += &match &optimum {
            Some(optimum) => format!(
                "J* = {}   V* = {}   regret of the reference = {}\n\n",
                output::number(optimum.objective),
                output::list(&optimum.value, SHOWN),
                output::number(problem.regret(&problem.reference())),
            ),
            None => "the problem gives no rewards, so no optimum and no regret is known\n\n".into(),
        };
        let mut rows = vec![
            [
                "objective",
                "regret",
                "unique",
                "rest",
                "residual",
                "method",
            ]
            .map(String::from)
            .to_vec(),
        ];
        let maybe = |x: Option<f64>| x.map_or("–".into(), output::number);
        for (objective, point) in &self.solved {
            rows.push(vec![
                objective.name().into(),
                maybe(point.regret),
                if point.unique { "yes" } else { "no" }.into(),
                point.rest.name().into(),
                maybe(point.residual),
                point.method.clone(),
            ]);
        }
        text += &output::columns(&rows);
        for (x, prompt) in prompts.iter().enumerate().take(SHOWN) {
            let weight = if prompts.len() == 1 {
                String::new()
            } else {
                format!(" of prompt {x} (weight {})", output::number(prompt.weight))
            };
            text += &format!("\n{}{weight}\n", if log { "ln π" } else { "π" });
            let shown = prompt.given_arms().min(SHOWN);
            let mut head = vec![String::new()];
            head.extend((0..shown).map(|a| format!("arm {a}")));
            if shown < prompt.given_arms() {
                head.push(format!("… {} in all", prompt.given_arms()));
            }
            let line = |name: &str, policy: &Policy| {
                let values = if log {
                    policy.log()[x].clone()
                } else {
                    policy.probabilities()[x].clone()
                };
                let fill = if log { f64::NEG_INFINITY } else { 0.0 };
                let values = prompt.restore(&values, fill);
                let cells = values.iter().take(shown).map(|&v| output::number(v));
                std::iter::once(name.to_string())
                    .chain(cells)
                    .collect::<Vec<_>>()
            };
            let mut rows = vec![head];
            rows.extend(
                optimum
                    .iter()
                    .map(|optimum| line("optimum", &optimum.policy)),
            );
            rows.push(line("reference", &problem.reference()));
            for (objective, point) in &self.solved {
                if let Some(policy) = &point.policy {
                    rows.push(line(objective.name(), policy));
                }
            }
            text += &output::columns(&rows);
        }
        if prompts.len() > SHOWN {
            text += &format!("\n… {} prompts in all; --json has them\n", prompts.len());
        }
        for (objective, point) in &self.solved {
            let rows = |table: &[Vec<f64>]| -> String {
                let shown = table.iter().take(SHOWN).map(|row| output::list(row, SHOWN));
                shown.collect::<Vec<_>>().join(" ")
            };
            let name = objective.name();
            if let Some(value) = &point.value {
                text += &format!("\n{name}: V = {}\n", output::list(value, SHOWN));
            }
            if let Some(table) = &point.table {
                let table = problem.restore(table, f64::NAN);
                text += &format!("\n{name}: scores {}\n", rows(&table));
            }
        }
        // The same note of several objectives is printed once.
        let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let said = (self.solved.iter())
            .flat_map(|(o, point)| {
                let error = point
                    .error
                    .map(|e| format!("ln π along the path is right to {e:.0e}"));
                (point.notes.iter().cloned().chain(error)).map(|note| (o.name(), note))
            })
            .chain(
                self.skipped
                    .iter()
                    .map(|(o, e)| (o.name(), format!("skipped: {e}"))),
            );
        for (name, note) in said {
            // There may be one for every prompt.
            match places.get(&note) {
                Some(&place) => notes[place].1.push(name),
                None => {
                    places.insert(note.clone(), notes.len());
                    notes.push((note, vec![name]));
                }
            }
        }
        for (note, names) in notes {
            text += &format!("\n{}: {note}\n", names.join(", "));
        }
        text
    }
}
