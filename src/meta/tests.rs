//! Any sequence of plans, and what holds after each of them.
//!
//! Beside the image stands what the brokers hold: whoever is in the ISR or eligible must have everything that was ever
//! committed. That is what acknowledged records depend on.

use std::collections::{BTreeMap, BTreeSet};

use super::balance::plan_balance_leaders;
use super::brokers::{Heartbeat, Registration, plan_fence, plan_heartbeat, plan_register, plan_unregister};
use super::configs::{Change, ConfigChange, plan_config_change};
use super::controller::{MetaError, NewTopic, plan_add_partitions, plan_create_topic};
use super::election::{Election, LeaderRules, plan_election, plan_leaderless};
use super::fleet::Fleet;
use super::isr::{IsrChange, plan_alter_partition};
use super::reassign::{MoveWish, plan_move};
use super::testing::broker;
use super::{Image, MetaRecord, PartitionState, Topic};
use crate::base::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId};
use crate::base::rng::Rng;
use crate::config::{ConfigOp, ConfigResource, OpKind, Settings};

const BROKERS: i32 = 5;

type Id = (TopicId, PartitionIndex);

/// What the next step may do beyond what is clean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    None,
    /// Somebody who lacks records may lead.
    Unclean,
    /// What this broker held is gone.
    Of(NodeId),
}

struct World {
    image: Image,
    settings: Settings,
    rng: Rng,
    /// Who has everything that was committed. Not there: everybody, since nothing was, or it is lost.
    holders: BTreeMap<Id, BTreeSet<NodeId>>,
    /// Who led in each epoch.
    leaders: BTreeMap<(Id, LeaderEpoch), NodeId>,
    incarnations: u8,
}

impl World {
    /// All brokers are there, and topics of 1, 2 and 3 copies.
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let settings = Settings { min_insync_replicas: 1 + rng.below(3) as i32, ..Settings::default() };
        let (holders, leaders) = (BTreeMap::new(), BTreeMap::new());
        let mut world = World { image: Image::default(), settings, rng, holders, leaders, incarnations: 0 };
        (1..=BROKERS).for_each(|id| world.come(NodeId(id)));
        for copies in 1..=3 {
            let topic = NewTopic {
                name: format!("t{copies}"),
                partitions: 3,
                replication_factor: copies,
                assignments: Vec::new(),
                settings: Vec::new(),
                id: None,
            };
            let planned =
                plan_create_topic(Fleet::of(&world.image, NodeId(1)), &topic, &world.settings, &mut world.rng);
            world.apply(planned, Loss::None);
        }
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    fn node(&mut self) -> NodeId {
        NodeId(self.below(BROKERS as usize) as i32 + 1)
    }

    fn nodes(&mut self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = (0..1 + self.below(4)).map(|_| self.node()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let turn = self.below(nodes.len());
        nodes.rotate_left(turn);
        nodes
    }

    fn partition(&mut self) -> (Topic, PartitionIndex, PartitionState) {
        let at = self.below(self.image.partitions_count());
        let (topic, partition, state) = self.image.states().nth(at).expect("within the count");
        (topic.clone(), partition, state.clone())
    }

    fn fleet(&self) -> Fleet<'_> {
        Fleet::of(&self.image, NodeId(1))
    }

    /// The broker registers, unless another one has its id, and says that it is there.
    fn come(&mut self, id: NodeId) {
        self.register(id, false);
        self.beat(id, true, false);
    }

    fn register(&mut self, id: NodeId, has_lease: bool) {
        self.incarnations = self.incarnations.wrapping_add(1);
        let sample = broker(id.0, 1);
        let epoch = self.image.broker(id).map(|broker| broker.epoch);
        let wish = Registration {
            id,
            incarnation: [self.incarnations; 16],
            shared: sample.shared,
            per_core: sample.per_core,
            peer: sample.peer,
            cores: sample.cores,
            rack: sample.rack,
            directory: sample.directory,
            kept_since: epoch.filter(|_| self.rng.below(2) == 0),
        };
        let loss = if wish.kept_since.is_some() { Loss::None } else { Loss::Of(id) };
        let planned = plan_register(self.fleet(), &wish, has_lease, &self.settings).map(|(_, records)| records);
        self.apply(planned, loss);
    }

