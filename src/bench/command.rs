//! `corelog bench`: the command line of the load generator, and what it prints.
//!
//! *Owns*: the flags, which are the keys of a workload, and the summary for people. *Never*: measures.
//! *Runs on*: the main thread.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::bench::capsule::Capsule;
use crate::bench::control::BenchError;
use crate::bench::embedded::Embedded;
use crate::bench::packed::{Packed, Sum};
use crate::bench::ramp::{self, Ramp, Step};
use crate::bench::result::{Counts, Interval, RunResult};
use crate::bench::run::{self, Finished};
use crate::bench::stages::{self, StagesAddress};
use crate::bench::summary::Client;
use crate::bench::versus_command::{self, Target};
use crate::bench::workload::{GroupProtocol, ROWS, ReadMode, Workload, WorkloadError, parse_time};
use crate::bench::writes::Writes;
use crate::terminal::numbers::{count, duration};
use crate::terminal::printed;

/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Topics with trouble that the summary names.
const TOPICS_TOLD: usize = 5;

const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("p99.999", 0.99999)];

const EXAMPLES: &str = "\
Open loop (--rate above 0): each record has a time at which it is to be sent, and latency counts from then, so
that a stall of the broker is seen in full. Closed loop (--rate 0): as fast as the broker takes records; its
latencies hide stalls and are labelled so.

Examples:
  corelog bench --bootstrap 127.0.0.1:9092 --rate 100000 --record-size 100 --duration 30s
  corelog bench --workload perf/workloads/keyed-producers.toml --rate 50000
  corelog bench --embedded --workload perf/workloads/groups.toml --group-protocol consumer
  corelog bench --topic load --topics 20 --partitions 6 --consumers 4 --keys uniform:10000
  corelog bench --rate 0 --producers 4 --batch-size 64KiB --linger-ms 1";

pub fn command() -> Command {
    let defaults = Workload::default();
    let rows = ROWS.iter().map(|row| {
        Arg::new(row.key)
            .long(row.key)
            .value_name(row.value_name)
            .help(format!("{} [default: {}]", row.doc, defaults.show(row)))
            .help_heading("Workload")
            .allow_hyphen_values(true)
    });
    Command::new("bench")
        .about("Put load on any Kafka-protocol broker and measure latencies")
        .after_help(EXAMPLES)
        .args(flags())
        .args(embedded_flags())
        .args(versus_command::flags())
        .args(rows)
}

fn flags() -> [Arg; 5] {
    [
        Arg::new("workload")
            .long("workload")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("A workload: a TOML file with the flags below as keys; flags beat it"),
        Arg::new("ramp-p99")
            .long("ramp-p99")
            .value_name("TIME")
            .help("Find the highest rate whose p99 stays within this, beginning at --rate; each step lasts --duration"),
        Arg::new("out")
            .long("out")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .conflicts_with("ramp-p99")
            .help("Keep the run as files: this directory and DIR.tar.zst, for compare and report"),
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .conflicts_with_all(["ramp-p99", "versus"])
            .help("Print the summary for programs, as summary.json has it"),
        Arg::new("stages")
            .long("stages")
            .value_name("URL")
            .value_parser(StagesAddress::parse)
            .conflicts_with("embedded")
            .help("Where a Corelog broker tells what its stages took: http://HOST:PORT of its --http"),
    ]
}

fn embedded_flags() -> [Arg; 3] {
    [
        Arg::new("embedded")
            .long("embedded")
            .action(ArgAction::SetTrue)
            .conflicts_with("bootstrap")
            .help("Start a broker for this run, on a directory and a port of its own, and stop it at the end"),
        Arg::new("embedded-dir")
            .long("embedded-dir")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .help("Where the embedded broker's directory is made [default: that of temporary files]"),
        Arg::new("embedded-arg")
            .long("embedded-arg")
            .value_name("FLAG")
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
            .help("A flag of `corelog serve` for the embedded broker, as --embedded-arg=--num-partitions=4"),
    ]
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let workload = match workload(matches) {
        Ok(workload) => workload,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The first one ends the run, a second one the program.
        let registered = signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()));
        if let Err(error) = registered {
            eprintln!("error: cannot listen to signals: {error}");
            return ExitCode::FAILURE;
        }
    }
    match carry_out(matches, workload, &stop) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// With a broker of our own, if one is wanted.
