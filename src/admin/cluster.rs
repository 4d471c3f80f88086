//! `corelog cluster`: clusters as a whole.
//!
//! *Owns*: the subcommand. *Never*: does anything itself. *Runs on*: the main thread.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::admin::tool::{self, Verb};
use crate::admin::{cluster_local, cluster_move, cluster_snapshot, cluster_status};

const VERBS: &[Verb] = &[
    Verb { command: cluster_status::command, run: cluster_status::run },
    Verb { command: cluster_snapshot::command, run: cluster_snapshot::run },
    Verb { command: cluster_move::move_command, run: cluster_move::run_move },
    Verb { command: cluster_move::drain_command, run: cluster_move::run_drain },
    Verb { command: cluster_move::balance_command, run: cluster_move::run_balance },
    Verb { command: cluster_move::unregister_command, run: cluster_move::run_unregister },
];

pub fn command() -> Command {
    // `local` starts brokers of its own, and asks no others.
    let verbs = VERBS.iter().map(|verb| (verb.command)().args(tool::common_flags()));
    Command::new("cluster")
        .about("Look at a cluster, move what it holds, or try one out on this machine")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(tool::EXIT_CODES)
        .subcommands(verbs)
        .subcommand(cluster_local::command())
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("local", matches)) => cluster_local::run(matches),
        Some(_) => tool::run(VERBS, matches),
        None => unreachable!("clap asks for one"),
    }
}
