//! Worlds of several nodes: what a seed stands for there.

use corelog::base::rng::Rng;
use corelog::config::Settings;

use crate::disk::Crash;
use crate::plan::{ConsumerPlan, Cut, Fault, Kind, MS, Plan, PlannedFault, ProducerPlan, Promise, SECOND};

/// Whoever acknowledges has so many replicas behind it: one node may be lost for good.
const MIN_INSYNC: i32 = 2;
const REPLICAS: usize = 3;

/// What happens to the nodes of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    Quiet,
    /// Processes and machines end, also several at a time.
    Crashes,
    /// Nodes do not hear each other.
    Cuts,
    /// Disks are slow.
    Slow,
    Everything,
    /// Crashes and cuts one after the other, with short lags and leases and many small batches.
    Storm,
}

const TROUBLES: [Trouble; 7] = [
    Trouble::Crashes,
    Trouble::Cuts,
    Trouble::Everything,
    Trouble::Storm,
    Trouble::Crashes,
    Trouble::Slow,
    Trouble::Quiet,
];

impl Plan {
    /// Of so many nodes.
    pub fn draw_cluster(nodes: usize, seed: u64) -> Plan {
        Plan::draw_cluster_of(TROUBLES[(seed % TROUBLES.len() as u64) as usize], nodes, seed)
    }

    pub fn draw_cluster_of(trouble: Trouble, nodes: usize, seed: u64) -> Plan {
        let replicas = REPLICAS.min(nodes);
        let mut plan = Plan::draw_of(Kind::Quiet, seed);
        let rng = &mut Rng::new(seed ^ 0x636c_7573_7465_7200);
        plan.is_cluster = true;
        plan.nodes = nodes;
        plan.cores_max = 1 + rng.below(2);
        plan.topics.truncate(1 + rng.below(2) as usize);
        for topic in &mut plan.topics {
            topic.partitions = 1 + rng.below(3) as i32;
            topic.replicas = replicas as i16;
            topic.promise = if rng.below(3) == 0 { Promise::Flushed } else { Promise::Synced };
        }
        let parts = plan.parts();
        let any = |rng: &mut Rng| vec![parts[rng.below(parts.len() as u64) as usize]];
        plan.producers = (0..2 + rng.below(3)).map(|_| draw_producer(any(rng), rng)).collect();
        plan.consumers = (0..1 + rng.below(2))
            .map(|_| ConsumerPlan { targets: any(rng), bytes_max: 100_000, wait_ms_max: 1 + rng.below(500) })
            .collect();
        (plan.committers, plan.trimmer, plan.scratch) = (Vec::new(), None, false);
        plan.load_ns = 2 * SECOND + rng.below(6 * SECOND);
        plan.disk_us = 50 + rng.below(1000);
        plan.net_us = 50 + rng.below(2000);
        plan.down_ms = 50 + rng.below(2000);
        let session_ms = 500 + rng.below(2000) as u32;
        plan.settings = Settings {
            min_insync_replicas: MIN_INSYNC.min(replicas as i32),
            default_replication_factor: replicas as i16,
            broker_session_timeout_ms: session_ms,
            broker_heartbeat_interval_ms: session_ms / 5,
            replica_lag_time_max_ms: 300 + rng.below(2000),
            replica_fetch_wait_max_ms: 100 + rng.below(400) as u32,
            replica_fetch_backoff_ms: 20 + rng.below(200) as u32,
            ..plan.settings
        };
        if trouble == Trouble::Storm {
            make_hasty(&mut plan, rng);
        }
        plan.faults = draw_faults(trouble, plan.nodes, plan.load_ns, rng);
        plan
    }
}

