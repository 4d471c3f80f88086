//! Where the replicas of partitions go: on brokers with few of them, in different racks, and with the leaders spread.
//!
//! Kafka's `StripedReplicaPlacer` goes round the racks and brokers from a random start; here the load each broker has
//! is counted instead, so that brokers that joined later fill up. What it guarantees holds here too: replicas of one
//! partition share a rack only where there are fewer racks than replicas, and no fenced broker is taken, nor made the
//! leader, while there is another.
//!
//! *Owns*: the choice. *Never*: moves what is placed. *Runs on*: core 0, and tools that plan moves.

use std::collections::BTreeMap;

use super::fleet::{Fleet, Usable};
use crate::base::ids::NodeId;
use crate::base::rng::Rng;

/// What a broker has of partitions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Share {
    pub replicas: usize,
    /// Partitions whose first replica it has, and so should lead.
    pub leaders: usize,
}

/// What each broker has, with what was placed and is not in any image yet.
#[derive(Clone, Default, Debug)]
pub struct Load {
    shares: BTreeMap<NodeId, Share>,
}

impl Load {
    pub fn of(fleet: Fleet<'_>) -> Load {
        let mut load = Load::default();
        fleet.image.states().for_each(|(_, _, state)| load.add(state.replicas()));
        load
    }

    pub fn add(&mut self, replicas: &[NodeId]) {
        for (position, node) in replicas.iter().enumerate() {
            let share = self.shares.entry(*node).or_default();
            share.replicas += 1;
            share.leaders += usize::from(position == 0);
        }
    }

    /// Takes back what was added.
    pub fn remove(&mut self, replicas: &[NodeId]) {
        for (position, node) in replicas.iter().enumerate() {
            let share = self.shares.entry(*node).or_default();
            share.replicas -= 1;
            share.leaders -= usize::from(position == 0);
        }
    }

    pub fn share(&self, node: NodeId) -> Share {
        self.shares.get(&node).copied().unwrap_or_default()
    }
}

/// Places one partition on `count` of the brokers, and counts it. The caller has checked that there are so many.
pub fn place(brokers: &[Usable], count: usize, load: &mut Load, rng: &mut Rng) -> Vec<NodeId> {
    assert!(count > 0 && count <= brokers.len());
    // Among equals each partition begins somewhere else.
    let start = rng.below(brokers.len() as u64) as usize;
    let mut chosen: Vec<&Usable> = Vec::with_capacity(count);
    while chosen.len() < count {
        let rank = |position: usize| {
            let broker = &brokers[position];
            let share = load.share(broker.id);
            let in_rack = chosen.iter().filter(|other| broker.rack.is_some() && other.rack == broker.rack).count();
            let load = if chosen.is_empty() { [share.leaders, share.replicas] } else { [share.replicas, 0] };
            (broker.fenced, in_rack, load, (position + brokers.len() - start) % brokers.len())
        };
        let free = (0..brokers.len()).filter(|position| chosen.iter().all(|other| other.id != brokers[*position].id));
        let best = free.min_by_key(|position| rank(*position)).expect("fewer are chosen than there are");
        chosen.push(&brokers[best]);
    }
    let replicas: Vec<NodeId> = chosen.iter().map(|broker| broker.id).collect();
    load.add(&replicas);
    replicas
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// One broker for each text, from 1 on: its rack, or `-`; `!` before it when fenced.
    fn brokers(racks: &[&str]) -> Vec<Usable> {
        let ids = (1..).map(NodeId);
        let broker = |(id, text): (NodeId, &&str)| {
            let rack = Some(text.trim_start_matches('!').to_owned()).filter(|rack| rack != "-");
            Usable { id, rack, fenced: text.starts_with('!') }
        };
        ids.zip(racks).map(broker).collect()
    }

    /// Places `partitions` and gives the lowest and the highest share of any broker.
    fn spread(brokers: &[Usable], count: usize, partitions: usize, load: &mut Load) -> (Share, Share) {
        for seed in 0..partitions as u64 {
            let replicas = place(brokers, count, load, &mut Rng::new(seed));
            assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), count, "{replicas:?}");
            let racks = |of: &dyn Fn(&&Usable) -> bool| {
                let racks = brokers.iter().filter(of).filter_map(|broker| broker.rack.as_deref());
                racks.collect::<BTreeSet<_>>().len()
            };
            let used = racks(&|broker| replicas.contains(&broker.id));
            assert_eq!(used, racks(&|_| true).min(count), "{replicas:?}");
        }
        let shares = brokers.iter().map(|broker| load.share(broker.id));
        let least = shares
            .clone()
            .reduce(|a, b| Share { replicas: a.replicas.min(b.replicas), leaders: a.leaders.min(b.leaders) });
        let most =
            shares.reduce(|a, b| Share { replicas: a.replicas.max(b.replicas), leaders: a.leaders.max(b.leaders) });
        (least.expect("there are brokers"), most.expect("there are brokers"))
    }

    #[test]
    fn replicas_and_leaders_are_spread_over_brokers_and_racks() {
        for (racks, count) in [
            (&["-", "-", "-"][..], 1),
            (&["-", "-", "-"], 3),
            (&["-", "-", "-", "-", "-"], 3),
            (&["a", "b", "c"], 2),
            (&["a", "a", "b", "b", "c", "c"], 3),
            (&["a", "a", "b", "b"], 3),
        ] {
            let (least, most) = spread(&brokers(racks), count, 600, &mut Load::default());
            assert!(most.replicas - least.replicas <= 2, "{racks:?}: {least:?} to {most:?}");
            assert!(most.leaders - least.leaders <= 2, "{racks:?}: {least:?} to {most:?}");
        }
    }

    #[test]
    fn a_broker_that_joins_later_fills_up() {
        let mut load = Load::default();
        spread(&brokers(&["-", "-", "-"]), 2, 30, &mut load);
        assert_eq!(load.share(NodeId(4)), Share::default());
        spread(&brokers(&["-", "-", "-", "-"]), 2, 20, &mut load);
        assert!(load.share(NodeId(4)).replicas >= 18, "{load:?}");
        load.remove(&[NodeId(4)]);
        assert_eq!(load.share(NodeId(4)).replicas, 19);
    }

    #[test]
    fn a_fenced_broker_comes_last() {
        let brokers = brokers(&["!a", "a", "a"]);
        let mut load = Load::default();
        for seed in 0..20 {
            assert!(!place(&brokers, 2, &mut load, &mut Rng::new(seed)).contains(&NodeId(1)));
            assert_eq!(place(&brokers, 3, &mut load, &mut Rng::new(seed))[2], NodeId(1));
        }
    }
}
