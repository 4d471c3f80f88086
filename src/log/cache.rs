//! The tail cache of a core: the newest batches of its logs in memory, and what disk reads brought too much of.
//!
//! It is there for consumers: once a whole budget of bytes has come and none asked for any, it keeps little, until
//! one asks again. Replicas follow closely and leave off where they were: for them it keeps what the one furthest
//! behind is about to ask for.
//!
//! *Owns*: batches as they were appended (not copied: the same memory that is written and sent), their order of
//! arrival over all logs, the bytes they pin. *Never*: is asked whether data is safe; holds more than its budget.
//! *Runs on*: every core, one cache for all its logs.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::ids::Offset;

use super::log::LogSlices;

/// What a cached batch costs beside its bytes: two handles, their counters, its place in two queues.
const BATCH_OVERHEAD_BYTES: usize = 192;

/// Read-ahead may take this share of the budget.
const READ_AHEAD_SHARE: usize = 4;

/// Chunks of read-ahead a core remembers.
const READ_AHEAD_CHUNKS_MAX: usize = 64;

/// What is kept while no consumer reads: so little that the memory of the next request is still in the processor's
/// cache.
const UNREAD_BYTES_KEPT: usize = 4 << 20;

/// For how far behind replicas are the greatest lag counts while so many bytes come, and so many again.
const LAG_WINDOW_BYTES: u64 = 32 << 20;

/// Replicas may be so many times as far behind before they find nothing.
const LAG_TIMES: usize = 2;

/// Batches that go with each that comes, until no more than that is kept: all at once would hold up the core.
const UNREAD_BATCHES_PER_PUSH: usize = 2;

/// Stale tokens tolerated before the order is cleaned.
const STALE_TOKENS_MAX: usize = 1024;

#[derive(Debug)]
pub struct TailCache {
    budget_bytes: usize,
    /// Bytes pinned by batches and read-ahead together.
    bytes: usize,
    tails: Vec<Tail>,
    free: Vec<u32>,
    /// One token per cached batch, oldest first. A log whose batches were forgotten leaves stale tokens behind.
    order: VecDeque<u32>,
    batches: usize,
    chunks: VecDeque<OwnedChunk>,
    chunk_bytes: usize,
    /// Bytes that came since a consumer last asked for any.
    unread_bytes: usize,
    /// Bytes that came since the start.
    come_bytes: u64,
    lag: ReplicaLag,
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBy {
    Consumer,
    Replica,
}

/// How far back replicas read: the most in this window of bytes and in the one before.
#[derive(Debug, Default)]
struct ReplicaLag {
    bytes: usize,
    bytes_before: usize,
    window: u64,
}

impl ReplicaLag {
    fn on_come(&mut self, come_bytes: u64) {
        let window = come_bytes / LAG_WINDOW_BYTES;
        if window != self.window {
            self.window = window;
            self.bytes_before = std::mem::take(&mut self.bytes);
        }
    }

    fn on_read(&mut self, bytes: usize) {
        self.bytes = self.bytes.max(bytes);
    }

    fn bytes(&self) -> usize {
        self.bytes.max(self.bytes_before)
    }
}

#[derive(Debug, Default)]
struct Tail {
    /// Invariant: without gaps, up to the end of the log.
    batches: VecDeque<CachedBatch>,
    tokens: usize,
}

#[derive(Debug)]
struct CachedBatch {
    base: Offset,
    next: Offset,
    slices: [Bytes; 2],
    /// What had come before it.
    come_before: u64,
}

/// A log's place in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TailKey(u32);

/// What a disk read brought beyond what was asked for.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The first batch in `bytes` begins here, in the segment and position given.
    pub(super) next: Offset,
    pub(super) segment: Offset,
    pub(super) position: u64,
    pub(super) bytes: Bytes,
    /// The whole buffer that `bytes` keeps alive.
    pub(super) pinned_bytes: usize,
}

#[derive(Debug)]
struct OwnedChunk {
    key: TailKey,
    chunk: Chunk,
}

impl TailCache {
    pub fn new(budget_bytes: usize) -> TailCache {
        TailCache {
            budget_bytes,
            bytes: 0,
            tails: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            batches: 0,
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            unread_bytes: 0,
            come_bytes: 0,
            lag: ReplicaLag::default(),
        }
    }

    /// Bytes held now. Never above the budget between two calls.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The place of a log, made at its first use.
    pub(super) fn key(&mut self, place: &mut Option<TailKey>) -> TailKey {
        *place.get_or_insert_with(|| match self.free.pop() {
            Some(index) => TailKey(index),
            None => {
                self.tails.push(Tail::default());
                TailKey(u32::try_from(self.tails.len() - 1).expect("partitions of a core are bounded far below 2^32"))
            }
        })
    }

