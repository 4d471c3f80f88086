//! Sets of partitions in the form that members of the classic protocol have them: by name, not by topic id.
//!
//! *Owns*: which name stands for which topic. *Never*: decides. *Runs on*: the core that coordinates the group.

use bytes::Bytes;

use crate::group::assignment::Assignment;
use crate::group::topics::Topics;
use crate::wire::consumer_protocol::{ConsumerProtocolAssignment, TopicPartitions};

/// An assignment in the version that the member speaks.
pub(super) fn write_assignment(set: &Assignment, version: i16, topics: &dyn Topics) -> Bytes {
    let named = set
        .lists()
        .filter_map(|(id, partitions)| Some(TopicPartitions { topic: topics.name_of(id)?.into(), partitions }));
    ConsumerProtocolAssignment::write(named.collect(), version)
}

/// Of topics that are gone nothing is left.
pub(super) fn to_set(lists: &[TopicPartitions], topics: &dyn Topics) -> Assignment {
    let known = lists.iter().filter_map(|list| Some((topics.by_name(&list.topic)?.id, list.partitions.as_slice())));
    Assignment::from_lists(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicId;
    use crate::group::topics::KnownTopic;

    #[test]
    fn topics_that_are_gone_are_left_out() {
        struct One;
        impl Topics for One {
            fn version(&self) -> u64 {
                1
            }

            fn by_name(&self, name: &str) -> Option<KnownTopic> {
                (name == "t").then_some(KnownTopic { id: TopicId([1; 16]), partitions: 8 })
            }

            fn name_of(&self, id: TopicId) -> Option<&str> {
                (id == TopicId([1; 16])).then_some("t")
            }

            fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
                Box::new(std::iter::once("t"))
            }
        }
        let kept = Assignment::from_lists([(TopicId([1; 16]), &[7][..])]);
        let set = Assignment::from_lists([(TopicId([1; 16]), &[7][..]), (TopicId([2; 16]), &[0])]);
        let written = ConsumerProtocolAssignment::read(&write_assignment(&set, 1, &One)).expect("our own");
        let list = |topic: &str, index: i32| TopicPartitions { topic: topic.into(), partitions: vec![index] };
        assert_eq!(written.assigned_partitions, [list("t", 7)]);
        assert_eq!(to_set(&[list("t", 7), list("u", 0)], &One), kept);
    }
}
