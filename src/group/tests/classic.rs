//! Transcripts of the classic protocol.

use super::{check, check_with};
use crate::config::Settings;

#[test]
fn members_join_sync_and_leave() {
    check(
        "
        > join ada
        join ada: MEMBER_ID_REQUIRED ada#1
        > join ada as ada#1
        > wait 2999
        > wait 1
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1
        > sync ada as ada#1 generation 1 assigns ada#1=all
        record: generation 1 of range, leader ada#1: ada#1=all
        sync ada: has all
        > beat ada as ada#1 generation 1
        beat ada: NONE
        > join bob
        join bob: MEMBER_ID_REQUIRED bob#2
        > join bob as bob#2
        > beat ada as ada#1 generation 1
        beat ada: REBALANCE_IN_PROGRESS
        > join ada as ada#1
        join ada: ada#1 in generation 2 of range, leader ada#1: ada#1 bob#2
        join bob: bob#2 in generation 2 of range, leader ada#1:
        > sync bob as bob#2 generation 2
        > beat bob as bob#2 generation 2
        beat bob: NONE
        > sync ada as ada#1 generation 2 assigns ada#1=half,bob#2=rest
        record: generation 2 of range, leader ada#1: ada#1=half bob#2=rest
        sync ada: has half
        sync bob: has rest
        > describe
        describe: NONE Stable `range`: ada#1(=half) bob#2(=rest)
        > leave ada as ada#1
        leave ada: NONE NONE
        > beat bob as bob#2 generation 2
        beat bob: REBALANCE_IN_PROGRESS
        > join bob as bob#2
        join bob: bob#2 in generation 3 of range, leader bob#2: bob#2
        > sync bob as bob#2 generation 3 assigns bob#2=all
        record: generation 3 of range, leader bob#2: bob#2=all
        sync bob: has all
        > leave bob as bob#2
        record: generation 4 of nothing, leader nobody:
        leave bob: NONE NONE
        > describe
        describe: NONE Empty ``:
        ",
    );
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    check(
        "
        > join ada version 3
        > wait 2000
        > join bob version 3
        > wait 2999
        > join cid version 3
        > wait 1
        > wait 3000
        > list
        list: g PreparingRebalance `consumer`
        > wait 1000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1 bob#2 cid#3
        join bob: bob#2 in generation 1 of range, leader ada#1:
        join cid: cid#3 in generation 1 of range, leader ada#1:
        ",
    );
    // Without a delay nobody waits.
    let settings = Settings { group_initial_rebalance_delay_ms: 0, ..Settings::default() };
    check_with(
        settings,
        "
        > join ada version 3
        > wait 0
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1
        ",
    );
    // The delay ends with the rebalance timeout, whoever still comes.
    check(
        "
        > join ada version 3 rebalance 4000
        > join bob version 3 rebalance 4000
        > wait 3000
        > join cid version 3 rebalance 4000
        > wait 999
        > wait 1
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1 bob#2 cid#3
        join bob: bob#2 in generation 1 of range, leader ada#1:
        join cid: cid#3 in generation 1 of range, leader ada#1:
        ",
    );
}

#[test]
fn silent_members_are_taken_out() {
    check(
        "
        > join ada version 3
        > wait 3000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1
        > sync ada as ada#1 generation 1 assigns ada#1=all
        record: generation 1 of range, leader ada#1: ada#1=all
        sync ada: has all
        > wait 9999
        > beat ada as ada#1 generation 1
        beat ada: NONE
        > wait 9999
        > commit ada as ada#1 generation 1 at t/0 offset 4
        record: offset t/0 is 4 ``
        commit ada: NONE
        > wait 9999
        > beat ada as ada#1 generation 1
        beat ada: NONE
        > wait 10000
        record: generation 2 of nothing, leader nobody:
        > beat ada as ada#1 generation 1
        beat ada: UNKNOWN_MEMBER_ID
        > describe
        describe: NONE Empty ``:
        ",
    );
    // With an id and nothing more, a member holds the others up for its session.
    check(
        "
        > join ada
        join ada: MEMBER_ID_REQUIRED ada#1
        > join ada as ada#1
        > wait 3000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1
        > sync ada as ada#1 generation 1 assigns ada#1=all
        record: generation 1 of range, leader ada#1: ada#1=all
        sync ada: has all
        > join bob session 6000
        join bob: MEMBER_ID_REQUIRED bob#2
        > beat ada as ada#1 generation 1
        beat ada: NONE
        > join ada as ada#1
        > wait 5999
        > wait 1
        join ada: ada#1 in generation 2 of range, leader ada#1: ada#1
        > join bob as bob#2
        join bob: UNKNOWN_MEMBER_ID bob#2
        ",
    );
}

