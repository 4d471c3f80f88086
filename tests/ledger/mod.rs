//! Producers that live through every end of a broker, readers, and a ledger of what must be there afterwards.
//!
//! Four idempotent producers, each with a connection of its own, fill six partitions with batches of all sizes, up to
//! five requests in flight. What was not answered is sent again after the broker is back. Everything in a record
//! follows from its producer, partition and sequence number, so that the ledger holds no values.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::env;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use corelog::base::ids::{LeaderEpoch, Offset};
use corelog::base::rng::Rng;
use corelog::wire::batch::check_stored;
use corelog::wire::codec::Records;
use corelog::wire::compression::Compression;
use corelog::wire::frame;
use corelog::wire::messages::fetch::FetchResponse;
use corelog::wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::records::{BatchBuilder, BatchRecords, PlacedRecord};

use crate::binary::Broker;
use crate::raw::{self, Client, FETCH_VERSION, PRODUCE_VERSION};

const TOPIC: &str = "t";
const PARTITIONS: usize = 6;
const PRODUCERS: u64 = 4;
/// A load ends with so many records, whatever its time.
const LOAD_RECORDS_MAX: i32 = 30_000;
/// What was shown earlier is read again each time, so many records of each partition.
const AGAIN: usize = 1000;
const IN_FLIGHT_MAX: u64 = 5;
const INIT_PRODUCER_ID_VERSION: i16 = 4;

/// The producers, and what is known of the topic.
pub struct Ledger {
    producers: Vec<Producer>,
    shown: Vec<Shown>,
    /// Not yet looked for.
    acks: Vec<Ack>,
    /// Looked for and found.
    acks_found: usize,
}

impl Ledger {
    /// Creates the topic.
    pub fn new(broker: &Broker, seed: u64) -> Ledger {
        let mut client = Client::connect(broker);
        client.create_topic(TOPIC, PARTITIONS as i32);
        let producers = (0..PRODUCERS).map(|number| Producer::new(&mut client, number, seed)).collect();
        let shown = (0..PARTITIONS).map(|_| Shown::default()).collect();
        Ledger { producers, shown, acks: Vec::new(), acks_found: 0 }
    }

    /// Loads the broker for a time, lets `end` happen, kills the broker. Whatever comes after `end` has set its flag
    /// counts as if it had not come.
    pub fn load(&mut self, broker: Broker, time: Duration, end: impl FnOnce(&Broker, &Arc<AtomicBool>)) {
        let (sender, receiver) = mpsc::channel();
        let mut reader = Client::connect(&broker);
        let (shown, over) = (&mut self.shown, &Arc::new(AtomicBool::new(false)));
        let acks = thread::scope(|scope| {
            for producer in &mut self.producers {
                let (client, sender) = (Client::connect(&broker), sender.clone());
                scope.spawn(move || producer.load(client, &sender, over));
            }
            drop(sender);
            // What it saw must stay, acknowledged or not.
            scope.spawn(move || {
                while shown.iter_mut().enumerate().all(|(partition, shown)| {
                    let from = shown.records.len();
                    read(&mut reader, partition, from, shown, over).is_some()
                }) {}
            });
            let mut acks = collect(&receiver, time);
            end(&broker, over);
            broker.kill();
            acks.extend(receiver);
            acks
        });
        self.acks.extend(acks);
    }

    /// Everything acknowledged and everything shown is there. Of what was shown before, only the end is read again.
    pub fn verify(&mut self, broker: &Broker) {
        self.verify_last(broker, AGAIN);
    }

