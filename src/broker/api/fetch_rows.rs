//! The partitions that one fetch session follows, and which of them its next fetch has to read.
//!
//! A partition is at rest when its client has read it to the end and was told everything, and its owner's core was
//! asked to say when that changes. All others are due. A fetch reads what is due and nothing else, so it costs what has
//! changed, and not what the session has.
//!
//! Invariant: of a partition that is at rest, either its owner's core holds a watch for it, or word of a change is on
//! its way here. What is read while that word is on its way proves nothing, so rest is only given to what was not
//! changed since the read was ordered.
//!
//! *Owns*: what a client wants of each partition, what it was told, whose turn it is. *Never*: sends a watch; whoever
//! puts a partition to rest does. *Runs on*: the core whose client has the session.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::TopicId;
use crate::base::limits;
use crate::base::slab::{Key, Slab};
use crate::broker::message::TopicPartition;
use crate::wire::text::Text;

/// What a client wants of one partition, in its own words.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Empty when the client speaks of topic ids.
    pub topic: Text,
    /// Zero when the client speaks of names.
    pub topic_id: TopicId,
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    /// Of a follower: where its log begins.
    pub log_start_offset: i64,
    pub bytes_max: i32,
}

#[derive(Debug, Default)]
pub struct FetchRows {
    rows: Slab<Row>,
    /// By topic and partition, as the client names them.
    places: BTreeMap<(Text, TopicId), BTreeMap<i32, Key>>,
    /// What is not at rest, by turn.
    due: BTreeSet<(u64, Key)>,
    next_turn: u64,
    /// Counts everything that made a row due.
    changes: u64,
}

#[derive(Debug)]
struct Row {
    wanted: Wanted,
    /// Place in the order in which partitions are read. No two rows have the same.
    turn: u64,
    /// The change that made it due.
    changed_at: u64,
    /// High watermark and log start that the client was told last; −1 before the first reply.
    told: (i64, i64),
    /// Where a watch was left, and after which change.
    watched: Option<(TopicPartition, u64)>,
}

impl FetchRows {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes over what a request says of a partition, which is due with that. Beyond the bound new ones are left out.
    pub fn want(&mut self, wanted: Wanted) {
        let (name, partition) = ((wanted.topic.clone(), wanted.topic_id), wanted.partition);
        let known = self.places.get_key_value(&name).map(|(name, places)| (name.0.clone(), places.get(&partition)));
        if let Some((topic, Some(&key))) = known {
            self.rows.get_mut(key).expect("each place has its row").wanted = Wanted { topic, ..wanted };
            return self.on_changed(key);
        }
        if self.rows.len() >= limits::FETCH_SESSION_PARTITIONS_MAX {
            return;
        }
        // The receive buffer must not live as long as the session.
        let topic = known.map_or_else(|| Text::from(wanted.topic.as_str()), |(topic, _)| topic);
        let wanted = Wanted { topic: topic.clone(), ..wanted };
        let turn = self.next_turn;
        self.next_turn += 1;
        let key = self.rows.insert(Row { wanted, turn, changed_at: 0, told: (-1, -1), watched: None });
        self.places.entry((topic, name.1)).or_default().insert(partition, key);
        self.on_changed(key);
    }

    /// Drops a partition, and returns where a watch may be left.
    pub fn forget(&mut self, topic: &Text, topic_id: TopicId, partition: i32) -> Option<(TopicPartition, Key)> {
        let name = (topic.clone(), topic_id);
        let places = self.places.get_mut(&name)?;
        let key = places.remove(&partition)?;
        if places.is_empty() {
            self.places.remove(&name);
        }
        let row = self.rows.remove(key).expect("each place has its row");
        self.due.remove(&(row.turn, key));
        row.watched.map(|(of, _)| (of, key))
    }

    /// What has to be read, in the order in which it is to be read.
    pub fn due(&self) -> impl Iterator<Item = (Key, &Wanted)> {
        self.due.iter().map(|&(_, key)| (key, &self.rows.get(key).expect("what is due is there").wanted))
    }

    /// How many partitions need no reading.
    pub fn at_rest(&self) -> usize {
        self.rows.len() - self.due.len()
    }

    /// Grows whenever something becomes due, or becomes due again.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Its owner's core says that it has changed, or the client has changed its mind.
    pub fn on_changed(&mut self, key: Key) {
        let Some(row) = self.rows.get_mut(key) else { return };
        self.changes += 1;
        row.changed_at = self.changes;
        self.due.insert((row.turn, key));
    }

    /// Whether a watch is to be sent to its owner: there is none since its last change. Takes note that it is sent.
    pub fn watch(&mut self, key: Key, of: TopicPartition) -> bool {
        let Some(row) = self.rows.get_mut(key) else { return false };
        if row.watched.is_some_and(|(place, at)| place == of && at >= row.changed_at) {
            return false;
        }
        row.watched = Some((of, self.changes));
        true
    }

    /// High watermark and log start that the client was told last; −1 before the first reply.
    pub fn told(&self, key: Key) -> Option<(i64, i64)> {
        self.rows.get(key).map(|row| row.told)
    }

