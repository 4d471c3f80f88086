//! A member of a consumer group: finds its place in the group, keeps it, commits, and leaves.
//!
//! *Owns*: what the member knows of its group, and what is in flight to the coordinator. *Never*: opens a connection,
//! looks for the coordinator itself, reads a record. *Runs on*: one generator thread, that of its consumer.
//!
//! A driver asks for the coordinator when [`Member::poll_coordinator`] wishes so, keeps a connection to it, sends what
//! [`Member::poll_request`] gives and hands back every reply. The member assigns partitions to its [`Consumer`] and
//! takes them away again; what it takes away is committed first, so that whoever has it next reads on from there.
//!
//! Both protocols: `classic` (Kafka's eager consumer with the range assignor), and `consumer` (KIP-848).

mod classic;
mod epochs;
mod offsets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::bench::complaints::Complaints;
use crate::bench::consumer::{Consumer, highest_common};
use crate::bench::topics::Topics;
use crate::bench::workload::GroupProtocol;
use crate::wire::codec::{Api, Message};
use crate::wire::errors::ErrorCode;
use crate::wire::frame::{RequestHeader, decode_reply, encode_request};
use crate::wire::messages::api_versions::ApiVersionsResponse;
use crate::wire::messages::{
    consumer_group_heartbeat, heartbeat, join_group, leave_group, offset_commit, offset_fetch, sync_group,
};
use crate::wire::text::Text;

/// How long to wait after a failure before trying again (Kafka: `retry.backoff.ms`).
const BACKOFF_NS: u64 = 100_000_000;

/// Kafka's defaults of `session.timeout.ms` and `heartbeat.interval.ms`.
const SESSION_TIMEOUT_MS: i32 = 45_000;
const HEARTBEAT_INTERVAL_NS: u64 = 3_000_000_000;

/// How long others are waited for in a rebalance.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;

/// The last version of OffsetCommit and OffsetFetch that names topics instead of giving their ids.
const NAMES_TO: i16 = 9;

const JOIN: i16 = join_group::API.key;
const SYNC: i16 = sync_group::API.key;
const HEARTBEAT: i16 = heartbeat::API.key;
const LEAVE: i16 = leave_group::API.key;
const CONSUMER_HEARTBEAT: i16 = consumer_group_heartbeat::API.key;
const COMMIT: i16 = offset_commit::API.key;

const CLIENT_ID: Text = Text::from_static("corelog-bench");

const CLASSIC_APIS: &[Api] =
    &[join_group::API, sync_group::API, heartbeat::API, leave_group::API, offset_commit::API, offset_fetch::API];

const CONSUMER_APIS: &[Api] = &[consumer_group_heartbeat::API, offset_commit::API, offset_fetch::API];

/// What the APIs of a group are, for whoever checks that a broker has them.
pub fn apis(protocol: GroupProtocol) -> &'static [Api] {
    match protocol {
        GroupProtocol::Classic => CLASSIC_APIS,
        GroupProtocol::Consumer => CONSUMER_APIS,
    }
}

/// How many partitions each of so many members has once all have joined: the least and the most.
pub fn share(protocol: GroupProtocol, topics: &Topics, members: usize) -> (usize, usize) {
    let (count, partitions) = (topics.names().len(), topics.partitions() as usize);
    match protocol {
        // Each topic is dealt out by itself, and the first members have more of each.
        GroupProtocol::Classic => (count * (partitions / members), count * partitions.div_ceil(members)),
        GroupProtocol::Consumer => (count * partitions / members, (count * partitions).div_ceil(members)),
    }
}

/// What the members of a group have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberSettings {
    pub group: Text,
    pub protocol: GroupProtocol,
    pub topics: Topics,
    /// Where each partition's log stood before the run, by its index over all topics: a partition of which nothing is committed is read from there.
    pub starts: Arc<[i64]>,
    /// 0: nothing is ever committed.
    pub commit_interval_ns: u64,
    /// Which of the run's groups it is.
    pub number: u32,
    /// See [`share`].
    pub share: (usize, usize),
}

/// What happened since the member was last asked.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct News {
    /// From the first connection to the coordinator until it had its share of the partitions.
    pub joined_ns: Option<u64>,
    /// What each commit took.
    pub commits_ns: Vec<u64>,
    pub commits_refused: u64,
    /// How often its partitions were taken from it or changed after it had its share.
    pub rebalances: u64,
}

