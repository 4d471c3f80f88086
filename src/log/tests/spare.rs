//! Recycled files: what an earlier segment left in them is never taken for data, wherever a crash ends the new one.
//!
//! *Owns*: the tests of `spare`. *Runs on*: tests.

use std::path::PathBuf;

use crate::base::disk::BLOCK_BYTES;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::rng::Rng;
use crate::config::TopicSettings;
use crate::wire::batch::Batch;
use crate::wire::compression::Compression;
use crate::wire::records::BatchBuilder;

use super::super::segment::FileName;
use super::super::testdisk::Crash;
use super::super::testing::{Rig, batch_of, dir, small_segments, small_synced_segments};

/// Each write is synced by itself.
fn synced_by_itself() -> TopicSettings {
    TopicSettings { flush_messages: 1, ..small_segments() }
}

/// A batch that is stored in so many bytes.
fn append(rig: &mut Rig, sequence: i32, bytes: usize) {
    let overhead = batch_of(5, 0, 0, 1000).bytes.len() - 1000;
    let batch = batch_of(5, 0, sequence, bytes - overhead);
    assert_eq!(batch.bytes.len(), bytes);
    rig.append_in(&batch, LeaderEpoch(0)).unwrap();
}

fn names(rig: &Rig, wanted: fn(FileName) -> Option<Offset>) -> Vec<i64> {
    let names = rig.disk.names(&dir()).into_iter();
    names.filter_map(|(name, _)| FileName::parse(&name).and_then(wanted)).map(|offset| offset.0).collect()
}

fn spares(rig: &Rig) -> Vec<i64> {
    names(rig, |name| if let FileName::Spare(end) = name { Some(end) } else { None })
}

fn segments(rig: &Rig) -> Vec<i64> {
    names(rig, |name| if let FileName::Segment(base) = name { Some(base) } else { None })
}

fn path(name: FileName) -> PathBuf {
    name.path(&dir())
}

/// Appends batches of 2,048 bytes, of which 9 fill a segment.
fn fill(rig: &mut Rig, sequences: std::ops::Range<i32>) {
    for sequence in sequences {
        append(rig, sequence, 2048);
        rig.run();
    }
}

#[test]
fn the_file_of_a_removed_segment_becomes_the_next() {
    let mut rig = Rig::new(1, synced_by_itself());
    fill(&mut rig, 0..20);
    assert_eq!(segments(&rig), [0, 9, 18]);
    let old = rig.disk.bytes(&path(FileName::Segment(Offset(0)))).clone();
    rig.move_start(Offset(20));
    rig.run();
    // One is enough.
    assert_eq!((segments(&rig), spares(&rig)), (vec![18], vec![9]));
    rig.close();
    let mut rig = rig.reopen();
    assert_eq!(spares(&rig), [9]);
    fill(&mut rig, 20..28);
    assert_eq!((segments(&rig), spares(&rig)), (vec![18, 27], vec![]));
    let new = rig.disk.bytes(&path(FileName::Segment(Offset(27)))).clone();
    assert_ne!(new[..2048], old[..2048]);
    assert!(new[BLOCK_BYTES..old.len()] == old[BLOCK_BYTES..], "its space is used again, and nobody wrote zeros to it");
    let end = rig.log.end();
    rig.check_holds(end);
    let mut rig = rig.reopen_at(Crash::Power);
    rig.check_holds(end);
    assert_eq!(rig.notes, [""; 0], "what is left of the earlier segment is no damage");
    assert_eq!(rig.disk.bytes(&path(FileName::Segment(Offset(27)))).len(), 2048);
    fill(&mut rig, 28..40);
    rig.check_holds(Offset(40));
}

/// A batch whose record holds these bytes, the first of them so far behind the batch's first.
fn hiding(sequence: i32, hidden: &[u8], at: usize) -> Batch {
    let build = |before: usize| {
        let value = [&vec![b'x'; before][..], hidden, &[b'y'; 4000]].concat();
        let mut builder = BatchBuilder::new(Compression::None).producer(5, 0, sequence);
        builder.push(1, None, Some(&value));
        builder.build()
    };
    let place = |batch: &Batch| batch.bytes.windows(hidden.len()).position(|window| window == hidden).unwrap();
    let batch = build(at - (place(&build(at)) - at));
    assert_eq!(place(&batch), at);
    batch
}

