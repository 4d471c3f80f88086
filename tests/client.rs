//! The tools' client against brokers that follow a script: roles that move, what loads, versions from long ago.
#![cfg(feature = "shell")]

mod scripted;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corelog::client::client::{Client, To};
use corelog::client::error::Kind;
use corelog::client::offsets::{Moment, TopicPartition};
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::create_topics::{CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};
use corelog::wire::messages::delete_groups::{DeletableGroupResult, DeleteGroupsResponse};
use corelog::wire::messages::describe_groups::{DescribeGroupsResponse, DescribedGroup};
use corelog::wire::messages::list_groups::{ListGroupsResponse, ListedGroup};
use corelog::wire::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use corelog::wire::messages::metadata::{MetadataResponse, MetadataResponseBroker};
use corelog::wire::messages::offset_fetch::{
    OffsetFetchResponse, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use corelog::wire::messages::{
    create_topics, delete_groups, describe_groups, find_coordinator, list_groups, list_offsets, metadata, offset_fetch,
};
use scripted::Scripted;

#[test]
fn a_controller_that_moves_is_followed() {
    let scripted = Scripted::start(&[(metadata::API, 0, 9), (create_topics::API, 2, 4)], |mut question| {
        if question.key == metadata::API.key {
            // The second look finds the other node.
            return question.metadata(question.before.min(1));
        }
        let request: CreateTopicsRequest = question.body();
        let code = if question.node == 0 { ErrorCode::NotController } else { ErrorCode::None };
        let topic = CreatableTopicResult {
            name: request.topics[0].name.clone(),
            error_code: code.code(),
            ..Default::default()
        };
        question.reply(&CreateTopicsResponse { topics: vec![topic], ..Default::default() })
    });
    let request = CreateTopicsRequest { topics: vec![Default::default()], ..Default::default() };
    let codes = |reply: &CreateTopicsResponse| reply.topics.iter().map(|topic| topic.error_code).collect();
    let reply = scripted.client().ask(To::Controller, &request, codes).expect("an answer");
    assert_eq!(reply.topics[0].error_code, 0);
    assert_eq!(scripted.asked(create_topics::API), [(4, 0), (4, 1)]);
}

#[test]
fn a_leader_that_moves_is_followed() {
    let scripted = Scripted::start(&[(metadata::API, 0, 9), (list_offsets::API, 1, 5)], |mut question| {
        if question.key == metadata::API.key {
            return question.metadata(question.before.min(1));
        }
        let request: ListOffsetsRequest = question.body();
        let code = if question.node == 0 { ErrorCode::NotLeaderOrFollower } else { ErrorCode::None };
        let row = ListOffsetsPartitionResponse { error_code: code.code(), offset: 42, ..Default::default() };
        let topic = ListOffsetsTopicResponse { name: request.topics[0].name.clone(), partitions: vec![row] };
        question.reply(&ListOffsetsResponse { topics: vec![topic], ..Default::default() })
    });
    let place = TopicPartition { topic: "t".into(), partition: 0 };
    let missing = TopicPartition { topic: "t".into(), partition: 1 };
    let wanted = BTreeSet::from([place.clone(), missing.clone()]);
    let offsets = scripted.client().offsets(&wanted, Moment::End).expect("an answer");
    assert_eq!(offsets[&place], Ok(Some(42)));
    let refusal = offsets[&missing].clone().expect_err("it is not there");
    assert_eq!(refusal.error(), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(scripted.asked(list_offsets::API), [(5, 0), (5, 1)]);
}

#[test]
fn a_coordinator_is_waited_for_and_followed() {
    let versions = [(metadata::API, 0, 9), (find_coordinator::API, 0, 3), (delete_groups::API, 0, 1)];
    let scripted = Scripted::start(&versions, |question| match question.key {
        key if key == metadata::API.key => question.metadata(0),
        key if key == find_coordinator::API.key => match question.before {
            0 => question.coordinator(0, ErrorCode::CoordinatorNotAvailable),
            1 => question.coordinator(0, ErrorCode::None),
            _ => question.coordinator(1, ErrorCode::None),
        },
        _ => {
            let code = match question.before {
                0 => ErrorCode::NotCoordinator,
                1 => ErrorCode::CoordinatorLoadInProgress,
                _ => ErrorCode::NonEmptyGroup,
            };
            let row = DeletableGroupResult { group_id: "g".into(), error_code: code.code() };
            question.reply(&DeleteGroupsResponse { results: vec![row], ..Default::default() })
        }
    });
    let refusal = scripted.client().delete_group("g").expect("an answer").expect_err("refused");
    assert_eq!(refusal.error(), Some(ErrorCode::NonEmptyGroup));
    assert_eq!(scripted.asked(delete_groups::API), [(1, 0), (1, 1), (1, 1)]);
}

#[test]
fn what_old_brokers_say_of_groups_is_understood() {
    let versions = [
        (metadata::API, 0, 4),
        (find_coordinator::API, 0, 0),
        (list_groups::API, 0, 1),
        (describe_groups::API, 0, 1),
        (offset_fetch::API, 1, 2),
    ];
    let scripted = Scripted::start(&versions, |mut question| match question.key {
        key if key == metadata::API.key => question.metadata(0),
        key if key == find_coordinator::API.key => question.coordinator(1, ErrorCode::None),
        key if key == list_groups::API.key => {
            let group = ListedGroup {
                group_id: format!("g{}", question.node).into(),
                protocol_type: "consumer".into(),
                ..Default::default()
            };
            question.reply(&ListGroupsResponse { groups: vec![group], ..Default::default() })
        }
        key if key == describe_groups::API.key => {
            let asked: describe_groups::DescribeGroupsRequest = question.body();
            let state = if asked.groups[0].as_str() == "g" { "Empty" } else { "Dead" };
            let group =
                DescribedGroup { group_id: asked.groups[0].clone(), group_state: state.into(), ..Default::default() };
            question.reply(&DescribeGroupsResponse { groups: vec![group], ..Default::default() })
        }
        _ => {
            let row = |partition_index, committed_offset| OffsetFetchResponsePartition {
                partition_index,
                committed_offset,
                ..Default::default()
            };
            let topic = OffsetFetchResponseTopic { name: "t".into(), partitions: vec![row(0, 7), row(1, -1)] };
            question.reply(&OffsetFetchResponse { topics: vec![topic], ..Default::default() })
        }
    });
    let mut client = scripted.client();
    let groups = client.groups(&[], &[]).expect("an answer").whole().expect("of both");
    let names: Vec<(&str, i32)> = groups.iter().map(|group| (group.name.as_str(), group.coordinator)).collect();
    assert_eq!(names, [("g0", 0), ("g1", 1)]);
    assert!(client.group("g").expect("it is there").is_inactive());
    let error = client.group("nothing").expect_err("it is dead");
    assert_eq!(error.kind, Kind::Refused(Some(ErrorCode::GroupIdNotFound)));
    let place = TopicPartition { topic: "t".into(), partition: 0 };
    assert_eq!(client.committed("g").expect("an answer"), BTreeMap::from([(place, 7)]));
    assert_eq!(scripted.asked(offset_fetch::API), [(2, 1)]);
    let error = client.delete_group("g").expect_err("not spoken");
    assert_eq!(error.kind, Kind::NotSpoken);
}

#[test]
fn a_broker_that_is_not_where_the_cluster_says_is_told() {
    let scripted = Scripted::start(&[(metadata::API, 0, 9)], |question| {
        let host = question.addresses[0].ip().to_string().into();
        let broker = MetadataResponseBroker { node_id: 3, host, port: 1, rack: None };
        question.reply(&MetadataResponse { brokers: vec![broker], controller_id: 3, ..Default::default() })
    });
    let error = scripted.client().groups(&[], &[]).expect_err("nobody is there");
    assert_eq!(error.kind, Kind::NoAnswer);
    let expect = "broker 3 is at 127.0.0.1:1, as the cluster says, and 127.0.0.1:1 cannot be connected to";
    assert!(error.message().contains(expect), "{error}");
}

#[test]
fn a_time_that_is_up_gives_the_last_answer() {
    let versions = [(metadata::API, 0, 9), (find_coordinator::API, 0, 3)];
    let scripted = Scripted::start(&versions, |question| match question.key {
        key if key == metadata::API.key => question.metadata(0),
        _ => question.coordinator(0, ErrorCode::CoordinatorLoadInProgress),
    });
    let at = scripted.addresses[0].to_string();
    let mut client = Client::connect(&at, "test", Duration::from_millis(200)).expect("it answers");
    let error = client.delete_group("g").expect_err("nobody coordinates it");
    assert_eq!(error.kind, Kind::Refused(Some(ErrorCode::CoordinatorLoadInProgress)));
    assert!(scripted.asked(find_coordinator::API).len() > 1);
    let error =
        client.ask::<_, DeleteGroupsResponse>(To::Node(7), &delete_groups::DeleteGroupsRequest::default(), |_| {
            Vec::new()
        });
    assert!(error.expect_err("nobody").message().contains("there is no broker 7 in the cluster: its brokers are 0, 1"));
}
