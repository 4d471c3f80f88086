//! Doubt: which partitions may lack something that a damaged journal held, and nobody can tell any more.
//!
//! What a commit held is known only when it is whole. But entries of a partition are in the order of its batches, so
//! one behind the damage says how far the log must reach, whatever was lost before. A partition without such an entry
//! may have had its last batches in what is lost.
//!
//! *Owns*: what a scan has come across since the last damage. *Never*: reads anything. *Runs on*: core 0 before
//! partitions are opened, and tools.

use std::collections::BTreeSet;

use crate::base::ids::{PartitionIndex, TopicId};

#[derive(Debug, Default)]
pub struct Doubt {
    /// The first damage.
    cause: Option<String>,
    since: BTreeSet<(TopicId, PartitionIndex)>,
}

impl Doubt {
    pub fn on_damage(&mut self, what: &str) {
        self.cause.get_or_insert_with(|| what.to_owned());
        self.since.clear();
    }

    pub fn on_entry(&mut self, topic: TopicId, partition: PartitionIndex) {
        if self.cause.is_some() {
            self.since.insert((topic, partition));
        }
    }

    /// What is wrong with the journal, if anything is.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// Whether a partition that had its commits in this journal may have lost some.
    pub fn is_about(&self, name: (TopicId, PartitionIndex)) -> bool {
        self.cause.is_some() && !self.since.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_entry_behind_the_last_damage_settles_what_was_lost() {
        let name = |number: u8| (TopicId([number; 16]), PartitionIndex(0));
        let mut doubt = Doubt::default();
        doubt.on_entry(name(1).0, name(1).1);
        assert!(!doubt.is_about(name(1)), "nothing is damaged");
        doubt.on_damage("commit 2");
        doubt.on_entry(name(2).0, name(2).1);
        assert_eq!([1, 2, 3].map(|number| doubt.is_about(name(number))), [true, false, true]);
        doubt.on_damage("commit 4");
        assert_eq!([1, 2, 3].map(|number| doubt.is_about(name(number))), [true, true, true]);
        assert_eq!(doubt.cause(), Some("commit 2"));
    }
}
