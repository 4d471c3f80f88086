//! Metadata: brokers, topics, and who leads their partitions (topic ids: KIP-516; rebootstrap: KIP-1102).
//!
//! *Owns*: the two tables. *Never*: holds metadata. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 3 "Metadata", versions 0-13, flexible 9;

    message MetadataRequest {
        /// `None`: all topics. In version 0, which has no null, an empty list means all.
        topics: Option<Vec<MetadataRequestTopic>>, 0+, null 1+, default Some(Vec::new());
        allow_auto_topic_creation: bool, 4+, default true;
        include_cluster_authorized_operations: bool, 8-10;
        include_topic_authorized_operations: bool, 8+;
    }

    part MetadataRequestTopic {
        topic_id: TopicId, 10+;
        /// `None`: look for the id.
        name: Option<Text>, 0+, null 10+;
    }

    message MetadataResponse {
        throttle_time_ms: i32, 3+;
        brokers: Vec<MetadataResponseBroker>, 0+;
        cluster_id: Option<Text>, 2+, null 2+;
        controller_id: i32, 1+, default -1;
        topics: Vec<MetadataResponseTopic>, 0+;
        /// A bit per operation; the default means "not asked for".
        cluster_authorized_operations: i32, 8-10, default i32::MIN;
        /// REBOOTSTRAP_REQUIRED or none.
        error_code: i16, 13+;
    }

    part MetadataResponseBroker {
        node_id: i32, 0+;
        host: Text, 0+;
        port: i32, 0+;
        rack: Option<Text>, 1+, null 1+;
    }

    part MetadataResponseTopic {
        error_code: i16, 0+;
        /// `None`: the id asked for is not known. Before version 12 there is no null: it reads as "".
        name: Option<Text>, 0+, null 12+;
        topic_id: TopicId, 10+;
        is_internal: bool, 1+;
        partitions: Vec<MetadataResponsePartition>, 0+;
        /// A bit per operation; the default means "not asked for".
        topic_authorized_operations: i32, 8+, default i32::MIN;
    }

    part MetadataResponsePartition {
        error_code: i16, 0+;
        partition_index: i32, 0+;
        leader_id: i32, 0+;
        leader_epoch: i32, 7+, default -1;
        replica_nodes: Vec<i32>, 0+;
        isr_nodes: Vec<i32>, 0+;
        offline_replicas: Vec<i32>, 5+;
    }
}
