//! Gossip between some brokers on a network that loses, repeats and invents datagrams.

use bytes::Bytes;

#[cfg(feature = "bugs")]
use corelog::base::bug::{self, Bug};
use corelog::base::ids::{CoreId, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId};
use corelog::base::rng::Rng;
use corelog::gossip::frame::{FrameWriter, Head, SectionKind, open};
use corelog::gossip::report::{CoreReport, DeviceReport, LatencyDigest, NodeReport, Position};
use corelog::gossip::{Delta, GossipEvent, Refusal, Seal, Standing};

use network::{Network, address, member};

#[path = "../perf/gossip/network.rs"]
mod network;

const KEY: Option<&[u8]> = Some(b"a shared secret");

fn all_think(network: &Network, of: usize, standing: Standing) -> bool {
    let node = NodeId(of as i32);
    network.living().filter(|(other, _)| *other != of).all(|(_, gossip)| gossip.standing(node) == Some(standing))
}

fn all_are_acquainted(network: &Network) -> bool {
    network.living().all(|(node, _)| all_think(network, node, Standing::Alive))
}

fn delta(from: u64, to: u64) -> Delta {
    Delta { from, to, bytes: Bytes::from(vec![to as u8; 100]) }
}

#[test]
fn those_who_know_one_address_find_all_others() {
    for nodes in [2, 3, 10, 40] {
        let mut network = Network::new(nodes as u64, KEY);
        network.loss_percent = 5;
        for node in 0..nodes {
            network.start(node, 100);
            network.with(node, |gossip, _, _| gossip.join(address((node + 1) % nodes)));
        }
        let took = network.run_until(60_000, all_are_acquainted);
        assert!(took.is_some_and(|ms| ms < 30_000), "{nodes}: {took:?}");
        network.events.clear();
        network.run_ms(10_000);
        let suspected =
            network.events.iter().any(|(_, _, event)| matches!(event, GossipEvent::Changed(_, Standing::Gone)));
        assert!(!suspected, "{nodes}: nobody is thought gone for a lost datagram: {:?}", network.events);
    }
}

#[test]
fn brokers_that_metadata_names_are_asked() {
    let mut network = Network::new(20, KEY);
    (0..30).for_each(|node| network.start(node, 100));
    let brokers: Vec<_> = (0..30).map(|node| (NodeId(node), address(node as usize))).collect();
    network.with(0, |gossip, _, _| gossip.set_brokers(brokers));
    assert!(network.run_until(20_000, all_are_acquainted).is_some());
    network.run_ms(2_000);
    assert!(network.node(0).next_deadline().is_some_and(|at| at > network.now));
}

#[test]
fn who_is_killed_is_suspected_soon_and_gone_later_and_comes_back() {
    let mut network = Network::acquainted(1, 3, KEY);
    network.run_ms(3_000);
    for round in 1..=3 {
        network.kill(1);
        network.events.clear();
        let suspected = network.run_until(10_000, |network| {
            network.events.iter().any(|(_, _, event)| *event == GossipEvent::Changed(NodeId(1), Standing::Suspected))
        });
        assert!(suspected.is_some_and(|ms| ms <= 1_600), "{suspected:?}");
        let gone = network.run_until(10_000, |network| all_think(network, 1, Standing::Gone));
        assert!(gone.is_some_and(|ms| ms >= 1_000), "it has time to object: {gone:?}");
        network.start(1, 100 + round);
        network.with(1, |gossip, _, _| gossip.join(address(2)));
        assert!(network.run_until(5_000, all_are_acquainted).is_some());
    }
}

#[test]
fn who_says_that_it_leaves_is_gone_at_once() {
    let mut network = Network::acquainted(2, 5, KEY);
    network.run_ms(3_000);
    network.with(4, |gossip, now, out| gossip.leave(now, out));
    network.run_ms(5);
    network.kill(4);
    let gone = network.run_until(5_000, |network| all_think(network, 4, Standing::Gone));
    assert!(gone.is_some_and(|ms| ms < 800), "{gone:?}");
}