    fn verify_last(&mut self, broker: &Broker, again: usize) {
        let (mut client, over) = (Client::connect(broker), AtomicBool::new(false));
        for (partition, shown) in self.shown.iter_mut().enumerate() {
            let known = shown.records.len();
            let end = read(&mut client, partition, shown.back(again), shown, &over).expect("the broker is there");
            assert!(end >= known, "partition {partition} ends at {end} and has shown {known} records");
            for producer in &self.producers {
                let (found, sent) = (shown.of_producer[producer.number as usize], producer.sent[partition]);
                assert!(found <= sent, "partition {partition} has {found} records of {sent} sent");
            }
        }
        for Ack { batch: Batch { first, count }, offset } in self.acks.drain(..) {
            let at = offset as usize;
            let expect = (first.sequence..first.sequence + count).map(|sequence| Name { sequence, ..first });
            let found = self.shown[first.partition].records.get(at..at + count as usize);
            assert!(found.is_some_and(|found| found.iter().copied().eq(expect)), "acknowledged at {at}: {first:?}");
            self.acks_found += 1;
        }
    }

    /// Acknowledged records that the broker has not: what the loss of power may cost where it was not promised to
    /// cost nothing.
    pub fn missing(&self, broker: &Broker) -> usize {
        let (mut client, over) = (Client::connect(broker), AtomicBool::new(false));
        let ends = (0..PARTITIONS).map(|partition| {
            read(&mut client, partition, 0, &mut Shown::default(), &over).expect("the broker is there")
        });
        let ends: Vec<usize> = ends.collect();
        let lost = |ack: &&Ack| (ack.offset + i64::from(ack.batch.count)) as usize > ends[ack.batch.first.partition];
        self.acks.iter().filter(lost).map(|ack| ack.batch.count as usize).sum()
    }

    /// Reads everything, lets the broker stop in order, and looks at the files without it. Batches acknowledged, and
    /// records there.
    pub fn end(mut self, broker: Broker, data: &Path) -> (usize, usize) {
        self.verify_last(&broker, usize::MAX);
        broker.stop();
        let output = Command::new(env!("CARGO_BIN_EXE_corelog")).args(["log", "verify"]).arg(data).output();
        let output = output.expect("start the binary");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        (self.acks_found, self.shown.iter().map(|shown| shown.records.len()).sum())
    }
}

/// What comes until the time is over, or enough has come.
fn collect(receiver: &Receiver<Ack>, time: Duration) -> Vec<Ack> {
    let end = Instant::now() + time;
    let (mut acks, mut records) = (Vec::new(), 0);
    while records < LOAD_RECORDS_MAX {
        let Ok(ack) = receiver.recv_timeout(end.saturating_duration_since(Instant::now())) else { break };
        records += ack.batch.count;
        acks.push(ack);
    }
    acks
}

/// Ways to acknowledge that promise to outlive the loss of power. Small rings, so that space is reclaimed; half of the
/// durable ones have no way past the journal.
const DURABLE: [&[&str]; 6] = [
    &["--durability=sync", "--journal-bytes=1MiB"],
    &["--durability=sync", "--journal-bytes=1MiB", "--journal-direct-bytes=1GiB"],
    &["--durability=sync", "--journal-bytes=4MiB", "--journal-direct-bytes=1GiB"],
    &["--durability=sync"],
    &["--durability=sync", "--journal-bytes=0"],
    &["--durability=write", "--log-flush-interval-messages=1"],
];

/// What a round's broker is started with.
pub fn settings(rng: &mut Rng, durable: bool) -> Vec<String> {
    let processors = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let cores = 1 + rng.below(processors.min(4));
    let segment_bytes = (1 + rng.below(4)) << 20;
    let durability = if durable { DURABLE[rng.below(DURABLE.len() as u64) as usize] } else { &["--durability=write"] };
    // The records say that they are years old.
    let settings = [
        "--log-retention-ms=-1".to_owned(),
        format!("--cores={cores}"),
        format!("--log-segment-bytes={segment_bytes}"),
    ];
    settings.into_iter().chain(durability.iter().map(|flag| (*flag).to_owned())).collect()
}

/// From the environment.
pub fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// A seed for the choices of a run: another one each time, unless it is given.
pub fn seed(name: &str) -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970").as_nanos() as u64;
    number(name).unwrap_or(now)
}

