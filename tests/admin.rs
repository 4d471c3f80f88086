//! What administrators ask about one broker, through the seam: directories, producers, leaders, quorum, features.

mod support;

use bytes::Bytes;
use corelog::base::ids::ConnId;
use corelog::broker::api::key;
use corelog::broker::effect::ListenerKind::{PerCore, Shared};
use corelog::config::Settings;
use corelog::wire::codec::Message;
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use corelog::wire::messages::alter_partition_reassignments::*;
use corelog::wire::messages::describe_log_dirs::*;
use corelog::wire::messages::describe_producers::{DescribeProducersRequest, DescribeProducersResponse, TopicRequest};
use corelog::wire::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, PartitionRequest, TopicRequest as QuorumTopic,
};
use corelog::wire::messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse, TopicPartitions};
use corelog::wire::messages::list_partition_reassignments::*;
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::messages::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use corelog::wire::messages::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use corelog::wire::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse};
use corelog::wire::messages::{api_versions, update_features};
use corelog::wire::records::BatchBuilder;
use support::{Client, MemDisk, NOW_MS, World};

fn world(cores: u16) -> World {
    World::start(cores, Settings { node_id: 7, ..Settings::default() }, MemDisk::default())
}

/// A record of an idempotent producer.
fn produce(world: &mut World, client: Client, topic: &str, partition: i32, producer_id: i64, sequence: i32) -> usize {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer_id, 3, sequence);
    builder.push(NOW_MS, None, Some(b"value"));
    let records: Bytes = builder.build().bytes;
    let bytes = records.len();
    let partition_data = vec![PartitionProduceData { index: partition, records: Some(records) }];
    let topic_data = vec![TopicProduceData { name: topic.into(), partition_data, ..Default::default() }];
    let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() };
    let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &request);
    assert_eq!(reply.responses[0].partition_responses[0].error_code, 0, "{reply:?}");
    bytes
}

#[test]
fn the_data_directory_is_described_with_the_sizes_of_partitions_and_its_volume() {
    let mut world = world(3);
    let client = world.connect(1, Shared);
    world.create(client, "a", 4);
    world.create(client, "b", 2);
    let bytes = produce(&mut world, client, "a", 2, 5, 0) as i64;
    let describe = |world: &mut World, client: Client, topics: Option<&[(&str, &[i32])]>| {
        let topics = topics.map(|topics| {
            let row = |row: &(&str, &[i32])| DescribableLogDirTopic { topic: row.0.into(), partitions: row.1.to_vec() };
            topics.iter().map(row).collect()
        });
        let request = DescribeLogDirsRequest { topics };
        let reply: DescribeLogDirsResponse = world.call(client, key::DESCRIBE_LOG_DIRS, 4, &request);
        let [dir] = reply.results.as_slice() else { panic!("{reply:?}") };
        assert_eq!((dir.error_code, dir.log_dir.as_str()), (0, "./corelog-data"));
        assert_eq!((dir.total_bytes, dir.usable_bytes), (1 << 40, 1 << 39));
        let mut rows = Vec::new();
        for topic in &dir.topics {
            let sizes =
                topic.partitions.iter().map(|row| (topic.name.to_string(), row.partition_index, row.partition_size));
            rows.extend(sizes);
        }
        rows.sort();
        rows
    };
    let row = |name: &str, partition: i32, bytes: i64| (name.to_owned(), partition, bytes);
    let of_a = [row("a", 0, 0), row("a", 1, 0), row("a", 2, bytes), row("a", 3, 0)];
    let all = [&of_a[..], &[row("b", 0, 0), row("b", 1, 0)]].concat();
    assert_eq!(describe(&mut world, client, None), all);
    assert_eq!(describe(&mut world, client, Some(&[("a", &[2, 2, 9, -1]), ("missing", &[0])])), of_a[2..3]);
    assert_eq!(describe(&mut world, client, Some(&[])), []);
    // Each core that is shown as a broker tells of its own.
    let mut together = Vec::new();
    for core in 0..3 {
        let client = world.connect(core, PerCore);
        let own = describe(&mut world, client, None);
        assert!(own.len() < all.len());
        together.extend(own);
    }
    together.sort();
    assert_eq!(together, all);
}

#[test]
fn a_client_that_leaves_while_it_is_answered_does_no_harm() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    world.disk_held = true;
    let request = DescribeLogDirsRequest { topics: None };
    world.send(client, key::DESCRIBE_LOG_DIRS, 4, &request);
    world.disconnect(client);
    world.release_disk();
    let client = world.connect(0, Shared);
    assert_ne!(client.conn, ConnId(1));
    let reply: DescribeLogDirsResponse = world.call(client, key::DESCRIBE_LOG_DIRS, 4, &request);
    assert_eq!(reply.results.len(), 1);
}

