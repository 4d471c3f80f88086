//! How much of a journal's file is written: the ring is as large as that, and grows while it is in use.
//!
//! Space that was only reserved is slow to write to (tuning.md), and writing all of it takes longer than a first
//! producer would like to wait. So the ring begins small, and what lies behind it is written in pieces beside the
//! commits. It is used once a header says that the ring has it: a replay looks no further.
//!
//! *Owns*: these sizes. *Never*: writes. *Runs on*: every core, one each.

/// Written at a time. A ring of that size does what any other does.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Growth {
    /// What the ring is to have in the end.
    full: u64,
    piece: u64,
    /// Invariant: `said <= saying <= written <= full`.
    written: u64,
    /// By the header on its way, or by the last one.
    saying: u64,
    /// By a header that is durable.
    said: u64,
    /// A piece is on its way.
    is_writing: bool,
}

impl Growth {
    /// Nothing is written.
    pub(super) fn new(full: u64, piece: u64) -> Growth {
        Growth { full, piece, written: 0, saying: 0, said: 0, is_writing: false }
    }

    pub(super) fn full(&self) -> u64 {
        self.full
    }

    /// For the ring: what it has.
    pub(super) fn said(&self) -> u64 {
        self.said
    }

    /// The file's header has a ring of this size; one that is larger than it should be is no good.
    pub(super) fn take_over(&mut self, ring_bytes: u64) -> bool {
        let fits = ring_bytes <= self.full;
        if fits {
            self.written = ring_bytes;
        }
        fits
    }

    /// What to write next of the ring, from where to where.
    pub(super) fn begin_piece(&mut self) -> Option<(u64, u64)> {
        if self.is_writing || self.written == self.full {
            return None;
        }
        self.is_writing = true;
        Some((self.written, self.full.min(self.written + self.piece)))
    }

    pub(super) fn on_written(&mut self, upto: u64) {
        assert!(self.is_writing && upto > self.written && upto <= self.full);
        self.is_writing = false;
        self.written = upto;
    }

    /// There is no space for more: the ring stays as it is.
    pub(super) fn give_up(&mut self) {
        self.is_writing = false;
        self.full = self.written;
    }

    /// Enough is written to be worth a header.
    pub(super) fn wants_header(&self) -> bool {
        let is_over = self.written == self.full && self.written > self.saying;
        is_over || self.written >= 2 * self.saying
    }

    /// For the header that is written now.
    pub(super) fn say(&mut self) -> u64 {
        self.saying = self.written;
        self.saying
    }

    /// That header is durable. Whether the ring has grown by it.
    pub(super) fn on_said(&mut self) -> bool {
        std::mem::replace(&mut self.said, self.saying) < self.saying
    }
}
