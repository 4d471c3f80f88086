//! Which replicas of a partition are in sync, as its leader sees it.
//!
//! The rules are Kafka's (`Partition.maybeExpandIsr`, `maybeShrinkIsr`; KIP-497, KIP-966): who has been behind for
//! `replica.lag.time.max.ms` is to go, who has everything that is committed may come. The controller decides; until it
//! has, whoever may be in the set counts as being in it.
//!
//! *Owns*: how far each follower is, and what is proposed to the controller. *Never*: changes the in-sync set by
//! itself. *Runs on*: the core of the partition's leader.

use crate::base::bug::{self, Bug};
use crate::base::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch};
use crate::base::time::{Instant, Now};
use crate::meta::PartitionState;

use super::follower::FetchPosition;

/// A proposal of which nothing was heard is made again after so long.
const PROPOSAL_AGAIN_MS: u64 = 5_000;

/// After one that was refused, or did not come to anybody, nothing is proposed for so long.
const REFUSED_REST_MS: u64 = 200;

/// For the controller: the in-sync set should be this (AlterPartition).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrProposal {
    pub leader_epoch: LeaderEpoch,
    /// Of the state that the proposal changes.
    pub partition_epoch: PartitionEpoch,
    /// With each broker's epoch, −1 where that is not known.
    pub isr: Vec<(NodeId, BrokerEpoch)>,
}

/// Why the controller did not take a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsrRefusal {
    /// It was not taken, and never will be: somebody in it may not be in the set.
    Ineligible,
    /// The state has changed meanwhile; what it is now is on its way here.
    Stale,
    /// It may have been taken: nobody answered.
    Unknown,
}

/// A replica's fetch, as far as its leader's view of it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaFetch {
    pub node: NodeId,
    /// Of the run of the broker that asks.
    pub broker_epoch: BrokerEpoch,
    /// Everything below is safe there.
    pub position: FetchPosition,
    /// May be in the in-sync set: neither fenced nor about to stop.
    pub is_eligible: bool,
}

#[derive(Debug)]
pub(super) struct Isr {
    me: NodeId,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    /// The other replicas.
    followers: Vec<Progress>,
    /// As the controller has it; the leader is in it.
    members: Vec<NodeId>,
    /// Nothing else is proposed meanwhile.
    proposed: Option<Proposed>,
    /// Was proposed for this state, and may have been taken. Whoever is in it counts as being in the set.
    doubtful: Vec<NodeId>,
    /// The log's end when this leader began: who lacks something of it cannot be in sync.
    began: Offset,
    lag_ms: u64,
    /// When to look next for who is behind; none while nobody is.
    check_due: Option<Instant>,
}

#[derive(Debug)]
struct Proposed {
    is_change: bool,
    again_at: Instant,
}

/// How far a follower is.
#[derive(Debug)]
struct Progress {
    node: NodeId,
    broker_epoch: BrokerEpoch,
    /// What it has, once it has asked this leader.
    end: Option<Offset>,
    /// Where its log begins.
    start: Offset,
    /// When it had everything last.
    caught_up_at: Instant,
    /// Of its last fetch, with the leader's end at that time.
    fetched_at: Instant,
    leader_end_then: Offset,
    is_eligible: bool,
    /// In the set, or may be.
    counts: bool,
}

impl Isr {
    pub(super) fn new(me: NodeId, state: &PartitionState, end: Offset, lag_ms: u64, now: Now) -> Isr {
        let mut isr = Isr {
            me,
            leader_epoch: state.leader_epoch(),
            partition_epoch: state.partition_epoch(),
            followers: Vec::new(),
            members: Vec::new(),
            proposed: None,
            doubtful: Vec::new(),
            began: end,
            lag_ms,
            check_due: None,
        };
        isr.assign(state, now);
        isr
    }

    /// The controller has decided on the in-sync set, or on the replicas.
    pub(super) fn assign(&mut self, state: &PartitionState, now: Now) {
        assert!(state.leader_epoch() == self.leader_epoch, "a new leader epoch is a new leader");
        self.partition_epoch = state.partition_epoch();
        self.proposed = None;
        self.doubtful.clear();
        self.members = state.isr().collect();
        self.followers.retain(|follower| state.has_replica(follower.node));
        for &node in state.replicas().iter().filter(|node| **node != self.me) {
            if !self.followers.iter().any(|follower| follower.node == node) {
                self.followers.push(Progress::unknown(node, now));
            }
        }
        self.count();
        self.check_due = (!self.followers.is_empty()).then(|| self.next_check(now));
    }

