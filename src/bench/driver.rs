//! One generator thread: hands records over when they are due, and moves bytes between clients and brokers.
//!
//! It spins while the next record is due within a millisecond, and otherwise sleeps until an event.
//!
//! *Owns*: the poll, the clock, and how far the thread has come. *Never*: waits for a broker, decides
//! what is sent. *Runs on*: a processor of its own.

mod links;
mod members;
mod plan;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Token};

use self::links::{Link, Owner, RECONNECT_NS};
pub use self::plan::{Plan, Together};
pub use self::report::{Ending, Measured, Reader, Report};
use crate::base::histogram::Histogram;
use crate::bench::complaints::Complaints;
use crate::bench::connection::State;
use crate::bench::consumer::{Consumer, Received};
use crate::bench::control::Cluster;
use crate::bench::member::Member;
use crate::bench::meter::{Frame, Meter};
use crate::bench::producer::{Finished, Node, Outcome};
use crate::bench::scout::{Answer, Question};
use crate::bench::source::{Source, Time};
use crate::bench::workload::ReadMode;

/// What is due within this is waited for without sleeping.
const SPIN_NS: u64 = 1_000_000;

/// What comes round at least this often: overdue replies, wishes, the end.
const TICK_NS: u64 = 50_000_000;

/// Until everything is connected and in its place.
const READY_NS: u64 = 60_000_000_000;

/// Without any broker for this long, the run is over.
const UNREACHABLE_NS: u64 = 10_000_000_000;

/// After the last record was due, how long replies and consumers are waited for.
const DRAIN_NS: u64 = 30_000_000_000;

const SCRATCH_BYTES: usize = 256 << 10;

/// The token of the waker; connections have the ones below.
pub const WAKE: Token = Token(usize::MAX);

struct Driver {
    plan: Plan,
    time: Time,
    stage: Stage,
    sources: Vec<Source>,
    consumers: Vec<Consumer>,
    /// By the places of their consumers.
    members: Vec<Member>,
    /// What this thread has added to what all tell each other: settled members, and their partitions.
    told: (usize, usize),
    /// Until when leaving groups may take.
    leave_until_ns: u64,
    /// From when on paused consumers read.
    consume_from_ns: u64,
    received: Received,
    /// The end of the interval that `received` is of.
    received_until_ns: u64,
    /// Records and damaged replies that were none of the run's.
    foreign: u64,
    faults: u64,
    links: Vec<Link>,
    cluster: Arc<Cluster>,
    meter: Meter,
    /// From when on nothing is due. Known when the run has begun.
    end_due_ns: Option<u64>,
    asked_cluster: bool,
    ask_cluster_from_ns: u64,
    started_ns: u64,
    last_good_ns: u64,
    next_tick_ns: u64,
    next_report_ns: u64,
    scratch: Vec<u8>,
    ending: Ending,
}

/// How far a thread has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum Stage {
    Connecting,
    /// Waits for the other threads: to fill or to begin.
    Waiting,
    /// Writes the backlog.
    Filling,
    Producing,
    /// Waits for the producers of other threads.
    Produced,
    /// Consumers read to the ends of the logs as they are now.
    Draining,
    /// Waits for the consumers of other threads.
    Drained,
    /// Members leave their groups.
    Leaving,
}

/// Runs a thread to its end.
pub fn drive(mut plan: Plan) {
    if let Some(id) = plan.cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let now = plan.clock.now();
    let now_ns = now.mono.0;
    let producers = std::mem::take(&mut plan.producers).into_iter();
    let mut driver = Driver {
        time: Time { clock: plan.clock.clone(), wall_zero_ms: now.wall_ms - (now_ns / 1_000_000) as i64 },
        stage: Stage::Connecting,
        sources: producers.map(|(index, producer)| Source::new(index, producer)).collect(),
        consumers: std::mem::take(&mut plan.consumers),
        members: std::mem::take(&mut plan.members),
        told: (0, 0),
        leave_until_ns: u64::MAX,
        consume_from_ns: u64::MAX,
        received: Received::default(),
        received_until_ns: u64::MAX,
        foreign: 0,
        faults: 0,
        links: Vec::new(),
        cluster: plan.cluster.clone(),
        meter: Meter::new(Frame::new(u64::MAX, 1, 0)),
        end_due_ns: None,
        asked_cluster: false,
        ask_cluster_from_ns: 0,
        started_ns: now_ns,
        last_good_ns: now_ns,
        next_tick_ns: 0,
        next_report_ns: u64::MAX,
        scratch: vec![0; SCRATCH_BYTES],
        ending: Ending {
            connect: Histogram::of_client(),
            complaints: Complaints::default(),
            gave_up: None,
            at_ns: 0,
            never_sent: 0,
            sent: BTreeMap::new(),
            readers: Vec::new(),
            join: Histogram::of_client(),
            commit: Histogram::of_client(),
        },
        plan,
    };
    driver.on_cluster();
    driver.run();
}

