//! What a journal learns of its device: from how many bytes on a write costs more than being waited for by itself.
//!
//! A commit takes `fixed + bytes × per byte`. What goes through the journal is written twice, so its second write costs
//! `bytes × per byte`; what goes to its segment directly costs a sync of its own, about `fixed`. Both are told by the
//! quickest commits of late: the others waited for something else.
//!
//! *Owns*: these two figures. *Never*: reads a clock. *Runs on*: every core, one each.

use std::ops::RangeInclusive;

use crate::base::limits::JOURNAL_ENTRY_BYTES_MAX;

/// A commit of no more tells what is fixed.
const SMALL_BYTES: u64 = 16 << 10;
/// One of at least so much tells what a byte costs.
const LARGE_BYTES: u64 = 128 << 10;

/// Commits of each kind after which what they have taught is used, and the next lesson begins.
const LESSON: u32 = 64;

/// Whatever the device seems to say.
const DIRECT_BYTES: RangeInclusive<u64> = 32 << 10..=JOURNAL_ENTRY_BYTES_MAX as u64;

#[derive(Debug, Default)]
pub struct Learned {
    small: Lesson,
    large: Lesson,
    fixed_ns: Option<f64>,
    per_byte_ns: Option<f64>,
}

#[derive(Debug, Default)]
struct Lesson {
    count: u32,
    /// The least so far of the figure in question.
    least: f64,
}

impl Lesson {
    /// The least of a lesson that is over.
    fn learn(&mut self, figure: f64) -> Option<f64> {
        self.least = if self.count == 0 { figure } else { self.least.min(figure) };
        self.count += 1;
        (self.count >= LESSON).then(|| std::mem::take(self).least)
    }
}

impl Learned {
    /// A commit of `bytes` took `ns`.
    pub fn on_commit(&mut self, bytes: u64, ns: u64) {
        assert!(bytes > 0);
        if bytes <= SMALL_BYTES {
            self.fixed_ns = self.small.learn(ns as f64).or(self.fixed_ns);
        } else if let Some(fixed_ns) = self.fixed_ns.filter(|_| bytes >= LARGE_BYTES) {
            let per_byte_ns = (ns as f64 - fixed_ns).max(0.0) / bytes as f64;
            self.per_byte_ns = self.large.learn(per_byte_ns).or(self.per_byte_ns);
        }
    }

    /// From so many pending bytes on a segment is better written directly. `None` until both figures are known.
    pub fn direct_bytes(&self) -> Option<u64> {
        let (fixed_ns, per_byte_ns) = (self.fixed_ns?, self.per_byte_ns?);
        // Saturates where a byte costs nothing.
        let bytes = (fixed_ns / per_byte_ns) as u64;
        Some(bytes.clamp(*DIRECT_BYTES.start(), *DIRECT_BYTES.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    #[test]
    fn devices_are_told_apart_under_noise() {
        let check = |fixed_us: u64, mib_us: u64, expect: RangeInclusive<u64>| {
            let mut rng = Rng::new(fixed_us);
            let mut learned = Learned::default();
            for commit in 0..4000 {
                assert!(commit > 2 * u64::from(LESSON) || learned.direct_bytes().is_none());
                let bytes = if commit % 2 == 0 { 4096 << rng.below(3) } else { 131_072 + 4096 * rng.below(200) };
                let ns = fixed_us * 1000 + bytes * mib_us * 1000 / (1 << 20);
                let noise = if rng.below(4) == 0 { ns / 50 } else { ns * rng.below(30) };
                learned.on_commit(bytes, ns + noise);
            }
            let direct = learned.direct_bytes().expect("enough was seen");
            assert!(expect.contains(&direct), "{fixed_us} us and {mib_us} us a MiB: {direct}");
        };
        check(20, 300, 60_000..=80_000);
        check(50, 400, 110_000..=150_000);
        check(100, 250, *DIRECT_BYTES.end()..=*DIRECT_BYTES.end());
        check(8000, 10_000, *DIRECT_BYTES.end()..=*DIRECT_BYTES.end());
        check(2, 2000, *DIRECT_BYTES.start()..=*DIRECT_BYTES.start());
    }

    #[test]
    fn one_kind_of_commit_teaches_nothing() {
        let mut learned = Learned::default();
        for _ in 0..1000 {
            learned.on_commit(4096, 100_000);
            learned.on_commit(65_536, 120_000);
        }
        assert_eq!(learned.direct_bytes(), None);
    }
}
