//! What groups cost a broker that is running: commits at a rate, members that only send heartbeats, and how soon a
//! group of many is stable.
//!
//! It speaks the classic protocol over sockets of its own, one thread each, and reads the broker's processor time from
//! /proc when it is told the process.
//!
//! *Owns*: its connections and groups, which it leaves behind. *Never*: looks into the broker. *Runs on*: any machine;
//! what it measures means most when the broker has its processors to itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use corelog::wire::codec::Message;
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelog::wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use corelog::wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use corelog::wire::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use corelog::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use corelog::wire::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use hdrhistogram::Histogram;

const TOPIC: &str = "groups";
const JOIN: i16 = 3;
const SYNC: i16 = 2;
const HEARTBEAT: i16 = 2;
const COMMIT: i16 = 7;
const REBALANCE_IN_PROGRESS: i16 = 27;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The broker's process, on this machine.
    #[arg(long)]
    pid: Option<u32>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Commits of one offset each, of as many groups as connections, at a fixed rate.
    Commits {
        #[arg(long, default_value_t = 20_000)]
        rate: u64,
        #[arg(long, default_value_t = 16)]
        connections: u64,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Groups whose members only send heartbeats. Fewer than 1,024 groups a block: so many requests of one
    /// connection wait for each other while the groups are formed.
    Idle {
        #[arg(long, default_value_t = 5)]
        blocks: usize,
        #[arg(long, default_value_t = 1000)]
        groups_per_block: usize,
        #[arg(long, default_value_t = 4)]
        members: usize,
        #[arg(long, default_value_t = 3000)]
        heartbeat_ms: u64,
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// One group of many members, and one more that joins it.
    Join {
        #[arg(long, default_value_t = 100)]
        members: usize,
        #[arg(long, default_value_t = 3000)]
        heartbeat_ms: u64,
    },
}

/// A connection, one request after the other or many at a time.
struct Client {
    stream: TcpStream,
}

impl Client {
    fn connect(bootstrap: &str) -> Client {
        let stream = TcpStream::connect(bootstrap).expect("a broker listens");
        stream.set_nodelay(true).expect("a socket of TCP");
        Client { stream }
    }

    fn send<Q: Message>(&mut self, version: i16, request: &Q) {
        let header =
            RequestHeader { api_key: Q::API.key, version, correlation_id: 1, client_id: Some("groups".into()) };
        self.stream.write_all(&frame::encode_request(&header, request).concat()).expect("the connection is open");
    }

    fn receive<R: Message>(&mut self, version: i16) -> R {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("a reply");
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).expect("a reply");
        frame::decode_reply(R::API.key, version, Bytes::from(body)).expect("a reply of that version").1
    }

    fn call<Q: Message, R: Message>(&mut self, version: i16, request: &Q) -> R {
        self.send(version, request);
        self.receive(version)
    }
}

fn main() {
    let arguments = Arguments::parse();
    let mut client = Client::connect(&arguments.bootstrap);
    let topic =
        CreatableTopic { name: TOPIC.into(), num_partitions: 100, replication_factor: 1, ..CreatableTopic::default() };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    let _: CreateTopicsResponse = client.call(5, &create);
    let find = FindCoordinatorRequest { key: "groups".into(), ..FindCoordinatorRequest::default() };
    let found: FindCoordinatorResponse = client.call(2, &find);
    assert_eq!(found.error_code, 0, "{found:?}");
    match arguments.what {
        What::Commits { rate, connections, seconds } => commits(&arguments, rate, connections, seconds),
        What::Idle { blocks, groups_per_block, members, heartbeat_ms, seconds } => {
            idle(&arguments, (blocks, groups_per_block, members), heartbeat_ms, seconds);
        }
        What::Join { members, heartbeat_ms } => join(&arguments, members, heartbeat_ms),
    }
}

/// Processor time of the broker so far, in seconds.
fn cpu_seconds(pid: Option<u32>) -> f64 {
    let Some(pid) = pid else { return 0.0 };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the broker runs here");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: f64 = [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<f64>().expect("ticks")).sum();
    ticks / 100.0
}

fn say_cpu(pid: Option<u32>, before: f64, began: Instant) {
    if pid.is_some() {
        let share = (cpu_seconds(pid) - before) / began.elapsed().as_secs_f64();
        println!("broker: {:.1} % of a processor", share * 100.0);
    }
}

fn commits(arguments: &Arguments, rate: u64, connections: u64, seconds: u64) {
    let (before, began) = (cpu_seconds(arguments.pid), Instant::now());
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let client = Client::connect(&arguments.bootstrap);
            thread::spawn(move || commit_at(client, number, rate / connections, seconds))
        })
        .collect();
    let mut all = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("bounds of a histogram");
    for thread in threads {
        all.add(thread.join().expect("no panic")).expect("of the same bounds");
    }
    say_cpu(arguments.pid, before, began);
    println!(
        "{} commits in {:.1} s: {:.0}/s, p50 {} us, p99 {} us, p99.9 {} us",
        all.len(),
        began.elapsed().as_secs_f64(),
        all.len() as f64 / began.elapsed().as_secs_f64(),
        all.value_at_quantile(0.5),
        all.value_at_quantile(0.99),
        all.value_at_quantile(0.999)
    );
}

