//! The replicas of a core among those on other brokers: who follows whom, what is fetched, who is in sync.
//!
//! What the metadata decides of a partition is put into effect on the core that owns it. Its followers ask the core of
//! their leader, all those with the same one together; leaders propose in-sync sets to core 0.
//!
//! *Owns*: the fetchers of a core, and what is to be proposed. *Never*: decides who leads or is in sync. *Runs on*:
//! every core, for its own partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use crate::base::ids::{BrokerEpoch, CoreId, LeaderEpoch, NodeId, Offset, TopicPartition};
use crate::base::limits;
use crate::base::time::{Instant, Now};
use crate::broker::effect::Effects;
use crate::broker::message::{IsrAnswer, ReadEntry, ShardMessage};
use crate::broker::peers::{PeerAnswer, PeerCall, PeerError, PeerTo};
use crate::broker::route;
use crate::broker::shard::{DeadlineKey, Shard};
use crate::meta::{Broker, PartitionState};
use crate::replica::fetcher::{FetchSettings, Fetcher};
use crate::replica::follower::{Content, FetchPosition, Followed};
use crate::replica::isr::{IsrProposal, IsrRefusal, ReplicaFetch};
use crate::replica::partition::Refusal;
use crate::replica::throttle::Throttle;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::fetch::FetchResponse;

/// Topics are named by id, and the broker's epoch is said.
const FETCH_VERSION: i16 = 17;

/// A core of another broker, as one to follow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LeaderCore {
    pub node: NodeId,
    pub core: CoreId,
}

#[derive(Debug, Default)]
pub struct Replicas {
    fetchers: BTreeMap<LeaderCore, Row>,
    /// Whom each partition that follows asks, by its number.
    followed: BTreeMap<u32, LeaderCore>,
    /// Fetchers that may have something to ask at the end of the step.
    touched: BTreeSet<LeaderCore>,
    /// For core 0, at the end of the step.
    proposals: Vec<(TopicPartition, IsrProposal)>,
    /// What goes to replicas elsewhere that are not in sync, and comes to those here.
    leading: Throttle,
    following: Throttle,
}

#[derive(Debug)]
struct Row {
    fetcher: Fetcher,
    /// What the deadline of the fetcher is set to.
    due: Option<Instant>,
}

impl Replicas {
    /// The partition follows nobody any more.
    pub fn forget(&mut self, owner: u32, of: TopicPartition) {
        let Some(leader) = self.followed.remove(&owner) else { return };
        if let Some(row) = self.fetchers.get_mut(&leader) {
            row.fetcher.remove(of);
            self.touched.insert(leader);
        }
    }

    /// The partition is ready for an answer from here on, or could not take the last one.
    fn on_followed(&mut self, owner: u32, of: TopicPartition, position: FetchPosition, followed: Followed, now: Now) {
        let Some(leader) = self.followed.get(&owner).copied() else { return };
        let Some(row) = self.fetchers.get_mut(&leader) else { return };
        match followed {
            Followed::Ready => row.fetcher.set_position(of, position),
            Followed::Failed => row.fetcher.rest(of, position, now),
        }
        self.touched.insert(leader);
    }
}

impl Shard {
    /// Of this run, once it is registered.
    fn broker_epoch(&self) -> BrokerEpoch {
        self.registered().map_or(BrokerEpoch(-1), |broker| broker.epoch)
    }

    fn fetch_settings(&self) -> FetchSettings {
        let settings = &self.config.settings;
        let int = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        FetchSettings {
            wait_max_ms: int(settings.replica_fetch_wait_max_ms.min(limits::REPLICA_FETCH_WAIT_MS_MAX)),
            min_bytes: int(settings.replica_fetch_min_bytes),
            partition_bytes_max: int(settings.replica_fetch_max_bytes),
            bytes_max: int(settings.replica_fetch_response_max_bytes),
            backoff_max_ms: u64::from(settings.replica_fetch_backoff_ms),
        }
    }

