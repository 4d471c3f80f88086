//! `corelog bench --versus` by the real binary: two brokers of our own, and one that is not there.
#![cfg(feature = "shell")]

mod binary;

use std::path::Path;
use std::process::{Command, Output};

use corelog::bench::capsule::Capsule;

/// Turns of a second, in tenths.
const WORKLOAD: [&str; 10] = [
    "--rate",
    "2000",
    "--duration",
    "1s",
    "--interval",
    "100ms",
    "--warmup",
    "100ms",
    // The machine has other things to do.
    "--late-max",
    "10s",
];

fn bench(arguments: &[&str], out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(["bench", "--embedded"]).args(WORKLOAD).args(arguments);
    command.arg("--embedded-dir").arg(out.parent().expect("a directory"));
    command.arg("--out").arg(out).output().expect("the binary runs")
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// How many turns a run has, by the time between its intervals.
fn turns(run: &Capsule) -> usize {
    let intervals = &run.result.intervals;
    let is_border = |pair: &&[_]| {
        let [before, after]: &[corelog::bench::result::Interval; 2] = (*pair).try_into().expect("two");
        after.start_ns > before.start_ns + before.length_ns + before.length_ns / 2
    };
    1 + intervals.windows(2).filter(is_border).count()
}

#[test]
fn two_brokers_of_our_own_are_compared_in_turns() {
    let dir = binary::directory();
    let out = dir.path().join("run");
    let second = ["--versus", "embedded", "--versus-arg=--log-flush-interval-messages=1"];
    let output = bench(&[&second[..], &["--rounds-max", "2", "--tight", "0.00001"]].concat(), &out);
    let (printed, told) = said(&output);
    assert!(output.status.success(), "{printed}\n{told}");
    assert!(
        printed.starts_with("A  embedded  (the others are compared with it)\nB  embedded --log-flush"),
        "{printed}"
    );
    assert!(printed.contains("produce latency") && printed.contains("after 2 rounds, and no more are allowed"));
    assert!(told.contains("round 2, turn 4 of 4: embedded\n"), "{told}");
    let runs = ["a", "b.tar.zst"].map(|name| Capsule::read(&out.join(name)).expect("written"));
    for run in &runs {
        assert_eq!((turns(run), run.result.intervals.len(), run.notes.len()), (4, 40, 0));
        assert!(run.command.contains(" bench --embedded --rate 2000"), "{}", run.command);
        assert!(run.environment.facts.len() > 20);
    }
    let flush = |run: &Capsule| {
        let setting = run.result.broker.configs.iter().find(|(name, _)| name == "log.flush.interval.messages");
        setting.map(|(_, value)| value.clone())
    };
    assert_ne!(flush(&runs[0]), flush(&runs[1]), "each has its own broker's settings");
}

#[test]
fn a_target_that_is_down_ends_it_and_the_other_is_kept() {
    let dir = binary::directory();
    let out = dir.path().join("run");
    let output = bench(&["--versus", "127.0.0.1:1"], &out);
    let (printed, told) = said(&output);
    assert!(!output.status.success());
    assert!(printed.starts_with("CUT SHORT: 127.0.0.1:1: "), "{printed}\n{told}");
    assert!(printed.contains("not compared: 127.0.0.1:1 has no valid interval"), "{printed}");
    assert_eq!(Capsule::read(&out.join("a")).expect("kept").result.intervals.len(), 10);
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let check = |arguments: &[&str], expect: &str| {
        let dir = binary::directory();
        let output = bench(arguments, &dir.path().join("run"));
        let (_, told) = said(&output);
        assert!(!output.status.success() && told.contains(expect), "{arguments:?}: {told}");
    };
    check(&["--versus", "127.0.0.1:1", "--tight", "0"], "it must be a share above 0");
    check(&["--versus", "127.0.0.1:1", "--rounds-max", "1"], "1 is not in 2..=1000");
    check(&["--versus", "127.0.0.1:1", "--versus-arg=--x"], "--versus-arg is for a broker of our own");
    check(&["--versus", "embedded", "--versus-arg=--no-such-flag"], "the embedded broker ended at once");
}
