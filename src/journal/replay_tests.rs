//! Tests of the replay: whatever is lost or torn, what was committed is in its segments afterwards.

use super::format::{COMMIT_HEAD_BYTES, CommitHead, EntryHead, FileName, RING_START, newest_header};
use super::replay::{Loss, Report};
use super::testing::{RING_BYTES, entry};
use super::world::{Ended, World, dir, replay, replay_as, ring, topic};
use crate::base::bounds::{BOUNDS_NAME, Bounds, Reach};
use crate::base::checksum::crc32;
use crate::base::disk::BLOCK_BYTES;
use crate::base::ids::{CoreId, Offset, PartitionIndex};
use crate::base::layout::segment_name;
use crate::base::testdisk::Crash;

/// What happens at random before a crash.
struct Weather {
    partitions: u32,
    /// The ring begins with so much.
    piece_bytes: u64,
    operations: u64,
    len_max: &'static [u64],
    /// Of ten occasions, on so many those who were asked to flush do it.
    flushes: u64,
}

impl Weather {
    const USUAL: Weather =
        Weather { partitions: 1, piece_bytes: RING_BYTES, operations: 100, len_max: &[200], flushes: 10 };

    fn storm(&self, world: &mut World) {
        let len_max = self.len_max[world.below(self.len_max.len() as u64) as usize];
        for _ in 0..world.below(self.operations) {
            let owner = world.below(self.partitions.into()) as u32;
            match world.below(20) {
                0..10 => {
                    let len = 1 + world.below(len_max) as usize;
                    world.append(owner, len);
                }
                10..18 => {
                    for _ in 0..world.below(6) {
                        world.rig.step();
                    }
                    world.rig.pump();
                }
                18 if world.below(4) == 0 => world.flush(owner),
                18 if world.below(4) == 0 => drop(world.write_segments(owner, false)),
                _ => world.rig.pump(),
            }
            world.listen();
            if world.below(10) < self.flushes {
                world.flush_wanted();
                world.listen();
            }
        }
    }

    /// Bytes that waited for space, of all seeds.
    fn check(&self, seeds: u64) -> u64 {
        let mut waits = 0;
        for seed in 0..seeds {
            let mut world = World::with(seed, self.partitions, self.piece_bytes);
            for round in 0..4 {
                let context = format!("seed {seed} round {round}");
                self.storm(&mut world);
                waits += world.rig.journal.gauges().space_waits;
                let how = if world.below(3) == 0 { Crash::Kill } else { Crash::Power };
                world.rig.disk.crash(how);
                let cuts = world.below(4) as u32;
                let report = world.replay(cuts);
                assert_eq!(report.damages, [], "{context}");
                world.check(&context);
                world.reopen(&report);
            }
            world.rig.run();
            assert_eq!(world.rig.journal.gauges().ring_bytes, RING_BYTES);
        }
        waits
    }
}

#[test]
fn what_was_committed_survives_any_crash_and_any_interrupted_replay() {
    let weather =
        Weather { partitions: 5, operations: 120, len_max: &[200, 5_000, 60_000], flushes: 10, ..Weather::USUAL };
    weather.check(20);
}

#[test]
fn what_was_committed_survives_when_the_ring_is_full_most_of_the_time() {
    let weather = Weather { partitions: 3, operations: 300, len_max: &[60_000, 250_000], flushes: 1, ..Weather::USUAL };
    assert!(weather.check(6) > 20, "appends waited for space");
}

#[test]
fn what_was_committed_survives_with_two_commits_in_flight() {
    let len_max = &[200, 20_000, 200_000];
    let weather = Weather { partitions: 4, piece_bytes: RING_BYTES, operations: 150, len_max, flushes: 3 };
    weather.check(20);
}

#[test]
fn what_was_committed_survives_while_the_ring_grows() {
    for (piece_bytes, len_max, flushes) in
        [(32 << 10, &[200, 6_000][..], 5), (16 << 10, &[60_000], 10), (16 << 10, &[3_000, 30_000], 8)]
    {
        Weather { partitions: 3, piece_bytes, operations: 120, len_max, flushes }.check(40);
    }
}

/// A world with that many commits of one partition, all safe, none in a segment, after a crash.
fn crashed(commits: usize, len: usize) -> World {
    let mut world = World::new(1, 3);
    for _ in 0..commits {
        world.commit(0, len);
    }
    world.rig.disk.crash(Crash::Power);
    world
}

