//! The API table: every request Corelog serves, in one place. Dispatch, ApiVersions and metric names derive from it.
//!
//! *Owns*: the rows. *Never*: handles a request itself. *Runs on*: every core.

pub mod allocate_producer_ids;
pub mod alter_configs;
pub mod alter_partition;
pub mod api_versions;
pub mod broker_lifecycle;
pub mod client_quotas;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod elect_leaders;
pub mod envelope;
pub mod epoch_ends;
pub mod features;
pub mod fetch;
pub mod fetch_rows;
pub mod fetch_session;
pub mod find_coordinator;
pub mod group_membership;
pub mod group_work;
pub mod init_producer_id;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod members;
pub mod meta_pull;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod peer_hello;
pub mod produce;
pub mod questions;
pub mod quorum_messages;
pub mod reassignments;
pub mod telemetry;
pub mod wishes;

use crate::base::slab::Key;
use crate::base::time::Now;
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::forward;
use crate::broker::job::{Job, Work};
use crate::broker::message::ControlOutcome;
use crate::broker::shard::{Request, Shard};
use crate::wire::codec::Message;
use crate::wire::errors::ErrorCode;

/// One API.
#[derive(Debug)]
pub struct Api {
    /// Kafka's number on the wire.
    pub key: i16,
    /// Kafka's name, also the metric label.
    pub name: &'static str,
    /// Advertised in ApiVersions.
    pub versions: (i16, i16),
    /// Oldest version that is answered. Above the first of `versions` only for Produce (KAFKA-18659).
    pub served_from: i16,
    handle: fn(&mut Shard, Request, &mut Effects),
}

