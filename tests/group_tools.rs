//! `corelog group` by the real binary, with librdkafka's consumers in the groups.
#![cfg(feature = "shell")]

mod binary;
mod command;
mod kafka;
mod raw;
mod scripted;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use binary::{Broker, PATIENCE, directory, free_ports};
use command::{DONE, NO_ANSWER, NOT_DONE, WRONG, json_of, keys, said, says, started};
use corelog::wire::messages::list_groups::{ListGroupsResponse, ListedGroup};
use corelog::wire::messages::{list_groups, metadata};
use raw::Client;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use scripted::Scripted;
use serde_json::{Value, json};

const MEMBER_KEYS: [&str; 7] = ["assigned", "clientId", "epoch", "group", "host", "instanceId", "memberId"];

/// A broker with a topic of two partitions, ten records in each.
fn filled(dir: &std::path::Path) -> (Broker, String) {
    let (broker, at) = started(dir, &["--cores", "2"]);
    said(&at, &["topic", "create", "orders", "-p", "2"], DONE);
    let mut client = Client::connect(&broker);
    for partition in [0, 1] {
        for number in 0..10 {
            let row = client.produce("orders", partition, raw::batch(format!("{number}").as_bytes()));
            assert_eq!(row.error_code, 0, "{:?}", row.error_message);
        }
    }
    (broker, at)
}

/// A consumer that has read, and committed, so many records.
fn reader(at: &str, group: &str, records: usize) -> BaseConsumer {
    reader_with(at, group, records, &[])
}

fn reader_with(at: &str, group: &str, records: usize, more: &[(&str, &str)]) -> BaseConsumer {
    let settings = [("group.id", group), ("auto.offset.reset", "earliest"), ("client.id", "reader")];
    let consumer = kafka::consumer_with(at, &[&settings[..], more].concat());
    consumer.subscribe(&["orders"]).expect("subscribed");
    let start = Instant::now();
    let mut read = 0;
    while read < records {
        assert!(start.elapsed() < PATIENCE, "only {read} records come");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.expect("no error");
        assert!(message.payload().is_some());
        read += 1;
    }
    consumer.commit_consumer_state(CommitMode::Sync).expect("committed");
    consumer
}

/// The sum of a member of the partitions' rows.
fn sum(rows: &Value, key: &str) -> i64 {
    rows.as_array().expect("rows").iter().filter_map(|row| row[key].as_i64()).sum()
}

#[test]
fn groups_are_listed_described_and_followed() {
    let dir = directory();
    let (_broker, at) = filled(dir.path());
    let at = at.as_str();
    says(at, &["group", "list"], DONE, &["There is no group."]);
    says(at, &["group", "lag"], DONE, &["There is no group."]);
    let consumer = reader(at, "billing", 20);
    let listed = json_of(at, &["group", "list"], DONE);
    assert_eq!(keys(&listed[0]), ["coordinator", "name", "protocolType", "state", "type"]);
    let row = json!({ "coordinator": 1, "name": "billing", "protocolType": "consumer", "state": "Stable", "type": "classic" });
    assert_eq!(listed, json!([row]));
    says(at, &["group", "list", "--state", "Empty"], DONE, &["There is no group."]);
    says(at, &["group", "list", "b*", "--type", "classic", "--state", "stable"], DONE, &["billing  Stable  classic"]);

    let described = json_of(at, &["group", "describe", "billing"], DONE);
    assert_eq!(keys(&described[0]), ["assignor", "epoch", "lag", "members", "name", "partitions", "state", "type"]);
    assert_eq!((&described[0]["lag"], &described[0]["members"]), (&json!(0), &json!(1)));
    let rows = &described[0]["partitions"];
    let partition_keys =
        ["clientId", "committedOffset", "endOffset", "error", "host", "lag", "memberId", "partition", "topic"];
    assert_eq!(keys(&rows[0]), partition_keys);
    assert_eq!((sum(rows, "committedOffset"), sum(rows, "endOffset")), (20, 20), "{rows}");
    says(
        at,
        &["group", "describe", "billing"],
        DONE,
        &["billing  Stable, classic, assignor ", ", 1 member, lag 0\n", "reader"],
    );
    let members = json_of(at, &["group", "members", "billing"], DONE);
    assert_eq!(keys(&members[0]), MEMBER_KEYS);
    assert_eq!(members[0]["assigned"], json!([{ "topic": "orders", "partitions": [0, 1] }]));
    says(at, &["group", "members", "billing"], DONE, &["reader", "orders:0-1"]);
    says(at, &["group", "describe", "nothing"], NOT_DONE, &["GROUP_ID_NOT_FOUND", "`corelog group list` shows"]);

    // What is not read yet is the lag.
    drop(consumer);
    let reset = ["group", "reset-offsets", "billing", "--topic", "orders:0", "--to-offset", "3", "--execute"];
    said(at, &reset, DONE);
    let lag = json_of(at, &["group", "lag", "b*"], DONE);
    let mut lag_keys = [&partition_keys[..], &["group", "members", "state"]].concat();
    lag_keys.sort_unstable();
    assert_eq!(keys(&lag[0]), lag_keys);
    assert_eq!((sum(&lag, "lag"), &lag[0]["state"], &lag[0]["members"]), (7, &json!("Empty"), &json!(0)));
    let table = said(at, &["group", "lag"], DONE);
    let cells: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(cells, ["billing", "Empty", "0", "orders", "2", "7"]);
    assert_eq!(said(at, &["group", "lag", "--partitions", "--once"], DONE).lines().count(), 3);
    says(at, &["group", "lag", "nothing"], NOT_DONE, &["GROUP_ID_NOT_FOUND"]);
}