fn replayed(world: &mut World) -> Report {
    match replay(&mut world.rig.disk, u64::MAX) {
        Some(Ended::Done(report)) => *report,
        other => panic!("{other:?}"),
    }
}

/// Why the start is refused, which changes nothing; and what comes of it when the loss is accepted.
fn refused(world: &mut World) -> (String, Report) {
    let path = FileName::Journal(CoreId(0)).path();
    let before = world.rig.disk.bytes(&path).clone();
    let message = match replay(&mut world.rig.disk, u64::MAX) {
        Some(Ended::Failed(message)) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(*world.rig.disk.bytes(&path), before);
    for part in ["does not start", "put the disk right", "corelog log repair"] {
        assert!(message.contains(part), "{message}");
    }
    world.rig.disk.crash(Crash::Kill);
    match replay_as("test", 1, Loss::Accepted, &mut world.rig.disk, u64::MAX) {
        Some(Ended::Done(report)) => (message, *report),
        other => panic!("{other:?}"),
    }
}

/// The owners of the partitions that may lack something.
fn doubtful(report: &Report) -> Vec<i32> {
    report.doubtful.keys().map(|(_, partition)| partition.0).collect()
}

/// Where in the ring the commits are.
fn commits(world: &mut World) -> Vec<usize> {
    let ring = ring(&mut world.rig.disk);
    (0..ring.len()).step_by(BLOCK_BYTES).filter(|at| CommitHead::read(&ring[*at..]).is_some()).collect()
}

fn reach(report: &Report, owner: u32) -> Option<i64> {
    report.must_reach.get(&(topic(owner), PartitionIndex(owner as i32))).map(|reach| reach.end.0)
}

#[test]
fn a_torn_last_commit_is_no_damage_and_one_before_a_whole_one_is() {
    let check = |bad: usize, damages: &[&str], reached: i64| {
        let mut world = crashed(4, 5_000);
        let at = commits(&mut world)[bad];
        ring(&mut world.rig.disk)[at + 700] ^= 1;
        let report = replayed(&mut world);
        let found: Vec<String> =
            report.damages.iter().map(|damage| format!("{} {}", damage.position, damage.message)).collect();
        assert_eq!(found.len(), damages.len(), "{found:?}");
        found.iter().zip(damages).for_each(|(found, part)| assert!(found.contains(part), "{found}"));
        assert_eq!(reach(&report, 0), Some(reached));
        assert_eq!(report.aside.len(), usize::from(!damages.is_empty()));
        // The last commit tells how far this partition was, whatever was lost before it; not so of the others.
        assert_eq!(doubtful(&report), if damages.is_empty() { vec![] } else { vec![1, 2] });
        report
    };
    check(3, &[], 15_000);
    let gap = "ends at byte 10000, but what the journal holds begins at byte 15000";
    let report = check(2, &["24576 commit 3 is damaged, the next whole one is 4", gap], 20_000);
    assert_eq!((report.commits, report.bytes), (3, 10_000));
    assert_eq!(report.damages[1].path, dir(0).join(segment_name(Offset(0))));
    check(0, &["8192 commit 1 is damaged, the next whole one is 2", "is missing"], 20_000);
}

#[test]
fn what_was_in_flight_beside_a_whole_commit_may_be_torn_and_what_was_durable_before_it_may_not() {
    let check = |bad: usize, more: bool, damaged: bool, reached: i64| {
        let mut world = World::new(1, 3);
        world.commit(0, 30_000);
        for _ in 0..2 {
            world.append(0, 30_000);
            world.rig.pump();
        }
        assert_eq!(world.rig.journal.gauges().commits, 3);
        world.rig.run();
        world.listen();
        if more {
            world.commit(0, 30_000);
        }
        world.rig.disk.crash(Crash::Power);
        let at = commits(&mut world)[bad];
        ring(&mut world.rig.disk)[at] ^= 1;
        let report = replayed(&mut world);
        assert_eq!((report.damages.is_empty(), reach(&report, 0)), (!damaged, Some(reached)), "{bad} {more}");
    };
    check(1, false, false, 30_000);
    check(1, true, true, 120_000);
    check(2, true, true, 120_000);
    check(2, false, false, 60_000);
}

#[test]
fn a_journal_put_aside_is_kept_and_the_next_has_another_number() {
    let mut world = crashed(3, 100);
    let at = commits(&mut world)[1];
    ring(&mut world.rig.disk)[at] ^= 1;
    let report = replayed(&mut world);
    assert_eq!(report.aside, [FileName::Damaged(CoreId(0), 1).path()]);
    assert_eq!(reach(&report, 0), Some(300));
    world.reopen(&report);
    world.rig.run();
    world.rig.disk.crash(Crash::Power);
    let report = replayed(&mut world);
    assert_eq!((report.damages.len(), report.commits, reach(&report, 0), doubtful(&report)), (0, 0, None, vec![]));
    assert_eq!(report.aside, [FileName::Damaged(CoreId(0), 1).path()]);
    world.reopen(&report);
    for _ in 0..2 {
        world.commit(1, 50);
    }
    world.rig.disk.crash(Crash::Power);
    let at = commits(&mut world)[0];
    ring(&mut world.rig.disk)[at] ^= 1;
    let report = replayed(&mut world);
    assert_eq!(report.aside, [1, 2].map(|number| FileName::Damaged(CoreId(0), number).path()));
    assert_eq!((reach(&report, 0), reach(&report, 1), doubtful(&report)), (None, Some(100), vec![0, 2]));
}

#[test]
fn a_clean_close_leaves_an_end_that_must_be_reached() {
    let close = |flushed: bool| {
        let mut world = World::new(1, 3);
        for _ in 0..3 {
            world.commit(0, 100);
        }
        if flushed {
            world.flush(0);
        }
        world.rig.close();
        world.rig.run();
        world
    };
    let mut world = close(true);
    assert_eq!(world.rig.disk.counts.get("read"), None);
    assert_eq!(replayed(&mut world).commits, 0);
    assert_eq!(world.rig.disk.counts["read"], 1, "only the headers");
    let mut world = close(false);
    assert_eq!(replayed(&mut world).commits, 3);
    world.check("closed");
    let mut world = close(false);
    let at = commits(&mut world)[2];
    ring(&mut world.rig.disk)[at] ^= 1;
    let report = replayed(&mut world);
    assert!(report.damages[0].message.contains("commit 3 is damaged, none follows"), "{:?}", report.damages);
    assert_eq!(doubtful(&report), [0, 1, 2]);
}

#[test]
fn a_journal_is_empty_after_its_replay() {
    let mut world = crashed(3, 5_000);
    let report = replayed(&mut world);
    assert_eq!((report.journals, report.commits, report.entries, report.bytes), (1, 3, 3, 15_000));
    assert_eq!(report.skipped, 0);
    world.check("replayed");
    for slot in 0..2 {
        let report = replayed(&mut world);
        assert_eq!((report.journals, report.commits, report.must_reach.len()), (0, 0, 0));
        // Neither header knows of what was there.
        world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path())[slot * BLOCK_BYTES + 9] ^= 1;
    }
}

