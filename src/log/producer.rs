//! What a partition remembers of idempotent producers, and what it admits from them.
//!
//! The rules are Kafka's (KIP-98; ProducerStateManager, ProducerAppendInfo), without transactions: sequences follow
//! each other and wrap to 0 after `i32::MAX`; a batch that was appended before is a duplicate and gets its first
//! offset again; a lower epoch is fenced; a higher one starts at 0; a producer not known here may start anywhere.
//!
//! *Owns*: the last batches of each producer. *Never*: gives out producer ids; remembers what the log has lost.
//! *Runs on*: the core that owns the partition.

use std::collections::{BTreeMap, VecDeque};

use crate::base::fields::Fields;
use crate::base::ids::{Offset, ProducerEpoch, ProducerId};
use crate::base::limits::{PRODUCER_BATCHES_KEPT, PRODUCERS_PER_PARTITION_MAX};
use crate::wire::batch::BatchHeader;

use super::file::FileWriter;
use super::log::ActiveProducer;

/// How often idle producers are looked for (Kafka: `producer.id.expiration.check.interval.ms`).
const SWEEP_MS: i64 = 600_000;

const ENTRY_BYTES_MIN: usize = 20;
const BATCH_BYTES: usize = 34;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeptBatch {
    epoch: ProducerEpoch,
    first_sequence: i32,
    last_sequence: i32,
    base: Offset,
    last: Offset,
    timestamp_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    /// In the order appended. Invariant: never empty; holds the last five safe batches and every one that is not
    /// safe yet, so that a failed write can be taken back.
    batches: VecDeque<KeptBatch>,
    used_ms: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    swept_ms: i64,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Append,
    /// It is in the log already.
    Duplicate {
        base: Offset,
        last: Offset,
        timestamp_ms: i64,
    },
    /// A sequence number is missing, or an old one came back too late to be told from a gap.
    OutOfOrder,
    /// A later incarnation of the producer was seen.
    Fenced,
}

impl Producers {
    /// Judges a batch. Changes nothing.
    pub(super) fn judge(&self, header: &BatchHeader, expiration_ms: u64, now_ms: i64) -> Verdict {
        if header.producer_id < 0 {
            return Verdict::Append;
        }
        let Some(producer) = self.by_id.get(&ProducerId(header.producer_id)) else {
            return Verdict::Append;
        };
        if producer.expired(expiration_ms, now_ms) {
            return Verdict::Append;
        }
        let (epoch, first, last) = (ProducerEpoch(header.producer_epoch), header.base_sequence, header.last_sequence());
        let same =
            |kept: &&KeptBatch| kept.epoch == epoch && kept.first_sequence == first && kept.last_sequence == last;
        let latest = producer.latest();
        if epoch == latest.epoch
            && let Some(kept) = producer.batches.iter().rev().find(same)
        {
            return Verdict::Duplicate { base: kept.base, last: kept.last, timestamp_ms: kept.timestamp_ms };
        }
        if epoch < latest.epoch {
            return Verdict::Fenced;
        }
        let expected = if epoch == latest.epoch { next_sequence(latest.last_sequence) } else { 0 };
        if first == expected { Verdict::Append } else { Verdict::OutOfOrder }
    }

    /// By id.
    pub(super) fn active(&self) -> impl Iterator<Item = ActiveProducer> {
        self.by_id.iter().map(|(&id, producer)| {
            let latest = producer.latest();
            ActiveProducer {
                id,
                epoch: latest.epoch,
                last_sequence: latest.last_sequence,
                last_timestamp_ms: latest.timestamp_ms,
            }
        })
    }

    /// A batch was given the offsets from `base` on. `safe_end` bounds what a failed write can still take back.
    pub(super) fn on_batch(
        &mut self,
        header: &BatchHeader,
        base: Offset,
        timestamp_ms: i64,
        safe_end: Offset,
        now_ms: i64,
    ) {
        if header.producer_id < 0 {
            return;
        }
        let id = ProducerId(header.producer_id);
        let kept = KeptBatch {
            epoch: ProducerEpoch(header.producer_epoch),
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base,
            last: base.plus(i64::from(header.last_offset_delta)),
            timestamp_ms,
        };
        if let Some(producer) = self.by_id.get_mut(&id) {
            producer.batches.push_back(kept);
            producer.used_ms = now_ms;
            while producer.batches.get(PRODUCER_BATCHES_KEPT).is_some_and(|batch| batch.last < safe_end) {
                producer.batches.pop_front();
            }
            return;
        }
        if self.by_id.len() >= PRODUCERS_PER_PARTITION_MAX {
            self.forget_longest_idle();
        }
        self.by_id.insert(id, Producer { batches: VecDeque::from([kept]), used_ms: now_ms });
    }

    /// Of the last batch of a producer.
    pub(super) fn last_offset(&self, producer_id: i64) -> Option<Offset> {
        self.by_id.get(&ProducerId(producer_id)).map(|producer| producer.latest().last)
    }

