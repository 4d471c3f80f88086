//! Gossip with other brokers, where there are any: core 0 carries it on, and every core measures itself for it.
//!
//! Who is suspected is a hint to the controller and decides nothing. Committed metadata it brings to brokers without a
//! vote, and tells them whom to ask for more (`following`). What each core has measured is gathered once a
//! second, some partitions of each core in turn.
//!
//! *Owns*: this broker's part in the gossip, and what a core has told of itself so far. *Never*: takes
//! metadata but in the order of their log. *Runs on*: core 0; measuring on every core.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::disk::{DiskDone, DiskOp, DiskResult};
use crate::base::ids::{CoreId, NodeId};
use crate::base::limits::GOSSIP_GATHERED_MAX;
use crate::base::metric::{Metric, Metrics};
use crate::base::rng::Rng;
use crate::base::stage::{Stage, Stopwatch, Timed};
use crate::base::stage_counts::Snapshot;
use crate::base::time::{Instant, Now};
use crate::broker::brokers;
use crate::broker::control::Control;
use crate::broker::effect::{Effect, Effects};
use crate::broker::greeting::PeerKey;
use crate::broker::message::{ShardMessage, TopicPartition};
use crate::broker::shard::{DeadlineKey, Shard};
use crate::config::Address;
use crate::gossip::report::{CoreReport, DeviceReport, LatencyDigest, NodeReport, Position};
use crate::gossip::{Delta, Gossip, GossipEvent, GossipOut, Member, Seal, Standing};
use crate::meta::MetaStep;

/// How often cores are asked what they have measured.
const GATHER_MS: u64 = 1_000;
/// How often, in gatherings, the data directory is asked how full it is.
const SPACE_GATHERINGS: u64 = 10;
/// The one data directory's place in the settings.
const DEVICE: u8 = 0;

/// On core 0.
#[derive(Debug, Default)]
pub struct Gossiping {
    /// None where nobody can reach this broker.
    gossip: Option<Box<Gossip>>,
    deadline: Option<Instant>,
    gatherings: u64,
    /// The image that `gossip` was told of.
    version: Option<u64>,
    device: DeviceReport,
}

/// What a core has told of itself so far.
#[derive(Debug, Default)]
pub struct Measured {
    /// When it was asked last; before that nobody wants to know.
    told_at: Option<Instant>,
    /// Time that steps took since then.
    busy_ns: u64,
    told_stages: Snapshot,
    next_owner: u32,
}

/// What a core has measured since it was asked before.
#[derive(Debug)]
pub struct Gathered {
    core: CoreReport,
    device_p99_us: u32,
    positions: Vec<(TopicPartition, Position)>,
}

impl Measured {
    /// A step is over that began at `began`.
    #[inline]
    pub fn worked(&mut self, began: Instant, watch: &Stopwatch) {
        if self.told_at.is_some() {
            self.busy_ns += watch.read().since_ns(began);
        }
    }
}

impl Gossiping {
    pub fn add_to(&self, metrics: &mut Metrics) {
        let Some(gossip) = &self.gossip else { return };
        let counts = gossip.counts();
        let are = |wanted| gossip.standings().filter(|(_, standing)| *standing == wanted).count() as u64;
        for (metric, value) in [
            (Metric::GossipAlive, are(Standing::Alive)),
            (Metric::GossipSuspected, are(Standing::Suspected)),
            (Metric::GossipPartitions, gossip.view().partitions() as u64),
            (Metric::MetadataBehind, gossip.behind()),
            (Metric::GossipSent, counts.sent),
            (Metric::GossipSentBytes, counts.sent_bytes),
            (Metric::GossipReceived, counts.received),
            (Metric::GossipReceivedBytes, counts.received_bytes),
            (Metric::GossipRefused, counts.refused.iter().sum()),
        ] {
            metrics.set(metric, value);
        }
    }

    /// What other brokers have told of their cores and devices.
    pub fn nodes(&self) -> Vec<(NodeId, NodeReport)> {
        let Some(gossip) = &self.gossip else { return Vec::new() };
        let report = |(node, view): (NodeId, &crate::gossip::view::NodeView)| {
            let (cores, devices) = (view.cores().copied().collect(), view.devices().copied().collect());
            (node, NodeReport { cores, devices, partitions: BTreeMap::new() })
        };
        gossip.view().nodes().map(report).collect()
    }
}