#[test]
fn deleted_topics_and_retired_segments_are_skipped() {
    let mut world = crashed(3, 5_000);
    // Another topic has the partition's number now.
    let bytes = world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path()).clone();
    for at in commits(&mut world) {
        let ring = ring(&mut world.rig.disk);
        let head = CommitHead::read(&ring[at..]).unwrap();
        ring[at + COMMIT_HEAD_BYTES] ^= 0x40;
        let sum = crc32(&ring[at + 8..at + head.bytes]).to_le_bytes();
        ring[at + 4..at + 8].copy_from_slice(&sum);
    }
    let report = replayed(&mut world);
    assert_eq!((report.commits, report.skipped, report.bytes, report.must_reach.len()), (3, 3, 0, 0));
    *world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path()) = bytes;
    // What the first segment held was removed long ago.
    world.partitions[0].segments = vec![super::world::Segment { base: 15_000, bytes: vec![7; 10] }];
    world.restart();
    let bytes = world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path()).clone();
    world.rig.run();
    world.write_segments(0, true);
    world.rig.disk.crash(Crash::Power);
    *world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path()) = bytes;
    let report = replayed(&mut world);
    assert_eq!((report.commits, report.skipped, report.bytes, reach(&report, 0)), (3, 3, 0, Some(15_000)));
    assert_eq!(report.damages, []);
}

