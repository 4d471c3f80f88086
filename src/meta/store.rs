//! The metadata's file: a snapshot and a log behind it, as a state machine over disk operations.
//!
//! One file a generation, `<20 digits>.meta`. A new generation is put in place whole (written beside, synced,
//! renamed) when the log part has grown, and at every start, so that what was read is known to be durable and the
//! file ends where the broker thinks it does. Appends that arrive while a write is under way go into the next one.
//!
//! *Owns*: the file and what is on its way to it. *Never*: repeats a failed sync, or writes to a block that holds an
//! earlier frame. *Runs on*: core 0.

use std::collections::VecDeque;
use std::path::PathBuf;

use bytes::Bytes;

use super::frame::{Damage, FRAME_OVERHEAD_BYTES, encode_frame, read_file};
use super::image::Image;
use super::record::MetaRecord;
use crate::base::bug::{self, Bug};
use crate::base::disk::{BLOCK_BYTES, DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::base::ids::NodeId;
use crate::base::limits::{DISK_WRITE_BYTES_MAX, META_LOG_BYTES_MAX};

/// Ties the end of a disk operation to what it was for. Opaque outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MetaOp(Op);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    List,
    Load,
    Replace,
    Open,
    Write,
    Sync,
    Close,
    /// Of what is in nobody's way any more: how it ends does not matter.
    Tidy,
}

#[derive(Debug)]
pub enum MetaEvent {
    /// The store is open and holds exactly these records. `append` may be called.
    Loaded { records: Vec<MetaRecord> },
    /// Everything appended up to `seq` is durable: `records`, in order, are those that were not before.
    Committed { seq: u64, records: Vec<MetaRecord> },
    /// There is no space. What was appended stays queued; call `retry` in a while.
    Full { message: String },
    /// The metadata cannot be read or written: the broker must stop. What was appended and not committed may or may
    /// not be there at the next start.
    Failed { message: String },
    /// Everything appended is durable and the file is closed.
    Closed,
}

/// What the store wants done, and what it has to say.
#[derive(Debug, Default)]
pub struct MetaOut {
    pub disk: Vec<(MetaOp, DiskOp)>,
    pub events: Vec<MetaEvent>,
}

#[derive(Debug)]
pub struct Store {
    owner: u32,
    me: NodeId,
    dir: PathBuf,
    state: State,
    /// The current file's.
    generation: u64,
    file: Option<FileId>,
    files_opened: u32,
    /// Where the next frame goes. Invariant: a multiple of the block.
    end: u64,
    log_bytes: u64,
    frames: u64,
    /// With everything appended applied, committed or not.
    image: Image,
    queued: VecDeque<Append>,
    /// What the write under way makes durable.
    flying: VecDeque<Append>,
    flying_frame: Bytes,
    /// What was read, until it may be shown.
    recovered: Option<Vec<MetaRecord>>,
    /// Files to be removed once the first generation of this run is in place.
    leftovers: Vec<PathBuf>,
    /// The log part at which the next generation is due.
    log_bytes_max: u64,
    closing: bool,
}

#[derive(Debug)]
struct Append {
    seq: u64,
    records: Vec<MetaRecord>,
    encoded: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Listing,
    Loading,
    /// The next generation is being put in place.
    Replacing,
    Opening,
    Idle,
    Writing,
    Syncing,
    /// A write, or putting a generation in place, found no space.
    FullWriting,
    FullReplacing,
    Closing,
    Closed,
    Failed,
}

