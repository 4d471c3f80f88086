//! Truncations, with crashes at every point: what was given up never comes back, what lies below stays.
//!
//! Every batch has a twin of the same size for the next life of its offsets, so that a stale one would fit exactly.
//!
//! *Owns*: the truncation tests of the log. *Runs on*: tests.

use crate::base::bounds::Bounds;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::rng::Rng;
use crate::config::TopicSettings;
use crate::wire::batch::Batch;
use crate::wire::compression::Compression;
use crate::wire::records::BatchBuilder;

use super::super::cache::TailCache;
use super::super::log::{AppendError, LogEvent, Read, ReadError};
use super::super::segment::FileName;
use super::super::testdisk::Crash;
use super::super::testing::{Rig, batch, dir, small_segments, small_synced_segments};

const PRODUCER: i64 = 5;

/// Of the life with this number, from that offset on; its sequence is its offset.
fn twin(life: i64, base: Offset) -> Batch {
    let mut shape = Rng::new(base.0 as u64);
    let (count, size) = (1 + shape.below(3), if shape.below(12) == 0 { 4000 } else { shape.below(1500) });
    let mut builder = BatchBuilder::new(Compression::None).producer(PRODUCER, 0, base.0 as i32);
    let mut value = life.to_string().into_bytes();
    value.resize(10 + size as usize, b'.');
    for _ in 0..count {
        builder.push(1000 + life, None, Some(&value));
    }
    builder.build()
}

fn truncated(rig: &Rig) -> Option<Offset> {
    rig.events.iter().find_map(|event| if let LogEvent::Truncated { end } = event { Some(*end) } else { None })
}

/// Where the log ends that is truncated to `to`.
fn expected_end(rig: &Rig, to: Offset) -> Offset {
    let whole = rig.model.iter().map(|(_, next, _)| *next).filter(|next| *next <= to).max();
    whole.unwrap_or(Offset(0)).max(rig.log.start())
}

/// Appends, truncates, deletes and restarts, up to the given number of disk operations. Gives up to where the log must
/// be there then.
fn work(seed: u64, settings: &TopicSettings, operations: u64, deletes: bool) -> (Offset, Rig) {
    let mut rng = Rng::new(seed);
    let mut rig = Rig::new(seed, settings.clone());
    rig.journal.notes = seed.is_multiple_of(2);
    let mut must_hold = Offset(0);
    let mut life = 0;
    for _ in 0..50 {
        let may_go_on = match rng.below(12) {
            0 | 1 if rig.log.end() > rig.log.start() => {
                let to = Offset(1 + rig.log.start().0 + rng.below((rig.log.end().0 - rig.log.start().0) as u64) as i64);
                let (expect, is_all) = (expected_end(&rig, to), to == rig.log.end());
                must_hold = safe_of(&rig, must_hold).min(expect);
                rig.events.clear();
                rig.truncate(to);
                while truncated(&rig).is_none() && rig.disk.done < operations && rig.step() {}
                if let Some(end) = truncated(&rig) {
                    assert!(end == rig.log.end() && (end == expect || rig.log.start() == end), "{end} for {expect}");
                    assert!(is_all || rig.log.safe_end() == end);
                }
                life += 1;
                truncated(&rig).is_some()
            }
            2 if deletes && rng.below(3) == 0 => {
                rig.move_start(Offset(rng.below(rig.log.safe_end().0 as u64 + 1) as i64));
                true
            }
            3 if rng.below(3) == 0 => {
                let closed = rig.close_within(operations);
                must_hold = safe_of(&rig, must_hold);
                if closed {
                    rig = rig.reopen();
                }
                closed
            }
            _ => {
                rig.append_in(&twin(life, rig.log.end()), LeaderEpoch(life as i32 / 2)).unwrap();
                rig.step_within(rng.below(6), operations)
            }
        };
        must_hold = safe_of(&rig, must_hold);
        if !may_go_on {
            break;
        }
    }
    (must_hold, rig)
}

fn safe_of(rig: &Rig, so_far: Offset) -> Offset {
    let safe = |event: &LogEvent| if let LogEvent::Safe { end, .. } = event { Some(*end) } else { None };
    rig.events.iter().filter_map(safe).next_back().unwrap_or(so_far)
}

/// A crash, and sometimes several in the recoveries after it.
fn recovered(mut rig: Rig, how: Crash, rng: &mut Rng) -> Rig {
    rig.crash(how);
    while rng.below(2) == 0 {
        let (model, settings, now) = (rig.model, rig.settings, rig.now);
        rig = Rig::start(rig.disk, rig.journal, settings, 1 << 20);
        (rig.model, rig.now) = (model, now);
        for _ in 0..rng.below(15) {
            rig.step();
        }
        rig.crash(how);
    }
    rig.reopen()
}

