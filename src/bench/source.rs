//! A producer and what drives it: a schedule, its own eagerness, or a backlog to be written.
//!
//! *Owns*: when the next record is handed over, and how late it was. *Never*: waits, touches a socket.
//! *Runs on*: one generator thread.

use crate::bench::meter::Meter;
use crate::bench::payload::UNMEASURED_NS;
use crate::bench::producer::Producer;
use crate::bench::schedule::Schedule;
use crate::bench::workload::Workload;
use crate::shell::clock::Clock;

/// Records between two looks at the sockets.
const CHUNK_RECORDS: usize = 256;

/// Records between two looks at the clock, where each is stamped with the time it is handed over.
const STAMP_RECORDS: usize = 16;

pub struct Source {
    /// Its number over the whole run.
    pub index: u32,
    pub producer: Producer,
    /// A producer id was asked for and has not come.
    pub asked_id: bool,
    pace: Pace,
    /// The producer's memory was full when a record was due.
    is_blocked: bool,
    /// Until then it was.
    blocked_until_ns: u64,
    retries_counted: u64,
}

enum Pace {
    Still,
    /// As fast as it goes, so many more.
    Backlog(u64),
    Schedule {
        schedule: Schedule,
        end_ns: u64,
    },
    /// As fast as it goes, from then until then.
    Eager {
        start_ns: u64,
        end_ns: u64,
    },
}

/// The clock of a run, and what it reads on the wall.
#[derive(Clone)]
pub struct Time {
    pub clock: Clock,
    /// At the clock's zero.
    pub wall_zero_ms: i64,
}

impl Time {
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.clock.instant().0
    }

    fn wall_ms(&self, now_ns: u64) -> i64 {
        self.wall_zero_ms + (now_ns / 1_000_000) as i64
    }
}

impl Source {
    pub fn new(index: u32, producer: Producer) -> Source {
        Source {
            index,
            producer,
            asked_id: false,
            pace: Pace::Still,
            is_blocked: false,
            blocked_until_ns: 0,
            retries_counted: 0,
        }
    }

    /// Writes its share of the workload's backlog.
    pub fn fill(&mut self, workload: &Workload) {
        let (all, producers) = (workload.backlog, u64::from(workload.producers));
        let more = u64::from(u64::from(self.index) < all % producers);
        self.pace = Pace::Backlog(all / producers + more);
    }

    /// Begins to send what is measured.
    pub fn begin(&mut self, workload: &Workload, start_ns: u64, end_ns: u64) {
        self.pace = match workload.is_open_loop() {
            true => {
                let rate = workload.rate / f64::from(workload.producers);
                let place = (self.index, workload.producers);
                let schedule = Schedule::new(start_ns, rate, workload.spacing, place, workload.seed);
                Pace::Schedule { schedule, end_ns }
            }
            false => Pace::Eager { start_ns, end_ns },
        };
    }

    /// Hands over what is due, up to a chunk of it.
    pub fn generate(&mut self, time: &Time, meter: &mut Meter) {
        let now_ns = time.now_ns();
        if self.is_blocked && self.producer.has_room() {
            self.is_blocked = false;
            self.blocked_until_ns = now_ns;
        }
        self.producer.on_time(now_ns);
        match &mut self.pace {
            Pace::Still => {}
            Pace::Backlog(left) => {
                let mut count = 0;
                while *left > 0 && count < CHUNK_RECORDS && self.producer.has_room() {
                    self.producer.push(UNMEASURED_NS, now_ns, time.wall_ms(now_ns));
                    meter.on_sent(UNMEASURED_NS, 0);
                    *left -= 1;
                    count += 1;
                }
            }
            Pace::Eager { start_ns, end_ns } => {
                let mut now_ns = now_ns;
                let mut count = 0;
                while (*start_ns..*end_ns).contains(&now_ns) && count < CHUNK_RECORDS && self.producer.has_room() {
                    self.producer.push(now_ns, now_ns, time.wall_ms(now_ns));
                    meter.on_sent(now_ns, 0);
                    count += 1;
                    if count % STAMP_RECORDS == 0 {
                        now_ns = time.now_ns();
                    }
                }
            }
            Pace::Schedule { schedule, end_ns } => {
                let wall_ms = time.wall_ms(now_ns);
                for _ in 0..CHUNK_RECORDS {
                    let due_ns = schedule.due_ns();
                    if due_ns > now_ns || due_ns >= *end_ns {
                        break;
                    }
                    if !self.producer.has_room() {
                        self.is_blocked = true;
                        break;
                    }
                    self.producer.push(due_ns, now_ns, wall_ms);
                    // That the broker did not take more is not the generator's lateness.
                    meter.on_sent(due_ns, now_ns.saturating_sub(due_ns.max(self.blocked_until_ns)));
                    schedule.advance();
                }
            }
        }
    }

