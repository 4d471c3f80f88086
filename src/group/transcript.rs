//! Transcripts: what a coordinator is told, then the records it writes and the answers it gives, for people to read.
//!
//! A line that begins in the first column is an input; the lines below it, indented, are what followed. `+` is a
//! record, `-` a tombstone, `=` an answer. The group is always `g`. Partitions are `topic:0,1`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::ask::{Answer, Ask, ListFilter};
use super::assignment::Assignment;
use super::consumer_member::MemberState;
use super::consumer_record::ConsumerRecord;
use super::coordinator::GroupOut;
use super::embedded;
use super::records::{self, GroupRecord, StoredRecord};
use super::testing::Rig;
use super::topics::{KnownTopic, Topics};
use crate::base::ids::TopicId;
use crate::config::{GroupSettings, NOTHING_SET, Notation, Origin, Settings};
use crate::wire::consumer_protocol::{self, ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::consumer_group_describe::{self, DescribedGroup};
use crate::wire::messages::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, TopicPartitions};
use crate::wire::messages::heartbeat::HeartbeatRequest;
use crate::wire::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::messages::leave_group::LeaveGroupRequest;
use crate::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::wire::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::wire::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::wire::text::Text;

/// The first in which classic members say what they own.
const PROTOCOL_VERSION: i16 = 1;

/// Runs the inputs of a transcript and compares all of it.
pub(in crate::group) fn check(expect: &str) {
    let mut scene = Scene::new();
    let mut found = String::new();
    for line in expect.lines().filter(|line| !line.starts_with("  ")) {
        found.push_str(line);
        found.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            scene.play(line, &mut found);
        }
    }
    assert!(found == expect, "the transcript is now:\n{found}");
}

/// A coordinator, and the topics there are.
pub(in crate::group) struct Scene {
    pub rig: Rig,
    pub topics: TopicMap,
    /// The ids that the coordinator made for members of the classic protocol.
    ids: BTreeMap<String, String>,
}

#[derive(Default)]
pub(in crate::group) struct TopicMap {
    /// The group's own.
    session_timeout_ms: Option<u32>,
    version: u64,
    topics: BTreeMap<String, KnownTopic>,
}

impl TopicMap {
    /// Makes a topic, or gives it more partitions.
    pub fn set(&mut self, name: &str, partitions: i32) {
        self.version += 1;
        let id = self.topics.get(name).map_or(TopicId([self.version as u8; 16]), |topic| topic.id);
        self.topics.insert(name.into(), KnownTopic { id, partitions });
    }

    pub fn delete(&mut self, name: &str) {
        self.version += 1;
        self.topics.remove(name);
    }
}

impl Topics for TopicMap {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<KnownTopic> {
        self.topics.get(name).copied()
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        self.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name.as_str())
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.topics.keys().map(String::as_str))
    }

    fn settings_of(&self, _group: &str, settings: &Settings) -> GroupSettings {
        let consumer_session_timeout_ms = self.session_timeout_ms.unwrap_or(settings.group_consumer_session_timeout_ms);
        GroupSettings { consumer_session_timeout_ms, ..GroupSettings::in_force(settings, &NOTHING_SET) }
    }
}

impl Scene {
    pub fn new() -> Scene {
        let mut scene = Scene { rig: Rig::new(Settings::default()), topics: TopicMap::default(), ids: BTreeMap::new() };
        scene.restart();
        scene
    }

    /// Asks, and gives the answers and what was recorded.
    pub fn ask(&mut self, ask: Ask, version: i16) -> GroupOut {
        self.ask_as("client", ask, version)
    }

    fn ask_as(&mut self, client: &str, ask: Ask, version: i16) -> GroupOut {
        self.rig.ask(&self.topics, 0, client, version, ask)
    }

    /// Lets time pass, with all that is due meanwhile.
    pub fn wait(&mut self, ms: u64) -> GroupOut {
        let mut all = GroupOut::default();
        for out in self.rig.wait(&self.topics, ms) {
            all.records.extend(out.records);
            all.answers.extend(out.answers);
        }
        all
    }

