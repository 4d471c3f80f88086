//! A log that takes a leader's batches as they are, beside the leader's.
//!
//! *Owns*: the tests of replicated appends. *Runs on*: tests.

use bytes::Bytes;

use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::rng::Rng;
use crate::config::TopicSettings;
use crate::wire::batch::{BatchHeader, StoredError};

use super::super::replicate::{ReplicateError, Replicated};
use super::super::sift::Kept;
use super::super::testdisk::Crash;
use super::super::testing::{Rig, batch, batch_of, small_segments, small_synced_segments};

/// A leader's log of several epochs, with batches of an idempotent producer among them, and such as a follower's smaller
/// segments would not take from a producer.
fn leader(seed: u64, batches: u64) -> Rig {
    let mut rng = Rng::new(seed);
    let mut rig = Rig::new(seed, TopicSettings { segment_bytes: 60_000, ..small_segments() });
    let (mut epoch, mut sequence) = (0, 0);
    for i in 0..batches {
        epoch += i32::from(rng.below(8) == 0);
        let size = if rng.below(10) == 0 { 9000 } else { rng.below(2000) } as usize;
        if rng.below(2) == 0 {
            rig.append_in(&batch_of(5, 0, sequence, size), LeaderEpoch(epoch)).unwrap();
            sequence += 1;
        } else {
            rig.append_in(&batch(1 + rng.below(4) as usize, size, i as i64), LeaderEpoch(epoch)).unwrap();
        }
    }
    rig.run();
    rig
}

/// What a fetch from there on brings.
fn fetch(leader: &mut Rig, from: Offset, bytes_max: u64) -> Bytes {
    let end = leader.log.safe_end();
    Bytes::from(leader.read(from.0, end.0, bytes_max as usize, true).unwrap().slices.concat())
}

#[test]
fn a_follower_has_what_its_leader_has_after_any_crash() {
    for seed in 0..60 {
        let mut rng = Rng::new(!seed);
        let mut leader = leader(seed, 60);
        let settings = if seed % 2 == 0 { small_synced_segments() } else { small_segments() };
        let mut follower = Rig::new(seed, settings);
        let mut safe = Offset(0);
        while follower.log.end() < leader.log.end() {
            let from = follower.log.end();
            let records = fetch(&mut leader, from, rng.below(9000));
            let taken = follower.replicate(&records).unwrap();
            assert_eq!((taken.bytes, taken.end), (records.len(), follower.log.end()));
            assert!(taken.end > from);
            for _ in 0..rng.below(6) {
                follower.step();
            }
            safe = safe.max(follower.log.safe_end());
            if rng.below(8) == 0 {
                let how = if seed % 2 == 0 { Crash::Power } else { Crash::Kill };
                follower = follower.reopen_at(how);
                follower.model = leader.model.clone();
                follower.check_holds(safe);
            }
        }
        follower.run();
        follower.model = leader.model.clone();
        follower.check_holds(leader.log.end());
        for epoch in 0..=leader.log.latest_epoch().unwrap().0 + 1 {
            let epoch = LeaderEpoch(epoch);
            assert_eq!(follower.log.epoch_end(epoch), leader.log.epoch_end(epoch), "seed {seed} {epoch:?}");
        }
        // It knows of producers what its leader knew.
        let producers = leader.log.active_producers(10);
        assert_eq!(follower.log.active_producers(10), producers);
        let again = batch_of(5, 0, producers[0].last_sequence, 10);
        assert!(follower.append_in(&again, LeaderEpoch(99)).unwrap().duplicate);
    }
}

