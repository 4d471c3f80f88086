//! A cluster from beginning to end: topics are made, then load and trouble, then peace, in which every replica must come
//! to be in sync within a bound, and all that was acknowledged must be there, the same on every node.

use std::collections::BTreeMap;

use crate::check::Part;
use crate::cluster_check;
use crate::disk::Crash;
use crate::plan::{MS, Plan, SECOND};
use crate::run::{Outcome, begin, check_commits, outcome, run_until_idle};
use crate::said;
use crate::workload::{ADMIN, Client};
use crate::world::World;

/// How long a cluster without faults may take for what it is asked.
const PROGRESS_WITHIN_NS: u64 = 120 * SECOND;
/// How often it is looked whether it has come to that.
const LOOK_EVERY_NS: u64 = 20 * MS;

pub fn run_cluster(plan: Plan, print: bool) -> Outcome {
    said::listen(|| play(plan, print))
}

fn play(plan: Plan, print: bool) -> Outcome {
    let mut world = begin(plan, print, PROGRESS_WITHIN_NS);
    let load_ends = world.now + world.plan.load_ns;
    world.run_until(world.plan.load_ns, |world| world.now >= load_ends);
    settle(&mut world);
    check_everything(&mut world);
    check_commits(&mut world);
    // A power loss of everything at once, and whatever is left must be everything.
    for node in 0..world.nodes.len() {
        world.crash(node, Crash::Power);
    }
    check_everything(&mut world);
    check_commits(&mut world);
    outcome(&world)
}

/// No more faults and no new records: every producer must be able to finish, every replica to catch up.
fn settle(world: &mut World) {
    world.load = false;
    world.calm_down();
    // What a failed write left offline is back after a start.
    for node in 0..world.nodes.len() {
        if world.nodes[node].is_offline() {
            world.crash(node, Crash::Kill);
        }
    }
    world.wake_all();
    let idle = run_until_idle(world, PROGRESS_WITHIN_NS);
    assert!(idle, "with the faults over, every record is acknowledged, and read: {}", cluster_check::describe(world));
    // What nobody waits for (acks=0) may still be on its way.
    let late_ns = world.net_delay_max();
    world.run_until(late_ns, |_| false);
}

fn check_everything(world: &mut World) {
    let end = world.now + PROGRESS_WITHIN_NS;
    // To look at everything after each event would take longer than the events.
    while !cluster_check::is_settled(world) && world.now < end {
        world.run_until(LOOK_EVERY_NS, |_| false);
    }
    let in_sync = cluster_check::is_settled(world);
    assert!(in_sync, "with the faults over, every replica is in sync: {}", cluster_check::describe(world));
    cluster_check::check_changes(world);
    audit(world);
    cluster_check::check_replicas(world);
}

/// Reads every partition from its leader, from the beginning to the end.
fn audit(world: &mut World) {
    world.model.begin_audit();
    let auditors: Vec<(usize, Part)> = (ADMIN + 1..).zip(world.plan.parts()).collect();
    for &(client, part) in &auditors {
        world.call(client, |client, context| match client {
            Client::Auditor(auditor) => auditor.start([part].into_iter(), context),
            _ => unreachable!("there is an auditor for each partition"),
        });
    }
    let is_done = |client: &Client| if let Client::Auditor(auditor) = client { auditor.is_done() } else { true };
    let done = world.run_until(PROGRESS_WITHIN_NS, |world| world.clients.iter().all(is_done));
    assert!(done, "every partition can be read: {}", cluster_check::describe(world));
    let mut ends = BTreeMap::new();
    for client in &world.clients {
        if let Client::Auditor(auditor) = client {
            ends.extend(auditor.ends().clone());
        }
    }
    let now_ms = world.wall_ms();
    for (part, bounds) in ends {
        world.model.on_audit(part, bounds, false, now_ms);
    }
}
