//! Members that only send heartbeats, evenly spread or some at a time.
//!
//! *Owns*: a thread for each member of a block of groups. *Never*: sends another heartbeat over a connection before
//! the last one was answered. *Runs on*: any processor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use corelog::wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use corelog::wire::messages::join_group::JoinGroupResponse;
use corelog::wire::messages::sync_group::SyncGroupResponse;
use hdrhistogram::Histogram;

use crate::Arguments;
use crate::client::{Client, HEARTBEAT, JOIN, SYNC, heartbeat_request, join_request, sync_request};
use crate::report::{Report, latencies};
use crate::usage::Cpu;

/// As long as the ids that a broker gives.
const SINK_MEMBER_ID: &str = "groups-00000000-0000-0000-0000-000000000000";

#[derive(Args, Clone)]
pub struct Load {
    #[arg(long, default_value_t = 5)]
    blocks: usize,
    /// Fewer than 1,024 where members share connections: so many requests of one wait for each other while the groups
    /// are formed.
    #[arg(long, default_value_t = 1000)]
    groups_per_block: usize,
    #[arg(long, default_value_t = 4)]
    members: usize,
    #[arg(long, default_value_t = 3000)]
    heartbeat_ms: u64,
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// A connection for each member, as consumers have it. Otherwise one for those that have a place in the groups of
    /// a block in common.
    #[arg(long)]
    own_connections: bool,
    /// Heartbeats that come at the same time, from each block.
    #[arg(long, default_value_t = 1)]
    together: usize,
    /// The peer is a sink that answers nothing but heartbeats: nobody joins.
    #[arg(long)]
    pub raw_sink: bool,
}

pub fn run(arguments: &Arguments, load: &Load) -> Report {
    let barrier = Arc::new(Barrier::new(load.blocks * load.members + 1));
    let (measures, stops) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let run = std::process::id();
    let threads: Vec<_> = (0..load.blocks * load.members)
        .map(|thread| {
            let block = thread / load.members;
            let names: Vec<String> = (0..load.groups_per_block).map(|g| format!("idle-{run}-{block}-{g}")).collect();
            let (bootstrap, load, barrier) = (arguments.bootstrap.clone(), load.clone(), barrier.clone());
            let (measures, stops) = (measures.clone(), stops.clone());
            thread::spawn(move || {
                let mut block = Members::connect(&bootstrap, &load);
                // Groups are formed once, if all their members come within the time that a coordinator waits.
                barrier.wait();
                block.join(&names, &load);
                barrier.wait();
                // Threads take turns, or what is spread would come from all of them at the same time.
                let apart = Duration::from_millis(load.heartbeat_ms).mul_f64(1.0 / names.len() as f64);
                let begin = Instant::now() + apart.mul_f64(thread as f64 / (load.blocks * load.members) as f64);
                block.be_idle(begin, &load, &measures, &stops)
            })
        })
        .collect();
    barrier.wait();
    barrier.wait();
    // The first heartbeats are late, since so many threads have to begin.
    thread::sleep(Duration::from_millis(load.heartbeat_ms));
    let (before, began) = (Cpu::now(arguments.pid), Instant::now());
    measures.store(true, Ordering::SeqCst);
    thread::sleep(Duration::from_secs(load.seconds));
    measures.store(false, Ordering::SeqCst);
    let used = Cpu::now(arguments.pid).since(before);
    let mut report = Report::new("idle");
    let mut all = latencies();
    stops.store(true, Ordering::SeqCst);
    let measured = began.elapsed();
    for thread in threads {
        all.add(thread.join().expect("no panic")).expect("of the same bounds");
    }
    report.add("members", (load.blocks * load.groups_per_block * load.members) as f64);
    report.add_requests(&all, Instant::now() - measured, used);
    report
}

/// One member of each group of a block.
struct Members {
    clients: Vec<Client>,
    heartbeats: Vec<HeartbeatRequest>,
}

impl Members {
    fn connect(bootstrap: &str, load: &Load) -> Members {
        let connections = if load.own_connections { load.groups_per_block } else { 1 };
        Members { clients: (0..connections).map(|_| Client::connect(bootstrap)).collect(), heartbeats: Vec::new() }
    }

    fn join(&mut self, names: &[String], load: &Load) {
        if load.raw_sink {
            let joined = JoinGroupResponse { member_id: SINK_MEMBER_ID.into(), ..JoinGroupResponse::default() };
            self.heartbeats = names.iter().map(|name| heartbeat_request(name, &joined)).collect();
            return;
        }
        for (at, name) in names.iter().enumerate() {
            self.of(at).send(JOIN, &join_request(name, ""));
        }
        let joined: Vec<JoinGroupResponse> = (0..names.len()).map(|at| self.of(at).receive(JOIN)).collect();
        for (at, (name, joined)) in names.iter().zip(&joined).enumerate() {
            self.of(at).send(SYNC, &sync_request(name, joined));
        }
        for at in 0..names.len() {
            let synced: SyncGroupResponse = self.of(at).receive(SYNC);
            assert_eq!(synced.error_code, 0);
        }
        let heartbeats = names.iter().zip(&joined).map(|(name, joined)| heartbeat_request(name, joined));
        self.heartbeats = heartbeats.collect();
    }

    /// The connection of the member of that group.
    fn of(&mut self, group: usize) -> &mut Client {
        let connections = self.clients.len();
        &mut self.clients[group % connections]
    }

    /// Latencies from when each heartbeat was due, of those that were due while `measures`.
    fn be_idle(&mut self, begin: Instant, load: &Load, measures: &AtomicBool, stops: &AtomicBool) -> Histogram<u64> {
        let mut latencies = latencies();
        let members = self.heartbeats.len();
        for turn in 0u64.. {
            let first = turn as usize * load.together;
            let due = begin + Duration::from_nanos(first as u64 * load.heartbeat_ms * 1_000_000 / members as u64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if stops.load(Ordering::SeqCst) {
                break;
            }
            for at in first..first + load.together {
                let heartbeat = self.heartbeats[at % members].clone();
                self.of(at % members).send(HEARTBEAT, &heartbeat);
            }
            for at in first..first + load.together {
                let reply: HeartbeatResponse = self.of(at % members).receive(HEARTBEAT);
                assert_eq!(reply.error_code, 0);
                if measures.load(Ordering::SeqCst) {
                    latencies.saturating_record(due.elapsed().as_micros() as u64);
                }
            }
        }
        latencies
    }
}
