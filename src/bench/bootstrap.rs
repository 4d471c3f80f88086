//! How sure a ratio of two runs is: a circular moving-block bootstrap over the histograms of their intervals.
//!
//! Latencies of neighbouring intervals depend on each other, so intervals are drawn in blocks of neighbours, as long
//! as the dependence lasts (the rule of Politis and White 2004, with the correction of 2009). A drawn run's percentile
//! is that of all its values together. Intervals are of the logarithm of the ratio.
//!
//! Three things are added to the textbook, because without them the intervals of a short run hold the truth too
//! rarely: with 60 intervals whose neighbours correlate at 0.6, a median's in 80 of 100 cases instead of 93. Each
//! run's draws are spread out by Student's t of its number of blocks, and by the dependence that is longer than a
//! block, as an autoregression tells it; and half a bucket is added to either side, for a histogram cannot tell
//! values of one bucket apart.
//!
//! A run that was measured in several turns, with another target between them, is drawn turn by turn: what differs
//! from one turn to the next is the largest part of what chance does, and blocks within turns would not see it.
//!
//! *Owns*: drawing, block lengths, intervals. *Never*: a percentile of percentiles, or a draw without a seed.
//! *Runs on*: any thread.

use crate::base::rng::Rng;
use crate::bench::packed::{Bucket, Packed, Sum};

/// Draws of a run: the ends of a 95 % interval are then the 50th from either side.
pub const DRAWS: usize = 2000;

/// A run with fewer intervals says nothing of how much runs differ.
pub const INTERVALS_MIN: usize = 10;

/// Values that must lie beyond a percentile, and intervals that must have some, for it to be told with an interval.
pub const BEYOND_MIN: u64 = 20;
pub const INTERVALS_BEYOND_MIN: usize = 10;

/// A run of several turns with fewer of them says nothing of how much turns differ.
pub const TURNS_MIN: usize = 4;

/// Buckets closer than this share of a value are taken together: finer ones cost memory and tell nothing.
const CELLS_PER_DOUBLING: u64 = 256;

/// Cells in which a run is kept; coarser ones are made when there would be more.
const CELLS_MAX: usize = 8192;

/// The strongest dependence of an interval on the one before that is believed: what lies beyond is a drift.
const COEFFICIENT_MAX: f64 = 0.95;

/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.959_964;

/// A run's histograms, summed so that any stretch of intervals is counted with two look-ups.
#[derive(Debug)]
pub struct Series {
    intervals: usize,
    /// How many intervals each turn has.
    turns: Vec<usize>,
    /// Ascending.
    cells: Vec<Cell>,
    /// For each cell, `intervals + 1` numbers: values in this cell or below, in all intervals before.
    sums: Vec<u64>,
}

/// Neighbouring buckets taken together.
#[derive(Clone, Copy, Debug)]
struct Cell {
    /// The lowest and highest value, both included.
    lowest: u64,
    highest: u64,
    /// The widest bucket's.
    bucket_width: u64,
}

/// Draws of one quantity of one run, as logarithms.
#[derive(Clone, PartialEq, Debug)]
pub struct Draws {
    pub point: f64,
    /// Spread out already.
    pub values: Vec<f64>,
    /// What cannot be told apart: the width of the bucket that the point is in.
    pub width: f64,
}

/// A ratio, and where it lies with 95 % confidence.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ratio {
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
}

/// Why there is no interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TooFew {
    /// The run has so many intervals only.
    Intervals(usize),
    /// The run has so many turns only.
    Turns(usize),
    /// So many values lie beyond the percentile.
    Values(u64),
    /// The values beyond it come from so many intervals: a few events, not a distribution.
    IntervalsBeyond(usize),
}

