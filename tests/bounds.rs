//! What is bounded, against the live binary: connections, slow consumers, eager producers, a full disk, thousands of
//! partitions. The broker stays up, its memory stays within its settings, and others are served meanwhile.
#![cfg(feature = "shell")]

mod binary;
mod raw;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use binary::{Broker, PATIENCE, directory};
use bytes::Bytes;
use corelog::base::rng::Rng;
use corelog::shell::socket;
use corelog::wire::messages::api_versions::ApiVersionsRequest;
use corelog::wire::messages::fetch::FetchRequest;
use raw::{Client, FETCH_VERSION, PRODUCE_VERSION, Witness, batch, fetch_request, produce_request};

const MIB: usize = 1 << 20;

/// KAFKA_STORAGE_ERROR.
const STORAGE_ERROR: i16 = 56;

/// Bytes that no file system or cache can make smaller, told apart by `number`.
fn noise(number: u64, bytes: usize) -> Bytes {
    let mut rng = Rng::new(number);
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        noise.extend(rng.next_u64().to_be_bytes());
    }
    noise.truncate(bytes);
    noise.into()
}

/// How many files this process may have open, after asking for as many as there may be.
fn files_max() -> usize {
    socket::raise_limit(libc::RLIMIT_NOFILE).expect("a limit") as usize
}

#[test]
fn idle_connections_cost_little_memory_and_keep_nobody_out() {
    const BYTES_PER_CONNECTION: usize = 16 << 10;
    let count = files_max().saturating_sub(1000).min(10_000);
    assert!(count > 0, "this process may open too few files");
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "2"]);
    let mut witness = Witness::new(&broker, "t", 2);
    witness.check();
    let before = broker.memory_bytes("VmRSS");
    let mut idle = Vec::new();
    while idle.len() < count {
        // In rows, so that the requests of many are on their way at the same time.
        let mut row: Vec<Client> = (0..100.min(count - idle.len())).map(|_| Client::connect(&broker)).collect();
        for client in &mut row {
            client.send(0, &ApiVersionsRequest::default());
        }
        for client in &mut row {
            client.receive_frame().expect("every connection is served");
        }
        idle.append(&mut row);
    }
    let grown = broker.memory_bytes("VmRSS").saturating_sub(before);
    eprintln!("{count} connections: {} bytes each", grown / count);
    assert!(grown / count < BYTES_PER_CONNECTION, "{} bytes per connection", grown / count);
    Client::connect(&broker).probe();
    witness.check();
    idle[count / 2].probe();
    drop(idle);
    witness.check();
    broker.stop();
}

#[test]
fn consumers_that_never_read_hold_no_more_than_their_share() {
    const CONSUMERS: usize = 50;
    const FETCHES_EACH: usize = 60;
    const RECORDS: u64 = 48;
    const REQUEST_BYTES: usize = 16 * MIB;
    const CACHE_BYTES: usize = 8 * MIB;
    let dir = directory();
    let arguments = [
        "--cores",
        "1",
        "--queued-max-request-bytes",
        &REQUEST_BYTES.to_string(),
        "--socket-request-max-bytes",
        "8388608",
        "--tail-cache-bytes",
        &CACHE_BYTES.to_string(),
    ];
    let broker = Broker::start(dir.path(), &arguments);
    let mut witness = Witness::new(&broker, "t", 1);
    witness.client.create_topic("empty", 1);
    for number in 0..RECORDS {
        let value = noise(number, MIB - 1000);
        let row = witness.client.produce("t", 0, batch(&value));
        witness.note(&row, value);
    }
    witness.assert_intact();
    let before = broker.memory_bytes("VmRSS");
    broker.forget_memory_peak();
    let mut slow: Vec<Client> = (0..CONSUMERS).map(|_| Client::connect(&broker)).collect();
    for (number, client) in slow.iter_mut().enumerate() {
        if number % 2 == 0 {
            // Its replies wait for one that waits for records.
            let waiting = FetchRequest { max_wait_ms: 3000, ..fetch_request("empty", 0, 0) };
            client.send(FETCH_VERSION, &waiting);
        }
        for fetch in 0..FETCHES_EACH {
            let from = (number + fetch) as i64 % RECORDS as i64;
            client.send(FETCH_VERSION, &fetch_request("t", 0, from));
        }
    }
    // Each of them has something to read, and reads nothing.
    for client in &slow {
        assert_eq!(client.stream.peek(&mut [0]).expect("the start of a reply"), 1);
    }
    for _ in 0..3 {
        witness.check();
        Client::connect(&broker).probe();
    }
    let grown = broker.memory_bytes("VmHWM").saturating_sub(before);
    eprintln!("{CONSUMERS} slow consumers: {} MiB", grown / MIB);
    assert!(grown < REQUEST_BYTES + CACHE_BYTES + 24 * MIB, "{grown} bytes more");
    drop(slow);
    witness.check();
    broker.stop();
}