/// How far it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// Is to join, or to join again.
    Outside,
    /// Has joined a generation, and is to learn its partitions. The leader brings those of all members.
    Syncing(Vec<(Text, Bytes)>),
    Inside,
    Leaving,
    Left,
}

/// A request in flight, and what its reply is read with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    api: Api,
    version: i16,
    correlation_id: i32,
    sent_ns: u64,
}

pub struct Member {
    settings: Arc<MemberSettings>,
    coordinator: Option<i32>,
    /// From when on the coordinator is to be asked for.
    seek_from_ns: Option<u64>,
    /// Of each API, by its key. Empty without a connection.
    versions: BTreeMap<i16, i16>,
    in_flight: Option<Asked>,
    /// Not to be asked before.
    retry_at_ns: u64,
    next_correlation_id: i32,
    stage: Stage,
    id: Text,
    /// The generation of the classic protocol, the member's epoch of the other one.
    generation: i32,
    /// Partitions that it has and whose committed offsets are to be fetched.
    unplaced: BTreeSet<u32>,
    /// Positions of partitions that it gave up, to be committed before anything else.
    handed_over: Vec<(u32, i64)>,
    /// Of the consumer protocol: what it is to have, and what it last said that it has. `None`: everything is to be
    /// said again.
    target: BTreeSet<u32>,
    said: Option<BTreeSet<u32>>,
    heartbeat_interval_ns: u64,
    next_heartbeat_ns: u64,
    next_commit_ns: u64,
    first_connected_ns: Option<u64>,
    has_joined: bool,
    news: News,
    complaints: Complaints,
    failed: Option<String>,
}

impl Member {
    /// `id` is what it calls itself in the consumer protocol; in the classic one the coordinator names it.
    pub fn new(settings: Arc<MemberSettings>, id: Text) -> Member {
        let id = if settings.protocol == GroupProtocol::Classic { Text::default() } else { id };
        Member {
            settings,
            coordinator: None,
            seek_from_ns: Some(0),
            versions: BTreeMap::new(),
            in_flight: None,
            retry_at_ns: 0,
            next_correlation_id: 0,
            stage: Stage::Outside,
            id,
            generation: -1,
            unplaced: BTreeSet::new(),
            handed_over: Vec::new(),
            target: BTreeSet::new(),
            said: None,
            heartbeat_interval_ns: HEARTBEAT_INTERVAL_NS,
            next_heartbeat_ns: 0,
            next_commit_ns: u64::MAX,
            first_connected_ns: None,
            has_joined: false,
            news: News::default(),
            complaints: Complaints::default(),
            failed: None,
        }
    }

    pub fn settings(&self) -> &MemberSettings {
        &self.settings
    }

    /// The broker that coordinates its group, as far as it knows.
    pub fn coordinator(&self) -> Option<i32> {
        self.coordinator
    }

    /// Whether the coordinator is to be asked for now. The wish is gone with that, until
    /// [`Member::on_coordinator_failed`].
    pub fn poll_coordinator(&mut self, now_ns: u64) -> bool {
        self.seek_from_ns.take_if(|from_ns| *from_ns <= now_ns).is_some()
    }

    pub fn on_coordinator(&mut self, broker: i32) {
        self.coordinator = Some(broker);
    }

    pub fn on_coordinator_failed(&mut self, now_ns: u64) {
        self.coordinator = None;
        self.seek_from_ns = Some(now_ns + BACKOFF_NS);
    }

    /// A connection to the coordinator is there, and has said which versions it speaks.
    pub fn on_connected(&mut self, versions: &ApiVersionsResponse, now_ns: u64) -> Result<(), String> {
        self.versions.clear();
        for api in apis(self.settings.protocol) {
            let version = highest_common(*api, versions).ok_or_else(|| {
                format!("has no version of {} from {} to {}", api.name, api.versions.first, api.versions.last)
            })?;
            let by_name = [offset_commit::API.key, offset_fetch::API.key].contains(&api.key);
            self.versions.insert(api.key, if by_name { version.min(NAMES_TO) } else { version });
        }
        self.first_connected_ns.get_or_insert(now_ns);
        Ok(())
    }

    /// The connection is gone, with what was in flight on it. The group may have moved.
    pub fn on_closed(&mut self, now_ns: u64) {
        if let Some(asked) = self.in_flight.take()
            && matches!(self.stage, Stage::Syncing(_))
            && asked.api == sync_group::API
        {
            self.stage = Stage::Outside;
        }
        self.lose_coordinator(now_ns);
    }