#[test]
fn of_a_compacted_batch_that_reaches_over_its_end_a_follower_takes_the_rest() {
    let mut leader = Rig::new(1, small_segments());
    for epoch in [0, 3, 3] {
        leader.append_in(&batch(2, 100, 0), LeaderEpoch(epoch)).unwrap();
    }
    leader.run();
    let all = fetch(&mut leader, Offset(0), 1 << 20);
    let (whole, behind) = (all.slice(..all.len() / 3 * 2), all.slice(all.len() / 3 * 2..));
    let compacted = |from: i64, next: i64| {
        let filler = Kept::filler(Offset(from), Offset(next), LeaderEpoch(0));
        Bytes::from([&filler.header.to_bytes()[..], &behind].concat())
    };
    let mut follower = Rig::new(1, small_segments());
    follower.replicate(&whole.slice(..whole.len() / 2)).unwrap();
    let taken = follower.replicate(&compacted(0, 4)).unwrap();
    assert_eq!((taken.end, taken.batches), (Offset(6), 2));
    follower.run();
    let held = fetch(&mut follower, Offset(0), 1 << 20);
    assert_eq!(held.slice(..whole.len() / 2), whole.slice(..whole.len() / 2));
    assert_eq!(BatchHeader::read(&held[whole.len() / 2..]).unwrap().next_offset(), Offset(4));
    assert!(held.ends_with(&behind));
    // Where it has records that this log lacks, or nothing beyond its end, it is refused.
    let mut follower = Rig::new(1, small_segments());
    follower.replicate(&whole).unwrap();
    assert!(follower.replicate(&compacted(0, 4)).is_err());
    let mut late = Rig::new(1, small_segments());
    late.replicate(&Bytes::copy_from_slice(&Kept::filler(Offset(0), Offset(1), LeaderEpoch(0)).header.to_bytes()))
        .unwrap();
    assert!(late.replicate(&whole).is_err());
}

#[test]
fn what_does_not_go_on_where_the_log_ends_is_refused() {
    let mut leader = Rig::new(1, small_segments());
    for epoch in [0, 0, 3, 3] {
        leader.append_in(&batch(2, 100, 0), LeaderEpoch(epoch)).unwrap();
    }
    leader.run();
    let all = fetch(&mut leader, Offset(0), 1 << 20);
    let one = all.len() / 4;
    let mut follower = Rig::new(1, small_segments());
    let refused = |follower: &mut Rig, records: &Bytes| {
        let end = follower.log.end();
        let Err(ReplicateError::Batch(error)) = follower.replicate(records) else { panic!("taken") };
        assert_eq!(follower.log.end(), end);
        error
    };
    let stale = |base_offset: i64, epoch: i32| StoredError::Stale {
        base_offset: Offset(base_offset),
        epoch: LeaderEpoch(epoch),
    };
    assert_eq!(refused(&mut follower, &all.slice(one..)), stale(2, 0));
    assert_eq!(refused(&mut follower, &all.slice(..one - 1)), StoredError::Cut { wanted: one });
    let torn = Bytes::from([&all[..2 * one], &all[3 * one..]].concat());
    assert_eq!(refused(&mut follower, &torn), stale(6, 3), "none is taken, though two would fit");
    let mut damaged = all.to_vec();
    damaged[2 * one + 70] ^= 1;
    assert!(matches!(refused(&mut follower, &Bytes::from(damaged)), StoredError::Damaged(_)));
    // A batch that is cut off is asked for again.
    let expect = Replicated { end: Offset(6), bytes: 3 * one, batches: 3 };
    assert_eq!(follower.replicate(&all.slice(..4 * one - 1)), Ok(expect));
    assert_eq!(refused(&mut follower, &all), stale(0, 0));
    // Of an earlier leader than what it follows on.
    let late: Vec<u8> = batch(1, 10, 0).stamp(Offset(6), LeaderEpoch(2), None).slices().flatten().collect();
    assert_eq!(refused(&mut follower, &Bytes::from(late)), stale(6, 2));
    assert_eq!(follower.replicate(&Bytes::new()), Ok(Replicated { end: Offset(6), bytes: 0, batches: 0 }));
    assert_eq!(follower.replicate(&all.slice(3 * one..)).unwrap().end, Offset(8));
    follower.run();
    follower.model = leader.model.clone();
    follower.check_holds(Offset(8));
    follower.close();
    let end = follower.log.end();
    assert!(matches!(follower.replicate(&all), Err(ReplicateError::Offline { .. })));
    assert_eq!(follower.log.end(), end);
}
