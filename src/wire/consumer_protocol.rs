//! What Kafka's consumers tell each other inside the classic protocol: what a member subscribes to and owns, and what
//! the leader assigned to it.
//!
//! *Owns*: the form of both. *Never*: decides who gets what. *Runs on*: the core that coordinates the group, and
//! wherever members and tools of our own do.
//!
//! Layouts: Kafka, `ConsumerProtocolSubscription.json` and `ConsumerProtocolAssignment.json`. A later version begins as
//! these do.

use bytes::Bytes;

use super::codec::Stored;
use super::reader::{DecodeError, Reader};
use super::table::stored;
use super::text::Text;

stored! {
    record ConsumerProtocolSubscription, versions 0-3, flexible 32767 {
        topics: Vec<Text>, 0+;
        user_data: Option<Bytes>, 0+, null 0+;
        owned_partitions: Vec<TopicPartitions>, 1+;
        generation_id: i32, 2+, default -1;
        rack_id: Option<Text>, 3+, null 3+;
    }

    record ConsumerProtocolAssignment, versions 0-3, flexible 32767 {
        assigned_partitions: Vec<TopicPartitions>, 0+;
        user_data: Option<Bytes>, 0+, null 0+;
    }

    part TopicPartitions {
        topic: Text, 0+;
        partitions: Vec<i32>, 0+;
    }
}

const NEWEST: i16 = 3;

impl ConsumerProtocolSubscription {
    /// A subscription, and the version it is in.
    pub fn read(bytes: &Bytes) -> Result<(ConsumerProtocolSubscription, i16), DecodeError> {
        read(bytes)
    }

    /// Panics above version 3.
    pub fn write(&self, version: i16) -> Bytes {
        self.to_record(version)
    }
}

impl ConsumerProtocolAssignment {
    pub fn read(bytes: &Bytes) -> Result<ConsumerProtocolAssignment, DecodeError> {
        Ok(read(bytes)?.0)
    }

    /// Of a leader that has nothing to say beside the partitions. Panics above version 3.
    pub fn write(assigned_partitions: Vec<TopicPartitions>, version: i16) -> Bytes {
        ConsumerProtocolAssignment { assigned_partitions, user_data: None }.to_record(version)
    }
}

fn read<M: Stored>(bytes: &Bytes) -> Result<(M, i16), DecodeError> {
    let version = Reader::new(bytes.clone()).i16()?;
    if version <= NEWEST {
        return Ok((M::from_record(bytes)?, version));
    }
    let as_newest = [&NEWEST.to_be_bytes(), &bytes[2..]].concat();
    Ok((M::from_record(&as_newest.into())?, NEWEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_have_kafkas_bytes() {
        let list = |partitions: &[i32]| TopicPartitions { topic: "t".into(), partitions: partitions.to_vec() };
        let assignment = ConsumerProtocolAssignment::write(vec![list(&[7])], 1);
        assert_eq!(assignment[..], b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x07\xff\xff\xff\xff"[..]);
        let subscription = ConsumerProtocolSubscription {
            topics: vec!["t".into()],
            owned_partitions: vec![list(&[7])],
            ..Default::default()
        };
        let check = |version: i16, expect: &[u8]| {
            let bytes = subscription.write(version);
            assert_eq!(bytes[..], *expect, "version {version}");
            assert_eq!(ConsumerProtocolSubscription::read(&bytes).expect("our own").1, version);
        };
        check(0, b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
        let owned = b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x07";
        check(1, &[b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff", &owned[..]].concat());
        let last = b"\xff\xff\xff\xff\xff\xff";
        check(3, &[b"\0\x03\0\0\0\x01\0\x01t\xff\xff\xff\xff", &owned[..], last].concat());
    }

    #[test]
    fn later_versions_begin_like_the_newest_known() {
        let later = ConsumerProtocolSubscription { rack_id: Some("r".into()), ..Default::default() }.write(3);
        let later = [&[0, 9][..], &later[2..], b"more"].concat().into();
        let (read, version) = ConsumerProtocolSubscription::read(&later).expect("as version 3");
        assert_eq!((read.rack_id, version), (Some("r".into()), 3));
        for bytes in [&b""[..], b"\xff\xff", b"\0\x01\0\0"] {
            assert!(ConsumerProtocolSubscription::read(&Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }
}
