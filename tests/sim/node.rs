//! One node: a process with its shards, and the disk that outlives it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corelog::base::rng::Rng;
use corelog::base::time::{Instant, Now};
use corelog::broker::shard::Shard;
use corelog::config::Address;

use crate::disk::{DiskFaults, SimDisk};
use crate::world::Event;

/// Where the brokers of a world listen for clients, and with [`PEER_PORT`] and the number of the core for each other.
const CLIENT_PORT: u16 = 9092;
const PEER_PORT: u16 = 19092;

const MILLION: i128 = 1_000_000;

/// A core that has more to do for its deadlines in one instant does nothing else any more.
const TIMERS_AT_ONCE_MAX: u32 = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process {
    Down,
    Starting,
    Serving,
    Stopping,
}

/// How a node's clocks go, against the world's.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Clock {
    /// So many of a million too fast; less than nothing: too slow.
    pub fast_ppm: i128,
    pub wall_ahead_ms: i64,
}

pub struct Node {
    pub disk: SimDisk,
    /// Its data directory was lost once: it is not who began the cluster any more.
    pub was_emptied: bool,
    pub clock: Clock,
    /// How far its clock jumped since this process began.
    pub jumped_ns: u64,
    /// What happens to it waits until the process goes on, in this order.
    pub is_held_up: bool,
    pub waiting: VecDeque<Event>,
    /// Whatever it does takes the processor up to so long at present.
    pub busy_ns: u64,
    /// How much longer its disk takes at present.
    pub slow_times: u64,
    pub shards: Vec<Shard>,
    pub process: Process,
    /// Counts the processes, and their ends.
    pub life: u32,
    pub booted_at: u64,
    pub ready: BTreeSet<u16>,
    pub stopped: BTreeSet<u16>,
    pub timers: Vec<Option<u64>>,
    /// When the last timer was over, and how many were in that instant.
    pub rung: (u64, u32),
    /// When the last message from one core to another arrives: the next may not overtake it.
    pub mesh_at: BTreeMap<(u16, u16), u64>,
    /// What the broker said since it was started, warnings and worse.
    pub said: Vec<String>,
}

impl Node {
    pub fn new(disk_seed: u64, clock: Clock) -> Node {
        Node {
            disk: SimDisk::new(disk_seed),
            was_emptied: false,
            clock,
            jumped_ns: 0,
            is_held_up: false,
            waiting: VecDeque::new(),
            busy_ns: 0,
            slow_times: 1,
            shards: Vec::new(),
            process: Process::Down,
            life: 0,
            booted_at: 0,
            ready: BTreeSet::new(),
            stopped: BTreeSet::new(),
            timers: Vec::new(),
            rung: (0, 0),
            mesh_at: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    /// Its shards are about to be made.
    pub fn begin(&mut self, cores: u16, at: u64) {
        self.life += 1;
        self.process = Process::Starting;
        self.said.clear();
        self.booted_at = at;
        self.jumped_ns = 0;
        self.timers = vec![None; usize::from(cores)];
    }

    /// Forgets everything that was in memory.
    pub fn end(&mut self) {
        self.process = Process::Down;
        self.life += 1;
        self.shards.clear();
        self.ready.clear();
        self.stopped.clear();
        self.mesh_at.clear();
    }

    /// A core's timer is over.
    pub fn ring(&mut self, core: u16, at: u64) {
        let (before, count) = self.rung;
        self.rung = (at, if before == at { count + 1 } else { 1 });
        assert!(self.rung.1 <= TIMERS_AT_ONCE_MAX, "core {core} goes round in circles for its deadlines");
        self.timers[usize::from(core)] = None;
    }

    pub fn is_hindered(&self) -> bool {
        self.is_held_up || self.busy_ns > 0
    }

    /// Something was not written: nothing more is until the next start.
    pub fn is_offline(&self) -> bool {
        let has_failed = |shard: &Shard| {
            shard.directory_failure().is_some() || shard.replicas().any(|(_, replica)| !replica.is_online())
        };
        self.shards.iter().any(has_failed)
    }

    /// Nothing lasts that the world did to its disk.
    pub fn calm_down(&mut self) {
        self.slow_times = 1;
        self.busy_ns = 0;
        self.disk.faults = DiskFaults::default();
        self.disk.space_bytes = None;
    }

    /// Its clocks, when the world's are at `at` and `wall_ms`.
    pub fn clock(&self, at: u64, wall_ms: i64) -> Now {
        Now { mono: self.mono(at), wall_ms: wall_ms + self.clock.wall_ahead_ms }
    }

    /// The first moment at which its clock is at `due`.
    pub fn when(&self, due: Instant) -> u64 {
        let since = i128::from(due.0.saturating_sub(self.jumped_ns));
        let about = since * MILLION / (MILLION + self.clock.fast_ppm);
        let mut at = self.booted_at + (about.max(2) - 2) as u64;
        while self.mono(at) < due {
            at += 1;
        }
        at
    }

    fn mono(&self, at: u64) -> Instant {
        let since = i128::from(at - self.booted_at);
        Instant((since + since * self.clock.fast_ppm / MILLION) as u64 + self.jumped_ns)
    }

    pub fn disk_delay(&self, number: u64, disk_us: u64, rng: &mut Rng) -> u64 {
        let (_, bytes) = self.disk.describe(number);
        let base = 1 + rng.below(disk_us * 1000);
        // Now and then the device has something else to do.
        let spike = if rng.below(200) == 0 { 20 } else { 1 };
        (base * spike + bytes as u64) * self.slow_times
    }
}

/// Where a node's broker is for clients.
pub fn client_address(node: usize) -> Address {
    Address { host: format!("node{node}"), port: CLIENT_PORT }
}

/// Where core 0 of a node's broker is for others.
pub fn peer_address(node: usize) -> Address {
    Address { host: format!("node{node}"), port: PEER_PORT }
}

/// Whose address that is; with the core, if it has so many.
pub fn at_peer_address(address: &Address) -> Option<(usize, u16)> {
    let node = address.host.strip_prefix("node")?.parse().ok()?;
    Some((node, address.port.checked_sub(PEER_PORT)?))
}
