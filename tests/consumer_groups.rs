//! librdkafka's consumers with `group.protocol=consumer` against the real binary (KIP-848): no partition is read by two
//! members at a time, whoever joins, leaves or crashes, and however the broker ends meanwhile.
#![cfg(feature = "shell")]

mod binary;
mod kafka;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use binary::{Broker, PATIENCE, directory, free_ports};
use kafka::create_topic;
use kafka::members::{
    Board, CONSUMER_PROTOCOL, Member, PARTITIONS, Watch, all, check_killed_member, group_consumer, is_shared, produce,
    wait_until,
};
use rdkafka::consumer::{BaseConsumer, Consumer};

/// Short times, so that nobody waits long.
const TIMES: &[&str] = &[
    "--group-consumer-min-heartbeat-interval-ms",
    "100",
    "--group-consumer-heartbeat-interval-ms",
    "200",
    "--group-consumer-min-session-timeout-ms",
    "6000",
    "--group-consumer-session-timeout-ms",
    "6000",
];

fn start(dir: &Path, listen: &str, per_core: u16) -> Broker {
    let per_core = per_core.to_string();
    Broker::start_on(dir, listen, &[&["--cores", "2", "--per-core-port", &per_core], TIMES].concat())
}

/// A broker of two cores with a topic, and the addresses of its two kinds of listener.
fn broker_with_topic(dir: &Path) -> (Broker, [String; 2]) {
    let base = free_ports(2);
    let broker = start(dir, "127.0.0.1:0", base);
    let shared = broker.address.to_string();
    create_topic(&shared, "t", PARTITIONS);
    (broker, [shared, format!("127.0.0.1:{base}")])
}

fn join(bootstrap: &str, board: &Board, name: &str) -> Member {
    Member::on_board(bootstrap, &[CONSUMER_PROTOCOL], board, name)
}

#[test]
fn partitions_move_one_by_one_when_members_join_and_leave() {
    let dir = directory();
    let (broker, bootstraps) = broker_with_topic(dir.path());
    for (round, bootstrap) in (0..).zip(&bootstraps) {
        let board = Board::default();
        let settings = [CONSUMER_PROTOCOL, ("group.id", if round == 0 { "shared" } else { "per core" })];
        let join = |name| Member::on_board(bootstrap, &settings, &board, name);
        let first = join("first");
        wait_until("one member has everything", || first.assigned() == all());
        produce(bootstrap, round * 200..round * 200 + 100);
        let second = join("second");
        wait_until("two members share", || is_shared(&first, &second));
        assert_eq!(first.watch.look(|seen| seen.fewest), Some(2), "it never gave up more than it had to");
        produce(bootstrap, round * 200 + 100..round * 200 + 200);
        let numbers = || -> BTreeSet<i32> {
            let of = |member: &Member| member.watch.look(|seen| seen.numbers.clone());
            of(&first).into_iter().chain(of(&second)).collect()
        };
        wait_until("every record is read", || (0..round * 200 + 200).all(|number| numbers().contains(&number)));
        drop(second);
        wait_until("the one left has everything", || first.assigned() == all());
        assert_eq!(first.watch.look(|seen| seen.fewest), Some(2));
    }
    broker.stop();
}

#[test]
fn a_member_that_is_killed_loses_its_partitions_after_its_session() {
    let name = "a_member_that_is_killed_loses_its_partitions_after_its_session";
    check_killed_member(name, &[CONSUMER_PROTOCOL], broker_with_topic);
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let dir = directory();
    let (broker, [bootstrap, _]) = broker_with_topic(dir.path());
    let board = Board::default();
    let join =
        |name: &str| Member::on_board(&bootstrap, &[CONSUMER_PROTOCOL, ("group.instance.id", name)], &board, name);
    let (first, second) = (join("first"), join("second"));
    wait_until("two members share", || is_shared(&first, &second));
    let (before, assignments) = (second.assigned(), first.assignments());
    drop(second);
    let second = join("second");
    wait_until("it has what it had", || second.assigned() == before);
    produce(&bootstrap, 0..100);
    let read = |member: &Member| member.watch.look(|seen| seen.numbers.len());
    wait_until("every record is read", || read(&first) + read(&second) >= 100);
    assert_eq!(first.assignments(), assignments, "the other one heard nothing of it");
    // While the broker is there to hear of it.
    drop((first, second));
    broker.stop();
}

