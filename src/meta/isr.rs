//! What a leader says of its ISR (KIP-497), checked and turned into records.
//!
//! Rules and codes are those of `ReplicationControlManager.alterPartition`.
//!
//! *Owns*: the rules. *Never*: decides that a replica lags: its leader does. *Runs on*: core 0 of the controller.

use super::controller::{MetaError, refuse};
use super::election::{Draft, Electorate, LeaderRules, changed};
use super::fleet::Fleet;
use super::partition_state::PartitionState;
use super::record::MetaRecord;
use crate::base::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId};
use crate::config::Settings;
use crate::wire::errors::ErrorCode;

/// The ISR that the leader of a partition wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IsrChange {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    /// Who says so. That it is the broker it was is checked before, once for all its partitions
    /// ([`super::brokers::check_epoch`]).
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    /// Of the state that it changes.
    pub partition_epoch: PartitionEpoch,
    /// With the epoch of each broker as the leader knows it from its fetches; −1 where it does not.
    pub isr: Vec<(NodeId, BrokerEpoch)>,
}

const EPOCH_UNKNOWN: BrokerEpoch = BrokerEpoch(-1);

/// Answers the partition as it is then, and what makes it so: nothing, where it is so already. Where somebody else
/// leads then, since the ISR completed a reassignment, the leader is to be told NEW_LEADER_ELECTED.
pub fn plan_alter_partition(
    fleet: Fleet<'_>,
    wish: &IsrChange,
    settings: &Settings,
) -> Result<(PartitionState, Vec<MetaRecord>), MetaError> {
    let Some(topic) = fleet.image.topic_by_id(wish.topic) else {
        return refuse(ErrorCode::UnknownTopicId, format!("There is no topic {}.", wish.topic));
    };
    let Some(before) = topic.state(wish.partition) else {
        return refuse(ErrorCode::UnknownTopicOrPartition, format!("There is no partition {}.", wish.partition));
    };
    check(fleet, before, wish)?;
    let mut draft = Draft::of(before);
    draft.target.isr = wish.isr.iter().map(|(node, _)| *node).collect();
    match draft.finish(Electorate::of(fleet), LeaderRules::of(topic, settings)) {
        Some(state) => Ok((state.clone(), vec![changed(topic, wish.partition, state)])),
        None => Ok((before.clone(), Vec::new())),
    }
}

