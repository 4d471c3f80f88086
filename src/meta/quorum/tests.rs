//! One quorum and its file; then one to five on a network that loses, doubles and reorders, crashing at any time.

use super::*;
use crate::base::disk::{BLOCK_BYTES, DiskError, DiskErrorKind, DiskOp};
use crate::base::testdisk::{Crash, TestDisk};
use crate::config::{ConfigResource, Overrides};
use crate::meta::frame;

mod world;

/// A quorum on a test disk, driven until nothing is left to do or the operations allowed are used up.
struct Driver {
    disk: TestDisk<MetaOp>,
    quorum: Quorum,
    out: MetaOut,
    operations_left: usize,
    loaded: Option<Vec<MetaRecord>>,
    committed: Vec<MetaRecord>,
    full: usize,
    failed: Option<String>,
    closed: bool,
}

const ME: NodeId = NodeId(0);

/// A new directory, if nothing is in it, has the number of the seed.
fn quorum_of(me: NodeId, seed: u64, out: &mut MetaOut) -> Quorum {
    let directory = DirectoryId([seed as u8; 16]);
    let mut quorum = Quorum::open(7, "meta".into(), (me, directory), Rng::new(seed), out);
    quorum.log.log_bytes_max = 5 * BLOCK_BYTES as u64;
    quorum
}

impl Driver {
    fn open(disk: TestDisk<MetaOp>, operations: usize) -> Driver {
        Driver::open_with(disk, operations, 1)
    }

    fn open_with(disk: TestDisk<MetaOp>, operations: usize, seed: u64) -> Driver {
        let mut out = MetaOut::default();
        let quorum = quorum_of(ME, seed, &mut out);
        let (committed, full, operations_left) = (Vec::new(), 0, operations);
        let (loaded, failed, closed) = (None, None, false);
        let mut driver = Driver { disk, quorum, out, operations_left, loaded, committed, full, failed, closed };
        driver.run(|_| None);
        driver
    }

    fn run(&mut self, mut fault: impl FnMut(&DiskOp) -> Option<DiskError>) {
        loop {
            assert!(self.out.messages.is_empty(), "there is nobody to talk to");
            for event in mem::take(&mut self.out.events) {
                match event {
                    MetaEvent::Loaded { records } => self.loaded = Some(records),
                    MetaEvent::Committed { records, .. } => self.committed.extend(records),
                    MetaEvent::Controller { me, .. } => assert!(me),
                    MetaEvent::Full { .. } => self.full += 1,
                    MetaEvent::Failed { message } => self.failed = Some(message),
                    MetaEvent::Closed => self.closed = true,
                }
            }
            if let Some((op, disk_op)) = (!self.out.disk.is_empty()).then(|| self.out.disk.remove(0)) {
                match fault(&disk_op) {
                    Some(error) => self.quorum.on_disk(op, Err(error), &mut self.out),
                    None => self.disk.send(op, disk_op),
                }
                continue;
            }
            if self.operations_left == 0 {
                return;
            }
            let Some((op, result)) = self.disk.step() else { return };
            self.operations_left -= 1;
            self.quorum.on_disk(op, result, &mut self.out);
        }
    }

    /// The first founds the cluster.
    fn append(&mut self, record: MetaRecord) {
        if !self.quorum.has_cluster() {
            self.quorum.found(vec![record], &mut self.out);
        } else {
            self.quorum.propose(vec![record], &mut self.out).expect("decides alone");
        }
    }

    fn able(&self) -> bool {
        self.loaded.is_some() && self.failed.is_none()
    }

    fn crash(mut self, how: Crash) -> TestDisk<MetaOp> {
        self.disk.crash(how);
        self.disk
    }
}

/// Something that was decided, and can be found again.
fn record(number: u64) -> MetaRecord {
    large(number, 1)
}

/// With more settings than fit a block, if there are many.
fn large(number: u64, count: u64) -> MetaRecord {
    let settings: Overrides = (0..count).map(|at| (at.to_string(), "x".repeat(250))).collect();
    MetaRecord::ConfigChanged { resource: ConfigResource::Group(number.to_string()), settings }
}

fn records() -> Vec<MetaRecord> {
    (0..16).map(|number| if number % 4 == 0 { large(number, 20) } else { record(number) }).collect()
}

fn image(records: &[MetaRecord]) -> Image {
    let mut image = Image::default();
    records.iter().for_each(|record| image.apply(record).expect("fits"));
    image
}

