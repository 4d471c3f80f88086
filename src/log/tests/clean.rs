//! Compaction keeps the last record of each key, at its offset, whatever happens meanwhile.
//!
//! *Owns*: the tests of `clean` and `swap`. *Runs on*: tests.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::rng::Rng;
use crate::base::siphash::HashKey;
use crate::config::{CleanupPolicy, Ratio, TopicSettings};
use crate::wire::batch::{self, Batch, BatchHeader};
use crate::wire::compression::Compression;
use crate::wire::records::{BatchBuilder, BatchRecords};

use super::super::clean::{CleanCounts, CleanOrder};
use super::super::log::{LogEvent, Read};
use super::super::segment::FileName;
use super::super::testdisk::{Crash, TestDisk};
use super::super::testing::{Rig, TestJournal, batch_of, dir, small_segments, small_synced_segments};

const ORDER: CleanOrder = CleanOrder { key: HashKey([3, 4]), bytes_max: 1 << 20 };

fn compacted(settings: TopicSettings) -> TopicSettings {
    TopicSettings {
        cleanup_policy: CleanupPolicy { delete: false, compact: true },
        min_cleanable_dirty_ratio: Ratio(0),
        delete_retention_ms: 1000,
        ..settings
    }
}

/// What was appended: key and value by offset.
#[derive(Debug, Clone, Default)]
struct History {
    records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl History {
    /// The offset of each key's last record below `end`.
    fn latest(&self, end: Offset) -> BTreeMap<&[u8], i64> {
        let records = self.records.iter().take(end.0 as usize).enumerate();
        records.map(|(offset, (key, _))| (key.as_slice(), offset as i64)).collect()
    }
}

/// Some records of any of a few keys, some of them tombstones.
fn random_batch(rng: &mut Rng, history: &mut History, keys: u64) -> Batch {
    let compression = Compression::ALL[rng.below(5) as usize];
    let mut builder = BatchBuilder::new(compression);
    for _ in 0..=rng.below(6) {
        let key = format!("key {}", rng.below(keys)).into_bytes();
        let value = (rng.below(5) > 0).then(|| {
            let mut value = format!("value {}", history.records.len()).into_bytes();
            value.resize(value.len() + rng.below(900) as usize, b'.');
            value
        });
        builder.push(1_000 + history.records.len() as i64, Some(&key), value.as_deref());
        history.records.push((key, value));
    }
    builder.build()
}

fn append(rig: &mut Rig, rng: &mut Rng, history: &mut History) {
    let batch = random_batch(rng, history, 12);
    rig.append(&batch).unwrap();
}

/// A log that keeps nothing in memory.
fn uncached(seed: u64, settings: TopicSettings) -> Rig {
    let mut rig = Rig::start(TestDisk::new(seed), TestJournal::new(seed), compacted(settings), 1);
    rig.run();
    assert_eq!(std::mem::take(&mut rig.events), [LogEvent::Opened]);
    rig
}

/// A log of some segments, all of it safe.
fn filled(seed: u64, settings: &TopicSettings, batches: usize) -> (Rig, History) {
    let (mut rng, mut history) = (Rng::new(seed), History::default());
    let mut rig = uncached(seed, settings.clone());
    for _ in 0..batches {
        append(&mut rig, &mut rng, &mut history);
        rig.run();
    }
    (rig, history)
}

fn begin(rig: &mut Rig) -> bool {
    let begun = rig.log.clean(ORDER, rig.now, &mut rig.out);
    rig.send();
    begun
}

fn ended(rig: &mut Rig) -> Option<Result<CleanCounts, String>> {
    let at = rig.events.iter().position(|event| matches!(event, LogEvent::Cleaned { .. }))?;
    let LogEvent::Cleaned { result } = rig.events.remove(at) else { unreachable!() };
    Some(result)
}

fn rest(rig: &mut Rig) {
    rig.now.mono.0 += 1_000_000;
    rig.timeout();
}

/// Compacts to the end, if there is anything to compact.
fn try_clean(rig: &mut Rig) -> Option<CleanCounts> {
    if !begin(rig) {
        return None;
    }
    for _ in 0..100_000 {
        rig.run();
        if let Some(result) = ended(rig) {
            rig.run();
            return Some(result.unwrap());
        }
        rest(rig);
    }
    panic!("a compaction ends");
}

fn clean(rig: &mut Rig) -> CleanCounts {
    try_clean(rig).expect("there is something to compact")
}

fn batches(bytes: Vec<u8>) -> Vec<(BatchHeader, Bytes)> {
    let mut rest = Bytes::from(bytes);
    let mut batches = Vec::new();
    while let Some(header) = BatchHeader::read(&rest) {
        batches.push((header, rest.split_to(header.size_bytes())));
    }
    assert!(rest.is_empty());
    batches
}

/// What the log holds is of the history, without a gap, and nothing is missing that must be there. Gives how many
/// records it holds.
fn check(rig: &mut Rig, history: &History) -> usize {
    let (start, end) = (rig.log.start(), rig.log.end());
    let mut next = start;
    let mut found = BTreeMap::new();
    let all = batches(rig.read_all());
    for (header, bytes) in &all {
        assert!(header.first_offset() >= next, "batches do not overlap");
        assert!(batch::check_stored(bytes, header.first_offset(), LeaderEpoch(0)).is_ok());
        next = header.next_offset();
        for record in &BatchRecords::open(bytes).unwrap() {
            let record = record.unwrap();
            let (key, value) = &history.records[record.offset.0 as usize];
            assert_eq!(record.record.key, Some(key.as_slice()));
            assert_eq!(record.record.value, value.as_deref());
            assert_eq!(record.timestamp, 1_000 + record.offset.0);
            found.insert(record.offset.0, key);
        }
    }
    assert_eq!(next, end);
    for (key, offset) in history.latest(end) {
        let is_tombstone = history.records[offset as usize].1.is_none();
        assert!(found.contains_key(&offset) || is_tombstone, "the last record of {key:?} is gone");
    }
    for from in (start.0..end.0).step_by(3) {
        let read = rig.read(from, end.0, 1, true).unwrap();
        let header = BatchHeader::read(&read.slices.concat()).unwrap();
        let (first, next) = (header.first_offset().0, header.next_offset().0);
        // What is passed over holds nothing.
        let skipped = |(header, _): &&(BatchHeader, Bytes)| {
            header.first_offset().0 >= from && header.next_offset().0 <= first && header.records_count > 0
        };
        assert!(from < next && all.iter().find(skipped).is_none(), "offset {from}");
    }
    found.len()
}

fn segments(rig: &Rig) -> Vec<Range<i64>> {
    let ends = rig.log.segments.iter().skip(1).map(|segment| segment.base).chain([rig.log.end()]);
    rig.log.segments.iter().zip(ends).map(|(segment, end)| segment.base.0..end.0).collect()
}

#[test]
fn the_last_record_of_each_key_stays() {
    for seed in 0..12 {
        let settings = if seed % 2 == 0 { small_segments() } else { small_synced_segments() };
        let (mut rig, history) = filled(seed, &settings, 250);
        let before = (segments(&rig).len(), check(&mut rig, &history));
        let counts = clean(&mut rig);
        assert!(counts.written_bytes < counts.read_bytes / 3, "{counts:?}");
        let after = (segments(&rig).len(), check(&mut rig, &history));
        assert!(after.0 == before.0 && after.1 < before.1 / 2, "{before:?} {after:?}");
        let names = rig.disk.names(&dir()).into_iter().filter_map(|(name, _)| FileName::parse(&name));
        assert!(names.into_iter().all(|name| !matches!(name, FileName::Cleaned(_) | FileName::Swap(..))));
        assert!(!begin(&mut rig), "nothing is new");
        rig.close();
        let mut rig = rig.reopen();
        assert_eq!((segments(&rig).len(), check(&mut rig, &history)), after);
        assert!(!begin(&mut rig), "it is remembered what was compacted");
        assert_eq!(rig.notes, [""; 0]);
    }
}

#[test]
fn compaction_goes_on_where_it_ended() {
    for seed in 20..28 {
        let (mut rig, mut history) = filled(seed, &small_segments(), 100);
        let mut rng = Rng::new(seed ^ 77);
        let mut removed = 0;
        for round in 0..6 {
            let before = segments(&rig).len();
            let counts = try_clean(&mut rig).unwrap_or_default();
            assert_eq!(counts.removed as usize, before - segments(&rig).len());
            removed += counts.removed;
            check(&mut rig, &history);
            for _ in 0..40 {
                append(&mut rig, &mut rng, &mut history);
                rig.run();
            }
            if round % 2 == 0 {
                let how = if seed % 2 == 0 { Crash::Kill } else { Crash::Power };
                rig = if round == 0 { rig.reopen_at(Crash::Kill) } else { rig.reopen_at(how) };
                history.records.truncate(rig.log.end().0 as usize);
                check(&mut rig, &history);
            }
        }
        assert!(removed > 0, "segments that became small grow together");
    }
}

#[test]
fn a_little_memory_takes_several_compactions() {
    let (mut rig, history) = filled(5, &small_segments(), 200);
    let order = CleanOrder { bytes_max: 0, ..ORDER };
    let mut rounds = 0;
    let keys: Vec<i64> = history.latest(rig.log.end()).into_values().collect();
    while rig.log.clean(order, rig.now, &mut rig.out) {
        rounds += 1;
        rig.send();
        while ended(&mut rig).is_none() {
            rig.run();
            rest(&mut rig);
        }
        check(&mut rig, &history);
    }
    assert!(rounds <= 2 && keys.len() <= 12, "{rounds}");
}

/// A checkpoint knows where a segment ended; what took that segment's place is longer, and all of it is kept.
#[test]
fn a_segment_that_grew_is_not_cut_to_what_a_checkpoint_says() {
    let mut history = History::default();
    let mut append = |rig: &mut Rig| {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..20 {
            // Tombstones get a time to go, and the records' own times lie far from that.
            let offset = history.records.len();
            let key = format!("{offset:0>200}").into_bytes();
            builder.push(1_000 + offset as i64, Some(&key), None);
            history.records.push((key, None));
        }
        rig.append(&builder.build()).unwrap();
        rig.run();
    };
    let mut rig = uncached(1, small_segments());
    // A fifth does not fit into the segment.
    (0..4).for_each(|_| append(&mut rig));
    rig.close();
    let mut rig = rig.reopen();
    append(&mut rig);
    let first = FileName::Segment(Offset(0)).path(&dir());
    let before = rig.disk.bytes(&first).len();
    clean(&mut rig);
    let after = rig.disk.bytes(&first).len();
    assert!(segments(&rig).len() == 2 && after > before, "{:?}, {before} and {after} bytes", segments(&rig));
    let mut rig = rig.reopen_at(Crash::Kill);
    assert_eq!(rig.disk.bytes(&first).len(), after);
    assert_eq!(check(&mut rig, &history), history.records.len());
    assert_eq!(rig.notes, [""; 0]);
}

#[test]
fn tombstones_go_when_their_time_has_come_and_not_before() {
    let mut rig = uncached(1, small_segments());
    let push = |rig: &mut Rig, key: &str, value: Option<&[u8]>, compression| {
        let mut builder = BatchBuilder::new(compression);
        builder.push(5000, Some(key.as_bytes()), value);
        builder.push(4000, Some(b"other"), Some(&[b'x'; 3000]));
        rig.append(&builder.build()).unwrap();
        rig.run();
    };
    push(&mut rig, "a", Some(b"1"), Compression::None);
    push(&mut rig, "a", None, Compression::Zstd);
    push(&mut rig, "b", None, Compression::None);
    for _ in 0..20 {
        push(&mut rig, "c", Some(b"2"), Compression::None);
    }
    let tombstones = |rig: &mut Rig| {
        let mut found = Vec::new();
        for (_, bytes) in batches(rig.read_all()) {
            for record in &BatchRecords::open(&bytes).unwrap() {
                let record = record.unwrap();
                if record.record.value.is_none() {
                    assert_eq!(record.timestamp, 5000);
                    found.push(record.offset.0);
                }
            }
        }
        found
    };
    clean(&mut rig);
    assert_eq!(tombstones(&mut rig), [2, 4]);
    let again = |rig: &mut Rig, pass_ms: u64, expect: &[i64]| {
        rig.pass_ms(pass_ms);
        for _ in 0..20 {
            push(rig, "c", Some(b"3"), Compression::None);
        }
        clean(rig);
        assert_eq!(tombstones(rig), expect, "after {pass_ms} ms more");
    };
    again(&mut rig, 500, &[2, 4]);
    again(&mut rig, 499, &[2, 4]);
    again(&mut rig, 1, &[]);
    assert!(rig.reopen_at(Crash::Kill).log.end() > Offset(100));
}

#[test]
fn the_last_sequence_of_a_producer_outlives_its_records() {
    let mut rig = uncached(1, small_segments());
    let mut sequence = 0;
    let mut keyed = |rig: &mut Rig, producer: i64, count: usize| {
        let mut builder = BatchBuilder::new(Compression::Lz4).producer(producer, 0, sequence);
        for _ in 0..count {
            builder.push(1, Some(b"one key"), Some(&[sequence as u8; 700]));
            sequence += 1;
        }
        rig.append(&builder.build()).unwrap();
        rig.run();
        sequence
    };
    for _ in 0..30 {
        keyed(&mut rig, 7, 5);
    }
    let last = keyed(&mut rig, 7, 5);
    let mut other = BatchBuilder::new(Compression::None);
    other.push(1, Some(b"one key"), Some(&[0; 3000]));
    for _ in 0..30 {
        rig.append(&other.clone().build()).unwrap();
        rig.run();
    }
    clean(&mut rig);
    let stored = rig.disk.bytes(&FileName::Segment(Offset(0)).path(&dir())).clone();
    let empty: Vec<BatchHeader> = batches(stored).into_iter().map(|(header, _)| header).collect();
    let [_, empty, ..] = empty.as_slice() else { panic!("{empty:?}") };
    assert_eq!((empty.producer_id, empty.records_count, empty.last_sequence()), (7, 0, last - 1));
    // Without what recovery derives, the batches alone must tell.
    rig.crash(Crash::Kill);
    for (name, _) in rig.disk.names(&dir()) {
        if !name.ends_with(".log") && name != "bounds" {
            rig.disk.remove(&dir().join(name));
        }
    }
    let mut rig = rig.reopen();
    assert!(rig.append(&batch_of(7, 0, last + 1, 10)).is_err());
    assert!(!rig.append(&batch_of(7, 0, last, 10)).unwrap().duplicate);
}

/// Reads go on all the time, and are right.
#[test]
fn reads_beside_a_compaction_get_whole_batches_of_the_log() {
    for seed in 40..60 {
        let (rig, history) = filled(seed, &small_segments(), 150);
        let mut rig = rig.reopen_at(Crash::Kill);
        let mut rng = Rng::new(seed);
        assert!(begin(&mut rig));
        let mut waiting = BTreeMap::new();
        let mut done = false;
        while !done || !waiting.is_empty() {
            if rng.below(3) == 0 && !done {
                let from = rng.below(rig.log.end().0 as u64) as i64;
                let end = rig.log.end();
                match rig.begin_read(from, end.0, 3000, true).unwrap() {
                    Read::Ready(found) => assert!(found.bytes > 0),
                    Read::Later(ticket) => assert!(waiting.insert(ticket, from).is_none()),
                }
                rig.send();
            }
            if !rig.step() {
                rest(&mut rig);
            }
            if let Some(result) = ended(&mut rig) {
                result.unwrap();
                done = true;
            }
            for event in std::mem::take(&mut rig.events) {
                let LogEvent::Read { ticket, result } = event else { continue };
                let from = waiting.remove(&ticket).unwrap();
                let found = batches(result.unwrap().slices.concat());
                assert!(from < found[0].0.next_offset().0);
                for (header, bytes) in found {
                    assert!(batch::check_stored(&bytes, header.first_offset(), LeaderEpoch(0)).is_ok());
                }
            }
        }
        rig.run();
        check(&mut rig, &history);
    }
}

/// A log that goes on while after each disk operation it is looked at what a crash then would leave.
struct Walk {
    rig: Rig,
    history: History,
    rng: Rng,
    how: Crash,
    /// Nothing below may be lost.
    safe: Offset,
    /// Disk operations after which was looked.
    looks: u64,
    /// Of those, how many found a compaction that was cut short.
    cut_short: u64,
}

impl Walk {
    fn new(seed: u64, settings: &TopicSettings, how: Crash) -> Walk {
        let rig = uncached(seed, settings.clone());
        let (history, rng) = (History::default(), Rng::new(seed));
        Walk { rig, history, rng, how, safe: Offset(0), looks: 0, cut_short: 0 }
    }

