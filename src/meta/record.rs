//! The records that metadata is made of, and their binary form.
//!
//! A record is one byte of kind, then its fields: numbers big-endian, texts and maps with their length before them.
//! Checksums and the version of the form are the frame's around it (`frame.rs`).
//!
//! *Owns*: the layout. *Never*: takes a length from disk on trust. *Runs on*: core 0 writes; every core applies.

use std::collections::BTreeMap;
use std::fmt;

use super::broker::Broker;
use super::partition_state::{PartitionState, put_nodes, take_nodes};
use super::quota::{EntityName, QuotaEntity, QuotaKey, QuotaValues};
use crate::base::ids::{BrokerEpoch, NodeId, PartitionIndex, TopicId};
use crate::config::{ConfigResource, Overrides};

/// One change of the metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetaRecord {
    /// The first record of all.
    ClusterCreated {
        cluster_id: String,
    },
    /// `settings` are the topic's own, by their topic-level names. `placed` are the replicas of each partition: the
    /// first leads, and all are in sync. Records of before there were several brokers have none
    /// ([`Image::placed`](super::Image::placed)).
    TopicCreated {
        name: String,
        id: TopicId,
        partitions: i32,
        placed: Vec<Vec<NodeId>>,
        settings: Overrides,
    },
    TopicDeleted {
        id: TopicId,
    },
    /// The topic's files are gone: its name can be used again.
    TopicRemoved {
        id: TopicId,
    },
    /// The topic has `partitions_total` partitions now; `placed` are the replicas of each new one, as above.
    PartitionsAdded {
        id: TopicId,
        partitions_total: i32,
        placed: Vec<Vec<NodeId>>,
    },
    /// Replicas, ISR, leader and epochs of a partition are this now.
    PartitionChanged {
        topic: TopicId,
        partition: PartitionIndex,
        state: PartitionState,
    },
    /// The topic's own settings are these now, all of them.
    TopicSettingsChanged {
        id: TopicId,
        settings: Overrides,
    },
    /// Producer ids below `next` are given out.
    ProducerIdsTaken {
        next: i64,
    },
    /// What was changed while running of a broker, of all brokers or of a group is this now, all of it. Never of a
    /// topic: that is `TopicSettingsChanged`.
    ConfigChanged {
        resource: ConfigResource,
        settings: Overrides,
    },
    /// The quotas of an entity are these now, all of them.
    QuotaChanged {
        entity: QuotaEntity,
        values: QuotaValues,
    },
    /// A broker began to run. What was known of one with the same id is forgotten.
    BrokerRegistered(Broker),
    BrokerFenced {
        id: NodeId,
    },
    BrokerUnfenced {
        id: NodeId,
    },
    BrokerShuttingDown {
        id: NodeId,
    },
    BrokerUnregistered {
        id: NodeId,
    },
    /// Broker epochs up to `last` were given out: of a snapshot, where the broker that had the last one is gone.
    BrokerEpochsTaken {
        last: BrokerEpoch,
    },
    /// An operator wants this node not to vote in the quorum, whatever else would have it do so.
    VoteTaken {
        id: NodeId,
    },
    /// An operator wants it to vote.
    VoteGiven {
        id: NodeId,
    },
}

/// Bytes that are not a record of this version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordError {
    pub message: &'static str,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl std::error::Error for RecordError {}

