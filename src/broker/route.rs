//! Routing: which core owns a partition, and which broker a listener says leads it.
//!
//! *Owns*: the mapping partition → core → broker id. *Never*: remembers it: it is computed, so that the number of
//! cores may change between runs. *Runs on*: every core.

use crate::base::checksum::crc32;
use crate::base::ids::{BrokerId, CoreId, NodeId, PartitionIndex, TopicId};
use crate::broker::effect::ListenerKind;
use crate::broker::message::TopicPartition;
use crate::broker::shard::Shard;
use crate::config::Address;
use crate::meta::Topic;

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
        ListenerKind::Shared => NodeId(id),
        ListenerKind::PerCore => NodeId(id.div_euclid(CORE_IDS_PER_NODE)),
    }
}

/// A broker as one kind of listener shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownBroker {
    pub id: BrokerId,
    pub address: Address,
}

impl Shard {
    pub(in crate::broker) fn owner(&self, topic: TopicId, partition: PartitionIndex) -> CoreId {
        owner(TopicPartition { topic, partition }, self.config.cores)
    }

    /// The brokers a client of this listener may know of.
    pub(in crate::broker) fn shown_brokers(&self, listener: ListenerKind) -> Vec<ShownBroker> {
        let node = self.config.settings.node_id;
        match listener {
            ListenerKind::Shared => {
                vec![ShownBroker { id: BrokerId(node), address: self.config.listeners.shared.clone() }]
            }
            ListenerKind::PerCore => {
                let addresses = self.config.listeners.per_core.iter().enumerate();
                addresses
                    .map(|(core, address)| ShownBroker {
                        id: per_core_id(node, CoreId(core as u16)),
                        address: address.clone(),
                    })
                    .collect()
            }
        }
    }

    /// The id of the broker that leads a partition, as this listener shows it.
    pub(in crate::broker) fn shown_leader(
        &self,
        listener: ListenerKind,
        topic: TopicId,
        partition: PartitionIndex,
    ) -> BrokerId {
        let node = self.config.settings.node_id;
        match listener {
            ListenerKind::Shared => BrokerId(node),
            ListenerKind::PerCore => per_core_id(node, self.owner(topic, partition)),
        }
    }

    /// The broker that administrative requests should go to. Every core takes them; core 0 decides.
    pub(in crate::broker) fn shown_controller(&self, listener: ListenerKind) -> BrokerId {
        match listener {
            ListenerKind::Shared => BrokerId(self.config.settings.node_id),
            ListenerKind::PerCore => self.per_core_leader(CoreId(0)),
        }
    }

    /// The broker id under which per-core listeners show a core.
    pub(in crate::broker) fn per_core_leader(&self, core: CoreId) -> BrokerId {
        per_core_id(self.config.settings.node_id, core)
    }

    /// Whether a client of this listener sent its request to the right broker. On the shared listener every core
    /// is the one broker, and requests cross the mesh; on per-core listeners a wrong core answers with a hint.
    pub(in crate::broker) fn leads(&self, listener: ListenerKind, owner: CoreId) -> bool {
        listener == ListenerKind::Shared || owner == self.config.core
    }
}

fn per_core_id(node: i32, core: CoreId) -> BrokerId {
    BrokerId(node * CORE_IDS_PER_NODE + i32::from(core.0))
}

#[cfg(test)]
mod tests {
    use super::*;

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
