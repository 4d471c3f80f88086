//! What one generator thread measures, interval by interval.
//!
//! A record belongs to the interval in which it was to be sent, however late its end comes: a stall is then seen
//! where it began, and a late generator spoils its own interval.
//!
//! *Owns*: the histograms of the intervals at hand. *Never*: packs or merges (another thread does).
//! *Runs on*: each generator thread, one of its own.

use crate::base::histogram::Histogram;
use crate::bench::consumer::{Arrival, Received};
use crate::bench::result::Counts;

/// The intervals of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// When the first one begins: the end of the warm-up.
    pub start_ns: u64,
    pub interval_ns: u64,
    pub count: u32,
}

impl Frame {
    /// `duration_ns` that is no multiple of the interval makes the last one shorter.
    pub fn new(start_ns: u64, interval_ns: u64, duration_ns: u64) -> Frame {
        let count = u32::try_from(duration_ns.div_ceil(interval_ns)).expect("a workload is checked");
        Frame { start_ns, interval_ns, count }
    }

    /// The interval that `at_ns` lies in; `None` in the warm-up and after the end.
    pub fn index(&self, at_ns: u64) -> Option<u32> {
        let index = at_ns.checked_sub(self.start_ns)? / self.interval_ns;
        u32::try_from(index).ok().filter(|index| *index < self.count)
    }
}

/// What was measured of one interval since it was last handed over.
#[derive(Debug)]
pub struct Slot {
    pub index: u32,
    pub produce: Histogram,
    pub e2e: Histogram,
    pub lateness: Histogram,
    pub counts: Counts,
}

#[derive(Debug)]
pub struct Meter {
    frame: Frame,
    slots: Vec<Slot>,
    /// Bounds of the interval of `slots[last]`.
    last: usize,
    last_from_ns: u64,
    last_to_ns: u64,
    /// Of everything, in the warm-up too, since it was last handed over.
    totals: Counts,
}

impl Slot {
    fn new(index: u32) -> Slot {
        Slot {
            index,
            produce: Histogram::of_client(),
            e2e: Histogram::of_client(),
            lateness: Histogram::of_client(),
            counts: Counts::default(),
        }
    }
}

impl Meter {
    pub fn new(frame: Frame) -> Meter {
        Meter { frame, slots: Vec::new(), last: 0, last_from_ns: 0, last_to_ns: 0, totals: Counts::default() }
    }

    /// A record that was due at `due_ns` was handed over `late_ns` later.
    #[inline]
    pub fn on_sent(&mut self, due_ns: u64, late_ns: u64) {
        if let Some(slot) = self.slot(due_ns) {
            slot.lateness.record(late_ns);
            slot.counts.sent += 1;
        }
        self.totals.sent += 1;
    }

    /// A batch of records, with when each was due, was acknowledged.
    pub fn on_acked(&mut self, due_ns: &[u64], at_ns: u64, value_bytes: u64) {
        let all = due_ns.len();
        // Each interval has the bytes of its part of the batch, and together they have all of them.
        let bytes =
            |from: usize, to: usize| value_bytes * to as u64 / all as u64 - value_bytes * from as u64 / all as u64;
        let mut at = 0;
        while at < all {
            let first = due_ns[at];
            if self.slot(first).is_none() {
                at += 1;
                continue;
            }
            // Most of a batch is of one interval.
            let (from, to) = (self.last_from_ns, self.last_to_ns);
            let same = due_ns[at..].iter().take_while(|due| (from..to).contains(*due)).count();
            let end = at + same.max(1);
            let slot = &mut self.slots[self.last];
            for due in &due_ns[at..end] {
                slot.produce.record(at_ns.saturating_sub(*due));
            }
            slot.counts.acked += (end - at) as u64;
            slot.counts.acked_bytes += bytes(at, end);
            slot.counts.sent_bytes += bytes(at, end);
            at = end;
        }
        self.totals.acked += due_ns.len() as u64;
        self.totals.acked_bytes += value_bytes;
        self.totals.sent_bytes += value_bytes;
    }

    /// The same batch: when its request was sent.
    pub fn on_waited(&mut self, due_ns: &[u64], sent_ns: u64) {
        let Some(&first) = due_ns.first() else { return };
        let wait_ns: u64 = due_ns.iter().map(|due| sent_ns.saturating_sub(*due)).sum();
        self.count(first, |counts| counts.wait_us += wait_ns / 1000);
    }

    /// A request was sent and answered.
    pub fn on_answered(&mut self, sent_ns: u64, at_ns: u64) {
        self.count(sent_ns, |counts| {
            counts.requests += 1;
            counts.request_us += at_ns.saturating_sub(sent_ns) / 1000;
        });
    }

    /// Records that were never acknowledged: what they had waited by then is the least they took.
    pub fn on_failed(&mut self, due_ns: &[u64], at_ns: u64, value_bytes: u64) {
        for &due in due_ns {
            if let Some(slot) = self.slot(due) {
                slot.produce.record(at_ns.saturating_sub(due));
                slot.counts.errors += 1;
            }
        }
        self.totals.errors += due_ns.len() as u64;
        self.totals.sent_bytes += value_bytes;
    }

