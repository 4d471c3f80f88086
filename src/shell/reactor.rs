//! The reactor: hands inputs to the shard and carries out its effects.
//!
//! Every task of a core ends up in [`Reactor::on`]. Effects are carried out in order when the step is over; what goes
//! to sockets and to other cores is gathered and leaves once, after all tasks that were ready have run.
//!
//! *Owns*: the shard, the connections' table, the tasks that carry out disk work. *Never*: holds the shard across an
//! await. *Runs on*: every core, one each.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{AsyncReadExt, FutureExt};
use glommio::timer::Timer;

use crate::base::disk::{DiskDone, DiskError, DiskErrorKind, DiskOp};
use crate::base::ids::{ConnId, CoreId, PeerId};
use crate::base::metric::{Metric, Metrics};
use crate::base::time::Instant;
use crate::broker::effect::{Admission, DiskToken, Effect, Effects, Input};
use crate::broker::message::ShardMessage;
use crate::broker::report::Report;
use crate::broker::shard::Shard;
use crate::shell::clock::Clock;
use crate::shell::connection::{Connection, Side};
use crate::shell::counted::CountedMap;
use crate::shell::datagram::Datagrams;
use crate::shell::disk::Disk;
use crate::shell::executor::{self, Signal};
use crate::shell::frames::SCRATCH_BYTES;
use crate::shell::mesh::Mesh;
use crate::shell::peer;
use crate::shell::socket;
use crate::shell::watch::Inbox;

/// Longest sleep of an executor. Under rare races glommio parks with tasks ready to run; this bounds how long.
const PARK_MAX: Duration = Duration::from_millis(100);

/// Connections that are sent to before others have a turn.
const SENDS_PER_TURN: usize = 256;

/// How a core ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Everything is flushed and closed.
    Stopped,
    Fatal {
        message: String,
    },
}

/// What executors say to each other: what their shards do, and what core 0 wants to know.
#[derive(Debug)]
pub enum Between {
    Shard(ShardMessage),
    Ask { round: u64 },
    Tell { round: u64, report: Box<Report> },
}

/// What a reactor is made of.
#[derive(Debug)]
pub struct Parts {
    pub clock: Clock,
    pub shard: Shard,
    pub disk: Disk,
    pub mesh: Mesh<Between>,
    pub datagrams: Option<Rc<Datagrams>>,
    pub peer_frame_bytes_max: usize,
}

#[derive(Debug)]
pub struct Reactor {
    core: CoreId,
    clock: Clock,
    shard: RefCell<Shard>,
    disk: Disk,
    mesh: Mesh<Between>,
    /// What the shell has counted on this core.
    metrics: RefCell<Metrics>,
    /// Reports of all cores, on core 0.
    pub(super) inbox: Inbox,
    /// Waiting to be stepped. Longer than one only when a step's effects end at once.
    inputs: RefCell<VecDeque<Input>>,
    /// Somebody further up the stack is handling `inputs`.
    stepping: Cell<bool>,
    /// Empty between steps; kept for its memory and its stopwatch.
    effects: RefCell<Effects>,
    connections: RefCell<CountedMap<Side, Rc<Connection>>>,
    /// What all connections of the core read into. Nothing stays in it.
    pub(super) scratch: RefCell<Vec<u8>>,
    /// Connections that are being made to other brokers.
    pub(super) connecting: RefCell<HashSet<PeerId>>,
    /// On core 0, if there may be other brokers.
    datagrams: Option<Rc<Datagrams>>,
    /// Longest frame that another broker may answer with.
    pub(super) peer_frame_bytes_max: usize,
    /// Connections with something to send.
    dirty: RefCell<VecDeque<Rc<Connection>>>,
    turn: Signal,
    /// What the timer is set to.
    timer_at: Cell<Instant>,
    timer_moved: Signal,
    pub(super) ready: Signal,
    end: RefCell<Option<End>>,
    ended: Signal,
}

impl Reactor {
    pub fn new(core: CoreId, parts: Parts) -> Rc<Reactor> {
        let Parts { clock, shard, disk, mesh, datagrams, peer_frame_bytes_max } = parts;
        let effects = RefCell::new(Effects::timed_by(clock.stopwatch()));
        Rc::new(Reactor {
            core,
            clock,
            shard: RefCell::new(shard),
            disk,
            mesh,
            metrics: RefCell::default(),
            inbox: Inbox::default(),
            inputs: RefCell::default(),
            stepping: Cell::new(false),
            effects,
            connections: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
            connecting: RefCell::default(),
            datagrams,
            peer_frame_bytes_max,
            dirty: RefCell::default(),
            turn: Signal::default(),
            timer_at: Cell::new(Instant(0)),
            timer_moved: Signal::default(),
            ready: Signal::default(),
            end: RefCell::default(),
            ended: Signal::default(),
        })
    }

