//! The broker's decisions under attack: real shards, clients with real frames, and a world that a seed makes up.
//!
//! `SIM_SEED=7 cargo test --no-default-features --test sim replay -- --nocapture` plays one seed and says what happens;
//! `SIM_SECONDS=600 cargo test --release --no-default-features --test sim fresh` looks for new ones that fail, which
//! belong into `tests/sim/seeds.txt`.
//!
//! `SIM_BUG=AckBeforeSync cargo test --no-default-features --features bugs --test sim every_deliberate_bug -- --nocapture`
//! tells how that bug is found. A cluster is played with `SIM_CLUSTER=7 SIM_NODES=3` in the place of `SIM_SEED`.
//!
//! Not here yet: members of consumer groups (only offsets are committed for groups), and fetch sessions.

#[cfg(feature = "bugs")]
mod bugs;
mod check;
mod client;
mod cluster;
mod cluster_check;
mod cluster_plan;
mod committer;
mod consumer;
mod disk;
mod links;
mod net;
mod node;
mod plan;
mod producer;
mod rot;
mod run;
mod said;
mod scratch;
mod trace;
mod trimmer;
mod workload;
mod world;

use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cluster::run_cluster;
use plan::Plan;
use run::{Outcome, run, run_and_rot};

/// Played in every run of the tests.
const FIXED_SEEDS: u64 = 24;
const ROT_SEEDS: u64 = 18;
const CLUSTER_SEEDS: u64 = 18;
const CLUSTER_NODES: [usize; 5] = [3, 3, 1, 5, 4];
const FRESH_SECONDS: u64 = 10;

fn play(seed: u64) -> Outcome {
    match panic::catch_unwind(AssertUnwindSafe(|| run(Plan::draw(seed), false))) {
        Ok(outcome) => outcome,
        Err(_) => panic!(
            "seed {seed} fails; to see it happen: SIM_SEED={seed} cargo test --no-default-features --test sim replay \
             -- --nocapture"
        ),
    }
}

fn play_cluster(nodes: usize, seed: u64) -> Outcome {
    match panic::catch_unwind(AssertUnwindSafe(|| run_cluster(Plan::draw_cluster(nodes, seed), false))) {
        Ok(outcome) => outcome,
        Err(_) => panic!(
            "the cluster of {nodes} nodes and seed {seed} fails; to see it happen: SIM_NODES={nodes} SIM_CLUSTER={seed} \
             cargo test --no-default-features --test sim replay -- --nocapture"
        ),
    }
}

#[test]
fn fixed_seeds_keep_every_promise() {
    for seed in 0..FIXED_SEEDS {
        play(seed);
    }
}

#[test]
fn seeds_that_failed_once_pass_for_ever() {
    for line in include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let seed = line.split_whitespace().next().expect("a seed");
        play(seed.parse().expect("a seed is a number"));
    }
}

#[test]
fn fresh_seeds_keep_every_promise() {
    let seconds = std::env::var("SIM_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(FRESH_SECONDS);
    let end = Instant::now() + Duration::from_secs(seconds);
    let first = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let (mut seeds, mut steps, mut acked, mut fetched, mut commits) = (0, 0, 0, 0, 0);
    while Instant::now() < end {
        let outcome = play(first.wrapping_add(seeds));
        seeds += 1;
        steps += outcome.steps;
        acked += outcome.acked;
        fetched += outcome.fetched;
        commits += outcome.commits;
    }
    println!(
        "{seeds} fresh seeds in {seconds} s: {steps} events, {acked} records acknowledged, {fetched} fetched, {commits} \
         offsets committed"
    );
}

#[test]
fn damage_is_named_and_stays_where_it_is() {
    for seed in 0..ROT_SEEDS {
        let rotten = panic::catch_unwind(AssertUnwindSafe(|| run_and_rot(rot::plan(seed), false)));
        assert!(rotten.is_ok(), "damage of seed {seed}: SIM_ROT={seed} cargo test --test sim replay -- --nocapture");
    }
}

#[test]
fn clusters_keep_every_promise() {
    for seed in 0..CLUSTER_SEEDS {
        play_cluster(CLUSTER_NODES[seed as usize % CLUSTER_NODES.len()], seed);
    }
    for line in include_str!("cluster_seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut words = line.split_whitespace().map(|word| word.parse::<u64>().ok());
        let (nodes, seed) = (words.next().flatten(), words.next().flatten());
        play_cluster(nodes.expect("nodes are counted") as usize, seed.expect("a seed is a number"));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3] {
        assert_eq!(run(Plan::draw(seed), false).trace, run(Plan::draw(seed), false).trace, "seed {seed}");
    }
    assert_ne!(run(Plan::draw(1), false).trace, run(Plan::draw(2), false).trace);
}

#[test]
fn replay() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let outcome = run(Plan::draw(seed.parse().expect("a seed is a number")), true);
        println!("seed {seed}: {outcome:?}");
    }
    if let Ok(seed) = std::env::var("SIM_CLUSTER") {
        let nodes = std::env::var("SIM_NODES").map_or(3, |nodes| nodes.parse().expect("nodes are counted"));
        let outcome = run_cluster(Plan::draw_cluster(nodes, seed.parse().expect("a seed is a number")), true);
        println!("cluster of seed {seed}: {outcome:?}");
    }
    if let Ok(seed) = std::env::var("SIM_ROT") {
        run_and_rot(rot::plan(seed.parse().expect("a seed is a number")), true);
    }
}