    /// Forgets every batch at `end` and beyond, and producers that have no other.
    pub(super) fn cut(&mut self, end: Offset) {
        self.by_id.retain(|_, producer| {
            while producer.batches.back().is_some_and(|batch| batch.last >= end) {
                producer.batches.pop_back();
            }
            !producer.batches.is_empty()
        });
    }

    /// Forgets producers idle for too long, if it is time to look again.
    pub(super) fn sweep(&mut self, expiration_ms: u64, safe_end: Offset, now_ms: i64) {
        if now_ms.saturating_sub(self.swept_ms) < SWEEP_MS {
            return;
        }
        self.swept_ms = now_ms;
        self.by_id.retain(|_, producer| !producer.expired(expiration_ms, now_ms) || producer.latest().last >= safe_end);
    }

    /// Forgets a sixteenth at once, so that many new producers do not each look through all of them.
    fn forget_longest_idle(&mut self) {
        let mut used: Vec<i64> = self.by_id.values().map(|producer| producer.used_ms).collect();
        let mut to_forget = (used.len() / 16).max(1);
        let at = to_forget - 1;
        let (_, &mut bound, _) = used.select_nth_unstable(at);
        self.by_id.retain(|_, producer| {
            if to_forget == 0 || producer.used_ms > bound {
                return true;
            }
            to_forget -= 1;
            false
        });
    }

    /// Writes what the batches below `end` left behind.
    pub(super) fn encode(&self, end: Offset, to: &mut FileWriter) {
        let below = |producer: &Producer| producer.batches.partition_point(|batch| batch.last < end);
        to.put_count(self.by_id.values().filter(|producer| below(producer) > 0).count());
        for (id, producer) in &self.by_id {
            let kept = below(producer);
            if kept == 0 {
                continue;
            }
            let from = kept.saturating_sub(PRODUCER_BATCHES_KEPT);
            to.put_i64(id.0);
            to.put_i64(producer.used_ms);
            to.put_count(kept - from);
            for batch in producer.batches.range(from..kept) {
                to.put_i16(batch.epoch.0);
                to.put_i32(batch.first_sequence);
                to.put_i32(batch.last_sequence);
                to.put_i64(batch.base.0);
                to.put_i64(batch.last.0);
                to.put_i64(batch.timestamp_ms);
            }
        }
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Producers> {
        let mut by_id = BTreeMap::new();
        let count = from.count(ENTRY_BYTES_MIN)?;
        if count > PRODUCERS_PER_PARTITION_MAX {
            return None;
        }
        for _ in 0..count {
            let (id, used_ms) = (ProducerId(from.i64()?), from.i64()?);
            let kept = from.count(BATCH_BYTES)?;
            if kept == 0 || kept > PRODUCER_BATCHES_KEPT {
                return None;
            }
            let mut batches = VecDeque::with_capacity(kept);
            for _ in 0..kept {
                batches.push_back(KeptBatch {
                    epoch: ProducerEpoch(from.i16()?),
                    first_sequence: from.i32()?,
                    last_sequence: from.i32()?,
                    base: Offset(from.i64()?),
                    last: Offset(from.i64()?),
                    timestamp_ms: from.i64()?,
                });
            }
            by_id.insert(id, Producer { batches, used_ms });
        }
        Some(Producers { by_id, swept_ms: 0 })
    }
}

impl Producer {
    fn latest(&self) -> &KeptBatch {
        self.batches.back().expect("a producer is forgotten with its last batch")
    }

    fn expired(&self, expiration_ms: u64, now_ms: i64) -> bool {
        u64::try_from(now_ms.saturating_sub(self.used_ms)).is_ok_and(|idle_ms| idle_ms >= expiration_ms)
    }
}

fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

#[cfg(test)]
mod tests {
    use super::super::file::open_file;
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    /// A header of `count` records.
    fn header(id: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
        super::super::testing::header(id, epoch, sequence, count)
    }

    /// Appends batches of (epoch, sequence, count) of producer 7, one offset after the other, all safe.
    fn producers(batches: &[(i16, i32, i32)]) -> Producers {
        let mut producers = Producers::default();
        let mut end = 0;
        for &(epoch, sequence, count) in batches {
            let header = header(7, epoch, sequence, count);
            producers.on_batch(&header, Offset(end), 100, Offset(end), 0);
            end += i64::from(count);
        }
        producers
    }

