//! `corelog topic`, `config` and what else asks a broker, by the real binary: against brokers of ours, one that is
//! scripted, and what is no broker.
#![cfg(feature = "shell")]

mod binary;
mod command;
#[allow(dead_code)]
mod fake;
mod raw;

use std::net::TcpListener;

use binary::{Broker, directory, free_ports};
use command::{DONE, NO_ANSWER, NOT_DONE, WRONG, json_of, keys, said, says, started};
use fake::{FakeBroker, Script};
use raw::Client;
use serde_json::json;

#[test]
fn topics_are_created_shown_changed_and_deleted() {
    let dir = directory();
    let (broker, at) = started(dir.path(), &["--cores", "1"]);
    let at = at.as_str();
    says(at, &["topic", "list"], DONE, &["There is no topic."]);
    says(at, &["topic", "create", "dry", "--dry-run"], DONE, &["dry    could be created"]);
    let created = json_of(at, &["topic", "create", "a", "b", "-p", "3", "--set", "retention.ms=1000"], DONE);
    assert_eq!(keys(&created[0]), ["done", "error", "id", "name", "partitions", "replicationFactor"]);
    assert_eq!((&created[1]["name"], &created[1]["partitions"]), (&json!("b"), &json!(3)));
    says(
        at,
        &["topic", "create", "a", "c"],
        NOT_DONE,
        &[
            "a      TOPIC_ALREADY_EXISTS: ",
            "c      created: 1 partition, replication factor 1\n",
            "add --if-not-exists",
        ],
    );
    says(at, &["topic", "create", "a", "--if-not-exists"], DONE, &["a      is there already"]);
    says(at, &["topic", "create", ".."], NOT_DONE, &["INVALID_TOPIC_EXCEPTION", "1 to 249 characters"]);
    says(at, &["topic", "create", "d", "--set", "nonsense=1"], NOT_DONE, &["INVALID_CONFIG", "nonsense"]);

    let mut client = Client::connect(&broker);
    for value in [b"one", b"two"] {
        assert_eq!(client.produce("a", 1, raw::batch(value)).error_code, 0);
    }
    assert_eq!(said(at, &["topic", "list", "*"], DONE).lines().count(), 4, "a head, a, b and c");
    let listed = json_of(at, &["topic", "list", "b*"], DONE);
    assert_eq!(keys(&listed[0]), ["error", "id", "internal", "name", "partitions", "replicationFactor"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    let described = json_of(at, &["topic", "describe", "a"], DONE);
    assert_eq!(keys(&described[0]), ["error", "id", "internal", "name", "partitions", "settings"]);
    let row = &described[0]["partitions"][1];
    assert_eq!(
        keys(row),
        ["endOffset", "error", "inSync", "leader", "leaderEpoch", "offline", "partition", "replicas", "startOffset"]
    );
    assert_eq!((&row["startOffset"], &row["endOffset"], &row["replicas"]), (&json!(0), &json!(2), &json!([1])));
    assert_eq!(described[0]["settings"][0]["name"], "retention.ms");
    let text =
        ["a  3 partitions, replication factor 1, id ", "retention.ms = 1000  (topic)", "        1       1      0  1"];
    says(at, &["topic", "describe", "a"], DONE, &text);
    says(at, &["topic", "describe", "c"], DONE, &["All settings are the default."]);
    let missing = ["nothing  UNKNOWN_TOPIC_OR_PARTITION: ", "`corelog topic list --internal` shows", "a  3 partitions"];
    says(at, &["topic", "describe", "a", "nothing"], NOT_DONE, &missing);
    says(at, &["topic", "describe", "x*"], NOT_DONE, &["no topic is like x*"]);

    says(at, &["topic", "alter", "a", "-p", "5", "--dry-run"], DONE, &["a      could have 5 partitions"]);
    says(at, &["topic", "alter", "a", "-p", "5"], DONE, &["a      has 5 partitions"]);
    says(at, &["topic", "alter", "a", "-p", "4"], NOT_DONE, &["INVALID_PARTITIONS", "never taken away"]);
    assert_eq!(json_of(at, &["topic", "list", "a"], DONE)[0]["partitions"], 5);

    let set = ["topic", "alter", "a", "c", "--set", "segment.bytes=65536", "--unset", "retention.ms"];
    says(at, &[&set[..], &["--dry-run"]].concat(), DONE, &["a      2 settings could change"]);
    says(
        at,
        &[&set[..], &["-p", "6"]].concat(),
        DONE,
        &["a      2 settings changed, has 6 partitions\nc      2 settings"],
    );
    let described = json_of(at, &["topic", "describe", "a"], DONE);
    let settings = described[0]["settings"].as_array().expect("rows");
    assert_eq!(settings.iter().map(|row| &row["name"]).collect::<Vec<_>>(), ["segment.bytes"]);
    let nonsense = ["topic", "alter", "a", "nothing", "--set", "nonsense=1", "-p", "9"];
    says(at, &nonsense, NOT_DONE, &["a        INVALID_CONFIG", "nothing  UNKNOWN_TOPIC_OR_PARTITION"]);
    assert_eq!(json_of(at, &["topic", "list", "a"], DONE)[0]["partitions"], 6, "refused settings, no partitions");

    let deleted = json_of(at, &["topic", "delete", "a", "nothing"], NOT_DONE);
    assert_eq!(keys(&deleted[0]), ["done", "error", "name"]);
    let row = deleted.as_array().expect("rows").iter().find(|row| row["name"] == "nothing").expect("a row");
    assert_eq!((&row["done"], &row["error"]["code"]), (&json!(false), &json!("UNKNOWN_TOPIC_OR_PARTITION")));
    says(at, &["topic", "delete", "a", "--if-exists"], DONE, &["a      is not there"]);
}

#[test]
fn a_cluster_is_shown_and_partitions_go_only_where_brokers_are() {
    let dir = directory();
    let (_broker, at) = started(dir.path(), &["--cores", "1"]);
    let at = at.as_str();
    said(at, &["topic", "create", "a", "-p", "3"], DONE);
    let head = ["1 broker, 1 topic, 3 partitions", "controller", "Every partition has a leader"];
    says(at, &["cluster", "status"], DONE, &head);
    let status = json_of(at, &["cluster", "status"], DONE);
    assert_eq!(
        keys(&status),
        [
            "brokers",
            "clusterId",
            "controller",
            "moving",
            "observers",
            "offline",
            "partitions",
            "topics",
            "underReplicated",
            "voters"
        ]
    );
    assert_eq!((&status["controller"], &status["voters"], &status["offline"]), (&json!(1), &json!([1]), &json!([])));
    let broker = &status["brokers"][0];
    let count = |key: &str| broker[key].as_u64();
    assert_eq!(
        (count("id"), count("replicas"), count("leaders"), count("behind")),
        (Some(1), Some(3), Some(3), Some(0))
    );
    assert!(count("usableBytes") > Some(0) && count("usableBytes") <= count("totalBytes"), "{broker}");

    says(at, &["cluster", "move", "--topic", "a:0", "--to", "1"], DONE, &["There is nothing to do."]);
    let plan = ["a              0  1       9,1", "1 replica to copy: 0 B", "Nothing was changed. Add --execute"];
    says(at, &["cluster", "move", "--topic", "a:0", "--to", "9,1"], DONE, &plan);
    let to_nobody = ["cluster", "move", "--topic", "a:0", "--to", "9", "--execute"];
    says(at, &to_nobody, NOT_DONE, &["INVALID_REPLICA_ASSIGNMENT: Partition 0 is assigned to broker 9"]);
    let refused = json_of(at, &to_nobody, NOT_DONE);
    assert_eq!(
        (&refused["executed"], keys(&refused["partitions"][0])),
        (&json!(true), vec!["after", "before", "copyBytes", "error", "partition", "topic"])
    );
    says(
        at,
        &["cluster", "move", "--topic", "a:1", "--cancel", "--execute"],
        NOT_DONE,
        &["NO_REASSIGNMENT_IN_PROGRESS"],
    );
    says(at, &["cluster", "move", "--topic", "a:1"], WRONG, &["--to <BROKER,"]);
    says(at, &["cluster", "balance"], DONE, &["There is nothing to do."]);
    says(
        at,
        &["cluster", "drain", "1"],
        NOT_DONE,
        &["a-0 has 1 replica, and without broker 1 there would be no broker"],
    );
    says(at, &["cluster", "drain", "9"], NOT_DONE, &["there is no broker 9: the brokers are 1"]);
    says(at, &["cluster", "unregister", "1"], NOT_DONE, &["broker 1 has 3 replicas", "add --force"]);
    says(at, &["cluster", "unregister", "9"], NOT_DONE, &["BROKER_ID_NOT_REGISTERED"]);
}

#[test]
fn a_snapshot_tells_what_a_cluster_is_made_of() {
    let dir = directory();
    let (_broker, at) = started(dir.path(), &["--cores", "1", "--log-segment-bytes", "1MiB"]);
    let at = at.as_str();
    said(at, &["topic", "create", "b", "-p", "2"], DONE);
    said(at, &["topic", "create", "a", "--set", "retention.ms=1000"], DONE);
    said(at, &["config", "set", "--broker", "all", "log.retention.ms=5000"], DONE);
    let parts = ["controller 1 in epoch", "voters 1", "topic a      retention.ms       1000", "all brokers, dynamic"];
    says(at, &["cluster", "snapshot"], DONE, &parts);
    let snapshot = json_of(at, &["cluster", "snapshot"], DONE);
    assert_eq!(
        keys(&snapshot),
        [
            "brokers",
            "clusterId",
            "controller",
            "controllerEpoch",
            "missing",
            "observers",
            "settings",
            "topics",
            "version",
            "voters"
        ]
    );
    assert_eq!((&snapshot["voters"], &snapshot["observers"]), (&json!([1]), &json!([])));
    let topics = snapshot["topics"].as_array().expect("rows");
    assert_eq!(topics.iter().map(|topic| &topic["name"]).collect::<Vec<_>>(), ["a", "b"]);
    let row = &topics[1]["partitions"][1];
    assert_eq!(keys(row), ["inSync", "leader", "leaderEpoch", "offline", "partition", "replicas"]);
    assert_eq!((&row["leader"], &row["replicas"]), (&json!(1), &json!([1])));
    let settings = snapshot["settings"].as_array().expect("rows");
    assert_eq!(keys(&settings[0]), ["kind", "name", "of", "readOnly", "sensitive", "source", "value"]);
    let of = |kind: &str, of: &str| -> Vec<&str> {
        let rows = settings.iter().filter(|row| row["kind"] == kind && row["of"] == of);
        rows.filter_map(|row| row["name"].as_str()).collect()
    };
    assert_eq!((of("brokers", ""), of("topic", "a")), (vec!["log.retention.ms"], vec!["retention.ms"]));
    assert!(of("broker", "1").contains(&"log.segment.bytes") && of("topic", "b").is_empty(), "{settings:?}");

    // The same again until something is changed.
    let out = directory();
    let (first, second) = (out.path().join("first.txt"), out.path().join("second.json"));
    let (first, second) = (first.to_str().expect("a path"), second.to_str().expect("a path"));
    says(at, &["cluster", "snapshot", "--out", first], DONE, &["first.txt"]);
    let written = std::fs::read_to_string(first).expect("it is written");
    assert_eq!(said(at, &["cluster", "snapshot"], DONE), written);
    json_of(at, &["cluster", "snapshot", "--out", second], DONE);
    let written = std::fs::read_to_string(second).expect("it is written");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("it is JSON"), snapshot);
    said(at, &["topic", "create", "c"], DONE);
    let later = json_of(at, &["cluster", "snapshot"], DONE);
    assert!(later["version"].as_i64() > snapshot["version"].as_i64(), "{later}");
    says(at, &["cluster", "snapshot", "--out", "/nowhere/at/all"], NOT_DONE, &["cannot be written"]);
}

#[test]
fn settings_are_shown_and_explained() {
    let dir = directory();
    let (_broker, at) = started(dir.path(), &["--cores", "1", "--log-segment-bytes", "1MiB"]);
    let at = at.as_str();
    said(at, &["topic", "create", "a", "--set", "retention.ms=1000"], DONE);
    let table = said(at, &["config", "get", "--topic", "a", "retention.*", "segment.bytes"], DONE);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["retention.bytes", "-1", "default"]);
    assert_eq!(rows[2], ["retention.ms", "1000", "topic"]);
    assert_eq!(rows[3], ["segment.bytes", "1048576", "broker's", "start"]);
    let got = json_of(at, &["config", "get", "--topic", "a", "retention.ms"], DONE);
    assert_eq!(keys(&got[0]), ["name", "readOnly", "sensitive", "source", "value"]);
    let got = json_of(at, &["config", "get", "--topic", "a", "retention.ms", "--explain"], DONE);
    assert_eq!(
        keys(&got[0]),
        ["documentation", "name", "readOnly", "sensitive", "source", "synonyms", "type", "value"]
    );
    assert_eq!(keys(&got[0]["synonyms"][0]), ["name", "source", "value"]);
    assert_eq!(
        (&got[0]["source"], &got[0]["synonyms"][1]["name"]),
        (&json!("DYNAMIC_TOPIC_CONFIG"), &json!("log.retention.ms"))
    );
    let explained = ["retention.ms = 1000  (topic)\n    long\n", "    log.retention.ms = 604800000  (default)\n"];
    says(at, &["config", "get", "--topic", "a", "retention.ms", "--explain"], DONE, &explained);
    says(at, &["config", "get", "--topic", "a", "retention.m"], NOT_DONE, &["did you mean retention.ms?"]);

    let changed = json_of(at, &["config", "list", "--broker", "1", "--changed"], DONE);
    let names: Vec<&str> = changed.as_array().expect("rows").iter().filter_map(|row| row["name"].as_str()).collect();
    assert!(names.contains(&"log.segment.bytes") && !names.contains(&"num.partitions"), "{names:?}");
    says(at, &["config", "list", "--broker", "all"], DONE, &["Nothing is set."]);
    says(
        at,
        &["config", "list", "--broker", "7"],
        NOT_DONE,
        &["there is no broker 7 in the cluster: its brokers are 1"],
    );
    says(at, &["config", "list", "--topic", "b"], NOT_DONE, &["error: topic b: UNKNOWN_TOPIC_OR_PARTITION"]);
}

