//! The ring's space: where the next commit goes, which commits are still needed, what may be written over.
//!
//! A commit never wraps: one that does not fit before the end goes to the start, and the gap counts as its own. The end
//! may move on meanwhile, when nothing that is used lies around it.
//! What no commit needs any more becomes free only when a header that says so is durable: a crash before would
//! begin to read at what was written over.
//!
//! *Owns*: positions and sequences. *Never*: knows what a commit holds. *Runs on*: the core of the journal.

use std::collections::VecDeque;

use super::format::Tail;
use crate::base::bug::{self, Bug};
use crate::base::disk::BLOCK_BYTES;

#[derive(Debug)]
pub(super) struct Ring {
    bytes: u64,
    /// Where the next commit goes if it fits. Invariant: below `bytes`, or 0.
    head: u64,
    next_sequence: u64,
    /// Invariant: what is held, and what is releasable; the ring's rest is free.
    used: u64,
    held: u64,
    /// From the oldest that is needed on.
    spans: VecDeque<Span>,
}

#[derive(Debug)]
struct Span {
    position: u64,
    /// With the gap before it.
    bytes: u64,
    /// Entries that are not in their segments yet.
    live: u32,
    in_flight: bool,
}

/// Where a commit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: u64,
    pub(super) sequence: u64,
}

/// A tail on its way into a header, and how much becomes free with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Release {
    pub(super) tail: Tail,
    bytes: u64,
}

