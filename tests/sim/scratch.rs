//! A client that makes a topic, writes to it, reads it, deletes it, and begins again with the same name: nothing of a
//! deleted topic may ever be seen in the next, whatever files and journals still held of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corelog::broker::api::key;
use corelog::wire::batch::BatchHeader;
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::wire::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use corelog::wire::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::records::{BatchBuilder, BatchRecords};

use crate::check::{RecordId, read_value, value};
use crate::client::{Context, FETCH, Wire, decode};
use crate::plan::MS;

pub const NAME: &str = "scratch";
const CREATE: (i16, i16) = (key::CREATE_TOPICS, 5);
const DELETE: (i16, i16) = (key::DELETE_TOPICS, 5);
const PRODUCE: (i16, i16) = (key::PRODUCE, 9);
const AGAIN_NS: u64 = 20 * MS;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Create,
    Produce,
    Fetch,
    Delete,
}

pub struct Scratch {
    wire: Wire<Step>,
    step: Step,
    /// The topics of this name so far.
    incarnation: u32,
    number: u64,
    /// Batches left to write to this one.
    batches: u64,
    sending: RecordId,
    sent: BTreeSet<RecordId>,
    acked: BTreeMap<i64, RecordId>,
    /// What was read so far.
    found: BTreeMap<i64, RecordId>,
    /// Requests that were never answered: they may still come to the broker, in a later topic's time.
    stale: BTreeSet<RecordId>,
    stale_delete: bool,
    again_at: u64,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            wire: Wire::default(),
            step: Step::Create,
            incarnation: 1,
            number: 0,
            batches: 0,
            sending: RecordId { stream: 0, number: 0 },
            sent: BTreeSet::new(),
            acked: BTreeMap::new(),
            found: BTreeMap::new(),
            stale: BTreeSet::new(),
            stale_delete: false,
            again_at: 0,
        }
    }
}

impl Scratch {
    pub fn on_connected(&mut self, context: &mut Context) {
        self.wire.on_connected();
        self.on_time(context);
    }

    pub fn on_closed(&mut self, context: &mut Context) {
        for step in self.wire.on_closed(context) {
            match step {
                // The next one is another.
                Step::Produce => {
                    self.batches = self.batches.saturating_sub(1);
                    self.stale.insert(self.sending);
                }
                Step::Delete => self.stale_delete = true,
                Step::Create | Step::Fetch => {}
            }
        }
    }

    pub fn on_time(&mut self, context: &mut Context) {
        if !context.load || !self.wire.is_up(context) || self.wire.in_flight() > 0 || context.now < self.again_at {
            return;
        }
        if self.step == Step::Produce && self.batches == 0 {
            self.step = Step::Fetch;
        }
        match self.step {
            Step::Create => self.create(context),
            Step::Produce => self.produce(context),
            Step::Fetch => self.fetch(context),
            Step::Delete => {
                let request =
                    DeleteTopicsRequest { topic_names: vec![NAME.into()], timeout_ms: 1000, ..Default::default() };
                self.wire.send(DELETE, &request, Step::Delete, context);
            }
        }
    }

    pub fn on_bytes(&mut self, bytes: &[u8], context: &mut Context) {
        self.wire.on_bytes(bytes);
        while let Some((step, frame)) = self.wire.next_reply() {
            let error = match step {
                Step::Create => self.on_created(decode(CREATE, frame), context),
                Step::Produce => self.on_produced(decode(PRODUCE, frame)),
                Step::Fetch => self.on_fetched(decode(FETCH, frame)),
                Step::Delete => self.on_deleted(decode(DELETE, frame)),
            };
            if error == ErrorCode::UnknownTopicOrPartition.code() {
                assert!(self.stale_delete, "{NAME} was made, nobody deleted it, and it is gone");
                self.begin_again();
            }
            if error != 0 {
                self.again_at = context.now + AGAIN_NS;
                context.wake_in(AGAIN_NS);
            }
        }
        self.on_time(context);
    }