#[test]
fn producers_beyond_the_request_memory_wait_and_are_all_answered() {
    const PRODUCERS: usize = 20;
    const REQUEST_BYTES: usize = 16 * MIB;
    const CACHE_BYTES: usize = 4 * MIB;
    const FRAME_BYTES: usize = 10 * MIB;
    let dir = directory();
    let frame_max = (FRAME_BYTES + 1000).to_string();
    let arguments = [
        "--cores",
        "1",
        "--queued-max-request-bytes",
        &REQUEST_BYTES.to_string(),
        "--socket-request-max-bytes",
        &frame_max,
        "--message-max-bytes",
        &frame_max,
        "--tail-cache-bytes",
        &CACHE_BYTES.to_string(),
    ];
    let broker = Broker::start(dir.path(), &arguments);
    let mut witness = Witness::new(&broker, "t", 1);
    witness.check();
    let before = broker.memory_bytes("VmRSS");
    broker.forget_memory_peak();
    let mut producers: Vec<Producer> = (0..PRODUCERS).map(|number| Producer::new(&broker, number)).collect();
    // All at once, a little of each in turn.
    let start = Instant::now();
    while producers.iter().any(|producer| !producer.left.is_empty()) {
        assert!(start.elapsed() < PATIENCE, "the producers get no further");
        let sent = producers.iter_mut().map(Producer::send_some).sum::<usize>();
        if sent == 0 {
            thread::yield_now();
        }
    }
    for producer in &mut producers {
        producer.client.stream.set_nonblocking(false).expect("blocking");
        let row = producer.client.receive_produced();
        witness.note(&row, producer.value.clone());
    }
    let grown = broker.memory_bytes("VmHWM").saturating_sub(before);
    eprintln!("{PRODUCERS} eager producers: {} MiB", grown / MIB);
    assert!(grown < REQUEST_BYTES + CACHE_BYTES + 24 * MIB, "{grown} bytes more");
    drop(producers);
    witness.check();
    broker.stop();
}

struct Producer {
    client: Client,
    value: Bytes,
    left: Bytes,
}

impl Producer {
    fn new(broker: &Broker, number: usize) -> Producer {
        let mut client = Client::connect(broker);
        let value = noise(1 + number as u64, 10 * MIB);
        let frame = client.encode(PRODUCE_VERSION, &produce_request("t", 0, batch(&value)));
        client.stream.set_nonblocking(true).expect("nonblocking");
        Producer { client, value, left: frame.into() }
    }

    fn send_some(&mut self) -> usize {
        let some = self.left.slice(..self.left.len().min(64 << 10));
        if some.is_empty() {
            return 0;
        }
        match self.client.stream.write(&some) {
            Ok(sent) => {
                let _ = self.left.split_to(sent);
                sent
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("the broker ends a connection: {error}"),
        }
    }
}

/// A file system of its own in a file, unmounted at the end, whatever the end is.
struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Or why there is none.
    fn new(dir: &Path, bytes: usize) -> Result<Mount, String> {
        let run = |program: &str, arguments: &[&Path]| {
            let output =
                Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
        };
        let (image, at) = (dir.join("image"), dir.join("mounted"));
        let file = File::create(&image).and_then(|file| file.set_len(bytes as u64));
        file.and_then(|()| fs::create_dir(&at)).map_err(|error| error.to_string())?;
        // Without space that is kept for root.
        let options = ["-q", "-F", "-m", "0"].map(Path::new);
        run("mkfs.ext4", &[&options[..], &[&image]].concat())?;
        run("mount", &[Path::new("-o"), Path::new("loop"), &image, &at])?;
        Ok(Mount { at })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let start = Instant::now();
        // The kernel closes the files of a killed broker's rings a moment after the process is gone.
        while !Command::new("umount").arg(&self.at).output().is_ok_and(|output| output.status.success()) {
            if start.elapsed() > PATIENCE {
                eprintln!("cannot unmount {}", self.at.display());
                return;
            }
            thread::yield_now();
        }
    }
}