/// Proposes all records, waiting for the disk after every one or every third, until the operations are used up.
fn scenario(operations: usize, together: usize, seed: u64) -> Driver {
    let mut driver = Driver::open(TestDisk::new(seed), operations);
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

fn loaded(driver: &Driver) -> Vec<MetaRecord> {
    assert_eq!(driver.failed, None);
    image(driver.loaded.as_ref().expect("opened")).to_records()
}

#[test]
fn what_was_proposed_is_there_after_a_close_and_over_generations() {
    for together in [1, 3] {
        let mut driver = scenario(usize::MAX, together, 1);
        assert_eq!(driver.committed, records());
        driver.quorum.close(&mut driver.out);
        driver.run(|_| None);
        assert!(driver.closed && driver.disk.open_files() == 0);
        assert_eq!(driver.disk.names("meta".as_ref()).len(), 1, "older generations are gone");
        driver.disk.crash(Crash::Power);
        assert_eq!(loaded(&Driver::open(driver.disk, usize::MAX)), image(&records()).to_records());
    }
}

#[test]
fn a_directory_is_the_same_for_as_long_as_its_log_is_there() {
    let mut driver = Driver::open_with(TestDisk::new(1), usize::MAX, 3);
    driver.append(record(0));
    driver.run(|_| None);
    for seed in 4..6 {
        driver = Driver::open_with(driver.crash(Crash::Power), usize::MAX, seed);
        assert_eq!(driver.quorum.directory(), DirectoryId([3; 16]));
    }
    let other = Driver::open_with(TestDisk::new(1), usize::MAX, 6);
    assert_eq!(other.quorum.directory(), DirectoryId([6; 16]));
}

#[test]
fn one_node_commits_with_one_write_and_one_sync_and_has_no_timer() {
    let mut driver = Driver::open(TestDisk::new(1), usize::MAX);
    driver.append(record(0));
    driver.run(|_| None);
    let before = driver.disk.done;
    driver.append(record(1));
    driver.run(|_| None);
    assert_eq!((driver.disk.done - before, driver.committed.len()), (2, 2));
    assert_eq!(driver.quorum.next_deadline(Instant(0)), None);
}

#[test]
fn a_crash_after_any_operation_leaves_a_state_that_was() {
    let states: Vec<Vec<MetaRecord>> = (0..=records().len()).map(|n| image(&records()[..n]).to_records()).collect();
    let mut seen_all = false;
    for together in [1, 3] {
        for operations in 0..90 {
            for seed in 0..3 {
                let driver = scenario(operations, together, seed);
                let committed = driver.committed.len();
                seen_all |= committed == records().len();
                let again = Driver::open(driver.crash(Crash::Power), usize::MAX);
                let state = states.iter().position(|state| *state == loaded(&again)).expect("a state that was");
                assert!(state >= committed, "{committed} were committed, {state} found after {operations}");
            }
        }
    }
    assert!(seen_all, "the scenario never came to its end");
}

#[test]
fn a_crash_while_recovering_loses_nothing() {
    let disk = scenario(usize::MAX, 1, 1).crash(Crash::Power);
    for operations in 0..8 {
        let mut left = Driver::open(disk.clone(), operations).crash(Crash::Power);
        left.put("meta/00000000000000000099.meta.tmp".as_ref(), vec![1, 2, 3]);
        let mut again = Driver::open(left, usize::MAX);
        assert_eq!(loaded(&again), image(&records()).to_records());
        again.append(record(99));
        again.run(|_| None);
        assert_eq!(again.committed, [record(99)]);
        assert_eq!(again.disk.names("meta".as_ref()).len(), 1, "leftovers are gone");
    }
}

#[test]
fn a_failed_write_or_sync_is_the_end_and_is_never_repeated() {
    for failing in ["write", "sync", "write file"] {
        let mut driver = Driver::open(TestDisk::new(1), usize::MAX);
        driver.append(record(1));
        driver.run(|_| None);
        let mut tried = 0;
        for number in 2..9 {
            driver.append(record(number));
            driver.run(|op| {
                tried += usize::from(op.name() == failing);
                (op.name() == failing).then(|| DiskError { kind: DiskErrorKind::Failed, message: "I/O error".into() })
            });
        }
        assert_eq!(tried, 1, "{failing}");
        let message = driver.failed.expect("said so");
        assert!(message.contains("I/O error") && message.contains("meta/0000"), "{message}");
    }
}

#[test]
fn a_full_disk_keeps_what_was_proposed_until_there_is_space() {
    let writes = |op: &DiskOp| matches!(op, DiskOp::Write { .. } | DiskOp::WriteFile { .. });
    let full = |op: &DiskOp| writes(op).then(|| DiskError { kind: DiskErrorKind::Full, message: "ENOSPC".into() });
    let mut driver = Driver::open(TestDisk::new(1), usize::MAX);
    // The last of these find the log part grown, and the next generation due.
    for number in 0..8 {
        driver.append(record(number));
        driver.run(full);
        driver.quorum.retry(&mut driver.out);
        driver.run(full);
        assert_eq!((driver.full, driver.committed.len()), (2 * number as usize + 2, number as usize));
        driver.quorum.retry(&mut driver.out);
        driver.run(|_| None);
        assert_eq!(driver.committed.len(), number as usize + 1);
    }
    driver.append(record(8));
    driver.run(full);
    driver.quorum.close(&mut driver.out);
    driver.run(full);
    assert!(driver.failed.as_ref().is_some_and(|message| message.contains("no space")) && !driver.closed);

    let mut starting = Driver::open(driver.crash(Crash::Kill), 2);
    starting.operations_left = usize::MAX;
    starting.run(full);
    let known = image(starting.loaded.as_ref().expect("a full disk can be started from"));
    assert_eq!(known.configured().count(), 8);
    starting.append(record(9));
    starting.quorum.retry(&mut starting.out);
    starting.loaded = None;
    starting.run(|_| None);
    assert_eq!((starting.committed, starting.loaded), (vec![record(9)], None));
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    let mut disk = scenario(usize::MAX, 1, 1).crash(Crash::Kill);
    let (name, _) = disk.names("meta".as_ref()).remove(0);
    let path = PathBuf::from("meta").join(name);
    let bytes = disk.bytes(&path).clone();
    disk.put("meta/00000000000000000000.meta".as_ref(), bytes.clone());
    for at in [40, bytes.len() - BLOCK_BYTES + 40] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        disk.put(&path, damaged.clone());
        let mut driver = Driver::open(disk.clone(), usize::MAX);
        assert!(driver.loaded.is_none());
        let message = driver.failed.expect("refused");
        assert!(message.contains("damaged at byte") && message.contains("nothing was changed"), "{message}");
        assert_eq!(driver.disk.names("meta".as_ref()), disk.names("meta".as_ref()));
        assert_eq!(*driver.disk.bytes(&path), damaged);
    }
}

