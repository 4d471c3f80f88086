//! `corelog log` on the files of the real broker: what it wrote is found whole, what was damaged is found damaged and
//! becomes whole by a repair that keeps what it cuts off.
#![cfg(feature = "shell")]

mod binary;
mod raw;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use binary::{Broker, directory, refuse};
use corelog::wire::compression::Compression;
use corelog::wire::records::BatchBuilder;
use raw::Client;
use serde_json::Value;

const TOPIC: &str = "orders";

/// Small segments, so that there are several.
const ARGUMENTS: [&str; 4] = ["--cores", "1", "--log-segment-bytes", "131072"];

const BATCHES: i64 = 120;

fn tool(arguments: &[&str], path: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.arg("log").args(arguments).arg(path).output().expect("the binary runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What `--json` says, and whether the exit code says the same.
fn json(arguments: &[&str], path: &Path) -> Value {
    let output = tool(&[arguments, &["--json"]].concat(), path);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!(output.status.code(), Some(if value["whole"] == true { 0 } else { 1 }), "{value}");
    value
}

/// A data directory with some segments, two records a batch.
fn filled(dir: &Path) -> Broker {
    let broker = Broker::start(dir, &ARGUMENTS);
    let mut client = Client::connect(&broker);
    client.create_topic(TOPIC, 1);
    for number in 0..BATCHES {
        let mut builder = BatchBuilder::new(Compression::None).producer(5, 0, 2 * number as i32);
        builder.push(1_000 + number, Some(b"key"), Some(format!("value {number}").as_bytes()));
        builder.push(1_000 + number, None, Some(&vec![b'x'; 4000]));
        let row = client.produce(TOPIC, 0, builder.build().bytes);
        assert_eq!((row.error_code, row.base_offset), (0, 2 * number), "{:?}", row.error_message);
    }
    broker
}

fn segments(partition: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(partition).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(kind)).collect();
    segments.sort();
    segments
}

fn flip(path: &Path, position: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("read");
    file.write_all_at(&[byte[0] ^ 1], position).expect("written");
}

#[test]
fn what_the_broker_wrote_is_whole() {
    for clean in [true, false] {
        let dir = directory();
        let broker = filled(dir.path());
        if clean {
            broker.stop()
        } else {
            broker.kill()
        }
        let found = json(&["verify"], dir.path());
        let partition = &found["partitions"][0];
        assert_eq!(partition["partition"], "orders-0");
        assert_eq!((partition["batches"].as_i64(), partition["records"].as_i64()), (Some(BATCHES), Some(2 * BATCHES)));
        assert_eq!((partition["firstOffset"].as_i64(), partition["nextOffset"].as_i64()), (Some(0), Some(2 * BATCHES)));
        assert!(partition["segments"].as_i64() > Some(3), "{found}");
        // A broker that was killed leaves the space it had reserved.
        assert_eq!(partition["unusedBytes"].as_i64() == Some(0), clean, "{found}");
        let output = tool(&["repair", "--yes"], dir.path());
        assert!(output.status.success() && text(&output).contains("nothing to repair"), "{}", text(&output));
    }
}

#[test]
fn a_dump_shows_every_batch_and_record() {
    let dir = directory();
    filled(dir.path()).stop();
    let partition = dir.path().join("orders-0");
    let output = tool(&["dump", "--records"], &partition);
    let all = text(&output);
    assert!(output.status.success(), "{all}");
    assert_eq!(all.lines().filter(|line| line.starts_with("baseOffset: ")).count() as i64, BATCHES);
    assert_eq!(all.lines().filter(|line| line.starts_with("| offset: ")).count() as i64, 2 * BATCHES);
    assert!(all.contains("keySize: 3 valueSize: 8 sequence: 34 headerKeys: [] key: key payload: value 17"), "{all}");
    let output = tool(&["dump", "--json", "--from-offset", "237"], &partition);
    let lines: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    assert_eq!(lines.iter().map(|line| line["baseOffset"].as_i64()).collect::<Vec<_>>(), [Some(236), Some(238)]);
    let one = &segments(&partition, ".log")[1];
    let lines = text(&tool(&["dump"], one));
    let base: i64 = one.file_stem().expect("a name").to_string_lossy().parse().expect("a number");
    assert!(lines.contains(&format!("Log starting offset: {base}\nbaseOffset: {base} ")), "{lines}");
}

#[test]
fn damage_is_found_said_and_cut() {
    let dir = directory();
    filled(dir.path()).stop();
    let partition = dir.path().join("orders-0");
    let logs = segments(&partition, ".log");
    let before: u64 = logs.iter().map(|path| fs::metadata(path).expect("there").len()).sum();
    flip(&logs[1], 5000);

    let output = tool(&["verify"], dir.path());
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("DAMAGED") && said.contains("the checksum does not match"), "{said}");
    let found = json(&["verify"], dir.path());
    let cut = &found["partitions"][0]["cut"];
    assert_eq!(cut["file"], logs[1].display().to_string());
    assert_eq!(cut["laterSegments"].as_array().map(Vec::len), Some(logs.len() - 2));
    assert_eq!(cut["knownEnd"], 2 * BATCHES);
    let (offset, position) = (cut["offset"].as_i64().expect("a number"), cut["position"].as_u64().expect("a number"));
    assert!((1..=5000).contains(&position), "{cut}");

    let output = tool(&["repair"], dir.path());
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lost = format!("lost: offsets {offset} to {}", 2 * BATCHES - 1);
    assert!(said.contains(&lost) && said.contains("Nothing was changed"), "{said}");
    assert!(segments(&partition, ".cut").is_empty());
    assert_eq!(json(&["verify"], dir.path()), found);

    let said = text(&tool(&["repair", "--yes"], dir.path()));
    let found = json(&["verify"], dir.path());
    assert_eq!(
        (&found["whole"], found["partitions"][0]["nextOffset"].as_i64()),
        (&Value::Bool(true), Some(offset)),
        "{said}"
    );
    let kept = [segments(&partition, ".log"), segments(&partition, ".cut")].concat();
    assert_eq!(kept.iter().map(|path| fs::metadata(path).expect("there").len()).sum::<u64>(), before);

    // The broker goes on where the repair ended, and tells what was before.
    let broker = Broker::start(dir.path(), &ARGUMENTS);
    let mut client = Client::connect(&broker);
    assert_eq!(client.read_all(TOPIC, 0).len() as i64, offset);
    let row = client.produce(TOPIC, 0, raw::batch(b"after"));
    assert_eq!((row.error_code, row.base_offset), (0, offset));
}