impl Store {
    /// Starts to open the store in `dir`. Not to be used before [`MetaEvent::Loaded`]. `owner` is the upper half of
    /// the ids of the files it opens. `me` has what is of before there were several brokers.
    pub fn open(owner: u32, dir: PathBuf, me: NodeId, out: &mut MetaOut) -> Store {
        out.disk.push((MetaOp(Op::List), DiskOp::List { dir: dir.clone() }));
        Store {
            owner,
            me,
            dir,
            state: State::Listing,
            generation: 0,
            file: None,
            files_opened: 0,
            end: 0,
            log_bytes: 0,
            frames: 0,
            image: Image::default(),
            queued: VecDeque::new(),
            flying: VecDeque::new(),
            flying_frame: Bytes::new(),
            recovered: None,
            leftovers: Vec::new(),
            log_bytes_max: META_LOG_BYTES_MAX as u64,
            closing: false,
        }
    }

    /// The metadata with everything appended, committed or not: what the next plan must be made against.
    pub fn planned(&self) -> &Image {
        &self.image
    }

    /// Queues records, all or none of which will be there after a crash. Answers the `seq` at which
    /// [`MetaEvent::Committed`] covers them. The records must fit `planned()`, as the controller's plans do.
    pub fn append(&mut self, records: Vec<MetaRecord>, out: &mut MetaOut) -> u64 {
        assert!(!matches!(self.state, State::Listing | State::Loading) && self.recovered.is_none(), "not loaded yet");
        assert!(!self.closing, "appended after close");
        assert!(!records.is_empty(), "there is nothing to wait for");
        let mut encoded = Vec::new();
        for record in &records {
            self.image.apply(record).expect("the controller planned against this image");
            record.encode(&mut encoded);
        }
        assert!(encoded.len() + FRAME_OVERHEAD_BYTES <= DISK_WRITE_BYTES_MAX, "one plan is far smaller than a write");
        let seq = self.image.offset();
        self.queued.push_back(Append { seq, records, encoded });
        self.work(out);
        seq
    }

    /// Tries again what found no space. Harmless at any time.
    pub fn retry(&mut self, out: &mut MetaOut) {
        match self.state {
            State::FullWriting => self.send_write(out),
            State::FullReplacing => self.replace(out),
            _ => {}
        }
    }

    /// Ends in [`MetaEvent::Closed`] once everything appended is durable, or in [`MetaEvent::Failed`]: also where
    /// space is missing, since nobody is left to wait for it.
    pub fn close(&mut self, out: &mut MetaOut) {
        self.closing = true;
        match self.state {
            State::FullWriting | State::FullReplacing => self.fail("writing", "there is no space", out),
            _ => self.work(out),
        }
    }

    /// To be told once for each operation asked for.
    pub fn on_disk(&mut self, op: MetaOp, result: DiskResult, out: &mut MetaOut) {
        if op.0 == Op::Tidy || self.state == State::Failed {
            return;
        }
        match (op.0, result) {
            (Op::List, Ok(DiskDone::Listed(files))) => self.on_listed(&files, out),
            (Op::Load, Ok(DiskDone::Read(bytes))) => self.on_read(&bytes, out),
            (Op::Replace, Ok(_)) => self.on_replaced(out),
            (Op::Open, Ok(_)) => self.on_opened(out),
            (Op::Write, Ok(_)) => self.on_written(out),
            (Op::Sync, Ok(_)) => self.on_synced(out),
            (Op::Close, _) => {
                self.state = State::Closed;
                out.events.push(MetaEvent::Closed);
            }
            (Op::Write, Err(error)) if error.kind == DiskErrorKind::Full && !self.closing => {
                self.state = State::FullWriting;
                out.events.push(self.full(&error));
            }
            (Op::Replace, Err(error)) if error.kind == DiskErrorKind::Full && !self.closing => {
                self.state = State::FullReplacing;
                // The old generation is whole: a broker whose disk is full can start and be read from.
                self.show_recovered(out);
                out.events.push(self.full(&error));
            }
            (op, Err(error)) => self.fail(doing(op), &error.message, out),
            (op, Ok(_)) => unreachable!("the answer to {op:?} is of another operation"),
        }
    }