    #[test]
    fn sequences_are_judged_as_kafka_does() {
        let check = |batches: &[(i16, i32, i32)], next: (i16, i32, i32), expect: Verdict| {
            let verdict = producers(batches).judge(&header(7, next.0, next.1, next.2), DAY_MS, 0);
            assert_eq!(verdict, expect, "{batches:?} then {next:?}");
        };
        let duplicate =
            |base: i64, last: i64| Verdict::Duplicate { base: Offset(base), last: Offset(last), timestamp_ms: 100 };
        check(&[], (0, 0, 1), Verdict::Append);
        check(&[], (3, 77, 1), Verdict::Append);
        check(&[(0, 0, 3)], (0, 3, 1), Verdict::Append);
        check(&[(0, 0, 3)], (0, 4, 1), Verdict::OutOfOrder);
        check(&[(0, 0, 3)], (0, 2, 1), Verdict::OutOfOrder);
        check(&[(0, 0, 3)], (0, 0, 3), duplicate(0, 2));
        check(&[(0, 0, 3)], (0, 0, 2), Verdict::OutOfOrder);
        check(&[(0, 0, 3), (0, 3, 2)], (0, 0, 3), duplicate(0, 2));
        check(&[(5, 0, 1)], (4, 1, 1), Verdict::Fenced);
        check(&[(5, 0, 1)], (4, 0, 1), Verdict::Fenced);
        check(&[(5, 0, 1)], (6, 0, 1), Verdict::Append);
        check(&[(5, 0, 1)], (6, 1, 1), Verdict::OutOfOrder);
        check(&[(5, 9, 1), (6, 0, 1)], (5, 9, 1), Verdict::Fenced);
        check(&[(0, i32::MAX, 1)], (0, 0, 1), Verdict::Append);
        check(&[(0, i32::MAX - 1, 1)], (0, 0, 1), Verdict::OutOfOrder);
        check(&[(0, i32::MAX - 1, 3)], (0, 1, 1), Verdict::Append);
        check(&[(0, i32::MAX - 1, 3)], (0, i32::MAX - 1, 3), duplicate(0, 2));
        let six: Vec<(i16, i32, i32)> = (0..7).map(|sequence| (0, sequence, 1)).collect();
        check(&six, (0, 2, 1), duplicate(2, 2));
        check(&six, (0, 0, 1), Verdict::OutOfOrder);
    }

    #[test]
    fn producers_do_not_see_each_other_and_none_is_always_admitted() {
        let producers = producers(&[(0, 0, 1)]);
        assert_eq!(producers.judge(&header(8, 0, 40, 1), DAY_MS, 0), Verdict::Append);
        assert_eq!(producers.judge(&header(-1, -1, -1, 1), DAY_MS, 0), Verdict::Append);
    }

    #[test]
    fn an_idle_producer_is_unknown_again() {
        let mut producers = producers(&[(3, 0, 1)]);
        assert_eq!(producers.judge(&header(7, 3, 9, 1), 1000, 999), Verdict::OutOfOrder);
        assert_eq!(producers.judge(&header(7, 3, 9, 1), 1000, 1000), Verdict::Append);
        producers.sweep(1000, Offset(1), SWEEP_MS);
        assert!(producers.by_id.is_empty());
    }

    #[test]
    fn a_cut_restores_what_was_before() {
        let mut batches: Vec<(i16, i32, i32)> = (0..8).map(|sequence| (0, sequence, 1)).collect();
        let safe = batches.clone();
        batches.push((1, 0, 1));
        batches.push((1, 1, 1));
        let mut producers = Producers::default();
        for (offset, &(epoch, sequence, count)) in batches.iter().enumerate() {
            let header = header(7, epoch, sequence, count);
            producers.on_batch(&header, Offset(offset as i64), 100, Offset(8.min(offset as i64)), 0);
        }
        producers.cut(Offset(8));
        for sequence in 3..9 {
            let header = header(7, 0, sequence, 1);
            let expect = self::producers(&safe).judge(&header, DAY_MS, 0);
            assert_eq!(producers.judge(&header, DAY_MS, 0), expect, "sequence {sequence}");
        }
        producers.cut(Offset(0));
        assert!(producers.by_id.is_empty());
    }

    #[test]
    fn a_snapshot_holds_what_lies_below_its_end() {
        let batches: Vec<(i16, i32, i32)> = (0..9).map(|sequence| (0, sequence, 1)).collect();
        let mut all = Producers::default();
        for (offset, &(epoch, sequence, count)) in batches.iter().enumerate() {
            all.on_batch(&header(7, epoch, sequence, count), Offset(offset as i64), 100, Offset(2), 0);
        }
        all.on_batch(&header(9, 0, 0, 1), Offset(9), 100, Offset(2), 0);
        let mut writer = FileWriter::new(*b"TST1");
        all.encode(Offset(7), &mut writer);
        let bytes = writer.finish();
        let mut reader = open_file(*b"TST1", &bytes).unwrap();
        let back = Producers::decode(&mut reader).unwrap();
        assert_eq!(reader.end(), Some(()));
        assert_eq!(back.by_id.len(), 1);
        let kept = &all.by_id[&ProducerId(7)].batches;
        assert!(back.by_id[&ProducerId(7)].batches.iter().eq(kept.range(2..7)));
    }

    #[test]
    fn the_number_of_producers_is_bounded_and_the_longest_idle_go_first() {
        let mut producers = Producers::default();
        for id in 0..=PRODUCERS_PER_PARTITION_MAX as i64 {
            producers.on_batch(&header(id, 0, 0, 1), Offset(id), 100, Offset(id), id);
        }
        assert!(producers.by_id.len() <= PRODUCERS_PER_PARTITION_MAX);
        assert!(!producers.by_id.contains_key(&ProducerId(0)));
        assert!(producers.by_id.contains_key(&ProducerId(PRODUCERS_PER_PARTITION_MAX as i64)));
    }
}
