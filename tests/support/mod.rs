//! A broker of several shards in one thread, over a disk in memory: what the tests of decisions stand on.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use corelog::base::disk::{BLOCK_BYTES, DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use corelog::base::ids::{ConnId, CoreId, Incarnation};
use corelog::base::rng::Rng;
use corelog::base::stage::{Arrival, Stopwatch};
use corelog::base::time::{Instant, Now};
use corelog::broker::api::key;
use corelog::broker::effect::{Admission, Effect, Effects, Input, ListenerKind};
use corelog::broker::shard::{Listeners, Shard, ShardConfig};
use corelog::config::{Address, Durability, Settings};
use corelog::wire::codec::Message;
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};

pub mod cluster;

/// The wall clock at the start of every test.
pub const NOW_MS: i64 = 1_700_000_000_000;

/// Files in memory. Every write is whole and durable at once; `space_bytes` makes it full.
#[derive(Default)]
pub struct MemDisk {
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    open: BTreeMap<(u16, FileId), PathBuf>,
    /// Files whose writes need no sync.
    durable: BTreeSet<(u16, FileId)>,
    pub space_bytes: Option<usize>,
    pub failing: Option<Failing>,
    /// Writes, syncs, and whatever else changes a file.
    pub changes: u64,
}

/// What fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failing {
    /// Syncs of open files.
    Syncs,
    /// The syncs within writing a whole small file.
    SmallFiles,
    /// Reads of one file.
    ReadsOf(PathBuf),
    /// Writes of segments, for want of space.
    SegmentWrites,
}

