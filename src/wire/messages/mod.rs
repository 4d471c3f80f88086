//! The messages: one module an API, because Kafka repeats the names of nested types from one to the next.
//!
//! *Owns*: the list of the APIs that have tables. *Never*: decides which of them a broker offers.
//! *Runs on*: every core.
//!
//! Fields and versions are those of Kafka 4.2's `clients/src/main/resources/common/message/*.json`; so are the
//! defaults, but for the nullable texts, which are all `None` here.

use super::codec::Api;

pub mod alter_client_quotas;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod elect_leaders;
pub mod fetch;
pub mod find_coordinator;
pub mod get_telemetry_subscriptions;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod push_telemetry;
pub mod sync_group;
pub mod update_features;

/// Every API with tables, by key.
pub const APIS: &[Api] = &[
    produce::API,
    fetch::API,
    list_offsets::API,
    metadata::API,
    offset_commit::API,
    offset_fetch::API,
    find_coordinator::API,
    join_group::API,
    heartbeat::API,
    leave_group::API,
    sync_group::API,
    describe_groups::API,
    list_groups::API,
    api_versions::API,
    create_topics::API,
    delete_topics::API,
    delete_records::API,
    init_producer_id::API,
    offset_for_leader_epoch::API,
    describe_configs::API,
    alter_configs::API,
    describe_log_dirs::API,
    create_partitions::API,
    delete_groups::API,
    elect_leaders::API,
    incremental_alter_configs::API,
    alter_partition_reassignments::API,
    list_partition_reassignments::API,
    offset_delete::API,
    describe_client_quotas::API,
    alter_client_quotas::API,
    describe_quorum::API,
    update_features::API,
    describe_cluster::API,
    describe_producers::API,
    consumer_group_heartbeat::API,
    consumer_group_describe::API,
    get_telemetry_subscriptions::API,
    push_telemetry::API,
    list_config_resources::API,
    describe_topic_partitions::API,
];

/// The row of `key`.
pub fn api(key: i16) -> Option<&'static Api> {
    usize::try_from(key).ok().and_then(|key| BY_KEY.get(key)).and_then(Option::as_ref)
}

/// An index instead of a search: it is asked for every request.
static BY_KEY: [Option<Api>; KEYS] = {
    let mut rows = [None; KEYS];
    let mut i = 0;
    while i < APIS.len() {
        assert!(rows[APIS[i].key as usize].is_none(), "a key is listed once");
        rows[APIS[i].key as usize] = Some(APIS[i]);
        i += 1;
    }
    rows
};

/// Above the largest key of [`APIS`].
const KEYS: usize = 80;
