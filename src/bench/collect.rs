//! Puts together what the threads of a run measured, and tells them when to begin.
//!
//! *Owns*: the intervals of the run, how it stands, what became of its records. *Never*: measures.
//! *Runs on*: the thread that asked for the run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::base::histogram::Histogram;
use crate::bench::complaints::Complaints;
use crate::bench::consumer::{Consumer, Fate, Verdict, settle_group};
use crate::bench::control::BenchError;
use crate::bench::driver::{Ending, Measured, Reader, Report};
use crate::bench::meter::{Frame, Slot};
use crate::bench::packed::{Packed, Sum};
use crate::bench::payload::partition_of_stream;
use crate::bench::progress::{Phase, Standing};
use crate::bench::result::{Counts, Interval, RunResult, TopicCounts};
use crate::bench::run::Finished;
use crate::bench::scout::{Answer, Mailbox};
use crate::bench::tally::SentStream;
use crate::bench::topics::Topics;
use crate::bench::workload::{ReadMode, Workload};
use crate::shell::clock::Clock;
use crate::wire::text::Text;

/// Between the last thread being ready and the first record.
const LEAD_NS: u64 = 20_000_000;

/// Intervals kept ready for counts that come late; older ones are packed.
const OPEN_INTERVALS_MAX: usize = 8;

/// See the module.
pub struct Collector {
    workload: Arc<Workload>,
    topics: Topics,
    clock: Clock,
    /// One a thread.
    mailboxes: Vec<Mailbox>,
    stage: Stage,
    /// Threads that have come to the end of the stage.
    arrived: usize,
    stage_began_ns: u64,
    frame: Option<Frame>,
    started_wall_ms: i64,
    intervals: BTreeMap<u32, Building>,
    totals: Counts,
    endings: Vec<Ending>,
    /// How each thread stands.
    recent: Vec<Recent>,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Filling,
    Running,
}

/// What a thread told last.
#[derive(Clone, Copy, Default)]
struct Recent {
    at_ns: u64,
    records_per_s: f64,
    bytes_per_s: f64,
    lag_records: u64,
    is_draining: bool,
}

/// An interval that grows: of the last ones the histograms themselves, of older ones the packed form.
enum Building {
    Open(Box<Slot>),
    Closed(Box<Closed>),
}

struct Closed {
    produce: Packed,
    e2e: Packed,
    lateness: Packed,
    counts: Counts,
}

impl Collector {
    pub fn new(workload: Arc<Workload>, topics: Topics, clock: Clock, mailboxes: Vec<Mailbox>) -> Collector {
        Collector {
            workload,
            topics,
            clock,
            recent: vec![Recent::default(); mailboxes.len()],
            mailboxes,
            stage: Stage::Connecting,
            arrived: 0,
            stage_began_ns: 0,
            frame: None,
            started_wall_ms: 0,
            intervals: BTreeMap::new(),
            totals: Counts::default(),
            endings: Vec::new(),
            p50_ns: None,
            p99_ns: None,
        }
    }

    /// Listens until every thread has ended.
    pub fn collect(&mut self, reported: &Receiver<Report>, watch: &mut dyn FnMut(&Standing)) {
        while self.endings.len() < self.mailboxes.len() {
            // A thread that failed ends without a word.
            let Ok(report) = reported.recv() else { break };
            match report {
                Report::Ready | Report::Filled => self.on_arrived(),
                Report::Measured(measured) => {
                    self.on_measured(measured);
                    watch(&self.standing());
                }
                Report::Ended(ending) => self.endings.push(*ending),
            }
        }
    }

