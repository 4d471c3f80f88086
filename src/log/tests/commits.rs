//! The log with a commit journal beside it: what is only there, what comes back from there, what may not be lost.
//!
//! *Owns*: these tests of the log. *Runs on*: tests.

use std::path::PathBuf;

use crate::base::ids::Offset;
use crate::base::time::Instant;
use crate::config::TopicSettings;

use super::super::log::LogEvent;
use super::super::testdisk::{Crash, TestDisk};
use super::super::testing::{Rig, TestJournal, batch, batch_of, dir, small_synced_segments};

fn segment() -> PathBuf {
    dir().join("00000000000000000000.log")
}

/// A log whose journal has three batches of its, and its segment none.
fn committed() -> Rig {
    committed_beside(1 << 20)
}

fn committed_beside(cache_bytes: usize) -> Rig {
    let mut rig = Rig::start(TestDisk::new(3), TestJournal::new(3), small_synced_segments(), cache_bytes);
    rig.run();
    assert_eq!(rig.events, [LogEvent::Opened]);
    for sequence in 0..3 {
        rig.append(&batch_of(5, 0, sequence, 1000)).unwrap();
        rig.run();
    }
    assert_eq!(rig.journal.commits, 3);
    assert_eq!(rig.log.safe_end(), Offset(3));
    assert!(rig.disk.bytes(&segment()).iter().all(|byte| *byte == 0));
    rig
}

#[test]
fn what_only_the_journal_has_is_read_from_memory() {
    let mut rig = committed_beside(1);
    rig.check_holds(Offset(3));
    assert!(!rig.disk.counts.contains_key("read"));
}

#[test]
fn a_look_up_by_time_brings_the_segment_up_to_date() {
    let mut rig = committed();
    let until = rig.log.safe_end();
    assert_eq!(rig.find_timestamp(2, until).unwrap().unwrap().offset, Offset(2));
    assert_eq!(rig.max_timestamp(until).unwrap().unwrap().offset, Offset(2));
    assert_eq!(rig.disk.counts.get("write"), Some(&1));
    assert_eq!(rig.journal.flushed.end, Offset(0), "written is not synced");
}

#[test]
fn a_flush_makes_the_segment_durable_while_commits_go_on() {
    let mut rig = committed();
    rig.log.flush(rig.now, &mut rig.out);
    rig.send();
    let mut sequence = 3;
    while rig.journal.flushed.end < Offset(3) {
        rig.append(&batch_of(5, 0, sequence, 100)).unwrap();
        sequence += 1;
        rig.step();
        assert!(sequence < 50);
    }
    rig.run();
    assert!(rig.journal.commits > 3);
    rig.check_holds(Offset(i64::from(sequence)));
    rig.crash(Crash::Power);
    rig.reopen().check_holds(Offset(i64::from(sequence)));
}

#[test]
fn much_at_once_goes_to_the_segment_with_all_that_the_journal_had() {
    let mut rig = committed();
    rig.append(&batch_of(5, 0, 3, 9000)).unwrap();
    rig.run();
    assert_eq!(rig.journal.commits, 3);
    assert_eq!(rig.log.safe_end(), Offset(4));
    assert_eq!(rig.journal.flushed.end, Offset(4));
}

#[test]
fn a_full_disk_keeps_back_what_the_journal_has_until_there_is_space() {
    let mut rig = committed();
    rig.disk.bytes(&segment()).clear();
    rig.disk.capacity = 0;
    rig.log.flush(rig.now, &mut rig.out);
    rig.send();
    rig.run();
    let tries = rig.disk.done;
    assert_eq!(rig.events.iter().filter(|event| matches!(event, LogEvent::Failed { .. })).count(), 0);
    rig.check_holds(Offset(3));
    let due = rig.log.next_deadline().expect("it is tried again");
    assert!(due > rig.now.mono && due <= rig.now.mono.after_ms(1000));
    rig.timeout();
    rig.run();
    assert_eq!(rig.disk.done, tries, "not before it is due");
    rig.disk.capacity = usize::MAX;
    rig.now.mono = Instant(due.0);
    rig.timeout();
    rig.run();
    assert_eq!(rig.journal.flushed.end, Offset(3));
    rig.check_holds(Offset(3));
}

