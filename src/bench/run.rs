//! A run from its first question to its result.
//!
//! *Owns*: the threads of a run, and putting together what they measured. *Never*: measures. *Runs on*: the thread
//! that asked for the run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use mio::{Poll, Waker};

use crate::base::histogram::Histogram;
use crate::bench::control::{BenchError, Cluster, Control};
use crate::bench::driver::{self, Ending, Plan, Report, WAKE};
use crate::bench::meter::{Frame, Slot};
use crate::bench::packed::{Packed, Sum};
use crate::bench::payload::{Keys, Payload, RunTag};
use crate::bench::producer::{Identity, Producer};
use crate::bench::result::{Counts, Interval, RunResult};
use crate::bench::scout::{self, Answer, Mailbox};
use crate::bench::workload::Workload;
use crate::shell::clock::Clock;
use crate::wire::messages::{init_producer_id, produce};

/// The last version of Produce that names topics.
const PRODUCE_VERSION_MAX: i16 = 12;

/// Between the last thread being ready and the first record.
const LEAD_NS: u64 = 20_000_000;

/// Intervals kept ready for counts that come late; older ones are packed.
const OPEN_INTERVALS_MAX: usize = 8;

/// How long a thread may take to be ready.
const READY_WAIT: Duration = Duration::from_secs(60);

/// How a run ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Finished {
    pub result: RunResult,
    /// Why it ended before its time. What was measured until then is in the result.
    pub cut_short: Option<String>,
    /// Records that were due and that the broker never had room for.
    pub never_sent: u64,
}

/// How a run stands, every second or so.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    /// Since the first record, warm-up included.
    pub elapsed_ns: u64,
    /// Of the last moments.
    pub counts: Counts,
    pub produce: Histogram,
    pub e2e: Histogram,
}

/// Runs a workload that was checked. `stop` ends it early; what was measured is kept.
pub fn run(
    workload: &Workload,
    stop: &Arc<AtomicBool>,
    watch: &mut dyn FnMut(&Standing),
) -> Result<Finished, BenchError> {
    let workload = Arc::new(workload.clone());
    let mut control = Control::connect(&workload.bootstrap)?;
    let mut result = RunResult::begin(0);
    result.connect.record(control.connect_time.as_nanos() as u64);
    let cluster = Arc::new(control.prepare_topic(&workload)?);
    result.metadata.record(control.metadata_time.as_nanos() as u64);
    let produce_version = control.version(produce::API.key, PRODUCE_VERSION_MAX)?;
    if workload.idempotence {
        control.version(init_producer_id::API.key, i16::MAX)?;
    }
    result.broker = control.facts(&cluster);

    let clock = Clock::start();
    let (questions, asked) = mpsc::channel();
    let (reports, reported) = mpsc::channel();
    let producers = producers(&workload, produce_version, clock.now().wall_ms as u64)?;
    let mut mailboxes = Vec::new();
    let mut plans = Vec::new();
    for (cpu, producers) in processors(&workload).into_iter().zip(producers) {
        let (mailbox, plan) = plan(&workload, clock.clone(), &cluster, (&questions, &reports), stop, producers, cpu)?;
        mailboxes.push(mailbox);
        plans.push(plan);
    }
    drop((questions, reports));
    let topic = workload.topic.clone();
    let scout = thread::Builder::new().name("scout".into());
    let scout = scout.spawn(move || scout::answer_all(control, &topic, &asked)).map_err(no_thread)?;
    let mut threads = Vec::new();
    for plan in plans {
        let builder = thread::Builder::new().name("generator".into());
        threads.push(builder.spawn(move || driver::drive(plan)).map_err(no_thread)?);
    }
    let collected = collect(&workload, clock, &mailboxes, &reported, watch);
    drop(mailboxes);
    for thread in threads.into_iter().chain([scout]) {
        thread
            .join()
            .map_err(|_| BenchError::new("a thread of the generator failed: this is a defect, please report it"))?;
    }
    finish(&workload, result, collected?)
}

fn no_thread(error: std::io::Error) -> BenchError {
    BenchError::new(format!("cannot start a thread: {error}"))
}

