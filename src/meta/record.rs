//! The records that metadata is made of, and their binary form.
//!
//! A record is one byte of kind, then its fields: numbers big-endian, texts and maps with their length before them.
//! Checksums and the version of the form are the frame's around it (`store.rs`).
//!
//! *Owns*: the layout. *Never*: takes a length from disk on trust. *Runs on*: core 0 writes; every core applies.

use std::collections::BTreeMap;
use std::fmt;

use super::quota::{EntityName, QuotaEntity, QuotaKey, QuotaValues};
use crate::base::ids::TopicId;
use crate::config::{ConfigResource, Overrides};

/// One change of the metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetaRecord {
    /// The first record of all.
    ClusterCreated {
        cluster_id: String,
    },
    /// `settings` are the topic's own, by their topic-level names.
    TopicCreated {
        name: String,
        id: TopicId,
        partitions: i32,
        settings: Overrides,
    },
    TopicDeleted {
        id: TopicId,
    },
    /// The topic's files are gone: its name can be used again.
    TopicRemoved {
        id: TopicId,
    },
    /// The topic has `partitions_total` partitions now.
    PartitionsAdded {
        id: TopicId,
        partitions_total: i32,
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
            MetaRecord::TopicCreated { name, id, partitions, settings } => {
                out.push(2);
                put_text(out, name);
                out.extend_from_slice(&id.0);
                out.extend_from_slice(&partitions.to_be_bytes());
                put_settings(out, settings);
            }
            MetaRecord::TopicDeleted { id } => {
                out.push(3);
                out.extend_from_slice(&id.0);
            }
            MetaRecord::PartitionsAdded { id, partitions_total } => {
                out.push(4);
                out.extend_from_slice(&id.0);
                out.extend_from_slice(&partitions_total.to_be_bytes());
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
            MetaRecord::QuotaChanged { entity: QuotaEntity { ip: Some(ip), .. }, values } => {
                out.push(10);
                put_side(out, Some(ip));
                put_quotas(out, values);
            }
            MetaRecord::QuotaChanged { entity, values } => {
                out.push(9);
                put_side(out, entity.user.as_ref());
                put_side(out, entity.client_id.as_ref());
                put_quotas(out, values);
            }
        }
    }

    /// Takes one record off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<MetaRecord, RecordError> {
        let record = match take::<1>(bytes)? {
            [1] => MetaRecord::ClusterCreated { cluster_id: take_text(bytes)? },
            [2] => MetaRecord::TopicCreated {
                name: take_text(bytes)?,
                id: TopicId(take(bytes)?),
                partitions: i32::from_be_bytes(take(bytes)?),
                settings: take_settings(bytes)?,
            },
            [3] => MetaRecord::TopicDeleted { id: TopicId(take(bytes)?) },
            [4] => MetaRecord::PartitionsAdded {
                id: TopicId(take(bytes)?),
                partitions_total: i32::from_be_bytes(take(bytes)?),
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
            [_] => return Err(RecordError { message: "a record of a kind that this version does not know" }),
        };
        Ok(record)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
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

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], RecordError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(RecordError { message: "a record ends too early" })?;
    *bytes = rest;
    Ok(*head)
}

fn take_text(bytes: &mut &[u8]) -> Result<String, RecordError> {
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
    use super::*;
    use crate::base::rng::Rng;

    fn samples() -> Vec<MetaRecord> {
        let id = TopicId([7; 16]);
        let settings = BTreeMap::from([("flush.messages".to_owned(), "1".to_owned()), ("a".to_owned(), String::new())]);
        vec![
            MetaRecord::ClusterCreated { cluster_id: "größer".into() },
            MetaRecord::TopicCreated { name: "t".into(), id, partitions: 3, settings: settings.clone() },
            MetaRecord::TopicCreated { name: "x".repeat(249), id, partitions: i32::MAX, settings: BTreeMap::new() },
            MetaRecord::TopicDeleted { id },
            MetaRecord::TopicRemoved { id },
            MetaRecord::PartitionsAdded { id, partitions_total: 9 },
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
        ]
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
                *kind %= 11;
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
