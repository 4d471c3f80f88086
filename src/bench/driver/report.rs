//! What a generator thread reports while it runs, and what is left when it has ended.
//!
//! *Owns*: the form of both. *Never*: adds up (`bench/collect` does). *Runs on*: from a generator thread to the one that
//! collects.

use std::collections::BTreeMap;

use crate::base::histogram::Histogram;
use crate::bench::complaints::Complaints;
use crate::bench::consumer::Consumer;
use crate::bench::meter::Slot;
use crate::bench::result::Counts;
use crate::bench::tally::SentStream;

/// Messages to the thread that collects, with the number of the thread they are from.
pub enum Report {
    /// Every connection stands and every consumer is in its place.
    Ready,
    /// Its share of the backlog is acknowledged.
    Filled,
    Measured(Measured),
    Ended(Box<Ending>),
}

/// What came since the last one.
pub struct Measured {
    pub thread: usize,
    pub at_ns: u64,
    pub slots: Vec<Slot>,
    pub totals: Counts,
    /// Records that its consumers have not come to.
    pub lag_records: u64,
    /// It has nothing more to send.
    pub is_draining: bool,
}

/// What is left when a thread has ended.
pub struct Ending {
    pub connect: Histogram,
    pub complaints: Complaints,
    /// Why it ended before its time.
    pub gave_up: Option<String>,
    /// When, on the run's clock.
    pub at_ns: u64,
    /// Records that were due and never sent.
    pub never_sent: u64,
    /// What its producers sent, by stream.
    pub sent: BTreeMap<u32, SentStream>,
    pub readers: Vec<Reader>,
    /// Of the members of groups.
    pub join: Histogram,
    pub commit: Histogram,
}

/// A consumer at the end of a run.
pub struct Reader {
    /// The group that it was a member of.
    pub group: Option<u32>,
    pub consumer: Consumer,
    /// Whether it, and with a group everybody of the thread, had come to the end of the logs.
    pub is_drained: bool,
}
