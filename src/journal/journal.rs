//! The journal of a core: what waits becomes a commit, what is in the segments gives its space back.
//!
//! A commit takes what waits of all partitions: one write, durable when it ends. Its entries keep their space in the
//! ring until their owner says that its segments have them; owners are asked to see to it well before the ring is full.
//!
//! *Owns*: the file once it was replayed, and what is on its way to it. *Never*: repeats a failed write; keeps an
//! append waiting for space for ever; reports an entry before all that were appended earlier. *Runs on*: every core,
//! one each.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::format::{
    COMMIT_HEAD_BYTES, CommitWriter, DIR, ENTRY_HEAD_BYTES, EntryHead, FileName, Header, Identity, RING_START, Run,
    newest_header,
};
use super::growth::{Growth, PIECE_BYTES};
use super::learned::Learned;
use super::ring::{Release, Ring};
use crate::base::bug::{self, Bug};
use crate::base::disk::{BLOCK_BYTES, DiskDone, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::base::ids::Offset;
use crate::base::limits::{
    JOURNAL_BYTES_MAX, JOURNAL_BYTES_MIN, JOURNAL_COMMIT_BYTES_MAX, JOURNAL_ENTRY_BYTES_MAX, JOURNAL_FLUSHES_MAX,
    JOURNAL_FLUSHES_URGENT_MAX, JOURNAL_WAIT_MS,
};
use crate::base::time::{Instant, Now};

/// Commits that are written at the same time: a device does two in little more than the time of one.
const COMMITS_IN_FLIGHT: usize = 2;

/// Beside one that is on its way, the next is begun only when as much waits as this part of the largest commit: little
/// is better gathered until the device is free, since a commit of all of it costs one write and one sync.
const BESIDE_PART: u64 = 16;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What a ring is made of.
const ZEROS_BYTES: usize = 64 << 10;
static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];

/// Eighths of the ring: held by entries, owners are asked to flush, and more of them; releasable, a header is written.
const FLUSH_FROM: u64 = 3;
const FLUSH_MORE_FROM: u64 = 6;
const RELEASE_FROM: u64 = 1;

/// How often it is said aloud that appends wait for space.
const WARN_MS: u64 = 60_000;

/// Bytes of a partition on their way to its segment. At most `limits::JOURNAL_ENTRY_BYTES_MAX` and not empty.
#[derive(Debug)]
pub struct Entry {
    /// The number the partition has on this core.
    pub owner: u32,
    pub head: EntryHead,
    /// As many bytes as the head says.
    pub slices: Vec<Bytes>,
}

/// Ties the end of a disk operation to what it was for. Opaque outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalOp(Op);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    MakeDir,
    Open,
    ReadHeaders,
    Empty,
    SyncEmpty,
    Allocate,
    /// Up to this byte of the ring.
    Zero(u64),
    /// Of the commit of this sequence.
    Write(u64),
    WriteHeader,
    Close,
}

/// When a commit was sent, and when it and all before it were durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitTimes {
    pub began: Instant,
    pub safe: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEvent {
    /// The file is there and empty, and its commits will have this key. None is made before [`Journal::begin`].
    Made {
        key: u64,
    },
    /// There is no journal: what was appended is lost to the caller. Nothing follows but `Closed` after `close`.
    OpenFailed {
        message: String,
    },
    /// The owner's entry that ends at `next` is durable. In the order of appending.
    Committed {
        owner: u32,
        next: Offset,
        times: CommitTimes,
    },
    /// The ring needs the space: bring the segment up to date, sync it, and call `on_flushed`. May be said again
    /// while the owner is at it.
    FlushWanted {
        owner: u32,
    },
    /// Appends have waited for space long enough: until there is some, all are handed back. `holder` has the entry that
    /// keeps the most of it.
    Overdue {
        holder: Option<u32>,
    },
    /// The owner's newest entries, which are not committed, will not be: its segment must take them.
    HandedBack {
        owner: u32,
    },
    /// A write or sync failed: nothing is committed any more. What was appended and not committed may or may not be
    /// there at the next start. What was committed is still in the journal.
    Failed {
        message: String,
    },
    Closed,
}

