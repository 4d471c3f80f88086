//! What a run has measured.
//!
//! *Owns*: the histogram, the counts, and the report of them. *Never*: reads the wall clock.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::{Arguments, Mode, control};

/// The longest latency told apart, in ns.
const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// Processor time in /proc is counted in ticks of a hundredth of a second, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

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
        let (cpu, disk) = (end.cpu, end.disk);
        let Usage { cpu: cpu_start, disk: disk_start } = start.unwrap_or(end);
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
            ("generator_cpu_s", cpu.generator - cpu_start.generator),
        ];
        if self.server.is_some() {
            let [server, all] = [cpu.server - cpu_start.server, cpu.all - cpu_start.all];
            numbers.push(("server_cpu_s", server));
            // What the kernel does for both in threads of its own, and whatever else the machine is busy with.
            numbers.push(("other_cpu_s", (all - server - (cpu.generator - cpu_start.generator)).max(0.0)));
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
        let server = self.server.map_or(0.0, |pid| process_seconds(&pid.to_string()));
        let cpu = Cpu { generator: process_seconds("self"), server, all: machine_seconds() };
        Usage { cpu, disk: self.disk.as_deref().map_or_else(Disk::default, Disk::read) }
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

/// Seconds of processor time so far.
#[derive(Clone, Copy)]
struct Cpu {
    generator: f64,
    server: f64,
    all: f64,
}

/// What all processors were busy for, with processes and interrupts.
fn machine_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // User, nice, system, idle, waiting, interrupts, soft interrupts: proc(5).
    let busy = fields.take(7).enumerate().filter(|(place, _)| !matches!(place, 3 | 4));
    let ticks: f64 = busy.filter_map(|(_, field)| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

/// User and system time of all threads; 0 if the process is gone.
fn process_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before may hold spaces, but not after its last bracket. Fields 14 and 15 of proc(5).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
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