#[test]
fn a_run_whose_clock_went_back_passes_the_earlier_one() {
    let mut network = Network::acquainted(3, 4, KEY);
    network.run_ms(3_000);
    network.kill(2);
    network.run_ms(200);
    network.start(2, 7);
    network.with(2, |gossip, _, _| gossip.join(address(0)));
    assert!(network.run_until(10_000, all_are_acquainted).is_some());
    assert!(network.node(2).me().generation > 100);
    network.run_ms(10_000);
    assert!(all_are_acquainted(&network));
}

#[test]
fn halves_that_were_cut_off_from_each_other_find_together_again() {
    let mut network = Network::acquainted(4, 6, KEY);
    network.run_ms(2_000);
    network.cut_off = [0, 1, 2].into();
    network.run_ms(20_000);
    assert_eq!(network.node(0).standing(NodeId(3)), Some(Standing::Gone));
    assert_eq!(network.node(0).standing(NodeId(1)), Some(Standing::Alive));
    network.cut_off.clear();
    let healed = network.run_until(60_000, all_are_acquainted);
    assert!(healed.is_some(), "all are acquainted again");
}

#[test]
fn one_that_was_cut_off_from_all_asks_its_seeds() {
    let mut network = Network::acquainted(5, 3, KEY);
    network.with(0, |gossip, _, _| gossip.join(address(1)));
    network.run_ms(2_000);
    network.cut_off = [0].into();
    network.run_ms(20_000);
    assert_eq!(network.node(0).standing(NodeId(1)), Some(Standing::Gone));
    network.cut_off.clear();
    assert!(network.run_until(30_000, all_are_acquainted).is_some());
}

fn report(end: i64) -> NodeReport {
    let latency = LatencyDigest { requests: 5, p50_us: 200, p99_us: 900, max_us: 4_000 };
    let position = Position { epoch: LeaderEpoch(3), log_end: Offset(end), high_watermark: Offset(end - 1) };
    NodeReport {
        cores: (0..2).map(|core| CoreReport { core: CoreId(core), load_permille: 300, latency }).collect(),
        devices: vec![DeviceReport { device: 0, full_permille: 250, p99_us: 800 }],
        partitions: (0..100).map(|at| ((TopicId([7; 16]), PartitionIndex(at)), position)).collect(),
    }
}

#[test]
fn reports_reach_everybody_and_the_newest_counts() {
    let mut network = Network::acquainted(6, 5, KEY);
    network.loss_percent = 5;
    for end in [10, 20, 30] {
        network.with(0, |gossip, _, _| gossip.report(report(end)));
        let took = network.run_until(70_000, |network| {
            network.living().skip(1).all(|(_, gossip)| {
                let view = gossip.view();
                let last = view.position(TopicId([7; 16]), PartitionIndex(99));
                view.node(NodeId(0)).is_some_and(|node| node.cores().count() == 2 && node.devices().count() == 1)
                    && view.partitions() == 100
                    && last.is_some_and(|(node, last)| node == NodeId(0) && last.log_end == Offset(end))
            })
        });
        assert!(took.is_some(), "{end}");
    }
}

/// Whether a broker was ever told that a partition is less far than it was told before.
fn a_position_goes_back(seed: u64) -> bool {
    let mut network = Network::acquainted(seed, 8, KEY);
    network.loss_percent = 20;
    let mut told = [0; 8];
    for end in 1..=60 {
        let position = Position { epoch: LeaderEpoch(1), log_end: Offset(end), high_watermark: Offset(end) };
        let partitions = [((TopicId([7; 16]), PartitionIndex(0)), position)].into();
        let report = NodeReport { partitions, ..NodeReport::default() };
        network.with(0, |gossip, _, _| gossip.report(report));
        let until = network.now.after_ms(250);
        while network.step(until) {
            for (node, gossip) in network.living() {
                let position = gossip.view().position(TopicId([7; 16]), PartitionIndex(0));
                let end = position.map_or(0, |(_, position)| position.log_end.0);
                if end < told[node] {
                    return true;
                }
                told[node] = end;
            }
        }
    }
    assert!(told[1..].iter().all(|end| *end > 40), "{told:?}");
    false
}

