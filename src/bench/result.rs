//! What a run has measured: intervals of histograms, and counts.
//!
//! The generator makes it, the capsule keeps it, comparison and report read it back.
//!
//! *Owns*: the shape of a result. *Never*: computes a percentile of percentiles. *Runs on*: any thread.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::base::histogram::Histogram;
use crate::bench::packed::Packed;
use crate::bench::writes::Writes;

/// What records went through, and what became of them. Told from the sequence numbers in the payload.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Counts {
    /// Records handed to the broker, and their value bytes.
    pub sent: u64,
    pub sent_bytes: u64,
    /// Records the broker acknowledged.
    pub acked: u64,
    pub acked_bytes: u64,
    /// Records consumers got, the same one again counted again.
    pub received: u64,
    pub received_bytes: u64,
    /// Records the broker refused for good, or of which nobody knows.
    pub errors: u64,
    /// Microseconds that acknowledged records waited in the client together, each from when it was due until its
    /// request was sent.
    pub wait_us: u64,
    /// Produce requests that were answered, and microseconds from sending each to its reply.
    pub requests: u64,
    pub request_us: u64,
    /// Requests sent again.
    pub retries: u64,
    pub duplicates: u64,
    pub reordered: u64,
    /// Acknowledged, and never received although a consumer came past them.
    pub lost: u64,
    /// Commits of offsets that members of groups made, and those that were refused.
    pub commits: u64,
    pub commits_refused: u64,
    /// Rebalances, each counted for every member whose partitions it took or changed.
    pub rebalances: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.sent += more.sent;
        self.sent_bytes += more.sent_bytes;
        self.acked += more.acked;
        self.acked_bytes += more.acked_bytes;
        self.received += more.received;
        self.received_bytes += more.received_bytes;
        self.errors += more.errors;
        self.wait_us += more.wait_us;
        self.requests += more.requests;
        self.request_us += more.request_us;
        self.retries += more.retries;
        self.duplicates += more.duplicates;
        self.reordered += more.reordered;
        self.lost += more.lost;
        self.commits += more.commits;
        self.commits_refused += more.commits_refused;
        self.rebalances += more.rebalances;
    }
}

/// What became of the records of one topic, over the whole run, warm-up and drain included.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicCounts {
    pub name: String,
    pub partitions: u32,
    pub sent: u64,
    /// Records the broker refused for good, or of which nobody knows.
    pub errors: u64,
    /// By all readers together, the same one again counted again.
    pub received: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub lost: u64,
}

impl TopicCounts {
    /// Adds what became of records in another part of the run.
    pub fn add(&mut self, more: &TopicCounts) {
        self.sent += more.sent;
        self.errors += more.errors;
        self.received += more.received;
        self.duplicates += more.duplicates;
        self.reordered += more.reordered;
        self.lost += more.lost;
    }
}

/// One interval of a run, after the warm-up. Its histograms are packed (`Packed::from(&histogram)`), because an hour
/// of them otherwise takes gigabytes.
#[derive(Clone, PartialEq, Debug)]
pub struct Interval {
    /// Since the first interval began.
    pub start_ns: u64,
    pub length_ns: u64,
    /// Why nothing of it may be used: the generator itself was late.
    pub invalid: Option<String>,
    /// From when each record was to be sent until its acknowledgement came. In closed loop: from when it was sent.
    pub produce: Packed,
    /// From the same moment until a consumer had the record.
    pub e2e: Packed,
    /// How late the generator handed records over.
    pub lateness: Packed,
    pub counts: Counts,
}

impl Interval {
    /// Whether it was measured right after the other one. In a run of several turns there is time between them.
    pub fn follows(&self, before: &Interval) -> bool {
        let end_ns = before.start_ns.saturating_add(before.length_ns);
        self.start_ns <= end_ns.saturating_add(before.length_ns / 2)
    }
}

/// A whole run.
#[derive(Clone, PartialEq, Debug)]
pub struct RunResult {
    /// When the first interval began, by the wall clock, milliseconds since 1970.
    pub started_wall_ms: i64,
    pub intervals: Vec<Interval>,
    /// Times to connect, and to get the first metadata.
    pub connect: Histogram,
    pub metadata: Histogram,
    /// Of members of groups: from the connection to the coordinator to a share of the partitions, and commits.
    pub join: Histogram,
    pub commit: Histogram,
    /// Of the whole run, warm-up and drain included.
    pub totals: Counts,
    /// The same of each topic, in their order.
    pub topics: Vec<TopicCounts>,
    /// What went wrong on the way, each kind of message once, with how often.
    pub complaints: Vec<(String, u64)>,
    /// What the broker says of itself.
    pub broker: BrokerFacts,
    /// The broker's stage histograms over the same time, where it has any: a histogram log, as it came.
    pub stages_hlog: Option<String>,
    /// What the broker wrote during the run, warm-up and drain included, where it tells.
    pub writes: Option<Writes>,
}

impl RunResult {
    /// Nothing measured yet.
    pub fn begin(started_wall_ms: i64) -> RunResult {
        RunResult {
            started_wall_ms,
            intervals: Vec::new(),
            connect: Histogram::of_client(),
            metadata: Histogram::of_client(),
            join: Histogram::of_client(),
            commit: Histogram::of_client(),
            totals: Counts::default(),
            topics: Vec::new(),
            complaints: Vec::new(),
            broker: BrokerFacts::default(),
            stages_hlog: None,
            writes: None,
        }
    }

    /// The intervals that count.
    pub fn valid(&self) -> impl Iterator<Item = &Interval> {
        self.intervals.iter().filter(|interval| interval.invalid.is_none())
    }
}

/// What the broker says of itself.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerFacts {
    pub cluster_id: String,
    /// `id@host:port` each.
    pub brokers: Vec<String>,
    /// Name and version, of a broker that tells (a Corelog one where its stages can be read): Kafka's protocol has no
    /// place for it. Otherwise `not readable`.
    pub software: String,
    /// From ApiVersions: the ranges it serves, `name lowest–highest`.
    pub api_versions: Vec<String>,
    /// From there too: the levels of features that the cluster has agreed on, `metadata.version 25`, which tell
    /// versions of Kafka apart.
    pub features: Vec<String>,
    /// DescribeConfigs of the broker: name and value, sorted by name. Empty when it does not answer that.
    pub configs: Vec<(String, String)>,
}