#[test]
fn an_index_that_is_wrong_is_deleted_and_made_again() {
    let dir = directory();
    filled(dir.path()).stop();
    let partition = dir.path().join("orders-0");
    let index = &segments(&partition, ".index")[0];
    flip(index, 9);
    let found = json(&["verify"], dir.path());
    assert_eq!((&found["whole"], &found["partitions"][0]["cut"]), (&Value::Bool(false), &Value::Null));
    assert_eq!(found["partitions"][0]["untrueFiles"][0]["file"], index.display().to_string());
    let output = tool(&["repair", "--yes"], dir.path());
    assert!(output.status.success(), "{}", text(&output));
    assert!(!index.exists());
    assert_eq!(json(&["verify"], dir.path())["whole"], true);
    let broker = Broker::start(dir.path(), &ARGUMENTS);
    assert_eq!(Client::connect(&broker).read_all(TOPIC, 0).len() as i64, 2 * BATCHES);
}

/// Small durable batches of two records by a broker that was killed: a commit each, none in its segment.
fn committed(dir: &Path) {
    let broker = Broker::start(dir, &["--cores", "1", "--durability", "sync", "--journal-bytes", "4MiB"]);
    let mut client = Client::connect(&broker);
    client.create_topic(TOPIC, 1);
    for number in 0..20 {
        let mut builder = BatchBuilder::new(Compression::None).producer(5, 0, 2 * number as i32);
        builder.push(1_000 + number, Some(b"key"), Some(format!("value {number}").as_bytes()));
        builder.push(1_000 + number, None, Some(&[b'x'; 100]));
        let row = client.produce(TOPIC, 0, builder.build().bytes);
        assert_eq!((row.error_code, row.base_offset), (0, 2 * number), "{:?}", row.error_message);
    }
    broker.kill();
}

/// The same, and then the seventh commit is damaged.
fn damaged(dir: &Path) {
    committed(dir);
    let dump = tool(&["dump", "--json"], &journal(dir));
    let lines = String::from_utf8_lossy(&dump.stdout).into_owned();
    let seventh: Value = serde_json::from_str(lines.lines().nth(7).expect("a line")).expect("JSON");
    flip(&journal(dir), seventh["position"].as_u64().expect("a number") + 150);
}

fn journal(dir: &Path) -> PathBuf {
    dir.join("journal").join("0.journal")
}