    /// When there is something to do next, if that is known.
    pub fn next_ns(&self, now_ns: u64) -> Option<u64> {
        let has_room = self.producer.has_room();
        let record = match &self.pace {
            Pace::Schedule { schedule, end_ns } => {
                Some(schedule.due_ns()).filter(|due_ns| !self.is_blocked && due_ns < end_ns)
            }
            Pace::Eager { start_ns, end_ns } => (has_room && now_ns < *end_ns).then_some(now_ns.max(*start_ns)),
            Pace::Backlog(left) => (has_room && *left > 0).then_some(now_ns),
            Pace::Still => None,
        };
        record.into_iter().chain(self.producer.next_time_ns()).min()
    }

    /// Whether everything that was due before `now_ns`, and is due at all, is handed over and done with.
    pub fn is_done(&self, now_ns: u64) -> bool {
        let is_spent = match &self.pace {
            Pace::Still => true,
            Pace::Backlog(left) => *left == 0,
            Pace::Schedule { schedule, end_ns } => schedule.due_ns() >= *end_ns,
            Pace::Eager { end_ns, .. } => now_ns >= *end_ns,
        };
        is_spent && self.producer.is_idle()
    }

    /// The next record that was due before `now_ns` and that there was never room for. Takes it off the schedule.
    pub fn take_unsent(&mut self, now_ns: u64) -> Option<u64> {
        let Pace::Schedule { schedule, end_ns } = &mut self.pace else { return None };
        if !self.is_blocked {
            return None;
        }
        let due_ns = schedule.due_ns();
        (due_ns < now_ns.min(*end_ns)).then(|| {
            schedule.advance();
            due_ns
        })
    }

    /// Requests that were sent again since it was last asked.
    pub fn take_retries(&mut self) -> u64 {
        let retries = self.producer.retries;
        retries - std::mem::replace(&mut self.retries_counted, retries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::meter::Frame;
    use crate::bench::payload::{FillerPool, KeySpread, Keys, Payload, RunTag, Sizes};
    use crate::bench::producer::Identity;

    fn source(workload: &Workload, index: u32) -> Source {
        let pool = FillerPool::new(1.0, 100, 1).expect("a ratio");
        let payload = Payload::new(RunTag::new(1), Sizes::Fixed(100), pool, 1).expect("sizes");
        let identity = Identity { index, client_id: "c".into(), produce_version: 9 };
        let keys = Keys::new(KeySpread::None, 1).expect("no keys");
        Source::new(index, Producer::new(workload, workload.topics(), identity, payload, keys))
    }

    fn time() -> Time {
        Time { clock: Clock::start(), wall_zero_ms: 1_700_000_000_000 }
    }

    #[test]
    fn shares_of_a_backlog_are_the_backlog() {
        let workload = Workload { producers: 3, backlog: 1000, ..Workload::default() };
        let mut meter = Meter::new(Frame::new(u64::MAX, 1, 0));
        for index in 0..3 {
            let mut source = source(&workload, index);
            source.fill(&workload);
            while source.next_ns(1) == Some(1) {
                assert!(!source.is_done(1));
                source.generate(&time(), &mut meter);
            }
            assert_eq!(
                source.producer.sequences().map(|(_, next)| next).sum::<u64>(),
                if index == 0 { 334 } else { 333 }
            );
        }
        assert_eq!(meter.take(None).1.sent, 1000);
    }

    #[test]
    fn what_is_due_is_handed_over_and_the_rest_is_known() {
        let workload = Workload { rate: 1e6, buffer_bytes: 4096, ..Workload::default() };
        let mut source = source(&workload, 0);
        let time = time();
        while time.now_ns() < 200_000 {}
        let mut meter = Meter::new(Frame::new(0, 1_000_000_000, 1_000_000_000));
        source.begin(&workload, 0, 100_000);
        source.generate(&time, &mut meter);
        let (slots, totals) = meter.take(None);
        assert!((10..90).contains(&totals.sent), "memory for some, not for all: {}", totals.sent);
        assert!(slots[0].lateness.max_ns() >= 100_000, "the first one was due long ago");
        assert!(source.next_ns(time.now_ns()).is_none_or(|next_ns| next_ns < 1_000_000), "it waits for room");
        let mut unsent = 0;
        while source.take_unsent(u64::MAX).is_some() {
            unsent += 1;
        }
        assert_eq!(totals.sent + unsent, 100);
    }
}