#[test]
fn who_does_not_join_in_time_is_out_of_the_next_generation() {
    check(
        "
        > join ada version 3 rebalance 7000 session 30000
        > join bob version 3 rebalance 5000 session 30000
        > wait 3000
        > wait 3000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1 bob#2
        join bob: bob#2 in generation 1 of range, leader ada#1:
        > sync ada as ada#1 generation 1 assigns ada#1=x,bob#2=y
        record: generation 1 of range, leader ada#1: ada#1=x bob#2=y
        sync ada: has x
        > sync bob as bob#2 generation 1
        sync bob: has y
        > join cid version 3 rebalance 5000
        > join bob as bob#2 rebalance 5000 session 30000
        > wait 6999
        > wait 1
        join bob: bob#2 in generation 2 of range, leader bob#2: bob#2 cid#3
        join cid: cid#3 in generation 2 of range, leader bob#2:
        > beat ada as ada#1 generation 2
        beat ada: UNKNOWN_MEMBER_ID
        > sync bob as bob#2 generation 2 assigns bob#2=all
        record: generation 2 of range, leader bob#2: bob#2=all cid#3=
        sync bob: has all
        > beat cid as cid#3 generation 2
        beat cid: NONE
        > wait 5000
        > beat bob as bob#2 generation 2
        beat bob: REBALANCE_IN_PROGRESS
        ",
    );
}

#[test]
fn who_does_not_sync_in_time_is_taken_out() {
    check(
        "
        > join ada version 3 rebalance 4000 session 30000
        > join bob version 3 rebalance 4000 session 30000
        > wait 4000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1 bob#2
        join bob: bob#2 in generation 1 of range, leader ada#1:
        > sync bob as bob#2 generation 1
        > wait 4000
        sync bob: REBALANCE_IN_PROGRESS
        > join bob as bob#2 rebalance 4000 session 30000
        join bob: bob#2 in generation 2 of range, leader bob#2: bob#2
        ",
    );
}

#[test]
fn generations_ids_and_protocols_are_checked() {
    check(
        "
        > beat ada as ada#1 generation 1
        beat ada: UNKNOWN_MEMBER_ID
        > sync ada as nobody generation 1
        sync ada: UNKNOWN_MEMBER_ID
        > leave ada as nobody
        leave ada: NONE UNKNOWN_MEMBER_ID
        > leave ada as nobody version 2
        leave ada: UNKNOWN_MEMBER_ID
        > join ada version 3 protocols range=a,roundrobin=b
        > wait 3000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1
        > sync ada as ada#1 generation 2
        sync ada: ILLEGAL_GENERATION
        > sync ada as ada#1 generation 1 protocol roundrobin
        sync ada: INCONSISTENT_GROUP_PROTOCOL
        > sync ada as ada#1 generation 1 type connect
        sync ada: INCONSISTENT_GROUP_PROTOCOL
        > sync ada as nobody generation 1
        sync ada: UNKNOWN_MEMBER_ID
        > commit ada as ada#1 generation 1 at t/0 offset 1
        commit ada: REBALANCE_IN_PROGRESS
        > sync ada as ada#1 generation 1 assigns ada#1=all
        record: generation 1 of range, leader ada#1: ada#1=all
        sync ada: has all
        > sync ada as ada#1 generation 1
        sync ada: has all
        > beat ada as ada#1 generation 0
        beat ada: ILLEGAL_GENERATION
        > beat ada as nobody generation 1
        beat ada: UNKNOWN_MEMBER_ID
        > join bob type connect
        join bob: INCONSISTENT_GROUP_PROTOCOL
        > join bob protocols sticky=s
        join bob: INCONSISTENT_GROUP_PROTOCOL
        > join bob as nobody
        join bob: UNKNOWN_MEMBER_ID nobody#2
        > join bob version 3 protocols sticky=s,roundrobin=c
        > join ada as ada#1 protocols range=a,roundrobin=b
        join ada: ada#1 in generation 2 of roundrobin, leader ada#1: ada#1 bob#3
        join bob: bob#3 in generation 2 of roundrobin, leader ada#1:
        > describe
        describe: NONE CompletingRebalance ``: ada#1(=) bob#3(=)
        ",
    );
}

