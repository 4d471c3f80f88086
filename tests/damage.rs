//! Files that were damaged while the real binary was not looking: a disk gave back other bytes, or somebody deleted
//! something. What is lost is lost, with an error; the process and every other partition go on.
#![cfg(feature = "shell")]

mod binary;
mod raw;

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use binary::{Broker, PATIENCE, command, directory};
use corelog::base::ids::CoreId;
use corelog::base::rng::Rng;
use corelog::journal::noted::{self, Noted};
use corelog::wire::codec::Message;
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use corelog::wire::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use corelog::wire::records::BatchBuilder;
use raw::{Client, Witness, batch};

/// Its only partition is the one whose files are damaged.
const DAMAGED: &str = "damaged";

const TIME_MS: i64 = 1_700_000_000_000;

/// Small segments, so that there are some of every kind, and a small cache, so that most reads go to the files. The
/// records say that they are years old.
const ARGUMENTS: [&str; 7] =
    ["--cores", "1", "--log-segment-bytes", "262144", "--tail-cache-bytes", "1048576", "--log-retention-ms=-1"];

/// A data directory with a few segments of the topic that is to be damaged, left by a stop or by a kill.
fn left(dir: &Path, clean: bool) -> Witness {
    let broker = Broker::start_quiet(dir, &ARGUMENTS);
    let mut witness = Witness::new(&broker, "witness", 1);
    witness.check();
    witness.client.create_topic(DAMAGED, 1);
    for number in 0..300 {
        let mut builder = BatchBuilder::new(Compression::None).producer(number % 7, 0, (number / 7) as i32);
        builder.push(TIME_MS + number, None, Some(&vec![b'x'; 4000 + number as usize]));
        let row = witness.client.produce(DAMAGED, 0, builder.build().bytes);
        assert_eq!((row.error_code, row.base_offset), (0, number), "{:?}", row.error_message);
    }
    if clean {
        broker.stop()
    } else {
        broker.kill()
    }
    witness
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for file in files(from) {
        let to = to.join(file.file_name().expect("a name"));
        if file.is_dir() { copy(&file, &to) } else { fs::copy(&file, &to).map(|_| ()).expect("copied") }
    }
}

/// Does to some file of a directory what disks and people do, and says what.
fn damage(dir: &Path, rng: &mut Rng) -> String {
    let files = files(dir);
    let path = &files[rng.below(files.len() as u64) as usize];
    let file = OpenOptions::new().read(true).write(true).open(path).expect("open");
    let len = file.metadata().expect("a length").len();
    let at = rng.below(len.max(1));
    let mut bytes = vec![0; rng.below((len - at).min(9000) + 1) as usize];
    let what = match rng.below(6) {
        0 => {
            file.set_len(at).expect("cut");
            "cut"
        }
        1 => {
            file.write_all_at(&bytes, at).expect("written");
            "zeros"
        }
        2 => {
            bytes.fill_with(|| rng.next_u64() as u8);
            file.write_all_at(&bytes, at).expect("written");
            "garbage"
        }
        3 => {
            bytes.fill_with(|| rng.next_u64() as u8);
            file.write_all_at(&bytes, len).expect("written");
            "garbage behind the end"
        }
        4 => {
            fs::remove_file(path).expect("removed");
            "removal"
        }
        _ => {
            let mut byte = [0];
            if file.read_at(&mut byte, at).expect("read") == 1 {
                file.write_all_at(&[byte[0] ^ (1 << rng.below(8))], at).expect("written");
            }
            "a flipped bit"
        }
    };
    format!("{what} at {at} of {len} bytes of {}", path.display())
}

