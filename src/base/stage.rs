//! Where a request's time goes: the stages, the stamps that a request carries, and the stopwatch that sets them.
//!
//! *Owns*: THE table of stages, from which tags, metric names and their manual derive; the form of a stamp. *Never*:
//! lets a decision read what it measures: a stopwatch can only be told which stage just ended. *Runs on*: every core.

use super::time::Instant;

/// A kind of request whose time is told by stages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timed {
    Produce,
    Fetch,
}

impl Timed {
    pub const ALL: [Timed; 2] = [Timed::Produce, Timed::Fetch];

    pub fn name(self) -> &'static str {
        match self {
            Timed::Produce => "produce",
            Timed::Fetch => "fetch",
        }
    }
}

/// One stage, as tags and manuals show it.
#[derive(Debug)]
pub struct StageRow {
    pub stage: Stage,
    pub name: &'static str,
    doc: &'static str,
    of: &'static [Timed],
}

impl StageRow {
    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }

    /// Whether requests of this kind have the stage. Those for which it took no time count as zero.
    pub fn is_of(&self, timed: Timed) -> bool {
        self.of.contains(&timed)
    }
}

macro_rules! stages {
    ($($(#[doc = $doc:literal])+ $stage:ident $name:literal $($of:ident)+;)*) => {
        /// What a request does or waits for, in the order in which it does. The last two are no stages but what
        /// the others are held against.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Stage {
            $($(#[doc = $doc])+ $stage,)*
        }

        pub static STAGES: &[StageRow] = &[$(StageRow {
            stage: Stage::$stage,
            name: $name,
            doc: concat!($($doc),+),
            of: &[$(Timed::$of),+],
        },)*];
    };
}

stages! {
    /// From the first byte to the last: the client sends, the network carries.
    Read "read" Produce Fetch;
    /// Its length was read; there was no memory for the rest, or too much in flight on its connection.
    AdmissionWait "admission_wait" Produce Fetch;
    /// It was whole, or had reached the core that owns the partition, and that core was busy with others.
    Queue "queue" Produce Fetch;
    /// Decoding it and finding its partitions. Below 1 KiB it counts with what comes next: append, or log_read.
    Decode "decode" Produce Fetch;
    /// To the core that owns the partition, and back. None when the client is connected to that core.
    MeshHop "mesh_hop" Produce Fetch;
    /// Checksum and rules of the batch. Below 1 KiB it counts as append.
    Check "check" Produce;
    /// Giving the batch its offsets and taking it into the log's memory.
    Append "append" Produce;
    /// Waiting for the partition's write, or sync, before this one.
    WriteQueue "write_queue" Produce;
    /// The write, from the order to its end.
    DeviceWrite "device_write" Produce;
    /// The fdatasync after the write, where the topic asks for one.
    Sync "sync" Produce;
    /// Stored; others that the same write or request has stored are answered first.
    AckWait "ack_wait" Produce;
    /// Finding the batches: in the tail cache, or where on the disk.
    LogRead "log_read" Fetch;
    /// Reads of records that are in memory no more, turns for large reads included.
    DeviceRead "device_read" Fetch;
    /// Waiting for records: fewer than the client's least were there.
    FetchWait "fetch_wait" Fetch;
    /// Making the reply. Below 1 KiB, records aside, it counts with what comes next: reply_queue.
    Encode "encode" Produce Fetch;
    /// Waiting for earlier replies of the connection, and for the socket.
    ReplyQueue "reply_queue" Produce Fetch;
    /// From the first attempt to hand the socket the reply until it had the last byte.
    SocketWrite "socket_write" Produce Fetch;
    /// From the request's first byte read to the last byte of its reply handed to the socket.
    Total "total" Produce Fetch;
    /// By how much the total and the sum of the stages differ.
    Unaccounted "unaccounted" Produce Fetch;
}

/// Stages that take time, without the two that are held against them.
pub const SPANS: usize = Stage::Total as usize;
pub const ROWS: usize = Stage::Unaccounted as usize + 1;

/// Time is kept in ticks of this many nanoseconds, as a power of two: so 32 bits last for longer than what a histogram
/// of a stage tells apart.
pub(super) const TICK_BITS: u32 = 4;

/// The stamps of one request, or of one partition's part of it.
///
/// Each span has a beginning and an end of its own: what lies between two of them belongs to none and shows as
/// unaccounted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Trace {
    began: u64,
    /// The end of the last span.
    at: u64,
    spans: [u32; SPANS],
}

impl Trace {
    /// A request whose first byte was read at `first`.
    pub fn begin(first: Instant) -> Trace {
        let at = ticks(first);
        Trace { began: at, at, spans: [0; SPANS] }
    }

    /// It waited, or something else worked for it, from the end of the last span until `end`. An `end` before that
    /// says that it did not.
    #[inline]
    pub fn waited_until(&mut self, stage: Stage, end: Instant) {
        self.span(stage, self.at, ticks(end));
    }

    /// Stamps for a part of the request that goes its own way from here. The request has none until it is joined.
    pub fn fork(&self) -> Trace {
        *self
    }

    /// Takes over the stamps of the part that came back last.
    pub fn join(&mut self, part: &Trace) {
        assert!(part.began == self.began, "a part is one of this request");
        *self = *part;
    }

    #[inline]
    fn span(&mut self, stage: Stage, from: u64, to: u64) {
        if to > from {
            let span = &mut self.spans[stage as usize];
            *span = (u64::from(*span) + (to - from)).min(u64::from(u32::MAX)) as u32;
            self.at = to;
        }
    }

    /// What it comes to, now that it is over: ticks of every row that took any, and of the whole, by number of row.
    #[inline]
    pub(super) fn finish(&self, mut count: impl FnMut(usize, u64)) {
        let mut sum = 0;
        for (row, span) in self.spans.iter().enumerate().filter(|(_, span)| **span > 0) {
            sum += u64::from(*span);
            count(row, u64::from(*span));
        }
        let total = self.at - self.began;
        count(Stage::Total as usize, total);
        // Beyond what a span can tell the difference says nothing.
        if total != sum && total < u64::from(u32::MAX) {
            count(Stage::Unaccounted as usize, total.abs_diff(sum));
        }
    }
}

/// When a frame came, as its reader saw it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Arrival {
    pub first_byte: Instant,
    /// From the first refusal to admit it until it was admitted.
    pub waited: Option<(Instant, Instant)>,
    pub last_byte: Instant,
}

impl Arrival {
    /// All of it at once.
    pub fn at(now: Instant) -> Arrival {
        Arrival { first_byte: now, waited: None, last_byte: now }
    }

    pub fn trace(&self) -> Trace {
        let mut trace = Trace::begin(self.first_byte);
        if let Some((from, to)) = self.waited {
            // What came with its length lay there until it was its turn to be refused.
            trace.waited_until(Stage::Queue, from);
            trace.waited_until(Stage::AdmissionWait, to);
        }
        trace.waited_until(Stage::Read, self.last_byte);
        trace
    }
}

/// Measures inside a step. Comes with the effects, and like those it is only written to.
///
/// What ends where something else begins shares one reading of the clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    read: fn() -> Instant,
    /// When the present step began.
    step: Instant,
    /// The latest reading.
    last: Instant,
    /// Pieces of work since then that were too little for a reading.
    little: u32,
}

