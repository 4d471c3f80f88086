//! Transcripts: what a coordinator is told, and below each line what it writes and answers.
//!
//! A line that begins with `>` is an input, with its words in any order after the first; the rest is what must come of
//! it. Members are called by their client and a number in the order of their coming: `ada#1`.

mod classic;
mod offsets;

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;

use super::ask::{Answer, Ask, ListFilter};
use super::coordinator::{Context, Coordinator, GroupOut};
use super::records::{self, GroupRecord, StoredRecord};
use super::testing::Rig;
use super::topics::{KnownTopic, Topics};
use crate::base::ids::TopicId;
use crate::config::Settings;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::heartbeat::HeartbeatRequest;
use crate::wire::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::wire::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::wire::messages::offset_fetch::OffsetFetchRequestGroup;
use crate::wire::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::wire::text::Text;

const GROUP: &str = "g";

/// Plays a transcript with the default settings.
fn check(transcript: &str) {
    check_with(Settings::default(), transcript);
}

fn check_with(settings: Settings, transcript: &str) {
    let mut stage = Stage::new(settings);
    let mut played = String::new();
    for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(input) = line.strip_prefix("> ") {
            let _ = writeln!(played, "> {input}");
            played.push_str(&stage.play(input));
        }
    }
    let expect: String =
        transcript.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
    assert!(played == expect, "the transcript goes otherwise:\n{played}");
}

/// Every topic that is named, but those that were lost.
#[derive(Default)]
struct EveryTopic {
    lost: Vec<String>,
}

impl Topics for EveryTopic {
    fn version(&self) -> u64 {
        0
    }

    fn by_name(&self, name: &str) -> Option<KnownTopic> {
        let known = KnownTopic { id: TopicId::ZERO, partitions: 1 };
        (!self.lost.iter().any(|lost| lost == name)).then_some(known)
    }

    fn name_of(&self, _: TopicId) -> Option<&str> {
        None
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(std::iter::empty())
    }
}

struct Stage {
    rig: Rig,
    topics: EveryTopic,
    /// What was asked, by ticket.
    asked: Vec<String>,
    /// Names in the transcript of members' ids, and the other way round.
    ids: BTreeMap<String, String>,
}

/// The words of an input after the first, each with the one that follows it.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn after(&self, word: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|known| *known == word)?;
        self.0.get(at + 1).copied()
    }

    fn number<N: std::str::FromStr>(&self, word: &str, default: N) -> N {
        self.after(word).map_or(default, |text| text.parse().ok().expect("a number"))
    }
}

impl Stage {
    fn new(settings: Settings) -> Stage {
        Stage { rig: Rig::new(settings), topics: EveryTopic::default(), asked: Vec::new(), ids: BTreeMap::new() }
    }

