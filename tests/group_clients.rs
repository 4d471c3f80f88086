//! librdkafka's consumer groups against the real binary: who gets which partitions, and what is kept of offsets.
#![cfg(feature = "shell")]

mod binary;
mod kafka;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use binary::{Broker, PATIENCE, directory, free_ports};
use kafka::{Sent, create_topic, producer, send};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const PARTITIONS: i32 = 4;

/// Set for a process that is nothing but a member, to be killed.
const MEMBER_OF: &str = "CORELOG_TEST_MEMBER_OF";

/// What a member has seen.
#[derive(Default)]
struct Seen {
    assigned: BTreeSet<i32>,
    /// The fewest partitions it had since it had any.
    fewest: Option<usize>,
    assignments: usize,
    numbers: Vec<i32>,
}

#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Seen>>);

impl Watch {
    fn look<R>(&self, at: impl FnOnce(&mut Seen) -> R) -> R {
        at(&mut self.0.lock().expect("no panic holds it"))
    }
}

impl ClientContext for Watch {}

impl ConsumerContext for Watch {
    fn post_rebalance(&self, _consumer: &BaseConsumer<Watch>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(_) = rebalance {
            self.look(|seen| seen.assignments += 1);
        }
    }
}

/// A consumer of a group that reads `t` in a thread of its own until it is dropped.
struct Member {
    watch: Watch,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    fn start(bootstrap: &str, settings: &[(&str, &str)]) -> Member {
        let (watch, stop) = (Watch::default(), Arc::new(AtomicBool::new(false)));
        let consumer = group_consumer(bootstrap, settings, watch.clone());
        let (seen, end) = (watch.clone(), stop.clone());
        let thread = thread::spawn(move || {
            consumer.subscribe(&["t"]).expect("subscribed");
            while !end.load(Ordering::SeqCst) {
                read_once(&consumer, &seen);
            }
            // Dropping the consumer leaves the group, unless its membership is static.
        });
        Member { watch, stop, thread: Some(thread) }
    }

    fn assigned(&self) -> BTreeSet<i32> {
        self.watch.look(|seen| seen.assigned.clone())
    }

    fn assignments(&self) -> usize {
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

fn group_consumer(bootstrap: &str, settings: &[(&str, &str)], watch: Watch) -> BaseConsumer<Watch> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "g").set("log_level", "2");
    config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "200");
    config.set("auto.offset.reset", "earliest").set("auto.commit.interval.ms", "200");
    config.set("reconnect.backoff.ms", "10").set("reconnect.backoff.max.ms", "100");
    config.set("topic.metadata.refresh.interval.ms", "1000");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create_with_context(watch).expect("a consumer")
}

/// A broker of two cores that does not wait long for more members, with a topic, and its two bootstrap addresses.
fn broker_with_topic(dir: &std::path::Path) -> (Broker, [String; 2]) {
    let base = free_ports(2);
    let arguments = ["--cores", "2", "--per-core-port", &base.to_string(), "--group-initial-rebalance-delay-ms", "100"];
    let broker = Broker::start(dir, &arguments);
    let shared = broker.address.to_string();
    create_topic(&shared, "t", PARTITIONS);
    (broker, [shared, format!("127.0.0.1:{base}")])
}

fn produce(bootstrap: &str, numbers: std::ops::Range<i32>) {
    let (producer, acked) = producer(bootstrap, &[]);
    let count = numbers.len();
    let sent: Vec<Sent> = numbers.map(|i| Sent::plain(i % PARTITIONS, i.to_string().into_bytes())).collect();
    send(&producer, "t", &sent);
    rdkafka::producer::Producer::flush(&producer, PATIENCE).expect("all acknowledged");
    assert_eq!(acked.take().len(), count);
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        thread::yield_now();
    }
}

fn all() -> BTreeSet<i32> {
    (0..PARTITIONS).collect()
}

/// Every partition has one of two members, and each member two.
fn is_shared(a: &Member, b: &Member) -> bool {
    let (a, b) = (a.assigned(), b.assigned());
    a.len() == 2 && b.len() == 2 && &a | &b == all()
}

#[test]
fn partitions_move_when_members_join_and_leave() {
    let dir = directory();
    let (broker, bootstraps) = broker_with_topic(dir.path());
    for (round, bootstrap) in (0..).zip(&bootstraps) {
        let settings = [("group.id", if round == 0 { "shared" } else { "per core" })];
        let first = Member::start(bootstrap, &settings);
        wait_until("one member has everything", || first.assigned() == all());
        produce(bootstrap, round * 200..round * 200 + 100);
        let second = Member::start(bootstrap, &settings);
        wait_until("two members share", || is_shared(&first, &second));
        produce(bootstrap, round * 200 + 100..round * 200 + 200);
        let numbers = || -> BTreeSet<i32> {
            let of = |member: &Member| member.watch.look(|seen| seen.numbers.clone());
            of(&first).into_iter().chain(of(&second)).collect()
        };
        wait_until("every record is read", || (0..round * 200 + 200).all(|number| numbers().contains(&number)));
        drop(second);
        wait_until("the one left has everything", || first.assigned() == all());
    }
    broker.stop();
}