    /// Whether what the image says of partitions is to be done. Until this run is registered it may be of long ago: who
    /// led then, or followed, may have been succeeded, and would acknowledge what the others are to give up (KIP-631: a
    /// broker is fenced until it has caught up with the metadata). Where no broker is registered there is one alone.
    pub(in crate::broker) fn may_take_roles(&self) -> bool {
        self.registered().is_some() || !self.image.has_brokers()
    }

    /// This run is registered: its partitions do what was decided of them meanwhile.
    fn take_roles(&mut self, now: Now, effects: &mut Effects) {
        for owner in self.partitions.owner_numbers() {
            if let Some(of) = self.partitions.name_of(owner) {
                self.put_in_place(of, now, effects);
            }
        }
    }

    /// The controller has decided on a partition of this core.
    pub(in crate::broker) fn assign_here(
        &mut self,
        of: TopicPartition,
        state: &PartitionState,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(owner) = self.partitions.owner_number(of).filter(|_| self.may_take_roles()) else { return };
        let leads = self.on_partition(owner, now, effects, |partition, _, out| {
            partition.assign(state, now, out);
            partition.is_leader()
        });
        if leads == Some(false) {
            self.forget_coordinator(owner);
        }
        self.follow(owner, of, now);
    }

    /// A broker has registered: where its partitions are may be elsewhere now.
    pub(in crate::broker) fn on_broker_met(&mut self, broker: &Broker, now: Now, effects: &mut Effects) {
        if broker.id == self.node() && self.registered().is_some() {
            self.take_roles(now, effects);
        }
        let of_broker = |owner: &u32| {
            let partition = self.partitions.by_owner(*owner);
            partition.is_some_and(|partition| partition.leader() == Some(broker.id))
        };
        let owners: Vec<u32> = self.partitions.owner_numbers().filter(of_broker).collect();
        for owner in owners {
            if let Some(of) = self.partitions.name_of(owner) {
                self.follow(owner, of, now);
            }
        }
    }

    /// A broker is fenced, or not any more, or registered: leaders here learn whether it may be in sync.
    pub(in crate::broker) fn on_broker_changed(&mut self, id: NodeId, now: Now, effects: &mut Effects) {
        let Some((epoch, is_active)) = self.image.broker(id).map(|broker| (broker.epoch, broker.is_active())) else {
            return;
        };
        let leads = |owner: &u32| self.partitions.by_owner(*owner).is_some_and(|partition| partition.is_leader());
        let owners: Vec<u32> = self.partitions.owner_numbers().filter(leads).collect();
        for owner in owners {
            self.on_partition(owner, now, effects, |partition, _, out| {
                partition.on_broker(id, epoch, is_active, now, out);
            });
        }
    }

    /// Nothing that followers are told could be kept.
    pub(in crate::broker) fn follow_nobody(&mut self) {
        for owner in self.partitions.owner_numbers() {
            if let Some(of) = self.partitions.name_of(owner) {
                self.replicas.forget(owner, of);
            }
        }
    }

    /// Has a partition's leader asked by the right fetcher, if it follows anybody.
    pub(in crate::broker) fn follow(&mut self, owner: u32, of: TopicPartition, now: Now) {
        let Some(partition) = self.partitions.by_owner(owner).filter(|_| self.offline.is_none()) else { return };
        let (leader, position) = (partition.leader(), partition.fetch_position());
        let leader = leader.filter(|leader| *leader != self.node()).and_then(|leader| self.image.broker(leader));
        let wanted = leader.map(|leader| LeaderCore { node: leader.id, core: route::owner(of, leader.cores) });
        if self.replicas.followed.get(&owner).copied() != wanted {
            self.replicas.forget(owner, of);
            let Some(wanted) = wanted else { return };
            self.replicas.followed.insert(owner, wanted);
            let settings = self.fetch_settings();
            let new = || Row { fetcher: Fetcher::new(settings), due: None };
            self.replicas.fetchers.entry(wanted).or_insert_with(new);
        }
        if let Some(position) = position {
            self.replicas.on_followed(owner, of, position, Followed::Ready, now);
        }
    }

