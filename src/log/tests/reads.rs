//! Reads and look-ups against brute force over everything that was appended.
//!
//! *Owns*: the read tests of the log. *Runs on*: tests.

use crate::base::checksum::crc32c;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::rng::Rng;
use crate::base::time::TimestampType;
use crate::config::{Durability, TopicSettings};
use crate::wire::batch::{Batch, BatchHeader};
use crate::wire::compression::Compression;
use crate::wire::records::BatchBuilder;

use super::super::cache::TailCache;
use super::super::log::{FoundOffset, LogEvent, Read, ReadError};
use super::super::testing::{Rig, batch, dir, small_segments};

/// A log over several segments; (first offset, next offset, bytes) of each batch are in the rig's model.
fn filled(seed: u64, settings: TopicSettings, cache_bytes: usize) -> Rig {
    let mut rng = Rng::new(seed);
    let mut rig = Rig::new(seed, settings);
    rig.cache = TailCache::new(cache_bytes);
    for i in 0..30 {
        let (count, size) = (1 + rng.below(4), rng.below(1200));
        rig.append(&batch(count as usize, size as usize, i)).unwrap();
        rig.run();
    }
    rig
}

/// What a read must not exceed, and what it must reach at least.
fn expect(rig: &Rig, from: i64, until: i64, bytes_max: usize, at_least_one: bool) -> (Vec<u8>, i64) {
    let mut bytes = Vec::new();
    let mut next = from;
    for (_, batch_next, batch) in &rig.model {
        if batch_next.0 <= from {
            continue;
        }
        let fits = bytes.len() + batch.len() <= bytes_max || (at_least_one && bytes.is_empty());
        if batch_next.0 > until || !fits {
            break;
        }
        bytes.extend_from_slice(batch);
        next = batch_next.0;
    }
    (bytes, next)
}

#[test]
fn every_read_returns_the_whole_batches_asked_for() {
    for (seed, cache_bytes) in [(1, 0), (2, 8_000), (3, 1 << 20)] {
        let mut rig = filled(seed, small_segments(), cache_bytes);
        let end = rig.log.end().0;
        for from in 0..=end {
            for until in (from..=end).step_by(3).chain([end]) {
                for (bytes_max, at_least_one) in [(0, false), (0, true), (1000, false), (3000, true), (1 << 20, false)]
                {
                    let (bytes, next) = expect(&rig, from, until, bytes_max, at_least_one);
                    let found = rig.read(from, until, bytes_max, at_least_one).unwrap();
                    let got = found.slices.concat();
                    let what = format!("from {from} until {until} max {bytes_max} one {at_least_one}");
                    // A read may stop early, at the end of a segment; not before its first batch.
                    assert!(bytes.starts_with(&got), "{what}");
                    assert_eq!(got.is_empty(), bytes.is_empty(), "{what}");
                    assert!(found.next.0 <= next, "{what}");
                    assert_eq!(found.bytes, got.len());
                    if cache_bytes == 1 << 20 {
                        assert_eq!((got, found.next.0), (bytes, next), "{what}");
                    }
                }
            }
        }
        assert_eq!(rig.read(end + 1, end + 1, 1, true), Err(ReadError::OutOfRange));
        assert_eq!(rig.read(-1, end, 1, true), Err(ReadError::OutOfRange));
    }
}

#[test]
fn what_is_not_safe_is_not_read() {
    let mut rig = Rig::new(1, TopicSettings::default());
    rig.append(&batch(1, 10, 0)).unwrap();
    assert_eq!(rig.read(0, 1, 1000, true).unwrap().bytes, 0);
    rig.run();
    assert!(rig.read(0, 1, 1000, true).unwrap().bytes > 0);
}

#[test]
fn a_read_of_the_tail_is_the_memory_that_was_appended() {
    let mut rig = Rig::new(1, TopicSettings::default());
    let large = batch(1, 100_000, 0);
    rig.append(&large).unwrap();
    rig.run();
    let found = rig.read(0, 1, 1 << 20, true).unwrap();
    let records = found.slices.last().unwrap();
    assert_eq!(records.as_ptr_range().end, large.bytes.as_ptr_range().end);
}