#[test]
fn the_protocol_is_the_one_that_most_like_best() {
    check(
        "
        > join ada version 3 protocols range=,sticky=
        > join bob version 3 protocols sticky=,range=,other=
        > join cid version 3 protocols other=,sticky=,range=
        > wait 6000
        join ada: ada#1 in generation 1 of sticky, leader ada#1: ada#1 bob#2 cid#3
        join bob: bob#2 in generation 1 of sticky, leader ada#1:
        join cid: cid#3 in generation 1 of sticky, leader ada#1:
        ",
    );
}

#[test]
fn a_reply_that_was_lost_can_be_asked_for_again() {
    check(
        "
        > join ada version 3
        > join bob version 3
        > wait 6000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1 bob#2
        join bob: bob#2 in generation 1 of range, leader ada#1:
        > join bob as bob#2
        join bob: bob#2 in generation 1 of range, leader ada#1:
        > join ada as ada#1
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1 bob#2
        > sync ada as ada#1 generation 1 assigns ada#1=x,bob#2=y
        record: generation 1 of range, leader ada#1: ada#1=x bob#2=y
        sync ada: has x
        > join bob as bob#2
        join bob: bob#2 in generation 1 of range, leader ada#1:
        > sync bob as bob#2 generation 1
        sync bob: has y
        > join bob as bob#2 protocols range=changed
        > join bob as bob#2 protocols range=changed
        join bob: REBALANCE_IN_PROGRESS bob#2
        > join ada as ada#1
        join ada: ada#1 in generation 2 of range, leader ada#1: ada#1 bob#2
        join bob: bob#2 in generation 2 of range, leader ada#1:
        ",
    );
}

#[test]
fn a_static_member_comes_back_under_its_name() {
    check(
        "
        > join ada static one version 8
        > join bob static two version 8
        > wait 6000
        join ada: one#1 in generation 1 of range, leader one#1: one#1 two#2
        join bob: two#2 in generation 1 of range, leader one#1:
        > sync bob as two#2 static two generation 1
        > sync ada as one#1 static one generation 1 assigns one#1=x,two#2=y
        record: generation 1 of range, leader one#1: one#1=x two#2=y
        sync ada: has x
        sync bob: has y
        > join bob static two version 8
        record: generation 1 of range, leader one#1: one#1=x two#3=y
        join bob: two#3 in generation 1 of range, leader one#1:
        > beat bob as two#2 static two generation 1
        beat bob: FENCED_INSTANCE_ID
        > beat bob as two#3 static two generation 1
        beat bob: NONE
        > sync bob as two#3 static two generation 1
        sync bob: has y
        > join ada static one version 8
        record: generation 1 of range, leader one#4: one#4=x two#3=y
        join ada: one#4 in generation 1 of range, leader one#1:
        > join ada static one version 9
        record: generation 1 of range, leader one#5: one#5=x two#3=y
        join ada: one#5 in generation 1 of range, leader one#5: one#5 two#3, nothing to assign
        > sync ada as one#4 static one generation 1
        sync ada: FENCED_INSTANCE_ID
        > commit ada as one#4 static one generation 1 at t/0 offset 1
        commit ada: FENCED_INSTANCE_ID
        > beat ada as one#5 static three generation 1
        beat ada: UNKNOWN_MEMBER_ID
        > join bob static two version 8 protocols other=,range=
        record: generation 1 of range, leader one#5: one#5=x two#6=y
        join bob: two#6 in generation 1 of range, leader one#5:
        > join bob static two version 8 protocols other=
        join bob: INCONSISTENT_GROUP_PROTOCOL
        > leave admin static two
        leave admin: NONE NONE
        > leave admin static two
        leave admin: NONE UNKNOWN_MEMBER_ID
        ",
    );
}

#[test]
fn of_two_with_one_name_the_first_is_sent_away() {
    check(
        "
        > join ada static one version 8
        > join bob static one version 8
        join ada: FENCED_INSTANCE_ID one#1
        > wait 3000
        join bob: one#2 in generation 1 of range, leader one#2: one#2
        > join cid static one version 8
        join cid: one#3 in generation 2 of range, leader one#3: one#3
        > sync bob as one#2 static one generation 1
        sync bob: FENCED_INSTANCE_ID
        > wait 60000
        record: generation 3 of nothing, leader nobody:
        > wait 10000
        ",
    );
}