impl Shard {
    /// Core 0 serves, so the cluster has an id.
    pub(in crate::broker) fn start_gossip(&mut self, now: Now, effects: &mut Effects) {
        let Some(address) = self.config.listeners.peer.clone().filter(|_| self.core() == CoreId(0)) else { return };
        let settings = &self.config.settings;
        let generation = u64::try_from(now.wall_ms).unwrap_or(0).max(1);
        let me = Member { node: NodeId(settings.node_id), generation, address };
        if !me.can_be_told() {
            let host = &me.address.host;
            return tracing::error!("gossip is off: `{host}` (advertised.peer.host) is no name that others can use");
        }
        let seal = Seal::new(self.image.cluster_id(), self.config.peer_key.as_ref().map(PeerKey::bytes));
        let gossip = Gossip::new(me, seal, Rng::new(self.rng.next_u64()), now.mono);
        self.gossiping.gossip = Some(Box::new(gossip));
        self.gather_for_gossip(now, effects);
        self.on_gossip_timeout(now, effects);
    }

    pub(in crate::broker) fn on_datagram(&mut self, from: &Address, data: &Bytes, now: Now, effects: &mut Effects) {
        // What is refused is counted, and told there.
        self.gossip(now, effects, |gossip, out| gossip.on_datagram(from, data, now.mono, out).is_ok());
    }

    pub(in crate::broker) fn on_gossip_timeout(&mut self, now: Now, effects: &mut Effects) {
        self.gossip(now, effects, |gossip, out| gossip.on_timeout(now.mono, out));
    }

    /// Others need not find out that this broker stops.
    pub(in crate::broker) fn leave_gossip(&mut self, now: Now, effects: &mut Effects) {
        self.gossip(now, effects, |gossip, out| gossip.leave(now.mono, out));
        self.gossiping.gossip = None;
        if let Some(at) = self.gossiping.deadline.take() {
            self.deadlines.clear(at, DeadlineKey::Gossip);
        }
    }

    /// As the controller this broker has had these committed, and tells others of it.
    pub(in crate::broker) fn tell_steps(&mut self, steps: Vec<MetaStep>, now: Now, effects: &mut Effects) {
        self.gossip(now, effects, |gossip, _| {
            for MetaStep { to, bytes } in steps {
                gossip.on_committed(Delta { from: to - 1, to, bytes: bytes.into() }, now.mono);
            }
        });
    }

    /// Does something with the gossip, if there is any, and carries out what comes of it.
    fn gossip<T>(&mut self, now: Now, effects: &mut Effects, act: impl FnOnce(&mut Gossip, &mut GossipOut) -> T) {
        let Some(gossip) = &mut self.gossiping.gossip else { return };
        let mut out = GossipOut::default();
        gossip.set_version(self.control.as_ref().map_or(0, Control::version));
        act(gossip, &mut out);
        let next = gossip.next_deadline();
        for (to, data) in out.datagrams {
            effects.push(Effect::Datagram { to, data });
        }
        if next != self.gossiping.deadline {
            if let Some(at) = self.gossiping.deadline {
                self.deadlines.clear(at, DeadlineKey::Gossip);
            }
            self.gossiping.deadline = next;
            next.into_iter().for_each(|at| self.deadlines.set(at, DeadlineKey::Gossip));
        }
        for event in out.events {
            self.on_gossip_event(event, now, effects);
        }
    }

    fn on_gossip_event(&mut self, event: GossipEvent, now: Now, effects: &mut Effects) {
        match event {
            GossipEvent::Changed(node, Standing::Alive) => tracing::info!(node = node.0, "a broker is heard of"),
            GossipEvent::Changed(node, Standing::Suspected) => {
                tracing::info!(node = node.0, "a broker does not answer");
                brokers::on_suspected(self, node, now);
            }
            GossipEvent::Changed(node, Standing::Gone) => {
                tracing::info!(node = node.0, "a broker seems to be gone");
                brokers::on_suspected(self, node, now);
            }
            GossipEvent::Delta(delta) => self.on_step_told(&delta.bytes, now, effects),
            GossipEvent::Ahead { ask } => self.on_ahead_told(ask, now, effects),
            GossipEvent::DeltaGap { have, seen, ask } => {
                tracing::debug!(have, seen, node = ask.0, "another broker has later metadata");
                self.pull_from(ask, now, effects);
            }
        }
    }

