//! Three replicas of one partition on test disks, with a controller that is a few lines, and messages that are late,
//! lost and out of order.

mod random;
mod world;

use crate::base::ids::Offset;
use crate::base::testdisk::Crash;
use crate::config::TopicSettings;
use crate::replica::partition::{Reader, Refusal};

use world::{Ended, World};

#[test]
fn acks_of_all_wait_for_the_followers_and_acks_of_one_do_not() {
    let mut world = World::new(1, 2);
    world.run();
    world.hold_messages = true;
    let (one, all) = (world.produce(0, 1), world.produce(0, -1));
    world.run();
    assert_eq!((world.ended(one), world.ended(all)), (Ended::Stored, Ended::Pending));
    assert_eq!(world.replica(0).high_watermark(), Offset(0));
    world.hold_messages = false;
    world.run();
    assert_eq!(world.ended(all), Ended::Stored);
    for node in 0..3 {
        assert_eq!(world.replica(node).high_watermark(), Offset(2), "node {node}");
    }
}

#[test]
fn a_follower_that_stays_away_leaves_the_set_and_comes_back() {
    let mut world = World::new(2, 2);
    world.run();
    world.crash(2, Crash::Kill);
    let all = world.produce(0, -1);
    world.run();
    assert_eq!(world.ended(all), Ended::Pending);
    world.pass_ms(2 * world::LAG_MS);
    world.run();
    assert_eq!((world.ended(all), world.isr()), (Ended::Stored, vec![0, 1]));
    world.start(2);
    world.run();
    assert_eq!((world.replica(2).high_watermark(), world.isr()), (Offset(1), vec![0, 1, 2]));
}

#[test]
fn with_too_few_in_sync_nothing_is_taken_for_all() {
    let mut world = World::new(3, 2);
    world.run();
    world.crash(1, Crash::Kill);
    world.crash(2, Crash::Kill);
    let waits = world.produce(0, -1);
    world.run();
    world.pass_ms(2 * world::LAG_MS);
    world.run();
    assert_eq!(world.ended(waits), Ended::Refused(Refusal::NotEnoughReplicasAfterAppend));
    let (all, one) = (world.produce(0, -1), world.produce(0, 1));
    world.run();
    assert_eq!(world.ended(all), Ended::Refused(Refusal::NotEnoughReplicas));
    assert_eq!((world.ended(one), world.replica(0).high_watermark()), (Ended::Stored, Offset(0)));
    world.start(1);
    world.run();
    assert_eq!((world.isr(), world.replica(0).high_watermark()), (vec![0, 1], Offset(2)));
}

#[test]
fn a_leader_that_lost_its_place_gives_up_what_nobody_else_has() {
    let mut world = World::new(4, 2);
    world.produce(0, -1);
    world.run();
    world.cut_off(0);
    let lost = world.produce(0, -1);
    world.run();
    world.elect(1);
    world.run();
    let kept = world.produce(1, -1);
    world.run();
    assert_eq!((world.ended(lost), world.ended(kept)), (Ended::Pending, Ended::Pending));
    world.pass_ms(2 * world::LAG_MS);
    world.run();
    assert_eq!((world.ended(kept), world.isr()), (Ended::Stored, vec![1, 2]));
    world.join(0);
    world.run();
    assert_eq!(world.ended(lost), Ended::Refused(Refusal::NotLeader));
    assert_eq!((world.log(0), world.isr()), (world.log(1), vec![0, 1, 2]));
}

#[test]
fn a_client_waits_no_longer_than_it_says() {
    let mut world = World::new(5, 2);
    world.run();
    world.cut_off(0);
    let all = world.produce(0, -1);
    world.run();
    world.pass_ms(world::TIMEOUT_MS);
    assert_eq!(world.ended(all), Ended::Refused(Refusal::TimedOut));
}

