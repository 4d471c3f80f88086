//! Three brokers on real processes, under librdkafka's load: killed, stopped, restarted, and met by strangers.
//!
//! `CORELOG_FAILOVER_KILLS=50 cargo test --test cluster failover -- --nocapture` is the long form of the kills.
#![cfg(feature = "shell")]

mod binary;
mod kafka;
mod ledger;
mod network;
mod raw;
mod trio;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use binary::{Broker, PATIENCE, command, directory, free_cluster_ports};
use kafka::Sent;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use trio::{Load, NODES, TOPIC, Trio};

const KILLS: u64 = 2;

/// Leases that end soon, where a test waits for one.
const SHORT_LEASES: [&str; 2] = ["--broker-session-timeout-ms=2000", "--broker-heartbeat-interval-ms=200"];

#[test]
fn no_failover_after_kill_9_loses_or_doubles_what_was_acknowledged() {
    let kills = ledger::number("CORELOG_FAILOVER_KILLS").unwrap_or(KILLS);
    let mut trio = Trio::start(&[]);
    trio.create_topic();
    let load = Load::start(&trio.bootstrap());
    let mut took = Vec::new();
    for kill in 0..kills {
        load.goes_on();
        let leader = trio.leader((kill % 6) as i32);
        trio.kill(leader);
        took.push(load.goes_on().as_millis());
        trio.launch(leader);
        trio.wait_for_full_isr();
    }
    let records = load.verify(&trio.bootstrap());
    eprintln!("{kills} kills, producers went on after {took:?} ms, {records} records, all there once");
}

#[test]
fn a_leader_that_stands_still_is_replaced_and_does_no_harm_when_it_goes_on() {
    let trio = Trio::start(&SHORT_LEASES);
    trio.create_topic();
    let load = Load::start(&trio.bootstrap());
    load.goes_on();
    let leader = trio.leader(0);
    trio.signal(leader, "-STOP");
    trio.wait_until_others_lead(leader);
    load.goes_on();
    trio.signal(leader, "-CONT");
    trio.wait_for_full_isr();
    load.goes_on();
    load.verify(&trio.bootstrap());
}

#[test]
fn a_rolling_restart_under_load_fails_no_request() {
    let mut trio = Trio::start(&[]);
    trio.create_topic();
    let load = Load::start(&trio.bootstrap());
    for node in 0..NODES {
        load.goes_on();
        trio.stop(node);
        load.goes_on();
        trio.launch(node);
        trio.wait_for_full_isr();
    }
    load.verify(&trio.bootstrap());
}

#[test]
fn all_of_them_may_be_gone_at_the_same_time() {
    let mut trio = Trio::start(&[]);
    trio.create_topic();
    let load = Load::start(&trio.bootstrap());
    load.goes_on();
    (0..NODES).for_each(|node| trio.kill(node));
    trio.launch_all();
    trio.wait_for_full_isr();
    load.goes_on();
    load.verify(&trio.bootstrap());
}

#[test]
fn a_consumer_reads_from_the_replica_in_its_rack() {
    const COUNT: i32 = 500;
    let trio = Trio::start(&["--replica-selector-class=org.apache.kafka.common.replica.RackAwareReplicaSelector"]);
    trio.create_topic();
    let (producer, acked) = kafka::producer(&trio.bootstrap(), &[("acks", "all")]);
    let records: Vec<Sent> = (0..COUNT).map(|_| Sent::plain(0, vec![7; 1000])).collect();
    kafka::send(&producer, TOPIC, &records);
    acked.wait_for(COUNT as usize);
    let leader = trio.leader(0);
    let near = (leader + 1) % NODES;
    let rack = format!("rack-{}", near + 1);
    let (consumer, received) = kafka::counting_consumer(&trio.bootstrap(), &[("client.rack", &rack)]);
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(TOPIC, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&partitions).expect("assigned");
    let until = Instant::now() + PATIENCE;
    let (mut count, wanted) = (0, COUNT as u64 * 1000);
    let near_id = near as i32 + 1;
    while count < COUNT || received.bytes_from(near_id) < wanted {
        assert!(Instant::now() < until, "{count} records, {} bytes from {near_id}", received.bytes_from(near_id));
        if let Some(message) = consumer.poll(Duration::from_millis(50)) {
            message.expect("a record");
            count += 1;
        }
    }
    assert_eq!(count, COUNT);
    assert!(received.bytes_from(leader as i32 + 1) < wanted / 2, "the leader has sent it elsewhere");
}

