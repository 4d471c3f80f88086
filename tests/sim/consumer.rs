//! Those who read: consumers that follow the log and sometimes go back, and the auditor, who reads all of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::fetch::FetchResponse;
use corelog::wire::messages::list_offsets::ListOffsetsResponse;

use crate::check::Part;
use crate::client::{Context, FETCH, LIST_OFFSETS, Wire, decode, fetch_request, starts_request};
use crate::plan::{ConsumerPlan, MS};

const AGAIN_NS: u64 = 30 * MS;

/// What was asked for: partition, offset, and the start and end of the log as they were known then.
type Asked = Vec<(Part, i64, (i64, i64))>;

pub struct Consumer {
    plan: ConsumerPlan,
    wire: Wire<Asked>,
    positions: BTreeMap<Part, i64>,
    again_at: u64,
}

impl Consumer {
    pub fn new(plan: ConsumerPlan) -> Consumer {
        let positions = plan.targets.iter().map(|part| (*part, 0)).collect();
        Consumer { wire: Wire::to_leader(plan.targets[0]), plan, positions, again_at: 0 }
    }

    pub fn on_connected(&mut self, context: &mut Context) {
        self.wire.on_connected();
        self.on_time(context);
    }

    pub fn on_closed(&mut self, context: &mut Context) {
        self.wire.on_closed(context);
    }

    pub fn on_time(&mut self, context: &mut Context) {
        if !self.wire.is_up(context) || self.wire.in_flight() > 0 || context.now < self.again_at {
            return;
        }
        if context.rng.below(20) == 0 {
            // Read some of it again: it must be the same.
            for position in self.positions.values_mut() {
                *position = context.rng.below(*position as u64 + 1) as i64;
            }
        }
        let wanted: Vec<_> = self.positions.iter().map(|(part, at)| (*part, *at)).collect();
        let wait_ms = context.rng.below(self.plan.wait_ms_max) as i32;
        let request = fetch_request(context.plan, &wanted, self.plan.bytes_max as i32, wait_ms);
        let asked = wanted
            .into_iter()
            .map(|(part, at)| (part, at, (context.model.start(part), context.known_end(part))))
            .collect();
        self.wire.send(FETCH, &request, asked, context);
    }

    pub fn on_bytes(&mut self, bytes: &[u8], context: &mut Context) {
        self.wire.on_bytes(bytes);
        while let Some((asked, frame)) = self.wire.next_reply() {
            for (part, outcome) in on_fetched(asked, decode(FETCH, frame), context) {
                match outcome {
                    Outcome::Next(next) => {
                        self.positions.insert(part, next);
                    }
                    Outcome::OutOfRange => {
                        let removed = context.plan.may_remove(part.0);
                        self.positions.insert(part, if removed { context.model.end(part) } else { 0 });
                    }
                    Outcome::Error => self.wire.lose_leader(context),
                }
            }
            if context.rng.below(3) == 0 {
                self.again_at = context.now + context.rng.below(AGAIN_NS);
                context.wake_in(AGAIN_NS);
            }
        }
        self.on_time(context);
    }
}

enum Question {
    Starts(Vec<Part>),
    Fetch(Asked),
}

/// Reads every partition from the beginning to the end while nobody writes.
#[derive(Default)]
pub struct Auditor {
    wire: Wire<Question>,
    /// Partitions whose start is not known.
    unknown: BTreeSet<Part>,
    starts: BTreeMap<Part, i64>,
    /// Partitions left to read, from where on, and where they began and ended at last.
    left: BTreeMap<Part, i64>,
    ends: BTreeMap<Part, (i64, i64)>,
    /// Could not be read lately, and must not keep others from being read.
    failed: BTreeSet<Part>,
    again_at: u64,
    pub errors: u64,
}

impl Auditor {
    /// Of one partition of a cluster.
    pub fn of(part: Part) -> Auditor {
        Auditor { wire: Wire::to_leader(part), ..Auditor::default() }
    }

    pub fn start(&mut self, parts: impl Iterator<Item = Part>, context: &mut Context) {
        self.left.clear();
        self.unknown.clear();
        self.starts.clear();
        for part in parts {
            if context.plan.may_remove(part.0) {
                self.unknown.insert(part);
            } else {
                self.left.insert(part, 0);
            }
        }
        self.ends.clear();
        self.failed.clear();
        self.errors = 0;
        self.again_at = 0;
        self.on_time(context);
    }

    pub fn is_done(&self) -> bool {
        self.left.is_empty() && self.unknown.is_empty()
    }

    /// What could not be read so far, and where that begins.
    pub fn left(&self) -> &BTreeMap<Part, i64> {
        &self.left
    }

    /// Where each partition began and ended.
    pub fn ends(&self) -> &BTreeMap<Part, (i64, i64)> {
        &self.ends
    }

    pub fn on_connected(&mut self, context: &mut Context) {
        self.wire.on_connected();
        self.on_time(context);
    }

    pub fn on_closed(&mut self, context: &mut Context) {
        self.wire.on_closed(context);
    }

