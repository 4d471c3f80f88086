//! One generator thread: hands records over when they are due, and moves bytes between producers and brokers.
//!
//! It spins while the next record is due within a millisecond, and otherwise sleeps until an event.
//!
//! *Owns*: the poll, the connections of its producers, the clock. *Never*: waits for a broker, decides what is sent.
//! *Runs on*: a processor of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use mio::{Events, Poll, Token};

use crate::base::histogram::Histogram;
use crate::bench::connection::{Connection, State, Visit};
use crate::bench::control::Cluster;
use crate::bench::meter::{Frame, Meter, Slot};
use crate::bench::producer::{Finished, Node, Outcome, Producer};
use crate::bench::result::Counts;
use crate::bench::schedule::Schedule;
use crate::bench::scout::{Answer, Mailbox, Question};
use crate::bench::workload::Workload;
use crate::shell::clock::Clock;

/// Records of one producer between two looks at the sockets.
const CHUNK_RECORDS: usize = 256;

/// A record due within this is waited for without sleeping.
const SPIN_NS: u64 = 1_000_000;

/// What comes round at least this often: overdue replies, wishes, the end.
const TICK_NS: u64 = 50_000_000;

const RECONNECT_NS: u64 = 100_000_000;

/// Without any broker for this long, the run is over.
const UNREACHABLE_NS: u64 = 10_000_000_000;

/// After the last record was due, how long replies are waited for.
const DRAIN_NS: u64 = 30_000_000_000;

/// A connection that has lasted this long, and from which nothing is owed, stands.
const SETTLED_NS: u64 = 1_000_000_000;

const SCRATCH_BYTES: usize = 256 << 10;

/// The token of the waker; connections have the ones below.
pub const WAKE: Token = Token(usize::MAX);

/// Messages to the thread that collects.
pub enum Report {
    /// Every connection stands and every consumer is in its place.
    Ready,
    Measured {
        slots: Vec<Slot>,
        totals: Counts,
    },
    Ended(Box<Ending>),
}

/// What is left when a thread has ended.
#[derive(Debug)]
pub struct Ending {
    pub connect: Histogram,
    pub complaints: BTreeMap<String, u64>,
    /// Why it ended before its time.
    pub gave_up: Option<String>,
    /// When, on the run's clock.
    pub at_ns: u64,
    /// Records that were due and never sent.
    pub never_sent: u64,
}

/// What a thread begins with.
pub struct Plan {
    pub workload: Arc<Workload>,
    pub clock: Clock,
    pub cluster: Arc<Cluster>,
    pub poll: Poll,
    pub mailbox: Mailbox,
    pub answers: Receiver<Answer>,
    pub questions: Sender<(Question, Mailbox)>,
    pub reports: Sender<Report>,
    pub stop: Arc<AtomicBool>,
    /// With the number of each over the whole run.
    pub producers: Vec<(u32, Producer)>,
    pub cpu: Option<usize>,
}

struct Driver {
    plan: Plan,
    sources: Vec<Source>,
    links: Vec<Link>,
    cluster: Arc<Cluster>,
    meter: Meter,
    /// Of the wall, at the clock's zero.
    wall_zero_ms: i64,
    /// Records due from then on are not sent. Known when the run has begun.
    end_due_ns: Option<u64>,
    asked_cluster: bool,
    ask_cluster_from_ns: u64,
    last_good_ns: u64,
    next_tick_ns: u64,
    next_report_ns: u64,
    ready_told: bool,
    scratch: Vec<u8>,
    ending: Ending,
}

/// A producer and what drives it.
struct Source {
    index: u32,
    producer: Producer,
    schedule: Option<Schedule>,
    /// Its memory was full when a record was due.
    is_blocked: bool,
    /// Until then it was.
    blocked_until_ns: u64,
    asked_id: bool,
    retries_counted: u64,
}

/// The connection of one producer to one broker.
struct Link {
    source: usize,
    node: Node,
    connection: Option<Connection>,
    /// There may be something to read.
    readable: bool,
    connect_from_ns: u64,
}

