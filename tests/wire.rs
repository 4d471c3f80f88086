//! The message tables against another implementation of the protocol, and against hostile bytes.
//!
//! The other implementation is only ever given bytes that ours wrote: it trusts lengths.

use bytes::{Bytes, BytesMut};
use corelog::base::rng::Rng;
use corelog::wire::codec::Message;
use corelog::wire::errors::ErrorCode;
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages as ours;
use corelog::wire::reader::{Fault, Reader};
use corelog::wire::writer::Writer;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use std::fmt::Debug;

/// Runs `$check!(ours, theirs, [the way to its nested parts])` for every message. The way is that of the fields with
/// the deepest nesting; nullable lists are left out of it. `[!]`: no version has tagged fields.
macro_rules! every_message {
    ($check:ident) => {
        $check!(produce::ProduceRequest, ProduceRequest, [topic_data, partition_data]);
        $check!(produce::ProduceResponse, ProduceResponse, [responses, partition_responses, record_errors]);
        $check!(fetch::FetchRequest, FetchRequest, [topics, partitions]);
        $check!(fetch::FetchResponse, FetchResponse, [responses, partitions]);
        $check!(delete_records::DeleteRecordsRequest, DeleteRecordsRequest, [topics, partitions]);
        $check!(delete_records::DeleteRecordsResponse, DeleteRecordsResponse, [topics, partitions]);
        $check!(list_offsets::ListOffsetsRequest, ListOffsetsRequest, [topics, partitions]);
        $check!(list_offsets::ListOffsetsResponse, ListOffsetsResponse, [topics, partitions]);
        $check!(metadata::MetadataRequest, MetadataRequest, []);
        $check!(metadata::MetadataResponse, MetadataResponse, [topics, partitions]);
        $check!(offset_commit::OffsetCommitRequest, OffsetCommitRequest, [topics, partitions]);
        $check!(offset_commit::OffsetCommitResponse, OffsetCommitResponse, [topics, partitions]);
        $check!(offset_fetch::OffsetFetchRequest, OffsetFetchRequest, [groups]);
        $check!(offset_fetch::OffsetFetchResponse, OffsetFetchResponse, [groups, topics, partitions]);
        $check!(find_coordinator::FindCoordinatorRequest, FindCoordinatorRequest, []);
        $check!(find_coordinator::FindCoordinatorResponse, FindCoordinatorResponse, [coordinators]);
        $check!(join_group::JoinGroupRequest, JoinGroupRequest, [protocols]);
        $check!(join_group::JoinGroupResponse, JoinGroupResponse, [members]);
        $check!(heartbeat::HeartbeatRequest, HeartbeatRequest, []);
        $check!(heartbeat::HeartbeatResponse, HeartbeatResponse, []);
        $check!(leave_group::LeaveGroupRequest, LeaveGroupRequest, [members]);
        $check!(leave_group::LeaveGroupResponse, LeaveGroupResponse, [members]);
        $check!(sync_group::SyncGroupRequest, SyncGroupRequest, [assignments]);
        $check!(sync_group::SyncGroupResponse, SyncGroupResponse, []);
        $check!(describe_groups::DescribeGroupsRequest, DescribeGroupsRequest, []);
        $check!(describe_groups::DescribeGroupsResponse, DescribeGroupsResponse, [groups, members]);
        $check!(list_groups::ListGroupsRequest, ListGroupsRequest, []);
        $check!(list_groups::ListGroupsResponse, ListGroupsResponse, [groups]);
        $check!(api_versions::ApiVersionsRequest, ApiVersionsRequest, []);
        $check!(api_versions::ApiVersionsResponse, ApiVersionsResponse, [supported_features]);
        $check!(create_topics::CreateTopicsRequest, CreateTopicsRequest, [topics, assignments]);
        $check!(create_topics::CreateTopicsResponse, CreateTopicsResponse, [topics]);
        $check!(delete_topics::DeleteTopicsRequest, DeleteTopicsRequest, [topics]);
        $check!(delete_topics::DeleteTopicsResponse, DeleteTopicsResponse, [responses]);
        $check!(init_producer_id::InitProducerIdRequest, InitProducerIdRequest, []);
        $check!(init_producer_id::InitProducerIdResponse, InitProducerIdResponse, []);
        $check!(
            offset_for_leader_epoch::OffsetForLeaderEpochRequest,
            OffsetForLeaderEpochRequest,
            [topics, partitions]
        );
        $check!(
            offset_for_leader_epoch::OffsetForLeaderEpochResponse,
            OffsetForLeaderEpochResponse,
            [topics, partitions]
        );
        $check!(describe_configs::DescribeConfigsRequest, DescribeConfigsRequest, [resources]);
        $check!(describe_configs::DescribeConfigsResponse, DescribeConfigsResponse, [results, configs, synonyms]);
        $check!(alter_configs::AlterConfigsRequest, AlterConfigsRequest, [resources, configs]);
        $check!(alter_configs::AlterConfigsResponse, AlterConfigsResponse, [responses]);
        $check!(
            incremental_alter_configs::IncrementalAlterConfigsRequest,
            IncrementalAlterConfigsRequest,
            [resources, configs]
        );
        $check!(
            incremental_alter_configs::IncrementalAlterConfigsResponse,
            IncrementalAlterConfigsResponse,
            [responses]
        );
        $check!(get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsRequest, []);
        $check!(get_telemetry_subscriptions::GetTelemetrySubscriptionsResponse, GetTelemetrySubscriptionsResponse, []);
        $check!(push_telemetry::PushTelemetryRequest, PushTelemetryRequest, []);
        $check!(push_telemetry::PushTelemetryResponse, PushTelemetryResponse, []);
        $check!(list_config_resources::ListConfigResourcesRequest, ListConfigResourcesRequest, []);
        $check!(list_config_resources::ListConfigResourcesResponse, ListConfigResourcesResponse, [config_resources]);
        $check!(describe_log_dirs::DescribeLogDirsRequest, DescribeLogDirsRequest, []);
        $check!(describe_log_dirs::DescribeLogDirsResponse, DescribeLogDirsResponse, [results, topics, partitions]);
        $check!(elect_leaders::ElectLeadersRequest, ElectLeadersRequest, []);
        $check!(
            elect_leaders::ElectLeadersResponse,
            ElectLeadersResponse,
            [replica_election_results, partition_result]
        );
        $check!(
            alter_partition_reassignments::AlterPartitionReassignmentsRequest,
            AlterPartitionReassignmentsRequest,
            [topics, partitions]
        );
        $check!(
            alter_partition_reassignments::AlterPartitionReassignmentsResponse,
            AlterPartitionReassignmentsResponse,
            [responses, partitions]
        );
        $check!(list_partition_reassignments::ListPartitionReassignmentsRequest, ListPartitionReassignmentsRequest, []);
        $check!(
            list_partition_reassignments::ListPartitionReassignmentsResponse,
            ListPartitionReassignmentsResponse,
            [topics, partitions]
        );
        $check!(describe_quorum::DescribeQuorumRequest, DescribeQuorumRequest, [topics, partitions]);
        $check!(describe_quorum::DescribeQuorumResponse, DescribeQuorumResponse, [topics, partitions, current_voters]);
        $check!(update_features::UpdateFeaturesRequest, UpdateFeaturesRequest, [feature_updates]);
        $check!(update_features::UpdateFeaturesResponse, UpdateFeaturesResponse, []);
        $check!(describe_producers::DescribeProducersRequest, DescribeProducersRequest, [topics]);
        $check!(
            describe_producers::DescribeProducersResponse,
            DescribeProducersResponse,
            [topics, partitions, active_producers]
        );
        $check!(alter_partition::AlterPartitionRequest, AlterPartitionRequest, [topics, partitions]);
        $check!(alter_partition::AlterPartitionResponse, AlterPartitionResponse, [topics, partitions]);
        $check!(envelope::EnvelopeRequest, EnvelopeRequest, []);
        $check!(envelope::EnvelopeResponse, EnvelopeResponse, []);
        $check!(broker_registration::BrokerRegistrationRequest, BrokerRegistrationRequest, [listeners]);
        $check!(broker_registration::BrokerRegistrationResponse, BrokerRegistrationResponse, []);
        $check!(broker_heartbeat::BrokerHeartbeatRequest, BrokerHeartbeatRequest, []);
        $check!(broker_heartbeat::BrokerHeartbeatResponse, BrokerHeartbeatResponse, []);
        $check!(unregister_broker::UnregisterBrokerRequest, UnregisterBrokerRequest, []);
        $check!(unregister_broker::UnregisterBrokerResponse, UnregisterBrokerResponse, []);
        $check!(allocate_producer_ids::AllocateProducerIdsRequest, AllocateProducerIdsRequest, []);
        $check!(allocate_producer_ids::AllocateProducerIdsResponse, AllocateProducerIdsResponse, []);
        $check!(add_raft_voter::AddRaftVoterRequest, AddRaftVoterRequest, [listeners]);
        $check!(add_raft_voter::AddRaftVoterResponse, AddRaftVoterResponse, []);
        $check!(remove_raft_voter::RemoveRaftVoterRequest, RemoveRaftVoterRequest, []);
        $check!(remove_raft_voter::RemoveRaftVoterResponse, RemoveRaftVoterResponse, []);
        $check!(create_partitions::CreatePartitionsRequest, CreatePartitionsRequest, [topics]);
        $check!(create_partitions::CreatePartitionsResponse, CreatePartitionsResponse, [results]);
        $check!(delete_groups::DeleteGroupsRequest, DeleteGroupsRequest, []);
        $check!(delete_groups::DeleteGroupsResponse, DeleteGroupsResponse, [results]);
        $check!(offset_delete::OffsetDeleteRequest, OffsetDeleteRequest, [!]);
        $check!(offset_delete::OffsetDeleteResponse, OffsetDeleteResponse, [!]);
        $check!(describe_client_quotas::DescribeClientQuotasRequest, DescribeClientQuotasRequest, [components]);
        $check!(describe_client_quotas::DescribeClientQuotasResponse, DescribeClientQuotasResponse, []);
        $check!(alter_client_quotas::AlterClientQuotasRequest, AlterClientQuotasRequest, [entries, ops]);
        $check!(alter_client_quotas::AlterClientQuotasResponse, AlterClientQuotasResponse, [entries, entity]);
        $check!(describe_cluster::DescribeClusterRequest, DescribeClusterRequest, []);
        $check!(describe_cluster::DescribeClusterResponse, DescribeClusterResponse, [brokers]);
        $check!(consumer_group_heartbeat::ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatRequest, []);
        $check!(consumer_group_heartbeat::ConsumerGroupHeartbeatResponse, ConsumerGroupHeartbeatResponse, []);
        $check!(consumer_group_describe::ConsumerGroupDescribeRequest, ConsumerGroupDescribeRequest, []);
        $check!(
            consumer_group_describe::ConsumerGroupDescribeResponse,
            ConsumerGroupDescribeResponse,
            [groups, members]
        );
        $check!(describe_topic_partitions::DescribeTopicPartitionsRequest, DescribeTopicPartitionsRequest, [topics]);
        $check!(
            describe_topic_partitions::DescribeTopicPartitionsResponse,
            DescribeTopicPartitionsResponse,
            [topics, partitions]
        );
    };
}

