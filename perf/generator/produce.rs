//! Produce requests: one a partition, built once.
//!
//! *Owns*: the requests of one connection, and reading their replies. *Never*: looks further into a reply than its
//! error code, once the first one was read whole.

use std::rc::Rc;

use bytes::Bytes;
use corelog::wire::frame::{RequestHeader, decode_reply, encode_request};
use corelog::wire::messages::produce::{API, PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::records::BatchBuilder;
use corelog::wire::{batch::Batch, compression::Compression};

use crate::load::Lane;
use crate::meter::Reply;
use crate::{Arguments, control};

/// The first flexible version, and one of those that the floor answers.
const VERSION: i16 = 9;

pub struct ProduceLane {
    frames: Vec<Rc<[u8]>>,
    next: usize,
    /// What a reply without an error counts for.
    each: Reply,
    /// Where the error code of the one partition lies in a reply, which begins with its correlation id.
    error_at: usize,
    pub acks: i16,
    checked: bool,
}

/// A lane a connection, with the partitions dealt out; where they are fewer, lanes share them.
pub fn lanes(arguments: &Arguments) -> Vec<Lane> {
    let batch = batch(arguments);
    let each =
        Reply { bytes: batch.bytes.len() as u64, records: batch.header.records_count as u64, ..Default::default() };
    let lane = |first: usize| {
        let first = first % arguments.partitions as usize;
        let partitions = (0..arguments.partitions).skip(first).step_by(arguments.connections);
        Lane::Produce(ProduceLane {
            frames: partitions.map(|partition| frame(arguments, partition, &batch.bytes)).collect(),
            next: 0,
            each,
            // Correlation id, tags, one topic, its name, one partition, its index.
            error_at: 4 + 1 + 1 + 1 + arguments.topic.len() + 1 + 4,
            acks: arguments.acks,
            checked: false,
        })
    };
    (0..arguments.connections).map(lane).collect()
}

/// A batch of records that no compression could make much of.
pub fn batch(arguments: &Arguments) -> Batch {
    let mut rng = corelog::base::rng::Rng::new(1);
    let value: Vec<u8> = (0..arguments.record_bytes).map(|_| rng.next_u64() as u8).collect();
    let mut builder = BatchBuilder::new(Compression::None);
    let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
    loop {
        builder.push(now_ms, None, Some(&value));
        // The parts around a value take at most 20 bytes here.
        if builder.size_bytes() + value.len() + 20 > arguments.batch_bytes {
            return builder.build();
        }
    }
}

fn frame(arguments: &Arguments, partition: i32, records: &Bytes) -> Rc<[u8]> {
    assert!(arguments.topic.len() < 127, "the place of the error code counts on a length of one byte");
    let partition_data = vec![PartitionProduceData { index: partition, records: Some(records.clone()) }];
    let topic = TopicProduceData { name: arguments.topic.as_str().into(), partition_data, ..Default::default() };
    let request =
        ProduceRequest { acks: arguments.acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let header =
        RequestHeader { api_key: API.key, version: VERSION, correlation_id: 0, client_id: control::client_id() };
    encode_request(&header, &request).concat().into()
}

impl ProduceLane {
    /// The next request, and what a reply to it counts for.
    pub fn request(&mut self) -> (Rc<[u8]>, Reply) {
        let frame = self.frames[self.next].clone();
        self.next = (self.next + 1) % self.frames.len();
        (frame, self.each)
    }

    pub fn reply(&mut self, frame: &[u8]) -> Result<Reply, String> {
        if !self.checked {
            self.checked = true;
            return self.reply_whole(frame);
        }
        let code = frame.get(self.error_at..self.error_at + 2).ok_or("a Produce reply is too short")?;
        match i16::from_be_bytes([code[0], code[1]]) {
            0 => Ok(self.each),
            error => Ok(Reply { error, ..Default::default() }),
        }
    }

    fn reply_whole(&self, frame: &[u8]) -> Result<Reply, String> {
        let (_, reply) = decode_reply::<ProduceResponse>(API.key, VERSION, Bytes::copy_from_slice(frame))
            .map_err(|error| format!("a Produce reply: {error}"))?;
        let [topic] = &reply.responses[..] else {
            return Err(format!("a Produce reply of {} topics", reply.responses.len()));
        };
        let [partition] = &topic.partition_responses[..] else {
            return Err(format!("a Produce reply of {} partitions", topic.partition_responses.len()));
        };
        if partition.error_code != 0 {
            eprintln!("generator: {} {:?}", control::name(partition.error_code), partition.error_message);
            return Ok(Reply { error: partition.error_code, ..Default::default() });
        }
        Ok(self.each)
    }
}