/// What the journal wants done, and what it has to say.
#[derive(Debug, Default)]
pub struct JournalOut {
    pub disk: Vec<(JournalOp, DiskOp)>,
    pub events: Vec<JournalEvent>,
}

/// For the metrics. Counts are since the journal was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Gauges {
    /// As far as the ring has grown.
    pub ring_bytes: u64,
    /// Not free: also what the next header gives back.
    pub used_bytes: u64,
    /// Payload that is appended and in no commit yet.
    pub waiting_bytes: u64,
    pub commits: u64,
    pub entries: u64,
    /// Commits with heads and padding, and headers.
    pub written_bytes: u64,
    /// Zeros written before the ring had that space, which are not among these.
    pub prewritten_bytes: u64,
    /// Of what was written, what the callers appended.
    pub payload_bytes: u64,
    /// Times that appends began to wait for the ring's space.
    pub space_waits: u64,
    /// Appends wait for space since then.
    pub waiting_since: Option<Instant>,
    /// How long appends have waited before.
    pub space_wait_us: u64,
    /// Entries that found no space in time.
    pub handed_back: u64,
}

#[derive(Debug)]
pub struct Journal {
    identity: Identity,
    file: FileId,
    key: u64,
    run: Run,
    state: State,
    closing: bool,
    file_is_open: bool,
    /// Operations not answered yet.
    asked_of_disk: usize,
    ring: Ring,
    growth: Growth,
    /// Headers written to the file.
    headers: u64,
    /// What becomes free with the header on its way.
    header: Option<Release>,
    /// Another one is wanted whatever there is to release.
    header_is_due: bool,
    waiting: VecDeque<Entry>,
    flights: VecDeque<Flight>,
    /// Of flights that ended, to be used again.
    spare: Vec<Vec<Committing>>,
    /// By number.
    owners: Vec<Owner>,
    /// The oldest commit each owner has an entry in, of owners that were not asked to flush.
    oldest: BTreeSet<(u64, u32)>,
    /// Owners asked and not heard of.
    asked: usize,
    gauges: Gauges,
    learned: Learned,
    /// When it was last said aloud that appends wait for space.
    warned: Option<Instant>,
    /// What finds no space is handed back at once.
    overdue: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Opening,
    /// It could be used, and nobody has said that it may.
    Made,
    Open,
    /// The last header is on its way.
    Leaving,
    Failed,
    /// So is the file, or it was never open.
    Closed,
}

#[derive(Debug)]
struct Flight {
    sequence: u64,
    bytes: u64,
    written: bool,
    began: Instant,
    entries: Vec<Committing>,
}

/// An entry in flight; `owner` is gone when it was forgotten.
#[derive(Debug)]
struct Committing {
    owner: Option<u32>,
    next: Offset,
}

#[derive(Debug, Default)]
struct Owner {
    /// Entries that are in a commit and not known to be in a segment: where they end, and the commit.
    live: VecDeque<(Offset, u64)>,
    waiting: u32,
    asked: bool,
}

/// What the file of a journal takes whose ring is to have so many bytes.
pub fn file_bytes(ring_bytes: u64) -> u64 {
    RING_START + ring_bytes / BLOCK * BLOCK
}

impl Journal {
    /// The journal of `identity.core`, which [`Journal::open`] opens. `key` is a random number, `file` the id the file
    /// is to have. `append` may be called at once.
    pub fn new(identity: Identity, ring_bytes: u64, key: u64, file: FileId) -> Journal {
        assert!((JOURNAL_BYTES_MIN..=JOURNAL_BYTES_MAX).contains(&ring_bytes), "the setting has its bounds");
        let ring_bytes = ring_bytes / BLOCK * BLOCK;
        Journal {
            identity,
            file,
            key,
            run: Run::default(),
            state: State::Opening,
            closing: false,
            file_is_open: false,
            asked_of_disk: 0,
            ring: Ring::new(0),
            growth: Growth::new(ring_bytes, PIECE_BYTES),
            headers: 0,
            header: None,
            header_is_due: false,
            waiting: VecDeque::new(),
            flights: VecDeque::new(),
            spare: Vec::new(),
            owners: Vec::new(),
            oldest: BTreeSet::new(),
            asked: 0,
            gauges: Gauges::default(),
            learned: Learned::default(),
            warned: None,
            overdue: false,
        }
    }

