//! A client frame by frame: whatever bytes a test wants to send, and a ledger of what was acknowledged.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use bytes::Bytes;
use corelog::base::ids::{LeaderEpoch, Offset};
use corelog::wire::batch::check_stored;
use corelog::wire::codec::{Message, Records};
use corelog::wire::compression::Compression;
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use corelog::wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelog::wire::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::wire::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelog::wire::records::{BatchBuilder, BatchRecords};

use crate::binary::{Broker, PATIENCE};

pub const CREATE_TOPICS_VERSION: i16 = 7;
/// The last that name topics.
pub const PRODUCE_VERSION: i16 = 12;
pub const FETCH_VERSION: i16 = 12;

pub struct Client {
    pub stream: TcpStream,
    last: i32,
}

impl Client {
    pub fn connect(broker: &Broker) -> Client {
        Client::over(broker.connect())
    }

    pub fn over(stream: TcpStream) -> Client {
        Client { stream, last: 0 }
    }

    /// The header of the next request.
    pub fn header(&mut self, api_key: i16, version: i16) -> RequestHeader {
        self.last += 1;
        RequestHeader { api_key, version, correlation_id: self.last, client_id: Some("test".into()) }
    }

    pub fn encode<Q: Message>(&mut self, version: i16, request: &Q) -> Vec<u8> {
        frame::encode_request(&self.header(Q::API.key, version), request).concat()
    }

    pub fn send<Q: Message>(&mut self, version: i16, request: &Q) -> i32 {
        let frame = self.encode(version, request);
        self.stream.write_all(&frame).expect("the connection is open");
        self.last
    }

    /// One reply without its length, or `None` at the end of the connection.
    pub fn receive_frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        if !self.fill(&mut length) {
            return None;
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.fill(&mut frame).then(|| Bytes::from(frame))
    }

    pub fn receive<R: Message>(&mut self, version: i16) -> R {
        let frame = self.receive_frame().expect("a reply");
        frame::decode_reply(R::API.key, version, frame).expect("a reply of that version").1
    }

    pub fn call<Q: Message, R: Message>(&mut self, version: i16, request: &Q) -> R {
        self.send(version, request);
        self.receive(version)
    }

    /// The broker answers, at all.
    pub fn probe(&mut self) {
        let reply: ApiVersionsResponse = self.call(0, &ApiVersionsRequest::default());
        assert_eq!(reply.error_code, 0);
    }

    pub fn create_topic(&mut self, name: &str, partitions: i32) {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let reply: CreateTopicsResponse = self.call(CREATE_TOPICS_VERSION, &request);
        assert_eq!(reply.topics[0].error_code, 0, "{:?}", reply.topics[0].error_message);
    }

    /// Produces one batch and returns its row of the reply.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> PartitionProduceResponse {
        self.send(PRODUCE_VERSION, &produce_request(topic, partition, batch));
        self.receive_produced()
    }

    pub fn receive_produced(&mut self) -> PartitionProduceResponse {
        let mut reply: ProduceResponse = self.receive(PRODUCE_VERSION);
        reply.responses.remove(0).partition_responses.remove(0)
    }

    /// The error code, the high watermark and the record bytes from an offset on.
    pub fn fetch(&mut self, topic: &str, partition: i32, from: i64) -> (i16, i64, Bytes) {
        let reply: FetchResponse = self.call(FETCH_VERSION, &fetch_request(topic, partition, from));
        assert_eq!(reply.error_code, 0);
        let row = &reply.responses[0].partitions[0];
        let Records(slices) = row.records.clone().unwrap_or_default();
        (row.error_code, row.high_watermark, slices.concat().into())
    }

    /// Every value of a partition, in order. The batches are whole and have no gaps between them.
    pub fn read_all(&mut self, topic: &str, partition: i32) -> Vec<Bytes> {
        let start = Instant::now();
        let mut values = Vec::new();
        let mut next = 0;
        loop {
            let (error, end, mut bytes) = self.fetch(topic, partition, next);
            assert_eq!(error, 0, "{topic}-{partition} from {next}");
            // Nothing comes when a reply finds no memory in time; then the client asks again.
            assert!(start.elapsed() < PATIENCE, "{topic}-{partition} has records from {next} to {end}, and shows none");
            while !bytes.is_empty() {
                let header = check_stored(&bytes, Offset(next), LeaderEpoch(0)).expect("an undamaged batch");
                let batch = bytes.split_to(header.size_bytes());
                for record in &BatchRecords::open(&batch).expect("a batch that was checked") {
                    let record = record.expect("a whole record");
                    assert_eq!(record.offset.0, values.len() as i64);
                    values.push(Bytes::copy_from_slice(record.record.value.expect("a value")));
                }
                next = header.next_offset().0;
            }
            if next == end {
                return values;
            }
        }
    }

    /// False when the connection ended before. Panics when nothing comes.
    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        match self.stream.read_exact(buffer) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => false,
            Err(error) => panic!("neither a reply nor an end: {error}"),
        }
    }
}