    /// The log is open, and has this end.
    pub(super) fn begin(&mut self, end: Offset) {
        self.began = end;
    }

    pub(super) fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// The log's end when this leader began.
    pub(super) fn began(&self) -> Offset {
        self.began
    }

    /// This node has the only replica: what is safe is committed.
    pub(super) fn is_alone(&self) -> bool {
        self.followers.is_empty()
    }

    /// Too few are in sync for what has to be on so many, or on all if there are not as many.
    pub(super) fn is_under(&self, min: usize) -> bool {
        !self.is_alone() && self.members.len() < min.min(self.followers.len() + 1)
    }

    /// What everybody has who may be in the in-sync set, of what is safe here; none while that is not known, or too few
    /// are in sync (KIP-966).
    pub(super) fn committed(&self, safe_end: Offset, min: usize) -> Option<Offset> {
        if self.is_under(min) {
            return None;
        }
        let counting = self.followers.iter().filter(|follower| follower.counts);
        counting.map(|follower| follower.end).try_fold(safe_end, |least, end| Some(least.min(end?)))
    }

    /// Below this nobody has anything who may be in the in-sync set, when this log begins at `start`; none while that is
    /// not known, or too few are in sync.
    pub(super) fn deleted(&self, start: Offset, min: usize) -> Option<Offset> {
        if self.is_under(min) {
            return None;
        }
        let counting = self.followers.iter().filter(|follower| follower.counts);
        let starts = counting.map(|follower| follower.end.map(|_| follower.start));
        starts.into_iter().try_fold(start, |least, start| Some(least.min(start?)))
    }

    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.members.contains(&node)
    }

    /// The member of the set, of those that `may`, that has the most from `from` on.
    pub(super) fn nearest(&self, from: Offset, may: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let has = |follower: &&Progress| follower.start <= from && follower.end.is_some_and(|end| end >= from);
        let members = self.followers.iter().filter(|follower| self.members.contains(&follower.node));
        let near = members.filter(has).filter(|follower| may(follower.node));
        near.max_by_key(|follower| (follower.end, follower.caught_up_at)).map(|follower| follower.node)
    }

    /// A follower has asked. False when it is none of this partition, or a run of it that is over.
    pub(super) fn on_fetch(&mut self, fetch: ReplicaFetch, leader_end: Offset, now: Now) -> bool {
        let Some(follower) = self.followers.iter_mut().find(|follower| follower.node == fetch.node) else {
            return false;
        };
        if fetch.broker_epoch < follower.broker_epoch {
            return false;
        }
        follower.broker_epoch = fetch.broker_epoch;
        follower.is_eligible = fetch.is_eligible;
        let from = fetch.position.from;
        if from >= leader_end {
            follower.caught_up_at = now.mono;
        } else if from >= follower.leader_end_then && follower.end.is_some() {
            follower.caught_up_at = follower.caught_up_at.max(follower.fetched_at);
        }
        follower.end = Some(from);
        follower.start = fetch.position.log_start;
        follower.fetched_at = now.mono;
        follower.leader_end_then = leader_end;
        true
    }

    /// What metadata say of a broker's run. Who has everything already may have nothing to ask for.
    pub(super) fn on_broker(&mut self, node: NodeId, epoch: BrokerEpoch, is_eligible: bool) {
        for follower in self.followers.iter_mut().filter(|follower| follower.node == node) {
            follower.is_eligible = is_eligible && follower.broker_epoch == epoch;
        }
    }

    /// More is safe here than `before`, since `at`: until then, whoever had that was up to date.
    pub(super) fn on_safe(&mut self, before: Offset, at: Instant) {
        for follower in self.followers.iter_mut().filter(|follower| follower.end.is_some_and(|end| end >= before)) {
            follower.caught_up_at = follower.caught_up_at.max(at);
        }
        if !self.is_alone() && self.check_due.is_none() {
            self.check_due = Some(at.after_ms(self.lag_ms / 2));
        }
    }

    /// What the set should be, if that is another than it is, and nothing is proposed. Who comes has deleted what is
    /// deleted here.
    pub(super) fn propose(
        &mut self,
        log_start: Offset,
        high_watermark: Offset,
        safe_end: Offset,
        now: Now,
    ) -> Option<IsrProposal> {
        if self.proposed.is_some() || self.is_alone() {
            return None;
        }
        let least = high_watermark.max(self.began);
        let early = bug::on(Bug::JoinInSyncEarly);
        let has = |follower: &Progress, wanted: Offset| follower.end.is_some_and(|end| end >= wanted || early);
        let belongs = |follower: &Progress| {
            let in_time = has(follower, safe_end) || now.mono < follower.caught_up_at.after_ms(self.lag_ms);
            let may_come = follower.is_eligible && follower.start >= log_start && has(follower, least);
            in_time && (self.members.contains(&follower.node) || may_come)
        };
        let wanted = self.followers.iter().filter(|follower| belongs(follower));
        let mut isr: Vec<(NodeId, BrokerEpoch)> =
            wanted.map(|follower| (follower.node, follower.broker_epoch)).collect();
        isr.push((self.me, BrokerEpoch(-1)));
        isr.sort_unstable();
        let is_member = |(node, _): &(NodeId, BrokerEpoch)| self.members.contains(node);
        let is_change = isr.len() != self.members.len() || !isr.iter().all(is_member);
        if !is_change && self.doubtful.is_empty() {
            return None;
        }
        self.doubtful.extend(isr.iter().map(|(node, _)| *node).filter(|node| !self.members.contains(node)));
        self.proposed = Some(Proposed { is_change, again_at: now.mono.after_ms(PROPOSAL_AGAIN_MS) });
        self.count();
        Some(IsrProposal { leader_epoch: self.leader_epoch, partition_epoch: self.partition_epoch, isr })
    }

    /// What became of a proposal for this state. One that was taken changes nothing yet: the new state is on its way.
    pub(super) fn on_answer(&mut self, of: PartitionEpoch, answer: Result<(), IsrRefusal>, now: Now) {
        let Some(proposed) = self.proposed.as_mut().filter(|_| of == self.partition_epoch) else { return };
        match answer {
            Ok(()) if proposed.is_change => {}
            Ok(()) => {
                self.proposed = None;
                self.settle_doubts();
            }
            Err(IsrRefusal::Ineligible) => {
                // Metadata say when somebody may not; they may be later than the answer, or earlier.
                proposed.again_at = now.mono.after_ms(REFUSED_REST_MS);
                self.settle_doubts();
            }
            // Most often there is no controller for a moment.
            Err(IsrRefusal::Unknown) => proposed.again_at = now.mono.after_ms(REFUSED_REST_MS),
            Err(IsrRefusal::Stale) => {}
        }
    }

    fn settle_doubts(&mut self) {
        self.doubtful.clear();
        self.count();
    }

    /// When [`Isr::on_timeout`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let again = self.proposed.as_ref().map(|proposed| proposed.again_at);
        self.check_due.into_iter().chain(again).min()
    }

    /// It may be time to propose something, which is for the caller to try.
    pub(super) fn on_timeout(&mut self, safe_end: Offset, now: Now) {
        if self.check_due.is_some_and(|due| due <= now.mono) {
            let is_behind = |follower: &Progress| follower.end.is_none_or(|end| end < safe_end);
            self.check_due = self.followers.iter().any(is_behind).then(|| self.next_check(now));
        }
        if self.proposed.as_ref().is_some_and(|proposed| proposed.again_at <= now.mono) {
            self.proposed = None;
        }
    }

    fn next_check(&self, now: Now) -> Instant {
        now.mono.after_ms((self.lag_ms / 2).max(1))
    }

    fn count(&mut self) {
        for follower in &mut self.followers {
            follower.counts = self.members.contains(&follower.node) || self.doubtful.contains(&follower.node);
        }
    }
}