    /// To be called once. The journal begins empty: what the file held must have been replayed. A file that is missing
    /// or of another size is made: its ring begins small and grows to its size beside the commits. Ends in
    /// [`JournalEvent::Made`] or [`JournalEvent::OpenFailed`].
    pub fn open(&mut self, out: &mut JournalOut) {
        if self.state == State::Opening && !self.closing {
            self.ask(Op::MakeDir, DiskOp::List { dir: DIR.into() }, out);
        }
    }

    /// After [`JournalEvent::Made`]: commits are made from now on. What was appended before waits in order.
    pub fn begin(&mut self) {
        if self.state == State::Made {
            self.state = State::Open;
        }
    }

    /// Nothing that was committed is missing in a segment.
    pub fn is_empty(&self) -> bool {
        self.state != State::Failed && self.ring.held() == 0
    }

    /// Queues an entry. Ends in `Committed`, `HandedBack` or `Failed`, except that nothing is said when the owner's
    /// segments have it before its commit begins, or the owner is forgotten. After a failure it is dropped.
    pub fn append(&mut self, entry: Entry) {
        assert!(entry.len() > 0 && entry.len() <= JOURNAL_ENTRY_BYTES_MAX, "the log bounds what it hands over");
        assert!(!self.closing, "appended after close");
        if self.state == State::Failed {
            return;
        }
        self.owner(entry.owner).waiting += 1;
        self.gauges.waiting_bytes += entry.len() as u64;
        self.waiting.push_back(entry);
    }

    /// Starts a commit of what waits, and asks for space where it is short. To be called at the end of each step.
    pub fn pump(&mut self, now: Now, out: &mut JournalOut) {
        if self.state != State::Open || self.closing {
            return;
        }
        self.grow(out);
        while self.may_begin() {
            if !self.commit(now, out) {
                self.wait_for_space(now, out);
                break;
            }
            self.overdue = false;
            self.end_wait(now);
        }
        self.release_space(out);
        self.want_flushes(out);
    }

    /// The owner's segments are durable below `upto`.
    pub fn on_flushed(&mut self, owner: u32, upto: Offset) {
        self.drop_waiting(owner, |entry| entry.head.next <= upto);
        self.release_entries(owner, |next| next <= upto);
    }

    /// The owner's partition is deleted, or what was appended of it is void: nothing is needed or reported any more of
    /// that.
    pub fn forget(&mut self, owner: u32) {
        self.drop_waiting(owner, |_| true);
        for entry in self.flights.iter_mut().flat_map(|flight| &mut flight.entries) {
            if entry.owner == Some(owner) {
                entry.owner = None;
            }
        }
        self.release_entries(owner, |_| true);
    }

    /// Ends in [`JournalEvent::Closed`], with a header that says what is still needed. What is in flight is
    /// committed before; what waits is dropped, since its partitions are closed.
    pub fn close(&mut self, out: &mut JournalOut) {
        assert!(!self.closing, "closed once");
        self.closing = true;
        self.drop_all_waiting();
        self.leave(out);
    }

    /// The disk takes no more writes, for whatever reason: as after a failure, which is not reported.
    pub fn end_writing(&mut self) {
        if self.state != State::Closed {
            self.state = State::Failed;
            self.drop_all_waiting();
            self.flights.clear();
        }
    }

    /// To be told once for each operation asked for.
    pub fn on_disk(&mut self, op: JournalOp, result: DiskResult, now: Now, out: &mut JournalOut) {
        self.asked_of_disk -= 1;
        self.file_is_open |= op.0 == Op::Open && result.is_ok();
        match (op.0, result) {
            (Op::Close, _) => return out.events.push(JournalEvent::Closed),
            _ if self.state == State::Failed => {}
            (Op::Zero(_), Err(error)) if self.state == State::Open && error.kind == DiskErrorKind::Full => {
                self.stay_small(&error.message);
            }
            (op, Err(error)) => self.fail(op, &error.message, out),
            _ if self.state == State::Opening && self.closing => {}
            (Op::Zero(upto), Ok(_)) => self.on_written_ahead(upto, out),
            (Op::Write(sequence), Ok(_)) => self.on_written(sequence, now, out),
            (Op::WriteHeader, Ok(_)) => self.on_header(out),
            (op, Ok(done)) => self.on_opening(op, done, out),
        }
        self.leave(out);
    }