impl Ring {
    pub(super) fn new(bytes: u64) -> Ring {
        assert!(bytes.is_multiple_of(BLOCK_BYTES as u64));
        Ring { bytes, head: 0, next_sequence: 1, used: 0, held: 0, spans: VecDeque::new() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Has that many bytes in all, if what is used does not lie on both sides of the end; else it has to be told again.
    pub(super) fn grow(&mut self, bytes: u64) {
        assert!(bytes >= self.bytes && bytes.is_multiple_of(BLOCK_BYTES as u64));
        if self.used <= self.head {
            self.bytes = bytes;
        }
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Everything that is not free.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// From the oldest commit that is needed to the newest.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// What becomes free with the next header.
    pub(super) fn releasable(&self) -> u64 {
        self.used - self.held
    }

    /// The largest commit that can be placed now.
    pub(super) fn room(&self) -> u64 {
        let free = self.bytes - self.used;
        let before_end = self.bytes - self.head;
        before_end.min(free).max(free.saturating_sub(before_end))
    }

    /// Takes space for a commit of that many bytes, a multiple of the block and at most `room()`.
    pub(super) fn place(&mut self, bytes: u64, entries: u32) -> Place {
        assert!(bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES as u64) && bytes <= self.room());
        let before_end = self.bytes - self.head;
        let gap = if bytes <= before_end { 0 } else { before_end };
        let position = if gap == 0 { self.head } else { 0 };
        let taken = gap + bytes;
        self.used += taken;
        self.held += taken;
        assert!(self.used <= self.bytes, "nothing that is needed is written over");
        self.head = (position + bytes) % self.bytes;
        self.spans.push_back(Span { position, bytes: taken, live: entries, in_flight: true });
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        Place { position, sequence }
    }

    /// The commit is written, or never will be.
    pub(super) fn settle(&mut self, sequence: u64) {
        self.span(sequence).in_flight = false;
        self.pass();
    }

    /// One entry of the commit is not needed any more.
    pub(super) fn release(&mut self, sequence: u64) {
        let span = self.span(sequence);
        span.live = span.live.checked_sub(1).expect("an entry is released once");
        self.pass();
    }

    /// The commit is among the older half of those that are held.
    pub(super) fn is_old(&self, sequence: u64) -> bool {
        2 * (sequence - self.tail().sequence) <= self.spans.len() as u64
    }

    pub(super) fn tail(&self) -> Tail {
        let oldest = self.next_sequence - self.spans.len() as u64;
        Tail { position: self.spans.front().map_or(self.head, |span| span.position), sequence: oldest }
    }

    /// What the next header can say.
    pub(super) fn plan_release(&self) -> Release {
        Release { tail: self.tail(), bytes: self.releasable() }
    }

    /// The header is durable.
    pub(super) fn on_released(&mut self, release: Release) {
        if bug::on(Bug::ReuseJournalSpace) {
            return;
        }
        self.used -= release.bytes;
        assert!(self.used >= self.held);
    }

    fn span(&mut self, sequence: u64) -> &mut Span {
        let oldest = self.next_sequence - self.spans.len() as u64;
        let at = sequence.checked_sub(oldest).expect("the tail does not pass what is needed");
        self.spans.get_mut(at as usize).expect("the commit was placed")
    }

    fn pass(&mut self) {
        while self.spans.front().is_some_and(|span| span.live == 0 && !span.in_flight) {
            self.held -= self.spans.pop_front().map_or(0, |span| span.bytes);
        }
        if bug::on(Bug::ReuseJournalSpace) {
            self.used = self.held;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    fn place(ring: &mut Ring, blocks: u64) -> (u64, u64) {
        let Place { position, sequence } = ring.place(blocks * BLOCK, 1);
        ring.settle(sequence);
        (position / BLOCK, sequence)
    }

    fn free(ring: &mut Ring) {
        let release = ring.plan_release();
        ring.on_released(release);
    }

    #[test]
    fn a_commit_that_does_not_fit_before_the_end_goes_to_the_start() {
        let mut ring = Ring::new(8 * BLOCK);
        assert_eq!(place(&mut ring, 3), (0, 1));
        assert_eq!(place(&mut ring, 3), (3, 2));
        assert_eq!(ring.room(), 2 * BLOCK);
        ring.release(1);
        assert_eq!(ring.room(), 2 * BLOCK, "not free before a header says so");
        assert_eq!(ring.tail(), Tail { position: 3 * BLOCK, sequence: 2 });
        free(&mut ring);
        assert_eq!(ring.room(), 3 * BLOCK);
        assert_eq!(place(&mut ring, 3), (0, 3));
        assert_eq!((ring.room(), ring.used()), (0, 8 * BLOCK));
        ring.release(2);
        ring.release(3);
        assert_eq!(ring.tail(), Tail { position: 3 * BLOCK, sequence: 4 });
        free(&mut ring);
        assert_eq!((ring.used(), ring.room()), (0, 5 * BLOCK));
    }

    #[test]
    fn the_tail_waits_for_the_oldest_and_for_what_is_in_flight() {
        let mut ring = Ring::new(8 * BLOCK);
        let first = ring.place(BLOCK, 2).sequence;
        let second = ring.place(BLOCK, 1).sequence;
        ring.release(second);
        ring.settle(second);
        ring.release(first);
        ring.release(first);
        assert_eq!(ring.releasable(), 0, "the first is in flight");
        ring.settle(first);
        assert_eq!((ring.releasable(), ring.held()), (2 * BLOCK, 0));
    }

    #[test]
    fn what_is_needed_is_never_written_over() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let blocks = 4 + rng.below(29);
            let mut ring = Ring::new((4 + rng.below(blocks - 3)) * BLOCK);
            // Which commit each block belongs to, until a durable header has passed it.
            let mut owner = vec![0u64; blocks as usize];
            let mut live: Vec<u64> = Vec::new();
            for _ in 0..400 {
                if rng.below(50) == 0 {
                    let more = rng.below(blocks - ring.bytes() / BLOCK + 1);
                    ring.grow(ring.bytes() + more * BLOCK);
                }
                let wanted = 1 + rng.below(blocks.div_ceil(3));
                if rng.below(2) == 0 && wanted * BLOCK <= ring.room() {
                    let (position, sequence) = place(&mut ring, wanted);
                    for block in &mut owner[position as usize..(position + wanted) as usize] {
                        assert!(*block < ring.tail().sequence, "seed {seed}");
                        *block = sequence;
                    }
                    live.push(sequence);
                } else if !live.is_empty() {
                    let at = rng.below(live.len() as u64) as usize;
                    ring.release(live.remove(at));
                    if rng.below(3) == 0 {
                        free(&mut ring);
                        assert!(ring.used() == ring.held());
                    }
                }
                assert!(ring.held() <= ring.used() && ring.used() <= ring.bytes());
                assert_eq!(ring.tail().sequence, live.iter().min().copied().unwrap_or(ring.next_sequence));
            }
        }
    }
}
