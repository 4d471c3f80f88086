//! `corelog compare` and `corelog convert` by the real binary: what they say of files that are cut off, foreign, or
//! cannot be written.
#![cfg(feature = "shell")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use corelog::base::histogram::Histogram;
use corelog::bench::hlog;
use corelog::bench::packed::Packed;

const SECOND_NS: u64 = 1_000_000_000;

fn corelog(place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(arguments).current_dir(place);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A log of 20 intervals, and what others may leave in its place.
fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = hlog::Writer::begin(Vec::new(), 1_700_000_000_000, &[]).expect("written");
    for second in 0..20 {
        let mut histogram = Histogram::of_client();
        (1..=500).for_each(|i| histogram.record(1_000_000 + (second * 7 + i * 13) % 400 * 1000));
        writer.write(Some("produce"), second * SECOND_NS, SECOND_NS, &Packed::from(&histogram)).expect("written");
    }
    let text = writer.finish().expect("written");
    let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("written");
    put("whole.hlog", &text);
    put("cut.hlog", &text[..text.len() - 40]);
    put("foreign.hlog", b"50000 records sent, 9999.6 records/sec\n");
    put("empty.hlog", b"");
    put("perf.txt", b"100000 records sent, 9997.0 records/sec (9.53 MB/sec), 0.97 ms avg latency, 250.00 ms max latency, 1 ms 50th, 2 ms 95th, 9 ms 99th, 119 ms 99.9th.\n");
    put("broken.tar.zst", b"not an archive");
    dir
}

#[test]
fn what_cannot_be_read_is_named_with_file_and_line() {
    let dir = written();
    let check = |arguments: &[&str], is_good: bool, expect: &[&str]| {
        let output = corelog(dir.path(), arguments).output().expect("the binary runs");
        let said = said(&output);
        assert_eq!(output.status.success(), is_good, "{arguments:?}: {said}");
        expect.iter().for_each(|part| assert!(said.contains(part), "{arguments:?}: no `{part}` in {said}"));
    };
    check(&["compare", "whole.hlog", "whole.hlog"], true, &["p99", "not told apart", "a histogram log alone"]);
    let cut = ["note: cut.hlog, line 24: the log is cut off here", "the 19 intervals before it were read", "p50"];
    check(&["compare", "whole.hlog", "cut.hlog"], true, &cut);
    check(&["convert", "cut.hlog", "--to", "csv"], true, &["note: cut.hlog, line 24: ", "produce,18.000,1.000,"]);
    check(&["convert", "whole.hlog", "--to", "hgrm"], true, &["Total count    =        10000]"]);
    check(&["convert", "perf.txt", "--to", "json"], true, &["at most 500,000 samples", "119000000"]);
    for (arguments, expect) in [
        (&["compare", "whole.hlog", "foreign.hlog"], "error: foreign.hlog, line 1: this is no line of a histogram log"),
        (&["compare", "empty.hlog", "whole.hlog"], "error: empty.hlog, line 1: there is nothing of a histogram log"),
        (
            &["compare", "whole.hlog", "broken.tar.zst"],
            "error: broken.tar.zst: the archive is cut off, damaged or none",
        ),
        (&["compare", "whole.hlog", "nothing"], "error: nothing: No such file"),
        (&["compare", "whole.hlog", "."], "is no capsule of a run"),
    ] {
        check(arguments, false, &[expect]);
    }
    check(&["convert", "perf.txt", "--to", "hlog"], false, &["no counts", "use --to csv or --to json"]);
    check(&["convert", "whole.hlog", "--to", "csv", "--tag", "e2e"], false, &["its tags are: produce"]);
}

#[test]
fn a_full_disk_is_told() {
    let dir = written();
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("Linux has it"));
    let check = |mut command: Command, expect: &str| {
        let output = command.output().expect("the binary runs");
        assert!(!output.status.success() && said(&output).contains(expect), "{}", said(&output));
    };
    for arguments in [
        &["compare", "whole.hlog", "whole.hlog"][..],
        &["convert", "whole.hlog", "--to", "csv"],
        &["report", "whole.hlog", "--out", "-"],
    ] {
        let mut command = corelog(dir.path(), arguments);
        command.stdout(full());
        check(command, "error: standard output: No space left on device");
    }
    let command = corelog(dir.path(), &["convert", "whole.hlog", "--to", "csv", "--out", "/dev/full"]);
    check(command, "error: /dev/full: No space left on device (os error 28); what is in it is not complete");
}