    /// With so many bytes pending a partition had better write its segment directly; `None` until the device has told.
    pub fn direct_bytes(&self) -> Option<u64> {
        self.learned.direct_bytes()
    }

    pub fn gauges(&self) -> Gauges {
        Gauges { ring_bytes: self.ring.bytes(), used_bytes: self.ring.used(), ..self.gauges }
    }

    /// Before the first answer of the disk.
    #[cfg(test)]
    pub(super) fn set_piece_bytes(&mut self, piece_bytes: u64) {
        assert!(self.state == State::Opening);
        self.growth = Growth::new(self.growth.full(), piece_bytes);
    }

    fn ask(&mut self, op: Op, disk: DiskOp, out: &mut JournalOut) {
        self.asked_of_disk += 1;
        out.disk.push((JournalOp(op), disk));
    }

    fn on_opening(&mut self, op: Op, done: DiskDone, out: &mut JournalOut) {
        assert!(self.state == State::Opening);
        let file = self.file;
        match (op, done) {
            (Op::MakeDir, _) => {
                let path = FileName::Journal(self.identity.core).path();
                let durable = DiskOp::OpenDurable { file, path: path.clone() };
                let op = if bug::on(Bug::AckBeforeSync) { DiskOp::Open { file, path, create: true } } else { durable };
                self.ask(Op::Open, op, out);
            }
            (Op::Open, DiskDone::Opened { len }) if len == self.file_bytes() => {
                let len = RING_START as usize;
                self.ask(Op::ReadHeaders, DiskOp::Read { file, position: 0, len }, out);
            }
            (Op::Open, DiskDone::Opened { len: 0 }) => self.allocate(out),
            (Op::Open, _) => self.ask(Op::Empty, DiskOp::Truncate { file, len: 0 }, out),
            (Op::ReadHeaders, DiskDone::Read(bytes)) => self.on_headers(&bytes, out),
            // Else a loss of power could leave the commits of old without the header that says they are not needed.
            (Op::Empty, _) => self.ask(Op::SyncEmpty, DiskOp::Sync { file }, out),
            (Op::SyncEmpty, _) => self.allocate(out),
            (Op::Allocate, _) => self.write_ahead(out),
            (op, done) => unreachable!("{done:?} is no answer to {op:?}"),
        }
    }

    fn file_bytes(&self) -> u64 {
        file_bytes(self.growth.full())
    }

    fn on_headers(&mut self, bytes: &[u8], out: &mut JournalOut) {
        let found = newest_header(bytes);
        match found {
            Ok(Some(header)) if self.growth.take_over(header.ring_bytes) => {
                self.run.generation = header.run.generation;
                self.headers = header.count;
                self.begin_run(out);
            }
            // Making the file was cut short, or what it held is of no use to anybody.
            Ok(_) => self.ask(Op::Empty, DiskOp::Truncate { file: self.file, len: 0 }, out),
            Err(version) => {
                self.fail(Op::ReadHeaders, &format!("its format version {version} is not known here"), out);
            }
        }
    }

    fn allocate(&mut self, out: &mut JournalOut) {
        self.ask(Op::Allocate, DiskOp::Allocate { file: self.file, len: self.file_bytes() }, out);
    }

    /// Writes the next piece of what the ring is to have, if none is on its way; with the first the header slots.
    fn write_ahead(&mut self, out: &mut JournalOut) {
        let Some((from, upto)) = self.growth.begin_piece() else { return };
        let position = if from == 0 { 0 } else { RING_START + from };
        let len = (RING_START + upto - position) as usize;
        let mut data = vec![Bytes::from_static(&ZEROS); len / ZEROS_BYTES];
        data.push(Bytes::from_static(&ZEROS[..len % ZEROS_BYTES]));
        self.gauges.prewritten_bytes += len as u64;
        self.ask(Op::Zero(upto), DiskOp::Write { file: self.file, position, data }, out);
    }

    fn on_written_ahead(&mut self, upto: u64, out: &mut JournalOut) {
        self.growth.on_written(upto);
        if self.state == State::Opening {
            self.begin_run(out);
        }
    }

