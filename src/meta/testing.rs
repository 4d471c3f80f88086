//! What tests of metadata share.
//!
//! *Owns*: samples. *Never*: in a product. *Runs on*: tests.

use std::collections::BTreeMap;

use super::{Broker, Image, MetaRecord, PartitionParts, PartitionState};
use crate::base::ids::{BrokerEpoch, DirectoryId, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId};
use crate::config::Address;

/// In rack `r<id>`, fenced, with two cores.
pub(super) fn broker(id: i32, epoch: i64) -> Broker {
    let address = |port: u16| Address { host: format!("host{id}"), port };
    Broker {
        id: NodeId(id),
        incarnation: [epoch as u8; 16],
        epoch: BrokerEpoch(epoch),
        directory: DirectoryId([id as u8; 16]),
        shared: address(9092),
        per_core: vec![address(9093), address(9094)],
        peer: address(19092),
        cores: 2,
        rack: Some(format!("r{id}")),
        fenced: true,
        shutting_down: false,
    }
}

pub(super) fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// Brokers 1 to `brokers`, all active, with their ids as epochs; and topic `t`, of which these are the partitions.
pub(super) fn cluster(brokers: i32, partitions: &[PartitionParts]) -> Image {
    let mut image = Image::default();
    let (name, id, settings) = ("t".into(), TOPIC, BTreeMap::new());
    let placed: Vec<_> = partitions.iter().map(|parts| parts.replicas.clone()).collect();
    let mut records = vec![MetaRecord::TopicCreated { name, id, partitions: placed.len() as i32, placed, settings }];
    let registered = (1..=brokers).map(|id| Broker { fenced: false, ..broker(id, id.into()) });
    records.extend(registered.map(MetaRecord::BrokerRegistered));
    for (index, parts) in (0..).zip(partitions) {
        let state = PartitionState::new(parts).expect("sound");
        records.push(MetaRecord::PartitionChanged { topic: TOPIC, partition: PartitionIndex(index), state });
    }
    records.iter().for_each(|record| image.apply(record).expect("fits"));
    image
}

pub(super) const TOPIC: TopicId = TopicId([1; 16]);

/// At leader epoch 5 and partition epoch 6, led by the first of the ISR.
pub(super) fn parts(replicas: &[i32], isr: &[i32], elr: &[i32]) -> PartitionParts {
    PartitionParts {
        replicas: nodes(replicas),
        isr: nodes(isr),
        elr: nodes(elr),
        leader: isr.first().copied().map(NodeId),
        leader_epoch: LeaderEpoch(5),
        partition_epoch: PartitionEpoch(6),
        ..PartitionParts::default()
    }
}

/// What a plan makes of the only partition it changes.
pub(super) fn only_change(records: &[MetaRecord]) -> PartitionParts {
    let [MetaRecord::PartitionChanged { state, .. }] = records else { panic!("{records:?}") };
    state.parts()
}
