//! Two ways to a durable write: one that is durable when it ends (O_DSYNC), or a write and then an fdatasync.
//!
//! Where the device takes forced writes, the first is one operation and no kernel thread has part in it. Where it does
//! not, a kernel thread flushes the device's cache: for the first way one on the processor that the device interrupts,
//! for the second one on the core's own. Either may have to wait for whatever else runs there, for milliseconds. So
//! both are timed, and the quicker one is taken (figures: tuning.md).
//!
//! *Owns*: which way is quicker at present. *Never*: does without either. *Runs on*: every core.

use std::time::{Duration, Instant};

/// How a write is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    DurableWrite,
    WriteAndSync,
}

/// How often the way not taken is tried, and with how many writes, unless the first of them are slow.
const TRY_EVERY: Duration = Duration::from_secs(1);
const TRY_WRITES: u32 = 8;
const TRY_SLOWNESS_MAX: f64 = 2.0;

/// After a slow try the next one waits so many times as long as that took, up to a bound. Everybody waits for a try,
/// and where a busy processor keeps the kernel's thread from it that is for 0.4 s (tuning.md).
const TRY_PAUSE: u32 = 1000;
const TRY_EVERY_MAX: Duration = Duration::from_secs(60);

/// The weight of the newest time in the mean of the way taken, and of one tried in its own.
const TAKEN_WEIGHT: f64 = 1.0 / 8.0;
const TRIED_WEIGHT: f64 = 1.0 / 4.0;

/// The other way is taken when it needs less than this share of the time.
const BETTER: f64 = 0.8;

/// A write of no bytes takes about as long as so many more bytes do.
const FIXED_BYTES: f64 = 65_536.0;

#[derive(Debug)]
pub struct Ways {
    taken: Way,
    /// Nanoseconds per byte, those of a write's fixed part included; of [`Way::DurableWrite`] first.
    means: [Option<f64>; 2],
    /// When the way not taken is tried next.
    try_at: Option<Instant>,
    tries_left: u32,
}

impl Default for Ways {
    fn default() -> Self {
        Ways { taken: Way::WriteAndSync, means: [None; 2], try_at: None, tries_left: 0 }
    }
}

impl Ways {
    /// The way for a write at `now`; to be told how long it took.
    pub fn pick(&mut self, now: Instant) -> Way {
        if self.try_at.is_none_or(|at| now >= at) {
            self.try_at = Some(now + TRY_EVERY);
            self.tries_left = TRY_WRITES;
        }
        if self.tries_left == 0 {
            return self.taken;
        }
        self.tries_left -= 1;
        self.taken.other()
    }

    pub fn on_written(&mut self, way: Way, bytes: usize, took: Duration) {
        let cost = took.as_nanos() as f64 / (FIXED_BYTES + bytes as f64);
        let weight = if way == self.taken { TAKEN_WEIGHT } else { TRIED_WEIGHT };
        let mean = &mut self.means[way as usize];
        *mean = Some(mean.map_or(cost, |mean| mean + (cost - mean) * weight));
        let taken = self.means[self.taken as usize].unwrap_or(f64::INFINITY);
        if way != self.taken && cost > taken * TRY_SLOWNESS_MAX {
            self.tries_left = 0;
            let pause = (took * TRY_PAUSE).min(TRY_EVERY_MAX);
            self.try_at = self.try_at.map(|at| at + pause.saturating_sub(TRY_EVERY));
        }
        let other = self.taken.other();
        if let (Some(taken), Some(tried)) = (self.means[self.taken as usize], self.means[other as usize])
            && tried < taken * BETTER
        {
            self.taken = other;
            self.tries_left = 0;
        }
    }
}

impl Way {
    fn other(self) -> Way {
        match self {
            Way::DurableWrite => Way::WriteAndSync,
            Way::WriteAndSync => Way::DurableWrite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes for so many seconds, 1,000 a second, each way taking as many microseconds; how many took each way.
    fn write(ways: &mut Ways, now: &mut Instant, seconds: u32, micros: [u64; 2]) -> [u32; 2] {
        let mut counts = [0; 2];
        for _ in 0..seconds * 1000 {
            let way = ways.pick(*now);
            let took = Duration::from_micros(micros[way as usize]);
            ways.on_written(way, 4096, took);
            counts[way as usize] += 1;
            *now += Duration::from_millis(1);
        }
        counts
    }

    #[test]
    fn the_quicker_way_is_taken_and_the_other_is_tried_once_a_second() {
        let (mut ways, mut now) = (Ways::default(), Instant::now());
        assert_eq!(write(&mut ways, &mut now, 10, [100, 250])[1], 1 + 9, "one slow write ends a try");
        let tried = write(&mut ways, &mut now, 10, [100, 150])[1];
        assert_eq!(tried, 10 * TRY_WRITES, "a fair one goes on");
        let [slow, _] = write(&mut ways, &mut now, 10, [5000, 200]);
        assert!(slow <= 12, "one slow write is enough to turn away: {slow}");
        let [quick, _] = write(&mut ways, &mut now, 20, [100, 200]);
        assert!(quick > 10_000, "it is taken again after a few good tries: {quick}");
        let [stalled, _] = write(&mut ways, &mut now, 300, [400_000, 200]);
        assert!(stalled <= 6, "it is tried the more seldom the longer everybody waits for a try: {stalled}");
        let [quick, _] = write(&mut ways, &mut now, 120, [100, 200]);
        assert!(quick > 40_000, "and taken again nevertheless: {quick}");
        let before = write(&mut ways, &mut now, 10, [100, 110]);
        assert!(before[1] <= 10 * TRY_WRITES, "a little is no reason to change: {before:?}");
    }
}