    /// Starts the shard and the tasks that serve it.
    pub fn start(self: &Rc<Self>, wakes: UnixStream) {
        glommio::spawn_local(send_what_is_due(self.clone())).detach();
        glommio::spawn_local(keep_time(self.clone())).detach();
        glommio::spawn_local(receive(self.clone(), wakes)).detach();
        // Effects may bring inputs at once; they wait until these are carried out.
        self.stepping.set(true);
        let mut effects = self.effects.take();
        self.shard.borrow_mut().boot(self.clock.now(), &mut effects);
        self.carry_out(&mut effects);
        self.effects.replace(effects);
        self.step_all();
    }

    /// Something happened: steps the shard and carries out what it asks for.
    pub fn on(self: &Rc<Self>, input: Input) {
        self.inputs.borrow_mut().push_back(input);
        if !self.stepping.replace(true) {
            self.step_all();
        }
    }

    /// Whether a frame of this length may be read.
    pub fn admit(&self, conn: ConnId, frame_bytes: usize) -> Admission {
        self.shard.borrow_mut().admit(conn, frame_bytes)
    }

    /// What may be sent before completions have their turn.
    pub fn send_bytes_per_turn(&self) -> usize {
        if self.disk.writes_at_present() {
            executor::SEND_BYTES_PER_TURN_BESIDE_WRITES
        } else {
            executor::SEND_BYTES_PER_TURN
        }
    }

    pub fn instant(&self) -> Instant {
        self.clock.instant()
    }

    pub fn add_connection(&self, connection: Rc<Connection>) {
        let before = self.connections.borrow_mut().insert(connection.side, connection);
        assert!(before.is_none(), "a connection's id is used once");
    }

    pub fn remove_connection(&self, side: Side) {
        self.connections.borrow_mut().remove(&side);
    }

    fn queue(&self, side: Side, data: Vec<Bytes>) {
        if let Some(connection) = self.connections.borrow().get(&side) {
            connection.queue(data);
            self.mark_dirty(connection);
        }
    }

    fn end_connection(&self, side: Side) {
        if let Some(connection) = self.connections.borrow().get(&side) {
            connection.end();
        }
    }

    /// All connections at present, in no particular order.
    pub fn connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().values().cloned().collect()
    }

    pub fn cores(&self) -> usize {
        self.mesh.cores().count()
    }

    /// Asks every core for its report; they come to the inbox.
    pub fn ask_for_reports(&self, round: u64) {
        for core in self.mesh.cores().filter(|core| *core != self.core) {
            self.mesh.push(core, Between::Ask { round });
        }
        self.turn.give();
        self.inbox.put(self.core, round, self.report());
    }

    /// Counts on this core.
    pub fn count(&self, metric: Metric, more: usize) {
        self.metrics.borrow_mut().add(metric, more as u64);
    }

    fn count_disk(&self, op: &DiskOp) {
        match op {
            DiskOp::Write { .. } | DiskOp::WriteFile { .. } => {
                self.count(Metric::DiskWrites, 1);
                self.metrics.borrow_mut().add(Metric::DiskWriteBytes, op.write_bytes());
            }
            DiskOp::Read { .. } => self.count(Metric::DiskReads, 1),
            DiskOp::Sync { .. } => self.count(Metric::DiskSyncs, 1),
            _ => {}
        }
    }

    fn report(&self) -> Report {
        let mut report = self.shard.borrow().report();
        report.metrics.merge(&self.metrics.borrow());
        report
    }

    /// Has the connection's output sent at the end of this turn.
    pub fn mark_dirty(&self, connection: &Rc<Connection>) {
        if !connection.dirty.replace(true) {
            self.dirty.borrow_mut().push_back(connection.clone());
            self.turn.give();
        }
    }

    /// Why the data directory took no more writes, if it did not.
    pub fn directory_failure(&self) -> Option<String> {
        self.shard.borrow().directory_failure().map(str::to_owned)
    }

    /// Waits until the shard has stopped or cannot go on.
    pub async fn end(&self) -> End {
        loop {
            if let Some(end) = self.end.borrow().clone() {
                return end;
            }
            self.ended.wait().await;
        }
    }

    fn step_all(self: &Rc<Self>) {
        debug_assert!(self.stepping.get());
        let mut effects = self.effects.take();
        loop {
            let Some(input) = self.inputs.borrow_mut().pop_front() else { break };
            self.count(Metric::Steps, 1);
            self.shard.borrow_mut().step(input, self.clock.now(), &mut effects);
            self.carry_out(&mut effects);
        }
        self.effects.replace(effects);
        self.stepping.set(false);
        if self.shard.borrow().next_deadline().is_some_and(|at| at < self.timer_at.get()) {
            self.timer_moved.give();
        }
    }

    fn carry_out(self: &Rc<Self>, effects: &mut Effects) {
        for effect in effects.drain() {
            match effect {
                Effect::Send { conn, data } => self.queue(Side::Accepted(conn), data),
                Effect::PeerSend { peer, data } => self.queue(Side::Made(peer), data),
                Effect::Close { conn } => {
                    if let Some(connection) = self.connections.borrow().get(&Side::Accepted(conn)) {
                        connection.closing.set(true);
                        self.mark_dirty(connection);
                    }
                }
                Effect::Abort { conn } => self.end_connection(Side::Accepted(conn)),
                Effect::PeerClose { peer } => {
                    self.connecting.borrow_mut().remove(&peer);
                    self.end_connection(Side::Made(peer));
                }
                Effect::PeerOpen { peer, to } => {
                    self.connecting.borrow_mut().insert(peer);
                    glommio::spawn_local(peer::serve(self.clone(), peer, to)).detach();
                }
                Effect::Datagram { to, data } => {
                    if let Some(datagrams) = &self.datagrams {
                        datagrams.clone().send(to, data);
                    }
                }
                Effect::Resume { conn } => {
                    if let Some(connection) = self.connections.borrow().get(&Side::Accepted(conn)) {
                        connection.resumed.give();
                    }
                }
                Effect::ToShard { to, message } => {
                    self.mesh.push(to, Between::Shard(message));
                    self.count(Metric::MeshMessages, 1);
                    self.turn.give();
                }
                Effect::Disk { token, op } => {
                    self.count_disk(&op);
                    glommio::spawn_local(carry_out_disk(self.clone(), token, op)).detach();
                }
                Effect::Ready => self.ready.give(),
                Effect::Stopped => self.end_with(End::Stopped),
                Effect::Fatal { message } => self.end_with(End::Fatal { message }),
            }
        }
    }

    fn end_with(&self, end: End) {
        self.end.borrow_mut().get_or_insert(end);
        self.ended.give();
    }
}

