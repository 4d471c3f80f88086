//! `corelog bench --versus` on the command line: the second target, and what is printed and written of both.
//!
//! *Owns*: the flags of a comparison in turns, and its words. *Never*: decides when it is enough (`versus` does).
//! *Runs on*: the main thread.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::bench::capsule::Capsule;
use crate::bench::compare_table::table;
use crate::bench::control::BenchError;
use crate::bench::embedded::Embedded;
use crate::bench::result::RunResult;
use crate::bench::run;
use crate::bench::stages::{self, StagesAddress};
use crate::bench::versus::{self, Ended, Outcome, Plan, ROUND, ROUNDS_MIN, Turn, TurnFailed, versus};
use crate::bench::workload::Workload;
use crate::terminal::printed;

/// The target that is a broker of our own.
const EMBEDDED: &str = "embedded";

/// Of the capsules, below the directory that was asked for.
const NAMES: [&str; 2] = ["a", "b"];

const ROUNDS_MAX: &str = "8";
const TIGHT: &str = "0.05";

/// Rounds that make sense at all: more would take days.
const ROUNDS_LIMIT: i64 = 1000;

/// What a target's name in the table is, and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub name: String,
    pub address: String,
    /// Its data directory, where that is on this machine.
    pub data: Option<PathBuf>,
    /// Where it serves what its stages took, if it does.
    pub stages: Option<StagesAddress>,
}

impl Target {
    pub fn at(address: &str, stages: Option<StagesAddress>) -> Target {
        Target { name: address.to_owned(), address: address.to_owned(), data: None, stages }
    }

    /// `settings` are the flags that the broker was started with.
    pub fn embedded(broker: &Embedded, settings: &[String]) -> Target {
        let name = [&[EMBEDDED.to_owned()], settings].concat().join(" ");
        let (address, stages) = (broker.address.clone(), broker.stages.clone());
        Target { name, address, data: Some(broker.directory().to_owned()), stages }
    }
}

pub fn flags() -> [Arg; 5] {
    let heading = "Two targets";
    [
        Arg::new("versus")
            .long("versus")
            .value_name("HOST:PORT")
            .conflicts_with("ramp-p99")
            .help("Measure this target too, in turns A B B A, and compare both; `embedded` starts another broker"),
        Arg::new("versus-arg")
            .long("versus-arg")
            .value_name("FLAG")
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
            .requires("versus")
            .help("A flag of `corelog serve` for the broker of --versus embedded"),
        Arg::new("versus-stages")
            .long("versus-stages")
            .value_name("URL")
            .value_parser(StagesAddress::parse)
            .requires("versus")
            .help("Like --stages, for the target of --versus"),
        Arg::new("tight")
            .long("tight")
            .value_name("SHARE")
            .value_parser(share)
            .default_value(TIGHT)
            .help("Make no more rounds once the ratios up to p99, and of the rates, are known to within this share"),
        Arg::new("rounds-max")
            .long("rounds-max")
            .value_name("N")
            .value_parser(value_parser!(u32).range(i64::from(ROUNDS_MIN)..=ROUNDS_LIMIT))
            .default_value(ROUNDS_MAX)
            .help("Make no more rounds than this, each of four turns of --warmup and --duration"),
    ]
    .map(|flag| flag.help_heading(heading))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 10.0);
    share.ok_or_else(|| "it must be a share above 0, such as 0.05 for 5 %".to_owned())
}

/// The second target, and the broker that it is if it is one of our own.
pub fn second(
    matches: &ArgMatches,
    start: &dyn Fn(&[String]) -> Result<Embedded, BenchError>,
) -> Result<Option<(Target, Option<Embedded>)>, BenchError> {
    let settings: Vec<String> = matches.get_many("versus-arg").into_iter().flatten().cloned().collect();
    match matches.get_one::<String>("versus").map(String::as_str) {
        None => Ok(None),
        Some(EMBEDDED) => {
            let broker = start(&settings)?;
            Ok(Some((Target::embedded(&broker, &settings), Some(broker))))
        }
        Some(_) if !settings.is_empty() => {
            Err(BenchError::new("--versus-arg is for a broker of our own: --versus embedded"))
        }
        Some(address) => {
            let stages = matches.get_one::<StagesAddress>("versus-stages").cloned();
            Ok(Some((Target::at(address, stages), None)))
        }
    }
}