#[test]
fn what_is_told_never_goes_back() {
    assert!(!(1..=10).any(a_position_goes_back));
}

#[cfg(feature = "bugs")]
#[test]
fn reports_that_are_taken_out_of_order_are_found() {
    bug::set(Some(Bug::TakeStaleReports));
    assert!((1..=10).any(a_position_goes_back));
}

#[test]
fn committed_metadata_reaches_everybody_in_order_and_a_gap_is_told() {
    let mut network = Network::acquainted(7, 10, KEY);
    network.loss_percent = 5;
    for to in 1..=20 {
        network.with((to % 3) as usize, |gossip, now, _| {
            (1..=to).for_each(|to| gossip.on_committed(delta(to - 1, to), now));
        });
        network.run_ms(20);
    }
    let took = network.run_until(20_000, |network| network.living().all(|(_, gossip)| gossip.version() == 20));
    assert!(took.is_some());
    for node in 3..10 {
        let versions: Vec<(u64, u64)> = network
            .events
            .iter()
            .filter(|(_, at, _)| *at == node)
            .filter_map(|(_, _, event)| match event {
                GossipEvent::Delta(delta) => Some((delta.from, delta.to)),
                _ => None,
            })
            .collect();
        assert_eq!(versions, (1..=20).map(|to| (to - 1, to)).collect::<Vec<_>>(), "{node}");
    }

    // What is too long to travel leaves a gap, and all are told whom to ask.
    network.events.clear();
    let long = Delta { bytes: Bytes::from(vec![0; 5_000]), ..delta(20, 21) };
    network.with(0, |gossip, now, _| gossip.on_committed(long, now));
    network.run_ms(4_000);
    for node in 1..10 {
        let told = network.events.iter().any(|(_, at, event)| {
            *at == node && *event == GossipEvent::DeltaGap { have: 20, seen: 21, ask: NodeId(0) }
        });
        assert!(told, "{node}");
        network.with(node, |gossip, _, _| gossip.set_version(21));
    }
    network.events.clear();
    network.run_ms(20_000);
    let gaps = network.events.iter().any(|(_, _, event)| matches!(event, GossipEvent::DeltaGap { .. }));
    assert!(!gaps, "there is none any more");
}

