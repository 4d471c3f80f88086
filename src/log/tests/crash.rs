//! Crashes at every point: what was safe is there, and what is there is what was appended.
//!
//! *Owns*: the crash tests of the log. *Runs on*: tests.

use std::path::PathBuf;

use crate::base::disk::BLOCK_BYTES;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::rng::Rng;
use crate::config::TopicSettings;

use super::super::log::{LogEvent, LogOp};
use super::super::testdisk::{Crash, TestDisk};
use super::super::testing::{Rig, batch, batch_of, dir, small_segments, small_synced_segments, written};

/// Appends with restarts in between, up to the given number of disk operations; then the machine or the process
/// stops. What was safe by then, and the log opened again.
fn crash_at(seed: u64, settings: &TopicSettings, how: Crash, operations: u64) -> (Offset, Rig) {
    let mut rng = Rng::new(seed);
    let mut rig = Rig::new(seed, settings.clone());
    let mut safe = Offset(0);
    let mut sequence = 0;
    'work: for epoch in 0..3 {
        for _ in 0..12 {
            let size = if rng.below(10) == 0 { 9000 } else { rng.below(3000) };
            rig.append_in(&batch_of(5, 0, sequence, size as usize), LeaderEpoch(epoch)).unwrap();
            sequence += 1;
            if !rig.step_within(rng.below(5), operations) {
                break 'work;
            }
        }
        if !rig.close_within(operations) {
            break 'work;
        }
        safe = safe_of(&rig, safe);
        rig = rig.reopen();
    }
    safe = safe_of(&rig, safe);
    rig.crash(how);
    // The next recovery does not come to its end either, sometimes.
    while rng.below(2) == 0 {
        let (model, settings, now) = (rig.model, rig.settings, rig.now);
        rig = Rig::start(rig.disk, rig.journal, settings, 1 << 20);
        (rig.model, rig.now) = (model, now);
        for _ in 0..rng.below(12) {
            rig.step();
        }
        rig.crash(how);
    }
    (safe, rig.reopen())
}

fn safe_of(rig: &Rig, so_far: Offset) -> Offset {
    let safe = |event: &LogEvent| if let LogEvent::Safe { end, .. } = event { Some(*end) } else { None };
    rig.events.iter().filter_map(safe).next_back().unwrap_or(so_far)
}

fn check(seeds: std::ops::Range<u64>, settings: &TopicSettings, how: Crash, keeps_safe: bool) {
    for seed in seeds {
        for operations in 1.. {
            let (safe, mut rig) = crash_at(seed, settings, how, operations);
            let ended = rig.disk.done < operations;
            rig.check_holds(if keeps_safe { safe } else { Offset(0) });
            check_producer(&mut rig);
            check_goes_on(&mut rig);
            if ended {
                break;
            }
        }
    }
}

/// The last batch is known as a duplicate, and the next sequence is what comes next.
fn check_producer(rig: &mut Rig) {
    let end = rig.log.end();
    let epoch = LeaderEpoch(7);
    if end > Offset(0) {
        let last = (end.0 - 1) as i32;
        let again = rig.append_in(&batch_of(5, 0, last, 10), epoch).unwrap();
        assert!(again.duplicate);
        assert_eq!((again.base, again.last), (Offset(end.0 - 1), Offset(end.0 - 1)));
        assert!(rig.append_in(&batch_of(5, 0, last + 2, 10), epoch).is_err());
    }
    rig.append_in(&batch_of(5, 0, end.0 as i32, 10), epoch).unwrap();
    rig.run();
    assert_eq!(rig.log.safe_end(), end.plus(1));
    assert_eq!(rig.log.epoch_end(epoch), Some((epoch, end.plus(1))));
}

/// The log that was recovered works like any other.
fn check_goes_on(rig: &mut Rig) {
    for _ in 0..15 {
        rig.append_in(&batch(2, 1500, 0), LeaderEpoch(7)).unwrap();
    }
    rig.run();
    let end = rig.log.end();
    rig.check_holds(end);
}

#[test]
fn a_killed_process_keeps_what_was_written() {
    check(0..6, &small_segments(), Crash::Kill, true);
}

#[test]
fn a_power_loss_keeps_what_was_synced() {
    let settings = TopicSettings { flush_messages: 1, ..small_segments() };
    check(10..16, &settings, Crash::Power, true);
}

