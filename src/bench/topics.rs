//! The topics of a run, and one index for each partition of all of them.
//!
//! Whatever moves records knows a partition by its index over all topics, and only requests and replies speak of
//! topics. Indexes go round the topics: who takes one after the other uses all topics alike.
//!
//! *Owns*: names, and the way from a topic's partition to its index and back. *Never*: knows where a partition lies.
//! *Runs on*: any thread; copies share the names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::wire::text::Text;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topics {
    names: Arc<Names>,
    /// Of each topic.
    partitions: u32,
}

#[derive(PartialEq, Eq, Debug)]
struct Names {
    all: Vec<Text>,
    numbers: BTreeMap<Text, usize>,
}

impl Topics {
    /// Topics of these names, which differ, with so many partitions each.
    pub fn new<N: Into<Text>>(names: impl IntoIterator<Item = N>, partitions: u32) -> Topics {
        let all: Vec<Text> = names.into_iter().map(Into::into).collect();
        let numbers: BTreeMap<Text, usize> = all.iter().cloned().zip(0..).collect();
        assert_eq!(numbers.len(), all.len(), "each name is of one topic");
        Topics { names: Arc::new(Names { all, numbers }), partitions }
    }

    pub fn names(&self) -> &[Text] {
        &self.names.all
    }

    /// The topic of that name: its place among the names.
    pub fn number(&self, name: &Text) -> Option<usize> {
        self.names.numbers.get(name).copied()
    }

    /// Partitions of each topic.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Partitions of all topics together. Indexes are below it.
    pub fn count(&self) -> u32 {
        self.names.all.len() as u32 * self.partitions
    }

    /// The index of a topic's partition, unless there is none of that number.
    pub fn index(&self, topic: usize, partition: i32) -> Option<u32> {
        let partition = u32::try_from(partition).ok().filter(|partition| *partition < self.partitions)?;
        (topic < self.names.all.len()).then(|| partition * self.names.all.len() as u32 + topic as u32)
    }

    /// The topic's number, and its partition.
    pub fn split(&self, index: u32) -> (usize, i32) {
        assert!(index < self.count(), "an index is below the count of all partitions");
        let topics = self.names.all.len() as u32;
        ((index % topics) as usize, (index / topics) as i32)
    }

    /// The partition as people know it: `NAME-0`.
    pub fn shown(&self, index: u32) -> String {
        let (topic, partition) = self.split(index);
        format!("{}-{partition}", self.names.all[topic].as_str())
    }

    /// Rows of partitions as requests have them: by topic, each in the place of its first row.
    pub fn grouped<T>(&self, rows: impl IntoIterator<Item = (u32, T)>) -> Vec<(usize, Vec<(i32, T)>)> {
        let mut groups: Vec<(usize, Vec<(i32, T)>)> = Vec::new();
        let mut places = BTreeMap::new();
        for (index, row) in rows {
            let (topic, partition) = self.split(index);
            let place = *places.entry(topic).or_insert(groups.len());
            if place == groups.len() {
                groups.push((topic, Vec::new()));
            }
            groups[place].1.push((partition, row));
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_an_index_of_its_own() {
        let topics = Topics::new(["a", "b", "c"], 2);
        assert_eq!((topics.count(), topics.partitions()), (6, 2));
        let shown: Vec<String> = (0..6).map(|index| topics.shown(index)).collect();
        assert_eq!(shown, ["a-0", "b-0", "c-0", "a-1", "b-1", "c-1"]);
        for index in 0..6 {
            let (topic, partition) = topics.split(index);
            assert_eq!(topics.index(topic, partition), Some(index));
        }
        assert_eq!(topics.number(&Text::from("b")), Some(1));
        assert_eq!(topics.number(&Text::from("d")), None);
        // What a broker may say, and is not so.
        assert_eq!((topics.index(0, 2), topics.index(0, -1), topics.index(3, 0)), (None, None, None));
    }

    #[test]
    fn rows_are_grouped_by_topic_in_the_order_of_coming() {
        let topics = Topics::new(["a", "b", "c"], 2);
        let check = |rows: &[u32], expect: &[(usize, &[(i32, u32)])]| {
            let found = topics.grouped(rows.iter().map(|row| (*row, *row)));
            let found: Vec<_> = found.iter().map(|(topic, rows)| (*topic, &rows[..])).collect();
            assert_eq!(found, expect, "{rows:?}");
        };
        check(&[], &[]);
        check(&[4, 0, 1], &[(1, &[(1, 4), (0, 1)]), (0, &[(0, 0)])]);
        check(&[2, 5], &[(2, &[(0, 2), (1, 5)])]);
    }
}