/// Decoding, checking or encoding fewer bytes is little work.
pub const LITTLE_BYTES: usize = 1024;
/// So many pieces of little work together are worth a reading.
const LITTLE_WORKS: u32 = 4;

impl Stopwatch {
    pub fn new(read: fn() -> Instant) -> Stopwatch {
        Stopwatch { read, step: Instant(0), last: Instant(0), little: 0 }
    }

    /// A step begins at the time it is handed.
    #[inline]
    pub fn start_step(&mut self, now: Instant) {
        self.step = now;
        self.last = now;
        self.little = 0;
    }

    /// The time, for what no stage is about.
    pub fn read(&self) -> Instant {
        (self.read)()
    }

    /// The core has worked on this, since whatever it did before.
    #[inline]
    pub fn worked(&mut self, trace: &mut Trace, stage: Stage) {
        let from = self.last;
        self.last = (self.read)().max(from);
        self.little = 0;
        trace.span(stage, ticks(from), ticks(self.last));
    }

    /// The same for work on so many bytes. On few it takes a part of a microsecond, less than a histogram tells apart,
    /// and a reading of the clock would cost a good part of that: so it counts with what comes next. Several such
    /// together have a reading.
    #[inline]
    pub fn worked_on(&mut self, bytes: usize, trace: &mut Trace, stage: Stage) {
        self.little += 1;
        if bytes >= LITTLE_BYTES || self.little >= LITTLE_WORKS {
            self.worked(trace, stage);
        }
    }

    /// This has waited until now, when the core turns to it.
    #[inline]
    pub fn waited(&self, trace: &mut Trace, stage: Stage) {
        trace.waited_until(stage, self.last);
    }

    /// This has waited until the present step began.
    #[inline]
    pub fn arrived(&self, trace: &mut Trace, stage: Stage) {
        trace.waited_until(stage, self.step);
    }
}

impl Default for Stopwatch {
    /// Stands still, as time does within a step when it is simulated.
    fn default() -> Stopwatch {
        Stopwatch::new(|| Instant(0))
    }
}