#[test]
fn offsets_are_reset_after_saying_where_to() {
    let dir = directory();
    let (_broker, at) = filled(dir.path());
    let at = at.as_str();
    let consumer = reader(at, "billing", 20);
    let all = |more: &[&'static str]| [&["group", "reset-offsets", "billing"], more].concat();
    let refused =
        ["error: group billing is Stable, with 1 member (reader on ", "Stop its consumers", "Nothing was changed"];
    says(at, &all(&["--all-topics", "--to-earliest", "--execute"]), NOT_DONE, &refused);
    drop(consumer);
    let committed = || sum(&json_of(at, &["group", "describe", "billing"], DONE)[0]["partitions"], "committedOffset");
    let table = said(at, &all(&["--all-topics", "--to-earliest"]), DONE);
    assert!(table.ends_with("Nothing was changed. Add --execute to do this.\n"), "{table}");
    let cells: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(cells, ["orders", "0", "10", "0", "-10"]);
    assert_eq!(committed(), 20);
    let found = json_of(at, &all(&["--all-topics", "--to-earliest"]), DONE);
    assert_eq!(keys(&found), ["executed", "group", "partitions"]);
    assert_eq!(keys(&found["partitions"][0]), ["after", "before", "error", "note", "partition", "topic"]);

    let check = |arguments: &[&'static str], expect: [i64; 2]| {
        let found = json_of(at, &all(&[arguments, &["--execute"]].concat()), DONE);
        let after: Vec<i64> = (0..2).filter_map(|index| found["partitions"][index]["after"].as_i64()).collect();
        assert_eq!((&after[..], &found["executed"]), (&expect[..], &Value::Bool(true)), "{arguments:?}");
        assert_eq!(committed(), expect.iter().sum::<i64>(), "{arguments:?}");
    };
    check(&["--all-topics", "--to-earliest"], [0, 0]);
    check(&["--topic", "orders", "--to-offset", "4"], [4, 4]);
    check(&["--topic", "orders", "--shift-by", "-3"], [1, 1]);
    check(&["--topic", "orders:0", "--topic", "orders:1", "--shift-by", "100"], [10, 10]);
    // The records are of 2023.
    check(&["--topic", "orders:0-1", "--to-time", "2023-01-01"], [0, 0]);
    check(&["--topic", "orders", "--to-time", "2024-01-01T00:00:00+01:00"], [10, 10]);
    check(&["--all-topics", "--by-duration", "2000w"], [0, 0]);
    check(&["--all-topics", "--by-duration", "PT1H"], [10, 10]);
    check(&["--all-topics", "--to-latest"], [10, 10]);
    says(at, &all(&["--topic", "orders", "--to-offset", "99"]), DONE, &["the log ends here"]);
    says(
        at,
        &all(&["--topic", "orders:7", "--to-latest"]),
        NOT_DONE,
        &["topic orders has 2 partitions: there is no orders-7"],
    );
    says(at, &all(&["--topic", "nothing", "--to-latest"]), NOT_DONE, &["topic nothing: UNKNOWN_TOPIC_OR_PARTITION"]);

    let new = ["group", "reset-offsets", "new", "--topic", "orders:1"];
    says(at, &[&new[..], &["--shift-by", "1"]].concat(), NOT_DONE, &["nothing is committed to count from"]);
    says(at, &[&new[..], &["--to-latest", "--execute"]].concat(), DONE, &["There was no group new until now."]);
    says(at, &["group", "describe", "new"], DONE, &["new  Empty, classic, 0 members, lag 0"]);
    let unknown = ["group", "reset-offsets", "unknown", "--all-topics", "--to-latest"];
    says(at, &unknown, NOT_DONE, &["group unknown: GROUP_ID_NOT_FOUND"]);
    // A consumer goes on where it was told to.
    said(at, &all(&["--topic", "orders", "--to-offset", "6", "--execute"]), DONE);
    drop(reader(at, "billing", 8));
    assert_eq!(committed(), 20);
}

#[test]
fn offsets_and_groups_are_forgotten() {
    let dir = directory();
    let (_broker, at) = filled(dir.path());
    let at = at.as_str();
    let consumer = reader(at, "billing", 20);
    let forget = ["group", "delete-offsets", "billing", "--topic", "orders:1"];
    says(
        at,
        &forget,
        NOT_DONE,
        &["orders-1   GROUP_SUBSCRIBED_TO_TOPIC", "Stop the group's consumers that read the topic"],
    );
    says(at, &["group", "delete", "billing"], NOT_DONE, &["billing  NON_EMPTY_GROUP", "Stop the group's consumers"]);
    drop(consumer);
    let forgotten = json_of(at, &forget, DONE);
    assert_eq!(keys(&forgotten[0]), ["done", "error", "name", "partition", "topic"]);
    let described = json_of(at, &["group", "describe", "billing"], DONE);
    assert_eq!(described[0]["partitions"].as_array().map(Vec::len), Some(1), "{described}");
    says(at, &["group", "delete-offsets", "nothing", "--topic", "orders"], NOT_DONE, &["GROUP_ID_NOT_FOUND"]);
    let deleted = json_of(at, &["group", "delete", "billing", "nothing"], NOT_DONE);
    assert_eq!((&deleted[0]["done"], &deleted[1]["error"]["code"]), (&json!(true), &json!("GROUP_ID_NOT_FOUND")));
    says(at, &["group", "list"], DONE, &["There is no group."]);
}

#[test]
fn groups_of_the_consumer_protocol_are_shown_as_the_others() {
    let dir = directory();
    let (_broker, at) = filled(dir.path());
    let at = at.as_str();
    let consumer = reader_with(at, "new", 20, &[("group.protocol", "consumer"), ("group.instance.id", "one")]);
    says(at, &["group", "list", "--type", "consumer"], DONE, &["new    Stable  consumer  consumer"]);
    let described = json_of(at, &["group", "describe", "new"], DONE);
    assert_eq!((&described[0]["type"], &described[0]["assignor"]), (&json!("consumer"), &json!("uniform")));
    assert!(described[0]["epoch"].as_i64() > Some(0), "{described}");
    let members = json_of(at, &["group", "members", "new"], DONE);
    assert_eq!(keys(&members[0]), MEMBER_KEYS);
    assert_eq!((&members[0]["instanceId"], &members[0]["clientId"]), (&json!("one"), &json!("reader")));
    assert_eq!(members[0]["assigned"], json!([{ "topic": "orders", "partitions": [0, 1] }]));
    let reset = ["group", "reset-offsets", "new", "--all-topics", "--to-offset", "3"];
    says(at, &reset, NOT_DONE, &["group new is Stable, with 1 member (reader on "]);
    consumer.unsubscribe();
    drop(consumer);
    // A static member that leaves is expected back.
    says(at, &["group", "delete", "new"], NOT_DONE, &["NON_EMPTY_GROUP"]);
    drop(reader_with(at, "other", 20, &[("group.protocol", "consumer")]));
    let reset = ["group", "reset-offsets", "other", "--all-topics", "--to-offset", "3", "--execute"];
    said(at, &reset, DONE);
    assert_eq!(sum(&json_of(at, &["group", "lag", "other"], DONE), "lag"), 14);
    says(at, &["group", "delete", "other"], DONE, &["other  deleted"]);
}

#[test]
fn the_groups_of_all_cores_are_found_through_each_listener() {
    let dir = directory();
    let base = free_ports(2);
    let broker = Broker::start(dir.path(), &["--cores", "2", "--per-core-port", &base.to_string()]);
    let (shared, per_core) = (broker.address.to_string(), format!("127.0.0.1:{base}"));
    said(&shared, &["topic", "create", "orders"], DONE);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for name in names {
        let set = ["group", "reset-offsets", name, "--topic", "orders", "--to-latest", "--execute"];
        said(if name < "d" { &shared } else { &per_core }, &set, DONE);
    }
    let listed = |at: &str| -> (Vec<String>, BTreeSet<i64>) {
        let listed = json_of(at, &["group", "list"], DONE);
        let rows = listed.as_array().expect("rows");
        let names = rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned());
        (names.collect(), rows.iter().filter_map(|row| row["coordinator"].as_i64()).collect())
    };
    assert_eq!(listed(&shared), (names.map(str::to_owned).to_vec(), BTreeSet::from([1])));
    assert_eq!(listed(&per_core), (names.map(str::to_owned).to_vec(), BTreeSet::from([1000, 1001])));
    says(&per_core, &["group", "delete", "a", "b", "c", "d"], DONE, &["d      deleted"]);
    says(&shared, &["group", "delete", "e", "f", "g", "h"], DONE, &["h      deleted"]);
    says(&per_core, &["group", "list"], DONE, &["There is no group."]);
}