#[test]
fn what_is_in_the_journal_alone_belongs_to_its_partition() {
    let dir = directory();
    committed(dir.path());
    let found = json(&["verify"], dir.path());
    let partition = &found["partitions"][0];
    assert_eq!((&found["whole"], partition["nextOffset"].as_i64()), (&Value::Bool(true), Some(40)), "{found}");
    assert_eq!(partition["journalEntries"], 20, "{found}");
    assert_eq!((&found["journals"][0]["commits"], &found["journals"][0]["whole"]), (&20.into(), &Value::Bool(true)));
    let said = text(&tool(&["verify"], dir.path()));
    assert!(said.contains("whole with what is in the journal") && said.contains("whole, to be replayed"), "{said}");
    let output = tool(&["repair", "--yes"], dir.path());
    assert!(output.status.success() && text(&output).contains("nothing to repair"), "{}", text(&output));

    let output = tool(&["dump", "--records"], &journal(dir.path()));
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("nodeId: ") && said.contains("core: 0 of 1"), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("commit: ")).count(), 20);
    assert!(said.contains("| orders-0 topicId: ") && said.contains("baseOffset: 38 lastOffset: 39"), "{said}");
    assert!(said.contains("payload: value 17"), "{said}");
    let output = tool(&["dump", "--json"], &journal(dir.path()));
    let last = String::from_utf8_lossy(&output.stdout).lines().last().expect("a line").to_owned();
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!((&last["commit"], &last["entries"][0]["lastOffset"]), (&20.into(), &39.into()));
    let all = text(&tool(&["dump"], &dir.path().join("orders-0")));
    assert_eq!(all.lines().filter(|line| line.starts_with("baseOffset: ")).count(), 20, "{all}");
}