    /// What a run was, from what was there before it began.
    pub fn finish(mut self, mut result: RunResult) -> Result<Finished, BenchError> {
        let mut complaints = Complaints::default();
        let mut cut_short: Option<String> = None;
        let mut never_sent = 0;
        for ending in &self.endings {
            result.connect.merge(&ending.connect);
            result.join.merge(&ending.join);
            result.commit.merge(&ending.commit);
            never_sent += ending.never_sent;
            complaints.merge(ending.complaints.iter());
            if let Some(why) = &ending.gave_up {
                cut_short.get_or_insert(why.clone());
            }
        }
        let Some(frame) = self.frame else {
            let why = cut_short.unwrap_or_else(|| "the generator did not start".into());
            let lines: Vec<_> = std::iter::once(&why).chain(complaints.iter().map(|(text, _)| text)).cloned().collect();
            return Err(BenchError::new(lines.join("; ")));
        };
        let end_ns = self.end_ns(cut_short.is_some());
        // These come first, and are never among the others.
        if let Some(why) = &cut_short {
            let lived_s = end_ns.saturating_sub(frame.start_ns) as f64 / 1e9;
            let planned_s = self.workload.duration_ns as f64 / 1e9;
            result.complaints.push((format!("the run ended after {lived_s:.1} of {planned_s:.1} s: {why}"), 1));
        }
        if never_sent > 0 {
            let text = "due and never sent, because the broker did not take records fast enough";
            result.complaints.push((text.to_owned(), never_sent));
        }
        result.started_wall_ms = self.started_wall_ms;
        result.totals = self.totals;
        let mut found = Complaints::default();
        result.topics = self.sent_by_topic();
        let unread = self.settle(&mut result, &mut found);
        result.intervals = self.built(frame, end_ns);
        result.complaints.extend(found.iter().chain(complaints.iter()).map(|(text, count)| (text.clone(), *count)));
        Ok(Finished { result, cut_short, never_sent, unread })
    }

    fn on_arrived(&mut self) {
        self.arrived += 1;
        if self.arrived < self.mailboxes.len() {
            return;
        }
        self.arrived = 0;
        let now = self.clock.now();
        if self.stage == Stage::Connecting && self.workload.read_mode != ReadMode::Live {
            self.stage = Stage::Filling;
            self.stage_began_ns = now.mono.0;
            self.recent.iter_mut().for_each(|recent| recent.at_ns = now.mono.0);
            self.mailboxes.iter().for_each(|mailbox| mailbox.send(Answer::Fill));
            return;
        }
        let workload = &self.workload;
        let start_ns = now.mono.0 + LEAD_NS;
        self.stage = Stage::Running;
        self.stage_began_ns = start_ns;
        self.recent.iter_mut().for_each(|recent| recent.at_ns = start_ns);
        self.frame = Some(Frame::new(start_ns + workload.warmup_ns, workload.interval_ns, workload.duration_ns));
        self.started_wall_ms = now.wall_ms + ((LEAD_NS + workload.warmup_ns) / 1_000_000) as i64;
        self.mailboxes.iter().for_each(|mailbox| mailbox.send(Answer::Start(start_ns)));
    }

    fn on_measured(&mut self, measured: Measured) {
        let Measured { thread, at_ns, slots, totals, lag_records, is_draining } = measured;
        if let Some(recent) = self.recent.get_mut(thread) {
            let seconds = at_ns.saturating_sub(recent.at_ns).max(1) as f64 / 1e9;
            let reads = self.stage == Stage::Running && self.workload.read_mode == ReadMode::CatchUp;
            let (records, bytes) =
                if reads { (totals.received, totals.received_bytes) } else { (totals.acked, totals.acked_bytes) };
            let (records_per_s, bytes_per_s) = (records as f64 / seconds, bytes as f64 / seconds);
            *recent = Recent { at_ns, records_per_s, bytes_per_s, lag_records, is_draining };
        }
        self.totals += totals;
        let mut produce = Histogram::of_client();
        for slot in slots {
            produce.merge(&slot.produce);
            self.merge(slot);
        }
        if produce.count() > 0 {
            self.p50_ns = Some(produce.value_at(0.5));
            self.p99_ns = Some(produce.value_at(0.99));
        }
    }

    fn standing(&self) -> Standing {
        let workload = &self.workload;
        let elapsed_ns = self.recent.iter().map(|recent| recent.at_ns).max().unwrap_or(0);
        let elapsed_ns = elapsed_ns.saturating_sub(self.stage_began_ns);
        let records_per_s = self.recent.iter().map(|recent| recent.records_per_s).sum();
        let of_backlog = |count: u64, times: u32| {
            let backlog = workload.backlog.saturating_mul(u64::from(times));
            let left = backlog.saturating_sub(count);
            let left_ns = (records_per_s > 0.0).then(|| (left as f64 / records_per_s * 1e9) as u64);
            (count as f64 / backlog.max(1) as f64, left_ns)
        };
        let of_time = |spent_ns: u64, all_ns: u64| {
            (spent_ns as f64 / all_ns.max(1) as f64, Some(all_ns.saturating_sub(spent_ns)))
        };
        let (phase, (done, left_ns)) = match self.stage {
            Stage::Connecting | Stage::Filling => (Phase::Backlog, of_backlog(self.totals.acked, 1)),
            Stage::Running if workload.read_mode == ReadMode::CatchUp => {
                (Phase::CatchUp, of_backlog(self.totals.received, workload.readers()))
            }
            Stage::Running if self.recent.iter().all(|recent| recent.is_draining) => (Phase::Draining, (1.0, None)),
            Stage::Running if elapsed_ns < workload.warmup_ns => {
                (Phase::WarmUp, of_time(elapsed_ns, workload.warmup_ns))
            }
            Stage::Running => (Phase::Measuring, of_time(elapsed_ns - workload.warmup_ns, workload.duration_ns)),
        };
        Standing {
            phase,
            done,
            left_ns,
            records_per_s,
            bytes_per_s: self.recent.iter().map(|recent| recent.bytes_per_s).sum(),
            p50_ns: self.p50_ns,
            p99_ns: self.p99_ns,
            errors: self.totals.errors,
            lag_records: (workload.consumers > 0).then(|| self.recent.iter().map(|recent| recent.lag_records).sum()),
        }
    }