/// `validateAlterPartitionData`.
fn check(fleet: Fleet<'_>, before: &PartitionState, wish: &IsrChange) -> Result<(), MetaError> {
    // It knows more than we do: then we are not the controller any more.
    if wish.leader_epoch > before.leader_epoch() || wish.partition_epoch > before.partition_epoch() {
        return refuse(ErrorCode::NotController, "The partition's epoch is not known here yet.");
    }
    if wish.leader_epoch < before.leader_epoch() {
        return refuse(ErrorCode::FencedLeaderEpoch, format!("The leader epoch is {}.", before.leader_epoch()));
    }
    if before.leader() != Some(wish.leader) {
        return refuse(ErrorCode::InvalidRequest, format!("Broker {} does not lead the partition.", wish.leader));
    }
    if wish.partition_epoch < before.partition_epoch() {
        let message = format!("The partition epoch is {}.", before.partition_epoch());
        return refuse(ErrorCode::InvalidUpdateVersion, message);
    }
    let has = |node: NodeId| wish.isr.iter().filter(|(member, _)| *member == node).count();
    if wish.isr.iter().any(|(node, _)| has(*node) > 1 || !before.has_replica(*node)) {
        return refuse(ErrorCode::InvalidRequest, "The ISR is not made of the partition's replicas.");
    }
    if has(wish.leader) == 0 {
        return refuse(ErrorCode::InvalidRequest, "The leader itself is not in the ISR.");
    }
    let ineligible = wish.isr.iter().find(|(node, epoch)| {
        let is_another = |known: BrokerEpoch| *epoch != EPOCH_UNKNOWN && *epoch != known;
        !fleet.is_active(*node) || fleet.image.broker(*node).is_some_and(|broker| is_another(broker.epoch))
    });
    match ineligible {
        Some((node, _)) => {
            let message = format!("Broker {node} is fenced, shutting down or started anew.");
            refuse(ErrorCode::IneligibleReplica, message)
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::PartitionParts;
    use super::super::testing::{TOPIC, cluster, nodes, only_change, parts};
    use super::*;

    fn wish(isr: &[(i32, i64)]) -> IsrChange {
        IsrChange {
            topic: TOPIC,
            partition: PartitionIndex(0),
            leader: NodeId(2),
            leader_epoch: LeaderEpoch(5),
            partition_epoch: PartitionEpoch(6),
            isr: isr.iter().map(|(node, epoch)| (NodeId(*node), BrokerEpoch(*epoch))).collect(),
        }
    }

    /// Of a partition on 1, 2 and 3, led by 2 alone; broker 3 is fenced and broker 4 has nothing of it.
    fn check(wish: &IsrChange, expect: Result<&[i32], ErrorCode>) {
        let mut image = cluster(4, &[parts(&[1, 2, 3], &[2], &[])]);
        image.apply(&MetaRecord::BrokerFenced { id: NodeId(3) }).expect("there");
        let planned = plan_alter_partition(Fleet::of(&image, NodeId(1)), wish, &Settings::default());
        match (planned, expect) {
            (Ok((state, _)), Ok(isr)) => assert_eq!(state.isr().collect::<Vec<_>>(), nodes(isr)),
            (Err(error), Err(code)) => assert_eq!(error.code, code, "{error}"),
            (got, expect) => panic!("{wish:?}: {got:?}, not {expect:?}"),
        }
    }

    #[test]
    fn a_leader_changes_its_isr_or_is_refused_as_in_kafka() {
        use ErrorCode::{
            FencedLeaderEpoch, IneligibleReplica, InvalidRequest, InvalidUpdateVersion, NotController, UnknownTopicId,
            UnknownTopicOrPartition,
        };
        let good = || wish(&[(2, 2), (1, 1)]);
        check(&good(), Ok(&[1, 2]));
        check(&wish(&[(2, -1), (1, -1)]), Ok(&[1, 2]));
        check(&wish(&[(2, 2)]), Ok(&[2]));
        check(&IsrChange { topic: TopicId([9; 16]), ..good() }, Err(UnknownTopicId));
        check(&IsrChange { partition: PartitionIndex(1), ..good() }, Err(UnknownTopicOrPartition));
        check(&IsrChange { leader_epoch: LeaderEpoch(6), ..good() }, Err(NotController));
        check(&IsrChange { partition_epoch: PartitionEpoch(7), ..good() }, Err(NotController));
        check(&IsrChange { leader_epoch: LeaderEpoch(4), ..good() }, Err(FencedLeaderEpoch));
        check(&IsrChange { partition_epoch: PartitionEpoch(5), ..good() }, Err(InvalidUpdateVersion));
        check(&IsrChange { leader: NodeId(1), ..good() }, Err(InvalidRequest));
        check(&wish(&[(1, 1)]), Err(InvalidRequest));
        check(&wish(&[]), Err(InvalidRequest));
        check(&wish(&[(2, 2), (2, 2)]), Err(InvalidRequest));
        check(&wish(&[(2, 2), (4, 4)]), Err(InvalidRequest));
        check(&wish(&[(2, 2), (3, 3)]), Err(IneligibleReplica));
        check(&wish(&[(2, 2), (1, 0)]), Err(IneligibleReplica));
    }

    #[test]
    fn an_isr_that_has_all_that_is_added_ends_the_move_and_may_change_the_leader() {
        let moving = PartitionParts { adding: nodes(&[1]), removing: nodes(&[2]), ..parts(&[1, 2], &[2], &[]) };
        let image = cluster(2, &[moving]);
        let planned =
            plan_alter_partition(Fleet::of(&image, NodeId(1)), &wish(&[(2, 2), (1, 1)]), &Settings::default());
        let (_, records) = planned.expect("allowed");
        let wanted = PartitionParts {
            leader_epoch: LeaderEpoch(6),
            partition_epoch: PartitionEpoch(7),
            ..parts(&[1], &[1], &[])
        };
        assert_eq!(only_change(&records), wanted);
    }
}
