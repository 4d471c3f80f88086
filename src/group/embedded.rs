//! What Kafka's consumers tell each other inside the classic protocol: what a member subscribes to and owns, and what
//! the leader assigned to it.
//!
//! *Owns*: the form of both. *Never*: decides. *Runs on*: the core that coordinates the group.
//!
//! Layouts: Kafka, `ConsumerProtocolSubscription.json` and `ConsumerProtocolAssignment.json`. A later version begins as
//! these do.

use bytes::Bytes;

use crate::group::assignment::Assignment;
use crate::group::topics::Topics;
use crate::wire::codec::Stored;
use crate::wire::reader::{DecodeError, Reader};
use crate::wire::table::stored;
use crate::wire::text::Text;

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

/// A subscription, and the version it is in.
pub(super) fn read_subscription(bytes: &Bytes) -> Result<(ConsumerProtocolSubscription, i16), DecodeError> {
    let (bytes, version) = in_known_version(bytes)?;
    Ok((ConsumerProtocolSubscription::from_record(&bytes)?, version))
}

pub(super) fn read_assignment(bytes: &Bytes) -> Result<ConsumerProtocolAssignment, DecodeError> {
    ConsumerProtocolAssignment::from_record(&in_known_version(bytes)?.0)
}

/// An assignment in the version that the member speaks.
pub(super) fn write_assignment(set: &Assignment, version: i16, topics: &dyn Topics) -> Bytes {
    let named = set
        .lists()
        .filter_map(|(id, partitions)| Some(TopicPartitions { topic: topics.name_of(id)?.into(), partitions }));
    ConsumerProtocolAssignment { assigned_partitions: named.collect(), user_data: None }.to_record(version)
}

/// Of topics that are gone nothing is left.
pub(super) fn to_set(lists: &[TopicPartitions], topics: &dyn Topics) -> Assignment {
    let known = lists.iter().filter_map(|list| Some((topics.by_name(&list.topic)?.id, list.partitions.as_slice())));
    Assignment::from_lists(known)
}

fn in_known_version(bytes: &Bytes) -> Result<(Bytes, i16), DecodeError> {
    let version = Reader::new(bytes.clone()).i16()?;
    if version <= NEWEST {
        return Ok((bytes.clone(), version));
    }
    Ok(([&NEWEST.to_be_bytes(), &bytes[2..]].concat().into(), NEWEST))
}

#[cfg(test)]
pub(in crate::group) mod tests {
    use super::*;
    use crate::base::ids::TopicId;

    /// In the version that has what a member owns.
    pub fn subscription(topics: &[&str], owned: &[(&str, Vec<i32>)]) -> Bytes {
        let owned =
            owned.iter().map(|(topic, list)| TopicPartitions { topic: (*topic).into(), partitions: list.clone() });
        ConsumerProtocolSubscription {
            topics: topics.iter().map(|topic| (*topic).into()).collect(),
            owned_partitions: owned.collect(),
            ..Default::default()
        }
        .to_record(1)
    }

    #[test]
    fn later_versions_begin_like_the_newest_known() {
        let (read, version) = read_subscription(&subscription(&["a"], &[])).expect("our own");
        assert_eq!((read.topics, version), (vec!["a".into()], 1));
        let later = ConsumerProtocolSubscription { rack_id: Some("r".into()), ..Default::default() }.to_record(3);
        let later = [&[0, 9][..], &later[2..], b"more"].concat().into();
        let (read, version) = read_subscription(&later).expect("as version 3");
        assert_eq!((read.rack_id, version), (Some("r".into()), 3));
        for bytes in [&b""[..], b"\xff\xff", b"\0\x01\0\0"] {
            assert!(read_subscription(&Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn assignments_have_kafkas_bytes() {
        struct One;
        impl Topics for One {
            fn version(&self) -> u64 {
                1
            }

            fn by_name(&self, _: &str) -> Option<crate::group::topics::KnownTopic> {
                None
            }

            fn name_of(&self, id: TopicId) -> Option<&str> {
                (id == TopicId([1; 16])).then_some("t")
            }

            fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
                Box::new(std::iter::empty())
            }
        }
        let set = Assignment::from_lists([(TopicId([1; 16]), &[7][..]), (TopicId([2; 16]), &[0])]);
        let expect = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x07\xff\xff\xff\xff";
        assert_eq!(write_assignment(&set, 1, &One)[..], expect[..]);
    }
}