#[test]
fn a_member_that_is_killed_loses_its_partitions_after_its_session() {
    if let Ok(bootstrap) = std::env::var(MEMBER_OF) {
        let member = Member::start(&bootstrap, &[]);
        return wait_until("somebody kills this process", || member.thread.is_none());
    }
    let dir = directory();
    let (broker, [bootstrap, _]) = broker_with_topic(dir.path());
    let first = Member::start(&bootstrap, &[]);
    wait_until("one member has everything", || first.assigned() == all());
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_member_that_is_killed_loses_its_partitions_after_its_session"])
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
    broker.stop();
}

#[test]
fn a_cooperative_member_keeps_what_it_does_not_give_away() {
    let dir = directory();
    let (broker, [bootstrap, _]) = broker_with_topic(dir.path());
    let settings = [("partition.assignment.strategy", "cooperative-sticky")];
    let first = Member::start(&bootstrap, &settings);
    wait_until("one member has everything", || first.assigned() == all());
    let second = Member::start(&bootstrap, &settings);
    wait_until("two members share", || is_shared(&first, &second));
    assert_eq!(first.watch.look(|seen| seen.fewest), Some(2), "it never gave up more than it had to");
    drop(second);
    wait_until("the one left has everything", || first.assigned() == all());
    assert_eq!(first.watch.look(|seen| seen.fewest), Some(2));
    broker.stop();
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let dir = directory();
    let (broker, [bootstrap, _]) = broker_with_topic(dir.path());
    let instance = |name| [("group.instance.id", name), ("session.timeout.ms", "30000")];
    let first = Member::start(&bootstrap, &instance("first"));
    let second = Member::start(&bootstrap, &instance("second"));
    wait_until("two members share", || is_shared(&first, &second));
    let (before, assignments) = (second.assigned(), first.assignments());
    drop(second);
    let second = Member::start(&bootstrap, &instance("second"));
    wait_until("it has what it had", || second.assigned() == before);
    produce(&bootstrap, 0..100);
    let read = |member: &Member| member.watch.look(|seen| seen.numbers.len());
    wait_until("every record is read", || read(&first) + read(&second) >= 100);
    assert_eq!(first.assignments(), assignments, "the other one heard nothing of it");
    // Its old self is fenced: of two with one name the later one stays.
    let third = Member::start(&bootstrap, &instance("second"));
    wait_until("the later one has it", || third.assigned() == before);
    wait_until("the earlier one has nothing", || second.assigned().is_empty());
    broker.stop();
}

#[test]
fn offsets_and_members_outlive_the_broker() {
    let dir = directory();
    let port = free_ports(1);
    let (listen, settings) =
        (format!("127.0.0.1:{port}"), ["--cores", "2", "--group-initial-rebalance-delay-ms", "100"]);
    let start = || Broker::start_on(dir.path(), &listen, &settings);
    let mut broker = start();
    create_topic(&listen, "t", PARTITIONS);
    let member = Member::start(&listen, &[]);
    wait_until("one member has everything", || member.assigned() == all());
    for round in 0..4 {
        produce(&listen, round * 100..round * 100 + 100);
        let read = (round as usize + 1) * 100;
        wait_until("every record is read", || member.watch.look(|seen| seen.numbers.len()) >= read);
        let offset = i64::from(round) * 10 + 3;
        commit(&listen, offset);
        if round % 2 == 0 {
            broker.kill()
        } else {
            broker.stop()
        };
        broker = start();
        assert_eq!(committed(&listen), (offset, "here".to_owned()), "round {round}");
    }
    assert_eq!(member.watch.look(|seen| seen.numbers.len()), 400, "nothing is read twice");
    assert_eq!(member.assignments(), 1, "members do not notice");
    drop(member);
    broker.stop();
}

fn position(offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 1, offset).expect("a row");
    list
}

/// Commits as somebody who is in no group.
fn commit(bootstrap: &str, offset: i64) {
    let consumer = group_consumer(bootstrap, &[("group.id", "simple")], Watch::default());
    let list = position(Offset::Offset(offset));
    let mut row = list.find_partition("t", 1).expect("the row");
    row.set_metadata("here");
    consumer.commit(&list, CommitMode::Sync).expect("committed");
}

fn committed(bootstrap: &str) -> (i64, String) {
    let consumer = group_consumer(bootstrap, &[("group.id", "simple")], Watch::default());
    let found = consumer.committed_offsets(position(Offset::Invalid), PATIENCE).expect("an answer");
    let row = &found.elements()[0];
    (row.offset().to_raw().expect("an offset"), row.metadata().to_owned())
}
