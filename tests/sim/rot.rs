//! A device that gives back other bytes than it was given: one sector of one file, while the broker is down. Or a
//! journal that somebody has removed.
//!
//! Expected: the broker starts, every other partition is whole, and of the one concerned nothing wrong is ever shown.
//! What is missing from it is named in the log, at this start and at the next; when it was durable at the start before,
//! the partition is not opened without it. A damaged file that others can replace does no harm at all. Of a journal that
//! tells nothing any more the broker may say that it does not start without it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::check::Part;
use crate::disk::Crash;
use crate::node::Process;
use crate::plan::{Kind, Plan, Promise, SECOND};
use crate::run::auditor;
use crate::workload::{AUDITOR, Client};
use crate::world::World;

/// Long enough to read everything that can be read.
const READ_WITHIN_NS: u64 = 20 * SECOND;

/// What the damaged file is to the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damaged {
    Segment,
    /// An index, a snapshot or a checkpoint.
    Derived,
    Journal,
    /// The whole file is gone.
    JournalGone,
}

pub fn plan(seed: u64) -> Plan {
    let kinds = [Kind::Quiet, Kind::Rolls, Kind::Crashes];
    let mut plan = Plan::draw_of(kinds[(seed % 3) as usize], seed);
    for topic in &mut plan.topics {
        topic.promise = if topic.promise == Promise::Written { Promise::Synced } else { topic.promise };
    }
    plan
}

/// Ends the process, damages a file, and looks at what the next one makes of it.
pub fn damage(world: &mut World) {
    if world.plan.seed.is_multiple_of(2) {
        world.stop(0);
        let stopped = world.run_until(READ_WITHIN_NS, |world| world.nodes[0].process != Process::Stopping);
        assert!(stopped, "the broker stops");
    } else {
        world.crash(0, Crash::Kill);
    }
    let kinds = [Damaged::Segment, Damaged::Derived, Damaged::Journal, Damaged::JournalGone];
    let what = kinds[(world.plan.seed / 2 % 4) as usize];
    let files = world.nodes[0].disk.files(|path| is(what, path));
    let Some((path, len)) = pick(world, &files) else { return };
    let position = world.random_below(len as u64) as usize;
    if what == Damaged::JournalGone {
        world.trace.say(world.now, || format!("{} is gone", path.display()));
        world.nodes[0].disk.lose(&path);
    } else {
        world.trace.say(world.now, || format!("{} is damaged at byte {position}", path.display()));
        world.nodes[0].disk.rot(&path, position);
    }
    let concerned: Vec<Part> =
        world.plan.parts().into_iter().filter(|part| touches(world, what, &path, *part)).collect();
    world.model.rotten.extend(&concerned);
    world.may_refuse = path.starts_with("journal").then(|| path.display().to_string());

    let mut told = BTreeMap::new();
    look(world, &concerned, &mut told);
    world.crash(0, Crash::Power);
    look(world, &concerned, &mut told);
}

/// What the next process makes of it. It has `told` of the ends that are too low before.
fn look(world: &mut World, concerned: &[Part], told: &mut BTreeMap<Part, i64>) {
    world.auditing = true;
    let serving = world.run_until(READ_WITHIN_NS, |world| world.is_serving(0) || world.refused);
    if world.refused {
        return;
    }
    assert!(serving, "the broker starts: {:?}", world.nodes[0].said);
    let parts = world.plan.parts();
    world.model.begin_audit();
    world.call(AUDITOR, |client, context| auditor(client).start(parts.iter().copied(), context));
    world.run_until(READ_WITHIN_NS, |world| auditor(&mut world.clients[AUDITOR]).is_done());
    check(world, concerned, told);
}

fn check(world: &mut World, concerned: &[Part], told: &mut BTreeMap<Part, i64>) {
    let Client::Auditor(auditor) = &world.clients[AUDITOR] else { unreachable!("the second client is the auditor") };
    for (part, from) in auditor.left() {
        assert!(concerned.contains(part), "{part:?} cannot be read from {from} on, and nothing of it is damaged");
    }
    let now_ms = world.wall_ms();
    for (part, (start, end)) in auditor.ends().clone() {
        if end >= world.model.end(part) {
            world.model.on_audit(part, (start, end), false, now_ms);
        } else if told.get(&part).is_none_or(|told| end < *told) {
            let durable = world.durable.get(&part).copied().unwrap_or(0);
            assert!(end >= durable, "{part:?} ends at {end}, and had {durable} records on stable storage at a start");
            assert!(concerned.contains(&part), "{part:?} ends at {end}, and nothing of it is damaged");
            assert!(
                !world.nodes[0].said.is_empty(),
                "{part:?} ends at {end} and ended at {}, silently",
                world.model.end(part)
            );
            told.insert(part, end);
        }
    }
}

fn pick(world: &mut World, files: &[(PathBuf, usize)]) -> Option<(PathBuf, usize)> {
    let files: Vec<_> = files.iter().filter(|(_, len)| *len > 0).collect();
    (!files.is_empty()).then(|| files[world.random_below(files.len() as u64) as usize].clone())
}

fn is(what: Damaged, path: &Path) -> bool {
    let in_topic = path.to_string_lossy().starts_with("topic");
    let segment = path.extension().is_some_and(|extension| extension == "log");
    match what {
        Damaged::Segment => in_topic && segment,
        Damaged::Derived => in_topic && !segment,
        Damaged::Journal | Damaged::JournalGone => path.starts_with("journal"),
    }
}

fn touches(world: &World, what: Damaged, path: &Path, (topic, partition): Part) -> bool {
    match what {
        Damaged::Segment => path.starts_with(format!("{}-{partition}", world.plan.topics[topic].name)),
        Damaged::Derived => false,
        Damaged::Journal | Damaged::JournalGone => true,
    }
}