/// A file as brokers wrote it that stood alone: frames of records.
fn file_of_records(generation: u64, records: &[MetaRecord]) -> Vec<u8> {
    let mut file = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let mut payload = Vec::new();
        record.encode(&mut payload);
        file.extend(frame::encode_frame_of(frame::VERSION_OF_RECORDS, generation, index as u64, &payload));
    }
    file
}

#[test]
fn a_file_of_before_becomes_the_first_snapshot() {
    let mut disk = TestDisk::new(1);
    disk.put("meta/00000000000000000009.meta".as_ref(), file_of_records(9, &records()));
    let mut driver = Driver::open(disk, usize::MAX);
    assert_eq!(loaded(&driver), image(&records()).to_records());
    driver.append(record(99));
    driver.run(|_| None);
    assert_eq!(driver.committed, [record(99)]);
    assert_eq!(driver.quorum.status().voters, [ME]);
    let again = Driver::open(driver.crash(Crash::Power), usize::MAX);
    assert!(loaded(&again).contains(&record(99)));
}

#[test]
fn the_log_of_another_node_is_refused() {
    let disk = scenario(usize::MAX, 1, 1).crash(Crash::Kill);
    let mut driver = Driver::open(disk.clone(), 0);
    driver.out = MetaOut::default();
    driver.disk = disk;
    driver.quorum = quorum_of(NodeId(7), 1, &mut driver.out);
    driver.operations_left = usize::MAX;
    driver.run(|_| None);
    let message = driver.failed.expect("refused");
    assert!(message.contains("belongs to node 0") && message.contains("this is node 7"), "{message}");
}

#[test]
fn what_a_peer_cannot_have_said_is_refused() {
    let mut driver = scenario(usize::MAX, 1, 1);
    let status = driver.quorum.status();
    let message = |kind| Message { msg_type: kind, from: 2, to: 1, term: status.term + 1, ..Message::default() };
    let heartbeat = Message { commit: status.last + 1, ..message(MessageType::MsgHeartbeat) };
    let entry = Entry { index: status.commit, term: status.term + 1, ..Entry::default() };
    let append = Message { index: status.commit - 1, entries: vec![entry].into(), ..message(MessageType::MsgAppend) };
    let answer = Message { index: status.last + 1, term: status.term, ..message(MessageType::MsgAppendResponse) };
    let elsewhere = Message { to: 3, ..message(MessageType::MsgHeartbeat) };
    for message in [heartbeat, append, answer, elsewhere] {
        let bytes = encode_message(&message).expect("goes over the network");
        driver.quorum.on_message(NodeId(1), &bytes, &mut driver.out).expect_err("refused");
    }
    assert_eq!(driver.quorum.status(), status);
    let mut empty = Driver::open(TestDisk::new(1), usize::MAX);
    let bytes = encode_message(&message(MessageType::MsgRequestVote)).expect("goes over the network");
    empty.quorum.on_message(NodeId(1), &bytes, &mut empty.out).expect_err("who has no log has no vote");
}
