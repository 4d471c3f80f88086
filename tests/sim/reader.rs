//! A consumer with a fetch session (KIP-227), which names only what has changed, and is told only what has. It knows the
//! epochs of what it reads: each new leader of a partition is asked where the last one ends (KIP-320), and must have all
//! that was read of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use corelog::broker::api::key;
use corelog::wire::batch::BatchHeader;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData,
};
use corelog::wire::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use crate::check::{Model, Part};
use crate::client::{Context, Wire, decode};
use crate::plan::{MS, Plan};

const FETCH: (i16, i16) = (key::FETCH, 12);
const EPOCH_END: (i16, i16) = (key::OFFSET_FOR_LEADER_EPOCH, 4);
const AGAIN_NS: u64 = 30 * MS;
const WAIT_MS: i32 = 200;
const BYTES_MAX: i32 = 100_000;
const UNKNOWN_EPOCH: i32 = -1;

enum Question {
    Fetch,
    /// Of this partition, in the epoch that its leader is believed to have.
    EpochEnd(Part, i32),
}

/// How far a partition was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    next: i64,
    /// Of the batch before.
    epoch: i32,
}

/// What the broker remembers of what was asked.
#[derive(Default)]
struct Session {
    id: i32,
    /// Of the next request.
    epoch: i32,
    /// Where each partition is read from, and what its leader's epoch is believed to be.
    rows: BTreeMap<Part, (Place, i32)>,
}

pub struct Reader {
    wire: Wire<Question>,
    /// Whose leader it speaks to.
    aim: Part,
    places: BTreeMap<Part, Place>,
    session: Session,
    /// The leader's epoch that was asked last for where an epoch ends.
    asked: BTreeMap<Part, i32>,
    /// Where each partition ended at least when the last Fetch request left.
    known_ends: BTreeMap<Part, i64>,
    again_at: u64,
}

impl Reader {
    pub fn new(parts: &[Part]) -> Reader {
        let start = Place { next: 0, epoch: UNKNOWN_EPOCH };
        Reader {
            wire: Wire::to_leader(parts[0]),
            aim: parts[0],
            places: parts.iter().map(|part| (*part, start)).collect(),
            session: Session::default(),
            asked: BTreeMap::new(),
            known_ends: BTreeMap::new(),
            again_at: 0,
        }
    }

    /// It has read all that anybody was shown.
    pub fn is_done(&self, model: &Model) -> bool {
        self.places.keys().all(|part| self.has_all(*part, model))
    }

    pub fn on_connected(&mut self, context: &mut Context) {
        self.wire.on_connected();
        self.on_time(context);
    }

    pub fn on_closed(&mut self, context: &mut Context) {
        self.wire.on_closed(context);
        self.session = Session::default();
    }

    pub fn on_time(&mut self, context: &mut Context) {
        let is_idle = !context.load && self.is_done(context.model);
        if is_idle {
            // Others may be shown more yet.
            return context.wake_in(AGAIN_NS);
        }
        if !self.wire.is_up(context) || self.wire.in_flight() > 0 {
            return;
        }
        if context.now < self.again_at {
            let at = self.again_at;
            return context.wake_in(at - context.now);
        }
        self.aim_again(context);
        if !self.wire.is_up(context) {
            return;
        }
        let (place, leader_epoch) = (self.places[&self.aim], self.wire.leader_epoch());
        let knows = place.epoch != UNKNOWN_EPOCH && leader_epoch != UNKNOWN_EPOCH;
        if knows && self.asked.get(&self.aim) != Some(&leader_epoch) {
            let request = epoch_end_request(context.plan, self.aim, place.epoch, leader_epoch);
            return self.wire.send(EPOCH_END, &request, Question::EpochEnd(self.aim, leader_epoch), context);
        }
        let request = self.fetch_request(leader_epoch, context);
        self.known_ends = self.places.keys().map(|part| (*part, context.known_end(*part))).collect();
        self.wire.send(FETCH, &request, Question::Fetch, context);
    }

    pub fn on_bytes(&mut self, bytes: &[u8], context: &mut Context) {
        self.wire.on_bytes(bytes);
        while let Some((question, frame)) = self.wire.next_reply() {
            match question {
                Question::Fetch => self.on_fetched(decode(FETCH, frame), context),
                Question::EpochEnd(part, epoch) => self.on_epoch_end(part, epoch, &decode(EPOCH_END, frame), context),
            }
        }
        self.on_time(context);
    }

    fn has_all(&self, part: Part, model: &Model) -> bool {
        self.places[&part].next >= model.end(part)
    }

    /// Now and then, and when nothing is left of a partition, the leader of another is spoken to.
    fn aim_again(&mut self, context: &mut Context) {
        let is_over = !context.load && self.has_all(self.aim, context.model);
        if is_over || context.rng.below(30) == 0 {
            let left: Vec<Part> = self
                .places
                .keys()
                .copied()
                .filter(|part| context.load || !self.has_all(*part, context.model))
                .collect();
            self.aim = left[context.rng.below(left.len() as u64) as usize];
            self.wire.aim_at(self.aim);
        }
    }