    fn merge(&mut self, slot: Slot) {
        match self.intervals.get_mut(&slot.index) {
            None => {
                self.intervals.insert(slot.index, Building::Open(Box::new(slot)));
                let open = |building: &Building| matches!(building, Building::Open(_));
                if self.intervals.values().filter(|building| open(building)).count() > OPEN_INTERVALS_MAX
                    && let Some(oldest) = self.intervals.values_mut().find(|building| open(building))
                {
                    oldest.close();
                }
            }
            Some(Building::Open(sum)) => {
                sum.produce.merge(&slot.produce);
                sum.e2e.merge(&slot.e2e);
                sum.lateness.merge(&slot.lateness);
                sum.counts += slot.counts;
            }
            Some(Building::Closed(sum)) => {
                sum.produce = Sum::of([&sum.produce, &Packed::from(&slot.produce)]);
                sum.e2e = Sum::of([&sum.e2e, &Packed::from(&slot.e2e)]);
                sum.lateness = Sum::of([&sum.lateness, &Packed::from(&slot.lateness)]);
                sum.counts += slot.counts;
            }
        }
    }

    /// What producers sent to each topic.
    fn sent_by_topic(&self) -> Vec<TopicCounts> {
        let (names, partitions) = (self.topics.names(), self.topics.partitions());
        let topic = |name: &Text| TopicCounts { name: name.as_str().to_owned(), partitions, ..Default::default() };
        let mut topics: Vec<TopicCounts> = names.iter().map(topic).collect();
        for (stream, sent) in self.endings.iter().flat_map(|ending| &ending.sent) {
            let (number, _) = self.topics.split(partition_of_stream(*stream, self.topics.count()));
            topics[number].sent += sent.next;
            topics[number].errors += sent.failed.total();
        }
        topics
    }

    /// Compares what consumers got with what producers sent. Gives how many records they had not come to.
    fn settle(&self, result: &mut RunResult, complaints: &mut Complaints) -> u64 {
        let mut sent: BTreeMap<u32, &SentStream> = BTreeMap::new();
        self.endings.iter().for_each(|ending| sent.extend(ending.sent.iter().map(|(stream, sent)| (*stream, sent))));
        let producers = self.workload.producers;
        let sent = |stream: u32| sent.get(&stream).copied();
        let mut groups: BTreeMap<Option<u32>, Vec<&Reader>> = BTreeMap::new();
        for reader in self.endings.iter().flat_map(|ending| &ending.readers) {
            groups.entry(reader.group).or_default().push(reader);
        }
        let mut unread = 0;
        for (group, readers) in &groups {
            // Without groups each one reads for itself alone.
            let size = if group.is_some() { readers.len() } else { 1 };
            for readers in readers.chunks(size) {
                if readers.iter().any(|reader| !reader.is_drained) {
                    unread += readers.iter().map(|reader| reader.consumer.lag_records()).sum::<u64>().max(1);
                    continue;
                }
                let consumers: Vec<&Consumer> = readers.iter().map(|reader| &reader.consumer).collect();
                let verdict = match group {
                    Some(_) => settle_group(&consumers, producers, sent),
                    None => consumers[0].settle(producers, sent),
                };
                result.totals.lost += verdict.sum.lost;
                result.totals.duplicates += verdict.redelivered;
                for (&index, fate) in &verdict.partitions {
                    let topic = &mut result.topics[self.topics.split(index).0];
                    topic.received += fate.received;
                    topic.duplicates += fate.duplicates;
                    topic.reordered += fate.reordered;
                    topic.lost += fate.lost;
                    complain_of(&self.topics.shown(index), fate, *group, complaints);
                }
                complain(&verdict, complaints);
            }
        }
        complaints.add("not read by the end of the run", unread);
        unread
    }

