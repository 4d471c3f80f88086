//! The records of `__consumer_offsets`, as Kafka writes them: the first two bytes of a key say what it is.
//!
//! *Owns*: the form of keys and values. *Never*: decides what is written. *Runs on*: the core of the coordinator.
//!
//! Layouts: Kafka, `group-coordinator/src/main/resources/common/message/*.json`.

use bytes::Bytes;

use super::consumer_record::ConsumerRecord;
use crate::base::ids::TopicId;
use crate::wire::codec::Stored;
use crate::wire::reader::DecodeError;
use crate::wire::table::stored;
use crate::wire::text::Text;

/// A record to be appended. No value: the key is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// A record as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoredRecord {
    Offset { key: OffsetCommitKey, value: Option<OffsetCommitValue> },
    Group { key: GroupMetadataKey, value: Option<GroupMetadataValue> },
    Consumer { group: Text, record: ConsumerRecord },
}

stored! {
    /// Whose offset, and of which partition.
    record OffsetCommitKey, versions 0-1, flexible 32767 {
        group: Text, 0+;
        topic: Text, 0+;
        partition: i32, 0+;
    }

    record OffsetCommitValue, versions 0-4, flexible 4 {
        offset: i64, 0+;
        leader_epoch: i32, 3+, default -1;
        metadata: Text, 0+;
        commit_timestamp: i64, 0+;
        /// −1: as long as the broker keeps offsets.
        expire_timestamp: i64, 1-1, default -1;
        topic_id: TopicId, 4+, tag 0;
    }

    record GroupMetadataKey, versions 2-2, flexible 32767 {
        group: Text, 2+;
    }

    record GroupMetadataValue, versions 0-4, flexible 4 {
        protocol_type: Text, 0+;
        generation: i32, 0+;
        protocol: Option<Text>, 0+, null 0+;
        leader: Option<Text>, 0+, null 0+;
        /// When the group came into its state, in ms; −1 where that is not known.
        current_state_timestamp: i64, 2+, default -1;
        members: Vec<MemberMetadata>, 0+;
    }

    part MemberMetadata {
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 3+, null 3+;
        client_id: Text, 0+;
        client_host: Text, 0+;
        rebalance_timeout: i32, 1+, default -1;
        session_timeout: i32, 0+;
        subscription: Bytes, 0+;
        assignment: Bytes, 0+;
    }
}

/// The versions that are written: the newest that every tool reads.
const OFFSET_KEY_VERSION: i16 = 1;
const OFFSET_VALUE_VERSION: i16 = 3;
/// The only one that has a time of its own at which the offset expires.
const OFFSET_VALUE_EXPIRES_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const GROUP_VALUE_VERSION: i16 = 3;

/// Reads a record. `None`: its key is of a kind that we do not know, and is skipped.
pub fn read(key: &Bytes, value: Option<&Bytes>) -> Result<Option<StoredRecord>, DecodeError> {
    let Some(&kind) = key.first_chunk::<2>() else { return Ok(None) };
    Ok(match i16::from_be_bytes(kind) {
        0 | 1 => Some(StoredRecord::Offset {
            key: OffsetCommitKey::from_record(key)?,
            value: value.map(OffsetCommitValue::from_record).transpose()?,
        }),
        2 => Some(StoredRecord::Group {
            key: GroupMetadataKey::from_record(key)?,
            value: value.map(GroupMetadataValue::from_record).transpose()?,
        }),
        kind if ConsumerRecord::KINDS.contains(&kind) => {
            let (group, record) = ConsumerRecord::read(key, value)?;
            Some(StoredRecord::Consumer { group, record })
        }
        _ => None,
    })
}

/// An offset that was committed, or with no value one that is forgotten.
pub fn offset(key: &OffsetCommitKey, value: Option<&OffsetCommitValue>) -> GroupRecord {
    let version = |value: &OffsetCommitValue| {
        if value.expire_timestamp < 0 { OFFSET_VALUE_VERSION } else { OFFSET_VALUE_EXPIRES_VERSION }
    };
    GroupRecord { key: key.to_record(OFFSET_KEY_VERSION), value: value.map(|value| value.to_record(version(value))) }
}

