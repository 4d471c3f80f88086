//! Groups and offsets on whole shards: where coordinators live, how they are loaded, and what a restart keeps.

mod support;

use bytes::Bytes;
use corelog::broker::api::key;
use corelog::broker::effect::ListenerKind::{PerCore, Shared};
use corelog::config::{Durability, Settings};
use corelog::wire::codec::Message;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use corelog::wire::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use corelog::wire::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup};
use corelog::wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use corelog::wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use corelog::wire::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use corelog::wire::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use corelog::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use corelog::wire::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use support::{Client, MemDisk, World, each_durability};

/// A broker with a topic `t` of four partitions, and a client that has found a coordinator.
fn world(cores: u16, settings: Settings) -> (World, Client) {
    let mut world = World::start(cores, settings, MemDisk::default());
    let client = world.connect(0, Shared);
    world.create(client, "t", 4);
    let found = find(&mut world, client, &["g"]);
    assert_eq!(found.coordinators[0].error_code, 0, "{found:?}");
    (world, client)
}

fn find(world: &mut World, client: Client, groups: &[&str]) -> FindCoordinatorResponse {
    let coordinator_keys = groups.iter().map(|&group| group.into()).collect();
    world.call(client, key::FIND_COORDINATOR, 4, &FindCoordinatorRequest { coordinator_keys, ..Default::default() })
}

fn commit_request(group: &str, topic: &str, offsets: &[(i32, i64, &str)]) -> OffsetCommitRequest {
    let partitions =
        offsets.iter().map(|&(partition_index, committed_offset, metadata)| OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_metadata: Some(metadata.into()),
            ..Default::default()
        });
    let topic = OffsetCommitRequestTopic { name: topic.into(), partitions: partitions.collect(), ..Default::default() };
    OffsetCommitRequest { group_id: group.into(), topics: vec![topic], ..Default::default() }
}

fn errors(reply: &OffsetCommitResponse) -> Vec<i16> {
    reply.topics.iter().flat_map(|topic| &topic.partitions).map(|row| row.error_code).collect()
}

fn commit(world: &mut World, client: Client, group: &str, offsets: &[(i32, i64, &str)]) {
    let reply: OffsetCommitResponse = world.call(client, key::OFFSET_COMMIT, 8, &commit_request(group, "t", offsets));
    assert!(errors(&reply).iter().all(|error| *error == 0), "{reply:?}");
}

fn fetch_all(world: &mut World, client: Client, group: &str) -> OffsetFetchResponseGroup {
    let group = OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let mut reply: OffsetFetchResponse = world.call(client, key::OFFSET_FETCH, 8, &request);
    reply.groups.remove(0)
}

/// Partition, offset and metadata of everything a group has of `t`.
fn offsets(world: &mut World, client: Client, group: &str) -> Vec<(i32, i64, String)> {
    let group = fetch_all(world, client, group);
    assert_eq!(group.error_code, 0, "{group:?}");
    let rows = group.topics.iter().filter(|topic| topic.name == "t").flat_map(|topic| &topic.partitions);
    rows.map(|row| (row.partition_index, row.committed_offset, row.metadata.as_ref().unwrap().to_string())).collect()
}

fn join_request(group: &str, member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"all of t") }],
        ..Default::default()
    }
}

