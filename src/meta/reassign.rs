//! Moving partitions to other brokers (KIP-455): asked for, under way, called off. That one is done is seen with the
//! ISR that has all it adds (`election`).
//!
//! Rules and codes are those of `ReplicationControlManager.alterPartitionReassignments`. One difference: where a
//! partition that is moved is to go elsewhere, what the first move was adding and the second does not want is dropped
//! at once.
//!
//! *Owns*: the rules. *Never*: copies anything: followers do. *Runs on*: core 0 of the controller.

use super::controller::{MetaError, check_nodes, refuse};
use super::election::{Draft, Election, Electorate, LeaderRules, changed, partition_of};
use super::fleet::Fleet;
use super::partition_state::{PartitionParts, PartitionState};
use super::record::MetaRecord;
use crate::base::ids::{NodeId, PartitionIndex};
use crate::config::Settings;
use crate::wire::errors::ErrorCode;

/// Where somebody wants a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MoveWish {
    pub topic: String,
    pub partition: PartitionIndex,
    /// `None`: back to where it was.
    pub replicas: Option<Vec<NodeId>>,
    /// Whether there may be more or fewer replicas afterwards (KIP-860).
    pub may_change_count: bool,
}

/// Nothing, where the partition is there, or on its way there.
pub fn plan_move(fleet: Fleet<'_>, wish: &MoveWish, settings: &Settings) -> Result<Vec<MetaRecord>, MetaError> {
    let (topic, before) = partition_of(fleet.image, &wish.topic, wish.partition)?;
    let rules = LeaderRules::of(topic, settings);
    let target = match &wish.replicas {
        Some(replicas) => moved(fleet, before, replicas, wish)?,
        None if before.is_moving() => reverted(before),
        None => return refuse(ErrorCode::NoReassignmentInProgress, "The partition is not being moved."),
    };
    let mut draft = Draft::of(before);
    draft.target = target;
    if draft.target.isr.is_empty() && draft.target.elr.is_empty() {
        let stays = draft.target.replicas.first().copied();
        match stays.filter(|_| rules.unclean) {
            Some(stays) => {
                draft.target.isr = vec![stays];
                draft.election = Election::Unclean;
            }
            None => {
                let message = "Nobody who would be left has all records: wait, or allow an unclean election.";
                return refuse(ErrorCode::InvalidReplicaAssignment, message);
            }
        }
    }
    let state = draft.finish(Electorate::of(fleet), rules);
    Ok(state.into_iter().map(|state| changed(topic, wish.partition, state)).collect())
}

/// `PartitionReassignmentReplicas`: those that it adds come first, those that it removes last.
fn moved(
    fleet: Fleet<'_>,
    before: &PartitionState,
    wanted: &[NodeId],
    wish: &MoveWish,
) -> Result<PartitionParts, MetaError> {
    check_nodes(fleet, &format!("Partition {}", wish.partition), wanted)?;
    let home = reverted(before);
    if !wish.may_change_count && wanted.len() != home.replicas.len() {
        let message = format!("The partition has {} replicas, and would have {}.", home.replicas.len(), wanted.len());
        return refuse(ErrorCode::InvalidReplicationFactor, message);
    }
    let adding: Vec<NodeId> = wanted.iter().copied().filter(|node| !home.replicas.contains(node)).collect();
    let removing: Vec<NodeId> = home.replicas.iter().copied().filter(|node| !wanted.contains(node)).collect();
    let replicas = [wanted, &removing].concat();
    let left = |members: Vec<NodeId>| members.into_iter().filter(|node| replicas.contains(node)).collect();
    let parts = before.parts();
    Ok(PartitionParts { isr: left(parts.isr), elr: left(parts.elr), adding, removing, replicas, ..home })
}

