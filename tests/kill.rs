//! kill -9 at random moments, again and again: under load, while the broker starts, and while it stops. Whatever it
//! acknowledged or once showed is there afterwards, once, in its producer's order, at the same offset.
//!
//! `CORELOG_KILL_ROUNDS=300 cargo test --test kill -- --nocapture` is the long form; `CORELOG_KILL_SEED` takes the
//! choices (not the moments) of an earlier run again.
#![cfg(feature = "shell")]

mod binary;
mod raw;

use std::collections::VecDeque;
use std::env;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use binary::{Broker, command, directory};
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
use raw::{Client, FETCH_VERSION, PRODUCE_VERSION};
use tempfile::TempDir;

const TOPIC: &str = "t";
const PARTITIONS: usize = 6;
const PRODUCERS: u64 = 4;
const ROUNDS: u64 = 12;
/// Rounds on one data directory.
const LIFE_ROUNDS: usize = 40;
/// The load of a round ends by then, at the latest.
const LOAD: Duration = Duration::from_millis(150);
const LOAD_RECORDS_MAX: i32 = 30_000;
/// What was read in an earlier round is read again in every round, so many records of each partition.
const AGAIN: usize = 1000;
const IN_FLIGHT_MAX: u64 = 5;
const INIT_PRODUCER_ID_VERSION: i16 = 4;

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

    /// Until the connection ends.
    fn load(&mut self, mut client: Client, acks: &Sender<Ack>) {
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

/// Reads a partition to its end, which is returned. `None` when the connection ended before.
fn read(client: &mut Client, partition: usize, from: usize, shown: &mut Shown) -> Option<usize> {
    let mut next = from as i64;
    loop {
        let request = raw::fetch_request(TOPIC, partition as i32, next);
        let frame = client.encode(FETCH_VERSION, &request);
        if client.stream.write_all(&frame).is_err() {
            return None;
        }
        let frame = client.receive_frame()?;
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

/// What a round's broker is started with.
fn settings(rng: &mut Rng) -> Vec<String> {
    let processors = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let cores = 1 + rng.below(processors.min(4));
    let flush = ["1", "9223372036854775807"][rng.below(2) as usize];
    let segment_bytes = (1 + rng.below(4)) << 20;
    [
        ("cores", cores.to_string()),
        ("log-segment-bytes", segment_bytes.to_string()),
        ("log-flush-interval-messages", flush.into()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [format!("--{name}"), value])
    .collect()
}

/// When a round kills, counted from the first request, the start, or the signal to stop.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Load(Duration),
    Start(Duration),
    Stop(Duration),
}

impl Moment {
    fn draw(rng: &mut Rng) -> Moment {
        let kind = rng.below(8);
        let mut below = |longest: Duration| Duration::from_micros(rng.below(longest.as_micros() as u64));
        match kind {
            0 | 1 => Moment::Start(below(2 * LOAD)),
            2 => Moment::Stop(below(LOAD / 10)),
            _ => Moment::Load(below(LOAD)),
        }
    }
}

/// One data directory with its producers, and what is known of it.
struct Life {
    dir: TempDir,
    producers: Vec<Producer>,
    shown: Vec<Shown>,
    /// Not yet looked for.
    acks: Vec<Ack>,
    /// Looked for and found.
    acks_found: usize,
}

impl Life {
    fn new(seed: u64) -> Life {
        let dir = directory();
        let broker = Broker::start(dir.path(), &[]);
        let mut client = Client::connect(&broker);
        client.create_topic(TOPIC, PARTITIONS as i32);
        let producers = (0..PRODUCERS).map(|number| Producer::new(&mut client, number, seed)).collect();
        broker.kill();
        let shown = (0..PARTITIONS).map(|_| Shown::default()).collect();
        Life { dir, producers, shown, acks: Vec::new(), acks_found: 0 }
    }

    fn round(&mut self, arguments: &[&str], moment: Moment) {
        if let Moment::Start(after) = moment {
            let mut command = command(self.dir.path(), "127.0.0.1:0", arguments);
            let mut process = command.stderr(Stdio::null()).spawn().expect("start the binary");
            // The clock chooses the moment: what a test could wait for would always be the same one.
            thread::sleep(after);
            process.kill().expect("kill -9");
            process.wait().expect("wait");
            return;
        }
        let broker = Broker::start(self.dir.path(), arguments);
        self.verify(&broker, AGAIN);
        self.load(broker, moment);
    }

    /// Loads the broker until the moment, and keeps every acknowledgement that came before.
    fn load(&mut self, broker: Broker, moment: Moment) {
        let (sender, receiver) = mpsc::channel();
        let mut reader = Client::connect(&broker);
        let shown = &mut self.shown;
        let acks = thread::scope(|scope| {
            for producer in &mut self.producers {
                let (client, sender) = (Client::connect(&broker), sender.clone());
                scope.spawn(move || producer.load(client, &sender));
            }
            drop(sender);
            // What it saw must stay, acknowledged or not.
            scope.spawn(move || {
                while shown.iter_mut().enumerate().all(|(partition, shown)| {
                    let from = shown.records.len();
                    read(&mut reader, partition, from, shown).is_some()
                }) {}
            });
            let mut acks = match moment {
                Moment::Load(after) | Moment::Start(after) => collect(&receiver, after),
                Moment::Stop(after) => {
                    let mut acks = collect(&receiver, LOAD / 2);
                    broker.signal("-TERM");
                    acks.extend(collect(&receiver, after));
                    acks
                }
            };
            broker.kill();
            acks.extend(receiver);
            acks
        });
        self.acks.extend(acks);
    }

    /// Everything acknowledged and everything shown is there. Reads so many records of what was shown again.
    fn verify(&mut self, broker: &Broker, again: usize) {
        let mut client = Client::connect(broker);
        for (partition, shown) in self.shown.iter_mut().enumerate() {
            let known = shown.records.len();
            let end = read(&mut client, partition, shown.back(again), shown).expect("the broker is there");
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

    /// Reads everything, lets the broker stop in order, and looks at the files without it.
    fn end(mut self) -> (usize, usize) {
        let broker = Broker::start(self.dir.path(), &[]);
        self.verify(&broker, usize::MAX);
        broker.stop();
        let output = Command::new(env!("CARGO_BIN_EXE_corelog")).args(["log", "verify"]).arg(self.dir.path()).output();
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

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn whatever_was_acknowledged_or_shown_outlives_every_kill() {
    let rounds = number("CORELOG_KILL_ROUNDS").unwrap_or(ROUNDS);
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970").as_nanos() as u64;
    let seed = number("CORELOG_KILL_SEED").unwrap_or(now);
    let mut rng = Rng::new(seed);
    let began = Instant::now();
    let (mut acks, mut records) = (0, 0);
    for first in (0..rounds).step_by(LIFE_ROUNDS) {
        let mut life = Life::new(rng.next_u64());
        for round in first..rounds.min(first + LIFE_ROUNDS as u64) {
            let settings = settings(&mut rng);
            let moment = Moment::draw(&mut rng);
            eprintln!("seed {seed}, round {round} of {rounds}: {moment:?}, {}", settings.join(" "));
            life.round(&settings.iter().map(String::as_str).collect::<Vec<_>>(), moment);
        }
        let (more_acks, more_records) = life.end();
        (acks, records) = (acks + more_acks, records + more_records);
    }
    assert!(acks > 0);
    let seconds = began.elapsed().as_secs();
    eprintln!("seed {seed}: {rounds} kills in {seconds} s, {acks} batches acknowledged, {records} records, all there");
}