/// A classic group as it is now, or with no value one that is gone.
pub fn group(name: &str, value: Option<&GroupMetadataValue>) -> GroupRecord {
    GroupRecord {
        key: GroupMetadataKey { group: name.into() }.to_record(GROUP_KEY_VERSION),
        value: value.map(|value| value.to_record(GROUP_VALUE_VERSION)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn offset_key() -> OffsetCommitKey {
        OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 7 }
    }

    #[test]
    fn offsets_have_kafkas_bytes() {
        let value = OffsetCommitValue {
            offset: 42,
            leader_epoch: 5,
            metadata: "m".into(),
            commit_timestamp: 1000,
            ..OffsetCommitValue::default()
        };
        let record = offset(&offset_key(), Some(&value));
        assert_eq!(record.key, bytes("0001 0001 67 0001 74 00000007"));
        let expect = "0003 000000000000002a 00000005 0001 6d 00000000000003e8";
        assert_eq!(record.value, Some(bytes(expect)));
        assert_eq!(
            read(&record.key, record.value.as_ref()),
            Ok(Some(StoredRecord::Offset { key: offset_key(), value: Some(value.clone()) }))
        );
        // With a time of its own, the leader epoch is lost: no version has both.
        let expires = OffsetCommitValue { expire_timestamp: 9, ..value };
        let record = offset(&offset_key(), Some(&expires));
        let expect = "0001 000000000000002a 0001 6d 00000000000003e8 0000000000000009";
        assert_eq!(record.value, Some(bytes(expect)));
    }

    #[test]
    fn older_and_newer_values_are_read() {
        let key = bytes("0000 0001 67 0001 74 00000007");
        let check = |value: &'static str, expect: OffsetCommitValue| {
            let found = read(&key, Some(&bytes(value)));
            assert_eq!(found, Ok(Some(StoredRecord::Offset { key: offset_key(), value: Some(expect) })), "{value}");
        };
        let plain = OffsetCommitValue { offset: 1, commit_timestamp: 2, ..OffsetCommitValue::default() };
        check("0000 0000000000000001 0000 0000000000000002", plain.clone());
        check("0002 0000000000000001 0000 0000000000000002", plain.clone());
        check("0004 0000000000000001 ffffffff 01 0000000000000002 00", plain.clone());
        let id = OffsetCommitValue { topic_id: TopicId([9; 16]), ..plain };
        check(
            "0004 0000000000000001 ffffffff 01 0000000000000002 02 00 10 09090909090909090909090909090909 07 01 00",
            id,
        );
    }

    #[test]
    fn groups_have_kafkas_bytes() {
        let value = GroupMetadataValue {
            protocol_type: "consumer".into(),
            generation: 3,
            protocol: Some("range".into()),
            leader: None,
            current_state_timestamp: 1,
            members: vec![MemberMetadata {
                member_id: "a".into(),
                group_instance_id: None,
                client_id: "c".into(),
                client_host: "/h".into(),
                rebalance_timeout: 2,
                session_timeout: 3,
                subscription: Bytes::from_static(b"s"),
                assignment: Bytes::new(),
            }],
        };
        let record = group("g", Some(&value));
        assert_eq!(record.key, bytes("0002 0001 67"));
        let expect = "0003 0008 636f6e73756d6572 00000003 0005 72616e6765 ffff 0000000000000001 00000001
            0001 61 ffff 0001 63 0002 2f68 00000002 00000003 00000001 73 00000000";
        assert_eq!(record.value, Some(bytes(expect)));
        let key = GroupMetadataKey { group: "g".into() };
        assert_eq!(
            read(&record.key, record.value.as_ref()),
            Ok(Some(StoredRecord::Group { key: key.clone(), value: Some(value) }))
        );
        assert_eq!(read(&record.key, None), Ok(Some(StoredRecord::Group { key, value: None })));
    }

    #[test]
    fn other_keys_are_skipped_and_damage_is_an_error() {
        for key in ["", "00", "0014 0001 67", "7fff"] {
            assert_eq!(read(&bytes(key), None), Ok(None), "{key}");
        }
        for (key, value) in [("0001 0001", ""), ("0002 0005 67", ""), ("0002 0001 67", "0009 00")] {
            assert!(read(&bytes(key), Some(&bytes(value))).is_err(), "{key}");
        }
    }
}
