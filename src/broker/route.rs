//! Routing: which core owns a partition, and which broker a listener says leads it.
//!
//! *Owns*: the mapping partition → core → broker id. *Never*: remembers it: it is computed, so that the number of
//! cores may change between runs. *Runs on*: every core.

use crate::base::checksum::crc32;
use crate::base::ids::{BrokerId, CoreId, LeaderEpoch, NodeId, PartitionIndex, TopicId};
use crate::broker::cluster::ControllerAt;
use crate::broker::effect::ListenerKind;
use crate::broker::message::TopicPartition;
use crate::broker::shard::Shard;
use crate::config::Address;
use crate::meta::{PartitionState, Topic};
use crate::wire::errors::ErrorCode;

/// Core ids of one node fit below this on per-core listeners: broker id = node × 1000 + core.
const CORE_IDS_PER_NODE: i32 = 1000;

/// The core that owns a partition.
pub fn owner(of: TopicPartition, cores: u16) -> CoreId {
    assert!(cores > 0);
    assert!(of.partition.0 >= 0);
    let spread = u64::from(crc32(&of.topic.0)) + of.partition.0 as u64;
    CoreId((spread % u64::from(cores)) as u16)
}

/// A partition that a client names by its index, if the topic has it.
pub fn partition_of(topic: &Topic, index: i32) -> Option<TopicPartition> {
    (0..topic.partitions)
        .contains(&index)
        .then_some(TopicPartition { topic: topic.id, partition: PartitionIndex(index) })
}

/// All partitions of a topic, from 0 on.
pub fn partitions_of(topic: &Topic) -> impl Iterator<Item = TopicPartition> + use<> {
    let id = topic.id;
    (0..topic.partitions).map(move |index| TopicPartition { topic: id, partition: PartitionIndex(index) })
}

/// The process behind the id of a broker that a client of this listener names.
pub fn node_of(listener: ListenerKind, id: i32) -> NodeId {
    match listener {
        ListenerKind::Shared | ListenerKind::Peer => NodeId(id),
        ListenerKind::PerCore => NodeId(id.div_euclid(CORE_IDS_PER_NODE)),
    }
}

/// How a listener shows a node where its core 0 is meant.
pub fn core_0_of(listener: ListenerKind, node: NodeId) -> BrokerId {
    match listener {
        ListenerKind::Shared | ListenerKind::Peer => BrokerId(node.0),
        ListenerKind::PerCore => per_core_id(node, CoreId(0)),
    }
}

/// A broker as one kind of listener shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownBroker {
    pub id: BrokerId,
    pub node: NodeId,
    pub address: Address,
    pub rack: Option<String>,
    pub is_fenced: bool,
}

/// A partition as one kind of listener shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownPartition {
    pub error: ErrorCode,
    /// −1: none.
    pub leader: i32,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub elr: Vec<i32>,
    pub adding: Vec<i32>,
    pub removing: Vec<i32>,
    /// Replicas that are not there.
    pub offline: Vec<i32>,
}

/// Where a node is, as far as routing goes.
struct Place<'a> {
    cores: u16,
    shared: &'a Address,
    per_core: &'a [Address],
    rack: Option<&'a str>,
    is_fenced: bool,
}

impl Shard {
    pub(in crate::broker) fn owner(&self, topic: TopicId, partition: PartitionIndex) -> CoreId {
        owner(TopicPartition { topic, partition }, self.config.cores)
    }

    pub(in crate::broker) fn node(&self) -> NodeId {
        NodeId(self.config.settings.node_id)
    }

