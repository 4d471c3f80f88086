//! The tools' client against brokers that follow a script: roles that move, what loads, versions from long ago.
#![cfg(feature = "shell")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use corelog::client::client::{Client, To};
use corelog::client::error::Kind;
use corelog::client::offsets::{Moment, TopicPartition};
use corelog::wire::codec::{Api, Message};
use corelog::wire::errors::ErrorCode;
use corelog::wire::frame::{decode_body, decode_header, encode_reply};
use corelog::wire::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use corelog::wire::messages::create_topics::{CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};
use corelog::wire::messages::delete_groups::{DeletableGroupResult, DeleteGroupsResponse};
use corelog::wire::messages::describe_groups::{DescribeGroupsResponse, DescribedGroup};
use corelog::wire::messages::find_coordinator::FindCoordinatorResponse;
use corelog::wire::messages::list_groups::{ListGroupsResponse, ListedGroup};
use corelog::wire::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use corelog::wire::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use corelog::wire::messages::offset_fetch::{
    OffsetFetchResponse, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use corelog::wire::messages::{
    api_versions, create_topics, delete_groups, describe_groups, find_coordinator, list_groups, list_offsets, metadata,
    offset_fetch,
};
use corelog::wire::reader::Reader;

/// Two nodes that answer what a script says. Each request is noted by its API, version and node.
struct Scripted {
    addresses: [SocketAddr; 2],
    asked: Arc<Mutex<Vec<(i16, i16, usize)>>>,
}

/// What a node is asked, and how often that API was asked before, by whomever.
struct Question {
    node: usize,
    key: i16,
    version: i16,
    correlation_id: i32,
    body: Reader,
    before: usize,
    addresses: [SocketAddr; 2],
}

impl Question {
    fn reply<M: Message>(&self, reply: &M) -> Vec<Bytes> {
        encode_reply(self.key, self.version, self.correlation_id, reply)
    }

    fn body<M: Message>(&mut self) -> M {
        decode_body(&mut self.body, self.version).expect("a request of ours")
    }

    /// Both nodes; the partition of topic `t` is led by this one, which controls the cluster too.
    fn metadata(&self, leader: usize) -> Vec<Bytes> {
        let broker = |node: usize| MetadataResponseBroker {
            node_id: node as i32,
            host: self.addresses[node].ip().to_string().into(),
            port: i32::from(self.addresses[node].port()),
            rack: None,
        };
        let partition = MetadataResponsePartition { leader_id: leader as i32, ..Default::default() };
        let topic = MetadataResponseTopic { name: Some("t".into()), partitions: vec![partition], ..Default::default() };
        self.reply(&MetadataResponse {
            brokers: vec![broker(0), broker(1)],
            controller_id: leader as i32,
            topics: vec![topic],
            ..Default::default()
        })
    }

    fn coordinator(&self, node: usize, error: ErrorCode) -> Vec<Bytes> {
        let address = self.addresses[node];
        self.reply(&FindCoordinatorResponse {
            error_code: error.code(),
            node_id: node as i32,
            host: address.ip().to_string().into(),
            port: i32::from(address.port()),
            ..Default::default()
        })
    }
}

impl Scripted {
    /// The versions are what it says it speaks.
    fn start(versions: &[(Api, i16, i16)], answer: fn(Question) -> Vec<Bytes>) -> Scripted {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let row = |(api, min_version, max_version): &(Api, i16, i16)| ApiVersion {
            api_key: api.key,
            min_version: *min_version,
            max_version: *max_version,
        };
        let spoken = ApiVersionsResponse { api_keys: versions.iter().map(row).collect(), ..Default::default() };
        for (node, listener) in listeners.into_iter().enumerate() {
            let (asked, spoken) = (asked.clone(), spoken.clone());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (asked, spoken) = (asked.clone(), spoken.clone());
                    let mut stream = stream.expect("a connection");
                    thread::spawn(move || {
                        while let Some(frame) = read_frame(&mut stream) {
                            let slices = answered(frame, node, addresses, &asked, &spoken, answer);
                            stream.write_all(&slices.concat()).expect("a client that reads");
                        }
                    });
                }
            });
        }
        Scripted { addresses, asked }
    }

    fn client(&self) -> Client {
        Client::connect(&self.addresses[0].to_string(), "test", Duration::from_secs(20)).expect("it answers")
    }

    /// Version and node of each request of an API.
    fn asked(&self, api: Api) -> Vec<(i16, usize)> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|(key, ..)| *key == api.key).map(|(_, version, node)| (*version, *node)).collect()
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame.into())
}

fn answered(
    frame: Bytes,
    node: usize,
    addresses: [SocketAddr; 2],
    asked: &Mutex<Vec<(i16, i16, usize)>>,
    spoken: &ApiVersionsResponse,
    answer: fn(Question) -> Vec<Bytes>,
) -> Vec<Bytes> {
    let mut body = Reader::new(frame);
    let header = decode_header(&mut body).expect("a header of ours");
    let (key, version, correlation_id) = (header.api_key, header.version, header.correlation_id);
    if key == api_versions::API.key {
        return encode_reply(key, version, correlation_id, spoken);
    }
    let mut asked = asked.lock().expect("no panic");
    let before = asked.iter().filter(|(other, ..)| *other == key).count();
    asked.push((key, version, node));
    answer(Question { node, key, version, correlation_id, body, before, addresses })
}

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
    let groups = client.groups(&[], &[]).expect("an answer");
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
