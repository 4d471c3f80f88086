//! The committed offsets of one group, and when they are forgotten (KIP-211).
//!
//! *Owns*: offsets by topic and partition. *Never*: knows who may commit; the group says. *Runs on*: the core of the
//! coordinator.
//!
//! Rules: Kafka, `OffsetMetadataManager`.

use std::collections::BTreeMap;

use super::coordinator::GroupOut;
use super::records::{self, OffsetCommitKey, OffsetCommitValue};
use crate::base::ids::TopicId;
use crate::config::Settings;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::wire::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::wire::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use crate::wire::text::Text;

const MINUTE_MS: i64 = 60_000;

#[derive(Debug, Default)]
pub struct GroupOffsets {
    topics: BTreeMap<String, BTreeMap<i32, Committed>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Committed {
    offset: i64,
    leader_epoch: i32,
    metadata: String,
    commit_timestamp_ms: i64,
    /// −1: as long as the broker keeps offsets.
    expire_timestamp_ms: i64,
}

/// From when on the retention of an offset counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetainedSince {
    Commit,
    /// The group became empty then. Kafka's clients may commit long before they end.
    Empty {
        wall_ms: i64,
    },
    /// The group is in use: its offsets stay.
    Ever,
}

impl GroupOffsets {
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The topics of which there are offsets.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(String::as_str)
    }

    /// Takes what a client commits. Offsets whose metadata is too long are refused, the others stand.
    pub fn commit(
        &mut self,
        ask: &OffsetCommitRequest,
        settings: &Settings,
        wall_ms: i64,
        out: &mut GroupOut,
    ) -> OffsetCommitResponse {
        let expire_timestamp_ms =
            if ask.retention_time_ms < 0 { -1 } else { wall_ms.saturating_add(ask.retention_time_ms) };
        let metadata_bytes_max = settings.offset_metadata_max_bytes as usize;
        let mut topics = Vec::with_capacity(ask.topics.len());
        for topic in &ask.topics {
            let mut rows = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let metadata = partition.committed_metadata.as_ref().map_or(0, |text| text.as_bytes().len());
                let error = if metadata > metadata_bytes_max {
                    ErrorCode::OffsetMetadataTooLarge
                } else {
                    self.commit_one(&ask.group_id, &topic.name, partition, wall_ms, expire_timestamp_ms, out);
                    ErrorCode::None
                };
                rows.push(OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                });
            }
            topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: rows,
            });
        }
        OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
    }

    fn commit_one(
        &mut self,
        group: &Text,
        topic: &Text,
        partition: &OffsetCommitRequestPartition,
        wall_ms: i64,
        expire_timestamp: i64,
        out: &mut GroupOut,
    ) {
        let key = OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition: partition.partition_index };
        let value = OffsetCommitValue {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.clone().unwrap_or_default(),
            commit_timestamp: wall_ms,
            expire_timestamp,
            topic_id: TopicId::ZERO,
        };
        out.records.push(records::offset(&key, Some(&value)));
        self.on_record(&key, Some(&value));
    }

    /// An offset as it stands in the log; no value: it is forgotten.
    pub fn on_record(&mut self, key: &OffsetCommitKey, value: Option<&OffsetCommitValue>) {
        let Some(value) = value else {
            return self.remove(&key.topic, key.partition);
        };
        let committed = Committed {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.to_string(),
            commit_timestamp_ms: value.commit_timestamp,
            expire_timestamp_ms: value.expire_timestamp,
        };
        match self.topics.get_mut(&*key.topic) {
            Some(partitions) => {
                partitions.insert(key.partition, committed);
            }
            None => {
                self.topics.insert(key.topic.to_string(), BTreeMap::from([(key.partition, committed)]));
            }
        }
    }

    /// What was asked for, or everything.
    pub fn fetch(&self, ask: &OffsetFetchRequestGroup) -> Vec<OffsetFetchResponseTopics> {
        let Some(asked) = &ask.topics else {
            let topics = self.topics.iter().map(|(name, partitions)| OffsetFetchResponseTopics {
                name: name.into(),
                topic_id: TopicId::ZERO,
                partitions: partitions.iter().map(|(&index, committed)| fetched(index, Some(committed))).collect(),
            });
            return topics.collect();
        };
        let topics = asked.iter().map(|topic| {
            let known = self.topics.get(&*topic.name);
            let rows =
                topic.partition_indexes.iter().map(|index| fetched(*index, known.and_then(|all| all.get(index))));
            OffsetFetchResponseTopics { name: topic.name.clone(), topic_id: topic.topic_id, partitions: rows.collect() }
        });
        topics.collect()
    }

    /// Forgets offsets at a client's wish, except of topics that the group still reads.
    pub fn delete(
        &mut self,
        ask: &OffsetDeleteRequest,
        is_subscribed: impl Fn(&str) -> bool,
        out: &mut GroupOut,
    ) -> OffsetDeleteResponse {
        let mut topics = Vec::with_capacity(ask.topics.len());
        for topic in &ask.topics {
            let subscribed = is_subscribed(&topic.name);
            let error = if subscribed { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
            let mut rows = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let known = self.topics.get(&*topic.name).is_some_and(|all| all.contains_key(&index));
                if known && !subscribed {
                    self.forget(&ask.group_id, &topic.name, index, out);
                }
                rows.push(OffsetDeleteResponsePartition { partition_index: index, error_code: error.code() });
            }
            topics.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions: rows });
        }
        OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() }
    }

    /// Forgets every offset of a topic that is gone.
    pub fn delete_topic(&mut self, group: &str, topic: &str, out: &mut GroupOut) {
        let Some(partitions) = self.topics.get(topic) else { return };
        let partitions: Vec<i32> = partitions.keys().copied().collect();
        let (group, topic) = (Text::from(group), Text::from(topic));
        for partition in partitions {
            self.forget(&group, &topic, partition, out);
        }
    }

    /// Forgets everything.
    pub fn delete_all(&mut self, group: &str, out: &mut GroupOut) {
        let topics: Vec<String> = self.topics.keys().cloned().collect();
        for topic in topics {
            self.delete_topic(group, &topic, out);
        }
    }

    /// Forgets what is older than the broker keeps offsets (`offsets.retention.minutes`). Those of topics that the
    /// group reads stay.
    pub fn expire(
        &mut self,
        group: &str,
        since: RetainedSince,
        is_subscribed: impl Fn(&str) -> bool,
        settings: &Settings,
        wall_ms: i64,
        out: &mut GroupOut,
    ) {
        let retention_ms = i64::from(settings.offsets_retention_minutes) * MINUTE_MS;
        let mut expired = Vec::new();
        for (topic, partitions) in self.topics.iter().filter(|(topic, _)| !is_subscribed(topic)) {
            let old = partitions.iter().filter(|(_, committed)| committed.is_expired(since, retention_ms, wall_ms));
            expired.extend(old.map(|(&partition, _)| (Text::from(topic), partition)));
        }
        let group = Text::from(group);
        for (topic, partition) in expired {
            self.forget(&group, &topic, partition, out);
        }
    }

    fn forget(&mut self, group: &Text, topic: &Text, partition: i32, out: &mut GroupOut) {
        let key = OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition };
        out.records.push(records::offset(&key, None));
        self.remove(topic, partition);
    }

    fn remove(&mut self, topic: &str, partition: i32) {
        let Some(partitions) = self.topics.get_mut(topic) else { return };
        partitions.remove(&partition);
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
    }
}

impl Committed {
    fn is_expired(&self, since: RetainedSince, retention_ms: i64, wall_ms: i64) -> bool {
        let since_ms = match since {
            RetainedSince::Ever => return false,
            _ if self.expire_timestamp_ms >= 0 => return wall_ms >= self.expire_timestamp_ms,
            RetainedSince::Commit => self.commit_timestamp_ms,
            RetainedSince::Empty { wall_ms } => wall_ms,
        };
        wall_ms.saturating_sub(since_ms) >= retention_ms
    }
}

fn fetched(partition_index: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.map_or(-1, |committed| committed.offset),
        committed_leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch),
        metadata: Some(committed.map_or(Text::default(), |committed| (&committed.metadata).into())),
        error_code: ErrorCode::None.code(),
    }
}