/// Of a log that was truncated in between: what was handed over before is void, wherever it lies in its segment.
#[test]
fn what_was_handed_over_before_a_truncation_is_skipped() {
    let mut world = World::new(3, 1);
    let append = |world: &mut World, base: i64, position: u64, segment: i64, truncations: u32| {
        let mut entry = entry(0, base, 100, 100);
        entry.head = EntryHead { position, truncations, segment: Offset(segment), ..entry.head };
        let bytes = entry.slices.concat();
        world.rig.journal.append(entry);
        world.rig.run();
        assert_eq!(world.rig.committed(), [(0, base + 100)]);
        bytes
    };
    let first = append(&mut world, 0, 0, 0, 0);
    append(&mut world, 100, 100, 0, 0);
    append(&mut world, 200, 200, 0, 0);
    append(&mut world, 300, 0, 300, 0);
    // What stays is durable in its segment.
    let bounds = Bounds { truncations: 1, ..Bounds::default() };
    let (segment, later) = (dir(0).join(segment_name(Offset(0))), dir(0).join(segment_name(Offset(300))));
    world.rig.disk.put(&segment, first.clone());
    world.rig.disk.put(&dir(0).join(BOUNDS_NAME), bounds.to_file().to_vec());
    world.rig.journal.forget(0);
    let second = append(&mut world, 100, 100, 0, 1);
    world.rig.disk.crash(Crash::Power);
    let report = replayed(&mut world);
    assert_eq!((report.commits, report.skipped, report.entries, report.damages), (5, 4, 1, vec![]));
    let reach = Reach { truncations: 1, end: Offset(200) };
    assert_eq!(report.must_reach.values().copied().collect::<Vec<_>>(), [reach]);
    assert_eq!(*world.rig.disk.bytes(&segment), [first, second].concat());
    assert!(!world.rig.disk.names(&dir(0)).iter().any(|(name, _)| later.ends_with(name)));
}

#[test]
fn a_journal_that_does_not_belong_here_stops_the_start_and_is_left_alone() {
    let check = |change: fn(&mut World), cluster: &str, expect: &str| {
        let mut world = crashed(2, 100);
        change(&mut world);
        let names = world.rig.disk.names("journal".as_ref());
        match replay_as(cluster, 1, Loss::Accepted, &mut world.rig.disk, u64::MAX) {
            Some(Ended::Failed(message)) => assert!(message.contains(expect), "{message}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(world.rig.disk.names("journal".as_ref()), names);
    };
    check(|_| {}, "other", "belongs to node 1 of cluster test, this is node 1 of cluster other");
    check(
        |world| {
            let bytes = world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path()).clone();
            world.rig.disk.put(&FileName::Journal(CoreId(3)).path(), bytes);
        },
        "test",
        "journal/3.journal was the journal of core 0",
    );
    check(
        |world| {
            let file = world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path());
            file[4] = 2;
            let sum = crc32(&file[..BLOCK_BYTES - 4]).to_le_bytes();
            file[BLOCK_BYTES - 4..BLOCK_BYTES].copy_from_slice(&sum);
        },
        "test",
        "has format version 2, this broker knows 1",
    );
}

#[test]
fn the_journal_of_a_core_that_is_not_there_any_more_is_replayed_and_removed() {
    let mut world = crashed(2, 100);
    match replay_as("test", 0, Loss::Refused, &mut world.rig.disk, u64::MAX) {
        Some(Ended::Done(report)) => assert_eq!(report.commits, 2),
        other => panic!("{other:?}"),
    }
    world.check("replayed");
    assert_eq!(world.rig.disk.names("journal".as_ref()), []);
}

#[test]
fn one_bad_header_is_no_damage_and_two_stop_the_start() {
    for slot in 0..2 {
        let mut world = crashed(2, 100);
        let file = world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path());
        file[slot * BLOCK_BYTES + 77] ^= 1;
        assert_eq!(replayed(&mut world).commits, 2);
        world.check("replayed");
        let file = world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path());
        file[..RING_START as usize].chunks_mut(BLOCK_BYTES).for_each(|slot| slot[100] ^= 1);
        let (message, report) = refused(&mut world);
        assert!(message.contains("journal/0.journal has no header that is whole"), "{message}");
        assert!(report.damages[0].message.contains("has no header that is whole"), "{:?}", report.damages);
        assert_eq!(report.aside.len(), 1);
    }
}