#[test]
fn settings_are_changed_and_changed_back() {
    let dir = directory();
    let (_broker, at) = started(dir.path(), &["--cores", "1"]);
    let at = at.as_str();
    said(at, &["topic", "create", "a"], DONE);
    let value = |of: &[&str], name: &str| {
        let got = json_of(at, &[&["config", "get"], of, &[name]].concat(), DONE);
        (got[0]["value"].as_str().expect("a value").to_owned(), got[0]["source"].as_str().expect("one").to_owned())
    };
    let topic = ["--topic", "a"];
    let set = ["config", "set", "--topic", "a", "retention.ms=1000", "max.message.bytes=2000"];
    says(at, &[&set[..], &["--dry-run"]].concat(), DONE, &["topic a  could be set"]);
    assert_eq!(value(&topic, "retention.ms").1, "DEFAULT_CONFIG");
    let changed = json_of(at, &set, DONE);
    assert_eq!(changed, json!([{ "name": "topic a", "done": true, "error": null }]));
    assert_eq!(value(&topic, "retention.ms"), ("1000".into(), "DYNAMIC_TOPIC_CONFIG".into()));
    let half = ["config", "set", "--topic", "a", "retention.ms=2000", "retention.bytes=x"];
    says(at, &half, NOT_DONE, &["topic a  INVALID_CONFIG: ", "`corelog config list --explain` shows"]);
    assert_eq!(value(&topic, "retention.ms").0, "1000", "all or nothing");
    says(at, &["config", "unset", "--topic", "a", "retention.ms"], DONE, &["topic a  unset"]);
    assert_eq!(value(&topic, "retention.ms").1, "DEFAULT_CONFIG");
    assert_eq!(value(&topic, "max.message.bytes").0, "2000");

    says(at, &["config", "set", "--broker", "all", "log.retention.ms=5000"], DONE, &["all brokers  set"]);
    says(at, &["config", "set", "--broker", "1", "log.retention.ms=6000"], DONE, &["broker 1  set"]);
    assert_eq!(value(&["--broker", "1"], "log.retention.ms"), ("6000".into(), "DYNAMIC_BROKER_CONFIG".into()));
    assert_eq!(value(&topic, "retention.ms"), ("6000".into(), "DYNAMIC_BROKER_CONFIG".into()));
    says(at, &["config", "list", "--broker", "all"], DONE, &["log.retention.ms  5000   all brokers, dynamic"]);
    said(at, &["config", "unset", "--broker", "1", "log.retention.ms"], DONE);
    assert_eq!(value(&topic, "retention.ms"), ("5000".into(), "DYNAMIC_DEFAULT_BROKER_CONFIG".into()));
    says(at, &["config", "set", "--broker", "1", "data.dir=/tmp"], NOT_DONE, &["broker 1  INVALID_"]);
    says(at, &["config", "set", "--topic", "b", "retention.ms=1"], NOT_DONE, &["UNKNOWN_TOPIC_OR_PARTITION"]);
    said(at, &["config", "set", "--group", "g", "consumer.session.timeout.ms=50000"], DONE);
    assert_eq!(value(&["--group", "g"], "consumer.session.timeout.ms"), ("50000".into(), "GROUP_CONFIG".into()));
}