    fn grow(&mut self, out: &mut JournalOut) {
        self.ring.grow(self.growth.said());
        self.header_is_due |= self.growth.wants_header();
        self.write_ahead(out);
    }

    /// Nothing is lost with what the ring did not get.
    fn stay_small(&mut self, why: &str) {
        self.growth.give_up();
        tracing::warn!(
            core = self.identity.core.0,
            ring_bytes = self.growth.full(),
            "the commit journal stays smaller than journal.bytes until the next start: {why}"
        );
    }

    fn begin_run(&mut self, out: &mut JournalOut) {
        self.run = Run { generation: self.run.generation + 1, key: self.key };
        self.write_header(out);
    }

    fn write_header(&mut self, out: &mut JournalOut) {
        assert!(self.header.is_none(), "one header at a time");
        let release = self.ring.plan_release();
        self.headers += 1;
        let header = Header {
            identity: self.identity.clone(),
            run: self.run,
            count: self.headers,
            ring_bytes: self.growth.say(),
            tail: release.tail,
            end: (self.state == State::Leaving).then_some(self.ring.next_sequence()),
        };
        self.header = Some(release);
        self.header_is_due = false;
        self.gauges.written_bytes += BLOCK;
        let data = vec![header.encode()];
        self.ask(Op::WriteHeader, DiskOp::Write { file: self.file, position: header.position(), data }, out);
    }

    fn on_header(&mut self, out: &mut JournalOut) {
        self.ring.on_released(self.header.take().expect("a header was on its way"));
        // The other slot still has a header of an earlier run or of a smaller ring: if this one were damaged, that
        // would count.
        self.header_is_due |= self.growth.on_said();
        if self.state == State::Opening {
            self.state = State::Made;
            out.events.push(JournalEvent::Made { key: self.key });
        }
    }

    fn commit_bytes_max(&self) -> u64 {
        (self.ring.bytes() / 4 / BLOCK * BLOCK).min(JOURNAL_COMMIT_BYTES_MAX as u64)
    }

    fn may_begin(&self) -> bool {
        match self.flights.len() {
            0 => !self.waiting.is_empty(),
            beside => beside < COMMITS_IN_FLIGHT && self.gauges.waiting_bytes * BESIDE_PART >= self.commit_bytes_max(),
        }
    }

    /// Takes what waits, as much as fits. `false` when there is no space for the first entry.
    fn commit(&mut self, now: Now, out: &mut JournalOut) -> bool {
        let most = self.commit_bytes_max().min(self.ring.room()) as usize;
        let (mut bytes, mut count, mut slices) = (COMMIT_HEAD_BYTES, 0, 0);
        for entry in &self.waiting {
            let with_entry = bytes + ENTRY_HEAD_BYTES + entry.len();
            if with_entry > most {
                break;
            }
            (bytes, count, slices) = (with_entry, count + 1, slices + entry.slices.len());
        }
        if count == 0 {
            return false;
        }
        let padded = bytes.next_multiple_of(BLOCK_BYTES) as u64;
        let place = self.ring.place(padded, count as u32);
        let mut writer = CommitWriter::new(count, slices);
        let mut entries = self.spare.pop().unwrap_or_default();
        for _ in 0..count {
            let entry = self.waiting.pop_front().expect("just counted");
            entries.push(Committing { owner: Some(entry.owner), next: entry.head.next });
            self.on_committing(&entry, place.sequence);
            writer.push(&entry.head, entry.slices);
        }
        let data = writer.finish(self.run, place.sequence, self.flights.len() as u8);
        self.gauges.commits += 1;
        self.gauges.entries += count as u64;
        self.gauges.written_bytes += padded;
        let flight = Flight { sequence: place.sequence, bytes: padded, written: false, began: now.mono, entries };
        self.flights.push_back(flight);
        let position = RING_START + place.position;
        self.ask(Op::Write(place.sequence), DiskOp::Write { file: self.file, position, data }, out);
        true
    }

    fn on_committing(&mut self, entry: &Entry, sequence: u64) {
        self.gauges.waiting_bytes -= entry.len() as u64;
        self.gauges.payload_bytes += entry.len() as u64;
        let owner = &mut self.owners[entry.owner as usize];
        owner.waiting -= 1;
        if owner.live.is_empty() && !owner.asked {
            self.oldest.insert((sequence, entry.owner));
        }
        owner.live.push_back((entry.head.next, sequence));
    }