/// Which record this is: everything in it follows from that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Name {
    producer: u64,
    partition: usize,
    sequence: i32,
}

impl Name {
    fn timestamp_ms(self) -> i64 {
        1_700_000_000_000 + i64::from(self.sequence)
    }

    fn value(self) -> Vec<u8> {
        let Name { producer, partition, sequence } = self;
        let mut rng = Rng::new(producer << 40 ^ (partition as u64) << 32 ^ sequence as u64);
        let mut value = format!("{producer} {partition} {sequence} ").into_bytes();
        value.resize(value.len() + rng.below(250) as usize, b'a' + rng.below(26) as u8);
        value
    }
}

/// Consecutive records of one producer for one partition.
#[derive(Clone, Copy, Debug)]
struct Batch {
    first: Name,
    count: i32,
}

/// What a producer was told of one batch.
struct Ack {
    batch: Batch,
    offset: i64,
}

/// An idempotent producer that lives through every kill: what was not answered is sent again first.
struct Producer {
    number: u64,
    id: i64,
    rng: Rng,
    sent: [i32; PARTITIONS],
    /// By request, in order.
    unanswered: VecDeque<Vec<Batch>>,
}

impl Producer {
    fn new(client: &mut Client, number: u64, seed: u64) -> Producer {
        let request = InitProducerIdRequest { transaction_timeout_ms: 60_000, ..InitProducerIdRequest::default() };
        let reply: InitProducerIdResponse = client.call(INIT_PRODUCER_ID_VERSION, &request);
        assert_eq!((reply.error_code, reply.producer_epoch), (0, 0));
        let rng = Rng::new(seed ^ number);
        Producer { number, id: reply.producer_id, rng, sent: [0; PARTITIONS], unanswered: VecDeque::new() }
    }

    /// Until the connection ends, or nothing counts any more.
    fn load(&mut self, mut client: Client, acks: &Sender<Ack>, over: &AtomicBool) {
        let window = 1 + self.rng.below(IN_FLIGHT_MAX) as usize;
        let records_max = [1, 10, 500][self.rng.below(3) as usize];
        let mut in_flight = 0;
        loop {
            while in_flight < window {
                if in_flight == self.unanswered.len() {
                    self.invent(records_max);
                }
                let request = self.request(in_flight);
                let frame = client.encode(PRODUCE_VERSION, &request);
                if client.stream.write_all(&frame).is_err() {
                    return;
                }
                in_flight += 1;
            }
            let Some(frame) = client.receive_frame() else { return };
            if over.load(Ordering::SeqCst) {
                return;
            }
            let reply = frame::decode_reply::<ProduceResponse>(0, PRODUCE_VERSION, frame).expect("a reply").1;
            in_flight -= 1;
            let batches = self.unanswered.pop_front().expect("it was sent");
            let rows = &reply.responses[0].partition_responses;
            assert_eq!(rows.len(), batches.len());
            for (row, batch) in rows.iter().zip(batches) {
                let first = batch.first;
                assert_eq!(row.error_code, 0, "{batch:?} is refused: {:?}", row.error_message);
                assert_eq!(row.index as usize, first.partition);
                // The receiver has gone when the moment has come.
                let _ = acks.send(Ack { batch, offset: row.base_offset });
            }
        }
    }

    /// One more request: to one partition or to several, one batch each.
    fn invent(&mut self, records_max: u64) {
        let skip = 1 + self.rng.below(PARTITIONS as u64) as usize;
        let start = self.rng.below(PARTITIONS as u64) as usize;
        let mut batches = Vec::new();
        for partition in (start..PARTITIONS).step_by(skip) {
            let count = 1 + self.rng.below(records_max) as i32;
            let sequence = self.sent[partition];
            self.sent[partition] += count;
            batches.push(Batch { first: Name { producer: self.number, partition, sequence }, count });
        }
        self.unanswered.push_back(batches);
    }

