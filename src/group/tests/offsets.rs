//! Transcripts of committed offsets.

use super::{check, check_with};
use crate::config::Settings;

#[test]
fn offsets_are_kept_for_whoever_may_commit() {
    check(
        "
        > fetch
        fetch: NONE
        > commit admin at t/0 offset 5 note five
        record: offset t/0 is 5 `five`
        commit admin: NONE
        > commit admin at t/1 offset 6
        record: offset t/1 is 6 ``
        commit admin: NONE
        > commit admin at t/0 offset 7 note seven
        record: offset t/0 is 7 `seven`
        commit admin: NONE
        > commit admin at t/0 offset 1 generation 3
        commit admin: UNKNOWN_MEMBER_ID
        > fetch
        fetch: NONE t/0 is 7 `seven` t/1 is 6 ``
        > list
        list: g Empty ``
        > join ada version 3
        > commit admin at t/0 offset 8
        commit admin: UNKNOWN_MEMBER_ID
        > wait 3000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1
        > sync ada as ada#1 generation 1 assigns ada#1=all
        record: generation 1 of range, leader ada#1: ada#1=all
        sync ada: has all
        > commit admin at t/0 offset 9
        commit admin: UNKNOWN_MEMBER_ID
        > commit ada as ada#1 generation 1 at t/0 offset 10
        record: offset t/0 is 10 ``
        commit ada: NONE
        > commit ada as ada#1 generation 2 at t/0 offset 11
        commit ada: ILLEGAL_GENERATION
        > commit ada as nobody generation 1 at t/0 offset 11
        commit ada: UNKNOWN_MEMBER_ID
        > commit ada as ada#1 static one generation 1 at t/0 offset 11
        commit ada: UNKNOWN_MEMBER_ID
        > leave ada as ada#1
        record: generation 2 of nothing, leader nobody:
        leave ada: NONE NONE
        > commit admin at t/0 offset 12
        record: offset t/0 is 12 ``
        commit admin: NONE
        > commit ada as ada#1 generation 2 at t/0 offset 13
        commit ada: UNKNOWN_MEMBER_ID
        > load
        > fetch
        fetch: NONE t/0 is 12 `` t/1 is 6 ``
        ",
    );
}

#[test]
fn a_group_that_is_not_there_is_told_by_version() {
    check(
        "
        > commit ada as ada#1 generation 1 at t/0 offset 1 version 8
        commit ada: ILLEGAL_GENERATION
        > commit ada as ada#1 generation 1 at t/0 offset 1 version 9
        commit ada: GROUP_ID_NOT_FOUND
        > forget t/0
        forget t/0: GROUP_ID_NOT_FOUND
        > delete
        delete: GROUP_ID_NOT_FOUND
        > fetch
        fetch: NONE
        > list
        list:
        ",
    );
}

#[test]
fn a_note_that_is_too_long_is_refused() {
    let settings = Settings { offset_metadata_max_bytes: 4, ..Settings::default() };
    check_with(
        settings,
        "
        > commit admin at t/0 offset 5 note four
        record: offset t/0 is 5 `four`
        commit admin: NONE
        > commit admin at t/0 offset 6 note fives
        commit admin: OFFSET_METADATA_TOO_LARGE
        > commit admin at t/0 offset 6 note größe
        commit admin: OFFSET_METADATA_TOO_LARGE
        > fetch
        fetch: NONE t/0 is 5 `four`
        ",
    );
}

/// Offsets are kept a minute, and looked at every half.
fn a_minute() -> Settings {
    Settings { offsets_retention_minutes: 1, offsets_retention_check_interval_ms: 30_000, ..Settings::default() }
}

#[test]
fn offsets_expire_after_the_last_member_has_left() {
    // Of topics that nobody reads by the commit; of the others by when the last member left.
    check_with(
        a_minute(),
        "
        > load
        > join ada version 3 session 1800000 protocols range=[t]
        > wait 3000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1
        > sync ada as ada#1 generation 1 assigns ada#1=all
        record: generation 1 of range, leader ada#1: ada#1=all
        sync ada: has all
        > commit ada as ada#1 generation 1 at t/0 offset 1
        record: offset t/0 is 1 ``
        commit ada: NONE
        > commit ada as ada#1 generation 1 at other/0 offset 1
        record: offset other/0 is 1 ``
        commit ada: NONE
        > wait 80000
        > fetch
        fetch: NONE other/0 is 1 `` t/0 is 1 ``
        > wait 100000
        record: offset other/0 gone
        > leave ada as ada#1
        record: generation 2 of nothing, leader nobody:
        leave ada: NONE NONE
        > wait 59000
        > fetch
        fetch: NONE t/0 is 1 ``
        > wait 31000
        record: offset t/0 gone
        record: group gone
        > fetch
        fetch: NONE
        > list
        list:
        ",
    );
}