/// The producers of each thread, with their numbers over the whole run.
fn producers(workload: &Workload, version: i16, run: u64) -> Result<Vec<Vec<(u32, Producer)>>, BenchError> {
    let wrong = |error: crate::bench::payload::PayloadError| BenchError::new(error.to_string());
    let pool = workload.filler().map_err(wrong)?;
    let keys = Keys::new(workload.keys, workload.seed).map_err(wrong)?;
    let tag = RunTag::new(run);
    let threads = workload.threads;
    let mut all: Vec<Vec<(u32, Producer)>> = (0..threads).map(|_| Vec::new()).collect();
    for index in 0..workload.producers {
        let seed = workload.seed.wrapping_add(u64::from(index) << 32);
        let payload = Payload::new(tag, workload.sizes.clone(), pool.clone(), seed).map_err(wrong)?;
        let client_id = format!("corelog-bench-{index}").into();
        let identity = Identity { index, client_id, produce_version: version };
        let producer = Producer::new(workload, identity, payload, keys.with_seed(seed));
        all[(index % threads) as usize].push((index, producer));
    }
    Ok(all)
}

/// Where each thread runs.
fn processors(workload: &Workload) -> Vec<Option<usize>> {
    let threads = workload.threads as usize;
    if !workload.cpus.is_empty() {
        return workload.cpus.iter().map(|cpu| Some(*cpu)).collect();
    }
    let mut ids: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    ids.sort_unstable();
    match ids.len().checked_sub(threads) {
        Some(first) => ids[first..].iter().map(|id| Some(*id)).collect(),
        // More threads than processors: the system shares them out.
        None => vec![None; threads],
    }
}

/// The processors that no thread of the generator is pinned to: for a broker on the same machine.
pub fn processors_left(workload: &Workload) -> Vec<usize> {
    let taken = processors(workload);
    let all = core_affinity::get_core_ids().unwrap_or_default();
    all.iter().map(|core| core.id).filter(|id| !taken.contains(&Some(*id))).collect()
}

fn plan(
    workload: &Arc<Workload>,
    clock: Clock,
    cluster: &Arc<Cluster>,
    (questions, reports): (&Sender<(scout::Question, Mailbox)>, &Sender<Report>),
    stop: &Arc<AtomicBool>,
    producers: Vec<(u32, Producer)>,
    cpu: Option<usize>,
) -> Result<(Mailbox, Plan), BenchError> {
    let no_poll = |error: std::io::Error| BenchError::new(format!("cannot make an epoll instance: {error}"));
    let poll = Poll::new().map_err(no_poll)?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(no_poll)?);
    let (sender, answers) = mpsc::channel();
    let mailbox = Mailbox { sender, waker };
    let plan = Plan {
        workload: workload.clone(),
        clock,
        cluster: cluster.clone(),
        poll,
        mailbox: mailbox.clone(),
        answers,
        questions: questions.clone(),
        reports: reports.clone(),
        stop: stop.clone(),
        producers,
        cpu,
    };
    Ok((mailbox, plan))
}

/// Everything the threads have told.
struct Collected {
    frame: Option<Frame>,
    started_wall_ms: i64,
    intervals: BTreeMap<u32, Building>,
    totals: Counts,
    endings: Vec<Ending>,
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

fn collect(
    workload: &Workload,
    clock: Clock,
    mailboxes: &[Mailbox],
    reported: &Receiver<Report>,
    watch: &mut dyn FnMut(&Standing),
) -> Result<Collected, BenchError> {
    let mut collected = Collected {
        frame: None,
        started_wall_ms: 0,
        intervals: BTreeMap::new(),
        totals: Counts::default(),
        endings: Vec::new(),
    };
    let mut ready = 0;
    while collected.endings.len() < mailboxes.len() {
        let report = match reported.recv_timeout(READY_WAIT) {
            Ok(report) => report,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        match report {
            Report::Ready => {
                ready += 1;
                if ready == mailboxes.len() {
                    let now = clock.now();
                    let start_ns = now.mono.0 + LEAD_NS;
                    let first_ns = start_ns + workload.warmup_ns;
                    collected.frame = Some(Frame::new(first_ns, workload.interval_ns, workload.duration_ns));
                    collected.started_wall_ms = now.wall_ms + ((LEAD_NS + workload.warmup_ns) / 1_000_000) as i64;
                    mailboxes.iter().for_each(|mailbox| mailbox.send(Answer::Start(start_ns)));
                }
            }
            Report::Measured { slots, totals } => {
                if let Some(frame) = collected.frame {
                    let begun_ns = frame.start_ns - workload.warmup_ns;
                    let elapsed_ns = clock.instant().0.saturating_sub(begun_ns);
                    watch(&standing(elapsed_ns, &slots, totals));
                }
                add(&mut collected.totals, &totals);
                slots.into_iter().for_each(|slot| collected.merge(slot));
            }
            Report::Ended(ending) => collected.endings.push(*ending),
        }
    }
    Ok(collected)
}

fn standing(elapsed_ns: u64, slots: &[Slot], counts: Counts) -> Standing {
    let (mut produce, mut e2e) = (Histogram::of_client(), Histogram::of_client());
    for slot in slots {
        produce.merge(&slot.produce);
        e2e.merge(&slot.e2e);
    }
    Standing { elapsed_ns, counts, produce, e2e }
}

impl Collected {
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
                add(&mut sum.counts, &slot.counts);
            }
            Some(Building::Closed(sum)) => {
                sum.produce = Sum::of([&sum.produce, &Packed::from(&slot.produce)]);
                sum.e2e = Sum::of([&sum.e2e, &Packed::from(&slot.e2e)]);
                sum.lateness = Sum::of([&sum.lateness, &Packed::from(&slot.lateness)]);
                add(&mut sum.counts, &slot.counts);
            }
        }
    }
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