    pub fn on_time(&mut self, context: &mut Context) {
        if self.is_done() || !self.wire.is_up(context) || self.wire.in_flight() > 0 || context.now < self.again_at {
            return;
        }
        if !self.unknown.is_empty() {
            let wanted: Vec<Part> = self.unknown.iter().copied().collect();
            let request = starts_request(context.plan, &wanted);
            return self.wire.send(LIST_OFFSETS, &request, Question::Starts(wanted), context);
        }
        if self.left.keys().all(|part| self.failed.contains(part)) {
            self.failed.clear();
        }
        let wanted = self.left.iter().filter(|(part, _)| !self.failed.contains(part));
        let wanted: Vec<_> = wanted.map(|(part, at)| (*part, *at)).collect();
        let request = fetch_request(context.plan, &wanted, 1 << 20, 0);
        // What the log may have lost is for the audit to find.
        let asked = wanted.into_iter().map(|(part, at)| (part, at, (context.model.start(part), 0))).collect();
        self.wire.send(FETCH, &request, Question::Fetch(asked), context);
    }

    pub fn on_bytes(&mut self, bytes: &[u8], context: &mut Context) {
        self.wire.on_bytes(bytes);
        while let Some((question, frame)) = self.wire.next_reply() {
            match question {
                Question::Starts(asked) => self.on_starts(asked, &decode(LIST_OFFSETS, frame), context),
                Question::Fetch(asked) => self.on_read(asked, decode(FETCH, frame), context),
            }
        }
        self.on_time(context);
    }

    fn on_starts(&mut self, asked: Vec<Part>, reply: &ListOffsetsResponse, context: &mut Context) {
        let rows = reply.topics.iter().flat_map(|topic| &topic.partitions);
        for (part, row) in asked.into_iter().zip(rows) {
            if row.error_code == 0 {
                self.unknown.remove(&part);
                self.starts.insert(part, row.offset);
                self.left.insert(part, row.offset);
            } else {
                self.try_again_later(context);
            }
        }
    }

    fn on_read(&mut self, asked: Asked, reply: FetchResponse, context: &mut Context) {
        let ends: BTreeMap<Part, i64> = asked.iter().map(|row| row.0).zip(rows_of(&reply)).collect();
        for (part, outcome) in on_fetched(asked, reply, context) {
            match outcome {
                // A new leader may not know yet how much is committed.
                Outcome::Next(next)
                    if next == ends[&part] && context.plan.is_cluster && next < context.model.end(part) =>
                {
                    self.try_again_later(context);
                }
                Outcome::Next(next) if next == ends[&part] => {
                    self.left.remove(&part);
                    let start = self.starts.get(&part).copied().unwrap_or(0);
                    self.ends.insert(part, (start, next));
                }
                Outcome::Next(next) => {
                    self.left.insert(part, next);
                }
                Outcome::OutOfRange => {
                    assert!(context.plan.may_remove(part.0), "{part:?}: the log does not begin at 0");
                    self.left.remove(&part);
                    self.unknown.insert(part);
                }
                Outcome::Error => {
                    self.failed.insert(part);
                    self.try_again_later(context);
                }
            }
        }
    }

    fn try_again_later(&mut self, context: &mut Context) {
        self.errors += 1;
        self.wire.lose_leader(context);
        self.again_at = context.now + AGAIN_NS;
        context.wake_in(AGAIN_NS);
    }
}

enum Outcome {
    Next(i64),
    OutOfRange,
    Error,
}

/// The high watermarks of a reply, in its order.
fn rows_of(reply: &FetchResponse) -> impl Iterator<Item = i64> + '_ {
    reply.responses.iter().flat_map(|topic| &topic.partitions).map(|row| row.high_watermark)
}

fn on_fetched(asked: Asked, reply: FetchResponse, context: &mut Context) -> Vec<(Part, Outcome)> {
    if reply.error_code != 0 {
        return asked.into_iter().map(|(part, ..)| (part, Outcome::Error)).collect();
    }
    let rows: Vec<_> = reply.responses.into_iter().flat_map(|topic| topic.partitions).collect();
    assert_eq!(rows.len(), asked.len(), "every partition is answered");
    let mut outcomes = Vec::new();
    for ((part, from, (known_start, known_end)), row) in asked.into_iter().zip(rows) {
        assert_eq!(row.partition_index, part.1, "partitions are answered in order");
        if row.error_code == ErrorCode::OffsetOutOfRange.code() {
            let is_fine = context.plan.may_lose(part.0) || context.plan.may_remove(part.0);
            assert!(is_fine, "{part:?}: offset {from} was there once, and is out of range");
            outcomes.push((part, Outcome::OutOfRange));
            continue;
        }
        if row.error_code != 0 {
            outcomes.push((part, Outcome::Error));
            continue;
        }
        context.model.on_start_seen(part, row.log_start_offset, known_start);
        context.model.on_end(part, row.high_watermark, known_end);
        let bytes: Bytes = row.records.map(|records| records.0.concat()).unwrap_or_default().into();
        if !context.model.are_sound(part, &bytes) {
            outcomes.push((part, Outcome::Error));
            continue;
        }
        let next = context.model.on_fetched(part, from, row.high_watermark, bytes);
        outcomes.push((part, Outcome::Next(next)));
    }
    outcomes
}
