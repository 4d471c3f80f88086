//! The range assignor: each topic's partitions in consecutive ranges, one a member.
//!
//! Members with an instance id come first, in the order of these, so that a static member that comes back under a new
//! member id has the same range as before. If all subscribe to the same topics, equally large topics are divided
//! equally, so that records with the same key meet in the same member.
//!
//! *Owns*: the division. *Never*: looks at what members had. *Runs on*: the core that coordinates the group.

use super::Spec;
use crate::base::ids::{PartitionIndex, TopicId};
use crate::group::assignment::Assignment;

pub(super) fn assign(spec: &Spec) -> Vec<Assignment> {
    let mut order: Vec<usize> = (0..spec.members.len()).collect();
    // Members without an instance id stay in the order of their member ids.
    order.sort_by_key(|&member| {
        let instance_id = spec.members[member].instance_id;
        (instance_id.is_none(), instance_id)
    });
    let mut assignments = vec![Assignment::default(); spec.members.len()];
    for (&topic, &partitions) in &spec.topics {
        let subscribes: Vec<bool> = spec.subscriptions.iter().map(|topics| topics.contains(&topic)).collect();
        let subscribers: Vec<usize> =
            order.iter().copied().filter(|&member| subscribes[spec.members[member].subscription]).collect();
        divide(topic, partitions, &subscribers, &mut assignments);
    }
    assignments
}

fn divide(topic: TopicId, partitions: i32, subscribers: &[usize], assignments: &mut [Assignment]) {
    let Ok(count) = i32::try_from(subscribers.len()) else { return };
    let mut next = 0;
    for (place, &member) in (0..count).zip(subscribers) {
        let share = partitions / count + i32::from(place < partitions % count);
        for partition in next..next + share {
            assignments[member].insert(topic, PartitionIndex(partition));
        }
        next += share;
    }
}
