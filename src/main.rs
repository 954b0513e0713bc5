//! The `pistar` command.

pistar::measure_memory!();

fn main() -> std::process::ExitCode {
    pistar::cli::main()
}
