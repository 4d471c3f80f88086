//! What admin clients are told of a consumer group.
//!
//! *Owns*: that form. *Never*: changes the group. *Runs on*: the core that coordinates the group.
//!
//! Kafka: `ConsumerGroup.asDescribedGroup`.

use crate::config::Assignor;
use crate::group::assignment::Assignment;
use crate::group::consumer::{ConsumerGroup, PROTOCOL_TYPE};
use crate::group::consumer_member::ConsumerMember;
use crate::group::topics::Topics;
use crate::wire::messages::consumer_group_describe::{self as message, DescribedGroup, Member, TopicPartitions};
use crate::wire::messages::list_groups::ListedGroup;
use crate::wire::text::Text;

const TYPE: &str = "consumer";

/// `member_type` of ConsumerGroupDescribe.
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

impl ConsumerGroup {
    /// `allowed` are the assignors that members may wish for.
    pub fn described(&self, name: &str, allowed: &[Assignor], topics: &dyn Topics) -> DescribedGroup {
        let members = self.members.iter().map(|(id, member)| describe_member(id, member, self.targets.get(id), topics));
        DescribedGroup {
            group_id: name.into(),
            group_state: Text::from_static(self.state().name()),
            group_epoch: self.epoch.0,
            assignment_epoch: self.target_epoch.0,
            assignor_name: Text::from_static(self.assignor(allowed).name()),
            members: members.collect(),
            ..DescribedGroup::default()
        }
    }

    pub fn listed(&self, name: &str) -> ListedGroup {
        ListedGroup {
            group_id: name.into(),
            protocol_type: Text::from_static(PROTOCOL_TYPE),
            group_state: Text::from_static(self.state().name()),
            group_type: Text::from_static(TYPE),
        }
    }
}

fn describe_member(id: &str, member: &ConsumerMember, target: Option<&Assignment>, topics: &dyn Topics) -> Member {
    let text = |text: &Option<String>| text.as_ref().map(Text::from);
    let metadata = &member.metadata;
    Member {
        member_id: id.into(),
        instance_id: text(&metadata.instance_id),
        rack_id: text(&metadata.rack_id),
        member_epoch: member.epoch().0,
        client_id: (&metadata.client_id).into(),
        client_host: (&metadata.client_host).into(),
        subscribed_topic_names: metadata.topics.iter().map(Text::from).collect(),
        subscribed_topic_regex: Some((&metadata.pattern).into()),
        assignment: describe_assignment(&member.current.assigned, topics),
        target_assignment: target.map_or_else(Default::default, |target| describe_assignment(target, topics)),
        member_type: if member.is_classic() { CLASSIC_MEMBER } else { CONSUMER_MEMBER },
    }
}

/// Of topics that are gone nothing is said.
fn describe_assignment(set: &Assignment, topics: &dyn Topics) -> message::Assignment {
    let known = set.lists().filter_map(|(topic_id, partitions)| {
        let topic_name = topics.name_of(topic_id)?.into();
        Some(TopicPartitions { topic_id, topic_name, partitions })
    });
    message::Assignment { topic_partitions: known.collect() }
}