/// A group of one member, stable; its id.
fn join_alone(world: &mut World, client: Client, group: &str) -> String {
    let reply: JoinGroupResponse = world.call(client, key::JOIN_GROUP, 9, &join_request(group, ""));
    assert_eq!(reply.error_code, ErrorCode::MemberIdRequired.code());
    let member = reply.member_id.to_string();
    world.send(client, key::JOIN_GROUP, 9, &join_request(group, &member));
    assert!(world.reply::<JoinGroupResponse>(client, key::JOIN_GROUP, 9).is_none(), "others may join");
    world.advance_ms(3_000);
    let reply: JoinGroupResponse = world.reply(client, key::JOIN_GROUP, 9).expect("joined");
    assert_eq!((reply.error_code, reply.generation_id, reply.leader.as_str()), (0, 1, member.as_str()));
    let assignment = Bytes::from_static(b"everything");
    let sync = SyncGroupRequest {
        group_id: group.into(),
        generation_id: 1,
        member_id: member.as_str().into(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: vec![SyncGroupRequestAssignment { member_id: member.as_str().into(), assignment }],
        ..Default::default()
    };
    let reply: SyncGroupResponse = world.call(client, key::SYNC_GROUP, 5, &sync);
    assert_eq!((reply.error_code, &reply.assignment[..]), (0, &b"everything"[..]));
    member
}

fn heartbeat(world: &mut World, client: Client, group: &str, member: &str) -> ErrorCode {
    let request =
        HeartbeatRequest { group_id: group.into(), generation_id: 1, member_id: member.into(), ..Default::default() };
    let reply: HeartbeatResponse = world.call(client, key::HEARTBEAT, 4, &request);
    ErrorCode::from_code(reply.error_code).expect("a code of Kafka's")
}

fn describe(world: &mut World, client: Client, version: i16, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
    let mut reply: DescribeGroupsResponse = world.call(client, key::DESCRIBE_GROUPS, version, &request);
    reply.groups.remove(0)
}

fn list(world: &mut World, client: Client, states: &[&str], types: &[&str]) -> Vec<String> {
    let request = ListGroupsRequest {
        states_filter: states.iter().map(|&state| state.into()).collect(),
        types_filter: types.iter().map(|&kind| kind.into()).collect(),
    };
    let reply: ListGroupsResponse = world.call(client, key::LIST_GROUPS, 5, &request);
    assert_eq!(reply.error_code, 0);
    let mut names: Vec<String> = reply.groups.iter().map(|group| group.group_id.to_string()).collect();
    names.sort();
    names
}

#[test]
fn the_first_question_for_a_coordinator_makes_the_topic() {
    let mut world = World::start(2, Settings::default(), MemDisk::default());
    let clients = [world.connect(0, Shared), world.connect(1, PerCore)];
    for client in clients {
        // Nothing else makes it, however it is asked for.
        let topic = MetadataRequestTopic { name: Some("__consumer_offsets".into()), ..Default::default() };
        let ask = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let reply: MetadataResponse = world.call(client, key::METADATA, 12, &ask);
        assert_eq!(reply.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    }
    let groups: Vec<String> = (0..40).map(|i| format!("group {i}")).collect();
    let names: Vec<&str> = groups.iter().map(String::as_str).collect();
    let shared = find(&mut world, clients[0], &names);
    assert!(shared.coordinators.iter().all(|found| (found.error_code, found.node_id, found.port) == (0, 1, 9092)));
    let per_core = find(&mut world, clients[1], &names);
    let ids: std::collections::BTreeSet<(i32, i32)> =
        per_core.coordinators.iter().map(|found| (found.node_id, found.port)).collect();
    assert_eq!(ids, [(1000, 9100), (1001, 9101)].into());

    let reply: MetadataResponse =
        world.call(clients[0], key::METADATA, 12, &MetadataRequest { topics: None, ..Default::default() });
    assert_eq!((reply.topics[0].is_internal, reply.topics[0].partitions.len()), (true, 50));

    let old: FindCoordinatorResponse = world.call(
        clients[0],
        key::FIND_COORDINATOR,
        0,
        &FindCoordinatorRequest { key: "g".into(), ..Default::default() },
    );
    assert_eq!((old.error_code, old.node_id, old.port), (0, 1, 9092));
}

#[test]
fn clients_do_not_write_to_the_topic_of_the_coordinators() {
    let (mut world, client) = world(1, Settings::default());
    let request = ProduceRequest {
        acks: -1,
        topic_data: vec![TopicProduceData {
            name: "__consumer_offsets".into(),
            partition_data: vec![PartitionProduceData { index: 0, records: Some(Bytes::from_static(b"x")) }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &request);
    let row = &reply.responses[0].partition_responses[0];
    assert_eq!(row.error_code, ErrorCode::InvalidTopicException.code());
}

#[test]
fn committed_offsets_are_there_after_restarts_with_other_cores() {
    for settings in each_durability() {
        let (mut world, client) = world(2, settings.clone());
        for group in ["a", "b", "c"] {
            for offset in 0..20 {
                commit(&mut world, client, group, &[(0, offset, "first"), (3, offset * 2, "")]);
            }
        }
        let expect = vec![(0, 19, "first".to_owned()), (3, 38, String::new())];
        assert_eq!(offsets(&mut world, client, "a"), expect);
        let mut world = world.restart(3, settings.clone());
        let client = world.connect(2, Shared);
        world.advance_ms(1);
        for group in ["a", "b", "c"] {
            assert_eq!(offsets(&mut world, client, group), expect, "{group}");
        }
        assert_eq!(offsets(&mut world, client, "d"), []);
        assert_eq!(list(&mut world, client, &[], &[]), ["a", "b", "c"]);
    }
}

#[test]
fn a_log_of_many_commits_is_loaded_piece_by_piece() {
    let (mut world, client) = world(1, Settings::default());
    let metadata = "x".repeat(4000);
    for offset in 0..300 {
        commit(&mut world, client, "g", &[(0, offset, &metadata)]);
    }
    let mut world = world.restart(1, Settings::default());
    let client = world.connect(0, Shared);
    assert_eq!(fetch_all(&mut world, client, "g").error_code, ErrorCode::CoordinatorLoadInProgress.code());
    assert_eq!(heartbeat(&mut world, client, "g", "m"), ErrorCode::None);
    world.advance_ms(1);
    assert_eq!(offsets(&mut world, client, "g"), [(0, 299, metadata)]);
    assert_eq!(heartbeat(&mut world, client, "g", "m"), ErrorCode::UnknownMemberId);
}

#[test]
fn an_answer_leaves_when_its_records_are_safe() {
    for settings in each_durability() {
        let (mut world, client) = world(2, settings);
        world.disk_held = true;
        world.send(client, key::OFFSET_COMMIT, 8, &commit_request("g", "t", &[(0, 1, "")]));
        let all = OffsetFetchRequestGroup { group_id: "g".into(), topics: None, ..Default::default() };
        let fetch = OffsetFetchRequest { groups: vec![all], ..Default::default() };
        let other = world.connect(1, Shared);
        world.send(other, key::OFFSET_FETCH, 8, &fetch);
        for offset in 2..10 {
            world.send(client, key::OFFSET_COMMIT, 8, &commit_request("g", "t", &[(0, offset, "")]));
        }
        assert!(world.reply::<OffsetCommitResponse>(client, key::OFFSET_COMMIT, 8).is_none());
        assert!(world.reply::<OffsetFetchResponse>(other, key::OFFSET_FETCH, 8).is_none(), "it would tell too early");
        world.release_disk();
        for _ in 1..10 {
            let reply: OffsetCommitResponse = world.reply(client, key::OFFSET_COMMIT, 8).expect("safe");
            assert_eq!(errors(&reply), [0]);
        }
        let reply: OffsetFetchResponse = world.reply(other, key::OFFSET_FETCH, 8).expect("safe");
        assert_eq!(reply.groups[0].topics[0].partitions[0].committed_offset, 1);
        assert_eq!(offsets(&mut world, client, "g"), [(0, 9, String::new())]);
    }
}

#[test]
fn what_could_not_be_written_is_not_known_afterwards() {
    let (mut world, client) = world(1, Settings { durability: Durability::Write, ..Settings::default() });
    let member = join_alone(&mut world, client, "g");
    let long = "x".repeat(4_000);
    let request = |offset: i64| {
        let offsets: Vec<(i32, i64, &str)> = (0..200).map(|partition| (partition, offset, long.as_str())).collect();
        commit_request("simple", "t", &offsets)
    };
    world.disk.space_bytes = Some(world.disk.files.values().map(Vec::len).sum());
    let mut kept = 0;
    let refused = loop {
        let reply: OffsetCommitResponse = world.call(client, key::OFFSET_COMMIT, 8, &request(kept + 1));
        match errors(&reply)[0] {
            0 => kept += 1,
            code => break code,
        }
        assert!(kept < 1000, "the space runs out");
    };
    assert_eq!(refused, ErrorCode::NotCoordinator.code());
    let reply: OffsetCommitResponse = world.call(client, key::OFFSET_COMMIT, 8, &request(kept + 1));
    assert_eq!(errors(&reply)[0], ErrorCode::CoordinatorNotAvailable.code());
    world.disk.space_bytes = None;
    world.advance_ms(1_100);
    let found: Vec<i64> = offsets(&mut world, client, "simple").iter().map(|(_, offset, _)| *offset).collect();
    assert_eq!(found, if kept == 0 { vec![] } else { vec![kept; 200] });
    commit(&mut world, client, "simple", &[(0, kept + 2, "")]);
    assert_eq!(offsets(&mut world, client, "simple")[0].1, kept + 2);
    assert_eq!(heartbeat(&mut world, client, "g", &member), ErrorCode::None);
}

#[test]
fn members_notice_a_restart_by_nothing_but_a_heartbeat() {
    for settings in each_durability() {
        let (mut world, client) = world(2, settings.clone());
        let member = join_alone(&mut world, client, "g");
        assert_eq!(heartbeat(&mut world, client, "g", &member), ErrorCode::None);
        let before = describe(&mut world, client, 5, "g");
        assert_eq!((before.group_state.as_str(), before.protocol_data.as_str()), ("Stable", "range"));
        assert_eq!(before.members[0].client_host, "/10.0.0.1");
        assert_eq!(&before.members[0].member_assignment[..], b"everything");
        let mut world = world.restart(1, settings);
        let client = world.connect(0, Shared);
        world.advance_ms(1);
        assert_eq!(describe(&mut world, client, 5, "g"), before);
        assert_eq!(heartbeat(&mut world, client, "g", &member), ErrorCode::None);
        world.advance_ms(9_999);
        assert_eq!(heartbeat(&mut world, client, "g", &member), ErrorCode::None);
        world.advance_ms(10_001);
        assert_eq!(heartbeat(&mut world, client, "g", &member), ErrorCode::UnknownMemberId);
        assert_eq!(describe(&mut world, client, 5, "g").group_state, "Empty");
    }
}

#[test]
fn groups_are_listed_described_and_deleted() {
    let (mut world, client) = world(2, Settings::default());
    commit(&mut world, client, "simple", &[(0, 1, "")]);
    let member = join_alone(&mut world, client, "used");
    let lists: [(&[&str], &[&str], &[&str]); 6] = [
        (&[], &[], &["simple", "used"]),
        (&["stable"], &[], &["used"]),
        (&["Stable", "EMPTY"], &["Classic"], &["simple", "used"]),
        (&["PreparingRebalance"], &[], &[]),
        (&[], &["consumer"], &[]),
        (&["nonsense"], &["nonsense"], &[]),
    ];
    for (states, types, expect) in lists {
        assert_eq!(list(&mut world, client, states, types), expect, "{states:?} {types:?}");
    }
    let missing = describe(&mut world, client, 5, "missing");
    assert_eq!((missing.error_code, missing.group_state.as_str()), (0, "Dead"));
    let missing = describe(&mut world, client, 6, "missing");
    assert_eq!(missing.error_code, ErrorCode::GroupIdNotFound.code());

    let names = ["simple", "used", "missing"].map(Into::into).to_vec();
    let request = DeleteGroupsRequest { groups_names: names };
    let reply: DeleteGroupsResponse = world.call(client, key::DELETE_GROUPS, 2, &request);
    let codes: Vec<i16> = reply.results.iter().map(|row| row.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::NonEmptyGroup.code(), ErrorCode::GroupIdNotFound.code()]);
    assert_eq!(heartbeat(&mut world, client, "used", &member), ErrorCode::None);
    let mut world = world.restart(2, Settings::default());
    let client = world.connect(0, Shared);
    world.advance_ms(1);
    assert_eq!(list(&mut world, client, &[], &[]), ["used"]);
}

#[test]
fn offsets_go_with_their_topic() {
    let (mut world, client) = world(2, Settings::default());
    commit(&mut world, client, "g", &[(0, 1, ""), (1, 1, "")]);
    let topic = DeleteTopicState { name: Some("t".into()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    let reply: DeleteTopicsResponse = world.call(client, key::DELETE_TOPICS, 6, &request);
    assert_eq!(reply.responses[0].error_code, 0);
    assert_eq!(fetch_all(&mut world, client, "g").topics, []);
    let reply: OffsetCommitResponse =
        world.call(client, key::OFFSET_COMMIT, 8, &commit_request("g", "t", &[(0, 1, "")]));
    assert_eq!(errors(&reply), [ErrorCode::UnknownTopicOrPartition.code()]);
}

#[test]
fn a_core_that_does_not_coordinate_says_so_on_its_own_listener() {
    let (mut world, shared) = world(2, Settings::default());
    let found = find(&mut world, shared, &["g"]);
    assert_eq!(found.coordinators[0].node_id, 1);
    let clients = [world.connect(0, PerCore), world.connect(1, PerCore)];
    let right = (find(&mut world, clients[0], &["g"]).coordinators[0].node_id - 1000) as usize;
    let mut ask = |client: Client| -> Vec<i16> {
        errors(&world.call(client, key::OFFSET_COMMIT, 8, &commit_request("g", "t", &[(0, 1, "")])))
    };
    assert_eq!(ask(clients[right]), [0]);
    assert_eq!(ask(clients[1 - right]), [ErrorCode::NotCoordinator.code()]);
    assert_eq!(list(&mut world, clients[right], &[], &[]), ["g"]);
    assert_eq!(list(&mut world, clients[1 - right], &[], &[]), Vec::<String>::new());
}

#[test]
fn a_stop_answers_those_who_wait_for_other_members() {
    let (mut world, client) = world(2, Settings::default());
    let request = JoinGroupRequest { group_instance_id: Some("me".into()), ..join_request("g", "") };
    world.send(client, key::JOIN_GROUP, 5, &request);
    assert!(world.reply::<JoinGroupResponse>(client, key::JOIN_GROUP, 5).is_none());
    world.stop();
    let reply: JoinGroupResponse = world.reply(client, key::JOIN_GROUP, 5).expect("an answer");
    assert_eq!(reply.error_code, ErrorCode::CoordinatorNotAvailable.code());
    assert_eq!(world.stopped.len(), 2);
}

/// What was asked, as its API has it, and the error in the reply of the version.
fn refused<Q: Message, R: Message>(
    world: &mut World,
    client: Client,
    version: i16,
    request: &Q,
    error: impl Fn(&R) -> i16,
    expect: ErrorCode,
) {
    let reply: R = world.call(client, Q::API.key, version, request);
    assert_eq!(ErrorCode::from_code(error(&reply)), Some(expect), "{} {version}", Q::API.name);
}

#[test]
fn bad_input_has_kafkas_codes() {
    let (mut world, client) = world(1, Settings::default());
    let world = &mut world;
    commit(world, client, "g", &[(0, 1, "")]);
    let member = join_alone(world, client, "used");
    let join = |reply: &JoinGroupResponse| reply.error_code;
    let commit_error = |reply: &OffsetCommitResponse| errors(reply)[0];
    let short = JoinGroupRequest { session_timeout_ms: 10, ..join_request("g", "") };
    refused(world, client, 5, &short, join, ErrorCode::InvalidSessionTimeout);
    let negative = JoinGroupRequest { session_timeout_ms: -1, ..join_request("g", "") };
    refused(world, client, 5, &negative, join, ErrorCode::InvalidSessionTimeout);
    refused(world, client, 5, &join_request("", ""), join, ErrorCode::InvalidGroupId);
    refused(world, client, 5, &join_request("g", "nobody"), join, ErrorCode::UnknownMemberId);
    let other = JoinGroupRequest { protocol_type: "connect".into(), ..join_request("used", "") };
    refused(world, client, 5, &other, join, ErrorCode::InconsistentGroupProtocol);
    let none = JoinGroupRequest { protocols: Vec::new(), ..join_request("g", "") };
    refused(world, client, 5, &none, join, ErrorCode::InconsistentGroupProtocol);
    let long = "g".repeat(40_000);
    refused(world, client, 6, &join_request(&long, ""), join, ErrorCode::InvalidGroupId);

    let large = commit_request("g", "t", &[(0, 1, &"x".repeat(5_000))]);
    refused(world, client, 8, &large, commit_error, ErrorCode::OffsetMetadataTooLarge);
    refused(
        world,
        client,
        8,
        &commit_request("g", "..", &[(0, 1, "")]),
        commit_error,
        ErrorCode::UnknownTopicOrPartition,
    );
    refused(world, client, 10, &commit_request("g", "", &[(0, 1, "")]), commit_error, ErrorCode::UnknownTopicId);
    refused(world, client, 8, &commit_request("used", "t", &[(0, 1, "")]), commit_error, ErrorCode::UnknownMemberId);
    let with = |group: &str, generation, member: &str| OffsetCommitRequest {
        generation_id_or_member_epoch: generation,
        member_id: member.into(),
        ..commit_request(group, "t", &[(0, 1, "")])
    };
    refused(world, client, 8, &with("used", 7, &member), commit_error, ErrorCode::IllegalGeneration);
    refused(world, client, 8, &with("used", 1, "nobody"), commit_error, ErrorCode::UnknownMemberId);
    refused(world, client, 8, &with("used", 1, &member), commit_error, ErrorCode::None);
    refused(world, client, 8, &with("missing", 1, &member), commit_error, ErrorCode::IllegalGeneration);
    refused(world, client, 9, &with("missing", 1, &member), commit_error, ErrorCode::GroupIdNotFound);
    assert_eq!(offsets(world, client, "g"), [(0, 1, String::new())]);
}

#[test]
fn every_version_of_commit_and_fetch_tells_the_same() {
    let (mut world, client) = world(1, Settings::default());
    let metadata: MetadataResponse =
        world.call(client, key::METADATA, 12, &MetadataRequest { topics: None, ..Default::default() });
    let id = metadata.topics.iter().find(|topic| topic.name.as_deref() == Some("t")).expect("t").topic_id;
    for version in 2..=10 {
        let mut request = commit_request("g", "t", &[(1, i64::from(version), "m")]);
        request.topics[0].topic_id = id;
        let reply: OffsetCommitResponse = world.call(client, key::OFFSET_COMMIT, version, &request);
        assert_eq!(errors(&reply), [0], "version {version}");
    }
    for version in 1..=10 {
        let request = fetch_request("g", id, &[1, 2]);
        let reply: OffsetFetchResponse = world.call(client, key::OFFSET_FETCH, version, &request);
        let rows: Vec<(i32, i64, i16)> = if version < 8 {
            let topic = &reply.topics[0];
            assert_eq!(topic.name, "t");
            topic.partitions.iter().map(|row| (row.partition_index, row.committed_offset, row.error_code)).collect()
        } else {
            let topic = &reply.groups[0].topics[0];
            assert!(if version < 10 { topic.name == "t" } else { topic.topic_id == id });
            topic.partitions.iter().map(|row| (row.partition_index, row.committed_offset, row.error_code)).collect()
        };
        assert_eq!(rows, [(1, 10, 0), (2, -1, 0)], "version {version}");
    }
}

/// One request in the form of every version.
fn fetch_request(group: &str, id: corelog::base::ids::TopicId, partitions: &[i32]) -> OffsetFetchRequest {
    use corelog::wire::messages::offset_fetch::{OffsetFetchRequestTopic, OffsetFetchRequestTopics};
    let partition_indexes = partitions.to_vec();
    let topic =
        OffsetFetchRequestTopics { name: "t".into(), topic_id: id, partition_indexes: partition_indexes.clone() };
    OffsetFetchRequest {
        group_id: group.into(),
        topics: Some(vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes }]),
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![topic]),
            ..Default::default()
        }],
        require_stable: true,
    }
}