    /// A follower has taken what its leader answered, or could not.
    pub(in crate::broker) fn on_followed(&mut self, owner: u32, followed: Followed, now: Now) {
        let Some(of) = self.partitions.name_of(owner) else { return };
        self.follow(owner, of, now);
        if let Some(position) = self.partitions.by_owner(owner).and_then(|partition| partition.fetch_position()) {
            self.replicas.on_followed(owner, of, position, followed, now);
            self.hold_back(owner, of, position, now);
        }
    }

    /// One that is throttled, and not in sync, is asked for when nothing is owed.
    fn hold_back(&mut self, owner: u32, of: TopicPartition, position: FetchPosition, now: Now) {
        if !self.is_bounded(owner, of) {
            return;
        }
        let rate = self.core_share(self.config.settings.follower_replication_throttled_rate);
        let replicas = &mut self.replicas;
        let row = replicas.followed.get(&owner).and_then(|leader| replicas.fetchers.get_mut(leader));
        if let Some((row, until)) = row.zip(replicas.following.opens_at(rate, now)) {
            row.fetcher.hold(of, position, until);
        }
    }

    /// Whether a replica here follows at a bounded rate.
    fn is_bounded(&self, owner: u32, of: TopicPartition) -> bool {
        let is_throttled = |owner| self.partitions.by_owner(owner).is_some_and(|row| row.is_throttled(of.partition));
        let state = self.image.partition(of.topic, of.partition);
        is_throttled(owner) && state.is_some_and(|state| state.isr().all(|node| node != self.node()))
    }

    /// Of a rate that is the whole broker's.
    fn core_share(&self, rate: u64) -> u64 {
        if rate == 0 { 0 } else { (rate / u64::from(self.config.cores)).max(1) }
    }

    /// When a follower elsewhere that is not in sync may be given records of a throttled replica; none: now.
    pub(in crate::broker) fn leader_throttle_opens(&mut self, now: Now) -> Option<Instant> {
        let rate = self.core_share(self.config.settings.leader_replication_throttled_rate);
        self.replicas.leading.opens_at(rate, now)
    }

    /// Such records are sent.
    pub(in crate::broker) fn on_throttled_sent(&mut self, bytes: usize, now: Now) {
        let rate = self.core_share(self.config.settings.leader_replication_throttled_rate);
        self.replicas.leading.take(bytes, rate, now);
    }

    pub(in crate::broker) fn on_isr_change(&mut self, of: TopicPartition, proposal: IsrProposal) {
        self.replicas.proposals.push((of, proposal));
    }

    /// Core 0 tells what became of proposals.
    pub(in crate::broker) fn on_isr_answered(&mut self, answers: Vec<IsrAnswer>, now: Now, effects: &mut Effects) {
        for answer in answers {
            if let Some(owner) = self.partitions.owner_number(answer.of) {
                let (epoch, verdict) = (answer.epoch, verdict(answer.code));
                self.on_partition(owner, now, effects, |partition, _, out| {
                    partition.on_isr_answer(epoch, verdict, now, out);
                });
            }
        }
    }

    /// At the end of a step: asks leaders, and proposes in-sync sets.
    pub(in crate::broker) fn replicate(&mut self, now: Now, effects: &mut Effects) {
        if !self.replicas.proposals.is_empty() {
            let proposals = mem::take(&mut self.replicas.proposals);
            self.send(CoreId(0), ShardMessage::IsrProposed(proposals), effects);
        }
        while let Some(leader) = self.replicas.touched.pop_first() {
            self.poll_fetcher(leader, now, effects);
        }
    }

