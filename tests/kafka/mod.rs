//! librdkafka as the tests use it: producers that note what was acknowledged, consumers of whole topics, and a proxy
//! that cuts connections.
#![allow(dead_code)]

pub mod members;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::binary::PATIENCE;

/// A record as it was sent or read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp_ms: i64,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Sent {
    pub fn plain(partition: i32, value: Vec<u8>) -> Sent {
        let timestamp_ms = 1_700_000_000_000;
        Sent { partition, key: None, value: Some(value), timestamp_ms, headers: Vec::new() }
    }

    /// The value, where it is a number as text.
    pub fn number(&self) -> i32 {
        let value = self.value.as_deref().expect("a value");
        std::str::from_utf8(value).expect("text").parse().expect("a number")
    }
}

/// Partition, offset and value of a record that was acknowledged.
pub type Stored = (i32, i64, Vec<u8>);

/// What became of records: (partition, offset, value) of those stored, and the errors of the others.
#[derive(Clone, Default)]
pub struct Acked {
    stored: Arc<Mutex<Vec<(i32, i64)>>>,
    /// Only where the values are wanted.
    values: Option<Arc<Mutex<Vec<Stored>>>>,
    errors: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
    throttle_ms: Arc<AtomicUsize>,
}

impl Acked {
    /// Everything acknowledged since the last call; no record may have failed.
    pub fn take(&self) -> Vec<(i32, i64)> {
        let errors = self.take_errors();
        assert!(errors.is_empty(), "{} records failed, the first with {}", errors.len(), errors[0]);
        std::mem::take(&mut self.stored.lock().expect("no panic holds it"))
    }

    /// Everything acknowledged, of a producer that keeps values.
    pub fn take_values(&self) -> Vec<Stored> {
        let values = self.values.as_ref().expect("made by `producer_kept`");
        std::mem::take(&mut values.lock().expect("no panic holds it"))
    }

    pub fn take_errors(&self) -> Vec<String> {
        std::mem::take(&mut self.errors.lock().expect("no panic holds it"))
    }

    /// The longest time that a broker has told the producer to wait, where it keeps statistics.
    pub fn throttle_ms(&self) -> usize {
        self.throttle_ms.load(Ordering::SeqCst)
    }

    /// Records that were acknowledged or have failed since the producer was made.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Returns when so many records have been acknowledged or have failed since the producer was made.
    pub fn wait_for(&self, count: usize) {
        let start = Instant::now();
        while self.count() < count {
            assert!(start.elapsed() < PATIENCE, "fewer than {count} records are answered in {PATIENCE:?}");
            thread::yield_now();
        }
    }
}

impl ClientContext for Acked {
    fn stats(&self, statistics: Statistics) {
        let throttles = statistics.brokers.values().filter_map(|broker| broker.throttle.as_ref());
        let longest_ms = throttles.map(|throttle| throttle.max).max().unwrap_or(0);
        self.throttle_ms.fetch_max(longest_ms.max(0) as usize, Ordering::SeqCst);
    }
}

impl ProducerContext for Acked {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                self.stored.lock().expect("no panic holds it").push((partition, offset));
                if let Some(values) = &self.values {
                    let value = message.payload().unwrap_or_default().to_vec();
                    values.lock().expect("no panic holds it").push((partition, offset, value));
                }
            }
            Err((error, _)) => self.errors.lock().expect("no panic holds it").push(format!("{error:?}")),
        }
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

fn config(bootstrap: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("log_level", "2");
    config.set("reconnect.backoff.ms", "10").set("reconnect.backoff.max.ms", "100");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

pub fn producer(bootstrap: &str, settings: &[(&str, &str)]) -> (ThreadedProducer<Acked>, Acked) {
    producer_with(bootstrap, settings, Acked::default())
}

/// A producer that remembers the values of what was acknowledged, for `Acked::take_values`.
pub fn producer_kept(bootstrap: &str, settings: &[(&str, &str)]) -> (ThreadedProducer<Acked>, Acked) {
    producer_with(bootstrap, settings, Acked { values: Some(Arc::default()), ..Acked::default() })
}

fn producer_with(bootstrap: &str, settings: &[(&str, &str)], acked: Acked) -> (ThreadedProducer<Acked>, Acked) {
    let mut config = config(bootstrap, settings);
    config.set("topic.metadata.refresh.fast.interval.ms", "50").set("retry.backoff.ms", "20");
    (config.create_with_context(acked.clone()).expect("a producer"), acked)
}

pub fn consumer(bootstrap: &str) -> BaseConsumer {
    consumer_with(bootstrap, &[])
}

pub fn consumer_with(bootstrap: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut all = vec![("group.id", "none"), ("enable.auto.commit", "false"), ("socket.timeout.ms", "70000")];
    all.extend([("check.crcs", "true"), ("fetch.message.max.bytes", "2000000")]);
    all.extend(settings);
    let config = config(bootstrap, &all);
    config.create().expect("a consumer")
}

pub fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config(bootstrap, &[]).create().expect("an admin client")
}

