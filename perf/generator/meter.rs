//! What a run has measured.
//!
//! *Owns*: the histogram, the counts, and the report of them. *Never*: reads the wall clock.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::usage::Cpu;
use crate::{Arguments, Mode, control};

/// The longest latency told apart, in ns.
const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// One reply, as the load has read it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Reply {
    /// Of whole batches, headers included.
    pub bytes: u64,
    pub records: u64,
    /// The first error in it, or 0.
    pub error: i16,
}

pub struct Meter {
    from: Instant,
    until: Instant,
    latencies: Histogram<u64>,
    bytes: u64,
    records: u64,
    requests: u64,
    /// Of the whole run, the warm-up included: an error is news whenever it comes.
    errors: BTreeMap<i16, u64>,
    replies: u64,
    server: Option<u32>,
    disk: Option<String>,
    start: Option<Usage>,
}

impl Meter {
    pub fn new(arguments: &Arguments, start: Instant) -> Meter {
        let from = start + arguments.warmup();
        Meter {
            from,
            until: from + arguments.measured(),
            latencies: Histogram::new_with_max(LATENCY_MAX_NS, 3).expect("the bounds are fine"),
            bytes: 0,
            records: 0,
            requests: 0,
            errors: BTreeMap::new(),
            replies: 0,
            server: arguments.server_pid,
            disk: arguments.disk.clone(),
            start: None,
        }
    }

    /// To be told the time often: notes when the warm-up ends. False once the run is over.
    pub fn goes_on(&mut self, now: Instant) -> bool {
        if self.start.is_none() && now >= self.from {
            self.start = Some(self.usage());
        }
        now < self.until
    }

    /// A reply to a request that was sent, or due, at `sent`.
    pub fn add(&mut self, reply: Reply, sent: Instant, now: Instant) {
        self.replies += 1;
        if reply.error != 0 {
            *self.errors.entry(reply.error).or_default() += 1;
        }
        if self.start.is_some() && now < self.until {
            self.requests += 1;
            self.bytes += reply.bytes;
            self.records += reply.records;
            self.latencies.saturating_record((now - sent).as_nanos() as u64);
        }
    }

    /// Replies of the whole run.
    pub fn replies(&self) -> u64 {
        self.replies
    }

    pub fn report(self, arguments: &Arguments, now: Instant) -> Report {
        let (end, start) = (self.usage(), self.start);
        let Usage { cpu: cpu_start, disk: disk_start } = start.unwrap_or(end);
        let (cpu, disk) = (end.cpu.since(cpu_start), end.disk);
        let at = |quantile| Duration::from_nanos(self.latencies.value_at_quantile(quantile)).as_secs_f64() * 1e6;
        let seconds = now.min(self.until).saturating_duration_since(self.from).as_secs_f64();
        let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
        let mut numbers = vec![
            ("seconds", seconds),
            ("requests", self.requests as f64),
            ("bytes", self.bytes as f64),
            ("mb_per_s", per_second(self.bytes as f64 / 1e6)),
            ("requests_per_s", per_second(self.requests as f64)),
            ("records_per_s", per_second(self.records as f64)),
            ("p50_us", at(0.5)),
            ("p90_us", at(0.9)),
            ("p99_us", at(0.99)),
            ("p999_us", at(0.999)),
            ("max_us", at(1.0)),
            ("generator_cpu_s", cpu.generator),
        ];
        if self.server.is_some() {
            numbers.push(("server_cpu_s", cpu.server));
            numbers.push(("other_cpu_s", cpu.other()));
        }
        if self.disk.is_some() {
            numbers.push(("disk_bytes", (disk.bytes - disk_start.bytes) as f64));
            numbers.push(("disk_writes", (disk.writes - disk_start.writes) as f64));
            numbers.push(("disk_flushes", (disk.flushes - disk_start.flushes) as f64));
        }
        let mode = match arguments.mode {
            Mode::Produce => "produce",
            Mode::Fetch => "fetch",
            Mode::SendSink => "send-sink",
            Mode::AckSink => "ack-sink",
        };
        Report { mode, numbers, errors: self.errors }
    }

    fn usage(&self) -> Usage {
        Usage { cpu: Cpu::now(self.server), disk: self.disk.as_deref().map_or_else(Disk::default, Disk::read) }
    }
}

/// What has been used so far.
#[derive(Clone, Copy)]
struct Usage {
    cpu: Cpu,
    disk: Disk,
}

/// What a block device has been given to write.
#[derive(Clone, Copy, Default)]
struct Disk {
    bytes: u64,
    writes: u64,
    flushes: u64,
}

impl Disk {
    /// `device` is MAJOR:MINOR. All 0 if the kernel does not tell.
    fn read(device: &str) -> Disk {
        let stat = std::fs::read_to_string(format!("/sys/dev/block/{device}/stat")).unwrap_or_default();
        let fields: Vec<u64> = stat.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let at = |place: usize| fields.get(place).copied().unwrap_or(0);
        // In sectors of 512 bytes, whatever the device's own are: Documentation/block/stat.rst.
        Disk { bytes: at(6) * 512, writes: at(4), flushes: at(15) }
    }
}

pub struct Report {
    mode: &'static str,
    numbers: Vec<(&'static str, f64)>,
    /// How often each code came.
    pub errors: BTreeMap<i16, u64>,
}

impl Report {
    /// One of the numbers, by its name in the JSON form; 0 if there is none.
    pub fn number(&self, name: &str) -> f64 {
        self.numbers.iter().find(|(other, _)| *other == name).map_or(0.0, |(_, value)| *value)
    }

    pub fn json(&self) -> String {
        let mut out = format!("{{\"mode\": \"{}\"", self.mode);
        for (name, value) in &self.numbers {
            write!(out, ", \"{name}\": {value:.3}").expect("writing to a string");
        }
        let errors: Vec<_> =
            self.errors.iter().map(|(&code, count)| format!("\"{}\": {count}", control::name(code))).collect();
        write!(out, ", \"errors\": {{{}}}}}", errors.join(", ")).expect("writing to a string");
        out
    }

    pub fn text(&self) -> String {
        let mut out = format!(
            "{}: {:.1} MB/s, {:.0} requests/s, {:.0} records/s; p50 {:.0} µs, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
            self.mode,
            self.number("mb_per_s"),
            self.number("requests_per_s"),
            self.number("records_per_s"),
            self.number("p50_us"),
            self.number("p90_us"),
            self.number("p99_us"),
            self.number("p999_us"),
            self.number("max_us"),
        );
        for (&code, count) in &self.errors {
            write!(out, "; {count} × {}", control::name(code)).expect("writing to a string");
        }
        out
    }
}