impl MemDisk {
    fn used_bytes(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    fn run(&mut self, core: u16, op: DiskOp) -> DiskResult {
        if let Some(kind) = self.failure(core, &op) {
            return Err(error(kind));
        }
        match op {
            DiskOp::List { dir } => {
                let inside = self.files.iter().filter(|(path, _)| path.parent() == Some(&dir));
                let named = inside
                    .map(|(path, data)| (path.file_name().unwrap().to_str().unwrap().to_owned(), data.len() as u64));
                Ok(DiskDone::Listed(named.collect()))
            }
            DiskOp::Open { file, path, create } => {
                if create {
                    self.files.entry(path.clone()).or_default();
                }
                let len = self.files.get(&path).ok_or_else(|| error(DiskErrorKind::NotFound))?.len() as u64;
                assert!(self.open.insert((core, file), path).is_none(), "file ids are unique");
                Ok(DiskDone::Opened { len })
            }
            DiskOp::OpenDurable { file, path } => {
                self.durable.insert((core, file));
                self.run(core, DiskOp::Open { file, path, create: true })
            }
            DiskOp::Write { file, position, data } => self.write((core, file), position as usize, data.concat()),
            DiskOp::Sync { .. } => Ok(DiskDone::Done),
            DiskOp::Read { file, position, len } => {
                let content = &self.files[&self.open[&(core, file)]];
                let start = (position as usize).min(content.len());
                let end = (start + len).min(content.len());
                Ok(DiskDone::Read(Bytes::copy_from_slice(&content[start..end])))
            }
            DiskOp::Allocate { file, len } => {
                let path = self.open[&(core, file)].clone();
                let grows = (len as usize).saturating_sub(self.files[&path].len());
                self.check_space(grows)?;
                let content = self.files.get_mut(&path).unwrap();
                let len = content.len().max(len as usize);
                content.resize(len, 0);
                Ok(DiskDone::Done)
            }
            DiskOp::Truncate { file, len } => {
                let path = self.open[&(core, file)].clone();
                self.files.get_mut(&path).unwrap().resize(len as usize, 0);
                Ok(DiskDone::Done)
            }
            DiskOp::Close { file } => {
                assert!(self.open.remove(&(core, file)).is_some());
                Ok(DiskDone::Done)
            }
            DiskOp::Rename { from, to } => self.rename(&from, to),
            DiskOp::Delete { path } => {
                self.files.remove(&path);
                Ok(DiskDone::Done)
            }
            DiskOp::DeleteDir { dir } => {
                self.files.retain(|path, _| path.parent() != Some(&dir));
                Ok(DiskDone::Done)
            }
            DiskOp::Space => Ok(DiskDone::Space { total_bytes: 1 << 40, usable_bytes: 1 << 39 }),
            DiskOp::ReadFile { path } => match self.files.get(&path) {
                Some(content) => Ok(DiskDone::Read(Bytes::copy_from_slice(content))),
                None => Err(error(DiskErrorKind::NotFound)),
            },
            DiskOp::WriteFile { path, data } => {
                self.check_space(data.len())?;
                self.files.insert(path, data.to_vec());
                Ok(DiskDone::Done)
            }
        }
    }

    /// Counts the operation, and says whether it fails.
    fn failure(&mut self, core: u16, op: &DiskOp) -> Option<DiskErrorKind> {
        let reads = matches!(op, DiskOp::List { .. } | DiskOp::Open { .. } | DiskOp::OpenDurable { .. })
            || matches!(op, DiskOp::Read { .. })
            || matches!(op, DiskOp::ReadFile { .. } | DiskOp::Close { .. });
        self.changes += u64::from(!reads);
        match (self.failing.as_ref()?, op) {
            (Failing::Syncs, DiskOp::Sync { .. }) | (Failing::SmallFiles, DiskOp::WriteFile { .. }) => {
                Some(DiskErrorKind::NotSynced)
            }
            (Failing::Syncs, DiskOp::Write { file, .. }) if self.durable.contains(&(core, *file)) => {
                Some(DiskErrorKind::NotSynced)
            }
            (Failing::SegmentWrites, DiskOp::Write { file, .. })
                if self.open[&(core, *file)].extension().is_some_and(|end| end == "log") =>
            {
                Some(DiskErrorKind::Full)
            }
            (Failing::ReadsOf(path), DiskOp::Read { file, .. }) if self.open[&(core, *file)] == *path => {
                Some(DiskErrorKind::Failed)
            }
            _ => None,
        }
    }

    fn rename(&mut self, from: &Path, to: PathBuf) -> DiskResult {
        let content = self.files.remove(from).ok_or_else(|| error(DiskErrorKind::NotFound))?;
        for path in self.open.values_mut().filter(|path| *path == from) {
            path.clone_from(&to);
        }
        self.files.insert(to, content);
        Ok(DiskDone::Done)
    }

    fn write(&mut self, file: (u16, FileId), position: usize, mut bytes: Vec<u8>) -> DiskResult {
        assert!(position.is_multiple_of(BLOCK_BYTES));
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let end = position + bytes.len();
        let path = self.open[&file].clone();
        let grows = end.saturating_sub(self.files[&path].len());
        self.check_space(grows)?;
        let content = self.files.get_mut(&path).unwrap();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[position..end].copy_from_slice(&bytes);
        Ok(DiskDone::Done)
    }

    fn check_space(&self, grows: usize) -> Result<(), DiskError> {
        match self.space_bytes {
            Some(space) if grows > 0 && self.used_bytes() + grows > space => Err(error(DiskErrorKind::Full)),
            _ => Ok(()),
        }
    }

    pub fn has_dir(&self, dir: &str) -> bool {
        self.files.keys().any(|path| path.starts_with(Path::new(dir)))
    }
}

/// Acks on written and on synced records.
pub fn each_durability() -> [Settings; 2] {
    [Durability::Write, Durability::Sync].map(|durability| Settings {
        durability,
        journal_bytes: 1 << 20,
        ..Settings::default()
    })
}

thread_local! {
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

fn read_clock() -> Instant {
    CLOCK.set(CLOCK.get() + 2048);
    Instant(CLOCK.get())
}

fn error(kind: DiskErrorKind) -> DiskError {
    DiskError { kind, message: format!("{kind:?}") }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Client {
    pub core: u16,
    pub conn: ConnId,
}

/// The shards, the disk, the mesh and the clients.
pub struct World {
    pub shards: Vec<Shard>,
    pub disk: MemDisk,
    pub now: Now,
    pub ready: BTreeSet<u16>,
    pub stopped: BTreeSet<u16>,
    pub closed: BTreeSet<Client>,
    /// Messages from core to core so far.
    pub mesh_messages: u64,
    /// While set, disk operations wait instead of completing.
    pub disk_held: bool,
    /// Whether a broker may say that it cannot go on.
    pub may_fail: bool,
    /// Why it cannot.
    pub failure: Option<String>,
    /// Holds the disk from the next reply on.
    pub hold_disk_on_reply: bool,
    /// While set, [`World::run`] does only so many things, in an order that the seed decides, and leaves the rest.
    pub steps_per_run: Option<u64>,
    clock_runs: bool,
    held: Vec<(u16, Effect)>,
    /// What is for other brokers: [`cluster::Cluster`] carries it out.
    peer_effects: VecDeque<(u16, Effect)>,
    inputs: VecDeque<(u16, Input)>,
    replies: BTreeMap<Client, Vec<u8>>,
    /// Disk operations that wait for their turn, which `rng` decides.
    disk_queue: Vec<(u16, corelog::broker::effect::DiskToken, DiskOp)>,
    rng: Rng,
    next_conn: u64,
    next_correlation: i32,
}

impl World {
    pub fn start(cores: u16, settings: Settings, disk: MemDisk) -> World {
        let address = |port| Address { host: "localhost".into(), port };
        let listeners = Listeners {
            shared: address(9092),
            per_core: (0..cores).map(|core| address(9100 + core)).collect(),
            peer: None,
        };
        let mut world = World::boot(cores, settings, listeners, Incarnation([1; 16]), disk);
        world.run();
        assert_eq!(world.ready.len(), usize::from(cores), "every core is ready");
        world
    }

    /// Begins to start; what it asks for has not happened yet.
    fn boot(cores: u16, settings: Settings, listeners: Listeners, incarnation: Incarnation, disk: MemDisk) -> World {
        let settings = Arc::new(settings);
        let shards = (0..cores).map(|core| {
            let (settings, listeners) = (settings.clone(), listeners.clone());
            Shard::new(ShardConfig {
                core: CoreId(core),
                cores,
                settings,
                listeners,
                seed: 42,
                incarnation,
                peer_key: None,
            })
        });
        let mut world = World {
            shards: shards.collect(),
            disk: MemDisk { open: BTreeMap::new(), durable: BTreeSet::new(), ..disk },
            now: Now { mono: Instant(0), wall_ms: NOW_MS },
            ready: BTreeSet::new(),
            stopped: BTreeSet::new(),
            closed: BTreeSet::new(),
            mesh_messages: 0,
            disk_held: false,
            may_fail: false,
            failure: None,
            hold_disk_on_reply: false,
            steps_per_run: None,
            clock_runs: false,
            held: Vec::new(),
            peer_effects: VecDeque::new(),
            inputs: VecDeque::new(),
            replies: BTreeMap::new(),
            disk_queue: Vec::new(),
            rng: Rng::new(7),
            next_conn: 0,
            next_correlation: 0,
        };
        for core in 0..cores {
            let mut effects = Effects::default();
            world.shards[usize::from(core)].boot(world.now, &mut effects);
            world.take_effects(core, &mut effects);
        }
        world
    }

    /// The same data directory after the process is gone; whatever was in flight is lost.
    pub fn restart(self, cores: u16, settings: Settings) -> World {
        World::start(cores, settings, self.disk)
    }

    pub fn connect(&mut self, core: u16, listener: ListenerKind) -> Client {
        self.next_conn += 1;
        let client = Client { core, conn: ConnId(self.next_conn) };
        self.step(core, Input::Opened { conn: client.conn, listener, host: "10.0.0.1".into(), port: 40_000 });
        client
    }

    pub fn disconnect(&mut self, client: Client) {
        self.step(client.core, Input::Closed { conn: client.conn });
        self.run();
    }

    /// Sends a request without waiting.
    pub fn send<M: Message>(&mut self, client: Client, api_key: i16, version: i16, request: &M) {
        self.next_correlation += 1;
        let header =
            RequestHeader { api_key, version, correlation_id: self.next_correlation, client_id: Some("test".into()) };
        let frame = frame::encode_request(&header, request).concat();
        self.send_frame(client, Bytes::from(frame).slice(4..));
    }

    pub fn send_frame(&mut self, client: Client, frame: Bytes) {
        let admission = self.shards[usize::from(client.core)].admit(client.conn, frame.len());
        assert_eq!(admission, Admission::Read);
        self.step(client.core, Input::Frame { conn: client.conn, frame, arrival: Arrival::at(self.now.mono) });
        self.run();
    }

    /// The oldest reply that has arrived, if any.
    pub fn reply<M: Message>(&mut self, client: Client, api_key: i16, version: i16) -> Option<M> {
        let frame = self.reply_frame(client)?;
        let (_, reply) = frame::decode_reply(api_key, version, frame).unwrap();
        Some(reply)
    }

    /// The same as it came, without its length.
    pub fn reply_frame(&mut self, client: Client) -> Option<Bytes> {
        let queue = self.replies.get_mut(&client)?;
        if queue.is_empty() {
            return None;
        }
        let len = u32::from_be_bytes(queue[..4].try_into().unwrap()) as usize;
        Some(queue.drain(..4 + len).skip(4).collect::<Vec<u8>>().into())
    }

    pub fn call<Q: Message, R: Message>(&mut self, client: Client, api_key: i16, version: i16, request: &Q) -> R {
        self.send(client, api_key, version, request);
        self.reply(client, api_key, version).expect("an answer")
    }

    /// Creates a topic that nothing is set of.
    pub fn create(&mut self, client: Client, name: &str, partitions: i32) -> CreateTopicsResponse {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
        let reply: CreateTopicsResponse = self.call(client, key::CREATE_TOPICS, 7, &request);
        assert_eq!(reply.topics[0].error_code, 0, "{reply:?}");
        reply
    }

    pub fn advance_ms(&mut self, ms: u64) {
        let end = self.now.mono.after_ms(ms);
        loop {
            let due = self.shards.iter().filter_map(Shard::next_deadline).min().filter(|due| *due <= end);
            let Some(due) = due else { break };
            self.move_time(due.max(self.now.mono));
            for core in 0..self.shards.len() as u16 {
                self.step(core, Input::Timeout);
            }
            self.run();
        }
        self.move_time(end);
    }

    /// From now on each reading of the clock is a little later than the one before, at and within steps. Before, time
    /// stands still but for [`World::advance_ms`].
    pub fn run_clock(&mut self) {
        CLOCK.set(self.now.mono.0);
        self.clock_runs = true;
    }

    pub fn stop(&mut self) {
        for core in 0..self.shards.len() as u16 {
            self.step(core, Input::Stop);
        }
        self.run();
    }

    /// Lets held disk operations complete.
    pub fn release_disk(&mut self) {
        self.disk_held = false;
        for (core, effect) in std::mem::take(&mut self.held) {
            self.take_effect(core, effect);
        }
        self.run();
    }

    /// Until nothing is left to happen without time passing. Disk operations complete in a seeded order.
    pub fn run(&mut self) {
        if let Some(steps) = self.steps_per_run {
            return (0..steps).for_each(|_| self.run_any());
        }
        loop {
            if let Some((core, input)) = self.inputs.pop_front() {
                self.step(core, input);
            } else if !self.disk_queue.is_empty() {
                self.run_disk();
            } else {
                return;
            }
        }
    }

    fn run_disk(&mut self) {
        let pick = self.rng.below(self.disk_queue.len() as u64) as usize;
        let (core, token, op) = self.disk_queue.swap_remove(pick);
        let result = self.disk.run(core, op);
        self.step(core, Input::Disk { token, result });
    }

    /// One of the things that can happen next, as the seed has it: what one core sends another keeps its order.
    fn run_any(&mut self) {
        let waiting = (self.inputs.len() + self.disk_queue.len()) as u64;
        if waiting == 0 {
            return;
        }
        let pick = self.rng.below(waiting) as usize;
        if pick >= self.inputs.len() {
            return self.run_disk();
        }
        let way = |(to, input): &(u16, Input)| match input {
            Input::FromShard { from, .. } => (*to, Some(*from)),
            _ => (*to, None),
        };
        let of = way(&self.inputs[pick]);
        let first = self.inputs.iter().position(|input| way(input) == of).expect("the one that was picked");
        let (core, input) = self.inputs.remove(first).expect("it is there");
        self.step(core, input);
    }

    fn move_time(&mut self, to: Instant) {
        let to = to.max(self.now.mono);
        CLOCK.set(to.0);
        self.now.wall_ms += (to.since_ns(self.now.mono) / 1_000_000) as i64;
        self.now.mono = to;
    }

    fn step(&mut self, core: u16, input: Input) {
        let mut effects = Effects::default();
        if self.clock_runs {
            self.now.mono = read_clock();
            effects = Effects::timed_by(Stopwatch::new(read_clock));
        }
        self.shards[usize::from(core)].step(input, self.now, &mut effects);
        self.take_effects(core, &mut effects);
    }

    fn take_effects(&mut self, core: u16, effects: &mut Effects) {
        let list: Vec<Effect> = effects.drain().collect();
        for effect in list {
            self.take_effect(core, effect);
        }
    }

    fn take_effect(&mut self, core: u16, effect: Effect) {
        match effect {
            Effect::Disk { .. } if self.disk_held => self.held.push((core, effect)),
            Effect::Disk { token, op } => self.disk_queue.push((core, token, op)),
            Effect::Send { conn, data } => {
                self.disk_held |= std::mem::take(&mut self.hold_disk_on_reply);
                let bytes = data.concat();
                let began = if self.clock_runs { read_clock() } else { self.now.mono };
                self.inputs.push_back((core, Input::Drained { conn, bytes: bytes.len(), began }));
                self.replies.entry(Client { core, conn }).or_default().extend(bytes);
            }
            Effect::Close { conn } => {
                self.closed.insert(Client { core, conn });
                self.inputs.push_back((core, Input::Closed { conn }));
            }
            Effect::Abort { conn } => {
                self.closed.insert(Client { core, conn });
                self.inputs.push_back((core, Input::Closed { conn }));
            }
            Effect::Resume { .. } => {}
            Effect::ToShard { to, message } => {
                self.mesh_messages += 1;
                self.inputs.push_back((to.0, Input::FromShard { from: CoreId(core), message }));
            }
            Effect::PeerOpen { .. } | Effect::PeerSend { .. } | Effect::PeerClose { .. } | Effect::Datagram { .. } => {
                self.peer_effects.push_back((core, effect));
            }
            Effect::Ready => assert!(self.ready.insert(core)),
            Effect::Stopped => assert!(self.stopped.insert(core)),
            Effect::Fatal { message } => {
                assert!(self.may_fail, "fatal: {message}");
                self.failure = Some(message);
            }
        }
    }
}
