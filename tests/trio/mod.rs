//! Three brokers as processes of their own, whatever happens to them, and a load that lives through it: what was
//! acknowledged is there afterwards, once, and in its order.
#![allow(dead_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corelog::client::client::{Client, To};
use corelog::wire::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, PartitionRequest, TopicRequest,
};
use corelog::wire::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponsePartition,
};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{Producer, ThreadedProducer};
use tempfile::TempDir;

use crate::binary::{self, Broker, PATIENCE, free_cluster_ports};
use crate::kafka::{self, Acked, Sent, Stored};
use crate::network::Network;

pub const NODES: usize = 3;
pub const TOPIC: &str = "t";
pub const PARTITIONS: i32 = 6;

/// Records that are sent and not acknowledged at a time.
const WINDOW: usize = 200;

/// How long to look for a state that is to come, between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Brokers that do not answer in this time are asked again, or others are.
const QUICK: Duration = Duration::from_secs(2);

/// Nine brokers at a time are too many for a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Three brokers, by their number from 0. Broker `i` has the node id `i + 1`.
pub struct Trio {
    brokers: [Option<Broker>; NODES],
    setup: Setup,
    _alone: MutexGuard<'static, ()>,
}

/// How they are started.
struct Setup {
    dir: TempDir,
    /// The first broker's, for clients; the others have the next ones.
    ports: u16,
    /// Where each is, and in which network namespace, if in one.
    hosts: [(String, Option<String>); NODES],
    /// Flags of all of them.
    arguments: Vec<String>,
}

impl Setup {
    fn address(&self, node: usize) -> String {
        format!("{}:{}", self.hosts[node].0, self.port(node))
    }

    fn port(&self, node: usize) -> u16 {
        self.ports + node as u16
    }

    fn flags(&self, node: usize) -> Vec<String> {
        let mut flags = vec![
            format!("--node-id={}", node + 1),
            format!("--peer-listen={}:{}", self.hosts[node].0, self.port(node) + 10_000),
            format!("--broker-rack=rack-{}", node + 1),
            "--cores=1".to_owned(),
            "--journal-bytes=8MiB".to_owned(),
            "--default-replication-factor=3".to_owned(),
            "--offsets-topic-replication-factor=3".to_owned(),
            "--min-insync-replicas=2".to_owned(),
        ];
        if node > 0 {
            let others = (0..NODES).filter(|other| *other != node).map(|other| self.address(other));
            flags.push(format!("--seeds={}", others.collect::<Vec<_>>().join(",")));
        }
        flags.extend(self.arguments.iter().cloned());
        flags
    }

    fn started(&self, node: usize) -> Broker {
        let flags = self.flags(node);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let data = self.dir.path().join(format!("broker-{}", node + 1));
        Broker::start_as(binary::command_in(self.hosts[node].1.as_deref(), &data, &self.address(node), &flags))
    }
}

impl Trio {
    /// Starts them, and returns when each knows of all.
    pub fn start(arguments: &[&str]) -> Trio {
        Trio::start_at([0, 1, 2].map(|_| ("127.0.0.1".to_owned(), None)), arguments)
    }

    /// The same, each in a network namespace of its own.
    pub fn start_in(network: &Network, arguments: &[&str]) -> Trio {
        Trio::start_at([0, 1, 2].map(|host| (network.address(host), Some(network.space(host)))), arguments)
    }

    fn start_at(hosts: [(String, Option<String>); NODES], arguments: &[&str]) -> Trio {
        // A test that failed while it held it leaves nothing behind.
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let setup = Setup { dir: binary::directory(), ports: free_cluster_ports(NODES as u16), hosts, arguments };
        let mut trio = Trio { brokers: [None, None, None], setup, _alone: alone };
        trio.launch_all();
        trio.wait_until("every broker knows of all", |trio| {
            (0..NODES).all(|node| trio.brokers_known_to(node) == NODES)
        });
        // With two of them, none may be lost.
        trio.wait_until("all of them decide on metadata", |trio| trio.voters() == NODES);
        trio
    }