const SAMPLES: u64 = 60;

#[test]
fn every_version_is_what_the_other_implementation_reads_and_writes() {
    macro_rules! check {
        ($ours:ident::$message:ident, $theirs:ident, $parts:tt) => {
            for version in shared_versions::<ours::$ours::$message, theirs::$theirs>() {
                there_and_back::<ours::$ours::$message, theirs::$theirs>(version);
            }
        };
    }
    every_message!(check);
}

fn there_and_back<Ours: Message + PartialEq + Debug, Theirs: Decodable + Encodable + Debug>(version: i16) {
    for seed in 0..SAMPLES {
        let sample = Ours::sample(&mut Rng::new(seed), version);
        let bytes = write(&sample, version);
        let read = read_theirs::<Theirs>(&bytes, version);
        let written = write_theirs(&read, version).expect("what it read, it writes");
        assert_eq!(written, bytes, "{} {version}, seed {seed}: {sample:?}", name::<Ours>());
        assert_eq!(read_all::<Ours>(&written, version), sample);
        // The bytes alone do not show two fields whose names are exchanged, or a tag that they do not know.
        assert_eq!(same_words(&sample), same_words(&read), "{} {version}, seed {seed}", name::<Ours>());
    }
}

#[test]
fn default_messages_are_the_same() {
    macro_rules! check {
        ($ours:ident::$message:ident, $theirs:ident, $parts:tt) => {
            let (ours, theirs) = (ours::$ours::$message::default(), theirs::$theirs::default());
            assert_eq!(same_words(&ours), same_words(&theirs));
        };
    }
    every_message!(check);
}

