//! Data directories that are not fit for a broker, or not whole: it says why and what to do, serves what can be
//! served, and drops nothing without saying so.
#![cfg(feature = "shell")]

mod binary;
mod raw;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use binary::{Broker, command, directory, refuse};
use corelog::base::checksum::crc32;
use corelog::base::disk::BLOCK_BYTES;
use corelog::wire::errors::ErrorCode;
use raw::{Client, Witness, batch};
use tempfile::TempDir;

/// Whose journal leaves most of a small file system to records.
const SMALL: [&str; 4] = ["--cores", "1", "--journal-bytes", "1048576"];

/// A file system of its own, for as long as this lives.
struct Mount(TempDir);

impl Mount {
    /// None, and said so, where the machine or the user may not mount.
    fn new(kind: &str, options: &str) -> Option<Mount> {
        let dir = directory();
        let mount = Command::new("mount").args(["-t", kind, "-o", options, kind]).arg(dir.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Mount(dir));
        }
        eprintln!("not run: {kind} cannot be mounted here");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()).status();
        assert!(status.expect("mount").success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a failed test may have left a broker behind for a moment.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_directory_in_use_is_refused_with_the_process_that_uses_it() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "1"]);
    let holder = format!("in use by another broker, process {}. Stop that one", broker.id());
    refuse(dir.path(), &["--cores", "1"], &[&holder]);
    // By another name too.
    let link = directory();
    let other = link.path().join("other");
    std::os::unix::fs::symlink(dir.path(), &other).expect("a link");
    refuse(&other, &["--cores", "1"], &[&holder]);
    broker.kill();
    Broker::start(dir.path(), &["--cores", "1"]).stop();
}

#[test]
fn what_is_no_directory_that_can_be_written_is_refused() {
    let dir = directory();
    let file = dir.path().join("file");
    fs::write(&file, b"x").expect("written");
    refuse(&file, &[], &["cannot be used", "--data-dir"]);
    refuse(&file.join("below"), &[], &["cannot be used", "--data-dir"]);
    let Some(mount) = Mount::new("tmpfs", "size=16m") else { return };
    let broker = Broker::start(mount.path(), &SMALL);
    let mut client = Client::connect(&broker);
    client.create_topic("t", 1);
    assert_eq!(client.produce("t", 0, batch(b"kept")).error_code, 0);
    broker.stop();
    mount.make_read_only();
    refuse(mount.path(), &["--cores", "1"], &["Read-only file system", "--data-dir"]);
}

#[test]
fn file_systems_without_direct_io_are_refused_and_those_in_memory_are_warned_of() {
    if let Some(mount) = Mount::new("ramfs", "mode=755") {
        refuse(mount.path(), &[], &["does not support direct I/O", "--data-dir"]);
        assert_eq!(fs::read_dir(mount.path()).expect("a directory").count(), 1, "only the lock is left behind");
    }
    let Some(mount) = Mount::new("tmpfs", "size=16m") else { return };
    let process = command(mount.path(), "127.0.0.1:0", &SMALL);
    let broker = Broker::start_said(process, |line| line.contains("is in memory (tmpfs)"));
    let mut client = Client::connect(&broker);
    client.create_topic("t", 1);
    assert_eq!(client.produce("t", 0, batch(b"x")).error_code, 0);
    broker.stop();
}

/// Takes all the space that is left.
fn fill(dir: &Path) -> PathBuf {
    let path = dir.join("filler");
    let mut bytes = 1 << 20;
    let mut content = vec![1; 64 << 20];
    while bytes >= 1 << 10 {
        match fs::write(&path, &content) {
            Ok(()) => bytes /= 2,
            Err(_) => {
                let written = fs::metadata(&path).map_or(0, |file| file.len() as usize);
                content.truncate(written);
                fs::write(&path, &content).expect("so much has room");
                return path;
            }
        }
    }
    panic!("the file system is larger than the filler");
}