    /// Where clients connect to a broker.
    pub fn address(&self, node: usize) -> String {
        self.setup.address(node)
    }

    pub fn bootstrap(&self) -> String {
        (0..NODES).map(|node| self.address(node)).collect::<Vec<_>>().join(",")
    }

    /// Starts a broker that does not run.
    pub fn launch(&mut self, node: usize) {
        assert!(self.brokers[node].is_none());
        self.brokers[node] = Some(self.setup.started(node));
    }

    /// Starts all of them at the same time: none may be ready before others are there.
    pub fn launch_all(&mut self) {
        let setup = &self.setup;
        let brokers = thread::scope(|scope| {
            let threads = [0, 1, 2].map(|node| scope.spawn(move || setup.started(node)));
            threads.map(|thread| Some(thread.join().expect("it starts")))
        });
        self.brokers = brokers;
    }

    /// Ends a broker as a crash would.
    pub fn kill(&mut self, node: usize) {
        self.brokers[node].take().expect("it runs").kill();
    }

    /// Ends a broker as an operator would.
    pub fn stop(&mut self, node: usize) {
        self.brokers[node].take().expect("it runs").stop();
    }

    pub fn signal(&self, node: usize, name: &str) {
        self.broker(node).signal(name);
    }

    pub fn broker(&self, node: usize) -> &Broker {
        self.brokers[node].as_ref().expect("it runs")
    }

    /// How many brokers one of them tells clients of.
    pub fn brokers_known_to(&self, node: usize) -> usize {
        self.metadata_from(node, None).map_or(0, |reply| reply.brokers.len())
    }

    fn metadata_from(&self, node: usize, topics: Option<Vec<String>>) -> Option<MetadataResponse> {
        metadata(&self.address(node), topics)
    }

    fn voters(&self) -> usize {
        let topic = TopicRequest {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![PartitionRequest { partition_index: 0 }],
        };
        let reply = Client::connect(&self.bootstrap(), "trio", QUICK).and_then(|mut client| {
            let request = DescribeQuorumRequest { topics: vec![topic] };
            client.ask(To::Controller, &request, |_: &DescribeQuorumResponse| Vec::new())
        });
        let topics = reply.map_or(Vec::new(), |reply| reply.topics);
        topics.first().and_then(|topic| topic.partitions.first()).map_or(0, |row| row.current_voters.len())
    }

    /// The partitions of the topic, as one of the brokers that run says.
    pub fn partitions(&self) -> Option<Vec<MetadataResponsePartition>> {
        let nodes = (0..NODES).filter(|node| self.brokers[*node].is_some());
        let mut replies = nodes.filter_map(|node| self.metadata_from(node, Some(vec![TOPIC.to_owned()])));
        let mut partitions = replies.next()?.topics.pop().filter(|topic| topic.error_code == 0)?.partitions;
        partitions.sort_by_key(|row| row.partition_index);
        Some(partitions)
    }

    /// The broker that leads a partition.
    pub fn leader(&self, partition: i32) -> usize {
        let mut found = None;
        self.wait_until("the partition has a leader", |trio| {
            let partitions = trio.partitions().unwrap_or_default();
            let row = partitions.into_iter().find(|row| row.partition_index == partition);
            found = row.map(|row| row.leader_id).filter(|leader| *leader > 0);
            found.is_some()
        });
        found.expect("just found") as usize - 1
    }

    /// Until all replicas of all partitions are in sync.
    pub fn wait_for_full_isr(&self) {
        self.wait_until("every replica is in sync", |trio| {
            let partitions = trio.partitions().unwrap_or_default();
            partitions.len() == PARTITIONS as usize
                && partitions.iter().all(|row| row.isr_nodes.len() == NODES && row.leader_id > 0)
        });
    }

