//! CreateTopics (KIP-4; what was created: KIP-525; topic ids: KIP-516).
//!
//! *Owns*: the two tables. *Never*: checks a name. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 19 "CreateTopics", versions 2-7, flexible 5;

    message CreateTopicsRequest {
        topics: Vec<CreatableTopic>, 0+;
        timeout_ms: i32, 0+, default 60_000;
        validate_only: bool, 1+;
    }

    part CreatableTopic {
        name: Text, 0+;
        /// −1: the broker's default, or as `assignments` say.
        num_partitions: i32, 0+;
        /// −1: the broker's default, or as `assignments` say.
        replication_factor: i16, 0+;
        assignments: Vec<CreatableReplicaAssignment>, 0+;
        configs: Vec<CreatableTopicConfig>, 0+;
    }

    part CreatableReplicaAssignment {
        partition_index: i32, 0+;
        broker_ids: Vec<i32>, 0+;
    }

    part CreatableTopicConfig {
        name: Text, 0+;
        value: Option<Text>, 0+, null 0+;
    }

    message CreateTopicsResponse {
        throttle_time_ms: i32, 2+;
        topics: Vec<CreatableTopicResult>, 0+;
    }

    part CreatableTopicResult {
        name: Text, 0+;
        topic_id: TopicId, 7+;
        error_code: i16, 0+;
        error_message: Option<Text>, 1+, null 0+;
        /// Why `configs` is `None`.
        topic_config_error_code: i16, 5+, tag 0;
        num_partitions: i32, 5+, default -1;
        replication_factor: i16, 5+, default -1;
        /// `None`: the client may not see them.
        configs: Option<Vec<CreatableTopicConfigs>>, 5+, null 5+, default Some(Vec::new());
    }

    part CreatableTopicConfigs {
        name: Text, 5+;
        value: Option<Text>, 5+, null 5+;
        read_only: bool, 5+;
        /// Where the value is from, as in DescribeConfigs.
        config_source: i8, 5+, default -1;
        is_sensitive: bool, 5+;
    }
}