#[test]
fn a_full_directory_is_refused_when_new_and_served_from_when_used() {
    let Some(mount) = Mount::new("tmpfs", "size=16m") else { return };
    let filler = fill(mount.path());
    refuse(mount.path(), &SMALL, &["no space left", "--data-dir"]);
    fs::remove_file(&filler).expect("removed");

    let broker = Broker::start(mount.path(), &SMALL);
    let mut witness = Witness::new(&broker, "witness", 2);
    witness.check();
    broker.stop();
    fill(mount.path());
    let process = command(mount.path(), "127.0.0.1:0", &SMALL);
    let broker = Broker::start_said(process, |line| line.contains("has no space left"));
    witness.reconnect(&broker);
    witness.assert_intact();
    let big = vec![b'x'; 900_000];
    let row = (0..20).map(|_| witness.client.produce("witness", 0, batch(&big))).find(|row| row.error_code != 0);
    let row = row.expect("there is no space for all of it");
    assert_eq!(row.error_code, ErrorCode::KafkaStorageError.code());
    let message = row.error_message.expect("it says why");
    assert!(message.as_str().contains("has no space left"), "{message:?}");
    fs::remove_file(&filler).expect("removed");
    assert_eq!(witness.client.produce("witness", 0, batch(&big)).error_code, 0, "space is seen without a restart");
    // Changes of metadata were waiting for it.
    witness.client.create_topic("later", 1);
    broker.stop();
}

#[test]
fn a_disk_too_small_for_the_journals_is_noticed_before_anything_is_served() {
    let Some(mount) = Mount::new("tmpfs", "size=16m") else { return };
    let remedies = "set --journal-bytes lower, or to 0 for no journal";
    refuse(mount.path(), &["--cores", "1"], &["commit journals of 1 cores need 129 MiB", remedies, "--cores"]);
    refuse(mount.path(), &["--cores", "2", "--journal-bytes", "8MiB"], &["of 2 cores need 17 MiB", remedies]);
    assert_eq!(fs::read_dir(mount.path()).expect("a directory").count(), 1, "only the lock is left behind");
    Broker::start(mount.path(), &["--cores", "1", "--durability", "write"]).stop();
    let broker = Broker::start(mount.path(), &["--cores", "1", "--journal-bytes", "8MiB"]);
    let mut witness = Witness::new(&broker, "witness", 1);
    witness.check();
    broker.kill();
    // What is there counts.
    let broker = Broker::start(mount.path(), &["--cores", "1", "--journal-bytes", "8MiB"]);
    witness.reconnect(&broker);
    witness.check();
    broker.stop();
    let process = command(mount.path(), "127.0.0.1:0", &["--cores", "2", "--journal-bytes", "8MiB"]);
    Broker::start_said(process, |line| line.contains("MiB of space left") && line.contains(remedies)).kill();
}

/// Segments of the only partition of a topic, ascending.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("t-0")).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    segments.sort();
    segments
}

#[test]
fn segments_that_are_missing_or_do_not_belong_are_named_and_the_rest_is_served() {
    const ARGUMENTS: [&str; 4] = ["--cores", "1", "--log-segment-bytes", "65536"];
    let dir = directory();
    let broker = Broker::start(dir.path(), &ARGUMENTS);
    let mut witness = Witness::new(&broker, "witness", 1);
    witness.check();
    witness.client.create_topic("t", 1);
    for _ in 0..6 {
        assert_eq!(witness.client.produce("t", 0, batch(&[b'x'; 50_000])).error_code, 0);
    }
    broker.stop();
    let files = segments(dir.path());
    assert!(files.len() >= 6);
    let away = dir.path().join("away");
    let storage_error = ErrorCode::KafkaStorageError.code();
    let mut check = |damage: &dyn Fn(), says: &str, readable: &[(i64, bool)], writable: bool, mend: &dyn Fn()| {
        damage();
        let process = command(dir.path(), "127.0.0.1:0", &ARGUMENTS);
        let broker = Broker::start_said(process, |line| line.contains("t-0") && line.contains(says));
        witness.reconnect(&broker);
        for &(from, is_there) in readable {
            let (code, _, bytes) = witness.client.fetch("t", 0, from);
            assert_eq!((code == 0, bytes.len() > 50_000), (is_there, is_there), "{says}, from {from}");
            assert!(is_there || code == storage_error);
        }
        if writable && readable.iter().any(|(_, is_there)| !is_there) {
            broker.wait_for("a read fails, others go on");
        }
        let row = witness.client.produce("t", 0, batch(&[b'y'; 50_000]));
        assert_eq!(row.error_code, if writable { 0 } else { storage_error }, "{says}");
        witness.assert_intact();
        broker.stop();
        mend();
    };
    let all = [(0, true), (2, true), (4, true)];
    check(
        &|| fs::rename(&files[2], &away).expect("moved"),
        "is missing",
        &[(0, true), (2, false), (4, true)],
        true,
        &|| fs::rename(&away, &files[2]).expect("moved"),
    );
    let extra = dir.path().join("t-0/00000000000000777777.log");
    check(&|| fs::write(&extra, b"not a batch").expect("written"), "the file is kept as", &all, true, &|| {
        assert_eq!(fs::read(extra.with_extension("log.aside")).expect("kept"), b"not a batch");
    });
    let last = segments(dir.path()).pop().expect("some");
    let (gone, back) = (|| fs::rename(&last, &away).expect("moved"), || fs::rename(&away, &last).expect("moved"));
    check(&gone, "is offline, other partitions go on", &[(0, false)], false, &back);
    // A device that does not give the file back.
    let unreadable = || {
        fs::rename(&last, &away).expect("moved");
        fs::create_dir(&last).expect("made");
    };
    let readable = || {
        fs::remove_dir(&last).expect("empty");
        fs::rename(&away, &last).expect("moved");
    };
    check(&unreadable, "is offline, other partitions go on", &[(0, false)], false, &readable);
    let broker = Broker::start(dir.path(), &ARGUMENTS);
    witness.reconnect(&broker);
    for (from, _) in all {
        assert_eq!(witness.client.fetch("t", 0, from).0, 0, "all is back");
    }
    broker.stop();
    give_up(dir.path(), &mut witness, &ARGUMENTS);
}