#[test]
fn the_oldest_records_go_after_saying_which() {
    let dir = directory();
    let (broker, at) = started(dir.path(), &["--cores", "1"]);
    let at = at.as_str();
    said(at, &["topic", "create", "a", "-p", "2"], DONE);
    let mut client = Client::connect(&broker);
    for partition in [0, 0, 0, 1] {
        assert_eq!(client.produce("a", partition, raw::batch(b"value")).error_code, 0);
    }
    let starts = || {
        let described = json_of(at, &["topic", "describe", "a"], DONE);
        [0, 1].map(|index| described[0]["partitions"][index]["startOffset"].as_i64().expect("an offset"))
    };
    let trim = ["topic", "trim", "--topic", "a", "--to-offset", "2"];
    says(
        at,
        &trim,
        DONE,
        &["a              0       0      2      +2\n", "the log ends here", "Add --execute to do this."],
    );
    assert_eq!(starts(), [0, 0]);
    let trimmed = json_of(at, &[&trim[..], &["--execute"]].concat(), DONE);
    assert_eq!(keys(&trimmed), ["executed", "partitions"]);
    assert_eq!(keys(&trimmed["partitions"][0]), ["after", "before", "error", "note", "partition", "topic"]);
    assert_eq!(starts(), [2, 1]);
    // The records are of 2023.
    said(at, &["topic", "trim", "--topic", "a:0", "--to-time", "2023-01-01", "--execute"], DONE);
    assert_eq!(starts(), [2, 1]);
    said(at, &["topic", "trim", "--topic", "a:0", "--by-duration", "1d", "--execute"], DONE);
    assert_eq!(starts(), [3, 1]);
    says(at, &["topic", "trim", "--topic", "b", "--to-latest"], NOT_DONE, &["topic b: UNKNOWN_TOPIC_OR_PARTITION"]);
}

