//! Worlds of several nodes: what a seed stands for there.

use corelog::base::rng::Rng;
use corelog::config::Settings;

use crate::cluster_work::Work;
use crate::disk::Crash;
use crate::node::Clock;
use crate::plan::{
    ConsumerPlan, Cut, Fault, Kind, MS, Plan, PlannedFault, ProducerPlan, Promise, SECOND, draw_disk_fault,
};

/// Whoever acknowledges has so many replicas behind it: one node may be lost for good.
const MIN_INSYNC: i32 = 2;
const REPLICAS: usize = 3;
/// The clock on the wall may jump so far at once. Together it must stay within what a record's timestamp may be ahead.
const JUMP_MS_MAX: u64 = 500_000;

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
    /// Operations fail, space runs out.
    Disks,
    /// Processes stand still for a while, or get little of the processor.
    Pauses,
    /// Clocks go at different rates, and jump.
    Clocks,
    /// A node loses its data directory.
    Losses,
    /// One node after the other is stopped in order and started again.
    Rolling,
    /// Some of all of these.
    Mixed,
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

/// Those that came later: what smaller seeds stand for stays what it was.
const LATER_TROUBLES: [Trouble; 6] =
    [Trouble::Disks, Trouble::Pauses, Trouble::Clocks, Trouble::Losses, Trouble::Rolling, Trouble::Mixed];
const LATER_FROM_SEED: u64 = 1000;

impl Trouble {
    fn of(seed: u64) -> Trouble {
        let is_early = seed < LATER_FROM_SEED || (seed / 8).is_multiple_of(3);
        let row = if is_early { &TROUBLES[..] } else { &LATER_TROUBLES };
        row[(seed % row.len() as u64) as usize]
    }
}

impl Plan {
    /// Of so many nodes.
    pub fn draw_cluster(nodes: usize, seed: u64) -> Plan {
        let mut plan = Plan::draw_cluster_of(Trouble::of(seed), nodes, seed);
        Work::of(seed).add_to(&mut plan);
        plan
    }

    pub fn draw_cluster_of(trouble: Trouble, nodes: usize, seed: u64) -> Plan {
        let replicas = REPLICAS.min(nodes);
        let mut plan = Plan::draw_of(Kind::Quiet, seed);
        let rng = &mut Rng::new(seed ^ 0x636c_7573_7465_7200);
        plan.is_cluster = true;
        plan.nodes = nodes;
        plan.clocks = vec![Clock::default(); nodes];
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
            offsets_topic_replication_factor: replicas as i16,
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
        if matches!(trouble, Trouble::Clocks | Trouble::Mixed) {
            plan.clocks.iter_mut().for_each(|clock| clock.fast_ppm = i128::from(rng.below(100_000)) - 50_000);
        }
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
        Trouble::Rolling => (0, 0, 0, rng.below(3)),
        Trouble::Disks | Trouble::Pauses | Trouble::Clocks => (rng.below(3), rng.below(2), 0, rng.below(2)),
        Trouble::Losses | Trouble::Mixed => (rng.below(4), rng.below(3), rng.below(2), 0),
    };
    let mut faults = draw_later_faults(trouble, nodes, load_ns, rng);
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

/// Those of the troubles that came later, besides the ones that all have.
fn draw_later_faults(trouble: Trouble, nodes: usize, load_ns: u64, rng: &mut Rng) -> Vec<(u64, usize, Fault)> {
    let (disks, holds, jumps, losses) = match trouble {
        Trouble::Disks => (1 + rng.below(3), 0, 0, 0),
        Trouble::Pauses => (0, 2 + rng.below(6), 0, 0),
        Trouble::Clocks => (0, 0, 2 + rng.below(4), 0),
        Trouble::Losses => (0, 0, 0, 1 + rng.below(2)),
        Trouble::Mixed => (rng.below(2), rng.below(3), rng.below(3), rng.below(2)),
        Trouble::Rolling => {
            let step_ns = load_ns / nodes as u64;
            return (0..nodes).map(|node| (node as u64 * step_ns, node, Fault::Stop)).collect();
        }
        _ => return Vec::new(),
    };
    let mut faults = Vec::new();
    for _ in 0..disks {
        let (at, node, ms) = (rng.below(load_ns), any_node(nodes, rng), 1 + rng.below(2000));
        faults.push((at, node, draw_disk_fault(ms, rng)));
        // Whatever it has left offline may be back before peace.
        if rng.below(2) == 0 {
            faults.push((at + rng.below(3 * SECOND), node, draw_end(rng)));
        }
    }
    for _ in 0..holds {
        faults.push((rng.below(load_ns), any_node(nodes, rng), draw_hold(rng)));
    }
    for _ in 0..jumps {
        let mono_ms = [0, rng.below(500), rng.below(10_000)][rng.below(3) as usize];
        let wall_ms = rng.below(2 * JUMP_MS_MAX) as i64 - JUMP_MS_MAX as i64;
        faults.push((rng.below(load_ns), any_node(nodes, rng), Fault::Jump { mono_ms, wall_ms }));
    }
    // Of fewer there is nobody who has everything.
    let losses = if nodes >= REPLICAS { losses } else { 0 };
    faults.extend((0..losses).map(|_| (rng.below(load_ns), any_node(nodes, rng), Fault::Lose)));
    faults
}

fn draw_hold(rng: &mut Rng) -> Fault {
    match rng.below(3) {
        0 => Fault::Busy { step_us: 20 + rng.below(500), ms: 100 + rng.below(2000) },
        1 => Fault::Pause { ms: 1 + rng.below(300) },
        _ => Fault::Pause { ms: 1 + rng.below(5000) },
    }
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