/// What is not put back is given up when somebody says so: the first segment, and then the last.
fn give_up(dir: &Path, witness: &mut Witness, arguments: &[&str]) {
    let end_before = segments(dir).len();
    fs::remove_file(&segments(dir)[0]).expect("removed");
    fs::remove_file(segments(dir).last().expect("some")).expect("removed");
    let mut repair = Command::new(env!("CARGO_BIN_EXE_corelog"));
    let output = repair.args(["log", "repair", "--yes"]).arg(dir).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("tells of segment 0, which is missing"), "{said}");
    assert_eq!(segments(dir).len(), end_before - 2, "what is whole is kept: {said}");
    let broker = Broker::start(dir, arguments);
    witness.reconnect(&broker);
    witness.assert_intact();
    assert_eq!(witness.client.fetch("t", 0, 0).0, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(witness.client.fetch("t", 0, 1).0, 0);
    assert_eq!(witness.client.produce("t", 0, batch(b"goes on")).error_code, 0);
    broker.stop();
}

/// With a commit journal of its own on each of so many cores, and everything in them.
fn sync_on(cores: &'static str) -> [&'static str; 4] {
    ["--cores", cores, "--journal-bytes", "1048576"]
}

fn journal(dir: &Path, core: u16) -> PathBuf {
    dir.join(format!("journal/{core}.journal"))
}

/// A broker on so many cores that was killed; what it had acknowledged is in the journals.
fn killed(dir: &Path, cores: &'static str) -> Witness {
    let broker = Broker::start(dir, &sync_on(cores));
    let mut witness = Witness::new(&broker, "witness", 4);
    (0..5).for_each(|_| witness.check());
    broker.kill();
    witness
}

#[track_caller]
fn starts_whole(dir: &Path, cores: &'static str, witness: &mut Witness) {
    let broker = Broker::start(dir, &sync_on(cores));
    witness.reconnect(&broker);
    witness.check();
    witness.assert_intact();
    broker.kill();
}

#[test]
fn a_journal_that_is_missing_or_older_than_the_data_stops_the_start_until_it_is_back() {
    let (dir, away) = (directory(), directory());
    let mut witness = killed(dir.path(), "1");
    let (at, older, kept) = (journal(dir.path(), 0), away.path().join("older"), away.path().join("kept"));
    fs::copy(&at, &older).expect("copied");
    starts_whole(dir.path(), "1", &mut witness);
    fs::rename(&at, &kept).expect("moved");
    let remedies = ["meta/0.noted", "back what is missing, and start again", "`corelog log repair`"];
    let missing = [&["journal/0.journal is missing"][..], &remedies].concat();
    refuse(dir.path(), &sync_on("1"), &missing);
    fs::remove_dir_all(dir.path().join("journal")).expect("removed");
    for _ in 0..2 {
        refuse(dir.path(), &sync_on("1"), &missing);
        // On other cores, and without a journal, it is missing all the same.
        refuse(dir.path(), &sync_on("2"), &missing);
        refuse(dir.path(), &["--cores", "1", "--journal-bytes", "0"], &missing);
    }
    fs::copy(&older, &at).expect("copied");
    refuse(dir.path(), &sync_on("1"), &[&["journal/0.journal is not the one", "older copy"][..], &remedies].concat());
    fs::write(&at, vec![0; 1 << 20]).expect("written");
    refuse(dir.path(), &sync_on("1"), &[&["journal/0.journal holds nothing"][..], &remedies].concat());
    fs::rename(&kept, &at).expect("moved");
    starts_whole(dir.path(), "1", &mut witness);
    starts_whole(dir.path(), "2", &mut witness);
    fs::remove_file(journal(dir.path(), 1)).expect("removed");
    refuse(dir.path(), &sync_on("1"), &["journal/1.journal is missing", "meta/1.noted"]);
}