/// Leaders change often, and each has taken something that others have not.
fn make_hasty(plan: &mut Plan, rng: &mut Rng) {
    plan.topics.truncate(1);
    plan.topics[0].partitions = 1;
    plan.load_ns = 8 * SECOND;
    plan.down_ms = 50 + rng.below(500);
    (plan.disk_us, plan.net_us) = (50 + rng.below(2000), 50 + rng.below(5000));
    plan.settings.broker_session_timeout_ms = 300;
    plan.settings.broker_heartbeat_interval_ms = 50;
    plan.settings.replica_lag_time_max_ms = 150 + rng.below(300);
    for producer in &mut plan.producers {
        (producer.pause_ms, producer.targets) = (4, vec![(0, 0)]);
        producer.batch_bytes = Some(1024);
    }
    plan.consumers.iter_mut().for_each(|consumer| consumer.targets = vec![(0, 0)]);
}

fn draw_producer(targets: Vec<(usize, i32)>, rng: &mut Rng) -> ProducerPlan {
    ProducerPlan {
        idempotent: rng.below(4) > 0,
        acks: -1,
        targets,
        pause_ms: 1 + rng.below(30),
        records_max: 1 + rng.below(6),
        record_bytes_max: [20, 200, 2000][rng.below(3) as usize],
        batch_bytes: (rng.below(3) == 0).then_some(1024),
        requests_in_flight_max: 1 + rng.below(5) as usize,
    }
}

fn draw_faults(trouble: Trouble, nodes: usize, load_ns: u64, rng: &mut Rng) -> Vec<PlannedFault> {
    let (ends, cuts, slow, breaks) = match trouble {
        Trouble::Quiet => (0, 0, 0, 0),
        Trouble::Crashes => (2 + rng.below(8), 0, 0, rng.below(3)),
        Trouble::Cuts => (0, 2 + rng.below(6), 0, rng.below(6)),
        Trouble::Slow => (rng.below(2), 0, 1 + rng.below(3), 0),
        Trouble::Storm => (8 + rng.below(10), 8 + rng.below(10), rng.below(3), rng.below(4)),
        Trouble::Everything => (1 + rng.below(6), 1 + rng.below(4), rng.below(3), rng.below(6)),
    };
    let mut faults = Vec::new();
    for _ in 0..ends {
        let (at, fault) = (rng.below(load_ns), draw_end(rng));
        faults.push((at, any_node(nodes, rng), fault));
        // Another a little later, or all at once.
        match rng.below(6) {
            0 | 1 => faults.push((at + rng.below(500 * MS), any_node(nodes, rng), draw_end(rng))),
            2 => faults.extend((0..nodes).map(|node| (at, node, Fault::Crash(Crash::Power)))),
            _ => {}
        }
    }
    for _ in 0..cuts {
        faults.push((rng.below(load_ns), any_node(nodes, rng), draw_cut(nodes, rng)));
    }
    for _ in 0..slow {
        let fault = Fault::Slow { times: 10 + rng.below(200), ms: 200 + rng.below(2000) };
        faults.push((rng.below(load_ns), any_node(nodes, rng), fault));
    }
    for _ in 0..breaks {
        faults.push((rng.below(load_ns), 0, Fault::Break));
    }
    faults.sort_by_key(|(at, ..)| *at);
    faults.into_iter().map(|(at, node, fault)| PlannedFault { at, node, fault }).collect()
}

fn any_node(nodes: usize, rng: &mut Rng) -> usize {
    rng.below(nodes as u64) as usize
}

fn draw_end(rng: &mut Rng) -> Fault {
    match rng.below(5) {
        0 => Fault::Stop,
        1 | 2 => Fault::Crash(Crash::Kill),
        _ => Fault::Crash(Crash::Power),
    }
}

/// All of a node, or with one other; both ways or one.
fn draw_cut(nodes: usize, rng: &mut Rng) -> Fault {
    let with = (rng.below(2) == 0).then(|| any_node(nodes, rng));
    let (inbound, outbound) = [(true, true), (true, true), (true, false), (false, true)][rng.below(4) as usize];
    Fault::Cut { cut: Cut { with, inbound, outbound }, ms: 100 + rng.below(4000) }
}
