//! Who decides on metadata: one broker, or three.
//!
//! Two voters stand still as soon as either is gone, which is worse than one. So a second is made only when a third is
//! ready, which then follows at once: Raft changes one vote at a time. A cluster that has become one of two goes back to
//! one voter. What an operator has said of a vote holds until the operator says something else.
//!
//! *Owns*: the rules. *Never*: changes the quorum. *Runs on*: core 0 of the controller.

use super::broker::Broker;
use super::image::Image;
use super::quorum::QuorumStatus;
use crate::base::ids::NodeId;

/// A cluster of so many brokers or more has so many voters.
pub const VOTERS: usize = 3;

/// Entries that a follower of the quorum may lack and still become a voter.
const VOTER_LAG: u64 = 100;

/// What an operator has said of a node's vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoteSaid {
    Given,
    Taken,
}

/// One change of who votes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VotePlan {
    Give(NodeId),
    /// It goes on to follow, without a vote.
    Take(NodeId),
}

/// The next step towards the voters that there are to be, if the controller, who tells the status, can make it now.
pub fn plan_voters(status: &QuorumStatus, image: &Image) -> Option<VotePlan> {
    let ready = |node: &NodeId| {
        let has_log = |(member, matched): &(NodeId, u64)| member == node && matched + VOTER_LAG >= status.last;
        may_vote(*node, image) && status.matched.iter().any(has_log)
    };
    let mut ready = status.learners.iter().copied().filter(ready);
    let (first, second) = (ready.next(), ready.next());
    match status.voters.len() {
        0 => None,
        1 => first.filter(|_| second.is_some()).map(VotePlan::Give),
        2 if image.brokers().count() < VOTERS => {
            let others = status.voters.iter().copied().filter(|node| Some(*node) != status.leader);
            let mut others = others.filter(|node| image.said_of_vote(*node) != Some(VoteSaid::Given));
            others.next().map(VotePlan::Take)
        }
        2 => first.map(VotePlan::Give),
        VOTERS.. => None,
    }
}

/// Whether a node that has no vote is to follow the quorum: only on the way to one, as it may then be one of three.
pub fn may_learn(node: NodeId, status: &QuorumStatus, image: &Image) -> bool {
    let is_candidate = |broker: &&Broker| may_vote(broker.id, image) && !status.voters.contains(&broker.id);
    let candidates = image.brokers().filter(is_candidate);
    status.voters.len() < VOTERS && may_vote(node, image) && status.voters.len() + candidates.count() >= VOTERS
}

/// Who is to follow the quorum next, so that it can be given a vote when it keeps up.
pub fn plan_learner(status: &QuorumStatus, image: &Image) -> Option<NodeId> {
    let members: Vec<NodeId> = status.voters.iter().chain(&status.learners).copied().collect();
    let mut others = image.brokers().map(|broker| broker.id).filter(|id| !members.contains(id));
    others.find(|id| members.len() < VOTERS && may_learn(*id, status, image))
}

/// It is there, and no operator has taken its vote.
fn may_vote(node: NodeId, image: &Image) -> bool {
    image.broker(node).is_some_and(Broker::is_active) && image.said_of_vote(node) != Some(VoteSaid::Taken)
}

#[cfg(test)]
mod tests {
    use super::super::record::MetaRecord;
    use super::super::testing::{cluster, nodes, parts};
    use super::*;

    const ME: NodeId = NodeId(1);

    /// With so many brokers, of which those vote, and the others follow with everything.
    fn status(brokers: i32, voters: &[i32]) -> QuorumStatus {
        let learners: Vec<NodeId> = (1..=brokers).filter(|id| !voters.contains(id)).map(NodeId).collect();
        QuorumStatus {
            leader: Some(ME),
            term: 5,
            voters: nodes(voters),
            commit: 1_000,
            last: 1_000,
            matched: (1..=brokers).map(|id| (NodeId(id), 1_000)).collect(),
            learners,
        }
    }

    fn image(brokers: i32, records: &[MetaRecord]) -> Image {
        let mut image = cluster(brokers, &[parts(&[1], &[1], &[])]);
        records.iter().for_each(|record| image.apply(record).expect("fits"));
        image
    }

