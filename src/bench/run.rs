//! A run from its first question to its result.
//!
//! *Owns*: the threads of a run, and who does what on which. *Never*: measures. *Runs on*: the thread that asked for
//! the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{self, Sender};
use std::thread;

use mio::{Poll, Waker};

use crate::bench::collect::Collector;
use crate::bench::consumer::{Consumer, ConsumerSettings, StartAt};
use crate::bench::control::{BenchError, Cluster, Control};
use crate::bench::driver::{self, Plan, Report, WAKE};
use crate::bench::payload::{Keys, Payload, RunTag};
use crate::bench::producer::{Identity, Producer};
use crate::bench::progress::{Progress, Standing};
use crate::bench::result::RunResult;
use crate::bench::scout::{self, Mailbox};
use crate::bench::workload::{ReadMode, Workload};
use crate::shell::clock::Clock;
use crate::wire::messages::api_versions::ApiVersionsResponse;
use crate::wire::messages::{fetch, init_producer_id, list_offsets, produce};

/// The last version of Produce that names topics.
const PRODUCE_VERSION_MAX: i16 = 12;

/// How a run ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Finished {
    pub result: RunResult,
    /// Why it ended before its time. What was measured until then is in the result.
    pub cut_short: Option<String>,
    /// Records that were due and that the broker never had room for.
    pub never_sent: u64,
    /// Records in the logs that consumers had not come to at the end: whether one is lost is then not known.
    pub unread: u64,
}

/// Runs a workload, with a line on the terminal that says how far it is.
pub fn run_shown(workload: &Workload, stop: &Arc<AtomicBool>) -> Result<Finished, BenchError> {
    let mut progress = Progress::stderr();
    let finished = run(workload, stop, &mut |standing| progress.show(standing));
    progress.clear();
    finished
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
    if workload.consumers > 0 {
        control.version(fetch::API.key, i16::MAX)?;
        control.version(list_offsets::API.key, i16::MAX)?;
    }
    result.broker = control.facts(&cluster);

    let clock = Clock::start();
    let (questions, asked) = mpsc::channel();
    let (reports, reported) = mpsc::channel();
    let tag = RunTag::new(clock.now().wall_ms as u64);
    let producers = producers(&workload, produce_version, tag)?;
    let consumers = consumers(&workload, tag);
    let shared = Shared {
        workload: workload.clone(),
        clock: clock.clone(),
        cluster,
        questions,
        reports,
        stop: stop.clone(),
        versions: control.versions().clone(),
        producing: Arc::new(AtomicUsize::new(workload.threads as usize)),
    };
    let mut mailboxes = Vec::new();
    let mut plans = Vec::new();
    let clients = producers.into_iter().zip(consumers);
    for (thread, (cpu, clients)) in processors(&workload).into_iter().zip(clients).enumerate() {
        let (mailbox, plan) = shared.plan(thread, clients, cpu)?;
        mailboxes.push(mailbox);
        plans.push(plan);
    }
    drop(shared);
    let topic = workload.topic.clone();
    let scout = thread::Builder::new().name("scout".into());
    let scout = scout.spawn(move || scout::answer_all(control, &topic, &asked)).map_err(no_thread)?;
    let mut threads = Vec::new();
    for plan in plans {
        let builder = thread::Builder::new().name("generator".into());
        threads.push(builder.spawn(move || driver::drive(plan)).map_err(no_thread)?);
    }
    let mut collector = Collector::new(workload.clone(), clock, mailboxes);
    collector.collect(&reported, watch);
    for thread in threads.into_iter().chain([scout]) {
        thread
            .join()
            .map_err(|_| BenchError::new("a thread of the generator failed: this is a defect, please report it"))?;
    }
    collector.finish(result)
}

fn no_thread(error: std::io::Error) -> BenchError {
    BenchError::new(format!("cannot start a thread: {error}"))
}

/// The producers of each thread, with their numbers over the whole run.
fn producers(workload: &Workload, version: i16, tag: RunTag) -> Result<Vec<Vec<(u32, Producer)>>, BenchError> {
    let wrong = |error: crate::bench::payload::PayloadError| BenchError::new(error.to_string());
    let pool = workload.filler().map_err(wrong)?;
    let keys = Keys::new(workload.keys, workload.seed).map_err(wrong)?;
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

/// The consumers of each thread: the partitions are dealt out among them.
fn consumers(workload: &Workload, tag: RunTag) -> Vec<Vec<Consumer>> {
    let mut all: Vec<Vec<Consumer>> = (0..workload.threads).map(|_| Vec::new()).collect();
    // One without a partition would have nothing to do.
    let count = workload.consumers.min(workload.partitions);
    for index in 0..count {
        let partitions: Vec<i32> = (index..workload.partitions).step_by(count as usize).map(|p| p as i32).collect();
        let settings = ConsumerSettings::new(tag, StartAt::Latest);
        let mut consumer = Consumer::new(settings, &workload.topic, &partitions);
        if workload.read_mode != ReadMode::Live {
            consumer.pause();
        }
        all[(index % workload.threads) as usize].push(consumer);
    }
    all
}

/// What all threads get.
struct Shared {
    workload: Arc<Workload>,
    clock: Clock,
    cluster: Arc<Cluster>,
    questions: Sender<(scout::Question, Mailbox)>,
    reports: Sender<Report>,
    stop: Arc<AtomicBool>,
    versions: ApiVersionsResponse,
    producing: Arc<AtomicUsize>,
}

impl Shared {
    fn plan(
        &self,
        thread: usize,
        (producers, consumers): (Vec<(u32, Producer)>, Vec<Consumer>),
        cpu: Option<usize>,
    ) -> Result<(Mailbox, Plan), BenchError> {
        let no_poll = |error: std::io::Error| BenchError::new(format!("cannot make an epoll instance: {error}"));
        let poll = Poll::new().map_err(no_poll)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(no_poll)?);
        let (sender, answers) = mpsc::channel();
        let mailbox = Mailbox { sender, waker };
        let plan = Plan {
            thread,
            workload: self.workload.clone(),
            clock: self.clock.clone(),
            cluster: self.cluster.clone(),
            poll,
            mailbox: mailbox.clone(),
            answers,
            questions: self.questions.clone(),
            reports: self.reports.clone(),
            stop: self.stop.clone(),
            producers,
            consumers,
            versions: self.versions.clone(),
            producing: self.producing.clone(),
            cpu,
        };
        Ok((mailbox, plan))
    }
}