/// Recovery cuts what follows on a damaged batch. Once another of that size was written in its place, a power loss
/// must not bring back what was behind it.
#[test]
fn a_power_loss_does_not_bring_back_what_recovery_cut() {
    let block_of = |sequence| batch_of(5, 0, sequence, BLOCK_BYTES - 70);
    let settings = TopicSettings { segment_bytes: 1 << 20, ..small_segments() };
    for seed in 90..110 {
        let mut rig = Rig::new(seed, settings.clone());
        for sequence in 0..8 {
            assert_eq!(block_of(sequence).bytes.len(), BLOCK_BYTES);
            rig.append_in(&block_of(sequence), LeaderEpoch(0)).unwrap();
        }
        rig.run();
        rig.crash(Crash::Kill);
        let path = dir().join("00000000000000000000.log");
        let file = rig.disk.bytes(&path).clone();
        rig.disk.restore(&path, 0, &file);
        rig.disk.restore(&path, 3 * BLOCK_BYTES, &[0; 512]);
        let mut rig = rig.reopen();
        rig.check_holds(Offset(3));
        assert_eq!(rig.log.end(), Offset(3));
        rig.append_in(&block_of(3), LeaderEpoch(0)).unwrap();
        rig.run();
        rig.crash(Crash::Power);
        rig.reopen().check_holds(Offset(3));
    }
}

/// A killed process leaves full segments that were written and not synced. Once recovery is past them, snapshots of
/// later ones count on them.
#[test]
fn a_power_loss_after_a_kill_leaves_no_hole() {
    for seed in 50..90 {
        let mut rig = Rig::new(seed, small_segments());
        for _ in 0..10 {
            rig.append_in(&batch(2, 1500, 0), LeaderEpoch(0)).unwrap();
            for _ in 0..seed % 5 {
                rig.step();
            }
        }
        rig.crash(Crash::Kill);
        let mut rig = rig.reopen();
        rig.check_holds(Offset(0));
        check_goes_on(&mut rig);
        rig.crash(Crash::Power);
        let mut rig = rig.reopen();
        rig.check_holds(Offset(0));
    }
}

#[test]
fn a_power_loss_keeps_what_the_journal_had() {
    check(30..36, &small_synced_segments(), Crash::Power, true);
    let without = TopicSettings { journal_direct_bytes: 0, ..small_synced_segments() };
    check(40..43, &without, Crash::Power, true);
    let all = TopicSettings { journal_direct_bytes: 1 << 20, ..small_synced_segments() };
    check(50..53, &all, Crash::Power, true);
}

#[test]
fn a_power_loss_without_syncs_keeps_a_prefix() {
    check(20..26, &small_segments(), Crash::Power, false);
}

/// A killed log of a few batches, its only segment cut or damaged, opened again.
fn damaged(settings: &TopicSettings, damage: impl FnOnce(&mut Vec<u8>)) -> (Vec<(u64, u64)>, Rig) {
    let mut rig = Rig::new(3, settings.clone());
    let mut ends = Vec::new();
    let mut position = 0;
    for i in 0..8 {
        rig.append(&batch(1, 300 + 400 * i, 0)).unwrap();
        rig.run();
        position += rig.model.last().unwrap().2.len() as u64;
        ends.push((position, i as u64 + 1));
    }
    rig.crash(Crash::Kill);
    damage(rig.disk.bytes(&segment()));
    (ends, rig.reopen())
}

fn segment() -> PathBuf {
    dir().join("00000000000000000000.log")
}

#[test]
fn a_tail_torn_at_any_byte_of_the_last_block_costs_only_what_it_tore() {
    // Little is reserved, so that the thousands of copies of the file are small.
    let settings = TopicSettings { segment_bytes: 16_000, ..written() };
    let (ends, rig) = damaged(&settings, |_| {});
    let len = ends.last().unwrap().0;
    assert_eq!(rig.log.end(), Offset(8));
    assert_eq!(rig.log.size_bytes(), len);
    for cut in (len - BLOCK_BYTES as u64..len).rev() {
        // What is missing reads as zeros, as the end of the file, or as something else.
        for fill in 0..3 {
            let mut changed = 0;
            let (_, mut rig) = damaged(&settings, |bytes| {
                let whole = bytes.clone();
                match fill {
                    0 => bytes[cut as usize..].fill(0),
                    1 => bytes.truncate(cut as usize),
                    _ => bytes[cut as usize..].fill(0xa5),
                }
                changed = bytes.iter().zip(&whole).take_while(|(now, before)| now == before).count() as u64;
            });
            let expect = ends.iter().rev().find(|(end, _)| *end <= changed).map_or(0, |(_, batches)| *batches);
            assert_eq!(rig.log.end(), Offset(expect as i64), "cut at {cut}, fill {fill}");
            if cut % 16 == 0 {
                rig.check_holds(Offset(expect as i64));
            }
        }
    }
}

#[test]
fn a_flipped_bit_ends_the_log_before_its_batch() {
    let settings = written();
    let (ends, _) = damaged(&settings, |_| {});
    let mut rng = Rng::new(1);
    for _ in 0..300 {
        let bit = rng.below(ends.last().unwrap().0 * 8);
        let (_, rig) = damaged(&settings, |bytes| bytes[bit as usize / 8] ^= 1 << (bit % 8));
        let mut expect = ends.iter().position(|(end, _)| bit / 8 < *end).unwrap();
        let start = if expect == 0 { 0 } else { ends[expect - 1].0 };
        let in_batch = bit - start * 8;
        // The leader epoch is outside of the checksum: a higher one is believed, and makes what follows stale.
        if (12 * 8..16 * 8).contains(&in_batch) && in_batch != 12 * 8 + 7 {
            expect += 1;
        }
        assert_eq!(rig.log.end(), Offset(expect as i64), "bit {bit}");
    }
}

