//! Counts of what requests' stages took: cheap to count into, and turned into histograms when somebody asks.
//!
//! The bins are those of [`Histogram::of_stage`], so that nothing is lost on the way. All rows lie in one piece of
//! memory and zeros, which several stages of most requests are, are not counted: a report is a short list of what is
//! there.
//!
//! *Owns*: one core's counts since its start. *Never*: forgets any: intervals are differences. *Runs on*: every core;
//! a [`Snapshot`] goes wherever it is wanted.

use super::histogram::{Histogram, LOWEST_NS, STAGE_HIGHEST_NS};
use super::stage::{ROWS, STAGES, TICK_BITS, Timed, Trace};

/// Values below 2 to this are not told apart.
const UNIT_BITS: u32 = LOWEST_NS.ilog2();
/// Each doubling has half of this many bins: two significant digits.
const SUB_BITS: u32 = 8;
const HALF: usize = 1 << (SUB_BITS - 1);
const HIGHEST_TICKS: u64 = STAGE_HIGHEST_NS >> TICK_BITS;
const BINS: usize = bin(HIGHEST_TICKS) + 1;
const KINDS: usize = Timed::ALL.len();

/// What one core has counted.
#[derive(Debug)]
pub struct StageCounts {
    /// By kind, row and bin. Zeros are not counted here: they are the requests that are missing.
    bins: Vec<[[u64; BINS]; ROWS]>,
    /// In ticks.
    sums: [[u64; ROWS]; KINDS],
    requests: [u64; KINDS],
}

/// The counts of one moment, of one core or of several together.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Snapshot {
    pub requests: [u64; KINDS],
    sums_ns: [[u64; ROWS]; KINDS],
    /// What the bins hold, where it is not zero: by position, in order.
    bins: Vec<(u32, u64)>,
}

impl Default for StageCounts {
    fn default() -> StageCounts {
        StageCounts { bins: vec![[[0; BINS]; ROWS]; KINDS], sums: [[0; ROWS]; KINDS], requests: [0; KINDS] }
    }
}

impl StageCounts {
    /// Counts a request that is over.
    pub fn record(&mut self, timed: Timed, trace: &Trace) {
        let kind = timed as usize;
        self.requests[kind] += 1;
        let (sums, bins) = (&mut self.sums[kind], &mut self.bins[kind]);
        trace.finish(|row, ticks| {
            sums[row] += ticks;
            bins[row][bin(ticks)] += u64::from(ticks > 0);
        });
    }

    pub fn snapshot(&self) -> Snapshot {
        let counted = self.bins.as_flattened().as_flattened().iter().enumerate().filter(|(_, count)| **count > 0);
        let bins = counted.map(|(at, count)| (at as u32, *count)).collect();
        Snapshot { requests: self.requests, sums_ns: self.sums.map(|sums| sums.map(|ticks| ticks << TICK_BITS)), bins }
    }
}

impl Snapshot {
    /// Adds what another core has counted.
    pub fn add(&mut self, other: &Snapshot) {
        self.bins = zip(&self.bins, &other.bins, |mine, theirs| mine + theirs);
        self.combine(other, |mine, theirs| mine + theirs);
    }

    /// What was counted since an earlier snapshot of the same cores.
    pub fn since(&self, earlier: &Snapshot) -> Snapshot {
        let mut since = self.clone();
        since.bins = zip(&self.bins, &earlier.bins, u64::saturating_sub);
        since.combine(earlier, u64::saturating_sub);
        since
    }

    /// Nanoseconds of all requests in one row of the table.
    pub fn sum_ns(&self, timed: Timed, row: usize) -> u64 {
        self.sums_ns[timed as usize][row]
    }

    /// The histogram of one row of the table. Each has all requests of its kind.
    pub fn histogram(&self, timed: Timed, row: usize) -> Histogram {
        assert!(STAGES[row].is_of(timed), "{} has no {}", timed.name(), STAGES[row].name);
        let mut histogram = Histogram::of_stage();
        let first = (timed as usize * ROWS + row) * BINS;
        let start = self.bins.partition_point(|(at, _)| (*at as usize) < first);
        let mut zeros = self.requests[timed as usize];
        for (at, count) in self.bins[start..].iter().take_while(|(at, _)| (*at as usize) < first + BINS) {
            histogram.record_n(lowest_of(*at as usize - first), *count);
            zeros = zeros.saturating_sub(*count);
        }
        histogram.record_n(0, zeros);
        histogram
    }

    fn combine(&mut self, other: &Snapshot, with: impl Fn(u64, u64) -> u64) {
        for (mine, theirs) in self.requests.iter_mut().zip(other.requests) {
            *mine = with(*mine, theirs);
        }
        for (mine, theirs) in self.sums_ns.iter_mut().flatten().zip(other.sums_ns.iter().flatten()) {
            *mine = with(*mine, *theirs);
        }
    }
}