#[test]
fn a_default_message_of_theirs_is_read_and_written_back() {
    macro_rules! check {
        ($ours:ident::$message:ident, $theirs:ident, $parts:tt) => {
            for version in shared_versions::<ours::$ours::$message, theirs::$theirs>() {
                let bytes = write_theirs(&theirs::$theirs::default(), version).expect("a default message");
                let read = read_all::<ours::$ours::$message>(&bytes, version);
                assert_eq!(write(&read, version), bytes, "{} {version}", stringify!($message));
            }
        };
    }
    every_message!(check);
}

#[test]
fn fields_that_a_version_lacks_have_the_same_defaults() {
    let mut compared = 0;
    // Read in an old version and written in a new one, a message shows the default of every field added between.
    macro_rules! check {
        ($ours:ident::$message:ident, $theirs:ident, $parts:tt) => {{
            type Ours = ours::$ours::$message;
            let versions: Vec<i16> = shared_versions::<Ours, theirs::$theirs>().collect();
            for (i, &old) in versions.iter().enumerate() {
                for &new in &versions[i..] {
                    compared += u32::from(same_defaults::<Ours, theirs::$theirs>(old, new));
                }
            }
        }};
    }
    every_message!(check);
    assert!(compared > 600, "{compared} pairs of versions");
}