#[test]
fn each_core_is_asked_for_its_own() {
    let dir = directory();
    let base = free_ports(2);
    let _broker = Broker::start(dir.path(), &["--cores", "2", "--per-core-port", &base.to_string()]);
    let at = format!("127.0.0.1:{base}");
    said(&at, &["topic", "create", "a", "-p", "8"], DONE);
    let described = json_of(&at, &["topic", "describe", "a"], DONE);
    let rows = described[0]["partitions"].as_array().expect("rows");
    assert!(rows.iter().all(|row| row["endOffset"] == 0 && row["error"].is_null()), "{described}");
    let leaders: std::collections::BTreeSet<_> = rows.iter().filter_map(|row| row["leader"].as_i64()).collect();
    assert_eq!(leaders.into_iter().collect::<Vec<_>>(), [1000, 1001]);
    says(&at, &["config", "get", "--broker", "1001", "num.partitions"], DONE, &["num.partitions"]);
}

#[test]
fn a_broker_of_others_is_asked_for_what_it_speaks() {
    let broker = FakeBroker::start(Script::Good);
    let at = broker.address.to_string();
    let listed = json_of(&at, &["topic", "list", "a"], DONE);
    assert_eq!((&listed[0]["name"], &listed[0]["partitions"]), (&json!("a"), &json!(1)));
    says(
        &at,
        &["topic", "create", "a"],
        NOT_DONE,
        &["does not speak CreateTopics: this cannot be done with that broker"],
    );
}