/// What a consumer has received from each broker, by its id, as librdkafka counts it.
#[derive(Clone, Default)]
pub struct Received(Arc<Mutex<BTreeMap<i32, u64>>>);

impl ClientContext for Received {
    fn stats(&self, statistics: Statistics) {
        let bytes = statistics.brokers.values().map(|broker| (broker.nodeid, broker.rxbytes));
        self.0.lock().expect("nobody panics with it").extend(bytes);
    }
}

impl ConsumerContext for Received {}

impl Received {
    pub fn bytes_from(&self, broker: i32) -> u64 {
        self.0.lock().expect("nobody panics with it").get(&broker).copied().unwrap_or_default()
    }
}

/// A consumer that counts, when it is polled, what it has received.
pub fn counting_consumer(bootstrap: &str, settings: &[(&str, &str)]) -> (BaseConsumer<Received>, Received) {
    let mut all = vec![("group.id", "none"), ("enable.auto.commit", "false"), ("statistics.interval.ms", "50")];
    all.extend(settings);
    let received = Received::default();
    (config(bootstrap, &all).create_with_context(received.clone()).expect("a consumer"), received)
}

/// Queues records, waiting where librdkafka's queue is full.
pub fn send(producer: &ThreadedProducer<Acked>, topic: &str, records: &[Sent]) {
    let start = Instant::now();
    for record in records {
        loop {
            let mut base: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(topic).partition(record.partition).timestamp(record.timestamp_ms);
            if let Some(key) = &record.key {
                base = base.key(key);
            }
            if let Some(value) = &record.value {
                base = base.payload(value);
            }
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_ref() })
            });
            match producer.send(base.headers(headers)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    assert!(start.elapsed() < PATIENCE, "the queue stays full");
                    thread::yield_now();
                }
                Err((error, _)) => panic!("not queued: {error}"),
            }
        }
    }
}

pub fn create_topic(bootstrap: &str, topic: &str, partitions: i32) {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let results = block_on(admin(bootstrap).create_topics(&[new], &AdminOptions::new())).expect("a reply");
    results[0].as_ref().expect("created");
}

/// Log start offset and high watermark.
pub fn watermarks(bootstrap: &str, topic: &str, partition: i32) -> (i64, i64) {
    consumer(bootstrap).fetch_watermarks(topic, partition, PATIENCE).expect("an answer")
}

/// Reads a topic from its start, which holds exactly `count` records. A leader that is new, or does not know yet that it
/// was replaced, may show fewer for a moment.
pub fn consume(bootstrap: &str, topic: &str, partitions: i32, count: usize) -> Vec<Sent> {
    let began = Instant::now();
    let mut found = consume_all(bootstrap, topic, partitions);
    while found.len() < count && began.elapsed() < PATIENCE {
        found = consume_all(bootstrap, topic, partitions);
    }
    assert_eq!(found.len(), count);
    found
}

/// Reads a topic from its start to its end.
pub fn consume_all(bootstrap: &str, topic: &str, partitions: i32) -> Vec<Sent> {
    let consumer = consumer_with(bootstrap, &[("fetch.wait.max.ms", "20"), ("enable.partition.eof", "true")]);
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a row");
    }
    consumer.assign(&list).expect("assigned");
    let mut next = vec![0; partitions as usize];
    let mut found = Vec::new();
    let mut ends = 0;
    let start = Instant::now();
    while ends < partitions {
        assert!(start.elapsed() < PATIENCE, "the end is not reached in {PATIENCE:?}, after {} records", found.len());
        let message = match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(_))) => {
                ends += 1;
                continue;
            }
            Some(message) => message.expect("no error"),
        };
        let place = &mut next[message.partition() as usize];
        assert_eq!(message.offset(), *place, "offsets have no gaps");
        *place += 1;
        let headers = message.headers().map_or(Vec::new(), |headers| {
            let owned = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
            headers.iter().map(owned).collect()
        });
        found.push(Sent {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            timestamp_ms: message.timestamp().to_millis().expect("a timestamp"),
            headers,
        });
    }
    found
}

/// Runs a future of the admin client, which librdkafka's own threads drive.
pub fn block_on<F: Future>(future: F) -> F::Output {
    futures_lite::future::block_on(future)
}

/// A proxy that cuts its connections on command.
pub struct Cutter {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
    cuts: AtomicUsize,
}

impl Cutter {
    /// Passes connections to `host`, on the port of `to`, on to `to`, in threads that end with the test's process.
    pub fn start(host: &str, to: SocketAddr) -> Cutter {
        let listener = TcpListener::bind((host, to.port())).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let accepted = open.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(to) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    thread::spawn(move || pass(from, to));
                }
                accepted.lock().expect("no panic holds it").extend([client, server]);
            }
        });
        Cutter { address, open, cuts: AtomicUsize::new(0) }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends every connection, whatever is on its way.
    pub fn cut_all(&self) {
        for stream in self.open.lock().expect("no panic holds it").drain(..) {
            if stream.shutdown(Shutdown::Both).is_ok() {
                self.cuts.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
