//! Anything, in any order, by a seed; then peace, and a look at what was promised.

use crate::base::ids::NodeId;
use crate::base::testdisk::Crash;

use super::world::{Ended, World};

const SEEDS: u64 = 100;
const STEPS: u64 = 4_000;

#[test]
fn nothing_that_all_in_sync_replicas_had_is_lost() {
    let mut stored = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(seed, 1 + (seed % 2) as i32);
        for _ in 0..STEPS {
            step(&mut world);
        }
        stored += settle_and_check(&mut world, seed);
    }
    assert!(stored > 50 * SEEDS as usize, "{stored} batches were promised to be kept");
}

fn step(world: &mut World) {
    let node = world.rng.below(3) as usize;
    match world.rng.below(1_000) {
        0..450 => _ = world.step_disk(node),
        450..700 if world.messages() > 0 => {
            let at = world.rng.below(world.messages() as u64) as usize;
            let lose = world.rng.below(50) == 0;
            world.deliver(at, lose);
        }
        450..850 => world.poll(node),
        850..950 if world.is_running(node) => {
            let leader = world.state.leader.map_or(node, |leader| leader.0 as usize);
            // Now and then to somebody who does not lead, or not any more.
            let to = if world.rng.below(5) == 0 || !world.is_running(leader) { node } else { leader };
            let acks = if world.rng.below(4) == 0 { 1 } else { -1 };
            world.produce(to, acks);
        }
        950..980 => {
            let ms = world.rng.below(20);
            world.pass_ms(ms);
        }
        980 => world.pass_ms(super::world::LAG_MS),
        981..984 if world.is_running(node) => {
            let how = if world.rng.below(2) == 0 { Crash::Kill } else { Crash::Power };
            world.crash(node, how);
        }
        984..987 if !world.is_running(node) => world.fence(node as i32),
        987..992 if !world.is_running(node) => {
            // A broker that starts was fenced before, if only for a moment.
            world.fence(node as i32);
            world.start(node);
            world.unfence();
        }
        992..995 if world.state.isr.contains(&NodeId(node as i32)) && world.is_running(node) => {
            world.elect(node as i32)
        }
        995 => world.cut_off(node),
        996.. => world.join(node),
        _ => {}
    }
    if world.rng.below(50) == 0 && world.is_running(node) && world.replica(node).is_established() {
        world.consume(node);
    }
}

/// How many batches were acknowledged for all.
fn settle_and_check(world: &mut World, seed: u64) -> usize {
    for node in 0..3 {
        if !world.is_running(node) {
            world.fence(node as i32);
            world.start(node);
        }
        world.join(node);
    }
    world.unfence();
    for _ in 0..5 {
        world.run();
        world.pass_ms(super::world::LAG_MS);
    }
    world.run();
    assert_eq!(world.isr(), [0, 1, 2], "seed {seed}");
    let leader = world.state.leader.expect("there is one").0 as usize;
    let logs: Vec<_> = (0..3).map(|node| world.log(node)).collect();
    (0..3).for_each(|node| assert_eq!(logs[node], logs[leader], "seed {seed}: node {node} and its leader {leader}"));
    world.consume(leader);
    let promised = |acks: i16, ended: &Ended| acks == -1 && *ended == Ended::Stored;
    let mut count = 0;
    for (number, produced) in world.produced.iter().enumerate().filter(|(_, row)| promised(row.acks, &row.ended)) {
        let base = produced.base.expect("it is stored");
        assert!(logs[leader].contains(&(base.0, number as u64)), "seed {seed}: batch {number} at {base} is lost");
        count += 1;
    }
    count
}