/// Says whether the pair of versions could be compared.
fn same_defaults<Ours: Message + PartialEq + Debug, Theirs: Decodable + Encodable>(old: i16, new: i16) -> bool {
    // Texts that may be null are null by default with us, and empty in Kafka's tables here.
    let differ = [("DescribeConfigs", 3), ("DescribeQuorum", 2), ("FindCoordinator", 1)];
    if differ.iter().any(|&(name, from)| Ours::API.name == name && old < from && new >= from) {
        return false;
    }
    let bytes = write(&Ours::sample(&mut Rng::new(1), old), old);
    // A field that the new version lacks and that must not be lost is an error for them.
    let Ok(expect) = write_theirs(&read_theirs::<Theirs>(&bytes, old), new) else {
        return false;
    };
    let written = write(&read_all::<Ours>(&bytes, old), new);
    assert_eq!(written, expect, "{} from {old} to {new}", name::<Ours>());
    true
}

#[test]
fn unknown_tagged_fields_are_stepped_over() {
    macro_rules! tag {
        ($part:expr, [!]) => {
            let _: &mut _ = &mut $part;
        };
        ($part:expr, []) => {
            $part.unknown_tagged_fields.insert(99, Bytes::from_static(b"?"));
            $part.unknown_tagged_fields.insert(20_000, Bytes::from(vec![1; 300]));
        };
        ($part:expr, [$field:ident $(, $rest:ident)*]) => {
            tag!($part, []);
            for inner in &mut $part.$field {
                tag!(inner, [$($rest),*]);
            }
        };
    }
    macro_rules! check {
        ($ours:ident::$message:ident, $theirs:ident, $parts:tt) => {{
            type Ours = ours::$ours::$message;
            let flexible_from = Ours::API.flexible_from;
            for version in shared_versions::<Ours, theirs::$theirs>().filter(|version| *version >= flexible_from) {
                for seed in 0..SAMPLES {
                    let sample = Ours::sample(&mut Rng::new(seed), version);
                    let mut theirs = read_theirs::<theirs::$theirs>(&write(&sample, version), version);
                    tag!(theirs, $parts);
                    let bytes = write_theirs(&theirs, version).expect("with more tagged fields");
                    assert_eq!(read_all::<Ours>(&bytes, version), sample, "version {version}, seed {seed}");
                }
            }
        }};
    }
    every_message!(check);
}