    /// Records that consumers got.
    pub fn on_arrived(&mut self, arrivals: &[Arrival]) {
        for arrival in arrivals {
            if let Some(slot) = self.slot(arrival.due_ns) {
                slot.e2e.record(arrival.at_ns.saturating_sub(arrival.due_ns));
            }
        }
    }

    /// How much consumers got by `at_ns`, since they were last asked. Unlike latencies it counts where it arrived: a
    /// backlog is read faster than it was due. What comes after the end is in the totals alone.
    pub fn on_received(&mut self, at_ns: u64, received: &Received) {
        let add = |counts: &mut Counts| {
            counts.received += received.records;
            counts.received_bytes += received.value_bytes;
            counts.duplicates += received.duplicates;
            counts.reordered += received.reordered;
        };
        if let Some(slot) = self.slot(at_ns) {
            add(&mut slot.counts);
        }
        add(&mut self.totals);
    }

    /// Anything else, counted where it happens.
    pub fn count(&mut self, at_ns: u64, add: impl Fn(&mut Counts)) {
        if let Some(slot) = self.slot(at_ns) {
            add(&mut slot.counts);
        }
        add(&mut self.totals);
    }

    /// Hands over every interval but that of `now_ns`, and the totals; at the end, all of them.
    pub fn take(&mut self, now_ns: Option<u64>) -> (Vec<Slot>, Counts) {
        let current = now_ns.and_then(|now_ns| self.frame.index(now_ns));
        let (kept, taken) = std::mem::take(&mut self.slots).into_iter().partition(|slot| Some(slot.index) == current);
        self.slots = kept;
        (self.last, self.last_from_ns, self.last_to_ns) = (0, 0, 0);
        (taken, std::mem::take(&mut self.totals))
    }

    #[inline]
    fn slot(&mut self, due_ns: u64) -> Option<&mut Slot> {
        if !(self.last_from_ns..self.last_to_ns).contains(&due_ns) {
            self.find(due_ns)?;
        }
        Some(&mut self.slots[self.last])
    }

    fn find(&mut self, due_ns: u64) -> Option<()> {
        let index = self.frame.index(due_ns)?;
        self.last = match self.slots.iter().position(|slot| slot.index == index) {
            Some(place) => place,
            None => {
                self.slots.push(Slot::new(index));
                self.slots.len() - 1
            }
        };
        self.last_from_ns = self.frame.start_ns + u64::from(index) * self.frame.interval_ns;
        self.last_to_ns = self.last_from_ns + self.frame.interval_ns;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_where_it_was_due() {
        let mut meter = Meter::new(Frame::new(1000, 100, 250));
        meter.on_sent(999, 5);
        meter.on_sent(1000, 7);
        // The warm-up, all three intervals, and beyond.
        meter.on_acked(&[999, 1000, 1099, 1100, 1299, 1300], 5_000_000, 600);
        meter.on_failed(&[1100], 6_000_000, 100);
        meter.on_waited(&[1000, 3000, 2_000_000], 1_003_000);
        meter.on_answered(1100, 5_001_100);
        meter.on_arrived(&[(999, 1000), (1200, 7_000_000)].map(|(due_ns, at_ns)| Arrival { due_ns, at_ns }));
        let received = Received { records: 1, value_bytes: 100, ..Received::default() };
        meter.on_received(1150, &received);
        meter.on_received(5000, &received);
        meter.count(1150, |counts| counts.retries += 2);
        let (mut slots, totals) = meter.take(Some(1120));
        let (rest, nothing) = meter.take(None);
        assert_eq!((slots.len(), rest.len(), nothing), (2, 1, Counts::default()));
        slots.extend(rest);
        slots.sort_by_key(|slot| slot.index);
        let rows: Vec<_> = slots
            .iter()
            .map(|slot| (slot.index, slot.counts.sent, slot.counts.acked, slot.counts.errors, slot.produce.count()))
            .collect();
        assert_eq!(rows, [(0, 1, 2, 0, 2), (1, 0, 1, 1, 2), (2, 0, 1, 0, 1)]);
        let bytes: Vec<u64> = slots.iter().map(|slot| slot.counts.acked_bytes).collect();
        assert_eq!(bytes, [200, 100, 100], "of 600 bytes in six records, two were due before and after");
        assert_eq!((slots[0].counts.wait_us, slots[1].counts.wait_us), (2002, 0), "1,002 and 1,000 µs, and none");
        assert_eq!((slots[1].counts.requests, slots[1].counts.request_us, totals.request_us), (1, 5000, 5000));
        assert_eq!((slots[1].counts.retries, slots[2].e2e.count(), slots[0].lateness.count()), (2, 1, 1));
        assert_eq!((slots[1].counts.received, slots[2].counts.received, totals.received), (1, 0, 2));
        assert_eq!((totals.sent, totals.acked, totals.errors, totals.sent_bytes), (2, 6, 1, 700));
    }
}
