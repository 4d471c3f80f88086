//! A network of brokers that gossip, in one thread and in a time of its own: the same seed is the same run.
//!
//! *Owns*: the time, and which datagram arrives when, if at all. *Never*: looks into one. *Runs on*: the caller's
//! thread.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use corelog::base::ids::NodeId;
use corelog::base::rng::Rng;
use corelog::base::time::Instant;
use corelog::config::Address;
use corelog::gossip::{Gossip, GossipEvent, GossipOut, Member, Seal};

/// A datagram is this long on its way, in microseconds.
const WAY_US: (u64, u64) = (100, 2_000);
const PORT: u16 = 20_000;
pub struct Network {
    pub now: Instant,
    pub rng: Rng,
    /// Datagrams that are lost, of a hundred.
    pub loss_percent: u64,
    /// No datagram crosses between those on this side and the others.
    pub cut_off: BTreeSet<usize>,
    nodes: Vec<Option<Gossip>>,
    deadlines: BTreeSet<(Instant, usize)>,
    deadline_of: Vec<Option<Instant>>,
    on_their_way: BTreeMap<(Instant, u64), (usize, usize, Bytes)>,
    sent: u64,
    /// What the brokers had to say since it was taken last.
    pub events: Vec<(Instant, usize, GossipEvent)>,
    cluster: String,
    key: Option<Vec<u8>>,
}

pub fn address(node: usize) -> Address {
    Address { host: "192.168.100.100".into(), port: PORT + node as u16 }
}

pub fn member(node: usize, generation: u64) -> Member {
    Member { node: NodeId(node as i32), generation, address: address(node) }
}

#[allow(dead_code)]
impl Network {
    pub fn new(seed: u64, key: Option<&[u8]>) -> Network {
        Network {
            now: Instant(1_000_000_000),
            rng: Rng::new(seed),
            loss_percent: 0,
            cut_off: BTreeSet::new(),
            nodes: Vec::new(),
            deadlines: BTreeSet::new(),
            deadline_of: Vec::new(),
            on_their_way: BTreeMap::new(),
            sent: 0,
            events: Vec::new(),
            cluster: "a cluster".into(),
            key: key.map(<[u8]>::to_vec),
        }
    }

    /// So many that know each other.
    pub fn acquainted(seed: u64, nodes: usize, key: Option<&[u8]>) -> Network {
        let mut network = Network::new(seed, key);
        for node in 0..nodes {
            network.start(node, 100);
        }
        for node in 0..nodes {
            let others: Vec<Member> =
                (0..nodes).filter(|other| *other != node).map(|other| member(other, 100)).collect();
            network.with(node, |gossip, now, out| gossip.introduce(others, now, out));
        }
        network.events.clear();
        network
    }

    pub fn seal(&self) -> Seal {
        Seal::new(&self.cluster, self.key.as_deref())
    }

    /// A run of this broker begins, in place of an earlier one.
    pub fn start(&mut self, node: usize, generation: u64) {
        if node >= self.nodes.len() {
            self.nodes.resize_with(node + 1, || None);
            self.deadline_of.resize(node + 1, None);
        }
        let rng = Rng::new(self.rng.next_u64());
        self.nodes[node] = Some(Gossip::new(member(node, generation), self.seal(), rng, self.now));
        self.set_deadline(node);
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
        self.set_deadline(node);
    }

    pub fn node(&self, node: usize) -> &Gossip {
        self.nodes[node].as_ref().expect("it lives")
    }

    pub fn living(&self) -> impl Iterator<Item = (usize, &Gossip)> {
        self.nodes.iter().enumerate().filter_map(|(node, gossip)| Some((node, gossip.as_ref()?)))
    }

    /// Does something to one broker, and carries out what comes of it.
    pub fn with<T>(&mut self, node: usize, act: impl FnOnce(&mut Gossip, Instant, &mut GossipOut) -> T) -> Option<T> {
        let gossip = self.nodes[node].as_mut()?;
        let mut out = GossipOut::default();
        let result = act(gossip, self.now, &mut out);
        for (to, datagram) in out.datagrams {
            let to = usize::from(to.port.wrapping_sub(PORT));
            if self.rng.below(100) < self.loss_percent || self.cut_off.contains(&to) != self.cut_off.contains(&node) {
                continue;
            }
            self.carry(node, to, datagram);
        }
        self.events.extend(out.events.into_iter().map(|event| (self.now, node, event)));
        self.set_deadline(node);
        Some(result)
    }

    /// A datagram is on its way, whoever made it.
    pub fn carry(&mut self, from: usize, to: usize, datagram: Bytes) {
        self.sent += 1;
        let way_us = WAY_US.0 + self.rng.below(WAY_US.1 - WAY_US.0);
        let at = Instant(self.now.0 + way_us * 1000);
        self.on_their_way.insert((at, self.sent), (from, to, datagram));
    }

    /// The newest datagram that is on its way from one to another.
    pub fn overhear(&self, from: usize, to: usize) -> Option<Bytes> {
        let mut found = self.on_their_way.values().filter(|(source, target, _)| (*source, *target) == (from, to));
        found.next_back().map(|(_, _, datagram)| datagram.clone())
    }

    pub fn run_ms(&mut self, ms: u64) {
        let until = self.now.after_ms(ms);
        while self.step(until) {}
        self.now = until;
    }

    /// Until this holds, looked at after each event; `None` when it does not in so long.
    pub fn run_until(&mut self, ms: u64, mut holds: impl FnMut(&Network) -> bool) -> Option<u64> {
        let (began, until) = (self.now, self.now.after_ms(ms));
        while !holds(self) {
            if !self.step(until) {
                return None;
            }
        }
        Some(self.now.since_ns(began) / 1_000_000)
    }

    /// Whatever is next, if it is not after `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        let arrival = self.on_their_way.first_key_value().map(|((at, _), _)| *at);
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let Some(next) = [arrival, deadline].into_iter().flatten().min().filter(|at| *at <= until) else {
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let Some((_, (from, to, datagram))) = self.on_their_way.pop_first() else { return false };
            if to < self.nodes.len() {
                self.with(to, |gossip, now, out| gossip.on_datagram(&address(from), &datagram, now, out));
            }
        } else if let Some((_, node)) = self.deadlines.pop_first() {
            self.deadline_of[node] = None;
            self.with(node, |gossip, now, out| gossip.on_timeout(now, out));
        }
        true
    }

    fn set_deadline(&mut self, node: usize) {
        if let Some(at) = self.deadline_of[node] {
            self.deadlines.remove(&(at, node));
        }
        self.deadline_of[node] = self.nodes[node].as_ref().and_then(Gossip::next_deadline);
        if let Some(at) = self.deadline_of[node] {
            self.deadlines.insert((at, node));
        }
    }
}
