//! Partitions that go to other brokers, leadership that comes back, and brokers that leave for good.

mod support;

use corelog::broker::api::key;
use corelog::config::Settings;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::alter_partition_reassignments::*;
use corelog::wire::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::wire::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    TopicRequest,
};
use corelog::wire::messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse};
use corelog::wire::messages::list_partition_reassignments::*;
use corelog::wire::messages::metadata::{MetadataRequest, MetadataResponse};
use corelog::wire::messages::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use support::cluster::{Cluster, ask, wait_for_voters};

/// The topic `t`, of one partition on these brokers.
fn create(cluster: &mut Cluster, replicas: &[i32]) {
    let assignments = vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: replicas.to_vec() }];
    let (num_partitions, replication_factor) = (-1, -1);
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions,
        replication_factor,
        assignments,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..CreateTopicsRequest::default() };
    let reply: CreateTopicsResponse = ask(cluster, 1, key::CREATE_TOPICS, 7, &request);
    assert_eq!((reply.topics[0].error_code, reply.topics[0].replication_factor), (0, replicas.len() as i16));
}

/// The partition, as a broker knows it.
fn partition(cluster: &mut Cluster, node: i32) -> DescribeTopicPartitionsResponsePartition {
    let topics = vec![TopicRequest { name: "t".into() }];
    let request = DescribeTopicPartitionsRequest {
        topics,
        response_partition_limit: 10,
        ..DescribeTopicPartitionsRequest::default()
    };
    let reply: DescribeTopicPartitionsResponse = ask(cluster, node, key::DESCRIBE_TOPIC_PARTITIONS, 0, &request);
    reply.topics[0].partitions[0].clone()
}

/// Leader, replicas and ISR, which comes in the order of the replicas.
fn is_so(cluster: &mut Cluster, node: i32, leader: i32, replicas: &[i32], isr: &[i32]) -> bool {
    let partition = partition(cluster, node);
    (partition.leader_id, &partition.replica_nodes[..], &partition.isr_nodes[..]) == (leader, replicas, isr)
}

fn move_to(cluster: &mut Cluster, node: i32, replicas: Option<&[i32]>) -> i16 {
    let partitions = vec![ReassignablePartition { partition_index: 0, replicas: replicas.map(<[i32]>::to_vec) }];
    let topics = vec![ReassignableTopic { name: "t".into(), partitions }];
    let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
    let reply: AlterPartitionReassignmentsResponse =
        ask(cluster, node, key::ALTER_PARTITION_REASSIGNMENTS, 1, &request);
    assert_eq!(reply.error_code, 0);
    reply.responses[0].partitions[0].error_code
}

fn moving(cluster: &mut Cluster, node: i32) -> Option<OngoingPartitionReassignment> {
    let request = ListPartitionReassignmentsRequest::default();
    let reply: ListPartitionReassignmentsResponse = ask(cluster, node, key::LIST_PARTITION_REASSIGNMENTS, 0, &request);
    reply.topics.into_iter().flat_map(|topic| topic.partitions).next()
}

#[test]
fn a_partition_moves_to_other_brokers() {
    let mut cluster = Cluster::of(4);
    create(&mut cluster, &[1, 2]);
    assert_eq!(move_to(&mut cluster, 2, Some(&[9])), ErrorCode::InvalidReplicaAssignment.code());
    // By one that is not the controller.
    assert_eq!(move_to(&mut cluster, 3, Some(&[3, 4])), 0);
    cluster.until("it has moved", |cluster| (1..=4).all(|node| is_so(cluster, node, 3, &[3, 4], &[3, 4])));
    assert_eq!(moving(&mut cluster, 1), None);
    assert!(partition(&mut cluster, 1).leader_epoch > 0);
    assert_eq!(move_to(&mut cluster, 3, None), ErrorCode::NoReassignmentInProgress.code());
}

#[test]
fn a_move_that_cannot_end_is_shown_and_called_off() {
    let mut cluster = Cluster::of(4);
    create(&mut cluster, &[1, 2]);
    cluster.kill(4);
    cluster.until("4 is fenced", |cluster| metadata(cluster, 1).brokers.len() == 3);
    assert_eq!(move_to(&mut cluster, 2, Some(&[4, 1])), 0);
    cluster.until("all know it", |cluster| (1..=3).all(|node| moving(cluster, node).is_some()));
    cluster.advance_ms(3_000);
    let row = moving(&mut cluster, 3).expect("4 is down");
    assert_eq!((row.replicas, row.adding_replicas, row.removing_replicas), (vec![4, 1, 2], vec![4], vec![2]));
    assert_eq!(partition(&mut cluster, 3).offline_replicas, [4]);
    assert_eq!(move_to(&mut cluster, 3, None), 0);
    cluster.until("it is as before", |cluster| (1..=3).all(|node| is_so(cluster, node, 1, &[1, 2], &[1, 2])));
}

fn metadata(cluster: &mut Cluster, node: i32) -> MetadataResponse {
    ask(cluster, node, key::METADATA, 12, &MetadataRequest { topics: Some(Vec::new()), ..Default::default() })
}

#[test]
fn every_broker_shows_the_controller() {
    let mut cluster = Cluster::of(3);
    wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
    cluster.until("all know it", |cluster| (1..=3).all(|node| metadata(cluster, node).controller_id == 1));
    cluster.kill(1);
    cluster.until("they know the next", |cluster| {
        let shown = [2, 3].map(|node| metadata(cluster, node).controller_id);
        shown[0] == shown[1] && shown[0] != 1
    });
}

#[test]
fn leadership_comes_back_when_it_is_asked_for_and_by_itself() {
    for is_asked in [true, false] {
        let mut cluster = Cluster::of(3);
        wait_for_voters(&mut cluster, 1, &[1, 2, 3]);
        create(&mut cluster, &[2, 3]);
        cluster.kill(2);
        cluster.until("3 leads", |cluster| is_so(cluster, 1, 3, &[2, 3], &[3]));
        cluster.start(2, Settings::default());
        cluster.until("2 has caught up", |cluster| is_so(cluster, 1, 3, &[2, 3], &[2, 3]));
        if is_asked {
            let request = ElectLeadersRequest { topic_partitions: None, ..Default::default() };
            let reply: ElectLeadersResponse = ask(&mut cluster, 3, key::ELECT_LEADERS, 2, &request);
            let rows = reply.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
            assert_eq!((reply.error_code, rows.map(|row| row.error_code).collect::<Vec<_>>()), (0, vec![0]));
        } else {
            let interval = u64::from(Settings::default().leader_imbalance_check_interval_seconds);
            cluster.advance_ms(1000 * interval);
        }
        cluster.until("2 leads", |cluster| is_so(cluster, 1, 2, &[2, 3], &[2, 3]));
    }
}

#[test]
fn a_broker_that_left_for_good_is_not_shown_any_more() {
    let mut cluster = Cluster::of(4);
    let unregister = |cluster: &mut Cluster, broker_id: i32| {
        let request = UnregisterBrokerRequest { broker_id };
        let reply: UnregisterBrokerResponse = ask(cluster, 2, key::UNREGISTER_BROKER, 0, &request);
        reply.error_code
    };
    assert_eq!(unregister(&mut cluster, 9), ErrorCode::BrokerIdNotRegistered.code());
    cluster.kill(4);
    assert_eq!(unregister(&mut cluster, 4), 0);
    cluster.until("nobody shows it", |cluster| (1..=3).all(|node| metadata(cluster, node).brokers.len() == 3));
    assert_eq!(unregister(&mut cluster, 4), ErrorCode::BrokerIdNotRegistered.code());
}