impl MetaRecord {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            MetaRecord::ClusterCreated { cluster_id } => {
                out.push(1);
                put_text(out, cluster_id);
            }
            MetaRecord::TopicCreated { name, id, partitions, placed, settings } => {
                out.push(11);
                put_text(out, name);
                out.extend_from_slice(&id.0);
                out.extend_from_slice(&partitions.to_be_bytes());
                put_placed(out, placed);
                put_settings(out, settings);
            }
            MetaRecord::TopicDeleted { id } => {
                out.push(3);
                out.extend_from_slice(&id.0);
            }
            MetaRecord::PartitionsAdded { id, partitions_total, placed } => {
                out.push(12);
                out.extend_from_slice(&id.0);
                out.extend_from_slice(&partitions_total.to_be_bytes());
                put_placed(out, placed);
            }
            MetaRecord::PartitionChanged { topic, partition, state } => {
                out.push(13);
                out.extend_from_slice(&topic.0);
                out.extend_from_slice(&partition.0.to_be_bytes());
                state.encode(out);
            }
            MetaRecord::TopicSettingsChanged { id, settings } => {
                out.push(5);
                out.extend_from_slice(&id.0);
                put_settings(out, settings);
            }
            MetaRecord::ProducerIdsTaken { next } => {
                out.push(6);
                out.extend_from_slice(&next.to_be_bytes());
            }
            MetaRecord::TopicRemoved { id } => {
                out.push(7);
                out.extend_from_slice(&id.0);
            }
            MetaRecord::ConfigChanged { resource, settings } => {
                out.push(8);
                out.extend_from_slice(&resource.code().to_be_bytes());
                put_text(out, &resource.name());
                put_settings(out, settings);
            }
            MetaRecord::QuotaChanged { entity, values } => {
                put_entity(out, entity);
                put_quotas(out, values);
            }
            MetaRecord::BrokerRegistered(broker) => {
                out.push(20);
                broker.encode(out);
            }
            MetaRecord::BrokerFenced { id } => put_of_node(out, 15, *id),
            MetaRecord::BrokerUnfenced { id } => put_of_node(out, 16, *id),
            MetaRecord::BrokerShuttingDown { id } => put_of_node(out, 17, *id),
            MetaRecord::BrokerUnregistered { id } => put_of_node(out, 18, *id),
            MetaRecord::BrokerEpochsTaken { last } => {
                out.push(19);
                out.extend_from_slice(&last.0.to_be_bytes());
            }
            MetaRecord::VoteTaken { id } => put_of_node(out, 21, *id),
            MetaRecord::VoteGiven { id } => put_of_node(out, 22, *id),
        }
    }

    /// Takes one record off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<MetaRecord, RecordError> {
        let node = |bytes: &mut &[u8]| take(bytes).map(|id| NodeId(i32::from_be_bytes(id)));
        let record = match take::<1>(bytes)? {
            [1] => MetaRecord::ClusterCreated { cluster_id: take_text(bytes)? },
            [2] => MetaRecord::TopicCreated {
                name: take_text(bytes)?,
                id: TopicId(take(bytes)?),
                partitions: i32::from_be_bytes(take(bytes)?),
                placed: Vec::new(),
                settings: take_settings(bytes)?,
            },
            [3] => MetaRecord::TopicDeleted { id: TopicId(take(bytes)?) },
            [4] => MetaRecord::PartitionsAdded {
                id: TopicId(take(bytes)?),
                partitions_total: i32::from_be_bytes(take(bytes)?),
                placed: Vec::new(),
            },
            [5] => MetaRecord::TopicSettingsChanged { id: TopicId(take(bytes)?), settings: take_settings(bytes)? },
            [6] => MetaRecord::ProducerIdsTaken { next: i64::from_be_bytes(take(bytes)?) },
            [7] => MetaRecord::TopicRemoved { id: TopicId(take(bytes)?) },
            [8] => {
                let (code, name) = (i8::from_be_bytes(take(bytes)?), take_text(bytes)?);
                let resource = ConfigResource::from_parts(code, &name)
                    .ok_or(RecordError { message: "settings of a thing that this version does not know" })?;
                MetaRecord::ConfigChanged { resource, settings: take_settings(bytes)? }
            }
            [9] => {
                let entity = QuotaEntity { user: take_side(bytes)?, client_id: take_side(bytes)?, ip: None };
                MetaRecord::QuotaChanged { entity, values: take_quotas(bytes)? }
            }
            [10] => {
                let ip = take_side(bytes)?.ok_or(RecordError { message: "a quota of an address has none" })?;
                let entity = QuotaEntity { ip: Some(ip), ..QuotaEntity::default() };
                MetaRecord::QuotaChanged { entity, values: take_quotas(bytes)? }
            }
            [11] => MetaRecord::TopicCreated {
                name: take_text(bytes)?,
                id: TopicId(take(bytes)?),
                partitions: i32::from_be_bytes(take(bytes)?),
                placed: take_placed(bytes)?,
                settings: take_settings(bytes)?,
            },
            [12] => MetaRecord::PartitionsAdded {
                id: TopicId(take(bytes)?),
                partitions_total: i32::from_be_bytes(take(bytes)?),
                placed: take_placed(bytes)?,
            },
            [13] => MetaRecord::PartitionChanged {
                topic: TopicId(take(bytes)?),
                partition: PartitionIndex(i32::from_be_bytes(take(bytes)?)),
                state: PartitionState::decode(bytes)?,
            },
            [14] => MetaRecord::BrokerRegistered(Broker::decode_before_directories(bytes)?),
            [15] => MetaRecord::BrokerFenced { id: node(bytes)? },
            [16] => MetaRecord::BrokerUnfenced { id: node(bytes)? },
            [17] => MetaRecord::BrokerShuttingDown { id: node(bytes)? },
            [18] => MetaRecord::BrokerUnregistered { id: node(bytes)? },
            [19] => MetaRecord::BrokerEpochsTaken { last: BrokerEpoch(i64::from_be_bytes(take(bytes)?)) },
            [20] => MetaRecord::BrokerRegistered(Broker::decode(bytes)?),
            [21] => MetaRecord::VoteTaken { id: node(bytes)? },
            [22] => MetaRecord::VoteGiven { id: node(bytes)? },
            [_] => return Err(RecordError { message: "a record of a kind that this version does not know" }),
        };
        Ok(record)
    }
}