/// Produces until the broker says that it cannot store more, and returns how much was stored before.
fn fill(witness: &mut Witness) -> usize {
    let start = Instant::now();
    let mut stored = 0;
    loop {
        assert!(start.elapsed() < PATIENCE, "{stored} bytes fit");
        let value = noise(witness.acked() as u64, 900_000);
        let row = witness.client.produce("t", stored as i32 % 2, batch(&value));
        if row.error_code != 0 {
            assert_eq!(row.error_code, STORAGE_ERROR, "{:?}", row.error_message);
            assert_eq!(row.base_offset, -1);
            assert!(row.error_message.is_some_and(|message| !message.is_empty()), "the error says what to do");
            return stored;
        }
        witness.note(&row, value);
        stored += 900_000;
    }
}

/// Fills what there is, reads, makes room, goes on writing, and finds everything after a restart.
fn run_out_of_space(dir: &Path, durability: &str, limit: impl FnOnce(&Broker), make_room: impl FnOnce(&Broker)) {
    let settings = ["--cores", "1", "--durability", durability, "--journal-bytes", "4194304"];
    let broker = Broker::start(dir, &[&settings[..], &["--tail-cache-bytes", "1048576"]].concat());
    let mut witness = Witness::new(&broker, "t", 2);
    limit(&broker);
    let stored = fill(&mut witness);
    assert!(stored > 4 * MIB, "{stored} bytes were stored");
    // It stays like that, and whatever was stored is read, old and new.
    for _ in 0..3 {
        fill(&mut witness);
        witness.assert_intact();
        Client::connect(&broker).probe();
    }
    make_room(&broker);
    for _ in 0..5 {
        witness.check();
    }
    broker.stop();
    let broker = Broker::start(dir, &settings);
    witness.reconnect(&broker);
    witness.assert_intact();
    witness.check();
    broker.stop();
}

#[test]
fn a_full_disk_refuses_records_until_there_is_space_again() {
    let dir = directory();
    let mount = match Mount::new(dir.path(), 64 * MIB) {
        Ok(mount) => mount,
        Err(why) => {
            // The other way to run out of space needs no rights, and is tested on every machine.
            eprintln!("no file system of its own can be mounted ({why}): a limit of file sizes takes its place");
            return a_file_size_limit_refuses_records_until_it_is_raised();
        }
    };
    let (ballast, data) = (mount.at.join("ballast"), mount.at.join("data"));
    for durability in ["write", "sync"] {
        fs::write(&ballast, noise(0, 24 * MIB)).expect("there is space for it");
        run_out_of_space(&data, durability, |_| (), |_| fs::remove_file(&ballast).expect("it is there"));
        fs::remove_dir_all(&data).expect("the broker is gone");
    }
}

#[test]
fn a_file_size_limit_refuses_records_until_it_is_raised() {
    let limit = |broker: &Broker, bytes: &str| {
        let process = format!("--pid={}", broker.id());
        let status = Command::new("prlimit").args([process, format!("--fsize={bytes}:")]).status();
        assert!(status.expect("prlimit is there").success());
    };
    for durability in ["write", "sync"] {
        let (dir, lift) = (directory(), |broker: &Broker| limit(broker, "unlimited"));
        run_out_of_space(dir.path(), durability, |broker| limit(broker, "8388608"), lift);
    }
}

#[test]
fn thousands_of_partitions_start_soon_and_are_all_there() {
    let dir = directory();
    let count = (files_max() / 4).min(5000) as i32;
    let broker = Broker::start(dir.path(), &["--cores", "2"]);
    let idle = broker.memory_bytes("VmRSS");
    let start = Instant::now();
    let mut client = Client::connect(&broker);
    client.create_topic("t", count);
    eprintln!("{count} partitions are created in {:?}", start.elapsed());
    let some: Vec<i32> = (0..count).step_by(97).chain([count - 1]).collect();
    let produce = |client: &mut Client, offset: i64| {
        for &partition in &some {
            let row = client.produce("t", partition, batch(format!("{partition} {offset}").as_bytes()));
            assert_eq!((row.error_code, row.base_offset), (0, offset), "partition {partition}");
        }
    };
    produce(&mut client, 0);
    broker.stop();

    let start = Instant::now();
    let broker = Broker::start(dir.path(), &["--cores", "2"]);
    let taken = start.elapsed();
    let grown = broker.memory_bytes("VmRSS").saturating_sub(idle);
    eprintln!("{count} partitions start in {taken:?} and take {} bytes each", grown / count as usize);
    assert!(taken < PATIENCE / 4, "a start takes {taken:?}");
    assert!(grown < 16 * MIB + count as usize * (16 << 10), "{grown} bytes more");
    let mut client = Client::connect(&broker);
    produce(&mut client, 1);
    for &partition in &some {
        let found = client.read_all("t", partition);
        assert_eq!(found, [0, 1].map(|offset| Bytes::from(format!("{partition} {offset}"))));
    }
    broker.stop();
}