/// Measures both, prints the comparison, writes `a` and `b` below `out`.
pub fn carry_out(
    matches: &ArgMatches,
    workload: &Workload,
    targets: &[Target; 2],
    out: Option<&Path>,
    stop: &Arc<AtomicBool>,
) -> ExitCode {
    if let Some(Err(error)) = out.map(|out| Capsule::reserve(&out.join(NAMES[0]))) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    let tight = *matches.get_one("tight").expect("it has a default");
    let plan = Plan { tight, rounds_max: *matches.get_one("rounds-max").expect("it has a default") };
    let for_target = |target: &Target| {
        let workload = Workload { bootstrap: target.address.clone(), ..workload.clone() };
        Capsule::of_run(&target.name, &workload, target.data.as_deref(), RunResult::begin(0))
    };
    let mut measure = |turn: Turn| {
        let target = &targets[turn.target];
        let (round, number, of) = (turn.round, turn.number, ROUND.len());
        eprintln!("round {round}, turn {number} of {of}: {}", target.name);
        let workload = Workload { bootstrap: target.address.clone(), ..workload.clone() };
        let failed = |why: &dyn ToString| format!("{}: {}", target.name, why.to_string());
        let finished = stages::watched(target.stages.as_ref(), || run::run_shown(&workload, stop));
        let finished = finished.map_err(|error| TurnFailed { why: failed(&error), kept: None })?;
        match finished.cut_short {
            Some(why) => Err(TurnFailed { why: failed(&why), kept: Some(Box::new(finished.result)) }),
            None if stop.load(Ordering::Relaxed) => {
                Err(TurnFailed { why: "interrupted".to_owned(), kept: Some(Box::new(finished.result)) })
            }
            None => Ok(finished.result),
        }
    };
    let mut watch = |round: u32, comparison: &_| {
        let widest = versus::widest(comparison);
        let widest = widest.map_or("not known yet".to_owned(), |widest| format!("±{:.1} %", 100.0 * widest));
        eprintln!("after round {round}: the widest interval is {widest}, wanted is ±{:.1} %", 100.0 * tight);
    };
    let outcome = versus(plan, [for_target(&targets[0]), for_target(&targets[1])], &mut measure, &mut watch);
    let is_kept = out.is_none_or(|out| keep(&outcome.runs, out));
    let told = printed::print(text(&outcome, printed::is_coloured()).as_bytes());
    if let Err(message) = &told {
        eprintln!("error: {message}");
    }
    let is_good = is_kept && told.is_ok() && trouble(&outcome).is_none() && outcome.comparison.is_ok();
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether both could be written; one that cannot does not keep the other from it.
fn keep(runs: &[Capsule; 2], out: &Path) -> bool {
    let mut is_kept = true;
    for (run, name) in runs.iter().zip(NAMES) {
        match run.write(&out.join(name)) {
            Ok(written) => eprintln!("{}: written to {}", run.name, written.directory.display()),
            Err(error) => {
                eprintln!("error: {error}");
                is_kept = false;
            }
        }
    }
    is_kept
}

/// What must stand in the first line, if anything.
fn trouble(outcome: &Outcome) -> Option<String> {
    let lost = outcome.runs.iter().find(|run| run.result.totals.lost > 0);
    let lost = lost.map(|run| {
        format!("LOST: {} acknowledged records of {} were never received", run.result.totals.lost, run.name)
    });
    let cut_short = matches!(outcome.ended, Ended::Failed(_)).then(|| outcome.ended.to_string());
    lost.or(cut_short)
}

/// What people read.
fn text(outcome: &Outcome, is_coloured: bool) -> String {
    let mut lines: Vec<String> = trouble(outcome).into_iter().collect();
    match &outcome.comparison {
        Ok(comparison) => lines.push(table(comparison, is_coloured)),
        Err(refused) => lines.push(format!("not compared: {refused}")),
    }
    for run in &outcome.runs {
        let amplification = run.result.writes.and_then(|writes| writes.amplification());
        let amplification = amplification.map_or("not readable".to_owned(), |ratio| format!("{ratio:.2}"));
        lines.push(format!("write amplification of {}: {amplification}", run.name));
        let complaints = run.result.complaints.iter();
        lines.extend(complaints.map(|(message, count)| format!("note: {}: {message} (×{count})", run.name)));
    }
    lines.push(format!("\n{}", outcome.ended));
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}