    /// Adds the batch just appended; whatever is oldest on the core goes.
    pub(super) fn push(&mut self, key: TailKey, base: Offset, next: Offset, slices: [Bytes; 2]) {
        assert!(base < next);
        let tail = &mut self.tails[key.0 as usize];
        assert!(tail.batches.back().is_none_or(|last| last.next == base));
        let batch = CachedBatch { base, next, slices, come_before: self.come_bytes };
        self.bytes += batch.cost();
        self.unread_bytes = self.unread_bytes.saturating_add(batch.cost());
        self.come_bytes += batch.cost() as u64;
        self.lag.on_come(self.come_bytes);
        self.batches += 1;
        tail.batches.push_back(batch);
        tail.tokens += 1;
        self.order.push_back(key.0);
        self.evict();
    }

    /// Whole batches from the one that holds `from`, below `until`. `None` when that one is not cached.
    pub(super) fn read(
        &mut self,
        key: TailKey,
        by: ReadBy,
        from: Offset,
        until: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Option<LogSlices> {
        let first = self.place_of(key, from);
        let batches = &self.tails[key.0 as usize].batches;
        match by {
            ReadBy::Consumer => self.unread_bytes = 0,
            ReadBy::Replica => self.lag.on_read(match first {
                Some(at) => batches.get(at).map_or(0, |batch| (self.come_bytes - batch.come_before) as usize),
                None => self.budget_bytes,
            }),
        }
        let first = first?;
        let mut found = LogSlices { slices: Vec::new(), bytes: 0, next: from };
        for batch in batches.range(first..) {
            let bytes = batch.bytes();
            let fits = found.bytes + bytes <= bytes_max || (at_least_one && found.bytes == 0);
            if batch.next > until || !fits {
                break;
            }
            found.slices.extend(batch.slices.iter().filter(|slice| !slice.is_empty()).cloned());
            found.bytes += bytes;
            found.next = batch.next;
        }
        Some(found)
    }

    /// Whether the batch that holds `from` is here, or the log ends there.
    pub(super) fn holds(&self, key: TailKey, from: Offset) -> bool {
        self.place_of(key, from).is_some()
    }

    fn place_of(&self, key: TailKey, from: Offset) -> Option<usize> {
        let batches = &self.tails[key.0 as usize].batches;
        batches.front().filter(|first| from >= first.base)?;
        Some(batches.partition_point(|batch| batch.next <= from))
    }

    /// Forgets the batches of a log from `end` on: they were never safe.
    pub(super) fn cut(&mut self, key: TailKey, end: Offset) {
        let tail = &mut self.tails[key.0 as usize];
        while tail.batches.back().is_some_and(|last| last.next > end) {
            if let Some(batch) = tail.batches.pop_back() {
                self.bytes -= batch.cost();
                self.batches -= 1;
            }
        }
        self.clean();
    }

    /// Forgets a log.
    pub(super) fn release(&mut self, place: &mut Option<TailKey>) {
        let Some(key) = place.take() else { return };
        let tail = &mut self.tails[key.0 as usize];
        self.batches -= tail.batches.len();
        self.bytes -= tail.batches.drain(..).map(|batch| batch.cost()).sum::<usize>();
        self.free.push(key.0);
        self.forget_chunks(key);
        self.clean();
    }

    /// Keeps read-ahead for the next read; the longest unused makes place.
    pub(super) fn keep_chunk(&mut self, key: TailKey, chunk: Chunk) {
        let share = self.budget_bytes / READ_AHEAD_SHARE;
        if chunk.pinned_bytes > share {
            return;
        }
        while self.chunks.len() >= READ_AHEAD_CHUNKS_MAX || self.chunk_bytes + chunk.pinned_bytes > share {
            self.forget_chunk(0);
        }
        self.bytes += chunk.pinned_bytes;
        self.chunk_bytes += chunk.pinned_bytes;
        self.chunks.push_back(OwnedChunk { key, chunk });
        self.evict();
    }

    /// Whether a chunk can be kept without another making place.
    pub(super) fn has_room_for_chunk(&self, bytes: usize) -> bool {
        self.chunks.len() < READ_AHEAD_CHUNKS_MAX && self.chunk_bytes + bytes <= self.budget_bytes / READ_AHEAD_SHARE
    }

    /// Takes the read-ahead of a log that begins at `from`.
    pub(super) fn take_chunk(&mut self, key: TailKey, from: Offset) -> Option<Chunk> {
        let at = self.chunks.iter().position(|owned| owned.key == key && owned.chunk.next == from)?;
        self.forget_chunk(at)
    }

    /// Forgets the read-ahead of a log: what it says of places holds no more.
    pub(super) fn forget_chunks(&mut self, key: TailKey) {
        while let Some(at) = self.chunks.iter().position(|owned| owned.key == key) {
            self.forget_chunk(at);
        }
    }

    fn forget_chunk(&mut self, at: usize) -> Option<Chunk> {
        let owned = self.chunks.remove(at)?;
        self.bytes -= owned.chunk.pinned_bytes;
        self.chunk_bytes -= owned.chunk.pinned_bytes;
        Some(owned.chunk)
    }

    fn evict(&mut self) {
        while self.bytes > self.budget_bytes && self.forget_oldest() {}
        if self.unread_bytes > self.budget_bytes {
            let kept = self.lag.bytes().saturating_mul(LAG_TIMES).max(UNREAD_BYTES_KEPT);
            for _ in 0..UNREAD_BATCHES_PER_PUSH {
                let is_done = self.bytes <= kept || !self.forget_oldest();
                if is_done {
                    break;
                }
            }
        }
        assert!(self.bytes <= self.budget_bytes || self.order.is_empty());
        while self.bytes > self.budget_bytes && self.forget_chunk(0).is_some() {}
    }

    /// Drops the batch that came first, or a stale token; false when there is neither.
    fn forget_oldest(&mut self) -> bool {
        let Some(key) = self.order.pop_front() else { return false };
        let tail = &mut self.tails[key as usize];
        tail.tokens -= 1;
        if let Some(batch) = tail.batches.pop_front() {
            self.bytes -= batch.cost();
            self.batches -= 1;
        }
        true
    }

    /// Drops stale tokens once there are more of them than of others; each is then looked at once or twice in all.
    fn clean(&mut self) {
        if self.order.len() <= 2 * self.batches + STALE_TOKENS_MAX {
            return;
        }
        let tails = &mut self.tails;
        self.order.retain(|key| {
            let tail = &mut tails[*key as usize];
            let stale = tail.tokens > tail.batches.len();
            tail.tokens -= usize::from(stale);
            !stale
        });
        assert!(self.order.len() == self.batches);
    }
}

impl CachedBatch {
    fn bytes(&self) -> usize {
        self.slices[0].len() + self.slices[1].len()
    }