#[test]
fn a_move_is_no_faster_than_its_throttle() {
    const COUNT: usize = 400;
    let trio = Trio::start(&[]);
    let bootstrap = trio.bootstrap();
    let corelog = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
        let output = command.args(arguments).args(["--bootstrap", &bootstrap]).output().expect("start the binary");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    corelog(&["topic", "create", TOPIC, "--partitions", "1", "--replication-factor", "1"]);
    let (producer, acked) = kafka::producer(&bootstrap, &[("acks", "all"), ("batch.size", "100000")]);
    let records: Vec<Sent> = (0..COUNT).map(|_| Sent::plain(0, vec![7; 10_000])).collect();
    kafka::send(&producer, TOPIC, &records);
    acked.wait_for(COUNT);
    let leader = trio.leader(0) as i32 + 1;
    let other = leader % NODES as i32 + 1;
    let (to, start) = (format!("{leader},{other}"), Instant::now());
    corelog(&["cluster", "move", "--topic", TOPIC, "--to", &to, "--execute", "--wait", "--throttle", "1MiB"]);
    // 4 MB in pieces of a MiB, the last of which is not waited for.
    assert!(start.elapsed() > Duration::from_secs(2), "it took {:?}", start.elapsed());
    let settings = corelog(&["config", "get", "--topic", TOPIC, "*throttled*", "--json"]);
    assert!(!settings.contains("0:"), "the throttle is gone: {settings}");
}

#[test]
fn a_cluster_to_try_things_with_starts_a_killed_broker_again_and_stops_with_a_signal() {
    let dir = directory();
    let port = free_cluster_ports(3).to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(["cluster", "local", "--brokers=3", "--cores=1", "--restart-after=1s", "--port", &port, "--dir"]);
    let mut process = command.arg(dir.path()).stdout(Stdio::piped()).spawn().expect("start the binary");
    let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let mut hear = |text: &str| {
        let said = lines.find_map(|line| line.ok().filter(|line| line.contains(text)));
        said.unwrap_or_else(|| panic!("no line says {text:?}"))
    };
    hear(&format!("connect    127.0.0.1:{port}"));
    hear("ready");
    let broker = std::fs::read_to_string(dir.path().join("broker-1/.lock")).expect("it runs");
    let kill = |signal: &str, process: &str| {
        assert!(Command::new("kill").args([signal, process]).status().expect("kill").success());
    };
    kill("-9", broker.trim());
    hear("broker 1 has ended, by signal 9; it is started again after 1 s");
    hear("broker 1 is started again");
    kill("-INT", &process.id().to_string());
    hear("stopped");
    assert!(process.wait().expect("wait").success());
}

#[test]
fn a_broker_of_another_cluster_and_one_with_an_id_that_is_taken_are_refused() {
    let trio = Trio::start(&["--cluster-id=ours"]);
    trio.create_topic();
    let seeds = format!("--seeds={}", trio.bootstrap());
    let (theirs, twins) = (directory(), directory());
    Broker::start(theirs.path(), &["--cores=1", "--cluster-id=theirs", "--node-id=9"]).stop();
    let other = |dir: &Path, id: &str| {
        let listen = format!("127.0.0.1:{}", free_cluster_ports(1));
        Broker::spawn(command(dir, &listen, &["--cores=1", id, &seeds]))
    };
    let mut stranger = other(theirs.path(), "--node-id=9");
    stranger.wait_for("belongs to cluster theirs");
    assert_eq!(stranger.exit_code(), Some(1));
    let twin = other(twins.path(), "--node-id=2");
    twin.wait_for("there is another broker with node.id 2");
    let load = Load::start(&trio.bootstrap());
    load.goes_on();
    assert_eq!(trio.brokers_known_to(0), NODES);
    load.verify(&trio.bootstrap());
    twin.kill();
}