    fn beat(&mut self, id: NodeId, caught_up: bool, wants_shut_down: bool) {
        let epoch = self.image.broker(id).map_or(BrokerEpoch(0), |broker| broker.epoch);
        let beat = Heartbeat { id, epoch, caught_up, wants_fence: false, wants_shut_down };
        let planned = plan_heartbeat(self.fleet(), &beat, &self.settings);
        let leads = self.image.states().any(|(_, _, state)| state.in_isr(id));
        assert!(!planned.as_ref().is_ok_and(|(answer, _)| answer.should_shut_down && leads));
        self.apply(planned.map(|(_, records)| records), Loss::None);
    }

    /// A leader says which of its replicas are in sync; now and then it is wrong about the epochs.
    fn alter_isr(&mut self) {
        let (topic, partition, state) = self.partition();
        let Some(leader) = state.leader() else { return };
        let replicas = state.replicas().iter().copied();
        let isr: Vec<NodeId> = replicas.filter(|node| *node == leader || self.rng.below(3) > 0).collect();
        let wrong = |rng: &mut Rng| if rng.below(8) == 0 { rng.below(3) as i32 - 1 } else { 0 };
        let wish = IsrChange {
            topic: topic.id,
            partition,
            leader: if self.rng.below(10) == 0 { self.node() } else { leader },
            leader_epoch: LeaderEpoch(state.leader_epoch().0 + wrong(&mut self.rng)),
            partition_epoch: PartitionEpoch(state.partition_epoch().0 + wrong(&mut self.rng)),
            isr: isr.iter().map(|node| (*node, BrokerEpoch(-1))).collect(),
        };
        let planned = plan_alter_partition(self.fleet(), &wish, &self.settings);
        let stale = wish.leader_epoch != state.leader_epoch() || wish.partition_epoch != state.partition_epoch();
        assert!(!stale || planned.is_err(), "{wish:?}");
        if planned.is_ok() {
            // A leader proposes only who has everything.
            if let Some(holders) = self.holders.get_mut(&(topic.id, partition)) {
                holders.extend(isr);
            }
        }
        self.apply(planned.map(|(_, records)| records), Loss::None);
    }

    fn step(&mut self) {
        let node = self.node();
        match self.below(15) {
            0 | 1 => self.come(node),
            2 => self.register(node, true),
            3 => self.beat(node, false, false),
            4 => self.beat(node, true, true),
            5 | 6 => {
                let planned = plan_fence(self.fleet(), node, &self.settings);
                self.apply(Ok(planned), Loss::None);
            }
            7 if self.image.brokers().count() > 1 => {
                let planned = plan_unregister(self.fleet(), node, &self.settings);
                self.apply(planned, Loss::None);
            }
            8..=10 => self.alter_isr(),
            11 => self.reassign(),
            12 => self.elect(),
            13 => self.configure(),
            _ => self.commit(),
        }
    }

    fn reassign(&mut self) {
        let (topic, partition, _) = self.partition();
        let replicas = (self.below(3) > 0).then(|| self.nodes());
        let wish = MoveWish { topic: topic.name, partition, replicas, may_change_count: self.below(2) == 0 };
        let planned = plan_move(self.fleet(), &wish, &self.settings);
        self.apply(planned, Loss::None);
    }

    fn elect(&mut self) {
        let (topic, partition, _) = self.partition();
        let planned = match self.below(4) {
            0 => Ok(plan_balance_leaders(self.fleet(), &self.settings)),
            1 => plan_election(self.fleet(), &topic.name, partition, Election::Unclean, &self.settings),
            _ => plan_election(self.fleet(), &topic.name, partition, Election::Preferred, &self.settings),
        };
        self.apply(planned, Loss::Unclean);
    }

    fn configure(&mut self) {
        let (topic, partition, _) = self.partition();
        let planned = if self.below(2) == 0 {
            let value = (1 + self.below(3)).to_string();
            let op = ConfigOp { name: "min.insync.replicas".into(), kind: OpKind::Set, value };
            let resource = ConfigResource::Topic(topic.name);
            let wish = ConfigChange { resource, change: Change::Alter(vec![op]) };
            plan_config_change(&self.image, &wish, &self.settings)
        } else if partition.0 == 0 && topic.partitions < 6 {
            let mut rng = self.rng.clone();
            plan_add_partitions(self.fleet(), &topic.name, topic.partitions + 1, None, &mut rng)
        } else {
            Ok(Vec::new())
        };
        self.apply(planned, Loss::None);
    }

