//! What happened, as one number: two runs of a seed must have the same.

use corelog::base::checksum::crc32c;

pub struct Trace {
    hash: u64,
    events: u64,
    /// Also say it, for whoever replays a seed.
    print: bool,
}

impl Trace {
    pub fn new(print: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, print }
    }

    /// Something happened at `at_ns`: what, to whom, how much, with which bytes.
    pub fn note(&mut self, at_ns: u64, what: &str, numbers: &[u64], bytes: &[u8]) {
        self.events += 1;
        self.fold(at_ns);
        self.fold(u64::from(crc32c(what.as_bytes())));
        for number in numbers {
            self.fold(*number);
        }
        self.fold(bytes.len() as u64);
        self.fold(u64::from(crc32c(bytes)));
        if self.print {
            eprintln!("{:>12.6} {what} {numbers:?} {} bytes", at_ns as f64 / 1e9, bytes.len());
        }
    }

    /// Words for a reader; no part of the trace.
    pub fn say(&self, at_ns: u64, text: impl FnOnce() -> String) {
        if self.print {
            eprintln!("{:>12.6} -- {}", at_ns as f64 / 1e9, text());
        }
    }

    pub fn sum(&self) -> (u64, u64) {
        (self.hash, self.events)
    }

    fn fold(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash ^= self.hash >> 29;
    }
}
