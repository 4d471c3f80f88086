//! A run in a few numbers: what `summary.json` holds.
//!
//! Percentiles are of all valid intervals' values together; invalid intervals are counted and used for nothing else.
//!
//! *Owns*: the names in `summary.json`. *Never*: averages percentiles. *Runs on*: any thread.

use serde::{Deserialize, Serialize};

use crate::bench::packed::{Packed, Sum};
use crate::bench::result::{Counts, Interval, RunResult, TopicCounts};
use crate::bench::writes::Writes;

/// The percentiles that are told everywhere, as quantiles.
pub const QUANTILES: [f64; 6] = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];

/// How records came to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// By a schedule; latency counts from it.
    #[default]
    OpenLoop,
    /// As fast as the broker took them; latency counts from the sending, and hides every stall but the first request's.
    ClosedLoop,
}

#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    pub name: String,
    /// The program that made the run.
    pub corelog: String,
    pub started_wall_ms: i64,
    pub mode: Mode,
    pub seed: u64,
    pub intervals_valid: usize,
    pub intervals_invalid: usize,
    /// Of the valid intervals.
    pub measured_s: f64,
    pub throughput: Throughput,
    pub produce: Latency,
    pub e2e: Latency,
    pub lateness: Latency,
    pub client: Client,
    pub connect: Latency,
    pub metadata: Latency,
    /// Of the members of groups, where there are any.
    pub join: Latency,
    pub commit: Latency,
    pub totals: Counts,
    pub topics: Vec<TopicCounts>,
    /// Where the broker could be asked.
    pub writes: Option<Writes>,
    /// Of these: bytes to devices for each byte of records.
    pub write_amplification: Option<f64>,
    pub complaints: Vec<(String, u64)>,
}

/// Of the valid intervals, a second.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Throughput {
    pub sent_records: f64,
    pub acked_records: f64,
    pub acked_bytes: f64,
    pub received_records: f64,
    pub received_bytes: f64,
    pub commits: f64,
}

/// What of the produce latency is the client's own, of the valid intervals; zero where nothing is known of it.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Client {
    /// Of the mean record: from when it was due until its request was sent.
    pub wait_ns: f64,
    /// Of the mean request: from its sending to its reply.
    pub request_ns: f64,
    pub requests: u64,
}

/// A histogram in numbers, all zero when nothing was counted.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    pub count: u64,
    pub min_ns: u64,
    pub mean_ns: f64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p99_9_ns: u64,
    pub p99_99_ns: u64,
    pub p99_999_ns: u64,
    pub max_ns: u64,
}

impl Summary {
    /// As `summary.json` has it.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and texts have a form in JSON")
    }

    pub fn of(name: &str, mode: Mode, seed: u64, result: &RunResult) -> Summary {
        let valid: Vec<&Interval> = result.valid().collect();
        let of = |histogram: fn(&Interval) -> &Packed| Latency::of(&Sum::of(valid.iter().map(|i| histogram(i))));
        Summary {
            name: name.to_owned(),
            corelog: env!("CARGO_PKG_VERSION").to_owned(),
            started_wall_ms: result.started_wall_ms,
            mode,
            seed,
            intervals_valid: valid.len(),
            intervals_invalid: result.intervals.len() - valid.len(),
            measured_s: valid.iter().map(|interval| interval.length_ns).sum::<u64>() as f64 / 1e9,
            throughput: Throughput::of(&valid),
            produce: of(|interval| &interval.produce),
            e2e: of(|interval| &interval.e2e),
            lateness: of(|interval| &interval.lateness),
            client: Client::of(&valid),
            connect: Latency::of(&Packed::from(&result.connect)),
            metadata: Latency::of(&Packed::from(&result.metadata)),
            join: Latency::of(&Packed::from(&result.join)),
            commit: Latency::of(&Packed::from(&result.commit)),
            totals: result.totals,
            topics: result.topics.clone(),
            writes: result.writes,
            write_amplification: result.writes.and_then(|writes| writes.amplification()),
            complaints: result.complaints.clone(),
        }
    }
}

impl Throughput {
    pub fn of(intervals: &[&Interval]) -> Throughput {
        let seconds = intervals.iter().map(|interval| interval.length_ns as f64 / 1e9).sum::<f64>();
        let rate = |count: fn(&Counts) -> u64| {
            let sum: u64 = intervals.iter().map(|interval| count(&interval.counts)).sum();
            if seconds > 0.0 { sum as f64 / seconds } else { 0.0 }
        };
        Throughput {
            sent_records: rate(|counts| counts.sent),
            acked_records: rate(|counts| counts.acked),
            acked_bytes: rate(|counts| counts.acked_bytes),
            received_records: rate(|counts| counts.received),
            received_bytes: rate(|counts| counts.received_bytes),
            commits: rate(|counts| counts.commits),
        }
    }
}

impl Client {
    pub fn of(intervals: &[&Interval]) -> Client {
        let sum = |count: fn(&Counts) -> u64| intervals.iter().map(|interval| count(&interval.counts)).sum::<u64>();
        let mean_ns = |micros: u64, count: u64| if count > 0 { micros as f64 * 1000.0 / count as f64 } else { 0.0 };
        let requests = sum(|counts| counts.requests);
        Client {
            wait_ns: mean_ns(sum(|counts| counts.wait_us), sum(|counts| counts.acked)),
            request_ns: mean_ns(sum(|counts| counts.request_us), requests),
            requests,
        }
    }
}

impl Latency {
    pub fn of(histogram: &Packed) -> Latency {
        let values = histogram.values_at(&QUANTILES);
        Latency {
            count: histogram.count(),
            min_ns: histogram.min_ns(),
            mean_ns: histogram.mean_ns(),
            p50_ns: values[0],
            p90_ns: values[1],
            p99_ns: values[2],
            p99_9_ns: values[3],
            p99_99_ns: values[4],
            p99_999_ns: values[5],
            max_ns: histogram.max_ns(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::histogram::Histogram;

    #[test]
    fn invalid_intervals_are_counted_and_used_for_nothing() {
        let interval = |value_ns: u64, invalid: Option<&str>| {
            let mut histogram = Histogram::of_client();
            histogram.record_n(value_ns, 100);
            Interval {
                start_ns: 0,
                length_ns: 500_000_000,
                invalid: invalid.map(str::to_owned),
                produce: Packed::from(&histogram),
                e2e: Packed::empty(),
                lateness: Packed::empty(),
                counts: Counts {
                    acked: 100,
                    acked_bytes: 1000,
                    wait_us: 50_000,
                    requests: 5,
                    request_us: 2000,
                    ..Counts::default()
                },
            }
        };
        let mut result = RunResult::begin(7);
        result.intervals =
            vec![interval(1_000_000, None), interval(9_000_000, Some("late")), interval(2_000_000, None)];
        let summary = Summary::of("a", Mode::OpenLoop, 1, &result);
        assert_eq!((summary.intervals_valid, summary.intervals_invalid, summary.measured_s), (2, 1, 1.0));
        assert_eq!((summary.throughput.acked_records, summary.throughput.acked_bytes), (200.0, 2000.0));
        assert_eq!((summary.produce.count, summary.e2e), (200, Latency::default()));
        assert!(summary.produce.max_ns < 3_000_000);
        assert_eq!(summary.started_wall_ms, 7);
        assert_eq!(summary.client, Client { wait_ns: 500_000.0, request_ns: 400_000.0, requests: 10 });
    }
}