/// Batches that are valid by themselves and not of this log's end.
#[test]
fn stale_batches_beyond_the_end_are_not_taken() {
    let settings = written();
    let stale = |base: i64, epoch: i32| -> Vec<u8> {
        batch(1, 100, 0).stamp(Offset(base), LeaderEpoch(epoch), None).slices().flatten().collect()
    };
    for (base, epoch, end) in [(7, 0, 8), (9, 0, 8), (8, -1, 8), (8, 0, 9), (8, 1, 9)] {
        let (_, rig) = damaged(&settings, |bytes| {
            let len: usize = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 2;
            let stale = stale(base, epoch);
            assert!(bytes[len..].iter().all(|byte| *byte == 0));
            bytes[len..len + stale.len()].copy_from_slice(&stale);
        });
        assert_eq!(rig.log.end(), Offset(end), "stale batch {base} of epoch {epoch}");
    }
}

#[test]
fn a_failed_and_retried_write_leaves_nothing_to_be_taken_for_its_successor() {
    let mut rig = Rig::new(9, written());
    rig.append(&batch(1, 4096 - 130, 0)).unwrap();
    rig.run();
    let room = rig.disk.names(&dir())[0].1;
    // Batches of exactly one block each would line up with what a failed write left.
    rig.disk.capacity = room as usize;
    for _ in 0..80 {
        rig.append(&batch(1, 4096 - 130, 0)).unwrap();
    }
    rig.run();
    assert!(rig.events.iter().any(|event| matches!(event, LogEvent::Failed { full: true, .. })), "{:?}", rig.events);
    rig.disk.capacity = usize::MAX;
    rig.append(&batch(1, 4096 - 130, 0)).unwrap();
    rig.run();
    let end = rig.log.end();
    rig.crash(Crash::Kill);
    let mut rig = rig.reopen();
    assert_eq!(rig.log.end(), end);
    rig.check_holds(end);
}

#[test]
fn what_is_derived_is_rebuilt_when_it_is_missing_or_damaged() {
    let fill = || {
        let mut rig = Rig::new(4, small_segments());
        for sequence in 0..60 {
            rig.append_in(&batch_of(5, 0, sequence, 1500), LeaderEpoch(sequence / 20)).unwrap();
            rig.run();
        }
        rig.close();
        rig
    };
    let names = fill().disk.names(&dir());
    let derived: Vec<&String> = names.iter().map(|(name, _)| name).filter(|name| !name.ends_with(".log")).collect();
    assert!(derived.len() > 5, "{names:?}");
    let check = |damage: &dyn Fn(&mut TestDisk<LogOp>)| {
        let mut rig = fill();
        damage(&mut rig.disk);
        let mut rig = rig.reopen();
        rig.check_holds(Offset(60));
        assert!(rig.append_in(&batch_of(5, 0, 59, 10), LeaderEpoch(2)).unwrap().duplicate);
        assert_eq!(rig.log.epoch_end(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(20))));
        assert_eq!(rig.log.epoch_end(LeaderEpoch(1)), Some((LeaderEpoch(1), Offset(40))));
    };
    for name in &derived {
        check(&|disk| disk.remove(&dir().join(name)));
        check(&|disk| disk.bytes(&dir().join(name))[9] ^= 1);
        check(&|disk| disk.bytes(&dir().join(name)).clear());
    }
    check(&|disk| derived.iter().for_each(|name| disk.remove(&dir().join(name))));
}

#[test]
fn a_clean_stop_is_opened_with_two_operations_and_no_batch_read() {
    let mut rig = Rig::new(4, small_segments());
    for i in 0..60 {
        rig.append(&batch(1, 1500, i)).unwrap();
    }
    rig.run();
    rig.close();
    rig.disk.counts.clear();
    let rig = rig.reopen();
    let counts: Vec<(&str, u64)> = rig.disk.counts.iter().map(|(name, count)| (*name, *count)).collect();
    assert_eq!(counts, [("list", 1), ("read file", 1)]);
}

#[test]
fn recovery_reads_the_unsealed_tail_alone() {
    let mut rig = Rig::new(4, small_segments());
    for i in 0..100 {
        rig.append(&batch(1, 1500, i)).unwrap();
    }
    rig.run();
    rig.crash(Crash::Kill);
    rig.disk.counts.clear();
    let mut rig = rig.reopen();
    // One of them looks at the space behind, which was reserved and stays.
    assert!(rig.disk.counts["read"] <= 3, "{:?}", rig.disk.counts);
    assert_eq!((rig.disk.counts["open"], rig.disk.counts.get("truncate")), (1, None));
    rig.check_holds(Offset(100));
}
