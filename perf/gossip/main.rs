//! How fast gossip tells, and what it costs, for some numbers of brokers: a line of JSON for each run.
//!
//! *Owns*: the time of its network. *Never*: opens a socket. *Runs on*: one thread.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::Parser;
use corelog::base::ids::{CoreId, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};
use corelog::gossip::report::{CoreReport, DeviceReport, LatencyDigest, NodeReport, Position};
use corelog::gossip::{Delta, GossipEvent, Standing};
use serde_json::json;

use network::Network;

mod network;

/// Time to settle, and over which bytes are counted.
const SETTLE_MS: u64 = 10_000;
const COUNT_MS: u64 = 30_000;
/// Brokers measure themselves this often.
const REPORT_MS: u64 = 1_000;
const PARTITIONS: i32 = 100;
const CHANGES: u64 = 10;
const CHANGE_BYTES: usize = 200;
/// Of IPv4 and UDP, for each datagram.
const HEADERS_BYTES: u64 = 28;
const WAIT_MS: u64 = 120_000;

#[derive(Parser)]
struct Arguments {
    #[arg(long, value_delimiter = ',', default_value = "3,10,30,100")]
    members: Vec<usize>,
    /// Datagrams that are lost, of a hundred.
    #[arg(long, value_delimiter = ',', default_value = "0,5")]
    loss: Vec<u64>,
    /// A run for each seed from 1 to this.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
}

fn main() {
    let arguments = Arguments::parse();
    for &members in &arguments.members {
        for &loss in &arguments.loss {
            for seed in 1..=arguments.seeds {
                println!("{}", measure(members, loss, seed));
            }
        }
    }
}

fn measure(members: usize, loss: u64, seed: u64) -> serde_json::Value {
    let mut network = Network::acquainted(seed, members, Some(b"a shared secret"));
    network.loss_percent = loss;
    let mut time = 0;
    run(&mut network, SETTLE_MS, &mut time);
    let before = sent(&network);
    run(&mut network, COUNT_MS, &mut time);
    let mut rates: Vec<u64> =
        sent(&network).into_iter().zip(before).map(|(after, before)| (after - before) * 1000 / COUNT_MS).collect();
    rates.sort_unstable();
    let ages = ages_ms(&network);
    let changes: Vec<Option<u64>> = (1..=CHANGES).map(|version| change(&mut network, version, &mut time)).collect();
    let death = death(&mut network);
    json!({
        "members": members,
        "loss_percent": loss,
        "seed": seed,
        "bytes_per_second": { "mean": rates.iter().sum::<u64>() / members as u64, "max": rates.last() },
        "report_age_ms": { "p50": at(&ages, 50), "p99": at(&ages, 99) },
        "change_99_ms": changes,
        "death_ms": death,
    })
}

/// Lets time pass, and brokers report.
fn run(network: &mut Network, ms: u64, time: &mut i64) {
    for _ in 0..ms / REPORT_MS {
        *time += 1;
        let living: Vec<usize> = network.living().map(|(node, _)| node).collect();
        for node in living {
            network.with(node, |gossip, _, _| gossip.report(report(node, *time)));
        }
        network.run_ms(REPORT_MS);
    }
}

/// Everything has changed since the last one.
fn report(node: usize, time: i64) -> NodeReport {
    let latency = LatencyDigest { requests: 1000, p50_us: 300, p99_us: 2_000, max_us: 9_000 };
    let mut topic = [0; 16];
    topic[..8].copy_from_slice(&(node as u64).to_le_bytes());
    let position = |at: i32| Position {
        epoch: LeaderEpoch(at % 7),
        log_end: Offset(time * 10_000 + i64::from(at)),
        high_watermark: Offset(time * 10_000),
    };
    NodeReport {
        cores: (0..2).map(|core| CoreReport { core: CoreId(core), load_permille: 500, latency }).collect(),
        devices: vec![DeviceReport { device: 0, full_permille: 400, p99_us: 1_000 }],
        partitions: (0..PARTITIONS).map(|at| ((TopicId(topic), PartitionIndex(at)), position(at))).collect(),
    }
}

/// Bytes sent by each, with those of the headers below.
fn sent(network: &Network) -> Vec<u64> {
    network
        .living()
        .map(|(_, gossip)| gossip.counts())
        .map(|counts| counts.sent_bytes + HEADERS_BYTES * counts.sent)
        .collect()
}

/// How long ago each heard of each, sorted; who has not heard at all counts as since the start.
fn ages_ms(network: &Network) -> Vec<u64> {
    let mut ages = Vec::new();
    for (node, gossip) in network.living() {
        for (other, _) in network.living().filter(|(other, _)| *other != node) {
            let heard = gossip.view().node(NodeId(other as i32)).map(|view| view.heard).unwrap_or_default();
            ages.push(network.now.since_ns(heard) / 1_000_000);
        }
    }
    ages.sort_unstable();
    ages
}

fn at(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied()
}

/// One broker commits a change: until 99 in a hundred have it.
fn change(network: &mut Network, version: u64, time: &mut i64) -> Option<u64> {
    run(network, 2 * REPORT_MS, time);
    let living = network.living().count();
    let first = network.rng.below(living as u64) as usize;
    // All have the version before, by whatever way.
    for node in 0..living {
        network.with(node, |gossip, _, _| gossip.set_version(version - 1));
    }
    let delta = Delta { from: version - 1, to: version, bytes: Bytes::from(vec![1; CHANGE_BYTES]) };
    network.with(first, |gossip, now, _| gossip.on_committed(delta, now));
    network.events.clear();
    let (mut looked, mut have) = (0, 1);
    network.run_until(WAIT_MS, |network| {
        have += network.events[looked..].iter().filter(|(_, _, event)| matches!(event, GossipEvent::Delta(_))).count();
        looked = network.events.len();
        have * 100 >= living * 99
    })
}

/// One broker dies: until the first suspects it, 99 in a hundred do, and 99 in a hundred think it gone.
fn death(network: &mut Network) -> serde_json::Value {
    let living = network.living().count();
    let victim = network.rng.below(living as u64) as usize;
    network.kill(victim);
    network.events.clear();
    let began = network.now;
    let mut standings = BTreeMap::new();
    let mut looked = 0;
    let mut times: [Option<u64>; 3] = [None; 3];
    network.run_until(WAIT_MS, |network| {
        for (_, node, event) in &network.events[looked..] {
            if let GossipEvent::Changed(other, standing) = event
                && *other == NodeId(victim as i32)
            {
                standings.insert(*node, *standing);
            }
        }
        looked = network.events.len();
        let worse = standings.values().filter(|standing| **standing != Standing::Alive).count();
        let gone = standings.values().filter(|standing| **standing == Standing::Gone).count();
        let others = living - 1;
        let ms = network.now.since_ns(began) / 1_000_000;
        for (time, holds) in times.iter_mut().zip([worse > 0, worse * 100 >= others * 99, gone * 100 >= others * 99]) {
            *time = time.or(holds.then_some(ms));
        }
        times.iter().all(Option::is_some)
    });
    json!({ "first_suspects": times[0], "suspected_99": times[1], "gone_99": times[2] })
}