fn ticks(at: Instant) -> u64 {
    at.0 >> TICK_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static CLOCK: Cell<u64> = const { Cell::new(0) };
    }

    /// A clock of which each reading is 160 ns later.
    fn clock() -> Instant {
        CLOCK.set(CLOCK.get() + 160);
        Instant(CLOCK.get())
    }

    fn rows(trace: &Trace) -> Vec<(&'static str, u64)> {
        let mut rows = Vec::new();
        trace.finish(|row, ticks| rows.push((STAGES[row].name, ticks << TICK_BITS)));
        rows.retain(|(_, ns)| *ns > 0);
        rows
    }

    #[test]
    fn the_table_is_in_the_order_of_its_numbers_and_every_row_is_told_apart() {
        for (at, row) in STAGES.iter().enumerate() {
            assert_eq!(row.stage as usize, at);
            assert!(row.doc().ends_with('.') && !row.doc().contains("  "), "{}", row.doc());
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
            assert!(STAGES[..at].iter().all(|other| other.name != row.name), "{} is there twice", row.name);
        }
        assert_eq!(STAGES.len(), ROWS);
        assert!(size_of::<Trace>() <= 88, "requests carry it");
    }

    #[test]
    fn an_arrival_is_split_into_reading_and_waiting() {
        let at = |ticks: u64| Instant(ticks << TICK_BITS);
        let arrival = |waited, last: u64| Arrival { first_byte: at(100), waited, last_byte: at(last) }.trace();
        for (trace, expect) in [
            (arrival(None, 100), vec![]),
            (arrival(None, 130), vec![("read", 30), ("total", 30)]),
            (
                arrival(Some((at(105), at(120))), 130),
                vec![("read", 10), ("admission_wait", 15), ("queue", 5), ("total", 30)],
            ),
            // All of it lay there while it waited.
            (arrival(Some((at(100), at(120))), 100), vec![("admission_wait", 20), ("total", 20)]),
        ] {
            let expect: Vec<_> = expect.into_iter().map(|(name, ticks)| (name, ticks << TICK_BITS)).collect();
            assert_eq!(rows(&trace), expect);
        }
    }

    #[test]
    fn what_no_stage_claims_is_unaccounted() {
        CLOCK.set(1600);
        let mut watch = Stopwatch::new(clock);
        let mut trace = Trace::begin(Instant(800));
        watch.start_step(Instant(1600));
        watch.arrived(&mut trace, Stage::Queue);
        watch.worked(&mut trace, Stage::Decode);
        let mut other = Trace::begin(Instant(1600));
        watch.worked(&mut other, Stage::Decode);
        watch.worked(&mut trace, Stage::Encode);
        let expect = [("queue", 800), ("decode", 160), ("encode", 160), ("total", 1280), ("unaccounted", 160)];
        assert_eq!(rows(&trace), expect);
        watch.waited(&mut other, Stage::AckWait);
        assert_eq!(rows(&other), [("decode", 160), ("ack_wait", 160), ("total", 480), ("unaccounted", 160)]);
    }

    #[test]
    fn little_work_has_a_reading_when_there_is_some_of_it() {
        CLOCK.set(1600);
        let mut watch = Stopwatch::new(clock);
        let mut traces = [Trace::begin(Instant(1600)); 6];
        watch.start_step(Instant(1600));
        for trace in &mut traces {
            watch.waited(trace, Stage::AckWait);
            watch.worked_on(LITTLE_BYTES - 1, trace, Stage::Encode);
        }
        assert!(traces[..3].iter().all(|trace| rows(trace).is_empty()));
        assert_eq!(rows(&traces[3]), [("encode", 160), ("total", 160)]);
        assert!(traces[4..].iter().all(|trace| rows(trace) == [("ack_wait", 160), ("total", 160)]));
        // What comes next has it.
        watch.worked_on(LITTLE_BYTES, &mut traces[5], Stage::Append);
        assert_eq!(rows(&traces[5]), [("append", 160), ("ack_wait", 160), ("total", 320)]);
        assert_eq!(watch.little, 0);
    }

    #[test]
    fn the_part_that_comes_last_is_the_requests_way() {
        let mut trace = Trace::begin(Instant(0));
        trace.waited_until(Stage::Decode, Instant(1600));
        let (mut first, mut last) = (trace.fork(), trace.fork());
        first.waited_until(Stage::DeviceWrite, Instant(3200));
        last.waited_until(Stage::DeviceWrite, Instant(4800));
        last.waited_until(Stage::DeviceWrite, Instant(4000));
        trace.join(&last);
        assert_eq!(rows(&trace), [("decode", 1600), ("device_write", 3200), ("total", 4800)]);
        trace.waited_until(Stage::ReplyQueue, Instant(u64::MAX));
        assert_eq!(trace.spans[Stage::ReplyQueue as usize], u32::MAX);
        assert!(rows(&trace).iter().all(|(name, _)| *name != "unaccounted"));
    }
}