macro_rules! apis {
    ($(#[$doc:meta])* $table:ident: $($key:literal $name:ident $first:literal..=$last:literal $($served:literal)? => $handle:path,)*) => {
        $(#[$doc])*
        pub const $table: &[Api] = &[$(Api {
            key: $key,
            name: stringify!($name),
            versions: ($first, $last),
            served_from: apis!(@served $first $($served)?),
            handle: $handle,
        },)*];
    };
    (@served $first:literal) => { $first };
    (@served $first:literal $served:literal) => { $served };
}

apis! {
    /// What clients may ask.
    APIS:
    0 Produce 0..=13 3 => produce::handle,
    1 Fetch 4..=18 => fetch::handle,
    2 ListOffsets 1..=11 => list_offsets::handle,
    3 Metadata 0..=13 => metadata::handle,
    8 OffsetCommit 2..=10 => offset_commit::handle,
    9 OffsetFetch 1..=10 => offset_fetch::handle,
    10 FindCoordinator 0..=6 => find_coordinator::handle,
    11 JoinGroup 0..=9 => group_membership::handle_join,
    12 Heartbeat 0..=4 => group_membership::handle_heartbeat,
    13 LeaveGroup 0..=5 => group_membership::handle_leave,
    14 SyncGroup 0..=5 => group_membership::handle_sync,
    15 DescribeGroups 0..=6 => describe_groups::handle,
    16 ListGroups 0..=5 => list_groups::handle,
    18 ApiVersions 0..=4 => api_versions::handle,
    19 CreateTopics 2..=7 => create_topics::handle,
    20 DeleteTopics 1..=6 => delete_topics::handle,
    21 DeleteRecords 0..=2 => delete_records::handle,
    22 InitProducerId 0..=5 => init_producer_id::handle,
    23 OffsetForLeaderEpoch 2..=4 => epoch_ends::handle,
    32 DescribeConfigs 1..=4 => describe_configs::handle,
    33 AlterConfigs 0..=2 => alter_configs::handle,
    35 DescribeLogDirs 1..=4 => describe_log_dirs::handle,
    37 CreatePartitions 0..=3 => create_partitions::handle,
    42 DeleteGroups 0..=2 => delete_groups::handle,
    43 ElectLeaders 0..=2 => elect_leaders::handle,
    44 IncrementalAlterConfigs 0..=1 => alter_configs::handle_incremental,
    45 AlterPartitionReassignments 0..=1 => reassignments::handle_alter,
    46 ListPartitionReassignments 0..=0 => reassignments::handle_list,
    47 OffsetDelete 0..=0 => offset_delete::handle,
    48 DescribeClientQuotas 0..=1 => client_quotas::handle_describe,
    49 AlterClientQuotas 0..=1 => client_quotas::handle_alter,
    55 DescribeQuorum 0..=2 => describe_quorum::handle,
    57 UpdateFeatures 0..=2 => features::handle,
    60 DescribeCluster 0..=2 => describe_cluster::handle,
    61 DescribeProducers 0..=0 => describe_producers::handle,
    64 UnregisterBroker 0..=0 => members::handle_unregister,
    68 ConsumerGroupHeartbeat 0..=1 => group_membership::handle_consumer_heartbeat,
    69 ConsumerGroupDescribe 0..=1 => describe_groups::handle_consumer,
    71 GetTelemetrySubscriptions 0..=0 => telemetry::handle_get,
    72 PushTelemetry 0..=0 => telemetry::handle_push,
    74 ListConfigResources 0..=1 => list_config_resources::handle,
    75 DescribeTopicPartitions 0..=0 => describe_topic_partitions::handle,
    80 AddRaftVoter 0..=0 => members::handle_add_voter,
    81 RemoveRaftVoter 0..=0 => members::handle_remove_voter,
}

apis! {
    /// What other brokers may ask, on the listener for them, and nobody else.
    PEER_APIS:
    1 Fetch 15..=18 => fetch::handle,
    56 AlterPartition 2..=3 => alter_partition::handle,
    58 Envelope 0..=0 => envelope::handle,
    62 BrokerRegistration 0..=4 => broker_lifecycle::handle_registration,
    63 BrokerHeartbeat 0..=1 => broker_lifecycle::handle_heartbeat,
    67 AllocateProducerIds 0..=0 => allocate_producer_ids::handle,
    1000 PeerHello 0..=0 => peer_hello::handle,
    1001 QuorumMessages 0..=0 => quorum_messages::handle,
    1002 MetaPull 0..=0 => meta_pull::handle,
}

/// The keys by name, for handlers that reply.
pub mod key {
    pub const PRODUCE: i16 = 0;
    pub const FETCH: i16 = 1;
    pub const LIST_OFFSETS: i16 = 2;
    pub const METADATA: i16 = 3;
    pub const OFFSET_COMMIT: i16 = 8;
    pub const OFFSET_FETCH: i16 = 9;
    pub const FIND_COORDINATOR: i16 = 10;
    pub const JOIN_GROUP: i16 = 11;
    pub const HEARTBEAT: i16 = 12;
    pub const LEAVE_GROUP: i16 = 13;
    pub const SYNC_GROUP: i16 = 14;
    pub const DESCRIBE_GROUPS: i16 = 15;
    pub const LIST_GROUPS: i16 = 16;
    pub const API_VERSIONS: i16 = 18;
    pub const CREATE_TOPICS: i16 = 19;
    pub const DELETE_TOPICS: i16 = 20;
    pub const DELETE_RECORDS: i16 = 21;
    pub const INIT_PRODUCER_ID: i16 = 22;
    pub const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
    pub const DESCRIBE_CONFIGS: i16 = 32;
    pub const ALTER_CONFIGS: i16 = 33;
    pub const DESCRIBE_LOG_DIRS: i16 = 35;
    pub const CREATE_PARTITIONS: i16 = 37;
    pub const DELETE_GROUPS: i16 = 42;
    pub const ELECT_LEADERS: i16 = 43;
    pub const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
    pub const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;
    pub const LIST_PARTITION_REASSIGNMENTS: i16 = 46;
    pub const OFFSET_DELETE: i16 = 47;
    pub const DESCRIBE_CLIENT_QUOTAS: i16 = 48;
    pub const ALTER_CLIENT_QUOTAS: i16 = 49;
    pub const DESCRIBE_QUORUM: i16 = 55;
    pub const UPDATE_FEATURES: i16 = 57;
    pub const DESCRIBE_CLUSTER: i16 = 60;
    pub const DESCRIBE_PRODUCERS: i16 = 61;
    pub const UNREGISTER_BROKER: i16 = 64;
    pub const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
    pub const CONSUMER_GROUP_DESCRIBE: i16 = 69;
    pub const GET_TELEMETRY_SUBSCRIPTIONS: i16 = 71;
    pub const PUSH_TELEMETRY: i16 = 72;
    pub const LIST_CONFIG_RESOURCES: i16 = 74;
    pub const DESCRIBE_TOPIC_PARTITIONS: i16 = 75;
    pub const ADD_RAFT_VOTER: i16 = 80;
    pub const REMOVE_RAFT_VOTER: i16 = 81;
    pub const ALTER_PARTITION: i16 = 56;
    pub const ENVELOPE: i16 = 58;
    pub const BROKER_REGISTRATION: i16 = 62;
    pub const BROKER_HEARTBEAT: i16 = 63;
    pub const ALLOCATE_PRODUCER_IDS: i16 = 67;
    pub const PEER_HELLO: i16 = 1000;
    pub const QUORUM_MESSAGES: i16 = 1001;
    pub const META_PULL: i16 = 1002;
}

/// Hands a request to its row. An unknown API or version closes the connection, as Kafka does, except that
/// ApiVersions of any version is answered, so that a newer client can ask again with a version we know (KIP-511).
///
/// What other brokers may ask is another table, and they have to be known.
pub(in crate::broker) fn dispatch(shard: &mut Shard, api_key: i16, request: Request, effects: &mut Effects) {
    let of_broker = request.asker.listener == ListenerKind::Peer;
    if of_broker && api_key != key::PEER_HELLO && shard.sessions.admitted(request.asker.to.conn).is_none() {
        let why = format!("API {api_key} on the listener for brokers, and no greeting before it");
        return shard.close_connection(request.asker, &why, effects);
    }
    let table = if of_broker { PEER_APIS } else { APIS };
    let api = match row(table, api_key, request.asker.version) {
        Ok(api) => api,
        Err(_) if api_key == key::API_VERSIONS && !of_broker => {
            return api_versions::refuse_version(shard, request, effects);
        }
        Err(why) => return shard.close_connection(request.asker, &why, effects),
    };
    if of_broker {
        return (api.handle)(shard, request, effects);
    }
    if forward::is_for_controller(api_key) {
        let now = request.now;
        return shard.forward(api_key, request, now, effects);
    }
    run(shard, api, request, effects);
}

/// Serves a client's request here, wherever it came in.
pub(in crate::broker) fn serve(shard: &mut Shard, api_key: i16, request: Request, effects: &mut Effects) {
    match row(APIS, api_key, request.asker.version) {
        Ok(api) => run(shard, api, request, effects),
        Err(why) => shard.close_connection(request.asker, &why, effects),
    }
}

/// The row of an API, if it has the version. Errors say what is not served.
fn row(table: &'static [Api], api_key: i16, version: i16) -> Result<&'static Api, String> {
    let api = table.iter().find(|api| api.key == api_key);
    let api = api.ok_or_else(|| format!("API {api_key} is not served"))?;
    if (api.served_from..=api.versions.1).contains(&version) {
        return Ok(api);
    }
    Err(format!("{} version {version} is not served ({} to {} are)", api.name, api.served_from, api.versions.1))
}

fn run(shard: &mut Shard, api: &Api, request: Request, effects: &mut Effects) {
    shard.counts.on_request(api.key);
    shard.begin_request(&request, effects);
    let to = request.asker.to;
    (api.handle)(shard, request, effects);
    shard.end_request(to, effects);
}

/// Decodes a request body. One that is not a message of its version closes the connection: what the client meant
/// cannot be known. Bytes after the message are ignored, as Kafka's brokers do: librdkafka sends three after a
/// Metadata request for all topics.
pub(in crate::broker) fn decode<M: Message>(
    shard: &mut Shard,
    request: &mut Request,
    name: &str,
    effects: &mut Effects,
) -> Option<M> {
    match M::decode(&mut request.body, request.asker.version) {
        Ok(message) => Some(message),
        Err(error) => {
            shard.close_connection(request.asker, &format!("{name} request: {error}"), effects);
            None
        }
    }
}

/// Passes the end of a control order to the API that gave it.
pub(in crate::broker) fn on_controlled(
    shard: &mut Shard,
    key: Key,
    outcome: ControlOutcome,
    now: Now,
    effects: &mut Effects,
) {
    if let ControlOutcome::ProducerIds { .. } | ControlOutcome::Failed(_) = outcome
        && shard.producer_ids.is_waiting_as(key)
    {
        return init_producer_id::on_block(shard, outcome, effects);
    }
    let Some(Job { asker, work, again }) = shard.jobs.remove(key) else { return };
    if matches!(outcome, ControlOutcome::Failed(ErrorCode::NotController))
        && shard.ask_next_controller(asker, again, now, effects)
    {
        return;
    }
    match work {
        Work::CreateTopics(work) => create_topics::on_outcome(shard, asker, work, outcome, effects),
        Work::DeleteTopics(work) => delete_topics::on_outcome(shard, asker, work, outcome, effects),
        Work::AlterQuotas(work) => client_quotas::on_outcome(shard, asker, work, outcome, effects),
        Work::AlterConfigs(work) => alter_configs::on_outcome(shard, asker, work, outcome, effects),
        Work::CreatePartitions(work) => create_partitions::on_outcome(shard, asker, work, outcome, effects),
        Work::MovePartitions(work) => reassignments::on_outcome(shard, asker, work, outcome, effects),
        Work::ElectLeaders(work) => elect_leaders::on_outcome(shard, asker, work, outcome, effects),
        Work::Members(work) => members::on_outcome(shard, asker, &work, outcome, effects),
        Work::DescribeQuorum(request) => {
            describe_quorum::on_outcome(shard, asker, &request, outcome, now, effects);
        }
        Work::FindCoordinator(request) => find_coordinator::on_outcome(shard, asker, request, effects),
        Work::Metadata(request) => metadata::on_outcome(shard, asker, &request, outcome, now, effects),
        Work::AllocateProducerIds => allocate_producer_ids::on_outcome(shard, asker, outcome.producer_ids(), effects),
        Work::Produce(_)
        | Work::Fetch(_)
        | Work::ListOffsets(_)
        | Work::EpochEnds(_)
        | Work::DeleteRecords(_)
        | Work::InitProducerId
        | Work::Registration
        | Work::Forward(_)
        | Work::Group(_)
        | Work::DescribeLogDirs(_)
        | Work::DescribeProducers(_) => {
            unreachable!("only changes of metadata are ordered under a job's own key")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_and_its_ranges_are_sound() {
        for table in [APIS, PEER_APIS] {
            assert!(table.is_sorted_by(|a, b| a.key < b.key));
        }
        for api in APIS.iter().chain(PEER_APIS) {
            assert!(api.versions.0 <= api.served_from && api.served_from <= api.versions.1, "{}", api.name);
        }
    }
}