#[test]
fn a_batch_larger_than_a_disk_write_or_read_goes_through_both() {
    let (write, sync) = (Durability::Write, Durability::Sync);
    for (durability, flush_messages) in [(write, u64::MAX), (write, 1), (sync, u64::MAX)] {
        let mut rig = Rig::new(1, TopicSettings { durability, flush_messages, ..TopicSettings::default() });
        rig.cache = TailCache::new(0);
        for size in [100, 5 << 20, 3000, (2 << 20) - 100, 2 << 20] {
            rig.append(&batch(1, size, 0)).unwrap();
        }
        rig.run();
        assert_eq!(rig.read(1, 2, 1 << 20, false).unwrap().bytes, 0);
        rig.check_holds(Offset(5));
        rig.close();
        let mut rig = rig.reopen();
        rig.check_holds(Offset(5));
    }
}

#[test]
fn a_sequential_reader_reads_each_block_about_once() {
    let mut rig = Rig::new(1, TopicSettings::default());
    for i in 0..1000 {
        rig.append(&batch(1, 4000, i)).unwrap();
    }
    rig.run();
    rig.close();
    let mut rig = rig.reopen();
    rig.cache = TailCache::new(16 << 20);
    let (mut from, mut waited) = (Offset(0), 0);
    while from < Offset(1000) {
        let read = rig.begin_read(from.0, 1000, 50_000, true).unwrap();
        from = match read {
            Read::Ready(found) => found.next,
            Read::Later(_) => {
                waited += 1;
                rig.send();
                rig.run();
                let Some(LogEvent::Read { result: Ok(found), .. }) = rig.events.pop() else { panic!() };
                found.next
            }
        };
        rig.send();
        rig.run();
    }
    // The first two reads: then what comes next is read before it is asked for.
    assert!(waited <= 2, "{waited}");
    assert!(rig.disk.counts["read"] <= 6, "{:?}", rig.disk.counts);
    assert!(rig.cache.bytes() <= 4 << 20);
}

#[test]
fn sealed_segments_are_not_kept_open() {
    let mut rig = filled(5, small_segments(), 0);
    let end = rig.log.end().0;
    for from in 0..end {
        rig.read(from, end, 1, true).unwrap();
        assert!(rig.disk.open_files() <= 4);
    }
    rig.now.mono = rig.log.next_deadline().unwrap();
    rig.timeout();
    rig.run();
    assert!(rig.disk.open_files() <= 2);
}

#[test]
fn damage_in_a_sealed_segment_is_an_error_and_not_a_wrong_answer() {
    let mut rig = filled(6, small_segments(), 0);
    let path = dir().join("00000000000000000000.log");
    let second = rig.model[1].clone();
    let position = rig.model[0].2.len();
    rig.close();
    rig.disk.bytes(&path)[position + 7] ^= 1;
    let mut rig = rig.reopen();
    assert!(matches!(rig.read(second.0.0, second.1.0, 1 << 20, true), Err(ReadError::Io { .. })));
    assert!(rig.read(0, second.0.0, 1 << 20, true).unwrap().bytes > 0);
}

/// Timestamps of all records, in the order of their offsets.
fn with_timestamps(seed: u64, settings: TopicSettings) -> (Vec<i64>, Rig) {
    let mut rng = Rng::new(seed);
    let mut rig = Rig::new(seed, settings);
    rig.cache = TailCache::new(0);
    let mut all = Vec::new();
    for i in 0..50 {
        let compression = Compression::ALL[rng.below(5) as usize];
        let mut builder = BatchBuilder::new(compression);
        for _ in 0..=rng.below(3) {
            let timestamp = 1000 + 10 * i + rng.below(200) as i64;
            let value: Vec<u8> = (0..rng.below(1500)).map(|_| rng.below(256) as u8).collect();
            builder.push(timestamp, None, Some(&value));
            all.push(timestamp);
        }
        rig.append_in(&builder.build(), LeaderEpoch(i as i32 / 10)).unwrap();
        rig.run();
    }
    (all, rig)
}

