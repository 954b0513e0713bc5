//! The command line: one subcommand a file.
//!
//! A program with losses of its own has all of it by calling [`main_with`].

mod aggregate;
#[cfg(feature = "llm")]
mod atomic;
mod bars;
mod claims;
#[cfg(feature = "llm")]
mod compute;
#[cfg(feature = "llm")]
mod continual;
#[cfg(feature = "llm")]
mod data;
#[cfg(feature = "llm")]
mod doctor;
#[cfg(feature = "llm")]
mod evaluate;
mod figure;
#[cfg(feature = "llm")]
mod flags;
#[cfg(feature = "llm")]
mod generate;
mod input;
#[cfg(feature = "llm")]
mod judge;
#[cfg(feature = "llm")]
mod logprobs;
mod loss;
#[cfg(feature = "llm")]
mod merge;
mod numbers;
mod objectives;
mod output;
#[cfg(feature = "llm")]
mod plan;
mod problem;
mod reproduce;
#[cfg(feature = "llm")]
mod rewards;
#[cfg(feature = "llm")]
mod runs;
#[cfg(feature = "llm")]
mod score;
#[cfg(feature = "llm")]
mod scores;
#[cfg(feature = "llm")]
mod select;
mod sim;
mod solve;
#[cfg(feature = "llm")]
mod stop;
#[cfg(feature = "llm")]
mod study;
mod target;
#[cfg(feature = "llm")]
mod train;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::loss::Objective;

#[derive(Parser)]
#[command(
    name = "pistar",
    version,
    about = "What an alignment objective converges to, exactly, on a bandit; and the same losses on transformers",
    max_term_width = 80
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Optimum and exact fixed point of every objective, on a problem or a logged dataset
    Solve(solve::Args),
    /// Population loss and its gradient at given logits
    Loss(loss::Args),
    /// The registered objectives: formula, inputs, kind, source
    Objectives(objectives::Args),
    /// Check a loss: gradient, limits, invariances, extremes, coverage
    Verify(verify::Args),
    /// Claims of five papers, checked now: verdict, evidence, numbers
    Claims(claims::Args),
    /// A problem file to start from, or data drawn from one
    Problem(problem::Args),
    /// Train by sampling: run an experiment, or the same on your own problem
    Sim(sim::Args),
    /// Data for training: what would be made of a file
    #[cfg(feature = "llm")]
    Data(Box<data::Args>),
    /// Train a transformer on text: objective, model and data to a run's folder
    #[cfg(feature = "llm")]
    Train(Box<train::Args>),
    /// The memory of a run of `train` before it starts, and what would make it fit
    #[cfg(feature = "llm")]
    Plan(Box<plan::Args>),
    /// A sequence of tasks, one after the other: what is learned and what is forgotten
    #[cfg(feature = "llm")]
    Continual(Box<continual::Args>),
    /// Runs of `train` compared: settings, state, metrics, a figure
    #[cfg(feature = "llm")]
    Runs(runs::Args),
    /// Examples to rehearse: of clusters of prompts, the completions with the best scores
    #[cfg(feature = "llm")]
    Select(select::Args),
    /// An adapter merged into its base: a whole model's folder
    #[cfg(feature = "llm")]
    Merge(merge::Args),
    /// Text from a language model: seeded samples, or the most probable tokens
    #[cfg(feature = "llm")]
    Generate(generate::Args),
    /// Log-probabilities that a language model gives to completions
    #[cfg(feature = "llm")]
    Logprobs(logprobs::Args),
    /// Scores of completions: rules, reward models, any program; reports on reward models
    #[cfg(feature = "llm")]
    Score(Box<score::Args>),
    /// A model's completions: reward, KL, entropy, length, win rates, with intervals
    #[cfg(feature = "llm")]
    Evaluate(Box<evaluate::Args>),
    /// Check that this machine computes what it should, and how fast: operations, models, a step
    #[cfg(feature = "llm")]
    Doctor(doctor::Args),
    /// Scores of seeds × tasks: interquartile mean and others with rliable's intervals
    Aggregate(aggregate::Args),
    /// Experiments with a language model, in minutes: objectives over β, offline, with one rule
    #[cfg(feature = "llm")]
    Study(study::Args),
    /// Draw a figure (SVG and PNG) from the rows of a sim
    Figure(figure::Args),
    /// Every sim, every figure, and a report
    Reproduce(reproduce::Args),
}

/// Ran to its end and found something wrong: exit code 1, where a command that cannot run has 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Found(String);

/// Was asked to stop and did: exit code 130, as of any program that Ctrl-C ends.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stopped(String);

/// Runs the command that the arguments name, and says what went wrong on standard error.
///
/// Exit status: 0 as asked, 1 ran to its end and found something wrong, 2 cannot run, 130 stopped by a signal.
pub fn main() -> ExitCode {
    main_with([])
}

/// [`main`] with losses of one's own, which every command knows.
pub fn main_with(losses: impl IntoIterator<Item = Objective>) -> ExitCode {
    let registered = losses.into_iter().try_for_each(crate::loss::register);
    match registered.map_err(anyhow::Error::from).and_then(|()| run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<Stopped>() => {
            tell!("{error:#}");
            ExitCode::from(130)
        }
        Err(error) => {
            tell!("error: {error:#}");
            ExitCode::from(if error.is::<Found>() { 1 } else { 2 })
        }
    }
}

/// Commands with the former names of their flags, which help does not show: `--key` for `--seed`.
fn with_old_names(command: clap::Command) -> clap::Command {
    let seed = |arg: clap::Arg| {
        if arg.get_long() == Some("seed") {
            arg.alias("key")
        } else {
            arg
        }
    };
    command.mut_args(seed).mut_subcommands(with_old_names)
}

fn run() -> anyhow::Result<()> {
    let command = with_old_names(Cli::command());
    numbers::refuse_taken(&command, &Objective::known())?;
    let matches = command.get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    match cli.command {
        Command::Solve(args) => solve::run(&args),
        Command::Loss(args) => loss::run(&args),
        Command::Objectives(args) => objectives::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Claims(args) => claims::run(&args),
        Command::Problem(args) => problem::run(&args),
        Command::Sim(args) => sim::run(&args),
        #[cfg(feature = "llm")]
        Command::Train(args) => train::run(&args),
        #[cfg(feature = "llm")]
        Command::Plan(args) => plan::run(&args),
        #[cfg(feature = "llm")]
        Command::Runs(args) => runs::run(&args),
        #[cfg(feature = "llm")]
        Command::Continual(args) => continual::run(&args),
        #[cfg(feature = "llm")]
        Command::Select(args) => select::run(&args),
        #[cfg(feature = "llm")]
        Command::Merge(args) => merge::run(&args),
        #[cfg(feature = "llm")]
        Command::Logprobs(args) => logprobs::run(&args),
        #[cfg(feature = "llm")]
        Command::Generate(args) => generate::run(&args),
        #[cfg(feature = "llm")]
        Command::Score(args) => score::run(&args),
        #[cfg(feature = "llm")]
        Command::Study(args) => study::run(&args),
        #[cfg(feature = "llm")]
        Command::Data(args) => data::run(&args),
        #[cfg(feature = "llm")]
        Command::Evaluate(args) => evaluate::run(&args),
        #[cfg(feature = "llm")]
        Command::Doctor(args) => doctor::run(&args),
        Command::Aggregate(args) => aggregate::run(&args),
        Command::Figure(args) => figure::run(&args),
        Command::Reproduce(args) => reproduce::run(&args),
    }
}
