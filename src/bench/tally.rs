//! What became of every record: sequences received, against sequences sent.
//!
//! *Owns*: which sequences of a stream are missing, and what that means. *Never*: keeps more than the gaps.
//! *Runs on*: the generator thread that consumes, and whoever adds up the tallies of a group.
//!
//! A stream is one producer's records in one partition, numbered from 0 in the order of sending. Retries may repeat
//! and reorder them. A record that nobody acknowledged may appear or not; it is never called lost.

use std::collections::HashMap;

/// Streams that one tally tells apart. Records of further ones are counted as foreign.
pub const STREAMS_MAX: usize = 16 << 20;

/// Gaps a tally remembers, of all streams together: 16 bytes each.
const GAPS_MAX: usize = 1 << 20;

/// Ranges of failed sequences that a stream remembers.
const FAILED_RANGES_MAX: usize = 4096;

/// What a received record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The next one, or one after a gap.
    New,
    /// New, but a later one of its stream came before it.
    Late,
    /// Received before.
    Again,
    /// Late or again: the place was forgotten.
    Unsure,
    /// Of no stream that can be.
    Foreign,
}

/// The receiving side of some streams.
#[derive(Clone, Debug)]
pub struct Tally {
    streams: Vec<Stream>,
    places: HashMap<u32, u32>,
    /// The stream of the record before, and its place: batches are of one stream.
    last: (u32, u32),
    gaps: usize,
    gaps_max: usize,
}

#[derive(Clone, Default, Debug)]
struct Stream {
    /// One more than the highest sequence received.
    next: u64,
    /// What is missing below `next`: first and end of each gap. Invariant: in order, not empty, apart.
    gaps: Vec<(u64, u64)>,
    /// Below this the gaps were forgotten.
    forgotten_below: u64,
    /// How many sequences were in them.
    forgotten: u64,
    /// Records that came from there since.
    unsure: u64,
}

/// What was found out about a stream at the end.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Settled {
    /// Acknowledged and not received.
    pub lost: u64,
    /// The first of them. `None` when there is none, or when its place was forgotten.
    pub first_lost: Option<u64>,
    /// Not acknowledged and not received.
    pub failed: u64,
    /// Not acknowledged and yet received.
    pub survived: u64,
    /// Received though never sent: of a stream that somebody else writes, or made up by the broker.
    pub invented: u64,
    /// There were more gaps than are remembered: `lost` is the least that it can be.
    pub inexact: bool,
}

impl Settled {
    /// Adds what was found out about another stream.
    pub fn add(&mut self, other: &Settled) {
        self.lost += other.lost;
        self.first_lost = self.first_lost.or(other.first_lost);
        self.failed += other.failed;
        self.survived += other.survived;
        self.invented += other.invented;
        self.inexact |= other.inexact;
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new()
    }
}

impl Tally {
    pub fn new() -> Tally {
        Tally::with_gaps_max(GAPS_MAX)
    }

    fn with_gaps_max(gaps_max: usize) -> Tally {
        Tally { streams: Vec::new(), places: HashMap::new(), last: (0, u32::MAX), gaps: 0, gaps_max }
    }

    #[inline]
    pub fn on_received(&mut self, stream: u32, sequence: u64) -> Seen {
        let (last, mut place) = self.last;
        if stream != last || place == u32::MAX {
            match self.place(stream) {
                Some(found) => place = found,
                None => return Seen::Foreign,
            }
            self.last = (stream, place);
        }
        let found = &mut self.streams[place as usize];
        if sequence == found.next && sequence < u64::MAX {
            found.next += 1;
            return Seen::New;
        }
        self.on_out_of_turn(place as usize, sequence)
    }

    /// Streams of which something was received, in order.
    pub fn streams(&self) -> Vec<u32> {
        let mut streams: Vec<_> = self.places.keys().copied().collect();
        streams.sort_unstable();
        streams
    }

