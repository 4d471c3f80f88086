//! What tests of metadata share.
//!
//! *Owns*: samples. *Never*: in a product. *Runs on*: tests.

use super::broker::Broker;
use crate::base::ids::{BrokerEpoch, NodeId};
use crate::config::Address;

/// In rack `r<id>`, fenced, with two cores.
pub(super) fn broker(id: i32, epoch: i64) -> Broker {
    let address = |port: u16| Address { host: format!("host{id}"), port };
    Broker {
        id: NodeId(id),
        incarnation: [epoch as u8; 16],
        epoch: BrokerEpoch(epoch),
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