#[test]
fn null_is_read_where_the_version_has_it() {
    // The other implementation reads null everywhere, so these are rows by hand.
    fn check<M: Message>(bytes: &[u8], version: i16, allowed: bool) {
        let read = frame::decode_body::<M>(&mut Reader::new(Bytes::copy_from_slice(bytes)), version);
        let fault = read.err().map(|error| error.fault());
        assert_eq!(fault, (!allowed).then_some(Fault::Null), "{} {version}", name::<M>());
    }
    use ours::delete_topics::DeleteTopicsResponse;
    use ours::metadata::{MetadataRequest, MetadataResponse};
    let zeros = |count: usize| vec![0; count];
    check::<MetadataRequest>(&[0xff; 4], 0, false);
    check::<MetadataRequest>(&[0xff; 4], 1, true);
    // One topic: [id,] name; then the flags.
    check::<MetadataRequest>(&[vec![2], zeros(1 + 1 + 4)].concat(), 9, false);
    check::<MetadataRequest>(&[vec![2], zeros(16 + 1 + 1 + 4)].concat(), 10, true);
    // One topic: error code, name, id, internal, no partitions, operations.
    let head = [zeros(4), vec![1], zeros(1 + 4), vec![2]].concat();
    let topic = [zeros(2 + 1 + 16 + 1), vec![1], zeros(4 + 1)].concat();
    check::<MetadataResponse>(&[head.clone(), topic.clone(), zeros(1)].concat(), 11, false);
    check::<MetadataResponse>(&[head, topic, zeros(1)].concat(), 12, true);
    // One topic: name, [id,] error code, message.
    check::<DeleteTopicsResponse>(&[zeros(4), vec![2], zeros(1 + 2 + 1 + 1 + 1)].concat(), 5, false);
    check::<DeleteTopicsResponse>(&[zeros(4), vec![2], zeros(1 + 16 + 2 + 1 + 1 + 1)].concat(), 6, true);
}

#[test]
fn the_versions_that_cannot_be_compared_are_known() {
    let mut left = Vec::new();
    macro_rules! check {
        ($ours:ident::$message:ident, $theirs:ident, $parts:tt) => {{
            let ours = ours::$ours::$message::API.versions;
            let shared: Vec<i16> = shared_versions::<ours::$ours::$message, theirs::$theirs>().collect();
            let alone = (ours.first..=ours.last).filter(|version| !shared.contains(version));
            left.extend(alone.map(|version| (stringify!($message), version)));
        }};
    }
    every_message!(check);
    let expect = [
        ("ListOffsetsRequest", 11),
        ("ListOffsetsResponse", 11),
        ("OffsetCommitRequest", 10),
        ("OffsetFetchRequest", 10),
    ];
    assert_eq!(left, expect);
}