    /// A coordinator that reads the log from its beginning.
    pub fn restart(&mut self) -> GroupOut {
        self.rig.reload(&self.topics)
    }

    fn play(&mut self, line: &str, found: &mut String) {
        let words: Vec<&str> = line.split(' ').collect();
        let out = match words.as_slice() {
            ["topic", name, partitions] => {
                self.topics.set(name, partitions.parse().expect("a number"));
                GroupOut::default()
            }
            ["drop", name] => {
                self.topics.delete(name);
                GroupOut::default()
            }
            ["set", "consumer.session.timeout.ms", value] => {
                self.topics.session_timeout_ms = Some(value.parse().expect("a number"));
                GroupOut::default()
            }
            ["set", name, value] => {
                self.rig.settings.set(name, value, Notation::Typed, Origin::Flag).expect("a setting");
                GroupOut::default()
            }
            ["wait", seconds] => self.wait(seconds.parse::<u64>().expect("seconds") * 1000),
            ["restart"] => self.restart(),
            ["describe"] => self.ask(Ask::DescribeConsumerGroup("g".into()), 1),
            ["describe-classic"] => self.ask(Ask::DescribeGroup("g".into()), 6),
            ["delete"] => self.ask(Ask::DeleteGroup("g".into()), 2),
            ["list"] => self.ask(Ask::ListGroups(ListFilter::default()), 5),
            [who, verb, rest @ ..] => {
                let words = Words::new(rest);
                let ask = match *verb {
                    "join" | "beat" | "leave" | "away" => self.heartbeat(who, verb, &words),
                    "commit" => self.commit(who, &words),
                    "fetch" => self.fetch(who, &words),
                    "classic-join" => self.classic_join(who, &words),
                    "classic-sync" => self.classic_sync(who, &words),
                    "classic-beat" => Ask::Heartbeat(HeartbeatRequest {
                        group_id: "g".into(),
                        generation_id: words.number("generation").expect("generation=") as i32,
                        member_id: self.id(who).into(),
                        ..Default::default()
                    }),
                    "classic-leave" => Ask::LeaveGroup(LeaveGroupRequest {
                        group_id: "g".into(),
                        member_id: self.id(who).into(),
                        ..Default::default()
                    }),
                    _ => panic!("{line}: no such input"),
                };
                let usual = if *verb == "fetch" { 9 } else { 1 };
                self.ask_as(who, ask, words.number("version").unwrap_or(usual) as i16)
            }
            _ => panic!("{line}: no such input"),
        };
        for (_, answer) in &out.answers {
            if let Answer::JoinGroup(JoinGroupResponse { error_code: 0, member_id, .. }) = answer {
                self.ids.insert(short(member_id).to_owned(), member_id.to_string());
            }
        }
        for record in &out.records {
            writeln!(found, "  {}", self.show_record(record)).expect("to a string");
        }
        for (_, answer) in &out.answers {
            writeln!(found, "  = {}", self.show_answer(answer)).expect("to a string");
        }
    }