    fn on_listed(&mut self, files: &[(String, u64)], out: &mut MetaOut) {
        assert!(self.state == State::Listing);
        let newest = files.iter().filter_map(|(name, _)| generation_of(name)).max();
        // What a crash left half done, or did not come to delete.
        for (name, _) in files {
            let superseded = generation_of(name).is_some_and(|generation| Some(generation) < newest);
            if superseded || name.ends_with(".tmp") {
                self.leftovers.push(self.dir.join(name));
            }
        }
        match newest {
            Some(generation) => {
                self.generation = generation;
                self.state = State::Loading;
                out.disk.push((MetaOp(Op::Load), DiskOp::ReadFile { path: self.path(generation) }));
            }
            None => self.on_records(Vec::new(), out),
        }
    }

    fn on_read(&mut self, bytes: &[u8], out: &mut MetaOut) {
        assert!(self.state == State::Loading);
        match read_file(self.generation, bytes) {
            Ok(records) => self.on_records(records, out),
            Err(damage) => {
                let what = match damage {
                    Damage::At { position } => format!("it is damaged at byte {position}"),
                    Damage::Unknown { position, version } => {
                        format!(
                            "its frame at byte {position} has format version {version}, which is newer than this broker"
                        )
                    }
                    Damage::Record { position, error } => format!("its frame at byte {position} holds {error}"),
                };
                let remedy = "restore it from a copy, or start with the version that wrote it; nothing was changed";
                self.fail("reading", &format!("{what}; {remedy}"), out);
            }
        }
    }

    fn on_records(&mut self, records: Vec<MetaRecord>, out: &mut MetaOut) {
        let mut recovered = Vec::with_capacity(records.len());
        for record in records {
            let record = self.image.placed(record, self.me);
            if let Err(error) = self.image.apply(&record) {
                return self.fail("reading", &format!("its records contradict each other: {error}"), out);
            }
            recovered.push(record);
        }
        self.recovered = Some(recovered);
        self.replace(out);
    }

    fn show_recovered(&mut self, out: &mut MetaOut) {
        out.events.extend(self.recovered.take().map(|records| MetaEvent::Loaded { records }));
    }

    /// Puts the next generation in place. What is queued is part of its snapshot.
    fn replace(&mut self, out: &mut MetaOut) {
        self.flying.append(&mut self.queued);
        let mut snapshot = Vec::with_capacity(self.image.topics_bytes() + 64);
        self.image.to_records().iter().for_each(|record| record.encode(&mut snapshot));
        let frame = encode_frame(self.generation + 1, 0, &snapshot);
        self.end = frame.len() as u64;
        self.state = State::Replacing;
        let path = self.path(self.generation + 1);
        out.disk.push((MetaOp(Op::Replace), DiskOp::WriteFile { path, data: frame.into() }));
    }

    fn on_replaced(&mut self, out: &mut MetaOut) {
        assert!(self.state == State::Replacing);
        if let Some(file) = self.file.take() {
            out.disk.push((MetaOp(Op::Tidy), DiskOp::Close { file }));
        }
        if self.generation > 0 {
            self.leftovers.push(self.path(self.generation));
        }
        let leftovers = self.leftovers.drain(..);
        out.disk.extend(leftovers.map(|path| (MetaOp(Op::Tidy), DiskOp::Delete { path })));
        self.generation += 1;
        self.log_bytes = 0;
        self.frames = 1;
        self.files_opened += 1;
        let file = FileId::new(self.owner, self.files_opened);
        self.file = Some(file);
        self.state = State::Opening;
        let path = self.path(self.generation);
        out.disk.push((MetaOp(Op::Open), DiskOp::Open { file, path, create: false }));
        self.show_recovered(out);
        self.committed(out);
    }

    fn on_opened(&mut self, out: &mut MetaOut) {
        assert!(self.state == State::Opening);
        self.state = State::Idle;
        self.work(out);
    }