/// librdkafka's own brokers: three of them, which know topics and little else.
#[test]
fn brokers_of_others_are_asked_each_for_what_it_leads() {
    let cluster = MockCluster::new(3).expect("brokers");
    cluster.create_topic("orders", 6, 3).expect("a topic");
    for partition in 0..6 {
        cluster.partition_leader("orders", partition, Some(1 + partition % 3)).expect("a leader");
    }
    let at = cluster.bootstrap_servers();
    let (producer, acked) = kafka::producer(&at, &[]);
    let records: Vec<kafka::Sent> = (0..6).map(|partition| kafka::Sent::plain(partition, b"value".to_vec())).collect();
    kafka::send(&producer, "orders", &records);
    acked.wait_for(6);
    let listed = json_of(&at, &["topic", "list"], DONE);
    assert_eq!((&listed[0]["partitions"], &listed[0]["replicationFactor"]), (&json!(6), &json!(3)), "{listed}");
    let described = json_of(&at, &["topic", "describe", "orders"], DONE);
    assert_eq!((sum(&described[0]["partitions"], "endOffset"), &described[0]["settings"]), (6, &Value::Null));
    let leaders: BTreeSet<_> =
        described[0]["partitions"].as_array().expect("rows").iter().filter_map(|row| row["leader"].as_i64()).collect();
    assert_eq!(leaders, BTreeSet::from([1, 2, 3]));
    says(&at, &["topic", "describe", "orders"], DONE, &["The broker does not tell settings."]);
    says(&at, &["config", "list", "--topic", "orders"], NOT_DONE, &["does not speak DescribeConfigs"]);
}

