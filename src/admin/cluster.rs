//! `corelog cluster`: clusters as a whole.
//!
//! *Owns*: the subcommand. *Never*: does anything itself. *Runs on*: the main thread.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::admin::cluster_local;

pub fn command() -> Command {
    Command::new("cluster")
        .about("Try out a cluster on this machine")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(cluster_local::command())
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some((_, matches)) => cluster_local::run(matches),
        None => unreachable!("clap asks for one"),
    }
}
