//! The `pistar` command.

/// Says a line on standard error, which may have gone with its terminal: nobody is left to be told then.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

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
static HEAP: pistar::llm::tensor::memory::Counting = pistar::llm::tensor::memory::Counting;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if cli::output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<cli::Stopped>() => {
            tell!("{error:#}");
            ExitCode::from(130)
        }
        Err(error) => {
            tell!("error: {error:#}");
            ExitCode::from(if error.is::<cli::Found>() { 1 } else { 2 })
        }
    }
}