#[test]
fn a_batch_that_a_client_hides_for_the_next_segment_of_the_file_is_never_taken() {
    // Where it will lie, and the offset that the log will have come to there.
    const PLACE: usize = 2 * BLOCK_BYTES;
    const OFFSET: Offset = Offset(23);
    let stamped = batch_of(66, 0, 0, 100).stamp(OFFSET, LeaderEpoch(0), None);
    let forged = stamped.slices().collect::<Vec<_>>().concat();
    for is_hidden in [false, true] {
        let hidden = if is_hidden { forged.clone() } else { vec![b'z'; forged.len()] };
        let mut rig = Rig::new(1, synced_by_itself());
        append(&mut rig, 0, 3000);
        rig.append_in(&hiding(1, &hidden, PLACE - 3000), LeaderEpoch(0)).unwrap();
        rig.run();
        fill(&mut rig, 2..20);
        let first = segments(&rig)[1];
        rig.move_start(Offset(first));
        rig.run();
        let kept = spares(&rig);
        rig.move_start(Offset(20));
        rig.run();
        fill(&mut rig, 20..22);
        let base = rig.log.end();
        while rig.log.segments.back().unwrap().base < base {
            let sequence = rig.log.end().0 as i32;
            append(&mut rig, sequence, PLACE);
            rig.run();
        }
        assert_eq!(rig.log.end(), OFFSET, "the log ends where the hidden batch would go on");
        let mut rig = rig.reopen_at(Crash::Kill);
        assert_eq!(rig.log.end(), OFFSET);
        rig.check_holds(OFFSET);
        assert_eq!(
            kept,
            if is_hidden { vec![] } else { vec![first] },
            "only the file with the hidden batch is given up"
        );
    }
}

#[test]
fn a_file_is_kept_only_where_somebody_waits_for_syncs() {
    let check = |settings: TopicSettings, expect: &[i64]| {
        let mut rig = Rig::new(1, settings);
        fill(&mut rig, 0..20);
        rig.move_start(Offset(10));
        rig.run();
        assert_eq!(spares(&rig), expect);
    };
    check(synced_by_itself(), &[9]);
    check(TopicSettings { journal_direct_bytes: 0, ..small_synced_segments() }, &[9]);
    // These go through the journal, and nobody waits for the segment.
    check(TopicSettings { journal_direct_bytes: 1 << 20, ..small_synced_segments() }, &[]);
    check(small_segments(), &[]);
}

#[test]
fn less_is_worth_a_sync_in_space_that_was_written_before() {
    let mut rig = Rig::new(1, TopicSettings { journal_direct_bytes: 4096, ..small_synced_segments() });
    let mut sequences = 0..;
    let mut commits_of = |rig: &mut Rig, bytes: usize| {
        let before = rig.journal.commits;
        append(rig, sequences.next().unwrap(), bytes);
        rig.run();
        rig.journal.commits - before
    };
    assert_eq!(commits_of(&mut rig, 2048), 1);
    while rig.log.segments.len() < 3 {
        assert_eq!(commits_of(&mut rig, 4096), 0);
    }
    let safe = rig.log.safe_end();
    rig.move_start(safe);
    rig.run();
    assert_eq!(commits_of(&mut rig, 2048), 1);
    while !spares(&rig).is_empty() {
        commits_of(&mut rig, 4096);
    }
    assert_eq!(commits_of(&mut rig, 2048), 0);
    assert_eq!(commits_of(&mut rig, 2000), 1);
    let end = rig.log.end();
    rig.check_holds(end);
}

