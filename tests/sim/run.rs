//! One seed from beginning to end: make topics, load and faults, then peace, in which all that was promised must be
//! kept, and last a stop, a crash and a look at everything.

use crate::consumer::Auditor;
use crate::disk::Crash;
use crate::node::Process;
use crate::plan::{Plan, SECOND};
use crate::rot;
use crate::said;
use crate::trace::Trace;
use crate::workload::{ADMIN, AUDITOR, Client};
use crate::world::World;

/// How long a world without faults may take for what it is asked.
const PROGRESS_WITHIN_NS: u64 = 60 * SECOND;

#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The hash of all events, and their number.
    pub trace: (u64, u64),
    pub steps: u64,
    pub acked: u64,
    pub fetched: u64,
    /// Offsets that groups committed.
    pub commits: u64,
}

pub fn run(plan: Plan, print: bool) -> Outcome {
    said::listen(|| play(plan, print))
}

/// The same, and then the disk damages a file while the broker is down.
pub fn run_and_rot(plan: Plan, print: bool) -> Outcome {
    said::listen(|| {
        let mut world = load(plan, print);
        rot::damage(&mut world);
        outcome(&world)
    })
}

fn play(plan: Plan, print: bool) -> Outcome {
    let mut world = load(plan, print);
    end(&mut world);
    outcome(&world)
}

/// Topics are made, and load and faults begin.
pub fn begin(plan: Plan, print: bool, progress_within_ns: u64) -> World {
    if print {
        println!("{plan:#?}");
    }
    let mut world = World::new(plan, Trace::new(print));
    world.wake_all();
    let made = world.run_until(progress_within_ns, |world| match &world.clients[ADMIN] {
        Client::Admin(admin) => admin.is_done(&world.plan),
        _ => unreachable!("the first client makes the topics"),
    });
    assert!(made, "the topics are made");
    world.start_faults();
    world.load = true;
    world.wake_all();
    world
}

/// No producer waits for anything within the time allowed.
pub fn run_until_idle(world: &mut World, progress_within_ns: u64) -> bool {
    world.run_until(progress_within_ns, |world| {
        world.clients.iter().all(|client| match client {
            Client::Producer(producer) => producer.is_idle(),
            Client::Reader(reader) => reader.is_done(&world.model),
            _ => true,
        })
    })
}

/// Everything up to the peace in which every promise is kept.
fn load(plan: Plan, print: bool) -> World {
    let mut world = begin(plan, print, PROGRESS_WITHIN_NS);
    let load_ends = world.now + world.plan.load_ns;
    while world.now < load_ends {
        if world.audit_is_due && world.is_serving(0) {
            audit(&mut world, Some(load_ends));
        }
        world.run_until(load_ends.saturating_sub(world.now).max(1), |world| world.audit_is_due && world.is_serving(0));
    }
    settle(&mut world);
    world
}

pub fn outcome(world: &World) -> Outcome {
    let commits = |client: &Client| if let Client::Committer(committer) = client { committer.acked } else { 0 };
    Outcome {
        trace: world.trace.sum(),
        steps: world.steps,
        acked: world.model.acked,
        fetched: world.model.fetched,
        commits: world.clients.iter().map(commits).sum(),
    }
}

/// No more faults and no new records: every producer must be able to finish.
fn settle(world: &mut World) {
    world.load = false;
    world.calm_down();
    // Whatever a failed sync left offline is back after a start.
    world.crash(0, Crash::Kill);
    audit(world, None);
    world.durable = auditor(&mut world.clients[AUDITOR]).ends().iter().map(|(part, (_, end))| (*part, *end)).collect();
    world.wake_all();
    let idle = run_until_idle(world, PROGRESS_WITHIN_NS);
    assert!(idle, "with the faults over, every record is acknowledged");
    check_commits(world);
}

/// Every group has what it committed.
pub fn check_commits(world: &mut World) {
    for client in &mut world.clients {
        if let Client::Committer(committer) = client {
            committer.look_again();
        }
    }
    world.wake_all();
    let settled = world.run_until(PROGRESS_WITHIN_NS, |world| {
        world.clients.iter().all(|client| !matches!(client, Client::Committer(committer) if !committer.is_settled()))
    });
    assert!(settled, "every group can read what it committed");
}

/// A clean stop and a crash: whatever is left must be everything.
fn end(world: &mut World) {
    world.stop(0);
    let stopped = world.run_until(PROGRESS_WITHIN_NS, |world| world.nodes[0].process != Process::Stopping);
    assert!(stopped, "the broker stops");
    let crash = if world.plan.any_may_lose(Crash::Power) { Crash::Kill } else { Crash::Power };
    world.nodes[0].disk.crash(crash);
    audit(world, None);
    check_commits(world);
}

/// Reads everything. Gives up when a fault comes between, or at `until`: then it is due again.
fn audit(world: &mut World, until: Option<u64>) {
    world.auditing |= world.may_have_lost;
    world.audit_is_due = true;
    let within = until.map_or(PROGRESS_WITHIN_NS, |until| until.saturating_sub(world.now).max(1));
    let calm = world.calm;
    let serving = world.run_until(within, |world| world.is_serving(0));
    assert!(serving || !calm, "the broker starts");
    if !serving {
        return;
    }
    let parts = world.plan.parts();
    let exclusive = world.may_have_lost || calm;
    world.auditing = exclusive;
    world.model.begin_audit();
    world.call(AUDITOR, |client, context| auditor(client).start(parts.iter().copied(), context));
    let within = until.map_or(PROGRESS_WITHIN_NS, |until| until.saturating_sub(world.now).max(1));
    let done = world.run_until(within, |world| auditor(&mut world.clients[AUDITOR]).is_done() || !world.is_serving(0));
    let done = done && auditor(&mut world.clients[AUDITOR]).is_done();
    assert!(done || !calm, "every partition can be read");
    if !done {
        return;
    }
    let may_have_lost = std::mem::take(&mut world.may_have_lost);
    let ends = auditor(&mut world.clients[AUDITOR]).ends().clone();
    let now_ms = world.wall_ms();
    for (part, bounds) in ends {
        if exclusive {
            world.model.on_audit(part, bounds, may_have_lost && world.plan.may_lose(part.0), now_ms);
        }
    }
    world.auditing = false;
    world.audit_is_due = false;
}

pub fn auditor(client: &mut Client) -> &mut Auditor {
    match client {
        Client::Auditor(auditor) => auditor,
        _ => unreachable!("the second client is the auditor"),
    }
}
