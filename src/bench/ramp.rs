//! The highest rate that still holds a bound: doubling until it does not, then halving the gap.
//!
//! *Owns*: which rate is tried next, and what counts as held. *Never*: runs anything. *Runs on*: the main thread.

use crate::bench::packed::{Packed, Sum};
use crate::bench::run::Finished;
use crate::bench::workload::{RATE_MAX, Workload};

/// The search ends when what held and what did not are this close.
const CLOSE_ENOUGH: f64 = 1.05;

/// Runs of one search.
const STEPS_MAX: u32 = 40;

/// Below this share of valid intervals a step tells of the generator, not of the broker.
const VALID_SHARE_MIN: f64 = 0.5;

/// A share of the asked rate that must have been acknowledged.
const ACKED_SHARE_MIN: f64 = 0.99;

/// What a step showed.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// With this p99.
    Held(u64),
    /// And why.
    Missed(String),
}

/// The search.
#[derive(Clone, PartialEq, Debug)]
pub struct Ramp {
    next: f64,
    held: Option<f64>,
    missed: Option<f64>,
    steps: u32,
}

impl Ramp {
    pub fn new(first_rate: f64) -> Ramp {
        assert!(first_rate > 0.0, "a ramp begins at a rate");
        Ramp { next: first_rate, held: None, missed: None, steps: 0 }
    }

    /// The rate to try, or `None` when the answer is known.
    pub fn next_rate(&self) -> Option<f64> {
        let close = match (self.held, self.missed) {
            (Some(held), Some(missed)) => missed / held < CLOSE_ENOUGH,
            (Some(held), None) => held >= RATE_MAX,
            // Not one record a second.
            (None, Some(missed)) => missed <= 1.0,
            (None, None) => false,
        };
        (!close && self.steps < STEPS_MAX).then_some(self.next)
    }

    pub fn on_step(&mut self, held: bool) {
        self.steps += 1;
        let rate = self.next;
        if held {
            self.held = Some(self.held.map_or(rate, |best| best.max(rate)));
        } else {
            self.missed = Some(self.missed.map_or(rate, |best| best.min(rate)));
        }
        self.next = match (self.held, self.missed) {
            (Some(held), Some(missed)) => (held * missed).sqrt(),
            (Some(held), None) => (held * 2.0).min(RATE_MAX),
            (None, Some(missed)) => missed / 2.0,
            (None, None) => rate,
        };
    }

    /// The highest rate that held.
    pub fn best(&self) -> Option<f64> {
        self.held
    }

    /// The lowest rate that did not.
    pub fn worst(&self) -> Option<f64> {
        self.missed
    }
}

/// Whether a run held the bound.
pub fn judge(workload: &Workload, finished: &Finished, p99_max_ns: u64) -> Step {
    if let Some(why) = &finished.cut_short {
        return Step::Missed(format!("cut short: {why}"));
    }
    let intervals = &finished.result.intervals;
    let valid: Vec<_> = intervals.iter().filter(|interval| interval.invalid.is_none()).collect();
    if valid.is_empty() || (valid.len() as f64) < intervals.len() as f64 * VALID_SHARE_MIN {
        return Step::Missed(format!(
            "the generator itself was late in {} of {} intervals",
            intervals.len() - valid.len(),
            intervals.len()
        ));
    }
    let totals = &finished.result.totals;
    if totals.errors > 0 || totals.lost > 0 {
        return Step::Missed(format!("{} records not acknowledged, {} lost", totals.errors, totals.lost));
    }
    let seconds: f64 = valid.iter().map(|interval| interval.length_ns as f64 / 1e9).sum();
    let acked: u64 = valid.iter().map(|interval| interval.counts.acked).sum();
    let rate = acked as f64 / seconds;
    if rate < workload.rate * ACKED_SHARE_MIN {
        return Step::Missed(format!("only {rate:.0} records/s acknowledged"));
    }
    let produce: Packed = Sum::of(valid.iter().map(|interval| &interval.produce));
    match produce.value_at(0.99) {
        p99 if p99 <= p99_max_ns => Step::Held(p99),
        p99 => Step::Missed(format!("p99 {:.3} ms", p99 as f64 / 1e6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_comes_close_from_either_side() {
        let check = |first: f64, limit: f64| {
            let mut ramp = Ramp::new(first);
            while let Some(rate) = ramp.next_rate() {
                ramp.on_step(rate <= limit);
            }
            let best = ramp.best().expect("some rate holds");
            assert!(best <= limit && best * CLOSE_ENOUGH * 1.001 >= limit, "from {first}: {best} of {limit}");
            assert!(ramp.steps < STEPS_MAX, "{} steps", ramp.steps);
        };
        check(1000.0, 123_456.0);
        check(1_000_000.0, 123_456.0);
        check(123_456.0, 123_456.0);
        check(1.0, 9e8);
    }

    #[test]
    fn a_search_ends_where_nothing_or_everything_holds() {
        for held in [false, true] {
            let mut ramp = Ramp::new(1000.0);
            while ramp.next_rate().is_some() {
                ramp.on_step(held);
            }
            assert_eq!(ramp.best().is_some(), held);
            assert_eq!(ramp.worst().is_none(), held);
        }
    }
}
