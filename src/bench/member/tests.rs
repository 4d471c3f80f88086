//! A member and what a coordinator says to it, as transcripts.

use super::*;
use crate::base::ids::TopicId;
use crate::bench::consumer::{ConsumerSettings, StartAt};
use crate::bench::payload::RunTag;
use crate::client::groups::classic_assigned;
use crate::wire::frame::{decode_body, decode_header, encode_reply};
use crate::wire::messages::api_versions::ApiVersion;
use crate::wire::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use crate::wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use crate::wire::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use crate::wire::messages::metadata::{MetadataResponse, MetadataResponseTopic};
use crate::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::wire::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::wire::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::reader::Reader;

const SECOND_NS: u64 = 1_000_000_000;

/// Every log stood here before the run.
const START: i64 = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Broker {
    Oldest,
    Newest,
}

/// The ids of topics `t` and `u`.
const IDS: [TopicId; 2] = [TopicId([7; 16]), TopicId([8; 16])];

/// A member of a group that reads four partitions, of which it is to have two to four.
struct Talk {
    member: Member,
    consumer: Consumer,
    versions: ApiVersionsResponse,
    now_ns: u64,
    /// Of the request in flight: API, version, correlation id.
    asked: (i16, i16, i32),
}

impl Talk {
    /// They are partitions of one topic.
    fn new(protocol: GroupProtocol, broker: Broker, commit_interval_ns: u64) -> Talk {
        Talk::of(Topics::new(["t"], 4), protocol, broker, commit_interval_ns)
    }

    fn of(topics: Topics, protocol: GroupProtocol, broker: Broker, commit_interval_ns: u64) -> Talk {
        let settings = MemberSettings {
            group: "g".into(),
            protocol,
            topics: topics.clone(),
            starts: [START; 4].into(),
            commit_interval_ns,
            number: 0,
            share: (2, 4),
        };
        let row = |api: &Api| {
            let max_version = if broker == Broker::Oldest { api.versions.first } else { api.versions.last };
            ApiVersion { api_key: api.key, min_version: 0, max_version }
        };
        let api_keys = CLASSIC_APIS.iter().chain(CONSUMER_APIS).map(row).collect();
        let consumer = ConsumerSettings::new(RunTag::new(1), StartAt::Latest);
        let mut consumer = Consumer::new(consumer, &topics, &[]);
        let named = topics.names().iter().zip(IDS).map(|(name, topic_id)| MetadataResponseTopic {
            name: Some(name.clone()),
            topic_id,
            ..Default::default()
        });
        consumer.on_metadata(&MetadataResponse { topics: named.collect(), ..Default::default() }, 0);
        let mut talk = Talk {
            member: Member::new(Arc::new(settings), "me".into()),
            consumer,
            versions: ApiVersionsResponse { api_keys, ..Default::default() },
            now_ns: SECOND_NS,
            asked: (0, 0, 0),
        };
        talk.connect(1);
        talk
    }

    /// The member asks who coordinates its group, and is connected to that broker.
    fn connect(&mut self, broker: i32) {
        assert!(self.member.poll_coordinator(self.now_ns) && !self.member.poll_coordinator(u64::MAX));
        self.member.on_coordinator(broker);
        assert_eq!(self.member.coordinator(), Some(broker));
        assert!(self.member.poll_request(&self.consumer, self.now_ns).is_none(), "not before there is a connection");
        self.member.on_connected(&self.versions, self.now_ns).expect("it has all versions");
    }

    fn later(&mut self, seconds: u64) {
        self.now_ns += seconds * SECOND_NS;
    }

    /// What the member asks now.
    fn expect(&mut self, expect: &str) {
        let frame = self.member.poll_request(&self.consumer, self.now_ns);
        let Some(frame) = frame else { return assert_eq!("nothing", expect) };
        assert!(self.member.poll_request(&self.consumer, u64::MAX).is_none(), "one is in flight at most");
        let mut reader = Reader::new(Bytes::from(frame.concat()).slice(4..));
        let header = decode_header(&mut reader).expect("a header");
        self.asked = (header.api_key, header.version, header.correlation_id);
        assert_eq!(told(header.api_key, header.version, &mut reader), expect);
    }