fn put_of_node(out: &mut Vec<u8>, kind: u8, id: NodeId) {
    out.push(kind);
    out.extend_from_slice(&id.0.to_be_bytes());
}

/// Their number, then the replicas of each partition.
fn put_placed(out: &mut Vec<u8>, placed: &[Vec<NodeId>]) {
    out.extend_from_slice(&(placed.len() as u32).to_be_bytes());
    placed.iter().for_each(|replicas| put_nodes(out, replicas));
}

fn take_placed(bytes: &mut &[u8]) -> Result<Vec<Vec<NodeId>>, RecordError> {
    let count = u32::from_be_bytes(take(bytes)?);
    // Each takes a byte at least, so a wrong number ends with the bytes.
    let mut placed = Vec::new();
    for _ in 0..count {
        placed.push(take_nodes(bytes)?);
    }
    Ok(placed)
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("names and values were checked to be short");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_settings(out: &mut Vec<u8>, settings: &Overrides) {
    let count = u16::try_from(settings.len()).expect("nothing has more than one value per row of a table");
    out.extend_from_slice(&count.to_be_bytes());
    for (name, value) in settings {
        put_text(out, name);
        put_text(out, value);
    }
}

/// An address, or a user and a client id, with the kind of the record before it.
fn put_entity(out: &mut Vec<u8>, entity: &QuotaEntity) {
    if entity.ip.is_some() {
        out.push(10);
        put_side(out, entity.ip.as_ref());
    } else {
        out.push(9);
        put_side(out, entity.user.as_ref());
        put_side(out, entity.client_id.as_ref());
    }
}

/// A byte that says which, then the name.
fn put_side(out: &mut Vec<u8>, side: Option<&EntityName>) {
    match side {
        None => out.push(0),
        Some(EntityName::Default) => out.push(1),
        Some(EntityName::Name(name)) => {
            out.push(2);
            put_text(out, name);
        }
    }
}

fn take_side(bytes: &mut &[u8]) -> Result<Option<EntityName>, RecordError> {
    match take::<1>(bytes)? {
        [0] => Ok(None),
        [1] => Ok(Some(EntityName::Default)),
        [2] => Ok(Some(EntityName::Name(take_text(bytes)?))),
        [_] => Err(RecordError { message: "a quota of an entity that this version does not know" }),
    }
}

fn put_quotas(out: &mut Vec<u8>, values: &QuotaValues) {
    out.push(values.len() as u8);
    for (key, value) in values {
        out.push(*key as u8);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn take_quotas(bytes: &mut &[u8]) -> Result<QuotaValues, RecordError> {
    let [count] = take(bytes)?;
    let mut values = QuotaValues::new();
    for _ in 0..count {
        let [code] = take(bytes)?;
        let key = QuotaKey::ALL.into_iter().find(|key| *key as u8 == code);
        let key = key.ok_or(RecordError { message: "a quota that this version does not know" })?;
        values.insert(key, u64::from_be_bytes(take(bytes)?));
    }
    Ok(values)
}

pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], RecordError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(RecordError { message: "a record ends too early" })?;
    *bytes = rest;
    Ok(*head)
}

pub(super) fn take_text(bytes: &mut &[u8]) -> Result<String, RecordError> {
    let len = usize::from(u16::from_be_bytes(take(bytes)?));
    let (head, rest) = bytes.split_at_checked(len).ok_or(RecordError { message: "a text ends too early" })?;
    *bytes = rest;
    let text = std::str::from_utf8(head).map_err(|_| RecordError { message: "a text is not UTF-8" })?;
    Ok(text.to_owned())
}

fn take_settings(bytes: &mut &[u8]) -> Result<Overrides, RecordError> {
    let count = u16::from_be_bytes(take(bytes)?);
    let mut settings = BTreeMap::new();
    for _ in 0..count {
        let name = take_text(bytes)?;
        settings.insert(name, take_text(bytes)?);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::super::partition_state::PartitionParts;
    use super::super::testing::{broker, nodes};
    use super::*;
    use crate::base::ids::{DirectoryId, LeaderEpoch, PartitionEpoch};
    use crate::base::rng::Rng;

    fn samples() -> Vec<MetaRecord> {
        let id = TopicId([7; 16]);
        let settings = BTreeMap::from([("flush.messages".to_owned(), "1".to_owned()), ("a".to_owned(), String::new())]);
        vec![
            MetaRecord::ClusterCreated { cluster_id: "größer".into() },
            MetaRecord::TopicCreated {
                name: "t".into(),
                id,
                partitions: 2,
                placed: vec![vec![NodeId(1), NodeId(2)], vec![NodeId(i32::MAX)]],
                settings: settings.clone(),
            },
            MetaRecord::TopicCreated {
                name: "x".repeat(249),
                id,
                partitions: i32::MAX,
                placed: Vec::new(),
                settings: BTreeMap::new(),
            },
            MetaRecord::TopicDeleted { id },
            MetaRecord::TopicRemoved { id },
            MetaRecord::PartitionsAdded { id, partitions_total: 9, placed: vec![vec![NodeId(0)]] },
            MetaRecord::PartitionChanged { topic: id, partition: PartitionIndex(3), state: state() },
            MetaRecord::TopicSettingsChanged { id, settings: settings.clone() },
            MetaRecord::ProducerIdsTaken { next: i64::MAX },
            MetaRecord::ConfigChanged { resource: ConfigResource::ClusterDefault, settings: settings.clone() },
            MetaRecord::ConfigChanged { resource: ConfigResource::Broker(-7), settings: BTreeMap::new() },
            MetaRecord::ConfigChanged { resource: ConfigResource::Group("größe".into()), settings },
            MetaRecord::QuotaChanged {
                entity: QuotaEntity {
                    user: Some(EntityName::Name("u".into())),
                    client_id: Some(EntityName::Default),
                    ip: None,
                },
                values: QuotaKey::ALL.into_iter().map(|key| (key, 1.5_f64.to_bits())).collect(),
            },
            MetaRecord::QuotaChanged { entity: QuotaEntity::default(), values: QuotaValues::new() },
            MetaRecord::QuotaChanged {
                entity: QuotaEntity { ip: Some(EntityName::Name("::1".into())), ..QuotaEntity::default() },
                values: QuotaValues::from([(QuotaKey::ConnectionCreationRate, 9.0_f64.to_bits())]),
            },
            MetaRecord::BrokerRegistered(broker(1, 7)),
            MetaRecord::BrokerRegistered(Broker {
                per_core: Vec::new(),
                rack: None,
                fenced: false,
                shutting_down: true,
                ..broker(i32::MAX, i64::MAX)
            }),
            MetaRecord::BrokerFenced { id: NodeId(1) },
            MetaRecord::BrokerUnfenced { id: NodeId(2) },
            MetaRecord::BrokerShuttingDown { id: NodeId(3) },
            MetaRecord::BrokerUnregistered { id: NodeId(4) },
            MetaRecord::BrokerEpochsTaken { last: BrokerEpoch(5) },
            MetaRecord::VoteTaken { id: NodeId(6) },
            MetaRecord::VoteGiven { id: NodeId(7) },
        ]
    }

    fn state() -> PartitionState {
        let parts = PartitionParts {
            replicas: nodes(&[1, 2, 3]),
            isr: nodes(&[2]),
            elr: nodes(&[1]),
            adding: nodes(&[3]),
            removing: nodes(&[1]),
            leader: Some(NodeId(2)),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(5),
        };
        PartitionState::new(&parts).expect("sound")
    }

    #[test]
    fn a_broker_of_before_directories_had_ids_is_read() {
        let told = broker(1, 7);
        let mut bytes = Vec::new();
        MetaRecord::BrokerRegistered(told.clone()).encode(&mut bytes);
        bytes[0] = 14;
        let before = &bytes[..bytes.len() - told.directory.0.len()];
        let read = MetaRecord::decode(&mut &before[..]).expect("it is whole");
        let MetaRecord::BrokerRegistered(broker) = read else { panic!("{read:?}") };
        assert!(broker.may_have_had(DirectoryId([9; 16])) && !told.may_have_had(DirectoryId([9; 16])));
        assert_eq!(broker, Broker { directory: DirectoryId::UNKNOWN, ..told });
    }

    #[test]
    fn records_of_before_there_were_several_brokers_are_read() {
        let id = TopicId([7; 16]);
        let created = [&[2, 0, 1, b't'][..], &id.0, &[0, 0, 0, 3, 0, 0]].concat();
        let (name, settings) = ("t".into(), BTreeMap::new());
        let wanted = MetaRecord::TopicCreated { name, id, partitions: 3, placed: Vec::new(), settings };
        assert_eq!(MetaRecord::decode(&mut &created[..]), Ok(wanted));
        let added = [&[4][..], &id.0, &[0, 0, 0, 9]].concat();
        let wanted = MetaRecord::PartitionsAdded { id, partitions_total: 9, placed: Vec::new() };
        assert_eq!(MetaRecord::decode(&mut &added[..]), Ok(wanted));
    }

    #[test]
    fn what_is_written_is_read_and_a_part_of_it_is_refused() {
        for record in samples() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            let mut rest = &bytes[..];
            assert_eq!(MetaRecord::decode(&mut rest), Ok(record));
            assert!(rest.is_empty());
            for len in 0..bytes.len() {
                assert!(MetaRecord::decode(&mut &bytes[..len]).is_err(), "{len} bytes were enough");
            }
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error() {
        let mut rng = Rng::new(1);
        for _ in 0..20_000 {
            let len = rng.below(40) as usize;
            let mut bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
            if let Some(kind) = bytes.first_mut() {
                *kind %= 20;
            }
            let mut rest = &bytes[..];
            if let Ok(record) = MetaRecord::decode(&mut rest) {
                let mut again = Vec::new();
                record.encode(&mut again);
                assert_eq!(MetaRecord::decode(&mut &again[..]), Ok(record));
            }
        }
    }
}