#[test]
fn a_follower_below_its_leaders_start_begins_anew_there() {
    let mut world = World::new(6, 1);
    world.run();
    world.crash(2, Crash::Kill);
    (0..5).for_each(|_| _ = world.produce(0, -1));
    world.run();
    world.pass_ms(2 * world::LAG_MS);
    world.run();
    world.delete_records(0, 4);
    world.start(2);
    world.run();
    assert_eq!((world.replica(2).log_start(), world.log(2)), (Offset(4), world.log(0)));
    world.produce(0, -1);
    world.run();
    world.delete_records(0, 6);
    world.produce(0, -1);
    world.run();
    assert_eq!(world.replica(1).log_start(), Offset(6), "followers delete what their leader deletes");
}

#[test]
fn a_follower_takes_whole_the_batch_that_its_leaders_log_begins_in() {
    let mut world = World::new(12, 1);
    world.run();
    world.crash(2, Crash::Kill);
    (0..3).for_each(|_| _ = world.produce_batch(0, -1, 4));
    world.run();
    world.pass_ms(2 * world::LAG_MS);
    world.run();
    world.delete_records(0, 6);
    world.start(2);
    world.run();
    let follower = world.replica(2);
    assert_eq!((follower.log_start(), follower.log_end(), world.isr()), (Offset(6), Offset(12), vec![0, 1, 2]));
}

#[test]
fn what_a_leader_has_deleted_goes_as_soon_as_it_is_safe() {
    let mut world = World::new(13, 1);
    world.run();
    world.hand_over(1, world::batch_of(5), 3);
    let replica = world.replica(1);
    assert_eq!((replica.log_start(), replica.high_watermark(), replica.log_end()), (Offset(3), Offset(5), Offset(5)));
}

#[test]
fn a_follower_whose_log_begins_later_by_itself_says_so() {
    let settings = TopicSettings { retention_bytes: 5_000, retention_check_ms: 1_000, ..TopicSettings::default() };
    let mut world = World::with(14, settings);
    world.run();
    (0..150).for_each(|_| _ = world.produce(0, -1));
    world.run();
    world.hold_messages = true;
    world.run();
    let ready = world.nodes[1].ready;
    world.pass_ms(40_000);
    world.run_disks();
    assert!(world.replica(1).log_start() > Offset(0) && world.nodes[1].ready > ready);
}

#[test]
fn a_deletion_is_answered_when_all_in_sync_have_made_it() {
    let mut world = World::new(8, 2);
    world.run();
    (0..9).for_each(|_| _ = world.produce(0, -1));
    world.run();
    world.delete_records(0, 3);
    assert_eq!(world.deleted, [Ok(Offset(3))]);
    assert!((1..3).all(|node| world.replica(node).log_start() == Offset(3)));
    world.cut_off(2);
    world.delete_records(0, 5);
    assert_eq!((world.deleted.len(), world.replica(0).log_start()), (1, Offset(5)), "one in sync has not made it");
    world.delete_records(0, 2);
    assert_eq!(world.deleted[1..], [Ok(Offset(3))], "and may lead, and bring back what was deleted here alone");
    world.fence(2);
    world.run();
    assert_eq!(world.deleted[2..], [Ok(Offset(5))], "it has left the set");
    world.cut_off(1);
    world.delete_records(0, 7);
    world.pass_ms(world::TIMEOUT_MS);
    assert_eq!(world.deleted[3..], [Err(Refusal::TimedOut)], "too few are left to say that it stays deleted");
}

#[test]
fn a_restart_shows_no_less_than_what_was_committed_and_no_more() {
    let mut world = World::new(8, 2);
    world.run();
    (0..3).for_each(|_| _ = world.produce(0, -1));
    world.run();
    // Two more that nobody else has.
    [1, 2].into_iter().for_each(|node| world.cut_off(node));
    (0..2).for_each(|_| _ = world.produce(0, 1));
    world.run();
    world.crash(0, Crash::Power);
    world.start(0);
    world.run();
    let leader = world.replica(0);
    assert_eq!((leader.high_watermark(), leader.log_end()), (Offset(3), Offset(5)));
    assert!(!leader.is_established(), "the other two may be committed, for all it knows");
    assert_eq!(world.log(0).len(), 3);
}

