//! A client that commits offsets for a group, one after the other, and looks at what is committed: it is the last that
//! was acknowledged or shown, or one of those that were sent and never answered.

use std::collections::BTreeSet;

use bytes::Bytes;
use corelog::broker::api::key;
use corelog::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use corelog::wire::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse};

use crate::client::{Context, Wire, decode};
use crate::plan::{CommitterPlan, MS};

const COMMIT: (i16, i16) = (key::OFFSET_COMMIT, 7);
const FETCH: (i16, i16) = (key::OFFSET_FETCH, 5);
const AGAIN_NS: u64 = 30 * MS;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Request {
    /// Of this offset.
    Commit(i64),
    Fetch,
}

pub struct Committer {
    plan: CommitterPlan,
    wire: Wire<Request>,
    /// The next to be committed. Invariant: grows, so that none is ever sent twice.
    next: i64,
    /// What is committed for each target, as far as is known; −1 for nothing.
    committed: Vec<i64>,
    /// Sent, and nobody said what became of them: each may be what is committed, now or a moment later.
    unanswered: BTreeSet<i64>,
    /// Looks at what is committed next.
    looks: bool,
    /// What is committed was seen since producers have stopped.
    is_settled: bool,
    /// It was told to look again before.
    looked_again: bool,
    again_at: u64,
    pub acked: u64,
}

impl Committer {
    pub fn new(plan: CommitterPlan) -> Committer {
        Committer {
            committed: vec![-1; plan.targets.len()],
            wire: Wire::to_coordinator(&plan.group),
            plan,
            next: 0,
            unanswered: BTreeSet::new(),
            looks: false,
            is_settled: false,
            looked_again: false,
            again_at: 0,
            acked: 0,
        }
    }

    /// It has seen what is committed since it was last told to look.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// What was not answered before it was seen what is committed never will be.
    pub fn look_again(&mut self) {
        if self.looked_again {
            self.unanswered.clear();
        }
        (self.looked_again, self.is_settled) = (true, false);
    }

    pub fn on_connected(&mut self, context: &mut Context) {
        self.wire.on_connected();
        self.on_time(context);
    }

    pub fn on_closed(&mut self, context: &mut Context) {
        for request in self.wire.on_closed(context) {
            if let Request::Commit(offset) = request {
                self.unanswered.insert(offset);
            }
        }
    }

    pub fn on_time(&mut self, context: &mut Context) {
        let is_idle = !context.load && self.is_settled;
        if is_idle || !self.wire.is_due(self.again_at, context) {
            return;
        }
        if self.looks || !context.load {
            self.fetch(context);
        } else {
            self.commit(context);
        }
    }

    pub fn on_bytes(&mut self, bytes: &[u8], context: &mut Context) {
        self.wire.on_bytes(bytes);
        while let Some((request, frame)) = self.wire.next_reply() {
            let done = match request {
                Request::Commit(offset) => self.on_committed(offset, frame),
                Request::Fetch => self.on_fetched(frame, context.load),
            };
            self.looks = context.rng.below(3) == 0;
            if !done {
                self.wire.lose_leader(context);
            }
            let pause = if done { context.rng.below(self.plan.pause_ms * MS) } else { AGAIN_NS };
            self.again_at = context.now + pause;
        }
        self.on_time(context);
    }

    fn group(&self) -> corelog::wire::text::Text {
        self.plan.group.as_str().into()
    }

    fn commit(&mut self, context: &mut Context) {
        let offset = self.next;
        self.next += 1;
        let row = |&(topic, partition_index): &(usize, i32)| OffsetCommitRequestTopic {
            name: context.plan.topics[topic].name.as_str().into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index,
                committed_offset: offset,
                committed_metadata: Some(offset.to_string().as_str().into()),
                ..Default::default()
            }],
            ..Default::default()
        };
        let topics = self.plan.targets.iter().map(row).collect();
        let request = OffsetCommitRequest {
            group_id: self.group(),
            generation_id_or_member_epoch: -1,
            topics,
            ..Default::default()
        };
        self.wire.send(COMMIT, &request, Request::Commit(offset), context);
    }

    /// Whether all of it was taken.
    fn on_committed(&mut self, offset: i64, frame: Bytes) -> bool {
        let reply: OffsetCommitResponse = decode(COMMIT, frame);
        let mut rows = reply.topics.iter().flat_map(|topic| &topic.partitions);
        if rows.any(|row| row.error_code != 0) {
            self.unanswered.insert(offset);
            return false;
        }
        self.acked += 1;
        self.committed.fill(offset);
        true
    }

    fn fetch(&mut self, context: &mut Context) {
        let row = |&(topic, partition): &(usize, i32)| OffsetFetchRequestTopic {
            name: context.plan.topics[topic].name.as_str().into(),
            partition_indexes: vec![partition],
        };
        let topics = Some(self.plan.targets.iter().map(row).collect());
        let request = OffsetFetchRequest { group_id: self.group(), topics, ..Default::default() };
        self.wire.send(FETCH, &request, Request::Fetch, context);
    }

    fn on_fetched(&mut self, frame: Bytes, load: bool) -> bool {
        let reply: OffsetFetchResponse = decode(FETCH, frame);
        let rows: Vec<_> = reply.topics.iter().flat_map(|topic| &topic.partitions).collect();
        if reply.error_code != 0 || rows.iter().any(|row| row.error_code != 0) {
            return false;
        }
        assert_eq!(rows.len(), self.plan.targets.len(), "{}: a row for each that was asked for", self.plan.group);
        for ((row, known), (_, partition)) in rows.into_iter().zip(&mut self.committed).zip(&self.plan.targets) {
            let (group, offset) = (&self.plan.group, row.committed_offset);
            assert_eq!(row.partition_index, *partition, "rows come in the order they were asked for");
            let may_be = offset == *known || self.unanswered.contains(&offset);
            assert!(may_be, "{group}: {offset} is committed, and {known} was before");
            *known = offset;
            let metadata = if offset >= 0 { offset.to_string() } else { String::new() };
            assert_eq!(row.metadata.as_ref().map_or("", |text| text.as_str()), metadata, "what came with {offset}");
        }
        self.is_settled |= !load;
        true
    }
}
