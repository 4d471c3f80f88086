//! What a run has found, for people and for programs.
//!
//! *Owns*: its numbers, in the order in which they are told. *Never*: computes one. *Runs on*: one thread.

use std::fmt::Write;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::usage::Cpu;

/// The longest latency told apart, in microseconds.
const LATENCY_MAX_US: u64 = 120_000_000;

pub struct Report {
    mode: &'static str,
    numbers: Vec<(&'static str, f64)>,
}

/// Latencies in microseconds.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("bounds of a histogram")
}

impl Report {
    pub fn new(mode: &'static str) -> Report {
        Report { mode, numbers: Vec::new() }
    }

    pub fn add(&mut self, name: &'static str, value: f64) {
        self.numbers.push((name, value));
    }

    /// What was answered since `began`, and what it cost.
    pub fn add_requests(&mut self, latencies: &Histogram<u64>, began: Instant, used: Cpu) {
        let (seconds, requests) = (began.elapsed().as_secs_f64(), latencies.len() as f64);
        self.add("seconds", seconds);
        self.add("requests", requests);
        self.add("requests_per_s", requests / seconds);
        for (name, quantile) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999), ("max_us", 1.0)] {
            self.add(name, latencies.value_at_quantile(quantile) as f64);
        }
        self.add("server_cpu_s", used.server);
        self.add("server_cpu_percent", 100.0 * used.server / seconds);
        self.add("cpu_us_per_request", if requests > 0.0 { used.server * 1e6 / requests } else { 0.0 });
        self.add("generator_cpu_s", used.generator);
        self.add("other_cpu_s", used.other());
    }

    pub fn json(&self) -> String {
        let mut out = format!("{{\"mode\": \"{}\"", self.mode);
        for (name, value) in &self.numbers {
            write!(out, ", \"{name}\": {value:.3}").expect("writing to a string");
        }
        out + "}"
    }

    pub fn text(&self) -> String {
        let mut out = format!("{}:", self.mode);
        for (name, value) in &self.numbers {
            write!(out, " {name} {value:.1}").expect("writing to a string");
        }
        out
    }
}