impl Series {
    /// `turns` says how many of the histograms are of each turn.
    pub fn of(histograms: &[&Packed], turns: &[usize]) -> Series {
        assert_eq!(turns.iter().sum::<usize>(), histograms.len());
        let total = Sum::of(histograms.iter().copied());
        let mut per_doubling = CELLS_PER_DOUBLING;
        let mut cells = cells_of(total.buckets(), per_doubling);
        while cells.len() > CELLS_MAX && per_doubling > 1 {
            per_doubling /= 2;
            cells = cells_of(total.buckets(), per_doubling);
        }
        let intervals = histograms.len();
        let row = intervals + 1;
        let mut sums = vec![0u64; cells.len() * row];
        for (t, histogram) in histograms.iter().enumerate() {
            let mut cell = 0;
            for Bucket { highest, count, .. } in histogram.buckets() {
                while cell + 1 < cells.len() && cells[cell].highest < highest {
                    cell += 1;
                }
                sums[cell * row + t + 1] += count;
            }
        }
        for cell in 0..cells.len() {
            for t in 1..row {
                sums[cell * row + t] += sums[cell * row + t - 1];
            }
            if cell > 0 {
                let (below, this) = sums[(cell - 1) * row..(cell + 1) * row].split_at_mut(row);
                this.iter_mut().zip(below).for_each(|(this, below)| *this += *below);
            }
        }
        Series { intervals, turns: turns.to_vec(), cells, sums }
    }

    pub fn intervals(&self) -> usize {
        self.intervals
    }

    /// Draws of a quantile's logarithm.
    pub fn draw(&self, quantile: f64, draws: usize, rng: &mut Rng) -> Result<Draws, TooFew> {
        check_length(&self.turns)?;
        let whole = [(0, self.intervals)];
        let count = self.count(&whole);
        let beyond = ((1.0 - quantile) * count as f64).round() as u64;
        if beyond < BEYOND_MIN {
            return Err(TooFew::Values(beyond));
        }
        let (cell, share) = self.place(quantile, &whole, 0);
        // By how much each interval had more than its part beyond the quantile.
        let scores: Vec<f64> = (0..self.intervals)
            .map(|t| {
                let stretch = [(t, t + 1)];
                let below = if cell == 0 { 0 } else { self.up_to(cell - 1, &stretch) } as f64;
                let within = self.up_to(cell, &stretch) as f64 - below;
                let count = self.count(&stretch) as f64;
                count - below - share * within - (1.0 - quantile) * count
            })
            .collect();
        // Those in the quantile's own cell among them: a cell can hold a whole tail.
        let has_beyond = |t: &usize| {
            let stretch = [(*t, t + 1)];
            (if cell == 0 { 0 } else { self.up_to(cell - 1, &stretch) }) < self.count(&stretch)
        };
        let intervals_beyond = (0..self.intervals).filter(has_beyond).count();
        if intervals_beyond < INTERVALS_BEYOND_MIN {
            return Err(TooFew::IntervalsBeyond(intervals_beyond));
        }
        let point = self.value(cell, share).ln();
        let blocks = Blocks::of(&scores, &self.turns);
        let mut stretches = Vec::new();
        let values = (0..draws).map(|_| {
            blocks.draw(rng, &mut stretches);
            let (cell, share) = self.place(quantile, &stretches, cell);
            point + blocks.spread * (self.value(cell, share).ln() - point)
        });
        let values = values.collect();
        let width = (self.cells[cell].bucket_width as f64 / point.exp()).ln_1p();
        Ok(Draws { point, values, width })
    }

    fn count(&self, stretches: &[(usize, usize)]) -> u64 {
        self.up_to(self.cells.len() - 1, stretches)
    }

    /// Values in this cell or below.
    fn up_to(&self, cell: usize, stretches: &[(usize, usize)]) -> u64 {
        let row = &self.sums[cell * (self.intervals + 1)..(cell + 1) * (self.intervals + 1)];
        stretches.iter().map(|(from, to)| row[*to] - row[*from]).sum()
    }

