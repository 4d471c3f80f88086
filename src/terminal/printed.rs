//! What a tool prints, and how it ends.
//!
//! *Owns*: how printing may fail, how much is seen at a time, the exit code of an error. *Never*: decides what is said.
//! *Runs on*: the main thread.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use terminal_size::{Height, terminal_size_of};

/// Prints all of it. Whoever reads may stop early, as `head` does; that anything else went wrong, such as a full disk,
/// is told.
pub fn print(bytes: &[u8]) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output: {error}; what was printed is not complete"))
        }
        _ => Ok(()),
    }
}

/// How a tool ends: what went wrong is told on standard error.
pub fn ended(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Lines that the terminal shows at a time, if standard output is one that says.
pub fn lines() -> Option<usize> {
    terminal_size_of(io::stdout()).map(|(_, Height(lines))| lines.into())
}

/// Whether colours are wanted: on a terminal whose user does not forbid them.
pub fn is_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