fn carry_out(matches: &ArgMatches, mut workload: Workload, stop: &Arc<AtomicBool>) -> Result<ExitCode, BenchError> {
    let bound = matches.get_one::<String>("ramp-p99").map(|text| parse_time(text)).transpose();
    let bound = bound.map_err(|message| BenchError::new(format!("--ramp-p99: {message}")))?;
    let settings: Vec<String> = matches.get_many("embedded-arg").into_iter().flatten().cloned().collect();
    let embedded = match matches.get_flag("embedded") {
        true => Some(start_embedded(matches, &workload, &settings)?),
        false => None,
    };
    let target = match &embedded {
        Some(embedded) => Target::embedded(embedded, &settings),
        None => Target::at(&workload.bootstrap, matches.get_one("stages").cloned()),
    };
    workload.bootstrap = target.address.clone();
    let out = matches.get_one::<PathBuf>("out").map(PathBuf::as_path);
    let is_json = matches.get_flag("json");
    let second = versus_command::second(matches, &|settings| start_embedded(matches, &workload, settings))?;
    let code = match (bound, second) {
        (Some(bound_ns), _) => search(&workload, bound_ns, stop),
        (None, None) => once(&workload, &target, (out, is_json), stop),
        (None, Some((second, broker))) => {
            let code = versus_command::carry_out(matches, &workload, &[target, second], out, stop);
            drop(broker);
            Ok(code)
        }
    };
    if let Some(embedded) = embedded {
        embedded.stop();
    }
    code
}

fn start_embedded(matches: &ArgMatches, workload: &Workload, settings: &[String]) -> Result<Embedded, BenchError> {
    let parent = matches.get_one::<PathBuf>("embedded-dir").cloned().unwrap_or_else(std::env::temp_dir);
    Embedded::start(&parent, &run::processors_left(workload), workload, settings)
}

