//! The messages: one module an API, because Kafka repeats the names of nested types from one to the next.
//!
//! *Owns*: the list of the APIs that have tables. *Never*: decides which of them a broker offers.
//! *Runs on*: every core.
//!
//! Fields and versions are those of Kafka 4.2's `clients/src/main/resources/common/message/*.json`; so are the
//! defaults, but for the nullable texts, which are all `None` here.

use super::codec::Api;

pub mod add_raft_voter;
pub mod allocate_producer_ids;
pub mod alter_client_quotas;
pub mod alter_configs;
pub mod alter_partition;
pub mod alter_partition_reassignments;
pub mod api_versions;
pub mod broker_heartbeat;
pub mod broker_registration;
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
pub mod envelope;
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
pub mod meta_pull;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod peer_hello;
pub mod produce;
pub mod push_telemetry;
pub mod quorum_messages;
pub mod remove_raft_voter;
pub mod sync_group;
pub mod unregister_broker;
pub mod update_features;

/// Every API of Kafka's with tables, by key.
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
    alter_partition::API,
    update_features::API,
    envelope::API,
    describe_cluster::API,
    describe_producers::API,
    broker_registration::API,
    broker_heartbeat::API,
    unregister_broker::API,
    allocate_producer_ids::API,
    consumer_group_heartbeat::API,
    consumer_group_describe::API,
    get_telemetry_subscriptions::API,
    push_telemetry::API,
    list_config_resources::API,
    describe_topic_partitions::API,
    add_raft_voter::API,
    remove_raft_voter::API,
];

/// What Corelog's brokers say to each other besides, by key.
pub const PEER_APIS: &[Api] = &[peer_hello::API, quorum_messages::API, meta_pull::API];

/// The row of `key`.
pub fn api(key: i16) -> Option<&'static Api> {
    let (rows, first): (&[Option<Api>], i16) =
        if key >= PEER_KEY_FIRST { (&PEER_BY_KEY, PEER_KEY_FIRST) } else { (&BY_KEY, 0) };
    usize::try_from(key - first).ok().and_then(|at| rows.get(at)).and_then(Option::as_ref)
}

/// An index instead of a search: it is asked for every request.
static BY_KEY: [Option<Api>; KEYS] = by_key(APIS, 0);
static PEER_BY_KEY: [Option<Api>; PEER_APIS.len()] = by_key(PEER_APIS, PEER_KEY_FIRST);

const fn by_key<const ROWS: usize>(apis: &[Api], first: i16) -> [Option<Api>; ROWS] {
    let mut rows = [None; ROWS];
    let mut i = 0;
    while i < apis.len() {
        let at = (apis[i].key - first) as usize;
        assert!(rows[at].is_none(), "a key is listed once");
        rows[at] = Some(apis[i]);
        i += 1;
    }
    rows
}

/// Above the largest key of [`APIS`].
const KEYS: usize = 82;

/// The first key of [`PEER_APIS`], far from Kafka's.
const PEER_KEY_FIRST: i16 = 1000;