    /// Names what is not as the session has it, and now and then forgets one, to name it again next time.
    fn fetch_request(&mut self, leader_epoch: i32, context: &mut Context) -> FetchRequest {
        let mut topics = Vec::new();
        for (&part, &place) in &self.places {
            let row = (place, if part == self.aim { leader_epoch } else { UNKNOWN_EPOCH });
            if self.session.rows.insert(part, row) != Some(row) {
                topics.push(FetchTopic {
                    topic: context.plan.topics[part.0].name.as_str().into(),
                    partitions: vec![FetchPartition {
                        partition: part.1,
                        current_leader_epoch: row.1,
                        fetch_offset: place.next,
                        last_fetched_epoch: place.epoch,
                        partition_max_bytes: BYTES_MAX,
                        ..Default::default()
                    }],
                    ..Default::default()
                });
            }
        }
        let mut forgotten_topics_data = Vec::new();
        let others: Vec<Part> = self.places.keys().copied().filter(|part| *part != self.aim).collect();
        if self.session.id != 0 && !others.is_empty() && context.rng.below(10) == 0 {
            let part = others[context.rng.below(others.len() as u64) as usize];
            let name = context.plan.topics[part.0].name.as_str();
            topics.retain(|topic| topic.topic.as_str() != name || topic.partitions[0].partition != part.1);
            self.session.rows.remove(&part);
            let topic = ForgottenTopic { topic: name.into(), partitions: vec![part.1], ..Default::default() };
            forgotten_topics_data.push(topic);
        }
        FetchRequest {
            max_wait_ms: WAIT_MS,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_id: self.session.id,
            session_epoch: self.session.epoch,
            topics,
            forgotten_topics_data,
            ..Default::default()
        }
    }

    fn on_fetched(&mut self, reply: FetchResponse, context: &mut Context) {
        if reply.error_code != 0 {
            self.session = Session::default();
            return self.try_again_later(context);
        }
        for topic in reply.responses {
            let name = topic.topic.as_str();
            let index =
                context.plan.topics.iter().position(|topic| topic.name == name).expect("a topic that was named");
            for row in topic.partitions {
                let part = (index, row.partition_index);
                assert!(self.session.rows.contains_key(&part), "{part:?} is told of, and not in the session");
                self.on_row(part, row, context);
            }
        }
        match reply.session_id {
            0 => self.session = Session::default(),
            id => (self.session.id, self.session.epoch) = (id, self.session.epoch + 1),
        }
    }

    fn on_row(&mut self, part: Part, row: PartitionData, context: &mut Context) {
        let place = self.places[&part];
        if row.error_code == ErrorCode::OffsetOutOfRange.code() {
            assert!(
                context.plan.may_remove(part.0),
                "{part:?}: offset {} was there once, and is out of range",
                place.next
            );
            self.places.insert(part, Place { next: context.model.end(part), epoch: UNKNOWN_EPOCH });
            return;
        }
        if row.error_code != 0 {
            self.session.rows.remove(&part);
            if part == self.aim {
                self.wire.lose_leader(context);
            }
            return self.try_again_later(context);
        }
        let diverges = row.diverging_epoch.end_offset >= 0;
        assert!(!diverges || context.plan.may_remove(part.0), "{part:?}: {place:?} was read, and is to be given up");
        context.model.on_start_seen(part, row.log_start_offset, 0);
        context.model.on_end(part, row.high_watermark, self.known_ends[&part]);
        let bytes: Bytes = row.records.map(|records| records.0.concat()).unwrap_or_default().into();
        if bytes.is_empty() || !context.model.are_sound(part, &bytes) {
            return;
        }
        let epoch = last_epoch(&bytes);
        let next = context.model.on_fetched(part, place.next, row.high_watermark, bytes);
        self.places.insert(part, Place { next, epoch });
    }

    fn on_epoch_end(
        &mut self,
        part: Part,
        leader_epoch: i32,
        reply: &OffsetForLeaderEpochResponse,
        context: &mut Context,
    ) {
        let (row, place) = (&reply.topics[0].partitions[0], self.places[&part]);
        // Who led before may answer too, as long as it has not heard of its successor.
        if row.error_code != 0 || leader_epoch < place.epoch {
            self.wire.lose_leader(context);
            return self.try_again_later(context);
        }
        let is_there = row.leader_epoch == place.epoch && row.end_offset >= place.next;
        let is_fine = is_there || context.plan.may_remove(part.0);
        assert!(is_fine, "{part:?}: {place:?} was read, and its leader in epoch {leader_epoch} has {row:?}");
        self.asked.insert(part, leader_epoch);
    }

    fn try_again_later(&mut self, context: &mut Context) {
        self.again_at = context.now + AGAIN_NS;
        context.wake_in(AGAIN_NS);
    }
}

fn epoch_end_request(plan: &Plan, (topic, partition): Part, epoch: i32, leader: i32) -> OffsetForLeaderEpochRequest {
    let row = OffsetForLeaderPartition { partition, current_leader_epoch: leader, leader_epoch: epoch };
    let topic = OffsetForLeaderTopic { topic: plan.topics[topic].name.as_str().into(), partitions: vec![row] };
    OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic] }
}

fn last_epoch(mut bytes: &[u8]) -> i32 {
    let mut epoch = UNKNOWN_EPOCH;
    while let Some(header) = BatchHeader::read(bytes) {
        epoch = header.partition_leader_epoch;
        bytes = &bytes[header.size_bytes()..];
    }
    epoch
}