/// `PartitionReassignmentRevert`: without what is being added.
fn reverted(before: &PartitionState) -> PartitionParts {
    let mut parts = before.parts();
    let adding = std::mem::take(&mut parts.adding);
    for members in [&mut parts.replicas, &mut parts.isr, &mut parts.elr] {
        members.retain(|node| !adding.contains(node));
    }
    parts.removing.clear();
    parts
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cluster, nodes, only_change, parts};
    use super::*;
    use crate::base::ids::{LeaderEpoch, PartitionEpoch};

    fn wish(replicas: Option<&[i32]>) -> MoveWish {
        MoveWish {
            topic: "t".into(),
            partition: PartitionIndex(0),
            replicas: replicas.map(nodes),
            may_change_count: true,
        }
    }

    /// Of brokers 1 to 5.
    fn plan(before: PartitionParts, wish: &MoveWish) -> Result<Vec<MetaRecord>, MetaError> {
        plan_move(Fleet::of(&cluster(5, &[before]), NodeId(1)), wish, &Settings::default())
    }

    fn moving(replicas: &[i32], isr: &[i32], adding: &[i32], removing: &[i32]) -> PartitionParts {
        PartitionParts { adding: nodes(adding), removing: nodes(removing), ..parts(replicas, isr, &[]) }
    }

    fn check(before: PartitionParts, replicas: Option<&[i32]>, leader_epoch: i32, after: PartitionParts) {
        let records = plan(before, &wish(replicas)).expect("allowed");
        let (leader_epoch, partition_epoch) = (LeaderEpoch(leader_epoch), PartitionEpoch(7));
        assert_eq!(only_change(&records), PartitionParts { leader_epoch, partition_epoch, ..after });
    }

    #[test]
    fn a_move_adds_before_it_removes() {
        let before = || parts(&[1, 2, 3], &[1, 2, 3], &[]);
        check(
            before(),
            Some(&[4, 2, 1]),
            5,
            PartitionParts { leader: Some(NodeId(1)), ..moving(&[4, 2, 1, 3], &[2, 1, 3], &[4], &[3]) },
        );
        check(before(), Some(&[2, 1]), 6, PartitionParts { leader: Some(NodeId(1)), ..parts(&[2, 1], &[2, 1], &[]) });
        check(before(), Some(&[3]), 6, parts(&[3], &[3], &[]));
        check(before(), Some(&[1, 3, 2]), 5, parts(&[1, 3, 2], &[1, 3, 2], &[]));
        let under_way = || moving(&[4, 1, 2], &[1, 2], &[4], &[2]);
        assert_eq!(plan(under_way(), &wish(Some(&[4, 1]))), Ok(Vec::new()), "it is on its way there");
        check(under_way(), Some(&[5, 1]), 6, moving(&[5, 1, 2], &[1, 2], &[5], &[2]));
        check(under_way(), None, 6, parts(&[1, 2], &[1, 2], &[]));
        check(under_way(), Some(&[1, 2]), 6, parts(&[1, 2], &[1, 2], &[]));
    }

    #[test]
    fn what_cannot_be_is_refused_as_in_kafka() {
        use ErrorCode::{
            InvalidReplicaAssignment, InvalidReplicationFactor, NoReassignmentInProgress, UnknownTopicOrPartition,
        };
        let check = |wish: &MoveWish, code: ErrorCode| {
            let error = plan(parts(&[1, 2, 3], &[1, 2, 3], &[]), wish).expect_err("refused");
            assert_eq!(error.code, code, "{error}");
        };
        check(&MoveWish { topic: "x".into(), ..wish(None) }, UnknownTopicOrPartition);
        check(&MoveWish { partition: PartitionIndex(1), ..wish(None) }, UnknownTopicOrPartition);
        check(&wish(None), NoReassignmentInProgress);
        check(&wish(Some(&[])), InvalidReplicaAssignment);
        check(&wish(Some(&[1, 1])), InvalidReplicaAssignment);
        check(&wish(Some(&[1, 6])), InvalidReplicaAssignment);
        check(&MoveWish { may_change_count: false, ..wish(Some(&[1, 2])) }, InvalidReplicationFactor);
        let only_new_is_in_sync = moving(&[4, 1], &[4], &[4], &[]);
        let error = plan(only_new_is_in_sync, &wish(None)).expect_err("nobody is left");
        assert_eq!(error.code, InvalidReplicaAssignment, "{error}");
    }
}