/// Puts two sparse rows together, and leaves out what comes to nothing.
fn zip(mine: &[(u32, u64)], theirs: &[(u32, u64)], with: impl Fn(u64, u64) -> u64) -> Vec<(u32, u64)> {
    let mut both = Vec::with_capacity(mine.len().max(theirs.len()));
    let (mut left, mut right) = (mine.iter().copied().peekable(), theirs.iter().copied().peekable());
    loop {
        let at = match (left.peek(), right.peek()) {
            (None, None) => return both,
            (Some((at, _)), None) | (None, Some((at, _))) => *at,
            (Some((one, _)), Some((other, _))) => *one.min(other),
        };
        let mine = left.next_if(|(other, _)| *other == at).map_or(0, |(_, count)| count);
        let theirs = right.next_if(|(other, _)| *other == at).map_or(0, |(_, count)| count);
        let count = with(mine, theirs);
        if count > 0 {
            both.push((at, count));
        }
    }
}

/// HdrHistogram's position of a value: the doubling it lies in, and where in that.
#[inline]
const fn bin(ticks: u64) -> usize {
    let ticks = if ticks < HIGHEST_TICKS { ticks } else { HIGHEST_TICKS };
    let units = (ticks >> (UNIT_BITS - TICK_BITS)) as u32;
    // The first `2 * HALF` units have a bin each; what is above shares.
    if units < 2 * HALF as u32 {
        return units as usize;
    }
    let doubling = units.ilog2() - (SUB_BITS - 1);
    doubling as usize * HALF + (units >> doubling) as usize
}

const fn lowest_of(bin: usize) -> u64 {
    let doubling = if bin < 2 * HALF { 0 } else { bin / HALF - 1 };
    ((bin - doubling * HALF) as u64) << (doubling as u32 + UNIT_BITS)
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::super::time::Instant;
    use super::*;

    fn trace(stage: Stage, ns: u64) -> Trace {
        let mut trace = Trace::begin(Instant(0));
        trace.waited_until(stage, Instant(ns));
        trace
    }

    fn counts(values: &[(Timed, Stage, u64)]) -> Snapshot {
        let mut counts = StageCounts::default();
        for (timed, stage, ns) in values {
            counts.record(*timed, &trace(*stage, *ns));
        }
        counts.snapshot()
    }

    #[test]
    fn the_bins_are_those_of_the_histogram() {
        let mut values = vec![0, 1, STAGE_HIGHEST_NS - 1, STAGE_HIGHEST_NS];
        values.extend((0..36).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1, 3 << bits, 5 << bits]));
        for value in values.into_iter().filter(|value| *value <= STAGE_HIGHEST_NS) {
            let mut expect = Histogram::of_stage();
            expect.record(value);
            let mut histogram = Histogram::of_stage();
            let bin = bin(value >> TICK_BITS);
            assert!(bin < BINS && lowest_of(bin) <= value);
            histogram.record(lowest_of(bin));
            let bins = |histogram: &Histogram| histogram.counted().collect::<Vec<_>>();
            assert_eq!(bins(&histogram), bins(&expect), "{value}");
        }
        assert_eq!(bin(u64::MAX), BINS - 1);
    }

    #[test]
    fn every_row_has_every_request_and_zeros_are_counted_without_a_record() {
        let (write, read) = (Stage::DeviceWrite, Stage::Read);
        let snapshot = counts(&[
            (Timed::Produce, write, 1 << 20),
            (Timed::Produce, write, 1 << 20),
            (Timed::Produce, read, 1 << 30),
            (Timed::Fetch, read, 1 << 12),
        ]);
        let histogram = |timed, stage: Stage| snapshot.histogram(timed, stage as usize);
        for row in STAGES {
            for (timed, count) in [(Timed::Produce, 3), (Timed::Fetch, 1)] {
                if row.is_of(timed) {
                    assert_eq!(snapshot.histogram(timed, row.stage as usize).count(), count, "{}", row.name);
                }
            }
        }
        assert_eq!(histogram(Timed::Produce, write).value_at(0.3), 511);
        assert_eq!(histogram(Timed::Produce, write).min_ns(), 0);
        assert!(histogram(Timed::Produce, write).value_at(0.6) >= 1 << 20);
        assert!(histogram(Timed::Produce, Stage::Total).max_ns() >= 1 << 30);
        assert_eq!(
            histogram(Timed::Produce, Stage::Unaccounted).max_ns(),
            histogram(Timed::Fetch, Stage::Queue).max_ns()
        );
        assert_eq!(snapshot.sum_ns(Timed::Produce, write as usize), 2 << 20);
        assert_eq!(snapshot.sum_ns(Timed::Produce, Stage::Total as usize), (2 << 20) + (1 << 30));
    }

    #[test]
    fn snapshots_add_up_and_their_difference_is_the_interval() {
        let one = [(Timed::Produce, Stage::Check, 5_000), (Timed::Fetch, Stage::LogRead, 9_000_000)];
        let two = [(Timed::Produce, Stage::Check, 5_000), (Timed::Produce, Stage::Check, 70_000)];
        let (first, second) = (counts(&one), counts(&two));
        let mut both = first.clone();
        both.add(&second);
        assert_eq!(both, counts(&[one, two].concat()));
        assert_eq!(both.since(&first), second);
        assert_eq!(both.since(&Snapshot::default()), both);
        assert_eq!(both.since(&both), Snapshot::default());
    }
}