#[test]
fn what_is_no_broker_is_told() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let says_down = ["error: ", "cannot be connected to: Connection refused", "--bootstrap says which"];
    says(&closed, &["topic", "list"], NO_ANSWER, &says_down);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("an address").to_string();
    says(
        &at,
        &["topic", "list", "--timeout", "300ms"],
        NO_ANSWER,
        &["does not answer ApiVersions: it did not come within"],
    );
    let nonsense = FakeBroker::start(Script::Nonsense);
    let at = nonsense.address.to_string();
    says(&at, &["topic", "list"], NO_ANSWER, &["which is not Kafka's protocol"]);
    // The first that answers is enough.
    let good = FakeBroker::start(Script::Good);
    says(&format!("{closed},{}", good.address), &["topic", "list", "a"], DONE, &["a"]);
}

#[test]
fn a_wrong_command_line_asks_nothing() {
    for (arguments, expect) in [
        (&["topic", "list", "--timeout", "5"][..], "`5` is no duration, such as"),
        (&["topic", "create"], "required arguments were not provided"),
        (&["topic", "create", "a", "-p", "0"], "0 is not in 1.."),
        (&["topic", "create", "a", "--set", "x"], "`x` is no NAME=VALUE"),
        (&["config", "list"], "--topic <NAME>|--broker <ID>|--group <NAME>"),
        (&["config", "list", "--topic", "a", "--broker", "1"], "cannot be used with"),
        (&["config", "list", "--broker", "one"], "`one` is no broker's number, nor `all`"),
        (&["config", "set", "--topic", "a", "x"], "`x` is no NAME=VALUE"),
        (&["topic", "alter", "a"], "--partitions <N>|--set <NAME=VALUE>|--unset <NAME>"),
        (&["topic", "trim", "--to-latest"], "--topic <TOPIC[:PARTITIONS]>"),
        (&["quota", "set", "a=1"], "--user <NAME>|--default-user"),
        (&["quota", "set", "--user", "u", "--default-user", "a=1"], "cannot be used with"),
        (&["quota", "set", "--user", "u", "a=much"], "`a=much` is no NAME=NUMBER"),
    ] {
        says("127.0.0.1:1", arguments, WRONG, &[expect]);
    }
    says("localhost", &["topic", "list"], WRONG, &["`localhost` is no HOST:PORT"]);
}