    /// Compares a stream with what was sent, once consumers have come to the end.
    pub fn settle(&self, stream: u32, sent: &SentStream) -> Settled {
        let nothing = Stream::default();
        let found = self.places.get(&stream).map_or(&nothing, |&place| &self.streams[place as usize]);
        let mut settled = Settled { inexact: found.forgotten > 0 || sent.failed.is_rough(), ..Settled::default() };
        let gaps = found.gaps.iter().copied();
        for (start, end) in gaps.chain([(found.next, sent.next)]) {
            // What is beyond the sent ones was never there to be received.
            let end = end.min(sent.next);
            if start >= end {
                continue;
            }
            let failed = sent.failed.count_within(start, end);
            settled.failed += failed;
            settled.lost += end - start - failed;
            settled.first_lost = settled.first_lost.or_else(|| sent.failed.first_outside(start, end));
        }
        let forgotten = found.forgotten.saturating_sub(found.unsure);
        let failed = sent.failed.count_within(0, found.forgotten_below).min(forgotten);
        if forgotten > failed {
            settled.first_lost = None;
        }
        settled.failed += failed;
        settled.lost += forgotten - failed;
        settled.survived = sent.failed.total().saturating_sub(settled.failed);
        settled.invented = found.received_from(sent.next);
        settled
    }

    /// Adds what another tally received of the same streams or of others. Gives the streams of which both had some of
    /// the same records, and how many.
    pub fn merge(&mut self, other: &Tally) -> Vec<(u32, u64)> {
        let mut twice = Vec::new();
        for stream in other.streams() {
            let theirs = &other.streams[other.places[&stream] as usize];
            let Some(place) = self.place(stream) else { continue };
            let ours = &mut self.streams[place as usize];
            let (gaps, received) = (ours.gaps.len(), ours.received() + theirs.received());
            ours.merge(theirs);
            twice.push((stream, received.saturating_sub(ours.received())));
            self.gaps = self.gaps + ours.gaps.len() - gaps;
            while self.gaps > self.gaps_max {
                ours.forget_first_gap();
                self.gaps -= 1;
            }
        }
        twice.retain(|(_, records)| *records > 0);
        twice
    }

    fn place(&mut self, stream: u32) -> Option<u32> {
        if let Some(&place) = self.places.get(&stream) {
            return Some(place);
        }
        if self.streams.len() >= STREAMS_MAX {
            return None;
        }
        let place = self.streams.len() as u32;
        self.streams.push(Stream::default());
        self.places.insert(stream, place);
        Some(place)
    }

    fn on_out_of_turn(&mut self, place: usize, sequence: u64) -> Seen {
        let stream = &mut self.streams[place];
        if sequence == u64::MAX {
            return Seen::Foreign;
        }
        let before = stream.gaps.len();
        let seen = stream.on_out_of_turn(sequence);
        self.gaps = self.gaps + stream.gaps.len() - before;
        if self.gaps > self.gaps_max {
            stream.forget_first_gap();
            self.gaps -= 1;
        }
        seen
    }
}

impl Stream {
    /// How many records came, the same again not counted again.
    fn received(&self) -> u64 {
        let missing: u64 = self.gaps.iter().map(|(start, end)| end - start).sum();
        self.next - missing - self.forgotten.saturating_sub(self.unsure)
    }

    /// What both lack is missing.
    fn merge(&mut self, other: &Stream) {
        let next = self.next.max(other.next);
        let missing = |stream: &Stream| {
            let rest = (stream.next < next).then_some((stream.next, next));
            stream.gaps.iter().copied().chain(rest).collect::<Vec<_>>()
        };
        self.gaps = overlaps(&missing(self), &missing(other));
        self.next = next;
        self.forgotten_below = self.forgotten_below.max(other.forgotten_below);
        self.forgotten += other.forgotten;
        // Where they were is not known, nor whether the other one had them: none of them is called lost.
        self.unsure = self.forgotten;
    }

