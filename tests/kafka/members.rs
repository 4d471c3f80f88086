//! Members of groups: consumers that read a topic `t` in threads of their own, and note what they see.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::Message;

use super::{Sent, producer, send};
use crate::binary::{Broker, PATIENCE, directory};

/// Of the topic.
pub const PARTITIONS: i32 = 4;

/// The setting of a member of the consumer protocol.
pub const CONSUMER_PROTOCOL: (&str, &str) = ("group.protocol", "consumer");

/// Set for a process that is nothing but a member, to be killed.
const MEMBER_OF: &str = "CORELOG_TEST_MEMBER_OF";

/// What a member has seen.
#[derive(Default)]
pub struct Seen {
    pub assigned: BTreeSet<i32>,
    /// The fewest partitions it had since it had any.
    pub fewest: Option<usize>,
    pub assignments: usize,
    pub numbers: Vec<i32>,
}

/// Who reads which partition, as all members of one group know it.
pub type Board = Arc<Mutex<BTreeMap<(String, i32), String>>>;

#[derive(Clone, Default)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    /// With a name for this member.
    board: Option<(Board, String)>,
}

impl Watch {
    pub fn look<R>(&self, at: impl FnOnce(&mut Seen) -> R) -> R {
        at(&mut self.seen.lock().expect("no panic holds it"))
    }
}

impl ClientContext for Watch {}

impl ConsumerContext for Watch {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Watch>, rebalance: &Rebalance<'_>) {
        let (Rebalance::Revoke(list), Some((board, name))) = (rebalance, &self.board) else { return };
        let mut board = board.lock().expect("no panic holds it");
        for row in list.elements() {
            let owner = board.remove(&(row.topic().to_owned(), row.partition()));
            assert_eq!(owner.as_ref(), Some(name), "{}-{}", row.topic(), row.partition());
        }
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Watch>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        self.look(|seen| seen.assignments += 1);
        let Some((board, name)) = &self.board else { return };
        let mut board = board.lock().expect("no panic holds it");
        for row in list.elements() {
            let owner = board.insert((row.topic().to_owned(), row.partition()), name.clone());
            assert_eq!(owner, None, "{}-{} is given to {name}", row.topic(), row.partition());
        }
    }
}

/// A consumer of a group that reads `t` in a thread of its own until it is dropped.
pub struct Member {
    pub watch: Watch,
    stop: Arc<AtomicBool>,
    pub thread: Option<JoinHandle<()>>,
}

impl Member {
    pub fn start(bootstrap: &str, settings: &[(&str, &str)]) -> Member {
        Member::subscribed(bootstrap, settings, "t", Watch::default())
    }

    /// A member that says on a board what it reads.
    pub fn on_board(bootstrap: &str, settings: &[(&str, &str)], board: &Board, name: &str) -> Member {
        let watch = Watch { board: Some((board.clone(), name.to_owned())), ..Watch::default() };
        Member::subscribed(bootstrap, settings, "t", watch)
    }

    pub fn subscribed(bootstrap: &str, settings: &[(&str, &str)], to: &str, watch: Watch) -> Member {
        let (stop, to) = (Arc::new(AtomicBool::new(false)), to.to_owned());
        let consumer = group_consumer(bootstrap, settings, watch.clone());
        let (seen, end) = (watch.clone(), stop.clone());
        let thread = thread::spawn(move || {
            consumer.subscribe(&[&to]).expect("subscribed");
            while !end.load(Ordering::SeqCst) {
                read_once(&consumer, &seen);
            }
            // Dropping the consumer leaves the group, unless its membership is static.
        });
        Member { watch, stop, thread: Some(thread) }
    }

    pub fn assigned(&self) -> BTreeSet<i32> {
        self.watch.look(|seen| seen.assigned.clone())
    }

    pub fn assignments(&self) -> usize {
        self.watch.look(|seen| seen.assignments)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().map(JoinHandle::join);
    }
}

fn read_once(consumer: &BaseConsumer<Watch>, seen: &Watch) {
    let number: Option<i32> = match consumer.poll(Duration::from_millis(20)) {
        Some(Ok(message)) => std::str::from_utf8(message.payload().expect("a value")).expect("text").parse().ok(),
        // While the broker is away; librdkafka tries again.
        Some(Err(_)) | None => None,
    };
    let assigned: BTreeSet<i32> = match consumer.assignment() {
        Ok(list) => list.elements().iter().map(|row| row.partition()).collect(),
        Err(_) => BTreeSet::new(),
    };
    seen.look(|seen| {
        seen.numbers.extend(number);
        if !assigned.is_empty() || seen.fewest.is_some() {
            seen.fewest = Some(seen.fewest.unwrap_or(usize::MAX).min(assigned.len()));
        }
        seen.assigned = assigned;
    });
}

pub fn group_consumer(bootstrap: &str, settings: &[(&str, &str)], watch: Watch) -> BaseConsumer<Watch> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "g").set("log_level", "2");
    // With the consumer protocol the broker says that.
    if !settings.contains(&CONSUMER_PROTOCOL) {
        config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "200");
    }
    config.set("auto.offset.reset", "earliest").set("auto.commit.interval.ms", "200");
    config.set("reconnect.backoff.ms", "10").set("reconnect.backoff.max.ms", "100");
    config.set("topic.metadata.refresh.interval.ms", "1000");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create_with_context(watch).expect("a consumer")
}

pub fn produce(bootstrap: &str, numbers: std::ops::Range<i32>) {
    let (producer, acked) = producer(bootstrap, &[]);
    let count = numbers.len();
    let sent: Vec<Sent> = numbers.map(|i| Sent::plain(i % PARTITIONS, i.to_string().into_bytes())).collect();
    send(&producer, "t", &sent);
    rdkafka::producer::Producer::flush(&producer, PATIENCE).expect("all acknowledged");
    assert_eq!(acked.take().len(), count);
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        thread::yield_now();
    }
}

pub fn all() -> BTreeSet<i32> {
    (0..PARTITIONS).collect()
}

/// Every partition has one of two members, and each member two.
pub fn is_shared(a: &Member, b: &Member) -> bool {
    let (a, b) = (a.assigned(), b.assigned());
    a.len() == 2 && b.len() == 2 && &a | &b == all()
}

/// Of two members one is killed with its process: the other gets its partitions when its session is over. That process
/// is the calling test again, by its name.
pub fn check_killed_member(
    test: &str,
    settings: &[(&str, &str)],
    broker_with_topic: fn(&Path) -> (Broker, [String; 2]),
) {
    if let Ok(bootstrap) = std::env::var(MEMBER_OF) {
        let member = Member::start(&bootstrap, settings);
        return wait_until("somebody kills this process", || member.thread.is_none());
    }
    let dir = directory();
    let (broker, [bootstrap, _]) = broker_with_topic(dir.path());
    let first = Member::start(&bootstrap, settings);
    wait_until("one member has everything", || first.assigned() == all());
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test])
        .env(MEMBER_OF, &bootstrap)
        .stdout(Stdio::null())
        .spawn()
        .expect("this test again");
    wait_until("two members share", || first.assigned().len() == 2);
    let killed = Instant::now();
    child.kill().expect("kill -9");
    child.wait().expect("wait");
    wait_until("the one left has everything", || first.assigned() == all());
    assert!(killed.elapsed() > Duration::from_secs(4), "its session lasts 6 s from its last heartbeat");
    drop(first);
    broker.stop();
}