    fn poll_fetcher(&mut self, leader: LeaderCore, now: Now, effects: &mut Effects) {
        let (me, epoch, settings) = (self.node(), self.broker_epoch(), self.fetch_settings());
        let Some(row) = self.replicas.fetchers.get_mut(&leader) else { return };
        row.fetcher.set_settings(settings);
        let request = row.fetcher.poll(me, epoch, now);
        let due = row.fetcher.next_deadline();
        let before = mem::replace(&mut row.due, due);
        if before != due {
            before.into_iter().for_each(|at| self.deadlines.clear(at, DeadlineKey::Fetcher(leader)));
            due.into_iter().for_each(|at| self.deadlines.set(at, DeadlineKey::Fetcher(leader)));
        }
        if let Some(request) = request {
            let to = PeerTo::Node(leader.node, leader.core);
            self.ask_peer(to, PeerCall::Fetch(leader), FETCH_VERSION, &request, now, effects);
        }
    }

    pub(in crate::broker) fn on_fetcher_due(&mut self, leader: LeaderCore) {
        if let Some(row) = self.replicas.fetchers.get_mut(&leader) {
            row.due = None;
            self.replicas.touched.insert(leader);
        }
    }

    /// A core of a leader has answered, or did not.
    pub(in crate::broker) fn on_replica_fetched(
        &mut self,
        leader: LeaderCore,
        answer: Result<PeerAnswer, PeerError>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(row) = self.replicas.fetchers.get_mut(&leader) else { return };
        self.replicas.touched.insert(leader);
        let mut fetched = Vec::new();
        match answer.and_then(PeerAnswer::decode::<FetchResponse>) {
            Ok(response) => row.fetcher.on_response(response, now, &mut fetched),
            Err(error) => {
                tracing::debug!("a fetch from node {}, core {}: {error}", leader.node, leader.core);
                row.fetcher.on_failed(now);
            }
        }
        for (of, fetched) in fetched {
            let Some(owner) = self.partitions.owner_number(of) else { continue };
            if let Content::Records { records, .. } = &fetched.content
                && self.is_bounded(owner, of)
            {
                let rate = self.core_share(self.config.settings.follower_replication_throttled_rate);
                self.replicas.following.take(records.len(), rate, now);
            }
            self.on_partition(owner, now, effects, |partition, cache, out| {
                partition.on_fetched(fetched, cache, now, out);
            });
        }
    }

    /// What a partition of a fetch that is another broker's may read, and its leader learns by it. With an error or
    /// where the logs diverge there is nothing to be read.
    pub(in crate::broker) fn admit_replica(
        &mut self,
        owner: u32,
        entry: &ReadEntry,
        (node, broker_epoch): (NodeId, BrokerEpoch),
        now: Now,
        effects: &mut Effects,
    ) -> Result<Option<(LeaderEpoch, Offset)>, Refusal> {
        let is_eligible =
            self.image.broker(node).is_some_and(|broker| broker.is_active() && broker.epoch == broker_epoch);
        let position = FetchPosition {
            epoch: entry.current_leader_epoch,
            from: entry.from,
            last_epoch: entry.last_fetched_epoch,
            log_start: entry.log_start,
        };
        let fetch = ReplicaFetch { node, broker_epoch, position, is_eligible };
        let admitted =
            self.on_partition(owner, now, effects, |partition, _, out| partition.on_replica_fetch(fetch, now, out));
        admitted.unwrap_or(Err(Refusal::NotLeader))
    }

    /// A partition that this core does not have: another broker may.
    pub(in crate::broker) fn absent(&self, of: TopicPartition) -> Refusal {
        match self.image.partition(of.topic, of.partition) {
            Some(_) => Refusal::NotLeader,
            None => Refusal::Deleted,
        }
    }
}

/// What a leader may conclude from the controller's answer.
fn verdict(code: ErrorCode) -> Result<(), IsrRefusal> {
    match code {
        ErrorCode::None => Ok(()),
        ErrorCode::IneligibleReplica => Err(IsrRefusal::Ineligible),
        ErrorCode::NotController | ErrorCode::StaleBrokerEpoch => Err(IsrRefusal::Unknown),
        _ => Err(IsrRefusal::Stale),
    }
}

#[cfg(test)]
mod tests;