/// Asks for everything there is to ask of the damaged partition. Each answer is a code of Kafka's.
fn use_damaged(client: &mut Client, rng: &mut Rng) {
    let known = |code: i16| {
        assert!(ErrorCode::from_code(code).is_some_and(|code| code != ErrorCode::UnknownServerError), "code {code}");
        code
    };
    for timestamp in [-1, -2, -3, TIME_MS, TIME_MS + 150, TIME_MS + 299, TIME_MS + rng.below(300) as i64] {
        let partitions = vec![ListOffsetsPartition { timestamp, ..Default::default() }];
        let topics = vec![ListOffsetsTopic { name: DAMAGED.into(), partitions }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let reply: ListOffsetsResponse = client.call(7, &request);
        known(reply.topics[0].partitions[0].error_code);
    }
    for leader_epoch in [-1, 0, 1] {
        let partitions = vec![OffsetForLeaderPartition { leader_epoch, ..Default::default() }];
        let topics = vec![OffsetForLeaderTopic { topic: DAMAGED.into(), partitions }];
        let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
        let reply: OffsetForLeaderEpochResponse = client.call(OffsetForLeaderEpochRequest::API.versions.last, &request);
        known(reply.topics[0].partitions[0].error_code);
    }
    for from in (0..310).step_by(7) {
        let (code, _, _) = client.fetch(DAMAGED, 0, from);
        known(code);
    }
    for number in 0..3 {
        let row = client.produce(DAMAGED, 0, batch(&[b'y'; 5000]));
        known(row.error_code);
        if row.error_code == 0 {
            let (code, end, bytes) = client.fetch(DAMAGED, 0, row.base_offset);
            assert_eq!((code, end), (0, row.base_offset + 1), "what was just written is read, round {number}");
            assert!(bytes.len() > 5000);
        }
    }
}

#[test]
fn a_damaged_partition_answers_and_harms_no_other() {
    let (clean, killed) = (directory(), directory());
    let mut lefts = [(clean.path().join("data"), true), (killed.path().join("data"), false)].map(|(data, is_clean)| {
        fs::create_dir(&data).expect("created");
        let witness = left(&data, is_clean);
        (data, witness)
    });
    let mut rng = Rng::new(50);
    for round in 0..40 {
        let (data, witness) = &mut lefts[round % 2];
        let dir = directory();
        copy(data, dir.path());
        let damages: Vec<String> =
            (0..=rng.below(2)).map(|_| damage(&dir.path().join("damaged-0"), &mut rng)).collect();
        eprintln!("round {round}: {damages:#?}");
        let broker = Broker::start_quiet(dir.path(), &ARGUMENTS);
        witness.reconnect(&broker);
        use_damaged(&mut witness.client, &mut rng);
        witness.assert_intact();
        if rng.below(2) == 0 {
            broker.stop()
        } else {
            broker.kill()
        }
        let broker = Broker::start_quiet(dir.path(), &ARGUMENTS);
        witness.reconnect(&broker);
        use_damaged(&mut witness.client, &mut rng);
        witness.assert_intact();
        broker.stop();
    }
}

#[test]
fn damaged_metadata_is_an_error_at_the_start_or_does_no_harm() {
    let from = directory();
    let mut witness = left(from.path(), true);
    let mut rng = Rng::new(51);
    let (mut refused, mut started) = (0, 0);
    for round in 0..40 {
        let dir = directory();
        copy(from.path(), dir.path());
        let what = damage(&dir.path().join("meta"), &mut rng);
        eprintln!("round {round}: {what}");
        // What the broker says is read to its end where it ends by itself, and up to `ready` where it does not.
        let mut process = command(dir.path(), "127.0.0.1:0", &ARGUMENTS).spawn().expect("start the binary");
        let mut stderr = process.stderr.take().expect("a pipe");
        let mut said = String::new();
        let mut chunk = [0; 4096];
        while !said.contains(" ready\n") {
            let count = stderr.read(&mut chunk).expect("read");
            if count == 0 {
                break;
            }
            said += &String::from_utf8_lossy(&chunk[..count]);
        }
        if said.contains(" ready\n") {
            process.kill().expect("kill");
            process.wait().expect("wait");
            started += 1;
        } else {
            let status = process.wait().expect("wait");
            assert_eq!(status.code(), Some(1), "{said}");
            // Without the metadata it is another cluster, and the journal is not this one's.
            assert!(said.contains("meta/") || said.contains("journal/"), "a file is named: {said}");
            refused += 1;
            continue;
        }
        // A topic may be lost with the bytes that said so; one that is there has its records.
        let broker = Broker::start_quiet(dir.path(), &ARGUMENTS);
        witness.reconnect(&broker);
        witness.client.probe();
        if witness.client.fetch("witness", 0, 0).0 == 0 {
            witness.assert_intact();
        }
        broker.stop();
    }
    eprintln!("{refused} refused, {started} started");
    assert!(started > 0);
}

/// With a segment that is large enough for everything, so that no snapshot tells of it; and large batches, which go
/// there directly.
const ONE_SEGMENT: [&str; 4] = ["--cores", "1", "--journal-bytes", "1048576"];
const LARGE_BYTES: usize = 200_000;

/// Waits until it is noted that so many records of some partition are durable.
fn wait_until_noted(dir: &Path, records: i64) {
    let began = Instant::now();
    loop {
        let noted = fs::read(dir.join(noted::path(CoreId(0)))).ok().and_then(|bytes| Noted::from_file(&bytes));
        let durable = noted.iter().flat_map(|noted| noted.durable.values()).map(|reach| reach.end.0).max().unwrap_or(0);
        if durable >= records {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{durable} of {records} records are noted");
        std::thread::yield_now();
    }
}

fn produce_large(witness: &mut Witness, topic: &'static str, batches: i64) {
    for number in 0..batches {
        let row = witness.client.produce(topic, 0, batch(&vec![number as u8; LARGE_BYTES]));
        assert_eq!(row.error_code, 0, "{:?}", row.error_message);
    }
}

fn flip(path: &Path, position: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("read");
    file.write_all_at(&[byte[0] ^ 4], position).expect("written");
}

fn tool(arguments: &[&str], dir: &Path) -> String {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_corelog"));
    let output = tool.arg("log").args(arguments).arg(dir).output().expect("the binary runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_flipped_bit_in_what_was_durable_is_no_torn_write() {
    let dir = directory();
    let broker = Broker::start_quiet(dir.path(), &ONE_SEGMENT);
    let mut witness = Witness::new(&broker, "witness", 1);
    witness.check();
    witness.client.create_topic(DAMAGED, 1);
    produce_large(&mut witness, DAMAGED, 10);
    // By the broker that wrote it, and by the next.
    wait_until_noted(dir.path(), 10);
    broker.kill();
    let segment = dir.path().join("damaged-0/00000000000000000000.log");
    let at = LARGE_BYTES as u64 * 4;
    flip(&segment, at);
    for _ in 0..2 {
        let process = command(dir.path(), "127.0.0.1:0", &ONE_SEGMENT);
        let offline = "offline, other partitions go on";
        let broker = Broker::start_said(process, |line| {
            line.contains("damaged-0") && line.contains(offline) && line.contains("whole batches up to offset 3 only")
        });
        witness.reconnect(&broker);
        witness.check();
        assert_ne!(witness.client.produce(DAMAGED, 0, batch(b"not now")).error_code, 0);
        broker.kill();
    }
    let said = tool(&["repair"], dir.path());
    for part in ["damaged-0", "checksum does not match", "lost: offsets 3 to 9", "Nothing was changed"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Put right, it is as it was.
    flip(&segment, at);
    let broker = Broker::start_quiet(dir.path(), &ONE_SEGMENT);
    witness.reconnect(&broker);
    assert_eq!(witness.client.read_all(DAMAGED, 0).len(), 10);
    produce_large(&mut witness, DAMAGED, 2);
    wait_until_noted(dir.path(), 12);
    broker.kill();
    flip(&segment, at);
    let said = tool(&["repair", "--yes"], &dir.path().join("damaged-0"));
    assert!(said.contains("lost: offsets 3 to 11"), "{said}");
    let broker = Broker::start_quiet(dir.path(), &ONE_SEGMENT);
    witness.reconnect(&broker);
    assert_eq!(witness.client.read_all(DAMAGED, 0).len(), 3);
    assert_eq!(witness.client.produce(DAMAGED, 0, batch(b"goes on")).base_offset, 3);
    witness.assert_intact();
    broker.stop();
    assert!(tool(&["verify"], dir.path()).contains("whole"));
}

#[test]
fn what_a_crash_may_have_torn_is_cut_and_said() {
    let dir = directory();
    let broker = Broker::start_quiet(dir.path(), &ONE_SEGMENT);
    let mut witness = Witness::new(&broker, "witness", 1);
    witness.client.create_topic(DAMAGED, 1);
    produce_large(&mut witness, DAMAGED, 3);
    wait_until_noted(dir.path(), 3);
    broker.kill();
    // As a write that came to no end leaves it.
    let segment = dir.path().join("damaged-0/00000000000000000000.log");
    let torn = batch(&vec![3; LARGE_BYTES])[..LARGE_BYTES / 2].to_vec();
    let written = fs::read(&segment).expect("read");
    let end = written.iter().rposition(|byte| *byte != 0).expect("there are batches") as u64 + 1;
    let file = OpenOptions::new().write(true).open(&segment).expect("open");
    file.write_all_at(&torn, end).expect("written");
    let process = command(dir.path(), "127.0.0.1:0", &ONE_SEGMENT);
    let broker = Broker::start_said(process, |line| {
        line.contains("is cut at byte") && line.contains("behind the batch before offset 3")
    });
    witness.reconnect(&broker);
    assert_eq!(witness.client.read_all(DAMAGED, 0).len(), 3);
    assert_eq!(witness.client.produce(DAMAGED, 0, batch(b"goes on")).base_offset, 3);
    broker.stop();
}
