//! The offsets that a group has committed: read, written and forgotten for it by somebody who is no member.
//!
//! *Owns*: the requests, in the versions that name topics. *Never*: asks whether the group is active (its coordinator
//! does). *Runs on*: a thread that may wait.

use std::collections::BTreeMap;

use crate::client::client::{Client, To};
use crate::client::error::{ClientError, Refusal};
use crate::client::offsets::{TopicPartition, by_topic};
use crate::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::wire::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetDeleteResponse,
};
use crate::wire::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
};

/// From this version on topics are told by their ids alone.
const NAMES_UNTIL: i16 = 9;

/// What was done to each partition's offset.
pub type Done = BTreeMap<TopicPartition, Result<(), Refusal>>;

impl Client {
    /// Every offset that the group has.
    pub fn committed(&mut self, group: &str) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let asked = OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
        let request =
            OffsetFetchRequest { group_id: group.into(), topics: None, groups: vec![asked], require_stable: false };
        let codes = |reply: &OffsetFetchResponse| {
            let codes = reply.groups.iter().map(|group| group.error_code);
            codes.chain([reply.error_code]).collect()
        };
        let reply: OffsetFetchResponse = self.ask_up_to(NAMES_UNTIL, To::Coordinator(group), &request, codes)?;
        let of_group: OffsetFetchResponseGroup = reply.groups.into_iter().next().unwrap_or_default();
        let code = if reply.error_code == 0 { of_group.error_code } else { reply.error_code };
        if let Some(refusal) = Refusal::of(code, None) {
            return Err(ClientError::refused(&format!("group {group}"), &refusal));
        }
        let mut committed = BTreeMap::new();
        let mut add = |topic: &str, partition: i32, offset: i64| {
            if offset >= 0 {
                committed.insert(TopicPartition { topic: topic.to_owned(), partition }, offset);
            }
        };
        for topic in &reply.topics {
            topic.partitions.iter().for_each(|row| add(&topic.name, row.partition_index, row.committed_offset));
        }
        for topic in &of_group.topics {
            topic.partitions.iter().for_each(|row| add(&topic.name, row.partition_index, row.committed_offset));
        }
        Ok(committed)
    }

    /// Commits for a group that has no member.
    pub fn commit(&mut self, group: &str, offsets: &BTreeMap<TopicPartition, i64>) -> Result<Done, ClientError> {
        let topics = by_topic(offsets.iter().map(|(place, offset)| (place, *offset))).into_iter();
        let topics = topics.map(|(name, rows)| OffsetCommitRequestTopic {
            name: name.into(),
            partitions: rows
                .into_iter()
                .map(|(partition_index, committed_offset)| OffsetCommitRequestPartition {
                    partition_index,
                    committed_offset,
                    committed_metadata: Some("".into()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        let request = OffsetCommitRequest { group_id: group.into(), topics: topics.collect(), ..Default::default() };
        let codes = |reply: &OffsetCommitResponse| {
            reply.topics.iter().flat_map(|topic| &topic.partitions).map(|row| row.error_code).collect()
        };
        let reply: OffsetCommitResponse = self.ask_up_to(NAMES_UNTIL, To::Coordinator(group), &request, codes)?;
        let rows = reply.topics.iter().flat_map(|topic| topic.partitions.iter().map(|row| (&topic.name, row)));
        Ok(rows.map(|(topic, row)| done(topic, row.partition_index, row.error_code)).collect())
    }

    /// Forgets the group's offsets of these partitions.
    pub fn forget_offsets(&mut self, group: &str, places: &[TopicPartition]) -> Result<Done, ClientError> {
        let topics = by_topic(places.iter().map(|place| (place, ()))).into_iter();
        let topics = topics.map(|(name, rows)| OffsetDeleteRequestTopic {
            name: name.into(),
            partitions: rows
                .into_iter()
                .map(|(partition_index, ())| OffsetDeleteRequestPartition { partition_index })
                .collect(),
        });
        let request = OffsetDeleteRequest { group_id: group.into(), topics: topics.collect() };
        let codes = |reply: &OffsetDeleteResponse| vec![reply.error_code];
        let reply: OffsetDeleteResponse = self.ask(To::Coordinator(group), &request, codes)?;
        if let Some(refusal) = Refusal::of(reply.error_code, None) {
            return Err(ClientError::refused(&format!("group {group}"), &refusal));
        }
        let rows = reply.topics.iter().flat_map(|topic| topic.partitions.iter().map(|row| (&topic.name, row)));
        Ok(rows.map(|(topic, row)| done(topic, row.partition_index, row.error_code)).collect())
    }
}

fn done(topic: &str, partition: i32, code: i16) -> (TopicPartition, Result<(), Refusal>) {
    (TopicPartition { topic: topic.to_owned(), partition }, Refusal::of(code, None).map_or(Ok(()), Err))
}
