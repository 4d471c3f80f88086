//! `corelog report` by the real binary: pages of runs made up here, which `tests/report.sh` then opens in a browser.
#![cfg(feature = "shell")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use corelog::base::histogram::Histogram;
use corelog::base::rng::Rng;
use corelog::bench::capsule::Capsule;
use corelog::bench::environment::Environment;
use corelog::bench::hlog;
use corelog::bench::packed::Packed;
use corelog::bench::result::{Counts, Interval, RunResult};
use corelog::bench::summary::Mode;
use corelog::bench::writes::Writes;

/// What would run if any text of a run were taken for more than text.
const HOSTILE: &str = "</script><img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>";
const HOSTILE_NAME: &str = "two <img src=x onerror=window.hacked=1>";

const SECOND_NS: u64 = 1_000_000_000;

/// The bound on a page of an hour.
const PAGE_BYTES_MAX: u64 = 1_000_000;

struct Kind {
    seed: u64,
    seconds: u64,
    per_second: u64,
    /// Nanoseconds of a usual record.
    usual_ns: u64,
    invalid: &'static [u64],
    stages: bool,
}

const ONE: Kind =
    Kind { seed: 1, seconds: 60, per_second: 2000, usual_ns: 900_000, invalid: &[20, 21, 22, 40], stages: true };
const TWO: Kind = Kind { seed: 2, usual_ns: 1_100_000, invalid: &[], ..ONE };
const THREE: Kind = Kind { seed: 3, seconds: 45, usual_ns: 3_000_000, stages: false, ..ONE };
const HOUR: Kind = Kind { seed: 4, seconds: 3600, per_second: 200, ..ONE };

fn place() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("report")
}

/// Latencies around the usual one, with one in fifty much later.
fn histogram(rng: &mut Rng, kind: &Kind, count: u64, times: f64) -> Packed {
    let mut histogram = Histogram::of_client();
    for _ in 0..count {
        let spread: f64 = (0..8).map(|_| rng.below(1000) as f64 / 1000.0 - 0.5).sum();
        let late = if rng.below(50) == 0 { 3.0 + rng.below(300) as f64 / 10.0 } else { 1.0 };
        histogram.record((kind.usual_ns as f64 * times * (spread * 0.4).exp() * late) as u64);
    }
    Packed::from(&histogram)
}

fn stages(rng: &mut Rng, kind: &Kind) -> String {
    let mut writer = hlog::Writer::begin(Vec::new(), 1_763_715_000_000, &[]).expect("written");
    for second in 0..kind.seconds {
        let rows = [("read", 4), ("queue", 9), ("check", 6), ("write_queue", 60), ("device_write", 110), ("sync", 150)];
        let (mut total, mut sum_us) = (Histogram::of_stage(), 0);
        for (name, usual_us) in rows {
            let mut histogram = Histogram::of_stage();
            let us = usual_us + rng.below(usual_us / 4 + 1);
            histogram.record_n(us * 1000, 100);
            sum_us += us;
            let tag = format!("produce.{name}");
            let packed = Packed::from(&histogram);
            writer.write(Some(&tag), second * SECOND_NS, SECOND_NS, &packed).expect("written");
        }
        total.record_n(sum_us * 1000, 100);
        let packed = Packed::from(&total);
        writer.write(Some("produce.total"), second * SECOND_NS, SECOND_NS, &packed).expect("written");
    }
    String::from_utf8(writer.finish().expect("written")).expect("text")
}