fn finish(workload: &Workload, mut result: RunResult, collected: Collected) -> Result<Finished, BenchError> {
    let mut complaints: BTreeMap<String, u64> = BTreeMap::new();
    let mut cut_short: Option<String> = None;
    let mut never_sent = 0;
    let mut end_ns = u64::MAX;
    for ending in &collected.endings {
        result.connect.merge(&ending.connect);
        never_sent += ending.never_sent;
        for (text, count) in &ending.complaints {
            *complaints.entry(text.clone()).or_default() += count;
        }
        if let Some(why) = &ending.gave_up {
            cut_short.get_or_insert(why.clone());
            end_ns = end_ns.min(ending.at_ns);
        }
    }
    let Some(frame) = collected.frame else {
        let why = cut_short.unwrap_or_else(|| "the generator did not start".into());
        let mut lines = vec![why];
        lines.extend(complaints.into_keys());
        return Err(BenchError::new(lines.join("; ")));
    };
    if never_sent > 0 {
        complaints.insert("due and never sent, because the broker did not take records fast enough".into(), never_sent);
    }
    result.started_wall_ms = collected.started_wall_ms;
    result.totals = collected.totals;
    let mut built = collected.intervals;
    let mut last_length = workload.duration_ns % workload.interval_ns;
    if last_length == 0 {
        last_length = workload.interval_ns;
    }
    for index in 0..frame.count {
        let start_ns = u64::from(index) * workload.interval_ns;
        let length_ns = if index + 1 == frame.count { last_length } else { workload.interval_ns };
        // An interval that was not lived through to its end is not comparable with the others.
        if frame.start_ns + start_ns + length_ns > end_ns {
            break;
        }
        result.intervals.push(interval(workload, built.remove(&index), (start_ns, length_ns)));
    }
    if let Some(why) = &cut_short {
        let lived_ns = end_ns.saturating_sub(frame.start_ns);
        let text = format!(
            "the run ended after {:.1} of {:.1} s: {why}",
            lived_ns as f64 / 1e9,
            workload.duration_ns as f64 / 1e9
        );
        complaints.insert(text, 1);
    }
    result.complaints = complaints.into_iter().collect();
    Ok(Finished { result, cut_short, never_sent })
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
        format!(
            "the generator was {:.3} ms late, more than --late-max {:.3} ms",
            late_ns as f64 / 1e6,
            workload.late_max_ns as f64 / 1e6
        )
    });
    Interval { start_ns, length_ns, invalid, produce, e2e, lateness, counts }
}

fn add(sum: &mut Counts, more: &Counts) {
    sum.sent += more.sent;
    sum.sent_bytes += more.sent_bytes;
    sum.acked += more.acked;
    sum.acked_bytes += more.acked_bytes;
    sum.received += more.received;
    sum.received_bytes += more.received_bytes;
    sum.errors += more.errors;
    sum.retries += more.retries;
    sum.duplicates += more.duplicates;
    sum.reordered += more.reordered;
    sum.lost += more.lost;
}
