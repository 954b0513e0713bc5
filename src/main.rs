//! The `pistar` command.

mod cli;
#[cfg(feature = "plot")]
#[path = "../figures/mod.rs"]
mod figures;
#[path = "../sims/mod.rs"]
mod sims;

use std::process::ExitCode;

/// Counts tensors, for `pistar train` to say what a run took.
#[cfg(feature = "llm")]
#[global_allocator]
static HEAP: pistar::llm::memory::Counting = pistar::llm::memory::Counting;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if cli::output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<cli::Stopped>() => {
            eprintln!("{error:#}");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<cli::Found>() { 1 } else { 2 })
        }
    }
}