    fn on_out_of_turn(&mut self, sequence: u64) -> Seen {
        if sequence >= self.next {
            self.gaps.push((self.next, sequence));
            self.next = sequence + 1;
            return Seen::New;
        }
        let at = self.gaps.partition_point(|&(_, end)| end <= sequence);
        match self.gaps.get(at).copied() {
            Some((start, end)) if start <= sequence => {
                match (start == sequence, end == sequence + 1) {
                    (true, true) => {
                        self.gaps.remove(at);
                    }
                    (true, false) => self.gaps[at].0 += 1,
                    (false, true) => self.gaps[at].1 -= 1,
                    (false, false) => {
                        self.gaps[at].1 = sequence;
                        self.gaps.insert(at + 1, (sequence + 1, end));
                    }
                }
                Seen::Late
            }
            _ if sequence < self.forgotten_below => {
                self.unsure += 1;
                Seen::Unsure
            }
            _ => Seen::Again,
        }
    }

    fn forget_first_gap(&mut self) {
        let (start, end) = self.gaps.remove(0);
        self.forgotten += end - start;
        self.forgotten_below = end;
    }

    /// How many different sequences from `start` on were received.
    fn received_from(&self, start: u64) -> u64 {
        let missing: u64 = self.gaps.iter().map(|&(from, to)| to.saturating_sub(from.max(start))).sum();
        self.next.saturating_sub(start).saturating_sub(missing)
    }
}

/// The sending side of a stream.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SentStream {
    /// One more than the highest sequence handed to the broker.
    pub next: u64,
    /// Sequences that were given up: refused, or nobody knows.
    pub failed: Ranges,
}

/// A set of sequences that come mostly in runs. Beyond a bound it grows rough: it then has sequences in it that were
/// not put there, and [`Ranges::is_rough`] says so.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ranges {
    /// First and end of each. Invariant: in order, not empty, apart.
    ranges: Vec<(u64, u64)>,
    rough: bool,
}

impl Ranges {
    /// Adds `start` and what follows, without `end`.
    pub fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let from = self.ranges.partition_point(|&(_, there)| there < start);
        let to = self.ranges.partition_point(|&(there, _)| there <= end);
        let mut merged = (start, end);
        if from < to {
            merged = (start.min(self.ranges[from].0), end.max(self.ranges[to - 1].1));
        }
        self.ranges.splice(from..to, [merged]);
        if self.ranges.len() > FAILED_RANGES_MAX {
            let (_, end) = self.ranges.remove(1);
            self.ranges[0].1 = end;
            self.rough = true;
        }
    }

    pub fn total(&self) -> u64 {
        self.ranges.iter().map(|&(start, end)| end - start).sum()
    }

    pub fn is_rough(&self) -> bool {
        self.rough
    }

    fn count_within(&self, start: u64, end: u64) -> u64 {
        let from = self.ranges.partition_point(|&(_, there)| there <= start);
        let within = self.ranges[from..].iter().take_while(|&&(there, _)| there < end);
        within.map(|&(first, last)| last.min(end) - first.max(start)).sum()
    }

    fn first_outside(&self, start: u64, end: u64) -> Option<u64> {
        let from = self.ranges.partition_point(|&(_, there)| there <= start);
        let first = match self.ranges.get(from) {
            // Ranges are apart, so what follows one is in none.
            Some(&(first, last)) if first <= start => last,
            _ => start,
        };
        (first < end).then_some(first)
    }
}

