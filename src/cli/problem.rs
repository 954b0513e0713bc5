//! `pistar problem`

use std::path::PathBuf;

use crate::bandit::{Dataset, Shape, random_problem};
use clap::{Subcommand, ValueEnum};

use super::{input, output};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a small problem to edit: the bandit of the CoPG paper
    New {
        /// Print it as TOML, with comments
        #[arg(long)]
        toml: bool,
    },
    /// Print a random problem: normal rewards; weights, references and behaviour distributions uniform on the simplex
    Random {
        /// Number of prompts
        #[arg(long, default_value_t = 3)]
        prompts: usize,
        /// Arms (responses) of each prompt
        #[arg(long, default_value_t = 4)]
        arms: usize,
        /// Temperature
        #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
        beta: f64,
        /// Standard deviation of the rewards
        #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
        reward_scale: f64,
        /// Seed; the same seed prints the same problem
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Print data drawn from a problem, as JSON lines for `solve --data`
    Draw {
        /// Problem file, JSON or TOML (`-` reads standard input)
        problem: PathBuf,
        /// Kind of example
        #[arg(long, value_enum, default_value_t = Sample::Preferences)]
        kind: Sample,
        /// Number of examples
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
        samples: u32,
        /// Most arms in a ranking
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..))]
        length: u32,
        /// Seed; the same seed prints the same data
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Sample {
    /// Pairs from the two behaviour distributions, unlabelled
    Pairs,
    /// Pairs with a Bradley–Terry label
    Preferences,
    /// Single responses with their reward
    Singles,
    /// Ranked lists, Plackett–Luce
    Rankings,
}

const TOML: &str = "\
# Temperature of the KL penalty.
beta = 0.5

# The Advantage Model's m; may be left out where it is not asked for.
margin = 2.5

# One table per prompt. `weight` may be left out of all (then they weigh the same), `reference` may
# be left out (then it is uniform), one behaviour law (distribution) stands for both. Instead of
# `behavior`, `pairs` gives the joint distribution of (y, y') as a square table.
[[prompts]]
weight = 1.0
reward = [2.5, 2.0, 1.0]
reference = [0.3333333333333333, 0.3333333333333333, 0.3333333333333333]
behavior = [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]

# May be left out: V(x) for DRO with a fixed value, a ranking for COPR (some arms, the worst first),
# and the policy under which centred advantages have mean zero (else the reference).
value = 1.7
ranking = [2, 1, 0]
";

const JSON: &str = r#"{
  "beta": 0.5,
  "margin": 2.5,
  "prompts": [
    {
      "weight": 1.0,
      "reward": [2.5, 2.0, 1.0],
      "reference": [0.3333333333333333, 0.3333333333333333, 0.3333333333333333],
      "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]],
      "value": 1.7,
      "ranking": [2, 1, 0]
    }
  ]
}
"#;

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::New { toml } => output::print(if *toml { TOML } else { JSON }),
        &Command::Random {
            prompts,
            arms,
            beta,
            reward_scale,
            seed,
        } => {
            let shape = Shape {
                prompts,
                arms,
                beta,
                reward_scale,
            };
            output::print(&(random_problem(shape, seed)?.to_json() + "\n"))
        }
        Command::Draw {
            problem,
            kind,
            samples,
            length,
            seed,
        } => {
            let problem = input::problem(problem)?;
            let (samples, length) = (*samples as usize, *length as usize);
            let data = match kind {
                Sample::Pairs => Dataset::pairs(&problem, samples, *seed, 0),
                Sample::Preferences => Dataset::preferences(&problem, samples, *seed, 0),
                Sample::Singles => Dataset::singles(&problem, samples, *seed, 0),
                Sample::Rankings => Dataset::rankings(&problem, samples, length, *seed, 0)?,
            };
            let mut text = Vec::new();
            data.write(&mut text, &problem)?;
            output::print(&String::from_utf8(text)?)
        }
    }
}