#[test]
fn a_file_whose_batches_may_fit_is_not_used() {
    let mut rig = Rig::new(1, synced_by_itself());
    fill(&mut rig, 0..20);
    rig.move_start(Offset(10));
    rig.run();
    assert_eq!(spares(&rig), [9]);
    rig.close();
    let bytes = rig.disk.bytes(&path(FileName::Spare(Offset(9)))).clone();
    // Somebody has put another one there, and the end of the log is lost.
    rig.disk.put(&path(FileName::Spare(Offset(5))), bytes.clone());
    rig.disk.put(&path(FileName::Spare(Offset(21))), bytes);
    let mut rig = rig.reopen();
    rig.run();
    assert_eq!(spares(&rig), [9]);
    rig.check_holds(Offset(20));
}

#[test]
fn a_missing_file_and_one_too_small_do_no_harm() {
    for cut in [None, Some(0), Some(100), Some(5000)] {
        let mut rig = Rig::new(1, synced_by_itself());
        fill(&mut rig, 0..20);
        rig.move_start(Offset(10));
        rig.run();
        let spare = path(FileName::Spare(Offset(9)));
        match cut {
            None => rig.disk.remove(&spare),
            Some(len) => rig.disk.bytes(&spare).truncate(len),
        }
        fill(&mut rig, 20..60);
        rig.check_holds(Offset(60));
        let mut rig = rig.reopen_at(Crash::Power);
        rig.check_holds(Offset(60));
    }
}

#[test]
fn without_space_the_file_is_given_up() {
    let mut rig = Rig::new(1, synced_by_itself());
    fill(&mut rig, 0..20);
    rig.move_start(Offset(10));
    rig.run();
    assert_eq!(spares(&rig), [9]);
    rig.disk.capacity = 1;
    rig.append(&batch_of(5, 0, 20, 9000)).unwrap();
    rig.run();
    assert_eq!(spares(&rig), [0; 0]);
    rig.disk.capacity = usize::MAX;
    fill(&mut rig, 20..30);
    rig.check_holds(Offset(30));
}

/// Appends, removals and restarts, up to so many disk operations; then the end. All batches are equally long, or of
/// two lengths, so that in a recycled file each comes to lie where an earlier one was.
fn crash_at(seed: u64, settings: &TopicSettings, how: Crash, operations: u64) -> (Offset, u64, Rig) {
    let mut rng = Rng::new(seed);
    let mut rig = Rig::new(seed, settings.clone());
    let lengths = [[2048; 2], [4096; 2], [3000; 2], [2048, 4096]][rng.below(4) as usize];
    let mut sequence = 0;
    'work: for _ in 0..2 {
        for _ in 0..40 {
            append(&mut rig, sequence, lengths[rng.below(2) as usize]);
            sequence += 1;
            if rng.below(6) == 0 {
                let safe = rig.log.safe_end();
                rig.move_start(safe);
            }
            if !rig.step_within(rng.below(7), operations) {
                break 'work;
            }
        }
        if !rig.close_within(operations) {
            break 'work;
        }
        rig = rig.reopen();
    }
    let (safe, renamed) = (rig.log.safe_end(), rig.disk.counts.get("rename").copied().unwrap_or(0));
    rig.crash(how);
    (safe, renamed, rig.reopen())
}

#[test]
fn stale_batches_are_not_taken_for_data_at_any_crash() {
    let by_itself = (synced_by_itself(), Crash::Power);
    let direct = (TopicSettings { journal_direct_bytes: 4000, ..small_synced_segments() }, Crash::Power);
    let killed = (synced_by_itself(), Crash::Kill);
    let mut renamed = 0;
    for (number, (settings, how)) in [by_itself, direct, killed].into_iter().enumerate() {
        for seed in 0..3 {
            for operations in 1.. {
                let (safe, renames, mut rig) = crash_at(100 * number as u64 + seed, &settings, how, operations);
                let ended = rig.disk.done < operations;
                renamed = renames.max(renamed);
                rig.check_holds(safe);
                for sequence in 0..10 {
                    rig.append_in(&batch_of(6, 0, sequence, 2000), LeaderEpoch(7)).unwrap();
                }
                rig.run();
                let end = rig.log.end();
                rig.check_holds(end);
                let mut rig = rig.reopen_at(how);
                rig.check_holds(end);
                if ended {
                    break;
                }
            }
        }
    }
    assert!(renamed > 4, "files were recycled");
}
