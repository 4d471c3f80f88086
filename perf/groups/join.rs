//! How soon a group of many members is stable after the last one has joined, and after one more has.
//!
//! *Owns*: a thread for each member, which is a consumer but for reading. *Never*: tells a member when to join again:
//! heartbeats do. *Runs on*: any processor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use corelog::wire::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use corelog::wire::messages::heartbeat::HeartbeatResponse;
use corelog::wire::messages::join_group::JoinGroupResponse;
use corelog::wire::messages::sync_group::SyncGroupResponse;

use crate::client::{
    Client, HEARTBEAT, JOIN, REBALANCE_IN_PROGRESS, SYNC, heartbeat_request, join_request, sync_request,
};
use crate::report::Report;
use crate::{Arguments, PARTITIONS, TOPIC};

const CONSUMER_HEARTBEAT: i16 = 1;

/// A group that is not stable by then will never be.
const STABLE_WITHIN: Duration = Duration::from_secs(60);

#[derive(Args)]
pub struct Load {
    #[arg(long, value_enum, default_value = "classic")]
    protocol: Protocol,
    #[arg(long, default_value_t = 100)]
    members: usize,
    /// Of the classic protocol. With the other the broker says how often.
    #[arg(long, default_value_t = 3000)]
    heartbeat_ms: u64,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Classic,
    Consumer,
}

/// What the members of the one group have reached, by their number.
#[derive(Default)]
struct Progress {
    members: BTreeMap<usize, Reached>,
    /// What the broker asks for, or the members use.
    heartbeat_ms: u64,
}

/// The generation or epoch of a member, and its partitions where it knows them.
struct Reached {
    epoch: i32,
    partitions: Option<Vec<i32>>,
}

impl Progress {
    /// So many members are of one epoch, and have all partitions between them, each once.
    fn is_stable(&self, count: usize) -> bool {
        let epochs: BTreeSet<i32> = self.members.values().map(|member| member.epoch).collect();
        let owned = || self.members.values().filter_map(|member| member.partitions.as_ref()).flatten();
        let knows = self.members.values().all(|member| member.partitions.is_some());
        let all = !knows
            || (owned().count() == PARTITIONS as usize && owned().collect::<BTreeSet<_>>().len() == owned().count());
        self.members.len() == count && epochs.len() == 1 && all
    }
}

pub fn run(arguments: &Arguments, load: &Load) -> Report {
    let progress = Arc::new(Mutex::new(Progress { heartbeat_ms: load.heartbeat_ms, ..Progress::default() }));
    let name = format!("join-{}", std::process::id());
    let start = |number: usize| {
        let (bootstrap, name, progress) = (arguments.bootstrap.clone(), name.clone(), progress.clone());
        let (protocol, heartbeat_ms) = (load.protocol, load.heartbeat_ms);
        thread::spawn(move || {
            let client = Client::connect(&bootstrap);
            match protocol {
                Protocol::Classic => be_classic(client, &name, number, heartbeat_ms, &progress),
                Protocol::Consumer => be_consumer(client, &name, number, &progress),
            }
        });
    };
    let wait_for = |count: usize| {
        let began = Instant::now();
        while !progress.lock().expect("no panic").is_stable(count) {
            assert!(began.elapsed() < STABLE_WITHIN, "{count} members are not stable");
            thread::sleep(Duration::from_millis(1));
        }
        began.elapsed().as_secs_f64() * 1e3
    };
    for number in 1..load.members {
        start(number);
    }
    let all_ms = wait_for(load.members - 1);
    let heartbeat_ms = progress.lock().expect("no panic").heartbeat_ms;
    thread::sleep(Duration::from_millis(heartbeat_ms));
    start(0);
    let one_more_ms = wait_for(load.members);
    let mut report = Report::new("join");
    report.add("members", load.members as f64);
    report.add("heartbeat_ms", heartbeat_ms as f64);
    report.add("new_group_ms", all_ms);
    report.add("new_group_heartbeats", all_ms / heartbeat_ms as f64);
    report.add("one_more_ms", one_more_ms);
    report.add("one_more_heartbeats", one_more_ms / heartbeat_ms as f64);
    report
}

/// Joins, syncs, and joins again when a heartbeat says so.
fn be_classic(mut client: Client, name: &str, number: usize, heartbeat_ms: u64, progress: &Mutex<Progress>) {
    let mut member_id = String::new();
    loop {
        let joined: JoinGroupResponse = client.call(JOIN, &join_request(name, &member_id));
        assert_eq!(joined.error_code, 0, "{joined:?}");
        member_id = joined.member_id.to_string();
        let synced: SyncGroupResponse = client.call(SYNC, &sync_request(name, &joined));
        if synced.error_code == REBALANCE_IN_PROGRESS {
            continue;
        }
        assert_eq!(synced.error_code, 0);
        let reached = Reached { epoch: joined.generation_id, partitions: None };
        progress.lock().expect("no panic").members.insert(number, reached);
        loop {
            thread::sleep(Duration::from_millis(heartbeat_ms));
            let reply: HeartbeatResponse = client.call(HEARTBEAT, &heartbeat_request(name, &joined));
            match reply.error_code {
                0 => {}
                REBALANCE_IN_PROGRESS => break,
                error => panic!("a heartbeat is answered with {error}"),
            }
        }
    }
}

/// Takes and gives up partitions as it is told, and says so at once.
fn be_consumer(mut client: Client, name: &str, number: usize, progress: &Mutex<Progress>) {
    let mut request = ConsumerGroupHeartbeatRequest {
        group_id: name.into(),
        member_id: format!("member-{number:04}").into(),
        member_epoch: 0,
        rebalance_timeout_ms: 300_000,
        subscribed_topic_names: Some(vec![TOPIC.into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let mut owned = Vec::new();
    loop {
        let reply: ConsumerGroupHeartbeatResponse = client.call(CONSUMER_HEARTBEAT, &request);
        assert_eq!(reply.error_code, 0, "{reply:?}");
        // Only what has changed is told from now on.
        request = ConsumerGroupHeartbeatRequest {
            group_id: name.into(),
            member_id: request.member_id,
            member_epoch: reply.member_epoch,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let told = reply.assignment.map(|assignment| assignment.topic_partitions);
        if let Some(topics) = told {
            owned = topics.iter().flat_map(|topic| topic.partitions.iter().copied()).collect();
            request.topic_partitions = Some(topics);
        }
        let heartbeat_ms = u64::try_from(reply.heartbeat_interval_ms).expect("a time");
        let mut progress = progress.lock().expect("no panic");
        progress.heartbeat_ms = heartbeat_ms;
        let reached = Reached { epoch: reply.member_epoch, partitions: Some(owned.clone()) };
        progress.members.insert(number, reached);
        drop(progress);
        if request.topic_partitions.is_none() {
            thread::sleep(Duration::from_millis(heartbeat_ms));
        }
    }
}