#[test]
fn a_journal_that_was_being_made_holds_nothing_and_one_that_held_anything_is_not_taken_for_it() {
    let check = |change: fn(&mut Vec<u8>), is_new: bool| {
        let mut world = crashed(0, 1);
        let file = world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path());
        file[..RING_START as usize].fill(0);
        change(file);
        if is_new {
            let report = replayed(&mut world);
            assert_eq!((report.damages, report.aside), (vec![], vec![]));
        } else {
            let (message, report) = refused(&mut world);
            assert!(message.contains("has no header that is whole"), "{message}");
            assert_eq!(report.aside.len(), 1);
        }
    };
    check(|_| (), true);
    check(|file| file.clear(), true);
    check(|file| file.truncate(100_000), true);
    // Half of the first header.
    check(|file| file[BLOCK_BYTES..BLOCK_BYTES + 512].fill(7), true);
    // One sector of what may have been a commit.
    check(|file| file[RING_START as usize + 77 * 512] = 1, false);
    check(|file| *file.last_mut().unwrap() = 1, false);
}

#[test]
fn a_cut_journal_is_damaged() {
    let mut world = crashed(3, 5_000);
    let file = world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path());
    file.truncate(RING_START as usize + 2 * 8192);
    let report = replayed(&mut world);
    assert!(report.damages[0].message.contains("is cut: it has 24576 bytes"), "{:?}", report.damages);
    assert_eq!((report.commits, reach(&report, 0), doubtful(&report)), (2, Some(10_000), vec![0, 1, 2]));
}

#[test]
fn a_full_disk_stops_the_replay_and_loses_nothing() {
    let mut world = crashed(3, 5_000);
    world.rig.disk.capacity = 0;
    match replay(&mut world.rig.disk, u64::MAX) {
        Some(Ended::Failed(message)) => assert!(message.contains("nothing is lost; free some space"), "{message}"),
        other => panic!("{other:?}"),
    }
    world.rig.disk.crash(Crash::Kill);
    world.rig.disk.capacity = usize::MAX;
    assert_eq!(replayed(&mut world).commits, 3);
    world.check("replayed");
}

#[test]
fn a_file_never_becomes_longer_than_what_it_holds() {
    let mut world = crashed(3, 5_001);
    replayed(&mut world);
    assert_eq!(world.rig.disk.names(&dir(0)), [(segment_name(Offset(0)), 15_003)]);
    let header = {
        let file = world.rig.disk.bytes(&FileName::Journal(CoreId(0)).path());
        newest_header(file).unwrap().unwrap()
    };
    assert_eq!((header.end, header.run.key), (Some(1), 0));
}

#[test]
fn no_damage_of_a_journal_makes_a_replay_fail_to_end() {
    for seed in 0..300 {
        let mut world = World::new(seed, 3);
        for _ in 0..1 + world.below(6) {
            for _ in 0..1 + world.below(4) {
                let owner = world.below(3) as u32;
                let len = 1 + world.below(9_000) as usize;
                world.append(owner, len);
            }
            world.rig.run();
            world.listen();
        }
        world.rig.disk.crash(Crash::Power);
        let forged = damage(&mut world);
        match replay(&mut world.rig.disk, 10_000) {
            // All that is still in its segments is true.
            Some(Ended::Done(report)) => {
                let whole = report.damages.is_empty();
                let all = world.partitions.iter().map(|partition| partition.safe).sum::<i64>();
                let reached: i64 = report.must_reach.values().map(|reach| reach.end.0).sum();
                assert!(!whole || forged || reached <= all, "seed {seed}");
                assert_eq!(report.aside.is_empty(), whole);
            }
            Some(Ended::Failed(message)) => assert!(message.contains("journal"), "{message}"),
            other => panic!("seed {seed}: {other:?}"),
        }
    }
}