fn check_timestamps(all: &[i64], rig: &mut Rig) {
    let epochs = rig.model.clone();
    let epoch = |offset: Offset| LeaderEpoch(epochs.iter().position(|row| row.1 > offset).unwrap() as i32 / 10);
    let found = |at: Option<usize>| {
        at.map(|at| {
            let offset = Offset(at as i64);
            FoundOffset { offset, timestamp_ms: all[at], leader_epoch: epoch(offset) }
        })
    };
    let untils: Vec<Offset> = epochs.iter().map(|row| row.1).step_by(7).chain([rig.log.end()]).collect();
    for until in untils {
        let below = &all[..until.0 as usize];
        for timestamp in (990..1720).step_by(11).chain([i64::MIN, 0, i64::MAX]) {
            let expect = found(below.iter().position(|other| *other >= timestamp));
            assert_eq!(rig.find_timestamp(timestamp, until), Ok(expect), "timestamp {timestamp} until {until}");
        }
        let max = below.iter().max().unwrap();
        let expect = found(below.iter().position(|other| other == max));
        assert_eq!(rig.max_timestamp(until), Ok(expect), "until {until}");
    }
}

#[test]
fn records_are_found_by_timestamp() {
    for seed in 0..4 {
        let (all, mut rig) = with_timestamps(seed, small_segments());
        check_timestamps(&all, &mut rig);
        rig.close();
        let mut rig = rig.reopen();
        rig.cache = TailCache::new(0);
        check_timestamps(&all, &mut rig);
    }
    let mut rig = Rig::new(1, TopicSettings::default());
    assert_eq!(rig.find_timestamp(0, Offset(9)), Ok(None));
    assert_eq!(rig.max_timestamp(Offset(9)), Ok(None));
}

#[test]
fn indexes_that_are_gone_are_rebuilt_by_the_first_look_up() {
    let (all, mut rig) = with_timestamps(9, small_segments());
    rig.close();
    let dir = dir();
    let names = rig.disk.names(&dir);
    let gone = |name: &&String| name.ends_with(".index") || name.ends_with(".snapshot") || *name == "checkpoint";
    for name in names.iter().map(|(name, _)| name).filter(gone) {
        if name.ends_with(".index") {
            rig.disk.bytes(&dir.join(name))[5] ^= 1;
        }
    }
    let mut rig = rig.reopen();
    rig.cache = TailCache::new(0);
    check_timestamps(&all, &mut rig);
}

#[test]
fn the_time_of_appending_is_what_is_found_where_the_topic_keeps_it() {
    let settings = TopicSettings { message_timestamp_type: TimestampType::LogAppendTime, ..TopicSettings::default() };
    let mut rig = Rig::new(1, settings);
    for i in 0..5 {
        rig.now.wall_ms = 5000 + i;
        assert_eq!(rig.append(&batch(2, 10, 1)).unwrap().log_append_time_ms, 5000 + i);
    }
    rig.run();
    let expect = FoundOffset { offset: Offset(6), timestamp_ms: 5003, leader_epoch: LeaderEpoch(0) };
    assert_eq!(rig.find_timestamp(5003, Offset(10)), Ok(Some(expect)));
}

/// A producer may send compressed bytes that are none: the broker stores them as they are.
#[test]
fn records_that_cannot_be_decompressed_do_not_end_a_search() {
    let mut rig = Rig::new(1, TopicSettings::default());
    let mut bytes = batch(3, 50, 100).bytes.to_vec();
    bytes[22] |= 1;
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let header = BatchHeader::read(&bytes).unwrap();
    rig.append(&Batch { header, bytes: bytes.into() }).unwrap();
    rig.append(&batch(1, 50, 200)).unwrap();
    rig.run();
    let found =
        |offset, timestamp_ms| FoundOffset { offset: Offset(offset), timestamp_ms, leader_epoch: LeaderEpoch(0) };
    assert_eq!(rig.find_timestamp(101, Offset(4)), Ok(Some(found(0, 102))));
    assert_eq!(rig.find_timestamp(150, Offset(4)), Ok(Some(found(3, 200))));
}