    fn answer<M: Message>(&mut self, reply: &M) {
        let (api_key, version, correlation_id) = self.asked;
        let frame = Bytes::from(encode_reply(api_key, version, correlation_id, reply).concat()).slice(4..);
        self.member.on_reply(frame, &mut self.consumer, self.now_ns).expect("a good reply");
    }

    fn on_join(&mut self, generation_id: i32, members: &[&str]) {
        let members: Vec<_> = (members.iter())
            .map(|id| JoinGroupResponseMember { member_id: (*id).into(), ..Default::default() })
            .collect();
        let (leader, member_id) = ("m1".into(), "m1".into());
        self.answer(&JoinGroupResponse { generation_id, leader, member_id, members, ..Default::default() });
    }

    fn on_sync(&mut self, partitions: &[i32]) {
        let assignment = classic::assignment(&self.member.settings().topics, partitions);
        self.answer(&SyncGroupResponse { assignment, ..Default::default() });
    }

    fn on_heartbeat(&mut self, code: ErrorCode) {
        self.answer(&HeartbeatResponse { error_code: code.code(), ..Default::default() });
    }

    /// A heartbeat of the consumer protocol, with partitions of the first topic. `None`: the assignment is as before.
    fn on_epoch(&mut self, member_epoch: i32, partitions: Option<&[i32]>) {
        self.on_epoch_of(member_epoch, partitions.map(|partitions| vec![(IDS[0], partitions)]));
    }

    fn on_epoch_of(&mut self, member_epoch: i32, rows: Option<Vec<(TopicId, &[i32])>>) {
        let row =
            |(topic_id, partitions): (TopicId, &[i32])| TopicPartitions { topic_id, partitions: partitions.to_vec() };
        let assignment = rows.map(|rows| Assignment { topic_partitions: rows.into_iter().map(row).collect() });
        self.answer(&ConsumerGroupHeartbeatResponse {
            member_id: Some("me".into()),
            member_epoch,
            heartbeat_interval_ms: 2000,
            assignment,
            ..Default::default()
        });
    }

    fn on_epoch_refused(&mut self, code: ErrorCode) {
        self.answer(&ConsumerGroupHeartbeatResponse { error_code: code.code(), ..Default::default() });
    }

    fn on_commit(&mut self, code: ErrorCode) {
        let row = OffsetCommitResponsePartition { partition_index: 0, error_code: code.code() };
        let topic = OffsetCommitResponseTopic { name: "t".into(), partitions: vec![row], ..Default::default() };
        self.answer(&OffsetCommitResponse { topics: vec![topic], ..Default::default() });
    }

    /// Of the first topic.
    fn on_committed(&mut self, rows: &[(i32, i64)]) {
        self.on_committed_of(&[("t", rows)]);
    }

    /// Rows of both forms, of which a version has one.
    fn on_committed_of(&mut self, topics: &[(&str, &[(i32, i64)])]) {
        let mut reply = OffsetFetchResponse::default();
        let mut group = OffsetFetchResponseGroup { group_id: "g".into(), ..Default::default() };
        for (name, rows) in topics {
            let (old, new) = committed_rows(rows);
            reply.topics.push(OffsetFetchResponseTopic { name: (*name).into(), partitions: old });
            group.topics.push(OffsetFetchResponseTopics {
                name: (*name).into(),
                partitions: new,
                ..Default::default()
            });
        }
        reply.groups.push(group);
        self.answer(&reply);
    }

    fn reads(&self, expect: &[(u32, i64)]) {
        assert_eq!(self.consumer.positions().collect::<Vec<_>>(), expect);
    }

    /// Whether it has joined by now, and its rebalances since the last look.
    fn news(&mut self) -> (bool, u64) {
        let news = self.member.take_news();
        (news.joined_ns.is_some(), news.rebalances)
    }

    /// As a classic member that leads its group and has partitions 0 to 3.
    fn joined_classic(broker: Broker) -> Talk {
        let mut talk = Talk::new(GroupProtocol::Classic, broker, 10 * SECOND_NS);
        talk.expect("join as ``");
        talk.on_join(1, &["m1"]);
        talk.expect("sync 1: m1 has 0 1 2 3");
        talk.on_sync(&[0, 1, 2, 3]);
        talk.expect("committed of 0 1 2 3");
        talk.on_committed(&[(0, 107), (1, -1), (2, -1), (3, -1)]);
        talk.reads(&[(0, 107), (1, START), (2, START), (3, START)]);
        assert_eq!((talk.news(), talk.member.is_settled(&talk.consumer)), ((true, 0), true));
        talk
    }