    /// Where a node is; of a broker that nobody has registered with, itself.
    fn place(&self, node: NodeId) -> Option<Place<'_>> {
        if let Some(broker) = self.image.broker(node) {
            return Some(Place {
                cores: broker.cores,
                shared: &broker.shared,
                per_core: &broker.per_core,
                rack: broker.rack.as_deref(),
                is_fenced: broker.fenced,
            });
        }
        let listeners = &self.config.listeners;
        let is_alone = node == self.node() && !self.image.has_brokers();
        is_alone.then(|| Place {
            cores: self.config.cores,
            shared: &listeners.shared,
            per_core: &listeners.per_core,
            rack: None,
            is_fenced: false,
        })
    }

    /// The brokers a client of this listener may know of.
    pub(in crate::broker) fn shown_brokers(&self, listener: ListenerKind) -> Vec<ShownBroker> {
        let mut shown = self.registered_brokers(listener);
        shown.retain(|broker| !broker.is_fenced);
        shown
    }

    /// With those that are not there.
    pub(in crate::broker) fn registered_brokers(&self, listener: ListenerKind) -> Vec<ShownBroker> {
        let mut nodes: Vec<NodeId> = self.image.brokers().map(|broker| broker.id).collect();
        if nodes.is_empty() {
            nodes.push(self.node());
        }
        let mut shown = Vec::new();
        for (node, place) in nodes.into_iter().filter_map(|node| Some((node, self.place(node)?))) {
            let broker = |id: BrokerId, address: &Address| ShownBroker {
                id,
                node,
                address: address.clone(),
                rack: place.rack.map(ToOwned::to_owned),
                is_fenced: place.is_fenced,
            };
            match listener {
                ListenerKind::Shared | ListenerKind::Peer => shown.push(broker(BrokerId(node.0), place.shared)),
                ListenerKind::PerCore => {
                    let cores = (0..).map(CoreId).zip(place.per_core);
                    shown.extend(cores.map(|(core, address)| broker(per_core_id(node, core), address)));
                }
            }
        }
        shown
    }

    /// A replica of a partition: on per-core listeners, the core of it that has the partition.
    pub(in crate::broker) fn shown_replica(
        &self,
        listener: ListenerKind,
        of: TopicPartition,
        node: NodeId,
    ) -> BrokerId {
        match listener {
            ListenerKind::Shared | ListenerKind::Peer => BrokerId(node.0),
            ListenerKind::PerCore => {
                // Of a broker that is gone nobody knows the cores any more.
                let core = self.place(node).map_or(CoreId(0), |place| owner(of, place.cores));
                per_core_id(node, core)
            }
        }
    }

    pub(in crate::broker) fn leader_of(&self, of: TopicPartition) -> Option<NodeId> {
        self.image.partition(of.topic, of.partition)?.leader()
    }

    /// The id of the broker that leads a partition, as this listener shows it.
    pub(in crate::broker) fn shown_leader(&self, listener: ListenerKind, of: TopicPartition) -> Option<BrokerId> {
        Some(self.shown_replica(listener, of, self.leader_of(of)?))
    }

    pub(in crate::broker) fn leader_epoch(&self, of: TopicPartition) -> LeaderEpoch {
        self.image.partition(of.topic, of.partition).map_or(LeaderEpoch::UNKNOWN, PartitionState::leader_epoch)
    }

    /// A partition as `KRaftMetadataCache.getPartitionMetadata` shows it.
    pub(in crate::broker) fn shown_partition(
        &self,
        listener: ListenerKind,
        topic: TopicId,
        partition: PartitionIndex,
        state: &PartitionState,
    ) -> ShownPartition {
        let of = TopicPartition { topic, partition };
        let ids = |nodes: &mut dyn Iterator<Item = NodeId>| {
            nodes.map(|node| self.shown_replica(listener, of, node).0).collect::<Vec<i32>>()
        };
        let is_away = |node: &NodeId| match self.place(*node) {
            None => true,
            Some(place) => place.is_fenced || (*node == self.node() && self.offline.is_some()),
        };
        let leader = state.leader();
        let has_listener = |node: NodeId| {
            let place = self.place(node);
            place.is_some_and(|place| listener != ListenerKind::PerCore || !place.per_core.is_empty())
        };
        let error = match leader {
            None => ErrorCode::LeaderNotAvailable,
            Some(leader) if !has_listener(leader) => ErrorCode::ListenerNotFound,
            Some(_) => ErrorCode::None,
        };
        let leader = leader.filter(|_| error == ErrorCode::None);
        ShownPartition {
            error,
            leader: leader.map_or(-1, |leader| self.shown_replica(listener, of, leader).0),
            leader_epoch: state.leader_epoch().0,
            replicas: ids(&mut state.replicas().iter().copied()),
            isr: ids(&mut state.isr()),
            elr: ids(&mut state.elr()),
            adding: ids(&mut state.adding()),
            removing: ids(&mut state.removing()),
            offline: ids(&mut state.replicas().iter().copied().filter(is_away)),
        }
    }

    /// The broker that administrative requests should go to: the controller, where it is known and there. Every broker
    /// and every core takes them, and brings them to where they are decided.
    pub(in crate::broker) fn shown_controller(&self, listener: ListenerKind) -> BrokerId {
        let controller = match self.cluster.controller() {
            ControllerAt::Node(node) if self.place(node).is_some_and(|place| !place.is_fenced) => node,
            ControllerAt::Node(_) | ControllerAt::Here | ControllerAt::Unknown => self.node(),
        };
        core_0_of(listener, controller)
    }

    /// Whether a client of this listener sent its request to the right broker. On the shared listener every core
    /// is the one broker, and requests cross the mesh; on the others a wrong core answers with a hint.
    pub(in crate::broker) fn leads(&self, listener: ListenerKind, owner: CoreId) -> bool {
        listener == ListenerKind::Shared || owner == self.config.core
    }
}