    /// The cell that a quantile falls into, and the share of the cell that lies below it. The search begins at the
    /// cell `near`: each cell that is looked at costs two look-ups for every stretch, and draws lie close together.
    fn place(&self, quantile: f64, stretches: &[(usize, usize)], near: usize) -> (usize, f64) {
        let rank = quantile * self.count(stretches) as f64;
        let is_below = |cell: usize| (self.up_to(cell, stretches) as f64) < rank;
        let last = self.cells.len() - 1;
        let (mut low, mut high) = (last.min(near + 1), near);
        let mut step = 1;
        if is_below(near) {
            while low + step <= last && is_below(low + step - 1) {
                low += step;
                step *= 2;
            }
            high = last.min(low + step - 1);
        } else {
            while high >= step && !is_below(high - step) {
                high -= step;
                step *= 2;
            }
            low = high.saturating_sub(step);
        }
        while low < high {
            let middle = (low + high) / 2;
            if is_below(middle) { low = middle + 1 } else { high = middle }
        }
        let below = if low == 0 { 0.0 } else { self.up_to(low - 1, stretches) as f64 };
        let within = self.up_to(low, stretches) as f64 - below;
        (low, if within > 0.0 { ((rank - below) / within).clamp(0.0, 1.0) } else { 1.0 })
    }

    fn value(&self, cell: usize, share: f64) -> f64 {
        let Cell { lowest, highest, .. } = self.cells[cell];
        (lowest as f64 + share * (highest as f64 + 1.0 - lowest as f64)).max(1.0)
    }
}

/// What was counted, and the time it took, interval by interval.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    pub counts: &'a [f64],
    pub lengths: &'a [f64],
    /// How many intervals each turn has.
    pub turns: &'a [usize],
}

/// Draws of the logarithm of a rate.
pub fn draw_rate(counted: Counted<'_>, draws: usize, rng: &mut Rng) -> Result<Draws, TooFew> {
    let Counted { counts, lengths, turns } = counted;
    assert_eq!(counts.len(), lengths.len());
    assert_eq!(turns.iter().sum::<usize>(), counts.len());
    check_length(turns)?;
    let (count, length) = (counts.iter().sum::<f64>(), lengths.iter().sum::<f64>());
    if count <= 0.0 || length <= 0.0 {
        return Err(TooFew::Values(0));
    }
    let rate = count / length;
    let scores: Vec<f64> = counts.iter().zip(lengths).map(|(count, length)| count - rate * length).collect();
    let blocks = Blocks::of(&scores, turns);
    let (counts, lengths) = (prefix_sums(counts), prefix_sums(lengths));
    let sum = |sums: &[f64], stretches: &[(usize, usize)]| {
        stretches.iter().map(|(from, to)| sums[*to] - sums[*from]).sum::<f64>()
    };
    let mut stretches = Vec::new();
    let values = (0..draws).map(|_| {
        blocks.draw(rng, &mut stretches);
        // A drawn run in which nothing went through is as slow as it can be told.
        let rate_drawn = sum(&counts, &stretches).max(0.5) / sum(&lengths, &stretches);
        rate.ln() + blocks.spread * (rate_drawn / rate).ln()
    });
    Ok(Draws { point: rate.ln(), values: values.collect(), width: 0.0 })
}

/// What `b` is of `a`. Both have as many draws.
pub fn ratio(a: &Draws, b: &Draws) -> Ratio {
    assert_eq!(a.values.len(), b.values.len());
    let mut differences: Vec<f64> = a.values.iter().zip(&b.values).map(|(a, b)| b - a).collect();
    differences.sort_by(f64::total_cmp);
    let tail = (differences.len() as f64 * 0.025).floor() as usize;
    let point = b.point - a.point;
    let slack = (a.width + b.width) / 2.0;
    let low = differences[tail].min(point) - slack;
    let high = differences[differences.len() - 1 - tail].max(point) + slack;
    Ratio { ratio: point.exp(), low: low.exp(), high: high.exp() }
}

/// Neighbouring buckets together, up to the width that `per_doubling` says.
fn cells_of(buckets: impl Iterator<Item = Bucket>, per_doubling: u64) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for Bucket { lowest, highest, .. } in buckets {
        let bucket_width = (highest - lowest).saturating_add(1);
        match cells.last_mut() {
            Some(cell) if highest - cell.lowest < cell.lowest / per_doubling => {
                (cell.highest, cell.bucket_width) = (highest, cell.bucket_width.max(bucket_width));
            }
            _ => cells.push(Cell { lowest, highest, bucket_width }),
        }
    }
    if cells.is_empty() {
        cells.push(Cell { lowest: 0, highest: 0, bucket_width: 1 });
    }
    cells
}