    fn create(&mut self, context: &mut Context) {
        let configs = [("durability", "sync"), ("segment.bytes", "65536")];
        let configs =
            configs.map(|(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
        let topic = CreatableTopic {
            name: NAME.into(),
            num_partitions: 1,
            replication_factor: 1,
            configs: configs.into(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
        self.wire.send(CREATE, &request, Step::Create, context);
    }

    fn on_created(&mut self, reply: CreateTopicsResponse, context: &mut Context) -> i16 {
        let error = reply.topics[0].error_code;
        // An earlier request may have made it, unanswered.
        if error == 0 || error == ErrorCode::TopicAlreadyExists.code() {
            self.step = Step::Produce;
            self.batches = 1 + context.rng.below(20);
            return 0;
        }
        error
    }

    fn produce(&mut self, context: &mut Context) {
        self.sending = RecordId { stream: self.incarnation, number: self.number };
        self.number += 1;
        self.sent.insert(self.sending);
        let mut builder = BatchBuilder::new(Compression::None);
        let bytes = context.rng.below(6000) as usize;
        builder.push(context.wall_ms, None, Some(&value(self.sending, bytes)));
        let row = PartitionProduceData { index: 0, records: Some(builder.build().bytes) };
        let topic = TopicProduceData { name: NAME.into(), partition_data: vec![row], ..Default::default() };
        let request = ProduceRequest { acks: -1, timeout_ms: 5000, topic_data: vec![topic], ..Default::default() };
        self.wire.send(PRODUCE, &request, Step::Produce, context);
    }

    fn on_produced(&mut self, reply: ProduceResponse) -> i16 {
        let row = &reply.responses[0].partition_responses[0];
        self.batches -= 1;
        if row.error_code == 0 {
            let most = (self.sent.len() + self.stale.len()) as i64;
            assert!(row.base_offset < most, "a new topic begins at 0, not at {}", row.base_offset);
            self.acked.insert(row.base_offset, self.sending);
        }
        row.error_code
    }

    fn fetch(&mut self, context: &mut Context) {
        let row = FetchPartition {
            partition: 0,
            fetch_offset: self.found.len() as i64,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { topic: NAME.into(), partitions: vec![row], ..Default::default() };
        let (max_bytes, session_epoch) = (1 << 20, -1);
        let request = FetchRequest { max_bytes, session_epoch, topics: vec![topic], ..Default::default() };
        self.wire.send(FETCH, &request, Step::Fetch, context);
    }

    fn on_fetched(&mut self, reply: FetchResponse) -> i16 {
        let row = &reply.responses[0].partitions[0];
        if row.error_code != 0 {
            return row.error_code;
        }
        let mut rest: Bytes = row.records.as_ref().map(|records| records.0.concat()).unwrap_or_default().into();
        while !rest.is_empty() {
            let batch = rest.split_to(BatchHeader::read(&rest).expect("whole batches").size_bytes());
            for record in BatchRecords::open(&batch).expect("a batch is what was sent").iter() {
                let record = record.expect("a record is what was sent");
                let id = read_value(record.record.value.unwrap_or_default()).expect("a value is what was sent");
                let known = self.sent.contains(&id) || self.stale.contains(&id);
                assert!(known, "{id:?} is in {NAME} number {}, where nobody sent it", self.incarnation);
                self.found.insert(record.offset.0, id);
            }
        }
        if (self.found.len() as i64) < row.high_watermark {
            return 0;
        }
        for (offset, id) in &self.acked {
            assert_eq!(self.found.get(offset), Some(id), "what was acknowledged in {NAME} is there");
        }
        self.step = Step::Delete;
        0
    }

    fn on_deleted(&mut self, reply: DeleteTopicsResponse) -> i16 {
        let error = reply.responses[0].error_code;
        if error == 0 || error == ErrorCode::UnknownTopicOrPartition.code() {
            self.begin_again();
            return 0;
        }
        error
    }

    fn begin_again(&mut self) {
        self.step = Step::Create;
        self.incarnation += 1;
        self.sent.clear();
        self.acked.clear();
        self.found.clear();
    }
}