impl Driver {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let now_ns = self.time.now_ns();
            if now_ns >= self.next_tick_ns {
                self.next_tick_ns = now_ns + TICK_NS;
                self.tick(now_ns);
            }
            if now_ns >= self.received_until_ns {
                self.account_received();
            }
            if now_ns >= self.consume_from_ns {
                self.consume_from_ns = u64::MAX;
                self.consumers.iter_mut().for_each(Consumer::resume);
            }
            if now_ns >= self.next_report_ns {
                self.report(now_ns);
            }
            for source in &mut self.sources {
                source.generate(&self.time, &mut self.meter);
            }
            self.send();
            self.account();
            if self.is_over(now_ns) {
                break;
            }
            let timeout = self.timeout(self.time.now_ns());
            if let Err(error) = self.plan.poll.poll(&mut events, Some(timeout))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                self.ending.gave_up = Some(format!("cannot wait for events: {error}"));
                break;
            }
            for event in &events {
                match event.token() {
                    WAKE => self.take_answers(),
                    Token(place) => {
                        self.on_event(place, event.is_readable() || event.is_error() || event.is_read_closed())
                    }
                }
            }
            self.receive();
        }
        self.end();
    }

    /// Takes note of the batches that are done with.
    fn account(&mut self) {
        let now_ns = self.time.now_ns();
        for source in &mut self.sources {
            while let Some(Finished { batch, at_ns, outcome }) = source.producer.poll_finished() {
                match outcome {
                    Outcome::Acked => {
                        self.meter.on_acked(&batch.due_ns, at_ns, batch.value_bytes);
                        self.meter.on_waited(&batch.due_ns, batch.sent_ns);
                    }
                    Outcome::Failed(why) => {
                        let stream = self.ending.sent.entry(source.producer.stream(batch.partition)).or_default();
                        let first = batch.first_sequence;
                        stream.failed.insert(first, first + batch.records() as u64);
                        self.ending.complaints.add(why, batch.records() as u64);
                        self.meter.on_failed(&batch.due_ns, at_ns, batch.value_bytes);
                    }
                }
                source.producer.recycle(batch);
            }
            for (sent_ns, at_ns) in source.producer.take_answered() {
                self.meter.on_answered(sent_ns, at_ns);
            }
            let retries = source.take_retries();
            if retries > 0 {
                self.meter.count(now_ns, |counts| counts.retries += retries);
            }
        }
    }

    /// Hands what consumers got to the interval that has just ended.
    fn account_received(&mut self) {
        self.meter.on_received(self.received_until_ns.saturating_sub(1), &self.received);
        self.foreign += self.received.foreign;
        self.faults += self.received.faults;
        self.received = Received::default();
        self.received_until_ns = self.received_until_ns.saturating_add(self.plan.workload.interval_ns);
    }

    fn take_answers(&mut self) {
        while let Ok(answer) = self.plan.answers.try_recv() {
            let now_ns = self.time.now_ns();
            match answer {
                Answer::Cluster(answer) => {
                    self.asked_cluster = false;
                    self.ask_cluster_from_ns = now_ns + RECONNECT_NS;
                    match answer {
                        Ok(cluster) => {
                            self.cluster = cluster;
                            self.on_cluster();
                        }
                        Err(error) => {
                            self.consumers.iter_mut().for_each(|consumer| consumer.on_metadata_failed(now_ns));
                            self.ending.complaints.add(error.to_string(), 1);
                        }
                    }
                }
                Answer::ProducerId(place, answer) => {
                    self.sources[place].asked_id = false;
                    match answer {
                        Ok((id, epoch)) => self.sources[place].producer.on_producer_id(id, epoch),
                        Err(error) => self.ending.complaints.add(error.to_string(), 1),
                    }
                }
                Answer::Coordinator(place, answer) => self.on_coordinator(place, answer, now_ns),
                Answer::Fill => {
                    self.stage = Stage::Filling;
                    self.next_report_ns = now_ns + self.report_period_ns();
                    self.sources.iter_mut().for_each(|source| source.fill(&self.plan.workload));
                }
                Answer::Start(start_ns) => self.begin(start_ns),
            }
        }
    }

    fn begin(&mut self, start_ns: u64) {
        let workload = self.plan.workload.clone();
        let frame = Frame::new(start_ns + workload.warmup_ns, workload.interval_ns, workload.duration_ns);
        let end_due_ns = frame.start_ns + workload.duration_ns;
        // The backlog is in no interval.
        let (_, before) = self.meter.take(None);
        self.meter = Meter::new(frame);
        self.meter.count(0, |counts| *counts += before);
        self.stage = Stage::Producing;
        self.end_due_ns = Some(end_due_ns);
        self.next_report_ns = start_ns + self.report_period_ns();
        // What comes in the warm-up is in no interval.
        self.received_until_ns = frame.start_ns;
        if workload.read_mode != ReadMode::CatchUp {
            self.sources.iter_mut().for_each(|source| source.begin(&workload, start_ns, end_due_ns));
        }
        self.consume_from_ns = start_ns;
    }

    /// Leaders may have moved: producers and consumers are told, and connected to whom they need.
    fn on_cluster(&mut self) {
        let now_ns = self.time.now_ns();
        for place in 0..self.sources.len() {
            self.sources[place].producer.on_leaders(&self.cluster.leaders);
            let nodes = self.sources[place].producer.nodes();
            self.link(Owner::Producer(place), &nodes);
        }
        for place in 0..self.consumers.len() {
            // Whatever it wished for has come.
            self.consumers[place].poll_metadata(now_ns);
            self.lead(place, now_ns);
        }
        self.next_tick_ns = 0;
    }

    /// Tells a consumer who leads its partitions.
    fn lead(&mut self, place: usize, now_ns: u64) {
        self.consumers[place].on_metadata(&self.cluster.metadata, now_ns);
        let nodes: Vec<Node> = self.consumers[place].brokers().collect();
        self.link(Owner::Consumer(place), &nodes);
    }

    /// What need not be looked at all the time.
    fn tick(&mut self, now_ns: u64) {
        for place in 0..self.links.len() {
            self.check_link(place, now_ns);
        }
        self.ask(now_ns);
        let settled = self.stage > Stage::Connecting || self.are_members_settled();
        let connected = |link: &Link| {
            link.connection.as_ref().is_some_and(|c| c.state() == State::Open) || self.is_former_coordinator(link)
        };
        let identified = self.sources.iter().all(|source| !source.producer.wishes().producer_id);
        let placed = self.consumers.iter().all(Consumer::is_placed) && settled;
        if self.stage == Stage::Connecting && identified && placed && self.links.iter().all(connected) {
            self.stage = Stage::Waiting;
            let _ = self.plan.reports.send(Report::Ready);
        }
        if self.stage == Stage::Filling && self.sources.iter().all(|source| source.is_done(now_ns)) {
            self.stage = Stage::Waiting;
            self.report(now_ns);
            let _ = self.plan.reports.send(Report::Filled);
        }
        if self.stage == Stage::Waiting {
            self.last_good_ns = now_ns;
        }
    }

    fn ask(&mut self, now_ns: u64) {
        self.ask_for_coordinators(now_ns);
        let mut wanted = false;
        if !self.asked_cluster && now_ns >= self.ask_cluster_from_ns {
            for consumer in &mut self.consumers {
                wanted |= consumer.poll_metadata(now_ns);
            }
        }
        for (place, source) in self.sources.iter_mut().enumerate() {
            let wishes = source.producer.wishes();
            wanted |= wishes.leaders;
            if wishes.producer_id && !source.asked_id {
                source.asked_id = true;
                let _ = self.plan.questions.send((Question::ProducerId(place), self.plan.mailbox.clone()));
            }
        }
        if wanted && !self.asked_cluster && now_ns >= self.ask_cluster_from_ns {
            self.asked_cluster = true;
            let _ = self.plan.questions.send((Question::Cluster, self.plan.mailbox.clone()));
        }
    }

    /// How long to wait for events.
    fn timeout(&self, now_ns: u64) -> Duration {
        if self.links.iter().any(|link| link.readable) {
            return Duration::ZERO;
        }
        let sources = self.sources.iter().filter_map(|source| source.next_ns(now_ns)).min();
        let consumers = self.consumers.iter().filter_map(Consumer::next_wake_ns);
        let consumers = consumers.chain(self.members.iter().filter_map(Member::next_wake_ns)).min();
        // Consumers wish for metadata as well, which is looked after once a tick.
        let consumers = consumers.map(|wake_ns| wake_ns.max(now_ns + SPIN_NS));
        let timers = [self.next_tick_ns, self.next_report_ns, self.received_until_ns, self.consume_from_ns];
        let next_ns = timers.into_iter().chain(sources).chain(consumers).min().unwrap_or(now_ns);
        // The system sleeps in whole milliseconds and wakes up late.
        Duration::from_millis(next_ns.saturating_sub(now_ns).saturating_sub(SPIN_NS) / 1_000_000)
    }

    fn report_period_ns(&self) -> u64 {
        self.plan.workload.interval_ns.min(1_000_000_000)
    }

    fn report(&mut self, now_ns: u64) {
        let period_ns = self.report_period_ns();
        self.next_report_ns = now_ns + period_ns - now_ns.saturating_sub(self.next_report_ns) % period_ns;
        let measured = self.measured(Some(now_ns));
        let _ = self.plan.reports.send(Report::Measured(measured));
    }

    fn measured(&mut self, now_ns: Option<u64>) -> Measured {
        let (slots, totals) = self.meter.take(now_ns);
        Measured {
            thread: self.plan.thread,
            at_ns: now_ns.unwrap_or_else(|| self.time.now_ns()),
            slots,
            totals,
            lag_records: self.consumers.iter().map(Consumer::lag_records).sum(),
            is_draining: self.stage > Stage::Producing,
        }
    }

    fn is_over(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.last_good_ns) > UNREACHABLE_NS {
            let names: Vec<_> = self.cluster.brokers.values().map(|address| address.name.as_str()).collect();
            let seconds = UNREACHABLE_NS / 1_000_000_000;
            self.ending.gave_up = Some(format!("nothing has come from {} for {seconds} s", names.join(", ")));
            return true;
        }
        if self.stage == Stage::Connecting && now_ns.saturating_sub(self.started_ns) > READY_NS {
            self.ending.gave_up = Some(format!("not ready to begin within {} s", READY_NS / 1_000_000_000));
            return true;
        }
        if let Some(why) = self.members.iter().find_map(Member::failed) {
            self.ending.gave_up = Some(why.to_owned());
            return true;
        }
        if self.plan.stop.load(Ordering::Relaxed) {
            self.ending.gave_up = Some("it was interrupted".into());
            return true;
        }
        let Some(end_due_ns) = self.end_due_ns else { return false };
        let is_catch_up = self.plan.workload.read_mode == ReadMode::CatchUp;
        if now_ns < end_due_ns && !is_catch_up {
            return false;
        }
        if now_ns >= end_due_ns + if is_catch_up { 0 } else { DRAIN_NS } {
            return true;
        }
        if self.stage == Stage::Producing && self.sources.iter().all(|source| source.is_done(now_ns)) {
            self.stage = Stage::Produced;
            self.plan.together.producing.fetch_sub(1, Ordering::AcqRel);
        }
        if self.stage == Stage::Produced && self.plan.together.producing.load(Ordering::Acquire) == 0 {
            self.stage = Stage::Draining;
            self.consumers.iter_mut().for_each(Consumer::drain);
        }
        if self.stage == Stage::Draining && self.consumers.iter().all(Consumer::is_drained) && self.are_members_stable()
        {
            self.stage = Stage::Drained;
            self.plan.together.draining.fetch_sub(1, Ordering::AcqRel);
        }
        self.stage >= Stage::Drained && self.have_members_left(now_ns)
    }

    /// Whatever is left has failed.
    fn end(mut self) {
        let now_ns = self.time.now_ns();
        let why = self.ending.gave_up.clone().unwrap_or_else(|| "not acknowledged by the end of the run".into());
        for source in &mut self.sources {
            source.producer.give_up(now_ns, &why);
        }
        self.account();
        for source in &mut self.sources {
            while let Some(due_ns) = source.take_unsent(now_ns) {
                self.meter.on_failed(&[due_ns], now_ns, 0);
                self.ending.never_sent += 1;
            }
            for (stream, next) in source.producer.sequences() {
                self.ending.sent.entry(stream).or_default().next = next;
            }
        }
        if self.stage <= Stage::Producing {
            self.plan.together.producing.fetch_sub(1, Ordering::AcqRel);
        }
        if self.stage < Stage::Drained {
            self.plan.together.draining.fetch_sub(1, Ordering::AcqRel);
        }
        self.account_received();
        self.complain_for_consumers();
        self.ending.readers = self.readers();
        self.ending.at_ns = now_ns;
        let measured = self.measured(None);
        let _ = self.plan.reports.send(Report::Measured(measured));
        let _ = self.plan.reports.send(Report::Ended(Box::new(self.ending)));
    }

    fn complain_for_consumers(&mut self) {
        let complaints = &mut self.ending.complaints;
        for consumer in &self.consumers {
            complaints.merge(consumer.complaints());
        }
        for member in &self.members {
            complaints.merge(member.complaints().iter());
        }
        complaints.add("records of other runs or other programs were in the topic", self.foreign);
        complaints.add("replies with damaged records came", self.faults);
    }
}