#[test]
fn offsets_of_no_member_expire_after_the_commit() {
    // Or when the client said.
    check_with(
        a_minute(),
        "
        > load
        > commit admin at t/0 offset 1
        record: offset t/0 is 1 ``
        commit admin: NONE
        > commit admin at t/1 offset 1 retention 10000
        record: offset t/1 is 1 ``, expires
        commit admin: NONE
        > commit admin at t/2 offset 1 retention 1000000
        record: offset t/2 is 1 ``, expires
        commit admin: NONE
        > wait 30000
        record: offset t/1 gone
        > wait 30000
        record: offset t/0 gone
        > load
        > fetch
        fetch: NONE t/2 is 1 ``
        ",
    );
}

#[test]
fn offsets_of_another_protocol_stay_as_long_as_it_has_members() {
    // Nobody knows what its members read.
    check_with(
        a_minute(),
        "
        > load
        > join ada version 3 session 1800000 type connect
        > wait 3000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1
        > sync ada as ada#1 generation 1 type connect assigns ada#1=all
        record: generation 1 of range, leader ada#1: ada#1=all
        sync ada: has all
        > commit ada as ada#1 generation 1 at t/0 offset 1
        record: offset t/0 is 1 ``
        commit ada: NONE
        > wait 600000
        > fetch
        fetch: NONE t/0 is 1 ``
        ",
    );
}

#[test]
fn offsets_go_with_their_topic_or_at_a_clients_wish() {
    check(
        "
        > commit admin at t/0 offset 1
        record: offset t/0 is 1 ``
        commit admin: NONE
        > commit admin at u/0 offset 2
        record: offset u/0 is 2 ``
        commit admin: NONE
        > commit admin at v/0 offset 3
        record: offset v/0 is 3 ``
        commit admin: NONE
        > lose t
        record: offset t/0 gone
        > forget u/0
        record: offset u/0 gone
        forget u/0: NONE
        > forget u/1
        forget u/1: NONE
        > fetch
        fetch: NONE v/0 is 3 ``
        > join ada version 3 protocols range=[v]
        > wait 3000
        join ada: ada#1 in generation 1 of range, leader ada#1: ada#1
        > sync ada as ada#1 generation 1 assigns ada#1=all
        record: generation 1 of range, leader ada#1: ada#1=all
        sync ada: has all
        > forget v/0
        forget v/0: GROUP_SUBSCRIBED_TO_TOPIC
        > leave ada as ada#1
        record: generation 2 of nothing, leader nobody:
        leave ada: NONE NONE
        > forget v/0
        record: offset v/0 gone
        forget v/0: NONE
        > fetch
        fetch: NONE
        > join bob version 3 type connect
        > forget v/0
        forget v/0: NON_EMPTY_GROUP
        ",
    );
}

#[test]
fn a_topic_that_went_while_nobody_coordinated_is_missed_at_the_next_load() {
    check(
        "
        > commit admin at t/0 offset 1
        record: offset t/0 is 1 ``
        commit admin: NONE
        > commit admin at u/0 offset 1
        record: offset u/0 is 1 ``
        commit admin: NONE
        > drop t
        > load
        record: offset t/0 gone
        > fetch
        fetch: NONE u/0 is 1 ``
        ",
    );
}

#[test]
fn a_deleted_group_takes_its_offsets_with_it() {
    check(
        "
        > commit admin at t/0 offset 1
        record: offset t/0 is 1 ``
        commit admin: NONE
        > commit admin at u/3 offset 1
        record: offset u/3 is 1 ``
        commit admin: NONE
        > delete
        record: offset t/0 gone
        record: offset u/3 gone
        record: group gone
        delete: NONE
        > load
        > fetch
        fetch: NONE
        > list
        list:
        ",
    );
}
