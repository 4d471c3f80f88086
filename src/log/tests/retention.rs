//! Old segments go, the log begins later, and no crash makes it begin earlier again or lose what stays.
//!
//! *Owns*: the tests of `retention` and `start`. *Runs on*: tests.

use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::rng::Rng;
use crate::config::{Durability, TopicSettings};

use super::super::cache::ReadBy;
use super::super::log::{LogEvent, Read, ReadError};
use super::super::read::ReadWish;
use super::super::segment::FileName;
use super::super::testdisk::Crash;
use super::super::testing::{Rig, batch, batch_of, dir, small_segments, small_synced_segments};

const CHECK_MS: u64 = 1000;

fn old_goes(retention_ms: i64, retention_bytes: i64) -> TopicSettings {
    TopicSettings { retention_ms, retention_bytes, retention_check_ms: CHECK_MS, ..small_segments() }
}

/// A log of full segments and one that is written to; timestamps from the rig's time on, 100 ms apart.
fn filled(settings: TopicSettings) -> Rig {
    let mut rig = Rig::new(3, settings);
    let start_ms = rig.now.wall_ms;
    for i in 0..40 {
        rig.append(&batch(1, 1500, start_ms + 100 * i)).unwrap();
    }
    rig.run();
    rig.events.clear();
    rig
}

fn segments(rig: &Rig) -> Vec<i64> {
    let base = |(name, _): (String, u64)| match FileName::parse(&name) {
        Some(FileName::Segment(base)) => Some(base.0),
        _ => None,
    };
    rig.disk.names(&dir()).into_iter().filter_map(base).collect()
}

fn removed(rig: &Rig) -> usize {
    rig.events.iter().filter(|event| matches!(event, LogEvent::Removed { .. })).count()
}

#[test]
fn segments_go_when_they_are_old_and_when_there_is_too_much() {
    for durability in [Durability::Write, Durability::Sync] {
        check_goes(durability);
    }
}

fn check_goes(durability: Durability) {
    let all = segments(&filled(old_goes(-1, -1)));
    assert_eq!(all, [0, 12, 24, 36]);
    let check = |(retention_ms, retention_bytes), pass_ms: u64, expect: &[i64]| {
        let mut rig = filled(TopicSettings { durability, ..old_goes(retention_ms, retention_bytes) });
        rig.pass_ms(pass_ms - CHECK_MS);
        rig.run();
        rig.pass_ms(CHECK_MS);
        rig.run();
        // Where the journal has the newest records, the segment that is written to must get them first.
        rig.now.mono = rig.now.mono.after_ms(CHECK_MS);
        rig.timeout();
        rig.run();
        assert_eq!(segments(&rig), expect, "after {pass_ms} ms");
        assert_eq!(rig.log.start(), Offset(expect[0]));
        assert_eq!(removed(&rig), 4 + usize::from(expect[0] == 40) - expect.len());
        let end = rig.log.end();
        assert_eq!(end, Offset(40));
        rig.check_holds(end);
        assert_eq!(rig.read(expect[0] - 1, 40, 100, true), Err(ReadError::OutOfRange));
        rig.append(&batch(1, 10, 0)).unwrap();
        rig.run();
        let mut rig = rig.reopen_at(Crash::Kill);
        assert_eq!(rig.log.start(), Offset(expect[0]));
        rig.check_holds(Offset(41));
        rig.close();
        let mut rig = rig.reopen();
        assert_eq!(rig.notes, [""; 0]);
        rig.check_holds(Offset(41));
    };
    check((-1, -1), 1 << 40, &all);
    check((10_000, -1), 5000, &all);
    check((3000, -1), 5000, &[12, 24, 36]);
    check((500, -1), 4100, &[36]);
    // The newest record too: the segment that is written to is sealed, and goes.
    check((500, -1), 5000, &[40]);
    check((-1, 20_000), 2000, &[24, 36]);
    check((-1, 1), 2000, &[36]);
    check((-1, 0), 2000, &[40]);
}

#[test]
fn records_without_a_time_are_as_old_as_their_segment_is_full() {
    let mut rig = Rig::new(3, old_goes(5000, -1));
    for _ in 0..20 {
        rig.append(&batch(1, 1500, -1)).unwrap();
    }
    rig.run();
    rig.pass_ms(5000);
    rig.run();
    assert_eq!(rig.log.start(), Offset(0));
    rig.pass_ms(CHECK_MS);
    rig.run();
    assert_eq!(segments(&rig), [12]);
}

#[test]
fn a_read_that_is_under_way_ends_before_its_segment_goes() {
    let mut rig = filled(old_goes(-1, -1));
    rig.close();
    let mut rig = rig.reopen();
    let read = rig.begin_read(3, 40, 5000, true);
    assert!(matches!(read, Ok(Read::Later(_))));
    rig.send();
    rig.move_start(Offset(30));
    while rig.log.start() < Offset(30) {
        assert!(rig.step());
    }
    assert_eq!(rig.read(29, 40, 100, true), Err(ReadError::OutOfRange));
    rig.run();
    let good = |event: &LogEvent| matches!(event, LogEvent::Read { result: Ok(found), .. } if found.bytes > 0);
    assert!(rig.events.iter().any(good), "{:?}", rig.events);
    assert_eq!(segments(&rig), [24, 36]);
}

