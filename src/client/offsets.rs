//! Where the logs of partitions begin and end, and which offset a time has.
//!
//! *Owns*: asking each partition's leader, and again when leaders move. *Never*: decides which offset is wanted.
//! *Runs on*: a thread that may wait.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::client::client::{Attempts, Client, To, passes};
use crate::client::error::{ClientError, Refusal};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A moment of a partition's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    Start,
    /// Where the next record that can be read will be.
    End,
    /// The first record that is as young as that, in milliseconds since 1970.
    Time(i64),
}

impl Moment {
    /// As ListOffsets has it.
    fn timestamp(self) -> i64 {
        match self {
            Moment::Start => -2,
            Moment::End => -1,
            Moment::Time(ms) => ms.max(0),
        }
    }
}

/// For each partition its offset, `None` where no record is as young as asked, or the broker's refusal.
pub type Offsets = BTreeMap<TopicPartition, Result<Option<i64>, Refusal>>;

impl Client {
    /// The offsets of these partitions at a moment.
    pub fn offsets(&mut self, partitions: &BTreeSet<TopicPartition>, moment: Moment) -> Result<Offsets, ClientError> {
        let mut offsets = Offsets::new();
        let mut wanted = partitions.clone();
        let mut attempts = Attempts::new(self.wait());
        loop {
            offsets.extend(self.offsets_once(&wanted, moment)?);
            let has_passing = |partition: &TopicPartition| {
                offsets.get(partition).is_some_and(|found| found.as_ref().is_err_and(|refusal| passes(refusal.code)))
            };
            wanted.retain(has_passing);
            if wanted.is_empty() || !attempts.pause() {
                return Ok(offsets);
            }
        }
    }

    fn offsets_once(&mut self, wanted: &BTreeSet<TopicPartition>, moment: Moment) -> Result<Offsets, ClientError> {
        let mut offsets = Offsets::new();
        let names: BTreeSet<&String> = wanted.iter().map(|partition| &partition.topic).collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let mut leaders: BTreeMap<TopicPartition, Result<i32, Refusal>> = BTreeMap::new();
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        for topic in self.topics(Some(&names))? {
            let name = topic.name.as_deref().unwrap_or_default();
            for row in &topic.partitions {
                let place = TopicPartition { topic: name.to_owned(), partition: row.partition_index };
                let led = if row.leader_id >= 0 { 0 } else { ErrorCode::LeaderNotAvailable.code() };
                leaders.insert(place, Refusal::of(led, None).map_or(Ok(row.leader_id), Err));
            }
            for place in wanted.iter().filter(|place| place.topic == name) {
                let code = if topic.error_code == 0 { unknown } else { topic.error_code };
                let refusal = Refusal::of(code, None).expect("a code that says no");
                leaders.entry(place.clone()).or_insert(Err(refusal));
            }
        }
        let mut by_leader: BTreeMap<i32, Vec<&TopicPartition>> = BTreeMap::new();
        for place in wanted {
            match leaders.remove(place) {
                Some(Ok(leader)) => by_leader.entry(leader).or_default().push(place),
                Some(Err(refusal)) => drop(offsets.insert(place.clone(), Err(refusal))),
                None => drop(offsets.insert(place.clone(), Err(Refusal::of(unknown, None).expect("it says no")))),
            }
        }
        for (leader, places) in by_leader {
            let request = ListOffsetsRequest {
                replica_id: -1,
                topics: rows(&places, moment.timestamp()),
                timeout_ms: self.wait_ms(),
                ..Default::default()
            };
            let reply: ListOffsetsResponse = self.ask(To::Node(leader), &request, |_| Vec::new())?;
            for topic in &reply.topics {
                for row in &topic.partitions {
                    let place = TopicPartition { topic: topic.name.to_string(), partition: row.partition_index };
                    let offset = Some(row.offset).filter(|offset| *offset >= 0);
                    offsets.insert(place, Refusal::of(row.error_code, None).map_or(Ok(offset), Err));
                }
            }
        }
        Ok(offsets)
    }
}

/// Sorted by topic already.
fn rows(places: &[&TopicPartition], timestamp: i64) -> Vec<ListOffsetsTopic> {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for place in places {
        if topics.last().is_none_or(|topic| *topic.name != place.topic) {
            topics.push(ListOffsetsTopic { name: place.topic.as_str().into(), partitions: Vec::new() });
        }
        let row = ListOffsetsPartition { partition_index: place.partition, timestamp, ..Default::default() };
        topics.last_mut().expect("one was pushed").partitions.push(row);
    }
    topics
}
