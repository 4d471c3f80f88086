//! How fast records go to replicas that are not in sync, where somebody has bounded that (KIP-73).
//!
//! Whoever has taken bytes owes them, and pays at the rate; while anything is owed nothing is taken. So one answer may
//! be as large as any, and the next waits for as long as that is too much.
//!
//! *Owns*: what is owed. *Never*: knows which replicas are bounded. *Runs on*: every core, for its share of the rate.

use crate::base::time::{Instant, Now};

/// It is looked again after so long: the rate may be another then.
const OWED_MS_MAX: u64 = 1_000;

#[derive(Debug, Default)]
pub struct Throttle {
    /// At `at`.
    owed_bytes: u64,
    at: Instant,
}

impl Throttle {
    /// When more may be taken; none: now.
    pub fn opens_at(&mut self, rate: u64, now: Now) -> Option<Instant> {
        self.pay(rate, now.mono);
        let ms = (u128::from(self.owed_bytes) * 1_000).checked_div(u128::from(rate));
        let ms = ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(OWED_MS_MAX);
        (self.owed_bytes > 0 || rate == 0).then(|| now.mono.after_ms(ms.clamp(1, OWED_MS_MAX)))
    }

    pub fn take(&mut self, bytes: usize, rate: u64, now: Now) {
        self.pay(rate, now.mono);
        self.owed_bytes = self.owed_bytes.saturating_add(bytes as u64);
    }

    fn pay(&mut self, rate: u64, now: Instant) {
        let passed_ns = u128::from(now.since_ns(self.at));
        let paid = u128::from(rate) * passed_ns / 1_000_000_000;
        // What is less than a byte is paid with the next.
        if paid > 0 || self.owed_bytes == 0 {
            self.owed_bytes = self.owed_bytes.saturating_sub(u64::try_from(paid).unwrap_or(u64::MAX));
            self.at = self.at.max(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_ms(ms: u64) -> Now {
        Now { mono: Instant(0).after_ms(ms), wall_ms: 0 }
    }

    fn opens_ms(throttle: &mut Throttle, rate: u64, ms: u64) -> Option<u64> {
        let at = throttle.opens_at(rate, after_ms(ms))?;
        Some(at.since_ns(Instant(0)) / 1_000_000)
    }

    #[test]
    fn what_was_taken_is_paid_at_the_rate() {
        let mut throttle = Throttle::default();
        assert_eq!(opens_ms(&mut throttle, 1_000, 5_000), None, "nothing is owed");
        throttle.take(600, 1_000, after_ms(5_000));
        assert_eq!(opens_ms(&mut throttle, 1_000, 5_000), Some(5_600));
        assert_eq!(opens_ms(&mut throttle, 1_000, 5_400), Some(5_600));
        assert_eq!(opens_ms(&mut throttle, 100, 5_400), Some(6_400), "looked again after a second");
        assert_eq!(opens_ms(&mut throttle, 1_000, 5_600), None);
    }

    #[test]
    fn a_little_at_a_time_is_paid_too() {
        let mut throttle = Throttle::default();
        throttle.take(3, 1_000, after_ms(0));
        for quarter_ms in 0..12 {
            let now = Now { mono: Instant(quarter_ms * 250_000), wall_ms: 0 };
            assert!(throttle.opens_at(1_000, now).is_some(), "{quarter_ms}");
        }
        assert_eq!(opens_ms(&mut throttle, 1_000, 3), None);
    }

    #[test]
    fn a_rate_of_nothing_lets_nothing_through() {
        let mut throttle = Throttle::default();
        assert_eq!(opens_ms(&mut throttle, 0, 7), Some(1_007));
        assert_eq!(opens_ms(&mut throttle, u64::MAX, 8), None);
    }
}