#[test]
fn quotas_are_set_shown_and_removed() {
    let dir = directory();
    let (_broker, at) = started(dir.path(), &["--cores", "1"]);
    let at = at.as_str();
    says(at, &["quota", "list"], DONE, &["There is no quota."]);
    let set = [
        "quota",
        "set",
        "--user",
        "alice",
        "--default-client-id",
        "producer_byte_rate=1024",
        "request_percentage=12.5",
    ];
    says(at, &[&set[..], &["--dry-run"]].concat(), DONE, &["user alice, default client-id  could be set"]);
    let entity = json!({ "user": "alice", "client-id": null });
    let row = json!({ "name": "user alice, default client-id", "entity": entity, "done": true, "error": null });
    assert_eq!(json_of(at, &set, DONE), json!([row]));
    said(at, &["quota", "set", "--client-id", "loader", "consumer_byte_rate=1e6"], DONE);
    let quotas = json!({ "producer_byte_rate": 1024.0, "request_percentage": 12.5 });
    let loader = json!({ "entity": { "client-id": "loader" }, "quotas": { "consumer_byte_rate": 1_000_000.0 } });
    let alice = json!({ "entity": entity, "quotas": quotas });
    assert_eq!(json_of(at, &["quota", "list"], DONE), json!([loader, alice]));
    assert_eq!(json_of(at, &["quota", "list", "--user", "alice"], DONE), json!([alice]));
    assert_eq!(json_of(at, &["quota", "list", "--user", "alice", "--strict"], DONE), json!([]));
    says(at, &["quota", "list", "--client-id", "loader"], DONE, &["client-id loader  consumer_byte_rate  1000000\n"]);
    says(at, &["quota", "set", "--user", "alice", "nonsense=1"], NOT_DONE, &["user alice  INVALID_"]);
    says(at, &["quota", "unset", "--client-id", "loader", "consumer_byte_rate"], DONE, &["client-id loader  removed"]);
    assert_eq!(json_of(at, &["quota", "list"], DONE), json!([alice]));
}
