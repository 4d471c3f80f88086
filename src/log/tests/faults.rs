//! A full disk, failing syncs, and the life of a log: flush settings, roll, close, delete.
//!
//! *Owns*: these tests of the log. *Runs on*: tests.

use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::time::Instant;
use crate::config::TopicSettings;

use super::super::log::{AppendError, LogEvent, ReadError};
use super::super::testdisk::TestDisk;
use super::super::testing::{Rig, TestJournal, batch, batch_of, dir, small_segments, small_synced_segments, written};

fn failed(rig: &Rig) -> Vec<(Offset, bool)> {
    let failed = |event: &LogEvent| match event {
        LogEvent::Failed { from, full, .. } => Some((*from, *full)),
        _ => None,
    };
    rig.events.iter().filter_map(failed).collect()
}

#[test]
fn a_full_disk_fails_what_was_not_safe_and_writing_goes_on_when_space_returns() {
    for seed in 0..40 {
        let settings = if seed % 2 == 0 { small_segments() } else { small_synced_segments() };
        let mut rig = Rig::new(seed, settings);
        for sequence in 0..10 {
            rig.append_in(&batch_of(5, 0, sequence, 1500), LeaderEpoch(0)).unwrap();
        }
        rig.run();
        let safe = rig.log.safe_end();
        rig.disk.capacity = 30_000;
        rig.events.clear();
        let mut sequence = 10;
        while failed(&rig).is_empty() {
            rig.append_in(&batch_of(5, 0, sequence, 1500), LeaderEpoch(1)).unwrap();
            sequence += 1;
            rig.step();
            assert!(sequence < 1000);
        }
        rig.run();
        let end = rig.log.end();
        assert_eq!(failed(&rig).last(), Some(&(end, true)));
        assert!(end >= safe);
        rig.check_holds(end);
        // Still full: each attempt fails by itself, reads go on.
        for _ in 0..3 {
            rig.append_in(&batch_of(5, 0, end.0 as i32, 20_000 - 200), LeaderEpoch(1)).unwrap();
            rig.run();
            rig.check_holds(end);
        }
        rig.disk.capacity = usize::MAX;
        for sequence in end.0..end.0 + 20 {
            rig.append_in(&batch_of(5, 0, sequence as i32, 1500), LeaderEpoch(1)).unwrap();
        }
        rig.run();
        assert_eq!(rig.log.safe_end(), end.plus(20));
        rig.check_holds(end.plus(20));
        rig.close();
        rig.reopen().check_holds(end.plus(20));
    }
}

#[test]
fn a_failed_sync_ends_writing_for_good_and_leaves_reading() {
    for (flush_messages, flush_ms) in [(1, u64::MAX), (u64::MAX, 100)] {
        let mut rig = Rig::new(1, TopicSettings { flush_messages, flush_ms, ..written() });
        rig.append(&batch(1, 100, 0)).unwrap();
        rig.run();
        rig.now.mono = Instant(u64::MAX / 2);
        rig.timeout();
        rig.run();
        rig.disk.fail_syncs = true;
        rig.append(&batch(1, 100, 0)).unwrap();
        rig.run();
        rig.now.mono = Instant(u64::MAX / 2 + 1_000_000_000);
        rig.timeout();
        rig.run();
        let end = rig.log.end();
        assert_eq!(failed(&rig), [(end, false)]);
        rig.disk.fail_syncs = false;
        assert!(matches!(rig.append(&batch(1, 100, 0)), Err(AppendError::Offline { .. })));
        assert_eq!(rig.log.next_deadline(), None);
        rig.check_holds(end);
        rig.close();
        // What was written and not synced may be there after all.
        assert!(rig.reopen().log.end() >= end);
    }
}

#[test]
fn a_failed_sync_of_a_sealed_segment_ends_writing_too() {
    for seed in 0..30 {
        let mut rig = Rig::new(seed, small_segments());
        rig.append(&batch(1, 15_000, 0)).unwrap();
        rig.run();
        rig.disk.fail_syncs = true;
        for _ in 0..3 {
            let _ = rig.append(&batch(1, 15_000, 0));
            rig.step();
        }
        rig.run();
        assert_eq!(failed(&rig).len(), 1);
        assert!(matches!(rig.append(&batch(1, 100, 0)), Err(AppendError::Offline { .. })));
        let end = rig.log.safe_end();
        rig.check_holds(end);
        rig.close();
    }
}

#[test]
fn safe_waits_for_the_sync_that_flush_messages_asks_for() {
    // Batches of two messages, one at a time.
    let check = |settings: TopicSettings, flush_messages: u64, syncs: u64| {
        let mut rig = Rig::new(1, TopicSettings { flush_messages, ..settings });
        for _ in 0..10 {
            rig.append(&batch(2, 10, 0)).unwrap();
            rig.run();
        }
        assert_eq!(rig.disk.counts.get("sync").copied().unwrap_or(0), syncs, "flush.messages {flush_messages}");
        assert_eq!(rig.log.safe_end(), Offset(20));
    };
    check(written(), 1, 10);
    check(written(), 2, 10);
    check(written(), 3, 5);
    check(written(), 20, 1);
    check(written(), 21, 0);
    check(written(), i64::MAX as u64, 0);
    // What the journal has is safe already.
    check(small_synced_segments(), 1, 0);
}