/// The log is one like any other, and knows its producer.
fn check_goes_on(rig: &mut Rig) {
    let end = rig.log.end();
    let known = rig.model.last().filter(|_| end > rig.log.start()).map(|(base, ..)| *base);
    if let Some(base) = known {
        let again = twin(0, base);
        let again = rig.append_in(&again, LeaderEpoch(90)).unwrap();
        assert!(again.duplicate && again.base == base);
        assert_eq!(rig.append_in(&twin(0, end.plus(1)), LeaderEpoch(90)), Err(AppendError::OutOfOrderSequence));
    }
    for _ in 0..12 {
        rig.append_in(&twin(90, rig.log.end()), LeaderEpoch(90)).unwrap();
    }
    rig.run();
    let end = rig.log.end();
    rig.check_holds(end);
    assert_eq!(rig.log.epoch_end(LeaderEpoch(90)), Some((LeaderEpoch(90), end)));
    let first = rig.model.iter().rev().nth(11).unwrap().0;
    let before = rig.log.epoch_end(LeaderEpoch(89)).map_or(first, |(_, end)| end);
    assert_eq!(before, first, "what was given up has left no epoch");
}

fn check(seeds: std::ops::Range<u64>, settings: &TopicSettings, how: Crash, keeps_safe: bool) {
    for seed in seeds {
        for operations in 1.. {
            let (must_hold, rig) = work(seed, settings, operations, keeps_safe);
            let ended = rig.disk.done < operations;
            let mut rig = recovered(rig, how, &mut Rng::new(seed ^ operations));
            rig.check_holds(if keeps_safe { must_hold } else { Offset(0) });
            check_goes_on(&mut rig);
            let mut rig = recovered(rig, how, &mut Rng::new(operations));
            let end = if keeps_safe { rig.model.last().unwrap().1 } else { Offset(0) };
            rig.check_holds(end);
            if ended {
                break;
            }
        }
    }
}

#[test]
fn a_killed_process_neither_finds_what_was_given_up_nor_lacks_what_was_not() {
    check(0..4, &small_segments(), Crash::Kill, true);
}

#[test]
fn nor_does_a_power_loss_with_a_journal() {
    check(10..16, &small_synced_segments(), Crash::Power, true);
}

#[test]
fn nor_does_a_power_loss_without_one() {
    let without = TopicSettings { journal_direct_bytes: 0, ..small_synced_segments() };
    check(20..23, &without, Crash::Power, true);
    check(30..33, &small_segments(), Crash::Power, false);
}

/// The log begins anew at that offset, wherever it was before.
#[test]
fn what_is_given_up_fully_never_comes_back() {
    let settings = small_synced_segments();
    for (seed, start) in (0..).zip([0, 1, 7, 30, 31, 500]) {
        for operations in 1.. {
            let mut rig = Rig::new(seed, settings.clone());
            while rig.log.end() < Offset(30) {
                rig.append_in(&twin(0, rig.log.end()), LeaderEpoch(4)).unwrap();
                rig.step();
            }
            rig.run();
            let before = rig.disk.done;
            rig.events.clear();
            rig.truncate_fully(Offset(start));
            while rig.disk.done - before < operations && rig.step() {}
            let is_over = !rig.events.is_empty();
            if is_over {
                assert_eq!(rig.events, [LogEvent::Truncated { end: Offset(start) }]);
                rig.append_in(&twin(1, Offset(start)), LeaderEpoch(3)).unwrap();
                rig.run();
            }
            let model = rig.model.clone();
            let mut rig = recovered(rig, Crash::Power, &mut Rng::new(operations));
            if rig.log.end() <= Offset(start) && rig.log.start() == rig.log.end() {
                assert!(!is_over && rig.log.end() == Offset(start) && rig.log.latest_epoch().is_none());
                rig.model.clear();
            } else if is_over {
                assert_eq!((rig.log.start(), rig.log.latest_epoch()), (Offset(start), Some(LeaderEpoch(3))));
                rig.model = model.into_iter().rev().take(1).collect();
                rig.check_holds(rig.model[0].1);
            } else {
                rig.check_holds(Offset(30));
            }
            check_goes_on(&mut rig);
            if is_over && rig.disk.done - before < operations {
                break;
            }
        }
    }
}