#[test]
fn a_journal_that_nobody_needs_may_go() {
    let dir = directory();
    let mut witness = killed(dir.path(), "2");
    let broker = Broker::start(dir.path(), &sync_on("2"));
    witness.reconnect(&broker);
    witness.check();
    broker.stop();
    fs::remove_dir_all(dir.path().join("journal")).expect("removed");
    starts_whole(dir.path(), "1", &mut witness);
    assert!(!dir.path().join("meta/1.noted").exists(), "there is no second core any more");
    // What does not read back is made again, as long as it would say nothing new.
    fs::write(dir.path().join("meta/0.noted"), b"?").expect("written");
    let process = command(dir.path(), "127.0.0.1:0", &sync_on("1"));
    let broker = Broker::start_said(process, |line| line.contains("meta/0.noted does not read back"));
    witness.reconnect(&broker);
    witness.assert_intact();
    broker.kill();
    fs::write(dir.path().join("meta/0.noted"), b"?").expect("written");
    fs::remove_file(journal(dir.path(), 0)).expect("removed");
    refuse(dir.path(), &sync_on("1"), &["journal/0.journal is missing", "meta/0.noted does not tell"]);
}

#[test]
fn a_journal_that_is_missing_is_given_up_when_somebody_says_so() {
    let dir = directory();
    let mut witness = killed(dir.path(), "1");
    starts_whole(dir.path(), "1", &mut witness);
    fs::remove_file(journal(dir.path(), 0)).expect("removed");
    let repair = |arguments: &[&str]| {
        let mut repair = Command::new(env!("CARGO_BIN_EXE_corelog"));
        let output = repair.args(["log", "repair"]).args(arguments).arg(dir.path()).output().expect("the binary runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let said = repair(&[]);
    for part in ["0.journal: is missing", "give", "up, with whatever only it had", "Nothing was changed"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    refuse(dir.path(), &sync_on("1"), &["journal/0.journal is missing"]);
    repair(&["--yes"]);
    assert!(repair(&[]).contains("there is nothing to repair"), "{}", repair(&[]));
    let broker = Broker::start(dir.path(), &sync_on("1"));
    let mut client = Client::connect(&broker);
    let row = client.produce("witness", 0, batch(b"goes on"));
    assert_eq!(row.error_code, 0);
    broker.stop();
}

#[test]
fn journals_of_another_number_of_cores_are_brought_to_their_segments() {
    let dir = directory();
    let mut witness = killed(dir.path(), "3");
    for cores in ["1", "2", "3", "2"] {
        starts_whole(dir.path(), cores, &mut witness);
        let count: u16 = cores.parse().expect("a number");
        assert!(journal(dir.path(), count - 1).exists() && !journal(dir.path(), count).exists(), "{cores} cores");
    }
}

#[test]
fn a_journal_of_another_broker_or_version_is_named_and_left_alone() {
    let (dir, other) = (directory(), directory());
    let mut witness = killed(dir.path(), "1");
    killed(other.path(), "1");
    let at = journal(dir.path(), 0);
    let mine = fs::read(&at).expect("read");
    let check = |content: &[u8], arguments: &[&str], expect: &[&str]| {
        fs::write(&at, content).expect("written");
        refuse(dir.path(), arguments, &[&["journal/0.journal"], expect].concat());
        assert!(fs::read(&at).expect("read") == content, "it is as it was");
    };
    let foreign = fs::read(journal(other.path(), 0)).expect("read");
    check(&foreign, &sync_on("1"), &["belongs to node 1 of cluster", "put back what belongs here"]);
    // The metadata says so before a journal is read.
    let node = [&sync_on("1")[..], &["--node-id", "7"]].concat();
    refuse(dir.path(), &node, &["meta/", "belongs to node 1", "this is node 7", "put back what belongs here"]);
    let mut newer = mine.clone();
    for slot in newer[..2 * BLOCK_BYTES].chunks_mut(BLOCK_BYTES) {
        slot[4] = 9;
        let sum = crc32(&slot[..BLOCK_BYTES - 4]).to_le_bytes();
        slot[BLOCK_BYTES - 4..].copy_from_slice(&sum);
    }
    check(
        &newer,
        &sync_on("1"),
        &["has format version 9, this broker knows 1", "start with the version that wrote it"],
    );
    fs::write(&at, &mine).expect("written");
    starts_whole(dir.path(), "1", &mut witness);
}