#[test]
fn a_broker_that_is_killed_in_the_middle_of_a_rebalance_goes_on_with_it() {
    let dir = directory();
    let base = free_ports(3);
    let listen = format!("127.0.0.1:{}", base + 2);
    let mut broker = start(dir.path(), &listen, base);
    create_topic(&listen, "t", PARTITIONS);
    let board = Board::default();
    let first = join(&listen, &board, "first");
    wait_until("one member has everything", || first.assigned() == all());
    let mut second = join(&listen, &board, "second");
    let mut watches = vec![first.watch.clone(), second.watch.clone()];
    for round in 0..3 {
        // Wherever the rebalance is by now.
        broker.kill();
        broker = start(dir.path(), &listen, base);
        wait_until("two members share", || is_shared(&first, &second));
        produce(&listen, round * 100..round * 100 + 100);
        let is_read = |number: i32| watches.iter().any(|watch| watch.look(|seen| seen.numbers.contains(&number)));
        wait_until("every record is read", || (0..round * 100 + 100).all(is_read));
        // The next one joins, and the broker ends before it has anything.
        drop(second);
        second = join(&listen, &board, &format!("third {round}"));
        watches.push(second.watch.clone());
    }
    wait_until("two members share", || is_shared(&first, &second));
    drop((first, second));
    broker.stop();
}

#[test]
fn a_pattern_stands_for_topics_that_come_later() {
    let dir = directory();
    let (broker, [bootstrap, _]) = broker_with_topic(dir.path());
    create_topic(&bootstrap, "other", 1);
    let member = Member::subscribed(&bootstrap, &[CONSUMER_PROTOCOL], "^t(-.*)?", Watch::default());
    wait_until("it has the topic there is", || member.assigned() == all());
    create_topic(&bootstrap, "t-later", PARTITIONS + 2);
    // The member reads partitions 4 and 5 of the later topic only.
    wait_until("it has the later topic too", || member.assigned().contains(&(PARTITIONS + 1)));
    drop(member);
    broker.stop();
}

#[test]
fn a_group_changes_its_protocol_and_back_while_members_stay() {
    let dir = directory();
    let (broker, [bootstrap, _]) = broker_with_topic(dir.path());
    for strategy in ["range", "cooperative-sticky"] {
        let board = Board::default();
        let classic = [("partition.assignment.strategy", strategy), ("group.id", strategy)];
        let first = Member::on_board(&bootstrap, &classic, &board, "first");
        wait_until("one member has everything", || first.assigned() == all());
        let consumer = [CONSUMER_PROTOCOL, ("group.id", strategy)];
        let second = Member::on_board(&bootstrap, &consumer, &board, "second");
        wait_until("the two protocols share", || is_shared(&first, &second));
        let third = Member::on_board(&bootstrap, &classic, &board, "third");
        wait_until("three have something", || [&first, &second, &third].iter().all(|one| !one.assigned().is_empty()));
        drop(third);
        wait_until("the two protocols share again", || is_shared(&first, &second));
        drop(second);
        wait_until("the classic one has everything", || first.assigned() == all());
        let third = Member::on_board(&bootstrap, &classic, &board, "third");
        wait_until("two classic ones share", || is_shared(&first, &third));
        drop((first, third));
    }
    broker.stop();
}

#[test]
fn an_assignor_is_asked_for_and_one_that_is_not_there_is_refused() {
    let dir = directory();
    let (broker, [bootstrap, _]) = broker_with_topic(dir.path());
    let settings = |assignor| [CONSUMER_PROTOCOL, ("group.remote.assignor", assignor)];
    let refused = group_consumer(&bootstrap, &settings("sideways"), Watch::default());
    refused.subscribe(&["t"]).expect("subscribed");
    let error = poll_error(&refused);
    assert!(error.contains("UnsupportedAssignor"), "{error}");
    drop(refused);
    let (first, second) =
        (Member::start(&bootstrap, &settings("range")), Member::start(&bootstrap, &settings("range")));
    wait_until("two members share", || is_shared(&first, &second));
    let halves = [first.assigned(), second.assigned()];
    assert!(halves.contains(&BTreeSet::from([0, 1])) && halves.contains(&BTreeSet::from([2, 3])), "{halves:?}");
    drop((first, second));
    broker.stop();
}

/// The first error that a consumer meets.
fn poll_error(consumer: &BaseConsumer<Watch>) -> String {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(Err(error)) = consumer.poll(Duration::from_millis(50)) {
            return error.to_string();
        }
    }
    panic!("no error in {PATIENCE:?}");
}