    /// As a member of the consumer protocol, at epoch 3, that has all partitions.
    fn joined_consumer(broker: Broker) -> Talk {
        let mut talk = Talk::new(GroupProtocol::Consumer, broker, 10 * SECOND_NS);
        talk.expect("heartbeat of me, epoch 0, to read t, has nothing");
        talk.on_epoch(3, Some(&[0, 1, 2, 3]));
        talk.expect("heartbeat of me, epoch 3, has 0 1 2 3");
        talk.on_epoch(3, None);
        assert!(!talk.member.is_stable());
        talk.expect("committed of 0 1 2 3");
        talk.on_committed(&[(0, 107), (1, -1), (2, -1), (3, -1)]);
        talk.reads(&[(0, 107), (1, START), (2, START), (3, START)]);
        assert_eq!((talk.news(), talk.member.is_settled(&talk.consumer)), ((true, 0), true));
        talk
    }
}

fn committed_rows(rows: &[(i32, i64)]) -> (Vec<OffsetFetchResponsePartition>, Vec<OffsetFetchResponsePartitions>) {
    let old = rows.iter().map(|&(partition_index, committed_offset)| OffsetFetchResponsePartition {
        partition_index,
        committed_offset,
        ..Default::default()
    });
    let new = rows.iter().map(|&(partition_index, committed_offset)| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset,
        ..Default::default()
    });
    (old.collect(), new.collect())
}

/// Partitions of the first topic by their numbers alone, of the other with its name.
fn list<'a>(topics: impl IntoIterator<Item = (&'a str, Vec<i32>)>) -> String {
    let topic = |(name, partitions): (&str, Vec<i32>)| {
        let name = if name == "t" { String::new() } else { format!("{name}-") };
        partitions.into_iter().map(|partition| format!(" {name}{partition}")).collect::<String>()
    };
    topics.into_iter().map(topic).collect()
}

/// A request in a line.
fn told(api_key: i16, version: i16, reader: &mut Reader) -> String {
    match api_key {
        JOIN => {
            let request: JoinGroupRequest = decode_body(reader, version).expect("a request");
            assert_eq!((request.group_id.as_str(), request.protocols[0].name.as_str()), ("g", "range"));
            format!("join as `{}`", request.member_id)
        }
        SYNC => {
            let request: SyncGroupRequest = decode_body(reader, version).expect("a request");
            let rows = request.assignments.into_iter().map(|row| {
                let assigned = classic_assigned(&row.assignment).expect("its form");
                let places = assigned.iter().map(|place| (place.topic.as_str(), vec![place.partition]));
                format!(" {} has{}", row.member_id, list(places))
            });
            format!("sync {}:{}", request.generation_id, rows.collect::<Vec<_>>().join(","))
        }
        HEARTBEAT => {
            let request: HeartbeatRequest = decode_body(reader, version).expect("a request");
            format!("heartbeat of {}, generation {}", request.member_id, request.generation_id)
        }
        LEAVE => {
            let request: LeaveGroupRequest = decode_body(reader, version).expect("a request");
            let id = request.members.first().map_or(request.member_id, |member| member.member_id.clone());
            format!("leave as {id}")
        }
        CONSUMER_HEARTBEAT => {
            let request: ConsumerGroupHeartbeatRequest = decode_body(reader, version).expect("a request");
            let names = |names: Vec<Text>| names.iter().map(|name| format!(" {name}")).collect::<String>();
            let topics = request.subscribed_topic_names.map(|topics| format!(", to read{}", names(topics)));
            let name = |id: TopicId| if id == IDS[0] { "t" } else { "u" };
            let owned = request.topic_partitions.map(|rows| match rows.is_empty() {
                true => ", has nothing".to_owned(),
                false => format!(", has{}", list(rows.into_iter().map(|row| (name(row.topic_id), row.partitions)))),
            });
            let (id, epoch) = (request.member_id, request.member_epoch);
            format!("heartbeat of {id}, epoch {epoch}{}{}", topics.unwrap_or_default(), owned.unwrap_or_default())
        }
        COMMIT => {
            let request: OffsetCommitRequest = decode_body(reader, version).expect("a request");
            let rows = request.topics.iter().flat_map(|topic| {
                let row = |index: i32, offset: i64| format!("{}@{offset}", list([(topic.name.as_str(), vec![index])]));
                topic.partitions.iter().map(move |place| row(place.partition_index, place.committed_offset))
            });
            let rows: String = rows.collect();
            format!("commit at {}:{rows}", request.generation_id_or_member_epoch)
        }
        _ => {
            let request: OffsetFetchRequest = decode_body(reader, version).expect("a request");
            let old =
                request.topics.iter().flatten().map(|topic| (topic.name.as_str(), topic.partition_indexes.clone()));
            let new = request.groups.iter().flat_map(|group| group.topics.iter().flatten());
            let new = new.map(|topic| (topic.name.as_str(), topic.partition_indexes.clone()));
            format!("committed of{}", list(old.chain(new)))
        }
    }
}

