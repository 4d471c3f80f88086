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

/// Partitions by who leads them, and those that nobody does.
#[derive(Default)]
pub(super) struct Led<'a> {
    pub by_leader: BTreeMap<i32, Vec<&'a TopicPartition>>,
    pub refused: BTreeMap<TopicPartition, Refusal>,
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
        let Led { by_leader, refused } = self.led(wanted)?;
        let mut offsets: Offsets = refused.into_iter().map(|(place, refusal)| (place, Err(refusal))).collect();
        for (leader, places) in by_leader {
            let rows = by_topic(places.into_iter().map(|place| (place, moment.timestamp())));
            let request = ListOffsetsRequest {
                replica_id: -1,
                topics: rows.into_iter().map(asked).collect(),
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

    /// Who is to be asked for what.
    pub(super) fn led<'a>(
        &mut self,
        wanted: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Led<'a>, ClientError> {
        let wanted: BTreeSet<&TopicPartition> = wanted.into_iter().collect();
        let leaders = self.leaders(&wanted)?;
        let mut led = Led::default();
        for place in wanted {
            match leaders.get(place).cloned().unwrap_or(Err(refusal(ErrorCode::UnknownTopicOrPartition.code()))) {
                Ok(leader) => led.by_leader.entry(leader).or_default().push(place),
                Err(refusal) => drop(led.refused.insert(place.clone(), refusal)),
            }
        }
        Ok(led)
    }

    /// Who leads them. Those that are not there are left out, unless the broker says why.
    fn leaders(
        &mut self,
        wanted: &BTreeSet<&TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Result<i32, Refusal>>, ClientError> {
        let names: BTreeSet<&String> = wanted.iter().map(|place| &place.topic).collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let mut leaders = BTreeMap::new();
        for topic in self.topics(Some(&names))? {
            let name = topic.name.as_deref().unwrap_or_default();
            for place in wanted.iter().filter(|place| topic.error_code != 0 && place.topic == name) {
                leaders.insert((*place).clone(), Err(refusal(topic.error_code)));
            }
            for row in &topic.partitions {
                let place = TopicPartition { topic: name.to_owned(), partition: row.partition_index };
                let led = row.leader_id >= 0;
                let leader = if led { Ok(row.leader_id) } else { Err(refusal(ErrorCode::LeaderNotAvailable.code())) };
                leaders.insert(place, leader);
            }
        }
        Ok(leaders)
    }
}

/// Values of partitions, by topic.
pub(super) fn by_topic<'a, T>(
    rows: impl IntoIterator<Item = (&'a TopicPartition, T)>,
) -> BTreeMap<&'a str, Vec<(i32, T)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, T)>> = BTreeMap::new();
    for (place, value) in rows {
        topics.entry(&place.topic).or_default().push((place.partition, value));
    }
    topics
}

fn asked((name, rows): (&str, Vec<(i32, i64)>)) -> ListOffsetsTopic {
    let row = |(partition_index, timestamp)| ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
    ListOffsetsTopic { name: name.into(), partitions: rows.into_iter().map(row).collect() }
}

fn refusal(code: i16) -> Refusal {
    Refusal::of(code, None).expect("a code that says no")
}
