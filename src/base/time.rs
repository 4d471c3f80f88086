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
}

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
