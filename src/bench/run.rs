//! A run from its first question to its result.
//!
//! *Owns*: the threads of a run, and who does what on which. *Never*: measures. *Runs on*: the thread that asked for
//! the run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use mio::{Poll, Waker};

use crate::bench::collect::Collector;
use crate::bench::consumer::{Consumer, ConsumerSettings, StartAt};
use crate::bench::control::{BenchError, Cluster, Control};
use crate::bench::driver::{self, Plan, Report, Together, WAKE};
use crate::bench::member::{self, Member, MemberSettings};
use crate::bench::payload::{Keys, Payload, PayloadError, RunTag};
use crate::bench::producer::{Identity, Producer};
use crate::bench::progress::{Progress, Standing};
use crate::bench::result::RunResult;
use crate::bench::scout::{self, Mailbox};
use crate::bench::topics::Topics;
use crate::bench::workload::{ReadMode, Workload};
use crate::client::client::Client;
use crate::client::error::ClientError;
use crate::client::offsets::{Moment, TopicPartition};
use crate::shell::clock::Clock;
use crate::wire::messages::api_versions::ApiVersionsResponse;
use crate::wire::messages::{fetch, find_coordinator, init_producer_id, list_offsets, produce};

/// The last version of Produce that names topics.
const PRODUCE_VERSION_MAX: i16 = 12;

/// How long the questions around the groups of a run may take.
const GROUPS_WAIT: Duration = Duration::from_secs(10);

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
    let topics = workload.topics();
    let cluster = Arc::new(control.prepare_topics(&workload, &topics)?);
    result.metadata.record(control.metadata_time.as_nanos() as u64);
    let produce_version = produce_version(&control, &workload)?;
    result.broker = control.facts(&cluster);

    let clock = Clock::start();
    let (questions, asked) = mpsc::channel();
    let (reports, reported) = mpsc::channel();
    let tag = RunTag::new(clock.now().wall_ms as u64);
    let producers = producers(&workload, &topics, produce_version, tag)?;
    let consumers = consumers(&workload, &topics, tag);
    let groups = groups(&workload, &topics, clock.now().wall_ms)?;
    let shared = Shared {
        workload: workload.clone(),
        clock: clock.clone(),
        cluster,
        questions,
        reports,
        stop: stop.clone(),
        versions: control.versions().clone(),
        together: Arc::new(Together::new(workload.threads as usize)),
    };
    let mut mailboxes = Vec::new();
    let mut plans = Vec::new();
    let clients = producers.into_iter().zip(consumers);
    for (thread, (cpu, clients)) in processors(&workload).into_iter().zip(clients).enumerate() {
        let members = members(&workload, &groups, thread as u32);
        let (mailbox, plan) = shared.plan(thread, clients, members, cpu)?;
        mailboxes.push(mailbox);
        plans.push(plan);
    }
    drop(shared);
    let asked_of = topics.clone();
    let scout = thread::Builder::new().name("scout".into());
    let scout = scout.spawn(move || scout::answer_all(control, &asked_of, &asked)).map_err(no_thread)?;
    let mut threads = Vec::new();
    for plan in plans {
        let builder = thread::Builder::new().name("generator".into());
        threads.push(builder.spawn(move || driver::drive(plan)).map_err(no_thread)?);
    }
    let mut collector = Collector::new(workload.clone(), topics, clock, mailboxes);
    collector.collect(&reported, watch);
    for thread in threads.into_iter().chain([scout]) {
        thread
            .join()
            .map_err(|_| BenchError::new("a thread of the generator failed: this is a defect, please report it"))?;
    }
    let mut finished = collector.finish(result)?;
    finished.result.complaints.extend(forget(&workload, &groups));
    Ok(finished)
}

/// The version of Produce that is spoken. Errors: the brokers lack it, or another API that the run needs.
fn produce_version(control: &Control, workload: &Workload) -> Result<i16, BenchError> {
    let produce_version = control.version(produce::API.key, PRODUCE_VERSION_MAX)?;
    if workload.idempotence {
        control.version(init_producer_id::API.key, i16::MAX)?;
    }
    if workload.consumers > 0 {
        control.version(fetch::API.key, i16::MAX)?;
        control.version(list_offsets::API.key, i16::MAX)?;
    }
    if workload.groups > 0 {
        control.version(find_coordinator::API.key, i16::MAX)?;
        for api in member::apis(workload.group_protocol) {
            control.version(api.key, i16::MAX)?;
        }
    }
    Ok(produce_version)
}

fn no_thread(error: std::io::Error) -> BenchError {
    BenchError::new(format!("cannot start a thread: {error}"))
}

