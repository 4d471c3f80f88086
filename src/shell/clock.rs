//! The clock: the one place where time is read.
//!
//! Every step and every stage of a request needs a reading, so it must be cheap: where the kernel itself takes the
//! processor's time stamp counter for the time, this reads the counter, at less than half of what a call to the C
//! library costs (tuning.md).
//!
//! *Owns*: the instant that a process's [`Instant`]s count from. *Never*: differs between the cores of a process.
//! *Runs on*: every core, a copy each.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::OnceLock;
use std::thread;
use std::time::{self, Duration, SystemTime, UNIX_EPOCH};

use crate::base::stage::Stopwatch;
use crate::base::time::{Instant, Now};

/// How long the counter is held against the system's clock, at the start of the process: readings of the latter are
/// good to some 50 ns, so this makes for a few millionths.
const CALIBRATION: Duration = Duration::from_millis(20);

/// The wall clock is asked again after so long. Until then it goes on with the monotonic one.
const WALL_NS: u64 = 5_000_000;

/// What the process's time is read from.
#[derive(Clone, Copy, Debug)]
enum Source {
    System {
        zero: time::Instant,
    },
    /// The processor's counter: at `zero` the process began to count, and each tick is so many 2^-32 of a nanosecond.
    Counter {
        zero: u64,
        scale: u64,
    },
}

static SOURCE: OnceLock<Source> = OnceLock::new();

#[derive(Clone, Debug)]
pub struct Clock {
    /// What the wall clock is ahead of the monotonic one by, in nanoseconds, and until when that is believed.
    wall_ahead: Cell<(u64, Instant)>,
}

impl Clock {
    pub fn start() -> Clock {
        SOURCE.get_or_init(choose);
        Clock { wall_ahead: Cell::new((0, Instant(0))) }
    }

    pub fn now(&self) -> Now {
        let mono = instant();
        let (mut ahead, until) = self.wall_ahead.get();
        if mono >= until {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let wall = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
            ahead = wall.saturating_sub(mono.0);
            self.wall_ahead.set((ahead, Instant(mono.0 + WALL_NS)));
        }
        Now { mono, wall_ms: (ahead.saturating_add(mono.0) / 1_000_000) as i64 }
    }

    pub fn instant(&self) -> Instant {
        instant()
    }

    /// What the time is read from, for the user.
    pub fn source(&self) -> &'static str {
        match SOURCE.get() {
            Some(Source::Counter { .. }) => "the processor's time stamp counter",
            _ => "the system's; the kernel does not use the processor's counter",
        }
    }

    /// For what happens within a step.
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch::new(instant)
    }
}

#[inline]
fn instant() -> Instant {
    match SOURCE.get() {
        Some(Source::Counter { zero, scale }) => {
            let ticks = counter().saturating_sub(*zero);
            Instant(((u128::from(ticks) * u128::from(*scale)) >> 32) as u64)
        }
        Some(Source::System { zero }) => system(*zero),
        None => unreachable!("a clock was started"),
    }
}

fn system(zero: time::Instant) -> Instant {
    Instant(u64::try_from(zero.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

fn choose() -> Source {
    let trusted = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    if !has_counter() || !trusted.is_ok_and(|name| name.trim() == "tsc") {
        return Source::System { zero: time::Instant::now() };
    }
    let (first, begin) = both();
    thread::sleep(CALIBRATION);
    let (second, end) = both();
    let ns = u64::try_from(end.duration_since(begin).as_nanos()).unwrap_or(u64::MAX);
    match scale(second.saturating_sub(first), ns) {
        Some(scale) => Source::Counter { zero: first, scale },
        None => Source::System { zero: begin },
    }
}

/// Nanoseconds per tick, times 2^32. None when that is nothing a processor does: 0.1 to 10 GHz.
fn scale(ticks: u64, ns: u64) -> Option<u64> {
    let scale = (u128::from(ns) << 32).checked_div(u128::from(ticks))?;
    u64::try_from(scale).ok().filter(|scale| ((1 << 32) / 10..10 << 32).contains(scale))
}

/// The counter and the system's clock at the same time, as nearly as a few attempts allow.
fn both() -> (u64, time::Instant) {
    let attempts = (0..16).map(|_| {
        let before = counter();
        let now = time::Instant::now();
        let after = counter();
        (after.saturating_sub(before), before + after.saturating_sub(before) / 2, now)
    });
    let (_, ticks, now) = attempts.min_by_key(|(width, ..)| *width).expect("there are attempts");
    (ticks, now)
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets user space run it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Whether the counter runs at one speed whatever the processor does.
#[cfg(target_arch = "x86_64")]
fn has_counter() -> bool {
    use std::arch::x86_64::__cpuid;
    const POWER: u32 = 0x8000_0007;
    const INVARIANT: u32 = 1 << 8;
    __cpuid(0x8000_0000).eax >= POWER && __cpuid(POWER).edx & INVARIANT != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    0
}

#[cfg(not(target_arch = "x86_64"))]
fn has_counter() -> bool {
    false
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

    #[test]
    fn the_clock_goes_as_fast_as_the_systems_and_the_wall_with_it() {
        let clock = Clock::start();
        let (outer, before, inner) = (time::Instant::now(), clock.now(), time::Instant::now());
        while inner.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        let least = inner.elapsed().as_nanos() as u64;
        let after = clock.now();
        let most = outer.elapsed().as_nanos() as u64;
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
        let passed = after.mono.since_ns(before.mono);
        assert!(passed as f64 >= least as f64 * 0.999, "{passed} of {least} ns");
        assert!(passed as f64 <= most as f64 * 1.001, "{passed} of {most} ns");
        assert!((0..=1000).contains(&(wall_ms - after.wall_ms + 1)), "{wall_ms} {}", after.wall_ms);
    }

    #[test]
    fn all_threads_see_one_time() {
        let clock = Clock::start();
        let first = clock.instant();
        let other = thread::spawn(|| Clock::start().instant()).join().expect("the thread ends");
        assert!(first <= other && other <= clock.instant());
    }

    #[test]
    fn a_speed_that_no_processor_has_is_not_believed() {
        assert_eq!(scale(1 << 20, 1 << 20), Some(1 << 32));
        assert_eq!(scale(4 << 20, 1 << 20), Some(1 << 30));
        for (ticks, ns) in [(0, 1000), (1000, 0), (1, 1_000_000), (1 << 40, 1)] {
            assert_eq!(scale(ticks, ns), None, "{ticks} ticks in {ns} ns");
        }
    }
}