/// Owned by nobody but the executor: an operation that was started is always finished.
async fn carry_out_disk(reactor: Rc<Reactor>, token: DiskToken, op: DiskOp) {
    let result = reactor.disk.run(op).await;
    match &result {
        Ok(DiskDone::Read(data)) => reactor.count(Metric::DiskReadBytes, data.len()),
        // A file that is not there is an answer.
        Ok(_) | Err(DiskError { kind: DiskErrorKind::NotFound, .. }) => {}
        Err(_) => reactor.count(Metric::DiskFailures, 1),
    }
    reactor.on(Input::Disk { token, result });
}

/// Runs behind all tasks that were ready when the first of them had something to send.
async fn send_what_is_due(reactor: Rc<Reactor>) {
    loop {
        reactor.turn.wait().await;
        reactor.mesh.flush();
        let mut bytes_left = reactor.send_bytes_per_turn();
        for _ in 0..SENDS_PER_TURN {
            if bytes_left == 0 {
                break;
            }
            let Some(connection) = reactor.dirty.borrow_mut().pop_front() else { break };
            connection.dirty.set(false);
            bytes_left -= connection.send(&reactor, bytes_left);
        }
        if !reactor.dirty.borrow().is_empty() {
            reactor.turn.give();
            executor::next_turn().await;
        }
    }
}

async fn keep_time(reactor: Rc<Reactor>) {
    loop {
        let now = reactor.clock.instant();
        let next = reactor.shard.borrow().next_deadline();
        if next.is_some_and(|at| at <= now) {
            reactor.on(Input::Timeout);
            executor::next_turn().await;
            continue;
        }
        let sleep = next.map_or(PARK_MAX, |at| Duration::from_nanos(at.since_ns(now)).min(PARK_MAX));
        reactor.timer_at.set(Instant(now.0 + sleep.as_nanos() as u64));
        let timer = async {
            Timer::new(sleep).await;
        };
        timer.or(reactor.timer_moved.wait()).await;
    }
}

async fn receive(reactor: Rc<Reactor>, wakes: UnixStream) {
    let mut wakes = socket::into_stream(wakes);
    let mut bytes = [0; 16];
    loop {
        let read = wakes.read(&mut bytes).await;
        assert!(read.is_ok_and(|read| read > 0), "the lanes outlive the executors");
        reactor.mesh.take_wake();
        for from in reactor.mesh.cores() {
            let messages = reactor.mesh.receive(from);
            let many = messages.len() > SENDS_PER_TURN;
            for message in messages {
                match message {
                    Between::Shard(message) => reactor.on(Input::FromShard { from, message }),
                    Between::Ask { round } => {
                        let report = Box::new(reactor.report());
                        reactor.mesh.push(from, Between::Tell { round, report });
                    }
                    Between::Tell { round, report } => reactor.inbox.put(from, round, *report),
                }
            }
            if many {
                executor::next_turn().await;
            }
        }
        // Perhaps it was a receiver that has made room.
        reactor.turn.give();
    }
}
