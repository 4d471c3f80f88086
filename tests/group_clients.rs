//! librdkafka's consumer groups against the real binary: who gets which partitions, and what is kept of offsets.
#![cfg(feature = "shell")]

mod binary;
mod kafka;

use std::collections::BTreeSet;

use binary::{Broker, PATIENCE, directory, free_ports};
use kafka::create_topic;
use kafka::members::{
    Member, PARTITIONS, Watch, all, check_killed_member, group_consumer, is_shared, produce, wait_until,
};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// A broker of two cores that does not wait long for more members, with a topic, and its two bootstrap addresses.
fn broker_with_topic(dir: &std::path::Path) -> (Broker, [String; 2]) {
    let base = free_ports(2);
    let arguments = ["--cores", "2", "--per-core-port", &base.to_string(), "--group-initial-rebalance-delay-ms", "100"];
    let broker = Broker::start(dir, &arguments);
    let shared = broker.address.to_string();
    create_topic(&shared, "t", PARTITIONS);
    (broker, [shared, format!("127.0.0.1:{base}")])
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
    let name = "a_member_that_is_killed_loses_its_partitions_after_its_session";
    check_killed_member(name, &[], broker_with_topic);
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