#[test]
fn a_classic_member_gives_everything_up_when_another_one_comes() {
    for broker in [Broker::Oldest, Broker::Newest] {
        let mut talk = Talk::joined_classic(broker);
        talk.expect("nothing");
        talk.later(3);
        talk.expect("heartbeat of m1, generation 1");
        talk.on_heartbeat(ErrorCode::RebalanceInProgress);
        talk.reads(&[]);
        talk.expect("commit at 1: 0@107 1@100 2@100 3@100");
        talk.on_commit(ErrorCode::None);
        talk.expect("join as `m1`");
        // A generation that has moved on before it was synchronised.
        talk.on_join(2, &["m1", "m0"]);
        talk.expect("sync 2: m0 has 0 1, m1 has 2 3");
        talk.answer(&SyncGroupResponse { error_code: ErrorCode::RebalanceInProgress.code(), ..Default::default() });
        talk.later(1);
        talk.expect("join as `m1`");
        talk.on_join(3, &["m1", "m0", "m2"]);
        talk.expect("sync 3: m0 has 0 1, m1 has 2, m2 has 3");
        talk.on_sync(&[2, 3]);
        talk.expect("committed of 2 3");
        talk.on_committed(&[(2, 120), (3, 130)]);
        talk.reads(&[(2, 120), (3, 130)]);
        assert_eq!(talk.news(), (false, 1), "one rebalance, and it had joined before");
        assert!(talk.member.is_settled(&talk.consumer) && talk.member.complaints().iter().next().is_none());
        // Commits when they are due, and leaves.
        talk.later(3);
        talk.expect("heartbeat of m1, generation 3");
        talk.on_heartbeat(ErrorCode::None);
        talk.later(7);
        talk.expect("heartbeat of m1, generation 3");
        talk.on_heartbeat(ErrorCode::None);
        talk.expect("commit at 3: 2@120 3@130");
        talk.on_commit(ErrorCode::None);
        talk.expect("nothing");
        talk.member.leave(&talk.consumer);
        talk.expect("commit at 3: 2@120 3@130");
        talk.on_commit(ErrorCode::None);
        talk.expect("leave as m1");
        talk.answer(&LeaveGroupResponse::default());
        talk.expect("nothing");
        talk.reads(&[(2, 120), (3, 130)]);
        assert!(talk.member.has_left() && talk.member.next_wake_ns().is_none());
        assert_eq!(talk.member.take_news().commits_ns.len(), 2);
    }
}

#[test]
fn a_classic_member_gets_its_id_first_where_the_broker_wants_that() {
    let mut talk = Talk::new(GroupProtocol::Classic, Broker::Newest, 0);
    talk.expect("join as ``");
    let error_code = ErrorCode::MemberIdRequired.code();
    talk.answer(&JoinGroupResponse { error_code, member_id: "m1".into(), ..Default::default() });
    talk.expect("join as `m1`");
    // Somebody else leads.
    let reply =
        JoinGroupResponse { generation_id: 4, leader: "m0".into(), member_id: "m1".into(), ..Default::default() };
    talk.answer(&reply);
    talk.expect("sync 4:");
    talk.on_sync(&[]);
    assert!(talk.member.is_stable() && !talk.member.is_settled(&talk.consumer), "it lacks its share");
    // It never commits.
    assert_eq!(talk.member.next_wake_ns(), Some(talk.now_ns + HEARTBEAT_INTERVAL_NS));
    talk.member.leave(&talk.consumer);
    talk.expect("leave as m1");
}

