//! Files of a log that are missing, too short, or too many: what can be read is, the rest is named, nothing is cut.
//!
//! *Owns*: these tests of the log. *Runs on*: tests.

use std::path::{Path, PathBuf};

use crate::base::ids::Offset;

use super::super::log::{LogOp, ReadError};
use super::super::testdisk::{Crash, TestDisk};
use super::super::testing::{Rig, batch, dir, small_segments};

const BATCHES: i64 = 60;

/// Done to a disk; the segments by their first offsets.
type Damage<'a> = &'a dyn Fn(&mut TestDisk<LogOp>, &[(i64, PathBuf)]);

/// Five segments or so, left by a stop or by a kill.
fn left(clean: bool) -> (Rig, Vec<(i64, PathBuf)>) {
    let mut rig = Rig::new(4, small_segments());
    for i in 0..BATCHES {
        rig.append(&batch(1, 1500, i)).unwrap();
        rig.run();
    }
    if clean {
        rig.close()
    } else {
        rig.crash(Crash::Kill)
    }
    let segments = rig.disk.names(&dir()).into_iter().filter_map(|(name, _)| {
        let base = name.strip_suffix(".log")?.parse().expect("a number");
        Some((base, dir().join(name)))
    });
    let segments: Vec<_> = segments.collect();
    assert!(segments.len() > 4);
    (rig, segments)
}

fn forget_states(disk: &mut TestDisk<LogOp>) {
    for (name, _) in disk.names(&dir()) {
        if name == "checkpoint" || name.ends_with(".snapshot") {
            disk.remove(&dir().join(name));
        }
    }
}

fn cut(disk: &mut TestDisk<LogOp>, path: &Path) {
    let bytes = disk.bytes(path);
    let half = bytes.len() / 2;
    bytes.truncate(half);
}

/// Each batch is read as it was, or a read of it fails; the offsets that fail.
fn unreadable(rig: &mut Rig) -> Vec<i64> {
    let model = rig.model.clone();
    let fails = |(base, next, bytes): &(Offset, Offset, Vec<u8>)| match rig.read(base.0, next.0, 1, true) {
        Ok(found) => {
            assert_eq!(found.slices.concat(), *bytes, "offset {base}");
            None
        }
        Err(ReadError::Io { .. }) => Some(base.0),
        Err(other) => panic!("{other:?}"),
    };
    model.iter().filter_map(fails).collect()
}

#[test]
fn sealed_segments_that_are_damaged_are_named_and_all_others_are_read() {
    for clean in [true, false] {
        let (_, segments) = left(clean);
        let range = |at: usize| (segments[at].0..segments[at + 1].0).collect::<Vec<i64>>();
        let check = |damage: &dyn Fn(&mut TestDisk<LogOp>), said: &[&str], lost: &[i64]| {
            let (mut rig, _) = left(clean);
            damage(&mut rig.disk);
            let mut rig = rig.reopen();
            let notes = rig.notes.join("\n");
            assert_eq!(rig.notes.len(), 1, "{notes}");
            assert!(said.iter().all(|part| notes.contains(part)), "{notes}");
            assert_eq!(unreadable(&mut rig), lost, "{notes}");
            assert_eq!(rig.log.end(), Offset(BATCHES));
            rig.append(&batch(1, 100, 0)).unwrap();
            rig.run();
            assert_eq!(rig.log.safe_end(), Offset(BATCHES + 1));
            rig.close();
            // What is wrong is said again, and gets no worse.
            let mut rig = rig.reopen();
            assert_eq!(rig.notes.len(), 1, "{:?}", rig.notes);
            assert_eq!(unreadable(&mut rig), lost);
        };
        let name = |at: usize| segments[at].1.to_str().expect("UTF-8");
        for at in [0, 2] {
            let said = [name(at), "is missing", &format!("to before {}", segments[at + 1].0)];
            check(&|disk| disk.remove(&segments[at].1), &said, &range(at));
        }
        let second_half: Vec<i64> = range(1).into_iter().skip(range(1).len() / 2).collect();
        check(&|disk| cut(disk, &segments[1].1), &[name(1), "of its", "bytes"], &second_half);
        let extra = dir().join("00000000000000000003.log");
        let add = |disk: &mut TestDisk<LogOp>| disk.put(&extra, vec![7; 5000]);
        check(&add, &[extra.to_str().expect("UTF-8"), "no segment of this log"], &[]);
    }
}

#[test]
fn a_batch_that_seems_to_reach_beyond_the_end_is_damaged_and_said_to_be() {
    const LAST_OFFSET_DELTA_AT: usize = 23;
    let (rig, segments) = left(true);
    let mut rig = rig.reopen();
    let at = rig.model[0].2.len();
    rig.disk.bytes(&segments[0].1)[at + LAST_OFFSET_DELTA_AT] ^= 1;
    assert!(rig.read(0, BATCHES, 1, true).is_ok_and(|found| found.next == Offset(1)));
    let read = rig.read(1, BATCHES, 1, true);
    assert!(matches!(read, Err(ReadError::Io { .. })), "{read:?}");
}

#[test]
fn a_log_that_has_lost_its_end_does_not_open_and_is_left_as_it_is() {
    let check = |clean: bool, damage: Damage, said: &str| {
        let (mut rig, segments) = left(clean);
        damage(&mut rig.disk, &segments);
        let before = rig.disk.names(&dir());
        let (message, disk) = *rig.try_reopen().err().expect("it does not open");
        assert!(message.contains(said) && message.contains("nothing was cut"), "{message}");
        assert_eq!(disk.open_files(), 0);
        assert_eq!(disk.names(&dir()), before);
    };
    for clean in [true, false] {
        check(clean, &|disk, segments| segments.iter().for_each(|(_, path)| disk.remove(path)), "up to offset 0 only");
        let last_two = |disk: &mut TestDisk<LogOp>, segments: &[(i64, PathBuf)]| {
            segments.iter().rev().take(2).for_each(|(_, path)| disk.remove(path));
        };
        check(clean, &last_two, "knows of some up to");
        // Nothing tells how far it reached, and more follows than a crash could leave.
        let in_the_middle = |disk: &mut TestDisk<LogOp>, segments: &[(i64, PathBuf)]| {
            forget_states(disk);
            cut(disk, &segments[1].1);
        };
        check(clean, &in_the_middle, "more segments follow");
    }
    let last = |disk: &mut TestDisk<LogOp>, segments: &[(i64, PathBuf)]| {
        disk.remove(&segments.last().expect("some").1);
    };
    check(true, &last, "its checkpoint knows of some up to 60");
    let shorter = |disk: &mut TestDisk<LogOp>, segments: &[(i64, PathBuf)]| {
        cut(disk, &segments.last().expect("some").1);
    };
    check(true, &shorter, "its checkpoint knows of some up to 60");
}

#[test]
fn segments_behind_the_end_are_put_aside_and_named() {
    for clean in [true, false] {
        let (mut rig, _) = left(clean);
        let extra = dir().join("00000000000000009999.log");
        rig.disk.put(&extra, vec![7; 5000]);
        let mut rig = rig.reopen();
        let notes = rig.notes.join("\n");
        assert!(notes.contains("the log ends at offset 60, before t-0/00000000000000009999.log"), "{notes}");
        assert!(unreadable(&mut rig).is_empty());
        assert_eq!(*rig.disk.bytes(&extra.with_extension("log.aside")), [7; 5000]);
        rig.close();
        assert!(rig.reopen().notes.is_empty());
    }
}