#[test]
fn replicas_may_read_all_of_the_segment_that_the_log_begins_in() {
    let mut rig = filled(old_goes(-1, -1));
    rig.move_start(Offset(30));
    rig.run();
    assert_eq!((segments(&rig)[0], rig.log.start(), rig.log.start_for_replicas()), (24, Offset(30), Offset(24)));
    let mut read = |from, by| {
        let wish = ReadWish { from: Offset(from), until: Offset(40), bytes_max: 5000, at_least_one: true, by };
        rig.log.read(wish, &mut rig.cache, &mut rig.out).is_ok()
    };
    assert_eq!([23, 24].map(|from| read(from, ReadBy::Replica)), [false, true]);
    assert_eq!([29, 30].map(|from| read(from, ReadBy::Consumer)), [false, true]);
}

#[test]
fn a_look_up_by_time_does_not_find_what_was_deleted() {
    let mut rig = Rig::new(3, small_segments());
    rig.append(&batch(30, 100, 100)).unwrap();
    rig.run();
    rig.move_start(Offset(7));
    rig.run();
    let found = rig.find_timestamp(103, Offset(30)).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp_ms), (Offset(7), 107));
}

/// Appends, deletions of records and restarts, up to so many disk operations; then the end. What was safe, and where
/// the log began.
fn crash_at(seed: u64, settings: &TopicSettings, how: Crash, operations: u64) -> (Offset, Offset, Rig) {
    let mut rng = Rng::new(seed);
    let mut rig = Rig::new(seed, settings.clone());
    let mut sequence = 0;
    'work: for _ in 0..3 {
        for _ in 0..20 {
            if rng.below(4) == 0 {
                let safe = rig.log.safe_end().0 as u64;
                let to = if rng.below(3) == 0 { safe } else { rng.below(safe + 1) };
                rig.move_start(Offset(to as i64));
            } else {
                let size = if rng.below(10) == 0 { 9000 } else { rng.below(3000) };
                rig.append_in(&batch_of(5, 0, sequence, size as usize), LeaderEpoch(0)).unwrap();
                sequence += 1;
            }
            if !rig.step_within(rng.below(5), operations) {
                break 'work;
            }
        }
        if !rig.close_within(operations) {
            break 'work;
        }
        rig = rig.reopen();
    }
    let (safe, start) = (rig.log.safe_end(), rig.log.start());
    rig.crash(how);
    (safe, start, rig.reopen())
}

#[test]
fn a_crash_at_any_point_neither_brings_back_nor_takes_away() {
    let write = (small_segments(), Crash::Kill, true);
    let sync = (small_synced_segments(), Crash::Power, true);
    let lossy = (small_segments(), Crash::Power, false);
    for (number, (settings, how, keeps_safe)) in [write, sync, lossy].into_iter().enumerate() {
        for seed in 0..4 {
            for operations in 1.. {
                let (safe, start, mut rig) = crash_at(100 * number as u64 + seed, &settings, how, operations);
                let ended = rig.disk.done < operations;
                assert!(rig.log.start() >= start, "began at {start}, and now at {}", rig.log.start());
                assert!(rig.log.end() >= start);
                let usual =
                    |note: &String| note.contains("is cut at byte") || (!keeps_safe && note.contains("log ends at"));
                assert!(rig.notes.iter().all(usual), "{:?}", rig.notes);
                if rig.log.segments.is_empty() && !keeps_safe {
                    rig.model.clear();
                } else {
                    rig.check_holds(if keeps_safe { safe } else { Offset(0) });
                }
                for _ in 0..15 {
                    rig.append_in(&batch(2, 1500, 0), LeaderEpoch(7)).unwrap();
                }
                rig.run();
                let end = rig.log.end();
                rig.check_holds(end);
                let mut rig = rig.reopen_at(Crash::Kill);
                rig.check_holds(end);
                if ended {
                    break;
                }
            }
        }
    }
}

#[test]
fn without_space_for_the_bounds_nothing_is_deleted_until_there_is() {
    let mut rig = filled(old_goes(-1, -1));
    rig.disk.capacity = 0;
    rig.move_start(Offset(30));
    rig.run();
    assert!(matches!(rig.events.as_slice(), [LogEvent::StartFailed { .. }]), "{:?}", rig.events);
    assert_eq!((rig.log.start(), segments(&rig).len()), (Offset(0), 4));
    rig.disk.capacity = usize::MAX;
    rig.pass_ms(5000);
    rig.run();
    assert_eq!((rig.log.start(), segments(&rig)), (Offset(30), vec![24, 36]));
}