/// Latencies from the intended time of sending, in microseconds.
fn commit_at(mut client: Client, number: u64, rate: u64, seconds: u64) -> Histogram<u64> {
    let mut reader = Client { stream: client.stream.try_clone().expect("a handle") };
    let (due_to_reader, due) = mpsc::channel::<Instant>();
    let reading = thread::spawn(move || {
        let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("bounds of a histogram");
        for due in due {
            let reply: OffsetCommitResponse = reader.receive(COMMIT);
            assert_eq!(reply.topics[0].partitions[0].error_code, 0, "{reply:?}");
            latencies.saturating_record(due.elapsed().as_micros() as u64);
        }
        latencies
    });
    let began = Instant::now();
    for offset in 0..rate * seconds {
        let at = began + Duration::from_nanos(offset * 1_000_000_000 / rate);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        client.send(COMMIT, &commit_request(number, offset));
        due_to_reader.send(at).expect("the reader lives");
    }
    drop(due_to_reader);
    reading.join().expect("no panic")
}

fn commit_request(number: u64, offset: u64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: (offset % 100) as i32,
        committed_offset: offset as i64,
        committed_metadata: Some("".into()),
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: format!("commits-{number}").into(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

fn idle(arguments: &Arguments, (blocks, groups, members): (usize, usize, usize), heartbeat_ms: u64, seconds: u64) {
    let barrier = Arc::new(Barrier::new(blocks * members + 1));
    let run = std::process::id();
    for block in 0..blocks {
        for _ in 0..members {
            let (client, barrier) = (Client::connect(&arguments.bootstrap), barrier.clone());
            let names: Vec<String> = (0..groups).map(|group| format!("idle-{run}-{block}-{group}")).collect();
            thread::spawn(move || be_idle(client, &names, heartbeat_ms, &barrier));
        }
    }
    barrier.wait();
    // The first heartbeats of all come at once, and are spread from then on.
    thread::sleep(Duration::from_millis(2 * heartbeat_ms));
    let (before, began) = (cpu_seconds(arguments.pid), Instant::now());
    thread::sleep(Duration::from_secs(seconds));
    say_cpu(arguments.pid, before, began);
    let count = blocks * groups * members;
    println!("{count} members of {} groups, a heartbeat each {heartbeat_ms} ms", blocks * groups);
}

/// One member of each group, over one connection.
fn be_idle(mut client: Client, names: &[String], heartbeat_ms: u64, barrier: &Barrier) {
    for name in names {
        client.send(JOIN, &join_request(name, ""));
    }
    let joined: Vec<JoinGroupResponse> = names.iter().map(|_| client.receive(JOIN)).collect();
    for (name, joined) in names.iter().zip(&joined) {
        client.send(SYNC, &sync_request(name, joined));
    }
    for _ in names {
        let synced: SyncGroupResponse = client.receive(SYNC);
        assert_eq!(synced.error_code, 0);
    }
    barrier.wait();
    let began = Instant::now();
    for beat in 0u64.. {
        let at = (beat % names.len() as u64) as usize;
        let due = began + Duration::from_nanos(beat * heartbeat_ms * 1_000_000 / names.len() as u64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let request = heartbeat_request(&names[at], &joined[at]);
        let reply: HeartbeatResponse = client.call(HEARTBEAT, &request);
        assert_eq!(reply.error_code, 0);
    }
}

/// What the members of the one group have reached.
#[derive(Default)]
struct Progress {
    /// How many members have an assignment of the newest generation.
    synced: AtomicUsize,
    generation: AtomicU64,
}

fn join(arguments: &Arguments, members: usize, heartbeat_ms: u64) {
    let progress = Arc::new(Progress::default());
    let name = format!("join-{}", std::process::id());
    let start = |progress: Arc<Progress>| {
        let (client, name) = (Client::connect(&arguments.bootstrap), name.clone());
        thread::spawn(move || be_member(client, &name, heartbeat_ms, &progress));
    };
    let wait_for = |count: usize| {
        let began = Instant::now();
        while progress.synced.load(Ordering::SeqCst) < count {
            thread::sleep(Duration::from_millis(1));
        }
        let ms = began.elapsed().as_millis() as u64;
        println!(
            "{count} members are stable {ms} ms after the last has joined: {:.2} heartbeats",
            ms as f64 / heartbeat_ms as f64
        );
    };
    for _ in 1..members {
        start(progress.clone());
    }
    print!("a new group: ");
    wait_for(members - 1);
    thread::sleep(Duration::from_millis(heartbeat_ms));
    start(progress.clone());
    print!("one more: ");
    wait_for(members);
}

/// A consumer, but for reading: joins, syncs, and joins again when a heartbeat says so.
fn be_member(mut client: Client, name: &str, heartbeat_ms: u64, progress: &Progress) {
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
        let generation = joined.generation_id as u64;
        if progress.generation.fetch_max(generation, Ordering::SeqCst) < generation {
            progress.synced.store(0, Ordering::SeqCst);
        }
        progress.synced.fetch_add(1, Ordering::SeqCst);
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

fn join_request(group: &str, member_id: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(&[0; 30]) };
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    }
}

/// The leader gives everybody something.
fn sync_request(group: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let assignments = joined.members.iter().map(|member| SyncGroupRequestAssignment {
        member_id: member.member_id.clone(),
        assignment: Bytes::from_static(&[0; 40]),
    });
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: assignments.collect(),
        ..SyncGroupRequest::default()
    }
}

fn heartbeat_request(group: &str, joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    }
}
