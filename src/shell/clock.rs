//! The clock: the one place where time is read.
//!
//! *Owns*: the instant that a process's [`Instant`]s count from. *Never*: differs between the cores of a process.
//! *Runs on*: every core, a copy each.

use std::time::{self, SystemTime, UNIX_EPOCH};

use crate::base::time::{Instant, Now};

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: time::Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { start: time::Instant::now() }
    }

    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.instant(), wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX) }
    }

    pub fn instant(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_the_wall_shows_this_century() {
        let clock = Clock::start();
        let first = clock.now();
        let second = clock.now();
        assert!(second.mono >= first.mono);
        assert!(first.wall_ms > 1_700_000_000_000);
    }
}