#[test]
fn space_is_written_ahead_for_small_writes_once_there_are_many() {
    let check = |flush_messages: u64, size: usize, count: u64, zeros: bool| {
        let mut rig = Rig::new(1, TopicSettings { flush_messages, ..written() });
        for _ in 0..count {
            rig.append(&batch(1, size, 0)).unwrap();
            rig.run();
        }
        let writes = rig.disk.counts["write"];
        assert_eq!(writes > count, zeros, "flush.messages {flush_messages}, size {size}, {count} writes");
        assert!(writes <= count + 8);
        rig.check_holds(Offset(count as i64));
    };
    check(1, 1000, 600, true);
    check(1, 1000, 20, true);
    check(1, 50_000, 20, true);
    check(1, 100_000, 20, false);
    // Not synced: only for less, and not for the first 128 KiB.
    check(1000, 1000, 600, true);
    check(1000, 1000, 100, false);
    check(1000, 50_000, 20, false);
}

#[test]
fn flush_ms_syncs_when_it_is_due_and_not_again() {
    let mut rig = Rig::new(1, TopicSettings { flush_ms: 50, retention_ms: -1, ..written() });
    assert_eq!(rig.log.next_deadline(), None);
    rig.append(&batch(1, 10, 0)).unwrap();
    rig.run();
    let due = rig.now.mono.after_ms(50);
    assert_eq!(rig.log.next_deadline(), Some(due));
    rig.timeout();
    assert!(rig.disk.is_idle());
    rig.now.mono = due;
    rig.timeout();
    rig.run();
    assert_eq!(rig.disk.counts["sync"], 1);
    assert_eq!(rig.log.next_deadline(), None);
}

#[test]
fn segments_roll_by_size_and_by_the_timestamps_of_their_batches() {
    let segments = |rig: &Rig| rig.disk.names(&dir()).iter().filter(|(name, _)| name.ends_with(".log")).count();
    let check = |settings: TopicSettings, timestamps: &[i64], expect: usize| {
        let mut rig = Rig::new(1, settings);
        for timestamp in timestamps {
            rig.append(&batch(1, 900, *timestamp)).unwrap();
            rig.run();
        }
        assert_eq!(segments(&rig), expect, "{timestamps:?}");
        let end = rig.log.end();
        rig.check_holds(end);
    };
    let settings = TopicSettings { segment_ms: 100, ..TopicSettings::default() };
    check(settings.clone(), &[0, 50, 100], 1);
    check(settings.clone(), &[0, 50, 101], 2);
    check(settings.clone(), &[500, 0, 0, 0], 1);
    check(settings, &[0, 101, 0, 202, 50], 3);
    check(TopicSettings { segment_bytes: 2000, ..TopicSettings::default() }, &[0; 8], 4);
}

#[test]
fn a_batch_larger_than_a_segment_is_refused() {
    let mut rig = Rig::new(1, small_segments());
    assert_eq!(rig.append(&batch(1, 20_000, 0)), Err(AppendError::LargerThanSegment));
    rig.append(&batch(1, 19_900, 0)).unwrap();
    rig.run();
    rig.check_holds(Offset(1));
}

#[test]
fn little_space_is_reserved_for_little_data_and_never_more_than_a_segment() {
    let mut rig = Rig::new(1, TopicSettings::default());
    rig.append(&batch(1, 10, 0)).unwrap();
    rig.run();
    assert!(rig.disk.names(&dir())[0].1 <= 256 << 10);
    let mut rig = Rig::new(1, TopicSettings { segment_bytes: 10_000, ..TopicSettings::default() });
    rig.append(&batch(1, 10, 0)).unwrap();
    rig.run();
    assert!(rig.disk.names(&dir())[0].1 <= 3 * 4096);
}

#[test]
fn a_leader_of_an_earlier_epoch_may_not_append() {
    let mut rig = Rig::new(1, TopicSettings::default());
    rig.append_in(&batch(1, 10, 0), LeaderEpoch(4)).unwrap();
    let refused = rig.append_in(&batch(1, 10, 0), LeaderEpoch(3));
    assert_eq!(refused, Err(AppendError::LeaderEpochBehind { latest: LeaderEpoch(4) }));
}

#[test]
fn closing_and_deleting_work_in_the_middle_of_anything() {
    for seed in 0..400 {
        let settings = if seed % 3 == 0 { small_synced_segments() } else { small_segments() };
        let mut rig = Rig::start(TestDisk::new(seed), TestJournal::new(seed), settings.clone(), 2000);
        for sequence in 0..seed % 40 {
            if rig.events.first() == Some(&LogEvent::Opened) {
                rig.append(&batch(1, 1800, sequence as i64)).unwrap();
                let (end, safe) = (rig.log.end(), rig.log.safe_end());
                let _ = rig.begin_read(end.0 / 2, safe.0, 5000, true);
                let _ = rig.log.find_timestamp(sequence as i64 / 2, safe, rig.now, &mut rig.out);
                rig.send();
            }
            rig.step();
        }
        let appended = rig.log.end();
        if seed % 2 == 0 {
            rig.close();
            let again = rig.read(0, 1, 1, true);
            assert!(matches!(again, Err(ReadError::Offline { .. })));
            rig.reopen().check_holds(appended);
        } else {
            rig.log.delete(&mut rig.cache, &mut rig.out);
            rig.send();
            rig.run();
            assert_eq!(rig.events.last(), Some(&LogEvent::Deleted));
            assert!(rig.disk.names(&dir()).is_empty());
            assert_eq!(rig.disk.open_files(), 0);
            assert!(!rig.disk.has_dir(&dir()));
            assert_eq!(rig.cache.bytes(), 0);
        }
    }
}

#[test]
fn a_closed_log_can_still_be_deleted() {
    let mut rig = Rig::new(1, TopicSettings::default());
    rig.append(&batch(1, 10, 0)).unwrap();
    rig.close();
    rig.log.delete(&mut rig.cache, &mut rig.out);
    rig.send();
    rig.run();
    assert_eq!(rig.events.last(), Some(&LogEvent::Deleted));
}
