//! Appends of one partition that are not acknowledged yet, in the two ways there are: by what is safe here, and by what
//! all in-sync replicas have.
//!
//! *Owns*: who is told next, and what. *Never*: knows why an offset is reached. *Runs on*: the core that owns the
//! partition.

use std::collections::VecDeque;
use std::mem;

use crate::base::ids::Offset;
use crate::base::stage::{Stage, Trace};
use crate::base::time::Instant;
use crate::log::log::{Appended, WriteTimes};

use super::partition::{AckResult, AckTo, AckWhen, Acked, Refusal};

#[derive(Debug, Default)]
pub(super) struct Acks {
    /// Each in the order of appends, so of offsets.
    on_safe: VecDeque<PendingAck>,
    on_committed: VecDeque<PendingAck>,
}

#[derive(Debug)]
struct PendingAck {
    last: Offset,
    to: AckTo,
    base: Offset,
    log_append_time_ms: i64,
    /// The client waits no longer.
    due: Option<Instant>,
    trace: Trace,
}

impl Acks {
    pub(super) fn push(&mut self, when: AckWhen, appended: &Appended, to: AckTo, trace: Trace) {
        let Appended { base, last, log_append_time_ms, duplicate } = *appended;
        let (acks, due) = match when {
            AckWhen::Safe => (&mut self.on_safe, None),
            AckWhen::Committed { due } => (&mut self.on_committed, due),
        };
        acks.push_back(PendingAck { last, to, base, log_append_time_ms, due, trace });
        if duplicate {
            // Its original may be safe already, and then nothing else would release this ack.
            acks.make_contiguous().sort_by_key(|ack| ack.last);
        }
    }

    /// Acknowledges what has come as far as it has to.
    pub(super) fn release(
        &mut self,
        safe_end: Offset,
        committed: Offset,
        log_start: Offset,
        times: &WriteTimes,
        out: &mut Vec<Acked>,
    ) {
        for (acks, end) in [(&mut self.on_safe, safe_end), (&mut self.on_committed, committed)] {
            while acks.front().is_some_and(|ack| ack.last < end) {
                let Some(ack) = acks.pop_front() else { break };
                out.push(ack.stored(log_start, times));
            }
        }
    }

    /// What lies at `from` or behind was given up.
    pub(super) fn refuse_from(&mut self, from: Offset, refusal: &Refusal, out: &mut Vec<Acked>) {
        for acks in [&mut self.on_safe, &mut self.on_committed] {
            let kept = acks.partition_point(|ack| ack.last < from);
            out.extend(acks.drain(kept..).rev().map(|ack| ack.refused(refusal.clone())));
        }
    }

    /// Nobody is told anything else any more.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal, out: &mut Vec<Acked>) {
        self.refuse_from(Offset(0), refusal, out);
    }

    /// Those that wait for other replicas.
    pub(super) fn refuse_uncommitted(&mut self, refusal: &Refusal, out: &mut Vec<Acked>) {
        out.extend(self.on_committed.drain(..).map(|ack| ack.refused(refusal.clone())));
    }

    /// Clients that wait for other replicas, and no longer.
    pub(super) fn time_out(&mut self, now: Instant, out: &mut Vec<Acked>) {
        if self.on_committed.iter().any(|ack| ack.is_over(now)) {
            let (over, kept) = mem::take(&mut self.on_committed).into_iter().partition(|ack| ack.is_over(now));
            self.on_committed = kept;
            let over: VecDeque<PendingAck> = over;
            out.extend(over.into_iter().map(|ack| ack.refused(Refusal::TimedOut)));
        }
    }

    /// When the client that came first waits no longer.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.on_committed.front()?.due
    }
}

impl PendingAck {
    fn is_over(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    fn stored(mut self, log_start: Offset, times: &WriteTimes) -> Acked {
        self.trace.waited_until(Stage::WriteQueue, times.began);
        self.trace.waited_until(Stage::DeviceWrite, times.written);
        self.trace.waited_until(Stage::Sync, times.safe);
        let result = AckResult::Stored { base: self.base, log_append_time_ms: self.log_append_time_ms, log_start };
        Acked { to: self.to, result, trace: self.trace }
    }

    fn refused(self, refusal: Refusal) -> Acked {
        Acked { to: self.to, result: AckResult::Refused(refusal), trace: self.trace }
    }
}
