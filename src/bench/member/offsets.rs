//! What a member commits, and where it reads on after others.
//!
//! *Owns*: the commits. *Never*: moves a consumer that has its place. *Runs on*: the member's thread.

use bytes::Bytes;

use super::Member;
use crate::bench::consumer::Consumer;
use crate::bench::workload::GroupProtocol;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::offset_commit::{
    self, OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::wire::messages::offset_fetch::{
    self, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
};
use crate::wire::text::Text;

/// The first version of OffsetFetch with several groups.
const GROUPS_FROM: i16 = 8;

impl Member {
    /// From now on commits are due.
    pub(super) fn plan_commit(&mut self, now_ns: u64) {
        let interval_ns = self.settings.commit_interval_ns;
        if interval_ns > 0 {
            self.next_commit_ns = now_ns + interval_ns;
        }
    }

    pub(super) fn ask_commit(&mut self, rows: &[(u32, i64)], now_ns: u64) -> Vec<Bytes> {
        let topics = &self.settings.topics;
        let partition = |(partition_index, committed_offset)| OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            ..Default::default()
        };
        let grouped = topics.grouped(rows.iter().copied()).into_iter();
        let rows = grouped.map(|(number, rows)| OffsetCommitRequestTopic {
            name: topics.names()[number].clone(),
            partitions: rows.into_iter().map(partition).collect(),
            ..Default::default()
        });
        let request = OffsetCommitRequest {
            group_id: self.settings.group.clone(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone(),
            topics: rows.collect(),
            ..Default::default()
        };
        self.ask(offset_commit::API, self.version(offset_commit::API), &request, now_ns)
    }

    pub(super) fn on_commit(
        &mut self,
        reply: &OffsetCommitResponse,
        sent_ns: u64,
        consumer: &mut Consumer,
        now_ns: u64,
    ) {
        let codes = reply.topics.iter().flat_map(|topic| &topic.partitions).map(|row| row.error_code);
        let Some(code) = codes.into_iter().find(|code| *code != 0) else {
            self.handed_over.clear();
            self.news.commits_ns.push(now_ns.saturating_sub(sent_ns));
            return;
        };
        self.news.commits_refused += 1;
        // Tried again only where that can help: whoever reads on from an older commit reads some records again.
        let known = ErrorCode::from_code(code);
        if !known.is_some_and(|known| known.retriable() || known == ErrorCode::StaleMemberEpoch) {
            self.handed_over.clear();
        }
        self.on_refused(offset_commit::API, code, consumer, now_ns);
    }

    pub(super) fn ask_committed(&mut self, now_ns: u64) -> Vec<Bytes> {
        let version = self.version(offset_fetch::API);
        let topics = &self.settings.topics;
        let grouped = topics.grouped(self.unplaced.iter().map(|index| (*index, ()))).into_iter();
        let rows = grouped.map(|(number, rows)| {
            let partition_indexes: Vec<i32> = rows.into_iter().map(|(partition, ())| partition).collect();
            (topics.names()[number].clone(), partition_indexes)
        });
        let group_id = self.settings.group.clone();
        let request = if version >= GROUPS_FROM {
            let is_classic = self.settings.protocol == GroupProtocol::Classic;
            let topic =
                |(name, partition_indexes)| OffsetFetchRequestTopics { name, partition_indexes, ..Default::default() };
            let group = OffsetFetchRequestGroup {
                group_id,
                member_id: (!is_classic).then(|| self.id.clone()),
                member_epoch: if is_classic { -1 } else { self.generation },
                topics: Some(rows.map(topic).collect()),
            };
            OffsetFetchRequest { groups: vec![group], ..Default::default() }
        } else {
            let topic = |(name, partition_indexes)| OffsetFetchRequestTopic { name, partition_indexes };
            OffsetFetchRequest { group_id, topics: Some(rows.map(topic).collect()), ..Default::default() }
        };
        self.ask(offset_fetch::API, version, &request, now_ns)
    }

    /// Assigns what was waited for: from where the group has read to, or from where the run began.
    pub(super) fn on_committed(&mut self, reply: OffsetFetchResponse, consumer: &mut Consumer, now_ns: u64) {
        let code = reply.groups.first().map_or(reply.error_code, |group| group.error_code);
        let topics = &self.settings.topics;
        let index = |name: &Text, partition: i32| topics.index(topics.number(name)?, partition);
        let mut rows: Vec<(Option<u32>, i64, i16)> = Vec::new();
        for topic in &reply.topics {
            let row = |row: &OffsetFetchResponsePartition| {
                (index(&topic.name, row.partition_index), row.committed_offset, row.error_code)
            };
            rows.extend(topic.partitions.iter().map(row));
        }
        for topic in reply.groups.iter().flat_map(|group| &group.topics) {
            let row = |row: &OffsetFetchResponsePartitions| {
                (index(&topic.name, row.partition_index), row.committed_offset, row.error_code)
            };
            rows.extend(topic.partitions.iter().map(row));
        }
        let code = rows.iter().map(|row| row.2).chain([code]).find(|code| *code != 0);
        if let Some(code) = code {
            return self.on_refused(offset_fetch::API, code, consumer, now_ns);
        }
        let mut assigned = Vec::new();
        for (index, committed, _) in rows {
            if let Some(index) = index.filter(|index| self.unplaced.remove(index)) {
                let start = self.settings.starts[index as usize];
                assigned.push((index, if committed >= 0 { committed } else { start }));
            }
        }
        consumer.assign(&assigned, now_ns);
        if assigned.is_empty() {
            // The reply lacks what was asked for; asking at once would go in circles.
            self.retry_at_ns = now_ns + super::BACKOFF_NS;
        }
    }
}