    fn flight(&mut self, sequence: u64) -> &mut Flight {
        let first = self.flights.front().expect("a commit is in flight").sequence;
        &mut self.flights[(sequence - first) as usize]
    }

    fn on_written(&mut self, sequence: u64, now: Now, out: &mut JournalOut) {
        let flight = self.flight(sequence);
        assert!(!flight.written);
        flight.written = true;
        if bug::on(Bug::CommitOutOfOrder) {
            flight.tell(now, out);
        }
        let (bytes, ns) = (flight.bytes, now.mono.since_ns(flight.began));
        self.learned.on_commit(bytes, ns);
        // A replay ends where a commit is missing: one is as durable as those before it.
        while self.flights.front().is_some_and(|flight| flight.written) {
            let Some(mut flight) = self.flights.pop_front() else { break };
            flight.tell(now, out);
            self.spare.push(flight.entries);
            self.ring.settle(flight.sequence);
        }
    }

    /// When [`Journal::pump`] has something to do even if nothing happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.gauges.waiting_since.map(|since| since.after_ms(JOURNAL_WAIT_MS))
    }

    fn wait_for_space(&mut self, now: Now, out: &mut JournalOut) {
        if self.overdue || self.next_deadline().is_some_and(|due| due <= now.mono) {
            return self.hand_back(now, out);
        }
        if self.gauges.waiting_since.is_some() {
            return;
        }
        self.gauges.waiting_since = Some(now.mono);
        self.gauges.space_waits += 1;
        // While it grows, that it is small says nothing of the setting.
        let is_grown = self.ring.bytes() == self.growth.full();
        if is_grown && self.warned.is_none_or(|warned| warned.after_ms(WARN_MS) <= now.mono) {
            self.warned = Some(now.mono);
            tracing::warn!(
                core = self.identity.core.0,
                ring_bytes = self.ring.bytes(),
                "the commit journal is full, appends wait until segments are written: journal.bytes may be too small"
            );
        }
    }

    /// A partition whose segment cannot be written must not hold up all others.
    fn hand_back(&mut self, now: Now, out: &mut JournalOut) {
        if !std::mem::replace(&mut self.overdue, true) {
            let oldest = self.ring.tail().sequence;
            let holds = |owner: &Owner| owner.live.front().is_some_and(|(_, sequence)| *sequence == oldest);
            let holder = self.owners.iter().position(holds).map(|number| number as u32);
            out.events.push(JournalEvent::Overdue { holder });
        }
        self.end_wait(now);
        let owners: BTreeSet<u32> = self.waiting.iter().map(|entry| entry.owner).collect();
        self.gauges.handed_back += self.waiting.len() as u64;
        self.drop_all_waiting();
        out.events.extend(owners.into_iter().map(|owner| JournalEvent::HandedBack { owner }));
    }

    fn end_wait(&mut self, now: Now) {
        let since = self.gauges.waiting_since.take();
        self.gauges.space_wait_us += since.map_or(0, |since| now.mono.since_ns(since) / 1000);
    }

    fn release_space(&mut self, out: &mut JournalOut) {
        let releasable = self.ring.releasable();
        let enough = releasable * 8 >= self.ring.bytes() * RELEASE_FROM;
        let awaited = releasable > 0 && (self.overdue || self.gauges.waiting_since.is_some());
        if self.header.is_none() && (enough || awaited || self.header_is_due) {
            self.write_header(out);
        }
    }

    fn want_flushes(&mut self, out: &mut JournalOut) {
        let held = self.ring.held() * 8;
        let most = if held >= self.ring.bytes() * FLUSH_MORE_FROM || self.gauges.waiting_since.is_some() {
            JOURNAL_FLUSHES_URGENT_MAX
        } else if held >= self.ring.bytes() * FLUSH_FROM {
            JOURNAL_FLUSHES_MAX
        } else {
            return;
        };
        let in_flight_from = self.flights.front().map_or(u64::MAX, |flight| flight.sequence);
        while self.asked < most {
            let Some(&(sequence, number)) = self.oldest.first() else { return };
            // Who wrote to the journal lately has little to flush, and none of it keeps the tail. Who waits for the
            // commit of all it has would have nothing to answer, and not be asked again.
            if !self.ring.is_old(sequence) || sequence >= in_flight_from {
                return;
            }
            self.oldest.pop_first();
            self.owners[number as usize].asked = true;
            self.asked += 1;
            out.events.push(JournalEvent::FlushWanted { owner: number });
        }
    }

    fn owner(&mut self, number: u32) -> &mut Owner {
        let at = number as usize;
        if at >= self.owners.len() {
            self.owners.resize_with(at + 1, Owner::default);
        }
        &mut self.owners[at]
    }

    fn release_entries(&mut self, number: u32, is_done: impl Fn(Offset) -> bool) {
        let Some(owner) = self.owners.get_mut(number as usize) else { return };
        if std::mem::take(&mut owner.asked) {
            self.asked -= 1;
        } else if let Some((_, sequence)) = owner.live.front() {
            self.oldest.remove(&(*sequence, number));
        }
        while let Some(&(_, sequence)) = owner.live.front().filter(|(next, _)| is_done(*next)) {
            owner.live.pop_front();
            self.ring.release(sequence);
        }
        if let Some((_, sequence)) = owner.live.front() {
            self.oldest.insert((*sequence, number));
        }
    }

    fn drop_waiting(&mut self, number: u32, is_done: impl Fn(&Entry) -> bool) {
        let Some(owner) = self.owners.get_mut(number as usize).filter(|owner| owner.waiting > 0) else { return };
        let waiting_bytes = &mut self.gauges.waiting_bytes;
        self.waiting.retain(|entry| {
            let done = entry.owner == number && is_done(entry);
            if done {
                owner.waiting -= 1;
                *waiting_bytes -= entry.len() as u64;
            }
            !done
        });
        self.stop_waiting();
    }

    fn drop_all_waiting(&mut self) {
        for entry in self.waiting.drain(..) {
            self.owners[entry.owner as usize].waiting -= 1;
            self.gauges.waiting_bytes -= entry.len() as u64;
        }
        self.stop_waiting();
    }

    fn stop_waiting(&mut self) {
        if self.waiting.is_empty() {
            self.gauges.waiting_since = None;
        }
    }

    /// The next step of closing, once nothing is in flight.
    fn leave(&mut self, out: &mut JournalOut) {
        if !self.closing || self.asked_of_disk > 0 {
            return;
        }
        match self.state {
            State::Made | State::Open => {
                assert!(self.flights.is_empty() && self.header.is_none());
                self.state = State::Leaving;
                self.write_header(out);
            }
            State::Opening | State::Leaving | State::Failed => {
                self.state = State::Closed;
                if self.file_is_open {
                    self.ask(Op::Close, DiskOp::Close { file: self.file }, out);
                } else {
                    out.events.push(JournalEvent::Closed);
                }
            }
            State::Closed => {}
        }
    }

    fn fail(&mut self, op: Op, why: &str, out: &mut JournalOut) {
        let path = FileName::Journal(self.identity.core).path();
        let message = format!("{} the commit journal ({}) failed: {why}", doing(op), path.display());
        let opening = self.state == State::Opening;
        self.state = State::Failed;
        self.drop_all_waiting();
        self.flights.clear();
        out.events.push(match opening {
            true => JournalEvent::OpenFailed { message },
            false => JournalEvent::Failed { message },
        });
    }
}

impl Flight {
    /// Its entries are durable.
    fn tell(&mut self, now: Now, out: &mut JournalOut) {
        let times = CommitTimes { began: self.began, safe: now.mono };
        let known =
            |entry: Committing| entry.owner.map(|owner| JournalEvent::Committed { owner, next: entry.next, times });
        out.events.extend(self.entries.drain(..).filter_map(known));
    }
}

impl Entry {
    /// Bytes of payload.
    fn len(&self) -> usize {
        self.head.len as usize
    }
}

fn doing(op: Op) -> &'static str {
    match op {
        Op::MakeDir | Op::Open => "opening",
        Op::ReadHeaders => "reading",
        Op::Empty | Op::SyncEmpty | Op::Allocate | Op::Zero(_) => "making",
        Op::Write(_) | Op::WriteHeader => "writing",
        Op::Close => "closing",
    }
}
