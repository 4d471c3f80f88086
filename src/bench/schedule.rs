//! When records are due.
//!
//! *Owns*: the times, which depend on the rate and the seed alone. *Never*: reads a clock: what is due does not move
//! because somebody was late. *Runs on*: every generator thread, one a producer.

use crate::base::rng::Rng;
use crate::bench::workload::Spacing;

/// The due times of one producer's records, without end.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Nanoseconds with 32 binary places, so that a rate that divides no second does not drift.
    next: u128,
    step: u128,
    gaps: Gaps,
}

#[derive(Clone, Debug)]
enum Gaps {
    Fixed,
    Poisson(Rng),
}

impl Schedule {
    /// `rate` is of this producer alone, in records a second, above 0. Of `count` producers the one numbered `index`
    /// is set off by its share of a step, so that together they are as even as one.
    pub fn new(start_ns: u64, rate: f64, spacing: Spacing, (index, count): (u32, u32), seed: u64) -> Schedule {
        assert!(rate > 0.0, "a schedule has a rate");
        assert!(index < count, "producers are numbered from 0");
        // Rounded up, or more than `rate` would be due within a second.
        let step = (1e9 / rate * 4_294_967_296.0).ceil() as u128;
        let start = u128::from(start_ns) << 32;
        match spacing {
            Spacing::Fixed => {
                Schedule { next: start + step * u128::from(index) / u128::from(count), step, gaps: Gaps::Fixed }
            }
            Spacing::Poisson => {
                let rng = Rng::new(seed ^ (u64::from(index) << 32));
                let mut schedule = Schedule { next: start, step, gaps: Gaps::Poisson(rng) };
                schedule.advance();
                schedule
            }
        }
    }

    /// When the next record is due.
    #[inline]
    pub fn due_ns(&self) -> u64 {
        (self.next >> 32) as u64
    }

    /// Goes on to the record after.
    #[inline]
    pub fn advance(&mut self) {
        self.next += match &mut self.gaps {
            Gaps::Fixed => self.step,
            Gaps::Poisson(rng) => {
                // In (0, 1], so that the logarithm is finite.
                let uniform = ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
                (-uniform.ln() * self.step as f64) as u128
            }
        };
    }

    /// How many records are due before `until_ns`, were it asked for all of them.
    pub fn count_until(&self, until_ns: u64) -> u64 {
        let mut schedule = self.clone();
        match schedule.gaps {
            Gaps::Fixed => {
                let left = (u128::from(until_ns) << 32).saturating_sub(schedule.next);
                u64::try_from(left.div_ceil(schedule.step.max(1))).unwrap_or(u64::MAX)
            }
            Gaps::Poisson(_) => {
                let mut count = 0;
                while schedule.due_ns() < until_ns {
                    schedule.advance();
                    count += 1;
                }
                count
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &mut Schedule, count: usize) -> Vec<u64> {
        let mut next = || {
            let due = schedule.due_ns();
            schedule.advance();
            due
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn fixed_times_do_not_drift() {
        let check = |rate: f64, (index, count), expect: &[u64]| {
            let mut schedule = Schedule::new(1000, rate, Spacing::Fixed, (index, count), 1);
            assert_eq!(times(&mut schedule, expect.len()), expect, "{rate}");
        };
        check(1e9, (0, 1), &[1000, 1001, 1002]);
        check(3e8, (0, 1), &[1000, 1003, 1006, 1010, 1013]);
        check(0.5, (0, 1), &[1000, 2_000_001_000]);
        check(1e6, (1, 4), &[1250, 2250, 3250]);
        let mut schedule = Schedule::new(0, 3_333_333.0, Spacing::Fixed, (0, 1), 1);
        assert_eq!(schedule.count_until(1_000_000_000), 3_333_333);
        let last = times(&mut schedule, 3_333_334)[3_333_333];
        assert!((999_999_998..=1_000_000_001).contains(&last), "{last}");
    }

    #[test]
    fn poisson_times_have_the_rate_and_the_spread() {
        let mut schedule = Schedule::new(5, 1e6, Spacing::Poisson, (0, 1), 7);
        let mut twin = Schedule::new(5, 1e6, Spacing::Poisson, (0, 1), 7);
        assert_eq!(schedule.count_until(10_000_000), schedule.clone().count_until(10_000_000));
        let times = times(&mut schedule, 100_001);
        assert!(
            (0..10).all(|i| {
                let due = twin.due_ns();
                twin.advance();
                due == times[i]
            }),
            "the seed decides"
        );
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean - 1000.0).abs() < 15.0 && (deviation - 1000.0).abs() < 25.0, "{mean} ± {deviation}");
    }
}
