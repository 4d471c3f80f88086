//! The load generator against brokers that behave and brokers that do not.
#![cfg(feature = "shell")]

mod binary;
mod fake;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use corelog::bench::capsule::Capsule;
use corelog::bench::packed::{Packed, Sum};
use corelog::bench::result::{RunResult, TopicCounts};
use corelog::bench::run::{self, Finished};
use corelog::bench::summary::Summary;
use corelog::bench::workload::Workload;
use corelog::client::client::{Client, To};
use corelog::wire::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use corelog::wire::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use corelog::wire::text::Text;
use fake::{FakeBroker, STALL, Script};

fn bench(address: SocketAddr, keys: &[(&str, &str)]) -> Result<Finished, String> {
    let mut workload = Workload::default();
    let bootstrap = address.to_string();
    let usual = [("bootstrap", &bootstrap[..]), ("warmup", "0s"), ("interval", "250ms"), ("late-max", "10s")];
    for (key, value) in usual.iter().chain(keys) {
        workload.set(key, value).expect("a good value");
    }
    workload.check().expect("a possible workload");
    run::run(&workload, &Arc::new(AtomicBool::new(false)), &mut |_| {}).map_err(|error| error.to_string())
}

fn produced(finished: &Finished) -> Packed {
    produced_by(&finished.result)
}

fn produced_by(result: &RunResult) -> Packed {
    Sum::of(result.intervals.iter().map(|interval| &interval.produce))
}

#[test]
fn a_stall_is_seen_in_full_in_open_loop_and_hardly_at_all_from_the_actual_sending() {
    let broker = FakeBroker::start(Script::StallAt(50));
    // Requests of fewer than 20 records, also when a busy machine makes the generator late.
    let small = [("batch-size", "2000"), ("max-request-size", "2000"), ("in-flight", "1")];
    let finished = bench(broker.address, &[&[("rate", "2000"), ("duration", "4s")], &small[..]].concat());
    let finished = finished.expect("it runs");
    let produce = produced(&finished);
    let totals = finished.result.totals;
    assert_eq!((totals.sent, totals.acked, totals.errors, produce.count()), (8000, 8000, 0, 8000));
    // 200 records were due during the stall, and waited 0 to 100 ms, evenly: 2.5 % of all, so the p99 is at 60 ms.
    assert!(produce.max_ns() >= 99_000_000, "max {} ns", produce.max_ns());
    assert!(produce.value_at(0.99) >= 50_000_000, "p99 {} ns", produce.value_at(0.99));
    assert!(produce.value_at(0.98) >= 10_000_000, "p98 {} ns", produce.value_at(0.98));
    // From the actual sending: one request was slow, with the records that happened to be in it.
    let (slow, all) = stalled(&broker);
    assert_eq!(all, 8000);
    assert!(slow > 0 && slow * 100 < all, "{slow} of {all} records: more than 1 %, so that a naive p99 sees it");
}

#[test]
fn closed_loop_hides_the_stall() {
    let broker = FakeBroker::start(Script::StallAt(5));
    let keys = [("rate", "0"), ("duration", "1s"), ("in-flight", "1"), ("batch-size", "1"), ("max-request-size", "1")];
    let finished = bench(broker.address, &keys).expect("it runs");
    let produce = produced(&finished);
    let (slow, all) = stalled(&broker);
    assert_eq!((slow, all), (1, finished.result.totals.acked), "however many would have been due in that time");
    assert!(produce.max_ns() >= 99_000_000, "{produce:?}");
}

/// Records that the broker held up, and all of them.
fn stalled(broker: &FakeBroker) -> (u64, u64) {
    let held = broker.seen.held.lock().expect("no panic");
    let slow = held.iter().filter(|(held, _)| *held >= STALL).map(|(_, records)| records).sum();
    (slow, held.iter().map(|(_, records)| records).sum())
}

#[test]
fn refused_batches_are_tried_again_and_every_record_arrives() {
    let broker = FakeBroker::start(Script::RefuseFirst(3));
    let finished = bench(broker.address, &[("rate", "1000"), ("duration", "1s")]).expect("it runs");
    let totals = finished.result.totals;
    assert_eq!((totals.acked, totals.errors), (1000, 0));
    assert!(totals.retries >= 3, "{totals:?}");
}

