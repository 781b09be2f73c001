//! The `touchline` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    touchline::cli::main()
}