/// Saturates where a node's id leaves no room: such a node is shown on the shared listener alone.
fn per_core_id(node: NodeId, core: CoreId) -> BrokerId {
    BrokerId(node.0.saturating_mul(CORE_IDS_PER_NODE).saturating_add(i32::from(core.0)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::ids::{BrokerEpoch, DirectoryId, Incarnation, PartitionEpoch};
    use crate::broker::shard::{Listeners, ShardConfig};
    use crate::config::Settings;
    use crate::meta::{Broker, MetaRecord, PartitionParts};

    fn address(port: u16) -> Address {
        Address { host: "h".into(), port }
    }

    /// Of node 1, which has 2 cores.
    fn shard() -> Shard {
        let settings = Arc::new(Settings { node_id: 1, ..Settings::default() });
        let listeners = Listeners { shared: address(1), per_core: vec![address(10), address(11)], peer: None };
        Shard::new(ShardConfig {
            core: CoreId(0),
            cores: 2,
            settings,
            listeners,
            seed: 1,
            incarnation: Incarnation::default(),
            peer_key: None,
        })
    }

    const TOPIC: TopicId = TopicId([7; 16]);

    /// Node 1 with others: 2 has 3 cores, 3 is fenced and has no per-core listeners. The topic is on 1, 2 and 3.
    fn among_others(leader: Option<i32>) -> Shard {
        let mut shard = shard();
        let broker = |id: i32, cores: u16| Broker {
            id: NodeId(id),
            incarnation: [0; 16],
            epoch: BrokerEpoch(1),
            directory: DirectoryId::UNKNOWN,
            shared: address(id as u16),
            per_core: (0..cores).map(|core| address(10 * id as u16 + core)).collect(),
            peer: address(99),
            cores,
            rack: Some(format!("r{id}")),
            fenced: false,
            shutting_down: false,
        };
        let replicas = vec![NodeId(1), NodeId(2), NodeId(3)];
        let state = PartitionState::new(&PartitionParts {
            replicas: replicas.clone(),
            isr: leader.map(NodeId).into_iter().collect(),
            elr: if leader.is_none() { vec![NodeId(3)] } else { Vec::new() },
            leader: leader.map(NodeId),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(5),
            ..PartitionParts::default()
        });
        let (name, settings) = ("t".into(), Default::default());
        let state = state.expect("sound");
        for record in [
            MetaRecord::BrokerRegistered(broker(1, 2)),
            MetaRecord::BrokerRegistered(broker(2, 3)),
            MetaRecord::BrokerRegistered(Broker { per_core: Vec::new(), fenced: true, ..broker(3, 4) }),
            MetaRecord::TopicCreated { name, id: TOPIC, partitions: 1, placed: vec![replicas], settings },
            MetaRecord::PartitionChanged { topic: TOPIC, partition: PartitionIndex(0), state },
        ] {
            shard.image.apply(&record).expect("fits");
        }
        shard
    }

    fn ids(brokers: &[ShownBroker]) -> Vec<i32> {
        brokers.iter().map(|broker| broker.id.0).collect()
    }

    #[test]
    fn a_broker_alone_shows_itself() {
        let shard = shard();
        assert_eq!(ids(&shard.shown_brokers(ListenerKind::Shared)), [1]);
        let per_core = shard.shown_brokers(ListenerKind::PerCore);
        assert_eq!(ids(&per_core), [1000, 1001]);
        assert_eq!(per_core[1].address, address(11));
    }

    #[test]
    fn several_brokers_show_those_that_are_there() {
        let shard = among_others(Some(2));
        let shared = shard.shown_brokers(ListenerKind::Shared);
        assert_eq!((ids(&shared), shared[1].rack.as_deref()), (vec![1, 2], Some("r2")));
        assert_eq!(ids(&shard.registered_brokers(ListenerKind::Shared)), [1, 2, 3]);
        assert_eq!(ids(&shard.shown_brokers(ListenerKind::PerCore)), [1000, 1001, 2000, 2001, 2002]);
    }

    #[test]
    fn a_partition_is_shown_on_the_cores_of_its_brokers() {
        let shown = |leader, listener| {
            let shard = among_others(leader);
            let state = shard.image.partition(TOPIC, PartitionIndex(0)).expect("there");
            shard.shown_partition(listener, TOPIC, PartitionIndex(0), state)
        };
        let shared = shown(Some(2), ListenerKind::Shared);
        assert_eq!((shared.error, shared.leader, shared.leader_epoch), (ErrorCode::None, 2, 4));
        assert_eq!((shared.replicas, shared.isr, shared.offline), (vec![1, 2, 3], vec![2], vec![3]));
        let of = TopicPartition { topic: TOPIC, partition: PartitionIndex(0) };
        let core = |cores| i32::from(owner(of, cores).0);
        let per_core = shown(Some(2), ListenerKind::PerCore);
        assert_eq!(per_core.leader, 2000 + core(3));
        assert_eq!(per_core.replicas, [1000 + core(2), 2000 + core(3), 3000 + core(4)]);
        let none = shown(None, ListenerKind::Shared);
        assert_eq!((none.error, none.leader, none.elr), (ErrorCode::LeaderNotAvailable, -1, vec![3]));
        let elsewhere = shown(Some(3), ListenerKind::PerCore);
        assert_eq!((elsewhere.error, elsewhere.leader), (ErrorCode::ListenerNotFound, -1));
    }

    #[test]
    fn ids_of_per_core_listeners_are_nodes_and_cores() {
        for (listener, id, node) in
            [(ListenerKind::Shared, 3001, 3001), (ListenerKind::PerCore, 3001, 3), (ListenerKind::PerCore, -1, -1)]
        {
            assert_eq!(node_of(listener, id), NodeId(node));
        }
    }

    #[test]
    fn partitions_of_a_topic_go_round_the_cores() {
        let topic = TopicId([7; 16]);
        for cores in [1, 2, 3, 8] {
            let owners: Vec<u16> = (0..16)
                .map(|partition| owner(TopicPartition { topic, partition: PartitionIndex(partition) }, cores).0)
                .collect();
            for core in 0..cores {
                let share = owners.iter().filter(|&&owner| owner == core).count();
                assert!(share.abs_diff(16 / usize::from(cores)) <= 1, "{cores} cores: {owners:?}");
            }
        }
    }
}