#[test]
fn a_broker_that_is_down_leaves_the_groups_of_the_others() {
    let cluster = Scripted::start_first(1, &[(metadata::API, 0, 9), (list_groups::API, 0, 4)], |question| {
        if question.key == metadata::API.key {
            return question.metadata(0);
        }
        let group = ListedGroup { group_id: "billing".into(), group_state: "Stable".into(), ..Default::default() };
        question.reply(&ListGroupsResponse { groups: vec![group], ..Default::default() })
    });
    let at = cluster.addresses[0].to_string();
    let missing = "error: the groups of broker 1 are missing: broker 1 is at ";
    says(&at, &["group", "list"], NOT_DONE, &["billing  Stable", missing, "Connection refused"]);
    let listed = json_of(&at, &["group", "list"], NOT_DONE);
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["name"]), (Some(1), &json!("billing")));
    // Who asks for the lag of all groups is told of none.
    says(&at, &["group", "lag"], NO_ANSWER, &["error: broker 1 is at "]);
}

#[test]
fn a_wrong_command_line_asks_nothing() {
    let reset = ["group", "reset-offsets", "g"];
    for (arguments, expect) in [
        (&["--all-topics"][..], "--to-earliest|--to-latest|--to-time"),
        (&["--to-earliest"], "--topic <TOPIC[:PARTITIONS]>|--all-topics"),
        (&["--all-topics", "--to-earliest", "--to-latest"], "cannot be used with"),
        (&["--all-topics", "--to-time", "yesterday"], "`yesterday` is no moment since 1970, such as"),
        (&["--all-topics", "--by-duration", "1"], "`1` is no duration, such as"),
        (&["--all-topics", "--to-offset", "-1"], "-1"),
        (&["--all-topics", "--shift-by", "x"], "invalid digit"),
        (&["--topic", "orders:x", "--to-latest"], "`orders:x` is no topic with partitions"),
    ] {
        says("127.0.0.1:1", &[&reset[..], arguments].concat(), WRONG, &[expect]);
    }
    says("127.0.0.1:1", &["group", "lag", "--interval", "0s"], WRONG, &["`0s` is no duration"]);
}
