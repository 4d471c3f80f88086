//! Where partitions should be, given where they are: for a broker that is to be empty, and for brokers that are to have
//! equally much.
//!
//! *Owns*: the choice; as few partitions move as it takes. *Never*: asks or moves anything. *Runs on*: any thread.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::NodeId;
use crate::client::offsets::TopicPartition;
use crate::meta::placement::Load;
use crate::terminal::numbers::counted;

/// The brokers that may have something, and the rack of each.
pub type Brokers = BTreeMap<NodeId, Option<String>>;

/// Where each partition is; the first broker is the preferred leader.
pub type Places = BTreeMap<TopicPartition, Vec<NodeId>>;

/// How often the whole of the partitions is looked through for a better leader.
const LEADER_PASSES_MAX: usize = 100;

/// What is on `broker` goes to the others. Gives the partitions that change, or the first that cannot.
pub fn drain(places: &Places, brokers: &Brokers, broker: NodeId) -> Result<Places, String> {
    let mut load = load(places);
    let mut changed = Places::new();
    for (place, replicas) in places {
        let Some(position) = replicas.iter().position(|node| *node == broker) else { continue };
        let others = brokers.keys().filter(|node| **node != broker && !replicas.contains(node));
        let rank = |node: &NodeId| (racks_with(brokers, replicas, position, *node), load.share(*node).replicas, *node);
        // More racks are better.
        let best = others.copied().min_by_key(|node| {
            let (racks, replicas, node) = rank(node);
            (std::cmp::Reverse(racks), replicas, node)
        });
        let Some(best) = best else {
            let has = counted(replicas.len() as u64, "replica");
            return Err(match brokers.len() - usize::from(brokers.contains_key(&broker)) {
                0 => format!("{place} has {has}, and without broker {broker} there would be no broker"),
                there => {
                    let there = counted(there as u64, "broker");
                    format!("{place} has {has}, and without broker {broker} there would be {there}")
                }
            });
        };
        let mut after = replicas.clone();
        after[position] = best;
        load.remove(replicas);
        if position == 0 {
            lead_by_least(&mut after, &load);
        }
        load.add(&after);
        changed.insert(place.clone(), after);
    }
    Ok(changed)
}

/// Brokers have equally many replicas, and lead equally many. Partitions on brokers that are not among `brokers` stay
/// as they are. Gives the partitions that change.
pub fn balance(places: &Places, brokers: &Brokers) -> Places {
    let is_whole = |replicas: &Vec<NodeId>| replicas.iter().all(|node| brokers.contains_key(node));
    let mut after: Places = places.clone();
    after.retain(|_, replicas| is_whole(replicas));
    let mut load = load(places);
    balance_replicas(&mut after, brokers, &mut load);
    balance_leaders(&mut after, &mut load);
    after.retain(|place, replicas| places.get(place) != Some(replicas));
    after
}

/// Only who leads first changes; no partition moves.
pub fn balance_preferred(places: &Places, brokers: &Brokers) -> Places {
    let mut after: Places = places.clone();
    after.retain(|_, replicas| replicas.iter().all(|node| brokers.contains_key(node)));
    balance_leaders(&mut after, &mut load(places));
    after.retain(|place, replicas| places.get(place) != Some(replicas));
    after
}

fn balance_replicas(places: &mut Places, brokers: &Brokers, load: &mut Load) {
    let mut on: BTreeMap<NodeId, BTreeSet<TopicPartition>> =
        brokers.keys().map(|node| (*node, BTreeSet::new())).collect();
    for (place, replicas) in &*places {
        for node in replicas {
            on.entry(*node).or_default().insert(place.clone());
        }
    }
    while let Some((place, from, to)) = next_move(places, brokers, load, &on) {
        let replicas = places.get_mut(&place).expect("it is on a broker");
        load.remove(replicas);
        replicas.iter_mut().filter(|node| **node == from).for_each(|node| *node = to);
        load.add(replicas);
        on.entry(from).or_default().remove(&place);
        on.entry(to).or_default().insert(place);
    }
}

/// A replica that goes from a broker with more to one with at least two fewer: each makes the whole more even.
fn next_move(
    places: &Places,
    brokers: &Brokers,
    load: &Load,
    on: &BTreeMap<NodeId, BTreeSet<TopicPartition>>,
) -> Option<(TopicPartition, NodeId, NodeId)> {
    let mut by_load: Vec<NodeId> = brokers.keys().copied().collect();
    by_load.sort_by_key(|node| (load.share(*node).replicas, *node));
    for from in by_load.iter().rev() {
        for to in by_load.iter().take_while(|to| load.share(*from).replicas >= load.share(**to).replicas + 2) {
            let fits = |place: &&TopicPartition| {
                let replicas = &places[*place];
                let position = replicas.iter().position(|node| node == from);
                !replicas.contains(to)
                    && position.is_some_and(|position| {
                        racks_with(brokers, replicas, position, *to) >= racks_with(brokers, replicas, position, *from)
                    })
            };
            // Where it leads more than the other, what it leads goes first.
            let leads = load.share(*from).leaders > load.share(*to).leaders;
            let fitting = on[from].iter().filter(fits);
            let best = fitting.max_by_key(|place| (places[*place].first() == Some(from)) == leads);
            if let Some(place) = best {
                return Some((place.clone(), *from, *to));
            }
        }
    }
    None
}

fn balance_leaders(places: &mut Places, load: &mut Load) {
    for _ in 0..LEADER_PASSES_MAX {
        let mut is_better = false;
        for replicas in places.values_mut() {
            load.remove(replicas);
            let before = replicas[0];
            lead_by_least(replicas, load);
            is_better |= replicas[0] != before;
            load.add(replicas);
        }
        if !is_better {
            return;
        }
    }
}