    fn cost(&self) -> usize {
        self.bytes() + BATCH_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: usize) -> [Bytes; 2] {
        [Bytes::from(vec![1; bytes.min(61)]), Bytes::from(vec![2; bytes.saturating_sub(61)])]
    }

    #[test]
    fn the_oldest_batch_of_any_log_goes_first() {
        let one = 1000 + BATCH_OVERHEAD_BYTES;
        let mut cache = TailCache::new(4 * one);
        let (mut a, mut b) = (None, None);
        let (a, b) = (cache.key(&mut a), cache.key(&mut b));
        for i in 0..3 {
            cache.push(a, Offset(i), Offset(i + 1), batch(1000));
            cache.push(b, Offset(i), Offset(i + 1), batch(1000));
        }
        assert_eq!(cache.bytes(), 4 * one);
        let mut check = |key, from: i64, until: i64, bytes_max, expect: Option<i64>| {
            let next = cache
                .read(key, ReadBy::Consumer, Offset(from), Offset(until), bytes_max, false)
                .map(|found| found.next.0);
            assert_eq!(next, expect, "from {from} until {until} max {bytes_max}");
        };
        check(a, 0, 3, 9000, None);
        check(a, 1, 3, 9000, Some(3));
        check(b, 1, 3, 1000, Some(2));
        check(b, 1, 3, 999, Some(1));
        check(b, 1, 2, 9000, Some(2));
        check(b, 1, 1, 9000, Some(1));
    }

    #[test]
    fn without_readers_little_is_kept_until_somebody_reads() {
        const BUDGET: usize = 16 << 20;
        const BATCH: usize = 64 << 10;
        let mut cache = TailCache::new(BUDGET);
        let mut place = None;
        let key = cache.key(&mut place);
        let mut end = 0;
        let mut push = |cache: &mut TailCache, bytes: usize| {
            for _ in 0..bytes / BATCH {
                cache.push(key, Offset(end), Offset(end + 1), batch(BATCH));
                end += 1;
            }
            end
        };
        push(&mut cache, BUDGET / 2);
        assert!(cache.bytes() > BUDGET / 2, "nobody had the time to read yet");
        let before = cache.bytes();
        push(&mut cache, BUDGET / 2 + 2 * BATCH);
        assert!(cache.bytes() + 3 * BATCH > before, "it goes batch by batch");
        let end = push(&mut cache, 2 * BUDGET);
        assert!((UNREAD_BYTES_KEPT - BATCH..UNREAD_BYTES_KEPT + BATCH).contains(&cache.bytes()), "{}", cache.bytes());
        assert!(cache.read(key, ReadBy::Consumer, Offset(end - 1), Offset(end), usize::MAX, true).is_some());
        let end = push(&mut cache, BUDGET / 2);
        assert!(cache.bytes() > BUDGET / 2, "{}", cache.bytes());
        for _ in 0..8 {
            push(&mut cache, BUDGET / 2);
            // What is not there any more was asked for all the same.
            assert!(cache.read(key, ReadBy::Consumer, Offset(0), Offset(end), usize::MAX, true).is_none());
        }
        assert!(cache.bytes() > BUDGET - 2 * BATCH && cache.bytes() <= BUDGET);
    }

