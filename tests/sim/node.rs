//! One node: a process with its shards, and the disk that outlives it.

use std::collections::{BTreeMap, BTreeSet};

use corelog::base::rng::Rng;
use corelog::base::time::{Instant, Now};
use corelog::broker::shard::Shard;
use corelog::config::Address;

use crate::disk::{DiskFaults, SimDisk};

/// Where the brokers of a world listen for clients, and with [`PEER_PORT`] and the number of the core for each other.
const CLIENT_PORT: u16 = 9092;
const PEER_PORT: u16 = 19092;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process {
    Down,
    Starting,
    Serving,
    Stopping,
}

pub struct Node {
    pub disk: SimDisk,
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
    /// When the last message from one core to another arrives: the next may not overtake it.
    pub mesh_at: BTreeMap<(u16, u16), u64>,
    /// What the broker said since it was started, warnings and worse.
    pub said: Vec<String>,
}

impl Node {
    pub fn new(disk_seed: u64) -> Node {
        Node {
            disk: SimDisk::new(disk_seed),
            slow_times: 1,
            shards: Vec::new(),
            process: Process::Down,
            life: 0,
            booted_at: 0,
            ready: BTreeSet::new(),
            stopped: BTreeSet::new(),
            timers: Vec::new(),
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

    /// Nothing lasts that the world did to its disk.
    pub fn calm_down(&mut self) {
        self.slow_times = 1;
        self.disk.faults = DiskFaults::default();
        self.disk.space_bytes = None;
    }

    /// Its clock, when the world's is at `at`.
    pub fn now(&self, at: u64, wall_ms: i64) -> Now {
        Now { mono: Instant(at - self.booted_at), wall_ms }
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