/// Runs a thread to its end.
pub fn drive(mut plan: Plan) {
    if let Some(id) = plan.cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let now = plan.clock.now();
    let sources = std::mem::take(&mut plan.producers).into_iter().map(|(index, producer)| Source {
        index,
        producer,
        schedule: None,
        is_blocked: false,
        blocked_until_ns: 0,
        asked_id: false,
        retries_counted: 0,
    });
    let mut driver = Driver {
        sources: sources.collect(),
        links: Vec::new(),
        cluster: plan.cluster.clone(),
        meter: Meter::new(Frame::new(u64::MAX, 1, 0)),
        wall_zero_ms: now.wall_ms - (now.mono.0 / 1_000_000) as i64,
        end_due_ns: None,
        asked_cluster: false,
        ask_cluster_from_ns: 0,
        last_good_ns: now.mono.0,
        next_tick_ns: 0,
        next_report_ns: u64::MAX,
        ready_told: false,
        scratch: vec![0; SCRATCH_BYTES],
        ending: Ending {
            connect: Histogram::of_client(),
            complaints: BTreeMap::new(),
            gave_up: None,
            at_ns: 0,
            never_sent: 0,
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
            let now_ns = self.now_ns();
            if now_ns >= self.next_tick_ns {
                self.next_tick_ns = now_ns + TICK_NS;
                self.tick(now_ns);
            }
            if now_ns >= self.next_report_ns {
                self.report(now_ns);
            }
            self.generate();
            self.send();
            self.account();
            if self.is_over(now_ns) {
                break;
            }
            let timeout = self.timeout(self.now_ns());
            if let Err(error) = self.plan.poll.poll(&mut events, timeout)
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

    #[inline]
    fn now_ns(&self) -> u64 {
        self.plan.clock.instant().0
    }

    /// Hands over what is due.
    fn generate(&mut self) {
        let Some(end_due_ns) = self.end_due_ns else { return };
        for source in &mut self.sources {
            let mut now_ns = self.plan.clock.instant().0;
            let wall_ms = self.wall_zero_ms + (now_ns / 1_000_000) as i64;
            if source.is_blocked && source.producer.has_room() {
                source.is_blocked = false;
                source.blocked_until_ns = now_ns;
            }
            source.producer.on_time(now_ns);
            let Some(schedule) = &mut source.schedule else {
                let mut count = 0;
                while now_ns < end_due_ns && count < CHUNK_RECORDS && source.producer.has_room() {
                    if count % 16 == 0 {
                        now_ns = self.plan.clock.instant().0;
                    }
                    source.producer.push(now_ns, now_ns, wall_ms);
                    self.meter.on_sent(now_ns, 0);
                    count += 1;
                }
                continue;
            };
            for _ in 0..CHUNK_RECORDS {
                let due_ns = schedule.due_ns();
                if due_ns > now_ns || due_ns >= end_due_ns {
                    break;
                }
                if !source.producer.has_room() {
                    source.is_blocked = true;
                    break;
                }
                source.producer.push(due_ns, now_ns, wall_ms);
                // That the broker did not take more is not the generator's lateness.
                self.meter.on_sent(due_ns, now_ns.saturating_sub(due_ns.max(source.blocked_until_ns)));
                schedule.advance();
            }
        }
    }

    fn send(&mut self) {
        for place in 0..self.links.len() {
            let link = &mut self.links[place];
            let Some(connection) = &mut link.connection else { continue };
            let producer = &mut self.sources[link.source].producer;
            if connection.state() != State::Open {
                continue;
            }
            while connection.has_room() {
                let now_ns = self.plan.clock.instant().0;
                let Some(frame) = producer.poll_request(link.node, now_ns) else { break };
                connection.send(frame);
            }
            if connection.has_output()
                && let Err(why) = connection.write()
            {
                self.on_lost(place, &why);
            }
        }
    }

    /// Takes note of the batches that are done with.
    fn account(&mut self) {
        let now_ns = self.now_ns();
        for source in &mut self.sources {
            while let Some(Finished { batch, at_ns, outcome }) = source.producer.poll_finished() {
                match outcome {
                    Outcome::Acked => self.meter.on_acked(&batch.due_ns, at_ns, batch.value_bytes),
                    Outcome::Failed(why) => {
                        *self.ending.complaints.entry(why).or_default() += batch.records() as u64;
                        self.meter.on_failed(&batch.due_ns, at_ns, batch.value_bytes);
                    }
                }
                source.producer.recycle(batch);
            }
            let retries = source.producer.retries - source.retries_counted;
            if retries > 0 {
                source.retries_counted = source.producer.retries;
                self.meter.count(now_ns, |counts| counts.retries += retries);
            }
        }
    }

    fn on_event(&mut self, place: usize, readable: bool) {
        let Some(link) = self.links.get_mut(place) else { return };
        let Some(connection) = &mut link.connection else { return };
        link.readable |= readable;
        match connection.check_connected() {
            Ok(false) => {}
            Ok(true) => {
                let took_ns = self.plan.clock.instant().0.saturating_sub(connection.started_ns());
                self.ending.connect.record(took_ns);
            }
            Err(why) => self.on_lost(place, &why),
        }
    }

    fn receive(&mut self) {
        for place in 0..self.links.len() {
            if !self.links[place].readable {
                continue;
            }
            if let Err(why) = self.receive_from(place) {
                self.on_lost(place, &why);
            }
        }
    }

    fn receive_from(&mut self, place: usize) -> Result<(), String> {
        let link = &mut self.links[place];
        let Some(connection) = &mut link.connection else { return Ok(()) };
        if connection.state() != State::Open {
            link.readable = false;
            return Ok(());
        }
        let read = connection.read(&mut self.scratch);
        let at_ns = self.plan.clock.instant().0;
        // What came before the end counts.
        while let Some(frame) = connection.next_frame()? {
            self.sources[link.source].producer.on_reply(link.node, frame, at_ns)?;
            self.last_good_ns = at_ns;
        }
        link.readable = read? == Visit::More;
        Ok(())
    }

    fn on_lost(&mut self, place: usize, why: &str) {
        let now_ns = self.now_ns();
        let link = &mut self.links[place];
        let Some(connection) = link.connection.take() else { return };
        connection.close(self.plan.poll.registry());
        link.readable = false;
        link.connect_from_ns = now_ns + RECONNECT_NS;
        self.sources[link.source].producer.on_disconnect(link.node, now_ns);
        let name = self.cluster.brokers.get(&link.node).map_or("a broker", |address| &address.name);
        *self.ending.complaints.entry(format!("{name} {why}")).or_default() += 1;
    }

    fn take_answers(&mut self) {
        while let Ok(answer) = self.plan.answers.try_recv() {
            let now_ns = self.now_ns();
            match answer {
                Answer::Cluster(Ok(cluster)) => {
                    self.asked_cluster = false;
                    self.ask_cluster_from_ns = now_ns + RECONNECT_NS;
                    self.cluster = cluster;
                    self.on_cluster();
                }
                Answer::Cluster(Err(error)) => {
                    self.asked_cluster = false;
                    self.ask_cluster_from_ns = now_ns + RECONNECT_NS;
                    *self.ending.complaints.entry(error.to_string()).or_default() += 1;
                }
                Answer::ProducerId(place, answer) => {
                    self.sources[place].asked_id = false;
                    match answer {
                        Ok((id, epoch)) => self.sources[place].producer.on_producer_id(id, epoch),
                        Err(error) => *self.ending.complaints.entry(error.to_string()).or_default() += 1,
                    }
                }
                Answer::Start(start_ns) => self.begin(start_ns),
            }
        }
    }

    fn begin(&mut self, start_ns: u64) {
        let workload = &self.plan.workload;
        let frame = Frame::new(start_ns + workload.warmup_ns, workload.interval_ns, workload.duration_ns);
        self.end_due_ns = Some(frame.start_ns + workload.duration_ns);
        self.meter = Meter::new(frame);
        self.next_report_ns = start_ns + workload.interval_ns.min(1_000_000_000);
        if workload.is_open_loop() {
            let rate = workload.rate / f64::from(workload.producers);
            for source in &mut self.sources {
                let place = (source.index, workload.producers);
                source.schedule = Some(Schedule::new(start_ns, rate, workload.spacing, place, workload.seed));
            }
        }
    }

    /// Leaders may have moved: producers are told, and connected to whom they need.
    fn on_cluster(&mut self) {
        for (place, source) in self.sources.iter_mut().enumerate() {
            source.producer.on_leaders(&self.cluster.leaders);
            for node in source.producer.nodes() {
                if !self.links.iter().any(|link| link.source == place && link.node == node) {
                    let link = Link { source: place, node, connection: None, readable: false, connect_from_ns: 0 };
                    self.links.push(link);
                }
            }
        }
        self.next_tick_ns = 0;
    }

    /// What need not be looked at all the time.
    fn tick(&mut self, now_ns: u64) {
        for place in 0..self.links.len() {
            self.check_link(place, now_ns);
        }
        self.ask(now_ns);
        let connected = |link: &Link| link.connection.as_ref().is_some_and(|c| c.state() == State::Open);
        let identified = self.sources.iter().all(|source| !source.producer.wishes().producer_id);
        if !self.ready_told && identified && self.links.iter().all(connected) {
            self.ready_told = true;
            self.last_good_ns = now_ns;
            let _ = self.plan.reports.send(Report::Ready);
        }
        if self.end_due_ns.is_none() && self.ready_told {
            self.last_good_ns = now_ns;
        }
    }

    fn check_link(&mut self, place: usize, now_ns: u64) {
        let link = &self.links[place];
        let producer = &self.sources[link.source].producer;
        let Some(connection) = &link.connection else {
            let needed = producer.needs(link.node) || self.cluster.leaders.contains(&Some(link.node));
            if needed && link.connect_from_ns <= now_ns {
                self.connect(place, now_ns);
            }
            return;
        };
        let age_ns = now_ns.saturating_sub(connection.started_ns());
        let owed = producer.needs(link.node) && self.plan.workload.acks != 0;
        if connection.state() == State::Connecting {
            if age_ns > UNREACHABLE_NS / 2 {
                self.on_lost(place, "does not take connections: nothing came back");
            } else {
                self.on_event(place, false);
            }
        } else if producer.is_overdue(link.node, now_ns) {
            self.on_lost(place, "does not answer: no reply within --request-timeout");
        } else if !owed && age_ns > SETTLED_NS {
            self.last_good_ns = now_ns;
        }
    }

    fn ask(&mut self, now_ns: u64) {
        let mut wanted = false;
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

    fn connect(&mut self, place: usize, now_ns: u64) {
        let link = &mut self.links[place];
        let Some(address) = self.cluster.brokers.get(&link.node) else { return };
        match Connection::open(address.socket, self.plan.poll.registry(), Token(place), now_ns) {
            Ok(connection) => link.connection = Some(connection),
            Err(error) => {
                link.connect_from_ns = now_ns + RECONNECT_NS;
                let complaint = format!("{} cannot be connected to: {error}", address.name);
                *self.ending.complaints.entry(complaint).or_default() += 1;
            }
        }
    }

    /// How long to wait for events.
    fn timeout(&self, now_ns: u64) -> Option<Duration> {
        let mut next_ns = self.next_tick_ns.min(self.next_report_ns);
        if self.links.iter().any(|link| link.readable) {
            return Some(Duration::ZERO);
        }
        for source in &self.sources {
            next_ns = next_ns.min(source.producer.next_time_ns().unwrap_or(u64::MAX));
            let Some(end_due_ns) = self.end_due_ns else { continue };
            match &source.schedule {
                Some(schedule) if !source.is_blocked && schedule.due_ns() < end_due_ns => {
                    next_ns = next_ns.min(schedule.due_ns());
                }
                None if now_ns < end_due_ns && source.producer.has_room() => return Some(Duration::ZERO),
                _ => {}
            }
        }
        let wait_ns = next_ns.saturating_sub(now_ns);
        // The system sleeps in whole milliseconds and wakes up late.
        match wait_ns.saturating_sub(SPIN_NS) / 1_000_000 {
            0 => Some(Duration::ZERO),
            ms => Some(Duration::from_millis(ms)),
        }
    }

    fn report(&mut self, now_ns: u64) {
        let period_ns = self.plan.workload.interval_ns.min(1_000_000_000);
        self.next_report_ns += period_ns * (now_ns.saturating_sub(self.next_report_ns) / period_ns + 1);
        let (slots, totals) = self.meter.take(Some(now_ns));
        let _ = self.plan.reports.send(Report::Measured { slots, totals });
    }

    fn is_over(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.last_good_ns) > UNREACHABLE_NS {
            let names: Vec<_> = self.cluster.brokers.values().map(|address| address.name.as_str()).collect();
            let seconds = UNREACHABLE_NS / 1_000_000_000;
            self.ending.gave_up = Some(format!("nothing has come from {} for {seconds} s", names.join(", ")));
            return true;
        }
        if self.plan.stop.load(Ordering::Relaxed) {
            self.ending.gave_up = Some("it was interrupted".into());
            return true;
        }
        let Some(end_due_ns) = self.end_due_ns.filter(|end_due_ns| now_ns >= *end_due_ns) else { return false };
        let sent = |source: &Source| source.schedule.as_ref().is_none_or(|schedule| schedule.due_ns() >= end_due_ns);
        let drained = self.sources.iter().all(|source| sent(source) && source.producer.is_idle());
        drained || now_ns >= end_due_ns + DRAIN_NS
    }

    /// Whatever is left has failed.
    fn end(mut self) {
        let now_ns = self.now_ns();
        let why = self.ending.gave_up.clone().unwrap_or_else(|| "not acknowledged by the end of the run".into());
        for source in &mut self.sources {
            source.producer.give_up(now_ns, &why);
        }
        self.account();
        if let Some(end_due_ns) = self.end_due_ns {
            for source in &mut self.sources {
                let Some(schedule) = &mut source.schedule else { continue };
                while schedule.due_ns() < end_due_ns.min(now_ns) {
                    self.meter.on_failed(&[schedule.due_ns()], now_ns, 0);
                    self.ending.never_sent += 1;
                    schedule.advance();
                }
            }
        }
        self.ending.at_ns = now_ns;
        let (slots, totals) = self.meter.take(None);
        let _ = self.plan.reports.send(Report::Measured { slots, totals });
        let _ = self.plan.reports.send(Report::Ended(Box::new(self.ending)));
    }
}
