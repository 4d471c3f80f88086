//! The tools of the measuring half: THE table that the command line takes its subcommands from.
//!
//! *Owns*: which tools there are. *Never*: knows a tool's flags. *Runs on*: the main thread.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::bench::{compare_table, convert};

/// A subcommand, and what does it. It prints its errors itself.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    pub command: fn() -> Command,
    pub run: fn(&ArgMatches) -> ExitCode,
}

pub static TOOLS: &[Tool] = &[
    Tool { command: compare_table::command, run: compare_table::run },
    Tool { command: convert::command, run: convert::run },
];