impl Progress {
    /// Has its time to show itself.
    fn unknown(node: NodeId, now: Now) -> Progress {
        Progress {
            node,
            broker_epoch: BrokerEpoch(-1),
            end: None,
            start: Offset(0),
            caught_up_at: now.mono,
            fetched_at: now.mono,
            leader_end_then: Offset(0),
            is_eligible: false,
            counts: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::PartitionParts;

    const LAG_MS: u64 = 100;

    fn nodes(nodes: &[i32]) -> Vec<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    fn state(partition_epoch: i32, isr: &[i32]) -> PartitionState {
        let parts = PartitionParts {
            leader: Some(NodeId(1)),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(partition_epoch),
            replicas: nodes(&[1, 2, 3]),
            isr: nodes(isr),
            ..PartitionParts::default()
        };
        PartitionState::new(&parts).unwrap()
    }

    fn leader(isr: &[i32], end: i64) -> Isr {
        Isr::new(NodeId(1), &state(0, isr), Offset(end), LAG_MS, after_ms(0))
    }

    fn after_ms(ms: u64) -> Now {
        Now { mono: Instant(0).after_ms(ms), wall_ms: 0 }
    }

    fn fetch(isr: &mut Isr, node: i32, from: i64, leader_end: i64, ms: u64) {
        assert!(isr.on_fetch(asked(node, 9, from), Offset(leader_end), after_ms(ms)));
    }

    fn asked(node: i32, broker_epoch: i64, from: i64) -> ReplicaFetch {
        let (epoch, from) = (LeaderEpoch(4), Offset(from));
        let position = FetchPosition { epoch, from, last_epoch: LeaderEpoch::UNKNOWN, log_start: Offset(0) };
        ReplicaFetch { node: NodeId(node), broker_epoch: BrokerEpoch(broker_epoch), position, is_eligible: true }
    }

    fn proposed(isr: &mut Isr, high_watermark: i64, end: i64, ms: u64) -> Option<Vec<i32>> {
        let proposal = isr.propose(Offset(0), Offset(high_watermark), Offset(end), after_ms(ms))?;
        assert_eq!(proposal.leader_epoch, LeaderEpoch(4));
        Some(proposal.isr.iter().map(|(node, _)| node.0).collect())
    }

    fn committed(isr: &Isr, end: i64) -> Option<i64> {
        isr.committed(Offset(end), 2).map(|end| end.0)
    }

    #[test]
    fn what_all_in_the_set_have_is_committed() {
        let mut isr = leader(&[1, 2, 3], 0);
        assert_eq!(committed(&isr, 10), None);
        fetch(&mut isr, 2, 7, 10, 1);
        assert_eq!(committed(&isr, 10), None);
        fetch(&mut isr, 3, 9, 10, 1);
        assert_eq!(committed(&isr, 10), Some(7));
        fetch(&mut isr, 2, 10, 10, 1);
        assert_eq!(committed(&isr, 10), Some(9));
        isr.assign(&state(1, &[1, 2]), after_ms(2));
        assert_eq!(committed(&isr, 10), Some(10));
        isr.assign(&state(2, &[1]), after_ms(2));
        assert_eq!((committed(&isr, 10), isr.is_under(2), isr.is_under(1)), (None, true, false));
    }

    #[test]
    fn who_is_in_sync_and_has_what_is_asked_for_may_serve_it() {
        let mut isr = leader(&[1, 2], 0);
        let nearest = |isr: &Isr, from: i64, may: &[i32]| {
            isr.nearest(Offset(from), |node| may.contains(&node.0)).map(|node| node.0)
        };
        assert_eq!(nearest(&isr, 0, &[2, 3]), None);
        fetch(&mut isr, 2, 7, 10, 1);
        fetch(&mut isr, 3, 9, 10, 1);
        assert_eq!([7, 8].map(|from| nearest(&isr, from, &[2, 3])), [Some(2), None]);
        assert_eq!(nearest(&isr, 7, &[3]), None);
        isr.assign(&state(1, &[1, 2, 3]), after_ms(2));
        assert_eq!([7, 9, 10].map(|from| nearest(&isr, from, &[2, 3])), [Some(3), Some(3), None]);
        assert_eq!(nearest(&isr, 7, &[2]), Some(2));
        let mut later = asked(2, 9, 10);
        later.position.log_start = Offset(8);
        assert!(isr.on_fetch(later, Offset(10), after_ms(3)));
        assert_eq!([7, 8].map(|from| nearest(&isr, from, &[2])), [None, Some(2)]);
    }

    #[test]
    fn who_is_behind_for_too_long_leaves() {
        let mut isr = leader(&[1, 2, 3], 0);
        fetch(&mut isr, 2, 10, 10, 10);
        fetch(&mut isr, 3, 10, 10, 10);
        isr.on_safe(Offset(10), after_ms(500).mono);
        fetch(&mut isr, 2, 20, 20, 550);
        assert_eq!(proposed(&mut isr, 10, 20, 599), None);
        assert_eq!(isr.next_deadline(), Some(after_ms(LAG_MS / 2).mono));
        assert_eq!(proposed(&mut isr, 10, 20, 600), Some(vec![1, 2]));
        assert_eq!(committed(&isr, 20), Some(10), "until the controller has decided it counts");
        assert_eq!(proposed(&mut isr, 10, 20, 601), None);
        isr.assign(&state(1, &[1, 2]), after_ms(602));
        assert_eq!(committed(&isr, 20), Some(20));
    }

    #[test]
    fn a_follower_that_had_everything_at_its_last_fetch_is_in_time() {
        let mut isr = leader(&[1, 2], 0);
        fetch(&mut isr, 2, 0, 10, 60);
        fetch(&mut isr, 2, 10, 20, 90);
        assert_eq!(proposed(&mut isr, 0, 20, 159), None);
        assert_eq!(proposed(&mut isr, 0, 20, 160), Some(vec![1]));
    }

    #[test]
    fn who_has_what_is_committed_comes_back_and_counts_at_once() {
        let mut isr = leader(&[1, 2], 15);
        fetch(&mut isr, 2, 20, 20, 0);
        fetch(&mut isr, 3, 14, 20, 0);
        assert_eq!(proposed(&mut isr, 10, 20, 0), None, "it lacks what the leader began with");
        fetch(&mut isr, 3, 15, 20, 0);
        assert_eq!(proposed(&mut isr, 16, 20, 0), None, "it lacks what is committed");
        assert_eq!(proposed(&mut isr, 15, 20, 0), Some(vec![1, 2, 3]));
        assert_eq!(committed(&isr, 20), Some(15));
        isr.on_answer(PartitionEpoch(0), Err(IsrRefusal::Ineligible), after_ms(0));
        isr.on_timeout(Offset(20), after_ms(REFUSED_REST_MS));
        assert_eq!(committed(&isr, 20), Some(20));
        // The broker is fenced, and then not any more: that it asks again is not to be waited for.
        isr.on_broker(NodeId(3), BrokerEpoch(9), false);
        assert_eq!(proposed(&mut isr, 15, 20, 0), None);
        isr.on_broker(NodeId(3), BrokerEpoch(10), true);
        assert_eq!(proposed(&mut isr, 15, 20, 0), None, "of another run");
        isr.on_broker(NodeId(3), BrokerEpoch(9), true);
        assert_eq!(proposed(&mut isr, 15, 20, 0), Some(vec![1, 2, 3]));
        isr.on_answer(PartitionEpoch(0), Err(IsrRefusal::Ineligible), after_ms(0));
        isr.on_timeout(Offset(20), after_ms(REFUSED_REST_MS));
        assert_eq!(proposed(&mut isr, 15, 20, 0), Some(vec![1, 2, 3]), "the controller may know better by now");
    }

    #[test]
    fn what_may_have_been_taken_counts_until_it_is_known() {
        let mut isr = leader(&[1, 2], 0);
        fetch(&mut isr, 2, 20, 20, 0);
        fetch(&mut isr, 3, 15, 20, 0);
        assert!(proposed(&mut isr, 15, 20, 0).is_some());
        isr.on_answer(PartitionEpoch(0), Err(IsrRefusal::Unknown), after_ms(0));
        isr.on_timeout(Offset(20), after_ms(REFUSED_REST_MS));
        // Its answer is lost: so much later than one that says it was not asked.
        assert_eq!(proposed(&mut isr, 15, 20, 300), Some(vec![1, 2]));
        isr.on_timeout(Offset(20), after_ms(300 + PROPOSAL_AGAIN_MS));
        fetch(&mut isr, 3, 10, 20, 6000);
        fetch(&mut isr, 2, 20, 20, 6000);
        assert_eq!(proposed(&mut isr, 20, 20, 6000), Some(vec![1, 2]), "asked, though nothing is to change");
        assert_eq!(committed(&isr, 20), Some(10));
        isr.on_answer(PartitionEpoch(0), Ok(()), after_ms(6000));
        assert_eq!((committed(&isr, 20), proposed(&mut isr, 20, 20, 6000)), (Some(20), None));
    }

    #[test]
    fn strangers_and_runs_that_are_over_are_refused() {
        let mut isr = leader(&[1, 2, 3], 0);
        fetch(&mut isr, 2, 0, 0, 0);
        for (node, broker_epoch) in [(4, 9), (1, 9), (2, 8)] {
            assert!(!isr.on_fetch(asked(node, broker_epoch, 0), Offset(0), after_ms(0)));
        }
    }

    #[test]
    fn one_replica_commits_what_is_safe() {
        let isr = Isr::new(NodeId(1), &PartitionState::initial(&[NodeId(1)]).unwrap(), Offset(0), LAG_MS, after_ms(0));
        assert_eq!((committed(&isr, 20), isr.next_deadline(), isr.is_alone()), (Some(20), None, true));
    }
}
