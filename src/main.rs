//! The binary: reads the command line and does what it says.

use std::io::Write;
use std::process::ExitCode;

use corelog::cli::{self, Action, CliError};
use corelog::shell::run;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os(), std::env::vars_os()) {
        Ok(Action::Print(text)) => {
            // Whoever reads may stop early, as `head` does.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Action::Tool { run, matches }) => run(&matches),
        Ok(Action::Serve(settings)) => {
            run::start_logging();
            match run::serve(*settings) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(CliError::Usage(error)) => error.exit(),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