    /// Asks all cores what they have measured, and tells the gossip what the metadata say.
    pub(in crate::broker) fn gather_for_gossip(&mut self, now: Now, effects: &mut Effects) {
        let Some(gossip) = &mut self.gossiping.gossip else { return };
        let version = self.image.offset();
        if self.gossiping.version.replace(version) != Some(version) {
            gossip.set_brokers(self.image.brokers().map(|broker| (broker.id, broker.peer.clone())));
            let (image, me) = (&self.image, gossip.me().node);
            let is_led =
                |topic, partition| image.partition(topic, partition).is_some_and(|state| state.leader() == Some(me));
            gossip.keep_partitions(|(topic, partition)| is_led(*topic, *partition));
            gossip.view_mut().keep_topics(|topic| image.topic_by_id(topic).is_some());
        }
        self.deadlines.set(now.mono.after_ms(GATHER_MS), DeadlineKey::Gather);
        self.gossiping.gatherings += 1;
        if self.gossiping.gatherings % SPACE_GATHERINGS == 1 {
            let token = self.partitions.gossip_space_token();
            effects.push(Effect::Disk { token, op: DiskOp::Space });
        }
        // Where there are no others nobody wants to know, and no core looks at the clock for it.
        if self.image.has_brokers() {
            for core in 0..self.config.cores {
                self.send(CoreId(core), ShardMessage::Gather, effects);
            }
        }
    }

    /// How full the volume of the data directory is.
    pub(in crate::broker) fn on_gossip_space(&mut self, result: DiskResult) {
        if let Ok(DiskDone::Space { total_bytes, usable_bytes }) = result {
            let used = u128::from(total_bytes.saturating_sub(usable_bytes));
            self.gossiping.device.full_permille = (used * 1000 / u128::from(total_bytes.max(1))) as u16;
        }
    }

    pub(in crate::broker) fn on_gather(&mut self, from: CoreId, now: Now, effects: &mut Effects) {
        let stages = self.sessions.stages();
        let since = stages.since(&self.measured.told_stages);
        let produce = since.histogram(Timed::Produce, Stage::Total as usize);
        let us = |ns: u64| u32::try_from(ns / 1_000).unwrap_or(u32::MAX);
        let latency = LatencyDigest {
            requests: u32::try_from(produce.count()).unwrap_or(u32::MAX),
            p50_us: us(produce.value_at(0.5)),
            p99_us: us(produce.value_at(0.99)),
            max_us: us(produce.max_ns()),
        };
        let passed_ns = self.measured.told_at.replace(now.mono).map_or(0, |at| now.mono.since_ns(at));
        let busy_ns = std::mem::take(&mut self.measured.busy_ns);
        let load_permille = (busy_ns.saturating_mul(1000) / passed_ns.max(1)).min(1000) as u16;
        self.measured.told_stages = stages;
        let gathered = Gathered {
            core: CoreReport { core: self.core(), load_permille, latency },
            device_p99_us: us(since.histogram(Timed::Produce, Stage::DeviceWrite as usize).value_at(0.99)),
            positions: self.next_positions(),
        };
        self.send(from, ShardMessage::Gathered(Box::new(gathered)), effects);
    }

    /// Of some partitions that are led here, on from the last ones.
    fn next_positions(&mut self) -> Vec<(TopicPartition, Position)> {
        let owners = self.partitions.owner_numbers().end;
        let first = if self.measured.next_owner < owners { self.measured.next_owner } else { 0 };
        let end = owners.min(first.saturating_add(GOSSIP_GATHERED_MAX));
        self.measured.next_owner = end;
        let mut positions = Vec::new();
        for owner in first..end {
            let Some(partition) = self.partitions.by_owner(owner).filter(|partition| partition.is_leader()) else {
                continue;
            };
            let Some(name) = self.partitions.name_of(owner) else { continue };
            let (log_end, high_watermark) = (partition.log_end(), partition.high_watermark());
            positions.push((name, Position { epoch: partition.epoch(), log_end, high_watermark }));
        }
        positions
    }

    pub(in crate::broker) fn on_gathered(&mut self, gathered: Gathered) {
        let Some(gossip) = &mut self.gossiping.gossip else { return };
        let device = &mut self.gossiping.device;
        device.device = DEVICE;
        // The slowest core's of this gathering: core 0 is asked first.
        let before = if gathered.core.core == CoreId(0) { 0 } else { device.p99_us };
        device.p99_us = before.max(gathered.device_p99_us);
        let positions = gathered.positions.into_iter();
        gossip.report(NodeReport {
            cores: vec![gathered.core],
            devices: vec![*device],
            partitions: positions.map(|(name, position)| ((name.topic, name.partition), position)).collect(),
        });
    }
}