#[test]
fn producers_of_partitions_are_told() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    world.create(client, "t", 3);
    for (producer, sequence) in [(5, 0), (5, 1), (9, 0)] {
        produce(&mut world, client, "t", 1, producer, sequence);
    }
    let topic =
        |name: &str, partitions: &[i32]| TopicRequest { name: name.into(), partition_indexes: partitions.to_vec() };
    let request = DescribeProducersRequest { topics: vec![topic("t", &[0, 1, 3, 1]), topic("x", &[0])] };
    let reply: DescribeProducersResponse = world.call(client, key::DESCRIBE_PRODUCERS, 0, &request);
    let codes: Vec<i16> = reply.topics.iter().flat_map(|topic| &topic.partitions).map(|row| row.error_code).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(codes, [0, 0, unknown, ErrorCode::InvalidRequest.code(), unknown]);
    let rows = &reply.topics[0].partitions;
    let of = |at: usize| -> Vec<(i64, i32, i32, i64)> {
        let producers = rows[at].active_producers.iter();
        producers.map(|row| (row.producer_id, row.producer_epoch, row.last_sequence, row.last_timestamp)).collect()
    };
    assert_eq!(of(0), []);
    let mut both = of(3);
    both.extend(of(1));
    assert_eq!(both, [(5, 3, 1, NOW_MS), (9, 3, 0, NOW_MS)]);
}

#[test]
fn leaders_stay_where_they_are() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    world.create(client, "t", 2);
    let mut elect = |election_type: i8, partitions: Option<&[i32]>| {
        let row = |partitions: &[i32]| vec![TopicPartitions { topic: "t".into(), partitions: partitions.to_vec() }];
        let request =
            ElectLeadersRequest { election_type, topic_partitions: partitions.map(row), ..Default::default() };
        let reply: ElectLeadersResponse = world.call(client, key::ELECT_LEADERS, 2, &request);
        let rows = reply.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        (reply.error_code, rows.map(|row| row.error_code).collect::<Vec<i16>>())
    };
    let (not_needed, unknown) = (ErrorCode::ElectionNotNeeded.code(), ErrorCode::UnknownTopicOrPartition.code());
    assert_eq!(elect(0, Some(&[0, 1, 2, -1])), (0, vec![not_needed, not_needed, unknown, unknown]));
    assert_eq!(elect(1, None), (0, vec![]));
    assert_eq!(elect(2, Some(&[0])), (ErrorCode::InvalidRequest.code(), vec![]));
}