    #[test]
    fn one_votes_or_three_do() {
        let check = |brokers, voters: &[i32], expect| {
            let plan = plan_voters(&status(brokers, voters), &image(brokers, &[]));
            assert_eq!(plan, expect, "{brokers} brokers, {voters:?} vote");
        };
        check(1, &[1], None);
        check(2, &[1], None);
        check(3, &[1], Some(VotePlan::Give(NodeId(2))));
        check(3, &[1, 2], Some(VotePlan::Give(NodeId(3))));
        check(5, &[1, 4], Some(VotePlan::Give(NodeId(2))));
        check(5, &[1, 2, 4], None);
        check(5, &[1, 2, 3, 4], None);
        // They were three, or it is a cluster of before.
        check(2, &[1, 2], Some(VotePlan::Take(NodeId(2))));
    }

    #[test]
    fn nobody_votes_who_is_not_there_or_far_behind() {
        let fenced = image(3, &[MetaRecord::BrokerFenced { id: NodeId(3) }]);
        assert_eq!(plan_voters(&status(3, &[1]), &fenced), None, "there would be two");
        assert_eq!(plan_voters(&status(3, &[1, 2]), &fenced), None, "it may come back");
        let mut behind = status(3, &[1]);
        behind.matched[1].1 = 1_000 - VOTER_LAG;
        assert_eq!(plan_voters(&behind, &image(3, &[])), Some(VotePlan::Give(NodeId(2))));
        behind.matched[1].1 -= 1;
        assert_eq!(plan_voters(&behind, &image(3, &[])), None);
        behind.matched.clear();
        assert_eq!(plan_voters(&behind, &image(3, &[])), None, "nothing is known of them");
    }

    #[test]
    fn the_quorum_is_followed_on_the_way_to_a_vote_only() {
        let check = |brokers, voters: &[i32], learners: &[i32], records: &[MetaRecord], expect: Option<i32>| {
            let status = QuorumStatus { learners: nodes(learners), ..status(brokers, voters) };
            let image = image(brokers, records);
            assert_eq!(plan_learner(&status, &image), expect.map(NodeId), "{brokers}: {voters:?}, {learners:?}");
        };
        check(2, &[1], &[], &[], None);
        check(3, &[1], &[], &[], Some(2));
        check(5, &[1], &[2], &[], Some(3));
        check(5, &[1], &[2, 3], &[], None);
        check(5, &[1, 2], &[3], &[], None);
        check(5, &[1, 2, 3], &[], &[], None);
        check(4, &[1, 2], &[], &[MetaRecord::VoteTaken { id: NodeId(3) }], Some(4));
        check(3, &[1, 2], &[], &[MetaRecord::VoteTaken { id: NodeId(3) }], None);
        check(3, &[1], &[], &[MetaRecord::BrokerFenced { id: NodeId(3) }], None);
        assert!(!may_learn(NodeId(4), &status(5, &[1, 2, 3]), &image(5, &[])));
    }

    #[test]
    fn what_an_operator_has_said_holds() {
        let taken = |id| MetaRecord::VoteTaken { id: NodeId(id) };
        let given = |id| MetaRecord::VoteGiven { id: NodeId(id) };
        let check = |brokers, voters: &[i32], records: &[MetaRecord], expect| {
            let plan = plan_voters(&status(brokers, voters), &image(brokers, records));
            assert_eq!(plan, expect, "{brokers} brokers, {voters:?} vote, {records:?}");
        };
        check(3, &[1, 2], &[taken(3)], None);
        check(3, &[1], &[taken(3)], None);
        check(4, &[1, 2], &[taken(3)], Some(VotePlan::Give(NodeId(4))));
        check(3, &[1, 2], &[taken(3), given(3)], Some(VotePlan::Give(NodeId(3))));
        check(2, &[1, 2], &[given(2)], None);
        check(2, &[1, 2], &[given(2), taken(2)], Some(VotePlan::Take(NodeId(2))));
    }
}