    /// Notes what the reply says of a partition. Whether that differs from what was said before.
    pub fn tell(&mut self, key: Key, high_watermark: i64, log_start: i64) -> bool {
        let Some(row) = self.rows.get_mut(key) else { return false };
        let before = std::mem::replace(&mut row.told, (high_watermark, log_start));
        before != row.told
    }

    /// Puts a partition that gave data behind the others, so that each gets its turn under `max_bytes`.
    pub fn move_to_end(&mut self, key: Key) {
        let Some(row) = self.rows.get_mut(key) else { return };
        let was_due = self.due.remove(&(row.turn, key));
        row.turn = self.next_turn;
        self.next_turn += 1;
        if was_due {
            self.due.insert((row.turn, key));
        }
    }

    /// A read that was ordered after `seen` changes, and has been told of, found the end: puts the partition to rest
    /// unless it has changed since. Whether it has come to rest, and has to be watched.
    pub fn rest(&mut self, key: Key, seen: u64) -> bool {
        match self.rows.get(key) {
            Some(row) if row.changed_at <= seen => self.due.remove(&(row.turn, key)),
            _ => false,
        }
    }

    /// Where watches may be left.
    pub fn watched(&self) -> impl Iterator<Item = (TopicPartition, Key)> {
        let keys = self.rows.keys_where(|row| row.watched.is_some()).into_iter();
        keys.filter_map(|key| Some((self.rows.get(key)?.watched?.0, key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::PartitionIndex;

    fn wanted(partition: i32) -> Wanted {
        Wanted {
            topic: Text::from_static("t"),
            topic_id: TopicId::ZERO,
            partition,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            bytes_max: 1,
        }
    }

    fn rows(partitions: std::ops::Range<i32>) -> FetchRows {
        let mut rows = FetchRows::default();
        partitions.for_each(|partition| rows.want(wanted(partition)));
        rows
    }

    fn due(rows: &FetchRows) -> Vec<i32> {
        rows.due().map(|(_, wanted)| wanted.partition).collect()
    }

    fn key(rows: &FetchRows, partition: i32) -> Key {
        rows.places[&(Text::from_static("t"), TopicId::ZERO)][&partition]
    }

    fn place(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId::ZERO, partition: PartitionIndex(partition) }
    }

    #[test]
    fn partitions_take_turns_and_only_those_that_are_due() {
        let mut rows = rows(0..4);
        assert_eq!(due(&rows), [0, 1, 2, 3]);
        rows.move_to_end(key(&rows, 1));
        assert_eq!(due(&rows), [0, 2, 3, 1]);
        let seen = rows.changes();
        assert!([0, 2, 3].into_iter().all(|partition| rows.rest(key(&rows, partition), seen)));
        assert_eq!((due(&rows), rows.at_rest()), (vec![1], 3));
        rows.on_changed(key(&rows, 2));
        rows.on_changed(key(&rows, 2));
        assert_eq!(due(&rows), [2, 1]);
        rows.move_to_end(key(&rows, 0));
        rows.want(wanted(0));
        assert_eq!(due(&rows), [2, 1, 0]);
    }

    #[test]
    fn a_change_during_a_read_keeps_a_partition_due() {
        let mut rows = rows(0..2);
        let seen = rows.changes();
        rows.on_changed(key(&rows, 0));
        assert!(!rows.rest(key(&rows, 0), seen));
        assert!(rows.rest(key(&rows, 1), seen));
        assert_eq!(due(&rows), [0]);
        assert!(rows.rest(key(&rows, 0), rows.changes()));
        assert!(due(&rows).is_empty());
    }

    #[test]
    fn a_watch_is_sent_once_until_it_has_served() {
        let mut rows = rows(0..1);
        let key = key(&rows, 0);
        assert!(rows.watch(key, place(0)));
        assert!(!rows.watch(key, place(0)));
        assert!(rows.watch(key, place(5)), "another topic of the same name");
        rows.on_changed(key);
        assert!(rows.watch(key, place(5)));
        assert_eq!(rows.watched().collect::<Vec<_>>(), [(place(5), key)]);
    }

    #[test]
    fn what_is_forgotten_is_gone_and_word_of_it_comes_too_late() {
        let mut rows = rows(0..2);
        let old = key(&rows, 0);
        rows.watch(old, place(0));
        assert_eq!(rows.forget(&Text::from_static("t"), TopicId::ZERO, 0), Some((place(0), old)));
        assert_eq!(rows.forget(&Text::from_static("t"), TopicId::ZERO, 0), None);
        assert_eq!(rows.forget(&Text::from_static("t"), TopicId::ZERO, 1), None);
        assert!(rows.is_empty() && rows.places.is_empty() && due(&rows).is_empty());
        rows.want(wanted(7));
        let seen = rows.changes();
        rows.on_changed(old);
        assert!(!rows.tell(old, 1, 1) && !rows.rest(old, seen) && !rows.watch(old, place(0)));
        assert_eq!((due(&rows), rows.changes()), (vec![7], seen));
    }

    #[test]
    fn only_news_is_told() {
        let mut rows = rows(0..1);
        let key = key(&rows, 0);
        for (high_watermark, log_start, expect) in [(10, 0, true), (10, 0, false), (11, 0, true), (11, 3, true)] {
            assert_eq!(rows.tell(key, high_watermark, log_start), expect);
        }
        assert_eq!(rows.told(key), Some((11, 3)));
    }
}