#[test]
fn partitions_are_where_they_can_be() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    world.create(client, "t", 2);
    let mut move_to = |topic: &str, partition_index: i32, replicas: Option<&[i32]>| {
        let partitions = vec![ReassignablePartition { partition_index, replicas: replicas.map(<[i32]>::to_vec) }];
        let topics = vec![ReassignableTopic { name: topic.into(), partitions }];
        let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
        let reply: AlterPartitionReassignmentsResponse =
            world.call(client, key::ALTER_PARTITION_REASSIGNMENTS, 1, &request);
        ErrorCode::from_code(reply.responses[0].partitions[0].error_code).expect("a code")
    };
    assert_eq!(move_to("t", 0, Some(&[7])), ErrorCode::None);
    assert_eq!(move_to("t", 0, Some(&[8])), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(move_to("t", 0, Some(&[7, 7])), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(move_to("t", 0, Some(&[])), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(move_to("t", 0, None), ErrorCode::NoReassignmentInProgress);
    assert_eq!(move_to("t", 2, Some(&[7])), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(move_to("x", 0, None), ErrorCode::UnknownTopicOrPartition);
    let request = ListPartitionReassignmentsRequest::default();
    let reply: ListPartitionReassignmentsResponse = world.call(client, key::LIST_PARTITION_REASSIGNMENTS, 0, &request);
    assert_eq!(reply, ListPartitionReassignmentsResponse::default());
}

#[test]
fn the_quorum_is_this_broker() {
    let mut world = world(2);
    let topic = |name: &str, partition_index: i32| QuorumTopic {
        topic_name: name.into(),
        partitions: vec![PartitionRequest { partition_index }],
    };
    for (listener, broker, port) in [(Shared, 7, 9092), (PerCore, 7000, 9100)] {
        let client = world.connect(1, listener);
        let request = DescribeQuorumRequest {
            topics: vec![topic("__cluster_metadata", 0), topic("__cluster_metadata", 1), topic("t", 0)],
        };
        let reply: DescribeQuorumResponse = world.call(client, key::DESCRIBE_QUORUM, 2, &request);
        let rows: Vec<_> = reply.topics.iter().map(|topic| &topic.partitions[0]).collect();
        assert_eq!((rows[0].error_code, rows[0].leader_id), (0, broker));
        assert!(rows[0].high_watermark > 0);
        let voters: Vec<i32> = rows[0].current_voters.iter().map(|voter| voter.replica_id).collect();
        assert_eq!((voters, rows[0].observers.len()), (vec![broker], 0));
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!((rows[1].error_code, rows[2].error_code), (unknown, unknown));
        let nodes: Vec<_> = reply.nodes.iter().map(|node| (node.node_id, node.listeners[0].port)).collect();
        assert_eq!(nodes, [(broker, port)]);
    }
}

#[test]
fn the_only_voter_stays_and_nobody_else_is_known() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    let mut add = |voter_id: i32, cluster: &str| {
        let cluster_id = Some(cluster.into()).filter(|_| !cluster.is_empty());
        let request = AddRaftVoterRequest { voter_id, cluster_id, ..Default::default() };
        let reply: AddRaftVoterResponse = world.call(client, key::ADD_RAFT_VOTER, 0, &request);
        ErrorCode::from_code(reply.error_code).expect("a code")
    };
    assert_eq!(add(7, ""), ErrorCode::DuplicateVoter);
    assert_eq!(add(8, ""), ErrorCode::InvalidRequest);
    assert_eq!(add(8, "other"), ErrorCode::InconsistentClusterId);
    let mut remove = |voter_id: i32| {
        let request = RemoveRaftVoterRequest { voter_id, ..Default::default() };
        let reply: RemoveRaftVoterResponse = world.call(client, key::REMOVE_RAFT_VOTER, 0, &request);
        ErrorCode::from_code(reply.error_code).expect("a code")
    };
    assert_eq!(remove(7), ErrorCode::InvalidRequest);
    assert_eq!(remove(8), ErrorCode::VoterNotFound);
    let request = UnregisterBrokerRequest { broker_id: 8 };
    let reply: UnregisterBrokerResponse = world.call(client, key::UNREGISTER_BROKER, 0, &request);
    assert_eq!(reply.error_code, ErrorCode::BrokerIdNotRegistered.code());
}

#[test]
fn features_are_told_and_stay_as_they_are() {
    use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
    let mut world = world(1);
    let client = world.connect(0, Shared);
    let request = ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
    let reply: ApiVersionsResponse = world.call(client, key::API_VERSIONS, 4, &request);
    let supported: Vec<_> =
        reply.supported_features.iter().map(|f| (f.name.as_str(), f.min_version, f.max_version)).collect();
    assert_eq!(supported, [("group.version", 1, 1)]);
    let finalized: Vec<_> = reply.finalized_features.iter().map(|f| (f.name.as_str(), f.max_version_level)).collect();
    assert_eq!((finalized, reply.finalized_features_epoch), (vec![("group.version", 1)], 0));
    let mut update = |version: i16, updates: &[(&str, i16)]| -> (i16, Vec<i16>) {
        let updates = updates.iter().map(|&(feature, max_version_level)| FeatureUpdateKey {
            feature: feature.into(),
            max_version_level,
            ..Default::default()
        });
        let request = UpdateFeaturesRequest { feature_updates: updates.collect(), ..Default::default() };
        let reply: UpdateFeaturesResponse = world.call(client, key::UPDATE_FEATURES, version, &request);
        (reply.error_code, reply.results.iter().map(|row| row.error_code).collect())
    };
    assert!(update_features::API.versions.contains(2));
    let refused = ErrorCode::InvalidUpdateVersion.code();
    assert_eq!(update(1, &[("group.version", 1), ("group.version", 0), ("magic", 1)]), (0, vec![0, refused, refused]));
    assert_eq!(update(2, &[("group.version", 1)]), (0, vec![]));
    assert_eq!(update(2, &[("group.version", 1), ("group.version", 2)]), (refused, vec![]));
    assert_eq!(UpdateFeaturesRequest::API.key, key::UPDATE_FEATURES);
}

#[test]
fn partitions_are_described_without_a_list_that_is_null() {
    use corelog::wire::messages::describe_topic_partitions::{
        DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicRequest,
    };
    let mut world = world(1);
    let client = world.connect(0, Shared);
    world.create(client, "a", 2);
    let topics = vec![TopicRequest { name: "a".into() }];
    let request = DescribeTopicPartitionsRequest { topics, response_partition_limit: 2000, cursor: None };
    let reply: DescribeTopicPartitionsResponse = world.call(client, key::DESCRIBE_TOPIC_PARTITIONS, 0, &request);
    assert_eq!((reply.topics[0].error_code, reply.topics[0].partitions.len()), (0, 2));
    for row in &reply.topics[0].partitions {
        assert_eq!((row.leader_id, row.replica_nodes.as_slice()), (7, &[7][..]));
        // Java's admin client reads both without asking whether they are there.
        assert_eq!((&row.eligible_leader_replicas, &row.last_known_elr), (&Some(Vec::new()), &Some(Vec::new())));
    }
}
