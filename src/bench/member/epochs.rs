//! The consumer protocol (KIP-848): heartbeats alone. The coordinator says what a member is to have; what it has too
//! much is given up and said to be, what it lacks is taken over.
//!
//! *Owns*: the member's way from what it has to what it is to have. *Never*: decides when it is asked. *Runs on*: the
//! member's thread.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Member, REBALANCE_TIMEOUT_MS, Stage};
use crate::bench::consumer::Consumer;
use crate::bench::workload::GroupProtocol;
use crate::wire::messages::consumer_group_heartbeat::{
    self, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use crate::wire::text::Text;

/// The one that balances the partitions of all topics together.
const ASSIGNOR: Text = Text::from_static("uniform");

/// Epochs that say what a heartbeat is for.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;

impl Member {
    pub(super) fn is_heartbeat_due(&self, consumer: &Consumer, now_ns: u64) -> bool {
        let is_changed = self.settings.protocol == GroupProtocol::Consumer
            && self.said.as_ref().is_none_or(|said| *said != self.owned(consumer));
        self.next_heartbeat_ns <= now_ns || is_changed
    }

    pub(super) fn ask_heartbeat(&mut self, consumer: &Consumer, now_ns: u64) -> Vec<Bytes> {
        if self.settings.protocol == GroupProtocol::Classic {
            return self.ask_classic_heartbeat(now_ns);
        }
        self.next_heartbeat_ns = now_ns + self.heartbeat_interval_ns;
        let owned = self.owned(consumer);
        let is_whole = self.said.is_none() || self.stage == Stage::Outside;
        let mut request = self.consumer_request(if self.stage == Stage::Outside { JOIN } else { self.generation });
        if is_whole {
            request.rebalance_timeout_ms = REBALANCE_TIMEOUT_MS;
            request.subscribed_topic_names = Some(self.settings.topics.names().to_vec());
            // For one topic all assignors give the same shares.
            request.server_assignor = (self.settings.topics.names().len() > 1).then_some(ASSIGNOR);
        }
        if is_whole || self.said.as_ref() != Some(&owned) {
            let grouped = self.settings.topics.grouped(owned.iter().map(|index| (*index, ())));
            let row = |(number, rows): (usize, Vec<(i32, ())>)| TopicPartitions {
                topic_id: consumer.topics().id(number),
                partitions: rows.into_iter().map(|(partition, ())| partition).collect(),
            };
            request.topic_partitions = Some(grouped.into_iter().map(row).collect());
        }
        self.said = Some(owned);
        let version = self.version(consumer_group_heartbeat::API);
        self.ask(consumer_group_heartbeat::API, version, &request, now_ns)
    }

    pub(super) fn ask_to_leave(&mut self, now_ns: u64) -> Vec<Bytes> {
        if self.settings.protocol == GroupProtocol::Classic {
            return self.ask_to_leave_classic(now_ns);
        }
        let request = self.consumer_request(LEAVE);
        let version = self.version(consumer_group_heartbeat::API);
        self.ask(consumer_group_heartbeat::API, version, &request, now_ns)
    }

    pub(super) fn on_consumer_heartbeat(
        &mut self,
        reply: ConsumerGroupHeartbeatResponse,
        consumer: &mut Consumer,
        now_ns: u64,
    ) {
        if self.stage == Stage::Leaving {
            // Only the heartbeat that leaves is answered with that epoch.
            let has_left = reply.member_epoch == LEAVE || reply.error_code != 0;
            self.stage = if has_left { Stage::Left } else { Stage::Leaving };
            return;
        }
        if reply.error_code != 0 {
            self.said = None;
            return self.on_refused(consumer_group_heartbeat::API, reply.error_code, consumer, now_ns);
        }
        if let Some(id) = reply.member_id {
            self.id = id;
        }
        self.generation = reply.member_epoch;
        self.heartbeat_interval_ns = u64::try_from(reply.heartbeat_interval_ms).unwrap_or(0).max(1) * 1_000_000;
        self.next_heartbeat_ns = now_ns + self.heartbeat_interval_ns;
        if self.stage == Stage::Outside {
            self.stage = Stage::Inside;
            self.plan_commit(now_ns);
        }
        if let Some(assignment) = reply.assignment {
            let topics = consumer.topics();
            let rows = assignment
                .topic_partitions
                .into_iter()
                .filter_map(|topic| Some((topics.of_id(topic.topic_id)?, topic.partitions)));
            let indexes = rows.flat_map(|(number, partitions)| {
                partitions.into_iter().filter_map(move |partition| topics.all().index(number, partition))
            });
            self.target = indexes.collect();
        }
        self.reconcile(consumer);
    }

    /// Whether it has what it is to have, and has said so.
    pub(super) fn is_reconciled(&self) -> bool {
        self.settings.protocol == GroupProtocol::Classic || self.said.as_ref() == Some(&self.target)
    }

    fn reconcile(&mut self, consumer: &mut Consumer) {
        let owned = self.owned(consumer);
        if owned == self.target {
            return;
        }
        self.note_rebalance();
        let surplus: BTreeSet<u32> = owned.difference(&self.target).copied().collect();
        self.give_up(&surplus, consumer);
        self.unplaced.extend(self.target.difference(&owned));
    }

    fn owned(&self, consumer: &Consumer) -> BTreeSet<u32> {
        consumer.positions().map(|row| row.0).chain(self.unplaced.iter().copied()).collect()
    }

    fn consumer_request(&self, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.settings.group.clone(),
            member_id: self.id.clone(),
            member_epoch,
            ..Default::default()
        }
    }
}