    /// Every leader that may takes a record, and all of its ISR get it.
    fn commit(&mut self) {
        for (topic, partition, state) in self.image.states() {
            let floor = LeaderRules::of(topic, &self.settings).isr_floor(state.replicas().len());
            if state.leader().is_some() && state.isr_len() >= floor {
                self.holders.insert((topic.id, partition), state.isr().collect());
            }
        }
    }

    fn apply(&mut self, planned: Result<Vec<MetaRecord>, MetaError>, loss: Loss) {
        let Ok(records) = planned else { return };
        let before = self.image.clone();
        records.iter().for_each(|record| self.image.apply(record).expect("a plan fits"));
        for (topic, partition, after) in self.image.states() {
            let id = (topic.id, partition);
            let before = before.partition(topic.id, partition);
            if let Some(before) = before {
                check_change(before, after);
            }
            self.check_state(topic, after);
            if let Some(leader) = after.leader() {
                let first = self.leaders.entry((id, after.leader_epoch())).or_insert(leader);
                assert_eq!(*first, leader, "{id:?} has two leaders in epoch {}", after.leader_epoch());
            }
            let Some(holders) = self.holders.get_mut(&id) else { continue };
            if let Loss::Of(node) = loss {
                holders.remove(&node);
                // Nobody has more than the one that lost it.
                if after.isr().chain(after.elr()).eq([node]) {
                    self.holders.remove(&id);
                    continue;
                }
            }
            if !after.isr().chain(after.elr()).all(|node| holders.contains(&node)) {
                assert!(loss == Loss::Unclean, "{after:?} gives up what {holders:?} hold; it was {before:?}");
                self.holders.remove(&id);
            }
        }
    }

    fn check_state(&self, topic: &Topic, state: &PartitionState) {
        let active = |node: NodeId| self.fleet().is_active(node);
        assert!(state.isr().all(active), "somebody in the ISR is not there: {state:?}");
        let floor = LeaderRules::of(topic, &self.settings).isr_floor(state.replicas().len());
        assert!(state.isr_len() < floor || state.elr().next().is_none(), "nobody need be eligible: {state:?}");
        if state.leader().is_none() {
            assert_eq!(state.isr_len(), 0, "{state:?} could have a leader");
            assert!(!state.elr().any(active), "{state:?} could have a leader");
        }
        assert!(
            !state.is_moving()
                || !state.adding().all(|node| state.in_isr(node))
                || state.isr_len() == 0
                || state.isr().all(|node| state.removing().any(|other| other == node)),
            "{state:?} has moved"
        );
    }

    /// Everybody comes back, and every leader's followers catch up.
    fn heal(&mut self) {
        (1..=BROKERS).for_each(|id| self.come(NodeId(id)));
        let planned = plan_leaderless(self.fleet(), &self.settings);
        assert_eq!(planned, [], "who came was elected then");
        for _ in 0..2 {
            let states: Vec<(TopicId, PartitionIndex, PartitionState)> =
                self.image.states().map(|(topic, partition, state)| (topic.id, partition, state.clone())).collect();
            for (topic, partition, state) in states {
                let wish = IsrChange {
                    topic,
                    partition,
                    leader: state.leader().expect("everybody is there"),
                    leader_epoch: state.leader_epoch(),
                    partition_epoch: state.partition_epoch(),
                    isr: state.replicas().iter().map(|node| (*node, BrokerEpoch(-1))).collect(),
                };
                let planned = plan_alter_partition(self.fleet(), &wish, &self.settings).expect("allowed");
                if let Some(holders) = self.holders.get_mut(&(topic, partition)) {
                    holders.extend(state.replicas());
                }
                self.apply(Ok(planned.1), Loss::None);
            }
        }
        let balanced = plan_balance_leaders(self.fleet(), &self.settings);
        self.apply(Ok(balanced), Loss::None);
        for (_, _, state) in self.image.states() {
            assert_eq!(state.leader(), Some(state.preferred_leader()), "{state:?}");
            assert!(!state.is_moving() && state.isr_len() == state.replicas().len(), "{state:?}");
        }
    }
}

fn check_change(before: &PartitionState, after: &PartitionState) {
    assert_eq!(before == after, before.partition_epoch() == after.partition_epoch(), "{before:?}, {after:?}");
    assert!(before.partition_epoch() <= after.partition_epoch());
    assert!(before.leader_epoch() <= after.leader_epoch());
    assert!(before.leader() == after.leader() || before.leader_epoch() < after.leader_epoch());
}

#[test]
fn no_sequence_of_plans_breaks_what_must_hold() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.step();
        }
        world.heal();
    }
}