    /// The next request to the coordinator as a frame, if one is due and none is in flight.
    pub fn poll_request(&mut self, consumer: &Consumer, now_ns: u64) -> Option<Vec<Bytes>> {
        let is_ready = !self.versions.is_empty() && self.in_flight.is_none() && self.failed.is_none();
        if !is_ready || self.retry_at_ns > now_ns || self.stage == Stage::Left {
            return None;
        }
        if !self.handed_over.is_empty() {
            let rows = self.handed_over.clone();
            return Some(self.ask_commit(&rows, now_ns));
        }
        match &self.stage {
            Stage::Left => None,
            Stage::Leaving => Some(self.ask_to_leave(now_ns)),
            Stage::Outside if self.settings.protocol == GroupProtocol::Classic => Some(self.ask_to_join(now_ns)),
            Stage::Outside => Some(self.ask_heartbeat(consumer, now_ns)),
            Stage::Syncing(_) => Some(self.ask_to_sync(now_ns)),
            Stage::Inside if self.is_heartbeat_due(consumer, now_ns) => Some(self.ask_heartbeat(consumer, now_ns)),
            Stage::Inside if !self.unplaced.is_empty() => Some(self.ask_committed(now_ns)),
            Stage::Inside if self.next_commit_ns <= now_ns => {
                self.next_commit_ns = now_ns + self.settings.commit_interval_ns;
                let rows: Vec<_> = consumer.positions().collect();
                (!rows.is_empty()).then(|| self.ask_commit(&rows, now_ns))
            }
            Stage::Inside => None,
        }
    }

    /// When to poll again even if nothing comes until then.
    pub fn next_wake_ns(&self) -> Option<u64> {
        if self.versions.is_empty() {
            return self.seek_from_ns;
        }
        if self.in_flight.is_some() || self.stage == Stage::Left || self.failed.is_some() {
            return None;
        }
        let is_idle = self.stage == Stage::Inside && self.unplaced.is_empty() && self.handed_over.is_empty();
        let due_ns = if is_idle { self.next_heartbeat_ns.min(self.next_commit_ns) } else { 0 };
        Some(due_ns.max(self.retry_at_ns))
    }

    /// Takes a reply, without its length. An error says that it is no answer to what was asked: the connection is of
    /// no more use.
    pub fn on_reply(&mut self, frame: Bytes, consumer: &mut Consumer, now_ns: u64) -> Result<(), String> {
        let asked = self.in_flight.take().ok_or("a reply to nothing")?;
        self.retry_at_ns = 0;
        match asked.api.key {
            JOIN => self.on_join(read(asked, frame)?, consumer, now_ns),
            SYNC => self.on_sync(read(asked, frame)?, consumer, now_ns),
            HEARTBEAT => self.on_heartbeat(&read(asked, frame)?, consumer, now_ns),
            LEAVE => {
                let _: leave_group::LeaveGroupResponse = read(asked, frame)?;
                self.stage = Stage::Left;
            }
            CONSUMER_HEARTBEAT => self.on_consumer_heartbeat(read(asked, frame)?, consumer, now_ns),
            COMMIT => self.on_commit(&read(asked, frame)?, asked.sent_ns, consumer, now_ns),
            _ => self.on_committed(read(asked, frame)?, consumer, now_ns),
        }
        if !self.has_joined && self.is_settled(consumer) {
            self.has_joined = true;
            self.news.joined_ns = self.first_connected_ns.map(|from_ns| now_ns.saturating_sub(from_ns));
        }
        Ok(())
    }

    /// Commits what its consumer has read, and leaves the group. The consumer keeps its partitions.
    pub fn leave(&mut self, consumer: &Consumer) {
        if matches!(self.stage, Stage::Leaving | Stage::Left) {
            return;
        }
        if self.stage == Stage::Inside && self.settings.commit_interval_ns > 0 {
            self.handed_over.extend(consumer.positions());
        }
        // Nobody knows a member that never joined.
        let is_known = self.generation >= 0 && !self.id.is_empty();
        self.stage = if is_known { Stage::Leaving } else { Stage::Left };
    }

    pub fn has_left(&self) -> bool {
        self.stage == Stage::Left
    }

    /// Whether it has its place in the group, and its consumer the partitions that come with it.
    pub fn is_stable(&self) -> bool {
        self.stage == Stage::Inside && self.unplaced.is_empty() && self.handed_over.is_empty() && self.is_reconciled()
    }

    /// Whether that is what it has when all members have joined.
    pub fn is_settled(&self, consumer: &Consumer) -> bool {
        let (least, most) = self.settings.share;
        self.is_stable() && (least..=most).contains(&consumer.positions().count())
    }

