//! ConsumerGroupDescribe: groups of the consumer protocol, with what each member has and is to have (KIP-848).
//!
//! *Owns*: the two tables. *Never*: knows a group. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 69 "ConsumerGroupDescribe", versions 0-1, flexible 0;

    message ConsumerGroupDescribeRequest {
        group_ids: Vec<Text>, 0+;
        include_authorized_operations: bool, 0+;
    }

    message ConsumerGroupDescribeResponse {
        throttle_time_ms: i32, 0+;
        groups: Vec<DescribedGroup>, 0+;
    }

    part DescribedGroup {
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        group_id: Text, 0+;
        group_state: Text, 0+;
        group_epoch: i32, 0+;
        assignment_epoch: i32, 0+;
        assignor_name: Text, 0+;
        members: Vec<Member>, 0+;
        /// A bit per operation; the default means "not asked for".
        authorized_operations: i32, 0+, default i32::MIN;
    }

    part Member {
        member_id: Text, 0+;
        instance_id: Option<Text>, 0+, null 0+;
        rack_id: Option<Text>, 0+, null 0+;
        member_epoch: i32, 0+;
        client_id: Text, 0+;
        client_host: Text, 0+;
        subscribed_topic_names: Vec<Text>, 0+;
        subscribed_topic_regex: Option<Text>, 0+, null 0+;
        assignment: Assignment, 0+;
        target_assignment: Assignment, 0+;
        /// −1: not known. 0: classic protocol. 1: consumer protocol.
        member_type: i8, 1+, default -1;
    }

    part Assignment {
        topic_partitions: Vec<TopicPartitions>, 0+;
    }

    part TopicPartitions {
        topic_id: TopicId, 0+;
        topic_name: Text, 0+;
        partitions: Vec<i32>, 0+;
    }
}
