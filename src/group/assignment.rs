//! A set of partitions, by topic: what a member owns, gives up or is to have.
//!
//! *Owns*: the set. *Never*: knows whether a topic exists. *Runs on*: every core.

use std::collections::BTreeMap;

use crate::base::ids::{PartitionIndex, TopicId};

/// Invariant: no topic is without partitions, and the partitions of each ascend.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Assignment(BTreeMap<TopicId, Vec<PartitionIndex>>);

impl Assignment {
    /// The set of what lists from a client or a record name, in any order and as often as they like.
    pub fn from_lists<'a>(lists: impl IntoIterator<Item = (TopicId, &'a [i32])>) -> Assignment {
        let mut set = Assignment::default();
        for (topic, partitions) in lists {
            let of_topic = set.0.entry(topic).or_default();
            of_topic.extend(partitions.iter().copied().map(PartitionIndex));
        }
        for partitions in set.0.values_mut() {
            partitions.sort_unstable();
            partitions.dedup();
        }
        set.0.retain(|_, partitions| !partitions.is_empty());
        set
    }

    /// The same as lists, by topic id.
    pub fn lists(&self) -> impl Iterator<Item = (TopicId, Vec<i32>)> + '_ {
        self.by_topic().map(|(topic, partitions)| (topic, partitions.iter().map(|partition| partition.0).collect()))
    }

    pub fn by_topic(&self) -> impl Iterator<Item = (TopicId, &[PartitionIndex])> + '_ {
        self.0.iter().map(|(topic, partitions)| (*topic, partitions.as_slice()))
    }

    pub fn iter(&self) -> impl Iterator<Item = (TopicId, PartitionIndex)> + '_ {
        self.by_topic().flat_map(|(topic, partitions)| partitions.iter().map(move |partition| (topic, *partition)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Partitions of all topics together.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Most bytes that it takes in a record, also where parts of it stand in two lists.
    pub fn record_bytes_max(&self) -> usize {
        const TOPIC_BYTES: usize = 24;
        let topic_bytes = |partitions: &Vec<PartitionIndex>| TOPIC_BYTES * partitions.len().min(2);
        self.0.values().map(|partitions| topic_bytes(partitions) + 4 * partitions.len()).sum()
    }

    pub fn contains(&self, topic: TopicId, partition: PartitionIndex) -> bool {
        self.0.get(&topic).is_some_and(|partitions| partitions.binary_search(&partition).is_ok())
    }

    pub fn insert(&mut self, topic: TopicId, partition: PartitionIndex) {
        let partitions = self.0.entry(topic).or_default();
        if let Err(at) = partitions.binary_search(&partition) {
            partitions.insert(at, partition);
        }
    }

    pub fn extend(&mut self, other: &Assignment) {
        for (topic, partition) in other.iter() {
            self.insert(topic, partition);
        }
    }

    /// Those partitions for which `keep` says so.
    pub fn filtered(&self, mut keep: impl FnMut(TopicId, PartitionIndex) -> bool) -> Assignment {
        let mut kept = Assignment::default();
        for (topic, partitions) in self.by_topic() {
            let of_topic: Vec<_> = partitions.iter().copied().filter(|partition| keep(topic, *partition)).collect();
            if !of_topic.is_empty() {
                kept.0.insert(topic, of_topic);
            }
        }
        kept
    }

    pub fn intersection(&self, other: &Assignment) -> Assignment {
        self.filtered(|topic, partition| other.contains(topic, partition))
    }

    pub fn difference(&self, other: &Assignment) -> Assignment {
        self.filtered(|topic, partition| !other.contains(topic, partition))
    }

    pub fn is_subset(&self, other: &Assignment) -> bool {
        self.iter().all(|(topic, partition)| other.contains(topic, partition))
    }

    pub fn is_disjoint(&self, other: &Assignment) -> bool {
        !self.iter().any(|(topic, partition)| other.contains(topic, partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(lists: &[(u8, &[i32])]) -> Assignment {
        Assignment::from_lists(lists.iter().map(|(topic, partitions)| (TopicId([*topic; 16]), *partitions)))
    }

    #[test]
    fn lists_become_a_set() {
        let expect: &[(u8, &[i32])] = &[(1, &[0, 2]), (2, &[5])];
        let check = |lists: &[(u8, &[i32])]| assert_eq!(set(lists), set(expect), "{lists:?}");
        check(&[(1, &[0, 2]), (2, &[5])]);
        check(&[(2, &[5, 5]), (1, &[2]), (3, &[]), (1, &[0, 2])]);
        assert_eq!(set(expect).len(), 3);
        assert_eq!(set(&[(3, &[])]), Assignment::default());
        assert_eq!(
            set(expect).lists().map(|(topic, list)| (topic.0[0], list)).collect::<Vec<_>>(),
            [(1, vec![0, 2]), (2, vec![5])]
        );
    }

    #[test]
    fn sets_are_compared_and_combined() {
        let (a, b) = (set(&[(1, &[0, 1, 2]), (2, &[0])]), set(&[(1, &[1, 3]), (3, &[0])]));
        assert_eq!(a.intersection(&b), set(&[(1, &[1])]));
        assert_eq!(a.difference(&b), set(&[(1, &[0, 2]), (2, &[0])]));
        assert!(!a.is_subset(&b) && !a.is_disjoint(&b));
        assert!(a.intersection(&b).is_subset(&b) && a.difference(&b).is_disjoint(&b));
        let mut union = a.difference(&b);
        union.extend(&b);
        assert_eq!(union, set(&[(1, &[0, 1, 2, 3]), (2, &[0]), (3, &[0])]));
        assert!(
            union.contains(TopicId([1; 16]), PartitionIndex(3)) && !a.contains(TopicId([9; 16]), PartitionIndex(0))
        );
    }
}