    /// How long the reply in flight may take beyond the time for any reply: until all others have joined.
    pub fn patience_ns(&self) -> u64 {
        match self.in_flight {
            Some(asked) if asked.api == join_group::API || asked.api == sync_group::API => {
                REBALANCE_TIMEOUT_MS as u64 * 1_000_000
            }
            _ => 0,
        }
    }

    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    pub fn complaints(&self) -> &Complaints {
        &self.complaints
    }

    /// Why it can never be a member.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    fn ask<M: Message>(&mut self, api: Api, version: i16, request: &M, now_ns: u64) -> Vec<Bytes> {
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1);
        let correlation_id = self.next_correlation_id;
        self.in_flight = Some(Asked { api, version, correlation_id, sent_ns: now_ns });
        encode_request(
            &RequestHeader { api_key: api.key, version, correlation_id, client_id: Some(CLIENT_ID) },
            request,
        )
    }

    fn version(&self, api: Api) -> i16 {
        self.versions.get(&api.key).copied().expect("only a connected coordinator is asked")
    }

    fn lose_coordinator(&mut self, now_ns: u64) {
        self.coordinator = None;
        self.versions.clear();
        self.said = None;
        self.retry_at_ns = 0;
        self.seek_from_ns = Some(now_ns + BACKOFF_NS);
    }

    /// The group no longer knows it as it was: others may have its partitions already.
    fn on_fenced(&mut self, consumer: &mut Consumer) {
        self.note_rebalance();
        self.handed_over.clear();
        self.unplaced.clear();
        self.target.clear();
        self.said = None;
        self.generation = -1;
        let all: Vec<u32> = consumer.positions().map(|row| row.0).collect();
        consumer.revoke(all);
        if self.stage != Stage::Left {
            self.stage = if self.stage == Stage::Leaving { Stage::Left } else { Stage::Outside };
        }
    }

    /// Gives partitions up, after their positions have been noted for a commit.
    fn give_up(&mut self, indexes: &BTreeSet<u32>, consumer: &mut Consumer) {
        if self.settings.commit_interval_ns > 0 {
            self.handed_over.extend(consumer.positions().filter(|row| indexes.contains(&row.0)));
        }
        consumer.revoke(indexes.iter().copied());
        self.unplaced.retain(|index| !indexes.contains(index));
    }

    fn note_rebalance(&mut self) {
        self.news.rebalances += u64::from(self.has_joined && self.stage == Stage::Inside);
    }

    /// What every API may be refused with. What is not for a rebalance or a moved coordinator ends the membership.
    fn on_refused(&mut self, api: Api, code: i16, consumer: &mut Consumer, now_ns: u64) {
        let text = match ErrorCode::from_code(code) {
            Some(known) => format!("{known} ({code}). {}", known.message()),
            None => format!("error {code}"),
        };
        let text = format!("{} of group {}: {text}", api.name, self.settings.group.as_str());
        let is_usual = ErrorCode::from_code(code) == Some(ErrorCode::RebalanceInProgress);
        if self.stage != Stage::Leaving && !is_usual {
            self.complaints.add(text.clone(), 1);
        }
        match ErrorCode::from_code(code) {
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => self.lose_coordinator(now_ns),
            Some(ErrorCode::UnknownMemberId) => {
                if self.settings.protocol == GroupProtocol::Classic {
                    self.id = Text::default();
                }
                self.on_fenced(consumer);
            }
            Some(ErrorCode::IllegalGeneration | ErrorCode::FencedMemberEpoch) => self.on_fenced(consumer),
            Some(ErrorCode::StaleMemberEpoch | ErrorCode::RebalanceInProgress) => {
                self.next_heartbeat_ns = now_ns;
                self.retry_at_ns = now_ns + BACKOFF_NS;
            }
            Some(known) if known.retriable() => self.retry_at_ns = now_ns + BACKOFF_NS,
            _ if self.stage == Stage::Leaving => self.stage = Stage::Left,
            _ => self.failed = Some(text),
        }
    }
}

fn read<M: Message>(asked: Asked, frame: Bytes) -> Result<M, String> {
    let (found, reply) = decode_reply(asked.api.key, asked.version, frame)
        .map_err(|why| format!("its {} reply: {why}", asked.api.name))?;
    match asked.correlation_id {
        expect if found == expect => Ok(reply),
        expect => Err(format!("a reply to request {found} when {expect} was in flight")),
    }
}