    fn heartbeat(&self, who: &str, verb: &str, words: &Words) -> Ask {
        let member_epoch = match verb {
            "join" => 0,
            "leave" => -1,
            "away" => -2,
            _ => words.number("epoch").expect("epoch=") as i32,
        };
        let owned = words.text("owns").map(|text| {
            let set = self.parse(text);
            set.lists().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect()
        });
        let joins = verb == "join";
        let names = words.text("topics").map(|text| text.split(',').map(Into::into).collect());
        Ask::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: if who == "_" { "".into() } else { who.into() },
            member_epoch,
            instance_id: words.text("instance").map(Into::into),
            rack_id: words.text("rack").map(Into::into),
            rebalance_timeout_ms: match words.number("rebalance") {
                Some(seconds) => seconds as i32 * 1000,
                None if joins => 60_000,
                None => -1,
            },
            subscribed_topic_regex: words.text("regex").map(Into::into),
            subscribed_topic_names: names,
            server_assignor: words.text("assignor").map(Into::into),
            topic_partitions: if joins { Some(owned.unwrap_or_default()) } else { owned },
        })
    }

    /// The id that a member of the classic protocol has, or none yet.
    fn id(&self, who: &str) -> &str {
        self.ids.get(who).map_or("", String::as_str)
    }

    fn classic_join(&self, who: &str, words: &Words) -> Ask {
        let lists = words.text("owns").unwrap_or_default().split(';').filter(|text| !text.is_empty());
        let owned = lists
            .map(|text| {
                let (topic, list) = text.split_once(':').expect("topic:partitions");
                let partitions = list.split(',').map(|number| number.parse().expect("a number")).collect();
                consumer_protocol::TopicPartitions { topic: topic.into(), partitions }
            })
            .collect();
        let topics = words.text("topics").expect("topics=").split(',').map(Text::from).collect();
        let subscription = ConsumerProtocolSubscription { topics, owned_partitions: owned, ..Default::default() };
        let protocol = JoinGroupRequestProtocol {
            name: words.text("protocol").unwrap_or("range").into(),
            metadata: subscription.write(PROTOCOL_VERSION),
        };
        Ask::JoinGroup(JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 60_000,
            member_id: self.id(who).into(),
            group_instance_id: words.text("instance").map(Into::into),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        })
    }

    /// `gives=a=orders:0,1/b=orders:2`
    fn classic_sync(&self, who: &str, words: &Words) -> Ask {
        let gives = words.text("gives").unwrap_or_default().split('/').filter(|text| !text.is_empty());
        let assignments = gives.map(|text| {
            let (member, set) = text.split_once('=').expect("member=partitions");
            SyncGroupRequestAssignment {
                member_id: self.id(member).into(),
                assignment: embedded::write_assignment(&self.parse(set), PROTOCOL_VERSION, &self.topics),
            }
        });
        Ask::SyncGroup(SyncGroupRequest {
            group_id: "g".into(),
            generation_id: words.number("generation").expect("generation=") as i32,
            member_id: self.id(who).into(),
            assignments: assignments.collect(),
            ..Default::default()
        })
    }

    fn commit(&self, who: &str, words: &Words) -> Ask {
        let (topic, offset) = words.text("offset").and_then(|text| text.split_once('@')).expect("offset=topic@5");
        let partition =
            OffsetCommitRequestPartition { committed_offset: offset.parse().expect("offset"), ..Default::default() };
        let topic = OffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
        Ask::OffsetCommit(OffsetCommitRequest {
            group_id: "g".into(),
            member_id: if who == "_" { "".into() } else { self.ids.get(who).map_or(who, String::as_str).into() },
            generation_id_or_member_epoch: words.number("epoch").unwrap_or(-1) as i32,
            topics: vec![topic],
            ..Default::default()
        })
    }

    fn fetch(&self, who: &str, words: &Words) -> Ask {
        let name = words.text("topic").expect("topic=").into();
        Ask::OffsetFetch(OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_id: (who != "_").then(|| who.into()),
            member_epoch: words.number("epoch").unwrap_or(-1) as i32,
            topics: Some(vec![OffsetFetchRequestTopics { name, partition_indexes: vec![0], ..Default::default() }]),
        })
    }

    /// `topic:0,1;other:2`
    fn parse(&self, text: &str) -> Assignment {
        let lists: Vec<(TopicId, Vec<i32>)> = text
            .split(';')
            .filter(|text| !text.is_empty())
            .map(|text| {
                let (name, list) = text.split_once(':').expect("topic:partitions");
                let id = self.topics.by_name(name).map_or(TopicId([0xee; 16]), |topic| topic.id);
                (id, list.split(',').map(|number| number.parse().expect("a number")).collect())
            })
            .collect();
        Assignment::from_lists(lists.iter().map(|(id, list)| (*id, list.as_slice())))
    }

    fn show_set(&self, set: &Assignment) -> String {
        let lists = set.lists().map(|(id, list)| self.show_list(self.topics.name_of(id).unwrap_or("?"), &list));
        let text = lists.collect::<Vec<_>>().join(";");
        if text.is_empty() { "nothing".into() } else { text }
    }

    fn show_list(&self, name: &str, list: &[i32]) -> String {
        format!("{name}:{}", list.iter().map(i32::to_string).collect::<Vec<_>>().join(","))
    }

    fn show_record(&self, record: &GroupRecord) -> String {
        let stored = records::read(&record.key, record.value.as_ref()).expect("our own record").expect("a known key");
        let sign = if record.value.is_some() { '+' } else { '-' };
        let text = match stored {
            StoredRecord::Offset { key, value } => {
                let offset = value.map(|value| format!(" {}", value.offset)).unwrap_or_default();
                format!("offset {}:{}{offset}", key.topic, key.partition)
            }
            StoredRecord::Group { value, .. } => {
                let group = value.map(|value| {
                    let members: Vec<&str> = value.members.iter().map(|member| short(&member.member_id)).collect();
                    format!(" generation={} members={}", value.generation, members.join(","))
                });
                format!("classic group{}", group.unwrap_or_default())
            }
            StoredRecord::Consumer { record, .. } => self.show_change(&record),
        };
        format!("{sign} {text}")
    }

    fn show_change(&self, record: &ConsumerRecord) -> String {
        match record {
            ConsumerRecord::Group(group) => {
                format!("group{}", group.map(|group| format!(" epoch={}", group.epoch)).unwrap_or_default())
            }
            ConsumerRecord::PartitionMetadata(_) => "partition metadata".into(),
            ConsumerRecord::Member(id, metadata) => {
                let mut text = format!("member {}", short(id));
                if let Some(metadata) = metadata {
                    let mut field = |name: &str, value: &str| {
                        if !value.is_empty() {
                            write!(text, " {name}={value}").expect("to a string");
                        }
                    };
                    let topics: Vec<&str> = metadata.topics.iter().map(String::as_str).collect();
                    field("topics", &topics.join(","));
                    field("regex", &metadata.pattern);
                    field("instance", metadata.instance_id.as_deref().unwrap_or_default());
                    field("rack", metadata.rack_id.as_deref().unwrap_or_default());
                    field("assignor", metadata.assignor.as_deref().unwrap_or_default());
                    field("rebalance", &(metadata.rebalance_timeout_ms / 1000).to_string());
                }
                text
            }
            ConsumerRecord::TargetEpoch(epoch) => {
                format!("target{}", epoch.map(|epoch| format!(" epoch={epoch}")).unwrap_or_default())
            }
            ConsumerRecord::Target(id, target) => {
                let target = target.as_ref().map(|target| format!(" {}", self.show_set(target)));
                format!("target of {}{}", short(id), target.unwrap_or_default())
            }
            ConsumerRecord::Current(id, current) => {
                let mut text = format!("current {}", short(id));
                if let Some(current) = current {
                    let state = match current.state {
                        MemberState::Stable => "stable",
                        MemberState::UnrevokedPartitions => "unrevoked",
                        MemberState::UnreleasedPartitions => "unreleased",
                        MemberState::Unknown => "unknown",
                    };
                    let set = self.show_set(&current.assigned);
                    write!(text, " epoch={} was={} {state} {set}", current.epoch, current.previous_epoch)
                        .expect("to a string");
                    if !current.revoking.is_empty() {
                        write!(text, " revoking {}", self.show_set(&current.revoking)).expect("to a string");
                    }
                }
                text
            }
            ConsumerRecord::Pattern(text, resolved) => {
                let topics = resolved.as_ref().map(|resolved| resolved.topics.iter().cloned().collect::<Vec<_>>());
                let topics = topics.map(|topics| format!(" {}", topics.join(","))).unwrap_or_default();
                format!("pattern {text}{topics}")
            }
        }
    }

    fn show_described(&self, group: &DescribedGroup) -> String {
        let mut text = format!(
            "{} epoch={} target={} {}",
            group.group_state, group.group_epoch, group.assignment_epoch, group.assignor_name
        );
        for member in &group.members {
            let show = |lists: &[consumer_group_describe::TopicPartitions]| {
                let lists: Vec<String> =
                    lists.iter().map(|list| self.show_list(&list.topic_name, &list.partitions)).collect();
                if lists.is_empty() { "nothing".to_owned() } else { lists.join(";") }
            };
            let kind = if member.member_type == 0 { "classic" } else { "consumer" };
            let (has, target) = (&member.assignment.topic_partitions, &member.target_assignment.topic_partitions);
            write!(text, "\n    {} {kind} epoch={} has {}", short(&member.member_id), member.member_epoch, show(has))
                .expect("to a string");
            write!(text, " of {}", show(target)).expect("to a string");
        }
        text
    }

    fn show_answer(&self, answer: &Answer) -> String {
        match answer {
            Answer::ConsumerGroupHeartbeat(answer) if answer.error_code == 0 => {
                let assignment = answer.assignment.as_ref().map(|assignment| {
                    let lists = &assignment.topic_partitions;
                    self.show_set(&Assignment::from_lists(
                        lists.iter().map(|list| (list.topic_id, list.partitions.as_slice())),
                    ))
                });
                let member = answer.member_id.as_deref().unwrap_or_default();
                let assignment = assignment.map(|text| format!(" has {text}")).unwrap_or_default();
                format!("{member} epoch={}{assignment}", answer.member_epoch)
            }
            Answer::ConsumerGroupHeartbeat(answer) => {
                let message = answer.error_message.as_deref().map(|message| format!(": {message}"));
                format!("{}{}", error(answer.error_code), message.unwrap_or_default())
            }
            Answer::JoinGroup(answer) if answer.error_code == 0 => {
                let member = short(&answer.member_id);
                let leads = if answer.leader == answer.member_id { " leads" } else { "" };
                format!("{member} generation={}{leads}", answer.generation_id)
            }
            Answer::JoinGroup(answer) => error(answer.error_code),
            Answer::SyncGroup(answer) if answer.error_code == 0 => {
                let assignment = ConsumerProtocolAssignment::read(&answer.assignment).expect("an assignment");
                format!("has {}", self.show_set(&embedded::to_set(&assignment.assigned_partitions, &self.topics)))
            }
            Answer::SyncGroup(answer) => error(answer.error_code),
            Answer::Heartbeat(answer) => error(answer.error_code),
            Answer::LeaveGroup(answer) => error(answer.error_code),
            Answer::OffsetCommit(answer) => error(answer.topics[0].partitions[0].error_code),
            Answer::OffsetFetch(answer) if answer.error_code == 0 => {
                format!("offset {}", answer.topics[0].partitions[0].committed_offset)
            }
            Answer::OffsetFetch(answer) => error(answer.error_code),
            Answer::DescribeConsumerGroup(group) if group.error_code == 0 => self.show_described(group),
            Answer::DescribeConsumerGroup(group) => {
                format!("{}: {}", error(group.error_code), group.error_message.as_deref().unwrap_or_default())
            }
            Answer::DescribeGroup(group) => {
                let message = group.error_message.as_deref().map(|message| format!(": {message}"));
                format!("{} {}{}", group.group_state, error(group.error_code), message.unwrap_or_default())
            }
            Answer::DeleteGroup(code) => code.to_string(),
            Answer::ListGroups(Ok(groups)) => {
                let groups: Vec<String> = groups
                    .iter()
                    .map(|group| {
                        format!("{} {} {} {}", group.group_id, group.protocol_type, group.group_type, group.group_state)
                    })
                    .collect();
                groups.join("; ")
            }
            other => format!("{other:?}"),
        }
    }
}

/// `name=value` words.
struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Words<'a> {
    fn new(words: &[&'a str]) -> Words<'a> {
        Words(words.iter().map(|word| word.split_once('=').expect("name=value")).collect())
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied()
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.text(name).map(|text| text.parse().expect("a number"))
    }
}

/// An id without the random part that the coordinator gave it.
fn short(id: &str) -> &str {
    const RANDOM_BYTES: usize = 37;
    let cut = id.len().saturating_sub(RANDOM_BYTES);
    if cut > 0 && id.as_bytes()[cut] == b'-' { &id[..cut] } else { id }
}

fn error(code: i16) -> String {
    ErrorCode::from_code(code).expect("a known code").to_string()
}