#[test]
fn requests_of_offsets_10_have_topic_ids_for_names() {
    let (head, id) = (&b"\x02g\0\0\0\x07\x02m\0\x02"[..], &[9; 16][..]);
    let rest = &b"\x02\0\0\0\x03\0\0\0\0\0\0\0\x2a\xff\xff\xff\xff\0\0\0\0"[..];
    let commit = [head, id, rest].concat();
    let read = read_all::<ours::offset_commit::OffsetCommitRequest>(&commit, 10);
    assert_eq!((read.generation_id_or_member_epoch, &read.topics[0].topic_id.0[..]), (7, id));
    assert_eq!(read.topics[0].partitions[0].committed_offset, 42);
    assert_eq!(write(&read, 10), commit);

    let fetch = [&b"\x02\x02g\0\xff\xff\xff\xff\x02"[..], id, &b"\x02\0\0\0\x03\0\0\x01\0"[..]].concat();
    let read = read_all::<ours::offset_fetch::OffsetFetchRequest>(&fetch, 10);
    let topics = read.groups[0].topics.as_deref().expect("some");
    assert_eq!(
        (&topics[0].topic_id.0[..], &topics[0].partition_indexes[..], read.require_stable),
        (id, &[3][..], true)
    );
    assert_eq!(write(&read, 10), fetch);
}

#[test]
fn list_offsets_11_has_the_bytes_of_10() {
    let request = [
        &b"\xff\xff\xff\xff\x01\x02\x02t\x02"[..],
        &b"\0\0\0\x03\0\0\0\x05\xff\xff\xff\xff\xff\xff\xff\xfa\0"[..],
        &b"\0\0\0\x75\x30\0"[..],
    ]
    .concat();
    let read = read_all::<ours::list_offsets::ListOffsetsRequest>(&request, 11);
    assert_eq!((read.replica_id, read.isolation_level, read.timeout_ms), (-1, 1, 30_000));
    let partition = &read.topics[0].partitions[0];
    assert_eq!((partition.partition_index, partition.current_leader_epoch, partition.timestamp), (3, 5, -6));
    assert_eq!(write(&read, 11), request);

    let response = [
        &b"\0\0\0\x09\x02\x02t\x02\0\0\0\x03\0\x06"[..],
        &b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x2a\0\0\0\x05\0\0\0"[..],
    ]
    .concat();
    let read = read_all::<ours::list_offsets::ListOffsetsResponse>(&response, 11);
    let partition = &read.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.timestamp, partition.offset, partition.leader_epoch), (6, -1, 42, 5));
    assert_eq!(write(&read, 11), response);

    for seed in 0..SAMPLES {
        let request = ours::list_offsets::ListOffsetsRequest::sample(&mut Rng::new(seed), 11);
        assert_eq!(write(&request, 11), write(&request, 10));
        let response = ours::list_offsets::ListOffsetsResponse::sample(&mut Rng::new(seed), 11);
        assert_eq!(write(&response, 11), write(&response, 10));
    }
}

#[test]
fn request_headers_are_those_of_the_other_implementation() {
    for api in ours::APIS {
        let key = theirs::ApiKey::try_from(api.key).expect("a key of Kafka's");
        assert_eq!(format!("{key:?}"), api.name);
        for version in api.versions.first..=api.versions.last {
            let flexible = version >= api.flexible_from;
            assert_eq!(key.request_header_version(version), if flexible { 2 } else { 1 }, "{} {version}", api.name);
            let reply_flexible = flexible && api.name != "ApiVersions";
            assert_eq!(key.response_header_version(version), i16::from(reply_flexible), "{} {version}", api.name);
            for client_id in [None, Some("sarama")] {
                check_request_header(api.key, version, client_id);
            }
        }
    }
}

fn check_request_header(api_key: i16, version: i16, client_id: Option<&'static str>) {
    let mut theirs = theirs::RequestHeader::default()
        .with_request_api_key(api_key)
        .with_request_api_version(version)
        .with_correlation_id(77)
        .with_client_id(client_id.map(Into::into));
    theirs.unknown_tagged_fields.insert(5, Bytes::from_static(b"later"));
    let header_version = theirs::ApiKey::try_from(api_key).expect("known").request_header_version(version);
    let bytes = write_theirs(&theirs, header_version).expect("a header");
    let mut reader = Reader::new(bytes);
    let expect = RequestHeader { api_key, version, correlation_id: 77, client_id: client_id.map(Into::into) };
    assert_eq!(frame::decode_header(&mut reader), Ok(expect));
    assert_eq!(reader.remaining(), 0);
}