fn check_length(turns: &[usize]) -> Result<(), TooFew> {
    let intervals = turns.iter().sum::<usize>();
    match turns.len() {
        _ if intervals < INTERVALS_MIN => Err(TooFew::Intervals(intervals)),
        2..TURNS_MIN => Err(TooFew::Turns(turns.len())),
        _ => Ok(()),
    }
}

/// How a run is drawn anew.
struct Blocks {
    pieces: Pieces,
    /// How far draws must be spread out.
    spread: f64,
}

enum Pieces {
    /// From anywhere in so many intervals, of this length.
    Moving { intervals: usize, length: usize },
    /// Whole turns: the first interval, and the one after the last.
    Turns(Vec<(usize, usize)>),
}

impl Blocks {
    fn of(scores: &[f64], turns: &[usize]) -> Blocks {
        if turns.len() <= 1 {
            let length = block_length(scores);
            let pieces = Pieces::Moving { intervals: scores.len(), length };
            return Blocks { pieces, spread: spread(scores, length) };
        }
        let mut end = 0;
        let turns = turns.iter().map(|length| {
            end += length;
            (end - length, end)
        });
        let turns: Vec<(usize, usize)> = turns.collect();
        let count = turns.len() as f64;
        Blocks { pieces: Pieces::Turns(turns), spread: student(count - 1.0) / Z * (count / (count - 1.0)).sqrt() }
    }

    /// Fills `stretches` with about as many intervals as the run has. A moving block that passes the end goes on at
    /// the beginning, so that every interval is as likely as any other.
    fn draw(&self, rng: &mut Rng, stretches: &mut Vec<(usize, usize)>) {
        stretches.clear();
        match &self.pieces {
            Pieces::Turns(turns) => {
                stretches.extend((0..turns.len()).map(|_| turns[rng.below(turns.len() as u64) as usize]));
            }
            Pieces::Moving { intervals, length } => {
                let mut left = *intervals;
                while left > 0 {
                    let from = rng.below(*intervals as u64) as usize;
                    let length = (*length).min(left);
                    let to = from + length;
                    if to <= *intervals {
                        stretches.push((from, to));
                    } else {
                        stretches.push((from, *intervals));
                        stretches.push((0, to - intervals));
                    }
                    left -= length;
                }
            }
        }
    }
}

/// How far draws of moving blocks must be spread out: the variance of `k` blocks is too small by one part in `k`, is
/// known only as well as `k` numbers tell it, and lacks the dependence that outlasts a block.
fn spread(scores: &[f64], block_length: usize) -> f64 {
    let blocks = (scores.len() as f64 / block_length as f64).max(2.5);
    let (drawn, lasting) = (drawn_variance(scores, block_length), lasting_variance(scores));
    let missed = if drawn > 0.0 { (lasting / drawn).max(1.0) } else { 1.0 };
    student(blocks - 1.0) / Z * (missed * blocks / (blocks - 1.0)).sqrt()
}

/// The variance that drawing circular blocks gives a mean, times the length of the series.
fn drawn_variance(series: &[f64], block_length: usize) -> f64 {
    let n = series.len();
    let mean = series.iter().sum::<f64>() / n as f64;
    let around: Vec<f64> = (0..n + block_length).map(|t| series[t % n] - mean).collect();
    let sums = prefix_sums(&around);
    (0..n).map(|t| (sums[t + block_length] - sums[t]).powi(2)).sum::<f64>() / (n * block_length) as f64
}

/// The same for a series without end in which each number depends on the one before: an autoregression of the first
/// order, its coefficient freed of the bias that a short series gives it (Kendall 1954).
fn lasting_variance(series: &[f64]) -> f64 {
    let n = series.len() as f64;
    let mean = series.iter().sum::<f64>() / n;
    let pairs = || series.iter().zip(&series[1..]).map(|(a, b)| (a - mean, b - mean));
    let variance = series.iter().map(|a| (a - mean).powi(2)).sum::<f64>();
    if variance <= 0.0 {
        return 0.0;
    }
    let fitted = pairs().map(|(a, b)| a * b).sum::<f64>() / variance;
    let coefficient = (fitted + (1.0 + 3.0 * fitted) / n).clamp(0.0, COEFFICIENT_MAX);
    let innovations = pairs().map(|(a, b)| (b - coefficient * a).powi(2)).sum::<f64>() / (n - 1.0);
    innovations / (1.0 - coefficient).powi(2)
}