#[test]
fn what_was_noted_of_a_log_before_its_end_was_given_up_is_void() {
    let mut world = World::new(9, 1);
    world.run();
    (0..3).for_each(|_| _ = world.produce(0, -1));
    world.run();
    world.crash(1, Crash::Kill);
    let noted = world.nodes[1].committed;
    world.start(1);
    world.run();
    // A leader that lacks what was committed, as after an unclean election.
    world.cut(1, 1);
    assert_eq!(world.replica(1).high_watermark(), Offset(1));
    world.crash(1, Crash::Kill);
    assert!(world.nodes[1].committed > noted);
    world.nodes[1].committed = noted;
    world.start(1);
    world.run_disks();
    assert_eq!(world.replica(1).high_watermark(), Offset(0), "until its leader says more");
}

#[test]
fn a_follower_keeps_what_its_new_leader_has_not_finished_writing() {
    let mut world = World::new(10, 1);
    world.run();
    world.produce(0, 1);
    while world.step_disk(0) {}
    [1, 2].into_iter().for_each(|node| world.poll(node));
    world.deliver_all();
    while world.step_disk(2) {}
    world.elect(1);
    world.deliver_all();
    let (leader, follower) = (world.replica(1), world.replica(2));
    assert_eq!(
        (leader.end_for(Reader::Replica), leader.log_end(), follower.log_end()),
        (Offset(0), Offset(1), Offset(1))
    );
    let cuts = world.nodes[2].cuts();
    world.poll(2);
    world.deliver_all();
    world.run();
    assert_eq!((world.log(1).len(), world.log(2).len(), world.nodes[2].cuts()), (1, 1, cuts));
}

#[test]
fn a_batch_that_compaction_has_made_wider_than_what_is_there_comes_in_one_piece() {
    let mut world = World::new(11, 1);
    world.run();
    (0..3).for_each(|_| _ = world.produce(0, -1));
    world.run();
    assert_eq!(world.replica(1).log_end(), Offset(3));
    let wide = world::batch_of(5);
    world.hand_over(1, wide.clone(), 0);
    assert_eq!((world.replica(1).log_end(), world.nodes[1].notes.clone()), (Offset(0), Vec::<String>::new()));
    world.hand_over(1, wide, 0);
    assert_eq!((world.replica(1).log_end(), world.replica(1).high_watermark()), (Offset(5), Offset(5)));
}

#[test]
fn an_answer_that_comes_a_second_time_costs_nothing_that_is_safe() {
    let mut world = World::new(14, 1);
    world.run();
    (0..3).for_each(|_| _ = world.produce(0, -1));
    world.run();
    world.hand_over(1, world::batch_of(2), 0);
    let replica = world.replica(1);
    assert_eq!((replica.log_end(), replica.high_watermark()), (Offset(3), Offset(3)));
    assert!(world.nodes[1].notes[0].contains("does not belong here"), "{:?}", world.nodes[1].notes);
}

#[test]
fn retention_takes_nothing_that_is_not_committed() {
    let settings = TopicSettings {
        min_insync_replicas: 2,
        retention_bytes: 5_000,
        retention_check_ms: 1_000,
        ..TopicSettings::default()
    };
    let mut world = World::with(7, settings);
    world.run();
    [1, 2].into_iter().for_each(|node| world.crash(node, Crash::Kill));
    (0..150).for_each(|_| _ = world.produce(0, 1));
    world.pass_ms(40_000);
    world.run();
    assert_eq!((world.replica(0).high_watermark(), world.replica(0).log_start()), (Offset(0), Offset(0)));
    [1, 2].into_iter().for_each(|node| world.start(node));
    (0..5).for_each(|_| world.run());
    world.pass_ms(40_000);
    world.run();
    for node in 0..3 {
        let replica = world.replica(node);
        assert!(replica.high_watermark() == Offset(150) && replica.log_start() > Offset(0), "node {node}");
    }
}
