//! A log that lacks what a journal knew of: it keeps asking for it, whatever comes between, until it is there.
//!
//! *Owns*: these tests of the log. *Runs on*: tests.

use std::path::PathBuf;

use crate::base::bounds::Reach;
use crate::base::ids::Offset;
use crate::config::TopicSettings;

use super::super::log::{LogEvent, LogOp};
use super::super::reach::MustReach;
use super::super::segment::FileName;
use super::super::testdisk::{Crash, TestDisk};
use super::super::testing::{Rig, TestJournal, batch, dir};

fn segment() -> PathBuf {
    FileName::Segment(Offset(0)).path(&dir())
}

fn kept() -> PathBuf {
    FileName::MustReach.path(&dir())
}

fn is_kept(rig: &Rig) -> bool {
    rig.disk.names(&dir()).iter().any(|(name, _)| name == "must-reach")
}

/// A disk with a log of four records, of which the last two bytes of its segment are gone; and the whole segment.
fn shortened(seed: u64) -> (TestDisk<LogOp>, Vec<u8>) {
    let settings = TopicSettings::default();
    let mut rig = Rig::start(TestDisk::new(seed), TestJournal::new(seed), settings, 1 << 20);
    rig.run();
    for _ in 0..4 {
        rig.append(&batch(1, 1000, 0)).unwrap();
        rig.run();
    }
    rig.close();
    let whole = rig.disk.bytes(&segment()).clone();
    rig.disk.remove(&FileName::Checkpoint.path(&dir()));
    let short = whole[..whole.len() - 2].to_vec();
    rig.disk.put(&segment(), short);
    (rig.disk, whole)
}

fn start(disk: TestDisk<LogOp>, must_reach: MustReach) -> Rig {
    Rig::start_asked(disk, TestJournal::new(1), TopicSettings::default(), 1 << 20, must_reach)
}

fn opened(disk: TestDisk<LogOp>, must_reach: MustReach) -> (Result<i64, (String, bool)>, Rig) {
    let mut rig = start(disk, must_reach);
    rig.run();
    let end = match &rig.events[..] {
        [LogEvent::Opened] => Ok(rig.log.end().0),
        [LogEvent::OpenFailed { message, kept }] => Err((message.clone(), *kept)),
        other => panic!("{other:?}"),
    };
    (end, rig)
}

/// The same, which fails; the message has these words.
fn refused(disk: TestDisk<LogOp>, must_reach: MustReach, words: &str) -> Rig {
    let (end, rig) = opened(disk, must_reach);
    let (message, kept) = end.expect_err("something is missing");
    assert!(message.contains(words) && kept, "{message}");
    assert_eq!(rig.disk.open_files(), 0);
    rig
}

#[test]
fn what_is_missing_is_asked_for_at_every_start_until_it_is_there() {
    let (disk, whole) = shortened(1);
    let mut rig =
        refused(disk, MustReach::end(Offset(4)), "up to offset 3 only, and the last run knows of some up to 4");
    for _ in 0..2 {
        rig = refused(rig.disk, MustReach::default(), "up to offset 3 only, and an earlier run knows of some up to 4");
        rig.disk.crash(Crash::Power);
    }
    // Another journal has less of it, or more.
    rig = refused(rig.disk, MustReach::end(Offset(2)), "an earlier run knows of some up to 4");
    rig = refused(rig.disk, MustReach::end(Offset(9)), "the last run knows of some up to 9");
    rig = refused(rig.disk, MustReach::default(), "an earlier run knows of some up to 9");
    rig.disk.put(&kept(), MustReach::end(Offset(4)).to_file().to_vec());
    rig.disk.put(&segment(), whole);
    let (end, mut rig) = opened(rig.disk, MustReach::default());
    assert_eq!((end, is_kept(&rig)), (Ok(4), false));
    rig.disk.crash(Crash::Power);
    assert!(rig.notes[0].contains("is here again"), "{:?}", rig.notes);
    assert_eq!(opened(rig.disk, MustReach::default()).0, Ok(4));
}

#[test]
fn a_crash_at_any_step_forgets_nothing() {
    for seed in 0..300 {
        let (disk, whole) = shortened(seed);
        // The journal is emptied only when the log has said how it went.
        let mut rig = start(disk, MustReach::end(Offset(4)));
        let steps = seed % 10;
        let told = (0..steps).any(|_| !rig.step() || !rig.events.is_empty());
        rig.disk.crash(if seed % 2 == 0 { Crash::Power } else { Crash::Kill });
        let again = if told { MustReach::default() } else { MustReach::end(Offset(4)) };
        let mut rig = refused(rig.disk, again, "knows of some up to 4");
        // And the other way, when what was missing is there.
        rig.disk.put(&segment(), whole);
        let mut rig = start(rig.disk, MustReach::default());
        for _ in 0..seed % 8 {
            rig.step();
        }
        rig.disk.crash(Crash::Power);
        let (end, rig) = opened(rig.disk, MustReach::default());
        assert_eq!((end, is_kept(&rig)), (Ok(4), false), "seed {seed}");
    }
}

#[test]
fn what_cannot_be_kept_is_said() {
    let (mut disk, _) = shortened(1);
    disk.capacity = 0;
    let (end, rig) = opened(disk, MustReach::end(Offset(4)));
    let (message, kept) = end.expect_err("something is missing");
    assert!(message.contains("must-reach cannot be written: Full") && !kept, "{message}");
    assert!(!is_kept(&rig));
}

#[test]
fn a_doubt_stays_until_a_person_has_settled_it() {
    let doubt = |end: i64| MustReach { reach: Reach::to(Offset(end)), doubt: Some("commit 7 is damaged".to_owned()) };
    for end in [0, 3, 4] {
        let (disk, whole) = shortened(1);
        let mut rig = refused(disk, doubt(end), "which only the journal had: commit 7 is damaged");
        rig.disk.put(&segment(), whole);
        let mut rig = refused(rig.disk, MustReach::default(), "which only the journal had: commit 7 is damaged");
        rig.disk.remove(&kept());
        assert_eq!(opened(rig.disk, MustReach::default()).0, Ok(4));
    }
}

#[test]
fn a_damaged_file_is_a_doubt_too() {
    let (disk, _) = shortened(1);
    let mut rig = refused(disk, MustReach::end(Offset(4)), "knows of some up to 4");
    rig.disk.bytes(&kept())[6] ^= 1;
    let mut rig = refused(rig.disk, MustReach::default(), "must-reach is damaged");
    // What a journal says now cannot be added to it.
    let (end, _) = opened(std::mem::replace(&mut rig.disk, TestDisk::new(0)), MustReach::end(Offset(5)));
    assert!(end.is_err_and(|(_, kept)| !kept));
}
