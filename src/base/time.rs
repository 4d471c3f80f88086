//! Time as an argument.
//!
//! *Owns*: the two readings of time that a decision may use, and which one a record keeps. *Never*: reads a clock.
//! *Runs on*: every core.

/// Nanoseconds since the process started: never goes back, used for deadlines and latencies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Instant(pub u64);

impl Instant {
    pub fn after_ms(self, ms: u64) -> Instant {
        Instant(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Nanoseconds from `earlier` to here; 0 when `earlier` is later.
    pub fn since_ns(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The earliest of several deadlines, of those that there are. As a chain of iterators over optional values the
    /// same becomes hundreds of vector instructions, and every append asks.
    #[inline]
    pub fn first_of<const N: usize>(deadlines: [Option<Instant>; N]) -> Option<Instant> {
        let mut first = NEVER;
        for deadline in deadlines {
            first = first.min(deadline.unwrap_or(NEVER));
        }
        (first != NEVER).then_some(first)
    }
}

/// Later than any process runs.
const NEVER: Instant = Instant(u64::MAX);

/// What time it is, handed into every step.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Now {
    pub mono: Instant,
    /// Milliseconds since the Unix epoch: record timestamps, retention. May jump.
    pub wall_ms: i64,
}

/// Which timestamp a record keeps (`message.timestamp.type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The time of appending, set by the broker.
    LogAppendTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_deadline_is_the_earliest_that_there_is() {
        let at = |ns| Some(Instant(ns));
        for (deadlines, expect) in [
            ([None, None, None], None),
            ([None, at(7), None], at(7)),
            ([at(9), None, at(0)], at(0)),
            ([at(3), at(2), at(4)], at(2)),
        ] {
            assert_eq!(Instant::first_of(deadlines), expect, "{deadlines:?}");
        }
    }
}