    fn play(&mut self, input: &str) -> String {
        let words: Vec<&str> = input.split_whitespace().collect();
        let (verb, words) = (words[0], Words(words[1..].to_vec()));
        match verb {
            "wait" => {
                let came = self.rig.wait(&self.topics, words.0[0].parse().expect("milliseconds"));
                return came.into_iter().map(|out| self.tell(out)).collect();
            }
            "load" => return self.load(),
            // Without telling anybody.
            "drop" => {
                self.topics.lost.push(words.0[0].to_owned());
                return String::new();
            }
            "lose" => {
                let name = words.0[0].to_owned();
                let lose = |coordinator: &mut Coordinator, context: &mut Context<'_>| {
                    coordinator.on_topics_deleted(&[name], context.out);
                };
                let out = self.rig.call(&self.topics, lose);
                return self.tell(out);
            }
            _ => {}
        }
        let client = words.0.first().copied().unwrap_or_default();
        let (version, ask) = self.ask(verb, client, &words);
        let at = self.asked.len() as u32;
        self.asked.push(format!("{verb} {client}").trim_end().to_owned());
        let out = self.rig.ask(&self.topics, at, client, version, ask);
        self.tell(out)
    }

    fn ask(&self, verb: &str, client: &str, words: &Words<'_>) -> (i16, Ask) {
        let group_id = Text::from(GROUP);
        let member_id = self.id(words.after("as").unwrap_or_default());
        let group_instance_id = words.after("static").map(Text::from);
        let generation_id = words.number("generation", -1);
        let version = |latest: i16| words.number("version", latest);
        match verb {
            "join" => (version(9), Ask::JoinGroup(self.join(words, member_id))),
            "sync" => (
                version(5),
                Ask::SyncGroup(SyncGroupRequest {
                    group_id,
                    generation_id,
                    member_id,
                    group_instance_id,
                    protocol_type: Some(words.after("type").unwrap_or("consumer").into()),
                    protocol_name: Some(words.after("protocol").unwrap_or("range").into()),
                    assignments: self.assignments(words),
                }),
            ),
            "beat" => {
                let beat = HeartbeatRequest { group_id, generation_id, member_id, group_instance_id };
                (version(4), Ask::Heartbeat(beat))
            }
            "leave" => {
                let member = MemberIdentity { member_id: member_id.clone(), group_instance_id, reason: None };
                (version(5), Ask::LeaveGroup(LeaveGroupRequest { group_id, member_id, members: vec![member] }))
            }
            "commit" => {
                let (topic, partition) = topic_partition(words.after("at").expect("at topic/partition"));
                let partition = OffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: words.number("offset", 0),
                    committed_leader_epoch: 3,
                    committed_metadata: words.after("note").map(Text::from),
                };
                let topic = OffsetCommitRequestTopic { name: topic, partitions: vec![partition], ..Default::default() };
                let commit = OffsetCommitRequest {
                    group_id,
                    generation_id_or_member_epoch: generation_id,
                    member_id,
                    group_instance_id,
                    retention_time_ms: words.number("retention", -1),
                    topics: vec![topic],
                };
                (version(8), Ask::OffsetCommit(commit))
            }
            "fetch" => {
                let all = OffsetFetchRequestGroup { group_id, topics: None, ..Default::default() };
                (version(9), Ask::OffsetFetch(all))
            }
            "forget" => {
                let (name, partition_index) = topic_partition(client);
                let partitions = vec![OffsetDeleteRequestPartition { partition_index }];
                let topics = vec![OffsetDeleteRequestTopic { name, partitions }];
                (0, Ask::OffsetDelete(OffsetDeleteRequest { group_id, topics }))
            }
            "describe" => (version(6), Ask::DescribeGroup(group_id)),
            "delete" => (2, Ask::DeleteGroup(group_id)),
            "list" => (5, Ask::ListGroups(ListFilter::default())),
            other => panic!("no input is called {other}"),
        }
    }

    fn join(&self, words: &Words<'_>, member_id: Text) -> JoinGroupRequest {
        // name=metadata, separated by commas.
        let protocols = words.after("protocols").unwrap_or("range=").split(',').map(|protocol| {
            let (name, metadata) = protocol.split_once('=').expect("name=metadata");
            JoinGroupRequestProtocol { name: name.into(), metadata: metadata_of(metadata) }
        });
        JoinGroupRequest {
            group_id: GROUP.into(),
            session_timeout_ms: words.number("session", 10_000),
            rebalance_timeout_ms: words.number("rebalance", 60_000),
            member_id,
            group_instance_id: words.after("static").map(Text::from),
            protocol_type: words.after("type").unwrap_or("consumer").into(),
            protocols: protocols.collect(),
            reason: None,
        }
    }

    /// After `assigns`: member=assignment, separated by commas.
    fn assignments(&self, words: &Words<'_>) -> Vec<SyncGroupRequestAssignment> {
        let rows = words.after("assigns").into_iter().flat_map(|rows| rows.split(','));
        let rows = rows.map(|row| {
            let (member, assignment) = row.split_once('=').expect("member=assignment");
            let assignment = match assignment.strip_prefix("bytes:") {
                Some(count) => vec![b'x'; count.parse().expect("a number")].into(),
                None => Bytes::copy_from_slice(assignment.as_bytes()),
            };
            SyncGroupRequestAssignment { member_id: self.id(member), assignment }
        });
        rows.collect()
    }

    /// Another coordinator takes over, and what this one still owed is refused.
    fn load(&mut self) -> String {
        let unload = |coordinator: &mut Coordinator, context: &mut Context<'_>| {
            coordinator.unload(ErrorCode::NotCoordinator, context.out);
        };
        let refused = self.rig.call(&self.topics, unload);
        let loaded = self.rig.reload(&self.topics);
        self.tell(refused) + &self.tell(loaded)
    }

    fn tell(&mut self, out: GroupOut) -> String {
        let mut said = String::new();
        for (_, answer) in &out.answers {
            if let Answer::JoinGroup(JoinGroupResponse { member_id, .. }) = answer {
                self.learn(member_id);
            }
        }
        for record in &out.records {
            let _ = writeln!(said, "{}", self.record(record).trim_end());
        }
        for (ticket, answer) in &out.answers {
            let told = format!("{}: {}", self.asked[ticket.at as usize], self.answer(answer));
            let _ = writeln!(said, "{}", told.trim_end());
        }
        said
    }

    fn learn(&mut self, id: &Text) {
        if id.is_empty() || self.ids.contains_key(id.as_str()) {
            return;
        }
        let client = id.as_str().rsplitn(6, '-').last().unwrap_or_default();
        let name = format!("{client}#{}", self.ids.len() / 2 + 1);
        self.ids.insert(id.to_string(), name.clone());
        self.ids.insert(name, id.to_string());
    }

    /// The id of a name of the transcript; what is none stands for itself.
    fn id(&self, name: &str) -> Text {
        self.ids.get(name).map_or(name, String::as_str).into()
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.ids.get(id).map_or(id, String::as_str)
    }

    fn record(&self, record: &GroupRecord) -> String {
        match records::read(&record.key, record.value.as_ref()).expect("we wrote it").expect("we know it") {
            StoredRecord::Offset { key, value: None } => format!("record: offset {}/{} gone", key.topic, key.partition),
            StoredRecord::Offset { key, value: Some(value) } => {
                let expires = if value.expire_timestamp < 0 { "" } else { ", expires" };
                format!(
                    "record: offset {}/{} is {} `{}`{expires}",
                    key.topic, key.partition, value.offset, value.metadata
                )
            }
            StoredRecord::Consumer { .. } => panic!("nobody here speaks the consumer protocol"),
            StoredRecord::Group { value: None, .. } => "record: group gone".into(),
            StoredRecord::Group { value: Some(value), .. } => {
                let members: Vec<String> = value
                    .members
                    .iter()
                    .map(|member| format!(" {}={}", self.name(&member.member_id), text(&member.assignment)))
                    .collect();
                let leader = value.leader.as_deref().map_or("nobody", |leader| self.name(leader));
                let protocol = value.protocol.as_deref().unwrap_or("nothing");
                format!("record: generation {} of {protocol}, leader {leader}:{}", value.generation, members.concat())
            }
        }
    }

    fn answer(&self, answer: &Answer) -> String {
        let error = |code: i16| ErrorCode::from_code(code).expect("Kafka's").to_string();
        match answer {
            Answer::JoinGroup(answer) if answer.error_code != 0 => {
                format!("{} {}", error(answer.error_code), self.name(&answer.member_id)).trim_end().to_owned()
            }
            Answer::JoinGroup(answer) => {
                let members = answer.members.iter();
                let members: Vec<String> = members.map(|member| format!(" {}", self.name(&member.member_id))).collect();
                let skip = if answer.skip_assignment { ", nothing to assign" } else { "" };
                let (protocol, leader) =
                    (answer.protocol_name.as_deref().unwrap_or("nothing"), self.name(&answer.leader));
                let member = self.name(&answer.member_id);
                let generation = answer.generation_id;
                format!("{member} in generation {generation} of {protocol}, leader {leader}:{}{skip}", members.concat())
            }
            Answer::SyncGroup(answer) if answer.error_code != 0 => error(answer.error_code),
            Answer::SyncGroup(answer) => format!("has {}", text(&answer.assignment)),
            Answer::Heartbeat(answer) => error(answer.error_code),
            Answer::LeaveGroup(answer) => {
                let rows = answer.members.iter().map(|row| format!(" {}", error(row.error_code)));
                format!("{}{}", error(answer.error_code), rows.collect::<String>())
            }
            Answer::OffsetCommit(answer) => error(answer.topics[0].partitions[0].error_code),
            Answer::OffsetFetch(answer) => {
                let rows = answer.topics.iter().flat_map(|topic| {
                    topic.partitions.iter().map(move |row| {
                        let note = row.metadata.as_deref().unwrap_or_default();
                        format!(" {}/{} is {} `{note}`", topic.name, row.partition_index, row.committed_offset)
                    })
                });
                format!("{}{}", error(answer.error_code), rows.collect::<String>())
            }
            Answer::OffsetDelete(answer) if answer.error_code != 0 => error(answer.error_code),
            Answer::OffsetDelete(answer) => error(answer.topics[0].partitions[0].error_code),
            Answer::DescribeGroup(group) => {
                let members = group.members.iter().map(|member| {
                    let (metadata, assignment) = (text(&member.member_metadata), text(&member.member_assignment));
                    format!(" {}({metadata}={assignment})", self.name(&member.member_id))
                });
                let (state, protocol) = (&group.group_state, &group.protocol_data);
                format!("{} {state} `{protocol}`:{}", error(group.error_code), members.collect::<String>())
            }
            Answer::ConsumerGroupHeartbeat(_) | Answer::DescribeConsumerGroup(_) => {
                panic!("nobody here speaks the consumer protocol")
            }
            Answer::DeleteGroup(code) => code.to_string(),
            Answer::ListGroups(groups) => {
                let rows = groups
                    .iter()
                    .flatten()
                    .map(|group| format!("{} {} `{}`", group.group_id, group.group_state, group.protocol_type));
                rows.collect::<Vec<_>>().join(", ")
            }
        }
    }
}

fn topic_partition(text: &str) -> (Text, i32) {
    let (topic, partition) = text.split_once('/').expect("topic/partition");
    (topic.into(), partition.parse().expect("a number"))
}

/// `[t+u]` is a consumer's subscription to two topics; anything else stands for itself.
fn metadata_of(text: &str) -> Bytes {
    let Some(topics) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        return Bytes::copy_from_slice(text.as_bytes());
    };
    let topics: Vec<&str> = topics.split('+').collect();
    let mut bytes = vec![0, 1];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    // User data, and what later versions have.
    bytes.extend([0xff; 4]);
    bytes.into()
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