/// Puts the broker first that leads least; whoever is first stays it where that is no better. The partition itself is
/// not counted.
fn lead_by_least(replicas: &mut [NodeId], load: &Load) {
    let leads = |node: &NodeId| load.share(*node).leaders;
    let Some(least) = (0..replicas.len()).min_by_key(|position| leads(&replicas[*position])) else { return };
    if leads(&replicas[least]) < leads(&replicas[0]) {
        replicas.swap(0, least);
    }
}

/// In how many racks the replicas are, with another broker at one position. Brokers without a rack count as none.
fn racks_with(brokers: &Brokers, replicas: &[NodeId], position: usize, node: NodeId) -> usize {
    let nodes = replicas.iter().enumerate().map(|(at, other)| if at == position { node } else { *other });
    let racks = nodes.filter_map(|node| brokers.get(&node)?.as_deref());
    racks.collect::<BTreeSet<_>>().len()
}

fn load(places: &Places) -> Load {
    let mut load = Load::default();
    places.values().for_each(|replicas| load.add(replicas));
    load
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn brokers(racks: &[&str]) -> Brokers {
        let rack = |rack: &&str| Some(rack.to_string()).filter(|rack| rack != "-");
        (1..).map(NodeId).zip(racks.iter().map(rack)).collect()
    }

    fn places(rows: &[&[i32]]) -> Places {
        let place = |partition| TopicPartition { topic: "t".into(), partition };
        let nodes = |ids: &&[i32]| ids.iter().copied().map(NodeId).collect();
        (0..).map(place).zip(rows.iter().map(nodes)).collect()
    }

    fn racks(brokers: &Brokers, replicas: &[NodeId]) -> usize {
        racks_with(brokers, replicas, 0, replicas[0])
    }

    /// Replicas and leaders of the brokers that have most and least.
    fn spread(places: &Places, brokers: &Brokers) -> (usize, usize) {
        let load = load(places);
        let range = |of: &dyn Fn(&NodeId) -> usize| {
            let values: Vec<usize> = brokers.keys().map(of).collect();
            values.iter().max().unwrap_or(&0) - values.iter().min().unwrap_or(&0)
        };
        (range(&|node| load.share(*node).replicas), range(&|node| load.share(*node).leaders))
    }

    #[test]
    fn a_drained_broker_has_nothing_and_the_others_share_it() {
        let before = places(&[&[1, 2], &[2, 3], &[3, 1], &[1, 3], &[4, 2]]);
        let brokers = brokers(&["-", "-", "-", "-"]);
        let changed = drain(&before, &brokers, NodeId(1)).expect("there is room");
        assert_eq!(changed.keys().map(|place| place.partition).collect::<Vec<_>>(), [0, 2, 3]);
        let after: Places = before.into_iter().chain(changed).collect();
        assert!(after.values().all(|replicas| !replicas.contains(&NodeId(1)) && replicas[0] != replicas[1]));
        assert!(load(&after).share(NodeId(4)).replicas >= 3, "{after:?}");
        let message = drain(&places(&[&[1, 2, 3]]), &super::tests::brokers(&["-"; 3]), NodeId(1)).expect_err("no room");
        assert_eq!(message, "t-0 has 3 replicas, and without broker 1 there would be 2 brokers");
    }

    #[test]
    fn a_replacement_is_in_a_rack_of_its_own_where_there_is_one() {
        let brokers = brokers(&["a", "b", "b", "c"]);
        let changed = drain(&places(&[&[1, 2], &[4, 3]]), &brokers, NodeId(1)).expect("there is room");
        let [replicas] = &changed.values().collect::<Vec<_>>()[..] else { panic!("{changed:?}") };
        assert!(replicas.contains(&NodeId(2)) && replicas.contains(&NodeId(4)), "{replicas:?}");
    }

    #[test]
    fn any_cluster_is_balanced_and_no_partition_is_in_fewer_racks() {
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let racks_there = if seed % 2 == 0 { vec!["-"; 5] } else { vec!["a", "a", "b", "b", "c", "c"] };
            let brokers = brokers(&racks_there);
            let few = if seed % 3 == 0 { 3 } else { brokers.len() };
            let rows: Vec<Vec<i32>> = (0..50)
                .map(|_| {
                    let first = rng.below(few as u64) as i32;
                    (0..2).map(|at| (first + at) % few as i32 + 1).collect()
                })
                .collect();
            let before = places(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let changed = balance(&before, &brokers);
            let after: Places = before.clone().into_iter().chain(changed).collect();
            for (place, replicas) in &after {
                assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 2, "{replicas:?}");
                assert!(racks(&brokers, replicas) >= racks(&brokers, &before[place]), "{replicas:?}");
            }
            let (replicas, leaders) = spread(&after, &brokers);
            assert!(replicas <= 2 && leaders <= 2, "seed {seed}: {replicas} and {leaders}");
            assert!(balance(&after, &brokers).len() <= 2, "seed {seed}: it is balanced");
            let (kept, _) = spread(&before, &brokers);
            let reordered: Places = before.clone().into_iter().chain(balance_preferred(&before, &brokers)).collect();
            assert_eq!(spread(&reordered, &brokers).0, kept, "nothing moves");
        }
    }

    #[test]
    fn what_is_on_a_broker_that_is_away_stays() {
        let before = places(&[&[1, 9], &[1, 9], &[1, 9], &[1, 9]]);
        assert_eq!(balance(&before, &brokers(&["-", "-"])), Places::new());
    }
}