    /// False when there was nothing to do.
    fn step(&mut self) -> bool {
        let stepped = self.rig.step();
        if stepped {
            self.safe = self.safe.max(self.rig.log.safe_end());
            self.look();
        }
        stepped
    }

    fn look(&mut self) {
        let mut left = self.rig.as_if_crashed(self.how);
        let names = left.disk.names(&dir()).into_iter().filter_map(|(name, _)| FileName::parse(&name));
        let is_cut_short = names.into_iter().any(|name| matches!(name, FileName::Cleaned(_) | FileName::Swap(..)));
        left.run();
        assert_eq!(std::mem::take(&mut left.events), [LogEvent::Opened]);
        assert!(left.log.end() >= self.safe, "{} is left after {} operations", left.log.end(), self.looks);
        let mut history = self.history.clone();
        history.records.truncate(left.log.end().0 as usize);
        check(&mut left, &history);
        self.looks += 1;
        self.cut_short += u64::from(is_cut_short);
        if is_cut_short || self.looks.is_multiple_of(16) {
            work_on(left, history, self.looks);
        }
    }

    /// Appends, compacts and restarts.
    fn run(&mut self) {
        for round in 0..3 {
            for _ in 0..60 {
                append(&mut self.rig, &mut self.rng, &mut self.history);
                for _ in 0..self.rng.below(6) {
                    self.step();
                }
                if self.rng.below(8) == 0 {
                    begin(&mut self.rig);
                }
                rest(&mut self.rig);
            }
            if round < 2 {
                self.restart();
            }
        }
    }