#[test]
fn what_became_of_every_record_is_told() {
    let check = |script: Script, (lost, duplicates, reordered): (u64, bool, bool)| {
        let broker = FakeBroker::start(script);
        // One record a batch, so that a batch that is lost is one record.
        let keys = [("rate", "200"), ("duration", "1s"), ("consumers", "1"), ("batch-size", "1"), ("in-flight", "1")];
        let finished = bench(broker.address, &keys).expect("it runs");
        let totals = finished.result.totals;
        assert_eq!((totals.acked, totals.lost, finished.unread), (200, lost, 0), "{script:?}: {totals:?}");
        assert_eq!((totals.duplicates > 0, totals.reordered > 0), (duplicates, reordered), "{script:?}: {totals:?}");
        let e2e = Sum::of(finished.result.intervals.iter().map(|interval| &interval.e2e));
        assert_eq!(e2e.count(), 200 - lost, "{script:?}: each record is measured once");
        let produce = produced(&finished);
        assert!(e2e.value_at(0.5) > 0 && produce.value_at(0.5) > 0, "{script:?}");
    };
    check(Script::Good, (0, false, false));
    check(Script::Lose, (1, false, false));
    check(Script::Repeat, (0, true, false));
    check(Script::Swap, (0, false, true));
}

#[test]
fn a_lost_record_is_in_the_first_line_and_in_the_exit_code() {
    let broker = FakeBroker::start(Script::Lose);
    let address = broker.address.to_string();
    let run = ["--rate", "200", "--duration", "1s", "--warmup", "0s", "--late-max", "10s", "--batch-size", "1"];
    let output = corelog(&[&["--bootstrap", &address, "--consumers", "1"], &run[..]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("LOST: 1 acknowledged records were never received\n"), "{text}");
    assert!(text.contains("lost: corelog-bench-0, first of producer 0, sequence 9"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_backlog_is_read_to_its_end_and_its_age_is_no_latency() {
    let broker = FakeBroker::start(Script::Good);
    let keys = [("mode", "catch-up"), ("backlog", "3000"), ("consumers", "1"), ("duration", "20s")];
    let finished = bench(broker.address, &keys).expect("it runs");
    let totals = finished.result.totals;
    assert_eq!((totals.acked, totals.received, totals.lost, finished.unread), (3000, 3000, 0, 0), "{totals:?}");
    let intervals = &finished.result.intervals;
    let received: u64 = intervals.iter().map(|interval| interval.counts.received).sum();
    let seconds: f64 = intervals.iter().map(|interval| interval.length_ns as f64 / 1e9).sum();
    assert!(received == 3000 && seconds < 20.0, "it ends when the backlog does: {seconds} s");
    assert!(intervals.iter().all(|interval| interval.e2e.is_empty() && interval.produce.is_empty()));

    let keys = [("mode", "drain"), ("backlog", "3000"), ("consumers", "1"), ("duration", "1s"), ("rate", "500")];
    let finished = bench(FakeBroker::start(Script::Good).address, &keys).expect("it runs");
    let totals = finished.result.totals;
    assert_eq!((totals.acked, totals.received, totals.lost, finished.unread), (3500, 3500, 0, 0), "{totals:?}");
    let e2e = Sum::of(finished.result.intervals.iter().map(|interval| &interval.e2e));
    assert_eq!((e2e.count(), produced(&finished).count()), (500, 500), "only what was due is measured");
}

#[test]
fn a_broker_that_dies_leaves_what_was_measured() {
    let broker = FakeBroker::start(Script::DieAfter(Duration::from_millis(1100)));
    let keys = [("rate", "1000"), ("duration", "30s"), ("request-timeout", "1s"), ("delivery-timeout", "2s")];
    let finished = bench(broker.address, &keys).expect("it began");
    let why = finished.cut_short.as_deref().expect("it ended early");
    assert!(why.contains(&broker.address.to_string()), "{why}");
    assert!(finished.result.totals.acked > 500, "{:?}", finished.result.totals);
    assert!(finished.result.totals.errors > 0);
    assert!(finished.result.intervals.len() >= 4);
}

#[test]
fn brokers_that_are_none_are_named() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let nonsense = FakeBroker::start(Script::Nonsense);
    let one = FakeBroker::start(Script::Good);
    let check = |address: SocketAddr, keys: &[(&str, &str)], expect: &str| {
        let error = bench(address, keys).expect_err("no run");
        assert!(error.contains(expect), "{error}");
    };
    check(silent, &[], &format!("{silent} cannot be connected to"));
    check(nonsense.address, &[], "sent a frame of 1213486160 bytes, which is not Kafka's protocol");
    check(one.address, &[("partitions", "3")], "has 1 partitions, and the workload 3");
    check(one.address, &[("idempotence", "true")], "does not speak InitProducerId");
    check(one.address, &[("groups", "1"), ("consumers", "1")], "does not speak FindCoordinator");
}

fn corelog(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.arg("bench").args(arguments).env_remove("RUST_LOG").output().expect("the binary runs")
}

#[test]
fn the_whole_product_in_one_command() {
    let dir = binary::directory();
    let parent = dir.path().to_str().expect("UTF-8");
    let usual = ["--embedded", "--embedded-dir", parent, "--rate", "2000", "--duration", "2s", "--warmup", "500ms"];
    let more = ["--partitions", "4", "--consumers", "2", "--idempotence", "true", "--late-max", "10s"];
    let kept = binary::directory();
    let out = kept.path().join("run");
    let output = corelog(&[&usual[..], &more, &["--out", out.to_str().expect("UTF-8")]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("open loop, 2,000 records/s due; 2.0 s measured in 2 intervals"), "{text}");
    assert!(text.contains("5,000 sent, 5,000 acked, 0 errors") && text.contains("0 lost"), "{text}");
    assert!(text.contains("produce  ") && text.contains("end to end  "), "{text}");
    assert!(text.contains("in the broker  "), "its stages were pulled: {text}");
    let run = Capsule::read(&out).expect("kept");
    assert_eq!((run.result.intervals.len(), &run.notes[..]), (2, &[][..]));
    let writes = run.result.writes.expect("its metrics were pulled");
    let value_bytes = run.result.totals.sent_bytes;
    assert!(writes.appended_bytes > value_bytes, "with the headers of batches and records: {writes:?}");
    assert!(writes.device_bytes >= writes.appended_bytes && writes.device_bytes.is_multiple_of(4096), "{writes:?}");
    assert!(writes.segment_bytes + writes.journal_bytes <= writes.device_bytes, "{writes:?}");
    let ratio = writes.amplification().expect("there were records");
    assert!(text.contains(&format!("write amplification {ratio:.2}: the broker wrote ")), "{text}");
    let stages = run.result.stages_hlog.as_deref().expect("stages");
    assert!(stages.contains("Tag=produce.sync") && stages.contains("Tag=fetch.total"), "{stages}");
    let broker = corelog::bench::stages::produce_total(&run.result).expect("stages");
    let whole = produced_by(&run.result);
    assert!(broker.count() > 100 && broker.value_at(0.5) < whole.value_at(0.5), "the broker's part is less than all");
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "the broker's files are gone");
}

#[test]
fn groups_of_both_protocols_receive_everything_once() {
    let dir = binary::directory();
    let parent = dir.path().to_str().expect("UTF-8");
    for protocol in ["classic", "consumer"] {
        let usual = ["--embedded", "--embedded-dir", parent, "--rate", "2000", "--duration", "2s", "--warmup", "500ms"];
        let groups = ["--groups", "2", "--consumers", "6", "--group-protocol", protocol];
        let groups = [&["--topics", "2", "--partitions", "3"][..], &groups].concat();
        let more = ["--commit-interval-ms", "100", "--threads", "2", "--late-max", "10s", "--json"];
        // Members come within moments of each other, and need not be waited for longer.
        let broker = [
            "--embedded-arg=--group-initial-rebalance-delay-ms=500",
            "--embedded-arg=--group-consumer-min-heartbeat-interval-ms=100",
            "--embedded-arg=--group-consumer-heartbeat-interval-ms=200",
        ];
        let output = corelog(&[&usual[..], &groups, &more, &broker].concat());
        let (printed, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{protocol}: {printed}\n{told}");
        let summary: Summary = serde_json::from_str(&printed).expect("the summary alone is printed");
        let totals = summary.totals;
        assert_eq!((totals.acked, totals.received, totals.lost), (5000, 10_000, 0), "{protocol}: {printed}");
        assert_eq!((totals.duplicates, totals.reordered, totals.rebalances), (0, 0, 0), "{protocol}: {printed}");
        assert_eq!((summary.join.count, summary.e2e.count), (6, 8000), "{protocol}: every member joined");
        let topics: Vec<_> = summary.topics.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
        assert_eq!(topics, [("corelog-bench-0", 3), ("corelog-bench-1", 3)], "{protocol}");
        assert!(summary.topics.iter().all(|topic| topic.sent > 0 && topic.received == 2 * topic.sent), "{protocol}");
        // Six members for two seconds, up to ten times a second each.
        assert!(totals.commits >= 30 && totals.commits_refused == 0, "{protocol}: {printed}");
        assert!(summary.commit.count == totals.commits && summary.commit.p50_ns > 0, "{protocol}: {printed}");
        assert_eq!(summary.complaints, [], "{protocol}: its groups are gone");
    }
}

#[test]
fn topics_of_a_run_are_filled_alike_and_accounted_for_each() {
    let dir = binary::directory();
    let broker = binary::Broker::start(dir.path(), &[]);
    let address = broker.address.to_string();
    let kept = binary::directory();
    let (one, two) = (kept.path().join("one"), kept.path().join("two"));
    let run = |topics: &[&str], out: &Path| {
        let usual = ["--bootstrap", &address, "--rate", "1500", "--duration", "1s", "--warmup", "0s"];
        let more = ["--partitions", "2", "--consumers", "2", "--keys", "uniform:100", "--late-max", "10s", "--out"];
        let output = corelog(&[&usual[..], &more, &[out.to_str().expect("UTF-8")], topics].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    // By a number, and by their names, of which one was there before.
    let text = run(&["--topic", "load", "--topics", "3"], &one);
    let told = "3 topics of 2 partitions, load-0 to load-2: 500 to 500 records sent to each\n";
    assert!(text.contains(told) && text.contains("1,500 received"), "{text}");
    run(&["--topics", "orders,load-1"], &two);
    let topics = |out: &Path| {
        let capsule = Capsule::read(out).expect("kept");
        assert_eq!(capsule.notes, [""; 0]);
        let row = |topic: &TopicCounts| (topic.name.clone(), topic.sent, topic.received, topic.lost);
        capsule.result.topics.iter().map(row).collect::<Vec<_>>()
    };
    let row = |name: &str, count: u64| (name.to_owned(), count, count, 0);
    assert_eq!(topics(&one), [row("load-0", 500), row("load-1", 500), row("load-2", 500)]);
    assert_eq!(topics(&two), [row("orders", 750), row("load-1", 750)]);
    // Others have another number of partitions.
    let output = corelog(&["--bootstrap", &address, "--topic", "load", "--topics", "3", "--partitions", "1"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("topic load-0 has 2 partitions, and the workload 1: say --partitions 2"), "{told}");
    // How many topics there are is no detail to be passed over.
    let (one, two) = (one.to_str().expect("UTF-8"), two.to_str().expect("UTF-8"));
    let compared = Command::new(env!("CARGO_BIN_EXE_corelog")).args(["compare", one, two]).output().expect("it runs");
    let told = String::from_utf8_lossy(&compared.stderr);
    assert!(told.contains("workload.topics: 3 | orders,load-1"), "{told}");
}

/// Puts a member out of its group, as an operator can.
fn remove_one(client: &mut Client, protocol: &str, group: &str) {
    let member_id: Text = client.group(group).expect("it is there").members[0].id.as_str().into();
    let group_id = Text::from(group);
    if protocol == "classic" {
        let member = MemberIdentity { member_id, ..Default::default() };
        let request = LeaveGroupRequest { group_id, members: vec![member], ..Default::default() };
        let reply = client.ask(To::Coordinator(group), &request, |_: &LeaveGroupResponse| Vec::new());
        assert_eq!(reply.expect("an answer").error_code, 0);
    } else {
        let request = ConsumerGroupHeartbeatRequest { group_id, member_id, member_epoch: -1, ..Default::default() };
        let reply = client.ask(To::Coordinator(group), &request, |_: &ConsumerGroupHeartbeatResponse| Vec::new());
        assert_eq!(reply.expect("an answer").error_code, 0);
    }
}

#[test]
fn a_rebalance_is_told_and_is_no_loss() {
    for protocol in ["classic", "consumer"] {
        let dir = binary::directory();
        let settings = [
            "--group-initial-rebalance-delay-ms=500",
            "--group-consumer-min-heartbeat-interval-ms=100",
            "--group-consumer-heartbeat-interval-ms=200",
        ];
        let broker = binary::Broker::start(dir.path(), &settings);
        let address = broker.address;
        let running = thread::spawn(move || {
            let load = [("rate", "500"), ("duration", "5s"), ("partitions", "6"), ("commit-interval-ms", "100")];
            let groups = [("groups", "1"), ("consumers", "3"), ("group-protocol", protocol), ("threads", "2")];
            bench(address, &[&load[..], &groups].concat())
        });
        let mut client = Client::connect(&address.to_string(), "test", Duration::from_secs(10)).expect("it is there");
        // What is committed above the start of the logs was sent in the run.
        let group = loop {
            assert!(!running.is_finished(), "{protocol}: it ended before it had committed anything");
            if let Some(group) = client.groups(&[], &[]).expect("a list").groups.first()
                && client.committed(&group.name).expect("offsets").values().sum::<i64>() > 0
            {
                break group.name.clone();
            }
            thread::yield_now();
        };
        remove_one(&mut client, protocol, &group);
        let finished = running.join().expect("no panic").expect("it runs");
        let totals = finished.result.totals;
        assert_eq!(finished.cut_short, None, "{protocol}: {totals:?}");
        assert_eq!(
            (totals.acked, totals.errors, totals.lost, finished.unread),
            (2500, 0, 0, 0),
            "{protocol}: {totals:?}"
        );
        assert_eq!(totals.received - totals.duplicates, 2500, "{protocol}: {totals:?}");
        assert!(totals.rebalances >= 1, "{protocol}: {totals:?}");
        let disturbed = finished.result.intervals.iter().filter(|interval| interval.counts.rebalances > 0).count();
        assert!(disturbed >= 1, "{protocol}: {totals:?}");
    }
}

#[test]
fn a_run_that_is_interrupted_keeps_what_was_measured() {
    let broker = FakeBroker::start(Script::Good);
    let kept = binary::directory();
    let out = kept.path().join("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(["bench", "--bootstrap", &broker.address.to_string(), "--rate", "500", "--duration", "10m"]);
    command.args(["--warmup", "0s", "--interval", "50ms", "--late-max", "10s", "--json", "--out"]).arg(&out);
    let bench = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    // Some intervals are over when so many records have come.
    while broker.seen.records() < 300 {
        thread::yield_now();
    }
    let status = Command::new("kill").args(["-INT", &bench.id().to_string()]).status().expect("kill");
    assert!(status.success());
    let output = bench.wait_with_output().expect("it ends");
    let (printed, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{printed}\n{told}");
    assert!(told.starts_with("CUT SHORT: it was interrupted"), "{told}");
    let summary: Summary = serde_json::from_str(&printed).expect("the summary alone is printed");
    let run = Capsule::read(&out).expect("kept");
    let found = run.summary();
    assert_eq!(
        (found.totals, found.complaints, found.produce.count),
        (summary.totals, summary.complaints.clone(), summary.produce.count)
    );
    assert!(run.result.intervals.len() >= 5 && summary.produce.count >= 100, "{printed}");
    assert!(summary.complaints.iter().any(|(text, _)| text.contains("of 600.0 s: it was interrupted")), "{printed}");
}

#[test]
fn stages_that_do_not_come_leave_a_note() {
    let broker = FakeBroker::start(Script::Good);
    let address = broker.address.to_string();
    let run = ["--bootstrap", &address, "--rate", "1000", "--duration", "1s", "--warmup", "0s", "--late-max", "10s"];
    let output = corelog(&[&run[..], &["--stages", "http://127.0.0.1:1/"]].concat());
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(printed.contains("note: http://127.0.0.1:1/stages.hlog: Connection refused"), "{printed}");
    assert!(printed.contains("note: http://127.0.0.1:1/metrics: Connection refused"), "{printed}");
    assert!(printed.contains("write amplification not readable"), "{printed}");
}

#[test]
fn mistakes_end_the_command_with_what_is_wrong() {
    let dir = binary::directory();
    let path = dir.path().join("w.toml");
    std::fs::write(&path, "rate = 10\nrat = 5\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    let output = corelog(&["--workload", path]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("w.toml: line 2: rat is no key"), "{text}");
}
