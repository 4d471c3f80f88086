//! The broker's decisions under attack: real shards, clients with real frames, and a world that a seed makes up.
//!
//! `SIM_SEED=7 cargo test --no-default-features --test sim replay -- --nocapture` plays one seed and says what happens.
//! A cluster is played with `SIM_CLUSTER=7 SIM_NODES=3` in the place of `SIM_SEED`.
//!
//! `cargo sim` is the same, optimised (`.cargo/config.toml`). `SIM_HOURS=8 cargo sim fresh -- --nocapture` looks for new
//! seeds that fail, on all cores: it says every minute how far it is, of each failure at once how to see it happen, goes
//! on, and ends with all of them. They belong into `tests/sim/seeds.txt` and `tests/sim/cluster_seeds.txt`. With
//! `SIM_SECONDS` it takes so many seconds, with `SIM_WORLDS` it plays so many; it begins with seed `SIM_FROM`, or with one
//! that nobody has seen.
//!
//! `SIM_BUG=AckBeforeSync cargo sim every_deliberate_bug -- --nocapture` tells how that bug is found.
//!
//! Not here yet: members of consumer groups (only offsets are committed for groups).

#[cfg(feature = "bugs")]
mod bugs;
mod changer;
mod check;
mod client;
mod cluster;
mod cluster_check;
mod cluster_plan;
mod cluster_work;
mod committer;
mod consumer;
mod disk;
mod faults;
mod fleet;
mod links;
mod net;
mod node;
mod plan;
mod producer;
mod reader;
mod rot;
mod run;
mod said;
mod scratch;
mod trace;
mod trimmer;
mod workload;
mod world;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fleet::{Game, play_all};
use plan::Plan;
use run::run;

/// Played in every run of the tests.
const FIXED_SEEDS: u64 = 24;
const ROT_SEEDS: u64 = 18;
const CLUSTER_SEEDS: u64 = 18;
const CLUSTER_NODES: [usize; 5] = [3, 3, 1, 5, 4];
/// Of the seeds that are played once; those that are kept say how many they have.
const FRESH_NODES: [usize; 11] = [3, 3, 4, 3, 5, 3, 7, 2, 3, 6, 1];
/// When it is not said how many, or for how long.
const FRESH_WORLDS: u64 = 8;

fn cluster(sizes: &[usize], seed: u64) -> Game {
    Game::Cluster { nodes: sizes[(seed % sizes.len() as u64) as usize], seed }
}

/// The first words of each line of a file of seeds.
fn seeds(text: &str) -> impl Iterator<Item = Vec<u64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_whitespace().map_while(|word| word.parse().ok()).collect())
}

/// A number that somebody has set for this run.
fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, and not {text:?}")))
}

#[test]
fn fixed_seeds_keep_every_promise() {
    play_all((0..FIXED_SEEDS).map(|seed| Game::Broker { seed })).check();
}

#[test]
fn seeds_that_failed_once_pass_for_ever() {
    let brokers = seeds(include_str!("seeds.txt")).map(|words| Game::Broker { seed: words[0] });
    let clusters = seeds(include_str!("cluster_seeds.txt"))
        .map(|words| Game::Cluster { nodes: words[0] as usize, seed: words[1] });
    play_all(brokers.chain(clusters)).check();
}

#[test]
fn fresh_seeds_keep_every_promise() {
    let seconds = asked("SIM_HOURS").map(|hours| hours * 3600).or(asked("SIM_SECONDS"));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let worlds = asked("SIM_WORLDS").unwrap_or(FRESH_WORLDS);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let first = asked("SIM_FROM").unwrap_or_else(clock);
    let goes_on = |seed: &u64| end.map_or(seed - first < worlds, |end| Instant::now() < end);
    let fresh = (first..).take_while(goes_on).map(|seed| match seed % 8 {
        0 => Game::Damage { seed },
        1..4 => Game::Broker { seed },
        _ => cluster(&FRESH_NODES, seed),
    });
    let score = play_all(fresh);
    println!("{score}");
    score.check();
}

#[test]
fn damage_is_named_and_stays_where_it_is() {
    play_all((0..ROT_SEEDS).map(|seed| Game::Damage { seed })).check();
}

#[test]
fn clusters_keep_every_promise() {
    play_all((0..CLUSTER_SEEDS).map(|seed| cluster(&CLUSTER_NODES, seed))).check();
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
    let broker = asked("SIM_SEED").map(|seed| Game::Broker { seed });
    let nodes = asked("SIM_NODES").unwrap_or(3) as usize;
    let cluster = asked("SIM_CLUSTER").map(|seed| Game::Cluster { nodes, seed });
    let damage = asked("SIM_ROT").map(|seed| Game::Damage { seed });
    for game in [broker, cluster, damage].into_iter().flatten() {
        println!("{game}: {:?}", game.play(true));
    }
}