/// Some bits, a block, or the end of the journal change. Whether sums were made right again, so that it says what was
/// never so.
fn damage(world: &mut World) -> bool {
    let path = FileName::Journal(CoreId(0)).path();
    let used = RING_START + world.rig.journal.gauges().used_bytes + 8192;
    let kinds = world.below(5);
    let heads: Vec<usize> = commits(world).iter().map(|at| at + RING_START as usize).collect();
    for _ in 0..1 + world.below(8) {
        let at = world.below(used) as usize;
        let word = world.rng.next_u64();
        let head = heads[world.below(heads.len() as u64) as usize];
        let file = world.rig.disk.bytes(&path);
        match kinds {
            0 => file[at] ^= 1 << (word % 8),
            1 => {
                let block = at / BLOCK_BYTES * BLOCK_BYTES;
                file.copy_within(head..head + BLOCK_BYTES, block);
            }
            2 => {
                let field = head + 8 + word as usize % 140;
                file[field] = (word >> 32) as u8;
                let bytes = CommitHead::read(&file[head..]).map_or(40, |head| head.bytes);
                let sum = crc32(&file[head + 8..head + bytes]).to_le_bytes();
                file[head + 4..head + 8].copy_from_slice(&sum);
            }
            3 => {
                let slot = (word % 2) as usize * BLOCK_BYTES;
                file[slot + (word >> 8) as usize % 140] = (word >> 32) as u8;
                let sum = crc32(&file[slot..slot + BLOCK_BYTES - 4]).to_le_bytes();
                file[slot + BLOCK_BYTES - 4..slot + BLOCK_BYTES].copy_from_slice(&sum);
            }
            _ => file.truncate(at.max(RING_START as usize + 200)),
        }
        if kinds == 4 {
            break;
        }
    }
    matches!(kinds, 2 | 3)
}

#[test]
fn what_cannot_be_read_stops_the_start_and_what_lies_behind_is_redone_when_the_loss_is_accepted() {
    let check = |bad: &[u64], damages: &[&str], reached: i64| {
        let mut world = crashed(4, 5_000);
        let path = FileName::Journal(CoreId(0)).path();
        world.rig.disk.unreadable = bad.iter().map(|at| (path.clone(), *at)).collect();
        let report = if damages.is_empty() {
            replayed(&mut world)
        } else {
            let (message, report) = refused(&mut world);
            assert!(message.contains("the commit journal journal/0.journal"), "{message}");
            assert!(message.contains(damages[0]) && message.contains("Failed"), "{message}");
            report
        };
        let found: Vec<&str> = report.damages.iter().map(|damage| &damage.message[..]).collect();
        assert_eq!(found.len(), damages.len(), "{found:?}");
        found.iter().zip(damages).for_each(|(found, part)| assert!(found.contains(part), "{found}"));
        assert_eq!(reach(&report, 0).unwrap_or(0), reached);
    };
    // A commit takes two blocks, the headers as many.
    let block = BLOCK_BYTES as u64;
    check(&[40 * block], &[], 20_000);
    let second = "commit 2 cannot be read at byte 16384, the next whole one is ";
    check(&[4 * block], &[&format!("{second}3"), "ends at byte 5000"], 20_000);
    check(&[5 * block + 7, 6 * block], &[&format!("{second}4"), "ends at"], 20_000);
    check(&[8 * block], &["commit 4 cannot be read at byte 32768, none follows"], 15_000);
    check(&[100], &["cannot be read"], 0);
}

#[test]
fn a_segment_that_cannot_be_completed_stops_the_start_and_the_others_go_on_when_the_loss_is_accepted() {
    let mut world = World::new(1, 3);
    for owner in 0..2 {
        world.commit(owner, 5_000);
        world.flush(owner);
        world.commit(owner, 5_000);
    }
    world.rig.disk.crash(Crash::Power);
    // Space behind, in the last block that is written.
    let path = dir(0).join(segment_name(Offset(0)));
    world.rig.disk.bytes(&path).resize(11_000, 0);
    world.rig.disk.unreadable = vec![(path.clone(), 10_050)];
    let (message, report) = refused(&mut world);
    assert!(message.contains(&format!("{} cannot be completed from the commit journal", path.display())), "{message}");
    assert_eq!(report.damages.len(), 1, "{:?}", report.damages);
    assert!(report.damages[0].message.contains("cannot be completed from the journal"), "{:?}", report.damages);
    assert_eq!((reach(&report, 0), reach(&report, 1), report.aside.len()), (Some(10_000), Some(10_000), 1));
    world.rig.disk.unreadable.clear();
    world.partitions[0].safe = 5_000;
    world.check("the others");
}