/// Two-sided 95 % of Student's t (Fisher and Cornish's expansion; below 0.5 % off from three degrees on).
fn student(degrees: f64) -> f64 {
    let z = Z;
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
        (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5) - 1920.0 * z.powi(3) - 945.0 * z) / 92160.0,
    ];
    terms.iter().enumerate().fold(z, |sum, (power, term)| sum + term / degrees.powi(power as i32 + 1))
}

/// How long blocks must be for a mean of this series (Politis and White, circular blocks): from how many lags its
/// autocorrelation lasts. Between n^(1/3) and a fifth of the series.
fn block_length(series: &[f64]) -> usize {
    let n = series.len();
    let mean = series.iter().sum::<f64>() / n as f64;
    let covariance = |lag: usize| {
        let products = series.iter().zip(&series[lag..]).map(|(a, b)| (a - mean) * (b - mean));
        products.sum::<f64>() / n as f64
    };
    let shortest = (n as f64).cbrt().round() as usize;
    let longest = (n / 5).max(1);
    let variance = covariance(0);
    if variance <= 0.0 {
        return shortest.clamp(1, longest);
    }
    let quiet_run = 5.max((n as f64).log10().sqrt().ceil() as usize);
    let lags_max = ((n as f64).sqrt().ceil() as usize + quiet_run).min(n - 1);
    let covariances: Vec<f64> = (0..=lags_max).map(covariance).collect();
    let bound = 2.0 * ((n as f64).log10() / n as f64).sqrt() * variance;
    // The last lag before a run of insignificant ones.
    let is_quiet = |from: &usize| covariances[*from..].iter().take(quiet_run).all(|c| c.abs() < bound);
    let last = (1..=lags_max).find(is_quiet).unwrap_or(lags_max + 1) - 1;
    let window = (2 * last.max(1)).min(lags_max);
    let (mut g, mut d) = (0.0, variance);
    for (lag, covariance) in covariances.iter().enumerate().take(window + 1).skip(1) {
        let share = lag as f64 / window as f64;
        let weight = if share <= 0.5 { 1.0 } else { 2.0 * (1.0 - share) };
        g += 2.0 * weight * lag as f64 * covariance;
        d += 2.0 * weight * covariance;
    }
    let length = (2.0 * g * g / (4.0 / 3.0 * d * d)).cbrt() * (n as f64).cbrt();
    let length = if length.is_finite() { length.ceil() as usize } else { longest };
    length.max(shortest).clamp(1, longest)
}

fn prefix_sums(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0];
    for value in values {
        sums.push(sums[sums.len() - 1] + value);
    }
    sums
}

