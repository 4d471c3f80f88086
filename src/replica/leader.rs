//! A partition replica as its leader: the in-sync set, and what followers are told.
//!
//! *Owns*: when a role begins and ends, and what is proposed to the controller. *Never*: sends anything. *Runs on*: the
//! core that owns the partition.

use crate::base::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, PartitionIndex};
use crate::base::time::Now;
use crate::meta::PartitionState;

use super::follower::{FetchPosition, Following};
use super::isr::{Isr, IsrRefusal, ReplicaFetch};
use super::partition::{Partition, PartitionOut, Place, Reader, Refusal, Role, State};

impl Role {
    pub(super) fn of(place: Place, state: &PartitionState, end: Offset, now: Now) -> Role {
        if state.leader() == Some(place.node) {
            Role::Leader(Isr::new(place.node, state, end, place.lag_time_max_ms, now))
        } else {
            Role::Follower(Following::new(state.leader()))
        }
    }

    /// What is decided of the partition is not known.
    pub(super) fn none() -> Role {
        Role::Follower(Following::new(None))
    }
}

impl Partition {
    /// The controller has decided on this partition. What is older than what this replica knows changes nothing.
    pub fn assign(&mut self, state: &PartitionState, now: Now, out: &mut PartitionOut) {
        let leads = state.leader() == Some(self.place.node);
        match &mut self.role {
            _ if state.leader_epoch() < self.epoch => {}
            Role::Leader(isr) if leads && state.leader_epoch() == self.epoch => {
                if state.partition_epoch() >= isr.partition_epoch() {
                    isr.assign(state, now);
                    self.on_isr(now, out);
                }
            }
            Role::Follower(following) if !leads && state.leader_epoch() == self.epoch => {
                following.set_leader(state.leader());
            }
            Role::Leader(_) | Role::Follower(_) => self.begin_role(state, now, out),
        }
        self.settle(out);
    }

    /// Another leader, or the same once more: whoever waits must look again.
    fn begin_role(&mut self, state: &PartitionState, now: Now, out: &mut PartitionOut) {
        self.epoch = state.leader_epoch();
        self.is_established = false;
        self.role = Role::of(self.place, state, self.log.end(), now);
        match self.role {
            Role::Leader(_) => self.on_isr(now, out),
            Role::Follower(_) => {
                self.acks.refuse_all(&Refusal::NotLeader, &mut out.acked);
                self.refuse_deletions(&Refusal::NotLeader, out);
            }
        }
        self.on_change(out);
    }

    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// All is committed that the log held when this leader began.
    pub fn is_established(&self) -> bool {
        self.is_established
    }

    /// The leader that this replica follows, if there is one.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.place.node),
            Role::Follower(following) => following.leader(),
        }
    }

    /// A follower asks for what comes after all it has, and so says what that is. Where its log ends otherwise than
    /// this one, gets the largest epoch that both may have, and its end here.
    pub fn on_replica_fetch(
        &mut self,
        fetch: ReplicaFetch,
        now: Now,
        out: &mut PartitionOut,
    ) -> Result<Option<(LeaderEpoch, Offset)>, Refusal> {
        if self.state != State::Online {
            return Err(Refusal::Unavailable);
        }
        let FetchPosition { epoch, from, last_epoch, .. } = fetch.position;
        self.check_leader(epoch)?;
        if let Some(diverging) = self.diverging(Reader::Replica, last_epoch, from) {
            return Ok(Some(diverging));
        }
        // What is not safe here yet may be there: it came from the leader before.
        if from < self.log_start_for(Reader::Replica) || from > self.log.end() {
            return Err(Refusal::OffsetOutOfRange);
        }
        let safe_end = self.safe_end;
        let Role::Leader(isr) = &mut self.role else { return Err(Refusal::NotLeader) };
        if !isr.on_fetch(fetch, safe_end, now) {
            return Err(Refusal::NotLeader);
        }
        self.settle(out);
        self.propose_isr(now, out);
        Ok(None)
    }

    /// What this reader may see begins here.
    pub fn log_start_for(&self, reader: Reader) -> Offset {
        match reader {
            Reader::Consumer => self.log.start(),
            Reader::Replica => self.log.start_for_replicas(),
        }
    }

    /// Whether what a follower fetches is bounded: this replica is named as throttled, and the follower is not in sync.
    pub fn throttles(&self, partition: PartitionIndex, follower: NodeId) -> bool {
        let throttled = &self.settings.leader_replication_throttled_replicas;
        let Role::Leader(isr) = &self.role else { return false };
        throttled.holds(partition, self.place.node) && !isr.is_member(follower)
    }

    /// The replica in sync, of those that `may`, that has the most from `from` on; none where this one does not lead.
    pub fn nearest(&self, from: Offset, may: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        match &self.role {
            Role::Leader(isr) => isr.nearest(from, may),
            Role::Follower(_) => None,
        }
    }

    /// Metadata say of a broker's run whether it may be in the in-sync set.
    pub fn on_broker(&mut self, node: NodeId, epoch: BrokerEpoch, is_eligible: bool, now: Now, out: &mut PartitionOut) {
        if let Role::Leader(isr) = &mut self.role {
            isr.on_broker(node, epoch, is_eligible);
            self.propose_isr(now, out);
        }
        self.settle(out);
    }

    /// What became of a proposal for the in-sync set.
    pub fn on_isr_answer(
        &mut self,
        of: PartitionEpoch,
        answer: Result<(), IsrRefusal>,
        now: Now,
        out: &mut PartitionOut,
    ) {
        if let Role::Leader(isr) = &mut self.role {
            isr.on_answer(of, answer, now);
            self.propose_isr(now, out);
        }
        self.settle(out);
    }

    /// Who is in sync may have changed with the time.
    pub(super) fn check_isr(&mut self, now: Now, out: &mut PartitionOut) {
        let Role::Leader(isr) = &mut self.role else { return };
        isr.on_timeout(self.safe_end, now);
        self.propose_isr(now, out);
    }

    /// The in-sync set is another: appends that wait for more replicas than are left are refused.
    fn on_isr(&mut self, now: Now, out: &mut PartitionOut) {
        let Role::Leader(isr) = &self.role else { return };
        if isr.is_under(self.min_isr()) {
            self.acks.refuse_uncommitted(&Refusal::NotEnoughReplicasAfterAppend, &mut out.acked);
        }
        self.propose_isr(now, out);
    }

    fn propose_isr(&mut self, now: Now, out: &mut PartitionOut) {
        if self.state != State::Online {
            return;
        }
        let Role::Leader(isr) = &mut self.role else { return };
        if let Some(proposal) = isr.propose(self.log.start(), self.high_watermark, self.safe_end, now) {
            out.isr_change = Some(proposal);
        }
    }
}