#[test]
fn a_consumer_member_gives_up_what_another_one_is_to_have() {
    for broker in [Broker::Oldest, Broker::Newest] {
        let mut talk = Talk::joined_consumer(broker);
        talk.expect("nothing");
        talk.later(2);
        talk.expect("heartbeat of me, epoch 3");
        talk.on_epoch(3, Some(&[0, 1]));
        talk.reads(&[(0, 107), (1, START)]);
        assert!(!talk.member.is_stable(), "what it gave up is to be committed");
        talk.expect("commit at 3: 2@100 3@100");
        // Old epochs are told so; the commit is repeated after the next heartbeat.
        talk.on_commit(ErrorCode::StaleMemberEpoch);
        talk.expect("nothing");
        talk.later(1);
        talk.expect("commit at 3: 2@100 3@100");
        talk.on_commit(ErrorCode::None);
        talk.expect("heartbeat of me, epoch 3, has 0 1");
        talk.on_epoch(4, None);
        assert!(talk.member.is_settled(&talk.consumer));
        assert_eq!(talk.news(), (false, 1));
        // And gets one back.
        talk.later(2);
        talk.expect("heartbeat of me, epoch 4");
        talk.on_epoch(5, Some(&[0, 1, 3]));
        talk.expect("heartbeat of me, epoch 5, has 0 1 3");
        talk.on_epoch(5, None);
        talk.expect("committed of 3");
        talk.on_committed(&[(3, 140)]);
        talk.reads(&[(0, 107), (1, START), (3, 140)]);
        talk.member.leave(&talk.consumer);
        talk.expect("commit at 5: 0@107 1@100 3@140");
        talk.on_commit(ErrorCode::None);
        talk.expect("heartbeat of me, epoch -1");
        talk.on_epoch(-1, None);
        assert!(talk.member.has_left());
    }
}

#[test]
fn a_group_reads_several_topics() {
    let topics = || Topics::new(["t", "u"], 2);
    for broker in [Broker::Oldest, Broker::Newest] {
        // Of each topic the members have as much.
        let mut talk = Talk::of(topics(), GroupProtocol::Classic, broker, 10 * SECOND_NS);
        talk.expect("join as ``");
        talk.on_join(1, &["m1", "m2"]);
        talk.expect("sync 1: m1 has 0 u-0, m2 has 1 u-1");
        talk.on_sync(&[1]);
        talk.expect("committed of 1 u-1");
        talk.on_committed_of(&[("t", &[(1, -1)]), ("u", &[(1, 120)])]);
        talk.reads(&[(2, START), (3, 120)]);
        talk.member.leave(&talk.consumer);
        talk.expect("commit at 1: 1@100 u-1@120");

        let mut talk = Talk::of(topics(), GroupProtocol::Consumer, broker, 10 * SECOND_NS);
        talk.expect("heartbeat of me, epoch 0, to read t u, has nothing");
        talk.on_epoch_of(3, Some(vec![(IDS[1], &[0, 1]), (IDS[0], &[1])]));
        talk.expect("heartbeat of me, epoch 3, has u-0 u-1 1");
        talk.on_epoch(3, None);
        talk.expect("committed of u-0 u-1 1");
        talk.on_committed_of(&[("u", &[(0, 110), (1, -1)]), ("t", &[(1, 107)])]);
        talk.reads(&[(1, 110), (3, START), (2, 107)]);
    }
    let check = |protocol, topics, partitions, members, expect| {
        let names = (0..topics).map(|number: u32| format!("t{number}"));
        assert_eq!(share(protocol, &Topics::new(names, partitions), members), expect);
    };
    check(GroupProtocol::Classic, 1, 4, 3, (1, 2));
    check(GroupProtocol::Classic, 10, 1, 5, (0, 10));
    check(GroupProtocol::Consumer, 10, 1, 5, (2, 2));
    check(GroupProtocol::Consumer, 3, 3, 2, (4, 5));
}

