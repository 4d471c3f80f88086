//! Replies on their way into one connection's socket, those whose time is told.
//!
//! *Owns*: which bytes of the connection's stream are whose. *Never*: holds a reply. *Runs on*: every core, for the
//! connections it accepted.

use std::collections::VecDeque;

use crate::base::stage::{Stage, Timed, Trace};
use crate::base::stage_counts::StageCounts;
use crate::base::time::Instant;

#[derive(Debug, Default)]
pub struct Sending {
    /// Bytes of replies queued for the socket, and taken by it, since the connection began.
    queued: u64,
    taken: u64,
    /// In the order of their bytes. Bounded: a connection with many is not read.
    replies: VecDeque<Timing>,
}

#[derive(Debug)]
struct Timing {
    first: u64,
    end: u64,
    timed: Timed,
    trace: Trace,
}

impl Sending {
    /// Timed replies that the socket has not taken.
    pub fn waiting(&self) -> usize {
        self.replies.len()
    }

    /// A reply of so many bytes goes to the socket.
    pub fn push(&mut self, bytes: usize, timed: Option<(Timed, Trace)>) {
        let first = self.queued;
        self.queued += bytes as u64;
        if let Some((timed, trace)) = timed {
            self.replies.push_back(Timing { first, end: self.queued, timed, trace });
        }
    }

    /// The socket took bytes in an attempt that began at `began`. Counts the replies it now has the whole of.
    pub fn on_taken(&mut self, bytes: usize, began: Instant, now: Instant, counts: &mut StageCounts) {
        let before = self.taken;
        self.taken += bytes as u64;
        while let Some(reply) = self.replies.front_mut().filter(|reply| reply.first < self.taken) {
            if reply.first >= before {
                reply.trace.waited_until(Stage::ReplyQueue, began);
            }
            if reply.end > self.taken {
                return;
            }
            reply.trace.waited_until(Stage::SocketWrite, now);
            counts.record(reply.timed, &reply.trace);
            self.replies.pop_front();
        }
        // An idle connection holds no memory for its past bursts.
        if self.replies.is_empty() && self.replies.capacity() > 16 {
            self.replies = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_over_when_the_socket_has_its_last_byte() {
        let at = |us: u64| Instant(us << 10);
        let (mut sending, mut counts) = (Sending::default(), StageCounts::default());
        let timed = || Some((Timed::Fetch, Trace::begin(at(0))));
        sending.push(10, timed());
        sending.push(5, None);
        sending.push(10, timed());
        sending.push(10, timed());
        let mut took = |bytes, began, now| {
            sending.on_taken(bytes, at(began), at(now), &mut counts);
            let snapshot = counts.snapshot();
            let sum = |stage: Stage| snapshot.sum_ns(Timed::Fetch, stage as usize) >> 10;
            let sums = (sum(Stage::ReplyQueue), sum(Stage::SocketWrite), sum(Stage::Total), sum(Stage::Unaccounted));
            (sending.waiting(), snapshot.requests[Timed::Fetch as usize], sums)
        };
        assert_eq!(took(9, 10, 11), (3, 0, (0, 0, 0, 0)));
        assert_eq!(took(1, 20, 30), (2, 1, (10, 20, 30, 0)));
        assert_eq!(took(5, 31, 32), (2, 1, (10, 20, 30, 0)));
        // The end of one and the beginning of the next.
        assert_eq!(took(11, 40, 45), (1, 2, (50, 25, 75, 0)));
        assert_eq!(took(9, 50, 100), (0, 3, (90, 85, 175, 0)));
    }
}