#[test]
fn whole_frames_are_read_by_the_other_implementation() {
    macro_rules! check {
        ($ours:ident::$message:ident, $theirs:ident, $parts:tt) => {{
            type Ours = ours::$ours::$message;
            for version in shared_versions::<Ours, theirs::$theirs>() {
                let sample = Ours::sample(&mut Rng::new(3), version);
                let key = theirs::ApiKey::try_from(Ours::API.key).expect("known");
                let mut bytes = if stringify!($message).ends_with("Request") {
                    let header = RequestHeader {
                        api_key: Ours::API.key,
                        version,
                        correlation_id: 9,
                        client_id: Some("me".into()),
                    };
                    let mut bytes = unframed(frame::encode_request(&header, &sample));
                    let header_version = key.request_header_version(version);
                    let read = theirs::RequestHeader::decode(&mut bytes, header_version).expect("a header");
                    assert_eq!((read.request_api_version, read.correlation_id), (version, 9));
                    bytes
                } else {
                    let bytes = unframed(frame::encode_reply(Ours::API.key, version, 9, &sample));
                    let read = frame::decode_reply::<Ours>(Ours::API.key, version, bytes.clone());
                    assert_eq!(read, Ok((9, sample.clone())));
                    let mut bytes = bytes;
                    let header_version = key.response_header_version(version);
                    let read = theirs::ResponseHeader::decode(&mut bytes, header_version).expect("a header");
                    assert_eq!(read.correlation_id, 9);
                    bytes
                };
                let read = theirs::$theirs::decode(&mut bytes, version).expect("a body");
                assert!(bytes.is_empty());
                assert_eq!(write_theirs(&read, version).expect("what it read"), write(&sample, version));
            }
        }};
    }
    every_message!(check);
}

#[test]
fn error_codes_are_those_of_the_other_implementation() {
    let mut differ = Vec::new();
    for &error in ErrorCode::ALL {
        let Some(theirs) = kafka_protocol::error::ResponseError::try_from_code(error.code()) else {
            assert_eq!(error, ErrorCode::None);
            continue;
        };
        assert_eq!(format!("{theirs:?}"), format!("{error:?}"));
        if error.retriable() != theirs.is_retriable() {
            differ.push(error);
        }
    }
    // Kafka's clients retry it since KIP-890; the other table has not followed.
    assert_eq!(differ, [ErrorCode::ConcurrentTransactions]);
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    macro_rules! check {
        ($ours:ident::$message:ident, $theirs:ident, $parts:tt) => {{
            type Ours = ours::$ours::$message;
            for version in Ours::API.versions.first..=Ours::API.versions.last {
                for seed in 0..4 {
                    let bytes = write(&Ours::sample(&mut Rng::new(seed), version), version);
                    for end in 0..bytes.len() {
                        let read = frame::decode_body::<Ours>(&mut Reader::new(bytes.slice(..end)), version);
                        let error = read.expect_err("a part of a message is none");
                        assert!(error.at() <= end, "{error} of {end} bytes");
                    }
                }
            }
        }};
    }
    every_message!(check);
}

#[test]
fn mutated_messages_are_read_or_refused() {
    let (mut read, mut refused) = (0, 0);
    macro_rules! check {
        ($ours:ident::$message:ident, $theirs:ident, $parts:tt) => {{
            type Ours = ours::$ours::$message;
            for version in Ours::API.versions.first..=Ours::API.versions.last {
                for seed in 0..200 {
                    let mut rng = Rng::new(seed);
                    let mut bytes = write(&Ours::sample(&mut rng, version), version).to_vec();
                    for _ in 0..=rng.below(3) {
                        mutate(&mut bytes, &mut rng);
                    }
                    let Ok(message) = frame::decode_body::<Ours>(&mut Reader::new(bytes.into()), version) else {
                        refused += 1;
                        continue;
                    };
                    read += 1;
                    assert_eq!(read_all::<Ours>(&write(&message, version), version), message);
                }
            }
        }};
    }
    every_message!(check);
    assert!(read > 5_000 && refused > 5_000, "{read} read, {refused} refused");
}