#[test]
fn who_is_fenced_commits_nothing_and_joins_again() {
    for code in [ErrorCode::UnknownMemberId, ErrorCode::IllegalGeneration] {
        let mut talk = Talk::joined_classic(Broker::Newest);
        talk.later(3);
        talk.expect("heartbeat of m1, generation 1");
        talk.on_heartbeat(code);
        talk.reads(&[]);
        let id = if code == ErrorCode::UnknownMemberId { "" } else { "m1" };
        talk.expect(&format!("join as `{id}`"));
        assert_eq!(talk.news(), (false, 1), "{code:?}");
    }
    for code in [ErrorCode::UnknownMemberId, ErrorCode::FencedMemberEpoch] {
        let mut talk = Talk::joined_consumer(Broker::Newest);
        talk.later(2);
        talk.expect("heartbeat of me, epoch 3");
        talk.on_epoch_refused(code);
        talk.reads(&[]);
        talk.expect("heartbeat of me, epoch 0, to read t, has nothing");
        assert_eq!(talk.news(), (false, 1), "{code:?}");
        assert_eq!(talk.member.complaints().iter().count(), 1);
    }
}

#[test]
fn a_group_that_moves_is_followed_and_its_members_read_on() {
    for code in [ErrorCode::NotCoordinator, ErrorCode::CoordinatorNotAvailable] {
        let mut talk = Talk::joined_classic(Broker::Newest);
        talk.later(3);
        talk.expect("heartbeat of m1, generation 1");
        talk.on_heartbeat(code);
        assert_eq!(talk.member.coordinator(), None);
        assert!(!talk.member.poll_coordinator(talk.now_ns), "it waits before it asks again");
        talk.later(1);
        talk.member.on_coordinator_failed(talk.now_ns);
        talk.later(3);
        talk.connect(2);
        talk.expect("heartbeat of m1, generation 1");
        talk.on_heartbeat(ErrorCode::None);
        talk.reads(&[(0, 107), (1, START), (2, START), (3, START)]);

        let mut talk = Talk::joined_consumer(Broker::Newest);
        talk.later(2);
        talk.expect("heartbeat of me, epoch 3");
        talk.on_epoch_refused(code);
        talk.later(1);
        talk.connect(2);
        talk.expect("heartbeat of me, epoch 3, to read t, has 0 1 2 3");
        talk.on_epoch(3, None);
        assert_eq!((talk.news(), talk.member.is_settled(&talk.consumer)), ((false, 0), true));
    }
    // The connection ends while everybody waits for the leader.
    let mut talk = Talk::new(GroupProtocol::Classic, Broker::Newest, SECOND_NS);
    talk.expect("join as ``");
    talk.on_join(1, &["m1"]);
    talk.expect("sync 1: m1 has 0 1 2 3");
    assert!(talk.member.patience_ns() > 0);
    talk.member.on_closed(talk.now_ns);
    talk.later(1);
    talk.connect(1);
    talk.expect("join as `m1`");
}

#[test]
fn what_can_never_be_ends_the_membership_and_nonsense_the_connection() {
    let mut talk = Talk::new(GroupProtocol::Classic, Broker::Newest, 0);
    talk.expect("join as ``");
    let error_code = ErrorCode::GroupMaxSizeReached.code();
    talk.answer(&JoinGroupResponse { error_code, ..Default::default() });
    let why = talk.member.failed().expect("it cannot join");
    assert!(why.starts_with("JoinGroup of group g: ") && why.contains("(81)"), "{why}");
    talk.expect("nothing");

    let mut talk = Talk::new(GroupProtocol::Consumer, Broker::Newest, 0);
    let error = talk.member.on_reply(Bytes::from_static(&[0; 8]), &mut talk.consumer, 0);
    assert_eq!(error.expect_err("nothing was asked"), "a reply to nothing");
    talk.expect("heartbeat of me, epoch 0, to read t, has nothing");
    let error = talk.member.on_reply(Bytes::from_static(&[0; 3]), &mut talk.consumer, 0);
    assert!(error.expect_err("cut off").starts_with("its ConsumerGroupHeartbeat reply: "));
    let error = talk.member.on_connected(&ApiVersionsResponse::default(), 0);
    assert_eq!(error.expect_err("it speaks nothing"), "has no version of ConsumerGroupHeartbeat from 0 to 1");
    // Partitions that the topic does not have are nobody's.
    let mut talk = Talk::new(GroupProtocol::Consumer, Broker::Newest, 0);
    talk.expect("heartbeat of me, epoch 0, to read t, has nothing");
    talk.on_epoch(1, Some(&[-1, 4, i32::MAX, 2]));
    talk.expect("heartbeat of me, epoch 1, has 2");
}