fn once(
    workload: &Workload,
    target: &Target,
    (out, is_json): (Option<&Path>, bool),
    stop: &Arc<AtomicBool>,
) -> Result<ExitCode, BenchError> {
    if let Some(out) = out {
        Capsule::reserve(out).map_err(|error| BenchError::new(error.to_string()))?;
    }
    let finished = stages::watched(target.stages.as_ref(), || run::run_shown(workload, stop))?;
    let verdict = verdict(&finished);
    let mut text = summary(workload, &finished);
    let capsule = Capsule::of_run(&target.name, workload, target.data.as_deref(), finished.result);
    if is_json {
        if let Verdict::Bad(line) = &verdict {
            eprintln!("{line}");
        }
        text = format!("{}\n", capsule.summary().to_json());
    }
    let written = out.map(|out| capsule.write(out)).transpose();
    if let (Ok(Some(written)), false) = (&written, is_json) {
        text += &format!("kept in {} and {}\n", written.directory.display(), written.archive.display());
    }
    printed::print(text.as_bytes()).map_err(BenchError::new)?;
    written.map_err(|error| BenchError::new(error.to_string()))?;
    Ok(if matches!(verdict, Verdict::Good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run after the other, until the highest rate that holds is known.
fn search(workload: &Workload, bound_ns: u64, stop: &Arc<AtomicBool>) -> Result<ExitCode, BenchError> {
    if !workload.is_open_loop() {
        return Err(BenchError::new("--ramp-p99 needs a --rate to begin at"));
    }
    let mut ramp = Ramp::new(workload.rate);
    while let Some(rate) = ramp.next_rate() {
        let mut step = workload.clone();
        step.rate = rate;
        let finished = run::run_shown(&step, stop)?;
        if stop.load(Ordering::Relaxed) {
            return Err(BenchError::new(format!(
                "interrupted; the highest rate that held so far is {:?}",
                ramp.best()
            )));
        }
        let outcome = ramp::judge(&step, &finished, bound_ns);
        let text = match &outcome {
            Step::Held(p99_ns) => format!("held, p99 {}", duration(*p99_ns)),
            Step::Missed(why) => format!("missed: {why}"),
        };
        let line = format!("{:>14} records/s: {text}\n", count(rate as u64));
        printed::print(line.as_bytes()).map_err(BenchError::new)?;
        ramp.on_step(matches!(outcome, Step::Held(_)));
    }
    let bound = duration(bound_ns);
    let (line, code) = match ramp.best() {
        Some(best) => {
            (format!("highest rate with p99 within {bound}: {} records/s\n", count(best as u64)), ExitCode::SUCCESS)
        }
        None => (format!("no rate holds a p99 of {bound}\n"), ExitCode::FAILURE),
    };
    printed::print(line.as_bytes()).map_err(BenchError::new)?;
    Ok(code)
}

/// From the file and the flags, checked.
pub fn workload(matches: &ArgMatches) -> Result<Workload, WorkloadError> {
    let mut workload = Workload::default();
    if let Some(path) = matches.get_one::<PathBuf>("workload") {
        workload.set_from_file(path)?;
    }
    for row in ROWS {
        if let Some(text) = matches.get_one::<String>(row.key) {
            workload.set(row.key, text)?;
        }
    }
    workload.check()?;
    Ok(workload)
}

enum Verdict {
    Good,
    /// The first line of the summary.
    Bad(String),
}

fn verdict(finished: &Finished) -> Verdict {
    let totals = &finished.result.totals;
    if totals.lost > 0 {
        return Verdict::Bad(format!("LOST: {} acknowledged records were never received", totals.lost));
    }
    if let Some(why) = &finished.cut_short {
        return Verdict::Bad(format!("CUT SHORT: {why}; what was measured until then follows"));
    }
    let intervals = &finished.result.intervals;
    if finished.result.valid().next().is_none() && !intervals.is_empty() {
        return Verdict::Bad(
            "INVALID: the generator itself was late in every interval, so nothing was measured".into(),
        );
    }
    if finished.never_sent > 0 {
        let count = finished.never_sent;
        return Verdict::Bad(format!(
            "TOO FAST: {count} records were due and never sent: the broker did not take them"
        ));
    }
    if finished.unread > 0 {
        let records = count(finished.unread);
        return Verdict::Bad(format!(
            "UNREAD: consumers did not come to the last {records} records, so whether any are lost is not known"
        ));
    }
    if totals.errors > 0 {
        return Verdict::Bad(format!("ERRORS: {} records were not acknowledged", totals.errors));
    }
    Verdict::Good
}

/// What people read.
pub fn summary(workload: &Workload, finished: &Finished) -> String {
    let result = &finished.result;
    let mut text = String::new();
    if let Verdict::Bad(line) = verdict(finished) {
        text += &line;
        text.push('\n');
    }
    let valid: Vec<&Interval> = result.intervals.iter().filter(|interval| interval.invalid.is_none()).collect();
    let backlog = count(workload.backlog);
    let loop_name = match (workload.read_mode, workload.is_open_loop()) {
        (ReadMode::CatchUp, _) => format!("catch-up read of a backlog of {backlog} records"),
        (_, true) => format!("open loop, {} records/s due", count(workload.rate as u64)),
        (_, false) => "CLOSED LOOP: as fast as it goes, latency from the actual sending, stalls are hidden".into(),
    };
    let loop_name = match workload.read_mode {
        ReadMode::Drain => format!("{loop_name}, beside a backlog of {backlog} records"),
        _ => loop_name,
    };
    let seconds = valid.iter().map(|interval| interval.length_ns).sum::<u64>() as f64 / 1e9;
    let _ = writeln!(text, "{loop_name}; {seconds:.1} s measured in {} intervals", valid.len());
    let invalid = result.intervals.len() - valid.len();
    if invalid > 0 {
        let why = result.intervals.iter().find_map(|interval| interval.invalid.as_deref()).unwrap_or("");
        let _ = writeln!(text, "{invalid} more intervals are INVALID and left out: {why}");
    }
    let rate = |of: fn(&Counts) -> u64| {
        let sum: u64 = valid.iter().map(|interval| of(&interval.counts)).sum();
        if seconds > 0.0 { sum as f64 / seconds } else { 0.0 }
    };
    let _ = writeln!(
        text,
        "produced {} records/s, {:.1} MB/s; consumed {} records/s, {:.1} MB/s",
        count(rate(|counts| counts.acked) as u64),
        rate(|counts| counts.acked_bytes) / 1e6,
        count(rate(|counts| counts.received) as u64),
        rate(|counts| counts.received_bytes) / 1e6,
    );
    let totals = &result.totals;
    let _ = writeln!(
        text,
        "in all: {} sent, {} acked, {} errors, {} retries, {} received, {} duplicates, {} reordered, {} lost",
        count(totals.sent),
        count(totals.acked),
        count(totals.errors),
        count(totals.retries),
        count(totals.received),
        count(totals.duplicates),
        count(totals.reordered),
        count(totals.lost),
    );
    if let Some(line) = topics(result) {
        let _ = writeln!(text, "{line}");
    }
    if workload.groups > 0 {
        let commits = rate(|counts| counts.commits);
        let _ = writeln!(text, "{}; {commits:.1} commits/s", groups(workload, result));
    }
    if let Some(line) = split(&valid, result) {
        let _ = writeln!(text, "{line}");
    }
    text += &table(&valid, result);
    if totals.acked > 0 {
        let _ = writeln!(text, "write amplification {}", amplification(result.writes));
    }
    for (complaint, count) in &result.complaints {
        let _ = writeln!(text, "note: {complaint} (×{count})");
    }
    text
}

/// What there is to say of several topics.
fn topics(result: &RunResult) -> Option<String> {
    let [first, .., last] = &result.topics[..] else { return None };
    let sent = result.topics.iter().map(|topic| topic.sent);
    let (least, most) = (sent.clone().min().unwrap_or(0), sent.max().unwrap_or(0));
    let troubled =
        result.topics.iter().filter(|topic| topic.lost + topic.errors + topic.duplicates + topic.reordered > 0);
    let troubled: Vec<&str> = troubled.map(|topic| topic.name.as_str()).collect();
    let trouble = match troubled.len() {
        0 => String::new(),
        count if count <= TOPICS_TOLD => {
            format!("; errors, lost, repeated or reordered records in {}", troubled.join(", "))
        }
        count => {
            let told = troubled[..TOPICS_TOLD].join(", ");
            format!("; errors, lost, repeated or reordered records in {count} of them: {told}, …")
        }
    };
    Some(format!(
        "{} topics of {} partitions, {} to {}: {} to {} records sent to each{trouble}",
        count(result.topics.len() as u64),
        first.partitions,
        first.name,
        last.name,
        count(least),
        count(most),
    ))
}

/// Who read, and whether rebalances disturbed them.
fn groups(workload: &Workload, result: &RunResult) -> String {
    let protocol = match workload.group_protocol {
        GroupProtocol::Classic => "classic",
        GroupProtocol::Consumer => "consumer",
    };
    let disturbed = result.intervals.iter().filter(|interval| interval.counts.rebalances > 0).count();
    let rebalances = match result.totals.rebalances {
        0 => "no rebalance".to_owned(),
        members => format!("REBALANCES: {members} times that a member's partitions changed, in {disturbed} intervals"),
    };
    let refused = match result.totals.commits_refused {
        0 => String::new(),
        refused => format!("; {} commits refused", count(refused)),
    };
    let (groups, consumers) = (workload.groups, workload.consumers);
    format!("{groups} groups ({protocol} protocol) of {consumers} consumers in all; {rebalances}{refused}")
}

/// Where the time of producing went, as means.
fn split(valid: &[&Interval], result: &RunResult) -> Option<String> {
    let client = Some(Client::of(valid)).filter(|client| client.requests > 0)?;
    let (wait, request) = (duration(client.wait_ns as u64), duration(client.request_ns as u64));
    let broker = stages::produce_total(result).filter(|total| !total.is_empty());
    let broker =
        broker.map_or(String::new(), |total| format!(", {} of it in the broker", duration(total.mean_ns() as u64)));
    Some(format!("means: a record waited {wait} in the client, a request took {request}{broker}"))
}

/// What the broker wrote for what it took.
fn amplification(writes: Option<Writes>) -> String {
    let Some((writes, ratio)) = writes.and_then(|writes| Some((writes, writes.amplification()?))) else {
        return "not readable (--stages says where a Corelog broker tells it)".to_owned();
    };
    let mb = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "{ratio:.2}: the broker wrote {:.1} MB to its devices ({:.1} to journals, {:.1} to segments) for {:.1} MB of \
         records, warm-up included",
        mb(writes.device_bytes),
        mb(writes.journal_bytes),
        mb(writes.segment_bytes),
        mb(writes.appended_bytes),
    )
}

fn table(valid: &[&Interval], result: &RunResult) -> String {
    let of = |histogram: fn(&Interval) -> &Packed| Sum::of(valid.iter().map(|interval| histogram(interval)));
    let rows = [
        ("produce", of(|interval| &interval.produce)),
        ("in the broker", stages::produce_total(result).unwrap_or_else(Packed::empty)),
        ("end to end", of(|interval| &interval.e2e)),
        ("generator late", of(|interval| &interval.lateness)),
        ("connect", Packed::from(&result.connect)),
        ("metadata", Packed::from(&result.metadata)),
        ("join group", Packed::from(&result.join)),
        ("commit", Packed::from(&result.commit)),
    ];
    let mut text = format!("{:<15}{:>12}", "", "count");
    QUANTILES.iter().map(|(name, _)| *name).chain(["max"]).for_each(|name| {
        let _ = write!(text, "{name:>11}");
    });
    text.push('\n');
    for (name, histogram) in rows.iter().filter(|(_, histogram)| !histogram.is_empty()) {
        let _ = write!(text, "{name:<15}{:>12}", histogram.count());
        let quantiles: Vec<f64> = QUANTILES.iter().map(|(_, quantile)| *quantile).collect();
        for value in histogram.values_at(&quantiles).into_iter().chain([histogram.max_ns()]) {
            let _ = write!(text, "{:>11}", duration(value));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_beat_the_file_and_mistakes_are_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("w.toml");
        std::fs::write(&path, "rate = 5\nproducers = 3\n").expect("written");
        let path = path.to_str().expect("UTF-8");
        let parse = |arguments: &[&str]| {
            let matches = command().try_get_matches_from([&["bench"], arguments].concat()).expect("known flags");
            workload(&matches).map_err(|error| error.to_string())
        };
        let read = parse(&["--workload", path, "--rate", "7"]).expect("good");
        assert_eq!((read.rate, read.producers), (7.0, 3));
        assert_eq!(parse(&["--acks", "-1"]).expect("good").acks, -1);
        let error = parse(&["--rate", "-5"]).expect_err("impossible");
        assert!(error.contains("--rate: `-5` is no number from 0"), "{error}");
    }
}