#[test]
fn a_damaged_journal_is_said_and_put_aside_and_what_it_lacks_is_cut() {
    let dir = directory();
    damaged(dir.path());

    let output = tool(&["dump"], &journal(dir.path()));
    assert!(text(&output).contains("commit 7 is damaged, the next whole one is 8"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(1));
    let found = json(&["verify"], dir.path());
    assert_eq!((&found["whole"], &found["journals"][0]["whole"]), (&Value::Bool(false), &Value::Bool(false)));
    assert_eq!(found["partitions"][0]["nextOffset"], 12, "{found}");
    let before = fs::read(journal(dir.path())).expect("read");
    let said = text(&tool(&["repair"], dir.path()));
    for part in ["write 19 entries", "lost: offsets 12 to 39", "and put it aside", "Nothing was changed"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fs::read(journal(dir.path())).expect("read"), before);
    let output = tool(&["repair", "--yes"], &dir.path().join("orders-0"));
    assert!(text(&output).contains("the journals in") && output.status.code() == Some(2), "{}", text(&output));

    let output = tool(&["repair", "--yes"], dir.path());
    assert!(output.status.success(), "{}", text(&output));
    assert!(journal(dir.path()).with_extension("journal.1.damaged.seen").exists());
    assert_eq!(json(&["verify"], dir.path())["partitions"][0]["nextOffset"], 12);
    let broker = Broker::start(dir.path(), &["--cores", "1", "--durability", "sync"]);
    let mut client = Client::connect(&broker);
    assert_eq!(client.read_all(TOPIC, 0).len(), 12);
    let row = client.produce(TOPIC, 0, raw::batch(b"after"));
    assert_eq!((row.error_code, row.base_offset), (0, 12));
}

#[test]
fn a_damaged_journal_that_a_broker_put_aside_keeps_asking_until_it_was_repaired() {
    let dir = directory();
    damaged(dir.path());
    for _ in 0..2 {
        let broker = Broker::start(dir.path(), &["--cores", "1", "--durability", "sync"]);
        let row = Client::connect(&broker).produce(TOPIC, 0, raw::batch(b"not now"));
        assert_ne!(row.error_code, 0, "the partition is offline");
        broker.stop();
    }
    let found = json(&["verify"], dir.path());
    let aside: Vec<&Value> = found["journals"].as_array().expect("some").iter().map(|row| &row["putAside"]).collect();
    assert!(aside.contains(&&Value::Bool(true)), "{found}");
    assert_eq!(found["partitions"][0]["missing"]["next"], 40, "{found}");
    let said = text(&tool(&["repair", "--yes"], dir.path()));
    assert!(said.contains("lost: offsets 12 to 39") && said.contains("which was replayed and put aside"), "{said}");
    let broker = Broker::start(dir.path(), &["--cores", "1", "--durability", "sync"]);
    assert_eq!(Client::connect(&broker).read_all(TOPIC, 0).len(), 12);
}

const SYNC: [&str; 6] = ["--cores", "1", "--durability", "sync", "--journal-bytes", "4MiB"];

#[test]
fn a_journal_that_has_lost_its_headers_stops_the_start_until_what_is_lost_is_given_up() {
    let dir = directory();
    committed(dir.path());
    for slot in 0..2 {
        flip(&journal(dir.path()), slot * 4096 + 77);
    }
    let before = fs::read(journal(dir.path())).expect("read");
    for _ in 0..2 {
        refuse(
            dir.path(),
            &SYNC,
            &["journal/0.journal has no header that is whole", "put the disk right", "`corelog log repair`"],
        );
    }
    let found = json(&["verify"], dir.path());
    assert_eq!((&found["whole"], &found["journals"][0]["whole"]), (&Value::Bool(false), &Value::Bool(false)));
    assert_eq!(found["partitions"][0]["missing"]["next"], 40, "{found}");
    let said = text(&tool(&["repair"], dir.path()));
    for part in ["which of its commits are needed is not known", "lost: offsets 0 to 39", "Nothing was changed"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fs::read(journal(dir.path())).expect("read"), before);

    let output = tool(&["repair", "--yes"], dir.path());
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(fs::read(journal(dir.path()).with_extension("journal.1.damaged.seen")).expect("kept"), before);
    let broker = Broker::start(dir.path(), &SYNC);
    let row = Client::connect(&broker).produce(TOPIC, 0, raw::batch(b"after"));
    assert_eq!((row.error_code, row.base_offset), (0, 0));
}

#[test]
fn a_partition_that_may_have_lost_its_end_stays_offline_until_it_was_repaired() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &SYNC);
    let mut client = Client::connect(&broker);
    for topic in [TOPIC, "rest"] {
        client.create_topic(topic, 1);
        for _ in 0..3 {
            assert_eq!(client.produce(topic, 0, raw::batch(b"value")).error_code, 0);
        }
    }
    broker.kill();
    let dump = tool(&["dump", "--json"], &journal(dir.path()));
    let lines = String::from_utf8_lossy(&dump.stdout).into_owned();
    let third: Value = serde_json::from_str(lines.lines().nth(3).expect("a line")).expect("JSON");
    flip(&journal(dir.path()), third["position"].as_u64().expect("a number") + 150);

    for round in 1..=2 {
        let broker = Broker::start(dir.path(), &SYNC);
        let mut client = Client::connect(&broker);
        assert_ne!(client.produce(TOPIC, 0, raw::batch(b"not now")).error_code, 0, "it may be shorter than it was");
        assert_eq!(client.produce("rest", 0, raw::batch(b"value")).base_offset, 2 + round, "this one is whole");
        broker.kill();
    }
    let found = json(&["verify"], dir.path());
    let doubt = found["partitions"][0]["doubt"].as_str().expect("some");
    assert!(doubt.contains("commit 3 is damaged, the next whole one is 4"), "{found}");
    assert_eq!((&found["partitions"][0]["nextOffset"], &found["partitions"][1]["doubt"]), (&2.into(), &Value::Null));
    let said = text(&tool(&["repair", "--yes"], dir.path()));
    for part in ["may lack batches that were acknowledged", "lost: whatever else it had from offset 2 on"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let broker = Broker::start(dir.path(), &SYNC);
    let row = Client::connect(&broker).produce(TOPIC, 0, raw::batch(b"after"));
    assert_eq!((row.error_code, row.base_offset), (0, 2));
}

#[test]
fn what_cannot_be_done_is_said() {
    let dir = directory();
    let check = |arguments: &[&str], path: &Path, expect: &str| {
        let output = tool(arguments, path);
        assert!(text(&output).contains(expect), "{arguments:?}: {}", text(&output));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    };
    check(&["verify"], dir.path(), "holds no partition's log; give the broker's data directory");
    check(&["verify"], &dir.path().join("nothing"), "nothing: No such file or directory");
    check(&["dump"], &dir.path().join("x.log"), "holds no partition's log");
    let _broker = filled(dir.path());
    for place in [dir.path().to_owned(), dir.path().join("orders-0")] {
        check(&["repair", "--yes"], &place, "in use; stop it first. Nothing was changed");
        assert!(text(&tool(&["verify"], &place)).contains("note: a broker has these files"));
    }
}