fn capsule(kind: &Kind) -> Capsule {
    let mut rng = Rng::new(kind.seed);
    let mut result = RunResult::begin(1_763_715_000_000);
    for second in 0..kind.seconds {
        let count = kind.per_second + rng.below(kind.per_second / 10);
        let counts = Counts {
            sent: count,
            acked: count,
            acked_bytes: count * 100,
            received: count,
            received_bytes: count * 100,
            // A tenth of a millisecond for each record, and half of one for each request.
            wait_us: count * 100,
            requests: count / 10,
            request_us: count * 50,
            ..Counts::default()
        };
        result.intervals.push(Interval {
            start_ns: second * SECOND_NS,
            length_ns: SECOND_NS,
            invalid: kind.invalid.contains(&second).then(|| "a record was 5 ms late".to_owned()),
            produce: histogram(&mut rng, kind, count, 1.0),
            e2e: histogram(&mut rng, kind, count, 1.7),
            lateness: histogram(&mut rng, kind, 100, 0.01),
            counts,
        });
        result.totals.sent += count;
        result.totals.acked += count;
        result.totals.received += count;
    }
    if kind.seed == TWO.seed {
        result.totals.lost = 17;
        result.totals.received -= 17;
        result.complaints.push((HOSTILE.into(), 3));
    }
    result.broker.configs = vec![("num.partitions".into(), kind.seed.to_string()), ("x".into(), HOSTILE.into())];
    if kind.stages {
        result.stages_hlog = Some(stages(&mut rng, kind));
        result.writes =
            Some(Writes { appended_bytes: 1000, device_bytes: 2074, journal_bytes: 1020, segment_bytes: 1050 });
    }
    let mut environment = Environment::default();
    environment.set("cpu", Some("A processor".into()));
    environment.set("governor", if kind.seed == ONE.seed { Some("powersave".into()) } else { None });
    Capsule {
        name: String::new(),
        workload: format!("rate = {}\n[topic]\nname = '{HOSTILE}'\n", kind.per_second),
        command: format!("corelog bench --topic '{HOSTILE}'"),
        mode: if kind.seed == THREE.seed { Mode::ClosedLoop } else { Mode::OpenLoop },
        seed: kind.seed,
        environment,
        result,
        notes: Vec::new(),
    }
}

fn report(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.arg("report").args(arguments).current_dir(place()).output().expect("the binary runs")
}

#[track_caller]
fn reported(arguments: &[&str]) {
    let output = report(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn refused(arguments: &[&str], expect: &str) {
    let output = report(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(expect), "{arguments:?}: {said}");
}

/// One test, because the others need what the first ones write.
#[test]
fn runs_become_pages() {
    let place = place();
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).expect("made");
    for (name, kind) in [("one", ONE), (HOSTILE_NAME, TWO), ("three", THREE), ("hour", HOUR)] {
        capsule(&kind).write(&place.join(name)).expect("written");
    }
    let archive = format!("{HOSTILE_NAME}.tar.zst");
    reported(&["one", "--out", "one.html"]);
    reported(&["one", &archive, "three", "--differs", "loop", "--out", "three.html"]);
    reported(&["hour", "--out", "hour.html"]);
    reported(&["one/e2e.hlog", "--out", "log.html"]);
    fs::remove_file(place.join("hour.tar.zst")).expect("written");
    for page in ["one.html", "three.html", "hour.html", "log.html"] {
        let text = fs::read_to_string(place.join(page)).expect("written");
        assert!(text.len() as u64 <= PAGE_BYTES_MAX, "{page} has {} bytes", text.len());
        assert_eq!(text.matches("</script>").count(), 2, "{page}: the data's and the script's");
        assert!(!text.contains("<img"), "{page}");
    }

    let printed = report(&["one", "--out", "-"]).stdout;
    assert_eq!(printed, fs::read(place.join("one.html")).expect("written"), "the same run is the same page");
    reported(&["one", "--out", "one.html"]);
    refused(&["one", "--out", "one/summary.json"], "one/summary.json is there and is no report; it is left as it is");
    refused(&["nothing"], "nothing: No such file");
    refused(&["one", "nothing", "--out", "x.html"], "nothing: No such file");
    assert!(!place.join("x.html").exists());
    refused(&["one.html"], "one.html, line 1: ");
    refused(&["."], ": is no capsule of a run");
    refused(&["one", "--out", "no/such/x.html"], "no/such/x.html: No such file");
    refused(&[], "<RUN>");
    refused(&["one"; 17], "at most 16");
}