#[test]
fn a_log_that_closes_on_a_full_disk_leaves_it_to_the_journal() {
    let mut rig = committed();
    rig.disk.bytes(&segment()).clear();
    rig.disk.capacity = 0;
    rig.log.close(&mut rig.cache, rig.now, &mut rig.out);
    rig.send();
    rig.run();
    assert_eq!(rig.events.last(), Some(&LogEvent::Closed));
    assert_eq!(rig.disk.open_files(), 0);
    rig.disk.capacity = usize::MAX;
    rig.reopen().check_holds(Offset(3));
}

#[test]
fn a_log_that_has_lost_what_the_journal_vouches_for_stays_closed_and_whole() {
    for damage_at in [0, 1500, usize::MAX] {
        let mut rig = committed();
        rig.log.flush(rig.now, &mut rig.out);
        rig.send();
        rig.run();
        rig.append(&batch(1, 1000, 0)).unwrap();
        rig.run();
        rig.crash(Crash::Kill);
        match rig.disk.bytes(&segment()).get_mut(damage_at) {
            Some(byte) => *byte ^= 1,
            None => rig.disk.bytes(&segment()).truncate(2000),
        }
        let before = rig.disk.bytes(&segment()).clone();
        // Only what the journal had last, as if the rest had been flushed long ago.
        rig.journal.forget_before(Offset(3));
        let mut rig = Rig::start(rig.disk, rig.journal, TopicSettings::default(), 1 << 20);
        rig.run();
        let [LogEvent::OpenFailed { message, kept: true }] = &rig.events[..] else { panic!("{:?}", rig.events) };
        assert!(message.contains("the last run knows of some up to 4"), "{message}");
        let after = rig.disk.bytes(&segment()).clone();
        assert_eq!(after[..2000.min(before.len())], before[..2000.min(before.len())]);
    }
}

#[test]
fn what_the_journal_hands_back_goes_to_the_segment() {
    let mut rig = committed();
    rig.journal.is_full = true;
    for sequence in 3..6 {
        rig.append(&batch_of(5, 0, sequence, 1000)).unwrap();
        rig.run();
        assert_eq!(rig.log.safe_end(), Offset(i64::from(sequence) + 1));
    }
    assert!(rig.journal.commits == 3 && rig.journal.flushed.end >= Offset(3), "the journal can let go of all it has");
    rig.journal.is_full = false;
    rig.append(&batch_of(5, 0, 6, 1000)).unwrap();
    rig.run();
    assert_eq!(rig.journal.commits, 4);
    rig.crash(Crash::Power);
    rig.reopen().check_holds(Offset(7));
}

#[test]
fn what_is_handed_back_and_finds_no_space_either_is_refused() {
    let mut rig = committed();
    rig.disk.bytes(&segment()).clear();
    rig.disk.capacity = 0;
    rig.journal.is_full = true;
    rig.append(&batch_of(5, 0, 3, 1000)).unwrap();
    rig.run();
    let failed = |event: &LogEvent| matches!(event, LogEvent::Failed { from: Offset(3), full: true, .. });
    assert!(rig.events.iter().any(failed), "{:?}", rig.events);
    assert_eq!((rig.log.end(), rig.log.safe_end()), (Offset(3), Offset(3)));
    // As soon as there is space again the same batch is taken.
    rig.disk.capacity = usize::MAX;
    rig.journal.is_full = false;
    rig.append(&batch_of(5, 0, 3, 1000)).unwrap();
    rig.run();
    assert_eq!(rig.log.safe_end(), Offset(4));
    rig.crash(Crash::Power);
    rig.reopen().check_holds(Offset(4));
}