    /// When the run ended, on its clock; beyond its plan if it was carried out.
    fn end_ns(&self, cut_short: bool) -> u64 {
        let ends = self.endings.iter();
        if cut_short {
            ends.filter(|ending| ending.gave_up.is_some()).map(|ending| ending.at_ns).min().unwrap_or(0)
        } else if self.workload.read_mode == ReadMode::CatchUp {
            ends.map(|ending| ending.at_ns).max().unwrap_or(0)
        } else {
            u64::MAX
        }
    }

    /// The intervals that were lived through. What a catch-up read takes less than planned shortens the last one.
    fn built(&mut self, frame: Frame, end_ns: u64) -> Vec<Interval> {
        let workload = self.workload.clone();
        let last_length = match workload.duration_ns % workload.interval_ns {
            0 => workload.interval_ns,
            rest => rest,
        };
        let mut intervals = Vec::new();
        for index in 0..frame.count {
            let start_ns = u64::from(index) * workload.interval_ns;
            let mut length_ns = if index + 1 == frame.count { last_length } else { workload.interval_ns };
            let lived_ns = end_ns.saturating_sub(frame.start_ns + start_ns);
            if lived_ns < length_ns {
                // One that was cut short is not comparable with the others.
                if workload.read_mode != ReadMode::CatchUp || lived_ns == 0 {
                    break;
                }
                length_ns = lived_ns;
            }
            intervals.push(interval(&workload, self.intervals.remove(&index), (start_ns, length_ns)));
        }
        intervals
    }
}

fn complain_of(partition: &str, fate: &Fate, group: Option<u32>, complaints: &mut Complaints) {
    let group = group.map_or_else(String::new, |group| format!("group {group}, "));
    if let Some((producer, sequence)) = fate.first_lost {
        let sequence = sequence.map_or_else(|| "unknown".to_owned(), |sequence| sequence.to_string());
        complaints
            .add(format!("lost: {group}{partition}, first of producer {producer}, sequence {sequence}"), fate.lost);
    }
    complaints.add(format!("received again: {group}{partition}"), fate.duplicates);
    complaints.add(format!("received after later ones: {group}{partition}"), fate.reordered);
}

fn complain(verdict: &Verdict, complaints: &mut Complaints) {
    complaints.add("deleted from the start of a log before a consumer came to them", verdict.deleted);
    complaints.add("records came that were never sent", verdict.sum.invented);
    complaints.add("not acknowledged and yet received", verdict.sum.survived);
    complaints.add("came to a second member of a group after a rebalance", verdict.redelivered);
    let inexact = "too many gaps to remember: the lost ones are the fewest that can be";
    complaints.add(inexact, u64::from(verdict.sum.inexact));
}

impl Building {
    fn close(&mut self) {
        if let Building::Open(slot) = self {
            *self = Building::Closed(Box::new(Closed::from(&**slot)));
        }
    }

    fn closed(self) -> Closed {
        match self {
            Building::Open(slot) => Closed::from(&*slot),
            Building::Closed(closed) => *closed,
        }
    }
}

impl From<&Slot> for Closed {
    fn from(slot: &Slot) -> Closed {
        Closed {
            produce: Packed::from(&slot.produce),
            e2e: Packed::from(&slot.e2e),
            lateness: Packed::from(&slot.lateness),
            counts: slot.counts,
        }
    }
}

fn interval(workload: &Workload, built: Option<Building>, (start_ns, length_ns): (u64, u64)) -> Interval {
    let Closed { produce, e2e, lateness, counts } = match built {
        Some(building) => building.closed(),
        None => Closed {
            produce: Packed::empty(),
            e2e: Packed::empty(),
            lateness: Packed::empty(),
            counts: Counts::default(),
        },
    };
    let late_ns = lateness.max_ns();
    let invalid = (late_ns > workload.late_max_ns).then(|| {
        let ms = |ns: u64| ns as f64 / 1e6;
        format!("the generator was {:.3} ms late, more than --late-max {:.3} ms", ms(late_ns), ms(workload.late_max_ns))
    });
    Interval { start_ns, length_ns, invalid, produce, e2e, lateness, counts }
}