    /// Starts what can be started now.
    fn work(&mut self, out: &mut MetaOut) {
        if self.state != State::Idle {
            return;
        }
        if self.queued.is_empty() {
            if self.closing {
                self.state = State::Closing;
                out.disk.push((MetaOp(Op::Close), DiskOp::Close { file: self.open_file() }));
            }
        } else if self.log_bytes >= self.log_bytes_max {
            self.replace(out);
        } else {
            self.write(out);
        }
    }

    fn write(&mut self, out: &mut MetaOut) {
        assert!(self.flying.is_empty());
        let mut payload = Vec::new();
        while let Some(append) = self.queued.front() {
            if !payload.is_empty() && payload.len() + append.encoded.len() + FRAME_OVERHEAD_BYTES > DISK_WRITE_BYTES_MAX
            {
                break;
            }
            payload.extend_from_slice(&append.encoded);
            self.flying.extend(self.queued.pop_front());
        }
        self.flying_frame = encode_frame(self.generation, self.frames, &payload).into();
        assert!(self.end.is_multiple_of(BLOCK_BYTES as u64));
        self.send_write(out);
    }

    fn send_write(&mut self, out: &mut MetaOut) {
        self.state = State::Writing;
        let data = vec![self.flying_frame.clone()];
        out.disk.push((MetaOp(Op::Write), DiskOp::Write { file: self.open_file(), position: self.end, data }));
    }

    fn on_written(&mut self, out: &mut MetaOut) {
        assert!(self.state == State::Writing);
        self.state = State::Syncing;
        if bug::on(Bug::CommitMetaBeforeSync) {
            return self.on_synced(out);
        }
        out.disk.push((MetaOp(Op::Sync), DiskOp::Sync { file: self.open_file() }));
    }

    fn on_synced(&mut self, out: &mut MetaOut) {
        assert!(self.state == State::Syncing);
        let frame_bytes = std::mem::take(&mut self.flying_frame).len() as u64;
        self.end += frame_bytes;
        self.log_bytes += frame_bytes;
        self.frames += 1;
        self.state = State::Idle;
        self.committed(out);
        self.work(out);
    }

    fn committed(&mut self, out: &mut MetaOut) {
        let Some(seq) = self.flying.back().map(|append| append.seq) else { return };
        let records = self.flying.drain(..).flat_map(|append| append.records).collect();
        out.events.push(MetaEvent::Committed { seq, records });
    }

    fn fail(&mut self, doing: &str, why: &str, out: &mut MetaOut) {
        self.state = State::Failed;
        let path = self.path(self.generation.max(1));
        let message = format!("{doing} the metadata ({}) failed: {why}", path.display());
        out.events.push(MetaEvent::Failed { message });
    }

    fn full(&self, error: &DiskError) -> MetaEvent {
        let dir = self.dir.display();
        MetaEvent::Full { message: format!("no space to write the metadata ({dir}): {error}; free some space there") }
    }

    fn open_file(&self) -> FileId {
        self.file.expect("the state says that a file is open")
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("{generation:020}.meta"))
    }
}

fn doing(op: Op) -> &'static str {
    match op {
        Op::List => "listing",
        Op::Load => "reading",
        Op::Open => "opening",
        Op::Write | Op::Replace => "writing",
        Op::Sync => "syncing",
        Op::Close | Op::Tidy => "closing",
    }
}

