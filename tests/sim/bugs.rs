//! The checkers can fail: each deliberate bug must be found within so many worlds of the kind it shows in.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;

use corelog::base::bug::{self, Bug};

use crate::cluster::run_cluster;
use crate::cluster_plan::Trouble;
use crate::cluster_work::Work;
use crate::fleet::{lock, on_every_core, words_of};
use crate::plan::{Kind, Plan, Promise};
use crate::rot;
use crate::run::{run, run_and_rot};

const SEEDS_MAX: u64 = 300;

/// A world of the kind in which the bug can show, and what its topics promise.
fn plan_for(bug: Bug, seed: u64) -> Plan {
    let (kind, promise) = match bug {
        Bug::AckBeforeSync | Bug::SkipTailCheck | Bug::ForgetProducers | Bug::CommitMetaBeforeSync => {
            (Kind::Storm, None)
        }
        Bug::ShowUnsafe => (Kind::Storm, Some(Promise::Synced)),
        Bug::KeepStaleTail => (Kind::Storm, Some(Promise::Written)),
        Bug::ForgetJournalEntry => (Kind::Storm, Some(Promise::Synced)),
        Bug::TakeStaleBatches => (Kind::Retention, Some(Promise::Flushed)),
        Bug::IgnoreFailedSync => (Kind::Disk, Some(Promise::Flushed)),
        Bug::SkipSealSync => (Kind::Rolls, Some(Promise::Written)),
        Bug::FlushBeforeSync | Bug::ReuseJournalSpace => (Kind::Rolls, Some(Promise::Synced)),
        Bug::ReuseOffset | Bug::StoreDuplicates => (Kind::Net, None),
        // Those in which a journal is damaged and the broker was killed.
        Bug::ForgetMustReach => return rot::plan(8 * seed + 5),
        // Those in which a journal is gone after a crash.
        Bug::ForgetNotes => return rot::plan(8 * seed + 7),
        Bug::CommitOutOfOrder => return much_at_once(seed),
        Bug::SwapBeforeSync | Bug::ConfuseKeys | Bug::DropTombstones | Bug::AnswerDeletionsEarly => {
            (Kind::Upkeep, Some(Promise::Synced))
        }
        // Those in which groups commit.
        Bug::AnswerGroupsEarly => return Plan::draw_of(Kind::Storm, 5 * seed + 3),
        Bug::ForgetTruncations | Bug::KeepDivergent | Bug::CutToHighWatermark => return storm_of_cuts(seed),
        Bug::AckBeforeInSync | Bug::ElectOutsideIsr | Bug::JoinInSyncEarly => return storm_of_cuts(seed),
        Bug::KeepOldSettings | Bug::ShowUncommitted => return storm_with(Work::Readers, seed),
        Bug::AnswerDeletionsAlone | Bug::KeepStart => return storm_with(Work::Trimmed, seed),
        Bug::CompactUncommitted => return storm_with(Work::Compacted, seed),
        Bug::AnswerGroupsAlone => return storm_with(Work::Groups, seed),
        // Of more brokers than vote.
        Bug::TakeStaleMetadata => return Plan::draw_cluster_of(Trouble::Storm, 5, seed),
        // Those in which a leader stays, and is alone for a while.
        Bug::LoadGroupsEarly => {
            let mut plan = Plan::draw_cluster_of(Trouble::Cuts, 3, seed);
            Work::Groups.add_to(&mut plan);
            return plan;
        }
        Bug::TakeStaleReports => unreachable!("a broker alone has no gossip"),
    };
    let mut plan = Plan::draw_of(kind, seed);
    for topic in &mut plan.topics {
        topic.promise = promise.unwrap_or(topic.promise);
    }
    plan
}

/// A world with a slow disk, in which so much waits for the journal that commits are made side by side.
fn much_at_once(seed: u64) -> Plan {
    let mut plan = Plan::draw_of(Kind::Storm, seed);
    plan.topics.iter_mut().for_each(|topic| topic.promise = Promise::Synced);
    for producer in &mut plan.producers {
        (producer.pause_ms, producer.records_max, producer.record_bytes_max) = (1, 12, 5000);
        producer.batch_bytes = None;
    }
    plan.disk_us = 3_000;
    plan
}

/// A cluster whose nodes do not hear each other, and end, again and again, with much on its way.
fn storm_of_cuts(seed: u64) -> Plan {
    Plan::draw_cluster_of(Trouble::Storm, 3, seed)
}

/// The same, with clients that do more than to write and read.
fn storm_with(work: Work, seed: u64) -> Plan {
    let mut plan = storm_of_cuts(seed);
    work.add_to(&mut plan);
    plan
}

/// How many seeds it takes, and how it shows.
fn seeds_to_find(bug: Bug) -> Option<(u64, String)> {
    bug::set(Some(bug));
    let found = (0..SEEDS_MAX).find_map(|seed| {
        let plan = plan_for(bug, seed);
        let rots = matches!(bug, Bug::ForgetMustReach | Bug::ForgetNotes);
        let play = match plan.is_cluster {
            true => run_cluster,
            false if rots => run_and_rot,
            false => run,
        };
        let end = panic::catch_unwind(AssertUnwindSafe(|| play(plan, false)));
        Some((seed + 1, words_of(end.err()?.as_ref())))
    });
    bug::set(None);
    found
}

#[test]
fn every_deliberate_bug_is_found() {
    // The others show in the tests of their rooms.
    let only = std::env::var("SIM_BUG").ok();
    let is_asked = |bug: &&Bug| only.as_ref().is_none_or(|only| *only == format!("{bug:?}"));
    let bugs = Bug::ALL.iter().filter(|bug| **bug != Bug::TakeStaleReports).filter(is_asked);
    let missed = Mutex::new(Vec::new());
    on_every_core(bugs, |bug| match seeds_to_find(*bug) {
        Some((seeds, words)) => println!("{bug:?} is found with {seeds} seeds: {words}"),
        None => lock(&missed).push(bug),
    });
    let missed = missed.into_inner().expect("nobody panics with it in hand");
    assert!(missed.is_empty(), "{SEEDS_MAX} seeds each, and nobody notices {missed:?}");
}