/// Made-up runs of which the truth is known.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::base::histogram::Histogram;

    /// Lognormal latencies. The middle of each interval wanders (autoregressive), so that neighbours are alike.
    #[derive(Clone, Copy)]
    pub struct Wandering {
        pub intervals: usize,
        pub values: usize,
        /// Autocorrelation from one interval to the next, and how far the middle strays (standard deviation of the
        /// logarithm).
        pub correlation: f64,
        pub stray: f64,
        /// Every latency times this.
        pub scale: f64,
    }

    impl Wandering {
        pub fn run(&self, rng: &mut Rng) -> Vec<Packed> {
            let mut middle = self.stray * normal(rng);
            let step = self.stray * (1.0 - self.correlation.powi(2)).sqrt();
            let mut histogram = Histogram::of_stage();
            (0..self.intervals)
                .map(|_| {
                    middle = self.correlation * middle + step * normal(rng);
                    histogram.clear();
                    for _ in 0..self.values {
                        let ns = 2e6 * self.scale * (middle + 0.5 * normal(rng)).exp();
                        histogram.record(ns as u64);
                    }
                    Packed::from(&histogram)
                })
                .collect()
        }
    }

    fn uniform(rng: &mut Rng) -> f64 {
        (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// By Box and Muller.
    pub fn normal(rng: &mut Rng) -> f64 {
        let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
        radius * (std::f64::consts::TAU * uniform(rng)).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Wandering, normal};
    use super::*;
    use crate::base::histogram::Histogram;

    fn series(run: &[Packed]) -> Series {
        Series::of(&run.iter().collect::<Vec<_>>(), &[run.len()])
    }

    /// In how many of so many repetitions the interval holds the true ratio.
    fn covered(a: Wandering, b: Wandering, quantile: f64, repetitions: u64, draws: usize) -> f64 {
        let truth = b.scale / a.scale;
        let hit = |seed: &u64| {
            let mut rng = Rng::new(*seed);
            let (a, b) = (series(&a.run(&mut rng)), series(&b.run(&mut rng)));
            let a = a.draw(quantile, draws, &mut rng).expect("enough");
            let b = b.draw(quantile, draws, &mut rng).expect("enough");
            let ratio = ratio(&a, &b);
            ratio.low <= truth && truth <= ratio.high
        };
        (0..repetitions).filter(hit).count() as f64 / repetitions as f64
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        // 200 repetitions at 95 %: three standard deviations to either side are 0.904 and 0.996.
        for (correlation, quantile) in [(0.0, 0.5), (0.0, 0.99), (0.6, 0.5), (0.6, 0.99)] {
            let a = Wandering { intervals: 60, values: 60, correlation, stray: 0.2, scale: 1.0 };
            let b = Wandering { scale: 1.1, ..a };
            let share = covered(a, b, quantile, 200, 200);
            assert!((0.904..=0.996).contains(&share), "{share} of the {quantile} quantile, correlation {correlation}");
        }
    }

    #[test]
    fn turns_that_differ_are_no_difference_of_targets() {
        // Each turn is off by as much as its intervals stray; the truth is that nothing differs.
        let turns = [15; 6];
        let shape = Wandering { intervals: 15, values: 60, correlation: 0.3, stray: 0.1, scale: 1.0 };
        let hit = |seed: &u64| {
            let mut rng = Rng::new(*seed);
            let mut draws = || {
                let turn = |rng: &mut Rng| Wandering { scale: (0.1 * normal(rng)).exp(), ..shape }.run(rng);
                let run: Vec<Packed> = turns.iter().flat_map(|_| turn(&mut rng)).collect();
                let series = Series::of(&run.iter().collect::<Vec<_>>(), &turns);
                series.draw(0.9, 200, &mut rng).expect("enough")
            };
            let ratio = ratio(&draws(), &draws());
            ratio.low <= 1.0 && 1.0 <= ratio.high
        };
        let share = (0..200).filter(hit).count() as f64 / 200.0;
        assert!((0.904..=0.996).contains(&share), "{share}");
    }

    #[test]
    fn rates_hold_the_truth_as_often_as_they_say() {
        for correlation in [0.0, 0.6] {
            let hit = |seed: &u64| {
                let mut rng = Rng::new(*seed);
                let mut run = |rate: f64| {
                    let mut level = normal(&mut rng);
                    let counts: Vec<f64> = (0..60)
                        .map(|_| {
                            level =
                                correlation * level + (1.0f64 - correlation * correlation).sqrt() * normal(&mut rng);
                            (rate * (1.0 + 0.1 * level)).max(0.0)
                        })
                        .collect();
                    let counted = Counted { counts: &counts, lengths: &[1.0; 60], turns: &[60] };
                    draw_rate(counted, 200, &mut rng).expect("enough")
                };
                let ratio = ratio(&run(1000.0), &run(1200.0));
                ratio.low <= 1.2 && 1.2 <= ratio.high
            };
            let share = (0..200).filter(hit).count() as f64 / 200.0;
            assert!((0.904..=0.996).contains(&share), "{share} with correlation {correlation}");
        }
    }

    #[test]
    fn a_difference_is_found_and_its_size_told() {
        let a = Wandering { intervals: 60, values: 100, correlation: 0.3, stray: 0.05, scale: 1.0 };
        let mut rng = Rng::new(3);
        let first = series(&a.run(&mut rng)).draw(0.9, 300, &mut rng).expect("enough");
        let twice = Wandering { scale: 2.0, ..a };
        let other = series(&twice.run(&mut rng)).draw(0.9, 300, &mut rng).expect("enough");
        let Ratio { ratio, low, high } = ratio(&first, &other);
        assert!(1.8 < low && low < ratio && ratio < high && high < 2.2, "{ratio} in {low} – {high}");
        // A run against itself: an interval round 1.
        let same = super::ratio(&first, &first.clone());
        assert!(same.low < 1.0 && same.ratio == 1.0 && same.high > 1.0);
    }

    #[test]
    fn sums_over_stretches_are_those_of_the_histograms() {
        let mut rng = Rng::new(5);
        let run = Wandering { intervals: 12, values: 50, correlation: 0.0, stray: 0.3, scale: 1.0 }.run(&mut rng);
        let series = series(&run);
        for stretches in [vec![(0, 12)], vec![(3, 7)], vec![(10, 12), (0, 2)], vec![(4, 5), (4, 5), (4, 5)]] {
            let picked = stretches.iter().flat_map(|(from, to)| &run[*from..*to]);
            let sum = Sum::of(picked);
            assert_eq!(series.count(&stretches), sum.count());
            for quantile in [0.1, 0.5, 0.9, 0.99] {
                let (cell, share) = series.place(quantile, &stretches, 0);
                for near in 0..series.cells.len() {
                    assert_eq!(series.place(quantile, &stretches, near), (cell, share), "from {near}");
                }
                let (value, expect) = (series.value(cell, share), sum.value_at(quantile) as f64);
                assert!((value / expect).ln().abs() < 0.02, "{quantile}: {value} for {expect}");
            }
        }
    }

    #[test]
    fn blocks_are_as_long_as_the_dependence() {
        let mut rng = Rng::new(9);
        let mut lengths = |correlation: f64| {
            let mut level = 0.0;
            let series: Vec<f64> = (0..1000)
                .map(|_| {
                    level = correlation * level + normal(&mut rng);
                    level
                })
                .collect();
            block_length(&series)
        };
        let (none, some, much) = (lengths(0.0), lengths(0.7), lengths(0.97));
        assert!(none == 10 && some > 12 && some < 60 && much > 40 && much <= 200, "{none} {some} {much}");
        assert_eq!(block_length(&[1.0; 100]), 5);
    }

    #[test]
    fn too_little_is_said_to_be_too_little() {
        let mut rng = Rng::new(1);
        let mut draw = |intervals: usize, values: usize, quantile: f64| {
            let run = Wandering { intervals, values, correlation: 0.0, stray: 0.1, scale: 1.0 }.run(&mut rng);
            series(&run).draw(quantile, 10, &mut rng).map(drop)
        };
        assert_eq!(draw(9, 100, 0.5), Err(TooFew::Intervals(9)));
        assert_eq!(draw(10, 100, 0.99), Err(TooFew::Values(10)));
        assert_eq!(draw(10, 200, 0.9), Ok(()));
        // One stall has all the values beyond.
        let mut quiet = Histogram::of_client();
        quiet.record_n(1_000_000, 1000);
        let mut stall = quiet.clone();
        stall.record_n(500_000_000, 500);
        let mut run = vec![Packed::from(&quiet); 30];
        run[7] = Packed::from(&stall);
        assert_eq!(series(&run).draw(0.999, 10, &mut rng).map(drop), Err(TooFew::IntervalsBeyond(1)));
        let mut rate = |counts: &[f64], turns: &[usize]| {
            draw_rate(Counted { counts, lengths: &[1.0; 20], turns }, 10, &mut rng).map(drop)
        };
        assert_eq!(rate(&[0.0; 20], &[20]), Err(TooFew::Values(0)));
        assert_eq!(rate(&[1.0; 20], &[10, 5, 5]), Err(TooFew::Turns(3)));
        assert_eq!(rate(&[1.0; 20], &[5; 4]), Ok(()));
    }

    #[test]
    fn students_t_is_near_the_tables() {
        for (degrees, expect) in [(3.0, 3.182), (5.0, 2.571), (10.0, 2.228), (30.0, 2.042), (1000.0, 1.962)] {
            assert!((student(degrees) - expect).abs() < 0.01 * expect, "{degrees}: {}", student(degrees));
        }
    }
}