    /// Until nobody takes this broker for a leader any more.
    pub fn wait_until_others_lead(&self, node: usize) {
        self.wait_until("others lead its partitions", |trio| {
            let asked = (0..NODES).find(|other| *other != node && trio.brokers[*other].is_some()).expect("one runs");
            let topics =
                trio.metadata_from(asked, Some(vec![TOPIC.to_owned()])).map_or(Vec::new(), |reply| reply.topics);
            let partitions: Vec<_> = topics.into_iter().flat_map(|topic| topic.partitions).collect();
            let is_led = |row: &MetadataResponsePartition| row.leader_id > 0 && row.leader_id != node as i32 + 1;
            !partitions.is_empty() && partitions.iter().all(is_led)
        });
    }

    fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Trio) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}; {:?}", self.partitions());
            thread::sleep(LOOK);
        }
        eprintln!("{what}: after {} ms", start.elapsed().as_millis());
    }

    pub fn create_topic(&self) {
        let bootstrap = self.bootstrap();
        let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(NODES as i32));
        let results = kafka::block_on(kafka::admin(&bootstrap).create_topics(&[topic], &AdminOptions::new()));
        results.expect("a reply")[0].as_ref().expect("created");
        self.wait_for_full_isr();
    }
}

/// What a broker says of topics; nothing if it does not answer at once.
fn metadata(address: &str, topics: Option<Vec<String>>) -> Option<MetadataResponse> {
    let mut client = Client::connect(address, "trio", QUICK).ok()?;
    let named = |name: String| MetadataRequestTopic { name: Some(name.as_str().into()), ..Default::default() };
    let topics = topics.map(|names| names.into_iter().map(named).collect());
    let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
    client.ask(To::Any, &request, |_: &MetadataResponse| Vec::new()).ok()
}

/// An idempotent producer that sends numbers to all partitions, acks=all, until it is ended.
pub struct Load {
    acked: Acked,
    producer: Arc<ThreadedProducer<Acked>>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Load {
    pub fn start(bootstrap: &str) -> Load {
        let settings = [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("linger.ms", "2"),
            ("delivery.timeout.ms", "120000"),
            ("socket.timeout.ms", "10000"),
        ];
        let (producer, acked) = kafka::producer_kept(bootstrap, &settings);
        let (producer, over) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
        let sender = (producer.clone(), acked.clone(), over.clone());
        let thread = thread::spawn(move || {
            let (producer, acked, over) = sender;
            let mut sent = 0;
            while !over.load(Ordering::SeqCst) {
                let partition = (sent % PARTITIONS as usize) as i32;
                let number = sent / PARTITIONS as usize;
                kafka::send(&producer, TOPIC, &[Sent::plain(partition, number.to_string().into_bytes())]);
                sent += 1;
                while sent - acked.count() > WINDOW && !over.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            sent
        });
        Load { acked, producer, over, thread }
    }

    /// Returns when every partition has taken something that was sent after this was called, and says how long that
    /// took.
    pub fn goes_on(&self) -> Duration {
        let start = Instant::now();
        let most = WINDOW + PARTITIONS as usize;
        self.acked.wait_for(self.acked.count() + 2 * most);
        start.elapsed()
    }

    /// Ends the load; everything that was sent was acknowledged. All of it is there, once, in order, where the
    /// acknowledgement said.
    pub fn verify(self, bootstrap: &str) -> usize {
        self.over.store(true, Ordering::SeqCst);
        let sent = self.thread.join().expect("the sender ends");
        self.producer.flush(PATIENCE).expect("everything is answered");
        assert_eq!(self.acked.take_errors(), Vec::<String>::new());
        let acked: Vec<Stored> = self.acked.take_values();
        assert_eq!(acked.len(), sent);
        let found = kafka::consume(bootstrap, TOPIC, PARTITIONS, sent);
        for partition in 0..PARTITIONS {
            let numbers: Vec<i32> = found.iter().filter(|row| row.partition == partition).map(Sent::number).collect();
            assert!(
                numbers.iter().copied().eq(0..numbers.len() as i32),
                "partition {partition} has all, once, in order"
            );
        }
        for (partition, offset, value) in acked {
            assert_eq!(value, offset.to_string().into_bytes(), "partition {partition}");
        }
        sent
    }
}