pub fn batch(value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(1_700_000_000_000, None, Some(value));
    builder.build().bytes
}

pub fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let partition_data = vec![PartitionProduceData { index: partition, records: Some(batch) }];
    let topic = TopicProduceData { name: topic.into(), partition_data, ..TopicProduceData::default() };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

pub fn fetch_request(topic: &str, partition: i32, from: i64) -> FetchRequest {
    let row =
        FetchPartition { partition, fetch_offset: from, partition_max_bytes: i32::MAX, ..FetchPartition::default() };
    let topics = vec![FetchTopic { topic: topic.into(), partitions: vec![row], ..FetchTopic::default() }];
    FetchRequest { max_wait_ms: 100, min_bytes: 1, topics, ..FetchRequest::default() }
}

/// What was acknowledged, and the connection on which that is checked.
pub struct Witness {
    pub client: Client,
    pub topic: &'static str,
    partitions: i32,
    acked: BTreeMap<(i32, i64), Bytes>,
}

impl Witness {
    /// Creates the topic.
    pub fn new(broker: &Broker, topic: &'static str, partitions: i32) -> Witness {
        let mut client = Client::connect(broker);
        client.create_topic(topic, partitions);
        Witness { client, topic, partitions, acked: BTreeMap::new() }
    }

    /// Goes on over a new connection, perhaps to a broker that was started again.
    pub fn reconnect(&mut self, broker: &Broker) {
        self.client = Client::connect(broker);
    }

    /// Notes a value of which the broker said where it is.
    pub fn note(&mut self, row: &PartitionProduceResponse, value: Bytes) {
        assert_eq!(row.error_code, 0, "{:?}", row.error_message);
        let before = self.acked.insert((row.index, row.base_offset), value);
        assert!(before.is_none(), "offset {} of partition {} is given twice", row.base_offset, row.index);
    }

    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    /// Produces to every partition.
    pub fn produce(&mut self) {
        for partition in 0..self.partitions {
            let value = Bytes::from(format!("witness {}", self.acked.len()));
            let row = self.client.produce(self.topic, partition, batch(&value));
            self.note(&row, value);
        }
    }

    /// The topic holds what was acknowledged and nothing else.
    pub fn assert_intact(&mut self) {
        for partition in 0..self.partitions {
            let found = self.client.read_all(self.topic, partition);
            let expect: Vec<&Bytes> =
                self.acked.range((partition, 0)..(partition + 1, 0)).map(|(_, value)| value).collect();
            assert_eq!(found.len(), expect.len(), "records of partition {partition}");
            assert!(found.iter().zip(expect).all(|(found, expect)| found == expect), "partition {partition}");
        }
    }

    /// The broker still takes records and has all that it acknowledged.
    pub fn check(&mut self) {
        self.produce();
        self.assert_intact();
    }
}