    fn request(&self, index: usize) -> ProduceRequest {
        let rows = self.unanswered[index].iter().map(|batch| {
            let mut builder = BatchBuilder::new(Compression::None).producer(self.id, 0, batch.first.sequence);
            for sequence in batch.first.sequence..batch.first.sequence + batch.count {
                let name = Name { sequence, ..batch.first };
                builder.push(name.timestamp_ms(), None, Some(&name.value()));
            }
            let records = Some(builder.build().bytes);
            PartitionProduceData { index: batch.first.partition as i32, records }
        });
        let topic =
            TopicProduceData { name: TOPIC.into(), partition_data: rows.collect(), ..TopicProduceData::default() };
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() }
    }
}

/// What a partition once showed, by offset, and how much of each producer is in it.
#[derive(Default)]
struct Shown {
    records: Vec<Name>,
    /// Where batches begin.
    starts: Vec<usize>,
    of_producer: [i32; PRODUCERS as usize],
}

impl Shown {
    /// Where a batch begins, so many records before the end or a few more.
    fn back(&self, records: usize) -> usize {
        let from = self.records.len().saturating_sub(records);
        self.starts[..self.starts.partition_point(|start| *start <= from)].last().copied().unwrap_or(0)
    }

    /// Takes a record as it was read: the same as before, or the next of its producer.
    fn take(&mut self, partition: usize, placed: &PlacedRecord<'_>) {
        let value = placed.record.value.expect("every record has a value");
        let name = parse(value).unwrap_or_else(|| panic!("{:?} is no value of ours", String::from_utf8_lossy(value)));
        assert_eq!(
            (name.value().as_slice(), name.timestamp_ms(), name.partition),
            (value, placed.timestamp, partition)
        );
        let at = placed.offset.0 as usize;
        if let Some(before) = self.records.get(at) {
            assert_eq!(*before, name, "offset {at} of partition {partition} shows another record than before");
            return;
        }
        assert_eq!(self.records.len(), at, "partition {partition}");
        let next = &mut self.of_producer[name.producer as usize];
        assert_eq!(name.sequence, *next, "partition {partition}, offset {at}, producer {}", name.producer);
        *next += 1;
        self.records.push(name);
    }
}

fn parse(value: &[u8]) -> Option<Name> {
    let text = std::str::from_utf8(value).ok()?;
    let mut words = text.split(' ');
    let mut number = || words.next()?.parse::<u32>().ok();
    Some(Name { producer: number()?.into(), partition: number()? as usize, sequence: number()? as i32 })
}

/// Reads a partition to its end, which is returned. `None` when the connection ended before, or nothing counts any
/// more.
fn read(client: &mut Client, partition: usize, from: usize, shown: &mut Shown, over: &AtomicBool) -> Option<usize> {
    let mut next = from as i64;
    loop {
        let request = raw::fetch_request(TOPIC, partition as i32, next);
        let frame = client.encode(FETCH_VERSION, &request);
        if client.stream.write_all(&frame).is_err() {
            return None;
        }
        let frame = client.receive_frame().filter(|_| !over.load(Ordering::SeqCst))?;
        let mut reply = frame::decode_reply::<FetchResponse>(1, FETCH_VERSION, frame).expect("a reply").1;
        let row = reply.responses.remove(0).partitions.remove(0);
        assert_eq!(row.error_code, 0, "partition {partition} from {next}");
        let Records(slices) = row.records.unwrap_or_default();
        let mut bytes: Bytes = slices.concat().into();
        while !bytes.is_empty() {
            let header = check_stored(&bytes, Offset(next), LeaderEpoch(0)).expect("an undamaged batch, and no gap");
            let batch = bytes.split_to(header.size_bytes());
            if shown.records.len() == next as usize {
                shown.starts.push(next as usize);
            }
            for placed in &BatchRecords::open(&batch).expect("a batch that was checked") {
                let placed = placed.expect("a whole record");
                shown.take(partition, &placed);
            }
            next = header.next_offset().0;
        }
        if next >= row.high_watermark {
            return Some(next as usize);
        }
    }
}