    #[test]
    fn for_replicas_what_they_are_about_to_read_is_kept() {
        const BUDGET: usize = 256 << 20;
        const BATCH: usize = 64 << 10;
        let slices = batch(BATCH);
        let mut cache = TailCache::new(BUDGET);
        let mut place = None;
        let key = cache.key(&mut place);
        let mut end = 0;
        // After each batch, reads what came so many before.
        let mut follow = |cache: &mut TailCache, bytes: usize, behind: i64| {
            let mut found = 0;
            for _ in 0..bytes / BATCH {
                cache.push(key, Offset(end), Offset(end + 1), slices.clone());
                end += 1;
                let from = Offset((end - behind).max(0));
                found += usize::from(cache.read(key, ReadBy::Replica, from, Offset(end), 1, true).is_some());
            }
            found
        };
        let most = 2 * BUDGET;
        assert_eq!(follow(&mut cache, most, 1), most / BATCH);
        assert!(cache.bytes() < UNREAD_BYTES_KEPT + BATCH, "{}", cache.bytes());
        // A little further behind than what is kept, each time: what is kept grows with it.
        assert_eq!(follow(&mut cache, most, 60), most / BATCH);
        assert_eq!(follow(&mut cache, most, 110), most / BATCH);
        let kept = LAG_TIMES * 110 * BATCH;
        assert!((kept - 2 * BATCH..kept + 2 * BATCH).contains(&cache.bytes()), "{}", cache.bytes());
        // One that comes from far behind finds nothing, and then everything since.
        assert!(follow(&mut cache, BUDGET, 2000) >= BUDGET / BATCH - 2000);
        follow(&mut cache, BUDGET / 2, 2000);
        assert!(cache.bytes() > 2000 * BATCH, "{}", cache.bytes());
        follow(&mut cache, most, 1);
        assert!(cache.bytes() < UNREAD_BYTES_KEPT + BATCH, "{}", cache.bytes());
    }

    #[test]
    fn a_released_log_takes_its_bytes_along_and_its_place_is_used_again() {
        let mut cache = TailCache::new(1 << 20);
        let mut place = None;
        for round in 0..5000 {
            let key = cache.key(&mut place);
            assert_eq!(key, TailKey(0));
            cache.push(key, Offset(round), Offset(round + 1), batch(100));
            cache.release(&mut place);
            assert_eq!(cache.bytes(), 0);
        }
        assert!(cache.order.len() <= STALE_TOKENS_MAX + 1);
    }

    #[test]
    fn cut_batches_leave_no_growing_trail() {
        let mut cache = TailCache::new(1 << 20);
        let mut place = None;
        let key = cache.key(&mut place);
        cache.push(key, Offset(0), Offset(5), batch(100));
        for _ in 0..5000 {
            cache.push(key, Offset(5), Offset(9), batch(100));
            cache.cut(key, Offset(5));
        }
        assert!(cache.order.len() <= STALE_TOKENS_MAX + 3);
        let found = cache.read(key, ReadBy::Consumer, Offset(2), Offset(5), 0, true).unwrap();
        assert_eq!((found.next, found.bytes), (Offset(5), 100));
    }

    #[test]
    fn read_ahead_stays_in_its_share() {
        let mut cache = TailCache::new(4000);
        let mut place = None;
        let key = cache.key(&mut place);
        let chunk = |next: i64| Chunk {
            next: Offset(next),
            segment: Offset(0),
            position: 0,
            bytes: Bytes::from_static(b"x"),
            pinned_bytes: 400,
        };
        for next in 0..5 {
            cache.keep_chunk(key, chunk(next));
        }
        assert_eq!(cache.bytes(), 800);
        assert!(cache.take_chunk(key, Offset(2)).is_none());
        assert!(cache.take_chunk(key, Offset(3)).is_some());
        assert_eq!(cache.bytes(), 400);
        cache.push(key, Offset(0), Offset(1), batch(3900 - BATCH_OVERHEAD_BYTES));
        assert!(cache.bytes() <= 4000);
    }
}