/// What two lists of ranges, each in order and apart, have in common.
fn overlaps(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut common = Vec::new();
    while let (Some(&&(a_start, a_end)), Some(&&(b_start, b_end))) = (a.peek(), b.peek()) {
        let (start, end) = (a_start.max(b_start), a_end.min(b_end));
        if start < end {
            common.push((start, end));
        }
        if a_end <= b_end {
            a.next()
        } else {
            b.next()
        };
    }
    common
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::rng::Rng;

    #[test]
    fn each_record_is_known_for_what_it_is() {
        use Seen::{Again, Foreign, Late, New};
        let check = |script: &[(u32, u64, Seen)]| {
            let mut tally = Tally::new();
            for (step, &(stream, sequence, expect)) in script.iter().enumerate() {
                assert_eq!(tally.on_received(stream, sequence), expect, "step {step} of {script:?}");
            }
        };
        check(&[(0, 0, New), (0, 1, New), (0, 1, Again), (0, 0, Again), (0, 2, New)]);
        check(&[(0, 5, New), (0, 0, Late), (0, 4, Late), (0, 2, Late), (0, 2, Again), (0, 1, Late), (0, 3, Late)]);
        check(&[(0, 0, New), (7, 0, New), (0, 1, New), (7, 2, New), (7, 1, Late), (7, 1, Again)]);
        check(&[(u32::MAX, 0, New), (u32::MAX, u64::MAX - 1, New), (u32::MAX, u64::MAX, Foreign)]);
        check(&[(3, u64::MAX, Foreign), (3, 0, New)]);
    }

    #[test]
    fn what_is_missing_is_lost_only_if_it_was_acknowledged() {
        let check = |received: &[u64], next: u64, failed: &[(u64, u64)], expect: Settled| {
            let mut tally = Tally::new();
            for &sequence in received {
                tally.on_received(4, sequence);
            }
            let mut sent = SentStream { next, ..Default::default() };
            failed.iter().for_each(|&(start, end)| sent.failed.insert(start, end));
            assert_eq!(tally.settle(4, &sent), expect, "{received:?} of {next}, {failed:?} failed");
        };
        let lost = |lost, first_lost| Settled { lost, first_lost, ..Default::default() };
        check(&[0, 1, 2], 3, &[], lost(0, None));
        check(&[], 0, &[], lost(0, None));
        check(&[], 3, &[], lost(3, Some(0)));
        check(&[0, 2, 2], 4, &[], lost(2, Some(1)));
        check(&[2, 0], 4, &[(1, 2)], Settled { failed: 1, ..lost(1, Some(3)) });
        check(&[2, 0], 4, &[(1, 2), (3, 4)], Settled { failed: 2, ..lost(0, None) });
        check(&[0, 1, 9], 10, &[(1, 5)], Settled { failed: 3, survived: 1, ..lost(4, Some(5)) });
        check(&[0, 1, 2, 5], 2, &[], Settled { invented: 2, ..lost(0, None) });
    }

    #[test]
    fn seeded_runs_agree_with_a_model_that_remembers_everything() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut tally = Tally::new();
            let streams = 1 + rng.below(3) as u32;
            for stream in 0..streams {
                let sent = 1 + rng.below(300);
                let mut failed = BTreeSet::new();
                let mut record = SentStream { next: sent, ..Default::default() };
                for _ in 0..rng.below(6) {
                    let start = rng.below(sent);
                    let end = (start + 1 + rng.below(20)).min(sent);
                    record.failed.insert(start, end);
                    failed.extend(start..end);
                }
                let mut received = BTreeSet::new();
                let mut order: Vec<u64> = (0..sent).filter(|_| rng.below(10) > 0).collect();
                // Some again, and some swapped over a distance.
                for _ in 0..rng.below(20).min(order.len() as u64) {
                    let (a, b) = (rng.below(order.len() as u64) as usize, rng.below(order.len() as u64) as usize);
                    if rng.below(2) == 0 { order.swap(a, b) } else { order.insert(a, order[b]) }
                }
                let mut highest = None;
                for sequence in order {
                    let expect = match (received.insert(sequence), highest) {
                        (false, _) => Seen::Again,
                        (true, Some(highest)) if sequence < highest => Seen::Late,
                        (true, _) => Seen::New,
                    };
                    highest = highest.max(Some(sequence));
                    assert_eq!(tally.on_received(stream, sequence), expect, "seed {seed}");
                }
                let settled = tally.settle(stream, &record);
                let missing: Vec<_> = (0..sent).filter(|s| !received.contains(s)).collect();
                let lost: Vec<_> = missing.iter().filter(|s| !failed.contains(s)).collect();
                assert_eq!((settled.lost, settled.first_lost), (lost.len() as u64, lost.first().map(|s| **s)));
                assert_eq!(settled.failed, (missing.len() - lost.len()) as u64, "seed {seed}");
                assert_eq!(settled.survived, failed.intersection(&received).count() as u64, "seed {seed}");
                assert!(!settled.inexact);
            }
            assert_eq!(tally.gaps, tally.streams.iter().map(|stream| stream.gaps.len()).sum::<usize>());
        }
    }

    #[test]
    fn tallies_that_shared_a_stream_add_up_to_one() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            // Owners take turns; now and then one begins before where the last one ended.
            let mut tallies = [Tally::new(), Tally::new(), Tally::new()];
            let (mut all, mut twice, mut at) = (BTreeSet::new(), 0, 0u64);
            while at < 200 {
                let owner = rng.below(3) as usize;
                at = at.saturating_sub(if rng.below(4) == 0 { rng.below(10) } else { 0 });
                for sequence in at..at + rng.below(40) {
                    if rng.below(20) > 0 && tallies[owner].on_received(1, sequence) != Seen::Again {
                        twice += u64::from(!all.insert(sequence));
                    }
                }
                at += 40;
            }
            let mut sum = Tally::new();
            let found: u64 = tallies.iter().flat_map(|tally| sum.merge(tally)).map(|(_, records)| records).sum();
            assert_eq!(found, twice, "seed {seed}");
            let settled = sum.settle(1, &SentStream { next: 240, ..Default::default() });
            assert_eq!((settled.lost, settled.inexact), (240 - all.len() as u64, false), "seed {seed}");
            assert_eq!(settled.first_lost, (0..240).find(|sequence| !all.contains(sequence)), "seed {seed}");
        }
    }

    #[test]
    fn with_too_many_gaps_nothing_is_called_lost_that_is_not() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut tally = Tally::with_gaps_max(1 + rng.below(4) as usize);
            let sent = SentStream { next: 200, ..Default::default() };
            let (mut order, mut late) = (Vec::new(), Vec::new());
            for sequence in 0..200 {
                match rng.below(5) {
                    0 => {}
                    1 => late.push(sequence),
                    _ => order.push(sequence),
                }
                if rng.below(10) == 0 {
                    order.append(&mut late);
                }
            }
            for &sequence in &order {
                tally.on_received(0, sequence);
            }
            assert!(tally.gaps <= tally.gaps_max);
            let settled = tally.settle(0, &sent);
            assert!(settled.inexact, "seed {seed}");
            assert!(settled.lost <= 200 - order.len() as u64, "seed {seed}: {settled:?}");
            assert!(settled.lost > 0, "seed {seed}: {settled:?}");
        }
    }

    #[test]
    fn ranges_are_a_set() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for _ in 0..rng.below(12) {
                let start = rng.below(60);
                let end = start + rng.below(8);
                ranges.insert(start, end);
                model.extend(start..end);
            }
            assert_eq!(ranges.total(), model.len() as u64, "seed {seed}: {ranges:?}");
            assert!(ranges.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "seed {seed}: {ranges:?}");
            for _ in 0..20 {
                let start = rng.below(70);
                let end = start + rng.below(20);
                assert_eq!(ranges.count_within(start, end), model.range(start..end).count() as u64, "seed {seed}");
                let outside = (start..end).find(|sequence| !model.contains(sequence));
                assert_eq!(ranges.first_outside(start, end), outside, "seed {seed}: {start}..{end} of {ranges:?}");
            }
        }
        let mut ranges = Ranges::default();
        (0..FAILED_RANGES_MAX as u64 + 5).for_each(|n| ranges.insert(2 * n, 2 * n + 1));
        assert_eq!(ranges.ranges.len(), FAILED_RANGES_MAX);
        assert_eq!((ranges.is_rough(), ranges.total()), (true, FAILED_RANGES_MAX as u64 + 10));
    }
}