#[test]
fn nothing_is_read_or_appended_meanwhile() {
    let mut rig = Rig::new(1, small_segments());
    rig.cache = TailCache::new(0);
    for i in 0..40 {
        rig.append(&batch(1, 1500, i)).unwrap();
    }
    rig.run();
    let late = rig.begin_read(3, 40, 100, true);
    assert!(matches!(late, Ok(Read::Later(_))), "{late:?}");
    rig.send();
    rig.events.clear();
    rig.truncate(Offset(20));
    let offline = |error: &ReadError| matches!(error, ReadError::Offline { .. });
    assert!(
        matches!(&rig.events[..], [LogEvent::Read { result: Err(error), .. }] if offline(error)),
        "{:?}",
        rig.events
    );
    while truncated(&rig).is_none() {
        assert!(matches!(rig.append(&batch(1, 10, 0)), Err(AppendError::Offline { .. })));
        assert!(offline(&rig.read(0, 5, 100, true).unwrap_err()));
        rig.log.flush(rig.now, &mut rig.out);
        rig.timeout();
        assert!(rig.step());
    }
    rig.run();
    rig.check_holds(Offset(20));
    // Nothing lies beyond.
    rig.events.clear();
    rig.truncate(Offset(20));
    assert_eq!(rig.events, [LogEvent::Truncated { end: Offset(20) }]);
    assert!(rig.disk.is_idle());
    // What is safe can be read up to any bound, by a replica beyond the high watermark.
    rig.append(&batch(3, 10, 0)).unwrap();
    rig.run();
    for until in 1..=23 {
        let from = if until > 20 { 20 } else { until - 1 };
        let next = rig.read(from, until, 1 << 20, true).unwrap().next;
        assert_eq!(next, Offset(if matches!(until, 21 | 22) { 20 } else { until }));
    }
}

#[test]
fn what_failed_is_tried_again() {
    for stop in 0..40 {
        let mut rig = Rig::new(stop, small_synced_segments());
        while rig.log.end() < Offset(25) {
            rig.append(&twin(0, rig.log.end())).unwrap();
            rig.step();
        }
        rig.events.clear();
        rig.truncate(Offset(11));
        for _ in 0..stop {
            rig.step();
        }
        rig.disk.capacity = 0;
        rig.run();
        rig.disk.capacity = usize::MAX;
        if truncated(&rig).is_none() {
            assert!(matches!(rig.events.last(), Some(LogEvent::TruncateFailed { .. })), "{:?}", rig.events);
            assert!(matches!(rig.append(&batch(1, 10, 0)), Err(AppendError::Offline { .. })));
            rig.events.clear();
            rig.truncate(Offset(11));
            rig.run();
        }
        let end = truncated(&rig).unwrap();
        assert!(end <= Offset(11) && end > Offset(7) && end == rig.log.end());
        rig.check_holds(end);
        check_goes_on(&mut rig);
    }
}

#[test]
fn a_log_that_closes_or_goes_meanwhile_is_closed_or_gone() {
    for stop in 0..60 {
        let mut rig = Rig::new(stop, small_synced_segments());
        while rig.log.end() < Offset(25) {
            rig.append(&twin(0, rig.log.end())).unwrap();
        }
        rig.truncate(Offset(11));
        for _ in 0..stop {
            rig.step();
        }
        if stop % 2 == 0 {
            rig.log.delete(&mut rig.cache, &mut rig.out);
            rig.send();
            rig.run();
            assert_eq!((rig.events.pop(), rig.disk.open_files()), (Some(LogEvent::Deleted), 0));
            continue;
        }
        rig.log.close(&mut rig.cache, rig.now, &mut rig.out);
        rig.send();
        rig.run();
        assert_eq!((rig.events.pop(), rig.disk.open_files()), (Some(LogEvent::Closed), 0));
        let mut rig = rig.reopen();
        assert!(rig.log.end() >= Offset(25) || rig.log.end() <= Offset(11), "{}", rig.log.end());
        rig.check_holds(Offset(8));
        check_goes_on(&mut rig);
    }
}

/// What is written behind the end is in segments that begin below where compaction once rewrote them.
#[test]
fn a_log_that_was_rewritten_counts_on_its_journal_again() {
    for seed in 0..20 {
        let mut rig = Rig::new(seed, small_synced_segments());
        while rig.log.end() < Offset(90) {
            rig.append(&twin(0, rig.log.end())).unwrap();
        }
        rig.run();
        rig.close();
        let bounds = Bounds { rewritten: rig.log.end(), cleaned: rig.log.end(), ..Bounds::default() };
        rig.disk.put(&FileName::Bounds.path(&dir()), bounds.to_file().to_vec());
        let mut rig = rig.reopen();
        rig.truncate(Offset(70));
        rig.run();
        for _ in 0..4 {
            rig.append(&twin(1, rig.log.end())).unwrap();
            rig.run();
        }
        let end = rig.log.safe_end();
        let rewritten = Bounds::from_file(rig.disk.bytes(&FileName::Bounds.path(&dir()))).unwrap().rewritten;
        assert!(rewritten > Offset(0) && rewritten < Offset(70));
        rig.reopen_at(Crash::Power).check_holds(end);
    }
}

#[cfg(feature = "bugs")]
#[test]
fn a_start_that_forgets_truncations_is_found_out() {
    use crate::base::bug::{self, Bug};
    bug::set(Some(Bug::ForgetTruncations));
    let settings = small_synced_segments();
    let found = std::panic::catch_unwind(|| check(10..16, &settings, Crash::Power, true));
    bug::set(None);
    assert!(found.is_err());
}