#[test]
fn what_is_forged_replayed_or_of_another_cluster_changes_nothing() {
    let mut network = Network::acquainted(8, 3, KEY);
    network.run_ms(2_000);
    let mut genuine = None;
    while genuine.is_none() {
        let until = network.now.after_ms(1_000);
        assert!(network.step(until));
        genuine = network.overhear(0, 1);
    }
    let genuine = genuine.expect("the loop has found one");
    network.run_ms(100);
    let seal = network.seal();
    let (head, _) = open(&genuine, &seal).expect("it is genuine");
    let made = |head: Head, seal: &Seal| {
        let mut writer = FrameWriter::new(head, seal);
        let mut down = vec![0, 0, 0, 0];
        down.extend_from_slice(&200u64.to_le_bytes());
        writer.push(SectionKind::Superseded, &down);
        writer.finish(seal)
    };
    let next = Head { sequence: head.sequence + 1_000, ..head };
    let ours = Head { from: NodeId(1), ..next };
    let early = Head { generation: 99, ..next };
    let damaged = {
        let mut bytes = genuine.to_vec();
        bytes[50] ^= 4;
        Bytes::from(bytes)
    };
    let counts = |network: &Network| *network.node(1).counts();
    for (datagram, refusal) in [
        (genuine.clone(), Refusal::Replayed),
        (damaged, Refusal::Forged),
        (made(next, &Seal::new("a cluster", None)), Refusal::Forged),
        (made(next, &Seal::new("a cluster", Some(b"a guessed secret"))), Refusal::Forged),
        (made(next, &Seal::new("another cluster", KEY)), Refusal::OtherCluster),
        (made(ours, &seal), Refusal::Ourselves),
        (made(early, &seal), Refusal::OldGeneration),
        (Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"), Refusal::Damaged),
        (Bytes::from_static(b"CLG\x02 of a later version"), Refusal::OtherForm),
    ] {
        let before = counts(&network);
        network.events.clear();
        let result = network.with(1, |gossip, now, out| gossip.on_datagram(&address(0), &datagram, now, out));
        assert_eq!(result, Some(Err(refusal)));
        let after = counts(&network);
        assert_eq!(after.refused(refusal), before.refused(refusal) + 1);
        assert_eq!(network.events, [], "{refusal:?}");
    }
    network.run_ms(5_000);
    assert!(all_are_acquainted(&network));
    assert_eq!(network.node(1).me(), &member(1, 100));
}

#[test]
fn no_datagram_does_harm() {
    // Without a key whoever reaches the port can say anything.
    let mut network = Network::acquainted(9, 3, None);
    let seal = network.seal();
    let mut rng = Rng::new(5);
    let mut seen = Vec::new();
    for round in 0..30_000u64 {
        let mut datagram = Vec::new();
        if seen.is_empty() || rng.below(3) == 0 {
            let head = Head {
                from: NodeId(rng.below(5) as i32 + 2),
                generation: 100 + round / 10_000,
                sequence: round,
                version: rng.below(4),
            };
            let mut writer = FrameWriter::new(head, &seal);
            let kinds = [
                SectionKind::Swim,
                SectionKind::Report,
                SectionKind::Delta,
                SectionKind::Ahead,
                SectionKind::Superseded,
                SectionKind::Join,
            ];
            let noise: Vec<u8> = (0..rng.below(300)).map(|_| rng.below(4) as u8).collect();
            writer.push(kinds[rng.below(6) as usize], &noise);
            datagram.extend_from_slice(&writer.finish(&seal));
        } else {
            let source: &Bytes = &seen[rng.below(seen.len() as u64) as usize];
            let (head, sections) = open(source, &seal).expect("it was sent");
            let mut writer = FrameWriter::new(Head { sequence: head.sequence + round, ..head }, &seal);
            for (kind, section) in sections {
                let mut section = section.to_vec();
                for _ in 0..rng.below(4) {
                    let at = rng.below(section.len() as u64) as usize;
                    section[at] = [0, 1, 0xff, rng.below(256) as u8][rng.below(4) as usize];
                }
                section.truncate(writer.room());
                writer.push(kind, &section);
            }
            datagram.extend_from_slice(&writer.finish(&seal));
        }
        network.carry(2, rng.below(2) as usize, Bytes::from(datagram));
        let until = network.now.after_ms(2);
        while network.step(until) {
            for to in 0..2 {
                seen.extend(network.overhear(2, to).filter(|_| rng.below(50) == 0 && seen.len() < 200));
            }
        }
    }
    let counts = network.node(0).counts();
    assert!(counts.refused(Refusal::Nonsense) > 1_000, "{counts:?}");
}

#[test]
fn a_flood_is_dropped_and_told_once() {
    let mut network = Network::acquainted(10, 2, KEY);
    for _ in 0..20_000 {
        network.with(0, |gossip, now, out| gossip.on_datagram(&address(1), b"x", now, out));
    }
    let counts = network.node(0).counts();
    assert_eq!(counts.refused(Refusal::Damaged) + counts.refused(Refusal::Flood), 20_000);
    assert!(counts.refused(Refusal::Flood) >= 14_900, "{counts:?}");
}
