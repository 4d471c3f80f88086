//! The uniform assignor: everybody as many as everybody else, and each keeps what it had as far as that allows.
//!
//! Topics with the same subscribers are one pool. First all keep what they had; then what nobody has goes to whoever
//! has least; last, within each pool, partitions go from whoever has most to whoever has least, until these two differ
//! by no more than one. With one pool, which is when all members subscribe to the same, that moves the fewest
//! partitions possible. With several a move in one pool may make room in another, so they are gone through again.
//!
//! *Owns*: the balance. *Never*: moves a partition that need not move in its pool. *Runs on*: the core that coordinates
//! the group.

use std::collections::{BTreeMap, BTreeSet};

use super::Spec;
use crate::base::ids::{PartitionIndex, TopicId};
use crate::base::limits::ASSIGNOR_PASSES_MAX;
use crate::group::assignment::Assignment;

pub(super) fn assign(spec: &Spec) -> Vec<Assignment> {
    let mut pools = pools(spec);
    let mut loads = vec![0; spec.members.len()];
    for pool in &mut pools {
        pool.keep_previous(spec, &mut loads);
    }
    // Those with few subscribers first, while there is most choice for the others.
    pools.sort_by_key(|pool| pool.subscribers.len());
    for pool in &mut pools {
        pool.deal_out(&mut loads);
    }
    for _ in 0..ASSIGNOR_PASSES_MAX {
        let moved: usize = pools.iter_mut().map(|pool| pool.balance(&mut loads)).sum();
        if moved == 0 || pools.len() == 1 {
            break;
        }
    }
    let mut assignments = vec![Assignment::default(); spec.members.len()];
    for pool in &pools {
        for (&(topic, partition), owner) in pool.partitions.iter().zip(&pool.owners) {
            let owner = owner.expect("every partition of a pool was dealt out");
            assignments[owner].insert(topic, partition);
        }
    }
    assignments
}

/// Partitions whose subscribers are the same.
struct Pool {
    /// Indices of members, ascending. Invariant: not empty.
    subscribers: Vec<usize>,
    /// Ascending.
    partitions: Vec<(TopicId, PartitionIndex)>,
    /// Of each partition.
    owners: Vec<Option<usize>>,
}

/// Members by how many partitions of all pools they have.
type ByLoad = BTreeSet<(usize, usize)>;

fn pools(spec: &Spec) -> Vec<Pool> {
    // The subscriptions that have a topic say who subscribes to it.
    let mut subscribed_by: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (subscription, topics) in spec.subscriptions.iter().enumerate() {
        for &topic in topics {
            subscribed_by.entry(topic).or_default().push(subscription);
        }
    }
    let mut topics_by_subscriptions: BTreeMap<Vec<usize>, Vec<TopicId>> = BTreeMap::new();
    for (topic, subscriptions) in subscribed_by {
        topics_by_subscriptions.entry(subscriptions).or_default().push(topic);
    }
    let pool = |(subscriptions, topics): (Vec<usize>, Vec<TopicId>)| {
        let members = spec.members.iter().enumerate();
        let subscribers =
            members.filter(|(_, member)| subscriptions.contains(&member.subscription)).map(|(index, _)| index);
        let partitions: Vec<_> = topics
            .into_iter()
            .flat_map(|topic| (0..spec.topics[&topic]).map(move |partition| (topic, PartitionIndex(partition))))
            .collect();
        Pool { subscribers: subscribers.collect(), owners: vec![None; partitions.len()], partitions }
    };
    topics_by_subscriptions.into_iter().map(pool).filter(|pool| !pool.subscribers.is_empty()).collect()
}

impl Pool {
    fn keep_previous(&mut self, spec: &Spec, loads: &mut [usize]) {
        for &member in &self.subscribers {
            for partition in spec.members[member].previous.iter() {
                let Ok(at) = self.partitions.binary_search(&partition) else { continue };
                // Two may have had it, if the clients of an older protocol decided so.
                if self.owners[at].is_none() {
                    self.owners[at] = Some(member);
                    loads[member] += 1;
                }
            }
        }
    }

    fn by_load(&self, loads: &[usize]) -> ByLoad {
        self.subscribers.iter().map(|&member| (loads[member], member)).collect()
    }

    fn deal_out(&mut self, loads: &mut [usize]) {
        let mut by_load = self.by_load(loads);
        for owner in self.owners.iter_mut().filter(|owner| owner.is_none()) {
            let (load, member) = by_load.pop_first().expect("a pool has subscribers");
            *owner = Some(member);
            loads[member] = load + 1;
            by_load.insert((load + 1, member));
        }
    }

    /// Says how many partitions it moved.
    fn balance(&mut self, loads: &mut [usize]) -> usize {
        let mut owned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, owner) in self.owners.iter().enumerate() {
            owned.entry(owner.expect("every partition of a pool was dealt out")).or_default().push(at);
        }
        let mut takers = self.by_load(loads);
        // Whoever has nothing of this pool has nothing to give, however much it has of others.
        let mut givers: ByLoad = owned.keys().map(|&member| (loads[member], member)).collect();
        let mut moved = 0;
        while let (Some(&most), Some(&least)) = (givers.last(), takers.first()) {
            if most.0 < least.0 + 2 {
                break;
            }
            let (from, to) = (most.1, least.1);
            let of_from = owned.get_mut(&from).expect("a giver has partitions");
            let at = of_from.pop().expect("a giver has partitions");
            let gives_more = !of_from.is_empty();
            self.owners[at] = Some(to);
            let gave_before = owned.get(&to).is_some_and(|of_to| !of_to.is_empty());
            owned.entry(to).or_default().push(at);
            for set in [&mut takers, &mut givers] {
                set.remove(&most);
                set.remove(&least);
            }
            loads[from] -= 1;
            loads[to] += 1;
            takers.extend([(loads[from], from), (loads[to], to)]);
            givers.extend(gives_more.then_some((loads[from], from)));
            givers.extend(gave_before.then_some((loads[to], to)));
            moved += 1;
        }
        moved
    }
}