/// The producers of each thread, with their numbers over the whole run.
fn producers(
    workload: &Workload,
    topics: &Topics,
    version: i16,
    tag: RunTag,
) -> Result<Vec<Vec<(u32, Producer)>>, BenchError> {
    let wrong = |error: PayloadError| BenchError::new(error.to_string());
    let pool = workload.filler().map_err(wrong)?;
    let keys = Keys::new(workload.keys, workload.seed).map_err(wrong)?;
    let threads = workload.threads;
    let mut all: Vec<Vec<(u32, Producer)>> = (0..threads).map(|_| Vec::new()).collect();
    for index in 0..workload.producers {
        let seed = workload.seed.wrapping_add(u64::from(index) << 32);
        let payload = Payload::new(tag, workload.sizes.clone(), pool.clone(), seed).map_err(wrong)?;
        let client_id = format!("corelog-bench-{index}").into();
        let identity = Identity { index, client_id, produce_version: version };
        let producer = Producer::new(workload, topics.clone(), identity, payload, keys.with_seed(seed));
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
fn consumers(workload: &Workload, topics: &Topics, tag: RunTag) -> Vec<Vec<Consumer>> {
    let mut all: Vec<Vec<Consumer>> = (0..workload.threads).map(|_| Vec::new()).collect();
    let is_grouped = workload.groups > 0;
    // One without a partition would have nothing to do, unless a group has it in reserve.
    let count = if is_grouped { workload.consumers } else { workload.consumers.min(topics.count()) };
    for index in 0..count {
        let partitions: Vec<u32> = match is_grouped {
            true => Vec::new(),
            false => (index..topics.count()).step_by(count as usize).collect(),
        };
        let settings = ConsumerSettings::new(tag, StartAt::Latest);
        let mut consumer = Consumer::new(settings, topics, &partitions);
        if workload.read_mode != ReadMode::Live {
            consumer.pause();
        }
        all[(index % workload.threads) as usize].push(consumer);
    }
    all
}

/// The groups of a run. Their names are its own: what other runs committed is of no use to it.
fn groups(workload: &Workload, topics: &Topics, wall_ms: i64) -> Result<Vec<Arc<MemberSettings>>, BenchError> {
    if workload.groups == 0 {
        return Ok(Vec::new());
    }
    let place = |index: u32| {
        let (topic, partition) = topics.split(index);
        TopicPartition { topic: topics.names()[topic].as_str().to_owned(), partition }
    };
    let places: BTreeSet<TopicPartition> = (0..topics.count()).map(place).collect();
    let mut client = Client::connect(&workload.bootstrap, "corelog-bench", GROUPS_WAIT)?;
    let ends = client.offsets(&places, Moment::End)?;
    let start = |place: TopicPartition| match ends.get(&place) {
        Some(Ok(offset)) => Ok(offset.unwrap_or(0)),
        Some(Err(refusal)) => Err(BenchError::new(format!("where {place} ends: {}", refusal.sentence()))),
        None => Err(BenchError::new(format!("the brokers do not say where {place} ends"))),
    };
    let starts = (0..topics.count()).map(place).map(start).collect::<Result<Arc<[i64]>, BenchError>>()?;
    let group = |number: u32| {
        let members = (number..workload.consumers).step_by(workload.groups as usize).count();
        Arc::new(MemberSettings {
            group: format!("{}-{wall_ms}-{number}", workload.topic).into(),
            protocol: workload.group_protocol,
            topics: topics.clone(),
            starts: starts.clone(),
            commit_interval_ns: workload.commit_interval_ns,
            number,
            share: member::share(workload.group_protocol, topics, members),
        })
    };
    Ok((0..workload.groups).map(group).collect())
}

/// The members of one thread: one for each of its consumers, which are dealt out among the groups.
fn members(workload: &Workload, groups: &[Arc<MemberSettings>], thread: u32) -> Vec<Member> {
    if groups.is_empty() {
        return Vec::new();
    }
    let indexes = (thread..workload.consumers).step_by(workload.threads as usize);
    let member = |index: u32| {
        let settings = groups[index as usize % groups.len()].clone();
        Member::new(settings, format!("corelog-bench-{index}").into())
    };
    indexes.map(member).collect()
}

/// Removes the groups, whose members have left. Gives what went wrong, which spoils nothing that was measured.
fn forget(workload: &Workload, groups: &[Arc<MemberSettings>]) -> Vec<(String, u64)> {
    if groups.is_empty() {
        return Vec::new();
    }
    let deleted = Client::connect(&workload.bootstrap, "corelog-bench", GROUPS_WAIT).and_then(|mut client| {
        for group in groups {
            if let Err(refusal) = client.delete_group(&group.group)? {
                return Err(ClientError::refused(&format!("group {}", group.group), &refusal));
            }
        }
        Ok(())
    });
    deleted.err().map(|error| (format!("the groups of the run stay: {}", error.message()), 1)).into_iter().collect()
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
    together: Arc<Together>,
}

impl Shared {
    fn plan(
        &self,
        thread: usize,
        (producers, consumers): (Vec<(u32, Producer)>, Vec<Consumer>),
        members: Vec<Member>,
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
            members,
            versions: self.versions.clone(),
            together: self.together.clone(),
            cpu,
        };
        Ok((mailbox, plan))
    }
}