/// Changes, removes, adds or repeats bytes, with a liking for those that make lengths extreme.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(bytes.len() as u64 + 1) as usize;
    let extreme = [0, 1, 0x7f, 0x80, 0xfe, 0xff][rng.below(6) as usize];
    match rng.below(5) {
        0 if at < bytes.len() => bytes[at] = rng.next_u64() as u8,
        1 if at < bytes.len() => bytes[at] = extreme,
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 if at + 4 <= bytes.len() => bytes[at..at + 4].copy_from_slice(&[0x7f, 0xff, 0xff, extreme]),
        _ => bytes.insert(at, extreme),
    }
}

/// The versions that both implementations have.
fn shared_versions<Ours: Message, Theirs: kafka_protocol::protocol::Message>() -> impl Iterator<Item = i16> {
    let (ours, theirs) = (Ours::API.versions, Theirs::VERSIONS);
    ours.first.max(theirs.min)..=ours.last.min(theirs.max)
}

fn name<M>() -> &'static str {
    std::any::type_name::<M>()
}

fn write<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    writer.finish().concat().into()
}

fn read_all<M: Message>(bytes: &[u8], version: i16) -> M {
    match frame::decode_body(&mut Reader::new(Bytes::copy_from_slice(bytes)), version) {
        Ok(message) => message,
        Err(error) => panic!("{} {version}: {error} in {bytes:x?}", name::<M>()),
    }
}

fn write_theirs<M: Encodable>(message: &M, version: i16) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).map_err(|error| error.to_string())?;
    Ok(bytes.freeze())
}

fn read_theirs<M: Decodable>(bytes: &Bytes, version: i16) -> M {
    let mut bytes = bytes.clone();
    let message = match M::decode(&mut bytes, version) {
        Ok(message) => message,
        Err(error) => panic!("{} {version}: {error}", name::<M>()),
    };
    assert!(bytes.is_empty(), "{} {version}: {} bytes left", name::<M>(), bytes.len());
    message
}

/// A message in words, without the marks by which the two implementations differ.
fn same_words(message: &impl Debug) -> String {
    let mut words = format!("{message:?}")
        .replace(", unknown_tagged_fields: {}", "")
        .replace(" { unknown_tagged_fields: {} }", "")
        .replace("Records([])", "b\"\"")
        // Texts that may be null are null by default with us, and empty in some of Kafka's tables.
        .replace("Some(\"\")", "None")
        .replace("Some(b\"\")", "None")
        // Kafka's names are a word of Rust, and one that the request has too.
        .replace("_match: ", "match_value: ")
        .replace("EntryResponse {", "EntryData {")
        // Names of Kafka's that both the request and the reply have.
        .replace("TopicRequest {", "TopicData {")
        .replace("PartitionRequest {", "PartitionData {")
        // Of a version that we do not have.
        .replace(", enable_2_pc: false, keep_prepared_txn: false", "")
        .replace(", ongoing_txn_producer_id: -1, ongoing_txn_producer_epoch: -1", "");
    for (open, close) in [("TopicId(", ")"), ("ClientInstanceId(", ")"), ("Incarnation(", ")"), ("Records([", "])")] {
        while let Some(start) = words.find(open) {
            let end = start + words[start..].find(close).expect("it closes");
            words.replace_range(end..end + close.len(), "");
            words.replace_range(start..start + open.len(), "");
        }
    }
    words
}

/// Takes off the length, which must be right.
fn unframed(slices: Vec<Bytes>) -> Bytes {
    let bytes = Bytes::from(slices.concat());
    assert_eq!(bytes[..4], (bytes.len() as i32 - 4).to_be_bytes());
    bytes.slice(4..)
}