#[test]
fn a_group_has_so_many_members_and_no_more() {
    let settings = Settings { group_max_size: 2, ..Settings::default() };
    check_with(
        settings,
        "
        > join ada version 3
        > join bob version 3
        > join cid version 3
        join cid: GROUP_MAX_SIZE_REACHED
        > wait 6000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1 bob#2
        join bob: bob#2 in generation 1 of range, leader ada#1:
        > sync ada as ada#1 generation 1 assigns ada#1=x
        record: generation 1 of range, leader ada#1: ada#1=x bob#2=
        sync ada: has x
        > join cid version 3
        join cid: GROUP_MAX_SIZE_REACHED
        > leave bob as bob#2
        leave bob: NONE NONE
        > join cid version 3
        > join ada as ada#1
        join ada: ada#1 in generation 2 of range, leader ada#1: ada#1 cid#3
        join cid: cid#3 in generation 2 of range, leader ada#1:
        ",
    );
}

#[test]
fn another_coordinator_takes_over() {
    check(
        "
        > join ada version 3 session 20000
        > join bob version 3 static two version 5
        > wait 6000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1 two#2
        join bob: two#2 in generation 1 of range, leader ada#1:
        > sync two as two#2 static two generation 1
        > sync ada as ada#1 generation 1 assigns ada#1=x,two#2=y
        record: generation 1 of range, leader ada#1: ada#1=x two#2=y
        sync ada: has x
        sync two: has y
        > load
        > describe
        describe: NONE Stable `range`: ada#1(=x) two#2(=y)
        > beat ada as ada#1 generation 1
        beat ada: NONE
        > sync bob as two#2 static two generation 1
        sync bob: has y
        > wait 9999
        > beat bob as two#2 static two generation 1
        beat bob: NONE
        > wait 10001
        record: generation 2 of nothing, leader nobody:
        > beat bob as two#2 static two generation 1
        beat bob: UNKNOWN_MEMBER_ID
        > join ada as ada#1 session 20000
        join ada: UNKNOWN_MEMBER_ID ada#1
        > load
        > beat ada as ada#1 generation 1
        beat ada: UNKNOWN_MEMBER_ID
        > leave ada as ada#1
        leave ada: NONE UNKNOWN_MEMBER_ID
        > load
        > describe
        describe: NONE Empty ``:
        > join cid as ada#1
        join cid: UNKNOWN_MEMBER_ID ada#1
        > join cid version 3
        > wait 3000
        join cid: cid#3 in generation 3 of range, leader cid#3: cid#3
        ",
    );
}

#[test]
fn an_assignment_that_no_record_can_hold_fails_for_all() {
    check(
        "
        > join ada version 3
        > join bob version 3
        > wait 6000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1 bob#2
        join bob: bob#2 in generation 1 of range, leader ada#1:
        > sync bob as bob#2 generation 1
        > sync ada as ada#1 generation 1 assigns ada#1=bytes:900000,bob#2=bytes:200000
        sync ada: UNKNOWN_SERVER_ERROR
        sync bob: UNKNOWN_SERVER_ERROR
        > join bob as bob#2
        > join ada as ada#1
        join ada: ada#1 in generation 2 of range, leader ada#1: ada#1 bob#2
        join bob: bob#2 in generation 2 of range, leader ada#1:
        > sync ada as ada#1 generation 2 assigns ada#1=small
        record: generation 2 of range, leader ada#1: ada#1=small bob#2=
        sync ada: has small
        > sync bob as bob#2 generation 2
        sync bob: has
        ",
    );
}

#[test]
fn metadata_and_assignments_are_shown_of_stable_groups() {
    check(
        "
        > describe
        describe: GROUP_ID_NOT_FOUND Dead ``:
        > describe version 5
        describe version: NONE Dead ``:
        > join ada protocols range=meta
        join ada: MEMBER_ID_REQUIRED ada#1
        > join ada as ada#1 protocols range=meta
        > describe
        describe: NONE PreparingRebalance ``: ada#1(=)
        > wait 3000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1
        > describe
        describe: NONE CompletingRebalance ``: ada#1(=)
        > sync ada as ada#1 generation 1 assigns ada#1=all
        record: generation 1 of range, leader ada#1: ada#1=all
        sync ada: has all
        > describe
        describe: NONE Stable `range`: ada#1(meta=all)
        > delete
        delete: NON_EMPTY_GROUP
        > leave ada as ada#1
        record: generation 2 of nothing, leader nobody:
        leave ada: NONE NONE
        > describe
        describe: NONE Empty ``:
        > delete
        record: group gone
        delete: NONE
        > describe
        describe: GROUP_ID_NOT_FOUND Dead ``:
        ",
    );
}