    /// Whether a compaction is under way or not. A start is cut short as well.
    fn restart(&mut self) {
        self.rig.log.close(&mut self.rig.cache, self.rig.now, &mut self.rig.out);
        self.rig.send();
        while self.step() {}
        let closed = self.rig.as_if_crashed(Crash::Kill);
        self.rig = closed;
        self.rig.send();
        while self.rig.events != [LogEvent::Opened] {
            assert!(self.rig.step(), "it opens: {:?}", self.rig.events);
            self.look();
        }
        self.rig.events.clear();
    }
}

/// What a crash left is as good as any log.
fn work_on(mut rig: Rig, mut history: History, seed: u64) {
    let mut rng = Rng::new(seed);
    for _ in 0..20 {
        append(&mut rig, &mut rng, &mut history);
        rig.run();
    }
    try_clean(&mut rig);
    check(&mut rig, &history);
    rig.close();
    check(&mut rig.reopen(), &history);
}

fn crash_everywhere(seeds: Range<u64>, settings: &TopicSettings, how: Crash) {
    let (mut looks, mut cut_short) = (0, 0);
    for seed in seeds {
        let mut walk = Walk::new(seed, settings, how);
        walk.run();
        looks += walk.looks;
        cut_short += walk.cut_short;
    }
    assert!(looks > 1000 && cut_short > 200, "{looks} crashes, {cut_short} of them while a compaction wrote");
}

#[test]
fn a_kill_after_any_disk_operation_loses_no_key() {
    crash_everywhere(60..64, &small_segments(), Crash::Kill);
}

#[test]
fn a_loss_of_power_after_any_disk_operation_loses_no_key() {
    crash_everywhere(70..74, &small_synced_segments(), Crash::Power);
}

#[test]
fn a_compaction_of_a_log_that_fails_waits_for_the_disk_and_for_no_deadline() {
    let (mut resting, mut waiting) = (0, 0);
    for steps in 0..200 {
        let (rig, _) = filled(3, &small_segments(), 60);
        let mut rig = rig.reopen_at(Crash::Kill);
        assert!(begin(&mut rig));
        for _ in 0..steps {
            if !rig.step() {
                rest(&mut rig);
            }
        }
        let Some(cleaning) = &rig.log.cleaning else { break };
        resting += u32::from(cleaning.due().is_some());
        waiting += u32::from(cleaning.due().is_some() && cleaning.in_flight > 0);
        rig.log.take_offline("the test says so", &mut rig.cache, &mut rig.out);
        rig.send();
        rest(&mut rig);
        let due = rig.log.next_deadline();
        assert!(due.is_none_or(|due| due > rig.now.mono), "after {steps} steps: due at {due:?}, at {:?}", rig.now.mono);
        rig.run();
        assert!(matches!(ended(&mut rig), Some(Err(_))));
        rig.close();
    }
    assert!(resting > 0 && waiting > 0, "{resting} rests, {waiting} of them with something in flight");
}

#[test]
fn what_is_damaged_ends_a_compaction_and_stays_as_it_is() {
    let (rig, history) = filled(3, &small_segments(), 120);
    let mut rig = rig.reopen_at(Crash::Kill);
    let path = FileName::Segment(rig.log.segments[1].base).path(&dir());
    rig.disk.bytes(&path)[70] ^= 1;
    assert!(begin(&mut rig));
    let result = loop {
        rig.run();
        if let Some(result) = ended(&mut rig) {
            break result;
        }
        rest(&mut rig);
    };
    assert!(result.unwrap_err().contains("damaged at byte 0"));
    assert!(!begin(&mut rig));
    rig.run();
    rig.disk.bytes(&path)[70] ^= 1;
    check(&mut rig, &history);
    rig.close();
}

#[test]
fn epochs_begin_where_they_began_before() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let (mut rig, mut history) = filled(seed, &small_segments(), 0);
        let mut epoch = LeaderEpoch(0);
        let mut epochs = Vec::new();
        for _ in 0..120 {
            epoch.0 += i32::from(rng.below(10) == 0);
            let batch = random_batch(&mut rng, &mut history, 3);
            rig.append_in(&batch, epoch).unwrap();
            epochs.resize(rig.log.end().0 as usize, epoch);
            rig.run();
        }
        // The second compaction has nothing but what the first has left.
        for _ in 0..2 {
            try_clean(&mut rig);
            for (header, _) in batches(rig.read_all()) {
                let spanned = header.first_offset().0 as usize..header.next_offset().0 as usize;
                assert!(epochs[spanned].iter().all(|epoch| *epoch == header.epoch()), "seed {seed}: {header:?}");
            }
        }
    }
}