pub(super) fn generation_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".meta")?;
    let generation: u64 = digits.parse().ok()?;
    (digits.len() == 20 && generation < u64::MAX).then_some(generation)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::ids::TopicId;
    use crate::base::rng::Rng;

    const SECTOR_BYTES: usize = 512;

    /// Files by path, and the writes that no sync has covered yet.
    #[derive(Clone, Default)]
    struct TestDisk {
        files: BTreeMap<PathBuf, Vec<u8>>,
        unsynced: Vec<(PathBuf, u64, Vec<u8>)>,
        open: BTreeMap<FileId, PathBuf>,
    }

    fn not_found() -> DiskError {
        DiskError { kind: DiskErrorKind::NotFound, message: "no such file".into() }
    }

    impl TestDisk {
        fn run(&mut self, op: &DiskOp) -> DiskResult {
            match op {
                DiskOp::List { .. } => {
                    let name = |path: &PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
                    return Ok(DiskDone::Listed(self.files.iter().map(|(p, b)| (name(p), b.len() as u64)).collect()));
                }
                DiskOp::ReadFile { path } => {
                    let bytes = self.files.get(path).ok_or_else(not_found)?;
                    return Ok(DiskDone::Read(bytes.clone().into()));
                }
                DiskOp::Open { file, path, create: false } => {
                    let len = self.files.get(path).ok_or_else(not_found)?.len() as u64;
                    assert!(self.open.insert(*file, path.clone()).is_none(), "a file id was used twice");
                    return Ok(DiskDone::Opened { len });
                }
                DiskOp::Write { file, position, data } => {
                    assert!(position.is_multiple_of(BLOCK_BYTES as u64));
                    self.unsynced.push((self.open[file].clone(), *position, data.concat()));
                }
                DiskOp::Sync { file } => {
                    let path = self.open[file].clone();
                    let (now, later) = self.unsynced.drain(..).partition(|(of, ..)| *of == path);
                    self.unsynced = later;
                    let now: Vec<(PathBuf, u64, Vec<u8>)> = now;
                    now.into_iter().for_each(|(path, at, bytes)| self.put(&path, at as usize, &bytes));
                }
                DiskOp::WriteFile { path, data } => {
                    self.files.insert(path.clone(), data.to_vec());
                }
                DiskOp::Close { file } => {
                    self.open.remove(file).expect("was open");
                }
                DiskOp::Delete { path } => {
                    self.files.remove(path);
                }
                other => panic!("the store has no use for {other:?}"),
            }
            Ok(DiskDone::Done)
        }

        fn put(&mut self, path: &PathBuf, at: usize, bytes: &[u8]) {
            let Some(file) = self.files.get_mut(path) else { return };
            file.resize(file.len().max(at + bytes.len()), 0);
            file[at..at + bytes.len()].copy_from_slice(bytes);
        }

        /// Loses any sectors of what was not synced.
        fn crash(mut self, rng: &mut Rng) -> TestDisk {
            for (path, at, bytes) in std::mem::take(&mut self.unsynced) {
                for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if rng.below(2) == 0 {
                        self.put(&path, at as usize + index * SECTOR_BYTES, sector);
                    }
                }
            }
            self
        }
    }

    /// A store on a test disk, driven until nothing is left to do or the operations allowed are used up.
    struct Driver {
        disk: TestDisk,
        store: Store,
        out: MetaOut,
        operations_left: usize,
        loaded: Option<Vec<MetaRecord>>,
        committed: Vec<MetaRecord>,
        seq: u64,
        full: usize,
        failed: Option<String>,
        closed: bool,
    }

    impl Driver {
        fn open(mut disk: TestDisk, operations: usize) -> Driver {
            disk.open.clear();
            let mut out = MetaOut::default();
            let mut store = Store::open(7, "meta".into(), NodeId(1), &mut out);
            store.log_bytes_max = 5 * BLOCK_BYTES as u64;
            let (committed, seq, full) = (Vec::new(), 0, 0);
            let (loaded, failed, closed) = (None, None, false);
            let operations_left = operations;
            let mut driver = Driver { disk, store, out, operations_left, loaded, committed, seq, full, failed, closed };
            driver.run(|_| None);
            driver
        }

        fn run(&mut self, mut fault: impl FnMut(&DiskOp) -> Option<DiskError>) {
            loop {
                for event in std::mem::take(&mut self.out.events) {
                    match event {
                        MetaEvent::Loaded { records } => self.loaded = Some(records),
                        MetaEvent::Committed { seq, records } => {
                            assert!(seq > self.seq);
                            self.seq = seq;
                            self.committed.extend(records);
                        }
                        MetaEvent::Full { .. } => self.full += 1,
                        MetaEvent::Failed { message } => self.failed = Some(message),
                        MetaEvent::Closed => self.closed = true,
                    }
                }
                if self.out.disk.is_empty() || self.operations_left == 0 {
                    return;
                }
                self.operations_left -= 1;
                let (op, disk_op) = self.out.disk.remove(0);
                let result = fault(&disk_op).map_or_else(|| self.disk.run(&disk_op), Err);
                self.store.on_disk(op, result, &mut self.out);
            }
        }

        fn append(&mut self, record: MetaRecord) {
            self.store.append(vec![record], &mut self.out);
        }

        fn able(&self) -> bool {
            self.loaded.is_some() && self.failed.is_none()
        }
    }

    fn record(next: i64) -> MetaRecord {
        MetaRecord::ProducerIdsTaken { next }
    }

    /// A topic whose record needs more than one block.
    fn large(count: u8) -> MetaRecord {
        let settings = (0..20).map(|i| (format!("{i}"), "x".repeat(250))).collect();
        let (name, id, placed) = (count.to_string(), TopicId([count; 16]), vec![vec![NodeId(1)]]);
        MetaRecord::TopicCreated { name, id, partitions: 1, placed, settings }
    }

    fn records() -> Vec<MetaRecord> {
        let mut records: Vec<MetaRecord> = (1..=12).map(record).collect();
        (0..4).for_each(|i| records.insert(3 * usize::from(i), large(i)));
        records
    }

    fn image(records: &[MetaRecord]) -> Image {
        let mut image = Image::default();
        records.iter().for_each(|record| image.apply(record).expect("fits"));
        image
    }

    /// Appends all records, waiting for the disk after every one or every third, until the operations are used up.
    fn scenario(disk: TestDisk, operations: usize, together: usize) -> Driver {
        let mut driver = Driver::open(disk, operations);
        for (index, record) in records().into_iter().enumerate() {
            if !driver.able() {
                break;
            }
            driver.append(record);
            if (index + 1).is_multiple_of(together) {
                driver.run(|_| None);
            }
        }
        driver.run(|_| None);
        driver
    }

    #[test]
    fn what_was_appended_is_there_after_a_close_and_over_generations() {
        for together in [1, 3] {
            let mut driver = scenario(TestDisk::default(), usize::MAX, together);
            assert_eq!(driver.committed, records());
            assert_eq!(driver.seq, driver.store.planned().offset());
            driver.store.close(&mut driver.out);
            driver.run(|_| None);
            assert!(driver.closed && driver.disk.open.is_empty());
            assert!(driver.disk.unsynced.is_empty());
            assert_eq!(driver.disk.files.len(), 1, "older generations are gone");
            let again = Driver::open(driver.disk, usize::MAX);
            assert_eq!(image(&again.loaded.expect("opened")).to_records(), image(&records()).to_records());
        }
    }

    #[test]
    fn a_crash_after_any_operation_leaves_a_state_that_was() {
        let states: Vec<Vec<MetaRecord>> = (0..=records().len()).map(|n| image(&records()[..n]).to_records()).collect();
        let mut seen_all = false;
        for together in [1, 3] {
            for operations in 0..80 {
                for seed in 0..3 {
                    let driver = scenario(TestDisk::default(), operations, together);
                    let committed = driver.committed.len();
                    seen_all |= committed == records().len();
                    // What was asked for and not yet answered may have happened too.
                    let mut disk = driver.disk;
                    let mut rng = Rng::new(seed);
                    if let Some((_, op)) = driver.out.disk.first().filter(|_| rng.below(2) == 0) {
                        disk.run(op).expect("works");
                    }
                    let again = Driver::open(disk.crash(&mut rng), usize::MAX);
                    assert_eq!(again.failed, None);
                    let found = image(&again.loaded.expect("opened")).to_records();
                    let state = states.iter().position(|state| *state == found).expect("a state that was");
                    assert!(state >= committed, "{committed} were committed, {state} found after {operations}");
                }
            }
        }
        assert!(seen_all, "the scenario never came to its end");
    }

    #[test]
    fn a_crash_while_recovering_loses_nothing() {
        let disk = scenario(TestDisk::default(), usize::MAX, 1).disk.crash(&mut Rng::new(1));
        for operations in 0..8 {
            let half = Driver::open(disk.clone(), operations);
            let mut left = half.disk;
            left.files.insert("meta/00000000000000000009.meta.tmp".into(), vec![1, 2, 3]);
            let again = Driver::open(left, usize::MAX);
            assert_eq!(image(&again.loaded.expect("opened")).to_records(), image(&records()).to_records());
            assert_eq!(again.disk.files.len(), 1, "leftovers are gone");
        }
    }

    #[test]
    fn a_failed_write_or_sync_is_the_end_and_is_never_repeated() {
        for failing in ["Write ", "Sync", "WriteFile"] {
            let mut driver = Driver::open(TestDisk::default(), usize::MAX);
            driver.append(record(1));
            driver.run(|_| None);
            let mut tried = 0;
            for next in 2..9 {
                driver.append(record(next));
                driver.run(|op| {
                    let hit = format!("{op:?}").starts_with(failing);
                    tried += usize::from(hit);
                    hit.then(|| DiskError { kind: DiskErrorKind::Failed, message: "I/O error".into() })
                });
            }
            assert_eq!(tried, 1, "{failing}");
            let message = driver.failed.expect("said so");
            assert!(message.contains("I/O error") && message.contains("meta/0000"), "{message}");
        }
    }

    #[test]
    fn a_full_disk_keeps_what_was_appended_until_there_is_space() {
        let full = |_: &DiskOp| Some(DiskError { kind: DiskErrorKind::Full, message: "ENOSPC".into() });
        let mut driver = Driver::open(TestDisk::default(), usize::MAX);
        // The last of these finds the log part grown, and the next generation due.
        for next in 1..=7 {
            driver.append(record(next));
            driver.run(full);
            driver.store.retry(&mut driver.out);
            driver.run(full);
            assert_eq!((driver.full, driver.seq), (2 * next as usize, next as u64 - 1));
            driver.store.retry(&mut driver.out);
            driver.run(|_| None);
            assert_eq!(driver.seq, next as u64);
        }
        driver.append(record(8));
        driver.run(full);
        driver.store.close(&mut driver.out);
        driver.run(full);
        assert!(driver.failed.is_some_and(|message| message.contains("no space")) && !driver.closed);

        let mut starting = Driver::open(driver.disk, 2);
        starting.operations_left = usize::MAX;
        starting.run(full);
        assert_eq!(image(&starting.loaded.expect("a full disk can be started from")).next_producer_id(), 7);
        starting.store.append(vec![record(9)], &mut starting.out);
        starting.store.retry(&mut starting.out);
        starting.loaded = None;
        starting.run(|_| None);
        assert_eq!((starting.committed, starting.loaded), (vec![record(9)], None));
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_as_it_is() {
        let mut disk = scenario(TestDisk::default(), usize::MAX, 1).disk;
        let (path, bytes) = disk.files.first_entry().map(|e| (e.key().clone(), e.get().clone())).expect("a file");
        for at in [40, bytes.len() - BLOCK_BYTES + 40] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            disk.files.insert(path.clone(), damaged.clone());
            disk.files.insert("meta/00000000000000000000.meta".into(), bytes.clone());
            let driver = Driver::open(disk.clone(), usize::MAX);
            assert!(driver.loaded.is_none());
            let message = driver.failed.expect("refused");
            assert!(message.contains("damaged at byte") && message.contains("nothing was changed"), "{message}");
            assert_eq!(driver.disk.files, disk.files);
        }
    }
}
